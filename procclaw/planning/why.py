"""Why a job is not running, and when it could start at the earliest: every gate between it and its next start.

The same gates the planner asks, and before them what only matters while no run is waiting: whether the job wants to run
at all, and when.
"""

from collections.abc import Iterator
from datetime import datetime

from procclaw.model.clock import after, seconds_between
from procclaw.model.reasons import Reason
from procclaw.model.records import Hold, HoldKind, Run, RunState
from procclaw.model.spec import JobSpec, JobType, Overlap
from procclaw.model.state import JobState, Lack
from procclaw.planning.board import Board
from procclaw.planning.dependencies import dependency_gates, job_waited_for
from procclaw.planning.gates import (
    Gate,
    enabled_gate,
    hold_of,
    imagined_run,
    launch_gates,
    rests,
    shared_gates,
    standing_for,
    standing_gates,
    time_gate,
    unbegun_run,
    waiting_run,
)
from procclaw.planning.slots import start_after_jitter
from procclaw.planning.views import View, first_closed_before, gate_view, moment


def gates(
    spec: JobSpec, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None, now: datetime
) -> tuple[Gate, ...]:
    """Every gate of the job's next start, in the order in which they are told."""
    job = board.job(spec.id)
    unbegun = unbegun_run(job)
    if unbegun is not None:
        return tuple(launch_gates(unbegun, spec, job, home_holds, lack, now))
    waiting = waiting_run(job, now)
    found = [_enabled(spec, waiting), *standing_gates(spec, job, home_holds)]
    if waiting is None:
        found.append(_wanting(spec, job, now))
        waiting = imagined_run(spec, now)
        found += _admissions(spec, board, now)
    found.append(time_gate(waiting, now))
    for gate in dependency_gates(waiting, spec, board):
        found.append(gate if gate.reason is None else gate._replace(unblock=_opening(gate, board, home_holds, lack)))
    found += shared_gates(waiting, spec, board, lack)
    return tuple(_since(gate, waiting) if gate.reason is not None else gate for gate in found)


def _opening(gate: Gate, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None) -> str | None:
    """The command that lets a dependency come to what is waited for; None: that only takes time.

    Follows those that wait for each other to the one that waits for something else; there are no cycles among them.
    """
    closed: Gate | None = gate
    while closed is not None and closed.gate == gate.gate:
        job_id = job_waited_for(closed)
        spec, job = board.spec_of(job_id), board.job(job_id)
        if spec is None:
            return f"declare {job_id}, or remove it from depends_on"
        for kind, command in ((HoldKind.REVOKE, "unrevoke"), (HoldKind.PAUSE, "resume")):
            if hold_of(job, kind):
                return f"procclaw {command} {job_id}"
        if not board.is_active(job_id):
            return f"procclaw start {job_id}"
        if board.live(job_id):
            return f"procclaw restart {job_id}" if _is_sick(job) else None
        run = waiting_run(job, board.now)
        assert run is not None  # it is active, and nothing of it lives
        closed = first_closed_before(run, spec, board, home_holds, lack)
    return None if closed is None else closed.unblock


def _is_sick(job: JobState) -> bool:
    found = (active.live.health for active in job.active if active.live is not None)
    return any(health is not None and health.is_healthy is False for health in found)


def _since(gate: Gate, waiting: Run) -> Gate:
    return gate._replace(since=gate.since or waiting.waits_since(gate.key))


def _admissions(spec: JobSpec, board: Board, now: datetime) -> Iterator[Gate]:
    """What would keep another run from being made at all, while none waits."""
    job = board.job(spec.id)
    if spec.dedup is not None:
        known = {run.id: run for run in job.recent} | {active.run.id: active.run for active in job.active}
        earlier = standing_for(spec.dedup, known.values(), imagined_run(spec, now).params, now, now)
        if earlier is None:
            yield Gate("dedup")
        else:
            since = earlier.scheduled_at or earlier.queued_at
            detail = (
                f"run {earlier.id}, asked for {int(seconds_between(since, now))} s ago, stands for the same request"
            )
            until = after(since, spec.dedup.window_seconds)
            yield Gate("dedup", Reason.DEDUP, detail, since, until)
    if spec.type is JobType.SCHEDULED:
        active = len(job.active)  # all with a process: nothing waits
        if active >= spec.concurrency.max_instances and spec.on_overlap is Overlap.SKIP:
            detail = f"{active} active: a time that falls due is skipped (on_overlap: skip)"
            yield Gate("overlap", Reason.OVERLAP, detail, unblock=f"procclaw stop {spec.id}")
        else:
            yield Gate("overlap")


def _enabled(spec: JobSpec, waiting: Run | None) -> Gate:
    """Closed when being disabled keeps the job from wanting to run, or the run that waits from starting."""
    if waiting is not None:
        return enabled_gate(spec, waiting)
    if spec.enabled or spec.type is JobType.MANUAL:
        return Gate("enabled")
    unblock = f"procclaw start {spec.id}, or enabled: true at {spec.source}"
    return Gate("enabled", Reason.DISABLED, "disabled in jobs.yaml", unblock=unblock)


def _wanting(spec: JobSpec, job: JobState, now: datetime) -> Gate:
    """What would make the job want to run, while it has no run waiting."""
    match spec.type:
        case JobType.MANUAL:
            verb = "run" if job.active else "start"
            return Gate("asked", Reason.NOT_DUE, "runs only when asked", unblock=f"procclaw {verb} {spec.id}")
        case JobType.CONTINUOUS:
            return _resting(spec, job.newest_finished) if not job.active else Gate("wanted")
        case JobType.SCHEDULED | JobType.ONESHOT if not spec.enabled:
            return Gate("schedule")  # it has no slots now: that it is disabled says it all
        case JobType.SCHEDULED | JobType.ONESHOT:
            due_at = None if job.cursor is None else job.cursor.next_due_at
            if due_at is not None and due_at <= now:
                return Gate("schedule")
            detail = "not due yet" if due_at is not None else "no time left in its schedule"
            starts_at = None if due_at is None else start_after_jitter(spec, due_at)
            return Gate("schedule", Reason.NOT_DUE, detail, None, starts_at, f"procclaw run {spec.id}")


def _resting(spec: JobSpec, last: Run | None) -> Gate:
    if not rests(spec, last) or last is None:
        return Gate("wanted")
    how = "failed" if last.state is RunState.FAILED else "finished"
    detail = f"its last run {how}: {str(last.reason).replace('_', ' ')}"
    return Gate("wanted", last.reason, detail, last.finished_at, None, f"procclaw start {spec.id}")


def why_view(spec: JobSpec, found: tuple[Gate, ...]) -> View:
    closed = [gate for gate in found if gate.reason is not None]
    untils = [gate.until for gate in closed]
    earliest = None if None in untils else max((at for at in untils if at is not None), default=None)
    return {
        "job_id": spec.id,
        "can_start": not closed,
        "earliest_start": moment(earliest),
        "gates": [gate_view(gate) for gate in found],
    }
