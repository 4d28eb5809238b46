"""One cycle: observe, plan, act. The daemon, a single `reconcile`, a request without a daemon and the simulator all run
this.

Only the holder of the home's lock runs cycles. What is decided follows from what is recorded and seen, and from nothing
that this object remembers: another one, after a crash, decides the same. One job's trouble never ends the cycle for the
others.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from procclaw.engine.acting import CONFIRM_SECONDS, RETRY_LACK_SECONDS, Acted, Actor
from procclaw.engine.configuration import Configuration
from procclaw.engine.courier import Courier, Log
from procclaw.engine.diary import Diary
from procclaw.engine.observing import EVERYTHING, Observer
from procclaw.engine.world import World
from procclaw.model.alerts import Alert
from procclaw.model.clock import after
from procclaw.model.errors import DiskFull
from procclaw.model.outside import RecordPhase
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, OUTBOX, Attempt, Event, Trigger
from procclaw.model.rows import Row
from procclaw.model.shape import quoted
from procclaw.model.spec import HistoryPolicy, Spec
from procclaw.model.state import Lack, State
from procclaw.planning import journal
from procclaw.planning.actions import Plan
from procclaw.planning.neighbourhood import has_left_its_place
from procclaw.planning.plan import merged, plan, plan_home, plans
from procclaw.planning.recording import Because, Cause, Recorded, is_worth_it, record_of, slimmed
from procclaw.system.store import Store

PURGE_AT_ONCE = 1000
"""Rows of each kind in one transaction, for which whoever else wants to write waits a fraction of a second."""
PURGES_AT_MOST = 20
"""At one upkeep, a minute after the one before: more rows of a kind go than a hundred starts in a second make."""
KEPT_ATTEMPTS = 100


class Clock(Protocol):
    def now(self) -> datetime: ...


class LiveShim(NamedTuple):
    job_id: str
    pid: int
    start_ticks: int


class Cycle(NamedTuple):
    """What one cycle did and what it is waiting for."""

    now: datetime
    scope: frozenset[str] | None
    """The jobs it acted on; None: all."""
    plan: Plan
    wake_at: datetime | None
    spec: Spec | None
    """None: no good configuration has ever been seen, so nothing was decided."""
    wakes: dict[str, datetime]
    """By job of this cycle, the next moment worth looking at it; a job without one is missing."""
    live: tuple[LiveShim, ...]
    """Every shim that lives, among the jobs of this cycle."""
    has_acted: bool


class Controller:
    def __init__(
        self,
        home: str,
        store: Store,
        world: World,
        configuration: Configuration,
        clock: Clock,
        log: Log,
        mint: Callable[[], str],
    ) -> None:
        """`mint` gives a fresh mark for an attempt: 32 hexadecimal digits that nobody can guess."""
        self._store = store
        self._world = world
        self._processes = world.processes
        self._observer = Observer(store, world)
        self._actor = Actor(home, store, world, log, mint)
        self._courier = Courier(home, store, world.notifier, world.secrets, log)
        self._diary = Diary(store, world.memory, world.secrets, log)
        self._configuration = configuration
        self._clock = clock
        self._log = log
        self._unwatched: dict[str, tuple[str, ...]] = {}
        """By job, what is wrong with the directories it watches, so that it is said once."""
        self._unrecorded: set[type[Exception]] = set()
        """What kept a cycle from being recorded, each told once."""
        self._left_alone: set[str] = set()
        """What lies among the records and does not belong there, so that it is said once."""

    # --- one cycle ---

    def news(self) -> frozenset[str]:
        """Jobs about which something has come in, such as what a check found, that no cycle has taken into account."""
        jobs = self._observer.news()
        return jobs | {OUTBOX} if self._courier.has_news() else jobs

    def wait_for_news(self, seconds: float) -> bool:
        """Wait for the checks under way, at most so long; whether anything has come in."""
        self._world.probes.wait(seconds)
        return bool(self.news())

    def close(self, *, holds_lock: bool = False) -> None:
        """End what goes on beside the cycles. Nothing of it is lost that the next controller does not begin anew.

        `holds_lock`: what came of alerts in this moment may be written down.
        """
        self._world.probes.close()
        self._courier.close(self._clock.now() if holds_lock else None)
        self._diary.close(self._clock.now())

    def cycle(
        self,
        jobs: frozenset[str] | None = None,
        *,
        judges_slots: bool = True,
        because: tuple[Because, ...] = (Because(Cause.PASS),),
    ) -> Cycle:
        """Observe, plan and act once, for these jobs (None: all) and those that a change of theirs concerns.

        `judges_slots` False: on behalf of a request, which acts on these jobs and what they need, and on nothing else.
        For OUTBOX alone nothing is planned: alerts are delivered, as they are at the end of every cycle. `because` is
        for the record, and decides nothing.
        """
        now = self._clock.now()
        in_force = self._configuration.current(now)
        for event in self._configuration.news():
            self._tell(event)
        if in_force is None:
            self._answer_home(now)
            return Cycle(now, jobs, Plan(), None, None, {}, (), has_acted=False)
        if in_force.is_new:
            self._tell(Event(now, "configuration loaded", None, (("jobs", str(len(in_force.spec.jobs))),)))
        spec = in_force.spec
        if jobs == frozenset({OUTBOX}):
            return self._deliver(spec, now)
        lost_until = self._observer.lost_until(now)
        if lost_until is not None:
            with contextlib.suppress(DiskFull):
                # Kept for jobs whose declaration was lost as well. If we die here, it is found out once more.
                self._store.set_restored_until(lost_until)
        restored_until = lost_until or self._store.restored_until()
        if lost_until is not None:
            # What runs unknown to a restored database is found before anything starts.
            jobs, judges_slots = None, True
        elif jobs is not None and self._store.has_intents(HOME):
            jobs = None  # what concerns the home concerns every job
        if jobs is None:
            self._take_in_strays(spec, now)
        workflows = self._observer.workflows()
        about = None if jobs is None else jobs - {OUTBOX}
        scope = self._observer.scope(spec, about, workflows, all_around=judges_slots)
        try:
            state, seen = self._observer.look(spec, scope, workflows, self._lacking(), restored_until, now)
            by_job = plans(spec, state, now, judges_slots=judges_slots, acts_on=scope.acts, asked=scope.asked)
            decided = merged(by_job.values())
            self._tell_of_directories(state, by_job)
            recorded = Recorded(now, spec.hash, because, scope.acts, scope.asked, judges_slots, state, decided)
            seen += self._kept(recorded, spec, by_job)
            acted = self._actor.carry_out(spec, state, decided, seen, now)
        finally:
            # If we die before this, the kernel does it.
            self._world.locks.let_go()
        acted.look_again += [(job_id, CONFIRM_SECONDS) for job_id in _nameless(state)]
        has_alerts = any(isinstance(write, Alert) for write in decided.writes)
        outbox_at = self._tell_outside(spec, now, must_look=has_alerts or scope.acts is None)
        if any(isinstance(write, Attempt) and _frees_a_foreign_place(spec, state, write) for write in decided.writes):
            acted.must_look_again = True
        wakes = self._wakes(by_job, acted, in_force.settles_at, outbox_at, now)
        acts = scope.acts if scope.asked is None else frozenset(by_job) | scope.asked
        live = self._live(state, acts, acted.launched)
        wake_at = min(wakes.values(), default=None)
        acts = None if acts is None else acts | {OUTBOX}
        return Cycle(now, acts, decided, wake_at, spec, wakes, live, has_acted=not decided.is_idle)

    def _kept(self, recorded: Recorded, spec: Spec, by_job: Mapping[str, Plan]) -> list[Row]:
        """What is kept of this cycle, to be written together with what it decided."""
        lack = recorded.state.lack
        if lack is not None and lack.reason is Reason.NO_DISK:
            return []  # what room there is belongs to what has to be written
        if not is_worth_it(recorded.decided):
            return []
        try:
            record = record_of(slimmed(recorded, spec, by_job))
        except Exception as error:  # noqa: BLE001 (a bug of ours in what is for looking back keeps no job from acting)
            if type(error) not in self._unrecorded:
                self._unrecorded.add(type(error))
                self._log.line("error", "cycle not recorded", error=type(error).__name__, detail=error)
            return []
        return [] if record is None else [record]

    def _tell_of_directories(self, state: State, jobs: Iterable[str]) -> None:
        for job in (state.jobs[name] for name in jobs if name in state.jobs):
            problems = job.files.problems
            if problems != self._unwatched.get(job.id, ()):
                for problem in problems:
                    self._log.line("warning", "directory not watched", job=job.id, detail=problem)
                self._unwatched[job.id] = problems

    def _deliver(self, spec: Spec, now: datetime) -> Cycle:
        outbox_at = self._tell_outside(spec, now, must_look=False)
        wakes = {} if outbox_at is None else {OUTBOX: outbox_at}
        return Cycle(now, frozenset({OUTBOX}), Plan(), outbox_at, spec, wakes, (), has_acted=False)

    def _tell_outside(self, spec: Spec, now: datetime, *, must_look: bool) -> datetime | None:
        """Deliver alerts and keep OpenClaw's memory; when to do so again, None: there is nothing left."""
        moments = (self._courier.deliver(spec, now, must_look=must_look), self._diary.keep(spec, now))
        return min((moment for moment in moments if moment is not None), default=None)

    def is_telling(self) -> bool:
        """Whether alerts are being delivered, or have been and no cycle has written it down yet."""
        return self._courier.is_busy() or self._diary.is_busy()

    def wait_for_deliveries(self, seconds: float) -> None:
        """Until no alert is being delivered, nor OpenClaw's memory written, at most that long."""
        self._courier.wait(seconds)
        self._diary.wait(seconds)

    def _lacking(self) -> Lack | None:
        return self._actor.lack or self._store.lack()

    def _take_in_strays(self, spec: Spec, now: datetime) -> None:
        left_alone = set(self._processes.foreign_records())
        try:
            self._take_in(spec, now, left_alone)
        finally:
            for name in sorted(left_alone - self._left_alone):
                self._log.line("warning", "not a record of ours, left alone", file=quoted(name))
            self._left_alone = left_alone

    def _take_in(self, spec: Spec, now: datetime, left_alone: set[str]) -> None:
        for record, sight, rows in self._observer.strays(spec, now):
            if rows is None:
                left_alone.add(record)
                continue
            if not rows:
                self._processes.remove_record(record)
                continue
            self._log.line("warning", "record without attempt adopted", record=record, phase=sight.phase)
            try:
                # Not marked as a commit of this moment: that would hide that the database was restored.
                self._store.record(rows)
            except DiskFull as error:
                # What cannot be recorded counts against no limit, so nothing may be started beside it.
                self._actor.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
                return

    def _wakes(
        self,
        by_job: Mapping[str, Plan],
        acted: Acted,
        settles_at: datetime | None,
        outbox_at: datetime | None,
        now: datetime,
    ) -> dict[str, datetime]:
        """By job the next moment worth looking at it; what concerns all of them stands under the home."""
        lack_until = None if self._actor.lack is None else self._actor.lack.retry_at
        again_at = now if acted.must_look_again else None
        moments = [(HOME, at) for at in (settles_at, lack_until, again_at)]
        moments.append((OUTBOX, outbox_at))
        moments += [(job_id, one.wake_at) for job_id, one in by_job.items()]
        moments += [(job_id, after(now, seconds)) for job_id, seconds in acted.look_again]
        wakes: dict[str, datetime] = {}
        for name, at in moments:
            if at is not None:
                wakes[name] = min(at, wakes.get(name, at))
        return wakes

    def _answer_home(self, now: datetime) -> None:
        """Without a configuration nothing is decided about jobs; who asked something of the home waits all the same."""
        home = self._store.job_states([HOME])[HOME]
        state = State(self._processes.boot_id(), {HOME: home}, home.holds)
        # What has a record is taken in, and stopped, with the first good configuration.
        writes = plan_home(state, now, is_quiet=not self._processes.records()).writes
        events = journal.events(writes, now)
        # Not marked as a commit of this moment: that would hide that the database was restored. On a full disk the
        # request stays open.
        with contextlib.suppress(DiskFull):
            self._store.record([*writes, *events])
            self._log.events(events)

    def _tell(self, event: Event) -> None:
        """Leave word of something that no row of a plan stands for."""
        self._log.events([event])
        # On a full disk the log may be all there is.
        with contextlib.suppress(DiskFull):
            self._store.record([event])

    def preview(self) -> tuple[Spec | None, State, Plan]:
        """What a cycle would do now. Looks at everything and changes nothing."""
        now = self._clock.now()
        spec = self._configuration.preview(now)
        if spec is None:
            return None, State(self._processes.boot_id(), {}), Plan()
        restored_until = self._observer.lost_until(now) or self._store.restored_until()
        workflows = self._observer.workflows()
        state, _ = self._observer.look(
            spec, EVERYTHING, workflows, self._lacking(), restored_until, now, takes_locks=False
        )
        return spec, state, plan(spec, state, now, sees_locks=False)

    def _live(self, state: State, acts: frozenset[str] | None, launched: Iterable[Attempt]) -> tuple[LiveShim, ...]:
        # One that has ended cannot be watched: whoever tried would find it gone and look again at once, for ever.
        seen = (
            run.live.attempt
            for job in state.jobs.values()
            if acts is None or job.id in acts
            for run in job.active
            if run.live is not None and run.live.sight.phase is RecordPhase.LOCKED
        )
        shims = {
            LiveShim(each.job_id, each.pid, each.start_ticks)
            for each in (*seen, *launched)
            if each.pid is not None and each.start_ticks is not None
        }
        return tuple(shims)

    # --- upkeep ---

    def _tidy_work(self, live: Collection[str]) -> None:
        """Remove the directories of attempts that are over: of one that was huge, or whose end a crash cut short."""
        for attempt_id in self._world.work.attempts():
            if attempt_id not in live:
                self._world.work.remove(attempt_id)

    def maintain(self, spec: Spec, now: datetime) -> None:
        """What is due now and then, beside the cycle: logs of running jobs, retention, the reserve."""
        live = self._store.living.attempts()
        for attempt in live:
            job = spec.jobs.get(attempt.job_id)
            if job is not None:
                self._actor.rotate(job, attempt, is_in_use=True)
            if attempt.number > KEPT_ATTEMPTS:
                self._store.thin_attempts(attempt.run_id, KEPT_ATTEMPTS)
        self._tidy_work({attempt.id for attempt in live})
        self._purge(spec.config.history, now)
        self._store.keep_reserve()

    def _purge(self, history: HistoryPolicy, now: datetime) -> None:
        """As long as something is left to go: what hundreds of jobs leave behind in a minute is more than one step."""
        before = after(now, -history.keep_days * 86400)
        for _ in range(PURGES_AT_MOST):
            if self._store.purge(history.keep_runs, before, now, PURGE_AT_ONCE) < PURGE_AT_ONCE:
                return


def _frees_a_foreign_place(spec: Spec, state: State, attempt: Attempt) -> bool:
    """Whether it has ended and had a place that its job does not tell of: nothing else tells who may wait for that."""
    if attempt.ended_at is None:
        return False
    runs = (active.run for active in state.jobs[attempt.job_id].active)
    trigger = next((run.trigger for run in runs if run.id == attempt.run_id), Trigger.CONTINUOUS)
    return has_left_its_place(spec, attempt.job_id, attempt.terms.queue, trigger)


def _nameless(state: State) -> Iterator[str]:
    """Jobs with a live attempt whose shim has not said the job's pid yet."""
    for job in state.jobs.values():
        for run in job.active:
            if run.live is not None and run.live.sight.phase is RecordPhase.LOCKED and run.live.attempt.job_pid is None:
                yield job.id
