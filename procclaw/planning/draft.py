"""One job's plan in the making: a later step of planning sees here what an earlier one decided.

The order of the steps is in `plan`. What ends up in the plan is the difference
between the values this started from and the values the steps left.
"""

from datetime import datetime
from typing import Any

from procclaw.model.clock import after
from procclaw.model.ids import run_id
from procclaw.model.intents import Intent, IntentState
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    Attempt,
    DeadLetter,
    Hold,
    HoldKind,
    HoldLifted,
    Run,
    RunState,
    SlotOutcome,
    Slots,
    StopOrder,
    Trigger,
)
from procclaw.model.rows import Write
from procclaw.model.spec import JobSpec
from procclaw.model.state import ActiveRun, JobState, Observed, State
from procclaw.planning.actions import Effect, Plan, Wait
from procclaw.planning.gates import Gate
from procclaw.planning.outcome import finished


class Going:
    """A run that was active, or was just made, as the draft moves it on."""

    __slots__ = ("judged", "live", "over", "recorded", "run", "seen")

    def __init__(self, run: Run, live: Observed | None, recorded: Run | None) -> None:
        self.run = run
        self.recorded = recorded
        self.live = live
        self.seen = live
        self.over: Attempt | None = None
        """Its attempt that was found to be over."""
        self.judged: tuple[Run, Run] | None = None
        """Before and after, where the end of an attempt was judged, or a wait that was too long."""

    @property
    def is_over(self) -> bool:
        return not self.run.is_active

    @property
    def is_wanted(self) -> bool:
        return self.run.is_active and self.run.ending is None


class Draft:
    def __init__(self, spec: JobSpec | None, job: JobState, state: State, now: datetime) -> None:
        self.spec = spec
        self.job = job
        self.state = state
        self.now = now
        self.going = [Going(active.run, active.live, active.run) for active in job.active]
        self.holds = {hold.kind: hold for hold in job.holds}
        self.intents = {intent.id: intent for intent in job.intents}
        self.writes: list[Write] = []
        self.effects: list[Effect] = []
        self.waits: list[Wait] = []
        self.wakes: list[datetime] = []
        self.blocked: dict[str, Gate] = {}
        """By run id, the gate a waiting run met."""
        self.started: dict[str, int] = {}
        """By run id, the instance given to the attempt that this plan starts."""
        self.relaunched: set[str] = set()
        """Runs whose attempt is launched again."""
        self.awaits: dict[str, tuple[str, ...]] = {}
        """By run id, the jobs that a waiting run depends upon and that do not qualify yet."""
        self.in_the_way: set[str] = set()
        """The jobs that have to move before a waiting run can."""
        self.moving: set[str] = set()
        """Waiting runs whose wait may end without anybody doing anything: what they wait for is under way."""

    def result(self) -> Plan:
        runs = [going.run for going in self.going if going.run != going.recorded]
        failed = [run for run in runs if run.state is RunState.FAILED]
        looks = [(going.live, going.seen) for going in self.going if going.live is not None and going.seen is not None]
        attempts = [live.attempt for live, seen in looks if live.attempt != seen.attempt]
        health = [live.health for live, seen in looks if live.health is not None and live.health != seen.health]
        usage = [live.usage for live, seen in looks if live.usage is not None and live.usage != seen.usage]
        intents = [intent for intent in self.intents.values() if intent not in self.job.intents]
        return Plan(
            # Runs first: attempts refer to them, and what was found of an attempt to that.
            writes=(*runs, *attempts, *health, *usage, *self.writes, *map(self._dead_letter, failed), *intents),
            effects=tuple(self.effects),
            waits=tuple(self.waits),
            wake_at=min(self.wakes, default=None),
        )

    def _dead_letter(self, run: Run) -> DeadLetter:
        reason = run.reason or Reason.RETRIES_USED_UP
        return DeadLetter(0, run.job_id, run.id, self.now, reason, run.detail, run.exit_code, run.attempts)

    def wake(self, at: datetime | None) -> None:
        if at is not None:
            self.wakes.append(at)

    def wake_within(self, seconds: float) -> None:
        self.wakes.append(after(self.now, seconds))

    def wait(self, run: Run | None, gate: Gate) -> None:
        """Decide not to act: the run (None: the job) meets a closed gate."""
        assert gate.reason is not None
        if run is not None:
            self.blocked[run.id] = gate
        name = None if run is None else run.id
        since = gate.since or (None if run is None else run.waits_since(gate.key))
        self.waits.append(Wait(self.job.id, name, gate.reason, gate.detail, since, gate.until))
        self.wake(gate.until)

    def held_now(self) -> JobState:
        """The job with its holds as the steps so far left them, for who asks nothing of its runs: of these there may be
        thousands, each of which asks.
        """
        return self.job._replace(holds=tuple(self.holds.values()))

    def job_now(self) -> JobState:
        """The job as the steps so far left it."""
        active = tuple(ActiveRun(going.run, going.live) for going in self.going if not going.is_over)
        holds = tuple(self.holds.values())
        newest, begun = self.newest_finished(), self.newest_begun()
        return self.job._replace(holds=holds, active=active, newest_finished=newest, newest_begun=begun)

    def hold(self, kind: HoldKind, by: str, until: datetime | None = None) -> None:
        """Set a hold; one that stands already stays as it is, but for its end."""
        standing = self.holds.get(kind)
        hold = Hold(self.job.id, kind, self.now, by, until) if standing is None else standing._replace(until=until)
        if hold != standing:
            self.holds[kind] = hold
            self.writes.append(hold)
        self.wake(until)

    def lift(self, kind: HoldKind) -> bool:
        """Lift a hold; whether there was one."""
        if self.holds.pop(kind, None) is None:
            return False
        self.writes.append(HoldLifted(self.job.id, kind))
        return True

    def open_run(self, occasion: str, trigger: Trigger, due_at: datetime | None = None, **more: Any) -> Run:
        """A new run of the job; `more` are fields of `Run` that follow from the occasion.

        After an older database was put back, the occasion's run may have been found again by its record: it stands.
        """
        assert self.spec is not None
        name = run_id(self.job.id, occasion)
        known = (*(going.run for going in self.going), self.job.newest_finished)
        standing = next((run for run in known if run is not None and run.id == name), None)
        if standing is not None:
            return standing
        run = Run(
            id=name,
            job_id=self.job.id,
            occasion=occasion,
            trigger=trigger,
            state=RunState.QUEUED,
            queued_at=self.now,
            not_before_at=self.now,
            scheduled_at=due_at,
            despite_disabled=not self.spec.enabled,
            process_hash=self.spec.process_hash,
            priority=self.spec.priority,
            params=self.params(()),
        )._replace(**more)
        self.going.append(Going(run, None, None))
        return run

    def params(self, given: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """The params of a run: what was given, and the defaults of the rest; two requests are the same if these are."""
        assert self.spec is not None
        values = {param.name: param.default for param in self.spec.params if param.default is not None} | dict(given)
        return tuple(sorted(values.items()))

    def note_unstarted(self, run: Run) -> None:
        """A slot's run is over and never began: the ledger must not go on saying that it ran."""
        if run.scheduled_at is not None and run.attempts == 0 and not run.is_active:
            due_at, outcome = run.scheduled_at, SlotOutcome.SKIPPED
            self.writes.append(Slots(run.job_id, due_at, due_at, 1, outcome, run.reason, run.id, self.now))

    def end(self, going: Going, reason: Reason, *, force: bool = False) -> None:
        """Decide that a run shall be no more; a first reason stays, urgency only grows."""
        run = going.run
        going.run = run._replace(ending=run.ending or reason, ending_force=run.ending_force or force)

    def order_stop(self, going: Going, reason: Reason, detail: str = "", *, force: bool = False) -> None:
        """Put the run's attempt under orders to end, and say why; an order that stands is only made more urgent."""
        live = going.live
        assert live is not None
        attempt = live.attempt
        if attempt.stop is None:
            attempt = attempt._replace(stop=StopOrder(reason, self.now), detail=detail or attempt.detail)
        assert attempt.stop is not None
        order = attempt.stop._replace(force=attempt.stop.force or force)
        going.live = live._replace(attempt=attempt._replace(stop=order))

    def finish(self, going: Going, state: RunState, reason: Reason, detail: str = "") -> None:
        """It is over without a process that would have to be ended for that, whoever may have asked for it."""
        going.run = run = finished(going.run._replace(ending=None), state, reason, self.now, detail)
        self.note_unstarted(run)

    def conclude(self, going: Going, attempt: Attempt, run: Run) -> None:
        """Record the attempt as over, and what that made of its run."""
        self.writes.append(attempt)
        going.live = None
        going.over = attempt
        self.judge(going, run)

    def judge(self, going: Going, run: Run) -> None:
        """Record what an attempt's end, or a wait that was too long, made of the run."""
        going.judged = (going.run, run)
        going.run = run

    def active_count(self) -> int:
        """Runs under way or waiting; those for a time that has not come count for nothing yet."""
        return sum(1 for going in self.going if not going.is_over and not going.run.is_ahead(self.now))

    def succeeded(self) -> bool:
        """Whether a run is found to have succeeded in this plan."""
        return any(going.run.state is RunState.SUCCEEDED for going in self.going)

    def newest_finished(self) -> Run | None:
        over = [going.run for going in self.going[self.job.older_than_finished :] if going.is_over]
        return over[-1] if over else self.job.newest_finished

    def newest_begun(self) -> Run | None:
        over = [going.run for going in self.going[self.job.older_than_begun :] if going.is_over]
        known = (self.job.newest_begun, self.job.newest_finished, *over)
        return next((run for run in reversed(known) if run is not None and run.attempts), None)

    def open_intents(self) -> list[Intent]:
        return [intent for intent in self.intents.values() if intent.resolved_at is None]

    def answered(self, intent: Intent, state: IntentState, message: str) -> Intent:
        return intent._replace(state=state, message=message, resolved_at=self.now)

    def done(self, intent: Intent, message: str) -> Intent:
        return self.answered(intent, IntentState.DONE, message)

    def refused(self, intent: Intent, message: str) -> Intent:
        return self.answered(intent, IntentState.REFUSED, message)
