"""The log files that jobs write themselves: positions in them, reading them, rotating them under their writers.

A job has its log open for appending; nothing it writes passes through ProcClaw. `model/log` has the words: logical
offset, archive, filler, layout. Under logs/ lie `<log>`, its archives `<log>.<15 digits>` and its layout
`.<log>.layout`, replaced atomically before each step of a rotation. Whoever reads after a crash, at whatever step, sees
every byte once. A lost layout is made again from the archives' names and the filler.

`position`, `close` and `rotate` are for one thread of the reconciler. Reading is for anybody at any time, writes
nothing and takes no lock: what was read counts if the layout is the same after it as before.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.model.log import Extent, Gone, Piece
from procclaw.model.records import Slice
from procclaw.model.spec import LogPolicy
from procclaw.system.output.files import CHUNK_BYTES, TAIL_BYTES, LogFiles, logs_with_archives
from procclaw.system.output.rotation import FrozenWriters, can_collapse, recover, rotate

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


class Output:
    """The logs of one home; `frozen_writers` is needed by `rotate` only."""

    def __init__(self, directory: str, frozen_writers: FrozenWriters) -> None:
        self._directory = directory
        self._frozen_writers = frozen_writers
        self._with_history: set[str] | None = None

    def log_files(self, job_id: str, instance: int) -> tuple[str, str]:
        """Names under logs/ of the stdout and stderr log of a job's instance."""
        stem = f"{job_id}.{instance}" if instance else job_id
        return f"{stem}.log", f"{stem}.error.log"

    def position(self, file: str) -> int:
        """The logical offset of the end of a log, 0 when there is none. No byte written later has a lower one."""
        files = self._files(file)
        with _despite_full_disk():
            recover(files)
        with files.look() as look:
            end = look.extent.end
            if look.layout != look.stored or end != look.stored.end:
                # On a full disk only this is lost: a file emptied from now on may be taken for one that grew.
                with _despite_full_disk():
                    files.save(look.ending(end))
        return end

    def close(self, opened: Slice) -> Slice:
        """The slice with its end filled in from the log as it stands."""
        return opened._replace(end=max(opened.start, self.position(opened.file)))

    def rotate(self, file: str, policy: LogPolicy, *, is_in_use: bool) -> bool:
        """Rotate the log if it is due; False when there was nothing to do.

        `is_in_use`: something may have it open for writing. When it raises (ProcclawError, DiskFull among them) nothing
        is lost, the log goes on growing, and the next call begins again.
        """
        files = self._files(file)
        try:
            return rotate(files, policy, self._frozen_writers if is_in_use else None)
        except (OSError, ProcclawError) as error:
            # What was copied in vain gives its space back now, not when somebody looks next.
            with suppress(OSError):
                recover(files)
            if isinstance(error, OSError):
                raise _trouble(file, error) from error
            raise

    def is_collapsible(self, file: str) -> bool:
        """Whether a log that is in use is rotated without its writers being held still."""
        return can_collapse(self._files(file))

    def extent(self, file: str) -> Extent:
        """Where the current file of a log begins and ends now."""
        return self._files(file).extent()

    def read(self, file: str, start: int = 0, end: int | None = None) -> Iterator[Piece]:
        """The bytes from one logical offset to another, in order, in chunks; `end` None: to where the log ends now.

        Every byte asked for is either handed out or within a Gone, of which no two adjoin.
        """
        files = self._files(file)
        if end is None:
            end = files.extent().end
        gone_from = None
        while start < end:
            piece = files.piece(start, end)
            if isinstance(piece, Gone):
                gone_from = start if gone_from is None else gone_from
                start = piece.end
                continue
            if gone_from is not None:
                yield Gone(gone_from, start)
                gone_from = None
            yield piece
            start += len(piece)
        if gone_from is not None:
            yield Gone(gone_from, start)

    def end_of(self, part: Slice, count: int) -> bytes:
        """The last `count` bytes of an attempt's part of a log, as far as they are still there."""
        end = self.extent(part.file).end if part.end is None else part.end
        return self._unbroken(part.file, max(part.start, end - count), end)[0]

    def tail(self, file: str, count: int, start: int = 0, end: int | None = None) -> int:
        """Where the last `count` lines before `end` begin; not before `start`, nor before a stretch that is gone."""
        if end is None:
            end = self.extent(file).end
        reached = end
        while count > 0 and reached > start:
            wanted = max(start, reached - CHUNK_BYTES)
            data, low = self._unbroken(file, wanted, reached)
            at = len(data) - (reached == end and data.endswith(b"\n"))
            while (at := data.rfind(b"\n", 0, at)) >= 0:
                count -= 1
                if count == 0:
                    return low + at + 1
            reached = low
            if low > wanted:
                break
        return reached

    def follow(self, file: str, position: int) -> "Follower":
        """Reads what is written from `position` on, as it comes."""
        return Follower(self, file, position)

    def _files(self, file: str) -> LogFiles:
        if self._with_history is None:
            self._with_history = logs_with_archives(self._directory)
        return LogFiles(self._directory, file, self._with_history)

    def _unbroken(self, file: str, start: int, end: int) -> tuple[bytes, int]:
        """What follows the last gap between the two offsets, and where it begins."""
        data, low = b"", start
        for piece in self.read(file, start, end):
            if isinstance(piece, Gone):
                data, low = b"", piece.end
            else:
                data += piece
        return data, low


class Follower:
    """A reader that keeps its place in a log through rotation, truncation and replacement; it holds nothing open."""

    def __init__(self, output: Output, file: str, position: int) -> None:
        self._output = output
        self._file = file
        self._tail = b""
        self.position = position

    def read_new(self) -> Iterator[Piece]:
        """What has come since the last time, in chunks; nothing if nothing has. `position` is behind what was taken."""
        extent = self._output.extent(self._file)
        if extent.end == self.position:
            return
        if not self._is_continued(extent):
            self.position, self._tail = extent.start, b""
        for piece in self._output.read(self._file, self.position, extent.end):
            if isinstance(piece, Gone):
                self.position, self._tail = piece.end, b""
            else:
                self.position += len(piece)
                self._tail = (self._tail + piece[-TAIL_BYTES:])[-TAIL_BYTES:]
            yield piece

    def _is_continued(self, extent: Extent) -> bool:
        """Does what was read last still stand before what comes now? If it went by retention, reading will say so."""
        if self.position > extent.end:
            return False
        before = b""
        for piece in self._output.read(self._file, self.position - len(self._tail), self.position):
            if isinstance(piece, Gone):
                return True
            before += piece
        return before == self._tail


@contextmanager
def _despite_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_IS_FULL:
            raise


def _trouble(file: str, error: OSError) -> ProcclawError:
    kind = DiskFull if error.errno in _DISK_IS_FULL else ProcclawError
    return kind(f"{file}: it could not be rotated: {error.strerror}; nothing is lost, it grows until that works")
