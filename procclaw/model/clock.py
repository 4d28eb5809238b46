"""Time: the only module that reads a clock, and the one form in which times are kept and shown.

A moment is an aware `datetime` in UTC. The database keeps it as whole microseconds since the epoch, so a moment
survives the round trip exactly. Wall clock time decides what is due; monotonic time is only for waiting inside one
process.
"""

import re
import time
from datetime import UTC, datetime, timedelta, tzinfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SPAN = r"(?a)(\d{1,9}(?:\.\d{1,6})?)([smhdw])"
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class SystemClock:
    """The machine's clock. Tests hand in one that they advance."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back; stands still while the machine sleeps."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def to_microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def after(moment: datetime, seconds: float) -> datetime:
    """`moment` plus `seconds`; the far end of the calendar where that lies beyond it."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def seconds_between(earlier: datetime, later: datetime) -> float:
    return (later - earlier).total_seconds()


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with `Z`, milliseconds only where there are any."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return text.removesuffix(".000") + "Z"


def parse_iso(text: str, zone: tzinfo | None = None) -> datetime:
    """The moment an ISO 8601 text names; a naive one is taken to be in `zone` (UTC if None). Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone or UTC)
    return moment.astimezone(UTC)


def parse_span(text: str) -> float:
    """The seconds of `90s`, `15m`, `2h`, `1d` or `1w`. Raises ValueError."""
    found = re.fullmatch(_SPAN, text)
    if found is None:
        raise ValueError(f'"{text}" is not a span such as 90s, 15m, 2h, 30d')
    return float(found[1]) * _UNIT_SECONDS[found[2]]
