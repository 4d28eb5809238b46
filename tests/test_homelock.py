"""One holder per home, whoever asks, and free at the moment it dies."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.model.errors import ProcclawError
from procclaw.system.homelock import Holder, HomeLock

US = Holder(os.getpid(), 12345, "daemon")
OTHER = Holder(4711, 67890, "reconcile")
ROOT = str(Path(__file__).resolve().parent.parent)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "procclaw.lock")


@pytest.fixture
def lock(path: str) -> Iterator[HomeLock]:
    lock = HomeLock(path)
    yield lock
    lock.release()


def test_a_free_lock_has_no_holder(lock: HomeLock) -> None:
    assert lock.holder() is None
    assert not lock.is_current()


def test_who_took_it_is_named_and_the_file_is_private(lock: HomeLock, path: str) -> None:
    assert lock.try_acquire(US)
    assert lock.is_current()
    assert lock.holder() == HomeLock(path).holder() == US
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_taking_it_again_changes_nothing(lock: HomeLock) -> None:
    assert lock.try_acquire(US)
    assert lock.try_acquire(OTHER)
    assert lock.holder() == US


def test_a_second_one_is_refused_until_the_first_releases(lock: HomeLock, path: str) -> None:
    second = HomeLock(path)
    assert lock.try_acquire(US)
    assert not second.try_acquire(OTHER)
    assert not second.is_current()
    lock.release()
    assert lock.holder() is None
    assert second.try_acquire(OTHER)
    assert lock.holder() == OTHER
    second.release()


def test_a_killed_holder_frees_it_and_leaves_nobody_named(lock: HomeLock, path: str) -> None:
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from procclaw.system.homelock import Holder, HomeLock\n"
        "lock = HomeLock(sys.argv[2]); print(lock.try_acquire(Holder(os.getpid(), 1, 'daemon')), flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", program, ROOT, path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
        try:
            assert holding.stdout is not None
            assert holding.stdout.readline() == b"True\n"
            assert lock.holder() == Holder(holding.pid, 1, "daemon")
            assert not lock.try_acquire(US)
        finally:
            holding.send_signal(signal.SIGKILL)
    assert lock.holder() is None
    assert lock.try_acquire(US)


def test_a_lock_whose_file_was_removed_is_current_no_longer(lock: HomeLock, path: str) -> None:
    assert lock.try_acquire(US)
    os.unlink(path)
    assert not lock.is_current()
    second = HomeLock(path)
    assert second.try_acquire(OTHER)
    assert not lock.is_current()
    assert not lock.try_acquire(US)
    second.release()
    assert lock.try_acquire(US)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"4711",
        b'{"pid": "x", "start_ticks": 1, "role": "a"}',
        b'{"pid": -1, "start_ticks": 1, "role": ""}',
    ],
)
def test_a_holder_that_cannot_be_read_is_still_a_holder(lock: HomeLock, path: str, text: bytes) -> None:
    assert lock.try_acquire(US)
    with open(path, "wb") as told:
        told.write(text)
    assert lock.holder() == Holder(None, None, "")


def test_asking_who_holds_it_does_not_keep_anybody_from_taking_it(lock: HomeLock, path: str) -> None:
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            HomeLock(path).holder()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(200):
            assert lock.try_acquire(US)
            lock.release()
    finally:
        is_over.set()
        asking.join()


def test_a_link_in_the_place_of_the_file_is_not_followed(lock: HomeLock, path: str, tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", path)
    for ask in (lambda: lock.try_acquire(US), lock.holder):
        with pytest.raises(ProcclawError, match=r"lock: too many levels of symbolic links; check what is there"):
            ask()
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_in_the_place_of_the_file_is_told(lock: HomeLock, path: str) -> None:
    os.mkdir(path)
    with pytest.raises(ProcclawError, match=r"lock: is a directory; check what is there"):
        lock.try_acquire(US)


def test_a_pipe_in_the_place_of_the_file_keeps_nobody_waiting(lock: HomeLock, path: str) -> None:
    os.mkfifo(path)
    told: list[str] = []

    def ask() -> None:
        for each in (lambda: lock.try_acquire(US), lock.holder):
            with pytest.raises(ProcclawError) as refused:
                each()
            told.append(str(refused.value))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    try:
        assert told == [f"{path}: is no ordinary file; check what is there, its owner and the disk"] * 2
    finally:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def test_the_lock_is_not_inherited(lock: HomeLock, path: str) -> None:
    assert lock.try_acquire(US)
    held = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        lock.release()
        with open(path, "rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        held.kill()
        held.wait()
