"""Health checks: when the next one is due, what a result makes of an attempt's health, and what follows.

Until a check has passed, or enough of them have failed, an attempt is coming up. It is asked at once and then after
pauses of half its age, at least a second and at most `interval`: whoever waits for it (`after_healthy`) learns that it
is up when half as long again has passed, and not a minute later. Most of these quick checks are meant to fail, so a
failure counts only as if they were not made: after `start_period`, a whole `interval` after the start, and a whole
`interval` after the last that counted. One check falls on each of these moments. Once it is known to be healthy or
unhealthy it is asked every `interval`, and each failure counts.

Whoever looks every `interval` seconds (cron, with the default of 60) must find a check due each time, although the last
result came a little after the last look; so a tenth of a pause may be missing.

That a check is under way is seen, not recorded: when the manager dies its checks die with it and are simply due again.
A result is written together with what follows from it; one that is lost is one check the fewer.
"""

from datetime import datetime

from procclaw.model.clock import after, seconds_between
from procclaw.model.outside import ProbeResult
from procclaw.model.reasons import Reason
from procclaw.model.records import Health
from procclaw.model.spec import HealthCheck, OnUnhealthy
from procclaw.model.state import Observed
from procclaw.planning.actions import Check
from procclaw.planning.draft import Draft, Going

SHORTEST_PAUSE_SECONDS = 1.0
"""Between two checks of what is coming up; a shorter interval is kept to."""
PAUSE_OF_AGE = 0.5

NEARLY = 0.9
"""So much of a pause must have passed."""

RESULT_SECONDS = 5.0
"""So long after its time limit a check is looked for that brought no result: nothing wakes us then."""


def watch(draft: Draft, going: Going) -> None:
    """Take in what a check of the run's living attempt found, and begin the next where it is due."""
    live, check = going.live, draft.spec and draft.spec.health_check
    if live is None or check is None or not check.is_probed:
        return
    attempt, health = live.attempt, live.health
    started_at = attempt.started_at
    if started_at is None or attempt.pid is None:
        return  # the look that shows them comes by itself
    if live.probe is not None:
        health = _judged(check, live, started_at, live.probe, draft.now)
        going.live = live._replace(health=health)
        if health.is_healthy is False and check.on_unhealthy is OnUnhealthy.RESTART:
            draft.order_stop(going, Reason.UNHEALTHY, f"unhealthy: {health.detail}")
            return
    elif live.is_probing:
        draft.wake_within(check.timeout_seconds + RESULT_SECONDS)
        return
    seconds = _seconds_left(check, started_at, health, draft.now)
    if seconds > 0:
        draft.wake_within(seconds)
    else:
        draft.effects.append(Check(attempt.job_id, attempt.id))
        draft.wake_within(check.timeout_seconds + RESULT_SECONDS)


def _seconds_left(check: HealthCheck, started_at: datetime, health: Health | None, now: datetime) -> float:
    """Until the next check; 0: it is due."""
    if health is None:
        return 0.0
    pause = _pause(check, started_at, health)
    passed = seconds_between(health.checked_at, now)
    # What was noted for later than now was noted before the clock was set back.
    return pause - passed if 0 <= passed < pause * NEARLY else 0.0


def _pause(check: HealthCheck, started_at: datetime, health: Health) -> float:
    """Seconds from the newest check to the next."""
    if health.is_healthy is not None:
        return check.interval_seconds
    age = seconds_between(started_at, health.checked_at)
    pause = min(check.interval_seconds, max(SHORTEST_PAUSE_SECONDS, age * PAUSE_OF_AGE))
    until_one_counts = seconds_between(health.checked_at, _counts_from(check, started_at, health))
    return min(pause, until_one_counts) if until_one_counts > 0 else pause


def _counts_from(check: HealthCheck, started_at: datetime, health: Health) -> datetime:
    """When the next failed check counts, of an attempt that is coming up."""
    whole_interval_at = after(health.counted_at or started_at, check.interval_seconds)
    return max(after(started_at, check.start_period_seconds), whole_interval_at)


def _judged(check: HealthCheck, live: Observed, started_at: datetime, result: ProbeResult, now: datetime) -> Health:
    """The attempt's health after this result."""
    health = live.health or Health(result.job_id, result.attempt_id, None, since=started_at, checked_at=now)
    health = health._replace(checked_at=now, detail=result.detail)
    if result.is_ok:
        return _known(health._replace(failures=0, counted_at=None), is_healthy=True)
    if health.counted_at is not None:
        # The clock may have been set back since.
        health = health._replace(counted_at=min(health.counted_at, now))
    if _counts(check, started_at, health):
        health = health._replace(failures=health.failures + 1, counted_at=now)
    return _known(health, is_healthy=False) if health.failures >= check.failures else health


def _counts(check: HealthCheck, started_at: datetime, health: Health) -> bool:
    """Whether the newest check, which failed, counts."""
    if health.is_healthy is not None:
        return True
    has_had_time = seconds_between(started_at, health.checked_at) >= check.start_period_seconds
    passed = seconds_between(health.counted_at or started_at, health.checked_at)
    return has_had_time and passed >= check.interval_seconds * NEARLY


def _known(health: Health, *, is_healthy: bool) -> Health:
    if health.is_healthy is is_healthy:
        return health
    return health._replace(is_healthy=is_healthy, since=health.checked_at)
