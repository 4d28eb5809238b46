"""Asking a URL: as much of HTTP/1.1 as a health check needs, written by hand so that it can be cut off at any point.

One request, one connection, no redirects: a 301 is a status like any other. Of the answer the status is read, and the
body only where something is looked for in it, at most 256 KiB.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from procclaw.model.spec import HealthCheck
from procclaw.model.urls import Url

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

MOST_BODY_BYTES = 256 * 1024
_CHUNK_BYTES = 16 * 1024
_MOST_LINES = 500
"""Of an answer's head; a server that never ends it would otherwise keep us busy for as long as the check may take."""
_STATUS = re.compile(rb"HTTP/1\.\d (\d{3})(?:\s|$)")


class BadAnswer(Exception):
    """What came is no answer; the message says why."""


class Answer(NamedTuple):
    status: int
    has_wanted: bool
    """The body contains what was looked for, or nothing was."""
    is_cut: bool = False
    """It was longer than what we read of it."""


async def ask(reader: "StreamReader", writer: "StreamWriter", url: Url, check: HealthCheck) -> Answer:
    """Send the request and read what the check needs of the answer. Raises BadAnswer, OSError."""
    import asyncio

    writer.write(_request(check.method, url))
    try:
        status, headers = await _head(reader)
        if check.expected_body is None or status != check.expected_status:
            return Answer(status, has_wanted=check.expected_body is None)
        search = _Search(check.expected_body.encode(errors="replace"))
        if check.method != "HEAD" and status not in (204, 304):
            await _read_body(reader, headers, search)
    except asyncio.IncompleteReadError as error:
        raise BadAnswer("the connection was closed before the answer was complete") from error
    except asyncio.LimitOverrunError as error:
        raise BadAnswer("the answer is not HTTP") from error
    return Answer(status, search.has_found, search.is_full)


def _request(method: str, url: Url) -> bytes:
    lines = [
        f"{method} {url.request_target} HTTP/1.1",
        f"Host: {url.authority}",
        "User-Agent: procclaw",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: close",
    ]
    if url.authorization is not None:
        lines.append(f"Authorization: {url.authorization}")
    if method in ("POST", "PUT"):
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode()


async def _head(reader: "StreamReader") -> tuple[int, Mapping[bytes, bytes]]:
    """Status and headers of the final answer; those that only say wait (1xx) are passed over."""
    status = await _status(reader)
    headers: dict[bytes, bytes] = {}
    for _ in range(_MOST_LINES):
        line = (await reader.readuntil(b"\n")).strip()
        if line:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip().lower()
        elif status >= 200:
            return status, headers
        else:
            status = await _status(reader)
            headers.clear()
    raise BadAnswer("the answer's headers do not end")


async def _status(reader: "StreamReader") -> int:
    import asyncio

    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise BadAnswer("the connection was closed without an answer") from error
        line = error.partial
    found = _STATUS.match(line)
    if found is None:
        raise BadAnswer("the answer is not HTTP")
    return int(found[1])


class _Search:
    """Looking for something in a body that comes in pieces."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._read = bytearray()
        self.has_found = not wanted

    @property
    def is_full(self) -> bool:
        return len(self._read) >= MOST_BODY_BYTES

    @property
    def is_over(self) -> bool:
        return self.has_found or self.is_full

    def take(self, piece: bytes) -> None:
        # Not from the beginning each time: a body may come byte by byte.
        begin = max(0, len(self._read) - len(self._wanted))
        self._read += piece[: MOST_BODY_BYTES - len(self._read)]
        self.has_found = self._read.find(self._wanted, begin) >= 0


async def _read_body(reader: "StreamReader", headers: Mapping[bytes, bytes], search: _Search) -> None:
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        await _read_chunks(reader, search)
    elif b"content-length" in headers:
        await _read_part(reader, _number(headers[b"content-length"], 10), search)
    else:
        while not search.is_over and (piece := await reader.read(_CHUNK_BYTES)):
            search.take(piece)


async def _read_chunks(reader: "StreamReader", search: _Search) -> None:
    while not search.is_over:
        size = _number((await reader.readuntil(b"\n")).partition(b";")[0].strip(), 16)
        if size == 0:
            return
        await _read_part(reader, size, search)
        if not search.is_over:
            await reader.readuntil(b"\n")


async def _read_part(reader: "StreamReader", size: int, search: _Search) -> None:
    from asyncio import IncompleteReadError

    while size and not search.is_over:
        piece = await reader.read(min(size, _CHUNK_BYTES))
        if not piece:
            raise IncompleteReadError(piece, size)
        size -= len(piece)
        search.take(piece)


def _number(text: bytes, base: int) -> int:
    if not re.fullmatch(rb"[0-9a-f]{1,15}", text, re.IGNORECASE):
        raise BadAnswer("the answer is not HTTP")
    try:
        return int(text, base)
    except ValueError:
        raise BadAnswer("the answer is not HTTP") from None
