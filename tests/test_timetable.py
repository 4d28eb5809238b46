"""A schedule as one text: what it comes to be, and what came due by it."""

from datetime import timedelta
from typing import Any

import pytest

from procclaw.planning.schedule import Due
from procclaw.planning.timetable import NO_SCHEDULE, due_between, next_due, schedule_key
from tests.builders import NOW, a_job, ago, later

ONCE = schedule_key(a_job("oneshot"))
NOTHING = Due(0, None, ())


@pytest.mark.parametrize(
    ("kind", "fields", "key"),
    [
        (
            "scheduled",
            {"schedule": ("0 * * * *", "@every 7m"), "timezone": "Europe/Berlin"},
            "0 * * * *\n@every 7m\nEurope/Berlin",
        ),
        ("scheduled", {"enabled": False}, NO_SCHEDULE),
        ("oneshot", {}, "once 1780315200000000"),
        ("oneshot", {"enabled": False}, NO_SCHEDULE),
        ("oneshot", {"run_at": None}, NO_SCHEDULE),
        ("manual", {"run_at": NOW}, NO_SCHEDULE),
        ("continuous", {"schedule": "0 * * * *"}, NO_SCHEDULE),
    ],
)
def test_what_a_job_follows_is_one_text(kind: str, fields: dict[str, Any], key: str) -> None:
    assert schedule_key(a_job(kind, **fields)) == key


def test_a_single_time_is_due_once_and_a_span_excludes_its_start_and_includes_its_end() -> None:
    assert due_between(ONCE, ago(1), NOW, 1) == Due(1, NOW, (NOW,))
    assert due_between(ONCE, ago(1), later(1), 0) == Due(1, NOW, ())
    assert due_between(ONCE, NOW, later(1), 1) == NOTHING
    assert due_between(ONCE, ago(2), ago(1), 1) == NOTHING
    assert (next_due(ONCE, ago(1)), next_due(ONCE, NOW)) == (NOW, None)


def test_what_has_no_schedule_is_never_due() -> None:
    assert due_between(NO_SCHEDULE, ago(9000), NOW, 5) == NOTHING
    assert next_due(NO_SCHEDULE, NOW) is None


def test_an_expression_is_due_in_its_zone() -> None:
    key = schedule_key(a_job("scheduled", schedule="0 15 * * *", timezone="Europe/Berlin"))
    at = NOW + timedelta(hours=1)
    assert next_due(key, NOW) == at
    assert due_between(key, NOW, later(7200), 1) == Due(1, at, (at,))
