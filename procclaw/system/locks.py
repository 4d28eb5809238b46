"""The locks that jobs ask for: the kernel's, each on a file that is never deleted.

A lock belongs to the open file description (flock). Whoever inherits the descriptor holds it, so it is free exactly
when the last process of its holder is gone, whatever becomes of us. In between it is in our hand, from `look` to
`let_go`, so that nobody takes it between the decision to start a job and the start. What a lock file says is for
people, but for the fencing token: that is always above every earlier one, even if somebody emptied or removed the file.

The sqlite provider has a book besides (order, holder, token); what opens it is handed in. A claim without path is for
the directory `locks` in the home; in a directory each lock has a file by its name, and one book serves all.
"""

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from procclaw.model.clock import SystemClock, to_microseconds
from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.model.outside import LONGEST_HOLDER, LockClaim, LockSight
from procclaw.model.spec import LockProvider

_TRIES = 20
"""Each further one means that somebody replaced the file at that very moment."""
_TOLD_BYTES = 512
"""One sector, so it is written wholly or not at all; and in place, where it takes no more space on a full disk. The
longest words about a holder fit, even if each character has to be escaped.
"""
_MOST_TOKEN = 1 << 62
VOUCH_SECONDS = 300.0
"""How often a book is told that a holder still lives: three times before others stop to believe it."""


class Book(Protocol):
    """See `store/lockbook`."""

    def ask(self, claim: LockClaim, is_unlocked: bool, now: datetime) -> LockSight: ...
    def hand_over(self, claim: LockClaim, holder: str, now: datetime) -> int: ...
    def given(self) -> Mapping[str, int]: ...
    def vouch(self, name: str, token: int, now: datetime) -> None: ...
    def give_back(self, name: str, token: int) -> None: ...
    def close(self) -> None: ...


class _Place(NamedTuple):
    file: str
    """What the kernel locks."""
    book: str | None


class _Taken(NamedTuple):
    claim: LockClaim
    fd: int
    place: _Place
    is_handed_over: bool = False


class _Given(NamedTuple):
    """A lock of a shared book that one of our attempts has, for all we know."""

    token: int
    vouched_at: float
    """Monotonic."""


class Locks:
    def __init__(self, home: str, clock: SystemClock, open_book: Callable[[str], Book]) -> None:
        """`open_book` is given the book's path, and raises ProcclawError or OSError where there is no using it."""
        self._home = home
        self._clock = clock
        self._open_book = open_book
        self._taken: dict[str, _Taken] = {}
        self._books: dict[str, Book] = {}
        self._read_books: set[str] = set()
        self._given: dict[tuple[str, str], _Given] = {}

    def look(self, claims: Sequence[LockClaim]) -> Mapping[str, LockSight]:
        """Without claims it only tells shared books what became of the locks that this home gave out."""
        self.let_go()
        self._report_given()
        sights: dict[str, LockSight] = {}
        for claim in claims:
            if claim.lock not in sights:
                sights[claim.lock] = self._try(claim)
        return sights

    def hand_over(self, lock: str, holder: str) -> tuple[int, int]:
        """Raises DiskFull or another ProcclawError, and nothing is handed over then."""
        taken = self._taken[lock]
        assert not taken.is_handed_over
        words = _bounded(f"{holder}, home {self._home}")
        if taken.place.book is None:
            token = _write_down(taken, words, self._clock.now())
        else:
            token = self._books[taken.place.book].hand_over(taken.claim, words, self._clock.now())
            if taken.claim.path is not None:
                self._given[taken.place.book, taken.claim.name] = _Given(token, self._clock.monotonic())
        # If we die here: the lock is free again with our descriptor, and the next token is above the one just used up.
        self._taken[lock] = taken._replace(is_handed_over=True)
        return taken.fd, token

    def let_go(self) -> None:
        for taken in self._taken.values():
            if taken.is_handed_over:
                os.close(taken.fd)
            else:
                _unlock(taken.fd)
        self._taken.clear()
        for book in self._books.values():
            book.close()
        self._books.clear()

    def _try(self, claim: LockClaim) -> LockSight:
        try:
            return self._sight(claim)
        except OSError as error:
            return LockSight(is_free=False, holder=_said(error))
        except ProcclawError as error:
            return LockSight(is_free=False, holder=str(error))

    def _sight(self, claim: LockClaim) -> LockSight:
        place = self._place(claim)
        fd, is_unlocked = _try_lock(place.file)
        try:
            if place.book is not None:
                sight = self._book(place.book, claim.path is not None).ask(claim, is_unlocked, self._clock.now())
            elif is_unlocked:
                sight = LockSight(is_free=True)
            else:
                sight = LockSight(is_free=False, holder=_parse(os.pread(fd, _TOLD_BYTES, 0))[1])
            if sight.is_free:
                self._taken[claim.lock] = _Taken(claim, fd, place)
                fd = -1
            return sight
        finally:
            if fd >= 0:
                _unlock(fd)

    def _place(self, claim: LockClaim) -> _Place:
        path = claim.path
        if path is None:
            path = os.path.join(self._home, "locks")
            os.makedirs(path, mode=0o700, exist_ok=True)
        path = os.path.join(self._home, os.path.expanduser(path))
        is_directory = os.path.isdir(path)
        if claim.provider is LockProvider.FILE:
            return _Place(os.path.join(path, f"{claim.name}.lock") if is_directory else path, None)
        book = os.path.join(path, "locks.db") if is_directory else path
        return _Place(_file_beside(book, claim.name), book)

    def _book(self, path: str, is_shared: bool) -> Book:
        if path not in self._books:
            self._books[path] = self._open_book(path)
            if is_shared and path not in self._read_books:
                # What this home gave out before we were started.
                for name, token in self._books[path].given().items():
                    self._given.setdefault((path, name), _Given(token, -VOUCH_SECONDS))
                self._read_books.add(path)
        return self._books[path]

    def _report_given(self) -> None:
        for (path, name), given in tuple(self._given.items()):
            # A book that is out of reach is told at the next look.
            with contextlib.suppress(OSError, ProcclawError):
                self._report(path, name, given)

    def _report(self, path: str, name: str, given: _Given) -> None:
        fd, is_gone = _try_lock(_file_beside(path, name))
        _unlock(fd)
        at = self._clock.monotonic()
        if is_gone:
            self._book(path, is_shared=True).give_back(name, given.token)
            del self._given[path, name]
        elif at - given.vouched_at >= VOUCH_SECONDS:
            self._book(path, is_shared=True).vouch(name, given.token, self._clock.now())
            self._given[path, name] = given._replace(vouched_at=at)


def _file_beside(book: str, name: str) -> str:
    return f"{book}.{name}.lock"


def _try_lock(path: str) -> tuple[int, bool]:
    """A new description of the file that the path names, and whether the lock is ours through it."""
    for _ in range(_TRIES):
        fd = _open(path)
        try:
            is_ours = _flock(fd, path)
            # A file replaced between opening and locking is not the one that the next who asks will find.
            if _is_at(path, fd):
                kept, fd = fd, -1
                return kept, is_ours
        finally:
            if fd >= 0:
                os.close(fd)
    raise OSError(errno.EAGAIN, "is replaced again and again", path)


def _open(path: str) -> int:
    # Open for writing, without which NFS gives no exclusive lock. Not with O_CREAT alone: in a directory like /tmp that
    # is refused for a file of somebody else's.
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    raise OSError(errno.EAGAIN, "comes and goes", path)


def _flock(fd: int, path: str) -> bool:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    return True


def _unlock(fd: int) -> None:
    # Said aloud: a process that is just being started has a copy of the descriptor until its exec.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _is_at(path: str, fd: int) -> bool:
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def _write_down(taken: _Taken, holder: str, now: datetime) -> int:
    try:
        last = _parse(os.pread(taken.fd, _TOLD_BYTES, 0))[0]
        # Where nothing is known, from the clock on: so it rises even if somebody deleted the file.
        token = to_microseconds(now) if last is None else last + 1
        told = json.dumps({"token": token, "holder": holder}, ensure_ascii=False).encode()
        os.pwrite(taken.fd, told.ljust(_TOLD_BYTES - 1) + b"\n", 0)
        os.ftruncate(taken.fd, _TOLD_BYTES)
        # A token that a job has seen must survive a power failure.
        os.fsync(taken.fd)
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else ProcclawError
        raise kind(f"lock file {taken.place.file}: {_said(error)}") from error
    return token


def _parse(told: bytes) -> tuple[int | None, str]:
    """Token and holder; None and nothing of a file that says something else."""
    try:
        said = json.loads(told)
        token, holder = said["token"], said["holder"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, ""
    if type(token) is not int or not 0 <= token < _MOST_TOKEN or not isinstance(holder, str):
        return None, ""
    return token, holder


def _bounded(words: str) -> str:
    printable = "".join(character if character.isprintable() else "?" for character in words)
    return printable.encode(errors="replace")[:LONGEST_HOLDER].decode(errors="ignore")


def _said(error: OSError) -> str:
    what = (error.strerror or str(error)).lower()
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"
