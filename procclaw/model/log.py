"""What a job's log is made of: the words and values that tell whose bytes are where in it.

A *logical offset* counts bytes since the log began. It survives rotation, and a user who deletes or empties the file.
The *current file* is the one jobs write; an *archive* holds an older part, named by the logical offset of its first
byte. A *filler* is one line of ours at the front of a current file, padded with blanks: what stood there is archived,
but a file in use can be shortened by whole blocks only. It names the log and the offset at which output goes on, so it
is told exactly from anything a job prints, and readers never show it. The *layout* of a log maps offsets to files.
"""

import json
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

LINE_BYTES = 64 * 1024
"""A longer line is handed out in parts of this, so an endless one costs no memory."""
_FILLER = "-- {name}: older lines, up to byte {start}, were rotated away --"


class Gone(NamedTuple):
    """A stretch of a log, in logical offsets, that is in no file any more."""

    start: int
    end: int


Piece = bytes | Gone


class Extent(NamedTuple):
    """What the current file of a log holds, in logical offsets; the archives end where it starts."""

    start: int
    end: int


class Archive(NamedTuple):
    start: int
    end: int
    skip: int
    """Length of the filler in front."""


class Step(StrEnum):
    """How far a rotation has got; dying at any of them loses and doubles nothing."""

    IDLE = "idle"
    ARCHIVING = "archiving"
    """Archives the layout does not list are being written: they do not count and are deleted when found."""
    RENAMING = "renaming"
    """The current file becomes an archive: it has if that archive exists."""
    MARKING = "marking"
    """The archives count, the current file's first `head` bytes no longer do; `cut` of them are to go, none has."""
    CUTTING = "cutting"
    """A filler was written where only the cut can bring it to, or take it from, the front: its place tells."""


class Layout(NamedTuple):
    base: int = 0
    """Logical offset of the current file's first byte."""
    head: int = 0
    """So many bytes at its front are filler or archived."""
    end: int = 0
    """The highest offset ever handed out or archived; no later byte may get a lower one."""
    tail: bytes = b""
    """What stood before `end`, as far as it is in the current file."""
    archives: tuple[Archive, ...] = ()
    step: Step = Step.IDLE
    cut: int = 0
    """Bytes to take off the front: all of `head` by truncating, or whole blocks short of it by collapsing."""
    is_collapsible: bool = True
    """False once the filesystem refused to take blocks off this log's front."""
    retry_bytes: int = 0
    """While writers could not be held still, rotating under them is not tried before so much has come together."""

    @property
    def start(self) -> int:
        """Logical offset of the first byte in the current file that counts."""
        return self.base + self.head

    @property
    def is_by_collapse(self) -> bool:
        return self.cut < self.head

    def after_cut(self) -> "Layout":
        return self._replace(base=self.base + self.cut, head=self.head - self.cut, step=Step.IDLE, cut=0, retry_bytes=0)

    def after_loss(self) -> "Layout":
        """Once somebody deleted, emptied or replaced the file: whatever is in it now came after `end`."""
        return self._replace(base=self.end, head=0, tail=b"", step=Step.IDLE, cut=0, retry_bytes=0)


def lines(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Lines without their newline: one too long in parts, the last even if unfinished, gaps where they are."""
    rest = b""
    for piece in pieces:
        if isinstance(piece, Gone):
            if rest:
                yield rest
            rest = b""
            yield piece
            continue
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            for at in range(0, max(1, len(line)), LINE_BYTES):
                yield line[at : at + LINE_BYTES]
        while len(rest) > LINE_BYTES:
            yield rest[:LINE_BYTES]
            rest = rest[LINE_BYTES:]
    if rest:
        yield rest


def filler(name: str, start: int, length: int = 0) -> bytes:
    """The line that stands for what was rotated away up to `start`, blanks filling it up to `length`."""
    return _FILLER.format(name=name, start=start).ljust(length - 1).encode() + b"\n"


def leading_filler(name: str, content: bytes) -> tuple[int, int] | None:
    """The offset that a filler of log `name` in front of `content` gives, and the filler's length."""
    pattern = _FILLER.format(name=re.escape(name), start="([0-9]+)")
    found = re.match(pattern.encode() + b" *\n", content)
    return (int(found[1]), found.end()) if found else None


def layout_to_text(layout: Layout) -> str:
    return json.dumps(layout._asdict() | {"tail": layout.tail.hex()})


def layout_from_text(text: bytes) -> Layout:
    """Raises ValueError if this is no layout."""
    try:
        fields = json.loads(text)
        return Layout(
            base=int(fields["base"]),
            head=int(fields["head"]),
            end=int(fields["end"]),
            tail=bytes.fromhex(fields["tail"]),
            archives=tuple(Archive(*map(int, archive)) for archive in fields["archives"]),
            step=Step(fields["step"]),
            cut=int(fields["cut"]),
            is_collapsible=bool(fields["is_collapsible"]),
            retry_bytes=int(fields["retry_bytes"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError from error
