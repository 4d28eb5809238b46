"""The lock of a home: whoever holds it reconciles, and nobody else does.

The lock is the kernel's (flock), so it is free at the moment its holder dies. What the file says is for people and for
asking the holder to go: it may be stale, and counts only while the lock is held.
"""

import contextlib
import fcntl
import json
import os
import stat
import time
from typing import NamedTuple

from procclaw.model.errors import ProcclawError, in_words

_TRIES = 50
_PAUSE_SECONDS = 0.001
_MOST_BYTES = 4096
_TOLD_BYTES = 128
"""Always as many: what is overwritten in place needs no space on a full disk."""


class Holder(NamedTuple):
    """Who holds the lock, as far as the file tells."""

    pid: int | None
    start_ticks: int | None
    role: str
    is_up: bool = False
    """It has begun to do what it took the lock for."""


_UNREADABLE = Holder(None, None, "")


class HomeLock:
    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def try_acquire(self, holder: Holder) -> bool:
        """Take the lock if nobody has it, and write down who has it now; True as well when it is ours already.

        Raises ProcclawError where there can be none.
        """
        if self._fd is not None and self.is_current():
            return True
        self.release()
        fd = self._opened(os.O_RDWR | os.O_CREAT)
        if not _lock_exclusively(fd) or not _is_at(self._path, fd):
            # Refused; or the file was replaced between opening and locking, and whoever did that has the better claim.
            os.close(fd)
            return False
        self._fd = fd
        self.tell(holder)
        return True

    def _opened(self, flags: int) -> int:
        """Raises FileNotFoundError, and ProcclawError for what is no file that we may lock."""
        try:
            # Non-blocking: a FIFO in its place would keep us waiting for its other end.
            fd = os.open(self._path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unfit(in_words(error)) from error
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        raise self._unfit("is no ordinary file")

    def _unfit(self, why: str) -> ProcclawError:
        return ProcclawError(f"{self._path}: {why}; check what is there, its owner and the disk")

    def tell(self, holder: Holder) -> None:
        """Write down who has it, for those who ask; only while it is ours."""
        assert self._fd is not None
        # Where the disk was full from the first the file says nothing; the lock is held all the same.
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, json.dumps(holder._asdict()).encode().ljust(_TOLD_BYTES - 1) + b"\n", 0)
            os.ftruncate(self._fd, _TOLD_BYTES)

    def is_current(self) -> bool:
        """Whether the path still names the file we hold: otherwise somebody else may hold the home by now."""
        return self._fd is not None and _is_at(self._path, self._fd)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def holder(self) -> Holder | None:
        """Who holds it, whether us or another; None when nobody does."""
        try:
            fd = self._opened(os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return None if _try_lock(fd, fcntl.LOCK_SH) else _parse(os.pread(fd, _MOST_BYTES, 0))
        finally:
            os.close(fd)


def _parse(text: bytes) -> Holder:
    try:
        told = json.loads(text)
        pid, start_ticks, role = told["pid"], told["start_ticks"], told["role"]
    except (ValueError, KeyError, TypeError):
        return _UNREADABLE
    if not isinstance(role, str) or not isinstance(pid, int) or not isinstance(start_ticks, int) or pid < 1:
        return _UNREADABLE
    return Holder(pid, start_ticks, role, told.get("is_up") is True)


def _is_at(path: str, fd: int) -> bool:
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_exclusively(fd: int) -> bool:
    for _ in range(_TRIES):
        if _try_lock(fd, fcntl.LOCK_EX):
            return True
        # Who merely asks for the holder has it shared, for microseconds; that must not look like a holder.
        if not _try_lock(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_PAUSE_SECONDS)
    return False
