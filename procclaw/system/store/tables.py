"""The tables of the database, and how a value becomes a row of one: the only place where the two meet.

A change of the schema needs a new number in the store and a migration; databases of every earlier number open for ever.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from procclaw.model.clock import from_microseconds, to_microseconds
from procclaw.model.spec import Leftovers
from procclaw.model.state import (
    Attempt,
    Cursor,
    Event,
    Hold,
    HoldKind,
    Intent,
    IntentKind,
    IntentState,
    Reason,
    Run,
    RunState,
    Slice,
    SlotOutcome,
    Slots,
    StopOrder,
    Terms,
    Trigger,
)

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE specs (hash TEXT PRIMARY KEY, document TEXT NOT NULL, loaded_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (
    job_id TEXT PRIMARY KEY, schedule_key TEXT NOT NULL, judged_until INTEGER NOT NULL, next_due_at INTEGER
) WITHOUT ROWID;
CREATE TABLE slots (
    job_id TEXT NOT NULL, first_due_at INTEGER NOT NULL, last_due_at INTEGER NOT NULL, total INTEGER NOT NULL,
    outcome TEXT NOT NULL, reason TEXT, run_id TEXT, noticed_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, first_due_at), CHECK (first_due_at <= last_due_at)
) WITHOUT ROWID;
CREATE TABLE runs (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, occasion TEXT NOT NULL, trigger TEXT NOT NULL, state TEXT NOT NULL,
    queued_at INTEGER NOT NULL, not_before_at INTEGER NOT NULL, scheduled_at INTEGER, started_at INTEGER,
    finished_at INTEGER, reason TEXT, detail TEXT NOT NULL, attempts INTEGER NOT NULL, failures INTEGER NOT NULL,
    restarts INTEGER NOT NULL, ending TEXT, ending_force INTEGER NOT NULL, despite_disabled INTEGER NOT NULL,
    process_hash TEXT NOT NULL, exit_code INTEGER, waiting_since INTEGER,
    UNIQUE (job_id, occasion)
);
CREATE INDEX runs_active ON runs (job_id) WHERE finished_at IS NULL;
CREATE INDEX runs_finished ON runs (job_id) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_by_time ON runs (queued_at);
CREATE TABLE attempts (
    id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, job_id TEXT NOT NULL,
    number INTEGER NOT NULL, mark TEXT NOT NULL, boot_id TEXT NOT NULL, created_at INTEGER NOT NULL,
    terms TEXT NOT NULL, instance INTEGER NOT NULL, pid INTEGER, start_ticks INTEGER, job_pid INTEGER,
    started_at INTEGER, blank_launches INTEGER NOT NULL, refusal TEXT, stop TEXT, exited_at INTEGER, exit_code INTEGER,
    ended_at INTEGER, reason TEXT, detail TEXT NOT NULL, cpu_seconds REAL, max_rss_mb REAL, stdout TEXT, stderr TEXT,
    UNIQUE (run_id, number)
);
CREATE INDEX attempts_live ON attempts (job_id) WHERE ended_at IS NULL;
CREATE TABLE holds (
    job_id TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL, by TEXT NOT NULL, PRIMARY KEY (job_id, kind)
) WITHOUT ROWID;
CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, kind TEXT NOT NULL, force INTEGER NOT NULL,
    requested_at INTEGER NOT NULL, requested_by TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL, run_id TEXT,
    resolved_at INTEGER
);
CREATE INDEX intents_open ON intents (job_id) WHERE resolved_at IS NULL;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, job_id TEXT, fields TEXT NOT NULL
);
CREATE INDEX events_by_job ON events (job_id, id);
"""


class _Codec(NamedTuple):
    """How one kind of value is written to a column and read back; neither sees None."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_TIME = _Codec(to_microseconds, from_microseconds)
_FLAG = _Codec(int, bool)


def _word(kind: type[StrEnum]) -> _Codec:
    return _Codec(str, kind)


def _write_stop(stop: StopOrder) -> str:
    moments = (stop.asked_at, stop.signalled_at, stop.killed_at, stop.last_killed_at)
    return json.dumps([stop.reason, stop.force, *(None if at is None else to_microseconds(at) for at in moments)])


def _read_stop(text: str) -> StopOrder:
    reason, force, *times = json.loads(text)
    asked_at, *sent_at = (None if at is None else from_microseconds(at) for at in times)
    assert asked_at is not None
    return StopOrder(Reason(reason), asked_at, force, *sent_at)


def _read_terms(text: str) -> Terms:
    signal, grace, leftovers, success, timeout, process_hash = json.loads(text)
    return Terms(signal, grace, Leftovers(leftovers), tuple(success), timeout, process_hash)


_TERMS = _Codec(json.dumps, _read_terms)
_STOP = _Codec(_write_stop, _read_stop)
_SLICE = _Codec(json.dumps, lambda text: Slice(*json.loads(text)))
_FIELDS = _Codec(lambda fields: json.dumps(dict(fields)), lambda text: tuple(json.loads(text).items()))


class Table:
    """The one place where a value's fields and a table's columns meet."""

    def __init__(self, name: str, row: type[Any], key: tuple[str, ...], codecs: Mapping[str, _Codec]) -> None:
        self.name = name
        self.row = row
        self.fields: tuple[str, ...] = row._fields
        self._codecs = tuple(codecs.get(field) for field in self.fields)
        self.columns = ", ".join(self.fields)
        marks = ", ".join("?" * len(self.fields))
        update = ", ".join(f"{field} = excluded.{field}" for field in self.fields if field not in key)
        self.insert = f"INSERT INTO {name} ({self.columns}) VALUES ({marks})"
        self.upsert = f"{self.insert} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {update}"

    def write(self, value: tuple[Any, ...]) -> list[Any]:
        return [
            item if codec is None or item is None else codec.write(item)
            for item, codec in zip(value, self._codecs, strict=True)
        ]

    def read(self, columns: Sequence[Any]) -> Any:
        return self.row(
            *(
                item if codec is None or item is None else codec.read(item)
                for item, codec in zip(columns, self._codecs, strict=True)
            )
        )


RUNS = Table(
    "runs",
    Run,
    ("id",),
    {
        "trigger": _word(Trigger),
        "state": _word(RunState),
        "queued_at": _TIME,
        "not_before_at": _TIME,
        "scheduled_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME,
        "waiting_since": _TIME,
        "reason": _word(Reason),
        "ending": _word(Reason),
        "ending_force": _FLAG,
        "despite_disabled": _FLAG,
    },
)
ATTEMPTS = Table(
    "attempts",
    Attempt,
    ("id",),
    {
        "created_at": _TIME,
        "terms": _TERMS,
        "started_at": _TIME,
        "refusal": _word(Reason),
        "stop": _STOP,
        "exited_at": _TIME,
        "ended_at": _TIME,
        "reason": _word(Reason),
        "stdout": _SLICE,
        "stderr": _SLICE,
    },
)
SLOTS = Table(
    "slots",
    Slots,
    ("job_id", "first_due_at"),
    {
        "first_due_at": _TIME,
        "last_due_at": _TIME,
        "outcome": _word(SlotOutcome),
        "reason": _word(Reason),
        "noticed_at": _TIME,
    },
)
CURSORS = Table("cursors", Cursor, ("job_id",), {"judged_until": _TIME, "next_due_at": _TIME})
HOLDS = Table("holds", Hold, ("job_id", "kind"), {"kind": _word(HoldKind), "since": _TIME})
INTENTS = Table(
    "intents",
    Intent,
    ("id",),
    {
        "kind": _word(IntentKind),
        "force": _FLAG,
        "requested_at": _TIME,
        "state": _word(IntentState),
        "resolved_at": _TIME,
    },
)
EVENTS = Table("events", Event, ("id",), {"at": _TIME, "fields": _FIELDS})
