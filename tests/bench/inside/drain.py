"""Seconds from when a daemon sees many requests for a run until the last of them is recorded as over."""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import time

PYZ, HOME, DAEMON, COUNT = sys.argv[1:]
sys.path[:0] = [f"{PYZ}/c{sys.version_info[0]}{sys.version_info[1]}", PYZ]

from procclaw.engine.home import Home  # noqa: E402
from procclaw.model.intents import Intent, IntentKind  # noqa: E402
from procclaw.system.watch import wake  # noqa: E402

WITHIN = 300.0


def main() -> None:
    os.kill(int(DAEMON), signal.SIGSTOP)
    try:
        with Home(HOME) as home:
            for _ in range(int(COUNT)):
                home.store.add_intent(Intent(0, "nothing", IntentKind.RUN, False, home.clock.now(), "bench"))
            wake(HOME)
    finally:
        began = time.time()
        os.kill(int(DAEMON), signal.SIGCONT)
    print(json.dumps(recorded_at() - began))


def recorded_at() -> float:
    """When the last run ended, once every one is recorded as a success; nothing but that is counted meanwhile."""
    deadline = time.monotonic() + WITHIN
    with contextlib.closing(sqlite3.connect(f"file:{HOME}/procclaw.db?mode=ro", uri=True)) as looking:
        while True:
            sql = "SELECT count(*), max(finished_at) FROM runs WHERE state = 'succeeded'"
            [(count, newest)] = looking.execute(sql)
            if count == int(COUNT):
                return float(newest) / 1e6
            assert time.monotonic() < deadline, f"{count} of {COUNT} runs are over after {WITHIN:g} s"
            time.sleep(0.05)


main()
