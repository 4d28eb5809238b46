"""One cycle: observe, plan, act. The daemon, a single `reconcile`, a request without a daemon and the simulator all run
this.

Only the holder of the home's lock runs cycles. A cycle commits twice: first what was seen and what is about to be done,
then what came of it. Between any two effects stands what the next cycle sees if we die there; each is harmless, because
the next cycle decides again from what it sees.

One job's trouble never ends the cycle for the others; ProcClaw's own lack (disk, descriptors, processes) holds starts
back and is tried again, and no job is blamed for it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, assert_never

from procclaw.engine.configuration import Configuration
from procclaw.engine.courier import Courier, Log
from procclaw.engine.inputs import Inputs
from procclaw.engine.launching import launch_of, probe_of
from procclaw.engine.observing import EVERYTHING, Observer
from procclaw.engine.world import World
from procclaw.model.clock import after
from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.model.spec import (
    JobSpec,
    Lock,
    LogPolicy,
    Spec,
)
from procclaw.model.state import (
    HOME,
    OUTBOX,
    Alert,
    Attempt,
    Event,
    Lack,
    Launch,
    Launched,
    LaunchRefused,
    LaunchUndecided,
    Reason,
    RecordPhase,
    Row,
    Run,
    Slice,
    State,
    Write,
)
from procclaw.planning import journal
from procclaw.planning.actions import Check, DeleteFile, Plan, Relaunch, Signal, Start
from procclaw.planning.board import lock_key
from procclaw.planning.plan import merged, plan, plan_home, plans
from procclaw.system.store import Store

KILL = 9
"""SIGKILL, the same number on every system."""

CONFIRM_SECONDS = 0.05
"""How soon after a start to look for the pid of the job's own main process, which its shim leaves in the record."""

RETRY_LACK_SECONDS = 5.0
PURGE_AT_ONCE = 200
KEPT_ATTEMPTS = 100


_INSTANT = timedelta(microseconds=1)


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


class _Acted:
    """What the effects of one cycle brought about, to be written in its second commit."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.events: list[Event] = []
        self.lack: Lack | None = None
        self.launched: list[Attempt] = []
        self.look_again: list[tuple[str, float]] = []
        """Jobs to look at again, and in how many seconds."""
        self.must_look_again = False
        """At all jobs, at once."""

    def rows(self) -> list[Row]:
        return [*self.attempts.values(), *self.events]


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
        self._home = home
        self._store = store
        self._world = world
        self._processes = world.processes
        self._output = world.output
        self._observer = Observer(store, world)
        self._inputs = Inputs(store, world.output, world.work)
        self._courier = Courier(home, store, world.notifier, log)
        self._configuration = configuration
        self._clock = clock
        self._log = log
        self._mint = mint
        self._lack: Lack | None = None
        self._undeleted: set[DeleteFile] = set()
        self._unwatched: dict[str, tuple[str, ...]] = {}
        """By job, what is wrong with the directories it watches, so that it is said once."""
        self._unchecked: dict[str, str] = {}
        """By job, why its check could not be begun, so that it is said once."""

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

    def cycle(self, jobs: frozenset[str] | None = None, *, judges_slots: bool = True) -> Cycle:
        """Observe, plan and act once, for these jobs (None: all) and those that a change of theirs concerns.

        `judges_slots` False: on behalf of a request, which acts on these jobs and what they need, and on nothing else.
        For OUTBOX alone nothing is planned: alerts are delivered, as they are at the end of every cycle.
        """
        now = self._clock.now()
        in_force = self._configuration.current(now)
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
            acted = self._act(spec, state, decided, seen, now)
        finally:
            # If we die before this, the kernel does it.
            self._world.locks.let_go()
        acted.look_again += [(job_id, CONFIRM_SECONDS) for job_id in _nameless(state)]
        has_alerts = any(isinstance(write, Alert) for write in decided.writes)
        outbox_at = self._courier.deliver(spec, now, must_look=has_alerts or scope.acts is None)
        if any(_frees_a_place_of_the_gone(spec, write) for write in decided.writes):
            acted.must_look_again = True
        wakes = self._wakes(by_job, acted, in_force.settles_at, outbox_at, now)
        acts = scope.acts if scope.asked is None else frozenset(by_job) | scope.asked
        live = self._live(state, acts, acted.launched)
        wake_at = min(wakes.values(), default=None)
        acts = None if acts is None else acts | {OUTBOX}
        return Cycle(now, acts, decided, wake_at, spec, wakes, live, has_acted=not decided.is_idle)

    def _tell_of_directories(self, state: State, jobs: Iterable[str]) -> None:
        for job in (state.jobs[name] for name in jobs if name in state.jobs):
            problems = job.files.problems
            if problems != self._unwatched.get(job.id, ()):
                for problem in problems:
                    self._log.line("warning", "directory not watched", job=job.id, detail=problem)
                self._unwatched[job.id] = problems

    def _deliver(self, spec: Spec, now: datetime) -> Cycle:
        outbox_at = self._courier.deliver(spec, now, must_look=False)
        wakes = {} if outbox_at is None else {OUTBOX: outbox_at}
        return Cycle(now, frozenset({OUTBOX}), Plan(), outbox_at, spec, wakes, (), has_acted=False)

    def is_telling(self) -> bool:
        """Whether alerts are being delivered, or have been and no cycle has written it down yet."""
        return self._courier.is_busy()

    def wait_for_deliveries(self, seconds: float) -> None:
        """Until no alert is being delivered, at most that long."""
        self._courier.wait(seconds)

    def _lacking(self) -> Lack | None:
        return self._lack or self._store.lack()

    def _take_in_strays(self, spec: Spec, now: datetime) -> None:
        for record, sight, rows in self._observer.strays(spec, now):
            if not rows:
                self._processes.remove_record(record)
                continue
            self._log.line("warning", "record without attempt adopted", record=record, phase=sight.phase)
            try:
                # Not marked as a commit of this moment: that would hide that the database was restored.
                self._store.record(rows)
            except DiskFull as error:
                # What cannot be recorded counts against no limit, so nothing may be started beside it.
                self._lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
                return

    def _wakes(
        self,
        by_job: Mapping[str, Plan],
        acted: _Acted,
        settles_at: datetime | None,
        outbox_at: datetime | None,
        now: datetime,
    ) -> dict[str, datetime]:
        """By job the next moment worth looking at it; what concerns all of them stands under the home."""
        lack_until = None if self._lack is None else self._lack.retry_at
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

    # --- act ---

    def _act(self, spec: Spec, state: State, decided: Plan, seen: list[Row], now: datetime) -> _Acted:
        """Carry the plan out."""
        runs = {run.run.id: run.run for job in state.jobs.values() for run in job.active}
        runs |= {write.id: write for write in decided.writes if isinstance(write, Run)}
        acted = _Acted()
        created = self._create(decided, now, acted)
        is_committed = acted.lack is None and self._commit_decisions(decided, seen, created, now, acted)
        for effect in decided.effects:
            match effect:
                case Signal():
                    self._signal(effect, now, acted)
                case Start():
                    if is_committed:
                        # If we die here: a committed attempt whose record is blank; the next cycle launches it.
                        self._launch(spec, runs[effect.run_id], created[effect.run_id], now, acted)
                case Relaunch():
                    if is_committed:
                        self._launch(spec, runs[effect.attempt.run_id], effect.attempt, now, acted)
                case Check():
                    # If we die here: the check dies with us, and is due.
                    self._check(spec, effect)
                case DeleteFile():
                    # If we die here: the file stays, and stays known; the next cycle deletes it.
                    if is_committed:
                        self._delete_file(effect)
                case _:
                    assert_never(effect)
        # If we die here: what was launched holds its record's lock, with its pid in it; the next cycle takes it over.
        # What was signalled is signalled once more.
        self._commit_outcomes(acted, now)
        if is_committed:
            # If we die here: a record whose attempt is over; the next full cycle removes it.
            for write in decided.writes:
                if isinstance(write, Attempt) and write.ended_at is not None:
                    self._processes.remove_record(write.record)
                    self._world.work.remove(write.id)
        else:
            for attempt in created.values():
                self._processes.remove_record(attempt.record)
        self._settle_lack(acted, now)
        return acted

    def _create(self, decided: Plan, now: datetime, acted: _Acted) -> dict[str, Attempt]:
        """Blank records for all attempts that shall start: the space for an exit code is there before the start."""
        created: dict[str, Attempt] = {}
        boot_id = self._processes.boot_id()
        for effect in decided.effects:
            if not isinstance(effect, Start):
                continue
            files = self._output.log_files(effect.job_id, effect.instance)
            attempt = Attempt(
                id=f"{effect.run_id}.{effect.number}",
                run_id=effect.run_id,
                job_id=effect.job_id,
                number=effect.number,
                mark=self._mint(),
                boot_id=boot_id,
                created_at=now,
                terms=effect.terms,
                instance=effect.instance,
                stdout=Slice(files[0], self._output.position(files[0]), None),
                stderr=Slice(files[1], self._output.position(files[1]), None),
            )
            try:
                self._processes.create_record(attempt.record)
            except DiskFull as error:
                acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
                break
            created[effect.run_id] = attempt
        # If we die here: blank records nobody knows; the next full cycle removes them.
        return created

    def _commit_decisions(
        self, decided: Plan, seen: list[Row], created: dict[str, Attempt], now: datetime, acted: _Acted
    ) -> bool:
        writes = tuple(self._completed(write) for write in decided.writes)
        events = journal.events(writes, now)
        decided_ids = {write.id for write in writes if isinstance(write, Attempt)}
        seen = [row for row in seen if not (isinstance(row, Attempt) and row.id in decided_ids)]
        rows: list[Row] = [*seen, *writes, *created.values(), *events]
        try:
            self._record(rows, now)
        except DiskFull as error:
            acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
            return False
        self._log.events(events)
        return True

    def _record(self, rows: list[Row], now: datetime) -> None:
        """Commit, and note when beside the records, where a database that is put back later does not reach.

        A note that is newer than the database means an older database. So each commit is later than any before it, also
        when the clock was set back. If we die between the two, the note is older than the commit, which says nothing.
        """
        if not rows:
            return
        before = (self._processes.noted_commit(), self._store.last_commit_at())
        committed_at = max((now, *(at + _INSTANT for at in before if at is not None)))
        self._store.record(rows, committed_at=committed_at)
        self._processes.note_commit(committed_at)

    def _completed(self, write: Write) -> Write:
        """An attempt that is over, with what only the machine can tell of it."""
        if not isinstance(write, Attempt) or write.ended_at is None:
            return write
        result, fault = self._world.work.result(write.id)
        if fault:
            self._log.line("warning", "result not kept", job=write.job_id, run=write.run_id, detail=fault)
        return write._replace(
            result=result,
            stdout=self._closed(write.stdout),
            stderr=self._closed(write.stderr),
            max_rss_mb=None if write.pid is None else self._processes.peak_rss_mb(write.pid),
        )

    def _closed(self, opened: Slice | None) -> Slice | None:
        return None if opened is None else self._output.close(opened)

    def _launch(self, spec: Spec, run: Run, attempt: Attempt, now: datetime, acted: _Acted) -> None:
        job = spec.jobs[attempt.job_id]
        logs = self._output.log_files(attempt.job_id, attempt.instance)
        self._rotate(job, attempt, is_in_use=False)
        try:
            given = self._inputs.prepare(job, run, attempt)
            launch = launch_of(job, spec.config, run, attempt, self._home, logs, given)
        except DiskFull as error:
            acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
            return
        except ProcclawError as error:
            self._fail_start(attempt, Reason.ENVIRONMENT, str(error), acted)
            return
        if job.lock is not None:
            try:
                launch = self._with_lock(launch, job.lock, run)
            except ProcclawError as error:
                # It is free and cannot be given away now: no fault of the job's, so it stays as recorded, not begun.
                self._log.line("warning", "lock not handed over", job=job.id, run=run.id, detail=error)
                acted.look_again.append((attempt.job_id, RETRY_LACK_SECONDS))
                return
        match self._processes.launch(launch):
            case Launched() as launched:
                started = attempt._replace(pid=launched.pid, start_ticks=launched.start_ticks, started_at=now)
                acted.attempts[attempt.id] = started
                acted.events.append(journal.attempt_started(started, now))
                acted.launched.append(started)
                acted.look_again.append((attempt.job_id, CONFIRM_SECONDS))
            case LaunchRefused(reason=reason, detail=detail, is_ours=is_ours):
                if is_ours:
                    acted.lack = Lack(reason, detail, after(now, RETRY_LACK_SECONDS))
                else:
                    self._fail_start(attempt, reason, detail, acted)
            case LaunchUndecided():
                # Somebody removed its record, or holds it: nothing else would wake us for that.
                acted.look_again.append((attempt.job_id, CONFIRM_SECONDS))

    def _with_lock(self, launch: Launch, lock: Lock, run: Run) -> Launch:
        descriptor, token = self._world.locks.hand_over(lock_key(lock), f"{run.job_id} (run {run.id})")
        env = (*launch.env, ("PROCCLAW_LOCK_TOKEN", str(token)))
        return launch._replace(lock_fd=descriptor, env=env)

    def _fail_start(self, attempt: Attempt, reason: Reason, detail: str, acted: _Acted) -> None:
        """The attempt cannot be started as it stands: a failure of the job's, which the next cycle judges like any
        other.
        """
        acted.attempts[attempt.id] = attempt._replace(refusal=reason, detail=detail)
        acted.look_again.append((attempt.job_id, 0.0))
        self._log.line("warning", "attempt not started", job=attempt.job_id, run=attempt.run_id, detail=detail)

    def _check(self, spec: Spec, effect: Check) -> None:
        job = spec.jobs[effect.job_id]
        try:
            self._world.probes.begin(probe_of(job, spec.config, effect.attempt_id, self._home))
        except ProcclawError as error:
            # Its environment cannot be made at present, which says nothing about the job; the check stays due.
            if self._unchecked.get(job.id) != str(error):
                self._log.line("warning", "check not begun", job=job.id, detail=error)
            self._unchecked[job.id] = str(error)
        else:
            self._unchecked.pop(job.id, None)

    def _delete_file(self, effect: DeleteFile) -> None:
        if self._world.spool.delete(effect.path, effect.identity):
            self._undeleted.discard(effect)
        elif effect not in self._undeleted:
            # It is tried at each look.
            self._log.line("warning", "trigger file not deleted", job=effect.job_id, file=effect.path)
            self._undeleted.add(effect)

    def _signal(self, effect: Signal, now: datetime, acted: _Acted) -> None:
        attempt, order = effect.attempt, effect.attempt.stop
        assert order is not None
        members = effect.members
        if members is None:
            members = self._processes.members([attempt]).get(attempt.id, ())
        self._processes.signal_attempt(attempt, members, KILL if effect.is_kill else effect.signum)
        acted.attempts[attempt.id] = attempt._replace(stop=order.carried_on(now, is_kill=effect.is_kill))

    def _commit_outcomes(self, acted: _Acted, now: datetime) -> None:
        if not acted.rows():
            return
        try:
            self._record(acted.rows(), now)
        except DiskFull as error:
            acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
            return
        self._log.events(acted.events)

    def _settle_lack(self, acted: _Acted, now: datetime) -> None:
        """Remember what ProcClaw lacks, or forget it once a start went through."""
        if acted.lack is not None:
            self._log.line("error", "starts are held back", reason=acted.lack.reason, detail=acted.lack.detail)
            # What was decided together with the starts (ends, answers) need not wait for what they lack.
            acted.must_look_again = self._lack is None
            self._lack = acted.lack
            with contextlib.suppress(DiskFull):
                self._store.set_lack(acted.lack)
        elif self._lack is not None and (acted.launched or self._lack.retry_at <= now):
            self._lack = None
            # One that stays in the database has had its time and holds nothing back.
            with contextlib.suppress(DiskFull):
                self._store.set_lack(None)

    # --- upkeep ---

    def _tidy_work(self) -> None:
        """Remove the directories of attempts that are over: of one that was huge, or whose end a crash cut short."""
        live = {attempt.id for attempt in self._store.live_attempts()}
        for attempt_id in self._world.work.attempts():
            if attempt_id not in live:
                self._world.work.remove(attempt_id)

    def maintain(self, spec: Spec, now: datetime) -> None:
        """What is due now and then, beside the cycle: logs of running jobs, retention, the reserve."""
        for attempt in self._store.live_attempts():
            job = spec.jobs.get(attempt.job_id)
            if job is not None:
                self._rotate(job, attempt, is_in_use=True)
            if attempt.number > KEPT_ATTEMPTS:
                self._store.thin_attempts(attempt.run_id, KEPT_ATTEMPTS)
        self._tidy_work()
        history = spec.config.history
        self._store.purge(history.keep_runs, after(now, -history.keep_days * 86400), now, PURGE_AT_ONCE)
        self._store.keep_reserve()

    def _rotate(self, job: JobSpec, attempt: Attempt, *, is_in_use: bool) -> None:
        policy: LogPolicy = job.log
        for opened in (attempt.stdout, attempt.stderr):
            if opened is None:
                continue
            try:
                self._output.rotate(opened.file, policy, is_in_use=is_in_use)
            except (ProcclawError, OSError) as error:
                # A log that cannot be rotated is no reason not to run the job.
                self._log.line("warning", "log not rotated", job=job.id, file=opened.file, detail=error)


def _frees_a_place_of_the_gone(spec: Spec, write: Write) -> bool:
    """Whether something has ended of a job that is no longer declared: nothing tells any more who may wait for it."""
    return isinstance(write, Attempt) and write.ended_at is not None and write.job_id not in spec.jobs


def _nameless(state: State) -> Iterator[str]:
    """Jobs with a live attempt whose shim has not said the job's pid yet."""
    for job in state.jobs.values():
        for run in job.active:
            if run.live is not None and run.live.sight.phase is RecordPhase.LOCKED and run.live.attempt.job_pid is None:
                yield job.id
