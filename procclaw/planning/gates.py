"""What stands between a job and its start: every gate, open or closed, since when, until when, and who can open it.

The planner starts a run when no gate is closed and otherwise waits for the first closed one; `why` prints them all. One
list for both, so what people are told is what the loop does.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from procclaw.model.clock import after
from procclaw.model.spec import JobSpec, JobType
from procclaw.model.state import Hold, HoldKind, JobState, Lack, Reason, Run, RunState, Trigger

LONGEST_LACK_SECONDS = 60.0
"""A lack that asks for longer was noted under a clock that has been set back since."""


class Gate(NamedTuple):
    """One condition on a start. `reason` None means open."""

    gate: str
    reason: Reason | None = None
    detail: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """When it opens by itself; None: not by itself, or nobody knows when."""
    unblock: str | None = None
    """The command that opens it."""


_HOLDS = (
    (HoldKind.REVOKE, "revoked", Reason.REVOKED, "unrevoke"),
    (HoldKind.PAUSE, "paused", Reason.PAUSED, "resume"),
    (HoldKind.STOP, "stopped", Reason.STOPPED, "start"),
)


def hold_of(job: JobState, kind: HoldKind) -> Hold | None:
    return next((hold for hold in job.holds if hold.kind is kind), None)


def slots_held(job: JobState, home_holds: tuple[Hold, ...], spec: JobSpec) -> Reason | None:
    """The hold for which due slots are skipped, if any."""
    if hold_of(job, HoldKind.REVOKE):
        return Reason.REVOKED
    if hold_of(job, HoldKind.PAUSE):
        return Reason.PAUSED
    if home_holds:
        return Reason.HOME_STOPPED
    return Reason.NOT_BUILT if spec.not_built else None


def enabled_gate(spec: JobSpec, run: Run) -> Gate:
    """A disabled job does nothing of its own accord, be it a slot that waits or a retry; what a person wants goes
    ahead.
    """
    if spec.enabled or run.trigger in (Trigger.MANUAL, Trigger.CONTINUOUS):
        return Gate("enabled")
    return Gate("enabled", Reason.DISABLED, "disabled in jobs.yaml", unblock=f"enabled: true at {spec.source}")


def standing_gates(spec: JobSpec, job: JobState, home_holds: tuple[Hold, ...]) -> Iterator[Gate]:
    """The gates that no run passes while they are closed, whatever occasioned it, in the order of telling."""
    for kind, name, reason, command in _HOLDS:
        # What stops a continuous job is a hold; of other jobs a stop ends the runs there are and holds nothing.
        is_bound = kind is not HoldKind.STOP or spec.type is JobType.CONTINUOUS
        hold = hold_of(job, kind) if is_bound else None
        if hold is None:
            yield Gate(name)
        else:
            yield Gate(name, reason, f"by {hold.by}", hold.since, None, f"procclaw {command} {job.id}")
    if home_holds:
        hold = home_holds[0]
        unblock = "procclaw daemon start"
        yield Gate("home", Reason.HOME_STOPPED, f"everything was stopped by {hold.by}", hold.since, None, unblock)
    else:
        yield Gate("home")
    missing = ", ".join(spec.not_built)
    if missing:
        yield Gate("built", Reason.NOT_BUILT, f"not built yet: {missing}", unblock=f"remove {missing} from {job.id}")
    else:
        yield Gate("built")


def run_gates(run: Run, spec: JobSpec, live: int, lack: Lack | None, now: datetime) -> Iterator[Gate]:
    """The gates of one run that waits for its next attempt; `live` counts the job's attempts that are not over."""
    if run.not_before_at <= now:
        yield Gate("time")
    elif run.state is RunState.RETRYING:
        how = f" ({run.detail})" if run.detail else ""
        detail = f"attempt {run.attempts} ended{how}, attempt {run.attempts + 1} follows"
        yield Gate("time", Reason.RETRY_DELAY, detail, None, run.not_before_at, f"procclaw restart {run.job_id}")
    else:
        yield Gate("time", Reason.JITTER, "its jitter", run.queued_at, run.not_before_at, f"procclaw run {run.job_id}")
    yield place_gate(run, spec, live)
    yield resource_gate(lack, now)


def place_gate(run: Run, spec: JobSpec, live: int) -> Gate:
    """Closed while as many of the job's attempts as there may be are not over."""
    limit = 1 if spec.type is JobType.CONTINUOUS else spec.concurrency.max_instances
    if live < limit:
        return Gate("max_instances")
    detail = f"{live} of at most {limit} running"
    return Gate("max_instances", Reason.MAX_INSTANCES, detail, run.waiting_since, None, f"procclaw stop {run.job_id}")


def resource_gate(lack: Lack | None, now: datetime) -> Gate:
    """Closed while ProcClaw itself lacks something: that is no failure of the job's."""
    if lack is None or not now < lack.retry_at <= after(now, LONGEST_LACK_SECONDS):
        return Gate("resources")
    return Gate("resources", lack.reason, lack.detail, None, lack.retry_at)


def expires_at(run: Run, spec: JobSpec) -> datetime | None:
    """When a run that waits for a place gives up; None: it does not wait for one, or waits as long as it takes."""
    may_expire = run.state is RunState.QUEUED and run.trigger in (Trigger.MANUAL, Trigger.SCHEDULE)
    if run.waiting_since is None or not may_expire:
        return None
    return after(run.waiting_since, spec.concurrency.queue_timeout_seconds)


def rests(spec: JobSpec, last: Run | None) -> bool:
    """Whether a continuous job's last run left it at rest: until a person starts it or changes what its process sees.

    A run of the time before the job was continuous leaves nothing at rest.
    """
    if last is None or last.trigger is not Trigger.CONTINUOUS:
        return False
    if last.state not in (RunState.FAILED, RunState.SUCCEEDED):
        return False
    return last.process_hash == spec.process_hash
