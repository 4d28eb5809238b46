"""The OpenAPI 3.1 document: every path that is served, made from the table of routes and the shapes of answers."""

from collections.abc import Iterable
from typing import Any

from procclaw import __version__
from procclaw.interface.api import guard
from procclaw.interface.api.fields import Field, Schema
from procclaw.interface.api.routes import KEY_PATTERN, LISTING, PREFIX, ROUTES, Route
from procclaw.interface.api.shapes import SCHEMAS, ref

_JSON = "application/json"
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Id of a job, a run, an entry or a workflow, as the path says; of runs its beginning will do.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
}
_NUMBER = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Number of an entry of the dead letter queue.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**15},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Asking again with the same key within 24 h asks for nothing new.",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$"},
}
_ETAG = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETag of an earlier answer: 304 if nothing but the times for which jobs have been up has changed.",
    "schema": {"type": "string"},
}
_ERRORS = {
    400: "What was asked makes no sense as it was put.",
    401: "A token is asked for.",
    403: "The request came from another site, under a wrong name, or from another user.",
    404: "What was named does not exist.",
    409: "Refused; the message says why.",
    405: "Not with this method.",
    411: "The length of the body is not said.",
    413: "The body is too large.",
    414: "The path is too long.",
    415: "The body is not JSON.",
    431: "The header is too large.",
    500: "A bug in ProcClaw.",
    503: "The configuration or the database cannot be used, or too many are asking at once.",
    507: "The disk is full.",
}
_OF_EVERY_REQUEST = (400, 401, 403, 405, 414, 431, 500, 503)


def document() -> dict[str, Any]:
    paths: dict[str, Any] = {
        guard.HEALTH: {"get": _health()},
        guard.METRICS: {"get": _simple("Metrics, for Prometheus.", "text/plain", {"type": "string"})},
        guard.SPECIFICATION: {"get": _simple("This document.", _JSON, {"type": "object"})},
        guard.PAGE: {"get": _simple("The dashboard.", "text/html", {"type": "string"})},
        f"{PREFIX}jobs": {"get": _listing()},
    }
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ProcClaw",
            "version": __version__,
            "description": "Jobs of one machine: what is declared, what runs, and why something does not.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "api.auth.token"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    content = {route.answer: {"schema": {"type": "string"}}}
    if route.answer in SCHEMAS:
        content = {_JSON: {"schema": ref(route.answer)}}
    if route.path == "events":
        content["text/event-stream"] = {"schema": {"type": "string"}}
    answers: dict[str, Any] = {"200": {"description": route.summary, "content": content}}
    if route.may_take_longer:
        answers["202"] = {"description": "It is under way.", "content": content}
    is_change = route.method != "GET"
    errors = [*_OF_EVERY_REQUEST, 404, *((409, 411, 413, 415, 507) if is_change else ())]
    named = [_NUMBER] if route.path.startswith("dlq/{id}") else [_ID] if "{id}" in route.path else []
    parameters = [
        *named,
        *_in_query(route.query),
        *([_KEY] if route.takes_key else []),
    ]
    return {
        "operationId": _name(route.method, route.path),
        "summary": route.summary,
        "parameters": parameters,
        **_request_body(route),
        "responses": answers | _errors(errors),
    }


def _name(method: str, path: str) -> str:
    return "_".join((method.lower(), *path.replace("{id}", "one").replace("-", "_").split("/")))


def _in_query(fields: Iterable[Field]) -> list[dict[str, Any]]:
    return [
        {
            "name": field.name,
            "in": "query",
            "required": field.is_required,
            "description": field.description,
            "schema": _with_default(field),
        }
        for field in fields
    ]


def _with_default(field: Field) -> Schema:
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return field.kind.schema if default is None else field.kind.schema | {"default": default}


def _in_body(field: Field) -> Schema:
    """null, of what need not be said, is as if it had not been."""
    schema = _with_default(field) | {"description": field.description}
    if field.is_required:
        return schema
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [schema["type"], "null"]} | values


def _request_body(route: Route) -> dict[str, Any]:
    if route.takes_anything:
        return {"requestBody": {"required": False, "content": {_JSON: {"schema": {}}}}}
    if not route.body:
        return {}
    schema = {
        "type": "object",
        "properties": {field.name: _in_body(field) for field in route.body},
        "required": [field.name for field in route.body if field.is_required],
        "additionalProperties": False,
    }
    is_required = any(field.is_required for field in route.body)
    return {"requestBody": {"required": is_required, "content": {_JSON: {"schema": schema}}}}


def _errors(statuses: Iterable[int]) -> dict[str, Any]:
    content = {_JSON: {"schema": ref("Error")}}
    return {str(status): {"description": _ERRORS[status], "content": content} for status in sorted(set(statuses))}


def _simple(summary: str, kind: str, schema: Schema) -> dict[str, Any]:
    answer = {"description": summary, "content": {kind: {"schema": schema}}}
    return {"summary": summary, "responses": {"200": answer} | _errors(_OF_EVERY_REQUEST)}


def _health() -> dict[str, Any]:
    found = _simple("Whether all is well: a valid configuration, a loop that is on time.", _JSON, ref("Health"))
    found["responses"]["503"] = {
        "description": "Something is wrong, and `problems` says what.",
        "content": {_JSON: {"schema": {"anyOf": [ref("Health"), ref("Error")]}}},
    }
    return found


def _listing() -> dict[str, Any]:
    found = _simple("The jobs.", _JSON, ref("Jobs"))
    found["operationId"] = "get_jobs"
    found["parameters"] = [*_in_query(LISTING), _ETAG]
    found["responses"]["304"] = {"description": "Nothing has changed but the times for which jobs have been up."}
    return found
