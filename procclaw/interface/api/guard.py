"""Who may: whether a request comes from whom it should, judged before anything else looks at it.

A web page anywhere can make a browser send requests to this server, and can give it any name of its own (DNS
rebinding); so the name by which it was addressed, the page that a browser names and the kind of a body must all be
right. Beyond that a token is asked for or, without one, only processes of this user and of root are served.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from procclaw.model.secret import Text, revealed
from procclaw.model.spec import Access

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Those that change nothing."""
PAGE, HEALTH, METRICS, SPECIFICATION = "/", "/health", "/metrics", "/openapi.json"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OWN_SITES = frozenset({"same-origin", "none"})
"""Of Sec-Fetch-Site: the page itself, and what a person typed or chose."""

Refusal = tuple[int, str, str]
"""Status, code, message."""

MayServe = Callable[[], bool]
"""Whether the process at the other end is one that is served without a token."""


class Asked(NamedTuple):
    """What of a request counts here."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By names in lower case."""
    has_body: bool
    local_address: str
    """That at which the server was reached."""


def refusal(asked: Asked, access: Access, own_names: Iterable[str], may_serve: MayServe) -> Refusal | None:
    """Why the request is refused; None: it is not."""
    for judge in (_of_place, _of_kind):
        found = judge(asked, access, frozenset(own_names))
        if found is not None:
            return found
    return _of_person(asked, access, may_serve)


def _of_place(asked: Asked, access: Access, own_names: frozenset[str]) -> Refusal | None:
    host = asked.headers.get("host", "").lower()
    if not _is_ours(host, asked.local_address, access.allowed_hosts, own_names):
        return 403, "wrong_host", "this server is not known by that name; api.allowed_hosts in procclaw.yaml adds names"
    origin = asked.headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return 403, "other_site", "the request was made by a page of another site"
    if asked.headers.get("sec-fetch-site", "none").lower() not in _OWN_SITES:
        return 403, "other_site", "the request was made by a page of another site"
    return None


def _is_ours(host: str, local_address: str, allowed: Iterable[str], own_names: frozenset[str]) -> bool:
    name = name_of(host)
    if name in _LOCAL_NAMES:
        # Whoever reaches the server from elsewhere has no reason to call it so.
        return _is_loopback(local_address)
    if name in own_names or _is_address(name, local_address):
        return True
    return any(host == each.lower() or name == each.lower() for each in allowed)


def name_of(host: str) -> str:
    """Of a Host header, without the port: through a tunnel it has another one."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and not (":" in name and not name.endswith("]")) else host


def _is_address(name: str, local_address: str) -> bool:
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")) == ip_address(local_address)
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return bool(found.is_loopback or (mapped is not None and mapped.is_loopback))


def _of_kind(asked: Asked, _access: Access, _own_names: frozenset[str]) -> Refusal | None:
    """A page can send a form to any server without asking; JSON it cannot."""
    if asked.method in SAFE_METHODS:
        return None
    kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and (kind or asked.has_body):
        return 415, "not_json", "a body must be JSON, with Content-Type: application/json"
    return None


def _of_person(asked: Asked, access: Access, may_serve: MayServe) -> Refusal | None:
    is_open = asked.path in (PAGE, HEALTH) or (asked.path == METRICS and access.is_metrics_open)
    if access.token is not None:
        if is_open or is_same(bearer(asked.headers), access.token):
            return None
        return 401, "no_token", "this takes the token: Authorization: Bearer TOKEN"
    if may_serve():
        return None
    return (
        403,
        "other_user",
        "without a token only processes of the same user are served; see api.auth in procclaw.yaml",
    )


def bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_same(given: str | None, wanted: Text) -> bool:
    """Takes as long however much of a guess is right."""
    # The bytes of a header, which WSGI hands over as Latin-1.
    return given is not None and hmac.compare_digest(given.encode("latin-1", "replace"), revealed(wanted).encode())
