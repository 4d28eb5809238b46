"""A recorded cycle as it is told, and what is said of a planner that decides otherwise."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from procclaw.model.clock import iso
from procclaw.model.outside import FileSight, FilesSeen, LockSight, Process, RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    HOME,
    OUTBOX,
    WORKFLOWS,
    DeadLettersPurged,
    HoldKind,
    HoldLifted,
    JobForgotten,
    Run,
    RunState,
    SlotsWithdrawn,
)
from procclaw.model.rows import Write
from procclaw.model.spec import Condition, Dependency, JobSpec, Lock, LockProvider, Spec
from procclaw.model.state import ActiveRun, JobState, Lack, Observed
from procclaw.planning import runs
from procclaw.planning.actions import Check, Plan, Signal, Start, Wait
from procclaw.planning.gates import Gate
from procclaw.planning.plan import plan
from procclaw.planning.recording import Because, Cause, Recorded
from procclaw.planning.replaying import decide_again, differences, replay_view
from tests.builders import (
    BOOT,
    EARLIER_BOOT,
    HOME_HELD,
    JOB,
    NOW,
    a_cursor,
    a_hold,
    a_job,
    a_result,
    a_run,
    a_spec,
    a_state,
    ago,
    alive,
    an_attempt,
    an_intent,
    an_order,
    changed,
    continuous_run,
    done,
    later,
    refused,
    seen_as,
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


RUN_NOW = continuous_run()
ATTEMPT = an_attempt(RUN_NOW, job_pid=1001)
MEMBER = Process(1001, 5)


def runs_as(live: Observed | None, run: Run = RUN_NOW) -> JobState:
    return JobState(JOB, active=(ActiveRun(run, live),))


def a_file(path: str, *, is_settled: bool = True) -> FileSight:
    return FileSight(path, path, is_settled)


def told_of(job: JobState, *others: JobState, spec: Spec | None = None, **fields: Any) -> Mapping[str, Any]:
    """What a cycle saw of the job that made it look, whatever was decided."""
    state = a_state(job, *others, **fields)
    recorded = Recorded(NOW, "hash", (Because(Cause.PASS, (JOB,)),), None, None, True, state, Plan())
    seen = replay_view(spec or a_spec(SERVICE), recorded)["saw"]
    return next(dict(saw) for saw in seen if saw["job_id"] == JOB)


@pytest.mark.parametrize(
    ("job", "fact"),
    [
        (runs_as(alive(ATTEMPT, MEMBER)), "running; attempt 1 (pid 1001) alive, 1 of its processes alive"),
        (runs_as(alive(ATTEMPT._replace(job_pid=None))), "running; attempt 1 alive"),
        (runs_as(seen_as("lost", ATTEMPT)), "running; attempt 1 (pid 1001) its process was killed unseen"),
        (
            runs_as(alive(ATTEMPT._replace(stop=an_order(Reason.STOP_REQUESTED)))),
            "running; attempt 1 (pid 1001) alive, stopping: stop requested",
        ),
        (
            runs_as(alive(ATTEMPT)._replace(probe=a_result(ATTEMPT, is_ok=True, detail="status 200"))),
            "running; attempt 1 (pid 1001) alive, check passed: status 200",
        ),
        (
            runs_as(alive(ATTEMPT)._replace(probe=a_result(ATTEMPT, is_ok=False, detail="status 500"))),
            "running; attempt 1 (pid 1001) alive, check failed: status 500",
        ),
        (
            runs_as(alive(ATTEMPT), RUN_NOW._replace(ending=Reason.STOP_REQUESTED)),
            "running, to be ended: stop requested; attempt 1 (pid 1001) alive",
        ),
        (
            runs_as(None, continuous_run("retrying", not_before_at=later(30))),
            "retrying, not before 2026-06-01T12:00:30Z",
        ),
        (runs_as(None, continuous_run("queued", not_before_at=NOW)), "queued"),
    ],
)
def test_a_run_is_told_with_how_its_attempt_is(job: JobState, fact: str) -> None:
    assert told_of(job)["facts"] == [f"run {RUN_NOW.id} {fact}"]


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"intents": (an_intent("stop", force=True),)}, [f"alice asked for stop at once at {iso(NOW)}"]),
        ({"intents": (an_intent("cancel_eta"),)}, [f"alice asked for cancel eta at {iso(NOW)}"]),
        ({"lock": LockSight(is_free=False, holder="other (run 1)")}, ["its lock is held by other (run 1)"]),
        ({"lock": LockSight(is_free=False)}, ["its lock is held"]),
        ({"lock": LockSight(is_free=True)}, []),
        ({"files": FilesSeen((a_file("/a"),))}, ["1 file to trigger it"]),
        ({"files": FilesSeen((a_file("/a"), a_file("/b"), a_file("/c", is_settled=False)))}, ["2 files to trigger it"]),
        ({"files": FilesSeen((a_file("/c", is_settled=False),))}, []),
        ({"newest_finished": a_run("stopped")}, [f"last run {a_run('stopped').id} stopped"]),
    ],
)
def test_what_else_was_seen_of_a_job_is_told(fields: dict[str, Any], facts: list[str]) -> None:
    assert told_of(JobState(JOB, **fields))["facts"] == facts


def test_the_status_is_that_of_the_moment_with_what_kept_it_from_running() -> None:
    held = told_of(JobState(JOB), home_holds=HOME_HELD)
    assert (held["status"], held["reason"]) == ("stopped", "everything was stopped by alice")
    paused = told_of(JobState(JOB, holds=(a_hold("pause")._replace(until=NOW),)))
    assert paused["status"] == "pending", "a pause that is over at that moment holds nothing"
    queued = runs_as(None, continuous_run("queued", not_before_at=NOW))
    lacking = told_of(queued, lack=Lack(Reason.NO_DISK, "the disk is full", later(5)))
    assert lacking["reason"] == f"the disk is full; until {iso(later(5))}"


def test_a_run_that_was_planned_for_later_is_told_as_such() -> None:
    planned = runs_as(None, a_run("queued", trigger="eta", not_before_at=later(60)))
    saw = told_of(planned, spec=a_spec(a_job()))
    assert (saw["status"], saw["reason"]) == ("planned", f"planned for later; until {iso(later(60))}")


def test_a_lock_that_nobody_had_looked_at_was_not_known_to_be_free() -> None:
    job = a_job(lock=Lock("l", LockProvider.FILE, None, 300))
    waits = runs_as(None, a_run("queued"))
    assert told_of(waits, spec=a_spec(job))["reason"] == "lock l: not free"
    assert told_of(waits._replace(lock=LockSight(is_free=True)), spec=a_spec(job))["reason"] is None


@pytest.mark.parametrize(
    ("boot_id", "reason"),
    [(BOOT, None), (EARLIER_BOOT, "db (after_complete): has not run since the machine was booted")],
)
def test_what_ran_in_the_boot_of_that_time_has_run(boot_id: str, reason: str | None) -> None:
    job = a_job(depends_on=(Dependency("db", Condition.AFTER_COMPLETE, None),))
    db = JobState("db", newest_finished=a_run("succeeded", job_id="db", boot_id=boot_id))
    spec = a_spec(job, changed(a_job(), id="db"))
    assert told_of(runs_as(None, a_run("queued")), db, spec=spec)["reason"] == reason


def test_of_a_service_that_was_stopped_for_an_edit_is_told_what_was_edited() -> None:
    edited = changed(SERVICE, process_hash="cmd=1 nice=2")
    terms = ATTEMPT.terms._replace(process_hash="cmd=1 nice=1")
    view = replay_view(a_spec(edited), recorded_of(runs_as(alive(ATTEMPT._replace(terms=terms))), edited))
    assert {"job_id": JOB, "action": "stop", "because": "changed: nice"} in view["actions"]


BEFORE = runs_as(alive(ATTEMPT))


@pytest.mark.parametrize(
    ("write", "job_id", "action", "because"),
    [
        (a_run("queued", trigger="catch_up"), JOB, f"make run {a_run('queued').id}", "catch up"),
        (RUN_NOW._replace(ending=Reason.RESTART_REQUESTED), JOB, f"end run {RUN_NOW.id}", "restart requested"),
        (done(an_intent("cancel_eta"), "2 cancelled"), JOB, "answer cancel eta", "2 cancelled"),
        (refused(an_intent("stop"), "it is not running"), JOB, "refuse stop", "it is not running"),
        (a_hold("pause"), JOB, "set pause", "by alice"),
        (a_hold("stop", job_id=HOME), "the home", "set stop", "by alice"),
        (HoldLifted(JOB, HoldKind.PAUSE), JOB, "lift pause", "released"),
        (SlotsWithdrawn(JOB, NOW), JOB, "withdraw slots", f"the clock went back to {iso(NOW)}"),
        (JobForgotten(JOB), JOB, "forget the job", "no longer declared"),
    ],
)
def test_what_a_plan_does_not_tell_of_is_told_beside_it(write: Write, job_id: str, action: str, because: str) -> None:
    recorded = recorded_of(BEFORE, SERVICE, decided=Plan(writes=(write,)))
    assert {"job_id": job_id, "action": action, "because": because} in replay_view(a_spec(SERVICE), recorded)["actions"]


@pytest.mark.parametrize("write", [RUN_NOW, RUN_NOW._replace(state=RunState.STOPPED, ending=Reason.STOP_REQUESTED)])
def test_a_run_that_was_there_is_not_told_as_made_and_one_that_is_over_not_as_to_be_ended(write: Run) -> None:
    told = replay_view(a_spec(SERVICE), recorded_of(BEFORE, SERVICE, decided=Plan(writes=(write,))))["actions"]
    assert [each for each in told if each["action"].startswith(("make run", "end run"))] == []


def test_an_ending_that_was_decided_before_is_not_told_again() -> None:
    ending = RUN_NOW._replace(ending=Reason.STOP_REQUESTED)
    state = a_state(runs_as(alive(ATTEMPT), ending))
    told = replay_view(a_spec(SERVICE), recorded_of(BEFORE, SERVICE, state=state, decided=Plan(writes=(ending,))))
    assert [each for each in told["actions"] if each["action"].startswith("end run")] == []


def test_all_that_something_was_decided_about_is_among_what_was_seen() -> None:
    names = ("asked", "written", "signalled", "waiting")
    spec = a_spec(*(SERVICE._replace(id=name) for name in names))
    state = a_state(*(JobState(name) for name in (*names, "other")))
    decided = Plan(
        writes=(a_hold("pause", job_id="written"),),
        effects=(Signal(ATTEMPT._replace(job_id="signalled"), (), 15, False, Reason.STOP_REQUESTED),),
        waits=(Wait("waiting", None, DECIDED.waits[0].reason, "", None, None),),
    )
    recorded = Recorded(NOW, "hash", (Because(Cause.REQUEST, ("asked",)),), None, None, True, state, decided)
    assert [each["job_id"] for each in replay_view(spec, recorded)["saw"]] == sorted(names)


def test_alerts_and_workflows_are_told_by_names_that_people_know() -> None:
    recorded = recorded_of(BEFORE, SERVICE, Because(Cause.NEWS, (OUTBOX, WORKFLOWS, HOME)))
    [because] = replay_view(a_spec(SERVICE), recorded)["because"]
    assert because["jobs"] == ["alerts", "workflows", "the home"]
    state = a_state(JobState(HOME, intents=(an_intent("release_home", job_id=HOME),)), BEFORE)
    view = replay_view(a_spec(SERVICE), recorded._replace(state=state, decided=Plan()))
    assert [(each["job_id"], each["status"]) for each in view["saw"]] == [("the home", None)]


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


def test_it_is_decided_again_within_the_same_bounds() -> None:
    """Which jobs it acted on, whether a request had asked for that, and whether it judged due times."""
    due = a_job("scheduled", schedule="* * * * *")
    spec = a_spec(due, due._replace(id="other"))
    cursors = [a_cursor(due, ago(120), ago(60))._replace(job_id=name) for name in (JOB, "other")]
    state = a_state(*(JobState(cursor.job_id, cursor=cursor) for cursor in cursors))
    whole = Recorded(NOW, "hash", (), None, None, True, state, Plan())
    both = {write.job_id for write in decide_again(spec, whole).writes if isinstance(write, Run)}
    assert both == {JOB, "other"}
    some = decide_again(spec, whole._replace(acts_on=frozenset({"other"})))
    assert {write.job_id for write in some.writes if isinstance(write, Run)} == {"other"}
    assert decide_again(spec, whole._replace(judges_slots=False)).writes == ()
    service = a_spec(SERVICE, SERVICE._replace(id="other"))
    wanted = a_state(JobState(JOB), JobState("other"))
    for asked, begun in ((None, {JOB, "other"}), (frozenset({JOB}), {JOB})):
        decided = decide_again(service, whole._replace(state=wanted, asked=asked))
        assert {effect.job_id for effect in decided.effects if isinstance(effect, Start)} == begun


def test_a_view_has_all_that_is_known_of_a_cycle() -> None:
    acts_on = frozenset({JOB, HOME})
    view = replay_view(a_spec(SERVICE), recorded_of(exited(3), SERVICE, acts_on=acts_on, at_rest=7))
    assert set(view) == {
        "at",
        "because",
        "acts_on",
        "looked_at",
        "saw",
        "actions",
        "waits",
        "wake_at",
        "differences",
    }
    assert (view["at"], view["acts_on"], view["looked_at"]) == (iso(NOW), [JOB], 8)
    assert replay_view(a_spec(SERVICE), recorded_of(exited(3), SERVICE))["acts_on"] is None


DECIDED = recorded_of(exited(3), SERVICE).decided
RUN = exited(3).active[0].run.id


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            replace(DECIDED, wake_at=later(99)),
            (f"looks again: was 2026-06-01T12:00:30Z, is {iso(later(99))}",),
        ),
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


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (
            Plan(writes=(a_hold("pause", ago(60)),)),
            f"+ Hold {JOB}: job_id={JOB} kind=pause since={iso(ago(60))} by=alice",
        ),
        (Plan(writes=(DeadLettersPurged((1, 2)),)), "+ DeadLettersPurged: ids=(1, 2)"),
        (Plan(effects=(Check(JOB, "r.1"),)), f"+ Check {JOB}: "),
        (Plan(writes=(done(an_intent("run", 4), "asked"),)), "+ Intent 4: "),
    ],
)
def test_a_part_of_a_plan_is_told_with_what_it_is_about_and_all_that_it_has(part: Plan, line: str) -> None:
    [told] = differences(Plan(), part)
    assert told.startswith(line)


def test_moments_are_told_as_such() -> None:
    [told] = differences(Plan(), Plan(writes=(done(an_intent("run", 4), "asked"),)))
    assert f"requested_at={iso(NOW)}" in told
    assert f"resolved_at={iso(NOW)}" in told


def test_a_wait_of_a_job_without_a_run_has_the_jobs_name() -> None:
    wait = Wait(JOB, None, DECIDED.waits[0].reason, "", None, None)
    assert differences(Plan(waits=(wait,)), Plan())[0].startswith(f"- Wait {JOB}: ")
