"""Assembly: from the trees of all files to one document, or to everything that is wrong with them.

What has not the right shape is reported and cut out, as small a piece as the rest can be judged without, so that one
reading tells of every fault in every file. A name that jobs, queues or workflows bear is unique over all files,
ignoring case: the file systems that hold their logs may ignore it too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from procclaw.model.completion import Completion, Declared, config_document, job_document
from procclaw.model.errors import SpecError
from procclaw.model.rules import CheckSchedule, Home, LintSchedule, findings
from procclaw.model.shape import Path, Shape, child, complaints, dotted, filled, printable
from procclaw.model.tree import Fault, Node, Unreadable, mark_of, value

CONFIG_FILE = "procclaw.yaml"

_NAMED = ("jobs", "queues", "workflows")
_DEPTH_OF_CUT = {"jobs": 3, "queues": 2, "workflows": 2, "defaults": 2}
"""Path elements of the piece that is cut out, by its first; else the first alone."""


class Source(NamedTuple):
    """One file, as far as it could be read."""

    name: str
    """Relative to the home, for messages."""
    root: Node | None
    faults: Sequence[Fault]
    """Found while reading; line 0 is the file as such."""
    size: int
    """Characters."""


class Schema(NamedTuple):
    shape: Shape
    errors: Callable[[Any], Iterable[Any]]
    """The errors, as jsonschema gives them, of a value against the shape."""


class Surroundings(NamedTuple):
    """What must be known beside the files."""

    check_schedule: CheckSchedule
    lint_schedule: LintSchedule
    system_timezone: str


class _File(NamedTuple):
    source: Source
    value: dict[str, Any]
    """Of the right shape."""
    cut: frozenset[Path]
    """What was cut out of it."""


def assemble(
    sources: Sequence[Source], config_schema: Schema, jobs_schema: Schema, around: Surroundings
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The document and the warnings. Raises SpecError with all problems, in the order of the files and lines."""
    assembly = _Assembly(sources, config_schema, jobs_schema)
    document = assembly.document(around)
    return document, assembly.report.told(is_error=False)


class _Report:
    """What is to be told, each thing once."""

    def __init__(self) -> None:
        self._told: dict[bool, dict[tuple[int, int, str], None]] = {True: {}, False: {}}

    def add(self, order: int, place: Fault, name: str, *, is_error: bool = True) -> None:
        where = f"{name}:{place.line}" if place.line else name
        where = f"{where} {dotted(place.path)}" if place.path else where
        self._told[is_error][order, place.line, printable(f"{where}: {place.message}")] = None

    def told(self, *, is_error: bool) -> tuple[str, ...]:
        return tuple(text for _, _, text in sorted(self._told[is_error], key=lambda entry: entry[:2]))


class _Assembly:
    def __init__(self, sources: Sequence[Source], config_schema: Schema, jobs_schema: Schema) -> None:
        self.report = _Report()
        self._order = {source.name: index for index, source in enumerate(sources)}
        self._shapes = {"config": config_schema.shape, "jobs": jobs_schema.shape}
        nothing = _File(Source(CONFIG_FILE, None, (), 0), {}, frozenset())
        self._config = nothing
        self._files: list[_File] = []
        for source in sources:
            if source.name == CONFIG_FILE:
                self._config = self._read(source, config_schema)
            else:
                self._files.append(self._read(source, jobs_schema))
        self._declared_in: dict[tuple[str, str], _File] = {}
        """By section and name."""

    def document(self, around: Surroundings) -> dict[str, Any]:
        jobs, queues, workflows = (self._gathered(section) for section in _NAMED)
        declared = self._declared(jobs, self._config.value.get("timezone") or around.system_timezone)
        workflows = self._filled("workflows", workflows)
        home = Home(declared, self._refused_jobs(), workflows, self._config.value)
        for finding in findings(home, around.check_schedule, around.lint_schedule):
            self._tell(finding.path, finding.message, is_error=finding.is_error)
        problems = self.report.told(is_error=True)
        if problems:
            raise SpecError(problems)
        return {
            "config": config_document(self._config.value, self._shapes["config"], around.system_timezone),
            "jobs": {name: job_document(job) for name, job in declared.items()},
            "queues": self._filled("queues", queues),
            "workflows": workflows,
        }

    def _read(self, source: Source, schema: Schema) -> _File:
        for fault in source.faults:
            self._fault(source, fault)
        nothing = _File(source, {}, frozenset())
        if source.root is None:
            return nothing
        try:
            read = value(source.root, schema.shape, source.size)
        except Unreadable as error:
            self._fault(source, error.fault)
            return nothing
        return _File(source, *self._judged(source, source.root, read, schema))

    def _judged(self, source: Source, root: Node, read: Any, schema: Schema) -> tuple[dict[str, Any], frozenset[Path]]:
        """What is left of a file when all that has not the right shape is cut out; and what that was."""
        cut: set[Path] = set()
        told = {fault.path for fault in source.faults}
        said = [complaint for error in schema.errors(read) for complaint in complaints(error)]
        for path, message in sorted(said, key=lambda complaint: mark_of(root, complaint[0])):
            if path not in told:
                self._fault(source, Fault(mark_of(root, path)[0], path, message))
            cut.add(path[: _DEPTH_OF_CUT.get(str(path[0]), 1)] if path else ())
        if () in cut:
            return {}, frozenset(cut)
        for path in cut:
            _cut_out(read, path)
        return read, frozenset(cut)

    def _gathered(self, section: str) -> dict[str, Any]:
        """All entries of a section of the jobs files, in the order of declaration."""
        gathered: dict[str, Any] = {}
        first: dict[str, str] = {}
        for file in self._files:
            for name, entry in file.value.get(section, {}).items():
                path = (section, name)
                earlier = first.setdefault(name.lower(), name)
                if earlier in gathered:
                    other = self._declared_in[section, earlier]
                    place = f"{other.source.name}:{_line(other, (section, earlier))}"
                    spelling = "" if earlier == name else f' as "{earlier}"'
                    said = f"is declared already, at {place}{spelling}"
                    self._fault(file.source, Fault(_line(file, path), path, said))
                else:
                    gathered[name] = entry
                    self._declared_in[path] = file
        return gathered

    def _declared(self, jobs: Mapping[str, Any], timezone: str) -> dict[str, Declared]:
        defaults = self._config.value.get("defaults", {})
        broken = self._broken_fields()
        completion = Completion(self._section("jobs"), defaults)
        declared = {}
        for name, own in jobs.items():
            file = self._declared_in["jobs", name]
            whole = completion.whole(own)
            declared[name] = Declared(
                id=name,
                own=own,
                whole=whole,
                broken=frozenset(broken.get(name, set()) | broken.get("", set())),
                timezone=whole["timezone"] or timezone,
                source=f"{file.source.name}:{_line(file, ('jobs', name))}",
            )
        return declared

    def _broken_fields(self) -> dict[str, set[str]]:
        """By job, the fields that were cut out; under no name those of the defaults."""
        broken: dict[str, set[str]] = {}
        for file in (self._config, *self._files):
            for cut in file.cut:
                if cut[:1] == ("defaults",) and len(cut) == 2:
                    broken.setdefault("", set()).add(str(cut[1]))
                elif cut[:1] == ("jobs",) and len(cut) == 3:
                    broken.setdefault(str(cut[1]), set()).add(str(cut[2]))
        return broken

    def _refused_jobs(self) -> frozenset[str]:
        """Names of jobs that were cut out as a whole; each stands in the file for all that."""
        return frozenset(
            str(cut[1]) for file in self._files for cut in file.cut if cut[:1] == ("jobs",) and len(cut) == 2
        )

    def _section(self, section: str) -> Shape:
        """The shape of one entry of a section."""
        return child(child(self._shapes["jobs"], section), "")

    def _filled(self, section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
        shape = self._section(section)
        return {name: filled(entry, shape) for name, entry in entries.items()}

    def _tell(self, path: Path, message: str, *, is_error: bool = True) -> None:
        """Report something about a job, queue or workflow, or about procclaw.yaml."""
        file = self._declared_in[str(path[0]), str(path[1])] if path[0] in _NAMED else self._config
        self._fault(file.source, Fault(_line(file, path), path, message), is_error=is_error)

    def _fault(self, source: Source, fault: Fault, *, is_error: bool = True) -> None:
        self.report.add(self._order[source.name], fault, source.name, is_error=is_error)


def _line(file: _File, path: Path) -> int:
    return 0 if file.source.root is None else mark_of(file.source.root, path)[0]


def _cut_out(read: Any, path: Path) -> None:
    for key in path[:-1]:
        read = read.get(key)
        if not isinstance(read, dict):
            return
    read.pop(path[-1], None)
