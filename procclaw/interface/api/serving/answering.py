"""An answer on its way: what an application gives by the WSGI rules, as HTTP/1.1 or 1.0 has it.

The head goes out with the first piece of the body, so that until then it can still become another. A body of known
length is announced; otherwise it goes in chunks, each piece as soon as it is there, and its proper end is what tells
the client that nothing is missing. What would break the framing, a line end in a field above all, is the application's
error and never sent.
"""

import re
from collections.abc import Iterable
from email.utils import format_datetime
from types import TracebackType
from typing import Any

from procclaw.interface.api.serving.body import Body
from procclaw.interface.api.serving.reading import TOKEN, Head
from procclaw.interface.api.serving.wire import Wire
from procclaw.model.clock import SystemClock

_STATUS = re.compile(r"[2-5][0-9]{2} [ -~]*")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_OURS = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})
"""About the connection, of which an application knows nothing."""
_WITHOUT_BODY = ("204", "304")
_LAST_CHUNK = b"0\r\n\r\n"
_clock = SystemClock()

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class BadAnswer(Exception):
    """The application broke the rules."""


class Answer:
    def __init__(self, wire: Wire, head: Head, body: Body) -> None:
        self.keeps_alive = head.keeps_alive
        """Another request may follow: both sides know where this one and its answer end."""
        self.is_begun = False
        """The client has seen something of it, so it can become no other."""
        self._wire = wire
        self._asked = head
        self._request_body = body
        self._status = ""
        self._fields: list[tuple[str, str]] = []
        self._has_body = True
        self._is_chunked = False
        self._left: int | None = None
        """Of the announced length."""

    @property
    def is_whole(self) -> bool:
        """The head was all there is to send."""
        return self.is_begun and not self._has_body

    def start(self, status: str, fields: list[tuple[str, str]], exc_info: ExcInfo | None = None, /) -> Any:
        """WSGI's start_response."""
        if exc_info is not None and exc_info[1] is not None and self.is_begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._status:
            raise BadAnswer("start_response was called twice")
        self._status, self._fields = status, list(fields)
        return self.write

    def write(self, piece: bytes) -> None:
        """Send a piece at once, the head before it if it is the first. An empty one is nothing."""
        if piece:
            head = b"" if self.is_begun else self._begin(None)
            self._send(head, self._framed(piece))

    def send_whole(self, pieces: Iterable[bytes]) -> None:
        body = b"".join(pieces)
        head = self._begin(len(body))
        self._send(head, self._framed(body))

    def finish(self) -> None:
        if not self.is_begun:
            self._send(self._begin(0))
        elif self._is_chunked:
            self._send(_LAST_CHUNK)
        if self._left:
            raise BadAnswer(f"the answer is {self._left} bytes shorter than its Content-Length")

    def _send(self, *parts: bytes) -> None:
        self.is_begun = True
        self._wire.send(*parts)

    def _framed(self, piece: bytes) -> bytes:
        if not self._has_body:
            return b""
        if self._is_chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        if self._left is not None:
            if len(piece) > self._left:
                raise BadAnswer("the answer is longer than its Content-Length")
            self._left -= len(piece)
        return piece

    def _begin(self, length: int | None) -> bytes:
        """The head, given the body's length if that is known."""
        if self._request_body.failure is not None:
            raise self._request_body.failure
        _check(self._status, self._fields)
        self._has_body = self._asked.method != "HEAD" and not self._status.startswith(_WITHOUT_BODY)
        announced = self._announce(length)
        if self._has_body:
            self._left = announced
            self._is_chunked = announced is None and not self._asked.is_old
        self.keeps_alive = self.keeps_alive and self._request_body.is_past() and self._has_end()
        return self._head()

    def _announce(self, length: int | None) -> int | None:
        """See to it that the length is said where it is known and may be, and return it."""
        announced = _announced(self._fields)
        if self._status.startswith(_WITHOUT_BODY):
            # With 304 it would be that of what the client has, which only the application knows.
            if self._status.startswith("204"):
                self._fields = [field for field in self._fields if field[0].lower() != "content-length"]
            return None
        if announced is not None:
            if self._has_body and length not in (None, announced):
                raise BadAnswer("the answer's length is not its Content-Length")
            return announced
        # To HEAD an application need not give what it would to GET, so nothing does not mean nothing.
        if length is not None and (self._has_body or length):
            self._fields.append(("Content-Length", str(length)))
        return length

    def _has_end(self) -> bool:
        return not self._has_body or self._is_chunked or self._left is not None

    def _head(self) -> bytes:
        lines = [f"HTTP/1.1 {self._status}", *(f"{name}: {value}" for name, value in self._fields)]
        if not any(name.lower() == "date" for name, _ in self._fields):
            lines.append(f"Date: {format_datetime(_clock.now(), usegmt=True)}")
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        if not self.keeps_alive:
            lines.append("Connection: close")
        elif self._asked.is_old:
            lines.append("Connection: keep-alive")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _check(status: Any, fields: list[tuple[Any, Any]]) -> None:
    """Of what type anything is as well: nothing has been looked at yet."""
    if not isinstance(status, str) or not _STATUS.fullmatch(status):
        raise BadAnswer(f"start_response was not called with a status, but {status!r}")
    for name, value in fields:
        if not isinstance(name, str) or not TOKEN.fullmatch(name.encode()) or name.lower() in _OURS:
            raise BadAnswer(f"an answer has no field {name!r}")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            # Not the value itself: it may be secret.
            raise BadAnswer(f"the value of {name} is not text in one line")


def _announced(fields: list[tuple[str, str]]) -> int | None:
    given = [value for name, value in fields if name.lower() == "content-length"]
    if not given:
        return None
    if len(given) > 1 or not given[0].isascii() or not given[0].isdecimal():
        raise BadAnswer("Content-Length is not one number")
    return int(given[0])
