"""What jobs see of each other."""

import pytest

from procclaw.model.state import ActiveRun
from tests.builders import a_board, a_job, a_job_state, a_run, an_attempt, seen_as

JOB = a_job()


@pytest.mark.parametrize(("phase", "is_up"), [("locked", True), ("blank", False)])
def test_a_process_that_died_before_it_began_is_not_up_although_its_pid_is_known(phase: str, is_up: bool) -> None:
    run = a_run("running")
    attempt = an_attempt(run, JOB)
    board = a_board(JOB, states=[a_job_state(ActiveRun(run, seen_as(phase, attempt)))])
    assert (board.is_up(JOB.id) is not None) is is_up
