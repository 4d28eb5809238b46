"""The ledger: what becomes of every due slot of a schedule.

`judge` looks at all slots since the last judgement at once and gives each exactly one row: it runs, it was skipped, or
it was missed, and why. Slots of one outcome share a row, so an outage of a year costs one pass and a handful of rows.
Which runs a due slot may start beside others of its job is decided by `plan`, through `admit`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from procclaw.model.clock import after, seconds_between
from procclaw.model.reasons import Reason
from procclaw.model.records import Cursor, SlotOutcome, Slots, SlotsWithdrawn, Trigger
from procclaw.model.spec import CatchUp, CatchUpPolicy, JobSpec, JobType
from procclaw.model.state import JobState
from procclaw.planning import schedule, timetable
from procclaw.planning.timetable import NO_SCHEDULE, schedule_key

ON_TIME_SECONDS = 120.0
"""A slot noticed this late is not missed: a pass from cron comes once a minute and may start late."""

MAX_CLOCK_JUMP = timedelta(days=400)
"""The first slot not judged lies further back: nobody was away that long, the clock was wrong."""

_INSTANT = timedelta(microseconds=1)
_NOTHING_MADE_UP = CatchUp(CatchUpPolicy.NONE, 0, 0)


class Admission(NamedTuple):
    """What `admit` answers for one slot: the run made for it, or the reason it was skipped."""

    run_id: str | None
    reason: Reason | None


Admit = Callable[[datetime, Trigger], Admission]


class Judgement(NamedTuple):
    cursor: Cursor | None
    """To be written; None when nothing changed."""
    rows: tuple[Slots, ...] = ()
    withdrawn: SlotsWithdrawn | None = None
    next_due_at: datetime | None = None


class _Facts(NamedTuple):
    """All that a verdict depends upon beside the slot itself."""

    job_id: str
    catch_up: CatchUp
    held: Reason | None
    restored_until: datetime | None
    ran_already: frozenset[datetime]
    now: datetime


def judge(
    spec: JobSpec, job: JobState, held: Reason | None, restored_until: datetime | None, now: datetime, admit: Admit
) -> Judgement:
    """Judge every slot up to `now`. `held`: the hold for which due slots are skipped, if any."""
    key, cursor = schedule_key(spec), job.cursor
    if cursor is None and key == NO_SCHEDULE:
        return Judgement(None)
    facts = _Facts(job.id, spec.catch_up, held, restored_until, job.ran_after_cursor, now)
    rows: list[Slots] = []
    withdrawn = None
    if cursor is not None and cursor.judged_until > now:
        cursor = cursor._replace(judged_until=now, next_due_at=timetable.next_due(cursor.schedule_key, now))
        withdrawn = SlotsWithdrawn(job.id, now)
        rows = _cut_short(job.straddling, cursor)
    if cursor is not None:
        # Also when the schedule was edited: until that is noticed, the old one decides.
        if key == NO_SCHEDULE:
            facts = facts._replace(held=held or (Reason.CHANGED if spec.enabled else Reason.DISABLED))
        cursor = _judge_due(rows, facts, cursor, admit, may_be_jump=True)
    if cursor is None or cursor.schedule_key != key:
        cursor = _first_sight(spec, key, now, is_judged=_has_run_at(rows, spec) or job.is_run_at_judged)
        cursor = _judge_due(rows, facts, cursor, admit, may_be_jump=False)
    return Judgement(cursor if cursor != job.cursor else None, tuple(rows), withdrawn, cursor.next_due_at)


def rows_of_removed(job: JobState, now: datetime) -> tuple[Slots, ...]:
    """The last slots of a job that is no longer declared: those that came due before this was acted upon."""
    rows: list[Slots] = []
    if job.cursor is not None and job.cursor.next_due_at is not None and job.cursor.next_due_at <= now:
        facts = _Facts(job.id, _NOTHING_MADE_UP, None, None, job.ran_after_cursor, now)
        _add_alike(rows, facts, job.cursor, now, (SlotOutcome.SKIPPED, Reason.REMOVED))
    return tuple(rows)


def _cut_short(straddling: Slots | None, cursor: Cursor) -> list[Slots]:
    """The row in whose midst the clock was set back, less what has not come due any more."""
    if straddling is None:
        return []
    now = cursor.judged_until
    due = timetable.due_between(cursor.schedule_key, straddling.first_due_at, now, 1)
    # The first of them counts by itself: it may stem from an earlier schedule.
    last_due_at = due.latest[-1] if due.latest else straddling.first_due_at
    return [straddling._replace(last_due_at=last_due_at, total=min(due.count + 1, straddling.total))]


def _has_run_at(rows: list[Slots], spec: JobSpec) -> bool:
    return spec.run_at is not None and any(row.first_due_at <= spec.run_at <= row.last_due_at for row in rows)


def _first_sight(spec: JobSpec, key: str, now: datetime, *, is_judged: bool) -> Cursor:
    since = now
    if key != NO_SCHEDULE and spec.type is JobType.ONESHOT and spec.run_at is not None and not is_judged:
        # A time that has passed already is a slot too, to go by catch_up.
        since = min(now, spec.run_at - _INSTANT)
    return Cursor(spec.id, key, since, timetable.next_due(key, since))


def _judge_due(rows: list[Slots], facts: _Facts, cursor: Cursor, admit: Admit, *, may_be_jump: bool) -> Cursor:
    """Add the rows of what has come due by `cursor`, and move it on."""
    now = facts.now
    if cursor.next_due_at is None or cursor.next_due_at > now:
        return cursor
    if may_be_jump and now - cursor.next_due_at > MAX_CLOCK_JUMP:
        _add_alike(rows, facts, cursor, now, (SlotOutcome.MISSED, Reason.CLOCK_JUMP))
    elif facts.held is not None:
        _add_alike(rows, facts, cursor, now, (SlotOutcome.SKIPPED, facts.held))
    else:
        _add_each(rows, facts, cursor, admit)
    return cursor._replace(judged_until=now, next_due_at=timetable.next_due(cursor.schedule_key, now))


def _add_each(rows: list[Slots], facts: _Facts, cursor: Cursor, admit: Admit) -> None:
    candidates = _candidates(facts, cursor)
    _add_older(rows, facts, cursor, candidates[0] - _INSTANT if candidates else facts.now)
    for due_at in candidates:
        if due_at not in facts.ran_already:
            _append(rows, facts, _judge_candidate(facts, due_at, admit))


def _candidates(facts: _Facts, cursor: Cursor) -> tuple[datetime, ...]:
    """The newest slots, which may still run: the last one, or as many late ones as `catch_up: all` makes up for."""
    catch_up = facts.catch_up
    if catch_up.policy is not CatchUpPolicy.ALL:
        return timetable.due_between(cursor.schedule_key, cursor.judged_until, facts.now, 1).latest
    newest = timetable.due_between(cursor.schedule_key, cursor.judged_until, facts.now, catch_up.limit + 1).latest
    is_made_up = bool(newest) and seconds_between(newest[-1], facts.now) > ON_TIME_SECONDS
    return newest[1:] if is_made_up and len(newest) > catch_up.limit else newest


def _add_older(rows: list[Slots], facts: _Facts, cursor: Cursor, until: datetime) -> None:
    """The slots that may not run any more, one row for each verdict: it changes only at these few moments."""
    on_time = facts.now - timedelta(seconds=ON_TIME_SECONDS)
    within = facts.now - timedelta(seconds=facts.catch_up.within_seconds)
    edges = {on_time - _INSTANT, within - _INSTANT, facts.restored_until or until, until}
    for edge in sorted(edge for edge in edges if cursor.judged_until < edge <= until):
        _add_alike(rows, facts, cursor, edge, _verdict_of_older(facts, edge))
        cursor = cursor._replace(judged_until=edge)


def _add_alike(
    rows: list[Slots], facts: _Facts, cursor: Cursor, until: datetime, verdict: tuple[SlotOutcome, Reason]
) -> None:
    """Slots of one verdict, in as few rows as lie between slots that ran before the clock was set back over them."""
    since = cursor.judged_until
    for ran in sorted(moment for moment in facts.ran_already if since < moment <= until):
        _add_span(rows, facts, cursor.schedule_key, since, ran - _INSTANT, verdict)
        since = ran
    _add_span(rows, facts, cursor.schedule_key, since, until, verdict)


def _add_span(
    rows: list[Slots],
    facts: _Facts,
    key: str,
    since: datetime,
    until: datetime,
    verdict: tuple[SlotOutcome, Reason],
) -> None:
    due = timetable.due_between(key, since, until, 1)
    if due.first is not None:
        _append(rows, facts, Slots(facts.job_id, due.first, due.latest[-1], due.count, *verdict, None, facts.now))


def _append(rows: list[Slots], facts: _Facts, row: Slots) -> None:
    """Add a row, as part of the one before it where both say the same and no slot that ran lies between them."""
    last = rows[-1] if rows else None
    if last is not None and _continues(last, row, facts):
        rows[-1] = last._replace(last_due_at=row.last_due_at, total=last.total + row.total)
    else:
        rows.append(row)


def _continues(last: Slots, row: Slots, facts: _Facts) -> bool:
    says_the_same = (last.outcome, last.reason, last.noticed_at) == (row.outcome, row.reason, row.noticed_at)
    if row.outcome is SlotOutcome.RAN or not says_the_same or row.first_due_at <= last.last_due_at:
        return False
    return not any(last.last_due_at < ran < row.first_due_at for ran in facts.ran_already)


def _verdict_of_older(facts: _Facts, due_at: datetime) -> tuple[SlotOutcome, Reason]:
    """Of a slot that newer ones have overtaken."""
    missed = _why_missed(facts, due_at)
    if missed is not None:
        return SlotOutcome.MISSED, missed
    if facts.catch_up.policy is CatchUpPolicy.ALL:
        return SlotOutcome.MISSED, Reason.LIMIT
    if seconds_between(due_at, facts.now) <= ON_TIME_SECONDS:
        return SlotOutcome.SKIPPED, Reason.SUPERSEDED
    return SlotOutcome.MISSED, Reason.DOWN


def _judge_candidate(facts: _Facts, due_at: datetime, admit: Admit) -> Slots:
    """Of a slot that may still run, others of its job permitting."""

    def row(outcome: SlotOutcome, reason: Reason | None, run_id: str | None = None) -> Slots:
        return Slots(facts.job_id, due_at, due_at, 1, outcome, reason, run_id, facts.now)

    missed = _why_missed(facts, due_at)
    if missed is not None:
        return row(SlotOutcome.MISSED, missed)
    is_on_time = seconds_between(due_at, facts.now) <= ON_TIME_SECONDS
    admission = admit(due_at, Trigger.SCHEDULE if is_on_time else Trigger.CATCH_UP)
    if admission.run_id is None:
        return row(SlotOutcome.SKIPPED, admission.reason)
    return row(SlotOutcome.RAN, None, admission.run_id)


def _why_missed(facts: _Facts, due_at: datetime) -> Reason | None:
    """Why a slot this old may not run any more; None if it may."""
    if facts.restored_until is not None and due_at <= facts.restored_until:
        return Reason.RESTORED
    late_seconds = seconds_between(due_at, facts.now)
    if late_seconds <= ON_TIME_SECONDS:
        return None
    catch_up = facts.catch_up
    if catch_up.policy is CatchUpPolicy.NONE or late_seconds > catch_up.within_seconds:
        return Reason.DOWN
    return None


def start_after_jitter(spec: JobSpec, due_at: datetime) -> datetime:
    return after(due_at, schedule.jitter_offset(spec.id, spec.jitter_seconds))
