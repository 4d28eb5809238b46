"""A full disk loses no exit code and keeps no job from being stopped; jobs are only not started, and it is said why."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import RunState
from procclaw.system.store.database import RESERVE_BYTES
from tests.driver import Driver, Job, driving
from tests.support import Reaper, wait_until

pytestmark = pytest.mark.real

MEGABYTES = 24
"""Twice what ProcClaw keeps for itself."""
NO_RETRY = {"retry": {"enabled": False}}
SHORT = {"shutdown": {"grace_period": 0.3}}


class Disk:
    """A file system of its own, small enough to be filled; what jobs write and wait for lies outside of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.outside = place.parent
        self._filler = place / "filler"
        self._is_over = threading.Event()
        self._hungry: threading.Thread | None = None

    def fill(self) -> None:
        """Take every byte that is left."""
        with open(self._filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def stay_full(self) -> None:
        """Take every byte that is left, and from now on every one that is given back."""
        self.fill()

        def eat() -> None:
            while not self._is_over.wait(0.002):
                self.fill()

        self._hungry = threading.Thread(target=eat)
        self._hungry.start()

    def empty(self) -> None:
        self._is_over.set()
        if self._hungry is not None:
            self._hungry.join()
        self._filler.unlink(missing_ok=True)

    def noting(self, text: str) -> str:
        return f"echo $PROCCLAW_JOB_ID >>{self.outside}/notes; {text}"

    def until_go(self, then: str) -> str:
        return self.noting(f"while [ ! -e {self.outside}/go ]; do sleep 0.02; done; {then}")

    def notes(self) -> list[str]:
        notes = self.outside / "notes"
        return notes.read_text().split() if notes.exists() else []


@pytest.fixture
def disk(home: Path, reaper: Reaper) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("a small tmpfs has to be mounted, which only root may: nothing here is proved about full disks")
    place = home / "disk"
    place.mkdir()
    options = f"size={MEGABYTES}m,mode=700"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted ({made.stderr.strip()}): nothing is proved about full disks")
    disk = Disk(place)
    yield disk
    disk.empty()
    reaper.end()

    def is_unmounted() -> bool:
        return subprocess.run(["umount", place], capture_output=True).returncode == 0

    # What was killed last may take a moment to let go of its files.
    wait_until(is_unmounted, 10, lambda: "something still uses the small disk")


@pytest.fixture
def full(disk: Disk, reaper: Reaper) -> Iterator[Driver]:
    """ProcClaw on that disk, which is not full yet."""
    with driving(disk.place, reaper) as driver:
        yield driver


CODES = {"well": 0, "badly": 5, "killed": 128 + signal.SIGKILL}


def endings(disk: Disk) -> dict[str, Job]:
    then = {"well": "exit 0", "badly": "exit 5", "killed": "kill -KILL $$"}
    return {job_id: {"cmd": disk.until_go(text), **NO_RETRY} for job_id, text in then.items()}


def known(driver: Driver) -> dict[str, int | None]:
    attempts = [driver.only_attempt(job_id) for job_id in CODES]
    return {attempt.job_id: attempt.exit_code for attempt in attempts if attempt.ended_at is not None}


def test_jobs_that_end_on_a_disk_that_stays_full_lose_no_exit_code(disk: Disk, full: Driver) -> None:
    full.declare(endings(disk))
    full.start_daemon()
    full.ask("start", *CODES)
    full.wait(lambda: len(disk.notes()) == len(CODES))
    disk.stay_full()
    (disk.outside / "go").touch()
    full.wait(lambda: known(full) == CODES)
    assert [full.runs(job_id)[0].state for job_id in CODES] == [RunState.SUCCEEDED, RunState.FAILED, RunState.FAILED]


@pytest.mark.parametrize("next_one", ["daemon", "reconcile"])
def test_jobs_that_end_on_a_full_disk_unwatched_lose_no_exit_code(disk: Disk, full: Driver, next_one: str) -> None:
    full.declare(endings(disk))
    full.start_daemon()
    full.ask("start", *CODES)
    full.wait(lambda: len(disk.notes()) == len(CODES))
    full.close()
    full.kill_daemon()
    disk.fill()
    (disk.outside / "go").touch()
    full.wait(lambda: not full.job_processes())
    full.ask("daemon", "start") if next_one == "daemon" else full.ask("reconcile")
    full.wait(lambda: known(full) == CODES)


def services(disk: Disk) -> dict[str, Job]:
    stubborn = "trap '' TERM; " + disk.noting("exec sleep 1000")
    return {
        "service": {"type": "continuous", "cmd": disk.noting("exec sleep 1000"), **SHORT},
        "stubborn": {"type": "continuous", "cmd": stubborn, **SHORT},
    }


def test_jobs_can_be_stopped_on_a_disk_that_stays_full(disk: Disk, full: Driver) -> None:
    full.declare(services(disk))
    full.start_daemon()
    full.wait(lambda: len(disk.notes()) == 2)
    disk.stay_full()
    full.ask("stop", "service")
    full.ask("stop", "stubborn")
    assert full.job_processes() == []
    assert [full.status(job_id) for job_id in ("service", "stubborn")] == ["stopped", "stopped"]
    assert full.only_attempt("stubborn").exit_code == 137


def test_jobs_can_be_stopped_on_a_full_disk_without_a_daemon(disk: Disk, full: Driver) -> None:
    """Nobody has the database open, so what opening it takes comes from the reserve."""
    full.declare(services(disk))
    full.ask("reconcile")
    full.wait(lambda: len(disk.notes()) == 2)
    full.close()
    disk.fill()
    full.ask("stop", "service", "stubborn")
    assert full.job_processes() == []
    assert full.only_attempt("stubborn").exit_code == 137


def test_a_daemon_can_be_started_on_a_full_disk_and_takes_over_what_runs(disk: Disk, full: Driver) -> None:
    full.declare(services(disk))
    full.start_daemon()
    full.wait(lambda: len(disk.notes()) == 2)
    before = [full.living(job_id) for job_id in ("service", "stubborn")]
    disk.stay_full()
    full.kill_daemon()
    full.start_daemon()
    assert [full.living(job_id) for job_id in ("service", "stubborn")] == before
    full.ask("daemon", "stop", "--jobs")
    assert full.processes() == []


def test_starts_wait_for_room_and_say_so_and_go_on_by_themselves(disk: Disk, full: Driver) -> None:
    full.declare(
        {
            "asked": {"cmd": disk.noting("exit 0"), **NO_RETRY},
            "service": {"type": "continuous", "cmd": disk.until_go("exit 1"), "retry": {"delays": [0]}},
            "ticks": {"type": "scheduled", "schedule": "@every 1s", "cmd": disk.noting("exit 0"), "enabled": False},
        },
        daemon={"resync": 2},
    )
    full.start_daemon()
    full.wait(lambda: disk.notes() == ["service"])
    disk.stay_full()
    (disk.outside / "go").touch()
    full.wait(lambda: full.attempts("service")[0].exit_code == 1)
    answer = full.ask("run", "asked", "--timeout", "1", code=None)
    assert answer.code in (0, 1)
    full.wait(lambda: "No space left" in (full.job("asked")["reason"] or ""))

    def why_not() -> Any:
        """At the moment of another try there is room, as far as anybody knows."""
        told = full.ask("why", "asked", "--json").json
        return None if told["can_start"] else told

    why = full.wait(why_not)
    assert why["earliest_start"] is not None
    [closed] = [gate for gate in why["gates"] if not gate["open"]]
    assert closed["gate"] == "resources"
    assert "No space left" in closed["reason"]
    assert disk.notes() == ["service"]
    disk.empty()
    full.wait(lambda: set(disk.notes()) == {"asked", "service"} and len(disk.notes()) >= 3)
    full.wait(lambda: not full.runs("asked")[0].is_active and full.job("asked")["reason"] is None)
    # What ProcClaw lacked is no failure of the job's.
    [run] = full.runs("asked")
    assert (run.state, run.attempts, run.failures) == (RunState.SUCCEEDED, 1, 0)
    assert all(attempt.reason is not Reason.NOT_STARTED for attempt in full.attempts("service"))
    reserve = disk.place / "procclaw.reserve"
    full.wait(lambda: reserve.exists() and reserve.stat().st_size == RESERVE_BYTES)


def test_the_reserve_is_made_again_once_there_is_room(disk: Disk, full: Driver) -> None:
    full.declare({"asked": {"cmd": disk.noting("exit 0")}})
    full.ask("reconcile")
    reserve = disk.place / "procclaw.reserve"
    assert reserve.stat().st_size == RESERVE_BYTES
    full.close()
    disk.fill()
    full.ask("run", "asked", "--wait")
    assert not reserve.exists()
    disk.empty()
    full.ask("reconcile")
    assert reserve.stat().st_size == RESERVE_BYTES
