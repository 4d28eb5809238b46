"""Acting: what the routes that ask for something do and answer.

A request is recorded, the loop is woken, and its answer is waited for, for a moment; what takes longer goes on, and the
reply says so with 202 and the status that the job has by then.
"""

import contextlib
from datetime import timedelta

from procclaw.engine.asking import Selection
from procclaw.engine.webhooks import webhooks_of
from procclaw.interface.api.desk import LONG_PATIENCE, PATIENCE, Call, Desk, Reply
from procclaw.interface.api.looks import number
from procclaw.interface.times import moment_in
from procclaw.model.clock import after
from procclaw.model.errors import Conflict, NotFound, UsageError
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.records import HOME
from procclaw.model.spec import OnFailure, WorkflowSpec, WorkflowType
from procclaw.planning.views import View, has_succeeded

UNDER_WAY = 202


class Refused(Conflict):
    """What was asked for is not done, and the message says why."""

    code = "refused"


# --- jobs ---


def start(desk: Desk, call: Call) -> Reply:
    return _started(desk, IntentKind.START, call)


def run(desk: Desk, call: Call) -> Reply:
    return _started(desk, IntentKind.RUN, call)


def _started(desk: Desk, kind: IntentKind, call: Call) -> Reply:
    [answer] = desk.asking.start(kind, [call.id], call.body["params"], key=call.key, patience=PATIENCE)
    return _answered(desk, answer)


def stop(desk: Desk, call: Call) -> Reply:
    return _asked(desk, IntentKind.STOP, call, force=call.body["force"])


def restart(desk: Desk, call: Call) -> Reply:
    return _asked(desk, IntentKind.RESTART, call)


def pause(desk: Desk, call: Call) -> Reply:
    return _asked(desk, IntentKind.PAUSE, call)


def resume(desk: Desk, call: Call) -> Reply:
    return _asked(desk, IntentKind.RESUME, call)


def unrevoke(desk: Desk, call: Call) -> Reply:
    return _asked(desk, IntentKind.UNREVOKE, call)


def unschedule(desk: Desk, call: Call) -> Reply:
    return _asked(desk, IntentKind.CANCEL_ETA, call)


def _asked(desk: Desk, kind: IntentKind, call: Call, *, force: bool = False) -> Reply:
    [answer] = desk.operations.ask(kind, [call.id], force=force, seconds=PATIENCE.seconds)
    return _answered(desk, answer)


def _answered(desk: Desk, answer: Intent) -> Reply:
    """Raises Refused for what was refused."""
    if answer.state is IntentState.REFUSED:
        raise Refused(answer.message)
    view = desk.operations.answer(answer)
    with contextlib.suppress(NotFound):  # it may have been removed meanwhile
        view["status"] = desk.operations.job(answer.job_id)["status"]
    if has_succeeded(answer):
        return Reply(view)
    return Reply(view | {"success": True, "message": f"{answer.kind} is under way"}, UNDER_WAY)


def schedule(desk: Desk, call: Call) -> Reply:
    at, delay = call.body["at"], call.body["in_seconds"]
    if (at is None) == (delay is None):
        raise UsageError("needs either at or in_seconds")
    job = desk.operations.job_spec(call.id)
    moment = after(desk.home.clock.now(), delay) if at is None else moment_in(at, job.timezone)
    return _answered(desk, desk.asking.schedule(call.id, moment, call.body["params"], PATIENCE))


def revoke(desk: Desk, call: Call) -> Reply:
    expires, until = call.body["expires_seconds"], call.body["until"]
    if expires is not None and until is not None:
        raise UsageError("expires_seconds and until exclude each other")
    ends_at = None if expires is None else after(desk.home.clock.now(), expires)
    if until is not None:
        ends_at = moment_in(until, desk.operations.job_spec(call.id).timezone)
    return _answered(desk, desk.asking.revoke(call.id, ends_at, terminates=call.body["terminate"], patience=PATIENCE))


def trigger(desk: Desk, call: Call) -> Reply:
    # Whether it may be triggered from outside at all; who may is judged before.
    webhooks_of(desk.operations.job_spec(call.id))
    payload = call.raw if call.raw.strip() else None
    return _answered(desk, desk.asking.trigger(call.id, payload, key=call.key, patience=PATIENCE))


# --- dead letters ---


def reinject(desk: Desk, call: Call) -> Reply:
    return _answered(desk, desk.asking.reinject(number(call.id), PATIENCE))


def purge_one(desk: Desk, call: Call) -> Reply:
    return _purged(desk, Selection(ids=(number(call.id),)))


def purge(desk: Desk, call: Call) -> Reply:
    seconds = call.query["older_than_seconds"]
    before = None if seconds is None else desk.home.clock.now() - timedelta(seconds=seconds)
    return _purged(desk, Selection(job_id=call.query["job"], added_before=before))


def _purged(desk: Desk, chosen: Selection) -> Reply:
    count, answers = desk.asking.purge(chosen, PATIENCE)
    refused = next((answer for answer in answers if answer.state is IntentState.REFUSED), None)
    if refused is not None:
        raise Refused(refused.message)
    is_done = all(map(has_succeeded, answers))
    message = f"purged {count} {'entry' if count == 1 else 'entries'}" if is_done else "purge is under way"
    return Reply({"success": True, "message": message, "purged": count}, 200 if is_done else UNDER_WAY)


# --- workflows ---


def run_workflow(desk: Desk, call: Call) -> Reply:
    return _answered_workflow(desk.asking.run_workflow(call.id, PATIENCE))


def cancel_workflow(desk: Desk, call: Call) -> Reply:
    return _answered_workflow(desk.asking.cancel_workflow(call.id, PATIENCE))


def retry_workflow(desk: Desk, call: Call) -> Reply:
    return _answered_workflow(desk.asking.retry_workflow(call.id, PATIENCE))


def chain(desk: Desk, call: Call) -> Reply:
    return _composed(desk, WorkflowType.CHAIN, call)


def group(desk: Desk, call: Call) -> Reply:
    return _composed(desk, WorkflowType.GROUP, call)


def chord(desk: Desk, call: Call) -> Reply:
    return _composed(desk, WorkflowType.CHORD, call)


def _composed(desk: Desk, kind: WorkflowType, call: Call) -> Reply:
    body = call.body
    spec = WorkflowSpec(
        type=kind,
        jobs=body["jobs"],
        callback=body.get("callback"),
        on_failure=OnFailure(body["on_failure"]),
        max_parallel=body.get("max_parallel"),
        timeout_seconds=body["timeout"],
        pass_results=body["pass_results"],
    )
    return _answered_workflow(desk.asking.compose(spec, PATIENCE))


def _answered_workflow(answer: Intent) -> Reply:
    if answer.state is IntentState.REFUSED:
        raise Refused(answer.message)
    is_done = has_succeeded(answer)
    message = answer.message if is_done else f"{answer.kind.replace('_', ' ')} is under way"
    view = {"success": True, "message": message, "workflow_run_id": answer.details.workflow_run or None}
    return Reply(view, 200 if is_done else UNDER_WAY)


# --- the home ---


def reload(desk: Desk, _call: Call) -> Reply:
    [answer] = desk.operations.ask(IntentKind.LOOK, [HOME], seconds=LONG_PATIENCE.seconds)
    if not has_succeeded(answer):
        # What is known of the files is older than this request.
        view: View = {"success": True, "message": "reload is under way", "problems": [], "warnings": []}
        return Reply(view, UNDER_WAY)
    problems = desk.operations.problems()
    departing = desk.operations.departing()
    message = "the files cannot be used" if problems else f"{len(desk.operations.spec().jobs)} jobs in force"
    if departing:
        message += f"; no longer named, kept until the files have been left alone for 5 s: {', '.join(departing)}"
    return Reply(
        {
            "success": not problems,
            "message": message,
            "problems": list(problems),
            "warnings": list(desk.home.store.warnings()),
        }
    )
