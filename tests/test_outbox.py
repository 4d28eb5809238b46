"""When an alert is tried again, and what it says once it is not; the rest of the outbox is in test_alerts."""

from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind, AlertState
from procclaw.model.outside import Delivery
from procclaw.planning import outbox
from tests.builders import JOB, NOW, later

NO_WAY = "no webhook, no command and no channel is set"


def tried(**fields: Any) -> Alert:
    """An alert that was asked for, for the first time unless told otherwise."""
    alert = Alert("job:failed:1", JOB, AlertKind.FAILED, NOW, "job failed for good", tries=1, asked_at=NOW)
    return alert._replace(**fields)


def test_what_was_not_delivered_is_tried_again_and_says_why() -> None:
    again = outbox.settled(tried(next_try_at=later(180)), Delivery("job:failed:1", False, "status 500"), later(5))
    assert again == tried(asked_at=None, next_try_at=later(15), detail="status 500")


@pytest.mark.parametrize(
    ("asked", "ahead", "is_due_now"),
    [(False, 10, False), (False, 10.5, True), (True, 180, False), (True, 180.5, True)],
    ids=["its delay", "set before the clock went back", "it may be answered yet", "asked before the clock went back"],
)
def test_nothing_waits_longer_than_it_is_ever_set_to(asked: bool, ahead: float, is_due_now: bool) -> None:
    alert = tried(asked_at=NOW if asked else None, next_try_at=later(ahead))
    assert outbox.due_at(alert, NOW) == (NOW if is_due_now else later(ahead))


@pytest.mark.parametrize(("known", "told"), [("", "no answer"), ("status 500", "status 500")])
def test_what_is_given_up_tells_what_was_in_the_way_last(known: str, told: str) -> None:
    over = {"state": AlertState.UNDELIVERED, "asked_at": None, "next_try_at": None, "done_at": later(9)}
    assert outbox.given_up(tried(next_try_at=NOW, detail=known), later(9)) == tried(**over, detail=told)


def test_what_nobody_can_be_told_any_more_says_so() -> None:
    over = {"state": AlertState.UNDELIVERED, "asked_at": None, "next_try_at": None, "done_at": later(9)}
    assert outbox.without_way(tried(next_try_at=NOW), later(9)) == tried(**over, detail=NO_WAY)
