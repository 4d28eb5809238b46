"""The book of locks: who holds each, who waits and in which order, and the fencing token, for all homes that share it.

Whether a holder of this boot lives is never read here: the kernel's lock tells, and whoever asks says what it said.
The book adds what the kernel does not keep. Order: a waiter that comes before ours gets the lock, unless it has stopped
asking. Holders beyond the kernel's sight (another boot, another host): they count until nobody has vouched for them for
a while. The token: it rises with every hand-over, whatever happens to the book.

A file of its own, because homes share it, and with a rollback journal where the store has WAL, because hosts may share
it too: WAL needs memory that all its users have in common.
"""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from procclaw.model.clock import from_microseconds, iso, to_microseconds
from procclaw.model.errors import Conflict, DiskFull, StoreError
from procclaw.model.outside import LockClaim, LockSight

BUSY_SECONDS = 5.0
SCHEMA_VERSION = 1
APPLICATION_ID = 0x50434C4B
PASSED_OVER_SECONDS = 15.0
"""A waiter that has not asked for so long is passed over: its home is gone, or no longer wants the lock."""
REFRESH_SECONDS = 5.0
"""How old a waiter's last question may get before it is written again: two can be lost before it is passed over."""
UNSEEN_SECONDS = 900.0
"""How long a holder beyond the kernel's sight counts after it was last vouched for. A home with a daemon vouches three
times in that span; and after a restart of the machine nobody waits longer for a holder that went down with it.
"""
_MICROSECONDS = 1_000_000

_SCHEMA = (
    """CREATE TABLE locks (
        name TEXT PRIMARY KEY, token INTEGER NOT NULL, holder TEXT NOT NULL,
        host TEXT NOT NULL, boot TEXT NOT NULL, home TEXT NOT NULL, seen_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE waiters (
        name TEXT NOT NULL, host TEXT NOT NULL, home TEXT NOT NULL, waiter TEXT NOT NULL,
        priority INTEGER NOT NULL, since_at INTEGER NOT NULL, asked_at INTEGER NOT NULL,
        PRIMARY KEY (name, host, home)
    ) STRICT, WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Member(NamedTuple):
    """One of those who share a book."""

    host: str
    boot: str
    home: str


class _Entry(NamedTuple):
    token: int
    holder: str
    """In words; empty: it has been given back."""
    by: Member
    seen_at: int


class Lockbook:
    """One connection, for one cycle. Every method is one transaction and raises StoreError or DiskFull."""

    def __init__(self, path: str, member: Member) -> None:
        self._path = path
        self._member = member
        _create(path)
        with self._translating():
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        self._db.close()

    def ask(self, claim: LockClaim, is_unlocked: bool, now: datetime) -> LockSight:
        """Whether the lock may be taken, given what the kernel said; refused, the claim waits in line from now on."""
        with self._writing():
            entry = self._entry(claim.name)
            sight = self._judge(claim, entry, is_unlocked, now)
            if not sight.is_free:
                self._wait(claim, to_microseconds(now))
            return sight

    def hand_over(self, claim: LockClaim, holder: str, now: datetime) -> int:
        """Write down who has it from now on, and return the token. Raises Conflict if another was quicker."""
        at = to_microseconds(now)
        member = self._member
        with self._writing():
            entry = self._entry(claim.name)
            if entry is not None and self._is_held_out_of_sight(claim, entry, at):
                raise Conflict(f'lock "{claim.name}" was taken by {entry.holder} in the meantime')
            # Where nothing is known, from the clock on: so it rises even if somebody deleted the book.
            token = at if entry is None else entry.token + 1
            self._db.execute(
                "INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?, ?, ?, ?)", (claim.name, token, holder, *member, at)
            )
            self._db.execute(
                "DELETE FROM waiters WHERE name = ? AND host = ? AND home = ?", (claim.name, member.host, member.home)
            )
        return token

    def given(self) -> Mapping[str, int]:
        """What this home has handed over and not given back: names and tokens."""
        with self._writing():
            rows = self._db.execute(
                "SELECT name, token FROM locks WHERE host = ? AND home = ? AND holder <> ''",
                (self._member.host, self._member.home),
            )
            return dict(rows.fetchall())

    def vouch(self, name: str, token: int, now: datetime) -> None:
        """Its holder was seen alive."""
        with self._writing():
            values = (to_microseconds(now), name, token)
            self._db.execute("UPDATE locks SET seen_at = ? WHERE name = ? AND token = ?", values)

    def give_back(self, name: str, token: int) -> None:
        """Its holder is gone. Harmless when another has it by now: that one has another token."""
        with self._writing():
            self._db.execute("UPDATE locks SET holder = '' WHERE name = ? AND token = ?", (name, token))

    def _judge(self, claim: LockClaim, entry: _Entry | None, is_unlocked: bool, now: datetime) -> LockSight:
        at = to_microseconds(now)
        if not is_unlocked:
            return LockSight(is_free=False, holder="" if entry is None else entry.holder)
        if entry is not None and self._is_held_out_of_sight(claim, entry, at):
            until = from_microseconds(entry.seen_at + int(UNSEEN_SECONDS * _MICROSECONDS))
            return LockSight(is_free=False, holder=f"{entry.holder}, on {entry.by.host}; counts until {iso(until)}")
        ahead = self._ahead(claim, at)
        return LockSight(is_free=ahead is None, holder="" if ahead is None else f"{ahead}, which is next in line")

    def _entry(self, name: str) -> _Entry | None:
        row = self._db.execute(
            "SELECT token, holder, host, boot, home, seen_at FROM locks WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else _Entry(row[0], row[1], Member(*row[2:5]), row[5])

    def _is_held_out_of_sight(self, claim: LockClaim, entry: _Entry, at: int) -> bool:
        """Whether somebody holds it of whom the kernel here knows nothing."""
        own = self._member
        # A home lies on one machine, and has one reconciler: what was given out here, the kernel here knows.
        is_ours = claim.path is None or (entry.by.host, entry.by.home) == (own.host, own.home)
        is_in_sight = is_ours or (entry.by.host, entry.by.boot) == (own.host, own.boot)
        return bool(entry.holder) and not is_in_sight and _is_recent(entry.seen_at, at, UNSEEN_SECONDS)

    def _ahead(self, claim: LockClaim, at: int) -> str | None:
        """Who waits and comes before the claim."""
        own = (self._member.host, self._member.home)
        mine = (claim.priority, claim.since_us, *own)
        rows = self._db.execute(
            "SELECT priority, since_at, host, home, waiter, asked_at FROM waiters WHERE name = ?", (claim.name,)
        ).fetchall()
        others = [row for row in rows if row[2:4] != own and _is_recent(row[5], at, PASSED_OVER_SECONDS)]
        first = min(others, default=None)
        return None if first is None or first[:4] > mine else str(first[4])

    def _wait(self, claim: LockClaim, at: int) -> None:
        member = self._member
        waiter = f"job {claim.job_id}, run {claim.run_id}, home {member.home}"
        row = (claim.name, member.host, member.home, waiter, claim.priority, claim.since_us)
        found = self._db.execute(
            "SELECT *, asked_at FROM waiters WHERE name = ? AND host = ? AND home = ?", row[:3]
        ).fetchone()
        if found is None or found[:6] != row or not _is_recent(found[6], at, REFRESH_SECONDS):
            self._db.execute("INSERT OR REPLACE INTO waiters VALUES (?, ?, ?, ?, ?, ?, ?)", (*row, at))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._translating():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # After SQLITE_FULL the transaction may already be gone.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _prepare(self) -> None:
        # A token that a job has seen must survive a power failure.
        self._db.execute("PRAGMA synchronous = FULL")
        if self._is_ready():
            return
        self._db.execute("BEGIN IMMEDIATE")
        if not self._is_ready():
            for statement in _SCHEMA:
                self._db.execute(statement)
        self._db.execute("COMMIT")

    def _is_ready(self) -> bool:
        """Whether the tables are there. Raises StoreError, having changed nothing, for a file that is not for us."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if self._db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            if version > SCHEMA_VERSION:
                raise StoreError(f"{self._path}: written by a newer ProcClaw; use that version here as well")
            return True
        if version or self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            raise StoreError(f"{self._path}: not a book of locks; name another file as the lock's path")
        return False

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                raise DiskFull(f"{self._path}: no space left on the device") from error
            raise StoreError(f"{self._path}: {error}") from error


def _is_recent(moment: int, now: int, seconds: float) -> bool:
    """At most so long ago; a moment as far in the future is none that a clock set right will reach soon."""
    return abs(now - moment) <= seconds * _MICROSECONDS


def _create(path: str) -> None:
    """Make the file, private. One that is there is not even opened: closing it would drop SQLite's locks on it."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise StoreError(f"{path}: not a regular file")
        return
    except FileNotFoundError:
        pass
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
