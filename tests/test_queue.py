"""Who waits for a start, in which order and for what; and what takes up the places of the named queues."""

from typing import Any

from procclaw.model.reasons import Reason
from procclaw.model.records import Run
from procclaw.model.spec import JobSpec, Priority
from procclaw.model.state import JobState, Lack
from procclaw.planning.queue import queue_view
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
    changed,
    in_line,
    later,
    waiting,
    with_process,
)


def a_named(job_id: str, **fields: Any) -> JobSpec:
    return changed(a_job()._replace(id=job_id), **fields)


def run_of(job_id: str, state: str = "queued", **fields: Any) -> Run:
    return a_run(state, job_id=job_id, **fields)


def view(*jobs: JobSpec, states: list[JobState], **spec: Any) -> dict[str, Any]:
    return queue_view(a_board(*jobs, states=states, spec=spec), (), None)


def of(run: Run) -> JobState:
    return a_job_state(waiting(run), id=run.job_id)


def test_priority_goes_before_age_and_age_before_the_order_of_names() -> None:
    runs = [
        run_of("a", queued_at=ago(10)),
        run_of("b", queued_at=ago(20)),
        run_of("c", priority=Priority.LOW, queued_at=ago(99)),
        run_of("d", priority=Priority.CRITICAL, queued_at=ago(1)),
    ]
    found = view(*(a_named(name) for name in "abcd"), states=[of(run) for run in runs])["runs"]
    assert [(each["position"], each["job_id"]) for each in found] == [(1, "d"), (2, "b"), (3, "a"), (4, "c")]


def test_a_run_that_nothing_holds_back_waits_for_nothing() -> None:
    [found] = view(a_job(), states=[of(a_run())])["runs"]
    assert (found["gate"], found["waits_for"], found["until"], found["expires_at"]) == (None, None, None, None)
    assert found["waiting_since"] == "2026-06-01T11:59:00Z"


def test_a_run_tells_the_first_gate_since_when_it_stands_there_and_when_it_gives_up() -> None:
    job = a_job(max_instances=1, queue_timeout=300)
    run = a_run(occasion="intent:2", closed=in_line(ago(30)))
    [found] = view(job, states=[a_job_state(with_process(a_run("running")), waiting(run))])["runs"]
    assert (found["gate"], found["waits_for"]) == ("max_instances", "1 of at most 1 running")
    assert (found["waiting_since"], found["expires_at"]) == ("2026-06-01T11:59:30Z", "2026-06-01T12:04:30Z")


def test_a_hold_comes_before_a_place() -> None:
    job = a_job(max_instances=1)
    run = a_run(occasion="intent:2")
    state = a_job_state(with_process(a_run("running")), waiting(run), holds=(a_hold("pause"),))
    [found] = view(job, states=[state])["runs"]
    assert (found["gate"], found["waits_for"]) == ("paused", "paused by alice")
    assert found["waiting_since"] == "2026-06-01T11:00:00Z"


def test_a_run_for_a_time_that_has_not_come_does_not_wait_yet_and_one_between_attempts_does() -> None:
    planned = a_run(trigger="eta", occasion="intent:2", not_before_at=later(60))
    retrying = a_run("retrying", occasion="intent:3", not_before_at=later(9))
    [found] = view(a_job(), states=[a_job_state(waiting(planned), waiting(retrying))])["runs"]
    assert (found["run_id"], found["gate"], found["until"]) == (retrying.id, "time", "2026-06-01T12:00:09Z")


def test_a_run_whose_job_is_no_longer_declared_says_so() -> None:
    [found] = view(states=[of(a_run(closed=in_line(ago(30))))])["runs"]
    assert (found["job_id"], found["queue"], found["expires_at"]) == (JOB, None, None)
    assert found["waits_for"] == "its job is no longer declared"


def test_all_that_is_told_of_a_run_that_waits() -> None:
    run = a_run("retrying", queued_at=ago(60), not_before_at=later(9), priority=Priority.HIGH, detail="exit code 1")
    [found] = view(a_job(queue="disk"), states=[of(run)])["runs"]
    assert found == {
        "position": 1,
        "job_id": JOB,
        "run_id": run.id,
        "priority": "high",
        "state": "retrying",
        "trigger": "manual",
        "queue": "disk",
        "waiting_since": "2026-06-01T11:59:00Z",
        "gate": "time",
        "waits_for": "attempt 1 ended (exit code 1), attempt 2 follows",
        "until": "2026-06-01T12:00:09Z",
        "expires_at": None,
    }


def test_a_home_that_was_stopped_and_what_procclaw_lacks_hold_a_run_back() -> None:
    board, lack = a_board(a_job(), states=[of(a_run())]), Lack(Reason.NO_DISK, "no space left", later(5))
    [stopped], [lacking] = queue_view(board, HOME_HELD, None)["runs"], queue_view(board, (), lack)["runs"]
    assert (stopped["gate"], stopped["waits_for"]) == ("home", "everything was stopped by alice")
    assert (lacking["gate"], lacking["until"]) == ("resources", "2026-06-01T12:00:05Z")


def test_a_queue_lists_what_runs_what_waits_and_its_limit() -> None:
    jobs = [a_named(name, queue="disk") for name in "abc"] + [a_named("d", queue="tape"), a_named("e")]
    running = with_process(run_of("a", "running", queued_at=NOW))
    states = [a_job_state(running, id="a"), of(run_of("b")), of(run_of("c", priority=Priority.HIGH)), of(run_of("e"))]
    found = view(*jobs, states=states, queues={"disk": 2, "idle": 4})["queues"]
    assert [(queue["name"], queue["limit"]) for queue in found] == [("disk", 2), ("idle", 4), ("tape", 1)]
    assert found[0]["running"] == [
        {"job_id": "a", "run_id": running.run.id, "priority": "normal", "started_at": "2026-06-01T12:00:00Z"}
    ]
    assert [run["job_id"] for run in found[0]["waiting"]] == ["c", "b"]
    assert [(queue["running"], queue["waiting"]) for queue in found[1:]] == [([], []), ([], [])]
