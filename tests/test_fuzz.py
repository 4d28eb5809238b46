"""A slice of what `python -m tests.fuzz` plays by the thousand, and the seeds that once failed, by what they found."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests import fuzz_database, fuzz_files, fuzz_records, fuzz_requests
from tests.breaking import Case, Ground
from tests.fuzz_database import DatabaseGround
from tests.fuzz_files import FileGround
from tests.fuzz_records import RecordGround
from tests.fuzz_requests import RequestGround


def played(ground: Ground, seeds: range) -> Counter[str]:
    """What was met in these cases, none of which failed."""
    met: Counter[str] = Counter()
    for seed in seeds:
        case = Case(seed)
        ground.play(case)
        met += case.met
    return met


@pytest.fixture(scope="module")
def files() -> Iterator[FileGround]:
    with FileGround() as ground:
        yield ground


@pytest.fixture(scope="module")
def databases() -> Iterator[DatabaseGround]:
    with DatabaseGround() as ground:
        yield ground


def test_configuration_files_broken_in_any_way_are_read_or_refused_in_words(files: FileGround) -> None:
    met = played(files, range(150))
    assert fuzz_files.CHANGES.keys() <= met.keys()
    assert met["= loaded"] > 10
    assert met["= refused"] > 10


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(330, id="a value in the message breaks its line"),
        pytest.param(265, id="a value in the message is obeyed by a terminal"),
        pytest.param(4679, id="a schedule of five thousand characters is told as a whole"),
        pytest.param(21821, id="the name of a missing job of five thousand characters is told as a whole"),
        pytest.param(219, id="the address of a webhook with a typing error is told"),
        pytest.param(21982, id="aliases multiply the file up to the limit"),
    ],
)
def test_configuration_files_that_were_once_told_of_badly(seed: int, files: FileGround) -> None:
    files.play(Case(seed))


def test_a_broken_database_is_refused_with_what_to_do_or_does_not_matter(databases: DatabaseGround) -> None:
    met = played(databases, range(40))
    assert len(fuzz_database.CHANGES.keys() & met.keys()) > 8
    assert met["= refused"] > 5


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(1001, id="a bit in the head of a page"),
        pytest.param(1056, id="a word that is none of its kind"),
        pytest.param(1101, id="the name of a column in the schema"),
        pytest.param(1189, id="what SQLite complains of is no text"),
    ],
)
def test_broken_databases_that_were_once_taken_for_a_bug(seed: int, databases: DatabaseGround) -> None:
    databases.play(Case(seed))


@pytest.mark.real
def test_records_broken_in_any_way_end_no_cycle_and_deceive_nobody() -> None:
    with RecordGround() as ground:
        met = played(ground, range(5))
    assert len(fuzz_records.RUINS.keys() & met.keys()) > 4


@pytest.mark.real
def test_requests_wrong_in_any_way_are_answered_and_change_nothing() -> None:
    with RequestGround() as ground:
        met = played(ground, range(200))
    assert fuzz_requests.CHANGES.keys() <= met.keys()
    assert met["= 200"] > 10
    assert met["= 400"] > 10
