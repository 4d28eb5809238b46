"""What is decided about a job's runs: starts, waits, and ends, in rows that compare the whole plan.

Rows about slots are in test_slots, about attempts in test_attempts, about requests in test_requests.
"""

from dataclasses import replace
from typing import Any

import pytest

from procclaw.model.clock import to_microseconds
from procclaw.model.intents import IntentKind, IntentState
from procclaw.model.outside import LockSight, Process
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, HoldKind, HoldLifted, JobForgotten, Run, RunState
from procclaw.model.spec import Condition, Dependency, JobSpec, Lock, LockProvider
from procclaw.model.state import ActiveRun, JobState, Lack
from procclaw.planning.actions import Plan, Relaunch, Signal, Start, Wait
from procclaw.planning.plan import merged, plan, plan_home, plans
from tests.builders import (
    HOME_HELD,
    JOB,
    NOW,
    a_cursor,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_start,
    a_state,
    a_wait,
    accepted,
    ago,
    alive,
    an_attempt,
    an_intent,
    an_order,
    carried_out,
    changed,
    committed,
    continuous_run,
    done,
    ended,
    exited,
    in_line,
    later,
    over,
    planned,
    refused,
    slots_row,
    started,
    waiting,
    with_process,
)

CALM = Plan()
CHILD = Process(1234, 9999, "child")
ON_DB = Dependency("db", Condition.AFTER_START, None)
HOUR_AGO = ago(3600)


def starts(run: Run, job: JobSpec, reason: str, number: int = 1, instance: int = 0) -> Plan:
    """A plan that starts the run's next attempt and does nothing else."""
    return Plan(writes=(started(run, job),), effects=(a_start(run, job, reason, number, instance),))


def waits(reason: Reason, run: Run | None = None, detail: str = "", **fields: Any) -> Plan:
    """A plan that only waits."""
    wait = a_wait(reason, run, detail, **fields)
    return Plan(waits=(wait,), wake_at=wait.until)


# --- what is wanted running ---


def the_first_run() -> Run:
    return continuous_run("queued", queued_at=NOW)


def the_run_after(last: Run) -> Run:
    return continuous_run("queued", occasion=f"continuous:{last.id}", queued_at=NOW)


SERVICE = a_job("continuous")
FAILED = continuous_run("failed")
ENDED_WELL = continuous_run("succeeded")
STOPPED = continuous_run("stopped")
EDITED = changed(SERVICE, process_hash="edited")

WANTING: list[tuple[str, JobSpec, JobState, Plan]] = [
    ("a manual job runs when asked", a_job(), a_job_state(), CALM),
    (
        "a continuous job is wanted running from its first sight",
        SERVICE,
        a_job_state(),
        starts(the_first_run(), SERVICE, "wanted running"),
    ),
    (
        "a continuous job that runs needs nothing",
        SERVICE,
        a_job_state(with_process(continuous_run(), SERVICE)),
        CALM,
    ),
    ("a disabled one is not wanted", changed(SERVICE, enabled=False), a_job_state(), CALM),
    (
        "a stopped one waits for a start",
        SERVICE,
        a_job_state(holds=(a_hold("stop"),)),
        waits(Reason.STOPPED, detail="by alice", since=HOUR_AGO),
    ),
    (
        "a paused one waits for a resume",
        SERVICE,
        a_job_state(holds=(a_hold("pause"),)),
        waits(Reason.PAUSED, detail="by alice", since=HOUR_AGO),
    ),
    (
        "a revoked one waits, and that is told before its pause and its stop",
        SERVICE,
        a_job_state(holds=(a_hold("stop"), a_hold("pause"), a_hold("revoke"))),
        waits(Reason.REVOKED, detail="by alice", since=HOUR_AGO),
    ),
    (
        "a failed one stays down",
        SERVICE,
        a_job_state(newest_finished=FAILED),
        CALM,
    ),
    (
        "a failed one is revived by a change its process can see",
        EDITED,
        a_job_state(newest_finished=FAILED),
        starts(the_run_after(FAILED)._replace(process_hash="edited"), EDITED, "wanted running"),
    ),
    (
        "a failed one is not revived by any other change",
        changed(SERVICE, timeout=10, restart="on_failure", grace=3),
        a_job_state(newest_finished=FAILED),
        CALM,
    ),
    (
        "one that ended well and is not to be restarted rests",
        changed(SERVICE, restart="on_failure"),
        a_job_state(newest_finished=ENDED_WELL),
        CALM,
    ),
    (
        "one that ended well is started again for a change its process can see",
        changed(EDITED, restart="on_failure"),
        a_job_state(newest_finished=ENDED_WELL),
        starts(
            the_run_after(ENDED_WELL)._replace(process_hash="edited"),
            changed(EDITED, restart="on_failure"),
            "wanted running",
        ),
    ),
    (
        "one that was stopped by something that is over starts again",
        SERVICE,
        a_job_state(newest_finished=STOPPED),
        starts(the_run_after(STOPPED), SERVICE, "wanted running"),
    ),
    (
        "runs of the time before it was continuous leave nothing at rest",
        SERVICE,
        a_job_state(newest_finished=a_run("succeeded")),
        starts(the_run_after(a_run("succeeded")), SERVICE, "wanted running"),
    ),
    (
        "it waits for the last run of the time before it was continuous",
        SERVICE,
        a_job_state(with_process(a_run("running"))),
        CALM,
    ),
    (
        "a stop outlives an edit",
        EDITED,
        a_job_state(holds=(a_hold("stop"),), newest_finished=FAILED),
        waits(Reason.STOPPED, detail="by alice", since=HOUR_AGO),
    ),
    (
        "a stop of the time before it was manual does not bind a manual job",
        a_job(),
        a_job_state(waiting(a_run("queued")), holds=(a_hold("stop"),)),
        starts(a_run("queued"), a_job(), "asked for"),
    ),
]


@pytest.mark.parametrize(
    ("job", "state", "wanted"), [row[1:] for row in WANTING], ids=[row[0].replace(" ", "-") for row in WANTING]
)
def test_what_is_wanted_is_started_unless_something_stands_against_it(
    job: JobSpec, state: JobState, wanted: Plan
) -> None:
    assert planned(job, state) == wanted


def test_a_home_that_was_stopped_starts_nothing() -> None:
    wait = waits(Reason.HOME_STOPPED, detail="everything was stopped by alice", since=HOUR_AGO)
    assert planned(SERVICE, a_job_state(), home_holds=HOME_HELD) == wait


# --- waiting for the next attempt ---

HOW = "signal 9"
RETRY_DETAIL = "attempt 1 ended (signal 9), attempt 2 follows"


@pytest.mark.parametrize("within", [0.001, 20])
def test_before_its_delay_is_over_a_run_waits(within: float) -> None:
    run = a_run("retrying", failures=2, not_before_at=later(within), detail=HOW)
    assert planned(a_job(), a_job_state(waiting(run))) == waits(
        Reason.RETRY_DELAY, run, RETRY_DETAIL, until=later(within)
    )


@pytest.mark.parametrize("since", [0, 0.001, 5000])
def test_when_its_delay_is_over_the_next_attempt_of_the_same_run_starts(since: float) -> None:
    run = a_run("retrying", not_before_at=ago(since))
    assert planned(a_job(), a_job_state(waiting(run))) == starts(run, a_job(), "attempt 2 after 1 failed", 2)


def test_a_paused_service_that_ends_is_not_started_again() -> None:
    job = a_job("continuous", delays=(0,))
    run = continuous_run()
    attempt = an_attempt(run, job)
    state = a_job_state(ActiveRun(run, exited(attempt, 1)), holds=(a_hold("pause"),))
    again = run._replace(
        state=RunState.RETRYING, failures=1, restarts=1, exit_code=1, detail="exit code 1", not_before_at=NOW
    )
    assert planned(job, state) == Plan(
        writes=(again, ended(attempt, Reason.EXITED, 1)),
        waits=(a_wait(Reason.PAUSED, run, "by alice", HOUR_AGO),),
    )


@pytest.mark.parametrize("kind", ["pause", "revoke"])
def test_a_retry_waits_while_its_job_is_held(kind: str) -> None:
    run = a_run("retrying", not_before_at=ago(5))
    reason = Reason.PAUSED if kind == "pause" else Reason.REVOKED
    state = a_job_state(waiting(run), holds=(a_hold(kind),))
    assert planned(a_job(), state) == waits(reason, run, "by alice", since=HOUR_AGO)


def test_what_procclaw_lacks_holds_a_start_back_and_fails_nothing() -> None:
    run = a_run("queued")
    lack = Lack(Reason.NO_DISK, "no space left", later(5))
    assert planned(a_job(), a_job_state(waiting(run)), lack=lack) == waits(
        Reason.NO_DISK, run, "no space left", until=later(5)
    )


@pytest.mark.parametrize("retry_at", [NOW, ago(1), later(61)], ids=["over", "long over", "of a clock set back since"])
def test_a_start_is_tried_again_once_the_lack_may_be_over(retry_at: Any) -> None:
    run = a_run("queued")
    lack = Lack(Reason.NO_RESOURCES, "too many processes", retry_at)
    assert planned(a_job(), a_job_state(waiting(run)), lack=lack) == starts(run, a_job(), "asked for")


@pytest.mark.parametrize("trigger", ["schedule", "catch_up"])
@pytest.mark.parametrize("state", ["queued", "retrying"])
def test_a_disabled_job_starts_nothing_of_its_own_accord(trigger: str, state: str) -> None:
    run = a_run(state, trigger=trigger, slot=ago(60))
    job = a_job("scheduled", enabled=False)
    cursor = a_cursor(job, ago(60), None)
    assert planned(job, a_job_state(waiting(run), cursor=cursor)) == waits(
        Reason.DISABLED, run, "disabled in jobs.yaml"
    )


def test_a_disabled_job_still_starts_when_a_person_wants_it() -> None:
    run = a_run("queued", despite_disabled=True)
    job = a_job(enabled=False)
    assert planned(job, a_job_state(waiting(run))) == starts(run, job, "asked for")


def test_a_retry_does_not_wait_longer_because_the_clock_was_set_back() -> None:
    run = a_run("retrying", failures=2, not_before_at=later(86400), detail=HOW)
    moved = run._replace(not_before_at=later(30))
    assert planned(a_job(), a_job_state(waiting(run))) == Plan(
        writes=(moved,), waits=(a_wait(Reason.RETRY_DELAY, run, RETRY_DETAIL, until=later(30)),), wake_at=later(30)
    )


def test_what_was_asked_for_before_the_clock_was_set_back_starts_now() -> None:
    run = a_run("queued", queued_at=later(86400))
    moved = run._replace(queued_at=NOW, not_before_at=NOW)
    assert planned(a_job(), a_job_state(waiting(run))) == starts(moved, a_job(), "asked for")


def test_a_jitter_does_not_grow_because_the_clock_was_set_back() -> None:
    run = a_run("queued", slot=later(86400), not_before_at=later(86410))
    moved = run._replace(queued_at=NOW, not_before_at=later(10))
    job = a_job("scheduled", jitter=60)
    state = a_job_state(waiting(run), cursor=a_cursor(job, NOW, later(3600)))
    assert planned(job, state) == Plan(
        writes=(moved,), waits=(a_wait(Reason.JITTER, run, "its jitter", NOW, later(10)),), wake_at=later(10)
    )


# --- waiting for a place ---

TWO_AT_ONCE = a_job(max_instances=2)


def a_queue(*runs: ActiveRun) -> JobState:
    return a_job_state(*runs)


def numbered(number: int, state: str = "queued", **fields: Any) -> Run:
    return a_run(state, occasion=f"intent:{number}@{to_microseconds(NOW)}", **fields)


def test_a_run_beyond_the_limit_begins_to_wait_for_a_place() -> None:
    first, second = numbered(1, "running"), numbered(2)
    noted = second._replace(closed=in_line(NOW))
    detail = "1 of at most 1 running"
    assert planned(a_job(), a_queue(with_process(first), waiting(second))) == Plan(
        writes=(noted,), waits=(a_wait(Reason.MAX_INSTANCES, second, detail, NOW),), wake_at=later(300)
    )


@pytest.mark.parametrize(("waited", "is_expired"), [(299.999, False), (300, True), (5000, True)])
def test_a_run_gives_up_when_it_has_waited_for_a_place_too_long(waited: float, is_expired: bool) -> None:
    first, second = numbered(1, "running"), numbered(2, closed=in_line(ago(waited)))
    detail = "1 of at most 1 running"
    found = planned(a_job(), a_queue(with_process(first), waiting(second)))
    if is_expired:
        assert found == Plan(writes=(over(second, "expired", Reason.QUEUE_TIMEOUT, detail=detail),))
    else:
        wait = a_wait(Reason.MAX_INSTANCES, second, detail, ago(waited))
        assert found == Plan(waits=(wait,), wake_at=later(300 - waited))


@pytest.mark.parametrize(
    "run",
    [
        numbered(2, "retrying", closed=in_line(ago(5000))),
        numbered(2, trigger="catch_up", closed=in_line(ago(5000))),
    ],
    ids=["a retry", "a slot made up for"],
)
def test_some_runs_wait_as_long_as_it_takes(run: Run) -> None:
    found = planned(a_job(), a_queue(with_process(numbered(1, "running")), waiting(run)))
    assert found == waits(Reason.MAX_INSTANCES, run, "1 of at most 1 running", since=ago(5000))


def test_waiting_for_anything_but_a_place_does_not_count() -> None:
    first, second = numbered(1, "running"), numbered(2, closed=in_line(ago(299)))
    state = a_queue(with_process(first), waiting(second))._replace(holds=(a_hold("pause"),))
    assert planned(a_job(), state) == Plan(
        writes=(second._replace(closed=()),),
        waits=(a_wait(Reason.PAUSED, second, "by alice", HOUR_AGO),),
    )


def test_a_run_that_gives_up_makes_room_at_once_for_what_its_job_has_become_since() -> None:
    run = a_run("queued", closed=in_line(ago(300)))
    another = with_process(numbered(2, "running"), SERVICE)
    found = planned(SERVICE, a_queue(another, waiting(run)))
    assert over(run, "expired", Reason.QUEUE_TIMEOUT, detail="1 of at most 1 running") in found.writes
    assert found.wake_at == NOW


A_LOCK = Lock("a lock", LockProvider.FILE, None, 10)


def test_a_run_that_waits_for_its_lock_remembers_who_has_it() -> None:
    job, run = a_job(lock=A_LOCK), numbered(1)
    state = a_job_state(waiting(run), lock=LockSight(is_free=False, holder="other (run x)"))
    noted = run._replace(closed=(("lock", NOW), ("held by other (run x)", NOW)))
    assert planned(job, state) == Plan(
        writes=(noted,),
        waits=(a_wait(Reason.LOCK, run, "lock a lock: held by other (run x)", NOW),),
        wake_at=later(1),
    )


def test_the_limit_of_a_lock_does_not_count_while_a_run_waits_for_a_place() -> None:
    job = a_job(lock=A_LOCK)
    first, second = numbered(1, "running"), numbered(2, closed=in_line(ago(20)))
    found = planned(job, a_queue(with_process(first, job), waiting(second)))
    wait = a_wait(Reason.MAX_INSTANCES, second, "1 of at most 1 running", ago(20))
    assert found == Plan(waits=(wait,), wake_at=later(280))


def test_the_oldest_takes_the_place_that_becomes_free() -> None:
    ended_run, second, third = numbered(1, "running"), numbered(2), numbered(3)
    attempt = an_attempt(ended_run)
    found = planned(a_job(), a_queue(ActiveRun(ended_run, exited(attempt)), waiting(second), waiting(third)))
    assert found == Plan(
        writes=(
            over(ended_run, "succeeded", Reason.FINISHED, exit_code=0),
            started(second),
            third._replace(closed=in_line(NOW)),
            ended(attempt, Reason.EXITED, 0),
        ),
        effects=(a_start(second, a_job(), "asked for"),),
        waits=(a_wait(Reason.MAX_INSTANCES, third, "1 of at most 1 running", NOW),),
        wake_at=later(300),
    )


def test_as_many_run_at_once_as_are_allowed_each_in_a_place_of_its_own() -> None:
    first, second, third = numbered(1, "running"), numbered(2), numbered(3)
    found = planned(TWO_AT_ONCE, a_queue(with_process(first, TWO_AT_ONCE), waiting(second), waiting(third)))
    assert found == Plan(
        writes=(started(second), third._replace(closed=in_line(NOW))),
        effects=(a_start(second, TWO_AT_ONCE, "asked for", instance=1),),
        waits=(a_wait(Reason.MAX_INSTANCES, third, "2 of at most 2 running", NOW),),
        wake_at=later(300),
    )


def test_the_lowest_free_place_is_taken() -> None:
    first, second = numbered(1, "running"), numbered(2)
    state = a_queue(with_process(first, TWO_AT_ONCE, instance=1), waiting(second))
    assert planned(TWO_AT_ONCE, state) == starts(second, TWO_AT_ONCE, "asked for", instance=0)


def test_two_starts_in_one_plan_take_different_places() -> None:
    found = planned(TWO_AT_ONCE, a_queue(waiting(numbered(1)), waiting(numbered(2))))
    assert found.effects == (
        a_start(numbered(1), TWO_AT_ONCE, "asked for", instance=0),
        a_start(numbered(2), TWO_AT_ONCE, "asked for", instance=1),
    )


def test_what_an_attempt_left_behind_keeps_its_place_until_it_is_gone() -> None:
    first, second = numbered(1, "running"), numbered(2, closed=in_line(ago(10)))
    swept = an_attempt(first, exited_at=ago(5), exit_code=0, stop=an_order(Reason.LEFTOVERS, 5, signalled_ago=5))
    child = exited(swept, 0, CHILD)
    found = planned(a_job(), a_queue(ActiveRun(first, child), waiting(second)))
    assert found.effects == ()
    assert [wait.reason for wait in found.waits] == [Reason.MAX_INSTANCES, Reason.STOPPING]


def test_a_continuous_job_has_one_process_whatever_its_limit_says() -> None:
    job = a_job("continuous", max_instances=5)
    state = a_job_state(with_process(continuous_run(), job), waiting(numbered(2, trigger="continuous")))
    found = planned(job, state)
    assert [write.reason for write in found.writes if isinstance(write, Run)] == [Reason.RESTORED]
    assert found.effects == ()


# --- what should be no more ---


def stop_ordered(run: Run, job: JobSpec, reason: Reason, grace: float = 60) -> Plan:
    """A plan that ends the run and tells its process so."""
    ordered = an_attempt(run, job, stop=an_order(reason))
    return Plan(
        writes=(run._replace(ending=reason), ordered),
        effects=(Signal(ordered, None, 15, is_kill=False, reason=reason),),
        waits=(a_wait(Reason.STOPPING, run, reason.replace("_", " "), NOW, later(grace)),),
        wake_at=later(grace),
    )


UNWANTED: list[tuple[str, JobSpec, JobSpec | None, Reason]] = [
    ("a change its process can see", SERVICE, EDITED, Reason.CHANGED),
    ("being disabled", SERVICE, changed(SERVICE, enabled=False), Reason.DISABLED),
    ("no longer being continuous", SERVICE, a_job(), Reason.CHANGED),
    ("its removal", SERVICE, None, Reason.REMOVED),
]


@pytest.mark.parametrize(
    ("before", "after", "reason"), [row[1:] for row in UNWANTED], ids=[row[0].replace(" ", "-") for row in UNWANTED]
)
def test_a_continuous_job_is_stopped_by(before: JobSpec, after: JobSpec | None, reason: Reason) -> None:
    run = continuous_run()
    state = a_job_state(with_process(run, before))
    assert planned(after, state) == stop_ordered(run, before, reason)


KEPT = [
    changed(SERVICE, restart="never"),
    changed(SERVICE, timeout=1, grace=1, signal=2, success_exit_codes=(0, 3)),
    changed(SERVICE, delays=(1,), max_attempts=None),
    changed(SERVICE, name="other", tags=("a",), description="d"),
]


@pytest.mark.parametrize("after", KEPT)
def test_a_change_its_process_cannot_see_keeps_the_pid(after: JobSpec) -> None:
    assert planned(after, a_job_state(with_process(continuous_run(), SERVICE))) == CALM


@pytest.mark.parametrize("kind", ["manual", "scheduled", "oneshot"])
def test_a_run_that_ends_by_itself_finishes_as_it_began(kind: str) -> None:
    before = a_job(kind, enabled=False)
    run = a_run("running", despite_disabled=True)
    cursor = a_cursor(before, ago(60), None)
    state = a_job_state(with_process(run, before), cursor=cursor)
    assert planned(changed(before, process_hash="edited"), state) == CALM


@pytest.mark.parametrize("kind", ["manual", "scheduled", "oneshot"])
def test_disabling_a_job_that_ends_by_itself_leaves_what_runs_alone(kind: str) -> None:
    job = a_job(kind, enabled=False)
    state = a_job_state(with_process(a_run("running", slot=ago(60)), job), cursor=a_cursor(job, ago(60), None))
    assert planned(job, state) == CALM


def test_later_attempts_use_the_new_text() -> None:
    run = a_run("retrying")
    edited = a_job(process_hash="edited", timeout=7)
    assert planned(edited, a_job_state(waiting(run))) == starts(run, edited, "attempt 2 after 1 failed", 2)


def test_a_waiting_run_starts_with_the_text_as_it_is_then() -> None:
    edited = a_job(process_hash="edited", grace=3)
    assert planned(edited, a_job_state(waiting(a_run("queued")))) == starts(a_run("queued"), edited, "asked for")


def test_a_service_that_a_person_started_although_it_is_disabled_is_kept_running() -> None:
    job = changed(SERVICE, enabled=False)
    run = continuous_run(despite_disabled=True)
    attempt = an_attempt(run, job)
    again = run._replace(failures=1, restarts=1, exit_code=1, detail="exit code 1", not_before_at=NOW)
    assert planned(job, a_job_state(ActiveRun(run, exited(attempt, 1)))) == Plan(
        writes=(started(again, job), ended(attempt, Reason.EXITED, 1)),
        effects=(a_start(run, job, "attempt 2 after 1 failed", 2),),
    )


def test_a_process_that_a_person_started_although_the_job_is_disabled_goes_on() -> None:
    job = changed(SERVICE, enabled=False)
    run = continuous_run(despite_disabled=True)
    assert planned(job, a_job_state(with_process(run, job))) == CALM


def test_once_the_job_is_enabled_again_disabling_it_stops_it() -> None:
    run = continuous_run(despite_disabled=True)
    enabled = planned(SERVICE, a_job_state(with_process(run, SERVICE)))
    assert enabled == Plan(writes=(run._replace(despite_disabled=False),))


def test_a_change_revives_a_continuous_job_that_waits_to_retry() -> None:
    run = continuous_run("retrying", failures=3, not_before_at=later(500))
    fresh = run._replace(failures=0, not_before_at=NOW, process_hash="edited")
    assert planned(EDITED, a_job_state(waiting(run))) == starts(fresh, EDITED, "attempt 2", 2)


def test_a_change_of_what_waits_to_retry_is_noticed_once_also_where_it_may_not_start() -> None:
    run = continuous_run("retrying", failures=3, not_before_at=later(500))
    lack = Lack(Reason.NO_DISK, "no space left", later(5))
    fresh = run._replace(failures=0, not_before_at=NOW, process_hash="edited")
    wait = a_wait(Reason.NO_DISK, run, "no space left", until=later(5))
    found = planned(EDITED, a_job_state(waiting(run)), lack=lack)
    assert found == Plan(writes=(fresh,), waits=(wait,), wake_at=later(5))
    assert planned(EDITED, a_job_state(waiting(fresh)), lack=lack) == Plan(waits=(wait,), wake_at=later(5))


def test_any_other_change_leaves_its_delay_alone() -> None:
    run = continuous_run("retrying", failures=3, not_before_at=later(50), detail=HOW)
    assert planned(changed(SERVICE, timeout=5), a_job_state(waiting(run))) == waits(
        Reason.RETRY_DELAY, run, RETRY_DETAIL, until=later(50)
    )


def test_the_changed_job_starts_as_soon_as_the_old_process_is_gone() -> None:
    run = continuous_run(ending=Reason.CHANGED)
    attempt = an_attempt(run, SERVICE, stop=an_order(Reason.CHANGED, 3, signalled_ago=3))
    stopped = over(run, "stopped", Reason.CHANGED, exit_code=143)
    fresh = the_run_after(stopped)._replace(process_hash="edited")
    assert planned(EDITED, a_job_state(ActiveRun(run, exited(attempt, 143)))) == Plan(
        writes=(stopped, started(fresh, EDITED), ended(attempt, Reason.CHANGED, 143)),
        effects=(a_start(fresh, EDITED, "wanted running"),),
    )


@pytest.mark.parametrize("run", [a_run("queued"), a_run("retrying"), continuous_run("retrying")])
def test_removing_a_job_cancels_what_waits_and_forgets_its_holds(run: Run) -> None:
    state = a_job_state(waiting(run), holds=(a_hold("pause"),))
    assert planned(None, state) == Plan(writes=(over(run, "stopped", Reason.REMOVED), JobForgotten(JOB)))


def test_a_removed_job_is_remembered_until_its_process_is_gone() -> None:
    run = a_run("running")
    state = a_job_state(with_process(run), holds=(a_hold("pause"),))
    assert planned(None, state) == stop_ordered(run, a_job(), Reason.REMOVED)


def test_of_a_removed_job_what_runs_is_stopped_while_what_has_ended_is_over() -> None:
    gone, alive_still = numbered(1, "running"), numbered(2, "running")
    attempt = an_attempt(gone, TWO_AT_ONCE)
    found = planned(None, a_job_state(ActiveRun(gone, exited(attempt)), with_process(alive_still, TWO_AT_ONCE)))
    stop = stop_ordered(alive_still, TWO_AT_ONCE, Reason.REMOVED)
    assert found.effects == stop.effects
    assert over(gone, "succeeded", Reason.FINISHED, exit_code=0) in found.writes


def test_a_removed_job_of_which_nothing_is_left_is_forgotten_once() -> None:
    job = a_job("scheduled")
    state = a_state(a_job_state(cursor=a_cursor(job, ago(60), later(3600)), newest_finished=a_run("succeeded")))
    found = plan(a_spec(), state, NOW)
    assert found == Plan(writes=(JobForgotten(JOB),))
    assert plan(a_spec(), carried_out(state, found, NOW), NOW) == CALM


def test_slots_of_a_removed_job_that_came_due_before_this_was_noticed_are_accounted_for() -> None:
    job = a_job("scheduled")
    state = a_job_state(cursor=a_cursor(job, ago(3 * 3600), ago(2 * 3600)))
    assert planned(None, state) == Plan(
        writes=(slots_row(ago(7200), "skipped", Reason.REMOVED, last=NOW, total=3), JobForgotten(JOB))
    )


def test_a_slot_that_comes_due_as_its_job_is_removed_is_accounted_for() -> None:
    state = a_job_state(cursor=a_cursor(a_job("scheduled"), ago(60), NOW))
    assert planned(None, state).writes == (slots_row(NOW, "skipped", Reason.REMOVED), JobForgotten(JOB))


def test_a_pass_for_a_request_alone_forgets_no_job() -> None:
    state = a_state(a_job_state(cursor=a_cursor(a_job("scheduled"), ago(60), ago(30))))
    assert plan(a_spec(), state, NOW, judges_slots=False) == CALM


# --- the home as a whole ---


def a_home(*intents: Any, held: bool = False) -> JobState:
    return a_job_state(id=HOME, intents=intents, holds=HOME_HELD if held else ())


def home_plan(home: JobState, *jobs: JobState, job: JobSpec = SERVICE, held: bool = False) -> Plan:
    return plan(a_spec(job), a_state(home, *jobs, home_holds=HOME_HELD if held else ()), NOW)


def about_home(kind: str, **fields: Any) -> Any:
    return an_intent(kind, job_id=HOME, **fields)


def test_stopping_everything_is_a_hold_of_the_home() -> None:
    hold = a_hold("stop", NOW, job_id=HOME)
    intent = about_home("hold_home")
    assert home_plan(a_home(intent)) == Plan(writes=(hold, done(intent, "nothing is left running")))


def test_stopping_everything_ends_the_runs_in_the_same_plan() -> None:
    intent = about_home("hold_home")
    run = continuous_run()
    stop = stop_ordered(run, SERVICE, Reason.HOME_STOPPED)
    written = (a_hold("stop", NOW, job_id=HOME), intent._replace(state=IntentState.ACCEPTED))
    found = home_plan(a_home(intent), a_job_state(with_process(run, SERVICE)))
    assert found == replace(stop, writes=(*stop.writes, *written))


@pytest.mark.parametrize("kind", ["manual", "continuous"])
def test_a_home_that_was_stopped_ends_every_run(kind: str) -> None:
    job = a_job(kind)
    run = a_run("running", trigger="continuous" if kind == "continuous" else "manual")
    found = planned(job, a_job_state(with_process(run, job)), home_holds=HOME_HELD)
    assert found == stop_ordered(run, job, Reason.HOME_STOPPED)


def test_a_waiting_slot_of_a_home_that_was_stopped_did_not_run() -> None:
    run = a_run("queued", slot=ago(60))
    job = a_job("scheduled")
    state = a_job_state(waiting(run), cursor=a_cursor(job, ago(60), later(3600)))
    assert planned(job, state, home_holds=HOME_HELD).writes == (
        over(run, "stopped", Reason.HOME_STOPPED),
        slots_row(ago(60), "skipped", Reason.HOME_STOPPED, run=run),
    )


def test_whoever_stopped_everything_is_answered_when_the_last_process_has_ended() -> None:
    run = continuous_run(ending=Reason.HOME_STOPPED)
    attempt = an_attempt(run, SERVICE, stop=an_order(Reason.HOME_STOPPED, 3, signalled_ago=3))
    intent = accepted("hold_home", job_id=HOME)
    answer = done(intent, "nothing is left running")
    runs_on = home_plan(a_home(intent, held=True), a_job_state(ActiveRun(run, alive(attempt))), held=True)
    assert answer not in runs_on.writes
    gone = home_plan(a_home(intent, held=True), a_job_state(ActiveRun(run, exited(attempt, 143))), held=True)
    assert answer in gone.writes


def test_whoever_stopped_everything_is_told_what_cannot_be_killed() -> None:
    run = continuous_run(ending=Reason.HOME_STOPPED)
    order = an_order(Reason.HOME_STOPPED, 90, signalled_ago=90, killed_ago=10, last_killed_ago=0)
    state = a_job_state(ActiveRun(run, alive(an_attempt(run, SERVICE, stop=order), CHILD)))
    intent = accepted("hold_home", job_id=HOME)
    told = refused(intent, "cannot stop everything: killed, but still there: job: 1234 (child)")
    assert told in home_plan(a_home(intent, held=True), state, held=True).writes


def test_whoever_stopped_everything_is_told_of_all_that_cannot_be_killed_by_name_of_the_job() -> None:
    order = an_order(Reason.HOME_STOPPED, 90, signalled_ago=90, killed_ago=10, last_killed_ago=0)
    runs = [continuous_run(job_id=name, ending=Reason.HOME_STOPPED) for name in ("b", "a")]
    stuck = [
        a_job_state(ActiveRun(run, alive(an_attempt(run, SERVICE, stop=order), CHILD)), id=run.job_id) for run in runs
    ]
    intent = accepted("hold_home", job_id=HOME)
    what = "a: 1234 (child); b: 1234 (child)"
    told = refused(intent, f"cannot stop everything: killed, but still there: {what}")
    jobs = [SERVICE._replace(id=run.job_id) for run in runs]
    assert told in plan(a_spec(*jobs), a_state(a_home(intent, held=True), *stuck, home_holds=HOME_HELD), NOW).writes


def test_whoever_stopped_everything_is_not_kept_waiting_by_what_is_planned_for_later() -> None:
    planned_run = a_run("queued", trigger="eta", not_before_at=later(60))
    intent = accepted("hold_home", job_id=HOME)
    found = home_plan(a_home(intent, held=True), a_job_state(waiting(planned_run)), job=a_job(), held=True)
    assert done(intent, "nothing is left running") in found.writes


@pytest.mark.parametrize(("force", "killed"), [(False, []), (True, ["db", "job"])])
def test_everything_is_killed_at_once_where_it_is_stopped_by_force(force: bool, killed: list[str]) -> None:
    service, web = SERVICE._replace(id="db"), a_job("continuous", depends_on=(ON_DB,))
    # One has been told to go and takes its time, the other is needed by it.
    run, needed = continuous_run(ending=Reason.HOME_STOPPED), continuous_run(job_id="db")
    told = an_attempt(run, web, stop=an_order(Reason.HOME_STOPPED, 3, signalled_ago=3))
    state = a_state(
        a_home(accepted("hold_home", job_id=HOME, force=force), held=True),
        a_job_state(ActiveRun(run, alive(told, CHILD))),
        a_job_state(with_process(needed, service), id="db"),
        home_holds=HOME_HELD,
    )
    effects = plan(a_spec(service, web), state, NOW).effects
    assert sorted(each.attempt.job_id for each in effects if isinstance(each, Signal) and each.is_kill) == killed


def test_a_job_is_stopped_in_the_plan_that_sees_the_last_process_end_that_depended_on_it() -> None:
    service, web = SERVICE._replace(id="db"), a_job("continuous", depends_on=(ON_DB,))
    run, needed = continuous_run(), continuous_run(job_id="db")
    state = a_state(
        a_job_state(ActiveRun(run, exited(an_attempt(run, web), 0))),
        a_job_state(with_process(needed, service), id="db"),
        home_holds=HOME_HELD,
    )
    found = plan(a_spec(web, service), state, NOW)
    ordered = an_attempt(needed, service, stop=an_order(Reason.HOME_STOPPED))
    assert found.effects == (Signal(ordered, None, 15, is_kill=False, reason=Reason.HOME_STOPPED),)


def test_until_then_it_goes_on_and_says_what_for() -> None:
    service, web = SERVICE._replace(id="db"), a_job("continuous", depends_on=(ON_DB,))
    run, needed = continuous_run(), continuous_run(job_id="db")
    state = a_state(
        a_job_state(with_process(run, web)), a_job_state(with_process(needed, service), id="db"), home_holds=HOME_HELD
    )
    found = plans(a_spec(web, service), state, NOW)["db"]
    what = Wait("db", needed.id, Reason.STOPPING, "what depends on it is stopped first", None, None)
    assert found == Plan(waits=(what,))


def test_a_process_whose_job_is_no_longer_declared_depends_on_nothing_when_everything_is_stopped() -> None:
    run = continuous_run()
    found = planned(None, a_job_state(with_process(run, SERVICE)), home_holds=HOME_HELD)
    assert found == stop_ordered(run, SERVICE, Reason.REMOVED)


def test_releasing_the_home_starts_what_is_wanted_in_the_same_plan() -> None:
    intent = about_home("release_home")
    start = starts(the_first_run(), SERVICE, "wanted running")
    lifted = (HoldLifted(HOME, HoldKind.STOP), done(intent, "released"))
    found = home_plan(a_home(intent, held=True), a_job_state(), held=True)
    assert found == replace(start, writes=(*start.writes, *lifted))


def test_a_stop_of_everything_that_was_released_meanwhile_is_not_waited_for() -> None:
    intent = accepted("hold_home", job_id=HOME)
    told = refused(intent, "cannot stop everything: released meanwhile")
    assert home_plan(a_home(intent)) == Plan(writes=(told,))


def test_requests_of_the_home_are_answered_where_no_job_is_known() -> None:
    look, hold = about_home("look"), about_home("hold_home", id=2)
    assert plan_home(a_state(a_home(look, hold)), NOW) == Plan(
        writes=(
            a_hold("stop", NOW, job_id=HOME),
            done(look, "looked at everything"),
            done(hold, "nothing is left running"),
        )
    )


def test_looking_is_answered_once_everything_has_been_looked_at() -> None:
    intent = about_home("look")
    assert home_plan(a_home(intent)) == Plan(writes=(done(intent, "looked at everything"),))


@pytest.mark.parametrize("kind", [kind for kind in IntentKind if not kind.endswith("home") and kind != "look"])
def test_a_request_that_needs_a_job_is_refused_for_the_home(kind: str) -> None:
    intent = about_home(kind)
    assert home_plan(a_home(intent)) == Plan(writes=(refused(intent, f"{kind} needs a job"),))


# --- several jobs ---


def test_the_plan_does_not_depend_on_the_order_of_the_jobs() -> None:
    jobs = [SERVICE._replace(id=name) for name in ("b", "a", "c")]
    forwards = a_state(*(a_job_state(id=job.id) for job in jobs))
    backwards = a_state(*(a_job_state(id=job.id) for job in reversed(jobs)))
    assert plan(a_spec(*jobs), forwards, NOW) == plan(a_spec(*reversed(jobs)), backwards, NOW)


def test_each_job_has_a_plan_and_a_wake_time_of_its_own() -> None:
    jobs = [a_job()._replace(id=name) for name in ("a", "b", "c")]
    runs = [a_run("retrying", job_id=job.id, failures=2, not_before_at=later(20 - n)) for n, job in enumerate(jobs[:2])]
    state = a_state(*(a_job_state(waiting(run), id=run.job_id) for run in runs), a_job_state(id="c"))
    found = plans(a_spec(*jobs), state, NOW)
    assert {name: one.wake_at for name, one in found.items()} == {"a": later(20), "b": later(19), "c": None}
    assert plan(a_spec(*jobs), state, NOW).wake_at == later(19)


def test_the_plans_of_the_jobs_make_up_the_plan_of_the_home() -> None:
    slots_job = a_job("scheduled", lock=Lock("a lock", LockProvider.FILE, None, 300))
    state = a_state(a_job_state(cursor=a_cursor(slots_job, ago(60), NOW)))
    found = plan(a_spec(slots_job), state, NOW)
    assert merged(plans(a_spec(slots_job), state, NOW).values()) == found
    # A slot was due, and nobody has tried the lock yet.
    assert [wait.reason for wait in found.waits] == [Reason.LOCK]


# --- planning again ---


def settled_states() -> list[Any]:
    slot_job = a_job("scheduled")
    return [
        ("first sight", SERVICE, a_job_state()),
        ("a retry due", a_job(), a_job_state(waiting(a_run("retrying", not_before_at=ago(1))))),
        ("an edit", EDITED, a_job_state(with_process(continuous_run(), SERVICE))),
        ("a removal", None, a_job_state(with_process(a_run("running")), holds=(a_hold("pause"),))),
        ("a due slot", slot_job, a_job_state(cursor=a_cursor(slot_job, ago(60), NOW))),
        ("a first slot", slot_job, a_job_state()),
        (
            "a failure",
            SERVICE,
            a_job_state(ActiveRun(continuous_run(), exited(an_attempt(continuous_run(), SERVICE), 1))),
        ),
        (
            "leftovers",
            SERVICE,
            a_job_state(ActiveRun(continuous_run(), exited(an_attempt(continuous_run(), SERVICE), 1, CHILD))),
        ),
        ("a queue", a_job(), a_job_state(with_process(numbered(1, "running")), waiting(numbered(2)))),
    ]


@pytest.mark.parametrize(
    ("job", "state"),
    [row[1:] for row in settled_states()],
    ids=[row[0].replace(" ", "-") for row in settled_states()],
)
def test_planning_again_right_after_acting_asks_for_nothing(job: JobSpec | None, state: JobState) -> None:
    spec = a_spec(*([] if job is None else [job]))
    first = plan(spec, a_state(state), NOW)
    assert not first.is_idle
    again = plan(spec, carried_out(a_state(state), first, NOW), NOW)
    assert (again.writes, again.effects) == ((), ())


@pytest.mark.parametrize(
    ("job", "state"),
    [row[1:] for row in settled_states()],
    ids=[row[0].replace(" ", "-") for row in settled_states()],
)
def test_a_manager_that_died_before_acting_acts_and_writes_nothing_twice(job: JobSpec | None, state: JobState) -> None:
    spec = a_spec(*([] if job is None else [job]))
    first = plan(spec, a_state(state), NOW)
    again = plan(spec, committed(a_state(state), first, NOW), NOW)
    assert again.writes == ()
    assert len(again.effects) == len(first.effects)
    for before, after in zip(first.effects, again.effects, strict=True):
        if isinstance(before, Start):
            assert isinstance(after, Relaunch)
            assert (after.attempt.run_id, after.attempt.number) == (before.run_id, before.number)
        else:
            assert after == before
