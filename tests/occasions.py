"""What a run may be made for, judged apart from the product's own words: once per file, key and window, never too soon.

Belongs to the oracle, which tells it of every commit; its accounts go back with an older database.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from procclaw.model.alerts import Alert, AlertKind
from procclaw.model.clock import seconds_between
from procclaw.model.document import Document
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.reasons import Reason
from procclaw.model.records import DeadLetter, DeadLettersPurged, Run, RunState, Trigger
from procclaw.model.rows import Row
from procclaw.model.spec import WorkflowSpec
from tests.lives import Life, Violation
from tests.outside import Outside

_DEDUPED = frozenset({Trigger.MANUAL, Trigger.SCHEDULE, Trigger.CATCH_UP, Trigger.WEBHOOK})


class Known:
    """What was recorded of runs; goes back with an older database."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.created: dict[str, int] = {}
        """By run, when it was first recorded (elapsed)."""
        self.etas: dict[str, datetime] = {}
        self.occasions: set[str] = set()
        self.of_file: dict[tuple[str, str], set[str]] = {}
        self.payloads: dict[int, bytes] = {}
        self.purged: set[int] = set()
        self.answered: dict[int, Intent] = {}
        self.steps: dict[tuple[str, int], list[str]] = {}
        """By workflow run and step, the runs of it that were let start, in their order."""
        self.retries: Counter[str] = Counter()
        """By workflow run, how often somebody asked to go on with it."""


class Occasions:
    def __init__(self, outside: Outside, look: Callable[[str], list[Any]]) -> None:
        self._outside = outside
        self._machine = outside.machine
        self._looked = look
        self.known = Known()

    def go_back(self, known: Known) -> None:
        self.known = known
        self.known.of_file.clear()
        self.known.steps.clear()
        self._outside.shown.clear()

    def forget(self, job_id: str) -> None:
        """The job is no longer declared; should it come back, its files are new."""
        for seen in (self.known.of_file, self._outside.shown):
            for key in [key for key in seen if key[0] == job_id]:
                del seen[key]

    def on_commit(self, rows: Iterable[Row], jobs: Document, latest: datetime, began: int) -> None:
        """`latest`: the wall clock's furthest reading within the cycle; `began`: when that began (elapsed)."""
        written = tuple(rows)
        before = set(self.known.runs)
        after = {row.id: row for row in written if isinstance(row, Run)}
        intents = {row.id: row for row in written if isinstance(row, Intent)}
        for run in after.values():
            if run.id not in self.known.runs:
                self._check_new(run, after, jobs, intents)
        for run in after.values():
            self._check_stopped_early(run, latest)
            self.known.runs[run.id] = run
            self.known.occasions.add(run.occasion)
            self.known.created.setdefault(run.id, began)
        for intent in intents.values():
            self._take_in(intent, before, latest)
        self._check_letters(written, after)
        self._check_alerts(written, after, jobs)

    # --- new runs ---

    def _check_new(self, run: Run, after: Mapping[str, Run], jobs: Document, intents: Mapping[int, Intent]) -> None:
        if run.trigger is Trigger.FILE and run.trigger_file is not None:
            runs = self.known.of_file.setdefault((run.job_id, run.trigger_file), set())
            runs.add(run.id)
            shown = self._outside.shown.get((run.job_id, run.trigger_file), set())
            if len(runs) > len(shown):
                raise Violation(
                    1, f"{run.trigger_file} triggered {sorted(runs)}, and settled were only {sorted(shown)}"
                )
        job = jobs.get(run.job_id)
        if job is None or not job["dedup"]["enabled"] or job["type"] == "continuous":
            return
        if run.trigger not in _DEDUPED or self._is_restart(run, intents):
            return
        for other in {**self.known.runs, **after}.values():
            earlier = self.known.runs.get(other.id)
            if earlier is None and (other.trigger not in _DEDUPED or self._is_restart(other, intents)):
                continue  # made by this very commit, and perhaps after this one
            if other.id != run.id and self._stands_for(earlier or other, other, run, job):
                raise Violation(1, f"run {run.job_id}/{run.id} was made, and {other.id} stands for it already (dedup)")

    def _stands_for(self, earlier: Run, other: Run, run: Run, job: Document) -> bool:
        if other.job_id != run.job_id:
            return False
        # A slot is a request for its due time, whenever it was noticed.
        age = seconds_between(earlier.scheduled_at or earlier.queued_at, run.scheduled_at or run.queued_at)
        if not 0 <= age < job["dedup"]["window_seconds"] or (job["dedup"]["use_params"] and other.params != run.params):
            return False
        if self._was_purged(other):
            return False
        is_ahead = earlier.trigger is Trigger.ETA and earlier.attempts == 0 and earlier.not_before_at > run.queued_at
        return not is_ahead and (other.is_active or other.state is RunState.SUCCEEDED)

    def _was_purged(self, run: Run) -> bool:
        return not self._looked(f"SELECT 1 FROM runs WHERE id = '{run.id}'")

    def _is_restart(self, run: Run, intents: Mapping[int, Intent]) -> bool:
        """A restart has ended what it stands for, so it asks for another run in any case; what is found again is not
        asked for.
        """
        if run.occasion.startswith("record:"):
            return True
        if not run.occasion.startswith("intent:"):
            return False
        number = int(run.occasion.removeprefix("intent:").partition("@")[0])
        intent = intents.get(number) or self.known.answered.get(number)
        return intent is None or intent.kind is IntentKind.RESTART

    # --- times ---

    def _take_in(self, intent: Intent, before: set[str], latest: datetime) -> None:
        self.known.answered[intent.id] = intent
        if intent.state is not IntentState.DONE:
            return
        at = intent.details.at
        if intent.kind is IntentKind.RUN and at is not None and intent.run_id is not None:
            run = self.known.runs.get(intent.run_id)
            if run is not None and run.trigger is Trigger.ETA:
                self.known.etas[intent.run_id] = at
        if intent.kind is IntentKind.RETRY_WORKFLOW:
            self.known.retries[intent.details.workflow_run] += 1
        if intent.kind is IntentKind.CANCEL_ETA:
            for run in [self.known.runs[run_id] for run_id in before]:
                if run.job_id == intent.job_id and run.is_ahead(latest) and not self._was_purged(run):
                    raise Violation(9, f"request {intent.id}: {intent.message}, and run {run.id} is still planned")

    # --- workflows ---

    def check_step(self, run_id: str) -> None:
        """A step is let start: what comes before it is done, and the step itself is not."""
        found = self._looked(
            "SELECT r.workflow_run, r.step, w.spec FROM runs r JOIN workflow_runs w ON w.id = r.workflow_run "
            f"WHERE r.id = '{run_id}'"
        )
        if not found:
            return
        workflow, step, text = found[0]
        spec = WorkflowSpec(*json.loads(text))
        self._machine.trace.met[f"step of a {spec.type}"] += 1
        runs = self.known.steps.setdefault((workflow, step), [])
        if run_id not in runs:
            runs.append(run_id)
        if any(self._went_well(earlier) for earlier in runs[:-1] if not self._is_unreadable(earlier)):
            raise Violation(11, f"step {step} of workflow run {workflow} succeeded, and it is started again: {runs}")
        most = (1 + self.known.retries[workflow]) * (3 if spec.on_failure == "retry" else 1)
        if len(runs) > most:
            raise Violation(11, f"step {step} of workflow run {workflow} is started more than {most} times: {runs}")
        is_callback = step == len(spec.jobs)
        for before in range(step) if spec.type == "chain" or is_callback else ():
            self._check_before(workflow, before, step, spec)

    def _check_before(self, workflow: str, before: int, step: int, spec: WorkflowSpec) -> None:
        runs = self.known.steps.get((workflow, before), [])
        alive = [run for run in runs if any(life.is_alive for life in self._lives_of(run))]
        if alive:
            raise Violation(11, f"step {step} of {workflow} is started, and step {before} is alive: {alive}")
        if spec.on_failure != "continue" and not any(map(self._went_well, runs)):
            raise Violation(11, f"step {step} of {workflow} is started, and step {before} has not succeeded: {runs}")

    def _lives_of(self, run_id: str) -> list[Life]:
        return [life for life in self._machine.lives.values() if life.run_id == run_id]

    def _is_unreadable(self, run_id: str) -> bool:
        """Somebody deleted a record of it, so nobody knows how it ended."""
        return any(life.facts.get("is_record_deleted") for life in self._lives_of(run_id))

    def _went_well(self, run_id: str) -> bool:
        return any(life.went_well for life in self._lives_of(run_id))

    def check_settled(self) -> None:
        """A workflow that is not over has a step that is under way or waits."""
        idle = self._looked(
            "SELECT w.id, w.spec, w.tries FROM workflow_runs w WHERE w.finished_at IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM runs r WHERE r.workflow_run = w.id AND r.finished_at IS NULL)"
        )
        if idle:
            raise Violation(10, f"workflow runs that wait for nothing: {idle}")

    def _check_stopped_early(self, run: Run, latest: datetime) -> None:
        """A stop leaves alone what is planned for later."""
        before = self.known.runs.get(run.id)
        if before is None or not before.is_ahead(latest) or run.is_active:
            return
        if run.reason not in (Reason.CANCELLED, Reason.REVOKED, Reason.REMOVED):
            raise Violation(9, f"run {run.job_id}/{run.id} is planned for later, and became {run.state}: {run.reason}")

    def check_not_early(self, run_id: str, latest: datetime) -> None:
        at = self.known.etas.get(run_id)
        if at is not None and at > latest:
            raise Violation(9, f"run {run_id} is planned for {at}, and it started at {latest}")

    # --- dead letters ---

    def _check_letters(self, rows: tuple[Row, ...], after: Mapping[str, Run]) -> None:
        for row in rows:
            match row:
                case DeadLettersPurged():
                    self.known.purged.update(row.ids)
                case DeadLetter() if row.id == 0 and row.run_id in after:
                    if after[row.run_id].state is not RunState.FAILED:
                        raise Violation(10, f"a dead letter for a run that has not failed: {row}")
        for run in after.values():
            if run.state is RunState.FAILED:
                found = self._looked(f"SELECT count(*) FROM dead_letters WHERE run_id = '{run.id}'")
                if found != [(1,)]:
                    raise Violation(10, f"run {run.job_id}/{run.id} failed and has {found[0][0]} dead letters")

    def _check_alerts(self, rows: tuple[Row, ...], after: Mapping[str, Run], jobs: Document) -> None:
        """Of every run that has failed somebody is to be told, and of no other."""
        told = {row.run_id for row in rows if isinstance(row, Alert) and row.kind is AlertKind.FAILED}
        for row in rows:
            if isinstance(row, Alert):
                self._machine.trace.met[f"alert: {row.kind}"] += 1
        for run in after.values():
            job = jobs.get(run.job_id)
            is_due = run.state is RunState.FAILED and job is not None and job["alerts"]["on_max_retries"]
            if is_due and run.id not in told:
                raise Violation(10, f"run {run.job_id}/{run.id} failed, and nobody is told")
            if run.id in told and run.state is not RunState.FAILED:
                raise Violation(10, f"run {run.job_id}/{run.id} is said to have failed: {run.state}")

    # --- what an attempt is given ---

    def check_given(self, life: Life) -> None:
        """A run that a request with a body occasioned finds that body."""
        found = self._looked(f"SELECT request FROM runs WHERE id = '{life.run_id}'")
        wanted = self.known.payloads.get(found[0][0]) if found and found[0][0] is not None else None
        attempt = f"{life.run_id}.{life.number}"
        given = self._outside.work.get(attempt, {}).get("payload.json")
        if given != wanted or ("PROCCLAW_PAYLOAD_FILE" in life.env) != (wanted is not None):
            raise Violation(6, f"{life} was given the payload {given!r}, asked with was {wanted!r}")

    def check_before(self, life: Life) -> None:
        """A step is told how the one before it ended."""
        previous = life.env.get("PROCCLAW_PREV_RUN_ID")
        lives = self._lives_of(previous) if previous else []
        code = life.env.get("PROCCLAW_PREV_EXIT_CODE")
        if lives and not any(code == ("" if each.code is None else str(each.code)) for each in lives):
            raise Violation(6, f"{life} was told that {previous} ended with {code}, it was {lives[-1].code}")

    def check_deletion(self, path: str, jobs: Document) -> None:
        """A file may go only when a run for it has succeeded, or nobody ever gets to see what was in it."""
        lives = (life for life in self._machine.lives.values() if life.file == path)
        if not any(life.went_well for life in lives):
            raise Violation(1, f"{path} was deleted, and no run for it has succeeded")
        if not any(trigger["delete_after"] for job in jobs.values() for trigger in job["trigger"]):
            raise Violation(1, f"{path} was deleted, and no trigger says so")
