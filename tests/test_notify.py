"""Alerts on their way to receivers that take them, refuse them, or take their time."""

import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procclaw.model.clock import SystemClock
from procclaw.model.outside import Delivery, Notice
from procclaw.model.secret import Secret
from procclaw.model.urls import parse_url
from procclaw.system import notify
from procclaw.system.notify import Notifier, webhook
from procclaw.system.openclaw import Messenger
from tests.listeners import (
    Behaviour,
    Listener,
    Listeners,
    answering,
    closed_port,
    endless,
    hanging,
    listening,
    saying,
)
from tests.support import look_at, wait_until

pytestmark = pytest.mark.real

LONG = 10.0
"""Seconds that nothing here waits for unless it fails."""
ENV = (("PATH", "/usr/local/bin:/usr/bin:/bin"), ("ALERT", "yes"))
BODY = {"job_id": "report", "message": "report: <failed> & gave up", "attempts": 5}


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    with listening() as listeners:
        yield listeners


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    notifier = Notifier(lambda: None, Messenger(SystemClock()))
    yield notifier
    notifier.close()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience as short as a test needs it."""
    monkeypatch.setattr(notify, "_WEBHOOK_SECONDS", 0.3)
    monkeypatch.setattr(notify, "_COMMAND_SECONDS", 0.3)


def a_notice(webhook: str | None = None, command: str | None = None, key: str = "k1") -> Notice:
    argv = None if command is None else ("/bin/sh", "-c", command)
    return Notice(key, webhook, argv, BODY, ENV)


def at(listener: Listener, rest: str = "/hook?token=hush") -> str:
    return f"http://127.0.0.1:{listener.port}{rest}"


def delivery_of(notifier: Notifier, notice: Notice) -> Delivery:
    notifier.begin(notice)
    notifier.wait(LONG * 2)
    (delivery,) = notifier.results()
    assert delivery.key == notice.key
    return delivery


def parsed(request: bytes) -> tuple[str, dict[str, str], Any]:
    """First line, headers by their names in small letters, body."""
    head, _, body = request.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return first, headers, json.loads(body)


# Webhooks


def test_a_webhook_gets_the_alert_as_json_under_its_key(notifier: Notifier, listeners: Listeners) -> None:
    listener = listeners(answering(204))
    assert delivery_of(notifier, a_notice(at(listener))) == Delivery("k1", is_ok=True, detail="")
    (request,) = listener.requests
    first, headers, body = parsed(request)
    assert first == "POST /hook?token=hush HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{listener.port}"
    assert headers["idempotency-key"] == "k1"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "procclaw"
    assert body == BODY


@pytest.mark.parametrize(
    ("behaviour", "trouble"),
    [
        (answering(500), "status 500"),
        (answering(404), "status 404"),
        (answering(302, headers="Location: http://127.0.0.1:1/\r\n"), "status 302, and redirects are not followed"),
        (saying(b"220 mail.example ESMTP\r\n"), "the answer is not HTTP"),
        (saying(b"x" * 5000), "the answer is not HTTP"),
        (saying(), "the connection was closed without an answer"),
        (saying(b"HTTP/1.1"), "the connection was closed without an answer"),
    ],
)
def test_what_was_in_the_way_is_told_without_the_url(
    notifier: Notifier, listeners: Listeners, behaviour: Behaviour, trouble: str
) -> None:
    listener = listeners(behaviour)
    delivery = delivery_of(notifier, a_notice(at(listener)))
    assert delivery == Delivery("k1", is_ok=False, detail=f"webhook: http://127.0.0.1:{listener.port}: {trouble}")


@pytest.mark.parametrize(
    "behaviour",
    [
        hanging(),
        hanging(b"HTTP/1."),
        # Something comes all the time, which must not begin the time anew.
        endless(b"", b"x", 0.02),
        None,
    ],
)
@pytest.mark.usefixtures("quickly")
def test_who_takes_too_long_is_told_without_the_url(
    notifier: Notifier, listeners: Listeners, behaviour: Behaviour | None
) -> None:
    listener = listeners(behaviour)
    told = f"webhook: http://127.0.0.1:{listener.port}: timed out after 0.3 s"
    assert delivery_of(notifier, a_notice(at(listener))) == Delivery("k1", is_ok=False, detail=told)


def test_an_answer_in_pieces_is_one(notifier: Notifier, listeners: Listeners) -> None:
    assert delivery_of(notifier, a_notice(at(listeners(saying(b"HTTP/1.", b"1 2", b"00 OK\r\n"))))).is_ok


def test_nobody_listening_is_a_refusal(notifier: Notifier) -> None:
    port = closed_port()
    delivery = delivery_of(notifier, a_notice(f"http://me:hush@127.0.0.1:{port}/hush"))
    assert delivery.detail == f"webhook: http://127.0.0.1:{port}: connection refused"


@pytest.mark.parametrize("url", ["mailto:me@example.com", "http://", "http://me:pa/ss@h/", "http://a b/"])
def test_what_is_no_url_is_said_without_quoting_it(notifier: Notifier, url: str) -> None:
    assert delivery_of(notifier, a_notice(url)).detail == "webhook: its URL is none of HTTP"


@pytest.mark.parametrize("host", ["hooks..example", f"{'a' * 64}.example"])
def test_a_host_whose_name_cannot_be_one_is_a_failure_that_says_so(notifier: Notifier, host: str) -> None:
    delivery = delivery_of(notifier, a_notice(f"http://{host}/hush"))
    assert delivery.detail == f"webhook: http://{host}: there is no such name"


def test_of_an_address_that_is_a_secret_not_even_the_host_is_shown(notifier: Notifier, listeners: Listeners) -> None:
    secret = Secret("http://127.0.0.1:1/canary")
    told = delivery_of(notifier, a_notice()._replace(webhook=secret))
    assert told.detail == "webhook: the address: connection refused"


def test_a_user_in_the_url_is_sent_and_not_shown(notifier: Notifier, listeners: Listeners) -> None:
    listener = listeners(answering(401))
    delivery = delivery_of(notifier, a_notice(f"http://me:hush@127.0.0.1:{listener.port}/"))
    assert delivery.detail == f"webhook: http://127.0.0.1:{listener.port}: status 401"
    assert parsed(listener.requests[0])[1]["authorization"] == "basic bwu6ahvzaa=="


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", {"text": "report: &lt;failed&gt; &amp; gave up"}),
        ("https://proxy.example/services/T0/B0/x", {"text": "report: &lt;failed&gt; &amp; gave up"}),
        ("https://discord.com/api/webhooks/1/x/slack", {"text": "report: &lt;failed&gt; &amp; gave up"}),
        ("https://notslack.com/services/other", BODY),
        (
            "https://discord.com/api/webhooks/1/x",
            {"content": "report: <failed> & gave up", "allowed_mentions": {"parse": []}},
        ),
        (
            "https://discordapp.com/api/v10/webhooks/1/x",
            {"content": "report: <failed> & gave up", "allowed_mentions": {"parse": []}},
        ),
        ("https://discord.com.example/api/webhooks/1/x", BODY),
    ],
)
def test_an_alert_has_the_form_its_receiver_takes(url: str, form: dict[str, Any]) -> None:
    assert webhook.form_for(parse_url(url), BODY) == form


def test_a_message_is_no_longer_than_discord_takes() -> None:
    url = parse_url("https://discord.com/api/webhooks/1/x")
    exactly = webhook.form_for(url, {"message": "x" * 2000})["content"]
    assert exactly == "x" * 2000
    assert webhook.form_for(url, {"message": "x" * 2001})["content"] == "x" * 1999 + "…"


def test_a_slack_form_is_what_is_posted(notifier: Notifier, listeners: Listeners) -> None:
    listener = listeners(answering())
    assert delivery_of(notifier, a_notice(at(listener, "/services/T1/B1/x"))).is_ok
    assert parsed(listener.requests[0])[2] == {"text": "report: &lt;failed&gt; &amp; gave up"}


def test_a_certificate_signed_by_itself_is_not_trusted(
    notifier: Notifier, listeners: Listeners, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("TLS is not tested: there is no openssl here to make a certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-keyout", "key", "-out", "certificate"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    listener = listeners(answering(), tls=context)
    delivery = delivery_of(notifier, a_notice(at(listener).replace("http:", "https:")))
    assert "the certificate is not trusted: self" in delivery.detail
    assert listener.requests == []


# Commands


def test_a_command_finds_the_alert_on_its_stdin(notifier: Notifier, tmp_path: Path) -> None:
    command = f'cat > {tmp_path}/told; echo "$ALERT $HOME." > {tmp_path}/env; pwd > {tmp_path}/cwd'
    assert delivery_of(notifier, a_notice(command=command)) == Delivery("k1", is_ok=True, detail="")
    assert json.loads((tmp_path / "told").read_text()) == BODY
    assert (tmp_path / "env").read_text() == "yes .\n"
    assert (tmp_path / "cwd").read_text() == "/\n"


@pytest.mark.parametrize(
    ("command", "trouble"),
    [
        ("cat; exit 3", "exit code 3"),
        ("no-such-command", "exit code 127"),
    ],
)
def test_a_command_that_fails_is_told_without_what_it_said(notifier: Notifier, command: str, trouble: str) -> None:
    assert delivery_of(notifier, a_notice(command=command)) == Delivery("k1", is_ok=False, detail=f"command: {trouble}")


@pytest.mark.usefixtures("quickly")
def test_a_command_that_takes_too_long_is_told_so(notifier: Notifier) -> None:
    delivery = delivery_of(notifier, a_notice(command="sleep 600"))
    assert delivery == Delivery("k1", is_ok=False, detail="command: timed out after 0.3 s")


# Both


def test_both_ways_are_tried_and_both_must_be_good(notifier: Notifier, listeners: Listeners, tmp_path: Path) -> None:
    bad = listeners(answering(500))
    delivery = delivery_of(notifier, a_notice(at(bad), f"touch {tmp_path}/ran"))
    assert delivery == Delivery("k1", is_ok=False, detail=f"webhook: http://127.0.0.1:{bad.port}: status 500")
    assert (tmp_path / "ran").exists()
    delivery = delivery_of(notifier, a_notice(at(bad), "exit 1", key="k2"))
    assert delivery.detail == f"webhook: http://127.0.0.1:{bad.port}: status 500; command: exit code 1"


def test_the_way_that_went_is_not_taken_again(notifier: Notifier, listeners: Listeners, tmp_path: Path) -> None:
    listener = listeners(answering())
    notice = a_notice(at(listener), f"echo ran >> {tmp_path}/ran; test -e {tmp_path}/ready")
    assert not delivery_of(notifier, notice).is_ok
    assert not delivery_of(notifier, notice).is_ok
    assert len(listener.requests) == 1
    (tmp_path / "ready").touch()
    assert delivery_of(notifier, notice).is_ok
    assert len(listener.requests) == 1
    assert (tmp_path / "ran").read_text() == "ran\n" * 3
    # All of it has gone: whoever asks again means it.
    assert delivery_of(notifier, notice).is_ok
    assert len(listener.requests) == 2


def test_what_went_is_remembered_of_so_many_notices_only(
    notifier: Notifier, listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_REMEMBERED", 2)
    listener = listeners(answering())
    for key in ("k1", "k2", "k3", "k1", "k3"):
        assert not delivery_of(notifier, a_notice(at(listener), "exit 1", key)).is_ok
    assert [parsed(request)[1]["idempotency-key"] for request in listener.requests] == ["k1", "k2", "k3", "k1"]


def test_a_notice_that_goes_nowhere_has_arrived(notifier: Notifier) -> None:
    assert delivery_of(notifier, a_notice()).is_ok


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_of_ours_does_not_take_the_thread_of_others_with_it(notifier: Notifier, tmp_path: Path) -> None:
    for number in range(6):
        notifier.begin(a_notice(command="exit 0", key=f"k{number}")._replace(body={"message": object()}))
    notifier.wait(LONG)
    assert (notifier.pending(), notifier.results()) == (0, ())
    assert delivery_of(notifier, a_notice(command="exit 0")).is_ok


# Many, and the end


def test_at_most_four_go_at_a_time_and_all_go(notifier: Notifier, tmp_path: Path) -> None:
    for number in range(12):
        command = f"touch {tmp_path}/$$; ls {tmp_path} | wc -l >> {tmp_path}.seen; sleep 0.1; rm {tmp_path}/$$"
        notifier.begin(a_notice(command=command, key=f"k{number}"))
    assert notifier.pending() == 12
    assert len(our_threads()) <= 4
    notifier.wait(LONG)
    assert {delivery.key: delivery.is_ok for delivery in notifier.results()} == {f"k{n}": True for n in range(12)}
    assert max(map(int, Path(f"{tmp_path}.seen").read_text().split())) <= 4
    wait_until(lambda: not our_threads(), LONG, our_threads)


def test_one_that_is_under_way_is_not_begun_again(notifier: Notifier, listeners: Listeners) -> None:
    may_answer = threading.Event()

    def slowly(sock: Any) -> None:
        may_answer.wait(LONG)
        answering()(sock)

    listener = listeners(slowly)
    notifier.begin(a_notice(at(listener)))
    notifier.begin(a_notice(at(listener)))
    may_answer.set()
    notifier.wait(LONG)
    assert notifier.results() == (Delivery("k1", is_ok=True, detail=""),)
    assert len(listener.requests) == 1


def test_one_that_found_no_thread_goes_when_it_is_begun_again(
    notifier: Notifier, listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    listener = listeners(answering(200))
    with monkeypatch.context() as lacking:
        lacking.setattr(threading.Thread, "start", refuse)
        notifier.begin(a_notice(at(listener)))
    assert notifier.pending() == 1
    assert delivery_of(notifier, a_notice(at(listener))).is_ok
    assert len(listener.requests) == 1


def test_somebody_is_woken_for_what_came_of_it(listeners: Listeners) -> None:
    woken = threading.Event()
    notifier = Notifier(woken.set, Messenger(SystemClock()))
    try:
        notifier.begin(a_notice(at(listeners(answering()))))
        assert woken.wait(LONG)
        assert len(notifier.results()) == 1
        assert notifier.results() == ()
    finally:
        notifier.close()


def test_closing_kills_commands_and_hears_of_nothing_any_more(listeners: Listeners, tmp_path: Path) -> None:
    woken = threading.Event()
    notifier = Notifier(woken.set, Messenger(SystemClock()))
    pid = tmp_path / "pid"
    notifier.begin(a_notice(command=f"echo $$ > {pid}; sleep 600", key="running"))
    for number in range(5):
        notifier.begin(a_notice(at(listeners(hanging())), key=f"hanging{number}"))
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"), LONG, notifier.pending)
    started = time.monotonic()
    notifier.close()
    notifier.close()
    assert time.monotonic() - started < LONG / 2
    seen = look_at(int(pid.read_text()))
    assert seen is None or seen.is_dead
    notifier.begin(a_notice(at(listeners(answering())), key="later"))
    assert (notifier.pending(), notifier.results(), woken.is_set()) == (0, (), False)


def test_what_arrives_while_closing_is_still_told(notifier: Notifier, listeners: Listeners) -> None:
    is_closing = threading.Event()

    def slowly(sock: Any) -> None:
        is_closing.wait(LONG)
        answering()(sock)

    listener = listeners(slowly)
    notifier.begin(a_notice(at(listener)))
    wait_until(lambda: listener.requests, LONG, notifier.pending)
    threading.Timer(0.05, is_closing.set).start()
    notifier.close()
    assert notifier.results() == (Delivery("k1", is_ok=True, detail=""),)


def test_closing_leaves_no_descriptor_and_no_thread(notifier: Notifier) -> None:
    before = len(os.listdir("/dev/fd"))
    assert delivery_of(notifier, a_notice(command="exit 0")).is_ok
    notifier.close()
    wait_until(lambda: len(os.listdir("/dev/fd")) == before, LONG, lambda: os.listdir("/dev/fd"))
    wait_until(lambda: not our_threads(), LONG, our_threads)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("procclaw")]
