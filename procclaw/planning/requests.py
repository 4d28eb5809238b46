"""What people asked for: each request is taken once, acted upon, and answered when its result has come.

A request that is accepted and not yet answered is carried from cycle to cycle, in the order of asking.
"""

from procclaw.model.clock import to_microseconds
from procclaw.model.spec import JobType
from procclaw.model.state import (
    Attempt,
    HoldKind,
    Intent,
    IntentKind,
    IntentState,
    Reason,
    RecordPhase,
    Run,
    RunState,
    Trigger,
)
from procclaw.planning.attempts import SWEEP_SECONDS, is_unkillable, names
from procclaw.planning.draft import Draft, Going
from procclaw.planning.outcome import FAILED_TO_START, how_it_ended, is_success

STARTS = frozenset({IntentKind.START, IntentKind.RUN, IntentKind.RESTART})


def take(draft: Draft) -> None:
    for intent in draft.job.intents:
        draft.intents[intent.id] = _take(draft, intent)


def _take(draft: Draft, intent: Intent) -> Intent:
    if draft.spec is None and intent.kind is not IntentKind.STOP:
        return draft.refused(intent, f'cannot {intent.kind} "{draft.job.id}": no such job')
    match intent.kind:
        case IntentKind.START | IntentKind.RUN:
            return _take_start(draft, intent)
        case IntentKind.STOP:
            return _take_stop(draft, intent)
        case IntentKind.RESTART:
            return _take_restart(draft, intent)
        case IntentKind.PAUSE:
            if HoldKind.PAUSE in draft.holds:
                return draft.done(intent, "already paused")
            draft.hold(HoldKind.PAUSE, intent.requested_by)
            return draft.done(intent, "paused: what runs goes on, nothing new starts")
        case IntentKind.RESUME:
            return draft.done(intent, "resumed" if draft.lift(HoldKind.PAUSE) else "was not paused")
        case _:
            return draft.refused(intent, f"{intent.kind} does not concern a job")


def _ruled_out(draft: Draft, intent: Intent) -> Intent | None:
    """The refusal of a start that a hold or a missing feature rules out; None if it may go ahead."""
    assert draft.spec is not None
    what = f'cannot {intent.kind} "{draft.job.id}"'
    if HoldKind.PAUSE in draft.holds:
        since = f"{draft.holds[HoldKind.PAUSE].since:%Y-%m-%d %H:%MZ}"
        return draft.refused(intent, f"{what}: paused since {since}; resume first (procclaw resume {draft.job.id})")
    if draft.state.home_holds:
        return draft.refused(intent, f"{what}: all jobs were stopped; procclaw daemon start lets them go again")
    if draft.spec.not_built:
        return draft.refused(intent, f"{what}: not built yet: {', '.join(draft.spec.not_built)}")
    return None


def _take_start(draft: Draft, intent: Intent) -> Intent:
    assert draft.spec is not None
    if intent.state is IntentState.ACCEPTED:
        return intent
    refusal = _ruled_out(draft, intent)
    if refusal is not None:
        return refusal
    is_continuous = draft.spec.type is JobType.CONTINUOUS
    current = next((going for going in draft.going if going.is_wanted), None)
    if is_continuous:
        draft.lift(HoldKind.STOP)
        if current is None and draft.active_count():
            return intent._replace(state=IntentState.ACCEPTED)  # what is being stopped must be gone first
    if current is not None and (is_continuous or intent.kind is IntentKind.START):
        return _already_active(draft, intent, current)
    concurrency = draft.spec.concurrency
    if not is_continuous and not concurrency.queue_excess and draft.active_count() >= concurrency.max_instances:
        have = f"{draft.active_count()} of at most {concurrency.max_instances} active"
        return draft.refused(
            intent, f'cannot {intent.kind} "{draft.job.id}": {have} and concurrency.queue_excess is false'
        )
    return _with_run(draft, intent)


def _with_run(draft: Draft, intent: Intent) -> Intent:
    assert draft.spec is not None
    trigger = Trigger.CONTINUOUS if draft.spec.type is JobType.CONTINUOUS else Trigger.MANUAL
    # With the time: a database that was put back hands out the same numbers again, for other requests.
    run = draft.open_run(f"intent:{intent.id}@{to_microseconds(intent.requested_at)}", trigger)
    return intent._replace(state=IntentState.ACCEPTED, run_id=run.id)


def _already_active(draft: Draft, intent: Intent, going: Going) -> Intent:
    """Answer a start of what is active already; a run that waits for its next attempt does not wait any longer."""
    intent = intent._replace(run_id=going.run.id)
    if going.live is not None:
        pid = going.live.attempt.job_pid
        return draft.done(intent, f"already running (pid {pid})" if pid else "already starting")
    going.run = going.run._replace(failures=0, not_before_at=min(going.run.not_before_at, draft.now))
    return intent._replace(state=IntentState.ACCEPTED)


def _take_stop(draft: Draft, intent: Intent) -> Intent:
    if intent.state is IntentState.ACCEPTED:
        return intent
    if draft.spec is not None and draft.spec.type is JobType.CONTINUOUS:
        draft.hold(HoldKind.STOP, intent.requested_by)
    for earlier in awaiting_a_run(draft):
        what = f'cannot {earlier.kind} "{draft.job.id}"'
        draft.intents[earlier.id] = draft.refused(earlier, f"{what}: stopped by {intent.requested_by} meanwhile")
    if not draft.active_count():
        return draft.done(intent, _was_not_running(draft))
    for going in draft.going:
        if not going.is_over:
            draft.end(going, Reason.STOP_REQUESTED, force=intent.force)
    return intent._replace(state=IntentState.ACCEPTED)


def _was_not_running(draft: Draft) -> str:
    run = draft.newest_finished()
    if run is None or run.finished_at is None:
        return "was not running (it never ran)"
    how = f"exited {run.exit_code}" if run.exit_code is not None else str(run.state)
    return f"was not running (last run ended {run.finished_at:%Y-%m-%d %H:%MZ}, {how})"


def _take_restart(draft: Draft, intent: Intent) -> Intent:
    if intent.state is IntentState.ACCEPTED:
        return intent
    refusal = _ruled_out(draft, intent)
    if refusal is not None:
        return refusal
    draft.lift(HoldKind.STOP)
    for going in draft.going:
        if not going.is_over:
            draft.end(going, Reason.RESTART_REQUESTED, force=intent.force)
    return intent._replace(state=IntentState.ACCEPTED)


def open_awaited(draft: Draft) -> None:
    """The second half of a restart: once nothing of before is left, the run that was asked for, one for all."""
    if draft.spec is None or any(going.run.is_active and going.run.ending is not None for going in draft.going):
        return
    for intent in awaiting_a_run(draft):
        # What rules a start out may have come about while the old run was ending.
        draft.intents[intent.id] = _ruled_out(draft, intent) or _with_any_run(draft, intent)


def _with_any_run(draft: Draft, intent: Intent) -> Intent:
    current = next((going for going in draft.going if going.is_wanted), None)
    return _with_run(draft, intent) if current is None else intent._replace(run_id=current.run.id)


def awaiting_a_run(draft: Draft) -> list[Intent]:
    """Requests to start that had to let something end first, and have been given no run yet."""
    return [
        intent
        for intent in draft.open_intents()
        if intent.state is IntentState.ACCEPTED and intent.kind in STARTS and intent.run_id is None
    ]


def answer(draft: Draft) -> None:
    """Answer the accepted requests whose result has come."""
    for intent in draft.open_intents():
        if intent.kind is IntentKind.STOP:
            draft.intents[intent.id] = _answer_stop(draft, intent)
        elif intent.run_id is not None:
            draft.intents[intent.id] = _answer_start(draft, intent, intent.run_id)


def _answer_start(draft: Draft, intent: Intent, run_id: str) -> Intent:
    going = next((each for each in draft.going if each.run.id == run_id), None)
    if going is not None and going.over is not None and _never_began(going.over):
        how = f'cannot {intent.kind} "{draft.job.id}": attempt {going.over.number} did not start'
        return draft.refused(intent, f"{how}: {how_it_ended(going.over)}{_next_attempt(draft, going.run)}")
    if going is None or going.is_over:
        return draft.done(intent, "ran" if going is None else _how_it_went(going.run))
    if run_id in draft.started:
        draft.wake(draft.now)  # by then there is a pid to tell
    elif run_id in draft.relaunched:
        draft.wake_within(SWEEP_SECONDS)  # not at once: somebody else may be at it for a moment
    gate = draft.blocked.get(run_id)
    if gate is not None and gate.reason is not Reason.STOPPING:
        return draft.done(intent, f"waits: {gate.detail or gate.reason}")
    if going.live is not None and going.live.sight.phase is RecordPhase.LOCKED and going.live.attempt.job_pid:
        return draft.done(intent, f"started (pid {going.live.attempt.job_pid})")
    return intent


def _never_began(attempt: Attempt) -> bool:
    """A shell tells of a command that cannot be found by an exit code, which may count as success all the same."""
    return attempt.reason in FAILED_TO_START and not is_success(attempt)


def _next_attempt(draft: Draft, run: Run) -> str:
    if run.id in draft.started:
        return f"; attempt {run.attempts} follows at once"
    return f"; next attempt {run.not_before_at:%H:%M:%SZ}" if run.state is RunState.RETRYING else ""


def _how_it_went(run: Run) -> str:
    code = "" if run.exit_code is None else f" with exit code {run.exit_code}"
    return f"ran, {run.state}{code}"


def _answer_stop(draft: Draft, intent: Intent) -> Intent:
    ending = [going for going in draft.going if not going.is_over and going.run.ending is not None]
    if not ending:
        return draft.done(intent, "stopped")
    for going in ending:
        if going.live is not None and is_unkillable(going.live.attempt.stop, draft.now):
            left = names(going.live.members or ())
            return draft.refused(intent, f'cannot stop "{draft.job.id}": killed, but still there: {left}')
    return intent
