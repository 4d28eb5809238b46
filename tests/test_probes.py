"""Health checks against servers, files and commands that do well, badly, or nothing at all."""

import contextlib
import gc
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from procclaw.model.clock import SystemClock
from procclaw.model.outside import Probe, ProbeResult
from procclaw.model.spec import CheckType, HealthCheck, OnUnhealthy
from procclaw.system.probes import Prober
from tests.conftest import is_loopback
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
from tests.support import Reaper, look_at, wait_until

pytestmark = pytest.mark.real

LONG = 10.0
"""Seconds that nothing here waits for unless it fails."""
ENV = (("PATH", "/usr/local/bin:/usr/bin:/bin"),)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    with listening() as listeners:
        yield listeners


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober(lambda: None)
    yield prober
    prober.close()


def a_check(type: CheckType, **fields: Any) -> HealthCheck:  # noqa: A002 (as in jobs.yaml)
    check = HealthCheck(
        type=type,
        interval_seconds=60,
        timeout_seconds=LONG,
        start_period_seconds=0,
        failures=3,
        on_unhealthy=OnUnhealthy.RESTART,
        url=None,
        method="GET",
        expected_status=200,
        expected_body=None,
        path=None,
        max_age_seconds=120,
        host="127.0.0.1",
        port=None,
        cmd=None,
    )
    return check._replace(**fields)


def http(url: str, attempt: str = "a", **fields: Any) -> Probe:
    return Probe("job", attempt, a_check(CheckType.HTTP, url=url, **fields))


def tcp(port: int, attempt: str = "a", **fields: Any) -> Probe:
    return Probe("job", attempt, a_check(CheckType.TCP, port=port, **fields))


def file(path: Path | str, attempt: str = "a", cwd: str = "/", **fields: Any) -> Probe:
    return Probe("job", attempt, a_check(CheckType.FILE, path=str(path), **fields), cwd=cwd)


def shell(text: str, attempt: str = "a", cwd: str = "/", user: str | None = None, **fields: Any) -> Probe:
    check = a_check(CheckType.EXEC, cmd=text, **fields)
    return Probe("job", attempt, check, ("/bin/sh", "-c", text), cwd, (*ENV, ("GREETING", "hello")), user)


def result_of(prober: Prober, probe: Probe) -> ProbeResult:
    """What comes of this check alone."""
    prober.begin(probe)
    prober.wait(LONG * 2)
    (result,) = prober.results()
    assert (result.job_id, result.attempt_id) == (probe.job_id, probe.attempt_id)
    return result


def at(listener: Listener, rest: str = "/health", host: str = "127.0.0.1", scheme: str = "http") -> str:
    return f"{scheme}://{host}:{listener.port}{rest}"


# HTTP


def test_a_good_answer_is_good(prober: Prober, listeners: Listeners) -> None:
    listener = listeners(answering(200, b"fine"))
    result = result_of(prober, http(at(listener)))
    assert result.is_ok
    assert result.detail == f"GET {at(listener)}: status 200"
    head = listener.requests[0].decode()
    assert head.startswith("GET /health HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{listener.port}\r\n" in head
    assert "\r\nUser-Agent: procclaw\r\n" in head
    assert "\r\nConnection: close\r\n" in head


@pytest.mark.parametrize(
    ("behaviour", "fields", "detail"),
    [
        (answering(503), {}, "status 503, expected 200"),
        # No redirect is followed.
        (answering(301, headers="Location: http://127.0.0.1:1/\r\n"), {}, "status 301, expected 200"),
        (answering(200, b"bad"), {"expected_body": "good"}, "the answer does not contain the expected body"),
        (answering(500, b"good"), {"expected_body": "good"}, "status 500, expected 200"),
        # Nothing is waited for that cannot make it any better.
        (hanging(b"HTTP/1.1 503 No\r\n\r\n"), {"expected_body": "good"}, "status 503, expected 200"),
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n"), {}, "the answer is not HTTP"),
        (saying(b"HTTP/1.1 ok\r\n\r\n"), {}, "the answer is not HTTP"),
        (saying(b"\x15\x03\x01\x00\x02"), {}, "the answer is not HTTP"),
        (saying(), {}, "the connection was closed without an answer"),
        (saying(b"HTTP/1.1 200 OK\r\nServer: x"), {}, "the connection was closed before the answer was complete"),
        (
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
            {"expected_body": "good"},
            "the connection was closed before the answer was complete",
        ),
        (
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\ngood\r\n"),
            {"expected_body": "good"},
            "the answer is not HTTP",
        ),
        (
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\ngood"),
            {"expected_body": "good"},
            "the answer is not HTTP",
        ),
        (endless(b"", b"x" * 4096), {}, "the answer is not HTTP"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100), {}, "the answer's headers do not end"),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), {}, "the answer's headers do not end"),
        (
            endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
            {"expected_body": "good"},
            "the first 256 KiB of the answer do not contain the expected body",
        ),
        (answering(200), {"expected_body": "good", "method": "HEAD"}, "the answer does not contain the expected body"),
        (hanging(), {"timeout_seconds": 0.2}, "timed out after 0.2 s"),
        (hanging(b"HTTP/1.1 200 OK\r\n"), {"timeout_seconds": 0.2}, "timed out after 0.2 s"),
        (
            hanging(b"HTTP/1.1 200 OK\r\n\r\nsome"),
            {"timeout_seconds": 0.2, "expected_body": "good"},
            "timed out after 0.2 s",
        ),
        # Something comes all the time, which must not begin the time anew.
        (endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.02), {"timeout_seconds": 0.3}, "timed out after 0.3 s"),
        (None, {"timeout_seconds": 0.2}, "timed out after 0.2 s"),
    ],
)
def test_a_bad_answer_is_told_in_words(
    prober: Prober, listeners: Listeners, behaviour: Behaviour | None, fields: dict[str, Any], detail: str
) -> None:
    listener = listeners(behaviour)
    result = result_of(prober, http(at(listener), **fields))
    assert not result.is_ok
    assert result.detail == f"{fields.get('method', 'GET')} {at(listener)}: {detail}"


@pytest.mark.parametrize(
    ("behaviour", "fields"),
    [
        (answering(204), {"expected_status": 204}),
        (answering(301), {"expected_status": 301}),
        (answering(200, b"all is good here"), {"expected_body": "is good"}),
        (answering(200, b""), {"expected_body": ""}),
        (answering(200, "größer".encode()), {"expected_body": "größer"}),
        # Nothing is waited for that is not needed.
        (hanging(b"HTTP/1.1 200 OK\r\n\r\n"), {}),
        (hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nis good"), {"expected_body": "good"}),
        (endless(b"HTTP/1.0 200 OK\r\n\r\ngood", b"x" * 65536), {"expected_body": "good"}),
        # In pieces, across their borders, in chunks, with lines that end in less than they should.
        (saying(b"HTTP/1.1 20", b"0 OK\r\n\r", b"\n", b"go", b"od"), {"expected_body": "good"}),
        (
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\ngo\r\n2\r\nod\r\n0\r\n\r\n"),
            {"expected_body": "good"},
        ),
        (saying(b"HTTP/1.0 200\n\ngood"), {"expected_body": "good"}),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), {}),
        (answering(200), {"method": "HEAD"}),
        (answering(200), {"method": "OPTIONS"}),
    ],
)
def test_an_answer_that_fits_is_good_however_it_comes(
    prober: Prober, listeners: Listeners, behaviour: Behaviour, fields: dict[str, Any]
) -> None:
    result = result_of(prober, http(at(listeners(behaviour)), **fields))
    assert result.is_ok, result.detail


def test_what_is_looked_for_is_found_at_the_end_of_what_is_read(prober: Prober, listeners: Listeners) -> None:
    listener = listeners(answering(200, b"x" * (256 * 1024 - 4) + b"good" + b"x" * 1000))
    assert result_of(prober, http(at(listener), expected_body="good")).is_ok
    assert not result_of(prober, http(at(listener), expected_body="goodx")).is_ok


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_method_that_has_a_body_says_it_is_empty(prober: Prober, listeners: Listeners, method: str) -> None:
    listener = listeners(answering())
    assert result_of(prober, http(at(listener), method=method)).is_ok
    assert listener.requests[0].startswith(f"{method} /health ".encode())
    assert b"\r\nContent-Length: 0\r\n" in listener.requests[0]


def test_user_and_query_are_sent_and_never_shown(prober: Prober, listeners: Listeners) -> None:
    listener = listeners(answering(401))
    result = result_of(prober, http(f"http://me:p%40ss@127.0.0.1:{listener.port}/a b?key=hush#part"))
    assert result.detail == f"GET http://127.0.0.1:{listener.port}/a%20b: status 401, expected 200"
    head = listener.requests[0].decode()
    assert head.startswith("GET /a%20b?key=hush HTTP/1.1\r\n")
    assert "\r\nAuthorization: Basic bWU6cEBzcw==\r\n" in head


@pytest.mark.parametrize("url", ["http://me:pa/ss@h/", "ftp://h/", "http://", "http://[::1/", "http://h:99999/"])
def test_what_is_no_url_is_said_without_quoting_it(prober: Prober, url: str) -> None:
    assert result_of(prober, http(url)) == ProbeResult("job", "a", is_ok=False, detail="the URL is none of HTTP")


def test_nobody_listening_is_a_refusal(prober: Prober) -> None:
    port = closed_port()
    assert result_of(prober, http(f"http://127.0.0.1:{port}")).detail == (
        f"GET http://127.0.0.1:{port}/: connection refused"
    )


def test_a_name_that_is_none_is_told_so(prober: Prober) -> None:
    result = result_of(prober, http("http://a..b/"))
    assert result.detail == "GET http://a..b/: no such name"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_localhost_is_either_address(prober: Prober, listeners: Listeners, family: int) -> None:
    listener = a_listener_on(family, listeners)
    assert result_of(prober, http(at(listener, host="localhost"))).is_ok
    assert result_of(prober, tcp(listener.port, host="localhost")).is_ok


def test_an_address_of_six_stands_in_brackets(prober: Prober, listeners: Listeners) -> None:
    listener = a_listener_on(socket.AF_INET6, listeners)
    result = result_of(prober, http(at(listener, host="[::1]")))
    assert result.detail == f"GET http://[::1]:{listener.port}/health: status 200"
    assert f"\r\nHost: [::1]:{listener.port}\r\n".encode() in listener.requests[0]


class Names:
    """A name server of which a test says what it answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, list[int]] = {}
        """Ports instead of addresses, because a test has only one of those."""
        self.is_awake = threading.Event()
        self.is_awake.set()
        self._real = socket.getaddrinfo

    def look_up(self, host: str, port: int, type: int = 0, flags: int = 0) -> Any:  # noqa: A002 (the real one's)
        if is_loopback(host):
            return self._real(host, port, type=type, flags=flags)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked.append(host)
        self.is_awake.wait(LONG)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", ("127.0.0.1", each)) for each in self.answers[host]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.is_awake.set()


def test_of_several_addresses_one_that_answers_is_enough(prober: Prober, listeners: Listeners, names: Names) -> None:
    names.answers = {"db": [closed_port(), listeners(None).port], "gone": [closed_port(), closed_port()]}
    assert result_of(prober, tcp(5432, host="db")).detail == "db:5432: accepts connections"
    assert result_of(prober, tcp(5432, host="gone")).detail == "gone:5432: connection refused"
    assert result_of(prober, http("http://none/")).detail == "GET http://none/: name or service not known"


def test_an_address_that_hangs_leaves_time_for_the_next(prober: Prober, listeners: Listeners, names: Names) -> None:
    with a_full_port() as port:
        names.answers = {"db": [port, listeners(None).port], "dead": [port]}
        assert result_of(prober, tcp(5432, host="db", timeout_seconds=2)).is_ok
        assert result_of(prober, tcp(5432, host="dead", timeout_seconds=0.2)).detail == (
            "dead:5432: timed out after 0.2 s"
        )


@contextlib.contextmanager
def a_full_port() -> Iterator[int]:
    """A port where connecting hangs, because more already wait than it keeps."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = full.getsockname()[1]
        for _ in range(20):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(("127.0.0.1", port))
            except TimeoutError:
                yield port
                return
        pytest.skip("an address that hangs is not tested: this machine lets everybody connect")


def test_a_name_server_that_hangs_costs_its_own_names_only(prober: Prober, listeners: Listeners, names: Names) -> None:
    names.is_awake.clear()
    for number in range(40):
        prober.begin(http("http://slow/", attempt=f"slow{number}", timeout_seconds=0.1))
    prober.wait(LONG)
    assert {result.detail for result in prober.results()} == {"GET http://slow/: timed out after 0.1 s"}
    assert names.asked == ["slow"]
    assert result_of(prober, tcp(listeners(None).port, host="localhost")).is_ok


def a_listener_on(family: int, listeners: Listeners) -> Listener:
    try:
        return listeners(answering(), family)
    except OSError as error:
        pytest.skip(f"this machine has no loopback of that kind: {error}")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost, signed by itself, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("TLS is not tested: there is no openssl here to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "certificate"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    both = directory / "both.pem"
    both.write_text((directory / "key").read_text() + (directory / "certificate").read_text())
    return both


@pytest.fixture
def encrypted(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_signed_by_itself_is_not_trusted(
    prober: Prober, listeners: Listeners, encrypted: ssl.SSLContext
) -> None:
    listener = listeners(answering(), tls=encrypted)
    result = result_of(prober, http(at(listener, host="localhost", scheme="https")))
    assert not result.is_ok
    assert "the certificate is not trusted: self" in result.detail
    assert listener.requests == []


def test_a_certificate_that_the_system_trusts_is_good_for_its_name_only(
    prober: Prober,
    listeners: Listeners,
    encrypted: ssl.SSLContext,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    listener = listeners(answering(200, b"good"), tls=encrypted)
    good = result_of(prober, http(at(listener, host="localhost", scheme="https"), expected_body="good"))
    assert good.is_ok, good.detail
    other = result_of(prober, http(at(listener, scheme="https")))
    assert "the certificate is not trusted: IP address mismatch" in other.detail


def test_https_where_http_is_spoken_says_so(prober: Prober, listeners: Listeners) -> None:
    listener = listeners(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), reads=False)
    result = result_of(prober, http(at(listener, scheme="https")))
    assert result.detail == f"GET {at(listener, scheme='https')}: TLS failed: wrong version number"


def test_https_that_nobody_answers_ends_with_the_time(prober: Prober, listeners: Listeners) -> None:
    listener = listeners(hanging())
    result = result_of(prober, http(at(listener, scheme="https"), timeout_seconds=0.2))
    assert result.detail.endswith(": timed out after 0.2 s")


# TCP


def test_a_port_that_accepts_is_good(prober: Prober, listeners: Listeners) -> None:
    port = listeners(None).port
    assert result_of(prober, tcp(port)) == ProbeResult(
        "job", "a", is_ok=True, detail=f"127.0.0.1:{port}: accepts connections"
    )


def test_a_port_that_nobody_has_is_not(prober: Prober) -> None:
    port = closed_port()
    assert result_of(prober, tcp(port)) == ProbeResult(
        "job", "a", is_ok=False, detail=f"127.0.0.1:{port}: connection refused"
    )


def test_a_port_that_answers_only_because_we_got_it_ourselves_is_not_one(
    prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky(socket.socket):
        """What the system gives us as our own port is the one we ask for."""

        def connect(self, address: Any) -> None:
            self.bind(address)
            super().connect(address)

    monkeypatch.setattr("procclaw.system.probes.connecting.socket.socket", Unlucky)
    result = result_of(prober, tcp(closed_port()))
    assert not result.is_ok
    assert result.detail.endswith(": connection refused")


# Files


@pytest.mark.parametrize(
    ("age", "is_ok", "detail"),
    [
        (5, True, "changed 5 s ago"),
        (150, False, "changed 150 s ago, 100 s are good"),
        (-50, True, "its time lies 50 s ahead of the clock"),
        (-150, False, "its time lies 150 s ahead of the clock, 100 s are good"),
    ],
)
def test_a_file_is_as_good_as_its_time(
    prober: Prober, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, is_ok: bool, detail: str
) -> None:
    now = SystemClock().now()
    monkeypatch.setattr(SystemClock, "now", lambda _: now)
    path = tmp_path / "beat"
    path.touch()
    os.utime(path, (0, now.timestamp() - age))
    result = result_of(prober, file(path, max_age_seconds=100))
    assert result == ProbeResult("job", "a", is_ok=is_ok, detail=f"{path}: {detail}")


def test_a_file_is_looked_for_in_the_directory_of_the_job(prober: Prober, tmp_path: Path) -> None:
    (tmp_path / "beat").mkdir()
    assert result_of(prober, file("beat", cwd=str(tmp_path))).is_ok
    missing = result_of(prober, file("other", cwd=str(tmp_path)))
    assert missing == ProbeResult("job", "a", is_ok=False, detail=f"{tmp_path}/other: no such file or directory")


def test_a_name_that_no_file_can_have_is_no_file(prober: Prober) -> None:
    assert not result_of(prober, file("a\0b")).is_ok


def test_a_dead_mount_holds_one_thread_and_fails_no_other_file(
    prober: Prober, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = threading.Event()
    stat = os.stat
    asked = []

    def hang(path: str) -> os.stat_result:
        if path == "/dead/beat":
            asked.append(path)
            mounted.wait(LONG)
        return stat(path)

    monkeypatch.setattr("procclaw.system.probes.checks.os.stat", hang)
    (tmp_path / "beat").touch()
    try:
        for number in range(40):
            prober.begin(file("/dead/beat", attempt=f"dead{number}", timeout_seconds=0.1))
        prober.wait(LONG)
        dead = prober.results()
        assert [result.detail for result in dead] == ["/dead/beat: timed out after 0.1 s"] * 40
        assert result_of(prober, file(tmp_path / "beat")).is_ok
        assert len(asked) == 1
    finally:
        mounted.set()


# Commands


@pytest.mark.parametrize(
    ("text", "is_ok", "detail"),
    [
        ("exit 0", True, "exit code 0"),
        ("echo hush; exit 3", False, "exit code 3"),
        ("kill -KILL $$", False, "exit code 137"),
        ("no-such-command", False, "exit code 127: there is no such command"),
        ('test "$GREETING" = hello && test -z "$HOME"', True, "exit code 0"),
        ("read x", False, "exit code 1"),
        ("yes | head -c 3000000", True, "exit code 0"),
    ],
)
def test_a_command_is_as_good_as_its_exit_code(prober: Prober, text: str, is_ok: bool, detail: str) -> None:
    assert result_of(prober, shell(text)) == ProbeResult("job", "a", is_ok=is_ok, detail=detail)


def test_a_command_runs_where_the_job_does(prober: Prober, tmp_path: Path) -> None:
    (tmp_path / "beat").touch()
    assert result_of(prober, shell("test -f beat", cwd=str(tmp_path))).is_ok
    gone = result_of(prober, shell("exit 0", cwd=str(tmp_path / "gone")))
    assert gone.detail == "exit code 126: the command cannot be executed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as somebody else")
def test_a_command_runs_as_whom_the_job_does(prober: Prober, tmp_path: Path) -> None:
    text = 'test "$(id -un)" = nobody && test "$(id -G)" = "$(id -g)"'
    assert result_of(prober, shell(text, user="nobody")).is_ok
    assert not result_of(prober, shell("exit 0", user="no-such-user")).is_ok


def test_a_command_that_takes_too_long_is_killed_with_its_group(prober: Prober, tmp_path: Path) -> None:
    text = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    # Long enough for the shell to get so far.
    result = result_of(prober, shell(text, timeout_seconds=2))
    assert result == ProbeResult("job", "a", is_ok=False, detail="timed out after 2 s")
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_command_in_whose_place_another_is_begun_is_killed(prober: Prober, tmp_path: Path) -> None:
    pid = begin_a_long_command(prober, tmp_path)
    assert result_of(prober, shell("exit 0")).is_ok
    wait_until_gone(pid)


def test_a_command_is_killed_when_we_close(prober: Prober, tmp_path: Path) -> None:
    child = begin_a_long_command(prober, tmp_path)
    shell_pid = int((tmp_path / "shell").read_text())
    assert not is_gone(shell_pid)
    prober.close()
    assert is_gone(shell_pid)
    wait_until_gone(child)


def test_only_so_many_commands_run_at_a_time_and_all_have_their_turn(prober: Prober, tmp_path: Path) -> None:
    text = f"touch {tmp_path}/$$; ls {tmp_path} | wc -l >> {tmp_path}.seen; sleep 0.1; rm {tmp_path}/$$"
    for number in range(40):
        # The time of one that waits has not begun.
        prober.begin(shell(text, attempt=str(number), timeout_seconds=5))
    prober.wait(LONG * 2)
    results = prober.results()
    assert [result.detail for result in results] == ["exit code 0"] * 40
    assert max(map(int, Path(f"{tmp_path}.seen").read_text().split())) <= 16


def begin_a_long_command(prober: Prober, tmp_path: Path) -> int:
    """The pid of a child of it."""
    pid = tmp_path / "pid"
    prober.begin(shell(f"echo $$ > {tmp_path}/shell; sleep 600 & echo $! > {pid}; wait"))
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"), LONG, prober.pending)
    return int(pid.read_text())


def is_gone(pid: int) -> bool:
    seen = look_at(pid)
    return seen is None or seen.is_dead


def wait_until_gone(pid: int) -> None:
    wait_until(lambda: is_gone(pid), LONG, lambda: look_at(pid))


# Many, and the end


def test_hundreds_that_hang_neither_delay_a_good_one_nor_take_threads(prober: Prober, listeners: Listeners) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("500 connections at once are not tested: too few descriptors are allowed here")
    deaf, good = listeners(None), listeners(answering())
    threads = threading.active_count()
    for number in range(500):
        prober.begin(http(at(deaf), attempt=f"deaf{number}", timeout_seconds=60))
    started = time.monotonic()
    prober.begin(http(at(good), attempt="good"))
    results = wait_until(prober.results, LONG, prober.pending)
    assert time.monotonic() - started < LONG / 2
    assert [(result.attempt_id, result.is_ok) for result in results] == [("good", True)]
    assert prober.pending() == 500
    assert threading.active_count() <= threads + 3
    prober.close()
    assert prober.pending() == 0
    wait_until(lambda: threading.active_count() <= threads, LONG, threading.enumerate)


def test_more_checks_than_connections_all_have_their_turn(
    listeners: Listeners, prober: Prober, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procclaw.system.probes._MOST_CONNECTIONS", 2)
    deaf, good = listeners(None), listeners(answering())
    for number in range(6):
        prober.begin(http(at(deaf), attempt=f"deaf{number}", timeout_seconds=0.4))
    # Less than it waits for its turn.
    prober.begin(http(at(good), attempt="good", timeout_seconds=1))
    prober.wait(LONG)
    assert {result.attempt_id: result.is_ok for result in prober.results()} == {
        **{f"deaf{number}": False for number in range(6)},
        "good": True,
    }


def test_a_check_in_whose_place_another_is_begun_is_dropped(prober: Prober, listeners: Listeners) -> None:
    prober.begin(http(at(listeners(None))))
    good = listeners(answering())
    result = result_of(prober, http(at(good)))
    assert result.is_ok
    assert prober.pending() == 0


def test_what_is_under_way_is_known_until_it_is_over(prober: Prober, listeners: Listeners) -> None:
    assert prober.under_way() == frozenset()
    prober.begin(http(at(listeners(None)), attempt="deaf", timeout_seconds=0.3))
    prober.begin(http(at(listeners(None)), attempt="deafer", timeout_seconds=LONG))
    assert prober.under_way() == {"deaf", "deafer"}
    wait_until(prober.results, LONG, prober.pending)
    assert prober.under_way() == {"deafer"}


def test_results_are_told_once_and_somebody_is_woken_for_them(listeners: Listeners) -> None:
    woken = threading.Event()
    prober = Prober(woken.set)
    try:
        prober.begin(tcp(listeners(None).port))
        assert woken.wait(LONG)
        assert len(prober.results()) == 1
        assert prober.results() == ()
    finally:
        prober.close()


def test_waiting_ends_with_the_time(prober: Prober, listeners: Listeners) -> None:
    prober.wait(LONG)
    prober.begin(http(at(listeners(None))))
    started = time.monotonic()
    prober.wait(0.1)
    assert 0.09 < time.monotonic() - started < LONG / 2
    assert prober.pending() == 1


def test_nothing_is_heard_of_after_closing(listeners: Listeners) -> None:
    woken = threading.Event()
    prober = Prober(woken.set)
    prober.begin(http(at(listeners(hanging()))))
    prober.close()
    prober.close()
    prober.begin(http(at(listeners(answering()))))
    prober.wait(LONG)
    assert (prober.pending(), prober.results(), woken.is_set()) == (0, (), False)
    threads = threading.enumerate
    wait_until(lambda: not any(each.name.startswith("procclaw") for each in threads()), LONG, threads)


def test_closing_what_never_began_is_fine() -> None:
    Prober(lambda: None).close()


def test_want_of_descriptors_is_no_fault_of_the_job(
    prober: Prober, listeners: Listeners, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = listeners(None).port
    assert result_of(prober, tcp(port)).is_ok
    with no_descriptor_left():
        prober.begin(tcp(port, attempt="tcp"))
        prober.begin(shell("exit 0", attempt="exec"))
        prober.wait(LONG)
    assert (prober.pending(), prober.results()) == (0, ())
    assert result_of(prober, tcp(port)).is_ok


class no_descriptor_left:  # noqa: N801 (reads as a state)
    """Allows no descriptor beyond those that are open."""

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._filling = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 1, self._limits[1]))
        with contextlib.suppress(OSError):
            while True:
                self._filling.append(os.dup(0))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        for fd in self._filling:
            os.close(fd)


def test_no_descriptor_is_inherited_and_none_is_left(listeners: Listeners) -> None:
    deaf = listeners(None)
    before = descriptors()
    prober = Prober(lambda: None)
    for number in range(20):
        prober.begin(http(at(deaf), attempt=f"deaf{number}"))
    prober.begin(shell("sleep 600", attempt="exec"))
    wait_until(lambda: len(descriptors() - before) > 25, LONG, descriptors)
    assert not [fd for fd in descriptors() - before if is_inheritable(fd)]
    prober.close()
    gc.collect()
    assert descriptors() == before


def descriptors() -> set[int]:
    found = {int(name) for name in os.listdir("/dev/fd")}
    # Of the listing itself, closed since.
    return {fd for fd in found if os.path.lexists(f"/dev/fd/{fd}")}


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_an_interpreter_that_closes_nothing_still_ends(listeners: Listeners, reaper: Reaper, tmp_path: Path) -> None:
    script = f"""
import signal
from tests.test_probes import Prober, http, tcp
prober = Prober(lambda: None)
before = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
prober.begin(http("{at(listeners(None))}"))
prober.begin(tcp({listeners(None).port}, attempt="tcp"))
while not prober.results():
    prober.wait(0.01)
assert before == [signal.getsignal(number) for number in sorted(signal.valid_signals())]
print(prober.pending())
"""
    root = Path(__file__).resolve().parent.parent
    child = reaper.spawn([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = child.communicate(timeout=LONG)[0]
    assert (child.returncode, said) == (0, b"1\n")


def test_asyncio_is_loaded_by_the_first_check_only() -> None:
    script = "import sys; from procclaw.system.probes import Prober; Prober(print); print('asyncio' in sys.modules)"
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
