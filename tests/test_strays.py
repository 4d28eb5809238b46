"""Records that the database does not know are taken in, or found to be of no use."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.strays import adopted, in_turn
from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, Terms, Trigger
from procclaw.model.rows import Row
from procclaw.model.spec import JobSpec, Leftovers
from procclaw.system.store import Store
from tests.builders import (
    BOOT,
    JOB,
    NOW,
    a_job,
    a_run,
    a_spec,
    ago,
    an_attempt,
    changed,
    continuous_run,
    ended,
    over,
    terms_of,
    waiting,
    with_process,
)

MARK = "1" * 32
SERVICE = a_job("continuous")
LOCKED = Sight(RecordPhase.LOCKED, pid=1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(str(tmp_path / "procclaw.db"))
    yield found
    found.close()


GONE = Sight(RecordPhase.MISSING)


def taken_in(
    store: Store, record: str, job: JobSpec | None = None, sight: Sight = LOCKED, before: Sight = GONE
) -> list[Row]:
    """`before`: what there is to be seen of earlier attempts that are not over."""
    rows = adopted(store, a_spec(*([] if job is None else [job])), record, sight, BOOT, NOW, lambda _attempt: before)
    assert rows is not None
    return rows


@pytest.mark.parametrize("phase", [RecordPhase.LOCKED, RecordPhase.EXITED, RecordPhase.LOST])
def test_a_record_that_contradicts_a_process_which_is_there_is_left_alone(store: Store, phase: RecordPhase) -> None:
    run = a_run("running", id="abc", attempts=2)
    store.record([run, an_attempt(run)])
    assert adopted(store, a_spec(a_job()), RECORD, Sight(phase, pid=1000), BOOT, NOW, lambda _attempt: LOCKED) is None


def test_a_record_of_one_job_with_the_run_of_another_is_left_alone(store: Store) -> None:
    store.record([a_run("running", id="abc", job_id="other")])
    assert adopted(store, a_spec(a_job()), RECORD, LOCKED, BOOT, NOW, lambda _attempt: GONE) is None


def unknown_run(trigger: Trigger = Trigger.MANUAL, **fields: Any) -> Run:
    run = Run("abc", JOB, f"record:{MARK}", trigger, RunState.RUNNING, NOW, NOW, started_at=NOW, attempts=3)
    return run._replace(**{"process_hash": "as it is", "boot_id": BOOT, **fields})


def unknown_attempt(job: JobSpec, run_id: str = "abc", number: int = 3) -> Attempt:
    return Attempt(f"{run_id}.{number}", run_id, JOB, number, MARK, BOOT, NOW, terms_of(job))


RECORD = f"{JOB}.abc.3.{MARK}"


@pytest.mark.parametrize(
    ("sight", "started_at"),
    [
        (LOCKED, NOW),
        (Sight(RecordPhase.EXITED, pid=1000, exit_code=0, exited_at=ago(60)), ago(60)),
        (Sight(RecordPhase.FAILED_CWD, pid=1000, exited_at=ago(60)), ago(60)),
        (Sight(RecordPhase.LOST, pid=1000), None),
    ],
    ids=["alive", "ended", "its directory was missing", "lost"],
)
def test_a_start_that_a_restored_database_has_forgotten_gets_its_rows_back(
    store: Store, sight: Sight, started_at: datetime | None
) -> None:
    """What is over has not started just now, so nobody who waits for a start may take it for one."""
    rows = taken_in(store, RECORD, a_job(), sight)
    assert rows == [unknown_run(started_at=started_at), unknown_attempt(a_job())]
    store.record(rows)
    assert store.living.attempts() == (unknown_attempt(a_job()),)


@pytest.mark.parametrize("phase", [RecordPhase.BLANK, RecordPhase.MISSING])
def test_a_record_without_a_start_belongs_to_nothing(store: Store, phase: RecordPhase) -> None:
    assert taken_in(store, RECORD, a_job(), Sight(phase)) == []


@pytest.mark.parametrize(
    "name", ["newest", "", "a.b.c", "job.abc.x.1", "job.abc.².1", "job.abc.3.", "job..3.1", f"{RECORD}.tmp"]
)
def test_a_file_that_is_no_record_belongs_to_nothing(store: Store, name: str) -> None:
    assert taken_in(store, name, a_job()) == []


def test_a_record_whose_end_is_committed_was_only_to_be_deleted(store: Store) -> None:
    run = over(a_run("running", id="abc"), "succeeded", Reason.FINISHED)
    attempt = ended(unknown_attempt(a_job()), Reason.EXITED, 0)
    store.record([run, attempt])
    assert taken_in(store, RECORD, a_job()) == []


def test_an_earlier_attempt_of_the_same_number_is_another_one(store: Store) -> None:
    run = over(a_run("running", id="abc", attempts=3), "succeeded", Reason.FINISHED)
    attempt = ended(an_attempt(run), Reason.EXITED, 0)
    store.record([run, attempt])
    rows = taken_in(store, RECORD, a_job())
    assert rows[-1] == unknown_attempt(a_job())
    store.record(rows)
    assert store.living.attempts() == (unknown_attempt(a_job()),)


def test_a_run_that_is_known_goes_on_with_the_attempt_that_was_not(store: Store) -> None:
    run = over(a_run("running", id="abc", attempts=1, failures=1), "failed", Reason.RETRIES_USED_UP)
    store.record([run])
    revived = run._replace(state=RunState.RUNNING, finished_at=None, reason=None, attempts=3, boot_id=BOOT)
    assert taken_in(store, RECORD, a_job()) == [revived, unknown_attempt(a_job())]


def test_what_the_database_took_for_the_live_attempt_has_ended_since(store: Store) -> None:
    run = a_run("running", id="abc", attempts=2)
    before = an_attempt(run)
    store.record([run, before])
    rows = taken_in(store, RECORD, a_job())
    assert rows[0] == ended(before, Reason.LOST, None)
    store.record(rows)
    assert store.living.attempts() == (unknown_attempt(a_job()),)


def test_how_that_one_ended_is_known_where_its_record_is_still_there(store: Store) -> None:
    run = a_run("running", id="abc", attempts=2)
    before = an_attempt(run)
    store.record([run, before])
    its_end = Sight(RecordPhase.EXITED, pid=999, exit_code=3, exited_at=ago(60))
    assert taken_in(store, RECORD, a_job(), before=its_end)[0] == ended(
        before, Reason.EXITED, 3, ago(60), ended_at=NOW, cpu_seconds=None
    )


def test_the_records_of_a_run_are_taken_in_as_its_attempts_followed_each_other() -> None:
    records = [f"{JOB}.abc.{number}.{MARK}" for number in (1, 2, 10)]
    assert in_turn(sorted(records)) == records
    assert in_turn(["zzz", *sorted(records)]) == ["zzz", *records]


def test_a_continuous_job_is_found_running_as_what_it_is_wanted_to_be(store: Store) -> None:
    queued = continuous_run("retrying")
    store.record([queued])
    rows = taken_in(store, RECORD, SERVICE)
    assert rows == [
        over(queued, "stopped", Reason.RESTORED),
        unknown_run(Trigger.CONTINUOUS),
        unknown_attempt(SERVICE),
    ]
    store.record(rows)
    [active] = store.job_states([JOB])[JOB].active
    assert active.run == unknown_run(Trigger.CONTINUOUS)


def test_a_second_process_of_a_continuous_job_is_counted_beside_the_first(store: Store) -> None:
    run = continuous_run()
    store.record([run, an_attempt(run, SERVICE)])
    store.record(taken_in(store, RECORD, SERVICE))
    assert len(store.living.attempts()) == 2


def test_a_waiting_run_of_a_job_that_ends_by_itself_is_left_waiting(store: Store) -> None:
    queued = a_run("queued")
    store.record([queued])
    assert queued not in taken_in(store, RECORD, a_job())
    assert store.run(queued.id) == queued


def test_it_is_not_restarted_on_the_guess_that_it_runs_an_older_text(store: Store) -> None:
    edited = changed(SERVICE, process_hash="edited")
    rows = taken_in(store, RECORD, edited)
    attempt = rows[-1]
    assert isinstance(attempt, Attempt)
    assert attempt.terms.process_hash == "edited"


def test_the_process_of_a_job_that_is_not_declared_is_known_so_that_it_can_be_stopped(store: Store) -> None:
    [run, attempt] = taken_in(store, RECORD)
    assert run == unknown_run(process_hash="")
    assert isinstance(attempt, Attempt)
    assert attempt.terms == Terms(15, 60, Leftovers.STOP, (0,), None, "")


def test_builders_of_active_runs_agree_with_what_is_recorded(store: Store) -> None:
    run, queued = a_run("running"), a_run("queued", occasion="later")
    store.record([run, an_attempt(run), queued])
    found = store.job_states([JOB])[JOB].active
    assert [active.run for active in found] == [with_process(run).run, waiting(queued).run]
