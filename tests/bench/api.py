"""A client that asks a daemon's API for the same again and again, as fast as it is answered."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.bench.machine import Place

REPORT_SECONDS = 0.1


class Hammer:
    def __init__(self, client: "subprocess.Popen[Any]") -> None:
        self._client = client

    def rate(self) -> float:
        """Answers in a second, from the first on to the end."""
        assert self._client.stdin is not None
        self._client.stdin.close()
        assert self._client.stdout is not None
        return float(self._client.stdout.read())


@contextlib.contextmanager
def hammering(place: "Place", *paths: str) -> Iterator[Hammer]:
    """A process of its own, so that it slows down nobody but by using a processor."""
    address = json.loads(place.ask("daemon", "status", "--json"))["api"]["address"]
    client = place.reaper.spawn(
        [sys.executable, __file__, address, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Hammer(client)
    finally:
        client.kill()
        client.wait()


def main(address: str, *paths: str) -> None:
    """Ask until our input ends; then print how many answers there were in a second."""
    import select

    parts = urlsplit(address)
    asked = [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode() for path in paths]
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        count, began = 0, time.perf_counter()
        report_at = began + REPORT_SECONDS
        while True:
            connection.sendall(asked[count % len(asked)])
            take_answer(connection)
            count += 1
            if (now := time.perf_counter()) >= report_at:
                report_at = now + REPORT_SECONDS
                if select.select([sys.stdin], [], [], 0)[0]:
                    break
    print(count / (time.perf_counter() - began))


def take_answer(connection: socket.socket) -> None:
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(1 << 18)
    head, _, body = text.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b" 200 " in lines[0], head
    left = int(next(line.partition(b":")[2] for line in lines if line.startswith(b"content-length:"))) - len(body)
    while left > 0:
        left -= len(connection.recv(1 << 18))


if __name__ == "__main__":
    main(*sys.argv[1:])
