"""The HTTP server beside bad clients: what it refuses, what it bears, and that none of them disturbs another."""

import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.connections import Connections
from procclaw.interface.api.serving.server import Server
from tests.support import Reaper, wait_until
from tests.webstage import (
    WITHIN,
    App,
    Client,
    Environ,
    Reply,
    Stage,
    Start,
    a_stage,
    answering,
    echo,
    eventually,
    hello,
    own_threads,
    quick,
)

ROOT = str(Path(__file__).resolve().parent.parent)


@pytest.fixture
def stage(capfd: pytest.CaptureFixture[str]) -> Iterator[Stage]:
    with a_stage(capfd) as stage:
        yield stage


# Refusals


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        ("\x16\x03\x01\x02", 400, "bad_request"),
        ("POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, "length_required"),
        ("POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3000000\r\n\r\n", 413, "too_large"),
        (f"GET /{'a' * 9000}", 414, "uri_too_long"),
        (f"GET / HTTP/1.1\r\nHost: here\r\nX: {'a' * 33000}", 431, "head_too_large"),
        ("GET / HTTP/2.0\r\nHost: here\r\n\r\n", 505, "version_not_supported"),
    ],
)
def test_a_refusal_is_json_and_the_end_of_the_connection(
    stage: Stage, request_text: str, status: int, code: str
) -> None:
    stage.serve(hello)
    client = stage.client()
    assert client.ask().status == 200
    client.send(request_text.encode("latin-1") + b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    reply = client.reply()
    assert (reply.status, reply.error, reply.fields["content-type"]) == (status, code, "application/json")
    assert client.rest() == b""
    assert stage.logged == []


def test_a_body_that_is_too_large_is_refused_unread_and_the_client_can_still_read_why(stage: Stage) -> None:
    stage.serve(hello)
    client = stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9000000\r\n\r\n")
    # One that sends it all the same, before it looks.
    client.send(b"x" * 9_000_000)
    assert client.reply().status == 413


# Limits of time


def dripping(client: Client, data: bytes) -> Callable[[], bool]:
    """A condition that sends a byte each time it is asked, and holds once the server has had enough."""
    left = iter(data)

    def is_enough() -> bool:
        client.socket.setblocking(False)
        try:
            client.socket.send(bytes([next(left)]))
            client.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        client.socket.settimeout(WITHIN)
        return True

    return is_enough


def test_a_head_must_be_whole_in_time_however_it_drips(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, HEAD_SECONDS=0.3)
    stage.serve(hello)
    client = stage.client()
    began = time.monotonic()
    eventually(dripping(client, b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000))
    assert 0.25 < time.monotonic() - began < 5
    reply = client.reply()
    assert (reply.status, reply.error) == (408, "timeout")


def test_after_a_request_the_time_for_a_head_begins_with_its_first_byte(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, HEAD_SECONDS=0.3, IDLE_SECONDS=30)
    stage.serve(hello)
    client = stage.client()
    client.ask()
    began = time.monotonic()
    client.send(b"G")
    assert client.reply().status == 408
    assert 0.25 < time.monotonic() - began < 5


def test_a_new_connection_that_stays_silent_is_closed_without_a_word(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, HEAD_SECONDS=0.2)
    stage.serve(hello)
    assert stage.client().rest() == b""


def test_an_idle_connection_is_closed_without_a_word(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, IDLE_SECONDS=0.2)
    stage.serve(hello)
    client = stage.client()
    client.ask()
    assert client.rest() == b""


def unimpressed(environ: Environ, start: Start) -> Iterable[bytes]:
    """Takes whatever it is told for an error of its own."""
    with contextlib.suppress(Exception):
        return echo(environ, start)
    start("500 Internal Server Error", [])
    return [b"oh dear"]


def mistaken(environ: Environ, start: Start) -> Iterable[bytes]:
    try:
        return echo(environ, start)
    except Exception as error:
        raise RuntimeError("something is wrong") from error


@pytest.mark.parametrize("app", [echo, unimpressed, mistaken])
def test_a_body_must_be_whole_in_time_however_it_drips(stage: Stage, monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    quick(monkeypatch, BODY_SECONDS=0.3)
    stage.serve(app)
    client = stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 20000\r\n\r\n")
    began = time.monotonic()
    eventually(dripping(client, b"x" * 10_000))
    assert 0.25 < time.monotonic() - began < 5
    reply = client.reply()
    assert (reply.status, reply.error) == (408, "timeout")
    assert stage.logged == []


@pytest.mark.parametrize("app", [echo, unimpressed, mistaken])
def test_a_client_that_leaves_in_its_body_is_nobodys_error(stage: Stage, app: App) -> None:
    stage.serve(app)
    client = stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 20000\r\n\r\nhalf")
    client.close()
    # Who came later is accepted later.
    assert stage.asking().status == 200
    eventually(lambda: len(own_threads()) == 1)
    assert stage.logged == []


LARGE = bytes(8_000_000)


@pytest.mark.parametrize("by", ["the system", "us"])
def test_a_client_that_does_not_read_is_dropped(stage: Stage, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "us":
        # As on macOS.
        monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    quick(monkeypatch, SEND_SECONDS=0.3)
    stage.serve(answering("200 OK", pieces=[LARGE]))
    client = stage.client(takes_little=True)
    began = time.monotonic()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert client.head()[0] == 200
    eventually(lambda: len(own_threads()) == 1)
    assert 0.25 < time.monotonic() - began < 5
    assert len(client.rest()) < len(LARGE)
    assert stage.logged == []


def test_a_client_that_reads_slowly_gets_everything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, SEND_SECONDS=1.0)
    body = bytes(700_000)
    stage.serve(answering("200 OK", pieces=[body]))
    client = stage.client(takes_little=True)
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert len(client.rest()) > len(body)


def test_a_client_that_does_not_go_after_the_last_answer_is_cut_off(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, LINGER_SECONDS=0.2)
    stage.serve(hello)
    client = stage.client()
    assert client.ask("GET / HTTP/1.0").status == 200
    eventually(lambda: len(own_threads()) == 1)


# Limits of number


class Slow:
    """An application that answers when a test lets it."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()

    def app(self, environ: Environ, start: Start) -> Iterable[bytes]:
        self.asked.release()
        assert self.go_on.wait(WITHIN)
        return hello(environ, start)

    def ask(self, client: Client) -> None:
        client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert self.asked.acquire(timeout=WITHIN)


def test_when_all_places_are_taken_one_that_waits_goes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, CONNECTIONS=3)
    slow = Slow()
    stage.serve(slow.app)
    working, *waiting = (stage.client() for _ in range(3))
    slow.ask(working)
    newer = []
    for _ in range(2):
        # One after the other: until its request has come it is one that waits as well.
        newer.append(stage.client())
        slow.ask(newer[-1])
    assert [client.rest() for client in waiting] == [b"", b""]
    slow.go_on.set()
    assert [client.reply().body for client in (working, *newer)] == [b"hello"] * 3
    assert stage.logged == []


class Place:
    """Who may be hung up."""

    def __init__(self, name: str, gone: list[str]) -> None:
        self._name = name
        self._gone = gone

    def hang_up(self) -> None:
        self._gone.append(self._name)


def test_one_that_is_admitted_keeps_its_place_until_its_thread_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, CONNECTIONS=2)
    gone: list[str] = []
    connections = Connections()
    first, second, third = (Place(name, gone) for name in "123")
    assert all(map(connections.admit, (first, second)))
    assert all(map(connections.wait, (second, first)))
    assert connections.admit(third)
    assert gone == ["1"]


def test_the_one_that_has_waited_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, CONNECTIONS=3)
    gone: list[str] = []
    connections = Connections()
    first, second, third, fourth, fifth, sixth = (Place(name, gone) for name in "123456")
    assert all(map(connections.admit, (first, second, third)))
    assert connections.work(first)
    assert connections.wait(first)
    assert connections.admit(fourth)
    assert gone == ["2"]
    # Sent away before its request was seen, it does not do it any more.
    assert not connections.work(second)
    assert not connections.wait(second)
    assert connections.work(third)
    assert connections.admit(fifth)
    assert connections.work(fourth)
    assert connections.work(fifth)
    assert gone == ["2", "1"]
    assert not connections.admit(sixth)
    assert not connections.spare_one()
    assert connections.wait(fourth)
    assert connections.spare_one()
    assert gone == ["2", "1", "4"]
    assert connections.admit(sixth)
    # Its thread takes its time: that is nobody's loss, and it is not hung up again.
    connections.leave(third)
    assert connections.admit(first := Place("7", gone))
    assert connections.work(first)
    assert gone == ["2", "1", "4"]


def test_one_that_drips_its_head_is_no_better_than_one_that_waits(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, CONNECTIONS=1)
    stage.serve(hello)
    slow = stage.client()
    slow.send(b"GET / HTTP/1.1\r\nHost")
    assert stage.asking().status == 200
    assert slow.rest() == b""


def test_when_everybody_is_being_answered_a_new_one_is_told_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, CONNECTIONS=2)
    slow = Slow()
    stage.serve(slow.app)
    clients = [stage.client() for _ in range(2)]
    for client in clients:
        slow.ask(client)
    for _ in range(3):
        refused = stage.client()
        reply = refused.ask()
        assert (reply.status, reply.error, refused.rest()) == (503, "no_place", b"")
    assert stage.logged == ["warning no place for a connection {'limit': 2}"]
    slow.go_on.set()
    assert [client.reply().body for client in clients] == [b"hello", b"hello"]
    # Whoever has its answer is still being answered for a moment.
    eventually(lambda: stage.asking().status == 200)


def test_more_clients_than_can_be_told_are_cut_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch, CONNECTIONS=1, REFUSED=2, REFUSED_SECONDS=30)
    slow = Slow()
    stage.serve(slow.app)
    slow.ask(stage.client())
    before = len(os.listdir("/dev/fd"))
    clients = [stage.client() for _ in range(10)]
    assert [client.reply().status for client in clients] == [503] * 10
    for client in clients:
        client.close()
    eventually(lambda: len(os.listdir("/dev/fd")) <= before + 3)
    slow.go_on.set()


def test_without_a_thread_to_be_had_a_client_is_told_and_the_next_one_served(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.serve(hello)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        replies = [stage.asking() for _ in range(3)]
    assert [(reply.status, reply.error) for reply in replies] == [(503, "no_place")] * 3
    assert stage.logged == ["warning no thread for a connection {}"]
    assert stage.asking().status == 200


def test_a_server_that_gets_no_thread_of_its_own_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.server = Server(hello, "127.0.0.1", 0, print)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(OSError, match="no thread to be had"):
        stage.server.begin()


def all_descriptors() -> list[int]:
    """Every descriptor that is to be had."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    return taken


def test_when_descriptors_run_out_an_idle_client_gives_its_own_and_nothing_spins(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch, SHORT_SECONDS=0.05)
    stage.serve(hello)
    idle = stage.client()
    assert idle.ask().status == 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    late = socket.socket()
    late.settimeout(WITHIN)
    before = time.process_time()
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 1, hard))
        taken = all_descriptors()
        late.connect(stage.server.address)
        late.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert late.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        late.close()
        for descriptor in taken:
            os.close(descriptor)
    assert idle.rest() == b""
    assert time.process_time() - before < 1
    assert stage.logged == [f"warning cannot accept connections {{'detail': '{os.strerror(errno.EMFILE)}'}}"]


# Many clients at once


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


POST = b"POST /body HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n"
GET = b"GET %b HTTP/1.1\r\nHost: here\r\n\r\n"


def various(environ: Environ, start: Start) -> Iterable[bytes]:
    match environ["PATH_INFO"]:
        case "/body":
            return echo(environ, start)
        case "/large":
            return answering("200 OK", pieces=[LARGE])(environ, start)
        case "/stream":
            return idle_stream(environ, start)
        case _:
            return hello(environ, start)


def idle_stream(environ: Environ, start: Start) -> Iterator[bytes]:
    start("200 OK", [])
    pace = threading.Event()
    while True:
        yield b""
        pace.wait(0.25)


class Crowd:
    """Slow clients of one kind or several, dripping from a thread of their own."""

    def __init__(self, stage: Stage) -> None:
        self.clients: list[Client] = []
        self._stage = stage
        self._dripping: list[Client] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._drip)
        self._thread.start()

    def add(self, kind: str, count: int) -> None:
        for _ in range(count):
            client = self._stage.client(takes_little=kind == "not reading")
            client.send(self._opening(kind))
            self.clients.append(client)
            if kind.startswith("dripping"):
                client.socket.setblocking(False)
                self._dripping.append(client)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _opening(self, kind: str) -> bytes:
        return {
            "silent": b"",
            "idle": GET % b"/",
            "dripping its head": b"GET / HTTP/1.1\r\nX: ",
            "dripping its body": POST,
            "not reading": GET % b"/large",
            "listening": GET % b"/stream",
        }[kind]

    def _drip(self) -> None:
        while not self._is_over.wait(0.1):
            for client in tuple(self._dripping):
                with contextlib.suppress(OSError):
                    client.socket.send(b"x")


@pytest.fixture
def crowd(stage: Stage, many_descriptors: None) -> Iterator[Crowd]:
    crowd = Crowd(stage)
    yield crowd
    crowd.close()


LONGEST_SECONDS = 5.0
"""Whoever waits for a slow client waits ten seconds or more; this leaves room for a busy machine."""


def seconds_of(ask: Callable[[], Reply], count: int = 100) -> list[float]:
    """How long each of so many requests takes, the longest last."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert ask().body == b"hello"
        taken.append(time.monotonic() - began)
    return sorted(taken)


@pytest.mark.parametrize(
    "kind", ["silent", "idle", "dripping its head", "dripping its body", "not reading", "listening"]
)
def test_two_hundred_slow_clients_delay_nobody(stage: Stage, crowd: Crowd, kind: str) -> None:
    stage.serve(various)
    crowd.add(kind, 200)
    eventually(lambda: len(own_threads()) == 201)
    client = stage.client()
    for taken in (seconds_of(client.ask), seconds_of(stage.asking)):
        assert median(taken) < 0.05, taken
        assert taken[-1] < LONGEST_SECONDS, taken
    # They were there all the time.
    assert len(own_threads()) >= 201
    assert stage.logged == []


def test_slow_clients_of_every_kind_keep_nobody_out(stage: Stage, crowd: Crowd) -> None:
    """More than there are places, and more of those that may stay than of others."""
    stage.serve(various)
    for kind in ("silent", "dripping its head"):
        crowd.add(kind, 150)
    for kind in ("dripping its body", "not reading", "listening"):
        crowd.add(kind, 70)
    eventually(lambda: len(own_threads()) == limits.CONNECTIONS + 1, lambda: len(own_threads()))
    taken = seconds_of(stage.asking)
    assert median(taken) < 0.05, taken
    assert taken[-1] < LONGEST_SECONDS, taken
    assert stage.logged == []


@pytest.mark.parametrize(
    "kind", ["silent", "idle", "dripping its head", "dripping its body", "not reading", "listening"]
)
def test_closing_takes_no_longer_for_all_the_places_there_are(stage: Stage, crowd: Crowd, kind: str) -> None:
    stage.serve(various)
    crowd.add(kind, limits.CONNECTIONS)
    eventually(lambda: len(own_threads()) == limits.CONNECTIONS + 1)
    began = time.monotonic()
    stage.server.close()
    assert time.monotonic() - began < LONGEST_SECONDS
    wait_until(lambda: not own_threads(), LONGEST_SECONDS, own_threads)
    with pytest.raises(ConnectionRefusedError):
        stage.client()


def test_closing_does_not_wait_for_an_application_that_does_not_answer(stage: Stage) -> None:
    slow = Slow()
    server = stage.serve(slow.app)
    client = stage.client()
    slow.ask(client)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < LONGEST_SECONDS
    assert client.rest() == b""
    slow.go_on.set()


def test_closing_lets_an_answer_under_way_be_finished(stage: Stage) -> None:
    def close() -> None:
        stage.server.close()

    closing = threading.Thread(target=close)

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        closing.start()
        wait_until(environ["procclaw.connection"].is_over, WITHIN, lambda: "")
        return hello(environ, start)

    stage.serve(app)
    client = stage.client()
    assert (client.ask().body, client.rest()) == (b"hello", b"")
    closing.join(WITHIN)


def test_a_server_closes_twice_or_without_having_begun(stage: Stage) -> None:
    stage.server = Server(hello, "127.0.0.1", 0, print)
    stage.server.close()
    stage.server.close()
    with pytest.raises(ConnectionRefusedError):
        stage.client()


# Clients that break off


def test_a_client_may_break_off_at_any_byte(stage: Stage) -> None:
    request = b"POST /body HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nbody" + GET % b"/large"
    stage.serve(various)
    for length in range(len(request) + 1):
        for leave in (Client.close, Client.reset):
            client = stage.client()
            client.send(request[:length])
            leave(client)
    assert stage.asking().body == b"hello"
    eventually(lambda: len(own_threads()) == 1, own_threads)
    assert stage.logged == []


def test_a_client_may_send_anything(stage: Stage) -> None:
    stage.serve(hello)
    clients = []
    for seed in range(100):
        client = stage.client()
        client.send(bytes((seed * each * each + each) % 256 for each in range(2000)))
        clients.append(client)
    for client in clients:
        assert client.reply().status == 400
        assert client.rest() == b""
    assert stage.logged == []


# Addresses


@pytest.mark.parametrize(("host", "wanted"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", "127.0.0.1")])
def test_the_server_can_be_reached_where_it_was_told_to_listen(stage: Stage, host: str, wanted: str) -> None:
    server = stage.serve(hello, host)
    assert server.address[0] == wanted
    assert server.address[1] > 0
    for address in server.addresses:
        with contextlib.closing(Client(address)) as client:
            assert client.ask().body == b"hello"


def test_a_name_with_several_addresses_is_served_at_all_of_them(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: both)
    server = stage.serve(hello, "both")
    port = server.address[1]
    assert server.addresses == (("127.0.0.1", port), ("::1", port))
    for address in server.addresses:
        with contextlib.closing(Client(address)) as client:
            assert client.ask().body == b"hello"


def test_an_address_that_the_machine_does_without_is_passed_over_if_there_is_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An address set aside for documentation, which nobody has; bound nowhere, so that no test talks to it.
    missing = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    there = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))
    bind = socket.socket.bind

    class Lacking(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET:
                raise OSError(errno.EADDRNOTAVAIL, "not here")
            bind(self, address)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Lacking)
        patched.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [missing, there])
        stage.serve(hello, "some")
        patched.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [missing])
        with pytest.raises(OSError, match="not here"):
            Server(hello, "none", 0, print)
    assert [host for host, _ in stage.server.addresses] == ["::1"]


def test_a_port_that_is_taken_is_refused_and_free_again_at_once(stage: Stage) -> None:
    first = stage.serve(hello)
    client = stage.client()
    assert client.ask().status == 200
    with pytest.raises(OSError, match="in use"):
        Server(hello, *first.address, print)
    first.close()
    second = Server(hello, *first.address, print)
    second.begin()
    assert stage.asking().body == b"hello"
    second.close()


def test_a_server_that_cannot_be_made_leaves_its_port_free(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage.serve(hello)
    first.close()

    def fail() -> None:
        raise OSError(errno.EMFILE, "no more")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socketpair", fail)
        with pytest.raises(OSError, match="no more"):
            Server(hello, *first.address, print)
    Server(hello, *first.address, print).close()


@pytest.mark.parametrize("host", ["a..b", "x" * 300])
def test_a_host_that_is_none_is_refused_as_an_address_that_cannot_be_had(stage: Stage, host: str) -> None:
    stage.serve(hello)
    with pytest.raises(OSError, match="host"):
        Server(hello, host, 0, print)


# Other processes


EVERYWHERE = r"""
import socket, sys
sys.path.insert(0, sys.argv[1])
from procclaw.interface.api.serving.server import Server

def app(environ, start):
    start("200 OK", [])
    return [repr((environ["procclaw.local"], environ["procclaw.peer"])).encode()]

for host, reached in (("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::", "127.0.0.1")):
    server = Server(app, host, 0, print)
    server.begin()
    with socket.create_connection((reached, server.address[1]), 10) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        local, peer = eval(client.makefile("rb").read().partition(b"\r\n\r\n")[2])
        print(host, reached, local[0], peer == client.getsockname()[:2])
    server.close()
"""


@pytest.mark.real
def test_a_server_may_listen_everywhere() -> None:
    argv = [sys.executable, "-c", EVERYWHERE, ROOT]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "0.0.0.0 127.0.0.1 127.0.0.1 True",
        ":: ::1 ::1 True",
        ":: 127.0.0.1 ::ffff:127.0.0.1 False",
    ]


@pytest.mark.real
def test_no_socket_is_left_to_a_child(stage: Stage, reaper: Reaper) -> None:
    stage.serve(hello, "localhost")
    clients = [stage.client() for _ in range(3)]
    for client in clients:
        assert client.ask().status == 200
        client.socket.set_inheritable(False)
    child = reaper.spawn(["ls", "-l", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE, text=True)
    listed, _ = child.communicate(timeout=WITHIN)
    assert "pipe:" in listed
    assert "socket:" not in listed
