"""How an attempt ended, and what that means for its run.

Three questions, asked in this order: is there an end to speak of (`natural_end`), was it a success (`is_success`), and
what follows for the run (`after_attempt`). An end that was ordered (a stop, a timeout) keeps the order's reason; what
the process did by itself gets the reason that the exit code tells.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, assert_never

from procclaw.model.clock import after, seconds_between
from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, Trigger
from procclaw.model.spec import JobSpec, Restart, Retry

EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
MAX_BLANK_LAUNCHES = 3

FAILED_TO_START = frozenset(
    {Reason.CWD_FAILED, Reason.NOT_EXECUTABLE, Reason.COMMAND_NOT_FOUND, Reason.NOT_STARTED, Reason.ENVIRONMENT}
)


_STATE_OF_ENDING: Mapping[Reason | None, RunState] = {
    Reason.REVOKED: RunState.REVOKED,
    Reason.MEMORY_LIMIT: RunState.FAILED,
    Reason.CPU_LIMIT: RunState.FAILED,
}
"""What a run is that was ended for this reason; for any other, stopped."""


class End(NamedTuple):
    """The main process of an attempt is gone."""

    reason: Reason
    exit_code: int | None
    exited_at: datetime | None
    """None: it ended unseen."""
    cpu_seconds: float | None


def natural_end(attempt: Attempt, sight: Sight, boot_id: str) -> End | None:
    """What record and boot tell about the main process; None while it may still be alive or has to be started."""
    if attempt.refusal is not None:
        return End(attempt.refusal, None, None, None)
    is_other_boot = attempt.boot_id != boot_id
    match sight.phase:
        case RecordPhase.EXITED:
            code = sight.exit_code
            return End(_reason_of_code(code), code, sight.exited_at, sight.cpu_seconds)
        case RecordPhase.FAILED_CWD:
            return End(Reason.CWD_FAILED, None, sight.exited_at, None)
        case RecordPhase.LOCKED | RecordPhase.UNSEEN:
            return None
        case RecordPhase.BLANK:
            if is_other_boot:
                return End(Reason.REBOOT, None, None, None)
            if attempt.pid is not None and attempt.blank_launches + 1 >= MAX_BLANK_LAUNCHES:
                return End(Reason.NOT_STARTED, None, None, None)
            return None
        case RecordPhase.LOST | RecordPhase.MISSING:
            return End(Reason.REBOOT if is_other_boot else Reason.LOST, None, None, None)
        case _:
            assert_never(sight.phase)


def _reason_of_code(code: int | None) -> Reason:
    if code is None:
        return Reason.LOST
    if code == EXIT_NOT_FOUND:
        return Reason.COMMAND_NOT_FOUND
    if code == EXIT_NOT_EXECUTABLE:
        return Reason.NOT_EXECUTABLE
    return Reason.SIGNALLED if 128 < code <= 192 else Reason.EXITED


def ended(attempt: Attempt, end: End, now: datetime) -> Attempt:
    """The attempt, over. An ordered stop gives the reason; a sweep of leftovers leaves the natural one."""
    reason = end.reason
    if attempt.stop is not None and attempt.stop.reason is not Reason.LEFTOVERS and reason is not Reason.REBOOT:
        reason = attempt.stop.reason
    return attempt._replace(
        exited_at=attempt.exited_at or end.exited_at or now,
        exit_code=end.exit_code,
        cpu_seconds=end.cpu_seconds,
        ended_at=now,
        reason=reason,
        # Why it was to be stopped has nothing to do with a reboot.
        detail="" if reason is Reason.REBOOT else attempt.detail,
    )


def is_success(attempt: Attempt) -> bool:
    """Of an attempt that is over: it ended by itself, with a code that counts as success."""
    was_ordered = attempt.stop is not None and attempt.stop.reason is not Reason.LEFTOVERS
    return not was_ordered and attempt.exit_code in attempt.terms.success_exit_codes


def finished(run: Run, state: RunState, reason: Reason, now: datetime, detail: str = "") -> Run:
    return run._replace(state=state, reason=reason, finished_at=now, detail=detail, closed=())


def gave_up(run: Run, spec: JobSpec, reason: Reason, detail: str, now: datetime) -> Run:
    """The run after it has waited too long: failed, or, of a continuous job, as after a failed attempt."""
    if run.trigger is not Trigger.CONTINUOUS:
        return finished(run, RunState.FAILED, reason, now, detail)
    run = run._replace(failures=run.failures + 1, detail=detail, closed=())
    return _retry_or_fail(run, spec.retry, now)


def after_attempt(run: Run, spec: JobSpec | None, attempt: Attempt, now: datetime) -> Run:
    """The run after its attempt is over: finished, or waiting for the next attempt."""
    run = run._replace(exit_code=attempt.exit_code, detail="" if is_success(attempt) else how_it_ended(attempt))
    # As it began, not as the job is now: an edit of its type does not change what a run is.
    is_continuous = run.trigger is Trigger.CONTINUOUS
    if run.ending is not None or spec is None:
        if is_success(attempt) and not is_continuous:
            return finished(run, RunState.SUCCEEDED, Reason.FINISHED, now)
        state = _STATE_OF_ENDING.get(run.ending, RunState.STOPPED)
        detail = run.detail if state is RunState.FAILED else ""
        return finished(run, state, run.ending or Reason.REMOVED, now, detail)
    if is_continuous:
        return _after_continuous(run, spec, attempt, now)
    if is_success(attempt):
        return finished(run, RunState.SUCCEEDED, Reason.FINISHED, now)
    return _retry_or_fail(run._replace(failures=run.failures + 1), spec.retry, now)


def _after_continuous(run: Run, spec: JobSpec, attempt: Attempt, now: datetime) -> Run:
    if attempt.reason is Reason.REBOOT:
        return run._replace(state=RunState.RETRYING, not_before_at=now)
    succeeded = is_success(attempt)
    if succeeded and spec.restart is not Restart.ALWAYS:
        return finished(run, RunState.SUCCEEDED, Reason.FINISHED, now)
    if not succeeded and spec.restart is Restart.NEVER:
        return finished(run, RunState.FAILED, Reason.RESTART_POLICY, now, run.detail)
    if not _stayed_up(attempt, spec.retry):
        run = _retry_or_fail(run._replace(failures=run.failures + 1), spec.retry, now)
    elif succeeded:
        run = _retrying(run._replace(failures=0), spec.retry, now)
    else:
        run = _retry_or_fail(run._replace(failures=1), spec.retry, now)
    return run._replace(restarts=run.restarts + 1) if run.is_active else run


def how_it_ended(attempt: Attempt) -> str:
    """In words, of an attempt that is over."""
    if attempt.detail:
        return attempt.detail
    code = "" if attempt.exit_code is None else f"exit code {attempt.exit_code}"
    match attempt.reason:
        case Reason.EXITED | None:
            return code
        case Reason.SIGNALLED:
            return f"signal {attempt.signal}"
        case _:
            words = str(attempt.reason).replace("_", " ")
            return f"{words} ({code})" if code else words


def _stayed_up(attempt: Attempt, retry: Retry) -> bool:
    if attempt.started_at is None or attempt.exited_at is None:
        return False
    return seconds_between(attempt.started_at, attempt.exited_at) >= retry.reset_after_seconds


def _retry_or_fail(run: Run, retry: Retry, now: datetime) -> Run:
    if not retry.enabled:
        return finished(run, RunState.FAILED, Reason.RETRY_DISABLED, now, run.detail)
    if retry.max_attempts is not None and run.failures > retry.max_attempts:
        return finished(run, RunState.FAILED, Reason.RETRIES_USED_UP, now, run.detail)
    return _retrying(run, retry, now)


def _retrying(run: Run, retry: Retry, now: datetime) -> Run:
    return run._replace(state=RunState.RETRYING, not_before_at=after(now, delay_seconds(run, retry)))


def delay_seconds(run: Run, retry: Retry) -> float:
    """The pause before the run's next attempt."""
    return retry.delays_seconds[max(0, min(run.failures, len(retry.delays_seconds)) - 1)]
