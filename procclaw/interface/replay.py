"""`replay`: why the loop decided as it did, told from what it recorded."""

from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from procclaw.interface.console import local, shown, with_local_times
from procclaw.interface.times import since_when
from procclaw.model.errors import UsageError
from procclaw.planning.views import View

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def replay(context: "Context", options: Namespace) -> int:
    view = _asked_for(context, options)
    if context.console.is_json:
        context.console.json(view)
        return 0
    for number, cycle in enumerate(view["cycles"]):
        if number:
            context.console.say()
        _print(context, cycle)
    context.console.say_what_is_left(len(view["cycles"]), view["total"])
    return 0


def _asked_for(context: "Context", options: Namespace) -> View:
    from procclaw.engine.replays import Replays

    replays = Replays(context.home, context.operations)
    if options.what is None:
        return replays.newest()
    try:
        moment = since_when(options.what, context.home.clock.now())
    except UsageError:
        return replays.about(options.what, options.limit)
    return replays.at(moment)


def _print(context: "Context", cycle: View) -> None:
    console = context.console
    console.say(console.paint(f"cycle {cycle['cycle']} at {local(cycle['at'])}", "bold"))
    console.fields(
        (
            ("it looked because", "; ".join(map(_cause, cycle["because"]))),
            ("it acted on", "all jobs" if cycle["acts_on"] is None else cycle["acts_on"]),
            ("it took into account", f"{cycle['looked_at']} {'job' if cycle['looked_at'] == 1 else 'jobs'}"),
            ("next look", local(cycle["wake_at"])),
        )
    )
    console.say()
    # Nothing is cut short: whoever asks why wants all of it.
    console.table(("", "JOB", "WHAT", "BECAUSE", "UNTIL"), _rows(cycle))
    console.say()
    if not cycle["differences"]:
        console.say("this version decides the same")
        return
    console.say(console.paint("this version would decide otherwise:", "yellow"))
    for line in cycle["differences"]:
        console.say(f"  {shown(with_local_times(line))}")


def _cause(because: View) -> str:
    jobs = f" ({', '.join(because['jobs'])})" if because["jobs"] else ""
    return f"{because['because']}{jobs}"


def _rows(cycle: View) -> Iterator[tuple[str | None, ...]]:
    for each in cycle["saw"]:
        if each["status"] is not None:
            yield ("saw", each["job_id"], each["status"], with_local_times(each["reason"]), None)
        for fact in each["facts"]:
            yield ("saw", each["job_id"], with_local_times(fact), None, None)
    for each in cycle["actions"]:
        yield ("decided", each["job_id"], each["action"], with_local_times(each["because"]), None)
    for each in cycle["waits"]:
        what = None if each["run_id"] is None else f"run {each['run_id']}"
        yield ("held back", each["job_id"], what, with_local_times(each["because"]), local(each["until"]))
