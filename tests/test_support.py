"""The safety net of the tests themselves: bounds that hold, processes that end, waits that explain."""

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REAL_HOME, OutOfBounds
from tests.support import STAY, Reaper, look_at, wait_until

PYTHON = [sys.executable, "-I", "-S", "-c"]
# Behind two forks and in a session of its own, it prints its pid, closes the pipe and stays; its parents have gone.
DAEMONISE = f"""
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, str(os.getpid()).encode())
        os.close(1)
        {STAY}
    os._exit(0)
os._exit(0)
"""


def test_a_file_in_the_users_home_cannot_be_opened() -> None:
    with pytest.raises(OutOfBounds, match="open in the user's home"):
        Path(REAL_HOME, ".procclaw", "jobs.yaml").read_text()


def test_nothing_can_be_made_or_deleted_in_the_users_home() -> None:
    with pytest.raises(OutOfBounds, match=r"os\.mkdir"):
        os.mkdir(os.path.join(REAL_HOME, ".procclaw"))
    with pytest.raises(OutOfBounds, match=r"os\.remove"):
        os.remove(Path(REAL_HOME) / ".procclaw-that-does-not-exist")


def test_a_database_in_the_users_home_cannot_be_opened() -> None:
    with pytest.raises(OutOfBounds, match=r"sqlite3\.connect"):
        sqlite3.connect(f"file:{REAL_HOME}/.procclaw/procclaw.db", uri=True)


def test_a_socket_in_the_users_home_cannot_be_reached() -> None:
    with socket.socket(socket.AF_UNIX) as unix, pytest.raises(OutOfBounds, match=r"socket\.connect"):
        unix.connect(f"{REAL_HOME}/.procclaw/procclaw.sock")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_no_other_machine_can_be_connected_to(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as stream, pytest.raises(OutOfBounds, match="beyond this machine"):
        stream.connect((address, 9))
    with socket.socket(family, socket.SOCK_DGRAM) as datagram, pytest.raises(OutOfBounds, match="beyond this machine"):
        datagram.sendto(b"", (address, 9))


def test_no_name_of_another_machine_can_be_looked_up() -> None:
    with pytest.raises(OutOfBounds, match=r"example\.invalid"):
        socket.getaddrinfo("example.invalid", 80)


def test_this_machine_can_be_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_a_child_finds_another_home_and_a_session_bus_at_nowhere() -> None:
    script = "import os; print(os.path.expanduser('~')); print(os.environ['DBUS_SESSION_BUS_ADDRESS'])"
    seen = subprocess.run([*PYTHON, script], capture_output=True, text=True, check=True).stdout.split()
    assert seen[0] != REAL_HOME
    assert not Path(seen[1].removeprefix("unix:path=")).exists()


def test_a_home_is_private_and_short_enough_for_its_socket(home: Path) -> None:
    assert home.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(home / "procclaw.sock")) < 108
    assert os.environ["PROCCLAW_HOME"] == str(home)


def test_a_wait_returns_what_its_condition_returned() -> None:
    answers = iter([0, None, 7])
    assert wait_until(lambda: next(answers), within=5, show=lambda: "") == 7


def test_a_wait_that_fails_shows_the_state() -> None:
    with pytest.raises(AssertionError, match=r"did not hold within 0 s; the state is:\nnobody here"):
        wait_until(lambda: False, within=0, show=lambda: "nobody here")


def test_the_reaper_ends_what_it_spawned() -> None:
    reaper = Reaper()
    child = reaper.spawn([*PYTHON, STAY])
    reaper.end()
    assert child.returncode == -9


def test_the_reaper_ends_a_double_forked_process_that_left_its_session(home: Path) -> None:
    """Found by its home: neither parent nor session lead to it."""
    pid = int(subprocess.run([*PYTHON, DAEMONISE], stdout=subprocess.PIPE, check=True).stdout)
    reaper = Reaper()
    reaper.watch_home(home)
    reaper.end()
    assert is_gone(pid)


def test_the_reaper_ends_the_session_of_a_leader_that_is_gone() -> None:
    reaper = Reaper()
    script = "sleep 600 & echo $!"
    leader = reaper.spawn(["sh", "-c", script], env={}, stdout=subprocess.PIPE, text=True, start_new_session=True)
    pid = int(leader.stdout.readline())  # type: ignore[union-attr]
    leader.wait()
    reaper.end()
    assert is_gone(pid)


def test_the_reaper_leaves_strangers_alone(reaper: Reaper) -> None:
    stranger = reaper.spawn([*PYTHON, STAY], env={})
    other = Reaper()
    other.watch_home("/nowhere")
    other.end()
    assert stranger.poll() is None


def is_gone(pid: int) -> bool:
    seen = look_at(pid)
    return seen is None or seen.is_dead
