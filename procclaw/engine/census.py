"""A home in numbers, at one moment: what there is to say of each declared job and of what waits in all.

What has happened over time is no part of it; whoever wants that has to listen to the cycles. A number that `list` shows
as well follows from the same rule, or is checked against it by a test.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from procclaw.engine.home import Home
from procclaw.model.clock import seconds_between
from procclaw.model.records import HOME, Hold, Trigger
from procclaw.model.spec import CheckType, JobSpec, Spec
from procclaw.model.state import ActiveRun, JobState, Observed
from procclaw.planning import views
from procclaw.planning.gates import unbegun_run
from procclaw.system.store.census import Counted


class Figures(NamedTuple):
    """One job; None where there is nothing to say."""

    job_id: str
    status: str
    uptime_seconds: float | None
    restarts: int
    is_healthy: bool | None
    """None: it does not run, is not checked, or no check has settled it."""
    next_start_at: datetime | None
    cpu_percent: float | None
    """Of one processor, all that runs of it taken together; None: nobody measures it, or has twice yet."""
    memory_mb: float | None
    last_success_at: datetime | None
    """None: it never did."""
    dead_letters: int


class Census(NamedTuple):
    jobs: tuple[Figures, ...]
    """In the order of their ids."""
    waiting: Mapping[str, int]
    """By named queue, how many runs stand in it."""
    dead_letters: int
    """Of jobs that are no longer declared, too."""
    pending_alerts: int


def take_census(home: Home, spec: Spec) -> Census:
    now = home.clock.now()
    found = home.store.counted(spec.jobs, now)
    return Census(
        jobs=tuple(_figures(spec.jobs[name], found, now) for name in sorted(spec.jobs)),
        waiting=_waiting(spec, found.states, now),
        dead_letters=sum(found.dead_letters.values()),
        pending_alerts=found.pending_alerts,
    )


def _waiting(spec: Spec, states: Mapping[str, JobState], now: datetime) -> dict[str, int]:
    queued = [(job.queue, states.get(name)) for name, job in spec.jobs.items() if job.queue is not None]
    waiting = dict.fromkeys((*spec.queues, *(queue for queue, _ in queued)), 0)
    for queue, state in queued:
        waiting[queue] += 0 if state is None else sum(_waits_in_queue(active, now) for active in state.active)
    return waiting


def _waits_in_queue(active: ActiveRun, now: datetime) -> bool:
    """What is planned for a time to come does not wait yet, and a continuous job stands in no queue."""
    return active.live is None and active.run.trigger is not Trigger.CONTINUOUS and not active.run.is_ahead(now)


def _figures(spec: JobSpec, found: Counted, now: datetime) -> Figures:
    job = found.states.get(spec.id) or JobState(spec.id)
    home_holds = found.states[HOME].holds if HOME in found.states else ()
    living = [active.live for active in job.active if active.live is not None]
    seen = next((live for live in living if live.attempt.exited_at is None), None)
    seen = None if unbegun_run(job) is not None else seen
    started_at = None if seen is None else seen.attempt.started_at
    newest = job.active[-1].run if job.active else job.newest_finished
    usages = [live.usage for live in living if live.usage is not None]
    percents = [usage.cpu_percent for usage in usages if usage.cpu_percent is not None]
    status = views.status(spec, job, home_holds, now)
    return Figures(
        job_id=spec.id,
        status=status,
        uptime_seconds=None if started_at is None else max(0.0, seconds_between(started_at, now)),
        restarts=0 if newest is None else newest.restarts,
        is_healthy=_is_healthy(spec, seen),
        next_start_at=_next_start_at(spec, job, status, home_holds, now),
        cpu_percent=sum(percents) if percents else None,
        memory_mb=sum(usage.memory_mb for usage in usages) if usages else None,
        last_success_at=found.last_success_at.get(spec.id),
        dead_letters=found.dead_letters.get(spec.id, 0),
    )


def _is_healthy(spec: JobSpec, seen: Observed | None) -> bool | None:
    """As `list` tells it: of the process check, which looks at nothing else, alive is healthy."""
    if seen is None or spec.health_check.type is CheckType.NONE:
        return None
    if not spec.health_check.is_probed:
        return True
    return None if seen.health is None else seen.health.is_healthy


def _next_start_at(
    spec: JobSpec, job: JobState, status: str, home_holds: tuple[Hold, ...], now: datetime
) -> datetime | None:
    """As `list` tells it: when the clock alone would start something; None also while a hold keeps it from that."""
    is_held = bool(home_holds or job.holds or not spec.enabled)
    if is_held and status in ("disabled", "paused", "stopped"):
        return None
    times = [active.run.not_before_at for active in job.active if active.live is None]
    if job.cursor is not None and job.cursor.next_due_at is not None and spec.enabled:
        times.append(job.cursor.next_due_at)
    return min((at for at in times if at > now), default=None)
