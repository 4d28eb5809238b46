"""What the engine asks of the outside world beside processes: a check to make, a notice to deliver, a lock to take."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from procclaw.model.spec import HealthCheck, LockProvider


class Probe(NamedTuple):
    """One health check to be made."""

    job_id: str
    attempt_id: str
    check: HealthCheck
    argv: tuple[str, ...] = ()
    """exec: what to run."""
    cwd: str = "/"
    env: tuple[tuple[str, str], ...] = ()
    """exec: the job's environment."""
    user: str | None = None
    group: str | None = None


class Notice(NamedTuple):
    """An alert on its way to people."""

    key: str
    webhook: str | None
    command: tuple[str, ...] | None
    body: Mapping[str, Any]
    """The alert as JSON types; `message` is the line for a person."""
    env: tuple[tuple[str, str], ...] = ()
    """What the command finds in its environment."""


class LockClaim(NamedTuple):
    """Somebody's wish for a lock."""

    lock: str
    """Names one lock among all that this home uses: provider, path and name."""
    name: str
    provider: LockProvider
    path: str | None
    """Absolute; None: inside the home."""
    job_id: str
    run_id: str
    priority: int
    """Smaller goes first."""
    since_us: int
    """When the run was asked for, in microseconds since the epoch."""
