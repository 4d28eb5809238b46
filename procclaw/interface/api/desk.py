"""The desk: what one connection asks the engine with, and what a request says once it is checked.

A database connection belongs to one thread, and a thread serves one connection, so each has a home of its own, opened
at its first request and closed with it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from procclaw.engine.asking import Asking, Patience
from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.engine.reports import Reports

PATIENCE = Patience(2.0)
"""How long a request is waited for; what takes longer goes on, and the answer says that it is under way."""
LONG_PATIENCE = Patience(10.0)
"""For a look at everything: reading thousands of jobs for the first time takes its time."""


class Desk:
    def __init__(self, home_path: str, asker: str) -> None:
        self.home = Home(home_path)
        self.operations = Operations(self.home, asker)
        self.reports = Reports(self.home, self.operations)
        self.asking = Asking(self.home, self.operations, self.reports)

    def close(self) -> None:
        self.home.close()


class Call(NamedTuple):
    """One request, as a handler needs it."""

    id: str
    """The id in the path; empty where there is none."""
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    """Every field of the route, by name, with its default where nothing was said."""
    raw: bytes
    key: str | None
    """The Idempotency-Key."""


class Reply(NamedTuple):
    view: Any
    """As JSON."""
    status: int = 200


class Stream(NamedTuple):
    """An answer that comes in pieces."""

    pieces: Iterable[bytes]
    content_type: str
    headers: Mapping[str, str] = {}
