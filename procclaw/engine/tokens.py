"""What the tokens and keys in the configuration stand for, for those who compare them with what a request brings.

A value is kept until a secret is set or deleted, so a request does not wait for the keychain; what cannot be had is
remembered for a moment, so a stranger's requests cannot keep asking for it. For any thread; one asks at a time.
"""

import threading
from typing import TYPE_CHECKING

from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError
from procclaw.model.references import Reference, filled
from procclaw.model.secret import Text

if TYPE_CHECKING:
    from procclaw.system.credentials import Credentials

TRY_AGAIN_SECONDS = 5.0


class Unavailable(ProcclawError):
    """A token cannot be had at present: who asks may not be told why, the log is."""

    code = "unavailable"


class Tokens:
    def __init__(self, credentials: "Credentials", clock: SystemClock) -> None:
        self._credentials = credentials
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[str, Text] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        """By text, until when it is not tried again, and why it failed."""
        self._signature: tuple[int, ...] | None = None

    def value_of(self, text: str) -> Text:
        """What a token as it is written means. Raises Unavailable."""
        if "${" not in text:
            return text
        with self._lock:
            signature = self._credentials.signature()
            if signature != self._signature:
                self._values.clear()
                self._failed.clear()
                self._signature = signature
            if text not in self._values:
                self._values[text] = self._read(text)
            return self._values[text]

    def _read(self, text: str) -> Text:
        until, why = self._failed.get(text, (0.0, ""))
        if why and self._clock.monotonic() < until:
            raise Unavailable(why)
        try:
            return filled(text, self._value)
        except ProcclawError as error:
            self._failed[text] = (self._clock.monotonic() + TRY_AGAIN_SECONDS, str(error))
            raise Unavailable(str(error)) from None

    def _value(self, reference: Reference) -> Text:
        if reference.kind != "secret":
            raise ProcclawError(f"${{{reference.kind}:{reference.name}}} has no meaning in a token")
        return self._credentials.read(reference.name)
