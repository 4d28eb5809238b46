"""The database, always a real one.

`tests/data/databases/v1.db` and its like are databases of each schema version there has been, with the rows of
`SAMPLES`; they must open for ever. One of the present version is made by `python -c "from tests.test_store import
write_sample; write_sample()"`, and may be made again only as long as no version of ProcClaw has been released with it.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind, AlertState, Trouble, TroubleOver, Watch
from procclaw.model.errors import Conflict, DiskFull, StoreError
from procclaw.model.intents import Details, Intent, IntentKind
from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    Attempt,
    Cursor,
    CycleRecord,
    DeadLetter,
    DeadLettersPurged,
    Event,
    Health,
    Hold,
    HoldKind,
    HoldLifted,
    JobForgotten,
    Run,
    RunState,
    Slice,
    Slots,
    SlotsWithdrawn,
    StopOrder,
    TriggerFile,
    TriggerFileGone,
    Usage,
    WorkflowRun,
)
from procclaw.model.rows import Row
from procclaw.model.spec import Dedup, OnFailure, Priority, WorkflowSpec, WorkflowType
from procclaw.model.state import ActiveRun, JobState, Lack, Observed, WorkflowState
from procclaw.system.store import Problems, Store
from procclaw.system.store.database import APPLICATION_ID, RESERVE_BYTES, SCHEMA_VERSION
from procclaw.system.store.retention import KEPT_CYCLES
from tests.builders import (
    JOB,
    NOW,
    a_cursor,
    a_dead_letter,
    a_hold,
    a_job,
    a_run,
    accepted,
    ago,
    an_attempt,
    an_intent,
    continuous_run,
    done,
    ended,
    in_line,
    later,
    over,
    slots_row,
)
from tests.support import Reaper, wait_until

DATABASES = Path(__file__).parent / "data" / "databases"
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "procclaw.db", tmp_path / "reserve") as found:
        yield found


@contextlib.contextmanager
def opened(path: Path, reserve: Path | None = None) -> Iterator[Store]:
    found = Store(str(path), None if reserve is None else str(reserve))
    try:
        yield found
    finally:
        found.close()


def state_of(store: Store, name: str = JOB, **fields: Any) -> JobState:
    return store.job_states([name], **fields)[name]


# --- what is written comes back ---

FULL_RUN = Run(
    id="aaaaaaaaaaaa",
    job_id=JOB,
    occasion="slot:1",
    trigger=a_run("queued", slot=NOW).trigger,
    state=RunState.RETRYING,
    queued_at=ago(60),
    not_before_at=NOW + MICROSECOND,
    scheduled_at=ago(61),
    started_at=ago(59),
    finished_at=None,
    reason=Reason.RETRY_DELAY,
    detail="grün 'quoted' \"twice\"",
    attempts=3,
    failures=2,
    restarts=1,
    ending=Reason.STOP_REQUESTED,
    ending_force=True,
    despite_disabled=True,
    process_hash="f" * 64,
    exit_code=137,
    closed=in_line(ago(5)),
)
FULL_ATTEMPT = an_attempt(FULL_RUN, job_pid=1001)._replace(
    id="aaaaaaaaaaaa.3",
    instance=2,
    blank_launches=1,
    refusal=Reason.ENVIRONMENT,
    stop=StopOrder(Reason.TIMED_OUT, ago(9), True, ago(8) + MICROSECOND, ago(7), ago(6)),
    exited_at=ago(5),
    exit_code=137,
    detail="env_file .env: no such file",
    cpu_seconds=0.125,
    max_rss_mb=12.5,
    stdout=Slice("job.log", 0, 2**40),
    stderr=Slice("job.error.log", 7, None),
)


SINCE_VERSION_2 = FULL_RUN._replace(
    priority=Priority.LOW,
    params=(("A", "1"), ("B", "")),
    boot_id="boot",
    pulled=("db", "cache"),
    request=7,
    trigger_file="/spool/ü.csv",
    workflow_run="bbbbbbbbbbbb",
    step=2,
)


def test_a_run_comes_back_as_it_was_written(store: Store) -> None:
    full = SINCE_VERSION_2
    assert all(value is not None for name, value in full._asdict().items() if name != "finished_at")
    store.record([full])
    assert store.run(full.id) == full
    bare = a_run("queued")
    store.record([bare])
    assert store.run(bare.id) == bare


def test_an_attempt_comes_back_as_it_was_written(store: Store) -> None:
    unset = {"ended_at", "reason"}
    full = FULL_ATTEMPT._replace(result='{"a":1}')
    assert all(value is not None for name, value in full._asdict().items() if name not in unset)
    bare = an_attempt(FULL_RUN, number=4, pid=None, start_ticks=None, started_at=None)
    store.record([FULL_RUN, full, bare])
    assert store.attempts(FULL_RUN.id) == (full, bare)


A_WORKFLOW = WorkflowSpec(WorkflowType.CHORD, ("a", "b"), "c", OnFailure.RETRY, 2, 60.0, pass_results=False)
A_WORKFLOW_RUN = WorkflowRun(
    "wwwwwwwwwwww",
    "nightly",
    A_WORKFLOW,
    RunState.RUNNING,
    NOW,
    "alice",
    (1, 0, 2),
    detail="1 of 3",
    ending=Reason.CANCELLED,
    deadline_at=later(60),
    request=3,
)


def test_what_checks_and_measurements_found_goes_with_its_attempt(store: Store) -> None:
    attempt = an_attempt(FULL_RUN)
    health = Health(JOB, attempt.id, False, ago(5), ago(4), 2, ago(2), "connection refused")
    usage = Usage(JOB, attempt.id, NOW, 1.5, None, 12.25, ago(30), "memory: 12.3 MB of at most 10 MB")
    store.record([FULL_RUN, attempt, health, usage])
    [active] = state_of(store).active
    assert active.live is not None
    assert (active.live.health, active.live.usage) == (health, usage)
    store.record([attempt._replace(ended_at=NOW, reason=Reason.EXITED)])
    store.record([an_attempt(FULL_RUN, number=9)])
    [active] = state_of(store).active
    assert active.live is not None
    assert (active.live.health, active.live.usage) == (None, None)


def test_alerts_wait_in_the_outbox_until_they_are_delivered(store: Store) -> None:
    first = Alert("k1", JOB, AlertKind.FAILED, ago(60), "it failed", "run", next_try_at=NOW)
    second = Alert("k2", JOB, AlertKind.MISSED, ago(30), "missed", state=AlertState.SUPPRESSED, done_at=ago(30))
    store.record([first, second])
    assert store.outbox(10) == (first,)
    assert store.alerts() == (second, first)
    assert store.last_told(ago(61)) == {(JOB, AlertKind.FAILED): ago(60)}
    assert store.pending_alerts(["k1", "k2", "k3"]) == (first,)
    sent = first._replace(state=AlertState.SENT, tries=1, next_try_at=None, asked_at=ago(1), done_at=NOW, detail="")
    store.record([sent])
    assert store.outbox(10) == ()
    assert store.alerts(JOB, 1) == (second,)


def test_of_the_outbox_what_is_due_first_comes_first_and_of_that_the_oldest(store: Store) -> None:
    alerts = {
        name: Alert(name, JOB, AlertKind.FAILED, ago(raised_ago), "it failed", next_try_at=later(due_in))
        for name, raised_ago, due_in in (("a", 9000, 3600), ("b", 20, 0), ("c", 10, 0), ("d", 10, 0))
    }
    store.record(reversed(alerts.values()))
    assert [alert.key for alert in store.outbox(10)] == ["b", "c", "d", "a"]
    assert [alert.key for alert in store.outbox(2)] == ["b", "c"]


def test_troubles_and_watches_stay_until_they_are_over_or_their_job_is_forgotten_and_files_longer(store: Store) -> None:
    trouble, watch = Trouble(JOB, AlertKind.UNHEALTHY, ago(5)), Watch(JOB, "every 60", ago(9))
    file = TriggerFile(JOB, "/spool/a", "1:2:3", "rrrrrrrrrrrr", ago(1))
    other = file._replace(path="/spool/b")
    store.record([trouble, watch, file, other])
    state = state_of(store)
    assert (state.troubles, state.watch, state.triggered) == ((trouble,), watch, (file, other))
    store.record([TroubleOver(JOB, AlertKind.UNHEALTHY), TriggerFileGone(JOB, "/spool/a")])
    state = state_of(store)
    assert (state.troubles, state.triggered) == ((), (other,))
    store.record([JobForgotten(JOB)])
    state = state_of(store)
    assert (state.watch, state.triggered) == (None, (other,))


def test_a_run_has_one_dead_letter_however_often_it_is_written(store: Store) -> None:
    letter = a_dead_letter(over(FULL_RUN, "failed", Reason.RETRIES_USED_UP, exit_code=3, detail="exit code 3"))
    store.record([letter])
    store.record([letter])
    [found] = store.dead_letters()
    assert found == letter._replace(id=1)
    store.record([found._replace(reinjected_run_id="rrrrrrrrrrrr")])
    assert store.dead_letter(1) == found._replace(reinjected_run_id="rrrrrrrrrrrr")
    asking = an_intent("purge", details=Details(dead_letters=(1, 9)))
    store.add_intent(asking)
    assert [letter.id for letter in state_of(store).dead_letters] == [1]
    store.record([DeadLettersPurged((1,))])
    assert store.dead_letters() == ()


def test_a_workflow_run_comes_back_with_the_newest_run_of_each_step(store: Store) -> None:
    old = a_run("failed", job_id="a", occasion="w:0:1", workflow_run=A_WORKFLOW_RUN.id, step=0)
    new = a_run("queued", job_id="a", occasion="w:0:2", workflow_run=A_WORKFLOW_RUN.id, step=0)
    store.record([A_WORKFLOW_RUN, old, new])
    [state] = store.workflow_states()
    assert state == WorkflowState(A_WORKFLOW_RUN, (new, None, None))
    assert store.workflow_steps(A_WORKFLOW_RUN.id) == (old, new)
    over = A_WORKFLOW_RUN._replace(state=RunState.FAILED, finished_at=NOW, reason=Reason.STEP_FAILED)
    store.record([over])
    assert store.workflow_states() == ()
    assert [each.run for each in store.workflow_states([over.id])] == [over]
    assert store.workflow_runs("nightly") == (over,)


def test_one_key_is_one_request_for_a_day(store: Store) -> None:
    asked = an_intent("trigger", key="k", details=Details(params=(("A", "1"),), has_payload=True))
    first = store.add_intent(asked, b"{}")
    assert store.add_intent(asked._replace(requested_at=later(60)), b"{}") == first
    assert store.payload(first) == b"{}"
    for other, payload in (
        (asked, b"[]"),
        (asked._replace(job_id="other"), b"{}"),
        (asked._replace(details=Details(has_payload=True)), b"{}"),
    ):
        with pytest.raises(Conflict, match='the key "k" was used for another request, at 12:00:00Z'):
            store.add_intent(other, payload)
    assert store.add_intent(asked._replace(requested_at=later(86_401)), b"[]") != first


@pytest.mark.parametrize(
    "row",
    [
        slots_row(ago(7200), "missed", Reason.DOWN, last=NOW, total=3),
        slots_row(NOW, "ran", run=FULL_RUN),
    ],
)
def test_a_row_of_the_ledger_comes_back_as_it_was_written(store: Store, row: Slots) -> None:
    store.record([row])
    assert store.ledger(JOB) == (row,)


@pytest.mark.parametrize(
    "intent",
    [
        an_intent("start"),
        an_intent(
            "run",
            details=Details((("A", "ü"),), later(60), later(90), True, (1, 2), A_WORKFLOW, "nightly", "wwwwwwwwwwww"),
            key="key",
        ),
        accepted("stop", force=True, run_id="x", message="half way"),
        done(an_intent("restart"), "started (pid 1)"),
    ],
)
def test_a_request_comes_back_as_it_was_written(store: Store, intent: Intent) -> None:
    number = store.add_intent(intent)
    assert store.intent(number) == intent._replace(id=number)
    answered = done(intent._replace(id=number), "done")
    store.record([answered])
    assert store.intent(number) == answered


@pytest.mark.parametrize("kind", list(HoldKind))
def test_a_hold_and_a_cursor_come_back_as_they_were_written(store: Store, kind: HoldKind) -> None:
    hold, cursor = a_hold(kind), a_cursor(a_job("scheduled"), NOW + MICROSECOND, None)
    store.record([hold, cursor])
    assert (state_of(store).holds, state_of(store).cursor) == ((hold,), cursor)
    store.record([cursor._replace(next_due_at=later(60))])
    assert state_of(store).cursor == cursor._replace(next_due_at=later(60))


def test_an_event_comes_back_as_it_was_written(store: Store) -> None:
    event = Event(NOW, "hold set", JOB, (("hold", "stop"), ("by", "grün = alice")))
    store.record([event, event._replace(job_id=None, fields=())])
    assert store.events() == (event._replace(id=1), event._replace(job_id=None, fields=(), id=2))


def test_facts_about_the_home_come_back(store: Store) -> None:
    problems = Problems(ago(5), ("jobs.yaml:3 jobs.a: …", "second"))
    lack = Lack(Reason.NO_DISK, "no space left", later(5))
    for each in (problems, None):
        store.set_problems(each)
        assert store.problems() == each
    for known in (lack, None):
        store.set_lack(known)
        assert store.lack() == known
    store.set_warnings(("one", "two"))
    assert store.warnings() == ("one", "two")
    store.set_warnings(())
    assert store.warnings() == ()


def test_the_configuration_in_force_is_the_last_one_saved(store: Store) -> None:
    assert (store.spec_hash(), store.load_spec()) == (None, None)
    store.save_spec("a", {"jobs": {"ä": 1}}, NOW)
    store.save_spec("b", {"jobs": {}}, NOW)
    assert (store.spec_hash(), store.load_spec()) == ("b", ("b", {"jobs": {}}))
    store.save_spec("a", {"jobs": {"ä": 1}}, NOW)
    assert store.load_spec() == ("a", {"jobs": {"ä": 1}})


def test_the_time_of_the_last_commit_is_kept(store: Store) -> None:
    assert store.last_commit_at() is None
    store.record([a_run("queued")])
    assert store.last_commit_at() is None
    store.record([a_run("queued")], committed_at=NOW + MICROSECOND)
    assert store.last_commit_at() == NOW + MICROSECOND
    store.record([], committed_at=later(5))
    assert store.last_commit_at() == NOW + MICROSECOND


# --- the state of a job ---


def test_a_job_nothing_is_recorded_of_is_an_empty_state(store: Store) -> None:
    assert store.job_states(["unknown"]) == {"unknown": JobState("unknown")}
    assert store.job_states() == {}


def test_a_state_holds_what_is_open_and_the_newest_that_is_over(store: Store) -> None:
    running = a_run("running", occasion="1")
    attempt = an_attempt(running)
    gone = an_attempt(running, number=7)._replace(ended_at=NOW)
    queued = a_run("queued", occasion="2", queued_at=ago(500))  # asked for later, by a clock since set back
    old, new = (a_run("failed", occasion=name) for name in ("old", "new"))
    store.record([old._replace(finished_at=later(86400)), new, running, gone, attempt, queued])
    store.record([a_run("queued", job_id="other")])
    first, second = (store.add_intent(an_intent(kind)) for kind in ("stop", "start"))
    resolved = store.add_intent(an_intent("pause"))
    store.record([done(an_intent("pause", resolved), "paused")])
    assert state_of(store) == JobState(
        JOB,
        active=(ActiveRun(running, Observed(attempt, Sight(RecordPhase.UNSEEN))), ActiveRun(queued, None)),
        newest_finished=new,
        intents=(an_intent("stop", first), an_intent("start", second)),
    )
    assert set(store.job_states()) == {JOB, "other"}


def test_slots_that_ran_after_the_cursor_are_told(store: Store) -> None:
    ran = [slots_row(later(n), "ran", run=a_run("running", slot=later(n))) for n in (-60, 60, 120)]
    store.record([a_cursor(a_job("scheduled"), NOW, later(60)), *ran, slots_row(later(90), "skipped")])
    assert state_of(store).ran_after_cursor == {later(60), later(120)}


@pytest.mark.parametrize(
    ("now", "is_told"), [(ago(7201), False), (ago(7200), True), (ago(1), True), (NOW, False), (later(1), False)]
)
def test_a_row_in_whose_midst_the_clock_was_set_back_is_told(store: Store, now: datetime, is_told: bool) -> None:
    row = slots_row(ago(7200), "missed", Reason.DOWN, last=NOW, total=3)
    store.record([a_cursor(a_job("scheduled"), NOW, later(60)), row])
    assert state_of(store, now=now).straddling == (row if is_told else None)
    assert state_of(store).straddling is None


@pytest.mark.parametrize(("at", "is_judged"), [(ago(61), False), (ago(60), True), (NOW, True), (later(1), False)])
def test_a_oneshot_whose_moment_is_in_the_ledger_is_told(store: Store, at: datetime, is_judged: bool) -> None:
    store.record([slots_row(ago(60), "ran", run=FULL_RUN), slots_row(ago(30), "missed", last=NOW, total=2)])
    specs = {JOB: a_job("oneshot", run_at=at)}
    assert state_of(store, now=NOW, specs=specs).is_run_at_judged is is_judged
    if is_judged:  # also where nothing else is known of the job
        assert store.job_states(now=NOW, specs=specs)[JOB].is_run_at_judged


# --- one transaction ---


def test_rows_are_written_all_or_none(store: Store) -> None:
    slot = slots_row(NOW, "ran", run=FULL_RUN)
    store.record([slot])
    taken = slots_row(ago(60), "missed", Reason.DOWN, last=later(60), total=3)
    with pytest.raises(StoreError):
        store.record([FULL_RUN, an_attempt(FULL_RUN), a_hold("stop"), taken], committed_at=NOW)
    assert store.counts() == {"runs": 0, "attempts": 0, "slots": 1, "events": 0, "intents": 0, "holds": 0}
    assert store.last_commit_at() is None
    store.record([a_hold("stop")])  # and the connection is good for more
    assert store.counts()["holds"] == 1


def test_an_attempt_without_its_run_is_refused(store: Store) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.record([an_attempt(a_run("running"))])


def test_a_process_that_is_killed_leaves_all_of_a_transaction_or_nothing(tmp_path: Path, reaper: Reaper) -> None:
    path = tmp_path / "procclaw.db"
    opened_once = Store(str(path))
    opened_once.close()
    script = (
        "import sys; from datetime import datetime, UTC; from procclaw.model.records import Event;"
        "from procclaw.system.store import Store; store = Store(sys.argv[1]); print('go', flush=True);\n"
        "while True: store.record([Event(datetime.now(UTC), str(n), None, ()) for n in range(7)])"
    )
    child = reaper.spawn([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    with opened(path) as store:
        reach(lambda: store.counts()["events"] > 0)
        child.kill()
        child.wait()
        assert store.counts()["events"] % 7 == 0
        store.check()


def reach(condition: Callable[[], bool]) -> None:
    wait_until(condition, 20, lambda: "no rows")


# --- the ledger ---

SPAN = slots_row(ago(600), "missed", Reason.DOWN, last=ago(300), total=6)


@pytest.mark.parametrize(
    ("first_ago", "last_ago", "is_taken"),
    [
        (900, 601, False),
        (900, 600, True),
        (601, 299, True),
        (500, 400, True),
        (300, 300, True),
        (300, 100, True),
        (299, 100, False),
    ],
)
def test_no_slot_is_in_the_ledger_twice(store: Store, first_ago: float, last_ago: float, is_taken: bool) -> None:
    row = slots_row(ago(first_ago), "skipped", Reason.PAUSED, last=ago(last_ago), total=2)
    store.record([slots_row(ago(2000), "missed", last=ago(1000), total=2), SPAN])
    if is_taken:
        with pytest.raises(StoreError, match="a slot of job would be in the ledger twice"):
            store.record([row])
        assert len(store.ledger()) == 2
    else:
        store.record([row])
        assert len(store.ledger()) == 3


def test_the_same_slot_of_another_job_is_another_slot(store: Store) -> None:
    store.record([SPAN, SPAN._replace(job_id="other")])
    assert len(store.ledger()) == 2


def test_a_slot_that_ran_cannot_run_for_another_run(store: Store) -> None:
    store.record([slots_row(NOW, "ran", run=FULL_RUN)])
    with pytest.raises(StoreError, match="twice"):
        store.record([slots_row(NOW, "ran", run=a_run("running"))])


def test_a_run_may_correct_the_row_of_its_own_slot(store: Store) -> None:
    corrected = slots_row(NOW, "skipped", Reason.STOP_REQUESTED, run=FULL_RUN)
    store.record([SPAN, slots_row(NOW, "ran", run=FULL_RUN), corrected])
    assert store.ledger() == (corrected, SPAN)


def test_a_row_may_be_cut_short(store: Store) -> None:
    store.record([SPAN, SPAN._replace(last_due_at=ago(500), total=2)])
    assert store.ledger() == (SPAN._replace(last_due_at=ago(500), total=2),)


def test_when_the_clock_went_back_only_what_ran_stays_of_the_time_after(store: Store) -> None:
    ran = slots_row(later(60), "ran", run=FULL_RUN)
    kept = [slots_row(ago(60), "skipped"), slots_row(NOW, "missed"), SPAN._replace(job_id="other")]
    gone = [slots_row(later(30), "skipped"), slots_row(later(90), "missed", last=later(120), total=2)]
    store.record([*kept, *gone, ran, slots_row(later(60), "skipped")._replace(job_id="other")])
    store.record([SlotsWithdrawn(JOB, NOW)])
    assert set(store.ledger(JOB)) == {kept[0], kept[1], ran}
    assert len(store.ledger("other")) == 2


def test_the_ledger_is_told_newest_first(store: Store) -> None:
    rows = [slots_row(ago(n), "skipped") for n in (30, 20, 10)]
    store.record([*rows, rows[0]._replace(job_id="other")])
    assert store.ledger(JOB) == tuple(reversed(rows))
    assert store.ledger(JOB, limit=1) == (rows[2],)
    assert store.ledger(JOB, since=ago(20)) == (rows[2], rows[1])


def test_forgetting_a_job_leaves_its_history(store: Store) -> None:
    finished = a_run("succeeded")
    store.record([a_hold("pause"), a_cursor(a_job("scheduled"), NOW, None), finished, SPAN])
    store.record([a_hold("stop", job_id="other"), JobForgotten(JOB)])
    assert state_of(store) == JobState(JOB, newest_finished=finished, cursor=Cursor(JOB, "", NOW, None))
    assert store.ledger(JOB) == (SPAN,)
    assert state_of(store, "other").holds != ()


def test_a_hold_is_lifted_by_its_kind(store: Store) -> None:
    store.record([a_hold("stop"), a_hold("pause"), HoldLifted(JOB, HoldKind.STOP)])
    assert [hold.kind for hold in state_of(store).holds] == [HoldKind.PAUSE]
    store.record([HoldLifted(JOB, HoldKind.STOP)])


# --- what people ask ---


def test_requests_are_numbered_in_the_order_of_asking_and_never_twice(store: Store) -> None:
    first, second = store.add_intent(an_intent("start")), store.add_intent(an_intent("stop"))
    assert second > first
    assert store.jobs_with_intents() == (JOB,)
    assert store.has_intents(JOB)
    assert not store.has_intents("other")
    store.record([done(an_intent("start", first), ""), done(an_intent("stop", second), "")])
    assert store.jobs_with_intents() == ()
    store.purge(1, later(1), later(1), 10)
    assert store.intent(second) is None
    assert store.add_intent(an_intent("start")) > second


def test_runs_are_listed_newest_first_and_found_by_the_beginning_of_their_id(store: Store) -> None:
    runs = [a_run("failed", occasion=str(n), queued_at=ago(n), id=name) for n, name in enumerate(("abx", "aby", "c"))]
    store.record([*runs, a_run("queued", job_id="other", queued_at=later(5))])
    assert store.runs(JOB) == tuple(runs)
    assert store.runs(JOB, limit=2) == tuple(runs[:2])
    assert [run.job_id for run in store.runs()] == ["other", JOB, JOB, JOB]
    assert [run.job_id for run in store.runs(state=RunState.QUEUED)] == ["other"]
    assert store.runs_like("c") == (runs[2],)
    assert set(store.runs_like("ab")) == {runs[0], runs[1]}
    assert store.runs_like("d") == ()


def test_how_many_active_runs_are_older_than_the_newest_that_is_over(store: Store) -> None:
    def seen(*runs: Run) -> tuple[int, int]:
        store.record(runs)
        state = store.job_states([JOB])[JOB]
        return state.older_than_finished, state.older_than_begun

    assert seen(a_run("retrying", occasion="1")) == (0, 0)
    assert seen(over(a_run("failed", occasion="2"), "failed", Reason.RETRIES_USED_UP)) == (1, 1)
    assert seen(a_run("running", occasion="3")) == (1, 1)
    never = over(a_run("stopped", occasion="4", attempts=0), "stopped", Reason.STOP_REQUESTED)
    assert seen(never) == (2, 1)
    assert store.job_states([JOB])[JOB].newest_finished == never


def test_what_is_over_and_never_began_makes_no_active_run_older_than_what_began(store: Store) -> None:
    never = over(a_run("stopped", occasion="2", attempts=0), "stopped", Reason.STOP_REQUESTED)
    store.record([a_run("retrying", occasion="1"), never])
    state = store.job_states([JOB])[JOB]
    assert (state.older_than_finished, state.older_than_begun) == (1, 0)


def test_attempts_alive_since_a_moment_are_found(store: Store) -> None:
    old = an_attempt(FULL_RUN, number=1)._replace(ended_at=ago(60), created_at=ago(90))
    edge = an_attempt(FULL_RUN, number=2)._replace(ended_at=ago(30), created_at=ago(60))
    live = an_attempt(FULL_RUN, number=3)._replace(created_at=ago(30))
    store.record([FULL_RUN, old, edge, live])
    assert store.attempts_since(JOB, ago(30)) == (edge, live)
    assert store.living.attempts() == (live,)
    assert store.living.records() == {live.record}


def test_events_are_told_oldest_first_from_where_one_left_off(store: Store) -> None:
    for n in range(5):
        store.record([Event(ago(n), f"event {n}", JOB if n % 2 else None, ())])
    assert [event.kind for event in store.events(after_id=3)] == ["event 3", "event 4"]
    assert [event.kind for event in store.events(newest=2)] == ["event 3", "event 4"]
    assert [event.kind for event in store.events(job_id=JOB)] == ["event 1", "event 3"]


# --- retention ---


def test_more_runs_than_are_to_be_kept_are_purged_oldest_first_and_in_small_steps(store: Store) -> None:
    runs = [a_run("succeeded", occasion=str(n)) for n in range(10)]
    store.record([*runs, *(an_attempt(run)._replace(ended_at=NOW) for run in runs)])
    assert store.purge(3, ago(86400), later(1), 5) == 5
    assert store.purge(3, ago(86400), later(1), 5) == 2
    assert store.purge(3, ago(86400), later(1), 5) == 0
    assert {run.occasion for run in store.runs(JOB)} == {"7", "8", "9"}
    assert store.counts()["attempts"] == 3


def test_runs_older_than_is_to_be_kept_are_purged_but_never_a_jobs_newest(store: Store) -> None:
    for n in range(3):
        store.record([over(a_run("running", occasion=str(n)), "failed", Reason.FINISHED, at=ago(100))])
    assert store.purge(100, ago(100), later(1), 10) == 0
    assert store.purge(100, ago(99), later(1), 10) == 2
    assert store.purge(0, later(1), later(1), 10) == 0
    [kept] = store.runs(JOB)
    assert kept.occasion == "2"


def test_a_jobs_newest_success_is_kept_however_many_failures_follow(store: Store) -> None:
    # Whoever watches for a success that does not come must know of the last one.
    states = ["succeeded", "succeeded", *["failed"] * 5]
    for n, state in enumerate(states):
        store.record([over(a_run("running", occasion=str(n)), state, Reason.FINISHED, at=ago(100 - n))])
    while store.purge(2, ago(50), later(1), 10):
        pass
    assert {run.occasion for run in store.runs(JOB)} == {"1", "6"}


def test_live_rows_are_never_purged(store: Store) -> None:
    running = continuous_run(queued_at=ago(10**8))
    old = an_attempt(running, created_at=ago(10**8))
    store.record([running, old, a_run("queued", queued_at=ago(10**8)), a_hold("stop", ago(10**8))])
    open_intent = store.add_intent(an_intent("start", requested_at=ago(10**8)))
    store.purge(0, later(1), later(1), 100)
    assert len(store.runs(JOB)) == 2
    assert store.living.attempts() == (old,)
    assert store.intent(open_intent) is not None
    assert state_of(store).holds != ()


def test_rows_of_the_ledger_stay_while_they_could_still_make_a_slot_unique(store: Store) -> None:
    rows = {n: slots_row(ago(n), "ran", run=FULL_RUN) for n in (60, 40, 20)}
    store.record([*rows.values(), a_cursor(a_job("scheduled"), ago(40), ago(20))])
    store.purge(1, later(1), later(1), 100)
    assert store.ledger(JOB) == (rows[20], rows[40])


def test_a_slot_made_up_for_late_stays_for_as_long_as_one_of_that_day(store: Store) -> None:
    # Due before the limit, noticed after it: it may be all that tells of an outage that has just ended.
    noticed = {n: slots_row(ago(10**6 + n), "missed", Reason.DOWN)._replace(noticed_at=ago(n)) for n in (300, 200, 100)}
    store.record(noticed.values())
    store.purge(1, ago(200), later(1), 100)
    assert store.ledger(JOB) == (noticed[100], noticed[200])


def test_the_newest_slot_of_a_job_stays_however_old_it_is(store: Store) -> None:
    old = [slots_row(ago(10**8 + n), "skipped")._replace(noticed_at=ago(10**8)) for n in (0, 10)]
    of_another = slots_row(NOW, "skipped")._replace(job_id="other")
    store.record([*old, of_another])
    store.purge(1, later(1), later(1), 100)
    assert store.ledger() == (of_another, old[0])


def test_old_rows_events_and_answers_are_purged(store: Store) -> None:
    store.record([slots_row(ago(n), "skipped")._replace(noticed_at=ago(n)) for n in (300, 100)])
    store.record([Event(ago(n), str(n), None, ()) for n in (300, 100)])
    for n in (300, 100):
        number = store.add_intent(an_intent("start"))
        store.record([done(an_intent("start", number), "", at=ago(n))])
    assert store.purge(1, ago(200), later(1), 100) == 1
    assert [row.first_due_at for row in store.ledger()] == [ago(100)]
    assert [event.kind for event in store.events()] == ["100"]
    assert store.counts()["intents"] == 1


def test_a_step_tells_of_the_kind_that_had_most_to_go_whether_it_took_all(store: Store) -> None:
    store.record([slots_row(ago(n), "skipped")._replace(noticed_at=ago(n)) for n in (400, 300, 100)])
    store.record([Event(ago(300 - n), "old", None, ()) for n in range(7)])
    assert [store.purge(1, ago(200), later(1), 5) for _ in range(3)] == [5, 2, 0]
    assert store.events() == ()


def test_what_is_too_young_to_go_is_not_read_to_find_what_is_old(store: Store) -> None:
    """There may be millions of rows, and every minute this is done while the loop waits."""
    connection, said = store._db.connection, list[str]()
    connection.set_trace_callback(said.append)
    store.purge(100, ago(100), NOW, 10)
    connection.set_trace_callback(None)
    deletions = [statement for statement in said if statement.startswith("DELETE")]
    assert len(deletions) == 10
    for statement in deletions:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert [step for step in steps if re.match(r"SCAN (slots|s|events|intents|alerts|workflow_runs)\b", step)] == []


def test_of_a_run_that_goes_on_and_on_the_newest_attempts_are_kept(store: Store) -> None:
    run = continuous_run()
    attempts = [ended(an_attempt(run, number=n), Reason.EXITED, 1) for n in range(1, 11)]
    store.record([run, *attempts[:-1], an_attempt(run, number=10)])
    store.thin_attempts(run.id, 3)
    assert [attempt.number for attempt in store.attempts(run.id)] == [8, 9, 10]


# --- files that are not for us ---


def contents(path: Path) -> bytes:
    return path.read_bytes()


def refused(path: Path, message: str) -> None:
    """Opening says so, and leaves the file as it was."""
    before = contents(path)
    with pytest.raises(StoreError, match=message):
        Store(str(path))
    assert contents(path) == before
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "procclaw.db"
    Store(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    refused(
        path,
        rf"{path}: written by a newer ProcClaw \(schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}\); "
        "use that version, or move the file away to start without its history",
    )


def test_whoever_only_looks_sees_what_was_committed_and_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "procclaw ?#%.db"
    with opened(path) as writer:
        writer.set_meta("a", "1")
        with contextlib.closing(Store(str(path), is_to_look=True)) as looker:
            assert (looker.meta("a"), looker.schema) == ("1", SCHEMA_VERSION)
            with pytest.raises(StoreError, match="readonly database"):
                looker.set_meta("a", "2")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with contextlib.closing(Store(str(path), is_to_look=True)) as looker:
        assert looker.meta("a") == "1"
        # Even a reader would leave two files beside it.
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_whoever_only_looks_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        Store(str(tmp_path / "procclaw.db"), is_to_look=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user_version", [0, 1, 99])
def test_the_database_of_another_program_is_refused(tmp_path: Path, user_version: int) -> None:
    path = tmp_path / "procclaw.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE contacts (name TEXT)")
        connection.execute(f"PRAGMA user_version = {user_version}")
    refused(path, "not a ProcClaw database; move it away")


@pytest.mark.parametrize("garbage", [b"not a database at all", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "procclaw.db"
    path.write_bytes(garbage)
    refused(path, "the database is damaged .*; restore it from a backup, or move it away")


def test_damage_inside_is_found_before_a_daemon_starts(tmp_path: Path) -> None:
    path = tmp_path / "procclaw.db"
    with opened(path) as store:
        store.record([Event(NOW, "x" * 500, None, ()) for _ in range(200)])
        store.check()
    with open(path, "r+b") as file:
        file.seek(file.seek(0, os.SEEK_END) - 3 * 4096)
        file.write(os.urandom(2 * 4096))
    before = contents(path)
    with opened(path) as store, pytest.raises(StoreError, match="the database is damaged"):
        store.check()
    assert contents(path) == before


def test_damage_met_while_reading_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "procclaw.db"
    with opened(path) as store:
        store.record([Event(NOW, "x" * 500, None, ()) for _ in range(200)])
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(StoreError, match="the database is damaged"), opened(path) as store:
        store.events()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("state = 'succe`ded'", id="a word that is none of its kind"),
        pytest.param("params = '[['", id="text that is no JSON"),
        pytest.param("closed = '[1]'", id="JSON of another shape"),
        pytest.param("detail = CAST(x'ff41' AS TEXT)", id="text that is no UTF-8"),
        pytest.param("detail = x'41'", id="bytes in place of text"),
        pytest.param("attempts = 'a few'", id="text in place of a number"),
        pytest.param("queued_at = 1 << 62", id="a moment beyond the calendar"),
        pytest.param("finished_at = 'later'", id="text in place of a moment"),
    ],
)
def test_what_nobody_can_have_written_is_damage_and_not_a_bug(tmp_path: Path, change: str) -> None:
    path = tmp_path / "procclaw.db"
    with opened(path) as store:
        store.record([over(a_run("running"), "succeeded", Reason.FINISHED)])
        store._db.execute(f"UPDATE runs SET {change}")
        with pytest.raises(StoreError, match=r"is damaged \(.*\); restore it from a backup, or move it away"):
            store.runs()
        with pytest.raises(StoreError, match="the database is damaged"):
            store.job_states()


@pytest.mark.parametrize("change", ["mark = x'41'", "number = 'a few'"])
def test_a_live_attempt_whose_record_cannot_be_named_is_damage(tmp_path: Path, change: str) -> None:
    with opened(tmp_path / "procclaw.db") as store:
        store.record([FULL_RUN, an_attempt(FULL_RUN, number=3)])
        store._db.execute(f"UPDATE attempts SET {change}")
        with pytest.raises(StoreError, match="the database is damaged"):
            store.living.records()


@pytest.mark.parametrize(
    ("key", "look"),
    [
        ("last_commit_at", Store.last_commit_at),
        ("restored_until", Store.restored_until),
        ("problems", Store.problems),
        ("warnings", Store.warnings),
        ("lack", Store.lack),
    ],
)
@pytest.mark.parametrize("value", ["'x'", "'[['", "'[1, 2, 3]'", "x'00'"])
def test_a_fact_about_the_home_that_cannot_be_read_is_damage(
    tmp_path: Path, key: str, look: Callable[[Store], object], value: str
) -> None:
    with opened(tmp_path / "procclaw.db") as store:
        store._db.execute(f"INSERT INTO meta VALUES ('{key}', {value})")
        if (key, value) == ("warnings", "'[1, 2, 3]'"):
            assert look(store) == ("1", "2", "3")
            return
        with pytest.raises(StoreError, match="the database is damaged"):
            look(store)


def test_a_configuration_that_is_not_the_one_that_was_saved_is_not_put_in_force(tmp_path: Path) -> None:
    with opened(tmp_path / "procclaw.db") as store:
        store.save_spec("hash", {"jobs": {"a": {"cmd": "rm old"}}}, NOW)
        store._db.execute("UPDATE specs SET document = replace(document, 'old', 'all')")
        with pytest.raises(StoreError, match="the configuration in force is not the one that was saved"):
            store.load_spec()
        store._db.execute("UPDATE specs SET hash = 'hasj'")
        with pytest.raises(StoreError, match="the configuration in force is not the one that was saved"):
            store.load_spec()


def test_a_configuration_that_an_earlier_version_saved_without_a_checksum_is_loaded(tmp_path: Path) -> None:
    with opened(tmp_path / "procclaw.db") as store:
        store.save_spec("hash", {"jobs": {}}, NOW)
        store._db.execute("DELETE FROM meta WHERE key = 'spec_checksum'")
        assert store.load_spec() == ("hash", {"jobs": {}})


def test_a_schema_in_which_a_letter_is_another_is_damage_and_a_statement_of_ours_that_is_wrong_a_bug(
    tmp_path: Path,
) -> None:
    path = tmp_path / "procclaw.db"
    with opened(path) as store:
        with pytest.raises(sqlite3.OperationalError, match="no such column: nonsense"):
            store._db.read("SELECT nonsense FROM runs")
        store._db.execute("ALTER TABLE runs RENAME COLUMN exit_code TO exit_cod3")
        with pytest.raises(StoreError, match=r"the database is damaged \(no such column: exit_code\)"):
            store.runs()


def test_a_number_of_an_earlier_schema_on_the_tables_of_the_present_one_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "procclaw.db"
    Store(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    refused(path, "it is not of schema 1, as it says")


def test_a_file_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    path = tmp_path / "procclaw.db"
    with opened(path) as store:
        store._db.execute("PRAGMA query_only = 1")
        with pytest.raises(StoreError, match="readonly database; check the owner, the permissions and the disk"):
            store.record([a_hold("stop")])


def test_a_directory_that_is_missing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing/procclaw\.db: cannot open the database: "):
        Store(str(tmp_path / "missing" / "procclaw.db"))


def test_a_file_that_was_copied_out_of_its_mode_is_put_back_into_it(tmp_path: Path) -> None:
    with opened(tmp_path / "procclaw.db") as store:
        store.record([FULL_RUN])
    with contextlib.closing(sqlite3.connect(tmp_path / "procclaw.db")) as connection:
        connection.execute(f"VACUUM INTO '{tmp_path / 'copy.db'}'")
    with opened(tmp_path / "copy.db") as store:
        assert store.run(FULL_RUN.id) == FULL_RUN
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# --- several processes ---

ASKER = """
import sys
from datetime import datetime, UTC
from procclaw.model.intents import Intent, IntentKind
from procclaw.system.store import Store

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
for number in range(count):
    store = Store(path)
    store.add_intent(Intent(0, name, IntentKind.START, False, datetime.now(UTC), str(number)))
    # Reads before it writes: a transaction that is not immediate would fail or lose what the other one wrote.
    store.set_meta("last of " + name, str(number))
    store.close()
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, reaper: Reaper) -> None:
    """From the very creation of the file: each of them finds none."""
    path = tmp_path / "procclaw.db"
    each, names = 25, ("a", "b", "c", "d")
    children = [
        reaper.spawn([sys.executable, "-c", ASKER, str(path), name, str(each)], stdin=subprocess.PIPE) for name in names
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert [child.wait(timeout=60) for child in children] == [0] * len(names)
    with opened(path) as store:
        states = store.job_states(names)
        for name in names:
            assert [intent.requested_by for intent in states[name].intents] == [str(n) for n in range(each)]
            assert store.meta(f"last of {name}") == str(each - 1)
        ids = [intent.id for state in states.values() for intent in state.intents]
        assert len(set(ids)) == each * len(names)


def test_another_process_is_noticed_by_the_data_version(tmp_path: Path) -> None:
    with opened(tmp_path / "procclaw.db") as mine, opened(tmp_path / "procclaw.db") as others:
        before = mine.data_version()
        mine.record([a_hold("stop")])
        assert mine.data_version() == before
        others.record([a_hold("pause")])
        assert mine.data_version() != before


def test_a_writer_that_never_lets_go_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procclaw.system.store.database.BUSY_SECONDS", 0.1)
    path = tmp_path / "procclaw.db"
    with opened(path) as store, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process for more than 0 s"):
            store.record([a_hold("stop")])
        other.execute("ROLLBACK")
        store.record([a_hold("stop")])


# --- a full disk ---


def a_big_row(number: int) -> Row:
    return Event(NOW, "x" * 20_000, str(number), ())


def write_for_ever(store: Store) -> None:
    for number in count(2):
        store.record([a_big_row(number), a_run("queued", occasion=str(number))])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("only root can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Take every byte that is left."""
    filler = place / "filler"
    with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_reserve_that_has_become_too_short_is_made_whole(tmp_path: Path) -> None:
    reserve = tmp_path / "procclaw.reserve"
    with opened(tmp_path / "procclaw.db", reserve) as store:
        store.keep_reserve()
        os.truncate(reserve, 5)
        store.keep_reserve()
    assert reserve.stat().st_size == RESERVE_BYTES


def test_on_a_full_disk_the_reserve_is_used_up_first_and_then_nothing_is_half_written(small_disk: Path) -> None:
    reserve = small_disk / "procclaw.reserve"
    with opened(small_disk / "procclaw.db", reserve) as store:
        store.record([a_hold("stop")])
        store.keep_reserve()
        assert reserve.stat().st_size == RESERVE_BYTES
        filler = fill(small_disk)
        rows = count(1)
        while reserve.exists():
            store.record([a_big_row(next(rows))], committed_at=NOW)
        written = store.counts()["events"]
        assert [event.job_id for event in store.events()] == [str(n + 1) for n in range(written)]
        assert written > 1  # the database's own free pages come first
        filler = fill(small_disk)
        with pytest.raises(DiskFull, match="no space left on the device"):
            write_for_ever(store)
        assert store.counts()["events"] == store.counts()["runs"] + written
        store.keep_reserve()
        assert not reserve.exists()
        assert [path.name for path in small_disk.iterdir() if "reserve" in path.name] == []
        filler.unlink()
        store.record([a_hold("pause")])
        store.keep_reserve()
        assert reserve.stat().st_size == RESERVE_BYTES
        assert len(state_of(store).holds) == 2
        store.check()


def test_no_room_for_a_database_is_said_so(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(DiskFull):
        Store(str(small_disk / "procclaw.db"))


def test_without_room_a_write_is_refused_whole_and_the_reserve_has_been_given(tmp_path: Path) -> None:
    reserve = tmp_path / "procclaw.reserve"
    with opened(tmp_path / "procclaw.db", reserve) as store:
        store.keep_reserve()
        pages = store._db.pragma("page_count")
        store._db.execute(f"PRAGMA max_page_count = {pages}")  # full, as far as SQLite can tell
        with pytest.raises(DiskFull):
            store.record([a_run("queued"), *(a_big_row(number) for number in range(200))])
        assert not reserve.exists()
        assert store.counts() == dict.fromkeys(store.counts(), 0)
        store._db.execute("PRAGMA max_page_count = 1000000")
        store.record([a_run("queued")])
        assert store.counts()["runs"] == 1


def test_the_reserve_is_made_once(tmp_path: Path) -> None:
    reserve = tmp_path / "procclaw.reserve"
    with opened(tmp_path / "procclaw.db", reserve) as store:
        store.keep_reserve()
        made = reserve.stat()
        store.keep_reserve()
        assert reserve.stat().st_ino == made.st_ino
        assert made.st_mode & 0o777 == 0o600
        assert made.st_blocks * 512 >= RESERVE_BYTES


# --- recorded cycles ---


def a_cycle(seconds_ago: float, *runs: str, spec: str = "a", body: bytes = b"body") -> CycleRecord:
    return CycleRecord(ago(seconds_ago), spec, runs, body)


def cycles_in(store: Store) -> int:
    return int(store._db.read("SELECT count(*) FROM cycles")[0][0])


def test_a_recorded_cycle_is_found_by_its_time_and_by_its_runs(store: Store) -> None:
    assert store.cycles.at(None) is None
    assert store.cycles.at(NOW) is None
    assert store.cycles.since() is None
    cycles = [a_cycle(30, "one"), a_cycle(20, "one", "two"), a_cycle(10)]
    store.record(cycles)
    first, second, third = (cycle._replace(id=number) for number, cycle in enumerate(cycles, 1))
    assert store.cycles.at(None) == third
    assert [store.cycles.at(ago(seconds)) for seconds in (30.5, 30, 20.5, 20, 0)] == [None, first, first, second, third]
    assert store.cycles.about("one", 5) == (first, second)
    assert store.cycles.about("one", 1) == (second,)
    assert store.cycles.about("two", 5) == (second,)
    assert store.cycles.about("tw", 5) == ()
    assert (store.cycles.count("one"), store.cycles.count("three")) == (2, 0)
    assert store.cycles.since() == ago(30)


def test_the_last_cycle_is_the_last_that_was_recorded_also_when_the_clock_was_set_back(store: Store) -> None:
    store.record([a_cycle(0), a_cycle(3600)])
    assert [found and found.id for found in (store.cycles.at(None), store.cycles.at(NOW))] == [2, 1]


def test_a_thousand_cycles_are_kept(store: Store) -> None:
    store.record([a_cycle(2000 - number) for number in range(KEPT_CYCLES + 3)])
    assert cycles_in(store) == KEPT_CYCLES == 1000
    assert store.cycles.since() == ago(1997)
    store.record([a_cycle(0)])
    assert (cycles_in(store), store.cycles.since()) == (KEPT_CYCLES, ago(1996))


def purge_all(store: Store) -> None:
    store.purge(keep_runs=100, before=ago(1e6), now=NOW, limit=100)


def test_of_large_cycles_fewer_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procclaw.system.store.retention.KEPT_CYCLE_BYTES", 1000)
    store.save_spec("a", DOCUMENT, NOW)
    store.record([a_cycle(50 - number, body=b"x" * 300) for number in range(5)])
    purge_all(store)
    assert (cycles_in(store), store.cycles.since()) == (3, ago(48))
    store.record([a_cycle(0, body=b"x" * 1001)])
    purge_all(store)
    assert cycles_in(store) == 0


def test_a_configuration_is_kept_as_long_as_a_cycle_that_was_decided_by_it(store: Store) -> None:
    by_a, by_b, by_none = a_cycle(30, spec="a"), a_cycle(20, spec="b"), a_cycle(10, spec="none")
    store.save_spec("a", {"is": "a"}, NOW)
    store.record([by_a])
    store.save_spec("b", {"is": "b"}, NOW, past={"was": "a"})
    store.save_spec("c", {"is": "c"}, NOW, past={"was": "b"})
    assert [store.cycles.spec_of(cycle) for cycle in (by_a, by_b)] == [{"was": "a"}, None]
    store.record([by_b, by_none])
    purge_all(store)
    assert store.cycles.at(None) == by_a._replace(id=1), "the others can never be replayed"
    store._db.execute("DELETE FROM cycles")
    purge_all(store)
    assert store.cycles.spec_of(by_a) is None


def test_a_configuration_that_comes_back_is_the_one_in_force(store: Store) -> None:
    cycle = a_cycle(30)
    for _ in range(2):
        store.save_spec("a", {"is": "a"}, NOW)
        store.record([cycle])
        assert store.cycles.spec_of(cycle) == {"is": "a"}
        store.save_spec("b", {"is": "b"}, NOW, past={"was": "a"})
        assert store.cycles.spec_of(cycle) == {"was": "a"}


# --- databases of before ---

SAMPLE: tuple[Row, ...] = (
    FULL_RUN,
    a_run("succeeded"),
    continuous_run(),
    FULL_ATTEMPT,
    ended(an_attempt(a_run("succeeded")), Reason.EXITED, 0),
    an_attempt(continuous_run()),
    SPAN,
    slots_row(NOW, "ran", run=FULL_RUN),
    a_cursor(a_job("scheduled"), NOW, later(3600)),
    a_cursor(a_job("oneshot"), NOW, None)._replace(job_id="once"),
    a_hold("pause"),
    a_hold("stop", job_id="*"),
    accepted("stop", 1, force=True),
    done(an_intent("start", 2), "started (pid 1000)"),
    Event(NOW, "hold set", JOB, (("hold", "pause"), ("by", "alice"))),
)
DOCUMENT = {"jobs": {JOB: {"cmd": "true"}}}
PAST_DOCUMENT = {"jobs": {JOB: {"cmd": "false"}}}


ASKED = an_intent(
    "trigger",
    3,
    key="key",
    details=Details((("A", "ü"),), later(60), later(90), True, (1, 2), A_WORKFLOW, "nightly", "wwwwwwwwwwww"),
)
SAMPLES: dict[int, tuple[Row, ...]] = {
    1: SAMPLE,
    2: (
        SINCE_VERSION_2,
        *(row for row in SAMPLE if row not in (FULL_RUN, FULL_ATTEMPT)),
        SINCE_VERSION_2._replace(id="cccccccccccc", occasion="slot:2", closed=()),
        FULL_ATTEMPT._replace(result='{"a":1}'),
        a_hold("revoke")._replace(until=later(60)),
        ASKED,
        Health(JOB, FULL_ATTEMPT.id, False, ago(5), ago(4), 2, ago(3), "connection refused"),
        Usage(JOB, FULL_ATTEMPT.id, NOW, 1.5, 12.5, 64.25, ago(2), "64 MB of at most 50 MB"),
        Alert("k", JOB, AlertKind.FAILED, ago(60), "failed", "run", AlertState.SENT, 1, later(5), ago(1), NOW, "why"),
        Trouble(JOB, AlertKind.UNHEALTHY, ago(5)),
        Watch(JOB, "every 60", ago(9)),
        a_dead_letter(over(FULL_RUN, "failed", Reason.RETRIES_USED_UP, exit_code=3))._replace(id=1),
        TriggerFile(JOB, "/spool/ü.csv", "1:2:3", "rrrrrrrrrrrr", ago(1)),
        A_WORKFLOW_RUN,
    ),
}
SAMPLES[3] = SAMPLES[4] = SAMPLES[2]
SAMPLES[5] = (*SAMPLES[4], CycleRecord(ago(3), "past", (FULL_RUN.id, "cccccccccccc"), b"\x00body"))
"""By schema version, what stands in its database."""


def write_sample() -> None:
    store = Store(str(DATABASES / f"v{SCHEMA_VERSION}.db"))
    store.record(SAMPLES[SCHEMA_VERSION], committed_at=NOW)
    store.save_spec("past", PAST_DOCUMENT, ago(60))
    store.save_spec("hash", DOCUMENT, NOW, past=PAST_DOCUMENT)
    store.set_problems(Problems(NOW, ("jobs.yaml:1: …",)))
    store.set_lack(Lack(Reason.NO_DISK, "no space left", later(5)))
    store.close()


def schema_of(path: Path) -> dict[str, set[str]]:
    """The columns of each table and index. An old table keeps those that nobody uses any more."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        named = connection.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
        return {
            name: {row[1 if kind == "table" else 2] for row in connection.execute(f"PRAGMA {kind}_info({name})")}
            for kind, name in named
        }


OUT_OF_USE = {"runs": {"waiting_since"}}


def test_there_is_a_database_of_every_schema_version() -> None:
    assert set(SAMPLES) == set(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("version", SAMPLES)
def test_a_database_of_an_old_schema_version_opens_and_means_the_same(version: int, tmp_path: Path) -> None:
    path = tmp_path / "procclaw.db"
    shutil.copy(DATABASES / f"v{version}.db", path)
    with opened(path) as store:
        store.check()
        for row in SAMPLES[version]:
            match row:
                case Run():
                    assert store.run(row.id) == row
                case Attempt():
                    assert row in store.attempts(row.run_id)
                case Slots():
                    assert row in store.ledger()
                case Cursor():
                    assert state_of(store, row.job_id).cursor == row
                case Hold():
                    assert row in state_of(store, row.job_id).holds
                case Intent():
                    assert store.intent(row.id) == row
                case Event():
                    assert store.events() == (row._replace(id=1),)
                case Health() | Usage():
                    lives = [active.live for active in state_of(store, row.job_id).active if active.live is not None]
                    assert row in [found for live in lives for found in (live.health, live.usage)]
                case Alert():
                    assert store.alerts() == (row,)
                case Trouble():
                    assert row in state_of(store, row.job_id).troubles
                case Watch():
                    assert state_of(store, row.job_id).watch == row
                case DeadLetter():
                    assert store.dead_letter(row.id) == row
                case TriggerFile():
                    assert row in state_of(store, row.job_id).triggered
                case WorkflowRun():
                    assert store.workflow_run(row.id) == row
                case CycleRecord():
                    assert store.cycles.at(None) == row._replace(id=1)
                    assert store.cycles.spec_of(row) == PAST_DOCUMENT
                case _:
                    pytest.fail(f"nothing looks at {row}")
        assert store.last_commit_at() == NOW
        assert store.load_spec() == ("hash", DOCUMENT)
        assert store.problems() == Problems(NOW, ("jobs.yaml:1: …",))
        assert store.lack() == Lack(Reason.NO_DISK, "no space left", later(5))


@pytest.mark.parametrize("version", SAMPLES)
def test_an_old_database_has_the_schema_of_a_new_one_once_it_is_open(version: int, tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    shutil.copy(DATABASES / f"v{version}.db", old)
    for path in (old, new):
        Store(str(path)).close()
    assert {name: columns - OUT_OF_USE.get(name, set()) for name, columns in schema_of(old).items()} == schema_of(new)
    with contextlib.closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_every_kind_of_request_and_reason_can_be_kept(store: Store) -> None:
    for kind in IntentKind:
        number = store.add_intent(an_intent(kind))
        assert store.intent(number) == an_intent(kind, number)
    for number, reason in enumerate(Reason):
        run = a_run("failed", occasion=str(number), reason=reason)
        store.record([run])
        assert store.run(run.id) == run


def test_what_may_stand_for_a_slot_reaches_back_from_when_the_first_due_one_can_have_been_due(store: Store) -> None:
    job = a_job("scheduled", dedup=Dedup(60, True))
    old = a_run("succeeded", slot=ago(400))
    store.record([old, a_cursor(job, ago(350), ago(340))])
    specs = {JOB: job}
    assert state_of(store, now=NOW, specs=specs).recent == (old,)
    store.record([a_cursor(job, ago(30), later(30))])
    assert state_of(store, now=NOW, specs=specs).recent == ()
