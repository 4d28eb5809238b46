"""A stop leaves nothing alive, whatever the job does to stay; and it says so only when that is true."""

import signal
import sys
import time
from pathlib import Path

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import RunState
from tests.driver import NOTE, STAYS, STUBBORN, Driver, Job, commands, is_alive, noting
from tests.support import STAY

pytestmark = pytest.mark.real

SOON = {"shutdown": {"grace_period": 0.3}}
LATE = {"shutdown": {"grace_period": 60}}
AT_ONCE_SECONDS = 15.0
"""Far below a grace period of a minute, far above what a kill takes on a busy machine."""

STUBBORN_CHILD = "sh -c \"trap '' TERM; exec sleep 1000\""
DAEMONISE = f"""
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    {STAY}
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
{STAY}
"""
HOP = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork():
        os._exit(0)
    time.sleep(0.03)
"""


def python(text: str) -> str:
    """Shell text that becomes a Python program; without double quotes or dollars in it."""
    return f'exec {sys.executable} -ISc "{text.replace(chr(34), chr(39))}"'


EVASIVE: dict[str, str] = {
    "ignores_term": STUBBORN,
    "ignores_all": "trap '' HUP INT QUIT TERM USR1 USR2 ALRM; " + STAYS,
    "pipeline": noting("sleep 1000 | sleep 1001 | cat"),
    "other_session": noting("setsid sleep 1000 & exec sleep 1001"),
    "daemonises": noting(python(DAEMONISE)),
    "bequeaths": noting(f"setsid {STUBBORN_CHILD} & exec sleep 1000"),
    "stopped": noting("kill -STOP $$; exec sleep 1000"),
    "multiplies": "trap '' TERM; " + noting("while :; do setsid sleep 1000 & sleep 0.03; done"),
    "hops": noting(f"{python(HOP).removeprefix('exec ')} & wait; exec sleep 1000"),
}


@pytest.fixture(params=["daemon", "no_daemon"])
def managed(request: pytest.FixtureRequest, driver: Driver) -> Driver:
    """With a daemon that does the work, and without, where each command does its own."""
    driver.declare({})
    if request.param == "daemon":
        driver.start_daemon()
    return driver


def up(driver: Driver, jobs: dict[str, Job]) -> None:
    """Declare the jobs, start them, and wait until each has become what it is."""
    driver.declare(jobs)
    driver.ask("reload")
    manual = [job_id for job_id, job in jobs.items() if "type" not in job]
    if manual:
        driver.ask("start", *manual)
    for job_id in jobs:
        driver.wait_for_notes(job_id)


def test_a_stop_has_succeeded_only_when_nothing_is_left_of_jobs_that_evade_it(managed: Driver) -> None:
    driver = managed
    jobs: dict[str, Job] = {job_id: {"cmd": cmd, **SOON} for job_id, cmd in EVASIVE.items()}
    up(driver, {**jobs, "bystander": {"cmd": STAYS}})
    bystander = driver.pid("bystander")
    driver.ask("stop", *jobs)
    marks = {attempt.mark for job_id in jobs for attempt in driver.attempts(job_id)}
    left = [seen for seen in driver.job_processes() if driver.attempt_of(seen.pid) in marks]
    assert left == [], driver.show()
    for job_id in jobs:
        [run] = driver.runs(job_id)
        assert (run.state, run.reason) == (RunState.STOPPED, Reason.STOP_REQUESTED)
        assert driver.only_attempt(job_id).exit_code in (143, 137)
    assert driver.only_attempt("ignores_term").exit_code == 128 + signal.SIGKILL
    assert driver.pid("bystander") == bystander


def test_a_child_without_mark_session_or_parent_is_not_forgotten_while_it_is_stopped(managed: Driver) -> None:
    """Only its parent tells whose it is, and that one goes at the first signal."""
    driver = managed
    text = noting(f'env -i setsid {STUBBORN_CHILD} & echo $! >"$PROCCLAW_HOME/child"; exec sleep 1000')
    up(driver, {"parent": {"cmd": text, **SOON}})
    child = int(driver.wait(lambda: (driver.home / "child").exists() and (driver.home / "child").read_text()))
    driver.reaper.adopt(child)
    driver.wait(lambda: commands(child).startswith("sleep"))
    driver.ask("stop", "parent")
    assert not is_alive(child)
    assert driver.status("parent") == "stopped"


def test_a_job_that_handles_the_signal_ends_in_its_own_way(managed: Driver) -> None:
    driver = managed
    text = "trap 'exit 9' TERM; " + NOTE + "while :; do sleep 0.02; done"
    usr1 = "trap 'exit 8' USR1; " + NOTE + "while :; do sleep 0.02; done"
    up(driver, {"polite": {"cmd": text}, "other": {"cmd": usr1, "shutdown": {"signal": "SIGUSR1"}}})
    driver.ask("stop", "polite", "other")
    assert driver.only_attempt("polite").exit_code == 9
    assert driver.only_attempt("other").exit_code == 8


def test_a_forced_stop_does_not_wait_for_the_grace_period(managed: Driver) -> None:
    driver = managed
    up(driver, {"ignores": {"cmd": STUBBORN, **LATE}, "daemonises": {"cmd": noting(python(DAEMONISE)), **LATE}})
    began = time.monotonic()
    driver.ask("stop", "--force", "ignores", "daemonises")
    assert time.monotonic() - began < AT_ONCE_SECONDS
    assert driver.job_processes() == []
    assert driver.only_attempt("ignores").exit_code == 137


def test_a_forced_stop_ends_the_grace_period_of_an_earlier_one(managed: Driver) -> None:
    driver = managed
    up(driver, {"ignores": {"type": "continuous", "cmd": STUBBORN, **LATE}})
    patient = driver.spawn("stop", "ignores")
    driver.wait_for_status("ignores", "stopping")
    began = time.monotonic()
    driver.ask("stop", "--force", "ignores")
    out, err = patient.communicate(timeout=AT_ONCE_SECONDS)
    assert time.monotonic() - began < AT_ONCE_SECONDS
    assert patient.returncode == 0, out + err
    assert driver.job_processes() == []
    assert driver.status("ignores") == "stopped"


def test_a_stop_that_is_given_up_on_goes_on_with_whoever_reconciles_next(driver: Driver) -> None:
    up(driver, {"ignores": {"cmd": STUBBORN, "shutdown": {"grace_period": 1}}})
    answer = driver.ask("stop", "ignores", "--timeout", "0.1", code=1)
    assert "goes on with it" in answer.err
    driver.wait(lambda: driver.ask("reconcile").code == 0 and driver.status("ignores") == "stopped")
    assert driver.job_processes() == []


def test_the_stop_of_a_daemons_job_survives_that_daemon(driver: Driver) -> None:
    driver.declare({})
    driver.start_daemon()
    up(driver, {"ignores": {"type": "continuous", "cmd": STUBBORN, "shutdown": {"grace_period": 1}}})
    stop = driver.spawn("stop", "ignores")
    driver.wait(lambda: (order := driver.only_attempt("ignores").stop) is not None and order.signalled_at is not None)
    driver.kill_daemon()
    # The command that waits is now the one that reconciles.
    out, err = stop.communicate(timeout=AT_ONCE_SECONDS)
    assert stop.returncode == 0, out + err
    assert driver.job_processes() == []


def test_what_a_job_leaves_behind_is_stopped_before_its_next_attempt(managed: Driver) -> None:
    """Every attempt takes a lock that its child holds on to; one that finds it taken says so."""
    driver = managed
    grab = 'exec 9>"$PROCCLAW_HOME/lock"; flock -n 9 || echo twice >>"$PROCCLAW_HOME/twice"; '
    up(
        driver,
        {
            "leaver": {
                "type": "continuous",
                "cmd": noting(f"{grab} setsid {STUBBORN_CHILD} & sleep 0.05; exit 5"),
                "retry": {"delays": [0.01], "max_attempts": 2},
                "shutdown": {"grace_period": 0.2},
            }
        },
    )
    driver.wait(lambda: driver.ask("reconcile").code == 0 and driver.status("leaver") == "failed")
    assert [attempt.exit_code for attempt in driver.attempts("leaver")] == [5, 5, 5]
    assert all(attempt.reason is Reason.EXITED for attempt in driver.attempts("leaver"))
    assert not (driver.home / "twice").exists()
    assert driver.job_processes() == []


def test_what_a_job_leaves_behind_may_stay_where_it_says_so(managed: Driver) -> None:
    driver = managed
    text = noting('setsid sleep 1000 & echo $! >"$PROCCLAW_HOME/left"; exit 0')
    driver.declare({"keeps": {"cmd": text, "shutdown": {"leftovers": "keep"}}})
    driver.ask("reload")
    driver.ask("run", "keeps", "--wait")
    left = int((driver.home / "left").read_text())
    assert is_alive(left)
    driver.ask("run", "keeps", "--wait")
    assert is_alive(left)
    assert driver.status("keeps") == "stopped"
    assert [attempt.exit_code for attempt in driver.attempts("keeps")] == [0, 0]


def test_stopping_what_does_not_run_says_so_and_holds_a_continuous_job(managed: Driver) -> None:
    driver = managed
    driver.declare({"never": {"cmd": "true"}, "service": {"type": "continuous", "cmd": STAYS}})
    answer = driver.ask("stop", "never")
    assert "was not running (it never ran)" in answer.out
    driver.ask("stop", "service")
    driver.ask("reconcile")
    assert driver.status("service") == "stopped"
    answer = driver.ask("start", "service")
    assert driver.status("service") == "running"


def test_stopping_an_unknown_job_is_refused_with_what_may_have_been_meant(driver: Driver) -> None:
    driver.declare({"report": {"cmd": "true"}})
    answer = driver.ask("stop", "reprot", code=1)
    assert 'no job "reprot"; did you mean "report"?' in answer.err


def test_a_restart_replaces_the_whole_tree(managed: Driver) -> None:
    driver = managed
    up(driver, {"tree": {"type": "continuous", "cmd": EVASIVE["bequeaths"], **SOON}})
    before = {seen.pid for seen in driver.job_processes()}
    driver.ask("restart", "tree")
    driver.wait_for_notes("tree", 2)
    assert not any(is_alive(pid) for pid in before)
    assert driver.status("tree") == "running"
    assert len(driver.notes("tree")) == 2


def test_daemon_stop_with_jobs_leaves_nothing_alive_and_holds_the_home(driver: Driver, tmp_path: Path) -> None:
    jobs: dict[str, Job] = {job_id: {"type": "continuous", "cmd": cmd, **SOON} for job_id, cmd in EVASIVE.items()}
    driver.declare({})
    driver.start_daemon()
    up(driver, jobs)
    driver.ask("daemon", "stop", "--jobs")
    assert driver.processes() == []
    started = len(driver.notes())
    driver.ask("reconcile")
    driver.ask("start", "pipeline", code=1)
    assert len(driver.notes()) == started
    driver.ask("reconcile", "--release")
    driver.wait(lambda: len(driver.notes()) == started + len(jobs))
    driver.ask("daemon", "stop", "--jobs")
    assert driver.processes() == []
