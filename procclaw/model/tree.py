"""A YAML file as a tree that remembers on which line everything stands.

Built straight from the parser's events rather than with PyYAML's composer: that one recurses as deep as a hostile file
likes (its C form until the process dies), lets a key be given twice, and forgets how a number was written. Merge keys
are applied while the tree is built, so nothing behind it knows of them. An alias can only name what is complete, so
the tree has no loops; how far aliases may multiply it is bounded.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from procclaw.model.shape import Path, Shape, child, scalar

_DEEPEST = 64
"""Levels of nesting; our own files need eight."""
_SPARE_VALUES = 1_000_000
"""Values that aliases may add to a file: some thousand jobs that share fifty fields, or a second of reading."""
_READABLE_TAGS = {
    "str": "",
    "map": "",
    "seq": "",
    **dict.fromkeys(("null", "bool", "int", "float", "timestamp"), "plain"),
}
_TAG_PREFIX = "tag:yaml.org,2002:"


class Fault(NamedTuple):
    line: int
    path: Path
    message: str


class Unreadable(Exception):
    """The file cannot be read any further; its one argument is the `Fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


Mark = tuple[int, int]
"""Line, counted from 1, and column."""


class Scalar(NamedTuple):
    mark: Mark
    text: str
    is_plain: bool
    """Unquoted, so its meaning depends on what is wanted."""


class Items(NamedTuple):
    mark: Mark
    items: list["Node"]


class Entries(NamedTuple):
    mark: Mark
    entries: dict[str, tuple[Mark, "Node"]]
    """By key: where the key stands, and the value."""


Node = Scalar | Items | Entries


def compose(events: Iterator[Any], size: int) -> tuple[Node | None, list[Fault]]:
    """The tree of one file of `size` characters (None if it says nothing), and what is wrong with its writing.

    Raises `Unreadable`, and whatever the parser behind `events` raises.
    """
    composer = _Composer(events, size)
    return composer.document(), composer.faults


def value(node: Node, shape: Shape, size: int) -> Any:
    """What the tree says, in plain types, scalars read as `shape` wants them. Raises `Unreadable`."""
    return _Reading(size).value(node, shape)


def mark_of(node: Node, path: Path) -> Mark:
    """Where `path` stands, or the deepest part of it that exists."""
    mark = node.mark
    for part in path:
        if isinstance(node, Entries) and part in node.entries:
            mark, node = node.entries[str(part)]
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            mark = node.mark
        else:
            break
    return mark


class _Budget:
    """Counts what aliases multiply and gives up beyond the limit."""

    def __init__(self, size: int) -> None:
        self.left = size + _SPARE_VALUES

    def spend(self, count: int, mark: Mark) -> None:
        self.left -= count
        if self.left < 0:
            raise Unreadable(Fault(mark[0], (), "aliases multiply this file beyond reason"))


class _Composer:
    def __init__(self, events: Iterator[Any], size: int) -> None:
        self.events = events
        self.budget = _Budget(size)
        self.anchors: dict[str, Node] = {}
        self.faults: list[Fault] = []

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self.events:
            if type(event).__name__ == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise Unreadable(Fault(_mark(event)[0], (), "a second document begins here; a file holds one"))
                root = self.node(next(self.events), ())
        is_empty = isinstance(root, Scalar) and root.is_plain and root.text == ""
        return None if is_empty else root

    def node(self, event: Any, path: Path) -> Node:
        if len(path) > _DEEPEST:
            raise Unreadable(Fault(_mark(event)[0], (), f"is nested more than {_DEEPEST} levels deep"))
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self.aliased(event, path)
        node: Node
        if kind == "ScalarEvent":
            node = self.scalar(event, path)
        elif kind == "SequenceStartEvent":
            node = self.sequence(event, path)
        else:
            node = self.mapping(event, path)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def aliased(self, event: Any, path: Path) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            self.fault(event, path, f"*{event.anchor} names no anchor above it")
            return Scalar(_mark(event), "", is_plain=True)
        return node

    def scalar(self, event: Any, path: Path) -> Scalar:
        text: str = event.value
        if "\0" in text:
            self.fault(event, path, "holds a NUL character, which no process can be given")
        elif not text.isascii() and not _is_encodable(text):
            self.fault(event, path, "holds half of a character (a lone surrogate)")
        tag = self.tag(event, path)
        is_plain = tag == "plain" if tag is not None else bool(event.implicit[0])
        return Scalar(_mark(event), text, is_plain)

    def sequence(self, event: Any, path: Path) -> Items:
        self.tag(event, path)
        items: list[Node] = []
        for item in self.events:
            if type(item).__name__ == "SequenceEndEvent":
                break
            items.append(self.node(item, (*path, len(items))))
        return Items(_mark(event), items)

    def mapping(self, event: Any, path: Path) -> Entries:
        self.tag(event, path)
        own: dict[str, tuple[Mark, Node]] = {}
        merged: list[Entries] = []
        for key_event in self.events:
            if type(key_event).__name__ == "MappingEndEvent":
                break
            key = self.key(key_event, path)
            node = self.node(next(self.events), (*path, key.text))
            if key.is_plain and key.text == "<<":
                merged += self.sources(node, path)
            elif key.text in own:
                self.fault(key_event, (*path, key.text), f"is given twice, first on line {own[key.text][0][0]}")
            else:
                own[key.text] = (key.mark, node)
        if not merged:
            return Entries(_mark(event), own)
        entries: dict[str, tuple[Mark, Node]] = {}
        for source in reversed(merged):
            self.budget.spend(len(source.entries), source.mark)
            entries.update(source.entries)
        for name, entry in own.items():
            entries.pop(name, None)
            entries[name] = entry
        return Entries(_mark(event), entries)

    def key(self, event: Any, path: Path) -> Scalar:
        node = self.node(event, (*path, "?"))
        if isinstance(node, Scalar):
            return node
        self.fault(event, (*path, "?"), "a key must be text")
        return Scalar(node.mark, "?", is_plain=False)

    def sources(self, node: Node, path: Path) -> list[Entries]:
        """What a merge key takes from, the earlier the stronger."""
        found = node.items if isinstance(node, Items) else [node]
        mappings = [part for part in found if isinstance(part, Entries)]
        if len(mappings) < len(found):
            self.faults.append(Fault(node.mark[0], (*path, "<<"), "takes from mappings only"))
        return mappings

    def tag(self, event: Any, path: Path) -> str | None:
        """How an explicit tag wants a scalar read ("plain" or ""); None where there is no tag."""
        tag: str | None = event.tag
        if tag is None:
            return None
        if tag == "!":
            return ""
        reading = _READABLE_TAGS.get(tag.removeprefix(_TAG_PREFIX))
        if reading is None:
            self.fault(event, path, f"the tag {tag.replace(_TAG_PREFIX, '!!')} is not understood")
        return reading

    def fault(self, event: Any, path: Path, message: str) -> None:
        self.faults.append(Fault(_mark(event)[0], path, message))


class _Reading:
    def __init__(self, size: int) -> None:
        self.budget = _Budget(size)

    def value(self, node: Node, shape: Shape) -> Any:
        self.budget.spend(1, node.mark)
        if isinstance(node, Scalar):
            return scalar(node.text, shape) if node.is_plain else node.text
        if isinstance(node, Items):
            items = child(shape, 0)
            return [self.value(item, items) for item in node.items]
        return {key: self.value(entry, child(shape, key)) for key, (_, entry) in node.entries.items()}


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
