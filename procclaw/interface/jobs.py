"""Looking at jobs: list, search, status, why. Imports only what a listing can afford."""

from argparse import Namespace
from datetime import datetime
from typing import TYPE_CHECKING

from procclaw.engine.operations import Filter
from procclaw.interface.console import coming, distance, duration, local, shown, with_local_times
from procclaw.model.errors import UsageError
from procclaw.planning.views import STATUSES, View

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_SPARE = ("RESTARTS", "TYPE", "EXIT")
_RUNS_SHOWN = 5
_HEADER = ("JOB", "TYPE", "STATUS", "PID", "UP", "RESTARTS", "EXIT", "NEXT", "REASON")


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
    has_complained = context.complain_of_files()
    if console.is_json:
        console.json({"jobs": found, "total": len(found)})
        return 0
    now = context.home.clock.now()
    console.table(
        _HEADER, (_row(view, now if console.is_terminal else None) for view in found), cut="REASON", spare=_SPARE
    )
    if not found and console.is_terminal:
        console.say("no job matches" if chosen != Filter() else "no jobs are declared")
    if console.is_terminal and context.home.lock().holder() is None:
        _tell_what_waits_for_a_pass(context, found, has_complained=has_complained)
    return 0


def _tell_what_waits_for_a_pass(context: "Context", found: list[View], *, has_complained: bool) -> None:
    if not has_complained and context.operations.has_unread_files():
        what = "the configuration was changed and nobody has read it yet"
    elif any(view["status"] == "pending" and view["reason"] is None for view in found):
        what = "jobs wait to be started"
    else:
        return
    context.console.complain(f"no daemon runs, and {what}: procclaw reconcile, or procclaw daemon start")


def _row(view: View, now: datetime | None) -> tuple[object, ...]:
    """`now` to tell the next run as a distance, which is short; None: as a time, which a program can use."""
    return (
        view["id"],
        view["type"],
        view["status"],
        view["pid"],
        duration(view["uptime_seconds"]),
        view["restart_count"] or None,
        view["last_exit_code"],
        local(view["next_run"]) if now is None else distance(view["next_run"], now),
        _reason(view),
    )


def _reason(view: View) -> str | None:
    """Without the moment of the next start, which is told beside it."""
    return with_local_times(
        None if view["reason"] is None else view["reason"].replace(f"; until {view['next_run']}", "")
    )


def status(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.operations.job(options.job)
    if console.is_json:
        console.json(view)
        return 0
    now = context.home.clock.now()
    console.say(console.paint(view["id"], "bold") + ("" if view["name"] == view["id"] else f"  {shown(view['name'])}"))
    up = duration(view["uptime_seconds"])
    console.fields(
        (
            ("status", view["status"]),
            ("reason", _reason(view)),
            ("health", view["health"] if view["pid"] else None),
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
            ("declared at", context.operations.job_spec(view["id"]).source),
        )
    )
    newest = context.operations.runs(view["id"], _RUNS_SHOWN)
    if newest:
        from procclaw.interface.history import print_runs

        console.say()
        print_runs(context, newest)
    return 0


def why(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.operations.why(options.job)
    if console.is_json:
        console.json(view)
        return 0
    job = context.operations.job(options.job)
    console.say(_situation(context, job, view))
    closed = [gate for gate in view["gates"] if not gate["open"]]
    unblocks = [gate["unblock"] for gate in closed if gate["unblock"]]
    # What runs and is wanted running needs nothing.
    if unblocks and not (job["pid"] and job["type"] == "continuous"):
        which = "another run" if job["pid"] else "it"
        sooner = " sooner" if view["earliest_start"] else ""
        console.say(shown(f"to let {which} start{sooner}: {', then '.join(dict.fromkeys(unblocks))}"))
    console.say()
    console.table(("GATE", "STATE", "WHY", "SINCE", "UNTIL", "TO OPEN IT"), (_gate_row(gate) for gate in view["gates"]))
    return 0


def _situation(context: "Context", job: View, view: View) -> str:
    """What a job does now, why, and when it can start if that is known."""
    told = f"{job['id']} is {context.console.status(job['status'])}"
    if job["pid"] is not None:
        return f"{told} (pid {job['pid']})"
    reason = _reason(job)
    told += f": {shown(reason)}" if reason else ""
    if view["can_start"]:
        return f"{told}; it can start now"
    if view["earliest_start"]:
        return f"{told}; it can start at {coming(view['earliest_start'], context.home.clock.now())} at the earliest"
    return told


def _gate_row(gate: View) -> tuple[object, ...]:
    state = "open" if gate["open"] else "closed"
    return (gate["gate"], state, gate["reason"], local(gate["since"]), local(gate["until"]), gate["unblock"])
