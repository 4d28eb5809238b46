"""A recorded cycle told to a person: what it saw, what it decided, and what today's planner makes of the same.

The planner is pure, so what was recorded gives the same plan again for as long as the planner is the same: another one
means that this version decides otherwise.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from procclaw.model.clock import from_microseconds, iso
from procclaw.model.intents import Intent, IntentState
from procclaw.model.outside import RecordPhase
from procclaw.model.plain import to_plain
from procclaw.model.records import (
    HOME,
    NO_JOBS,
    OUTBOX,
    WORKFLOWS,
    Attempt,
    DeadLettersPurged,
    Hold,
    HoldLifted,
    JobForgotten,
    Run,
    SlotsWithdrawn,
    WorkflowRun,
)
from procclaw.model.rows import Write
from procclaw.model.spec import Spec
from procclaw.model.state import ActiveRun, JobState, Observed
from procclaw.planning.actions import Check, DeleteFile, Effect, Plan, Relaunch, Signal, Start, Wait
from procclaw.planning.board import Board
from procclaw.planning.plan import merged, plans
from procclaw.planning.preview import plan_view
from procclaw.planning.recording import Because, Cause, Recorded, job_of, run_of
from procclaw.planning.views import View, moment, reason, status

_NOTHING = "nothing"

_NAMES: Mapping[str, str] = {HOME: "the home", WORKFLOWS: "workflows", OUTBOX: "alerts"}

_CAUSES: Mapping[Cause, str] = {
    Cause.BEGAN: "a daemon began",
    Cause.PASS: "a command made a pass",
    Cause.EXIT: "a process ended",
    Cause.TIME: "it was time to look again",
    Cause.REQUEST: "somebody asked for something",
    Cause.NEWS: "a health check or a delivery had a result",
    Cause.FILES: "a file of the home was saved",
    Cause.CLOCK: "the clock was set, or the machine slept",
    Cause.SIGNAL: "the daemon was told to by a signal",
    Cause.RESYNC: "everything is looked at now and then",
}

_PHASES: Mapping[RecordPhase, str] = {
    RecordPhase.BLANK: "recorded, but not begun",
    RecordPhase.LOCKED: "alive",
    RecordPhase.EXITED: "has exited",
    RecordPhase.FAILED_CWD: "could not change to its directory",
    RecordPhase.LOST: "its process was killed unseen",
    RecordPhase.MISSING: "its record is gone",
    RecordPhase.UNSEEN: "nobody has looked at it",
}


def decide_again(spec: Spec, recorded: Recorded) -> Plan:
    """What this version decides about what was recorded."""
    found = plans(
        spec,
        recorded.state,
        recorded.now,
        judges_slots=recorded.judges_slots,
        acts_on=recorded.acts_on,
        asked=recorded.asked,
    )
    return merged(found.values())


# --- what differs ---


def differences(recorded: Plan, today: Plan) -> tuple[str, ...]:
    """One line for each thing that today's plan has otherwise: `-` what it lacks, `+` what it adds, or what of it has
    become what. Empty: they are the same.
    """
    if recorded == today:
        return ()
    before, after = _by_subject(recorded), _by_subject(today)
    lines = [f"- {about}: {_told(plain)}" for about, plain in before.items() if about not in after]
    lines += [f"+ {about}: {_told(plain)}" for about, plain in after.items() if about not in before]
    for about, plain in before.items():
        now = after.get(about, plain)
        names = [name for name in {**plain, **now} if plain.get(name) != now.get(name)]
        lines += [f"{about}: {name} was {_word(name, plain)}, is {_word(name, now)}" for name in names]
    if recorded.wake_at != today.wake_at:
        was, now_is = moment(recorded.wake_at), moment(today.wake_at)
        lines.append(f"looks again: was {was or _NOTHING}, is {now_is or _NOTHING}")
    return tuple(lines) or ("the same, in another order",)


def _by_subject(decided: Plan) -> dict[str, Mapping[str, Any]]:
    """The parts of a plan, each by what it is about; several that are about the same are told apart by their number."""
    found: dict[str, Mapping[str, Any]] = {}
    met: Counter[str] = Counter()
    for each in (*decided.writes, *decided.effects, *decided.waits):
        about = _subject(each)
        met[about] += 1
        found[f"{about} #{met[about]}" if met[about] > 1 else about] = to_plain(type(each), each)
    return found


def _subject(each: Write | Effect | Wait) -> str:
    kind = type(each).__name__
    match each:
        case Run() | Attempt() | Intent() | WorkflowRun():
            return f"{kind} {each.id}"
        case Wait():
            return f"{kind} {each.job_id} {each.run_id or ''}".rstrip()
        case Start() | Relaunch() | Signal() | Check() | DeleteFile():
            return f"{kind} {job_of(each)} {run_of(each) or ''}".rstrip()
        case DeadLettersPurged():
            return kind
        case _:
            return f"{kind} {each.job_id}"


def _told(plain: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_word(name, plain)}" for name in plain)


def _word(name: str, plain: Mapping[str, Any]) -> str:
    item = plain.get(name)
    if item is None:
        return _NOTHING
    return iso(from_microseconds(item)) if name.endswith("_at") or name in ("since", "until") else str(item)


# --- a cycle, for people ---


def replay_view(spec: Spec, recorded: Recorded) -> View:
    today = decide_again(spec, recorded)
    decided = plan_view(spec, recorded.decided)
    return {
        "at": moment(recorded.now),
        "because": list(map(_because_view, recorded.because)),
        "acts_on": None if recorded.acts_on is None else sorted(recorded.acts_on - NO_JOBS),
        "looked_at": len(recorded.state.jobs.keys() - NO_JOBS) + recorded.at_rest,
        "saw": list(_sights(spec, recorded)),
        "actions": [*_asked_and_opened(recorded), *decided["actions"]],
        "waits": decided["waits"],
        "wake_at": decided["wake_at"],
        "differences": list(differences(recorded.decided, today)),
    }


def _because_view(because: Because) -> View:
    jobs = [_NAMES.get(job_id, job_id) for job_id in because.jobs]
    return {"cause": str(because.cause), "because": _CAUSES[because.cause], "jobs": jobs}


def _sights(spec: Spec, recorded: Recorded) -> Iterator[View]:
    state, now = recorded.state, recorded.now
    board = Board(spec, state.jobs, state.boot_id, now, is_deciding=True)
    for job_id in _concerned(spec, recorded):
        job, declared = board.job(job_id), spec.jobs.get(job_id)
        found = list(_facts(job, now))
        shown, why = (None if job_id in NO_JOBS else "not declared"), None
        if declared is not None:
            shown = status(declared, job, state.home_holds, now)
            why = reason(declared, board, state.home_holds, state.lack)
        if shown or found:
            yield {"job_id": _NAMES.get(job_id, job_id), "status": shown, "reason": why, "facts": found}


def _concerned(spec: Spec, recorded: Recorded) -> Iterator[str]:
    """The jobs that something was decided about, those they depend upon, and those that made it look."""
    decided = recorded.decided
    named = {job_id for because in recorded.because for job_id in because.jobs}
    named |= {write.job_id for write in decided.writes if not isinstance(write, WorkflowRun | DeadLettersPurged)}
    named |= {WORKFLOWS for write in decided.writes if isinstance(write, WorkflowRun)}
    named |= {job_of(effect) for effect in decided.effects} | {wait.job_id for wait in decided.waits}
    named |= {each.job for job_id in named & spec.jobs.keys() for each in spec.jobs[job_id].depends_on}
    return iter(sorted(named & recorded.state.jobs.keys()))


def _facts(job: JobState, now: datetime) -> Iterator[str]:
    for active in job.active:
        yield _of_run(active, now)
    for intent in job.intents:
        what = str(intent.kind).replace("_", " ") + (" at once" if intent.force else "")
        yield f"{intent.requested_by} asked for {what} at {iso(intent.requested_at)}"
    for hold in job.holds:
        yield f"{hold.kind} by {hold.by} since {iso(hold.since)}"
    if job.cursor is not None and job.cursor.next_due_at is not None:
        yield f"next due at {iso(job.cursor.next_due_at)}"
    if job.lock is not None and not job.lock.is_free:
        yield f"its lock is held{f' by {job.lock.holder}' if job.lock.holder else ''}"
    settled = [file.path for file in job.files.files if file.is_settled]
    if settled:
        yield f"{len(settled)} {'file' if len(settled) == 1 else 'files'} to trigger it"
    last = job.newest_finished
    if last is not None and not job.active:
        code = "" if last.exit_code is None else f", exit code {last.exit_code}"
        yield f"last run {last.id} {last.state}{code}"


def _of_run(active: ActiveRun, now: datetime) -> str:
    run = active.run
    told = f"run {run.id} {run.state}"
    if run.ending is not None:
        told += f", to be ended: {str(run.ending).replace('_', ' ')}"
    if active.live is not None:
        return f"{told}; {_of_attempt(active.live)}"
    return f"{told}, not before {iso(run.not_before_at)}" if run.not_before_at > now else told


def _of_attempt(live: Observed) -> str:
    attempt, sight = live.attempt, live.sight
    told = f"attempt {attempt.number}"
    told += "" if attempt.job_pid is None else f" (pid {attempt.job_pid})"
    told += f" {_PHASES[sight.phase]}"
    told += "" if sight.exit_code is None else f" with code {sight.exit_code}"
    if attempt.stop is not None:
        told += f", stopping: {str(attempt.stop.reason).replace('_', ' ')}"
    if live.members:
        told += f", {len(live.members)} of its processes alive"
    if live.probe is not None:
        told += f", check {'passed' if live.probe.is_ok else 'failed'}: {live.probe.detail}"
    return told


def _asked_and_opened(recorded: Recorded) -> Iterator[View]:
    """What was decided beside what a plan tells: answers, holds, and which run is to be made or ended."""
    before = {active.run.id: active.run for job in recorded.state.jobs.values() for active in job.active}
    for action, job_id, because in _beside(recorded.decided.writes, before):
        yield {"job_id": _NAMES.get(job_id, job_id), "action": action, "because": because}


def _beside(writes: Iterable[Write], before: Mapping[str, Run]) -> Iterator[tuple[str, str, str]]:
    for write in writes:
        match write:
            case Run() if write.id not in before:
                yield f"make run {write.id}", write.job_id, str(write.trigger).replace("_", " ")
            case Run() if write.is_active and write.ending is not None and before[write.id].ending is None:
                yield f"end run {write.id}", write.job_id, str(write.ending).replace("_", " ")
            case Intent() if write.resolved_at is not None:
                how = "answer" if write.state is IntentState.DONE else "refuse"
                yield f"{how} {str(write.kind).replace('_', ' ')}", write.job_id, write.message
            case Hold():
                yield f"set {write.kind}", write.job_id, f"by {write.by}"
            case HoldLifted():
                yield f"lift {write.kind}", write.job_id, "released"
            case SlotsWithdrawn():
                yield "withdraw slots", write.job_id, f"the clock went back to {iso(write.after)}"
            case JobForgotten():
                yield "forget the job", write.job_id, "no longer declared"
            case _:
                pass
