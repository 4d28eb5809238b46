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


class JobSpec(NamedTuple):
    id: str
    name: str
    description: str
    tags: tuple[str, ...]
    cmd: str | tuple[str, ...]
    cwd: str | None
    env: tuple[tuple[str, str], ...]
    env_file: str | None
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
    depends_on: tuple[str, ...]
    has_health_check: bool
    """False for a check of type none: the job's health is then not judged."""
    not_built: tuple[str, ...]
    """Fields this job uses whose behaviour this version lacks; such a job is held and says so."""
    process_hash: str
    """Of each field its process can see; a running continuous job is restarted when one of them changes."""
    source: str
    """File and line of its entry, for messages."""


class HistoryPolicy(NamedTuple):
    keep_runs: int
    keep_days: float


class Config(NamedTuple):
    """procclaw.yaml, as far as the engine needs it."""

    host: str
    port: int
    log_level: str
    resync_seconds: float
    pass_env: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    timezone: str
    history: HistoryPolicy


class Spec(NamedTuple):
    """Everything that is declared, as it is in force."""

    jobs: Mapping[str, JobSpec]
    config: Config
    hash: str
    """Of the document; equal hashes mean equal specs."""


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
    jobs = {job_id: job_from_document(job_id, job) for job_id, job in document["jobs"].items()}
    return Spec(jobs=jobs, config=config_from_document(document["config"]), hash=content_hash)


def config_from_document(config: Document) -> Config:
    daemon, history = config["daemon"], config["history"]
    return Config(
        host=daemon["host"],
        port=daemon["port"],
        log_level=daemon["log_level"],
        resync_seconds=daemon["resync"],
        pass_env=tuple(daemon["pass_env"]),
        env=tuple(config["env"].items()),
        timezone=config["timezone"],
        history=HistoryPolicy(history["keep_runs"], history["keep_days"]),
    )


def job_from_document(job_id: str, job: Document) -> JobSpec:
    cmd = job["cmd"]
    catch_up, retry, shutdown = job["catch_up"], job["retry"], job["shutdown"]
    concurrency, log, run_at = job["concurrency"], job["log"], job["run_at"]
    return JobSpec(
        id=job_id,
        name=job["name"],
        description=job["description"],
        tags=tuple(job["tags"]),
        cmd=cmd if isinstance(cmd, str) else tuple(cmd),
        cwd=job["cwd"],
        env=tuple(job["env"].items()),
        env_file=job["env_file"],
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
        depends_on=tuple(dependency["job"] for dependency in job["depends_on"]),
        has_health_check=job["health_check"]["type"] != "none",
        not_built=tuple(job["not_built"]),
        process_hash=job["process_hash"],
        source=job["source"],
    )
