"""What others have burnt their fingers on: waits without end, limits forgotten at a restart, work done twice or never.

Each test is named after what must not happen; all of it has happened to users of other process managers.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from procclaw.model.clock import after
from procclaw.model.reasons import Reason
from procclaw.model.records import RunState
from tests.driver import NOTE, STAYS, WITHIN, Driver, Job, driving, is_alive, noting, until
from tests.support import Reaper, kill

pytestmark = pytest.mark.real

SERVICE: Job = {"type": "continuous", "cmd": STAYS, "retry": {"delays": [0.1]}}
ALONE = 'exec 9>"$PROCCLAW_HOME/$1.alone"; flock -n 9 || echo "$PROCCLAW_JOB_ID" >>"$PROCCLAW_HOME/together"; '
NO_RETRY: Job = {"retry": {"enabled": False}}


def alone(name: str, text: str) -> str:
    """Shell text that notes when another one of this name is alive as well."""
    return f"set -- {name}; {ALONE}{text}"


def count_of(driver: Driver, job_id: str, *states: str) -> int:
    return sum(run.state in states for run in driver.runs(job_id))


def assert_never_together(driver: Driver) -> None:
    assert not (driver.home / "together").exists(), (driver.home / "together").read_text() + driver.show()


def put(directory: Path, name: str, text: str = "content", *, age: float = 0) -> Path:
    """A file that appears in one step, last written `age` seconds ago."""
    directory.mkdir(exist_ok=True)
    beside = directory / f".{name}"
    beside.write_text(text)
    then = time.time() - age
    os.utime(beside, (then, then))
    beside.rename(directory / name)
    return directory / name


@pytest.fixture
def other(reaper: Reaper) -> Iterator[Driver]:
    """A second home."""
    home = Path(tempfile.mkdtemp(prefix="procclaw-", dir="/tmp"))
    with driving(home, reaper) as driver:
        yield driver
    reaper.end()
    shutil.rmtree(home)


# --- waiting ---


def test_a_waiter_is_not_wedged_by_a_restart_of_what_it_waits_for(driver: Driver) -> None:
    ready = {"type": "file", "path": str(driver.home / "ready"), "interval": 0.1, "max_age": 1000, "failures": 1000}
    driver.declare(
        {
            "db": {**SERVICE, "health_check": ready},
            "web": {**SERVICE, "depends_on": [{"job": "db", "condition": "after_healthy"}]},
        }
    )
    driver.start_daemon()
    driver.wait_for_notes("db")
    driver.wait(lambda: driver.status("web") == "queued")
    assert "db" in driver.job("web")["reason"]
    driver.ask("restart", "db")
    os.kill(driver.wait_for_notes("db", 2)[1].pid, signal.SIGKILL)
    driver.wait_for_notes("db", 3)
    assert driver.notes("web") == []
    driver.touch("ready")
    driver.wait_for_notes("web")
    driver.wait_for_status("web", "running")
    assert len(driver.attempts("web")) == 1
    driver.ask("restart", "db")
    driver.look_again(1)
    assert len(driver.notes("web")) == 1


def test_a_waiter_can_be_stopped_at_once(driver: Driver) -> None:
    driver.declare({"db": {**SERVICE, "enabled": False}, "web": {**SERVICE, "depends_on": ["db"]}})
    driver.start_daemon()
    driver.wait_for_status("web", "queued")
    driver.ask("stop", "web", within=WITHIN)
    assert driver.status("web") == "stopped"
    driver.ask("start", "db")
    driver.look_again(1)
    assert driver.notes("web") == []


def test_a_chain_of_dependencies_comes_up_with_no_daemon_at_all(driver: Driver) -> None:
    ready = {"type": "file", "path": str(driver.home / "ready"), "interval": 0.1, "max_age": 1000}
    driver.declare(
        {
            "schema": {"cmd": noting("exit 0")},
            "db": {
                "cmd": noting('touch "$PROCCLAW_HOME/ready"; exec sleep 1000'),
                "depends_on": [{"job": "schema", "condition": "after_complete"}],
                "health_check": ready,
            },
            "cache": SERVICE,
            "web": {**SERVICE, "depends_on": [{"job": "db", "condition": "after_healthy"}, "cache"]},
            "unconcerned": SERVICE,
        }
    )
    answer = driver.ask("start", "web")
    assert f"started (pid {driver.pid('web')})" in answer.out
    driver.wait_for_notes("web")
    assert [note.job_id for note in driver.notes() if note.job_id != "cache"] == ["schema", "db", "web"]
    assert is_alive(driver.pid("cache"))
    assert driver.notes("unconcerned") == []


def test_a_stop_does_not_bring_up_what_the_stopped_depends_upon(driver: Driver) -> None:
    driver.declare({"db": SERVICE, "web": {**SERVICE, "depends_on": ["db"]}})
    for words in ("stop web", "pause web", "resume web"):
        driver.ask(*words.split())
    assert driver.notes() == []
    assert driver.runs("db") == []


def test_a_start_does_not_wait_for_ever_for_what_nobody_will_start(driver: Driver) -> None:
    driver.declare(
        {
            "db": SERVICE,
            "schema": {"cmd": noting("exit 0"), "depends_on": ["db"]},
            "web": {**SERVICE, "depends_on": [{"job": "schema", "condition": "after_complete"}]},
        }
    )
    driver.ask("stop", "db")
    answer = driver.ask("start", "web", within=30)
    assert "waits: schema (after_complete)" in answer.out
    driver.ask("start", "db")
    driver.wait(lambda: driver.ask("reconcile").code == 0 and driver.notes("web"))


def test_a_dependency_that_never_comes_is_not_waited_for_longer_than_was_said(driver: Driver) -> None:
    dependency = {"job": "db", "condition": "after_start", "timeout": 0.5}
    driver.declare({"db": {**SERVICE, "enabled": False}, "report": {"cmd": STAYS, "depends_on": [dependency]}})
    driver.start_daemon()
    driver.ask("start", "report")
    driver.wait_for_status("report", "failed")
    [run] = driver.runs("report")
    assert (run.state, run.reason, run.attempts) == (RunState.FAILED, Reason.DEPENDENCY_TIMEOUT, 0)
    [letter] = driver.ask("dlq", "--json").json["entries"]
    assert (letter["job_id"], letter["reason"]) == ("report", "dependency_timeout")


def test_what_is_waited_for_is_not_stopped_before_who_needs_it(driver: Driver) -> None:
    slow = "trap 'echo web >>\"$PROCCLAW_HOME/ended\"; exit 0' TERM; " + noting("while :; do sleep 0.05; done")
    quick = "trap 'echo db >>\"$PROCCLAW_HOME/ended\"; exit 0' TERM; " + noting("while :; do sleep 0.05; done")
    driver.declare(
        {"a-db": {**SERVICE, "cmd": quick}, "web": {**SERVICE, "cmd": f"sleep 0; {slow}", "depends_on": ["a-db"]}}
    )
    driver.start_daemon()
    driver.wait_for_notes("web")
    driver.wait_for_notes("a-db")
    driver.ask("daemon", "stop", "--jobs")
    assert (driver.home / "ended").read_text().split() == ["web", "db"]


# --- limits ---

LIMITED: dict[str, dict[str, Any]] = {
    "instances": {"two": {"cmd": alone("one", until("go", "exit 0"))}},
    "queue": {name: {"cmd": alone("q", until("go", "exit 0")), "queue": "q"} for name in ("one", "two")},
    "lock": {
        name: {"cmd": alone("l", until("go", "exit 0")), "lock": {"enabled": True, "name": "l"}}
        for name in ("one", "two")
    },
    "parallel": {name: {"cmd": alone("p", until("go", "exit 0"))} for name in ("one", "two")},
}


@pytest.mark.parametrize("limit", LIMITED)
def test_a_limit_is_not_forgotten_by_a_new_manager(driver: Driver, limit: str) -> None:
    jobs = LIMITED[limit]
    first, second = min(jobs), max(jobs)
    driver.declare(jobs, daemon={"max_parallel": 1} if limit == "parallel" else {})
    driver.start_daemon()
    driver.ask("run", first)
    driver.kill_daemon()
    driver.ask("run", second, "--timeout", "1", code=None)
    driver.start_daemon()
    driver.wait(lambda: count_of(driver, second, "queued") == 1)
    driver.wait_for_notes(first)
    assert len(driver.notes()) == 1
    closed = [gate for gate in driver.operations.why(second)["gates"] if not gate["open"]]
    assert closed
    driver.kill_daemon()
    driver.ask("reconcile")
    assert len(driver.notes()) == 1
    driver.start_daemon()
    driver.touch("go")
    driver.wait(lambda: all(count_of(driver, job, "succeeded") for job in jobs) and len(driver.notes()) == 2)
    assert_never_together(driver)


def test_who_waits_in_a_queue_is_not_left_there_when_nobody_else_is_about(driver: Driver) -> None:
    """No daemon: the one who waits for the place is the only one to see it become free."""
    driver.declare(
        {"one": {"cmd": until("go", "exit 0"), "queue": "q"}, "two": {"cmd": noting("exit 0"), "queue": "q"}}
    )
    driver.ask("start", "one")
    waiting = driver.spawn("run", "two", "--wait")
    driver.wait(lambda: count_of(driver, "two", "queued"))
    driver.touch("go")
    out, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 0, (out, err, driver.show())
    assert count_of(driver, "one", "succeeded") == 1


def test_a_place_does_not_stay_taken_by_a_job_that_is_gone(driver: Driver) -> None:
    stays = {"cmd": STAYS, "shutdown": {"grace_period": 0.1}}
    driver.declare({"gone": stays, "next": {"cmd": noting("exit 0")}}, daemon={"max_parallel": 1})
    driver.start_daemon()
    driver.ask("start", "gone")
    driver.ask("start", "next")
    driver.wait(lambda: count_of(driver, "next", "queued"))
    driver.declare({"next": {"cmd": noting("exit 0")}})
    driver.wait_for_notes("next")


def test_a_queue_that_starves_somebody_says_so(driver: Driver) -> None:
    job = {"cmd": until("go", "exit 0"), "queue": "q"}
    driver.declare(
        {"high": {**job, "priority": "high", "concurrency": {"max_instances": 5}}, "low": {**job, "priority": "low"}}
    )
    driver.start_daemon()
    driver.ask("run", "high")
    driver.ask("run", "low")
    driver.ask("run", "high")
    driver.ask("run", "high")
    [gate] = [gate for gate in driver.ask("why", "low", "--json").json["gates"] if gate["gate"] == "queue"]
    assert "1 of at most 1 running: high (high)" in gate["reason"]
    assert "2 ahead of it: high (high), high (high)" in gate["reason"]
    assert gate["unblock"] == "procclaw stop high"
    driver.touch("go")
    driver.wait(lambda: count_of(driver, "low", "succeeded"))
    assert [note.job_id for note in driver.notes()] == ["high", "high", "high", "low"]


# --- locks ---


def test_a_lock_is_not_held_by_the_dead_and_not_free_while_a_grandchild_lives(driver: Driver) -> None:
    """What stays behind on purpose has inherited the lock."""
    lock = {"enabled": True, "name": "l"}
    child = "setsid sh -c 'while [ ! -e \"$PROCCLAW_HOME/go\" ]; do sleep 0.02; done' & exit 0"
    driver.declare(
        {
            "parent": {"cmd": noting(child), "lock": lock, "shutdown": {"leftovers": "keep"}},
            "next": {"cmd": noting("exit 0"), "lock": lock},
        }
    )
    driver.start_daemon()
    driver.ask("run", "parent", "--wait")
    driver.ask("start", "next")
    driver.wait(lambda: count_of(driver, "next", "queued"))
    closed = [gate["gate"] for gate in driver.operations.why("next")["gates"] if not gate["open"]]
    assert closed == ["lock"]
    driver.look_again()
    assert driver.notes("next") == []
    driver.touch("go")
    driver.wait_for_notes("next")


def test_a_lock_is_not_held_by_who_was_killed(driver: Driver) -> None:
    lock = {"enabled": True, "name": "l"}
    driver.declare(
        {"holder": {"cmd": STAYS, "lock": lock, **NO_RETRY}, "next": {"cmd": noting("exit 0"), "lock": lock}}
    )
    driver.start_daemon()
    driver.ask("start", "holder")
    driver.ask("start", "next")
    driver.kill_daemon()
    for seen in driver.job_processes():
        # The shim ends by itself once its job is gone.
        kill(seen)
    driver.wait(lambda: driver.ask("reconcile").code == 0 and driver.notes("next"))


@pytest.mark.parametrize("provider", ["file", "sqlite"])
def test_two_homes_that_share_a_lock_never_run_together(
    driver: Driver, other: Driver, tmp_path: Path, provider: str
) -> None:
    lock = {"enabled": True, "name": "shared", "provider": provider, "path": str(tmp_path)}
    cmd = f'exec 9>"{tmp_path}/alone"; flock -n 9 || touch "{tmp_path}/together"; ' + noting("sleep 0.3; exit 0")
    for home in (driver, other):
        home.declare({"job": {"cmd": cmd, "lock": lock, "concurrency": {"max_instances": 3}}})
        home.start_daemon()
    for _ in range(3):
        driver.ask("run", "job")
        other.ask("run", "job")
    for home in (driver, other):
        home.wait(lambda home=home: count_of(home, "job", "succeeded") == 3)  # type: ignore[misc]
    assert not (tmp_path / "together").exists()


def test_a_lock_is_not_kept_from_another_home_by_who_waits_for_something_else(
    driver: Driver, other: Driver, tmp_path: Path
) -> None:
    lock = {"enabled": True, "name": "shared", "provider": "sqlite", "path": str(tmp_path)}
    driver.declare(
        {
            "waits": {"cmd": STAYS, "lock": lock, "depends_on": ["never"], "priority": "critical"},
            "never": {**SERVICE, "enabled": False},
            "holder": {"cmd": until("go", "exit 0"), "lock": lock},
        }
    )
    other.declare({"job": {"cmd": noting("exit 0"), "lock": lock, "priority": "low"}})
    driver.start_daemon()
    other.start_daemon()
    driver.ask("start", "holder")
    driver.ask("start", "waits")
    other.ask("start", "job")
    driver.wait(lambda: count_of(driver, "waits", "queued") and count_of(other, "job", "queued"))
    [gate] = [gate for gate in other.operations.why("job")["gates"] if not gate["open"]]
    assert gate["reason"].endswith(f", home {driver.home}")
    assert gate["unblock"] == f"procclaw --home {driver.home} stop holder"
    driver.touch("go")
    other.wait(lambda: other.notes("job"), within=10)


# --- what must be remembered ---


def test_a_revocation_is_not_forgotten_at_a_restart(driver: Driver) -> None:
    driver.declare({"job": {"cmd": noting("exit 0")}, "service": SERVICE})
    driver.start_daemon()
    driver.wait_for_notes("service")
    driver.ask("revoke", "job")
    revoked_at = datetime.now(UTC)
    driver.ask("revoke", "service", "--terminate", "--expires", "4s")
    driver.kill_daemon()
    driver.start_daemon()
    assert "unrevoke" in driver.ask("run", "job", code=1).err
    driver.wait_for_notes("service", 2)
    _, again = driver.attempts("service")
    assert again.created_at >= after(revoked_at, 4)
    driver.ask("unrevoke", "job")
    assert driver.ask("run", "job", "--wait").code == 0


def test_a_planned_run_is_neither_lost_nor_doubled_at_a_restart(driver: Driver) -> None:
    driver.declare({"job": {"cmd": noting("exit 0")}})
    driver.start_daemon()
    driver.ask("schedule", "job", "--in", "8s")
    driver.kill_daemon()
    driver.start_daemon()
    driver.ask("stop", "job")
    assert driver.notes() == []
    driver.wait_for_notes("job")
    driver.kill_daemon()
    driver.start_daemon()
    driver.ask("reconcile")
    assert len(driver.notes("job")) == 1
    assert [run.trigger for run in driver.runs("job")] == ["eta"]


def test_a_planned_run_that_was_cancelled_does_not_come_back(driver: Driver) -> None:
    driver.declare({"job": {"cmd": noting("exit 0")}})
    driver.ask("schedule", "job", "--in", "4s")
    driver.ask("schedule", "job", "--cancel")
    at = time.monotonic() + 4.5
    driver.wait(lambda: driver.ask("reconcile").code == 0 and time.monotonic() > at)
    assert driver.notes() == []


# --- triggers ---


def watching(driver: Driver, **trigger: Any) -> Job:
    return {
        "cmd": NOTE + 'cat "$PROCCLAW_TRIGGER_FILE" >>"$PROCCLAW_HOME/got"',
        "trigger": {"type": "file", "watch_path": str(driver.home / "in"), "pattern": "*.csv", **trigger},
        "concurrency": {"max_instances": 3},
    }


def test_a_half_written_file_does_not_trigger(driver: Driver) -> None:
    driver.declare({"job": watching(driver)})
    (driver.home / "in").mkdir()
    driver.start_daemon()
    with (driver.home / "in" / "a.csv").open("w") as file:
        for _ in range(8):
            file.write("part ")
            file.flush()
            driver.look_again(1)
            assert driver.notes() == []
    driver.wait(lambda: count_of(driver, "job", "succeeded") == 1)
    assert (driver.home / "got").read_text() == "part " * 8
    assert len(driver.runs("job")) == 1


def test_a_file_does_not_trigger_again_after_a_restart_or_once_its_run_is_purged(driver: Driver) -> None:
    driver.declare({"job": watching(driver)}, history={"keep_runs": 1, "keep_days": 1})
    put(driver.home / "in", "a.csv", age=60)
    driver.start_daemon()
    driver.wait_for_notes("job")
    driver.kill_daemon()
    put(driver.home / "in", "b.csv", age=60)
    driver.start_daemon()
    driver.wait_for_notes("job", 2)
    driver.wait(lambda: count_of(driver, "job", "succeeded") == 2)
    driver.kill_daemon()
    driver.ask("reconcile")
    assert len(driver.runs("job")) == 1  # the other is purged
    driver.ask("reconcile")
    driver.start_daemon()
    driver.look_again()
    assert len(driver.notes("job")) == 2


def test_a_file_is_not_lost_while_its_job_is_held_and_is_deleted_after_a_success_only(driver: Driver) -> None:
    job = watching(driver, delete_after=True)
    driver.declare({"job": {**job, "cmd": job["cmd"] + '; ! grep -q bad "$PROCCLAW_TRIGGER_FILE"', **NO_RETRY}})
    driver.start_daemon()
    driver.ask("pause", "job")
    good, bad = put(driver.home / "in", "good.csv", age=60), put(driver.home / "in", "bad.csv", "bad", age=60)
    driver.look_again()
    assert driver.notes() == []
    driver.ask("resume", "job")
    driver.wait(lambda: not good.exists())
    driver.wait(lambda: count_of(driver, "job", "failed"))
    assert bad.exists()
    assert len(driver.notes("job")) == 2


def test_a_key_used_twice_makes_one_run_and_its_payload_reaches_the_job(driver: Driver) -> None:
    driver.declare(
        {
            "deploy": {
                "cmd": NOTE + 'cat "$PROCCLAW_PAYLOAD_FILE" >>"$PROCCLAW_HOME/got"',
                "trigger": {"type": "webhook"},
            }
        }
    )
    payload = json.dumps({"ref": "main"})
    first = driver.ask("trigger", "deploy", "--payload", payload, "--key", "k", "--json").json
    driver.start_daemon()
    again = driver.ask("trigger", "deploy", "--payload", payload, "--key", "k", "--json").json
    assert first["run_id"] == again["run_id"]
    refused = driver.ask("trigger", "deploy", "--payload", "{}", "--key", "k", code=1)
    assert "was used for another request" in refused.err
    driver.wait(lambda: count_of(driver, "deploy", "succeeded"))
    assert (driver.home / "got").read_text() == payload
    assert len(driver.runs("deploy")) == 1


def test_a_failed_run_that_is_put_in_again_finds_what_it_was_given(driver: Driver) -> None:
    fails_once = (
        'cat "${PROCCLAW_PAYLOAD_FILE:-$PROCCLAW_TRIGGER_FILE}" >>"$PROCCLAW_HOME/got"; [ -e "$PROCCLAW_HOME/go" ]'
    )
    driver.declare({"job": {**watching(driver), "cmd": noting(fails_once), **NO_RETRY, "params": {"P": {}}}})
    driver.start_daemon()
    driver.ask("trigger", "job", "--payload", "1", "-p", "P=x")
    driver.wait(lambda: count_of(driver, "job", "failed"))
    put(driver.home / "in", "a.csv", "2", age=60)
    driver.wait(lambda: count_of(driver, "job", "failed") == 2)
    driver.touch("go")
    for entry in driver.ask("dlq", "--json").json["entries"]:
        driver.ask("dlq", "reinject", str(entry["id"]))
        driver.ask("dlq", "reinject", str(entry["id"]), code=1)
    driver.wait(lambda: count_of(driver, "job", "succeeded") == 2)
    assert sorted((driver.home / "got").read_text()) == ["1", "1", "2", "2"]
    assert sorted(run.params for run in driver.runs("job")) == [(), (), (("P", "x"),), (("P", "x"),)]


def test_a_param_that_a_slot_cannot_have_is_no_silent_failure(driver: Driver) -> None:
    past = datetime.fromtimestamp(time.time() - 5, UTC).isoformat()
    driver.declare(
        {"job": {"type": "oneshot", "run_at": past, "cmd": STAYS, "params": {"DAY": {"required": True}}, **NO_RETRY}}
    )
    driver.ask("reconcile")
    driver.wait_for_status("job", "failed")
    [attempt] = driver.attempts("job")
    assert attempt.reason is Reason.ENVIRONMENT
    assert attempt.detail == "job needs the param DAY: -p DAY=VALUE"
    assert "DAY" in driver.ask("status", "job").out


def test_a_directory_that_cannot_be_watched_and_a_file_that_cannot_be_deleted_are_told_once(driver: Driver) -> None:
    job = watching(driver, delete_after=True)
    elsewhere = {**job, "trigger": {**job["trigger"], "watch_path": str(driver.home / "nowhere")}}
    driver.declare({"job": job, "elsewhere": elsewhere})
    driver.start_daemon()
    path = put(driver.home / "in", "a.csv", age=60)
    driver.wait(lambda: not path.exists())
    driver.look_again()
    lines = (driver.home / "logs" / "daemon.log").read_text().splitlines()
    told = [line for line in lines if "directory not watched" in line]
    assert len([line for line in told if "job=elsewhere" in line and "nowhere: no such file or directory" in line]) == 1
    assert len(told) <= 2  # the other directory was not there at first, perhaps


def test_a_queue_is_not_left_to_another_by_a_job_that_is_gone_and_still_alive(driver: Driver) -> None:
    stubborn = {"cmd": alone("q", noting("trap '' TERM; exec sleep 1000")), "shutdown": {"grace_period": 2}}
    nobody = {"cmd": alone("q", noting("exit 0")), "queue": "q"}
    driver.declare({"gone": {**stubborn, "queue": "q"}, "next": nobody})
    driver.start_daemon()
    driver.ask("start", "gone")
    driver.ask("start", "next")
    driver.wait(lambda: count_of(driver, "next", "queued"))
    driver.declare({"next": nobody})
    driver.wait_for_notes("next")
    assert_never_together(driver)
