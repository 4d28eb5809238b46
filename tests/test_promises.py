"""The README's table of promises: each names tests that exist and run, so nothing stands there that is not shown."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ROWS = README.split("| promise | whatever happens | shown by |\n|---|---|---|\n")[1].split("\n\n")[0].splitlines()
INVARIANTS = 12


def _named_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


THERE = _named_tests()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_a_promise_names_the_tests_that_show_it(row: str) -> None:
    named = re.findall(r"`(test_\w+)`", row)
    assert named, "a promise without a test"
    assert [name for name in named if name not in THERE] == []


def test_every_invariant_of_the_simulated_world_is_promised() -> None:
    numbers = {int(number) for row in ROWS for number in re.findall(r"\d+", row.split("|")[1].partition(")")[0])}
    assert numbers == set(range(1, INVARIANTS + 1))
