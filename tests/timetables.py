"""When the jobs of a simulated home come due, by plain arithmetic and apart from the product's own.

A zone's time is cut into stretches of one offset. Within a stretch every series of slots is as regular as a period;
where two stretches meet, a *fixed* series (neither its minute nor its hour begins with a star) has once what the gap
left out, at its end, and has nothing twice. Only what the simulated jobs are declared with can be read here.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from procclaw.model.clock import from_microseconds, to_microseconds
from procclaw.model.document import Document

MOST_COUNTED = 5_000
SPRING = "due at the end of the gap of spring"
FIRST_OF_TWO = "due in the hour that autumn repeats"
SECOND_OF_TWO = "due in the repeated hour of autumn"
_DAY = 86_400
_FIRST, _LAST = datetime(2025, 6, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
"""As far as the clock of any history can be set."""


class Stretch(NamedTuple):
    """Seconds since the epoch, from `begin` to before `end`, in which a zone has one offset."""

    begin: int
    end: int
    offset: int
    moved: int
    """How far the clocks were set at `begin`; positive: an hour was left out."""


@cache
def stretches(zone: str) -> tuple[Stretch, ...]:
    tz = ZoneInfo(zone)

    def offset(at: int) -> int:
        span = datetime.fromtimestamp(at, tz).utcoffset()
        assert span is not None
        return span // timedelta(seconds=1)

    days = range(int(_FIRST.timestamp()), int(_LAST.timestamp()), _DAY)
    changes = [days[0]]
    offsets = [offset(days[0])]
    for day in days[1:]:
        if offset(day) != offsets[-1]:
            changes.append(_first(lambda at: offset(at) != offsets[-1], day - _DAY, day))
            offsets.append(offset(day))
    moves = (0, *(after - before for before, after in pairwise(offsets)))
    return tuple(map(Stretch, changes, (*changes[1:], days[-1]), offsets, moves))


def _first(holds: Callable[[int], bool], begin: int, end: int) -> int:
    """The first second later than `begin` for which it holds; at `begin` it does not, at `end` it does."""
    while end - begin > 1:
        middle = (begin + end) // 2
        begin, end = (begin, middle) if holds(middle) else (middle, end)
    return end


class Series(NamedTuple):
    """Every `period` seconds of wall time, counted from `phase` after the midnight with which the epoch began."""

    zone: str
    period: int
    phase: int
    is_fixed: bool = False

    def within(self, begin: int, end: int) -> Iterator[int]:
        """Later than `begin`, not later than `end`."""
        found = stretches(self.zone)
        for index in range(_index(found, begin), len(found)):
            stretch = found[index]
            if stretch.begin > end:
                return
            if begin < stretch.begin and self.is_left_out(stretch):
                yield stretch.begin
            # What the clock shows for the second time has been.
            since = stretch.begin + (max(0, -stretch.moved) if self.is_fixed else 0)
            after, until = max(begin, since - 1), min(end, stretch.end - 1)
            yield from range(after + self.period - (after - self._phase(stretch)) % self.period, until + 1, self.period)

    def is_left_out(self, stretch: Stretch) -> bool:
        """Whether a fixed time of it was jumped over when the stretch began."""
        return self.is_fixed and (stretch.begin - 1 - self._phase(stretch)) % self.period < stretch.moved

    def _phase(self, stretch: Stretch) -> int:
        return self.phase - stretch.offset


class Timetable(NamedTuple):
    """A job's slots."""

    series: tuple[Series, ...]
    once: datetime | None = None

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """The slots later than `after` and not later than `until`, or MOST_COUNTED of the last ones at least."""
        if self.once is not None:
            return [self.once] if after < self.once <= until else []
        found: set[int] = set()
        begin, end = to_microseconds(after) // 1_000_000, to_microseconds(until) // 1_000_000
        for series in self.series:
            # A day more, for clocks that are set back meanwhile leave one out.
            found.update(series.within(max(begin, end - MOST_COUNTED * series.period - _DAY), end))
        return [from_microseconds(at * 1_000_000) for at in sorted(found)]

    def season_of(self, due_at: datetime) -> str:
        """What a change of the clocks has to do with a slot; "": nothing."""
        at = to_microseconds(due_at) // 1_000_000
        for series in self.series:
            found = stretches(series.zone)
            stretch, after = found[_index(found, at)], found[min(_index(found, at) + 1, len(found) - 1)]
            if at == stretch.begin and series.is_left_out(stretch):
                return SPRING
            if at - stretch.begin < -stretch.moved:
                return SECOND_OF_TWO
            if 0 < after.begin - at <= -after.moved:
                return FIRST_OF_TWO
        return ""


NEVER = Timetable(())


def _index(found: tuple[Stretch, ...], at: int) -> int:
    return max(0, bisect_right(found, at, key=lambda stretch: stretch.begin) - 1)


def timetable(job: Document | None) -> Timetable:
    if job is None or not job["enabled"]:
        return NEVER
    if job["type"] == "oneshot" and job["run_at"] is not None:
        return Timetable((), from_microseconds(job["run_at"]))
    if job["type"] != "scheduled":
        return NEVER
    return Timetable(tuple(series for each in job["schedule"] for series in _series(each, job["timezone"])))


@cache
def _series(expression: str, zone: str) -> tuple[Series, ...]:
    """Of an `@every` in whole seconds, or a cron expression of a minute, some hours and at most a day of the week."""
    if expression.startswith("@every "):
        return (Series("UTC", int(expression.removeprefix("@every ").removesuffix("s")), 0),)
    minute, hour, *_, weekday = expression.split()
    is_fixed = "*" not in minute[0] + hour[0]
    if minute.startswith("*/") and hour == "*":
        return (Series(zone, int(minute[2:]) * 60, 0),)
    minutes = _numbers(minute, 60)
    if hour == "*":
        return tuple(Series(zone, 3600, each * 60) for each in minutes)
    # The epoch was a Thursday.
    period, day = (_DAY, 0) if weekday == "*" else (7 * _DAY, (int(weekday) - 4) % 7)
    seconds = [day * _DAY + each_hour * 3600 + each * 60 for each_hour in _numbers(hour, 24) for each in minutes]
    return tuple(Series(zone, period, each, is_fixed) for each in seconds)


def _numbers(field: str, end: int) -> tuple[int, ...]:
    return tuple(range(0, end, int(field[2:])) if field.startswith("*/") else map(int, field.split(",")))
