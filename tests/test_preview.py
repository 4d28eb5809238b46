"""What a plan would do, as people are told."""

from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind
from procclaw.model.reasons import Reason
from procclaw.planning.actions import Check, Effect, Plan, Signal
from procclaw.planning.preview import plan_view
from tests.builders import NOW, TERM, a_run, an_attempt, later

ATTEMPT = an_attempt(a_run("running"))
TOO_MUCH = "memory: 412 MB of at most 256 MB"


def stop(detail: str = "", *, is_kill: bool = False) -> Signal:
    reason = Reason.MEMORY_LIMIT if detail else Reason.TIMED_OUT
    return Signal(ATTEMPT._replace(detail=detail), None, TERM, is_kill=is_kill, reason=reason)


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        (Check("job", ATTEMPT.id), []),
        (stop(), [{"job_id": "job", "action": "stop", "because": "timed out"}]),
        (stop(TOO_MUCH, is_kill=True), [{"job_id": "job", "action": "kill", "because": TOO_MUCH}]),
    ],
    ids=["a check changes nothing", "a stop, with its reason", "a kill, with what was found"],
)
def test_an_effect_is_told_with_its_cause(effect: Effect, told: list[dict[str, Any]]) -> None:
    assert plan_view(None, Plan(effects=(effect,), wake_at=later(5))) == {
        "actions": told,
        "waits": [],
        "wake_at": "2026-06-01T12:00:05Z",
    }


def test_nothing_to_do_is_told_as_such() -> None:
    assert plan_view(None, Plan(wake_at=NOW))["actions"] == []


def test_an_alert_is_told_with_its_message() -> None:
    alert = Alert("key", "job", AlertKind.OVERDUE, NOW, "job is overdue: no success since 11:00Z")
    assert plan_view(None, Plan(writes=(alert,)))["actions"] == [
        {"job_id": "job", "action": "raise an alert: overdue", "because": "job is overdue: no success since 11:00Z"}
    ]
