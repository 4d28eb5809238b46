"""The jobs as they are, kept ready for everybody who asks: made anew when the database has changed, and once a second
while somebody asks, because the time for which a job has been up changes by itself.
"""

import json
import os
import threading
from typing import Any, NamedTuple

from procclaw.engine.home import Home
from procclaw.engine.operations import Filter, Operations
from procclaw.planning.views import View

_FRESH_SECONDS = 1.0


class Listed(NamedTuple):
    jobs: list[View]
    problems: tuple[str, ...]
    etag: str
    """Weak: with the same one only the times for which jobs have been up differ."""
    body: bytes
    """The answer for who wants all of them."""


class Listing:
    """Shared by all connections; one at a time makes it."""

    def __init__(self, home_path: str) -> None:
        self._home = Home(home_path)
        self._operations = Operations(self._home, "http")
        self._lock = threading.Lock()
        self._mark = os.urandom(4).hex()
        self._count = 0
        self._version = -1
        self._made_at = 0.0
        self._listed: Listed | None = None

    def current(self) -> Listed:
        with self._lock:
            version, now = self._home.store.data_version(), self._home.clock.monotonic()
            if self._listed is None or version != self._version or now - self._made_at >= _FRESH_SECONDS:
                self._count += version != self._version
                self._version, self._made_at = version, now
                self._listed = self._make()
            return self._listed

    def _make(self) -> Listed:
        jobs = self._operations.jobs(Filter())
        etag = f'W/"{self._mark}-{self._count}"'
        return Listed(jobs, self._operations.problems(), etag, as_json({"jobs": jobs, "total": len(jobs)}))

    def close(self) -> None:
        with self._lock:
            self._home.close()


def as_json(view: Any) -> bytes:
    return json.dumps(view, separators=(",", ":")).encode()
