"""What was: logs, runs, the ledger of slots, alerts, events."""

import json
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.engine import logs as job_logs
from procclaw.interface.console import brief, duration, local, printable, quoted, with_local_times
from procclaw.interface.times import since_when
from procclaw.model.errors import ProcclawError, UsageError
from procclaw.model.records import Event, Run, RunState
from procclaw.planning.views import View, event_view, slots_view

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_POLL_SECONDS = 0.2
ERR_MARK = "err| "
_WIDTHS = (12, 17)
"""Of the columns of job and event; events are printed as they come, so the widest is not known."""


# --- logs ---


def logs(context: "Context", options: Namespace) -> int:
    operations, home = context.operations, context.home
    job_id = options.job
    operations.check_known(job_id)
    if options.run is not None:
        run = operations.run(options.run)
        if run.job_id != job_id:
            raise ProcclawError(f'run "{run.id}" is one of "{run.job_id}", not of "{job_id}"')
        parts = job_logs.of_attempts(home, operations.attempts(run))
    elif options.since is not None:
        since = since_when(options.since, home.clock.now())
        parts = job_logs.of_attempts(home, operations.attempts_since(job_id, since))
    else:
        parts = job_logs.of_job(home, job_id, operations.instances(job_id))
    chosen = [part for part in parts if part.is_stderr or not options.stderr]
    return print_logs(context, job_id, chosen, options.lines, follows=options.follow)


def run_logs(context: "Context", options: Namespace) -> int:
    run = context.operations.run(options.run)
    parts = job_logs.of_attempts(context.home, context.operations.attempts(run))
    return print_logs(context, run.job_id, parts, None, follows=options.follow)


def print_logs(
    context: "Context", job_id: str | None, parts: list[job_logs.Part], limit: int | None, *, follows: bool
) -> int:
    """Print the end of these logs and, if asked, what comes until interrupted; JSON is one object a line then."""
    console = context.console
    found = job_logs.read(context.home, parts, limit)
    if console.is_json and not follows:
        entries = [line_view(line) for line in found]
        lines = [entry["line"] for entry in entries]
        console.json({"job_id": job_id, "lines": lines, "entries": entries, "total_lines": len(lines)})
        return 0
    for line in found:
        _print_line(context, line)
    for coming in job_logs.follow(context.home, parts) if follows else ():
        if coming is None:
            console.flush()
        else:
            _print_line(context, coming)
    return 0


def line_view(line: job_logs.Line) -> View:
    return {"stream": "stderr" if line.is_stderr else "stdout", "line": line.text}


def _print_line(context: "Context", line: job_logs.Line) -> None:
    if context.console.is_json:
        context.console.json(line_view(line))
        return
    mark = context.console.paint(ERR_MARK, "red") if line.is_stderr else ""
    context.console.say(mark + printable(line.text))


# --- runs ---


def runs(context: "Context", options: Namespace) -> int:
    state = None if options.state is None else _run_state(options.state)
    found = context.operations.runs(options.job, options.limit, state)
    total = context.operations.run_count(options.job, state)
    if context.console.is_json:
        context.console.json({"runs": found, "total": total})
        return 0
    print_runs(context, found)
    context.console.say_what_is_left(len(found), total)
    if not found and context.console.is_terminal:
        context.console.say("no run matches" if options.state else "nothing has run yet")
    return 0


def print_runs(context: "Context", found: list[View]) -> None:
    header = ("RUN", "JOB", "STATE", "TRIGGER", "STARTED", "TOOK", "ATTEMPTS", "EXIT", "REASON")
    context.console.table(
        header, (_run_row(context, view) for view in found), cut="REASON", spare=("ATTEMPTS", "TRIGGER")
    )


def moment_cell(context: "Context", text: str | None) -> str | None:
    """For a table: short on a terminal, whole in a pipe."""
    return brief(text, context.home.clock.now()) if context.console.is_terminal else local(text)


def _run_state(text: str) -> RunState:
    try:
        return RunState(text)
    except ValueError:
        raise UsageError(f'"{text}" is not a state of a run; they are {", ".join(RunState)}') from None


def _run_row(context: "Context", view: View) -> tuple[object, ...]:
    return (
        view["id"],
        view["job_id"],
        view["state"],
        view["trigger"],
        moment_cell(context, view["started_at"]),
        duration(view["duration_seconds"]),
        len(view["attempts"]),
        view["exit_code"],
        _why_it_is_so(view),
    )


def _why_it_is_so(run: View) -> str | None:
    """What its last attempt failed of says more than that no other follows; of an exit the code is told already."""
    last: View | None = run["attempts"][-1] if run["attempts"] else None
    if last is None:
        return _because(run)
    if run["state"] == "failed":
        return _because(last) if last["reason"] not in (None, "exited") else _because({**run, "detail": ""})
    return _because(run) or _because(last)


def _because(view: View) -> str | None:
    """Why a run or an attempt ended, in words."""
    reason = None if view["reason"] is None else str(view["reason"]).replace("_", " ")
    return str(view["detail"]) if view["detail"] else reason


def run_show(context: "Context", options: Namespace) -> int:
    run: Run = context.operations.run(options.run)
    view = context.operations.run_view(run)
    if context.console.is_json:
        context.console.json(view)
        return 0
    pairs = [(name.replace("_", " "), view[name]) for name in ("id", "job_id", "state", "trigger", "priority")]
    pairs += [("params", " ".join(f"{name}={value}" for name, value in view["params"].items()))]
    pairs += [("reason", _because(view))]
    pairs += [(name.replace("_", " "), local(view[name])) for name in ("scheduled_at", "queued_at", "started_at")]
    pairs += [("finished at", local(view["finished_at"])), ("took", duration(view["duration_seconds"]))]
    pairs += [("result", None if view["result"] is None else json.dumps(view["result"], ensure_ascii=False))]
    context.console.fields(pairs)
    print_attempts(context, view["attempts"])
    return 0


def print_attempts(context: "Context", attempts: list[View]) -> None:
    header = ("ATTEMPT", "PID", "STARTED", "ENDED", "EXIT", "SIGNAL", "REASON", "CPU S", "PEAK MB")
    context.console.table(header, (_attempt_row(context, attempt) for attempt in attempts))


def _attempt_row(context: "Context", view: View) -> tuple[object, ...]:
    times = (moment_cell(context, view["started_at"]), moment_cell(context, view["finished_at"]))
    ending = (view["exit_code"], view["signal"], _because(view))
    return (view["number"], view["pid"], *times, *ending, view["cpu_seconds"], view["max_rss_mb"])


# --- ledger ---


def ledger(context: "Context", options: Namespace) -> int:
    since = None if options.since is None else since_when(options.since, context.home.clock.now())
    found = [slots_view(row) for row in context.operations.ledger(options.job, since, options.limit)]
    if context.console.is_json:
        context.console.json({"slots": found})
        return 0
    header = ("JOB", "FIRST DUE", "LAST DUE", "SLOTS", "OUTCOME", "RUN", "REASON")
    context.console.table(header, (_slots_row(context, view) for view in found), cut="REASON")
    if not found and context.console.is_terminal:
        context.console.say("no slot was due yet" if since is None else "no slot was due since then")
    return 0


def _slots_row(context: "Context", view: View) -> tuple[object, ...]:
    span = (moment_cell(context, view["first_due_at"]), moment_cell(context, view["last_due_at"]))
    return (view["job_id"], *span, view["count"], view["outcome"], view["run_id"], words_of_slots(view))


def words_of_slots(view: View) -> str | None:
    """Why slots did not run."""
    reason = view["reason"]
    if reason is None:
        return None
    words = str(reason).replace("_", " ")
    return f"{words}: {_OF_SLOTS[reason]}" if reason in _OF_SLOTS else words


_OF_SLOTS = {
    "overlap": "as many runs as may be were active (on_overlap: skip)",
    "queue_full": "as many runs as may be were active (queue_excess: false)",
    "queue_timeout": "its turn had not come in time",
    "dedup": "a run of a moment before stood for it",
    "superseded": "a later time took its place",
    "down": "nobody reconciled then, and catch_up does not make up for it",
    "limit": "more were missed than catch_up.limit makes up for",
    "restored": "the database was put back, so nobody knows what ran then",
    "clock_jump": "the clock was far off",
    "home_stopped": "all jobs were stopped",
    "not_built": "the job used a field that the version of then lacked",
    "removed": "the job was no longer declared",
    "changed": "the schedule was edited",
}
"""What reasons of the ledger mean that do not say it themselves."""


# --- alerts ---


def alerts(context: "Context", options: Namespace) -> int:
    view = context.reports.alerts(options.job, options.limit)
    if context.console.is_json:
        context.console.json(view)
        return 0
    rows = [
        (
            moment_cell(context, each["raised_at"]),
            each["job_id"],
            each["kind"],
            each["state"],
            with_local_times(each["message"]),
            each["detail"],
        )
        for each in view["alerts"]
    ]
    context.console.table(("RAISED", "JOB", "ALERT", "STATE", "MESSAGE", "DETAIL"), rows, cut="MESSAGE")
    if not rows and context.console.is_terminal:
        context.console.say("no alert was raised yet")
    return 0


# --- events ---


def events(context: "Context", options: Namespace) -> int:
    store = context.home.store
    found = context.operations.events(0, options.job, options.limit)
    if context.console.is_json and not options.follow:
        context.console.json({"events": [event_view(event) for event in found]})
        return 0
    _print_events(context, found)
    newest = found[-1].id if found else 0
    version = store.data_version()
    while options.follow:
        context.console.flush()
        context.home.clock.sleep(_POLL_SECONDS)
        if store.data_version() == version:
            continue
        version = store.data_version()
        found = context.operations.events(newest, options.job)
        _print_events(context, found)
        newest = found[-1].id if found else newest
    return 0


def _print_events(context: "Context", found: tuple[Event, ...]) -> None:
    for event in found:
        view = event_view(event)
        if context.console.is_json:
            context.console.json(view)
            continue
        fields = " ".join(f"{name}={quoted(value)}" for name, value in event.fields)
        cells = [str(local(view["at"])), event.job_id or "-", event.kind, fields]
        if context.console.is_terminal:
            job, kind = (text.ljust(width) for text, width in zip(cells[1:3], _WIDTHS, strict=True))
            cells[1:3] = [context.console.paint(job, "bold"), kind]
        context.console.say(("  " if context.console.is_terminal else "\t").join(cells))
