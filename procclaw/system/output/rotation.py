"""Rotation: moving the older part of a log into archives, whoever is writing to it, and finishing one that died.

- Renaming, when nobody writes: costs nothing.
- Collapsing, under writers, where the filesystem can take blocks off a file's front (ext4, xfs). Nobody is stopped:
  writers only append, so everything but the end of the file can be copied and cut at leisure.
- Truncating, under writers, everywhere else: most is copied while they run, the rest while they are held still.

Each step is announced in the layout first. Archives are on the disk before the layout counts them, and are counted
before anything is cut.
"""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from procclaw.model.errors import ProcclawError
from procclaw.model.log import Archive, Layout, Step, filler
from procclaw.model.spec import LogPolicy
from procclaw.system.output.files import CHUNK_BYTES, LogFiles, Look, ending, size_of, write

_LINE_SEARCH_BYTES = 1024 * 1024
"""How far back a line's end is looked for; a line longer than that is divided, which costs nothing but looks."""
_REMAINDER_BYTES = 256 * 1024
"""What may be left to copy while writers stand still: about 0.1 ms."""
_ROUNDS = 8
"""Copying catches up with any writer slower than itself in a few rounds; past that, the standstill is longer."""
_COLLAPSE_RANGE = 8
"""FALLOC_FL_COLLAPSE_RANGE"""

FrozenWriters = Callable[[str], AbstractContextManager[bool]]
"""Holds the writers of the file at a path still.

While the `with` body runs, no other process that has the file open for writing runs: each was sent SIGSTOP, all its
threads have been seen stopped, and another look found no new writer. Leaving the body in any way lets those go on that
were stopped for it; should this process die inside it, a guard started beforehand does so. The value is False, and
nobody is stopped, if it cannot make sure of that.
"""


def rotate(files: LogFiles, policy: LogPolicy, frozen_writers: FrozenWriters | None) -> bool:
    """Rotate if it is due; `frozen_writers` None: nobody writes."""
    if size_of(files.path) < policy.max_bytes:
        return False
    recover(files)
    with files.look() as look:
        if look.fd is None:
            return False
        rotation = _Rotation(files, look, look.fd, policy)
        live = look.size - look.layout.head
        if live < policy.max_bytes and not rotation.has_uncut_head:
            return False
        if frozen_writers is not None:
            if live < look.layout.retry_bytes:
                return False
            if look.layout.is_collapsible and not rotation.has_uncut_head and can_collapse(files):
                return rotation.by_collapsing()
            return rotation.by_truncating(frozen_writers(files.path))
        # What outgrew its limit while nobody looked is not kept whole: it is divided, and the oldest part dropped.
        if live >= 2 * policy.max_bytes or rotation.has_uncut_head:
            return rotation.by_truncating(nullcontext(enter_result=True))
        rotation.by_renaming()
        return True


def recover(files: LogFiles) -> None:
    """Finish or forget what a rotation that died left behind; mostly there is nothing to do."""
    if files.load().step is Step.IDLE:
        return
    with files.look() as look:
        layout = look.layout
        known = {archive.start for archive in layout.archives}
        for start in files.archive_starts():
            if start not in known:
                files.delete_archive(start)
        if look.fd is None or layout.step is Step.IDLE:
            files.save(layout)
        elif layout.is_by_collapse:
            _cut(files, layout)
        else:
            # Its writers have gone on since: what they wrote has to be archived before anything may be truncated.
            _leave_uncut(files, layout)


class _Rotation:
    """One rotation of a log that is due."""

    def __init__(self, files: LogFiles, look: Look, fd: int, policy: LogPolicy) -> None:
        self._files = files
        self._layout = look.layout
        self._size = look.size
        self._fd = fd
        self._policy = policy
        self._block = os.fstatvfs(fd).f_bsize

    @property
    def has_uncut_head(self) -> bool:
        """Is more archived at the front than a filler needs: did an earlier cut not come to pass?"""
        return self._layout.head >= 2 * self._block

    def by_renaming(self) -> None:
        """Nobody writes: the file becomes the archive."""
        self._layout = ending(self._layout, self._fd, self._layout.base + self._size)
        self._begin(Step.RENAMING, arriving=1)
        os.rename(self._files.path, self._files.archive_path(self._layout.start))
        # Dying here: the archive is there, so the layout is known to be past the renaming.
        renamed = self._files.renamed(self._layout)
        if renamed is not None:
            kept = renamed.archives if self._policy.rotate else ()
            self._files.save(renamed._replace(archives=kept))
            if not kept:
                self._files.delete_archive(self._layout.start)

    def by_collapsing(self) -> bool:
        """Nobody is stopped. False if the file has too few blocks for one to go."""
        end = _line_end(self._fd, self._layout.head, self._size)
        room = len(filler(self._files.name, self._layout.base + end))
        cut = (end - room) // self._block * self._block
        if cut < self._block:
            return False
        pieces = self._pieces(end)
        self._copy(pieces)
        self._commit(pieces, end, cut)
        _cut(self._files, self._layout)
        return True

    def by_truncating(self, frozen: AbstractContextManager[bool]) -> bool:
        """The last line may come to lie in two files. False if the file is too short for the filler."""
        if self._size < len(filler(self._files.name, self._layout.base + self._size)):
            return False
        pieces = self._pieces(self._size)
        self._copy(pieces)
        for _ in range(_ROUNDS):
            if self._catch_up(pieces) < _REMAINDER_BYTES:
                break
        with frozen as is_still:
            if is_still:
                self._catch_up(pieces)
                self._commit(pieces, self._size, self._size)
                _cut(self._files, self._layout)
                return True
        raise self._refused()

    def _pieces(self, end: int) -> list[tuple[int, int]]:
        """What to archive, as ranges of the file: about `max_bytes` each, and none that would be deleted at once."""
        start, most, count = self._layout.head, self._policy.max_bytes, self._policy.rotate
        if count == 0:
            return []
        if end - start > (count + 1) * most:
            start = _line_end(self._fd, start, end - count * most)
        pieces = []
        while end - start >= 2 * most:
            stop = _line_end(self._fd, start, start + most)
            pieces.append((start, stop))
            start = stop
        return [*pieces, (start, end)][-count:]

    def _begin(self, step: Step, arriving: int) -> None:
        """Announce the step, and make room: new archives come when the oldest have gone."""
        archives = self._layout.archives
        surplus = max(0, len(archives) + arriving - self._policy.rotate)
        self._layout = self._layout._replace(step=step, archives=archives[surplus:])
        self._files.save(self._layout)
        # Dying here: archives the layout no longer lists are deleted by the next recovery.
        for archive in archives[:surplus]:
            self._files.delete_archive(archive.start)

    def _copy(self, pieces: list[tuple[int, int]]) -> None:
        self._begin(Step.ARCHIVING, arriving=len(pieces))
        # Dying here: the same, for these are not listed yet.
        for start, end in pieces:
            _copy(self._fd, start, end, self._archive_path(start), os.O_TRUNC)

    def _catch_up(self, pieces: list[tuple[int, int]]) -> int:
        """Take in what was written since the last look, lengthening the last piece; how many bytes that was."""
        was, self._size = self._size, os.fstat(self._fd).st_size
        if pieces:
            start, end = pieces[-1]
            _copy(self._fd, end, self._size, self._archive_path(start), os.O_APPEND)
            pieces[-1] = start, self._size
        return self._size - was

    def _commit(self, pieces: list[tuple[int, int]], end: int, cut: int) -> None:
        """From here on the archives count, and the file's first `end` bytes do not."""
        base = self._layout.base
        new = tuple(Archive(base + start, base + stop, 0) for start, stop in pieces if start < stop)
        archives = (*self._layout.archives, *new)
        layout = self._layout._replace(head=end, archives=archives, step=Step.MARKING, cut=cut)
        self._layout = ending(layout, self._fd, max(layout.end, base + end))
        # Durable like the archives: otherwise a power cut could leave the file cut, and nobody who knows.
        self._files.save(self._layout, is_durable=True)

    def _refused(self) -> ProcclawError:
        # Copying a log that grows again and again, for nothing, would cost ever more: try less and less often.
        retry_bytes = 2 * (self._size - self._layout.head)
        self._files.save(self._layout._replace(retry_bytes=retry_bytes))
        return ProcclawError(
            f"{self._files.name}: what writes to it could not be held still to rotate it; "
            f"that is tried again when it has grown to {retry_bytes} bytes, or before the job starts next"
        )

    def _archive_path(self, at: int) -> str:
        return self._files.archive_path(self._layout.base + at)


def _cut(files: LogFiles, layout: Layout) -> None:
    """Take the archived front off the log. That this is to happen (MARKING or more) is stored already."""
    at, length = (layout.cut, layout.head - layout.cut) if layout.is_by_collapse else (0, 0)
    with files.opened_for_writing() as fd:
        if os.fstat(fd).st_size < layout.head:
            # Its user emptied it just now, and a write would fill the hole.
            return
        os.pwrite(fd, filler(files.name, layout.start, length), at)
        # Dying here: the layout says that nothing is cut, and the bytes the filler replaced no longer count.
        files.save(layout._replace(step=Step.CUTTING))
        # Dying on either side of the cut: the filler is or is not at the front of the file, which tells.
        try:
            if layout.is_by_collapse:
                _collapse(fd, layout.cut)
            else:
                os.ftruncate(fd, 0)
        except OSError:
            _leave_uncut(files, layout._replace(is_collapsible=False))
            raise
    files.save(layout.after_cut())


def _leave_uncut(files: LogFiles, layout: Layout) -> None:
    """Keep the archived front for now, marked as such; the next rotation takes it away."""
    with files.opened_for_writing() as fd:
        os.pwrite(fd, filler(files.name, layout.start), 0)
    files.save(layout._replace(step=Step.IDLE, cut=0))


def _line_end(fd: int, low: int, high: int) -> int:
    """Behind the last newline between the two places, or `high` if none is near."""
    low = max(low, high - _LINE_SEARCH_BYTES)
    found = os.pread(fd, high - low, low).rfind(b"\n")
    return high if found < 0 else low + found + 1


def _copy(source: int, start: int, end: int, path: str, how: int) -> None:
    """Copy that part of a file to the disk."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    try:
        while start < end:
            data = os.pread(source, min(CHUNK_BYTES, end - start), start)
            if not data:
                raise ProcclawError(f"{path}: its log was shortened while it was being rotated; trying again next time")
            write(target, data)
            start += len(data)
        os.fsync(target)
    finally:
        os.close(target)


def can_collapse(files: LogFiles) -> bool:
    """Whether the filesystem can take blocks off the front of the log.

    Asks for one byte, which none can do: one that knows the operation complains of the number.
    """
    with files.opened_for_writing() as fd:
        return _fallocate(fd, 1) == errno.EINVAL


def _collapse(fd: int, length: int) -> None:
    """Remove the file's first bytes, whole blocks and not all there are; what is behind them moves up."""
    number = _fallocate(fd, length)
    if number:
        raise OSError(number, os.strerror(number))


def _fallocate(fd: int, length: int) -> int:
    """Take `length` bytes off the front; the error number, 0 when it was done."""
    if sys.platform != "linux":
        return errno.EOPNOTSUPP
    # Few processes ever rotate, and the import takes 10 ms.
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    # glibc's plain fallocate takes 32-bit offsets on 32-bit machines; musl's only one takes 64.
    fallocate = getattr(library, "fallocate64", None) or library.fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return 0 if fallocate(fd, _COLLAPSE_RANGE, 0, length) == 0 else ctypes.get_errno()
