"""Completion: from what somebody wrote of a job to the document in which every field stands, defaults merged in.

Works on values that have the right shape; whether they make sense together is for `rules`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from procclaw.model.clock import parse_iso, to_microseconds
from procclaw.model.document import Document, process_hash
from procclaw.model.shape import Shape, child, filled

PRESETS: Mapping[str, tuple[float, ...]] = {
    "webhook": (0, 30, 300, 900, 3600),
    "exponential": (1, 2, 4, 8, 16, 32, 64, 128, 256, 300),
    "fixed": (30,),
}

ONLY_FOR = {"schedule": "scheduled", "run_at": "oneshot", "restart": "continuous"}
"""Fields that one type of job has, and no other."""
_TYPED = ("health_check", "trigger")
"""Mappings in which another `type` is another thing: nothing of the default's is kept."""
_SIZE = re.compile(r"(?P<number>[0-9.]+) ?(?P<unit>[KMGTkmgt]?)")
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Declared(NamedTuple):
    """One job between reading and document."""

    id: str
    own: Document
    """As written, without what was refused."""
    whole: Document
    """With defaults and every field, in the spelling of the files."""
    broken: frozenset[str]
    """Fields that were refused, so nothing can be said of them."""
    timezone: str
    source: str


class Completion:
    """Adds what the defaults and the schema say to jobs."""

    def __init__(self, fields: Shape, defaults: Document) -> None:
        self._fields = fields
        self._defaults = defaults
        self._bases: dict[str, Document] = {}

    def whole(self, own: Document) -> Document:
        """All fields of a job, merged with the defaults that fit its type, in the spelling of the files."""
        kind = own.get("type", self._defaults.get("type", "manual"))
        base = self._bases.get(kind)
        if base is None:
            base = self._bases[kind] = filled(_fitting(self._defaults, kind), self._fields)
        defaults = _fitting(self._defaults, kind)
        given = {
            field: filled(_merged(field, defaults.get(field), value), child(self._fields, field))
            for field, value in own.items()
        }
        return {**base, **given}


def job_document(job: Declared) -> Document:
    """The document of one job. Everything in it has passed `rules`."""
    whole = job.whole
    document = {
        **whole,
        "name": whole["name"] or job.id,
        "timezone": job.timezone,
        "schedule": listed(whole["schedule"]),
        "run_at": None if whole["run_at"] is None else _run_at(whole["run_at"], job.timezone),
        "umask": None if whole["umask"] is None else int(whole["umask"].removeprefix("0o"), 8),
        "retry": _retry(whole["retry"]),
        "shutdown": {**whole["shutdown"], "signal": _signal(whole["shutdown"]["signal"])},
        "log": {**whole["log"], "max_size": size_in_bytes(whole["log"]["max_size"])},
        "depends_on": dependencies(job),
        "expect": whole["expect"]
        and {**whole["expect"], "by": whole["expect"]["by"] and whole["expect"]["by"].zfill(5)},
        "lock": {**whole["lock"], "name": whole["lock"]["name"] or job.id},
        "trigger": listed(whole["trigger"]),
        "source": job.source,
    }
    return {**document, "process_hash": process_hash(document)}


def config_document(own: Document, shape: Shape, system_timezone: str) -> Document:
    """The document of procclaw.yaml; `defaults` is not part of it, being in the jobs already."""
    sections = {name: field for name, field in shape["properties"].items() if name not in ("$schema", "defaults")}
    whole = filled({name: value for name, value in own.items() if name in sections}, {"properties": sections})
    limit = whole["daemon"]["max_parallel"]
    return {
        **whole,
        "daemon": {**whole["daemon"], "max_parallel": None if limit == "none" else limit},
        "timezone": whole["timezone"] or system_timezone,
    }


def brought_up_to_date(document: Document, config: Shape, jobs: Shape) -> dict[str, Any]:
    """A document that an earlier version stored, with what the fields that it did not know yet have when nobody says
    otherwise; `config` and `jobs` are the shapes of today's files.
    """
    timezone = document["config"]["timezone"]
    of_job = child(child(jobs, "jobs"), "")

    def blank(kind: str) -> Document:
        whole = Completion(of_job, {}).whole({"type": kind})
        return job_document(Declared("", {}, whole, frozenset(), timezone, ""))

    blanks = {kind: blank(kind) for kind in {job["type"] for job in document["jobs"].values()}}
    found = {
        "config": _with_new(document["config"], config_document({}, config, timezone), config),
        "jobs": {name: _with_new(job, blanks[job["type"]], of_job) for name, job in document["jobs"].items()},
    }
    for section in ("queues", "workflows"):
        found[section] = _with_new(document.get(section, {}), None, child(jobs, section))
    return {**document, **found}


def _with_new(stored: Any, blank: Any, shape: Shape) -> Any:
    """What is stored, and of `blank` (None: of the shape's defaults) the fields that it lacks."""
    if isinstance(stored, list):
        return [_with_new(part, None, child(shape, 0)) for part in stored]
    if not isinstance(stored, dict):
        return stored
    if "properties" not in shape:
        return {name: _with_new(part, None, child(shape, name)) for name, part in stored.items()}
    fresh = blank if isinstance(blank, dict) else filled({}, shape)
    return {**fresh, **{name: _with_new(part, fresh.get(name), child(shape, name)) for name, part in stored.items()}}


def dependencies(job: Declared) -> list[Document]:
    """What it depends on, each with all its fields. A default that names the job itself does not fit it."""
    entries = [
        {"job": entry, "condition": "after_start", "timeout": None} if isinstance(entry, str) else entry
        for entry in job.whole["depends_on"]
    ]
    if "depends_on" in job.own:
        return entries
    return [entry for entry in entries if entry["job"] != job.id]


def size_in_bytes(size: int | str) -> int:
    """`10MB`, `512 K`, `1.5GiB`, `4096`: units are powers of 1024."""
    if isinstance(size, int):
        return size
    found = _SIZE.match(size)
    assert found is not None, "its shape has been checked"
    return int(float(found["number"]) * _SIZE_UNITS[found["unit"].upper()])


def listed(value: Any) -> list[Any]:
    """The one or many of a field that takes either, as a list."""
    return value if isinstance(value, list) else [value]


def texts(value: Any) -> Iterator[str]:
    """Every text in a text, a list or a mapping's values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (text for part in value for text in texts(part))
    elif isinstance(value, dict):
        yield from (text for part in value.values() for text in texts(part))


def _fitting(defaults: Document, kind: str) -> Document:
    """The defaults that apply to jobs of this type."""
    fitting = {field: value for field, value in defaults.items() if ONLY_FOR.get(field, kind) == kind}
    if kind == "continuous":
        fitting.pop("expect", None)
        if "concurrency" in fitting:
            fitting["concurrency"] = {**fitting["concurrency"], "max_instances": 1}
    return fitting


def _merged(field: str, default: Any, own: Any) -> Any:
    if not (isinstance(default, dict) and isinstance(own, dict)) or field == "expect":
        return own
    if field in _TYPED and "type" in default and "type" in own and default["type"] != own["type"]:
        return own
    return {**default, **{key: _merged("", default.get(key), value) for key, value in own.items()}}


def _retry(retry: Document) -> Document:
    limit = retry["max_attempts"]
    return {
        "enabled": retry["enabled"],
        "delays": retry["delays"] or list(PRESETS[retry["preset"]]),
        "max_attempts": None if limit == "unlimited" else limit,
        "reset_after": retry["reset_after"],
    }


def _signal(name: str) -> int:
    # Their numbers differ between systems.
    from signal import Signals

    return int(Signals["SIG" + name.removeprefix("SIG")])


def _run_at(text: str, timezone: str) -> int:
    from zoneinfo import ZoneInfo

    return to_microseconds(parse_iso(text, ZoneInfo(timezone)))
