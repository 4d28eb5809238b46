"""A slice of what `python -m tests.fuzz` plays by the thousand, and the seeds that once failed, by what they found."""

from collections.abc import Iterator

import pytest

from tests.breaking import Case
from tests.fuzz_files import CHANGES, FileGround


@pytest.fixture(scope="module")
def files() -> Iterator[FileGround]:
    with FileGround() as ground:
        yield ground


def test_configuration_files_broken_in_any_way_are_read_or_refused_in_words(files: FileGround) -> None:
    met = Case(0).met
    for seed in range(150):
        case = Case(seed)
        files.play(case)
        met += case.met
    assert CHANGES.keys() <= met.keys()
    assert met["= loaded"] > 10
    assert met["= refused"] > 10


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(330, id="a value in the message breaks its line"),
        pytest.param(265, id="a value in the message is obeyed by a terminal"),
        pytest.param(452, id="a NUL in a schedule is told as it is"),
        pytest.param(4679, id="a schedule of five thousand characters is told as a whole"),
        pytest.param(219, id="the address of a webhook with a typing error is told"),
        pytest.param(6700, id="what stands behind the key is told where the blank is missing"),
    ],
)
def test_configuration_files_that_were_once_told_of_badly(seed: int, files: FileGround) -> None:
    files.play(Case(seed))
