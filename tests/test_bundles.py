"""Which alerts are told in one message, and in which words."""

from datetime import timedelta
from typing import Any

import pytest

from procclaw.model.alerts import Alert, AlertKind
from procclaw.model.spec import Channel, Ways
from procclaw.planning.bundles import MOST_SINGLE, Bundle, bundled, hastened
from tests.builders import NOW, later

CHAT = Ways(None, None, (Channel("telegram", "1"),))
OTHER_CHAT = Ways(None, None, (Channel("slack", "C1"),))
HOOK = Ways("https://hooks.example/x", None, (Channel("telegram", "1"),))
COMMAND = Ways(None, "true", (Channel("telegram", "1"),))
MUCH = MOST_SINGLE + 1


def waiting(number: int = 1, job: str = "report", **fields: Any) -> Alert:
    """One that was tried in vain."""
    alert = Alert(f"{job}:{number}", job, AlertKind.FAILED, later(number), f"{job} failed {number}", tries=1)
    return alert._replace(**fields)


def keys(bundles: list[Bundle]) -> list[list[str]]:
    return [[alert.key for alert in bundle.alerts] for bundle in bundles]


def told(alerts: list[Alert], ways: dict[str, Ways] | None = None, after_seconds: float = 60) -> list[Bundle]:
    return bundled(alerts, lambda job: (ways or {}).get(job, CHAT), later(after_seconds))


@pytest.mark.parametrize(
    ("count", "after_seconds", "together"),
    [
        pytest.param(0, 60, False, id="none"),
        pytest.param(MOST_SINGLE, 60, False, id="few and young"),
        pytest.param(MUCH, 60, True, id="much"),
        pytest.param(2, 3601, False, id="an hour old to the second"),
        pytest.param(2, 3602, True, id="older than an hour"),
        pytest.param(1, 3602, True, id="an old one alone, so that its time is told"),
    ],
)
def test_what_is_much_or_old_is_told_together(count: int, after_seconds: float, together: bool) -> None:
    alerts = [waiting(number) for number in range(1, count + 1)]
    names = [alert.key for alert in alerts]
    bundles = told(alerts, after_seconds=after_seconds)
    assert keys(bundles) == ([names] if together else [[name] for name in names])
    assert [bundle.is_digest for bundle in bundles] == ([True] if together else [False] * count)


@pytest.mark.parametrize("ways", [HOOK, COMMAND, Ways(None, "true")])
def test_who_takes_data_gets_every_alert_by_itself(ways: Ways) -> None:
    alerts = [waiting(number) for number in range(1, MUCH + 1)]
    assert len(told(alerts, {"report": ways})) == MUCH


def test_what_is_tried_for_the_first_time_does_not_wait_for_others() -> None:
    alerts = [waiting(number, tries=0) for number in range(1, MUCH + 1)]
    assert len(told(alerts)) == MUCH


def test_a_digest_is_for_one_place_and_stands_where_its_first_alert_would() -> None:
    mine = [waiting(number) for number in range(1, MUCH + 1)]
    other = waiting(99, "other")
    bundles = told([mine[0], other, *mine[1:]], {"other": OTHER_CHAT})
    assert keys(bundles) == [[alert.key for alert in mine], ["other:99"]]


def test_the_same_alerts_are_the_same_digest_in_whatever_order() -> None:
    alerts = [waiting(number) for number in range(1, MUCH + 1)]
    [one], [two] = told(alerts), told(alerts[::-1])
    [more] = told([*alerts, waiting(50)])
    assert one == two
    assert one.key != more.key


def test_a_digest_has_a_line_for_each_with_its_time() -> None:
    [bundle] = told([waiting(1), waiting(2, raised_at=NOW - timedelta(days=1))])
    assert bundle.message == (
        "ProcClaw: 2 alerts that could not be delivered before\n"
        "2026-05-31 12:00Z report failed 2\n"
        "2026-06-01 12:00Z report failed 1"
    )
    [alone] = told([waiting(1)], after_seconds=9999)
    assert alone.message.startswith("ProcClaw: 1 alert that could not be delivered before\n2026-06-01 12:00Z ")


def test_a_digest_is_one_message_of_a_chat_and_says_what_it_leaves_out() -> None:
    [bundle] = told([waiting(number, message="x" * 100) for number in range(1, 61)])
    lines = bundle.message.splitlines()
    assert len(bundle.message) < 3100
    assert lines[1] == f"… and {60 - (len(lines) - 2)} before: procclaw alerts"
    [long] = told([waiting(1, message="x" * 9000), waiting(2, message="y" * 9000)], after_seconds=9999)
    assert [line[:1] for line in long.message.splitlines()] == ["P", "…", "2"]


def test_only_what_waits_for_its_next_try_is_hastened() -> None:
    alerts = [
        waiting(1, next_try_at=later(900)),
        waiting(2, next_try_at=later(900), asked_at=NOW),
        waiting(3, next_try_at=NOW),
        waiting(4, "hooked", next_try_at=later(900)),
        waiting(5, tries=0, next_try_at=later(900)),
        waiting(6, next_try_at=later(5)),
    ]
    found = hastened(alerts, lambda job: HOOK if job == "hooked" else CHAT, later(5))
    assert found == [alerts[0]._replace(next_try_at=later(5))]


def test_one_place_with_little_does_not_keep_another_with_much_from_its_digest() -> None:
    little = waiting(99, "other")
    much = [waiting(number) for number in range(1, MUCH + 1)]
    assert keys(told([little, *much], {"other": OTHER_CHAT})) == [["other:99"], [alert.key for alert in much]]
