"""`procclaw import`: reads the files, writes jobs.yaml, and says what became of everything that stood in them."""

import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from procclaw.interface.convert.conversion import (
    MOST_BYTES,
    STANDARD_INPUT,
    Converted,
    Fate,
    Ids,
    Note,
    Source,
    Unconvertible,
)
from procclaw.interface.convert.jobsfile import written
from procclaw.interface.convert.kinds import convert, kind_of, named
from procclaw.model.errors import Conflict, ProcclawError, SpecError

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

STDIN = "-"
_ENDING = re.compile(r"(?<=.)\.(ya?ml|json5?|conf|ini|txt|[cm]?js|service|timer)$")
"""Of a source, which its jobs.yaml has not: it is none of that kind."""
_PROBLEM = re.compile(
    r"(?P<file>\S+):\d+ (?:jobs|workflows)\.(?P<name>[\w-]+)"
    r"(?P<field>(?:\"(?:[^\"\\]|\\.)*\"|[^:\s\"])*): (?P<says>.*)",
    re.DOTALL,
)
"""What our loader says of something within a job or a workflow."""


def run(context: "Context", options: Namespace) -> int:
    converted = acceptable(_converted(options), context.home_path if options.write else None)
    text = written(converted)
    place = _write(context, text, options, converted)
    if context.console.is_json:
        context.console.json(_view(converted, text, place))
    else:
        if not options.write and options.output is None:
            context.console.say(text.rstrip("\n"))
        if options.kind is None:
            for each in converted:
                context.console.complain(f"{each.path}: read as {each.kind}")
        _report(context, converted)
        if place is not None:
            context.console.complain(f"written to {place}")
    is_all = all(note.fate is not Fate.REFUSED for each in converted for note in each.conversion.all_notes())
    return 0 if is_all else 1


# --- reading ---


def _converted(options: Namespace) -> list[Converted]:
    ids = Ids()
    files = options.files
    sources = (_source(path)._replace(also=tuple(each for each in files if each != path)) for path in files)
    return _said_once([_one(source, options.kind, ids) for source in sources])


def _said_once(converted: list[Converted]) -> list[Converted]:
    """Without what is true of a file as it was of one before it."""
    said: set[Note] = set()
    found = []
    for each in converted:
        notes = each.conversion.notes
        kept = tuple(note for note in notes if note.line or note not in said)
        said.update(notes)
        found.append(each._replace(conversion=each.conversion._replace(notes=kept)))
    return found


def read_one(path: str) -> Converted:
    """A file of whatever kind, less what our own loader refuses in it. Raises ProcclawError."""
    [converted] = acceptable([_one(_source(path), None, Ids())], None)
    return converted


def _one(source: Source, kind: str | None, ids: Ids) -> Converted:
    try:
        return convert(source, named(kind) if kind else kind_of(source), ids)
    except Unconvertible as error:
        place = f"{source.path}:{error.line}" if error.line else source.path
        raise ProcclawError(f"{place}: {error}") from None


def _source(path: str) -> Source:
    from procclaw.engine.programs import answer_of

    if path == STDIN:
        text = _decoded(sys.stdin.buffer.read(MOST_BYTES + 1), STANDARD_INPUT)
        return Source(STANDARD_INPUT, text, lambda _: None)
    folder = os.path.dirname(path)

    def read(name: str) -> str | None:
        place = os.path.join(folder, name)
        # Nothing that would be waited for, such as a FIFO; the file that the user names may be one.
        if not os.path.isfile(place):
            return None
        try:
            return _read(place)
        except ProcclawError:
            return None

    def find(pattern: str) -> tuple[str, ...]:
        from glob import glob

        found = glob(pattern, root_dir=folder or None)
        return tuple(sorted(each for each in found if os.path.isfile(os.path.join(folder, each))))

    return Source(path, _read(path), read, find, answer_of)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return _decoded(file.read(MOST_BYTES + 1), path)
    except OSError as error:
        raise ProcclawError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _decoded(content: bytes, path: str) -> str:
    if len(content) > MOST_BYTES:
        raise ProcclawError(f"{path}: is larger than {MOST_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProcclawError(f"{path}:{line}: is not UTF-8 text") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ProcclawError(f"{path}:{line}: holds a NUL character")
    return text


# --- writing ---


def acceptable(converted: list[Converted], beside: str | None) -> list[Converted]:
    """Without what our own loader refuses, and what depends on that. Raises SpecError where it is not about a job.

    A time that does not exist is told in the same words here as in a jobs.yaml written by hand.
    """
    from procclaw.engine.files import check

    name = "jobs.yaml" if beside is None else _file_name(converted)
    while True:
        problems = [_PROBLEM.match(problem) or problem for problem in check({name: written(converted)}, beside)]
        if not problems:
            return converted
        bad: dict[str, str] = {}
        for problem in problems:
            if isinstance(problem, str) or os.path.basename(problem["file"]) != os.path.basename(name):
                raise SpecError(tuple(each if isinstance(each, str) else each[0] for each in problems))
            bad.setdefault(problem["name"], f"{problem['field'].lstrip('.')}: {problem['says']}".lstrip(": "))
        smaller = [each._replace(conversion=each.conversion.without(bad)) for each in converted]
        if smaller == converted:
            raise SpecError(tuple(each if isinstance(each, str) else each[0] for each in problems))
        converted = smaller


def _write(context: "Context", text: str, options: Namespace, converted: Sequence[Converted]) -> str | None:
    """The path it was written to; None: nowhere, which includes what holds no job."""
    if not any(each.conversion.jobs for each in converted):
        return None
    if options.write:
        from procclaw.engine.files import create

        create(context.home_path)
        path = os.path.join(context.home_path, _file_name(converted))
    elif options.output is not None:
        path = options.output
    else:
        return None
    put(path, text, is_forced=options.force)
    return path


def put(path: str, text: str, *, is_forced: bool) -> None:
    """Write the file; what is there is overwritten only by force, and then in one step, for a daemon may read it."""
    is_over = is_forced and os.path.isfile(path)
    place = os.path.realpath(path) + ".new" if is_over else path
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if is_forced else os.O_EXCL)
    try:
        with open(os.open(place, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        if is_over:
            os.replace(place, os.path.realpath(path))
    except FileExistsError:
        raise Conflict(f"{path}: is there already; --force overwrites it") from None
    except OSError as error:
        raise ProcclawError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _file_name(converted: Sequence[Converted]) -> str:
    """Within the home: named after the sources, so that importing them again is noticed."""
    paths = [each.path for each in converted]
    base = "stdin" if paths[0] == STANDARD_INPUT else _ENDING.sub("", os.path.basename(paths[0]))
    more = f"-and-{len(paths) - 1}-more" if len(paths) > 1 else ""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", base).strip(".-") or "imported"
    return os.path.join("jobs.d", f"{plain}{more}.yaml")


# --- telling ---


def _report(context: "Context", converted: Sequence[Converted]) -> None:
    """To stderr, for the jobs.yaml may have gone to stdout."""
    count = dict.fromkeys(Fate, 0)
    jobs = 0
    for each in converted:
        for line in _told(each):
            context.console.complain(line)
        jobs += len(each.conversion.jobs)
        for note in each.conversion.all_notes():
            count[note.fate] += 1
    counted = ", ".join(f"{count[fate]} {fate}" for fate in (Fate.CHANGED, Fate.DROPPED, Fate.REFUSED))
    context.console.complain(f"{jobs} {'job' if jobs == 1 else 'jobs'}; {counted}")


def _told(converted: Converted) -> Iterator[str]:
    """What is true of all of a file, then each thing in the order in which it stands there."""
    conversion, path = converted.conversion, converted.path
    found = [(note.file, note.line, told(path, "", note)) for note in conversion.notes]
    for job in conversion.jobs:
        kept = f"{job.file or path}:{job.line} {job.id}: kept as {', '.join(job.fields)}"
        lines = [kept, *(line for note in job.notes if (line := told(path, f"{job.id}: ", note)))]
        found.append((job.file, job.line, "\n".join(lines)))
    # A file that is included comes where it was met first.
    files = {"": 0}
    for file, _, _ in found:
        files.setdefault(file, len(files))
    for _, _, line in sorted(found, key=lambda each: (files[each[0]], each[1])):
        if line:
            yield line


def told(path: str, who: str, note: Note) -> str:
    """Empty for what is simply kept."""
    if note.fate is Fate.KEPT and not note.says:
        return ""
    place = f"{note.file or path}:{note.line}" if note.line else path
    return f"{place} {who}{note.told}"


def tell(context: "Context", path: str, who: str, note: Note) -> None:
    if line := told(path, who, note):
        context.console.complain(line)


def _view(converted: Sequence[Converted], text: str, place: str | None) -> dict[str, Any]:
    return {
        "jobs_yaml": text,
        "written_to": place,
        "sources": [
            {
                "file": each.path,
                "kind": each.kind,
                "notes": [viewed(each.path, note) for note in each.conversion.notes],
                "jobs": [
                    {
                        "id": job.id,
                        "file": job.file or each.path,
                        "line": job.line,
                        "fields": list(job.fields),
                        "notes": [viewed(each.path, note) for note in job.notes],
                    }
                    for job in each.conversion.jobs
                ],
            }
            for each in converted
        ],
    }


def viewed(path: str, note: Note) -> dict[str, Any]:
    return {
        "file": note.file or path,
        "line": note.line or None,
        "what": note.what,
        "fate": str(note.fate),
        "says": note.says or None,
    }
