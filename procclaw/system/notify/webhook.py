"""Posting an alert to a URL, in the form that whoever is behind it takes.

Slack and Discord are told the message only, everybody else gets the alert as JSON. Redirects are not followed: the
other place was not chosen by the user. Of the URL only scheme and host are ever shown, for whoever knows the rest may
post; of one that holds a secret nothing is.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from procclaw.model.clock import SystemClock
from procclaw.model.errors import in_words
from procclaw.model.secret import Secret, Text, revealed
from procclaw.model.urls import Url, parse_url

if TYPE_CHECKING:
    from http.client import HTTPConnection

_MOST_DISCORD_CHARACTERS = 2000
_MOST_STATUS_BYTES = 4096
_STATUS = re.compile(rb"HTTP/1\.\d (\d{3})\s")
_SLACK_HOST = re.compile(r"(.*\.)?slack\.com|hooks\.slack-gov\.com")
_SLACK_PATH = re.compile(r"/services/T\w+/B\w+/\w+|/.*/slack")
"""Slack's own, through whatever stands before it; and where others, Discord among them, take what Slack takes."""
_DISCORD_HOST = re.compile(r"(.*\.)?discord(app)?\.com")


class _BadAnswer(Exception):
    pass


def post(text: Text, body: Mapping[str, Any], key: str, seconds: float) -> str:
    """Why it did not arrive at the URL; empty when it did. `key` is the same whenever that alert is posted again."""
    try:
        url = parse_url(revealed(text))
    except ValueError:
        # Not what is wrong with it: that quotes it.
        return "its URL is none of HTTP"
    # Of one that holds a secret its host may be part of it.
    shown = "the address" if isinstance(text, Secret) else url.origin
    try:
        status = _post(url, json.dumps(form_for(url, body)).encode(), key, seconds)
    except _BadAnswer as error:
        return f"{shown}: {error}"
    except TimeoutError:
        return f"{shown}: timed out after {seconds:g} s"
    except OSError as error:
        return f"{shown}: {in_words(error)}"
    except UnicodeError:
        # Of a host whose name no name server can be asked for: a part of it is empty or too long.
        return f"{shown}: there is no such name"
    if 200 <= status < 300:
        return ""
    return f"{shown}: status {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")


def form_for(url: Url, body: Mapping[str, Any]) -> Mapping[str, Any]:
    message = str(body.get("message", ""))
    if _SLACK_HOST.fullmatch(url.host) or _SLACK_PATH.fullmatch(url.path):
        # These three begin markup there.
        return {"text": message.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    if _DISCORD_HOST.fullmatch(url.host) and url.path.startswith("/api/"):
        if len(message) > _MOST_DISCORD_CHARACTERS:
            message = message[: _MOST_DISCORD_CHARACTERS - 1] + "…"
        return {"content": message, "allowed_mentions": {"parse": []}}
    return dict(body)


def _post(url: Url, payload: bytes, key: str, seconds: float) -> int:
    """The status of the answer, within `seconds` once one of the host's addresses has been reached."""
    clock = SystemClock()
    connection = _connection(url, seconds)
    try:
        connection.connect()
        deadline = clock.monotonic() + seconds
        connection.request("POST", url.request_target, payload, _headers(url, key))
        # Not `getresponse`, whose time limit begins again with every byte that comes.
        head = b""
        while (found := _STATUS.match(head)) is None:
            if b"\n" in head or len(head) > _MOST_STATUS_BYTES:
                raise _BadAnswer("the answer is not HTTP")
            left = deadline - clock.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.sock.settimeout(left)
            piece = connection.sock.recv(_MOST_STATUS_BYTES)
            if not piece:
                raise _BadAnswer("the connection was closed without an answer")
            head += piece
        return int(found[1])
    finally:
        connection.close()


def _connection(url: Url, seconds: float) -> "HTTPConnection":
    from http.client import HTTPConnection, HTTPSConnection

    if url.scheme == "http":
        return HTTPConnection(url.host, url.port, timeout=seconds)
    import ssl

    return HTTPSConnection(url.host, url.port, timeout=seconds, context=ssl.create_default_context())


def _headers(url: Url, key: str) -> dict[str, str]:
    headers = {
        "Host": url.authority,
        "Content-Type": "application/json",
        "User-Agent": "procclaw",
        "Idempotency-Key": key,
        "Connection": "close",
    }
    if url.authorization is not None:
        headers["Authorization"] = url.authorization
    return headers
