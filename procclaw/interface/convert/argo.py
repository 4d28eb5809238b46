"""Workflows as templates of Argo Workflows, which are what Kubernetes has for jobs that follow each other."""

from typing import Any

from procclaw.interface.convert.containers import Object, container
from procclaw.interface.convert.leaving import Leaving, Telling, Unexportable, span
from procclaw.model.spec import JobSpec, OnFailure, WorkflowSpec, WorkflowType

_ENTRY = "steps"
"""Of the template in which the others are put in order; no job can hide it, for those are numbered."""
_USUAL_LIMIT = 5


def workflow_template(leaving: Leaving, name: str, workflow: WorkflowSpec, called: dict[str, str]) -> Object:
    """`called` are the names of the jobs over there. Raises Unexportable."""
    jobs = {job.id: job for job in leaving.jobs}
    spec: Object = {"entrypoint": _ENTRY}
    if workflow.timeout_seconds is not None:
        spec["activeDeadlineSeconds"] = max(1, round(workflow.timeout_seconds))
    if workflow.max_parallel is not None:
        spec["parallelism"] = workflow.max_parallel
    spec["templates"] = [
        {"name": _ENTRY, "steps": _steps(workflow, called)},
        *(_template(leaving, jobs[each], called[each], workflow) for each in dict.fromkeys(workflow.steps)),
    ]
    return spec


def _steps(workflow: WorkflowSpec, called: dict[str, str]) -> list[list[Object]]:
    """A list of what goes at the same time, one after the other."""
    goes_on = workflow.on_failure is OnFailure.CONTINUE
    steps: list[Object] = [
        {"name": f"{number}-{called[job]}", "template": _name(called[job])}
        | ({"continueOn": {"failed": True, "error": True}} if goes_on else {})
        for number, job in enumerate(workflow.steps, start=1)
    ]
    if workflow.type is WorkflowType.CHAIN:
        return [[step] for step in steps]
    if workflow.callback is None:
        return [steps]
    return [steps[:-1], steps[-1:]]


def _name(called: str) -> str:
    return f"job-{called}"


def _template(leaving: Leaving, job: JobSpec, called: str, workflow: WorkflowSpec) -> Object:
    # What becomes of its fields has been told of the job itself.
    found = container(leaving, job, "main", Telling(job))
    if "{{" in _texts(found):
        raise Unexportable(f'"{{{{" in what {job.id} says would be a reference of Argo\'s')
    template: Object = {"name": _name(called), "container": found}
    if job.timeout_seconds is not None:
        template["activeDeadlineSeconds"] = max(1, round(job.timeout_seconds))
    if workflow.on_failure is OnFailure.RETRY and job.retry.enabled:
        limit = job.retry.max_attempts if job.retry.max_attempts is not None else _USUAL_LIMIT
        first = next((delay for delay in job.retry.delays_seconds if delay), 1)
        backoff = {"duration": f"{span(first)}s", "factor": 2}
        template["retryStrategy"] = {"limit": limit, "retryPolicy": "OnFailure", "backoff": backoff}
    return template


def _texts(value: Any) -> str:
    """All texts in it, in one."""
    match value:
        case str():
            return value + "\n"
        case dict():
            return "".join(map(_texts, value.values()))
        case list():
            return "".join(map(_texts, value))
        case _:
            return ""
