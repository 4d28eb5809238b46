"""What a run waits for before its first attempt, and what is started because somebody waits for it."""

from typing import Any

import pytest

from procclaw.model.intents import Intent
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, Run, RunState
from procclaw.model.spec import Condition, Dependency, JobSpec
from procclaw.model.state import ActiveRun, JobState
from procclaw.planning.actions import Plan, Relaunch, Start, Wait
from procclaw.planning.dependencies import asks_for_boot, dependency_gates, lack_of
from procclaw.planning.gates import Gate
from procclaw.planning.plan import plan, plans
from tests.builders import (
    BOOT,
    EARLIER_BOOT,
    HOME_HELD,
    NOW,
    a_board,
    a_dead_letter,
    a_health,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_start,
    a_state,
    accepted,
    ago,
    alive,
    an_attempt,
    an_intent,
    an_order,
    changed,
    continuous_run,
    exited,
    later,
    over,
    seen_as,
    started,
    waiting,
    with_process,
)

DB = changed(a_job("continuous"), id="db")
PROBED = changed(DB, check="exec")
MIGRATION = changed(a_job(), id="db")
NIGHTLY = changed(a_job("scheduled"), id="db")
AFTER_START, AFTER_HEALTHY, AFTER_COMPLETE = Condition.AFTER_START, Condition.AFTER_HEALTHY, Condition.AFTER_COMPLETE
WAITER = a_run("queued", job_id="web", queued_at=ago(60))


def web(*conditions: Condition, timeout: float | None = None, **fields: Any) -> JobSpec:
    """A job that depends on the other."""
    on = tuple(Dependency("db", condition, timeout) for condition in conditions or (AFTER_START,))
    return changed(a_job(fields.pop("type", "manual"), **fields), id="web", depends_on=on)


def run_of(job: JobSpec, state: str, **fields: Any) -> Run:
    trigger = "continuous" if job.type == "continuous" else "manual"
    return a_run(state, **{"trigger": trigger, "job_id": "db", "boot_id": BOOT, **fields})


def active(job: JobSpec, state: str = "running", **fields: Any) -> ActiveRun:
    """A run of the other job, with its process if it runs."""
    run = run_of(job, state, **fields)
    return with_process(run, job) if state == "running" else waiting(run)


def db_state(*runs: ActiveRun, **fields: Any) -> JobState:
    return a_job_state(*runs, id="db", **fields)


def probed(is_healthy: bool | None, detail: str = "") -> ActiveRun:
    running = active(PROBED)
    assert running.live is not None
    health = a_health(running.live.attempt, is_healthy, detail=detail)
    return running._replace(live=running.live._replace(health=health))


def ending(job: JobSpec) -> ActiveRun:
    run = run_of(job, "running", ending=Reason.STOP_REQUESTED)
    return ActiveRun(run, alive(an_attempt(run, job, stop=an_order(signalled_ago=1))))


def lately(job: JobSpec, state: str, **fields: Any) -> JobState:
    """Nothing active, and this its newest run, which began and ended after the waiter was made."""
    return db_state(newest_finished=run_of(job, state, **{"started_at": ago(40), "finished_at": ago(30), **fields}))


LONG_AGO = {"started_at": ago(900), "finished_at": ago(800), "queued_at": ago(900)}

LACKS: list[tuple[str, Condition, JobSpec, JobState, str | None]] = [
    # after_start: it runs, or has run since the waiter was made
    ("never ran", AFTER_START, DB, db_state(), "has not started"),
    ("runs", AFTER_START, DB, db_state(active(DB)), None),
    ("runs since long ago", AFTER_START, DB, db_state(active(DB, queued_at=ago(9000))), None),
    ("waits to retry, having run", AFTER_START, DB, db_state(active(DB, "retrying", started_at=ago(5))), None),
    (
        "waits to retry since before",
        AFTER_START,
        DB,
        db_state(active(DB, "retrying", queued_at=ago(900))),
        "has not started: it is retrying",
    ),
    ("has run since", AFTER_START, DB, lately(DB, "stopped"), None),
    ("failed since", AFTER_START, DB, lately(DB, "failed"), None),
    ("ended since", AFTER_START, DB, lately(DB, "stopped", started_at=ago(900), ending=Reason.STOPPED), None),
    ("taken back since", AFTER_START, DB, lately(DB, "stopped", started_at=ago(900)), "has not started"),
    ("ran before", AFTER_START, DB, lately(DB, "stopped", **LONG_AGO), "has not started"),
    ("waits itself", AFTER_START, DB, db_state(active(DB, "queued")), "has not started: it is queued"),
    ("is being stopped", AFTER_START, DB, db_state(ending(DB)), None),
    ("was never begun", AFTER_START, DB, lately(DB, "stopped", attempts=0, started_at=None), "has not started"),
    ("is stopped", AFTER_START, DB, db_state(holds=(a_hold("stop", job_id="db"),)), "has not started: it is stopped"),
    ("is paused", AFTER_START, DB, db_state(holds=(a_hold("pause", job_id="db"),)), "has not started: it is paused"),
    ("is revoked", AFTER_START, DB, db_state(holds=(a_hold("revoke", job_id="db"),)), "has not started: it is revoked"),
    ("is disabled", AFTER_START, changed(DB, enabled=False), db_state(), "has not started: it is disabled"),
    (
        "is disabled and waits all the same",
        AFTER_START,
        changed(DB, enabled=False),
        db_state(active(DB, "queued")),
        "has not started: it is queued",
    ),
    (
        "is planned for later, and has not started",
        AFTER_START,
        MIGRATION,
        db_state(waiting(run_of(MIGRATION, "queued", trigger="eta", not_before_at=later(60)))),
        "has not started",
    ),
    ("has begun this very moment", AFTER_START, DB, db_state(active(DB, "retrying", started_at=NOW)), None),
    ("is seen to have ended now", AFTER_START, DB, lately(DB, "failed", started_at=ago(900), finished_at=NOW), None),
    ("a slot's run since", AFTER_START, NIGHTLY, lately(NIGHTLY, "succeeded"), None),
    ("a slot's run before", AFTER_START, NIGHTLY, lately(NIGHTLY, "succeeded", **LONG_AGO), "has not started"),
    # of a manual one: since the boot
    ("a manual one ran in this boot", AFTER_START, MIGRATION, lately(MIGRATION, "succeeded", **LONG_AGO), None),
    (
        "a manual one ran in another boot",
        AFTER_START,
        MIGRATION,
        lately(MIGRATION, "succeeded", boot_id=EARLIER_BOOT),
        "has not started",
    ),
    ("a manual one failed in this boot", AFTER_START, MIGRATION, lately(MIGRATION, "failed", **LONG_AGO), None),
    ("a manual one waits to retry", AFTER_START, MIGRATION, db_state(active(MIGRATION, "retrying")), None),
    (
        "the start of a manual one was decided and has come to nothing yet",
        AFTER_START,
        MIGRATION,
        db_state(with_process(run_of(MIGRATION, "running"), MIGRATION, pid=None)),
        "has not started: it is running",
    ),
    # after_healthy: it runs and its check passes
    ("does not run", AFTER_HEALTHY, PROBED, db_state(), "does not run"),
    ("has run", AFTER_HEALTHY, PROBED, lately(PROBED, "stopped"), "does not run"),
    ("is well", AFTER_HEALTHY, PROBED, db_state(probed(is_healthy=True)), None),
    ("is not known to be well", AFTER_HEALTHY, PROBED, db_state(probed(None)), "runs, and is not healthy yet"),
    (
        "is sick",
        AFTER_HEALTHY,
        PROBED,
        db_state(probed(is_healthy=False, detail="exit code 1")),
        "runs, and is unhealthy: exit code 1",
    ),
    ("was not checked", AFTER_HEALTHY, PROBED, db_state(active(PROBED)), "runs, and has not been checked yet"),
    ("runs unchecked", AFTER_HEALTHY, DB, db_state(active(DB)), None),
    ("is being stopped, unchecked", AFTER_HEALTHY, DB, db_state(ending(DB)), "does not run: it is running"),
    # after_complete: it has no active run, and its newest succeeded
    ("never completed", AFTER_COMPLETE, NIGHTLY, db_state(), "has never run"),
    ("completed long ago", AFTER_COMPLETE, NIGHTLY, lately(NIGHTLY, "succeeded", **LONG_AGO), None),
    (
        "runs again",
        AFTER_COMPLETE,
        NIGHTLY,
        db_state(active(NIGHTLY), newest_finished=run_of(NIGHTLY, "succeeded", occasion="before")),
        "has not completed: it is running",
    ),
    (
        "failed",
        AFTER_COMPLETE,
        NIGHTLY,
        lately(NIGHTLY, "failed", detail="exit code 3"),
        "its newest run did not succeed: failed (exit code 3)",
    ),
    (
        "failed without a word",
        AFTER_COMPLETE,
        NIGHTLY,
        lately(NIGHTLY, "failed", detail=""),
        "its newest run did not succeed: failed",
    ),
    (
        "is planned for later",
        AFTER_COMPLETE,
        NIGHTLY,
        db_state(
            waiting(run_of(NIGHTLY, "queued", trigger="eta", not_before_at=later(60))),
            newest_finished=run_of(NIGHTLY, "succeeded", occasion="before"),
        ),
        None,
    ),
    ("completed in this boot", AFTER_COMPLETE, MIGRATION, lately(MIGRATION, "succeeded", **LONG_AGO), None),
    (
        "completed in another boot",
        AFTER_COMPLETE,
        MIGRATION,
        lately(MIGRATION, "succeeded", boot_id=EARLIER_BOOT),
        "has not run since the machine was booted",
    ),
]


@pytest.mark.parametrize(
    ("condition", "job", "state", "lack"),
    [row[1:] for row in LACKS],
    ids=[f"{row[1]} {row[0]}".replace(" ", "-") for row in LACKS],
)
def test_what_a_dependency_lacks(condition: Condition, job: JobSpec, state: JobState, lack: str | None) -> None:
    board = a_board(job, web(condition), states=[state])
    assert lack_of(Dependency("db", condition, None), WAITER, board) == lack


@pytest.mark.parametrize("condition", list(Condition))
def test_a_job_that_does_not_exist_is_waited_for_and_named(condition: Condition) -> None:
    job = web(condition)
    [gate] = dependency_gates(WAITER, job, a_board(job))
    assert gate == Gate(
        "dependency",
        Reason.DEPENDENCY,
        f"db ({condition}): there is no such job",
        about=f"db {condition}",
    )


def test_a_dependency_that_lacks_nothing_is_an_open_gate_by_its_name() -> None:
    job = web(AFTER_START)
    [gate] = dependency_gates(WAITER, job, a_board(DB, job, states=[db_state(active(DB))]))
    assert gate == Gate("dependency", detail="db (after_start)", about="db after_start")
    assert list(dependency_gates(WAITER._replace(attempts=1), job, a_board(DB, job))) == []


# --- whole plans ---


def planned(job: JobSpec, db: JobSpec | None, state: JobState, mine: JobState, **fields: Any) -> Plan:
    spec = a_spec(*([job] if db is None else [job, db]))
    return plan(spec, a_state(mine, state, **fields), NOW)


def mine(run: Run = WAITER, **fields: Any) -> JobState:
    return a_job_state(waiting(run), id="web", **fields)


def waiting_for(what: str, about: str, since: Any = NOW, run: Run = WAITER) -> tuple[Run, Any]:
    """The run as it waits, and the wait."""
    run = run._replace(closed=((f"dependency {about}", since),))
    return run, Wait("web", run.id, Reason.DEPENDENCY, what, since, None)


def test_a_run_starts_once_its_dependency_runs() -> None:
    found = planned(web(), DB, db_state(active(DB)), mine())
    assert found == Plan(writes=(started(WAITER),), effects=(a_start(WAITER, web(), "asked for"),))


def test_a_run_waits_for_what_does_not_run_and_remembers_since_when() -> None:
    held = db_state(holds=(a_hold("stop", job_id="db"),))
    found = planned(web(), DB, held, mine())
    run, wait = waiting_for("db (after_start): has not started: it is stopped", "db after_start")
    assert [write for write in found.writes if isinstance(write, Run)] == [run]
    assert wait in found.waits
    assert found.effects == ()
    again = planned(web(), DB, held, mine(run._replace(closed=(("dependency db after_start", ago(50)),))))
    assert [write for write in again.writes if isinstance(write, Run)] == []


@pytest.mark.parametrize("state", ["retrying", "running"])
def test_only_the_first_attempt_is_gated(state: str) -> None:
    run = a_run("retrying", job_id="web", not_before_at=ago(1))
    found = planned(web(), DB, db_state(holds=(a_hold("stop", job_id="db"),)), mine(run))
    assert [type(effect) for effect in found.effects] == [Start]


def test_a_dependency_that_restarts_and_comes_up_satisfies_who_waits() -> None:
    job = web(AFTER_HEALTHY)
    run, _ = waiting_for("", "db after_healthy", ago(50))
    gone = db_state(active(PROBED, "retrying", failures=3, not_before_at=later(5)))
    assert planned(job, PROBED, gone, mine(run)).effects == ()
    back = db_state(probed(is_healthy=True))
    assert [type(effect) for effect in planned(job, PROBED, back, mine(run)).effects if isinstance(effect, Start)]


def test_when_what_is_waited_for_is_started_the_waiter_is_looked_at_at_once() -> None:
    found = planned(web(), DB, db_state(), mine())
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["db"]
    assert found.wake_at == NOW


# --- pulling in ---


def pulled_run(run: Run = WAITER) -> Run:
    return a_run("queued", job_id="db", trigger="dependency", occasion=f"dependency:{run.id}", queued_at=NOW)


def test_a_manual_dependency_is_started_once_for_each_waiting_run() -> None:
    job = web(AFTER_COMPLETE)
    found = planned(job, MIGRATION, db_state(), mine())
    pulled = pulled_run()
    run, wait = waiting_for("db (after_complete): has never run", "db after_complete")
    run = run._replace(pulled=("db",))
    assert found == Plan(
        writes=(started(pulled, MIGRATION), run),
        effects=(a_start(pulled, MIGRATION, "another job waits for it"),),
        waits=(wait,),
        wake_at=NOW,
    )
    failed = db_state(newest_finished=over(pulled, "failed", Reason.RETRIES_USED_UP, attempts=1))
    again = planned(job, MIGRATION, failed, mine(run))
    assert (again.effects, [wait.reason for wait in again.waits]) == ((), [Reason.DEPENDENCY])
    other = WAITER._replace(id="another", occasion="another")
    [start] = planned(job, MIGRATION, failed, mine(other)).effects
    assert isinstance(start, Start)
    assert start.job_id == "db"


def test_two_that_wait_for_the_same_pull_it_in_once() -> None:
    job = web(AFTER_COMPLETE, max_instances=2)
    second = WAITER._replace(id="second", occasion="second")
    both = a_job_state(waiting(WAITER), waiting(second), id="web")
    found = planned(job, MIGRATION, db_state(), both)
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["db"]


def test_what_is_pulled_in_pulls_in_what_it_needs() -> None:
    first = changed(a_job(), id="first")
    db = changed(MIGRATION, depends_on=(Dependency("first", AFTER_COMPLETE, None),))
    spec = a_spec(web(AFTER_COMPLETE), db, first)
    found = plan(spec, a_state(mine(), db_state(), a_job_state(id="first")), NOW)
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["first"]
    assert [wait.job_id for wait in found.waits] == ["db", "web"]


@pytest.mark.parametrize(
    ("job", "state"),
    [
        (MIGRATION, db_state(holds=(a_hold("pause", job_id="db"),))),
        (MIGRATION, db_state(holds=(a_hold("revoke", job_id="db"),))),
        (MIGRATION, db_state(active(MIGRATION))),
        (MIGRATION, db_state(active(MIGRATION, "retrying", not_before_at=later(60)))),
        (NIGHTLY, db_state()),
        (changed(DB, enabled=False), db_state()),
    ],
    ids=["paused", "revoked", "active", "retrying", "scheduled", "a-disabled-service"],
)
def test_nothing_is_pulled_in_that_is_held_or_active_or_comes_by_itself(job: JobSpec, state: JobState) -> None:
    found = planned(web(AFTER_COMPLETE), job, state, mine())
    assert not [write for write in found.writes if isinstance(write, Run) and write.trigger == "dependency"]


def test_a_disabled_manual_job_is_pulled_in_all_the_same() -> None:
    found = planned(web(AFTER_COMPLETE), changed(MIGRATION, enabled=False), db_state(), mine())
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["db"]


def test_nothing_is_pulled_in_for_who_may_not_start_anyway() -> None:
    held = mine(holds=(a_hold("pause", job_id="web"),))
    found = planned(web(AFTER_COMPLETE), MIGRATION, db_state(), held)
    assert (found.effects, [wait.reason for wait in found.waits]) == ((), [Reason.PAUSED])


def test_what_ran_since_this_boot_is_not_pulled_in_again() -> None:
    db = db_state(newest_finished=over(run_of(MIGRATION, "running"), "succeeded", Reason.FINISHED))
    found = planned(web(AFTER_COMPLETE), MIGRATION, db, mine())
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["web"]


def test_what_two_wait_for_is_pulled_in_once_and_what_one_of_them_needs_beside_it_as_well() -> None:
    extra = changed(a_job(), id="extra")
    app = changed(web(AFTER_COMPLETE), id="app")
    more = web(AFTER_COMPLETE)._replace(
        depends_on=tuple(Dependency(name, AFTER_COMPLETE, None) for name in ("db", "extra"))
    )
    states = (waiting(a_run("queued", job_id=name, queued_at=ago(60))) for name in ("app", "web"))
    state = a_state(*(a_job_state(each, id=each.run.job_id) for each in states), db_state(), a_job_state(id="extra"))
    found = plan(a_spec(app, more, MIGRATION, extra), state, NOW)
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["db", "extra"]


def test_what_can_be_pulled_in_is_also_beside_what_comes_up_by_itself() -> None:
    extra = changed(a_job(), id="extra")
    on = (Dependency("db", AFTER_START, None), Dependency("extra", AFTER_COMPLETE, None))
    state = a_state(mine(), HELD, a_job_state(id="extra"))
    found = plan(a_spec(web()._replace(depends_on=on), DB, extra), state, NOW)
    assert [effect.job_id for effect in found.effects if isinstance(effect, Start)] == ["extra"]


def test_nothing_is_pulled_in_that_this_plan_does_not_act_on() -> None:
    state = a_state(mine(), db_state())
    found = plans(a_spec(web(AFTER_COMPLETE), MIGRATION), state, NOW, judges_slots=False, acts_on={"web"})
    assert [effect for one in found.values() for effect in one.effects] == []
    assert [wait.reason for wait in found["web"].waits] == [Reason.DEPENDENCY]


def test_whoever_waits_for_a_launch_that_is_repeated_looks_again_soon() -> None:
    run = run_of(DB, "running")
    attempt = an_attempt(run, DB, pid=None, job_pid=None, start_ticks=None, started_at=None)
    state = a_state(mine(), db_state(ActiveRun(run, seen_as("blank", attempt))))
    found = plans(a_spec(web(AFTER_HEALTHY), DB), state, NOW)
    assert found["db"].effects == (Relaunch(attempt),)
    assert found["web"].wake_at == later(0.05)


# --- limits to waiting ---

DETAIL = "waited 30 s for db (after_start): has not started: it is stopped"
HELD = db_state(holds=(a_hold("stop", job_id="db"),))


@pytest.mark.parametrize(("waited", "is_over"), [(29.9, False), (30, True), (500, True)])
def test_a_run_that_has_waited_too_long_for_another_job_has_failed(waited: float, is_over: bool) -> None:
    run, _ = waiting_for("", "db after_start", ago(waited))
    found = planned(web(timeout=30), DB, HELD, mine(run))
    if is_over:
        failed = over(run, "failed", Reason.DEPENDENCY_TIMEOUT, detail=DETAIL)
        assert found.writes == (failed, a_dead_letter(failed))
        assert [wait.job_id for wait in found.waits] == ["db"]
    else:
        assert found.writes == ()
        assert found.wake_at == later(30 - waited)


def test_of_a_service_waiting_too_long_is_a_failed_attempt() -> None:
    job = web(timeout=30, type="continuous", delays=(5,))
    run, _ = waiting_for("", "db after_start", ago(30), continuous_run("queued", job_id="web"))
    found = planned(job, DB, HELD, mine(run))
    retrying = run._replace(state=RunState.RETRYING, failures=1, detail=DETAIL, closed=(), not_before_at=later(5))
    assert [write for write in found.writes if isinstance(write, Run)] == [retrying]
    [wait] = [wait for wait in found.waits if wait.job_id == "web"]
    assert (wait.reason, wait.until) == (Reason.RETRY_DELAY, later(5))
    assert wait.detail == f"it did not come to a start ({DETAIL}), attempt 1 follows"
    assert found.wake_at == later(5)
    # And it waits anew: an attempt that was never made is still the first.
    found = plan(a_spec(job, DB), a_state(mine(retrying._replace(not_before_at=NOW)), HELD), NOW)
    assert [wait.reason for wait in found.waits if wait.job_id == "web"] == [Reason.DEPENDENCY]


def test_where_the_next_attempt_has_no_delay_a_service_waits_anew_at_once() -> None:
    job = web(timeout=30, type="continuous", delays=(0,))
    run, _ = waiting_for("", "db after_start", ago(30), continuous_run("queued", job_id="web"))
    found = plans(a_spec(job, DB), a_state(mine(run), HELD), NOW)["web"]
    retrying = run._replace(state=RunState.RETRYING, failures=1, detail=DETAIL, closed=(), not_before_at=NOW)
    wait = Wait("web", run.id, Reason.DEPENDENCY, "db (after_start): has not started: it is stopped", None, None)
    assert found == Plan(writes=(retrying,), waits=(wait,), wake_at=NOW)


def test_whoever_asked_for_a_run_that_gave_up_is_told_why() -> None:
    run, _ = waiting_for("", "db after_start", ago(30))
    state = mine(run, intents=(accepted("start", job_id="web", run_id=run.id),))
    found = planned(web(timeout=30), DB, HELD, state)
    [answer] = [write for write in found.writes if getattr(write, "resolved_at", None)]
    assert answer.message == f'cannot start "web": the run is failed: {DETAIL}'  # type: ignore[union-attr]


# --- who asked ---


def asked() -> JobState:
    return a_job_state(id="web", intents=(an_intent("start", job_id="web"),))


def answers(found: Plan) -> list[tuple[str, str]]:
    return [(write.state, write.message) for write in found.writes if isinstance(write, Intent)]


def test_a_start_is_answered_when_what_it_waits_for_is_under_way_and_has_come_to_something() -> None:
    assert answers(planned(web(), DB, db_state(), asked())) == [
        ("accepted", "waits: db (after_start): has not started: it is queued")
    ]


@pytest.mark.parametrize(
    ("job", "state", "why"),
    [
        (DB, HELD, "has not started: it is stopped"),
        (changed(DB, enabled=False), db_state(), "has not started: it is disabled"),
        (MIGRATION, db_state(holds=(a_hold("pause", job_id="db"),)), "has not started: it is paused"),
        (
            DB,
            db_state(waiting(run_of(DB, "queued")), holds=(a_hold("pause", job_id="db"),)),
            "has not started: it is paused",
        ),
    ],
)
def test_a_start_that_waits_for_what_nobody_will_start_is_answered(job: JobSpec, state: JobState, why: str) -> None:
    assert answers(planned(web(), job, state, asked())) == [("done", f"waits: db (after_start): {why}")]


def test_a_start_that_waits_for_who_waits_for_ever_is_answered() -> None:
    db = changed(MIGRATION, depends_on=(Dependency("gone", AFTER_START, None),))
    found = planned(web(AFTER_COMPLETE), db, db_state(), asked())
    [(state, message)] = answers(found)
    assert (state, message) == ("done", "waits: db (after_complete): has never run")


def test_a_start_that_waits_for_what_is_under_way_and_not_acted_on_is_not_answered_yet() -> None:
    state = a_state(asked(), db_state(waiting(run_of(DB, "queued", job_id="db"))))
    found = plans(a_spec(web(), DB), state, NOW, judges_slots=False, acts_on={"web"})["web"]
    assert answers(found) == [("accepted", "waits: db (after_start): has not started: it is queued")]


def test_what_is_planned_for_later_is_not_under_way() -> None:
    ahead = waiting(run_of(MIGRATION, "queued", trigger="eta", not_before_at=later(60)))
    db = db_state(ahead, holds=(a_hold("pause", job_id="db"),))
    why = "has not started: it is paused"
    assert answers(planned(web(), MIGRATION, db, asked())) == [("done", f"waits: db (after_start): {why}")]
    # Also where nothing holds it back but the time.
    found = planned(web(), NIGHTLY, db_state(ahead), asked())
    assert answers(found) == [("done", "waits: db (after_start): has not started")]


def test_what_waits_for_its_turn_is_under_way() -> None:
    first = run_of(MIGRATION, "running", occasion="intent:1", started_at=None, attempts=0)
    own_turn = waiting(run_of(MIGRATION, "queued", occasion="intent:2"))
    db = db_state(with_process(first, MIGRATION, pid=None, exited_at=ago(1)), own_turn)
    [(state, _)] = answers(planned(web(), MIGRATION, db, asked()))
    assert state == "accepted"


def test_what_waits_behind_another_job_of_its_queue_is_under_way() -> None:
    db, other = changed(NIGHTLY, queue="q"), changed(a_job(queue="q"), id="other")
    taken = a_job_state(with_process(a_run("running", job_id="other")), id="other")
    found = plan(a_spec(web(), db, other), a_state(asked(), db_state(active(db, "queued")), taken), NOW)
    assert answers(found) == [("accepted", "waits: db (after_start): has not started: it is queued")]


def test_what_waits_for_its_next_attempt_is_under_way() -> None:
    retrying = active(NIGHTLY, "retrying", queued_at=ago(900), not_before_at=later(30))
    [(state, _)] = answers(planned(web(), NIGHTLY, db_state(retrying), asked()))
    assert state == "accepted"


def test_what_has_just_waited_too_long_and_begins_anew_is_under_way() -> None:
    service = changed(DB, delays=(0,), depends_on=(Dependency("absent", AFTER_START, 30),))
    gave_up = active(service, "queued", closed=(("dependency absent after_start", ago(30)),))
    [(state, _)] = answers(planned(web(), service, db_state(gave_up), asked()))
    assert state == "accepted"


def test_what_is_seen_to_have_ended_is_not_under_way() -> None:
    job, run = changed(NIGHTLY, retries=False), run_of(NIGHTLY, "running")
    state = db_state(ActiveRun(run, exited(an_attempt(run, job), 3)))
    why = "its newest run did not succeed: failed (exit code 3)"
    assert answers(planned(web(AFTER_COMPLETE), job, state, asked())) == [
        ("done", f"waits: db (after_complete): {why}")
    ]


def test_what_waits_for_something_that_is_under_way_is_under_way() -> None:
    deep = changed(a_job("continuous"), id="deep")
    db = changed(DB, depends_on=(Dependency("deep", AFTER_HEALTHY, None),))
    deep = changed(deep, check="exec")
    run = continuous_run(job_id="deep")
    state = a_state(asked(), db_state(active(db, "queued")), a_job_state(with_process(run, deep), id="deep"))
    [(answer, _)] = answers(plan(a_spec(web(), db, deep), state, NOW))
    assert answer == "accepted"


# --- a request's own pass ---


def acted_on(job: JobSpec, db: JobSpec, state: JobState, own: JobState, **fields: Any) -> set[str]:
    spec = a_spec(job, db)
    return set(
        plans(spec, a_state(own, state, **fields), NOW, judges_slots=False, acts_on={"web", "db"}, asked={"web"})
    )


def test_a_request_acts_on_what_it_waits_for_and_on_nothing_else() -> None:
    assert acted_on(web(), DB, db_state(), asked()) == {"web", "db"}
    assert acted_on(web(), DB, db_state(active(DB)), asked()) == {"web"}
    stop = a_job_state(id="web", intents=(an_intent("stop", job_id="web"),))
    assert acted_on(web(), DB, db_state(), stop) == {"web"}
    assert acted_on(web(type="continuous"), DB, db_state(), a_job_state(id="web")) == {"web", "db"}


def test_a_request_that_waits_for_room_in_the_home_acts_on_who_takes_it_up_and_who_goes_before() -> None:
    job, busy = changed(web(), depends_on=()), MIGRATION
    others = [changed(a_job(), id=name) for name in ("older", "equal")]
    own = a_run("queued", job_id="web", queued_at=ago(60))
    states = [a_job_state(waiting(own), id="web"), db_state(active(busy))]
    states += [
        a_job_state(waiting(a_run("queued", job_id=name, queued_at=ago(since))), id=name)
        for name, since in (("older", 90), ("equal", 60))
    ]
    spec = a_spec(job, busy, *others)
    spec = spec._replace(config=spec.config._replace(max_parallel=1))
    found = plans(spec, a_state(*states), NOW, judges_slots=False, acts_on=set(spec.jobs), asked={"web"})
    assert set(found) == {"web", "db", "older"}


def test_a_request_that_waits_for_its_turn_acts_on_who_has_it() -> None:
    job, db = changed(web(), depends_on=(), queue="q"), changed(MIGRATION, queue="q")
    assert acted_on(job, db, db_state(active(db)), asked()) == {"web", "db"}
    assert acted_on(job, db, db_state(), asked()) == {"web"}


def test_a_request_that_waits_for_its_turn_acts_on_who_goes_before_it_in_that_queue_and_in_no_other() -> None:
    jobs = [changed(a_job(queue=queue), id=name) for name, queue in (("web", "q"), ("first", "q"), ("older", "other"))]
    jobs.append(changed(MIGRATION, queue="q"))
    states = [
        a_job_state(waiting(a_run("queued", job_id=name, queued_at=ago(since))), id=name)
        for name, since in (("web", 60), ("first", 90), ("older", 120))
    ]
    state = a_state(*states, db_state(active(jobs[-1])))
    found = plans(a_spec(*jobs), state, NOW, judges_slots=False, acts_on={job.id for job in jobs}, asked={"web"})
    assert set(found) == {"web", "db", "first"}


# --- everything is stopped ---


def test_who_depends_on_another_is_stopped_before_it() -> None:
    job = web(type="continuous")
    spec = a_spec(job, DB)
    running = with_process(continuous_run(job_id="web"), job)
    state = a_state(
        a_job_state(running, id="web"),
        db_state(active(DB)),
        a_job_state(id=HOME, holds=HOME_HELD),
        home_holds=HOME_HELD,
    )
    found = plan(spec, state, NOW)
    assert [effect.attempt.job_id for effect in found.effects if not isinstance(effect, Start)] == ["web"]  # type: ignore[union-attr]
    assert [wait.detail for wait in found.waits if wait.job_id == "db"] == ["what depends on it is stopped first"]
    # Also where only the other is acted on, and where who needs it cannot be killed.
    only_db = plans(spec, state, NOW, judges_slots=False, acts_on={"db"})
    assert only_db["db"].effects == ()
    assert running.live is not None
    stuck = an_order(Reason.HOME_STOPPED, 60, signalled_ago=60, killed_ago=30, last_killed_ago=1)
    unkillable = running._replace(live=running.live._replace(attempt=running.live.attempt._replace(stop=stuck)))
    found = plan(spec, replace_job(state, a_job_state(unkillable, id="web")), NOW)
    assert "db" in [effect.attempt.job_id for effect in found.effects if not isinstance(effect, Start)]  # type: ignore[union-attr]


def replace_job(state: Any, job: JobState) -> Any:
    return state._replace(jobs={**state.jobs, job.id: job})


# --- as time goes on, or back ---


@pytest.mark.parametrize(
    ("started_at", "finished_at", "is_met"),
    [
        (ago(90), ago(61), False),
        (ago(90), ago(60), False),
        (ago(90), ago(59), True),
        (ago(60), ago(59), True),
        (ago(60), ago(60), True),
        (ago(90), None, False),
        (later(9000), ago(61), False),
        (later(9000), ago(1), True),
        (ago(10), ago(61), False),
    ],
    ids=[
        "before",
        "ended before, as was noticed then",
        "ended since",
        "all since",
        "all at that moment",
        "retrying since before",
        "under a clock set back since",
        "ended since that",
        "under a clock set back, and forward again since",
    ],
)
def test_after_start_holds_once_it_has_run_since_the_waiting_run_was_made(
    started_at: object, finished_at: object, is_met: bool
) -> None:
    times = {"job_id": "db", "started_at": started_at, "finished_at": finished_at}
    if finished_at is None:
        state = a_job_state(waiting(continuous_run("retrying", **times)), id="db")
    else:
        state = a_job_state(id="db", newest_finished=continuous_run("failed", **times))
    lack = lack_of(Dependency("db", AFTER_START, None), a_run("queued", queued_at=ago(60)), a_board(DB, states=[state]))
    assert (lack is None) is is_met


@pytest.mark.parametrize(("started_at", "is_met"), [(ago(90), False), (ago(30), True)], ids=["before", "since"])
@pytest.mark.parametrize("state", ["stopped", "revoked"])
def test_a_run_that_was_taken_back_ran_no_later_than_its_attempts(state: str, started_at: object, is_met: bool) -> None:
    # It may have been stopped while it waited, long after its last attempt was over.
    over = continuous_run(state, job_id="db", started_at=started_at, finished_at=ago(1))
    board = a_board(DB, states=[a_job_state(id="db", newest_finished=over)])
    lack = lack_of(Dependency("db", AFTER_START, None), a_run("queued", queued_at=ago(60)), board)
    assert (lack is None) is is_met


def test_a_stop_that_somebody_asks_for_is_no_run_of_what_waited_to_retry() -> None:
    retries = continuous_run("retrying", job_id="db", started_at=ago(90), not_before_at=later(5))
    use = changed(a_job(), id="use", depends_on=(Dependency("db", AFTER_START, None),))
    states = [
        a_job_state(waiting(retries), id="db", intents=(an_intent("stop", job_id="db"),)),
        a_job_state(waiting(a_run("queued", job_id="use", queued_at=ago(60))), id="use"),
    ]
    found = plan(a_spec(DB, use), a_state(*states), NOW)
    assert found.effects == ()
    assert [(wait.job_id, wait.detail) for wait in found.waits] == [
        ("use", "db (after_start): has not started: it is stopped")
    ]


@pytest.mark.parametrize("state", ["queued", "retrying"])
def test_nobody_waits_longer_for_a_dependency_because_the_clock_was_set_back(state: str) -> None:
    """A service that gave up waiting before waits to retry, without an attempt."""
    use = changed(a_job("continuous"), id="use", depends_on=(Dependency("absent", AFTER_START, 30),))
    gate = "dependency absent after_start"
    run = continuous_run(state, job_id="use", attempts=0, closed=((gate, later(3600)),), process_hash=use.process_hash)
    decided = plan(a_spec(use), a_state(a_job_state(waiting(run), id="use")), NOW)
    assert decided.writes == (run._replace(closed=((gate, NOW),)),)
    assert decided.wake_at == later(30)


def test_who_waits_for_a_run_that_gives_up_is_looked_at_again_at_once() -> None:
    fetch = changed(a_job(), id="fetch", depends_on=(Dependency("absent", Condition.AFTER_START, 30),))
    use = changed(a_job(), id="use", depends_on=(Dependency("fetch", Condition.AFTER_COMPLETE, None),))
    gate = "dependency absent after_start"
    first = a_run("queued", job_id="fetch", closed=((gate, ago(30)),))
    second = a_run("queued", job_id="use")
    states = [a_job_state(waiting(first), id="fetch"), a_job_state(waiting(second), id="use")]
    decided = plan(a_spec(fetch, use), a_state(*states), NOW)
    over = [write for write in decided.writes if isinstance(write, Run) and write.id == first.id]
    assert [(run.state, run.reason) for run in over] == [(RunState.FAILED, Reason.DEPENDENCY_TIMEOUT)]
    assert [wait.job_id for wait in decided.waits] == ["use"]
    assert decided.wake_at == NOW


def test_a_run_that_came_to_nothing_does_not_hide_that_the_job_has_run_since() -> None:
    began = continuous_run("failed", job_id="db", started_at=ago(50), finished_at=ago(40))
    came_to_nothing = a_run("expired", job_id="db", queued_at=ago(30))
    waiting_run = a_run("queued", queued_at=ago(60))
    for begun, is_met in ((began, True), (None, False)):
        state = a_job_state(id="db", newest_finished=came_to_nothing, newest_begun=begun)
        lack = lack_of(Dependency("db", AFTER_START, None), waiting_run, a_board(DB, states=[state]))
        assert (lack is None) is is_met


@pytest.mark.parametrize(("state", "is_met"), [("succeeded", True), ("failed", False)])
def test_a_plan_that_was_taken_back_does_not_undo_what_the_job_has_completed(state: str, is_met: bool) -> None:
    began = a_run(state, job_id="db", boot_id=BOOT, finished_at=ago(40))
    taken_back = a_run("stopped", job_id="db", trigger="eta", attempts=0, started_at=None, reason=Reason.CANCELLED)
    state_now = a_job_state(id="db", newest_finished=taken_back, newest_begun=began)
    board = a_board(changed(a_job(), id="db"), states=[state_now])
    lack = lack_of(Dependency("db", AFTER_COMPLETE, None), a_run("queued"), board)
    assert (lack is None) is is_met


@pytest.mark.parametrize(
    ("kind", "is_asked"), [("manual", True), ("continuous", False), ("scheduled", False), ("oneshot", False)]
)
def test_the_boot_is_asked_for_only_where_a_manual_job_is_depended_upon(kind: str, is_asked: bool) -> None:
    db, unconcerned = changed(a_job(kind), id="db"), changed(a_job("manual"), id="unconcerned")
    assert asks_for_boot(a_spec(web(), db, unconcerned)) is is_asked
    assert not asks_for_boot(a_spec(unconcerned))
    assert not asks_for_boot(a_spec(web()))  # what it names is not declared
