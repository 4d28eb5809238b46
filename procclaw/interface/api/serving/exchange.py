"""One request and its answer: calls the application by the rules of WSGI (PEP 3333).

The boundary below which an application's error is caught: the client is told that there was one, the log which one.
"""

import io
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from procclaw.interface.api.serving.answering import Answer
from procclaw.interface.api.serving.body import Body
from procclaw.interface.api.serving.reading import Head
from procclaw.interface.api.serving.refusing import Refused, our_bug
from procclaw.interface.api.serving.wire import Gone, Wire

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

Log = Callable[..., None]
"""Level, sentence and fields, as `DaemonLog.line` has them."""


class Exchange:
    def __init__(self, wire: Wire, head: Head, log: Log, is_over: Callable[[], bool]) -> None:
        """`is_over`: whether there is no use in going on with a stream."""
        self._wire = wire
        self._head = head
        self._log = log
        self._is_over = is_over
        self._body = Body(wire, head)
        self._answer = Answer(wire, head, self._body)

    def run(self, app: "WSGIApplication", surroundings: dict[str, Any]) -> bool:
        """Have the request answered; whether another may follow. Raises Gone."""
        try:
            self._call(app, self._environ(surroundings))
        except Gone:
            raise
        except Refused as refused:
            return self._give_up(refused)
        except BaseException as error:  # noqa: BLE001 (an application's SystemExit, say, is not ours to follow)
            if self._body.failure is None:
                self._complain(error)
            return self._give_up(self._body.failure or our_bug())
        return self._answer.keeps_alive

    def _call(self, app: "WSGIApplication", environ: dict[str, Any]) -> None:
        result = app(environ, self._answer.start)
        try:
            if isinstance(result, list | tuple) and not self._answer.is_begun:
                self._answer.send_whole(result)
            else:
                self._send_each(result)
        finally:
            if hasattr(result, "close"):
                result.close()

    def _send_each(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._answer.write(piece)
            if self._answer.is_whole:
                return
            # Who leaves is noticed when something is sent; a stream that has nothing to say must look.
            if not piece and self._is_over():
                raise Gone
        self._answer.finish()

    def _give_up(self, why: Refused | Gone) -> bool:
        """Answer with it if the client has seen nothing yet; otherwise break off: it sees that there should be more."""
        if isinstance(why, Gone) or self._answer.is_begun:
            raise Gone from why
        self._wire.send(why.answer(self._head.method))
        return False

    def _complain(self, error: BaseException) -> None:
        detail = "".join(traceback.format_exception(error))
        head = self._head
        self._log("error", "request failed, a bug in ProcClaw", method=head.method, path=head.path, detail=detail)

    def _environ(self, surroundings: dict[str, Any]) -> dict[str, Any]:
        head = self._head
        environ = {
            **surroundings,
            "REQUEST_METHOD": head.method,
            "PATH_INFO": head.path,
            "QUERY_STRING": head.query,
            "SERVER_PROTOCOL": "HTTP/1.0" if head.is_old else "HTTP/1.1",
            "wsgi.input": io.BufferedReader(self._body) if head.length else io.BytesIO(),
            "wsgi.errors": _Errors(self._log),
        }
        for name, value in head.fields.items():
            # With an underscore it would pass for the one with a hyphen, which others may have checked.
            if "_" not in name:
                environ[_NAMES.get(name) or f"HTTP_{name.upper().replace('-', '_')}"] = value
        return environ


_NAMES = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}


class _Errors(io.TextIOBase):
    """What an application says of its troubles, in the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text.strip():
            self._log("error", "said while answering a request", detail=text.rstrip())
        return len(text)
