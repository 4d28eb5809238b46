"""Times of day as systemd's calendar events, systemd.time(7)."""

from collections.abc import Iterator

from procclaw.interface.convert.leaving import Unexportable
from procclaw.interface.convert.times import LIMITS, Times, values, weekdays

_NAMES = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_WEEK = (1, 2, 3, 4, 5, 6, 0)
"""As systemd has it, from Monday."""
_DAYS = LIMITS[2]


def calendar_events(times: Times) -> list[str]:
    """Together due exactly when these times are. Raises Unexportable."""
    at = f"{_component(times.hour, 0)}:{_component(times.minute, 0)}:00 {times.zone}"
    found = []
    for weekday, day in _day_patterns(times):
        date = f"*-{_component(times.month, 1)}{day if day.startswith('~') else '-' + day}"
        found.append(" ".join(filter(None, (weekday, date, at))))
    return found


def _day_patterns(times: Times) -> Iterator[tuple[str, str]]:
    """Weekdays and days of the month, each pair of which must both fit."""
    month_days = list(_month_days(times.day))
    week = list(_week_days(times.weekday))
    if times.weekday == "*":
        yield from (("", day) for day in month_days)
    elif times.day == "*":
        yield from ((name, within or "*") for name, within in week)
    elif times.needs_both:
        for name, within in week:
            yield from ((name, day) for day in _intersection(times, month_days, within))
    else:
        yield from (("", day) for day in month_days)
        yield from ((name, within or "*") for name, within in week)


def _month_days(text: str) -> Iterator[str]:
    items = text.split(",")
    if "l" in items:
        yield "~01"
    if plain := ",".join(item for item in items if item != "l"):
        yield _component(plain, 1)


def _week_days(text: str) -> Iterator[tuple[str, str]]:
    """Names, and the days of the month within which such a weekday counts."""
    if not ("#" in text or "l" in text):
        yield _named(weekdays(text)), ""
        return
    for item in text.split(","):
        if item.startswith("l"):
            yield _NAMES[int(item[1:]) % 7], "~07/1"
        else:
            day, number = item.split("#")
            yield _NAMES[int(day) % 7], f"{int(number) * 7 - 6:02}..{min(int(number) * 7, 31):02}"


def _intersection(times: Times, month_days: list[str], within: str) -> list[str]:
    if not within:
        return month_days
    if within.startswith("~") or "~01" in month_days:
        raise Unexportable(f'"{times.line}" restricts a counted weekday by days of the month')
    low, high = map(int, within.split(".."))
    days = [day for day in values(times.day, *_DAYS) if low <= day <= high]
    return [",".join(f"{day:02}" for day in days)] if days else []


def _named(days: list[int]) -> str:
    """Three or more days in a row as a range."""
    places = [place for place, day in enumerate(_WEEK) if day in days]
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    names = [[_NAMES[_WEEK[place]] for place in run] for run in runs]
    return ",".join(f"{run[0]}..{run[-1]}" if len(run) > 2 else ",".join(run) for run in names)


def _component(text: str, low: int) -> str:
    return ",".join(_item(item, low) for item in text.split(","))


def _item(item: str, low: int) -> str:
    value, _, step = item.partition("/")
    if value == "*":
        return f"{low:02}/{step}" if step not in ("", "1") else "*"
    first, dash, last = value.partition("-")
    text = f"{int(first):02}" + (f"..{int(last):02}" if dash else "")
    return f"{text}/{step}" if step else text
