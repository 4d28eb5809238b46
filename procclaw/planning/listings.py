"""How people and programs see what is listed beside jobs and runs: dead letters, alerts, planned runs, workflows.

Values in, plain JSON out, in the shapes that the API answers and `--json` prints.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from procclaw.model.alerts import Alert
from procclaw.model.records import DeadLetter, Run, WorkflowRun
from procclaw.model.spec import WorkflowSpec
from procclaw.planning.views import View, moment


def dead_letter_view(letter: DeadLetter) -> View:
    return {
        "id": letter.id,
        "job_id": letter.job_id,
        "run_id": letter.run_id,
        "added_at": moment(letter.added_at),
        "reason": str(letter.reason),
        "detail": letter.detail,
        "exit_code": letter.exit_code,
        "attempts": letter.attempts,
        "reinjected_run_id": letter.reinjected_run_id,
    }


def alert_view(alert: Alert) -> View:
    return {
        "key": alert.key,
        "job_id": alert.job_id,
        "kind": str(alert.kind),
        "state": str(alert.state),
        "raised_at": moment(alert.raised_at),
        "message": alert.message,
        "run_id": alert.run_id,
        "tries": alert.tries,
        "next_try_at": moment(alert.next_try_at),
        "done_at": moment(alert.done_at),
        "detail": alert.detail,
    }


def planned_view(run: Run) -> View:
    return {
        "job_id": run.job_id,
        "run_id": run.id,
        "at": moment(run.not_before_at),
        "params": dict(run.params),
        "asked_at": moment(run.queued_at),
    }


def workflow_view(name: str, spec: WorkflowSpec, newest: WorkflowRun | None) -> View:
    last = None if newest is None else {"id": newest.id, "state": str(newest.state), "at": moment(newest.queued_at)}
    return {
        "id": name,
        "type": str(spec.type),
        "jobs": list(spec.jobs),
        "callback": spec.callback,
        "on_failure": str(spec.on_failure),
        "max_parallel": spec.max_parallel,
        "timeout": spec.timeout_seconds,
        "pass_results": spec.pass_results,
        "last_run": last,
    }


def workflow_run_view(workflow: WorkflowRun, steps: Sequence[Run], results: Mapping[str, Any]) -> View:
    """`steps` are all runs of its steps in the order in which they were made, `results` what they left, by run."""
    newest = {run.step: run for run in steps}
    return {
        "id": workflow.id,
        "name": workflow.name,
        "type": str(workflow.spec.type),
        "state": str(workflow.state),
        "queued_at": moment(workflow.queued_at),
        "finished_at": moment(workflow.finished_at),
        "reason": None if workflow.reason is None else str(workflow.reason),
        "detail": workflow.detail,
        "on_failure": str(workflow.spec.on_failure),
        "steps": [
            _step_view(step, job_id, newest.get(step), results) for step, job_id in enumerate(workflow.spec.steps)
        ],
    }


def _step_view(step: int, job_id: str, run: Run | None, results: Mapping[str, Any]) -> View:
    """Of a step that has no run yet, all but its job is null."""
    return {
        "step": step,
        "job_id": job_id,
        "run_id": None if run is None else run.id,
        "state": None if run is None else str(run.state),
        "exit_code": None if run is None else run.exit_code,
        "result": None if run is None else results.get(run.id),
    }
