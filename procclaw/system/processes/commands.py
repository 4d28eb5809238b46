"""Processes that are no attempts: a short command that answers, a daemon in the background, ourselves anew."""

import os
import selectors
import signal
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple, NoReturn

from procclaw.model.clock import SystemClock
from procclaw.system.processes.shim import SHELL
from procclaw.system.processes.signals import open_pidfd
from procclaw.system.processes.spawning import Descriptors, spawn
from procclaw.system.processes.table import MARK

if TYPE_CHECKING:
    import subprocess

_MOST_BYTES = 1 << 20
"""Kept of each stream; the rest is read and dropped, so that a talkative command can still end."""
_CHUNK = 65536
_LOOK_SECONDS = 0.05
"""How often to ask whether the command has ended while something it left behind keeps its output open."""


class CommandResult(NamedTuple):
    exit_code: int | None
    """As a shell reports it, 126 and 127 included; None when it was killed at the time limit."""
    stdout: bytes
    stderr: bytes

    @property
    def is_timed_out(self) -> bool:
        return self.exit_code is None


def run_command(
    argv: Sequence[str], timeout: float, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> CommandResult:
    """Run a command to its end, at most `timeout` seconds; then its process group is killed. `env` None: ours."""
    import subprocess

    try:
        command = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        return CommandResult(code, b"", f"{argv[0]}: {error.strerror}".encode())
    with command:
        exchange = _Exchange(command, stdin or b"")
        try:
            is_over = exchange.run(timeout)
        finally:
            if command.poll() is None:
                # Not waited for yet, so its pid is still its own.
                os.killpg(command.pid, signal.SIGKILL)
            code = command.wait()
    if not is_over:
        return CommandResult(None, *exchange.output())
    return CommandResult(128 - code if code < 0 else code, *exchange.output())


class _Exchange:
    """Feeding a command and reading what it says, until it has ended; what it left behind is not waited for."""

    def __init__(self, command: "subprocess.Popen[bytes]", feed: bytes) -> None:
        self._command = command
        self._feed = memoryview(feed)
        self._said: dict[int, bytearray] = {}
        self._selector = selectors.DefaultSelector()
        for stream in (command.stdout, command.stderr):
            assert stream is not None
            self._said[stream.fileno()] = bytearray()
            self._watch(stream, selectors.EVENT_READ)
        if command.stdin is not None:
            self._watch(command.stdin, selectors.EVENT_WRITE)

    def run(self, timeout: float) -> bool:
        """False when the time was up first."""
        clock = SystemClock()
        deadline = clock.monotonic() + timeout
        ending = open_pidfd(self._command.pid)
        try:
            if ending is not None:
                self._selector.register(ending, selectors.EVENT_READ)
            while self._command.poll() is None:
                left = deadline - clock.monotonic()
                if left <= 0:
                    return False
                self._turn(left if ending is not None else min(left, _LOOK_SECONDS))
            while self._turn(0):
                pass
            return True
        finally:
            self._selector.close()
            if ending is not None:
                os.close(ending)

    def output(self) -> tuple[bytes, bytes]:
        stdout, stderr = self._said.values()
        return bytes(stdout), bytes(stderr)

    def _watch(self, stream: IO[bytes], events: int) -> None:
        os.set_blocking(stream.fileno(), False)
        self._selector.register(stream.fileno(), events)

    def _turn(self, patience: float) -> bool:
        """Move what can be moved; False when that was nothing."""
        moved = False
        for key, events in self._selector.select(patience):
            if events & selectors.EVENT_WRITE:
                moved |= self._write(key.fd)
            elif key.fd in self._said:
                moved |= self._read(key.fd)
        return moved

    def _read(self, fd: int) -> bool:
        chunk = os.read(fd, _CHUNK)
        if not chunk:
            self._selector.unregister(fd)
            return False
        said = self._said[fd]
        said += chunk[: _MOST_BYTES - len(said)]
        return True

    def _write(self, fd: int) -> bool:
        try:
            self._feed = self._feed[os.write(fd, self._feed) :]
        except BrokenPipeError:
            self._feed = self._feed[:0]
        if self._feed:
            return True
        self._selector.unregister(fd)
        assert self._command.stdin is not None
        self._command.stdin.close()
        return False


def detach(argv: Sequence[str], log_path: str) -> int:
    """Start `argv` in a session of its own, in "/", its output appended to `log_path`; its pid."""
    with Descriptors() as descriptors:
        log = descriptors.log(log_path)
        env = {name: value for name, value in os.environ.items() if name != MARK}
        return spawn([SHELL, "-c", 'cd / && exec "$@"', "procclaw-detach", *argv], env, {1: log, 2: log})


def is_marked() -> bool:
    """Whether this process was started from within an attempt, and would be stopped together with it."""
    return MARK in os.environ


def reexec_without_mark(argv: Sequence[str]) -> NoReturn:
    """Become `argv` without the attempt's mark: it cannot be taken off a living process, whose environment shows it."""
    env = {name: value for name, value in os.environ.items() if name != MARK}
    os.execve(argv[0], list(argv), env)
