"""What every test gets: a home of its own, a machine that is left alone, and the built .pyz.

While tests run, this process cannot open, create, change or delete anything in the user's real home, nor talk to
anything but this machine: an audit hook raises. What tests start finds a HOME of its own and no session bus.
"""

import fcntl
import ipaddress
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import CommandLine
from tests.driver import Driver, driving
from tests.support import Reaper

ROOT = Path(__file__).resolve().parent.parent
REAL_HOME = os.path.expanduser("~")

# The sun_path of a Unix socket has room for 108 bytes, so a home cannot lie below pytest's long names.
SHORT_TMP = "/tmp"


class OutOfBounds(BaseException):
    """A test reached for something outside its own little world.

    No `Exception`, so that no boundary between the culprit and the test takes it for an error to report.
    """


FILE_EVENTS = ("chmod", "chown", "link", "listdir", "mkdir", "remove", "rename", "rmdir", "scandir", "symlink", "utime")
PATH_EVENTS = frozenset({"open", "os.truncate", "sqlite3.connect", *(f"os.{name}" for name in FILE_EVENTS)})
NETWORK_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"})
LOOKUP_EVENTS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
LOOPBACK_NAMES = frozenset({"", "localhost", "ip6-localhost"})


class Guard:
    """The audit hook. It cannot be taken out again, only disarmed."""

    def __init__(self, home: str, allowed: tuple[str, ...]) -> None:
        self.is_armed = False
        self._home = os.path.join(home, "")
        self._allowed = tuple(os.path.join(path, "") for path in allowed)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_armed:
            return
        if event in PATH_EVENTS:
            for argument in arguments:
                self._check_path(event, argument)
        elif event in NETWORK_EVENTS:
            self._check_address(event, arguments[-1])
        elif event in LOOKUP_EVENTS:
            self._check_host(event, arguments[0])

    def _check_path(self, event: str, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        # The trailing slash makes the home itself lie inside it.
        full = os.path.join(os.path.abspath(os.fsdecode(path).removeprefix("file:")), "")
        if full.startswith(self._home) and not full.startswith(self._allowed):
            raise OutOfBounds(f"{event} in the user's home: {full[:-1]}")

    def _check_address(self, event: str, address: object) -> None:
        if isinstance(address, tuple):
            self._check_host(event, address[0])
        else:
            self._check_path(event, address)

    def _check_host(self, event: str, host: object) -> None:
        if isinstance(host, bytes):
            host = host.decode(errors="replace")
        if host is None or host in LOOPBACK_NAMES or is_loopback(str(host)):
            return
        raise OutOfBounds(f"{event} beyond this machine: {host}")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def running_from() -> tuple[str, ...]:
    """Where this very Python, its packages and the checkout lie, which may well be below the home."""
    places = [str(ROOT), tempfile.gettempdir(), sys.prefix, sys.base_prefix, sys.exec_prefix]
    places += [path for path in (*sys.path, *site.getsitepackages()) if os.path.isabs(path)]
    return tuple(place for place in places if os.path.commonpath([place, REAL_HOME]) != place)


guard = Guard(REAL_HOME, running_from())
sys.addaudithook(guard)


@pytest.fixture(scope="session", autouse=True)
def little_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Children find another HOME and nothing of the user's session; this process is held to its bounds."""
    # A script that runs the tests in the background, or nohup, has these ignored, which every child would inherit.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOME", str(tmp_path_factory.mktemp("user")))
        for name in list(os.environ):
            if name.startswith(("PROCCLAW_", "XDG_", "DBUS_")):
                environment.delenv(name)
        # Without a word we would look where logind puts the user's own.
        environment.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus-of-the-tests")
        guard.is_armed = True
        yield
        guard.is_armed = False


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    """Ends whatever is handed to it, and all that comes of it, however the test ends."""
    reaper = Reaper()
    yield reaper
    reaper.end()


@pytest.fixture
def home(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty PROCCLAW_HOME for this test alone; what was started with it is ended before it goes."""
    path = Path(tempfile.mkdtemp(prefix="procclaw-", dir=SHORT_TMP))
    monkeypatch.setenv("PROCCLAW_HOME", str(path))
    reaper.watch_home(path)
    yield path
    reaper.end()
    shutil.rmtree(path)


@pytest.fixture
def driver(home: Path, reaper: Reaper) -> Iterator[Driver]:
    """ProcClaw's command line on this test's home."""
    with driving(home, reaper) as driver:
        yield driver


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The same in this very process, where that shows as much and costs less."""
    umask = os.umask(0o022)
    yield CommandLine(home, capsys, monkeypatch)
    os.umask(umask)


@pytest.fixture(scope="session")
def built_pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """procclaw.pyz, built once for all workers of this run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    pyz = shared / "procclaw.pyz"
    with open(shared / "procclaw.pyz.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not pyz.exists():
            # With the real HOME: pip may be told there where to look.
            environment = {**os.environ, "HOME": REAL_HOME}
            command = [sys.executable, str(ROOT / "build_zipapp.py"), "--output", str(pyz)]
            subprocess.run(command, env=environment, check=True, timeout=300)
    return pyz
