"""The routes: for each method and path what it is for, what it takes, and the function that answers.

The application serves this table and the OpenAPI document describes it, so neither can say what the other does not.
"""

from collections.abc import Callable
from typing import NamedTuple

from procclaw.interface.api import acts, looks
from procclaw.interface.api.desk import Call, Desk, Reply, Stream
from procclaw.interface.api.fields import (
    FLAG,
    MOMENT,
    PARAMS,
    Field,
    choice,
    seconds,
    text,
    whole,
    words,
)
from procclaw.model.records import RunState
from procclaw.model.spec import JobType, OnFailure
from procclaw.planning.views import STATUSES, View

Handler = Callable[[Desk, Call], View | Reply | Stream]

PREFIX = "/api/v1/"
KEY_PATTERN = "[!-~]{1,256}"
"""Of an Idempotency-Key."""
_DAY = 86_400.0
_YEAR = 366 * _DAY
_LONGEST_LOG = 10_000
_LONGEST_WAIT_SECONDS = 30.0


class Route(NamedTuple):
    method: str
    path: str
    """Below the prefix; `{id}` stands for one id."""
    handler: Handler
    summary: str
    answer: str
    """Name of the schema of what it answers with 200, or 202."""
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] = ()
    takes_key: bool = False
    """Honours Idempotency-Key."""
    takes_anything: bool = False
    """Its body is any JSON, for a job to read."""

    @property
    def may_take_longer(self) -> bool:
        """Answers with 202 what is still under way."""
        return self.method != "GET"


_ID = text(longest=256, shortest=1)
_JOB = Field("job", _ID, "Only of this job.")
_PARAMS = Field("params", PARAMS, "Values of the params that the job declares.", {})


def _limit(default: int) -> Field:
    return Field("limit", whole(1, 10_000), "At most so many.", default)


def _lines(default: int) -> tuple[Field, ...]:
    return (
        Field("lines", whole(1, _LONGEST_LOG), "So many of the last lines of each log.", default),
        Field("offset", whole(0, 1_000_000), "Less so many of the very last.", 0),
        Field("stream", choice(("both", "stdout", "stderr")), "Which log.", "both"),
    )


_COMPOSED = (
    Field("jobs", words(), "Ids of jobs, in order.", is_required=True),
    Field("on_failure", choice(OnFailure), "What follows when one of them has failed.", "stop"),
    Field("timeout", seconds(0.001, _YEAR), "How long the whole may take; without it as long as it takes."),
    Field("pass_results", FLAG, "Whether later steps find the results of earlier ones.", default=True),
)
_SIDE_BY_SIDE = Field("max_parallel", whole(1, 1_000_000), "At most so many of them at one time.")
_CALLBACK = Field("callback", _ID, "Id of the job that follows when all have ended.", is_required=True)

LISTING = (
    Field("q", text(), "Only jobs with this text in id, name, description or a tag."),
    Field("status", choice(STATUSES), "Only jobs in this status."),
    Field("type", choice(JobType), "Only jobs of this type."),
    Field("tag", words(most=16), "Only jobs with this tag; given again, with each of them.", ()),
    Field("tags", text(), "Only jobs with at least one of these tags, separated by commas."),
    Field("enabled", FLAG, "Only jobs that are enabled, or that are not."),
    Field("limit", whole(1, 100_000), "At most so many."),
    Field("offset", whole(0, 100_000), "Less so many of the first.", 0),
)
"""Of GET jobs, which the application answers by itself, from what it keeps ready."""


def _of_job(
    name: str, handler: Handler, summary: str, *, body: tuple[Field, ...] = (), takes_key: bool = False
) -> Route:
    return Route("POST", f"jobs/{{id}}/{name}", handler, summary, "Answer", (), body, takes_key)


ROUTES = (
    Route("GET", "jobs/{id}", looks.job, "A job in full.", "JobInFull"),
    _of_job("start", acts.start, "Let the job run; one that runs as wanted stays as it is.", body=(_PARAMS,)),
    _of_job("run", acts.run, "Another run of the job, whatever runs already.", body=(_PARAMS,), takes_key=True),
    _of_job(
        "stop",
        acts.stop,
        "Stop the job; a continuous one stays stopped until it is started.",
        body=(Field("force", FLAG, "Kill at once, without a grace period.", default=False),),
    ),
    _of_job("restart", acts.restart, "Stop the job and start it, in one request."),
    _of_job("pause", acts.pause, "Leave alone what runs and start nothing."),
    _of_job("resume", acts.resume, "End a pause."),
    Route("GET", "jobs/{id}/why", looks.why, "Every gate between the job and its next start.", "Why"),
    Route(
        "GET",
        "jobs/{id}/logs",
        looks.job_log,
        "The last lines that the job wrote.",
        "Log",
        (*_lines(100), Field("run", _ID, "Only of this run.")),
    ),
    Route(
        "GET",
        "jobs/{id}/logs/download",
        looks.download,
        "A log of the job, whole.",
        "text/plain",
        (Field("stream", choice(("stdout", "stderr")), "Which log.", "stdout"),),
    ),
    _of_job(
        "schedule",
        acts.schedule,
        "A run for later.",
        body=(
            Field("at", MOMENT, "Not before then; without an offset in the job's zone."),
            Field("in_seconds", seconds(0, 10 * _YEAR), "Not before so many seconds from now."),
            _PARAMS,
        ),
    ),
    Route("DELETE", "jobs/{id}/schedule", acts.unschedule, "Cancel what is planned for later.", "Answer"),
    _of_job(
        "revoke",
        acts.revoke,
        "Start nothing more of the job and cancel what waits.",
        body=(
            Field("until", MOMENT, "Until then; without an offset in the job's zone."),
            Field("expires_seconds", seconds(0, 10 * _YEAR), "For so many seconds."),
            Field("terminate", FLAG, "Stop what runs as well.", default=False),
        ),
    ),
    Route("DELETE", "jobs/{id}/revoke", acts.unrevoke, "End a revocation.", "Answer"),
    Route(
        "GET",
        "runs",
        looks.runs,
        "Runs, the newest first.",
        "Runs",
        (
            _JOB,
            Field("state", choice(RunState), "Only runs in this state."),
            _limit(50),
            Field("offset", whole(0, 1_000_000), "Less so many of the newest.", 0),
        ),
    ),
    Route("GET", "runs/{id}", looks.run, "A run with its attempts.", "Run"),
    Route("GET", "runs/{id}/logs", looks.run_log, "What a run wrote.", "Log", _lines(1000)),
    Route("GET", "queue", looks.queue, "All runs that wait, in their order, and the named queues.", "Queue"),
    Route(
        "GET", "dlq", looks.dead_letters, "The dead letter queue, the newest first.", "DeadLetters", (_JOB, _limit(100))
    ),
    Route("GET", "dlq/{id}", looks.dead_letter, "An entry, and the run that failed.", "DeadLetterInFull"),
    Route(
        "POST",
        "dlq/{id}/reinject",
        acts.reinject,
        "Put it in again: a new run with the same params and payload.",
        "Answer",
    ),
    Route("DELETE", "dlq/{id}", acts.purge_one, "Throw an entry away.", "Purged"),
    Route(
        "DELETE",
        "dlq",
        acts.purge,
        "Throw entries away: those that fit all that is said.",
        "Purged",
        (_JOB, Field("older_than_seconds", seconds(0, 10 * _YEAR), "Only entries as old as that.")),
    ),
    Route(
        "POST",
        "trigger/{id}",
        acts.trigger,
        "A run for what happened elsewhere; the body is for the job.",
        "Answer",
        takes_key=True,
        takes_anything=True,
    ),
    Route("GET", "workflows", looks.workflows, "The workflows that are declared.", "Workflows"),
    Route("POST", "workflows/{id}/run", acts.run_workflow, "Run a workflow.", "WorkflowAnswer"),
    Route(
        "GET",
        "workflow-runs",
        looks.workflow_runs,
        "Runs of workflows, the newest first.",
        "WorkflowRuns",
        (Field("workflow", _ID, "Only of this workflow."), _limit(50)),
    ),
    Route("GET", "workflow-runs/{id}", looks.workflow_run, "A run of a workflow, step by step.", "WorkflowRun"),
    Route(
        "POST",
        "workflow-runs/{id}/cancel",
        acts.cancel_workflow,
        "End it: what runs is stopped, the rest left out.",
        "WorkflowAnswer",
    ),
    Route(
        "POST", "workflow-runs/{id}/retry", acts.retry_workflow, "Go on from what did not succeed.", "WorkflowAnswer"
    ),
    Route("POST", "chain", acts.chain, "Run jobs one after the other.", "WorkflowAnswer", (), _COMPOSED),
    Route("POST", "group", acts.group, "Run jobs side by side.", "WorkflowAnswer", (), (*_COMPOSED, _SIDE_BY_SIDE)),
    Route(
        "POST",
        "chord",
        acts.chord,
        "Run jobs side by side, and then one more.",
        "WorkflowAnswer",
        (),
        (*_COMPOSED, _SIDE_BY_SIDE, _CALLBACK),
    ),
    Route(
        "GET",
        "plan",
        looks.plan,
        "What a pass over everything would do now.",
        "Plan",
        (Field("for_seconds", seconds(0, _YEAR), "Also what will fire within so many seconds."),),
    ),
    Route(
        "GET",
        "ledger",
        looks.ledger,
        "What became of due times, the newest first.",
        "Ledger",
        (_JOB, Field("since", MOMENT, "Only times due since then."), _limit(100)),
    ),
    Route("GET", "alerts", looks.alerts, "Alerts, the newest first.", "Alerts", (_JOB, _limit(100))),
    Route(
        "GET",
        "events",
        looks.events,
        "What happened; as a stream for who accepts text/event-stream.",
        "Events",
        (
            Field("after", whole(0, 2**62), "Only events later than this one; 0: the newest there are.", 0),
            _limit(100),
            Field("wait", seconds(0, _LONGEST_WAIT_SECONDS), "Wait so long for one if there is none.", 0.0),
        ),
    ),
    Route("GET", "config", looks.config, "The configuration in force, less its secrets.", "Configuration"),
    Route("POST", "reload", acts.reload, "Read the files now and apply them.", "Reloaded"),
)
