"""Rules that hold in every state a home can get into, on random walks through a world of values.

A walk edits jobs.yaml, asks for things, sets the clock, reboots, and lets processes end well, badly or not at all;
after each step the manager plans, and sometimes dies before it acts. Every plan is held against the rules. That each
rule can fail is tried with a planner that has been broken on purpose.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from procclaw.engine.observing import _wanting_a_start
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.outside import LockSight, Process, RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import DESPITE_DISABLED, HOME, Attempt, HoldKind, Run, SlotOutcome, Slots, SlotsWithdrawn
from procclaw.model.spec import Condition, Dedup, Dependency, JobSpec, JobType, Lock, LockProvider, Priority
from procclaw.model.state import JobState, Lack, Observed, State
from procclaw.planning import attempts, slots, timetable
from procclaw.planning import plan as plan_module
from procclaw.planning import runs as runs_module
from procclaw.planning.actions import Plan, Relaunch, Signal, Start
from procclaw.planning.board import Board
from procclaw.planning.draft import Draft
from procclaw.planning.gates import Gate, place_gate
from procclaw.planning.outcome import after_attempt
from procclaw.planning.plan import plan
from tests.builders import BOOT, NOW, a_job, a_spec, a_state, carried_out, changed, committed

NAMES = ("a", "b")
LEFT_BEHIND = Process(4321, 1, "left behind")


class RuleBroken(AssertionError):
    pass


def demand(holds: bool, rule: str, *shown: object) -> None:
    if not holds:
        raise RuleBroken("\n".join((rule, *map(str, shown))))


# --- a small world ---


class World:
    """A home, its processes and its clock, as values; the real planner decides."""

    def __init__(self) -> None:
        self.now = NOW
        self.jobs: dict[str, JobSpec] = {}
        self.state = a_state(JobState(HOME))
        self.ledger: list[Slots] = []
        self.answered: list[Intent] = []
        self.finished: set[str] = set()
        self.begun: set[tuple[str, int]] = set()
        self.runs: dict[str, Run] = {}
        self._intents = 0
        self._boots = 0
        self._kept_at: datetime | None = None
        """When an attempt that had the lock was over and something of it was kept, which lets go as time passes."""

    # --- what happens to it ---

    def declare(self, name: str, job: JobSpec) -> None:
        # Only one of them depends on the other, so they never wait for each other.
        self.jobs[name] = job._replace(id=name, depends_on=job.depends_on if name == NAMES[0] else ())

    def remove(self, name: str) -> None:
        self.jobs.pop(name, None)

    def ask(self, name: str, kind: IntentKind, force: bool) -> None:
        self._intents += 1
        intent = Intent(self._intents, name, kind, force, self.now, "alice")
        job = self.state.jobs.get(name) or JobState(name)
        self._put(job._replace(intents=(*job.intents, intent)))

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def lack(self, seconds: float) -> None:
        lack = Lack(Reason.NO_DISK, "no space left", self.now + timedelta(seconds=seconds))
        self.state = self.state._replace(lack=lack if seconds else None)

    def process_ends(self, choice: int, how: int | str, leaves_some: bool) -> None:
        """One of the processes ends: with an exit code, or so that its record is found in another phase."""
        alive = [live for live in self._alive() if live.sight.phase is RecordPhase.LOCKED]
        if not alive:
            return
        live = alive[choice % len(alive)]
        sight = _end(live.attempt, how, self.now)
        members = (LEFT_BEHIND,) if leaves_some and sight.phase is not RecordPhase.BLANK else ()
        self._see(live._replace(sight=sight, members=members))

    def launch_is_refused(self, choice: int) -> None:
        """What a manager that died had recorded to be started turns out to be impossible."""
        blank = [live for live in self._alive() if live.sight.phase is RecordPhase.BLANK]
        if blank:
            live = blank[choice % len(blank)]
            self._see(live._replace(attempt=live.attempt._replace(refusal=Reason.ENVIRONMENT, detail="no env_file")))

    def leftovers_end(self) -> None:
        self._kept_at = None
        for live in self._alive():
            if live.members or live.sight.is_draining:
                self._see(live._replace(members=(), sight=live.sight._replace(is_draining=False)))

    def obedient_processes_end(self) -> None:
        """Whatever has been told to end does."""
        for live in self._alive():
            if live.attempt.stop is None:
                continue
            if live.sight.phase is RecordPhase.LOCKED:
                live = live._replace(sight=_end(live.attempt, 143, self.now))
            self._see(live._replace(members=(), sight=live.sight._replace(is_draining=False)))

    def reboot(self) -> None:
        self._boots += 1
        self._kept_at = None
        self.state = self.state._replace(boot_id=f"boot-{self._boots}")
        for live in self._alive():
            if live.sight.phase is RecordPhase.LOCKED:
                live = live._replace(sight=Sight(RecordPhase.LOST, live.attempt.pid))
            self._see(live._replace(members=()))

    # --- the manager ---

    def cycle(self, *, dies: bool = False, judges_slots: bool = True) -> Plan:
        state = self._observed()
        spec = a_spec(*self.jobs.values())
        decided = plan(spec, state, self.now, judges_slots=judges_slots)
        check(self, state, decided)
        backwards = state._replace(jobs=dict(reversed(list(state.jobs.items()))))
        demand(plan(spec, backwards, self.now, judges_slots=judges_slots) == decided, "order of input")
        self._keep(decided)
        ended = {write.id for write in decided.writes if isinstance(write, Attempt) and write.ended_at is not None}
        if any(live.attempt.id in ended and live.members for live in self._alive()):
            self._kept_at = self.now
        if dies:
            self.state = committed(state, decided, self.now, self.ledger)
            return decided
        self.state = carried_out(state, decided, self.now, self.ledger)
        has_relaunched = any(isinstance(effect, Relaunch) for effect in decided.effects)
        soon = self.now + timedelta(seconds=1)
        if decided.wake_at != self.now and not (has_relaunched and decided.wake_at and decided.wake_at <= soon):
            again = plan(spec, self._observed(), self.now, judges_slots=judges_slots)
            answers = [write for write in again.writes if isinstance(write, Intent)]
            demand(not again.effects and len(answers) == len(again.writes), "planning again asks for nothing", again)
            is_soon = decided.wake_at is not None and decided.wake_at <= self.now + timedelta(seconds=1)
            demand(is_soon or not answers, "whoever can be answered soon is", decided, again)
        return decided

    def settle(self) -> None:
        """Faults have ceased: what is told to end does, and nothing else happens until nothing is left to do.

        A job that times out again and again may go on for ever, but not without time going on as well.
        """
        self.lack(0)
        at_once = 0
        for _ in range(300):
            self.obedient_processes_end()
            decided = self.cycle(judges_slots=False)
            if decided.is_idle and (decided.wake_at is None or decided.wake_at > self.now + timedelta(days=1)):
                return
            at_once = 0 if decided.wake_at is not None and decided.wake_at > self.now else at_once + 1
            demand(at_once < 20, "time moves on", decided)
            self.now = max(self.now, decided.wake_at or self.now)

    def _keep(self, decided: Plan) -> None:
        for write in decided.writes:
            if isinstance(write, Run):
                self.runs[write.id] = write
            if isinstance(write, Run) and not write.is_active:
                self.finished.add(write.id)
            if isinstance(write, Intent) and write.resolved_at is not None:
                self.answered.append(write)

    def _observed(self) -> State:
        """The state as the store and a look at the machine would give it."""
        names = {*self.state.jobs, *self.jobs}
        jobs = {name: self._job_observed(name) for name in sorted(names)}
        return self.state._replace(jobs=jobs)

    def _job_observed(self, name: str) -> JobState:
        job = self.state.jobs.get(name) or JobState(name)
        rows = [row for row in self.ledger if row.job_id == name]
        run_at = self.jobs[name].run_at if name in self.jobs else None
        is_judged = run_at is not None and any(row.first_due_at <= run_at <= row.last_due_at for row in rows)
        job = job._replace(is_run_at_judged=is_judged, straddling=None, ran_after_cursor=frozenset())
        if name in self.jobs:
            job = job._replace(lock=self._lock_seen(self.jobs[name], job), recent=self._recent(self.jobs[name]))
        if job.cursor is None:
            return job
        until = job.cursor.judged_until
        ran = frozenset(row.first_due_at for row in rows if row.run_id is not None and row.first_due_at > until)
        around = [row for row in rows if until > self.now and row.first_due_at <= self.now < row.last_due_at]
        return job._replace(ran_after_cursor=ran, straddling=around[0] if around else None)

    def _lock_seen(self, spec: JobSpec, job: JobState) -> LockSight | None:
        if spec.lock is None or not _wanting_a_start(job):
            return None
        holders = [live for live in self._alive() if _has_lock(self.jobs.get(live.attempt.job_id), live)]
        return LockSight(is_free=not holders and self._kept_at != self.now)

    def _recent(self, spec: JobSpec) -> tuple[Run, ...]:
        if spec.dedup is None:
            return ()
        since = self.now - timedelta(seconds=spec.dedup.window_seconds)
        return tuple(run for run in self.runs.values() if run.job_id == spec.id and run.queued_at > since)

    def _alive(self) -> list[Observed]:
        return [active.live for job in self.state.jobs.values() for active in job.active if active.live is not None]

    def _see(self, live: Observed) -> None:
        job = self.state.jobs[live.attempt.job_id]
        same = live.attempt.id
        active = (
            each._replace(live=live) if each.live and each.live.attempt.id == same else each for each in job.active
        )
        self._put(job._replace(active=tuple(active)))

    def _put(self, job: JobState) -> None:
        self.state = self.state._replace(jobs={**self.state.jobs, job.id: job})


def _end(attempt: Attempt, how: int | str, now: datetime) -> Sight:
    if how == "draining":
        return _end(attempt, 0, now)._replace(is_draining=True)
    if isinstance(how, str):
        return Sight(RecordPhase(how), attempt.pid)
    return Sight(RecordPhase.EXITED, attempt.pid, exit_code=how, exited_at=now, cpu_seconds=0.1)


def _has_lock(spec: JobSpec | None, live: Observed) -> bool:
    is_alive = live.sight.phase is RecordPhase.LOCKED or bool(live.members)
    return spec is not None and spec.lock is not None and is_alive


# --- the rules ---


def check(world: World, state: State, decided: Plan) -> None:
    after = committed(state, decided, world.now, list(world.ledger))
    for name, job in after.jobs.items():
        if name != HOME:
            check_job(world, world.jobs.get(name), state.jobs[name], job, after, decided)
    check_shared(world, state, after, decided)
    check_wake(world.now, decided)
    check_ledger(world, decided)
    for write in decided.writes:
        if isinstance(write, Run) and write.is_active:
            demand(write.id not in world.finished, "what is over does not begin again", write)
    for effect in decided.effects:
        if isinstance(effect, Start):
            demand((effect.run_id, effect.number) not in world.begun, "an attempt starts once", effect)
            world.begun.add((effect.run_id, effect.number))


def check_job(world: World, spec: JobSpec | None, before: JobState, job: JobState, after: State, decided: Plan) -> None:
    starts = [effect for effect in decided.effects if isinstance(effect, Start) and effect.job_id == job.id]
    again = [effect for effect in decided.effects if isinstance(effect, Relaunch) and effect.attempt.job_id == job.id]
    live = [active for active in job.active if active.live is not None]
    if starts or again:
        demand(spec is not None, "a job that is gone never starts", job)
        assert spec is not None
        limit = 1 if spec.type is JobType.CONTINUOUS else spec.concurrency.max_instances
        demand(not starts or len(live) <= limit, "never more than allowed", limit, live)
        demand(not any(_holds(spec, job)) and not after.home_holds, "what is held never starts", job.holds)
        lack = after.lack
        demand(lack is None or lack.retry_at <= world.now or _is_ahead(lack, world), "what lacks waits", lack)
    for start in starts:
        run = next(active.run for active in job.active if active.run.id == start.run_id)
        wanted = spec is not None and (spec.enabled or run.trigger in DESPITE_DISABLED)
        demand(wanted, "a disabled job starts nothing of its own accord", run)
        demand(run.ending is None, "what is to end never starts", run)
    waits = {wait.run_id for wait in decided.waits}
    for active in job.active:
        told = active.live is not None or active.run.id in waits
        demand(told, "every unfinished run has a process, an action or a wait", active.run)
    for active in job.active:
        order = active.live.attempt.stop if active.live else None
        demand(active.live is None or active.run.ending is None or order is not None, "what is to end is told so")
    for active in before.active:
        demand(active.live is None or _is_kept(active.live, job, decided), "no process is forgotten", active)


def check_shared(world: World, state: State, after: State, decided: Plan) -> None:
    """What the jobs share: a queue with one place, and a lock."""
    starting = {effect.run_id for effect in decided.effects if isinstance(effect, Start)}
    again = {effect.attempt.run_id for effect in decided.effects if isinstance(effect, Relaunch)}
    live = [each for job in after.jobs.values() for each in job.active if each.live is not None]
    in_queue = [each.run for each in live if _uses(world, each.run, "queue") and each.run.trigger != "continuous"]
    new = [run for run in in_queue if run.id in starting]
    demand(not new or len(in_queue) <= 1, "one at a time in a queue", in_queue)
    locked = [
        each.run
        for each in live
        if _uses(world, each.run, "lock")
        and (each.run.id in starting | again or (each.live and _has_lock(world.jobs.get(each.run.job_id), each.live)))
    ]
    new = [run for run in locked if run.id in starting | again]
    demand(not new or len(locked) <= 1, "a lock is for one", locked)
    for run in new:
        demand(state.jobs[run.job_id].lock is not None, "a lock that was not tried is given to nobody", run)


def _uses(world: World, run: Run, field: str) -> bool:
    spec = world.jobs.get(run.job_id)
    return spec is not None and getattr(spec, field) is not None


def _holds(spec: JobSpec, job: JobState) -> Iterator[bool]:
    for hold in job.holds:
        yield hold.kind is not HoldKind.STOP or spec.type is JobType.CONTINUOUS


def _is_ahead(lack: Lack, world: World) -> bool:
    return lack.retry_at > world.now + timedelta(seconds=60)


def _is_kept(live: Observed, job: JobState, decided: Plan) -> bool:
    """Still live in the records, or recorded as over although nothing of it is alive."""
    if any(active.live and active.live.attempt.id == live.attempt.id for active in job.active):
        return True
    is_over = any(
        isinstance(write, Attempt) and write.id == live.attempt.id and write.ended_at is not None
        for write in decided.writes
    )
    return is_over and live.sight.phase is not RecordPhase.LOCKED


def check_wake(now: datetime, decided: Plan) -> None:
    at = decided.wake_at
    demand(at is None or at > now or (at == now and not decided.is_idle), "wake_at is after now", at, decided)
    for wait in decided.waits:
        on_time = wait.until is None or (at is not None and at <= wait.until)
        demand(on_time, "every wait with an end is woken for", wait, at)


def check_ledger(world: World, decided: Plan) -> None:
    """Rows of one job never overlap, and nothing that is judged is left out."""
    rows = list(world.ledger)
    for write in decided.writes:
        if isinstance(write, Slots):
            own = [row for row in rows if (row.job_id, row.first_due_at) == (write.job_id, write.first_due_at)]
            demand(all(row.run_id == write.run_id for row in own), "a slot is for one run", write, own)
            rows = [row for row in rows if row not in own]
            for row in rows:
                apart = row.last_due_at < write.first_due_at or write.last_due_at < row.first_due_at
                demand(row.job_id != write.job_id or apart, "each slot is in the ledger once", row, write)
            rows.append(write)
        elif isinstance(write, SlotsWithdrawn):
            rows = [row for row in rows if not (row.job_id == write.job_id and _is_later(row, write.after))]


def _is_later(row: Slots, moment: datetime) -> bool:
    return row.first_due_at > moment and row.run_id is None


# --- random walks ---

DEPENDENCIES = [
    (),
    (Dependency("b", Condition.AFTER_START, None),),
    (Dependency("b", Condition.AFTER_START, 10),),
    (Dependency("b", Condition.AFTER_HEALTHY, 0),),
    (Dependency("b", Condition.AFTER_COMPLETE, None), Dependency("b", Condition.AFTER_START, 10)),
    (Dependency("gone", Condition.AFTER_START, 100),),
]
jobs = st.builds(
    lambda kind, schedule, fields, run_in: changed(
        a_job(kind, schedule=schedule if kind == "scheduled" else ()),
        **fields,
        run_at=NOW + timedelta(seconds=run_in) if kind == "oneshot" else None,
    ),
    st.sampled_from(["continuous", "continuous", "manual", "scheduled", "scheduled", "oneshot"]),
    st.sampled_from(["* * * * *", "0 * * * *", "@every 90s", "30 12 1 * *"]),
    st.fixed_dictionaries(
        {},
        optional={
            "enabled": st.booleans(),
            "restart": st.sampled_from(["always", "on_failure", "never"]),
            "delays": st.sampled_from([(0,), (0, 30), (5,), (300,)]),
            "max_attempts": st.sampled_from([0, 1, 3, None]),
            "retries": st.booleans(),
            "grace": st.sampled_from([0, 1, 60]),
            "timeout": st.sampled_from([None, 1, 100]),
            "leftovers": st.sampled_from(["stop", "keep"]),
            "on_overlap": st.sampled_from(["skip", "queue", "kill_restart"]),
            "catch_up": st.sampled_from(["none", "latest", "all"]),
            "within": st.sampled_from([0, 200, 3600, 10**6]),
            "limit": st.sampled_from([0, 1, 3, 100]),
            "jitter": st.sampled_from([0, 45]),
            "max_instances": st.sampled_from([1, 2, 3]),
            "queue_excess": st.booleans(),
            "queue_timeout": st.sampled_from([0, 10, 300]),
            "process_hash": st.sampled_from(["one", "two"]),
            "queue": st.sampled_from([None, "q"]),
            "priority": st.sampled_from([Priority.LOW, Priority.HIGH]),
            "lock": st.sampled_from([None, Lock("l", LockProvider.FILE, None, 10)]),
            "dedup": st.sampled_from([None, Dedup(60, True)]),
            "depends_on": st.sampled_from(DEPENDENCIES),
        },
    ),
    st.sampled_from([-4000, -60, 0, 30, 5000]),
)
names = st.sampled_from(NAMES)
kinds = st.sampled_from([kind for kind in IntentKind if "home" not in kind and kind is not IntentKind.LOOK])
home_kinds = st.sampled_from([IntentKind.HOLD_HOME, IntentKind.RELEASE_HOME, IntentKind.RELEASE_HOME, IntentKind.LOOK])
seconds = st.sampled_from([0.05, 0.5, 1, 10, 30, 60, 90, 300, 3600, 90_000, -1, -40, -3600, -90_000, 410 * 86_400])


class Step(NamedTuple):
    name: str
    arguments: tuple[Any, ...] = ()


steps = st.one_of(
    st.builds(lambda *found: Step("advance", found), seconds),
    st.builds(lambda *found: Step("advance", found), seconds),
    st.builds(lambda *found: Step("declare", found), names, jobs),
    st.builds(lambda *found: Step("remove", found), names),
    st.builds(lambda *found: Step("ask", found), names, kinds, st.booleans()),
    st.builds(lambda *found: Step("ask", found), st.just(HOME), home_kinds, st.just(False)),
    st.builds(
        lambda *found: Step("process_ends", found),
        st.integers(0, 5),
        st.sampled_from([0, 0, 0, 1, 1, 127, 143, "lost", "missing", "blank", "failed_cwd", "draining"]),
        st.booleans(),
    ),
    st.builds(lambda *found: Step("launch_is_refused", found), st.integers(0, 5)),
    st.just(Step("leftovers_end")),
    st.just(Step("obedient_processes_end")),
    st.just(Step("reboot")),
    st.builds(lambda *found: Step("lack", found), st.sampled_from([0, 5])),
)
cycles = st.sampled_from(["lives", "lives", "lives", "dies", "asked"])


def walk(first: dict[str, JobSpec], taken: list[tuple[Step, str]]) -> World:
    world = World()
    for name, job in first.items():
        world.declare(name, job)
    for step, cycle in taken:
        getattr(world, step.name)(*step.arguments)
        world.cycle(dies=cycle == "dies", judges_slots=cycle != "asked")
    return world


walks = st.tuples(
    st.dictionaries(names, jobs, min_size=1),
    st.lists(st.tuples(steps, cycles), max_size=30),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(walks)
def test_every_plan_on_a_random_walk_keeps_the_rules(path: Any) -> None:
    walk(*path)


def test_what_was_judged_first_stands_before_the_gates_that_later_starts_of_the_plan_close() -> None:
    due = changed(a_job("oneshot", queue="q"), run_at=NOW - timedelta(seconds=60))
    first = changed(due, depends_on=(Dependency("gone", Condition.AFTER_START, None),))
    second = changed(due, priority=Priority.LOW)
    walk({"a": first, "b": second}, [(Step("obedient_processes_end", ()), "lives")]).settle()


def test_what_is_to_end_by_this_very_plan_is_up_for_nobody_any_more() -> None:
    lock = Lock("l", LockProvider.FILE, None, 10)
    needed = Dependency("b", Condition.AFTER_START, None)
    waits = changed(a_job("scheduled", schedule="* * * * *", max_instances=2), depends_on=(needed,), lock=lock)
    service = changed(a_job("continuous"), process_hash="as it was")
    steps = [Step("obedient_processes_end", ()), Step("advance", (60,)), Step("advance", (60,))]
    steps.append(Step("declare", ("b", a_job("continuous"))))
    walk({"b": service, "a": waits}, [(step, "lives") for step in steps]).settle()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(walks)
def test_once_faults_cease_what_runs_is_what_is_wanted_and_everybody_has_an_answer(path: Any) -> None:
    world = walk(*path)
    world.settle()
    for name, job in world.state.jobs.items():
        open_intents = [intent for intent in job.intents if intent.state is not IntentState.PENDING]
        demand(not open_intents, "everybody has an answer", name, open_intents)
        spec = world.jobs.get(name)
        live = sum(active.live is not None for active in job.active)
        if spec is None or world.state.home_holds:
            demand(not job.active, "nothing runs that is not wanted", name, job.active)
        elif spec.type is JobType.CONTINUOUS:
            demand(live <= 1, "one process", job.active)
            if not list(filter(None, _holds(spec, job))) and spec.enabled:
                rests = job.newest_finished is not None and job.newest_finished.state in ("failed", "succeeded")
                demand(bool(job.active) or rests, "what is wanted runs, waits or rests", job)


# --- every slot once ---

passes = st.lists(
    st.tuples(
        st.sampled_from([1, 30, 59, 60, 61, 200, 3600, 7000, -50, -4000]), st.sampled_from(["", "pause", "resume"])
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(jobs.filter(lambda job: job.type is JobType.SCHEDULED and job.enabled), passes)
def test_every_due_slot_is_in_the_ledger_exactly_once(job: JobSpec, taken: list[tuple[float, str]]) -> None:
    world = World()
    world.declare("a", job)
    world.cycle()
    since = world.now
    for seconds_later, request in taken:
        world.advance(seconds_later)
        if request:
            world.ask("a", IntentKind(request), force=False)
        world.cycle()
        # Slots that lie ahead once more come due once more, whatever the job was when they first did.
        since = min(since, world.now)
    past = [row for row in world.ledger if row.first_due_at <= world.now]
    noted = sum(row.total for row in past)
    due = timetable.due_between(timetable.schedule_key(job), since, world.now, 0).count
    demand(noted == due, "every due slot is in the ledger", noted, due, *past)
    ahead = [row for row in world.ledger if row.last_due_at > world.now]
    demand(all(row.run_id is not None for row in ahead), "of the future, only what ran is known", *ahead)


# --- a rule that cannot fail is none ---


def _more_than_allowed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Board, "live", lambda _board, _job_id: 0)


def _despite_holds(patch: pytest.MonkeyPatch) -> None:
    for module in (plan_module, runs_module):
        patch.setattr(module, "standing_gates", lambda *_: iter(()))


def _in_silence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "wait", lambda draft, _run, gate: draft.wake(gate.until))


def _busy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempts, "SWEEP_SECONDS", 0)


def _as_it_comes(patch: pytest.MonkeyPatch) -> None:
    for module in (plan_module, runs_module):
        patch.setattr(module, "sorted", lambda found, **_: list(found), raising=False)


def _in_no_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Board, "in_queue", lambda _board, _queue: [])


def _with_any_lock(patch: pytest.MonkeyPatch) -> None:
    def gates(run: Run, spec: JobSpec, board: Board, _lack: Lack | None) -> tuple[Gate, ...]:
        return (place_gate(spec, board.live(run.job_id)),)

    patch.setattr(runs_module, "shared_gates", gates)


def _restless(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempts, "KILL_AGAIN_SECONDS", 0)


def _forgetful(patch: pytest.MonkeyPatch) -> None:
    real = slots.judge

    def judge(spec: JobSpec, job: JobState, *rest: Any) -> slots.Judgement:
        return real(spec, job._replace(ran_after_cursor=frozenset(), is_run_at_judged=False), *rest)

    patch.setattr(slots, "judge", judge)


def _never_moving_on(patch: pytest.MonkeyPatch) -> None:
    real = slots._judge_due

    def judge(rows: Any, facts: Any, cursor: Any, *rest: Any, **options: Any) -> Any:
        real(rows, facts, cursor, *rest, **options)
        return cursor

    patch.setattr(slots, "_judge_due", judge)


def _unconcerned(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "order_stop", lambda *_, **__: None)


def _done_with_it(patch: pytest.MonkeyPatch) -> None:
    def watch(draft: Draft, going: Any) -> None:
        live = going.live
        timeout = live.attempt.terms.timeout_seconds
        started_at = live.attempt.started_at
        if timeout is not None and started_at is not None and draft.now >= started_at + timedelta(seconds=timeout):
            over = live.attempt._replace(ended_at=draft.now, reason=Reason.TIMED_OUT)
            draft.conclude(going, over, after_attempt(going.run, draft.spec, over, draft.now))

    patch.setattr(attempts, "_watch_timeout", watch)


def _counting_again(patch: pytest.MonkeyPatch) -> None:
    real = runs_module._start

    def start(draft: Draft, going: Any, spec: JobSpec) -> None:
        going.run = going.run._replace(attempts=0)
        real(draft, going, spec)

    patch.setattr(runs_module, "_start", start)


BROKEN: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (_more_than_allowed, "never more than allowed"),
    (_despite_holds, "what is held never starts"),
    (_in_silence, "every unfinished run has"),
    (_busy, "wake_at is after now"),
    (_as_it_comes, "order of input"),
    (_in_no_order, "one at a time in a queue"),
    (_with_any_lock, "a lock is for one|a lock that was not tried|one at a time|what lacks waits"),
    (_restless, "planning again asks for nothing"),
    (_forgetful, "what is over does not begin again|an attempt starts once|each slot is|a slot is for one run"),
    (_never_moving_on, "wake_at is after now|what is over|planning again|each slot is|an attempt starts once"),
    (_unconcerned, "what is to end is told so"),
    (_done_with_it, "no process is forgotten"),
    (_counting_again, "an attempt starts once"),
]


# A time that is in the ledger already, among others that were missed, is declared as that of a oneshot.
DECLARED_AGAIN = (
    {"a": a_job("scheduled", schedule="* * * * *")},
    [
        (Step("advance", (0.05,)), "lives"),
        (Step("advance", (90_000,)), "lives"),
        (Step("declare", ("a", changed(a_job("oneshot"), run_at=NOW + timedelta(seconds=5000)))), "lives"),
    ],
)
# A slot that runs, is over, and lies ahead again: random walks come upon it once in a thousand.
OVER_AND_OVER = (
    {"a": a_job("scheduled", schedule="* * * * *")},
    [
        (Step("advance", (1,)), "lives"),
        (Step("advance", (60,)), "lives"),
        (Step("process_ends", (0, 0, False)), "lives"),
        (Step("advance", (-40,)), "lives"),
        (Step("advance", (60,)), "lives"),
    ],
)

IN_A_QUEUE = ({"a": a_job(queue="q", max_instances=2)}, [(Step("ask", ("a", IntentKind.RUN, False)), "lives")] * 2)
TWICE = ({"a": a_job()}, [(Step("ask", ("a", IntentKind.RUN, False)), "lives")] * 2)


@pytest.mark.parametrize(("break_it", "rule"), BROKEN, ids=[each[0].__name__.lstrip("_") for each in BROKEN])
def test_a_planner_that_is_broken_is_found_out(
    break_it: Callable[[pytest.MonkeyPatch], None], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(
        max_examples=2000,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(walks)
    @example(DECLARED_AGAIN)
    @example(OVER_AND_OVER)
    @example(TWICE)
    @example(IN_A_QUEUE)
    def look_for_it(path: Any) -> None:
        walk(*path).settle()

    break_it(monkeypatch)
    with pytest.raises(RuleBroken, match=rule):
        look_for_it()


def test_the_world_of_these_rules_does_what_its_walks_say() -> None:
    world = World()
    world.declare("a", a_job("continuous", delays=(30,), grace=10))
    world.cycle()
    [live] = world._alive()
    assert (live.sight.phase, live.attempt.boot_id) == (RecordPhase.LOCKED, BOOT)
    world.process_ends(0, 1, leaves_some=True)
    decided = world.cycle()
    assert [type(effect) for effect in decided.effects] == [Signal]
    world.leftovers_end()
    decided = world.cycle()
    assert [wait.reason for wait in decided.waits] == [Reason.RETRY_DELAY]
    world.advance(30)
    assert [type(effect) for effect in world.cycle(dies=True).effects] == [Start]
    assert [type(effect) for effect in world.cycle().effects] == [Relaunch]
    world.ask("a", IntentKind.STOP, force=False)
    world.settle()
    assert world.state.jobs["a"].active == ()
    assert [intent.message for intent in world.answered] == ["stopped"]
    assert SlotOutcome.RAN not in {row.outcome for row in world.ledger}
