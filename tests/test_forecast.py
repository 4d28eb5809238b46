"""What will fire within a span: expressions and zones, the days on which clocks change, jitter, holds, planned runs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from procclaw.model.records import Hold, HoldKind, Trigger
from procclaw.model.spec import JobSpec
from procclaw.model.state import JobState
from procclaw.planning.forecast import Forecast, forecast, forecast_view
from procclaw.planning.schedule import jitter_offset
from tests.builders import HOME_HELD, JOB, NOW, a_hold, a_job, a_job_state, a_run, a_spec, later, waiting

DAY = 86_400
NEW_YORK = "America/New_York"
FORWARD = "clocks go forward 1 h on this day"
BACK = "clocks go back 1 h on this day"


def foretold(job: JobSpec, days: float, now: datetime = NOW, state: JobState | None = None, **more: Any) -> Forecast:
    states = {JOB: state or a_job_state()}
    return forecast(a_spec(job), states, more.pop("home_holds", ()), now, now + timedelta(days=days), **more)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(found: Forecast) -> list[tuple[str, str, str]]:
    return [(f"{fire.at:%m-%d %H:%M}", fire.local, fire.note) for fire in found.fires]


@pytest.mark.parametrize(
    ("expression", "now", "days", "wanted"),
    [
        pytest.param(
            "30 2 * * *",
            "2026-03-07T12:00",
            2,
            [
                ("03-08 07:00", "Sun 2026-03-08 03:00:00 EDT", FORWARD),
                ("03-09 06:30", "Mon 2026-03-09 02:30:00 EDT", ""),
            ],
            id="in the gap: at its end",
        ),
        pytest.param(
            "30 1 * * *",
            "2026-10-31T12:00",
            2,
            [
                ("11-01 05:30", "Sun 2026-11-01 01:30:00 EDT", BACK),
                ("11-02 06:30", "Mon 2026-11-02 01:30:00 EST", ""),
            ],
            id="in the fold: at the first of two",
        ),
        pytest.param(
            "0 * * * *",
            "2026-11-01T04:30",
            2.6 / 24,
            [
                ("11-01 05:00", "Sun 2026-11-01 01:00:00 EDT", BACK),
                ("11-01 06:00", "Sun 2026-11-01 01:00:00 EST", BACK),
                ("11-01 07:00", "Sun 2026-11-01 02:00:00 EST", BACK),
            ],
            id="hourly: both halves of the fold",
        ),
        pytest.param(
            "0 12 * * *",
            "2026-03-07T12:00",
            1.5,
            [
                ("03-07 17:00", "Sat 2026-03-07 12:00:00 EST", ""),
                ("03-08 16:00", "Sun 2026-03-08 12:00:00 EDT", FORWARD),
            ],
            id="later on the day of the change",
        ),
    ],
)
def test_the_days_on_which_clocks_change_are_marked(
    expression: str, now: str, days: float, wanted: list[tuple[str, str, str]]
) -> None:
    job = a_job("scheduled", schedule=expression, timezone=NEW_YORK)
    assert told(foretold(job, days, at(now))) == wanted


def test_half_an_hour_of_change_is_told_in_minutes() -> None:
    job = a_job("scheduled", schedule="0 12 * * *", timezone="Australia/Lord_Howe")
    [fire] = foretold(job, 1, at("2026-10-03T02:00")).fires
    assert fire.note == "clocks go forward 30 min on this day"


def test_now_is_left_out_and_the_end_of_the_span_is_not() -> None:
    job = a_job("scheduled", schedule="0 12 * * *")
    assert [fire.at for fire in foretold(job, 1).fires] == [NOW + timedelta(days=1)]
    assert foretold(job, 0.999).fires == ()


@pytest.mark.parametrize(
    "job",
    [
        a_job(),
        a_job("continuous"),
        a_job("scheduled", enabled=False),
        a_job("oneshot", run_at=NOW),
        a_job("oneshot", run_at=NOW + timedelta(days=8)),
    ],
    ids=["manual", "continuous", "disabled", "oneshot that is over", "oneshot beyond the span"],
)
def test_what_has_no_time_within_the_span_does_not_fire(job: JobSpec) -> None:
    assert foretold(job, 7) == Forecast((), ())


def test_a_oneshot_fires_once() -> None:
    job = a_job("oneshot", run_at=later(60), timezone="Asia/Tokyo")
    assert told(foretold(job, 7)) == [("06-01 12:01", "Mon 2026-06-01 21:01:00 JST", "")]


def test_jitter_is_added_to_the_due_time_and_told() -> None:
    job = a_job("scheduled", schedule="0 0 * * *", jitter=600)
    offset = jitter_offset(JOB, 600)
    [fire] = foretold(job, 1).fires
    assert fire.at == at("2026-06-02T00:00") + timedelta(seconds=offset)
    assert fire.note == f"due 00:00:00, jitter {offset:.0f} s"


# --- holds ---


@pytest.mark.parametrize(
    ("hold", "note"),
    [("pause", "skipped: paused"), ("revoke", "skipped: revoked"), ("stop", "")],
    ids=["paused", "revoked", "a stop holds no scheduled job"],
)
def test_what_a_hold_skips_is_marked(hold: str, note: str) -> None:
    found = foretold(a_job("scheduled", schedule="0 0 * * *"), 2, state=a_job_state(holds=(a_hold(hold),)))
    assert [fire.note for fire in found.fires] == [note, note]


def test_a_hold_skips_up_to_its_end_and_not_beyond() -> None:
    hold = Hold(JOB, HoldKind.REVOKE, NOW, "alice", until=at("2026-06-03T00:00"))
    found = foretold(a_job("scheduled", schedule="0 0 * * *"), 3, state=a_job_state(holds=(hold,)))
    assert [fire.note for fire in found.fires] == ["skipped: revoked", "", ""]


def test_a_stopped_home_skips_everything() -> None:
    job = a_job("scheduled", schedule="0 0 * * *")
    assert [fire.note for fire in foretold(job, 1, home_holds=HOME_HELD).fires] == ["skipped: home stopped"]


# --- what a person planned, and attempts to come ---


def test_runs_whose_time_is_known_fire_too() -> None:
    planned = a_run("queued", trigger="eta", occasion="intent:1", not_before_at=later(60))
    retrying = a_run("retrying", occasion="intent:2", not_before_at=later(30))
    beyond = a_run("queued", trigger="eta", occasion="intent:3", not_before_at=later(8 * DAY))
    late = a_run("queued", occasion="intent:4")
    found = foretold(a_job(), 7, state=a_job_state(*map(waiting, (planned, retrying, beyond, late))))
    assert [(fire.at, fire.note) for fire in found.fires] == [
        (later(30), f"attempt 2 of run {retrying.id}"),
        (later(60), f"planned for this time (run {planned.id})"),
    ]
    assert planned.trigger is Trigger.ETA


def test_a_planned_run_fires_later_than_now_and_not_later_than_the_end_of_the_span() -> None:
    runs = [
        a_run("queued", trigger="eta", occasion=f"intent:{seconds}", not_before_at=later(seconds))
        for seconds in (0, 1, DAY, DAY + 1)
    ]
    found = foretold(a_job(), 1, state=a_job_state(*map(waiting, runs)))
    assert [fire.at for fire in found.fires] == [later(1), later(DAY)]


def test_a_planned_run_is_marked_on_the_day_on_which_clocks_change() -> None:
    run = a_run("queued", trigger="eta", queued_at=at("2026-03-07T12:00"), not_before_at=at("2026-03-08T16:00"))
    found = foretold(a_job(timezone=NEW_YORK), 2, at("2026-03-07T12:00"), a_job_state(waiting(run)))
    assert [fire.note for fire in found.fires] == [f"planned for this time (run {run.id}); {FORWARD}"]


def test_a_run_that_waits_for_its_jitter_fires_when_that_is_over() -> None:
    run = a_run("queued", slot=NOW, not_before_at=later(90))
    found = foretold(a_job("scheduled", schedule="0 12 1 6 *"), 1, state=a_job_state(waiting(run)))
    assert [(fire.at, fire.note) for fire in found.fires] == [(later(90), f"run {run.id}, after its jitter")]


# --- too many to list ---


def test_what_is_too_much_to_list_is_counted() -> None:
    found = foretold(a_job("scheduled", schedule="@every 10s"), 7, listed=3)
    assert [fire.at for fire in found.fires] == [later(10), later(20), later(30)]
    [rest] = found.more
    assert rest == (JOB, 7 * DAY // 10 - 3, later(40), later(7 * DAY), "")


def test_as_many_as_are_listed_leave_no_rest() -> None:
    found = foretold(a_job("scheduled", schedule="0 0 * * *"), 3, listed=3)
    assert (len(found.fires), found.more) == (3, ())


def test_the_rest_names_the_days_on_which_clocks_change() -> None:
    job = a_job("scheduled", schedule="0 * * * *", timezone=NEW_YORK)
    [rest] = foretold(job, 300, at("2026-02-01T00:00"), listed=1).more
    assert rest.note == "clocks go forward 1 h on 2026-03-08; clocks go back 1 h on 2026-11-01"
    assert rest.count == 300 * 24 - 1


def test_the_last_day_of_the_rest_counts() -> None:
    job = a_job("scheduled", schedule="0 * * * *", timezone=NEW_YORK)
    [rest] = foretold(job, 1.5, at("2026-03-07T12:00"), listed=1).more
    assert rest.note == "clocks go forward 1 h on 2026-03-08"


def test_what_is_counted_is_told_in_the_order_of_the_jobs_names() -> None:
    jobs = [a_job("scheduled", schedule="@every 10s")._replace(id=name) for name in ("b", "a")]
    found = forecast(a_spec(*jobs), {}, (), NOW, later(3600), listed=1)
    assert [rest.job_id for rest in found.more] == ["a", "b"]


def test_the_rest_tells_until_when_it_is_skipped() -> None:
    job = a_job("scheduled", schedule="0 * * * *")
    always = foretold(job, 7, state=a_job_state(holds=(a_hold("pause"),)), listed=1)
    assert [rest.note for rest in always.more] == ["skipped: paused"]
    hold = Hold(JOB, HoldKind.REVOKE, NOW, "alice", until=later(2 * DAY))
    for_a_while = foretold(job, 7, state=a_job_state(holds=(hold,)), listed=1)
    assert [rest.note for rest in for_a_while.more] == ["skipped until 2026-06-03T12:00:00Z: revoked"]


def test_the_fires_of_all_jobs_are_told_in_the_order_of_time() -> None:
    jobs = [
        a_job("scheduled", schedule=f"{minute} * * * *")._replace(id=name)
        for name, minute in (("b", 5), ("a", 5), ("c", 1))
    ]
    found = forecast(a_spec(*jobs), {}, (), NOW, later(3600))
    assert [fire.job_id for fire in found.fires] == ["c", "a", "b"]


def test_the_view_has_a_shape_of_its_own() -> None:
    view = forecast_view(foretold(a_job("scheduled", schedule="0 * * * *"), 1, listed=1))
    assert view == {
        "fires": [{"job_id": JOB, "at": "2026-06-01T13:00:00Z", "local": "Mon 2026-06-01 13:00:00 UTC", "note": ""}],
        "more": [
            {
                "job_id": JOB,
                "count": 23,
                "first_at": "2026-06-01T14:00:00Z",
                "last_at": "2026-06-02T12:00:00Z",
                "note": "",
            }
        ],
    }
