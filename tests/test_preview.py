"""What a plan would do, as people are told."""

from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind
from procclaw.model.document import process_hash
from procclaw.model.reasons import Reason
from procclaw.model.records import RunState, WorkflowRun
from procclaw.model.rows import Write
from procclaw.model.spec import JobSpec, OnFailure, WorkflowSpec, WorkflowType
from procclaw.planning.actions import Check, DeleteFile, Effect, Plan, Relaunch, Signal, Wait
from procclaw.planning.preview import plan_view
from tests.builders import (
    NOW,
    TERM,
    a_job,
    a_run,
    a_spec,
    a_start,
    an_attempt,
    ended,
    later,
    over,
    slots_row,
)

RUN = a_run("running")
ATTEMPT = an_attempt(RUN)
CHAIN = WorkflowSpec(WorkflowType.CHAIN, ("a", "b"), None, OnFailure.STOP, None, None, pass_results=True)
FLOW = WorkflowRun("flow-run", "nightly", CHAIN, RunState.RUNNING, NOW, "alice", (1, 1))
TOO_MUCH = "memory: 412 MB of at most 256 MB"


def stop(detail: str = "", *, is_kill: bool = False) -> Signal:
    reason = Reason.MEMORY_LIMIT if detail else Reason.TIMED_OUT
    return Signal(ATTEMPT._replace(detail=detail), None, TERM, is_kill=is_kill, reason=reason)


def over_flow(detail: str) -> WorkflowRun:
    return FLOW._replace(state=RunState.FAILED, finished_at=NOW, reason=Reason.STEP_FAILED, detail=detail)


def one_action(told: str, because: str, job_id: str = "job") -> list[dict[str, Any]]:
    return [{"job_id": job_id, "action": told, "because": because}]


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        (Check("job", ATTEMPT.id), []),
        (a_start(RUN, a_job(), "asked for"), one_action("start", "asked for")),
        (Relaunch(ATTEMPT), one_action("start", "recorded, but never begun")),
        (stop(), one_action("stop", "timed out")),
        (stop(TOO_MUCH, is_kill=True), one_action("kill", TOO_MUCH)),
        (
            DeleteFile("job", "/in/a.csv", "7"),
            one_action("delete file", "/in/a.csv has triggered a run, which succeeded"),
        ),
    ],
    ids=[
        "a check changes nothing",
        "a start, with what made it due",
        "a start that was decided before",
        "a stop, with its reason",
        "a kill, with what was found",
        "a file that is done with",
    ],
)
def test_an_effect_is_told_with_its_cause(effect: Effect, told: list[dict[str, Any]]) -> None:
    assert plan_view(None, Plan(effects=(effect,), wake_at=later(5))) == {
        "actions": told,
        "waits": [],
        "wake_at": "2026-06-01T12:00:05Z",
    }


def with_hash(**fields: Any) -> str:
    return process_hash({"cmd": "true", "log": {"timestamps": False}, **fields})


@pytest.mark.parametrize(
    ("job", "reason", "because"),
    [
        (a_job(process_hash=with_hash(cwd="/srv", nice=3)), Reason.CHANGED, "changed: cwd, nice"),
        (a_job(process_hash=with_hash()), Reason.CHANGED, "changed"),
        (a_job(process_hash=with_hash(cwd="/srv")), Reason.TIMED_OUT, "timed out"),
        (None, Reason.CHANGED, "changed"),
    ],
    ids=["an edit names the fields", "what cannot be told apart", "any other reason", "gone meanwhile"],
)
def test_a_stop_for_an_edit_names_what_was_edited(job: JobSpec | None, reason: Reason, because: str) -> None:
    attempt = ATTEMPT._replace(terms=ATTEMPT.terms._replace(process_hash=with_hash()))
    signal = Signal(attempt, None, TERM, is_kill=False, reason=reason)
    spec = a_spec(*([] if job is None else [job]))
    assert plan_view(spec, Plan(effects=(signal,)))["actions"] == one_action("stop", because)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (RUN, []),
        (ATTEMPT, []),
        (ended(ATTEMPT, Reason.EXITED, 3), one_action("record an end", "exited, exit code 3")),
        (ended(ATTEMPT, Reason.COMMAND_NOT_FOUND), one_action("record an end", "command not found")),
        (over(RUN, "failed", Reason.RETRIES_USED_UP), one_action("finish run as failed", "retries used up")),
        (a_run("retrying", not_before_at=later(30)), one_action("retry", "at 2026-06-01T12:00:30Z")),
        (FLOW, []),
        (
            over_flow("1 of 2 steps failed: b"),
            one_action("finish workflow run flow-run as failed", "1 of 2 steps failed: b", "nightly"),
        ),
        (
            over_flow("")._replace(name=""),
            one_action("finish workflow run flow-run as failed", "step failed", "chain"),
        ),
        (slots_row(NOW, "ran", run=RUN), one_action("record slots as ran", "1 due from 2026-06-01T12:00:00Z")),
        (
            slots_row(NOW, "missed", Reason.CLOCK_JUMP, last=later(60), total=2),
            one_action("record slots as missed", "2 due from 2026-06-01T12:00:00Z: clock jump"),
        ),
    ],
    ids=[
        "a run that goes on",
        "an attempt that goes on",
        "an end and its code",
        "an end without a code",
        "a run that is over",
        "a retry and its time",
        "a workflow that goes on",
        "a workflow that is over, by its name",
        "a workflow without a name",
        "a slot that ran",
        "slots that were missed",
    ],
)
def test_a_row_is_told_by_what_it_means(write: Write, told: list[dict[str, Any]]) -> None:
    assert plan_view(None, Plan(writes=(write,)))["actions"] == told


@pytest.mark.parametrize(
    ("reason", "detail", "because"),
    [
        (Reason.PAUSED, "by alice", "paused by alice"),
        (Reason.MAX_INSTANCES, "1 of at most 1 running", "1 of at most 1 running"),
        (Reason.RETRY_DELAY, "", "retry delay"),
    ],
    ids=["a hold and who set it", "a gate", "nothing more to say"],
)
def test_a_wait_is_told_with_its_cause_and_its_end(reason: Reason, detail: str, because: str) -> None:
    waits = (Wait("job", RUN.id, reason, detail, NOW, later(5)), Wait("job", None, reason, detail, NOW, None))
    assert plan_view(None, Plan(waits=waits)) == {
        "actions": [],
        "waits": [
            {"job_id": "job", "run_id": RUN.id, "because": because, "until": "2026-06-01T12:00:05Z"},
            {"job_id": "job", "run_id": None, "because": because, "until": None},
        ],
        "wake_at": None,
    }


def test_nothing_to_do_is_told_as_such() -> None:
    assert plan_view(None, Plan(wake_at=NOW))["actions"] == []


def test_an_alert_is_told_with_its_message() -> None:
    alert = Alert("key", "job", AlertKind.OVERDUE, NOW, "job is overdue: no success since 11:00Z")
    assert plan_view(None, Plan(writes=(alert,)))["actions"] == [
        {"job_id": "job", "action": "raise an alert: overdue", "because": "job is overdue: no success since 11:00Z"}
    ]
