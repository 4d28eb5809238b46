"""OpenClaw's agent, asked over the gateway's HTTP hooks: the one way in which it says what came of being asked.

The same request under one key is one run of the agent, however often it is sent, until five minutes after that has
ended or the gateway is started again; a run goes on when we listen no more. That a request was taken says nothing: only
an answer that reached somebody counts. The hook token stands in a header, and of an answer nothing but its status is
ever told, for it may repeat what it was sent.
"""

import errno
import json
import re
from collections.abc import Mapping
from typing import Any

from procclaw.model.clock import SystemClock
from procclaw.model.errors import in_words
from procclaw.model.outside import Hooks, SendResult, Sent
from procclaw.model.secret import revealed
from procclaw.model.urls import Url, parse_url

AGENT_SECONDS = 600
"""How long the agent may take over it, whether we still listen or not."""
_MOST_ANSWER_BYTES = 65_536
_TOKEN = re.compile(r"[!-~]+")
"""What a header can hold of it."""
_NEEDS_SOMEBODY = {
    401: "its gateway does not take the token; openclaw.hooks.token is to be hooks.token of OpenClaw's configuration",
    404: "its gateway has no hooks there; hooks.enabled of OpenClaw's configuration is to be true",
}
"""Answers that stay the same until a configuration is changed, and the usual reason."""
_NOT_BEGUN = 502
_SAYS_NOTHING = frozenset({"silent", "empty"})
_REFUSED = frozenset({400, 401, 403, 404, 405, 413})


def ask_agent(hooks: Hooks, request: Mapping[str, Any], key: str, seconds: float) -> SendResult:
    """Have the agent see to it, and wait that long at most for what comes of it.

    DELIVERED: its answer reached somebody. QUEUED: it is still at it, or said nothing to anybody.
    """
    if seconds <= 0:
        return SendResult(Sent.FAILED, "no time was left for it")
    try:
        url = parse_url(hooks.url.rstrip("/") + "/agent")
    except ValueError:
        return SendResult(Sent.REFUSED, "openclaw.hooks.url is none of HTTP")
    if not _TOKEN.fullmatch(revealed(hooks.token)):
        return SendResult(Sent.REFUSED, "openclaw.hooks.token holds what no header can, such as a line break")
    body = {**request, "timeoutSeconds": AGENT_SECONDS, "waitForCompletion": True}
    try:
        status, answer = _post(url, json.dumps(body).encode(), _headers(hooks, key), seconds)
    except TimeoutError:
        return SendResult(Sent.QUEUED, f"it has not answered after {seconds:.0f} s, and may be at it still")
    except OSError as error:
        return SendResult(Sent.FAILED, f"{url.origin}: {in_words(error)}")
    except ValueError:
        return SendResult(Sent.FAILED, f"{url.origin}: the answer is not HTTP")
    return _outcome(status, answer)


def _headers(hooks: Hooks, key: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {revealed(hooks.token)}",
        "Content-Type": "application/json",
        "Idempotency-Key": key,
        "User-Agent": "procclaw",
        "Connection": "close",
    }


def _post(url: Url, payload: bytes, headers: Mapping[str, str], seconds: float) -> tuple[int, bytes]:
    """Status and body of the answer. Raises OSError, and ValueError for what is no answer."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    kind = HTTPConnection if url.scheme == "http" else HTTPSConnection
    connection = kind(url.host, url.port, timeout=seconds)
    try:
        try:
            connection.connect()
        except TimeoutError:
            # Nobody has been asked yet.
            raise OSError(errno.EHOSTUNREACH, "no connection in time") from None
        connection.request("POST", url.request_target, payload, dict(headers))
        connection.sock.settimeout(max(0.1, deadline - clock.monotonic()))
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_ANSWER_BYTES)
    except HTTPException as error:
        raise ValueError(str(error)) from error
    finally:
        connection.close()


def _outcome(status: int, answer: bytes) -> SendResult:
    if status in _REFUSED:
        return SendResult(Sent.REFUSED, _NEEDS_SOMEBODY.get(status, f"its gateway refuses it with status {status}"))
    completion = _completion(answer) if status == 200 else None
    if status == _NOT_BEGUN:
        return SendResult(Sent.FAILED, "it could not begin, as without a model it can reach; OpenClaw's log says why")
    if completion is None:
        return SendResult(Sent.FAILED, f"its gateway answers with status {status}")
    if completion.get("delivered") is True:
        return SendResult(Sent.DELIVERED)
    # With no model to think with it is "error", and all the same status 200.
    if completion.get("status") in ("error", "skipped"):
        return SendResult(Sent.FAILED, "its run failed")
    if completion.get("replyDisposition") in _SAYS_NOTHING:
        return SendResult(Sent.QUEUED, "it has looked, and had nothing to say")
    return SendResult(Sent.QUEUED, "its answer has reached nobody yet")


def _completion(answer: bytes) -> Mapping[str, Any] | None:
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    completion = told.get("completion", {}) if isinstance(told, dict) else None
    return completion if isinstance(completion, dict) else None
