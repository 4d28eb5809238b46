"""When schedules come due: instants found and counted by arithmetic, in real time and in every zone.

Moments handed in and out are aware UTC; inside, an instant is whole seconds since the epoch. Real time in a zone is
cut into *stretches* of one UTC offset. Within a stretch the wall clock runs evenly, so searching and counting is a
matter of whole days and sets; all that is peculiar about clock changes happens where two stretches meet:

- A fixed expression (see `expression`) whose time is jumped over, by at most `LARGEST_GAP`, is due once at the first
  instant after, however many of its times were; where the clock repeats itself only the first pass counts.
- Every other expression, and every period, follows real time: nothing is made up, both passes count.

A larger gap is a correction of the calendar (Samoa had no 30 December 2011), not a clock change, and is not made up.
croniter's own search is not used: it repeats fixed times in a fold and goes slot by slot.
zoneinfo is imported when a zone is first needed: whoever merely imports this module does not pay for it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import chain, islice
from math import lcm
from typing import TYPE_CHECKING, NamedTuple

from procclaw.model.clock import EPOCH, to_microseconds
from procclaw.model.shape import quoted
from procclaw.planning.expression import LONGEST_WAIT, Cron, is_period, read_cron, read_period

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

LARGEST_GAP = timedelta(hours=3)

_SECOND = timedelta(seconds=1)
_DAY = 86_400
_EPOCH_DAY = EPOCH.toordinal()
_END = (datetime(9998, 1, 1, tzinfo=UTC) - EPOCH) // _SECOND


class Schedule(NamedTuple):
    """A parsed schedule, to be made by `parse` alone; only its first two fields are meant for others."""

    expressions: tuple[str, ...]
    zone: str
    tz: "ZoneInfo"
    crons: tuple[Cron, ...]
    fixed: tuple[Cron, ...]
    following: tuple[Cron, ...]
    """Those of `crons` that follow real time."""
    periods: tuple[int, ...]
    """Seconds; none is a multiple of another."""


class Due(NamedTuple):
    """What came due within a span."""

    count: int  # type: ignore[assignment]  # in place of tuple.count, which nobody wants of this tuple
    first: datetime | None
    latest: tuple[datetime, ...]
    """As many of the last instants as were asked for, ascending."""


@lru_cache(maxsize=16_384)  # more than the distinct schedules of 10,000 jobs
def parse(expressions: tuple[str, ...], zone: str) -> Schedule:
    """Memoised. Raises ValueError with a message for the person who wrote the expression or the zone."""
    if not expressions:
        raise ValueError("a schedule needs at least one expression")
    crons = tuple(read_cron(expression) for expression in expressions if not is_period(expression))
    periods = {read_period(expression) for expression in expressions if is_period(expression)}
    return Schedule(
        expressions=expressions,
        zone=zone,
        tz=_zone(zone),
        crons=crons,
        fixed=tuple(cron for cron in crons if cron.is_fixed),
        following=tuple(cron for cron in crons if not cron.is_fixed),
        periods=tuple(sorted(p for p in periods if not any(q < p and p % q == 0 for q in periods))),
    )


def next_due(schedule: Schedule, after: datetime) -> datetime | None:
    """The first due instant strictly later than `after`; None if there is none within `LONGEST_WAIT`."""
    begin = _seconds(after)
    found = _first(schedule, begin, min(begin + LONGEST_WAIT // _SECOND, _END))
    return None if found is None else _moment(found)


def due_between(schedule: Schedule, after: datetime, until: datetime, keep: int) -> Due:
    """What came due later than `after` and not later than `until`.

    Takes time by the day and by the instants kept, not by the instants there are.
    """
    begin, end = _seconds(after), _seconds(until)
    first = _first(schedule, begin, end)
    if first is None:
        return Due(0, None, ())
    count = _count_crons(schedule, begin, end) + _count_periods(schedule, begin, end, schedule.periods)
    return Due(count, _moment(first), tuple(map(_moment, _latest(schedule, begin, end, keep))))


def transition_on(zone: str, day: date) -> timedelta | None:
    """How far the zone's clocks are moved on that local day: positive where time is skipped, None on ordinary days.

    A change at midnight belongs to the day that is shorter or longer for it. Raises ValueError for an unknown zone.
    """
    number = day.toordinal() - _EPOCH_DAY
    for shift in _shifts_within(_zone(zone), (number - 2) * _DAY, (number + 2) * _DAY):
        if (shift.at + shift.after) // _DAY == number:
            return timedelta(seconds=shift.after - shift.before)
    return None


def jitter_offset(job_id: str, jitter_seconds: float) -> float:
    """Seconds in [0, jitter_seconds) that are the job's own for ever, on every host and in every process."""
    return int.from_bytes(sha256(job_id.encode()).digest()[:4]) / 2**32 * jitter_seconds


def _zone(name: str) -> "ZoneInfo":
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    from difflib import get_close_matches

    known = {zone.lower(): zone for zone in available_timezones()}
    close = get_close_matches(name.lower(), known, n=1)
    hint = f'; did you mean "{known[close[0]]}"?' if close else '; names look like "Europe/Berlin" or "UTC"'
    raise ValueError(f"{quoted(name)} is not a time zone known here{hint}")


def _days(crons: tuple[Cron, ...], begin: int, end: int, step: int = 1) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each midnight in wall time, and the seconds of that day at which something is due, from `begin` to before `end`.

    Wall time is counted as if the epoch had been local midnight. With `step` -1 the days come in descending order; the
    seconds of a day ascend all the same.
    """
    months = frozenset[int]().union(*(cron.months for cron in crons))
    first, last = begin // _DAY, (end - 1) // _DAY
    number = first if step > 0 else last
    while first <= number <= last:
        day = date.fromordinal(_EPOCH_DAY + number)
        if day.month not in months:
            number += _to_next_month(day) if step > 0 else -day.day
            continue
        times = _union(tuple(cron for cron in crons if cron.falls_on(day)))
        midnight = number * _DAY
        within = times[bisect_left(times, begin - midnight) : bisect_left(times, end - midnight)]
        if within:
            yield midnight, within
        number += step


def _to_next_month(day: date) -> int:
    return ((day.replace(day=28) + timedelta(days=4)).replace(day=1) - day).days


def _union(crons: tuple[Cron, ...]) -> tuple[int, ...]:
    if len(crons) < 2:
        return crons[0].times if crons else ()
    return _union_of_several(crons)


@lru_cache(maxsize=1024)
def _union_of_several(crons: tuple[Cron, ...]) -> tuple[int, ...]:
    return tuple(sorted(frozenset[int]().union(*(cron.times for cron in crons))))


class _Shift(NamedTuple):
    """A change of a zone's UTC offset; `at` is the first instant of the new one."""

    at: int
    before: int
    after: int


class _Stretch(NamedTuple):
    """Instants from `begin` up to but not including `end`, under one offset, and the expressions that count there."""

    begin: int
    end: int
    offset: int
    crons: tuple[Cron, ...]
    made_up: int | None = None
    """An instant just before `begin` at which fixed times that were jumped over are due, once for all of them."""


def _stretches(schedule: Schedule, begin: int, end: int) -> Iterator[_Stretch]:
    """Covers begin <= instant < end in the order of real time; lazy, because most searches end in the first stretch."""
    if not schedule.crons or begin >= end:
        return
    # A repeated hour (at most 24 are on record) may have begun before `begin`.
    since = begin - 2 * _DAY
    current = _Shift(since, offset := _offset(schedule.tz, since), offset)
    for coming in chain(_shifts_within(schedule.tz, since, end), (None,)):
        finish = coming.at if coming else end
        yield from _stretches_after(schedule, current, begin, finish)
        current = coming or current


def _stretches_after(schedule: Schedule, shift: _Shift, begin: int, end: int) -> Iterator[_Stretch]:
    repeated_until = min(shift.at + max(shift.before - shift.after, 0), end)
    if begin < repeated_until and schedule.following:
        yield _Stretch(max(begin, shift.at), repeated_until, shift.after, schedule.following)
    start = max(begin, repeated_until)
    if begin <= shift.at < end and _jumps_over_fixed(schedule, shift):
        # The instant itself may match as well: begin behind it, so that it counts once.
        yield _Stretch(start + 1, end, shift.after, schedule.crons, made_up=start)
    elif start < end:
        yield _Stretch(start, end, shift.after, schedule.crons)


def _jumps_over_fixed(schedule: Schedule, shift: _Shift) -> bool:
    if not schedule.fixed or not 0 < shift.after - shift.before <= LARGEST_GAP.total_seconds():
        return False
    return any(True for _ in _days(schedule.fixed, shift.at + shift.before, shift.at + shift.after))


def _shifts_within(tz: "ZoneInfo", begin: int, end: int) -> Iterator[_Shift]:
    for year in range(_moment(begin).year, _moment(end).year + 1):
        yield from (shift for shift in _shifts(tz, year) if begin < shift.at < end)


@lru_cache(maxsize=1024)
def _shifts(tz: "ZoneInfo", year: int) -> tuple[_Shift, ...]:
    """Of one UTC year, its first instant excluded and the next year's included.

    zoneinfo does not list the changes, so each day's ends are compared. Since 1970 no two changes of any zone have been
    less than two days apart.
    """
    found = []
    start, end = (_seconds(datetime(first_of, 1, 1, tzinfo=UTC)) for first_of in (year, year + 1))
    before = _offset(tz, start)
    for day in range(start, end, _DAY):
        after = _offset(tz, day + _DAY)
        if after != before:
            found.append(_Shift(_first_instant_with(tz, after, day, day + _DAY), before, after))
        before = after
    return tuple(found)


def _first_instant_with(tz: "ZoneInfo", offset: int, earliest: int, latest: int) -> int:
    span = range(earliest, latest)
    return earliest + bisect_left(span, 1, key=lambda instant: int(_offset(tz, instant) == offset))


def _offset(tz: "ZoneInfo", instant: int) -> int:
    offset = datetime.fromtimestamp(instant, tz).utcoffset()
    assert offset is not None
    return offset // _SECOND


def _first(schedule: Schedule, after: int, until: int) -> int | None:
    by_period = min(((after // period + 1) * period for period in schedule.periods), default=until + 1)
    by_cron = next(_instants(schedule, after, min(until, by_period)), by_period)
    return by_cron if by_cron <= until else None


def _latest(schedule: Schedule, after: int, until: int, keep: int) -> list[int]:
    found = set(islice(_instants(schedule, after, until, -1), keep))
    for period in schedule.periods:
        found.update(range(until - until % period, after, -period)[:keep])
    return sorted(found)[-keep:]


def _instants(schedule: Schedule, after: int, until: int, step: int = 1) -> Iterator[int]:
    """What the cron expressions make due, `after` excluded and `until` included; backwards if `step` is -1."""
    stretches = _stretches(schedule, after + 1, until + 1)
    for stretch in stretches if step > 0 else reversed(tuple(stretches)):
        if step > 0 and stretch.made_up is not None:
            yield stretch.made_up
        for midnight, times in _days(*_wall(stretch), step):
            start = midnight - stretch.offset
            yield from (start + time for time in times[::step])
        if step < 0 and stretch.made_up is not None:
            yield stretch.made_up


def _wall(stretch: _Stretch) -> tuple[tuple[Cron, ...], int, int]:
    return stretch.crons, stretch.begin + stretch.offset, stretch.end + stretch.offset


def _count_crons(schedule: Schedule, after: int, until: int, period: int = 1) -> int:
    """How many instants the cron expressions make due, among the multiples of `period` seconds."""
    count = 0
    for stretch in _stretches(schedule, after + 1, until + 1):
        count += stretch.made_up is not None and stretch.made_up % period == 0
        for midnight, times in _days(*_wall(stretch)):
            start = midnight - stretch.offset
            count += len(times) if period == 1 else _count_multiples(times, start % period, period)
    return count


@lru_cache(maxsize=1024)  # the days of a long outage differ in few ways
def _count_multiples(times: tuple[int, ...], start: int, period: int) -> int:
    return sum((start + time) % period == 0 for time in times)


def _count_periods(schedule: Schedule, after: int, until: int, periods: tuple[int, ...], joint: int = 1) -> int:
    """How many multiples of `joint` and of any of `periods` there are that no cron expression makes due as well."""
    count = 0
    for index, period in enumerate(periods, start=1):
        both = lcm(joint, period)
        if multiples := until // both - after // both:
            count += multiples - _count_crons(schedule, after, until, both)
            count -= _count_periods(schedule, after, until, periods[index:], both)
    return count


def _seconds(moment: datetime) -> int:
    """Whole seconds, rounded down and kept where calendar arithmetic cannot overflow (nothing is due before 1970)."""
    return min(max(to_microseconds(moment) // 1_000_000, 0), _END)


def _moment(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)
