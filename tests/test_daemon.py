"""The daemon as a process: there is one, jobs outlive it, an edit is applied while it runs, and it can be replaced."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from procclaw.engine import supervision
from procclaw.engine.controller import PURGE_AT_ONCE
from procclaw.engine.home import Home
from procclaw.engine.supervision import Serving
from procclaw.model.clock import after, seconds_between
from procclaw.model.intents import IntentKind
from procclaw.model.reasons import Reason
from procclaw.model.records import Event, RunState
from procclaw.system.watch import wake
from tests.driver import NOTE, ROOT, STAYS, WITHIN, Driver, driving, is_alive, mark_of, noting, until
from tests.support import Reaper, environment

pytestmark = pytest.mark.real

NO_RETRY = {"retry": {"enabled": False}}
SERVICE = {"type": "continuous", "cmd": STAYS}

# --- there is one ---


def test_a_second_start_of_the_daemon_finds_the_first(driver: Driver) -> None:
    driver.declare({})
    pid = driver.start_daemon()
    answer = driver.ask("daemon", "start")
    assert answer.out == f"already running (pid {pid})\n"
    answer = driver.ask("daemon", "start", "--foreground", code=1)
    assert answer.err == f"procclaw: a daemon runs already (pid {pid})\n"
    assert driver.start_daemon() == pid
    assert (driver.home / "procclaw.pid").read_text() == f"{pid}\n"


def test_of_many_daemons_started_at_once_one_stays(driver: Driver) -> None:
    driver.declare({"service": SERVICE})
    starts = [driver.spawn("daemon", "start") for _ in range(5)]
    for start in starts:
        out, err = start.communicate(timeout=WITHIN)
        assert start.returncode == 0, out + err
    driver.wait_for_notes("service")
    daemons = [seen.pid for seen in driver.processes() if mark_of(seen.pid) is None]
    holder = driver.holder()
    assert holder is not None
    driver.wait(lambda: [seen.pid for seen in driver.processes() if mark_of(seen.pid) is None] == [holder.pid])
    assert len(driver.notes("service")) == 1, daemons


def test_a_daemon_that_was_quicker_than_ours_is_found(
    driver: Driver, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = reaper.spawn([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = Serving(os.getpid(), 1, is_up=True)
    looks = iter((None, other))

    def serving(_home: Home) -> Serving | None:
        """At the first look there is none yet; right after it the other is there, and ours leaves."""
        found = next(looks)
        ours.communicate()
        return found

    monkeypatch.setattr(supervision, "detach", lambda *_: ours.pid)
    monkeypatch.setattr(supervision, "serving", serving)
    assert supervision.bring_up(driver.opened) == other


def test_status_tells_by_its_exit_code_whether_a_daemon_runs(driver: Driver) -> None:
    driver.declare({"service": SERVICE})
    assert not driver.ask("daemon", "status", "--json", code=4).json["running"]
    pid = driver.start_daemon()
    driver.wait_for_notes("service")
    status = driver.ask("daemon", "status", "--json").json
    assert (status["running"], status["pid"], status["jobs_running"]) == (True, pid, 1)
    driver.kill_daemon()
    status = driver.ask("daemon", "status", "--json", code=4).json
    assert (status["running"], status["pid"], status["jobs_running"]) == (False, None, 1)
    assert "no daemon runs" in driver.ask("daemon", "stop", code=4).err


def test_a_daemon_whose_lock_file_was_replaced_leaves_and_the_jobs_stay(driver: Driver) -> None:
    """Whoever takes the new file's lock is the one from then on; what the old daemon leaves behind must not harm it."""
    driver.declare({"service": SERVICE})
    old = driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    (driver.home / "procclaw.lock").unlink()
    new = driver.start_daemon()
    assert new != old
    with contextlib.suppress(ProcessLookupError):
        # It may have looked by itself.
        os.kill(old, signal.SIGHUP)
    driver.wait(lambda: not is_alive(old))
    assert (driver.home / "procclaw.pid").read_text() == f"{new}\n"
    began = time.monotonic()
    driver.ask("restart", "service")
    # The old daemon must not have taken the new one's socket with it, through which requests wake it.
    assert time.monotonic() - began < 10
    driver.wait_for_notes("service", 2)
    assert not is_alive(note.pid)
    assert is_alive(new)


# --- jobs outlive it ---


@pytest.mark.parametrize("ending", ["killed", "terminated", "asked"])
def test_jobs_keep_running_and_keep_their_pids_without_their_daemon(driver: Driver, ending: str) -> None:
    driver.declare({"service": SERVICE, "long": {"cmd": STAYS}})
    first = driver.start_daemon()
    driver.ask("start", "long")
    driver.wait_for_notes("service")
    driver.wait_for_notes("long")
    before = driver.living("service"), driver.living("long")
    match ending:
        case "killed":
            driver.kill_daemon()
        case "terminated":
            driver.signal_daemon(signal.SIGTERM)
            driver.wait(lambda: not is_alive(first))
        case _:
            assert driver.ask("daemon", "stop").out == "daemon stopped; 2 jobs go on running\n"
    assert not is_alive(first)
    assert (driver.living("service"), driver.living("long")) == before
    second = driver.start_daemon()
    assert second != first
    driver.ask("reconcile")
    assert (driver.living("service"), driver.living("long")) == before
    assert len(driver.notes()) == 2
    # And they are watched as if they were its own.
    [note] = driver.notes("service")
    os.kill(note.pid, signal.SIGKILL)
    driver.wait(lambda: driver.attempts("service")[0].exit_code == 128 + signal.SIGKILL)


@pytest.mark.parametrize("next_one", ["daemon", "reconcile"])
def test_exits_while_nobody_watches_are_known_with_code_and_time(driver: Driver, next_one: str) -> None:
    endings = {"well": "exit 0", "badly": "exit 3", "by_signal": "kill -USR2 $$", "killed": "kill -KILL $$"}
    codes = {"well": 0, "badly": 3, "by_signal": 128 + signal.SIGUSR2, "killed": 128 + signal.SIGKILL}
    driver.declare({job_id: {"cmd": until("go", then), **NO_RETRY} for job_id, then in endings.items()})
    driver.start_daemon()
    driver.ask("start", *endings)
    for job_id in endings:
        driver.wait_for_notes(job_id)
    driver.kill_daemon()
    went_at = datetime.fromtimestamp(driver.touch("go"), UTC)
    driver.wait(lambda: not driver.job_processes())
    gone_at = datetime.now(UTC)
    # What is noticed this much later must have been told by something else than the noticing.
    driver.wait(lambda: datetime.now(UTC) > after(gone_at, 1.5))
    if next_one == "daemon":
        driver.start_daemon()
    driver.ask("reconcile")
    for job_id, code in codes.items():
        attempt = driver.only_attempt(job_id)
        assert attempt.exit_code == code
        assert attempt.reason is (Reason.SIGNALLED if code > 128 else Reason.EXITED)
        assert attempt.exited_at is not None
        # The file system's clock ticks coarsely.
        assert after(went_at, -0.1) <= attempt.exited_at <= after(gone_at, 0.1)
        [run] = driver.runs(job_id)
        assert run.state is (RunState.SUCCEEDED if code == 0 else RunState.FAILED)
    assert driver.records() == set()


def test_a_service_that_died_unwatched_is_restarted_by_the_next_daemon(driver: Driver) -> None:
    driver.declare({"service": {**SERVICE, "retry": {"delays": [0]}}})
    driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    driver.kill_daemon()
    os.kill(note.pid, signal.SIGKILL)
    driver.wait(lambda: not driver.job_processes())
    driver.start_daemon()
    driver.wait_for_notes("service", 2)
    first, second = driver.attempts("service")
    assert (first.exit_code, second.number, second.run_id) == (137, 2, first.run_id)


def test_a_service_whose_shim_was_killed_is_lost_its_process_stopped_and_started_anew(driver: Driver) -> None:
    driver.declare({"service": {**SERVICE, "retry": {"delays": [0]}, "shutdown": {"grace_period": 0.2}}})
    driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    shim = driver.wait(lambda: driver.attempts("service")[0].pid)
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    driver.wait_for_notes("service", 2)
    assert not is_alive(note.pid)
    assert driver.attempts("service")[0].reason is Reason.LOST


def test_a_daemon_started_by_a_job_does_not_end_with_that_job(driver: Driver, reaper: Reaper, tmp_path: Path) -> None:
    """The outer home's job brings up the daemon of an inner home, as a person's login shell might within a session."""
    inner_home = driver.home / "inner"
    inner_home.mkdir()
    with driving(inner_home, reaper) as inner:
        inner.declare({"service": SERVICE})
        start = " ".join(inner.argv("daemon", "start"))
        driver.declare({"starter": {"cmd": f"{start}; " + STAYS}})
        driver.ask("start", "starter")
        driver.wait_for_notes("starter")
        inner.wait_for_notes("service")
        holder = inner.holder()
        assert holder is not None
        assert holder.pid is not None
        assert mark_of(holder.pid) is None
        driver.ask("stop", "starter")
        assert driver.job_processes() == []
        assert is_alive(holder.pid)
        assert is_alive(inner.pid("service"))
        inner.ask("restart", "service")
        assert len(inner.wait_for_notes("service", 2)) == 2


def test_a_foreground_daemon_started_within_a_job_sheds_the_jobs_mark(driver: Driver, reaper: Reaper) -> None:
    driver.declare({})
    words = driver.argv("daemon", "start", "--foreground")
    daemon = reaper.spawn(words, env={**os.environ, "PROCCLAW_ATTEMPT_MARK": "0" * 32})
    driver.wait((driver.home / "procclaw.pid").exists)
    assert mark_of(daemon.pid) is None
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(WITHIN) == 0


# --- an edit is applied while it runs ---


def test_an_edit_restarts_the_changed_job_and_leaves_the_others_alone(driver: Driver) -> None:
    driver.declare({"same": SERVICE, "other": SERVICE, "long": {"cmd": STAYS}})
    driver.start_daemon()
    driver.ask("start", "long")
    driver.wait_for_notes("same")
    driver.wait_for_notes("other")
    [before] = driver.wait_for_notes("long")
    same, other = driver.living("same"), driver.living("other")
    changed = {"type": "continuous", "cmd": NOTE + "exec sleep 999"}
    # A running manual run finishes as it began; a description is nothing a process can see.
    driver.declare(
        {
            "same": {**SERVICE, "description": "words"},
            "other": changed,
            "long": {"cmd": noting("exec sleep 998")},
            "added": SERVICE,
        }
    )
    driver.wait_for_notes("added")
    driver.wait_for_notes("other", 2)
    driver.wait_for_status("other", "running")
    assert driver.living("same") == same
    assert driver.living("other") != other
    assert not is_alive(driver.notes("other")[0].pid)
    assert is_alive(before.pid)
    assert driver.job("same")["description"] == "words"
    assert [len(driver.notes(job_id)) for job_id in ("same", "other", "long", "added")] == [1, 2, 1, 1]
    assert driver.attempts("other")[0].reason is Reason.CHANGED


def test_a_removed_job_is_stopped_once_the_file_has_settled(driver: Driver) -> None:
    driver.declare({"stays": SERVICE, "goes": SERVICE})
    driver.start_daemon()
    driver.wait_for_notes("stays")
    [going] = driver.wait_for_notes("goes")
    stays = driver.living("stays")
    removed_at = time.time()
    driver.declare({"stays": SERVICE})
    driver.ask("reload")
    assert is_alive(going.pid)
    driver.wait(lambda: not is_alive(going.pid))
    assert time.time() - removed_at >= 5.0 - 0.1
    assert driver.living("stays") == stays
    driver.wait(lambda: not driver.runs("goes")[0].is_active)
    assert "goes" not in driver.operations.spec().jobs
    [run] = driver.opened.store.runs("goes")
    assert (run.state, run.reason) == (RunState.STOPPED, Reason.REMOVED)
    assert driver.attempts("goes")[0].exit_code == 143


def test_a_job_that_comes_back_before_the_file_has_settled_was_never_gone(driver: Driver) -> None:
    """What many editors do: the file is short for a moment, and still valid."""
    driver.declare({"stays": SERVICE, "blinks": SERVICE})
    driver.start_daemon()
    [note] = driver.wait_for_notes("blinks")
    driver.declare({"stays": SERVICE})
    driver.ask("reload")
    driver.declare({"stays": SERVICE, "blinks": SERVICE})
    written_at = time.monotonic()
    driver.ask("reload")
    driver.wait(lambda: time.monotonic() > written_at + 6)
    driver.ask("reconcile")
    assert is_alive(note.pid)
    assert len(driver.notes("blinks")) == 1


BROKEN: dict[str, Callable[[str], str]] = {
    "truncated": lambda text: text[: len(text) // 2],
    "wrong": lambda text: text.replace('"continuous"', '"continous"'),
    "empty": lambda text: "",
}


def test_a_broken_file_changes_nothing_and_is_told_everywhere(driver: Driver) -> None:
    driver.declare({"service": SERVICE, "tick": {"type": "scheduled", "schedule": "@every 1s", "cmd": noting("true")}})
    driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    jobs = driver.home / "jobs.yaml"
    good = jobs.read_text()
    for broken in BROKEN.values():
        before = driver.problems()
        jobs.write_text(broken(good))
        driver.wait(lambda before=before: driver.problems() not in ((), before))  # type: ignore[misc]
        listed = driver.ask("list")
        assert "service" in listed.out
        assert "jobs.yaml" in listed.err
        assert "the last good configuration stays in force" in listed.err
        status = driver.ask("daemon", "status", "--json").json
        assert not status["configuration_valid"]
        assert "jobs.yaml" in status["problems"][0]
        planned = driver.ask("plan", code=2)
        assert "the last good configuration stays in force" in planned.err
        assert "warning configuration refused problems=" in (driver.home / "logs" / "daemon.log").read_text()
        assert "jobs.yaml" in driver.ask("reload", code=2).err
    # Past the time that a removal takes, and across a restart of the daemon.
    broken_at = time.monotonic()
    driver.kill_daemon()
    driver.start_daemon()
    ticks = len(driver.notes("tick"))
    driver.wait(lambda: len(driver.notes("tick")) > ticks and time.monotonic() > broken_at + 5.5)
    assert is_alive(note.pid)
    jobs.write_text(good)
    driver.wait(lambda: not driver.problems())
    assert driver.ask("list").err == ""
    assert len(driver.notes("service")) == 1


def test_a_home_without_any_good_configuration_starts_and_waits_for_one(driver: Driver) -> None:
    (driver.home / "jobs.yaml").write_text("jobs: [")
    answer = driver.ask("daemon", "start")
    assert "jobs.yaml:1" in answer.err
    driver.declare({"service": SERVICE})
    driver.wait_for_notes("service")


@pytest.mark.parametrize("words", [("reconcile",), ("reload",), ("daemon", "stop", "--jobs")])
def test_nobody_waits_for_ever_for_a_daemon_without_a_configuration(driver: Driver, words: tuple[str, ...]) -> None:
    (driver.home / "jobs.yaml").write_text("jobs: [")
    driver.start_daemon()
    answer = driver.ask(*words, code=None, within=WITHIN)
    assert answer.code == (0 if "stop" in words else 2)


def test_a_database_damaged_under_a_daemon_is_told_of_and_the_jobs_live_on_until_a_backup_is_back(
    driver: Driver,
) -> None:
    driver.declare({"service": SERVICE})
    daemon = driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    driver.pid("service")
    driver.close()
    database = driver.home / "procclaw.db"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        # So that the daemon has to read again what it has read already.
        connection.execute("INSERT INTO meta VALUES ('backed up', 'now')")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = database.read_bytes()
    with open(database, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(len(backup) - 4096))
    os.kill(daemon, signal.SIGHUP)
    log = driver.home / "logs" / "daemon.log"
    driver.wait(lambda: "the database is damaged" in log.read_text())
    listed = driver.ask("list", code=1)
    assert "restore it from a backup, or move it away" in listed.err
    assert is_alive(daemon)
    assert is_alive(note.pid)
    driver.ask("daemon", "stop", code=1)
    driver.wait(lambda: not is_alive(daemon))
    refused = driver.ask("daemon", "start", code=1)
    assert "restore it from a backup, or move it away" in refused.err
    assert "a bug in ProcClaw" not in log.read_text()
    for path in driver.home.glob("procclaw.db*"):
        path.unlink()
    database.write_bytes(backup)
    driver.ask("daemon", "start")
    assert driver.pid("service") == note.pid
    assert len(driver.notes("service")) == 1


def test_a_hangup_reads_the_files_again(driver: Driver) -> None:
    driver.declare({"service": SERVICE})
    pid = driver.start_daemon()
    driver.wait_for_notes("service")
    driver.declare({"service": SERVICE, "added": SERVICE})
    driver.signal_daemon(signal.SIGHUP)
    driver.wait_for_notes("added")
    assert is_alive(pid)


# --- it can be replaced ---

LAUNCHER = """
import sys
sys.path.insert(0, {root!r})
from procclaw.engine import daemon
daemon.UPGRADE_CHECK_SECONDS = 0.2
if "--foreground" in sys.argv:
    open({diary!r}, "a").write({version!r} + chr(10))
from procclaw.interface.cli import main
sys.exit(main())
"""


@pytest.fixture
def replaceable(home: Path, reaper: Reaper, tmp_path: Path) -> "Iterator[Replaceable]":
    driver = Replaceable(home, reaper, tmp_path)
    yield driver
    driver.close()


class Replaceable(Driver):
    """A driver of a program whose file can be replaced, and that writes down each version that becomes a daemon."""

    def __init__(self, home: Path, reaper: Reaper, folder: Path) -> None:
        super().__init__(home, reaper, folder / "program.py")
        self.diary = folder / "versions"
        self.install("one")

    def install(self, version: str, text: str = LAUNCHER) -> None:
        beside = self.program.with_suffix(".new")
        beside.write_text(text.format(root=str(ROOT), diary=str(self.diary), version=version))
        beside.rename(self.program)

    def nudge(self) -> bool:
        """Have the daemon look around, which it does by itself every half minute at least."""
        wake(str(self.home))
        return True

    def versions(self) -> list[str]:
        return self.diary.read_text().split()


def test_a_daemon_whose_program_was_replaced_becomes_the_new_one_and_jobs_keep_their_pids(
    replaceable: Replaceable,
) -> None:
    driver = replaceable
    driver.declare({"service": SERVICE, "asked": {"cmd": noting("true")}})
    pid = driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    job = driver.living("service")
    driver.install("two")
    driver.wait(lambda: driver.nudge() and driver.versions() == ["one", "two"])
    driver.ask("run", "asked", "--wait")
    # The command may have been quicker than the new one takes to say that it serves.
    driver.wait(lambda: (holder := driver.holder()) is not None and holder.pid == pid)
    assert driver.living("service") == job
    # Still its child: it is told of the end, and reaps it.
    os.kill(note.pid, signal.SIGKILL)
    driver.wait(lambda: driver.attempts("service")[0].exit_code == 137)
    assert [each.pid for each in driver.notes("service")][:1] == [note.pid]


def test_a_replacement_that_does_not_work_is_left_alone(replaceable: Replaceable) -> None:
    driver = replaceable
    driver.declare({"service": SERVICE})
    pid = driver.start_daemon()
    driver.wait_for_notes("service")
    driver.install("two", "import nothing_of_the_kind")
    log = driver.home / "logs" / "daemon.log"
    driver.wait(lambda: driver.nudge() and "does not work, staying" in log.read_text())
    assert is_alive(pid)
    driver.install("three")
    driver.wait(lambda: driver.nudge() and driver.versions() == ["one", "three"])
    driver.ask("restart", "service")
    assert is_alive(pid)


# --- what a daemon does at once ---


def test_requests_exits_and_edits_wake_the_daemon_at_once(driver: Driver) -> None:
    """Far below the half minute for which it sleeps when nothing wakes it."""
    driver.declare({"service": {**SERVICE, "retry": {"delays": [0]}}, "asked": {"cmd": noting("true")}})
    driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    began = time.monotonic()
    driver.request(IntentKind.RUN, "asked")
    driver.wait_for_notes("asked")
    os.kill(note.pid, signal.SIGKILL)
    driver.wait_for_notes("service", 2)
    driver.declare({"service": SERVICE, "added": SERVICE})
    driver.wait_for_notes("added")
    assert time.monotonic() - began < 10


def test_an_idle_daemon_uses_no_processor_to_speak_of(driver: Driver) -> None:
    driver.declare({f"service{n}": SERVICE for n in range(5)})
    pid = driver.start_daemon()
    driver.wait(lambda: len(driver.notes()) == 5)
    driver.ask("reconcile")

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    settled, began = ticks(), time.monotonic()
    driver.wait(lambda: time.monotonic() > began + 3)
    assert ticks() - settled <= 0.05 * 3 * os.sysconf("SC_CLK_TCK")


def test_the_environment_of_whoever_starts_the_daemon_does_not_reach_the_jobs(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRAY", "from the shell")
    driver.declare({"service": SERVICE}, env={"GIVEN": "by procclaw.yaml"})
    driver.start_daemon()
    [note] = driver.wait_for_notes("service")
    found = environment(note.pid)
    assert b"GIVEN=by procclaw.yaml" in found
    assert not any(each.startswith(b"STRAY=") for each in found)


def test_six_daemons_in_a_row_are_killed_and_no_job_is_started_twice(driver: Driver) -> None:
    driver.declare({f"service{n}": SERVICE for n in range(3)})
    pids: set[int] = set()
    for _ in range(6):
        pids.add(driver.start_daemon())
        driver.wait(lambda: len(driver.notes()) == 3)
        driver.kill_daemon()
    assert len(pids) == 6
    driver.ask("reconcile")
    assert len(driver.notes()) == 3
    assert seconds_between(driver.attempts("service0")[0].created_at, datetime.now(UTC)) > 0
    assert all(is_alive(note.pid) for note in driver.notes())


LEAVING = """
import _thread, ctypes, sys, time
from procclaw.engine.daemon import ROLE
from procclaw.engine.home import Home
home = Home(sys.argv[1])
lock = home.lock()
assert home.acquire(lock, ROLE)
home.announce(lock, ROLE)
_thread.start_new_thread(lambda: time.sleep(WITHIN), ())
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
"""Holds a home as a killed daemon does in its last moment: its first thread has ended, and its files are open still."""


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells of such a process")
def test_a_daemon_that_was_killed_and_is_not_quite_gone_is_waited_out(driver: Driver, reaper: Reaper) -> None:
    driver.declare({})
    program = LEAVING.replace("WITHIN", str(WITHIN))
    leaving = reaper.spawn([sys.executable, "-c", program, str(driver.home)], stdout=subprocess.PIPE, cwd=ROOT)
    assert leaving.stdout is not None
    assert leaving.stdout.readline() == b"up\n"
    driver.wait(lambda: b") Z " in Path(f"/proc/{leaving.pid}/stat").read_bytes())
    holder = driver.holder()
    assert holder is not None
    assert holder.pid == leaving.pid
    driver.ask("daemon", "status", code=4)
    starting = driver.spawn("daemon", "start")
    driver.wait((driver.home / "logs" / "daemon.startup.log").exists)
    leaving.kill()
    said, complaint = starting.communicate(timeout=WITHIN)
    assert (starting.returncode, complaint) == (0, "")
    assert said.startswith("daemon started (pid ")
    assert driver.holder() is not None


# --- what is kept of the past ---


def test_what_hundreds_of_jobs_leave_in_a_minute_is_gone_after_one_upkeep(driver: Driver) -> None:
    """More than one step takes; at a step for each upkeep the database would grow for ever."""
    driver.declare({}, history={"keep_days": 1})
    long_ago = after(datetime.now(UTC), -10 * 86400)
    driver.opened.store.record([Event(long_ago, "attempt started", "gone", ()) for _ in range(3 * PURGE_AT_ONCE + 1)])
    driver.ask("reconcile")
    assert [event.job_id for event in driver.operations.events() if event.job_id] == []
