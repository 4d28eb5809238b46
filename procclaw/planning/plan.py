"""The decision: what is to be done now, given what is wanted, what is recorded and what was seen.

Pure: the same spec, state and moment give the same plan, and once its writes are recorded a plan asks for nothing
twice. For each job, in this order:

1. attempts    an end that was seen is recorded
2. requests    what people asked for, in the order of asking
3. wanting     runs that should be no more (removed, disabled, changed, home stopped) are marked as ending
4. slots       every due slot gets its row in the ledger, and perhaps a run
5. continuous  a job that is wanted running and has no run gets one
6. runs        each run without a process starts its next attempt, waits for the first closed gate, or is over
7. stops       each ending run's attempt is signalled, and killed when its grace is over
8. answers     requests whose result has come are answered
9. forgetting  a job that is no longer declared leaves nothing behind but its history
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain

from procclaw.model.clock import after, to_microseconds
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Overlap, Spec
from procclaw.model.state import (
    HOME,
    HoldKind,
    Intent,
    IntentKind,
    IntentState,
    JobForgotten,
    JobState,
    Reason,
    RecordPhase,
    Run,
    RunState,
    State,
    Terms,
    Trigger,
)
from procclaw.planning import attempts, requests, slots
from procclaw.planning.actions import Plan, Start
from procclaw.planning.attempts import is_unkillable, names
from procclaw.planning.draft import Draft, Going
from procclaw.planning.gates import Gate, enabled_gate, expires_at, rests, run_gates, slots_held, standing_gates
from procclaw.planning.outcome import delay_seconds
from procclaw.planning.timetable import NO_SCHEDULE


def plan(spec: Spec, state: State, now: datetime, *, judges_slots: bool = True) -> Plan:
    """What to do about every job in `state.jobs`; `plans`, as one."""
    return merged(plans(spec, state, now, judges_slots=judges_slots).values())


def plans(spec: Spec, state: State, now: datetime, *, judges_slots: bool = True) -> dict[str, Plan]:
    """What to do about every job in `state.jobs`, by job, in the order in which it is done.

    `judges_slots` False leaves the schedules alone: a request's pass acts on what was asked and on nothing else.
    """
    home = _take_home(state, now)
    # A hold of the home is recorded together with what the jobs do, so they must know of it already.
    state = state._replace(home_holds=tuple(home.holds.values()))
    found = {
        job_id: plan_job(spec.jobs.get(job_id), state.jobs[job_id], state, now, judges_slots=judges_slots)
        for job_id in sorted(state.jobs)
        if job_id != HOME
    }
    if home.intents:
        _answer_home(home, merged(found.values()))
        found[HOME] = home.result()
    return found


def plan_home(state: State, now: datetime, *, is_quiet: bool = True) -> Plan:
    """What to do about requests of the home where no job is known; `is_quiet` False: something may run all the same."""
    home = _take_home(state, now)
    if is_quiet:
        _answer_home(home, Plan())
    return home.result()


def merged(found: Iterable[Plan]) -> Plan:
    each = tuple(found)
    return Plan(
        writes=tuple(write for one in each for write in one.writes),
        effects=tuple(effect for one in each for effect in one.effects),
        waits=tuple(wait for one in each for wait in one.waits),
        wake_at=min((one.wake_at for one in each if one.wake_at is not None), default=None),
    )


def plan_job(spec: JobSpec | None, job: JobState, state: State, now: datetime, *, judges_slots: bool = True) -> Plan:
    """What to do about one job; `spec` None: it is no longer declared."""
    draft = Draft(spec, job, state, now)
    attempts.settle(draft)
    requests.take(draft)
    _end_unwanted(draft)
    if judges_slots:
        _judge_slots(draft)
    _want_continuous(draft)
    _advance_runs(draft)
    attempts.press_stops(draft)
    requests.answer(draft)
    if judges_slots:
        _forget_removed(draft)
    return draft.result()


def _take_home(state: State, now: datetime) -> Draft:
    """Take the requests about the home as a whole; what the jobs do follows from its hold, in their own plans."""
    home = state.jobs.get(HOME) or JobState(HOME, holds=state.home_holds)
    draft = Draft(None, home, state, now)
    for intent in home.intents:
        answer = intent
        match intent.kind:
            case IntentKind.HOLD_HOME if intent.state is IntentState.PENDING:
                draft.hold(HoldKind.STOP, intent.requested_by)
                answer = intent._replace(state=IntentState.ACCEPTED)
            case IntentKind.HOLD_HOME:
                pass
            case IntentKind.LOOK:
                answer = draft.done(intent, "looked at everything")
            case IntentKind.RELEASE_HOME:
                draft.lift(HoldKind.STOP)
                answer = draft.done(intent, "released")
            case _:
                answer = draft.refused(intent, f"{intent.kind} needs a job")
        draft.intents[intent.id] = answer
    return draft


def _answer_home(draft: Draft, of_jobs: Plan) -> None:
    for intent in draft.open_intents():
        draft.intents[intent.id] = _answer_hold(draft, intent, of_jobs)


def _answer_hold(draft: Draft, intent: Intent, of_jobs: Plan) -> Intent:
    if HoldKind.STOP not in draft.holds:
        return draft.refused(intent, "cannot stop everything: released meanwhile")
    over = {write.id for write in of_jobs.writes if isinstance(write, Run) and not write.is_active}
    jobs = sorted(draft.state.jobs.values(), key=lambda job: job.id)
    left = [active for job in jobs for active in job.active if active.run.id not in over]
    if not left:
        return draft.done(intent, "nothing is left running")
    stuck = [active.live for active in left if active.live and is_unkillable(active.live.attempt.stop, draft.now)]
    if stuck:
        what = "; ".join(f"{live.attempt.job_id}: {names(live.members or ())}" for live in stuck)
        return draft.refused(intent, f"cannot stop everything: killed, but still there: {what}")
    return intent


# --- 3. wanting ---


def _end_unwanted(draft: Draft) -> None:
    spec = draft.spec
    for going in draft.going:
        if going.is_over:
            continue
        if spec is not None and spec.enabled and going.run.despite_disabled:
            going.run = going.run._replace(despite_disabled=False)
        reason = _why_unwanted(draft, going)
        if reason is not None and going.run.ending is None:
            draft.end(going, reason)


def _why_unwanted(draft: Draft, going: Going) -> Reason | None:
    spec = draft.spec
    if spec is None:
        return Reason.REMOVED
    if draft.state.home_holds:
        return Reason.HOME_STOPPED
    if going.run.trigger is not Trigger.CONTINUOUS:
        return None
    if spec.type is not JobType.CONTINUOUS:
        return Reason.CHANGED
    if not spec.enabled and not going.run.despite_disabled:
        return Reason.DISABLED
    if HoldKind.STOP in draft.holds:
        return Reason.STOP_REQUESTED  # the stop itself ended what it found; this came back with an older database
    if going.live is not None and going.live.attempt.terms.process_hash != spec.process_hash:
        return Reason.CHANGED
    return Reason.RESTORED if _is_doubled(draft, going) else None


def _is_doubled(draft: Draft, going: Going) -> bool:
    """Whether another run has the job's one process: a database that was put back took an older run for the present."""
    runs = [other for other in draft.going if other.is_wanted and other.run.trigger is Trigger.CONTINUOUS]
    return going.live is None and going.is_wanted and going is not max(runs, key=lambda other: other.live is not None)


# --- 4. slots ---


def _judge_slots(draft: Draft) -> None:
    spec, job, state = draft.spec, draft.job_now(), draft.state
    if spec is None:
        return

    def admit(due_at: datetime, trigger: Trigger) -> slots.Admission:
        return _admit(draft, spec, due_at, trigger)

    held = slots_held(job, state.home_holds, spec)
    judgement = slots.judge(spec, job, held, state.restored_until, draft.now, admit)
    if judgement.withdrawn is not None:
        draft.writes.append(judgement.withdrawn)
    draft.writes.extend(judgement.rows)
    if judgement.cursor is not None:
        draft.writes.append(judgement.cursor)
    draft.wake(judgement.next_due_at)


def _admit(draft: Draft, spec: JobSpec, due_at: datetime, trigger: Trigger) -> slots.Admission:
    """Make the run of a due slot, unless the job's overlap rule says otherwise."""
    waits_its_turn = trigger is Trigger.CATCH_UP and spec.catch_up.policy is CatchUpPolicy.ALL
    if draft.active_count() >= spec.concurrency.max_instances and not waits_its_turn:
        match spec.on_overlap:
            case Overlap.SKIP:
                if not _supersede_retrying(draft):
                    return slots.Admission(None, Reason.OVERLAP)
            case Overlap.KILL_RESTART:
                _end_oldest(draft, spec)
            case Overlap.QUEUE:
                if not spec.concurrency.queue_excess:
                    return slots.Admission(None, Reason.QUEUE_FULL)
    run = draft.open_run(f"slot:{to_microseconds(due_at)}", trigger, due_at)
    draft.going[-1].run = run._replace(not_before_at=slots.start_after_jitter(spec, due_at))
    return slots.Admission(run.id, None)


def _supersede_retrying(draft: Draft) -> bool:
    """A due slot takes the place of a run that only waits to retry: a retry never delays a schedule."""
    for going in draft.going:
        if going.run.state is RunState.RETRYING and going.live is None and going.is_wanted:
            draft.finish(going, RunState.SKIPPED, Reason.SUPERSEDED)
            return True
    return False


def _end_oldest(draft: Draft, spec: JobSpec) -> None:
    wanted = [going for going in draft.going if going.is_wanted]
    for going in wanted[: max(0, len(wanted) - spec.concurrency.max_instances + 1)]:
        draft.end(going, Reason.OVERLAP)


# --- 5. continuous ---


def _want_continuous(draft: Draft) -> None:
    spec = draft.spec
    if spec is None or spec.type is not JobType.CONTINUOUS or not spec.enabled or draft.active_count():
        return
    last = draft.newest_finished()
    if rests(spec, last):
        return
    if requests.awaiting_a_run(draft):
        return  # the request makes the run
    for gate in standing_gates(spec, draft.job_now(), draft.state.home_holds):
        if gate.reason is not None:
            draft.wait(None, gate)
            return
    draft.open_run(f"continuous:{last.id if last else 'first'}", Trigger.CONTINUOUS)


# --- 6. runs ---


def _advance_runs(draft: Draft) -> None:
    # Grows while it is walked: what ends here may make room for the run that a restart asked for.
    requests.open_awaited(draft)
    for going in draft.going:
        if going.live is not None and not going.is_over:
            if going.live.sight.phase is RecordPhase.BLANK:
                attempts.relaunch(draft, going, going.live)
        elif not going.is_over:
            _start_or_wait(draft, going)
        requests.open_awaited(draft)


def _start_or_wait(draft: Draft, going: Going) -> None:
    spec, run = draft.spec, going.run
    if run.ending is not None or spec is None:
        draft.finish(going, RunState.STOPPED, run.ending or Reason.REMOVED)
        return
    run = _revived(_set_back(run, spec, draft.now), spec, draft.now)
    gate = _first_closed(draft, run, spec)
    waits_for_place = gate is not None and gate.reason is Reason.MAX_INSTANCES
    if waits_for_place != (run.waiting_since is not None):
        run = run._replace(waiting_since=draft.now if waits_for_place else None)
    if gate is not None and waits_for_place:
        gate = gate._replace(since=run.waiting_since)
    going.run = run
    if gate is None:
        _start(draft, going, spec)
        return
    gives_up_at = expires_at(run, spec)
    if gives_up_at is not None and gives_up_at <= draft.now:
        draft.finish(going, RunState.EXPIRED, Reason.QUEUE_TIMEOUT, gate.detail)
        return
    draft.wake(gives_up_at)
    draft.wait(run, gate)


def _set_back(run: Run, spec: JobSpec, now: datetime) -> Run:
    """The run, waiting no longer than it should where the clock has been set back since it began to wait."""
    if run.state is RunState.RETRYING:
        latest_at = after(now, delay_seconds(run, spec.retry))
        return run._replace(not_before_at=min(run.not_before_at, latest_at))
    too_far = max(run.queued_at - now, timedelta(0))
    waiting_since = None if run.waiting_since is None else min(run.waiting_since, now)
    moved = run.not_before_at - too_far
    return run._replace(queued_at=run.queued_at - too_far, not_before_at=moved, waiting_since=waiting_since)


def _revived(run: Run, spec: JobSpec, now: datetime) -> Run:
    """A continuous run waiting to retry starts at once, counting afresh, when what its process can see was changed."""
    if run.trigger is not Trigger.CONTINUOUS or run.process_hash == spec.process_hash:
        return run
    return run._replace(process_hash=spec.process_hash, failures=0, not_before_at=min(run.not_before_at, now))


def _first_closed(draft: Draft, run: Run, spec: JobSpec) -> Gate | None:
    state = draft.state
    gates = chain(
        (enabled_gate(spec, run),),
        standing_gates(spec, draft.job_now(), state.home_holds),
        run_gates(run, spec, draft.live_count(), state.lack, draft.now),
    )
    return next((gate for gate in gates if gate.reason is not None), None)


def _start(draft: Draft, going: Going, spec: JobSpec) -> None:
    run = going.run
    number = run.attempts + 1
    taken = {other.live.attempt.instance for other in draft.going if other.live} | set(draft.started.values())
    instance = next(place for place in range(len(taken) + 1) if place not in taken)
    terms = Terms(
        signal=spec.shutdown.signal,
        grace_seconds=spec.shutdown.grace_seconds,
        leftovers=spec.shutdown.leftovers,
        success_exit_codes=spec.success_exit_codes,
        timeout_seconds=spec.timeout_seconds,
        process_hash=spec.process_hash,
    )
    draft.started[run.id] = instance
    draft.effects.append(Start(run.job_id, run.id, number, instance, terms, _why_started(run)))
    going.run = run._replace(
        state=RunState.RUNNING,
        attempts=number,
        started_at=run.started_at or draft.now,
        process_hash=spec.process_hash,
    )


# --- 9. forgetting ---


def _forget_removed(draft: Draft) -> None:
    cursor = draft.job.cursor
    is_remembered = (cursor is not None and cursor.schedule_key != NO_SCHEDULE) or bool(draft.holds)
    if draft.spec is None and is_remembered and not draft.active_count():
        draft.writes.extend(slots.rows_of_removed(draft.job, draft.now))
        draft.writes.append(JobForgotten(draft.job.id))


def _why_started(run: Run) -> str:
    if run.state is RunState.RETRYING:
        return f"attempt {run.attempts + 1}" + (f" after {run.failures} failed" if run.failures else "")
    match run.trigger:
        case Trigger.CONTINUOUS:
            return "wanted running"
        case Trigger.MANUAL:
            return "asked for"
        case Trigger.SCHEDULE | Trigger.CATCH_UP:
            return f"due {run.scheduled_at:%Y-%m-%d %H:%M:%SZ}"
