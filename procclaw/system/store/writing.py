"""How each kind of row is written: inserted, replaced or removed, and what goes with it."""

import json

from procclaw.model.alerts import Alert, Trouble, TroubleOver, Watch
from procclaw.model.clock import to_microseconds
from procclaw.model.errors import StoreError
from procclaw.model.intents import Intent
from procclaw.model.records import (
    Attempt,
    Cursor,
    CycleRecord,
    DeadLetter,
    DeadLettersPurged,
    Event,
    Health,
    Hold,
    HoldLifted,
    JobForgotten,
    Run,
    Slots,
    SlotsWithdrawn,
    TriggerFile,
    TriggerFileGone,
    Usage,
    WorkflowRun,
)
from procclaw.model.rows import Row
from procclaw.system.store.database import Database
from procclaw.system.store.retention import KEPT_CYCLES
from procclaw.system.store.tables import (
    ALERTS,
    ATTEMPTS,
    CURSORS,
    CYCLES,
    DEAD_LETTERS,
    EVENTS,
    HEALTH,
    HOLDS,
    INTENTS,
    RUNS,
    SLOTS,
    TRIGGER_FILES,
    TROUBLES,
    USAGE,
    WATCHES,
    WORKFLOW_RUNS,
)


def record_row(database: Database, row: Row) -> None:
    """Write one row, within the caller's transaction."""
    execute = database.execute
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
            _record_slots(database, row)
        case Cursor():
            execute(CURSORS.upsert, CURSORS.write(row))
        case Hold():
            execute(HOLDS.upsert, HOLDS.write(row))
        case Intent():
            execute(INTENTS.upsert, INTENTS.write(row))
        case Event():
            execute(EVENTS.insert, [*EVENTS.write(row)[:-1], None])
        case CycleRecord():
            newest = execute(CYCLES.insert, [*CYCLES.write(row)[:-1], None]).lastrowid
            assert newest is not None
            execute("DELETE FROM cycles WHERE id <= ?", (newest - KEPT_CYCLES,))
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
            _record_dead_letter(database, row)
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
            for table in ("holds", "troubles", "watches"):
                execute(f"DELETE FROM {table} WHERE job_id = ?", (row.job_id,))
            # It may come back: up to where its slots were judged stays known, for the clock may be set back before; and
            # so do the files that have triggered it.
            execute("UPDATE cursors SET schedule_key = '', next_due_at = NULL WHERE job_id = ?", (row.job_id,))


def _record_slots(database: Database, row: Slots) -> None:
    # Rows do not overlap each other, so it can only be the last ones that begin before this one ends.
    nearest = database.execute(
        "SELECT first_due_at, last_due_at, run_id FROM slots WHERE job_id = ? AND first_due_at <= ? "
        "ORDER BY first_due_at DESC LIMIT 2",
        (row.job_id, to_microseconds(row.last_due_at)),
    ).fetchall()
    first_due_at = to_microseconds(row.first_due_at)
    others = [other for other in nearest if (other[0], other[2]) != (first_due_at, row.run_id)]
    if any(last_due_at >= first_due_at for _, last_due_at, _ in others):
        raise StoreError(f"{database.path}: a slot of {row.job_id} would be in the ledger twice: {row}")
    database.execute(SLOTS.upsert, SLOTS.write(row))


def _record_dead_letter(database: Database, row: DeadLetter) -> None:
    """A new entry has no id yet; of a run there is one entry, however often it is written."""
    columns = DEAD_LETTERS.write(row)
    if row.id == 0:
        database.execute(f"{DEAD_LETTERS.insert} ON CONFLICT (run_id) DO NOTHING", [None, *columns[1:]])
    else:
        database.execute(DEAD_LETTERS.upsert, columns)
