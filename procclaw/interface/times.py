"""Moments and spans as people write them: `90s`, `15m`, `2h`, `1d`, `1w`, or ISO 8601."""

from contextlib import suppress
from datetime import datetime, timedelta, tzinfo

from procclaw.model.clock import parse_iso, parse_span
from procclaw.model.errors import UsageError


def since_when(text: str, now: datetime) -> datetime:
    """A span before now, or an ISO 8601 moment (a naive one on the reader's wall clock)."""
    with suppress(ValueError, OverflowError):
        return now - timedelta(seconds=parse_span(text))
    try:
        return parse_iso(text, now.astimezone().tzinfo)
    except ValueError:
        raise UsageError(f'"{text}" is neither a time (ISO 8601) nor a span (90s, 15m, 2h, 30d)') from None


def moment_in(text: str, timezone: str) -> datetime:
    """An ISO 8601 moment; one without an offset is one of that zone."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    zone: tzinfo | None = None
    with suppress(ZoneInfoNotFoundError, ValueError, OSError):  # it is complained of with the schedule
        zone = ZoneInfo(timezone)
    try:
        return parse_iso(text, zone)
    except (ValueError, OverflowError):
        raise UsageError(f'"{text}" is not an ISO 8601 time') from None
