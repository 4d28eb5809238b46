"""Observation: what is recorded of the jobs of a cycle, and one look at all that a decision about them depends on.

Looking changes nothing but what `Locks.look` takes for the cycle; what it shows that nobody has written down yet (a
pid, an attempt that the database does not know) comes back as rows to be written. Nothing is decided here.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple

from procclaw.engine.strays import adopted, in_turn
from procclaw.engine.world import World
from procclaw.model.clock import after, seconds_between, to_microseconds
from procclaw.model.intents import Intent
from procclaw.model.outside import LockClaim, LockSight, Measure, ProbeResult, Process, RecordPhase, Sight
from procclaw.model.records import HELD_BY, HOME, WORKFLOWS, Attempt, Run
from procclaw.model.rows import Row
from procclaw.model.spec import JobSpec, Spec, TriggerType
from procclaw.model.state import ActiveRun, JobState, Lack, Observed, State, WorkflowState
from procclaw.planning import usage
from procclaw.planning.board import LOCK, lock_key, order_of
from procclaw.planning.neighbourhood import Neighbourhoods, has_left_its_place
from procclaw.system.store import Store

NAMELESS_SECONDS = 2.0
"""A shim that has not said the job's pid by now runs where /proc does not tell it; people are shown its own."""


class Scope(NamedTuple):
    """Which jobs a cycle is about."""

    acts: frozenset[str] | None
    """Those it acts on; None: all."""
    reads: frozenset[str] | None
    """Those it takes into account; None: all."""
    asked: frozenset[str] | None = None
    """Those of the first that a request is about; of the others it acts on what these turn out to wait for. None: there
    is no such difference.
    """

    def has(self, job_id: str) -> bool:
        return self.acts is None or job_id in self.acts


EVERYTHING = Scope(None, None)


class _Checks(NamedTuple):
    """What there is of health checks, by attempt."""

    under_way: frozenset[str]
    results: Mapping[str, ProbeResult]


class Observer:
    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world
        self._neighbourhoods: tuple[str, Neighbourhoods] | None = None
        self._probed: dict[str, ProbeResult] = {}
        """By attempt, what came of checks and was not taken into account yet."""

    def news(self) -> frozenset[str]:
        """Jobs about which something has come in that no cycle has taken into account."""
        self._probed |= {result.attempt_id: result for result in self._world.probes.results()}
        return frozenset(result.job_id for result in self._probed.values())

    # --- which jobs ---

    def scope(
        self, spec: Spec, jobs: frozenset[str] | None, workflows: Iterable[WorkflowState], *, all_around: bool
    ) -> Scope:
        """What a cycle about these jobs is about: `all_around` with everything that a change of theirs may concern."""
        if jobs is None:
            return EVERYTHING
        if self._neighbourhoods is None or self._neighbourhoods[0] != spec.hash:
            self._neighbourhoods = (spec.hash, Neighbourhoods(spec))
        near = self._neighbourhoods[1]
        steps = {job_id for workflow in workflows for job_id in workflow.run.spec.steps}
        acts = near.around(jobs)
        if WORKFLOWS in jobs or not acts.isdisjoint(steps):
            # Whoever sees a step end must see what follows: nothing else would tell the workflow.
            asked_for = (intent.details.workflow for intent in self._asked_of_workflows())
            steps |= {job_id for workflow in asked_for if workflow is not None for job_id in workflow.steps}
            acts = near.around(jobs | steps | {WORKFLOWS})
        reads = near.around(acts) | {HOME, WORKFLOWS}
        return Scope(acts, reads | self._out_of_place(spec, near), None if all_around else jobs)

    def _out_of_place(self, spec: Spec, near: Neighbourhoods) -> frozenset[str]:
        """What is left of a job that is gone still has its places; so has what began before its job left its queue."""
        if not near.has_places:
            return frozenset(self._store.living.jobs()) - spec.jobs.keys()
        return frozenset(place[0] for place in self._store.living.places() if has_left_its_place(spec, *place))

    def workflows(self) -> tuple[WorkflowState, ...]:
        """Those that are not over, and those about which somebody asks."""
        return self._store.workflow_states([intent.details.workflow_run for intent in self._asked_of_workflows()])

    def _asked_of_workflows(self) -> tuple[Intent, ...]:
        # Nearly always none, and to learn that costs next to nothing.
        if WORKFLOWS not in self._store.jobs_with_intents():
            return ()
        return self._store.job_states([WORKFLOWS])[WORKFLOWS].intents

    def _with_asked(
        self, workflows: tuple[WorkflowState, ...], jobs: Mapping[str, JobState]
    ) -> tuple[WorkflowState, ...]:
        """Those, and the ones that a request names which has come in since they were read."""
        intents = jobs[WORKFLOWS].intents if WORKFLOWS in jobs else ()
        named = {intent.details.workflow_run for intent in intents} - {""}
        return workflows if named <= {each.run.id for each in workflows} else self._store.workflow_states(named)

    # --- one look ---

    def look(
        self,
        spec: Spec,
        scope: Scope,
        workflows: tuple[WorkflowState, ...],
        lack: Lack | None,
        restored_until: datetime | None,
        now: datetime,
        *,
        takes_locks: bool = True,
    ) -> tuple[State, list[Row]]:
        reads = scope.reads
        declared = spec.jobs if reads is None else sorted(spec.jobs.keys() & reads)
        specs = {name: spec.jobs[name] for name in declared if scope.has(name)}
        recorded = self._store.job_states(reads, now=now, specs=specs)
        names = sorted({*recorded, *spec.jobs} if reads is None else {*reads, *recorded})
        boot_id = self._world.processes.boot_id()
        rows: list[Row] = []
        seen = self._seen(recorded, specs, scope, boot_id, now, rows)
        jobs = {name: seen.get(name) or JobState(name) for name in names}
        if takes_locks:
            jobs = self._with_locks(jobs, specs)
        jobs = self._with_files(jobs, specs)
        workflows = self._with_asked(workflows, jobs)
        home = jobs.get(HOME)
        # What people were told longer ago does not keep them from being told again.
        cooldown_seconds = max((job.alerts.cooldown_seconds for job in specs.values()), default=0.0)
        last_told = self._store.last_told(after(now, -cooldown_seconds))
        state = State(boot_id, jobs, home.holds if home else (), lack, restored_until, workflows, last_told)
        return state, rows

    def _seen(
        self,
        recorded: Mapping[str, JobState],
        specs: Mapping[str, JobSpec],
        scope: Scope,
        boot_id: str,
        now: datetime,
        rows: list[Row],
    ) -> dict[str, JobState]:
        """The jobs with one look at each of their live attempts."""
        lives = [run.live for job in recorded.values() for run in job.active if run.live is not None]
        sights = {live.attempt.id: self._sight(live.attempt, boot_id) for live in lives}
        members = self._members([live.attempt for live in lives], sights, boot_id)
        measures = self._measures(lives, specs, now)
        checks = self._checks(scope)
        jobs: dict[str, JobState] = {}
        for name, job in recorded.items():
            active = (self._with_sight(run, sights, members, now, rows) for run in job.active)
            jobs[name] = job._replace(active=tuple(_with_findings(run, checks, measures) for run in active))
        return jobs

    def _checks(self, scope: Scope) -> _Checks:
        """Of the jobs that are acted on, each result once; of an attempt that is over nobody wants one."""
        # In this order: what ends between the two has a result and is still said to be under way.
        under_way = self._world.probes.under_way()
        self.news()
        results = {attempt: result for attempt, result in self._probed.items() if scope.has(result.job_id)}
        for attempt_id in results:
            del self._probed[attempt_id]
        return _Checks(under_way, results)

    def _sight(self, attempt: Attempt, boot_id: str) -> Sight:
        processes = self._world.processes
        sight = processes.sight(attempt.record)
        if sight.phase is not RecordPhase.MISSING or attempt.boot_id != boot_id:
            return sight
        if attempt.pid is None or attempt.start_ticks is None:
            return sight
        # Somebody removed the record of a living attempt: its shim is still known by pid and start time.
        is_same = processes.start_ticks(attempt.pid) == attempt.start_ticks
        return Sight(RecordPhase.LOCKED, pid=attempt.pid) if is_same else sight

    def _members(
        self, attempts: list[Attempt], sights: dict[str, Sight], boot_id: str
    ) -> dict[str, tuple[Process, ...]]:
        """Look at the process table only for those that are ending, or seem never to have begun, and once for all."""
        ending = [
            attempt
            for attempt in attempts
            if attempt.boot_id == boot_id
            and (attempt.stop is not None or sights[attempt.id].phase is not RecordPhase.LOCKED)
        ]
        return dict(self._world.processes.members(ending)) if ending else {}

    def _measures(self, lives: list[Observed], specs: Mapping[str, JobSpec], now: datetime) -> Mapping[str, Measure]:
        """What those use whose limits are due to be looked at."""
        due = [
            live.attempt
            for live in lives
            if (spec := specs.get(live.attempt.job_id)) is not None and usage.is_due(spec.resources, live, now)
        ]
        return self._world.processes.measure(due) if due else {}

    def _with_sight(
        self,
        active: ActiveRun,
        sights: dict[str, Sight],
        members: dict[str, tuple[Process, ...]],
        now: datetime,
        rows: list[Row],
    ) -> ActiveRun:
        if active.live is None:
            return active
        attempt = active.live.attempt
        sight = sights[attempt.id]
        if sight.phase is RecordPhase.BLANK and members.get(attempt.id):
            # Somebody has put a blank record in the place of its own; started again, it would run twice.
            sight = Sight(RecordPhase.LOCKED)
        if attempt.pid is None and sight.pid is not None:
            # Started, and the manager died before it could write down the pid.
            attempt = self._with_pid(attempt, sight, sight.pid)
        if attempt.job_pid is None and sight.phase is RecordPhase.LOCKED:
            has_waited = seconds_between(attempt.started_at or attempt.created_at, now) >= NAMELESS_SECONDS
            attempt = attempt._replace(job_pid=sight.job_pid or (attempt.pid if has_waited else None))
        if attempt != active.live.attempt:
            rows.append(attempt)
        return active._replace(live=active.live._replace(attempt=attempt, sight=sight, members=members.get(attempt.id)))

    def _with_pid(self, attempt: Attempt, sight: Sight, pid: int) -> Attempt:
        """The attempt with what its record names as the shim's pid, if that is what it is."""
        ticks = None
        if sight.phase is RecordPhase.LOCKED:
            ticks = self._world.processes.shim_start_ticks(attempt.record, pid)
            if ticks is None:
                return attempt  # it has ended in this moment, or somebody has written over the record
        # Without the lock the number may be somebody else's by now.
        return attempt._replace(pid=pid, start_ticks=ticks, started_at=attempt.created_at)

    # --- what may start ---

    def _with_locks(self, jobs: dict[str, JobState], specs: Mapping[str, JobSpec]) -> dict[str, JobState]:
        locked = [spec for spec in specs.values() if spec.lock is not None]
        if not locked:
            return jobs
        # Also where nobody wants one: other homes learn from the look what this one has given back.
        wishes = [(run, spec) for spec in locked for run in _wanting_a_start(jobs[spec.id])]
        claims = [_claim(run, spec) for run, spec in sorted(wishes, key=lambda wish: order_of(wish[0]))]
        sights = self._world.locks.look(claims)
        found: dict[str, LockSight] = {claim.job_id: sights[claim.lock] for claim in claims}
        return jobs | {name: jobs[name]._replace(lock=sight) for name, sight in found.items()}

    def _with_files(self, jobs: dict[str, JobState], specs: Mapping[str, JobSpec]) -> dict[str, JobState]:
        found = {}
        for name, spec in specs.items():
            watched = [trigger for trigger in spec.triggers if trigger.type is TriggerType.FILE]
            if watched:
                known = {file.path: file.identity for file in jobs[name].triggered}
                found[name] = jobs[name]._replace(files=self._world.spool.look(name, watched, known))
        return jobs | found

    # --- what the database does not know ---

    def strays(self, spec: Spec, now: datetime) -> Iterator[tuple[str, Sight, list[Row] | None]]:
        """Records that no live attempt in the database knows: of an attempt that is over, or of a database restored
        since. Each comes with the rows that make it known again; without any it is to be deleted, and with None left
        alone.

        One after the other: what is found of the next depends on what was recorded of the one before.
        """
        processes = self._world.processes
        boot_id = processes.boot_id()
        known = self._store.living.records()
        for record in in_turn(name for name in processes.records() if name not in known):
            sight = processes.sight(record)
            look = partial(self._sight, boot_id=boot_id)
            yield record, sight, adopted(self._store, spec, record, sight, boot_id, now, look)

    def lost_until(self, now: datetime) -> datetime | None:
        """Up to when nobody can tell what ran; None: the database is the newest there has been.

        That is now and not the lost commit: who knows what else went with the time between.
        """
        noted, committed = self._world.processes.noted_commit(), self._store.last_commit_at()
        return now if noted is not None and (committed is None or noted > committed) else None


def _with_findings(active: ActiveRun, checks: _Checks, measures: Mapping[str, Measure]) -> ActiveRun:
    if active.live is None:
        return active
    name = active.live.attempt.id
    live = active.live._replace(
        is_probing=name in checks.under_way, probe=checks.results.get(name), measured=measures.get(name)
    )
    return active._replace(live=live)


def _wanting_a_start(job: JobState) -> list[Run]:
    """The runs that would get a process now if they had the lock: those that stood before nothing else last time, and
    those whose process was not begun.

    Whoever is in line for a lock keeps other homes from it, so a run that waits for something else must not be.
    """
    return [active.run for active in job.active if active.run.ending is None and _is_ready(active)]


def _is_ready(active: ActiveRun) -> bool:
    if active.live is not None:
        return active.live.sight.phase is RecordPhase.BLANK
    return [gate for gate, _ in active.run.closed if not gate.startswith(HELD_BY)] == [LOCK]


def _claim(run: Run, spec: JobSpec) -> LockClaim:
    assert spec.lock is not None
    return LockClaim(
        lock=lock_key(spec.lock),
        name=spec.lock.name,
        provider=spec.lock.provider,
        path=spec.lock.path,
        job_id=spec.id,
        run_id=run.id,
        priority=run.priority.rank,
        since_us=to_microseconds(run.queued_at),
    )
