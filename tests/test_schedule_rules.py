"""Rules over random schedules, judged by a reference that looks at every minute of real time, one after the other.

The reference shares nothing with the code under test but zoneinfo: an expression is drawn together with the sets of
values it stands for, so neither croniter nor our own reading of it takes part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from procclaw.planning.schedule import Schedule, due_between, next_due, parse

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
WINDOW = timedelta(days=2)

# Zone, and the middle of a window around something that happens there. Half of them are no clock changes of an hour.
SCENES = [
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/London", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),  # back by 30 minutes
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),  # forward by 30 minutes
    ("Pacific/Chatham", datetime(2026, 4, 4, 14, tzinfo=UTC)),  # +13:45 to +12:45
    ("Pacific/Chatham", datetime(2026, 9, 26, 14, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),  # midnight twice
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),  # no midnight
    ("Asia/Beirut", datetime(2026, 3, 28, 22, tzinfo=UTC)),  # no midnight
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),  # no midnight
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),  # 00:01 back to 23:01 of the day before
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),  # forward by two hours
    ("Antarctica/Casey", datetime(2018, 3, 10, 17, tzinfo=UTC)),  # back by three hours
    ("Antarctica/Casey", datetime(2020, 10, 3, 16, 1, tzinfo=UTC)),  # forward by three hours, at 00:01
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),  # a whole day is left out
    ("Asia/Pyongyang", datetime(2018, 5, 4, 15, tzinfo=UTC)),  # +8:30 to +9
    ("Asia/Kathmandu", datetime(1985, 12, 31, 18, 30, tzinfo=UTC)),  # +5:30 to +5:45 on New Year
    ("UTC", datetime(2024, 2, 28, tzinfo=UTC)),  # a leap day
    ("Asia/Kolkata", datetime(2025, 12, 31, 20, tzinfo=UTC)),  # the end of a year
]


@dataclass(frozen=True)
class Field:
    text: str
    values: frozenset[int]


@dataclass(frozen=True)
class Line:
    """A cron line with what it stands for; `nth` restricts its weekdays: 1 to 5, or -1 for the last of a month."""

    minute: Field
    hour: Field
    month_day: Field
    month: Field
    weekday: Field
    nth: int | None

    @property
    def text(self) -> str:
        fields = (self.minute, self.hour, self.month_day, self.month, self.weekday)
        return " ".join(field.text for field in fields)

    @property
    def is_fixed(self) -> bool:
        return not (self.minute.text[0] == "*" or self.hour.text[0] == "*")

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minute.values
            and wall.hour in self.hour.values
            and wall.month in self.month.values
            and self.day_matches(wall)
        )

    def day_matches(self, wall: datetime) -> bool:
        last = (wall + DAY).month != wall.month
        by_month = wall.day in self.month_day.values or (last and "L" in self.month_day.text)
        by_week = wall.isoweekday() % 7 in self.weekday.values and (
            self.nth is None
            or (wall.day - 1) // 7 + 1 == self.nth
            or (self.nth == -1 and (wall + 7 * DAY).month != wall.month)
        )
        starred = self.month_day.text[0] in "*?" or self.weekday.text[0] in "*?"
        return by_month and by_week if starred else by_month or by_week


@dataclass(frozen=True)
class Moment:
    """A minute of real time and what the wall clock shows; `skipped` are the minutes it jumped over to get there."""

    at: datetime
    wall: datetime
    is_repeated: bool
    skipped: tuple[datetime, ...]


@lru_cache
def scene(zone: str, middle: datetime) -> tuple[Moment, ...]:
    return tuple(moments(zone, middle - WINDOW / 2, middle + WINDOW / 2))


def moments(zone: str, begin: datetime, end: datetime) -> Iterator[Moment]:
    tz = ZoneInfo(zone)
    before = (begin - MINUTE).astimezone(tz).replace(tzinfo=None)
    at = begin
    while at <= end:
        local = at.astimezone(tz)
        wall = local.replace(tzinfo=None, fold=0)
        jump = (wall - before) // MINUTE
        yield Moment(at, wall, local.fold == 1, tuple(before + n * MINUTE for n in range(1, jump)))
        before, at = wall, at + MINUTE


def is_due(line: Line, moment: Moment) -> bool:
    if not line.is_fixed:
        return line.matches(moment.wall)
    if len(moment.skipped) <= 180 and any(line.matches(wall) for wall in moment.skipped):
        return True
    return line.matches(moment.wall) and not moment.is_repeated


def expected(lines: tuple[Line, ...], periods: tuple[int, ...], seen: tuple[Moment, ...]) -> list[datetime]:
    found = {moment.at for moment in seen if any(is_due(line, moment) for line in lines)}
    first, last = (int(moment.at.timestamp()) for moment in (seen[0], seen[-1]))
    for period in periods:
        found |= {datetime.fromtimestamp(at, UTC) for at in range(first + -first % period, last + 1, period)}
    return sorted(found)


def fields(low: int, high: int, *also: str) -> st.SearchStrategy[Field]:
    whole = frozenset(range(low, high + 1))
    value = st.integers(low, high)
    several = st.sets(value, min_size=1, max_size=4)
    pair = st.tuples(value, value).map(sorted)
    step = st.integers(1, high)
    return st.one_of(
        st.sampled_from(("*", *also)).map(lambda text: Field(text, whole)),
        value.map(lambda n: Field(str(n), frozenset({n}))),
        several.map(lambda ns: Field(",".join(map(str, sorted(ns))), frozenset(ns))),
        pair.map(lambda ends: Field(f"{ends[0]}-{ends[1]}", frozenset(range(ends[0], ends[1] + 1)))),
        step.map(lambda n: Field(f"*/{n}", frozenset(range(low, high + 1, n)))),
        st.tuples(value, step).map(lambda v: Field(f"{v[0]}/{v[1]}", frozenset(range(v[0], high + 1, v[1])))),
        st.tuples(pair, step).map(
            lambda v: Field(f"{v[0][0]}-{v[0][1]}/{v[1]}", frozenset(range(v[0][0], v[0][1] + 1, v[1])))
        ),
        st.tuples(step, value).map(lambda v: Field(f"*/{v[0]},{v[1]}", frozenset(range(low, high + 1, v[0])) | {v[1]})),
    )


anything = Field("*", frozenset(range(32)))
month_days = st.one_of(
    fields(1, 31, "?"), st.sampled_from([anything, Field("L", frozenset()), Field("15,L", frozenset({15}))])
)
plain_weekdays = st.one_of(
    fields(0, 6, "?"),
    st.sampled_from(
        [
            anything,
            Field("7", frozenset({0})),
            Field("5-7", frozenset({5, 6, 0})),
            Field("Mon-FRI", frozenset({1, 2, 3, 4, 5})),
            Field("fri-Sun", frozenset({5, 6, 0})),
        ]
    ),
)
weekdays = st.one_of(
    plain_weekdays.map(lambda field: (field, None)),
    st.tuples(st.integers(0, 6), st.integers(1, 5)).map(lambda v: (Field(f"{v[0]}#{v[1]}", frozenset({v[0]})), v[1])),
    st.integers(0, 6).map(lambda day: (Field(f"L{day}", frozenset({day})), -1)),
)
every_day = st.just((anything, anything, (anything, None)))
some_days = st.tuples(month_days, st.one_of(st.just(anything), fields(1, 12)), weekdays)


def can_happen(line: Line) -> bool:
    first = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall clock
    days = (first + n * DAY for n in range(28 * 366))
    return any(day.month in line.month.values and line.day_matches(day) for day in days)


def lines_near(zone: str, middle: datetime) -> st.SearchStrategy[Line]:
    """Cron lines of which many are due when the clocks change: drawn evenly, few would ever meet that."""
    around = [(middle + n * timedelta(minutes=30)).astimezone(ZoneInfo(zone)).hour for n in range(-5, 6)]
    skipped = [wall.hour for moment in scene(zone, middle) for wall in moment.skipped]
    near = st.sampled_from(around + skipped).map(lambda n: Field(str(n), frozenset({n})))
    to_near = st.sampled_from(around + skipped).map(lambda n: Field(f"0-{n}", frozenset(range(n + 1))))
    hours = st.one_of(near, to_near, fields(0, 23))
    return st.builds(
        lambda minute, hour, days: Line(minute, hour, days[0], days[1], *days[2]),
        st.one_of(fields(0, 59), st.sampled_from([0, 1, 30]).map(lambda n: Field(f"{n}", frozenset({n})))),
        hours,
        st.one_of(every_day, every_day, some_days),
    ).filter(can_happen)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Schedule, list[datetime], datetime, datetime]:
    """A schedule, every instant of a window at which it is due, and two moments within that window, in order."""
    zone, middle = draw(st.sampled_from(SCENES))
    lines = tuple(draw(st.lists(lines_near(zone, middle), max_size=3)))
    some_periods: st.SearchStrategy[list[int]] = st.lists(
        st.sampled_from([60, 90, 420, 3_600, 5_400, 86_400, 100_000]), max_size=3
    )
    periods = tuple(draw(st.just([]) | some_periods)) if lines else (draw(st.integers(40, 200_000)),)
    # Near the change each minute matters, and to start exactly at it, or within a repeated hour, as much as any.
    near = st.integers(-100, 100).map(lambda n: middle + n * MINUTE)
    anywhere = st.integers(-int(WINDOW.total_seconds()) // 2, int(WINDOW.total_seconds()) // 2).map(
        lambda n: middle + timedelta(seconds=n)
    )
    a_moment = st.one_of(st.sampled_from([middle, middle - timedelta(seconds=1)]), near, anywhere)
    begin, end = sorted((draw(a_moment), draw(a_moment)))
    begin = min(begin + draw(st.sampled_from([timedelta(0), timedelta(0), timedelta(microseconds=1)])), end)
    expressions = tuple(line.text for line in lines) + tuple(f"@every {period}s" for period in periods)
    return parse(expressions, zone), expected(lines, periods, scene(zone, middle)), begin, end


@settings(deadline=None)
@given(plans())
def test_the_coming_instants_are_those_of_the_minute_by_minute_reference(
    plan: tuple[Schedule, list[datetime], datetime, datetime],
) -> None:
    schedule, due, begin, _ = plan
    wanted = [at for at in due if at > begin][:25]
    at: datetime | None = begin
    found = []
    for _ in wanted:
        assert at is not None
        following = next_due(schedule, at)
        assert following is None or following > at
        at = following
        found.append(at)
    assert found == wanted


@settings(deadline=None)
@given(plans(), st.integers(0, 30))
def test_what_came_due_in_a_span_is_counted_without_being_listed(
    plan: tuple[Schedule, list[datetime], datetime, datetime], keep: int
) -> None:
    schedule, due, begin, end = plan
    wanted = [at for at in due if begin < at <= end]
    found = due_between(schedule, begin, end, keep)
    assert (found.count, found.first) == (len(wanted), wanted[0] if wanted else None)
    assert list(found.latest) == (wanted[-keep:] if keep else [])


@settings(deadline=None)
@given(plans(), st.integers(0, 120))
def test_the_sequence_is_the_same_from_wherever_it_is_asked_for(
    plan: tuple[Schedule, list[datetime], datetime, datetime], minutes_earlier: int
) -> None:
    schedule, _, begin, _ = plan
    wanted = next_due(schedule, begin)
    at = next_due(schedule, begin - minutes_earlier * MINUTE)
    while at is not None and at <= begin:
        at = next_due(schedule, at)
    assert at == wanted


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SCENES).flatmap(lambda where: st.tuples(st.just(where), lines_near(*where))), st.integers(0, 40))
def test_over_a_long_outage_counting_and_stepping_agree(drawn: tuple[tuple[str, datetime], Line], keep: int) -> None:
    (zone, middle), line = drawn
    schedule = parse((line.text, "@every 25h"), zone)
    begin = middle - timedelta(days=200)
    stepped = list(islice(stepping(schedule, begin), 2_000))
    found = due_between(schedule, begin, stepped[-1], keep)
    assert (found.count, found.first) == (len(stepped), stepped[0])
    assert list(found.latest) == (stepped[-keep:] if keep else [])


def stepping(schedule: Schedule, begin: datetime) -> Iterator[datetime]:
    at = next_due(schedule, begin)
    while at is not None and at <= begin + timedelta(days=800):
        yield at
        at = next_due(schedule, at)


def test_the_reference_knows_what_a_leap_day_and_a_last_friday_are() -> None:
    whole = Field("*", frozenset(range(60)))
    noon = Line(Field("0", frozenset({0})), Field("12", frozenset({12})), whole, whole, Field("L5", frozenset({5})), -1)
    seen = tuple(moments("UTC", datetime(2024, 2, 22, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)))
    assert [at.date() for at in expected((noon,), (), seen)] == [date(2024, 2, 23)]
    leap = Line(noon.minute, noon.hour, Field("29", frozenset({29})), whole, whole, None)
    assert [at.date() for at in expected((leap,), (), seen)] == [date(2024, 2, 29)]
