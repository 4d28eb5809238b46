"""The line that each change leaves behind."""

from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind, AlertState
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    HOME,
    Event,
    HoldKind,
    HoldLifted,
    JobForgotten,
    RunState,
    SlotsWithdrawn,
    Usage,
    WorkflowRun,
)
from procclaw.model.rows import Write
from procclaw.model.spec import OnFailure, WorkflowSpec, WorkflowType
from procclaw.planning.journal import alert_settled, attempt_started, events
from tests.builders import (
    NOW,
    a_cursor,
    a_health,
    a_hold,
    a_job,
    a_run,
    accepted,
    ago,
    an_attempt,
    an_intent,
    an_order,
    done,
    ended,
    over,
    refused,
    slots_row,
)

RUN = a_run("running")
ATTEMPT = an_attempt(RUN)
AN_ALERT = Alert("job:failed:1", "job", AlertKind.FAILED, NOW, "job failed for good", RUN.id)

TOLD: list[tuple[Write, str, dict[str, str]]] = [
    (
        ended(ATTEMPT, Reason.EXITED, 3),
        "attempt ended",
        {"run": RUN.id, "attempt": "1", "outcome": "exited", "code": "3"},
    ),
    (
        ended(ATTEMPT, Reason.CWD_FAILED, detail="changing to /srv: no such directory"),
        "attempt ended",
        {"run": RUN.id, "attempt": "1", "outcome": "cwd_failed", "detail": "changing to /srv: no such directory"},
    ),
    (
        ATTEMPT._replace(stop=an_order(Reason.TIMED_OUT)),
        "stop ordered",
        {"run": RUN.id, "reason": "timed_out", "shim": "1000"},
    ),
    (
        ATTEMPT._replace(stop=an_order(Reason.UNHEALTHY), detail="unhealthy: status 503, expected 200"),
        "stop ordered",
        {"run": RUN.id, "reason": "unhealthy", "detail": "unhealthy: status 503, expected 200", "shim": "1000"},
    ),
    (
        a_health(ATTEMPT, True, since_ago=0, detail="status 200"),
        "health changed",
        {"run": RUN.id, "attempt": "1", "health": "healthy", "detail": "status 200"},
    ),
    (
        a_health(ATTEMPT, False, since_ago=0, failures=3, detail="connection refused"),
        "health changed",
        {"run": RUN.id, "attempt": "1", "health": "unhealthy", "detail": "connection refused"},
    ),
    (
        Usage("job", ATTEMPT.id, NOW, 1, None, 412, NOW, "memory: 412 MB of at most 256 MB"),
        "limit passed",
        {"run": RUN.id, "attempt": "1", "detail": "memory: 412 MB of at most 256 MB"},
    ),
    (
        over(RUN, "failed", Reason.RETRIES_USED_UP, exit_code=3, detail="exit code 3"),
        "run finished",
        {
            "run": RUN.id,
            "state": "failed",
            "code": "3",
            "reason": "retries_used_up",
            "attempts": "1",
            "detail": "exit code 3",
        },
    ),
    (
        over(RUN, "succeeded", Reason.FINISHED, exit_code=0),
        "run finished",
        {"run": RUN.id, "state": "succeeded", "code": "0", "reason": "finished", "attempts": "1"},
    ),
    (
        slots_row(ago(7200), "missed", Reason.DOWN, last=ago(3600), total=2),
        "slot missed",
        {"first": "2026-06-01T10:00:00Z", "last": "2026-06-01T11:00:00Z", "slots": "2", "reason": "down"},
    ),
    (
        slots_row(NOW, "skipped", Reason.OVERLAP),
        "slot skipped",
        {"first": "2026-06-01T12:00:00Z", "last": "2026-06-01T12:00:00Z", "slots": "1", "reason": "overlap"},
    ),
    (SlotsWithdrawn("job", ago(60)), "clock went back", {"to": "2026-06-01T11:59:00Z"}),
    (a_hold("pause"), "hold set", {"hold": "pause", "by": "alice"}),
    (HoldLifted("job", HoldKind.STOP), "hold lifted", {"hold": "stop"}),
    (JobForgotten("job"), "job removed", {}),
    (
        AN_ALERT,
        "alert raised",
        {"alert": "failed", "run": RUN.id, "delivery": "pending", "message": "job failed for good"},
    ),
    (
        AN_ALERT._replace(run_id=None, state=AlertState.SUPPRESSED, detail="told 11:58Z already"),
        "alert raised",
        {
            "alert": "failed",
            "delivery": "suppressed",
            "message": "job failed for good",
            "detail": "told 11:58Z already",
        },
    ),
    (
        refused(an_intent("start"), "paused"),
        "request answered",
        {"request": "start", "by": "alice", "answer": "refused", "message": "paused"},
    ),
]


@pytest.mark.parametrize(("write", "kind", "fields"), TOLD, ids=[row[1].replace(" ", "-") for row in TOLD])
def test_a_change_leaves_one_line(write: Write, kind: str, fields: dict[str, str]) -> None:
    [told] = events([write], NOW)
    assert (told.at, told.kind, told.job_id, dict(told.fields)) == (NOW, kind, "job", fields)


CHAIN = WorkflowSpec(WorkflowType.CHAIN, ("a", "b"), None, OnFailure.STOP, None, None, pass_results=True)
FLOW = WorkflowRun("flow-run", "nightly", CHAIN, RunState.RUNNING, NOW, "alice", (1, 0))
FAILED_FLOW = FLOW._replace(
    state=RunState.FAILED, finished_at=NOW, reason=Reason.STEP_FAILED, detail="1 of 2 steps failed: b"
)
AS_FAILED = {"run": "flow-run", "state": "failed", "reason": "step_failed", "detail": "1 of 2 steps failed: b"}


@pytest.mark.parametrize(
    ("write", "kind", "fields"),
    [
        (FLOW, "workflow started", {"workflow": "nightly", "run": "flow-run", "by": "alice"}),
        (FLOW._replace(name=""), "workflow started", {"workflow": "chain", "run": "flow-run", "by": "alice"}),
        (FAILED_FLOW, "workflow finished", {"workflow": "nightly", **AS_FAILED}),
        (FAILED_FLOW._replace(name=""), "workflow finished", {"workflow": "chain", **AS_FAILED}),
    ],
    ids=["its start", "its start, put together in the asking", "its end", "its end, put together in the asking"],
)
def test_a_workflow_leaves_a_line_that_names_no_job(write: WorkflowRun, kind: str, fields: dict[str, str]) -> None:
    [told] = events([write], NOW)
    assert (told.at, told.kind, told.job_id, dict(told.fields)) == (NOW, kind, None, fields)


UNTOLD: list[Any] = [
    FLOW._replace(queued_at=ago(60), tries=(1, 1)),
    a_run("queued"),
    RUN,
    ATTEMPT,
    ATTEMPT._replace(stop=an_order(signalled_ago=1)),
    ATTEMPT._replace(stop=an_order(force=True, killed_ago=1)),
    slots_row(NOW, "ran", run=RUN),
    a_cursor(a_job("scheduled"), NOW, None),
    accepted("stop"),
    a_health(ATTEMPT, None, detail="connection refused"),
    a_health(ATTEMPT, True, since_ago=60, detail="status 200"),
    a_health(ATTEMPT, False, since_ago=60, detail="status 503"),
    Usage("job", ATTEMPT.id, NOW, 1, None, 100),
    Usage("job", ATTEMPT.id, NOW, 1, None, 412, ago(30), "memory: 412 MB of at most 256 MB"),
]


@pytest.mark.parametrize("write", UNTOLD)
def test_steps_on_the_way_are_not_told(write: Write) -> None:
    assert events([write], NOW) == ()


def test_what_concerns_the_home_names_no_job() -> None:
    [told] = events([a_hold("stop", job_id=HOME)], NOW)
    assert told.job_id is None


def test_a_start_is_told_with_its_shim() -> None:
    fields = (("run", RUN.id), ("attempt", "1"), ("shim", "1000"))
    assert attempt_started(ATTEMPT, NOW) == Event(NOW, "attempt started", "job", fields)


def test_lines_come_in_the_order_of_the_changes() -> None:
    told = events([done(an_intent("stop"), "stopped"), a_run("queued"), a_hold("stop")], NOW)
    assert [line.kind for line in told] == ["request answered", "hold set"]


def test_what_was_found_of_an_attempt_comes_before_the_stop_that_follows_from_it() -> None:
    sick = a_health(ATTEMPT, False, since_ago=0)
    used = Usage("job", ATTEMPT.id, NOW, 1, None, 412, NOW, "memory: 412 MB of at most 256 MB")
    told = events([ATTEMPT._replace(stop=an_order(Reason.UNHEALTHY)), used, sick], NOW)
    assert [line.kind for line in told] == ["health changed", "limit passed", "stop ordered"]


def test_an_attempt_ends_before_its_run_though_the_run_is_written_first() -> None:
    finished = over(RUN, "failed", Reason.RETRIES_USED_UP, exit_code=3)
    told = events([finished, ended(ATTEMPT, Reason.EXITED, 3), done(an_intent("start"), "ran")], NOW)
    assert [line.kind for line in told] == ["attempt ended", "run finished", "request answered"]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (AlertState.SENT, "alert sent"),
        (AlertState.UNCONFIRMED, "alert unconfirmed"),
        (AlertState.UNDELIVERED, "alert not delivered"),
    ],
)
def test_the_end_of_an_alert_leaves_one_line(state: AlertState, kind: str) -> None:
    told = alert_settled(AN_ALERT._replace(state=state, tries=2, detail="status 500"), NOW)
    assert (told.at, told.kind, told.job_id) == (NOW, kind, "job")
    assert dict(told.fields) == {"alert": "failed", "key": "job:failed:1", "tries": "2", "detail": "status 500"}
