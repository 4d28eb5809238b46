"""The files of one log, and what its layout says of them: where it begins and ends, and any chunk of it.

Whether a step of a rotation happened can be told from the files, so a layout stored before a crash still tells where
every byte is. `look` shows it fitted to the files found: as if the step under way had either come to its end or not
begun, and with whatever the user has done to the file taken into account.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from procclaw.model.errors import ProcclawError
from procclaw.model.log import (
    Archive,
    Extent,
    Gone,
    Layout,
    Piece,
    Step,
    filler,
    layout_from_text,
    layout_to_text,
    leading_filler,
)

CHUNK_BYTES = 256 * 1024
"""The most that is read at once, so neither a huge log nor an endless line costs memory."""
TAIL_BYTES = 32
"""Enough of what precedes an offset to notice that a file was emptied and has grown again."""
_LOOKS = 100
"""Each further look means that another rotation fell into the reading of one chunk."""
_DIGITS = 15
"""Of an archive's name: room for a petabyte, and names sort as the offsets do."""


class Look(NamedTuple):
    """One look at a log: the layout as stored, the same fitted to the file found, and that file."""

    stored: Layout
    layout: Layout
    fd: int | None
    """None: there is no current file."""
    size: int

    @property
    def extent(self) -> Extent:
        return Extent(self.layout.start, self.layout.base + self.size)

    @property
    def mapping(self) -> tuple[int, int, tuple[Archive, ...]]:
        """What any offset's place follows from."""
        return self.layout.base, self.layout.head, self.layout.archives

    def ending(self, end: int) -> Layout:
        return self.layout if self.fd is None else ending(self.layout, self.fd, end)


class LogFiles:
    def __init__(self, directory: str, name: str, with_history: set[str]) -> None:
        """`with_history`: names of the logs that may have archives or a layout; the others cost no search."""
        self.name = name
        self.path = os.path.join(directory, name)
        self._directory = directory
        self._layout_path = os.path.join(directory, f".{name}.layout")
        self._with_history = with_history

    def archive_path(self, start: int) -> str:
        return f"{self.path}.{start:0{_DIGITS}d}"

    def delete_archive(self, start: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.archive_path(start))

    def archive_starts(self) -> list[int]:
        """Offsets of the archives that are there, known to the layout or not."""
        return sorted(start for name, start in _archives_in(self._directory) if name == self.name)

    @contextmanager
    def look(self) -> Iterator[Look]:
        """Look at layout and file; the file is open during the `with` body."""
        stored = self.load()
        # Before the file is opened: one opened earlier might be the archive of a moment later.
        renamed = self.renamed(stored) if stored.step is Step.RENAMING else None
        fd = _open_if_there(self.path)
        try:
            size = 0 if fd is None else os.fstat(fd).st_size
            yield Look(stored, self._fitted(renamed or stored, fd, size), fd, size)
        finally:
            if fd is not None:
                os.close(fd)

    @contextmanager
    def opened_for_writing(self) -> Iterator[int]:
        """Not for appending, so a write goes where it is told. Whoever has it open counts as a writer of the log."""
        fd = os.open(self.path, os.O_RDWR)
        try:
            yield fd
        finally:
            os.close(fd)

    def extent(self) -> Extent:
        for _ in range(_LOOKS):
            with self.look() as look:
                mapping = look.mapping
            with self.look() as again:
                # A cut may fall into either look, but the second one was right unless yet another cut fell into it.
                if again.mapping == mapping:
                    return again.extent
        raise self._never_still()

    def piece(self, start: int, end: int) -> Piece:
        """The first chunk from `start` on, or a Gone that begins there."""
        for _ in range(_LOOKS):
            with self.look() as look:
                piece = self._piece(look, start, end)
            with self.look() as again:
                if again.mapping == look.mapping:
                    return piece
        raise self._never_still()

    def load(self) -> Layout:
        try:
            with open(self._layout_path, "rb") as file:
                return layout_from_text(file.read())
        except FileNotFoundError:
            if self.name not in self._with_history:
                return Layout()
        except ValueError:
            pass
        return self._rebuilt()

    def save(self, layout: Layout, *, is_durable: bool = False) -> None:
        self._with_history.add(self.name)
        written = f"{self._layout_path}.new"
        fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write(fd, layout_to_text(layout).encode())
            if is_durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(written, self._layout_path)

    def renamed(self, layout: Layout) -> Layout | None:
        """The layout once the current file has become an archive; None if it has not."""
        size = size_of(self.archive_path(layout.start), missing=-1)
        if size < 0:
            return None
        end = layout.base + size
        archives = (*layout.archives, Archive(layout.start, end, layout.head))
        return Layout(base=end, end=end, archives=archives, is_collapsible=layout.is_collapsible)

    def _fitted(self, layout: Layout, fd: int | None, size: int) -> Layout:
        """Idle, or with a cut that is still to be made."""
        if fd is None:
            return layout.after_loss()
        if layout.step is Step.CUTTING and self._has_filler(fd, 0, layout.start) is layout.is_by_collapse:
            layout = layout.after_cut()
        if not self._is_same_file(layout, fd, size):
            return layout.after_loss()
        return layout if layout.step in (Step.MARKING, Step.CUTTING) else layout._replace(step=Step.IDLE)

    def _is_same_file(self, layout: Layout, fd: int, size: int) -> bool:
        """Told by content: an inode number is used again, and differs once a home was restored from a backup."""
        if size < max(layout.head, layout.end - layout.base):
            return False
        # While MARKING the filler may be written or not.
        if layout.head and layout.step is not Step.MARKING:
            at = layout.cut if layout.step is Step.CUTTING and layout.is_by_collapse else 0
            if not self._has_filler(fd, at, layout.start):
                return False
        length = len(layout.tail)
        return os.pread(fd, length, layout.end - layout.base - length) == layout.tail

    def _has_filler(self, fd: int, at: int, start: int) -> bool:
        text = filler(self.name, start).rstrip()
        return os.pread(fd, len(text), at) == text

    def _rebuilt(self) -> Layout:
        """What the files themselves tell. Only the history of a file that was emptied is beyond that."""
        archives: list[Archive] = []
        for start in self.archive_starts():
            path = self.archive_path(start)
            _, skip = self._filler_of(path) or (start, 0)
            archives.append(Archive(start, start + size_of(path) - skip, skip))
        newest_end = archives[-1].end if archives else 0
        start, head = self._filler_of(self.path) or (newest_end, 0)
        return Layout(base=start - head, head=head, end=start, archives=tuple(archives))

    def _filler_of(self, path: str) -> tuple[int, int] | None:
        fd = _open_if_there(path)
        if fd is None:
            return None
        try:
            return leading_filler(self.name, os.pread(fd, CHUNK_BYTES, 0))
        finally:
            os.close(fd)

    def _piece(self, look: Look, start: int, end: int) -> Piece:
        layout, extent = look.layout, look.extent
        if start >= extent.start:
            stop = min(end, extent.end, start + CHUNK_BYTES)
            if look.fd is None or stop <= start:
                return Gone(start, end)
            return os.pread(look.fd, stop - start, start - layout.base) or Gone(start, end)
        for archive in layout.archives:
            if start < archive.start:
                return Gone(start, min(end, archive.start))
            if start < archive.end:
                return self._archived(archive, start, min(end, archive.end))
        return Gone(start, min(end, extent.start))

    def _archived(self, archive: Archive, start: int, end: int) -> Piece:
        fd = _open_if_there(self.archive_path(archive.start))
        if fd is None:
            return Gone(start, end)
        try:
            at = start - archive.start + archive.skip
            return os.pread(fd, min(end - start, CHUNK_BYTES), at) or Gone(start, end)
        finally:
            os.close(fd)

    def _never_still(self) -> ProcclawError:
        return ProcclawError(f"{self.name}: rotated {_LOOKS} times while one chunk of it was read; read it again")


def logs_with_archives(directory: str) -> set[str]:
    return {name for name, _ in _archives_in(directory)}


def ending(layout: Layout, fd: int, end: int) -> Layout:
    """With `end` the highest offset known, and what stands before it now."""
    length = max(0, min(TAIL_BYTES, end - layout.start))
    return layout._replace(end=end, tail=os.pread(fd, length, end - layout.base - length))


def write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def size_of(path: str, missing: int = 0) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return missing


def _archives_in(directory: str) -> Iterator[tuple[str, int]]:
    """Log and offset of every archive in the directory."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        log, dot, digits = name.rpartition(".")
        if dot and len(digits) == _DIGITS and digits.isdecimal() and digits.isascii():
            yield log, int(digits)


def _open_if_there(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
