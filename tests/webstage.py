"""An HTTP server with an application, clients that say exactly what a test wants said, and what they share."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.server import Server
from tests.support import wait_until

WITHIN = 10.0
JSON = ("Content-Type", "application/json")

Environ = dict[str, Any]
Start = Callable[..., Any]
App = Callable[[Environ, Start], Iterable[bytes]]


def eventually(condition: Callable[[], object], show: Callable[[], object] = lambda: "") -> None:
    wait_until(condition, WITHIN, show)


class Reply(NamedTuple):
    status: int
    fields: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Client:
    """Says exactly what a test wants said, and takes answers apart strictly."""

    def __init__(self, address: tuple[str, int], *, takes_little: bool = False) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket.settimeout(WITHIN)
        if takes_little:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._received = b""

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Leave without the usual farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Reply:
        length = [f"Content-Length: {len(body)}"] if body else []
        self.send("\r\n".join((line, "Host: here", *length, *fields, "", "")).encode("latin-1") + body)
        return self.reply(line.partition(" ")[0])

    def reply(self, method: str = "GET") -> Reply:
        status, fields = self.head()
        if method == "HEAD" or status in (100, 204, 304):
            return Reply(status, fields, b"")
        if fields.get("transfer-encoding") == "chunked":
            return Reply(status, fields, b"".join(iter(self.piece, b"")))
        if "content-length" in fields:
            return Reply(status, fields, self._take(int(fields["content-length"])))
        assert fields["connection"] == "close"
        return Reply(status, fields, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        line, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, code, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [field.split(": ", 1) for field in fields]
        found = {name.lower(): value for name, value in pairs}
        assert len(found) == len(pairs)
        return int(code), found

    def piece(self) -> bytes:
        """One chunk of a stream; empty at its proper end."""
        data = self._take(int(self._until(b"\r\n"), 16))
        assert self._take(2) == b"\r\n"
        return data

    def rest(self) -> bytes:
        """What comes until the server ends the connection."""
        with contextlib.suppress(ConnectionResetError):
            while self._receive():
                pass
        rest, self._received = self._received, b""
        return rest

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            if not self._receive():
                raise EOFError(self._received)
        found, _, self._received = self._received.partition(end)
        return found

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            if not self._receive():
                raise EOFError(self._received)
        found, self._received = self._received[:count], self._received[count:]
        return found

    def _receive(self) -> bool:
        piece = self.socket.recv(65536)
        self._received += piece
        return bool(piece)


class Stage:
    """A server with an application, and clients of it."""

    def __init__(self) -> None:
        self.logged: list[str] = []
        self.server: Server
        self._clients: list[Client] = []

    def serve(self, app: App, host: str = "127.0.0.1") -> Server:
        self.server = Server(app, host, 0, self._log)
        self.server.begin()
        return self.server

    def client(self, *, takes_little: bool = False) -> Client:
        self._clients.append(Client(self.server.address, takes_little=takes_little))
        return self._clients[-1]

    def asking(self, line: str = "GET / HTTP/1.1", *fields: str, body: bytes = b"") -> Reply:
        """The answer to a client of its own."""
        with contextlib.closing(self.client()) as client:
            return client.ask(line, *fields, body=body)

    def close(self) -> None:
        self.server.close()
        for client in self._clients:
            client.close()
        eventually(lambda: not own_threads(), own_threads)

    def _log(self, level: str, sentence: str, **fields: object) -> None:
        self.logged.append(f"{level} {sentence} {fields}")


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("procclaw-http")]


@contextlib.contextmanager
def a_stage(capfd: pytest.CaptureFixture[str]) -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()
    # Whatever happened: a thread that dies says so there.
    assert capfd.readouterr() == ("", "")


def hello(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [JSON])
    return [b"hello"]


def echo(environ: Environ, start: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start("200 OK", [])
    return [body]


def answering(status: str, *fields: tuple[Any, Any], pieces: Any = (b"hello",)) -> App:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start(status, list(fields))
        return pieces  # type: ignore[no-any-return]

    return app


def quick(monkeypatch: pytest.MonkeyPatch, **changed: float) -> None:
    """Limits that a test need not wait long for."""
    for name, value in changed.items():
        monkeypatch.setattr(limits, name, value)
