"""Requests to the HTTP interface of a running daemon, wrong in every place where a request can be wrong.

Each is answered, in the shape that is documented and without a word for programmers; one that is refused has changed
nothing; no secret is told, and nothing that a request says becomes a header of an answer or a line of a log.
"""

import contextlib
import json
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

from procclaw.interface.api.routes import LISTING, PREFIX, ROUTES, Route
from tests.breaking import TRACEBACK, Broken, Case, Ground, flipped, rubbish
from tests.driver import Driver, Job
from tests.httpclient import client_of
from tests.support import Reaper

SECRETS = ("hook-t0ken-c4n4ry", "hook-k3y-c4n4ry")
JOBS: Mapping[str, Job] = {
    "report": {"cmd": "true", "params": {"DAY": {"default": "today", "pattern": "[a-z]+"}}},
    "service": {"cmd": "exec sleep 1000", "type": "continuous", "shutdown": {"grace_period": 0.1}},
    "bad": {"cmd": "exit 3", "retry": {"enabled": False}},
    "hook": {"cmd": "true", "trigger": {"type": "webhook", "auth_token": SECRETS[0], "hmac_secret": SECRETS[1]}},
    "open_hook": {"cmd": "true", "trigger": {"type": "webhook"}},
}
WORKFLOWS: Mapping[str, Any] = {"nightly": {"type": "chain", "jobs": ["report", "bad"]}}
OTHER_PATHS = ("/", "/health", "/metrics", "/openapi.json", PREFIX + "jobs", "/nothing", PREFIX + "nothing", "//", "*")
TIMEOUT_SECONDS = 60.0
LOOK_AT_LOGS_EVERY = 20

IDS = (
    *("report", "service", "bad", "hook", "open_hook", "nightly", "nobody", "REPORT", "*", "+workflows", "daemon", "0"),
    *(
        "-1",
        "1",
        "99999999999999999999",
        "..",
        "../procclaw",
        "%2e%2e%2f",
        "%00",
        "report%00",
        "%FF",
        "%0d%0aX-Fuzz: 1",
    ),
    *("report%0aX-Fuzz:1", "a/b", "%25", "_", "x" * 300, "x" * 9000, "%F0%9F%A6%80", "%ED%A0%80", "' OR 1=1 --", "a b"),
)
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        1e308,
        10**30,
        -(2**63),
        "",
        "x",
        "report",
        "nobody",
        "\0",
        "\ud800",
        "\r\nX-Fuzz: 1",
    ),
    *("x" * 5000, "🦀", [], {}, [[]], [None], ["report"], ["report"] * 1500, {"a": "b"}, {"DAY": 1}, {"DAY": "a\nb"}),
    *(
        {"DAY": "monday"},
        {"DAY": "m" * 5000},
        {"X": "y"},
        "2030-01-01",
        "2030-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
    ),
    *("0001-01-01T00:00:00+14:00", "stop", "retry", {"__proto__": 1}, "${secret:X}"),
    *("; rm -rf /", [1, "report", None]),
)
MEANT: Mapping[str, Any] = {
    "params": {"DAY": "monday"},
    "jobs": ["report", "bad"],
    "callback": "report",
    "at": "2040-01-01T00:00:00Z",
    "until": "2040-01-01T00:00:00Z",
    "in_seconds": 1e9,
    "expires_seconds": 1,
    "on_failure": "continue",
    "timeout": 60,
    "force": True,
    "limit": 5,
    "lines": 5,
    "stream": "both",
    "offset": 1,
    "job": "report",
    "for_seconds": 60,
}
"""By field, what somebody might well say."""
HEADERS = (
    *(("Content-Type", "text/plain"), ("Content-Type", "application/json; charset=utf-16"), ("Content-Type", "")),
    *(
        ("Host", "evil.example"),
        ("Host", ""),
        ("Host", "localhost:1:2"),
        ("Host", "[::1"),
        ("Origin", "http://evil.example"),
    ),
    *(("Origin", "null"), ("Sec-Fetch-Site", "cross-site"), ("Accept", "text/event-stream"), ("Accept", "\xff")),
    *(("Authorization", "Bearer x"), ("Authorization", "Bearer"), ("Authorization", "\xe9" * 50), ("X-Fuzz", "a\tb")),
    *(("Idempotency-Key", "k1"), ("Idempotency-Key", ""), ("Idempotency-Key", "a b"), ("Idempotency-Key", "x" * 300)),
    *(("If-None-Match", "*"), ("If-None-Match", '"'), ("Content-Length", "-1"), ("Content-Length", "99999999999")),
    *(
        ("Content-Length", "5"),
        ("Content-Length", "1e3"),
        ("Transfer-Encoding", "chunked"),
        ("Transfer-Encoding", "gzip"),
    ),
    *(
        ("Expect", "100-continue"),
        ("Expect", "x"),
        ("Connection", "close"),
        ("Connection", "upgrade"),
        ("Upgrade", "h2c"),
    ),
    *(("X-Hub-Signature-256", "sha256=" + "0" * 64), ("X-Hub-Signature-256", "x"), ("Cookie", "a=" + "b" * 5000)),
    *(("X-Long", "x" * 40_000), (" Bad", "x"), ("Ba d", "x"), ("", "x"), ("X-Http-Method-Override", "DELETE")),
)
TAILS = ("/", "/..", "/%2e", "//x", "?", "#")
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "", "G E T", "\xff")
REFUSED = frozenset({400, 401, 403, 404, 405, 411, 413, 414, 415, 417, 431})
"""Statuses that say a request has not been taken up at all; a 409 has been looked at by the loop."""
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [ -~]*")


class Request(NamedTuple):
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def as_bytes(self) -> bytes:
        target = self.path + (f"?{self.query}" if self.query else "")
        given = {name.lower() for name, _ in self.headers}
        headers = list(self.headers)
        if "host" not in given:
            headers.insert(0, ("Host", "localhost"))
        if self.body and not given & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join((*lines, "", "")).encode("latin-1", "replace") + self.body


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


# --- requests ---


def drawn(rng: Random) -> Request:
    """A request to a route, as it might be meant."""
    if rng.random() < 0.1:
        return Request("GET", rng.choice(OTHER_PATHS), "", (), b"")
    route: Route = rng.choice(ROUTES)
    fields = LISTING if rng.random() < 0.05 else route.query
    query = "&".join(
        f"{field.name}={quote(str(_said(field.name, rng)), errors='replace')}"
        for field in fields
        if field.name != "wait" and rng.random() < 0.4
    )
    said = {field.name: _said(field.name, rng) for field in route.body if rng.random() < 0.6}
    body = b"" if route.method == "GET" or (not said and rng.random() < 0.5) else json.dumps(said).encode()
    headers = (("Content-Type", "application/json"),) if body else ()
    path = PREFIX + route.path.replace("{id}", rng.choice(IDS[:6] if rng.random() < 0.8 else IDS))
    return Request(route.method, path, query, headers, body)


def _said(name: str, rng: Random) -> Any:
    return MEANT[name] if name in MEANT and rng.random() < 0.8 else rng.choice(ODD)


Change = Callable[[Request, Random], Request]


def _bent_body(request: Request, rng: Random) -> Request:
    body = rng.choice(
        (
            *(b"{", b"[]", b"null", b'"x"', b"{}{}", b"NaN", b'{"a": NaN}', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"   "),
            *(b"[" * 50_000, b'{"a":' * 50_000, b'{"a": 1, "a": 2}', b'{"params": {"DAY": "\\ud800"}}', b"1" * 5000),
            *(rubbish(rng), b"x" * (3 << 20), request.body[: len(request.body) // 2], flipped(request.body, rng)),
        )
    )
    return request._replace(body=body)


def _with_header(request: Request, rng: Random) -> Request:
    header = rng.choice(HEADERS)
    kept = tuple(each for each in request.headers if each[0] != header[0] or rng.random() < 0.3)
    return request._replace(headers=(*kept, header))


CHANGES: Mapping[str, Change] = {
    "a method": lambda request, rng: request._replace(method=rng.choice(METHODS)),
    "a path": lambda request, rng: request._replace(
        path=request.path + rng.choice(("/", "/..", "/%2e", "//x", "?", "#"))
    ),
    "a query": lambda request, rng: request._replace(
        query=rng.choice(("limit=0", "limit=x", "q=%ff", "a=b", "q", "&&&", "q=1&q=2", "%00=%00", "=&=", "x=" * 200))
    ),
    "a header": _with_header,
    "a body": _bent_body,
    "an id": lambda request, rng: request._replace(path=request.path.rpartition("/")[0] + "/" + rng.choice(IDS)),
}


class RequestGround(Ground):
    def __init__(self) -> None:
        self._reaper = Reaper()
        self.home = Path(tempfile.mkdtemp(prefix="procclaw-", dir="/tmp"))
        self._driver = Driver(self.home, self._reaper)
        self._driver.declare(JOBS)
        (self.home / "jobs.yaml").write_text(json.dumps({"jobs": JOBS, "workflows": WORKFLOWS}))
        try:
            self._driver.start_daemon()
            client = client_of(self._driver)
        except BaseException:
            self._close()
            raise
        self._address = (client.host, client.port)
        self._lines_seen = 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self._judge_logs(Case(0))
        finally:
            self._close()

    def _close(self) -> None:
        self._driver.close()
        self._reaper.end()
        shutil.rmtree(self.home)

    def play(self, case: Case) -> None:
        request = drawn(case.rng)
        for _ in range(case.rng.choice((0, 0, 1, 1, 2, 3))):
            change = case.rng.choice(sorted(CHANGES))
            case.meet(change)
            request = CHANGES[change](request, case.rng)
        sent = request.as_bytes()
        is_torn = case.rng.random() < 0.1
        if is_torn:
            case.meet("bits of all of it")
            sent = flipped(sent[: 1 << 16], case.rng, case.rng.choice((1, 3)))
        case.say(repr(sent[:1500]))
        before = self._asked()
        reply = self._answer(case, sent)
        if reply is None:
            case.meet("= no answer")
            case.must(is_torn or b"Content-Length: 5" in sent or b"chunked" in sent, "it was not answered")
            return
        case.say(f"{reply.status} {dict(reply.headers)} {reply.body[:500]!r}")
        case.meet(f"= {reply.status}")
        self._judge(case, reply)
        if reply.status in REFUSED:
            case.must(self._asked() == before, "what was refused has left a request behind")
        if case.seed % LOOK_AT_LOGS_EVERY == 0:
            self._judge_logs(case)

    def _answer(self, case: Case, sent: bytes) -> Reply | None:
        """The first answer; None when the server hangs up without one, or waits for more that never comes."""
        with contextlib.closing(socket.create_connection(self._address, TIMEOUT_SECONDS)) as opened:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                opened.sendall(sent)
                opened.shutdown(socket.SHUT_WR)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while (part := opened.recv(1 << 16)) and b"text/event-stream" not in received:
                    received += part
        head, _, body = received.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        if not head:
            return None
        first, *lines = head.split(b"\r\n")
        status = _STATUS.fullmatch(first)
        case.must(status is not None and all(b":" in line for line in lines), f"not an answer: {head[:300]!r}")
        assert status is not None
        headers = dict(line.decode("latin-1").split(": ", 1) for line in lines)
        length = headers.get("Content-Length")
        return Reply(int(status[1]), headers, body if length is None else body[: int(length)])

    # --- judging ---

    def _judge(self, case: Case, reply: Reply) -> None:
        case.must(reply.status < 500 or reply.status in (501, 505), "the server takes it for its own fault")
        told = reply.body.decode("utf-8", "replace") + repr(reply.headers)
        case.must(not any(secret in told for secret in SECRETS), "a secret is told")
        case.must(not any(name.lower() == "x-fuzz" for name in reply.headers), "a header was brought in")
        if reply.status >= 400 and reply.body:
            case.must(reply.headers.get("Content-Type") == "application/json", "an error that is no JSON")
            error = json.loads(reply.body)
            case.must(
                set(error) == {"error"} and set(error["error"]) == {"code", "message"}, "an error of no known shape"
            )
            case.must(TRACEBACK.search(error["error"]["message"]) is None, "only a programmer can read it")

    def _asked(self) -> int:
        """How many requests have ever been recorded."""
        return int(self._driver.opened.store._db.read("SELECT coalesce(max(id), 0) FROM intents")[0][0])

    def _judge_logs(self, case: Case) -> None:
        log = (self.home / "logs" / "daemon.log").read_text()
        case.must("a bug in ProcClaw" not in log, f"a bug: {log[-3000:]}")
        odd = [line for line in log.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)]
        case.must(not odd, f"not a line of ours: {odd[:3]}")
        for line in (self.home / "logs" / "daemon.audit.log").read_text().splitlines():
            case.must(isinstance(json.loads(line), dict), f"not a line of ours: {line}")
        case.must(not any(secret in log for secret in SECRETS), "a secret is in the log")
        if client_of(self._driver).get("/health").json["status"] != "healthy":
            raise Broken("the daemon is not well any more")
