"""The memory that threads leave behind: it lies in one heap, and goes back to the system."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.driver import Driver

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has a heap for each thread"),
]

LARGE_BYTES = 10 << 20
THREADS = f"""
LARGE_BYTES = {LARGE_BYTES}
import ctypes, sys, threading
from procclaw.system.heap import share_heap

if sys.argv[1] == "shared":
    share_heap()
barrier = threading.Barrier(4)
def use():
    kept = [bytes(5000) for _ in range(100)]
    barrier.wait()
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
large = bytearray(LARGE_BYTES * 2)
del large
large = bytearray(LARGE_BYTES)
ctypes.CDLL(None).malloc_stats()
"""
HEAP_BYTES = 64 << 20
"""What glibc sets aside for the heap of a thread, on 64 bits, and at a multiple of that."""
HEAP = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *\n\2-([0-9a-f]+) ---p 00000000 00:00 0 *$", re.MULTILINE
)


def heaps(how: str) -> list[int]:
    """How large they are, in bytes, the main thread's first."""
    done = subprocess.run([sys.executable, "-c", THREADS, how], capture_output=True, text=True, timeout=60, check=True)
    return [int(size) for size in re.findall(r"^Arena \d+:\nsystem bytes *= *(\d+)", done.stderr, re.MULTILINE)]


def test_threads_share_a_heap_in_which_nothing_large_lies() -> None:
    first, *others = heaps("as it is")
    assert first > LARGE_BYTES
    assert others
    shared = heaps("shared")
    assert len(shared) == 1
    assert shared[0] < LARGE_BYTES


def test_a_daemon_has_one_heap(driver: Driver) -> None:
    driver.declare({"job": {"cmd": "sleep 600", "type": "continuous"}})
    pid = driver.start_daemon()
    driver.wait(lambda: driver.runs("job"))
    # The loop, the API and the probes are threads.
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = [(int(begin, 16), int(end, 16)) for begin, _, end in HEAP.findall(maps)]
    assert not [begin for begin, end in found if end - begin == HEAP_BYTES and begin % HEAP_BYTES == 0]
