"""Files that trigger jobs: which count, and when they are complete."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from procclaw.engine import world
from procclaw.model.clock import SystemClock
from procclaw.model.outside import FilesSeen
from procclaw.model.spec import TriggerSpec, TriggerType
from procclaw.system.homedir import network_file_system
from procclaw.system.spool import SETTLED_SECONDS, Spool
from tests.support import Reaper

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000
ROOT = Path(__file__).resolve().parent.parent


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


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def spool(clock: HandClock) -> Spool:
    spool = Spool(clock, network_file_system)
    # What the engine is written against.
    as_seen_by_the_engine: world.Spool = spool
    assert as_seen_by_the_engine is spool
    return spool


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    path = tmp_path / "inbox"
    path.mkdir()
    return path


def watching(path: Path | str, pattern: str = "*", kind: TriggerType = TriggerType.FILE) -> tuple[TriggerSpec, ...]:
    return (TriggerSpec(kind, None, None, str(path), pattern, delete_after=False),)


def put(directory: Path, name: str = "a.csv", content: str = "1", age: float = 0.0) -> Path:
    path = directory / name
    path.write_text(content)
    set_age(path, age)
    return path


def set_age(path: Path, age: float) -> None:
    at = NOW_NS - int(age * 1_000_000_000)
    os.utime(path, ns=(at, at))


def names(seen: FilesSeen) -> list[str]:
    return [os.path.basename(file.path) for file in seen.files]


def settled(seen: FilesSeen) -> list[str]:
    return [os.path.basename(file.path) for file in seen.files if file.is_settled]


def test_only_files_of_a_directory_whose_trigger_says_so_are_to_be_deleted(spool: Spool, tmp_path: Path) -> None:
    kept, emptied = tmp_path / "kept", tmp_path / "emptied"
    for directory in (kept, emptied):
        directory.mkdir()
        put(directory)
    (deleting,) = watching(emptied)
    seen = spool.look("job", (*watching(kept), deleting._replace(delete_after=True), *watching(emptied)))
    assert {os.path.basename(os.path.dirname(file.path)): file.delete_after for file in seen.files} == {
        "kept": False,
        "emptied": True,
    }


def test_a_file_that_has_just_changed_is_seen_and_not_settled(spool: Spool, inbox: Path) -> None:
    path = put(inbox)
    seen = spool.look("job", watching(inbox))
    assert [(file.path, file.is_settled) for file in seen.files] == [(str(path), False)]
    assert seen.problems == ()


def test_a_file_settles_when_two_looks_far_enough_apart_find_it_unchanged(
    spool: Spool, inbox: Path, clock: HandClock
) -> None:
    # Written on a machine whose clock is ahead: its age tells nothing.
    put(inbox, age=-3600)
    for _ in range(2):
        assert settled(spool.look("job", watching(inbox))) == []
        clock.go(SETTLED_SECONDS / 2)
    assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


def test_a_file_that_keeps_changing_does_not_settle(spool: Spool, inbox: Path, clock: HandClock) -> None:
    for number in range(5):
        put(inbox, content="1" * number, age=-3600)
        assert settled(spool.look("job", watching(inbox))) == []
        clock.go(SETTLED_SECONDS)
    assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


def test_a_complete_file_renamed_into_place_is_settled_at_once(spool: Spool, inbox: Path, tmp_path: Path) -> None:
    put(tmp_path, age=SETTLED_SECONDS).rename(inbox / "a.csv")
    assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


def test_a_file_a_little_too_young_is_not_settled_at_once(spool: Spool, inbox: Path) -> None:
    put(inbox, age=SETTLED_SECONDS - 0.001)
    assert settled(spool.look("job", watching(inbox))) == []


def test_a_file_from_the_future_is_not_settled_at_once(spool: Spool, inbox: Path) -> None:
    put(inbox, age=-SETTLED_SECONDS * 10)
    assert settled(spool.look("job", watching(inbox))) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who writes a file")
@pytest.mark.parametrize("mode", ["r+", "a"])
def test_a_file_that_is_open_for_writing_is_not_settled_however_old(
    spool: Spool, inbox: Path, clock: HandClock, mode: str
) -> None:
    path = put(inbox, content="half of i", age=3600)
    with open(path, mode):
        assert settled(spool.look("job", watching(inbox))) == []
        clock.go(SETTLED_SECONDS * 100)
        assert settled(spool.look("job", watching(inbox))) == []
    assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who writes a file")
def test_a_file_that_another_process_writes_is_not_settled(spool: Spool, inbox: Path, reaper: Reaper) -> None:
    path = put(inbox, age=3600)
    child = reaper.spawn(
        ["sh", "-c", 'exec 3>>"$0"; echo up; read line', str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    assert settled(spool.look("job", watching(inbox))) == []
    child.kill()
    child.wait(timeout=10)
    assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


def test_a_file_that_is_only_read_is_settled(spool: Spool, inbox: Path) -> None:
    with open(put(inbox, age=3600)):
        assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


def test_on_a_network_file_system_only_time_tells(clock: HandClock, inbox: Path) -> None:
    spool = Spool(clock, lambda path: "NFS")
    with open(put(inbox, age=3600), "a"):
        assert settled(spool.look("job", watching(inbox))) == ["a.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else for a moment")
def test_of_a_file_that_we_may_not_read_only_time_tells(inbox: Path) -> None:
    path = put(inbox, age=3600)
    path.chmod(0o600)
    # The directory is opened before, so that it need not be reachable for all.
    program = """
import os, sys
from procclaw.model.clock import SystemClock
from procclaw.model.spec import TriggerSpec, TriggerType
from procclaw.system.spool import Spool
os.chdir(sys.argv[1])
os.setuid(65534)
trigger = TriggerSpec(TriggerType.FILE, None, None, "/proc/self/cwd", "*", False)
print(Spool(SystemClock(), lambda path: None).look("job", [trigger]).files[0].is_settled)
"""
    inbox.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program, str(inbox)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_whoever_opens_a_file_for_writing_while_we_ask_does_us_no_harm(inbox: Path, reaper: Reaper) -> None:
    path = put(inbox, age=3600)
    # One opens it all the time, the other looks all the time; the signal of a broken lease would end the latter.
    opening = reaper.spawn(["sh", "-c", 'while :; do : >>"$0"; done', str(path)])
    program = """
import sys
from procclaw.model.clock import SystemClock
from procclaw.model.spec import TriggerSpec, TriggerType
from procclaw.system.spool import Spool
trigger = TriggerSpec(TriggerType.FILE, None, None, sys.argv[1], "*", False)
spool = Spool(SystemClock(), lambda path: None)
for _ in range(20000):
    assert len(spool.look("job", [trigger]).files) == 1
print("unharmed")
"""
    done = subprocess.run([sys.executable, "-c", program, str(inbox)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "unharmed\n"), done.stderr
    assert opening.poll() is None


@pytest.mark.parametrize("change", ["grown", "touched", "replaced"])
def test_a_file_that_changed_is_another(spool: Spool, inbox: Path, change: str) -> None:
    path = put(inbox, age=3600)
    before = spool.look("job", watching(inbox)).files[0]
    match change:
        case "grown":
            put(inbox, content="12", age=3600)
        case "touched":
            set_age(path, 3599.999999)
        case "replaced":
            put(inbox, "next.csv", age=3600).rename(path)
    after = spool.look("job", watching(inbox)).files[0]
    assert after.path == before.path
    assert after.identity != before.identity


def test_a_renamed_file_is_the_same_one_elsewhere(spool: Spool, inbox: Path) -> None:
    path = put(inbox, age=3600)
    before = spool.look("job", watching(inbox)).files[0]
    path.rename(inbox / "b.csv")
    after = spool.look("job", watching(inbox)).files[0]
    assert (after.identity, after.path) == (before.identity, str(inbox / "b.csv"))


def test_only_regular_files_in_the_directory_itself_count(spool: Spool, inbox: Path, tmp_path: Path) -> None:
    put(inbox, "file")
    (inbox / "link").symlink_to(put(tmp_path, "target"))
    (inbox / "broken").symlink_to("nowhere")
    (inbox / "directory").mkdir()
    put(inbox / "directory", "below")
    os.mkfifo(inbox / "pipe")
    assert names(spool.look("job", watching(inbox))) == ["file"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*", ["a.csv", "b.CSV", "c.txt"]),
        ("*.csv", ["a.csv"]),
        ("[bc].*", ["b.CSV", "c.txt"]),
        (".*", [".hidden.csv"]),
        ("?hidden.csv", []),
        ("none", []),
    ],
)
def test_the_pattern_says_which_names_match_and_hidden_files_have_to_be_meant(
    spool: Spool, inbox: Path, pattern: str, wanted: list[str]
) -> None:
    for name in ("a.csv", "b.CSV", "c.txt", ".hidden.csv"):
        put(inbox, name)
    assert names(spool.look("job", watching(inbox, pattern))) == wanted


def test_a_tilde_is_our_accounts_home(spool: Spool) -> None:
    inbox = Path.home() / "inbox"
    inbox.mkdir()
    path = put(inbox)
    assert [file.path for file in spool.look("job", watching("~/inbox")).files] == [str(path)]


def test_a_directory_that_cannot_be_read_is_a_problem_and_hides_no_other(
    spool: Spool, inbox: Path, tmp_path: Path
) -> None:
    path = put(inbox)
    missing, none = tmp_path / "missing", path
    seen = spool.look("job", watching(missing) + watching(inbox) + watching(none) + watching(missing))
    assert names(seen) == ["a.csv"]
    assert seen.problems == (f"{missing}: no such file or directory", f"{none}: not a directory")


def test_names_that_are_no_text_are_a_problem_and_not_files(spool: Spool, inbox: Path) -> None:
    put(inbox)
    (Path(os.fsdecode(os.fsencode(inbox) + b"/\xff.csv"))).touch()
    seen = spool.look("job", watching(inbox))
    assert names(seen) == ["a.csv"]
    assert seen.problems == (f"{inbox}: 1 files are ignored, their names are not UTF-8",)


def test_webhooks_are_not_looked_for_in_directories(spool: Spool, inbox: Path) -> None:
    put(inbox)
    assert spool.look("job", watching(inbox, kind=TriggerType.WEBHOOK)) == FilesSeen(())
    assert spool.look("job", ()) == FilesSeen(())


def test_a_file_that_matches_twice_is_seen_once(spool: Spool, inbox: Path) -> None:
    put(inbox)
    assert names(spool.look("job", watching(inbox) + watching(f"{inbox}/", "*.csv"))) == ["a.csv"]


def test_the_oldest_come_first_and_names_decide_between_equals(spool: Spool, inbox: Path) -> None:
    for name, age in (("c", 5), ("b", 9), ("a", 5)):
        put(inbox, name, age=age)
    assert names(spool.look("job", watching(inbox))) == ["b", "a", "c"]


def fill(inbox: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        put(inbox, f"{number:04}", age=10_000 - number)


def test_the_thousand_oldest_are_seen_and_the_others_have_their_turn(spool: Spool, inbox: Path) -> None:
    fill(inbox, range(1002))
    seen = spool.look("job", watching(inbox))
    assert names(seen) == [f"{number:04}" for number in range(1000)]
    for file in seen.files:
        assert spool.delete(file.path, file.identity)
    assert names(spool.look("job", watching(inbox))) == ["1000", "1001"]


def test_known_files_that_are_still_there_are_all_seen_and_take_no_other_files_turn(spool: Spool, inbox: Path) -> None:
    fill(inbox, range(1002))
    known = {file.path: file.identity for file in spool.look("job", watching(inbox)).files}
    seen = spool.look("job", watching(inbox), known)
    assert sorted(names(seen)) == [f"{number:04}" for number in range(1002)]
    assert len(settled(seen)) == 1002


def test_a_known_file_that_has_become_another_is_new(spool: Spool, inbox: Path) -> None:
    path = put(inbox, age=3600)
    known = {file.path: file.identity for file in spool.look("job", watching(inbox)).files}
    put(inbox, content="more")
    assert settled(spool.look("job", watching(inbox), known)) == []
    path.unlink()
    assert spool.look("job", watching(inbox), known).files == ()


def test_jobs_that_watch_one_directory_have_their_own_looks(spool: Spool, inbox: Path, clock: HandClock) -> None:
    put(inbox, age=-3600)
    spool.look("one", watching(inbox))
    clock.go(SETTLED_SECONDS)
    assert settled(spool.look("two", watching(inbox))) == []
    assert settled(spool.look("one", watching(inbox))) == ["a.csv"]


def test_a_file_that_went_away_and_came_back_is_looked_at_afresh(spool: Spool, inbox: Path, clock: HandClock) -> None:
    put(inbox, age=-3600)
    spool.look("job", watching(inbox))
    (inbox / "a.csv").rename(inbox.parent / "a.csv")
    spool.look("job", watching(inbox))
    clock.go(SETTLED_SECONDS)
    (inbox.parent / "a.csv").rename(inbox / "a.csv")
    assert settled(spool.look("job", watching(inbox))) == []


def test_a_file_is_deleted_only_as_long_as_it_is_the_same(spool: Spool, inbox: Path) -> None:
    path = put(inbox, age=3600)
    identity = spool.look("job", watching(inbox)).files[0].identity
    put(inbox, content="more")
    assert spool.delete(str(path), identity)
    assert path.read_text() == "more"
    identity = spool.look("job", watching(inbox)).files[0].identity
    assert spool.delete(str(path), identity)
    assert not path.exists()
    assert spool.delete(str(path), identity)


def test_a_link_in_place_of_a_file_is_not_deleted(spool: Spool, inbox: Path, tmp_path: Path) -> None:
    path = put(inbox, age=3600)
    identity = spool.look("job", watching(inbox)).files[0].identity
    path.rename(tmp_path / "moved.csv")
    path.symlink_to(tmp_path / "moved.csv")
    assert spool.delete(str(path), identity)
    assert path.is_symlink()
    assert (tmp_path / "moved.csv").exists()


def test_what_cannot_be_deleted_is_said_to_be_there(spool: Spool, inbox: Path) -> None:
    path = put(inbox)
    assert not spool.delete(f"{path}/below", "1:1:1")


def test_no_descriptor_is_left_open(spool: Spool, inbox: Path) -> None:
    fill(inbox, range(10))
    assert len(settled(spool.look("job", watching(inbox)))) == 10
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            assert not os.readlink(f"/proc/self/fd/{name}").startswith(str(inbox))
