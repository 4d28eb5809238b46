"""`logs/daemon.log`, what the reconciler did, and `logs/daemon.audit.log`, who asked for what, as JSON lines.

A line is a constant sentence and key=value pairs, so both can be searched. Each is appended with one write, so lines of
a daemon and of commands beside it do not mix. A log that cannot be written (full disk) is given up for that line: the
database has the events.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import datetime

from procclaw.model.clock import iso
from procclaw.model.records import Event

LEVELS = ("debug", "info", "warning", "error")
MAX_BYTES = 10 * 1024 * 1024
KEPT = 5

_WARNINGS = frozenset(
    {"slot missed", "clock went back", "limit passed", "alert not delivered", "configuration refused"}
)
_BAD = {("state", "failed"), ("health", "unhealthy")}
_AUDITED = frozenset({"request answered", "hold set", "hold lifted", "configuration loaded", "job removed"})


class DaemonLog:
    def __init__(self, path: str, audit_path: str, now: Callable[[], datetime], level: str = "info") -> None:
        self._path = path
        self._audit_path = audit_path
        self._now = now
        self._echo: Callable[[str], None] | None = None
        self.set_level(level)

    def echo_to(self, echo: Callable[[str], None]) -> None:
        """Hand every line to `echo` as well, for whoever watches a daemon in the foreground."""
        self._echo = echo

    def set_level(self, level: str) -> None:
        """The least level that is written: debug, info, warning or error, in any case."""
        self._least = LEVELS.index(level.lower())

    def line(self, level: str, sentence: str, **fields: object) -> None:
        if LEVELS.index(level) < self._least:
            return
        pairs = "".join(f" {name}={_quoted(value)}" for name, value in fields.items() if value is not None)
        text = f"{iso(self._now())} {level} {sentence}{pairs}"
        _append(self._path, text + "\n")
        if self._echo is not None:
            self._echo(text)

    def events(self, events: Iterable[Event]) -> None:
        for event in events:
            fields: dict[str, object] = dict(event.fields)
            named = fields if event.job_id is None else {"job": event.job_id} | fields
            is_bad = event.kind in _WARNINGS or not _BAD.isdisjoint(event.fields)
            self.line("warning" if is_bad else "info", event.kind, **named)
            if event.kind in _AUDITED:
                self.audit(event.kind, event.at, **named)

    def audit(self, kind: str, at: datetime, **fields: object) -> None:
        _append(self._audit_path, json.dumps({"at": iso(at), "event": kind, **fields}, default=str) + "\n")


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and all(char.isalnum() or char in "_.:/+-,@%*" for char in text) else json.dumps(text)


def _append(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        os.write(descriptor, text.encode("utf-8", "replace"))
        is_full = os.fstat(descriptor).st_size > MAX_BYTES
    except OSError:
        return
    finally:
        os.close(descriptor)
    if is_full:
        _rotate(path)


def _rotate(path: str) -> None:
    # Another process may be doing the same: what one has moved already, the other no longer finds.
    with contextlib.suppress(OSError):
        for number in range(KEPT - 1, 0, -1):
            if os.path.exists(f"{path}.{number}"):
                os.replace(f"{path}.{number}", f"{path}.{number + 1}")
        os.replace(path, f"{path}.1")
