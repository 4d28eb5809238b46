"""Moments: what is kept, what is shown, and what people may write."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procclaw.model.clock import (
    SystemClock,
    after,
    from_microseconds,
    iso,
    parse_iso,
    parse_span,
    seconds_between,
    to_microseconds,
)
from tests.builders import NOW, ago, later

moments = st.datetimes(timezones=st.just(UTC))


@given(moments)
def test_a_moment_survives_being_kept(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment


@given(moments)
def test_a_shown_moment_can_be_read_back_to_the_millisecond(moment: datetime) -> None:
    assert abs(parse_iso(iso(moment)) - moment) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "2026-06-01T12:00:00Z"),
        (later(0.5), "2026-06-01T12:00:00.500Z"),
        (later(0.000001), "2026-06-01T12:00:00Z"),
        (later(10.25), "2026-06-01T12:00:10.250Z"),
        (NOW.astimezone(ZoneInfo("Asia/Kolkata")), "2026-06-01T12:00:00Z"),
    ],
)
def test_moments_are_shown_in_utc_with_milliseconds_where_there_are_any(moment: datetime, text: str) -> None:
    assert iso(moment) == text


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-06-01T12:00:00Z", None, NOW),
        ("2026-06-01T14:00:00+02:00", ZoneInfo("Asia/Tokyo"), NOW),
        ("2026-06-01T12:00", None, NOW),
        ("2026-06-01 14:00", ZoneInfo("Europe/Berlin"), NOW),
        ("2026-06-01", None, ago(12 * 3600)),
    ],
)
def test_a_time_without_an_offset_is_in_the_zone_that_is_given(
    text: str, zone: ZoneInfo | None, moment: datetime
) -> None:
    assert parse_iso(text, zone) == moment


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "12:00", "2026-06-01T25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_iso(text)


def test_a_span_beyond_the_calendar_ends_with_it() -> None:
    assert after(NOW, 1e18) == datetime.max.replace(tzinfo=UTC)
    assert after(NOW, 1.5) == later(1.5)


def test_spans_are_seconds_and_may_be_negative() -> None:
    assert seconds_between(NOW, later(1.5)) == 1.5
    assert seconds_between(NOW, ago(2)) == -2
    assert seconds_between(NOW, NOW.astimezone(timezone(timedelta(hours=5)))) == 0


def test_the_machines_clock_goes_forward_in_utc() -> None:
    clock = SystemClock()
    first, earlier = clock.now(), clock.monotonic()
    clock.sleep(0)
    assert clock.monotonic() >= earlier
    assert first.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("0.5s", 0.5), ("15m", 900), ("2h", 7200), ("30d", 30 * 86_400), ("1w", 7 * 86_400), ("0s", 0)],
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "1.s", "2d2h", "1 h", "1H", "\u0661s", "1" * 10 + "s", "1h\n"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span such as 90s"):
        parse_span(text)
