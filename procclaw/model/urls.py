"""The URL of a health check or a webhook, taken apart once: what to connect to, what to send, what may be shown."""

from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

_PORTS = {"http": 80, "https": 443}
_LEFT_ALONE = "%/:=&?~#+!$,;'@()*[]-._"
"""Everything with a meaning in a URL; the rest of a path or query is escaped."""


class Url(NamedTuple):
    scheme: str
    """http or https."""
    host: str
    """A name in its ASCII form, or an address without brackets."""
    port: int
    authority: str
    """Host, and port where one was given: what `Host` says."""
    path: str
    query: str
    """With its question mark; empty without."""
    authorization: str | None
    """The header's value, of a user in the URL."""

    @property
    def request_target(self) -> str:
        return self.path + self.query

    @property
    def shown(self) -> str:
        """For people: without user and query, where secrets may be."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def origin(self) -> str:
        """For people, where the path is a secret as well."""
        return f"{self.scheme}://{self.authority}"


def parse_url(text: str) -> Url:
    """Raises ValueError, whose message may quote what is secret."""
    parts = urlsplit(text)
    host = unquote(parts.hostname or "")
    if not host.isascii():
        host = host.encode("idna").decode()
    if parts.scheme not in _PORTS or not host or not host.isprintable() or " " in host:
        raise ValueError("not a URL such as http://127.0.0.1:8000/health")
    # The zone of an address (fe80::1%eth0) means something on this machine only.
    named = f"[{host.partition('%')[0]}]" if ":" in host else host
    return Url(
        scheme=parts.scheme,
        host=host,
        port=parts.port or _PORTS[parts.scheme],
        authority=named if parts.port is None else f"{named}:{parts.port}",
        path=quote(parts.path, safe=_LEFT_ALONE) or "/",
        query=f"?{quote(parts.query, safe=_LEFT_ALONE)}" if parts.query else "",
        authorization=None if parts.username is None else _basic(parts.username, parts.password or ""),
    )


def _basic(name: str, password: str) -> str:
    from base64 import b64encode

    return f"Basic {b64encode(f'{unquote(name)}:{unquote(password)}'.encode()).decode()}"
