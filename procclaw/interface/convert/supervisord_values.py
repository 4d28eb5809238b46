"""Values of supervisord's options: %(…)s expressions, KEY="value" pairs, numbers, as supervisor reads each of them.

What only supervisord's own environment knows, %(ENV_X)s, is written `${env:X}` where a job may refer to it.
"""

import re
import shlex
from collections.abc import Mapping

from procclaw.interface.convert.inifile import Option
from procclaw.model.references import literal

Text = list[str]
"""Pieces: every second one is the name of a variable that is only known when the job starts."""
Known = Mapping[str, str | int | None]
"""What an expression may name; None: it is known to supervisord, but not here."""

_EXPRESSION = re.compile(
    r"%(?:\((?P<name>[^)]*)\)(?P<form>[-#0 +]*\d{0,3}(?:\.\d{0,3})?[diouxXeEfFgGcrsa])|(?P<odd>.?))", re.DOTALL
)
_ENVIRONMENT = "ENV_"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SUFFIXES = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
_TRUE, _FALSE = frozenset({"yes", "true", "on", "1"}), frozenset({"no", "false", "off", "0"})
_MARK = "\0"
"""Stands around the name of a variable while words are split; no source holds one."""


def expanded(option: Option, known: Known) -> Text:
    """The value, its expressions filled in. Raises ValueError, in words."""
    pieces, end = [""], 0
    for found in _EXPRESSION.finditer(option.value):
        pieces[-1] += option.value[end : found.start()]
        end = found.end()
        if found["odd"] == "%":
            pieces[-1] += "%"
        elif found["name"] is None:
            raise ValueError(f'{option.name}: "%" is only written %% or %(NAME)s')
        elif _is_variable(found["name"], known):
            pieces += [found["name"].removeprefix(_ENVIRONMENT), ""]
        else:
            pieces[-1] += _filled(option, found[0], found["name"], known)
    pieces[-1] += option.value[end:]
    return pieces


def _is_variable(name: str, known: Known) -> bool:
    is_own = name.startswith(_ENVIRONMENT) and name not in known
    return is_own and _VARIABLE.fullmatch(name.removeprefix(_ENVIRONMENT)) is not None


def _filled(option: Option, expression: str, name: str, known: Known) -> str:
    value = known.get(name)
    if value is None:
        raise ValueError(f"{option.name}: %({name})s is not known here: write the value")
    try:
        return str(expression % {name: value})
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{option.name}: {expression} does not fit its value") from None


def plain(option: Option, known: Known) -> str:
    """The value where a job cannot refer to a variable. Raises ValueError."""
    pieces = expanded(option, known)
    if len(pieces) > 1:
        raise ValueError(f"{option.name}: %(ENV_{pieces[1]})s is known to supervisord alone: write the value")
    return pieces[0]


def words(option: Option, known: Known) -> list[str]:
    """A command, split as supervisord does. Raises ValueError."""
    try:
        return [referring(word) for word in shlex.split(_marked(expanded(option, known)))]
    except ValueError as error:
        if "closing quotation" in str(error) or "escaped character" in str(error):
            raise ValueError(f"{option.name}: a quote is never closed") from None
        raise


def pairs(option: Option, known: Known) -> dict[str, str]:
    """KEY="value",KEY2=value as supervisord's lexer takes it; `referring` makes a job's values of them.

    Raises ValueError.
    """
    lexer = shlex.shlex(_marked(expanded(option, known)))
    lexer.wordchars += "/.+-():" + _MARK
    try:
        tokens = list(lexer)
    except ValueError:
        raise ValueError(f"{option.name}: a quote is never closed") from None
    found = {}
    for index in range(0, len(tokens), 4):
        triple = tokens[index : index + 3]
        if len(triple) != 3 or triple[1] != "=" or _MARK in triple[0]:
            raise ValueError(f'{option.name}: "{tokens[index]}" does not begin a KEY="value"'.replace(_MARK, "%"))
        found[triple[0]] = triple[2].strip("'\"")
    return found


def inlined(marked: Mapping[str, str]) -> dict[str, str | int | None]:
    """What may be named of an environment afterwards: values that are known already."""
    return {f"{_ENVIRONMENT}{name}": text for name, text in marked.items() if _MARK not in text}


def _marked(pieces: Text) -> str:
    return "".join(f"{_MARK}{piece}{_MARK}" if index % 2 else piece for index, piece in enumerate(pieces))


def referring(text: str) -> str:
    """What was marked as a reference of ours, the rest meant as it stands."""
    pieces = text.split(_MARK)
    return "".join(f"${{env:{piece}}}" if index % 2 else literal(piece) for index, piece in enumerate(pieces))


def number(option: Option, known: Known, least: int = 0) -> int:
    text = plain(option, known).strip()
    if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) or int(text) < least:
        raise ValueError(f'{option.name}: "{text}" is no number from {least}')
    return int(text)


def flag(option: Option, known: Known) -> bool:
    text = plain(option, known).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError(f'{option.name}: "{text}" is neither true nor false')
    return text in _TRUE


def size(option: Option, known: Known) -> int:
    """Bytes."""
    text = plain(option, known).strip().lower()
    factor = _SUFFIXES.get(text[-2:], 1)
    digits = text[:-2].strip() if factor > 1 else text
    if not re.fullmatch(r"\d{1,12}", digits, re.ASCII):
        raise ValueError(f'{option.name}: "{text}" is no size such as 50MB')
    return int(digits) * factor


def whole_list(option: Option, known: Known) -> list[int]:
    text = plain(option, known)
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(re.fullmatch(r"\d{1,3}", part, re.ASCII) and int(part) < 256 for part in parts):
        raise ValueError(f'{option.name}: "{text}" is no list of exit codes')
    return [int(part) for part in parts]
