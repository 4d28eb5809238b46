"""The record of what ProcClaw has seen and intends: `procclaw.db`, and the only module that speaks SQL.

Every public method is one transaction. What is about to be done is written before it is done, so after a crash the next
cycle can tell "planned" from "done". Any process may read and add requests; all else is written only by whoever holds
the home's lock. Moments are whole microseconds since the epoch. A newer or damaged file is refused with what to do
about it and is never emptied or replaced.

Writers say BEGIN IMMEDIATE: a transaction that begins by reading and writes later fails at once, whatever the busy
timeout, when another writer came between.
"""

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from procclaw.model.clock import after, from_microseconds, to_microseconds
from procclaw.model.errors import Conflict, DiskFull, StoreError
from procclaw.model.spec import JobSpec
from procclaw.model.state import (
    Alert,
    AlertKind,
    AlertState,
    Attempt,
    Cursor,
    DeadLetter,
    DeadLettersPurged,
    Event,
    Health,
    Hold,
    HoldLifted,
    Intent,
    JobForgotten,
    JobState,
    Lack,
    Reason,
    Run,
    RunState,
    Slots,
    SlotsWithdrawn,
    TriggerFile,
    TriggerFileGone,
    Trouble,
    TroubleOver,
    Usage,
    Watch,
    WorkflowRun,
    WorkflowState,
)
from procclaw.system.store.migrations import LATEST, migrate
from procclaw.system.store.states import Question, job_states, workflow_states
from procclaw.system.store.tables import (
    ALERTS,
    ATTEMPTS,
    CURSORS,
    DEAD_LETTERS,
    EVENTS,
    HEALTH,
    HOLDS,
    INTENTS,
    RUNS,
    SCHEMA,
    SLOTS,
    TRIGGER_FILES,
    TROUBLES,
    USAGE,
    WATCHES,
    WORKFLOW_RUNS,
)

SCHEMA_VERSION = LATEST
APPLICATION_ID = 0x50434C57
BUSY_SECONDS = 5.0
RESERVE_BYTES = 8 * 1024 * 1024
SPARE_PAGES = 128
"""Half a megabyte: some hundred commits, each of which makes less than a page on average."""

KEY_HOURS = 24
"""How long an idempotency key names one request."""

Row = (
    Run
    | Attempt
    | Slots
    | Cursor
    | Hold
    | Intent
    | Event
    | Health
    | Usage
    | Alert
    | Trouble
    | Watch
    | DeadLetter
    | TriggerFile
    | WorkflowRun
    | HoldLifted
    | SlotsWithdrawn
    | JobForgotten
    | TroubleOver
    | TriggerFileGone
    | DeadLettersPurged
)
Found = TypeVar("Found")


class Problems(NamedTuple):
    """The present files cannot be used, so the last good configuration stays in force."""

    since: datetime
    problems: tuple[str, ...]


class Store:
    """One connection to the home's database. Not shared between threads."""

    def __init__(self, path: str, reserve: str | None = None) -> None:
        """Open or create.

        Raises StoreError for a file that is newer, damaged or not ours; DiskFull if there is no room.
        """
        self._path = path
        self._reserve = reserve
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: cannot open the database: {error}") from error
        try:
            self._prepare_with_room()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise self._translated(error) from error
        except StoreError:
            self._db.close()
            raise

    def _prepare_with_room(self) -> None:
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            # Even to read, the first to open the database makes a file beside it.
            if not isinstance(self._translated(error), DiskFull) or not self._release_reserve():
                raise
            self._prepare()

    def _prepare(self) -> None:
        is_empty = self._is_empty()
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        # Also of a file that exists: a copy made by VACUUM INTO is not in this mode.
        if self._pragma("journal_mode") != "wal":
            self._db.execute("PRAGMA journal_mode = WAL")
        if not is_empty:
            self._migrate()
            return
        with self._writing():
            if not self._is_empty():
                return  # another process was quicker
            for statement in SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _migrate(self) -> None:
        if self._pragma("user_version") == SCHEMA_VERSION:
            return
        with self._writing():
            # Another process may have been quicker.
            migrate(self._db, self._pragma("user_version"))
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_empty(self) -> bool:
        """Whether the file has nothing in it yet. Raises StoreError, having changed nothing, if it is not for us."""
        if self._db.in_transaction:
            return self._has_nothing()
        # As one moment saw it: another process may be making the tables.
        self._db.execute("BEGIN")
        try:
            return self._has_nothing()
        finally:
            self._db.execute("COMMIT")

    def _has_nothing(self) -> bool:
        version = self._pragma("user_version")
        if self._pragma("application_id") == APPLICATION_ID:
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"{self._path}: written by a newer ProcClaw (schema {version}, this one knows {SCHEMA_VERSION}); "
                    "use that version, or move the file away to start without its history"
                )
            return False
        if version or self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            raise StoreError(f"{self._path}: not a ProcClaw database; move it away")
        return True

    def _pragma(self, name: str) -> Any:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    def close(self) -> None:
        self._db.close()

    def check(self) -> None:
        """Raise StoreError if the file is damaged. Reads all of it, so only when a daemon starts."""
        verdict = self._read("PRAGMA quick_check")[0][0]
        if verdict != "ok":
            raise StoreError(self._damaged(str(verdict)))

    def _damaged(self, what: str) -> str:
        return (
            f"{self._path}: the database is damaged ({what}); restore it from a backup, or move it away "
            "to start without its history: running jobs are found again by their records"
        )

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_disk_full()):
            return DiskFull(f"{self._path}: no space left on the device")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StoreError(self._damaged(str(error)))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(f"{self._path}: locked by another process for more than {BUSY_SECONDS:.0f} s")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
            return StoreError(f"{self._path}: {error}; check the owner, the permissions and the disk")
        return error

    def _is_disk_full(self) -> bool:
        # SQLite reports a full disk as a plain I/O error where it grows the shared-memory file.
        stat = os.statvfs(os.path.dirname(self._path) or ".")
        return stat.f_bavail * stat.f_frsize < 64 * 1024

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # After SQLITE_FULL the transaction may already be gone.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write(self, body: Callable[[], Any]) -> Any:
        """Run `body` in a transaction; again, as long as room can be made on a full disk."""
        rooms = iter((self._reuse_log, self._release_reserve))
        while True:
            try:
                with self._writing():
                    return body()
            except sqlite3.DatabaseError as error:
                translated = self._translated(error)
                if isinstance(translated, DiskFull) and any(make_room() for make_room in rooms):
                    continue
                if translated is error:
                    raise
                raise translated from error

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            translated = self._translated(error)
            if translated is error:
                raise
            raise translated from error

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
            _, frames, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.DatabaseError:
            return False
        return bool(frames == moved)

    def _keep_pages(self) -> None:
        """Keep free pages within the database: space given back to a full disk may be gone, but these are ours."""
        if self._pragma("freelist_count") >= SPARE_PAGES:
            return
        size = 2 * SPARE_PAGES * int(self._pragma("page_size"))
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('spare', zeroblob(?))", (size,))
        # Pages that are freed by the transaction that made them would never be written, nor have a place on the disk.
        self._reuse_log()
        with self._writing():
            self._set_meta("spare", None)

    def keep_reserve(self) -> None:
        """Set disk space aside for the next time the disk is full; without effect while it is."""
        with contextlib.suppress(sqlite3.DatabaseError):
            self._keep_pages()
        # So that what is new since the last time has its place in the database as well.
        self._reuse_log()
        if self._reserve is None or os.path.exists(self._reserve):
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

    # --- what the cycle writes ---

    def record(self, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        """Write all rows or none. `committed_at` marks a commit of the reconciler's. Raises DiskFull, StoreError."""
        wanted = tuple(rows)
        if not wanted:
            return

        def body() -> None:
            for row in wanted:
                self._record_one(row)
            if committed_at is not None:
                self._set_meta("last_commit_at", str(to_microseconds(committed_at)))

        self._write(body)

    def _record_one(self, row: Row) -> None:
        execute = self._db.execute
        match row:
            case Run():
                execute(RUNS.upsert, RUNS.write(row))
            case Attempt():
                execute(ATTEMPTS.upsert, ATTEMPTS.write(row))
                if row.ended_at is not None:
                    # What was found of a process says nothing about the next.
                    execute("DELETE FROM health WHERE attempt_id = ?", (row.id,))
                    execute("DELETE FROM usage WHERE attempt_id = ?", (row.id,))
            case Slots():
                self._record_slots(row)
            case Cursor():
                execute(CURSORS.upsert, CURSORS.write(row))
            case Hold():
                execute(HOLDS.upsert, HOLDS.write(row))
            case Intent():
                execute(INTENTS.upsert, INTENTS.write(row))
            case Event():
                execute(EVENTS.insert, [*EVENTS.write(row)[:-1], None])
            case Health():
                execute(HEALTH.upsert, HEALTH.write(row))
            case Usage():
                execute(USAGE.upsert, USAGE.write(row))
            case Alert():
                execute(ALERTS.upsert, ALERTS.write(row))
            case Trouble():
                execute(TROUBLES.upsert, TROUBLES.write(row))
            case Watch():
                execute(WATCHES.upsert, WATCHES.write(row))
            case TriggerFile():
                execute(TRIGGER_FILES.upsert, TRIGGER_FILES.write(row))
            case WorkflowRun():
                execute(WORKFLOW_RUNS.upsert, WORKFLOW_RUNS.write(row))
            case DeadLetter():
                self._record_dead_letter(row)
            case TroubleOver():
                execute("DELETE FROM troubles WHERE job_id = ? AND kind = ?", (row.job_id, row.kind))
            case TriggerFileGone():
                execute("DELETE FROM trigger_files WHERE job_id = ? AND path = ?", (row.job_id, row.path))
            case DeadLettersPurged():
                named = (json.dumps(row.ids),)
                execute("DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))", named)
            case HoldLifted():
                execute("DELETE FROM holds WHERE job_id = ? AND kind = ?", (row.job_id, row.kind))
            case SlotsWithdrawn():
                execute(
                    "DELETE FROM slots WHERE job_id = ? AND first_due_at > ? AND run_id IS NULL",
                    (row.job_id, to_microseconds(row.after)),
                )
            case JobForgotten():
                for table in ("holds", "troubles", "watches", "trigger_files"):
                    execute(f"DELETE FROM {table} WHERE job_id = ?", (row.job_id,))
                # Up to where its slots were judged stays known: it may come back, and the clock may be set back before.
                execute("UPDATE cursors SET schedule_key = '', next_due_at = NULL WHERE job_id = ?", (row.job_id,))

    def _record_slots(self, row: Slots) -> None:
        # Rows do not overlap each other, so it can only be the last ones that begin before this one ends.
        nearest = self._db.execute(
            "SELECT first_due_at, last_due_at, run_id FROM slots WHERE job_id = ? AND first_due_at <= ? "
            "ORDER BY first_due_at DESC LIMIT 2",
            (row.job_id, to_microseconds(row.last_due_at)),
        ).fetchall()
        first_due_at = to_microseconds(row.first_due_at)
        others = [other for other in nearest if (other[0], other[2]) != (first_due_at, row.run_id)]
        if any(last_due_at >= first_due_at for _, last_due_at, _ in others):
            raise StoreError(f"{self._path}: a slot of {row.job_id} would be in the ledger twice: {row}")
        self._db.execute(SLOTS.upsert, SLOTS.write(row))

    def _record_dead_letter(self, row: DeadLetter) -> None:
        """A new entry has no id yet; of a run there is one entry, however often it is written."""
        columns = DEAD_LETTERS.write(row)
        if row.id == 0:
            self._db.execute(f"{DEAD_LETTERS.insert} ON CONFLICT (run_id) DO NOTHING", [None, *columns[1:]])
        else:
            self._db.execute(DEAD_LETTERS.upsert, columns)

    def add_intent(self, intent: Intent, payload: bytes | None = None) -> int:
        """Record a request and give it its id; with a key that was used already, the id of the request it stands for.

        Raises Conflict where the key stands for another request.
        """

        def body() -> int:
            if intent.key is not None:
                earlier = self._same_key(intent, payload)
                if earlier is not None:
                    return earlier
            cursor = self._db.execute(INTENTS.insert, [None, *INTENTS.write(intent)[1:]])
            assert cursor.lastrowid is not None
            if payload is not None:
                self._db.execute("INSERT INTO payloads (intent_id, body) VALUES (?, ?)", (cursor.lastrowid, payload))
            return cursor.lastrowid

        return int(self._write(body))

    def _same_key(self, intent: Intent, payload: bytes | None) -> int | None:
        since = to_microseconds(after(intent.requested_at, -KEY_HOURS * 3600))
        row = self._db.execute(
            f"SELECT {INTENTS.columns} FROM intents WHERE key = ? AND requested_at > ? ORDER BY id DESC LIMIT 1",
            (intent.key, since),
        ).fetchone()
        if row is None:
            return None
        earlier: Intent = INTENTS.read(row)
        asked = (intent.job_id, intent.kind, intent.details._replace(workflow_run=""))
        is_same = asked == (earlier.job_id, earlier.kind, earlier.details._replace(workflow_run=""))
        if not is_same or self._payload(earlier.id) != payload:
            raise Conflict(f'the key "{intent.key}" was used for another request, at {earlier.requested_at:%H:%M:%SZ}')
        return earlier.id

    def _payload(self, intent_id: int) -> bytes | None:
        row = self._db.execute("SELECT body FROM payloads WHERE intent_id = ?", (intent_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def payload(self, intent_id: int) -> bytes | None:
        """What came with a request; None: nothing."""
        rows = self._read("SELECT body FROM payloads WHERE intent_id = ?", (intent_id,))
        return bytes(rows[0][0]) if rows else None

    # --- the configuration in force ---

    def save_spec(self, content_hash: str, document: Mapping[str, Any], now: datetime) -> None:
        """Put a good configuration in force; the one before it goes."""

        def body() -> None:
            self._db.execute("DELETE FROM specs WHERE hash <> ?", (content_hash,))
            self._db.execute(
                "INSERT OR REPLACE INTO specs (hash, document, loaded_at) VALUES (?, ?, ?)",
                (content_hash, json.dumps(document, separators=(",", ":")), to_microseconds(now)),
            )
            self._set_meta("spec", content_hash)

        self._write(body)

    def spec_hash(self) -> str | None:
        return self.meta("spec")

    def load_spec(self) -> tuple[str, dict[str, Any]] | None:
        """Content hash and document of the configuration in force; None before the first."""
        rows = self._read("SELECT hash, document FROM specs WHERE hash = (SELECT value FROM meta WHERE key = 'spec')")
        return (rows[0][0], json.loads(rows[0][1])) if rows else None

    def meta(self, key: str) -> str | None:
        rows = self._read("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def set_meta(self, key: str, value: str | None) -> None:
        """Keep a fact about the home as a whole; None removes it. Writes only what differs."""
        if self.meta(key) != value:
            self._write(lambda: self._set_meta(key, value))

    def _set_meta(self, key: str, value: str | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def problems(self) -> Problems | None:
        text = self.meta("problems")
        if text is None:
            return None
        since, problems = json.loads(text)
        return Problems(from_microseconds(since), tuple(problems))

    def set_problems(self, problems: Problems | None) -> None:
        text = None if problems is None else json.dumps([to_microseconds(problems.since), problems.problems])
        self.set_meta("problems", text)

    def warnings(self) -> tuple[str, ...]:
        """What the configuration in force was warned of when it was loaded."""
        return tuple(json.loads(self.meta("warnings") or "[]"))

    def set_warnings(self, warnings: tuple[str, ...]) -> None:
        self.set_meta("warnings", json.dumps(warnings) if warnings else None)

    def lack(self) -> Lack | None:
        text = self.meta("lack")
        if text is None:
            return None
        reason, detail, retry_at = json.loads(text)
        return Lack(Reason(reason), detail, from_microseconds(retry_at))

    def set_lack(self, lack: Lack | None) -> None:
        text = None if lack is None else json.dumps([lack.reason, lack.detail, to_microseconds(lack.retry_at)])
        self.set_meta("lack", text)

    def restored_until(self) -> datetime | None:
        """The database was put back, and up to then it does not know what has run; None: it knows all."""
        text = self.meta("restored_until")
        return None if text is None else from_microseconds(int(text))

    def set_restored_until(self, at: datetime) -> None:
        self.set_meta("restored_until", str(to_microseconds(at)))

    def last_commit_at(self) -> datetime | None:
        text = self.meta("last_commit_at")
        return None if text is None else from_microseconds(int(text))

    # --- what a decision is based upon ---

    def data_version(self) -> int:
        """Changes when another process has committed. A few microseconds."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def job_states(
        self,
        jobs: Iterable[str] | None = None,
        *,
        now: datetime | None = None,
        specs: Mapping[str, JobSpec] | None = None,
    ) -> dict[str, JobState]:
        """What is recorded of these jobs (None: of every job that anything is recorded of), as one moment saw it.

        Live attempts carry no sight yet: `controller` looks. Whoever decides says when that is (`now`) and what is
        declared (`specs`), because what must be known for a decision depends on both.
        """
        chosen = None if jobs is None else json.dumps(list(jobs))
        question = None if now is None else Question(now, specs or {})
        return self._reading(lambda: job_states(self._db, chosen, question))

    def workflow_states(self, also: Iterable[str] = ()) -> tuple[WorkflowState, ...]:
        """The workflow runs that are not over and those that `also` names, with their steps, in the order of asking."""
        return self._reading(lambda: workflow_states(self._db, also))

    def _reading(self, body: Callable[[], Found]) -> Found:
        """Run `body` in one read transaction."""
        try:
            self._db.execute("BEGIN")
            try:
                return body()
            finally:
                self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            translated = self._translated(error)
            if translated is error:
                raise
            raise translated from error

    def has_intents(self, job_id: str) -> bool:
        """Whether a request about this job (or the home) is not answered yet."""
        return bool(self._read("SELECT 1 FROM intents WHERE job_id = ? AND resolved_at IS NULL LIMIT 1", (job_id,)))

    def jobs_with_intents(self) -> tuple[str, ...]:
        return tuple(row[0] for row in self._read("SELECT DISTINCT job_id FROM intents WHERE resolved_at IS NULL"))

    # --- what people ask ---

    def intent(self, intent_id: int) -> Intent | None:
        rows = self._read(f"SELECT {INTENTS.columns} FROM intents WHERE id = ?", (intent_id,))
        found: Intent | None = INTENTS.read(rows[0]) if rows else None
        return found

    def run(self, run_id: str) -> Run | None:
        rows = self._read(f"SELECT {RUNS.columns} FROM runs WHERE id = ?", (run_id,))
        found: Run | None = RUNS.read(rows[0]) if rows else None
        return found

    def runs_like(self, prefix: str) -> tuple[Run, ...]:
        """Runs whose id begins so; at most two are looked for, to tell one from several."""
        rows = self._read(f"SELECT {RUNS.columns} FROM runs WHERE id >= ? AND id < ? LIMIT 2", (prefix, prefix + "~"))
        return tuple(RUNS.read(row) for row in rows)

    def runs(self, job_id: str | None = None, limit: int = 50, state: RunState | None = None) -> tuple[Run, ...]:
        """The newest runs, newest first."""
        conditions, parameters = ["1"], list[Any]()
        if job_id is not None:
            conditions.append("job_id = ?")
            parameters.append(job_id)
        if state is not None:
            conditions.append("state = ?")
            parameters.append(state)
        rows = self._read(
            f"SELECT {RUNS.columns} FROM runs WHERE {' AND '.join(conditions)} "
            "ORDER BY queued_at DESC, rowid DESC LIMIT ?",
            [*parameters, limit],
        )
        return tuple(RUNS.read(row) for row in rows)

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        rows = self._read(f"SELECT {ATTEMPTS.columns} FROM attempts WHERE run_id = ? ORDER BY number", (run_id,))
        return tuple(ATTEMPTS.read(row) for row in rows)

    def attempts_since(self, job_id: str, since: datetime) -> tuple[Attempt, ...]:
        """A job's attempts that were alive at `since` or later, oldest first."""
        rows = self._read(
            f"SELECT {ATTEMPTS.columns} FROM attempts WHERE job_id = ? AND (ended_at IS NULL OR ended_at >= ?) "
            "ORDER BY created_at",
            (job_id, to_microseconds(since)),
        )
        return tuple(ATTEMPTS.read(row) for row in rows)

    def jobs_with_life(self) -> tuple[str, ...]:
        """The jobs with an attempt that is not over."""
        return tuple(row[0] for row in self._read("SELECT DISTINCT job_id FROM attempts WHERE ended_at IS NULL"))

    def live_attempts(self) -> tuple[Attempt, ...]:
        rows = self._read(f"SELECT {ATTEMPTS.columns} FROM attempts WHERE ended_at IS NULL")
        return tuple(ATTEMPTS.read(row) for row in rows)

    def ledger(self, job_id: str | None = None, since: datetime | None = None, limit: int = 100) -> tuple[Slots, ...]:
        """The newest rows, newest first."""
        conditions, parameters = ["1"], list[Any]()
        if job_id is not None:
            conditions.append("job_id = ?")
            parameters.append(job_id)
        if since is not None:
            conditions.append("last_due_at >= ?")
            parameters.append(to_microseconds(since))
        rows = self._read(
            f"SELECT {SLOTS.columns} FROM slots WHERE {' AND '.join(conditions)} "
            "ORDER BY last_due_at DESC, job_id LIMIT ?",
            [*parameters, limit],
        )
        return tuple(SLOTS.read(row) for row in rows)

    def events(self, after_id: int = 0, job_id: str | None = None, newest: int | None = None) -> tuple[Event, ...]:
        """Events later than `after_id`, oldest first; `newest` keeps that many of the newest."""
        conditions, parameters = ["id > ?"], list[Any]([after_id])
        if job_id is not None:
            conditions.append("job_id = ?")
            parameters.append(job_id)
        rows = self._read(
            f"SELECT {EVENTS.columns} FROM events WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
            [*parameters, -1 if newest is None else newest],
        )
        return tuple(EVENTS.read(row) for row in reversed(rows))

    def dead_letters(self, job_id: str | None = None, limit: int = 1000) -> tuple[DeadLetter, ...]:
        """The entries of the dead letter queue, newest first."""
        where, parameters = ("", []) if job_id is None else ("WHERE job_id = ?", [job_id])
        rows = self._read(
            f"SELECT {DEAD_LETTERS.columns} FROM dead_letters {where} ORDER BY id DESC LIMIT ?", [*parameters, limit]
        )
        return tuple(DEAD_LETTERS.read(row) for row in rows)

    def dead_letter(self, letter_id: int) -> DeadLetter | None:
        rows = self._read(f"SELECT {DEAD_LETTERS.columns} FROM dead_letters WHERE id = ?", (letter_id,))
        found: DeadLetter | None = DEAD_LETTERS.read(rows[0]) if rows else None
        return found

    def dead_letter_count(self, job_id: str | None = None) -> int:
        where, parameters = ("", []) if job_id is None else ("WHERE job_id = ?", [job_id])
        return int(self._read(f"SELECT count(*) FROM dead_letters {where}", parameters)[0][0])

    def alerts(self, job_id: str | None = None, limit: int = 100) -> tuple[Alert, ...]:
        """The newest alerts, newest first, whatever became of them."""
        where, parameters = ("", []) if job_id is None else ("WHERE job_id = ?", [job_id])
        rows = self._read(
            f"SELECT {ALERTS.columns} FROM alerts {where} ORDER BY raised_at DESC, key LIMIT ?", [*parameters, limit]
        )
        return tuple(ALERTS.read(row) for row in rows)

    def outbox(self, limit: int) -> tuple[Alert, ...]:
        """Alerts still to be delivered, those that are due first; of those alike the oldest."""
        rows = self._read(
            f"SELECT {ALERTS.columns} FROM alerts WHERE state = 'pending' ORDER BY next_try_at, raised_at, key LIMIT ?",
            (limit,),
        )
        return tuple(ALERTS.read(row) for row in rows)

    def pending_alerts(self, keys: Iterable[str]) -> tuple[Alert, ...]:
        """Those with these keys that are still to be delivered."""
        rows = self._read(
            f"SELECT {ALERTS.columns} FROM alerts WHERE state = 'pending' AND "
            "key IN (SELECT value FROM json_each(?)) ORDER BY raised_at, key",
            (json.dumps(list(keys)),),
        )
        return tuple(ALERTS.read(row) for row in rows)

    def last_told(self, since: datetime) -> dict[tuple[str, AlertKind], datetime]:
        """By job and kind, when the newest alert since then was raised that was not suppressed."""
        rows = self._read(
            "SELECT job_id, kind, max(raised_at) FROM alerts WHERE raised_at > ? AND state <> ? GROUP BY job_id, kind",
            (to_microseconds(since), AlertState.SUPPRESSED),
        )
        return {(job_id, AlertKind(kind)): from_microseconds(at) for job_id, kind, at in rows}

    def workflow_run(self, workflow_run_id: str) -> WorkflowRun | None:
        rows = self._read(f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs WHERE id = ?", (workflow_run_id,))
        found: WorkflowRun | None = WORKFLOW_RUNS.read(rows[0]) if rows else None
        return found

    def workflow_runs_like(self, prefix: str) -> tuple[WorkflowRun, ...]:
        """Those whose id begins so; at most two are looked for, to tell one from several."""
        rows = self._read(
            f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs WHERE id >= ? AND id < ? LIMIT 2",
            (prefix, prefix + "~"),
        )
        return tuple(WORKFLOW_RUNS.read(row) for row in rows)

    def workflow_runs(self, name: str | None = None, limit: int = 50) -> tuple[WorkflowRun, ...]:
        """The newest workflow runs, newest first."""
        where, parameters = ("", []) if name is None else ("WHERE name = ?", [name])
        rows = self._read(
            f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs {where} ORDER BY queued_at DESC, rowid DESC LIMIT ?",
            [*parameters, limit],
        )
        return tuple(WORKFLOW_RUNS.read(row) for row in rows)

    def workflow_steps(self, workflow_run_id: str) -> tuple[Run, ...]:
        """All runs of its steps, in the order in which they were made."""
        rows = self._read(f"SELECT {RUNS.columns} FROM runs WHERE workflow_run = ? ORDER BY rowid", (workflow_run_id,))
        return tuple(RUNS.read(row) for row in rows)

    def waiting_runs(self) -> tuple[Run, ...]:
        """Active runs without a living attempt, in the order in which they were made."""
        rows = self._read(
            f"SELECT {RUNS.columns} FROM runs WHERE finished_at IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM attempts WHERE run_id = runs.id AND ended_at IS NULL) ORDER BY rowid"
        )
        return tuple(RUNS.read(row) for row in rows)

    def counts(self) -> dict[str, int]:
        """Rows per table, for people and tests of growth."""
        tables = ("runs", "attempts", "slots", "events", "intents", "holds")
        return {table: self._read(f"SELECT count(*) FROM {table}")[0][0] for table in tables}

    # --- retention ---

    def purge(self, keep_runs: int, before: datetime, now: datetime, limit: int) -> int:
        """Remove up to `limit` finished runs of jobs that have more than `keep_runs`, or older ones; returns how many.

        A job's newest finished run stays whatever its age, and so does its newest that succeeded; so do rows of the
        ledger younger than `before`, and every row that could still make a slot unique (at or after the job's cursor).
        """
        oldest = to_microseconds(before)
        keys_until = to_microseconds(after(now, -KEY_HOURS * 3600))

        def body() -> int:
            ranked = (
                "SELECT id, state, finished_at, row_number() OVER (PARTITION BY job_id ORDER BY rowid DESC) n, "
                "row_number() OVER (PARTITION BY job_id, state ORDER BY finished_at DESC, rowid DESC) alike "
                "FROM runs WHERE finished_at IS NOT NULL"
            )
            removed = self._db.execute(
                f"DELETE FROM runs WHERE id IN (SELECT id FROM ({ranked}) "
                "WHERE n > 1 AND (n > ? OR finished_at < ?) AND NOT (alike = 1 AND state = 'succeeded') AND "
                # A workflow that goes on asks how its steps ended; a dead letter keeps the run it stands for.
                "id NOT IN (SELECT r.id FROM runs r JOIN workflow_runs w ON w.id = r.workflow_run "
                "WHERE w.finished_at IS NULL) AND id NOT IN (SELECT run_id FROM dead_letters) LIMIT ?)",
                (max(keep_runs, 1), oldest, limit),
            ).rowcount
            self._db.execute(
                "DELETE FROM slots WHERE (job_id, first_due_at) IN (SELECT s.job_id, s.first_due_at FROM slots s "
                "LEFT JOIN cursors c ON c.job_id = s.job_id "
                "WHERE s.noticed_at < ? AND (c.job_id IS NULL OR s.last_due_at < c.judged_until) "
                # A job's newest row stays: it is what tells, however late, that a one-off time has been dealt with.
                "AND s.first_due_at < (SELECT max(first_due_at) FROM slots n WHERE n.job_id = s.job_id) LIMIT ?)",
                (oldest, limit),
            )
            self._db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? LIMIT ?)", (oldest, limit)
            )
            self._db.execute(
                "DELETE FROM intents WHERE id IN (SELECT id FROM intents WHERE resolved_at < ? "
                "AND (key IS NULL OR requested_at < ?) "
                "AND id NOT IN (SELECT request FROM runs WHERE request IS NOT NULL) LIMIT ?)",
                (oldest, keys_until, limit),
            )
            self._db.execute(
                "DELETE FROM alerts WHERE key IN (SELECT key FROM alerts WHERE done_at < ? LIMIT ?)", (oldest, limit)
            )
            self._db.execute(
                "DELETE FROM workflow_runs WHERE id IN (SELECT id FROM workflow_runs WHERE finished_at < ? LIMIT ?)",
                (oldest, limit),
            )
            return removed

        return int(self._write(body))

    def thin_attempts(self, run_id: str, keep: int) -> None:
        """Keep the newest `keep` attempts of a run that goes on and on."""
        self._write(
            lambda: self._db.execute(
                "DELETE FROM attempts WHERE run_id = ? AND ended_at IS NOT NULL AND number <= "
                "(SELECT max(number) FROM attempts WHERE run_id = ?) - ?",
                (run_id, run_id, keep),
            )
        )
