"""The daemon seen from outside: whether one serves a home, bringing one up, being one, and telling it to end."""

import os
import sys
from typing import NamedTuple

from procclaw.engine.daemon import ROLE, SERVING_ROLES, Daemon, OpenFront, Stay
from procclaw.engine.home import Home
from procclaw.model.errors import Conflict, NoDaemon, ProcclawError
from procclaw.model.outside import Process
from procclaw.system.processes import detach, is_marked, reexec_without_mark

START_SECONDS = 60.0
"""A first cycle over thousands of jobs takes its time; one that fails is noticed at once."""
STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_TERMINATE = 15
_STARTUP_LOG = "daemon.startup.log"
"""What a daemon in the background prints before it has its log, or in place of it."""
_LINES_SHOWN = 10


class Serving(NamedTuple):
    """The daemon that holds a home, or the `procclaw up` that does."""

    pid: int
    start_ticks: int
    is_up: bool
    """It has seen to everything that was declared when it began."""
    is_daemon: bool = True
    """It stays whatever becomes of its jobs; False: a `procclaw up`, which ends when they have."""


def serving(home: Home) -> Serving | None:
    """Who serves the home; None when nobody does."""
    holder = home.lock().holder()
    if holder is None or holder.role not in SERVING_ROLES or not home.is_alive(holder):
        return None
    assert holder.pid is not None
    assert holder.start_ticks is not None
    return Serving(holder.pid, holder.start_ticks, holder.is_up, holder.role == ROLE)


def own_program() -> tuple[str, ...]:
    """The command line that starts the program this process runs: the .pyz, the installed script or the launcher."""
    return (sys.executable, os.path.abspath(sys.argv[0]))


def _as_daemon(home: Home) -> list[str]:
    return [*own_program(), "--home", home.paths.home, "daemon", "start", "--foreground"]


def serve(home: Home, *, keeps_holds: bool, open_front: OpenFront | None = None) -> int:
    """Be the daemon until told to end; returns its exit code. Raises AlreadyRunning. The rest: see `Daemon`."""
    if is_marked():
        # Started from within a job, it would count as part of that job and be stopped with it.
        reexec_without_mark([*_as_daemon(home), *(["--keep-holds"] if keeps_holds else [])])
    return Daemon(home, own_program(), keeps_holds=keeps_holds, open_front=open_front).run()


def stay(home: Home, stays: Stay, open_front: OpenFront) -> int:
    """Run the loop in the foreground until nothing is left to stay for; its exit code. Raises as `serve` does."""
    if is_marked():
        # As above; and the jobs of a home within a home are no part of the job that asks for them.
        reexec_without_mark([*own_program(), *sys.argv[1:]])
    return Daemon(home, own_program(), open_front=open_front, stay=stays).run()


def bring_up(home: Home) -> Serving:
    """Start a daemon in the background and wait until it serves. Raises ProcclawError, with what it said, if not."""
    log = os.path.join(home.paths.logs, _STARTUP_LOG)
    pid = detach(_as_daemon(home), log)
    began = home.clock.monotonic()
    while home.clock.monotonic() - began < START_SECONDS:
        # Ours is gone as well when another daemon was quicker; that is then there, so it is looked for afterwards.
        is_gone = home.processes.start_ticks(pid) is None
        found = serving(home)
        if found is not None and found.is_up:
            return found
        if found is None and is_gone:
            break
        home.clock.sleep(_POLL_SECONDS)
    said = _last_lines(log)
    raise ProcclawError("the daemon did not come up" + (f":\n{said}" if said else ""))


def _last_lines(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-_LINES_SHOWN:]).strip()
    except OSError:
        return ""


def end(home: Home) -> None:
    """Tell the daemon to end and wait until it has; jobs go on. Raises NoDaemon, Conflict."""
    found = serving(home)
    if found is None:
        raise NoDaemon("no daemon runs")
    if not found.is_daemon:
        raise Conflict(
            f"procclaw up (pid {found.pid}) has this home; it ends with its jobs: procclaw daemon stop --jobs"
        )
    home.processes.signal_process(Process(found.pid, found.start_ticks), _TERMINATE)
    began = home.clock.monotonic()
    # The lock comes free a little before the process is gone.
    while home.processes.start_ticks(found.pid) == found.start_ticks:
        if home.clock.monotonic() - began > STOP_SECONDS:
            raise ProcclawError(f"the daemon (pid {found.pid}) did not end within {STOP_SECONDS:.0f} s")
        home.clock.sleep(_POLL_SECONDS)
