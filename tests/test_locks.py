"""Locks on a real kernel: who has them, in which order others get them, and that nobody has them when all are gone."""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine import world
from procclaw.model.clock import SystemClock
from procclaw.model.errors import Conflict, DiskFull, ProcclawError, StoreError
from procclaw.model.outside import LockClaim
from procclaw.model.spec import LockProvider
from procclaw.system.locks import VOUCH_SECONDS, Locks
from procclaw.system.store.lockbook import PASSED_OVER_SECONDS, UNSEEN_SECONDS, Lockbook, Member
from tests.support import Reaper, wait_until

FILE, SQLITE = LockProvider.FILE, LockProvider.SQLITE
BOTH = pytest.mark.parametrize("provider", list(LockProvider))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parent.parent

LOCKS_OF_A_HOME = """
import sys
from procclaw.model.outside import LockClaim
from procclaw.model.clock import SystemClock
from procclaw.model.spec import LockProvider
from procclaw.system.locks import Locks
from procclaw.system.store.lockbook import Lockbook, Member
home, provider, path = sys.argv[1:]
claim = LockClaim("l", "disk", LockProvider(provider), path, "job", "run", 0, 0)
locks = Locks(home, SystemClock(), lambda path: Lockbook(path, Member("h", "b", home)))
"""


class HandClock(SystemClock):
    """Goes only when it is told to."""

    def __init__(self) -> None:
        self.at = NOW
        self.passed = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.passed

    def go(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.passed += seconds


class Home:
    """One of the homes that may share a lock, as its manager sees it."""

    def __init__(self, path: Path, clock: HandClock, host: str = "here", boot: str = "boot 1") -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self.path = path
        self.clock = clock
        self.member = Member(host, boot, str(path))
        self.start_manager()

    def start_manager(self) -> None:
        self.locks = Locks(str(self.path), self.clock, lambda path: Lockbook(path, self.member))
        # What the engine is written against.
        self.as_seen_by_the_engine: world.Locks = self.locks

    def claim(
        self,
        provider: LockProvider,
        path: Path | None = None,
        job: str = "report",
        name: str = "disk",
        priority: int = 2,
        asked_ago: float = 0,
    ) -> LockClaim:
        since = int((NOW.timestamp() - asked_ago) * 1_000_000)
        where = None if path is None else str(path)
        return LockClaim(f"{provider}:{where}:{name}", name, provider, where, job, f"{job}run", priority, since)

    def can_take(self, claim: LockClaim) -> bool:
        """Whether it is free; let go again."""
        free = self.locks.look([claim])[claim.lock].is_free
        self.locks.let_go()
        return free

    def holder(self, claim: LockClaim) -> str:
        sight = self.locks.look([claim])[claim.lock]
        self.locks.let_go()
        assert not sight.is_free
        return sight.holder

    def give(self, claim: LockClaim, to: Callable[[int], Any] = lambda fd: None) -> int:
        """Take it and hand it over to what `to` starts with the descriptor; the token."""
        assert self.locks.look([claim])[claim.lock].is_free
        fd, token = self.locks.hand_over(claim.lock, f"job {claim.job_id}, run {claim.run_id}")
        to(fd)
        self.locks.let_go()
        return token


class Running:
    """Something that inherited a lock; it ends when told."""

    def __init__(self, reaper: Reaper, program: Sequence[str] = ("cat",)) -> None:
        self._reaper = reaper
        self._program = program
        self.child: subprocess.Popen[bytes] | None = None

    def __call__(self, fd: int) -> None:
        self.child = self._reaper.spawn(
            self._program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd], start_new_session=True
        )

    def end(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait(timeout=10)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ours(tmp_path: Path, clock: HandClock) -> Iterator[Home]:
    home = Home(tmp_path / "ours", clock)
    yield home
    home.locks.let_go()


@pytest.fixture
def theirs(tmp_path: Path, clock: HandClock) -> Iterator[Home]:
    home = Home(tmp_path / "theirs", clock)
    yield home
    home.locks.let_go()


@pytest.fixture
def running(reaper: Reaper) -> Running:
    return Running(reaper)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir()
    return path


@BOTH
def test_a_lock_in_our_hand_is_refused_to_others_until_we_let_go(
    ours: Home, theirs: Home, provider: LockProvider, shared: Path
) -> None:
    claim = ours.claim(provider, shared)
    assert ours.locks.look([claim])[claim.lock].is_free
    assert not theirs.can_take(claim)
    ours.locks.let_go()
    # Nobody waits before them: we have not asked in vain.
    assert theirs.can_take(claim)


@BOTH
def test_a_lock_is_held_while_its_holder_lives_and_free_once_it_is_dead(
    ours: Home, provider: LockProvider, running: Running
) -> None:
    claim = ours.claim(provider)
    ours.give(claim, running)
    assert not ours.can_take(claim)
    running.end()
    assert ours.can_take(claim)


@BOTH
def test_a_lock_is_held_while_a_grandchild_of_its_holder_lives(
    ours: Home, provider: LockProvider, reaper: Reaper
) -> None:
    claim = ours.claim(provider)
    # The shell ends at once; what it leaves behind in the background has inherited the descriptor.
    running = Running(reaper, ["sh", "-c", "sleep 1000 </dev/null >/dev/null & echo $!"])
    ours.give(claim, running)
    assert running.child is not None
    assert running.child.stdout is not None
    grandchild = int(running.child.stdout.readline())
    reaper.adopt(grandchild)
    assert running.child.wait(timeout=10) == 0
    assert not ours.can_take(claim)
    os.kill(grandchild, 9)
    wait_until(lambda: ours.can_take(claim), 10, lambda: grandchild)


@BOTH
def test_a_lock_that_nobody_inherited_is_free_once_we_let_go(ours: Home, provider: LockProvider) -> None:
    claim = ours.claim(provider)
    ours.give(claim)
    assert ours.can_take(claim)


@BOTH
def test_a_manager_killed_after_the_start_leaves_the_lock_with_the_job(
    ours: Home, provider: LockProvider, running: Running
) -> None:
    claim = ours.claim(provider)
    assert ours.locks.look([claim])[claim.lock].is_free
    fd, _ = ours.locks.hand_over(claim.lock, "job report, run abc")
    running(fd)
    os.close(fd)  # which the kernel does
    ours.start_manager()
    assert ours.holder(claim) == f"job report, run abc, home {ours.path}"
    running.end()
    assert ours.can_take(claim)


def test_no_process_gets_a_lock_that_was_not_meant_for_it(ours: Home, reaper: Reaper) -> None:
    claim = ours.claim(FILE)
    assert ours.locks.look([claim])[claim.lock].is_free
    reaper.spawn(["sleep", "1000"], close_fds=False)
    ours.locks.let_go()
    assert ours.can_take(claim)


@BOTH
def test_each_lock_is_taken_once_however_many_claim_it(ours: Home, provider: LockProvider) -> None:
    first, second = ours.claim(provider, job="a"), ours.claim(provider, job="b")
    other = ours.claim(provider, name="other")
    sights = ours.locks.look([first, second, other])
    assert {lock: sight.is_free for lock, sight in sights.items()} == {first.lock: True, other.lock: True}


def test_names_and_providers_are_locks_of_their_own(ours: Home, running: Running) -> None:
    ours.give(ours.claim(FILE), running)
    assert not ours.can_take(ours.claim(FILE))
    assert ours.can_take(ours.claim(FILE, name="other"))
    assert ours.can_take(ours.claim(SQLITE))


def test_locks_without_a_path_lie_in_the_home_and_are_private(ours: Home) -> None:
    for provider in LockProvider:
        ours.give(ours.claim(provider))
    directory = ours.path / "locks"
    assert sorted(path.name for path in directory.iterdir()) == ["disk.lock", "locks.db", "locks.db.disk.lock"]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_homes_have_locks_of_one_name_for_themselves(ours: Home, theirs: Home, running: Running) -> None:
    ours.give(ours.claim(FILE), running)
    assert theirs.can_take(theirs.claim(FILE))


@BOTH
@pytest.mark.parametrize("name", ["", "lock.file"], ids=["a directory", "a file"])
def test_homes_with_one_path_share_the_lock(
    ours: Home, theirs: Home, provider: LockProvider, shared: Path, name: str, running: Running
) -> None:
    path = shared / name
    ours.give(ours.claim(provider, path), running)
    assert theirs.holder(theirs.claim(provider, path)) == f"job report, run reportrun, home {ours.path}"
    running.end()
    assert theirs.can_take(theirs.claim(provider, path))


@BOTH
def test_tokens_rise_from_holder_to_holder(ours: Home, theirs: Home, provider: LockProvider, shared: Path) -> None:
    first = ours.give(ours.claim(provider, shared))
    assert theirs.give(theirs.claim(provider, shared)) == first + 1
    assert ours.give(ours.claim(provider, shared)) == first + 2


@BOTH
def test_tokens_rise_over_a_manager_that_died_before_the_start(ours: Home, provider: LockProvider) -> None:
    claim = ours.claim(provider)
    assert ours.locks.look([claim])[claim.lock].is_free
    fd, lost = ours.locks.hand_over(claim.lock, "job report")
    os.close(fd)
    ours.start_manager()
    assert ours.give(claim) > lost


@BOTH
def test_tokens_rise_even_when_everything_was_deleted(ours: Home, clock: HandClock, provider: LockProvider) -> None:
    before = max(ours.give(ours.claim(provider)) for _ in range(3))
    for path in (ours.path / "locks").iterdir():
        path.unlink()
    clock.go(1)
    assert ours.give(ours.claim(provider)) > before


@BOTH
def test_tokens_rise_although_the_clock_goes_back(ours: Home, clock: HandClock, provider: LockProvider) -> None:
    before = ours.give(ours.claim(provider))
    clock.go(-86400)
    assert ours.give(ours.claim(provider)) > before


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 512,
        b"\xff\xfe\x00",
        b'{"token": 17',
        b'{"token": "17", "holder": ""}',
        b'{"token": true, "holder": ""}',
        b'{"token": -1, "holder": ""}',
        b'{"token": 9223372036854775807, "holder": ""}',
        b"[" * 100_000,
        b"17",
        b"x" * 10_000,
    ],
)
def test_garbage_in_a_lock_file_neither_stops_the_lock_nor_lowers_the_token(
    ours: Home, clock: HandClock, garbage: bytes, running: Running
) -> None:
    claim = ours.claim(FILE)
    before = ours.give(claim)
    (ours.path / "locks" / "disk.lock").write_bytes(garbage)
    clock.go(1)
    assert before < ours.give(claim, running) < 1 << 62
    assert ours.holder(claim) == f"job report, run reportrun, home {ours.path}"
    (ours.path / "locks" / "disk.lock").write_bytes(garbage)
    assert ours.holder(claim) == ""


def test_a_holders_words_are_bounded_and_always_readable(ours: Home, running: Running) -> None:
    claim = ours.claim(FILE)
    assert ours.locks.look([claim])[claim.lock].is_free
    fd, _ = ours.locks.hand_over(claim.lock, '\\"\n\x1bä' * 100)
    running(fd)
    ours.locks.let_go()
    assert ours.holder(claim).startswith('\\"??ä\\"')
    content = (ours.path / "locks" / "disk.lock").read_bytes()
    assert len(content) == 512
    assert json.loads(content)


def test_a_look_leaves_a_lock_file_as_it_was(ours: Home) -> None:
    claim = ours.claim(FILE)
    ours.give(claim)
    before = (ours.path / "locks" / "disk.lock").read_bytes()
    assert ours.can_take(claim)
    assert (ours.path / "locks" / "disk.lock").read_bytes() == before


def test_a_lock_file_that_is_replaced_before_we_have_it_is_not_taken_for_the_one_there(
    ours: Home, theirs: Home, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = ours.claim(FILE, shared)
    (shared / "next").touch()
    flock = fcntl.flock

    def replace_first(fd: int, kind: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            (shared / "next").rename(shared / "disk.lock")
        flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    assert ours.locks.look([claim])[claim.lock].is_free
    assert not theirs.can_take(claim)


def test_a_process_that_is_just_being_started_does_not_keep_what_we_let_go(
    ours: Home, shared: Path, reaper: Reaper
) -> None:
    claim = ours.claim(FILE, shared)
    assert ours.locks.look([claim])[claim.lock].is_free
    # Until its exec such a process has copies of all our descriptors.
    copies = open_below(shared)
    assert len(copies) == 1
    reaper.spawn(["sleep", "1000"], pass_fds=copies)
    ours.locks.let_go()
    assert ours.can_take(claim)


def unusable(shared: Path, kind: str) -> Path:
    match kind:
        case "no such directory":
            return shared / "missing" / "disk.lock"
        case "a link":
            (shared / "disk.lock").symlink_to(shared / "target")
        case "a pipe":
            os.mkfifo(shared / "disk.lock")
        case "below a file":
            (shared / "file").touch()
            return shared / "file" / "disk.lock"
    return shared / "disk.lock"


@BOTH
@pytest.mark.parametrize("kind", ["no such directory", "below a file", "a pipe"])
def test_a_path_that_cannot_be_used_is_not_free_and_spoils_no_other_lock(
    ours: Home, shared: Path, kind: str, provider: LockProvider
) -> None:
    bad, good = ours.claim(provider, unusable(shared, kind)), ours.claim(provider)
    sights = ours.locks.look([bad, good])
    assert not sights[bad.lock].is_free
    assert str(shared) in sights[bad.lock].holder
    assert sights[good.lock].is_free


def test_a_lock_file_that_is_a_link_is_not_followed(ours: Home, shared: Path) -> None:
    claim = ours.claim(FILE, unusable(shared, "a link"))
    assert "symbolic links" in ours.holder(claim)
    assert not (shared / "target").exists()


@pytest.fixture
def visible() -> Iterator[Path]:
    """A directory that other accounts can reach, unlike those of pytest, and may not write to."""
    path = Path(tempfile.mkdtemp(prefix="procclaw-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a moment")
@BOTH
def test_a_directory_we_may_not_write_to_is_said_to_be_the_reason(visible: Path, provider: LockProvider) -> None:
    # Imported before: what this Python consists of need not be readable for all.
    program = f"""
import os
{LOCKS_OF_A_HOME}
os.setuid(65534)
print(locks.look([claim])["l"])
"""
    command = [sys.executable, "-c", program, "/nowhere", provider, str(visible)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "is_free=False" in done.stdout, done.stderr
    assert f"{visible}/" in done.stdout
    assert "permission denied" in done.stdout


def test_a_home_without_room_for_its_locks_says_so(ours: Home) -> None:
    (ours.path / "locks").touch()
    assert str(ours.path / "locks") in ours.holder(ours.claim(FILE))


def test_a_file_that_is_no_book_is_left_alone(ours: Home, shared: Path) -> None:
    (shared / "notes").write_text("not a database, " * 100)
    assert "not a database" in ours.holder(ours.claim(SQLITE, shared / "notes"))
    with sqlite3.connect(shared / "other.db") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    assert "not a book of locks" in ours.holder(ours.claim(SQLITE, shared / "other.db"))
    assert (shared / "notes").read_text() == "not a database, " * 100


def test_a_book_of_a_newer_version_is_refused(ours: Home, shared: Path) -> None:
    path = shared / "locks.db"
    ours.give(ours.claim(SQLITE, shared))
    with sqlite3.connect(path) as book:
        book.execute("PRAGMA user_version = 99")
    book.close()
    with pytest.raises(StoreError, match="newer ProcClaw"):
        Lockbook(str(path), ours.member)


def test_the_first_in_line_gets_it_whichever_home_looks_first(
    ours: Home, theirs: Home, shared: Path, running: Running
) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    late, early = ours.claim(SQLITE, shared, asked_ago=10), theirs.claim(SQLITE, shared, asked_ago=20)
    for home, claim in ((ours, late), (theirs, early)):
        assert not home.can_take(claim)
    running.end()
    assert ours.holder(late) == f"job report, run reportrun, home {theirs.path}, which is next in line"
    theirs.give(early)
    assert ours.can_take(late)


def test_priority_goes_before_age(ours: Home, theirs: Home, shared: Path, running: Running) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    old, urgent = ours.claim(SQLITE, shared, asked_ago=99), theirs.claim(SQLITE, shared, priority=1)
    for home, claim in ((ours, old), (theirs, urgent)):
        assert not home.can_take(claim)
    running.end()
    assert not ours.can_take(old)
    assert theirs.can_take(urgent)


def test_who_comes_before_all_that_wait_need_not_have_waited(
    ours: Home, theirs: Home, shared: Path, running: Running
) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    assert not theirs.can_take(theirs.claim(SQLITE, shared))
    running.end()
    assert ours.can_take(ours.claim(SQLITE, shared, priority=0))


def test_a_waiter_that_stops_asking_is_passed_over(
    ours: Home, theirs: Home, shared: Path, running: Running, clock: HandClock
) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    late, early = ours.claim(SQLITE, shared), theirs.claim(SQLITE, shared, asked_ago=20)
    assert not theirs.can_take(early)
    running.end()
    clock.go(PASSED_OVER_SECONDS)
    assert not ours.can_take(late)
    clock.go(0.001)
    assert ours.can_take(late)


def test_a_waiter_that_goes_on_asking_keeps_its_place(
    ours: Home, theirs: Home, shared: Path, running: Running, clock: HandClock
) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    late, early = ours.claim(SQLITE, shared), theirs.claim(SQLITE, shared, asked_ago=20)
    for _ in range(10):
        assert not theirs.can_take(early)
        clock.go(PASSED_OVER_SECONDS / 2)
    running.end()
    assert not ours.can_take(late)


def test_a_homes_own_waiters_do_not_block_it(ours: Home, shared: Path, running: Running) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    assert not ours.can_take(ours.claim(SQLITE, shared, job="a", priority=0))
    running.end()
    assert ours.can_take(ours.claim(SQLITE, shared, job="b", priority=3))


def test_asking_again_and_again_writes_seldom(ours: Home, shared: Path, running: Running, clock: HandClock) -> None:
    ours.give(ours.claim(SQLITE, shared), running)
    assert not ours.can_take(ours.claim(SQLITE, shared))
    # What is in it and not when it was written, which the kernel tells in steps of some milliseconds.
    before = (shared / "locks.db").read_bytes()
    for _ in range(4):
        clock.go(1)
        assert not ours.can_take(ours.claim(SQLITE, shared))
    assert (shared / "locks.db").read_bytes() == before
    clock.go(1.001)
    assert not ours.can_take(ours.claim(SQLITE, shared))
    assert (shared / "locks.db").read_bytes() != before


ELSEWHERE = pytest.mark.parametrize(
    ("host", "boot"), [("there", "boot 9"), ("here", "boot 0")], ids=["another host", "another boot"]
)


@ELSEWHERE
def test_a_holder_beyond_the_kernels_sight_counts_for_a_while(
    ours: Home, tmp_path: Path, clock: HandClock, shared: Path, host: str, boot: str
) -> None:
    away = Home(tmp_path / "away", clock, host, boot)
    token = away.give(away.claim(SQLITE, shared))
    claim = ours.claim(SQLITE, shared)
    assert ours.holder(claim) == (
        f"job report, run reportrun, home {away.path}, on {host}; counts until 2026-03-01T12:15:00Z"
    )
    clock.go(UNSEEN_SECONDS)
    assert not ours.can_take(claim)
    clock.go(0.001)
    assert ours.give(claim) == token + 1


@ELSEWHERE
def test_a_holder_beyond_the_kernels_sight_counts_as_long_as_its_home_vouches(
    ours: Home, tmp_path: Path, clock: HandClock, shared: Path, running: Running, host: str, boot: str
) -> None:
    away = Home(tmp_path / "away", clock, host, boot)
    away.give(away.claim(SQLITE, shared), running)
    for _ in range(10):
        clock.go(VOUCH_SECONDS)
        away.locks.look([])
    # The lock file gone, as if the kernel here could not see the lock that the one there keeps.
    (shared / "locks.db.disk.lock").rename(shared / "unseen")
    assert not ours.can_take(ours.claim(SQLITE, shared))


@ELSEWHERE
def test_what_a_home_gave_back_is_free_for_hosts_that_cannot_see_it(
    ours: Home, tmp_path: Path, clock: HandClock, shared: Path, running: Running, host: str, boot: str
) -> None:
    away = Home(tmp_path / "away", clock, host, boot)
    away.give(away.claim(SQLITE, shared), running)
    running.end()
    claim = ours.claim(SQLITE, shared)
    assert not ours.can_take(claim)
    away.locks.look([])
    assert ours.can_take(claim)


def test_a_manager_started_anew_gives_back_what_the_one_before_it_gave_out(
    ours: Home, tmp_path: Path, clock: HandClock, shared: Path, running: Running
) -> None:
    away = Home(tmp_path / "away", clock, "there", "boot 9")
    away.give(away.claim(SQLITE, shared), running)
    away.start_manager()
    away.can_take(away.claim(SQLITE, shared, name="other"))
    running.end()
    away.locks.look([])
    assert ours.can_take(ours.claim(SQLITE, shared))


def test_what_another_took_over_is_not_given_back_for_it(
    ours: Home, tmp_path: Path, clock: HandClock, shared: Path, running: Running
) -> None:
    away = Home(tmp_path / "away", clock, "there", "boot 9")
    away.give(away.claim(SQLITE, shared))
    clock.go(UNSEEN_SECONDS + 1)
    ours.give(ours.claim(SQLITE, shared), running)
    # As if the kernel there could not see the lock that the one here keeps.
    (shared / "locks.db.disk.lock").rename(shared / "unseen")
    away.locks.look([])
    assert f"home {ours.path}, on here; counts until" in away.holder(away.claim(SQLITE, shared))


@pytest.mark.parametrize("is_shared", [True, False])
def test_after_a_reboot_a_home_has_its_own_locks_at_once(
    tmp_path: Path, clock: HandClock, shared: Path, is_shared: bool
) -> None:
    path = shared if is_shared else None
    before = Home(tmp_path / "ours", clock, boot="boot 1")
    before.give(before.claim(SQLITE, path))
    after = Home(tmp_path / "ours", clock, boot="boot 2")
    assert after.can_take(after.claim(SQLITE, path))


def test_a_moved_home_has_its_own_locks_at_once_even_on_another_host(tmp_path: Path, clock: HandClock) -> None:
    before = Home(tmp_path / "ours", clock)
    before.give(before.claim(SQLITE))
    (tmp_path / "ours").rename(tmp_path / "moved")
    after = Home(tmp_path / "moved", clock, "there", "boot 9")
    assert after.can_take(after.claim(SQLITE))


def test_a_lock_that_two_kernels_gave_to_two_goes_to_the_first_that_takes_it(
    ours: Home, tmp_path: Path, clock: HandClock, shared: Path
) -> None:
    away = Home(tmp_path / "away", clock, "there", "boot 9")
    claim = ours.claim(SQLITE, shared)
    assert ours.locks.look([claim])[claim.lock].is_free
    (shared / "locks.db.disk.lock").rename(shared / "unseen")
    away.give(away.claim(SQLITE, shared))
    with pytest.raises(Conflict, match="in the meantime"):
        ours.locks.hand_over(claim.lock, "job report")


def test_a_second_look_lets_go_of_what_the_first_one_took(ours: Home, theirs: Home, shared: Path) -> None:
    claim = ours.claim(FILE, shared)
    ours.locks.look([claim])
    ours.locks.look([])
    assert theirs.can_take(claim)


def open_below(directory: Path) -> list[int]:
    """Our descriptors of files in a directory."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"{directory}/"):
                found.append(int(name))
    return found


def test_no_descriptor_is_left_open(ours: Home, tmp_path: Path, shared: Path, running: Running) -> None:
    held = ours.claim(SQLITE, shared, name="held")
    ours.give(held, running)
    (shared / "link").symlink_to("nowhere")
    claims = [ours.claim(provider, path) for provider in LockProvider for path in (None, shared, shared / "link")]
    for _ in range(3):
        ours.locks.look([*claims, held])
    assert open_below(tmp_path) != []
    ours.locks.let_go()
    assert open_below(tmp_path) == []


def test_a_lock_that_others_hold_for_reading_is_not_free(ours: Home, shared: Path) -> None:
    claim = ours.claim(FILE, shared)
    ours.give(claim)
    with open(shared / "disk.lock") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert not ours.can_take(claim)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with a few free inodes and no free space."""
    if os.geteuid() != 0:
        pytest.skip("a small tmpfs has to be mounted, which only root may: nothing here is proved about full disks")
    place = tmp_path / "full"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted ({made.stderr.strip()}): nothing is proved about full disks")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path) -> None:
    with open(place / "ballast", "wb", buffering=0) as ballast:
        for size in (4096, 1):
            try:
                while True:
                    ballast.write(b"x" * size)
            except OSError:
                continue


def test_a_lock_whose_token_finds_no_room_is_not_handed_over(ours: Home, full_disk: Path) -> None:
    claim = ours.claim(FILE, full_disk)
    fill(full_disk)
    assert ours.locks.look([claim])[claim.lock].is_free
    with pytest.raises(DiskFull, match=r"disk\.lock"):
        ours.locks.hand_over(claim.lock, "job report")
    ours.locks.let_go()
    assert ours.can_take(claim)


def test_a_lock_that_was_held_before_needs_no_more_room(ours: Home, full_disk: Path) -> None:
    claim = ours.claim(FILE, full_disk)
    before = ours.give(claim)
    fill(full_disk)
    assert ours.give(claim) == before + 1


def test_a_book_without_room_makes_its_locks_unfree_and_nothing_else(ours: Home, full_disk: Path) -> None:
    fill(full_disk)
    bad, good = ours.claim(SQLITE, full_disk), ours.claim(SQLITE)
    sights = ours.locks.look([bad, good])
    assert "no space left" in sights[bad.lock].holder
    assert sights[good.lock].is_free
    ours.locks.let_go()
    with pytest.raises(ProcclawError):
        Lockbook(str(full_disk / "locks.db"), ours.member)


def test_homes_that_hand_over_at_once_from_many_processes_never_share_a_lock_or_token(
    shared: Path, reaper: Reaper
) -> None:
    program = f"""
import os
{LOCKS_OF_A_HOME}
alone = os.path.join(claim.path, f"alone {{claim.provider}}")
given = 0
while given < 10:
    if locks.look([claim])["l"].is_free:
        os.mkdir(alone)
        print(locks.hand_over("l", "job")[1])
        os.rmdir(alone)
        given += 1
    locks.let_go()
"""
    for provider in LockProvider:
        commands = [[sys.executable, "-c", program, home, provider, str(shared)] for home in ("/a", "/b", "/c")]
        children = [reaper.spawn(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for command in commands]
        tokens = [int(line) for child in children for line in child.communicate(timeout=60)[0].split()]
        assert [child.returncode for child in children] == [0, 0, 0]
        assert len(set(tokens)) == 30
