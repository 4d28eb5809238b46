"""Which configuration is in force while its files are edited, broken, emptied and restored.

The files are real ones in every respect but their times, which a test sets.
"""

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from procclaw.engine.configuration import Configuration, InForce
from procclaw.engine.files import ConfigurationFiles
from procclaw.model.document import spec_from_document
from procclaw.model.errors import DiskFull
from procclaw.model.records import CycleRecord
from procclaw.system.specfile import Fingerprint, Loaded
from procclaw.system.store import Store
from tests.builders import NOW, ago, later


class EditedFiles:
    """jobs.yaml and procclaw.yaml, written when a test says so."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._files = ConfigurationFiles(str(home))
        self._written_at: datetime | None = None
        self.loads = 0

    def write(self, text: str, at: datetime, name: str = "jobs.yaml") -> None:
        (self._home / name).write_text(text)
        self._written_at = at

    def remove(self, name: str, at: datetime) -> None:
        (self._home / name).unlink()
        self._written_at = at

    def fingerprint(self) -> Fingerprint:
        contents = [path.read_bytes() for path in sorted(self._home.glob("*.yaml"))]
        text = sha256(repr((self._written_at, [len(content) for content in contents])).encode()).hexdigest()
        return Fingerprint(text, self._written_at)

    def content_hash(self) -> str:
        return self._files.content_hash()

    def load(self) -> Loaded:
        self.loads += 1
        return self._files.load()


class World:
    def __init__(self, home: Path, database: Path) -> None:
        self.files = EditedFiles(home)
        self._database = str(database)
        self.store = Store(self._database)
        self.configuration = Configuration(self.files, self.store)

    def restart(self) -> None:
        """Another process takes over."""
        self.store.close()
        self.store = Store(self._database)
        self.configuration = Configuration(self.files, self.store)

    def look(self, now: datetime) -> InForce:
        found = self.configuration.current(now)
        assert found is not None
        return found

    def jobs(self, now: datetime) -> list[str]:
        return sorted(self.look(now).spec.jobs)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "home").mkdir()
    world = World(tmp_path / "home", tmp_path / "procclaw.db")
    yield world
    world.store.close()


def jobs(*names: str, cmd: str = "sleep 60") -> str:
    return "jobs:\n" + "".join(f"  {name}: {{cmd: {cmd}}}\n" for name in names)


LONG_AGO = ago(3600)


def test_the_first_good_files_are_in_force_at_once(world: World) -> None:
    world.files.write(jobs("a", "b"), NOW)
    first = world.look(NOW)
    assert (sorted(first.spec.jobs), first.is_new, first.settles_at) == (["a", "b"], True, None)
    assert not world.look(later(1)).is_new


@pytest.mark.parametrize("text", ["", "jobs:", "jobs: {a: {}}", "nonsense", "jobs: [a]"])
def test_without_good_files_nothing_is_in_force(world: World, text: str) -> None:
    world.files.write(text, LONG_AGO)
    assert world.configuration.current(NOW) is None
    problems = world.store.problems()
    assert problems is not None
    assert problems.since == NOW
    assert "jobs.yaml" in problems.problems[0]
    assert world.store.load_spec() is None


def test_a_home_without_files_has_none_in_force(world: World) -> None:
    assert world.configuration.current(NOW) is None


def test_no_jobs_at_all_are_good_if_that_is_said(world: World) -> None:
    world.files.write("jobs: {}", LONG_AGO)
    assert world.jobs(NOW) == []


def test_files_that_have_not_changed_are_not_read_again(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    for n in range(5):
        world.look(later(n))
    world.restart()
    world.look(later(10))
    assert world.files.loads == 1


def test_a_file_written_this_very_moment_is_looked_at_again_and_parsed_only_if_it_differs(world: World) -> None:
    world.files.write(jobs("a"), NOW)
    world.look(NOW)
    # Within the resolution of its time stamp, and of the same length: the directory entry tells nothing.
    world.files.write(jobs("b"), NOW)
    assert "b" in world.jobs(NOW + timedelta(milliseconds=1))
    world.look(later(1))
    assert world.files.loads == 2


def test_touching_a_file_changes_nothing(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(NOW)
    world.files.write(jobs("a"), later(5))
    after = world.look(later(6))
    assert (after.is_new, after.spec.hash) == (False, before.spec.hash)
    assert world.files.loads == 1


def test_what_was_in_force_is_kept_without_its_secrets_for_the_cycles_decided_by_it(world: World) -> None:
    world.files.write('jobs: {a: {cmd: "true", env: {PASSWORD: told}}}', LONG_AGO)
    before = world.look(NOW).spec
    cycle = CycleRecord(NOW, before.hash, (), b"body")
    world.store.record([cycle])
    world.files.write(jobs("a", "b"), NOW)
    assert sorted(world.look(NOW).spec.jobs) == ["a", "b"]
    kept = world.store.cycles.spec_of(cycle)
    assert kept is not None
    assert kept["jobs"]["a"]["env"] == {"PASSWORD": "****"}
    again = spec_from_document(kept, before.hash)
    assert again.jobs["a"]._replace(env=before.jobs["a"].env) == before.jobs["a"]
    assert again._replace(jobs=before.jobs) == before


def test_additions_and_changes_apply_at_once(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(NOW).spec.jobs["a"]
    world.files.write(jobs("a", "b", cmd="sleep 61"), NOW)
    after = world.look(NOW)
    assert after.is_new
    assert sorted(after.spec.jobs) == ["a", "b"]
    assert after.spec.jobs["a"].process_hash != before.process_hash


# --- what disappears ---


def test_a_job_that_disappeared_stays_until_the_files_have_been_left_alone(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    before = world.look(ago(60)).spec.jobs["b"]
    world.files.write(jobs("a"), NOW)
    first = world.look(NOW)
    assert first.spec.jobs["b"] == before
    assert first.settles_at == later(5)
    assert world.look(later(4.999)).settles_at == later(5)
    assert world.jobs(later(4.999)) == ["a", "b"]
    last = world.look(later(5))
    assert (sorted(last.spec.jobs), last.is_new, last.settles_at) == (["a"], True, None)


def test_every_further_edit_begins_the_wait_anew(world: World) -> None:
    world.files.write(jobs("a", "b", "c"), LONG_AGO)
    world.look(ago(60))
    world.files.write(jobs("a", "b"), NOW)
    world.look(NOW)
    world.files.write(jobs("a"), later(4))
    assert world.look(later(4)).settles_at == later(9)
    assert world.jobs(later(8)) == ["a", "b", "c"]
    assert world.jobs(later(9)) == ["a"]


def test_a_job_that_comes_back_in_time_was_never_gone(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    before = world.look(ago(60)).spec
    world.files.write(jobs("a"), NOW)
    world.look(NOW)
    world.files.write(jobs("a", "b"), later(1))
    after = world.look(later(1))
    assert (after.spec.hash, after.settles_at) == (before.hash, None)
    assert world.jobs(later(60)) == ["a", "b"]


def test_other_jobs_may_change_meanwhile(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    world.look(ago(60))
    world.files.write(jobs("a", cmd="sleep 61"), NOW)
    found = world.look(NOW).spec.jobs
    assert (found["a"].cmd, found["b"].cmd) == ("sleep 61", "sleep 60")


def test_the_wait_goes_on_under_another_process(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    world.look(ago(60))
    world.files.write(jobs("a"), NOW)
    world.look(NOW)
    world.restart()
    assert world.jobs(later(4)) == ["a", "b"]
    assert world.look(later(4)).settles_at == later(5)
    world.restart()
    assert world.jobs(later(5)) == ["a"]


def test_files_that_break_while_they_settle_let_nothing_go(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    world.look(ago(60))
    world.files.write(jobs("a"), NOW)
    world.look(NOW)
    world.files.write("jobs: {a: {cmd", later(1))
    assert world.jobs(later(1)) == ["a", "b"]
    assert world.jobs(later(3600)) == ["a", "b"]
    world.files.write(jobs("a"), later(3700))
    assert world.jobs(later(3704)) == ["a", "b"]
    assert world.jobs(later(3705)) == ["a"]


def test_a_time_that_lies_ahead_does_not_keep_a_job_for_ever(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    world.look(ago(60))
    world.files.write(jobs("a"), later(86400))  # and then the clock was set back
    assert world.jobs(NOW) == ["a"]


def test_a_vanished_procclaw_yaml_is_waited_for_as_well(world: World) -> None:
    world.files.write("env: {GREETING: hello}\n", LONG_AGO, "procclaw.yaml")
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(ago(60)).spec
    assert before.config.env == (("GREETING", "hello"),)
    world.files.remove("procclaw.yaml", NOW)
    assert world.look(NOW).spec.config == before.config
    assert world.look(later(5)).spec.config.env == ()


# --- what is broken ---


@pytest.mark.parametrize("text", ["", "jobs: {a: {cmd", "jobs: {a: {cmd: x, restart: alway}}"])
def test_broken_files_change_nothing_and_are_told(world: World, text: str) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(ago(60)).spec
    world.files.write(text, NOW)
    found = world.look(NOW)
    assert (found.spec, found.is_new) == (before, False)
    problems = world.store.problems()
    assert problems is not None
    assert problems.since == NOW
    world.look(later(60))
    assert world.store.problems() == problems


def test_that_files_broke_and_that_they_are_good_again_is_told_once(world: World) -> None:
    def news() -> list[str]:
        return [event.kind for event in world.configuration.news()]

    world.files.write(jobs("a"), LONG_AGO)
    world.look(ago(60))
    assert news() == []
    for at in (NOW, later(1)):
        world.files.write("jobs: {a: {cmd", NOW)
        world.look(at)
    [told] = world.configuration.news()
    assert (told.kind, dict(told.fields)["problems"]) == ("configuration refused", "1")
    assert dict(told.fields)["detail"].startswith("jobs.yaml:1: a list")
    world.restart()
    world.look(later(2))
    assert news() == [], "what is on record already is no news to another process"
    world.files.write(jobs("a"), later(3))
    world.look(later(3))
    assert news() == ["configuration good again"]


def test_the_last_good_configuration_stays_in_force_across_restarts(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(ago(60)).spec
    world.files.write("", NOW)
    world.restart()
    assert world.look(NOW).spec == before
    assert world.store.spec_hash() == before.hash


def test_broken_files_are_parsed_once(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    world.look(ago(60))
    world.files.write("jobs: {a: {cmd", NOW)
    for n in range(5):
        world.look(later(n))
    assert world.files.loads == 2


def test_mended_files_are_in_force_at_once_and_the_problems_forgotten(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    world.look(ago(60))
    world.files.write("jobs: {a: {cmd", NOW)
    world.look(NOW)
    world.files.write(jobs("a", "b"), later(5))
    assert world.jobs(later(5)) == ["a", "b"]
    assert world.store.problems() is None


def test_files_put_back_as_they_were_are_good_again(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    world.look(ago(60))
    world.files.write("jobs: {a: {cmd", NOW)
    world.look(NOW)
    world.files.write(jobs("a"), later(5))
    assert not world.look(later(5)).is_new
    assert world.store.problems() is None


# --- what is looked at without being put in force ---


def test_a_preview_puts_nothing_in_force(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(ago(60)).spec
    world.files.write(jobs("a", "b"), NOW)
    previewed = world.configuration.preview(NOW)
    assert previewed is not None
    assert sorted(previewed.jobs) == ["a", "b"]
    assert world.store.spec_hash() == before.hash
    assert world.look(NOW).is_new


def test_a_preview_shows_what_a_cycle_would_put_in_force(world: World) -> None:
    world.files.write(jobs("a", "b"), LONG_AGO)
    world.look(ago(60))
    world.files.write(jobs("a"), NOW)
    for now in (NOW, later(4), later(5)):
        previewed = world.configuration.preview(now)
        assert previewed is not None
        assert previewed == world.look(now).spec


def test_a_preview_of_broken_files_is_what_is_in_force(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(ago(60)).spec
    world.files.write("jobs: {a: {cmd", NOW)
    assert world.configuration.preview(NOW) == before


def test_what_cannot_be_kept_is_not_put_in_force(world: World) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    before = world.look(ago(60)).spec
    world.store._db.execute(f"PRAGMA max_page_count = {world.store._db.pragma('page_count')}")  # a full disk
    world.files.write(jobs(*(f"job-{n}" for n in range(300))), NOW)
    assert world.look(NOW).spec == before
    with pytest.raises(DiskFull):
        world.store.save_spec("x", {"large": "x" * 500_000}, NOW)
    world.store._db.execute("PRAGMA max_page_count = 1000000")
    assert len(world.jobs(later(1))) >= 300


def test_the_files_of_this_test_are_those_of_a_home(world: World, tmp_path: Path) -> None:
    world.files.write(jobs("a"), LONG_AGO)
    assert os.listdir(tmp_path / "home") == ["jobs.yaml"]
