"""The dead-man check: when a job should have succeeded, and since when that counts.

A job is late when it has not succeeded by its deadline, for whatever reason: it failed, it was skipped, nobody started
it, we were not running. So the deadline follows from the last success alone and from the *watch*, the moment since
which success is expected: when the job was first seen with that expectation, or let go again by whoever held it. While
a person holds it, or it is disabled, nothing is expected.

A success that lies ahead was recorded before the clock was set back, and nobody can tell how long ago that was. Until
the clock has caught up with it the watch takes its place: it begins anew then, and with each later success.
"""

from datetime import datetime, timedelta

from procclaw.model.alerts import Watch
from procclaw.model.clock import after, iso
from procclaw.model.spec import Expect, JobSpec
from procclaw.planning import schedule
from procclaw.planning.draft import Draft
from procclaw.planning.gates import slots_held

NOTHING = ""
"""The key of a watch while nothing is expected."""

_INSTANT = timedelta(microseconds=1)


def watched(draft: Draft) -> Watch | None:
    """The job's watch as it stands now, written where it has changed; None: nothing is expected of the job."""
    before, last_at = draft.job.watch, last_success_at(draft)
    key = _expected(draft)
    if key == NOTHING and (before is None or before.key == NOTHING):
        return None
    is_ahead = last_at is not None and last_at > draft.now
    if last_at is not None and is_ahead and key != NOTHING:
        key += f", clock set back from {iso(last_at)}"
    watch = before
    if before is None or before.key != key or before.since > draft.now or (is_ahead and draft.succeeded()):
        watch = Watch(draft.job.id, key, draft.now)
        draft.writes.append(watch)
    return None if key == NOTHING else watch


def _expected(draft: Draft) -> str:
    """What is expected of the job at present, as the key of its watch."""
    spec = draft.spec
    if spec is None or spec.expect is None or not spec.enabled:
        return NOTHING
    held = slots_held(draft.held_now(), draft.state.home_holds)
    return NOTHING if held is not None else _key(spec.expect, spec.timezone)


def _key(expect: Expect, zone: str) -> str:
    return f"by {expect.by} {zone}" if expect.every_seconds is None else f"every {expect.every_seconds:g} s"


def last_success_at(draft: Draft) -> datetime | None:
    """Of the job, in this plan too."""
    known_at = draft.job.last_success_at
    return max(draft.now, known_at or draft.now) if draft.succeeded() else known_at


def deadline_at(draft: Draft, spec: JobSpec, watch: Watch) -> datetime | None:
    """By when the job must have succeeded next; late from that moment on. None: never."""
    assert spec.expect is not None
    last_at = last_success_at(draft)
    if last_at is not None and last_at > draft.now:
        last_at = watch.since
    if spec.expect.every_seconds is not None:
        return after(max(watch.since, last_at or watch.since), spec.expect.every_seconds)
    assert spec.expect.by is not None
    return _next_daily(spec.expect.by, spec.timezone, watch.since, last_at)


def _next_daily(by: str, zone: str, since: datetime, last_at: datetime | None) -> datetime | None:
    """The first of the daily moments after `since` for which a success at `last_at` does not count.

    It counts for the moment that follows it, and for none later: a moment asks for a success after the one before it.
    """
    hour, minute = by.split(":")
    # As a fixed schedule, which knows what to do where the clock jumps or repeats itself.
    daily = schedule.parse((f"{int(minute)} {int(hour)} * * *",), zone)
    first_at = schedule.next_due(daily, since)
    if last_at is None or first_at is None:
        return first_at
    met_at = schedule.next_due(daily, last_at - _INSTANT)
    return None if met_at is None else max(first_at, schedule.next_due(daily, met_at) or first_at)
