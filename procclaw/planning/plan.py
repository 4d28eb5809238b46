"""The decision: what is to be done now, given what is wanted, what is recorded and what was seen.

Pure: the same spec, state and moment give the same plan, and once its writes are recorded a plan asks for nothing
twice. In this order, each step for all jobs before the next:

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

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from procclaw.model.clock import after, to_microseconds
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Overlap, Spec
from procclaw.model.state import (
    HOME,
    NO_JOBS,
    WORKFLOWS,
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
from procclaw.planning import alerts, attempts, dependencies, requests, slots, triggers
from procclaw.planning.actions import Plan, Start
from procclaw.planning.attempts import is_unkillable, names
from procclaw.planning.board import LOCK, Board, order_of
from procclaw.planning.draft import Draft, Going
from procclaw.planning.gates import (
    AWAITED,
    PLACE,
    PLACES,
    Gate,
    enabled_gate,
    expires_at,
    rests,
    shared_gates,
    slots_held,
    standing_gates,
    time_gate,
)
from procclaw.planning.outcome import delay_seconds, gave_up
from procclaw.planning.timetable import NO_SCHEDULE
from procclaw.planning.workflows import Workflows, are_concerned, with_steps

LOOK_FOR_LOCK_SECONDS = 1.0
"""How often to try a lock that somebody outside this home may have."""

_NEVER = datetime.min.replace(tzinfo=UTC)


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
        if acts is None or asked is None:
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
    _plan_jobs(spec, state, drafts, workflows, judges_slots=judges_slots, sees_locks=sees_locks)
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
    needed = _needed_by_the_living(spec, state, drafts) if state.home_holds else frozenset()
    for draft in each:
        _end_unwanted(draft, is_needed=draft.job.id in needed)
        if judges_slots:
            _judge_slots(draft)
            triggers.take_files(draft)
        _want_continuous(draft)
    _advance_runs(spec, state, drafts, sees_locks=sees_locks)
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


def _needed_by_the_living(spec: Spec, state: State, drafts: Mapping[str, Draft]) -> frozenset[str]:
    """Jobs that something alive depends upon: whoever needs them goes first when everything is stopped."""
    alive = []
    for job in state.jobs.values():
        draft = drafts.get(job.id)
        lives = [active.live for active in job.active] if draft is None else [going.live for going in draft.going]
        # What cannot be killed is not waited for.
        if any(live is not None and not is_unkillable(live.attempt.stop, _now(drafts)) for live in lives):
            alive += [spec.jobs[job.id]] if job.id in spec.jobs else []
    return frozenset(dependency.job for one in alive for dependency in one.depends_on)


def _now(drafts: Mapping[str, Draft]) -> datetime:
    return next((draft.now for draft in drafts.values()), _NEVER)


def _end_unwanted(draft: Draft, *, is_needed: bool) -> None:
    spec = draft.spec
    for going in draft.going:
        if going.is_over:
            continue
        if spec is not None and spec.enabled and going.run.despite_disabled:
            going.run = going.run._replace(despite_disabled=False)
        reason = _why_unwanted(draft, going)
        if reason is Reason.HOME_STOPPED and is_needed and going.live is not None:
            detail = "what depends on it is stopped first"
            draft.wait(going.run, Gate("stopping", Reason.STOPPING, detail, None, None))
        elif reason is not None and going.run.ending is None:
            draft.end(going, reason)


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

    held = slots_held(job, state.home_holds, spec)
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
    for gate in standing_gates(spec, draft.job_now(), draft.state.home_holds):
        if gate.reason is not None:
            draft.wait(None, gate)
            return
    draft.open_run(f"continuous:{last.id if last else 'first'}", Trigger.CONTINUOUS)


# --- 7. runs ---


def _advance_runs(spec: Spec, state: State, drafts: Mapping[str, Draft], *, sees_locks: bool) -> None:
    for draft in drafts.values():
        # Grows while it is walked: what ends here may make room for the run that a restart asked for.
        requests.open_awaited(draft)
        for going in draft.going:
            if going.live is None and not going.is_over and (going.run.ending is not None or draft.spec is None):
                draft.finish(going, RunState.STOPPED, going.run.ending or Reason.REMOVED)
            requests.open_awaited(draft)
    jobs = {**state.jobs, **{job_id: draft.job_now() for job_id, draft in drafts.items()}}
    board = Board(spec, jobs, state.boot_id, _now(drafts), is_deciding=sees_locks)
    for draft in drafts.values():
        for going in draft.going:
            if going.live is not None and not going.is_over and going.live.sight.phase is RecordPhase.BLANK:
                attempts.relaunch(draft, going, going.live, board)
                requests.open_awaited(draft)
    judged: set[str] = set()
    while waiting := [(draft, going) for draft, going in _waiting(drafts) if going.run.id not in judged]:
        # What one run pulls in or makes room for comes into the next round.
        for draft, going in sorted(waiting, key=lambda each: order_of(each[1].run)):
            judged.add(going.run.id)
            if not going.is_over:
                _start_or_wait(draft, going, board, drafts)
                if going.is_over and any(other is not draft for other, _ in _waiting(drafts)):
                    # Who waits for what has just given up was judged, or is, by how it stood before.
                    draft.wake(draft.now)
    for draft, going in _waiting(drafts):
        awaited = draft.awaits.get(going.run.id)
        if awaited and all(_is_under_way(job_id, drafts, board) for job_id in awaited):
            draft.moving.add(going.run.id)
        for other in (drafts[job_id] for job_id in awaited or () if job_id in drafts):
            if other.started:
                draft.wake(draft.now)  # by then it runs, which may be all that was waited for
            elif other.relaunched:
                draft.wake_within(attempts.SWEEP_SECONDS)


def _waiting(drafts: Mapping[str, Draft]) -> Iterator[tuple[Draft, Going]]:
    for draft in drafts.values():
        for going in draft.going:
            if going.live is None and not going.is_over:
                yield draft, going


def _start_or_wait(draft: Draft, going: Going, board: Board, drafts: Mapping[str, Draft]) -> None:
    spec, now = draft.spec, draft.now
    if going.run.ending is not None or spec is None:
        draft.finish(going, RunState.STOPPED, going.run.ending or Reason.REMOVED)
        return
    run = _revived(_set_back(going.run, spec, now), spec, now)
    closed = _closed_gates(draft, run, spec, board)
    going.run = run = run._replace(closed=_remembered(run, closed, now))
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


def _closed_gates(draft: Draft, run: Run, spec: JobSpec, board: Board) -> list[Gate]:
    """The gates that keep a run from starting: the first that does not depend on other runs, else all that do.

    The lock is asked for last, by who would start if it had it: until then it is nothing that the run waits for.
    """
    for gate in (enabled_gate(spec, run), *standing_gates(spec, draft.job_now(), draft.state.home_holds)):
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
                yield from (each.job_id for each in (*board.in_queue(spec.queue), *board.ahead(run)))
            case Reason.MAX_PARALLEL:
                ahead = (each for each in board.waiting() if order_of(each) < order_of(run))
                yield from (each.job_id for each in (*board.parallel, *ahead))
            case _:
                pass


def _remembered(run: Run, closed: list[Gate], now: datetime) -> tuple[tuple[str, datetime], ...]:
    """Since when it stands before these gates; a hold or a time tells that by itself."""
    keys = [gate.key for gate in closed if gate.gate in AWAITED]
    if closed and all(gate.gate in PLACES for gate in closed):
        keys.append(PLACE)
    if closed and closed[0].gate in AWAITED and run.waits_since(LOCK) is not None and LOCK not in keys:
        keys.append(LOCK)  # while another has its place it has not begun to wait for the lock anew
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
    if run.state is RunState.RETRYING:
        latest_at = after(now, delay_seconds(run, spec.retry))
        return run._replace(not_before_at=min(run.not_before_at, latest_at))
    too_far = max(run.queued_at - now, timedelta(0))
    closed = tuple((gate, min(since, now)) for gate, since in run.closed)
    # The time that a person named is one of the wall clock's.
    moved = run.not_before_at if run.trigger is Trigger.ETA else run.not_before_at - too_far
    return run._replace(queued_at=run.queued_at - too_far, not_before_at=moved, closed=closed)


def _revived(run: Run, spec: JobSpec, now: datetime) -> Run:
    """A continuous run waiting to retry starts at once, counting afresh, when what its process can see was changed."""
    if run.trigger is not Trigger.CONTINUOUS or run.process_hash == spec.process_hash:
        return run
    return run._replace(process_hash=spec.process_hash, failures=0, not_before_at=min(run.not_before_at, now))


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
        closed=(),
    )


# --- 10. forgetting ---


def _forget_removed(draft: Draft) -> None:
    job, cursor = draft.job, draft.job.cursor
    has_schedule = cursor is not None and cursor.schedule_key != NO_SCHEDULE
    is_remembered = has_schedule or bool(draft.holds or job.troubles or job.watch or job.triggered)
    if draft.spec is None and is_remembered and not draft.active_count():
        draft.writes.extend(slots.rows_of_removed(draft.job, draft.now))
        draft.writes.append(JobForgotten(draft.job.id))


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
