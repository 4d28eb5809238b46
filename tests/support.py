"""What tests share: waiting for a condition, and ending every process that a test started.

A process belongs to a test if it was handed in, if its environment names a home the test uses, or if it descends from
such a process or shares its session. Nothing is signalled by name, and a pid only while its start time is the one seen,
so a reused pid is never hit.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

PROC = Path("/proc")
POLL_SECONDS = 0.01
STAY = "import signal; signal.alarm(600); signal.pause()"
"""A Python program's last line: it waits for the signal that ends it, ten minutes should nobody be left to send one."""
EXEC_LOOKS = 1000
"""A process that becomes another program has no environment for some microseconds, on a busy machine for longer."""


def wait_until(condition: Callable[[], T], within: float, show: Callable[[], object]) -> T:
    """The first true value of `condition`, asked for `within` seconds at most; then it fails with what `show` says."""
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        if time.monotonic() >= deadline:
            name = getattr(condition, "__name__", repr(condition))
            raise AssertionError(f"{name} did not hold within {within:g} s; the state is:\n{show()}")
        time.sleep(POLL_SECONDS)


class Seen(NamedTuple):
    """One process as /proc showed it."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    is_dead: bool
    """A zombie: gone, but nobody has asked for its exit code."""


class Reaper:
    """Ends what a test started, whatever became of the test."""

    def __init__(self) -> None:
        self._handed_in: set[tuple[int, int]] = set()
        self._children: list[subprocess.Popen[Any]] = []
        self._homes: set[bytes] = set()

    def spawn(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """`subprocess.Popen`, with the process and all that comes of it ended after the test."""
        child = subprocess.Popen(argv, **options)
        self._children.append(child)
        self.adopt(child.pid)
        return child

    def adopt(self, pid: int) -> None:
        """Take over a process started some other way; one that is gone already is fine."""
        if seen := look_at(pid):
            self._handed_in.add((pid, seen.start_ticks))

    def watch_home(self, home: str | Path) -> None:
        """Take over every process whose environment has this home."""
        self._homes.add(f"PROCCLAW_HOME={home}".encode())

    def members(self) -> tuple[Seen, ...]:
        """Everything alive that belongs to the test."""
        table = {seen.pid: seen for seen in look_at_all()}
        own = {seen.pid for seen in table.values() if self._is_ours(seen)}
        # A dead leader's pid still names its session, and is given to nobody else while that session has members.
        sessions = {pid for pid, ticks in self._handed_in if pid not in table or table[pid].start_ticks == ticks}
        while True:
            more = {seen.pid for seen in table.values() if seen.parent in own or seen.session in sessions | own}
            if more <= own:
                break
            own |= more
        kept = own - ancestors(table, os.getpid())
        return tuple(table[pid] for pid in sorted(kept) if not table[pid].is_dead)

    def end(self, within: float = 10.0) -> None:
        """Kill until nothing is left; again and again, because what is being killed may be starting something."""

        def is_quiet() -> bool:
            left = self.members()
            for seen in left:
                kill(seen)
            return not left

        for child in self._children:
            child.kill()
        wait_until(is_quiet, within, self.members)
        for child in self._children:
            child.wait(timeout=within)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    stream.close()

    def _is_ours(self, seen: Seen) -> bool:
        return (seen.pid, seen.start_ticks) in self._handed_in or bool(self._homes & environment(seen.pid))


def look_at(pid: int) -> Seen | None:
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Seen(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in "ZX")


def look_at_all() -> Iterable[Seen]:
    return [seen for path in PROC.glob("[1-9]*") if (seen := look_at(int(path.name)))]


def environment(pid: int) -> set[bytes]:
    """The environment a process was started with; empty when it is gone or somebody else's."""
    try:
        for _ in range(EXEC_LOOKS):
            text = (PROC / str(pid) / "environ").read_bytes()
            if text or not may_have_more(pid):
                return set(text.split(b"\0"))
            time.sleep(0.001)
    except OSError:
        pass
    return set()


def may_have_more(pid: int) -> bool:
    """Whether a process without an environment is but becoming another program, or has become it since."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    has_memory, end_of_code, environment_size = fields[20] != "0", fields[24], int(fields[48]) - int(fields[47])
    return has_memory and (end_of_code == "0" or environment_size > 0)


def ancestors(table: dict[int, Seen], pid: int) -> set[int]:
    """The process itself and those above it."""
    chain = set()
    while pid in table and pid not in chain:
        chain.add(pid)
        pid = table[pid].parent
    return chain


def kill(seen: Seen) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(seen.pid)
        try:
            # Looked at again behind the handle: from here on the pid cannot be given to somebody else.
            if (now := look_at(seen.pid)) and now.start_ticks == seen.start_ticks:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
