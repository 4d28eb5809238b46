"""The oracle's own arithmetic of due times: right by hand where clocks change, and the same as the product's."""

from datetime import UTC, datetime, timedelta

import pytest

from procclaw.planning.schedule import due_between, parse
from tests.declared import SCHEDULES, UNHURRIED, ZONES, a_job
from tests.timetables import FIRST_OF_TWO, MOST_COUNTED, SECOND_OF_TWO, SPRING, Timetable, stretches, timetable


def table(*expressions: str, zone: str) -> Timetable:
    return timetable(a_job(type="scheduled", schedule=list(expressions), timezone=zone))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "zone", "night", "wanted"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["01:00"]),
        ("30 1,2 * * *", "Europe/Berlin", "2026-03-29", ["00:30", "01:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29", []),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["00:30"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25", ["00:00", "00:30", "01:00", "01:30"]),
        ("0 2 * * 0", "Australia/Lord_Howe", "2026-10-03", ["15:30"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04", ["14:45"]),
    ],
)
def test_what_is_due_in_the_night_of_a_change(expression: str, zone: str, night: str, wanted: list[str]) -> None:
    begin = utc(night) - timedelta(seconds=1)
    found = table(expression, zone=zone).between(begin, begin + timedelta(hours=20))
    assert [f"{at:%H:%M}" for at in found] == wanted


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expressions", [*SCHEDULES, *UNHURRIED], ids=str)
def test_the_product_and_the_oracle_know_the_same_due_times(expressions: list[str], zone: str) -> None:
    changes = [stretch.begin for stretch in stretches("Europe/Berlin") + stretches(zone) if stretch.moved][:8]
    for change in changes:
        begin = datetime.fromtimestamp(change, UTC) - timedelta(hours=30)
        end = begin + timedelta(hours=60)
        due = due_between(parse(tuple(expressions), zone), begin, end, keep=10_000)
        assert list(due.latest) == table(*expressions, zone=zone).between(begin, end)


def test_a_slot_of_a_night_of_change_is_known_for_one() -> None:
    nights = table("30 2 * * *", "*/30 2 * * *", zone="Europe/Berlin")
    wanted = {
        "2026-03-29 01:00": SPRING,
        "2026-10-25 00:30": FIRST_OF_TWO,
        "2026-10-25 01:30": SECOND_OF_TWO,
        "2026-03-28 01:30": "",
        "2026-10-25 02:00": "",
    }
    assert {moment: nights.season_of(utc(moment)) for moment in wanted} == wanted


def test_a_long_stretch_gives_as_many_slots_as_are_counted_at_most_although_clocks_are_set_back_in_it() -> None:
    years = table("7 * * * *", zone="Australia/Lord_Howe").between(utc("2024-01-01"), utc("2026-06-01 00:30"))
    assert len(years) >= MOST_COUNTED
