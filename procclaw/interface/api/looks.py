"""Looking: what the routes that change nothing answer."""

from collections.abc import Iterator

from procclaw import __version__
from procclaw.engine import logs as job_logs
from procclaw.engine.supervision import serving
from procclaw.interface.api.desk import Call, Desk, Reply, Stream
from procclaw.interface.times import moment_in
from procclaw.model.clock import iso
from procclaw.model.errors import UsageError
from procclaw.model.records import Event, RunState
from procclaw.planning.views import View, event_view, slots_view

_STREAM_LOOK_SECONDS = 0.25
"""How often a stream looks for new events; with none, a look costs one pragma."""
_COMMENT_SECONDS = 15.0
"""A stream says something at least so often, so that whoever stands between does not close it."""
_STREAMS = ("both", "stdout", "stderr")


# --- jobs ---


def job(desk: Desk, call: Call) -> View:
    view = desk.operations.job(call.id)
    return view | {"particulars": desk.reports.particulars(call.id)}


def why(desk: Desk, call: Call) -> View:
    return desk.operations.why(call.id)


# --- logs ---


def job_log(desk: Desk, call: Call) -> View:
    desk.operations.check_known(call.id)
    if call.query["run"] is None:
        parts = job_logs.of_job(desk.home, call.id, desk.operations.instances(call.id))
    else:
        run = desk.operations.run(call.query["run"])
        if run.job_id != call.id:
            raise UsageError(f'run "{run.id}" is one of "{run.job_id}", not of "{call.id}"')
        parts = job_logs.of_attempts(desk.home, desk.operations.attempts(run))
    return _lines(desk, call, call.id, parts)


def run_log(desk: Desk, call: Call) -> View:
    run = desk.operations.run(call.id)
    return _lines(desk, call, run.job_id, job_logs.of_attempts(desk.home, desk.operations.attempts(run)))


def _lines(desk: Desk, call: Call, job_id: str, parts: list[job_logs.Part]) -> View:
    """The newest lines of each log, less as many of the very newest as were to be skipped."""
    count, skipped, stream = call.query["lines"], call.query["offset"], call.query["stream"]
    entries: list[View] = []
    for part in parts:
        if stream in ("both", _name(part)):
            found = list(job_logs.read(desk.home, [part], count + skipped))
            entries += [{"stream": _name(part), "line": line.text} for line in found[: len(found) - skipped][-count:]]
    return {
        "job_id": job_id,
        "lines": [each["line"] for each in entries],
        "entries": entries,
        "total_lines": len(entries),
    }


def _name(part: job_logs.Part) -> str:
    return "stderr" if part.is_stderr else "stdout"


def download(desk: Desk, call: Call) -> Stream:
    """One log of the job, whole."""
    desk.operations.check_known(call.id)
    stream = call.query["stream"]
    parts = job_logs.of_job(desk.home, call.id, desk.operations.instances(call.id))
    chosen = [part for part in parts if _name(part) == stream]
    file = f"{call.id}.log" if stream == "stdout" else f"{call.id}.error.log"
    headers = {"Content-Disposition": f'attachment; filename="{file}"'}
    return Stream(job_logs.whole(desk.home, chosen), "text/plain; charset=utf-8", headers)


# --- runs and what else was ---


def runs(desk: Desk, call: Call) -> View:
    job_id, state = call.query["job"], call.query["state"] and RunState(call.query["state"])
    found = desk.operations.runs(job_id, call.query["limit"], state, call.query["offset"])
    return {"runs": found, "total": desk.operations.run_count(job_id, state)}


def run(desk: Desk, call: Call) -> View:
    return desk.operations.run_view(desk.operations.run(call.id))


def ledger(desk: Desk, call: Call) -> View:
    since = call.query["since"] and moment_in(call.query["since"], desk.operations.spec().config.timezone)
    found = desk.operations.ledger(call.query["job"], since, call.query["limit"])
    return {"slots": [slots_view(row) for row in found]}


def alerts(desk: Desk, call: Call) -> View:
    return desk.reports.alerts(call.query["job"], call.query["limit"])


def queue(desk: Desk, _call: Call) -> View:
    return desk.reports.queue()


def dead_letters(desk: Desk, call: Call) -> View:
    return desk.reports.dead_letters(call.query["job"], call.query["limit"])


def dead_letter(desk: Desk, call: Call) -> View:
    return desk.reports.dead_letter_view(number(call.id))


def number(text: str) -> int:
    """Of an entry, as its path names it. Raises UsageError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise UsageError("an entry of the dead letter queue has a number")
    return int(text)


# --- workflows ---


def workflows(desk: Desk, _call: Call) -> View:
    return desk.reports.workflows()


def workflow_runs(desk: Desk, call: Call) -> View:
    return desk.reports.workflow_runs(call.query["workflow"], call.query["limit"])


def workflow_run(desk: Desk, call: Call) -> View:
    return desk.reports.workflow_run_view(desk.reports.workflow_run(call.id))


# --- the home ---


def plan(desk: Desk, call: Call) -> View:
    return desk.operations.preview(call.query["for_seconds"])


def config(desk: Desk, _call: Call) -> View:
    """The configuration in force, less its secrets, and what is wrong with the files if it is not theirs."""
    daemon = serving(desk.home)
    about = {"pid": None if daemon is None else daemon.pid, "address": desk.operations.api().address}
    return {"version": __version__, **desk.reports.configuration(), "daemon": about}


# --- events ---


def events(desk: Desk, call: Call) -> Reply:
    """Events later than `after`, oldest first; waits for one if there is none and there is time."""
    after_id, limit = call.query["after"], call.query["limit"]
    give_up_at = desk.home.clock.monotonic() + call.query["wait"]
    found = _later(desk, after_id, limit)
    while not found and desk.home.clock.monotonic() < give_up_at:
        desk.home.clock.sleep(_STREAM_LOOK_SECONDS)
        found = _later(desk, after_id, limit)
    return Reply({"events": [event_view(event) for event in found], "next": found[-1].id if found else after_id})


def _later(desk: Desk, after_id: int, limit: int) -> tuple[Event, ...]:
    """Whoever has seen none yet is told the newest, whoever goes on gets the next."""
    return desk.operations.events(after_id)[:limit] if after_id else desk.operations.events(0, newest=limit)


def event_stream(desk: Desk, call: Call) -> Stream:
    return Stream(_as_they_come(desk, call.query["after"]), "text/event-stream; charset=utf-8")


def _as_they_come(desk: Desk, after_id: int) -> Iterator[bytes]:
    """Events for as long as somebody listens; empty pieces tell the server that we are still there."""
    import json

    if not after_id:
        newest = desk.operations.events(0, newest=1)
        after_id = newest[-1].id if newest else 0
    yield b": what comes from now on\n\n"
    clock, store = desk.home.clock, desk.home.store
    said_at, seen = clock.monotonic(), -1
    while True:
        version = store.data_version()
        found = desk.operations.events(after_id) if version != seen else ()
        seen = version
        for event in found:
            after_id, said_at = event.id, clock.monotonic()
            told = json.dumps(event_view(event), ensure_ascii=False)
            yield f"id: {event.id}\nevent: {event.kind.replace(' ', '_')}\ndata: {told}\n\n".encode()
        if clock.monotonic() - said_at >= _COMMENT_SECONDS:
            said_at = clock.monotonic()
            yield f": {iso(clock.now())}\n\n".encode()
        yield b""
        clock.sleep(_STREAM_LOOK_SECONDS)
