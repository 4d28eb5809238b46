"""The loop from outside: reconcile, plan, next, reload."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface.console import local
from procclaw.interface.times import moment_in
from procclaw.model.clock import SystemClock, iso
from procclaw.model.intents import IntentKind
from procclaw.model.records import HOME
from procclaw.planning.views import View

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
        context.tell_of_warnings()
        count = len(context.operations.spec().jobs)
        context.console.say(f"{count} {'job' if count == 1 else 'jobs'} in force")
        departing = ", ".join(context.operations.departing())
        if departing:
            context.console.say(f"no longer named, kept until the files have been left alone for 5 s: {departing}")
    return code


def _told_of_problems(context: "Context") -> int:
    if context.console.is_json:
        problems = context.operations.problems()
        context.console.json({"success": not problems, "problems": list(problems)})
        return BAD_CONFIGURATION if problems else 0
    return BAD_CONFIGURATION if context.complain_of_files() else 0


def plan(context: "Context", options: Namespace) -> int:
    span = getattr(options, "span", None)
    view = context.operations.preview(span)
    actions, waits = view["actions"], view["waits"]
    if context.console.is_json:
        context.console.json(view)
    else:
        rows = [(each["job_id"], each["action"], each["because"]) for each in actions]
        rows += [(each["job_id"], "wait", each["because"]) for each in waits]
        context.console.table(("JOB", "WOULD", "BECAUSE"), rows)
        if not rows and not view["problems"]:
            context.console.say("nothing to do")
        if span is not None:
            context.console.say()
            _print_fires(context, view)
        context.tell_of_files(view["problems"])
    if view["problems"]:
        return BAD_CONFIGURATION
    return SOMETHING_TO_DO if actions else 0


def _print_fires(context: "Context", view: View) -> None:
    rows = [(each["local"], each["job_id"], each["at"], each["note"]) for each in view["fires"]]
    for each in view["more"]:
        rest = f"and {each['count']} more until {local(each['last_at'])}"
        note = f"{rest}; {each['note']}" if each["note"] else rest
        rows.append((f"from {local(each['first_at'])}", each["job_id"], each["first_at"], note))
    context.console.table(("FIRES", "JOB", "UTC", "NOTE"), rows)
    if not rows and context.console.is_terminal:
        context.console.say("nothing fires within that time")


def coming(context: "Context", options: Namespace) -> int:
    from procclaw.engine.files import local_timezone
    from procclaw.engine.operations import Operations, Schedule

    text = options.expression
    if " " in text.strip() or text.startswith("@"):
        # A line can be tried before there is a home.
        schedule = Schedule((text,), options.tz or local_timezone())
    else:
        schedule = context.operations.schedule_of(text, options.tz)
    since = SystemClock().now() if options.after is None else moment_in(options.after, schedule.timezone)
    times = Operations.coming(schedule, since, options.count)
    if context.console.is_json:
        context.console.json({"times": [iso(each) for each in times]})
        return 0
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(schedule.timezone)
    rows = [(each.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z"), iso(each)) for each in times]
    context.console.table(("TIME", "UTC"), rows)
    return 0
