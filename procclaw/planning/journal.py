"""The line that each change leaves in the audit trail and the log: one per transition, none for an idle cycle.

Made from the rows a plan writes, so a change cannot be recorded without being told.
"""

from collections.abc import Iterable
from datetime import datetime

from procclaw.model.alerts import Alert, AlertState
from procclaw.model.clock import iso
from procclaw.model.intents import Intent
from procclaw.model.records import (
    NO_JOBS,
    WORKFLOWS,
    Attempt,
    Event,
    Health,
    Hold,
    HoldLifted,
    JobForgotten,
    Run,
    SlotOutcome,
    Slots,
    SlotsWithdrawn,
    Usage,
    WorkflowRun,
)
from procclaw.model.rows import Write

Fields = dict[str, object]


def events(writes: Iterable[Write], now: datetime) -> tuple[Event, ...]:
    told = (_tell(write, now) for write in sorted(writes, key=_rank))
    return tuple(_event(now, *each) for each in told if each is not None)


def _rank(write: Write) -> int:
    """What is found of an attempt comes before its end, and that before its run's, in whatever order it is written."""
    return (Health, Usage, Attempt).index(type(write)) if isinstance(write, Health | Usage | Attempt) else 3


def _event(now: datetime, kind: str, job_id: str, fields: Fields) -> Event:
    pairs = ((name, _text(value)) for name, value in fields.items() if value is not None and value != "")
    return Event(now, kind, None if job_id in NO_JOBS else job_id, tuple(pairs))


def _text(value: object) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)


def attempt_started(attempt: Attempt, now: datetime) -> Event:
    fields: Fields = {"run": attempt.run_id, "attempt": attempt.number, "shim": attempt.pid}
    return _event(now, "attempt started", attempt.job_id, fields)


def alert_settled(alert: Alert, now: datetime) -> Event:
    """Of one that was delivered, or is not tried any more."""
    kind = {AlertState.SENT: "alert sent", AlertState.UNCONFIRMED: "alert unconfirmed"}.get(
        alert.state, "alert not delivered"
    )
    fields: Fields = {"alert": alert.kind, "key": alert.key, "tries": alert.tries, "detail": alert.detail}
    return _event(now, kind, alert.job_id, fields)


def _tell(write: Write, now: datetime) -> tuple[str, str, Fields] | None:
    match write:
        case Attempt() if write.ended_at is not None:
            return "attempt ended", write.job_id, _of_ended(write)
        case Attempt() if write.stop is not None and write.stop.signalled_at is None and write.stop.killed_at is None:
            fields: Fields = {"run": write.run_id, "reason": write.stop.reason, "detail": write.detail}
            return "stop ordered", write.job_id, fields | {"shim": write.pid}
        case Health() if write.is_healthy is not None and write.since == write.checked_at:
            fields = {"health": "healthy" if write.is_healthy else "unhealthy", "detail": write.detail}
            return "health changed", write.job_id, _named(write.attempt_id) | fields
        case Usage() if write.over_since == write.measured_at:
            return "limit passed", write.job_id, _named(write.attempt_id) | {"detail": write.detail}
        case Run() if write.finished_at is not None:
            fields = {"run": write.id, "state": write.state, "code": write.exit_code, "reason": write.reason}
            return "run finished", write.job_id, fields | {"attempts": write.attempts, "detail": write.detail}
        case WorkflowRun() if write.finished_at is not None:
            fields = {"workflow": write.name or write.spec.type, "run": write.id, "state": write.state}
            return "workflow finished", WORKFLOWS, fields | {"reason": write.reason, "detail": write.detail}
        case WorkflowRun() if write.queued_at == now:
            fields = {"workflow": write.name or write.spec.type, "run": write.id, "by": write.by}
            return "workflow started", WORKFLOWS, fields
        case Slots() if write.outcome is not SlotOutcome.RAN:
            fields = {"first": write.first_due_at, "last": write.last_due_at, "slots": write.total}
            return f"slot {write.outcome}", write.job_id, fields | {"reason": write.reason}
        case SlotsWithdrawn():
            return "clock went back", write.job_id, {"to": write.after}
        case Hold():
            return "hold set", write.job_id, {"hold": write.kind, "by": write.by}
        case HoldLifted():
            return "hold lifted", write.job_id, {"hold": write.kind}
        case Alert():
            fields = {"alert": write.kind, "run": write.run_id, "delivery": write.state, "message": write.message}
            return "alert raised", write.job_id, fields | {"detail": write.detail}
        case JobForgotten():
            return "job removed", write.job_id, {}
        case Intent() if write.resolved_at is not None:
            fields = {"request": write.kind, "by": write.requested_by, "answer": write.state, "message": write.message}
            return "request answered", write.job_id, fields
        case _:
            return None


def _named(attempt_id: str) -> Fields:
    run_id, _, number = attempt_id.rpartition(".")
    return {"run": run_id, "attempt": number}


def _of_ended(attempt: Attempt) -> Fields:
    return {
        "run": attempt.run_id,
        "attempt": attempt.number,
        "outcome": attempt.reason,
        "code": attempt.exit_code,
        "detail": attempt.detail,
    }
