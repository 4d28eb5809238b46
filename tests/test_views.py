"""How people see a job: its status, and in words why it is not running."""

from datetime import datetime
from typing import Any

import pytest

from procclaw.model.intents import Intent
from procclaw.model.outside import Process
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Event, Hold, Run, Usage
from procclaw.model.spec import Condition, Dependency, JobSpec, LimitAction, Priority, Resources
from procclaw.model.state import ActiveRun, JobState, Lack
from procclaw.planning.gates import Gate
from procclaw.planning.views import (
    STATUSES,
    event_view,
    gate_view,
    intent_view,
    job_view,
    matches,
    run_view,
    slots_view,
    status,
    words,
)
from tests.builders import (
    HOME_HELD,
    JOB,
    NOW,
    a_board,
    a_cursor,
    a_health,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    accepted,
    ago,
    alive,
    an_attempt,
    an_intent,
    an_order,
    changed,
    continuous_run,
    done,
    ended,
    exited,
    later,
    over,
    refused,
    slots_row,
    waiting,
    with_process,
)

MANUAL = a_job()
SERVICE = a_job("continuous")
HOURLY = a_job("scheduled")
ONESHOT = a_job("oneshot")
CHILD = Process(1234, 9999, "child")


def off(job: JobSpec) -> JobSpec:
    return changed(job, enabled=False)


def shown(job: JobSpec, state: JobState, home_holds: tuple[Hold, ...] = (), lack: Lack | None = None) -> dict[str, Any]:
    return job_view(job, a_board(job, states=[state], is_deciding=False), home_holds, lack, NOW)


def unbegun(run: Run | None = None, **fields: Any) -> ActiveRun:
    """Its start was decided, and of its process nothing is known."""
    return with_process(run or a_run("running"), pid=None, job_pid=None, start_ticks=None, **fields)


def swept(run: Run) -> ActiveRun:
    """Its main process has exited; of what it left behind something is alive."""
    attempt = an_attempt(run, exited_at=ago(2), exit_code=1, stop=an_order(Reason.LEFTOVERS, 2, signalled_ago=2))
    return ActiveRun(run, exited(attempt, 1, CHILD))


def a_failure(run: Run, how: str = "exit code 3", reason: Reason = Reason.RETRIES_USED_UP, code: int | None = 3) -> Run:
    return over(run, "failed", reason, ago(30), exit_code=code, detail=how)


FAILED = a_failure(a_run("running"))
FAILED_SERVICE = a_failure(continuous_run())
ALL_HOLDS = (a_hold("stop"), a_hold("pause"))
NOT_STARTED = Reason.NOT_STARTED
ENDING = {"ending": Reason.STOP_REQUESTED}
DUE = a_cursor(HOURLY, ago(60), later(3540))
FOR_LATER = a_run("queued", trigger="eta", queued_at=ago(60), not_before_at=later(60))


# --- status ---

SHOWN: list[tuple[str, str, JobSpec, JobState]] = [
    ("running", "a process lives", MANUAL, a_job_state(with_process(a_run("running")))),
    ("running", "disabled", off(MANUAL), a_job_state(with_process(a_run("running")))),
    ("running", "held", SERVICE, a_job_state(with_process(continuous_run()), holds=ALL_HOLDS)),
    ("running", "the last one failed", MANUAL, a_job_state(with_process(a_run("running")), newest_finished=FAILED)),
    (
        "running",
        "one of two ends",
        MANUAL,
        a_job_state(
            with_process(a_run("running", occasion="intent:1", **ENDING)),
            with_process(a_run("running", occasion="intent:2")),
        ),
    ),
    ("running", "it times out", MANUAL, a_job_state(with_process(a_run("running"), stop=an_order(Reason.TIMED_OUT)))),
    ("stopping", "it shall end", MANUAL, a_job_state(with_process(a_run("running", **ENDING)))),
    ("stopping", "it shall end, held", SERVICE, a_job_state(with_process(continuous_run(**ENDING)), holds=ALL_HOLDS)),
    ("stopping", "only leftovers live", MANUAL, a_job_state(swept(a_run("running")))),
    ("disabled", "at rest", off(MANUAL), a_job_state()),
    ("disabled", "held", off(SERVICE), a_job_state(holds=ALL_HOLDS)),
    ("disabled", "failed", off(MANUAL), a_job_state(newest_finished=FAILED)),
    ("disabled", "its slots are not due", off(HOURLY), a_job_state(cursor=DUE)),
    ("disabled", "the run of a slot waits", off(HOURLY), a_job_state(waiting(a_run("queued", slot=ago(60))))),
    ("disabled", "a retry of a slot", off(HOURLY), a_job_state(waiting(a_run("retrying", slot=ago(60))))),
    ("paused", "and stopped", SERVICE, a_job_state(holds=ALL_HOLDS)),
    ("paused", "with a retry", MANUAL, a_job_state(waiting(a_run("retrying")), holds=(a_hold("pause"),))),
    ("paused", "with a run that waits", MANUAL, a_job_state(waiting(a_run("queued")), holds=(a_hold("pause"),))),
    ("paused", "with slots to come", HOURLY, a_job_state(cursor=DUE, holds=(a_hold("pause"),))),
    ("paused", "failed", SERVICE, a_job_state(newest_finished=FAILED_SERVICE, holds=(a_hold("pause"),))),
    ("paused", "revoked", MANUAL, a_job_state(holds=(a_hold("revoke"),))),
    ("stopped", "held", SERVICE, a_job_state(holds=(a_hold("stop"),))),
    ("stopped", "held and failed", SERVICE, a_job_state(newest_finished=FAILED_SERVICE, holds=(a_hold("stop"),))),
    ("stopped", "held, with a retry", SERVICE, a_job_state(waiting(continuous_run("retrying")), holds=ALL_HOLDS[:1])),
    ("stopped", "never ran", MANUAL, a_job_state()),
    ("stopped", "ended well", MANUAL, a_job_state(newest_finished=a_run("succeeded"))),
    ("stopped", "not restarted", SERVICE, a_job_state(newest_finished=continuous_run("succeeded"))),
    ("stopped", "its moment has passed", ONESHOT, a_job_state(newest_finished=a_run("succeeded", slot=ago(60)))),
    ("retrying", "its delay lasts", MANUAL, a_job_state(waiting(a_run("retrying", not_before_at=later(9))))),
    ("retrying", "its delay is over", MANUAL, a_job_state(waiting(a_run("retrying")))),
    ("retrying", "with slots to come", HOURLY, a_job_state(waiting(a_run("retrying", slot=ago(60))), cursor=DUE)),
    (
        "retrying",
        "and another is queued",
        MANUAL,
        a_job_state(waiting(a_run("retrying", occasion="intent:1")), waiting(a_run("queued", occasion="intent:2"))),
    ),
    ("queued", "a run waits", MANUAL, a_job_state(waiting(a_run("queued")))),
    ("queued", "asked for though disabled", off(MANUAL), a_job_state(waiting(a_run("queued")))),
    ("queued", "with slots to come", HOURLY, a_job_state(waiting(a_run("queued", slot=ago(60))), cursor=DUE)),
    ("queued", "after a failure", MANUAL, a_job_state(waiting(a_run("queued")), newest_finished=FAILED)),
    ("planned", "slots to come", HOURLY, a_job_state(cursor=DUE)),
    ("planned", "a run for later", MANUAL, a_job_state(waiting(FOR_LATER))),
    ("planned", "after a failure", HOURLY, a_job_state(cursor=DUE, newest_finished=FAILED)),
    ("planned", "its moment comes", ONESHOT, a_job_state(cursor=a_cursor(ONESHOT, ago(60), later(60)))),
    ("pending", "not yet acted on", SERVICE, a_job_state()),
    ("pending", "its start is under way", MANUAL, a_job_state(unbegun())),
    ("pending", "its start failed and nobody has judged it", MANUAL, a_job_state(unbegun(refusal=NOT_STARTED))),
    ("paused", "before its start was made", MANUAL, a_job_state(unbegun(), holds=(a_hold("pause"),))),
    ("stopping", "before its start was made", MANUAL, a_job_state(unbegun(a_run("running", **ENDING)))),
    ("running", "one of two", changed(MANUAL, max_instances=2), a_job_state(unbegun(), with_process(a_run("running")))),
    ("pending", "stopped, and let go", SERVICE, a_job_state(newest_finished=continuous_run("stopped"))),
    ("pending", "edited", SERVICE, a_job_state(newest_finished=FAILED_SERVICE._replace(process_hash="before"))),
    ("pending", "slots not yet judged", HOURLY, a_job_state()),
    ("failed", "nothing follows", MANUAL, a_job_state(newest_finished=FAILED)),
    ("failed", "it stays down", SERVICE, a_job_state(newest_finished=FAILED_SERVICE)),
    ("failed", "its moment has passed", ONESHOT, a_job_state(newest_finished=FAILED)),
]


@pytest.mark.parametrize(
    ("wanted", "job", "state"),
    [(row[0], row[2], row[3]) for row in SHOWN],
    ids=[f"{row[0]}: {row[1]}" for row in SHOWN],
)
def test_a_job_has_the_first_status_that_holds_of_it(wanted: str, job: JobSpec, state: JobState) -> None:
    assert status(job, state, (), NOW) == wanted
    assert shown(job, state)["status"] == wanted


@pytest.mark.parametrize("job", [MANUAL, SERVICE, HOURLY], ids=lambda job: str(job.type))
@pytest.mark.parametrize(
    ("wanted", "fields"),
    [("stopped", {}), ("disabled", {"enabled": False}), ("paused", {"holds": (a_hold("pause"),)})],
)
def test_a_home_that_was_stopped_shows_its_jobs_stopped_unless_they_are_held_themselves(
    wanted: str, fields: dict[str, Any], job: JobSpec
) -> None:
    state = a_job_state(cursor=DUE if job is HOURLY else None, holds=fields.get("holds", ()), newest_finished=FAILED)
    view = shown(changed(job, enabled=fields.get("enabled", True)), state, HOME_HELD)
    assert (view["status"], view["next_run"]) == (wanted, None)


def test_a_home_that_is_being_stopped_shows_what_still_lives() -> None:
    assert status(MANUAL, a_job_state(with_process(a_run("running", **ENDING))), HOME_HELD, NOW) == "stopping"


def test_there_is_a_row_above_for_every_status() -> None:
    assert {row[0] for row in SHOWN} == set(STATUSES)


# --- the process ---


def process_of(job: JobSpec, state: JobState) -> tuple[Any, ...]:
    view = shown(job, state)
    return view["pid"], view["started_at"], view["uptime_seconds"], view["health"]


def test_a_job_that_runs_shows_its_process_and_since_when() -> None:
    state = a_job_state(with_process(a_run("running"), started_at=ago(90)))
    assert process_of(MANUAL, state) == (1001, "2026-06-01T11:58:30Z", 90, "healthy")


@pytest.mark.parametrize(("started_ago", "uptime"), [(1.2346, 1.235), (0, 0), (-5, 0)])
def test_how_long_it_runs_is_told_to_the_millisecond_and_never_less_than_nothing(
    started_ago: float, uptime: float
) -> None:
    state = a_job_state(with_process(a_run("running"), started_at=ago(started_ago)))
    assert shown(MANUAL, state)["uptime_seconds"] == uptime


def test_a_job_that_does_not_run_shows_no_process() -> None:
    state = a_job_state(waiting(a_run("retrying")), newest_finished=FAILED)
    assert process_of(MANUAL, state) == (None, None, None, "unknown")


def test_what_is_being_started_shows_neither_process_nor_health_and_says_what_it_lacks() -> None:
    state = a_job_state(unbegun())
    assert process_of(MANUAL, state) == (None, None, None, "unknown")
    assert shown(MANUAL, state)["reason"] == "the start of attempt 1 is under way"
    refused = a_job_state(unbegun(refusal=NOT_STARTED, detail="no such account"))
    assert shown(MANUAL, refused)["reason"] == "attempt 1 did not start: no such account"
    full = Lack(Reason.NO_DISK, "no space left", later(5))
    assert shown(MANUAL, state, lack=full)["reason"] == "no space left; until 2026-06-01T12:00:05Z"


def test_a_pid_is_shown_only_once_it_is_known() -> None:
    run = a_run("running")
    state = a_job_state(ActiveRun(run, alive(an_attempt(run, job_pid=None))))
    assert shown(MANUAL, state)["pid"] is None


def test_the_pid_of_a_process_that_is_gone_is_not_shown_while_its_leftovers_are_swept() -> None:
    assert shown(MANUAL, a_job_state(swept(a_run("running"))))["pid"] is None


def test_a_process_that_shall_end_shows_its_pid_until_it_is_gone() -> None:
    assert shown(MANUAL, a_job_state(with_process(a_run("running", **ENDING))))["pid"] == 1001


def test_restarts_are_those_of_the_newest_run() -> None:
    last = continuous_run("stopped", restarts=9)
    assert shown(SERVICE, a_job_state(newest_finished=last))["restart_count"] == 9
    state = a_job_state(waiting(continuous_run("retrying", occasion="continuous:2", restarts=2)), newest_finished=last)
    assert shown(SERVICE, state)["restart_count"] == 2


# --- the last start and the next ---

LATER_RETRY = a_run("retrying", not_before_at=later(30))
LATER_RESTART = continuous_run("retrying", not_before_at=later(30))
NEXT: list[tuple[str, JobSpec, JobState, datetime | None]] = [
    ("a manual job", MANUAL, a_job_state(), None),
    ("a service", SERVICE, a_job_state(), None),
    ("a slot to come", HOURLY, a_job_state(cursor=DUE), later(3540)),
    ("a slot that is due now", HOURLY, a_job_state(cursor=a_cursor(HOURLY, ago(60), NOW)), None),
    ("a slot not yet judged", HOURLY, a_job_state(cursor=a_cursor(HOURLY, ago(4000), ago(1))), None),
    ("a slot that comes while it runs", HOURLY, a_job_state(with_process(a_run("running")), cursor=DUE), later(3540)),
    ("slots of a disabled job", off(HOURLY), a_job_state(cursor=DUE), None),
    (
        "a retry of a disabled job",
        off(HOURLY),
        a_job_state(waiting(a_run("retrying", slot=ago(60), not_before_at=later(30)))),
        None,
    ),
    ("a run for later", MANUAL, a_job_state(waiting(FOR_LATER)), later(60)),
    (
        "slots of a paused job that still runs",
        HOURLY,
        a_job_state(with_process(a_run("running")), cursor=DUE, holds=(a_hold("pause"),)),
        None,
    ),
    ("slots of a paused job", HOURLY, a_job_state(cursor=DUE, holds=(a_hold("pause"),)), None),
    ("a retry of a paused job", MANUAL, a_job_state(waiting(LATER_RETRY), holds=(a_hold("pause"),)), None),
    ("a restart of a stopped service", SERVICE, a_job_state(waiting(LATER_RESTART), holds=(a_hold("stop"),)), None),
    ("a retry", MANUAL, a_job_state(waiting(LATER_RETRY)), later(30)),
    ("a restart", SERVICE, a_job_state(waiting(LATER_RESTART)), later(30)),
    ("a retry that waits at a gate", MANUAL, a_job_state(waiting(a_run("retrying", not_before_at=ago(30)))), None),
    ("a run that waits at a gate", MANUAL, a_job_state(waiting(a_run("queued"))), None),
    (
        "a run that waits for its jitter",
        HOURLY,
        a_job_state(waiting(a_run(slot=NOW, not_before_at=later(5)))),
        later(5),
    ),
    (
        "a retry before the next slot",
        HOURLY,
        a_job_state(waiting(a_run("retrying", slot=ago(60), not_before_at=later(30))), cursor=DUE),
        later(30),
    ),
    (
        "a slot before the retry",
        HOURLY,
        a_job_state(waiting(a_run("retrying", slot=ago(60), not_before_at=later(9000))), cursor=DUE),
        later(3540),
    ),
    (
        "a slot after a run at a gate",
        HOURLY,
        a_job_state(waiting(a_run("queued", slot=ago(60))), cursor=DUE),
        later(3540),
    ),
]


@pytest.mark.parametrize(("job", "state", "at"), [row[1:] for row in NEXT], ids=[row[0] for row in NEXT])
def test_the_next_run_is_the_next_moment_at_which_the_clock_alone_starts_it(
    job: JobSpec, state: JobState, at: datetime | None
) -> None:
    assert shown(job, state)["next_run"] == (None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}")


def test_a_home_that_was_stopped_has_no_next_runs_also_of_what_still_lives() -> None:
    state = a_job_state(with_process(a_run("running", slot=ago(60))), cursor=DUE)
    view = shown(HOURLY, state, home_holds=HOME_HELD)
    assert (view["status"], view["next_run"]) == ("running", None)


EARLIER = a_run("succeeded", occasion="intent:1", queued_at=ago(700), started_at=ago(600), exit_code=4)


@pytest.mark.parametrize(
    ("state", "last_run", "code"),
    [
        (a_job_state(), None, None),
        (a_job_state(newest_finished=EARLIER), "2026-06-01T11:50:00Z", 4),
        (a_job_state(with_process(a_run("running")), newest_finished=EARLIER), "2026-06-01T11:59:00Z", 4),
        (a_job_state(waiting(a_run("retrying", exit_code=7)), newest_finished=EARLIER), "2026-06-01T11:59:00Z", 7),
        (a_job_state(waiting(a_run("queued")), newest_finished=EARLIER), "2026-06-01T11:50:00Z", 4),
        (a_job_state(waiting(a_run("queued"))), None, None),
        (a_job_state(newest_finished=a_run("expired")), None, None),
    ],
    ids=["never", "over", "running", "retrying", "queued after another", "only queued", "never begun"],
)
def test_the_last_run_is_the_newest_that_began(state: JobState, last_run: str | None, code: int | None) -> None:
    view = shown(MANUAL, state)
    assert (view["last_run"], view["last_exit_code"]) == (last_run, code)


# --- in words ---


def retry(how: str) -> JobState:
    return a_job_state(waiting(a_run("retrying", not_before_at=later(30), detail=how)))


def under_orders(reason: Reason, **run: Any) -> JobState:
    return a_job_state(with_process(a_run("running", **run), stop=an_order(reason)))


CHECKED = changed(SERVICE, check="http")
LIMITED = changed(SERVICE, resources=Resources(256, None, LimitAction.WARN, 30))
SICK = "unhealthy: status 503, expected 200"


def found(**fields: Any) -> JobState:
    """A service that runs, as checks (`health`) or measurements (`usage`, what it passes) have shown it."""
    is_checked, is_healthy, passes = "health" in fields, fields.pop("health", None), fields.pop("usage", None)
    run = continuous_run()
    attempt = an_attempt(run, **fields)
    health = a_health(attempt, is_healthy, detail="status 503, expected 200") if is_checked else None
    usage = None if passes is None else Usage("job", attempt.id, NOW, 1.5, 12.5, 412, detail=passes)
    return a_job_state(ActiveRun(run, alive(attempt)._replace(health=health, usage=usage)))


@pytest.mark.parametrize(
    ("job", "state", "health"),
    [
        (CHECKED, found(health=True), "healthy"),
        (CHECKED, found(health=False), "unhealthy"),
        (CHECKED, found(health=None), "unknown"),
        (CHECKED, found(), "unknown"),
        (CHECKED, a_job_state(), "unknown"),
        (SERVICE, found(health=False), "healthy"),
        (changed(SERVICE, check="none"), found(health=False), None),
    ],
    ids=["healthy", "unhealthy", "coming up", "not checked yet", "not running", "alive is enough", "not checked"],
)
def test_the_health_of_a_job_is_what_its_checks_say(job: JobSpec, state: JobState, health: str | None) -> None:
    assert shown(job, state)["health"] == health


def test_what_a_job_uses_is_shown_as_it_was_measured() -> None:
    view = shown(LIMITED, found(usage=""))
    assert (view["cpu_percent"], view["memory_mb"]) == (12.5, 412)


IN_WORDS: list[tuple[str, JobSpec, JobState, dict[str, Any], str | None]] = [
    ("running", MANUAL, a_job_state(with_process(a_run("running")), newest_finished=FAILED), {}, None),
    ("at rest", MANUAL, a_job_state(), {}, None),
    ("ended well", MANUAL, a_job_state(newest_finished=a_run("succeeded")), {}, None),
    ("a stop", MANUAL, under_orders(Reason.STOP_REQUESTED, **ENDING), {}, "stop requested"),
    ("a timeout", MANUAL, under_orders(Reason.TIMED_OUT), {}, "timed out"),
    ("a stop for its health", CHECKED, found(stop=an_order(Reason.UNHEALTHY), detail=SICK), {}, SICK),
    ("healthy", CHECKED, found(health=True), {}, None),
    ("coming up", CHECKED, found(health=None), {}, None),
    ("unhealthy", CHECKED, found(health=False), {}, SICK),
    ("not checked any more", SERVICE, found(health=False), {}, None),
    ("over a limit", LIMITED, found(usage="memory: 412 MB of at most 256 MB"), {}, "memory: 412 MB of at most 256 MB"),
    ("within its limits", LIMITED, found(usage=""), {}, None),
    ("not limited any more", SERVICE, found(usage="memory: 412 MB of at most 256 MB"), {}, None),
    ("leftovers", MANUAL, a_job_state(swept(a_run("running"))), {}, "leftovers"),
    (
        "a retry",
        MANUAL,
        retry("exit code 1"),
        {},
        "attempt 1 ended (exit code 1), attempt 2 follows; until 2026-06-01T12:00:30Z",
    ),
    ("a restart", MANUAL, retry(""), {}, "attempt 1 ended, attempt 2 follows; until 2026-06-01T12:00:30Z"),
    (
        "no place",
        MANUAL,
        a_job_state(waiting(a_run("queued"))),
        {"lack": Lack(Reason.NO_DISK, "full", later(5))},
        "full; until 2026-06-01T12:00:05Z",
    ),
    ("paused", MANUAL, a_job_state(holds=(a_hold("pause"),)), {}, "paused by alice"),
    ("revoked", MANUAL, a_job_state(holds=(a_hold("revoke"),)), {}, "revoked by alice"),
    (
        "planned for later",
        MANUAL,
        a_job_state(waiting(FOR_LATER)),
        {},
        "planned for later; until 2026-06-01T12:01:00Z",
    ),
    (
        "everything stopped, a run waits",
        MANUAL,
        a_job_state(waiting(a_run("queued"))),
        {"home_holds": HOME_HELD},
        "everything was stopped by alice",
    ),
    (
        "everything stopped, a start under way",
        MANUAL,
        a_job_state(unbegun()),
        {"home_holds": HOME_HELD},
        "everything was stopped by alice",
    ),
    ("paused before stopped", SERVICE, a_job_state(holds=ALL_HOLDS), {}, "paused by alice"),
    (
        "paused before failed",
        MANUAL,
        a_job_state(holds=(a_hold("pause"),), newest_finished=FAILED),
        {},
        "paused by alice",
    ),
    ("stopped", SERVICE, a_job_state(holds=(a_hold("stop"),)), {}, "stopped by alice"),
    ("everything stopped", SERVICE, a_job_state(), {"home_holds": HOME_HELD}, "everything was stopped by alice"),
    (
        "disabled, a slot waits",
        off(HOURLY),
        a_job_state(waiting(a_run("queued", slot=ago(60)))),
        {},
        "disabled in jobs.yaml",
    ),
    ("failed", MANUAL, a_job_state(newest_finished=FAILED), {}, "last run failed: exit code 3; retries used up"),
    (
        "failed at its first attempt",
        MANUAL,
        a_job_state(newest_finished=a_failure(a_run("running"), "signal 9", Reason.RETRY_DISABLED, 137)),
        {},
        "last run failed: signal 9; retry disabled",
    ),
    (
        "failed by its policy",
        SERVICE,
        a_job_state(newest_finished=a_failure(continuous_run(), "lost", Reason.RESTART_POLICY, None)),
        {},
        "last run failed: lost; restart policy",
    ),
    (
        "failed to start",
        MANUAL,
        a_job_state(newest_finished=a_failure(a_run("running"), 'changing to "/srv" failed', code=None)),
        {},
        'last run failed: changing to "/srv" failed; retries used up',
    ),
    (
        "failed with nothing to tell",
        MANUAL,
        a_job_state(newest_finished=a_failure(a_run("running"), "", code=None)),
        {},
        "last run failed: retries used up",
    ),
    (
        "failed, and planned",
        HOURLY,
        a_job_state(cursor=DUE, newest_finished=FAILED),
        {},
        "last run failed: exit code 3; retries used up",
    ),
]


@pytest.mark.parametrize(
    ("job", "state", "fields", "told"), [row[1:] for row in IN_WORDS], ids=[row[0] for row in IN_WORDS]
)
def test_why_a_job_does_not_run_is_told_in_words(
    job: JobSpec, state: JobState, fields: dict[str, Any], told: str | None
) -> None:
    assert shown(job, state, **fields)["reason"] == told


def test_all_that_is_told_of_a_job() -> None:
    job = changed(
        HOURLY,
        name="Nightly",
        description="copies what is new",
        tags=("disk", "night"),
        depends_on=(Dependency("db", Condition.AFTER_HEALTHY, 30),),
        resources=Resources(256, None, LimitAction.WARN, 30),
    )
    run = a_run("running", slot=ago(3600), started_at=ago(90), restarts=2)
    attempt = an_attempt(run, job)
    usage = Usage(JOB, attempt.id, NOW, 1.5, 12.5, 412, detail="memory: 412 MB of at most 256 MB")
    state = a_job_state(ActiveRun(run, alive(attempt)._replace(usage=usage)), cursor=DUE, newest_finished=FAILED)
    assert shown(job, state) == {
        "id": JOB,
        "name": "Nightly",
        "description": "copies what is new",
        "type": "scheduled",
        "status": "running",
        "health": "healthy",
        "enabled": True,
        "paused": False,
        "tags": ["disk", "night"],
        "pid": 1001,
        "started_at": "2026-06-01T11:58:30Z",
        "uptime_seconds": 90,
        "restart_count": 2,
        "last_run": "2026-06-01T11:59:00Z",
        "last_exit_code": 3,
        "next_run": "2026-06-01T12:59:00Z",
        "reason": "memory: 412 MB of at most 256 MB",
        "schedule": ["0 * * * *"],
        "depends_on": [{"job": "db", "condition": "after_healthy", "timeout": 30}],
        "cpu_percent": 12.5,
        "memory_mb": 412,
    }


def test_all_that_is_told_of_a_job_at_rest() -> None:
    job = changed(off(MANUAL), description="", check="none")
    assert shown(job, a_job_state(holds=(a_hold("pause"),))) == {
        "id": JOB,
        "name": JOB,
        "description": "",
        "type": "manual",
        "status": "disabled",
        "health": None,
        "enabled": False,
        "paused": True,
        "tags": [],
        "pid": None,
        "started_at": None,
        "uptime_seconds": None,
        "restart_count": 0,
        "last_run": None,
        "last_exit_code": None,
        "next_run": None,
        "reason": "paused by alice",
        "schedule": [],
        "depends_on": [],
        "cpu_percent": None,
        "memory_mb": None,
    }


# --- a run ---


def the_failed() -> tuple[Run, Attempt]:
    run = a_run("running", started_at=ago(90))
    attempt = ended(an_attempt(run), Reason.SIGNALLED, 137, at=ago(30))
    return a_failure(run, "signal 9", code=137), attempt


def test_a_run_that_failed_tells_how_its_last_attempt_ended() -> None:
    run, attempt = the_failed()
    view = run_view(run, [attempt], NOW)
    told = {name: view[name] for name in ("state", "reason", "detail", "exit_code", "signal", "duration_seconds")}
    assert told == {
        "state": "failed",
        "reason": "retries_used_up",
        "detail": "signal 9",
        "exit_code": 137,
        "signal": 9,
        "duration_seconds": 60,
    }


def test_an_attempt_under_sweep_has_not_finished() -> None:
    active = swept(a_run("running"))
    assert active.live is not None
    [listed] = run_view(active.run, [active.live.attempt], NOW)["attempts"]
    assert (listed["finished_at"], listed["reason"]) == (None, None)


def test_all_that_is_told_of_a_run_and_its_attempts() -> None:
    run = a_run("running", slot=ago(120), started_at=ago(90), priority=Priority.HIGH, params=(("day", "monday"),))
    first = ended(an_attempt(run, started_at=ago(90)), Reason.EXITED, 3, at=ago(60), result='{"rows": 5}')
    second = ended(an_attempt(run, number=2, started_at=ago(45)), Reason.EXITED, 0, at=ago(30), max_rss_mb=7.5)
    second = second._replace(detail="told")
    attempts = [
        {
            "number": 1,
            "pid": 1001,
            "started_at": "2026-06-01T11:58:30Z",
            "finished_at": "2026-06-01T11:59:00Z",
            "exit_code": 3,
            "signal": None,
            "reason": "exited",
            "detail": "",
            "cpu_seconds": 0.5,
            "max_rss_mb": None,
            "result": {"rows": 5},
        },
        {
            "number": 2,
            "pid": 1001,
            "started_at": "2026-06-01T11:59:15Z",
            "finished_at": "2026-06-01T11:59:30Z",
            "exit_code": 0,
            "signal": None,
            "reason": "exited",
            "detail": "told",
            "cpu_seconds": 0.5,
            "max_rss_mb": 7.5,
            "result": None,
        },
    ]
    finished = over(run, "succeeded", Reason.FINISHED, ago(30), exit_code=0)
    assert run_view(finished, [first, second], NOW) == {
        "id": run.id,
        "job_id": JOB,
        "state": "succeeded",
        "trigger": "schedule",
        "priority": "high",
        "params": {"day": "monday"},
        "scheduled_at": "2026-06-01T11:58:00Z",
        "queued_at": "2026-06-01T11:58:00Z",
        "started_at": "2026-06-01T11:58:30Z",
        "finished_at": "2026-06-01T11:59:30Z",
        "duration_seconds": 60,
        "attempts": attempts,
        "exit_code": 0,
        "signal": None,
        "reason": "finished",
        "detail": "told",
        "result": {"rows": 5},
    }


def test_a_run_that_has_not_begun_has_neither_attempts_nor_an_end() -> None:
    view = run_view(a_run("queued"), [], NOW)
    names = ("started_at", "finished_at", "duration_seconds", "attempts", "signal", "reason", "detail", "result")
    assert {name: view[name] for name in names} == dict.fromkeys(names) | {"attempts": [], "detail": ""}


def test_a_run_that_goes_on_has_lasted_until_now() -> None:
    assert run_view(a_run("running", started_at=ago(1.2346)), [], NOW)["duration_seconds"] == 1.235


def test_of_two_results_the_newest_is_told() -> None:
    run = a_run("running")
    attempts = [an_attempt(run, number=number, result=str(number)) for number in (1, 2)]
    assert run_view(run, attempts, NOW)["result"] == 2


# --- what else is told ---


def test_a_row_of_the_ledger() -> None:
    run = a_run("running", slot=ago(60))
    row = slots_row(ago(60), "ran", run=run)
    assert slots_view(row) == {
        "job_id": JOB,
        "first_due_at": "2026-06-01T11:59:00Z",
        "last_due_at": "2026-06-01T11:59:00Z",
        "count": 1,
        "outcome": "ran",
        "reason": None,
        "run_id": run.id,
    }
    missed = slots_view(slots_row(ago(120), "missed", Reason.DOWN, last=ago(60), total=2))
    assert (missed["first_due_at"], missed["last_due_at"]) == ("2026-06-01T11:58:00Z", "2026-06-01T11:59:00Z")
    assert (missed["count"], missed["outcome"], missed["reason"], missed["run_id"]) == (2, "missed", "down", None)


def test_a_line_of_the_audit_trail() -> None:
    event = Event(NOW, "attempt ended", JOB, (("outcome", "exited"), ("code", "0")), 7)
    wanted = {"id": 7, "at": "2026-06-01T12:00:00Z", "event": "attempt ended", "job_id": JOB}
    assert event_view(event) == wanted | {"outcome": "exited", "code": "0"}


@pytest.mark.parametrize(
    ("intent", "is_well"),
    [
        (done(an_intent("start"), "started (pid 7)"), True),
        (accepted("start", message="waits: dependency"), True),
        (accepted("start"), False),
        (an_intent("start"), False),
        (refused(an_intent("start"), "no such job"), False),
    ],
    ids=["done", "under way, and so far", "nothing to tell yet", "not taken yet", "refused"],
)
def test_the_answer_to_a_request(intent: Intent, is_well: bool) -> None:
    assert intent_view(intent._replace(run_id="a-run"), 7) == {
        "success": is_well,
        "message": intent.message,
        "job_id": JOB,
        "run_id": "a-run",
        "pid": 7,
    }


def test_a_gate_that_has_no_words_of_its_own_is_told_by_its_reason() -> None:
    assert words(Gate("start", Reason.COMMAND_NOT_FOUND)) == "command not found"


def test_a_gate_open_and_closed() -> None:
    shut = Gate("queue", Reason.QUEUE, "queue disk: full", ago(60), later(60), "procclaw stop other")
    assert gate_view(shut) == {
        "gate": "queue",
        "open": False,
        "reason": "queue disk: full",
        "since": "2026-06-01T11:59:00Z",
        "until": "2026-06-01T12:01:00Z",
        "unblock": "procclaw stop other",
    }
    assert gate_view(Gate("queue", Reason.QUEUE))["reason"] == "queue"
    nothing = dict.fromkeys(("reason", "since", "until", "unblock"))
    assert gate_view(Gate("queue")) == {"gate": "queue", "open": True, **nothing}


@pytest.mark.parametrize("text", ["jo", "NIGHT", "New", "isk", "straSSe"])
def test_a_search_finds_a_job_by_its_id_name_description_or_a_tag_in_any_case(text: str) -> None:
    job = changed(MANUAL, name="Nightly", description="copies what is new", tags=("disk", "Straße"))
    view = shown(job, a_job_state())
    assert matches(view, text)
    assert not matches(view, f"{text}?")
