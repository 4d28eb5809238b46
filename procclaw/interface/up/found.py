"""What `procclaw up` is to run, and the home it has: a home itself, or a file that gets one of its own.

Looked for in a stated order and never guessed: what a file is follows from its name and content as for `import`, and
jobs that cannot be converted are told by file and line.
"""

import os
import re
from typing import NamedTuple

from procclaw.engine.ownhome import lay_out, place_of
from procclaw.interface.convert.conversion import Converted, Fate, Note
from procclaw.interface.convert.importing import read_one
from procclaw.interface.convert.jobsfile import written
from procclaw.model.errors import NotFound, ProcclawError

JOBS_FILE = "jobs.yaml"
_SIGNS_OF_A_HOME = ("procclaw.yaml", "procclaw.db")
NAMES = (
    JOBS_FILE,
    "Procfile",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
    "process-compose.yaml",
    "process-compose.yml",
)
"""What is looked for in a directory that is no home, in this order."""
_TOP_LEVEL_JOBS = re.compile(r"""^(?:jobs|"jobs"|'jobs')\s*:|^\s*\{\s*"jobs"\s*:""", re.MULTILINE)
_MOST_BYTES = 1 << 20
"""Of a YAML file that are searched for what it is."""


class Found(NamedTuple):
    """What is to be run."""

    home: str
    file: str | None = None
    """The one that the home was made for; None: the home is somebody's own."""

    @property
    def name(self) -> str:
        return self.home if self.file is None else self.file


def find(place: str | None, chosen_home: str | None) -> Found:
    """`place` is a file or a directory, `chosen_home` the one of `--home`. Raises ProcclawError, NotFound."""
    if chosen_home is not None:
        return Found(os.path.realpath(os.path.expanduser(chosen_home)))
    path = os.path.realpath(place or ".")
    if os.path.isdir(path):
        return _in_directory(path)
    if not os.path.exists(path):
        raise NotFound(
            f'no file or directory "{place}"; jobs are named after it: procclaw up . {place}'
            if place and "/" not in place
            else f'no file or directory "{place}"'
        )
    folder = os.path.dirname(path)
    if os.path.basename(path) == JOBS_FILE and _is_home(folder):
        return Found(folder)
    return Found(place_of(path), path)


def _in_directory(folder: str) -> Found:
    if _is_home(folder):
        return Found(folder)
    names = (os.path.join(folder, name) for name in NAMES)
    file = next((path for path in names if os.path.isfile(path)), None)
    if file is None:
        raise NotFound(f"{folder}: no home (procclaw.yaml), and none of {', '.join(NAMES)}; --home names a home")
    return Found(place_of(file), file)


def _is_home(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in _SIGNS_OF_A_HOME)


def prepare(found: Found) -> tuple[str, ...]:
    """Make the home what the file says; what a person has to be told of that. Raises ProcclawError."""
    if found.file is None:
        return ()
    if _is_our_own(found.file):
        lay_out(found.home, found.file, None)
        return ()
    converted = read_one(found.file)
    if not converted.conversion.jobs:
        said = "; ".join(_refusals(converted))
        raise ProcclawError(f"{found.file}: no job in it{f': {said}' if said else ''}")
    lay_out(found.home, found.file, written([converted]))
    return (*_refusals(converted), *_differences(converted))


def _is_our_own(file: str) -> bool:
    """Whether it is a jobs.yaml, whatever its name."""
    if os.path.basename(file) == JOBS_FILE:
        return True
    if not file.endswith((".yaml", ".yml")):
        return False
    with open(file, encoding="utf-8", errors="replace") as opened:
        return _TOP_LEVEL_JOBS.search(opened.read(_MOST_BYTES)) is not None


def _refusals(converted: Converted) -> list[str]:
    return [_told(converted, note) for note in converted.conversion.all_notes() if note.fate is Fate.REFUSED]


def _told(converted: Converted, note: Note) -> str:
    place = note.file or converted.path
    return f"{place}:{note.line} {note.told}" if note.line else f"{place} {note.told}"


def _differences(converted: Converted) -> list[str]:
    """Told in one line: they are the same each time, and `import` has them in full."""
    fates = [note.fate for note in converted.conversion.all_notes()]
    counted = (
        (fates.count(Fate.CHANGED), "mean something else here"),
        (fates.count(Fate.DROPPED), "have no place here"),
    )
    told = " and ".join(f"{count} {what}" for count, what in counted if count)
    return [f"of what it says {told}: procclaw import {converted.path} tells"] if told else []
