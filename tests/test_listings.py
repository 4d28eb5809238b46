"""The shapes in which dead letters, alerts, planned runs and workflows are answered: programs rely on these names."""

from procclaw.model.alerts import Alert, AlertKind, AlertState
from procclaw.model.reasons import Reason
from procclaw.model.records import DeadLetter, RunState, WorkflowRun
from procclaw.model.spec import OnFailure, WorkflowSpec, WorkflowType
from procclaw.planning.listings import alert_view, dead_letter_view, planned_view, workflow_run_view, workflow_view
from tests.builders import JOB, NOW, a_run, ago, later

FLOW = WorkflowSpec(WorkflowType.CHORD, ("a", "b"), "c", OnFailure.RETRY, 2, 90, pass_results=True)
RUN = WorkflowRun("flow-run", "nightly", FLOW, RunState.RUNNING, ago(60), "alice", (1, 2, 0))
OVER = RUN._replace(state=RunState.FAILED, finished_at=NOW, reason=Reason.STEP_FAILED, detail="1 of 3 steps failed: b")


def test_a_dead_letter() -> None:
    letter = DeadLetter(7, JOB, "a-run", ago(60), Reason.RETRIES_USED_UP, "exit code 3", 3, 6, "another-run")
    assert dead_letter_view(letter) == {
        "id": 7,
        "job_id": JOB,
        "run_id": "a-run",
        "added_at": "2026-06-01T11:59:00Z",
        "reason": "retries_used_up",
        "detail": "exit code 3",
        "exit_code": 3,
        "attempts": 6,
        "reinjected_run_id": "another-run",
    }


def test_an_alert() -> None:
    alert = Alert("a-key", JOB, AlertKind.FAILED, ago(60), "job failed for good: exit code 3", "a-run")
    alert = alert._replace(state=AlertState.SENT, tries=2, next_try_at=later(60), done_at=NOW, detail="it took two")
    assert alert_view(alert) == {
        "key": "a-key",
        "job_id": JOB,
        "kind": "failed",
        "state": "sent",
        "raised_at": "2026-06-01T11:59:00Z",
        "message": "job failed for good: exit code 3",
        "run_id": "a-run",
        "tries": 2,
        "next_try_at": "2026-06-01T12:01:00Z",
        "done_at": "2026-06-01T12:00:00Z",
        "detail": "it took two",
    }


def test_a_run_that_is_planned_for_later() -> None:
    run = a_run("queued", trigger="eta", queued_at=ago(60), not_before_at=later(60), params=(("day", "monday"),))
    assert planned_view(run) == {
        "job_id": JOB,
        "run_id": run.id,
        "at": "2026-06-01T12:01:00Z",
        "params": {"day": "monday"},
        "asked_at": "2026-06-01T11:59:00Z",
    }


def test_a_declared_workflow_and_its_newest_run() -> None:
    view = workflow_view("nightly", FLOW, RUN)
    assert view == {
        "id": "nightly",
        "type": "chord",
        "jobs": ["a", "b"],
        "callback": "c",
        "on_failure": "retry",
        "max_parallel": 2,
        "timeout": 90,
        "pass_results": True,
        "last_run": {"id": "flow-run", "state": "running", "at": "2026-06-01T11:59:00Z"},
    }
    assert workflow_view("nightly", FLOW, None) == view | {"last_run": None}


def test_a_workflow_run_and_how_each_of_its_steps_stands() -> None:
    first = a_run("succeeded", job_id="a", step=0, exit_code=0)
    tries = [a_run("failed", job_id="b", step=1, exit_code=3, occasion=f"workflow:{number}") for number in (1, 2)]
    assert workflow_run_view(OVER, [first, *tries], {first.id: {"rows": 5}}) == {
        "id": "flow-run",
        "name": "nightly",
        "type": "chord",
        "state": "failed",
        "queued_at": "2026-06-01T11:59:00Z",
        "finished_at": "2026-06-01T12:00:00Z",
        "reason": "step_failed",
        "detail": "1 of 3 steps failed: b",
        "on_failure": "retry",
        "steps": [
            {
                "step": 0,
                "job_id": "a",
                "run_id": first.id,
                "state": "succeeded",
                "exit_code": 0,
                "result": {"rows": 5},
            },
            # The newest of its runs.
            {"step": 1, "job_id": "b", "run_id": tries[1].id, "state": "failed", "exit_code": 3, "result": None},
            {"step": 2, "job_id": "c", "run_id": None, "state": None, "exit_code": None, "result": None},
        ],
    }


def test_a_workflow_run_that_is_not_over_has_no_reason_yet() -> None:
    view = workflow_run_view(RUN, [], {})
    assert (view["state"], view["finished_at"], view["reason"]) == ("running", None, None)
