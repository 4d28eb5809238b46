"""An INI file as Python's configparser reads it for supervisord, except that it knows on which line everything stands.

Values go on over indented lines, `;` and `#` begin a comment at the start of a line or after a blank, names of options
ignore case, and what is said again replaces what was said before. The comments above a section are kept for people.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from procclaw.interface.convert.conversion import Unconvertible

_HEADER = re.compile(r"\[(?P<name>.+)\]")
_OPTION = re.compile(r"(?P<name>[^=:]*)[=:]\s*(?P<value>.*)")
_COMMENT = re.compile(r"(?:^|(?<=\s))[;#]")
_ONCE_AN_OPTION = re.compile(r"[\w.]+\s*=|\[")
"""A comment that only switches something off."""


class Option(NamedTuple):
    name: str
    value: str
    line: int
    file: str

    @property
    def told(self) -> str:
        return f"{self.name}={self.value}"


class Section(NamedTuple):
    name: str
    line: int
    file: str
    options: dict[str, Option]
    comments: tuple[str, ...]


def sections_of(text: str, file: str = "") -> Iterator[Section]:
    """In order; one that is opened again comes again. Raises Unconvertible at what is no line of such a file."""
    section: Section | None = None
    option: str | None = None
    indent = 0
    comments: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        content, is_commented = _without_comment(line)
        if not content:
            if is_commented and line.strip()[:1] in (";", "#"):
                comments.append(line.strip().lstrip(";#").strip())
            elif not is_commented:
                comments.clear()
            continue
        width = len(line) - len(line.lstrip())
        if section is not None and option is not None and width > indent:
            before = section.options[option]
            section.options[option] = before._replace(value=f"{before.value}\n{content}".lstrip("\n"))
            continue
        indent, option = width, None
        if header := _HEADER.match(content):
            if section is not None:
                yield section
            said = tuple(each for each in comments if each and not _ONCE_AN_OPTION.match(each))
            section = Section(header["name"], number, file, {}, said)
        elif section is None:
            raise Unconvertible(number, f'"{content}" stands before the first [section]')
        elif (found := _OPTION.fullmatch(content)) is None or not found["name"].strip():
            raise Unconvertible(number, f'"{content}" is neither a [section] nor NAME=VALUE')
        else:
            option = found["name"].rstrip().lower()
            section.options[option] = Option(option, found["value"], number, file)
        comments.clear()
    if section is not None:
        yield section


def _without_comment(line: str) -> tuple[str, bool]:
    """What a line says, and whether it holds a comment."""
    found = _COMMENT.search(line) if line.lstrip()[:1] not in (";", "#") else re.match(r"\s*", line)
    return (line if found is None else line[: found.start()]).strip(), found is not None


def merged(sections: Iterator[Section]) -> dict[str, Section]:
    """By name, each with all that is said about it; `DEFAULT` speaks for those that are silent."""
    found: dict[str, Section] = {}
    for section in sections:
        before = found.setdefault(section.name, section)
        before.options.update(section.options)
    general = found.pop("DEFAULT", None)
    if general is not None:
        for section in found.values():
            section.options.update(general.options | section.options)
    return found
