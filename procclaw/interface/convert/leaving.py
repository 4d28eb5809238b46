"""Leaving for another tool: the jobs that are to go, the files they come to over there, and what became of every field.

A format is a module with `export(leaving) -> Exported`. It says of each field of a job that it is kept, means something
else over there, or has no place; what it does not mention and the job says all the same is dropped by name, so nothing
gets lost in silence. No value of a secret is ever looked at: files name secrets, and the report says where to put them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from procclaw.interface.convert.conversion import Fate, Note
from procclaw.model.spec import Config, JobSpec, JobType, Priority, WorkflowSpec


class Unexportable(Exception):
    """A job, or a time of it, that cannot be said in the other tool's words; with the reason."""


class Leaving(NamedTuple):
    """What is to be exported."""

    jobs: tuple[JobSpec, ...]
    workflows: Mapping[str, WorkflowSpec]
    """Those of whose jobs none stays behind."""
    config: Config
    home: str
    local_zone: str
    image: str | None = None
    namespace: str | None = None


class File(NamedTuple):
    name: str
    text: str


class Left(NamedTuple):
    """What became of a job."""

    id: str
    source: str
    """File and line of its entry in jobs.yaml."""
    kept: tuple[str, ...]
    """Fields that mean the same over there."""
    notes: tuple[Note, ...]


class Exported(NamedTuple):
    files: tuple[File, ...]
    jobs: tuple[Left, ...]
    notes: tuple[Note, ...] = ()
    """About what belongs to no one job, or to all of them."""
    is_one_file: bool = False
    """Rather than a folder of files."""

    def all_notes(self) -> tuple[Note, ...]:
        return (*self.notes, *(note for job in self.jobs for note in job.notes))


class Telling:
    """Gathers what becomes of one job's fields."""

    def __init__(self, job: JobSpec) -> None:
        self.job = job
        self._kept: dict[str, None] = {}
        self._notes: dict[Note, None] = {}
        self._told: set[str] = set()

    def kept(self, *fields: str) -> None:
        self._kept |= dict.fromkeys(fields)
        self._told.update(fields)

    def explained(self, field: str, says: str) -> None:
        """It is kept, in a way that is worth a word."""
        self._note(field, Fate.KEPT, says)

    def changed(self, field: str, says: str) -> None:
        self._note(field, Fate.CHANGED, says)

    def dropped(self, field: str, says: str) -> None:
        self._note(field, Fate.DROPPED, says)

    def refused(self, says: str) -> Left:
        file, line = _place(self.job)
        return Left(self.job.id, self.job.source, (), (Note(line, self.job.id, Fate.REFUSED, says, file),))

    def left(self, tool: str, lost: Mapping[str, str]) -> Left:
        """All that was told, and by name what the job says beyond that; `lost` has the reasons."""
        for field, is_said in _SAID.items():
            if field not in self._told and is_said(self.job):
                self.dropped(field, lost.get(field) or f"{tool} has nothing like it")
        noted = {note.what for note in self._notes}
        kept = tuple(field for field in _SAID if field in self._kept and field not in noted and _SAID[field](self.job))
        return Left(self.job.id, self.job.source, kept, tuple(self._notes))

    def _note(self, field: str, fate: Fate, says: str) -> None:
        file, line = _place(self.job)
        # Of `depends_on database`, say, the first word is the field.
        self._told.add(field.split()[0])
        self._notes[Note(line, field, fate, says, file)] = None


_SAID: dict[str, Callable[[JobSpec], bool]] = {
    "cmd": lambda _job: True,
    "name": lambda job: job.name != job.id,
    "description": lambda job: bool(job.description),
    "tags": lambda job: bool(job.tags),
    "cwd": lambda job: job.cwd is not None,
    "env": lambda job: bool(job.env),
    "env_file": lambda job: job.env_file is not None,
    "user": lambda job: job.user is not None,
    "group": lambda job: job.group is not None,
    "umask": lambda job: job.umask is not None,
    "nice": lambda job: job.nice is not None,
    "enabled": lambda job: not job.enabled,
    "schedule": lambda job: bool(job.schedule),
    "timezone": lambda job: bool(job.schedule),
    "run_at": lambda job: job.run_at is not None,
    "on_overlap": lambda job: job.type is JobType.SCHEDULED,
    "catch_up": lambda job: job.type in (JobType.SCHEDULED, JobType.ONESHOT),
    "jitter": lambda job: job.jitter_seconds > 0,
    "timeout": lambda job: job.timeout_seconds is not None,
    "restart": lambda job: job.type is JobType.CONTINUOUS,
    "success_exit_codes": lambda job: job.success_exit_codes != (0,),
    "retry": lambda _job: True,
    "shutdown": lambda _job: True,
    "concurrency": lambda job: job.concurrency.max_instances != 1,
    "log": lambda _job: True,
    "health_check": lambda job: job.health_check.is_probed,
    "depends_on": lambda job: bool(job.depends_on),
    "queue": lambda job: job.queue is not None,
    "priority": lambda job: job.priority is not Priority.NORMAL,
    "dedup": lambda job: job.dedup is not None,
    "lock": lambda job: job.lock is not None,
    "trigger": lambda job: bool(job.triggers),
    "params": lambda job: bool(job.params),
    "resources": lambda job: job.resources is not None,
    "alerts": lambda job: job.alerts.ways.is_any,
    "expect": lambda job: job.expect is not None,
}
"""Fields, and whether a job says anything by them that has an effect."""


def gathered(jobs: Iterable[Left]) -> tuple[tuple[Left, ...], tuple[Note, ...]]:
    """The jobs without the notes that all of them share, and those notes."""
    jobs = tuple(jobs)
    exported = [job for job in jobs if not is_refused(job)]
    count = Counter((note.what, note.fate, note.says) for job in exported for note in dict.fromkeys(job.notes))
    shared = {each for each, number in count.items() if number == len(exported) > 1}
    notes = tuple(Note(0, *each) for each in count if each in shared)
    rest = (
        job._replace(notes=tuple(note for note in job.notes if (note.what, note.fate, note.says) not in shared))
        for job in jobs
    )
    return tuple(rest), notes


def is_refused(job: Left) -> bool:
    return any(note.fate is Fate.REFUSED for note in job.notes)


def span(seconds: float) -> str:
    """As most tools take it: a number of seconds without a needless fraction."""
    return f"{seconds:g}" if seconds < 1e6 else str(round(seconds))


def _place(job: JobSpec) -> tuple[str, int]:
    file, _, line = job.source.rpartition(":")
    return file, int(line)
