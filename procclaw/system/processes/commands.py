"""Processes that are no attempts: a short command that answers, a daemon in the background, ourselves anew."""

import errno
import os
import selectors
import signal
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

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
_OF_A_KEEPER = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})
"""By these a process speaks to what started it as a service, which is no affair of what goes its own way."""
_LOOK_SECONDS = 0.05
"""How often to ask whether the command has ended while something it left behind keeps its output open."""
_OUR_LACK = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class CommandResult(NamedTuple):
    exit_code: int | None
    """As a shell reports it, 126 and 127 included; None when it was killed at the time limit, or given up."""
    stdout: bytes
    stderr: bytes
    is_ours: bool = False
    """It did not run, for want of descriptors, memory or processes: no fault of the command."""

    @property
    def is_timed_out(self) -> bool:
        return self.exit_code is None


def run_command(
    argv: Sequence[str],
    timeout: float,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    *,
    cwd: str | None = None,
    user: str | None = None,
    group: str | None = None,
    give_up: int | None = None,
) -> CommandResult:
    """Run a command to its end, at most `timeout` seconds; then its process group is killed.

    None: as we are, for environment, directory and account. `give_up` is a descriptor: once it can be read, or its
    other end is closed, the time is up. Never raises for what may be wrong with the command.
    """
    import subprocess

    try:
        command = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
            **_account(user, group),
        )
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError) and error.filename != cwd
        says = f"{error.filename or argv[0]}: {error.strerror}".encode()
        return CommandResult(127 if is_missing else 126, b"", says, error.errno in _OUR_LACK)
    except (LookupError, ValueError) as error:
        # No such account; a NUL character where the system takes none.
        return CommandResult(126, b"", f"{argv[0]}: {error}".encode())
    with command:
        return _converse(command, stdin or b"", timeout, give_up)


def _account(user: str | None, group: str | None) -> dict[str, Any]:
    """What subprocess takes to run something as somebody else. Raises KeyError when there is no such account."""
    import grp
    import pwd

    account: dict[str, Any] = {}
    if group is not None:
        account["group"] = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    if user is not None:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        account = {"group": entry.pw_gid, **account, "user": entry.pw_uid}
        if os.geteuid() == 0:
            account["extra_groups"] = os.getgrouplist(entry.pw_name, account["group"])
    return account


def _converse(command: "subprocess.Popen[bytes]", feed: bytes, timeout: float, give_up: int | None) -> CommandResult:
    try:
        exchange = _Exchange(command, feed, give_up)
        is_over = exchange.run(timeout)
    except OSError as error:
        # No descriptor left to watch it with; it is killed, and not waited for without a limit.
        return CommandResult(126, b"", str(error).encode(), error.errno in _OUR_LACK)
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

    def __init__(self, command: "subprocess.Popen[bytes]", feed: bytes, give_up: int | None) -> None:
        self._command = command
        self._feed = memoryview(feed)
        self._said: dict[int, bytearray] = {}
        self._give_up = give_up
        self._is_given_up = False
        self._selector = selectors.DefaultSelector()
        for stream in (command.stdout, command.stderr):
            assert stream is not None
            self._said[stream.fileno()] = bytearray()
            self._watch(stream, selectors.EVENT_READ)
        if command.stdin is not None:
            self._watch(command.stdin, selectors.EVENT_WRITE)
        if give_up is not None:
            self._selector.register(give_up, selectors.EVENT_READ)

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
                if left <= 0 or self._is_given_up:
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
            elif key.fd == self._give_up:
                self._is_given_up = True
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
        env = {name: value for name, value in os.environ.items() if name != MARK and name not in _OF_A_KEEPER}
        return spawn([SHELL, "-c", 'cd / && exec "$@"', "procclaw-detach", *argv], env, {1: log, 2: log})


def is_marked() -> bool:
    """Whether this process was started from within an attempt, and would be stopped together with it."""
    return MARK in os.environ


def reexec_without_mark(argv: Sequence[str]) -> NoReturn:
    """Become `argv` without the attempt's mark: it cannot be taken off a living process, whose environment shows it."""
    env = {name: value for name, value in os.environ.items() if name != MARK}
    os.execve(argv[0], list(argv), env)
