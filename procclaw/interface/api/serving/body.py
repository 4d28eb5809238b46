"""The body of a request, read from the wire when the application asks for it.

Not before, so that whoever may not ask for anything is refused without being listened to: a client that drips its body
holds a place only if the application wants to hear it. And `100 Continue` is said when it is meant.
"""

import io
from typing import TYPE_CHECKING

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.reading import Head
from procclaw.interface.api.serving.refusing import Refused
from procclaw.interface.api.serving.wire import Gone, Wire
from procclaw.model.clock import SystemClock

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_now = SystemClock().monotonic


class Body(io.RawIOBase):
    """Ends where the body does. A client that does not send it all raises Refused or Gone from within a read."""

    def __init__(self, wire: Wire, head: Head) -> None:
        self.failure: Refused | Gone | None = None
        """What was raised. An application may have taken it for something else; this counts."""
        self._wire = wire
        self._left = head.length
        self._is_waited_for = head.expects_continue
        """The client sends it only once it is told to."""
        self._deadline: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, into: "WriteableBuffer") -> int:
        room, received = memoryview(into), self._wire.received
        if self._left and not received:
            self._receive()
        count = min(len(room), self._left, len(received))
        room[:count] = received[:count]
        del received[:count]
        self._left -= count
        return count

    def is_past(self) -> bool:
        """Whether what comes next on the wire is the next request, and nothing more can be read of this one.

        What has come and nobody wanted is passed over.
        """
        if not self._is_waited_for:
            count = min(self._left, len(self._wire.received))
            del self._wire.received[:count]
            self._left -= count
        return not self._left

    def _receive(self) -> None:
        try:
            if self._deadline is None:
                self._deadline = _now() + limits.BODY_SECONDS
            if self._is_waited_for:
                self._is_waited_for = False
                self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if not self._wire.receive(self._deadline):
                raise Gone
        except TimeoutError:
            self.failure = Refused(408, "timeout", f"the body did not come within {limits.BODY_SECONDS:g} s")
        except Gone as gone:
            self.failure = gone
        if self.failure is not None:
            raise self.failure
