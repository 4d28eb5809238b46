"""A mapping of a YAML or JSON source, read key by key; a key that nobody asked for is known afterwards, with its line.

What has another shape than the other tool itself would accept is a `Misfit`: it concerns the job it stands in, not the
whole file.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence

from procclaw.interface.convert.conversion import Fate, Imported, Note, Source, Unconvertible
from procclaw.model.tree import Entries, Items, Node, Scalar

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_YES = frozenset({"true", "yes", "on", "y"})
_NO = frozenset({"false", "no", "off", "n"})
_NUMBER = re.compile(r"[-+]?\d{1,15}(\.\d{0,9})?")
_PAIR_OF_SURROGATES = re.compile(r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class Misfit(ValueError):
    """Something a job cannot be made of; `line` says where it stands, `file` in which file if not in the one named."""

    def __init__(self, line: int, reason: str, file: str = "") -> None:
        super().__init__(reason)
        self.line = line
        self.file = file


def document(source: Source) -> Node:
    """The tree of a source. Raises Unconvertible for what is no YAML (of which JSON is a part)."""
    from procclaw.engine.files import read_yaml

    text = _as_yaml(source.text)
    root, faults = read_yaml(text)
    if faults:
        raise Unconvertible(faults[0].line, faults[0].message)
    if root is None:
        raise Unconvertible(0, "is empty")
    return root


def looks_like_mapping(text: str, *keys: str) -> bool:
    """Whether the text begins one of these keys at its outermost level, without reading it all as YAML."""
    return any(re.search(rf"^[\"']?{re.escape(key)}[\"']?\s*:", text, re.MULTILINE) for key in keys)


def without_refused(jobs: Sequence[Imported], names: Collection[str]) -> list[Imported]:
    """The jobs of a source that declares these names, none of them waiting for one that was refused."""
    refused = set(names) - {job.id for job in jobs}
    return [job.not_waiting_for(refused) for job in jobs]


def _as_yaml(text: str) -> str:
    """JSON may indent with tabs and writes a character beyond the first plane as two halves; YAML does neither."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    whole = _PAIR_OF_SURROGATES.sub(lambda pair: pair[0] if pair[0] == "\\\\" else json.loads(f'"{pair[0]}"'), text)
    return whole.replace("\t", " ")


class Section:
    """A mapping, and which of its keys were taken."""

    def __init__(self, name: str, node: Entries) -> None:
        self.name = name
        self.line = node.mark[0]
        self._entries = node.entries
        self._taken: set[str] = set()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def line_of(self, key: str) -> int:
        return self._entries[key][0][0] if key in self._entries else self.line

    def take(self, key: str) -> Node | None:
        """What stands there; None where that is nothing."""
        self._taken.add(key)
        return self.node(key)

    def node(self, key: str) -> Node | None:
        """The same, without taking it."""
        node = self._entries[key][1] if key in self._entries else None
        return None if isinstance(node, Scalar) and node.is_plain and node.text in _NOTHING else node

    def text(self, key: str) -> str | None:
        node = self.take(key)
        if node is None or isinstance(node, Scalar):
            return None if node is None else node.text
        raise Misfit(node.mark[0], f"{key}: is no text")

    def flag(self, key: str) -> bool | None:
        text = self.text(key)
        if text is None or text.lower() in _YES | _NO:
            return None if text is None else text.lower() in _YES
        raise Misfit(self.line_of(key), f'{key}: "{text}" is neither true nor false')

    def number(self, key: str) -> float | int | None:
        text = self.text(key)
        if text is None:
            return None
        if not _NUMBER.fullmatch(text):
            raise Misfit(self.line_of(key), f'{key}: "{text}" is no number')
        number = float(text)
        return int(number) if number.is_integer() else number

    def section(self, key: str) -> "Section | None":
        node = self.take(key)
        if node is None or isinstance(node, Entries):
            return None if node is None else Section(key, node)
        raise Misfit(node.mark[0], f"{key}: is no mapping")

    def child(self, key: str) -> "Section":
        """A mapping; one that says nothing is empty."""
        node = self.take(key)
        if node is not None and not isinstance(node, Entries):
            raise Misfit(node.mark[0], "is no mapping")
        return Section(key, Entries((self.line_of(key), 0), {} if node is None else node.entries))

    def sections(self, key: str) -> "Iterator[Section]":
        """The mappings within a mapping."""
        within = self.section(key)
        if within is not None:
            yield from map(within.child, within.keys)

    def texts(self, key: str) -> list[str] | None:
        """A list of texts."""
        node = self.take(key)
        if node is None:
            return None
        if not isinstance(node, Items):
            raise Misfit(node.mark[0], f"{key}: is no list")
        found = []
        for item in node.items:
            if not isinstance(item, Scalar):
                raise Misfit(item.mark[0], f"{key}: holds something else than text")
            found.append(item.text)
        return found

    def words(self, key: str) -> list[str]:
        """A text alone, or a list of them."""
        return (
            self.texts(key) or [] if isinstance(self.take(key), Items) else [text] if (text := self.text(key)) else []
        )

    def pairs(self, key: str) -> dict[str, str | None]:
        """A mapping of texts, or a list of NAME=VALUE; None: the name stands alone."""
        node = self.take(key)
        if node is None:
            return {}
        if isinstance(node, Items):
            split = (text.partition("=") for text in self.texts(key) or ())
            return {name: value if equals else None for name, equals, value in split}
        if isinstance(node, Entries):
            within = Section(key, node)
            return {name: within.text(name) for name in within.keys}
        raise Misfit(node.mark[0], f"{key}: is neither a mapping nor a list")

    def left(self) -> Iterator[tuple[int, str]]:
        """The keys that nobody took, with their lines; those that begin with x- are the user's own."""
        for key, (mark, _) in self._entries.items():
            if key not in self._taken and not key.startswith("x-"):
                yield mark[0], key

    def dropped(self, says: str = "has no counterpart here", prefix: str = "") -> list[Note]:
        """A note for each of those."""
        return [Note(line, prefix + key, Fate.DROPPED, says) for line, key in self.left()]
