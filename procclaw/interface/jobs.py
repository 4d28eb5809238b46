"""Looking at jobs: list, search. Imports only what a listing can afford."""

from argparse import Namespace
from datetime import datetime
from typing import TYPE_CHECKING

from procclaw.engine.operations import Filter
from procclaw.interface.console import distance, duration, local, with_local_times
from procclaw.model.errors import UsageError
from procclaw.planning.views import STATUSES, View

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_EVER_CHANGING = ("uptime_seconds", "cpu_percent", "memory_mb")
_SPARE = ("RESTARTS", "TYPE", "EXIT")
MAY_HAVE_CHANGED = frozenset({"running", "stopping", "retrying", "queued"})
"""Statuses that may be others by now where no daemon runs."""
LOOK_AGAIN = "procclaw reconcile, or procclaw daemon start"
_HEADER = ("JOB", "TYPE", "STATUS", "PID", "UP", "RESTARTS", "EXIT", "NEXT", "REASON")


def show_list(context: "Context", options: Namespace) -> int:
    chosen = _filter(options, options.query)
    if options.watch is None:
        return _listed(context, chosen)
    if context.console.is_json:
        return _tell_changes(context, chosen, options.watch)
    if not context.console.is_terminal:
        raise UsageError("list --watch draws on a terminal; in a pipe, --json prints an object a line")
    from procclaw.interface.screen import keep_drawn

    keep_drawn(context, lambda: _listed(context, chosen), options.watch)
    return 0


def _tell_changes(context: "Context", chosen: Filter, seconds: float) -> int:
    """One object a line, at first and whenever more has changed than what changes by itself."""
    from procclaw.interface.screen import looks

    told: list[View] | None = None
    for _ in looks(context, seconds):
        found = context.operations.jobs(chosen)
        lasting = [{name: value for name, value in view.items() if name not in _EVER_CHANGING} for view in found]
        if lasting != told:
            context.console.json_line({"jobs": found, "total": len(found)})
            context.console.flush()
        told = lasting
    return 0


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
    if console.is_terminal and context.is_unwatched():
        _tell_what_waits_for_a_pass(context, found, has_complained=has_complained)
    return 0


def _tell_what_waits_for_a_pass(context: "Context", found: list[View], *, has_complained: bool) -> None:
    if not has_complained and context.operations.has_unread_files():
        what = "the configuration was changed and nobody has read it yet"
    elif any(view["status"] == "pending" and view["reason"] is None for view in found):
        what = "jobs wait to be started"
    elif any(view["status"] in MAY_HAVE_CHANGED for view in found):
        what = "what is under way is told as it was last seen"
    else:
        return
    context.console.complain(f"no daemon runs, and {what}: {LOOK_AGAIN}")


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
        reason_of(view),
    )


def reason_of(view: View) -> str | None:
    """Without the moment of the next start, which is told beside it."""
    return with_local_times(
        None if view["reason"] is None else view["reason"].replace(f"; until {view['next_run']}", "")
    )
