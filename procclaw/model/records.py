"""What is recorded of what happened: runs and their attempts, slots, holds, findings, dead letters, events, cycles.

A run's life, and the reason that moves it on:

    state       may become                                     because
    queued      running                                        every gate was open: its first attempt starts
                stopped, revoked, skipped, expired             asked to stop, revoked, superseded, waited too long
    running     retrying                                       an attempt failed and another is allowed
                succeeded, failed, stopped                     the last attempt ended well, ended badly, was stopped
    retrying    running                                        its `not_before_at` has come and the gates are open
                failed, stopped, revoked, skipped              held for good, asked to stop, revoked, superseded
    (the rest)  nothing                                        they are final

An attempt's life is told by its fields, in this order and never back: created (a row and a blank record), `pid` known,
`stop` asked, `stop.signalled_at`, `exited_at` (its main process is gone), `ended_at` (nothing of it is left). Only
`ended_at` makes it over: until then it holds its place among the job's instances.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from procclaw.model.reasons import Reason
from procclaw.model.spec import Leftovers, Priority, WorkflowSpec


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    REVOKED = "revoked"
    SKIPPED = "skipped"
    EXPIRED = "expired"


ACTIVE = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.RETRYING})


class Trigger(StrEnum):
    """What occasioned a run, as a job finds it in PROCCLAW_TRIGGER."""

    MANUAL = "manual"
    CONTINUOUS = "continuous"
    SCHEDULE = "schedule"
    CATCH_UP = "catch_up"
    ETA = "eta"
    """A person named the time."""
    DEPENDENCY = "dependency"
    """Another run waits for it."""
    WEBHOOK = "webhook"
    FILE = "file"
    WORKFLOW = "workflow"
    DEAD_LETTER = "dead_letter"
    """Put in again from the dead letter queue."""


DESPITE_DISABLED = frozenset(
    {
        Trigger.MANUAL,
        Trigger.CONTINUOUS,
        Trigger.ETA,
        Trigger.DEPENDENCY,
        Trigger.WORKFLOW,
        Trigger.DEAD_LETTER,
    }
)
"""What starts a disabled job all the same: a person, another job that needs it, a workflow."""


class HoldKind(StrEnum):
    STOP = "stop"
    PAUSE = "pause"
    REVOKE = "revoke"


HOME = "*"
"""The job id under which a hold covers the whole home."""


WORKFLOWS = "+workflows"
"""The job id under which requests about workflows stand."""


OUTBOX = "+outbox"
"""The job id under which the loop is woken to deliver alerts."""


NO_JOBS = frozenset({HOME, WORKFLOWS, OUTBOX})
"""Names that stand where a job's id does and are none."""


class Hold(NamedTuple):
    """A person's standing decision that a job (or the home) does not start."""

    job_id: str
    kind: HoldKind
    since: datetime
    by: str
    until: datetime | None = None
    """When it ends by itself; None: when somebody lifts it."""


class StopOrder(NamedTuple):
    """The decision that an attempt must end, taken once; `force` may be raised later."""

    reason: Reason
    asked_at: datetime
    force: bool = False
    signalled_at: datetime | None = None
    """None: the signal has not certainly been sent, so send it (twice is harmless, never is not)."""
    killed_at: datetime | None = None
    """Since when it is being killed; what survives is killed again, for as long as that takes."""
    last_killed_at: datetime | None = None

    def carried_on(self, at: datetime, *, is_kill: bool) -> "StopOrder":
        """The order once its signal has been sent, or once everything was killed (again)."""
        if not is_kill:
            return self._replace(signalled_at=at)
        return self._replace(killed_at=self.killed_at or at, last_killed_at=at)


class Terms(NamedTuple):
    """What an attempt was started under; a later edit of jobs.yaml does not change them for it."""

    signal: int
    grace_seconds: float
    leftovers: Leftovers
    success_exit_codes: tuple[int, ...]
    timeout_seconds: float | None
    process_hash: str
    queue: str | None = None
    """The queue in which it has a place."""


class Slice(NamedTuple):
    """An attempt's part of a log, in logical offsets (bytes since the log began, rotation included); end None: open."""

    file: str
    start: int
    end: int | None


def record_name(job_id: str, run_id: str, number: int, mark: str) -> str:
    """What the record of an attempt is called."""
    return f"{job_id}.{run_id}.{number}.{mark}"


class Attempt(NamedTuple):
    id: str
    """Run id and number; also the stem of its record's name."""
    run_id: str
    job_id: str
    number: int
    mark: str
    boot_id: str
    created_at: datetime
    terms: Terms
    instance: int = 0
    """Which of a job's concurrent places it holds; 0 writes `<job>.log`, n `<job>.n.log`."""
    pid: int | None = None
    start_ticks: int | None = None
    """The kernel's start time of `pid`: together with the boot they identify the shim."""
    job_pid: int | None = None
    """The pid people know the job by: of its main process, or of its shim where the system does not tell. None: its
    shim has not said yet, which takes a moment.
    """
    started_at: datetime | None = None
    blank_launches: int = 0
    refusal: Reason | None = None
    """Why its process could not be started at all, as it stands."""
    stop: StopOrder | None = None
    exited_at: datetime | None = None
    exit_code: int | None = None
    ended_at: datetime | None = None
    reason: Reason | None = None
    detail: str = ""
    cpu_seconds: float | None = None
    max_rss_mb: float | None = None
    result: str | None = None
    """The JSON it left in its result file; None: none, or nothing that is JSON."""
    stdout: Slice | None = None
    stderr: Slice | None = None

    @property
    def record(self) -> str:
        return record_name(self.job_id, self.run_id, self.number, self.mark)

    @property
    def signal(self) -> int | None:
        """The signal it died of, as far as a shell can tell: an exit code above 128 means that number less 128."""
        if self.exit_code is None or not 128 < self.exit_code <= 192:
            return None
        return self.exit_code - 128


HELD_BY = "held by "


class Run(NamedTuple):
    id: str
    job_id: str
    occasion: str
    """What it is for, unique: `slot:<µs>`, `intent:<id>@<µs>`, `continuous:<n>`, `dependency:<run>`,
    `file:<identity>:<path>`, `workflow:<run>:<step>:<try>`.
    """
    trigger: Trigger
    state: RunState
    queued_at: datetime
    not_before_at: datetime
    """It may not start (again) before this: a retry's delay or a slot's jitter."""
    scheduled_at: datetime | None = None
    """The slot it runs for."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: Reason | None = None
    detail: str = ""
    attempts: int = 0
    failures: int = 0
    """Failed attempts in a row, as the retry policy counts them."""
    restarts: int = 0
    """Automatic restarts, for people; never reset within a run."""
    ending: Reason | None = None
    """Set once it is decided that the run shall end: no further attempt starts."""
    ending_force: bool = False
    despite_disabled: bool = False
    """Asked for by a person while the job was disabled, so being disabled does not end it."""
    process_hash: str = ""
    """Continuous runs: what its process was started with, or failed with."""
    exit_code: int | None = None
    closed: tuple[tuple[str, datetime], ...] = ()
    """The gates it stands before, by name, each with since when; and `HELD_BY` with who has its lock."""
    priority: Priority = Priority.NORMAL
    params: tuple[tuple[str, str], ...] = ()
    boot_id: str = ""
    """The boot in which its newest attempt was started; empty: none was."""
    pulled: tuple[str, ...] = ()
    """Jobs that were started because it depends on them, each once."""
    request: int | None = None
    """The request whose payload it is given; None: none came with it."""
    trigger_file: str | None = None
    workflow_run: str | None = None
    step: int | None = None

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    def is_ahead(self, now: datetime) -> bool:
        """A person named its time and that has not come: until then it counts for nothing but itself."""
        has_not_begun = self.state is RunState.QUEUED and self.attempts == 0
        return self.trigger is Trigger.ETA and has_not_begun and self.not_before_at > now

    def waits_since(self, gate: str) -> datetime | None:
        return next((since for name, since in self.closed if name == gate), None)

    @property
    def lock_holder(self) -> str:
        """Who had its lock at the last look, in words; empty: it does not wait for one, or nobody knows."""
        return next((name[len(HELD_BY) :] for name, _ in self.closed if name.startswith(HELD_BY)), "")


class SlotOutcome(StrEnum):
    RAN = "ran"
    SKIPPED = "skipped"
    MISSED = "missed"


class Slots(NamedTuple):
    """One row of the ledger: what became of one due slot, or of several noticed together with one outcome."""

    job_id: str
    first_due_at: datetime
    last_due_at: datetime
    total: int
    """How many slots it stands for."""
    outcome: SlotOutcome
    reason: Reason | None
    run_id: str | None
    noticed_at: datetime


class Cursor(NamedTuple):
    """How far a job's schedule has been judged."""

    job_id: str
    schedule_key: str
    """Schedule, zone and run_at in one text; another one is another schedule, judged from its first sight. Empty: none.
    """
    judged_until: datetime
    """Every slot up to and including this moment is in the ledger; moves on only when slots are judged."""
    next_due_at: datetime | None
    """The first slot after `judged_until`; None when there is none."""


class Health(NamedTuple):
    """What the checks of one attempt have shown."""

    job_id: str
    attempt_id: str
    is_healthy: bool | None
    """None: no check has passed yet, and not enough of them have failed."""
    since: datetime
    """When `is_healthy` became what it is."""
    checked_at: datetime
    """When the newest check was taken into account."""
    failures: int = 0
    """Failed checks in a row that count."""
    counted_at: datetime | None = None
    """When the newest of them was taken into account."""
    detail: str = ""
    """What the newest check found."""


class Usage(NamedTuple):
    """What an attempt's processes used, taken together, when somebody last looked."""

    job_id: str
    attempt_id: str
    measured_at: datetime
    cpu_seconds: float
    """Since it began."""
    cpu_percent: float | None
    """Of one processor, since the look before; None: it was the first."""
    memory_mb: float
    over_since: datetime | None = None
    """When it was first seen to pass a limit; None: it keeps within them."""
    detail: str = ""
    """What it passes, in words; empty: nothing."""


class DeadLetter(NamedTuple):
    """A run that has failed for good, kept until somebody deals with it."""

    id: int
    """Ascending; 0 before the store has given one."""
    job_id: str
    run_id: str
    added_at: datetime
    reason: Reason
    detail: str
    exit_code: int | None
    attempts: int
    reinjected_run_id: str | None = None


class DeadLettersPurged(NamedTuple):
    """To be written: these entries are gone."""

    ids: tuple[int, ...]


class TriggerFile(NamedTuple):
    """A file that has triggered its job; kept as long as the file is there as it was."""

    job_id: str
    path: str
    identity: str
    """Inode, size and time of change: another value is another file."""
    run_id: str
    seen_at: datetime


class TriggerFileGone(NamedTuple):
    """To be written: the file is not there any more, or has become another."""

    job_id: str
    path: str


class WorkflowRun(NamedTuple):
    id: str
    name: str
    """Of the declared workflow; empty for one that was put together in the asking."""
    spec: WorkflowSpec
    """As it was when it was asked for: a later edit does not change it."""
    state: RunState
    """RUNNING, SUCCEEDED, FAILED or STOPPED."""
    queued_at: datetime
    by: str
    tries: tuple[int, ...]
    """By step, the number of its run that counts, from 1; 0: its turn has not come. Where no run bears that number the
    step is owed one.
    """
    finished_at: datetime | None = None
    reason: Reason | None = None
    detail: str = ""
    ending: Reason | None = None
    """Set once it is decided that no further step starts."""
    deadline_at: datetime | None = None
    request: int = 0

    @property
    def is_active(self) -> bool:
        return self.finished_at is None


class Event(NamedTuple):
    """One line of the audit trail; `fields` are the key=value pairs of the log line."""

    at: datetime
    kind: str
    job_id: str | None
    fields: tuple[tuple[str, str], ...]
    id: int = 0


class HoldLifted(NamedTuple):
    """To be written: the job is no longer held in this way."""

    job_id: str
    kind: HoldKind


class SlotsWithdrawn(NamedTuple):
    """To be written: the clock went back to `after`, so rows of later slots that got no run are no longer true."""

    job_id: str
    after: datetime


class JobForgotten(NamedTuple):
    """To be written: the job is no longer declared; its holds and its schedule go, its history stays."""

    job_id: str


class CycleRecord(NamedTuple):
    """What a cycle decided and what that followed from, kept for `replay`."""

    at: datetime
    spec_hash: str
    """Of the configuration that was in force."""
    runs: tuple[str, ...]
    """Ids of those it decided something about."""
    body: bytes
    id: int = 0
    """Ascending; 0 before the store has given one."""
