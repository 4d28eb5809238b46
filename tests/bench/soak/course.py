"""One soak from the first start to the last stop: a daemon, its jobs, an operator, and somebody who writes all down."""

import contextlib
import os
import socket
import subprocess
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from tests.bench.soak import watch
from tests.bench.soak.jobs import cast
from tests.bench.soak.operator import Operator
from tests.bench.soak.watch import Journal
from tests.driver import Driver, commands
from tests.httpclient import Client
from tests.support import Reaper, wait_until

KILLED_AT = (1 / 12, 2 / 12, 3 / 12, 11 / 12, 23 / 24)
"""When the daemon is killed, as shares of the whole time; between lies one life long enough to see a leak in."""
SAMPLE_SECONDS = 30.0
DEED_SECONDS = 25.0
LEDGER_SECONDS = 60.0
UNHURRIED_SECONDS = 3600.0
"""A shorter soak has everything come round more often, so that there is something to judge."""
LEAST_HASTE = 0.2
LEDGER_OVERLAP = timedelta(minutes=3)
"""Rows are asked for again for so long: one that was seen may have been written anew since."""
HISTORY = {"keep_runs": 20, "keep_days": 0.01}
"""A quarter of an hour: what is kept of the past is then as much in the middle of the soak as at its end."""
UP_WITHIN = 180.0
STOP_WITHIN = 300.0

TROUBLE = (AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired)
"""What comes of an answer that is not as it must be, or none."""


class Settings(NamedTuple):
    seconds: float
    jobs: int
    seed: int


class Turn(NamedTuple):
    """Something that comes round every so many seconds, and when it does for the first time."""

    act: Callable[[], None]
    every: float
    first: float = 5.0


class Soak:
    """`run` it, and `close` it whatever became of that."""

    def __init__(self, settings: Settings, driver: Driver, reaper: Reaper, journal: Journal) -> None:
        self._settings = settings
        self._driver = driver
        self._reaper = reaper
        self._journal = journal
        self._port = free_port()
        self._client = Client("127.0.0.1", self._port)
        self._cast = cast(driver.home, settings.jobs, settings.seed, self._port)
        self._operator = Operator(driver, self._client, journal, self._cast.jobs, settings.seed)
        self._daemon: subprocess.Popen[Any] | None = None
        self._has_ended = False
        self._pids: dict[str, int | None] = {}
        """Of the steady jobs."""
        self._ledger_since = datetime.now(timezone.utc)
        self._rows: dict[tuple[str, str], list[Any]] = {}

    def run(self) -> None:
        (self._driver.home / "notes").mkdir()
        self._driver.declare(self._cast.jobs, daemon={"port": self._port}, history=HISTORY, timezone="UTC")
        steady, periods = len(self._cast.steady), self._cast.periods
        self._journal.write("begun", settings=self._settings._asdict(), steady=steady, periods=periods)
        self._start_daemon()
        wait_until(lambda: None not in self._steady_pids().values(), UP_WITHIN, lambda: self._driver.ask("list").out)
        self._pids = self._steady_pids()
        self._go_on()
        self._read_ledger()
        self._stop()
        self._take_in_what_jobs_wrote()

    def close(self) -> None:
        """End what a soak that broke off has started, the way people do it."""
        if self._daemon is not None and not self._has_ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.ask("daemon", "stop", "--jobs", code=None, within=STOP_WITHIN)

    # --- the daemon ---

    def _start_daemon(self) -> None:
        said = self._driver.home / "daemon.out"
        with said.open("ab") as output:
            argv = self._driver.argv("daemon", "start", "--foreground")
            # In a session of its own: Ctrl-C is for us, who then stop it in order.
            self._daemon = self._reaper.spawn(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(self._answers, UP_WITHIN, said.read_text)
        self._journal.write("life", pid=self._daemon.pid)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self._client.get("/health").status == 200
        return False

    def _kill_daemon(self) -> None:
        """By SIGKILL; the next one must find every job as the last one left it."""
        assert self._daemon is not None
        before = self._steady_pids()
        self._daemon.kill()
        self._daemon.wait(UP_WITHIN)
        self._journal.write("killed", pid=self._daemon.pid)
        self._start_daemon()
        after = self._steady_pids()
        changed = [name for name in before if before[name] != after[name]]
        self._journal.write("taken over", steady=len(after), changed=changed)

    def _steady_pids(self) -> dict[str, int | None]:
        return watch.pids(self._client, self._cast.steady)

    # --- what goes on ---

    def _go_on(self) -> None:
        seconds = self._settings.seconds
        haste = max(LEAST_HASTE, min(1.0, seconds / UNHURRIED_SECONDS))
        turns = [
            Turn(self._sample, SAMPLE_SECONDS * haste),
            Turn(self._operator.act, DEED_SECONDS * haste),
            Turn(self._read_ledger, LEDGER_SECONDS * haste),
            *(Turn(self._kill_daemon, seconds, first=share * seconds) for share in KILLED_AT),
        ]
        began = time.monotonic()
        due = [began + turn.first for turn in turns]
        while (at := min(due)) < began + seconds:
            time.sleep(max(0.0, at - time.monotonic()))
            number = due.index(at)
            self._take(turns[number].act)
            # What took longer than its turn lasts is not made up for.
            due[number] = max(at + turns[number].every, time.monotonic())

    def _take(self, act: Callable[[], None]) -> None:
        """What goes wrong is written down, and judged at the end; a daemon that ended by itself is started again."""
        try:
            act()
        except TROUBLE as error:
            trace = traceback.format_exc(limit=-3)
            self._journal.write("trouble", of=act.__name__, error=str(error)[-3000:], trace=trace[-3000:])
        if self._daemon is not None and self._daemon.poll() is not None:
            self._journal.write("trouble", of="daemon", error=f"it ended by itself: {self._daemon.returncode}")
            self._start_daemon()

    def _sample(self) -> None:
        assert self._daemon is not None
        self._journal.write("sample", **watch.sample(self._driver.home, self._daemon.pid, self._client))
        now = self._steady_pids()
        changed = {name: [pid, now[name]] for name, pid in self._pids.items() if now[name] != pid}
        if changed:
            self._journal.write("replaced", jobs=changed)
            self._pids = now

    def _read_ledger(self) -> None:
        """Rows that are new, or no longer as they were."""
        now = datetime.now(timezone.utc)
        since = (self._ledger_since - LEDGER_OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = self._client.get(f"/api/v1/ledger?limit=10000&since={since}")
        assert answer.status == 200, answer
        rows: list[list[Any]] = []
        for slots in answer.json["slots"]:
            row = [slots[name] for name in watch.SLOTS]
            if self._rows.get((row[0], row[1])) != row:
                self._rows[row[0], row[1]] = row
                rows.append(row)
        self._journal.write("slots", rows=rows)
        self._ledger_since = now

    # --- the end ---

    def _stop(self) -> None:
        began = time.monotonic()
        self._driver.ask("daemon", "stop", "--jobs", within=STOP_WITHIN)
        assert self._daemon is not None
        code = self._daemon.wait(UP_WITHIN)
        left = [f"{seen.pid} {commands(seen.pid)}" for seen in self._driver.processes()]
        records, work = sorted(self._driver.records()), os.listdir(self._driver.home / "work")
        seconds = round(time.monotonic() - began, 1)
        self._journal.write("ended", code=code, seconds=seconds, left=left, records=records, work=work)
        self._has_ended = True

    def _take_in_what_jobs_wrote(self) -> None:
        for name in (*self._cast.ending, *self._cast.periods):
            path = self._driver.home / "notes" / name
            self._journal.write("notes", job=name, lines=path.read_text().splitlines() if path.exists() else [])
        for name in (name for name in self._cast.jobs if name.startswith("rotating-")):
            self._journal.write("log", job=name, **watch.numbered_log(self._driver.home, name))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
