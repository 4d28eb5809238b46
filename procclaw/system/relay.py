"""The program that puts the time before every line of a job, for `log.timestamps: true`.

It is no part of the daemon: one copy runs beside each attempt as `python -I -S -c SOURCE STDOUT_LOG STDERR_LOG`, from
its source text alone, so it imports the standard library only, outlives the manager and a replaced .pyz, and reads the
time itself. It finds the job's stdout as descriptor 0, its stderr as 3, and on 4 the attempt's record, which it merely
keeps open: the lock on it then lasts until all output is in the logs.

A line gets the time at which its first byte came, at once and not when the line is complete. A full disk must not block
the job: what cannot be written is dropped, its lines are counted, and the count stands in their place once there is
space again. It ends when both pipes are closed, and ignores whatever a job may be stopped with.
"""

import os
import select
import signal
import sys
import time

STDOUT_FD = 0
STDERR_FD = 3
CHUNK_BYTES = 65536
IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGPIPE,
)


class Log:
    """One log and what is to come into it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._ends_in_line = False
        """What we last wrote was no whole line."""
        self._is_at_line_start = True
        """The next byte of the job begins a line."""
        self._lost_lines = 0
        self._is_in_lost_line = False
        self._trouble = ""
        # As without a relay, the log of a running job is there before it prints anything.
        self._append(b"")

    def write(self, output: bytes, stamp: bytes) -> None:
        if self._lost_lines and not self._tell_loss(stamp):
            self._lose(output)
            return
        body, end = (output[:-1], b"\n") if output.endswith(b"\n") else (output, b"")
        stamped = body.replace(b"\n", b"\n" + stamp) + end
        if self._is_at_line_start:
            stamped = stamp + stamped
        self._is_at_line_start = bool(end)
        written = self._append(stamped)
        if written < len(stamped):
            self._lose(stamped[written:])

    def close(self, stamp: bytes) -> None:
        if self._lost_lines:
            self._tell_loss(stamp)

    def _lose(self, output: bytes) -> None:
        """Count the lines of which something is lost, one that is lost in several parts only once."""
        is_unfinished = not output.endswith(b"\n")
        self._lost_lines += output.count(b"\n") + is_unfinished - self._is_in_lost_line
        self._is_in_lost_line = is_unfinished

    def _tell_loss(self, stamp: bytes) -> bool:
        """Put the count in place of the lines; False if that found no space either."""
        text = f"-- lines lost here: {self._lost_lines} ({self._trouble}) --\n".encode()
        text = b"\n" * self._ends_in_line + stamp + text
        if self._append(text) < len(text):
            return False
        self._lost_lines = 0
        self._is_in_lost_line = False
        self._is_at_line_start = True
        return True

    def _append(self, output: bytes) -> int:
        """How much of it came into the log."""
        written = 0
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            while written < len(output):
                written += os.write(self._fd, output[written:])
        except OSError as error:
            self._trouble = error.strerror or str(error)
        if written:
            self._ends_in_line = output[written - 1 : written] != b"\n"
        return written


def stamp_now() -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{nanoseconds // 1_000_000:03d}Z ".encode()


def main() -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    logs = {STDOUT_FD: Log(sys.argv[1]), STDERR_FD: Log(sys.argv[2])}
    while logs:
        for fd in select.select(list(logs), [], [])[0]:
            output = os.read(fd, CHUNK_BYTES)
            if output:
                logs[fd].write(output, stamp_now())
            else:
                logs.pop(fd).close(stamp_now())


if __name__ == "__main__":
    main()
