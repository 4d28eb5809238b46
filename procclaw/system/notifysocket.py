"""The line to whoever started us as a service: systemd's notification protocol, a datagram of NAME=VALUE lines.

Where nobody listens ($NOTIFY_SOCKET is not set) everything here does nothing. No message may hold up or end the daemon:
one that cannot be delivered is dropped, and the next one says more anyway. The environment is left as it is, because it
must survive becoming a new version; jobs never see it, theirs is computed.

A sign of life is sent by the caller, from the loop that is to be vouched for and from nowhere else: a thread of its own
would vouch for a loop that hangs.
"""

import os
import socket

_PATIENCE_SECONDS = 5.0
"""For what is said once and waited for; everything else is dropped where the queue is full."""
_AGAIN_SECONDS = 1.0
"""Until a sign of life that could not be given is tried again."""


class NotifySocket:
    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        """`address` is a path, or begins with @ for a name outside the file system; None: nobody listens."""
        self._socket = _connect(address) if address else None
        self.interval_seconds = watchdog_seconds / 2 if self._socket is not None and watchdog_seconds else None
        """How often to give a sign of life; None: nobody waits for one."""
        self._alive_due_at = 0.0
        self._status = ""

    def ready(self, status: str) -> None:
        """What we were started for has begun; also the end of `reloading`."""
        self._status = status
        self._send(f"READY=1\nSTATUS={status}", _PATIENCE_SECONDS)

    def reloading(self, now: float, why: str) -> None:
        """We are becoming something else, under the same pid. `now` is monotonic, as in all of this."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1_000_000)}\nSTATUS={why}", _PATIENCE_SECONDS)

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping, jobs go on running", _PATIENCE_SECONDS)

    def status(self, text: str) -> None:
        """A line for people; sent when it differs from the one before."""
        if text != self._status and self._send(f"STATUS={text}"):
            self._status = text

    def alive(self, now: float) -> None:
        """Give the sign of life, if one is due."""
        if self.interval_seconds is None:
            return
        if now >= self._alive_due_at:
            is_sent = self._send("WATCHDOG=1")
            self._alive_due_at = now + (
                self.interval_seconds if is_sent else min(_AGAIN_SECONDS, self.interval_seconds)
            )

    def patience_seconds(self, now: float) -> float | None:
        """How long the loop may sleep before the next sign of life is due; None: as long as it likes."""
        return None if self.interval_seconds is None else max(0.0, self._alive_due_at - now)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str, patience_seconds: float = 0.0) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.settimeout(patience_seconds)
            self._socket.send(text.encode(errors="replace"))
        except OSError:
            return False
        return True


def from_environment() -> NotifySocket:
    """What our environment names. A watchdog that is meant for another process is none of ours."""
    own = os.environ.get("WATCHDOG_PID")
    limit = os.environ.get("WATCHDOG_USEC", "")
    is_watched = limit.isdecimal() and int(limit) > 0 and own in (None, str(os.getpid()))
    return NotifySocket(os.environ.get("NOTIFY_SOCKET"), int(limit) / 1_000_000 if is_watched else None)


def _connect(address: str) -> socket.socket | None:
    """None for what is no Unix socket, or one that is not there."""
    if not address.startswith(("/", "@")):
        return None
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        line.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError:
        line.close()
        return None
    return line
