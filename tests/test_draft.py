"""One job's plan in the making."""

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import RunState, Trigger
from procclaw.model.state import ActiveRun, JobState
from procclaw.planning.draft import Draft
from procclaw.planning.gates import Gate
from tests.builders import NOW, a_job, a_job_state, a_run, a_state, a_wait, over, waiting, with_process

OCCASION = "file:1:2:3:/in/a.csv"
RUNNING = a_run("running", occasion=OCCASION)


@pytest.mark.parametrize(
    "known",
    [
        a_job_state(with_process(RUNNING)),
        a_job_state(waiting(a_run("retrying", occasion=OCCASION))),
        a_job_state(newest_finished=a_run("failed", occasion=OCCASION)),
    ],
    ids=["runs", "waits to retry", "is over"],
)
def test_an_occasion_whose_run_was_found_again_by_its_record_gets_no_second_one(known: JobState) -> None:
    found = [*(active.run for active in known.active), *([known.newest_finished] if known.newest_finished else [])]
    # Whoever finds it does not know what it was for.
    known = known._replace(
        active=tuple(ActiveRun(each.run._replace(occasion="record:0"), each.live) for each in known.active)
    )
    draft = Draft(a_job(), known, a_state(known), NOW)
    run = draft.open_run(OCCASION, Trigger.FILE)
    assert [run.id] == [each.id for each in found]
    assert draft.result().writes == ()


def test_what_is_waited_for_without_a_run_and_without_a_beginning_has_neither() -> None:
    draft = Draft(a_job(), a_job_state(), a_state(), NOW)
    draft.wait(None, Gate("stopped", Reason.STOPPED, "by alice"))
    assert draft.result().waits == (a_wait(Reason.STOPPED, None, "by alice"),)


@pytest.mark.parametrize("state", ["queued", "retrying"])
def test_later_steps_see_which_run_ended_last_and_which_ended_last_of_those_that_had_begun(state: str) -> None:
    begun, waits = a_run("succeeded", occasion="before"), a_run(state)
    known = a_job_state(waiting(waits), newest_finished=begun, newest_begun=begun)
    draft = Draft(a_job(), known, a_state(known), NOW)
    draft.finish(draft.going[0], RunState.STOPPED, Reason.STOP_REQUESTED)
    left = over(waits, "stopped", Reason.STOP_REQUESTED)
    newest_begun = left if left.attempts else begun
    assert draft.job_now() == known._replace(active=(), newest_finished=left, newest_begun=newest_begun)


def test_what_was_made_before_the_newest_run_and_ends_after_it_is_not_the_newest() -> None:
    older, younger = a_run("retrying", occasion="1"), a_run("failed", occasion="2")
    known = a_job_state(waiting(older), newest_finished=younger, older_than_finished=1, older_than_begun=1)
    draft = Draft(a_job(), known, a_state(known), NOW)
    draft.judge(draft.going[0], over(older, "succeeded", Reason.FINISHED))
    assert (draft.newest_finished(), draft.newest_begun()) == (younger, younger)


def test_what_began_and_was_made_before_what_never_did_is_the_newest_that_began() -> None:
    first, second = a_run("succeeded", occasion="1"), a_run("retrying", occasion="2")
    never = a_run("stopped", occasion="3", attempts=0)
    known = a_job_state(waiting(second), newest_finished=never, newest_begun=first, older_than_finished=1)
    draft = Draft(a_job(), known, a_state(known), NOW)
    ended = over(second, "failed", Reason.RETRIES_USED_UP)
    draft.judge(draft.going[0], ended)
    assert (draft.newest_finished(), draft.newest_begun()) == (never, ended)


@pytest.mark.parametrize("reason", [Reason.STOP_REQUESTED, None], ids=str)
def test_what_is_over_without_a_process_tells_of_none_that_was_ended(reason: Reason | None) -> None:
    waits = a_run("retrying", ending=reason)
    known = a_job_state(waiting(waits))
    draft = Draft(a_job(), known, a_state(known), NOW)
    draft.finish(draft.going[0], RunState.STOPPED, Reason.STOP_REQUESTED)
    assert draft.going[0].run == over(waits, "stopped", Reason.STOP_REQUESTED, ending=None)
