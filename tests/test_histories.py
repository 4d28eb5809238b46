"""What every version so far decided, decided again by this one: any decision that has changed is shown.

How the files are made, and how a change that is meant is accepted, is in `tests/histories.py`.
"""

import shutil
from pathlib import Path

import pytest

from procclaw import __version__
from procclaw.planning import attempts, runs
from procclaw.planning.gates import Gate
from tests.histories import Remembered, accept, all_paths, path_of, played, read, write
from tests.lives import CANARY
from tests.simulate import workplace

SHOWN = 10


def told(remembered: list[Remembered]) -> str:
    """What differs, for whoever changed the planner; empty when nothing does."""
    changed = [(each, lines) for each in remembered if (lines := each.otherwise())]
    if not changed:
        return ""
    shown = [f"{each.name}, at {each.recorded.now:%F %T}:\n  " + "\n  ".join(lines) for each, lines in changed[:SHOWN]]
    head = f"{len(changed)} of {len(remembered)} recorded cycles are decided otherwise by this version, such as"
    return "\n".join((head, *shown, "if that is meant: python -m tests.histories --accept"))


def test_there_is_a_history_of_this_version() -> None:
    assert path_of(__version__) in all_paths(), "python -m tests.histories makes it"


@pytest.mark.parametrize("path", all_paths(), ids=lambda path: path.name)
def test_what_was_decided_is_decided_again(path: Path) -> None:
    assert path.stat().st_size < 500_000
    remembered = read(path)
    assert len(remembered) > 100
    assert (found := told(remembered)) == "", found


def test_a_planner_that_decides_otherwise_is_shown_with_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = read(path_of(__version__))
    monkeypatch.setattr(attempts, "SWEEP_SECONDS", 7.0)
    found = told(remembered)
    assert "recorded cycles are decided otherwise by this version" in found
    assert "looks again: was " in found
    assert found.endswith("if that is meant: python -m tests.histories --accept")
    monkeypatch.undo()
    monkeypatch.setattr(runs, "time_gate", lambda run, now: Gate("time"))
    assert "\n  + Start " in told(remembered)


def test_a_decision_is_accepted_on_purpose_and_what_was_seen_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some"
    before = read(path_of(__version__))[:60]
    write(path, before)
    written = path.read_bytes()
    assert read(path) == before
    assert accept(path) == 0
    assert path.read_bytes() == written
    monkeypatch.setattr(attempts, "SWEEP_SECONDS", 7.0)
    changed = accept(path)
    after = read(path)
    assert 0 < changed < len(before)
    assert told(after) == ""
    for then, now in zip(before, after, strict=True):
        assert now.recorded._replace(decided=then.recorded.decided) == then.recorded
        assert (now.name, now.document) == (then.name, then.document)


@pytest.mark.parametrize("seed", [3, 40, 77])
def test_every_cycle_of_a_simulated_history_is_recorded_so_that_it_comes_out_again(seed: int) -> None:
    directory = workplace()
    try:
        found = list(played(seed, directory))
    finally:
        shutil.rmtree(directory)
    assert found
    assert told(found) == ""
    for each in found:
        lack = each.recorded.state.lack
        assert lack is None or lack.reason != "no_disk", "on a full disk the room is for what has to be written"
        assert CANARY not in repr(each.recorded)
