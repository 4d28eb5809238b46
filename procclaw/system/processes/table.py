"""The process table: who lives, who descends from whom, and which attempt's mark a process carries.

Linux is read from /proc with bare open/read/close, because a scan touches every process of the machine. Everywhere else
`ps` is asked, which costs a process per look; that half was never tried on macOS, only its parser on Linux's `ps`.
A start time is the kernel's own number (clock ticks since boot; seconds where `ps` is asked): it is only ever compared
for equality and order, never turned into a moment.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

MARK = "PROCCLAW_ATTEMPT_MARK"
"""The environment variable that tells to which attempt a process belongs."""

HOME = "PROCCLAW_HOME"
"""And the one that tells it the home."""

_ROUNDS = 5
"""Listings per scan. The second finds what was forked during the first; past the fifth only strangers keep forking."""
_MOST_ROUNDS = 30
"""As long as something has gone before its turn: what lives for ten milliseconds only, child after child, hides from
many listings in a row on a busy machine."""

_NO_INODE = 1
"""Of a directory that the kernel had no memory to look into."""

_CHUNK = 65536
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20

_EXEC_SECONDS = 1.0
"""How long one scan waits, all in all, for processes that are becoming other programs: microseconds for each, more on
a busy machine. One that is stuck in it (the disk its program is on is gone, say) may not hold up everybody else, and
reads as one without a mark."""
_POLL_SECONDS = 0.0005


def boot_id() -> str:
    """Names this boot, and in it the life of this container: another first process means that all others are gone."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as named:
            boot = named.read().strip()
    except FileNotFoundError:
        return _output_of(["sysctl", "-n", "kern.bootsessionuuid"]).strip()
    first = ProcTable().row(1)
    return boot if first is None else f"{boot}.{first.start_ticks}"


class Row(NamedTuple):
    """One process as one look showed it."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int
    is_dead: bool
    """A zombie: it runs nothing and only waits to be reaped."""
    is_leaderless: bool
    """Its first thread has ended: it is dead, or only its other threads run on."""
    is_stopped: bool
    command: str
    cpu_seconds: float
    """Its own and, where the system tells, of children it has waited for."""
    memory_mb: float
    """Resident; 0 of a zombie."""


class Table(Protocol):
    def row(self, pid: int) -> Row | None:
        """One process; None when there is none."""

    def rows(self, since: int, besides: Collection[int], without_sessions: Collection[int]) -> dict[int, Row]:
        """Every process started at `since` or later, those of these sessions left out; `besides` in any case."""

    def mark(self, row: Row) -> str | None:
        """The attempt mark in a process's environment; None when there is none or it may not be read.

        A process of the last scan that is just becoming another program is waited for: meanwhile it has none to show.
        """


def has_proc() -> bool:
    return os.path.exists("/proc/self/stat")


def started_within(folder: str) -> list[Row]:
    """Whatever lives and was started with that folder, or one in it, as its home; nothing where there is no /proc."""
    exactly, below = (f"\0{HOME}={folder}{end}".encode() for end in ("\0", "/"))
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc") if has_proc() else ())):
        # Before its environment: should another process get the number in between, this is not that one.
        row = ProcTable().row(pid)
        try:
            with open(f"/proc/{pid}/environ", "rb") as listing:
                environment = b"\0" + listing.read()
        except OSError:
            continue
        if (exactly in environment or below in environment) and row is not None and not row.is_dead:
            found.append(row)
    return found


def process_table() -> Table:
    return ProcTable() if has_proc() else PsTable()


class ProcTable:
    """Linux."""

    def __init__(self) -> None:
        self._waits_left = 0
        """In this scan, for processes that are becoming other programs."""
        self._starts: dict[str, tuple[int, int]] = {}
        """By the name of its directory, the inode of that, which no other process's has, and when it was started."""
        # A container may have another file in its place, which does not keep up.
        self._is_own_loadavg = _has_own_loadavg()

    def row(self, pid: int) -> Row | None:
        try:
            return _parse_stat(pid, _read(f"/proc/{pid}/stat"))
        except (OSError, ValueError):
            return None

    def rows(self, since: int, besides: Collection[int], without_sessions: Collection[int]) -> dict[int, Row]:
        self._waits_left = int(_EXEC_SECONDS / _POLL_SECONDS)
        found: dict[int, Row] = {}
        seen: set[str] = set()
        # A process that forks and exits between the listing and its turn would hide its child as well as itself, and
        # daemons do exactly that. So list again until nothing new turns up, or could have.
        for listing in range(_MOST_ROUNDS):
            newest = self._newest_pid()
            listed = _listed()
            fresh = [each for each in listed if each[0] not in seen]
            if not fresh:
                break
            if not listing:
                self._forget_all_but(listed)
            seen.update(name for name, _ in fresh)
            has_missed = False
            # Mostly the youngest come last, and are gone first.
            for name, inode in reversed(fresh):
                pid = int(name)
                if pid not in besides and self._is_older(name, inode, since):
                    continue
                try:
                    # One system call against the three, and slow ones, of reading the process's own file.
                    if without_sessions and os.getsid(pid) in without_sessions and pid not in besides:
                        continue
                    row = _parse_stat(pid, _read(f"/proc/{name}/stat"))
                except OSError:
                    has_missed = True
                    continue
                self._starts[name] = (inode, row.start_ticks)
                if row.start_ticks >= since or pid in besides:
                    found[pid] = row
                    # It may have forked in the moment of the listing, and ended since.
                    has_missed |= row.is_dead and not listing
            is_settled = newest is not None and newest == self._newest_pid()
            if not has_missed and (is_settled or listing + 1 >= _ROUNDS):
                break
        return found

    def _is_older(self, name: str, inode: int, since: int) -> bool:
        """Whether a look has found that very process to have been started before."""
        known = self._starts.get(name)
        return known is not None and known[0] == inode > _NO_INODE and known[1] < since

    def _forget_all_but(self, listed: list[tuple[str, int]]) -> None:
        if len(self._starts) > 2 * len(listed):
            names = {name for name, _ in listed}
            self._starts = {name: known for name, known in self._starts.items() if name in names}

    def _newest_pid(self) -> bytes | None:
        """The pid that was given last: as long as it stays the same, no process is begun. None: that is not told.

        Only one that is put in a place of its own choice (CRIU does that, with a right of its own) does not change it.
        """
        try:
            last = _read("/proc/loadavg").split()[-1] if self._is_own_loadavg else b"0"
        except (OSError, IndexError):
            return None
        return None if last == b"0" else last

    def mark(self, row: Row) -> str | None:
        try:
            environment = _environment(row.pid)
            # Taken for one without a mark, a process would be missed by its stop or hit by another's.
            while _mark_in(environment) is None and self._waits_left and _is_cut_short(row.pid, environment):
                self._waits_left -= 1
                time.sleep(_POLL_SECONDS)
                environment = _environment(row.pid)
            return _mark_in(environment)
        except (OSError, ValueError, IndexError):
            return None


def _listed() -> list[tuple[str, int]]:
    """The directories of all processes, with their inodes."""
    with os.scandir("/proc") as entries:
        return [(entry.name, entry.inode()) for entry in entries if entry.name.isdigit()]


def _has_own_loadavg() -> bool:
    try:
        return os.stat("/proc/loadavg").st_dev == os.stat("/proc").st_dev
    except OSError:
        return False


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1024)
    finally:
        os.close(fd)


def _parse_stat(pid: int, stat: bytes) -> Row:
    # The command stands in parentheses and may itself hold spaces and parentheses: what counts is the last one.
    end = stat.rindex(b")")
    fields = stat[end + 2 :].split(b" ", 22)
    state = fields[0]
    return Row(
        pid,
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        # A process whose first thread has ended looks like a zombie while its other threads run on.
        state in b"ZXx" and int(fields[17]) < 2,
        state in b"ZXx",
        state in b"Tt",
        os.fsdecode(stat[stat.index(b"(") + 1 : end]),
        sum(map(int, fields[11:15])) / _TICKS_PER_SECOND,
        int(fields[21]) * _PAGE_MB,
    )


def command_line(pid: int) -> tuple[str, ...]:
    """Empty where there is no such process, or no /proc."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return ()
    return tuple(map(os.fsdecode, words[:-1]))


_MARK_START = b"\0" + MARK.encode() + b"="


def _environment(pid: int) -> bytes:
    """Each variable with a zero byte before and after it; nothing is read beyond the mark."""
    fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b"\0"
        while _mark_in(text) is None and (chunk := os.read(fd, _CHUNK)):
            text += chunk
        return text
    finally:
        os.close(fd)


def _mark_in(environment: bytes) -> str | None:
    start = environment.find(_MARK_START)
    end = environment.find(b"\0", start + 1)
    return os.fsdecode(environment[start + len(_MARK_START) : end]) if start >= 0 and end >= 0 else None


def _is_cut_short(pid: int, environment: bytes) -> bool:
    """Whether the process has more of an environment than was read, or has none yet.

    For a moment in `exec` it has memory of its new program with neither environment nor code in it; and reading what
    `exec` has done away with since it was opened gives no more. Either ends the reading where a chunk ends, which is
    why nothing else is looked into.
    """
    size = len(environment) - 1
    if size % _CHUNK:
        return False
    stat = _read(f"/proc/{pid}/stat")
    fields = stat[stat.rindex(b")") + 2 :].split(b" ")
    # Kernel threads and the dead have no memory; the code's end is filled in when the environment's is.
    has_memory, has_code = fields[20] != b"0", fields[24] != b"0"
    return has_memory and (not has_code or int(fields[48]) - int(fields[47]) > size)


class PsTable:
    """Where there is no /proc. `run` takes an argv and gives what it printed."""

    def __init__(self, run: Callable[[list[str]], str] | None = None) -> None:
        self._run = run or _output_of
        self._marks: dict[int, str] = {}

    def row(self, pid: int) -> Row | None:
        return self._look(["-p", str(pid)]).get(pid)

    def rows(self, since: int, besides: Collection[int], without_sessions: Collection[int]) -> dict[int, Row]:
        return {
            pid: row
            for pid, row in self._look(["-A"]).items()
            if pid in besides or (row.start_ticks >= since and row.session not in without_sessions)
        }

    def mark(self, row: Row) -> str | None:
        return self._marks.get(row.pid)

    def _look(self, which: list[str]) -> dict[int, Row]:
        # -E (macOS) appends the environment to the command, of own processes only; -ww keeps it from being cut.
        columns = ["-o", "pid=,ppid=,pgid=,rss=,time=,stat=,lstart=,command="]
        show_environment = ["-E", "-ww"] if sys.platform == "darwin" else ["-ww"]
        found = {}
        for line in self._run(["ps", *show_environment, *which, *columns]).splitlines():
            parsed = _parse_ps(line)
            if parsed is not None:
                row, mark = parsed
                found[row.pid] = row
                if mark is not None:
                    self._marks[row.pid] = mark
                else:
                    self._marks.pop(row.pid, None)
        return found


_PS_LINE = re.compile(
    r"\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(?:(\d+)-)?([\d:.]+)\s+(\S+)"
    r"\s+\w+ (\w+)\s+(\d+) (\d+):(\d+):(\d+) (\d+)\s*(.*)"
)
_PS_MARK = re.compile(rf"(?:^| ){MARK}=(\S+)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _parse_ps(line: str) -> tuple[Row, str | None] | None:
    match = _PS_LINE.fullmatch(line)
    if match is None or match[8] not in _MONTHS:
        return None
    pid, parent, group, rss_kib = (int(match[at]) for at in (1, 2, 3, 4))
    day, hour, minute, second, year = (int(match[at]) for at in (9, 10, 11, 12, 13))
    state, command = match[7], match[14]
    try:
        # ps on macOS prints no usable session id.
        session = os.getsid(pid)
    except OSError:
        session = 0
    month = _MONTHS.index(match[8])
    row = Row(
        pid=pid,
        parent=parent,
        group=group,
        session=session,
        # Only its order and equality count, so months may all have 31 days.
        start_ticks=((((year * 12 + month) * 31 + day) * 24 + hour) * 60 + minute) * 60 + second,
        is_dead=state[0] in "ZX",
        is_leaderless=state[0] in "ZX",
        is_stopped=state[0] in "Tt",
        command=command.split(" ", 1)[0].rsplit("/", 1)[-1],
        cpu_seconds=_seconds(int(match[5] or 0), match[6]),
        memory_mb=rss_kib / 1024,
    )
    mark = _PS_MARK.search(command)
    return row, mark[1] if mark else None


def _seconds(days: int, time: str) -> float:
    """Of Linux's [days-]hours:minutes:seconds, and of macOS's minutes:seconds.hundredths."""
    total = 0.0
    for part in time.split(":"):
        total = total * 60 + float(part)
    return total + days * 86400


def _output_of(argv: list[str]) -> str:
    import subprocess

    # UTC and the C locale: a start time must read the same in summer, in winter and in every language.
    environment = {"PATH": "/bin:/usr/bin:/sbin:/usr/sbin", "LC_ALL": "C", "TZ": "UTC"}
    return subprocess.run(argv, env=environment, capture_output=True, check=False).stdout.decode(errors="replace")
