"""The dead-man check: when a job is late, who is told, and when that is over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind, AlertState, Trouble, TroubleOver, Watch
from procclaw.model.clock import to_microseconds
from procclaw.model.spec import AlertPolicy, Expect, JobSpec
from procclaw.model.state import ActiveRun, JobState, State
from procclaw.planning.actions import Plan
from procclaw.planning.plan import plan, plans
from tests.builders import (
    HOME_HELD,
    JOB,
    NOW,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_state,
    ago,
    an_attempt,
    an_intent,
    changed,
    exited,
    later,
    planned,
    recorded,
)

TOLD = AlertPolicy(False, False, False, True, False, "http://127.0.0.1/x", None, 300)
EVERY_HOUR = a_job(expect=Expect(3600, None), alerts=TOLD)
KEY = "every 3600 s"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def watched_since(moment: datetime, key: str = KEY, **fields: Any) -> JobState:
    return a_job_state(watch=Watch(JOB, key, moment), **fields)


def alerts_in(decided: Plan) -> list[Alert]:
    return [write for write in decided.writes if isinstance(write, Alert)]


def kinds(decided: Plan) -> list[AlertKind]:
    return [alert.kind for alert in alerts_in(decided)]


# --- every so often ---


def test_an_expectation_counts_from_its_first_sight() -> None:
    decided = planned(EVERY_HOUR, a_job_state())
    assert decided == Plan(writes=(Watch(JOB, KEY, NOW),), wake_at=later(3600))
    state = recorded(a_state(a_job_state()), decided.writes)
    assert plan(a_spec(EVERY_HOUR), state, later(3599)) == Plan(wake_at=later(3600))
    assert kinds(plan(a_spec(EVERY_HOUR), state, later(3600))) == [AlertKind.OVERDUE]


EVERY: list[tuple[str, JobState, str | None]] = [
    ("just in time", watched_since(ago(9000), last_success_at=ago(3599)), None),
    (
        "at the deadline",
        watched_since(ago(9000), last_success_at=ago(3600)),
        "job is overdue: no success since 2026-06-01 11:00Z, expected every 1 h; procclaw why job",
    ),
    (
        "long after it",
        watched_since(ago(9000), last_success_at=ago(7200)),
        "job is overdue: no success since 2026-06-01 10:00Z, expected every 1 h; procclaw why job",
    ),
    (
        "it never succeeded",
        watched_since(ago(7200)),
        "job is overdue: no success since 2026-06-01 10:00Z, expected every 1 h; procclaw why job",
    ),
    ("it was let go a moment ago", watched_since(ago(60), last_success_at=ago(9000)), None),
]


@pytest.mark.parametrize(("state", "message"), [row[1:] for row in EVERY], ids=[row[0] for row in EVERY])
def test_a_job_is_late_when_it_has_not_succeeded_for_so_long(state: JobState, message: str | None) -> None:
    decided = planned(EVERY_HOUR, state)
    assert [alert.message for alert in alerts_in(decided)] == ([] if message is None else [message])
    if message is not None:
        assert [write for write in decided.writes if isinstance(write, Trouble)] == [
            Trouble(JOB, AlertKind.OVERDUE, NOW)
        ]


def test_a_late_job_is_told_of_once_until_it_succeeds_and_then_again() -> None:
    spec, state = a_spec(EVERY_HOUR), a_state(watched_since(ago(7200)))
    late = plan(spec, state, NOW)
    assert kinds(late) == [AlertKind.OVERDUE]
    state = recorded(state, late.writes)
    for seconds in (1, 600, 86_400):
        assert plan(spec, state, later(seconds)) == Plan()
    run = a_run("running")
    done = _with_end_of(run, state, 0)
    well = plan(spec, done, later(86_400))
    assert TroubleOver(JOB, AlertKind.OVERDUE) in well.writes
    [alert] = alerts_in(well)
    assert alert.message == "job is well again: it succeeded; it had been overdue since 2026-06-01 12:00Z"
    assert well.wake_at == later(86_400 + 3600)
    again = plan(spec, recorded(done, well.writes), later(86_400 + 3600))
    assert kinds(again) == [AlertKind.OVERDUE]


def _with_end_of(run: Any, state: State, code: int) -> State:
    job = state.jobs[JOB]._replace(active=(ActiveRun(run, exited(an_attempt(run), code)),))
    return state._replace(jobs={JOB: job})


def test_the_key_of_a_late_job_names_its_deadline() -> None:
    [alert] = alerts_in(planned(EVERY_HOUR, watched_since(ago(7200))))
    assert alert.key == f"job:overdue:{to_microseconds(ago(3600))}"


def test_what_was_told_at_the_moment_since_which_it_counts_is_told_already() -> None:
    trouble = Trouble(JOB, AlertKind.OVERDUE, ago(7200))
    assert planned(EVERY_HOUR, watched_since(ago(7200), troubles=(trouble,))) == Plan()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.5, "1.5 s"), (59, "59 s"), (60, "1 min"), (90, "90 s"), (5400, "90 min"), (7200, "2 h"), (86_400, "1 d")],
)
def test_how_often_a_success_is_expected_is_told_in_the_largest_whole_unit(seconds: float, words: str) -> None:
    job = changed(EVERY_HOUR, expect=Expect(seconds, None))
    [alert] = alerts_in(planned(job, watched_since(ago(99 * 86_400), f"every {seconds:g} s")))
    assert f"expected every {words}; " in alert.message


def test_a_success_of_this_very_plan_counts() -> None:
    state = _with_end_of(a_run("running"), a_state(watched_since(ago(7200))), 0)
    decided = plan(a_spec(EVERY_HOUR), state, NOW)
    assert (alerts_in(decided), decided.wake_at) == ([], later(3600))


def test_a_failure_does_not_count() -> None:
    state = _with_end_of(a_run("running"), a_state(watched_since(ago(7200))), 1)
    assert kinds(plan(a_spec(changed(EVERY_HOUR, delays=(60,))), state, NOW)) == [AlertKind.OVERDUE]


def test_a_job_that_was_told_of_a_moment_ago_is_told_of_once_the_cooldown_is_over() -> None:
    told = {(JOB, AlertKind.OVERDUE): ago(100)}
    state = watched_since(ago(7200))
    assert planned(EVERY_HOUR, state, last_told=told) == Plan(wake_at=later(200))
    assert [alert.state for alert in alerts_in(planned(EVERY_HOUR, state, later(200), last_told=told))] == [
        AlertState.PENDING
    ]


def test_a_request_without_a_daemon_tells_of_nothing_late() -> None:
    state = a_state(watched_since(ago(7200)))
    [decided] = plans(a_spec(EVERY_HOUR), state, NOW, judges_slots=False).values()
    assert decided == Plan()


# --- when nothing is expected ---

HELD: list[tuple[str, JobSpec, JobState, dict[str, Any]]] = [
    ("paused", EVERY_HOUR, watched_since(ago(7200), holds=(a_hold("pause"),)), {}),
    ("revoked", EVERY_HOUR, watched_since(ago(7200), holds=(a_hold("revoke"),)), {}),
    ("everything is stopped", EVERY_HOUR, watched_since(ago(7200)), {"home_holds": HOME_HELD}),
    ("disabled", changed(EVERY_HOUR, enabled=False), watched_since(ago(7200)), {}),
    ("not expected any more", changed(EVERY_HOUR, expect=None), watched_since(ago(7200)), {}),
]


@pytest.mark.parametrize(("job", "state", "fields"), [row[1:] for row in HELD], ids=[row[0] for row in HELD])
def test_while_it_is_held_a_job_is_not_late_and_after_that_it_counts_afresh(
    job: JobSpec, state: JobState, fields: dict[str, Any]
) -> None:
    held = planned(job, state, **fields)
    assert held.writes == (Watch(JOB, "", NOW),)
    after_it = recorded(a_state(state, **fields), held.writes)
    assert plan(a_spec(job), after_it, later(86_400)).writes == ()
    let_go = after_it._replace(home_holds=(), jobs={JOB: after_it.jobs[JOB]._replace(holds=())})
    assert plan(a_spec(EVERY_HOUR), let_go, later(86_400)) == Plan(
        writes=(Watch(JOB, KEY, later(86_400)),), wake_at=later(86_400 + 3600)
    )


def test_a_hold_that_is_lifted_in_this_plan_holds_no_more() -> None:
    state = watched_since(ago(7200), "", holds=(a_hold("pause"),), intents=(an_intent("resume"),))
    decided = planned(EVERY_HOUR, state)
    assert Watch(JOB, KEY, NOW) in decided.writes
    assert decided.wake_at == later(3600)


def test_another_expectation_counts_afresh() -> None:
    decided = planned(changed(EVERY_HOUR, expect=Expect(1800, None)), watched_since(ago(7200)))
    assert decided == Plan(writes=(Watch(JOB, "every 1800 s", NOW),), wake_at=later(1800))


def test_a_job_let_go_that_is_late_again_is_told_of_again() -> None:
    told = Trouble(JOB, AlertKind.OVERDUE, ago(9000))
    decided = planned(EVERY_HOUR, watched_since(ago(3600), troubles=(told,)))
    assert kinds(decided) == [AlertKind.OVERDUE]
    state = recorded(a_state(watched_since(ago(3600), troubles=(told,))), decided.writes)
    assert state.jobs[JOB].troubles == (Trouble(JOB, AlertKind.OVERDUE, NOW),)
    assert plan(a_spec(EVERY_HOUR), state, later(900)) == Plan()


def test_a_trouble_of_what_is_expected_no_more_ends_in_silence() -> None:
    job, trouble = changed(EVERY_HOUR, expect=None), Trouble(JOB, AlertKind.OVERDUE, ago(60))
    decided = planned(job, watched_since(ago(7200), "", troubles=(trouble,)))
    assert decided.writes == (TroubleOver(JOB, AlertKind.OVERDUE),)


# --- by a time of day ---


def by(time: str, zone: str) -> JobSpec:
    return a_job(expect=Expect(None, time), timezone=zone, alerts=TOLD)


# zone, time, watched since, last success, when it is late
BY: list[tuple[str, str, str, str, str | None, str]] = [
    ("nothing yet", "UTC", "06:30", "2026-06-01T00:00", None, "2026-06-01T06:30"),
    ("declared just before", "UTC", "06:30", "2026-06-01T06:29:59.5", None, "2026-06-01T06:30"),
    ("declared at the moment", "UTC", "06:30", "2026-06-01T06:30", None, "2026-06-02T06:30"),
    ("declared just after", "UTC", "06:30", "2026-06-01T06:30:00.5", None, "2026-06-02T06:30"),
    ("today's is done", "UTC", "06:30", "2026-05-01T00:00", "2026-06-01T05:00", "2026-06-02T06:30"),
    ("at the last moment", "UTC", "06:30", "2026-05-01T00:00", "2026-06-01T06:30", "2026-06-02T06:30"),
    (
        "just too late is for the next day",
        "UTC",
        "06:30",
        "2026-05-01T00:00",
        "2026-06-01T06:30:00.5",
        "2026-06-03T06:30",
    ),
    ("late yesterday", "UTC", "06:30", "2026-05-01T00:00", "2026-05-31T08:00", "2026-06-02T06:30"),
    ("let go after a success", "UTC", "06:30", "2026-06-04T00:00", "2026-06-01T05:00", "2026-06-04T06:30"),
    ("in its own zone", "America/New_York", "06:30", "2026-06-01T00:00", None, "2026-06-01T10:30"),
    ("before midnight there", "Asia/Tokyo", "23:59", "2026-06-01T00:00", None, "2026-06-01T14:59"),
    # 2026-03-08: 02:00 becomes 03:00, which is 07:00Z; 2026-11-01: 01:30 is 05:30Z and 06:30Z.
    ("in a gap, at its end", "America/New_York", "02:30", "2026-03-08T00:00", None, "2026-03-08T07:00"),
    ("the day before a gap", "America/New_York", "02:30", "2026-03-07T00:00", None, "2026-03-07T07:30"),
    ("the day after a gap", "America/New_York", "02:30", "2026-03-08T07:00", None, "2026-03-09T06:30"),
    (
        "a success in the gap's first hour is for the day after",
        "America/New_York",
        "02:30",
        "2026-03-01T00:00",
        "2026-03-08T07:10",
        "2026-03-10T06:30",
    ),
    ("in a fold, at the first of two", "America/New_York", "01:30", "2026-11-01T00:00", None, "2026-11-01T05:30"),
    (
        "between the two of a fold it is for the day after",
        "America/New_York",
        "01:30",
        "2026-10-01T00:00",
        "2026-11-01T06:00",
        "2026-11-03T06:30",
    ),
    ("midnight in a gap", "America/Sao_Paulo", "00:00", "2018-11-03T12:00", None, "2018-11-04T03:00"),
]


@pytest.mark.parametrize(("zone", "time", "since", "last", "late_at"), [row[1:] for row in BY], ids=[r[0] for r in BY])
def test_a_job_is_late_at_the_moment_for_which_no_success_counts(
    zone: str, time: str, since: str, last: str | None, late_at: str
) -> None:
    job, late = by(time, zone), at(late_at)
    state = watched_since(at(since), f"by {time} {zone}", last_success_at=None if last is None else at(last))
    before = max(at(since), at(last or since), late - timedelta(seconds=1))
    assert planned(job, state, before) == Plan(wake_at=late)
    [alert] = alerts_in(planned(job, state, late))
    assert alert.kind is AlertKind.OVERDUE
    assert f"expected by {time} each day ({zone})" in alert.message
    assert kinds(planned(job, state, late + timedelta(days=3))) == [AlertKind.OVERDUE]


# --- the clock is set back ---


def test_an_edit_of_what_is_expected_counts_also_while_a_success_lies_ahead() -> None:
    ahead = ", clock set back from 2026-06-01T13:00:00Z"
    state = watched_since(ago(60), f"{KEY}{ahead}", last_success_at=later(3600))
    assert planned(EVERY_HOUR, state) == Plan(wake_at=later(3540))
    edited = changed(EVERY_HOUR, expect=Expect(1800, None))
    assert planned(edited, state) == Plan(writes=(Watch(JOB, f"every 1800 s{ahead}", NOW),), wake_at=later(1800))


def test_a_watch_that_lies_ahead_begins_anew() -> None:
    decided = planned(EVERY_HOUR, watched_since(later(86_400)))
    assert decided == Plan(writes=(Watch(JOB, KEY, NOW),), wake_at=later(3600))


def test_a_success_that_lies_ahead_neither_makes_a_job_late_nor_hides_that_it_is() -> None:
    spec = a_spec(EVERY_HOUR)
    state = a_state(watched_since(ago(90_000), last_success_at=later(86_400)))
    noticed = plan(spec, state, NOW)
    [watch] = noticed.writes
    assert isinstance(watch, Watch)
    assert (watch.since, noticed.wake_at) == (NOW, later(3600))
    state = recorded(state, noticed.writes)
    assert plan(spec, state, later(1800)) == Plan(wake_at=later(3600))
    assert kinds(plan(spec, state, later(3600))) == [AlertKind.OVERDUE]
    # A success since then counts, though the one that lies ahead is still the latest on record.
    done = plan(spec, _with_end_of(a_run("running"), state, 0), later(1800))
    assert done.wake_at == later(5400)
    state = recorded(_with_end_of(a_run("running"), state, 0), done.writes)
    state = state._replace(jobs={JOB: state.jobs[JOB]._replace(last_success_at=later(86_400))})
    assert plan(spec, state, later(3600)) == Plan(wake_at=later(5400))
    # Once the clock has caught up, everything is as it was.
    caught_up = plan(spec, state, later(86_400))
    assert caught_up == Plan(writes=(Watch(JOB, KEY, later(86_400)),), wake_at=later(90_000))


def test_by_a_time_of_day_too_a_success_that_lies_ahead_counts_for_now() -> None:
    job = by("06:30", "UTC")
    state = a_state(watched_since(ago(90_000), "by 06:30 UTC", last_success_at=later(86_400 * 9)))
    noticed = plan(a_spec(job), state, NOW)
    assert noticed.wake_at == at("2026-06-03T06:30")
    assert plan(a_spec(job), recorded(state, noticed.writes), later(1)) == Plan(wake_at=at("2026-06-03T06:30"))
