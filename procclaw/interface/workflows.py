"""Jobs put together: chains, groups, chords, and the workflows that are declared."""

import json
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface.asking import REFUSED, patient, watched
from procclaw.interface.console import local, shown, with_local_times
from procclaw.interface.history import moment_cell
from procclaw.model.intents import Intent
from procclaw.model.records import RunState
from procclaw.model.spec import OnFailure, WorkflowSpec, WorkflowType
from procclaw.planning.views import View, has_succeeded

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def chain(context: "Context", options: Namespace) -> int:
    return _compose(context, WorkflowType.CHAIN, options)


def group(context: "Context", options: Namespace) -> int:
    return _compose(context, WorkflowType.GROUP, options)


def chord(context: "Context", options: Namespace) -> int:
    return _compose(context, WorkflowType.CHORD, options, options.callback)


def _compose(context: "Context", kind: WorkflowType, options: Namespace, callback: str | None = None) -> int:
    spec = WorkflowSpec(
        type=kind,
        jobs=tuple(options.jobs),
        callback=callback,
        on_failure=OnFailure(options.on_failure),
        max_parallel=None if kind is WorkflowType.CHAIN else options.max_parallel,
        timeout_seconds=options.timeout,
        pass_results=options.pass_results,
    )
    what = f"{kind} {' '.join(spec.steps)}"
    with patient(context, what) as patience:
        answer = context.asking.compose(spec, patience)
    return _answered(context, what, answer, waits=options.wait)


def run(context: "Context", options: Namespace) -> int:
    with patient(context, f"workflow {options.name}") as patience:
        answer = context.asking.run_workflow(options.name, patience)
    return _answered(context, f"workflow {options.name}", answer, waits=options.wait)


def cancel(context: "Context", options: Namespace) -> int:
    with patient(context, f"workflow cancel {options.run}") as patience:
        answer = context.asking.cancel_workflow(options.run, patience)
    return _answered(context, f"workflow run {answer.details.workflow_run}", answer, waits=False)


def retry(context: "Context", options: Namespace) -> int:
    with patient(context, f"workflow retry {options.run}") as patience:
        answer = context.asking.retry_workflow(options.run, patience)
    return _answered(context, f"workflow run {answer.details.workflow_run}", answer, waits=options.wait)


def _answered(context: "Context", what: str, answer: Intent, *, waits: bool) -> int:
    run_id = answer.details.workflow_run
    if waits and run_id and has_succeeded(answer):
        return _told_of_end(context, what, run_id)
    if context.console.is_json:
        view = {"success": has_succeeded(answer), "message": answer.message, "workflow_run_id": run_id or None}
        context.console.json(view)
    elif has_succeeded(answer):
        named = "" if not run_id or run_id in answer.message or run_id in what else f" (workflow run {run_id})"
        context.console.say(shown(f"{what}: {with_local_times(answer.message)}{named}"))
    else:
        context.console.complain(f"procclaw: {answer.message or f'{what}: still being worked on'}")
    return 0 if has_succeeded(answer) else REFUSED


def _told_of_end(context: "Context", what: str, run_id: str) -> int:
    from procclaw.engine.asking import Patience

    goes_on = f"it goes on (procclaw workflow show {run_id})"
    with watched(context, what, goes_on) as on_wait:
        workflow = context.asking.wait_for_workflow(run_id, Patience(None, on_wait))
    _print(context, context.reports.workflow_run_view(workflow))
    return 0 if workflow.state is RunState.SUCCEEDED else REFUSED


def show(context: "Context", options: Namespace) -> int:
    _print(context, context.reports.workflow_run_view(context.reports.workflow_run(options.run)))
    return 0


def _print(context: "Context", view: View) -> None:
    console = context.console
    if console.is_json:
        console.json(view)
        return
    console.fields(
        (
            ("workflow run", view["id"]),
            ("name", view["name"]),
            ("type", view["type"]),
            ("state", view["state"]),
            ("reason", _because(view)),
            ("asked for", local(view["queued_at"])),
            ("finished at", local(view["finished_at"])),
            ("on failure", view["on_failure"]),
        )
    )
    has_callback = view["type"] == WorkflowType.CHORD
    rows = [
        (
            "callback" if has_callback and number == len(view["steps"]) else number,
            step["job_id"],
            step["state"],
            step["exit_code"],
            step["run_id"],
            None if step["result"] is None else json.dumps(step["result"], ensure_ascii=False),
        )
        for number, step in enumerate(view["steps"], start=1)
    ]
    console.table(("STEP", "JOB", "STATE", "EXIT", "RUN", "RESULT"), rows, cut="RESULT")


def _because(view: View) -> str | None:
    reason = None if view["reason"] is None else str(view["reason"]).replace("_", " ")
    return str(view["detail"]) if view["detail"] else reason


def declared(context: "Context", options: Namespace) -> int:
    view = context.reports.workflows()
    if context.console.is_json:
        context.console.json(view)
        return 0
    rows = [
        (
            each["id"],
            each["type"],
            _steps(each),
            each["on_failure"],
            each["last_run"] and each["last_run"]["state"],
            each["last_run"] and moment_cell(context, each["last_run"]["at"]),
        )
        for each in view["workflows"]
    ]
    context.console.table(("WORKFLOW", "TYPE", "STEPS", "ON FAILURE", "STATE", "LAST RUN"), rows, cut="STEPS")
    if not rows and context.console.is_terminal:
        context.console.say("no workflow is declared")
    return 0


def _steps(workflow: View) -> str:
    between = " > " if workflow["type"] == WorkflowType.CHAIN else " + "
    steps = between.join(workflow["jobs"])
    return steps if workflow["callback"] is None else f"{steps} > {workflow['callback']}"


def runs(context: "Context", options: Namespace) -> int:
    view = context.reports.workflow_runs(options.name, options.limit)
    if context.console.is_json:
        context.console.json(view)
        return 0
    rows = [
        (
            each["id"],
            each["name"] or each["type"],
            each["state"],
            moment_cell(context, each["queued_at"]),
            moment_cell(context, each["finished_at"]),
            " ".join(f"{step['job_id']}={step['state'] or '-'}" for step in each["steps"]),
            _because(each),
        )
        for each in view["runs"]
    ]
    header = ("WORKFLOW RUN", "WORKFLOW", "STATE", "ASKED FOR", "FINISHED", "STEPS", "REASON")
    context.console.table(header, rows, cut="STEPS")
    if not rows and context.console.is_terminal:
        context.console.say("no workflow has run yet")
    return 0
