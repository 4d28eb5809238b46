"""What becomes of due slots: the ledger's rows, and the runs that come of them. Whole plans are compared."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from procclaw.model.ids import run_id
from procclaw.model.reasons import Reason
from procclaw.model.records import Cursor, HoldKind, HoldLifted, Run, Slots, SlotsWithdrawn
from procclaw.model.spec import JobSpec, Param, Priority
from procclaw.model.state import ActiveRun, JobState
from procclaw.planning import schedule, timetable
from procclaw.planning.actions import Plan, Signal, Start
from procclaw.planning.plan import plan
from tests.builders import (
    HOME_HELD,
    NOW,
    TERM,
    a_cursor,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_start,
    a_state,
    a_wait,
    ago,
    alive,
    an_attempt,
    an_intent,
    an_order,
    changed,
    done,
    ended,
    exited,
    in_line,
    later,
    over,
    planned,
    slots_row,
    started,
    waiting,
    with_process,
)

HOURLY = a_job("scheduled")
MINUTELY = a_job("scheduled", schedule="* * * * *")
HOUR = timedelta(hours=1)


def follows(job: JobSpec, since: datetime) -> Cursor:
    """A cursor that has judged every slot of the job up to `since`."""
    key = timetable.schedule_key(job)
    return Cursor(job.id, key, since, timetable.next_due(key, since))


def since(job: JobSpec, moment: datetime, *active: ActiveRun, **fields: Any) -> JobState:
    """The job's state when its slots have been judged up to `moment`."""
    return a_job_state(*active, cursor=follows(job, moment), **fields)


def slot_run(due_at: datetime, trigger: str = "schedule", now: datetime = NOW, **fields: Any) -> Run:
    return a_run("queued", slot=due_at, trigger=trigger, queued_at=now, **{"not_before_at": due_at, **fields})


def runs_now(job: JobSpec, run: Run, *rows: Slots, now: datetime = NOW) -> Plan:
    """A plan that starts the run of a slot, notes these rows and then the slot's own, and moves the cursor to `now`."""
    assert run.scheduled_at is not None
    cursor = follows(job, now)
    ran = slots_row(run.scheduled_at, "ran", run=run)._replace(noticed_at=now)
    due = f"due {run.scheduled_at:%Y-%m-%d %H:%M:%SZ}"
    return Plan(
        writes=(started(run, job, now), *rows, ran, cursor),
        effects=(a_start(run, job, due),),
        wake_at=cursor.next_due_at,
    )


def notes(job: JobSpec, *rows: Slots, now: datetime = NOW) -> Plan:
    """A plan that only notes what became of slots."""
    cursor = follows(job, now)
    return Plan(writes=(*rows, cursor), wake_at=cursor.next_due_at)


# --- when a slot comes due ---


def test_a_jobs_first_slot_is_the_first_after_it_appeared() -> None:
    # It appears in the very instant of a slot.
    assert planned(HOURLY, a_job_state()) == notes(HOURLY)
    assert follows(HOURLY, NOW).next_due_at == NOW + HOUR


def test_before_its_slot_a_job_waits_for_it() -> None:
    just_before = NOW - timedelta(microseconds=1)
    assert planned(HOURLY, since(HOURLY, ago(60)), now=just_before) == Plan(wake_at=NOW)


@pytest.mark.parametrize(
    ("late", "trigger"),
    [(0, "schedule"), (0.000001, "schedule"), (60, "schedule"), (120, "schedule"), (120.001, "catch_up"),
     (3599, "catch_up"), (3600, "catch_up")],
)  # fmt: skip
def test_a_slot_runs_when_it_is_noticed(late: float, trigger: str) -> None:
    # Daily, so that the coming slot is no hour after this one.
    job = a_job("scheduled", schedule="0 12 * * *")
    now = later(late)
    run = slot_run(NOW, trigger, now)
    assert planned(job, since(job, ago(60)), now) == runs_now(job, run, now=now)


@pytest.mark.parametrize(
    ("policy", "within", "late"),
    [("latest", 3600, 3600.001), ("latest", 500, 501), ("none", 3600, 120.001), ("all", 600, 600.001)],
)
def test_a_slot_noticed_too_late_was_missed(policy: str, within: float, late: float) -> None:
    job = a_job("scheduled", schedule="0 12 * * *", catch_up=policy, within=within)
    now = later(late)
    row = slots_row(NOW, "missed", Reason.DOWN)._replace(noticed_at=now)
    assert planned(job, since(job, ago(60)), now) == notes(job, row, now=now)


@pytest.mark.parametrize("policy", ["none", "latest", "all"])
@pytest.mark.parametrize("late", [0, 120])
def test_a_slot_on_time_runs_whatever_the_policy_for_missed_ones(policy: str, late: float) -> None:
    job = a_job("scheduled", schedule="0 12 * * *", catch_up=policy, within=0, limit=0)
    now = later(late)
    assert planned(job, since(job, ago(60)), now) == runs_now(job, slot_run(NOW, now=now), now=now)


def test_a_plan_without_slots_judges_none() -> None:
    state = a_state(since(HOURLY, ago(60)))
    assert plan(a_spec(HOURLY), state, NOW, judges_slots=False) == Plan()


# --- several at once ---


def test_after_an_outage_the_latest_runs_and_the_others_were_missed() -> None:
    down = slots_row(ago(4 * 3600), "missed", Reason.DOWN, last=ago(3600), total=4)
    assert planned(HOURLY, since(HOURLY, ago(5 * 3600))) == runs_now(HOURLY, slot_run(NOW), down)


def test_an_outage_of_a_year_is_two_rows() -> None:
    begin = NOW - timedelta(days=365)
    down = slots_row(begin + timedelta(minutes=1), "missed", Reason.DOWN, last=ago(180), total=365 * 1440 - 3)
    overtaken = slots_row(ago(120), "skipped", Reason.SUPERSEDED, last=ago(60), total=2)
    found = planned(MINUTELY, since(MINUTELY, begin))
    assert found == runs_now(MINUTELY, slot_run(NOW), down, overtaken)


def test_of_two_slots_noticed_on_time_together_the_later_overtakes_the_earlier() -> None:
    overtaken = slots_row(ago(60), "skipped", Reason.SUPERSEDED)
    assert planned(MINUTELY, since(MINUTELY, ago(61))) == runs_now(MINUTELY, slot_run(NOW), overtaken)


def test_nothing_is_made_up_for_where_that_is_not_wanted() -> None:
    job = changed(HOURLY, catch_up="none")
    now = later(121)
    down = slots_row(ago(7200), "missed", Reason.DOWN, last=NOW, total=3)._replace(noticed_at=now)
    assert planned(job, since(job, ago(7201)), now) == notes(job, down, now=now)


def all_of(job: JobSpec, moments: list[datetime], now: datetime) -> list[Run]:
    return [slot_run(at, "catch_up", now) for at in moments]


def test_all_are_made_up_for_one_after_the_other() -> None:
    job = changed(HOURLY, catch_up="all", within=10_000)
    now = later(200)
    first, second, third = all_of(job, [ago(7200), ago(3600), NOW], now)
    waits = [run._replace(closed=in_line(now)) for run in (second, third)]
    detail = "1 of at most 1 running"
    assert planned(job, since(job, ago(7201)), now) == Plan(
        writes=(
            started(first, job, now),
            *waits,
            *(slots_row(run.scheduled_at or NOW, "ran", run=run)._replace(noticed_at=now) for run in (first, *waits)),
            follows(job, now),
        ),
        effects=(a_start(first, job, "due 2026-06-01 10:00:00Z"),),
        waits=tuple(a_wait(Reason.MAX_INSTANCES, run, detail, now) for run in waits),
        wake_at=later(3600),
    )


@pytest.mark.parametrize(
    ("limit", "within", "now", "wanted"),
    [
        # Slots at 08:00 … 12:00; noticed at 12:03:20, or on time at 12:00.
        (2, 90_000, later(200), ["missed limit 3", "ran", "ran"]),
        (0, 90_000, later(200), ["missed limit 5"]),
        (9, 90_000, later(200), ["ran"] * 5),
        (5, 90_000, later(200), ["ran"] * 5),
        (9, 4000, later(200), ["missed down 3", "ran", "ran"]),
        (1, 4000, later(200), ["missed down 3", "missed limit 1", "ran"]),
        (2, 90_000, NOW, ["missed limit 2", "ran", "ran", "skipped overlap 1"]),
        (0, 90_000, NOW, ["missed limit 4", "ran"]),
    ],
)
def test_all_means_the_newest_within_the_limit(limit: int, within: float, now: datetime, wanted: list[str]) -> None:
    job = changed(HOURLY, catch_up="all", limit=limit, within=within)
    found = planned(job, since(job, ago(4 * 3600 + 1)), now)
    rows = [write for write in found.writes if isinstance(write, Slots)]
    assert [f"{row.outcome} {row.reason} {row.total}" if row.reason else str(row.outcome) for row in rows] == wanted


def test_what_is_made_up_for_waits_its_turn_though_overlapping_slots_are_skipped() -> None:
    job = changed(HOURLY, catch_up="all", on_overlap="skip")
    running = a_run("running", slot=ago(7200))
    now = later(200)
    found = planned(job, since(job, ago(60), with_process(running, job)), now)
    run = slot_run(NOW, "catch_up", now, closed=in_line(now))
    assert found.writes == (
        run,
        slots_row(NOW, "ran", run=run)._replace(noticed_at=now),
        follows(job, now),
    )


# --- slots nobody may run ---

HELD: list[tuple[str, dict[str, Any], dict[str, Any], JobSpec, Reason]] = [
    ("paused", {"holds": (a_hold("pause"),)}, {}, HOURLY, Reason.PAUSED),
    ("revoked", {"holds": (a_hold("revoke"),)}, {}, HOURLY, Reason.REVOKED),
    ("both", {"holds": (a_hold("pause"), a_hold("revoke"))}, {}, HOURLY, Reason.REVOKED),
    ("home stopped", {}, {"home_holds": HOME_HELD}, HOURLY, Reason.HOME_STOPPED),
]


@pytest.mark.parametrize(
    ("of_job", "of_home", "job", "reason"), [row[1:] for row in HELD], ids=[row[0].replace(" ", "-") for row in HELD]
)
def test_slots_of_a_job_that_is_held_are_skipped(
    of_job: dict[str, Any], of_home: dict[str, Any], job: JobSpec, reason: Reason
) -> None:
    row = slots_row(ago(7200), "skipped", reason, last=NOW, total=3)
    assert planned(job, since(job, ago(7201), **of_job), **of_home) == notes(job, row)


def test_a_stop_of_a_job_that_is_not_continuous_holds_no_slots() -> None:
    state = since(HOURLY, ago(60), holds=(a_hold("stop"),))
    assert planned(HOURLY, state) == runs_now(HOURLY, slot_run(NOW))


def test_a_slot_that_comes_due_with_the_resume_runs() -> None:
    state = since(HOURLY, ago(60), holds=(a_hold("pause"),), intents=(an_intent("resume"),))
    found = planned(HOURLY, state)
    run = slot_run(NOW)
    assert found.writes == (
        started(run, HOURLY),
        HoldLifted("job", HoldKind.PAUSE),
        slots_row(NOW, "ran", run=run),
        follows(HOURLY, NOW),
        done(an_intent("resume"), "resumed"),
    )


def test_a_disabled_job_makes_no_slots() -> None:
    job = changed(HOURLY, enabled=False)
    assert planned(job, a_job_state()) == Plan()
    assert planned(job, a_job_state(cursor=a_cursor(job, ago(7201), None))) == Plan()


def test_after_a_restore_the_slots_until_then_were_missed() -> None:
    lost = slots_row(ago(7200), "missed", Reason.RESTORED, last=ago(3600), total=2)
    found = planned(HOURLY, since(HOURLY, ago(7201)), restored_until=ago(3600))
    assert found == runs_now(HOURLY, slot_run(NOW), lost)


@pytest.mark.parametrize("policy", ["none", "latest", "all"])
def test_nothing_of_the_time_before_a_restore_is_made_up_for(policy: str) -> None:
    job = changed(HOURLY, catch_up=policy, within=90_000)
    lost = slots_row(ago(7200), "missed", Reason.RESTORED, last=NOW, total=3)
    assert planned(job, since(job, ago(7201)), restored_until=NOW) == notes(job, lost)


# --- a clock that is set ---


def test_when_the_clock_is_set_back_later_rows_are_withdrawn_and_nothing_runs_again() -> None:
    state = since(HOURLY, NOW)
    back = ago(1800)
    assert planned(HOURLY, state, back) == Plan(
        writes=(SlotsWithdrawn("job", back), follows(HOURLY, back)), wake_at=NOW
    )


def test_a_slot_that_ran_does_not_run_again_when_its_time_comes_again() -> None:
    state = since(HOURLY, ago(1800), ran_after_cursor=frozenset({NOW}))
    assert planned(HOURLY, state) == notes(HOURLY)


def test_no_row_reaches_across_a_slot_that_ran_before_the_clock_was_set_back() -> None:
    job = changed(HOURLY, catch_up="none")
    now = later(200)
    state = since(job, ago(3 * 3600 + 1), ran_after_cursor=frozenset({ago(7200), NOW}))
    rows = (
        slots_row(ago(3 * 3600), "missed", Reason.DOWN)._replace(noticed_at=now),
        slots_row(ago(3600), "missed", Reason.DOWN)._replace(noticed_at=now),
    )
    assert planned(job, state, now) == notes(job, *rows, now=now)


@pytest.mark.parametrize("hold", [(), (a_hold("pause"),)])
def test_over_a_slot_that_ran_every_other_one_has_a_row(hold: tuple[Any, ...]) -> None:
    state = since(HOURLY, ago(3 * 3600 + 1), ran_after_cursor=frozenset({ago(7200)}), holds=hold)
    found = planned(HOURLY, state)
    rows = [write for write in found.writes if isinstance(write, Slots)]
    assert sum(row.total for row in rows) == 3
    assert not any(row.first_due_at <= ago(7200) <= row.last_due_at for row in rows)


def test_a_slot_that_ran_is_not_skipped_when_its_time_comes_again_and_the_job_is_held() -> None:
    state = since(HOURLY, ago(3601), ran_after_cursor=frozenset({NOW}), holds=(a_hold("pause"),))
    assert planned(HOURLY, state) == notes(HOURLY, slots_row(ago(3600), "skipped", Reason.PAUSED))


def test_a_row_in_whose_midst_the_clock_was_set_back_is_cut_short() -> None:
    row = slots_row(ago(3 * 3600), "skipped", Reason.PAUSED, last=NOW, total=4)
    back = ago(5400)
    state = since(HOURLY, NOW, straddling=row)
    assert planned(HOURLY, state, back) == Plan(
        writes=(
            SlotsWithdrawn("job", back),
            row._replace(last_due_at=ago(7200), total=2),
            follows(HOURLY, back),
        ),
        wake_at=ago(3600),
    )


def test_a_row_of_another_schedule_is_cut_short_to_what_it_certainly_covers() -> None:
    row = slots_row(ago(9000), "missed", Reason.DOWN, last=NOW, total=3)
    back = ago(8000)
    found = planned(HOURLY, since(HOURLY, NOW, straddling=row), back)
    assert row._replace(last_due_at=ago(9000), total=1) in found.writes


def test_a_row_of_a_job_that_has_no_slots_any_more_is_cut_short_as_well() -> None:
    row = slots_row(ago(7200), "missed", Reason.DOWN, last=NOW, total=3)
    back = ago(5400)
    job = changed(HOURLY, enabled=False)
    found = planned(job, since(job, NOW, straddling=row), back)
    assert found == Plan(
        writes=(
            SlotsWithdrawn("job", back),
            row._replace(last_due_at=ago(7200), total=1),
            Cursor("job", "", back, None),
        )
    )


def test_a_clock_set_back_and_an_edit_noticed_together_do_not_hide_each_other() -> None:
    edited = changed(HOURLY, schedule="30 * * * *")
    back = ago(1000)
    found = planned(edited, since(HOURLY, NOW), back)
    assert found == Plan(
        writes=(SlotsWithdrawn("job", back), follows(edited, back)),
        wake_at=later(1800),
    )


@pytest.mark.parametrize(
    ("beyond", "outcome"), [(timedelta(0), ["missed down", "ran"]), (timedelta(seconds=1), ["missed clock_jump"])]
)
def test_a_jump_of_more_than_400_days_is_reported_and_nothing_made_up_for(
    beyond: timedelta, outcome: list[str]
) -> None:
    now = NOW + timedelta(days=400) + beyond
    found = planned(HOURLY, since(HOURLY, ago(60)), now)
    rows = [write for write in found.writes if isinstance(write, Slots)]
    assert [f"{row.outcome} {row.reason}" if row.reason else str(row.outcome) for row in rows] == outcome
    assert sum(row.total for row in rows) == 400 * 24 + 1


def test_after_a_jump_the_slots_that_ran_are_left_as_they_are() -> None:
    now = NOW + timedelta(days=500)
    state = since(HOURLY, ago(60), ran_after_cursor=frozenset({NOW + 5 * HOUR}))
    rows = [write for write in planned(HOURLY, state, now).writes if isinstance(write, Slots)]
    assert [(row.reason, row.total) for row in rows] == [
        (Reason.CLOCK_JUMP, 5),
        (Reason.CLOCK_JUMP, 500 * 24 + 1 - 6),
    ]


def test_a_schedule_that_is_rarely_due_is_no_jump_of_the_clock() -> None:
    leap_days = a_job("scheduled", schedule="0 0 29 2 *")
    due_at = datetime.fromisoformat("2028-02-29T00:00:00+00:00")
    run = slot_run(due_at, now=due_at)
    assert planned(leap_days, since(leap_days, NOW), due_at) == runs_now(leap_days, run, now=due_at)


def test_slots_that_are_none_any_more_by_newer_zone_data_are_let_go() -> None:
    # The zone's rules changed with an update: what was to be due now is not.
    state = a_job_state(cursor=a_cursor(HOURLY, ago(60), ago(30)))
    assert planned(HOURLY, state, ago(10)) == notes(HOURLY, now=ago(10))


# --- edits ---

LATER_IN_THE_HOUR = changed(HOURLY, schedule="30 * * * *")


def test_an_edited_schedule_counts_from_the_moment_it_is_noticed() -> None:
    state = since(HOURLY, ago(1900))
    assert planned(LATER_IN_THE_HOUR, state, ago(1700)) == notes(LATER_IN_THE_HOUR, now=ago(1700))


def test_until_an_edit_is_noticed_the_old_schedule_decides() -> None:
    state = since(HOURLY, ago(60))
    now = later(30)
    found = planned(LATER_IN_THE_HOUR, state, now)
    assert found == runs_now(LATER_IN_THE_HOUR, slot_run(NOW, now=now), now=now)


def test_what_the_old_schedule_missed_is_told_too() -> None:
    state = since(HOURLY, ago(7201))
    now = later(30)
    missed = slots_row(ago(7200), "missed", Reason.DOWN, last=ago(3600), total=2)._replace(noticed_at=now)
    found = planned(LATER_IN_THE_HOUR, state, now)
    assert found == runs_now(LATER_IN_THE_HOUR, slot_run(NOW, now=now), missed, now=now)


def test_another_zone_is_another_schedule() -> None:
    before = a_job("scheduled", schedule="0 12 * * *")
    after = changed(before, timezone="Europe/Berlin")
    found = planned(after, since(before, ago(60)), ago(30))
    assert found == notes(after, now=ago(30))
    assert follows(after, ago(30)).next_due_at == NOW + 22 * HOUR


@pytest.mark.parametrize("field", [{"catch_up": "all"}, {"jitter": 30}, {"on_overlap": "queue"}, {"cmd": "other"}])
def test_an_edit_of_anything_else_leaves_the_schedule_alone(field: dict[str, Any]) -> None:
    assert planned(changed(HOURLY, **field), since(HOURLY, ago(60)), ago(30)) == Plan(wake_at=NOW)


@pytest.mark.parametrize(
    ("after", "reason"),
    [(changed(HOURLY, enabled=False), Reason.DISABLED), (a_job(), Reason.CHANGED)],
    ids=["disabled", "manual"],
)
def test_slots_that_came_due_before_their_end_was_noticed_are_skipped(after: JobSpec, reason: Reason) -> None:
    row = slots_row(ago(3600), "skipped", reason, last=NOW, total=2)
    assert planned(after, since(HOURLY, ago(3601))) == Plan(writes=(row, Cursor("job", "", NOW, None)))


def test_a_job_that_is_enabled_again_makes_up_for_nothing() -> None:
    state = a_job_state(cursor=Cursor("job", "", ago(50_000), None))
    assert planned(HOURLY, state) == notes(HOURLY)


# --- oneshot ---


def once(run_at: datetime, **fields: Any) -> JobSpec:
    return a_job("oneshot", run_at=run_at, **fields)


def test_a_oneshot_waits_for_its_time() -> None:
    assert planned(once(later(60)), a_job_state()) == notes(once(later(60)))
    assert follows(once(later(60)), NOW).next_due_at == later(60)


def test_a_oneshot_runs_once() -> None:
    job = once(NOW)
    assert planned(job, since(job, ago(60))) == runs_now(job, slot_run(NOW))
    assert planned(job, since(job, NOW), later(3600)) == Plan()


@pytest.mark.parametrize(
    ("late", "trigger"), [(0, "schedule"), (120, "schedule"), (121, "catch_up"), (3600, "catch_up")]
)
def test_a_oneshot_declared_after_its_time_goes_by_catch_up(late: float, trigger: str) -> None:
    job = once(ago(late))
    assert planned(job, a_job_state()) == runs_now(job, slot_run(ago(late), trigger))


@pytest.mark.parametrize("late", [3601, 500 * 86400], ids=["an hour", "years"])
def test_a_oneshot_declared_too_long_after_its_time_was_missed(late: float) -> None:
    job = once(ago(late))
    assert planned(job, a_job_state()) == notes(job, slots_row(ago(late), "missed", Reason.DOWN))


@pytest.mark.parametrize("run_at", [later(60), ago(60)])
def test_an_edited_oneshot_is_a_new_slot(run_at: datetime) -> None:
    before, after = once(ago(7200)), once(run_at)
    found = planned(after, since(before, ago(7200)))
    wanted = notes(after) if run_at > NOW else runs_now(after, slot_run(run_at))
    assert found == wanted


def test_editing_a_oneshot_that_is_due_does_not_undo_it() -> None:
    before, after = once(ago(5)), once(later(60))
    assert planned(after, since(before, ago(60))) == runs_now(after, slot_run(ago(5)))


@pytest.mark.parametrize("cursor", [None, Cursor("job", "", ago(10), None)], ids=["declared again", "enabled again"])
def test_a_oneshot_whose_time_is_in_the_ledger_does_not_run_again(cursor: Cursor | None) -> None:
    job = once(ago(60))
    assert planned(job, a_job_state(cursor=cursor, is_run_at_judged=True)) == notes(job)


def test_a_slot_that_belongs_to_the_old_schedule_and_the_new_runs_once() -> None:
    after = once(NOW)
    now = later(5)
    assert planned(after, since(HOURLY, ago(60)), now) == runs_now(after, slot_run(NOW, now=now), now=now)


def test_a_oneshot_among_the_missed_slots_of_the_old_schedule_keeps_the_ledger_in_order() -> None:
    after = once(ago(6 * 3600 + 60), catch_up="none")
    now = later(200)
    rows = [write for write in planned(after, since(HOURLY, ago(7201)), now).writes if isinstance(write, Slots)]
    assert [(row.first_due_at, row.total) for row in rows] == [(ago(7200), 3), (ago(6 * 3600 + 60), 1)]


# --- jitter ---


def test_jitter_puts_the_start_off_but_not_the_slot() -> None:
    job = changed(HOURLY, jitter=600)
    offset = schedule.jitter_offset("job", 600)
    run = slot_run(NOW, not_before_at=NOW + timedelta(seconds=offset))
    assert 0 < offset < 600
    assert planned(job, since(job, ago(60))) == Plan(
        writes=(run, slots_row(NOW, "ran", run=run), follows(job, NOW)),
        waits=(a_wait(Reason.JITTER, run, "its jitter", NOW, run.not_before_at),),
        wake_at=run.not_before_at,
    )


def test_jitter_is_the_jobs_own_and_never_changes() -> None:
    assert [schedule.jitter_offset(name, 100) for name in ("job", "job", "other")] == [
        pytest.approx(schedule.jitter_offset("job", 100)),
        pytest.approx(schedule.jitter_offset("job", 100)),
        pytest.approx(schedule.jitter_offset("other", 100)),
    ]
    assert schedule.jitter_offset("job", 100) != schedule.jitter_offset("other", 100)


def test_a_slot_noticed_after_its_jitter_starts_at_once() -> None:
    job = changed(HOURLY, jitter=10)
    now = later(60)
    run = slot_run(NOW, now=now, not_before_at=NOW + timedelta(seconds=schedule.jitter_offset("job", 10)))
    assert planned(job, since(job, ago(60)), now) == runs_now(job, run, now=now)


# --- overlap ---

EARLIER = NOW - HOUR


def an_active(state: str, job: JobSpec, number: int = 1, **fields: Any) -> ActiveRun:
    """A run of an earlier slot in this state: `ending` is one that is being stopped."""
    due_at = EARLIER - number * timedelta(minutes=1)
    if state == "ending":
        run = a_run("running", slot=due_at, ending=Reason.OVERLAP)
        order = an_order(Reason.OVERLAP, 5, signalled_ago=5)
        return ActiveRun(run, alive(an_attempt(run, job, stop=order, instance=number - 1)))
    if state == "running":
        return with_process(a_run("running", slot=due_at), job, instance=number - 1)
    if state == "retrying":
        return waiting(a_run("retrying", slot=due_at, failures=2, not_before_at=later(20)))
    return waiting(a_run("queued", slot=due_at, not_before_at=later(20), queued_at=ago(5)))


def overlapping(policy: str, *states: str, **fields: Any) -> tuple[JobSpec, tuple[ActiveRun, ...], Plan]:
    """The plan when a slot is due while runs in these states are active."""
    job = changed(HOURLY, on_overlap=policy, jitter=30, delays=(20,), grace=60, **fields)
    active = tuple(an_active(state, job, number) for number, state in enumerate(states, 1))
    # The jitter of these jobs has passed, so that what may start does.
    job = job._replace(jitter_seconds=0) if "queued" not in states else job
    return job, active, planned(job, since(job, ago(60), *active))


def row_of_now(found: Plan) -> str:
    [row] = [write for write in found.writes if isinstance(write, Slots) and write.first_due_at == NOW]
    return f"{row.outcome} {row.reason}" if row.reason else str(row.outcome)


@pytest.mark.parametrize(
    ("policy", "state", "outcome"),
    [
        ("skip", "running", "skipped overlap"),
        ("skip", "queued", "skipped overlap"),
        ("skip", "ending", "skipped overlap"),
        ("skip", "retrying", "ran"),
        ("queue", "running", "ran"),
        ("queue", "queued", "ran"),
        ("queue", "ending", "ran"),
        ("queue", "retrying", "ran"),
        ("kill_restart", "running", "ran"),
        ("kill_restart", "queued", "ran"),
        ("kill_restart", "ending", "ran"),
        ("kill_restart", "retrying", "ran"),
    ],
)
def test_a_due_slot_beside_an_active_run_goes_by_the_overlap_rule(policy: str, state: str, outcome: str) -> None:
    assert row_of_now(overlapping(policy, state)[2]) == outcome


def test_a_skipped_slot_changes_nothing_about_what_runs() -> None:
    job, _, found = overlapping("skip", "running")
    assert found == notes(job, slots_row(NOW, "skipped", Reason.OVERLAP))


def test_a_due_slot_takes_the_place_of_a_run_that_only_waits_to_retry() -> None:
    job, (active,), found = overlapping("skip", "retrying")
    run = slot_run(NOW)
    start = runs_now(job, run)
    assert found == Plan(
        writes=(over(active.run, "skipped", Reason.SUPERSEDED), *start.writes),
        effects=start.effects,
        wake_at=start.wake_at,
    )


def test_a_queued_slot_waits_for_a_place() -> None:
    job, _, found = overlapping("queue", "running")
    run = slot_run(NOW, closed=in_line(NOW))
    assert found == Plan(
        writes=(run, slots_row(NOW, "ran", run=run), follows(job, NOW)),
        waits=(a_wait(Reason.MAX_INSTANCES, run, "1 of at most 1 running", NOW),),
        wake_at=later(300),
    )


def test_a_queued_slot_and_a_retry_wait_for_each_other_in_the_order_of_their_age() -> None:
    job, (active,), found = overlapping("queue", "retrying")
    assert [effect.run_id for effect in found.effects if isinstance(effect, Start)] == [slot_run(NOW).id]
    retry_wait = found.waits[0]
    assert (retry_wait.run_id, retry_wait.reason) == (active.run.id, Reason.RETRY_DELAY)
    assert job.on_overlap == "queue"


def test_a_slot_that_finds_no_room_in_the_queue_is_skipped() -> None:
    job, _, found = overlapping("queue", "running", queue_excess=False)
    assert found == notes(job, slots_row(NOW, "skipped", Reason.QUEUE_FULL))


def test_a_slot_that_waited_too_long_for_a_place_was_skipped() -> None:
    job = changed(HOURLY, on_overlap="queue")
    run = slot_run(ago(1000), closed=in_line(ago(300)))
    running = an_active("running", job)
    detail = "1 of at most 1 running"
    found = planned(job, a_job_state(running, waiting(run), cursor=follows(job, NOW)))
    assert found == Plan(
        writes=(
            over(run, "expired", Reason.QUEUE_TIMEOUT, detail=detail),
            slots_row(ago(1000), "skipped", Reason.QUEUE_TIMEOUT, run=run),
        ),
        wake_at=NOW + HOUR,
    )


def test_kill_restart_stops_the_old_run_and_starts_the_new_when_it_is_gone() -> None:
    job, (active,), found = overlapping("kill_restart", "running")
    run = slot_run(NOW, closed=in_line(NOW))
    assert active.live is not None
    ordered = active.live.attempt._replace(stop=an_order(Reason.OVERLAP))
    assert found == Plan(
        writes=(
            active.run._replace(ending=Reason.OVERLAP),
            run,
            ordered,
            slots_row(NOW, "ran", run=run),
            follows(job, NOW),
        ),
        effects=(Signal(ordered, None, TERM, is_kill=False, reason=Reason.OVERLAP),),
        waits=(
            a_wait(Reason.MAX_INSTANCES, run, "1 of at most 1 running", NOW),
            a_wait(Reason.STOPPING, active.run, "overlap", NOW, later(60)),
        ),
        wake_at=later(60),
    )
    gone = ActiveRun(active.run._replace(ending=Reason.OVERLAP), exited(ordered, 143, at=later(5)))
    after = planned(job, a_job_state(gone, waiting(run), cursor=follows(job, NOW)), later(5))
    assert after == Plan(
        writes=(
            over(gone.run, "stopped", Reason.OVERLAP, later(5), exit_code=143),
            started(run, job, later(5)),
            ended(ordered, Reason.OVERLAP, 143, later(5)),
        ),
        effects=(a_start(run, job, "due 2026-06-01 12:00:00Z"),),
        wake_at=NOW + HOUR,
    )


def test_kill_restart_ends_a_retry_at_once() -> None:
    job, (active,), found = overlapping("kill_restart", "retrying")
    start = runs_now(job, slot_run(NOW))
    gone = over(active.run, "stopped", Reason.OVERLAP)
    assert found == Plan(writes=(gone, *start.writes), effects=start.effects, wake_at=start.wake_at)


def test_a_waiting_slot_that_kill_restart_replaces_did_not_run() -> None:
    _, (active,), found = overlapping("kill_restart", "queued")
    due_at = active.run.scheduled_at
    assert due_at is not None
    assert slots_row(due_at, "skipped", Reason.OVERLAP, run=active.run) in found.writes
    assert over(active.run, "stopped", Reason.OVERLAP) in found.writes


def test_kill_restart_does_not_end_twice_what_is_ending() -> None:
    _, (active,), found = overlapping("kill_restart", "ending")
    assert [write for write in found.writes if getattr(write, "id", "") == active.run.id] == []


@pytest.mark.parametrize(
    ("policy", "states", "outcome", "ended_runs"),
    [
        ("skip", ("running",), "ran", 0),
        ("skip", ("running", "running"), "skipped overlap", 0),
        ("skip", ("running", "retrying"), "ran", 1),
        ("queue", ("running", "running"), "ran", 0),
        ("kill_restart", ("running",), "ran", 0),
        ("kill_restart", ("running", "running"), "ran", 1),
        ("kill_restart", ("running", "running", "retrying"), "ran", 2),
        ("kill_restart", ("ending", "running"), "ran", 0),
    ],
)
def test_the_overlap_rule_counts_all_instances(
    policy: str, states: tuple[str, ...], outcome: str, ended_runs: int
) -> None:
    _, active, found = overlapping(policy, *states, max_instances=2)
    assert row_of_now(found) == outcome
    before = {each.run.id: each.run for each in active}
    changed_runs = [
        write
        for write in found.writes
        if isinstance(write, Run) and write.id in before and (write.ending or not write.is_active)
    ]
    assert len(changed_runs) == ended_runs


def test_kill_restart_ends_the_oldest() -> None:
    _, active, found = overlapping("kill_restart", "running", "running", max_instances=2)
    [oldest] = [write for write in found.writes if isinstance(write, Run) and write.ending]
    assert oldest.id == active[0].run.id


def test_kill_restart_makes_no_more_room_than_it_needs() -> None:
    """What is being stopped makes room already, and what is planned for later takes none up."""
    _, active, found = overlapping("kill_restart", "running", "ending", max_instances=2)
    assert active[0].run.id not in {write.id for write in found.writes if isinstance(write, Run)}
    job = changed(HOURLY, on_overlap="kill_restart")
    planned_run = a_run("queued", trigger="eta", not_before_at=later(7200))
    running = with_process(a_run("running", occasion="intent:2"), job)
    found = planned(job, since(job, ago(60), waiting(planned_run), running))
    assert [write.job_id for write in found.writes if isinstance(write, Run) and write.ending] == ["job"]
    assert running.run._replace(ending=Reason.OVERLAP) in found.writes


def test_runs_that_a_person_started_count_as_well() -> None:
    job = changed(HOURLY, on_overlap="skip")
    found = planned(job, since(job, ago(60), with_process(a_run("running"), job)))
    assert found == notes(job, slots_row(NOW, "skipped", Reason.OVERLAP))


# --- each slot once ---


def test_a_slots_run_has_the_same_name_whoever_notices_it() -> None:
    assert slot_run(NOW).id == run_id("job", "slot:1780315200000000")
    assert slot_run(NOW).id == slot_run(NOW, "catch_up", later(3600)).id
    assert slot_run(NOW).id != slot_run(NOW + HOUR).id


def test_a_slots_run_has_the_priority_and_the_params_of_its_job() -> None:
    params = (Param("b", "2", "", False, None), Param("a", "1", "", False, None), Param("c", None, "", False, None))
    job = changed(HOURLY, priority=Priority.HIGH, params=params)
    [run] = [write for write in planned(job, since(job, ago(60))).writes if isinstance(write, Run)]
    assert (run.priority, run.params) == (Priority.HIGH, (("a", "1"), ("b", "2")))


def test_slots_are_instants_whatever_the_zone_calls_them() -> None:
    berlin = a_job("scheduled", schedule="0 14 * * *", timezone="Europe/Berlin")
    assert planned(berlin, since(berlin, ago(60))) == runs_now(berlin, slot_run(NOW))
