"""The daemon from outside: start, stop, status, logs."""

import os
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.engine.daemon import ROLE, AlreadyRunning, Daemon, own_program
from procclaw.interface.console import printable
from procclaw.model.clock import seconds_between
from procclaw.model.errors import NoDaemon, ProcclawError
from procclaw.model.log import Gone, lines
from procclaw.model.state import HOME, IntentKind, IntentState, Process
from procclaw.system.homelock import Holder
from procclaw.system.processes import detach, is_marked, reexec_without_mark

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_START_SECONDS = 15.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_TERMINATE = 15


def start(context: "Context", options: Namespace) -> int:
    from procclaw.system.homedir import prepare

    prepare(context.home_path)
    program = own_program()
    if options.foreground:
        if is_marked():
            reexec_without_mark([*program, "--home", context.home_path, "daemon", "start", "--foreground"])
        try:
            return Daemon(context.home, program).run()
        except AlreadyRunning as error:
            context.console.complain(str(error))
            return 1
    running = _daemon(context)
    if running is not None:
        _say(context, f"already running (pid {running.pid})", pid=running.pid)
        return 0
    pid = detach([*program, "--home", context.home_path, "daemon", "start", "--foreground"], _startup_log(context))
    holder = _until_up(context, pid)
    _say(context, f"daemon started (pid {holder.pid})", pid=holder.pid)
    for problem in context.operations.problems():
        context.console.complain(problem)
    return 0


def _startup_log(context: "Context") -> str:
    return os.path.join(context.home.paths.logs, "daemon.startup.log")


def _until_up(context: "Context", pid: int) -> Holder:
    """Wait until the daemon serves: it holds the lock and has written its pid file. Raises when it does not come up."""
    clock, processes = context.home.clock, context.home.processes
    began = clock.monotonic()
    while clock.monotonic() - began < _START_SECONDS:
        holder = _daemon(context)
        if holder is not None and os.path.exists(context.home.paths.pid):
            return holder
        if processes.start_ticks(pid) is None:
            break
        clock.sleep(_POLL_SECONDS)
    said = ""
    try:
        with open(_startup_log(context), encoding="utf-8", errors="replace") as file:
            said = "".join(file.readlines()[-10:]).strip()
    except OSError:
        pass
    raise ProcclawError("the daemon did not come up" + (f":\n{said}" if said else ""))


def _daemon(context: "Context") -> Holder | None:
    holder = context.home.lock().holder()
    return holder if holder is not None and holder.role == ROLE else None


def _say(context: "Context", message: str, **fields: object) -> None:
    if context.console.is_json:
        context.console.json({"success": True, "message": message, **fields})
    else:
        context.console.say(message)


def stop(context: "Context", options: Namespace) -> int:
    if options.jobs:
        _stop_jobs(context)
    holder = _daemon(context)
    if holder is None:
        if options.jobs:
            return 0
        raise NoDaemon("no daemon runs")
    if holder.pid is None or holder.start_ticks is None:
        raise ProcclawError("the daemon's lock does not say which process holds it")
    context.home.processes.signal_process(Process(holder.pid, holder.start_ticks), _TERMINATE)
    clock = context.home.clock
    began = clock.monotonic()
    while _daemon(context) is not None:
        if clock.monotonic() - began > _STOP_SECONDS:
            raise ProcclawError(f"the daemon (pid {holder.pid}) did not end within {_STOP_SECONDS:.0f} s")
        clock.sleep(_POLL_SECONDS)
    left = len(context.home.store.live_attempts())
    jobs = f"{left} {'job goes' if left == 1 else 'jobs go'} on running" if left else "no job is running"
    _say(context, f"daemon stopped; {jobs}", jobs_running=left)
    return 0


def _stop_jobs(context: "Context") -> None:
    console = context.console

    def on_wait(seconds: float, waits: tuple[str, ...]) -> None:
        left = len(context.home.store.live_attempts())
        console.progress(f"stopping jobs: {left} left after {seconds:.0f} s")

    [answer] = context.operations.ask(IntentKind.HOLD_HOME, [HOME], on_wait=on_wait)
    console.end_progress()
    if answer.state is not IntentState.DONE:
        raise ProcclawError(answer.message)
    if not console.is_json:
        console.say("all jobs are stopped, until daemon start or reconcile --release")


def status(context: "Context", options: Namespace) -> int:
    holder = _daemon(context)
    problems = context.operations.problems()
    live = len(context.home.store.live_attempts())
    if context.console.is_json:
        view = {
            "running": holder is not None,
            "pid": None if holder is None else holder.pid,
            "home": context.home.paths.home,
            "jobs_running": live,
            "configuration_valid": not problems,
            "problems": list(problems),
        }
        context.console.json(view)
    else:
        committed = context.home.store.last_commit_at()
        age = None if committed is None else f"{seconds_between(committed, context.home.clock.now()):.0f} s ago"
        state = "not running" if holder is None else f"running (pid {holder.pid})"
        pairs = [("daemon", state), ("home", context.home.paths.home), ("jobs running", live), ("last change", age)]
        context.console.fields(pairs)
        for problem in problems:
            context.console.complain(problem)
    return 0 if holder is not None else NoDaemon.exit_code


def logs(context: "Context", options: Namespace) -> int:
    console, output = context.console, context.home.output
    file = os.path.basename(context.home.paths.daemon_log)
    end = output.extent(file).end
    begin = output.tail(file, options.lines, 0, end)
    for piece in lines(output.read(file, begin, end)):
        console.say(_line(piece))
    if not options.follow:
        return 0
    follower = output.follow(file, end)
    rest = b""
    while True:
        for piece in follower.read_new():
            if isinstance(piece, Gone):
                continue
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                console.say(_line(line))
        console.flush()
        context.home.clock.sleep(0.2)


def _line(piece: bytes | Gone) -> str:
    return "" if isinstance(piece, Gone) else printable(piece.decode("utf-8", "replace"))
