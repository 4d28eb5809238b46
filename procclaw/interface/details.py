"""One job in full: `status` says all there is, `why` what keeps it from running; and `queue`, for all that wait."""

from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from procclaw.interface.asking import params_text
from procclaw.interface.console import coming, distance, duration, local, shown, with_local_times
from procclaw.interface.jobs import LOOK_AGAIN, MAY_HAVE_CHANGED, reason_of
from procclaw.planning.views import View

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_RUNS_SHOWN = 5
_HOLDS = ("paused", "stopped", "revoked")
_OCCASIONS = ("asked", "schedule", "wanted")
"""Gates about whether the job wants to run at all; of a run that failed there is more to say."""


# --- status ---


def status(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.operations.job(options.job)
    if console.is_json:
        console.json(view)
        return 0
    told = context.reports.particulars(view["id"])
    console.say(console.paint(view["id"], "bold") + ("" if view["name"] == view["id"] else f"  {shown(view['name'])}"))
    console.fields((*_what_it_does(context, view, told), *_what_it_is(context, view, told)))
    newest = context.operations.runs(view["id"], _RUNS_SHOWN)
    if newest:
        from procclaw.interface.history import print_runs

        console.say()
        print_runs(context, newest)
    return 0


def _what_it_does(context: "Context", view: View, told: View) -> Iterator[tuple[str, object]]:
    now = context.home.clock.now()
    up = duration(view["uptime_seconds"])
    yield "status", view["status"]
    if view["status"] in MAY_HAVE_CHANGED and context.is_unwatched():
        yield "daemon", f"none runs, so this is as it was last seen: {LOOK_AGAIN}"
    yield "reason", reason_of(view)
    if view["pid"]:
        yield "health", _health(context, view, told["health"])
    yield "pid", view["pid"]
    yield "started", None if up is None else f"{local(view['started_at'])} ({up} ago)"
    yield "memory", None if view["memory_mb"] is None else f"{view['memory_mb']:.1f} MB"
    yield "cpu", None if view["cpu_percent"] is None else f"{view['cpu_percent']:.1f} %"
    yield "restarts", view["restart_count"] or None
    yield "last run", local(view["last_run"])
    yield "last exit code", view["last_exit_code"]
    yield "next run", coming(view["next_run"], now)
    for each in told["planned"]:
        params = params_text(each["params"])
        yield "planned", f"{coming(each['at'], now)}, run {each['run_id']}" + (f", {params}" if params else "")
    for each in told["waiting"]:
        what = f" for {with_local_times(each['waits_for'])}" if each["waits_for"] else ""
        yield (
            "waits",
            f"run {each['run_id']}, no. {each['position']} of all that wait, since {_since(context, each)}{what}",
        )
    yield "dead letters", f"{told['dead_letters']} (procclaw dlq {view['id']})" if told["dead_letters"] else None


def _since(context: "Context", waiting: View) -> str:
    return f"{local(waiting['waiting_since'])} ({distance(waiting['waiting_since'], context.home.clock.now())})"


def _health(context: "Context", view: View, found: View | None) -> str | None:
    if found is None or view["health"] is None:
        return None if view["health"] is None else str(view["health"])
    told = f"{view['health']} since {local(found['since'])}"
    if found["failures"]:
        told += f", {found['failures']} failed in a row"
    if found["detail"]:
        told += f": {found['detail']}"
    return told


def _what_it_is(context: "Context", view: View, told: View) -> Iterator[tuple[str, object]]:
    yield "description", view["description"]
    yield "type", view["type"]
    yield "enabled", "yes" if view["enabled"] else "no"
    yield "tags", view["tags"]
    yield "priority", told["priority"] if told["priority"] != "normal" else None
    yield "schedule", view["schedule"]
    for dependency in told["dependencies"]:
        yield "depends on", _dependency(dependency)
    yield "needed by", told["dependants"]
    yield "queue", None if told["queue"] is None else _queue(told["queue"])
    yield "lock", None if told["lock"] is None else _lock(told["lock"])
    for param in told["params"]:
        yield "param", _param(param)
    for trigger in told["triggers"]:
        where = "" if trigger["watch_path"] is None else f" {trigger['watch_path']}/{trigger['pattern']}"
        yield "trigger", f"{trigger['type']}{where}"
    yield "workflows", told["workflows"]
    yield "declared at", context.operations.job_spec(view["id"]).source


def _dependency(dependency: View) -> str:
    limit = "" if dependency["timeout"] is None else f", at most {dependency['timeout']:g} s"
    lacks = f": {dependency['lacks']}" if dependency["lacks"] else ""
    return f"{dependency['job']} ({dependency['condition']}{limit}): {dependency['status'] or 'not declared'}{lacks}"


def _queue(queue: View) -> str:
    running = ", ".join(run["job_id"] for run in queue["running"]) or "none"
    return f"{queue['name']}: {running} running of at most {queue['limit']}, {len(queue['waiting'])} waiting"


def _lock(lock: View) -> str:
    where = "" if lock["path"] is None else f" at {lock['path']}"
    holder = f", held by {lock['holder']}" if lock["holder"] else ""
    return f"{lock['name']} ({lock['provider']}{where}){holder}"


def _param(param: View) -> str:
    told = str(param["name"])
    if param["default"] is not None:
        told += f"={param['default']}"
    elif param["required"]:
        told += " (required)"
    return f"{told}: {param['description']}" if param["description"] else told


# --- why ---


def why(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.operations.why(options.job)
    if console.is_json:
        console.json(view)
        return 0
    job = context.operations.job(options.job)
    closed = [gate for gate in view["gates"] if not gate["open"]]
    console.say(_headline(context, job, closed))
    for line in _what_next(context, job, view, closed):
        console.say(shown(line))
    console.say()
    header = ("GATE", "STATE", "WHY", "SINCE", "UNTIL", "TO OPEN IT")
    console.table(header, (_gate_row(gate) for gate in view["gates"]), cut="WHY")
    return 0


def _headline(context: "Context", job: View, closed: list[View]) -> str:
    """The first thing that keeps the job from running, or since when it runs."""
    now = context.home.clock.now()
    status = context.console.status(job["status"])
    if job["pid"] is not None:
        since = f" since {local(job['started_at'])} ({duration(job['uptime_seconds'])})" if job["started_at"] else ""
        reason = f": {shown(reason_of(job))}" if job["reason"] else ""
        return f"{job['id']} is {status}{since}, pid {job['pid']}{reason}"
    if not closed:
        return f"{job['id']} is {status}; nothing keeps it from starting"
    first = closed[0]
    since = f", since {local(first['since'])} ({distance(first['since'], now)})" if first["since"] else ""
    if first["gate"] in _HOLDS:
        until = f", until {coming(first['until'], now)}" if first["until"] else ""
        return f"{job['id']} is {context.console.status(first['gate'])} {shown(first['reason'])}{since}{until}"
    return f"{job['id']} is {status}: {shown(_first_reason(job, first))}{since}"


def _first_reason(job: View, first: View) -> str | None:
    is_told = job["reason"] is not None and first["gate"] in _OCCASIONS
    return reason_of(job) if is_told else with_local_times(first["reason"])


def _what_next(context: "Context", job: View, view: View, closed: list[View]) -> Iterator[str]:
    """When it can start, how it can start sooner, and what holds up what it waits for."""
    now = context.home.clock.now()
    # What runs and is wanted running needs nothing.
    is_up = job["pid"] is not None and job["type"] == "continuous"
    is_old = (job["status"] in MAY_HAVE_CHANGED or not closed) and context.is_unwatched()
    if view["earliest_start"] and not is_up:
        another = "another run" if job["pid"] else "it"
        yield f"{another} can start at {coming(view['earliest_start'], now)} at the earliest"
    unblocks = [gate["unblock"] for gate in closed if gate["unblock"]]
    if unblocks and not is_up:
        which = "another run" if job["pid"] else "it"
        sooner = " sooner" if view["earliest_start"] else ""
        yield f"to let {which} start{sooner}: {', then '.join(dict.fromkeys(unblocks))}"
    elif closed and not view["earliest_start"] and not is_up and not is_old:
        yield "no command is needed: it starts by itself once that is over"
    waiting = context.reports.queue(job["id"])["runs"]
    for each in waiting[:_RUNS_SHOWN]:
        what = f"run {each['run_id']} ({each['trigger']}, priority {each['priority']})"
        yield f"{what} waits since {_since(context, each)}"
    if len(waiting) > _RUNS_SHOWN:
        yield f"and {len(waiting) - _RUNS_SHOWN} more (procclaw queue {job['id']})"
    yield from _further_up(context, job["id"], closed)
    if is_old:
        yield f"no daemon runs, so this is as it was last seen: {LOOK_AGAIN}"


def _further_up(context: "Context", job_id: str, closed: list[View]) -> Iterator[str]:
    """What keeps those from running that it waits for, and those that they wait for."""
    if all(gate["gate"] != "dependency" for gate in closed):
        return
    seen, left = {job_id}, [job_id]
    while left and len(seen) <= _RUNS_SHOWN:
        for dependency in context.reports.particulars(left.pop(0))["dependencies"]:
            other = dependency["job"]
            if not dependency["lacks"] or dependency["status"] is None or other in seen:
                continue
            seen.add(other)
            left.append(other)
            reason = reason_of(context.operations.job(other))
            status = dependency["status"]
            is_said = reason is not None and reason.startswith(f"{status} ")
            yield f"{other} is {reason if is_said else status}" + (f": {reason}" if reason and not is_said else "")


def _gate_row(gate: View) -> tuple[object, ...]:
    state = "open" if gate["open"] else "closed"
    reason = with_local_times(gate["reason"])
    return (gate["gate"], state, reason, local(gate["since"]), local(gate["until"]), gate["unblock"])


# --- queue ---


def queue(context: "Context", options: Namespace) -> int:
    console = context.console
    view = context.reports.queue(options.job)
    if console.is_json:
        console.json(view)
        return 0
    now = context.home.clock.now()
    header = ("NO", "JOB", "RUN", "PRIORITY", "STATE", "SINCE", "UNTIL", "WAITS FOR")
    console.table(header, (_queue_row(each, now, console.is_terminal) for each in view["runs"]), cut="WAITS FOR")
    if not view["runs"] and console.is_terminal:
        console.say("nothing waits")
    if view["queues"]:
        console.say()
        rows = [
            (each["name"], each["limit"], _jobs(each["running"]), _jobs(each["waiting"])) for each in view["queues"]
        ]
        console.table(("QUEUE", "LIMIT", "RUNNING", "WAITING"), rows, cut="WAITING")
    return 0


def _queue_row(run: View, now: datetime, is_terminal: bool) -> tuple[object, ...]:
    since = distance(run["waiting_since"], now) if is_terminal else local(run["waiting_since"])
    waits_for = with_local_times(run["waits_for"]) or "the next pass"
    until = run["until"] or run["expires_at"]
    shown_until = distance(until, now) if is_terminal else local(until)
    who = (run["position"], run["job_id"], run["run_id"], run["priority"], run["state"])
    return (*who, since, shown_until, waits_for)


def _jobs(runs: list[View]) -> str:
    return ", ".join(run["job_id"] for run in runs)
