"""What was: logs, runs, the ledger of slots, events."""

import re
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from procclaw.interface.console import duration, local, printable
from procclaw.model.clock import parse_iso
from procclaw.model.errors import ProcclawError
from procclaw.model.log import Gone, lines
from procclaw.model.state import Attempt, Event, Run, RunState, Slice
from procclaw.planning.views import View, event_view, slots_view

if TYPE_CHECKING:
    from procclaw.interface.cli import Context
    from procclaw.system.output import Follower, Output

_POLL_SECONDS = 0.2
_ERR_MARK = "err| "
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class BadTime(ProcclawError):
    exit_code = 2


def since_when(text: str, now: datetime) -> datetime:
    """`90s`, `15m`, `2h`, `30d` before now, or an ISO 8601 moment (a naive one on the reader's wall clock)."""
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now - timedelta(seconds=float(span[1]) * _UNIT_SECONDS[span[2]])
    try:
        return parse_iso(text, now.astimezone().tzinfo)
    except ValueError:
        raise BadTime(f'"{text}" is neither a time (ISO 8601) nor a span (90s, 15m, 2h, 30d)') from None


# --- logs ---


class _Part(NamedTuple):
    """A stretch of a log; `end` None: to its end."""

    file: str
    start: int
    end: int | None
    is_stderr: bool


def logs(context: "Context", options: Namespace) -> int:
    operations, output = context.operations, context.home.output
    job = operations.job_spec(options.job)
    if options.run is not None:
        run = operations.run(options.run)
        if run.job_id != job.id:
            raise ProcclawError(f'run "{run.id}" is one of "{run.job_id}", not of "{job.id}"')
        parts = _parts(operations.attempts(run))
    elif options.since is not None:
        parts = _parts(operations.attempts_since(job.id, since_when(options.since, context.home.clock.now())))
    else:
        parts = [
            _Part(file, 0, None, is_stderr)
            for instance in range(max(1, job.concurrency.max_instances))
            for file, is_stderr in zip(output.log_files(job.id, instance), (False, True), strict=True)
        ]
    if options.stderr:
        parts = [part for part in parts if part.is_stderr]
    return _print_logs(context, output, parts, options.lines, follows=options.follow)


def run_logs(context: "Context", options: Namespace) -> int:
    run = context.operations.run(options.run)
    parts = _parts(context.operations.attempts(run))
    return _print_logs(context, context.home.output, parts, None, follows=options.follow and run.is_active)


def _parts(attempts: tuple[Attempt, ...]) -> list[_Part]:
    streams = [(attempt.stdout, False) for attempt in attempts] + [(attempt.stderr, True) for attempt in attempts]
    return [_part(each, is_stderr) for each, is_stderr in streams if each is not None]


def _part(part: Slice, is_stderr: bool) -> _Part:
    return _Part(part.file, part.start, part.end, is_stderr)


def _print_logs(
    context: "Context", output: "Output", parts: list[_Part], limit: int | None, *, follows: bool
) -> int:
    console = context.console
    followers = [
        (output.follow(part.file, output.extent(part.file).end), part) for part in parts if follows and part.end is None
    ]
    shown: list[View] = []
    for part in parts:
        for line in _lines_of(output, part, limit):
            if console.is_json:
                shown.append({"stream": "stderr" if part.is_stderr else "stdout", "line": line})
            else:
                console.say(_marked(line, part.is_stderr, context))
    if console.is_json:
        console.json({"lines": [each["line"] for each in shown], "entries": shown, "total_lines": len(shown)})
    if followers:
        _follow(context, followers)
    return 0


def _lines_of(output: "Output", part: _Part, limit: int | None) -> Iterator[str]:
    start = part.start if limit is None else output.tail(part.file, limit, part.start, part.end)
    for piece in lines(output.read(part.file, start, part.end)):
        yield _text(piece)


def _text(piece: "bytes | Gone") -> str:
    if isinstance(piece, Gone):
        return f"-- {piece.end - piece.start} bytes are gone --"
    return piece.decode("utf-8", "replace")


def _marked(line: str, is_stderr: bool, context: "Context") -> str:
    text = printable(line)
    return context.console.paint(_ERR_MARK, "red") + text if is_stderr else text


def _follow(context: "Context", followers: "list[tuple[Follower, _Part]]") -> None:
    """Print what comes until interrupted; a line that is not finished yet waits for its end."""
    rests = [b""] * len(followers)
    while True:
        is_quiet = True
        for index, (follower, part) in enumerate(followers):
            for piece in follower.read_new():
                is_quiet = False
                if isinstance(piece, Gone):
                    context.console.say(_marked(_text(piece), part.is_stderr, context))
                    continue
                *whole, rests[index] = (rests[index] + piece).split(b"\n")
                for line in whole:
                    context.console.say(_marked(_text(line), part.is_stderr, context))
        context.console.flush()
        if is_quiet:
            context.home.clock.sleep(_POLL_SECONDS)


# --- runs ---


def runs(context: "Context", options: Namespace) -> int:
    state = None if options.state is None else _run_state(options.state)
    found = context.operations.runs(options.job, options.limit, state)
    if context.console.is_json:
        context.console.json({"runs": found, "total": len(found)})
        return 0
    header = ("RUN", "JOB", "STATE", "TRIGGER", "STARTED", "TOOK", "ATTEMPTS", "EXIT", "REASON")
    context.console.table(header, (_run_row(view) for view in found))
    return 0


def _run_state(text: str) -> RunState:
    try:
        return RunState(text)
    except ValueError:
        raise BadTime(f'"{text}" is not a state of a run; they are {", ".join(RunState)}') from None


def _run_row(view: View) -> tuple[object, ...]:
    return (
        view["id"],
        view["job_id"],
        view["state"],
        view["trigger"],
        local(view["started_at"]),
        duration(view["duration_seconds"]),
        len(view["attempts"]),
        view["exit_code"],
        view["detail"] or view["reason"],
    )


def run_show(context: "Context", options: Namespace) -> int:
    run: Run = context.operations.run(options.run)
    view = context.operations.run_view(run)
    if context.console.is_json:
        context.console.json(view)
        return 0
    pairs = [(name.replace("_", " "), view[name]) for name in ("id", "job_id", "state", "trigger", "reason", "detail")]
    pairs += [(name.replace("_", " "), local(view[name])) for name in ("scheduled_at", "queued_at", "started_at")]
    pairs += [("finished at", local(view["finished_at"])), ("took", duration(view["duration_seconds"]))]
    context.console.fields(pairs)
    header = ("ATTEMPT", "PID", "STARTED", "ENDED", "EXIT", "SIGNAL", "REASON", "CPU S", "PEAK MB")
    context.console.table(header, (_attempt_row(attempt) for attempt in view["attempts"]))
    return 0


def _attempt_row(view: View) -> tuple[object, ...]:
    times = (local(view["started_at"]), local(view["finished_at"]))
    ending = (view["exit_code"], view["signal"], view["detail"] or view["reason"])
    return (view["number"], view["pid"], *times, *ending, view["cpu_seconds"], view["max_rss_mb"])


# --- ledger, events ---


def ledger(context: "Context", options: Namespace) -> int:
    since = None if options.since is None else since_when(options.since, context.home.clock.now())
    found = [slots_view(row) for row in context.operations.ledger(options.job, since, options.limit)]
    if context.console.is_json:
        context.console.json({"slots": found})
        return 0
    header = ("JOB", "FIRST DUE", "LAST DUE", "SLOTS", "OUTCOME", "REASON", "RUN")
    context.console.table(header, (_slots_row(view) for view in found))
    return 0


def _slots_row(view: View) -> tuple[object, ...]:
    span = (local(view["first_due_at"]), local(view["last_due_at"]))
    return (view["job_id"], *span, view["count"], view["outcome"], view["reason"], view["run_id"])


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
        fields = " ".join(f"{name}={printable(value)}" for name, value in event.fields)
        job = context.console.paint(event.job_id or "-", "bold")
        context.console.say(f"{local(view['at'])}  {job}  {event.kind}  {fields}")
