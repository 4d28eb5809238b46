"""What a job may be beyond what we are: another account, another niceness.

Both are settled before anything of the job's own is executed, its environment included: under that (LD_PRELOAD, say)
nothing may run with our account that the job is not to have.

A larger niceness is had by running the command under `nice`, which execs it. A smaller one takes privileges that the
job's account may lack, so the thread that spawns takes it on for that moment. Linux weighs the processes of a session
against each other by their niceness, and sessions against sessions by one that each session has besides ("autogroup",
the default of most distributions): without setting that, a job, in its session of its own, would yield to nobody.
"""

import contextlib
import grp
import os
import pwd
from collections.abc import Iterator
from typing import NamedTuple

from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Process
from procclaw.system.processes.table import Table

_USUAL_PLACES = ("/usr/bin", "/bin")


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...] | None
    """Supplementary groups; None: as we have them."""


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """Who a job of this user and group (names or numbers) has to become; None: whom we are already.

    Raises ProcclawError when there is no such account or group, or when we cannot become it.
    """
    own_uid, own_gid = os.geteuid(), os.getegid()
    account = None if user is None else _account(user)
    gid = own_gid if group is None else _gid(group)
    if account is None or account.pw_uid == own_uid:
        if gid == own_gid:
            return None
        identity = Identity(own_uid, gid, None)
    else:
        gid = account.pw_gid if group is None else gid
        identity = Identity(account.pw_uid, gid, tuple(os.getgrouplist(account.pw_name, gid)))
    if own_uid != 0:
        what = f'user "{user}"' if identity.uid != own_uid else f'group "{group}"'
        raise ProcclawError(f"{what}: only root can start a process as somebody else, and we are user {own_uid}")
    return identity


def _account(user: str) -> pwd.struct_passwd:
    with contextlib.suppress(KeyError, ValueError):
        return pwd.getpwnam(user)
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        return pwd.getpwuid(int(user))
    if user == str(os.geteuid()):
        # A container's number without an entry.
        return pwd.struct_passwd((user, "", os.geteuid(), os.getegid(), "", "/", ""))
    raise ProcclawError(f'user "{user}": no such account')


def _gid(group: str) -> int:
    with contextlib.suppress(KeyError, ValueError):
        return grp.getgrnam(group).gr_gid
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        return grp.getgrgid(int(group)).gr_gid
    if group == str(os.getegid()):
        return os.getegid()
    raise ProcclawError(f'group "{group}": no such group')


@contextlib.contextmanager
def at_niceness(wanted: int | None) -> Iterator[tuple[str, ...]]:
    """For spawning inside: gives what to put before the command so that it runs at this niceness.

    Raises ProcclawError when that is below ours and we may not go there. On Linux a niceness is a thread's own, and a
    process is born with that of the thread which spawns it, so nobody else of us notices.
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if wanted is None or wanted == own:
        yield ()
    elif wanted > own:
        yield (_nice_program(), "-n", str(wanted - own), "--")
    else:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, wanted)
        except PermissionError:
            raise ProcclawError(f"nice {wanted}: takes privileges that we lack; our own niceness is {own}") from None
        try:
            yield ()
        finally:
            os.setpriority(os.PRIO_PROCESS, 0, own)


def _nice_program() -> str:
    for directory in (*_USUAL_PLACES, *os.get_exec_path()):
        path = os.path.join(directory, "nice")
        if os.path.isabs(path) and os.access(path, os.X_OK):
            return path
    raise ProcclawError('nice: this system has no program "nice"')


class SessionNiceness:
    """The niceness of whole sessions. As far as it can be had: where it cannot, the processes' own still is."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._due: dict[Process, int] = {}

    def set(self, leader: Process, niceness: int) -> None:
        self._due[leader] = niceness
        self.settle()

    def settle(self) -> None:
        """Without privileges the kernel allows one change each tenth of a second, of whatever session: some wait."""
        for leader, niceness in tuple(self._due.items()):
            row = self._table.row(leader.pid)
            if row is not None and row.start_ticks == leader.start_ticks:
                try:
                    _write(f"/proc/{leader.pid}/autogroup", niceness)
                except BlockingIOError:
                    return
                except OSError:
                    # No such thing on this system, or not ours to set.
                    pass
            del self._due[leader]


def _write(path: str, niceness: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # A file object would keep quiet about EAGAIN.
        os.write(fd, b"%d" % niceness)
    finally:
        os.close(fd)
