"""A manager killed at every effect, and at any moment: jobs start once, keep running, and no ending is forgotten."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from procclaw.model.intents import IntentKind
from procclaw.model.reasons import Reason
from procclaw.model.records import RunState
from tests.driver import NOTE, ROOT, STAYS, STUBBORN, Driver, Job, driving, is_alive, mark_of, noting
from tests.support import Reaper, look_at_all

pytestmark = pytest.mark.real

SIDE_BY_SIDE = 5
"""Lives at once: most of each is waiting."""
LIVES_AT_A_TIME = 20
LOOK_SECONDS = 0.05
"""Between two looks at a life, of which there are several to be looked at."""
ONCE_LONG_AGO = {"type": "oneshot", "run_at": (datetime.now(UTC) - timedelta(seconds=30)).isoformat()}
NO_RETRY = {"retry": {"enabled": False}}
SHORT = {"shutdown": {"grace_period": 0.1}}
STAMPED = {"log": {"timestamps": True}}
"""With a relay of its own beside it, which no death of a manager may end."""


def again_after(seconds: float, times: int) -> dict[str, Any]:
    return {"retry": {"delays": [seconds], "max_attempts": times}}


JOBS: dict[str, Job] = {
    "keeps": {"type": "continuous", "cmd": STAYS},
    "stopped": {"type": "continuous", "cmd": STAYS},
    "stubborn": {"type": "continuous", "cmd": STUBBORN, **SHORT},
    "restarted": {"type": "continuous", "cmd": STAYS, **STAMPED},
    "changed": {"type": "continuous", "cmd": STAYS},
    "crashes": {"type": "continuous", "cmd": noting("exit 1"), **again_after(0.05, 2)},
    "asked": {"cmd": noting("exit 0"), **STAMPED},
    "ends": {**ONCE_LONG_AGO, "cmd": noting("exit 7"), **NO_RETRY},
    "again": {**ONCE_LONG_AGO, "cmd": noting("exit $((3 - PROCCLAW_ATTEMPT))"), **again_after(0.05, 5)},
    "dies": {**ONCE_LONG_AGO, "cmd": noting("kill -USR1 $$"), **NO_RETRY},
    "leaves": {
        **ONCE_LONG_AGO,
        "cmd": noting("setsid sh -c \"trap '' TERM; exec sleep 1000\" & exit 4"),
        **NO_RETRY,
        **SHORT,
    },
    "late": {**ONCE_LONG_AGO, "cmd": STUBBORN, "timeout": 0.4, **NO_RETRY, **SHORT},
    "ticks": {"type": "scheduled", "schedule": "@every 1s", "cmd": noting("exit 0")},
}
CHANGED: dict[str, Job] = {**JOBS, "changed": {**JOBS["changed"], "cmd": NOTE + "exec sleep 1001"}}
CODES: dict[str, list[int | None]] = {
    "crashes": [1, 1, 1],
    "asked": [0],
    "ends": [7],
    "again": [2, 1, 0],
    "dies": [128 + signal.SIGUSR1],
    "leaves": [4],
    "late": [137],
    "stopped": [143],
    "stubborn": [137],
}
"""Of the jobs that are over by the end, the codes of their attempts."""
RUNNING_AT_THE_END = {"keeps": 1, "restarted": 2, "changed": 2}
"""And of those that are not, how often they were started."""
OUTCOMES = {
    "crashes": (RunState.FAILED, Reason.RETRIES_USED_UP),
    "asked": (RunState.SUCCEEDED, Reason.FINISHED),
    "ends": (RunState.FAILED, Reason.RETRY_DISABLED),
    "again": (RunState.SUCCEEDED, Reason.FINISHED),
    "dies": (RunState.FAILED, Reason.RETRY_DISABLED),
    "leaves": (RunState.FAILED, Reason.RETRY_DISABLED),
    "late": (RunState.FAILED, Reason.RETRY_DISABLED),
    "stopped": (RunState.STOPPED, Reason.STOP_REQUESTED),
    "stubborn": (RunState.STOPPED, Reason.STOP_REQUESTED),
}


class Nursery:
    """Brings managers to life: a process that forks one for each order."""

    def __init__(self, reaper: Reaper) -> None:
        self._process = reaper.spawn(
            [sys.executable, "-m", "tests.dying"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, home: Path, kind: str, die_after: int | None) -> int:
        """The pid of a manager."""
        assert self._process.stdin is not None
        order = {"home": str(home), "kind": kind, "die_after": die_after}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return int(self._line())

    def last_code(self) -> int:
        """How the manager ended, once it has."""
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return str(self._process.stdout.readline())


class Life:
    """One home from its first manager, which is doomed, to the end of all its jobs."""

    def __init__(self, driver: Driver, nursery: Nursery, kind: str, die_after: int) -> None:
        self.driver = driver
        self.nursery = nursery
        self.kind = kind
        self.other = "passes" if kind == "daemon" else "daemon"
        self.die_after = die_after
        self.has_died = False
        self.pid = 0

    def live(self) -> None:
        driver = self.driver
        driver.home.mkdir()
        driver.declare(JOBS)
        self.pid = self.nursery.order(driver.home, self.kind, self.die_after)
        for job_id in ("stopped", "stubborn", "restarted", "changed"):
            self.wait(lambda job_id=job_id: driver.notes(job_id))
        driver.request(IntentKind.STOP, "stopped")
        driver.request(IntentKind.STOP, "stubborn")
        driver.request(IntentKind.RESTART, "restarted")
        driver.request(IntentKind.RUN, "asked")
        driver.declare(CHANGED)
        self.wait(lambda: all(driver.is_answered(request) for request in range(1, 5)))
        self.wait(lambda: all(len(driver.notes(job_id)) >= n for job_id, n in RUNNING_AT_THE_END.items()))
        self.wait(self.is_settled)
        self.wait(lambda: driver.operations.ledger("ticks", None, 1))
        assert self.faults() == []
        self.wait(lambda: not list(self.strangers()))
        driver.declare({**CHANGED, "ticks": {**JOBS["ticks"], "enabled": False}})
        self.wait(lambda: driver.job("ticks")["next_run"] is None)
        # A tick that was decided and not yet started would wait for the job to be enabled again.
        for job_id in (*RUNNING_AT_THE_END, "ticks"):
            driver.request(IntentKind.STOP, job_id)
        self.wait(lambda: not driver.opened.store.living.attempts())
        self.wait(lambda: not driver.records())
        with contextlib.suppress(ProcessLookupError):
            # The first one may have found its effect at the very end.
            os.kill(self.pid, signal.SIGKILL)
        self.nursery.last_code()
        assert driver.job_processes() == []
        driver.wait(lambda: not self.relays())

    def wait(self, condition: Any) -> None:
        """Wait for it to hold, with another manager of the other kind when the first one dies."""

        def holds() -> bool:
            if not is_alive(self.pid):
                code = self.nursery.last_code()
                assert (self.has_died, code) == (False, -signal.SIGKILL), f"a manager ended by itself: {code}"
                self.has_died = True
                self.pid = self.nursery.order(self.driver.home, self.other, None)
            time.sleep(LOOK_SECONDS)
            return bool(condition())

        self.driver.wait(holds)

    def relays(self) -> list[int]:
        marks = {f"relay-{attempt.mark}" for job_id in JOBS for attempt in self.driver.attempts(job_id)}
        return [seen.pid for seen in look_at_all() if not seen.is_dead and mark_of(seen.pid) in marks]

    def is_settled(self) -> bool:
        return all(len(runs) == 1 and not runs[0].is_active for runs in (self.driver.runs(job_id) for job_id in CODES))

    def faults(self) -> list[str]:
        return [*self._wrong_starts(), *self._wrong_ends(), *self._wrong_slots()]

    def _wrong_starts(self) -> Iterator[str]:
        for (job_id, run_id, number, _), times in Counter(self.driver.notes()).items():
            if times != 1:
                yield f"{job_id} {run_id}.{number} started {times} times"
        for job_id in (*CODES, *RUNNING_AT_THE_END):
            started = [(note.run_id, note.attempt) for note in self.driver.notes(job_id)]
            decided = [(attempt.run_id, attempt.number) for attempt in self.driver.attempts(job_id)]
            # What is killed for being late may not have come to leave its note.
            if sorted(started) != sorted(decided) and not (job_id == "late" and not started):
                yield f"{job_id}: decided {decided}, started {started}"
        for job_id, times in RUNNING_AT_THE_END.items():
            notes = self.driver.notes(job_id)
            if len(notes) != times or not is_alive(notes[-1].pid) or any(is_alive(note.pid) for note in notes[:-1]):
                yield f"{job_id} should live and have been started {times} times: {notes}"

    def _wrong_ends(self) -> Iterator[str]:
        for job_id, codes in CODES.items():
            found = [attempt.exit_code for attempt in self.driver.attempts(job_id)]
            # Who is late before its first line is not stubborn yet.
            if found != codes and not (job_id == "late" and found == [143] and not self.driver.notes(job_id)):
                yield f"{job_id}: codes {found}, not {codes}"
            [run] = self.driver.runs(job_id)
            if (run.state, run.reason) != OUTCOMES[job_id]:
                yield f"{job_id}: {run.state} {run.reason}, not {OUTCOMES[job_id]}"
        for job_id in ("restarted", "changed"):
            found = [attempt.exit_code for attempt in self.driver.attempts(job_id)]
            if found != [143, None]:
                yield f"{job_id}: codes {found}"
        [living] = [attempt for attempt in self.driver.attempts("restarted") if attempt.ended_at is None]
        if f"relay-{living.mark}" not in {mark_of(pid) for pid in self.relays()}:
            yield "restarted has lost its relay"
        if self.driver.only_attempt("late").reason is not Reason.TIMED_OUT:
            yield "late was not timed out"

    def _wrong_slots(self) -> Iterator[str]:
        runs = {run.id for run in self.driver.runs("ticks")}
        rows = sorted(self.driver.operations.ledger("ticks", None, 1000), key=lambda row: row.first_due_at)
        second = timedelta(seconds=1)
        for row in rows:
            if row.last_due_at != row.first_due_at + (row.total - 1) * second:
                yield f"not {row.total} slots: {row}"
        for before, row in pairwise(rows):
            if row.first_due_at != before.last_due_at + second:
                yield f"slots twice or not at all: {before} {row}"
        ran = {row.run_id for row in rows if row.outcome == "ran"}
        # A slot and its run come in one commit, which may fall between two looks.
        if not runs <= ran <= {run.id for run in self.driver.runs("ticks")}:
            yield f"ticks: slots ran {ran}, runs were {runs}"

    def strangers(self) -> Iterator[str]:
        live = self.driver.opened.store.living.attempts()
        marks = {attempt.mark for attempt in live}
        for seen in self.driver.job_processes():
            mark = self.driver.attempt_of(seen.pid)
            # A tick may have come and gone between the two looks.
            if mark not in marks and mark is not None and not self._is_of_ticks(mark):
                yield f"a process of no live attempt: {seen}"
        for record in self.driver.records() - {attempt.record for attempt in live}:
            if not record.startswith("ticks."):
                yield f"a record of no live attempt: {record}"

    def _is_of_ticks(self, mark: str) -> bool:
        return any(attempt.mark == mark for attempt in self.driver.attempts("ticks"))


@contextmanager
def nurseries(reaper: Reaper) -> Iterator["SimpleQueue[Nursery]"]:
    free: SimpleQueue[Nursery] = SimpleQueue()
    for _ in range(SIDE_BY_SIDE):
        free.put(Nursery(reaper))
    yield free


@pytest.mark.parametrize(("kind", "stride"), [("daemon", 1), ("passes", 6)])
def test_a_manager_killed_after_any_effect_is_carried_on_by_the_next(
    home: Path, reaper: Reaper, kind: str, stride: int
) -> None:
    """Each life has a manager that dies `stride` effects later, until one outlives its work.

    Both kinds run the same cycle, so for one of them a sample is enough.
    """
    found: list[str] = []

    def live(die_after: int) -> bool:
        """False once there is no effect left to die after."""
        nursery = free.get()
        try:
            with driving(home / str(die_after), reaper) as driver:
                life = Life(driver, nursery, kind, die_after)
                try:
                    life.live()
                except AssertionError as fault:
                    nursery = Nursery(reaper)
                    diary = (driver.home / "effects").read_text().splitlines()
                    found.append(f"died {diary[die_after] if len(diary) > die_after else 'not'}: {fault}")
                return life.has_died
        finally:
            free.put(nursery)

    with ExitStack() as stack:
        free = stack.enter_context(nurseries(reaper))
        pool = stack.enter_context(ThreadPoolExecutor(SIDE_BY_SIDE))
        for first in count(0, LIVES_AT_A_TIME * stride):
            died = list(pool.map(live, range(first, first + LIVES_AT_A_TIME * stride, stride)))
            if found or not all(died):
                break
    assert not found, "\n\n".join(found)


# --- at any moment ---

ALIVE_SECONDS = 0.3
"""The longest life of a manager; most of them die while starting something."""
DEATHS, STARTS = 30, 60
"""At least so many of each."""
RESTLESS: dict[str, Job] = {
    "keeps": {"type": "continuous", "cmd": STAYS},
    "flaky": {**ONCE_LONG_AGO, "cmd": noting("exit $((PROCCLAW_ATTEMPT % 7 + 1))"), **again_after(0.03, 60)},
    "crashes": {
        "type": "continuous",
        "cmd": noting("sleep 0.0$((PROCCLAW_ATTEMPT % 8)); exit $((PROCCLAW_ATTEMPT % 5))"),
        "retry": {"delays": [0.01], "max_attempts": "unlimited"},
    },
    "leaves": {
        **ONCE_LONG_AGO,
        "cmd": noting("setsid sh -c \"trap '' TERM; exec sleep 1000\" & exit $((PROCCLAW_ATTEMPT % 3 + 1))"),
        **again_after(0.03, 60),
        "shutdown": {"grace_period": 0.05},
    },
    "ticks": {"type": "scheduled", "schedule": "@every 1s", "cmd": noting("sleep 0.1; exit 0")},
}


def code_of(job_id: str, attempt: int) -> int | None:
    return {"keeps": None, "flaky": attempt % 7 + 1, "crashes": attempt % 5, "leaves": attempt % 3 + 1, "ticks": 0}[
        job_id
    ]


def test_managers_killed_one_after_the_other_repeat_and_forget_nothing(driver: Driver, reaper: Reaper) -> None:
    seed = random.randrange(10_000)
    rng = random.Random(seed)
    nursery = Nursery(reaper)
    driver.declare(RESTLESS)
    deaths = 0
    while deaths < DEATHS or len(driver.notes()) < STARTS:
        deaths += 1
        pid = nursery.order(driver.home, rng.choice(["daemon", "passes"]), None)
        dies_at = time.monotonic() + rng.uniform(0, ALIVE_SECONDS)
        driver.wait(lambda at=dies_at: time.monotonic() >= at)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        assert nursery.last_code() == -signal.SIGKILL
    driver.declare({job_id: {**job, "enabled": job_id == "keeps"} for job_id, job in RESTLESS.items()})
    driver.ask("reconcile")
    driver.ask("stop", *(job_id for job_id in RESTLESS if job_id != "keeps"))
    said = f"seed {seed}\n{driver.show()}"
    starts = Counter((note.run_id, note.attempt) for note in driver.notes())
    assert max(starts.values()) == 1, said
    for job_id in RESTLESS:
        attempts = driver.attempts(job_id)
        assert attempts, said
        for attempt in attempts:
            # A stop may come before the first line of a job that was just started, and disabling it before a start that
            # the last manager did not live to make; nothing else keeps it from its note.
            was_stopped = attempt.reason in (Reason.STOP_REQUESTED, Reason.DISABLED)
            assert was_stopped or starts[attempt.run_id, attempt.number] == 1, (attempt, said)
            assert was_stopped or attempt.exit_code == code_of(job_id, attempt.number), (attempt, said)
    decided = {(attempt.run_id, attempt.number) for job_id in RESTLESS for attempt in driver.attempts(job_id)}
    assert set(starts) <= decided, said
    [keeper] = driver.notes("keeps")
    assert is_alive(keeper.pid), said
    assert {driver.attempt_of(seen.pid) for seen in driver.job_processes()} == {driver.only_attempt("keeps").mark}, said
