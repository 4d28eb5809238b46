"""What the measurements stand upon: the floor, homes that are gone afterwards, and what a process has used.

Reads /proc, so it is for Linux. Whatever is started carries the home in its environment, by which it is found and ended
when the home is left, also on Ctrl-C.
"""

import contextlib
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.driver import Driver, Job, driving
from tests.support import Reaper, wait_until

HERE = Path(__file__).resolve().parent
WITHIN = 120.0
"""Seconds for what should take a few: the machine may be busy."""


class Bench(NamedTuple):
    program: Path
    """The .pyz that is measured."""
    floor: tuple[str, ...]
    """The command line of the least that any manager has to do."""
    bell: tuple[str, ...]
    """That of a job which says in a FIFO when it runs; less the FIFO."""
    is_quick: bool

    @property
    def floor_is(self) -> str:
        return "in Python: there is no C compiler" if self.floor[0] == sys.executable else "in C"

    def count(self, full: int) -> int:
        """How many; a quick look takes few."""
        return max(full // 20, 5) if self.is_quick else full

    def growth(self, *full: int) -> tuple[int, ...]:
        """The sizes at which to show that cost grows no faster than they do; a quick look leaves out the large ones."""
        return tuple(size for size in full if size <= 100) if self.is_quick else full

    def inside(self, script: str, *words: object) -> Any:
        """What a script of `inside` prints, as JSON, run with the code of the .pyz."""
        argv = [sys.executable, str(HERE / "inside" / f"{script}.py"), str(self.program), *map(str, words)]
        return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=600).stdout)


@contextlib.contextmanager
def a_bench(program: Path, *, is_quick: bool) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="procclaw-bench-") as folder:
        # A copy: a daemon whose file is built anew becomes the new one.
        copy = Path(shutil.copy(program, folder))
        compiler = shutil.which("cc")
        if compiler is None:
            script = (sys.executable, str(HERE / "floor.py"))
            bell = ("/bin/sh", "-c", 'echo "$PROCCLAW_JOB_ID $$" >"$0"; exec sleep 1000000')
            yield Bench(copy, script, bell, is_quick)
        else:
            binary = os.path.join(folder, "floor")
            subprocess.run([compiler, "-O2", "-o", binary, str(HERE / "floor.c")], check=True)
            yield Bench(copy, (binary,), (binary, "bell"), is_quick)


class Ring(NamedTuple):
    job_id: str
    pid: int
    at: float
    """When it was heard, on the clock of `time.perf_counter`."""


class Bell:
    """A FIFO in which jobs say that they run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        # Also for writing: so it never reads as ended.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""

    def close(self) -> None:
        os.close(self._fd)

    def hear(self, count: int, within: float = WITHIN) -> list[Ring]:
        """The next so many rings."""
        deadline = time.monotonic() + within
        heard: list[Ring] = []
        while len(heard) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(heard)} of {count} jobs ran within {within:g} s")
            heard += self.heard(0.2)
        return heard

    def heard(self, seconds: float) -> list[Ring]:
        """What rings now, or else the first that does within so many seconds."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return []
        text = self._rest + os.read(self._fd, 1 << 16)
        at = time.perf_counter()
        *lines, self._rest = text.split(b"\n")
        return [Ring(job.decode(), int(pid), at) for job, pid in (line.split() for line in lines)]


class Place:
    """A home under the program that is measured."""

    def __init__(self, bench: Bench, driver: Driver, reaper: Reaper) -> None:
        self.bench = bench
        self.home = driver.home
        self.driver = driver
        self.reaper = reaper
        self.bell = Bell(driver.home / "bell")

    def ringing(self, **fields: Any) -> Job:
        """A job that says when it runs, and goes on until it is ended; once dead it is started again at once."""
        retry = {"delays": [0], "max_attempts": "unlimited"}
        cmd = [*self.bench.bell, str(self.bell.path)]
        return {"type": "continuous", "cmd": cmd, "retry": retry, **fields}

    def declare_ringing(self, count: int) -> None:
        self.driver.declare({f"job-{number}": self.ringing() for number in range(count)})

    def argv(self, *words: str) -> list[str]:
        return self.driver.argv(*words)

    def ask(self, *words: str) -> str:
        return self.driver.ask(*words, within=WITHIN).out

    def bring_up(self, count: int) -> list[Ring]:
        """Declare so many jobs and start a daemon; returns once all run and the daemon has nothing left to do."""
        self.declare_ringing(count)
        self.ask("daemon", "start")
        rings = self.bell.hear(count)
        self.settle()
        return rings

    @property
    def daemon(self) -> int:
        return int((self.home / "procclaw.pid").read_text())

    def settle(self) -> None:
        """Until the daemon has used no CPU for half a second."""

        used, since = fine_cpu_seconds(self.daemon), time.monotonic()

        def is_quiet() -> bool:
            nonlocal used, since
            now = fine_cpu_seconds(self.daemon)
            if now - used >= 0.001:
                used, since = now, time.monotonic()
            return time.monotonic() - since >= 0.5

        wait_until(is_quiet, WITHIN, lambda: f"the daemon is at work all the time: {cpu_seconds(self.daemon)} s")

    def views(self) -> list[dict[str, Any]]:
        return list(json.loads(self.ask("list", "--json"))["jobs"])

    def floor(self, *words: object) -> "subprocess.Popen[Any]":
        """The floor's program, beside us."""
        env = {**os.environ, "PROCCLAW_HOME": str(self.home)}
        return self.reaper.spawn([*self.bench.floor, *map(str, words)], env=env)


@contextlib.contextmanager
def a_place(bench: Bench) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="procclaw-bench-") as folder:
        home = Path(folder).resolve() / "home"
        home.mkdir(mode=0o700)
        reaper = Reaper()
        try:
            with driving(home, reaper, bench.program) as driver:
                place = Place(bench, driver, reaper)
                try:
                    yield place
                finally:
                    place.bell.close()
        finally:
            reaper.end(within=60.0)


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def command(argv: list[str], env: dict[str, str] | None = None) -> float:
    """Milliseconds that a command takes to its end."""
    run = timed(lambda: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=env))
    return run * 1000


def in_turn(rounds: int, *each: Callable[[], float]) -> list[float]:
    """The median of each, measured in turn, so that what else the machine does falls upon all alike."""
    found = [[one() for one in each] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def cpu_seconds(pid: int) -> float:
    """What the process has used so far, in ticks of a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fine_cpu_seconds(pid: int) -> float:
    """The same to the nanosecond, but without the threads that have ended."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def pss_kb(pid: int) -> float:
    """Memory, what is shared counted by its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def described() -> dict[str, Any]:
    """The machine, for whoever reads the figures later."""
    return {
        "python": sys.version.split()[0],
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "kernel": os.uname().release,
        "processes": sum(map(str.isdigit, os.listdir("/proc"))),
        "fdatasync_ms": round(durable_ms(), 3),
    }


def durable_ms() -> float:
    """Milliseconds until one written page is on the disk that homes are on, which every commit waits for."""
    with tempfile.TemporaryFile() as file:

        def commit() -> float:
            file.write(os.urandom(4096))
            file.flush()
            return timed(lambda: os.fdatasync(file.fileno()))

        return statistics.median(commit() for _ in range(50)) * 1000
