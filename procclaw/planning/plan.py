"""The decision: what is to be done now, given what is wanted, what is recorded and what was seen.

Pure: the same spec, state and moment give the same plan, and once its writes are recorded a plan asks for nothing
twice. In this order, each step for all jobs before the next; most are modules of their own, the rest is here:

1. attempts    an end that was seen is recorded; what checks and measurements showed is judged
2. requests    what people asked for, in the order of asking
3. workflows   their next steps get runs
4. wanting     runs that should be no more (removed, disabled, changed, home stopped) are marked as ending
5. slots       every due slot gets its row in the ledger, and perhaps a run; so does a file that triggers
6. continuous  a job that is wanted running and has no run gets one
7. runs        each run without a process, in the order of priority and age, starts its next attempt, waits at a closed
               gate, or is over; what it takes is taken for those behind it
8. stops       each ending run's attempt is signalled, and killed when its grace is over
9. answers     requests whose result has come are answered
10. forgetting a job that is no longer declared leaves nothing behind but its history
11. alerts     what people should be told of all this
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from procclaw.model.clock import to_microseconds
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, NO_JOBS, WORKFLOWS, HoldKind, JobForgotten, Run, RunState, Trigger
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Overlap, Spec
from procclaw.model.state import JobState, State
from procclaw.planning import alerts, attempts, requests, runs, slots, triggers
from procclaw.planning.actions import Plan
from procclaw.planning.attempts import is_unkillable, names
from procclaw.planning.draft import Draft, Going
from procclaw.planning.gates import (
    Gate,
    rests,
    slots_held,
    standing_gates,
)
from procclaw.planning.timetable import NO_SCHEDULE
from procclaw.planning.workflows import Workflows, are_concerned, with_steps


def plan(spec: Spec, state: State, now: datetime, *, judges_slots: bool = True, sees_locks: bool = True) -> Plan:
    """What to do about every job in `state.jobs`; `plans`, as one."""
    return merged(plans(spec, state, now, judges_slots=judges_slots, sees_locks=sees_locks).values())


def plans(
    spec: Spec,
    state: State,
    now: datetime,
    *,
    judges_slots: bool = True,
    acts_on: Collection[str] | None = None,
    asked: Collection[str] | None = None,
    sees_locks: bool = True,
) -> dict[str, Plan]:
    """What to do about the jobs in `state.jobs`, by job, in the order in which it is done.

    `judges_slots` False leaves the schedules alone: a request's pass acts on what was asked and on nothing else.
    `acts_on` names the jobs to act on (None: all); the others are there to be taken into account. `asked` names those
    of them that a request is about: then of the others only what these turn out to wait for is acted on. `sees_locks`
    False: nobody has tried the locks, so those are taken for free that nobody in this home has.
    """
    may_act = frozenset(state.jobs if acts_on is None else acts_on)
    acts = None if acts_on is None else may_act
    if asked is not None:
        acts = with_steps(state, frozenset(asked)) & may_act
    while True:
        found, in_the_way = _plans(spec, state, now, acts, judges_slots=judges_slots, sees_locks=sees_locks)
        if acts is None:
            return found
        # Nobody else may be there to bring up what they wait for, or to see it end.
        acts, before = with_steps(state, acts | in_the_way) & may_act, acts
        if acts == before:
            return found


def _plans(
    spec: Spec, state: State, now: datetime, acts: frozenset[str] | None, *, judges_slots: bool, sees_locks: bool
) -> tuple[dict[str, Plan], frozenset[str]]:
    """The plans, and the jobs that waiting runs in them wait for."""
    home = _take_home(state, now)
    # A hold of the home is recorded together with what the jobs do, so they must know of it already.
    state = state._replace(home_holds=tuple(home.holds.values()))
    drafts = {
        job_id: Draft(spec.jobs.get(job_id), state.jobs[job_id], state, now)
        for job_id in sorted(state.jobs)
        if job_id not in NO_JOBS and (acts is None or job_id in acts)
    }
    workflows = Workflows(spec, state, drafts, now) if are_concerned(state, acts) else None
    _plan_jobs(spec, state, drafts, workflows, now, judges_slots=judges_slots, sees_locks=sees_locks)
    found = {job_id: draft.result() for job_id, draft in drafts.items()}
    if workflows is not None:
        found[WORKFLOWS] = workflows.result()
    if home.intents:
        _answer_home(home, merged(found.values()))
        found[HOME] = home.result()
    in_the_way = {job_id for draft in drafts.values() for job_id in draft.in_the_way}
    return found, frozenset(in_the_way)


def _plan_jobs(
    spec: Spec,
    state: State,
    drafts: Mapping[str, Draft],
    workflows: Workflows | None,
    now: datetime,
    *,
    judges_slots: bool,
    sees_locks: bool,
) -> None:
    each = drafts.values()
    for draft in each:
        attempts.settle(draft)
        requests.take(draft)
    if workflows is not None:
        workflows.advance()
    at_once = _ends_at_once(state)
    needed = _needed_by_the_living(spec, state, drafts, now) if state.home_holds and not at_once else frozenset()
    for draft in each:
        _end_unwanted(draft, is_needed=draft.job.id in needed, at_once=at_once)
        if judges_slots:
            _judge_slots(draft)
            triggers.take_files(draft)
        _want_continuous(draft)
    runs.advance(spec, state, drafts, now, sees_locks=sees_locks)
    for draft in each:
        attempts.press_stops(draft)
        requests.answer(draft)
        if judges_slots:
            _forget_removed(draft)
    if workflows is not None:
        workflows.look_back()
    for draft in each:
        alerts.tell(draft, judges_expect=judges_slots)


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
    since = draft.holds[HoldKind.STOP].since
    active = (active for job in jobs for active in job.active if active.run.id not in over)
    left = [each for each in active if not each.run.is_ahead(since)]
    if not left:
        return draft.done(intent, "nothing is left running")
    stuck = [each.live for each in left if each.live and is_unkillable(each.live.attempt.stop, draft.now)]
    if stuck:
        what = "; ".join(f"{live.attempt.job_id}: {names(live.members or ())}" for live in stuck)
        return draft.refused(intent, f"cannot stop everything: killed, but still there: {what}")
    return intent


# --- 4. wanting ---


def _needed_by_the_living(spec: Spec, state: State, drafts: Mapping[str, Draft], now: datetime) -> frozenset[str]:
    """Jobs that something alive depends upon: whoever needs them goes first when everything is stopped."""
    alive = []
    for job in state.jobs.values():
        draft = drafts.get(job.id)
        lives = [active.live for active in job.active] if draft is None else [going.live for going in draft.going]
        # What cannot be killed is not waited for.
        if any(live is not None and not is_unkillable(live.attempt.stop, now) for live in lives):
            alive += [spec.jobs[job.id]] if job.id in spec.jobs else []
    return frozenset(dependency.job for one in alive for dependency in one.depends_on)


def _ends_at_once(state: State) -> bool:
    """Whether somebody asks for the whole home to be stopped by force: no order, no grace period."""
    home = state.jobs.get(HOME)
    return home is not None and any(each.kind is IntentKind.HOLD_HOME and each.force for each in home.intents)


def _end_unwanted(draft: Draft, *, is_needed: bool, at_once: bool) -> None:
    spec = draft.spec
    for going in draft.going:
        if going.is_over:
            continue
        if spec is not None and spec.enabled and going.run.despite_disabled:
            going.run = going.run._replace(despite_disabled=False)
        reason = _why_unwanted(draft, going)
        if reason is Reason.HOME_STOPPED and is_needed and going.live is not None:
            detail = "what depends on it is stopped first"
            draft.wait(going.run, Gate("stopping", Reason.STOPPING, detail))
        elif reason is not None:
            draft.end(going, reason, force=at_once)


def _why_unwanted(draft: Draft, going: Going) -> Reason | None:
    spec = draft.spec
    if spec is None:
        return Reason.REMOVED
    if draft.state.home_holds:
        # What was planned for later stays planned, and waits for the release if its time comes before.
        return None if going.run.is_ahead(draft.state.home_holds[0].since) else Reason.HOME_STOPPED
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


# --- 5. slots ---


def _judge_slots(draft: Draft) -> None:
    spec, job, state = draft.spec, draft.job_now(), draft.state
    if spec is None:
        return

    def admit(due_at: datetime, trigger: Trigger) -> slots.Admission:
        return _admit(draft, spec, due_at, trigger)

    held = slots_held(job, state.home_holds)
    judgement = slots.judge(spec, job, held, state.restored_until, draft.now, admit)
    if judgement.withdrawn is not None:
        draft.writes.append(judgement.withdrawn)
    draft.writes.extend(judgement.rows)
    if judgement.cursor is not None:
        draft.writes.append(judgement.cursor)
    draft.wake(judgement.next_due_at)


def _admit(draft: Draft, spec: JobSpec, due_at: datetime, trigger: Trigger) -> slots.Admission:
    """Make the run of a due slot, unless another stands for it or the job's overlap rule says otherwise."""
    if requests.duplicate_of(draft, draft.params(()), due_at) is not None:
        return slots.Admission(None, Reason.DEDUP)
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
    starts_at = slots.start_after_jitter(spec, due_at)
    run = draft.open_run(f"slot:{to_microseconds(due_at)}", trigger, due_at, not_before_at=starts_at)
    return slots.Admission(run.id, None)


def _supersede_retrying(draft: Draft) -> bool:
    """A due slot takes the place of a run that only waits to retry: a retry never delays a schedule."""
    for going in draft.going:
        if going.run.state is RunState.RETRYING and going.live is None and going.is_wanted:
            draft.finish(going, RunState.SKIPPED, Reason.SUPERSEDED)
            return True
    return False


def _end_oldest(draft: Draft, spec: JobSpec) -> None:
    wanted = [going for going in draft.going if going.is_wanted and not going.run.is_ahead(draft.now)]
    for going in wanted[: max(0, len(wanted) - spec.concurrency.max_instances + 1)]:
        draft.end(going, Reason.OVERLAP)


# --- 6. continuous ---


def _want_continuous(draft: Draft) -> None:
    spec = draft.spec
    if spec is None or spec.type is not JobType.CONTINUOUS or not spec.enabled or draft.active_count():
        return
    last = draft.newest_finished()
    if rests(spec, last):
        return
    if requests.awaiting_a_run(draft):
        return  # the request makes the run
    for gate in standing_gates(spec, draft.held_now(), draft.state.home_holds):
        if gate.reason is not None:
            draft.wait(None, gate)
            return
    draft.open_run(f"continuous:{last.id if last else 'first'}", Trigger.CONTINUOUS)


# --- 10. forgetting ---


def _forget_removed(draft: Draft) -> None:
    job, cursor = draft.job, draft.job.cursor
    has_schedule = cursor is not None and cursor.schedule_key != NO_SCHEDULE
    is_remembered = has_schedule or bool(draft.holds or job.troubles or job.watch)
    if draft.spec is None and is_remembered and not draft.active_count():
        draft.writes.extend(slots.rows_of_removed(draft.job, draft.now))
        draft.writes.append(JobForgotten(draft.job.id))
