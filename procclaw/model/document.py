"""The document: all that the files say, completed, in the plain JSON types in which the store keeps it.

`system/specfile` makes one: every field of every job is present with its default, times are seconds and lists are
lists. Here it becomes values (`spec`), so nothing behind this module deals with a missing key or two spellings of a
thing.
"""

import json
from collections.abc import Mapping
from typing import Any

from procclaw.model.clock import from_microseconds
from procclaw.model.spec import (
    Access,
    AgentNotice,
    AlertPolicy,
    CatchUp,
    CatchUpPolicy,
    Channel,
    CheckType,
    Concurrency,
    Condition,
    Config,
    Dedup,
    Dependency,
    Expect,
    HealthCheck,
    HistoryPolicy,
    JobSpec,
    JobType,
    Leftovers,
    LimitAction,
    Lock,
    LockProvider,
    LogPolicy,
    OnFailure,
    OnUnhealthy,
    OpenclawPolicy,
    Overlap,
    Param,
    Priority,
    Resources,
    Restart,
    Retry,
    Shutdown,
    Spec,
    TriggerSpec,
    TriggerType,
    Ways,
    WorkflowSpec,
    WorkflowType,
)

Document = Mapping[str, Any]

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
    config = document["config"]
    jobs = {job_id: job_from_document(job_id, job, config) for job_id, job in document["jobs"].items()}
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
        access=_access(config["api"]),
        alerts=_ways(config["alerts"])._replace(channels=_channels(None, config)),
        openclaw=_openclaw(config["openclaw"]),
    )


def _access(api: Document) -> Access:
    auth = api["auth"]
    token = str(auth["token"]) if auth["enabled"] else None
    return Access(token, auth["metrics"] == "open", tuple(api["allowed_hosts"]))


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


def job_from_document(job_id: str, job: Document, config: Document) -> JobSpec:
    """`config` is procclaw.yaml: how people are told of a job that leaves it open."""
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
        alerts=_alerts(job["alerts"], config),
        expect=None if job["expect"] is None else Expect(job["expect"]["every"], job["expect"]["by"]),
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


def _alerts(alerts: Document, config: Document) -> AlertPolicy:
    common = config["alerts"]
    return AlertPolicy(
        on_failure=alerts["on_failure"],
        on_max_retries=alerts["on_max_retries"],
        on_health_fail=alerts["on_health_fail"],
        on_recovered=alerts["on_recovered"],
        on_missed=alerts["on_missed"],
        webhook=alerts["webhook"] or common["webhook"],
        command=_command(alerts["command"] or common["command"]),
        cooldown_seconds=common["cooldown"],
        channels=_channels(alerts["channels"], config),
    )


def _ways(where: Document) -> Ways:
    return Ways(where["webhook"], _command(where["command"]))


def _openclaw(openclaw: Document) -> OpenclawPolicy:
    if not openclaw["enabled"]:
        return OpenclawPolicy()
    alerts = openclaw["alerts"]
    return OpenclawPolicy(
        is_memory_logged=openclaw["memory_logging"],
        workspace=openclaw["workspace"],
        notify_agent=AgentNotice(alerts["notify_agent"]) if alerts["enabled"] else AgentNotice.OFF,
        hooks_url=openclaw["hooks"]["url"],
        hooks_token=openclaw["hooks"]["token"],
        fallback=_ways(alerts["fallback"]),
    )


def _channels(chosen: list[str | Document] | None, config: Document) -> tuple[Channel, ...]:
    """Where OpenClaw tells of a job that chose these channels; None: it chose none.

    A channel that is named without a target is every target that procclaw.yaml has there.
    """
    openclaw = config["openclaw"]
    if not (openclaw["enabled"] and openclaw["alerts"]["enabled"]):
        return ()
    known = [_channel(each) for each in (*openclaw["alerts"]["channels"], *config["alerts"]["channels"])]
    if chosen is None:
        chosen = config["alerts"]["channels"] or openclaw["alerts"]["channels"]
    found: list[Channel] = []
    for channel in map(_channel, chosen):
        targeted = [each for each in known if each.name == channel.name and each.target is not None]
        found += [channel] if channel.target is not None or not targeted else targeted
    return tuple(dict.fromkeys(found))


def _channel(written: str | Document) -> Channel:
    """`telegram:123` is a channel and who receives it there."""
    if not isinstance(written, str):
        return Channel(written["channel"], written["target"])
    name, _, target = written.partition(":")
    return Channel(name, target or None)
