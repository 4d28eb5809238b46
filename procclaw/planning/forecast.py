"""A forecast: what the clock alone will make fire within a span, and what would keep it from running.

From what is declared and recorded now. What nobody can know beforehand is left out: runs that overlap, queues, locks,
requests, edits. A job that fires too often to be listed is counted from then on.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from procclaw.model.clock import iso
from procclaw.model.records import Hold, Run, RunState
from procclaw.model.spec import JobSpec, Spec
from procclaw.model.state import JobState
from procclaw.planning import timetable
from procclaw.planning.gates import slots_held
from procclaw.planning.schedule import jitter_offset, transition_on
from procclaw.planning.timetable import schedule_key
from procclaw.planning.views import View, moment

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

LISTED_PER_JOB = 24
"""A day of an hourly job."""
_LONGEST_SEARCH = timedelta(days=3660)
"""Of clock changes: enough for any span that is worth a look."""


class Fire(NamedTuple):
    job_id: str
    at: datetime
    """When it would start: the due time and the job's jitter."""
    local: str
    note: str


class More(NamedTuple):
    """What a job makes due beyond what is listed."""

    job_id: str
    count: int  # type: ignore[assignment]  # in place of tuple.count, which nobody wants of this tuple
    first_at: datetime
    last_at: datetime
    note: str


class Forecast(NamedTuple):
    fires: tuple[Fire, ...]
    more: tuple[More, ...]


def forecast(
    spec: Spec,
    jobs: Mapping[str, JobState],
    home_holds: tuple[Hold, ...],
    now: datetime,
    until: datetime,
    listed: int = LISTED_PER_JOB,
) -> Forecast:
    """What fires later than `now` and not later than `until`, at most `listed` times a job one by one."""
    fires: list[Fire] = []
    more: list[More] = []
    for job_id, declared in spec.jobs.items():
        job = _Job(declared, jobs.get(job_id) or JobState(job_id), home_holds)
        fires += job.planned(now, until)
        due = list(_listed(job.key, now, until, listed))
        fires += [job.fire(due_at) for due_at in due]
        rest = timetable.due_between(job.key, due[-1], until, 1) if len(due) == listed else None
        if rest is not None and rest.first is not None:
            more.append(job.more(rest.count, rest.first, rest.latest[-1]))
    return Forecast(
        tuple(sorted(fires, key=lambda fire: (fire.at, fire.job_id))), tuple(sorted(more, key=lambda each: each.job_id))
    )


def _listed(key: str, since: datetime, until: datetime, count: int) -> Iterator[datetime]:
    at = timetable.next_due(key, since)
    while at is not None and at <= until and count:
        yield at
        count -= 1
        at = timetable.next_due(key, at)


class _Job:
    """One job's part: its zone, its jitter and its holds."""

    def __init__(self, spec: JobSpec, job: JobState, home_holds: tuple[Hold, ...]) -> None:
        self._spec = spec
        self._job = job
        self._home_holds = home_holds
        self._zone: ZoneInfo | None = None
        self.key = schedule_key(spec)

    def fire(self, due_at: datetime) -> Fire:
        offset = timedelta(seconds=jitter_offset(self._spec.id, self._spec.jitter_seconds))
        at = due_at + offset
        notes = [self._held(due_at), _of_change(self._spec.timezone, self._in_zone(due_at))]
        if offset:
            notes.append(f"due {self._in_zone(due_at):%H:%M:%S}, jitter {offset.total_seconds():.0f} s")
        return self._told(at, notes)

    def planned(self, now: datetime, until: datetime) -> Iterator[Fire]:
        """Runs whose time is known already: a person named it, or a pause before another attempt ends then."""
        for active in self._job.active:
            run = active.run
            if active.live is None and run.ending is None and now < run.not_before_at <= until:
                change = _of_change(self._spec.timezone, self._in_zone(run.not_before_at))
                yield self._told(run.not_before_at, [_of_planned(run), change])

    def more(self, count: int, first_at: datetime, last_at: datetime) -> More:
        notes = [self._held_between(first_at, last_at), self._changes(first_at, last_at)]
        return More(self._spec.id, count, first_at, last_at, _joined(notes))

    def _told(self, at: datetime, notes: list[str]) -> Fire:
        return Fire(self._spec.id, at, f"{self._in_zone(at):%a %Y-%m-%d %H:%M:%S %Z}", _joined(notes))

    def _in_zone(self, at: datetime) -> datetime:
        if self._zone is None:
            from zoneinfo import ZoneInfo

            self._zone = ZoneInfo(self._spec.timezone)
        return at.astimezone(self._zone)

    def _held(self, due_at: datetime) -> str:
        """What a person's hold, as it stands now, makes of the slot."""
        holds = tuple(hold for hold in self._job.holds if hold.until is None or hold.until > due_at)
        reason = slots_held(self._job._replace(holds=holds), self._home_holds)
        return "" if reason is None else f"skipped: {str(reason).replace('_', ' ')}"

    def _held_between(self, first_at: datetime, last_at: datetime) -> str:
        first, last = self._held(first_at), self._held(last_at)
        if first == last:
            return first
        ends_at = max(hold.until for hold in self._job.holds if hold.until is not None)
        return first.replace(":", f" until {iso(ends_at)}:")

    def _changes(self, first_at: datetime, last_at: datetime) -> str:
        day, last_day = self._in_zone(first_at), self._in_zone(min(last_at, first_at + _LONGEST_SEARCH))
        found: list[str] = []
        while day.date() <= last_day.date():
            change = _of_change(self._spec.timezone, day)
            if change:
                found.append(change.replace("on this day", f"on {day:%Y-%m-%d}"))
            day += timedelta(days=1)
        return _joined(found)


def _joined(notes: list[str]) -> str:
    return "; ".join(note for note in notes if note)


def _of_planned(run: Run) -> str:
    if run.state is RunState.RETRYING:
        return f"attempt {run.attempts + 1} of run {run.id}"
    return f"planned for this time (run {run.id})" if run.scheduled_at is None else f"run {run.id}, after its jitter"


def _of_change(zone: str, day: datetime) -> str:
    change = transition_on(zone, day.date())
    if change is None:
        return ""
    minutes = abs(change) // timedelta(minutes=1)
    span = f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
    return f"clocks go {'forward' if change > timedelta(0) else 'back'} {span} on this day"


def forecast_view(found: Forecast) -> View:
    return {
        "fires": [
            {"job_id": each.job_id, "at": moment(each.at), "local": each.local, "note": each.note}
            for each in found.fires
        ],
        "more": [
            {
                "job_id": each.job_id,
                "count": each.count,
                "first_at": moment(each.first_at),
                "last_at": moment(each.last_at),
                "note": each.note,
            }
            for each in found.more
        ],
    }
