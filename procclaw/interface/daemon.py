"""The daemon's commands: start, stop, status, logs."""

from argparse import Namespace
from contextlib import suppress
from typing import TYPE_CHECKING

from procclaw.engine import logs as job_logs
from procclaw.engine import supervision
from procclaw.engine.files import prepare_home
from procclaw.interface.console import Unwritten, printable
from procclaw.interface.history import print_logs
from procclaw.model.clock import seconds_between
from procclaw.model.errors import Conflict, NoDaemon, ProcclawError
from procclaw.model.intents import IntentKind, IntentState
from procclaw.model.records import HOME

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def start(context: "Context", options: Namespace) -> int:
    prepare_home(context.home.paths.home)
    if options.foreground:
        if context.console.is_terminal:
            context.home.log.echo_to(lambda line: _echo(context, line))
        # Everything that a daemon can need is imported before its first cycle: its file may be replaced later.
        from procclaw.interface.api.front import Front

        return supervision.serve(
            context.home, keeps_holds=options.keep_holds, open_front=lambda late: Front(context.home, late)
        )
    running = supervision.serving(context.home)
    if running is not None and running.is_daemon:
        _say(context, f"already running (pid {running.pid})", pid=running.pid)
        return 0
    if running is not None:
        raise Conflict(f"procclaw up (pid {running.pid}) has this home")
    started = supervision.bring_up(context.home)
    _say(context, f"daemon started (pid {started.pid})", pid=started.pid)
    context.complain_of_files()
    return 0


def _echo(context: "Context", line: str) -> None:
    """A terminal that has gone away must not disturb the daemon; its log has the line anyway."""
    with suppress(OSError, Unwritten):
        context.console.say(printable(line))
        context.console.flush()


def _say(context: "Context", message: str, **fields: object) -> None:
    if context.console.is_json:
        context.console.json({"success": True, "message": message, **fields})
    else:
        context.console.say(message)


def stop(context: "Context", options: Namespace) -> int:
    if options.jobs:
        _stop_jobs(context)
        serving = supervision.serving(context.home)
        # A procclaw up is about to end of itself: it has nothing left to stay for.
        has_daemon = serving is not None and serving.is_daemon
        if not (has_daemon and context.console.is_json):
            _say(context, "all jobs are stopped, until daemon start or reconcile --release", jobs_running=0)
        if not has_daemon:
            return 0
    supervision.end(context.home)
    left = len(context.home.store.living.attempts())
    jobs = f"{left} {'job goes' if left == 1 else 'jobs go'} on running" if left else "no job is running"
    _say(context, f"daemon stopped; {jobs}", jobs_running=left)
    return 0


def _stop_jobs(context: "Context") -> None:
    console = context.console

    def on_wait(seconds: float, _waits: tuple[str, ...]) -> None:
        left = len(context.home.store.living.attempts())
        console.progress(f"stopping jobs: {left} left after {seconds:.0f} s")

    [answer] = context.operations.ask(IntentKind.HOLD_HOME, [HOME], on_wait=on_wait)
    console.end_progress()
    if answer.state is not IntentState.DONE:
        raise ProcclawError(answer.message)


def status(context: "Context", options: Namespace) -> int:
    serving = supervision.serving(context.home)
    problems = context.operations.problems()
    api = context.operations.api() if serving is not None else None
    live = len(context.home.store.living.attempts())
    if context.console.is_json:
        view = {
            "running": serving is not None,
            "pid": None if serving is None else serving.pid,
            "home": context.home.paths.home,
            "jobs_running": live,
            "api": {"address": api.address if api else None, "problem": api.problem if api else None},
            "configuration_valid": not problems,
            "problems": list(problems),
            "warnings": list(context.home.store.warnings()),
        }
        context.console.json(view)
    else:
        committed = context.home.store.last_commit_at()
        age = None if committed is None else f"{seconds_between(committed, context.home.clock.now()):.0f} s ago"
        state = "not running" if serving is None else f"running (pid {serving.pid})"
        if serving is not None and not serving.is_daemon:
            state, api = f"procclaw up in its place (pid {serving.pid})", None
        pairs = [("daemon", state), ("home", context.home.paths.home), ("jobs running", live), ("last change", age)]
        if api is not None:
            pairs.append(("http", api.address or f"not served: {api.problem or 'it is coming up'}"))
        context.console.fields(pairs)
        context.complain_of_files()
        context.tell_of_warnings()
    return 0 if serving is not None else NoDaemon.exit_code


def logs(context: "Context", options: Namespace) -> int:
    return print_logs(context, None, job_logs.of_daemon(context.home), options.lines, follows=options.follow)
