"""`python -m tests.bench.soak --hours 2 --jobs 500`: the built .pyz under jobs that crash, log, and change, for hours.

The daemon is killed a few times at the beginning and at the end; the long stretch between is one life, because memory
that leaks slowly is seen only in a daemon that nobody restarts. `--judge FILE` judges a soak that is over once more.
Exit code 1: something grew, got lost or was left behind. Whatever was started is ended, also on SIGTERM and Ctrl-C.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.soak import verdict, watch
from tests.bench.soak.jobs import Cast, cast
from tests.bench.soak.operator import Operator
from tests.bench.soak.watch import Journal
from tests.driver import ROOT, Driver, commands, driving
from tests.httpclient import Client
from tests.support import Reaper, wait_until

KILLED_AT = (1 / 12, 2 / 12, 3 / 12, 11 / 12, 23 / 24)
"""When the daemon is killed, as shares of the whole time."""
SAMPLE_SECONDS = 30.0
DEED_SECONDS = 25.0
LEDGER_SECONDS = 60.0
KEEP_DAYS = 0.01
"""A quarter of an hour: what is kept of the past is then as much in the middle of the soak as at its end."""
UP_WITHIN = 120.0
STOP_WITHIN = 300.0


class Settings(NamedTuple):
    seconds: float
    jobs: int
    seed: int
    pyz: Path
    out: Path
    home: Path


class Soak:
    """One soak, in a home of its own. `close` ends everything."""

    def __init__(self, settings: Settings, driver: Driver, reaper: Reaper, journal: Journal) -> None:
        self._settings = settings
        self._driver = driver
        self._reaper = reaper
        self._journal = journal
        self._port = free_port()
        self._client = Client("127.0.0.1", self._port)
        self._cast: Cast = cast(settings.home, settings.jobs, settings.seed, self._port)
        self._operator = Operator(driver, self._client, journal, self._cast.jobs, settings.seed)
        self._daemon: subprocess.Popen[Any] | None = None
        self._has_ended = False
        self._first_pids: dict[str, int | None] = {}
        self._ledger_since = datetime.now(timezone.utc)
        self._rows: dict[tuple[str, str], list[Any]] = {}

    def run(self) -> None:
        settings = self._settings
        (settings.home / "notes").mkdir()
        history = {"keep_runs": 20, "keep_days": KEEP_DAYS}
        self._driver.declare(self._cast.jobs, daemon={"port": self._port}, history=history, timezone="UTC")
        self._journal.write(
            "begun",
            settings={**settings._asdict(), "pyz": str(settings.pyz), "out": str(settings.out), "home": ""},
            periods=self._cast.periods,
            steady=len(self._cast.steady),
            noting=len(self._cast.noting),
        )
        self._start_daemon()
        wait_until(self._all_up, UP_WITHIN + settings.jobs / 5, lambda: self._driver.ask("list").out)
        self._first_pids = watch.pids(self._client, self._cast.steady)
        self._journal.write("up", pids=len(self._first_pids))
        self._go_on()
        self._read_ledger()
        self._stop()
        self._take_in_notes()

    def close(self) -> None:
        """What a soak that broke off has started, the way people end it; whoever is left then is killed."""
        if self._daemon is not None and not self._has_ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.ask("daemon", "stop", "--jobs", code=None, within=STOP_WITHIN)

    # --- the daemon ---

    def _start_daemon(self) -> None:
        output = (self._settings.home / "daemon.out").open("ab")
        with output:
            argv = self._driver.argv("daemon", "start", "--foreground")
            # In a session of its own: Ctrl-C is for us, who then stop it in order.
            self._daemon = self._reaper.spawn(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        wait_until(self._is_up, UP_WITHIN, (self._settings.home / "daemon.out").read_text)
        self._journal.write("life", pid=self._daemon.pid)

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return self._client.get("/health").status == 200
        return False

    def _all_up(self) -> bool:
        return None not in watch.pids(self._client, self._cast.steady).values()

    def _kill_daemon(self) -> None:
        assert self._daemon is not None
        before = watch.pids(self._client, self._cast.steady)
        self._daemon.kill()
        self._daemon.wait(UP_WITHIN)
        self._journal.write("killed", pid=self._daemon.pid)
        self._start_daemon()
        after = watch.pids(self._client, self._cast.steady)
        changed = [name for name in before if before[name] != after[name]]
        self._journal.write("taken over", steady=len(after), changed=changed)

    # --- what goes on ---

    def _go_on(self) -> None:
        seconds = self._settings.seconds
        # In a short soak everything comes round more often.
        haste = max(0.2, min(1.0, seconds / 3600))
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
            due[number] = max(at, time.monotonic() - turns[number].every) + turns[number].every

    def _take(self, act: Callable[[], None]) -> None:
        """What goes wrong is written down, and judged at the end; a daemon that ended by itself is started again."""
        try:
            act()
        except (AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            self._journal.write("trouble", of=act.__name__, error=str(error)[-3000:], trace=traceback.format_exc(-3))
        if self._daemon is not None and self._daemon.poll() is not None:
            self._journal.write("trouble", of="daemon", error=f"it ended by itself: {self._daemon.returncode}")
            self._start_daemon()

    def _sample(self) -> None:
        assert self._daemon is not None
        self._journal.write("sample", **watch.sample(self._settings.home, self._daemon.pid, self._client))
        now = watch.pids(self._client, self._cast.steady)
        changed = {name: [pid, now[name]] for name, pid in self._first_pids.items() if now[name] != pid}
        if changed:
            self._journal.write("replaced", jobs=changed)
            self._first_pids |= {name: now[name] for name in changed}

    def _read_ledger(self) -> None:
        """Rows that are new, or no longer as they were."""
        now = datetime.now(timezone.utc)
        since = (self._ledger_since - timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = self._client.get(f"/api/v1/ledger?limit=10000&since={since}")
        assert answer.status == 200, answer
        rows: list[list[Any]] = []
        for slot in answer.json["slots"]:
            names = ("job_id", "first_due_at", "last_due_at", "count", "outcome", "reason", "run_id")
            row = [slot[name] for name in names]
            if self._rows.get((row[0], row[1])) != row:
                self._rows[row[0], row[1]] = row
                rows.append(row)
        self._journal.write("slots", rows=rows)
        self._ledger_since = now

    # --- the end ---

    def _take_in_notes(self) -> None:
        """What the jobs themselves have to say, and the numbered lines that are left of the rotated logs."""
        for name in (*self._cast.noting, *self._cast.periods):
            path = self._settings.home / "notes" / name
            lines = path.read_text().splitlines() if path.exists() else []
            self._journal.write("notes", job=name, lines=lines)
        for name in (name for name in self._cast.jobs if name.startswith("rotating-")):
            self._journal.write("log", job=name, **rotated(self._settings.home, name))

    def _stop(self) -> None:
        self._driver.ask("daemon", "stop", "--jobs", within=STOP_WITHIN)
        assert self._daemon is not None
        code = self._daemon.wait(UP_WITHIN)
        home = self._settings.home
        left = [f"{seen.pid} {commands(seen.pid)}" for seen in self._driver.processes()]
        self._journal.write(
            "ended", code=code, left=left, records=sorted(self._driver.records()), work=os.listdir(home / "work")
        )
        self._has_ended = True


class Turn(NamedTuple):
    """Something that comes round every so many seconds, and when it does for the first time."""

    act: Callable[[], None]
    every: float
    first: float = 5.0


def rotated(home: Path, name: str) -> dict[str, Any]:
    """The numbers of a rotated log's lines, and the bytes it has come to."""
    files = sorted((home / "logs").glob(f"{name}.log*"))
    numbers = [
        int(line.split()[1])
        for path in files
        for line in path.read_text(errors="replace").splitlines()
        if line.startswith("line ")
    ]
    return {"numbers": sorted(numbers), "bytes": sum(map(watch.size, files)), "files": len(files)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def a_home(given: Path | None) -> Iterator[Path]:
    """Gone at the end, unless it was named by whoever wants to look into it."""
    if given is not None:
        given.mkdir(parents=True)
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="procclaw-soak-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str]) -> int:
    options = parsed(argv)
    if options.judge is not None:
        return verdict.tell(options.judge)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, break_off)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with a_home(options.home) as home, options.out.open("w") as file, built(options.pyz) as pyz:
        settings = Settings(options.seconds, options.jobs, options.seed, pyz, options.out, home)
        soak_in(settings, Journal(file))
    return verdict.tell(options.out)


def break_off(signum: int, _frame: object) -> None:
    """End by way of every `finally`, which a second signal must not cut short."""
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + signum)


def soak_in(settings: Settings, journal: Journal) -> None:
    reaper = Reaper()
    try:
        with driving(settings.home, reaper, settings.pyz) as driver:
            soak = Soak(settings, driver, reaper, journal)
            try:
                soak.run()
            finally:
                soak.close()
    finally:
        reaper.end(within=60.0)


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--hours", dest="seconds", type=lambda text: float(text) * 3600, default=7200.0)
    parser.add_argument("--minutes", dest="seconds", type=lambda text: float(text) * 60)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of what the jobs and the operator do")
    parser.add_argument("--pyz", type=Path, help="what to run (default: build it)")
    parser.add_argument("--out", type=Path, default=Path("soak.jsonl"), help="where everything that is seen goes")
    parser.add_argument("--home", type=Path, help="a directory to make and to leave (default: one that is removed)")
    parser.add_argument(
        "--judge", type=Path, metavar="FILE", help="judge what another soak has written, and do no more"
    )
    return parser.parse_args(argv)


@contextlib.contextmanager
def built(given: Path | None) -> Iterator[Path]:
    """A .pyz that nobody replaces meanwhile: a daemon whose file changes becomes the new one."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="procclaw-soak-") as folder:
        subprocess.run([sys.executable, str(ROOT / "build_zipapp.py")], check=True)
        yield Path(shutil.copy(ROOT / "dist" / "procclaw.pyz", folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
