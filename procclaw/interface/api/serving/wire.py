"""The wire: bytes from and to one client, where every wait has an end.

For the connection's own thread. Deadlines are moments of the monotonic clock.
"""

import select
import socket
from contextlib import suppress

from procclaw.interface.api.serving import limits
from procclaw.model.clock import SystemClock

_CHUNK = 65536
_ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)
_now = SystemClock().monotonic


class Gone(Exception):
    """The client has left, or was sent away, and nobody is there to be answered."""


class Wire:
    def __init__(self, sock: socket.socket) -> None:
        self.received = bytearray()
        """What has come and was not used yet; whoever uses something takes it off the front."""
        self._sock = sock
        sock.settimeout(0)
        with suppress(OSError):
            # Refused on macOS when the client is gone already. Without it a stream's pieces wait for each other.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                # A machine that vanished would otherwise hold its place for a quarter of an hour.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.SEND_SECONDS * 1000))
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN | _ENDED)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)

    def receive(self, deadline: float) -> bool:
        """Wait for more; False: nothing more will come. Raises TimeoutError, Gone."""
        while _wait(self._readable, deadline):
            try:
                piece = self._sock.recv(_CHUNK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone from error
            self.received += piece
            return bool(piece)
        raise TimeoutError

    def send(self, *parts: bytes) -> None:
        """Raises Gone, also when the client takes nothing for too long."""
        # Together, for a short head would travel alone; a long body is not copied for that.
        for each in parts if sum(map(len, parts)) > _CHUNK else [b"".join(parts)]:
            self._send(each)

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                if not _wait(self._writable, _now() + limits.SEND_SECONDS):
                    raise Gone from None
            except OSError as error:
                raise Gone from error

    def is_over(self) -> bool:
        """Whether the client will send nothing more: it may have left, though it could still be reading."""
        for _, events in self._readable.poll(0):
            if events & _ENDED:
                return True
            try:
                return not self._sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            except OSError:
                return True
        return False

    def is_connected(self) -> bool:
        """Whether this is still the connection it was: once it is reset, somebody else may get its addresses."""
        try:
            self._sock.getpeername()
        except OSError:
            return False
        return True

    def linger(self) -> None:
        """Say that this was all, and wait for the client to say the same."""
        deadline = _now() + limits.LINGER_SECONDS
        count = 0
        # What it still sends is thrown away, whether it ends, is cut off or takes too long.
        with suppress(OSError, Gone):
            self._sock.shutdown(socket.SHUT_WR)
            while count < limits.LINGER_BYTES and self.receive(deadline):
                count += len(self.received)
                self.received.clear()


def _wait(what: select.poll, deadline: float) -> bool:
    """False when the deadline came first."""
    return bool(what.poll(max(0.0, deadline - _now()) * 1000))
