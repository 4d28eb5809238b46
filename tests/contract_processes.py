"""What every `Processes` must do, on a real machine and in the simulated world alike.

An implementation's test file subclasses `ProcessesContract` and gives it a `bench`.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import pytest

from procclaw.engine.world import Processes
from procclaw.model.clock import EPOCH
from procclaw.model.outside import Launch, Launched, LaunchUndecided, Process, RecordPhase, Sight
from procclaw.model.records import Attempt, Terms
from procclaw.model.spec import Leftovers

TERMS = Terms(signal.SIGTERM, 1.0, Leftovers.STOP, (0,), None, "")
# Not constants: whoever tests at the same time on the same machine must not find our processes for theirs.
MARK, OTHER_MARK, THIRD_MARK = (os.urandom(16).hex() for _ in range(3))


@dataclass(frozen=True)
class Behaviour:
    """What a job does."""

    exit_code: int | None = None
    """It exits at once with this code; None: it stays until it is signalled."""
    ignores_term: bool = False
    leaves_behind: bool = False
    """It first starts a process that stays, in a session of its own."""
    cwd_exists: bool = True


STAYS = Behaviour()


class Bench(Protocol):
    @property
    def processes(self) -> Processes: ...

    def launch(self, record: str, behaviour: Behaviour) -> Launch:
        """What to launch for a job that behaves like this."""

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds; fails when it does not."""

    def wait_until_up(self, attempt: Attempt) -> None:
        """Until the job, not only its shim, is what its behaviour says: ignoring what it ignores, for one."""

    def kill(self, pid: int) -> None:
        """SIGKILL from somebody who is not ProcClaw."""


def an_attempt(processes: Processes, started: Launched | None = None, mark: str = MARK, number: int = 1) -> Attempt:
    return Attempt(
        id=f"run1.{number}",
        run_id="run1",
        job_id="report",
        number=number,
        mark=mark,
        boot_id=processes.boot_id(),
        created_at=EPOCH,
        terms=TERMS,
        pid=None if started is None else started.pid,
        start_ticks=None if started is None else started.start_ticks,
    )


class ProcessesContract:
    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError("a subclass gives its own")

    def test_a_new_record_is_blank_and_listed(self, bench: Bench) -> None:
        second, first = an_attempt(bench.processes, number=2).record, an_attempt(bench.processes).record
        bench.processes.create_record(second)
        bench.processes.create_record(first)
        assert bench.processes.sight(first) == Sight(RecordPhase.BLANK)
        assert bench.processes.records() == (first, second)

    def test_a_removed_record_is_missing_and_removing_it_again_is_fine(self, bench: Bench) -> None:
        record = an_attempt(bench.processes).record
        bench.processes.create_record(record)
        bench.processes.remove_record(record)
        bench.processes.remove_record(record)
        assert bench.processes.sight(record) == Sight(RecordPhase.MISSING)
        assert bench.processes.records() == ()

    def test_a_launched_attempt_holds_its_record_under_its_pid(self, bench: Bench) -> None:
        attempt = start(bench, STAYS)
        bench.wait_until(lambda: bench.processes.sight(attempt.record).pid is not None)
        sight = bench.processes.sight(attempt.record)
        assert (sight.phase, sight.pid) == (RecordPhase.LOCKED, attempt.pid)
        assert bench.processes.start_ticks(attempt.pid or 0) == attempt.start_ticks

    @pytest.mark.parametrize("code", [0, 3, 255])
    def test_the_exit_code_and_the_moment_are_known_afterwards(self, bench: Bench, code: int) -> None:
        attempt = start(bench, Behaviour(exit_code=code))
        sight = sight_at_the_end(bench, attempt)
        assert (sight.phase, sight.pid, sight.exit_code) == (RecordPhase.EXITED, attempt.pid, code)
        assert isinstance(sight.exited_at, datetime)
        assert sight.exited_at.utcoffset() == timedelta(0)
        assert sight.cpu_seconds is not None

    def test_a_running_attempt_is_not_launched_again(self, bench: Bench) -> None:
        attempt = start(bench, STAYS)
        assert bench.processes.launch(bench.launch(attempt.record, STAYS)) == LaunchUndecided()

    def test_an_attempt_that_has_ended_is_not_launched_again(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=0))
        sight_at_the_end(bench, attempt)
        assert bench.processes.launch(bench.launch(attempt.record, STAYS)) == LaunchUndecided()

    def test_making_a_record_again_keeps_what_it_says(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=7))
        sight = sight_at_the_end(bench, attempt)
        bench.processes.create_record(attempt.record)
        assert bench.processes.sight(attempt.record) == sight

    def test_an_attempt_without_a_record_is_not_launched(self, bench: Bench) -> None:
        record = an_attempt(bench.processes).record
        assert bench.processes.launch(bench.launch(record, STAYS)) == LaunchUndecided()

    def test_a_missing_directory_is_told_from_a_failing_job(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=0, cwd_exists=False))
        sight = sight_at_the_end(bench, attempt)
        assert (sight.phase, sight.pid, sight.exit_code) == (RecordPhase.FAILED_CWD, attempt.pid, None)

    def test_the_shim_is_no_member_but_the_job_is(self, bench: Bench) -> None:
        attempt = start(bench, STAYS)
        bench.wait_until_up(attempt)
        assert attempt.pid not in pids_of(bench, attempt)
        assert len(pids_of(bench, attempt)) == 1

    def test_an_attempt_that_has_ended_has_no_members(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=0))
        sight_at_the_end(bench, attempt)
        wait_for_members(bench, attempt, 0)

    def test_a_signal_ends_the_job_and_its_code_says_so(self, bench: Bench) -> None:
        attempt = start(bench, STAYS)
        bench.wait_until_up(attempt)
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGTERM)
        assert sight_at_the_end(bench, attempt).exit_code == 128 + signal.SIGTERM
        wait_for_members(bench, attempt, 0)

    def test_who_ignores_the_signal_is_killed_and_the_code_is_still_recorded(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(ignores_term=True))
        bench.wait_until_up(attempt)
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGTERM)
        assert bench.processes.sight(attempt.record).phase is RecordPhase.LOCKED
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGKILL)
        assert sight_at_the_end(bench, attempt).exit_code == 128 + signal.SIGKILL
        wait_for_members(bench, attempt, 0)

    def test_what_a_job_leaves_behind_is_found_and_ended(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=0, leaves_behind=True))
        assert sight_at_the_end(bench, attempt).exit_code == 0
        wait_for_members(bench, attempt, 1)
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGKILL)
        wait_for_members(bench, attempt, 0)

    def test_a_killed_shim_leaves_a_lost_attempt_whose_job_is_still_found(self, bench: Bench) -> None:
        attempt = start(bench, STAYS)
        bench.wait_until_up(attempt)
        bench.kill(attempt.pid or 0)
        sight = sight_at_the_end(bench, attempt)
        assert (sight.phase, sight.pid, sight.exit_code) == (RecordPhase.LOST, attempt.pid, None)
        wait_for_members(bench, attempt, 1)
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGTERM)
        wait_for_members(bench, attempt, 0)

    def test_one_look_tells_the_members_of_several_attempts_apart(self, bench: Bench) -> None:
        first = start(bench, STAYS)
        second = start(bench, STAYS, mark=OTHER_MARK, number=2)
        bench.wait_until_up(first)
        bench.wait_until_up(second)
        found = bench.processes.members([first, second])
        assert set(found) == {first.id, second.id}
        assert {len(members) for members in found.values()} == {1}
        assert {member.pid for member in found[first.id]} == pids_of(bench, first) != pids_of(bench, second)

    def test_a_stop_of_one_attempt_leaves_the_other_alone(self, bench: Bench) -> None:
        first = start(bench, STAYS)
        second = start(bench, STAYS, mark=OTHER_MARK, number=2)
        bench.wait_until_up(first)
        bench.wait_until_up(second)
        bench.processes.signal_attempt(first, members_of(bench, first), signal.SIGTERM)
        sight_at_the_end(bench, first)
        assert bench.processes.sight(second.record).phase is RecordPhase.LOCKED
        assert len(pids_of(bench, second)) == 1

    def test_a_process_that_only_has_the_pid_is_neither_member_nor_signalled(self, bench: Bench) -> None:
        stranger = start(bench, STAYS)
        bench.wait_until_up(stranger)
        job = members_of(bench, stranger)[0]
        reused = an_attempt(bench.processes, mark=OTHER_MARK, number=2)
        reused = reused._replace(pid=stranger.pid, start_ticks=(stranger.start_ticks or 0) - 1)
        assert members_of(bench, reused) == ()
        stale = Process(job.pid, job.start_ticks - 1, job.command)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            bench.processes.signal_attempt(reused, [stale], signum)
        assert bench.processes.sight(stranger.record).phase is RecordPhase.LOCKED
        assert pids_of(bench, stranger) == {job.pid}

    def test_a_process_that_is_gone_has_no_start_time(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=0))
        sight_at_the_end(bench, attempt)
        bench.wait_until(lambda: bench.processes.start_ticks(attempt.pid or 0) is None)

    def test_an_attempt_whose_start_was_never_noted_is_found_by_its_record(self, bench: Bench) -> None:
        started = start(bench, STAYS)
        attempt = started._replace(pid=None, start_ticks=None)
        bench.wait_until_up(started)
        assert pids_of(bench, attempt) == pids_of(bench, started)
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGTERM)
        assert sight_at_the_end(bench, attempt).exit_code == 128 + signal.SIGTERM

    def test_what_an_attempt_uses_is_measured_without_its_shim(self, bench: Bench) -> None:
        attempt = start(bench, STAYS)
        bench.wait_until_up(attempt)
        wait_for_memory(bench, attempt)
        first = bench.processes.measure([attempt])
        assert set(first) == {attempt.id}
        assert first[attempt.id].cpu_seconds >= 0
        assert bench.processes.measure([attempt])[attempt.id].cpu_seconds >= first[attempt.id].cpu_seconds

    def test_what_a_job_left_behind_is_measured_until_nothing_is_alive(self, bench: Bench) -> None:
        attempt = start(bench, Behaviour(exit_code=0, leaves_behind=True))
        sight_at_the_end(bench, attempt)
        wait_for_members(bench, attempt, 1)
        wait_for_memory(bench, attempt)
        bench.processes.signal_attempt(attempt, members_of(bench, attempt), signal.SIGKILL)
        bench.wait_until(lambda: bench.processes.measure([attempt]) == {})

    def test_one_look_measures_each_of_several_attempts_that_live(self, bench: Bench) -> None:
        first = start(bench, STAYS)
        second = start(bench, STAYS, mark=OTHER_MARK, number=2)
        third = start(bench, Behaviour(exit_code=0), mark=THIRD_MARK, number=3)
        bench.wait_until_up(first)
        bench.wait_until_up(second)
        sight_at_the_end(bench, third)
        bench.wait_until(lambda: set(bench.processes.measure([first, second, third])) == {first.id, second.id})

    def test_nobody_measured_a_process_that_was_nobodys_child(self, bench: Bench) -> None:
        assert bench.processes.peak_rss_mb(2**30) is None


def start(bench: Bench, behaviour: Behaviour, mark: str = MARK, number: int = 1) -> Attempt:
    """An attempt that was launched and committed."""
    record = an_attempt(bench.processes, mark=mark, number=number).record
    bench.processes.create_record(record)
    launched = bench.processes.launch(bench.launch(record, behaviour))
    assert isinstance(launched, Launched)
    return an_attempt(bench.processes, launched, mark, number)


def members_of(bench: Bench, attempt: Attempt) -> tuple[Process, ...]:
    return bench.processes.members([attempt])[attempt.id]


def pids_of(bench: Bench, attempt: Attempt) -> set[int]:
    return {member.pid for member in members_of(bench, attempt)}


def wait_for_members(bench: Bench, attempt: Attempt, count: int) -> None:
    bench.wait_until(lambda: len(members_of(bench, attempt)) == count)


def wait_for_memory(bench: Bench, attempt: Attempt) -> None:
    """A process that has just become another program has none yet that is counted."""
    bench.wait_until(lambda: bench.processes.measure([attempt])[attempt.id].memory_mb > 0)


def sight_at_the_end(bench: Bench, attempt: Attempt) -> Sight:
    bench.wait_until(lambda: bench.processes.sight(attempt.record).phase is not RecordPhase.LOCKED)
    return bench.processes.sight(attempt.record)
