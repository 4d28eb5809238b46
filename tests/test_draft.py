"""One job's plan in the making."""

import pytest

from procclaw.model.records import Trigger
from procclaw.model.state import ActiveRun, JobState
from procclaw.planning.draft import Draft
from tests.builders import NOW, a_job, a_job_state, a_run, a_state, waiting, with_process

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
