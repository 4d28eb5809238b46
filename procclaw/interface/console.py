"""What is printed and how: tables and colour on a terminal, plain columns in a pipe, JSON when asked for.

Nothing a job can influence is sent to a terminal as it is: control characters in names and log lines are shown, not
obeyed.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TextIO

from procclaw.model.errors import ProcclawError

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "grey": "90", "bold": "1"}
_COLOURS |= {"cyan": "36", "magenta": "35", "bright green": "92", "bright yellow": "93", "bright blue": "94"}
TELLING_APART = ("cyan", "yellow", "green", "magenta", "blue", "bright green", "bright yellow", "bright blue")
"""Colours for things that stand side by side and mean nothing by it; red is for trouble."""
_OF_STATUS = {
    "running": "green",
    "succeeded": "green",
    "ran": "green",
    "healthy": "green",
    "open": "green",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
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

_TURNING = (0x61C, *range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
"""Line ends that do not look like one, and what changes the direction of the text around it."""
_IN_LINE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127, *range(0x80, 0xA0))}
_IN_LINE |= {code: f"\\u{code:04x}" for code in _TURNING}
_IN_CELL = {9: "\\x09", **_IN_LINE}
"""A tab is what separates the cells in a pipe."""

_NOTHING = "-"
_NARROWEST = 12
"""No column is cut shorter than this, however narrow the terminal."""
_LEGIBLE = 30
"""A column is only cut shorter than this when nothing can be spared for it any more."""
_USUAL_COLUMNS = 80
_USUAL_LINES = 24
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


class Unwritten(ProcclawError):
    """Our own output could not be written: a full disk, a terminal that is gone."""


class Console:
    def __init__(self, *, is_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        # Python has None for a stream that was closed before it began; that takes nothing, like /dev/null.
        self._out: TextIO | None = out or sys.stdout
        self._err: TextIO | None = err or sys.stderr
        if isinstance(self._out, io.TextIOWrapper):
            # A terminal of another encoding shows what it cannot say as an escape.
            self._out.reconfigure(errors="backslashreplace")
        self.is_json = is_json
        self.is_terminal = _is_terminal(self._out)
        self._has_colour = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._shows_progress = _is_terminal(self._err) and not is_json
        self._progress = ""

    def say_what_is_left(self, printed: int, total: int) -> None:
        """For people: that a table did not show everything, and how to see it."""
        if self.is_terminal and printed < total:
            self.say(f"{total - printed} older ones are not shown (-n {total} shows them)")

    def say(self, text: str = "") -> None:
        """A line as it stands: what a job can influence in it has been through `shown` or `printable`."""
        self._to_out(text + "\n")

    def flush(self) -> None:
        self._to_out("", is_end=True)

    def _to_out(self, text: str, *, is_end: bool = False) -> None:
        if self._out is None:
            return
        try:
            self._out.write(text)
            if is_end:
                self._out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritten(f"the output could not be written: {error.strerror}") from error

    def complain(self, text: str) -> None:
        """To stderr, line by line, without anything that would drive the terminal."""
        self.end_progress()
        self._to_err("".join(f"{printable(line)}\n" for line in text.split("\n")))

    def _to_err(self, text: str) -> None:
        if self._err is None:
            return
        try:
            self._err.write(text)
            self._err.flush()
        except OSError:
            # There is nobody left to tell.
            self._err = None

    def json(self, value: object) -> None:
        self._json(value, indent=2 if self.is_terminal else None)

    def json_line(self, value: object) -> None:
        """One of many, so each is a line of its own, on a terminal too."""
        self._json(value, indent=None)

    def _json(self, value: object, indent: int | None) -> None:
        is_ascii = self._out is None or (self._out.encoding or "").lower() != "utf-8"
        self.say(json.dumps(value, indent=indent, ensure_ascii=is_ascii))

    def drive(self, text: str) -> None:
        """Send it to the terminal at once, as it stands."""
        self._to_out(text, is_end=True)

    def size(self) -> tuple[int, int]:
        """Columns and lines of the terminal."""
        assert self._out is not None
        lines = os.environ.get("LINES", "")
        if lines.isdecimal() and int(lines):
            return terminal_columns(self._out), int(lines)
        try:
            return terminal_columns(self._out), os.get_terminal_size(self._out.fileno()).lines or _USUAL_LINES
        except OSError:
            return terminal_columns(self._out), _USUAL_LINES

    def progress(self, text: str) -> None:
        """One line on a terminal that the next one replaces; nothing elsewhere."""
        if not self._shows_progress or self._err is None:
            return
        # What wraps could not be taken back.
        text = _shortened(shown(text), terminal_columns(self._err) - 1)
        if text != self._progress:
            clear = " " * max(0, _width(self._progress) - _width(text))
            self._to_err(f"\r{text}{clear}")
            self._progress = text

    def end_progress(self) -> None:
        if self._progress:
            self._to_err("\r" + " " * _width(self._progress) + "\r")
            self._progress = ""

    def paint(self, text: str, colour: str | None) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour and self._has_colour else text

    def status(self, word: str) -> str:
        return self.paint(word, _OF_STATUS.get(word))

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[object]], *, cut: str = "", spare: Sequence[str] = ()
    ) -> None:
        """In a pipe tab-separated without a header. On a terminal aligned under one, less the columns in which no row
        says anything; where that is wider than the terminal, also less those named `spare`, one after the other, and
        the column named `cut` is cut short.
        """
        cells = [[shown(cell) for cell in row] for row in rows]
        if not self.is_terminal or self._out is None:
            for row in cells:
                self.say("\t".join(row))
            return
        columns = [column for column in range(len(header)) if any(row[column] != _NOTHING for row in cells)]
        lines = [[line[column] for column in columns] for line in ([*header], *cells)]
        lines = _fitted(lines, cut, spare, terminal_columns(self._out))
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        for number, line in enumerate(lines if cells else []):
            painted = [
                (self.paint(text, "bold") if number == 0 else self._cell(name, text)) + " " * (width - _width(text))
                for name, text, width in zip(lines[0], line, widths, strict=True)
            ]
            self.say("  ".join(painted).rstrip())

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """One `name  value` line each, without those that have no value; in a pipe with a tab between."""
        present = [(name, shown(value)) for name, value in pairs if value not in (None, "", [], ())]
        if not self.is_terminal:
            for pair in present:
                self.say("\t".join(pair))
            return
        width = max((len(name) for name, _ in present), default=0)
        for name, value in present:
            self.say(f"{self.paint(name.ljust(width), 'grey')}  {self._cell(name.upper(), value)}")

    def _cell(self, name: str, text: str) -> str:
        return self.status(text) if name in _COLOURED else text


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def terminal_columns(terminal: TextIO | None) -> int:
    """How wide to write: as COLUMNS says, else as wide as it is; 80 where nobody can know. None: it is closed."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    if terminal is None:
        return _USUAL_COLUMNS
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def _fitted(lines: list[list[str]], cut: str, spare: Sequence[str], room: int) -> list[list[str]]:
    """The table, header first, made narrower as far as it takes."""
    if cut not in lines[0]:
        return lines
    column = lines[0].index(cut)
    widths = [max(map(_width, texts)) for texts in zip(*lines, strict=True)]
    left = room - sum(widths) - 2 * (len(widths) - 1) + widths[column]
    if left < min(_LEGIBLE, widths[column]) and (name := next((name for name in spare if name in lines[0]), None)):
        gone = lines[0].index(name)
        return _fitted([[*line[:gone], *line[gone + 1 :]] for line in lines], cut, spare, room)
    return [[*line[:column], _shortened(line[column], max(left, _NARROWEST)), *line[column + 1 :]] for line in lines]


def _shortened(text: str, room: int) -> str:
    if _width(text) <= room:
        return text
    while _width(text) > room - 1:
        text = text[:-1]
    return text + "…"


def shown(value: object) -> str:
    """For a cell: nothing as `-`, control characters made visible."""
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(each) for each in value)
    return _NOTHING if value is None or value == "" else str(value).translate(_IN_CELL)


def printable(line: str) -> str:
    """A log line that cannot drive the terminal; colours a job prints are shown as text too."""
    return line.translate(_IN_LINE)


def quoted(value: str) -> str:
    """For the right side of a `name=value`."""
    return value if value and not set(value) & set(' "=') and value == shown(value) else _in_quotes(value)


def _in_quotes(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_IN_CELL)


def duration(seconds: float | None) -> str | None:
    """Two units at most: `0.4s`, `41s`, `5m 12s`, `3h 05m`, `2d 04h`."""
    if seconds is None:
        return None
    if seconds < 10:
        return f"{int(seconds * 10) / 10:.1f}s"
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


def brief(text: str | None, now: datetime) -> str | None:
    """An ISO moment on the reader's own wall clock, without the date if it is today's."""
    at = local(text)
    return at if at is None or text is None else at.removeprefix(f"{now.astimezone():%Y-%m-%d} ")


def distance(text: str | None, now: datetime) -> str | None:
    """How far off an ISO moment is."""
    if text is None:
        return None
    seconds = (datetime.fromisoformat(text).astimezone(UTC) - now).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"


def coming(text: str | None, now: datetime) -> str | None:
    """An ISO moment and how far off it is."""
    return None if text is None else f"{local(text)} ({distance(text, now)})"


def with_local_times(text: str | None) -> str | None:
    """A sentence of the engine's, which speaks UTC, on the reader's own wall clock."""
    return None if text is None else _MOMENT.sub(lambda found: local(found[0]) or "", text)
