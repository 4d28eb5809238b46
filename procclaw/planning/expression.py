"""What one schedule expression says: a cron line as sets of times and days, or a period in seconds.

croniter expands the fields, but takes reversed ranges, a sixth field, 0 as a day of the month and other slips in
silence, and a range of one value for the whole field. So every item is judged here first and handed on in a form that
has one meaning. croniter is imported when the first cron line is read: importing this module alone costs little.

An expression is *fixed* if neither its minute nor its hour field starts with `*`: it means a time of day.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from procclaw.model.shape import quoted

LONGEST_WAIT = timedelta(days=40 * 366)
"""Nothing that is ever due takes longer: 29 February on a given weekday returns within 28 years, and 40 near 2100."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_LAST = 0
"""Stands for `L` where days of the month, or a weekday's occurrences in it, are counted from 1."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Of the values from `low` on."""


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field("day of week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_DAY_OF_MONTH, _DAY_OF_WEEK = _FIELDS[2], _FIELDS[4]
_SATURDAY, _SUNDAY_AT_THE_END = 6, 7
_EVERY_KIND_OF_DAY = range(date(2001, 1, 1).toordinal(), date(2029, 1, 1).toordinal())
"""28 years of one century hold each date on each weekday it can fall on."""
_SHORTEST = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# Patterns, not compiled ones: compiling these would be most of what importing this module costs.
_PERIOD = r"(?a)@every (?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?"
_ITEM = r"(?a)(?P<low>\*|\w+)(?:-(?P<high>\w+))?(?:/(?P<step>\d{1,9}))?"
_COUNTED_WEEKDAY = r"(?a)(?P<day>\w+)#(?P<nth>\w+)|l(?P<last>\w+)"
_HASHED = r"[hr](?:\(.*)?(?:/.*)?"
_NEAREST_WEEKDAY = r"(?a)\w*\dw|w\d\w*|lw"
_STARRED_STEP = r"(?a)\*/(\d+)"


class Cron:
    """A cron line, expanded. Compared by identity, which hashes in no time: `read_cron` is memoised."""

    __slots__ = ("_either", "_month_days", "_weekdays", "is_fixed", "months", "times")

    def __init__(self, fields: Sequence[str]) -> None:
        expanded, counted = _expand(" ".join(fields))
        minutes, hours, month_days, months, weekdays = map(_values, _FIELDS, expanded)
        self.times = _times_of_day(minutes, hours)
        self.months = frozenset(months)
        self.is_fixed = _is_fixed(fields)
        self._month_days = frozenset(month_days)
        self._weekdays = frozenset(
            (day, _LAST if nth == "l" else nth) for day in weekdays for nth in counted.get(day, range(1, 6))
        )
        self._either = not (fields[2].startswith("*") or fields[4].startswith("*"))

    def falls_on(self, day: date) -> bool:
        """Whether the day of month, month and day of week fit; every one of `times` is due on such a day."""
        if day.month not in self.months:
            return False
        in_month = day.day in self._month_days or (_LAST in self._month_days and (day + timedelta(days=1)).day == 1)
        if in_month is self._either:  # the week cannot change the answer any more
            return in_month
        weekday, nth = day.isoweekday() % 7, (day.day + 6) // 7
        return (weekday, nth) in self._weekdays or (
            (weekday, _LAST) in self._weekdays and (day + timedelta(days=7)).month != day.month
        )

    def day_some_months_lack(self) -> int | None:
        """The first of its days of the month, if one of its months may be too short for it; None if all have it."""
        first = min(self._month_days)
        return first if not self._either and first > min(_SHORTEST[month - 1] for month in self.months) else None


def is_period(expression: str) -> bool:
    return expression.lower().split()[:1] == ["@every"]


def is_fixed(expression: str) -> bool:
    """Whether the expression means a time of day. Raises ValueError if it is not a cron line that can be read."""
    return not is_period(expression) and _is_fixed(plain_fields(expression))


def read_period(expression: str) -> int:
    """The seconds of an `@every` expression. Raises ValueError with a message for the person who wrote it."""
    parts = re.fullmatch(_PERIOD, " ".join(expression.lower().split()))
    if parts is None or not any(parts.groups()):
        raise ValueError(
            f'{quoted(expression)} is not a period: "@every" takes whole numbers with units, largest first, '
            "such as 90s, 7m, 1h30m or 2d"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    period = days * _DAY + hours * _HOUR + minutes * _MINUTE + seconds
    if not period:
        raise ValueError(f"{quoted(expression)}: the period must be at least 1s")
    if period > LONGEST_WAIT.total_seconds():
        raise ValueError(f"{quoted(expression)}: the period must not be longer than {LONGEST_WAIT.days}d")
    return period


@lru_cache(maxsize=16_384)  # more than the distinct expressions of 10,000 jobs
def read_cron(expression: str) -> Cron:
    """Raises ValueError with a message for the person who wrote it, also when no date ever fits."""
    fields = plain_fields(expression)
    cron = Cron(fields)
    if not any(cron.falls_on(date.fromordinal(day)) for day in _EVERY_KIND_OF_DAY):
        _, _, month_day, month, weekday = fields
        on_weekday = "" if weekday == "*" else f" and day of week {weekday}"
        raise ValueError(f"{quoted(expression)} is never due: no date is day {month_day} of month {month}{on_weekday}")
    return cron


def lint(expression: str) -> tuple[str, ...]:
    """Warnings about an expression that says something else than many take it to say; ValueError if it is invalid."""
    if is_period(expression):
        read_period(expression)
        return ()
    surprises = _surprises(plain_fields(expression), read_cron(expression))
    return tuple(f"{quoted(expression)}: {warning}" for warning in surprises)


def _surprises(fields: Sequence[str], cron: Cron) -> Iterator[str]:
    minute, hour, month_day, _, weekday = fields
    yield from _restarting_step(minute, 60, "hour", "m")
    yield from _restarting_step(hour, 24, "day", "h")
    yield from _restarting_step(month_day, None, "month", "d")
    if minute == "*" and hour.isdecimal():
        yield f'it is due 60 times from {hour}:00 to {hour}:59; once, on the hour, is "0 {hour}"'
    if "*" not in (month_day, weekday):
        if month_day.startswith("*") or weekday.startswith("*"):
            how = "must both match, because one of them starts with *"
        else:
            how = "are alternatives: days that match either will do"
        yield f"day of month {month_day} and day of week {weekday} {how}"
    if day := cron.day_some_months_lack():
        yield f'a month without day {day} is passed over; the last day of every month is "L"'


def _restarting_step(text: str, size: int | None, whole: str, unit: str) -> Iterator[str]:
    match = re.fullmatch(_STARRED_STEP, text)
    step = int(match[1]) if match else 1
    if step > 1 and (size is None or size % step):
        yield f'{quoted(text)} starts over with each {whole}; what is due every {step}{unit} is "@every {step}{unit}"'


def plain_fields(expression: str) -> tuple[str, ...]:
    """The five fields, judged and rewritten so that everybody reads them alike: in numbers, without names and aliases.

    Raises ValueError with a message for the person who wrote it.
    """
    text = expression.strip().lower()
    fields = (_expansion(expression, text) if text.startswith("@") else text).split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        hint = "; a field for seconds or years is not supported" if len(fields) > len(_FIELDS) else ""
        raise ValueError(f"{quoted(expression)} has {len(fields)} fields where five are wanted ({names}){hint}")
    try:
        return tuple(map(_judged, _FIELDS, fields))
    except ValueError as problem:
        raise ValueError(f"{quoted(expression)}: {problem}") from None


def _expansion(expression: str, text: str) -> str:
    if text == "@reboot":
        raise ValueError(f"{quoted(expression)} is not a schedule: use a job of type continuous or oneshot")
    if text not in _ALIASES:
        raise ValueError(f"{quoted(expression)} is not one of {', '.join(_ALIASES)} or @every with a period")
    return _ALIASES[text]


def _judged(field: _Field, text: str) -> str:
    items = text.split(",")
    if field is _DAY_OF_WEEK and 0 < sum(1 for item in items if re.fullmatch(_COUNTED_WEEKDAY, item)) < len(items):
        raise ValueError(f"{field.name} {quoted(text)} mixes counted weekdays with plain ones: use two expressions")
    return ",".join(_judged_item(field, item) for item in items)


def _judged_item(field: _Field, item: str) -> str:
    if item == "*" or (item == "?" and field in (_DAY_OF_MONTH, _DAY_OF_WEEK)):
        return "*"
    if re.fullmatch(_HASHED, item):
        raise ValueError(
            f"{field.name} {quoted(item)}: hashed and random times are not supported: write a value, or set jitter"
        )
    if field is _DAY_OF_MONTH and item == "l":
        return item
    if field is _DAY_OF_MONTH and re.fullmatch(_NEAREST_WEEKDAY, item):
        raise ValueError(f"{field.name} {quoted(item)}: the nearest weekday (W) is not supported")
    if field is _DAY_OF_WEEK and (counted := re.fullmatch(_COUNTED_WEEKDAY, item)):
        return _judged_count(field, item, counted)
    parts = re.fullmatch(_ITEM, item)
    if parts is None or (parts["low"] == "*" and parts["high"]):
        raise ValueError(f"{field.name} {quoted(item)} is not a value, a range (1-5), a step (*/5) or a list of these")
    return _judged_range(field, item, parts["low"], parts["high"], parts["step"])


def _judged_count(field: _Field, item: str, counted: re.Match[str]) -> str:
    day = _value(field, counted["day"] or counted["last"]) % 7
    if counted["last"]:
        return f"l{day}"
    if counted["nth"] not in ("1", "2", "3", "4", "5"):
        raise ValueError(
            f'{field.name} {quoted(item)}: a month has no weekday number "{counted["nth"]}"; 1 to 5 may follow the #'
        )
    return f"{day}#{counted['nth']}"


def _judged_range(field: _Field, item: str, low_text: str, high_text: str | None, step: str | None) -> str:
    if step is not None and int(step) == 0:
        raise ValueError(f"{field.name} {quoted(item)}: the step must be at least 1")
    if low_text == "*":
        return item
    top = _SATURDAY if field is _DAY_OF_WEEK else field.high
    low = high = _value(field, low_text)
    if high_text is not None:
        high = _value(field, high_text)
    elif step is not None:
        high = max(low, top)
    if high_text == "sun" and low > high:
        high = _SUNDAY_AT_THE_END
    if low > high:
        rest = f"{low_text}-{top}," if low <= top else ""
        hint = "" if step else f': write "{rest}{field.low}-{high_text}"'
        raise ValueError(f"{field.name} {quoted(item)} runs backwards{hint}")
    if low == high:
        return str(low)
    return f"{low}-{high}/{step}" if step else f"{low}-{high}"


def _value(field: _Field, text: str) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    if not (text.isascii() and text.isdecimal()):
        names = f" or one of {', '.join(field.names)}" if field.names else ""
        raise ValueError(f"{field.name} {quoted(text)} is not a number from {field.low} to {field.high}{names}")
    if len(text) > 2 or not field.low <= int(text) <= field.high:
        raise ValueError(f"{field.name} {quoted(text)} is not within {field.low} to {field.high}")
    return int(text)


def _is_fixed(fields: Sequence[str]) -> bool:
    return not (fields[0].startswith("*") or fields[1].startswith("*"))


Values = list[int | str]
Occurrences = Mapping[int | str, set[int | str]]


def _expand(text: str) -> tuple[list[Values], Occurrences]:
    """Each field's values, and for counted weekdays which of them in a month."""
    expanded: tuple[list[Values], Occurrences] = _croniter().expand(text)
    return expanded


@lru_cache(maxsize=1)
def _croniter() -> Any:
    import platform

    # While it is imported, croniter asks for the platform's architecture, which is found out by running `file` on the
    # interpreter: a process, and 20 ms. Only a 32 in the answer would matter, and pointer sizes it looks up itself.
    asked = platform.architecture
    platform.architecture = lambda *_args, **_kwargs: ("", "")
    try:
        from croniter import croniter
    finally:
        platform.architecture = asked
    return croniter


def _values(field: _Field, expanded: Values) -> tuple[int, ...]:
    if "*" in expanded:
        return tuple(range(field.low, field.high + 1))
    return tuple(_LAST if value == "l" else int(value) for value in expanded)


@lru_cache(maxsize=1024)  # the 1,440 times of a minutely expression weigh 50 KB: share them
def _times_of_day(minutes: Sequence[int], hours: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(hour * _HOUR + minute * _MINUTE for hour in hours for minute in minutes))
