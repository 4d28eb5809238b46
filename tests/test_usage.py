"""What a run uses: when it is measured, what passes a limit, and what follows from it."""

from typing import Any

import pytest

from procclaw.model.outside import Measure
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, Usage
from procclaw.model.spec import JobSpec, LimitAction, Resources
from procclaw.model.state import ActiveRun, Observed
from procclaw.planning.actions import Plan, Signal
from procclaw.planning.usage import is_due
from tests.builders import (
    NOW,
    TERM,
    a_dead_letter,
    a_job,
    a_job_state,
    a_run,
    a_start,
    a_state,
    a_wait,
    ago,
    alive,
    an_attempt,
    an_order,
    carried_out,
    changed,
    continuous_run,
    ended,
    exited,
    later,
    over,
    planned,
    started,
)


def limits(memory: float | None = 256, cpu: float | None = None, action: str = "warn") -> Resources:
    return Resources(memory, cpu, LimitAction(action), 30)


SERVICE = a_job("continuous", resources=limits(), grace=20)
TOO_MUCH = "memory: 412.3 MB of at most 256 MB"


def up(job: JobSpec = SERVICE, **fields: Any) -> tuple[Run, Attempt]:
    run = continuous_run(queued_at=ago(1000))
    return run, an_attempt(run, job, **fields)


def a_usage(attempt: Attempt, measured_ago: float, memory: float = 100, **fields: Any) -> Usage:
    return Usage("job", attempt.id, ago(measured_ago), fields.pop("cpu", 10.0), None, memory)._replace(**fields)


def plan_for(run: Run, attempt: Attempt, job: JobSpec = SERVICE, **look: Any) -> Plan:
    return planned(job, a_job_state(ActiveRun(run, alive(attempt)._replace(**look))))


# --- when to measure ---


@pytest.mark.parametrize(
    ("measured_ago", "due"),
    [(None, True), (0, False), (29.9, False), (30, True), (3000, True), (-0.1, True)],
    ids=["never", "just now", "just before", "exactly", "long ago", "under a later clock"],
)
def test_what_has_limits_is_measured_at_every_interval(measured_ago: float | None, due: bool) -> None:
    _, attempt = up()
    usage = None if measured_ago is None else a_usage(attempt, measured_ago)
    assert is_due(limits(), alive(attempt)._replace(usage=usage), NOW) is due


@pytest.mark.parametrize(
    ("resources", "fields"),
    [(None, {}), (limits(), {"started_at": None}), (limits(), {"stop": an_order()})],
    ids=["without limits", "not started", "under orders to end"],
)
def test_nothing_else_is_measured(resources: Resources | None, fields: dict[str, Any]) -> None:
    _, attempt = up()
    assert not is_due(resources, alive(attempt._replace(**fields)), NOW)


@pytest.mark.parametrize(
    ("measured_ago", "left"),
    [(None, 30), (0, 30), (20, 10), (29.9, 0.1), (30, 30), (300, 30), (-300, 30)],
    ids=["never", "just now", "under way", "just before", "due", "overdue", "under a later clock"],
)
def test_the_loop_wakes_for_the_next_measurement_and_does_not_hurry_where_nothing_was_to_be_seen(
    measured_ago: float | None, left: float
) -> None:
    run, attempt = up()
    usage = None if measured_ago is None else a_usage(attempt, measured_ago)
    assert plan_for(run, attempt, usage=usage) == Plan(wake_at=later(left))


def test_a_job_without_limits_is_left_alone() -> None:
    run, attempt = up()
    job = changed(SERVICE, resources=None)
    assert plan_for(run, attempt, job, measured=Measure(1, 1000)) == Plan()


def test_a_job_that_is_not_declared_any_more_has_no_limits() -> None:
    run, attempt = up()
    live = alive(attempt)._replace(measured=Measure(1, 1000))
    decided = planned(None, a_job_state(ActiveRun(run, live)))
    assert not [write for write in decided.writes if isinstance(write, Usage)]


def test_what_is_being_stopped_is_not_judged() -> None:
    run, attempt = up(stop=an_order(signalled_ago=1))
    decided = plan_for(run, attempt, changed(SERVICE, resources=limits(action="kill")), measured=Measure(1, 1000))
    assert decided.writes == ()


# --- what it uses ---


def test_the_first_measurement_tells_memory_and_nothing_about_cpu() -> None:
    run, attempt = up()
    job = changed(SERVICE, resources=limits(256, 50))
    assert plan_for(run, attempt, job, measured=Measure(1000, 100)) == Plan(
        writes=(Usage("job", attempt.id, NOW, 1000, None, 100),), wake_at=later(30)
    )


@pytest.mark.parametrize(
    ("measured_ago", "before", "now", "percent"),
    [
        (30, 10, 10, 0),
        (30, 10, 25, 50),
        (40, 10, 90, 200),
        (30, 10, 20, 33.3),
        (30, 10, 4, 0),
        (3600, 10, 46, 1),
        (0.5, 10, 10.25, 50),
        (-30, 10, 25, None),
        (0, 10, 25, None),
    ],
    ids=[
        "idle",
        "half a processor",
        "two processors",
        "rounded",
        "a process that nobody waited for is gone",
        "the machine was asleep",
        "measured again at once",
        "the clock was set back",
        "no time has passed",
    ],
)
def test_cpu_is_a_share_of_one_processor_since_the_measurement_before(
    measured_ago: float, before: float, now: float, percent: float | None
) -> None:
    run, attempt = up()
    usage = a_usage(attempt, measured_ago, cpu=before)
    assert plan_for(run, attempt, usage=usage, measured=Measure(now, 100)) == Plan(
        writes=(Usage("job", attempt.id, NOW, now, percent, 100),), wake_at=later(30)
    )


@pytest.mark.parametrize(
    ("memory", "cpu_seconds", "detail"),
    [
        (255.9, 10, ""),
        (256, 10, ""),
        (256.04, 10, "memory: 256.1 MB of at most 256 MB"),
        (412.25, 10, TOO_MUCH),
        (100, 24.9, ""),
        (100, 25, ""),
        (100, 25.1, "CPU: 50.3% of at most 50%"),
        (412.25, 70, f"{TOO_MUCH}; CPU: 200% of at most 50%"),
    ],
    ids=[
        "just below",
        "exactly as much memory",
        "a little more memory",
        "more memory",
        "less CPU",
        "exactly as much CPU",
        "a little more CPU",
        "both",
    ],
)
def test_a_limit_is_passed_by_what_is_more(memory: float, cpu_seconds: float, detail: str) -> None:
    run, attempt = up()
    job = changed(SERVICE, resources=limits(256, 50))
    decided = plan_for(run, attempt, job, usage=a_usage(attempt, 30), measured=Measure(cpu_seconds, memory))
    [usage] = decided.writes
    assert isinstance(usage, Usage)
    assert (usage.detail, usage.over_since) == (detail, NOW if detail else None)


@pytest.mark.parametrize(
    ("resources", "measured"),
    [(limits(None, 50), Measure(10, 10_000)), (limits(256, None), Measure(10_000, 100))],
    ids=["memory", "CPU"],
)
def test_what_has_no_limit_passes_none(resources: Resources, measured: Measure) -> None:
    run, attempt = up()
    job = changed(SERVICE, resources=resources._replace(action=LimitAction.KILL))
    decided = plan_for(run, attempt, job, usage=a_usage(attempt, 30), measured=measured)
    assert decided.effects == ()


# --- what follows ---


def test_a_warning_is_given_once_for_each_time_a_limit_is_passed() -> None:
    run, attempt = up()
    first = a_usage(attempt, 0, 412.25, over_since=NOW, detail=TOO_MUCH, cpu_percent=0)
    assert plan_for(run, attempt, usage=a_usage(attempt, 30), measured=Measure(10, 412.25)) == Plan(
        writes=(first,), wake_at=later(30)
    )
    before = a_usage(attempt, 30, 300, over_since=ago(90), detail="memory: 300 MB of at most 256 MB")
    assert plan_for(run, attempt, usage=before, measured=Measure(10, 412.25)) == Plan(
        writes=(first._replace(over_since=ago(90)),), wake_at=later(30)
    )
    assert plan_for(run, attempt, usage=before, measured=Measure(10, 100)) == Plan(
        writes=(a_usage(attempt, 0, cpu_percent=0),), wake_at=later(30)
    )


@pytest.mark.parametrize(
    ("resources", "measured", "reason", "detail"),
    [
        (limits(256, 50), Measure(10, 412.25), Reason.MEMORY_LIMIT, TOO_MUCH),
        (limits(256, 50), Measure(70, 100), Reason.CPU_LIMIT, "CPU: 200% of at most 50%"),
        (limits(256, 50), Measure(70, 412.25), Reason.MEMORY_LIMIT, f"{TOO_MUCH}; CPU: 200% of at most 50%"),
    ],
    ids=["memory", "CPU", "both"],
)
def test_restart_stops_the_attempt_for_the_limit_that_it_passed(
    resources: Resources, measured: Measure, reason: Reason, detail: str
) -> None:
    job = changed(SERVICE, resources=resources._replace(action=LimitAction.RESTART))
    run, attempt = up(job)
    stopping = attempt._replace(stop=an_order(reason), detail=detail)
    decided = plan_for(run, attempt, job, usage=a_usage(attempt, 30), measured=measured)
    assert decided.writes[0] == stopping
    assert [write.detail for write in decided.writes if isinstance(write, Usage)] == [detail]
    assert (decided.effects, decided.waits, decided.wake_at) == (
        (Signal(stopping, None, TERM, is_kill=False, reason=reason),),
        (a_wait(Reason.STOPPING, run, str(reason).replace("_", " "), NOW, later(20)),),
        later(20),
    )


def test_what_was_stopped_for_its_memory_is_started_again_and_the_run_tells_why() -> None:
    job = changed(SERVICE, resources=limits(action="restart"))
    run, attempt = up(job)
    attempt = attempt._replace(stop=an_order(Reason.MEMORY_LIMIT), detail=TOO_MUCH)
    again = started(
        run._replace(failures=1, restarts=1, exit_code=143, detail=TOO_MUCH, not_before_at=NOW, state=RunState.RETRYING)
    )
    assert planned(job, a_job_state(ActiveRun(run, exited(attempt, 143)))) == Plan(
        writes=(again, ended(attempt, Reason.MEMORY_LIMIT, 143)),
        effects=(a_start(again, job, "attempt 2 after 1 failed", 2),),
    )


def test_kill_ends_attempt_and_run_at_once() -> None:
    job = changed(SERVICE, resources=limits(action="kill"))
    run, attempt = up(job)
    ending = run._replace(ending=Reason.MEMORY_LIMIT, ending_force=True)
    dying = attempt._replace(stop=an_order(Reason.MEMORY_LIMIT, force=True), detail=TOO_MUCH)
    decided = plan_for(run, attempt, job, usage=a_usage(attempt, 30), measured=Measure(10, 412.25))
    assert decided.writes[:2] == (ending, dying)
    assert decided.effects == (Signal(dying, None, TERM, is_kill=True, reason=Reason.MEMORY_LIMIT),)


@pytest.mark.parametrize("job", [SERVICE, a_job()], ids=["continuous", "manual"])
@pytest.mark.parametrize("code", [137, 0])
def test_a_run_that_was_killed_for_its_memory_has_failed_and_gets_no_further_attempt(job: JobSpec, code: int) -> None:
    job = changed(job, resources=limits(action="kill"))
    run = a_run("running", trigger="continuous" if job.type == "continuous" else "manual", queued_at=ago(1000))
    run = run._replace(ending=Reason.MEMORY_LIMIT, ending_force=True)
    attempt = an_attempt(run, job, stop=an_order(Reason.MEMORY_LIMIT, force=True), detail=TOO_MUCH)
    failed = over(run, "failed", Reason.MEMORY_LIMIT, exit_code=code, detail=TOO_MUCH)
    assert planned(job, a_job_state(ActiveRun(run, exited(attempt, code)))) == Plan(
        writes=(failed, ended(attempt, Reason.MEMORY_LIMIT, code), a_dead_letter(failed))
    )


def test_a_service_that_was_killed_for_its_memory_stays_down_until_somebody_acts() -> None:
    job = changed(SERVICE, resources=limits(action="kill"))
    last = over(continuous_run(), "failed", Reason.MEMORY_LIMIT, detail=TOO_MUCH)
    assert planned(job, a_job_state(newest_finished=last)) == Plan()


def test_an_old_measurement_ends_nothing_after_an_edit_that_would_have_it_do_so() -> None:
    run, attempt = up()
    job = changed(SERVICE, resources=limits(50, action="kill"))
    assert plan_for(run, attempt, job, usage=a_usage(attempt, 10)) == Plan(wake_at=later(20))


def test_planning_again_right_after_asks_for_nothing_twice() -> None:
    for action in LimitAction:
        job = changed(SERVICE, resources=limits(action=action))
        run, attempt = up(job)
        live = alive(attempt)._replace(usage=a_usage(attempt, 30), measured=Measure(10, 412.25))
        state = a_state(a_job_state(ActiveRun(run, live)))
        after = carried_out(state, planned(job, state.jobs["job"]), NOW)
        assert planned(job, after.jobs["job"]).is_idle


def test_a_timeout_comes_before_a_limit() -> None:
    job = changed(SERVICE, timeout=1000, resources=limits(action="kill"))
    run, attempt = up(job)
    decided = plan_for(run, attempt, job, measured=Measure(10, 412.25))
    assert [effect.reason for effect in decided.effects if isinstance(effect, Signal)] == [Reason.TIMED_OUT]


def test_what_is_measured_and_checked_is_recorded_in_one_plan() -> None:
    job = changed(SERVICE, check="exec")
    run, attempt = up(job)
    live: Observed = alive(attempt)._replace(measured=Measure(1, 100))
    decided = planned(job, a_job_state(ActiveRun(run, live)))
    assert ([type(write) for write in decided.writes], len(decided.effects), decided.wake_at) == ([Usage], 1, later(15))
