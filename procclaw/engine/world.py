"""What a cycle asks of the machine: the seam between the engine and everything outside.

`system/processes` and `system/output` fulfil these on a real machine, `tests/world.py` in a simulated one; both pass
the same contract tests. A method does what it is told or reports what it sees; none of them decides.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from procclaw.model.spec import LogPolicy
from procclaw.model.state import Attempt, Launch, Launched, LaunchRefused, LaunchUndecided, Process, Sight, Slice


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

    def sight(self, record: str) -> Sight:
        """One look at a record, from any process, parent or not; never blocks."""

    def launch(self, launch: Launch) -> Launched | LaunchRefused | LaunchUndecided:
        """Start the attempt if and only if its record is blank and nobody holds it."""

    def start_ticks(self, pid: int) -> int | None:
        """The kernel's start time of a live process; None when it is gone or a zombie."""

    def members(self, attempts: Sequence[Attempt]) -> Mapping[str, tuple[Process, ...]]:
        """By attempt id, what is alive of each, its shim excepted: one look at the process table for all."""

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
