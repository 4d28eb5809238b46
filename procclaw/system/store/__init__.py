"""The record of what ProcClaw has seen and intends: `procclaw.db`, and the only package that speaks SQL.

Every public method is one transaction. What is about to be done is written before it is done, so after a crash the next
cycle can tell "planned" from "done". Any process may read and add requests; all else is written only by whoever holds
the home's lock. Moments are whole microseconds since the epoch. The file as such is in `database`, how rows are read
for a decision in `states`, how they are written in `writing`, what `procclaw replay` looks back at in `cycles`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from zlib import crc32

from procclaw.model.alerts import Alert, AlertKind, AlertState
from procclaw.model.clock import after, from_microseconds, to_microseconds
from procclaw.model.errors import Conflict
from procclaw.model.intents import Intent
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, DeadLetter, Event, Run, RunState, Slots, WorkflowRun
from procclaw.model.rows import Row
from procclaw.model.spec import JobSpec
from procclaw.model.state import JobState, Lack, WorkflowState
from procclaw.system.store.cycles import Cycles, keep_past_spec
from procclaw.system.store.database import Database
from procclaw.system.store.retention import KEY_HOURS, purge, thin_attempts
from procclaw.system.store.states import Living, Question, job_states, names_in, workflow_states
from procclaw.system.store.tables import (
    ALERTS,
    ATTEMPTS,
    DEAD_LETTERS,
    EVENTS,
    INTENTS,
    RUNS,
    SLOTS,
    WORKFLOW_RUNS,
    damaged,
    decoded,
)
from procclaw.system.store.writing import record_row

if TYPE_CHECKING:
    from procclaw.system.store.census import Counted


Found = TypeVar("Found")


class Problems(NamedTuple):
    """The present files cannot be used, so the last good configuration stays in force."""

    since: datetime
    problems: tuple[str, ...]


class Store:
    """The home's database, in what it records and tells. Not shared between threads."""

    def __init__(self, path: str, reserve: str | None = None, *, is_to_look: bool = False) -> None:
        """Open or create; `is_to_look`: change nothing, so one of an older schema stays as it is and may lack tables.

        Raises StoreError for a file that is newer, damaged or not ours; DiskFull if there is no room.
        """
        self._db = Database(path, reserve, is_to_look=is_to_look)
        self.cycles = Cycles(self._db)
        self.living = Living(self._db)

    @property
    def schema(self) -> int:
        return int(self._db.pragma("user_version"))

    def close(self) -> None:
        self._db.close()

    def check(self) -> None:
        """Raise StoreError if the file is damaged. Reads all of it, so only when a daemon starts."""
        self._db.check()

    def keep_reserve(self) -> None:
        """Set disk space aside for the next time the disk is full; without effect while it is."""
        self._db.keep_reserve()

    # --- what the cycle writes ---

    def record(self, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        """Write all rows or none. `committed_at` marks a commit of the reconciler's. Raises DiskFull, StoreError."""
        wanted = tuple(rows)
        if not wanted:
            return

        def body() -> None:
            for row in wanted:
                record_row(self._db, row)
            if committed_at is not None:
                self._set_meta("last_commit_at", str(to_microseconds(committed_at)))

        self._db.write(body)

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

        return int(self._db.write(body))

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
        rows = self._db.read("SELECT body FROM payloads WHERE intent_id = ?", (intent_id,))
        return bytes(rows[0][0]) if rows else None

    # --- the configuration in force ---

    def save_spec(
        self, content_hash: str, document: Mapping[str, Any], now: datetime, past: Mapping[str, Any] | None = None
    ) -> None:
        """Put a good configuration in force; the one before it goes.

        `past` is what to keep of that for the recorded cycles that were decided by it.
        """

        text = json.dumps(document, separators=(",", ":"))

        def body() -> None:
            if past is not None:
                keep_past_spec(self._db, self.spec_hash(), past)
            self._db.execute("DELETE FROM specs WHERE hash <> ?", (content_hash,))
            self._db.execute(
                "INSERT OR REPLACE INTO specs (hash, document, loaded_at) VALUES (?, ?, ?)",
                (content_hash, text, to_microseconds(now)),
            )
            self._set_meta("spec", content_hash)
            self._set_meta("spec_checksum", _checksum(text))

        self._db.write(body)

    def spec_hash(self) -> str | None:
        return self.meta("spec")

    def load_spec(self) -> tuple[str, dict[str, Any]] | None:
        """Content hash and document of the configuration in force; None before the first.

        Raises StoreError where it is not what was saved: a command with a letter changed would be another command.
        """
        rows = self._db.read(
            "SELECT m.value, s.document, c.value FROM meta m LEFT JOIN specs s ON s.hash = m.value "
            "LEFT JOIN meta c ON c.key = 'spec_checksum' WHERE m.key = 'spec'"
        )
        if not rows:
            return None
        content_hash, text, checksum = rows[0]
        # A database of an earlier version has no checksum yet.
        if not isinstance(text, str) or checksum not in (None, _checksum(text)):
            raise damaged("the configuration in force is not the one that was saved")
        return content_hash, decoded("the configuration in force", lambda: dict(json.loads(text)))

    def meta(self, key: str) -> str | None:
        rows = self._db.read("SELECT value FROM meta WHERE key = ?", (key,))
        if rows and not isinstance(rows[0][0], str):
            raise damaged(f"what is kept as {key} is no text")
        return rows[0][0] if rows else None

    def _kept(self, key: str, read: Callable[[str], Found]) -> Found | None:
        """A fact about the home as a whole, read from its text; None when there is none."""
        text = self.meta(key)
        return None if text is None else decoded(f"what is kept as {key}", lambda: read(text))

    def set_meta(self, key: str, value: str | None) -> None:
        """Keep a fact about the home as a whole; None removes it. Writes only what differs."""
        if self.meta(key) != value:
            self._db.write(lambda: self._set_meta(key, value))

    def _set_meta(self, key: str, value: str | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def problems(self) -> Problems | None:
        def read(text: str) -> Problems:
            since, problems = json.loads(text)
            return Problems(from_microseconds(since), tuple(map(str, problems)))

        return self._kept("problems", read)

    def set_problems(self, problems: Problems | None) -> None:
        text = None if problems is None else json.dumps([to_microseconds(problems.since), problems.problems])
        self.set_meta("problems", text)

    def warnings(self) -> tuple[str, ...]:
        """What the configuration in force was warned of when it was loaded."""
        return self._kept("warnings", lambda text: tuple(map(str, json.loads(text)))) or ()

    def set_warnings(self, warnings: tuple[str, ...]) -> None:
        self.set_meta("warnings", json.dumps(warnings) if warnings else None)

    def lack(self) -> Lack | None:
        def read(text: str) -> Lack:
            reason, detail, retry_at = json.loads(text)
            return Lack(Reason(reason), detail, from_microseconds(retry_at))

        return self._kept("lack", read)

    def set_lack(self, lack: Lack | None) -> None:
        text = None if lack is None else json.dumps([lack.reason, lack.detail, to_microseconds(lack.retry_at)])
        self.set_meta("lack", text)

    def restored_until(self) -> datetime | None:
        """The database was put back, and up to then it does not know what has run; None: it knows all."""
        return self._kept("restored_until", _moment)

    def set_restored_until(self, at: datetime) -> None:
        self.set_meta("restored_until", str(to_microseconds(at)))

    def last_commit_at(self) -> datetime | None:
        return self._kept("last_commit_at", _moment)

    # --- what a decision is based upon ---

    def data_version(self) -> int:
        """Changes when another process has committed. A few microseconds."""
        return int(self._db.read("PRAGMA data_version")[0][0])

    def job_states(
        self,
        jobs: Iterable[str] | None = None,
        *,
        now: datetime | None = None,
        specs: Mapping[str, JobSpec] | None = None,
    ) -> dict[str, JobState]:
        """What is recorded of these jobs (None: of every job that anything is recorded of), as one moment saw it.

        Live attempts carry no sight yet: `observing` looks. Whoever decides says when that is (`now`) and what is
        declared (`specs`), because what must be known for a decision depends on both.
        """
        chosen = None if jobs is None else json.dumps(list(jobs))
        question = None if now is None else Question(now, specs or {})
        return self._db.reading(lambda: job_states(self._db.connection, chosen, question))

    def workflow_states(self, also: Iterable[str] = ()) -> tuple[WorkflowState, ...]:
        """The workflow runs that are not over and those that `also` names, with their steps, in the order of asking."""
        return self._db.reading(lambda: workflow_states(self._db.connection, also))

    def has_intents(self, job_id: str) -> bool:
        """Whether a request about this job (or the home) is not answered yet."""
        return bool(self._db.read("SELECT 1 FROM intents WHERE job_id = ? AND resolved_at IS NULL LIMIT 1", (job_id,)))

    def jobs_with_intents(self) -> tuple[str, ...]:
        return names_in(self._db, "SELECT DISTINCT job_id FROM intents WHERE resolved_at IS NULL")

    # --- what people ask ---

    def intent(self, intent_id: int) -> Intent | None:
        rows = self._db.read(f"SELECT {INTENTS.columns} FROM intents WHERE id = ?", (intent_id,))
        found: Intent | None = INTENTS.read(rows[0]) if rows else None
        return found

    def run(self, run_id: str) -> Run | None:
        rows = self._db.read(f"SELECT {RUNS.columns} FROM runs WHERE id = ?", (run_id,))
        found: Run | None = RUNS.read(rows[0]) if rows else None
        return found

    def runs_like(self, prefix: str) -> tuple[Run, ...]:
        """Runs whose id begins so; at most two are looked for, to tell one from several."""
        rows = self._db.read(
            f"SELECT {RUNS.columns} FROM runs WHERE id >= ? AND id < ? LIMIT 2", (prefix, prefix + "~")
        )
        return tuple(RUNS.read(row) for row in rows)

    def runs(
        self, job_id: str | None = None, limit: int = 50, state: RunState | None = None, skipped: int = 0
    ) -> tuple[Run, ...]:
        """The newest runs, newest first, less as many of the very newest as are to be skipped."""
        where, parameters = _where({"job_id = ?": job_id, "state = ?": state})
        rows = self._db.read(
            f"SELECT {RUNS.columns} FROM runs {where} ORDER BY queued_at DESC, rowid DESC LIMIT ? OFFSET ?",
            (*parameters, limit, skipped),
        )
        return tuple(RUNS.read(row) for row in rows)

    def run_count(self, job_id: str | None = None, state: RunState | None = None) -> int:
        where, parameters = _where({"job_id = ?": job_id, "state = ?": state})
        return int(self._db.read(f"SELECT count(*) FROM runs {where}", parameters)[0][0])

    def is_in_ledger(self, run_id: str) -> bool:
        """Whether a slot ran as this run, be the run kept or not."""
        return bool(self._db.read("SELECT 1 FROM slots WHERE run_id = ? LIMIT 1", (run_id,)))

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        rows = self._db.read(f"SELECT {ATTEMPTS.columns} FROM attempts WHERE run_id = ? ORDER BY number", (run_id,))
        return tuple(ATTEMPTS.read(row) for row in rows)

    def attempts_since(self, job_id: str, since: datetime) -> tuple[Attempt, ...]:
        """A job's attempts that were alive at `since` or later, oldest first."""
        rows = self._db.read(
            f"SELECT {ATTEMPTS.columns} FROM attempts WHERE job_id = ? AND (ended_at IS NULL OR ended_at >= ?) "
            "ORDER BY created_at",
            (job_id, to_microseconds(since)),
        )
        return tuple(ATTEMPTS.read(row) for row in rows)

    def ledger(self, job_id: str | None = None, since: datetime | None = None, limit: int = 100) -> tuple[Slots, ...]:
        """The newest rows, newest first."""
        since_us = None if since is None else to_microseconds(since)
        where, parameters = _where({"job_id = ?": job_id, "last_due_at >= ?": since_us})
        rows = self._db.read(
            f"SELECT {SLOTS.columns} FROM slots {where} ORDER BY last_due_at DESC, job_id LIMIT ?",
            (*parameters, limit),
        )
        return tuple(SLOTS.read(row) for row in rows)

    def events(self, after_id: int = 0, job_id: str | None = None, newest: int | None = None) -> tuple[Event, ...]:
        """Events later than `after_id`, oldest first; `newest` keeps that many of the newest."""
        where, parameters = _where({"id > ?": after_id, "job_id = ?": job_id})
        rows = self._db.read(
            f"SELECT {EVENTS.columns} FROM events {where} ORDER BY id DESC LIMIT ?",
            (*parameters, -1 if newest is None else newest),
        )
        return tuple(EVENTS.read(row) for row in reversed(rows))

    def dead_letters(self, job_id: str | None = None, limit: int = 1000) -> tuple[DeadLetter, ...]:
        """The entries of the dead letter queue, newest first."""
        where, parameters = _where({"job_id = ?": job_id})
        rows = self._db.read(
            f"SELECT {DEAD_LETTERS.columns} FROM dead_letters {where} ORDER BY id DESC LIMIT ?", (*parameters, limit)
        )
        return tuple(DEAD_LETTERS.read(row) for row in rows)

    def dead_letter(self, letter_id: int) -> DeadLetter | None:
        rows = self._db.read(f"SELECT {DEAD_LETTERS.columns} FROM dead_letters WHERE id = ?", (letter_id,))
        found: DeadLetter | None = DEAD_LETTERS.read(rows[0]) if rows else None
        return found

    def dead_letter_count(self, job_id: str | None = None) -> int:
        where, parameters = _where({"job_id = ?": job_id})
        return int(self._db.read(f"SELECT count(*) FROM dead_letters {where}", parameters)[0][0])

    def alerts(self, job_id: str | None = None, limit: int = 100) -> tuple[Alert, ...]:
        """The newest alerts, newest first, whatever became of them."""
        where, parameters = _where({"job_id = ?": job_id})
        rows = self._db.read(
            f"SELECT {ALERTS.columns} FROM alerts {where} ORDER BY raised_at DESC, key LIMIT ?", (*parameters, limit)
        )
        return tuple(ALERTS.read(row) for row in rows)

    def outbox(self, limit: int) -> tuple[Alert, ...]:
        """Alerts still to be delivered, those that are due first; of those alike the oldest."""
        rows = self._db.read(
            f"SELECT {ALERTS.columns} FROM alerts WHERE state = 'pending' ORDER BY next_try_at, raised_at, key LIMIT ?",
            (limit,),
        )
        return tuple(ALERTS.read(row) for row in rows)

    def pending_alerts(self, keys: Iterable[str]) -> tuple[Alert, ...]:
        """Those with these keys that are still to be delivered."""
        rows = self._db.read(
            f"SELECT {ALERTS.columns} FROM alerts WHERE state = 'pending' AND "
            "key IN (SELECT value FROM json_each(?)) ORDER BY raised_at, key",
            (json.dumps(list(keys)),),
        )
        return tuple(ALERTS.read(row) for row in rows)

    def last_told(self, since: datetime) -> dict[tuple[str, AlertKind], datetime]:
        """By job and kind, when the newest alert since then was raised that was not suppressed."""
        rows = self._db.read(
            "SELECT job_id, kind, max(raised_at) FROM alerts WHERE raised_at > ? AND state <> ? GROUP BY job_id, kind",
            (to_microseconds(since), AlertState.SUPPRESSED),
        )
        return decoded(
            "a row of alerts", lambda: {(job_id, AlertKind(kind)): from_microseconds(at) for job_id, kind, at in rows}
        )

    def workflow_run(self, workflow_run_id: str) -> WorkflowRun | None:
        rows = self._db.read(f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs WHERE id = ?", (workflow_run_id,))
        found: WorkflowRun | None = WORKFLOW_RUNS.read(rows[0]) if rows else None
        return found

    def workflow_runs_like(self, prefix: str) -> tuple[WorkflowRun, ...]:
        """Those whose id begins so; at most two are looked for, to tell one from several."""
        rows = self._db.read(
            f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs WHERE id >= ? AND id < ? LIMIT 2",
            (prefix, prefix + "~"),
        )
        return tuple(WORKFLOW_RUNS.read(row) for row in rows)

    def workflow_runs(self, name: str | None = None, limit: int = 50) -> tuple[WorkflowRun, ...]:
        """The newest workflow runs, newest first."""
        where, parameters = _where({"name = ?": name})
        rows = self._db.read(
            f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs {where} ORDER BY queued_at DESC, rowid DESC LIMIT ?",
            (*parameters, limit),
        )
        return tuple(WORKFLOW_RUNS.read(row) for row in rows)

    def workflow_steps(self, workflow_run_id: str) -> tuple[Run, ...]:
        """All runs of its steps, in the order in which they were made."""
        rows = self._db.read(
            f"SELECT {RUNS.columns} FROM runs WHERE workflow_run = ? ORDER BY rowid", (workflow_run_id,)
        )
        return tuple(RUNS.read(row) for row in rows)

    def waiting_runs(self) -> tuple[Run, ...]:
        """Active runs without a living attempt, in the order in which they were made."""
        rows = self._db.read(
            f"SELECT {RUNS.columns} FROM runs WHERE finished_at IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM attempts WHERE run_id = runs.id AND ended_at IS NULL) ORDER BY +rowid"
        )
        return tuple(RUNS.read(row) for row in rows)

    def counts(self) -> dict[str, int]:
        """Rows per table, for people and tests of growth."""
        tables = ("runs", "attempts", "slots", "events", "intents", "holds")
        return {table: self._db.read(f"SELECT count(*) FROM {table}")[0][0] for table in tables}

    def counted(self, jobs: Iterable[str], now: datetime) -> "Counted":
        """What can be said in numbers of these jobs and of the home, as one moment saw it; in outline only."""
        from procclaw.system.store.census import count

        return self._db.reading(lambda: decoded("the history", lambda: count(self._db.connection, jobs, now)))

    # --- retention ---

    def purge(self, keep_runs: int, before: datetime, now: datetime, limit: int) -> int:
        """Remove finished runs of jobs that have more than `keep_runs`, older ones, and what else is older than that.

        In one step that takes up to `limit` rows of each kind; returns how many it took of the kind with most, so
        fewer than `limit` tell that nothing more is left to go.

        A job's newest finished run stays whatever its age, and so does its newest that succeeded; so do rows of the
        ledger younger than `before`, and every row that could still make a slot unique (at or after the job's cursor).
        """
        return int(self._db.write(lambda: purge(self._db, keep_runs, before, now, limit)))

    def thin_attempts(self, run_id: str, keep: int) -> None:
        """Keep the newest `keep` attempts of a run that goes on and on."""
        self._db.write(lambda: thin_attempts(self._db, run_id, keep))


def _checksum(text: str) -> str:
    # No digest: that loads OpenSSL, for which a listing has no use, and nobody is to be kept from forging it.
    return str(crc32(text.encode()))


def _moment(text: str) -> datetime:
    return from_microseconds(int(text))


def _where(conditions: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The clause of those conditions that have a value (None: not asked for), and the values."""
    asked = {condition: value for condition, value in conditions.items() if value is not None}
    return f"WHERE {' AND '.join(asked)}" if asked else "", tuple(asked.values())
