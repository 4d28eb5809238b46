"""The shapes of what is answered, as JSON Schemas, by the names under which the OpenAPI document lists them."""

from typing import Any

from procclaw.model.alerts import AlertKind, AlertState
from procclaw.model.reasons import Reason
from procclaw.model.records import RunState, SlotOutcome, Trigger
from procclaw.model.spec import Condition, JobType, OnFailure, Priority, WorkflowType
from procclaw.planning.views import STATUSES

Schema = dict[str, Any]


def _either(schema: Schema) -> Schema:
    """That, or null."""
    if "enum" in schema:
        return {"type": [schema["type"], "null"], "enum": [*schema["enum"], None]}
    if "type" in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"oneOf": [schema, {"type": "null"}]}


def _one_of(values: Any) -> Schema:
    return {"type": "string", "enum": [str(each) for each in values]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(optional: Schema | None = None, **fields: Schema) -> Schema:
    """Every field is there, but for the optional ones."""
    return {
        "type": "object",
        "properties": fields | (optional or {}),
        "required": list(fields),
        "additionalProperties": False,
    }


def _extended(base: Schema, **fields: Schema) -> Schema:
    return _object(**base["properties"], **fields)


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_TEXTS = _list(_TEXT)
_WHOLE: Schema = {"type": "integer"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_MOMENT: Schema = {"type": "string", "format": "date-time"}
_ANYTHING: Schema = {}
_PARAMS: Schema = {"type": "object", "additionalProperties": _TEXT}
_REASON = _either(_one_of(Reason))

_DEPENDENCY = _object(job=_TEXT, condition=_one_of(Condition), timeout=_either(_NUMBER))

_JOB = _object(
    id=_TEXT,
    name=_TEXT,
    description=_TEXT,
    type=_one_of(JobType),
    status=_one_of(STATUSES),
    health=_either(_one_of(("healthy", "unhealthy", "unknown"))),
    enabled=_FLAG,
    paused=_FLAG,
    tags=_TEXTS,
    pid=_either(_WHOLE),
    started_at=_either(_MOMENT),
    uptime_seconds=_either(_NUMBER),
    restart_count=_COUNT,
    last_run=_either(_MOMENT),
    last_exit_code=_either(_WHOLE),
    next_run=_either(_MOMENT),
    reason=_either(_TEXT),
    schedule=_TEXTS,
    depends_on=_list(_DEPENDENCY),
    cpu_percent=_either(_NUMBER),
    memory_mb=_either(_NUMBER),
)

_WAITING = _object(
    position=_COUNT,
    job_id=_TEXT,
    run_id=_TEXT,
    priority=_one_of(Priority),
    state=_one_of(RunState),
    trigger=_one_of(Trigger),
    queue=_either(_TEXT),
    waiting_since=_MOMENT,
    gate=_either(_TEXT),
    waits_for=_either(_TEXT),
    until=_either(_MOMENT),
    expires_at=_either(_MOMENT),
)
_IN_QUEUE = _list(_object(job_id=_TEXT, run_id=_TEXT, priority=_one_of(Priority), started_at=_either(_MOMENT)))
_NAMED_QUEUE = _object(name=_TEXT, limit=_COUNT, running=_IN_QUEUE, waiting=_IN_QUEUE)
_PLANNED = _object(job_id=_TEXT, run_id=_TEXT, at=_MOMENT, params=_PARAMS, asked_at=_MOMENT)

_PARTICULARS = _object(
    health=_either(
        _object(
            is_healthy=_either(_FLAG),
            since=_either(_MOMENT),
            checked_at=_either(_MOMENT),
            failures=_COUNT,
            detail=_TEXT,
        )
    ),
    dependencies=_list(_extended(_DEPENDENCY, status=_either(_one_of(STATUSES)), lacks=_either(_TEXT))),
    dependants=_TEXTS,
    priority=_one_of(Priority),
    queue=_either(_NAMED_QUEUE),
    lock=_either(_object(name=_TEXT, provider=_TEXT, path=_either(_TEXT), holder=_either(_TEXT))),
    waiting=_list(_WAITING),
    planned=_list(_PLANNED),
    params=_list(
        _object(name=_TEXT, default=_either(_TEXT), description=_TEXT, required=_FLAG, pattern=_either(_TEXT))
    ),
    triggers=_list(_object(type=_TEXT, watch_path=_either(_TEXT), pattern=_either(_TEXT))),
    workflows=_TEXTS,
    dead_letters=_COUNT,
)

_ATTEMPT = _object(
    number=_COUNT,
    pid=_either(_WHOLE),
    started_at=_either(_MOMENT),
    finished_at=_either(_MOMENT),
    exit_code=_either(_WHOLE),
    signal=_either(_WHOLE),
    reason=_REASON,
    detail=_TEXT,
    cpu_seconds=_either(_NUMBER),
    max_rss_mb=_either(_NUMBER),
    result=_ANYTHING,
)

_RUN = _object(
    id=_TEXT,
    job_id=_TEXT,
    state=_one_of(RunState),
    trigger=_one_of(Trigger),
    priority=_one_of(Priority),
    params=_PARAMS,
    scheduled_at=_either(_MOMENT),
    queued_at=_MOMENT,
    started_at=_either(_MOMENT),
    finished_at=_either(_MOMENT),
    duration_seconds=_either(_NUMBER),
    attempts=_list(_ATTEMPT),
    exit_code=_either(_WHOLE),
    signal=_either(_WHOLE),
    reason=_REASON,
    detail=_TEXT,
    result=_ANYTHING,
)

_DEAD_LETTER = _object(
    id=_COUNT,
    job_id=_TEXT,
    run_id=_TEXT,
    added_at=_MOMENT,
    reason=_TEXT,
    detail=_TEXT,
    exit_code=_either(_WHOLE),
    attempts=_COUNT,
    reinjected_run_id=_either(_TEXT),
)

_STEP = _object(
    step=_COUNT,
    job_id=_TEXT,
    run_id=_either(_TEXT),
    state=_either(_one_of(RunState)),
    exit_code=_either(_WHOLE),
    result=_ANYTHING,
)

SCHEMAS: dict[str, Schema] = {
    "Error": _object(error=_object(code=_TEXT, message=_TEXT)),
    "Health": _object(
        status=_one_of(("healthy", "unhealthy")),
        version=_TEXT,
        jobs_running=_COUNT,
        jobs_total=_COUNT,
        problems=_TEXTS,
    ),
    "Job": _JOB,
    "Jobs": _object(jobs=_list(ref("Job")), total=_COUNT),
    "JobInFull": _extended(_JOB, particulars=_PARTICULARS),
    "Answer": _object(
        {"status": _one_of(STATUSES)},
        success=_FLAG,
        message=_TEXT,
        job_id=_TEXT,
        run_id=_either(_TEXT),
        pid=_either(_WHOLE),
    ),
    "Why": _object(
        job_id=_TEXT,
        can_start=_FLAG,
        earliest_start=_either(_MOMENT),
        gates=_list(
            _object(
                gate=_TEXT,
                open=_FLAG,
                reason=_either(_TEXT),
                since=_either(_MOMENT),
                until=_either(_MOMENT),
                unblock=_either(_TEXT),
            )
        ),
    ),
    "Log": _object(
        job_id=_TEXT,
        lines=_TEXTS,
        entries=_list(_object(stream=_one_of(("stdout", "stderr")), line=_TEXT)),
        total_lines=_COUNT,
    ),
    "Run": _RUN,
    "Runs": _object(runs=_list(ref("Run")), total=_COUNT),
    "Queue": _object(runs=_list(_WAITING), queues=_list(_NAMED_QUEUE)),
    "DeadLetters": _object(entries=_list(_DEAD_LETTER), total=_COUNT),
    "DeadLetterInFull": _extended(_DEAD_LETTER, run=_either(ref("Run"))),
    "Purged": _object(success=_FLAG, message=_TEXT, purged=_COUNT),
    "Workflows": _object(
        workflows=_list(
            _object(
                id=_TEXT,
                type=_one_of(WorkflowType),
                jobs=_TEXTS,
                callback=_either(_TEXT),
                on_failure=_one_of(OnFailure),
                max_parallel=_either(_COUNT),
                timeout=_either(_NUMBER),
                pass_results=_FLAG,
                last_run=_either(_object(id=_TEXT, state=_one_of(RunState), at=_MOMENT)),
            )
        ),
        total=_COUNT,
    ),
    "WorkflowAnswer": _object(success=_FLAG, message=_TEXT, workflow_run_id=_either(_TEXT)),
    "WorkflowRun": _object(
        id=_TEXT,
        name=_TEXT,
        type=_one_of(WorkflowType),
        state=_one_of(RunState),
        queued_at=_MOMENT,
        finished_at=_either(_MOMENT),
        reason=_REASON,
        detail=_TEXT,
        on_failure=_one_of(OnFailure),
        steps=_list(_STEP),
    ),
    "WorkflowRuns": _object(runs=_list(ref("WorkflowRun")), total=_COUNT),
    "Plan": _object(
        {
            "fires": _list(_object(job_id=_TEXT, at=_MOMENT, local=_TEXT, note=_TEXT)),
            "more": _list(_object(job_id=_TEXT, count=_COUNT, first_at=_MOMENT, last_at=_MOMENT, note=_TEXT)),
        },
        actions=_list({"type": "object", "properties": {"job_id": _TEXT, "action": _TEXT, "because": _TEXT}}),
        waits=_list(_object(job_id=_TEXT, run_id=_either(_TEXT), because=_TEXT, until=_either(_MOMENT))),
        wake_at=_either(_MOMENT),
        problems=_TEXTS,
    ),
    "Ledger": _object(
        slots=_list(
            _object(
                job_id=_TEXT,
                first_due_at=_MOMENT,
                last_due_at=_MOMENT,
                count=_COUNT,
                outcome=_one_of(SlotOutcome),
                reason=_REASON,
                run_id=_either(_TEXT),
            )
        )
    ),
    "Alerts": _object(
        alerts=_list(
            _object(
                key=_TEXT,
                job_id=_TEXT,
                kind=_one_of(AlertKind),
                state=_one_of(AlertState),
                raised_at=_MOMENT,
                message=_TEXT,
                run_id=_either(_TEXT),
                tries=_COUNT,
                next_try_at=_either(_MOMENT),
                done_at=_either(_MOMENT),
                detail=_TEXT,
            )
        ),
        total=_COUNT,
    ),
    "Events": _object(
        events=_list(
            {
                "type": "object",
                "properties": {"id": _COUNT, "at": _MOMENT, "event": _TEXT, "job_id": _either(_TEXT)},
                "required": ["id", "at", "event", "job_id"],
            }
        ),
        next=_COUNT,
    ),
    "Configuration": _object(
        version=_TEXT,
        home=_TEXT,
        files=_TEXTS,
        problems=_TEXTS,
        warnings=_TEXTS,
        document={"type": "object"},
        daemon=_object(pid=_either(_WHOLE), address=_either(_TEXT)),
    ),
    "Reloaded": _object(success=_FLAG, message=_TEXT, problems=_TEXTS, warnings=_TEXTS),
}
