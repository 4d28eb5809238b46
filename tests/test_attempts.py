"""What is done about an attempt: its end taken in, its stop pressed on, its launch repeated."""

from dataclasses import replace
from typing import Any

import pytest

from procclaw.model.outside import LockSight, Process
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, StopOrder
from procclaw.model.spec import Condition, Dependency, JobSpec, Lock, LockProvider
from procclaw.model.state import ActiveRun, JobState, Lack, Observed
from procclaw.planning.actions import Plan, Relaunch, Signal
from procclaw.planning.attempts import names
from procclaw.planning.plan import plan
from tests.builders import (
    EARLIER_BOOT,
    HOME_HELD,
    JOB,
    NOW,
    TERM,
    a_cursor,
    a_dead_letter,
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
    continuous_run,
    ended,
    exited,
    later,
    over,
    planned,
    refused,
    seen_as,
    started,
    with_process,
)

CHILD = Process(1234, 9999, "child")
OTHER = Process(1235, 9999, "other")
CALM = Plan()


def plan_for(run: Run, live: Observed, job: JobSpec, **fields: Any) -> Plan:
    return planned(job, a_job_state(ActiveRun(run, live)), **fields)


def a_running(job: JobSpec, up: float = 100, **fields: Any) -> tuple[Run, Attempt]:
    trigger = "continuous" if job.type == "continuous" else "manual"
    run = a_run("running", trigger=trigger, queued_at=ago(up))
    return run, an_attempt(run, job, **fields)


def retried(run: Run, job: JobSpec, code: int = 1, how: str = "exit code 1") -> tuple[Run, Any]:
    """The run, and the start, of an attempt that follows a first failure without delay."""
    again = started(run._replace(failures=1, exit_code=code, detail=how, not_before_at=NOW), job)
    return again, a_start(again, job, f"attempt {again.attempts} after 1 failed", again.attempts)


def terminated(attempt: Attempt, *members: Process, signum: int = TERM) -> Signal:
    assert attempt.stop is not None
    return Signal(attempt, members or None, signum, is_kill=False, reason=attempt.stop.reason)


def killed(attempt: Attempt, *members: Process, signum: int = TERM) -> Signal:
    return replace(terminated(attempt, *members, signum=signum), is_kill=True)


# --- an end that was seen ---


def test_nothing_is_done_about_a_process_that_is_alive() -> None:
    job = a_job()
    run, attempt = a_running(job)
    assert plan_for(run, alive(attempt), job) == CALM


def test_a_good_end_finishes_the_run() -> None:
    job = a_job()
    run, attempt = a_running(job)
    assert plan_for(run, exited(attempt), job) == Plan(
        writes=(over(run, "succeeded", Reason.FINISHED, exit_code=0), ended(attempt, Reason.EXITED, 0))
    )


def test_a_bad_end_is_followed_at_once_where_the_first_delay_is_none() -> None:
    job = a_job()
    run, attempt = a_running(job)
    again, start = retried(run, job)
    assert plan_for(run, exited(attempt, 1), job) == Plan(
        writes=(again, ended(attempt, Reason.EXITED, 1)), effects=(start,)
    )


def test_a_bad_end_is_followed_by_a_wait_of_the_delay() -> None:
    job = a_job(delays=(30,))
    run, attempt = a_running(job)
    waits = run._replace(
        state=RunState.RETRYING, failures=1, exit_code=1, detail="exit code 1", not_before_at=later(30)
    )
    assert plan_for(run, exited(attempt, 1), job) == Plan(
        writes=(waits, ended(attempt, Reason.EXITED, 1)),
        waits=(a_wait(Reason.RETRY_DELAY, run, "attempt 1 ended (exit code 1), attempt 2 follows", until=later(30)),),
        wake_at=later(30),
    )


def test_the_last_of_the_attempts_fails_the_run() -> None:
    job = a_job(max_attempts=0)
    run, attempt = a_running(job)
    assert plan_for(run, exited(attempt, 1), job) == Plan(
        writes=(
            over(run, "failed", Reason.RETRIES_USED_UP, failures=1, exit_code=1, detail="exit code 1"),
            ended(attempt, Reason.EXITED, 1),
            a_dead_letter(over(run, "failed", Reason.RETRIES_USED_UP, failures=1, exit_code=1, detail="exit code 1")),
        )
    )


def test_the_end_is_dated_by_the_record_and_noticed_now() -> None:
    job = a_job()
    run, attempt = a_running(job)
    found = plan_for(run, exited(attempt, 0, at=ago(40)), job)
    assert found.writes[1] == ended(attempt, Reason.EXITED, 0, exited_at=ago(40))


@pytest.mark.parametrize(
    ("phase", "boot", "reason", "how"),
    [
        ("lost", None, Reason.LOST, "lost"),
        ("missing", None, Reason.LOST, "lost"),
        ("lost", EARLIER_BOOT, Reason.REBOOT, "reboot"),
        ("missing", EARLIER_BOOT, Reason.REBOOT, "reboot"),
        ("blank", EARLIER_BOOT, Reason.REBOOT, "reboot"),
    ],
)
def test_an_end_without_a_code_counts_as_a_failure_of_such_a_run(
    phase: str, boot: str | None, reason: Reason, how: str
) -> None:
    job = a_job(max_attempts=0)
    run, attempt = a_running(job)
    attempt = attempt._replace(boot_id=boot or attempt.boot_id)
    assert plan_for(run, seen_as(phase, attempt), job) == Plan(
        writes=(
            over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail=how),
            ended(attempt, reason),
            a_dead_letter(over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail=how)),
        )
    )


@pytest.mark.parametrize(("cwd", "named"), [(None, "its account's home"), ("/srv/report", '"/srv/report"')])
@pytest.mark.parametrize("boot", [None, EARLIER_BOOT])
def test_a_directory_that_could_not_be_changed_to_is_named(cwd: str | None, named: str, boot: str | None) -> None:
    job = a_job(max_attempts=0, cwd=cwd)
    run, attempt = a_running(job)
    attempt = attempt._replace(boot_id=boot or attempt.boot_id)
    how = f"changing to {named} failed"
    assert plan_for(run, seen_as("failed_cwd", attempt), job) == Plan(
        writes=(
            over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail=how),
            ended(attempt, Reason.CWD_FAILED, detail=how),
            a_dead_letter(over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail=how)),
        )
    )


def test_after_a_reboot_a_continuous_job_starts_again_at_once_and_uncounted() -> None:
    job = a_job("continuous", delays=(30,), restart="never")
    run, attempt = a_running(job, boot_id=EARLIER_BOOT)
    again = started(run._replace(not_before_at=NOW, detail="reboot"), job)
    assert plan_for(run, seen_as("lost", attempt), job) == Plan(
        writes=(again, ended(attempt, Reason.REBOOT)),
        effects=(a_start(run, job, "attempt 2", 2),),
    )


def test_what_was_alive_before_a_reboot_is_nothing_to_sweep() -> None:
    job = a_job(max_attempts=0)
    run, attempt = a_running(job, boot_id=EARLIER_BOOT)
    assert plan_for(run, seen_as("lost", attempt, CHILD), job).effects == ()


# --- what an end left behind ---


def test_leftovers_are_stopped_like_the_process_itself_before_anything_else_starts() -> None:
    job = a_job("continuous", grace=60)
    run, attempt = a_running(job)
    swept = attempt._replace(exited_at=NOW, exit_code=1, stop=an_order(Reason.LEFTOVERS))
    assert plan_for(run, exited(attempt, 1, CHILD), job) == Plan(
        writes=(swept,),
        effects=(terminated(swept, CHILD),),
        waits=(a_wait(Reason.STOPPING, run, "leftovers: still alive: 1234 (child)", NOW, later(0.05)),),
        wake_at=later(0.05),
    )


def test_leftovers_are_looked_for_again_soon_because_nothing_tells_of_their_end() -> None:
    job = a_job(grace=60)
    run, attempt = a_running(job)
    swept = attempt._replace(exited_at=ago(5), exit_code=1, stop=an_order(Reason.LEFTOVERS, 5, signalled_ago=5))
    assert plan_for(run, exited(swept, 1, CHILD), job) == Plan(
        waits=(a_wait(Reason.STOPPING, run, "leftovers: still alive: 1234 (child)", ago(5), later(0.05)),),
        wake_at=later(0.05),
    )


def test_leftovers_that_ignore_the_signal_are_killed_after_the_grace() -> None:
    job = a_job(grace=60)
    run, attempt = a_running(job)
    swept = attempt._replace(exited_at=ago(60), exit_code=0, stop=an_order(Reason.LEFTOVERS, 60, signalled_ago=60))
    assert plan_for(run, exited(swept, 0, CHILD), job) == Plan(
        effects=(killed(swept, CHILD),),
        waits=(a_wait(Reason.STOPPING, run, "leftovers: still alive: 1234 (child)", ago(60), later(0.05)),),
        wake_at=later(0.05),
    )


def test_once_nothing_is_left_the_end_is_what_the_process_did_by_itself() -> None:
    job = a_job()
    run, attempt = a_running(job)
    swept = attempt._replace(exited_at=ago(5), exit_code=0, stop=an_order(Reason.LEFTOVERS, 5, signalled_ago=5))
    assert plan_for(run, exited(swept, 0), job) == Plan(
        writes=(
            over(run, "succeeded", Reason.FINISHED, exit_code=0),
            ended(swept, Reason.EXITED, 0, exited_at=ago(5)),
        )
    )


def test_leftovers_that_are_to_be_kept_are_left_alone() -> None:
    job = a_job(leftovers="keep")
    run, attempt = a_running(job)
    assert plan_for(run, exited(attempt, 0, CHILD), job) == Plan(
        writes=(over(run, "succeeded", Reason.FINISHED, exit_code=0), ended(attempt, Reason.EXITED, 0))
    )


@pytest.mark.parametrize("phase", ["lost", "missing"])
def test_when_the_shim_is_gone_everything_is_swept_though_leftovers_are_to_be_kept(phase: str) -> None:
    # The job itself may be among them: nobody can tell it from what it left behind.
    job = a_job("continuous", leftovers="keep")
    run, attempt = a_running(job)
    swept = attempt._replace(exited_at=NOW, stop=an_order(Reason.LEFTOVERS))
    found = plan_for(run, seen_as(phase, attempt, CHILD), job)
    assert found.writes == (swept,)
    assert found.effects == (terminated(swept, CHILD),)


def test_a_stop_takes_the_leftovers_that_are_otherwise_kept() -> None:
    job = a_job(leftovers="keep", grace=60)
    run, attempt = a_running(job, stop=an_order(asked_ago=5, signalled_ago=5))
    run = run._replace(ending=Reason.STOP_REQUESTED)
    swept = attempt._replace(exited_at=NOW, exit_code=0)
    assert plan_for(run, exited(attempt, 0, CHILD), job) == Plan(
        writes=(swept,),
        waits=(a_wait(Reason.STOPPING, run, "stop requested: still alive: 1234 (child)", ago(5), later(0.05)),),
        wake_at=later(0.05),
    )


def test_an_end_is_complete_only_when_its_output_has_been_written() -> None:
    job = a_job()
    run, attempt = a_running(job)
    live = exited(attempt, 0, is_draining=True)
    assert plan_for(run, live, job) == Plan(writes=(attempt._replace(exited_at=NOW, exit_code=0),), wake_at=later(0.05))


@pytest.mark.parametrize(("exited_ago", "is_over"), [(9.99, False), (10, True)])
def test_whoever_holds_the_output_for_too_long_does_not_hold_up_the_job(exited_ago: float, is_over: bool) -> None:
    job = a_job()
    run, attempt = a_running(job)
    attempt = attempt._replace(exited_at=ago(exited_ago), exit_code=0)
    found = plan_for(run, exited(attempt, 0, is_draining=True), job)
    assert (over(run, "succeeded", Reason.FINISHED, exit_code=0) in found.writes) is is_over


def test_the_output_of_leftovers_that_are_kept_is_not_waited_for() -> None:
    job = a_job(leftovers="keep")
    run, attempt = a_running(job)
    found = plan_for(run, exited(attempt, 0, CHILD, is_draining=True), job)
    assert over(run, "succeeded", Reason.FINISHED, exit_code=0) in found.writes


# --- timeouts ---


def test_before_its_timeout_a_process_is_left_alone_and_looked_at_then() -> None:
    job = a_job(timeout=100)
    run, attempt = a_running(job, up=99.999)
    assert plan_for(run, alive(attempt), job) == Plan(wake_at=later(0.001))


@pytest.mark.parametrize("up", [100, 100.001, 5000])
def test_at_its_timeout_a_process_is_stopped(up: float) -> None:
    job = a_job(timeout=100, grace=10)
    run, attempt = a_running(job, up=up)
    ordered = attempt._replace(stop=an_order(Reason.TIMED_OUT))
    assert plan_for(run, alive(attempt), job) == Plan(
        writes=(ordered,),
        effects=(terminated(ordered),),
        waits=(a_wait(Reason.STOPPING, run, "timed out", NOW, later(10)),),
        wake_at=later(10),
    )


def test_a_timeout_counts_for_one_attempt_and_from_its_own_start() -> None:
    job = a_job(timeout=100)
    run, _ = a_running(job, up=5000)
    attempt = an_attempt(run, job, started_at=ago(40))
    assert plan_for(run, alive(attempt), job) == Plan(wake_at=later(60))


def test_a_process_that_ended_before_anybody_looked_did_not_time_out() -> None:
    job = a_job(timeout=100)
    run, attempt = a_running(job, up=5000)
    found = plan_for(run, exited(attempt, 0, at=ago(4950)), job)
    assert found.writes[0] == over(run, "succeeded", Reason.FINISHED, exit_code=0)


def test_the_timeout_a_process_started_under_is_the_one_that_counts() -> None:
    run, attempt = a_running(a_job(timeout=1000))
    assert plan_for(run, alive(attempt), a_job(timeout=1)) == Plan(wake_at=later(900))


def test_what_timed_out_is_retried_like_any_failure_once_it_is_gone() -> None:
    job = a_job(timeout=100)
    run, attempt = a_running(job, stop=an_order(Reason.TIMED_OUT, 5, signalled_ago=5))
    again, start = retried(run, job, 143, "timed out (exit code 143)")
    assert plan_for(run, exited(attempt, 143), job) == Plan(
        writes=(again, ended(attempt, Reason.TIMED_OUT, 143)), effects=(start,)
    )


# --- stops ---


def ending(job: JobSpec, order: StopOrder | None, **fields: Any) -> tuple[Run, Attempt]:
    run, attempt = a_running(job, stop=order)
    return run._replace(ending=Reason.STOP_REQUESTED, **fields), attempt


def stopping(run: Run, since: float, until: float, left: str = "") -> Plan:
    """A plan that only waits for the end of a stop asked for `since` ago."""
    wait = a_wait(Reason.STOPPING, run, f"stop requested{left}", ago(since), later(until))
    return Plan(waits=(wait,), wake_at=later(until))


def test_a_run_that_shall_end_has_its_attempt_told_so() -> None:
    job = a_job(grace=10, signal=2)
    run, attempt = ending(job, None)
    ordered = attempt._replace(stop=an_order())
    assert plan_for(run, alive(attempt), job) == Plan(
        writes=(ordered,),
        effects=(terminated(ordered, signum=2),),
        waits=(a_wait(Reason.STOPPING, run, "stop requested", NOW, later(10)),),
        wake_at=later(10),
    )


def test_a_signal_that_was_not_certainly_sent_is_sent_again() -> None:
    job = a_job(grace=10)
    run, attempt = ending(job, an_order(asked_ago=3))
    assert plan_for(run, alive(attempt), job) == Plan(
        effects=(terminated(attempt),),
        waits=(a_wait(Reason.STOPPING, run, "stop requested", ago(3), later(10)),),
        wake_at=later(10),
    )


def test_within_its_grace_a_process_is_left_to_end() -> None:
    job = a_job(grace=10)
    run, attempt = ending(job, an_order(asked_ago=10, signalled_ago=9.999))
    assert plan_for(run, alive(attempt), job) == stopping(run, 10, 0.001)


@pytest.mark.parametrize("signalled_ago", [10, 10.001, 500])
def test_when_its_grace_is_over_what_is_left_is_killed(signalled_ago: float) -> None:
    job = a_job(grace=10)
    run, attempt = ending(job, an_order(asked_ago=500, signalled_ago=signalled_ago))
    calm = stopping(run, 500, 0.05, ": still alive: 1234 (child), 1235 (other)")
    found = plan_for(run, alive(attempt, CHILD, OTHER), job)
    assert found == Plan(effects=(killed(attempt, CHILD, OTHER),), waits=calm.waits, wake_at=calm.wake_at)


def test_the_grace_is_that_of_the_start() -> None:
    run, attempt = ending(a_job(grace=10), an_order(asked_ago=5, signalled_ago=5))
    assert plan_for(run, alive(attempt), a_job(grace=1)) == stopping(run, 5, 5)


@pytest.mark.parametrize(("last_killed_ago", "is_killed"), [(0.49, False), (0.5, True), (5, True)])
def test_what_survives_a_kill_is_killed_again_after_a_moment(last_killed_ago: float, is_killed: bool) -> None:
    job = a_job(grace=10)
    order = an_order(asked_ago=20, signalled_ago=20, killed_ago=6, last_killed_ago=last_killed_ago)
    run, attempt = ending(job, order)
    calm = stopping(run, 20, 0.05, ": still alive: 1234 (child)")
    effects = (killed(attempt, CHILD),) if is_killed else ()
    assert plan_for(run, alive(attempt, CHILD), job) == Plan(effects=effects, waits=calm.waits, wake_at=calm.wake_at)


@pytest.mark.parametrize(("killed_ago", "pause"), [(9.99, 0.05), (10, 5), (5000, 5)])
def test_what_has_proved_unkillable_is_looked_at_less_often(killed_ago: float, pause: float) -> None:
    job = a_job()
    run, attempt = ending(job, an_order(asked_ago=6000, signalled_ago=6000, killed_ago=killed_ago, last_killed_ago=0))
    assert plan_for(run, alive(attempt, CHILD), job) == stopping(run, 6000, pause, ": still alive: 1234 (child)")


@pytest.mark.parametrize(
    "order",
    [None, an_order(asked_ago=3), an_order(asked_ago=3, signalled_ago=3)],
    ids=["not asked yet", "not signalled yet", "within its grace"],
)
def test_force_kills_at_once_at_every_stage(order: StopOrder | None) -> None:
    job = a_job(grace=60)
    run, attempt = ending(job, order, ending_force=True)
    forced = attempt._replace(stop=(order or an_order())._replace(force=True))
    wait = a_wait(Reason.STOPPING, run, "stop requested", forced.stop.asked_at if forced.stop else None, later(0.05))
    assert plan_for(run, alive(attempt), job) == Plan(
        writes=(forced,), effects=(killed(forced),), waits=(wait,), wake_at=later(0.05)
    )


def test_a_grace_of_nothing_still_signals_before_it_kills() -> None:
    job = a_job(grace=0)
    run, attempt = ending(job, None)
    first = plan_for(run, alive(attempt), job)
    assert [effect.is_kill for effect in first.effects if isinstance(effect, Signal)] == [False]
    assert first.wake_at == NOW
    signalled = attempt._replace(stop=an_order(signalled_ago=0))
    assert plan_for(run, alive(signalled), job).effects == (killed(signalled),)


def test_an_order_keeps_its_first_reason() -> None:
    job = a_job()
    run, attempt = a_running(job, stop=an_order(Reason.TIMED_OUT, 2, signalled_ago=2))
    run = run._replace(ending=Reason.STOP_REQUESTED)
    found = plan_for(run, alive(attempt), job)
    assert found == Plan(waits=(a_wait(Reason.STOPPING, run, "timed out", ago(2), later(58)),), wake_at=later(58))


def test_a_stop_that_is_over_ends_the_run_as_stopped() -> None:
    job = a_job()
    run, attempt = ending(job, an_order(asked_ago=3, signalled_ago=3))
    assert plan_for(run, exited(attempt, 143), job) == Plan(
        writes=(
            over(run, "stopped", Reason.STOP_REQUESTED, exit_code=143),
            ended(attempt, Reason.STOP_REQUESTED, 143),
        )
    )


# --- launches that did not happen ---


def blank(job: JobSpec, **fields: Any) -> tuple[Run, Attempt]:
    run, attempt = a_running(job)
    return run, attempt._replace(**{"pid": None, "start_ticks": None, "job_pid": None, "started_at": None} | fields)


def test_an_attempt_that_was_recorded_and_never_launched_is_launched() -> None:
    job = a_job()
    run, attempt = blank(job)
    assert plan_for(run, seen_as("blank", attempt), job) == Plan(effects=(Relaunch(attempt),))


@pytest.mark.parametrize("blank_launches", [0, 1])
def test_a_launch_that_left_its_record_blank_is_counted_and_repeated(blank_launches: int) -> None:
    job = a_job()
    run, attempt = blank(job, pid=1000, start_ticks=5000, started_at=ago(3), blank_launches=blank_launches)
    again = attempt._replace(pid=None, start_ticks=None, started_at=None, blank_launches=blank_launches + 1)
    assert plan_for(run, seen_as("blank", attempt), job) == Plan(writes=(again,), effects=(Relaunch(again),))


def test_the_third_blank_in_a_row_is_a_start_failure() -> None:
    job = a_job(max_attempts=0)
    run, attempt = blank(job, pid=1000, start_ticks=5000, started_at=ago(3), blank_launches=2)
    assert plan_for(run, seen_as("blank", attempt), job) == Plan(
        writes=(
            over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail="not started"),
            ended(attempt, Reason.NOT_STARTED),
            a_dead_letter(over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail="not started")),
        )
    )


def test_an_attempt_refused_by_its_environment_is_a_failure_that_says_so() -> None:
    job = a_job(max_attempts=0)
    how = "env_file .env: no such file or directory"
    run, attempt = blank(job, refusal=Reason.ENVIRONMENT, detail=how)
    assert plan_for(run, seen_as("blank", attempt), job) == Plan(
        writes=(
            over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail=how),
            ended(attempt, Reason.ENVIRONMENT),
            a_dead_letter(over(run, "failed", Reason.RETRIES_USED_UP, failures=1, detail=how)),
        )
    )


def test_a_launch_waits_for_what_holds_starts_back() -> None:
    job = a_job()
    run, attempt = blank(job)
    found = plan_for(run, seen_as("blank", attempt), job, lack=Lack(Reason.NO_DISK, "full", later(5)))
    assert (found.writes, found.effects) == ((), ())
    assert [(wait.reason, wait.until) for wait in found.waits] == [(Reason.NO_DISK, later(5))]
    assert found.wake_at == later(5)


def several(job: JobSpec, *phases: str) -> tuple[list[Attempt], JobState]:
    """Runs of the job whose attempts are seen in these phases; one without a phase waits for its start."""
    runs = [a_run("running" if phase else "queued", occasion=f"intent:{n}") for n, phase in enumerate(phases)]
    attempts = [
        an_attempt(run, job, pid=None, job_pid=None, start_ticks=None, started_at=None, instance=n)
        if phase == "blank"
        else an_attempt(run, job, instance=n)
        for n, (run, phase) in enumerate(zip(runs, phases, strict=True))
    ]
    active = [
        ActiveRun(run, seen_as(phase, attempt) if phase else None)
        for run, attempt, phase in zip(runs, attempts, phases, strict=True)
    ]
    return attempts, a_job_state(*active)


@pytest.mark.parametrize(
    ("limit", "phases", "launched"),
    [
        (1, ("blank", "blank"), [0]),
        (2, ("blank", "blank"), [0, 1]),
        (1, ("locked", "blank"), []),
        (2, ("locked", "blank"), [1]),
        (3, ("locked", "locked", "blank"), [2]),
        (1, ("blank", ""), [0]),
    ],
    ids=[
        "one place for two",
        "a place for each",
        "the place is taken",
        "one place of two is taken",
        "two places of three are taken",
        "who only waits takes up none",
    ],
)
def test_no_more_is_launched_than_the_limit_allows_now(
    limit: int, phases: tuple[str, ...], launched: list[int]
) -> None:
    job = a_job(max_instances=limit)
    attempts, state = several(job, *phases)
    found = planned(job, state)
    assert found.effects == tuple(Relaunch(attempts[number]) for number in launched)
    waiting = [wait for wait in found.waits if wait.reason is Reason.MAX_INSTANCES]
    assert len(waiting) == len(phases) - len(launched) - phases.count("locked")
    assert all(wait.detail == f"{limit} of at most {limit} running" for wait in waiting)


def test_a_launch_waits_for_its_lock_and_looks_for_it_soon() -> None:
    job = a_job(lock=Lock("a lock", LockProvider.FILE, None, 300))
    run, attempt = blank(job)
    active = ActiveRun(run, seen_as("blank", attempt))
    taken = a_job_state(active, lock=LockSight(is_free=False, holder="other (run x)"))
    wait = a_wait(Reason.LOCK, run, "lock a lock: held by other (run x)")
    assert planned(job, taken) == Plan(waits=(wait,), wake_at=later(0.05))
    free = a_job_state(active, lock=LockSight(is_free=True))
    assert planned(job, free) == Plan(effects=(Relaunch(attempt),))


def test_the_launch_of_a_slot_waits_while_its_job_is_disabled() -> None:
    job = a_job("scheduled", enabled=False)
    run = a_run("running", slot=ago(60))
    attempt = an_attempt(run, job, pid=None, job_pid=None, start_ticks=None, started_at=None)
    state = a_job_state(ActiveRun(run, seen_as("blank", attempt)), cursor=a_cursor(job, ago(60), None))
    assert planned(job, state) == Plan(waits=(a_wait(Reason.DISABLED, run, "disabled in jobs.yaml"),))


def test_a_home_that_is_being_stopped_launches_nothing_for_those_that_still_need_it() -> None:
    service = a_job("continuous")
    web = a_job("continuous", depends_on=(Dependency(JOB, Condition.AFTER_START, None),))._replace(id="web")
    run, attempt = blank(service)
    running = with_process(continuous_run(job_id="web"), web)
    state = a_state(
        a_job_state(ActiveRun(run, seen_as("blank", attempt))), a_job_state(running, id="web"), home_holds=HOME_HELD
    )
    found = plan(a_spec(service, web), state, NOW)
    assert [type(effect) for effect in found.effects] == [Signal]
    assert (Reason.HOME_STOPPED, JOB) in [(wait.reason, wait.job_id) for wait in found.waits]


def test_processes_are_named_by_their_pids_and_by_their_commands_where_they_are_known() -> None:
    assert names((CHILD, Process(77, 1, ""))) == "1234 (child), 77"


def test_a_launch_waits_while_the_job_is_paused() -> None:
    job = a_job()
    run, attempt = blank(job)
    state = a_job_state(ActiveRun(run, seen_as("blank", attempt)), holds=(a_hold("pause"),))
    assert planned(job, state) == Plan(waits=(a_wait(Reason.PAUSED, run, "by alice", ago(3600)),))


def test_a_run_that_shall_end_is_over_at_once_if_its_attempt_was_never_launched() -> None:
    job = a_job()
    run, attempt = blank(job)
    run = run._replace(ending=Reason.STOP_REQUESTED)
    found = plan_for(run, seen_as("blank", attempt), job)
    assert found.effects == ()
    assert set(found.writes) == {
        over(run, "stopped", Reason.STOP_REQUESTED, ending=None),
        attempt._replace(ended_at=NOW, reason=Reason.STOP_REQUESTED),
    }


def test_a_home_that_is_stopped_launches_nothing_more() -> None:
    job = a_job()
    run, attempt = blank(job)
    found = plan_for(run, seen_as("blank", attempt), job, home_holds=HOME_HELD)
    assert found.effects == ()
    assert over(run, "stopped", Reason.HOME_STOPPED) in found.writes


def test_what_is_wanted_instead_of_an_attempt_never_launched_is_looked_at_at_once() -> None:
    old = a_job("continuous")
    run, attempt = blank(old)
    found = plan_for(run, seen_as("blank", attempt), changed(old, process_hash="edited"))
    assert over(run, "stopped", Reason.CHANGED) in found.writes
    assert found.wake_at == NOW


# --- a clock that was set back ---


def test_a_grace_period_does_not_grow_when_the_clock_is_set_back() -> None:
    job = a_job(grace=10)
    run, attempt = ending(job, an_order(asked_ago=5, signalled_at=later(86400)))
    moved = attempt._replace(stop=an_order(asked_ago=5, signalled_at=NOW))
    calm = stopping(run, 5, 10)
    assert plan_for(run, alive(attempt), job) == Plan(writes=(moved,), waits=calm.waits, wake_at=calm.wake_at)


def test_a_kill_is_repeated_though_the_clock_was_set_back_since_the_last() -> None:
    job = a_job(grace=10)
    order = an_order(asked_ago=5, signalled_ago=-86390, killed_ago=-86400, last_killed_ago=-86400)
    run, attempt = ending(job, order)
    moved = plan_for(run, alive(attempt, CHILD), job).writes[0]
    assert moved == attempt._replace(stop=an_order(asked_ago=5, signalled_ago=0, killed_ago=0, last_killed_ago=0))


def test_a_timeout_does_not_grow_when_the_clock_is_set_back() -> None:
    job = a_job(timeout=100)
    run, attempt = a_running(job)
    attempt = attempt._replace(started_at=later(86400))
    assert plan_for(run, alive(attempt), job) == Plan(writes=(attempt._replace(started_at=NOW),), wake_at=later(100))


# --- who is told ---


@pytest.mark.parametrize(("killed_ago", "is_told"), [(9.99, False), (10, True)])
def test_whoever_asked_for_a_stop_is_told_what_cannot_be_killed(killed_ago: float, is_told: bool) -> None:
    job = a_job(grace=10)
    order = an_order(asked_ago=90, signalled_ago=80, killed_ago=killed_ago, last_killed_ago=0)
    run, attempt = ending(job, order)
    intent = an_intent("stop", state="accepted")
    state = a_job_state(ActiveRun(run, alive(attempt, CHILD)), intents=(intent,))
    told = refused(intent, 'cannot stop "job": killed, but still there: 1234 (child)')
    assert planned(job, state).writes == ((told,) if is_told else ())


def test_an_end_seen_while_it_is_being_stopped_is_recorded_once() -> None:
    job = a_job("continuous")
    run = continuous_run(ending=Reason.STOP_REQUESTED)
    attempt = an_attempt(run, job, stop=an_order(signalled_ago=1))
    found = planned(job, a_job_state(ActiveRun(run, exited(attempt, 0)), holds=(a_hold("stop"),)))
    assert found == Plan(
        writes=(over(run, "stopped", Reason.STOP_REQUESTED, exit_code=0), ended(attempt, Reason.STOP_REQUESTED, 0)),
        waits=(a_wait(Reason.STOPPED, None, "by alice", ago(3600)),),
    )
