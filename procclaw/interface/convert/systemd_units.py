"""Unit files of systemd as settings with their lines: comments, continued lines, drop-ins, and the values' own syntax.

systemd.syntax(7), and systemd.time(7) for spans of time. What a unit's reader does not ask for is known afterwards.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from procclaw.interface.convert.conversion import Fate, Note, Source, Unconvertible
from procclaw.interface.convert.section import Misfit

_HEADER = re.compile(r"\[([^\[\]]+)\]")
_SPAN = re.compile(r"\s*(\d{1,12}(?:\.\d{0,12})?)(?!\d)\s*([a-zA-Zµ]*)")
_UNITS = {
    **dict.fromkeys(("us", "usec", "µs"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
    **dict.fromkeys(("M", "month", "months"), 2_629_800),
    **dict.fromkeys(("y", "year", "years"), 31_557_600),
}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMGT]?)B?")
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_CODE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4}))")
_YES = frozenset({"1", "yes", "y", "true", "t", "on"})
FOREVER = float("inf")
_SHOWN = 60
"""Characters of a value, where it is spoken of."""


class Setting(NamedTuple):
    section: str
    name: str
    value: str
    line: int
    file: str
    """Where it stands, if that is a drop-in; else empty."""


def shown(setting: Setting) -> str:
    value = setting.value if len(setting.value) <= _SHOWN else setting.value[: _SHOWN - 1] + "…"
    return f"{setting.name}={value}"


def about(setting: Setting, fate: Fate, says: str) -> Note:
    return Note(setting.line, shown(setting), fate, says, setting.file)


class Unit:
    """A unit file with its drop-ins, read setting by setting."""

    def __init__(self, name: str, settings: list[Setting], odd: list[Setting]) -> None:
        self.name = name
        self.odd = odd
        """Lines that are no settings; systemd warns of them and goes on."""
        self._settings = settings
        self._taken: set[tuple[str, str]] = set()

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def instance(self) -> str | None:
        """What stands after the @; None: it is no template."""
        prefix, at, instance = self.stem.partition("@")
        return (instance or self.last("Install", "DefaultInstance") or "") if at and prefix else None

    def all(self, section: str, name: str) -> list[Setting]:
        """Every assignment that counts: an empty one forgets those above it."""
        self._taken.add((section, name))
        found: list[Setting] = []
        for setting in self._settings:
            if (setting.section, setting.name) == (section, name):
                found = [*found, setting] if setting.value else []
        return found

    def one(self, section: str, name: str) -> Setting | None:
        """The assignment that counts of a setting that has one value."""
        found = self.all(section, name)
        return found[-1] if found else None

    def last(self, section: str, name: str) -> str | None:
        found = self.one(section, name)
        return found.value if found else None

    def flag(self, section: str, name: str) -> bool:
        return (self.last(section, name) or "no").lower() in _YES

    def has(self, section: str) -> bool:
        return any(setting.section == section for setting in self._settings)

    def line_of(self, section: str) -> int:
        return next((each.line for each in self._settings if each.section == section and not each.file), 1)

    def left(self) -> Iterator[Setting]:
        """What nobody asked for, in the order of the file."""
        for setting in self._settings:
            if (setting.section, setting.name) not in self._taken:
                yield setting


def read_unit(source: Source, name: str, text: str) -> Unit:
    """A unit and the drop-ins that lie beside it. Raises Unconvertible."""
    settings: list[Setting] = []
    odd: list[Setting] = []
    _read(text, "", settings, odd)
    folders = [f"{name}.d"]
    prefix, at, instance = name.partition("@")
    if at and not instance.startswith("."):
        folders.insert(0, f"{prefix}@.{name.rpartition('.')[2]}.d")
    for folder in folders:
        for path in source.find(f"{folder}/*.conf"):
            _read(source.read(path) or "", path, settings, odd)
    return Unit(name, settings, odd)


def _read(text: str, file: str, settings: list[Setting], odd: list[Setting]) -> None:
    section = ""
    for number, line in _logical_lines(text):
        if header := _HEADER.fullmatch(line):
            section = header[1]
            continue
        name, equals, value = line.partition("=")
        setting = Setting(section, name.strip(), value.strip(), number, file)
        if not equals or not setting.name:
            odd.append(Setting(section, line, "", number, file))
        elif not section:
            raise Unconvertible(number, f"{setting.name}= stands before any [section]")
        else:
            settings.append(setting)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with what continues them, without comments; comments do not end what is continued."""
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if line.lstrip().startswith(("#", ";")):
            continue
        number, line = (begun[0], begun[1] + line) if begun else (number, line)
        if line.endswith("\\"):
            begun = (number, line[:-1] + " ")
            continue
        begun = None
        if line.strip():
            yield number, line.strip()
    if begun and begun[1].strip():
        yield begun[0], begun[1].strip()


def base_name(path: str) -> str:
    return os.path.basename(path)


# --- values ---


def words_of(text: str) -> list[str]:
    """The words of a value, quotes and escapes undone. Raises ValueError, in words."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    index = 0
    while index < len(text):
        char = text[index]
        index += 1
        if char == "\\":
            piece, index = _unescaped(text, index)
            word = (word or "") + piece
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "\"'":
            quote, word = char, word or ""
        elif char.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + char
    if quote:
        raise ValueError(f"a {quote} is never closed")
    return words if word is None else [*words, word]


def _unescaped(text: str, index: int) -> tuple[str, int]:
    """What the escape before `index` stands for, and where the text goes on."""
    if coded := _CODE.match(text, index - 1):
        code = int(coded[1] or coded[3], 16) if coded[1] or coded[3] else int(coded[2], 8)
        if not code:
            raise ValueError("a NUL character cannot be given to a process")
        return chr(code), coded.end()
    if index >= len(text):
        raise ValueError("ends in a backslash")
    char = text[index]
    return (_ESCAPES.get(char, char) if char in _ESCAPES or char in "\\\"'" else "\\" + char), index + 1


def span_of(setting: Setting) -> float:
    """The seconds of a setting; FOREVER for infinity. Raises Misfit."""
    try:
        return seconds_of(setting.value)
    except ValueError as error:
        raise Misfit(setting.line, f"{setting.name}=: {error}", setting.file) from None


def seconds_of(text: str) -> float:
    """A span of time; FOREVER for infinity. Raises ValueError, in words."""
    if text.strip().lower() == "infinity":
        return FOREVER
    total, end = 0.0, 0
    while found := _SPAN.match(text, end):
        if found[2] not in _UNITS:
            break
        total += float(found[1]) * _UNITS[found[2]]
        end = found.end()
    if not end or text[end:].strip():
        raise ValueError(f'"{text}" is no span of time')
    return total


def bytes_of(text: str) -> int | None:
    """A size; None: no limit. Raises ValueError, in words."""
    if text.strip() == "infinity":
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is no number of bytes')
    return int(float(found[1]) * _SIZES[found[2]])
