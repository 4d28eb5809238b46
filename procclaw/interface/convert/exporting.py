"""`procclaw export`: the home's jobs in another tool's words, and what became of everything they say.

What is exported is what the files say now, not what is in force: a home without a daemon, or without a database yet,
has nothing else, and files that cannot be used are refused with what is wrong with them.
"""

import os
import re
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from procclaw.engine.files import ConfigurationFiles, local_timezone
from procclaw.interface.convert.conversion import Fate
from procclaw.interface.convert.importing import put, tell, viewed
from procclaw.interface.convert.leaving import Exported, File, Leaving, is_refused
from procclaw.model.document import spec_from_document
from procclaw.model.errors import Conflict, NotFound, ProcclawError, UsageError

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def run(context: "Context", options: Namespace) -> int:
    _check(options)
    leaving = _leaving(context.home_path, options)
    export: Callable[[Leaving], Exported] = import_module(f"{__package__}.to_{options.format}").export
    exported = export(leaving)
    if all(is_refused(job) for job in exported.jobs):
        exported = exported._replace(files=())
    written = _write(exported, options)
    if context.console.is_json:
        context.console.json(_view(options.format, exported, written))
    else:
        if options.output is None:
            for line in _printed(exported):
                context.console.say(line)
        _report(context, exported, written)
    return 1 if any(note.fate is Fate.REFUSED for note in exported.all_notes()) else 0


def _check(options: Namespace) -> None:
    """Raises UsageError for what goes with another format only, or not at all."""
    if options.format != "kubernetes":
        for option in ("image", "namespace"):
            if getattr(options, option) is not None:
                raise UsageError(f"--{option} goes with kubernetes only")
    if options.namespace is not None and not _NAMESPACE.fullmatch(options.namespace):
        raise UsageError(f'--namespace: "{options.namespace}" is not a name of small letters, digits and hyphens')


def _leaving(home: str, options: Namespace) -> Leaving:
    """Raises SpecError for files that cannot be used, NotFound for a job that they do not declare."""
    loaded = ConfigurationFiles(home).load()
    spec = spec_from_document(loaded.document, loaded.content_hash)
    for name in options.jobs:
        if name not in spec.jobs:
            raise NotFound(f'no job "{name}"')
    names = set(options.jobs or spec.jobs)
    return Leaving(
        jobs=tuple(job for job in spec.jobs.values() if job.id in names),
        workflows={name: each for name, each in spec.workflows.items() if names.issuperset(each.steps)},
        config=spec.config,
        home=os.path.abspath(home),
        local_zone=local_timezone(),
        image=options.image,
        namespace=options.namespace,
    )


def _write(exported: Exported, options: Namespace) -> list[str]:
    """Paths. Raises Conflict, with nothing written, where one of them is there and must stay."""
    if options.output is None or not exported.files:
        return []
    if exported.is_one_file:
        places = [(options.output, file.text) for file in exported.files]
    else:
        try:
            os.makedirs(options.output, exist_ok=True)
        except OSError as error:
            raise ProcclawError(f"{options.output}: {(error.strerror or str(error)).lower()}") from None
        places = [(os.path.join(options.output, file.name), file.text) for file in exported.files]
    there = [path for path, _ in places if os.path.lexists(path)]
    if there and not options.force:
        raise Conflict(f"{there[0]}: is there already; --force overwrites it")
    for path, text in places:
        put(path, text, is_forced=options.force)
    return [path for path, _ in places]


def _printed(exported: Exported) -> list[str]:
    if exported.is_one_file:
        return [file.text.rstrip("\n") for file in exported.files]
    return [line for file in exported.files for line in (_heading(file), file.text)]


def _heading(file: File) -> str:
    """A comment where the format has them."""
    return f"<!-- {file.name} -->" if file.text.startswith("<?xml") else f"# {file.name}"


def _report(context: "Context", exported: Exported, written: list[str]) -> None:
    """To stderr, for the files may have gone to stdout."""
    for note in exported.notes:
        tell(context, "jobs.yaml", "", note)
    for job in exported.jobs:
        if job.kept:
            context.console.complain(f"{job.source} {job.id}: kept are {', '.join(job.kept)}")
        for note in job.notes:
            tell(context, "jobs.yaml", "" if note.fate is Fate.REFUSED else f"{job.id}: ", note)
    count = Counter(note.fate for note in exported.all_notes())
    counted = (f"{count[fate]} {fate}" for fate in (Fate.CHANGED, Fate.DROPPED, Fate.REFUSED))
    jobs = sum(not is_refused(job) for job in exported.jobs)
    context.console.complain(f"{jobs} {'job' if jobs == 1 else 'jobs'}; {', '.join(counted)}")
    for path in written:
        context.console.complain(f"written to {path}")


def _view(kind: str, exported: Exported, written: list[str]) -> dict[str, Any]:
    return {
        "format": kind,
        "files": [{"name": file.name, "text": file.text} for file in exported.files],
        "written_to": written,
        "notes": [viewed("jobs.yaml", note) for note in exported.notes],
        "jobs": [
            {
                "id": job.id,
                "source": job.source,
                "is_exported": not is_refused(job),
                "kept": list(job.kept),
                "notes": [viewed("jobs.yaml", note) for note in job.notes],
            }
            for job in exported.jobs
        ],
    }
