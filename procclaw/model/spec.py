"""What jobs.yaml and procclaw.yaml say, as values.

NamedTuples rather than dataclasses, here and in `state`: a slotted dataclass costs 0.85 ms to define, a NamedTuple
0.1 ms, and `procclaw list` has 35 ms for everything.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from procclaw.model.secret import Text


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


class Channel(NamedTuple):
    """Where OpenClaw tells somebody."""

    name: str
    """Such as whatsapp."""
    target: str | None
    """Who receives it there; None: whoever OpenClaw takes for the owner."""


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
    channels: tuple[Channel, ...] = ()
    """Empty as well where nothing goes through OpenClaw."""

    @property
    def ways(self) -> "Ways":
        return Ways(self.webhook, self.command, self.channels)


class Ways(NamedTuple):
    """How to tell people of something."""

    webhook: str | None
    command: str | tuple[str, ...] | None
    channels: tuple[Channel, ...] = ()
    """Of OpenClaw."""

    @property
    def is_any(self) -> bool:
        """Whether there is any way to tell anybody."""
        return self != _NOBODY


_NOBODY = Ways(None, None)


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


class Access(NamedTuple):
    """Who may use the HTTP interface."""

    token: Text | None = None
    """As it is written, until the secret it may name is put in its place. None: none is asked for, and
    only this user's own processes are served."""
    is_metrics_open: bool = False
    """/metrics asks for no token."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which the server may be addressed."""


class AgentNotice(StrEnum):
    """Whether OpenClaw's agent is told of alerts as well."""

    OFF = "off"
    WAKE = "wake"
    """It is told, and left to do what it likes."""
    AGENT = "agent"
    """It is asked to see to it, and to say what it found."""


class OpenclawPolicy(NamedTuple):
    """How we work together with OpenClaw, as far as it is enabled."""

    is_memory_logged: bool = False
    workspace: str | None = None
    """None: what OpenClaw says."""
    notify_agent: AgentNotice = AgentNotice.OFF
    hooks_url: str = ""
    hooks_token: str | None = None
    """May hold ${secret:NAME}; None: its agent cannot be asked."""
    fallback: Ways = _NOBODY
    """Where an alert goes that OpenClaw did not take."""


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
    access: Access = Access()
    alerts: Ways = _NOBODY
    """Of jobs that do not say otherwise, and of those that are no longer declared."""
    openclaw: OpenclawPolicy = OpenclawPolicy()


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
        return self.config.alerts if job is None else job.alerts.ways
