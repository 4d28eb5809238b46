"""What an attempt is given to work with: its params, what came with the request, what earlier steps of its workflow
left, and the place for its own result.

All of it is in the database or in logs before the start, so whoever launches the attempt, now or after a crash, gives
it the same.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from procclaw.engine.world import Output, WorkFiles
from procclaw.model.errors import UsageError
from procclaw.model.records import Attempt, Run, Slice, WorkflowRun
from procclaw.model.spec import JobSpec, Param, WorkflowType
from procclaw.system.store import Store

STDOUT_CHARACTERS = 1_000
"""How much of what a step printed the next one finds in PROCCLAW_PREV_STDOUT."""

RESULT_FILE = "result.json"
PAYLOAD_FILE = "payload.json"
INPUT_FILE = "input.json"


def checked_params(job_id: str, declared: tuple[Param, ...], given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Params as somebody gives them for a run. Raises UsageError for what is unknown, missing or does not match."""
    known = {param.name: param for param in declared}
    for name in given:
        if name not in known:
            names = ", ".join(known) or "none"
            raise UsageError(f'{job_id} has no param "{name}"; it declares {names}')
    for param in declared:
        value = given.get(param.name, param.default)
        if value is None and param.is_required:
            raise UsageError(f"{job_id} needs the param {param.name}: -p {param.name}=VALUE")
        if value is not None and param.pattern is not None and not re.fullmatch(param.pattern, value):
            # Without the value: at a start this goes into the log and into alerts.
            raise UsageError(f"{job_id}: the value of param {param.name} does not match its pattern {param.pattern}")
    return tuple(sorted(given.items()))


class Inputs:
    def __init__(self, store: Store, output: Output, work: WorkFiles) -> None:
        self._store = store
        self._output = output
        self._work = work

    def prepare(self, spec: JobSpec, run: Run, attempt: Attempt) -> dict[str, str]:
        """Lay out the attempt's files; the variables that tell it of them. Raises UsageError, DiskFull."""
        checked_params(spec.id, spec.params, dict(run.params))
        files: dict[str, bytes] = {}
        payload = None if run.request is None else self._store.payload(run.request)
        if payload is not None:
            files[PAYLOAD_FILE] = payload
        variables = {f"PROCCLAW_PARAM_{name}": value for name, value in run.params}
        before = self._steps_before(run)
        if before is not None:
            files[INPUT_FILE] = json.dumps({"workflow_run": run.workflow_run, "steps": before}, indent=1).encode()
            if before and run.step == before[-1]["step"] + 1:  # else the one right before it never got a run
                variables |= _of_previous(before[-1])
        folder = self._work.make(attempt.id, spec.user, files)
        variables["PROCCLAW_RESULT_FILE"] = os.path.join(folder, RESULT_FILE)
        if PAYLOAD_FILE in files:
            variables["PROCCLAW_PAYLOAD_FILE"] = os.path.join(folder, PAYLOAD_FILE)
        if INPUT_FILE in files:
            variables["PROCCLAW_INPUT_FILE"] = os.path.join(folder, INPUT_FILE)
        if run.trigger_file is not None:
            variables["PROCCLAW_TRIGGER_FILE"] = run.trigger_file
        return variables

    # --- earlier steps ---

    def _steps_before(self, run: Run) -> list[dict[str, Any]] | None:
        """What the steps left whose results this one may use, in their order; None: it is not one that follows others.

        Of a chord without any it is none, and the callback finds that as it would find some.
        """
        workflow = None if run.workflow_run is None else self._store.workflow_run(run.workflow_run)
        if workflow is None or run.step is None or not workflow.spec.pass_results:
            return None
        before = _before(workflow, run.step)
        if before is None:
            return None
        newest = {step.step: step for step in self._store.workflow_steps(workflow.id) if step.step is not None}
        return [self._left_by(newest[step]) for step in before if step in newest]

    def _left_by(self, run: Run) -> dict[str, Any]:
        attempts = self._store.attempts(run.id)
        last = attempts[-1] if attempts else None
        result = next((each.result for each in reversed(attempts) if each.result is not None), None)
        return {
            "step": run.step,
            "job_id": run.job_id,
            "run_id": run.id,
            "state": str(run.state),
            "exit_code": run.exit_code,
            "result": None if result is None else json.loads(result),
            "stdout": "" if last is None or last.stdout is None else self._end_of(last.stdout),
        }

    def _end_of(self, part: Slice) -> str:
        """The last characters of an attempt's part of a log."""
        # A character takes up to four bytes.
        text = self._output.end_of(part, 4 * STDOUT_CHARACTERS).decode("utf-8", "replace")
        return text[-STDOUT_CHARACTERS:].replace("\0", "")


def _before(workflow: WorkflowRun, step: int) -> range | None:
    """The steps whose results a step may use: of a chain all before it, of a chord's callback all others."""
    is_callback = step == len(workflow.spec.jobs)
    if is_callback or (workflow.spec.type is WorkflowType.CHAIN and step > 0):
        return range(step)
    return None


def _of_previous(left: Mapping[str, Any]) -> dict[str, str]:
    code = left["exit_code"]
    return {
        "PROCCLAW_PREV_RUN_ID": left["run_id"],
        "PROCCLAW_PREV_EXIT_CODE": "" if code is None else str(code),
        "PROCCLAW_PREV_STDOUT": left["stdout"],
    }
