"""What stands between a job and its start: every gate, open or closed, since when, until when, and who can open it.

The planner starts a run when no gate is closed and otherwise waits for the first closed one; `why` prints them all. One
list for both, so what people are told is what the loop does.
"""

import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from procclaw.model.clock import after, seconds_between
from procclaw.model.outside import LockHolder
from procclaw.model.reasons import Reason
from procclaw.model.records import DESPITE_DISABLED, Hold, HoldKind, Run, RunState, Trigger
from procclaw.model.spec import Dedup, JobSpec, JobType
from procclaw.model.state import ActiveRun, JobState, Lack
from procclaw.planning.board import LOCK, Board

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
    about: str = ""
    """Which of several gates of that name."""

    @property
    def key(self) -> str:
        return f"{self.gate} {self.about}".rstrip()


AWAITED = frozenset({"dependency", "max_instances", "queue", "max_parallel", "lock"})
"""Gates that other runs close and open; a run remembers since when it stands before one."""
PLACES = frozenset({"max_instances", "queue"})
"""Gates at which a run waits for its turn; `queue_timeout` counts waiting there and nowhere else."""
PLACE = "place"
"""The name under which a run remembers since when it waits for its turn and for nothing else."""
_NAMES_SHOWN = 3


_HOLDS = (
    (HoldKind.REVOKE, "revoked", Reason.REVOKED, "unrevoke"),
    (HoldKind.PAUSE, "paused", Reason.PAUSED, "resume"),
    (HoldKind.STOP, "stopped", Reason.STOPPED, "start"),
)


def hold_of(job: JobState, kind: HoldKind) -> Hold | None:
    return next((hold for hold in job.holds if hold.kind is kind), None)


def slots_held(job: JobState, home_holds: tuple[Hold, ...]) -> Reason | None:
    """The hold for which due slots are skipped, if any."""
    if hold_of(job, HoldKind.REVOKE):
        return Reason.REVOKED
    if hold_of(job, HoldKind.PAUSE):
        return Reason.PAUSED
    return Reason.HOME_STOPPED if home_holds else None


def enabled_gate(spec: JobSpec, run: Run) -> Gate:
    """A disabled job does nothing of its own accord, be it a slot that waits or a retry; what somebody wants of it
    goes ahead.
    """
    if spec.enabled or run.trigger in DESPITE_DISABLED:
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
            yield Gate(name, reason, f"by {hold.by}", hold.since, hold.until, f"procclaw {command} {job.id}")
    if home_holds:
        hold = home_holds[0]
        unblock = "procclaw daemon start"
        yield Gate("home", Reason.HOME_STOPPED, f"everything was stopped by {hold.by}", hold.since, None, unblock)
    else:
        yield Gate("home")


def time_gate(run: Run, now: datetime) -> Gate:
    """Closed until the run may start (again): a named time, a retry's delay or a slot's jitter."""
    if run.not_before_at <= now:
        return Gate("time")
    if run.state is RunState.RETRYING:
        how = f" ({run.detail})" if run.detail else ""
        ended = f"attempt {run.attempts} ended" if run.attempts else "it did not come to a start"
        detail = f"{ended}{how}, attempt {run.attempts + 1} follows"
        return Gate("time", Reason.RETRY_DELAY, detail, None, run.not_before_at, f"procclaw restart {run.job_id}")
    unblock = f"procclaw run {run.job_id}"
    if run.trigger is Trigger.ETA:
        return Gate("time", Reason.ETA, "planned for later", run.queued_at, run.not_before_at, unblock)
    return Gate("time", Reason.JITTER, "its jitter", run.queued_at, run.not_before_at, unblock)


def unbegun_run(job: JobState) -> ActiveRun | None:
    """The run whose start was decided and of whose process nothing is known, where none of the job's lives.

    For a moment that is so of every start; longer only if ProcClaw lacks something, or if nobody has looked since.
    """
    live = [active for active in job.active if active.live is not None]
    return live[0] if live and all(_is_unbegun(active) for active in live) else None


def _is_unbegun(active: ActiveRun) -> bool:
    is_wanted = active.run.ending is None
    return is_wanted and active.live is not None and active.live.attempt.pid is None


def launch_gates(
    begun: ActiveRun, spec: JobSpec, job: JobState, home_holds: tuple[Hold, ...], lack: Lack | None, now: datetime
) -> Iterator[Gate]:
    """What an attempt that has been decided on still has to pass: it has its places."""
    assert begun.live is not None
    attempt = begun.live.attempt
    gates = (enabled_gate(spec, begun.run), *standing_gates(spec, job, home_holds), resource_gate(lack, now))
    yield from gates
    if attempt.refusal is not None:
        detail = f"attempt {attempt.number} did not start: {attempt.detail}"
        yield Gate("start", attempt.refusal, detail, attempt.created_at, None, "procclaw reconcile")
    elif all(gate.reason is None for gate in gates):
        detail = f"the start of attempt {attempt.number} is under way"
        yield Gate("start", Reason.STARTING, detail, attempt.created_at, None, "procclaw reconcile")
    else:
        yield Gate("start")


def shared_gates(run: Run, spec: JobSpec, board: Board, lack: Lack | None) -> Iterator[Gate]:
    """The gates at which runs compete with each other: places, the lock, and what ProcClaw itself lacks."""
    yield place_gate(spec, board.live(run.job_id))
    yield queue_gate(run, spec, board)
    yield parallel_gate(run, board)
    yield lock_gate(spec, board)
    yield resource_gate(lack, board.now)


def place_gate(spec: JobSpec, live: int) -> Gate:
    """Closed while as many of the job's attempts as there may be are not over."""
    limit = 1 if spec.type is JobType.CONTINUOUS else spec.concurrency.max_instances
    if live < limit:
        return Gate("max_instances")
    detail = f"{live} of at most {limit} running"
    # A stop of the job would end what waits as well.
    unblock = f"a larger concurrency.max_instances at {spec.source}" if spec.type is not JobType.CONTINUOUS else None
    return Gate("max_instances", Reason.MAX_INSTANCES, detail, unblock=unblock)


def queue_gate(run: Run, spec: JobSpec, board: Board) -> Gate:
    """Closed while the runs of its named queue take up all places there are."""
    if spec.queue is None or run.trigger is Trigger.CONTINUOUS:
        return Gate("queue")
    running, limit = board.in_queue(spec.queue), board.spec.queue_limit(spec.queue)
    if len(running) < limit:
        return Gate("queue")
    detail = f"queue {spec.queue}: {len(running)} of at most {limit} running: {_named(running)}"
    ahead = board.ahead(run)
    if ahead:
        detail += f"; {len(ahead)} ahead of it: {_named(ahead)}"
    other = next((each.job_id for each in running if each.job_id != run.job_id), None)
    unblock = f"a larger queues.{spec.queue}.limit in jobs.yaml" if other is None else f"procclaw stop {other}"
    return Gate("queue", Reason.QUEUE, detail, unblock=unblock)


def parallel_gate(run: Run, board: Board) -> Gate:
    """Closed while as many runs that end by themselves have a process as daemon.max_parallel allows."""
    limit = board.spec.config.max_parallel
    if limit is None or run.trigger is Trigger.CONTINUOUS or len(board.parallel) < limit:
        return Gate("max_parallel")
    detail = f"{len(board.parallel)} of at most {limit} runs in all: {_named(board.parallel)}"
    return Gate("max_parallel", Reason.MAX_PARALLEL, detail, unblock="a larger daemon.max_parallel in procclaw.yaml")


def lock_gate(spec: JobSpec, board: Board) -> Gate:
    """Closed while somebody else has the job's lock."""
    if spec.lock is None:
        return Gate(LOCK)
    sight = board.lock(spec)
    if sight.is_free:
        return Gate(LOCK)
    detail = f"lock {spec.lock.name}: " + (f"held by {sight.holder}" if sight.holder else "not free")
    holder = LockHolder.told_by(sight.holder)
    if holder is None or (holder.home is None and holder.job_id == spec.id):
        return Gate(LOCK, Reason.LOCK, detail)
    command = "procclaw" if holder.home is None else f"procclaw --home {shlex.quote(holder.home)}"
    return Gate(LOCK, Reason.LOCK, detail, unblock=f"{command} stop {holder.job_id}")


def _named(runs: list[Run]) -> str:
    """For people: the jobs of these runs, with what makes one go before another."""
    shown = ", ".join(f"{run.job_id} ({run.priority})" for run in runs[:_NAMES_SHOWN])
    more = len(runs) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def resource_gate(lack: Lack | None, now: datetime) -> Gate:
    """Closed while ProcClaw itself lacks something: that is no failure of the job's."""
    if lack is None or not now < lack.retry_at <= after(now, LONGEST_LACK_SECONDS):
        return Gate("resources")
    return Gate("resources", lack.reason, lack.detail, None, lack.retry_at)


def standing_for(
    dedup: Dedup | None, runs: Iterable[Run], params: tuple[tuple[str, str], ...], at: datetime, now: datetime
) -> Run | None:
    """The newest of these runs that stands for another with these params, asked for or due at that moment; None: none
    does.

    Slots are told apart by when they are due: those noticed at once have nothing else to do with each other. Near is
    near in either direction: of a request and a slot that nobody saw to for a while, the later may get its run first.
    """
    if dedup is None:
        return None
    times = ((run, run.scheduled_at or run.queued_at) for run in runs)
    # What lies ahead was asked for before the clock was set back.
    past = ((run, asked_at) for run, asked_at in times if asked_at <= now)
    recent = (run for run, asked_at in past if abs(seconds_between(asked_at, at)) < dedup.window_seconds)
    stands = (run for run in recent if run.is_active or run.state is RunState.SUCCEEDED)
    same = [run for run in stands if run.params == params or not dedup.use_params]
    return max((run for run in same if not run.is_ahead(now)), key=lambda run: run.queued_at, default=None)


def expires_at(run: Run, spec: JobSpec) -> datetime | None:
    """When a run that waits for its turn gives up; None: it does not wait for that, or waits as long as it takes."""
    waiting_since = run.waits_since(PLACE)
    # A file triggers once: what became of it must not depend on how many others there were.
    never_expires = run.trigger in (Trigger.CONTINUOUS, Trigger.CATCH_UP, Trigger.ETA, Trigger.FILE)
    if waiting_since is None or never_expires or run.state is not RunState.QUEUED:
        return None
    return after(waiting_since, spec.concurrency.queue_timeout_seconds)


def rests(spec: JobSpec, last: Run | None) -> bool:
    """Whether a continuous job's last run left it at rest: until a person starts it or changes what its process sees.

    A run of the time before the job was continuous leaves nothing at rest.
    """
    if last is None or last.trigger is not Trigger.CONTINUOUS:
        return False
    if last.state not in (RunState.FAILED, RunState.SUCCEEDED):
        return False
    return last.process_hash == spec.process_hash


def waiting_run(job: JobState, now: datetime) -> Run | None:
    """The run that waits for its start; one for a time that has not come only if there is no other."""
    waiting = [active.run for active in job.active if active.live is None]
    return min(waiting, key=lambda run: run.is_ahead(now), default=None)


def standing_or_imagined(spec: JobSpec, board: Board) -> Run:
    """The run that waits for its start; if none does, one as it would be made now."""
    return waiting_run(board.job(spec.id), board.now) or imagined_run(spec, board.now)


def imagined_run(spec: JobSpec, now: datetime) -> Run:
    """The run that would stand at the gates if the job were asked to run now."""
    trigger = Trigger.CONTINUOUS if spec.type is JobType.CONTINUOUS else Trigger.MANUAL
    params = tuple(sorted((each.name, each.default) for each in spec.params if each.default is not None))
    return Run("", spec.id, "", trigger, RunState.QUEUED, now, now, priority=spec.priority, params=params)
