"""The timer of a job: when systemd starts its service."""

from procclaw.interface.convert.leaving import Telling, span
from procclaw.interface.convert.oncalendar import calendar_events
from procclaw.interface.convert.times import LIMITS, Times, period_of, times_of, values
from procclaw.interface.convert.unitfile import Lines, one_line, written
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Overlap

_DAY_SECONDS = 86_400
_MINUTE_SECONDS = 60


def timer_unit(job: JobSpec, telling: Telling) -> str:
    unit = [f"Description={one_line(job.name)}"]
    lines = [*_due(job, telling), "AccuracySec=1s"]
    if job.jitter_seconds:
        lines += [f"RandomizedDelaySec={span(job.jitter_seconds)}", "FixedRandomDelay=true"]
        telling.changed("jitter", "stays the same as well, but is another delay than here")
    lines += _catching_up(job, telling)
    if job.type is JobType.SCHEDULED:
        _overlapping(job, telling)
    install = ["WantedBy=timers.target"] if job.enabled else []
    return written(f"# {job.source}", ("Unit", unit), ("Timer", lines), ("Install", install))


def _due(job: JobSpec, telling: Telling) -> Lines:
    if job.run_at is not None:
        telling.kept("run_at")
        return [f"OnCalendar={job.run_at:%Y-%m-%d %H:%M:%S} UTC"]
    telling.kept("schedule", "timezone")
    lines: Lines = []
    for text in job.schedule:
        period = period_of(text)
        if period is not None and _MINUTE_SECONDS % period == 0:
            lines.append(f"OnCalendar=*-*-* *:*:00/{period} UTC")
        elif period is None:
            [times] = times_of(job._replace(schedule=(text,)))
            lines += [f"OnCalendar={event}" for event in calendar_events(times)]
            _tell_of_clocks(times, telling)
        else:
            lines += [f"OnActiveSec={period}", f"OnUnitActiveSec={period}"]
            telling.changed("schedule", f"{text} counts from the last start, not from the epoch")
    return lines


def _tell_of_clocks(times: Times, telling: Telling) -> None:
    if not times.meets_clock_changes:
        return
    if times.is_rhythm:
        telling.changed("schedule", "of an hour that comes twice when clocks go back only the first counts")
    else:
        telling.changed("schedule", "a time that is skipped when clocks go forward is passed over, not made up for")


def _catching_up(job: JobSpec, telling: Telling) -> Lines:
    policy = job.catch_up.policy
    periods = [period for period in map(period_of, job.schedule) if period is not None]
    if any(_MINUTE_SECONDS % period for period in periods) and policy is not CatchUpPolicy.NONE:
        telling.changed("catch_up", "what counts from the last start has no missed times")
        return []
    if policy is CatchUpPolicy.NONE:
        telling.kept("catch_up")
        return ["Persistent=false"]
    what = "the latest missed time is made up for, however long ago it was"
    telling.changed("catch_up", what + (", and no other one" if policy is CatchUpPolicy.ALL else ""))
    return ["Persistent=true"]


def _overlapping(job: JobSpec, telling: Telling) -> None:
    if job.on_overlap is Overlap.SKIP:
        telling.kept("on_overlap")
    else:
        telling.changed("on_overlap", "a due time is skipped where the last run is active still")


def shortest_pause(job: JobSpec) -> float:
    """Seconds between two due times on one day, at the least; a day and less a clock change otherwise."""
    periods = [period for period in map(period_of, job.schedule) if period is not None]
    if periods:
        return min(periods)
    minutes = sorted(
        hour * 60 + minute
        for times in times_of(job)
        for hour in values(times.hour, *LIMITS[1])
        for minute in values(times.minute, *LIMITS[0])
    )
    following = [*minutes[1:], minutes[0] + _DAY_SECONDS // 60]
    return min((after - before) * 60 for before, after in zip(minutes, following, strict=True))
