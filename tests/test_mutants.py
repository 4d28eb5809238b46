"""The list of what no test notices of a changed planner is kept with the planner, and each entry has its reason."""

import pytest

from tests.mutants import PLANNING, SURVIVORS, listed


@pytest.mark.parametrize("mutant", sorted(listed()))
def test_what_is_listed_as_surviving_is_still_written_so(mutant: str) -> None:
    where, _, change = mutant.partition(": ")
    module, _, function = where.partition(".")
    source = (PLANNING / f"{module}.py").read_text()
    assert f"def {function.rpartition('.')[2]}(" in source
    for line in change.partition(" => ")[0].split(" / "):
        assert line in source


def test_each_survivor_stands_below_its_reason() -> None:
    blocks = [block.splitlines() for block in SURVIVORS.read_text().strip().split("\n\n")]
    for reason, *mutants in blocks[1:]:
        assert not reason.startswith(" ")
        assert mutants
        assert all(mutant.startswith("    ") for mutant in mutants)
