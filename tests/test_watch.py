"""What wakes the daemon, and what does not."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procclaw.system import watch
from procclaw.system.watch import SOCKET, Watcher, Woken, wake
from tests.support import Reaper

pytestmark = pytest.mark.real

LONG = 10.0
"""Seconds that nothing here waits for unless it fails."""


@pytest.fixture
def watcher(home: Path) -> Iterator[Watcher]:
    watcher = Watcher(str(home))
    yield watcher
    watcher.close()


def a_child(reaper: Reaper, *argv: str) -> tuple[int, int]:
    """Its pid, and a handle on its end."""
    child = reaper.spawn(argv)
    return child.pid, os.pidfd_open(child.pid)


def settled(watcher: Watcher) -> Woken:
    """What is left to be told of what has happened already."""
    return watcher.wait(0.05)


def test_nothing_happening_ends_with_the_time(watcher: Watcher) -> None:
    started = time.monotonic()
    assert watcher.wait(0.05) == Woken()
    assert 0.04 <= time.monotonic() - started < LONG


def test_waiting_for_no_time_is_a_look(watcher: Watcher, home: Path) -> None:
    wake(str(home))
    assert watcher.wait(0).requested
    assert watcher.wait(0) == Woken()


# Ends of processes


def test_the_end_of_a_process_is_told_once(watcher: Watcher, reaper: Reaper) -> None:
    pid, handle = a_child(reaper, "sleep", "0.05")
    watcher.add_exit(pid, handle)
    assert watcher.wait(LONG) == Woken(exits=frozenset({pid}))
    assert settled(watcher) == Woken()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_process_that_had_ended_before_is_told_at_once(watcher: Watcher, reaper: Reaper) -> None:
    pid, handle = a_child(reaper, "true")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    watcher.add_exit(pid, handle)
    assert watcher.wait(LONG).exits == {pid}


def test_many_ends_at_once_are_all_told(watcher: Watcher, reaper: Reaper) -> None:
    pids = set()
    for _ in range(40):
        pid, handle = a_child(reaper, "sleep", "600")
        watcher.add_exit(pid, handle)
        pids.add(pid)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    told: set[int] = set()
    while told != pids:
        woken = watcher.wait(LONG)
        assert woken.exits
        told |= woken.exits


def test_who_is_watched_no_longer_is_not_told(watcher: Watcher, reaper: Reaper) -> None:
    pid, handle = a_child(reaper, "sleep", "600")
    watcher.add_exit(pid, handle)
    watcher.remove_exit(pid)
    watcher.remove_exit(pid)
    os.kill(pid, signal.SIGKILL)
    assert settled(watcher) == Woken()


def test_watching_the_same_process_again_replaces_the_handle(watcher: Watcher, reaper: Reaper) -> None:
    pid, handle = a_child(reaper, "sleep", "600")
    watcher.add_exit(pid, handle)
    watcher.add_exit(pid, os.pidfd_open(pid))
    os.kill(pid, signal.SIGKILL)
    assert watcher.wait(LONG).exits == {pid}
    assert settled(watcher) == Woken()


def test_what_cannot_be_watched_is_handed_back_every_second(watcher: Watcher) -> None:
    watcher.add_exit(4711, None)
    started = time.monotonic()
    assert watcher.wait(LONG) == Woken(unwatched=frozenset({4711}))
    assert time.monotonic() - started < 5
    watcher.remove_exit(4711)
    assert settled(watcher) == Woken()


# Files


def write(path: Path, text: str) -> None:
    path.write_text(text)


def write_and_rename(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


@pytest.mark.parametrize("save", [write, write_and_rename])
@pytest.mark.parametrize("name", ["jobs.yaml", "procclaw.yaml", "jobs.d/more.yaml"])
def test_a_saved_file_wakes(home: Path, name: str, save: Callable[[Path, str], None]) -> None:
    (home / "jobs.d").mkdir()
    path = home / name
    path.write_text("jobs: {}")
    watcher = Watcher(str(home))
    try:
        assert settled(watcher) == Woken()
        save(path, "jobs: {a: {cmd: x}}")
        assert watcher.wait(LONG).files_changed
        settled(watcher)
        path.unlink()
        assert watcher.wait(LONG).files_changed
    finally:
        watcher.close()


def test_a_directory_of_jobs_that_appears_later_is_watched_too(watcher: Watcher, home: Path) -> None:
    (home / "jobs.d").mkdir()
    assert watcher.wait(LONG).files_changed
    settled(watcher)
    (home / "jobs.d" / "more.yaml").write_text("jobs: {}")
    assert watcher.wait(LONG).files_changed
    settled(watcher)
    (home / "jobs.d").rename(home / "old")
    assert watcher.wait(LONG).files_changed
    settled(watcher)
    (home / "jobs.d").mkdir()
    assert watcher.wait(LONG).files_changed
    settled(watcher)
    (home / "jobs.d" / "again.yaml").write_text("jobs: {}")
    assert watcher.wait(LONG).files_changed


def test_other_files_of_the_home_do_not_wake(watcher: Watcher, home: Path) -> None:
    started = time.monotonic()
    for name in ("procclaw.db", "procclaw.db-wal", "procclaw.pid", "jobs.yaml.swp", "notes.txt"):
        (home / name).write_text("x")
        (home / name).unlink()
    assert watcher.wait(0.2) == Woken()
    assert time.monotonic() - started >= 0.2


def test_a_file_behind_a_link_is_looked_at_every_second(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "jobs.yaml"
    elsewhere.write_text("jobs: {}")
    (home / "jobs.yaml").symlink_to(elsewhere)
    watcher = Watcher(str(home))
    try:
        assert settled(watcher) == Woken()
        elsewhere.write_text("jobs: {a: {cmd: x}}")
        assert watcher.wait(LONG).files_changed
        assert settled(watcher) == Woken()
    finally:
        watcher.close()


@pytest.fixture(params=["no inotify", "no watches left"])
def without_inotify(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no inotify":
        monkeypatch.setattr(watch, "_open_inotify", lambda: None)
    else:
        monkeypatch.setattr(watch._Inotify, "watch", lambda self, directory: False)


def test_without_inotify_files_are_looked_at_every_second(without_inotify: None, home: Path) -> None:
    (home / "jobs.yaml").write_text("jobs: {}")
    watcher = Watcher(str(home))
    try:
        assert settled(watcher) == Woken()
        (home / "jobs.yaml").write_text("jobs: {a: {cmd: x}}")
        started = time.monotonic()
        assert watcher.wait(LONG).files_changed
        assert time.monotonic() - started < 5
    finally:
        watcher.close()


# Requests


def test_a_request_wakes_from_another_thread(watcher: Watcher, home: Path) -> None:
    asking = threading.Timer(0.05, wake, [str(home)])
    asking.start()
    assert watcher.wait(LONG) == Woken(requested=True)
    asking.join()


def test_many_requests_are_one(watcher: Watcher, home: Path) -> None:
    # More than a socket's queue holds: the sender is not held up.
    assert all(wake(str(home)) for _ in range(2000))
    assert watcher.wait(LONG) == Woken(requested=True)
    assert settled(watcher) == Woken()


def test_waking_nobody_is_harmless(home: Path) -> None:
    assert not wake(str(home))
    Watcher(str(home)).close()
    assert not wake(str(home))
    abandoned = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    abandoned.bind(str(home / SOCKET))
    abandoned.close()
    assert not wake(str(home))
    assert not wake(str(home / "missing"))


def test_the_socket_of_a_daemon_that_was_killed_is_taken_over(home: Path) -> None:
    abandoned = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    abandoned.bind(str(home / SOCKET))
    abandoned.close()
    watcher = Watcher(str(home))
    try:
        assert wake(str(home))
        assert watcher.wait(LONG).requested
        assert (home / SOCKET).stat().st_mode & 0o777 == 0o600
    finally:
        watcher.close()
    assert not (home / SOCKET).exists()


def test_a_home_too_deep_for_a_sockets_address_is_woken_all_the_same(home: Path) -> None:
    deep = home / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    watcher = Watcher(str(deep))
    try:
        assert wake(str(deep))
        assert watcher.wait(LONG) == Woken(requested=True)
    finally:
        watcher.close()
    assert list(deep.iterdir()) == []


def test_where_no_socket_can_be_bound_the_caller_may_look_every_second(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / SOCKET).mkdir()
    watcher = Watcher(str(home))
    try:
        started = time.monotonic()
        assert watcher.wait(LONG) == Woken()
        assert time.monotonic() - started < 5
        assert not wake(str(home))
    finally:
        watcher.close()


# Signals, and everything together


def test_bytes_on_the_signal_descriptor_are_signals(home: Path) -> None:
    reading, writing = os.pipe()
    watcher = Watcher(str(home), reading)
    try:
        os.write(writing, bytes([signal.SIGTERM, signal.SIGCHLD, signal.SIGCHLD]))
        assert watcher.wait(LONG) == Woken(signals=frozenset({signal.SIGTERM, signal.SIGCHLD}))
        assert settled(watcher) == Woken()
    finally:
        watcher.close()
        os.close(reading)
        os.close(writing)


def test_all_reasons_are_told_together(home: Path, reaper: Reaper) -> None:
    reading, writing = os.pipe()
    watcher = Watcher(str(home), reading)
    try:
        pid, handle = a_child(reaper, "true")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        watcher.add_exit(pid, handle)
        os.write(writing, bytes([signal.SIGHUP]))
        (home / "jobs.yaml").write_text("jobs: {}")
        wake(str(home))
        assert watcher.wait(LONG) == Woken(frozenset({pid}), frozenset({signal.SIGHUP}), True, True)
    finally:
        watcher.close()
        os.close(reading)
        os.close(writing)


def test_closing_leaves_no_descriptor_open(home: Path, reaper: Reaper) -> None:
    before = sorted(os.listdir("/dev/fd"))
    watcher = Watcher(str(home))
    pid, handle = a_child(reaper, "sleep", "600")
    watcher.add_exit(pid, handle)
    watcher.wait(0)
    watcher.close()
    assert sorted(os.listdir("/dev/fd")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux has a limit to them")
def test_whether_one_more_watcher_could_be_had_leaves_none_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert watch.can_watch() is True
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_home_is_reachable_however_long_its_path(tmp_path: Path) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    assert watch.is_reachable(str(tmp_path))
    assert watch.is_reachable(str(long))
    assert not watch.is_reachable(str(long / "nowhere"))
