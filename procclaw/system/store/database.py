"""The file `procclaw.db` as such: opening it, transactions, what its errors mean, and room on a full disk.

Writers say BEGIN IMMEDIATE: a transaction that begins by reading and writes later fails at once, whatever the busy
timeout, when another writer came between. A newer or damaged file is refused with what to do about it and is never
emptied or replaced.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from procclaw.model.errors import DiskFull, StoreError
from procclaw.system.store.migrations import LATEST, migrate
from procclaw.system.store.tables import SCHEMA, damaged

SCHEMA_VERSION = LATEST
APPLICATION_ID = 0x50434C57
BUSY_SECONDS = 5.0
RESERVE_BYTES = 8 * 1024 * 1024
SPARE_PAGES = 128
"""Half a megabyte: some hundred commits, each of which makes less than a page on average."""

_FAILURES = (sqlite3.DatabaseError, UnicodeDecodeError)
"""The latter where SQLite's own complaint quotes what is no text."""
_NOT_TEXT = "Could not decode to UTF-8"
"""Python's own complaint, without a code of SQLite's."""

Found = TypeVar("Found")


class Database:
    """One connection. Not shared between threads."""

    def __init__(self, path: str, reserve: str | None = None, *, is_to_look: bool = False) -> None:
        """Open or create; `is_to_look`: open what is there and change nothing, not even an older schema.

        Raises StoreError for a file that is newer, damaged or not ours; DiskFull if there is no room.
        """
        self.path = path
        self._reserve = reserve
        try:
            self._connection = sqlite3.connect(
                _to_look(path) if is_to_look else path,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
                uri=is_to_look,
            )
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: cannot open the database: {error}") from error
        try:
            if is_to_look:
                self._is_empty()
            else:
                self._prepare_with_room()
        except _FAILURES as error:
            self._connection.close()
            raise self._translated(error) from error
        except StoreError:
            self._connection.close()
            raise

    def _prepare_with_room(self) -> None:
        try:
            self._prepare()
        except _FAILURES as error:
            # Even to read, the first to open the database makes a file beside it.
            if not isinstance(self._translated(error), DiskFull) or not self._release_reserve():
                raise
            self._prepare()

    def _prepare(self) -> None:
        is_empty = self._is_empty()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        # Also of a file that exists: a copy made by VACUUM INTO is not in this mode.
        if self.pragma("journal_mode") != "wal":
            self._connection.execute("PRAGMA journal_mode = WAL")
        if not is_empty:
            self._migrate()
            return
        with self.writing():
            if not self._is_empty():
                return  # another process was quicker
            for statement in SCHEMA.split(";\n"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _migrate(self) -> None:
        if self.pragma("user_version") == SCHEMA_VERSION:
            return
        with self.writing():
            # Another process may have been quicker.
            version = self.pragma("user_version")
            try:
                migrate(self._connection, version)
            except (sqlite3.OperationalError, LookupError) as error:
                # The number says one thing and the tables another.
                raise damaged(f"it is not of schema {version}, as it says", self.path) from error
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_empty(self) -> bool:
        """Whether the file has nothing in it yet. Raises StoreError, having changed nothing, if it is not for us."""
        if self._connection.in_transaction:
            return self._has_nothing()
        # As one moment saw it: another process may be making the tables.
        with self._looking():
            return self._has_nothing()

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        """A read transaction."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            # After an error the transaction may already be gone.
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def _has_nothing(self) -> bool:
        version = self.pragma("user_version")
        if self.pragma("application_id") == APPLICATION_ID:
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self.path}: written by a newer ProcClaw (schema {version}, this one knows {SCHEMA_VERSION}); "
                    "use that version, or move the file away to start without its history"
                )
            return False
        if version or self._connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            raise StoreError(f"{self.path}: not a ProcClaw database; move it away")
        return True

    def pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    @property
    def connection(self) -> sqlite3.Connection:
        return self._connection

    def close(self) -> None:
        self._connection.close()

    def check(self) -> None:
        """Raise StoreError if the file is damaged. Reads all of it, so only when a daemon starts."""
        verdict = self.read("PRAGMA quick_check")[0][0]
        if verdict != "ok":
            raise damaged(_first_line(verdict), self.path)

    def _is_damaged(self) -> bool:
        """Whether a statement that failed in an odd way did so because of the file: then it is no bug of ours."""
        try:
            verdict = self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            return bool(verdict != "ok") or not _columns_of_new() <= _columns(self._connection)
        except _FAILURES:
            return True

    def _translated(self, error: Exception) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_disk_full()):
            return DiskFull(f"{self.path}: no space left on the device")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return damaged(str(error), self.path)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(f"{self.path}: locked by another process for more than {BUSY_SECONDS:.0f} s")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            return StoreError(f"{self.path}: {error}; check the owner, the permissions and the disk")
        if isinstance(error, UnicodeDecodeError) or str(error).startswith(_NOT_TEXT) or self._is_damaged():
            return damaged(_first_line(str(error)), self.path)
        return error

    def _is_disk_full(self) -> bool:
        # SQLite reports a full disk as a plain I/O error where it grows the shared-memory file.
        stat = os.statvfs(os.path.dirname(self.path) or ".")
        return stat.f_bavail * stat.f_frsize < 64 * 1024

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # After SQLITE_FULL the transaction may already be gone.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def write(self, body: Callable[[], Any]) -> Any:
        """Run `body` in a transaction; again, as long as room can be made on a full disk."""
        rooms = iter((self._reuse_log, self._release_reserve))
        while True:
            try:
                with self.writing():
                    return body()
            except _FAILURES as error:
                translated = self._translated(error)
                if isinstance(translated, DiskFull) and any(make_room() for make_room in rooms):
                    continue
                if translated is error:
                    raise
                raise translated from error

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._translating():
            return self._connection.execute(sql, parameters).fetchall()

    def reading(self, body: Callable[[], Found]) -> Found:
        """What `body` gives, in one read transaction."""
        with self._translating(), self._looking():
            return body()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            translated = self._translated(error)
            if translated is error:
                raise
            raise translated from error

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """One statement of a transaction that has begun; its errors are translated where the transaction ends."""
        return self._connection.execute(sql, parameters)

    def _release_reserve(self) -> bool:
        if self._reserve is None:
            return False
        try:
            os.unlink(self._reserve)
        except OSError:
            return False
        return True

    def _reuse_log(self) -> bool:
        """Have the write-ahead log begin anew in the blocks it has, its contents having gone to the database."""
        try:
            _, frames, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.DatabaseError:
            return False
        return bool(frames == moved)

    def _keep_pages(self) -> None:
        """Keep free pages within the database: space given back to a full disk may be gone, but these are ours."""
        if self.pragma("freelist_count") >= SPARE_PAGES:
            return
        size = 2 * SPARE_PAGES * int(self.pragma("page_size"))
        with self.writing():
            self._connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('spare', zeroblob(?))", (size,))
        # Pages that are freed by the transaction that made them would never be written, nor have a place on the disk.
        self._reuse_log()
        with self.writing():
            self._connection.execute("DELETE FROM meta WHERE key = 'spare'")

    def keep_reserve(self) -> None:
        """Set disk space aside for the next time the disk is full; without effect while it is."""
        with contextlib.suppress(sqlite3.DatabaseError):
            self._keep_pages()
        # So that what is new since the last time has its place in the database as well.
        self._reuse_log()
        if self._reserve is None or _size_of(self._reserve) == RESERVE_BYTES:
            return
        beside = self._reserve + ".new"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                zeros = bytes(1024 * 1024)
                for _ in range(RESERVE_BYTES // len(zeros)):
                    if os.write(descriptor, zeros) != len(zeros):
                        raise OSError(errno.ENOSPC, "the reserve does not fit")
            finally:
                os.close(descriptor)
            os.rename(beside, self._reserve)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def _size_of(path: str) -> int:
    """0 where there is no such file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _to_look(path: str) -> str:
    """The address of a database that is only to be read.

    Even a reader makes two files beside it, unless told that nobody will write. Whoever has it open has them there.
    """
    from urllib.parse import quote

    is_at_rest = not os.path.exists(f"{path}-wal")
    return f"file:{quote(os.fsencode(path))}?mode=ro" + ("&immutable=1" if is_at_rest else "")


def _first_line(text: object) -> str:
    return str(text).partition("\n")[0]


def _columns(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Of every table; the schema is kept as text, in which a letter may be another after damage."""
    tables = "SELECT s.name, c.name FROM sqlite_schema s JOIN pragma_table_info(s.name) c WHERE s.type = 'table'"
    return set(connection.execute(tables))


def _columns_of_new() -> set[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        return _columns(fresh)
