"""What an operation may cost, counted: SQL statements, commits, processes, imported modules. Time is for `tests.bench`.

Counts are the same on every machine, so a change that makes an operation dearer fails here, where it is made. A ceiling
is what the operation costs today; whoever raises one says why in the commit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from procclaw.engine.configuration import RACY_SECONDS
from procclaw.engine.home import Home
from procclaw.model.clock import SystemClock, after
from procclaw.model.outside import RecordPhase
from procclaw.model.records import Attempt
from procclaw.planning.plan import plan
from procclaw.system.processes.children import Children
from tests.builders import NOW, a_job, a_job_state, a_run, a_spec, a_state, waiting
from tests.driver import ROOT
from tests.support import Reaper, wait_until

pytestmark = pytest.mark.real

WITHIN = 20.0
FEW, MANY = 4, 24
"""Jobs declared: what is asked of the database must not depend upon how many."""

SERVICE = {
    "type": "continuous",
    "cmd": ["sleep", "1000000"],
    "retry": {"delays": [0], "max_attempts": "unlimited"},
}

LOOK = """
import json, sqlite3, sys
statements, started = [], []
connect = sqlite3.connect
def counted(*given, **named):
    connection = connect(*given, **named)
    connection.set_trace_callback(statements.append)
    return connection
sqlite3.connect = counted
STARTS = {"os.fork", "os.posix_spawn", "os.exec", "subprocess.Popen"}
sys.addaudithook(lambda event, _: started.append(event) if event in STARTS else None)
before = set(sys.modules)
from procclaw.interface.cli import main
code = main(sys.argv[1:])
writes = statements.count("BEGIN IMMEDIATE")
foreign = {name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names}
print(json.dumps([code, len(statements), writes, len(started), len(foreign)]), file=sys.stderr)
"""


class Cost(NamedTuple):
    statements: int
    writes: int
    """Transactions that wait for the disk."""
    starts: int
    """Processes begun."""
    modules: int = 0
    """Imported for it, the standard library's aside, which differ by version."""

    def is_within(self, ceiling: "Cost") -> bool:
        return all(one <= most for one, most in zip(self, ceiling, strict=True))


class Late(SystemClock):
    """The system's, some time later: by then the files' entries prove that they need not be read again."""

    def now(self) -> datetime:
        return after(super().now(), RACY_SECONDS + 1)


class Costed:
    """A home with services that run, and nothing left to do."""

    def __init__(self, path: Path, reaper: Reaper, jobs: int) -> None:
        self.path = path
        path.mkdir(mode=0o700)
        (path / "procclaw.yaml").write_text("{}")
        self.jobs = {f"job-{number}": SERVICE for number in range(jobs)}
        self.jobs["job-0"] = {**SERVICE, "depends_on": ["job-3"]}
        (path / "jobs.yaml").write_text(json.dumps({"jobs": self.jobs}))
        reaper.watch_home(path)
        self.home = Home(str(path), Late())
        lock = self.home.lock()
        assert self.home.acquire(lock, "pass")
        self.controller = self.home.controller()
        self.controller.cycle()
        wait_until(self._is_known, WITHIN, self.home.store.living.attempts)
        lock.release()

    def _is_known(self) -> bool:
        self.controller.cycle()
        attempts = self.home.store.living.attempts()
        return len(attempts) == len(self.jobs) and all(attempt.job_pid is not None for attempt in attempts)

    def attempt(self, job_id: str) -> Attempt:
        [attempt] = [each for each in self.home.store.living.attempts() if each.job_id == job_id]
        return attempt

    def end(self, job_id: str) -> None:
        """Kill the job's process, and wait until its shim has written that down."""
        attempt = self.attempt(job_id)
        assert attempt.job_pid is not None
        os.kill(attempt.job_pid, signal.SIGKILL)
        sight = self.home.processes.sight
        wait_until(lambda: sight(attempt.record).phase is RecordPhase.EXITED, WITHIN, lambda: sight(attempt.record))

    def age(self) -> float:
        """Of the file that was written last, in seconds."""
        return time.time() - (self.path / "jobs.yaml").stat().st_ctime

    def has_settled(self) -> bool:
        return self.age() > RACY_SECONDS

    def cost_of_cycle(self, jobs: frozenset[str] | None) -> Cost:
        statements: list[str] = []
        begun: list[object] = []
        spawn = os.posix_spawn

        def counted(*given: Any, **named: Any) -> int:
            begun.append(given)
            return spawn(*given, **named)

        connection = self.home.store._db.connection
        connection.set_trace_callback(statements.append)
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(os, "posix_spawn", counted)
                self.controller.cycle(jobs)
        finally:
            connection.set_trace_callback(None)
        return Cost(len(statements), statements.count("BEGIN IMMEDIATE"), len(begun))

    def cost_of(self, *words: str) -> Cost:
        """Of a command in a process of its own, in modules as well."""
        argv = [sys.executable, "-c", LOOK, "--home", str(self.path), *words]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
        code, *counts = json.loads(done.stderr.splitlines()[-1])
        assert code == 0, done.stdout + done.stderr
        return Cost(*counts)


@pytest.fixture(params=[FEW, MANY])
def home(request: pytest.FixtureRequest, tmp_path: Path, reaper: Reaper) -> Iterator[Costed]:
    made = Costed(tmp_path / "home", reaper, request.param)
    try:
        yield made
    finally:
        made.home.close()


def test_a_cycle_with_nothing_to_do_writes_nothing_and_asks_as_much_of_few_jobs_as_of_many(home: Costed) -> None:
    for scope in (frozenset({"job-1"}), None):
        cost = home.cost_of_cycle(scope)
        assert cost.is_within(Cost(statements=25, writes=0, starts=0)), cost


def test_the_cycle_for_one_exit_writes_twice_and_asks_as_much_of_few_jobs_as_of_many(home: Costed) -> None:
    """Once what is about to be done, once what came of it; the one process is the job's."""
    home.end("job-1")
    cost = home.cost_of_cycle(frozenset({"job-1"}))
    assert cost.is_within(Cost(statements=43, writes=2, starts=1)), cost
    assert cost.starts == 1


COMMANDS = {
    "version": Cost(statements=0, writes=0, starts=0, modules=14),
    "list": Cost(statements=24, writes=0, starts=0, modules=44),
    "status job-2": Cost(statements=48, writes=0, starts=0, modules=56),
    # Upkeep deletes what is too old in a transaction of its own, which waits for no disk where it finds nothing.
    "reconcile": Cost(statements=51, writes=1, starts=0, modules=126),
}


def test_a_command_that_finds_nothing_to_do_imports_and_asks_no_more_than_it_needs(home: Costed) -> None:
    wait_until(home.has_settled, WITHIN, home.age)
    home.cost_of("reconcile")  # it notes that the files are as they were, and need not be read again
    for words, ceiling in COMMANDS.items():
        cost = home.cost_of(*words.split())
        assert cost.is_within(ceiling), f"{words}: {cost}"


# --- what must not grow with its square, or at all ---


def calls_of(run: Callable[[], object]) -> int:
    """How many functions are called, Python's own among them: what takes time, counted."""
    counted = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(before)
    return counted


def test_to_decide_about_a_queue_takes_twice_as_much_for_twice_as_many_runs() -> None:
    job = a_job(max_instances=4, queue="q")
    spec = a_spec(job)._replace(queues={"q": 4})

    def cost(count: int) -> int:
        runs = [a_run(id=f"run{number:04}", occasion=f"intent:{number}") for number in range(count)]
        state = a_state(a_job_state(*map(waiting, runs)))
        return calls_of(lambda: plan(spec, state, NOW))

    assert cost(400) < 2.5 * cost(200)


def test_children_that_live_are_not_asked_one_by_one(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    for _ in range(5):
        children.add(reaper.spawn(["sleep", "600"]).pid)
    asked: list[int] = []
    # Whatever other tests have left: none has ended.
    monkeypatch.setattr(os, "waitid", lambda *_: None)
    monkeypatch.setattr(os, "wait4", lambda pid, options: asked.append(pid))
    children.reap()
    assert asked == []
