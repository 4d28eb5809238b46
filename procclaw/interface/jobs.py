"""Looking at jobs: list, search, status, why. Imports only what a listing can afford."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.engine.operations import Filter
from procclaw.interface.console import coming, duration, local
from procclaw.model.errors import UsageError
from procclaw.planning.views import STATUSES, View

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_HEADER = ("JOB", "TYPE", "STATUS", "PID", "UP", "RESTARTS", "LAST EXIT", "NEXT", "REASON")


def show_list(context: "Context", options: Namespace) -> int:
    return _listed(context, _filter(options, options.query))


def search(context: "Context", options: Namespace) -> int:
    return _listed(context, _filter(options, options.text))


def _filter(options: Namespace, text: str | None) -> Filter:
    if options.status is not None and options.status not in STATUSES:
        raise UsageError(f'"{options.status}" is not a status; they are {", ".join(STATUSES)}')
    return Filter(text, options.status, options.type, tuple(options.tag), options.enabled)


def _listed(context: "Context", chosen: Filter) -> int:
    console = context.console
    found = context.operations.jobs(chosen)
    if console.is_json:
        console.json({"jobs": found, "total": len(found)})
        return 0
    problems = context.operations.problems()
    for problem in problems:
        console.complain(console.paint(problem, "red"))
    if problems:
        console.complain("the files cannot be used; the last good configuration stays in force")
    console.table(_HEADER, (_row(view) for view in found))
    if not found and console.is_terminal:
        console.say("no jobs" if chosen == Filter() else "no job matches")
    return 0


def _row(view: View) -> tuple[object, ...]:
    next_run = local(view["next_run"])
    return (
        view["id"],
        view["type"],
        view["status"],
        view["pid"],
        duration(view["uptime_seconds"]),
        view["restart_count"] or None,
        view["last_exit_code"],
        next_run,
        view["reason"],
    )


def status(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.operations.job(options.job)
    if console.is_json:
        console.json(view)
        return 0
    now = context.home.clock.now()
    console.say(console.paint(view["id"], "bold") + ("" if view["name"] == view["id"] else f"  {view['name']}"))
    up = duration(view["uptime_seconds"])
    console.fields(
        (
            ("status", view["status"]),
            ("reason", view["reason"]),
            ("health", view["health"]),
            ("description", view["description"]),
            ("type", view["type"]),
            ("enabled", "yes" if view["enabled"] else "no"),
            ("tags", view["tags"]),
            ("pid", view["pid"]),
            ("started", None if up is None else f"{local(view['started_at'])} ({up} ago)"),
            ("restarts", view["restart_count"] or None),
            ("schedule", view["schedule"]),
            ("last run", local(view["last_run"])),
            ("last exit code", view["last_exit_code"]),
            ("next run", coming(view["next_run"], now)),
            ("depends on", view["depends_on"]),
        )
    )
    return 0


def why(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.operations.why(options.job)
    if console.is_json:
        console.json(view)
        return 0
    now = context.home.clock.now()
    live = context.operations.job(options.job)
    if live["pid"] is not None:
        console.say(f"{options.job} is {console.status(live['status'])} (pid {live['pid']})")
    if view["can_start"]:
        console.say(f"{options.job} can start now")
    elif view["earliest_start"]:
        console.say(f"{options.job} starts {coming(view['earliest_start'], now)} at the earliest")
    else:
        console.say(f"{options.job} does not start until somebody or something lets it")
    console.table(("GATE", "STATE", "WHY", "SINCE", "UNTIL", "TO OPEN IT"), (_gate_row(gate) for gate in view["gates"]))
    return 0


def _gate_row(gate: View) -> tuple[object, ...]:
    state = "open" if gate["open"] else "closed"
    return (gate["gate"], state, gate["reason"], local(gate["since"]), local(gate["until"]), gate["unblock"])
