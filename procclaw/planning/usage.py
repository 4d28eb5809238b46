"""Limits on what a run uses: when to measure, and what follows when a limit is passed.

A measurement is what all processes of an attempt use, taken together. CPU is a share of one processor since the
measurement before, so the first tells nothing of it. What follows is decided on a fresh measurement only: an edited
limit is not applied to an old one.

`warn` leaves one line per passing, in the event that `journal` makes of it. `restart` ends the attempt as a failed
one, in its grace period. `kill` ends it at once and the run with it: what eats up the machine may not take a minute
over its farewell.
"""

from datetime import datetime
from math import ceil

from procclaw.model.clock import seconds_between
from procclaw.model.outside import Measure
from procclaw.model.reasons import Reason
from procclaw.model.records import Usage
from procclaw.model.spec import LimitAction, Resources
from procclaw.model.state import Observed
from procclaw.planning.draft import Draft, Going


def is_due(resources: Resources | None, live: Observed, now: datetime) -> bool:
    """Whether to measure what the attempt uses."""
    if resources is None or live.attempt.started_at is None or live.attempt.stop is not None:
        return False
    return _seconds_left(resources, live.usage, now) <= 0


def _seconds_left(resources: Resources, usage: Usage | None, now: datetime) -> float:
    """Until the next measurement; 0: it is due."""
    if usage is None:
        return 0.0
    passed = seconds_between(usage.measured_at, now)
    # What was noted for later than now was noted before the clock was set back.
    return resources.check_interval_seconds - passed if 0 <= passed < resources.check_interval_seconds else 0.0


def watch(draft: Draft, going: Going) -> None:
    """Take in what the run's living attempt was measured to use, and see to its limits."""
    live, resources = going.live, draft.spec and draft.spec.resources
    if live is None or resources is None or live.attempt.started_at is None:
        return
    usage = live.usage
    if live.measured is not None:
        usage = _usage(resources, live, live.measured, draft.now)
        going.live = live._replace(usage=usage)
        if usage.over_since is not None and resources.action is not LimitAction.WARN:
            _end(draft, going, resources, usage)
            return
    # Due and not measured: nothing of it was to be seen, or nobody looked. There is no hurry then.
    draft.wake_within(_seconds_left(resources, usage, draft.now) or resources.check_interval_seconds)


def _usage(resources: Resources, live: Observed, measure: Measure, now: datetime) -> Usage:
    """What is to be recorded of this measurement."""
    attempt, before = live.attempt, live.usage
    percent = None if before is None else _cpu_percent(before, measure, now)
    usage = Usage(attempt.job_id, attempt.id, now, measure.cpu_seconds, percent, measure.memory_mb)
    passed = _passed(resources, usage)
    if not passed:
        return usage
    over_since = None if before is None else before.over_since
    return usage._replace(over_since=over_since or now, detail="; ".join(passed.values()))


def _cpu_percent(before: Usage, measure: Measure, now: datetime) -> float | None:
    """Of one processor, since the measurement before; None where the clock has been set back meanwhile."""
    passed = seconds_between(before.measured_at, now)
    # A process that nobody waited for takes its share with it.
    used = max(0.0, measure.cpu_seconds - before.cpu_seconds)
    return round(100 * used / passed, 1) if passed > 0 else None


def _passed(resources: Resources, usage: Usage) -> dict[Reason, str]:
    """The limits that are passed, each in words."""
    memory, percent = resources.max_memory_mb, resources.max_cpu_percent
    passed: dict[Reason, str] = {}
    if memory is not None and usage.memory_mb > memory:
        # Rounded up, so that it is seen to be more.
        passed[Reason.MEMORY_LIMIT] = f"memory: {ceil(usage.memory_mb * 10) / 10:g} MB of at most {memory:g} MB"
    if percent is not None and usage.cpu_percent is not None and usage.cpu_percent > percent:
        passed[Reason.CPU_LIMIT] = f"CPU: {usage.cpu_percent:g}% of at most {percent:g}%"
    return passed


def _end(draft: Draft, going: Going, resources: Resources, usage: Usage) -> None:
    reason = next(iter(_passed(resources, usage)))
    if resources.action is LimitAction.KILL:
        draft.end(going, reason, force=True)
    draft.order_stop(going, reason, usage.detail)
