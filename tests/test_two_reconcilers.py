"""Many at once on one home: a daemon, passes, people; one instance of a job at a time, and every request answered."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

import pytest

from procclaw.model.errors import Conflict
from procclaw.model.intents import IntentState
from tests.driver import NOTE, Answer, Driver, Job, noting, until

pytestmark = pytest.mark.real

SECONDS = 6.0
LONGEST_COMMAND_SECONDS = 60.0
ALONE = (
    'exec 9>"$PROCCLAW_HOME/$PROCCLAW_JOB_ID.lock"; flock -n 9 || echo $PROCCLAW_JOB_ID >>"$PROCCLAW_HOME/together"; '
)
"""The lock is inherited by all that comes of the job, so it is free only when every process of an instance is gone."""

JOBS: dict[str, Job] = {
    "service": {"type": "continuous", "cmd": ALONE + noting("exec sleep 1000")},
    "family": {
        "type": "continuous",
        "cmd": ALONE + noting("setsid sh -c \"trap '' TERM; exec sleep 1000\" & exec sleep 1001"),
        "shutdown": {"grace_period": 0.1},
    },
    "crashes": {
        "type": "continuous",
        "cmd": ALONE + noting("sleep 0.05; exit 1"),
        "retry": {"delays": [0.05], "max_attempts": "unlimited"},
    },
    "short": {"cmd": ALONE + noting("sleep 0.1; exit 0")},
    "failing": {"cmd": ALONE + noting("exit 1"), "retry": {"delays": [0.05], "max_attempts": 1}},
    "ticks": {"type": "scheduled", "schedule": "@every 1s", "cmd": ALONE + noting("sleep 0.1; exit 0")},
}
REQUESTS = ("start", "stop", "restart", "run", "pause", "resume", "stop --force")
OBEYED, REFUSED = 0, 1


class People:
    """Threads that go on asking for this and that until told to end, and what was answered."""

    def __init__(self, driver: Driver, rng: random.Random) -> None:
        self._driver = driver
        self._rng = rng
        self.is_over = threading.Event()
        self.answers: list[tuple[str, Answer]] = []
        self.lost: list[str] = []

    def asking(self) -> None:
        rng = random.Random(self._rng.random())
        while not self.is_over.is_set():
            self.ask(f"{rng.choice(REQUESTS)} {rng.choice(list(JOBS))}")

    def reconciling(self) -> None:
        while not self.is_over.is_set():
            self.ask("reconcile")

    def losing_patience(self) -> None:
        """Ask, and kill the command in its midst; without a daemon it may be the one that reconciles."""
        rng = random.Random(self._rng.random())
        while not self.is_over.is_set():
            command = self._driver.spawn(rng.choice(("restart", "run", "start")), rng.choice(list(JOBS)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.communicate(timeout=rng.uniform(0.1, 0.6))
            command.kill()
            command.communicate()

    def listing(self) -> None:
        while not self.is_over.is_set():
            self.ask("list --json")

    def ask(self, words: str) -> None:
        try:
            self.answers.append((words, self._driver.ask(*words.split(), code=None, within=LONGEST_COMMAND_SECONDS)))
        except subprocess.TimeoutExpired:
            self.lost.append(words)


@contextmanager
def crowd(people: People, *what: str) -> Iterator[None]:
    threads = [threading.Thread(target=getattr(people, each)) for each in what]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        people.is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("has_daemon", [True, False], ids=["beside a daemon", "without a daemon"])
def test_a_crowd_on_one_home_never_has_two_instances_of_a_job(driver: Driver, has_daemon: bool) -> None:
    seed = random.randrange(10_000)
    people = People(driver, random.Random(seed))
    driver.declare(JOBS)
    driver.ask("reconcile")
    if has_daemon:
        driver.start_daemon()
    with crowd(people, "asking", "asking", "asking", "reconciling", "reconciling", "listing"):
        ends_at = time.monotonic() + SECONDS
        driver.wait(lambda: time.monotonic() >= ends_at and len(people.answers) >= 10, within=60)
    judge(driver, people, seed)


def test_a_crowd_whose_daemon_is_killed_again_and_again_never_has_two_instances_of_a_job(driver: Driver) -> None:
    seed = random.randrange(10_000)
    rng = random.Random(seed)
    people = People(driver, rng)
    driver.declare(JOBS)
    kills = 0
    with crowd(people, "asking", "asking", "losing_patience", "reconciling"):
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at or kills < 5:
            driver.start_daemon()
            dies_at = time.monotonic() + rng.uniform(0, 0.5)
            driver.wait(lambda at=dies_at: time.monotonic() >= at)  # type: ignore[misc]
            driver.kill_daemon()
            kills += 1
    judge(driver, people, seed)


def judge(driver: Driver, people: People, seed: int) -> None:
    def said() -> str:
        return f"seed {seed}\n{driver.show()}"

    assert people.lost == [], said()
    wrong = [(words, answer) for words, answer in people.answers if answer.code not in (OBEYED, REFUSED)]
    assert wrong == [], said()
    # A refusal says why, and the only reasons here are a pause and a command that got through first.
    assert all(answer.err for _, answer in people.answers if answer.code == REFUSED), said()
    together = driver.home / "together"
    assert not together.exists(), together.read_text() + said()
    starts = Counter((note.run_id, note.attempt) for note in driver.notes())
    assert max(starts.values()) == 1, said()

    driver.ask("resume", *JOBS)
    driver.wait(lambda: driver.ask("reconcile").code == 0 and not driver.opened.store.jobs_with_intents(), within=60)
    rows = sqlite3.connect(driver.home / "procclaw.db")
    try:
        assert rows.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert rows.execute("PRAGMA foreign_key_check").fetchall() == []
        unanswered = "SELECT * FROM intents WHERE resolved_at IS NULL"
        assert rows.execute(unanswered).fetchall() == [], said()
        states = {state for (state,) in rows.execute("SELECT DISTINCT state FROM intents")}
        assert states <= {IntentState.DONE, IntentState.REFUSED}
    finally:
        rows.close()
    judge_slots(driver)

    driver.ask("stop", *JOBS)
    marks = {attempt.mark for job_id in JOBS if job_id != "ticks" for attempt in driver.attempts(job_id)}
    left = [seen for seen in driver.job_processes() if driver.attempt_of(seen.pid) in marks]
    assert left == [], said()


def judge_slots(driver: Driver) -> None:
    """Each second once, whoever noticed it."""
    rows = sorted(driver.operations.ledger("ticks", None, 10_000), key=lambda row: row.first_due_at)
    second = timedelta(seconds=1)
    assert rows
    assert all(row.last_due_at == row.first_due_at + (row.total - 1) * second for row in rows)
    assert all(row.first_due_at == before.last_due_at + second for before, row in pairwise(rows))
    ran = [row.run_id for row in rows if row.outcome == "ran"]
    assert len(set(ran)) == len(ran)


def test_of_passes_made_at_the_same_time_each_job_is_started_by_one(driver: Driver) -> None:
    names = [f"service{n}" for n in range(10)]
    driver.declare({name: {"type": "continuous", "cmd": ALONE + noting("exec sleep 1000")} for name in names})
    passes = [driver.spawn("reconcile") for _ in range(8)]
    for each in passes:
        out, err = each.communicate(timeout=LONGEST_COMMAND_SECONDS)
        assert (each.returncode, out, err) == (0, "", "")
    driver.wait(lambda: len(driver.notes()) == len(names))
    assert sorted(note.job_id for note in driver.notes()) == sorted(names)


def test_the_same_start_asked_by_many_at_once_is_one_run(driver: Driver) -> None:
    driver.declare({"long": {"cmd": ALONE + noting("exec sleep 1000")}})
    driver.ask("reconcile")
    starts = [driver.spawn("start", "long", "--json") for _ in range(6)]
    runs = set()
    for each in starts:
        out, err = each.communicate(timeout=LONGEST_COMMAND_SECONDS)
        assert each.returncode == 0, out + err
        runs.add(Answer(0, out, err).json["run_id"])
    assert len(runs) == 1
    assert len(driver.wait_for_notes("long")) == 1


def test_a_lock_held_by_a_stopped_process_makes_others_wait_and_not_fail(driver: Driver) -> None:
    """A pass that is suspended in its midst: what is asked meanwhile is recorded, and done when it goes on."""
    driver.declare({"short": {"cmd": noting("exit 0")}})
    driver.ask("reconcile")
    holding = driver.reaper.spawn(
        [
            sys.executable,
            "-c",
            "import sys, os, signal; sys.path.insert(0, sys.argv[2])\n"
            "from procclaw.engine.home import Home\n"
            "home = Home(sys.argv[1]); lock = home.lock()\n"
            "assert home.acquire(lock, 'pass'); print('held', flush=True); sys.stdin.readline(); lock.release()",
            str(driver.home),
            str(driver.program.parent),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holding.stdout is not None
    assert holding.stdin is not None
    assert holding.stdout.readline() == "held\n"
    answer = driver.ask("run", "short", "--timeout", "0.2", code=1)
    assert "goes on with it" in answer.err
    waiting = driver.spawn("run", "short", "--wait")
    driver.wait(lambda: len(driver.opened.store.job_states(["short"])["short"].intents) == 2)
    assert driver.notes() == []
    print("go", file=holding.stdin, flush=True)
    out, err = waiting.communicate(timeout=LONGEST_COMMAND_SECONDS)
    assert waiting.returncode == 0, out + err
    assert len(driver.notes("short")) == 2


def test_a_pass_does_not_wait_for_ever_for_one_that_hangs(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.declare({})
    pid = driver.start_daemon()
    os.kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as impatient:
        impatient.setattr("procclaw.engine.operations.LOOK_SECONDS", 0.2)
        with pytest.raises(Conflict, match="has not made a pass"):
            driver.operations.reconcile()
    os.kill(pid, signal.SIGCONT)
    assert not driver.operations.reconcile()


def test_reading_goes_on_while_the_database_is_written_to(driver: Driver) -> None:
    """A long write transaction of somebody else: lists are shown, and a request waits its turn."""
    driver.declare({"short": {"cmd": NOTE + "exit 0"}})
    driver.ask("reconcile")
    rows = sqlite3.connect(driver.home / "procclaw.db", isolation_level=None)
    try:
        rows.execute("BEGIN IMMEDIATE")
        assert "short" in driver.ask("list").out
        run = driver.spawn("run", "short", "--wait")
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1.5)
        rows.execute("ROLLBACK")
    finally:
        rows.close()
    out, err = run.communicate(timeout=LONGEST_COMMAND_SECONDS)
    assert run.returncode == 0, out + err


def test_a_database_locked_for_too_long_is_told_and_nothing_is_lost(driver: Driver) -> None:
    """Longer than anybody waits for it: a command gives up and says why, the daemon tries again."""
    driver.declare(
        {"short": {"cmd": NOTE + "exit 0"}, "ends": {"cmd": until("go", "exit 3"), "retry": {"enabled": False}}}
    )
    driver.start_daemon()
    driver.ask("start", "ends")
    driver.wait_for_notes("ends")
    rows = sqlite3.connect(driver.home / "procclaw.db", isolation_level=None)
    try:
        rows.execute("BEGIN IMMEDIATE")
        driver.touch("go")
        driver.wait(lambda: not driver.job_processes())
        answer = driver.ask("run", "short", "--wait", code=1)
        assert "locked by another process for more than 5 s" in answer.err
        log = driver.home / "logs" / "daemon.log"
        driver.wait(lambda: "cycle failed" in log.read_text())
        rows.execute("ROLLBACK")
    finally:
        rows.close()
    driver.wait(lambda: driver.only_attempt("ends").exit_code == 3)
    driver.ask("run", "short", "--wait")
    # Tried again now and then, and not again and again.
    assert log.read_text().count("cycle failed") <= 3
