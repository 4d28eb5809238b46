"""A conversion: the jobs a foreign file comes to, and what became of everything that stands in it.

*Kept* means the same here as there, *changed* works but not alike, *dropped* has no counterpart. What is changed or
dropped says how and why, in words for the person who has to decide whether that matters. A thing that cannot be read is
*refused*, and its neighbours are converted all the same.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from procclaw.model.masking import masked_at

MOST_BYTES = 4 * 1024 * 1024
"""Of a file; the longest crontab met in the wild had 60 KB."""
STANDARD_INPUT = "standard input"
"""The path of what came from there."""
STOP_SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2", 14: "ALRM", 15: "TERM", 28: "WINCH"}
"""Those a job can be stopped with, by their numbers on Linux."""
_NO_ID = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_ID = 63
_SWITCH = re.compile(r"[\w.-]+\s*[=:]\s*(yes|no|true|false|on|off|none|null|\d+)", re.IGNORECASE)
"""A setting that only turns something on or off, such as PrivateTmp=yes, whatever its name sounds like."""
_VALUE = re.compile(r"[=:]\s*[^\s,]")
"""Not in a mere list of settings: PrivateTmp=, ProtectHome=."""


class Fate(StrEnum):
    """What became of something that stands in the source."""

    KEPT = "kept"
    CHANGED = "changed"
    DROPPED = "dropped"
    REFUSED = "refused"


class Note(NamedTuple):
    """What became of one thing."""

    line: int
    """In the source; 0: it is about all of it."""
    what: str
    """The thing, in the source's words."""
    fate: Fate
    says: str = ""
    """What it means here, or why it has no place; empty for what is simply kept."""
    file: str = ""
    """Where, if not in the file that was named: one that it includes."""

    @property
    def told(self) -> str:
        """In a line."""
        return f"{self.fate}: {self.what}" + (f": {self.says}" if self.says else "")

    def discreet(self) -> "Note":
        """With stars where the source's own words hold what may be a secret."""
        is_harmless = _SWITCH.fullmatch(self.what) or not _VALUE.search(self.what)
        return self if is_harmless else self._replace(what=masked_at((), self.what))


class Imported(NamedTuple):
    """A job as it is going to stand in jobs.yaml."""

    id: str
    fields: dict[str, Any]
    """In the order in which they are to be read."""
    line: int
    notes: tuple[Note, ...] = ()
    comments: tuple[str, ...] = ()
    """What the source says about it to people."""
    file: str = ""

    def called(self, name: str | None) -> "Imported":
        """With what people call it, unless it says so already or its id is that."""
        if name is None or "name" in self.fields:
            return self
        return self._replace(fields={"name": name, **self.fields})

    def not_waiting_for(self, refused: Collection[str]) -> "Imported":
        """Without dependencies on jobs that there are not going to be, and with a note of each."""
        depends = self.fields.get("depends_on", [])
        kept = [each for each in depends if each["job"] not in refused]
        if len(kept) == len(depends):
            return self
        fields = {name: kept if name == "depends_on" else value for name, value in self.fields.items()}
        if not kept:
            del fields["depends_on"]
        lost = (each["job"] for each in depends if each["job"] in refused)
        says = "is not waited for: it is refused"
        notes = [Note(self.line, f"depends_on {name}", Fate.DROPPED, says, self.file) for name in lost]
        return self._replace(fields=fields, notes=(*self.notes, *notes))


class Conversion(NamedTuple):
    """What a file comes to."""

    jobs: tuple[Imported, ...]
    notes: tuple[Note, ...] = ()
    """About what belongs to no one job."""
    queues: Mapping[str, Any] = MappingProxyType({})
    workflows: Mapping[str, Any] = MappingProxyType({})
    """As they are going to stand in jobs.yaml."""

    def without(self, bad: Mapping[str, str]) -> "Conversion":
        """Without the jobs and workflows of these names, each of which is refused for that reason."""
        kept = tuple(job.not_waiting_for(bad) for job in self.jobs if job.id not in bad)
        notes = [Note(job.line, job.id, Fate.REFUSED, bad[job.id], job.file) for job in self.jobs if job.id in bad]
        notes += [Note(0, name, Fate.REFUSED, bad[name]) for name in self.workflows if name in bad]
        workflows = {name: value for name, value in self.workflows.items() if name not in bad}
        return self._replace(jobs=kept, notes=(*self.notes, *notes), workflows=workflows)

    def discreet(self) -> "Conversion":
        jobs = tuple(job._replace(notes=tuple(note.discreet() for note in job.notes)) for job in self.jobs)
        return self._replace(jobs=jobs, notes=tuple(note.discreet() for note in self.notes))

    def all_notes(self) -> tuple[Note, ...]:
        return (*self.notes, *(note for job in self.jobs for note in job.notes))


class Converted(NamedTuple):
    """One of the files that the user named."""

    path: str
    kind: str
    conversion: Conversion


class Source(NamedTuple):
    """A file that is to be converted."""

    path: str
    """As the user named it."""
    text: str
    read: Callable[[str], str | None]
    """Another file, named relative to this one or absolute; None: it is not there, or cannot be read as text."""
    find: Callable[[str], tuple[str, ...]] = lambda _pattern: ()
    """Files that match a pattern, sorted, named so that `read` takes them."""
    ask: Callable[[tuple[str, ...]], str] | None = None
    """What a program prints that is started in the same folder as we were. Raises NotFound where there is none such,
    ProcclawError where it fails. None: there is no file that it could be asked about.
    """
    also: tuple[str, ...] = ()
    """The other files that are converted with it, as the user named them."""

    @property
    def folder(self) -> str | None:
        """Where it lies, as an absolute path; None: it came from nowhere."""
        return None if self.path == STANDARD_INPUT else os.path.dirname(os.path.abspath(self.path))


class Unconvertible(Exception):
    """A file that cannot be read as what it is said to be; `line` 0: as a whole."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Ids:
    """Ids for jobs whose names are not ids, or are taken: the same source always gets the same ones."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        # The audit trail of that name is the daemon's own.
        self._taken = {"daemon", *(each.lower() for each in taken)}
        self.names: dict[str, str] = {}
        """What the id is the best that could be made of, where that is more than a number."""

    def of(self, name: str) -> str:
        """The name if it will do, else what is left of it, numbered if that is another's already."""
        plain = _NO_ID.sub("-", name).strip("_-")[:_LONGEST_ID].rstrip("-") or "job"
        found, number = plain, 1
        while found.lower() in self._taken:
            number += 1
            ending = f"-{number}"
            found = plain[: _LONGEST_ID - len(ending)] + ending
        self._taken.add(found.lower())
        if plain != name and name.strip() and name.isprintable():
            self.names[found] = name
        return found
