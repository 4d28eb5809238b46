"""Our own children: reaping the shims and relays we spawned, and remembering how much memory they took.

Only pids named here are ever waited for, so a child that some library started is left to that library.
"""

import os
import select
import sys

_REMEMBERED = 10_000
"""Peaks kept until somebody asks; an attempt's end is looked at within a cycle or two."""
_PATIENCE_MS = 20
"""A shim writes its code a few system calls before it can be reaped."""


class Children:
    def __init__(self) -> None:
        # A daemon that re-executed itself still has the children of before, but nobody has told it of them.
        self._living: set[int] = _children_of_this_process()
        self._peaks: dict[int, float | None] = {}

    def add(self, pid: int) -> None:
        """A process that lives and may be a child of ours; one that is not costs one look and is dropped."""
        self._living.add(pid)
        self._peaks.pop(pid, None)

    def reap(self) -> None:
        """Collect every child that has ended; never blocks.

        Asked at each wake-up, so those that live are not asked one by one: there may be hundreds.
        """
        while (ended := _one_that_has_ended()) in self._living:
            self._collect(ended)
        if ended is not None:
            # It is somebody else's, or nobody can tell: it may stand before some of ours.
            for pid in tuple(self._living):
                self._collect(pid)

    def peak_rss_mb(self, pid: int) -> float | None:
        if pid in self._living:
            _wait_until_readable(pid)
            self._collect(pid)
        return self._peaks.get(pid)

    def _collect(self, pid: int) -> None:
        try:
            ended, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            self._living.discard(pid)
            return
        if ended:
            self._living.discard(pid)
            self._peaks[pid] = _believable_peak_mb(usage.ru_maxrss)
            while len(self._peaks) > _REMEMBERED:
                del self._peaks[next(iter(self._peaks))]


_UNTOLD = 0


def _one_that_has_ended() -> int | None:
    """The pid of a child that has ended and is not collected yet; `_UNTOLD` where the system has no such look."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return _UNTOLD
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _believable_peak_mb(maxrss: int) -> float | None:
    """None where the figure may be our own size: Linux counts the memory of the process that spawned as the child's."""
    if sys.platform == "darwin":
        return maxrss / 2**20
    own_kib = _own_peak_kib()
    return None if own_kib is None or maxrss <= own_kib + _counting_error_kib() else maxrss / 1024


def _own_peak_kib() -> int | None:
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def _counting_error_kib() -> int:
    """Pages are counted per processor, in batches of 32 or twice the processors, and read without adding those up."""
    processors = os.cpu_count() or 1
    return max(32, 2 * processors) * processors * 4


def _wait_until_readable(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    try:
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        waiting.poll(_PATIENCE_MS)
    finally:
        os.close(fd)


def _children_of_this_process() -> set[int]:
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as listing:
                found.update(map(int, listing.read().split()))
    except OSError:
        pass
    return found
