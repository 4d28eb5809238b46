"""Requests and answers on one connection: bodies, streams, the rules of WSGI, and an application that breaks them."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.support import wait_until
from tests.webstage import (
    JSON,
    WITHIN,
    App,
    Client,
    Environ,
    Stage,
    Start,
    a_stage,
    answering,
    echo,
    eventually,
    hello,
    own_threads,
)


@pytest.fixture
def stage(capfd: pytest.CaptureFixture[str]) -> Iterator[Stage]:
    with a_stage(capfd) as stage:
        yield stage


# One connection


def test_a_connection_serves_one_request_after_another(stage: Stage) -> None:
    stage.serve(echo)
    client = stage.client()
    for body in (b"one", b"", b"three" * 100_000):
        reply = client.ask("POST / HTTP/1.1", body=body)
        assert (reply.status, reply.body) == (200, body)
        assert "connection" not in reply.fields
        assert reply.fields["date"].endswith(" GMT")


def test_requests_sent_without_waiting_are_answered_in_their_order(stage: Stage) -> None:
    stage.serve(echo)
    client = stage.client()
    client.send(b"".join(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(9)))
    assert [client.reply().body for _ in range(9)] == [b"%d" % n for n in range(9)]


def test_a_client_that_has_said_its_last_still_gets_its_answers(stage: Stage) -> None:
    stage.serve(hello)
    client = stage.client()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 2)
    client.socket.shutdown(socket.SHUT_WR)
    assert [client.reply().body, client.reply().body, client.rest()] == [b"hello", b"hello", b""]


@pytest.mark.parametrize("line", ["GET / HTTP/1.0", "GET / HTTP/1.1"])
def test_a_connection_is_closed_when_the_client_wants_it(stage: Stage, line: str) -> None:
    stage.serve(hello)
    client = stage.client()
    reply = client.ask(line, *([] if line.endswith("0") else ["Connection: close"]))
    assert (reply.body, reply.fields["connection"], client.rest()) == (b"hello", "close", b"")


def test_http_1_0_keeps_a_connection_when_it_asks_for_that(stage: Stage) -> None:
    stage.serve(hello)
    client = stage.client()
    for _ in range(2):
        assert client.ask("GET / HTTP/1.0", "Connection: keep-alive").fields["connection"] == "keep-alive"


def test_head_is_answered_with_the_fields_of_get_and_nothing_else(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [JSON])
        return [b"hello"] if environ["PATH_INFO"] == "/whole" else iter([b"hel", b"lo"])

    stage.serve(app)
    client = stage.client()
    assert client.ask("HEAD /whole HTTP/1.1").fields["content-length"] == "5"
    assert "content-length" not in client.ask("HEAD /stream HTTP/1.1").fields
    assert client.ask("GET /stream HTTP/1.1").body == b"hello"


def test_head_is_refused_without_a_body(stage: Stage) -> None:
    stage.serve(crash)
    client = stage.client()
    assert client.ask("HEAD / HTTP/1.1").status == 500
    assert client.rest() == b""


def test_a_date_of_the_applications_own_is_left_alone(stage: Stage) -> None:
    stage.serve(answering("200 OK", ("date", "Thu, 01 Jan 1970 00:00:00 GMT")))
    assert stage.asking().fields["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_a_head_request_for_an_endless_stream_ends_it(stage: Stage) -> None:
    ended = threading.Event()

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"on and on"
        finally:
            ended.set()

    stage.serve(app)
    client = stage.client()
    assert client.ask("HEAD / HTTP/1.1").status == 200
    assert ended.wait(WITHIN)
    assert client.ask("HEAD / HTTP/1.1").status == 200


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_has_none(stage: Stage, status: str) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start(status, [("ETag", '"1"')])
        return []

    stage.serve(app)
    client = stage.client()
    for _ in range(2):
        reply = client.ask()
        assert (reply.status, reply.fields["etag"]) == (int(status[:3]), '"1"')
        assert not {"content-length", "transfer-encoding", "connection"} & reply.fields.keys()


def test_what_was_asked_is_described_as_wsgi_has_it(stage: Stage) -> None:
    seen: Environ = {}

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        seen.update(environ)
        return echo(environ, start)

    server = stage.serve(app)
    client = stage.client()
    fields = ("X-Thing: one", "x-thing: two", "X_Thing: disguised", "Content-Type: a/b", "Referer: caf\xe9")
    client.ask("POST /a%2Fb/%C3%A9?c=%20d HTTP/1.1", *fields, body=b"body")
    wanted = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b/\xc3\xa9",
        "QUERY_STRING": "c=%20d",
        "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "4",
        "HTTP_HOST": "here",
        "HTTP_X_THING": "one, two",
        "HTTP_REFERER": "caf\xe9",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.address[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "procclaw.local": server.address,
        "procclaw.peer": client.socket.getsockname(),
    }
    assert {name: seen.get(name) for name in wanted} == wanted
    assert "HTTP_CONTENT_LENGTH" not in seen


# The body of a request


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (lambda given: [given.read()], [b"one\ntwo\nthree"]),
        (lambda given: [given.read(-1), given.read()], [b"one\ntwo\nthree", b""]),
        (lambda given: [given.read(5), given.read(100), given.read(1)], [b"one\nt", b"wo\nthree", b""]),
        (lambda given: [given.readline(), given.readline(), given.read()], [b"one\n", b"two\n", b"three"]),
        (lambda given: given.readlines(), [b"one\n", b"two\n", b"three"]),
        (list, [b"one\n", b"two\n", b"three"]),
    ],
)
def test_a_body_can_be_read_in_every_way(stage: Stage, read: Callable[[Any], list[bytes]], wanted: list[bytes]) -> None:
    seen: list[bytes] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            seen.extend(read(environ["wsgi.input"]))
        return hello(environ, start)

    stage.serve(app)
    client = stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 13\r\n\r\none\ntw")
    client.send(b"o\nthreeGET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert client.reply().status == 200
    assert seen == wanted
    assert client.reply().status == 200


def test_a_client_that_waits_to_be_told_sends_its_body_when_it_is_wanted(stage: Stage) -> None:
    stage.serve(echo)
    client = stage.client()
    for _ in range(2):
        client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.reply().status == 100
        client.send(b"body")
        reply = client.reply()
        assert (reply.status, reply.body) == (200, b"body")


def test_a_client_that_waits_to_be_told_is_refused_without_having_to_send_its_body(stage: Stage) -> None:
    stage.serve(hello)
    client = stage.client()
    client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
    assert client.reply().fields["connection"] == "close"
    assert client.rest() == b""


def test_http_1_0_is_never_told_to_go_on(stage: Stage) -> None:
    stage.serve(echo)
    assert stage.asking("POST / HTTP/1.0", "Expect: 100-continue", body=b"body").body == b"body"


def test_a_body_that_nobody_read_is_not_taken_for_a_request(stage: Stage) -> None:
    asked: list[str] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        asked.append(environ["PATH_INFO"])
        return hello(environ, start)

    stage.serve(app)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"
    client = stage.client()
    for path in ("/1", "/2"):
        assert client.ask(f"POST {path} HTTP/1.1", body=smuggled).status == 200
    # One that has not come yet is not waited for either.
    client.send(b"POST /3 HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n")
    assert client.reply().fields["connection"] == "close"
    client.send(smuggled)
    assert client.rest() == b""
    assert asked == ["/1", "/2", "/3"]


def test_a_body_kept_by_the_application_does_not_reach_into_the_next_request(stage: Stage) -> None:
    kept: list[Any] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        kept.append(environ["wsgi.input"])
        start("200 OK", [])
        return [b"".join(given.read() for given in kept)]

    stage.serve(app)
    client = stage.client()
    client.send(b"".join(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(3)))
    assert [client.reply().body for _ in range(3)] == [b"0", b"1", b"2"]


# What is kept for a connection


def test_what_is_kept_for_a_connection_ends_with_it_in_its_own_thread(stage: Stage) -> None:
    ended: list[tuple[str, int]] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        connection = environ["procclaw.connection"]
        if "thread" not in connection.kept:
            connection.kept["thread"] = threading.get_ident()
            for name in ("first", "second"):
                connection.on_close(lambda name=name: ended.append((name, threading.get_ident())))
        start("200 OK", [])
        return [str(connection.kept["thread"]).encode()]

    stage.serve(app)
    client, other = stage.client(), stage.client()
    threads = [int(each.ask().body) for each in (client, client, other)]
    assert threads[0] == threads[1] != threads[2]
    client.close()
    eventually(lambda: len(ended) == 2)
    assert ended == [("second", threads[0]), ("first", threads[0])]


def test_what_fails_at_the_end_of_a_connection_is_logged_and_the_rest_goes_on(stage: Stage) -> None:
    ended = threading.Event()

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        environ["procclaw.connection"].on_close(ended.set)
        environ["procclaw.connection"].on_close([].pop)
        environ["procclaw.connection"].on_close(sys.exit)
        return hello(environ, start)

    stage.serve(app)
    stage.asking()
    assert ended.wait(WITHIN)
    assert all("end of connection failed" in line for line in stage.logged)
    assert ["SystemExit" in stage.logged[0], "pop from empty list" in stage.logged[1]] == [True, True]


def test_an_application_sees_that_its_client_has_left(stage: Stage) -> None:
    seen: list[bool] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        connection = environ["procclaw.connection"]
        seen.append(connection.is_over())
        client.close()
        wait_until(connection.is_over, WITHIN, lambda: "")
        seen.append(True)
        return hello(environ, start)

    stage.serve(app)
    client = stage.client()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    eventually(lambda: len(seen) == 2)
    assert seen == [False, True]


def test_a_reset_connection_is_told_from_one_that_is_up(stage: Stage) -> None:
    seen: list[bool] = []

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        connection = environ["procclaw.connection"]
        seen.append(connection.is_connected())
        client.reset()
        wait_until(lambda: not connection.is_connected(), WITHIN, lambda: "")
        seen.append(True)
        return hello(environ, start)

    stage.serve(app)
    client = stage.client()
    # With more on its way, so that nothing but the reset tells.
    client.send(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nunread")
    eventually(lambda: len(seen) == 2)
    assert seen == [True, True]


# Streams


def test_each_piece_of_a_stream_is_sent_as_it_comes(stage: Stage) -> None:
    go_on = threading.Semaphore(0)

    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/event-stream")])
        for piece in (b"one", b"two", b"", b"", b"three"):
            yield piece
            assert not piece or go_on.acquire(timeout=WITHIN)

    stage.serve(app)
    client = stage.client()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    status, fields = client.head()
    assert (status, fields["transfer-encoding"], fields.get("content-length")) == (200, "chunked", None)
    for piece in (b"one", b"two", b"three"):
        assert client.piece() == piece
        go_on.release()
    assert client.piece() == b""
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert client.head()[0] == 200
    go_on.release(3)


def test_http_1_0_gets_a_stream_as_it_is(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [])
        return iter([b"one", b"", b"two"])

    stage.serve(app)
    reply = stage.asking("GET / HTTP/1.0", "Connection: keep-alive")
    assert (reply.body, reply.fields["connection"]) == (b"onetwo", "close")
    assert "transfer-encoding" not in reply.fields


def test_pieces_of_an_announced_length_are_sent_as_they_are(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "6")])
        return iter([b"one", b"", b"two"])

    stage.serve(app)
    client = stage.client()
    assert [client.ask().body for _ in range(2)] == [b"onetwo", b"onetwo"]


class Idle:
    """A stream that has something to say once, and then looks now and again whether there is more."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.by = 0
        self._pace = threading.Event()

    def app(self, environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            yield b"begun"
            while True:
                self._pace.wait(0.05)
                yield b""
        finally:
            self.by = threading.get_ident()
            self.ended.set()


@pytest.mark.parametrize("leave", [Client.close, Client.reset, lambda client: client.socket.shutdown(socket.SHUT_WR)])
def test_an_idle_stream_is_closed_soon_after_its_client_has_left(stage: Stage, leave: Callable[[Client], None]) -> None:
    idle = Idle()
    stage.serve(idle.app)
    client = stage.client()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert client.head()[0] == 200
    assert client.piece() == b"begun"
    assert not idle.ended.is_set()
    leave(client)
    assert idle.ended.wait(WITHIN)
    eventually(lambda: stage.logged == [])


def test_an_idle_stream_is_closed_soon_after_the_server_closes(stage: Stage) -> None:
    idle = Idle()
    stage.serve(idle.app)
    client = stage.client()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert client.head()[0] == 200
    assert client.piece() == b"begun"
    began = time.monotonic()
    stage.server.close()
    assert idle.ended.wait(WITHIN)
    assert time.monotonic() - began < 5
    assert client.rest() == b""


def test_a_busy_stream_is_closed_when_its_client_has_left(stage: Stage) -> None:
    ended = threading.Event()

    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"x" * 1000
        finally:
            ended.set()

    stage.serve(app)
    client = stage.client()
    client.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert client.head()[0] == 200
    assert client.piece() == b"x" * 1000
    client.close()
    assert ended.wait(WITHIN)
    eventually(lambda: len(own_threads()) == 1)
    assert stage.logged == []


# The rules of WSGI


def test_an_answer_can_be_replaced_until_it_has_begun(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [("X-Old", "1")])
        try:
            raise ValueError
        except ValueError:
            start("409 Conflict", [("X-New", "1")], sys.exc_info())
        return [b"sorry"]

    stage.serve(app)
    reply = stage.asking()
    assert (reply.status, reply.body, "x-old" in reply.fields) == (409, b"sorry", False)


def test_what_replaces_an_answer_that_has_begun_breaks_it_off(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"begun"
        try:
            raise ValueError("too late")
        except ValueError:
            start("500 Internal Server Error", [], sys.exc_info())
        yield b"never"

    stage.serve(app)
    with pytest.raises(EOFError):
        stage.asking()
    eventually(lambda: stage.logged)
    assert "too late" in stage.logged[0]


def test_an_application_may_write_instead_of_returning(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        write = start("200 OK", [])
        write(b"one")
        write(b"")
        return [b"two"]

    stage.serve(app)
    assert stage.asking().body == b"onetwo"


def test_what_an_application_says_of_its_troubles_is_logged(stage: Stage) -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        print("something odd", file=environ["wsgi.errors"], flush=True)
        return hello(environ, start)

    stage.serve(app)
    assert stage.asking().status == 200
    assert stage.logged == ["error said while answering a request {'detail': 'something odd'}"]


class Closing:
    """An answer that must be closed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.closed = 0
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        self.closed += 1


def fails() -> Iterator[bytes]:
    yield b""
    raise ValueError("in the middle")


@pytest.mark.parametrize(("pieces", "status"), [([b"one", b"two"], 200), ([], 200), (fails(), 500)])
def test_an_answer_is_closed_once_whatever_became_of_it(stage: Stage, pieces: Iterable[bytes], status: int) -> None:
    result = Closing(pieces)

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [])
        return result

    stage.serve(app)
    assert stage.asking().status == status
    eventually(lambda: len(own_threads()) == 1)
    assert result.closed == 1


# Errors of the application


def crash(environ: Environ, start: Start) -> Iterable[bytes]:
    raise ValueError("the pass" + "word is 12345")


def leave(environ: Environ, start: Start) -> Iterable[bytes]:
    sys.exit(3)


def crash_after_start(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    return fails()


def no_start(environ: Environ, start: Start) -> Iterable[bytes]:
    return [b"hello"]


def two_starts(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    return hello(environ, start)


@pytest.mark.parametrize(
    "app",
    [
        crash,
        leave,
        crash_after_start,
        no_start,
        two_starts,
        answering("200 OK", pieces=["text"]),
        answering("200 OK", pieces="text"),
        answering("200 OK", pieces=b"bytes"),
        answering("200 OK", pieces=None),
        answering("200 OK", ("Content-Length", "4")),
        answering("200 OK", ("Content-Length", "6")),
        answering("200 OK", ("Content-Length", "4"), pieces=iter([b"hello"])),
        answering("200 OK", ("Content-Length", "x")),
        answering("200 OK", ("Content-Length", "5"), ("content-length", "5")),
        answering("200"),
        answering("OK"),
        answering("100 Continue"),
        answering("200 OK\r\nX-Injected: 1"),
        answering("200 OK", ("Location", "secret\r\nX-Injected: 1")),
        answering("200 OK", ("Location", "secret\nX-Injected: 1")),
        answering("200 OK", ("Location", "secret\rX-Injected: 1")),
        answering("200 OK", ("Location", "secret\0")),
        answering("200 OK", ("Location", "secret\u2028")),
        answering("200 OK", ("X-Injected: 1\r\nX", "1")),
        answering("200 OK", ("X Y", "1")),
        answering("200 OK", ("", "1")),
        answering("200 OK", ("X\xe9", "1")),
        answering("200 OK", ("X", 1)),
        answering("200 OK", ("X", b"1")),
        answering("200 OK", ("Connection", "keep-alive")),
        answering("200 OK", ("Transfer-Encoding", "chunked")),
    ],
)
def test_an_error_of_the_application_is_told_to_the_log_and_not_to_the_client(stage: Stage, app: App) -> None:
    def mostly(environ: Environ, start: Start) -> Iterable[bytes]:
        return app(environ, start) if environ["PATH_INFO"] == "/bad" else hello(environ, start)

    stage.serve(mostly)
    client = stage.client()
    assert client.ask().status == 200
    reply = client.ask("POST /bad?token=secret HTTP/1.1", "Authorization: secret")
    assert (reply.status, reply.error, reply.fields["connection"]) == (500, "internal", "close")
    assert set(reply.fields) == {
        "content-type",
        "cache-control",
        "x-content-type-options",
        "content-length",
        "connection",
    }
    assert b"Traceback" not in reply.body
    assert b"12345" not in reply.body
    [line] = stage.logged
    assert "error request failed, a bug in ProcClaw {'method': 'POST', 'path': '/bad'" in line
    assert "Traceback" in line
    assert "secret" not in line
    assert client.rest() == b""
    assert stage.asking().status == 200


@pytest.mark.parametrize("fields", [[], [("Content-Length", "100")]])
def test_an_answer_that_fails_when_it_has_begun_is_seen_to_be_incomplete(
    stage: Stage, fields: list[tuple[str, str]]
) -> None:
    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", fields)
        yield b"one"
        if environ["PATH_INFO"] == "/crash":
            raise ValueError
        if fields:
            return
        yield "text"  # type: ignore[misc]

    stage.serve(app)
    for path in ("/crash", "/other"):
        with pytest.raises(EOFError):
            stage.asking(f"GET {path} HTTP/1.1")
    eventually(lambda: len(stage.logged) == 2)
