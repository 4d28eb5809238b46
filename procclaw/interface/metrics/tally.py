"""What the cycles of this daemon have told: counts of what has ended, how long it took, and what waits.

The loop's thread alone writes. What it hands to other threads is replaced and never changed, so that they see one
moment of it at the price of a few references.

A run's end counts when a plan decides it. On a full disk a plan may remain without effect and be made anew, again and
again; so what has been counted is remembered for as long as that may go on, and counted once.
"""

from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from procclaw.engine.controller import Cycle
from procclaw.model.clock import seconds_between
from procclaw.model.reasons import Reason
from procclaw.model.records import Run, RunState, SlotOutcome, Slots, SlotsWithdrawn
from procclaw.model.spec import Spec

RUN_BOUNDS = (0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0)
"""Seconds: from a quick check to a night's work. Each costs a series for every job whose runs end."""

CYCLE_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REMEMBERED_ENDS = 10_000
"""More runs than end while the disk is full, at a hundred and fifty bytes each."""


class Histogram(NamedTuple):
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """Within each bound and above the one before, and one more for what lies beyond."""
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> "Histogram":
        return cls(bounds, (0,) * (len(bounds) + 1))

    def with_one(self, value: float) -> "Histogram":
        at = bisect_left(self.bounds, value)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return self._replace(counts=counts, total=self.total + value)


class Judged(NamedTuple):
    """Up to where the slots of a job are counted, and the last row that was."""

    until: datetime
    first_due_at: datetime | None = None
    """None: the clock was set back, before its beginning."""
    total: int = 0


class JobTally(NamedTuple):
    ended: Mapping[RunState, int] = MappingProxyType({})
    lasted: Histogram | None = None
    """In seconds, the runs that had begun; None: none has ended."""
    succeeded_at: datetime | None = None
    """The latest end of a run that succeeded."""
    slots: Mapping[tuple[SlotOutcome, Reason | None], int] = MappingProxyType({})
    """Those that did not run."""
    judged: Judged | None = None

    def with_end(self, run: Run, at: datetime) -> "JobTally":
        lasted, succeeded_at = self.lasted, self.succeeded_at
        if run.started_at is not None:
            # The clock may have been set back meanwhile.
            seconds = max(0.0, seconds_between(run.started_at, at))
            lasted = (lasted or Histogram.empty(RUN_BOUNDS)).with_one(seconds)
        if run.state is RunState.SUCCEEDED:
            succeeded_at = max(at, succeeded_at or at)
        ended = {**self.ended, run.state: self.ended.get(run.state, 0) + 1}
        return self._replace(ended=ended, lasted=lasted, succeeded_at=succeeded_at)

    def with_slots(self, row: Slots) -> "JobTally":
        """Of slots as they are judged. Rows come in the order of time."""
        before, more = self.judged, row.total
        if before is not None and row.first_due_at == before.first_due_at:
            # Decided anew, and more of them have come due since.
            more = max(0, row.total - before.total)
        elif before is not None and row.first_due_at <= before.until:
            return self
        return self.with_more(row, more)._replace(judged=Judged(row.last_due_at, row.first_due_at, row.total))

    def with_more(self, row: Slots, count: int) -> "JobTally":
        kind = (row.outcome, row.reason)
        return self._replace(slots={**self.slots, kind: self.slots.get(kind, 0) + count})

    def with_clock_set_back(self, to: datetime) -> "JobTally":
        """What was due later comes due once more, and counts once more; a row that is cut short does not."""
        if self.judged is not None and self.judged.until <= to:
            return self
        first_due_at = None if self.judged is None else self.judged.first_due_at
        if self.judged is None or first_due_at is None or first_due_at > to:
            return self._replace(judged=Judged(to))
        return self._replace(judged=self.judged._replace(until=to))


class Noted(NamedTuple):
    """One moment of it."""

    spec: Spec | None = None
    """In force; None: there was no cycle yet, or none has found a good configuration."""
    jobs: Mapping[str, JobTally] = MappingProxyType({})
    """By job, as long as it is declared; of one that nothing has happened to there is none."""
    waits: Mapping[Reason, int] = MappingProxyType({})
    """What runs wait for, and how many of them; what none waits for any more is 0."""
    cycles: Histogram = Histogram.empty(CYCLE_BOUNDS)
    acted: int = 0
    """Of these cycles, how many did anything."""
    last_at: datetime | None = None


class Tally:
    def __init__(self) -> None:
        self._lock = Lock()
        self._noted = Noted()
        self._jobs: dict[str, JobTally] = {}
        self._waits: dict[str, list[Reason]] = {}
        """By job, what each of its waiting runs waits for."""
        self._counted: dict[str, None] = {}
        """Runs whose end is counted, and runs whose slot is, the newest last."""

    def noted(self) -> Noted:
        """Asked from other threads."""
        with self._lock:
            return self._noted._replace(jobs=self._jobs.copy())

    def take_note(self, cycle: Cycle, seconds: float) -> None:
        with self._lock:
            before = self._noted
            if cycle.spec is not None:
                self._take_in(cycle, cycle.spec)
            self._noted = Noted(
                spec=cycle.spec or before.spec,
                waits=self._waiting(before.waits),
                cycles=before.cycles.with_one(max(0.0, seconds)),
                acted=before.acted + cycle.has_acted,
                last_at=cycle.now,
            )

    def _take_in(self, cycle: Cycle, spec: Spec) -> None:
        if self._noted.spec is None or self._noted.spec.hash != spec.hash:
            self._jobs = {name: tally for name, tally in self._jobs.items() if name in spec.jobs}
            self._waits = {name: waits for name, waits in self._waits.items() if name in spec.jobs}
        for write in cycle.plan.writes:
            match write:
                case Run() if write.finished_at is not None and write.job_id in spec.jobs:
                    self._count_end(write, write.finished_at)
                case Slots() if write.outcome is not SlotOutcome.RAN and write.job_id in spec.jobs:
                    self._count_slots(write)
                case SlotsWithdrawn() if write.job_id in spec.jobs:
                    self._jobs[write.job_id] = self._of(write.job_id).with_clock_set_back(write.after)
                case _:
                    pass
        self._take_in_waits(cycle, spec)

    def _of(self, job_id: str) -> JobTally:
        return self._jobs.get(job_id) or JobTally()

    def _count_end(self, run: Run, at: datetime) -> None:
        if self._is_new(run.id):
            self._jobs[run.job_id] = self._of(run.job_id).with_end(run, at)

    def _count_slots(self, row: Slots) -> None:
        if row.run_id is None:
            self._jobs[row.job_id] = self._of(row.job_id).with_slots(row)
        elif self._is_new(f"slot of {row.run_id}"):
            # Judged long ago, and given a run that is over and never began.
            self._jobs[row.job_id] = self._of(row.job_id).with_more(row, row.total)

    def _is_new(self, name: str) -> bool:
        """Whether what bears that name is not counted yet; from now on it is."""
        if name in self._counted:
            return False
        self._counted[name] = None
        if len(self._counted) > REMEMBERED_ENDS:
            del self._counted[next(iter(self._counted))]
        return True

    def _take_in_waits(self, cycle: Cycle, spec: Spec) -> None:
        """What the jobs of this cycle wait for is what they waited for before, and no more."""
        if cycle.scope is None:
            self._waits = {}
        for name in cycle.scope or ():
            self._waits.pop(name, None)
        for wait in cycle.plan.waits:
            if wait.run_id is not None and wait.job_id in spec.jobs:
                self._waits.setdefault(wait.job_id, []).append(wait.reason)

    def _waiting(self, before: Mapping[Reason, int]) -> Mapping[Reason, int]:
        found = dict.fromkeys(before, 0)
        for reasons in self._waits.values():
            for reason in reasons:
                found[reason] = found.get(reason, 0) + 1
        return found
