"""What schedule expressions say, for whoever writes them down in another tool's words."""

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from procclaw.planning import expression, schedule

_ANY_YEAR = 2030
"""Rules reach into the future as they are; which year is asked about does not matter."""


def read(text: str) -> int | tuple[str, ...]:
    """The seconds of a period, or the five fields of a cron line in numbers."""
    return expression.read_period(text) if expression.is_period(text) else expression.plain_fields(text)


def is_fixed(text: str) -> bool:
    """Whether it means a time of day, rather than a rhythm."""
    return expression.is_fixed(text)


def moves_clocks(zone: str) -> bool:
    """Whether the zone's clocks are put forward and back in the course of a year."""
    return len({datetime(_ANY_YEAR, month, 1, tzinfo=ZoneInfo(zone)).utcoffset() for month in range(1, 13)}) > 1


@lru_cache(maxsize=64)
def are_alike(zone: str, other: str) -> bool:
    """Whether clocks in both zones show the same all year long, as in UTC and Etc/UTC."""
    if zone == other:
        return True
    begin = datetime(_ANY_YEAR, 1, 1, tzinfo=timezone.utc)
    hours = (begin + timedelta(hours=hour) for hour in range(366 * 24))
    return all(
        hour.astimezone(ZoneInfo(zone)).utcoffset() == hour.astimezone(ZoneInfo(other)).utcoffset() for hour in hours
    )


def jitter_seconds(job_id: str, jitter: float) -> int:
    """By how much the job's own jitter delays it, always the same."""
    return round(schedule.jitter_offset(job_id, jitter))
