"""Delivering alerts: what is in the outbox is told, again where it did not arrive, and what became of it is kept."""

import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.courier import MOST_UNDER_WAY, Courier
from procclaw.model.alerts import Alert, AlertKind, AlertState
from procclaw.model.errors import DiskFull
from procclaw.model.outside import Delivery, Notice
from procclaw.model.records import OUTBOX, Event
from procclaw.model.rows import Row
from procclaw.model.secret import Secret
from procclaw.model.spec import AgentNotice, AlertPolicy, Channel, Spec, Ways
from procclaw.planning.actions import Plan
from procclaw.planning.outbox import MOST_TRIES, UNANSWERED_SECONDS
from procclaw.system.store import Store
from tests.builders import JOB, NOW, a_config, a_job, a_spec, later
from tests.driver import Driver
from tests.keeping import Kept

HOOK = "http://127.0.0.1:9/x"


@dataclasses.dataclass
class FakeNotifier:
    """Deliveries end when the test says so."""

    begun: list[Notice] = dataclasses.field(default_factory=list)
    under_way: dict[str, Notice] = dataclasses.field(default_factory=dict)
    ended: list[Delivery] = dataclasses.field(default_factory=list)
    on_begin: Callable[[], None] = lambda: None

    def begin(self, notice: Notice) -> None:
        self.on_begin()
        if notice.key not in self.under_way:
            self.begun.append(notice)
            self.under_way[notice.key] = notice

    def end(self, key: str, trouble: str = "") -> None:
        notice = self.under_way.pop(key)
        self.ended.append(Delivery(key, not trouble, trouble, is_by_openclaw=not trouble and bool(notice.messages)))

    def results(self) -> tuple[Delivery, ...]:
        found, self.ended = tuple(self.ended), []
        return found

    def pending(self) -> int:
        return len(self.under_way)

    def wait(self, seconds: float) -> None:
        raise AssertionError("the loop never waits")

    def close(self) -> None:
        """What has arrived is told; of the rest nothing is heard."""
        self.under_way.clear()


class FakeLog:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.lines: list[tuple[str, str]] = []

    def events(self, events: Iterable[Event]) -> None:
        self.told += [event.kind for event in events]

    def line(self, level: str, sentence: str, **fields: object) -> None:
        self.lines.append((level, sentence))


class FullStore(Store):
    """A database on a disk that the test fills."""

    is_full = False
    dies = False

    def record(self, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        if self.dies:
            raise KeyboardInterrupt
        if self.is_full:
            raise DiskFull("the disk is full")
        super().record(rows, committed_at)


NOBODY = Ways(None, None)
SECRETS = Kept({"HOOK": "https://hooks.slack.com/services/T0/B0/canary"})


def declared(*, webhook: str | None = HOOK, command: Any = None, common: Ways = NOBODY) -> Spec:
    policy = AlertPolicy(True, True, True, True, True, webhook, command, 300)
    return a_spec(a_job(alerts=policy, name="Nightly report"))._replace(config=a_config(alerts=common))


SPEC = declared()


class Loop:
    """The courier of one process after another, on one database."""

    def __init__(self, path: Path) -> None:
        self.store = FullStore(str(path / "procclaw.db"))
        self.log = FakeLog()
        self.restart()

    def restart(self) -> None:
        """The process dies, and another takes over."""
        self.notifier = FakeNotifier()
        self.courier = Courier("/home/of/it", self.store, self.notifier, SECRETS, self.log)

    def cycle(self, now: datetime, spec: Spec = SPEC, *, must_look: bool = False) -> datetime | None:
        return self.courier.deliver(spec, now, must_look=must_look)

    def alert(self, number: int = 1) -> Alert:
        return next(alert for alert in self.store.alerts() if alert.key == key(number))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    yield loop
    loop.store.close()


def key(number: int = 1) -> str:
    return f"job:failed:{number}"


def raised(number: int = 1, **fields: Any) -> Alert:
    at = later(number - 1)
    alert = Alert(key(number), JOB, AlertKind.FAILED, at, "report failed for good", "run-1", next_try_at=at)
    return alert._replace(**fields)


# --- what is told, and how ---


def test_an_empty_outbox_wakes_nobody(loop: Loop) -> None:
    assert loop.cycle(NOW) is None
    assert not loop.courier.is_busy()


def test_an_alert_goes_to_whom_its_job_names_with_all_that_is_known(loop: Loop) -> None:
    loop.store.record([raised()])
    assert loop.cycle(NOW) == later(UNANSWERED_SECONDS)
    [notice] = loop.notifier.begun
    assert (notice.key, notice.webhook, notice.command) == (key(), HOOK, None)
    body = dict(notice.body)
    assert body.pop("host")
    assert body == {
        "event": "failed",
        "job_id": JOB,
        "job_name": "Nightly report",
        "run_id": "run-1",
        "at": "2026-06-01T12:00:00Z",
        "message": "report failed for good",
        "key": key(),
        "home": "/home/of/it",
    }
    json.dumps(body)


def test_what_arrived_is_written_down_and_told_no_more(loop: Loop) -> None:
    loop.store.record([raised()])
    loop.cycle(NOW)
    assert loop.courier.is_busy()
    loop.notifier.end(key())
    assert loop.courier.has_news()
    assert loop.cycle(later(1)) is None
    assert loop.alert() == raised(state=AlertState.SENT, tries=1, next_try_at=None, done_at=later(1))
    assert not loop.courier.is_busy()
    loop.cycle(later(9000), must_look=True)
    assert len(loop.notifier.begun) == 1
    [event] = loop.store.events()
    assert (event.kind, event.job_id, dict(event.fields)) == (
        "alert sent",
        JOB,
        {"alert": "failed", "key": key(), "tries": "1"},
    )
    assert loop.log.told == ["alert sent"]


def test_a_command_finds_the_alert_in_its_environment(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_STARTER", "x")
    loop.store.record([raised(), raised(2, run_id=None)])
    loop.cycle(later(2), declared(webhook=None, command='notify-send "$PROCCLAW_ALERT_MESSAGE"'))
    first, second = loop.notifier.begun
    assert first.command == ("/bin/sh", "-c", 'notify-send "$PROCCLAW_ALERT_MESSAGE"')
    env = dict(first.env)
    assert {name: value for name, value in env.items() if name.startswith("PROCCLAW_")} == {
        "PROCCLAW_ALERT_EVENT": "failed",
        "PROCCLAW_ALERT_MESSAGE": "report failed for good",
        "PROCCLAW_ALERT_AT": "2026-06-01T12:00:00Z",
        "PROCCLAW_ALERT_KEY": key(),
        "PROCCLAW_HOME": "/home/of/it",
        "PROCCLAW_JOB_ID": JOB,
        "PROCCLAW_RUN_ID": "run-1",
    }
    assert {"HOME", "PATH", "USER"} <= env.keys()
    assert "OF_THE_STARTER" not in env
    assert "PROCCLAW_RUN_ID" not in dict(second.env)


def test_a_command_may_be_a_list_and_stand_beside_a_webhook(loop: Loop) -> None:
    loop.store.record([raised()])
    loop.cycle(NOW, declared(command=("logger", "-t", "procclaw")))
    [notice] = loop.notifier.begun
    assert (notice.webhook, notice.command) == (HOOK, ("logger", "-t", "procclaw"))


def test_of_a_job_that_was_removed_the_common_way_is_taken(loop: Loop) -> None:
    loop.store.record([raised(job_id="gone")])
    loop.cycle(NOW, declared(common=Ways("http://127.0.0.1:9/common", None)))
    [notice] = loop.notifier.begun
    assert (notice.webhook, notice.body["job_name"]) == ("http://127.0.0.1:9/common", "gone")


def test_where_there_is_no_way_any_more_it_stays_undelivered(loop: Loop) -> None:
    loop.store.record([raised(job_id="gone"), raised(2)])
    assert loop.cycle(later(2), declared(webhook=None)) is None
    assert {alert.detail for alert in loop.store.alerts()} == {"no webhook, no command and no channel is set"}
    assert {alert.state for alert in loop.store.alerts()} == {AlertState.UNDELIVERED}
    assert loop.log.told == ["alert not delivered"] * 2


# --- again ---


def test_what_did_not_arrive_is_told_again_under_the_same_key_and_later_each_time(loop: Loop) -> None:
    loop.store.record([raised()])
    now, pauses = NOW, list[float]()
    for _ in range(6):
        loop.cycle(now)
        loop.notifier.end(key(), "webhook: http://127.0.0.1:9: status 500")
        again_at = loop.cycle(now)
        assert again_at is not None
        assert loop.cycle(again_at - (again_at - now) / 10) == again_at
        pauses.append((again_at - now).total_seconds())
        now = again_at
    assert pauses == [10, 60, 300, 900, 3600, 3600]
    assert {notice.key for notice in loop.notifier.begun} == {key()}
    assert loop.alert().detail == "webhook: http://127.0.0.1:9: status 500"
    assert ("warning", "alert not delivered yet") in loop.log.lines


def test_it_is_given_up_in_the_end(loop: Loop) -> None:
    loop.store.record([raised(tries=MOST_TRIES - 1)])
    loop.cycle(NOW)
    loop.notifier.end(key(), "status 500")
    assert loop.cycle(later(1)) is None
    assert loop.alert() == raised(
        state=AlertState.UNDELIVERED, tries=MOST_TRIES, next_try_at=None, done_at=later(1), detail="status 500"
    )
    assert loop.log.told == ["alert not delivered"]


def test_one_that_is_never_answered_is_given_up_as_well(loop: Loop) -> None:
    loop.store.record([raised(tries=MOST_TRIES, asked_at=NOW, next_try_at=later(9))])
    loop.cycle(later(9))
    assert (loop.alert().state, loop.alert().detail) == (AlertState.UNDELIVERED, "no answer")
    assert loop.notifier.begun == []


def test_a_receiver_that_is_out_holds_up_nobody_who_waits_for_another(loop: Loop) -> None:
    waiting = [raised(number, tries=5, next_try_at=later(3000)) for number in range(1, 200)]
    loop.store.record([*waiting, raised(500)])
    loop.cycle(later(500))
    assert [notice.key for notice in loop.notifier.begun] == [key(500)]


def test_only_so_many_are_under_way_and_the_oldest_go_first(loop: Loop) -> None:
    loop.store.record([raised(number) for number in (5, 3, 1, 2, 4, 6)])
    loop.cycle(later(60))
    assert [notice.key for notice in loop.notifier.begun] == [key(number) for number in range(1, MOST_UNDER_WAY + 1)]
    loop.notifier.end(key(2))
    loop.cycle(later(61))
    assert [notice.key for notice in loop.notifier.begun[MOST_UNDER_WAY:]] == [key(5)]


def test_one_whose_environment_cannot_be_made_is_tried_again_like_any_other(loop: Loop) -> None:
    loop.store.record([raised()])
    spec = declared(webhook=None, command="true")
    spec = spec._replace(config=spec.config._replace(env=(("A", "${env:MISSING}"),)))
    assert loop.cycle(NOW, spec) == later(10)
    assert (loop.alert().tries, loop.alert().detail) == (1, "${env:MISSING} is not set")
    assert loop.notifier.begun == []


# --- a gateway that is away ---


def through_openclaw(**fields: Any) -> Spec:
    spec = declared(webhook=None)
    job = spec.jobs[JOB]
    policy = job.alerts._replace(channels=(Channel("telegram", "1"),))
    openclaw = spec.config.openclaw._replace(**fields)
    return spec._replace(jobs={JOB: job._replace(alerts=policy)}, config=spec.config._replace(openclaw=openclaw))


def test_what_gathered_while_the_gateway_was_away_is_told_in_one_message_when_it_is_back(loop: Loop) -> None:
    spec = through_openclaw()
    loop.store.record([raised(number, tries=5, next_try_at=later(3000 + number)) for number in range(1, 8)])
    loop.cycle(later(3001), spec)
    [probing] = loop.notifier.begun
    assert probing.key == key(1), "one alone is told alone"
    loop.notifier.end(key(1))
    loop.cycle(later(3002), spec)
    digest = loop.notifier.begun[1]
    [message] = digest.messages
    assert message.text.splitlines()[0] == "ProcClaw: 6 alerts that could not be delivered before"
    assert message.text.splitlines()[1] == "2026-06-01 12:00Z report failed for good"
    assert [each["key"] for each in digest.body["alerts"]] == [key(number) for number in range(2, 8)]
    assert (digest.body["event"], digest.body["job_id"]) == ("digest", None)
    loop.notifier.end(digest.key)
    assert loop.cycle(later(3003), spec) is None
    assert {alert.state for alert in loop.store.alerts()} == {AlertState.SENT}
    assert loop.log.told == ["alert sent"] * 7


def test_a_digest_that_did_not_arrive_is_tried_again_under_its_key(loop: Loop) -> None:
    spec = through_openclaw()
    loop.store.record([raised(number, tries=2, next_try_at=later(10)) for number in range(1, 8)])
    for at in (10, 400):
        loop.cycle(later(at), spec)
        loop.notifier.end(loop.notifier.begun[-1].key, "openclaw telegram 1: away")
        loop.cycle(later(at), spec)
    first, second = loop.notifier.begun
    assert first.key == second.key
    assert first.messages[0].key == second.messages[0].key
    assert {(alert.tries, alert.detail) for alert in loop.store.alerts()} == {(4, "openclaw telegram 1: away")}


def test_a_digest_that_a_crash_interrupts_is_told_again_under_its_key(loop: Loop) -> None:
    spec = through_openclaw()
    loop.store.record([raised(number, tries=2, next_try_at=later(10)) for number in range(1, 8)])
    loop.cycle(later(10), spec)
    [before] = loop.notifier.begun
    loop.restart()
    loop.cycle(later(10 + UNANSWERED_SECONDS), spec)
    assert [notice.key for notice in loop.notifier.begun] == [before.key]


@pytest.mark.parametrize("is_by_openclaw", [False, True])
def test_only_what_openclaw_took_hastens_what_waits_for_it_whatever_the_agent_did(
    loop: Loop, is_by_openclaw: bool
) -> None:
    spec = through_openclaw()
    loop.store.record([raised(1), raised(2, tries=5, next_try_at=later(3000))])
    loop.cycle(NOW, spec)
    del loop.notifier.under_way[key(1)]
    detail = "agent: it has not answered after 30 s" if is_by_openclaw else "openclaw telegram 1: away"
    loop.notifier.ended.append(Delivery(key(1), is_ok=True, detail=detail, is_by_openclaw=is_by_openclaw))
    loop.cycle(later(1), spec)
    assert [notice.key for notice in loop.notifier.begun] == ([key(1), key(2)] if is_by_openclaw else [key(1)])


@pytest.mark.parametrize(
    ("notify_agent", "text"),
    [
        (AgentNotice.OFF, None),
        (AgentNotice.WAKE, "ProcClaw: report failed for good"),
        (AgentNotice.AGENT, "ProcClaw: report failed for good\nLook into it with the procclaw skill"),
    ],
)
def test_the_agent_is_told_as_is_set(loop: Loop, notify_agent: AgentNotice, text: str | None) -> None:
    loop.store.record([raised()])
    loop.cycle(
        NOW, through_openclaw(notify_agent=notify_agent, hooks_url="http://h/hooks", hooks_token="${secret:HOOK}")
    )
    [notice] = loop.notifier.begun
    if text is None:
        assert notice.call is None
        return
    assert notice.call is not None
    assert notice.call.text.startswith(text)
    assert "canary" not in repr(notice)


# --- the loop ---


def test_the_outbox_is_left_alone_while_nothing_has_come_due(loop: Loop) -> None:
    loop.cycle(NOW)
    loop.store.record([raised(2)])
    assert loop.cycle(later(5)) is None
    assert loop.notifier.begun == []
    # A plan that raises one says so, and a cycle over everything looks in any case.
    assert loop.cycle(later(5), must_look=True) is not None
    assert [notice.key for notice in loop.notifier.begun] == [key(2)]


def test_what_waits_does_not_wait_longer_where_the_clock_is_set_back(loop: Loop) -> None:
    loop.store.record([raised(tries=2, next_try_at=later(9000))])
    loop.cycle(later(8990))
    assert loop.notifier.begun == []
    loop.cycle(NOW)
    assert [notice.key for notice in loop.notifier.begun] == [key()]


# --- dying ---


def test_one_that_is_asked_for_is_on_record_before_it_goes(loop: Loop) -> None:
    loop.store.record([raised()])
    asked: list[datetime | None] = []
    loop.notifier.on_begin = lambda: asked.append(loop.alert().asked_at)
    loop.cycle(NOW)
    assert asked == [NOW]


def test_what_a_crash_interrupts_is_delivered_again_under_its_key(loop: Loop) -> None:
    loop.store.record([raised()])
    loop.cycle(NOW)
    loop.notifier.end(key())  # and nobody lives to hear of it
    loop.restart()
    assert loop.cycle(later(5), must_look=True) == later(UNANSWERED_SECONDS)
    assert loop.notifier.begun == []
    loop.cycle(later(UNANSWERED_SECONDS))
    assert [notice.key for notice in loop.notifier.begun] == [key()]
    assert loop.alert().tries == 2


@pytest.mark.parametrize("holds_lock", [True, False])
def test_what_arrived_while_the_daemon_ended_is_written_down_by_whoever_holds_the_lock(
    loop: Loop, holds_lock: bool
) -> None:
    loop.store.record([raised(), raised(2)])
    loop.cycle(later(2))
    loop.notifier.end(key())
    loop.courier.close(later(3) if holds_lock else None)
    wanted = AlertState.SENT if holds_lock else AlertState.PENDING
    assert [loop.alert(number).state for number in (1, 2)] == [wanted, AlertState.PENDING]


def test_a_crash_before_anything_was_asked_for_loses_nothing(loop: Loop) -> None:
    loop.store.record([raised()])
    loop.store.dies = True
    with pytest.raises(KeyboardInterrupt):
        loop.cycle(NOW)
    loop.store.dies = False
    loop.restart()
    loop.cycle(later(1))
    assert [notice.key for notice in loop.notifier.begun] == [key()]


def test_on_a_full_disk_nothing_goes_and_no_answer_is_lost(loop: Loop) -> None:
    loop.store.record([raised(), raised(2)])
    loop.cycle(NOW)
    loop.store.is_full = True
    loop.notifier.end(key())
    assert loop.cycle(later(1)) == later(6)
    assert len(loop.notifier.begun) == 1
    loop.store.is_full = False
    loop.cycle(later(6))
    assert loop.alert().state is AlertState.SENT
    assert [notice.key for notice in loop.notifier.begun] == [key(), key(2)]


def test_an_answer_to_what_is_settled_already_changes_nothing(loop: Loop) -> None:
    sent = raised(state=AlertState.SENT, done_at=NOW, next_try_at=None)
    loop.store.record([sent])
    loop.notifier.ended = [Delivery(key(), is_ok=False, detail="late"), Delivery("purged", is_ok=True, detail="")]
    loop.cycle(later(1))
    assert loop.store.alerts() == (sent,)
    assert not loop.courier.has_news()


# --- the real thing ---


class Receiver:
    """A webhook on the loopback."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        got = self.got

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def events(self) -> list[str]:
        return [body["event"] for body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


BROKEN = {"cmd": "exit 3", "retry": {"enabled": False}}


@pytest.mark.real
def test_a_request_without_a_daemon_tells_of_what_it_finds(driver: Driver, receiver: Receiver) -> None:
    driver.declare({"report": BROKEN}, alerts={"webhook": receiver.url})
    driver.ask("run", "report", "--wait", code=1)
    [body] = receiver.got
    assert (body["event"], body["job_id"], body["home"]) == ("failed", "report", str(driver.home))
    assert body["message"] == "report failed for good: exit code 3 after 1 attempt; procclaw dlq"
    [alert] = driver.opened.store.alerts()
    assert (alert.state, alert.key, alert.tries) == (AlertState.SENT, body["key"], 1)
    # It succeeds, and that is told by a pass from cron.
    driver.declare({"report": {"cmd": "exit 0"}}, alerts={"webhook": receiver.url})
    driver.ask("run", "report", "--wait")
    assert receiver.events() == ["failed", "recovered"]


@pytest.mark.real
def test_a_pass_tells_of_a_job_that_is_late(driver: Driver, receiver: Receiver) -> None:
    driver.declare({"backup": {"cmd": "exit 0", "expect": {"every": 0.5}}}, alerts={"webhook": receiver.url})
    driver.wait(lambda: driver.ask("reconcile").code == 0 and receiver.got)
    assert receiver.events() == ["overdue"]
    assert receiver.got[0]["message"].startswith("backup is overdue: no success since ")
    driver.ask("reconcile")
    driver.ask("run", "backup", "--wait")
    assert receiver.events() == ["overdue", "recovered"]


@pytest.mark.real
def test_a_cycle_for_alerts_alone_decides_nothing(driver: Driver) -> None:
    driver.declare({"service": {"type": "continuous", "cmd": "sleep 99"}})
    driver.opened.store.record([raised(job_id="gone"), raised(2, job_id="gone", next_try_at=later(10**9))])
    controller = driver.opened.controller()
    cycle = controller.cycle(frozenset({OUTBOX}))
    assert (cycle.scope, cycle.plan, cycle.has_acted, cycle.live) == (frozenset({OUTBOX}), Plan(), False, ())
    assert cycle.wakes == {}
    assert {alert.state for alert in driver.opened.store.alerts()} == {AlertState.UNDELIVERED}
    assert driver.runs("service") == []


@pytest.mark.real
def test_a_daemon_tells_every_way_there_is_and_hears_of_it_at_once(driver: Driver, receiver: Receiver) -> None:
    command = ["/bin/sh", "-c", 'cat >>"$PROCCLAW_HOME/told"']
    driver.declare({"report": BROKEN}, alerts={"webhook": receiver.url, "command": command})
    driver.start_daemon()
    driver.ask("start", "report")
    driver.wait(lambda: driver.opened.store.alerts() and driver.opened.store.alerts()[0].done_at)
    [alert] = driver.opened.store.alerts()
    assert alert.state is AlertState.SENT
    [body] = receiver.got
    assert (body["key"], body["message"]) == (alert.key, alert.message)
    assert json.loads((driver.home / "told").read_text()) == body
    kinds = [event.kind for event in driver.operations.events(job_id="report")]
    assert {"alert raised", "alert sent"} <= set(kinds)


@pytest.mark.real
def test_a_daemon_that_was_killed_while_it_told_tells_again(driver: Driver) -> None:
    slow = ["/bin/sh", "-c", 'echo "$PROCCLAW_ALERT_KEY" >>"$PROCCLAW_HOME/told"; sleep 30']
    driver.declare({"report": BROKEN}, alerts={"command": slow})
    driver.start_daemon()
    driver.ask("start", "report")
    driver.wait((driver.home / "told").exists)
    driver.kill_daemon()
    [alert] = driver.opened.store.alerts()
    assert (alert.state, alert.tries, alert.asked_at is None) == (AlertState.PENDING, 1, False)
    # As if the time had passed after which nobody can be at it any more.
    driver.opened.store.record([alert._replace(asked_at=NOW, next_try_at=NOW)])
    driver.declare({"report": BROKEN}, alerts={"command": ["true"]})
    driver.start_daemon()
    driver.wait(lambda: driver.opened.store.alerts()[0].state is AlertState.SENT)
    assert driver.opened.store.alerts()[0].key == alert.key


def test_an_address_may_be_a_secret_and_one_that_is_not_set_is_tried_again(loop: Loop) -> None:
    cases = {"${secret:HOOK}": "https://hooks.slack.com/services/T0/B0/canary", "${secret:NONE}": None}
    for number, (webhook, wanted) in enumerate(cases.items(), 1):
        loop.restart()
        loop.store.record([raised(number)])
        loop.cycle(later(1), declared(webhook=webhook), must_look=True)
        assert [notice.webhook for notice in loop.notifier.begun] == ([] if wanted is None else [Secret(wanted)])
        assert "canary" not in f"{loop.notifier.begun}"
    assert loop.alert(2).detail == 'secret "NONE" is not set: procclaw secret set NONE'
    assert loop.alert(2).next_try_at is not None
