"""Promises that the kernel has to keep: processes, locks that are inherited, ends that are told, clocks."""

import os

from procclaw.engine.selftest.bench import AT_ONCE_SECONDS, KILL, STAYS_SECONDS, Bench, Broken, milliseconds, until
from procclaw.model.clock import iso, parse_iso, seconds_between
from procclaw.model.outside import Process, RecordPhase, Sight
from procclaw.model.records import Attempt
from procclaw.planning.schedule import next_due, parse
from procclaw.system.processes import Processes
from procclaw.system.watch import Watcher

_STAYS = f"exec sleep {STAYS_SECONDS}"
_WITH_ORPHAN = f"""\
leaf='echo $$ >"$PROCCLAW_HOME/orphan"; {_STAYS}'
command -v setsid >/dev/null && setsid=setsid || setsid=
( $setsid sh -c "$leaf" & )
echo $$ >"$PROCCLAW_HOME/up"; {_STAYS}
"""
"""When both have said so, what was between the two is gone: nothing but the mark tells whose orphan it is."""
_TICKS_APART_SECONDS = 0.05
"""Start times count in hundredths of a second, as a rule; where `ps` tells them, in seconds."""
_TIMED_SECONDS, _MOST_DRIFT_SECONDS = 0.05, 0.05
_CODE = 7

_NIGHTS = (
    ("30 2 * * *", "2026-03-07T12:00Z", "2026-03-08T07:00:00Z"),
    ("30 1 * * *", "2026-10-31T12:00Z", "2026-11-01T05:30:00Z"),
)
"""Nights in which New York's clocks change: expression, after, next."""


def table_tells(bench: Bench) -> str:
    """Two attempts that have no session, parent or start time in common are each found, and not for the other."""
    home = bench.folder("table")
    processes = Processes(home)
    first = bench.start(home, processes, _WITH_ORPHAN)
    bench.clock.sleep(_TICKS_APART_SECONDS)
    second = bench.start(home, processes, _STAYS)
    if first.start_ticks is None or second.start_ticks is None or first.start_ticks > second.start_ticks:
        raise Broken(f"a later process has an earlier start time: {first.start_ticks}, {second.start_ticks}")
    bench.wait(lambda: {"up", "orphan"} <= set(os.listdir(home)), "a job and its orphan are up")
    bench.wait(lambda: len(processes.members([first])[first.id]) >= 2, "an orphan of a job is found by its mark")
    bench.wait(lambda: processes.members([second])[second.id], "a job is found by its session")
    began = bench.clock.monotonic()
    found = processes.members([first, second])
    seconds = bench.clock.monotonic() - began
    shared = {each.pid for each in found[first.id]} & {each.pid for each in found[second.id]}
    if shared or not found[second.id]:
        raise Broken(f"processes of one job are taken for another's: {found}")
    own = processes.process_of(os.getpid())
    if own is None:
        raise Broken("this very process is not in the process table")
    return f"by session, parent and mark; one look takes {milliseconds(seconds)}"


def lock_is_inherited(bench: Bench) -> str:
    home = bench.folder("lock")
    processes = Processes(home)
    attempt = bench.start(home, processes, _STAYS)
    sight = bench.wait(lambda: _started(processes, attempt), "a started shim has written its pid")
    if sight.phase is not RecordPhase.LOCKED or _seen_by_another(bench, home, attempt) is not RecordPhase.LOCKED:
        raise Broken(f"the lock is not held while its shim lives: {sight.phase}")
    assert attempt.pid is not None
    assert attempt.start_ticks is not None
    processes.signal_process(Process(attempt.pid, attempt.start_ticks), KILL)
    took = bench.measured(
        lambda: processes.sight(attempt.record).phase is RecordPhase.LOST, "the lock is free once its shim was killed"
    )
    if _seen_by_another(bench, home, attempt) is not RecordPhase.LOST:
        raise Broken("another process still sees the lock of a shim that is dead")
    return f"seen by another process, and free {took} after the shim was killed"


def _started(processes: Processes, attempt: Attempt) -> Sight | None:
    sight = processes.sight(attempt.record)
    return sight if sight.pid is not None else None


def _seen_by_another(bench: Bench, home: str, attempt: Attempt) -> RecordPhase:
    looking = bench.nursery.start("look", home, attempt.record)
    return tuple(RecordPhase)[bench.outcome(looking, "another process has looked at a record")]


def ends_are_told(bench: Bench) -> str:
    home = bench.folder("ends")
    processes = Processes(home)
    attempt = bench.start(home, processes, _STAYS)
    assert attempt.pid is not None
    assert attempt.start_ticks is not None
    bench.wait(
        lambda: processes.sight(attempt.record).job_pid or processes.members([attempt])[attempt.id], "a job runs"
    )
    watcher = Watcher(home)
    try:
        watcher.add_exit(attempt.pid, processes.exit_handle(attempt.pid, attempt.start_ticks))
        members = processes.members([attempt])[attempt.id]
        began = bench.clock.monotonic()
        processes.signal_attempt(attempt, members, KILL)
        deadline = began + bench.patience_seconds
        while (told := watcher.wait(deadline - bench.clock.monotonic())).exits != {attempt.pid}:
            if attempt.pid in told.unwatched and processes.start_ticks(attempt.pid) is None:
                return "no pidfd and no kqueue here: the daemon looks every second instead"
            if bench.clock.monotonic() >= deadline:
                raise Broken("a process was killed, and nothing tells of its end")
        seconds = bench.clock.monotonic() - began
    finally:
        watcher.close()
        processes.reap()
    if seconds > AT_ONCE_SECONDS:
        raise Broken(f"the end of a process was told {milliseconds(seconds)} after it was killed")
    return f"by {'pidfd' if hasattr(os, 'pidfd_open') else 'kqueue'}, {milliseconds(seconds)} after it was killed"


def job_outlives_manager(bench: Bench) -> str:
    """Killed right after the spawn, the manager has not even come to know the pid of what it started."""
    home = bench.folder("outlives")
    processes = Processes(home)
    attempt = bench.attempt(home, processes)
    text = f"{until('go')}exit {_CODE}"
    manager = bench.nursery.start("launch and die", home, attempt.record, text)
    if (ended := bench.outcome(manager, "a copy of this process has started a job and killed itself")) != -KILL:
        raise Broken(f"a copy of this process that was to kill itself ended with {ended}")
    sight = bench.wait(lambda: _started(processes, attempt), "the job of a killed manager goes on")
    if sight.phase is not RecordPhase.LOCKED:
        raise Broken(f"the job of a killed manager did not go on: {sight.phase}")
    with open(os.path.join(home, "go"), "w"):
        pass
    bench.wait(lambda: processes.sight(attempt.record).phase is not RecordPhase.LOCKED, "the job has ended")
    sight = bench.wait(lambda: _ended(processes, attempt), "the exit code of a job that had no manager is on record")
    if sight.exit_code != _CODE:
        raise Broken(f"a job that exited with {_CODE} while no manager lived is on record with {sight.exit_code}")
    return f"started by a process that SIGKILL ended, exit code {_CODE} read by another"


def _ended(processes: Processes, attempt: Attempt) -> Sight | None:
    sight = processes.sight(attempt.record)
    return sight if sight.phase is RecordPhase.EXITED else None


def time_is_known(bench: Bench) -> str:
    for expression, after, wanted in _NIGHTS:
        found = next_due(parse((expression,), "America/New_York"), parse_iso(after))
        if found is None or iso(found) != wanted:
            raise Broken(f'"{expression}" in New York after {after} is {found and iso(found)}, not {wanted}')
    wall, timer = bench.clock.now(), bench.clock.monotonic()
    bench.clock.sleep(_TIMED_SECONDS)
    drift = abs(seconds_between(wall, bench.clock.now()) - (bench.clock.monotonic() - timer))
    if drift > _MOST_DRIFT_SECONDS:
        raise Broken(f"wall clock and timer went apart by {milliseconds(drift)} in {_TIMED_SECONDS} s")
    return "both nights in which New York's clocks change; wall clock and timer agree"
