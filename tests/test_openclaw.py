"""OpenClaw's command, as ProcClaw uses it: the same questions to a stand-in and, where there is one, to the real thing.

PROCCLAW_TEST_OPENCLAW=1 asks the `openclaw` on the PATH too (2026.9.6, see the stand-in), in a home of its own, with
no gateway: nothing leaves the machine.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from procclaw.interface.openclaw import skill_text
from procclaw.model.clock import SystemClock
from procclaw.model.outside import Call, Delivery, Hooks, MemoryPage, Message, Notice, SendResult, Sent
from procclaw.model.secret import Secret
from procclaw.system import notify, openclaw
from procclaw.system.notify import Notifier
from procclaw.system.openclaw import Memory, Messenger, Openclaw, read_skill, write_skill
from tests.commandline import CommandLine
from tests.driver import Driver
from tests.listeners import Behaviour, answering, closed_port, hanging, listening, saying
from tests.openclawstub import BAD_TOKEN, DOWN, HANGS, NO_TOKEN, QUEUED, SILENT, UP, WRONG_NODE, Gateway, Stub

pytestmark = pytest.mark.real

OWNER = {"commands.ownerAllowFrom": ["whatsapp:+15550100", "telegram:123456789"]}
LONG = 120.0
IS_REAL_ASKED = os.environ.get("PROCCLAW_TEST_OPENCLAW") == "1"


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    return Stub(tmp_path / "bin")


def a_message(target: str | None = "123456789", *, key: str = "k1", channel: str = "telegram") -> Message:
    return Message(key, channel, target, "report failed for good: exit code 3")


def sent(env: Mapping[str, str], message: Message | None = None, seconds: float = LONG) -> SendResult:
    return Messenger(SystemClock()).send(message or a_message(), env, seconds, None)


# --- the contract: what the stand-in and the real one have in common ---


class Installation:
    """An `openclaw`, and what it takes to set it up without a gateway."""

    def __init__(self, env: dict[str, str], stub: Stub | None) -> None:
        self.env = env
        self._stub = stub

    def configure(self, *, has_token: bool, owners: list[str]) -> None:
        """No gateway runs."""
        if self._stub is not None:
            self._stub.be(DOWN if has_token else NO_TOKEN, config={"commands.ownerAllowFrom": owners or None})
            return
        auth = {"auth": {"mode": "token", "token": "a-token-of-this-test"}} if has_token else {}
        said: dict[str, Any] = {"gateway": {"mode": "local", "port": 18997, **auth}}
        if owners:
            said["commands"] = {"ownerAllowFrom": owners}
        folder = Path(self.env["HOME"]) / ".openclaw"
        folder.mkdir(exist_ok=True)
        (folder / "openclaw.json").write_text(json.dumps(said))

    def have_procclaw(self, tmp_path: Path) -> None:
        folder = tmp_path / "with procclaw"
        folder.mkdir()
        (folder / "procclaw").write_text("#!/bin/sh\n")
        (folder / "procclaw").chmod(0o755)
        self.env["PATH"] = f"{folder}:{self.env['PATH']}"


@pytest.fixture(params=["stand-in", "real"])
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    if request.param == "stand-in":
        stub = Stub(tmp_path / "bin")
        yield Installation(stub.env, stub)
        return
    if not IS_REAL_ASKED:
        pytest.skip("PROCCLAW_TEST_OPENCLAW=1 asks the real openclaw")
    assert shutil.which("openclaw") is not None, "PROCCLAW_TEST_OPENCLAW=1 needs an openclaw on the PATH"
    (tmp_path / "user").mkdir()
    quiet = {"CI": "1", "DO_NOT_TRACK": "1", "OPENCLAW_NO_AUTO_UPDATE": "1", "OPENCLAW_DISABLE_BONJOUR": "1"}
    yield Installation({"PATH": os.environ["PATH"], "HOME": str(tmp_path / "user"), **quiet}, None)


def test_the_skill_is_eligible_and_seen_where_procclaw_is_on_the_path(
    installation: Installation, tmp_path: Path
) -> None:
    write_skill(str(tmp_path / "procclaw"), skill_text())
    assert Openclaw(installation.env).skill("procclaw").kinds == {"cli_error"}
    for _ in range(2):  # over itself, as after an upgrade
        assert Openclaw(installation.env).install_skill(str(tmp_path / "procclaw")).trouble == ""
    told = Openclaw(installation.env).skill("procclaw").value
    assert (told["eligible"], told["modelVisible"], told["missing"]["bins"]) == (False, False, ["procclaw"])
    assert told["baseDir"] == os.path.join(Openclaw(installation.env).state_folder(), "skills", "procclaw")
    assert read_skill(told["baseDir"]) == skill_text()
    installation.have_procclaw(tmp_path)
    told = Openclaw(installation.env).skill("procclaw").value
    assert (told["eligible"], told["modelVisible"], told["missing"]["bins"]) == (True, True, [])


def test_a_skill_without_front_matter_is_unknown_to_it(installation: Installation, tmp_path: Path) -> None:
    write_skill(str(tmp_path / "procclaw"), "# ProcClaw\n")
    Openclaw(installation.env).install_skill(str(tmp_path / "procclaw"))
    assert Openclaw(installation.env).skill("procclaw").trouble == 'Skill "procclaw" not found.'


def test_a_gateway_that_is_down_may_take_it_later(installation: Installation) -> None:
    installation.configure(has_token=True, owners=["telegram:123456789"])
    for target in ("1", None):
        result = sent(installation.env, a_message(target))
        assert result.outcome is Sent.FAILED
        assert result.detail.startswith("Gateway not reachable at ws://127.0.0.1:")


def test_without_credentials_it_is_of_no_use_to_try_again(installation: Installation) -> None:
    installation.configure(has_token=False, owners=[])
    result = sent(installation.env)
    assert result.outcome is Sent.REFUSED
    assert result.detail.startswith("gateway send requires credentials")


def test_a_channel_without_an_owner_is_to_be_given_a_target(installation: Installation) -> None:
    installation.configure(has_token=True, owners=["telegram:123456789"])
    result = sent(installation.env, a_message(None, channel="whatsapp"))
    told = "OpenClaw knows no owner there; name one: {channel: whatsapp, target: ...}"
    assert result == SendResult(Sent.REFUSED, told)


def test_a_page_of_memory_is_found_by_its_words(installation: Installation) -> None:
    listed = Openclaw(installation.env).ask("agents", "list", "--json").value
    workspace = Path(listed[0]["workspace"])
    workspace.mkdir(parents=True)
    memory = Memory()
    memory.write(
        (MemoryPage("2026-06-01-procclaw.md", "# ProcClaw\n\n- 07:00 job `etl-load` FAILED\n"),), None, installation.env
    )
    memory.wait(LONG)
    assert memory.trouble() == ""
    assert (workspace / "memory" / "2026-06-01-procclaw.md").exists()
    Openclaw(installation.env).ask("memory", "index", seconds=LONG)
    found = Openclaw(installation.env).ask("memory", "search", "etl-load", "--json", seconds=LONG).value
    assert [each["path"] for each in found["results"]] == ["memory/2026-06-01-procclaw.md"]


# --- sending ---


def test_a_message_goes_to_its_target_once_however_often_it_is_sent(stub: Stub) -> None:
    for _ in range(2):
        assert sent(stub.env) == SendResult(Sent.DELIVERED, "message 101")
    assert sent(stub.env, a_message(key="k2")).detail == "message 102"
    text = "report failed for good: exit code 3"
    assert [each["idempotencyKey"] for each in stub.sent] == ["k1", "k2"]
    assert stub.sent[0] == {"channel": "telegram", "to": "123456789", "message": text, "idempotencyKey": "k1"}


def test_the_owner_of_a_channel_is_asked_for_once(stub: Stub) -> None:
    stub.be(UP, config=OWNER)
    messenger = Messenger(SystemClock())
    for key in ("k1", "k2"):
        assert messenger.send(a_message(None, key=key), stub.env, LONG, None).outcome is Sent.DELIVERED
    assert [each["to"] for each in stub.sent] == ["123456789"] * 2
    assert [call.words[:2] for call in stub.calls].count(("config", "get")) == 1


def test_whom_a_channel_listens_to_is_its_owner_too(stub: Stub) -> None:
    stub.be(UP, config={"channels.whatsapp.allowFrom": ["*", "+15550100"]}, channels=["whatsapp"])
    assert sent(stub.env, a_message(None, channel="whatsapp")).outcome is Sent.DELIVERED
    assert stub.sent[0]["to"] == "+15550100"


@pytest.mark.parametrize(
    ("mode", "outcome", "detail"),
    [
        (DOWN, Sent.FAILED, "Gateway not reachable at ws://127.0.0.1:18999 (ECONNREFUSED)."),
        (QUEUED, Sent.QUEUED, "OpenClaw's gateway has queued it and does not say whether it arrives"),
        (BAD_TOKEN, Sent.REFUSED, "unauthorized"),
        (NO_TOKEN, Sent.REFUSED, "gateway send requires credentials before opening a websocket Fix: x"),
        (
            WRONG_NODE,
            Sent.FAILED,
            "openclaw: Node 20.20.2: node:sqlite is unavailable; use 24.16+/26.1+",
        ),
    ],
)
def test_what_became_of_it_is_read_from_what_openclaw_says(stub: Stub, mode: str, outcome: Sent, detail: str) -> None:
    stub.be(mode)
    assert sent(stub.env) == SendResult(outcome, detail)


def test_a_channel_it_does_not_have_is_refused(stub: Stub) -> None:
    result = sent(stub.env, a_message("channel:C1", channel="slack"))
    assert result == SendResult(Sent.REFUSED, "unsupported channel: slack")


def test_an_answer_that_does_not_come_is_no_answer_and_the_next_one_sends_nothing_twice(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.be(SILENT)
    monkeypatch.setattr(openclaw, "CALL_SECONDS", 2.0)
    result = sent(stub.env)
    assert result.outcome is Sent.FAILED
    assert result.detail.startswith("openclaw timed out after ")
    stub.be(UP)
    assert sent(stub.env).outcome is Sent.DELIVERED
    assert len(stub.sent) == 1


def test_where_it_is_not_installed_nothing_is_started(tmp_path: Path) -> None:
    result = sent({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert result == SendResult(Sent.FAILED, "openclaw is not installed, or not on the PATH")


def test_a_token_goes_by_the_environment_and_tags_are_no_markup(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCLAW_GATEWAY_TOKEN", "hush")
    sent(stub.env, a_message()._replace(text="<b>report</b> failed"))
    [call] = stub.calls
    assert call.env == {"OPENCLAW_GATEWAY_TOKEN": "hush", "HOME": str(stub.home)}
    assert "hush" not in " ".join(call.words)
    assert stub.sent[0]["message"] == "‹b›report‹/b› failed"


# --- the notifier ---


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    notifier = Notifier(lambda: None, Messenger(SystemClock()))
    yield notifier
    notifier.close()


def a_notice(stub: Stub, *messages: Message, **fields: Any) -> Notice:
    env = (*stub.env.items(), ("PROCCLAW_ALERT_MESSAGE", "report failed"))
    return Notice("a1", None, None, {"message": "report failed"}, env, messages or (a_message(),))._replace(**fields)


def delivery_of(notifier: Notifier, notice: Notice) -> Delivery:
    notifier.begin(notice)
    notifier.wait(LONG)
    (delivery,) = notifier.results()
    return delivery


def falling_back(stub: Stub, then: str = "true") -> tuple[str, ...]:
    return ("/bin/sh", "-c", f"echo told >>'{stub.folder}/fallen'; {then}")


def test_a_notice_goes_to_every_channel(notifier: Notifier, stub: Stub) -> None:
    stub.be(UP, channels=["telegram", "slack"])
    notice = a_notice(stub, a_message(), a_message("channel:C1", key="k2", channel="slack"))
    assert delivery_of(notifier, notice) == Delivery("a1", is_ok=True, detail="", is_by_openclaw=True)
    assert [each["channel"] for each in stub.sent] == ["telegram", "slack"]


def test_only_the_channels_that_failed_are_tried_again(notifier: Notifier, stub: Stub) -> None:
    notice = a_notice(stub, a_message(), command=("/bin/sh", "-c", f"test -e '{stub.folder}/well'"))
    delivery = delivery_of(notifier, notice)
    assert (delivery.is_ok, delivery.detail) == (False, "command: exit code 1")
    (stub.folder / "well").touch()
    assert delivery_of(notifier, notice).is_ok
    assert len(stub.calls) == 1


def test_what_the_gateway_queued_is_not_sent_again_and_nobody_says_it_arrived(notifier: Notifier, stub: Stub) -> None:
    stub.be(QUEUED)
    delivery = delivery_of(notifier, a_notice(stub))
    assert (delivery.is_ok, delivery.is_confirmed) == (True, False)
    assert delivery.detail.startswith("openclaw telegram 123456789: OpenClaw's gateway has queued it")


def test_what_openclaw_refuses_is_not_tried_again(notifier: Notifier, stub: Stub) -> None:
    stub.be(BAD_TOKEN)
    delivery = delivery_of(notifier, a_notice(stub))
    assert (delivery.is_ok, delivery.is_final) == (False, True)


def test_one_way_that_is_refused_does_not_undo_another_that_went(notifier: Notifier, stub: Stub) -> None:
    notice = a_notice(stub, a_message(), a_message("channel:C1", key="k2", channel="slack"))
    delivery = delivery_of(notifier, notice)
    detail = "openclaw slack channel:C1: unsupported channel: slack"
    assert delivery == Delivery("a1", is_ok=True, detail=detail, is_by_openclaw=True)


@pytest.mark.parametrize("mode", [DOWN, QUEUED, BAD_TOKEN])
def test_what_openclaw_did_not_take_goes_to_its_fallback_and_that_is_the_end_of_it(
    notifier: Notifier, stub: Stub, mode: str
) -> None:
    stub.be(mode)
    delivery = delivery_of(notifier, a_notice(stub, fallback_command=falling_back(stub)))
    assert (delivery.is_ok, delivery.is_confirmed, delivery.is_by_openclaw) == (True, True, False)
    assert delivery.detail.startswith("openclaw telegram 123456789: ")
    assert (stub.folder / "fallen").read_text() == "told\n"


def test_what_openclaw_took_does_not_go_to_its_fallback(notifier: Notifier, stub: Stub) -> None:
    delivery_of(notifier, a_notice(stub, fallback_command=falling_back(stub)))
    assert not (stub.folder / "fallen").exists()


def test_where_the_fallback_fails_as_well_both_are_tried_again(notifier: Notifier, stub: Stub) -> None:
    stub.be(DOWN)
    notice = a_notice(stub, fallback_command=falling_back(stub, "exit 1"))
    delivery = delivery_of(notifier, notice)
    assert (delivery.is_ok, delivery.is_final) == (False, False)
    assert delivery.detail.endswith("; fallback command: exit code 1")
    stub.be(UP)
    assert delivery_of(notifier, notice).is_ok
    assert (stub.folder / "fallen").read_text() == "told\n"


def test_waking_the_agent_tells_nobody(notifier: Notifier, stub: Stub) -> None:
    notice = a_notice(stub, a_message("channel:C1", channel="slack"), call=Call("ProcClaw: report failed"))
    delivery = delivery_of(notifier, notice)
    assert (delivery.is_ok, delivery.is_final) == (False, True)
    assert stub.woken == [{"text": "ProcClaw: report failed", "mode": "now"}]


def test_an_agent_that_is_not_woken_keeps_no_alert_back(notifier: Notifier, stub: Stub) -> None:
    stub.be(DOWN)
    notice = a_notice(stub, fallback_command=falling_back(stub), call=Call("ProcClaw: report failed"))
    delivery = delivery_of(notifier, notice)
    assert delivery.is_ok
    assert "agent: Gateway not reachable" in delivery.detail


# --- the agent, asked over the gateway's hooks ---

ASKED = "ProcClaw: report failed"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.close()


def a_call(gateway: Gateway, token: str | None = None) -> Call:
    return Call(ASKED, Hooks(gateway.url, Secret(token or gateway.token)))


def agent_told(notifier: Notifier, stub: Stub, call: Call) -> str:
    """What is told of the agent when everything else went."""
    delivery = delivery_of(notifier, a_notice(stub, call=call))
    assert delivery.is_ok, "the agent keeps no alert back"
    return delivery.detail


def test_the_agent_is_asked_to_answer_where_the_message_went(notifier: Notifier, stub: Stub, gateway: Gateway) -> None:
    stub.be(UP, config=OWNER)
    notice = a_notice(stub, a_message(None), call=a_call(gateway))
    assert delivery_of(notifier, notice) == Delivery("a1", is_ok=True, detail="", is_by_openclaw=True)
    [request] = gateway.runs.values()
    assert request == {
        "message": ASKED,
        "name": "ProcClaw",
        "channel": "telegram",
        "to": "123456789",
        "timeoutSeconds": 600,
    }
    assert stub.woken == []


def test_asking_again_under_the_same_key_is_no_second_run(notifier: Notifier, stub: Stub, gateway: Gateway) -> None:
    for _ in range(2):
        assert agent_told(notifier, stub, a_call(gateway)) == ""
    assert (gateway.asked, len(gateway.runs)) == (2, 1)


def test_while_a_message_is_still_tried_the_agent_is_not_asked(
    notifier: Notifier, stub: Stub, gateway: Gateway
) -> None:
    notice = a_notice(stub, call=a_call(gateway))
    stub.be(WRONG_NODE)
    assert not delivery_of(notifier, notice).is_ok
    assert gateway.asked == 0
    stub.be(UP)
    assert delivery_of(notifier, notice) == Delivery("a1", is_ok=True, detail="", is_by_openclaw=True)
    assert gateway.asked == 1


@pytest.mark.parametrize(
    ("completion", "told"),
    [
        pytest.param({"status": "error", "replyDisposition": "empty"}, "its run failed", id="without a model"),
        pytest.param({"status": "ok", "delivered": False}, "its answer has reached nobody yet", id="not delivered"),
        pytest.param({"status": "ok", "delivered": "true"}, "its answer has reached nobody yet", id="no plain yes"),
        pytest.param(
            {
                "status": "ok",
                "replyDisposition": "visible",
                "delivered": False,
                "deliveryAttempted": True,
                "deliveryError": "delivery-failed",
            },
            "its answer has reached nobody yet",
            id="the channel is away",
        ),
        pytest.param(
            {
                "status": "ok",
                "replyDisposition": "silent",
                "delivered": False,
                "deliveryAttempted": True,
                "deliverySuppressionReason": "silent",
            },
            "it has looked, and had nothing to say",
            id="NO_REPLY",
        ),
        pytest.param({"status": "skipped"}, "its run failed", id="skipped"),
        pytest.param(
            None,
            "it could not begin, as without a model it can reach; OpenClaw's log says why",
            id="model found away before",
        ),
    ],
)
def test_only_an_answer_that_was_delivered_counts(
    notifier: Notifier, stub: Stub, gateway: Gateway, completion: dict[str, Any] | None, told: str
) -> None:
    gateway.completion = completion
    assert agent_told(notifier, stub, a_call(gateway)) == f"agent: {told}"


def test_hooks_that_take_nothing_are_named_with_what_is_to_be_set(
    notifier: Notifier, stub: Stub, gateway: Gateway
) -> None:
    told = agent_told(notifier, stub, a_call(gateway, "canary"))
    assert told.startswith("agent: its gateway does not take the token; openclaw.hooks.token is to be hooks.token")
    assert "canary" not in told
    gateway.is_enabled = False
    told = agent_told(notifier, stub, a_call(gateway))
    assert told.startswith("agent: its gateway has no hooks there; hooks.enabled of OpenClaw's configuration")


def test_a_gateway_that_is_away_and_a_token_that_is_not_there_keep_no_alert_back(
    notifier: Notifier, stub: Stub
) -> None:
    away = Call(ASKED, Hooks(f"http://127.0.0.1:{closed_port()}/hooks", "token"))
    assert "connection refused" in agent_told(notifier, stub, away)
    assert agent_told(notifier, stub, Call(ASKED, trouble="no secret HOOKS is set")) == "agent: no secret HOOKS is set"


def test_an_agent_that_takes_its_time_is_not_waited_for_for_ever(
    notifier: Notifier, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openclaw, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(Messenger, "send", lambda *_: SendResult(Sent.DELIVERED))
    with listening() as listeners:
        slow = listeners(hanging())
        told = agent_told(notifier, stub, Call(ASKED, Hooks(f"http://127.0.0.1:{slow.port}/hooks", "token")))
    assert told == "agent: it has not answered after 0 s, and may be at it still"


def test_a_gateway_that_cannot_be_connected_to_has_been_asked_nothing(
    notifier: Notifier, stub: Stub, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_vain(_self: HTTPConnection) -> None:
        raise TimeoutError

    monkeypatch.setattr(HTTPConnection, "connect", in_vain)
    assert agent_told(notifier, stub, a_call(gateway)).endswith(": no connection in time")


@pytest.mark.parametrize("token", ["two\nlines", "käse", " "])
def test_a_token_that_no_header_can_hold_is_told_and_not_quoted(
    notifier: Notifier, stub: Stub, gateway: Gateway, token: str
) -> None:
    told = agent_told(notifier, stub, a_call(gateway, token))
    assert told == "agent: openclaw.hooks.token holds what no header can, such as a line break"


@pytest.mark.parametrize(
    "answer",
    [saying(b"x\r\n\r\n"), saying(), answering(200, b"[]"), answering(200, b"[" * 60_000), answering(503)],
)
def test_an_answer_that_makes_no_sense_is_a_failure(notifier: Notifier, stub: Stub, answer: Behaviour) -> None:
    with listening() as listeners:
        odd = listeners(answer)
        told = agent_told(notifier, stub, Call(ASKED, Hooks(f"http://127.0.0.1:{odd.port}/hooks", "token")))
    assert told.startswith("agent: ")


def test_a_command_that_hangs_takes_only_its_time(
    notifier: Notifier, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.be(HANGS)
    monkeypatch.setattr(notify, "_OPENCLAW_SECONDS", 0.5)
    notice = a_notice(stub, a_message(), a_message(key="k2", channel="slack"))
    delivery = delivery_of(notifier, notice)
    assert "openclaw telegram 123456789: openclaw timed out after 0." in delivery.detail
    assert "openclaw slack 123456789: no time was left for it" in delivery.detail


# --- the whole of it ---

BROKEN = {"cmd": "exit 3", "retry": {"enabled": False}}


def through(stub: Stub, *channels: Any, **alerts: Any) -> dict[str, Any]:
    openclaw = {"enabled": True, "alerts": {"enabled": True, "channels": list(channels), **alerts}}
    return {"env": stub.env, "openclaw": openclaw}


def test_a_job_that_fails_is_told_of_on_the_owners_channel(driver: Driver, stub: Stub) -> None:
    stub.be(UP, config=OWNER)
    driver.declare({"report": BROKEN}, **through(stub, "telegram"))
    driver.ask("run", "report", "--wait", code=1)
    [message] = stub.sent
    assert message["to"] == "123456789"
    assert message["message"] == "report failed for good: exit code 3 after 1 attempt; procclaw dlq"
    [alert] = driver.ask("alerts", "--json").json["alerts"]
    assert alert["state"] == "sent"
    driver.declare({"report": {"cmd": "exit 0"}})
    driver.ask("run", "report", "--wait")
    assert stub.sent[1]["message"].startswith("report is well again: ")


def test_an_agent_is_asked_with_a_token_from_the_secrets(driver: Driver, stub: Stub, gateway: Gateway) -> None:
    stub.be(UP, config=OWNER)
    config = through(stub, "telegram", notify_agent="agent")
    config["openclaw"]["hooks"] = {"url": gateway.url, "token": "${secret:HOOKS}"}
    driver.declare({"report": BROKEN}, **config)
    driver.ask("run", "report", "--wait", code=1)
    [alert] = driver.ask("alerts", "--json").json["alerts"]
    assert (alert["state"], gateway.runs) == ("sent", {})
    assert 'agent: secret "HOOKS"' in alert["detail"]
    driver.ask("secret", "set", "HOOKS", gateway.token)
    driver.declare({"report": BROKEN, "other": BROKEN}, **config)
    driver.ask("run", "other", "--wait", code=1)
    [request] = gateway.runs.values()
    assert request["message"].startswith("ProcClaw: other failed for good: exit code 3")
    assert "change nothing without being told to" in request["message"]
    assert gateway.token not in driver.ask("alerts", "--json").out + driver.ask("config").out


def test_a_job_chooses_among_the_channels(driver: Driver, stub: Stub) -> None:
    stub.be(UP, channels=["telegram", "slack"])
    jobs = {
        "report": BROKEN | {"alerts": {"channels": ["slack"]}},
        "quiet": BROKEN | {"alerts": {"channels": []}},
    }
    driver.declare(jobs, **through(stub, "telegram:1", {"channel": "slack", "target": "channel:C1"}))
    for job in jobs:
        driver.ask("run", job, "--wait", code=1)
    assert [(each["channel"], each["to"]) for each in stub.sent] == [("slack", "channel:C1")]
    states = {each["job_id"]: each["state"] for each in driver.ask("alerts", "--json").json["alerts"]}
    assert states == {"report": "sent", "quiet": "undelivered"}


def test_what_is_queued_by_the_gateway_is_shown_as_unconfirmed(driver: Driver, stub: Stub) -> None:
    stub.be(QUEUED)
    driver.declare({"report": BROKEN}, **through(stub, "telegram:1"))
    driver.ask("run", "report", "--wait", code=1)
    [alert] = driver.ask("alerts", "--json").json["alerts"]
    assert alert["state"] == "unconfirmed"
    assert "alert unconfirmed" in [event.kind for event in driver.operations.events(job_id="report")]


@pytest.mark.parametrize("switch", ["enabled", "alerts"])
def test_where_it_is_switched_off_nothing_is_started(driver: Driver, stub: Stub, switch: str) -> None:
    config = through(stub, "telegram:1")
    (config["openclaw"] if switch == "enabled" else config["openclaw"]["alerts"])["enabled"] = False
    driver.declare({"report": BROKEN}, **config)
    driver.ask("run", "report", "--wait", code=1)
    assert stub.calls == []
    [alert] = driver.ask("alerts", "--json").json["alerts"]
    assert alert["detail"] == "no webhook, no command and no channel is set"


# --- commands ---


@pytest.fixture
def set_up(home: Path, cli: CommandLine, stub: Stub) -> CommandLine:
    stub.be(UP, config=OWNER)
    (home / "procclaw.yaml").write_text(json.dumps(through(stub, "telegram", "slack:channel:C1")))
    cli.declare()
    return cli


def test_the_skill_is_installed_and_found(set_up: CommandLine, stub: Stub, tmp_path: Path) -> None:
    answer = set_up("openclaw", "status")
    assert answer.code == 1
    assert 'Skill "procclaw" not found.' in answer.out
    installed = set_up("openclaw", "install-skill", "--json").json
    folder = str(stub.home / ".openclaw" / "skills" / "procclaw")
    assert installed == {"success": True, "path": folder, "by": "openclaw", "openclaw_problem": None}
    view = set_up("openclaw", "status", "--json").json
    assert view["skill"]["missing"] == ["bins procclaw"]
    (stub.folder / "procclaw").write_text("#!/bin/sh\n")
    (stub.folder / "procclaw").chmod(0o755)
    answer = set_up("openclaw", "status")
    assert (answer.code, answer.err) == (0, "")
    assert "agents see it\tyes" in answer.out
    assert "alerts go to\ttelegram, slack channel:C1" in answer.out
    Path(folder, "SKILL.md").write_text(skill_text().replace("Written by", "Once written by"))
    assert set_up("openclaw", "status", "--json").json["skill"]["is_current"] is False


def test_without_its_command_the_skill_goes_where_openclaw_reads_it(set_up: CommandLine, stub: Stub) -> None:
    (stub.folder / "openclaw").unlink()
    answer = set_up("openclaw", "install-skill")
    assert answer.code == 1
    assert "openclaw is not installed, or not on the PATH; and there is no " in answer.err
    (stub.home / ".openclaw").mkdir()
    answer = set_up("openclaw", "install-skill")
    assert answer.code == 0
    assert read_skill(str(stub.home / ".openclaw" / "skills" / "procclaw")) == skill_text()
    view = set_up("openclaw", "status", "--json").json
    assert (view["installed"], view["skill"]["is_current"], view["skill"]["eligible"]) == (False, True, None)


def test_a_test_message_says_what_became_of_it_everywhere(set_up: CommandLine, stub: Stub) -> None:
    answer = set_up("openclaw", "test-alert", "--json")
    assert answer.code == 1
    assert [(each["place"], each["outcome"]) for each in answer.json["messages"]] == [
        ("telegram", "delivered"),
        ("slack channel:C1", "refused"),
    ]
    assert set_up("openclaw", "test-alert", "--channel", "telegram:5").code == 0
    assert [each["to"] for each in stub.sent] == ["123456789", "5"]
    assert stub.sent[0]["message"].startswith("ProcClaw test message from ")


def test_without_a_channel_there_is_nothing_to_test(home: Path, cli: CommandLine) -> None:
    cli.declare()
    answer = cli("openclaw", "test-alert")
    assert answer.code == 1
    assert "openclaw.alerts names no channel, or is not enabled" in answer.err
