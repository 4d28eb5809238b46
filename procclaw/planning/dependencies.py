"""Dependencies: what a run waits for before its first attempt, and what is started because somebody waits for it.

A dependency is judged anew each time, from what is recorded and seen, so one that restarts meanwhile neither wedges
whoever waits for it nor counts twice. A manual job cannot come up by itself: it is started once per waiting run.
"""

from collections.abc import Iterator
from datetime import datetime

from procclaw.model.reasons import Reason
from procclaw.model.records import HoldKind, Run, RunState
from procclaw.model.spec import Condition, Dependency, JobSpec, JobType, Spec
from procclaw.model.state import JobState
from procclaw.planning.board import Board, up
from procclaw.planning.gates import Gate, hold_of

GATE = "dependency"


def unmet(run: Run, spec: JobSpec, board: Board) -> tuple[Dependency, ...]:
    """The dependencies that a run before its first attempt still waits for."""
    return tuple(dependency for dependency in spec.depends_on if lack_of(dependency, run, board) is not None)


def dependency_gates(run: Run, spec: JobSpec, board: Board) -> Iterator[Gate]:
    """One gate for each dependency; none asks a run that has had its first attempt."""
    for dependency in spec.depends_on if run.attempts == 0 else ():
        what_lacks = lack_of(dependency, run, board)
        about = f"{dependency.job} {dependency.condition}"
        if what_lacks is None:
            yield Gate(GATE, detail=f"{dependency.job} ({dependency.condition})", about=about)
        else:
            detail = f"{dependency.job} ({dependency.condition}): {what_lacks}"
            yield Gate(GATE, Reason.DEPENDENCY, detail, about=about)


def asks_for_boot(spec: Spec) -> bool:
    """Whether anything here is judged by when the machine was booted: only what depends upon a manual job is."""
    names = {each.job for job in spec.jobs.values() for each in job.depends_on}
    return any(spec.jobs[name].type is JobType.MANUAL for name in names & spec.jobs.keys())


def job_waited_for(gate: Gate) -> str:
    """Of a dependency's gate: the job depended upon."""
    return gate.about.partition(" ")[0]


def lack_of(dependency: Dependency, run: Run, board: Board) -> str | None:
    """What the dependency lacks for this run, in words; None: nothing."""
    spec = board.spec_of(dependency.job)
    if spec is None:
        return "there is no such job"
    match dependency.condition:
        case Condition.AFTER_START:
            return None if _has_started(spec, run, board) else _present(spec, board, "has not started")
        case Condition.AFTER_HEALTHY:
            return _why_not_healthy(spec, board)
        case Condition.AFTER_COMPLETE:
            return _why_not_complete(spec, board)


def _has_started(spec: JobSpec, run: Run, board: Board) -> bool:
    """It runs, or has run since this run was made (a manual job: since the machine was booted)."""
    if board.is_up(spec.id) is not None:
        return True
    job = board.job(spec.id)
    known = [active.run for active in job.active]
    known += [each for each in (job.newest_finished, job.newest_begun) if each is not None]
    since = None if spec.type is JobType.MANUAL else run.queued_at
    return any(_ran(other, since=since, board=board) for other in known)


def _ran(run: Run, *, since: datetime | None, board: Board) -> bool:
    if run.attempts == 0:
        return False
    if since is None:
        return run.boot_id == board.boot_id and (not run.is_active or run.state is RunState.RETRYING)
    # What was noted for later than now was noted before the clock was set back. An end that was noted at the moment at
    # which the waiting run was made lay before it: that was when somebody looked.
    has_started = run.started_at is not None and since <= run.started_at <= board.now
    if run.finished_at is None or not _ended_with_an_attempt(run):
        return has_started
    # One that ended before it started was noted on both sides of a step of the clock; its end came later.
    return since < run.finished_at <= board.now or (has_started and since <= run.finished_at)


def _ended_with_an_attempt(run: Run) -> bool:
    """Not so one that was taken back while it waited for its next attempt, long after its last one was over: nothing
    had to be ended for that.
    """
    return run.state in (RunState.SUCCEEDED, RunState.FAILED) or run.ending is not None


def _why_not_healthy(spec: JobSpec, board: Board) -> str | None:
    if board.is_up(spec.id) is None:
        return _present(spec, board, "does not run")
    if not spec.health_check.is_probed:
        return None
    lives = [live for live in map(up, board.job(spec.id).active) if live is not None]
    if any(live.health is not None and live.health.is_healthy for live in lives):
        return None
    seen = next((live.health for live in lives if live.health is not None), None)
    if seen is None:
        return "runs, and has not been checked yet"
    how = "is not healthy yet" if seen.is_healthy is None else "is unhealthy"
    return f"runs, and {how}" + (f": {seen.detail}" if seen.detail else "")


def _why_not_complete(spec: JobSpec, board: Board) -> str | None:
    job = board.job(spec.id)
    # A run that came to nothing (taken back, expired) says nothing about the job's work.
    newest = job.newest_begun or job.newest_finished
    if board.is_active(spec.id):
        return _present(spec, board, "has not completed")
    if newest is None:
        return _present(spec, board, "has never run")
    if newest.state is not RunState.SUCCEEDED:
        how = f" ({newest.detail})" if newest.detail else ""
        return f"its newest run did not succeed: {newest.state}{how}"
    if spec.type is JobType.MANUAL and newest.boot_id != board.boot_id:
        return "has not run since the machine was booted"
    return None


def _present(spec: JobSpec, board: Board, what: str) -> str:
    """What it lacks, and what it does instead."""
    job = board.job(spec.id)
    for kind, word in ((HoldKind.REVOKE, "revoked"), (HoldKind.PAUSE, "paused")):
        if hold_of(job, kind):
            return f"{what}: it is {word}"
    if hold_of(job, HoldKind.STOP) and spec.type is JobType.CONTINUOUS:
        return f"{what}: it is stopped"
    if not spec.enabled and not board.is_active(spec.id):
        return f"{what}: it is disabled"
    state = next((str(active.run.state) for active in job.active if not active.run.is_ahead(board.now)), None)
    return what if state is None else f"{what}: it is {state}"


def to_pull(run: Run, spec: JobSpec, board: Board) -> Iterator[str]:
    """The manual jobs to start for this run: those that do not qualify, are not active and were not started for it."""
    for dependency in unmet(run, spec, board):
        other = board.spec_of(dependency.job)
        if other is None or other.type is not JobType.MANUAL or other.id in run.pulled:
            continue
        if not board.is_active(other.id) and not _is_held(board.job(other.id)):
            yield other.id


def _is_held(job: JobState) -> bool:
    return any(hold.kind in (HoldKind.PAUSE, HoldKind.REVOKE) for hold in job.holds)
