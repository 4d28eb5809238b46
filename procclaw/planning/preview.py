"""What a plan would do, told to a person: one line per action with what makes it due, and one per wait."""

from collections.abc import Iterator
from typing import assert_never

from procclaw.model.alerts import Alert
from procclaw.model.clock import iso
from procclaw.model.document import changed_fields
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, Slots, WorkflowRun
from procclaw.model.rows import Write
from procclaw.model.spec import Spec
from procclaw.planning.actions import Check, DeleteFile, Effect, Plan, Relaunch, Signal, Start, Wait
from procclaw.planning.views import View, moment

_HOLDS = frozenset({Reason.STOPPED, Reason.PAUSED, Reason.REVOKED})
"""Reasons whose detail only says who."""


def plan_view(spec: Spec | None, decided: Plan) -> View:
    return {
        "actions": list(_actions(decided, spec)),
        "waits": [_wait_view(wait) for wait in decided.waits],
        "wake_at": moment(decided.wake_at),
    }


def _wait_view(wait: Wait) -> View:
    alone = wait.detail or _words(wait.reason)
    because = f"{_words(wait.reason)} {wait.detail}" if wait.reason in _HOLDS else alone
    return {"job_id": wait.job_id, "run_id": wait.run_id, "because": because, "until": moment(wait.until)}


def _words(reason: Reason | None) -> str:
    return str(reason).replace("_", " ")


def _actions(decided: Plan, spec: Spec | None) -> Iterator[View]:
    for write in decided.writes:
        told = _of_write(write)
        if told is not None:
            yield told
    for effect in decided.effects:
        told = _of_effect(effect, spec)
        if told is not None:
            yield told


def _of_write(write: Write) -> View | None:
    """What a row to be written means to a person; None for bookkeeping."""
    match write:
        case Attempt() if write.ended_at is not None:
            because = _words(write.reason) + ("" if write.exit_code is None else f", exit code {write.exit_code}")
            return {"job_id": write.job_id, "action": "record an end", "because": because}
        case Run() if write.finished_at is not None:
            return {"job_id": write.job_id, "action": f"finish run as {write.state}", "because": _words(write.reason)}
        case Run() if write.state is RunState.RETRYING:
            return {"job_id": write.job_id, "action": "retry", "because": f"at {iso(write.not_before_at)}"}
        case WorkflowRun() if write.finished_at is not None:
            action = f"finish workflow run {write.id} as {write.state}"
            because = write.detail or _words(write.reason)
            return {"job_id": write.name or str(write.spec.type), "action": action, "because": because}
        case Slots():
            why = f": {_words(write.reason)}" if write.reason else ""
            because = f"{write.total} due from {iso(write.first_due_at)}{why}"
            return {"job_id": write.job_id, "action": f"record slots as {write.outcome}", "because": because}
        case Alert():
            return {"job_id": write.job_id, "action": f"raise an alert: {write.kind}", "because": write.message}
        case _:
            return None


def _of_effect(effect: Effect, spec: Spec | None) -> View | None:
    """What an effect means to a person; None for a look at what runs, which changes nothing."""
    match effect:
        case Start():
            return {"job_id": effect.job_id, "action": "start", "because": effect.reason}
        case Relaunch():
            return {"job_id": effect.attempt.job_id, "action": "start", "because": "recorded, but never begun"}
        case Signal():
            verb = "kill" if effect.is_kill else "stop"
            return {"job_id": effect.attempt.job_id, "action": verb, "because": _why_signalled(effect, spec)}
        case Check():
            return None
        case DeleteFile():
            because = f"{effect.path} has triggered a run, which succeeded"
            return {"job_id": effect.job_id, "action": "delete file", "because": because}
        case _:
            assert_never(effect)


def _why_signalled(effect: Signal, spec: Spec | None) -> str:
    reason = effect.attempt.detail or _words(effect.reason)
    job = None if spec is None else spec.jobs.get(effect.attempt.job_id)
    if effect.reason is not Reason.CHANGED or job is None:
        return reason
    changed = changed_fields(effect.attempt.terms.process_hash, job.process_hash)
    return f"changed: {', '.join(changed)}" if changed else reason
