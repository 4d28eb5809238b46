"""The relay of `log.timestamps`, run as the manager runs it: from its source, with its descriptors in their places."""

import fcntl
import os
import pkgutil
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.system.relay import Log
from tests.support import Reaper, look_at, wait_until

pytestmark = pytest.mark.real

STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
HIGH = 50
"""Descriptors above those the relay is given, so that putting them in their places overwrites none."""


class Relay:
    def __init__(self, directory: Path, reaper: Reaper) -> None:
        self.stdout_log = directory / "job.log"
        self.stderr_log = directory / "job.error.log"
        self.record = directory / "record"
        source = pkgutil.get_data("procclaw.system", "relay.py")
        assert source is not None
        record = high(os.open(self.record, os.O_RDWR | os.O_CREAT, 0o600))
        fcntl.flock(record, fcntl.LOCK_EX)
        stdout, self.stdout = pipe()
        stderr, self.stderr = pipe()
        argv = [sys.executable, "-I", "-S", "-c", source.decode(), str(self.stdout_log), str(self.stderr_log)]
        places = [(os.POSIX_SPAWN_DUP2, ours, its) for ours, its in ((stdout, 0), (stderr, 3), (record, 4))]
        self.pid = os.posix_spawn(sys.executable, argv, {}, file_actions=places, setsid=True)
        reaper.adopt(self.pid)
        self._open = [self.stdout, self.stderr]
        for fd in (stdout, stderr, record):
            os.close(fd)

    def close(self, fd: int) -> None:
        if fd in self._open:
            self._open.remove(fd)
            os.close(fd)

    def end(self) -> int:
        """Close what is left and wait; its exit code."""
        for fd in list(self._open):
            self.close(fd)
        wait_until(lambda: is_dead(self.pid), 10, self.show)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def has_written(self, text: bytes, log: Path | None = None) -> None:
        log = log or self.stdout_log
        wait_until(lambda: log.exists() and text in log.read_bytes(), 10, self.show)

    def is_record_locked(self) -> bool:
        with open(self.record) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def show(self) -> str:
        files = [path for path in (self.stdout_log, self.stderr_log) if path.exists()]
        return "\n".join(f"{path.name}: {path.read_bytes()[-500:]!r}" for path in files)


def high(fd: int) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return moved


def pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    return high(reading), high(writing)


def is_dead(pid: int) -> bool:
    seen = look_at(pid)
    return seen is None or seen.is_dead


def unstamped(log: bytes) -> bytes:
    """The lines without their times; every line has to have one."""
    lines = log.splitlines(keepends=True)
    assert all(re.match(STAMP, line) for line in lines), log
    return b"".join(re.sub(STAMP, b"", line, count=1) for line in lines)


@pytest.fixture
def relay(tmp_path: Path, reaper: Reaper) -> Iterator[Relay]:
    relay = Relay(tmp_path, reaper)
    yield relay
    relay.close(relay.stdout)
    relay.close(relay.stderr)


def test_each_line_of_each_stream_gets_its_time_in_its_own_log(relay: Relay) -> None:
    os.write(relay.stdout, b"one\n\n\xff\xfe\ntwo\n")
    os.write(relay.stderr, b"trouble\n")
    assert relay.end() == 0
    assert unstamped(relay.stdout_log.read_bytes()) == b"one\n\n\xff\xfe\ntwo\n"
    assert unstamped(relay.stderr_log.read_bytes()) == b"trouble\n"


def test_the_logs_of_a_silent_job_are_there_and_empty(relay: Relay) -> None:
    assert relay.end() == 0
    assert relay.stdout_log.read_bytes() == relay.stderr_log.read_bytes() == b""


def test_a_line_that_comes_in_parts_is_shown_at_once_and_gets_one_time(relay: Relay) -> None:
    os.write(relay.stdout, b"working")
    relay.has_written(b"working")
    os.write(relay.stdout, b"... done\nunfinished")
    assert relay.end() == 0
    assert unstamped(relay.stdout_log.read_bytes()) == b"working... done\nunfinished"


def test_it_stays_until_both_streams_are_closed_and_keeps_the_record_locked_so_long(relay: Relay) -> None:
    relay.close(relay.stdout)
    os.write(relay.stderr, b"still here\n")
    relay.has_written(b"still here\n", relay.stderr_log)
    assert relay.is_record_locked()
    assert relay.end() == 0
    assert not relay.is_record_locked()


def test_signals_that_stop_jobs_do_not_stop_it(relay: Relay) -> None:
    os.write(relay.stdout, b"before\n")
    relay.has_written(b"before\n")
    for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM"):
        os.kill(relay.pid, signal.Signals[f"SIG{name}"])
    os.write(relay.stdout, b"after\n")
    assert relay.end() == 0
    assert unstamped(relay.stdout_log.read_bytes()) == b"before\nafter\n"


def test_what_finds_no_space_is_dropped_and_counted_and_the_job_is_not_blocked(relay: Relay) -> None:
    os.write(relay.stdout, b"fits\n")
    relay.has_written(b"fits\n")
    _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
    # The second line breaks off within; a limit on file sizes refuses like a full disk, and needs no disk of its own.
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (relay.stdout_log.stat().st_size + 30, hard))
    more = b"a line that does not fit whole\n" + b"none of this fits\n" * 9999 + b"nor th"
    while more:
        more = more[os.write(relay.stdout, more) :]
    os.write(relay.stderr, b"fits too\n")
    relay.has_written(b"fits too\n", relay.stderr_log)
    resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (hard, hard))
    os.write(relay.stdout, b"is\nfits again\n")
    assert relay.end() == 0
    shown = unstamped(relay.stdout_log.read_bytes()).splitlines()
    assert shown[0] == b"fits"
    assert b"a line that does not fit whole".startswith(shown[1])
    assert shown[2:] == [b"-- lines lost here: 10001 (File too large) --", b"is", b"fits again"]


def test_a_loss_at_the_very_end_is_told_too(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "missing" / "job.log"))
    log.write(b"one\ntwo\n", b"T ")
    log.write(b"thr", b"T ")
    log.write(b"ee\nfour\n", b"T ")
    (tmp_path / "missing").mkdir()
    log.close(b"U ")
    told = (tmp_path / "missing" / "job.log").read_bytes()
    assert told == b"U -- lines lost here: 4 (No such file or directory) --\n"
