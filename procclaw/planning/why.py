"""Why a job is not running, and when it could start at the earliest: every gate between it and its next start.

The same gates the planner asks, and before them what only matters while no run is waiting: whether the job wants to run
at all, and when.
"""

from datetime import datetime

from procclaw.model.spec import JobSpec, JobType
from procclaw.model.state import Hold, JobState, Lack, Reason, Run, RunState, Trigger
from procclaw.planning.gates import Gate, enabled_gate, rests, run_gates, standing_gates
from procclaw.planning.views import View, gate_view, moment


def gates(
    spec: JobSpec, job: JobState, home_holds: tuple[Hold, ...], lack: Lack | None, now: datetime
) -> tuple[Gate, ...]:
    """Every gate of the job's next start, in the order in which they are told."""
    waiting = next((active.run for active in job.active if active.live is None), None)
    live = sum(1 for active in job.active if active.live is not None)
    found = [_enabled(spec, waiting), *standing_gates(spec, job, home_holds)]
    if waiting is None:
        found.append(_wanting(spec, job, now))
        waiting = _imagined(spec, now)
    found += run_gates(waiting, spec, live, lack, now)
    return tuple(found)


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
            return Gate("schedule", Reason.NOT_DUE, detail, None, due_at, f"procclaw run {spec.id}")


def _resting(spec: JobSpec, last: Run | None) -> Gate:
    if not rests(spec, last) or last is None:
        return Gate("wanted")
    how = "failed" if last.state is RunState.FAILED else "finished"
    detail = f"its last run {how}: {str(last.reason).replace('_', ' ')}"
    return Gate("wanted", last.reason, detail, last.finished_at, None, f"procclaw start {spec.id}")


def _imagined(spec: JobSpec, now: datetime) -> Run:
    """The run that would stand at the gates if the job were asked to run now."""
    trigger = Trigger.CONTINUOUS if spec.type is JobType.CONTINUOUS else Trigger.MANUAL
    return Run("", spec.id, "", trigger, RunState.QUEUED, now, now)


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
