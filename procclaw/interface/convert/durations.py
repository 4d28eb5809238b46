"""Spans of time as Go programs and docker compose write them."""

import re

_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?|\.\d{1,12})(ns|us|µs|ms|s|m|h|d)", re.ASCII)
"""With so few digits a number is finite, and no work."""
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def go_seconds(text: str) -> float:
    """The seconds of "1h30m" and the like. Raises ValueError, in words."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'"{text}" is no span of time such as 90s or 1h30m')
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def plain(number: float) -> float | int:
    """Without a fraction that says nothing."""
    return int(number) if number == int(number) else round(number, 3)
