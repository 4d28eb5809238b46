"""The head of a request: from bytes, strictly, to what was asked.

Whatever two readers could take in two ways is refused rather than interpreted, because whoever stands between may have
taken it the other way: that is how one request is smuggled in another. So lines end in CR LF and nothing else, no field
is folded, and the body's length is given once, in digits. Nothing here waits or sends.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from procclaw.interface.api.serving import limits
from procclaw.interface.api.serving.refusing import Refused, bad_request

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STRAY = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
"""What no head contains: control characters, and half a line end."""
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})|#")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
_LENGTH = re.compile(r"[0-9]+")
_ONCE = frozenset({"authorization", "content-length", "content-type", "expect", "host", "origin", "sec-fetch-site"})
"""Fields on which it depends who may and what was sent; of two, another reader might believe the other."""
_LAST_LINE = b"\r\n\r\n"


class Head(NamedTuple):
    method: str
    path: str
    """Without escapes, each byte as one character, as WSGI has it."""
    query: str
    is_old: bool
    """HTTP/1.0."""
    fields: dict[str, str]
    """By name in lower case; those given more than once joined by commas."""
    length: int
    """Of the body."""
    keeps_alive: bool

    @property
    def expects_continue(self) -> bool:
        return "expect" in self.fields and not self.is_old


def head_length(received: bytearray, known: int) -> int | None:
    """How long the head at the front is; None while it has not all come. Of it, `known` bytes were looked at before.

    Raises Refused as soon as it can be no head any more.
    """
    last = received.find(_LAST_LINE, max(0, known - len(_LAST_LINE) + 1))
    length = len(received) if last < 0 else last + len(_LAST_LINE)
    # The last byte of before may have been the first half of a line end.
    if _STRAY.search(received, max(0, known - 1), length):
        raise bad_request("the request has control characters in its head, or lines that do not end in CR LF")
    longest = limits.REQUEST_LINE_BYTES + len(b"\r\n")
    if length >= longest and received.find(b"\r\n", 0, longest) < 0:
        raise Refused(414, "uri_too_long", f"the request line is longer than {limits.REQUEST_LINE_BYTES} bytes")
    if length > limits.HEAD_BYTES:
        raise Refused(431, "head_too_large", f"the request's head is larger than {limits.HEAD_BYTES} bytes")
    return None if last < 0 else length


def parse_head(head: bytes) -> Head:
    """Of a whole head without stray characters. Raises Refused."""
    first, *lines = head.removesuffix(_LAST_LINE).split(b"\r\n")
    method, target, is_old = _request_line(first)
    fields = _fields(lines)
    _check_host(fields.get("host"), is_old=is_old)
    if fields.get("expect", "100-continue").lower() != "100-continue":
        raise Refused(417, "expectation_failed", "of Expect only 100-continue can be met")
    path, _, query = target.partition(b"?")
    return Head(
        method,
        _unescaped(path).decode("latin-1"),
        query.decode("latin-1"),
        is_old,
        fields,
        _body_length(fields),
        _keeps_alive(fields, is_old=is_old),
    )


def _request_line(line: bytes) -> tuple[str, bytes, bool]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise bad_request("the request line is not METHOD PATH HTTP/1.1")
    method, target, major, minor = found.groups()
    if major != b"1":
        raise Refused(505, "version_not_supported", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    # The form with scheme and host is for proxies: nobody has to ask whether its host or the header counts.
    if not target.startswith(b"/"):
        raise bad_request("the request's path does not begin with a slash")
    return method.decode(), target, minor == b"0"


def _unescaped(path: bytes) -> bytes:
    if _BAD_ESCAPE.search(path):
        raise bad_request("the request's path has a % without two digits, or a #")
    plain = unquote_to_bytes(path)
    if _CONTROL.search(plain):
        raise bad_request("the request's path has control characters")
    return plain


def _fields(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > limits.FIELDS:
        raise Refused(431, "head_too_large", f"the request has more than {limits.FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # This refuses a folded line too, and blanks before the colon.
        if not colon or not TOKEN.fullmatch(name):
            raise bad_request("a header field is not NAME: VALUE")
        known, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        if known in fields:
            if known in _ONCE:
                raise bad_request(f"{known} is given more than once")
            text = f"{fields[known]}{'; ' if known == 'cookie' else ', '}{text}"
        fields[known] = text
    return fields


def _check_host(host: str | None, *, is_old: bool) -> None:
    if host is None and not is_old:
        raise bad_request("the Host header is missing")
    if host is not None and not _HOST.fullmatch(host):
        raise bad_request("the Host header is not HOST or HOST:PORT")


def _body_length(fields: dict[str, str]) -> int:
    given = fields.get("content-length")
    if "transfer-encoding" in fields:
        if given is not None:
            raise bad_request("the request has both Content-Length and Transfer-Encoding")
        raise Refused(411, "length_required", "a body is taken with Content-Length, not with Transfer-Encoding")
    if given is None:
        return 0
    if not _LENGTH.fullmatch(given):
        raise bad_request("Content-Length is not a number")
    digits = given.lstrip("0") or "0"
    # By the number of digits first: reading a very long number takes very long.
    if len(digits) > len(str(limits.BODY_BYTES)) or int(digits) > limits.BODY_BYTES:
        raise Refused(413, "too_large", f"the body is larger than {limits.BODY_BYTES} bytes")
    return int(digits)


def _keeps_alive(fields: dict[str, str], *, is_old: bool) -> bool:
    wishes = {each.strip().lower() for each in fields.get("connection", "").split(",")}
    return "close" not in wishes and (not is_old or "keep-alive" in wishes)
