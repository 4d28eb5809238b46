"""The state: what is recorded of jobs, and one look at the world, together; all that a decision may know."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from procclaw.model.alerts import AlertKind, Trouble, Watch
from procclaw.model.intents import Intent
from procclaw.model.outside import FilesSeen, LockSight, Measure, ProbeResult, Process, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    Attempt,
    Cursor,
    DeadLetter,
    Health,
    Hold,
    Run,
    Slots,
    TriggerFile,
    Usage,
    WorkflowRun,
)


class WorkflowState(NamedTuple):
    """A workflow run that is not over, and the newest run of each step; None: it has none yet."""

    run: WorkflowRun
    steps: tuple[Run | None, ...]


class Observed(NamedTuple):
    """An attempt together with one look at it."""

    attempt: Attempt
    sight: Sight
    members: tuple[Process, ...] | None = None
    """What is alive of it beside its shim; None when nobody looked."""
    health: Health | None = None
    """As recorded; None: nothing has come of a check yet."""
    is_probing: bool = False
    """A check of it is under way."""
    probe: ProbeResult | None = None
    """What came of a check, since the cycle before."""
    usage: Usage | None = None
    """As recorded; None: nobody has measured yet."""
    measured: Measure | None = None
    """What it uses now; None when nobody looked."""


class ActiveRun(NamedTuple):
    run: Run
    live: Observed | None
    """Its attempt that is not over, if any."""


class JobState(NamedTuple):
    """Everything recorded and seen of one job that a decision about it may need."""

    id: str
    active: tuple[ActiveRun, ...] = ()
    """In the order they were queued."""
    newest_finished: Run | None = None
    newest_begun: Run | None = None
    """The newest that is over and had an attempt, where `newest_finished` had none."""
    older_than_finished: int = 0
    """How many of `active`, from the first, were made before `newest_finished`: where one of them ends now, that one
    stays the newest.
    """
    older_than_begun: int = 0
    """The same with the newest that is over and had an attempt."""
    holds: tuple[Hold, ...] = ()
    cursor: Cursor | None = None
    ran_after_cursor: frozenset[datetime] = frozenset()
    """Slots later than the cursor that were given a run already: the clock was set back."""
    straddling: Slots | None = None
    """The row of the ledger in whose midst the clock was set back: it tells of slots before now and after."""
    is_run_at_judged: bool = False
    """The ledger has the slot of a oneshot's `run_at`, so that one is not due again, however often it is declared."""
    intents: tuple[Intent, ...] = ()
    """Unresolved, in the order of asking."""
    recent: tuple[Run, ...] = ()
    """Runs that were asked for within the job's dedup window, newest first."""
    last_success_at: datetime | None = None
    troubles: tuple[Trouble, ...] = ()
    watch: Watch | None = None
    lock: LockSight | None = None
    """None: it has no lock, or nothing of it wants one now."""
    files: FilesSeen = FilesSeen(())
    triggered: tuple[TriggerFile, ...] = ()
    file_runs: Mapping[str, Run] = MappingProxyType({})
    """By id, the runs that those files got, as far as they are over."""
    dead_letters: tuple[DeadLetter, ...] = ()
    """Those that an open request names."""
    dead_runs: Mapping[str, Run] = MappingProxyType({})
    """By id, the runs that those stand for."""


class Lack(NamedTuple):
    """Something ProcClaw itself lacks, so nothing is started until `retry_at`."""

    reason: Reason
    detail: str
    retry_at: datetime


class State(NamedTuple):
    boot_id: str
    jobs: Mapping[str, JobState]
    home_holds: tuple[Hold, ...] = ()
    lack: Lack | None = None
    restored_until: datetime | None = None
    """The database is older than this last known commit: slots up to here count as missed, restored."""
    workflows: tuple[WorkflowState, ...] = ()
    """Those that are not over, in the order of asking, and those that an open request names."""
    last_told: Mapping[tuple[str, AlertKind], datetime] = MappingProxyType({})
    """By job and kind, when people were told of it last, as far as that still matters."""
