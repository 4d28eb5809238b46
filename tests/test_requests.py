"""What people ask for, and what they are told: refusals as carefully as successes."""

from dataclasses import replace
from typing import Any

import pytest

from procclaw.model.clock import to_microseconds
from procclaw.model.intents import Details, Intent, IntentState
from procclaw.model.outside import LockSight
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, DeadLetter, DeadLettersPurged, Hold, HoldKind, HoldLifted, Run, Slots
from procclaw.model.spec import Dedup, JobSpec, Lock, LockProvider, Param
from procclaw.model.state import ActiveRun, JobState, Observed
from procclaw.planning.actions import Plan, Signal, Start
from tests.builders import (
    HOME_HELD,
    NOW,
    TERM,
    a_cursor,
    a_hold,
    a_job,
    a_job_state,
    a_run,
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
    continuous_run,
    done,
    ended,
    exited,
    in_line,
    later,
    over,
    planned,
    refused,
    seen_as,
    slots_row,
    started,
    waiting,
    with_process,
)

JOB = a_job()
SERVICE = a_job("continuous")
HOUR_AGO = ago(3600)


def of_intent(number: int = 1, job: JobSpec = JOB, **fields: Any) -> Run:
    """The run that a request makes."""
    trigger = "continuous" if job.type == "continuous" else "manual"
    run = a_run("queued", trigger=trigger, occasion=f"intent:{number}@{to_microseconds(NOW)}", queued_at=NOW)
    return run._replace(despite_disabled=not job.enabled, **fields)


def answered_at_once(intent: Intent, message: str, *writes: Any) -> Plan:
    return Plan(writes=(*writes, done(intent, message)))


def started_by(intent: Intent, job: JobSpec, *writes: Any, **fields: Any) -> Plan:
    """A plan that starts the run asked for, and will be asked for its pid at once."""
    run = of_intent(intent.id, job, **fields)
    taken = intent._replace(state=IntentState.ACCEPTED, run_id=run.id)
    return Plan(writes=(started(run, job), *writes, taken), effects=(a_start(run, job, _why(job)),), wake_at=NOW)


def _why(job: JobSpec) -> str:
    return "wanted running" if job.type == "continuous" else "asked for"


# --- start and run ---

STARTING: list[tuple[str, JobSpec, JobState, str, Plan]] = [
    ("start of a job at rest", JOB, a_job_state(), "start", started_by(an_intent("start"), JOB)),
    ("run of a job at rest", JOB, a_job_state(), "run", started_by(an_intent("run"), JOB)),
    (
        "start of a disabled job",
        changed(JOB, enabled=False),
        a_job_state(),
        "start",
        started_by(an_intent("start"), changed(JOB, enabled=False)),
    ),
    (
        "start of a disabled service",
        changed(SERVICE, enabled=False),
        a_job_state(),
        "start",
        started_by(an_intent("start"), changed(SERVICE, enabled=False)),
    ),
    (
        "start of a stopped service lifts its hold",
        SERVICE,
        a_job_state(holds=(a_hold("stop"),)),
        "start",
        started_by(an_intent("start"), SERVICE, HoldLifted("job", HoldKind.STOP)),
    ),
    (
        "start of a failed service",
        SERVICE,
        a_job_state(newest_finished=continuous_run("failed")),
        "start",
        started_by(an_intent("start"), SERVICE),
    ),
    (
        "start of what runs",
        JOB,
        a_job_state(with_process(a_run("running"))),
        "start",
        answered_at_once(an_intent("start")._replace(run_id=a_run("running").id), "already running (pid 1001)"),
    ),
    (
        "start of a service that runs",
        SERVICE,
        a_job_state(with_process(continuous_run(), SERVICE)),
        "start",
        answered_at_once(an_intent("start")._replace(run_id=continuous_run().id), "already running (pid 1001)"),
    ),
    (
        "run of a service that runs, which has one process",
        SERVICE,
        a_job_state(with_process(continuous_run(), SERVICE)),
        "run",
        answered_at_once(an_intent("run")._replace(run_id=continuous_run().id), "already running (pid 1001)"),
    ),
]


@pytest.mark.parametrize(
    ("job", "state", "kind", "wanted"),
    [row[1:] for row in STARTING],
    ids=[row[0].replace(" ", "-") for row in STARTING],
)
def test_a_start_is_carried_out(job: JobSpec, state: JobState, kind: str, wanted: Plan) -> None:
    assert planned(job, state._replace(intents=(an_intent(kind),))) == wanted


def test_the_pid_that_is_told_is_that_of_the_jobs_own_process() -> None:
    run = a_run("running")
    state = a_job_state(with_process(run, job_pid=None), intents=(an_intent("start"),))
    told = done(an_intent("start"), "already starting", run)
    assert planned(JOB, state) == Plan(writes=(told,))


def test_a_start_does_not_wait_for_the_delay_of_a_retry_and_counts_afresh() -> None:
    run = a_run("retrying", failures=4, attempts=4, not_before_at=later(900))
    taken = accepted("start", run_id=run.id)
    fresh = run._replace(failures=0, not_before_at=NOW)
    assert planned(JOB, a_job_state(waiting(run), intents=(an_intent("start"),))) == Plan(
        writes=(started(fresh), taken), effects=(a_start(run, JOB, "attempt 5", 5),), wake_at=NOW
    )


def test_a_start_does_not_wait_for_the_first_delay_either() -> None:
    job = changed(JOB, delays=(30, 60))
    run = a_run("retrying", not_before_at=later(20))
    found = planned(job, a_job_state(waiting(run), intents=(an_intent("start"),)))
    assert found.effects == (a_start(run, job, "attempt 2", 2),)


def test_a_run_that_is_asked_for_at_this_very_moment_is_none_for_later() -> None:
    intent = an_intent("run", details=Details(at=NOW))
    assert planned(JOB, a_job_state(intents=(intent,))) == started_by(intent, JOB)


def test_run_asks_for_another_run_beside_the_one_there_is() -> None:
    job = a_job(max_instances=2)
    found = planned(
        job, a_job_state(with_process(a_run("running", occasion="intent:9"), job), intents=(an_intent("run"),))
    )
    run = of_intent()
    assert found == Plan(
        writes=(started(run), accepted("run", run_id=run.id)),
        effects=(a_start(run, job, "asked for", instance=1),),
        wake_at=NOW,
    )


def test_a_run_beyond_the_limit_waits_and_whoever_asked_is_told_so() -> None:
    running = a_run("running", occasion="intent:9")
    run = of_intent(closed=in_line(NOW))
    detail = "1 of at most 1 running"
    assert planned(JOB, a_job_state(with_process(running), intents=(an_intent("run"),))) == Plan(
        writes=(run, done(an_intent("run"), f"waits: {detail}", run)),
        waits=(a_wait(Reason.MAX_INSTANCES, run, detail, NOW),),
        wake_at=later(300),
    )


def test_a_run_beyond_the_limit_is_refused_where_nothing_may_queue() -> None:
    job = a_job(queue_excess=False)
    state = a_job_state(with_process(a_run("running", occasion="intent:9"), job), intents=(an_intent("run"),))
    message = 'cannot run "job": 1 of at most 1 active and concurrency.queue_excess is false'
    assert planned(job, state) == Plan(writes=(refused(an_intent("run"), message),))


def test_waiting_runs_count_against_that_limit_too() -> None:
    job = a_job(queue_excess=False, max_instances=2)
    waits = waiting(a_run("retrying", occasion="intent:8", failures=2, not_before_at=later(20)))
    state = a_job_state(with_process(a_run("running", occasion="intent:9"), job), waits, intents=(an_intent("run"),))
    [written] = planned(job, state).writes
    assert isinstance(written, Intent)
    assert written.message == 'cannot run "job": 2 of at most 2 active and concurrency.queue_excess is false'


def test_two_starts_at_once_are_one_run() -> None:
    first, second = an_intent("start", 1), an_intent("start", 2)
    run = of_intent()
    found = planned(JOB, a_job_state(intents=(first, second)))
    assert found == Plan(
        writes=(started(run), accepted("start", 1, run_id=run.id), accepted("start", 2, run_id=run.id)),
        effects=(a_start(run, JOB, "asked for"),),
        wake_at=NOW,
    )


def test_two_runs_at_once_are_two_runs() -> None:
    found = planned(JOB, a_job_state(intents=(an_intent("run", 1), an_intent("run", 2))))
    first, second = of_intent(1), of_intent(2, closed=in_line(NOW))
    assert [write for write in found.writes if isinstance(write, Run)] == [started(first), second]


RULED_OUT: list[tuple[JobSpec, JobState, dict[str, Any], str]] = [
    (
        JOB,
        a_job_state(holds=(a_hold("pause"),)),
        {},
        "paused since 2026-06-01 11:00Z; resume first (procclaw resume job)",
    ),
    (JOB, a_job_state(), {"home_holds": HOME_HELD}, "all jobs were stopped; procclaw daemon start lets them go again"),
]


@pytest.mark.parametrize("kind", ["start", "run", "restart"])
@pytest.mark.parametrize(("job", "state", "fields", "why"), RULED_OUT, ids=["paused", "home-stopped"])
def test_what_stands_against_every_start_refuses_it_and_says_what_to_do(
    job: JobSpec, state: JobState, fields: dict[str, Any], why: str, kind: str
) -> None:
    found = planned(job, state._replace(intents=(an_intent(kind),)), **fields)
    assert found == Plan(writes=(refused(an_intent(kind), f'cannot {kind} "job": {why}'),))


@pytest.mark.parametrize("kind", ["start", "run", "restart", "pause", "resume"])
def test_a_job_that_is_not_declared_is_refused(kind: str) -> None:
    found = planned(None, a_job_state(intents=(an_intent(kind),)))
    assert found == Plan(writes=(refused(an_intent(kind), f'cannot {kind} "job": no such job'),))


# --- answers ---


def seen_in(live: Observed | None, run: Run, **fields: Any) -> JobState:
    return a_job_state(ActiveRun(run, live), intents=(accepted("start", run_id=run.id),), **fields)


def test_whoever_started_it_is_told_the_pid_once_it_lives() -> None:
    run = a_run("running")
    found = planned(JOB, seen_in(alive(an_attempt(run)), run))
    assert found == Plan(writes=(done(accepted("start"), "started (pid 1001)", run),))


def test_nobody_is_told_that_it_started_before_it_lives() -> None:
    run = a_run("running")
    blank = an_attempt(run, pid=None, job_pid=None, start_ticks=None, started_at=None)
    found = planned(JOB, seen_in(seen_as("blank", blank), run))
    assert [write for write in found.writes if isinstance(write, Intent)] == []


def test_nobody_is_told_that_it_started_before_its_pid_is_known() -> None:
    run = a_run("running")
    found = planned(JOB, seen_in(alive(an_attempt(run, job_pid=None)), run))
    assert [write for write in found.writes if isinstance(write, Intent)] == []


@pytest.mark.parametrize(
    ("phase", "code", "told"),
    [
        ("exited", 0, "ran, succeeded with exit code 0"),
        ("exited", 3, "ran, failed with exit code 3"),
        ("exited", 128, "ran, failed with exit code 128"),
        ("exited", 137, "ran, failed with exit code 137"),
        ("lost", None, "ran, failed"),
    ],
)
def test_whoever_started_it_is_told_how_it_ended_already(phase: str, code: int | None, told: str) -> None:
    run = a_run("running")
    attempt = an_attempt(run)
    live = seen_as(phase, attempt) if code is None else exited(attempt, code)
    found = planned(a_job(retries=False), seen_in(live, run))
    assert found.writes[-1] == done(accepted("start"), told, run)


def test_whoever_started_it_is_told_what_its_next_attempt_waits_for() -> None:
    run = a_run("running")
    found = planned(a_job(delays=(30,)), seen_in(exited(an_attempt(run), 1), run))
    told = "waits: attempt 1 ended (exit code 1), attempt 2 follows"
    assert found.writes[-1] == done(accepted("start"), told, run)


NO_START = [
    # what was seen, how it is told
    ("failed_cwd", {}, 'changing to "/srv" failed'),
    (126, {}, "not executable (exit code 126)"),
    (127, {}, "command not found (exit code 127)"),
    ("blank", {"blank_launches": 2}, "not started"),
    ("blank", {"refusal": Reason.ENVIRONMENT, "detail": "env_file .env: no such file"}, "env_file .env: no such file"),
]


@pytest.mark.parametrize("kind", ["start", "run", "restart"])
@pytest.mark.parametrize(
    ("seen", "fields", "how"), NO_START, ids=["cwd", "not executable", "not found", "blank", "environment"]
)
@pytest.mark.parametrize(
    ("retry", "next_attempt"),
    [({"delays": (30,)}, "; next attempt 12:00:30Z"), ({"max_attempts": 0}, ""), ({"retries": False}, "")],
    ids=["retried", "used up", "not retried"],
)
def test_a_start_that_failed_to_start_is_refused_and_says_how_and_what_follows(
    seen: str | int, fields: dict[str, Any], how: str, retry: dict[str, Any], next_attempt: str, kind: str
) -> None:
    job = a_job(cwd="/srv", **retry)
    run = a_run("running")
    attempt = an_attempt(run, job, **fields)
    live = seen_as(seen, attempt) if isinstance(seen, str) else exited(attempt, seen)
    intent = accepted(kind, run_id=run.id)
    found = planned(job, a_job_state(ActiveRun(run, live), intents=(intent,)))
    assert found.writes[-1] == refused(intent, f'cannot {kind} "job": attempt 1 did not start: {how}{next_attempt}')


def test_a_later_attempt_that_failed_to_start_is_told_by_its_number() -> None:
    run = continuous_run(attempts=4, failures=3)
    intent = accepted("start", run_id=run.id)
    attempt = an_attempt(run, SERVICE, started_at=ago(1))
    state = a_job_state(ActiveRun(run, exited(attempt, 127)), intents=(intent,))
    told = 'cannot start "job": attempt 4 did not start: command not found (exit code 127); next attempt 12:15:00Z'
    assert planned(SERVICE, state).writes[-1] == refused(intent, told)


def test_whoever_asked_for_a_run_that_is_gone_is_answered() -> None:
    intent = accepted("start", run_id="long-gone")
    assert planned(JOB, a_job_state(intents=(intent,))) == Plan(writes=(done(intent, "ran"),))


# --- stop ---


def stopped_by(intent: Intent, run: Run, job: JobSpec, *writes: Any, force: bool = False) -> Plan:
    """A plan that takes the stop and tells the run's process."""
    ordered = an_attempt(run, job, stop=an_order(force=force))
    until = later(0.05) if force else later(60)
    return Plan(
        writes=(
            run._replace(ending=Reason.STOP_REQUESTED, ending_force=force),
            ordered,
            *writes,
            intent._replace(state=IntentState.ACCEPTED),
        ),
        effects=(Signal(ordered, None, TERM, is_kill=force, reason=Reason.STOP_REQUESTED),),
        waits=(a_wait(Reason.STOPPING, run, "stop requested", NOW, until),),
        wake_at=until,
    )


@pytest.mark.parametrize("force", [False, True])
def test_a_stop_ends_the_run_of_a_job_and_holds_nothing(force: bool) -> None:
    run, intent = a_run("running"), an_intent("stop", force=force)
    found = planned(JOB, a_job_state(with_process(run), intents=(intent,)))
    assert found == stopped_by(intent, run, JOB, force=force)


def test_a_stop_of_a_continuous_job_holds_it_until_a_start() -> None:
    run, intent = continuous_run(), an_intent("stop")
    found = planned(SERVICE, a_job_state(with_process(run, SERVICE), intents=(intent,)))
    assert found == stopped_by(intent, run, SERVICE, a_hold("stop", NOW))


def test_a_stop_cancels_what_waits_and_is_answered_at_once() -> None:
    queued, retry = a_run("queued", occasion="intent:7"), a_run("retrying", occasion="intent:8")
    state = a_job_state(waiting(queued), waiting(retry), intents=(an_intent("stop"),))
    assert planned(JOB, state) == Plan(
        writes=(
            over(queued, "stopped", Reason.STOP_REQUESTED),
            over(retry, "stopped", Reason.STOP_REQUESTED),
            done(an_intent("stop"), "stopped"),
        )
    )


def test_a_slot_whose_run_was_stopped_before_it_began_was_skipped() -> None:
    job = a_job("scheduled")
    run = a_run("queued", slot=ago(60))
    state = a_job_state(waiting(run), cursor=a_cursor(job, ago(60), later(3600)), intents=(an_intent("stop"),))
    assert planned(job, state) == Plan(
        writes=(
            over(run, "stopped", Reason.STOP_REQUESTED),
            slots_row(ago(60), "skipped", Reason.STOP_REQUESTED, run=run),
            done(an_intent("stop"), "stopped"),
        ),
        wake_at=later(3600),
    )


def test_a_slot_whose_run_has_begun_stays_recorded_as_having_run() -> None:
    job = a_job("scheduled")
    run = a_run("retrying", slot=ago(60))
    state = a_job_state(waiting(run), cursor=a_cursor(job, ago(60), later(3600)), intents=(an_intent("stop"),))
    assert planned(job, state).writes == (
        over(run, "stopped", Reason.STOP_REQUESTED),
        done(an_intent("stop"), "stopped"),
    )


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (None, "was not running (it never ran)"),
        (a_run("succeeded", exit_code=0), "was not running (last run ended 2026-06-01 11:59Z, exited 0)"),
        (a_run("failed"), "was not running (last run ended 2026-06-01 11:59Z, failed)"),
    ],
)
def test_a_stop_of_what_does_not_run_says_when_it_last_did(last: Run | None, message: str) -> None:
    state = a_job_state(newest_finished=last, intents=(an_intent("stop"),))
    assert planned(JOB, state) == Plan(writes=(done(an_intent("stop"), message),))


def test_a_service_that_does_not_run_is_held_by_a_stop_all_the_same() -> None:
    found = planned(SERVICE, a_job_state(intents=(an_intent("stop"),)))
    assert found == Plan(
        writes=(a_hold("stop", NOW), done(an_intent("stop"), "was not running (it never ran)")),
        waits=(a_wait(Reason.STOPPED, None, "by alice", NOW),),
    )


def test_a_second_stop_leaves_the_first_hold_as_it_is() -> None:
    state = a_job_state(holds=(a_hold("stop"),), intents=(an_intent("stop", requested_by="bob"),))
    [written] = planned(SERVICE, state).writes
    assert isinstance(written, Intent)


def test_force_comes_in_time_while_the_grace_of_a_stop_lasts() -> None:
    run = a_run("running", ending=Reason.STOP_REQUESTED)
    attempt = an_attempt(run, stop=an_order(asked_ago=3, signalled_ago=3))
    first, second = accepted("stop", 1), an_intent("stop", 2, force=True)
    forced = attempt._replace(stop=an_order(asked_ago=3, signalled_ago=3, force=True))
    assert planned(JOB, a_job_state(ActiveRun(run, alive(attempt)), intents=(first, second))) == Plan(
        writes=(run._replace(ending_force=True), forced, second._replace(state=IntentState.ACCEPTED)),
        effects=(Signal(forced, None, TERM, is_kill=True, reason=Reason.STOP_REQUESTED),),
        waits=(a_wait(Reason.STOPPING, run, "stop requested", ago(3), later(0.05)),),
        wake_at=later(0.05),
    )


def test_a_stop_is_answered_when_nothing_is_left() -> None:
    run = a_run("running", ending=Reason.STOP_REQUESTED)
    attempt = an_attempt(run, stop=an_order(asked_ago=3, signalled_ago=3))
    intent = accepted("stop")
    assert planned(JOB, a_job_state(ActiveRun(run, exited(attempt, 143)), intents=(intent,))) == Plan(
        writes=(
            over(run, "stopped", Reason.STOP_REQUESTED, exit_code=143),
            ended(attempt, Reason.STOP_REQUESTED, 143),
            done(intent, "stopped"),
        )
    )


def test_a_job_that_is_no_longer_declared_can_still_be_stopped_by_force() -> None:
    run = a_run("running", ending=Reason.REMOVED)
    attempt = an_attempt(run, stop=an_order(Reason.REMOVED, 3, signalled_ago=3))
    state = a_job_state(ActiveRun(run, alive(attempt)), intents=(an_intent("stop", force=True),))
    [effect] = planned(None, state).effects
    assert isinstance(effect, Signal)
    assert effect.is_kill


# --- restart ---


@pytest.mark.parametrize("job", [JOB, SERVICE], ids=["manual", "continuous"])
def test_a_restart_stops_first(job: JobSpec) -> None:
    run = continuous_run() if job is SERVICE else a_run("running")
    intent = an_intent("restart")
    found = planned(job, a_job_state(with_process(run, job), intents=(intent,)))
    ordered = an_attempt(run, job, stop=an_order(Reason.RESTART_REQUESTED))
    assert found == Plan(
        writes=(run._replace(ending=Reason.RESTART_REQUESTED), ordered, intent._replace(state=IntentState.ACCEPTED)),
        effects=(Signal(ordered, None, TERM, is_kill=False, reason=Reason.RESTART_REQUESTED),),
        waits=(a_wait(Reason.STOPPING, run, "restart requested", NOW, later(60)),),
        wake_at=later(60),
    )


@pytest.mark.parametrize("job", [JOB, SERVICE], ids=["manual", "continuous"])
def test_a_restart_starts_a_new_run_once_nothing_is_left_of_the_old(job: JobSpec) -> None:
    old = continuous_run() if job is SERVICE else a_run("running", occasion="intent:9")
    old = old._replace(ending=Reason.RESTART_REQUESTED, failures=3, restarts=3)
    attempt = an_attempt(old, job, stop=an_order(Reason.RESTART_REQUESTED, 3, signalled_ago=3))
    new = of_intent(job=job)
    assert planned(job, a_job_state(ActiveRun(old, exited(attempt, 143)), intents=(accepted("restart"),))) == Plan(
        writes=(
            over(old, "stopped", Reason.RESTART_REQUESTED, exit_code=143),
            started(new, job),
            ended(attempt, Reason.RESTART_REQUESTED, 143),
            accepted("restart", run_id=new.id),
        ),
        effects=(a_start(new, job, _why(job)),),
        wake_at=NOW,
    )


@pytest.mark.parametrize(
    ("job", "state"),
    [
        (JOB, a_job_state()),
        (SERVICE, a_job_state(newest_finished=continuous_run("failed"))),
        (changed(SERVICE, enabled=False), a_job_state()),
    ],
    ids=["at rest", "failed", "disabled"],
)
def test_a_restart_of_what_does_not_run_is_a_start(job: JobSpec, state: JobState) -> None:
    assert planned(job, state._replace(intents=(an_intent("restart"),))) == started_by(an_intent("restart"), job)


def test_a_restart_clears_a_stop() -> None:
    state = a_job_state(holds=(a_hold("stop"),), intents=(an_intent("restart"),))
    lifted = HoldLifted("job", HoldKind.STOP)
    assert planned(SERVICE, state) == started_by(an_intent("restart"), SERVICE, lifted)


def test_a_restart_of_what_waits_to_retry_starts_at_once_and_counts_afresh() -> None:
    old = continuous_run("retrying", failures=4, restarts=4, not_before_at=later(900))
    found = planned(SERVICE, a_job_state(waiting(old), intents=(an_intent("restart"),)))
    fresh = started_by(an_intent("restart"), SERVICE)
    gone = over(old, "stopped", Reason.RESTART_REQUESTED)
    assert found == replace(fresh, writes=(gone, *fresh.writes))


def test_all_who_restart_a_job_meanwhile_get_the_same_run() -> None:
    old = continuous_run(ending=Reason.RESTART_REQUESTED)
    attempt = an_attempt(old, SERVICE, stop=an_order(Reason.RESTART_REQUESTED, 3, signalled_ago=3))
    intents = (accepted("restart", 1), accepted("restart", 2), accepted("start", 3))
    found = planned(SERVICE, a_job_state(ActiveRun(old, exited(attempt, 0)), intents=intents))
    new = of_intent(1, SERVICE)
    assert [write for write in found.writes if isinstance(write, Intent)] == [
        intent._replace(run_id=new.id) for intent in intents
    ]
    assert len(found.effects) == 1


def test_a_restart_of_what_is_paused_is_refused_and_leaves_alone_what_runs() -> None:
    state = a_job_state(with_process(continuous_run(), SERVICE), holds=(a_hold("pause"),))
    found = planned(SERVICE, state._replace(intents=(an_intent("restart"),)))
    [answer] = found.writes
    assert isinstance(answer, Intent)
    assert (answer.state, found.effects) == (IntentState.REFUSED, ())


def test_a_restart_by_force_kills_at_once() -> None:
    state = a_job_state(with_process(continuous_run(), SERVICE), intents=(an_intent("restart", force=True),))
    [signal] = planned(SERVICE, state).effects
    assert isinstance(signal, Signal)
    assert signal.is_kill


# --- one after the other ---


def test_whoever_asked_for_a_run_that_was_stopped_before_it_began_is_told_so() -> None:
    first, own = a_run("running", occasion="first"), a_run("queued", occasion="own")
    intents = (accepted("run", 1, run_id=own.id), an_intent("stop", 2))
    found = planned(JOB, a_job_state(with_process(first), waiting(own), intents=intents))
    assert refused(intents[0], 'cannot run "job": the run is stopped: stop requested') in found.writes


def test_whoever_waits_for_a_lock_is_told_once_it_has_been_tried() -> None:
    job = changed(JOB, lock=Lock("a lock", LockProvider.FILE, None, 300))
    run = a_run("queued")
    intent = accepted("run", run_id=run.id)
    untried = a_job_state(waiting(run), intents=(intent,))
    assert [write for write in planned(job, untried).writes if isinstance(write, Intent)] == []
    tried = untried._replace(lock=LockSight(is_free=False, holder="other (run x)"))
    answers = [write.message for write in planned(job, tried).writes if isinstance(write, Intent)]
    assert answers == ["waits: lock a lock: held by other (run x)"]


def test_a_start_while_it_is_being_stopped_waits_for_that_and_then_starts() -> None:
    old = continuous_run(ending=Reason.STOP_REQUESTED)
    attempt = an_attempt(old, SERVICE, stop=an_order(asked_ago=3, signalled_ago=3))
    intents = (accepted("stop", 1), an_intent("start", 2))
    waits_for = planned(SERVICE, a_job_state(ActiveRun(old, alive(attempt)), holds=(a_hold("stop"),), intents=intents))
    assert waits_for.writes == (HoldLifted("job", HoldKind.STOP), accepted("start", 2))
    gone = planned(
        SERVICE,
        a_job_state(ActiveRun(old, exited(attempt, 143)), intents=(accepted("stop", 1), accepted("start", 2))),
    )
    new = of_intent(2, SERVICE)
    assert gone.writes[-2:] == (done(accepted("stop", 1), "stopped"), accepted("start", 2, run_id=new.id))
    assert gone.effects == (a_start(new, SERVICE, "wanted running"),)


@pytest.mark.parametrize("kind", ["start", "restart"])
def test_the_last_word_counts_a_stop_cancels_a_start_that_still_waits(kind: str) -> None:
    old = continuous_run(ending=Reason.RESTART_REQUESTED)
    attempt = an_attempt(old, SERVICE, stop=an_order(Reason.RESTART_REQUESTED, 3, signalled_ago=3))
    intents = (accepted(kind, 1), an_intent("stop", 2, requested_by="bob"))
    found = planned(SERVICE, a_job_state(ActiveRun(old, alive(attempt)), intents=intents))
    assert found.writes == (
        a_hold("stop", NOW, "bob"),
        refused(accepted(kind, 1), f'cannot {kind} "job": stopped by bob meanwhile'),
        accepted("stop", 2, requested_by="bob"),
    )


def test_a_stop_right_after_a_restart_leaves_a_manual_job_stopped() -> None:
    old = a_run("running", occasion="intent:9")
    intents = (an_intent("restart", 1), an_intent("stop", 2))
    state = a_state(a_job_state(with_process(old), intents=intents))
    found = planned(JOB, state.jobs["job"])
    after = carried_out(state, found, NOW).jobs["job"]
    live = after.active[0].live
    assert live is not None
    assert after.intents == (accepted("stop", 2),)
    gone = planned(JOB, after._replace(active=(ActiveRun(after.active[0].run, exited(live.attempt, 143)),)))
    assert gone.effects == ()
    assert gone.writes[-1] == done(accepted("stop", 2), "stopped")


def test_a_start_right_after_a_stop_of_what_waits_starts_in_the_same_plan() -> None:
    old = continuous_run("retrying", failures=2, not_before_at=later(30))
    found = planned(SERVICE, a_job_state(waiting(old), intents=(an_intent("stop", 1), an_intent("start", 2))))
    new = of_intent(2, SERVICE)
    assert found.effects == (a_start(new, SERVICE, "wanted running"),)
    assert accepted("start", 2, run_id=new.id) in found.writes
    assert done(an_intent("stop", 1), "stopped") in found.writes


# --- pause and resume ---


def test_a_pause_leaves_what_runs_alone() -> None:
    state = a_job_state(with_process(a_run("running")), intents=(an_intent("pause"),))
    told = done(an_intent("pause"), "paused: what runs goes on, nothing new starts")
    assert planned(JOB, state) == Plan(writes=(a_hold("pause", NOW), told))


def test_a_pause_makes_a_retry_wait() -> None:
    run = a_run("retrying", not_before_at=ago(1))
    told = done(an_intent("pause"), "paused: what runs goes on, nothing new starts")
    assert planned(JOB, a_job_state(waiting(run), intents=(an_intent("pause"),))) == Plan(
        writes=(a_hold("pause", NOW), told), waits=(a_wait(Reason.PAUSED, run, "by alice", NOW),)
    )


def test_a_resume_lets_what_waits_start_in_the_same_plan() -> None:
    run = a_run("retrying", not_before_at=ago(1))
    state = a_job_state(waiting(run), holds=(a_hold("pause"),), intents=(an_intent("resume"),))
    assert planned(JOB, state) == Plan(
        writes=(started(run), HoldLifted("job", HoldKind.PAUSE), done(an_intent("resume"), "resumed")),
        effects=(a_start(run, JOB, "attempt 2 after 1 failed", 2),),
    )


def test_a_resume_does_not_lift_a_stop() -> None:
    state = a_job_state(holds=(a_hold("pause"), a_hold("stop")), intents=(an_intent("resume"),))
    assert planned(SERVICE, state) == Plan(
        writes=(HoldLifted("job", HoldKind.PAUSE), done(an_intent("resume"), "resumed")),
        waits=(a_wait(Reason.STOPPED, None, "by alice", HOUR_AGO),),
    )


@pytest.mark.parametrize(
    ("kind", "holds", "message"),
    [("pause", (a_hold("pause"),), "already paused"), ("resume", (), "was not paused")],
)
def test_pausing_or_resuming_twice_succeeds_and_says_so(kind: str, holds: tuple[Any, ...], message: str) -> None:
    state = a_job_state(holds=holds, intents=(an_intent(kind),))
    assert planned(JOB, state) == Plan(writes=(done(an_intent(kind), message),))


@pytest.mark.parametrize("kind", ["hold_home", "release_home"])
def test_what_concerns_the_home_is_refused_for_a_job(kind: str) -> None:
    found = planned(JOB, a_job_state(intents=(an_intent(kind),)))
    assert found == Plan(writes=(refused(an_intent(kind), f"{kind} does not concern a job"),))


def test_starting_a_service_leaves_alone_what_is_planned_for_later() -> None:
    planned_run = a_run("queued", trigger="eta", occasion="intent:7@0", not_before_at=later(3600))
    asked = an_intent("start")
    decided = planned(SERVICE, a_job_state(waiting(planned_run), intents=(asked,)))
    made = of_intent(job=SERVICE)
    assert [effect.run_id for effect in decided.effects if isinstance(effect, Start)] == [made.id]
    assert planned_run.id not in [write.id for write in decided.writes if isinstance(write, Run)]


# --- planned for later ---


def of_later(number: int = 1, **fields: Any) -> Run:
    fields = {"trigger": "eta", "queued_at": NOW, "not_before_at": later(600), **fields}
    return a_run("queued", occasion=f"intent:{number}@{to_microseconds(NOW)}", **fields)


def planning(at: Any = None, number: int = 1) -> Intent:
    return an_intent("run", number, details=Details(at=at or later(600)))


PLANNED = of_later()


def test_a_run_is_planned_for_later_and_that_is_the_answer() -> None:
    found = planned(JOB, a_job_state(intents=(planning(),)))
    told = done(planning(), f"planned for 2026-06-01T12:10:00Z (run {PLANNED.id})", PLANNED)
    assert found == Plan(
        writes=(PLANNED, told),
        waits=(a_wait(Reason.ETA, PLANNED, "planned for later", NOW, later(600)),),
        wake_at=later(600),
    )


@pytest.mark.parametrize(("seconds", "starts"), [(599.9, False), (600, True), (9000, True)])
def test_it_does_not_start_before_its_time(seconds: float, starts: bool) -> None:
    found = planned(JOB, a_job_state(waiting(PLANNED)), later(seconds))
    assert bool(found.effects) is starts


def test_planned_for_a_time_that_has_come_is_now() -> None:
    found = planned(JOB, a_job_state(intents=(planning(NOW),)))
    assert [type(effect) for effect in found.effects] == [Start]


@pytest.mark.parametrize("kind", ["start", "run", "restart"])
def test_what_is_planned_does_not_count_as_active(kind: str) -> None:
    job = changed(JOB, queue_excess=False)
    found = planned(job, a_job_state(waiting(PLANNED), intents=(an_intent(kind, 2),)))
    assert [effect.run_id for effect in found.effects if isinstance(effect, Start)] == [of_intent(2).id]
    assert not [write for write in found.writes if write == PLANNED or getattr(write, "id", "") == PLANNED.id]


def test_a_slot_does_not_count_it_either_and_ends_it_neither() -> None:
    job = a_job("scheduled", on_overlap="kill_restart")
    cursor = a_cursor(job, ago(3600), NOW)
    found = planned(job, a_job_state(waiting(PLANNED), cursor=cursor))
    assert len([effect for effect in found.effects if isinstance(effect, Start)]) == 1
    assert PLANNED.id not in {write.id for write in found.writes if isinstance(write, Run)}


def test_a_stop_leaves_it_planned() -> None:
    found = planned(JOB, a_job_state(waiting(PLANNED), intents=(an_intent("stop", 2),)))
    assert [write for write in found.writes if isinstance(write, Run)] == []
    both = a_job_state(waiting(PLANNED), with_process(a_run("running")), intents=(an_intent("stop", 2),))
    ending = [write for write in planned(JOB, both).writes if isinstance(write, Run)]
    assert [run.id for run in ending] == [a_run("running").id]


def test_a_stop_ends_it_once_its_time_has_come() -> None:
    found = planned(JOB, a_job_state(waiting(PLANNED), intents=(an_intent("stop", 2),)), later(600))
    assert [write.state for write in found.writes if isinstance(write, Run)] == ["stopped"]


@pytest.mark.parametrize(
    ("kind", "state", "reason", "message"),
    [
        ("cancel_eta", "stopped", Reason.CANCELLED, "cancelled 1 planned"),
        ("revoke", "revoked", Reason.REVOKED, "revoked, 1 waiting cancelled"),
    ],
)
def test_it_can_be_cancelled(kind: str, state: str, reason: Reason, message: str) -> None:
    intent = an_intent(kind, 2)
    found = planned(JOB, a_job_state(waiting(PLANNED), intents=(intent,)))
    assert [write for write in found.writes if isinstance(write, Run)] == [over(PLANNED, state, reason)]
    assert [write for write in found.writes if isinstance(write, Intent)] == [done(intent, message)]


def test_a_job_that_is_gone_takes_it_along() -> None:
    found = planned(None, a_job_state(waiting(PLANNED)))
    assert found.writes == (over(PLANNED, "stopped", Reason.REMOVED),)


def test_there_may_be_nothing_to_cancel() -> None:
    intent = an_intent("cancel_eta")
    state = a_job_state(waiting(a_run("queued", closed=in_line(NOW))), intents=(intent,))
    assert done(intent, "nothing was planned") in planned(JOB, state).writes


def test_the_time_a_person_named_is_one_of_the_wall_clock() -> None:
    """The clock is set back by an hour."""
    found = planned(JOB, a_job_state(waiting(PLANNED)), ago(3600))
    moved = PLANNED._replace(queued_at=ago(3600))
    assert [write for write in found.writes if isinstance(write, Run)] == [moved]
    assert found.wake_at == later(600)


def test_everything_is_stopped_and_what_is_planned_stays_also_if_its_time_comes_meanwhile() -> None:
    for now in (NOW, later(900)):
        found = planned(JOB, a_job_state(waiting(PLANNED)), now, home_holds=HOME_HELD_SINCE_NOW)
        assert [write for write in found.writes if isinstance(write, Run)] == []
        assert [wait.reason for wait in found.waits] == [Reason.HOME_STOPPED]


HOME_HELD_SINCE_NOW = (a_hold("stop", NOW, job_id=HOME),)


def test_a_service_cannot_be_planned_for_later() -> None:
    message = 'cannot plan "job" for later: it is continuous, so it is wanted running all the time'
    state = a_job_state(with_process(continuous_run(), SERVICE), intents=(planning(),))
    assert planned(SERVICE, state).writes == (refused(planning(), message),)


def test_a_paused_job_takes_no_plans() -> None:
    [answer] = planned(JOB, a_job_state(holds=(a_hold("pause"),), intents=(planning(),))).writes
    assert isinstance(answer, Intent)
    assert answer.message.endswith("resume first (procclaw resume job)")


# --- revoked ---

REVOKED = Hold("job", HoldKind.REVOKE, NOW, "alice")


def revoking(until: Any = None, **fields: Any) -> Intent:
    return an_intent("revoke", details=Details(until=until), **fields)


def test_a_revoked_job_starts_nothing_and_what_waits_is_cancelled() -> None:
    waits = a_run("queued", occasion="waits", closed=in_line(NOW))
    retries = a_run("retrying", occasion="retries", failures=3, not_before_at=later(60))
    runs = with_process(a_run("running"))
    found = planned(JOB, a_job_state(runs, waiting(waits), waiting(retries), intents=(revoking(),)))
    assert found == Plan(
        writes=(
            over(waits, "revoked", Reason.REVOKED),
            over(retries, "revoked", Reason.REVOKED),
            REVOKED,
            done(revoking(), "revoked, 2 waiting cancelled; what runs goes on"),
        )
    )


def test_what_runs_is_stopped_with_it_on_demand() -> None:
    intent = revoking(force=True)
    run = a_run("running")
    found = planned(JOB, a_job_state(with_process(run), intents=(intent,)))
    assert [write for write in found.writes if isinstance(write, Run)] == [run._replace(ending=Reason.REVOKED)]
    assert [type(effect) for effect in found.effects] == [Signal]
    assert [write.state for write in found.writes if isinstance(write, Intent)] == [IntentState.ACCEPTED]
    ending = ActiveRun(
        run._replace(ending=Reason.REVOKED),
        exited(an_attempt(run, stop=an_order(Reason.REVOKED, signalled_ago=1)), 143),
    )
    taken = accepted("revoke", details=intent.details, force=True)
    after = planned(JOB, a_job_state(ending, holds=(REVOKED,), intents=(taken,)))
    assert [write.state for write in after.writes if isinstance(write, Run)] == ["revoked"]
    assert done(taken, "revoked and stopped") in after.writes


@pytest.mark.parametrize(("seconds", "is_lifted"), [(59, False), (60, True), (900, True)])
def test_a_revocation_ends_by_the_clock(seconds: float, is_lifted: bool) -> None:
    hold = REVOKED._replace(until=later(60))
    found = planned(SERVICE, a_job_state(holds=(hold,)), later(seconds))
    lifted = HoldLifted("job", HoldKind.REVOKE)
    assert (lifted in found.writes, bool(found.effects)) == (is_lifted, is_lifted)
    assert is_lifted or found.wake_at == later(60)


def test_a_revocation_until_a_time_that_has_passed_is_refused() -> None:
    message = 'cannot revoke "job": 2026-06-01T12:00:00Z has passed'
    assert planned(JOB, a_job_state(intents=(revoking(NOW),))).writes == (refused(revoking(NOW), message),)


def test_revoking_again_moves_the_end_and_nothing_else() -> None:
    standing = a_hold("revoke")
    intent = revoking(later(60))
    found = planned(JOB, a_job_state(holds=(standing,), intents=(intent,)))
    told = done(intent, "revoked until 2026-06-01T12:01:00Z")
    assert found == Plan(writes=(standing._replace(until=later(60)), told), wake_at=later(60))


@pytest.mark.parametrize(("holds", "message"), [((REVOKED,), "no longer revoked"), ((), "was not revoked")])
def test_unrevoke_says_whether_there_was_anything_to_lift(holds: tuple[Hold, ...], message: str) -> None:
    found = planned(JOB, a_job_state(holds=holds, intents=(an_intent("unrevoke"),)))
    assert done(an_intent("unrevoke"), message) in found.writes


@pytest.mark.parametrize("kind", ["start", "run", "restart", "trigger"])
def test_a_revoked_job_refuses_every_start(kind: str) -> None:
    [answer] = planned(JOB, a_job_state(holds=(REVOKED,), intents=(an_intent(kind),))).writes
    why = f'cannot {kind} "job": revoked since 2026-06-01 12:00Z; unrevoke first (procclaw unrevoke job)'
    assert answer == refused(an_intent(kind), why)


def test_whoever_asked_for_a_run_that_is_cancelled_is_told() -> None:
    run = of_intent(closed=in_line(NOW))
    busy = with_process(a_run("running", occasion="other"))
    asked = accepted("run", run_id=run.id)
    found = planned(JOB, a_job_state(busy, waiting(run), intents=(asked, revoking()._replace(id=2))))
    assert refused(asked, 'cannot run "job": the run is revoked: revoked') in found.writes


# --- asked for twice ---

DEDUP = changed(JOB, dedup=Dedup(60, use_params=True), max_instances=9, params=(Param("p", "0", "", False, None),))
DEFAULT = (("p", "0"),)


def asked_for(state: str = "succeeded", seconds: float = 10, **fields: Any) -> Run:
    return a_run(state, **{"queued_at": ago(seconds), "params": DEFAULT, **fields})


@pytest.mark.parametrize(
    ("earlier", "params", "stands"),
    [
        (asked_for(), (), True),
        (asked_for(), (("p", "0"),), True),
        (asked_for(), (("p", "1"),), False),
        (asked_for(seconds=59.9), (), True),
        (asked_for(seconds=60), (), False),
        (asked_for("failed"), (), False),
        (asked_for("stopped"), (), False),
        (asked_for(params=(("p", "1"),)), (), False),
        (asked_for(queued_at=later(5)), (), False),
    ],
)
def test_the_same_request_within_the_window_is_answered_with_the_run_there_is(
    earlier: Run, params: tuple[tuple[str, str], ...], stands: bool
) -> None:
    intent = an_intent("run", details=Details(params=params))
    found = planned(DEDUP, a_job_state(recent=(earlier,), intents=(intent,)))
    if stands:
        ago_seconds = int((NOW - earlier.queued_at).total_seconds())
        told = done(intent, f"stands already: run {earlier.id}, asked for {ago_seconds} s ago (dedup)", earlier)
        assert found == Plan(writes=(told,))
    else:
        assert [type(effect) for effect in found.effects] == [Start]


def test_params_may_not_matter() -> None:
    job = changed(DEDUP, dedup=Dedup(60, use_params=False))
    intent = an_intent("run", details=Details(params=(("p", "1"),)))
    assert planned(job, a_job_state(recent=(asked_for(),), intents=(intent,))).effects == ()


def test_what_is_planned_for_later_stands_for_nothing_and_is_no_duplicate() -> None:
    ahead = PLANNED._replace(params=DEFAULT)
    state = a_job_state(waiting(ahead), recent=(ahead, asked_for()), intents=(planning(number=2),))
    [run, answer] = planned(DEDUP, state).writes
    assert isinstance(run, Run)
    assert isinstance(answer, Intent)
    assert answer.run_id == run.id
    state = a_job_state(waiting(ahead), recent=(ahead,), intents=(an_intent("run", 2),))
    assert [type(effect) for effect in planned(DEDUP, state).effects] == [Start]


def test_two_at_once_are_one() -> None:
    found = planned(DEDUP, a_job_state(intents=(an_intent("run", 1), an_intent("run", 2))))
    assert len([effect for effect in found.effects if isinstance(effect, Start)]) == 1
    assert [write.message for write in found.writes if isinstance(write, Intent)][1].startswith("stands already: run ")


def test_a_slot_is_skipped_for_a_run_that_stands_for_it() -> None:
    job = changed(DEDUP, type="scheduled", schedule="0 * * * *")
    cursor = a_cursor(job, ago(3600), NOW)
    [row] = [write for write in planned(job, a_job_state(recent=(asked_for(),), cursor=cursor)).writes
             if isinstance(write, Slots)]  # fmt: skip
    assert (row.outcome, row.reason) == ("skipped", Reason.DEDUP)


def test_slots_are_no_duplicates_of_each_other_however_late_they_are_noticed() -> None:
    """Each is compared by when it is due: a minute apart is not within a window of a minute."""
    job = changed(DEDUP, type="scheduled", schedule="* * * * *", catch_up="all")
    cursor = a_cursor(job, ago(180), ago(120))
    rows = [write for write in planned(job, a_job_state(cursor=cursor)).writes if isinstance(write, Slots)]
    assert [(row.outcome, row.total) for row in rows] == [("ran", 1)] * 3
    before = a_run("succeeded", slot=ago(60), queued_at=ago(59.5), params=DEFAULT)
    found = planned(job, a_job_state(recent=(before,), cursor=a_cursor(job, ago(60), NOW)))
    assert [row.outcome for row in found.writes if isinstance(row, Slots)] == ["ran"]


# --- starts with params ---


def test_a_start_with_other_params_asks_for_another_run() -> None:
    job = changed(JOB, max_instances=2)
    running = a_run("running", occasion="other", params=(("p", "1"),))
    same = an_intent("start", details=Details(params=(("p", "1"),)))
    other = an_intent("start", details=Details(params=(("p", "2"),)))
    [answer] = planned(job, a_job_state(with_process(running), intents=(same,))).writes
    assert isinstance(answer, Intent)
    assert answer.message == "already running (pid 1001)"
    found = planned(job, a_job_state(with_process(running), intents=(other,)))
    assert [effect.run_id for effect in found.effects if isinstance(effect, Start)] == [of_intent().id]
    [run] = [write for write in found.writes if isinstance(write, Run)]
    assert run.params == (("p", "2"),)


# --- triggers ---


def test_what_comes_from_outside_runs_the_job_with_what_came_along() -> None:
    intent = an_intent("trigger", 7, details=Details(has_payload=True, params=(("p", "1"),)))
    [run, _] = planned(JOB, a_job_state(intents=(intent,))).writes
    assert isinstance(run, Run)
    assert (run.trigger, run.request, run.params) == ("webhook", 7, (("p", "1"),))


def test_what_comes_from_outside_starts_neither_what_is_disabled_nor_what_was_stopped_by_hand() -> None:
    [answer] = planned(changed(JOB, enabled=False), a_job_state(intents=(an_intent("trigger"),))).writes
    assert answer == refused(
        an_intent("trigger"), 'cannot trigger "job": disabled in jobs.yaml (procclaw start job starts it)'
    )
    held = a_job_state(holds=(a_hold("stop"),), intents=(an_intent("trigger"),))
    [answer] = planned(SERVICE, held).writes
    message = 'cannot trigger "job": stopped by alice since 2026-06-01 11:00Z (procclaw start job)'
    assert answer == refused(an_intent("trigger"), message)


def test_what_comes_from_outside_finds_a_service_running_that_nobody_stopped() -> None:
    intent = an_intent("trigger")
    state = a_job_state(with_process(continuous_run(), SERVICE), intents=(intent,))
    told = done(intent._replace(run_id=continuous_run().id), "already running (pid 1001)")
    assert planned(SERVICE, state) == Plan(writes=(told,))


def test_a_stop_of_the_time_before_it_was_manual_does_not_keep_back_what_comes_from_outside() -> None:
    state = a_job_state(holds=(a_hold("stop"),), intents=(an_intent("trigger"),))
    [effect] = planned(JOB, state).effects
    assert (effect.job_id, effect.reason) == ("job", "triggered")  # type: ignore[union-attr]


# --- dead letters ---

FAILED = a_run("failed", occasion="failed", params=(("p", "1"),), trigger_file="/in/a")
LETTER = DeadLetter(5, "job", FAILED.id, ago(30), Reason.RETRIES_USED_UP, "", 1, 6)


def about(kind: str, *letters: int, number: int = 1) -> Intent:
    return an_intent(kind, number, details=Details(dead_letters=letters, params=FAILED.params))


def with_letters(*letters: DeadLetter, **fields: Any) -> JobState:
    return a_job_state(dead_letters=letters, dead_runs={FAILED.id: FAILED}, **fields)


def test_a_dead_letter_is_put_in_again_though_another_run_stands_for_the_same_request() -> None:
    job = changed(JOB, dedup=Dedup(60, use_params=True), max_instances=2)
    state = with_letters(LETTER, intents=(about("reinject", 5),))
    lately = with_process(a_run("running", occasion="lately", params=FAILED.params, queued_at=ago(5)), job)
    found = planned(job, state._replace(active=(lately,)))
    assert [write.trigger for write in found.writes if isinstance(write, Run)] == ["dead_letter"]


def test_a_dead_letter_is_put_in_again_once_with_what_it_was_given() -> None:
    found = planned(JOB, with_letters(LETTER, intents=(about("reinject", 5), about("reinject", 5, number=2))))
    [run] = [write for write in found.writes if isinstance(write, Run)]
    assert (run.trigger, run.params, run.trigger_file) == ("dead_letter", (("p", "1"),), "/in/a")
    assert LETTER._replace(reinjected_run_id=run.id) in found.writes
    [first, second] = [write for write in found.writes if isinstance(write, Intent)]
    assert (first.state, first.run_id) == (IntentState.ACCEPTED, run.id)
    assert second.message == f"cannot reinject: dead letter 5 was put in again already, as run {run.id}"


def test_each_request_is_about_its_own_dead_letter() -> None:
    other = LETTER._replace(id=6, run_id="another")
    state = with_letters(LETTER, other, intents=(about("purge", 5), about("reinject", 6, number=2)))
    found = planned(JOB, state)
    assert DeadLettersPurged((5,)) in found.writes
    assert [write.id for write in found.writes if isinstance(write, DeadLetter)] == [6]
    assert done(about("purge", 5), "purged 1 of the dead letter queue") in found.writes


def test_a_dead_letter_that_is_gone_cannot_be_put_in_again() -> None:
    found = planned(JOB, with_letters(LETTER, intents=(about("purge", 5), about("reinject", 5, number=2))))
    message = 'cannot reinject "job": no such entry in the dead letter queue'
    assert refused(about("reinject", 5, number=2), message) in found.writes
    assert found.effects == ()


def test_a_dead_letter_of_a_service_starts_it() -> None:
    state = with_letters(LETTER, newest_finished=continuous_run("failed"), intents=(about("reinject", 5),))
    found = planned(SERVICE, state)
    [run] = [write for write in found.writes if isinstance(write, Run)]
    assert run.trigger == "continuous"
    assert LETTER._replace(reinjected_run_id=run.id) in found.writes


def test_a_dead_letter_of_a_service_that_is_being_stopped_gets_the_run_that_comes_after() -> None:
    run = continuous_run(ending=Reason.STOP_REQUESTED)
    ending = ActiveRun(run, alive(an_attempt(run, SERVICE, stop=an_order(signalled_ago=1))))
    found = planned(SERVICE, with_letters(LETTER)._replace(active=(ending,), intents=(about("reinject", 5),)))
    [taken] = [write for write in found.writes if isinstance(write, Intent)]
    assert (taken.state, taken.run_id) == (IntentState.ACCEPTED, None)
    gone = with_letters(LETTER, newest_finished=over(run, "stopped", Reason.STOP_REQUESTED), intents=(taken,))
    found = planned(SERVICE, gone)
    [new] = [write for write in found.writes if isinstance(write, Run)]
    assert LETTER._replace(reinjected_run_id=new.id) in found.writes


def test_a_dead_letter_of_another_job_is_left_alone() -> None:
    found = planned(JOB, with_letters(LETTER, LETTER._replace(id=6, job_id="other"), intents=(about("purge", 5, 6),)))
    assert [write for write in found.writes if isinstance(write, DeadLettersPurged)] == [DeadLettersPurged((5,))]


def test_a_slot_that_nobody_saw_to_is_the_same_as_a_request_made_just_after_it() -> None:
    job = changed(a_job("scheduled"), dedup=Dedup(60, use_params=True))
    due_at = ago(20)
    state = a_job_state(cursor=a_cursor(job, ago(40), due_at), intents=(an_intent("run"),))
    found = planned(job, state)
    rows = [write for write in found.writes if isinstance(write, Slots)]
    assert [(str(row.outcome), row.reason) for row in rows] == [("skipped", Reason.DEDUP)]
    assert [type(effect) for effect in found.effects] == [Start]


# --- holds that end by themselves ---


def test_a_revoke_that_is_to_end_by_itself_holds_until_then() -> None:
    intent = an_intent("revoke", details=Details(until=later(600)))
    hold = a_hold("revoke", NOW)._replace(until=later(600))
    found = planned(JOB, a_job_state(intents=(intent,)))
    assert found.writes == (hold, done(intent, "revoked until 2026-06-01T12:10:00Z"))
    assert found.wake_at == later(600)


def test_the_loop_is_woken_when_a_hold_ends() -> None:
    hold = a_hold("revoke")._replace(until=later(60))
    assert planned(JOB, a_job_state(holds=(hold,))) == Plan(wake_at=later(60))


def test_whoever_waits_to_start_it_is_told_that_it_was_revoked_meanwhile() -> None:
    old = a_run("running", ending=Reason.RESTART_REQUESTED)
    attempt = an_attempt(old, stop=an_order(Reason.RESTART_REQUESTED, 3, signalled_ago=3))
    revoke = an_intent("revoke", 2)._replace(requested_by="bob")
    state = a_job_state(ActiveRun(old, alive(attempt)), intents=(accepted("restart", 1), revoke))
    told = refused(accepted("restart", 1), 'cannot restart "job": revoked by bob meanwhile')
    assert told in planned(JOB, state).writes
