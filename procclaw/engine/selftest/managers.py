"""Promises that the whole loop has to keep on this machine: jobs start exactly once, and stop entirely."""

import os
from collections import Counter
from typing import Any

from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.engine.selftest.bench import STAYS_SECONDS, Bench, Broken, milliseconds
from procclaw.model.clock import SystemClock, after, iso
from procclaw.model.intents import IntentKind
from procclaw.planning.views import has_succeeded
from procclaw.system.processes import Processes

NOTE = 'echo "$PROCCLAW_JOB_ID $PROCCLAW_RUN_ID $PROCCLAW_ATTEMPT $$" >>"$PROCCLAW_HOME/notes"; '
"""What a job writes when it starts."""
STAYS = f"{NOTE}exec sleep {STAYS_SECONDS}"
TREE = f"""\
leaf='echo $$ >>"$PROCCLAW_HOME/leaves"; exec sleep {STAYS_SECONDS}'
trap '' TERM
sh -c "$leaf" &
( sh -c "$leaf" & )
if command -v setsid >/dev/null; then
setsid sh -c "$leaf" &
( setsid sh -c "$leaf" & )
fi
wait_for=$(command -v setsid >/dev/null && echo 4 || echo 2)
while [ "$(wc -l <"$PROCCLAW_HOME/leaves")" -lt "$wait_for" ]; do sleep 0.01; done
{NOTE}exec sleep {STAYS_SECONDS}
"""
"""Of one that ignores SIGTERM with all its children: some orphaned, some in sessions of their own."""

_HOMES = 3
_RECONCILERS = 3
REFUSED = 1
"""What a reconciler ends with that others on a busy machine did not let work: it may not start anything twice."""
_STOP_SECONDS = 20.0


def once_due(clock: SystemClock) -> dict[str, Any]:
    """A job with one slot, just now."""
    return {"type": "oneshot", "run_at": iso(after(clock.now(), -30)), "retry": {"enabled": False}}


def noted(home: str) -> list[tuple[str, str, int, int]]:
    """Job, run, attempt and pid of every start."""
    lines = (line.split() for line in read(home, "notes").splitlines())
    return [(job_id, run_id, int(attempt), int(pid)) for job_id, run_id, attempt, pid in lines]


def leaves(home: str) -> list[int]:
    """Pids of what a TREE has started."""
    return [int(line) for line in read(home, "leaves").splitlines()]


def read(home: str, name: str) -> str:
    try:
        with open(os.path.join(home, name)) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def shown_runs(home: Home) -> str:
    """What has become of the newest runs, for whoever has to understand why something never came."""
    told = []
    for run in home.store.runs(None, 10):
        attempts = home.store.attempts(run.id)
        last = f" {attempts[-1].reason or 'alive'} {attempts[-1].detail}".rstrip() if attempts else ""
        told.append(f"{run.job_id} {run.state}{last}")
    return ", ".join(told) or "no run"


def _wait_for_jobs(bench: Bench, path: str, jobs: frozenset[str], what: str) -> None:
    def show() -> str:
        with Home(path) as home:
            return shown_runs(home)

    bench.wait(lambda: {note[0] for note in noted(path)} == jobs, what, show=show)


def start_is_exactly_once(bench: Bench) -> str:
    jobs = {f"once{number}": {**once_due(bench.clock), "cmd": f"{NOTE}exit 0"} for number in range(4)}
    jobs["stays"] = {"type": "continuous", "cmd": STAYS}
    for number in range(_HOMES):
        home = bench.home(f"twice{number}", jobs)
        copies = [bench.nursery.start("reconcile", home) for _ in range(_RECONCILERS)]
        with open(os.path.join(home, "go"), "w"):
            pass
        for copy in copies:
            if (code := bench.outcome(copy, "several have reconciled at once")) not in (0, REFUSED):
                raise Broken(f"one of several who reconcile at once ended with {code}")
        _wait_for_jobs(bench, home, frozenset(jobs), "each job has started")
        twice = [job_id for job_id, times in Counter(note[0] for note in noted(home)).items() if times != 1]
        if twice:
            raise Broken(f"started more than once: {', '.join(twice)}")
        bench.leave(home)
    return f"{_HOMES} homes with {_RECONCILERS} reconcilers each: {_HOMES * len(jobs)} jobs, each started once"


def stop_leaves_nothing(bench: Bench) -> str:
    path = bench.home("stop", {"tree": {"type": "continuous", "cmd": TREE, "shutdown": {"grace_period": 0.2}}})
    processes = Processes(path)
    with Home(path) as home:
        operations = Operations(home, "selftest")
        operations.reconcile()
        _wait_for_jobs(bench, path, frozenset({"tree"}), "a job with several processes is up")
        pids = [*leaves(path), noted(path)[0][3]]
        alive = {pid: processes.start_ticks(pid) for pid in pids}
        began = bench.clock.monotonic()
        [answer] = operations.ask(IntentKind.STOP, ["tree"], seconds=_STOP_SECONDS)
        seconds = bench.clock.monotonic() - began
    if not has_succeeded(answer):
        raise Broken(f"a stop did not come to its end within {_STOP_SECONDS:.0f} s: {answer.message}")
    left = [pid for pid, ticks in alive.items() if ticks is not None and processes.start_ticks(pid) == ticks]
    if left or None in alive.values():
        raise Broken(f"a stop reported success and left {len(left)} of {len(pids)} processes")
    return f"{len(pids)} processes that ignore SIGTERM, in sessions of their own too: gone in {milliseconds(seconds)}"
