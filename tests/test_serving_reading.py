"""The head of a request, byte by byte: what is taken, and what is refused because it could be taken in two ways."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.reading import Head, head_length, parse_head
from procclaw.interface.api.serving.refusing import Refused

HOST = b"Host: here\r\n"


def read(received: bytes, pieces: int | None = None) -> Head:
    """As the server does it; in pieces of so many bytes."""
    so_far = bytearray()
    known = 0
    for at in range(0, len(received), pieces or len(received) or 1):
        so_far += received[at : at + (pieces or len(received) or 1)]
        length = head_length(so_far, known)
        known = len(so_far)
        if length is not None:
            return parse_head(bytes(so_far[:length]))
    raise EOFError


def a_head(line: bytes = b"GET / HTTP/1.1", *fields: bytes, host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def refusal(received: bytes, pieces: int | None = None) -> tuple[str, str]:
    """Status and code."""
    with pytest.raises(Refused) as refused:
        read(received, pieces)
    return refused.value.status[:3], json.loads(refused.value.body)["error"]["code"]


def test_a_head_is_taken_apart() -> None:
    fields = (
        b"Content-Length: 5",
        b"X-Thing:  two words \t",
        b"x-thing: more",
        b"Cookie: a=1",
        b"cookie: b=2",
        b"Empty:",
    )
    assert read(a_head(b"POST /a%20b/%C3%A9?q=%20 HTTP/1.1", *fields)) == Head(
        method="POST",
        path="/a b/\xc3\xa9",
        query="q=%20",
        is_old=False,
        fields={
            "host": "here",
            "content-length": "5",
            "x-thing": "two words, more",
            "cookie": "a=1; b=2",
            "empty": "",
        },
        length=5,
        keeps_alive=True,
    )


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
def test_a_head_may_come_in_pieces(pieces: int) -> None:
    head = a_head(b"GET /x HTTP/1.1", b"A: 1", b"B: 2")
    assert read(head, pieces) == read(head)
    with pytest.raises(EOFError):
        read(head[:-1], pieces)


def test_what_follows_a_head_does_not_matter_to_it() -> None:
    head = a_head()
    assert head_length(bytearray(head + b"\0\n\r\x16 body"), 0) == len(head)


@pytest.mark.parametrize(
    ("line", "connection", "keeps_alive"),
    [
        (b"GET / HTTP/1.1", None, True),
        (b"GET / HTTP/1.1", b"close", False),
        (b"GET / HTTP/1.1", b"Upgrade, CLOSE", False),
        (b"GET / HTTP/1.2", None, True),
        (b"GET / HTTP/1.0", None, False),
        (b"GET / HTTP/1.0", b"Keep-Alive", True),
        (b"GET / HTTP/1.0", b"keep-alive, close", False),
    ],
)
def test_whether_another_request_may_follow(line: bytes, connection: bytes | None, keeps_alive: bool) -> None:
    fields = [] if connection is None else [b"Connection: " + connection]
    assert read(a_head(line, *fields)).keeps_alive is keeps_alive


def test_http_1_0_needs_no_host() -> None:
    assert read(a_head(b"GET / HTTP/1.0", host=b"")).is_old


@pytest.mark.parametrize("host", [b"here:8080", b"127.0.0.1:1", b"[::1]:9090", b"[::1]", b"", b"a-b.example.", b"x:"])
def test_a_host_is_a_name_or_an_address_and_a_port(host: bytes) -> None:
    assert read(a_head(host=b"Host: " + host + b"\r\n")).fields["host"] == host.decode()


BAD = ("400", "bad_request")


@pytest.mark.parametrize(
    ("received", "wanted"),
    [
        # The request line.
        (b"\r\n\r\n", BAD),
        (b"\r\n" + a_head(), BAD),
        (a_head(b"GET /"), BAD),
        (a_head(b"GET  / HTTP/1.1"), BAD),
        (a_head(b"GET / HTTP/1.1 "), BAD),
        (a_head(b" GET / HTTP/1.1"), BAD),
        (a_head(b"GET\t/ HTTP/1.1"), BAD),
        (a_head(b"GET / http/1.1"), BAD),
        (a_head(b"GET / HTTP/1.10"), BAD),
        (a_head(b"GET / HTTP/11"), BAD),
        (a_head(b"GET / x HTTP/1.1"), BAD),
        (a_head(b"G(T / HTTP/1.1"), BAD),
        (a_head(b"GET /\xe9 HTTP/1.1"), BAD),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ("505", "version_not_supported")),
        (a_head(b"GET / HTTP/0.9"), ("505", "version_not_supported")),
        # The path.
        (a_head(b"GET http://here/ HTTP/1.1"), BAD),
        (a_head(b"OPTIONS * HTTP/1.1"), BAD),
        (a_head(b"GET x HTTP/1.1"), BAD),
        (a_head(b"GET /#x HTTP/1.1"), BAD),
        (a_head(b"GET /%4 HTTP/1.1"), BAD),
        (a_head(b"GET /%zz HTTP/1.1"), BAD),
        (a_head(b"GET /%00 HTTP/1.1"), BAD),
        (a_head(b"GET /%0d%0aX:%20y HTTP/1.1"), BAD),
        (a_head(b"GET /%7f HTTP/1.1"), BAD),
        # Fields.
        (a_head(b"GET / HTTP/1.1", b"A : 1"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: 1", b" folded"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: 1", b"\tfolded"), BAD),
        (a_head(b"GET / HTTP/1.1", b": nameless"), BAD),
        (a_head(b"GET / HTTP/1.1", b"nothing"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A(: 1"), BAD),
        (a_head(b"GET / HTTP/1.1", b"\xe9: 1"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: 1\0"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: \x1b[2J"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: \x7f"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: 1\nB: 2"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: 1\rB: 2"), BAD),
        (a_head(b"GET / HTTP/1.1", b"A: 1\r"), BAD),
        (b"GET / HTTP/1.1\nHost: here\n\n", BAD),
        (b"GET / HTTP/1.1\r\nHost: here\r\n\n", BAD),
        # The host.
        (a_head(host=b""), BAD),
        (a_head(b"GET / HTTP/1.1", b"Host: here"), BAD),
        (a_head(b"GET / HTTP/1.0", b"Host: there"), BAD),
        (a_head(host=b"Host: here, there\r\n"), BAD),
        (a_head(host=b"Host: me@here\r\n"), BAD),
        (a_head(host=b"Host: here/x\r\n"), BAD),
        (a_head(host=b"Host: here:80:90\r\n"), BAD),
        (a_head(host=b"Host: ::1\r\n"), BAD),
        # The body.
        (a_head(b"POST / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"), ("411", "length_required")),
        (a_head(b"POST / HTTP/1.1", b"Transfer-Encoding: identity"), ("411", "length_required")),
        (a_head(b"POST / HTTP/1.0", b"Transfer-Encoding:"), ("411", "length_required")),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: 1", b"Content-Length: 2"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: 1", b"content-length: 1"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: 1, 1"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: +1"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: -1"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: 1_0"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: 0x1"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: \xb2"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length:"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: " + b"9" * 30_000), ("413", "too_large")),
        (a_head(b"POST / HTTP/1.1", b"Content-Length: %d" % (limits.BODY_BYTES + 1)), ("413", "too_large")),
        # What decides who may.
        (a_head(b"GET / HTTP/1.1", b"Authorization: a", b"Authorization: b"), BAD),
        (a_head(b"GET / HTTP/1.1", b"Origin: a", b"Origin: b"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Content-Type: a/b", b"Content-Type: c/d"), BAD),
        (a_head(b"POST / HTTP/1.1", b"Expect: 200-ok"), ("417", "expectation_failed")),
    ],
)
def test_what_is_no_clear_request_is_refused(received: bytes, wanted: tuple[str, str]) -> None:
    assert refusal(received) == wanted


@pytest.mark.parametrize("received", [b"\x16\x03\x01", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rH", b"GET /\0"])
def test_what_cannot_become_a_request_is_refused_before_its_end(received: bytes) -> None:
    assert refusal(received) == refusal(received, 1) == BAD


def test_the_largest_body_may_have_zeros_before_its_length() -> None:
    length = b"Content-Length: %010d" % limits.BODY_BYTES
    assert read(a_head(b"POST / HTTP/1.1", length)).length == limits.BODY_BYTES


@pytest.mark.parametrize("pieces", [1, 4096, None])
def test_a_request_line_has_a_longest(pieces: int | None) -> None:
    longest = b"GET /" + b"a" * (limits.REQUEST_LINE_BYTES - len("GET / HTTP/1.1")) + b" HTTP/1.1"
    assert len(longest) == limits.REQUEST_LINE_BYTES
    assert read(a_head(longest), pieces).method == "GET"
    assert refusal(a_head(b"GET /a" + longest[5:]), pieces) == ("414", "uri_too_long")
    assert refusal(b"GET /" + b"a" * limits.REQUEST_LINE_BYTES, pieces) == ("414", "uri_too_long")


@pytest.mark.parametrize("pieces", [1000, None])
def test_a_head_has_a_largest_size(pieces: int | None) -> None:
    field = b"A: " + b"a" * (limits.HEAD_BYTES - len(a_head()) - len("A: \r\n"))
    assert len(a_head(b"GET / HTTP/1.1", field)) == limits.HEAD_BYTES
    assert read(a_head(b"GET / HTTP/1.1", field), pieces).method == "GET"
    assert refusal(a_head(b"GET / HTTP/1.1", field + b"a"), pieces) == ("431", "head_too_large")
    assert refusal(a_head()[:-2] + b"A: " + b"a" * limits.HEAD_BYTES, pieces) == ("431", "head_too_large")


def test_a_head_has_a_largest_number_of_fields() -> None:
    fields = [b"A: 1"] * (limits.FIELDS - 1)
    assert read(a_head(b"GET / HTTP/1.1", *fields)).method == "GET"
    assert refusal(a_head(b"GET / HTTP/1.1", *fields, b"A: 1")) == ("431", "head_too_large")


@given(st.lists(st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"\n", b"\r", b":", b"Host", b"\0", b"%0"])))
@example([b"GET / HTTP/1.1\r\nHost:", b"\r\n\r", b"\n"])
def test_in_how_many_pieces_bytes_come_does_not_change_what_they_are(pieces: list[bytes]) -> None:
    received = b"".join(pieces)

    def outcome(size: int | None) -> object:
        try:
            return read(received, size)
        except Refused as refused:
            return refused.status
        except EOFError:
            return None

    assert outcome(1) == outcome(2) == outcome(None)


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(received: bytes) -> None:
    try:
        read(a_head(b"GET / HTTP/1.1", b"A: " + received))
    except Refused as refused:
        assert refused.status[:3] in ("400", "411", "413", "417", "431")
