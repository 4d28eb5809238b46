"""Workflows: which steps of a chain, a group or a chord are given a run now, and when the whole is over.

A step is a run of its job like any other: it stands at the job's gates, is tried again as the job says, and may be
stopped by hand. What a workflow adds is the order, and that is decided anew each time from rows alone: its own, and the
newest run of each step. Nothing is counted down, so nothing can be left hanging or come twice, and a callback is a step
like the others.

`WorkflowRun.tries` names the run of a step that counts, by the number in its occasion. Where there is no such run yet
the step is owed one, however long it takes until there is room for it. Number and run are written together, and
planning twice names one run.

An ending is decided once, the first reason stays, and from then on no step starts. Dedup does not concern steps: a
workflow asks for each of its steps once, whoever asked for the same job meanwhile.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto

from procclaw.model.clock import after, to_microseconds
from procclaw.model.ids import run_id
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.reasons import Reason
from procclaw.model.records import WORKFLOWS, Run, RunState, Trigger, WorkflowRun
from procclaw.model.spec import JobType, OnFailure, Spec, WorkflowSpec, WorkflowType
from procclaw.model.state import JobState, State
from procclaw.planning.actions import Plan, Wait
from procclaw.planning.attempts import is_unkillable, names
from procclaw.planning.draft import Draft, Going

MOST_TRIES = 3
"""Runs that `on_failure: retry` gives a step in all; each has the attempts that the job itself allows."""

_STOPS = frozenset({Reason.CANCELLED, Reason.HOME_STOPPED, Reason.RESTORED})
"""Endings that blame no step: the workflow is stopped, not failed."""


class _Standing(Enum):
    """How a step stands."""

    LATER = auto()
    """Others come before it."""
    DUE = auto()
    """Its turn has come and it has no run yet."""
    ACTIVE = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    """Over in any other way, or its turn has come and its job cannot run."""


class _Flow:
    """A workflow run as the plan moves it on."""

    __slots__ = ("is_cancelled", "is_forced", "newest", "recorded", "run")

    def __init__(self, run: WorkflowRun, newest: Sequence[Run | None], recorded: WorkflowRun | None) -> None:
        self.run = run
        self.newest = list(newest)
        """By step, its newest run."""
        self.recorded = recorded
        self.is_cancelled = False
        self.is_forced = False

    @property
    def steps(self) -> tuple[str, ...]:
        return self.run.spec.steps

    def end(self, reason: Reason, detail: str = "") -> None:
        if self.run.ending is None:
            self.run = self.run._replace(ending=reason, detail=detail)

    def occasion(self, step: int, number: int) -> str:
        return f"workflow:{self.run.id}:{step}:{number}"

    def grant(self, step: int, number: int) -> None:
        tries = self.run.tries
        self.run = self.run._replace(tries=(*tries[:step], number, *tries[step + 1 :]))

    def named(self, steps: Collection[int]) -> str:
        """For people: the jobs of these steps."""
        return ", ".join(self.steps[step] for step in steps)


def with_steps(state: State, jobs: frozenset[str]) -> frozenset[str]:
    """The jobs; where they have to do with a workflow, with all of its steps: whoever sees a step end must see what
    follows, nothing else would tell the workflow.
    """
    of_requests = state.jobs.get(WORKFLOWS) or JobState(WORKFLOWS)
    orders = [intent.details.workflow for intent in of_requests.intents if intent.details.workflow is not None]
    steps = {job_id for spec in (*(each.run.spec for each in state.workflows), *orders) for job_id in spec.steps}
    is_concerned = WORKFLOWS in jobs or not jobs.isdisjoint(steps)
    return jobs | steps | {WORKFLOWS} if is_concerned else jobs


def are_concerned(state: State, acts_on: Collection[str] | None) -> bool:
    """Whether a plan that acts on these jobs (None: all) has anything to do with workflows."""
    if acts_on is not None and WORKFLOWS not in acts_on:
        return False
    of_requests = state.jobs.get(WORKFLOWS)
    return bool(state.workflows) or (of_requests is not None and bool(of_requests.intents))


class Workflows:
    """The workflows of one plan in the making."""

    def __init__(self, spec: Spec, state: State, drafts: Mapping[str, Draft], now: datetime) -> None:
        self._spec = spec
        self._drafts = drafts
        self._draft = Draft(None, state.jobs.get(WORKFLOWS) or JobState(WORKFLOWS), state, now)
        self._now = now
        self._flows = {each.run.id: _Flow(each.run, each.steps, each.run) for each in state.workflows}
        self._underway: list[Going] = []
        """The runs of steps that this plan found or made."""

    def result(self) -> Plan:
        return self._draft.result()

    def advance(self) -> None:
        """Take the requests, give runs to the steps that are due, and end what is over."""
        for intent in self._draft.job.intents:
            self._draft.intents[intent.id] = self._take(intent)
        for flow in self._flows.values():
            if flow.run.is_active:
                self._advance(flow)
            if flow.run != flow.recorded:
                self._draft.writes.append(flow.run)
        for intent in self._draft.open_intents():
            self._draft.intents[intent.id] = self._answer_cancel(intent)

    def look_back(self) -> None:
        """Steps that came to their end after they were looked at (held, expired) are looked at again at once."""
        if any(going.is_over for going in self._underway):
            self._draft.wake(self._now)

    # --- requests ---

    def _take(self, intent: Intent) -> Intent:
        match intent.kind:
            case IntentKind.WORKFLOW:
                return self._take_start(intent)
            case IntentKind.CANCEL_WORKFLOW:
                return self._take_cancel(intent)
            case IntentKind.RETRY_WORKFLOW:
                return self._take_retry(intent)
            case _:
                return self._draft.refused(intent, f"{intent.kind} does not concern a workflow")

    def _take_start(self, intent: Intent) -> Intent:
        workflow, name = intent.details.workflow, intent.details.workflow_name
        if workflow is None:
            return self._draft.refused(intent, "cannot start a workflow: the request does not say which")
        refusal = self._ruled_out(workflow.steps)
        if refusal is not None:
            what = f'workflow "{name}"' if name else f"this {workflow.type}"
            return self._draft.refused(intent, f"cannot start {what}: {refusal}")
        run = WorkflowRun(
            # With the time: a database that was put back hands out the same numbers again, for other requests.
            id=run_id("workflow", f"intent:{intent.id}@{to_microseconds(intent.requested_at)}"),
            name=name,
            spec=workflow,
            state=RunState.RUNNING,
            queued_at=self._now,
            by=intent.requested_by,
            tries=(0,) * len(workflow.steps),
            deadline_at=self._deadline_at(workflow),
            request=intent.id,
        )
        self._flows[run.id] = _Flow(run, [None] * len(workflow.steps), None)
        return self._with_run(intent, run, f"started as workflow run {run.id}")

    def _take_cancel(self, intent: Intent) -> Intent:
        flow = self._flows.get(intent.details.workflow_run)
        if flow is None:
            return self._unknown(intent)
        if not flow.run.is_active:
            return self._out_of_place(intent, f"it is over ({flow.run.state})")
        flow.is_cancelled = True
        flow.is_forced = flow.is_forced or intent.force
        flow.end(Reason.CANCELLED, f"by {intent.requested_by}")
        return intent._replace(state=IntentState.ACCEPTED)

    def _take_retry(self, intent: Intent) -> Intent:
        flow = self._flows.get(intent.details.workflow_run)
        if flow is None:
            return self._unknown(intent)
        if flow.run.is_active:
            return self._out_of_place(intent, "it is not over")
        if flow.run.state is RunState.SUCCEEDED:
            return self._out_of_place(intent, "it succeeded")
        forgotten = [step for step, tries in enumerate(flow.run.tries) if tries and self._current(flow, step) is None]
        if forgotten:
            # To run again what has succeeded would be worse than to refuse.
            return self._out_of_place(intent, f"its history is gone: how {flow.named(forgotten)} ended is not known")
        again = [step for step, run in enumerate(flow.newest) if run is None or run.state is not RunState.SUCCEEDED]
        refusal = self._ruled_out([flow.steps[step] for step in again])
        if refusal is not None:
            return self._out_of_place(intent, refusal)
        for step in again:
            if self._current(flow, step) is not None:
                flow.grant(step, flow.run.tries[step] + 1)
        flow.run = flow.run._replace(
            state=RunState.RUNNING,
            queued_at=self._now,
            finished_at=None,
            reason=None,
            detail="",
            ending=None,
            deadline_at=self._deadline_at(flow.run.spec),
        )
        return self._with_run(intent, flow.run, f"goes on with {flow.named(again)}")

    def _ruled_out(self, jobs: Sequence[str]) -> str | None:
        if self._draft.state.home_holds:
            return "all jobs were stopped; procclaw daemon start lets them go again"
        return next((fault for fault in map(self._unfit, jobs) if fault is not None), None)

    def _unfit(self, job_id: str) -> str | None:
        """Why the job cannot be a step; None: it can."""
        spec = self._spec.jobs.get(job_id)
        if spec is None:
            return f'there is no job "{job_id}"'
        if spec.type is JobType.CONTINUOUS:
            return f"{job_id} is continuous, so it never ends"
        needed = next((param.name for param in spec.params if param.is_required and param.default is None), None)
        return None if needed is None else f"{job_id} needs the param {needed}, which a workflow does not give"

    def _unknown(self, intent: Intent) -> Intent:
        return self._out_of_place(intent, "there is none of that name")

    def _out_of_place(self, intent: Intent, why: str) -> Intent:
        verb = "cancel" if intent.kind is IntentKind.CANCEL_WORKFLOW else "retry"
        return self._draft.refused(intent, f"cannot {verb} workflow run {intent.details.workflow_run}: {why}")

    def _with_run(self, intent: Intent, run: WorkflowRun, message: str) -> Intent:
        return self._draft.done(intent._replace(details=intent.details._replace(workflow_run=run.id)), message)

    def _answer_cancel(self, intent: Intent) -> Intent:
        flow = self._flows[intent.details.workflow_run]
        if not flow.run.is_active:
            is_cancelled = flow.run.reason is Reason.CANCELLED
            return self._draft.done(intent, "cancelled" if is_cancelled else f"it had ended already: {flow.run.state}")
        active = [(step, going) for step in range(len(flow.steps)) if (going := self._going(flow, step)) is not None]
        for step, going in active:
            if going.live is not None and is_unkillable(going.live.attempt.stop, self._now):
                left = names(going.live.members or ())
                return self._out_of_place(intent, f"{flow.steps[step]} was killed, but still there: {left}")
        return intent._replace(message=f"stops {flow.named([step for step, _ in active])}")

    # --- one workflow ---

    def _advance(self, flow: _Flow) -> None:
        limit_at = self._deadline_at(flow.run.spec)
        if flow.run.deadline_at is not None and limit_at is not None:
            # The clock may have been set back since: the whole takes no longer for that.
            flow.run = flow.run._replace(deadline_at=min(flow.run.deadline_at, limit_at))
        self._grant_retries(flow)
        standings = self._settled(flow)
        is_waited_for = _Standing.ACTIVE in standings
        has_more = flow.run.ending is None and not {_Standing.DUE, _Standing.LATER}.isdisjoint(standings)
        if not is_waited_for and not has_more:
            self._finish(flow, standings)
            return
        self._underway += (going for step in range(len(standings)) if (going := self._going(flow, step)) is not None)
        self._wait_for_room(flow, standings)
        if not self._is_overdue(flow):
            self._draft.wake(flow.run.deadline_at)

    def _settled(self, flow: _Flow) -> list[_Standing]:
        """How its steps stand once everything has been done that can be done now; one thing leads to another."""
        before: list[_Standing] = []
        standings = self._standings(flow)
        while standings != before and any(standing is not _Standing.SUCCEEDED for standing in standings):
            self._judge_ending(flow, standings)
            if flow.run.ending is None:
                self._open_due(flow, standings)
            else:
                self._end_steps(flow)
            before, standings = standings, self._standings(flow)
        return standings

    def _deadline_at(self, workflow: WorkflowSpec) -> datetime | None:
        return None if workflow.timeout_seconds is None else after(self._now, workflow.timeout_seconds)

    def _is_overdue(self, flow: _Flow) -> bool:
        return flow.run.deadline_at is not None and flow.run.deadline_at <= self._now

    def _grant_retries(self, flow: _Flow) -> None:
        if flow.run.spec.on_failure is not OnFailure.RETRY or flow.run.ending is not None:
            return
        for step, tries in enumerate(flow.run.tries):
            run = self._current(flow, step)
            # What somebody stopped, revoked or let expire was not the job's failure, and would only be again.
            if run is not None and run.state is RunState.FAILED and tries < MOST_TRIES:
                flow.grant(step, tries + 1)

    def _standings(self, flow: _Flow) -> list[_Standing]:
        standings: list[_Standing] = []
        has_come = True
        goes_on = {_Standing.SUCCEEDED}
        if flow.run.spec.on_failure is OnFailure.CONTINUE:
            goes_on.add(_Standing.FAILED)
        for wave in _waves(flow.run.spec):
            found = [self._standing(flow, step, has_come=has_come) for step in wave]
            standings += found
            has_come = has_come and goes_on.issuperset(found)
        return standings

    def _standing(self, flow: _Flow, step: int, *, has_come: bool) -> _Standing:
        run = self._current(flow, step)
        if run is None:
            if not has_come:
                return _Standing.LATER
            return _Standing.DUE if self._unfit(flow.steps[step]) is None else _Standing.FAILED
        if run.is_active:
            return _Standing.ACTIVE
        return _Standing.SUCCEEDED if run.state is RunState.SUCCEEDED else _Standing.FAILED

    def _current(self, flow: _Flow, step: int) -> Run | None:
        """The step's run that counts, as the plan has left it so far; None: it is owed one."""
        run = flow.newest[step]
        if run is None or run.occasion != flow.occasion(step, flow.run.tries[step]):
            return None
        going = self._found(flow, step)
        return run if going is None else going.run

    def _found(self, flow: _Flow, step: int) -> Going | None:
        """The step's newest run in the draft of its job."""
        run, draft = flow.newest[step], self._drafts.get(flow.steps[step])
        if run is None or draft is None:
            return None
        return next((going for going in draft.going if going.run.id == run.id), None)

    def _going(self, flow: _Flow, step: int) -> Going | None:
        """The step's run while it is active."""
        going = self._found(flow, step)
        return None if going is None or going.is_over else going

    def _judge_ending(self, flow: _Flow, standings: Sequence[_Standing]) -> None:
        state = self._draft.state
        if state.home_holds:
            # Who stops everything has stopped this too: to fail it would blame its steps, and to go on later would
            # start jobs that nobody is thinking of any more. `workflow retry` goes on with it.
            flow.end(Reason.HOME_STOPPED, f"by {state.home_holds[0].by}")
        if state.restored_until is not None and flow.run.queued_at <= state.restored_until:
            # An older database does not know how far it has come since; nothing is run twice on a guess.
            flow.end(Reason.RESTORED, "the database was restored, so how far it has come is not known")
        if _Standing.FAILED in standings and flow.run.spec.on_failure is not OnFailure.CONTINUE:
            flow.end(Reason.STEP_FAILED)
        if self._is_overdue(flow):
            flow.end(Reason.WORKFLOW_TIMEOUT)

    def _end_steps(self, flow: _Flow) -> None:
        is_overdue, is_cancelled = self._is_overdue(flow), flow.is_cancelled or flow.run.ending is Reason.CANCELLED
        if self._draft.state.home_holds and not is_overdue and not is_cancelled:
            return  # the hold ends them, dependants first
        reason = Reason.WORKFLOW_TIMEOUT if is_overdue and not is_cancelled else Reason.CANCELLED
        for step, job_id in enumerate(flow.steps):
            going = self._going(flow, step)
            if going is None:
                continue
            if going.live is None:
                self._drafts[job_id].finish(going, RunState.STOPPED, going.run.ending or reason)
            elif is_overdue or is_cancelled:
                self._drafts[job_id].end(going, reason, force=flow.is_forced)

    # --- steps ---

    def _open_due(self, flow: _Flow, standings: Sequence[_Standing]) -> None:
        room = self._room(flow, standings)
        for step, standing in enumerate(standings):
            draft = self._drafts.get(flow.steps[step])
            if standing is _Standing.DUE and room > 0 and draft is not None:
                self._open(flow, step, draft)
                room -= 1

    def _room(self, flow: _Flow, standings: Sequence[_Standing]) -> int:
        limit = flow.run.spec.max_parallel
        return len(standings) if limit is None else limit - standings.count(_Standing.ACTIVE)

    def _wait_for_room(self, flow: _Flow, standings: Sequence[_Standing]) -> None:
        """Say why steps that are due were given no run."""
        if flow.run.ending is not None:
            return
        detail = f"workflow run {flow.run.id}: at most {flow.run.spec.max_parallel} of its steps at a time"
        for step, standing in enumerate(standings):
            if standing is not _Standing.DUE:
                continue
            if self._room(flow, standings) > 0:
                self._draft.wake(self._now)  # it was asked for after the jobs of this cycle had been chosen
            else:
                self._draft.waits.append(Wait(flow.steps[step], None, Reason.MAX_PARALLEL, detail, None, None))

    def _open(self, flow: _Flow, step: int, draft: Draft) -> None:
        assert draft.spec is not None
        number = flow.run.tries[step] or 1
        last = draft.job.newest_finished
        taken = {going.run.id for going in draft.going} | ({last.id} if last is not None else set())
        while run_id(draft.job.id, flow.occasion(step, number)) in taken:
            number += 1  # an older database did not know of that run; it was taken in from its record
        flow.grant(step, number)
        most, active = draft.spec.concurrency.max_instances, draft.active_count()
        run = draft.open_run(flow.occasion(step, number), Trigger.WORKFLOW, workflow_run=flow.run.id, step=step)
        flow.newest[step] = run
        if active >= most and not draft.spec.concurrency.queue_excess:
            detail = f"{active} of at most {most} active"
            draft.finish(draft.going[-1], RunState.SKIPPED, Reason.QUEUE_FULL, detail)

    # --- the end ---

    def _finish(self, flow: _Flow, standings: Sequence[_Standing]) -> None:
        unmet = [step for step, standing in enumerate(standings) if standing is not _Standing.SUCCEEDED]
        if not unmet:
            state, reason, detail = RunState.SUCCEEDED, Reason.FINISHED, ""
        else:
            reason = flow.run.ending or Reason.STEP_FAILED
            state = RunState.STOPPED if reason in _STOPS else RunState.FAILED
            detail = flow.run.detail
        if reason is Reason.STEP_FAILED:
            failed = [
                step for step in unmet if standings[step] is _Standing.FAILED and not self._was_spared(flow, step)
            ]
            total = len(standings)
            detail = f"{len(failed)} of {total} {'step' if total == 1 else 'steps'} failed: {flow.named(failed)}"
        elif reason is Reason.WORKFLOW_TIMEOUT:
            detail = f"not done within {flow.run.spec.timeout_seconds:g} s: {flow.named(unmet)}"
        for step, tries in enumerate(flow.run.tries):
            if tries and self._current(flow, step) is None:
                # It was owed another run and gets none: from now on one that is not there is one that history lost.
                flow.grant(step, _number(flow.newest[step]))
        flow.run = flow.run._replace(state=state, reason=reason, detail=detail, finished_at=self._now)

    def _was_spared(self, flow: _Flow, step: int) -> bool:
        """It did not fail: it waited when another one did."""
        run = self._current(flow, step)
        return run is not None and run.state is RunState.STOPPED and run.reason is Reason.CANCELLED


def _number(run: Run | None) -> int:
    """That stands in the occasion of a step's run; 0: there is none."""
    return 0 if run is None else int(run.occasion.rpartition(":")[2])


def _waves(workflow: WorkflowSpec) -> Iterator[range]:
    """The steps that may be under way together, one wave after the other."""
    header, steps = len(workflow.jobs), len(workflow.steps)
    if workflow.type is WorkflowType.CHAIN:
        yield from (range(step, step + 1) for step in range(steps))
    else:
        yield range(header)
        yield range(header, steps)
