"""Runs without a process: in the order of priority and age each starts its next attempt, waits at a closed gate, or is
over.

What a run takes is taken on the board for those behind it; what it pulls in is judged in the next round of the same
plan. A run remembers since when it stands before each gate, and gives up where there is a limit to that.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import count, islice

from procclaw.model.clock import after
from procclaw.model.outside import RecordPhase
from procclaw.model.reasons import Reason
from procclaw.model.records import HELD_BY, Run, RunState, Terms, Trigger
from procclaw.model.spec import JobSpec, JobType, Spec
from procclaw.model.state import State
from procclaw.planning import attempts, dependencies, requests
from procclaw.planning.actions import Start
from procclaw.planning.board import LOCK, Board, order_of
from procclaw.planning.draft import Draft, Going
from procclaw.planning.gates import (
    AWAITED,
    PLACE,
    PLACES,
    Gate,
    enabled_gate,
    expires_at,
    shared_gates,
    standing_gates,
    time_gate,
)
from procclaw.planning.outcome import delay_seconds, gave_up

LOOK_FOR_LOCK_SECONDS = 1.0
"""How often to try a lock that somebody outside this home may have."""


def advance(spec: Spec, state: State, drafts: Mapping[str, Draft], now: datetime, *, sees_locks: bool) -> None:
    """Move on every run without a process: it starts, waits for a gate, or is over."""
    for draft in drafts.values():
        # Grows while it is walked: what ends here may make room for the run that a restart asked for.
        requests.open_awaited(draft)
        for going in draft.going:
            if going.live is None and not going.is_over and (going.run.ending is not None or draft.spec is None):
                draft.finish(going, RunState.STOPPED, going.run.ending or Reason.REMOVED)
                requests.open_awaited(draft)
    jobs = {**state.jobs, **{job_id: draft.job_now() for job_id, draft in drafts.items()}}
    board = Board(spec, jobs, state.boot_id, now, is_deciding=sees_locks)
    for draft in drafts.values():
        for going in draft.going:
            if going.live is not None and not going.is_over and going.live.sight.phase is RecordPhase.BLANK:
                attempts.relaunch(draft, going, going.live, board)
                requests.open_awaited(draft)
    judged: dict[str, tuple[Draft, Going]] = {}
    before_last_start = 0
    while waiting := [(draft, going) for draft, going in _waiting(drafts) if going.run.id not in judged]:
        # What one run pulls in or makes room for comes into the next round.
        for draft, going in sorted(waiting, key=lambda each: order_of(each[1].run)):
            judged[going.run.id] = (draft, going)
            if not going.is_over:
                _start_or_wait(draft, going, board, drafts)
                if going.run.id in draft.started:
                    before_last_start = len(judged)
                if going.is_over and any(other is not draft for other, _ in _waiting(drafts)):
                    # Who waits for what has just given up was judged, or is, by how it stood before.
                    draft.wake(draft.now)
    _remember_again(islice(judged.values(), before_last_start), board)
    for draft, going in _waiting(drafts):
        awaited = draft.awaits.get(going.run.id)
        if awaited and all(_is_under_way(job_id, drafts, board) for job_id in awaited):
            draft.moving.add(going.run.id)
        for other in (drafts[job_id] for job_id in awaited or () if job_id in drafts):
            if other.started:
                draft.wake(draft.now)  # by then it runs, which may be all that was waited for
            elif other.relaunched:
                draft.wake_within(attempts.SWEEP_SECONDS)


def _remember_again(judged: Iterable[tuple[Draft, Going]], board: Board) -> None:
    """What started after a run was judged may have closed another gate before it."""
    for draft, going in judged:
        if not going.is_over and going.run.id not in draft.started:
            assert draft.spec is not None
            _stand_before(going, draft.spec, _closed_gates(draft, going.run, draft.spec, board), board)


def _waiting(drafts: Mapping[str, Draft]) -> Iterator[tuple[Draft, Going]]:
    for draft in drafts.values():
        for going in draft.going:
            if going.live is None and not going.is_over:
                yield draft, going


def _start_or_wait(draft: Draft, going: Going, board: Board, drafts: Mapping[str, Draft]) -> None:
    spec, now = draft.spec, draft.now
    assert spec is not None  # what shall end, or is no longer declared, is over by now
    run = _revived(_set_back(going.run, spec, now), spec, now)
    closed = _closed_gates(draft, run, spec, board)
    going.run = run
    _stand_before(going, spec, closed, board)
    if not closed:
        _start(draft, going, spec)
        board.begin(going.run)
        return
    if _has_given_up(draft, going, spec, closed):
        return
    if closed[0].reason is Reason.DEPENDENCY:
        _pull_dependencies(draft, going, spec, board, drafts)
    draft.wait(going.run, closed[0])
    draft.in_the_way.update(_in_the_way(going.run, spec, closed, board))
    if closed[0].reason is Reason.LOCK:
        # Nothing wakes us when somebody outside lets go of it. One that nobody has tried yet is tried at once.
        draft.wake_within(LOOK_FOR_LOCK_SECONDS if draft.job.lock is not None else 0)


def _stand_before(going: Going, spec: JobSpec, closed: list[Gate], board: Board) -> None:
    holder = board.lock(spec).holder if LOCK in (gate.gate for gate in closed) else ""
    going.run = going.run._replace(closed=_remembered(going.run, closed, holder, board.now))


def _closed_gates(draft: Draft, run: Run, spec: JobSpec, board: Board) -> list[Gate]:
    """The gates that keep a run from starting: the first that does not depend on other runs, else all that do.

    The lock is asked for last, by who would start if it had it: until then it is nothing that the run waits for.
    """
    for gate in (enabled_gate(spec, run), *standing_gates(spec, draft.held_now(), draft.state.home_holds)):
        if gate.reason is not None:
            return [gate]
    gate = time_gate(run, draft.now)
    if gate.reason is not None:
        return [gate]
    gates = (*dependencies.dependency_gates(run, spec, board), *shared_gates(run, spec, board, draft.state.lack))
    closed = [gate for gate in gates if gate.reason is not None]
    return [gate for gate in closed if gate.reason is not Reason.LOCK] or closed


def _in_the_way(run: Run, spec: JobSpec, closed: list[Gate], board: Board) -> Iterator[str]:
    """The jobs that have to move before the run can: those it depends upon, those that have its place, and those that
    go before it.
    """
    for gate in closed:
        match gate.reason:
            case Reason.DEPENDENCY:
                yield from (each.job for each in dependencies.unmet(run, spec, board))
            case Reason.QUEUE if spec.queue is not None:
                yield from (each.job_id for each in board.in_queue(spec.queue))
                yield from board.jobs_before(run, spec.queue)
            case Reason.MAX_PARALLEL:
                yield from (each.job_id for each in board.parallel)
                yield from board.jobs_before(run, None)
            case _:
                pass


def _remembered(run: Run, closed: list[Gate], holder: str, now: datetime) -> tuple[tuple[str, datetime], ...]:
    """Since when it stands before these gates, a hold or a time tells that by itself; and who has the lock it wants."""
    keys = [gate.key for gate in closed if gate.gate in AWAITED]
    if closed and all(gate.gate in PLACES for gate in closed):
        keys.append(PLACE)
    if closed and closed[0].gate in AWAITED and run.waits_since(LOCK) is not None and LOCK not in keys:
        keys.append(LOCK)  # while another has its place it has not begun to wait for the lock anew
    if holder:
        keys.append(HELD_BY + holder)
    return tuple((key, run.waits_since(key) or now) for key in keys)


def _has_given_up(draft: Draft, going: Going, spec: JobSpec, closed: list[Gate]) -> bool:
    """Whether the run has waited as long as it may; else the loop is woken when it has."""
    run = going.run
    gives_up_at = expires_at(run, spec)
    if gives_up_at is not None and gives_up_at <= draft.now:
        draft.finish(going, RunState.EXPIRED, Reason.QUEUE_TIMEOUT, closed[0].detail)
        _wake_for_next(draft, going, spec)
        return True
    draft.wake(gives_up_at)
    for gate, reason, seconds in _limits(spec, closed):
        deadline_at = after(run.waits_since(gate.key) or draft.now, seconds)
        if deadline_at <= draft.now:
            draft.judge(going, gave_up(run, spec, reason, f"waited {seconds:g} s for {gate.detail}", draft.now))
            draft.note_unstarted(going.run)
            if going.run.is_active:
                delay = time_gate(going.run, draft.now)
                draft.wait(going.run, delay if delay.reason is not None else gate)
            _wake_for_next(draft, going, spec)
            return True
        draft.wake(deadline_at)
    return False


def _wake_for_next(draft: Draft, going: Going, spec: JobSpec) -> None:
    if going.run.is_active:
        draft.wake(going.run.not_before_at)
    elif spec.type is JobType.CONTINUOUS:
        draft.wake(draft.now)  # it was made before the job was continuous, which is wanted instead


def _limits(spec: JobSpec, closed: list[Gate]) -> Iterator[tuple[Gate, Reason, float]]:
    """The gates at which there is a limit to waiting."""
    timeouts = {f"{each.job} {each.condition}": each.timeout_seconds for each in spec.depends_on}
    for gate in closed:
        if gate.reason is Reason.DEPENDENCY:
            seconds = timeouts.get(gate.about)
            if seconds is not None:
                yield gate, Reason.DEPENDENCY_TIMEOUT, seconds
        elif gate.reason is Reason.LOCK and spec.lock is not None:
            yield gate, Reason.LOCK_TIMEOUT, spec.lock.timeout_seconds


def _pull_dependencies(draft: Draft, going: Going, spec: JobSpec, board: Board, drafts: Mapping[str, Draft]) -> None:
    """Start the manual jobs that this run waits for and that nobody else would start."""
    draft.awaits[going.run.id] = tuple(each.job for each in dependencies.unmet(going.run, spec, board))
    for job_id in dependencies.to_pull(going.run, spec, board):
        other = drafts.get(job_id)
        if other is None or other.active_count():
            continue
        other.open_run(f"dependency:{going.run.id}", Trigger.DEPENDENCY)
        going.run = going.run._replace(pulled=(*going.run.pulled, job_id))


def _is_under_way(job_id: str, drafts: Mapping[str, Draft], board: Board) -> bool:
    """Whether the job may come to run, or to an end, without anybody doing anything."""
    draft = drafts.get(job_id)
    if draft is None:
        return board.is_active(job_id)
    return any(
        _comes_to_run(draft, going, drafts, board)
        for going in draft.going
        if not going.is_over and not going.run.is_ahead(draft.now)
    )


def _comes_to_run(draft: Draft, going: Going, drafts: Mapping[str, Draft], board: Board) -> bool:
    gate = draft.blocked.get(going.run.id)
    if going.live is not None or gate is None:
        return True
    if gate.reason is Reason.DEPENDENCY:
        awaited = draft.awaits.get(going.run.id, ())
        return all(_is_under_way(job_id, drafts, board) for job_id in awaited)
    return gate.gate in AWAITED or gate.until is not None


def _set_back(run: Run, spec: JobSpec, now: datetime) -> Run:
    """The run, waiting no longer than it should where the clock has been set back since it began to wait."""
    run = run._replace(closed=tuple((gate, min(since, now)) for gate, since in run.closed))
    if run.state is RunState.RETRYING:
        latest_at = after(now, delay_seconds(run, spec.retry))
        return run._replace(not_before_at=min(run.not_before_at, latest_at))
    too_far = max(run.queued_at - now, timedelta(0))
    # The time that a person named is one of the wall clock's.
    moved = run.not_before_at if run.trigger is Trigger.ETA else run.not_before_at - too_far
    return run._replace(queued_at=run.queued_at - too_far, not_before_at=moved)


def _revived(run: Run, spec: JobSpec, now: datetime) -> Run:
    """A continuous run waiting to retry starts at once, counting afresh, when what its process can see was changed."""
    if run.trigger is not Trigger.CONTINUOUS or run.process_hash == spec.process_hash:
        return run
    return run._replace(process_hash=spec.process_hash, failures=0, not_before_at=min(run.not_before_at, now))


def _start(draft: Draft, going: Going, spec: JobSpec) -> None:
    run = going.run
    number = run.attempts + 1
    taken = {other.live.attempt.instance for other in draft.going if other.live} | set(draft.started.values())
    instance = next(place for place in count() if place not in taken)
    terms = Terms(
        signal=spec.shutdown.signal,
        grace_seconds=spec.shutdown.grace_seconds,
        leftovers=spec.shutdown.leftovers,
        success_exit_codes=spec.success_exit_codes,
        timeout_seconds=spec.timeout_seconds,
        process_hash=spec.process_hash,
        queue=spec.queue,
    )
    draft.started[run.id] = instance
    draft.effects.append(Start(run.job_id, run.id, number, instance, terms, _why_started(run)))
    going.run = run._replace(
        state=RunState.RUNNING,
        attempts=number,
        started_at=run.started_at or draft.now,
        process_hash=spec.process_hash,
        boot_id=draft.state.boot_id,
    )


def _why_started(run: Run) -> str:
    if run.state is RunState.RETRYING:
        return f"attempt {run.attempts + 1}" + (f" after {run.failures} failed" if run.failures else "")
    return f"due {run.scheduled_at:%Y-%m-%d %H:%M:%SZ}" if run.scheduled_at is not None else _WHY_STARTED[run.trigger]


_WHY_STARTED = {
    Trigger.CONTINUOUS: "wanted running",
    Trigger.MANUAL: "asked for",
    Trigger.SCHEDULE: "due",
    Trigger.CATCH_UP: "due",
    Trigger.ETA: "planned for this time",
    Trigger.DEPENDENCY: "another job waits for it",
    Trigger.WEBHOOK: "triggered",
    Trigger.FILE: "triggered by a file",
    Trigger.WORKFLOW: "a workflow's step",
    Trigger.DEAD_LETTER: "put in again from the dead letter queue",
}
