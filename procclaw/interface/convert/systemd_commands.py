"""The command lines of a unit as commands of ours: systemd's quoting, its specifiers, its variables.

systemd splits a line into words first, then fills in specifiers (%i), then, when it starts the process, variables. A
line without variables becomes a list of words; one with variables goes to the shell, quoted so that nothing else in it
means anything there.
"""

import re
import shlex
from collections.abc import Collection
from typing import NamedTuple

from procclaw.interface.convert.systemd_units import Setting, Unit, words_of
from procclaw.model.references import literal

_PREFIXES = "@-:+!|"
_SHELL = "/bin/sh"
_VARIABLE = re.compile(r"\$\$|\$\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|\$(?P<plain>[A-Za-z_][A-Za-z0-9_]*)")
_SPECIFIER = re.compile(r"%(.?)", re.DOTALL)
_SYSTEM = {"h": "/root", "u": "root", "U": "0", "g": "root", "G": "0", "s": _SHELL}
_PLACES = {"E": "/etc", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "t": "/run"}
_OWN_PLACES = {"E": ".config", "S": ".local/state", "C": ".cache", "L": ".local/state/log"}
"""Below the home, for units of a user."""
_OF_THE_ACCOUNT = {"h": "HOME", "u": "USER", "s": "SHELL"}
_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")


class Variable(NamedTuple):
    """Part of a word that is known when the job starts."""

    name: str
    splits: bool = False
    """It stands for as many words as its value has."""
    is_account: bool = False
    """It is one that every job has."""


Word = tuple[str | Variable, ...]


class Command(NamedTuple):
    words: tuple[Word, ...]
    prefixes: str
    setting: Setting


class Specifiers:
    """What a unit's specifiers stand for."""

    def __init__(self, unit: Unit, *, is_user: bool) -> None:
        self._is_user = is_user
        prefix, _, _ = unit.stem.partition("@")
        instance = unit.instance or ""
        name = f"{prefix}@{instance}.{unit.name.rpartition('.')[2]}" if unit.instance is not None else unit.name
        last = prefix.rpartition("-")[2]
        self._known = {
            "n": name,
            "N": name.rpartition(".")[0],
            "p": prefix,
            "P": _unescaped(prefix),
            "i": instance,
            "I": _unescaped(instance),
            "j": last,
            "J": _unescaped(last),
            "f": "/" + _unescaped(instance or prefix).lstrip("/"),
            "T": "/tmp",
            "V": "/var/tmp",
            "%": "%",
        }

    def filled(self, text: str) -> Word:
        """Raises ValueError for what is known only where the unit runs."""
        pieces: list[str | Variable] = []
        end = 0
        for found in _SPECIFIER.finditer(text):
            pieces += [text[end : found.start()], *self._meaning(found[1])]
            end = found.end()
        return _joined([*pieces, text[end:]])

    def text(self, text: str) -> str:
        """As it is to stand in a field of ours."""
        return _reference(self.filled(text))

    def path(self, text: str) -> str:
        """The same where no reference may stand, but ~ may."""
        filled = self.filled(text)
        if filled[:1] == (Variable("HOME", is_account=True),):
            filled = ("~", *filled[1:])
        if not all(isinstance(piece, str) for piece in filled):
            raise ValueError(f'"{text}" depends on the account')
        return "".join(map(str, filled)) or "/"

    def _meaning(self, letter: str) -> list[str | Variable]:
        if letter in self._known:
            return [self._known[letter]]
        if not self._is_user and (known := _SYSTEM.get(letter) or _PLACES.get(letter)):
            return [known]
        if self._is_user and letter in _OF_THE_ACCOUNT:
            return [Variable(_OF_THE_ACCOUNT[letter], is_account=True)]
        if self._is_user and letter in _OWN_PLACES:
            return [Variable("HOME", is_account=True), "/" + _OWN_PLACES[letter]]
        raise ValueError(f'"%{letter}" is known only where systemd runs it: write what it stands for')


def read_command(setting: Setting, specifiers: Specifiers) -> Command:
    """Raises ValueError, in words."""
    line = setting.value
    prefixes = line[: len(line) - len(line.lstrip(_PREFIXES))]
    words: list[Word] = []
    for number, word in enumerate(words_of(line[len(prefixes) :])):
        filled = specifiers.filled(word)
        words.append(filled if number == 0 or ":" in prefixes else _with_variables(word, filled))
    if not words or not "".join(str(piece) for piece in words[0]):
        raise ValueError("names no program")
    if "@" in prefixes and len(words) > 1:
        del words[1]  # what the program is told its own name is
    return Command(tuple(words), prefixes, setting)


def split_commands(setting: Setting) -> list[Setting]:
    """A line of a oneshot unit may hold several commands, parted by a word of one semicolon."""
    parts = re.split(r"(?:^|(?<=\s));(?=\s|$)", setting.value)
    return [setting._replace(value=part.strip()) for part in parts if part.strip()]


def as_list(command: Command, known: Collection[str]) -> list[str] | None:
    """The words as they are; None: some are known only when it starts, and are not of the `known` variables."""
    found = []
    for word in command.words:
        for piece in word:
            if isinstance(piece, Variable) and not piece.is_account and (piece.splits or piece.name not in known):
                return None
        found.append(_reference(word))
    # env without options looks a program up in PATH, as is done here anyway.
    is_plain_env = found[0] == "/usr/bin/env" and len(found) > 1 and not re.match(r"-|.*=", found[1])
    return found[1:] if is_plain_env else found


def as_script(command: Command) -> str | None:
    """The text that it hands to /bin/sh -c, if that is all it does."""
    if len(command.words) != 3 or command.words[:2] != ((_SHELL,), ("-c",)):
        return None
    script = command.words[2]
    return script[0] if len(script) == 1 and isinstance(script[0], str) else None


def as_shell(command: Command) -> str:
    """The same for the shell."""
    return " ".join(_shell_word(word) for word in command.words)


def splits_words(command: Command) -> bool:
    """Whether the shell has to part a value into words, and must not take it for a pattern then."""
    return any(isinstance(piece, Variable) and piece.splits for word in command.words for piece in word)


def _with_variables(word: str, filled: Word) -> Word:
    if "$" not in word:
        return filled
    pieces: list[str | Variable] = []
    for piece in filled:
        if isinstance(piece, Variable):
            pieces.append(piece)
            continue
        end = 0
        for found in _VARIABLE.finditer(piece):
            is_whole = filled == (piece,) and found.span() == (0, len(piece))
            if found["plain"] and not is_whole:
                continue  # only a word of its own is filled in without braces
            name = found["braced"] or found["plain"]
            meaning = Variable(name, splits=bool(found["plain"])) if name else "$"
            pieces += [piece[end : found.start()], meaning]
            end = found.end()
        pieces.append(piece[end:])
    return _joined(pieces)


def _joined(pieces: list[str | Variable]) -> Word:
    """Without empty texts, and neighbouring ones as one."""
    found: list[str | Variable] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece != "":
            found.append(piece)
    return tuple(found)


def _reference(word: Word) -> str:
    """With references of ours for what only the job's start can tell."""
    return "".join(literal(piece) if isinstance(piece, str) else f"${{env:{piece.name}}}" for piece in word)


def _shell_word(word: Word) -> str:
    if len(word) == 1 and isinstance(word[0], Variable) and word[0].splits:
        return f"${word[0].name}"
    parts = [shlex.quote(p) if isinstance(p, str) else f'"${{{p.name}}}"' for p in word]
    return "".join(parts) or "''"


def _unescaped(text: str) -> str:
    """What systemd-escape made of a path."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text.replace("-", "/"))
