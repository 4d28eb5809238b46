"""How a person or a program sees a job and a run: derived from the records each time, never stored.

One shape everywhere: the API answers these and `--json` prints them. Imports only what `procclaw list` can afford.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain
from typing import Any

from procclaw.model.clock import iso, seconds_between
from procclaw.model.intents import Intent, IntentState
from procclaw.model.records import Attempt, Event, Hold, HoldKind, Run, RunState, Slots
from procclaw.model.spec import CheckType, JobSpec, JobType
from procclaw.model.state import ActiveRun, JobState, Lack, Observed
from procclaw.planning.board import Board
from procclaw.planning.dependencies import dependency_gates
from procclaw.planning.gates import (
    Gate,
    enabled_gate,
    hold_of,
    launch_gates,
    rests,
    shared_gates,
    slots_held,
    standing_gates,
    time_gate,
    unbegun_run,
    waiting_run,
)

View = dict[str, Any]

STATUSES = (
    "running",
    "stopping",
    "failed",
    "retrying",
    "queued",
    "planned",
    "pending",
    "paused",
    "disabled",
    "stopped",
)


def moment(at: datetime | None) -> str | None:
    return None if at is None else iso(at)


def status(spec: JobSpec, job: JobState, home_holds: tuple[Hold, ...], now: datetime) -> str:
    live = [active for active in job.active if active.live is not None]
    unbegun = unbegun_run(job)
    if live and unbegun is None:
        is_stopping = all(active.run.ending is not None or _has_exited(active) for active in live)
        return "stopping" if is_stopping else "running"
    active = [each for each in job.active if not each.run.is_ahead(now)]
    if not spec.enabled and all(enabled_gate(spec, each.run).reason is not None for each in active):
        return "disabled"
    if hold_of(job, HoldKind.REVOKE) or hold_of(job, HoldKind.PAUSE):
        return "paused"
    if home_holds or (hold_of(job, HoldKind.STOP) and spec.type is JobType.CONTINUOUS):
        return "stopped"
    if unbegun is not None:
        return "pending"
    if any(each.run.state is RunState.RETRYING for each in active):
        return "retrying"
    if active:
        return "queued"
    return "planned" if job.active else _status_at_rest(spec, job)


def _has_exited(active: ActiveRun) -> bool:
    """Its main process is gone, and what it left behind is being stopped."""
    return active.live is not None and active.live.attempt.exited_at is not None


def _status_at_rest(spec: JobSpec, job: JobState) -> str:
    last = job.newest_finished
    if spec.type is JobType.CONTINUOUS:
        if not rests(spec, last):
            return "pending"
        return "failed" if last is not None and last.state is RunState.FAILED else "stopped"
    if job.cursor is not None and job.cursor.next_due_at is not None:
        return "planned"
    if spec.type is JobType.SCHEDULED:
        return "pending"
    return "failed" if last is not None and last.state is RunState.FAILED else "stopped"


def reason(spec: JobSpec, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None) -> str | None:
    """In words, why the job is not running, or what is wrong with it; None when there is nothing to say."""
    job = board.job(spec.id)
    if board.live(spec.id) and unbegun_run(job) is None:
        return _of_living(spec, job)
    closed = _first_closed(spec, board, home_holds, lack)
    if closed is not None:
        return words(closed)
    last = job.newest_finished
    if last is not None and last.state is RunState.FAILED:
        return f"last run failed: {_how(last)}"
    return None


def _of_living(spec: JobSpec, job: JobState) -> str | None:
    living = [active.live for active in job.active if active.live is not None]
    for attempt in (live.attempt for live in living):
        if attempt.stop is not None:
            return attempt.detail or str(attempt.stop.reason).replace("_", " ")
    sick = next((live.health for live in living if live.health is not None and live.health.is_healthy is False), None)
    if sick is not None and spec.health_check.is_probed:
        return f"unhealthy: {sick.detail}"
    passed = next((live.usage.detail for live in living if live.usage is not None and live.usage.detail), None)
    return None if spec.resources is None else passed


def _first_closed(spec: JobSpec, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None) -> Gate | None:
    job = board.job(spec.id)
    unbegun = unbegun_run(job)
    if unbegun is not None:
        gates = launch_gates(unbegun, spec, job, home_holds, lack, board.now)
        return next(gate for gate in gates if gate.reason is not None)
    run = waiting_run(job, board.now)
    if run is None:
        return next((gate for gate in standing_gates(spec, job, home_holds) if gate.reason is not None), None)
    return first_closed_before(run, spec, board, home_holds, lack)


def first_closed_before(
    run: Run, spec: JobSpec, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None
) -> Gate | None:
    """The first closed gate that a waiting run stands before, with since when; None: it can start."""
    gates = chain(
        (enabled_gate(spec, run),),
        standing_gates(spec, board.job(spec.id), home_holds),
        (time_gate(run, board.now),),
        dependency_gates(run, spec, board),
        shared_gates(run, spec, board, lack),
    )
    closed = next((gate for gate in gates if gate.reason is not None), None)
    return None if closed is None else closed._replace(since=closed.since or run.waits_since(closed.key))


def words(gate: Gate) -> str:
    """One line about a closed gate."""
    assert gate.reason is not None
    text = gate.detail or str(gate.reason).replace("_", " ")
    if gate.gate in ("paused", "stopped", "revoked"):
        text = f"{gate.gate} {text}"
    return text if gate.until is None else f"{text}; until {iso(gate.until)}"


def _how(run: Run) -> str:
    why = str(run.reason).replace("_", " ")
    return f"{run.detail}; {why}" if run.detail else why


def job_view(spec: JobSpec, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None, now: datetime) -> View:
    job = board.job(spec.id)
    alive = (active.live for active in job.active if active.live is not None and not _has_exited(active))
    seen = next(alive, None) if unbegun_run(job) is None else None
    live = None if seen is None else seen.attempt
    usage = None if seen is None else seen.usage
    last = job.newest_finished
    newest = job.active[-1].run if job.active else last
    shown = status(spec, job, home_holds, now)
    is_held = slots_held(job, home_holds) is not None or shown in ("disabled", "stopped")
    next_due_at = None if job.cursor is None or not spec.enabled else job.cursor.next_due_at
    return {
        "id": spec.id,
        "name": spec.name,
        "description": spec.description,
        "type": str(spec.type),
        "status": shown,
        "health": _health(spec, seen),
        "enabled": spec.enabled,
        "paused": hold_of(job, HoldKind.PAUSE) is not None,
        "tags": list(spec.tags),
        "pid": None if live is None else live.job_pid,
        "started_at": None if live is None else moment(live.started_at),
        "uptime_seconds": _uptime(live, now),
        "restart_count": 0 if newest is None else newest.restarts,
        "last_run": moment(_last_start(job)),
        "last_exit_code": None if newest is None else _last_code(newest, last),
        "next_run": None if is_held else moment(_next_start(job, next_due_at, now)),
        "reason": reason(spec, board, home_holds, lack),
        "schedule": list(spec.schedule),
        "depends_on": [
            {"job": each.job, "condition": str(each.condition), "timeout": each.timeout_seconds}
            for each in spec.depends_on
        ],
        "cpu_percent": None if usage is None else usage.cpu_percent,
        "memory_mb": None if usage is None else usage.memory_mb,
    }


def _last_start(job: JobState) -> datetime | None:
    runs = [active.run for active in job.active]
    runs += [job.newest_finished] if job.newest_finished is not None else []
    return max((run.started_at for run in runs if run.started_at is not None), default=None)


def _last_code(newest: Run, last: Run | None) -> int | None:
    if newest.exit_code is not None or last is None:
        return newest.exit_code
    return last.exit_code


def _health(spec: JobSpec, live: Observed | None) -> str | None:
    """What the checks say; of the process check, which looks at nothing else, alive is healthy."""
    kind = spec.health_check.type
    if kind is CheckType.NONE:
        return None
    if live is None or (spec.health_check.is_probed and (live.health is None or live.health.is_healthy is None)):
        return "unknown"
    return "healthy" if not spec.health_check.is_probed or (live.health and live.health.is_healthy) else "unhealthy"


def _uptime(live: Attempt | None, now: datetime) -> float | None:
    if live is None or live.started_at is None:
        return None
    return max(0.0, round(seconds_between(live.started_at, now), 3))


def _next_start(job: JobState, next_due_at: datetime | None, now: datetime) -> datetime | None:
    """The next moment at which the clock alone would start something; what waits at a gate has none."""
    waiting = [active.run.not_before_at for active in job.active if active.live is None]
    return min((at for at in (*waiting, next_due_at) if at is not None and at > now), default=None)


def run_view(run: Run, attempts: Iterable[Attempt], now: datetime) -> View:
    listed = [attempt_view(attempt) for attempt in attempts]
    ends_at = run.finished_at or now
    return {
        "id": run.id,
        "job_id": run.job_id,
        "state": str(run.state),
        "trigger": str(run.trigger),
        "priority": str(run.priority),
        "params": dict(run.params),
        "scheduled_at": moment(run.scheduled_at),
        "queued_at": moment(run.queued_at),
        "started_at": moment(run.started_at),
        "finished_at": moment(run.finished_at),
        "duration_seconds": None if run.started_at is None else round(seconds_between(run.started_at, ends_at), 3),
        "attempts": listed,
        "exit_code": run.exit_code,
        "signal": listed[-1]["signal"] if listed else None,
        "reason": None if run.reason is None else str(run.reason),
        "detail": run.detail or (listed[-1]["detail"] if listed else ""),
        "result": _result(listed),
    }


def _result(attempts: list[View]) -> Any:
    """What the newest attempt that left a result left."""
    return next((each["result"] for each in reversed(attempts) if each["result"] is not None), None)


def attempt_view(attempt: Attempt) -> View:
    return {
        "number": attempt.number,
        "pid": attempt.job_pid,
        "started_at": moment(attempt.started_at),
        "finished_at": moment(attempt.exited_at if attempt.ended_at else None),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "reason": None if attempt.reason is None else str(attempt.reason),
        "detail": attempt.detail,
        "cpu_seconds": attempt.cpu_seconds,
        "max_rss_mb": attempt.max_rss_mb,
        "result": None if attempt.result is None else json.loads(attempt.result),
    }


def slots_view(row: Slots) -> View:
    return {
        "job_id": row.job_id,
        "first_due_at": moment(row.first_due_at),
        "last_due_at": moment(row.last_due_at),
        "count": row.total,
        "outcome": str(row.outcome),
        "reason": None if row.reason is None else str(row.reason),
        "run_id": row.run_id,
    }


def event_view(event: Event) -> View:
    return {"id": event.id, "at": moment(event.at), "event": event.kind, "job_id": event.job_id, **dict(event.fields)}


def intent_view(intent: Intent, pid: int | None) -> View:
    """The answer to a request, in the shape that `start` and its like give."""
    return {
        "success": has_succeeded(intent),
        "message": intent.message,
        "job_id": intent.job_id,
        "run_id": intent.run_id,
        "pid": pid,
    }


def has_succeeded(intent: Intent) -> bool:
    """Whether what was asked for is done, or as good as done: its run waits for what is under way."""
    return intent.state is IntentState.DONE or (intent.state is IntentState.ACCEPTED and bool(intent.message))


def gate_view(gate: Gate) -> View:
    return {
        "gate": gate.gate,
        "open": gate.reason is None,
        "reason": gate.detail or (None if gate.reason is None else str(gate.reason)),
        "since": moment(gate.since),
        "until": moment(gate.until),
        "unblock": gate.unblock,
    }


def matches(view: Mapping[str, Any], text: str) -> bool:
    """Whether a search finds the job: by id, name, description or a tag, ignoring case."""
    wanted = text.casefold()
    return any(wanted in part.casefold() for part in (view["id"], view["name"], view["description"], *view["tags"]))
