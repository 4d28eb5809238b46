"""What is told to whoever started ProcClaw as a service: real datagrams, of a real daemon where it is the daemon's."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.system.notifysocket import NotifySocket, from_environment
from tests.driver import STAYS, WITHIN, Driver, is_alive
from tests.support import environment, wait_until

WATCHDOG_SECONDS = 1.0


class Listener:
    """What systemd is to a service: a datagram socket, and what came in there so far."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0)
        self.messages: list[list[str]] = []

    def hear(self) -> list[str]:
        """All lines so far, in order."""
        while True:
            try:
                self.messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return [line for message in self.messages for line in message]

    def has(self, line: str) -> bool:
        return line in self.hear()

    def count(self, line: str) -> int:
        return self.hear().count(line)

    def forget(self) -> None:
        self.hear()
        self.messages.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, home: Path) -> Iterator[Listener]:
    listener = Listener(str(home / "notify") if request.param == "path" else f"@{home.name}")
    yield listener
    listener.close()


def test_a_message_is_one_datagram_of_lines(listener: Listener) -> None:
    line = NotifySocket(listener.address)
    line.ready("3 jobs run")
    line.reloading(12.5, "becoming new")
    line.stopping()
    listener.hear()
    assert listener.messages == [
        ["READY=1", "STATUS=3 jobs run"],
        ["RELOADING=1", "MONOTONIC_USEC=12500000", "STATUS=becoming new"],
        ["STOPPING=1", "STATUS=stopping, jobs go on running"],
    ]
    line.close()


def test_a_status_is_told_when_it_is_another_one(listener: Listener) -> None:
    line = NotifySocket(listener.address)
    line.ready("none")
    for text in ("none", "one", "one", "two"):
        line.status(text)
    assert listener.hear() == ["READY=1", "STATUS=none", "STATUS=one", "STATUS=two"]
    line.close()


def test_a_sign_of_life_is_given_at_half_the_time_that_it_is_waited_for(listener: Listener) -> None:
    line = NotifySocket(listener.address, watchdog_seconds=10.0)
    told = []
    for now in (100.0, 100.1, 104.9, 105.0, 109.9, 110.0, 140.0):
        before = listener.count("WATCHDOG=1")
        line.alive(now)
        if listener.count("WATCHDOG=1") > before:
            told.append(now)
    assert told == [100.0, 105.0, 110.0, 140.0]
    assert line.patience_seconds(141.0) == 4.0
    assert line.patience_seconds(146.0) == 0.0
    line.close()


def test_nobody_who_waits_for_a_sign_of_life_gets_none_and_limits_no_sleep(listener: Listener) -> None:
    line = NotifySocket(listener.address)
    line.alive(1.0)
    assert line.patience_seconds(1.0) is None
    assert listener.hear() == []
    line.close()


@pytest.mark.parametrize("address", [None, "", "/there/is/none", "vsock:2:1234", "relative"])
def test_where_nobody_listens_nothing_is_said_and_nothing_fails(address: str | None) -> None:
    line = NotifySocket(address, watchdog_seconds=10.0)
    line.ready("x")
    line.alive(1.0)
    line.stopping()
    assert line.patience_seconds(1.0) is None
    line.close()


def test_a_listener_that_reads_nothing_holds_nobody_up_and_is_not_tried_in_a_spin(home: Path) -> None:
    listener = Listener(str(home / "notify"))
    line = NotifySocket(listener.address, watchdog_seconds=60.0)
    began = time.monotonic()
    for number in range(2000):
        line.status(f"{number}")
    line.alive(100.0)
    assert time.monotonic() - began < 2
    assert line.patience_seconds(100.0) == 1.0
    listener.close()
    line.alive(200.0)
    assert line.patience_seconds(200.0) == 1.0
    line.close()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: float | None
) -> None:
    listener = Listener(str(home / "notify"))
    for name, value in {**variables, "NOTIFY_SOCKET": listener.address}.items():
        monkeypatch.setenv(name, value)
    line = from_environment()
    assert line.interval_seconds == wanted
    assert os.environ["NOTIFY_SOCKET"] == listener.address
    line.close()
    listener.close()


# --- the daemon ---


def serve(driver: Driver, listener: Listener) -> "subprocess.Popen[bytes]":
    """A daemon, started as systemd starts it: no shell between, so WATCHDOG_PID is left out."""
    watchdog = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000))}
    return driver.reaper.spawn(
        driver.argv("daemon", "start", "--foreground"),
        env={**os.environ, "PROCCLAW_HOME": str(driver.home), **watchdog},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.real
def test_ready_comes_when_all_that_is_declared_has_been_seen_to(driver: Driver, listener: Listener) -> None:
    driver.declare({f"service{number}": {"type": "continuous", "cmd": STAYS} for number in range(20)})
    daemon = serve(driver, listener)
    driver.wait(lambda: listener.has("READY=1"))
    assert all(driver.attempts(f"service{number}") for number in range(20))
    holder = driver.holder()
    assert holder is not None
    assert (holder.pid, holder.is_up) == (daemon.pid, True)
    assert listener.messages[0] == ["READY=1", "STATUS=20 jobs run, of 20 declared"]
    driver.ask("stop", "service7")
    driver.wait(lambda: listener.has("STATUS=19 jobs run, of 20 declared"))


@pytest.mark.real
def test_signs_of_life_come_from_an_idle_daemon_and_none_from_one_that_stands_still(
    driver: Driver, listener: Listener
) -> None:
    driver.declare({})
    daemon = serve(driver, listener)
    driver.wait(lambda: listener.has("READY=1"))
    began = time.monotonic()
    listener.forget()
    driver.wait(lambda: listener.count("WATCHDOG=1") >= 6)
    # Not much more often than at half the time: six of them span five intervals.
    assert time.monotonic() - began > 4 * WATCHDOG_SECONDS / 2
    os.kill(daemon.pid, signal.SIGSTOP)
    stands_still_at = time.monotonic()
    listener.forget()
    driver.wait(lambda: time.monotonic() > stands_still_at + 2 * WATCHDOG_SECONDS)
    # One may have been on its way.
    assert listener.count("WATCHDOG=1") <= 1
    os.kill(daemon.pid, signal.SIGCONT)
    before = listener.count("WATCHDOG=1")
    driver.wait(lambda: listener.count("WATCHDOG=1") >= before + 2)


@pytest.mark.real
def test_a_daemon_that_is_asked_to_end_says_so(driver: Driver, listener: Listener) -> None:
    driver.declare({"service": {"type": "continuous", "cmd": STAYS}})
    daemon = serve(driver, listener)
    driver.wait(lambda: listener.has("READY=1"))
    assert not listener.has("STOPPING=1")
    driver.wait_for_notes("service")
    assert driver.ask("daemon", "stop").out == "daemon stopped; 1 job goes on running\n"
    assert listener.has("STOPPING=1")
    assert daemon.wait(WITHIN) == 0


@pytest.mark.real
def test_a_job_is_not_told_where_the_daemon_reports_to(driver: Driver, listener: Listener) -> None:
    driver.declare(
        {
            "service": {"type": "continuous", "cmd": STAYS},
            "checked": {
                "type": "continuous",
                "cmd": STAYS,
                "health_check": {"type": "exec", "cmd": 'env >"$PROCCLAW_HOME/seen"', "interval": 1},
            },
        }
    )
    serve(driver, listener)
    driver.wait(lambda: listener.has("READY=1"))
    [note] = driver.wait_for_notes("service")
    # Each check empties it before it writes.
    seen = driver.wait(lambda: (driver.home / "seen").read_text() if (driver.home / "seen").exists() else "")
    found = {each.decode(errors="replace") for each in environment(note.pid)}
    found |= set(seen.splitlines())
    assert any(each.startswith("PROCCLAW_JOB_ID=") for each in found)
    assert not [each for each in found if each.startswith(("NOTIFY_SOCKET", "WATCHDOG_"))]


@pytest.mark.real
def test_a_daemon_in_the_background_is_no_part_of_the_service_that_started_it(
    driver: Driver, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.declare({})
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    driver.start_daemon()
    driver.ask("daemon", "stop")
    assert listener.hear() == []


@pytest.mark.real
@pytest.mark.artefact
@pytest.mark.parametrize("listener", ["path"], indirect=True)
def test_becoming_a_new_version_is_told_and_keeps_the_line(
    home: Path, built_pyz: Path, driver: Driver, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pid stays, so the watchdog does; 20 s pass before the daemon looks at its file."""
    program = home / "procclaw.pyz"
    program.write_bytes(built_pyz.read_bytes())
    driver.program = program
    driver.declare({"service": {"type": "continuous", "cmd": STAYS}})
    daemon = serve(driver, listener)
    driver.wait(lambda: listener.has("READY=1"))
    [note] = driver.wait_for_notes("service")
    beside = home / "new"
    beside.write_bytes(built_pyz.read_bytes())
    beside.rename(program)
    wait_until(lambda: listener.has("RELOADING=1"), 60, driver.show)
    wait_until(lambda: listener.count("READY=1") == 2, 60, driver.show)
    assert is_alive(daemon.pid)
    assert is_alive(note.pid)
    told = listener.count("WATCHDOG=1")
    driver.wait(lambda: listener.count("WATCHDOG=1") > told)
