"""Starting an attempt's process, at most once, so that it owes nothing to the process that started it.

What a spawned process has of us is exactly what is written here: three standard descriptors (the shim also its record
and, where its job has one, the lock), a session of its own, the default signals, the environment it was given and the
descriptor limit from before we raised ours. Every other descriptor is close-on-exec: `posix_spawn` itself closes
nothing.

`posix_spawn` cannot change the account. `subprocess` can, without running any Python between fork and exec; but it
renumbers no descriptors beyond the standard three, which is why the shim then finds its record as stdin.
"""

import contextlib
import errno
import fcntl
import os
import pkgutil
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Launch, LaunchRefused
from procclaw.model.reasons import Reason
from procclaw.model.secret import revealed_all
from procclaw.system.processes.privileges import Identity
from procclaw.system.processes.records import NO_SPACE
from procclaw.system.processes.shim import RECORD_FD, shim_argv
from procclaw.system.processes.table import MARK

_FIRST_SAFE_FD = 10
"""Descriptors below are targets of the file actions; a source among them could be overwritten before its turn."""
LOCK_FD = 77
"""The number of a job's lock in its processes, or one further up: clear of what scripts use (0 to 9 are all that dash
can name, bash saves from 10 on and hands out from 63 down), and below any sane limit on descriptors."""
_MOST_DESCRIPTORS = 1 << 17
"""Enough for a pidfd per job, and small enough that a program which walks all possible descriptors still ends."""
_RELAY_RECORD_FD = 4
_OUR_LACK = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_DEFAULTED = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_DEFAULTED_BY_SUBPROCESS = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Python itself ignores these."""


class DescriptorLimit:
    """The soft limit on open descriptors: ours is raised, a job's stays what it was when we started."""

    def __init__(self) -> None:
        self._original = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def raise_for_us(self) -> int:
        """Raise ours as far as it may go and return it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
        # macOS calls its hard limit infinite and refuses more than 10,240.
        for wanted in (most, 10_240):
            if soft != resource.RLIM_INFINITY and soft < wanted:
                try:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                    return wanted
                except (OSError, ValueError):
                    continue
        return soft

    def restore(self) -> None:
        """Back to what it was: a process that we become by exec would take ours for the original."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._original, hard))

    def for_jobs(self) -> str:
        """What `ulimit -Sn` shall set in a job; empty when nothing was raised."""
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] == self._original:
            return ""
        return "unlimited" if self._original == resource.RLIM_INFINITY else str(self._original)


class Descriptors:
    """Descriptors that are closed together."""

    def __init__(self) -> None:
        self._open: list[int] = []

    def __enter__(self) -> "Descriptors":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open:
            os.close(fd)

    def keep(self, fd: int) -> int:
        """`fd`, or its copy clear of the numbers that a spawned process is given."""
        if fd < _FIRST_SAFE_FD:
            try:
                copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_SAFE_FD)
            finally:
                os.close(fd)
            fd = copy
        self._open.append(fd)
        return fd

    def copy(self, fd: int, above: int) -> int:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above + 1)
        self._open.append(copy)
        return copy

    def log(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return self.keep(os.open(path, flags, 0o600))
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return self.keep(os.open(path, flags, 0o600))

    def pipe(self) -> tuple[int, int]:
        reading, writing = os.pipe()
        return self.keep(reading), self.keep(writing)


def spawn(argv: Sequence[str], env: dict[str, str], descriptors: Mapping[int, int]) -> int:
    """Start a process with `descriptors` (its number: our number) and /dev/null as stdin where none is given."""
    # In the order of its numbers: whatever is overwritten at the last and largest has been used before.
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in sorted(descriptors.items())]
    if 0 not in descriptors:
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    return os.posix_spawn(
        argv[0], list(argv), env, file_actions=actions, setsid=True, setsigdef=_DEFAULTED, setsigmask=[]
    )


def spawn_shim(
    launch: Launch, mark: str, descriptors: Mapping[int, int], soft_descriptors: str, identity: Identity | None
) -> int:
    """Start the shim with `descriptors` (its number: our number) as `identity`, or as whom we are."""
    env = {**revealed_all(launch.env), MARK: mark}
    if identity is None:
        return spawn(shim_argv(launch.cwd, soft_descriptors, launch.umask, launch.argv), env, descriptors)
    argv = shim_argv(launch.cwd, soft_descriptors, launch.umask, launch.argv, is_record_stdin=True)
    return _spawn_as(identity, argv, env, descriptors)


def _spawn_as(identity: Identity, argv: Sequence[str], env: dict[str, str], descriptors: Mapping[int, int]) -> int:
    import subprocess

    for output in (descriptors[1], descriptors[2]):
        # So that the job may open /dev/stdout and /dev/stderr, as scripts do. A Mac has pipes that nobody owns.
        with contextlib.suppress(OSError):
            os.fchown(output, identity.uid, -1)
    try:
        with _passing_on_default_signals():
            child = subprocess.Popen(
                argv,
                stdin=descriptors[RECORD_FD],
                stdout=descriptors[1],
                stderr=descriptors[2],
                pass_fds=[ours for its, ours in descriptors.items() if its == LOCK_FD],
                # Where we stand may be nowhere that the account can be.
                cwd="/",
                env=env,
                start_new_session=True,
                user=identity.uid,
                group=identity.gid,
                extra_groups=identity.groups,
            )
    except PermissionError as error:
        # Root in a container may lack the right to become another.
        what = f"starting {argv[0]} as user {identity.uid}, group {identity.gid}"
        raise ProcclawError(f"{what}: {error.strerror}") from error
    # It is waited for by `children`; whoever forgets a Popen that knows no end would have it waited for by the next.
    child.returncode = 0
    return child.pid


@contextlib.contextmanager
def _passing_on_default_signals() -> Iterator[None]:
    """What is executed inside has the default signals, which `subprocess` sees to for two of them alone.

    A signal that we ignore would stay ignored, one that we catch does not: so each is caught for that moment, and still
    nothing happens. As all of Python's handlers these can be set in the main thread only; elsewhere that raises
    ValueError, if anything is ignored at all.
    """
    ignored = [
        number
        for number in _DEFAULTED
        if number not in _DEFAULTED_BY_SUBPROCESS and signal.getsignal(number) is signal.SIG_IGN
    ]
    with contextlib.ExitStack() as stack:
        stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_SETMASK, ()))
        for number in ignored:
            stack.callback(signal.signal, number, signal.signal(number, _nothing))
        yield


def _nothing(_number: int, _frame: object) -> None:
    pass


class Relay:
    """The process beside a job with `log.timestamps` that writes its output to the logs."""

    def __init__(self) -> None:
        self._source: str | None = None

    def read_ahead(self) -> str:
        """The relay's program; read once, because the .pyz it comes from may be replaced while we run."""
        if self._source is None:
            source = pkgutil.get_data("procclaw.system", "relay.py")
            if source is None:
                raise FileNotFoundError(errno.ENOENT, "the timestamp relay is missing from the package")
            self._source = source.decode()
        return self._source

    def spawn(self, launch: Launch, mark: str, record: int, descriptors: Descriptors) -> tuple[int, int, int]:
        """Its pid, and the writing ends for the job's stdout and stderr. It ends when nobody holds those any more."""
        stdout, job_stdout = descriptors.pipe()
        stderr, job_stderr = descriptors.pipe()
        null = descriptors.keep(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        argv = [sys.executable, "-I", "-S", "-c", self.read_ahead(), launch.stdout, launch.stderr]
        # A mark that no attempt has: neither a stop of this attempt nor of one that we ourselves run in ends the relay.
        env = {MARK: f"relay-{mark}"}
        pid = spawn(argv, env, {0: stdout, 1: null, 2: null, 3: stderr, _RELAY_RECORD_FD: record})
        return pid, job_stdout, job_stderr


def refusal(error: OSError | ValueError | ProcclawError) -> LaunchRefused:
    """Why an attempt did not start, and whose fault that is."""
    number = error.errno if isinstance(error, OSError) else None
    what = str(error) if number is None else os.strerror(number)
    if isinstance(error, OSError) and error.filename:
        what = f"{os.fsdecode(error.filename)}: {what}"
    if number in NO_SPACE:
        return LaunchRefused(Reason.NO_DISK, what, is_ours=True)
    if number in _OUR_LACK:
        return LaunchRefused(Reason.NO_RESOURCES, what, is_ours=True)
    if number == errno.E2BIG:
        what = "the command and its environment are larger than the system passes to a process"
    return LaunchRefused(Reason.NOT_STARTED, what, is_ours=False)


def close_on_exec() -> None:
    """Mark whatever descriptors we inherited, so that no job inherits them in turn."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)  # noqa: FBT003
            except OSError:
                # The descriptor of the listing itself, closed since.
                continue
