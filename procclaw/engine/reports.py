"""What a home can be asked to tell beside its jobs and runs: who waits, what failed for good, what is planned, alerts,
workflows, and all that belongs to one job.

Looking only: reads the database and changes nothing. What is asked to be done is in `asking`.
"""

import os
from collections.abc import Iterable
from typing import Any

from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.model.errors import NotFound
from procclaw.model.masking import masked
from procclaw.model.records import HOME, DeadLetter, Run, WorkflowRun
from procclaw.model.spec import JobSpec, Spec
from procclaw.model.state import JobState
from procclaw.planning import listings, views
from procclaw.planning.board import Board
from procclaw.planning.dependencies import lack_of
from procclaw.planning.gates import standing_or_imagined
from procclaw.planning.queue import queue_view
from procclaw.planning.views import View, moment

_SECTIONS = ("config", "jobs", "queues", "workflows")
"""Of the stored configuration, what the files say; the rest is how it came about."""


class Reports:
    def __init__(self, home: Home, operations: Operations) -> None:
        self._home = home
        self._store = home.store
        self._clock = home.clock
        self._operations = operations

    # --- what waits ---

    def queue(self, job_id: str | None = None) -> View:
        """Every run that waits, and the named queues; with a job only what concerns it."""
        spec, now = self._operations.spec(), self._clock.now()
        board = self._operations.board(spec, now, {})
        view = queue_view(board, board.job(HOME).holds, self._store.lack())
        if job_id is None:
            return view
        self._operations.check_known(job_id)
        own = None if job_id not in spec.jobs else spec.jobs[job_id].queue
        return {
            "runs": [run for run in view["runs"] if run["job_id"] == job_id],
            "queues": [queue for queue in view["queues"] if queue["name"] == own],
        }

    def planned(self, job_id: str | None = None) -> View:
        """The runs that somebody has planned for a time that has not come, the next one first."""
        if job_id is not None:
            self._operations.check_known(job_id)
        now = self._clock.now()
        ahead = [run for run in self._store.waiting_runs() if run.is_ahead(now) and job_id in (None, run.job_id)]
        ahead.sort(key=lambda run: run.not_before_at)
        return {"planned": [listings.planned_view(run) for run in ahead], "total": len(ahead)}

    # --- dead letters ---

    def dead_letters(self, job_id: str | None = None, limit: int = 100) -> View:
        """The newest entries of the dead letter queue, newest first, and how many there are."""
        if job_id is not None:
            self._operations.check_known(job_id)
        found = self._store.dead_letters(job_id, limit)
        entries = [listings.dead_letter_view(letter) for letter in found]
        return {"entries": entries, "total": self._store.dead_letter_count(job_id)}

    def dead_letter(self, letter_id: int) -> DeadLetter:
        """Raises NotFound."""
        found = self._store.dead_letter(letter_id)
        if found is None:
            raise NotFound(f"no entry {letter_id} in the dead letter queue")
        return found

    def dead_letter_view(self, letter_id: int) -> View:
        """An entry, and the run that failed."""
        letter = self.dead_letter(letter_id)
        run = self._store.run(letter.run_id)
        return listings.dead_letter_view(letter) | {"run": None if run is None else self._operations.run_view(run)}

    # --- alerts ---

    def alerts(self, job_id: str | None = None, limit: int = 100) -> View:
        """The newest alerts, newest first, whatever became of them."""
        if job_id is not None:
            self._operations.check_known(job_id)
        found = [listings.alert_view(alert) for alert in self._store.alerts(job_id, limit)]
        return {"alerts": found, "total": len(found)}

    # --- workflows ---

    def workflows(self) -> View:
        """Those that are declared, each with its newest run."""
        declared = self._operations.spec().workflows
        newest = {name: next(iter(self._store.workflow_runs(name, 1)), None) for name in declared}
        found = [listings.workflow_view(name, spec, newest[name]) for name, spec in declared.items()]
        return {"workflows": found, "total": len(found)}

    def workflow_runs(self, name: str | None = None, limit: int = 50) -> View:
        """The newest first; without a name also those that were put together in the asking."""
        found = self._store.workflow_runs(name, limit)
        if name is not None and not found:
            self.check_workflow(name)
        return {"runs": [self.workflow_run_view(each) for each in found], "total": len(found)}

    def check_workflow(self, name: str, spec: Spec | None = None) -> None:
        """Raises NotFound for one that is not declared."""
        declared = (spec or self._operations.spec()).workflows
        if name not in declared:
            from difflib import get_close_matches

            close = get_close_matches(name, declared, n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise NotFound(f'no workflow "{name}"{hint}')

    def workflow_run(self, run_id: str) -> WorkflowRun:
        """The run of that id or of that unique beginning of one. Raises NotFound."""
        found = self._store.workflow_runs_like(run_id)
        if len(found) != 1:
            what = f'no workflow run "{run_id}"' if not found else f'more than one workflow run begins with "{run_id}"'
            raise NotFound(what)
        return found[0]

    def workflow_run_view(self, workflow: WorkflowRun) -> View:
        steps = self._store.workflow_steps(workflow.id)
        return listings.workflow_run_view(workflow, steps, {run.id: self._result(run) for run in steps})

    def _result(self, run: Run) -> Any:
        return self._operations.run_view(run)["result"]

    # --- the configuration ---

    def configuration(self) -> View:
        """What is in force, less its secrets, and what is wrong with the files if it is not theirs."""
        from procclaw.engine.files import paths

        home = self._home.paths.home
        stored = self._store.load_spec()
        return {
            "home": home,
            "files": [path for path in paths(home) if os.path.exists(path)],
            "problems": list(self._operations.problems()),
            "warnings": list(self._store.warnings()),
            "document": {name: masked(stored[1].get(name, {})) if stored else {} for name in _SECTIONS},
        }

    # --- one job ---

    def particulars(self, job_id: str) -> View:
        """What `status` tells of a job beyond its view: what it depends on, competes for and is given."""
        now = self._clock.now()
        spec = self._operations.spec()
        job = self._operations.job_spec(job_id)
        board = self._operations.board(spec, now, {job_id: job}, job)
        holds, lack = board.job(HOME).holds, self._store.lack()
        state = board.job(job_id)
        queues = queue_view(board, holds, lack)
        return {
            "health": _health(state),
            "dependencies": list(_dependencies(job, board)),
            "dependants": [
                each.id for each in spec.jobs.values() if job_id in {other.job for other in each.depends_on}
            ],
            "priority": str(job.priority),
            "queue": next((queue for queue in queues["queues"] if queue["name"] == job.queue), None),
            "lock": _lock(job, board),
            "waiting": [run for run in queues["runs"] if run["job_id"] == job_id],
            "planned": self.planned(job_id)["planned"],
            "params": [
                {
                    "name": param.name,
                    "default": param.default,
                    "description": param.description,
                    "required": param.is_required,
                    "pattern": param.pattern,
                }
                for param in job.params
            ],
            "triggers": [
                {"type": str(each.type), "watch_path": each.watch_path, "pattern": each.pattern}
                for each in job.triggers
            ],
            "workflows": [name for name, workflow in spec.workflows.items() if job_id in workflow.steps],
            "dead_letters": self._store.dead_letter_count(job_id),
        }


def _health(job: JobState) -> View | None:
    """What the checks of the living process found; None: it does not live or has not been checked."""
    seen = (active.live.health for active in job.active if active.live is not None)
    found = next((health for health in seen if health is not None), None)
    if found is None:
        return None
    return {
        "is_healthy": found.is_healthy,
        "since": moment(found.since),
        "checked_at": moment(found.checked_at),
        "failures": found.failures,
        "detail": found.detail,
    }


def _dependencies(job: JobSpec, board: Board) -> Iterable[View]:
    run = standing_or_imagined(job, board)
    for dependency in job.depends_on:
        other = board.spec_of(dependency.job)
        status = None
        if other is not None:
            status = views.status(other, board.job(other.id), board.job(HOME).holds, board.now)
        yield {
            "job": dependency.job,
            "condition": str(dependency.condition),
            "timeout": dependency.timeout_seconds,
            "status": status,
            "lacks": lack_of(dependency, run, board),
        }


def _lock(job: JobSpec, board: Board) -> View | None:
    if job.lock is None:
        return None
    holder = board.lock(job).holder
    return {"name": job.lock.name, "provider": str(job.lock.provider), "path": job.lock.path, "holder": holder or None}
