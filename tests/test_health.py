"""Health checks: when one is made, what its result means, and what follows from it."""

from collections.abc import Callable
from typing import Any

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Health, Run, RunState
from procclaw.model.spec import Condition, Dependency, JobSpec
from procclaw.model.state import ActiveRun, Observed, State
from procclaw.planning.actions import Check, Plan, Signal, Start
from procclaw.planning.plan import plan
from tests.builders import (
    BOOT,
    EARLIER_BOOT,
    NOW,
    TERM,
    a_dead_letter,
    a_health,
    a_hold,
    a_job,
    a_job_state,
    a_result,
    a_run,
    a_spec,
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
    seen_as,
    started,
)

SERVICE = a_job("continuous", check="http", interval=60, check_timeout=10, grace=20)
TOLERANT = changed(SERVICE, on_unhealthy="alert")
LOOKED_FOR = 15
"""Seconds after which a check without a result is looked for: its time limit and five more."""


def up_for(seconds: float, job: JobSpec = SERVICE, **fields: Any) -> tuple[Run, Attempt]:
    run = continuous_run(queued_at=ago(seconds))
    return run, an_attempt(run, job, **fields)


def plan_for(run: Run, attempt: Attempt, job: JobSpec = SERVICE, **look: Any) -> Plan:
    return planned(job, a_job_state(ActiveRun(run, alive(attempt)._replace(**look))))


def checks(attempt: Attempt) -> Plan:
    """A check is begun and nothing else is done."""
    return Plan(effects=(Check("job", attempt.id),), wake_at=later(LOOKED_FOR))


# --- when a check is made ---


def test_a_started_job_is_checked_at_once() -> None:
    run, attempt = up_for(0.05)
    assert plan_for(run, attempt) == checks(attempt)


@pytest.mark.parametrize("kind", ["process", "none"])
def test_nobody_goes_and_looks_where_nothing_is_to_be_asked(kind: str) -> None:
    run, attempt = up_for(100)
    assert plan_for(run, attempt, changed(SERVICE, check=kind)) == Plan()


@pytest.mark.parametrize("kind", ["http", "tcp", "file", "exec"])
def test_every_other_kind_of_check_is_made(kind: str) -> None:
    run, attempt = up_for(100)
    assert plan_for(run, attempt, changed(SERVICE, check=kind)) == checks(attempt)


@pytest.mark.parametrize(
    "fields",
    [
        {"pid": None, "started_at": None},
        {"pid": None},
        {"stop": an_order(Reason.TIMED_OUT, signalled_ago=0)},
        {"exited_at": NOW},
    ],
    ids=["not seen to have started", "started under an unknown pid", "under orders to end", "ended, output draining"],
)
def test_only_what_runs_and_shall_run_is_checked(fields: dict[str, Any]) -> None:
    run, attempt = up_for(100, **fields)
    for probe in (None, a_result(attempt, is_ok=True)):
        decided = plan_for(run, attempt, probe=probe)
        assert not [effect for effect in decided.effects if isinstance(effect, Check)]
        assert not [write for write in decided.writes if isinstance(write, Health)]


@pytest.mark.parametrize("interval", [20, 10])
def test_an_interval_that_was_shortened_meanwhile_hurries_nothing_that_is_coming_up(interval: float) -> None:
    run, attempt = up_for(25)
    found = plan_for(run, attempt, changed(SERVICE, interval=interval), health=a_health(attempt, None, 5))
    assert found == Plan(wake_at=later(5))


def test_a_run_that_is_to_end_is_not_checked_any_more() -> None:
    run, attempt = up_for(100)
    decided = plan_for(run._replace(ending=Reason.STOP_REQUESTED), attempt)
    assert [type(effect) for effect in decided.effects] == [Signal]


def test_a_job_that_is_not_declared_any_more_is_not_checked() -> None:
    run, attempt = up_for(100)
    decided = planned(None, a_job_state(ActiveRun(run, alive(attempt))))
    assert [type(effect) for effect in decided.effects] == [Signal]


@pytest.mark.parametrize("phase", ["blank", "exited", "lost", "missing"])
def test_what_does_not_live_is_not_checked(phase: str) -> None:
    run, attempt = up_for(100)
    live = seen_as(phase, attempt)._replace(probe=a_result(attempt, is_ok=False))
    decided = planned(SERVICE, a_job_state(ActiveRun(run, live)))
    assert not [effect for effect in decided.effects if isinstance(effect, Check)]
    assert not [write for write in decided.writes if isinstance(write, Health)]


def test_a_check_under_way_is_left_to_it_and_looked_for_once_its_time_is_over() -> None:
    run, attempt = up_for(1000)
    health = a_health(attempt, True, checked_ago=600)
    assert plan_for(run, attempt, health=health, is_probing=True) == Plan(wake_at=later(LOOKED_FOR))


def test_the_result_of_a_check_that_was_under_way_a_moment_ago_is_taken_in_all_the_same() -> None:
    run, attempt = up_for(1000)
    health = a_health(attempt, True, checked_ago=60, since_ago=900)
    found = plan_for(run, attempt, health=health, is_probing=True, probe=a_result(attempt, is_ok=True, detail="well"))
    assert found == Plan(writes=(health._replace(checked_at=NOW, detail="well"),), wake_at=later(60))


@pytest.mark.parametrize("is_healthy", [True, False])
@pytest.mark.parametrize(
    ("passed", "left"),
    [(0, 60), (30, 30), (53.9, 6.1), (54, None), (60, None), (86_400, None), (-0.001, None), (-3600, None)],
    ids=[
        "just made",
        "half of the pause",
        "just before",
        "a tenth early is due, for whoever looks once a minute",
        "exactly",
        "the machine was asleep",
        "the clock was set back a little",
        "the clock was set back",
    ],
)
def test_what_is_known_to_be_well_or_not_is_checked_every_interval(
    passed: float, left: float | None, is_healthy: bool
) -> None:
    run, attempt = up_for(10_000, TOLERANT)
    health = a_health(attempt, is_healthy, checked_ago=passed)
    expected = checks(attempt) if left is None else Plan(wake_at=later(left))
    assert plan_for(run, attempt, TOLERANT, health=health) == expected


@pytest.mark.parametrize(
    ("age", "fields", "pause"),
    [
        (0.05, {}, 1),
        (2, {}, 1),
        (2.5, {}, 1.25),
        (10, {}, 5),
        (34, {}, 17),
        (40, {}, 20),
        (41, {}, 19),
        (200, {"start_period": 1000}, 60),
        (200, {"start_period": 230}, 30),
        (2000, {"start_period": 3000, "interval": 600}, 600),
        (0.05, {"interval": 0.25}, 0.2),
        (0.05, {"interval": 0.25, "start_period": 9}, 0.25),
    ],
    ids=[
        "a second at least",
        "half the age, from two seconds",
        "half the age, after",
        "half the age, later",
        "half the age, before one counts",
        "one falls on the moment from which it counts",
        "which it does not pass by",
        "the interval at most",
        "one falls on the end of the start period",
        "a long interval",
        "a short interval, until one counts",
        "a short interval",
    ],
)
def test_what_is_coming_up_is_checked_after_half_its_age(age: float, fields: dict[str, Any], pause: float) -> None:
    job = changed(SERVICE, **fields)
    run, attempt = up_for(age, job)
    health = a_health(attempt, None, detail="no")
    assert plan_for(run, attempt, job, health=health) == Plan(wake_at=later(pause))
    assert plan_for(run, attempt, job, probe=a_result(attempt, is_ok=False, detail="no")) == Plan(
        writes=(health,), wake_at=later(pause)
    )


def test_the_pause_grows_with_the_age_that_the_newest_check_found() -> None:
    run, attempt = up_for(15)
    assert plan_for(run, attempt, health=a_health(attempt, None, checked_ago=4.4)) == Plan(wake_at=later(0.9))
    assert plan_for(run, attempt, health=a_health(attempt, None, checked_ago=5)) == checks(attempt)


def test_a_start_under_a_later_clock_is_a_start_now() -> None:
    run, attempt = up_for(-3600)
    found = plan_for(run, attempt, health=a_health(attempt, None, checked_ago=-3601))
    assert found.effects == (Check("job", attempt.id),)
    failed = plan_for(run, attempt, probe=a_result(attempt, is_ok=False))
    assert failed.wake_at == later(1)


def test_each_instance_of_a_job_is_checked_by_itself() -> None:
    job = a_job(check="exec", max_instances=2)
    first = a_run("running", queued_at=ago(100))
    second = a_run("running", queued_at=ago(50), occasion="intent:2@0")
    attempts = an_attempt(first, job), an_attempt(second, job, instance=1)
    health = a_health(attempts[0], True, checked_ago=10)
    lives = alive(attempts[0])._replace(health=health), alive(attempts[1])
    decided = planned(job, a_job_state(*map(ActiveRun, (first, second), lives)))
    assert decided == Plan(effects=(Check("job", attempts[1].id),), wake_at=later(LOOKED_FOR))


@pytest.mark.parametrize("kind", ["pause", "revoke"])
def test_checks_go_on_while_no_start_is_allowed(kind: str) -> None:
    run, attempt = up_for(100)
    state = a_job_state(ActiveRun(run, alive(attempt)), holds=(a_hold(kind),))
    assert planned(SERVICE, state) == checks(attempt)


# --- what a result means ---


def test_the_first_check_that_passes_makes_it_healthy_from_now() -> None:
    run, attempt = up_for(7)
    before = a_health(attempt, None, checked_ago=2, detail="refused")
    for health in (None, before):
        assert plan_for(run, attempt, health=health, probe=a_result(attempt, is_ok=True, detail="status 200")) == Plan(
            writes=(Health("job", attempt.id, True, NOW, NOW, detail="status 200"),), wake_at=later(60)
        )


def test_what_passes_again_and_again_has_been_healthy_since_it_first_did() -> None:
    run, attempt = up_for(1000)
    health = a_health(attempt, True, checked_ago=60, since_ago=995, detail="status 200")
    found = plan_for(run, attempt, health=health, probe=a_result(attempt, is_ok=True, detail="status 200"))
    assert found == Plan(writes=(health._replace(checked_at=NOW),), wake_at=later(60))


def test_a_check_that_passes_makes_up_for_those_that_failed() -> None:
    run, attempt = up_for(1000)
    health = a_health(attempt, True, checked_ago=60, since_ago=995, failures=2, counted_ago=60, detail="no")
    found = plan_for(run, attempt, health=health, probe=a_result(attempt, is_ok=True, detail="status 200"))
    well = a_health(attempt, True, since_ago=995, detail="status 200")
    assert found == Plan(writes=(well,), wake_at=later(60))


@pytest.mark.parametrize(
    ("age", "counted_ago", "fields", "counts"),
    [
        (53.9, None, {}, False),
        (54, None, {}, True),
        (60, None, {}, True),
        (1000, None, {}, True),
        (99.9, None, {"start_period": 100}, False),
        (100, None, {"start_period": 100}, True),
        (54, None, {"start_period": 20}, True),
        (40, None, {"start_period": 20}, False),
        (600, 53.9, {}, False),
        (600, 54, {}, True),
        (600, 60, {}, True),
        (600, -30, {}, False),
    ],
    ids=[
        "before an interval has passed since the start",
        "nearly an interval after it, for whoever looks once a minute",
        "an interval after it",
        "the first that was made at all",
        "just before the start period is over",
        "exactly as it is over",
        "a start period within the first interval",
        "and not at its end",
        "before an interval has passed since one counted",
        "nearly an interval after one counted",
        "an interval after one counted",
        "one that counted under a later clock",
    ],
)
def test_of_what_is_coming_up_one_failed_check_counts_for_each_interval(
    age: float, counted_ago: float | None, fields: dict[str, Any], counts: bool
) -> None:
    job = changed(TOLERANT, failures=10, **fields)
    run, attempt = up_for(age, job)
    health = a_health(attempt, None, checked_ago=1)
    if counted_ago is not None:
        health = health._replace(failures=4, counted_at=ago(counted_ago))
    [after] = plan_for(run, attempt, job, health=health, probe=a_result(attempt, is_ok=False)).writes
    assert isinstance(after, Health)
    assert after.failures == health.failures + counts
    is_ahead = health.counted_at is not None and health.counted_at > NOW
    assert after.counted_at == (NOW if counts or is_ahead else health.counted_at)
    assert (after.is_healthy, after.since) == (None, attempt.started_at)


@pytest.mark.parametrize(
    ("failures", "limit", "is_healthy"),
    [(0, 3, True), (1, 3, True), (2, 3, False), (3, 3, False), (0, 1, False), (5, 3, False)],
)
def test_so_many_failed_checks_in_a_row_make_it_unhealthy(failures: int, limit: int, is_healthy: bool) -> None:
    job = changed(TOLERANT, failures=limit, start_period=100_000)
    run, attempt = up_for(1000, job)
    health = a_health(attempt, True, checked_ago=60, since_ago=900, failures=failures, counted_ago=60, detail="well")
    found = plan_for(run, attempt, job, health=health, probe=a_result(attempt, is_ok=False, detail="no"))
    after = health._replace(checked_at=NOW, failures=failures + 1, counted_at=NOW, detail="no")
    if not is_healthy:
        after = after._replace(is_healthy=False, since=NOW)
    assert found == Plan(writes=(after,), wake_at=later(60))


def test_what_never_came_up_becomes_unhealthy_as_well() -> None:
    run, attempt = up_for(180, TOLERANT)
    health = a_health(attempt, None, checked_ago=20, failures=2, counted_ago=60, detail="no")
    found = plan_for(run, attempt, TOLERANT, health=health, probe=a_result(attempt, is_ok=False, detail="no"))
    sick = Health("job", attempt.id, False, NOW, NOW, failures=3, counted_at=NOW, detail="no")
    assert found == Plan(writes=(sick,), wake_at=later(60))


def test_what_stays_unhealthy_has_been_so_since_it_became_so() -> None:
    run, attempt = up_for(1000, TOLERANT)
    health = a_health(attempt, False, checked_ago=10, since_ago=300, failures=7, counted_ago=10, detail="no")
    found = plan_for(run, attempt, TOLERANT, health=health, probe=a_result(attempt, is_ok=False, detail="no"))
    assert found == Plan(writes=(health._replace(checked_at=NOW, failures=8, counted_at=NOW),), wake_at=later(60))


def test_what_passes_again_is_healthy_again() -> None:
    run, attempt = up_for(1000, TOLERANT)
    health = a_health(attempt, False, checked_ago=60, since_ago=300, failures=7, counted_ago=60, detail="no")
    found = plan_for(run, attempt, TOLERANT, health=health, probe=a_result(attempt, is_ok=True, detail="status 200"))
    well = Health("job", attempt.id, True, NOW, NOW, detail="status 200")
    assert found == Plan(writes=(well,), wake_at=later(60))


# --- what follows ---

FOUND = "GET http://127.0.0.1:8000/: status 503, expected 200"
UNHEALTHY = f"unhealthy: {FOUND}"


def ordered(attempt: Attempt) -> Attempt:
    return attempt._replace(stop=an_order(Reason.UNHEALTHY), detail=UNHEALTHY)


def test_an_unhealthy_job_is_stopped_as_failed_and_the_attempt_says_what_the_check_found() -> None:
    run, attempt = up_for(1000)
    health = a_health(attempt, True, checked_ago=60, since_ago=900, failures=2, counted_ago=60, detail="status 200")
    sick = Health("job", attempt.id, False, NOW, NOW, 3, NOW, FOUND)
    stopping = ordered(attempt)
    assert plan_for(run, attempt, health=health, probe=a_result(attempt, is_ok=False, detail=FOUND)) == Plan(
        writes=(stopping, sick),
        effects=(Signal(stopping, None, TERM, is_kill=False, reason=Reason.UNHEALTHY),),
        waits=(a_wait(Reason.STOPPING, run, "unhealthy", NOW, later(20)),),
        wake_at=later(20),
    )


def test_an_old_finding_stops_nothing_after_an_edit_that_would_have_it_do_so() -> None:
    run, attempt = up_for(1000)
    health = a_health(attempt, False, checked_ago=30, failures=7, counted_ago=30)
    assert plan_for(run, attempt, health=health) == Plan(wake_at=later(30))


def test_a_service_that_was_unhealthy_is_started_again_and_the_run_tells_why() -> None:
    run, attempt = up_for(1000)
    attempt = ordered(attempt)
    again = started(
        run._replace(
            failures=1, restarts=1, exit_code=143, detail=UNHEALTHY, not_before_at=NOW, state=RunState.RETRYING
        )
    )
    decided = planned(SERVICE, a_job_state(ActiveRun(run, exited(attempt, 143))))
    assert decided == Plan(
        writes=(again, ended(attempt, Reason.UNHEALTHY, 143)),
        effects=(a_start(again, SERVICE, "attempt 2 after 1 failed", 2),),
    )


def test_a_run_that_was_unhealthy_fails_even_if_it_says_goodbye_with_success() -> None:
    job = a_job(check="exec", retries=False)
    run = a_run("running", queued_at=ago(1000))
    attempt = ordered(an_attempt(run, job))
    failed = over(run, "failed", Reason.RETRY_DISABLED, failures=1, exit_code=0, detail=UNHEALTHY)
    assert planned(job, a_job_state(ActiveRun(run, exited(attempt, 0)))) == Plan(
        writes=(failed, ended(attempt, Reason.UNHEALTHY, 0), a_dead_letter(failed))
    )


def test_a_reboot_that_came_before_the_stop_has_nothing_to_do_with_health() -> None:
    run, attempt = up_for(1000)
    attempt = ordered(attempt)._replace(boot_id=EARLIER_BOOT)
    decided = planned(SERVICE, a_job_state(ActiveRun(run, seen_as("missing", attempt))))
    assert decided.writes[1] == ended(attempt, Reason.REBOOT, detail="")


def test_a_stop_that_is_asked_for_while_it_is_stopped_for_its_health_is_one_stop() -> None:
    run, attempt = up_for(1000)
    attempt = ordered(attempt)
    decided = plan_for(run._replace(ending=Reason.STOP_REQUESTED), attempt)
    assert [effect.reason for effect in decided.effects if isinstance(effect, Signal)] == [Reason.UNHEALTHY]


# --- who waits for it ---

CLIENT = a_job("continuous", id="client", depends_on=(Dependency("job", Condition.AFTER_HEALTHY, None),))


def waiting_for(live: Observed, run: Run, job: JobSpec = SERVICE) -> Plan:
    jobs = {"job": a_job_state(ActiveRun(run, live)), "client": a_job_state(id="client")}
    return plan(a_spec(job, CLIENT), State(BOOT, jobs), NOW)


@pytest.mark.parametrize(
    ("health", "detail"),
    [
        (None, "runs, and has not been checked yet"),
        ({"is_healthy": None, "detail": "connection refused"}, "runs, and is not healthy yet: connection refused"),
        ({"is_healthy": False, "detail": "connection refused"}, "runs, and is unhealthy: connection refused"),
    ],
    ids=["not checked yet", "coming up", "unhealthy"],
)
def test_a_job_waits_for_one_that_is_not_healthy_and_says_what_is_wrong(
    health: dict[str, Any] | None, detail: str
) -> None:
    run, attempt = up_for(100, TOLERANT)
    seen = None if health is None else a_health(attempt, checked_ago=10, **health)
    decided = waiting_for(alive(attempt)._replace(health=seen), run, TOLERANT)
    assert [wait.detail for wait in decided.waits if wait.job_id == "client"] == [f"job (after_healthy): {detail}"]


def test_a_job_starts_with_the_very_check_that_finds_what_it_waits_for_healthy() -> None:
    run, attempt = up_for(1)
    decided = waiting_for(alive(attempt)._replace(probe=a_result(attempt, is_ok=True)), run)
    assert [effect.job_id for effect in decided.effects if isinstance(effect, Start)] == ["client"]
    assert decided.waits == ()


def test_one_healthy_instance_is_enough_for_those_that_wait() -> None:
    job = a_job(check="exec", max_instances=2)
    runs = [a_run("running", queued_at=ago(100), occasion=f"intent:{n}@0") for n in (1, 2)]
    attempts = [an_attempt(run, job) for run in runs]
    lives = [alive(attempts[0]), alive(attempts[1])._replace(health=a_health(attempts[1], True))]
    jobs = {"job": a_job_state(*map(ActiveRun, runs, lives)), "client": a_job_state(id="client")}
    assert plan(a_spec(job, CLIENT), State(BOOT, jobs), NOW).waits == ()


# --- a life ---


class Life:
    """A service from its start on, planned whenever its plan asks for it; a check takes a moment."""

    TAKES = 0.05

    def __init__(self, job: JobSpec, answers: Callable[[float], bool]) -> None:
        self.job = job
        self.answers = answers
        run = continuous_run(queued_at=NOW)
        self.state = a_state(a_job_state(ActiveRun(run, alive(an_attempt(run, job)))))
        self.checked: list[float] = []
        self.is_stopping = False

    @property
    def live(self) -> Observed:
        live = self.state.jobs["job"].active[0].live
        assert live is not None
        return live

    @property
    def health(self) -> bool | None:
        return self.live.health and self.live.health.is_healthy

    def look(self, at: float) -> float | None:
        """Plan, and be told at once what the check found that the plan began; when to look next."""
        decided = plan(a_spec(self.job), self.state, later(at))
        self.state = carried_out(self.state, decided, later(at))
        assert plan(a_spec(self.job), self.state, later(at)).is_idle
        self.is_stopping = self.live.attempt.stop is not None
        wake_at = decided.wake_at
        if any(isinstance(effect, Check) for effect in decided.effects):
            self.checked.append(at)
            at += self.TAKES
            self._seen(probe=a_result(self.live.attempt, is_ok=self.answers(at)), is_probing=False)
            return self.look(at)
        return None if wake_at is None else (wake_at - NOW).total_seconds()

    def _seen(self, **look: Any) -> None:
        job = self.state.jobs["job"]
        active = job.active[0]._replace(live=self.live._replace(**look))
        self.state = self.state._replace(jobs={"job": job._replace(active=(active,))})

    def lead(self, until: float) -> "Life":
        at: float | None = 0.0
        while at is not None and at < until and not self.is_stopping:
            at = self.look(at)
        return self


@pytest.mark.parametrize("up_after", [0, 0.5, 1, 5, 30, 100, 1000])
def test_whoever_waits_for_a_service_learns_that_it_is_up_half_as_long_again_later_at_most(up_after: float) -> None:
    life = Life(changed(SERVICE, start_period=100_000), lambda at: at >= up_after)
    life.lead(max(up_after * 1.5, up_after + 1) + 1)
    assert life.health
    first = life.live.health
    assert first is not None
    waited = (first.since - later(up_after)).total_seconds()
    assert waited <= max(1, min(60, up_after / 2)) + 2 * Life.TAKES


@pytest.mark.parametrize(
    ("fields", "stopped_after"),
    [
        ({}, 180),
        ({"start_period": 30}, 180),
        ({"start_period": 100}, 220),
        ({"failures": 1}, 60),
        ({"interval": 2}, 6),
        ({"interval": 2, "start_period": 10}, 14),
        ({"interval": 600}, 1800),
    ],
)
def test_what_never_comes_up_is_stopped_after_as_many_intervals_as_checks_may_fail(
    fields: dict[str, Any], stopped_after: float
) -> None:
    life = Life(changed(SERVICE, **fields), lambda at: False).lead(5000)
    assert life.is_stopping
    assert stopped_after * 0.95 <= life.checked[-1] <= stopped_after + 0.5


def test_a_service_that_stops_answering_is_stopped_after_as_many_checks_as_may_fail() -> None:
    life = Life(SERVICE, lambda at: at < 1000).lead(5000)
    assert life.checked[:2] == pytest.approx([0, 60], abs=0.1)
    after = [at for at in life.checked if at >= 1000]
    assert len(after) == 3
    assert after[-1] - after[0] == pytest.approx(120, abs=0.5)


def test_a_service_that_hiccups_is_left_alone() -> None:
    life = Life(SERVICE, lambda at: round(at / 60) % 3 == 0).lead(5000)
    assert not life.is_stopping
    assert life.health


def test_what_comes_up_slowly_is_checked_a_dozen_times_in_the_first_hundred_seconds() -> None:
    life = Life(changed(SERVICE, start_period=1000), lambda at: False).lead(100)
    assert len(life.checked) == 12


def test_a_pass_once_a_minute_checks_each_time_although_the_result_comes_after_it() -> None:
    life = Life(SERVICE, lambda at: at < 200)
    for minute in range(8):
        if not life.is_stopping:
            life.look(minute * 60)
    assert life.checked == pytest.approx([0, 60, 120, 180, 240, 300, 360])
    assert life.is_stopping
