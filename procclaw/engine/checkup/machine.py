"""What the machine itself has to offer: Python, a clock that is right, room for processes, and somebody who reaps."""

import platform
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

from procclaw.engine.checkup.finding import Finding, ok, problem, warning
from procclaw.engine.checkup.setup import Setup
from procclaw.model.clock import SystemClock, iso, seconds_between
from procclaw.system.processes.limits import Allowance, allowance_of
from procclaw.system.processes.orphans import Adoption, see_adoption
from procclaw.system.timekeeping import is_synchronized
from procclaw.system.watch import can_watch

_OLDEST, _NEWEST = (3, 11), (3, 13)
"""Those that it was tried with; an older one does not even read our files."""
_EARLIEST_YEAR, _LATEST_YEAR = 2026, 2100
_BEHIND_SECONDS = 2.0
_FOR_OTHERS = 300
"""Connections, files of the daemon's own, commands it asks."""
_DESCRIPTORS_EACH, _PROCESSES_EACH = 2, 3
"""Of a running job: what tells that it has ended, and a check; shim, job, and a child of that."""
_REAPED_WITHIN_SECONDS = 3.0
"""Some first processes come round every two seconds only."""


# --- Python ---


def look_at_python(_setup: Setup) -> Iterator[Finding]:
    yield judge_python(platform.python_implementation(), sys.version_info[:3], sys.executable)


def judge_python(implementation: str, version: tuple[int, ...], path: str) -> Finding:
    told = f"{implementation} {'.'.join(map(str, version))} ({path})"
    if implementation == "CPython" and _OLDEST <= version[:2] <= _NEWEST:
        return ok("python", told)
    tried = f"CPython {_OLDEST[0]}.{_OLDEST[1]} to {_NEWEST[0]}.{_NEWEST[1]}"
    return warning(
        "python", f"{told}: ProcClaw was tried with {tried}", f"python{_NEWEST[0]}.{_NEWEST[1]} procclaw.pyz ..."
    )


# --- the clock ---


def look_at_clock(setup: Setup) -> Iterator[Finding]:
    noted = setup.home().processes.noted_commit() if setup.is_there else None
    yield judge_clock(SystemClock().now(), noted, is_synchronized())


def judge_clock(now: datetime, noted: datetime | None, is_right: bool | None) -> Finding:
    """`noted`: when something was last recorded; `is_right`: whether the machine says that it is set from outside."""
    correct = "sudo timedatectl set-ntp true"
    if not _EARLIEST_YEAR <= now.year <= _LATEST_YEAR:
        return problem("clock", f"it says {iso(now)}: nothing is due when it should be", correct)
    if noted is not None and seconds_between(now, noted) > _BEHIND_SECONDS:
        behind = timedelta(seconds=round(seconds_between(now, noted)))
        told = f"it is {behind} behind what was recorded at {iso(noted)}: what was due since does not run again"
        return problem("clock", told, correct)
    if is_right is False:
        return warning("clock", "nobody sets it right (no NTP): schedules drift with it", correct)
    return ok("clock", "set by NTP" if is_right else f"it says {iso(now)}; whether it is right nobody here tells")


# --- limits ---


def look_at_limits(setup: Setup) -> Iterator[Finding]:
    """Of the daemon where one runs, else of ourselves: what is started from here has the same."""
    spec, daemon = setup.spec(), setup.daemon()
    jobs = 0 if spec is None else sum(max(1, job.concurrency.max_instances) for job in spec.jobs.values())
    yield from judge_limits(allowance_of(0 if daemon is None else daemon.pid), jobs)
    can = can_watch()
    if can is not None:
        yield judge_watching(can=can)


def judge_limits(allowance: Allowance, jobs: int) -> Iterator[Finding]:
    """`jobs`: how many may run at once."""
    lacks = list(_lacks(allowance, jobs))
    for told, remedy in lacks:
        yield warning("limits", told, remedy)
    if not lacks:
        yield ok("limits", f"{_number(allowance.descriptors)} open files, {_number(allowance.processes)} processes")


def _lacks(allowance: Allowance, jobs: int) -> Iterator[tuple[str, str]]:
    """What is too little, and how there is more of it."""
    descriptors, processes = jobs * _DESCRIPTORS_EACH + _FOR_OTHERS, jobs * _PROCESSES_EACH + _FOR_OTHERS
    at_once = f"{jobs} {'job' if jobs == 1 else 'jobs'} at once can take"
    if allowance.descriptors is not None and allowance.descriptors < descriptors:
        told = f"{allowance.descriptors} open files are allowed, and {at_once} {descriptors}"
        yield told, f"ulimit -Hn {descriptors}, or LimitNOFILE={descriptors} by: systemctl --user edit procclaw"
    if allowance.processes is not None and allowance.processes < processes:
        told = f"{allowance.processes} processes are allowed to this user, and {at_once} {processes}"
        yield told, f"ulimit -u {processes}, or in /etc/security/limits.conf: * - nproc {processes}"
    if allowance.room is not None and allowance.room < jobs * _PROCESSES_EACH + 1:
        told = f"{allowance.room} more processes fit in here ({allowance.cgroup}), and {at_once} more"
        yield told, f"docker run --pids-limit {processes} ..., or TasksMax=infinity for the unit or slice"


def _number(limit: int | None) -> str:
    return "any number of" if limit is None else str(limit)


def judge_watching(*, can: bool) -> Finding:
    if can:
        return ok("inotify", "a watcher of files can be had")
    told = "no watcher of files is left for this user: changes are noticed up to a second later, and cost a look each"
    return warning("inotify", told, "sudo sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=131072")


# --- orphans ---


def look_at_orphans(_setup: Setup) -> Iterator[Finding]:
    yield judge_adoption(see_adoption(_REAPED_WITHIN_SECONDS))


def judge_adoption(seen: Adoption | None) -> Finding:
    if seen is None:
        return warning("orphans", "no process could be started to see what becomes of it", "ulimit -u; free -m")
    who = f"{seen.name or 'process'} (pid {seen.pid})" if seen.pid is not None else "the first process"
    if seen.reaped_after_seconds is None:
        told = f"{who} adopts them and does not let them go: each job that ends while no daemon runs stays as a zombie"
        return problem("orphans", told, "docker run --init ..., or tini as the container's first process")
    slow = f", after {seen.reaped_after_seconds:.1f} s" if seen.reaped_after_seconds > 1 else ""
    return ok("orphans", f"{who} adopts them and lets them go{slow}")
