"""The loop from outside: reconcile, plan, next, reload."""

from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, assert_never

from procclaw.model.clock import iso, parse_iso
from procclaw.model.errors import ProcclawError
from procclaw.model.state import HOME, Attempt, IntentKind, Run, RunState, Slots
from procclaw.planning.actions import Effect, Plan, Relaunch, Signal, Start, Wait, Write
from procclaw.planning.views import View, moment

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

SOMETHING_TO_DO = 10
BAD_CONFIGURATION = 2


def reconcile(context: "Context", options: Namespace) -> int:
    if options.dry_run:
        return plan(context, options)
    if options.release:
        context.operations.ask(IntentKind.RELEASE_HOME, [HOME])
    context.operations.reconcile()
    return _told_of_problems(context)


def reload(context: "Context", options: Namespace) -> int:
    context.operations.reconcile()
    code = _told_of_problems(context)
    if code == 0 and not context.console.is_json:
        for warning in context.home.store.warnings():
            context.console.complain(f"warning: {warning}")
        context.console.say(f"{len(context.operations.spec().jobs)} jobs in force")
    return code


def _told_of_problems(context: "Context") -> int:
    problems = context.operations.problems()
    if context.console.is_json:
        context.console.json({"success": not problems, "problems": list(problems)})
    for problem in problems if not context.console.is_json else ():
        context.console.complain(problem)
    return BAD_CONFIGURATION if problems else 0


def plan(context: "Context", options: Namespace) -> int:
    _spec, _state, decided = context.operations.preview()
    actions, waits = list(_actions(decided)), [_wait_view(wait) for wait in decided.waits]
    if context.console.is_json:
        context.console.json({"actions": actions, "waits": waits, "wake_at": moment(decided.wake_at)})
    else:
        rows = [(each["job_id"], each["action"], each["because"]) for each in actions]
        rows += [(each["job_id"], "wait", each["because"]) for each in waits]
        context.console.table(("JOB", "WOULD", "BECAUSE"), rows)
        if not rows:
            context.console.say("nothing to do")
    return SOMETHING_TO_DO if actions else 0


def _wait_view(wait: Wait) -> View:
    return {
        "job_id": wait.job_id,
        "run_id": wait.run_id,
        "because": wait.detail or str(wait.reason).replace("_", " "),
        "until": moment(wait.until),
    }


def _actions(decided: Plan) -> Iterator[View]:
    for write in decided.writes:
        told = _of_write(write)
        if told is not None:
            yield told
    for effect in decided.effects:
        yield _of_effect(effect)


def _of_write(write: Write) -> View | None:
    """What a row to be written means to a person; None for bookkeeping."""
    match write:
        case Attempt() if write.ended_at is not None:
            because = f"{str(write.reason).replace('_', ' ')}, exit code {write.exit_code}"
            return {"job_id": write.job_id, "action": "record an end", "because": because}
        case Run() if write.finished_at is not None:
            return {"job_id": write.job_id, "action": f"finish run as {write.state}", "because": str(write.reason)}
        case Run() if write.state is RunState.RETRYING:
            return {"job_id": write.job_id, "action": "retry", "because": f"at {iso(write.not_before_at)}"}
        case Slots():
            because = f"{write.total} due from {iso(write.first_due_at)}" + (f": {write.reason}" if write.reason else "")
            return {"job_id": write.job_id, "action": f"record slots as {write.outcome}", "because": because}
        case _:
            return None


def _of_effect(effect: Effect) -> View:
    match effect:
        case Start():
            return {"job_id": effect.job_id, "action": "start", "because": effect.reason}
        case Relaunch():
            return {"job_id": effect.attempt.job_id, "action": "start", "because": "recorded, but never begun"}
        case Signal():
            verb = "kill" if effect.is_kill else "stop"
            return {"job_id": effect.attempt.job_id, "action": verb, "because": str(effect.reason).replace("_", " ")}
        case _:
            assert_never(effect)


def coming(context: "Context", options: Namespace) -> int:
    from procclaw.planning import schedule

    now = context.home.clock.now() if options.after is None else _moment(options.after)
    expressions, zone = _schedule_of(context, options)
    try:
        parsed = schedule.parse(expressions, zone)
    except ValueError as error:
        raise _BadExpression(str(error)) from error
    times: list[datetime] = []
    at = schedule.next_due(parsed, now)
    while at is not None and len(times) < options.count:
        times.append(at)
        at = schedule.next_due(parsed, at)
    if context.console.is_json:
        context.console.json({"times": [iso(each) for each in times]})
        return 0
    from zoneinfo import ZoneInfo

    rows = [(each.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M:%S %Z"), iso(each)) for each in times]
    context.console.table(("TIME", "UTC"), rows)
    return 0


class _BadExpression(ProcclawError):
    exit_code = 2


def _moment(text: str) -> datetime:
    try:
        return parse_iso(text)
    except ValueError:
        raise _BadExpression(f'"{text}" is not an ISO 8601 time') from None


def _schedule_of(context: "Context", options: Namespace) -> tuple[tuple[str, ...], str]:
    """The expressions and zone that are meant: a job's where a job has that id, else the text itself."""
    from procclaw.engine.files import local_timezone

    text = options.expression
    if " " not in text.strip() and not text.startswith("@"):
        job = context.operations.job_spec(text)
        if not job.schedule:
            raise ProcclawError(f'"{text}" has no schedule: it is {job.type}')
        return job.schedule, options.tz or job.timezone
    return (text,), options.tz or local_timezone()


