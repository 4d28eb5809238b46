"""Schedules as other tools take them: the five fields of cron in numbers, and the zone in which they are meant."""

import re
from typing import NamedTuple

from procclaw.engine import expressions
from procclaw.interface.convert.leaving import Unexportable
from procclaw.model.spec import JobSpec

_ITEM = re.compile(r"(?P<low>\*|\d+)(?:-(?P<high>\d+))?(?:/(?P<step>\d+))?")
_CHANGING_HOURS = range(4)
"""When clocks are put forward and back: at midnight in some zones, at one, two or three in most."""
_MINUTE, _HOUR = 60, 3600
_SHIFTED_BY = 15
"""Minutes: the offset of every zone is a multiple of it."""
LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


class Times(NamedTuple):
    """One expression of a schedule."""

    minute: str
    hour: str
    day: str
    month: str
    weekday: str
    """0 is Sunday, and so is 7 at the end of a range."""
    zone: str

    @property
    def line(self) -> str:
        """As a line of cron has it."""
        return " ".join(self[:5])

    @property
    def has_special_days(self) -> bool:
        """Whether it counts weekdays within the month, or days from its end."""
        return bool(re.search(r"[l#]", self.day + self.weekday))

    @property
    def needs_both(self) -> bool:
        """Whether day of month and day of week restrict each other, rather than add to each other."""
        return self.day.startswith("*") or self.weekday.startswith("*")

    @property
    def restricts_both(self) -> bool:
        return "*" not in (self.day, self.weekday)

    @property
    def is_rhythm(self) -> bool:
        """Rather than a time of day, for which something is done where a clock change skips it."""
        return self.minute.startswith("*") or self.hour.startswith("*")

    @property
    def meets_clock_changes(self) -> bool:
        """Whether a change of clocks can fall on one of them."""
        return expressions.moves_clocks(self.zone) and bool(set(_CHANGING_HOURS) & set(values(self.hour, *LIMITS[1])))


def times_of(job: JobSpec) -> list[Times]:
    """Raises Unexportable for a period that no times of day come to."""
    return [_times(text, job.timezone) for text in job.schedule]


def period_of(text: str) -> int | None:
    """The seconds of a period that no times of day come to; None for all else."""
    read = expressions.read(text)
    return read if isinstance(read, int) and _aligned(read, "UTC") is None else None


def _times(text: str, zone: str) -> Times:
    read = expressions.read(text)
    if not isinstance(read, int):
        minute, hour, day, month, weekday = read
        return Times(minute, hour, day, month, weekday, zone)
    found = _aligned(read, zone)
    if found is None:
        raise Unexportable(f'"{text}" comes to no times of day: it takes a period that divides an hour or a day')
    return found


def _aligned(period: int, zone: str) -> Times | None:
    """Multiples of the period since the epoch, as times of day; seconds are beyond these."""
    minutes, hours = period // _MINUTE, period // _HOUR
    if period % _MINUTE == 0 and 60 % minutes == 0 and minutes < 60:
        field = "*" if minutes == 1 else f"*/{minutes}"
        return Times(field, "*", "*", "*", "*", "UTC" if _SHIFTED_BY % minutes else zone)
    if period % _HOUR == 0 and 24 % hours == 0:
        return Times("0", {1: "*", 24: "0"}.get(hours, f"*/{hours}"), "*", "*", "*", "UTC")
    return None


def values(text: str, low: int, high: int) -> list[int]:
    """Those that a field lists, in order."""
    found: set[int] = set()
    for item in text.split(","):
        parts = _ITEM.fullmatch(item)
        if parts is None:
            raise Unexportable(f'"{item}" is no plain day')
        if parts["low"] == "*":
            first, last = low, high
        else:
            first = int(parts["low"])
            last = int(parts["high"] or first)
        found.update(range(first, last + 1, int(parts["step"] or 1)))
    return sorted(found)


def weekdays(text: str) -> list[int]:
    """0, which is Sunday, to 6."""
    return sorted({day % 7 for day in values(text, *LIMITS[4])})
