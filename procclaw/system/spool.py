"""Directories whose files trigger jobs: what matches in them, and which of it is complete.

A file is settled when it has not changed for a while and nobody has it open for writing. The while is counted between
looks, by a clock that does not jump; a file whose own time is that long past needs no second look, so a single pass
from cron sees it too. Who writes is asked of the kernel where it tells (Linux); what it does not know (another host,
another user's file) goes by time alone. Earlier looks are remembered in memory only: forgotten, they cost a wait.

Links, pipes and directories are no files here, and what a directory contains further down is not looked at.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from signal import Signals
from typing import NamedTuple

from procclaw.model.clock import SystemClock
from procclaw.model.outside import FileSight, FilesSeen
from procclaw.model.spec import TriggerSpec, TriggerType

SETTLED_SECONDS = 2.0
"""Longer than a program pauses between two writes of one file, as a rule."""
_MOST_FILES = 1_000
"""New ones per look and job: each becomes a run, and a cycle is to stay short. The others' turn comes."""
_NANOSECONDS = 1_000_000_000


class _Found(NamedTuple):
    modified_ns: int
    name: str
    path: str
    identity: str


class Spool:
    def __init__(self, clock: SystemClock, network_file_system: Callable[[str], str | None]) -> None:
        """`network_file_system` names the one that a path is on, None for a local one."""
        self._clock = clock
        self._network_file_system = network_file_system
        self._first_seen: dict[str, dict[str, tuple[str, float]]] = {}
        """By job and path, the identity of a file and since when it has had that."""

    def look(self, job_id: str, triggers: Sequence[TriggerSpec], known: Mapping[str, str] | None = None) -> FilesSeen:
        known = known or {}
        found: dict[str, _Found] = {}
        problems: list[str] = []
        deleted: set[str] = set()
        for trigger in triggers:
            if trigger.type is TriggerType.FILE and trigger.watch_path is not None:
                matching = {file.path: file for file in _scan(trigger.watch_path, trigger.pattern, problems)}
                found |= matching
                if trigger.delete_after:
                    deleted |= matching.keys()
        old = [file for file in found.values() if known.get(file.path) == file.identity]
        new = sorted(file for file in found.values() if known.get(file.path) != file.identity)[:_MOST_FILES]
        self._remember(job_id, new)
        sights = [(file, True) for file in sorted(old)]
        sights += [(file, self._is_settled(job_id, file)) for file in new]
        files = (FileSight(file.path, file.identity, settled, file.path in deleted) for file, settled in sights)
        return FilesSeen(tuple(files), tuple(dict.fromkeys(problems)))

    def delete(self, path: str, identity: str) -> bool:
        # A file that takes its place between the look and the deletion, some microseconds, goes with it.
        try:
            if _identity(os.stat(path, follow_symlinks=False)) == identity:
                os.unlink(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _remember(self, job_id: str, files: Sequence[_Found]) -> None:
        at = self._clock.monotonic()
        before = self._first_seen.pop(job_id, {})
        now = {}
        for file in files:
            earlier = before.get(file.path)
            now[file.path] = (file.identity, at) if earlier is None or earlier[0] != file.identity else earlier
        if now:
            self._first_seen[job_id] = now

    def _is_settled(self, job_id: str, file: _Found) -> bool:
        unchanged_seconds = self._clock.monotonic() - self._first_seen[job_id][file.path][1]
        age_seconds = self._clock.now().timestamp() - file.modified_ns / _NANOSECONDS
        if unchanged_seconds < SETTLED_SECONDS and age_seconds < SETTLED_SECONDS:
            return False
        return not self._is_being_written(file)

    def _is_being_written(self, file: _Found) -> bool:
        """Whether somebody has it open for writing, as far as can be told; or it is no longer what was found."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(file.path, flags)
        except (FileNotFoundError, BlockingIOError):
            # Gone; or a file server has leased it to somebody for writing.
            return True
        except OSError:
            return False  # not ours to read
        try:
            if _identity(os.fstat(fd)) != file.identity:
                return True
            # There a lease is refused to all but who has leased the file from the server in turn: no sign of a writer.
            return _is_lease_refused(fd) and self._network_file_system(file.path) is None
        finally:
            os.close(fd)


def _scan(watch_path: str, pattern: str, problems: list[str]) -> Iterator[_Found]:
    directory = os.path.normpath(os.path.join(os.path.expanduser("~"), os.path.expanduser(watch_path)))
    unreadable_names = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not fnmatchcase(entry.name, pattern) or (entry.name.startswith(".") and not pattern.startswith(".")):
                    continue
                if not _is_text(entry.name):
                    unreadable_names += 1
                    continue
                # One that is gone again was no file that stays.
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield _Found(status.st_mtime_ns, entry.name, entry.path, _identity(status))
    except OSError as error:
        problems.append(f"{directory}: {(error.strerror or str(error)).lower()}")
    if unreadable_names:
        problems.append(f"{directory}: {unreadable_names} files are ignored, their names are not UTF-8")


def _is_text(name: str) -> bool:
    # What is no UTF-8 could neither be recorded nor shown.
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identity(status: os.stat_result) -> str:
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _is_lease_refused(fd: int) -> bool:
    """Whether the kernel refuses a lease because somebody has the file open for writing; False where it cannot tell."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # Somebody may open the file for writing in the moment we have the lease. The kernel then tells us with SIGIO,
        # which would kill us, F_SETOWN 0 or not (tried); so it is told to use SIGURG, which is ignored by default. That
        # somebody waits until the lease is given back; only who opens with O_NONBLOCK is refused, and that for 20 µs.
        fcntl.fcntl(fd, fcntl.F_SETSIG, Signals.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        # Anything else: another user's file, or a file system without leases.
        return error.errno == errno.EAGAIN
    return False
