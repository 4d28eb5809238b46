"""What a run waits for before its first attempt."""

import pytest

from procclaw.model.spec import Condition, Dependency
from procclaw.model.state import Reason, Run, RunState
from procclaw.planning.dependencies import lack_of
from procclaw.planning.plan import plan
from tests.builders import (
    NOW,
    a_board,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_state,
    ago,
    changed,
    continuous_run,
    later,
    waiting,
)

DB = changed(a_job("continuous"), id="db")
AFTER_START = Dependency("db", Condition.AFTER_START, None)


@pytest.mark.parametrize(
    ("started_at", "finished_at", "is_met"),
    [
        (ago(90), ago(61), False),
        (ago(90), ago(60), True),
        (ago(60), ago(59), True),
        (ago(90), None, False),
        (later(9000), ago(61), False),
        (later(9000), ago(1), True),
    ],
    ids=[
        "before",
        "ended since",
        "all since",
        "retrying since before",
        "under a clock set back since",
        "ended since that",
    ],
)
def test_after_start_holds_once_it_has_run_since_the_waiting_run_was_made(
    started_at: object, finished_at: object, is_met: bool
) -> None:
    times = {"job_id": "db", "started_at": started_at, "finished_at": finished_at}
    if finished_at is None:
        state = a_job_state(waiting(continuous_run("retrying", **times)), id="db")
    else:
        state = a_job_state(id="db", newest_finished=continuous_run("failed", **times))
    lack = lack_of(AFTER_START, a_run("queued", queued_at=ago(60)), a_board(DB, states=[state]))
    assert (lack is None) is is_met


def test_who_waits_for_a_run_that_gives_up_is_looked_at_again_at_once() -> None:
    fetch = changed(a_job(), id="fetch", depends_on=(Dependency("absent", Condition.AFTER_START, 30),))
    use = changed(a_job(), id="use", depends_on=(Dependency("fetch", Condition.AFTER_COMPLETE, None),))
    gate = "dependency absent after_start"
    first = a_run("queued", job_id="fetch", closed=((gate, ago(30)),))
    second = a_run("queued", job_id="use")
    states = [a_job_state(waiting(first), id="fetch"), a_job_state(waiting(second), id="use")]
    decided = plan(a_spec(fetch, use), a_state(*states), NOW)
    over = [write for write in decided.writes if isinstance(write, Run) and write.id == first.id]
    assert [(run.state, run.reason) for run in over] == [(RunState.FAILED, Reason.DEPENDENCY_TIMEOUT)]
    assert [wait.job_id for wait in decided.waits] == ["use"]
    assert decided.wake_at == NOW
