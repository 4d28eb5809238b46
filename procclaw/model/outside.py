"""What the engine asks of the outside world, and what one look at it shows."""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from procclaw.model.reasons import Reason
from procclaw.model.secret import Text
from procclaw.model.spec import HealthCheck, LockProvider


class Probe(NamedTuple):
    """One health check to be made."""

    job_id: str
    attempt_id: str
    check: HealthCheck
    argv: tuple[str, ...] = ()
    """exec: what to run."""
    cwd: str = "/"
    env: tuple[tuple[str, Text], ...] = ()
    """exec: the job's environment."""
    user: str | None = None
    group: str | None = None


class Message(NamedTuple):
    """An alert, or a test, on its way to one channel of OpenClaw."""

    key: str
    """OpenClaw sends what comes under the same key once."""
    channel: str
    target: str | None
    """None: the channel's owner, as OpenClaw has it."""
    text: str

    @property
    def place(self) -> str:
        return self.channel if self.target is None else f"{self.channel} {self.target}"


class Sent(StrEnum):
    """What OpenClaw made of a message."""

    DELIVERED = "delivered"
    QUEUED = "queued"
    """Its gateway tries again by itself; under another key it would be told twice."""
    REFUSED = "refused"
    """It will not take it until somebody changes its configuration or ours."""
    FAILED = "failed"
    """It may take it later."""


class SendResult(NamedTuple):
    outcome: Sent
    detail: str = ""
    """Why it was not delivered, in words; or under which number it was."""


class Hooks(NamedTuple):
    """Where OpenClaw's gateway takes what is asked of its agent."""

    url: str
    token: Text


class Call(NamedTuple):
    """What OpenClaw's agent is told besides. Nobody is told by that."""

    text: str
    hooks: Hooks | None = None
    """Where it is asked to see to it; None: it is only woken."""
    trouble: str = ""
    """Why it cannot be asked at present; empty: it can."""


class MemoryPage(NamedTuple):
    """A file of OpenClaw's memory."""

    name: str
    text: str


class Notice(NamedTuple):
    """An alert on its way to people."""

    key: str
    webhook: Text | None
    command: tuple[str, ...] | None
    body: Mapping[str, Any]
    """The alert as JSON types; `message` is the line for a person."""
    env: tuple[tuple[str, Text], ...] = ()
    """What the commands find in their environment."""
    messages: tuple[Message, ...] = ()
    """For OpenClaw; the following fields matter where there are some."""
    call: Call | None = None
    """What OpenClaw's agent is told as well; None: nothing."""
    fallback_webhook: Text | None = None
    """Where it goes when OpenClaw did not take it."""
    fallback_command: tuple[str, ...] | None = None


class LockClaim(NamedTuple):
    """Somebody's wish for a lock."""

    lock: str
    """Names one lock among all that this home uses: provider, path and name."""
    name: str
    provider: LockProvider
    path: str | None
    """Absolute; None: inside the home."""
    job_id: str
    run_id: str
    priority: int
    """Smaller goes first."""
    since_us: int
    """When the run was asked for, in microseconds since the epoch."""


class FileSight(NamedTuple):
    """A file that matches a trigger, as one look showed it."""

    path: str
    identity: str
    is_settled: bool
    """It has stopped changing, and nobody has it open for writing."""
    delete_after: bool = False
    """A trigger whose file it is wants it deleted once its run has succeeded."""


class FilesSeen(NamedTuple):
    """One look at everything that may trigger a job."""

    files: tuple[FileSight, ...]
    problems: tuple[str, ...] = ()
    """Directories that could not be read, and why."""


LONGEST_HOLDER = 200
"""Bytes of the words about who has a lock; longer ones are cut."""
_HOLDER = re.compile(r"(?P<job>[\w-]+) \(run [^)]*\)(?:, home (?P<home>/.*))?")


class LockHolder(NamedTuple):
    """Whoever has a lock, as far as the words about it tell a job that can be stopped."""

    job_id: str
    home: str | None
    """None: the words do not say, so it is this one."""

    @classmethod
    def told_by(cls, words: str) -> "LockHolder | None":
        """None for words that name no job, or that may have been cut."""
        told = _HOLDER.fullmatch(words) if len(words.encode()) < LONGEST_HOLDER else None
        return None if told is None else cls(told["job"], told["home"])


def holder_words(job_id: str, run_id: str) -> str:
    """Who has a lock; where other homes can see it, ", home DIR" follows."""
    return f"{job_id} (run {run_id})"


class LockSight(NamedTuple):
    """One look at a job's lock."""

    is_free: bool
    """It is in our hand for this cycle: whoever is started gets it."""
    holder: str = ""
    """Who has it, in words; empty: free, or nobody knows."""


class RecordPhase(StrEnum):
    """What one look at an attempt's record showed."""

    BLANK = "blank"
    """Nobody holds it and nothing is written: never started."""
    LOCKED = "locked"
    """Its shim lives (or is just being started)."""
    EXITED = "exited"
    """The exit code is written; locked or not does not matter."""
    FAILED_CWD = "failed_cwd"
    """The shim could not change to the job's directory."""
    LOST = "lost"
    """Unlocked, a pid but no code: the shim was killed."""
    MISSING = "missing"
    """No such file, and no such process."""
    UNSEEN = "unseen"
    """Nobody has looked."""


class Sight(NamedTuple):
    """One look at a record."""

    phase: RecordPhase
    pid: int | None = None
    """The shim's."""
    job_pid: int | None = None
    """Of the job's main process, which the shim waits for; None: not known."""
    exit_code: int | None = None
    exited_at: datetime | None = None
    cpu_seconds: float | None = None
    is_draining: bool = False
    """The code is written but output is still being relayed."""


class Process(NamedTuple):
    """A process as the kernel knows it: the pid alone would identify nothing."""

    pid: int
    start_ticks: int
    command: str = ""


class ProbeResult(NamedTuple):
    """What came of one health check."""

    job_id: str
    attempt_id: str
    is_ok: bool
    detail: str
    """In words: what was found, good or bad; never a secret, never what a job's answer says beyond a status."""


class Measure(NamedTuple):
    """What the processes of an attempt use, taken together."""

    cpu_seconds: float
    """Since they began, children that have been waited for included."""
    memory_mb: float


class Delivery(NamedTuple):
    """What came of delivering an alert."""

    key: str
    is_ok: bool
    detail: str
    """Why not, or what was in the way besides."""
    is_final: bool = False
    """It did not go, and trying again does not help."""
    is_confirmed: bool = True
    """False: it went, as far as we know, and nobody says that it arrived."""
    is_by_openclaw: bool = False
    """It went, and a channel of OpenClaw took it: its gateway is there, whatever else was in the way."""


class Launch(NamedTuple):
    """All that is needed to start an attempt's process."""

    record: str
    argv: tuple[str, ...]
    cwd: str
    env: tuple[tuple[str, Text], ...]
    stdout: str
    stderr: str
    timestamps: bool
    user: str | None = None
    """Name or number of the account; None: ours."""
    group: str | None = None
    umask: int = 0o022
    nice: int | None = None
    """None: as we have it."""
    lock_fd: int | None = None
    """An open, locked descriptor that the shim and the job inherit; None: it needs no lock."""


class Launched(NamedTuple):
    pid: int
    start_ticks: int


class LaunchRefused(NamedTuple):
    """The attempt was not started."""

    reason: Reason
    detail: str
    is_ours: bool
    """ProcClaw lacks something (descriptors, processes, disk): try again later, the job is not to blame."""


class LaunchUndecided(NamedTuple):
    """Somebody else is starting it, or it has started already: look again next cycle."""
