"""What a cycle asks of the machine: the seam between the engine and everything outside.

`system/processes` and `system/output` fulfil these on a real machine, `tests/world.py` in a simulated one; both pass
the same contract tests. A method does what it is told or reports what it sees; none of them decides.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from procclaw.model.outside import (
    Delivery,
    FilesSeen,
    Launch,
    Launched,
    LaunchRefused,
    LaunchUndecided,
    LockClaim,
    LockSight,
    Measure,
    MemoryPage,
    Notice,
    Probe,
    ProbeResult,
    Process,
    Sight,
)
from procclaw.model.records import Attempt, Slice
from procclaw.model.secret import Secret
from procclaw.model.spec import LogPolicy, TriggerSpec


class Processes(Protocol):
    def boot_id(self) -> str:
        """Names this boot of the machine; another value means every process of before is gone."""

    def create_record(self, record: str) -> None:
        """Make the blank record of an attempt, its disk space allocated. Raises DiskFull; an existing one is kept."""

    def remove_record(self, record: str) -> None:
        """Delete it; none there is fine."""

    def note_commit(self, at: datetime) -> None:
        """Leave the time of the reconciler's newest commit beside the records, where a restored database does not
        reach.
        """

    def noted_commit(self) -> datetime | None:
        """The time so noted; None when there is none or it cannot be read."""

    def records(self) -> tuple[str, ...]:
        """Names of all records, sorted."""

    def foreign_records(self) -> tuple[str, ...]:
        """Names of what lies among the records and is none, sorted."""

    def sight(self, record: str) -> Sight:
        """One look at a record, from any process, parent or not; never blocks."""

    def launch(self, launch: Launch) -> Launched | LaunchRefused | LaunchUndecided:
        """Start the attempt if and only if its record is blank and nobody holds it."""

    def start_ticks(self, pid: int) -> int | None:
        """The kernel's start time of a live process; None when it is gone or a zombie."""

    def shim_start_ticks(self, record: str, pid: int) -> int | None:
        """When the shim that holds a record was started; None: nobody holds it, or not the process of that pid."""

    def members(self, attempts: Sequence[Attempt]) -> Mapping[str, tuple[Process, ...]]:
        """By attempt id, what is alive of each, its shim excepted: one look at the process table for all."""

    def measure(self, attempts: Sequence[Attempt]) -> Mapping[str, Measure]:
        """By attempt id, what the processes of each use, taken together, its shim excepted: one look for all.

        An attempt of which nothing is alive is missing.
        """

    def signal_attempt(self, attempt: Attempt, members: Sequence[Process], signum: int) -> None:
        """Signal the attempt's process group and each member whose start time still matches.

        SIGKILL goes to each member and not to the shim, which still has to write the exit code.
        """

    def peak_rss_mb(self, pid: int) -> float | None:
        """Largest resident size of an own child that was reaped since; None when it was nobody's child here."""


class Output(Protocol):
    def position(self, file: str) -> int:
        """The logical offset of the end of a log; 0 when there is none."""

    def log_files(self, job_id: str, instance: int) -> tuple[str, str]:
        """Names under logs/ of the stdout and stderr log of a job's instance."""

    def rotate(self, file: str, policy: LogPolicy, *, is_in_use: bool) -> bool:
        """Rotate the log if it is due; False when there was nothing to do."""

    def close(self, opened: Slice) -> Slice:
        """The slice with its end filled in from the log as it stands."""

    def end_of(self, part: Slice, count: int) -> bytes:
        """The last `count` bytes of an attempt's part of a log, as far as they are still there."""


class Probes(Protocol):
    """Health checks, which go on while the loop does."""

    def begin(self, probe: Probe) -> None:
        """Begin a check; returns at once. A check of the same attempt that is still under way is dropped."""

    def under_way(self) -> frozenset[str]:
        """Ids of the attempts of which a check was begun and is not over."""

    def results(self) -> tuple[ProbeResult, ...]:
        """What has come of checks since the last question."""

    def wait(self, seconds: float) -> None:
        """Wait until no check is under way, at most so long."""

    def close(self) -> None:
        """End what is under way; nothing more comes of it."""


class Notifier(Protocol):
    """Telling people, which may take its time as well."""

    def begin(self, notice: Notice) -> None:
        """Begin a delivery; returns at once."""

    def results(self) -> tuple[Delivery, ...]:
        """What has come of deliveries since the last question."""

    def pending(self) -> int:
        """How many deliveries are under way."""

    def wait(self, seconds: float) -> None:
        """Until none is under way, at most that long."""

    def close(self) -> None:
        """End what is under way; what has come of it until then is among the last results."""


class Memory(Protocol):
    """OpenClaw's memory, which may take its time."""

    def write(self, pages: tuple[MemoryPage, ...], workspace: str | None, env: Mapping[str, str]) -> None:
        """Begin to write these; returns at once. `workspace` None: what OpenClaw says."""

    def trouble(self) -> str:
        """Why the last one was not written; empty when it was."""

    def is_busy(self) -> bool: ...

    def wait(self, seconds: float) -> None: ...


class Locks(Protocol):
    """Locks that jobs ask for; free exactly when the last process of their holder is gone."""

    def look(self, claims: Sequence[LockClaim]) -> Mapping[str, LockSight]:
        """Try to take each of these locks, for this cycle; by `LockClaim.lock`, what came of it.

        Claims of one lock are given in their order; it is taken for the first of them. One that cannot be tried is not
        free, and its holder says why. What an earlier look took is let go first. Worth calling without claims: other
        homes then learn what this one gave back. A waiting claim is to be repeated within 15 s, or it loses its place.
        """

    def hand_over(self, lock: str, holder: str) -> tuple[int, int]:
        """The descriptor and the fencing token of a lock taken by `look`, for who gets it (`holder`, in words).

        The descriptor stays ours to close; `let_go` does. Raises DiskFull or another ProcclawError when it cannot be
        written down; nobody may be started with the lock then.
        """

    def let_go(self) -> None:
        """Close what `look` has taken: what was handed over stays locked by whoever inherited it."""


class WorkFiles(Protocol):
    """The directory of files that an attempt and ProcClaw leave for each other."""

    def make(self, attempt_id: str, user: str | None, files: Mapping[str, bytes]) -> str:
        """Make an attempt's directory with these files in it and return its path; one that is there is used again.

        With `user` it belongs to that account, in a place which that can reach. Raises ProcclawError, DiskFull.
        """

    def result(self, attempt_id: str) -> tuple[str | None, str]:
        """The JSON text that the attempt left as its result, None when there is none; and what is wrong with it."""

    def remove(self, attempt_id: str) -> bool:
        """Delete the directory, none there is fine; whether it is gone. One that is huge takes several calls."""

    def attempts(self) -> tuple[str, ...]:
        """Ids of the attempts that have one."""


class Spool(Protocol):
    """Directories whose files trigger jobs."""

    def look(self, job_id: str, triggers: Sequence[TriggerSpec], known: Mapping[str, str] | None = None) -> FilesSeen:
        """One look at all files that match. A file is settled once it has not changed for a while and nobody writes.

        Of those that are not `known` (identity by path), the oldest 1,000; the known ones that are there, all.
        """

    def delete(self, path: str, identity: str) -> bool:
        """Delete a file if it is still the same; whether that one is gone."""


class Secrets(Protocol):
    def read(self, name: str) -> Secret:
        """Raises ProcclawError for one that is not set, and for one that cannot be had at present."""


class World(NamedTuple):
    """Everything outside that a cycle deals with."""

    processes: Processes
    output: Output
    probes: Probes
    locks: Locks
    work: WorkFiles
    spool: Spool
    notifier: Notifier
    memory: Memory
    secrets: Secrets
