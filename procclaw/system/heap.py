"""The C library's heap in a process that lives for months and whose threads come and go."""

import ctypes
from contextlib import suppress

# Of glibc's malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_MMAP_THRESHOLD_BYTES = 128 << 10
"""What glibc begins with; to say it is what keeps it from growing."""


def share_heap() -> None:
    """Have all threads take their memory from one heap, and what is large from the system for as long as it is used.

    To be called before there are threads; harmless to repeat.

    glibc gives each of the first threads, eight for each core, a heap of its own, in which stays what the thread no
    longer needs; and having seen a large piece freed, it takes the next from a heap as well. Of the 66 MiB that a
    daemon of 500 jobs had after a minute of requests, 15 were that. Who allocates has Python's lock most of the time,
    so a heap of its own serves a thread little. Another C library does not know these settings, and needs none.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
