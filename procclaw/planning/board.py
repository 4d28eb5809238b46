"""What the jobs of one plan see of each other: places that are taken, who waits, and the state of those depended upon.

Made from the states as the earlier steps of planning left them; a start takes its places on the board at once, so that
the next run, in the order of priority and age, finds them taken. `why` and `list` ask a board made from what is
recorded.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from procclaw.model.outside import LockSight, RecordPhase, holder_words
from procclaw.model.records import Attempt, Run, Trigger
from procclaw.model.spec import JobSpec, Lock, Spec
from procclaw.model.state import ActiveRun, JobState, Observed

LOCK = "lock"
"""The name under which a run remembers since when it waits for its lock."""

_MAY_RUN = (RecordPhase.LOCKED, RecordPhase.UNSEEN)
"""What else a look at a record shows, its process is gone, or died before it began and will be started once more. The
end may be recorded by a later cycle, because this one acts on other jobs.
"""


def order_of(run: Run) -> tuple[int, datetime]:
    """Who goes first: priority, then age. Runs made at one moment keep the order in which they were made."""
    return (run.priority.rank, run.queued_at)


def lock_key(lock: Lock) -> str:
    """Names a lock among all that this home uses; equal for jobs that share it."""
    return f"{lock.provider}:{lock.path or ''}:{lock.name}"


class Board:
    def __init__(self, spec: Spec, jobs: Mapping[str, JobState], boot_id: str, now: datetime, *, is_deciding: bool):
        """`is_deciding`: somebody has looked at the locks, so one that was not looked at is not known to be free."""
        self.spec = spec
        self.boot_id = boot_id
        self.now = now
        self.is_deciding = is_deciding
        self._jobs = jobs
        self._live: Counter[str] = Counter()
        self._in_queue: dict[str, list[Run]] = {}
        self._parallel: list[Run] = []
        self._lock_holders: dict[str, Run] = {}
        self._given: dict[str, Run] = {}
        self._begun: set[str] = set()
        self._waiting: dict[str, list[Run]] | None = None
        self._firsts: dict[str | None, dict[str, tuple[int, datetime]]] = {}
        for job in jobs.values():
            for active in job.active:
                if active.live is not None:
                    # The job may be gone from its queue meanwhile, or gone altogether.
                    self._take_places(active.run, active.live.attempt.terms.queue or self.queue_of(active.run))

    def job(self, job_id: str) -> JobState:
        job = self._jobs.get(job_id) or JobState(job_id)
        if all(hold.until is None or hold.until > self.now for hold in job.holds):
            return job
        # Over, and nobody has come by since to write it down.
        return job._replace(holds=tuple(hold for hold in job.holds if hold.until is None or hold.until > self.now))

    def spec_of(self, job_id: str) -> JobSpec | None:
        return self.spec.jobs.get(job_id)

    # --- places ---

    def begin(self, run: Run) -> None:
        """The run gets a process: it takes its places, and the lock that was free."""
        queue = self.queue_of(run)
        self._begun.add(run.id)
        if self._waiting is not None and queue is not None:
            self._waiting[queue] = [other for other in self._waiting.get(queue, ()) if other.id != run.id]
        self._take_places(run, queue)
        self.give_lock(run)

    def give_lock(self, run: Run) -> None:
        job = self.spec_of(run.job_id)
        if job is not None and job.lock is not None:
            self._given[lock_key(job.lock)] = run

    def _take_places(self, run: Run, queue: str | None) -> None:
        self._live[run.job_id] += 1
        job = self.spec_of(run.job_id)
        if run.trigger is not Trigger.CONTINUOUS:
            self._parallel.append(run)
            if queue is not None:
                self._in_queue.setdefault(queue, []).append(run)
        if job is not None and job.lock is not None:
            # After a restart of the machine two may have had it; who is named must not depend on who is looked at last.
            held = self._lock_holders.setdefault(lock_key(job.lock), run)
            self._lock_holders[lock_key(job.lock)] = min(held, run, key=lambda each: (each.queued_at, each.id))

    def live(self, job_id: str) -> int:
        """How many attempts of the job are not over."""
        return self._live[job_id]

    def in_queue(self, queue: str) -> list[Run]:
        """The runs that take up a place of the queue."""
        return self._in_queue.get(queue, [])

    @property
    def parallel(self) -> list[Run]:
        """The runs that end by themselves and have a process."""
        return self._parallel

    def waiting(self) -> list[Run]:
        """The runs that wait for their start, in the order in which they go; those for a time to come do not yet."""
        runs = (active.run for job in self._jobs.values() for active in job.active if active.live is None)
        return sorted((run for run in runs if not run.is_ahead(self.now)), key=order_of)

    def ahead(self, run: Run) -> list[Run]:
        """The runs of its queue that wait and go before it."""
        line = self._lines().get(self.queue_of(run) or "", [])
        return line[: bisect_left(line, order_of(run), key=order_of)]

    def jobs_before(self, run: Run, queue: str | None) -> Iterator[str]:
        """The jobs with a run that waits, in that queue or (None) for whatever it be, and goes before this one; those
        whose run has begun meanwhile among them.

        Asked for every run that waits, so what it takes must not grow with how many do.
        """
        if queue not in self._firsts:
            firsts = self._firsts[queue] = {}
            for other in self.waiting() if queue is None else self._lines().get(queue, ()):
                firsts.setdefault(other.job_id, order_of(other))
        order = order_of(run)
        return (job_id for job_id, first in self._firsts[queue].items() if first < order)

    def _lines(self) -> dict[str, list[Run]]:
        """By queue, the runs that wait, in their order; made when somebody asks, which costs as much as they are."""
        if self._waiting is None:
            self._waiting = {}
            for job in self._jobs.values():
                for active in job.active:
                    run, queue = active.run, self.queue_of(active.run)
                    may_begin = active.live is None and run.id not in self._begun and run.not_before_at <= self.now
                    if queue is not None and may_begin:
                        self._waiting.setdefault(queue, []).append(run)
            for line in self._waiting.values():
                line.sort(key=order_of)
        return self._waiting

    def queue_of(self, run: Run) -> str | None:
        """The queue that the run stands in; None: in none."""
        job = self.spec_of(run.job_id)
        return None if job is None or run.trigger is Trigger.CONTINUOUS else job.queue

    # --- locks ---

    def lock(self, spec: JobSpec) -> LockSight:
        """How the job's lock stands for the next run that asks."""
        assert spec.lock is not None
        key = lock_key(spec.lock)
        if key in self._given:
            return _held_by(self._given[key])
        seen = self.job(spec.id).lock
        holder = self._lock_holders.get(key)
        ours = None if holder is None else _held_by(holder)
        if ours is not None and (seen is None or _is_that(seen, ours)):
            return ours
        if seen is not None:
            return seen
        # Nobody looks while nothing is decided: then what the last look showed to who waits for it counts.
        waiting = [active.run for active in self.job(spec.id).active if active.live is None]
        denied = next((run for run in waiting if run.waits_since(LOCK)), None)
        if denied is not None:
            return LockSight(is_free=False, holder=denied.lock_holder)
        return LockSight(is_free=not self.is_deciding)

    # --- dependencies ---

    def is_up(self, job_id: str) -> Attempt | None:
        """The job's attempt whose process runs and is to go on; None when none does."""
        return next((live.attempt for live in map(up, self.job(job_id).active) if live is not None), None)

    def is_active(self, job_id: str) -> bool:
        """Whether a run of the job is under way or waits for its turn."""
        return any(not active.run.is_ahead(self.now) for active in self.job(job_id).active)


def _held_by(run: Run) -> LockSight:
    return LockSight(is_free=False, holder=holder_words(run.job_id, run.id))


def _is_that(seen: LockSight, ours: LockSight) -> bool:
    """Whether a look showed our own holder: of that one other homes are told more, and nobody may be named at all."""
    return not seen.is_free and (not seen.holder or seen.holder.startswith(ours.holder))


def up(active: ActiveRun) -> Observed | None:
    """Its attempt, if the process runs and is to go on."""
    live = active.live
    if live is None or active.run.ending is not None:  # the order to end it may be of this very plan
        return None
    attempt = live.attempt
    is_alive = attempt.pid is not None and attempt.exited_at is None and attempt.refusal is None
    return live if is_alive and attempt.stop is None and live.sight.phase in _MAY_RUN else None
