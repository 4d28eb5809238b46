"""A job's schedule as one text, its `schedule_key`: the form in which a cursor remembers what it has been following.

Two jobs, or one job before and after an edit, have the same slots exactly if their keys are equal; so an edit is
noticed by comparing, and what came due before it was noticed can still be told.
"""

from datetime import datetime

from procclaw.model.clock import from_microseconds, to_microseconds
from procclaw.model.spec import JobSpec, JobType
from procclaw.planning import schedule
from procclaw.planning.schedule import Due

NO_SCHEDULE = ""
_ONCE = "once "


def schedule_key(spec: JobSpec) -> str:
    """What the job's slots follow; `NO_SCHEDULE` for a job that has none, be it because it is disabled."""
    if spec.enabled and spec.type is JobType.SCHEDULED:
        return "\n".join((*spec.schedule, spec.timezone))
    if spec.enabled and spec.type is JobType.ONESHOT and spec.run_at is not None:
        return f"{_ONCE}{to_microseconds(spec.run_at)}"
    return NO_SCHEDULE


def next_due(key: str, moment: datetime) -> datetime | None:
    """The first slot later than `moment`."""
    if key == NO_SCHEDULE:
        return None
    if key.startswith(_ONCE):
        run_at = _run_at(key)
        return run_at if run_at > moment else None
    return schedule.next_due(_parsed(key), moment)


def due_between(key: str, since: datetime, until: datetime, keep: int) -> Due:
    """The slots later than `since` and not later than `until`: all counted, the last `keep` of them listed."""
    if key == NO_SCHEDULE:
        return Due(0, None, ())
    if key.startswith(_ONCE):
        run_at = _run_at(key)
        return Due(1, run_at, (run_at,)[:keep]) if since < run_at <= until else Due(0, None, ())
    return schedule.due_between(_parsed(key), since, until, keep)


def _run_at(key: str) -> datetime:
    return from_microseconds(int(key.removeprefix(_ONCE)))


def _parsed(key: str) -> schedule.Schedule:
    *expressions, zone = key.split("\n")
    return schedule.parse(tuple(expressions), zone)
