"""Signals: sent only to a process that was compared first, and received as bytes on a descriptor.

A pid may be given to another process at any moment. So a pidfd is opened, which pins down whoever has the pid now;
its start time is compared; and the signal goes through the pidfd. Without pidfds, comparison and `kill` follow each
other as closely as they can.
"""

import contextlib
import errno
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from procclaw.model.outside import Process
from procclaw.system.processes.shim import NAME
from procclaw.system.processes.table import Row, Table

_START_SECONDS = 0.25
"""How long a signal waits for a job that is just being started; a shim that takes longer remembers what it is sent."""
_POLL_SECONDS = 0.0005
_KEPT_DESCRIPTORS = 64
"""Below the soft limit, never used for watching."""
_TO_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9): the pidfd of a group's leader stands for the group."""
_NO_PIDFD = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV})


def signal_process(table: Table, process: Process, signum: int) -> bool:
    """True when the signal was sent: the process still lives, is the same one and may be signalled."""
    return _signal(table, process, signum, to_group=False) is not None


def signal_tree(
    table: Table, shim: Process | None, members: Sequence[Process], signum: int, is_group_ours: bool
) -> None:
    """Signal an attempt: its group at once, so that nobody forks out of reach, then who is outside of the group.

    SIGKILL goes to each member and never to the shim, which still has to write the exit code. A shim that is gone
    leaves a group that nobody leads: its members are signalled one by one, as in a group that is not ours alone.
    """
    leader = None
    if shim is not None and is_group_ours and signum != signal.SIGKILL:
        _wait_until_job_runs(table, shim)
        leader = _signal(table, shim, signum, to_group=True)
    for member in members:
        row = table.row(member.pid)
        if row is None or leader is None or row.group != leader.pid:
            row = _signal(table, member, signum, to_group=False)
        _wake(table, member, row)
    if shim is not None:
        _wake(table, shim, table.row(shim.pid))


def _wait_until_job_runs(table: Table, shim: Process) -> None:
    """Until the shim's subshell has become the job. Before, it may still have the shim's handlers, and a signal that
    they catch is lost on the job."""
    for _ in range(int(_START_SECONDS / _POLL_SECONDS)):
        row = table.row(shim.pid)
        if row is None or row.is_dead or row.start_ticks != shim.start_ticks or not _is_starting(shim.pid):
            return
        time.sleep(_POLL_SECONDS)


def _is_starting(shim: int) -> bool:
    """False as well where that cannot be told, as without /proc."""
    try:
        with open(f"/proc/{shim}/task/{shim}/children", "rb") as listing:
            children = listing.read().split()
        return not any(_has_become_another(child.decode()) for child in children)
    except OSError:
        return False


def _has_become_another(child: str) -> bool:
    with open(f"/proc/{child}/cmdline", "rb") as listing:
        arguments = listing.read().split(b"\0", 4)
    return arguments[3:4] != [NAME.encode()]


def _wake(table: Table, process: Process, row: Row | None) -> None:
    """A stopped process acts upon a signal, and a stopped shim records an ending, only when it is continued."""
    if row is not None and row.is_stopped:
        _signal(table, process, signal.SIGCONT, to_group=False)


def _signal(table: Table, process: Process, signum: int, to_group: bool) -> Row | None:
    """The row of the process that was signalled, as it was just before."""
    if process.pid <= 1 or process.pid == os.getpid():
        return None
    fd = open_pidfd(process.pid)
    try:
        row = table.row(process.pid)
        if row is None or row.is_dead or row.start_ticks != process.start_ticks:
            return None
        if fd is None or not _send_through(fd, signum, to_group):
            (os.killpg if to_group else os.kill)(process.pid, signum)
        return row
    except (ProcessLookupError, PermissionError):
        # Gone meanwhile; or not ours to signal, and then the next look at the attempt still names it.
        return None
    finally:
        if fd is not None:
            os.close(fd)


def _send_through(pidfd: int, signum: int, to_group: bool) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, signum, None, _TO_GROUP if to_group else 0)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EINVAL}:
            return False
        raise
    return True


def open_pidfd(pid: int) -> int | None:
    """A pidfd of whoever has the pid now; None when there is nobody or the system has none to give."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        if error.errno in _NO_PIDFD:
            return None
        raise


def open_exit_handle(table: Table, process: Process) -> int | None:
    """A descriptor that becomes readable when the process has ended. None: it is gone, or there are none here."""
    fd = open_pidfd(process.pid)
    if fd is None:
        return None
    if fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _KEPT_DESCRIPTORS:
        # Watching must not use up what signalling, looking and starting need: without those a stop reaches nobody.
        os.close(fd)
        return None
    row = table.row(process.pid)
    if row is None or row.start_ticks != process.start_ticks:
        os.close(fd)
        return None
    return fd


class SignalBytes:
    """Turns each signal that reaches us into a byte on `fd`, its number; nothing else happens."""

    def __init__(self, signums: Sequence[int]) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.settimeout(0)
        self._writing.settimeout(0)
        self._before = {signum: signal.signal(signum, _leave_it_to_the_bytes) for signum in signums}
        # A full pipe means that bytes are waiting already: nothing is lost that the next look would not find.
        self._fd_before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)

    @property
    def fd(self) -> int:
        return self._reading.fileno()

    def close(self) -> None:
        """Put back what was in force before."""
        signal.set_wakeup_fd(self._fd_before)
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._reading.close()
        self._writing.close()


def _leave_it_to_the_bytes(_signum: int, _frame: object) -> None:
    """A handler of Python's, so that the default (death, for most) is not what happens."""


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Being told to end, in whatever way, raises KeyboardInterrupt inside, so that what was begun is put away first.

    Only in the main thread.
    """
    before = _handled_by(signal.default_int_handler)
    try:
        yield
    finally:
        _put_back(before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Whoever tells us to end inside is heard afterwards."""
    heard: list[int] = []
    # Not by blocking them: they would come by way of any other thread there is.
    before = _handled_by(lambda signum, _frame: heard.append(signum))
    try:
        yield
    finally:
        _put_back(before)
        for signum in heard[:1]:
            signal.raise_signal(signum)


def _handled_by(handler: Callable[[int, FrameType | None], object]) -> dict[signal.Signals, Any]:
    return {signum: signal.signal(signum, handler) for signum in _ENDING}


def _put_back(before: Mapping[signal.Signals, Any]) -> None:
    for signum, handler in before.items():
        # One that was not set from Python is unknown to it.
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)
