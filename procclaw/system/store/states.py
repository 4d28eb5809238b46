"""What is recorded of jobs, gathered into what a decision needs: one read transaction's worth of rows; and who lives.

Nothing here writes. Live attempts carry no sight yet; whoever decides looks at the world itself.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from procclaw.model.alerts import Trouble, Watch
from procclaw.model.clock import after, from_microseconds, to_microseconds
from procclaw.model.intents import Intent
from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.records import (
    Attempt,
    Cursor,
    DeadLetter,
    Health,
    Run,
    Slots,
    Trigger,
    TriggerFile,
    Usage,
    record_name,
)
from procclaw.model.spec import JobSpec
from procclaw.model.state import ActiveRun, JobState, Observed, WorkflowState
from procclaw.system.store.database import Database
from procclaw.system.store.tables import (
    ATTEMPTS,
    CURSORS,
    DEAD_LETTERS,
    HEALTH,
    HOLDS,
    INTENTS,
    QUEUE_IN_TERMS,
    RUNS,
    SLOTS,
    TRIGGER_FILES,
    TROUBLES,
    USAGE,
    WATCHES,
    WORKFLOW_RUNS,
    Table,
    damaged,
    decoded,
)


class Question(NamedTuple):
    """What somebody who decides wants to know beside the plain rows; who only looks asks for nothing of it."""

    now: datetime
    specs: Mapping[str, JobSpec]
    """The jobs about which a decision is made: what must be known of them follows from what they declare."""


def job_states(db: sqlite3.Connection, chosen: str | None, question: Question | None) -> dict[str, JobState]:
    """By job; `chosen` is a JSON list of ids, None: every job that anything is recorded of."""
    return _Reading(db, chosen, question).states()


def workflow_states(db: sqlite3.Connection, also: Iterable[str]) -> tuple[WorkflowState, ...]:
    """The workflow runs that are not over and those named in `also`, in the order of asking."""
    rows = db.execute(
        f"SELECT {WORKFLOW_RUNS.columns} FROM workflow_runs "
        "WHERE finished_at IS NULL OR id IN (SELECT value FROM json_each(?)) ORDER BY queued_at, id",
        (json.dumps(list(also)),),
    ).fetchall()
    return tuple(_workflow_state(db, WORKFLOW_RUNS.read(row)) for row in rows)


def _workflow_state(db: sqlite3.Connection, workflow: Any) -> WorkflowState:
    rows = db.execute(f"SELECT {RUNS.columns} FROM runs WHERE workflow_run = ? ORDER BY rowid", (workflow.id,))
    newest: dict[int, Run] = {run.step: run for run in map(RUNS.read, rows)}
    return WorkflowState(workflow, tuple(newest.get(step) for step in range(len(workflow.spec.steps))))


class Living:
    """The attempts that are not over."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def jobs(self) -> tuple[str, ...]:
        return names_in(self._db, "SELECT DISTINCT job_id FROM attempts WHERE ended_at IS NULL")

    def places(self) -> tuple[tuple[str, str | None, Trigger], ...]:
        """Of each the job, the queue in which it has a place (None: in none), and what its run is for."""
        rows = self._db.read(
            f"SELECT a.job_id, json_extract(a.terms, '$[{QUEUE_IN_TERMS}]'), r.trigger "
            "FROM attempts a JOIN runs r ON r.id = a.run_id WHERE a.ended_at IS NULL"
        )
        return decoded("a run", lambda: tuple((job_id, queue, Trigger(word)) for job_id, queue, word in rows))

    def records(self) -> frozenset[str]:
        """The names of their records."""
        rows = self._db.read("SELECT job_id, run_id, number, mark FROM attempts WHERE ended_at IS NULL")
        if any(tuple(map(type, row)) != (str, str, int, str) for row in rows):
            raise damaged("a row of attempts cannot be read")
        return frozenset(record_name(*row) for row in rows)

    def attempts(self) -> tuple[Attempt, ...]:
        rows = self._db.read(f"SELECT {ATTEMPTS.columns} FROM attempts WHERE ended_at IS NULL")
        return tuple(ATTEMPTS.read(row) for row in rows)


def names_in(db: Database, sql: str) -> tuple[str, ...]:
    """The jobs that a query finds."""
    found = tuple(row[0] for row in db.read(sql))
    if not all(isinstance(name, str) for name in found):
        raise damaged("a job's id is no text")
    return found


class _Dated(NamedTuple):
    """A run and its place in the order in which runs were made."""

    rowid: int
    run: Run


def _dated(row: Sequence[Any]) -> _Dated:
    return _Dated(row[-1], RUNS.read(row[:-1]))


def _older(rowids: Iterable[int], newest: _Dated | None) -> int:
    return 0 if newest is None else sum(1 for rowid in rowids if rowid < newest.rowid)


class _Reading:
    def __init__(self, db: sqlite3.Connection, chosen: str | None, question: Question | None) -> None:
        self._db = db
        self._chosen = chosen
        self._question = question

    def states(self) -> dict[str, JobState]:
        active, rowids = self._active()
        holds = self._by_job(HOLDS)
        intents: dict[str, list[Intent]] = self._by_job(INTENTS, "resolved_at IS NULL", " ORDER BY id")
        cursors: dict[str, Cursor] = {cursor.job_id: cursor for cursor in self._select(CURSORS)}
        finished = self._newest_finished()
        begun = {name: newest if newest.run.attempts else self._begun(name) for name, newest in finished.items()}
        troubles: dict[str, list[Trouble]] = self._by_job(TROUBLES)
        watches: dict[str, Watch] = {watch.job_id: watch for watch in self._select(WATCHES)}
        files: dict[str, list[TriggerFile]] = self._by_job(TRIGGER_FILES)
        judged = self._with_judged_run_at()
        known = {*active, *holds, *intents, *cursors, *finished, *judged, *troubles, *watches, *files}
        # In one order, so that the same home is looked at in the same way.
        names = sorted(known if self._chosen is None else set(json.loads(self._chosen)))
        return {
            name: JobState(
                id=name,
                active=tuple(active.get(name, ())),
                newest_finished=None if (newest := finished.get(name)) is None else newest.run,
                newest_begun=None if (ran := begun.get(name)) is None or ran is newest else ran.run,
                older_than_finished=_older(rowids.get(name, ()), newest),
                older_than_begun=_older(rowids.get(name, ()), ran),
                holds=tuple(holds.get(name, ())),
                cursor=cursors.get(name),
                ran_after_cursor=self._ran_after(cursors.get(name)),
                straddling=self._straddling(cursors.get(name)),
                is_run_at_judged=name in judged,
                intents=tuple(intents.get(name, ())),
                recent=self._recent(name, cursors.get(name)),
                last_success_at=self._last_success_at(name),
                troubles=tuple(troubles.get(name, ())),
                watch=watches.get(name),
                triggered=tuple(files.get(name, ())),
                file_runs=self._file_runs(files.get(name, ())),
                dead_letters=(letters := self._dead_letters(intents.get(name, ()))),
                dead_runs=self._runs([letter.run_id for letter in letters]),
            )
            for name in names
        }

    # --- rows ---

    def _select(self, table: Table, where: str = "", order: str = "") -> list[Any]:
        return [table.read(row) for row in self._rows(table.columns, table.name, where, order)]

    def _rows(self, columns: str, table: str, where: str, order: str) -> list[Any]:
        sql = f"SELECT {columns} FROM {table}"
        conditions = [where] if where else []
        if self._chosen is not None:
            conditions.append("job_id IN (SELECT value FROM json_each(?))")
        if conditions:
            sql += " WHERE " + " AND ".join(conditions)
        return self._db.execute(sql + order, () if self._chosen is None else (self._chosen,)).fetchall()

    def _by_job(self, table: Table, where: str = "", order: str = "") -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for row in self._select(table, where, order):
            found.setdefault(row.job_id, []).append(row)
        return found

    def _active(self) -> tuple[dict[str, list[ActiveRun]], dict[str, list[int]]]:
        """The active runs by job, and their rowids."""
        health: dict[str, Health] = {row.attempt_id: row for row in self._select(HEALTH)}
        usage: dict[str, Usage] = {row.attempt_id: row for row in self._select(USAGE)}
        live = {attempt.run_id: attempt for attempt in self._select(ATTEMPTS, "ended_at IS NULL")}
        active: dict[str, list[ActiveRun]] = {}
        rowids: dict[str, list[int]] = {}
        # By an expression: for the bare column SQLite walks through the whole history, which is in that order already.
        for *columns, rowid in self._rows(f"{RUNS.columns}, rowid", "runs", "finished_at IS NULL", " ORDER BY +rowid"):
            run = RUNS.read(columns)
            attempt = live.get(run.id)
            seen = None
            if attempt is not None:
                seen = Observed(
                    attempt,
                    Sight(RecordPhase.UNSEEN),
                    health=health.get(attempt.id),
                    usage=usage.get(attempt.id),
                )
            active.setdefault(run.job_id, []).append(ActiveRun(run, seen))
            rowids.setdefault(run.job_id, []).append(rowid)
        return active, rowids

    def _newest_finished(self) -> dict[str, _Dated]:
        jobs = (
            "SELECT DISTINCT job_id FROM runs" if self._chosen is None else "SELECT value AS job_id FROM json_each(?)"
        )
        newest = (
            "SELECT (SELECT id FROM runs r WHERE r.job_id = j.job_id AND r.finished_at IS NOT NULL "
            f"ORDER BY r.rowid DESC LIMIT 1) FROM ({jobs}) j"
        )
        rows = self._db.execute(
            f"SELECT {RUNS.columns}, rowid FROM runs WHERE id IN ({newest})",
            () if self._chosen is None else (self._chosen,),
        )
        return {dated.run.job_id: dated for dated in map(_dated, rows)}

    def _begun(self, job_id: str) -> _Dated | None:
        """The newest run that is over and had an attempt."""
        rows = self._db.execute(
            f"SELECT {RUNS.columns}, rowid FROM runs WHERE job_id = ? AND finished_at IS NOT NULL AND attempts > 0 "
            "ORDER BY rowid DESC LIMIT 1",
            (job_id,),
        )
        return next(map(_dated, rows), None)

    # --- what one job's declaration asks for ---

    def _spec(self, name: str) -> JobSpec | None:
        return None if self._question is None else self._question.specs.get(name)

    def _with_judged_run_at(self) -> set[str]:
        specs = {} if self._question is None else self._question.specs
        return {
            name
            for name, spec in specs.items()
            if spec.run_at is not None and slots_at(self._db, name, spec.run_at) is not None
        }

    def _ran_after(self, cursor: Cursor | None) -> frozenset[datetime]:
        if cursor is None:
            return frozenset()
        later = "SELECT first_due_at FROM slots WHERE job_id = ? AND first_due_at > ? AND run_id IS NOT NULL"
        rows = self._db.execute(later, (cursor.job_id, to_microseconds(cursor.judged_until)))
        return frozenset(from_microseconds(due_at) for (due_at,) in rows)

    def _straddling(self, cursor: Cursor | None) -> Slots | None:
        """The row that covers the present and goes on after it: the clock was set back into it."""
        if cursor is None or self._question is None or cursor.judged_until <= self._question.now:
            return None
        found = slots_at(self._db, cursor.job_id, self._question.now)
        return found if found is not None and found.last_due_at > self._question.now else None

    def _recent(self, name: str, cursor: Cursor | None) -> tuple[Run, ...]:
        spec = self._spec(name)
        if spec is None or spec.dedup is None or self._question is None:
            return ()
        # A slot is judged by when it was due, however late that is noticed.
        earliest_at = self._question.now if cursor is None else min(self._question.now, cursor.judged_until)
        since = to_microseconds(after(earliest_at, -spec.dedup.window_seconds))
        rows = self._db.execute(
            f"SELECT {RUNS.columns} FROM runs WHERE job_id = ? AND queued_at > ? ORDER BY queued_at DESC, rowid DESC",
            (name, since),
        )
        return tuple(RUNS.read(row) for row in rows)

    def _last_success_at(self, name: str) -> datetime | None:
        spec = self._spec(name)
        if spec is None or spec.expect is None:
            return None
        [(at,)] = self._db.execute(
            "SELECT max(finished_at) FROM runs WHERE job_id = ? AND state = 'succeeded'", (name,)
        )
        return None if at is None else from_microseconds(at)

    def _file_runs(self, files: Iterable[TriggerFile]) -> Mapping[str, Run]:
        runs = self._runs([file.run_id for file in files])
        return {name: run for name, run in runs.items() if not run.is_active}

    def _runs(self, names: list[str]) -> Mapping[str, Run]:
        if not names:
            return {}
        rows = self._db.execute(
            f"SELECT {RUNS.columns} FROM runs WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(names),)
        )
        return {run.id: run for run in map(RUNS.read, rows)}

    def _dead_letters(self, intents: Iterable[Intent]) -> tuple[DeadLetter, ...]:
        named = [letter for intent in intents for letter in intent.details.dead_letters]
        if not named:
            return ()
        rows = self._db.execute(
            f"SELECT {DEAD_LETTERS.columns} FROM dead_letters WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps(named),),
        )
        return tuple(DEAD_LETTERS.read(row) for row in rows)


def slots_at(db: sqlite3.Connection, job_id: str, moment: datetime) -> Slots | None:
    """The row of the ledger that covers the moment; rows never overlap, so none but the last before it can."""
    rows = db.execute(
        f"SELECT {SLOTS.columns} FROM slots WHERE job_id = ? AND first_due_at <= ? ORDER BY first_due_at DESC LIMIT 1",
        (job_id, to_microseconds(moment)),
    )
    found: list[Slots] = [SLOTS.read(row) for row in rows]
    return found[0] if found and found[0].last_due_at >= moment else None
