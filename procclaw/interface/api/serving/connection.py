"""One connection, served by a thread of its own from its coming to its going.

The application finds it as `procclaw.connection` in what WSGI calls the environ, and may keep something for its length,
such as a database connection, which belongs to one thread.
"""

import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.connections import Connections
from procclaw.interface.api.serving.exchange import Exchange, Log
from procclaw.interface.api.serving.reading import Head, head_length, parse_head
from procclaw.interface.api.serving.refusing import Refused
from procclaw.interface.api.serving.wire import Gone, Wire
from procclaw.model.clock import SystemClock

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_now = SystemClock().monotonic


class Connection:
    def __init__(
        self, sock: socket.socket, peer: tuple[str, int], others: Connections, app: "WSGIApplication", log: Log
    ) -> None:
        """Raises OSError."""
        self.kept: dict[str, Any] = {}
        """For the application; it ends with the connection."""
        self._sock = sock
        self._wire = Wire(sock)
        self._others = others
        self._app = app
        self._log = log
        self._at_end: list[Callable[[], None]] = []
        self._has_served = False
        self._surroundings = self._describe(sock.getsockname()[:2], peer)

    # --- for the application ---

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call it at the end of the connection, in the connection's thread; the last one given goes first."""
        self._at_end.append(callback)

    def is_over(self) -> bool:
        """Whether there is no use in going on: the client has left, or at least said its last, or the server closes."""
        return self._others.is_closing or self._wire.is_over()

    def is_connected(self) -> bool:
        """Whether the client has not reset it: what was found out by its address still holds for it."""
        return self._wire.is_connected()

    # --- for the server ---

    def hang_up(self) -> None:
        # Not closed: another thread may be waiting on the descriptor, and is woken by this alone.
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Until it ends; raises nothing."""
        try:
            self._serve()
        except Gone:
            pass
        except BaseException as error:  # noqa: BLE001 (the thread's boundary)
            self._complain("connection failed, a bug in ProcClaw", error)
        finally:
            self._others.leave(self)
            self._sock.close()
            self._end()
            self._others.forget(self)

    def _serve(self) -> None:
        try:
            while self._others.wait(self):
                head = self._next_head()
                if head is None or not self._others.work(self):
                    return
                self._has_served = True
                if not Exchange(self._wire, head, self._log, self.is_over).run(self._app, self._surroundings):
                    break
        except Refused as refused:
            self._wire.send(refused.answer())
        if self._others.wait(self):
            self._wire.linger()

    def _next_head(self) -> Head | None:
        """Of the next request; None when the client leaves or lets itself be waited for. Raises Refused."""
        received = self._wire.received
        is_idle = self._has_served and not received
        deadline = _now() + (limits.IDLE_SECONDS if is_idle else limits.HEAD_SECONDS)
        known = 0
        while (length := head_length(received, known)) is None:
            known = len(received)
            try:
                if not self._wire.receive(deadline):
                    return None
            except TimeoutError:
                if not received:
                    return None
                raise Refused(408, "timeout", f"the head did not come within {limits.HEAD_SECONDS:g} s") from None
            if is_idle:
                is_idle, deadline = False, _now() + limits.HEAD_SECONDS
        head = bytes(received[:length])
        del received[:length]
        return parse_head(head)

    def _describe(self, local: tuple[str, int], peer: tuple[str, int]) -> dict[str, Any]:
        return {
            "SCRIPT_NAME": "",
            "SERVER_NAME": local[0],
            "SERVER_PORT": str(local[1]),
            "REMOTE_ADDR": peer[0],
            "REMOTE_PORT": str(peer[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "procclaw.local": local,
            "procclaw.peer": peer,
            "procclaw.connection": self,
        }

    def _end(self) -> None:
        for callback in reversed(self._at_end):
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 (the others have their turn all the same)
                self._complain("end of connection failed, a bug in ProcClaw", error)

    def _complain(self, sentence: str, error: BaseException) -> None:
        self._log("error", sentence, detail="".join(traceback.format_exception(error)))
