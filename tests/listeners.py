"""Servers on the loopback that behave as badly as a test wants them to."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket], None]


class Listener:
    """Serves every connection in a thread of its own, by `behaviour`; None never even accepts.

    It reads the request first, unless told otherwise.
    """

    def __init__(self, behaviour: Behaviour | None, family: int, tls: ssl.SSLContext | None, *, reads: bool) -> None:
        self._behaviour = behaviour
        self._tls = tls
        self._reads = reads
        self._socket = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self._socket.listen(4096)
        self.port: int = self._socket.getsockname()[1]
        self.requests: list[bytes] = []
        """Head and body of each, in the order they came."""
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        if behaviour is not None:
            self._begin(self._accept)

    def close(self) -> None:
        # A thread in `accept` or `recv` is woken by this, and not by closing.
        for sock in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for sock in (self._socket, *self._open):
            sock.close()

    def _begin(self, target: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=target, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(sock)
            self._begin(lambda sock=sock: self._serve(sock))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        assert self._behaviour is not None
        # The other side may hang up at any point, or refuse us: that is what many tests are about.
        with contextlib.suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            if self._reads:
                self.requests.append(read_request(sock))
            self._behaviour(sock)
            if self._tls is None:
                sock.shutdown(socket.SHUT_RDWR)
            else:
                sock.close()


def read_request(sock: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        if not (piece := sock.recv(65536)):
            raise ConnectionResetError
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(status: int = 200, body: bytes = b"", headers: str = "") -> Behaviour:
    """A proper answer."""
    head = f"HTTP/1.1 {status} So it is\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    return lambda sock: sock.sendall(head + body)


def saying(*pieces: bytes) -> Behaviour:
    """Exactly these bytes, each in a packet of its own if the system lets it, and the end."""

    def behaviour(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)

    return behaviour


def hanging(*pieces: bytes) -> Behaviour:
    """These bytes, and then nothing until the other side gives up."""

    def behaviour(sock: socket.socket) -> None:
        saying(*pieces)(sock)
        while sock.recv(65536):
            pass

    return behaviour


def endless(begin: bytes, piece: bytes, pause_seconds: float = 0.0) -> Behaviour:
    """Over and over, for as long as somebody takes it."""

    def behaviour(sock: socket.socket) -> None:
        sock.sendall(begin)
        closed = threading.Event()
        while True:
            sock.sendall(piece)
            if pause_seconds:
                closed.wait(pause_seconds)

    return behaviour


class Listeners:
    """All that a test has opened."""

    def __init__(self) -> None:
        self._all: list[Listener] = []

    def __call__(
        self,
        behaviour: Behaviour | None,
        family: int = socket.AF_INET,
        tls: ssl.SSLContext | None = None,
        *,
        reads: bool = True,
    ) -> Listener:
        self._all.append(Listener(behaviour, family, tls, reads=reads))
        return self._all[-1]

    def close(self) -> None:
        for listener in self._all:
            listener.close()


@contextlib.contextmanager
def listening() -> Iterator[Listeners]:
    listeners = Listeners()
    try:
        yield listeners
    finally:
        listeners.close()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port
