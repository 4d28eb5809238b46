"""An HTTP/1.1 server on threads: listens, and gives every connection a thread of its own.

It mounts any WSGI application and knows nothing of what that does. One thread accepts and never waits for a client, so
nobody can hold up the others; descriptors, threads and places that run out are waited for, and complained of now and
then. No descriptor is left to a child process.
"""

import errno
import select
import socket
import threading
import traceback
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.connection import Connection
from procclaw.interface.api.serving.connections import Connections
from procclaw.interface.api.serving.exchange import Log
from procclaw.interface.api.serving.listening import listen
from procclaw.interface.api.serving.refusing import no_place
from procclaw.model.clock import SystemClock

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_RUN_OUT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_now = SystemClock().monotonic


class Server:
    def __init__(self, app: "WSGIApplication", host: str, port: int, log: Log) -> None:
        """Listens from now on, and answers once it has begun. Raises OSError when it cannot have the address."""
        self._app = app
        self._log = log
        self._listeners = listen(host, port)
        self.addresses: tuple[tuple[str, int], ...] = tuple(each.getsockname()[:2] for each in self._listeners)
        """Where it listens: several places if a name has several, IPv4 first."""
        self.address = self.addresses[0]
        self._connections = Connections()
        self._refused: deque[tuple[float, socket.socket]] = deque()
        """Who found no place, each with when it is to be closed."""
        self._complain_again: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        try:
            self._woken, self._wake = socket.socketpair()
        except OSError:
            for listener in self._listeners:
                listener.close()
            raise

    def begin(self) -> None:
        """Serve from now on. Raises OSError when there is no thread to be had."""
        thread = threading.Thread(target=self._run, name="procclaw-http", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread to be had") from error
        self._thread = thread

    def close(self) -> None:
        """Stop listening, then end all connections, those being answered within half a second. Safe to repeat.

        What the application is still doing for somebody goes on in its thread, which nobody waits for.
        """
        self._wake.close()
        if self._thread is not None:
            self._thread.join(limits.CUT_SECONDS)
            self._thread = None
        for sock in (*self._listeners, self._woken, *(sock for _, sock in self._refused)):
            sock.close()
        self._refused.clear()
        self._connections.close()

    # --- the accepting thread ---

    def _run(self) -> None:
        events = select.poll()
        listeners = {listener.fileno(): listener for listener in self._listeners}
        for descriptor in (*listeners, self._woken.fileno()):
            events.register(descriptor, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in events.poll(self._milliseconds_left())]
            if any(descriptor not in listeners for descriptor in ready):
                return
            try:
                for descriptor in ready:
                    self._accept(listeners[descriptor])
                self._dismiss()
            except Exception as error:  # noqa: BLE001 (the thread's boundary: without it nobody would be served again)
                self._complain("accepting failed, a bug in ProcClaw", detail="".join(traceback.format_exception(error)))
                self._pause()

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError as error:
            # Anything else concerns a client that has left again.
            if error.errno in _RUN_OUT:
                self._complain("cannot accept connections", detail=error.strerror)
                self._connections.spare_one()
                self._pause()
            return
        try:
            connection = Connection(sock, peer[:2], self._connections, self._app, self._log)
        except OSError:
            sock.close()
            return
        if not self._connections.admit(connection):
            self._complain("no place for a connection", limit=limits.CONNECTIONS)
            self._refuse(sock)
        else:
            self._serve(connection, sock)

    def _serve(self, connection: Connection, sock: socket.socket) -> None:
        try:
            threading.Thread(target=connection.serve, name="procclaw-http-client", daemon=True).start()
        except RuntimeError:
            self._connections.leave(connection)
            self._connections.forget(connection)
            self._complain("no thread for a connection")
            self._refuse(sock)

    def _refuse(self, sock: socket.socket) -> None:
        """Say why, and leave it open for a moment, so that a request on its way does not meet a closed door."""
        with suppress(OSError):
            sock.send(no_place().answer())
            sock.shutdown(socket.SHUT_WR)
        self._refused.append((_now() + limits.REFUSED_SECONDS, sock))

    def _dismiss(self) -> None:
        while self._refused and (self._refused[0][0] <= _now() or len(self._refused) > limits.REFUSED):
            _, sock = self._refused.popleft()
            with suppress(OSError):
                sock.recv(limits.HEAD_BYTES)
            sock.close()

    def _milliseconds_left(self) -> float | None:
        return max(0.0, self._refused[0][0] - _now()) * 1000 if self._refused else None

    def _pause(self) -> None:
        """Not asleep: closing need not wait for it."""
        closing = select.poll()
        closing.register(self._woken, select.POLLIN)
        closing.poll(limits.SHORT_SECONDS * 1000)

    def _complain(self, sentence: str, **fields: object) -> None:
        """Once in a while, for it may be so many times a second."""
        now = _now()
        if now >= self._complain_again.get(sentence, now):
            self._complain_again[sentence] = now + limits.COMPLAIN_AGAIN_SECONDS
            self._log("warning", sentence, **fields)
