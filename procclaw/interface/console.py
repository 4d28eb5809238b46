"""What is printed and how: tables and colour on a terminal, plain columns in a pipe, JSON when asked for.

Nothing a job can influence is sent to a terminal as it is: control characters in names and log lines are shown, not obeyed.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "grey": "90", "bold": "1"}
_OF_STATUS = {
    "running": "green",
    "succeeded": "green",
    "ran": "green",
    "healthy": "green",
    "open": "green",
    "closed": "red",
    "failed": "red",
    "missed": "red",
    "retrying": "yellow",
    "stopping": "yellow",
    "queued": "yellow",
    "pending": "yellow",
    "skipped": "yellow",
    "expired": "yellow",
    "paused": "blue",
    "planned": "blue",
    "disabled": "grey",
    "stopped": "grey",
}
_COLOURED = frozenset({"STATUS", "STATE", "OUTCOME"})
"""Columns of one word each, which gets the colour of what it says."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127, *range(0x80, 0xA0))}


class Console:
    def __init__(self, *, is_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self.is_json = is_json
        self.is_terminal = self._out.isatty()
        self._has_colour = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._shows_progress = self._err.isatty() and not is_json
        self._progress = ""

    def say(self, text: str = "") -> None:
        print(text, file=self._out)

    def write(self, text: str) -> None:
        self._out.write(text)

    def flush(self) -> None:
        self._out.flush()

    def complain(self, text: str) -> None:
        self.end_progress()
        print(text, file=self._err)

    def json(self, value: object) -> None:
        print(json.dumps(value, indent=2 if self.is_terminal else None, ensure_ascii=False), file=self._out)

    def progress(self, text: str) -> None:
        """One line on a terminal that the next one replaces; nothing elsewhere."""
        if self._shows_progress:
            clear = " " * max(0, len(self._progress) - len(text))
            self._err.write(f"\r{text}{clear}")
            self._err.flush()
            self._progress = text

    def end_progress(self) -> None:
        if self._progress:
            self._err.write("\r" + " " * len(self._progress) + "\r")
            self._err.flush()
            self._progress = ""

    def paint(self, text: str, colour: str | None) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and self._has_colour else text

    def status(self, word: str) -> str:
        return self.paint(word, _OF_STATUS.get(word))

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned under a header on a terminal; tab-separated without one in a pipe."""
        cells = [[shown(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            for row in cells:
                self.say("\t".join(row))
            return
        if not cells:
            return
        widths = [max(len(line[column]) for line in (header, *cells)) for column in range(len(header))]
        self.say(self.paint("  ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)), "bold"))
        for row in cells:
            painted = [self.status(text) if name in _COLOURED else text for name, text in zip(header, row, strict=True)]
            gaps = [" " * (width - len(text)) for text, width in zip(row, widths, strict=True)]
            self.say("  ".join(text + gap for text, gap in zip(painted, gaps, strict=True)).rstrip())

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """One `name  value` line each, without those that have no value."""
        present = [(name, shown(value)) for name, value in pairs if value not in (None, "", [], ())]
        width = max((len(name) for name, _ in present), default=0)
        for name, value in present:
            painted = self.status(value) if name.upper() in _COLOURED else value
            self.say(f"{self.paint(name.ljust(width), 'grey')}  {painted}")


def shown(value: object) -> str:
    """For a cell: nothing as `-`, control characters made visible."""
    if value is None or value == "":
        return "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value).translate(_CONTROL) or "-"
    return str(value).translate(_CONTROL)


def printable(line: str) -> str:
    """A log line that cannot drive the terminal; colours a job prints are shown as text too."""
    return line.translate(_CONTROL)


def duration(seconds: float | None) -> str | None:
    """Two units at most: `41s`, `5m 12s`, `3h 05m`, `2d 04h`."""
    if seconds is None:
        return None
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


def local(text: str | None) -> str | None:
    """An ISO moment on the reader's own wall clock."""
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def coming(text: str | None, now: datetime) -> str | None:
    """An ISO moment and how far off it is."""
    if text is None:
        return None
    seconds = (datetime.fromisoformat(text).astimezone(UTC) - now).total_seconds()
    when = f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"
    return f"{local(text)} ({when})"
