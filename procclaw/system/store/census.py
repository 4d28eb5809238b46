"""What is recorded of all jobs, as far as counting needs it: the same few statements however many jobs there are.

Runs, attempts and cursors are read in outline: what a status follows from, everything else as it is by default.
Nothing may be decided upon an outline, nor shown of it but numbers. Whole rows of a thousand jobs take four times as
long to read, and this is asked for every few seconds.
"""

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from procclaw.model.clock import EPOCH, from_microseconds, to_microseconds
from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Cursor, Health, Hold, Run, RunState, Terms, Trigger, Usage
from procclaw.model.spec import Leftovers
from procclaw.model.state import ActiveRun, JobState, Observed
from procclaw.system.store.tables import HOLDS

# The plus keeps SQLite from reading every run there ever was in the order of their ids, to save itself sorting these.
_ACTIVE = (
    "SELECT r.job_id, r.id, r.trigger, r.state, r.queued_at, r.not_before_at, r.attempts, r.restarts, r.ending, "
    "a.id, a.number, a.pid, a.started_at, a.exited_at, h.is_healthy, u.cpu_seconds, u.cpu_percent, u.memory_mb "
    "FROM runs r LEFT JOIN attempts a ON a.run_id = r.id AND a.ended_at IS NULL "
    "LEFT JOIN health h ON h.attempt_id = a.id LEFT JOIN usage u ON u.attempt_id = a.id "
    "WHERE r.finished_at IS NULL ORDER BY +r.rowid"
)
_NEWEST_FINISHED = (
    "SELECT job_id, id, trigger, state, restarts, process_hash FROM runs WHERE rowid IN (SELECT "
    "(SELECT r.rowid FROM runs r WHERE r.job_id = j.value AND r.finished_at IS NOT NULL ORDER BY r.rowid DESC LIMIT 1) "
    "FROM json_each(?) j)"
)
# Not the latest end of all that succeeded: that would read every job's whole history, for the sake of those of which
# one run overtakes another. This reads it only where nothing has succeeded for long.
_LAST_SUCCESS = (
    "SELECT j.value, (SELECT max(r.finished_at) FROM runs r WHERE r.job_id = j.value AND r.state = 'succeeded') "
    "FROM json_each(?) j"
)
_NO_TERMS = Terms(0, 0.0, Leftovers.STOP, (), None, "")
_UNSEEN = Sight(RecordPhase.UNSEEN)


class Counted(NamedTuple):
    """What one moment saw."""

    states: dict[str, JobState]
    """In outline, with the newest run that is over only where none is under way or waits; of a job of which nothing is
    recorded there is none.
    """
    last_success_at: dict[str, datetime]
    """By job, when it last succeeded; of one that never did there is no time."""
    dead_letters: dict[str, int]
    """By job, declared or not; without one there is no number."""
    pending_alerts: int


def count(db: sqlite3.Connection, jobs: Iterable[str], now: datetime) -> Counted:
    """Of these jobs; what waits, runs or is held is told of every job, and of the home. Within a read transaction."""
    names = list(jobs)
    active: dict[str, list[ActiveRun]] = {}
    for row in db.execute(_ACTIVE):
        active.setdefault(row[0], []).append(_active_run(row))
    at_rest = json.dumps([name for name in names if name not in active])
    finished = {row[0]: _finished_run(row) for row in db.execute(_NEWEST_FINISHED, (at_rest,))}
    holds: dict[str, list[Hold]] = {}
    for row in db.execute(
        f"SELECT {HOLDS.columns} FROM holds WHERE until IS NULL OR until > ?", (to_microseconds(now),)
    ):
        holds.setdefault(row[0], []).append(HOLDS.read(row))
    cursors = {name: _cursor(name, due_at) for name, due_at in db.execute("SELECT job_id, next_due_at FROM cursors")}
    successes = db.execute(_LAST_SUCCESS, (json.dumps(names),)).fetchall()
    return Counted(
        states={
            name: JobState(
                id=name,
                active=tuple(active.get(name, ())),
                newest_finished=finished.get(name),
                holds=tuple(holds.get(name, ())),
                cursor=cursors.get(name),
            )
            for name in {*active, *finished, *holds, *cursors}
        },
        last_success_at={name: from_microseconds(at) for name, at in successes if at is not None},
        dead_letters=dict(db.execute("SELECT job_id, count(*) FROM dead_letters GROUP BY job_id")),
        pending_alerts=db.execute("SELECT count(*) FROM alerts WHERE state = 'pending'").fetchone()[0],
    )


def _active_run(row: tuple[Any, ...]) -> ActiveRun:
    job_id, run_id, trigger, state, queued_at, not_before_at, attempts, restarts, ending, *seen = row
    run = Run(
        id=run_id,
        job_id=job_id,
        occasion="",
        trigger=Trigger(trigger),
        state=RunState(state),
        queued_at=from_microseconds(queued_at),
        not_before_at=from_microseconds(not_before_at),
        attempts=attempts,
        restarts=restarts,
        ending=None if ending is None else Reason(ending),
    )
    return ActiveRun(run, None if seen[0] is None else _observed(run, *seen))


def _observed(
    run: Run,
    attempt_id: str,
    number: int,
    pid: int | None,
    started_at: int | None,
    exited_at: int | None,
    is_healthy: int | None,
    cpu_seconds: float | None,
    cpu_percent: float | None,
    memory_mb: float | None,
) -> Observed:
    attempt = Attempt(
        id=attempt_id,
        run_id=run.id,
        job_id=run.job_id,
        number=number,
        mark="",
        boot_id="",
        created_at=EPOCH,
        terms=_NO_TERMS,
        pid=pid,
        started_at=None if started_at is None else from_microseconds(started_at),
        exited_at=None if exited_at is None else from_microseconds(exited_at),
    )
    # What has not been found out, unhealthy or well, and what has not been found at all come to the same.
    health = None if is_healthy is None else Health(run.job_id, attempt_id, bool(is_healthy), EPOCH, EPOCH)
    usage = None
    if cpu_seconds is not None and memory_mb is not None:
        usage = Usage(run.job_id, attempt_id, EPOCH, cpu_seconds, cpu_percent, memory_mb)
    return Observed(attempt, _UNSEEN, health=health, usage=usage)


def _cursor(job_id: str, next_due_at: int | None) -> Cursor:
    return Cursor(job_id, "", EPOCH, None if next_due_at is None else from_microseconds(next_due_at))


def _finished_run(row: tuple[Any, ...]) -> Run:
    job_id, run_id, trigger, state, restarts, process_hash = row
    return Run(
        id=run_id,
        job_id=job_id,
        occasion="",
        trigger=Trigger(trigger),
        state=RunState(state),
        queued_at=EPOCH,
        not_before_at=EPOCH,
        restarts=restarts,
        process_hash=process_hash,
    )
