"""Which steps of a workflow start when, and how the whole ends: rows, and plays in which the manager may die anywhere.

A play carries whole plans out in a world of values; what it must never see is a step that runs beside itself, one that
runs again after it has succeeded, or a workflow that comes to no end.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from procclaw.engine.home import Home
from procclaw.engine.observing import EVERYTHING, Observer
from procclaw.model.ids import run_id
from procclaw.model.intents import Details, Intent, IntentKind, IntentState
from procclaw.model.outside import Process
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, WORKFLOWS, Event, Hold, HoldKind, Run, RunState, Trigger, WorkflowRun
from procclaw.model.spec import Condition, Dependency, JobSpec, OnFailure, Param, Spec, WorkflowSpec, WorkflowType
from procclaw.model.state import ActiveRun, JobState, State, WorkflowState
from procclaw.planning.actions import Plan, Signal, Start, Wait
from procclaw.planning.journal import events
from procclaw.planning.plan import plan, plans
from procclaw.planning.preview import plan_view
from procclaw.planning.workflows import with_steps
from procclaw.system.watch import wake
from tests.builders import (
    HOME_HELD,
    NOW,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_start,
    a_state,
    ago,
    alive,
    an_attempt,
    an_intent,
    an_order,
    carried_out,
    changed,
    committed,
    done,
    ended,
    exited,
    later,
    over,
    refused,
    started,
    waiting,
    with_process,
)
from tests.driver import STAYS, Driver, noting, until

NAMES = "abcde"
A, B, C, D, E = (a_job(retries=False)._replace(id=name, name=name) for name in NAMES)
JOBS = a_spec(A, B, C, D, E)
FLOW = "flow"
REASON = "a workflow's step"


# --- builders ---


def a_workflow(kind: str, jobs: str, callback: str | None = None, **fields: Any) -> WorkflowSpec:
    """`jobs`: one letter a step."""
    workflow = WorkflowSpec(WorkflowType(kind), tuple(jobs), callback, OnFailure.STOP, None, None, pass_results=True)
    return workflow._replace(**fields)


def chain(jobs: str, **fields: Any) -> WorkflowSpec:
    return a_workflow("chain", jobs, **fields)


def group(jobs: str, **fields: Any) -> WorkflowSpec:
    return a_workflow("group", jobs, **fields)


def chord(jobs: str, callback: str, **fields: Any) -> WorkflowSpec:
    return a_workflow("chord", jobs, callback, **fields)


def a_flow(workflow: WorkflowSpec, *tries: int, **fields: Any) -> WorkflowRun:
    """A run of the workflow that alice asked for a minute ago; `tries` by step, the rest 0."""
    padded = (*tries, *(0,) * (len(workflow.steps) - len(tries)))
    flow = WorkflowRun(FLOW, "", workflow, RunState.RUNNING, ago(60), "alice", padded, request=7)
    return flow._replace(**fields)


def that_is_over(flow: WorkflowRun, state: str, reason: Reason, detail: str = "", **fields: Any) -> WorkflowRun:
    ended = flow._replace(state=RunState(state), reason=reason, detail=detail, finished_at=NOW)
    return ended._replace(**fields)


def a_step(flow: WorkflowRun, step: int, state: str = "queued", number: int = 1, **fields: Any) -> Run:
    """The run that a step was given as its `number`th; just now, unless it has begun."""
    if state == "queued":
        fields = {"queued_at": NOW, "not_before_at": NOW, **fields}
    occasion = f"workflow:{flow.id}:{step}:{number}"
    job_id = flow.spec.steps[step]
    run = a_run(state, trigger="workflow", job_id=job_id, occasion=occasion, workflow_run=flow.id, step=step)
    return run._replace(**fields)


def a_home(
    flow: WorkflowRun | None = None,
    runs: Iterable[Run] = (),
    intents: Iterable[Intent] = (),
    active: Iterable[ActiveRun] = (),
    **fields: Any,
) -> State:
    """A home with all jobs and one workflow run, of which these are the newest runs of its steps.

    Those of them that are active have a process, or wait for one; `active` says otherwise.
    """
    runs = list(runs)
    known = {each.run.id: each for each in active}
    jobs = {name: JobState(name) for name in (*NAMES, HOME)}
    jobs[WORKFLOWS] = JobState(WORKFLOWS, intents=tuple(intents))
    for run in runs:
        if run.is_active:
            seen = known.get(run.id) or (with_process(run, A) if run.state is RunState.RUNNING else waiting(run))
            job = jobs[run.job_id]
            jobs[run.job_id] = job._replace(active=(*job.active, seen))
    jobs |= {job.id: job for job in fields.pop("jobs", ())}
    state = a_state(*jobs.values(), **fields)
    if flow is None:
        return state
    newest: list[Run | None] = [None] * len(flow.spec.steps)
    for run in runs:
        assert run.step is not None
        newest[run.step] = run
    return state._replace(workflows=(WorkflowState(flow, tuple(newest)),))


def decided(state: State, spec: Spec = JOBS, now: datetime = NOW, **fields: Any) -> Plan:
    return plan(spec, state, now, **fields)


def told(found: Plan) -> WorkflowRun:
    """The one row about a workflow that a plan writes."""
    rows = [write for write in found.writes if isinstance(write, WorkflowRun)]
    assert len(rows) == 1, found
    return rows[0]


def runs_made(found: Plan) -> list[Run]:
    """The runs of steps that a plan makes."""
    runs = [write for write in found.writes if isinstance(write, Run) and write.trigger is Trigger.WORKFLOW]
    return [run for run in runs if run.queued_at == NOW]


def asked(workflow: WorkflowSpec, name: str = "", **fields: Any) -> Intent:
    details = Details(workflow=workflow, workflow_name=name)
    return an_intent("workflow", job_id=WORKFLOWS, details=details)._replace(**fields)


def about(kind: str, flow: str = FLOW, number: int = 1, **fields: Any) -> Intent:
    """A request to cancel or retry a workflow run."""
    return an_intent(kind, number, job_id=WORKFLOWS, details=Details(workflow_run=flow))._replace(**fields)


def id_of(intent: Intent) -> str:
    return run_id("workflow", f"intent:{intent.id}@{round(NOW.timestamp()) * 1_000_000}")


def answered(intent: Intent, message: str) -> Intent:
    """A request that was granted, with the run it made or was about."""
    run = intent.details.workflow_run or id_of(intent)
    return done(intent, message)._replace(details=intent.details._replace(workflow_run=run))


# --- asking for one ---


def first_of(workflow: WorkflowSpec, intent: Intent, *tries: int, **fields: Any) -> WorkflowRun:
    """The run that the request makes, as it is first written."""
    return a_flow(workflow, *tries, id=id_of(intent), queued_at=NOW, request=intent.id, **fields)


@pytest.mark.parametrize(
    ("workflow", "first"),
    [
        (chain("abc"), [0]),
        (group("abc"), [0, 1, 2]),
        (group("abc", max_parallel=3), [0, 1, 2]),
        (chord("ab", "c"), [0, 1]),
        (chord("", "c"), [0]),
    ],
    ids=["chain", "group", "group with room enough", "chord", "chord without any before the callback"],
)
def test_a_workflow_that_is_asked_for_gives_its_first_steps_their_runs_at_once(
    workflow: WorkflowSpec, first: list[int]
) -> None:
    intent = asked(workflow, "nightly")
    tries = [1 if step in first else 0 for step in range(len(workflow.steps))]
    flow = first_of(workflow, intent, *tries, name="nightly")
    steps = [a_step(flow, step) for step in first]
    assert decided(a_home(intents=[intent])) == Plan(
        writes=(*(started(step) for step in steps), flow, answered(intent, f"started as workflow run {flow.id}")),
        effects=tuple(a_start(step, A, REASON) for step in steps),
    )


@pytest.mark.parametrize("workflow", [chain(""), group("")], ids=["chain", "group"])
def test_an_empty_workflow_is_over_as_soon_as_it_is_asked_for(workflow: WorkflowSpec) -> None:
    intent = asked(workflow)
    flow = that_is_over(first_of(workflow, intent), "succeeded", Reason.FINISHED)
    assert decided(a_home(intents=[intent])) == Plan(
        writes=(flow, answered(intent, f"started as workflow run {flow.id}"))
    )


def test_a_group_gives_no_more_runs_at_a_time_than_it_may() -> None:
    intent = asked(group("abcd", max_parallel=2))
    found = decided(a_home(intents=[intent]))
    assert told(found).tries == (1, 1, 0, 0)
    detail = f"workflow run {id_of(intent)}: at most 2 of its steps at a time"
    assert found.waits == tuple(Wait(job, None, Reason.MAX_PARALLEL, detail, None, None) for job in "cd")


def test_one_job_may_be_several_steps() -> None:
    intent = asked(group("aab"))
    found = decided(a_home(intents=[intent]))
    assert [(run.job_id, run.step) for run in runs_made(found)] == [("a", 0), ("a", 1), ("b", 2)]
    assert [effect.run_id for effect in found.effects if isinstance(effect, Start)] == [
        run.id for run in runs_made(found) if run.step != 1
    ]


def test_a_time_limit_counts_from_the_asking_and_the_loop_is_woken_for_it() -> None:
    intent = asked(chain("ab", timeout_seconds=90.0))
    found = decided(a_home(intents=[intent]))
    assert told(found).deadline_at == later(90)
    assert plans(JOBS, a_home(intents=[intent]), NOW)[WORKFLOWS].wake_at == later(90)


SERVICE = a_job("continuous")._replace(id="a")
NEEDY = A._replace(params=(Param("day", None, "", True, None),))


@pytest.mark.parametrize(
    ("workflow", "spec", "home", "name", "message"),
    [
        (chain("axb"), JOBS, {}, "nightly", 'workflow "nightly": there is no job "x"'),
        (chord("ab", "x"), JOBS, {}, "", 'this chord: there is no job "x"'),
        (chain("ab"), a_spec(SERVICE, B), {}, "", "this chain: a is continuous, so it never ends"),
        (group("ab"), a_spec(NEEDY, B), {}, "", "this group: a needs the param day, which a workflow does not give"),
        (
            chain("ab"),
            JOBS,
            {"home_holds": HOME_HELD},
            "",
            "this chain: all jobs were stopped; procclaw daemon start lets them go again",
        ),
    ],
    ids=["unknown job", "unknown callback", "continuous", "needs a param", "everything stopped"],
)
def test_a_workflow_that_could_not_end_is_refused(
    workflow: WorkflowSpec, spec: Spec, home: dict[str, Any], name: str, message: str
) -> None:
    intent = asked(workflow, name)
    state = a_home(intents=[intent], jobs=[JobState(HOME, holds=home.get("home_holds", ()))], **home)
    assert plans(spec, state, NOW)[WORKFLOWS] == Plan(writes=(refused(intent, f"cannot start {message}"),))


def test_what_is_no_request_about_a_workflow_is_refused() -> None:
    nothing, start = about("workflow", ""), about("start", "", 2)
    found = decided(a_home(intents=[nothing, start]))
    assert found.writes == (
        refused(nothing, "cannot start a workflow: the request does not say which"),
        refused(start, "start does not concern a workflow"),
    )


def test_a_step_stands_at_the_gates_of_its_job() -> None:
    held = JobState("a", holds=(a_hold("pause", job_id="a"),))
    found = decided(a_home(intents=[asked(chain("ab"))], jobs=[held]))
    assert found.effects == ()
    assert [(wait.job_id, wait.reason) for wait in found.waits] == [("a", Reason.PAUSED)]
    assert told(found).tries == (1, 0)


def test_a_job_that_is_disabled_runs_as_a_step() -> None:
    spec = a_spec(changed(A, enabled=False), B)
    assert len(decided(a_home(intents=[asked(chain("ab"))]), spec).effects) == 1


@pytest.mark.parametrize("busy_with", [1, 2])
def test_a_step_whose_job_lets_nothing_wait_is_skipped_and_has_failed(busy_with: int) -> None:
    spec = a_spec(changed(A, queue_excess=False), B)
    others = [with_process(a_run("running", job_id="a", occasion=f"intent:{number}"), A) for number in range(busy_with)]
    busy = a_job_state(*others, id="a")
    intent = asked(chain("ab"))
    found = decided(a_home(intents=[intent], jobs=[busy]), spec)
    [run] = runs_made(found)
    detail = f"{busy_with} of at most 1 active"
    assert (run.state, run.reason, run.detail) == (RunState.SKIPPED, Reason.QUEUE_FULL, detail)
    flow = first_of(chain("ab"), intent, 1)
    ending = {"ending": Reason.STEP_FAILED}
    assert told(found) == that_is_over(flow, "failed", Reason.STEP_FAILED, "1 of 2 steps failed: a", **ending)


# --- going on ---


def test_nothing_is_planned_for_workflows_where_there_are_none() -> None:
    quiet = a_state(*(JobState(name) for name in NAMES), JobState(WORKFLOWS))
    assert WORKFLOWS not in plans(JOBS, quiet, NOW)


def test_whoever_sees_a_step_end_sees_all_steps_of_its_workflow_and_nobody_else() -> None:
    state = a_home(a_flow(group("ab")), intents=[asked(chain("de"))])
    whole = {"a", "b", "d", "e", WORKFLOWS}
    assert with_steps(state, frozenset("c")) == {"c"}
    assert with_steps(state, frozenset("a")) == whole
    assert with_steps(state, frozenset("ec")) == whole | {"c"}
    assert with_steps(state, frozenset({WORKFLOWS})) == whole
    quiet = a_state(*(JobState(name) for name in NAMES))
    assert with_steps(quiet, frozenset("a")) == {"a"}


def test_a_workflow_of_which_nobody_asks_anything_goes_on_all_the_same() -> None:
    state = a_home(a_flow(chain("ab")))
    state = state._replace(jobs={name: job for name, job in state.jobs.items() if name != WORKFLOWS})
    assert [run.job_id for run in runs_made(plan(JOBS, state, NOW))] == ["a"]


def test_a_workflow_whose_steps_are_under_way_asks_for_nothing() -> None:
    flow = a_flow(group("ab"), 1, 1)
    state = a_home(flow, [a_step(flow, 0, "running"), a_step(flow, 1, "running")])
    assert plans(JOBS, state, NOW)[WORKFLOWS] == Plan()


def test_the_next_step_of_a_chain_starts_in_the_plan_that_sees_the_one_before_succeed() -> None:
    flow = a_flow(chain("abc"), 1)
    run = a_step(flow, 0, "running")
    attempt = an_attempt(run, A)
    state = a_home(flow, [run], active=[ActiveRun(run, exited(attempt))])
    following = a_step(flow, 1)
    assert decided(state) == Plan(
        writes=(
            over(run, "succeeded", Reason.FINISHED, exit_code=0),
            ended(attempt, Reason.EXITED, 0),
            started(following),
            flow._replace(tries=(1, 1, 0)),
        ),
        effects=(a_start(following, B, REASON),),
    )


@pytest.mark.parametrize(
    ("workflow", "states", "wanted"),
    [
        (chain("abc"), "s", [1]),
        (chain("abc"), "ss", [2]),
        (chain("abc"), "sss", "succeeded"),
        (chain("abc"), "r", []),
        (chain("abc"), "q", []),
        (chain("abc"), "f", "1 of 3 steps failed: a"),
        (chain("abc"), "sf", "1 of 3 steps failed: b"),
        (chain("a"), "f", "1 of 1 step failed: a"),
        (chain("abc", on_failure=OnFailure.CONTINUE), "f", [1]),
        (chain("abc", on_failure=OnFailure.CONTINUE), "fsf", "2 of 3 steps failed: a, c"),
        (chain("abc", on_failure=OnFailure.CONTINUE), "fss", "1 of 3 steps failed: a"),
        (group("abc"), "sss", "succeeded"),
        (group("abc"), "srs", []),
        (group("abc"), "frs", []),
        (group("abc"), "fss", "1 of 3 steps failed: a"),
        (group("abc", max_parallel=2), "rr", []),
        (group("abc", max_parallel=2), "rs", [2]),
        (group("abc", max_parallel=2), "ss", [2]),
        (group("abc", max_parallel=1), "s", [1]),
        (group("abc", max_parallel=1), "f", "1 of 3 steps failed: a"),
        (group("abc", max_parallel=1, on_failure=OnFailure.CONTINUE), "f", [1]),
        (group("abc", on_failure=OnFailure.CONTINUE), "fsf", "2 of 3 steps failed: a, c"),
        (chord("ab", "c"), "ss", [2]),
        (chord("ab", "c"), "sr", []),
        (chord("ab", "c"), "sf", "1 of 3 steps failed: b"),
        (chord("ab", "c"), "fr", []),
        (chord("ab", "c"), "ssr", []),
        (chord("ab", "c"), "sss", "succeeded"),
        (chord("ab", "c"), "ssf", "1 of 3 steps failed: c"),
        (chord("", "c"), "s", "succeeded"),
        (chord("a", "c"), "s", [1]),
        (chord("abc", "d", max_parallel=2), "ss", [2]),
        (chord("abc", "d", max_parallel=2), "sss", [3]),
        (chord("ab", "c", on_failure=OnFailure.CONTINUE), "ff", [2]),
        (chord("ab", "c", on_failure=OnFailure.CONTINUE), "fr", []),
        (chord("ab", "c", on_failure=OnFailure.CONTINUE), "fss", "1 of 3 steps failed: a"),
    ],
)
def test_what_follows_from_how_the_steps_stand(workflow: WorkflowSpec, states: str, wanted: list[int] | str) -> None:
    """`states`, a letter a step: succeeded, failed, running, queued; `wanted`: the steps that start, or the end."""
    flow = a_flow(workflow, *(1 for _ in states))
    words = {"s": "succeeded", "f": "failed", "r": "running", "q": "queued"}
    state = a_home(flow, [a_step(flow, step, words[letter]) for step, letter in enumerate(states)])
    found = plans(JOBS, state, NOW)
    made = [run.step for run in runs_made(decided(state)) if run.step is not None and run.step >= len(states)]
    [row] = [write for write in found[WORKFLOWS].writes if isinstance(write, WorkflowRun)] or [flow]
    if isinstance(wanted, list):
        assert (made, row.is_active) == (wanted, True)
    elif wanted == "succeeded":
        assert (made, row) == ([], that_is_over(flow, "succeeded", Reason.FINISHED))
    else:
        assert (made, row._replace(ending=None)) == ([], that_is_over(flow, "failed", Reason.STEP_FAILED, wanted))


@pytest.mark.parametrize("state", ["stopped", "revoked", "expired", "skipped"])
@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_a_step_that_did_not_come_to_run_has_failed_and_is_not_tried_again(state: str, on_failure: OnFailure) -> None:
    flow = a_flow(chain("ab", on_failure=on_failure), 1)
    found = decided(a_home(flow, [a_step(flow, 0, state, reason=Reason.STOP_REQUESTED)]))
    if on_failure is OnFailure.CONTINUE:
        assert [run.step for run in runs_made(found)] == [1]
    else:
        assert told(found).detail == "1 of 2 steps failed: a"


def test_once_a_step_has_failed_what_waits_is_ended_and_what_runs_ends_by_itself() -> None:
    flow = a_flow(group("abcd"), 1, 1, 1, 1)
    queued, retrying = a_step(flow, 1), a_step(flow, 2, "retrying", not_before_at=later(30))
    running = a_step(flow, 3, "running")
    state = a_home(flow, [a_step(flow, 0, "failed"), queued, retrying, running])
    found = decided(state)
    assert found == Plan(
        writes=(
            over(queued, "stopped", Reason.CANCELLED),
            over(retrying, "stopped", Reason.CANCELLED),
            flow._replace(ending=Reason.STEP_FAILED),
        )
    )
    attempt = an_attempt(running, A)
    ending = told(found)
    runs = [a_step(flow, 0, "failed"), *found.writes[:2], running]
    last = decided(a_home(ending, runs, active=[ActiveRun(running, exited(attempt))]))  # type: ignore[arg-type]
    assert told(last) == that_is_over(ending, "failed", Reason.STEP_FAILED, "1 of 4 steps failed: a")


def test_a_job_that_is_no_more_declared_when_its_turn_comes_has_failed() -> None:
    flow = a_flow(chain("abc"), 1)
    state = a_home(flow, [a_step(flow, 0, "succeeded")])
    gone = a_spec(A, C)
    assert told(decided(state, gone)).detail == "1 of 3 steps failed: b"
    assert told(decided(a_home(flow, [a_step(flow, 0, "failed")]), gone)).detail == "1 of 3 steps failed: a"
    easy = a_flow(chain("abc", on_failure=OnFailure.CONTINUE), 1)
    found = decided(a_home(easy, [a_step(easy, 0, "succeeded")]), gone)
    assert [run.step for run in runs_made(found)] == [2]
    assert told(found).tries == (1, 0, 1)


def test_a_job_that_may_come_back_before_its_turn_does_no_harm() -> None:
    flow = a_flow(chain("abc"), 1)
    assert plans(a_spec(A, B), a_home(flow, [a_step(flow, 0, "running")]), NOW)[WORKFLOWS] == Plan()


def test_a_job_that_is_removed_while_its_step_waits_fails_the_workflow_at_once() -> None:
    flow = a_flow(chain("ab"), 1)
    state = a_home(flow, [a_step(flow, 0, "queued")])
    first = decided(state, a_spec(B))
    assert first.wake_at == NOW
    second = decided(carried_out(state, first, NOW), a_spec(B))
    assert told(second).detail == "1 of 2 steps failed: a"


def test_a_workflow_goes_on_as_it_was_when_it_was_asked_for() -> None:
    flow = a_flow(chain("ab"), 1, name="nightly")
    edited = JOBS._replace(workflows={"nightly": group("cde")})
    found = decided(a_home(flow, [a_step(flow, 0, "succeeded")]), edited)
    assert [run.job_id for run in runs_made(found)] == ["b"]


def test_a_step_that_expires_in_the_queue_is_looked_at_again_at_once() -> None:
    flow = a_flow(group("ab"), 1, 1)
    late = a_step(flow, 0, queued_at=ago(400), closed=(("max_instances", ago(300)), ("place", ago(300))))
    busy = with_process(a_run("running", job_id="a"), A)
    state = a_home(flow, [late, a_step(flow, 1, "running")], jobs=[JobState("a", (busy, waiting(late)))])
    found = decided(state)
    assert found.writes == (over(late, "expired", Reason.QUEUE_TIMEOUT, detail="1 of at most 1 running"),)
    assert plans(JOBS, state, NOW)[WORKFLOWS] == Plan(wake_at=NOW)


def test_a_step_whose_job_this_cycle_is_not_about_is_left_to_the_next() -> None:
    intent = asked(chain("ab"))
    state = a_home(intents=[intent])
    found = plans(JOBS, state, NOW, acts_on={WORKFLOWS, "b"})
    assert found[WORKFLOWS].wake_at == NOW
    assert found[WORKFLOWS].writes[0] == first_of(chain("ab"), intent)
    flow = a_flow(chain("ab"))
    assert WORKFLOWS not in plans(JOBS, a_home(flow), NOW, acts_on={"a", "b"})
    narrow = a_flow(chain("ab", max_parallel=1))
    assert plans(JOBS, a_home(narrow), NOW, acts_on={WORKFLOWS})[WORKFLOWS] == Plan(wake_at=NOW)


def test_a_run_that_an_older_database_took_in_is_not_taken_for_the_steps_own() -> None:
    flow = a_flow(chain("a"), 0)
    own = a_step(flow, 0)
    stray = a_run("running", job_id="a", occasion="record:1")._replace(id=own.id)
    found = decided(a_home(flow, jobs=[JobState("a", (with_process(stray, A),))]))
    [made] = [write for write in found.writes if isinstance(write, Run)]
    assert (made.occasion, told(found).tries) == (f"workflow:{FLOW}:0:2", (2,))
    over_by_now = a_run("succeeded", job_id="a", occasion="record:1")._replace(id=own.id)
    [made] = runs_made(decided(a_home(flow, jobs=[JobState("a", newest_finished=over_by_now)])))
    assert made.occasion == f"workflow:{FLOW}:0:2"


def test_what_else_runs_of_the_job_of_a_later_step_has_nothing_to_do_with_the_workflow() -> None:
    flow = a_flow(chain("ab"), 1)
    other = with_process(a_run("running", job_id="b"), B)
    assert decided(a_home(flow, [a_step(flow, 0, "running")], jobs=[JobState("b", (other,))])) == Plan()


def test_a_job_that_can_do_without_a_param_can_be_a_step() -> None:
    job = A._replace(params=(Param("day", None, "", False, None),))
    found = decided(a_home(intents=[asked(group("ab"))]), a_spec(job, B))
    assert [run.job_id for run in runs_made(found)] == ["a", "b"]


# --- on_failure: retry ---


RETRIES = {"on_failure": OnFailure.RETRY}


@pytest.mark.parametrize(("tries", "goes_on"), [(1, True), (2, True), (3, False), (4, False)])
def test_a_failed_step_is_given_another_run_three_in_all(tries: int, goes_on: bool) -> None:
    flow = a_flow(chain("ab", **RETRIES), tries)
    failed = a_step(flow, 0, "failed", tries)
    found = decided(a_home(flow, [failed]))
    if goes_on:
        again = a_step(flow, 0, number=tries + 1)
        assert found == Plan(
            writes=(started(again), flow._replace(tries=(tries + 1, 0))), effects=(a_start(again, A, REASON),)
        )
    else:
        failure = that_is_over(flow, "failed", Reason.STEP_FAILED, "1 of 2 steps failed: a")
        assert found == Plan(writes=(failure._replace(ending=Reason.STEP_FAILED),))


def test_a_step_that_is_owed_another_run_gets_it_when_there_is_room() -> None:
    flow = a_flow(group("abc", max_parallel=1, **RETRIES), 1, 1)
    busy = a_step(flow, 1, "running")
    found = decided(a_home(flow, [a_step(flow, 0, "failed"), busy]))
    owed = told(found)
    assert (owed.tries, found.effects) == ((2, 1, 0), ())
    then = decided(a_home(owed, [a_step(flow, 0, "failed"), a_step(flow, 1, "succeeded")]))
    assert [(run.step, run.occasion) for run in runs_made(then)] == [(0, f"workflow:{FLOW}:0:2")]
    assert told_of(then) == []


# --- the time limit ---


TIMED = {"timeout_seconds": 60.0}


def test_at_its_deadline_everything_of_a_workflow_is_ended() -> None:
    flow = a_flow(group("abc", max_parallel=2, **TIMED), 1, 1, deadline_at=NOW)
    running, queued = a_step(flow, 0, "running"), a_step(flow, 1)
    found = decided(a_home(flow, [running, queued]))
    ending = running._replace(ending=Reason.WORKFLOW_TIMEOUT)
    ordered = an_attempt(running, A, stop=an_order(Reason.WORKFLOW_TIMEOUT))
    assert found.writes == (
        ending,
        ordered,
        over(queued, "stopped", Reason.WORKFLOW_TIMEOUT),
        flow._replace(ending=Reason.WORKFLOW_TIMEOUT),
    )
    assert found.effects == (Signal(ordered, None, 15, is_kill=False, reason=Reason.WORKFLOW_TIMEOUT),)
    assert plans(JOBS, a_home(flow, [running, queued]), NOW)[WORKFLOWS].wake_at is None
    gone = ActiveRun(ending, exited(ordered._replace(stop=an_order(Reason.WORKFLOW_TIMEOUT, 1, signalled_ago=1)), 143))
    runs = [ending, over(queued, "stopped", Reason.WORKFLOW_TIMEOUT)]
    last = decided(a_home(told(found), runs, active=[gone]))
    assert told(last) == that_is_over(told(found), "failed", Reason.WORKFLOW_TIMEOUT, "not done within 60 s: a, b, c")


@pytest.mark.parametrize(("deadline_in", "is_over"), [(1, False), (0, True), (-1, True)], ids=["before", "at", "after"])
def test_the_deadline_of_what_waits_at_a_gate(deadline_in: float, is_over: bool) -> None:
    flow = a_flow(chain("ab", **TIMED), 1, deadline_at=later(deadline_in))
    held = JobState("a", (waiting(a_step(flow, 0)),), holds=(a_hold("pause", job_id="a"),))
    state = a_home(flow, [a_step(flow, 0)], jobs=[held])
    found = decided(state)
    if is_over:
        assert (told(found).state, told(found).reason) == (RunState.FAILED, Reason.WORKFLOW_TIMEOUT)
    else:
        assert plans(JOBS, state, NOW)[WORKFLOWS] == Plan(wake_at=later(1))


def test_what_succeeds_at_the_last_moment_has_succeeded() -> None:
    flow = a_flow(chain("a", **TIMED), 1, deadline_at=NOW)
    run = a_step(flow, 0, "running")
    found = decided(a_home(flow, [run], active=[ActiveRun(run, exited(an_attempt(run, A)))]))
    assert told(found) == that_is_over(flow, "succeeded", Reason.FINISHED)


def test_a_clock_that_is_set_back_gives_a_workflow_no_more_time_than_it_was_given() -> None:
    flow = a_flow(chain("a", **TIMED), 1, queued_at=later(3600), deadline_at=later(3630))
    found = decided(a_home(flow, [a_step(flow, 0, "running")]))
    assert told(found) == flow._replace(deadline_at=later(60))
    assert found.wake_at == later(60)


def test_the_deadline_ends_what_was_left_to_end_by_itself() -> None:
    flow = a_flow(group("ab", **TIMED), 1, 1, ending=Reason.STEP_FAILED, deadline_at=NOW)
    running = a_step(flow, 1, "running")
    found = decided(a_home(flow, [a_step(flow, 0, "failed"), running]))
    assert found.writes[0] == running._replace(ending=Reason.WORKFLOW_TIMEOUT)
    assert told_of(found) == []


def told_of(found: Plan) -> list[WorkflowRun]:
    return [write for write in found.writes if isinstance(write, WorkflowRun)]


# --- cancelling ---


def test_a_cancel_ends_what_runs_and_what_waits_and_is_answered_when_nothing_is_left() -> None:
    flow = a_flow(group("abc", max_parallel=2), 1, 1)
    running, queued, intent = a_step(flow, 0, "running"), a_step(flow, 1), about("cancel_workflow")
    found = decided(a_home(flow, [running, queued], [intent]))
    ending = running._replace(ending=Reason.CANCELLED)
    ordered = an_attempt(running, A, stop=an_order(Reason.CANCELLED))
    cancelled = flow._replace(ending=Reason.CANCELLED, detail="by alice")
    waits_for = intent._replace(state=IntentState.ACCEPTED, message="stops a")
    assert found.writes == (ending, ordered, over(queued, "stopped", Reason.CANCELLED), cancelled, waits_for)
    gone = ActiveRun(ending, exited(ordered._replace(stop=an_order(Reason.CANCELLED, 1, signalled_ago=1)), 143))
    runs = [ending, over(queued, "stopped", Reason.CANCELLED)]
    last = decided(a_home(cancelled, runs, [waits_for], [gone]))
    assert last.writes[-2:] == (
        that_is_over(cancelled, "stopped", Reason.CANCELLED, "by alice"),
        done(waits_for, "cancelled"),
    )


def test_a_cancel_also_ends_what_a_failed_workflow_still_lets_come_to_its_end() -> None:
    flow = a_flow(group("ab"), 1, 1, ending=Reason.STEP_FAILED)
    failed, running = a_step(flow, 0, "failed"), a_step(flow, 1, "running")
    assert decided(a_home(flow, [failed, running])).effects == ()
    [signal] = decided(a_home(flow, [failed, running], [about("cancel_workflow")])).effects
    ordered = an_attempt(running, A, stop=an_order(Reason.CANCELLED))
    assert signal == Signal(ordered, None, 15, is_kill=False, reason=Reason.CANCELLED)


def test_a_cancel_of_what_only_waits_is_done_at_once() -> None:
    flow = a_flow(chain("ab"), 1)
    intent = about("cancel_workflow")
    found = decided(a_home(flow, [a_step(flow, 0, "retrying")], [intent]))
    ending = {"ending": Reason.CANCELLED}
    assert found.writes[1:] == (
        that_is_over(flow, "stopped", Reason.CANCELLED, "by alice", **ending),
        done(intent, "cancelled"),
    )


def test_a_cancel_by_force_kills() -> None:
    flow = a_flow(chain("a"), 1)
    found = decided(a_home(flow, [a_step(flow, 0, "running")], [about("cancel_workflow", force=True)]))
    [signal] = found.effects
    assert isinstance(signal, Signal)
    assert signal.is_kill


def test_a_cancel_that_comes_too_late_says_so() -> None:
    flow = a_flow(chain("a"), 1)
    run, intent = a_step(flow, 0, "running"), about("cancel_workflow")
    found = decided(a_home(flow, [run], [intent], [ActiveRun(run, exited(an_attempt(run, A)))]))
    assert found.writes[-1] == done(intent, "it had ended already: succeeded")
    finished = that_is_over(flow, "failed", Reason.STEP_FAILED)
    found = decided(a_home(finished, [a_step(flow, 0, "failed")], [intent]))
    assert found == Plan(writes=(refused(intent, f"cannot cancel workflow run {FLOW}: it is over (failed)"),))


def test_what_cannot_be_killed_is_named() -> None:
    flow = a_flow(chain("a"), 1, ending=Reason.CANCELLED, detail="by alice")
    run = a_step(flow, 0, "running", ending=Reason.CANCELLED)
    order = an_order(Reason.CANCELLED, 90, signalled_ago=90, killed_ago=30, last_killed_ago=1)
    stuck = ActiveRun(run, alive(an_attempt(run, A, stop=order), Process(1234, 1, "nfs")))
    intent = about("cancel_workflow", state=IntentState.ACCEPTED)
    found = decided(a_home(flow, [run], [intent], [stuck]))
    what = f"cannot cancel workflow run {FLOW}: a was killed, but still there: 1234 (nfs)"
    assert found.writes == (refused(intent, what),)


@pytest.mark.parametrize("kind", ["cancel", "retry"])
def test_what_is_asked_about_an_unknown_workflow_run_is_refused(kind: str) -> None:
    intent = about(f"{kind}_workflow", "nobody")
    message = f"cannot {kind} workflow run nobody: there is none of that name"
    assert decided(a_home(intents=[intent])) == Plan(writes=(refused(intent, message),))


# --- trying again ---


def test_a_retry_continues_a_chain_from_the_step_that_failed() -> None:
    failed = that_is_over(
        a_flow(chain("abc", **TIMED), 1, 1, deadline_at=ago(5)),
        "failed",
        Reason.STEP_FAILED,
        "1 of 3 steps failed: b",
        ending=Reason.STEP_FAILED,
    )
    intent = about("retry_workflow")
    found = decided(a_home(failed, [a_step(failed, 0, "succeeded"), a_step(failed, 1, "failed")], [intent]))
    flow = a_flow(chain("abc", **TIMED), 1, 2, queued_at=NOW, deadline_at=later(60))
    again = a_step(flow, 1, number=2)
    assert found == Plan(
        writes=(started(again), flow, answered(intent, "goes on with b, c")),
        effects=(a_start(again, B, REASON),),
        wake_at=later(60),
    )


def test_a_retry_of_a_group_runs_only_what_did_not_succeed_and_within_its_limit() -> None:
    flow = that_is_over(a_flow(group("abcd", max_parallel=1), 1, 1, 1), "failed", Reason.STEP_FAILED)
    steps = [a_step(flow, 0, "failed"), a_step(flow, 1, "succeeded"), a_step(flow, 2, "stopped")]
    found = decided(a_home(flow, steps, [about("retry_workflow")]))
    assert told(found).tries == (2, 1, 2, 0)
    assert [run.step for run in runs_made(found)] == [0]
    later_on = a_home(told(found), [a_step(flow, 0, "succeeded", 2), *steps[1:]])
    assert [run.step for run in runs_made(decided(later_on))] == [2]


@pytest.mark.parametrize(
    ("callback", "again"),
    [("succeeded", [0]), ("failed", [0]), (None, [0])],
    ids=["ran", "failed", "never ran"],
)
def test_a_retry_runs_a_callback_again_only_if_it_did_not_succeed(callback: str | None, again: list[int]) -> None:
    workflow = chord("ab", "c", on_failure=OnFailure.CONTINUE)
    flow = that_is_over(a_flow(workflow, 1, 1, 1 if callback else 0), "failed", Reason.STEP_FAILED)
    steps = [a_step(flow, 0, "failed"), a_step(flow, 1, "succeeded")]
    steps += [a_step(flow, 2, callback)] if callback else []
    found = decided(a_home(flow, steps, [about("retry_workflow")]))
    assert [run.step for run in runs_made(found)] == again
    header = [a_step(flow, 0, "succeeded", 2), *steps[1:]]
    then = decided(a_home(told(found), header))
    assert [run.step for run in runs_made(then)] == ([] if callback == "succeeded" else [2])
    ends = [row.state for row in told_of(then) if not row.is_active]
    assert ends == ([RunState.SUCCEEDED] if callback == "succeeded" else [])


@pytest.mark.parametrize(
    ("flow", "steps", "spec", "why"),
    [
        (a_flow(chain("ab"), 1), ["running"], JOBS, "it is not over"),
        (that_is_over(a_flow(chain("a"), 1), "succeeded", Reason.FINISHED), ["succeeded"], JOBS, "it succeeded"),
        (
            that_is_over(a_flow(chain("ab"), 1, 1), "failed", Reason.STEP_FAILED),
            ["succeeded", "failed"],
            a_spec(A),
            'there is no job "b"',
        ),
        (
            that_is_over(a_flow(chain("ab"), 1, 1), "failed", Reason.STEP_FAILED),
            [],
            JOBS,
            "its history is gone: how a, b ended is not known",
        ),
        (
            that_is_over(a_flow(chain("ab"), 2, 1), "failed", Reason.STEP_FAILED),
            ["failed", "failed"],
            JOBS,
            "its history is gone: how a ended is not known",
        ),
    ],
    ids=["under way", "succeeded", "a job is gone", "its history is gone", "its history is gone in part"],
)
def test_a_retry_that_makes_no_sense_is_refused(flow: WorkflowRun, steps: list[str], spec: Spec, why: str) -> None:
    intent = about("retry_workflow")
    found = decided(a_home(flow, [a_step(flow, step, state) for step, state in enumerate(steps)], [intent]), spec)
    assert found.writes == (refused(intent, f"cannot retry workflow run {FLOW}: {why}"),)


@pytest.mark.parametrize(("before", "tries"), [([1], (1, 0)), ([], (0, 0))], ids=["one more", "its first"])
def test_a_step_that_is_owed_a_run_when_it_is_over_has_the_last_it_got(
    before: list[int], tries: tuple[int, ...]
) -> None:
    """So whoever asks for it again is not told that its history is gone."""
    owed = len(before) + 1
    flow = a_flow(chain("ab"), owed, ending=Reason.CANCELLED, detail="by alice")
    found = decided(a_home(flow, [a_step(flow, 0, "failed", number) for number in before]))
    over = that_is_over(flow._replace(tries=tries), "stopped", Reason.CANCELLED, "by alice")
    assert told(found) == over


def test_a_retry_while_everything_is_stopped_is_refused() -> None:
    flow = that_is_over(a_flow(chain("a"), 1), "stopped", Reason.HOME_STOPPED)
    intent = about("retry_workflow")
    held = JobState(HOME, holds=HOME_HELD)
    state = a_home(flow, [a_step(flow, 0, "stopped")], [intent], jobs=[held], home_holds=HOME_HELD)
    assert decided(state).writes == (
        refused(
            intent,
            f"cannot retry workflow run {FLOW}: all jobs were stopped; procclaw daemon start lets them go again",
        ),
    )


# --- what stops everything ---


def test_who_stops_everything_stops_workflows_too() -> None:
    flow = a_flow(chain("abc", on_failure=OnFailure.CONTINUE), 1)
    run = a_step(flow, 0, "running")
    home = JobState(HOME, intents=(an_intent("hold_home", job_id=HOME),))
    found = decided(a_home(flow, [run], jobs=[home]))
    stopping = flow._replace(ending=Reason.HOME_STOPPED, detail="by alice")
    assert told(found) == stopping
    assert found.writes[0] == run._replace(ending=Reason.HOME_STOPPED)
    stopped = a_step(flow, 0, "stopped", reason=Reason.HOME_STOPPED)
    last = decided(a_home(stopping, [stopped]))  # the hold has been lifted meanwhile
    assert last == Plan(writes=(that_is_over(stopping, "stopped", Reason.HOME_STOPPED, "by alice"),))


def test_the_hold_itself_ends_the_steps_so_that_what_is_needed_goes_last() -> None:
    flow = a_flow(group("ab"), 1, 1)
    queued, running = a_step(flow, 0), a_step(flow, 1, "running")
    spec = a_spec(A, B, changed(C, depends_on=(Dependency("b", Condition.AFTER_START, None),)))
    needing = with_process(a_run("running", job_id="c"), C)
    home = JobState(HOME, holds=HOME_HELD)
    state = a_home(flow, [queued, running], jobs=[home, JobState("c", (needing,))], home_holds=HOME_HELD)
    found = decided(state, spec)
    assert found.writes[0] == over(queued, "stopped", Reason.HOME_STOPPED)
    assert [effect.attempt.job_id for effect in found.effects if isinstance(effect, Signal)] == ["c"]


def test_nothing_of_a_workflow_is_run_twice_because_the_database_was_restored() -> None:
    flow = a_flow(chain("ab"), 1)
    found = decided(a_home(flow, [a_step(flow, 0, "queued")], restored_until=ago(10)))
    detail = "the database was restored, so how far it has come is not known"
    ending = {"ending": Reason.RESTORED}
    assert told(found) == that_is_over(flow, "stopped", Reason.RESTORED, detail, **ending)
    assert found.effects == ()
    equal = a_flow(chain("ab"), 1, queued_at=ago(10))
    assert decided(a_home(equal, [a_step(equal, 0, "queued")], restored_until=ago(10))).effects == ()
    newer = a_flow(chain("ab"), 1, queued_at=ago(5))
    assert decided(a_home(newer, [a_step(newer, 0, "queued")], restored_until=ago(10))).effects != ()


# --- what is told ---


def test_the_beginning_and_the_end_of_a_workflow_are_told() -> None:
    first = decided(a_home(intents=[asked(chain("ab"), "nightly")]))
    flow = told(first)
    begun = Event(NOW, "workflow started", None, (("workflow", "nightly"), ("run", flow.id), ("by", "alice")))
    assert [event for event in events(first.writes, NOW) if event.kind.startswith("workflow")] == [begun]
    assert events([flow._replace(tries=(1, 1))], later(5)) == ()
    gone = a_step(flow, 0, "failed")
    last = decided(a_home(flow, [gone]), now=later(5))
    fields = (("workflow", "nightly"), ("run", flow.id), ("state", "failed"), ("reason", "step_failed"))
    finished = Event(later(5), "workflow finished", None, (*fields, ("detail", "1 of 2 steps failed: a")))
    assert events(last.writes, later(5)) == (finished,)
    [action] = plan_view(JOBS, last)["actions"]
    assert action == {
        "job_id": "nightly",
        "action": f"finish workflow run {flow.id} as failed",
        "because": "1 of 2 steps failed: a",
    }


# --- plays ---


class Play:
    """A home with one workflow as values, in which the real planner decides and the manager may die at any point."""

    def __init__(self, workflow: WorkflowSpec, jobs: Iterable[JobSpec] = JOBS.jobs.values()) -> None:
        self.workflow = workflow
        self.spec = a_spec(*jobs)
        self.now = NOW
        self.state = a_home()
        self.flows: dict[str, WorkflowRun] = {}
        self.runs: dict[str, Run] = {}
        """The runs of steps, in the order in which they were made."""
        self.begun: Counter[tuple[str, int]] = Counter()
        self.answers: list[Intent] = []
        self._requests = count(1)
        self.ask("workflow", workflow=workflow)

    # --- what happens ---

    def ask(self, kind: str, job_id: str = WORKFLOWS, **details: Any) -> None:
        intent = Intent(next(self._requests), job_id, IntentKind(kind), False, self.now, "alice")
        intent = intent._replace(details=Details(**details))
        job = self.state.jobs[job_id]
        self._put(job._replace(intents=(*job.intents, intent)))

    def living(self) -> list[ActiveRun]:
        """The runs whose process lives."""
        active = [each for job in self.state.jobs.values() for each in job.active]
        return [each for each in active if each.live is not None and each.live.sight.phase == "locked"]

    def end(self, active: ActiveRun, code: int) -> None:
        assert active.live is not None
        attempt = active.live.attempt
        over = active._replace(live=exited(attempt, 143 if attempt.stop else code, at=self.now))
        job = self.state.jobs[active.run.job_id]
        self._put(job._replace(active=tuple(over if each == active else each for each in job.active)))

    def hold(self, job_id: str, kind: HoldKind | None) -> None:
        """Hold a job in this way, or let it go."""
        holds = () if kind is None else (Hold(job_id, kind, self.now, "alice"),)
        self._put(self.state.jobs[job_id]._replace(holds=holds))
        if job_id == HOME:
            self.state = self.state._replace(home_holds=holds)

    def _put(self, job: JobState) -> None:
        self.state = self.state._replace(jobs={**self.state.jobs, job.id: job})

    # --- the manager ---

    def cycle(self, dies: str = "") -> Plan:
        """Observe, plan and act; `dies`: before its rows are `written`, or before anything is `done` about them."""
        self.state = self._observed()
        found = plan(self.spec, self.state, self.now)
        if dies == "written":
            return found
        self._keep(found)
        after = committed if dies == "done" else carried_out
        self.state = after(self.state, found, self.now)
        kept = [each for each in self.state.workflows if each.run.is_active]
        assert kept == [each for each in self._observed().workflows if each.run.is_active]
        return found

    def _observed(self) -> State:
        """The state as the store gives it: workflows that are under way, and those that are asked about."""
        named = {intent.details.workflow_run for intent in self.state.jobs[WORKFLOWS].intents}
        flows = [flow for flow in self.flows.values() if flow.is_active or flow.id in named]
        return self.state._replace(workflows=tuple(WorkflowState(flow, self._newest(flow)) for flow in flows))

    def _newest(self, flow: WorkflowRun) -> tuple[Run | None, ...]:
        newest = {run.step: run for run in self.runs.values() if run.workflow_run == flow.id}
        return tuple(newest.get(step) for step in range(len(flow.spec.steps)))

    def _keep(self, found: Plan) -> None:
        """Take down what is written, and hold it against the rules."""
        made = []
        for write in found.writes:
            if isinstance(write, Run) and write.workflow_run is not None:
                before = self.runs.get(write.id)
                assert before is None or before.is_active, f"what is over goes on: {write}"
                made += [write] if before is None else []
                self.runs[write.id] = write
            elif isinstance(write, WorkflowRun):
                self.flows[write.id] = write
            elif isinstance(write, Intent) and write.resolved_at is not None:
                self.answers.append(write)
        for run in made:
            self._check_new(run)
        for effect in found.effects:
            if isinstance(effect, Start):
                self.begun[effect.run_id, effect.number] += 1
        assert max(self.begun.values(), default=0) <= 1
        limit = self.workflow.max_parallel
        active = [run for run in self.runs.values() if run.is_active]
        assert limit is None or len(active) <= limit, active
        for flow in self.flows.values():
            assert flow.is_active or not any(run.workflow_run == flow.id for run in active), "it is over and goes on"

    def _check_new(self, run: Run) -> None:
        assert run.step is not None
        of_step = [other for other in self.runs.values() if other.step == run.step and other.id != run.id]
        assert not any(other.is_active or other.state is RunState.SUCCEEDED for other in of_step), of_step
        header = len(self.workflow.jobs)
        before = range(run.step) if self.workflow.type is WorkflowType.CHAIN or run.step == header else range(0)
        newest = {other.step: other for other in self.runs.values()}
        for step in before:
            last = newest.get(step)
            is_gone = last is None and self.workflow.on_failure is OnFailure.CONTINUE
            assert is_gone or (last is not None and not last.is_active), f"{run} comes before {step} is over"
            is_enough = self.workflow.on_failure is OnFailure.CONTINUE
            assert is_enough or (last is not None and last.state is RunState.SUCCEEDED), last

    # --- how it stands ---

    @property
    def flow(self) -> WorkflowRun:
        [flow] = self.flows.values()
        return flow

    @property
    def is_over(self) -> bool:
        return bool(self.flows) and not self.flow.is_active

    def runs_by_step(self) -> Counter[int | None]:
        return Counter(run.step for run in self.runs.values())

    def settle(
        self, code_of: Callable[[Run], int] = lambda run: 0, dies: Callable[[int], str] = lambda turn: ""
    ) -> None:
        """Let everything take its course until the workflow is over; `dies`, by cycle, how the manager dies in it."""
        for turn in range(200):
            found = self.cycle(dies(turn))
            if self.is_over and not self.state.jobs[WORKFLOWS].intents:
                return
            if found.is_idle and found.wake_at != self.now:
                living = self.living()
                if living:
                    self.end(living[0], code_of(living[0].run))
                else:
                    assert found.wake_at is not None, f"nothing will ever wake it: {self.flows} {self.runs}"
                    self.now = max(self.now, found.wake_at)
        raise AssertionError(f"it comes to no end: {self.flows} {self.runs}")


SHAPES = {
    "chain": chain("abc"),
    "group": group("abc"),
    "narrow group": group("abcd", max_parallel=2),
    "chord": chord("abc", "d"),
    "narrow chord": chord("abc", "d", max_parallel=1),
    "chord of one": chord("a", "d"),
    "chord of none": chord("", "d"),
    "chord of one job": chord("aaa", "a"),
    "empty group": group(""),
    "empty chain": chain(""),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_step_runs_exactly_once_wherever_the_manager_dies(shape: str) -> None:
    workflow = SHAPES[shape]
    once = Counter(range(len(workflow.steps)))
    for dies in ("", "written", "done"):
        for at in range(20):
            play = Play(workflow)
            play.settle(dies=lambda turn, at=at, how=dies: how if turn == at else "")  # type: ignore[misc]
            assert (play.flow.state, play.runs_by_step()) == (RunState.SUCCEEDED, once), (dies, at)


@pytest.mark.parametrize("dies", ["written", "done"])
def test_a_manager_that_dies_every_other_time_gets_there_too(dies: str) -> None:
    for workflow in SHAPES.values():
        play = Play(workflow)
        play.settle(dies=lambda turn: dies if turn % 2 else "")
        assert (play.flow.state, play.runs_by_step()) == (RunState.SUCCEEDED, Counter(range(len(workflow.steps))))


def test_a_step_that_fails_now_and_then_is_tried_until_it_succeeds() -> None:
    play = Play(chord("ab", "c", on_failure=OnFailure.RETRY))
    play.settle(code_of=lambda run: 0 if run.occasion.endswith(":3") else 1)
    assert (play.flow.state, play.runs_by_step()) == (RunState.SUCCEEDED, Counter({0: 3, 1: 3, 2: 3}))


def test_a_failed_workflow_is_continued_from_what_failed_until_it_succeeds() -> None:
    play = Play(chord("abc", "d", max_parallel=2))
    play.settle(code_of=lambda run: 1 if run.job_id == "b" else 0)
    assert play.flow.detail == "1 of 4 steps failed: b"
    for fails in ("b", "d", ""):
        play.ask("retry_workflow", workflow_run=play.flow.id)
        play.settle(code_of=lambda run, fails=fails: 1 if run.job_id in fails else 0)  # type: ignore[misc]
    assert play.flow.state is RunState.SUCCEEDED
    succeeded = Counter(run.step for run in play.runs.values() if run.state is RunState.SUCCEEDED)
    assert succeeded == Counter(range(4))
    play.ask("retry_workflow", workflow_run=play.flow.id)
    play.settle()
    assert play.answers[-1].state is IntentState.REFUSED


def a_random_workflow(random: Random) -> WorkflowSpec:
    kind = random.choice(list(WorkflowType))
    jobs = tuple(random.choice("abcd") for _ in range(random.choice([0, 1, 2, 3, 4])))
    callback = random.choice("ae") if kind is WorkflowType.CHORD else None
    return WorkflowSpec(
        type=kind,
        jobs=jobs,
        callback=callback,
        on_failure=random.choice(list(OnFailure)),
        max_parallel=random.choice([None, 1, 2]),
        timeout_seconds=random.choice([None, None, 60.0]),
        pass_results=True,
    )


JOBS_OF_ALL_KINDS = (
    changed(A, retries=True, delays=(5.0,), max_attempts=1),
    changed(B, max_instances=2),
    changed(C, queue_excess=False),
    changed(D, queue_timeout=20, enabled=False),
    E,
)


def meddle(play: Play, random: Random) -> None:
    """One thing that may happen to a home while a workflow is under way."""
    name = random.choice(NAMES)
    match random.randrange(14):
        case 0 | 1 | 2 | 3:
            living = play.living()
            if living:
                play.end(random.choice(living), random.choice([0, 0, 0, 1]))
        case 4:
            play.now += timedelta(seconds=random.choice([0.5, 5, 30, -3600]))
        case 5 if play.flows and random.random() < 0.3:
            play.ask("cancel_workflow", workflow_run=play.flow.id)
        case 6 if play.flows:
            play.ask("retry_workflow", workflow_run=play.flow.id)
        case 7:
            play.ask("run", name)
        case 8:
            play.ask("stop", name)
        case 9:
            play.hold(name, random.choice([HoldKind.PAUSE, None]))
        case 10:
            play.hold(HOME, random.choice([HoldKind.STOP, None, None]))
        case 11:
            gone = random.choice([None, None, name])
            play.spec = a_spec(*(job for job in JOBS_OF_ALL_KINDS if job.id != gone))
        case _:
            pass


@pytest.mark.parametrize("seed", range(150))
def test_whatever_happens_a_workflow_comes_to_its_end_and_nothing_of_it_is_done_twice(seed: int) -> None:
    random = Random(seed)
    play = Play(a_random_workflow(random), JOBS_OF_ALL_KINDS)
    for _ in range(60):
        meddle(play, random)
        play.cycle(random.choice(["", "", "", "written", "done"]))
    for job_id in (*NAMES, HOME):
        play.hold(job_id, None)
    play.spec = a_spec(*JOBS_OF_ALL_KINDS)
    if not play.flows:
        assert play.answers[0].state is IntentState.REFUSED
        return
    play.settle()
    steps = play.workflow.steps
    newest = {run.step: run for run in play.runs.values()}
    succeeded = {step for step, run in newest.items() if run.state is RunState.SUCCEEDED}
    assert (play.flow.state is RunState.SUCCEEDED) == (len(succeeded) == len(steps))
    for _ in range(5):
        if play.flow.state is not RunState.SUCCEEDED:
            play.ask("retry_workflow", workflow_run=play.flow.id)
            play.settle()
    allowed = play.workflow.max_parallel
    is_crowded = "c" in steps and (allowed != 1 or play.workflow.type is WorkflowType.CHAIN)
    assert is_crowded or play.flow.state is RunState.SUCCEEDED, play.flow


# --- what a cycle looks at ---


@pytest.fixture
def observer(home: Path) -> Iterator[Observer]:
    with Home(str(home)) as opened:
        yield Observer(opened.store, opened._world())


@pytest.mark.parametrize("all_around", [True, False])
def test_a_cycle_that_may_see_a_step_end_is_about_the_whole_workflow(observer: Observer, all_around: bool) -> None:
    observer._store.record([a_flow(chain("ab"), 1)])
    needing = changed(C, depends_on=(Dependency("a", Condition.AFTER_COMPLETE, None),))
    spec, flows = a_spec(A, B, needing, D, E), observer.workflows()

    def acts(*jobs: str) -> frozenset[str]:
        found = observer.scope(spec, frozenset(jobs), flows, all_around=all_around).acts
        assert found is not None
        return found

    assert {"a", "b", WORKFLOWS} <= acts("c")
    assert acts("d") == {"d"}
    observer._store.add_intent(asked(group("de"), id=0))
    assert {"a", "b", "d", "e"} <= acts(WORKFLOWS)
    assert {"d", "e"} <= acts("b")


def test_a_workflow_run_is_found_that_somebody_asks_about_while_a_cycle_begins(observer: Observer) -> None:
    flow = that_is_over(a_flow(chain("ab"), 1), "failed", Reason.STEP_FAILED)
    failed = a_step(flow, 0, "failed")
    observer._store.record([flow, failed])
    flows = observer.workflows()
    assert flows == ()
    observer._store.add_intent(about("retry_workflow", number=0))
    state, _ = observer.look(JOBS, EVERYTHING, flows, None, None, NOW)
    assert state.workflows == (WorkflowState(flow, (failed, None)),)
    assert told(decided(state)).tries == (2, 0)


# --- on the real machine ---


def ask_for(driver: Driver, kind: str, **details: Any) -> int:
    """Record a request about workflows and wake the daemon, if there is one."""
    intent = Intent(0, WORKFLOWS, IntentKind(kind), False, driver.opened.clock.now(), "test")
    asked = driver.opened.store.add_intent(intent._replace(details=Details(**details)))
    wake(str(driver.home))
    return asked


def stands(driver: Driver, asked: int) -> WorkflowRun | None:
    """The workflow run that a request made or was about; None: it has not been answered."""
    intent = driver.opened.store.intent(asked)
    if intent is None or intent.resolved_at is None:
        return None
    assert intent.state is IntentState.DONE, intent
    return driver.opened.store.workflow_run(intent.details.workflow_run)


def wait_for_end(driver: Driver, asked: int) -> WorkflowRun:
    def ended() -> WorkflowRun | None:
        flow = stands(driver, asked)
        return None if flow is None or flow.is_active else flow

    flow = driver.wait(ended)
    assert flow is not None
    return flow


def wait_for_start(driver: Driver, asked: int) -> WorkflowRun:
    flow = driver.wait(lambda: stands(driver, asked))
    assert flow is not None
    return flow


def noted(driver: Driver) -> Counter[str]:
    """How often each job began."""
    return Counter(note.job_id for note in driver.notes())


LEAVES_A_RESULT = 'printf "some\\nlines of %s\\n" $PROCCLAW_JOB_ID; echo "{\\"by\\": 1}" >$PROCCLAW_RESULT_FILE; '
KEEPS_WHAT_IT_FINDS = (
    "env | grep ^PROCCLAW_ | sort >$PROCCLAW_HOME/found.$PROCCLAW_JOB_ID; "
    'test -z "$PROCCLAW_INPUT_FILE" || cp $PROCCLAW_INPUT_FILE $PROCCLAW_HOME/input.$PROCCLAW_JOB_ID; '
)
NO_RETRY: Mapping[str, Any] = {"retry": {"enabled": False}}


def found_by(driver: Driver, job_id: str) -> dict[str, str]:
    """The variables about the step before that a job found."""
    lines = (driver.home / f"found.{job_id}").read_text().splitlines()
    pairs = (line.partition("=") for line in lines)
    return {name: value for name, _, value in pairs if name.startswith(("PROCCLAW_PREV", "PROCCLAW_INPUT"))}


def input_of(driver: Driver, job_id: str) -> Any:
    return json.loads((driver.home / f"input.{job_id}").read_text())


@pytest.mark.real
def test_each_step_of_a_chain_finds_what_those_before_it_left(driver: Driver) -> None:
    does = LEAVES_A_RESULT + KEEPS_WHAT_IT_FINDS
    driver.declare({"a": {"cmd": does}, "b": {"cmd": does + "exit 3", **NO_RETRY}, "c": {"cmd": does}})
    driver.start_daemon()
    flow = wait_for_end(driver, ask_for(driver, "workflow", workflow=chain("abc", on_failure=OnFailure.CONTINUE)))
    assert (flow.state, flow.detail) == (RunState.FAILED, "1 of 3 steps failed: b")
    [first], [second] = driver.runs("a"), driver.runs("b")
    assert found_by(driver, "a") == {}
    assert found_by(driver, "b")["PROCCLAW_PREV_RUN_ID"] == first.id
    after = found_by(driver, "c")
    assert (after["PROCCLAW_PREV_RUN_ID"], after["PROCCLAW_PREV_EXIT_CODE"]) == (second.id, "3")
    assert after["PROCCLAW_PREV_STDOUT"] == "some"  # its first line is all that `env` can show on one
    steps = [
        {
            "step": step,
            "job_id": run.job_id,
            "run_id": run.id,
            "state": str(run.state),
            "exit_code": run.exit_code,
            "result": {"by": 1},
            "stdout": f"some\nlines of {run.job_id}\n",
        }
        for step, run in enumerate([first, second])
    ]
    assert input_of(driver, "b") == {"workflow_run": flow.id, "steps": steps[:1]}
    assert input_of(driver, "c") == {"workflow_run": flow.id, "steps": steps}


@pytest.mark.real
def test_a_callback_finds_what_all_others_left_also_where_there_are_none(driver: Driver) -> None:
    driver.declare({"a": {"cmd": LEAVES_A_RESULT}, "b": {"cmd": "true"}, "c": {"cmd": KEEPS_WHAT_IT_FINDS}})
    driver.start_daemon()
    flow = wait_for_end(driver, ask_for(driver, "workflow", workflow=chord("ab", "c")))
    assert flow.state is RunState.SUCCEEDED
    steps = input_of(driver, "c")["steps"]
    assert [(step["job_id"], step["result"]) for step in steps] == [("a", {"by": 1}), ("b", None)]
    none = wait_for_end(driver, ask_for(driver, "workflow", workflow=chord("", "c")))
    assert (none.state, input_of(driver, "c")) == (RunState.SUCCEEDED, {"workflow_run": none.id, "steps": []})
    assert found_by(driver, "c").keys() == {"PROCCLAW_INPUT_FILE"}
    wait_for_end(driver, ask_for(driver, "workflow", workflow=chord("ab", "c", pass_results=False)))
    assert found_by(driver, "c") == {}


@pytest.mark.real
def test_a_workflow_goes_on_where_it_was_after_its_manager_was_killed(driver: Driver) -> None:
    jobs = {name: {"cmd": until("go", "exit 0")} for name in "ab"}
    driver.declare({**jobs, "c": {"cmd": until("last", "exit 0")}})
    driver.start_daemon()
    asked = ask_for(driver, "workflow", workflow=chord("ab", "c"))
    driver.wait(lambda: noted(driver) == {"a": 1, "b": 1})
    driver.kill_daemon()
    driver.touch("go")
    driver.wait(lambda: not driver.job_processes())
    driver.start_daemon()
    driver.wait_for_notes("c")
    driver.kill_daemon()
    driver.touch("last")
    driver.start_daemon()
    assert wait_for_end(driver, asked).state is RunState.SUCCEEDED
    assert noted(driver) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.real
def test_managers_that_are_killed_again_and_again_run_each_step_once(driver: Driver) -> None:
    driver.declare({name: {"cmd": noting("sleep 0.1")} for name in NAMES})
    asked = [ask_for(driver, "workflow", workflow=workflow) for workflow in (chain("abcde"), chord("abcd", "e"))]
    random = Random(1)
    for _ in range(6):
        driver.start_daemon()
        time.sleep(random.uniform(0, 0.2))
        driver.kill_daemon()
    driver.start_daemon()
    assert {wait_for_end(driver, each).state for each in asked} == {RunState.SUCCEEDED}
    assert noted(driver) == dict.fromkeys(NAMES, 2)


@pytest.mark.real
def test_a_workflow_gets_on_with_every_pass_where_no_daemon_runs(driver: Driver) -> None:
    driver.declare({name: {"cmd": noting("exit 0")} for name in "ab"})
    driver.ask("reconcile")
    asked = ask_for(driver, "workflow", workflow=chain("ab"))
    for job_id in "ab":
        driver.ask("reconcile")
        driver.wait_for_notes(job_id)
        driver.wait(lambda: not driver.job_processes())
    driver.ask("reconcile")
    flow = stands(driver, asked)
    assert flow is not None
    assert flow.state is RunState.SUCCEEDED


@pytest.mark.real
def test_a_workflow_that_is_cancelled_leaves_nothing_running_and_can_be_continued(driver: Driver) -> None:
    driver.declare({"a": {"cmd": noting("exit 0")}, "b": {"cmd": until("go", "exit 0")}})
    driver.start_daemon()
    flow = wait_for_start(driver, ask_for(driver, "workflow", workflow=chain("ab")))
    driver.wait_for_notes("b")
    ended = wait_for_end(driver, ask_for(driver, "cancel_workflow", workflow_run=flow.id))
    assert (ended.state, ended.reason) == (RunState.STOPPED, Reason.CANCELLED)
    assert driver.job_processes() == []
    driver.touch("go")
    again = ask_for(driver, "retry_workflow", workflow_run=flow.id)
    assert wait_for_end(driver, again).state is RunState.SUCCEEDED
    assert noted(driver) == {"a": 1, "b": 2}


@pytest.mark.real
def test_a_workflow_that_takes_too_long_is_ended(driver: Driver) -> None:
    driver.declare({"a": {"cmd": STAYS}, "b": {"cmd": noting("exit 0")}})
    driver.start_daemon()
    asked = ask_for(driver, "workflow", workflow=chain("ab", timeout_seconds=0.5))
    flow = wait_for_end(driver, asked)
    assert (flow.reason, flow.detail) == (Reason.WORKFLOW_TIMEOUT, "not done within 0.5 s: a, b")
    assert driver.job_processes() == []
    driver.only_attempt("a")
    assert driver.runs("b") == []
