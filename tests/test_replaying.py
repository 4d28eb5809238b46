"""A recorded cycle as it is told, and what is said of a planner that decides otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.records import RunState
from procclaw.model.spec import Condition, Dependency, JobSpec
from procclaw.model.state import ActiveRun, JobState, Observed
from procclaw.planning import runs
from procclaw.planning.actions import Plan, Wait
from procclaw.planning.gates import Gate
from procclaw.planning.plan import plan
from procclaw.planning.recording import Because, Cause, Recorded
from procclaw.planning.replaying import decide_again, differences, replay_view
from tests.builders import (
    JOB,
    NOW,
    a_cursor,
    a_hold,
    a_job,
    a_run,
    a_spec,
    a_state,
    ago,
    an_attempt,
    an_intent,
    changed,
    continuous_run,
    later,
)


def recorded_of(job: JobState, spec: JobSpec, *because: Because, **fields: Any) -> Recorded:
    state = a_state(job)
    decided = plan(a_spec(spec), state, NOW)
    return Recorded(NOW, "hash", because, None, None, True, state, decided)._replace(**fields)


def exited(code: int) -> JobState:
    run = continuous_run()
    live = Observed(an_attempt(run), Sight(RecordPhase.EXITED, 1000, 1001, code, NOW), members=())
    return JobState(JOB, active=(ActiveRun(run, live),))


SERVICE = a_job("continuous", delays=(30,))


def test_the_end_of_a_process_is_told_from_what_was_seen_to_what_was_held_back() -> None:
    run = exited(3).active[0].run
    view = replay_view(a_spec(SERVICE), recorded_of(exited(3), SERVICE, Because(Cause.EXIT, (JOB,))))
    assert view["because"] == [{"cause": "exit", "because": "a process ended", "jobs": [JOB]}]
    [saw] = view["saw"]
    assert (saw["job_id"], saw["status"]) == (JOB, "running")
    assert saw["facts"] == [f"run {run.id} running; attempt 1 (pid 1001) has exited with code 3"]
    assert {(each["action"], each["because"]) for each in view["actions"]} == {
        ("record an end", "exited, exit code 3"),
        ("retry", "at 2026-06-01T12:00:30Z"),
    }
    [wait] = view["waits"]
    assert (wait["job_id"], wait["run_id"], wait["until"]) == (JOB, run.id, "2026-06-01T12:00:30Z")
    assert wait["because"] == "attempt 1 ended (exit code 3), attempt 2 follows"
    assert (view["wake_at"], view["differences"]) == ("2026-06-01T12:00:30Z", [])


def test_requests_holds_and_a_schedule_are_among_what_was_seen() -> None:
    spec = a_job("scheduled", schedule="* * * * *")
    job = JobState(
        JOB,
        intents=(an_intent("run", 4),),
        holds=(a_hold("pause"),),
        cursor=a_cursor(spec, ago(10), later(60)),
        newest_finished=a_run("failed", exit_code=2),
    )
    view = replay_view(a_spec(spec), recorded_of(job, spec, Because(Cause.REQUEST, (JOB,))))
    [saw] = view["saw"]
    assert saw["status"] == "paused"
    assert [fact.split(" at 2026")[0].split(" since 2026")[0] for fact in saw["facts"]] == [
        "alice asked for run",
        "pause by alice",
        "next due",
        f"last run {a_run('failed').id} failed, exit code 2",
    ]
    [answer] = view["actions"]
    assert (answer["job_id"], answer["action"]) == (JOB, "refuse run")
    assert answer["because"].startswith('cannot run "job": paused')


def test_of_jobs_that_nothing_was_decided_about_nothing_is_told() -> None:
    state = a_state(exited(0), JobState("other"))
    spec = a_spec(SERVICE, SERVICE._replace(id="other"))
    decided = Plan(writes=plan(spec, a_state(exited(0)), NOW).writes)
    view = replay_view(spec, recorded_of(exited(0), SERVICE, state=state, decided=decided))
    assert [each["job_id"] for each in view["saw"]] == [JOB]
    assert view["looked_at"] == 2


def test_of_what_it_depended_upon_is_told_what_was_seen() -> None:
    service = SERVICE._replace(id="db")
    job = changed(SERVICE, depends_on=(Dependency("db", Condition.AFTER_START, None),))
    state = a_state(JobState(JOB), JobState("db", holds=(a_hold("stop")._replace(job_id="db"),)))
    decided = plan(a_spec(job, service), state, NOW)
    assert {wait.job_id for wait in decided.waits} == {JOB, "db"}
    only = replace(decided, waits=tuple(wait for wait in decided.waits if wait.job_id == JOB))
    view = replay_view(a_spec(job, service), recorded_of(JobState(JOB), job, state=state, decided=only))
    assert [(each["job_id"], each["status"]) for each in view["saw"]] == [("db", "stopped"), (JOB, "pending")]


def test_a_job_that_was_gone_is_told_as_not_declared() -> None:
    view = replay_view(a_spec(), recorded_of(exited(0), SERVICE))
    assert [(each["status"], each["reason"]) for each in view["saw"]] == [("not declared", None)]


# --- what differs ---


def test_the_same_planner_decides_the_same() -> None:
    recorded = recorded_of(exited(3), SERVICE)
    assert differences(recorded.decided, decide_again(a_spec(SERVICE), recorded)) == ()


def test_a_planner_that_was_changed_is_told_by_what_it_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = continuous_run()._replace(state=RunState.RETRYING, not_before_at=later(30), attempts=1)
    recorded = recorded_of(JobState(JOB, active=(ActiveRun(waiting, None),)), SERVICE)
    monkeypatch.setattr(runs, "time_gate", lambda run, now: Gate("time"))
    view = replay_view(a_spec(SERVICE), recorded)
    assert [line.split(":")[0] for line in view["differences"]] == [
        f"- Wait {JOB} {waiting.id}",
        f"+ Run {waiting.id}",
        f"+ Start {JOB} {waiting.id}",
        "looks again",
    ]
    assert view["waits"], "what was decided then stays what is told"


DECIDED = recorded_of(exited(3), SERVICE).decided
RUN = exited(3).active[0].run.id


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (replace(DECIDED, wake_at=None), ("looks again: was 2026-06-01T12:00:30Z, is nothing",)),
        (
            replace(DECIDED, waits=(replace(DECIDED.waits[0], detail="it rains"),)),
            (f"Wait {JOB} {RUN}: detail was attempt 1 ended (exit code 3), attempt 2 follows, is it rains",),
        ),
        (
            replace(DECIDED, waits=(replace(DECIDED.waits[0], until=None),)),
            (f"Wait {JOB} {RUN}: until was 2026-06-01T12:00:30Z, is nothing",),
        ),
        (replace(DECIDED, writes=DECIDED.writes[::-1]), ("the same, in another order",)),
    ],
)
def test_each_difference_is_a_line(changed: Plan, told: tuple[str, ...]) -> None:
    assert differences(DECIDED, changed) == told


def test_several_that_are_about_the_same_are_told_apart() -> None:
    wait = DECIDED.waits[0]
    twice = Plan(waits=(wait, replace(wait, detail="once more")))
    assert differences(Plan(waits=(wait,)), twice) == (
        f"+ Wait {JOB} {RUN} #2: " + differences(Plan(), Plan(waits=twice.waits[1:]))[0].partition(": ")[2],
    )


def test_a_wait_of_a_job_without_a_run_has_the_jobs_name() -> None:
    wait = Wait(JOB, None, DECIDED.waits[0].reason, "", None, None)
    assert differences(Plan(waits=(wait,)), Plan())[0].startswith(f"- Wait {JOB}: ")
