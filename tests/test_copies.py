"""Copies of this process: what they are told, how they end, and that they never stay."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from procclaw.model.errors import ProcclawError
from procclaw.system.processes.copies import Nursery, die
from procclaw.system.processes.signals import interruptible, uninterrupted
from tests.driver import is_alive
from tests.support import Reaper, wait_until

pytestmark = pytest.mark.real

WITHIN = 10.0


def carry_out(order: Sequence[str]) -> int:
    match order:
        case ["write", path, text]:
            Path(path).write_text(text)
            return 0
        case ["end", code]:
            return int(code)
        case ["die"]:
            die()
        case ["stay"]:
            signal.pause()
    raise ValueError(order)


@pytest.fixture
def nursery(reaper: Reaper) -> Iterator[Nursery]:
    nursery = Nursery(carry_out)
    yield nursery
    nursery.close()


def ended(nursery: Nursery, *words: str) -> int | None:
    return nursery.wait(nursery.start(*words), WITHIN)


def test_a_copy_does_what_it_is_told_and_tells_how_it_ended(nursery: Nursery, tmp_path: Path) -> None:
    assert ended(nursery, "write", str(tmp_path / "told"), "a line\nand another") == 0
    assert (tmp_path / "told").read_text() == "a line\nand another"
    assert ended(nursery, "end", "7") == 7


def test_a_copy_that_dies_was_killed(nursery: Nursery) -> None:
    assert ended(nursery, "die") == -signal.SIGKILL


def test_a_copy_with_a_bug_ends_with_3_and_goes_no_further(nursery: Nursery) -> None:
    assert ended(nursery, "what nobody can do") == 3
    assert ended(nursery, "end", "0") == 0


def test_of_several_copies_each_has_its_own_end(nursery: Nursery) -> None:
    pids = {code: nursery.start("end", str(code)) for code in range(20)}
    assert {code: nursery.wait(pid, WITHIN) for code, pid in pids.items()} == {code: code for code in range(20)}


def test_a_copy_lives_until_it_is_killed_and_that_may_be_repeated(nursery: Nursery) -> None:
    pid = nursery.start("stay")
    assert nursery.wait(pid, 0.05) is None
    nursery.kill(pid)
    assert nursery.wait(pid, WITHIN) == -signal.SIGKILL
    nursery.kill(pid)


def test_what_is_no_copy_is_not_killed(nursery: Nursery, reaper: Reaper) -> None:
    stays = nursery.start("stay")
    stranger = reaper.spawn(["sleep", "600"])
    for pid in (0, -stays, stranger.pid):
        nursery.kill(pid)
    # One after the other: by now it has judged them all.
    assert ended(nursery, "end", "0") == 0
    assert (nursery.code(stays), stranger.poll()) == (None, None)


def test_a_copy_is_in_a_session_of_its_own_so_that_no_terminal_interrupts_it(nursery: Nursery) -> None:
    pid = nursery.start("stay")
    wait_until(lambda: os.getsid(pid) == pid, WITHIN, lambda: os.getsid(pid))


def test_closing_leaves_no_copy_behind(reaper: Reaper) -> None:
    nursery = Nursery(carry_out)
    pids = [nursery.start("stay") for _ in range(3)]
    assert all(map(is_alive, pids))
    nursery.close()
    assert not any(map(is_alive, pids))
    nursery.close()


def test_the_older_of_two_nurseries_can_be_closed_first(reaper: Reaper) -> None:
    older, newer = Nursery(carry_out), Nursery(carry_out)
    pid = older.start("stay")
    older.close()
    assert not is_alive(pid)
    assert ended(newer, "end", "0") == 0
    newer.close()


def test_copies_do_not_outlive_the_process_that_ordered_them(reaper: Reaper, tmp_path: Path) -> None:
    """It is killed, so it cannot close anything."""

    def order(words: Sequence[str]) -> int:
        (tmp_path / "pid").write_text(str(Nursery(carry_out).start("stay")))
        die()

    outer = Nursery(order)
    assert ended(outer, "") == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_alive(pid), WITHIN, lambda: pid)
    outer.close()


def test_a_nursery_that_was_killed_is_said_to_be_gone(reaper: Reaper) -> None:
    nursery = Nursery(carry_out)
    os.kill(nursery._pid, signal.SIGKILL)
    with pytest.raises((ProcclawError, BrokenPipeError)):
        nursery.start("end", "0")
    nursery.close()


# --- being told to end ---


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_is_told_to_end_can_put_things_away_first(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        os.kill(os.getpid(), signum)
        time.sleep(WITHIN)
    assert signal.getsignal(signum) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_putting_away_is_not_interrupted_and_the_interruption_is_heard_afterwards(signum: signal.Signals) -> None:
    is_put_away = False
    # A signal comes by way of any thread that does not block it.
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, args=(WITHIN,))
    thread.start()
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        with uninterrupted():
            os.kill(os.getpid(), signum)
            is_put_away = True
        time.sleep(WITHIN)
    ended.set()
    thread.join()
    assert is_put_away
