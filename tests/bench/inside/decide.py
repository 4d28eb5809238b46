"""What the cycle for one exit takes, and planning within it, in milliseconds."""

import json
import os
import signal
import statistics
import sys
import time
from typing import Any

PYZ, HOME, ROUNDS, FIFO = sys.argv[1:]
sys.path[:0] = [f"{PYZ}/c{sys.version_info[0]}{sys.version_info[1]}", PYZ]

from procclaw.engine import controller  # noqa: E402
from procclaw.engine.home import Home  # noqa: E402
from procclaw.model.records import Attempt  # noqa: E402

planning: list[float] = []
plans = vars(controller)["plans"]


def timed_plans(*given: Any, **named: Any) -> Any:
    began = time.perf_counter()
    try:
        return plans(*given, **named)
    finally:
        planning.append((time.perf_counter() - began) * 1000)


def main() -> None:
    vars(controller)["plans"] = timed_plans
    cycles = []
    with Home(HOME) as home:
        lock = home.lock()
        assert home.acquire(lock, "pass")
        loop = home.controller()
        loop.cycle()
        planning.clear()
        for _ in range(int(ROUNDS)):
            end(home, the_attempt(home))
            began = time.perf_counter()
            loop.cycle(frozenset({"running"}))
            cycles.append((time.perf_counter() - began) * 1000)
    print(json.dumps({"planning": statistics.median(planning), "cycle": statistics.median(cycles)}))


def the_attempt(home: Home) -> Attempt:
    [attempt] = home.store.living.attempts()
    return attempt


def end(home: Home, attempt: Attempt) -> None:
    """Kill the job's process, and wait until its shim has written that down and is gone."""
    assert attempt.pid is not None
    while (job_pid := home.processes.sight(attempt.record).job_pid) is None:
        time.sleep(0.001)
    os.kill(job_pid, signal.SIGKILL)
    os.waitpid(attempt.pid, 0)


main()
