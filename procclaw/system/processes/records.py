"""Records: one small file per attempt, through which anybody learns whether its shim lives and how it ended.

A record is 128 bytes that are on disk before the attempt is announced, so that writing the ending needs no space. The
shim holds a flock on it for as long as it lives and overwrites it in place: a line with its pid, one with the job's own
pid where the system tells it, one with three digits of exit code (or `cwd`, when it could not change to the job's
directory), and what the shell's `times` prints.

The directory may hold anything else as well: what has not a record's name, or is no plain file, is nobody's business
here. Contents are believed only as far as they prove something. The shim writes its pid before anything else, so
whatever is not blank was started; an unreadable pid is no pid, an unreadable code is no code, and such a record reads
as lost (or as locked, while it is). Nothing that a record may hold raises.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from datetime import datetime
from typing import NamedTuple

from procclaw.model.clock import from_microseconds, to_microseconds
from procclaw.model.errors import DiskFull, ProcclawError, in_words
from procclaw.model.outside import RecordPhase, Sight

SIZE = 128
NEWEST = "newest"
"""Beside the records: when the reconciler last committed. A database older than that was restored from a backup."""
_BLANK = b" " * SIZE
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.[a-z0-9]+\.[1-9][0-9]{0,8}\.[0-9a-f]{32}")
"""Job, run, number and mark."""
_NO_RECORD = frozenset({errno.ENOENT, errno.ELOOP, errno.EACCES, errno.ENXIO, errno.ENOTDIR})
"""Nothing is there, or something that is no record of ours: a link, a socket, what we may not read."""
_LOCK_TRIES = 50
_LOCK_PAUSE_SECONDS = 0.001
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Contents(NamedTuple):
    """What a record's bytes prove."""

    is_blank: bool
    pid: int | None = None
    job_pid: int | None = None
    exit_code: int | None = None
    is_cwd_failure: bool = False
    cpu_seconds: float | None = None
    is_complete: bool = False
    """All that the shim writes is there."""


class Records:
    def __init__(self, directory: str) -> None:
        self._directory = directory

    def create(self, record: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self._path(record)
        try:
            fd = _open_making_directory(path, flags)
        except FileExistsError:
            return
        except OSError as error:
            raise _told(error, record) from error
        try:
            _write_fully(fd, _BLANK)
        except OSError as error:
            os.unlink(path)
            raise _told(error, record) from error
        finally:
            os.close(fd)

    def remove(self, record: str) -> None:
        """What is no file of ours is left where it is."""
        try:
            os.unlink(self._path(record))
        except OSError as error:
            if error.errno not in _NO_RECORD | {errno.EISDIR, errno.EPERM}:
                raise

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(entry.name for entry in self._entries() if _is_record(entry)))

    def foreign(self) -> tuple[str, ...]:
        return tuple(sorted(each.name for each in self._entries() if each.name != NEWEST and not _is_record(each)))

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._directory) as entries:
                return list(entries)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ProcclawError(f"{self._directory}: {in_words(error)}; move away what is there") from error

    def sight(self, record: str) -> Sight:
        fd = self._opened(record, os.O_RDONLY)
        if fd is None:
            return Sight(RecordPhase.MISSING)
        try:
            # Shared, so that two who look at once do not take each other for life; and the lock first, because what is
            # read after it was granted is final.
            is_locked = not _try_lock(fd, fcntl.LOCK_SH)
            contents = parse(os.pread(fd, SIZE, 0))
            return _sight(contents, is_locked, os.fstat(fd).st_mtime_ns)
        finally:
            os.close(fd)

    def is_held_open(self, record: str, descriptor: str) -> bool:
        """Whether a descriptor of some process, as /proc names it, is this record."""
        try:
            return os.path.samestat(os.stat(descriptor), os.stat(self._path(record), follow_symlinks=False))
        except PermissionError:
            return True  # of another account, and the system keeps it from us: then there is but the record's word
        except OSError:
            return False

    def claim(self, record: str) -> int | None:
        """A descriptor that holds a blank record exclusively; None when it is not blank, or held, or gone."""
        fd = self._opened(record, os.O_RDWR)
        if fd is None:
            return None
        try:
            # A record without a name is one that was removed since; whoever started it now could never be found.
            if _lock_exclusively(fd) and os.fstat(fd).st_nlink and parse(os.pread(fd, SIZE, 0)).is_blank:
                claimed, fd = fd, -1
                return claimed
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def _opened(self, record: str, flags: int) -> int | None:
        """None: there is no such record."""
        try:
            # Non-blocking: a FIFO under this name would keep us waiting for its other end.
            fd = os.open(self._path(record), flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except IsADirectoryError:
            return None
        except OSError as error:
            if error.errno in _NO_RECORD:
                return None
            raise
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def note_commit(self, at: datetime) -> None:
        """In place and without a sync: a note that is lost or torn only fails to warn."""
        text = f"{to_microseconds(at):020}\n".encode()
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(self._path(NEWEST), flags, 0o600)
            try:
                os.pwrite(fd, text, 0)
            finally:
                os.close(fd)

    def noted_commit(self) -> datetime | None:
        try:
            fd = self._opened(NEWEST, os.O_RDONLY)
        except OSError:
            return None
        if fd is None:
            return None
        try:
            text = os.pread(fd, 32, 0)
        finally:
            os.close(fd)
        try:
            return from_microseconds(int(text)) if re.fullmatch(rb"\d{20}\n", text) else None
        except OverflowError:
            return None

    def _path(self, record: str) -> str:
        return os.path.join(self._directory, record)


def _is_record(entry: "os.DirEntry[str]") -> bool:
    return _NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


_WRITTEN = re.compile(rb"([1-9]\d{0,9}) *\n(?:job ([1-9]\d{0,9}) *\n)?(?:(\d{3}|cwd)\n(.*))?", re.DOTALL)
_LAST_SIGNAL = 64
_SPENT = re.compile(rb"(\d+)m(\d+)(?:[.,](\d+))?s")


def parse(contents: bytes) -> Contents:
    if not contents.strip(b" \0"):
        return Contents(is_blank=True)
    written = _WRITTEN.match(contents)
    # Signalling pid 0 or 1 would be a catastrophe, so no record may name them.
    if written is None or not 1 < int(written[1]) < 2**31:
        return Contents(is_blank=False)
    pid, ending, rest = int(written[1]), written[3], written[4]
    job_pid = None if written[2] is None else int(written[2])
    if ending is None:
        return Contents(is_blank=False, pid=pid, job_pid=job_pid)
    if ending == b"cwd":
        return Contents(is_blank=False, pid=pid, is_cwd_failure=True, is_complete=True)
    exit_code = _as_posix_shells_count(int(ending))
    if exit_code is None:
        return Contents(is_blank=False, pid=pid, job_pid=job_pid)
    lines = rest.split(b"\n")
    return Contents(
        is_blank=False,
        pid=pid,
        exit_code=exit_code,
        cpu_seconds=_cpu_seconds(lines[1]) if len(lines) > 2 else None,
        is_complete=len(lines) > 2,
    )


def _as_posix_shells_count(code: int) -> int | None:
    """Death by signal n as 128+n: ksh93 reports 256+n and yash 384+n. None: no shell reports that."""
    if code < 256:
        return code
    signum = code - 384 if code >= 384 else code - 256
    return 128 + signum if 0 < signum <= _LAST_SIGNAL else None


def _cpu_seconds(line: bytes) -> float | None:
    """User and system time of everything the shell waited for: the second line of `times`."""
    spent = _SPENT.findall(line)
    if len(spent) != 2:
        return None
    return sum(int(minutes) * 60 + float(b"%s.%s" % (seconds, part or b"0")) for minutes, seconds, part in spent)


def _sight(contents: Contents, is_locked: bool, mtime_ns: int) -> Sight:
    has_ended = contents.exit_code is not None or contents.is_cwd_failure
    # Between its two writes the shim has told its code but not yet the times: a moment later it has told all.
    if is_locked and not (has_ended and contents.is_complete):
        return Sight(RecordPhase.LOCKED, pid=contents.pid, job_pid=contents.job_pid)
    if contents.is_blank:
        return Sight(RecordPhase.BLANK)
    if not has_ended:
        return Sight(RecordPhase.LOST, pid=contents.pid)
    return Sight(
        phase=RecordPhase.FAILED_CWD if contents.is_cwd_failure else RecordPhase.EXITED,
        pid=contents.pid,
        exit_code=contents.exit_code,
        exited_at=from_microseconds(mtime_ns // 1000),
        cpu_seconds=contents.cpu_seconds,
        is_draining=is_locked,
    )


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_exclusively(fd: int) -> bool:
    """False when somebody holds it who is not merely looking."""
    for _ in range(_LOCK_TRIES):
        if _try_lock(fd, fcntl.LOCK_EX):
            return True
        # A look holds the lock for microseconds; only a launch or a shim holds it against other looks.
        if not _try_lock(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_LOCK_PAUSE_SECONDS)
    return False


def _open_making_directory(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_fully(fd: int, contents: bytes) -> None:
    while contents:
        contents = contents[os.write(fd, contents) :]


def _told(error: OSError, record: str) -> Exception:
    if error.errno in NO_SPACE:
        return DiskFull(f'the record "{record}" cannot be made: {error.strerror}')
    return ProcclawError(f'the record "{record}" cannot be made: {in_words(error)}')
