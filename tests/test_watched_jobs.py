"""Jobs that are looked after while they run: real checks of real processes, and what they really use."""

import sys
from collections.abc import Iterator
from socket import socket
from typing import Any

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, RunState
from tests.driver import STAYS, Driver, noting, until
from tests.listeners import Listeners, answering, listening
from tests.support import STAY

pytestmark = pytest.mark.real

QUICK: dict[str, Any] = {"interval": 0.2, "timeout": 5, "failures": 2}
SERVICE: dict[str, Any] = {"type": "continuous", "cmd": STAYS, "retry": {"delays": [0.1]}}
HOGS_MB = 80
HOG = noting(f"exec '{sys.executable}' -c 'held = b\"x\" * {HOGS_MB << 20}; {STAY}'")


class Site:
    """A web server that answers as the test says."""

    def __init__(self, listeners: Listeners) -> None:
        self.status = 200
        self.failures_left = 0
        """So many of the next answers are a 503, whatever the status."""
        self.url = f"http://127.0.0.1:{listeners(self._answer).port}/health"

    def _answer(self, sock: socket) -> None:
        fails = self.failures_left > 0
        self.failures_left -= fails
        answering(503 if fails else self.status)(sock)


@pytest.fixture
def site() -> Iterator[Site]:
    with listening() as listeners:
        yield Site(listeners)


def ended(driver: Driver, job_id: str) -> list[Attempt]:
    return [attempt for attempt in driver.attempts(job_id) if attempt.ended_at is not None]


def events(driver: Driver, kind: str) -> list[dict[str, str]]:
    return [dict(event.fields) for event in driver.operations.events() if event.kind == kind]


# --- health ---


def test_a_service_that_turns_bad_is_restarted_and_everybody_is_told_why(driver: Driver, site: Site) -> None:
    driver.declare({"web": {**SERVICE, "health_check": {"type": "http", "url": site.url, **QUICK}}})
    driver.start_daemon()
    driver.wait(lambda: driver.job("web")["health"] == "healthy")
    # No more than it takes: the next attempt must not find any, however late we are.
    site.failures_left = QUICK["failures"]
    [first] = driver.wait(lambda: ended(driver, "web"))
    why = f"unhealthy: GET {site.url}: status 503, expected 200"
    assert (first.reason, first.detail) == (Reason.UNHEALTHY, why)
    driver.wait(lambda: driver.job("web")["health"] == "healthy" and driver.job("web")["restart_count"] == 1)
    assert [event["health"] for event in events(driver, "health changed")] == ["healthy", "unhealthy", "healthy"]
    assert events(driver, "stop ordered")[0]["detail"] == why
    assert len(driver.wait_for_notes("web", 2)) == 2


def test_where_it_shall_only_be_told_the_service_goes_on_and_may_recover(driver: Driver, site: Site) -> None:
    check = {"type": "http", "url": site.url, "on_unhealthy": "alert", **QUICK}
    driver.declare({"web": {**SERVICE, "health_check": check}})
    site.status = 500
    driver.start_daemon()
    driver.wait(lambda: driver.job("web")["health"] == "unhealthy")
    assert driver.job("web")["reason"] == f"unhealthy: GET {site.url}: status 500, expected 200"
    site.status = 200
    driver.wait(lambda: driver.job("web")["health"] == "healthy")
    assert (len(driver.wait_for_notes("web")), driver.job("web")["reason"]) == (1, None)


def test_a_job_starts_as_soon_as_what_it_waits_for_is_healthy_and_no_sooner(driver: Driver) -> None:
    up = driver.home / "up"
    check = {"type": "exec", "cmd": f"test -e {up}", "interval": 600}
    waits = {"depends_on": [{"job": "db", "condition": "after_healthy"}]}
    driver.declare({"db": {**SERVICE, "health_check": check}, "web": {**SERVICE, **waits}})
    driver.start_daemon()
    driver.wait_for_notes("db")
    driver.wait(lambda: "is not healthy yet: exit code 1" in str(driver.job("web")["reason"]))
    assert driver.notes("web") == []
    driver.touch("up")
    # Far less than the interval: what is coming up is asked more often.
    driver.wait_for_notes("web")
    assert len(driver.notes("db")) == 1


def test_a_service_whose_heartbeat_stops_is_restarted(driver: Driver) -> None:
    beats = driver.home / "beat"
    cmd = noting(
        f'while [ "$PROCCLAW_ATTEMPT" != 1 ] || [ ! -e {driver.home}/stuck ]; do touch {beats}; sleep 0.1; done; '
    )
    check = {"type": "file", "path": str(beats), "max_age": 2, **QUICK}
    driver.declare({"worker": {**SERVICE, "cmd": cmd + "sleep 1000", "health_check": check}})
    driver.start_daemon()
    driver.wait(lambda: driver.job("worker")["health"] == "healthy")
    driver.touch("stuck")
    first = driver.wait(lambda: ended(driver, "worker"))[0]
    assert first.reason is Reason.UNHEALTHY
    driver.wait(lambda: driver.job("worker")["health"] == "healthy")


def test_a_check_that_dies_with_its_daemon_is_made_anew_by_the_next(driver: Driver) -> None:
    check = {"type": "exec", "cmd": f"echo >>{driver.home}/checks; test -e {driver.home}/up || sleep 1000"}
    driver.declare({"web": {**SERVICE, "health_check": {**check, "timeout": 1000, "interval": 600}}})
    driver.start_daemon()
    driver.wait((driver.home / "checks").exists)
    driver.kill_daemon()
    driver.touch("up")
    driver.start_daemon()
    driver.wait(lambda: driver.job("web")["health"] == "healthy")
    assert len((driver.home / "checks").read_text().splitlines()) == 2
    assert len(driver.wait_for_notes("web")) == 1


def test_passes_without_a_daemon_check_and_restart_as_well(driver: Driver, site: Site) -> None:
    driver.declare({"web": {**SERVICE, "health_check": {"type": "http", "url": site.url, **QUICK}}})
    driver.ask("reconcile")
    assert driver.job("web")["health"] == "healthy"
    site.status = 503
    driver.wait(lambda: driver.ask("reconcile").code == 0 and ended(driver, "web"))
    site.status = 200
    driver.wait(lambda: driver.ask("reconcile").code == 0 and driver.job("web")["health"] == "healthy")
    assert [attempt.reason for attempt in driver.attempts("web")] == [Reason.UNHEALTHY, None]


def test_a_start_without_a_daemon_pulls_in_what_it_needs_and_waits_until_that_is_healthy(driver: Driver) -> None:
    check = {"type": "exec", "cmd": f"test -e {driver.home}/up", "interval": 600}
    slow = noting(f"sleep 0.3; touch {driver.home}/up; exec sleep 1000")
    waits = {"depends_on": [{"job": "db", "condition": "after_healthy"}]}
    driver.declare({"db": {"cmd": slow, "health_check": check}, "report": {"cmd": noting("exit 0"), **waits}})
    driver.ask("run", "report", "--wait")
    assert [note.job_id for note in driver.notes()] == ["db", "report"]
    assert driver.job("db")["health"] == "healthy"


# --- limits ---


@pytest.mark.parametrize("action", ["kill", "restart"])
def test_what_takes_too_much_memory_is_ended(driver: Driver, action: str) -> None:
    limits = {"max_memory_mb": HOGS_MB / 2, "action": action, "check_interval": 0.2}
    driver.declare({"hog": {**SERVICE, "cmd": HOG, "resources": limits}})
    driver.start_daemon()
    first = driver.wait(lambda: ended(driver, "hog"))[0]
    assert first.reason is Reason.MEMORY_LIMIT
    assert first.detail.endswith(f"MB of at most {HOGS_MB // 2} MB")
    if action == "restart":
        driver.wait_for_notes("hog", 2)
        return
    [run] = driver.runs("hog")
    assert (run.state, run.reason, run.detail) == (RunState.FAILED, Reason.MEMORY_LIMIT, first.detail)
    assert first.exit_code == 137
    assert driver.job("hog")["reason"] == f"last run failed: {first.detail}; memory limit"


def test_what_takes_too_much_of_the_processor_is_told_once(driver: Driver) -> None:
    limits = {"max_cpu_percent": 5, "check_interval": 0.3}
    spins = until("calm", "exec sleep 1000").replace("sleep 0.02", ":")
    driver.declare({"spinner": {**SERVICE, "cmd": spins, "resources": limits}})
    driver.start_daemon()
    driver.wait(lambda: "of at most 5%" in str(driver.job("spinner")["reason"]))
    driver.touch("calm")
    driver.wait(lambda: driver.job("spinner")["cpu_percent"] == 0)
    [told] = events(driver, "limit passed")
    assert told["detail"].startswith("CPU: ")
    assert (driver.job("spinner")["reason"], len(driver.notes("spinner"))) == (None, 1)
