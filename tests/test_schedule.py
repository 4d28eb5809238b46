"""Rows of schedules: from, expressions, zone, and the instants wanted next. Times are UTC unless they say otherwise."""

import re
import time
from datetime import UTC, date, datetime, timedelta

import pytest

from procclaw.planning.schedule import Due, due_between, jitter_offset, next_due, parse, transition_on

NEW_YORK, SAO_PAULO, LORD_HOWE = "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def coming(after: str, expressions: str | tuple[str, ...], zone: str, amount: int) -> list[datetime | None]:
    schedule = parse((expressions,) if isinstance(expressions, str) else expressions, zone)
    found: list[datetime | None] = []
    at: datetime | None = utc(after)
    while at is not None and len(found) < amount:
        at = next_due(schedule, at)
        found.append(at)
    return found


def row(name: str, after: str, expression: str | tuple[str, ...], zone: str, *wanted: str) -> object:
    return pytest.param(after, expression, zone, wanted, id=name)


PUBLISHED = [
    row("time in a gap", "2026-03-07T12:00", "30 2 * * *", NEW_YORK, "2026-03-08T07:00", "2026-03-09T06:30"),
    row("two in a gap", "2026-03-07T12:00", "15,45 2 * * *", NEW_YORK, "2026-03-08T07:00", "2026-03-09T06:15"),
    row(
        "hourly through a fold",
        "2026-11-01T04:30",
        "0 * * * *",
        NEW_YORK,
        *("2026-11-01T05:00", "2026-11-01T06:00", "2026-11-01T07:00"),
    ),
    row("time in a fold", "2026-10-31T12:00", "30 1 * * *", NEW_YORK, "2026-11-01T05:30", "2026-11-02T06:30"),
    row(
        "every other hour through a gap",
        "2026-03-08T04:30",
        "0 */2 * * *",
        NEW_YORK,
        *("2026-03-08T05:00", "2026-03-08T08:00", "2026-03-08T10:00"),
    ),
    row("no midnight", "2018-11-03T12:00", "0 0 * * *", SAO_PAULO, "2018-11-04T03:00", "2018-11-05T02:00"),
    row("starred days: both", "2026-01-01T00:00", "0 0 */2 * 1", "UTC", "2026-01-05T00:00", "2026-01-19T00:00"),
    row(
        "two days: either",
        "2026-01-01T00:00",
        "0 0 13 * 5",
        "UTC",
        *("2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00", "2026-01-16T00:00"),
    ),
    row("the last Friday", "2025-01-20T00:00", "0 0 * * L5", "UTC", "2025-01-31T00:00", "2025-02-28T00:00"),
    row("the second Sunday", "2026-06-01T00:00", "0 0 * * 7#2", "UTC", "2026-06-14T00:00", "2026-07-12T00:00"),
    row("from Sunday to Sunday", "2026-06-01T00:00", "0 0 * * sun-sun", "UTC", "2026-06-07T00:00", "2026-06-14T00:00"),
    row("leap days", "2026-01-01T00:00", "0 0 29 2 *", "UTC", "2028-02-29T00:00", "2032-02-29T00:00"),
]

CLOCK_CHANGES = [
    row("just before the gap's end", "2026-03-08T06:59:59", "30 2 * * *", NEW_YORK, "2026-03-08T07:00"),
    row("exactly at the gap's end", "2026-03-08T07:00", "30 2 * * *", NEW_YORK, "2026-03-09T06:30"),
    row("a match at the gap's end", "2026-03-07T12:00", "0 3 * * *", NEW_YORK, "2026-03-08T07:00", "2026-03-09T07:00"),
    row(
        "in the gap and at its end, once",
        "2026-03-08T05:00",
        "0,30 2-3 * * *",
        NEW_YORK,
        *("2026-03-08T07:00", "2026-03-08T07:30", "2026-03-09T06:00"),
    ),
    row(
        "a gap for every half hour",
        "2026-03-08T06:20",
        "*/30 * * * *",
        NEW_YORK,
        *("2026-03-08T06:30", "2026-03-08T07:00", "2026-03-08T07:30"),
    ),
    row("a starred minute in a gap", "2026-03-07T12:00", "*/30 2 * * *", NEW_YORK, "2026-03-09T06:00"),
    row("a starred hour in a gap", "2026-03-08T05:30", "30 */2 * * *", NEW_YORK, "2026-03-08T08:30"),
    row(
        "quarters through a fold",
        "2026-11-01T05:40",
        "*/15 * * * *",
        NEW_YORK,
        *("2026-11-01T05:45", "2026-11-01T06:00", "2026-11-01T06:15"),
    ),
    row(
        "a range of hours in a fold",
        "2026-11-01T04:30",
        "0 0-2 * * *",
        NEW_YORK,
        "2026-11-01T05:00",
        "2026-11-01T07:00",
    ),
    row("between the two of a fold", "2026-11-01T05:30", "30 1 * * *", NEW_YORK, "2026-11-02T06:30"),
    row("from a fold's second pass", "2026-11-01T06:10", "30 1 * * *", NEW_YORK, "2026-11-02T06:30"),
    row("quarters from a second pass", "2026-11-01T06:10", "*/15 1 * * *", NEW_YORK, "2026-11-01T06:15"),
    row("a gap of half an hour", "2026-10-03T00:00", "15 2 * * *", LORD_HOWE, "2026-10-03T15:30", "2026-10-04T15:15"),
    row("a fold of half an hour", "2026-04-04T00:00", "45 1 * * *", LORD_HOWE, "2026-04-04T14:45", "2026-04-05T15:15"),
    row(
        "hourly, back by half an hour",
        "2026-04-04T13:30",
        "0 * * * *",
        LORD_HOWE,
        *("2026-04-04T14:00", "2026-04-04T15:30", "2026-04-04T16:30"),
    ),
    row(
        "quarters, back by half an hour",
        "2026-04-04T14:40",
        "*/15 * * * *",
        LORD_HOWE,
        *("2026-04-04T14:45", "2026-04-04T15:00", "2026-04-04T15:15", "2026-04-04T15:30"),
    ),
    row(
        "back within the hour that is due",
        "2026-04-04T13:00",
        "*/15 3 * * 0",
        "Pacific/Chatham",
        *("2026-04-04T13:15", "2026-04-04T13:30", "2026-04-04T13:45"),
        *("2026-04-04T14:15", "2026-04-04T14:30", "2026-04-04T14:45", "2026-04-04T15:00", "2026-04-11T14:15"),
    ),
    row(
        "forward at a quarter to",
        "2026-09-26T00:00",
        "0 3 * * *",
        "Pacific/Chatham",
        *("2026-09-26T14:00", "2026-09-27T13:15"),
    ),
    row("no midnight, in quarters", "2026-03-28T00:00", "*/15 0 * * 0", "Asia/Beirut", "2026-04-04T21:00"),
    row("past midnight", "2026-03-28T12:00", "30 0 * * *", "Asia/Beirut", "2026-03-28T22:00", "2026-03-29T21:30"),
    row("midnight in Cairo", "2026-04-23T12:00", "0 0 * * *", "Africa/Cairo", "2026-04-23T22:00", "2026-04-24T21:00"),
    row(
        "before a second midnight", "2018-02-17T12:00", "30 23 * * *", SAO_PAULO, "2018-02-18T01:30", "2018-02-19T02:30"
    ),
    row("at a second midnight", "2018-02-17T12:00", "0 0 * * *", SAO_PAULO, "2018-02-18T03:00", "2018-02-19T03:00"),
    row(
        "back into the day before",
        "2010-11-07T02:25",
        "*/30 * * * *",
        "America/St_Johns",
        *("2010-11-07T02:30", "2010-11-07T03:00", "2010-11-07T03:30"),
    ),
    row("a gap of two hours", "2026-03-28T12:00", "30 2 * * *", "Antarctica/Troll", "2026-03-29T01:00"),
    row(
        "a gap of three hours",
        "2020-10-03T00:00",
        "30 1 * * *",
        "Antarctica/Casey",
        "2020-10-03T16:01",
        "2020-10-04T14:30",
    ),
    row("a gap of a day", "2011-12-29T00:00", "0 12 * * *", "Pacific/Apia", "2011-12-29T22:00", "2011-12-30T22:00"),
    row("a day there was not", "2011-12-01T00:00", "0 12 30 12 *", "Pacific/Apia", "2012-12-29T22:00"),
]

CALENDAR = [
    row("months without a 31st", "2026-01-31T00:00", "0 0 31 * *", "UTC", "2026-03-31T00:00", "2026-05-31T00:00"),
    row(
        "last days", "2026-01-31T00:00", "0 0 L * *", "UTC", "2026-02-28T00:00", "2026-03-31T00:00", "2026-04-30T00:00"
    ),
    row("last days of February", "2027-12-01T00:00", "0 12 L 2 *", "UTC", "2028-02-29T12:00", "2029-02-28T12:00"),
    row("no leap day in 2100", "2096-03-01T00:00", "0 0 29 2 *", "UTC", "2104-02-29T00:00"),
    row(
        "leap days that are Sundays",
        "2026-01-01T00:00",
        "0 0 29 2 */7",
        "UTC",
        *("2032-02-29T00:00", "2060-02-29T00:00", "2088-02-29T00:00", "2128-02-29T00:00"),
    ),
    row("the year's last minute", "2026-01-01T00:00", "59 23 31 12 *", "UTC", "2026-12-31T23:59", "2027-12-31T23:59"),
    row("over the year's end", "2026-12-31T23:58", "* * * * *", "UTC", "2026-12-31T23:59", "2027-01-01T00:00"),
    row("second Fridays", "2026-01-01T00:00", "0 0 * * 5#2", "UTC", "2026-01-09T00:00", "2026-02-13T00:00"),
    row("second Wednesday, the 14th", "2026-01-01T00:00", "0 0 * * wed#2", "UTC", "2026-01-14T00:00"),
    row("last Fridays", "2026-01-01T00:00", "0 0 * * L5", "UTC", "2026-01-30T00:00", "2026-02-27T00:00"),
    row("fifth Mondays", "2026-01-01T00:00", "0 0 * * mon#5", "UTC", "2026-03-30T00:00", "2026-06-29T00:00"),
    row("Sunday as 7", "2026-01-01T00:00", "0 0 * * 7", "UTC", "2026-01-04T00:00", "2026-01-11T00:00"),
    row(
        "a range up to Sunday",
        "2026-01-01T00:00",
        "0 0 * * 5-7",
        "UTC",
        *("2026-01-02T00:00", "2026-01-03T00:00", "2026-01-04T00:00", "2026-01-09T00:00"),
    ),
    row("names of months and days", "2026-01-01T00:00", "0 0 * FEB Mon", "UTC", "2026-02-02T00:00", "2026-02-09T00:00"),
    row(
        "a step from the last value", "2026-01-01T00:00", "59/15 * * * *", "UTC", "2026-01-01T00:59", "2026-01-01T01:59"
    ),
    row("a step from a value", "2026-01-01T00:30", "5/20 * * * *", "UTC", "2026-01-01T00:45", "2026-01-01T01:05"),
    row("a range of one", "2026-01-01T00:00", "5-5 * * * *", "UTC", "2026-01-01T00:05", "2026-01-01T01:05"),
    row("within a second", "2026-01-01T00:00:00.5", "0 0 * * *", "UTC", "2026-01-02T00:00"),
    row("just before", "2025-12-31T23:59:59.999999", "0 0 * * *", "UTC", "2026-01-01T00:00"),
    row("weekly", "2026-01-01T00:00", "@weekly", "UTC", "2026-01-04T00:00"),
    row("local time of a far zone", "2026-01-01T00:00", "@daily", "Asia/Kathmandu", "2026-01-01T18:15"),
]

PERIODS_AND_UNIONS = [
    row("seconds", "2026-01-01T00:00", "@every 90s", "UTC", "2026-01-01T00:01:30", "2026-01-01T00:03"),
    row("since the epoch", "2026-01-01T00:00", "@every 1h30m", "UTC", "2026-01-01T01:30", "2026-01-01T03:00"),
    row("days", "2026-01-01T00:00", "@every 2d", "Asia/Tokyo", "2026-01-03T00:00", "2026-01-05T00:00"),
    row("through a fold", "2026-11-01T05:00", "@every 1h", NEW_YORK, "2026-11-01T06:00", "2026-11-01T07:00"),
    row("same instant twice", "2026-01-01T00:30", ("0 * * * *", "@hourly", "@every 1h"), "UTC", "2026-01-01T01:00"),
    row(
        "a cron line and a period",
        "2026-01-01T00:00",
        ("0 1 * * *", "@every 40m"),
        "UTC",
        *("2026-01-01T00:40", "2026-01-01T01:00", "2026-01-01T01:20"),
    ),
    row(
        "two cron lines",
        "2026-01-01T00:00",
        ("30 9 * * 1-5", "0 11 * * sat"),
        "UTC",
        *("2026-01-01T09:30", "2026-01-02T09:30", "2026-01-03T11:00", "2026-01-05T09:30"),
    ),
    row(
        "a fixed and a following line in a fold",
        "2026-11-01T05:20",
        ("30 1 * * *", "45 * * * *"),
        NEW_YORK,
        *("2026-11-01T05:30", "2026-11-01T05:45", "2026-11-01T06:45"),
    ),
]


@pytest.mark.parametrize(
    ("after", "expression", "zone", "wanted"), PUBLISHED + CLOCK_CHANGES + CALENDAR + PERIODS_AND_UNIONS
)
def test_the_next_instants_are(
    after: str, expression: str | tuple[str, ...], zone: str, wanted: tuple[str, ...]
) -> None:
    assert coming(after, expression, zone, len(wanted)) == [utc(text) for text in wanted]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
def test_the_ends_of_the_calendar_are_no_trouble(zone: str) -> None:
    schedule = parse(("0 0 1 * *", "@every 36d"), zone)
    beginning, end = utc("0001-01-01"), utc("9999-12-31T23:59:59.999999")
    first = next_due(schedule, beginning)
    assert first is not None
    assert due_between(schedule, beginning, first, 2) == Due(1, first, (first,))
    assert next_due(schedule, end) is None
    assert due_between(schedule, utc("9997-12-15"), end, 0).count >= 1


@pytest.mark.parametrize(
    ("after", "until", "wanted"),
    [
        pytest.param("2026-01-01T00:00", "2026-01-01T00:59", [], id="none"),
        pytest.param("2026-01-01T00:00", "2026-01-01T01:00", ["2026-01-01T01:00"], id="one, exactly at the end"),
        pytest.param("2026-01-01T01:00", "2026-01-01T01:59", [], id="exactly at the start"),
        pytest.param("2026-01-01T01:00", "2026-01-01T01:00", [], id="empty span"),
        pytest.param("2026-01-02T00:00", "2026-01-01T00:00", [], id="backwards"),
        pytest.param("2026-01-01T00:30", "2026-01-01T02:30", ["2026-01-01T01:00", "2026-01-01T02:00"], id="two"),
    ],
)
def test_a_span_excludes_its_start_and_includes_its_end(after: str, until: str, wanted: list[str]) -> None:
    times = tuple(utc(text) for text in wanted)
    found = due_between(parse(("@hourly",), "UTC"), utc(after), utc(until), 10)
    assert found == Due(len(times), times[0] if times else None, times)


def test_only_as_many_of_the_latest_are_kept_as_asked_for() -> None:
    schedule = parse(("@hourly", "@every 30m"), "UTC")
    span = (utc("2026-01-01T00:00"), utc("2026-01-02T00:00"))
    assert due_between(schedule, *span, 0) == Due(48, utc("2026-01-01T00:30"), ())
    assert due_between(schedule, *span, 3).latest == tuple(
        map(utc, ("2026-01-01T23:00", "2026-01-01T23:30", "2026-01-02"))
    )
    assert len(due_between(schedule, *span, 100).latest) == 48


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("0 0 1 1,3,8 *", ["2026-01-01", "2026-03-01", "2026-08-01"]),
        ("0 0 31 1,12 *", ["2025-12-31", "2026-01-31"]),
    ],
)
def test_months_without_a_due_day_are_stepped_over_in_either_direction(expression: str, wanted: list[str]) -> None:
    instants = [utc(day) for day in wanted]
    after, until = utc("2025-12-15"), utc("2026-11-30")
    schedule = parse((expression,), "UTC")
    assert due_between(schedule, after, until, 5) == Due(len(wanted), instants[0], tuple(instants))
    assert coming("2025-12-15", expression, "UTC", len(wanted)) == instants


def test_an_instant_of_an_expression_and_of_a_period_is_one_in_every_zone() -> None:
    schedule = parse(("0 9 * * *", "@every 13h"), NEW_YORK)
    at = utc("2026-06-01T13:00")
    assert due_between(schedule, at - timedelta(minutes=30), at + timedelta(minutes=30), 5) == Due(1, at, (at,))


def test_what_is_due_in_a_gap_and_at_its_end_counts_once() -> None:
    span = (utc("2026-03-08T06:00"), utc("2026-03-08T07:10"))
    wanted = (utc("2026-03-08T07:00"),)
    assert due_between(parse(("0,30 2-3 * * *",), NEW_YORK), *span, 9) == Due(1, *wanted, wanted)
    assert due_between(parse(("30 2 * * *", "@every 1h"), NEW_YORK), *span, 9) == Due(1, *wanted, wanted)


@pytest.mark.parametrize(
    ("expressions", "wanted"),
    [
        pytest.param(("* * * * *",), 400 * 1440, id="minutely"),
        pytest.param(("@every 1s",), 400 * 86400, id="each second"),
        pytest.param(("30 1 * * *",), 400, id="daily at a time that is repeated once"),
        pytest.param(("30 2 * * *",), 400, id="daily at a time that is jumped over twice"),
        pytest.param(("*/30 2 * * *",), 800 - 4, id="half-hourly in an hour that is jumped over twice"),
        pytest.param(("*/30 1 * * *",), 800 + 2, id="half-hourly in an hour that is repeated once"),
        pytest.param(("* * * * *", "0 * * * *", "@every 2m"), 400 * 1440, id="all contained in the first"),
        pytest.param(("@every 2m", "@every 3m", "@every 4m"), 400 * 24 * 40, id="periods that overlap"),
        pytest.param(("0 * * * *", "@every 45m"), 400 * 24 + 400 * 24, id="every fourth period on the hour"),
    ],
)
def test_400_days_are_counted_in_milliseconds(expressions: tuple[str, ...], wanted: int) -> None:
    until = utc("2026-04-01T12:00")
    after = until - timedelta(days=400)  # two springs, one autumn
    schedule = parse(expressions, NEW_YORK)
    next_due(schedule, after)
    began = time.process_time()
    found = due_between(schedule, after, until, 100)
    took = time.process_time() - began
    assert found.count == wanted
    assert len(found.latest) == 100
    assert took < 0.25, "some 5 ms on an idle machine; one step per instant would take seconds"


@pytest.mark.parametrize(
    ("zone", "day", "wanted"),
    [
        (NEW_YORK, date(2026, 3, 7), None),
        (NEW_YORK, date(2026, 3, 8), timedelta(hours=1)),
        (NEW_YORK, date(2026, 11, 1), timedelta(hours=-1)),
        (LORD_HOWE, date(2026, 10, 4), timedelta(minutes=30)),
        (SAO_PAULO, date(2018, 2, 17), timedelta(hours=-1)),
        (SAO_PAULO, date(2018, 2, 18), None),
        (SAO_PAULO, date(2018, 11, 3), None),
        (SAO_PAULO, date(2018, 11, 4), timedelta(hours=1)),
        ("Pacific/Apia", date(2011, 12, 31), timedelta(days=1)),
        ("UTC", date(2026, 3, 8), None),
    ],
)
def test_days_on_which_clocks_are_moved_are_known(zone: str, day: date, wanted: timedelta | None) -> None:
    assert transition_on(zone, day) == wanted


def test_jitter_is_the_jobs_own_for_ever() -> None:
    assert [round(jitter_offset(job, 60), 3) for job in ("report", "backup", "backup-2")] == [31.024, 19.878, 9.411]
    assert jitter_offset("report", 0) == 0


def test_jitter_spreads_over_its_whole_span_and_stays_below_it() -> None:
    offsets = sorted(jitter_offset(f"job-{n}", 10.0) for n in range(1000))
    assert offsets[0] >= 0
    assert offsets[-1] < 10
    assert all(90 < sum(tenth <= offset < tenth + 2 for offset in offsets) < 310 for tenth in range(9))


def test_the_same_text_is_parsed_once() -> None:
    assert parse(("5 * * * *",), "UTC") is parse(("5 * * * *",), "UTC")
    assert hash(parse(("5 * * * *",), "UTC")) == hash(parse(("5 * * * *",), "UTC"))


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("America/Sao_Paolo", '"America/Sao_Paolo" is not a time zone known here; did you mean "America/Sao_Paulo"?'),
        ("europe/berlin", '"europe/berlin" is not a time zone known here; did you mean "Europe/Berlin"?'),
        ("?", '"?" is not a time zone known here; names look like "Europe/Berlin" or "UTC"'),
        ("", '"" is not a time zone known here; names look like "Europe/Berlin" or "UTC"'),
        (
            "../../etc/passwd",
            '"../../etc/passwd" is not a time zone known here; names look like "Europe/Berlin" or "UTC"',
        ),
        ("Europe", '"Europe" is not a time zone known here'),
    ],
)
def test_an_unknown_zone_is_refused(zone: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        parse(("@daily",), zone)


def test_a_schedule_without_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="a schedule needs at least one expression"):
        parse((), "UTC")
