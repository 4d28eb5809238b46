"""A conversion written as jobs.yaml: for people, who read it before they trust it.

Above each job stand the comments of its source, where it comes from, and what means something else here; what was
merely kept is in the report alone. Long commands are folded into blocks, so that they can be read and edited.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from procclaw.interface.convert.conversion import Converted, Fate, Imported, Note

_WIDTH = 110
_SHORT = 60
"""A mapping that takes no more stands on one line."""


def written(converted: Sequence[Converted]) -> str:
    """The text of jobs.yaml."""
    lines: list[str] = []
    for each in converted:
        lines.append(f"# Converted by procclaw import from {_plain(each.path)} ({each.kind}).")
        lines += _comments(each.conversion.notes)
    jobs = [(job, each.path) for each in converted for job in each.conversion.jobs]
    lines += ["", "jobs:" if jobs else "jobs: {}"]
    for job, path in jobs:
        lines += _job(job, path)
    for section in ("queues", "workflows"):
        value = {name: entry for each in converted for name, entry in getattr(each.conversion, section).items()}
        if value:
            lines += ["", *dumped({section: value})]
    return "\n".join(lines) + "\n"


def _job(job: Imported, path: str) -> list[str]:
    above = [f"# {_plain(each)}" for each in job.comments]
    above.append(f"# {_plain(job.file or path)}:{job.line}")
    return ["", *_indented([*above, *_comments(job.notes), *dumped({job.id: job.fields})])]


def _comments(notes: Iterable[Note]) -> list[str]:
    return [f"# {_plain(note.told)}" for note in notes if note.fate is not Fate.KEPT]


def _plain(text: str) -> str:
    """On one line, and without what a comment of YAML cannot hold."""
    return "".join(char if char.isprintable() else " " for char in text)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else line for line in lines]


def dumped(value: Any) -> list[str]:
    """The lines of it, for people to read."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as blocks; short lists and mappings of plain values on one line."""

        def ignore_aliases(self, _data: Any) -> bool:
            return True

    Dumper.add_representer(str, _text)
    Dumper.add_representer(list, _list)
    Dumper.add_representer(dict, _mapping)
    text = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=False)
    return text.rstrip("\n").split("\n")


def _text(dumper: Any, text: str) -> Any:
    is_block = "\n" in text and all(line == line.rstrip() and line.isprintable() for line in text.split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if is_block else None)


def _list(dumper: Any, items: list[Any]) -> Any:
    is_short = _are_plain(items) and len(str(items)) < _WIDTH
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_short)


def _mapping(dumper: Any, entries: dict[str, Any]) -> Any:
    is_short = _are_plain(entries.values()) and len(str(entries)) < _SHORT and "cmd" not in entries
    return dumper.represent_mapping("tag:yaml.org,2002:map", entries.items(), flow_style=is_short)


def _are_plain(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str | int | float) and "\n" not in str(value) for value in values)
