"""How attempts end, and what each end means for its run."""

from typing import Any

import pytest

from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, StopOrder
from procclaw.model.spec import JobSpec, Retry
from procclaw.planning.outcome import after_attempt, delay_seconds, ended, how_it_ended, is_success, natural_end
from tests.builders import (
    BOOT,
    EARLIER_BOOT,
    NOW,
    a_job,
    a_run,
    ago,
    an_attempt,
    an_order,
    continuous_run,
    later,
    over,
)

# --- what a look tells ---


def reason_of(sight: Sight, **attempt: Any) -> Reason | None:
    end = natural_end(an_attempt(a_run("running"), **attempt), sight, BOOT)
    return None if end is None else end.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, Reason.EXITED),
        (1, Reason.EXITED),
        (125, Reason.EXITED),
        (126, Reason.NOT_EXECUTABLE),
        (127, Reason.COMMAND_NOT_FOUND),
        (128, Reason.EXITED),
        (129, Reason.SIGNALLED),
        (137, Reason.SIGNALLED),
        (192, Reason.SIGNALLED),
        (193, Reason.EXITED),
        (255, Reason.EXITED),
    ],
)
def test_an_exit_code_tells_how_the_process_ended(code: int, reason: Reason) -> None:
    assert reason_of(Sight(RecordPhase.EXITED, exit_code=code)) is reason


@pytest.mark.parametrize(
    ("phase", "here", "after_a_reboot"),
    [
        ("locked", None, None),
        ("blank", None, Reason.REBOOT),
        ("failed_cwd", Reason.CWD_FAILED, Reason.CWD_FAILED),
        ("lost", Reason.LOST, Reason.REBOOT),
        ("missing", Reason.LOST, Reason.REBOOT),
    ],
)
def test_a_record_without_a_code_is_judged_by_its_phase_and_boot(
    phase: str, here: Reason | None, after_a_reboot: Reason | None
) -> None:
    sight = Sight(RecordPhase(phase))
    assert reason_of(sight) is here
    assert reason_of(sight, boot_id=EARLIER_BOOT) is after_a_reboot


def test_a_directory_that_could_not_be_changed_to_is_dated_by_the_record() -> None:
    end = natural_end(an_attempt(a_run("running")), Sight(RecordPhase.FAILED_CWD, exited_at=ago(5)), BOOT)
    assert end is not None
    assert tuple(end) == (Reason.CWD_FAILED, None, ago(5), None)


def test_a_code_written_before_a_reboot_still_counts() -> None:
    end = natural_end(
        an_attempt(a_run("running"), boot_id=EARLIER_BOOT),
        Sight(RecordPhase.EXITED, exit_code=3, exited_at=ago(500), cpu_seconds=1.5),
        BOOT,
    )
    assert end is not None
    assert tuple(end) == (Reason.EXITED, 3, ago(500), 1.5)


@pytest.mark.parametrize(
    ("pid", "blank_launches", "reason"),
    [
        (None, 0, None),  # never launched
        (1000, 0, None),  # one launch left nothing behind
        (1000, 1, None),  # two
        (1000, 2, Reason.NOT_STARTED),  # three in a row
        (None, 2, None),  # the third launch has not been made yet
    ],
)
def test_three_launches_that_leave_the_record_blank_are_a_start_failure(
    pid: int | None, blank_launches: int, reason: Reason | None
) -> None:
    assert reason_of(Sight(RecordPhase.BLANK), pid=pid, blank_launches=blank_launches) is reason


def test_an_attempt_that_could_not_be_started_is_over_whatever_its_record_says() -> None:
    assert reason_of(Sight(RecordPhase.BLANK), refusal=Reason.ENVIRONMENT) is Reason.ENVIRONMENT


# --- what is recorded of an end ---


@pytest.mark.parametrize(
    ("order", "natural", "recorded"),
    [
        (None, Reason.EXITED, Reason.EXITED),
        (an_order(Reason.STOP_REQUESTED), Reason.SIGNALLED, Reason.STOP_REQUESTED),
        (an_order(Reason.TIMED_OUT), Reason.EXITED, Reason.TIMED_OUT),
        (an_order(Reason.LEFTOVERS), Reason.EXITED, Reason.EXITED),
        (an_order(Reason.STOP_REQUESTED), Reason.LOST, Reason.STOP_REQUESTED),
        (an_order(Reason.STOP_REQUESTED), Reason.REBOOT, Reason.REBOOT),
    ],
)
def test_an_ordered_end_keeps_the_reason_of_the_order(
    order: StopOrder | None, natural: Reason, recorded: Reason
) -> None:
    attempt = an_attempt(a_run("running"), stop=order)
    sight = {
        Reason.LOST: Sight(RecordPhase.LOST),
        Reason.REBOOT: Sight(RecordPhase.LOST),
        Reason.SIGNALLED: Sight(RecordPhase.EXITED, exit_code=143),
    }.get(natural, Sight(RecordPhase.EXITED, exit_code=0))
    end = natural_end(attempt, sight, "another-boot" if natural is Reason.REBOOT else BOOT)
    assert end is not None
    assert end.reason is natural
    assert ended(attempt, end, NOW).reason is recorded


def test_the_end_seen_first_is_kept_while_leftovers_are_swept() -> None:
    attempt = an_attempt(a_run("running"), exited_at=ago(20), exit_code=3, stop=an_order(Reason.LEFTOVERS, 20))
    end = natural_end(attempt, Sight(RecordPhase.EXITED, exit_code=3, exited_at=ago(19), cpu_seconds=0.5), BOOT)
    assert end is not None
    assert ended(attempt, end, NOW) == attempt._replace(
        exited_at=ago(20), exit_code=3, cpu_seconds=0.5, ended_at=NOW, reason=Reason.EXITED
    )


def test_an_end_nobody_saw_is_dated_to_when_it_was_noticed() -> None:
    attempt = an_attempt(a_run("running"))
    end = natural_end(attempt, Sight(RecordPhase.LOST), BOOT)
    assert end is not None
    assert ended(attempt, end, NOW).exited_at == NOW


@pytest.mark.parametrize(
    ("code", "success_exit_codes", "order", "success"),
    [
        (0, (0,), None, True),
        (1, (0,), None, False),
        (0, (3,), None, False),
        (3, (0, 3), None, True),
        (143, (0, 143), None, True),
        (None, (0,), None, False),
        (0, (0,), an_order(Reason.STOP_REQUESTED), False),
        (0, (0,), an_order(Reason.TIMED_OUT), False),
        (0, (0,), an_order(Reason.LEFTOVERS), True),
    ],
)
def test_success_is_an_end_of_its_own_accord_with_a_code_that_counts(
    code: int | None, success_exit_codes: tuple[int, ...], order: StopOrder | None, success: bool
) -> None:
    job = a_job(success_exit_codes=success_exit_codes)
    assert is_success(an_attempt(a_run("running"), job, exit_code=code, stop=order)) is success


@pytest.mark.parametrize(
    ("reason", "code", "detail", "told"),
    [
        (Reason.EXITED, 0, "", "exit code 0"),
        (Reason.EXITED, 3, "", "exit code 3"),
        (Reason.EXITED, 255, "", "exit code 255"),
        (Reason.SIGNALLED, 137, "", "signal 9"),
        (Reason.LOST, None, "", "lost"),
        (Reason.REBOOT, None, "", "reboot"),
        (Reason.NOT_STARTED, None, "", "not started"),
        (Reason.CWD_FAILED, None, "", "cwd failed"),
        (Reason.CWD_FAILED, None, 'changing to "/srv" failed', 'changing to "/srv" failed'),
        (Reason.ENVIRONMENT, None, "env_file .env: no such file", "env_file .env: no such file"),
        (Reason.NOT_EXECUTABLE, 126, "", "not executable (exit code 126)"),
        (Reason.COMMAND_NOT_FOUND, 127, "", "command not found (exit code 127)"),
        (Reason.TIMED_OUT, 143, "", "timed out (exit code 143)"),
        (Reason.TIMED_OUT, None, "", "timed out"),
        (Reason.STOP_REQUESTED, 0, "", "stop requested (exit code 0)"),
    ],
)
def test_how_an_attempt_ended_is_told_in_words(reason: Reason, code: int | None, detail: str, told: str) -> None:
    attempt = an_attempt(a_run("running"), ended_at=NOW, reason=reason, exit_code=code, detail=detail)
    assert how_it_ended(attempt) == told


# --- what follows for the run ---


def follows(run: Run, job: JobSpec | None, code: int | None = 1, reason: Reason = Reason.EXITED, **fields: Any) -> Run:
    """The run after its attempt, up for `up` seconds, ended so."""
    up = fields.pop("up", 5)
    attempt = an_attempt(run, job, started_at=ago(up), exited_at=NOW, ended_at=NOW, reason=reason, exit_code=code)
    return after_attempt(run, job, attempt._replace(**fields), NOW)


def retrying(run: Run, failures: int, within: float, **fields: Any) -> Run:
    again = run._replace(state=RunState.RETRYING, failures=failures, not_before_at=later(within))
    return again._replace(**fields)


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(0, 0), (1, 30), (2, 300), (3, 900), (4, 3600), (5, None), (6, None)],
)
def test_a_failure_is_followed_by_the_next_delay_until_the_attempts_are_used_up(
    failures: int, delay: float | None
) -> None:
    run = a_run("running", failures=failures, attempts=failures + 1)
    if delay is None:
        wanted = over(run, "failed", Reason.RETRIES_USED_UP, failures=failures + 1, exit_code=1, detail="exit code 1")
    else:
        wanted = retrying(run, failures + 1, delay, exit_code=1, detail="exit code 1")
    assert follows(run, a_job()) == wanted


@pytest.mark.parametrize(
    ("max_attempts", "failures", "is_over"),
    [(0, 0, True), (1, 0, False), (1, 1, True), (None, 10_000, False)],
)
def test_max_attempts_counts_those_after_the_first_failure(
    max_attempts: int | None, failures: int, is_over: bool
) -> None:
    job = a_job(max_attempts=max_attempts, delays=(1, 2))
    after = follows(a_run("running", failures=failures), job)
    assert (after.state == "failed") is is_over


def test_past_the_end_of_the_delays_the_last_one_repeats() -> None:
    retry = Retry(True, (5, 7), None, 60)
    assert [delay_seconds(a_run("retrying", failures=count), retry) for count in (0, 1, 2, 3, 50)] == [5, 5, 7, 7, 7]


def test_without_retries_the_first_failure_is_the_last() -> None:
    run = a_run("running")
    assert follows(run, a_job(retries=False)) == over(
        run, "failed", Reason.RETRY_DISABLED, failures=1, exit_code=1, detail="exit code 1"
    )


def test_a_success_finishes_a_run_that_ends_by_itself() -> None:
    run = a_run("running", failures=2, attempts=3, detail="how the attempt before ended")
    assert follows(run, a_job(), 0) == over(run, "succeeded", Reason.FINISHED, exit_code=0)


@pytest.mark.parametrize(
    ("reason", "how"),
    [
        (Reason.LOST, "lost"),
        (Reason.REBOOT, "reboot"),
        (Reason.CWD_FAILED, "cwd failed"),
        (Reason.NOT_STARTED, "not started"),
    ],
)
def test_every_other_end_of_such_a_run_is_a_failure_that_follows_retry(reason: Reason, how: str) -> None:
    run = a_run("running")
    assert follows(run, a_job(), None, reason) == retrying(run, 1, 0, exit_code=None, detail=how)


def test_what_the_attempt_has_to_tell_is_told_of_its_run() -> None:
    run = a_run("running", detail="how the attempt before ended")
    told = follows(run, a_job(), None, Reason.CWD_FAILED, detail='changing to "/srv" failed')
    assert told == retrying(run, 1, 0, exit_code=None, detail='changing to "/srv" failed')


def test_a_timeout_is_a_failure_even_if_the_process_then_exits_with_code_0() -> None:
    run = a_run("running")
    timed_out = follows(run, a_job(), 0, Reason.TIMED_OUT, stop=an_order(Reason.TIMED_OUT))
    assert timed_out == retrying(run, 1, 0, exit_code=0, detail="timed out (exit code 0)")


RESTARTS = [
    # policy, code, reason, up for, what follows
    ("always", 0, Reason.EXITED, 5, "counted"),
    ("always", 1, Reason.EXITED, 5, "counted"),
    ("always", 0, Reason.EXITED, 59.9, "counted"),
    ("always", 0, Reason.EXITED, 60, "uncounted"),
    ("always", 1, Reason.EXITED, 60, "counted afresh"),
    ("always", 143, Reason.SIGNALLED, 5, "counted"),
    ("always", None, Reason.LOST, 5, "counted"),
    ("always", None, Reason.REBOOT, 5, "at once"),
    ("always", 0, Reason.TIMED_OUT, 5, "counted"),
    ("always", 0, Reason.TIMED_OUT, 90, "counted afresh"),
    ("on_failure", 0, Reason.EXITED, 5, "succeeded"),
    ("on_failure", 0, Reason.EXITED, 90, "succeeded"),
    ("on_failure", 1, Reason.EXITED, 5, "counted"),
    ("on_failure", 1, Reason.EXITED, 90, "counted afresh"),
    ("on_failure", 137, Reason.SIGNALLED, 5, "counted"),
    ("on_failure", None, Reason.LOST, 5, "counted"),
    ("on_failure", None, Reason.REBOOT, 5, "at once"),
    ("on_failure", 0, Reason.TIMED_OUT, 5, "counted"),
    ("never", 0, Reason.EXITED, 5, "succeeded"),
    ("never", 1, Reason.EXITED, 5, "failed"),
    ("never", 1, Reason.EXITED, 90, "failed"),
    ("never", 143, Reason.SIGNALLED, 5, "failed"),
    ("never", None, Reason.LOST, 5, "failed"),
    ("never", None, Reason.REBOOT, 5, "at once"),
    ("never", 0, Reason.TIMED_OUT, 5, "failed"),
]

HOW: dict[tuple[Reason, int | None], str] = {
    (Reason.EXITED, 0): "",
    (Reason.EXITED, 1): "exit code 1",
    (Reason.SIGNALLED, 137): "signal 9",
    (Reason.SIGNALLED, 143): "signal 15",
    (Reason.LOST, None): "lost",
    (Reason.REBOOT, None): "reboot",
    (Reason.TIMED_OUT, 0): "timed out (exit code 0)",
}
"""What the run tells of such an end; of a success nothing."""


@pytest.mark.parametrize(("restart", "code", "reason", "up", "follow"), RESTARTS)
def test_a_continuous_run_goes_on_as_its_restart_policy_says(
    restart: str, code: int | None, reason: Reason, up: float, follow: str
) -> None:
    job = a_job("continuous", restart=restart)
    run = continuous_run(failures=2, restarts=7, attempts=8, detail="how the attempt before ended")
    order = an_order(Reason.TIMED_OUT) if reason is Reason.TIMED_OUT else None
    wanted = {
        "counted": retrying(run, 3, 300, restarts=8),
        "counted afresh": retrying(run, 1, 0, restarts=8),
        "uncounted": retrying(run, 0, 0, restarts=8),
        "at once": retrying(run, 2, 0, restarts=7),
        "succeeded": over(run, "succeeded", Reason.FINISHED),
        "failed": over(run, "failed", Reason.RESTART_POLICY),
    }[follow]
    wanted = wanted._replace(exit_code=code, detail=HOW[reason, code])
    assert follows(run, job, code, reason, up=up, stop=order) == wanted


@pytest.mark.parametrize(("code", "how"), [(0, ""), (1, "exit code 1")])
def test_a_continuous_job_that_keeps_exiting_fails_once_its_attempts_are_used_up(code: int, how: str) -> None:
    run = continuous_run(failures=5, restarts=5, attempts=6)
    failed = over(run, "failed", Reason.RETRIES_USED_UP, failures=6, restarts=5, exit_code=code, detail=how)
    assert follows(run, a_job("continuous"), code) == failed


@pytest.mark.parametrize(
    ("fields", "restarts"),
    [
        ({"max_attempts": 3}, 8),
        ({"max_attempts": 2}, 7),
        ({"retries": False}, 7),
        ({"restart": "never"}, 7),
    ],
    ids=["another attempt follows", "attempts used up", "retries disabled", "policy never"],
)
def test_only_a_restart_that_follows_is_counted(fields: dict[str, Any], restarts: int) -> None:
    run = continuous_run(failures=2, restarts=7, attempts=8)
    assert follows(run, a_job("continuous", **fields)).restarts == restarts


def test_unlimited_attempts_keep_trying_at_the_last_delay() -> None:
    run = continuous_run(failures=100, restarts=100, attempts=101)
    job = a_job("continuous", max_attempts=None)
    assert follows(run, job) == retrying(run, 101, 3600, restarts=101, exit_code=1, detail="exit code 1")


def test_an_attempt_that_never_started_did_not_stay_up() -> None:
    run = continuous_run(failures=2, restarts=2, attempts=3)
    refused = follows(run, a_job("continuous"), None, Reason.ENVIRONMENT, started_at=None)
    assert refused == retrying(run, 3, 300, restarts=3, exit_code=None, detail="environment")


@pytest.mark.parametrize(
    ("run", "code", "state", "reason"),
    [
        (a_run("running", ending=Reason.STOP_REQUESTED), 143, "stopped", Reason.STOP_REQUESTED),
        (a_run("running", ending=Reason.STOP_REQUESTED), 0, "succeeded", Reason.FINISHED),
        (continuous_run(ending=Reason.STOP_REQUESTED), 0, "stopped", Reason.STOP_REQUESTED),
        (continuous_run(ending=Reason.RESTART_REQUESTED), 1, "stopped", Reason.RESTART_REQUESTED),
    ],
)
def test_a_run_that_was_to_end_is_not_followed_by_another_attempt(
    run: Run, code: int, state: str, reason: Reason
) -> None:
    job = a_job("continuous" if run.trigger == "continuous" else "manual")
    assert follows(run, job, code) == over(run, state, reason, exit_code=code)


@pytest.mark.parametrize(
    ("code", "state", "reason"), [(0, "succeeded", Reason.FINISHED), (1, "stopped", Reason.REMOVED)]
)
def test_a_run_of_a_job_that_was_removed_is_over_with_its_attempt(code: int, state: str, reason: Reason) -> None:
    run = a_run("running")
    assert follows(run, None, code) == over(run, state, reason, exit_code=code)


def test_a_run_finishes_as_what_it_began_though_the_job_has_become_continuous_since() -> None:
    run = a_run("running", slot=ago(60))
    assert follows(run, a_job("continuous"), 0) == over(run, "succeeded", Reason.FINISHED, exit_code=0)


def test_terms_of_the_start_decide_what_counts_as_success() -> None:
    attempt: Attempt = an_attempt(a_run("running"), a_job(success_exit_codes=(0, 9)), exit_code=9)
    assert after_attempt(a_run("running"), a_job(), attempt, NOW).state == "succeeded"
