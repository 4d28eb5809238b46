"""Calendar expressions of systemd (systemd.time(7)) as cron lines, where a cron line says exactly the same.

`systemd-analyze calendar` is the judge of what an expression means. What cron cannot say (seconds, most of what counts
from a month's end, weekdays and days of the month that must both fit) is refused with the reason, never approximated.
"""

import re
from datetime import datetime, timezone
from typing import NamedTuple

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY_NAMES = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_NICKNAMES = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
}
_EPOCH = re.compile(r"@(\d{1,11})")
_WEEKDAYS = re.compile(r"[A-Za-z]{3,9}([,.-]+[A-Za-z]{3,9})*,?")
_DATE = re.compile(r"((?P<year>[\d*,./]+)-)?(?P<month>[\d*,./]+)(?P<from>[-~])(?P<day>[\d*,./]+)")
_TIME = re.compile(r"(?P<hour>[\d*,./]+):(?P<minute>[\d*,./]+)(:(?P<second>[\d*,./]+))?")
_EVERY_DAY = ("*-*-*", "*-*")
_EVERY_SECONDS = re.compile(r"(\*|00?/(?P<step>[1-9]\d?))")
_JOINED = re.compile(r"(?<=\d)T(?=\d)")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_ITEM = re.compile(r"(?P<low>\d{1,4})(\.\.(?P<high>\d{1,4}))?(/(?P<step>\d{1,4}))?")
_WEEKS = {tuple(range(1 + 7 * week, 8 + 7 * week)): week + 1 for week in range(4)}
"""The days of the month that make a weekday the first, second and so on of its kind."""
_LAST_WEEK = "7/1"


class Calendar(NamedTuple):
    """One of `schedule` and `run_at` is given."""

    schedule: str | None
    run_at: str | None
    """A moment without an offset, in `zone`."""
    zone: str | None
    """None: the machine's own."""


class _Item(NamedTuple):
    low: int
    high: int | None
    step: int | None


_Field = tuple[_Item, ...]
"""What one part of an expression allows; empty: everything."""


def read_calendar(expression: str) -> Calendar:
    """Raises ValueError, in words."""
    if found := _EPOCH.fullmatch(expression.strip()):
        moment = datetime.fromtimestamp(int(found[1]), timezone.utc)
        return Calendar(None, moment.replace(tzinfo=None).isoformat(), "UTC")
    words = _JOINED.sub(" ", _without_nickname(expression)).split()
    zone = words.pop() if len(words) > 1 and _ZONE.fullmatch(words[-1]) else None
    weekdays = _weekdays(words.pop(0)) if words and _WEEKDAYS.fullmatch(words[0]) else ()
    day = _DATE.fullmatch(words[0]) if words else None
    if day is not None:
        words.pop(0)
    time = _TIME.fullmatch(words[0]) if words else None
    if time is not None:
        words.pop(0)
    if words or (day is None and time is None and not weekdays):
        raise ValueError(f'"{expression}" is no calendar expression of systemd')
    hour, minute, second = (time["hour"], time["minute"], time["second"]) if time else ("0", "0", "0")
    if second not in (None, "0", "00"):
        is_each_minute = (hour, minute, weekdays) == ("*", "*", ()) and (day is None or day[0] in _EVERY_DAY)
        if is_each_minute and (period := _period_of_seconds(second)):
            return Calendar(f"@every {period}s", None, zone)
        raise ValueError(f'"{expression}": cron counts no seconds (":{second}")')
    year = day["year"] if day and day["year"] else "*"
    if day is not None and year != "*":
        if day["from"] == "~":
            raise ValueError(f'"{expression}": a date that counts from the end of a month: write the day')
        return Calendar(None, _moment(expression, (year, day["month"], day["day"], hour, minute), weekdays), zone)
    times = f"{_cron(_field(minute), 0, 59)} {_cron(_field(hour), 0, 23)}"
    return Calendar(f"{times} {_days(expression, day, weekdays)}", None, zone)


def _period_of_seconds(text: str) -> int | None:
    """Of what comes round within each minute, which needs no cron line; None: it does so otherwise."""
    found = _EVERY_SECONDS.fullmatch(text)
    period = 0 if found is None else int(found["step"] or 1)
    return period if period and 60 % period == 0 else None


def _without_nickname(expression: str) -> str:
    words = expression.split()
    if words and words[0].lower() in _NICKNAMES:
        return " ".join((_NICKNAMES[words[0].lower()], *words[1:]))
    return expression


def _moment(expression: str, parts: tuple[str, ...], weekdays: tuple[int, ...]) -> str:
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f'"{expression}": cron knows no years; only a single date and time can be taken over')
    year, month, day, hour, minute = (int(part[:6]) for part in parts)
    if year < 100:
        year += 2000 if year < 70 else 1900
    try:
        moment = datetime(year, month, day, hour, minute)  # noqa: DTZ001 (in the zone that stands beside it)
    except ValueError:
        raise ValueError(f'"{expression}": there is no such day or time') from None
    if weekdays and moment.isoweekday() % 7 not in weekdays:
        raise ValueError(f'"{expression}": that date does not fall on that weekday')
    return moment.isoformat()


def _days(expression: str, day: re.Match[str] | None, weekdays: tuple[int, ...]) -> str:
    """The last three fields of the cron line. Raises ValueError where a cron line cannot say it."""
    month = _cron(_field(day["month"]), 1, 12) if day else "*"
    numbers = _numbers(weekdays)
    if day is not None and day["from"] == "~":
        if not weekdays and day["day"].lstrip("0") == "1":
            return f"L {month} *"
        if weekdays and day["day"].lstrip("0") == _LAST_WEEK:
            return f"* {month} " + ",".join(f"L{weekday}" for weekday in weekdays)
        raise ValueError(f'"{expression}": of what counts from the end of a month, cron knows the last day alone')
    days = _field(day["day"]) if day else ()
    written = _cron(days, 1, 31)
    if not weekdays or not days:
        return f"{written} {month} {numbers}"
    if written.startswith("*/"):
        # Then both have to fit here as well.
        return f"{written} {month} {numbers}"
    week = _WEEKS.get(_expanded(days, 31))
    if week is None:
        raise ValueError(f'"{expression}": in cron either the weekday or the day of the month has to fit, not both')
    return f"* {month} " + ",".join(f"{weekday}#{week}" for weekday in weekdays)


def _numbers(weekdays: tuple[int, ...]) -> str:
    if len(weekdays) > 2 and weekdays == tuple(range(weekdays[0], weekdays[-1] + 1)):
        return f"{weekdays[0]}-{weekdays[-1]}"
    return ",".join(map(str, weekdays)) or "*"


def _weekdays(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for item in text.rstrip(",").split(","):
        low, _, high = re.sub(r"-|\.\.\.?", "..", item).partition("..")
        first, last = _weekday(low), _weekday(high or low)
        # Sunday ends the week where a range ends with it.
        last = 7 if last == 0 and high else last
        if last < first:
            raise ValueError(f'"{item}" runs backwards')
        found.update(weekday % 7 for weekday in range(first, last + 1))
    return tuple(sorted(found)) if len(found) < 7 else ()


def _weekday(name: str) -> int:
    for number, (short, long) in enumerate(zip(_DAYS, _DAY_NAMES, strict=True)):
        if name.lower() in (short, long):
            return number
    raise ValueError(f'"{name}" is no day of the week')


def _field(text: str) -> _Field:
    if text == "*":
        return ()
    items = []
    for part in text.split(","):
        found = _ITEM.fullmatch(part)
        if found is None or found["step"] in ("0", "00"):
            raise ValueError(f'"{part}" is no value, range or repetition of systemd')
        high = int(found["high"]) if found["high"] else None
        items.append(_Item(int(found["low"]), high, int(found["step"]) if found["step"] else None))
    return tuple(items)


def _cron(field: _Field, low: int, high: int) -> str:
    return ",".join(_item(item, low, high) for item in field) or "*"


def _item(item: _Item, low: int, high: int) -> str:
    if item.step is None:
        return f"{item.low}" if item.high is None else f"{item.low}-{item.high}"
    last = high if item.high is None else item.high
    if item.low + item.step > last:
        return f"{item.low}"
    begin = "*" if (item.low, last) == (low, high) else f"{item.low}-{last}"
    return begin if item.step == 1 else f"{begin}/{item.step}"


def _expanded(field: _Field, most: int) -> tuple[int, ...]:
    found: set[int] = set()
    for item in field:
        last = item.high if item.high is not None else (most if item.step else item.low)
        found.update(range(item.low, min(last, most) + 1, item.step or 1))
    return tuple(sorted(found))
