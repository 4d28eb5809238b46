"""Requests that say more than which job: params, a time, a payload, an entry of the dead letter queue, a workflow.

One function for each, whoever asks. It checks what was said against what is declared and recorded, and puts it as one
request (`Operations.ask`), so that a request that makes no sense is refused before anything is recorded.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from procclaw.engine.home import Home
from procclaw.engine.inputs import checked_params
from procclaw.engine.operations import Operations
from procclaw.engine.passes import OnWait
from procclaw.engine.reports import Reports
from procclaw.model.clock import iso
from procclaw.model.errors import NotFound, UsageError
from procclaw.model.intents import Details, Intent, IntentKind
from procclaw.model.records import WORKFLOWS, DeadLetter, WorkflowRun
from procclaw.model.spec import Spec, WorkflowSpec

LONGEST_PAYLOAD = 1024 * 1024
"""Bytes of what comes with a trigger; it is kept in the database."""

_ALL = -1
"""SQL's word for no limit."""

_NOW = timedelta(seconds=1)
"""Who names the present moment has it pass while asking."""

Params = Mapping[str, str]
NO_PARAMS: Params = {}
Checked = TypeVar("Checked")


class Patience(NamedTuple):
    """How long to wait for an answer, and whom to tell while it takes."""

    seconds: float | None = None
    """None: however long it takes."""
    on_wait: OnWait | None = None


WAITS = Patience()


class Selection(NamedTuple):
    """Which entries of the dead letter queue: those named, or those that fit all that is said."""

    ids: tuple[int, ...] = ()
    job_id: str | None = None
    added_before: datetime | None = None


class Asking:
    def __init__(self, home: Home, operations: Operations, reports: Reports) -> None:
        self._store = home.store
        self._clock = home.clock
        self._operations = operations
        self._reports = reports

    # --- runs ---

    def start(
        self,
        kind: IntentKind,
        jobs: list[str],
        params: Params = NO_PARAMS,
        *,
        key: str | None = None,
        patience: Patience = WAITS,
    ) -> list[Intent]:
        """START, or RUN of one job, with these params. Raises UsageError for params that do not fit."""
        details = Details(params=self._params(jobs, params))
        return self._ask(kind, jobs, details, patience, key=key)

    def trigger(
        self,
        job_id: str,
        payload: bytes | None,
        params: Params = NO_PARAMS,
        *,
        key: str | None = None,
        patience: Patience = WAITS,
    ) -> Intent:
        """A run as a webhook makes one, with JSON for the job. Raises UsageError for what is no JSON, or too much."""
        if payload is not None:
            check_payload(payload)
        details = Details(params=self._params([job_id], params), has_payload=payload is not None)
        [answer] = self._ask(IntentKind.TRIGGER, [job_id], details, patience, payload=payload, key=key)
        return answer

    def schedule(self, job_id: str, at: datetime, params: Params = NO_PARAMS, patience: Patience = WAITS) -> Intent:
        """A run not before then. Raises UsageError for a time that has passed."""
        if at < self._clock.now() - _NOW:
            raise UsageError(f"{iso(at)} has passed; procclaw run {job_id} starts it now")
        details = Details(params=self._params([job_id], params), at=at)
        [answer] = self._ask(IntentKind.RUN, [job_id], details, patience)
        return answer

    def revoke(
        self, job_id: str, until: datetime | None = None, *, terminates: bool = False, patience: Patience = WAITS
    ) -> Intent:
        [answer] = self._ask(IntentKind.REVOKE, [job_id], Details(until=until), patience, force=terminates)
        return answer

    def _params(self, jobs: list[str], given: Params) -> tuple[tuple[str, str], ...]:
        """What was given, once it fits what each of these jobs declares."""

        def check(spec: Spec) -> None:
            for job_id in jobs:
                checked_params(job_id, spec.jobs[job_id].params, given)

        self._operations.check_declared(jobs)
        self._fitting(check)
        return tuple(sorted(given.items()))

    def _fitting(self, check: Callable[[Spec], Checked]) -> Checked:
        """What `check` finds; where it complains, once more after a look at files that nobody may have read yet."""

        def fits(spec: Spec) -> bool:
            try:
                check(spec)
            except (UsageError, NotFound):
                return False
            return True

        return check(self._operations.spec_that(fits))

    def _ask(
        self,
        kind: IntentKind,
        jobs: list[str],
        details: Details,
        patience: Patience,
        *,
        force: bool = False,
        payload: bytes | None = None,
        key: str | None = None,
    ) -> list[Intent]:
        seconds, on_wait = patience
        return self._operations.ask(
            kind, jobs, force=force, seconds=seconds, on_wait=on_wait, details=details, payload=payload, key=key
        )

    # --- dead letters ---

    def reinject(self, letter_id: int, patience: Patience = WAITS) -> Intent:
        """A new run with the params and the payload of the one that failed. Raises NotFound, UsageError."""
        letter = self._reports.dead_letter(letter_id)
        run = self._store.run(letter.run_id)
        params = dict(run.params) if run is not None else {}
        payload = None if run is None or run.request is None else self._store.payload(run.request)
        details = Details(
            params=self._params([letter.job_id], params),
            dead_letters=(letter.id,),
            has_payload=payload is not None,
        )
        [answer] = self._ask(IntentKind.REINJECT, [letter.job_id], details, patience, payload=payload)
        return answer

    def purge(self, chosen: Selection, patience: Patience = WAITS) -> tuple[int, list[Intent]]:
        """How many entries are gone, and the answers, one for each job. Raises NotFound for one that is named."""
        letters = self._chosen(chosen)
        by_job: dict[str, list[int]] = {}
        for letter in letters:
            by_job.setdefault(letter.job_id, []).append(letter.id)
        answers: list[Intent] = []
        for job_id, ids in by_job.items():
            answers += self._ask(IntentKind.PURGE, [job_id], Details(dead_letters=tuple(ids)), patience)
        left = {letter.id for letter in self._store.dead_letters(None, _ALL)}
        return sum(letter.id not in left for letter in letters), answers

    def _chosen(self, chosen: Selection) -> list[DeadLetter]:
        if chosen.ids:
            return [self._reports.dead_letter(each) for each in dict.fromkeys(chosen.ids)]
        if chosen.job_id is not None:
            self._operations.check_known(chosen.job_id)
        letters = self._store.dead_letters(chosen.job_id, _ALL)
        before = chosen.added_before
        return [letter for letter in letters if before is None or letter.added_at < before]

    # --- workflows ---

    def compose(self, spec: WorkflowSpec, patience: Patience = WAITS) -> Intent:
        """Start a workflow that is put together in the asking. Raises NotFound for jobs that are not declared."""
        self._operations.check_declared(list(dict.fromkeys(spec.steps)))
        return self._start_workflow(spec, "", patience)

    def run_workflow(self, name: str, patience: Patience = WAITS) -> Intent:
        def declared(spec: Spec) -> WorkflowSpec:
            self._reports.check_workflow(name, spec)
            return spec.workflows[name]

        return self._start_workflow(self._fitting(declared), name, patience)

    def _start_workflow(self, spec: WorkflowSpec, name: str, patience: Patience) -> Intent:
        details = Details(workflow=spec, workflow_name=name)
        [answer] = self._ask(IntentKind.WORKFLOW, [WORKFLOWS], details, patience)
        return answer

    def cancel_workflow(self, run_id: str, patience: Patience = WAITS) -> Intent:
        return self._ask_of_workflow(IntentKind.CANCEL_WORKFLOW, run_id, patience)

    def retry_workflow(self, run_id: str, patience: Patience = WAITS) -> Intent:
        return self._ask_of_workflow(IntentKind.RETRY_WORKFLOW, run_id, patience)

    def _ask_of_workflow(self, kind: IntentKind, run_id: str, patience: Patience) -> Intent:
        details = Details(workflow_run=self._reports.workflow_run(run_id).id)
        [answer] = self._ask(kind, [WORKFLOWS], details, patience)
        return answer

    def wait_for_workflow(self, run_id: str, patience: Patience = WAITS) -> WorkflowRun:
        """Wait until it is over. Raises Conflict if that takes too long."""
        return self._operations.wait_for_workflow(run_id, patience.seconds, patience.on_wait)


def check_payload(payload: bytes) -> None:
    """Raises UsageError for what is no JSON, or too long."""
    if len(payload) > LONGEST_PAYLOAD:
        raise UsageError(f"the payload has {len(payload)} bytes; at most {LONGEST_PAYLOAD} are taken")
    try:
        json.loads(payload.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the payload is not JSON: {error}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")
