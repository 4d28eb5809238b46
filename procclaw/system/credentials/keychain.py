"""The user's keychain, through `keyring`: the Secret Service on Linux, the Keychain on macOS.

keyring is given its backend and never looks for one, which would start compilers. Whatever is asked is asked in a
thread of its own and given up after a while: a keychain may wait for a person, and the loop may not. While a question
is unanswered, and for a while after, every further one is answered at once: it cannot be reached.
"""

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError
from procclaw.model.secret import Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

T = TypeVar("T")

SERVICE = "procclaw"
LOOP_SECONDS = 1.0
"""For the loop, whose jobs all wait meanwhile: an answer takes 2 ms, and with the bus starting the service 0.3 s."""
REST_SECONDS = 30.0
"""How long one that did not answer is left alone: a thousand jobs then cost the loop one second in thirty."""


class Unreachable(ProcclawError):
    """The keychain is absent, locked or does not answer; the message says which, as the end of a sentence."""


class Keychain:
    def __init__(self, clock: SystemClock, seconds: float = LOOP_SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._silent: threading.Thread | None = None
        """The question that was not answered in time."""
        self._rests_until = 0.0

    def read(self, name: str) -> Secret | None:
        """None: it has none of that name. Raises Unreachable."""
        found = self._ask(lambda backend: backend.get_password(SERVICE, name))
        return None if found is None else Secret(found)

    def write(self, name: str, secret: Secret) -> None:
        """Raises Unreachable."""
        self._ask(lambda backend: backend.set_password(SERVICE, name, secret.reveal()))

    def delete(self, name: str) -> bool:
        """Whether there was one. Raises Unreachable."""

        def delete(backend: "KeyringBackend") -> bool:
            if backend.get_password(SERVICE, name) is None:
                return False
            backend.delete_password(SERVICE, name)
            return True

        return self._ask(delete)

    def _ask(self, question: "Callable[[KeyringBackend], T]") -> T:
        with self._lock:
            return self._asked(question)

    def _asked(self, question: "Callable[[KeyringBackend], T]") -> T:
        is_silent = self._silent is not None and self._silent.is_alive()
        if is_silent or self._clock.monotonic() < self._rests_until:
            raise Unreachable("does not answer")
        # Not within the time: importing takes 0.1 s and more where the disk is cold, and is nobody's silence.
        make = _backend_maker(self._seconds)
        answers: list[T] = []
        troubles: list[str] = []

        def ask() -> None:
            try:
                answers.append(question(make()))
            except Exception as error:  # noqa: BLE001 (of a service we know nothing of; none may take the thread with it)
                troubles.append(_in_words(error))

        thread = threading.Thread(target=ask, name="procclaw-keychain", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise Unreachable("cannot be asked, for want of a thread") from None
        thread.join(self._seconds)
        if answers:
            return answers[0]
        if troubles and troubles[0] != _SILENT:
            raise Unreachable(troubles[0])
        self._silent, self._rests_until = thread, self._clock.monotonic() + REST_SECONDS
        raise Unreachable(f"did not answer within {self._seconds:g} s")


_SILENT = "did not answer"


def _backend_maker(seconds: float) -> "Callable[[], KeyringBackend]":
    try:
        if sys.platform == "darwin":
            from keyring.backends.macOS import Keyring

            return Keyring
        from procclaw.system.credentials.secretservice import SecretService
    except ImportError as error:
        raise Unreachable(f"cannot be asked: {error.name} cannot be imported") from error
    return partial(SecretService, seconds)


def _in_words(error: Exception) -> str:
    """What is the matter, without anything an error may quote."""
    from keyring.errors import InitError, KeyringLocked, NoKeyringError

    if isinstance(error, TimeoutError):
        return _SILENT
    if isinstance(error, KeyringLocked):
        return "is locked"
    if isinstance(error, (InitError, NoKeyringError)):
        return str(error) or "is not there"
    if isinstance(error, OSError):
        return "is not there: no session bus"
    return f"refused ({type(error).__name__})"
