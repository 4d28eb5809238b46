"""Files that trigger: each once for what it is, none lost, and none deleted before its run has succeeded."""

from typing import Any

import pytest

from procclaw.model.outside import FileSight, FilesSeen
from procclaw.model.records import HoldKind, HoldLifted, Run, TriggerFile, TriggerFileGone
from procclaw.model.spec import Dedup, JobSpec, TriggerSpec, TriggerType
from procclaw.model.state import ActiveRun, JobState
from procclaw.planning.actions import DeleteFile, Plan
from procclaw.planning.plan import plan
from procclaw.planning.triggers import MOST_AT_ONCE
from tests.builders import (
    HOME_HELD,
    NOW,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_start,
    a_state,
    ago,
    an_attempt,
    an_intent,
    changed,
    exited,
    later,
    planned,
    started,
    with_process,
)

WATCH = TriggerSpec(TriggerType.FILE, None, None, "/in", "*.csv", False)
JOB = a_job(triggers=(WATCH,), max_instances=500)
PATH = "/in/a.csv"


def seen(
    *paths: str,
    identity: str = "1:7:5",
    is_settled: bool = True,
    problems: tuple[str, ...] = (),
    delete_after: bool = False,
) -> FilesSeen:
    return FilesSeen(tuple(FileSight(path, identity, is_settled, delete_after) for path in paths), problems)


def run_of(path: str = PATH, state: str = "queued", identity: str = "1:7:5", **fields: Any) -> Run:
    fields = {
        "trigger": "file",
        "occasion": f"file:{identity}:{path}",
        "queued_at": NOW,
        "trigger_file": path,
        **fields,
    }
    return a_run(state, **fields)


def known(path: str = PATH, identity: str = "1:7:5", **fields: Any) -> TriggerFile:
    return TriggerFile("job", path, identity, run_of(path, identity=identity).id, ago(60))._replace(**fields)


def decide(files: FilesSeen, *triggered: TriggerFile, job: JobSpec = JOB, **fields: Any) -> Plan:
    given = {name: fields.pop(name) for name in ("home_holds",) if name in fields}
    return planned(job, a_job_state(files=files, triggered=triggered, **fields), **given)


def triggered_by(found: Plan) -> list[str]:
    return [write.path for write in found.writes if isinstance(write, TriggerFile)]


def test_a_file_that_has_settled_gets_its_run_and_is_known_from_then_on() -> None:
    run = run_of()
    assert decide(seen(PATH)) == Plan(
        writes=(started(run, JOB), known(seen_at=NOW)),
        effects=(a_start(run, JOB, "triggered by a file"),),
        wake_at=later(1),
    )


def test_a_file_that_still_changes_is_looked_at_again() -> None:
    assert decide(seen(PATH, is_settled=False)) == Plan(wake_at=later(1))


def test_a_directory_without_files_is_looked_at_again() -> None:
    assert decide(seen()) == Plan(wake_at=later(1))


@pytest.mark.parametrize("state", ["running", "succeeded", "failed", "purged"])
def test_a_file_triggers_once_whatever_became_of_its_run(state: str) -> None:
    run = run_of(state=state if state != "purged" else "succeeded")
    runs = {} if state in ("running", "purged") else {run.id: run}
    active = (with_process(run, JOB),) if state == "running" else ()
    found = planned(JOB, a_job_state(*active, files=seen(PATH), triggered=(known(),), file_runs=runs))
    assert found == Plan(wake_at=later(1))


def test_a_file_that_has_changed_since_is_another_file() -> None:
    found = decide(seen(PATH, identity="1:8:6"), known())
    assert known(identity="1:8:6", seen_at=NOW) in found.writes
    assert len(found.effects) == 1
    assert decide(seen(PATH, identity="1:8:6", is_settled=False), known()).writes == ()


def test_a_file_that_is_gone_is_forgotten_unless_it_is_only_out_of_sight() -> None:
    assert decide(seen(), known()).writes == (TriggerFileGone("job", PATH),)
    assert decide(seen(problems=("/in: permission denied",)), known()).writes == ()
    assert decide(seen(problems=("/in: no such file or directory",)), known("/in/b.csv")).writes == ()
    other = decide(seen(problems=("/i: permission denied", "/in/deeper: permission denied")), known())
    assert other.writes == (TriggerFileGone("job", PATH),)


HELD: list[tuple[str, JobSpec, dict[str, Any]]] = [
    ("paused", JOB, {"holds": (a_hold("pause"),)}),
    ("revoked", JOB, {"holds": (a_hold("revoke"),)}),
    ("disabled", changed(JOB, enabled=False), {}),
    ("home stopped", JOB, {"home_holds": HOME_HELD}),
]


@pytest.mark.parametrize(("job", "fields"), [row[1:] for row in HELD], ids=[row[0].replace(" ", "-") for row in HELD])
def test_files_wait_while_the_job_may_not_start_and_those_gone_are_forgotten(
    job: JobSpec, fields: dict[str, Any]
) -> None:
    found = decide(seen(PATH), known("/in/b.csv"), job=job, **fields)
    assert (triggered_by(found), found.effects) == ([], ())
    assert TriggerFileGone("job", "/in/b.csv") in found.writes
    assert found.wake_at == later(1)


def test_files_that_waited_trigger_in_the_plan_that_lets_the_job_go() -> None:
    found = decide(seen(PATH), holds=(a_hold("pause"),), intents=(an_intent("resume"),))
    assert HoldLifted("job", HoldKind.PAUSE) in found.writes
    assert triggered_by(found) == [PATH]


def test_a_stop_of_the_job_does_not_keep_files_from_triggering() -> None:
    assert triggered_by(decide(seen(PATH), holds=(a_hold("stop"),))) == [PATH]


def test_a_service_runs_anyway() -> None:
    service = changed(JOB, type="continuous")
    assert not triggered_by(decide(seen(PATH), job=service))


def test_many_files_become_runs_in_portions() -> None:
    paths = [f"/in/{number:03}.csv" for number in range(MOST_AT_ONCE + 5)]
    found = decide(seen(*paths))
    assert triggered_by(found) == paths[:MOST_AT_ONCE]
    assert found.wake_at == NOW
    before = [known(path) for path in paths[:MOST_AT_ONCE]]
    assert decide(seen(*paths[:MOST_AT_ONCE])).wake_at == later(1)
    rest = decide(seen(*paths), *before)
    assert (triggered_by(rest), rest.wake_at) == (paths[MOST_AT_ONCE:], later(1))


def test_files_stay_where_a_run_more_would_be_refused() -> None:
    job = changed(JOB, max_instances=2, queue_excess=False)
    found = decide(seen(PATH, "/in/b.csv", "/in/c.csv"), job=job)
    assert triggered_by(found) == [PATH, "/in/b.csv"]
    assert found.wake_at == later(1)


def test_a_request_leaves_files_alone() -> None:
    state = a_state(a_job_state(files=seen(PATH)))
    assert plan(a_spec(JOB), state, NOW, judges_slots=False) == Plan()


def test_no_run_that_was_asked_for_lately_stands_for_a_file() -> None:
    job = changed(JOB, dedup=Dedup(60, use_params=True), max_instances=5)
    found = decide(seen(PATH, "/in/b.csv"), job=job, recent=(a_run("succeeded", queued_at=ago(5)),))
    files = [write for write in found.writes if isinstance(write, TriggerFile)]
    assert [file.run_id for file in files] == [run_of().id, run_of("/in/b.csv").id]
    assert len(found.effects) == 2


# --- deleting ---


def with_run(state: str, run: Run | None = None, *, delete_after: bool = True) -> Plan:
    run = run or run_of(state=state)
    return decide(seen(PATH, delete_after=delete_after), known(), file_runs={run.id: run})


def test_a_file_is_deleted_once_its_run_has_succeeded_where_that_is_wanted() -> None:
    assert with_run("succeeded").effects == (DeleteFile("job", PATH, "1:7:5"),)
    for state in ("failed", "stopped", "expired"):
        assert with_run(state).effects == ()
    assert with_run("succeeded", delete_after=False).effects == ()


def test_a_file_is_deleted_in_the_plan_that_sees_its_run_succeed() -> None:
    run = run_of(state="running")
    ended_well = ActiveRun(run, exited(an_attempt(run, JOB)))
    state = a_job_state(ended_well, files=seen(PATH, delete_after=True), triggered=(known(),))
    assert planned(JOB, state).effects == (DeleteFile("job", PATH, "1:7:5"),)


def test_a_file_is_not_deleted_for_a_run_that_was_for_another() -> None:
    assert with_run("", run=run_of(state="succeeded", trigger_file="/in/other.csv")).effects == ()


def test_a_file_that_has_changed_since_is_not_deleted() -> None:
    run = run_of(state="succeeded")
    found = decide(seen(PATH, identity="1:9:9", delete_after=True), known(), file_runs={run.id: run})
    assert not [effect for effect in found.effects if isinstance(effect, DeleteFile)]
    assert triggered_by(found) == [PATH]


def test_a_job_that_is_gone_is_not_forgotten_over_and_over_for_the_files_that_triggered_it() -> None:
    """They stay known: it may come back, and the files are still there."""
    assert planned(None, JobState("job", triggered=(known(),))).writes == ()
