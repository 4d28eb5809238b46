"""What jobs.yaml and procclaw.yaml say, as values.

`system/specfile` parses, checks and completes the files into a *document*: plain JSON types in which every field of
every job is present with its default, times are seconds and lists are lists. The store keeps that document, and the
functions here turn it into values, so nothing behind this module deals with a missing key or two spellings of a thing.

NamedTuples rather than dataclasses, here and in `state`: a slotted dataclass costs 0.85 ms to define, a NamedTuple
0.1 ms, and `procclaw list` has 35 ms for everything.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from procclaw.model.clock import from_microseconds

Document = Mapping[str, Any]


class JobType(StrEnum):
    MANUAL = "manual"
    CONTINUOUS = "continuous"
    SCHEDULED = "scheduled"
    ONESHOT = "oneshot"


class Overlap(StrEnum):
    SKIP = "skip"
    QUEUE = "queue"
    KILL_RESTART = "kill_restart"


class CatchUpPolicy(StrEnum):
    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Restart(StrEnum):
    ALWAYS = "always"
    ON_FAILURE = "on_failure"
    NEVER = "never"


class Leftovers(StrEnum):
    STOP = "stop"
    KEEP = "keep"


class Priority(StrEnum):
    """Who goes first among runs that wait; in this order."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(Priority)}


class Condition(StrEnum):
    """What a dependency asks of the other job. `before_complete` is not among them: see `Dependency`."""

    AFTER_START = "after_start"
    AFTER_HEALTHY = "after_healthy"
    AFTER_COMPLETE = "after_complete"


class CheckType(StrEnum):
    PROCESS = "process"
    NONE = "none"
    HTTP = "http"
    TCP = "tcp"
    FILE = "file"
    EXEC = "exec"


class OnUnhealthy(StrEnum):
    RESTART = "restart"
    ALERT = "alert"


class LockProvider(StrEnum):
    FILE = "file"
    SQLITE = "sqlite"


class TriggerType(StrEnum):
    WEBHOOK = "webhook"
    FILE = "file"


class LimitAction(StrEnum):
    WARN = "warn"
    KILL = "kill"
    RESTART = "restart"


class WorkflowType(StrEnum):
    CHAIN = "chain"
    GROUP = "group"
    CHORD = "chord"


class OnFailure(StrEnum):
    STOP = "stop"
    CONTINUE = "continue"
    RETRY = "retry"


class CatchUp(NamedTuple):
    policy: CatchUpPolicy
    within_seconds: float
    limit: int


class Retry(NamedTuple):
    enabled: bool
    delays_seconds: tuple[float, ...]
    """Pause before each further attempt; past the end the last entry repeats. Never empty."""
    max_attempts: int | None
    """Attempts after the first failure; None is unlimited."""
    reset_after_seconds: float


class Shutdown(NamedTuple):
    grace_seconds: float
    signal: int
    leftovers: Leftovers


class Concurrency(NamedTuple):
    max_instances: int
    queue_excess: bool
    queue_timeout_seconds: float


class LogPolicy(NamedTuple):
    max_bytes: int
    rotate: int
    """How many rotated files are kept."""
    timestamps: bool


class Dependency(NamedTuple):
    """What a job's run waits for before its first attempt.

    `before_complete`, declared at the job that goes first, stands here as `after_complete` of the one that waits.
    """

    job: str
    condition: Condition
    timeout_seconds: float | None
    """How long to wait for it; None: as long as it takes."""


class HealthCheck(NamedTuple):
    type: CheckType
    interval_seconds: float
    timeout_seconds: float
    start_period_seconds: float
    failures: int
    """Failed checks in a row that make the job unhealthy."""
    on_unhealthy: OnUnhealthy
    url: str | None
    method: str
    expected_status: int
    expected_body: str | None
    """What the answer contains; None: anything."""
    path: str | None
    max_age_seconds: float
    host: str
    port: int | None
    cmd: str | tuple[str, ...] | None

    @property
    def is_probed(self) -> bool:
        """Whether somebody has to go and look: that the process lives is known anyway."""
        return self.type not in (CheckType.PROCESS, CheckType.NONE)


class Dedup(NamedTuple):
    window_seconds: float
    use_params: bool


class Lock(NamedTuple):
    name: str
    provider: LockProvider
    path: str | None
    """None: inside the home."""
    timeout_seconds: float
    """How long to wait for it."""


class TriggerSpec(NamedTuple):
    type: TriggerType
    auth_token: str | None
    hmac_secret: str | None
    watch_path: str | None
    pattern: str
    delete_after: bool


class Param(NamedTuple):
    name: str
    default: str | None
    description: str
    is_required: bool
    pattern: str | None


class Resources(NamedTuple):
    max_memory_mb: float | None
    max_cpu_percent: float | None
    action: LimitAction
    check_interval_seconds: float


class AlertPolicy(NamedTuple):
    """What people are told about a job, and how; what the job leaves open is as procclaw.yaml has it."""

    on_failure: bool
    on_max_retries: bool
    on_health_fail: bool
    on_recovered: bool
    on_missed: bool
    webhook: str | None
    command: str | tuple[str, ...] | None
    cooldown_seconds: float

    @property
    def is_delivered(self) -> bool:
        """Whether there is any way to tell anybody."""
        return self.webhook is not None or self.command is not None


class Ways(NamedTuple):
    """How to tell people of something."""

    webhook: str | None
    command: str | tuple[str, ...] | None


class Expect(NamedTuple):
    """When the job should have succeeded; one of the two is set."""

    every_seconds: float | None
    by: str | None
    """A time of day, HH:MM, in the job's zone."""


class WorkflowSpec(NamedTuple):
    type: WorkflowType
    jobs: tuple[str, ...]
    callback: str | None
    on_failure: OnFailure
    max_parallel: int | None
    timeout_seconds: float | None
    pass_results: bool

    @property
    def steps(self) -> tuple[str, ...]:
        """The job of each step, the callback last."""
        return self.jobs if self.callback is None else (*self.jobs, self.callback)


class JobSpec(NamedTuple):
    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    cmd: str | tuple[str, ...]
    cwd: str | None
    env: tuple[tuple[str, str], ...]
    env_file: str | None
    user: str | None
    """Name or number of the account it runs as; None: ours."""
    group: str | None
    umask: int | None
    nice: int | None
    type: JobType
    enabled: bool
    schedule: tuple[str, ...]
    timezone: str
    run_at: datetime | None
    on_overlap: Overlap
    catch_up: CatchUp
    jitter_seconds: float
    timeout_seconds: float | None
    restart: Restart
    success_exit_codes: tuple[int, ...]
    retry: Retry
    shutdown: Shutdown
    concurrency: Concurrency
    log: LogPolicy
    health_check: HealthCheck
    depends_on: tuple[Dependency, ...]
    """Of its own declaration and of those that must come before it by theirs."""
    queue: str | None
    priority: Priority
    dedup: Dedup | None
    lock: Lock | None
    triggers: tuple[TriggerSpec, ...]
    """Those that are enabled."""
    params: tuple[Param, ...]
    resources: Resources | None
    """None: no limits."""
    alerts: AlertPolicy
    expect: Expect | None
    not_built: tuple[str, ...]
    """Fields this job uses whose behaviour this version lacks; such a job is held and says so."""
    process_hash: str
    """Of each field its process can see; a running continuous job is restarted when one of them changes."""
    source: str
    """File and line of its entry, for messages."""

    @property
    def ends_by_itself(self) -> bool:
        """Whether `queue` and `max_parallel` count it."""
        return self.type is not JobType.CONTINUOUS


class HistoryPolicy(NamedTuple):
    keep_runs: int
    keep_days: float


class Config(NamedTuple):
    """procclaw.yaml, as far as the engine needs it."""

    host: str
    port: int
    log_level: str
    resync_seconds: float
    max_parallel: int | None
    """How many runs that end by themselves may have a process at one time; None: no limit."""
    pass_env: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    timezone: str
    history: HistoryPolicy
    alerts: Ways = Ways(None, None)
    """Of jobs that do not say otherwise, and of those that are no longer declared."""


class Spec(NamedTuple):
    """Everything that is declared, as it is in force."""

    jobs: Mapping[str, JobSpec]
    config: Config
    hash: str
    """Of the document; equal hashes mean equal specs."""
    queues: Mapping[str, int] = MappingProxyType({})
    """By name the limits that are declared; a queue without one runs one at a time."""
    workflows: Mapping[str, WorkflowSpec] = MappingProxyType({})

    def queue_limit(self, name: str) -> int:
        return self.queues.get(name, 1)

    def ways(self, job_id: str) -> Ways:
        """How to tell people about the job, declared or not."""
        job = self.jobs.get(job_id)
        return self.config.alerts if job is None else Ways(job.alerts.webhook, job.alerts.command)


PROCESS_FIELDS = ("cmd", "cwd", "env", "env_file", "user", "group", "umask", "nice")


def document_hash(document: object) -> str:
    """SHA-256 over the canonical JSON of `document`, in hexadecimal."""
    # Loads OpenSSL, which a listing has no use for.
    from hashlib import sha256

    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(canonical.encode()).hexdigest()


def process_hash(job: Document) -> str:
    """The `process_hash` that a job's document carries: a short hash of each field, so that a change can be named."""
    visible = {field: job.get(field) for field in PROCESS_FIELDS}
    visible["log.timestamps"] = job["log"]["timestamps"]
    return " ".join(f"{field}={document_hash(value)[:12]}" for field, value in visible.items())


def changed_fields(before: str, after: str) -> tuple[str, ...]:
    """The fields in which two process hashes differ."""
    fields = dict(part.split("=") for part in before.split())
    return tuple(name for name, value in (part.split("=") for part in after.split()) if fields.get(name) != value)


def spec_from_document(document: Document, content_hash: str) -> Spec:
    alerts = document["config"]["alerts"]
    jobs = {job_id: job_from_document(job_id, job, alerts) for job_id, job in document["jobs"].items()}
    for job_id, job in document["jobs"].items():
        for each in job["depends_on"]:
            later = jobs.get(each["job"]) if each["condition"] == _BEFORE_COMPLETE else None
            if later is not None:
                # Seen from the other end: there is one rule for both.
                dependency = Dependency(job_id, Condition.AFTER_COMPLETE, each["timeout"])
                jobs[later.id] = later._replace(depends_on=(*later.depends_on, dependency))
    return Spec(
        jobs=jobs,
        config=config_from_document(document["config"]),
        hash=content_hash,
        queues={name: queue["limit"] for name, queue in document["queues"].items()},
        workflows={name: workflow_from_document(workflow) for name, workflow in document["workflows"].items()},
    )


def config_from_document(config: Document) -> Config:
    daemon, history = config["daemon"], config["history"]
    return Config(
        host=daemon["host"],
        port=daemon["port"],
        log_level=daemon["log_level"],
        resync_seconds=daemon["resync"],
        max_parallel=daemon["max_parallel"],
        pass_env=tuple(daemon["pass_env"]),
        env=tuple(config["env"].items()),
        timezone=config["timezone"],
        history=HistoryPolicy(history["keep_runs"], history["keep_days"]),
        alerts=Ways(config["alerts"]["webhook"], _command(config["alerts"]["command"])),
    )


def workflow_from_document(workflow: Document) -> WorkflowSpec:
    return WorkflowSpec(
        type=WorkflowType(workflow["type"]),
        jobs=tuple(workflow["jobs"]),
        callback=workflow["callback"],
        on_failure=OnFailure(workflow["on_failure"]),
        max_parallel=workflow["max_parallel"],
        timeout_seconds=workflow["timeout"],
        pass_results=workflow["pass_results"],
    )


_BEFORE_COMPLETE = "before_complete"


def job_from_document(job_id: str, job: Document, alerts: Document) -> JobSpec:
    """`alerts` is the section of procclaw.yaml: what a job leaves open is as it has it."""
    catch_up, retry, shutdown = job["catch_up"], job["retry"], job["shutdown"]
    concurrency, log, run_at = job["concurrency"], job["log"], job["run_at"]
    return JobSpec(
        id=job_id,
        name=job["name"],
        description=job["description"],
        tags=tuple(job["tags"]),
        cmd=_command(job["cmd"]),
        cwd=job["cwd"],
        env=tuple(job["env"].items()),
        env_file=job["env_file"],
        user=None if job["user"] is None else str(job["user"]),
        group=None if job["group"] is None else str(job["group"]),
        umask=job["umask"],
        nice=job["nice"],
        type=JobType(job["type"]),
        enabled=job["enabled"],
        schedule=tuple(job["schedule"]),
        timezone=job["timezone"],
        run_at=None if run_at is None else from_microseconds(run_at),
        on_overlap=Overlap(job["on_overlap"]),
        catch_up=CatchUp(CatchUpPolicy(catch_up["policy"]), catch_up["within"], catch_up["limit"]),
        jitter_seconds=job["jitter"],
        timeout_seconds=job["timeout"],
        restart=Restart(job["restart"]),
        success_exit_codes=tuple(job["success_exit_codes"]),
        retry=Retry(retry["enabled"], tuple(retry["delays"]), retry["max_attempts"], retry["reset_after"]),
        shutdown=Shutdown(shutdown["grace_period"], shutdown["signal"], Leftovers(shutdown["leftovers"])),
        concurrency=Concurrency(
            concurrency["max_instances"], concurrency["queue_excess"], concurrency["queue_timeout"]
        ),
        log=LogPolicy(log["max_size"], log["rotate"], log["timestamps"]),
        health_check=_health_check(job["health_check"]),
        depends_on=tuple(
            Dependency(each["job"], Condition(each["condition"]), each["timeout"])
            for each in job["depends_on"]
            if each["condition"] != _BEFORE_COMPLETE
        ),
        queue=job["queue"],
        priority=Priority(job["priority"]),
        dedup=Dedup(job["dedup"]["window_seconds"], job["dedup"]["use_params"]) if job["dedup"]["enabled"] else None,
        lock=_lock(job["lock"]),
        triggers=tuple(_trigger(each) for each in job["trigger"] if each["enabled"]),
        params=tuple(
            Param(name, param["default"], param["description"], param["required"], param["pattern"])
            for name, param in job["params"].items()
        ),
        resources=_resources(job["resources"]),
        alerts=_alerts(job["alerts"], alerts),
        expect=None if job["expect"] is None else Expect(job["expect"]["every"], job["expect"]["by"]),
        not_built=tuple(job["not_built"]),
        process_hash=job["process_hash"],
        source=job["source"],
    )


def _command(cmd: Any) -> Any:
    return tuple(cmd) if isinstance(cmd, list) else cmd


def _health_check(check: Document) -> HealthCheck:
    return HealthCheck(
        type=CheckType(check["type"]),
        interval_seconds=check["interval"],
        timeout_seconds=check["timeout"],
        start_period_seconds=check["start_period"],
        failures=check["failures"],
        on_unhealthy=OnUnhealthy(check["on_unhealthy"]),
        url=check["url"],
        method=check["method"],
        expected_status=check["expected_status"],
        expected_body=check["expected_body"],
        path=check["path"],
        max_age_seconds=check["max_age"],
        host=check["host"],
        port=check["port"],
        cmd=_command(check["cmd"]),
    )


def _lock(lock: Document) -> Lock | None:
    if not lock["enabled"]:
        return None
    return Lock(lock["name"], LockProvider(lock["provider"]), lock["path"], lock["timeout_seconds"])


def _trigger(trigger: Document) -> TriggerSpec:
    return TriggerSpec(
        type=TriggerType(trigger["type"]),
        auth_token=trigger["auth_token"],
        hmac_secret=trigger["hmac_secret"],
        watch_path=trigger["watch_path"],
        pattern=trigger["pattern"],
        delete_after=trigger["delete_after"],
    )


def _resources(resources: Document) -> Resources | None:
    memory, cpu = resources["max_memory_mb"], resources["max_cpu_percent"]
    if memory is None and cpu is None:
        return None
    return Resources(memory, cpu, LimitAction(resources["action"]), resources["check_interval"])


def _alerts(alerts: Document, common: Document) -> AlertPolicy:
    return AlertPolicy(
        on_failure=alerts["on_failure"],
        on_max_retries=alerts["on_max_retries"],
        on_health_fail=alerts["on_health_fail"],
        on_recovered=alerts["on_recovered"],
        on_missed=alerts["on_missed"],
        webhook=alerts["webhook"] or common["webhook"],
        command=_command(alerts["command"] or common["command"]),
        cooldown_seconds=common["cooldown"],
    )
