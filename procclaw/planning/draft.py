"""One job's plan in the making: a later step of planning sees here what an earlier one decided.

The steps are in `plan` (the order, and runs), `attempts` and `requests`. What ends up in the plan is the difference
between the values this started from and the values the steps left.
"""

from datetime import datetime

from procclaw.model.clock import after
from procclaw.model.ids import run_id
from procclaw.model.spec import JobSpec
from procclaw.model.state import (
    Attempt,
    Hold,
    HoldKind,
    HoldLifted,
    Intent,
    IntentState,
    JobState,
    Observed,
    Reason,
    Run,
    RunState,
    SlotOutcome,
    Slots,
    State,
    Trigger,
)
from procclaw.planning.actions import Effect, Plan, Wait, Write
from procclaw.planning.gates import Gate
from procclaw.planning.outcome import finished


class Going:
    """A run that was active, or was just made, as the draft moves it on."""

    __slots__ = ("live", "over", "recorded", "run", "seen")

    def __init__(self, run: Run, live: Observed | None, recorded: Run | None) -> None:
        self.run = run
        self.recorded = recorded
        self.live = live
        self.seen = live
        self.over: Attempt | None = None
        """Its attempt that was found to be over."""

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

    def result(self) -> Plan:
        runs = [going.run for going in self.going if going.run != going.recorded]
        attempts = [going.live.attempt for going in self.going if going.live and going.live != going.seen]
        intents = [intent for intent in self.intents.values() if intent not in self.job.intents]
        return Plan(
            # Runs first: attempts refer to them.
            writes=(*runs, *attempts, *self.writes, *intents),
            effects=tuple(self.effects),
            waits=tuple(self.waits),
            wake_at=min(self.wakes, default=None),
        )

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
        self.waits.append(Wait(self.job.id, name, gate.reason, gate.detail, gate.since, gate.until))
        self.wake(gate.until)

    def job_now(self) -> JobState:
        """The job with its holds as the requests left them."""
        return self.job._replace(holds=tuple(self.holds.values()))

    def hold(self, kind: HoldKind, by: str) -> None:
        """Set a hold; one that stands already stays as it is."""
        if kind in self.holds:
            return
        self.holds[kind] = Hold(self.job.id, kind, self.now, by)
        self.writes.append(self.holds[kind])

    def lift(self, kind: HoldKind) -> bool:
        """Lift a hold; whether there was one."""
        if self.holds.pop(kind, None) is None:
            return False
        self.writes.append(HoldLifted(self.job.id, kind))
        return True

    def open_run(self, occasion: str, trigger: Trigger, due_at: datetime | None = None) -> Run:
        assert self.spec is not None
        run = Run(
            id=run_id(self.job.id, occasion),
            job_id=self.job.id,
            occasion=occasion,
            trigger=trigger,
            state=RunState.QUEUED,
            queued_at=self.now,
            not_before_at=self.now,
            scheduled_at=due_at,
            despite_disabled=not self.spec.enabled,
            process_hash=self.spec.process_hash,
        )
        self.going.append(Going(run, None, None))
        return run

    def end(self, going: Going, reason: Reason, *, force: bool = False) -> None:
        """Decide that a run shall be no more; a first reason stays, urgency only grows."""
        run = going.run
        going.run = run._replace(ending=run.ending or reason, ending_force=run.ending_force or force)

    def finish(self, going: Going, state: RunState, reason: Reason, detail: str = "") -> None:
        going.run = run = finished(going.run, state, reason, self.now, detail)
        if run.scheduled_at is not None and run.attempts == 0:
            # Its slot was recorded as having run; it ended before it began.
            due_at, outcome = run.scheduled_at, SlotOutcome.SKIPPED
            self.writes.append(Slots(run.job_id, due_at, due_at, 1, outcome, reason, run.id, self.now))

    def conclude(self, going: Going, attempt: Attempt, run: Run) -> None:
        """Record the attempt as over, and what that made of its run."""
        self.writes.append(attempt)
        going.live = None
        going.over = attempt
        going.run = run

    def active_count(self) -> int:
        return sum(1 for going in self.going if not going.is_over)

    def live_count(self) -> int:
        """Attempts that are not over, those that this plan starts among them."""
        return sum(1 for going in self.going if going.live is not None) + len(self.started)

    def newest_finished(self) -> Run | None:
        over = [going.run for going in self.going if going.is_over]
        return over[-1] if over else self.job.newest_finished

    def open_intents(self) -> list[Intent]:
        return [intent for intent in self.intents.values() if intent.resolved_at is None]

    def answered(self, intent: Intent, state: IntentState, message: str) -> Intent:
        return intent._replace(state=state, message=message, resolved_at=self.now)

    def done(self, intent: Intent, message: str) -> Intent:
        return self.answered(intent, IntentState.DONE, message)

    def refused(self, intent: Intent, message: str) -> Intent:
        return self.answered(intent, IntentState.REFUSED, message)
