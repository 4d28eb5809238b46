"""The tables of the database, and how a value becomes a row of one: the only place where the two meet.

A change of the schema needs a new number in the store and a migration; databases of every earlier number open for ever.

SQLite has no checksums: a bit that has tipped over in a cell comes back as a word nobody knows, as text that is no JSON
or no UTF-8, or as a value of another type. Whatever no column can hold is damage of the file, not a bug of ours.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args

from procclaw.model.alerts import Alert, AlertKind, AlertState, Trouble, Watch
from procclaw.model.clock import from_microseconds, to_microseconds
from procclaw.model.errors import StoreError
from procclaw.model.intents import NO_DETAILS, Details, Intent, IntentKind, IntentState
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    Attempt,
    Cursor,
    CycleRecord,
    DeadLetter,
    Event,
    Health,
    Hold,
    HoldKind,
    Run,
    RunState,
    Slice,
    SlotOutcome,
    Slots,
    StopOrder,
    Terms,
    Trigger,
    TriggerFile,
    Usage,
    WorkflowRun,
)
from procclaw.model.spec import Leftovers, OnFailure, Priority, WorkflowSpec, WorkflowType

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
CREATE INDEX slots_by_age ON slots (noticed_at);
CREATE TABLE runs (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, occasion TEXT NOT NULL, trigger TEXT NOT NULL, state TEXT NOT NULL,
    queued_at INTEGER NOT NULL, not_before_at INTEGER NOT NULL, scheduled_at INTEGER, started_at INTEGER,
    finished_at INTEGER, reason TEXT, detail TEXT NOT NULL, attempts INTEGER NOT NULL, failures INTEGER NOT NULL,
    restarts INTEGER NOT NULL, ending TEXT, ending_force INTEGER NOT NULL, despite_disabled INTEGER NOT NULL,
    process_hash TEXT NOT NULL, exit_code INTEGER, closed TEXT NOT NULL, priority TEXT NOT NULL, params TEXT NOT NULL,
    boot_id TEXT NOT NULL, pulled TEXT NOT NULL, request INTEGER, trigger_file TEXT, workflow_run TEXT, step INTEGER,
    UNIQUE (job_id, occasion)
);
CREATE INDEX runs_active ON runs (job_id) WHERE finished_at IS NULL;
CREATE INDEX runs_finished ON runs (job_id) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_succeeded ON runs (job_id, finished_at) WHERE state = 'succeeded';
CREATE INDEX runs_by_time ON runs (queued_at);
CREATE INDEX runs_by_age ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_of_job ON runs (job_id, queued_at);
CREATE INDEX runs_of_workflow ON runs (workflow_run) WHERE workflow_run IS NOT NULL;
CREATE TABLE attempts (
    id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE, job_id TEXT NOT NULL,
    number INTEGER NOT NULL, mark TEXT NOT NULL, boot_id TEXT NOT NULL, created_at INTEGER NOT NULL,
    terms TEXT NOT NULL, instance INTEGER NOT NULL, pid INTEGER, start_ticks INTEGER, job_pid INTEGER,
    started_at INTEGER, blank_launches INTEGER NOT NULL, refusal TEXT, stop TEXT, exited_at INTEGER, exit_code INTEGER,
    ended_at INTEGER, reason TEXT, detail TEXT NOT NULL, cpu_seconds REAL, max_rss_mb REAL, result TEXT, stdout TEXT,
    stderr TEXT,
    UNIQUE (run_id, number)
);
CREATE INDEX attempts_live ON attempts (job_id) WHERE ended_at IS NULL;
CREATE TABLE holds (
    job_id TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL, by TEXT NOT NULL, until INTEGER,
    PRIMARY KEY (job_id, kind)
) WITHOUT ROWID;
CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, kind TEXT NOT NULL, force INTEGER NOT NULL,
    requested_at INTEGER NOT NULL, requested_by TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL, run_id TEXT,
    resolved_at INTEGER, key TEXT, details TEXT NOT NULL
);
CREATE INDEX intents_by_key ON intents (key) WHERE key IS NOT NULL;
CREATE TABLE payloads (
    intent_id INTEGER PRIMARY KEY REFERENCES intents (id) ON DELETE CASCADE, body BLOB NOT NULL
);
CREATE INDEX intents_open ON intents (job_id) WHERE resolved_at IS NULL;
CREATE INDEX intents_by_age ON intents (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, job_id TEXT, fields TEXT NOT NULL
);
CREATE INDEX events_by_job ON events (job_id, id);
CREATE INDEX events_by_age ON events (at);
CREATE TABLE health (
    attempt_id TEXT PRIMARY KEY REFERENCES attempts (id) ON DELETE CASCADE, job_id TEXT NOT NULL, is_healthy INTEGER,
    since INTEGER NOT NULL, checked_at INTEGER NOT NULL, failures INTEGER NOT NULL, counted_at INTEGER,
    detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE usage (
    attempt_id TEXT PRIMARY KEY REFERENCES attempts (id) ON DELETE CASCADE, job_id TEXT NOT NULL,
    measured_at INTEGER NOT NULL, cpu_seconds REAL NOT NULL, cpu_percent REAL, memory_mb REAL NOT NULL,
    over_since INTEGER, detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE alerts (
    key TEXT PRIMARY KEY, job_id TEXT NOT NULL, kind TEXT NOT NULL, raised_at INTEGER NOT NULL, message TEXT NOT NULL,
    run_id TEXT, state TEXT NOT NULL, tries INTEGER NOT NULL, next_try_at INTEGER, asked_at INTEGER, done_at INTEGER,
    detail TEXT NOT NULL
);
CREATE INDEX alerts_pending ON alerts (raised_at) WHERE state = 'pending';
CREATE INDEX alerts_by_time ON alerts (raised_at);
CREATE INDEX alerts_by_age ON alerts (done_at) WHERE done_at IS NOT NULL;
CREATE TABLE troubles (
    job_id TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (job_id, kind)
) WITHOUT ROWID;
CREATE TABLE watches (job_id TEXT PRIMARY KEY, key TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, run_id TEXT NOT NULL UNIQUE, added_at INTEGER NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, exit_code INTEGER, attempts INTEGER NOT NULL, reinjected_run_id TEXT
);
CREATE INDEX dead_letters_of_job ON dead_letters (job_id);
CREATE TABLE trigger_files (
    job_id TEXT NOT NULL, path TEXT NOT NULL, identity TEXT NOT NULL, run_id TEXT NOT NULL, seen_at INTEGER NOT NULL,
    PRIMARY KEY (job_id, path)
) WITHOUT ROWID;
CREATE TABLE workflow_runs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL, queued_at INTEGER NOT NULL,
    by TEXT NOT NULL, tries TEXT NOT NULL, finished_at INTEGER, reason TEXT, detail TEXT NOT NULL, ending TEXT,
    deadline_at INTEGER, request INTEGER NOT NULL
);
CREATE INDEX workflow_runs_active ON workflow_runs (id) WHERE finished_at IS NULL;
CREATE INDEX workflow_runs_by_time ON workflow_runs (queued_at);
CREATE INDEX workflow_runs_by_age ON workflow_runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE cycles (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, spec_hash TEXT NOT NULL, runs TEXT NOT NULL, body BLOB NOT NULL
);
CREATE TABLE past_specs (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, document BLOB NOT NULL)
"""


DATABASE = "procclaw.db"
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, AssertionError, RecursionError)
"""What reading a value raises that nobody can have written."""

Read = TypeVar("Read")


def damaged(what: str, path: str = DATABASE) -> StoreError:
    return StoreError(
        f"{path}: the database is damaged ({what}); restore it from a backup, or move it away "
        "to start without its history: running jobs are found again by their records"
    )


def decoded(what: str, read: Callable[[], Read]) -> Read:
    """What `read` makes of stored values. Raises StoreError where they are none that we can have written."""
    try:
        return read()
    except _UNREADABLE as error:
        raise damaged(f"{what} cannot be read") from error


class _Codec(NamedTuple):
    """How one kind of value is written to a column and read back; neither sees None."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_TIME = _Codec(to_microseconds, from_microseconds)
_FLAG = _Codec(int, bool)


def _word(kind: type[StrEnum]) -> _Codec:
    # To look the word up takes a fifth of the time of asking the type for it.
    return _Codec(str, {str(member): member for member in kind}.__getitem__)


def _write_stop(stop: StopOrder) -> str:
    moments = (stop.asked_at, stop.signalled_at, stop.killed_at, stop.last_killed_at)
    return json.dumps([stop.reason, stop.force, *(None if at is None else to_microseconds(at) for at in moments)])


def _read_stop(text: str) -> StopOrder:
    reason, force, *times = json.loads(text)
    asked_at, *sent_at = (None if at is None else from_microseconds(at) for at in times)
    assert asked_at is not None
    return StopOrder(Reason(reason), asked_at, force, *sent_at)


QUEUE_IN_TERMS = Terms._fields.index("queue")
"""Its place in the JSON array."""


@lru_cache(maxsize=1024)
def _read_terms(text: str) -> Terms:
    # The same for most attempts of most jobs.
    signal, grace, leftovers, success, timeout, process_hash, *rest = json.loads(text)
    return Terms(signal, grace, Leftovers(leftovers), tuple(success), timeout, process_hash, *rest)


def _write_closed(closed: Sequence[tuple[str, datetime]]) -> str:
    return json.dumps([[gate, to_microseconds(since)] for gate, since in closed]) if closed else "[]"


def _read_closed(text: str) -> tuple[tuple[str, datetime], ...]:
    return () if text == "[]" else tuple((gate, from_microseconds(since)) for gate, since in json.loads(text))


def _read_params(text: str) -> tuple[tuple[str, str], ...]:
    return () if text == "[]" else tuple((name, value) for name, value in json.loads(text))


def _read_workflow(columns: Sequence[Any]) -> WorkflowSpec:
    kind, jobs, callback, on_failure, *rest = columns
    return WorkflowSpec(WorkflowType(kind), tuple(jobs), callback, OnFailure(on_failure), *rest)


def _write_details(details: Details) -> str:
    """Only what differs from no details at all."""
    if details == NO_DETAILS:
        return "{}"
    said = {name: item for name, item in details._asdict().items() if item != getattr(NO_DETAILS, name)}
    return json.dumps(
        {name: to_microseconds(item) if isinstance(item, datetime) else item for name, item in said.items()}
    )


def _read_details(text: str) -> Details:
    if text == "{}":
        return NO_DETAILS
    said = json.loads(text)
    for name, read in _DETAILS.items():
        if name in said:
            said[name] = read(said[name])
    return Details(**said)


_DETAILS: Mapping[str, Callable[[Any], Any]] = {
    "params": lambda pairs: tuple((name, value) for name, value in pairs),
    "at": from_microseconds,
    "until": from_microseconds,
    "dead_letters": tuple,
    "workflow": _read_workflow,
}

_CLOSED = _Codec(_write_closed, _read_closed)
_PARAMS = _Codec(json.dumps, _read_params)
_LIST = _Codec(json.dumps, lambda text: tuple(json.loads(text)))
_WORKFLOW = _Codec(json.dumps, lambda text: _read_workflow(json.loads(text)))
_DETAILS_CODEC = _Codec(_write_details, _read_details)
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
        self._readers = tuple(codec or _NOTHING_ELSE for codec in self._codecs)
        self._plain = tuple(
            _plain_types(row.__annotations__[field], codec)
            for field, codec in zip(self.fields, self._codecs, strict=True)
        )
        self._to_read: dict[tuple[type, ...], tuple[tuple[int, Callable[[Any], Any]], ...]] = {}
        """By the types of a row's columns, the places that do not hold their value as it is, and what reads it."""
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
        """Raises StoreError for what nobody can have written."""
        kinds = tuple(map(type, columns))
        to_read = self._to_read.get(kinds)
        if to_read is None:
            # Few rows differ from all that were read before in what types of values they have.
            to_read = self._to_read[kinds] = tuple(
                (place, codec.read)
                for place, (kind, plain, codec) in enumerate(zip(kinds, self._plain, self._readers, strict=True))
                if kind not in plain
            )
        items = list(columns)
        try:
            for place, read in to_read:
                items[place] = read(items[place])
            return self.row(*items)
        except _UNREADABLE as error:
            raise damaged(f"a row of {self.name} cannot be read") from error


def _plain_types(annotation: Any, codec: _Codec | None) -> frozenset[type]:
    """The types in which a column's value comes back as it is."""
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return frozenset(members if codec is None else {NoneType} & set(members))


def _refuse(item: object) -> object:
    raise TypeError(type(item).__name__)


_NOTHING_ELSE = _Codec(_refuse, _refuse)


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
        "closed": _CLOSED,
        "priority": _word(Priority),
        "params": _PARAMS,
        "pulled": _LIST,
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
HOLDS = Table("holds", Hold, ("job_id", "kind"), {"kind": _word(HoldKind), "since": _TIME, "until": _TIME})
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
        "details": _DETAILS_CODEC,
    },
)
CYCLES = Table("cycles", CycleRecord, ("id",), {"at": _TIME, "runs": _LIST})
EVENTS = Table("events", Event, ("id",), {"at": _TIME, "fields": _FIELDS})
HEALTH = Table(
    "health",
    Health,
    ("attempt_id",),
    {"is_healthy": _FLAG, "since": _TIME, "checked_at": _TIME, "counted_at": _TIME},
)
USAGE = Table("usage", Usage, ("attempt_id",), {"measured_at": _TIME, "over_since": _TIME})
ALERTS = Table(
    "alerts",
    Alert,
    ("key",),
    {
        "kind": _word(AlertKind),
        "raised_at": _TIME,
        "state": _word(AlertState),
        "next_try_at": _TIME,
        "asked_at": _TIME,
        "done_at": _TIME,
    },
)
TROUBLES = Table("troubles", Trouble, ("job_id", "kind"), {"kind": _word(AlertKind), "since": _TIME})
WATCHES = Table("watches", Watch, ("job_id",), {"since": _TIME})
DEAD_LETTERS = Table("dead_letters", DeadLetter, ("id",), {"added_at": _TIME, "reason": _word(Reason)})
TRIGGER_FILES = Table("trigger_files", TriggerFile, ("job_id", "path"), {"seen_at": _TIME})
WORKFLOW_RUNS = Table(
    "workflow_runs",
    WorkflowRun,
    ("id",),
    {
        "spec": _WORKFLOW,
        "state": _word(RunState),
        "queued_at": _TIME,
        "tries": _LIST,
        "finished_at": _TIME,
        "reason": _word(Reason),
        "ending": _word(Reason),
        "deadline_at": _TIME,
    },
)
