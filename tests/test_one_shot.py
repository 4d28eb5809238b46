"""Without a daemon: `procclaw reconcile`, again and again, does the same work; beside one, no slot is run twice."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from procclaw.model.clock import after
from procclaw.model.reasons import Reason
from procclaw.model.records import RunState, SlotOutcome, Slots, Trigger
from tests.driver import NOTE, STAYS, STUBBORN, Driver, is_alive, noting

pytestmark = pytest.mark.real

SERVICE = {"type": "continuous", "cmd": STAYS}
TICKS = {"type": "scheduled", "schedule": "@every 1s", "cmd": noting("exit 0")}
SECOND = timedelta(seconds=1)


def pass_until(driver: Driver, condition: Callable[[], object]) -> None:
    """What cron does, only faster."""
    driver.wait(lambda: driver.ask("reconcile").code == 0 and condition())


def ledger(driver: Driver, job_id: str = "ticks") -> list[Slots]:
    return sorted(driver.operations.ledger(job_id, None, 10_000), key=lambda row: row.first_due_at)


def assert_each_second_once(driver: Driver) -> None:
    rows = ledger(driver)
    assert all(row.last_due_at == row.first_due_at + (row.total - 1) * SECOND for row in rows), rows
    assert all(row.first_due_at == before.last_due_at + SECOND for before, row in pairwise(rows)), rows
    ran = [row for row in rows if row.outcome is SlotOutcome.RAN]
    assert sorted(run.id for run in driver.runs("ticks")) == sorted(str(row.run_id) for row in ran)
    assert all(row.reason is not None for row in rows if row.outcome is not SlotOutcome.RAN)


# --- the same work ---


def test_passes_start_what_is_due_and_restart_what_ended(driver: Driver) -> None:
    driver.declare(
        {
            "service": {**SERVICE, "retry": {"delays": [0.1]}},
            "ticks": TICKS,
            "again": {
                "type": "oneshot",
                "run_at": datetime.now(UTC).isoformat(),
                "cmd": noting("exit $((3 - PROCCLAW_ATTEMPT))"),
                "retry": {"delays": [0.1], "max_attempts": 5},
            },
        }
    )
    pass_until(driver, lambda: driver.notes("service"))
    os.kill(driver.notes("service")[0].pid, signal.SIGKILL)
    pass_until(driver, lambda: len(driver.notes("service")) == 2)
    pass_until(driver, lambda: not driver.runs("again")[0].is_active and len(driver.runs("ticks")) >= 2)
    assert [attempt.exit_code for attempt in driver.attempts("again")] == [2, 1, 0]
    assert [attempt.exit_code for attempt in driver.attempts("service")] == [137, None]
    assert driver.job("service")["restart_count"] == 1
    pass_until(driver, lambda: not any(run.is_active for run in driver.runs("ticks")))
    assert_each_second_once(driver)
    starts = Counter((note.run_id, note.attempt) for note in driver.notes())
    assert set(starts.values()) == {1}


def test_passes_enforce_a_timeout(driver: Driver) -> None:
    late = {"cmd": STUBBORN, "timeout": 0.3, "shutdown": {"grace_period": 0.2}, "retry": {"enabled": False}}
    driver.declare({"late": late})
    driver.ask("start", "late")
    driver.wait_for_notes("late")
    pass_until(driver, lambda: driver.attempts("late")[0].ended_at)
    attempt = driver.attempts("late")[0]
    assert (attempt.reason, attempt.exit_code) == (Reason.TIMED_OUT, 137)
    assert driver.status("late") == "failed"


def test_a_pass_applies_an_edit_and_leaves_the_rest_alone(driver: Driver) -> None:
    driver.declare({"same": SERVICE, "other": SERVICE})
    pass_until(driver, lambda: len(driver.notes()) == 2)
    same = driver.living("same")
    driver.declare({"same": SERVICE, "other": {**SERVICE, "cmd": NOTE + "exec sleep 999"}})
    pass_until(driver, lambda: len(driver.notes("other")) == 2 and driver.status("other") == "running")
    assert driver.living("same") == same
    assert not is_alive(driver.notes("other")[0].pid)


def test_holds_outlast_passes(driver: Driver) -> None:
    driver.declare({"service": SERVICE, "ticks": TICKS})
    pass_until(driver, lambda: driver.notes("service"))
    driver.ask("stop", "service")
    driver.ask("pause", "ticks")
    ran = len(driver.runs("ticks"))
    pass_until(driver, lambda: any(row.reason is Reason.PAUSED for row in ledger(driver)))
    assert len(driver.notes("service")) == 1
    assert len(driver.runs("ticks")) == ran
    assert driver.ask("start", "ticks", code=1).err.count("resume") >= 1
    driver.ask("resume", "ticks")
    driver.ask("start", "service")
    pass_until(driver, lambda: len(driver.runs("ticks")) > ran)
    assert len(driver.wait_for_notes("service", 2)) == 2
    assert_each_second_once(driver)


def test_a_pass_makes_up_for_a_time_without_any(driver: Driver) -> None:
    """Nobody has looked for ten hours, as the database has it; the newest slot is half an hour old."""
    now = driver.opened.clock.now()
    hourly = {
        "type": "scheduled",
        "schedule": f"{(now.minute + 30) % 60} * * * *",
        "timezone": "UTC",
        "cmd": noting("exit 0"),
    }
    policies = {
        "none": {"policy": "none"},
        "latest": {"policy": "latest"},
        "all": {"policy": "all", "limit": 3, "within": 86400},
    }
    driver.declare({job_id: {**hourly, "catch_up": catch_up} for job_id, catch_up in policies.items()})
    driver.ask("reconcile")
    for state in driver.opened.store.job_states(policies).values():
        assert state.cursor is not None
        assert state.cursor.next_due_at is not None
        first_missed_at = after(state.cursor.next_due_at, -10 * 3600)
        gone_since = state.cursor._replace(judged_until=after(first_missed_at, -60), next_due_at=first_missed_at)
        driver.opened.store.record([gone_since])
    driver.ask("reconcile")
    pass_until(driver, lambda: not any(run.is_active for job_id in policies for run in driver.runs(job_id)))
    assert {job_id: len(driver.runs(job_id)) for job_id in policies} == {"none": 0, "latest": 1, "all": 3}
    for job_id in policies:
        assert all(run.trigger is Trigger.CATCH_UP for run in driver.runs(job_id))
        assert all(run.state is RunState.SUCCEEDED for run in driver.runs(job_id))
        assert sum(row.total for row in ledger(driver, job_id)) == 10
    assert {row.reason for row in ledger(driver, "none")} == {Reason.DOWN}
    assert {row.reason for row in ledger(driver, "all")} == {Reason.LIMIT, None}
    assert Counter(note.job_id for note in driver.notes()) == {"latest": 1, "all": 3}


def test_a_pass_from_an_empty_environment_works(driver: Driver) -> None:
    driver.declare({"service": SERVICE})
    done = subprocess.run(driver.argv("reconcile"), env={}, cwd="/", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    driver.wait_for_notes("service")
    assert is_alive(driver.pid("service"))


# --- a request's own pass ---


def test_a_request_acts_on_its_job_and_on_nothing_else(driver: Driver) -> None:
    driver.declare({"ticks": TICKS, "asked": {"cmd": noting("exit 0")}, "service": SERVICE})
    pass_until(driver, lambda: ledger(driver) and driver.notes("service"))
    driver.wait(lambda: not driver.job_processes() or len(driver.job_processes()) == len(driver.notes("service")) * 2)
    before, [service] = ledger(driver), driver.notes("service")
    os.kill(service.pid, signal.SIGKILL)
    due_again_at = time.monotonic() + 1.2
    driver.wait(lambda: time.monotonic() > due_again_at)
    assert driver.ask("run", "asked", "--wait").code == 0
    assert ledger(driver) == before
    assert driver.status("service") == "running"  # nobody has looked since
    driver.ask("reconcile")
    assert ledger(driver) != before
    assert driver.attempts("service")[0].exit_code == 137


def test_a_waited_for_run_tells_its_outcome_by_its_exit_code(driver: Driver) -> None:
    driver.declare(
        {
            "well": {"cmd": "exit 0"},
            "badly": {"cmd": "exit 3", "retry": {"enabled": False}},
            "later": {"cmd": "exit $((2 - PROCCLAW_ATTEMPT))", "retry": {"delays": [0.1]}},
        }
    )
    assert "succeeded" in driver.ask("run", "well", "--wait").out
    answer = driver.ask("run", "badly", "--wait", code=1)
    assert "exit code 3" in answer.out + answer.err
    answer = driver.ask("run", "later", "--wait", code=1)
    assert "attempt 2 follows" in answer.out + answer.err
    assert "succeeded" in driver.ask("run", "later", "--until-final").out


def test_nothing_is_changed_by_asking_what_would_be_done(driver: Driver) -> None:
    driver.declare({"service": SERVICE})
    for words in (["plan"], ["reconcile", "--dry-run"]):
        answer = driver.ask(*words, code=10)
        assert "service" in answer.out
        assert driver.notes() == []
    driver.ask("reconcile")
    driver.wait_for_notes("service")
    driver.ask("reconcile")
    driver.ask("plan")
    assert len(driver.notes()) == 1


def test_a_pass_with_a_broken_file_keeps_the_last_good_one_and_says_so(driver: Driver) -> None:
    driver.declare({"service": {**SERVICE, "retry": {"delays": [0]}}})
    pass_until(driver, lambda: driver.notes("service"))
    (driver.home / "jobs.yaml").write_text("jobs: {service: {")
    answer = driver.ask("reconcile", code=2)
    assert "jobs.yaml:1" in answer.err
    os.kill(driver.notes("service")[0].pid, signal.SIGKILL)
    driver.wait(lambda: driver.ask("reconcile", code=2).code == 2 and len(driver.notes("service")) == 2)


# --- beside a daemon ---


def test_beside_a_daemon_passes_run_no_slot_twice(driver: Driver) -> None:
    driver.declare({"ticks": TICKS, "service": SERVICE})
    driver.start_daemon()
    ends_at = time.monotonic() + 4
    pass_until(driver, lambda: time.monotonic() > ends_at and len(driver.runs("ticks")) >= 2)
    driver.ask("pause", "ticks")
    driver.wait(lambda: not any(run.is_active for run in driver.runs("ticks")))
    assert_each_second_once(driver)
    assert sorted(note.run_id for note in driver.notes("ticks")) == sorted(run.id for run in driver.runs("ticks"))
    assert len(driver.notes("service")) == 1


def test_slots_are_carried_on_from_daemon_to_passes_and_back(driver: Driver) -> None:
    driver.declare({"ticks": TICKS})
    for _ in range(2):
        driver.start_daemon()
        had = len(driver.runs("ticks"))
        driver.wait(lambda had=had: len(driver.runs("ticks")) > had)  # type: ignore[misc]
        driver.kill_daemon()
        had = len(driver.runs("ticks"))
        pass_until(driver, lambda had=had: len(driver.runs("ticks")) > had)  # type: ignore[misc]
    pass_until(driver, lambda: not any(run.is_active for run in driver.runs("ticks")))
    assert_each_second_once(driver)
    assert sorted(note.run_id for note in driver.notes("ticks")) == sorted(run.id for run in driver.runs("ticks"))


def test_a_pass_beside_a_daemon_is_the_daemons(driver: Driver) -> None:
    """It wakes the daemon, waits for its cycle, and exits 0."""
    driver.declare({"service": SERVICE})
    pid = driver.start_daemon()
    driver.wait_for_notes("service")
    os.kill(pid, signal.SIGSTOP)
    waiting = driver.spawn("reconcile")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    os.kill(pid, signal.SIGCONT)
    out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, out, err) == (0, "", "")
