"""The application: guards each request, checks what it says against the table of routes, and turns what handlers give
into an answer. No rule lives here; only this room knows Bottle.
"""

import base64
import json
import os
import pwd
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bottle

from procclaw import __version__
from procclaw.engine.operations import Filter
from procclaw.engine.tokens import Unavailable
from procclaw.engine.webhooks import ValueOf, Verdict, is_guarded, judged
from procclaw.interface.api import guard, looks
from procclaw.interface.api.desk import Call, Desk, Reply, Stream
from procclaw.interface.api.fields import from_json, from_query
from procclaw.interface.api.listing import Listing, as_json
from procclaw.interface.api.openapi import document
from procclaw.interface.api.routes import KEY_PATTERN, LISTING, PREFIX, ROUTES, Route
from procclaw.interface.metrics import Metrics
from procclaw.model.errors import ProcclawError, UsageError
from procclaw.model.secret import revealed
from procclaw.model.spec import Access

LATE_SECONDS = 10.0
"""A loop that has not looked for so long is in trouble: a cycle over thousands of jobs takes a fraction of it."""
_STATUS_OF = {
    "usage": 400,
    "not_found": 404,
    "conflict": 409,
    "refused": 409,
    "failed": 409,
    "bad_configuration": 503,
    "store": 503,
    "no_daemon": 503,
    "disk_full": 507,
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_JSON = "application/json"
_TRIGGER = PREFIX + "trigger/"
_NONCE = "__NONCE__"
_NO_TOKEN = "the token that is asked for cannot be had at present; the daemon's log says why"
_BLANKS = b" \t\r\n"
"""What JSON takes for blank."""
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'"
)

Environ = Mapping[str, Any]


class Application:
    """A WSGI application. `access` is replaced when the configuration changes; the next request is judged by it."""

    def __init__(
        self,
        home_path: str,
        page: str,
        metrics: Metrics,
        late_seconds: Callable[[], float],
        may_serve: Callable[[Environ], bool],
        value_of: ValueOf,
    ) -> None:
        """`may_serve`: whether the process at the other end is served without a token. `value_of`: see Tokens."""
        self.access = Access()
        self.own_names: frozenset[str] = frozenset({os.uname().nodename.lower()})
        self._home_path = home_path
        self._page = page
        self._metrics = metrics
        self._late_seconds = late_seconds
        self._may_serve = may_serve
        self._value_of = value_of
        self._listing = Listing(home_path)
        self._specification = as_json(document())
        self._app = self._made()

    def close(self) -> None:
        self._listing.close()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def _made(self) -> Any:
        app = bottle.Bottle()
        # A bug of ours is the server's to report.
        app.config["catchall"] = False
        app.default_error_handler = _told_of_error
        app.add_hook("before_request", self._judge)
        app.route(guard.PAGE, "GET", self._show_page)
        app.route(guard.HEALTH, "GET", self._health)
        app.route(guard.METRICS, "GET", self._expose)
        app.route(guard.SPECIFICATION, "GET", lambda: _sent(self._specification))
        app.route(f"{PREFIX}jobs", "GET", self._jobs)
        for route in ROUTES:
            app.route(PREFIX + route.path.replace("{id}", "<id>"), route.method, self._served(route))
        return app

    # --- before anything else ---

    def _judge(self) -> None:
        request = bottle.request
        asked = guard.Asked(
            request.method,
            request.path,
            _headers(),
            has_body=request.content_length > 0,
            local_address=request.environ["procclaw.local"][0],
        )
        if self._is_admitted_by_trigger(asked):
            return
        found = guard.refusal(asked, self._access_meant(), self.own_names, lambda: self._may_serve(request.environ))
        if found is not None:
            raise _error(*found)

    def _access_meant(self) -> Access:
        """With the token itself in the place of a reference to a secret."""
        access = self.access
        if access.token is None:
            return access
        try:
            return access._replace(token=self._value_of(revealed(access.token)))
        except Unavailable as error:
            raise _error(503, error.code, _NO_TOKEN) from error

    def _is_admitted_by_trigger(self, asked: guard.Asked) -> bool:
        """Whether it is for a trigger that has a token or a key of its own, which alone decides then.

        Raises the answer to who does not have it.
        """
        if asked.method != "POST" or not asked.path.startswith(_TRIGGER):
            return False
        try:
            job = self._desk().operations.job_spec(asked.path.removeprefix(_TRIGGER))
        except ProcclawError:
            return False
        if not is_guarded(job):  # and so its body is not read yet, which might take a stranger a while to send
            return False
        bearer, signature = guard.bearer(asked.headers), asked.headers.get("x-hub-signature-256")
        try:
            verdict = judged(job, _raw(), bearer, signature, self._value_of)
        except Unavailable as error:
            raise _error(503, error.code, _NO_TOKEN) from error
        if verdict is Verdict.DENIED:
            raise _error(401, "no_token", "this trigger takes its own token or signature")
        return verdict is Verdict.ADMITTED

    def _desk(self) -> Desk:
        """The desk of the connection, which is closed with it."""
        connection = bottle.request.environ["procclaw.connection"]
        if "desk" not in connection.kept:
            desk = connection.kept["desk"] = Desk(self._home_path, self._asker())
            connection.on_close(desk.close)
        found: Desk = connection.kept["desk"]
        return found

    def _asker(self) -> str:
        if self.access.token is None:
            return f"{_own_name()} (http)"
        return f"{bottle.request.environ['procclaw.peer'][0]} (http)"

    # --- the routes of the table ---

    def _served(self, route: Route) -> Callable[..., Any]:
        def serve(id: str = "") -> Any:  # noqa: A002 (Bottle names it after the path)
            try:
                return _sent_view(self._answered(route, id))
            except ProcclawError as error:
                raise _error(_STATUS_OF.get(error.code, 409), error.code, str(error)) from error

        return serve

    def _answered(self, route: Route, given_id: str) -> Any:
        raw = _raw()
        query = from_query(route.query, _query())
        said = {} if route.takes_anything else _body(raw)
        key = _key() if route.takes_key else None
        call = Call(given_id, query, from_json(route.body, said), raw, key)
        if route.handler is looks.events and "text/event-stream" in _headers().get("accept", ""):
            return looks.event_stream(self._desk(), call)
        return route.handler(self._desk(), call)

    # --- what is kept ready ---

    def _jobs(self) -> Any:
        try:
            query = from_query(LISTING, _query())
            listed = self._listing.current()
        except ProcclawError as error:
            raise _error(_STATUS_OF.get(error.code, 409), error.code, str(error)) from error
        known = _headers().get("if-none-match", "")
        headers = {"ETag": listed.etag, "Cache-Control": "no-cache"}
        if known.strip() == "*" or listed.etag in (each.strip() for each in known.split(",")):
            return bottle.HTTPResponse(b"", 304, headers=_HEADERS | headers)
        if not _query():
            return _sent(listed.body, headers=headers)
        tags = tuple(filter(None, (query["tags"] or "").split(",")))
        chosen = Filter(query["q"], query["status"], query["type"], tuple(query["tag"]), query["enabled"], tags)
        found = [job for job in listed.jobs if chosen.takes(job)]
        end = None if query["limit"] is None else query["offset"] + query["limit"]
        return _sent(as_json({"jobs": found[query["offset"] : end], "total": len(found)}), headers=headers)

    def _health(self) -> Any:
        problems: list[str] = []
        running = total = 0
        try:
            listed = self._listing.current()
            problems += listed.problems
            total = len(listed.jobs)
            running = sum(job["status"] in ("running", "stopping") for job in listed.jobs)
        except ProcclawError as error:
            problems += str(error).splitlines()
        late = self._late_seconds()
        if late > LATE_SECONDS:
            problems.append(f"the loop is late by {late:.0f} s")
        view = {
            "status": "unhealthy" if problems else "healthy",
            "version": __version__,
            "jobs_running": running,
            "jobs_total": total,
            "problems": problems,
        }
        return _sent(as_json(view), 503 if problems else 200)

    def _expose(self) -> Any:
        try:
            text = self._metrics.text(self._desk().home)
        except ProcclawError as error:
            raise _error(503, error.code, str(error)) from error
        return _sent(text, content_type="text/plain; version=0.0.4; charset=utf-8")

    def _show_page(self) -> Any:
        nonce = base64.b64encode(os.urandom(16)).decode()
        headers = {"Content-Security-Policy": _POLICY.format(nonce=nonce)}
        return _sent(
            self._page.replace(_NONCE, nonce).encode(), content_type="text/html; charset=utf-8", headers=headers
        )


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


# --- requests ---


def _headers() -> dict[str, str]:
    """By names in lower case. As WSGI has them: Bottle's own would choke on what is not UTF-8."""
    environ = bottle.request.environ
    prefix = "HTTP_"
    found = {name.removeprefix(prefix): value for name, value in environ.items() if name.startswith(prefix)}
    found |= {name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)}
    return {name.replace("_", "-").lower(): value for name, value in found.items()}


def _raw() -> bytes:
    body: bytes = bottle.request.body.read()
    bottle.request.body.seek(0)
    return body


def _query() -> dict[str, list[str]]:
    from urllib.parse import parse_qs

    try:
        return parse_qs(bottle.request.query_string, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise UsageError("the query cannot be read") from error


def _key() -> str | None:
    """Raises UsageError for one that could not be told from another."""
    key = _headers().get("idempotency-key")
    if key is not None and not re.fullmatch(KEY_PATTERN, key):
        raise UsageError("Idempotency-Key: is not 1 to 256 printable characters without blanks")
    return key


def _body(raw: bytes) -> Mapping[str, Any]:
    """Raises UsageError for what is no JSON object."""
    if not raw.strip(_BLANKS):
        return {}
    try:
        said = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON") from None
    if not isinstance(said, dict):
        raise UsageError("the body must be a JSON object")
    return said


def _refuse(constant: str) -> None:
    raise ValueError(constant)


# --- answers ---


def _sent_view(found: Any) -> Any:
    if isinstance(found, Stream):
        response = bottle.HTTPResponse(iter(found.pieces), 200, headers=_HEADERS | dict(found.headers))
        response.content_type = found.content_type
        return response
    reply = found if isinstance(found, Reply) else Reply(found)
    return _sent(as_json(reply.view), reply.status)


def _sent(
    body: bytes, status: int = 200, *, content_type: str = _JSON, headers: Mapping[str, str] | None = None
) -> Any:
    response = bottle.HTTPResponse(body, status, headers=_HEADERS | dict(headers or {}))
    response.content_type = content_type
    return response


def _error(status: int, code: str, message: str) -> Any:
    extra = {"WWW-Authenticate": 'Bearer realm="procclaw"'} if status == 401 else {}
    return _sent(as_json({"error": {"code": code, "message": message}}), status, headers=extra)


def _told_of_error(error: Any) -> bytes:
    """What Bottle itself refuses: no such path, or not with this method."""
    codes = {404: ("not_found", "there is nothing at this path"), 405: ("wrong_method", "not with this method")}
    code, message = codes.get(error.status_code, ("bad_request", "the request cannot be read"))
    for name, value in _HEADERS.items():
        bottle.response.set_header(name, value)
    bottle.response.content_type = _JSON
    return as_json({"error": {"code": code, "message": message}})
