"""What people are told of a job: the alerts and troubles that a plan adds to what it decides.

What the plan decides beside them is compared in test_plan; here, all rows about telling are.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procclaw.model.alerts import Alert, AlertKind, AlertState, Trouble, TroubleOver
from procclaw.model.clock import to_microseconds
from procclaw.model.outside import Delivery, Measure, ProbeResult
from procclaw.model.reasons import Reason
from procclaw.model.records import Health, JobForgotten, Run, Slots, StopOrder, Usage
from procclaw.model.rows import Write
from procclaw.model.spec import (
    AlertPolicy,
    CheckType,
    Condition,
    Dependency,
    Expect,
    JobSpec,
    JobType,
    LimitAction,
    OnUnhealthy,
    Resources,
)
from procclaw.model.state import ActiveRun, JobState, Observed, State
from procclaw.planning import outbox
from procclaw.planning.actions import Plan
from procclaw.planning.journal import events
from procclaw.planning.plan import plan
from tests import test_rules as rules
from tests.builders import (
    JOB,
    NOW,
    a_cursor,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_state,
    ago,
    alive,
    an_attempt,
    carried_out,
    changed,
    continuous_run,
    exited,
    later,
    planned,
    recorded,
    seen_as,
    slots_row,
    waiting,
    with_process,
)

EVERYTHING = AlertPolicy(True, True, True, True, True, "http://127.0.0.1/x", None, 300)
MANUAL = a_job(alerts=EVERYTHING)
SERVICE = a_job("continuous", alerts=EVERYTHING)
HOURLY = a_job("scheduled", alerts=EVERYTHING)
RUN = a_run("running")
UP = continuous_run("running")


def told_in(decided: Plan) -> list[Write]:
    return [write for write in decided.writes if isinstance(write, Alert | Trouble | TroubleOver)]


def alerts_in(decided: Plan) -> list[Alert]:
    return [write for write in decided.writes if isinstance(write, Alert)]


def messages(decided: Plan) -> list[str]:
    return [alert.message for alert in alerts_in(decided)]


def ended_with(code: int, job: JobSpec = MANUAL, run: Run = RUN, **fields: Any) -> JobState:
    """The job as it looks when its attempt has just ended."""
    return a_job_state(ActiveRun(run, exited(an_attempt(run, job), code)), **fields)


def a_trouble(kind: AlertKind, since_ago: float = 3600) -> Trouble:
    return Trouble(JOB, kind, ago(since_ago))


# --- failed runs ---


def test_the_first_failed_attempt_of_a_run_is_told_with_what_follows() -> None:
    run = a_run("running", failures=0)
    decided = planned(MANUAL, ended_with(3, run=run))
    [alert, trouble] = told_in(decided)
    assert isinstance(alert, Alert)
    assert alert.key.startswith(f"job:failure:{run.id}@")
    assert alert == Alert(
        alert.key,
        JOB,
        AlertKind.FAILURE,
        NOW,
        "job failed: exit code 3; attempt 2 follows at once",
        run.id,
        next_try_at=NOW,
    )
    assert trouble == Trouble(JOB, AlertKind.FAILURE, NOW)


FIRST_ONLY = EVERYTHING._replace(on_max_retries=False)

RUNS: list[tuple[str, JobSpec, JobState, list[str]]] = [
    (
        "another attempt later",
        changed(MANUAL, delays=(30,)),
        ended_with(3),
        ["job failed: exit code 3; attempt 2 follows at 12:00:30Z"],
    ),
    (
        "nothing, and that is told of the run as a whole",
        changed(MANUAL, retries=False),
        ended_with(3),
        ["job failed for good: exit code 3 after 1 attempt; procclaw dlq"],
    ),
    (
        "nothing, and nobody wants to hear of runs",
        changed(MANUAL, retries=False, alerts=FIRST_ONLY),
        ended_with(3),
        ["job failed: exit code 3; no further attempt follows"],
    ),
    (
        "the second failed attempt is no news",
        MANUAL,
        ended_with(3, run=a_run("running", failures=1, attempts=2)),
        [],
    ),
    (
        "the last attempt",
        MANUAL,
        ended_with(3, run=a_run("running", failures=5, attempts=6)),
        ["job failed for good: exit code 3 after 6 attempts; procclaw dlq"],
    ),
    ("a success", MANUAL, ended_with(0), []),
    ("a success after a failure", MANUAL, ended_with(0, run=a_run("running", failures=1, attempts=2)), []),
    (
        "stopped by a person",
        MANUAL,
        ended_with(143, run=a_run("running", ending=Reason.STOP_REQUESTED)),
        [],
    ),
    (
        "nobody wants to hear of it",
        changed(MANUAL, retries=False, alerts=EVERYTHING._replace(on_max_retries=False, on_failure=False)),
        ended_with(3),
        [],
    ),
    (
        "its name, where it has one, and nothing that would move a cursor",
        changed(MANUAL, name="Nightly\n\x1b[2Jreport", delays=(30,)),
        ended_with(3),
        ["Nightly [2Jreport (job) failed: exit code 3; attempt 2 follows at 12:00:30Z"],
    ),
    (
        "a service that fails",
        changed(SERVICE, delays=(30,)),
        ended_with(3, SERVICE, UP),
        ["job failed: exit code 3; attempt 2 follows at 12:00:30Z"],
    ),
    (
        "a service that ends well, and too soon",
        changed(SERVICE, delays=(30,), reset_after=3600),
        ended_with(0, SERVICE, UP),
        ["job failed: exit code 0; attempt 2 follows at 12:00:30Z"],
    ),
    (
        "a service that ends well, and too soon once more than it may",
        changed(SERVICE, max_attempts=0, reset_after=3600),
        ended_with(0, SERVICE, UP),
        ["job failed for good: exit code 0 after 1 attempt; it stays down until procclaw start job"],
    ),
    (
        "a run that came to no attempt",
        changed(MANUAL, depends_on=(Dependency("db", Condition.AFTER_START, 30),)),
        a_job_state(waiting(a_run("queued", closed=(("dependency db after_start", ago(30)),)))),
        ["job failed for good: waited 30 s for db (after_start): there is no such job; procclaw dlq"],
    ),
    (
        "a service that is not to be restarted, and nobody wants to hear of runs",
        changed(SERVICE, restart="never", alerts=FIRST_ONLY),
        ended_with(3, SERVICE, UP),
        ["job failed: exit code 3; no further attempt follows"],
    ),
    (
        "the last attempt, and nobody wants to hear of runs",
        changed(MANUAL, alerts=FIRST_ONLY),
        ended_with(3, run=a_run("running", failures=5, attempts=6)),
        [],
    ),
    (
        "the second and last attempt, and nobody wants to hear of runs",
        changed(MANUAL, max_attempts=1, alerts=FIRST_ONLY),
        ended_with(3, run=a_run("running", failures=1, attempts=2)),
        [],
    ),
    (
        "a service that was up and may not fail again, and nobody wants to hear of runs",
        changed(SERVICE, max_attempts=0, reset_after=1, alerts=FIRST_ONLY),
        ended_with(3, SERVICE, UP._replace(failures=3)),
        ["job failed: exit code 3; no further attempt follows"],
    ),
    ("a service that ends well after it was up", changed(SERVICE, delays=(30,)), ended_with(0, SERVICE, UP), []),
    (
        "a service that fails again before it was well",
        changed(SERVICE, reset_after=3600),
        ended_with(3, SERVICE, continuous_run("running", failures=1, attempts=2)),
        [],
    ),
    (
        "a service that fails again after it was well",
        changed(SERVICE, delays=(30,)),
        ended_with(3, SERVICE, continuous_run("running", failures=1, attempts=2)),
        ["job failed: exit code 3; attempt 3 follows at 12:00:30Z"],
    ),
    (
        "a service that is stopped after it failed and was well",
        SERVICE,
        ended_with(143, SERVICE, continuous_run("running", failures=1, attempts=2, ending=Reason.STOP_REQUESTED)),
        [],
    ),
    (
        "a service that a reboot ended",
        SERVICE,
        a_job_state(
            ActiveRun(
                continuous_run("running", failures=1, attempts=2),
                seen_as("lost", an_attempt(UP, SERVICE, boot_id="another", number=2)),
            )
        ),
        [],
    ),
    (
        "a service that is not to come back",
        changed(SERVICE, restart="never"),
        ended_with(3, SERVICE, UP),
        ["job failed for good: exit code 3 after 1 attempt; it stays down until procclaw start job"],
    ),
]


@pytest.mark.parametrize(("job", "state", "wanted"), [row[1:] for row in RUNS], ids=[row[0] for row in RUNS])
def test_a_failure_is_told_once_with_its_cause(job: JobSpec, state: JobState, wanted: list[str]) -> None:
    assert messages(planned(job, state)) == wanted


def test_a_run_that_waited_too_long_for_a_dependency_has_failed() -> None:
    job = changed(MANUAL, depends_on=(Dependency("db", Condition.AFTER_START, 60),))
    run = a_run("queued", closed=(("dependency db after_start", ago(60)),))
    db = a_job("continuous", id="db")
    states = a_state(a_job_state(waiting(run)), a_job_state(id="db", holds=()))
    decided = plan(a_spec(job, db._replace(enabled=False)), states, NOW)
    [message] = messages(decided)
    assert message.startswith("job failed for good: waited 60 s for ")
    assert message.endswith("; procclaw dlq")


def test_two_runs_that_fail_together_are_told_once() -> None:
    job = changed(MANUAL, retries=False, max_instances=2)
    runs = [a_run("running", occasion=name) for name in ("a", "b")]
    state = a_job_state(*(ActiveRun(run, exited(an_attempt(run, job), 1)) for run in runs))
    first, second = alerts_in(planned(job, state))
    assert (first.state, second.state) == (AlertState.PENDING, AlertState.SUPPRESSED)
    assert first.key != second.key


def test_an_alert_leaves_an_event() -> None:
    decided = planned(changed(MANUAL, retries=False), ended_with(3))
    [event] = [event for event in events(decided.writes, NOW) if event.kind == "alert raised"]
    assert dict(event.fields) == {
        "alert": "failed",
        "run": RUN.id,
        "delivery": "pending",
        "message": "job failed for good: exit code 3 after 1 attempt; procclaw dlq",
    }


# --- who is told ---


def test_a_job_nobody_can_be_told_about_has_its_alerts_all_the_same() -> None:
    mute = changed(MANUAL, retries=False, alerts=EVERYTHING._replace(webhook=None))
    [alert, trouble] = told_in(planned(mute, ended_with(3)))
    assert isinstance(alert, Alert)
    assert (alert.state, alert.detail) == (AlertState.UNDELIVERED, "no webhook, no command and no channel is set")
    assert (alert.next_try_at, alert.done_at) == (None, NOW)
    assert trouble == Trouble(JOB, AlertKind.FAILED, NOW)


COOLDOWN: list[tuple[str, datetime | None, AlertState]] = [
    ("never told", None, AlertState.PENDING),
    ("told this moment", NOW, AlertState.SUPPRESSED),
    ("told just within the cooldown", ago(299), AlertState.SUPPRESSED),
    ("told exactly the cooldown ago", ago(300), AlertState.PENDING),
    ("told later than now, before the clock was set back", later(5), AlertState.PENDING),
]


@pytest.mark.parametrize(("told_at", "wanted"), [row[1:] for row in COOLDOWN], ids=[row[0] for row in COOLDOWN])
def test_the_same_thing_is_told_once_within_the_cooldown(told_at: datetime | None, wanted: AlertState) -> None:
    told = {} if told_at is None else {(JOB, AlertKind.FAILED): told_at}
    decided = planned(changed(MANUAL, retries=False), ended_with(3), last_told=told)
    [alert] = alerts_in(decided)
    assert alert.state is wanted
    # Nobody hears of the end of something they did not hear of.
    assert len(told_in(decided)) == (1 if wanted is AlertState.SUPPRESSED else 2)
    if wanted is AlertState.SUPPRESSED:
        assert told_at is not None
        assert (alert.detail, alert.done_at, alert.next_try_at) == (f"told {told_at:%H:%MZ} already", NOW, None)


@pytest.mark.parametrize("told", [(JOB, AlertKind.OVERDUE), ("other", AlertKind.FAILED)])
def test_another_thing_or_another_job_is_told_within_the_cooldown(told: tuple[str, AlertKind]) -> None:
    decided = planned(changed(MANUAL, retries=False), ended_with(3), last_told={told: ago(1)})
    assert [alert.state for alert in alerts_in(decided)] == [AlertState.PENDING]


def test_what_is_planned_twice_is_told_once() -> None:
    state = a_state(ended_with(3, changed(MANUAL, delays=(30,))))
    spec = a_spec(changed(MANUAL, delays=(30,)))
    once, twice = plan(spec, state, NOW), plan(spec, state, NOW)
    assert alerts_in(once) == alerts_in(twice)
    assert told_in(plan(spec, carried_out(state, once, NOW), later(1))) == []


# --- missed slots ---


def judged_at(now: datetime, job: JobSpec, **fields: Any) -> Plan:
    """The plan of somebody who has not looked since noon."""
    cursor = a_cursor(job, NOW, later(3600))
    return planned(job, a_job_state(cursor=cursor), now, **fields)


def test_missed_slots_are_told_together() -> None:
    decided = judged_at(later(4.5 * 3600), changed(HOURLY, catch_up="none"))
    assert messages(decided) == [
        "job missed 4 due times since 2026-06-01 13:00Z: ProcClaw was not running; they are not made up for"
    ]
    [alert] = told_in(decided)
    assert isinstance(alert, Alert)
    assert alert.run_id is None


def test_all_reasons_for_which_slots_were_missed_are_told() -> None:
    decided = judged_at(later(4.5 * 3600), changed(HOURLY, catch_up="none"), restored_until=later(1.5 * 3600))
    why = "the database was restored from a backup, ProcClaw was not running"
    assert messages(decided) == [f"job missed 4 due times since 2026-06-01 13:00Z: {why}; they are not made up for"]


def test_one_missed_slot_is_told_by_its_time() -> None:
    [message] = messages(judged_at(later(1.5 * 3600), changed(HOURLY, catch_up="none")))
    assert message == "job missed its due time 2026-06-01 13:00Z: ProcClaw was not running; it is not made up for"


def test_each_reason_for_missing_is_named() -> None:
    job = changed(HOURLY, catch_up="all", limit=1, within=2 * 3600)
    [message] = messages(judged_at(later(4.5 * 3600), job, restored_until=later(3600)))
    assert "4 due times" not in message
    assert "3 due times" in message
    for why in ("restored from a backup", "ProcClaw was not running", "catch_up.limit"):
        assert why in message, message


def test_slots_among_which_the_clock_is_set_back_are_not_missed_once_more() -> None:
    job = changed(HOURLY, catch_up="none")
    cursor = a_cursor(job, later(5 * 3600), later(6 * 3600))
    row = slots_row(NOW, "missed", Reason.DOWN, last=later(4 * 3600), total=5)._replace(noticed_at=later(5 * 3600))
    decided = planned(job, a_job_state(cursor=cursor, straddling=row), later(7300))
    assert [write.total for write in decided.writes if isinstance(write, Slots)] == [3]
    assert told_in(decided) == []


def test_slots_that_ran_or_were_skipped_are_no_news() -> None:
    assert told_in(judged_at(later(3600), HOURLY)) == []


def test_missed_slots_are_told_only_if_wanted() -> None:
    quiet = changed(HOURLY, catch_up="none", alerts=EVERYTHING._replace(on_missed=False))
    assert told_in(judged_at(later(4.5 * 3600), quiet)) == []


# --- recovery ---


@pytest.mark.parametrize("kind", [AlertKind.FAILURE, AlertKind.FAILED])
def test_the_next_success_ends_the_trouble_of_a_failed_run(kind: AlertKind) -> None:
    decided = planned(MANUAL, ended_with(0, troubles=(a_trouble(kind),)))
    had = {AlertKind.FAILURE: "failed", AlertKind.FAILED: "failed for good"}[kind]
    over, alert = told_in(decided)
    assert over == TroubleOver(JOB, kind)
    assert isinstance(alert, Alert)
    assert (alert.kind, alert.state) == (AlertKind.RECOVERED, AlertState.PENDING)
    assert alert.message == f"job is well again: it succeeded; it had {had} since 2026-06-01 11:00Z"


def test_all_that_is_over_at_one_time_is_told_at_once() -> None:
    troubles = (a_trouble(AlertKind.FAILED, 60), a_trouble(AlertKind.FAILURE, 7200))
    decided = planned(MANUAL, ended_with(0, troubles=troubles))
    assert messages(decided) == [
        "job is well again: it succeeded; it had failed and failed for good since 2026-06-01 10:00Z"
    ]
    assert [write.kind for write in told_in(decided) if isinstance(write, TroubleOver)] == [
        AlertKind.FAILURE,
        AlertKind.FAILED,
    ]


def test_a_success_without_trouble_is_no_news() -> None:
    assert told_in(planned(MANUAL, ended_with(0))) == []


def test_a_trouble_ends_in_silence_where_nobody_wants_to_hear_of_it() -> None:
    quiet = changed(MANUAL, alerts=EVERYTHING._replace(on_recovered=False))
    decided = planned(quiet, ended_with(0, troubles=(a_trouble(AlertKind.FAILED),)))
    assert told_in(decided) == [TroubleOver(JOB, AlertKind.FAILED)]


def test_recovery_is_told_however_soon_after_the_last() -> None:
    state = ended_with(0, troubles=(a_trouble(AlertKind.FAILED),))
    [alert] = alerts_in(planned(MANUAL, state, last_told={(JOB, AlertKind.RECOVERED): ago(1)}))
    assert alert.state is AlertState.PENDING


def test_a_run_that_fails_again_neither_ends_nor_renews_the_trouble() -> None:
    decided = planned(changed(MANUAL, retries=False), ended_with(3, troubles=(a_trouble(AlertKind.FAILED),)))
    [alert] = told_in(decided)
    assert isinstance(alert, Alert)
    assert alert.kind is AlertKind.FAILED


def test_a_failure_beside_a_success_is_not_over() -> None:
    job = changed(MANUAL, retries=False, max_instances=2)
    runs = [a_run("running", occasion=name) for name in ("a", "b")]
    attempts = [an_attempt(run, job) for run in runs]
    state = a_job_state(
        ActiveRun(runs[0], exited(attempts[0], 0)),
        ActiveRun(runs[1], exited(attempts[1], 1)),
        troubles=(a_trouble(AlertKind.FAILED),),
    )
    assert [alert.kind for alert in alerts_in(planned(job, state))] == [AlertKind.FAILED]


def service_up_for(seconds: float, **fields: Any) -> JobState:
    return a_job_state(with_process(UP, SERVICE, started_at=ago(seconds)), **fields)


def test_a_service_is_well_again_once_it_has_stayed_up() -> None:
    troubles = (a_trouble(AlertKind.FAILURE),)
    soon = planned(SERVICE, service_up_for(59, troubles=troubles))
    assert (told_in(soon), soon.wake_at) == ([], later(1))
    assert messages(planned(SERVICE, service_up_for(60, troubles=troubles))) == [
        "job is well again: it has stayed up for 1 min; it had failed since 2026-06-01 11:00Z"
    ]


def test_a_service_without_trouble_wakes_nobody() -> None:
    assert planned(SERVICE, service_up_for(5)) == Plan()


def test_a_service_that_is_being_stopped_is_not_well() -> None:
    attempt = an_attempt(UP, SERVICE, stop=StopOrder(Reason.TIMED_OUT, ago(1), signalled_at=ago(1)))
    state = a_job_state(ActiveRun(UP, alive(attempt)), troubles=(a_trouble(AlertKind.FAILURE),))
    assert told_in(planned(SERVICE, state)) == []


def test_a_job_that_was_removed_is_forgotten_with_its_troubles() -> None:
    state = a_state(a_job_state(troubles=(a_trouble(AlertKind.FAILED),)))
    decided = plan(a_spec(), state, NOW)
    assert decided.writes == (JobForgotten(JOB),)
    assert plan(a_spec(), recorded(state, decided.writes), NOW) == Plan()


# --- health and limits ---

CHECKED = changed(
    SERVICE,
    health_check=SERVICE.health_check._replace(type=CheckType.TCP, port=80, on_unhealthy=OnUnhealthy.ALERT),
)
LIMITED = changed(SERVICE, resources=Resources(100, None, LimitAction.WARN, 30))
ATTEMPT = an_attempt(UP, started_at=ago(600))


def told_of(job: JobSpec, live: Observed, *troubles: Trouble) -> list[Write]:
    return told_in(planned(job, a_job_state(ActiveRun(UP, live), troubles=troubles)))


def checked(was_healthy: bool | None, is_ok: bool, failures: int = 2) -> Observed:
    """A check has just ended, of an attempt whose health was known to be so before."""
    health = Health(JOB, ATTEMPT.id, was_healthy, ago(300), ago(60), failures=failures, counted_at=ago(60))
    result = ProbeResult(JOB, ATTEMPT.id, is_ok, "" if is_ok else "connection refused")
    return alive(ATTEMPT)._replace(health=health, probe=result)


def measured(memory_mb: float, before_mb: float | None = None, cpu_seconds: float = 0) -> Observed:
    """What is used has just been measured, as it was half a minute ago if `before_mb` is given."""
    live = alive(ATTEMPT)._replace(measured=Measure(cpu_seconds, memory_mb))
    if before_mb is None:
        return live
    over_since = ago(90) if before_mb > 100 else None
    return live._replace(usage=Usage(JOB, ATTEMPT.id, ago(30), 0, None, before_mb, over_since))


def the_message(told: list[Write]) -> str:
    [alert] = [write for write in told if isinstance(write, Alert)]
    return alert.message


def test_a_job_that_becomes_unhealthy_is_told_of() -> None:
    told = told_of(CHECKED, checked(True, False))
    assert the_message(told) == "job is unhealthy: connection refused (3 checks failed); it goes on running"
    assert told[1:] == [Trouble(JOB, AlertKind.UNHEALTHY, NOW)]


def test_a_check_that_fails_without_a_word_is_told_of_all_the_same() -> None:
    live = checked(True, False)
    assert live.probe is not None
    told = told_of(CHECKED, live._replace(probe=live.probe._replace(detail="")))
    assert the_message(told) == "job is unhealthy: its check fails (3 checks failed); it goes on running"


def the_alert(decided: Plan) -> tuple[str, str | None]:
    """The key under which it is told, and the run it is about."""
    [alert] = alerts_in(decided)
    return alert.key, alert.run_id


def test_each_alert_has_a_key_that_tells_its_occasion_from_all_others() -> None:
    now, noon = to_microseconds(NOW), to_microseconds(later(3600))
    missed = judged_at(later(4.5 * 3600), changed(HOURLY, catch_up="none"))
    assert the_alert(missed) == (f"job:missed:{noon}", None)
    failed = planned(changed(MANUAL, retries=False), ended_with(3))
    assert the_alert(failed) == (f"job:failed:{RUN.id}", RUN.id)
    first = planned(changed(MANUAL, delays=(30,)), ended_with(3))
    assert the_alert(first) == (f"job:failure:{RUN.id}@{now}", RUN.id)
    well = planned(MANUAL, ended_with(0, troubles=(a_trouble(AlertKind.FAILED),)))
    assert the_alert(well) == (f"job:recovered:{now}", None)
    sick = planned(CHECKED, a_job_state(ActiveRun(UP, checked(True, False))))
    assert the_alert(sick) == (f"job:unhealthy:{ATTEMPT.id}@{now}", UP.id)
    over = planned(LIMITED, a_job_state(ActiveRun(UP, measured(120))))
    assert the_alert(over) == (f"job:limit:{ATTEMPT.id}@{now}", UP.id)


def test_of_several_troubles_that_are_over_each_tells_how() -> None:
    told = told_of(CHECKED, checked(False, True), a_trouble(AlertKind.UNHEALTHY), a_trouble(AlertKind.FAILURE, 60))
    how = "it has stayed up for 1 min, its check passes"
    assert the_message(told) == f"job is well again: {how}; it had failed and been unhealthy since 2026-06-01 11:00Z"


def test_what_is_ended_for_its_health_is_told_so() -> None:
    check = CHECKED.health_check._replace(on_unhealthy=OnUnhealthy.RESTART)
    assert the_message(told_of(changed(CHECKED, health_check=check), checked(True, False))) == (
        "job is unhealthy: connection refused (3 checks failed); it is ended"
    )


def test_a_job_that_goes_on_being_unhealthy_is_no_news() -> None:
    assert told_of(CHECKED, checked(False, False, failures=5), a_trouble(AlertKind.UNHEALTHY)) == []


def test_a_check_that_fails_and_does_not_decide_yet_is_no_news() -> None:
    assert told_of(CHECKED, checked(True, False, failures=1)) == []


def test_health_is_told_only_if_wanted() -> None:
    quiet = changed(CHECKED, alerts=EVERYTHING._replace(on_health_fail=False))
    assert told_of(quiet, checked(True, False)) == []


def test_a_check_that_passes_ends_the_trouble() -> None:
    told = told_of(CHECKED, checked(False, True), a_trouble(AlertKind.UNHEALTHY))
    assert the_message(told) == ("job is well again: its check passes; it had been unhealthy since 2026-06-01 11:00Z")
    # Also that of another attempt, of which nothing is known at first.
    assert told_of(CHECKED, checked(None, False, failures=0), a_trouble(AlertKind.UNHEALTHY)) == []
    assert len(told_of(CHECKED, checked(None, True, failures=0), a_trouble(AlertKind.UNHEALTHY))) == 2


def test_a_trouble_that_nobody_looks_for_any_more_ends_in_silence() -> None:
    told = told_of(SERVICE, alive(ATTEMPT), a_trouble(AlertKind.UNHEALTHY), a_trouble(AlertKind.LIMIT))
    assert told == [TroubleOver(JOB, AlertKind.UNHEALTHY), TroubleOver(JOB, AlertKind.LIMIT)]


def test_a_limit_that_is_passed_is_told_once() -> None:
    told = told_of(LIMITED, measured(120))
    assert the_message(told) == "job passed its limit: memory: 120 MB of at most 100 MB; it goes on running"
    assert told[1:] == [Trouble(JOB, AlertKind.LIMIT, NOW)]
    trouble = a_trouble(AlertKind.LIMIT, 30)
    assert told_of(LIMITED, measured(120, 110), trouble) == []
    assert the_message(told_of(LIMITED, measured(99, 110), trouble)) == (
        "job is well again: it is within its limits; it had been over its limit since 2026-06-01 11:59Z"
    )


def test_limits_are_told_only_if_wanted() -> None:
    quiet = changed(LIMITED, alerts=EVERYTHING._replace(on_health_fail=False))
    assert told_of(quiet, measured(120)) == []


def test_what_is_ended_for_passing_its_limit_is_told_so() -> None:
    job = changed(LIMITED, resources=Resources(None, 50, LimitAction.RESTART, 30))
    told = told_of(job, measured(1, 1, cpu_seconds=22.5))
    assert the_message(told) == "job passed its limit: CPU: 75% of at most 50%; it is ended"


def test_a_service_that_was_ended_for_its_limit_is_well_once_it_stays_up() -> None:
    job = changed(LIMITED, resources=Resources(100, None, LimitAction.RESTART, 30))
    told = told_of(job, measured(1, 1), a_trouble(AlertKind.LIMIT))
    assert the_message(told).startswith("job is well again: it has stayed up for 1 min;")
    # While one that is only warned of may be up for long, and over its limit all the time.
    assert told_of(LIMITED, measured(120, 110), a_trouble(AlertKind.LIMIT)) == []


def test_a_run_that_is_killed_for_its_limit_has_failed_for_that() -> None:
    run = a_run("running", ending=Reason.MEMORY_LIMIT)
    attempt = an_attempt(run, stop=StopOrder(Reason.MEMORY_LIMIT, ago(1)), detail="memory: 120 MB of at most 100 MB")
    decided = planned(MANUAL, a_job_state(ActiveRun(run, exited(attempt, 137))))
    assert messages(decided) == ["job failed for good: memory: 120 MB of at most 100 MB after 1 attempt; procclaw dlq"]


# --- the outbox ---


def pending(**fields: Any) -> Alert:
    return Alert("job:failed:1", JOB, AlertKind.FAILED, NOW, "job failed", next_try_at=NOW)._replace(**fields)


def test_delays_grow_to_an_hour_and_end_after_a_day() -> None:
    alert, now, delays = pending(), NOW, list[float]()
    while alert.state is AlertState.PENDING:
        assert outbox.due_at(alert, now) == now
        alert = outbox.begun(alert, now)
        assert outbox.due_at(alert, now) == now + timedelta(seconds=outbox.UNANSWERED_SECONDS)
        alert = outbox.settled(alert, Delivery(alert.key, False, "status 500"), now)
        if alert.next_try_at is not None:
            delays.append((alert.next_try_at - now).total_seconds())
            now = alert.next_try_at
    assert delays[:6] == [10, 60, 300, 900, 3600, 3600]
    assert timedelta(hours=23) < now - NOW <= timedelta(hours=24)
    assert (alert.state, alert.detail, alert.done_at) == (AlertState.UNDELIVERED, "status 500", now)


def test_a_delivery_that_went_is_the_end_of_it() -> None:
    failed = outbox.settled(outbox.begun(pending(), NOW), Delivery("job:failed:1", False, "status 500"), NOW)
    sent = outbox.settled(outbox.begun(failed, later(10)), Delivery("job:failed:1", True, ""), later(11))
    assert sent == pending(state=AlertState.SENT, tries=2, next_try_at=None, done_at=later(11))


@pytest.mark.parametrize("asked_at", [None, later(3000)])
def test_an_alert_does_not_wait_longer_where_the_clock_was_set_back(asked_at: datetime | None) -> None:
    assert outbox.due_at(pending(tries=1, next_try_at=later(3010), asked_at=asked_at), NOW) == NOW


# --- on random walks ---

EXPECTED = st.sampled_from([None, Expect(60, None), Expect(3600, None), Expect(None, "12:30")])


def loud(job: JobSpec, expected: Expect | None) -> JobSpec:
    """The job, telling of everything there is to tell."""
    return job._replace(alerts=EVERYTHING, expect=None if job.type is JobType.CONTINUOUS else expected)


LOUD = st.builds(loud, rules.jobs, EXPECTED)
WALKS = st.tuples(
    st.dictionaries(rules.names, LOUD, min_size=1),
    st.lists(
        st.tuples(
            st.one_of(rules.steps, st.builds(lambda *found: rules.Step("declare", found), rules.names, LOUD)),
            rules.cycles,
        ),
        max_size=30,
    ),
)


def test_on_a_random_walk_nothing_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    check, told = rules.check, list[Alert]()

    def check_alerts(world: rules.World, state: State, decided: Plan) -> None:
        check(world, state, decided)
        told.extend(alerts_in(decided))

    monkeypatch.setattr(rules, "check", check_alerts)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(WALKS)
    def walk(path: Any) -> None:
        told.clear()
        rules.walk(*path).settle()
        keys = [alert.key for alert in told]
        # What came due again, because the clock was set back behind it, is the same slot by the same key.
        again = {key for key in keys if keys.count(key) > 1 and ":missed:" not in key}
        assert not again

    walk()


@pytest.mark.parametrize(
    ("delivery", "state"),
    [
        (Delivery("job:failed:1", is_ok=True, detail="slack: refused"), AlertState.SENT),
        (Delivery("job:failed:1", is_ok=True, detail="queued", is_confirmed=False), AlertState.UNCONFIRMED),
        (Delivery("job:failed:1", is_ok=False, detail="no token", is_final=True), AlertState.UNDELIVERED),
    ],
)
def test_what_trying_again_would_not_better_is_over_and_says_why(delivery: Delivery, state: AlertState) -> None:
    alert = outbox.settled(outbox.begun(pending(), NOW), delivery, later(1))
    assert (alert.state, alert.detail, alert.next_try_at, alert.done_at) == (state, delivery.detail, None, later(1))
