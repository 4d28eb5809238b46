"""What jobs wrote, as lines: the end of a log, what a run wrote, and what comes.

A log is read by logical offsets, so a run's part is found again after rotation. Stretches that are no longer there are
told as such, never passed over.
"""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from procclaw.engine.home import Home
from procclaw.model.log import Gone, Piece, lines
from procclaw.model.records import Attempt, Slice

POLL_SECONDS = 0.2


class Part(NamedTuple):
    """A stretch of a log."""

    file: str
    start: int
    end: int
    is_stderr: bool
    is_open: bool
    """More may be written to it."""


class Line(NamedTuple):
    text: str
    is_stderr: bool


def of_job(home: Home, job_id: str, instances: int) -> list[Part]:
    """All there is of the logs of a job that may run so many times at once."""
    output = home.output
    return [
        _whole(home, file, is_stderr=is_stderr)
        for instance in range(instances)
        for file, is_stderr in zip(output.log_files(job_id, instance), (False, True), strict=True)
    ]


def ends(home: Home) -> dict[str, int]:
    """Where each log ends now, by its name; what is not named has nothing yet."""
    try:
        files = [name for name in os.listdir(home.paths.logs) if name.endswith(".log")]
    except FileNotFoundError:
        return {}
    return {file: home.output.extent(file).end for file in files}


def of_daemon(home: Home) -> list[Part]:
    return [_whole(home, home.paths.daemon_log.rpartition("/")[2], is_stderr=False)]


def of_attempts(home: Home, attempts: Iterable[Attempt]) -> list[Part]:
    """What these attempts wrote: first all their stdout, then all their stderr."""
    listed = tuple(attempts)
    streams = [(each.stdout, False) for each in listed] + [(each.stderr, True) for each in listed]
    return [_part(home, part, is_stderr=is_stderr) for part, is_stderr in streams if part is not None]


def _whole(home: Home, file: str, *, is_stderr: bool) -> Part:
    extent = home.output.extent(file)
    return Part(file, extent.start, extent.end, is_stderr, is_open=True)


def _part(home: Home, part: Slice, *, is_stderr: bool) -> Part:
    end = home.output.extent(part.file).end if part.end is None else part.end
    return Part(part.file, part.start, end, is_stderr, is_open=part.end is None)


def read(home: Home, parts: Iterable[Part], limit: int | None) -> Iterator[Line]:
    """The last `limit` lines (None: all) of each part."""
    output = home.output
    for part in parts:
        start = part.start if limit is None else output.tail(part.file, limit, part.start, part.end)
        for piece in lines(output.read(part.file, start, part.end)):
            yield Line(_text(piece), part.is_stderr)


def whole(home: Home, parts: Iterable[Part]) -> Iterator[bytes]:
    """All that the parts hold, as it was written."""
    for part in parts:
        for piece in home.output.read(part.file, part.start, part.end):
            yield f"{_text(piece)}\n".encode() if isinstance(piece, Gone) else piece


class Following:
    """What is written to logs from where their open parts end, line by line; an unfinished line waits for its end."""

    def __init__(self, home: Home, parts: Iterable[Part]) -> None:
        self._parts = [part for part in parts if part.is_open]
        self._followers = [home.output.follow(part.file, part.end) for part in self._parts]
        self._rests = [b""] * len(self._parts)

    @property
    def is_idle(self) -> bool:
        """There is nothing to follow."""
        return not self._parts

    def new_lines(self) -> Iterator[Line]:
        """Those that have come since the last time."""
        for index, (follower, part) in enumerate(zip(self._followers, self._parts, strict=True)):
            for piece in follower.read_new():
                if isinstance(piece, Gone):
                    yield Line(_text(piece), part.is_stderr)
                    continue
                *whole, self._rests[index] = (self._rests[index] + piece).split(b"\n")
                for line in whole:
                    yield Line(_text(line), part.is_stderr)

    def unfinished(self) -> Iterator[Line]:
        """What waits for an end that nobody will write any more."""
        for index, part in enumerate(self._parts):
            if rest := self._rests[index]:
                self._rests[index] = b""
                yield Line(_text(rest), part.is_stderr)


def follow(home: Home, parts: Iterable[Part]) -> Iterator[Line | None]:
    """What is written from where the open parts end, for ever; None when there is nothing new for the moment."""
    following = Following(home, parts)
    while not following.is_idle:
        yield from following.new_lines()
        yield None
        home.clock.sleep(POLL_SECONDS)


def _text(piece: Piece) -> str:
    if isinstance(piece, Gone):
        return f"-- {piece.end - piece.start} bytes are gone --"
    return piece.decode("utf-8", "replace")
