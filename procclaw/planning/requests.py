"""What people asked for: each request is taken once, acted upon, and answered when its result has come.

A request that is accepted and not yet answered is carried from cycle to cycle, in the order of asking.
"""

from datetime import datetime
from typing import Any

from procclaw.model.clock import iso, seconds_between, to_microseconds
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.outside import RecordPhase
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, DeadLetter, DeadLettersPurged, HoldKind, Run, RunState, Trigger
from procclaw.model.spec import JobType
from procclaw.planning.attempts import SWEEP_SECONDS, is_unkillable, names
from procclaw.planning.draft import Draft, Going
from procclaw.planning.gates import standing_for
from procclaw.planning.outcome import FAILED_TO_START, how_it_ended, is_success

STARTS = frozenset({IntentKind.START, IntentKind.RUN, IntentKind.RESTART, IntentKind.TRIGGER, IntentKind.REINJECT})
_TRIGGERS = {IntentKind.TRIGGER: Trigger.WEBHOOK, IntentKind.REINJECT: Trigger.DEAD_LETTER}
Params = tuple[tuple[str, str], ...]
_EVEN_IF_REMOVED = frozenset({IntentKind.STOP, IntentKind.PURGE, IntentKind.CANCEL_ETA})


def take(draft: Draft) -> None:
    for hold in tuple(draft.holds.values()):
        if hold.until is not None and hold.until <= draft.now:
            draft.lift(hold.kind)
        else:
            draft.wake(hold.until)
    for intent in draft.job.intents:
        draft.intents[intent.id] = _take(draft, intent)


def _take(draft: Draft, intent: Intent) -> Intent:
    if draft.spec is None and intent.kind not in _EVEN_IF_REMOVED:
        return draft.refused(intent, f'cannot {intent.kind} "{draft.job.id}": no such job')
    match intent.kind:
        case IntentKind.RUN if intent.details.at is not None and intent.details.at > draft.now:
            return _plan_for_later(draft, intent, intent.details.at)
        case IntentKind.START | IntentKind.RUN | IntentKind.TRIGGER:
            return _take_start(draft, intent)
        case IntentKind.REINJECT:
            return _take_reinject(draft, intent)
        case IntentKind.PURGE:
            gone = tuple(letter.id for letter in _letters(draft, intent))
            draft.writes.append(DeadLettersPurged(gone))
            return draft.done(intent, f"purged {len(gone)} of the dead letter queue")
        case IntentKind.REVOKE:
            return _take_revoke(draft, intent)
        case IntentKind.UNREVOKE:
            return draft.done(intent, "no longer revoked" if draft.lift(HoldKind.REVOKE) else "was not revoked")
        case IntentKind.CANCEL_ETA:
            return _cancel_planned(draft, intent)
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
    """The refusal of a start that a hold rules out; None if it may go ahead."""
    assert draft.spec is not None
    what = f'cannot {intent.kind} "{draft.job.id}"'
    for kind, word, verb in ((HoldKind.REVOKE, "revoked", "unrevoke"), (HoldKind.PAUSE, "paused", "resume")):
        if kind in draft.holds:
            since = f"{draft.holds[kind].since:%Y-%m-%d %H:%MZ}"
            return draft.refused(intent, f"{what}: {word} since {since}; {verb} first (procclaw {verb} {draft.job.id})")
    if draft.state.home_holds:
        return draft.refused(intent, f"{what}: all jobs were stopped; procclaw daemon start lets them go again")
    if intent.kind is IntentKind.TRIGGER:
        # A person may start what is disabled or was stopped by hand; what comes from outside may not.
        if not draft.spec.enabled:
            return draft.refused(intent, f"{what}: disabled in jobs.yaml (procclaw start {draft.job.id} starts it)")
        if draft.spec.type is JobType.CONTINUOUS and HoldKind.STOP in draft.holds:
            hold = draft.holds[HoldKind.STOP]
            return draft.refused(
                intent,
                f"{what}: stopped by {hold.by} since {hold.since:%Y-%m-%d %H:%MZ} (procclaw start {draft.job.id})",
            )
    return None


def _take_start(draft: Draft, intent: Intent) -> Intent:
    assert draft.spec is not None
    if intent.state is IntentState.ACCEPTED:
        return intent
    refusal = _ruled_out(draft, intent)
    if refusal is not None:
        return refusal
    is_continuous = draft.spec.type is JobType.CONTINUOUS
    wanted = (going for going in draft.going if going.is_wanted)
    current = next((going for going in wanted if not going.run.is_ahead(draft.now)), None)
    if is_continuous:
        draft.lift(HoldKind.STOP)
        if current is None and draft.active_count():
            return intent._replace(state=IntentState.ACCEPTED)  # what is being stopped must be gone first
    if is_continuous and current is not None:
        return _already_active(draft, intent, current)
    if intent.kind is IntentKind.START:
        params = draft.params(intent.details.params)
        same = next((going for going in draft.going if _stands_for_start(draft, going, params)), None)
        if same is not None:
            return _already_active(draft, intent, same)
    if not is_continuous and intent.kind is not IntentKind.REINJECT:
        earlier = duplicate_of(draft, draft.params(intent.details.params), draft.now)
        if earlier is not None:
            ago = int(seconds_between(earlier.queued_at, draft.now))
            answer = draft.done(intent, f"stands already: run {earlier.id}, asked for {ago} s ago (dedup)")
            return answer._replace(run_id=earlier.id)
    concurrency = draft.spec.concurrency
    if not is_continuous and not concurrency.queue_excess and draft.active_count() >= concurrency.max_instances:
        have = f"{draft.active_count()} of at most {concurrency.max_instances} active"
        return draft.refused(
            intent, f'cannot {intent.kind} "{draft.job.id}": {have} and concurrency.queue_excess is false'
        )
    return _with_run(draft, intent)


def _stands_for_start(draft: Draft, going: Going, params: Params) -> bool:
    return going.is_wanted and going.run.params == params and not going.run.is_ahead(draft.now)


def duplicate_of(draft: Draft, params: Params, at: datetime) -> Run | None:
    """The run that stands for another one that is asked for, or due, at this moment; None: there is none."""
    if draft.spec is None:
        return None
    known = {run.id: run for run in draft.job.recent} | {going.run.id: going.run for going in draft.going}
    return standing_for(draft.spec.dedup, known.values(), params, at, draft.now)


def _with_run(draft: Draft, intent: Intent) -> Intent:
    assert draft.spec is not None
    trigger = _TRIGGERS.get(intent.kind, Trigger.MANUAL)
    if draft.spec.type is JobType.CONTINUOUS:
        trigger = Trigger.CONTINUOUS
    run = _open(draft, intent, trigger)
    return intent._replace(state=IntentState.ACCEPTED, run_id=run.id)


def _open(draft: Draft, intent: Intent, trigger: Trigger, **more: Any) -> Run:
    # With the time: a database that was put back hands out the same numbers again, for other requests.
    occasion = f"intent:{intent.id}@{to_microseconds(intent.requested_at)}"
    request = intent.id if intent.details.has_payload else None
    letter = next(iter(_letters(draft, intent)), None)
    failed = None if letter is None else draft.job.dead_runs.get(letter.run_id)
    if failed is not None:
        more |= {"trigger_file": failed.trigger_file}
    return draft.open_run(occasion, trigger, request=request, params=draft.params(intent.details.params), **more)


def _plan_for_later(draft: Draft, intent: Intent, at: datetime) -> Intent:
    assert draft.spec is not None
    if draft.spec.type is JobType.CONTINUOUS:
        what = "it is continuous, so it is wanted running all the time"
        return draft.refused(intent, f'cannot plan "{draft.job.id}" for later: {what}')
    refusal = _ruled_out(draft, intent)
    if refusal is not None:
        return refusal
    run = _open(draft, intent, Trigger.ETA, not_before_at=at)
    return draft.done(intent, f"planned for {iso(at)} (run {run.id})")._replace(run_id=run.id)


def _cancel_planned(draft: Draft, intent: Intent) -> Intent:
    planned = [going for going in draft.going if going.live is None and going.run.is_ahead(draft.now)]
    for going in planned:
        draft.finish(going, RunState.STOPPED, Reason.CANCELLED)
    return draft.done(intent, f"cancelled {len(planned)} planned" if planned else "nothing was planned")


def _take_reinject(draft: Draft, intent: Intent) -> Intent:
    if intent.state is IntentState.ACCEPTED:
        return intent
    letter = next(iter(_letters(draft, intent)), None)
    if letter is None:
        return draft.refused(intent, f'cannot reinject "{draft.job.id}": no such entry in the dead letter queue')
    if letter.reinjected_run_id is not None:
        what = f"dead letter {letter.id} was put in again already"
        return draft.refused(intent, f"cannot reinject: {what}, as run {letter.reinjected_run_id}")
    return _linked(draft, _take_start(draft, intent))


def _linked(draft: Draft, intent: Intent) -> Intent:
    """The request; once one that reinjects has its run, the dead letter tells of it."""
    letter = next(iter(_letters(draft, intent)), None)
    if letter is not None and intent.run_id is not None:
        draft.writes.append(letter._replace(reinjected_run_id=intent.run_id))
    return intent


def _letters(draft: Draft, intent: Intent) -> list[DeadLetter]:
    """The entries that the request names, as earlier requests of this plan left them."""
    written = {write.id: write for write in draft.writes if isinstance(write, DeadLetter)}
    gone = {each for write in draft.writes if isinstance(write, DeadLettersPurged) for each in write.ids}
    own = (letter for letter in draft.job.dead_letters if letter.job_id == draft.job.id)
    named = (letter for letter in own if letter.id in intent.details.dead_letters)
    return [written.get(letter.id, letter) for letter in named if letter.id not in gone]


def _take_revoke(draft: Draft, intent: Intent) -> Intent:
    """A pause that also cancels what waits, may end by itself and may stop what runs (`force`)."""
    if intent.state is IntentState.ACCEPTED:
        return intent
    until = intent.details.until
    if until is not None and until <= draft.now:
        return draft.refused(intent, f'cannot revoke "{draft.job.id}": {iso(until)} has passed')
    draft.hold(HoldKind.REVOKE, intent.requested_by, until)
    _refuse_awaited(draft, intent, "revoked")
    waiting = [going for going in draft.going if going.live is None and not going.is_over]
    for going in waiting:
        draft.finish(going, RunState.REVOKED, Reason.REVOKED)
    alive = [going for going in draft.going if not going.is_over]
    message = "revoked" + (f" until {iso(until)}" if until is not None else "")
    message += f", {len(waiting)} waiting cancelled" if waiting else ""
    if not intent.force or not alive:
        return draft.done(intent, message + ("; what runs goes on" if alive else ""))
    for going in alive:
        draft.end(going, Reason.REVOKED)
    return intent._replace(state=IntentState.ACCEPTED)


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
    _refuse_awaited(draft, intent, "stopped")
    if not draft.active_count():
        return draft.done(intent, _was_not_running(draft))
    for going in draft.going:
        if not going.is_over and not going.run.is_ahead(draft.now):
            draft.end(going, Reason.STOP_REQUESTED, force=intent.force)
    return intent._replace(state=IntentState.ACCEPTED)


def _refuse_awaited(draft: Draft, intent: Intent, what_happened: str) -> None:
    for earlier in awaiting_a_run(draft):
        message = f'cannot {earlier.kind} "{draft.job.id}": {what_happened} by {intent.requested_by} meanwhile'
        draft.intents[earlier.id] = draft.refused(earlier, message)


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
        if not going.is_over and not going.run.is_ahead(draft.now):
            draft.end(going, Reason.RESTART_REQUESTED, force=intent.force)
    return intent._replace(state=IntentState.ACCEPTED)


def open_awaited(draft: Draft) -> None:
    """The second half of a restart: once nothing of before is left, the run that was asked for, one for all."""
    if draft.spec is None or any(going.run.is_active and going.run.ending is not None for going in draft.going):
        return
    for intent in awaiting_a_run(draft):
        # What rules a start out may have come about while the old run was ending.
        draft.intents[intent.id] = _ruled_out(draft, intent) or _linked(draft, _with_any_run(draft, intent))


def _with_any_run(draft: Draft, intent: Intent) -> Intent:
    params = draft.params(intent.details.params)
    current = next((going for going in draft.going if _stands_for_start(draft, going, params)), None)
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
        if intent.kind in (IntentKind.STOP, IntentKind.REVOKE):
            draft.intents[intent.id] = _answer_stop(draft, intent)
        elif intent.run_id is not None:
            draft.intents[intent.id] = _answer_start(draft, intent, intent.run_id)


def _answer_start(draft: Draft, intent: Intent, run_id: str) -> Intent:
    going = next((each for each in draft.going if each.run.id == run_id), None)
    if going is not None and going.over is not None and _never_began(going.over):
        how = f'cannot {intent.kind} "{draft.job.id}": attempt {going.over.number} did not start'
        return draft.refused(intent, f"{how}: {how_it_ended(going.over)}{_next_attempt(draft, going.run)}")
    if going is not None and going.is_over and going.run.attempts == 0:
        why = going.run.detail or str(going.run.reason).replace("_", " ")
        return draft.refused(intent, f'cannot {intent.kind} "{draft.job.id}": the run is {going.run.state}: {why}')
    if going is None or going.is_over:
        return draft.done(intent, "ran" if going is None else _how_it_went(going.run))
    if run_id in draft.started:
        draft.wake(draft.now)  # by then there is a pid to tell
    elif run_id in draft.relaunched:
        draft.wake_within(SWEEP_SECONDS)  # not at once: somebody else may be at it for a moment
    gate = draft.blocked.get(run_id)
    if gate is not None and gate.reason is Reason.LOCK and draft.job.lock is None:
        return intent  # it is tried at once
    if gate is not None and gate.reason is not Reason.STOPPING:
        message = f"waits: {gate.detail or gate.reason}"
        # What it waits for is under way: the answer is still to come, and this is how far it got.
        return intent._replace(message=message) if run_id in draft.moving else draft.done(intent, message)
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
        return draft.done(intent, "revoked and stopped" if intent.kind is IntentKind.REVOKE else "stopped")
    for going in ending:
        if going.live is not None and is_unkillable(going.live.attempt.stop, draft.now):
            left = names(going.live.members or ())
            return draft.refused(intent, f'cannot stop "{draft.job.id}": killed, but still there: {left}')
    return intent
