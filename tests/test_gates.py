"""What stands between a job and its start, and what people are told of it."""

from datetime import datetime
from typing import Any

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import Hold, Run, RunState, Trigger
from procclaw.model.spec import Dedup, JobSpec, Lock, LockProvider, Param, Priority
from procclaw.model.state import ActiveRun, Lack
from procclaw.planning.gates import (
    Gate,
    enabled_gate,
    expires_at,
    imagined_run,
    launch_gates,
    resource_gate,
    rests,
    shared_gates,
    slots_held,
    standing_for,
    standing_gates,
    standing_or_imagined,
    time_gate,
)
from tests.builders import (
    HOME_HELD,
    JOB,
    NOW,
    a_board,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    ago,
    an_attempt,
    continuous_run,
    in_line,
    later,
    seen_as,
    waiting,
    with_process,
)

HOUR_AGO = ago(3600)
SERVICE = a_job("continuous")
HOME_CLOSED = Gate(
    "home", Reason.HOME_STOPPED, "everything was stopped by alice", HOUR_AGO, None, "procclaw daemon start"
)


def standing(job: JobSpec, *holds: Hold, **fields: Any) -> list[Gate]:
    return list(standing_gates(job, a_job_state(holds=holds), fields.get("home_holds", ())))


def test_every_standing_gate_is_listed_in_one_order_open_or_not() -> None:
    names = ["revoked", "paused", "stopped", "home"]
    assert standing(SERVICE) == [Gate(name) for name in names]
    everything = standing(
        SERVICE,
        a_hold("stop"),
        a_hold("pause"),
        a_hold("revoke"),
        home_holds=HOME_HELD,
    )
    assert [(gate.gate, gate.reason is None) for gate in everything] == [(name, False) for name in names]


def test_each_closed_gate_says_who_since_when_and_what_opens_it() -> None:
    found = standing(
        SERVICE,
        a_hold("stop"),
        a_hold("pause", ago(60), "bob"),
        a_hold("revoke"),
        home_holds=HOME_HELD,
    )
    assert found == [
        Gate("revoked", Reason.REVOKED, "by alice", HOUR_AGO, None, "procclaw unrevoke job"),
        Gate("paused", Reason.PAUSED, "by bob", ago(60), None, "procclaw resume job"),
        Gate("stopped", Reason.STOPPED, "by alice", HOUR_AGO, None, "procclaw start job"),
        HOME_CLOSED,
    ]


@pytest.mark.parametrize("kind", ["manual", "scheduled", "oneshot"])
def test_a_stop_holds_no_job_but_a_continuous_one(kind: str) -> None:
    assert all(gate.reason is None for gate in standing(a_job(kind), a_hold("stop")))


@pytest.mark.parametrize(
    ("trigger", "is_open"), [("manual", True), ("continuous", True), ("schedule", False), ("catch_up", False)]
)
def test_being_disabled_keeps_back_what_the_job_does_of_its_own_accord(trigger: str, is_open: bool) -> None:
    gate = enabled_gate(a_job(enabled=False), a_run("queued", trigger=trigger))
    assert (gate.reason is None) is is_open
    if not is_open:
        assert gate == Gate("enabled", Reason.DISABLED, "disabled in jobs.yaml", unblock="enabled: true at jobs.yaml:2")
    assert enabled_gate(a_job(), a_run("queued", trigger=trigger)).reason is None


def gates_of(run: Run, job: JobSpec | None = None, live: int = 0, lack: Lack | None = None) -> list[Gate]:
    job = job or a_job()
    others = [with_process(a_run("running", occasion=f"other:{number}")) for number in range(live)]
    board = a_board(job, states=[a_job_state(*others)])
    return [time_gate(run, NOW), *shared_gates(run, job, board, lack)]


def test_a_run_whose_time_has_come_meets_open_gates() -> None:
    open_gates = [Gate(name) for name in ("time", "max_instances", "queue", "max_parallel", "lock", "resources")]
    assert gates_of(a_run("queued")) == open_gates


@pytest.mark.parametrize(
    ("run", "gate"),
    [
        (
            a_run("retrying", attempts=3, not_before_at=later(9), detail="timed out (exit code 143)"),
            Gate(
                "time",
                Reason.RETRY_DELAY,
                "attempt 3 ended (timed out (exit code 143)), attempt 4 follows",
                None,
                later(9),
                "procclaw restart job",
            ),
        ),
        (
            # A service that ended with a success and is to run again.
            continuous_run("retrying", attempts=3, not_before_at=later(9)),
            Gate(
                "time", Reason.RETRY_DELAY, "attempt 3 ended, attempt 4 follows", None, later(9), "procclaw restart job"
            ),
        ),
        (
            a_run("queued", not_before_at=later(9)),
            Gate("time", Reason.JITTER, "its jitter", ago(60), later(9), "procclaw run job"),
        ),
    ],
)
def test_a_run_whose_time_is_to_come_says_when_and_how_to_start_it_now(run: Run, gate: Gate) -> None:
    assert gates_of(run)[0] == gate


@pytest.mark.parametrize(
    ("kind", "max_instances", "live", "is_open"),
    [
        ("manual", 1, 0, True),
        ("manual", 1, 1, False),
        ("manual", 3, 2, True),
        ("manual", 3, 3, False),
        ("continuous", 3, 1, False),
        ("continuous", 3, 0, True),
    ],
)
def test_no_more_run_at_once_than_are_allowed(kind: str, max_instances: int, live: int, is_open: bool) -> None:
    gate = gates_of(a_run("queued", closed=in_line(ago(5))), a_job(kind, max_instances=max_instances), live)[1]
    limit = 1 if kind == "continuous" else max_instances
    detail = f"{live} of at most {limit} running"
    more = None if kind == "continuous" else "a larger concurrency.max_instances at jobs.yaml:2"
    closed = Gate("max_instances", Reason.MAX_INSTANCES, detail, unblock=more)
    assert gate == (Gate("max_instances") if is_open else closed)


@pytest.mark.parametrize(
    ("retry_at", "is_open"),
    [
        (later(5), False),
        (later(0.001), False),
        (NOW, True),
        (ago(1), True),
        (later(60), False),
        (later(60.001), True),  # the clock was set back since
    ],
)
def test_what_procclaw_lacks_keeps_back_until_it_is_tried_again(retry_at: datetime, is_open: bool) -> None:
    closed = Gate("resources", Reason.NO_DISK, "no space left", None, retry_at)
    assert resource_gate(Lack(Reason.NO_DISK, "no space left", retry_at), NOW) == (
        Gate("resources") if is_open else closed
    )
    assert resource_gate(None, NOW) == Gate("resources")


def test_what_is_free_opens_the_gates_of_a_job_that_shares_a_queue_and_a_lock() -> None:
    job = a_job(queue="disk", lock=Lock("a lock", LockProvider.FILE, None, 300))
    found = shared_gates(a_run("queued"), job, a_board(job, is_deciding=False), None)
    assert list(found) == [Gate(name) for name in ("max_instances", "queue", "max_parallel", "lock", "resources")]


@pytest.mark.parametrize(
    ("running", "named"),
    [
        (1, "a (normal)"),
        (3, "a (normal), b (normal), c (normal)"),
        (4, "a (normal), b (normal), c (normal) and 1 more"),
        (5, "a (normal), b (normal), c (normal) and 2 more"),
    ],
)
def test_of_those_that_take_up_the_places_three_are_named(running: int, named: str) -> None:
    job = a_job(queue="disk")
    others = [a_job(queue="disk")._replace(id=name) for name in "abcde"[:running]]
    states = [a_job_state(with_process(a_run("running", job_id=each.id), each), id=each.id) for each in others]
    board = a_board(job, *others, states=states, spec={"queues": {"disk": running}})
    [gate] = [gate for gate in shared_gates(a_run("queued"), job, board, None) if gate.reason is not None]
    assert gate.detail == f"queue disk: {running} of at most {running} running: {named}"


def begun(**fields: Any) -> ActiveRun:
    """A run whose start was decided and whose process is not there yet."""
    run = a_run("running", slot=ago(60))
    attempt = an_attempt(run, created_at=ago(5), pid=None, job_pid=None, start_ticks=None, **fields)
    return ActiveRun(run, seen_as("blank", attempt))


def launching(active: ActiveRun, *, enabled: bool = True, held: bool = False) -> list[Gate]:
    job = a_job("scheduled", enabled=enabled)
    found = launch_gates(active, job, a_job_state(active), HOME_HELD if held else (), None, NOW)
    return [gate for gate in found if gate.reason is not None or gate.gate == "start"]


UNDER_WAY = "the start of attempt 1 is under way"


@pytest.mark.parametrize(
    ("attempt", "around", "wanted"),
    [
        ({}, {}, [Gate("start", Reason.STARTING, UNDER_WAY, ago(5), None, "procclaw reconcile")]),
        (
            {},
            {"enabled": False},
            [
                Gate("enabled", Reason.DISABLED, "disabled in jobs.yaml", unblock="enabled: true at jobs.yaml:2"),
                Gate("start"),
            ],
        ),
        ({}, {"held": True}, [HOME_CLOSED, Gate("start")]),
        (
            {"refusal": Reason.ENVIRONMENT, "detail": "no env_file"},
            {},
            [
                Gate(
                    "start",
                    Reason.ENVIRONMENT,
                    "attempt 1 did not start: no env_file",
                    ago(5),
                    None,
                    "procclaw reconcile",
                )
            ],
        ),
    ],
    ids=["nothing else keeps it back", "its job is disabled", "everything was stopped", "it was refused"],
)
def test_what_an_attempt_still_has_to_pass_that_has_been_decided_on(
    attempt: dict[str, Any], around: dict[str, bool], wanted: list[Gate]
) -> None:
    assert launching(begun(**attempt), **around) == wanted


def test_the_newest_of_several_stands_for_another_request() -> None:
    runs = [a_run("succeeded", occasion=f"intent:{seconds}", queued_at=ago(seconds)) for seconds in (30, 10, 20)]
    for order in (runs, runs[::-1]):
        assert standing_for(Dedup(60, use_params=True), order, (), NOW, NOW) == runs[1]


PARAMS = (Param("b", "2", "", False, None), Param("a", "1", "", False, None), Param("c", None, "", False, None))


@pytest.mark.parametrize(("kind", "trigger"), [("manual", "manual"), ("continuous", "continuous")])
def test_a_job_without_a_run_is_judged_as_if_it_were_asked_for_now(kind: str, trigger: str) -> None:
    job = a_job(kind, priority=Priority.HIGH, params=PARAMS)
    imagined = Run("", JOB, "", Trigger(trigger), RunState.QUEUED, NOW, NOW)
    imagined = imagined._replace(priority=Priority.HIGH, params=(("a", "1"), ("b", "2")))
    assert standing_or_imagined(job, a_board(job)) == imagined
    assert imagined_run(job, NOW) == imagined


def test_a_run_that_waits_is_judged_itself_and_one_for_later_only_where_there_is_no_other() -> None:
    job, ahead, own = a_job(), a_run("queued", trigger="eta", not_before_at=later(60)), a_run("queued", occasion="own")
    for runs, wanted in (((ahead, own), own), ((ahead,), ahead)):
        board = a_board(job, states=[a_job_state(*map(waiting, runs))])
        assert standing_or_imagined(job, board) == wanted


@pytest.mark.parametrize(
    ("job", "holds", "home_holds", "reason"),
    [
        (a_job("scheduled"), (), (), None),
        (a_job("scheduled"), (a_hold("stop"),), (), None),
        (a_job("scheduled"), (a_hold("pause"),), (), Reason.PAUSED),
        (a_job("scheduled"), (a_hold("pause"), a_hold("revoke")), HOME_HELD, Reason.REVOKED),
        (a_job("scheduled"), (a_hold("pause"),), HOME_HELD, Reason.PAUSED),
        (a_job("scheduled"), (), HOME_HELD, Reason.HOME_STOPPED),
    ],
)
def test_due_slots_are_skipped_for_the_first_reason_that_is_told(
    job: JobSpec, holds: tuple[Hold, ...], home_holds: tuple[Hold, ...], reason: Reason | None
) -> None:
    assert slots_held(a_job_state(holds=holds), home_holds) is reason


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (a_run("queued", closed=in_line(ago(10))), later(290)),
        (a_run("queued", slot=ago(20), closed=in_line(ago(10))), later(290)),
        (a_run("queued"), None),
        (a_run("queued", trigger="catch_up", closed=in_line(ago(10))), None),
        (a_run("queued", trigger="file", closed=in_line(ago(10))), None),
        (continuous_run("queued", closed=in_line(ago(10))), None),
        (a_run("retrying", closed=in_line(ago(10))), None),
    ],
)
def test_only_a_run_that_waits_for_a_place_gives_up(run: Run, expected: datetime | None) -> None:
    assert expires_at(run, a_job()) == expected


@pytest.mark.parametrize(
    ("last", "is_resting"),
    [
        (None, False),
        (continuous_run("failed"), True),
        (continuous_run("succeeded"), True),
        (continuous_run("stopped"), False),
        (continuous_run("failed", process_hash="before the edit"), False),
        (a_run("succeeded"), False),
        (a_run("failed"), False),
    ],
)
def test_a_continuous_job_rests_after_its_last_run_unless_something_changed(last: Run | None, is_resting: bool) -> None:
    assert rests(SERVICE, last) is is_resting
