"""Fields: what a request may say, each with its kind, so that one table checks it and describes it.

A value comes as text (in the query) or as JSON (in a body). What does not fit is refused with the name of the field;
a name that nobody knows is refused as well, for it is a mistake that would otherwise go unnoticed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from procclaw.model.clock import parse_iso
from procclaw.model.errors import UsageError
from procclaw.model.shape import did_you_mean, quoted

LONGEST_TEXT = 4096
"""Characters of one value; nothing that is searched or named is longer."""
LONGEST_LIST = 1000
LONGEST_WORD = 256
"""Characters of an id or a tag."""

Schema = dict[str, Any]


class Kind(NamedTuple):
    schema: Schema
    check: Callable[[Any], Any]
    """From JSON to what a handler is given; raises ValueError, with what it should have been."""
    read: Callable[[str], Any]
    """From text to JSON; what is no text of that kind is left as it is, for `check` to refuse."""


class Field(NamedTuple):
    name: str
    kind: Kind
    description: str
    default: Any = None
    is_required: bool = False


def _as_it_is(text: str) -> Any:
    return text


# --- kinds ---


def text(longest: int = LONGEST_TEXT, shortest: int = 0) -> Kind:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not shortest <= len(value) <= longest or "\0" in value:
            raise ValueError(f"text of {shortest} to {longest} characters")
        return value

    return Kind(
        {"type": "string", "minLength": shortest, "maxLength": longest, "pattern": "^[^\\x00]*$"}, check, _as_it_is
    )


def choice(values: Iterable[str]) -> Kind:
    known = tuple(values)

    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return str(value)

    return Kind({"type": "string", "enum": list(known)}, check, _as_it_is)


def whole(least: int, most: int) -> Kind:
    def check(value: Any) -> int:
        # JSON knows but one kind of number: 5.0 is 5.
        is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        if not is_whole or not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(value)

    def read(given: str) -> Any:
        # As JSON writes it: no sign before a positive one, no blanks, digits of ASCII.
        return int(given) if given.isascii() and given.removeprefix("-").isdecimal() and len(given) < 20 else given

    return Kind({"type": "integer", "minimum": least, "maximum": most}, check, read)


def seconds(least: float, most: float) -> Kind:
    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"a number of seconds from {least:g} to {most:g}")
        return float(value)

    def read(given: str) -> Any:
        try:
            return float(given)
        except ValueError:
            return given

    return Kind({"type": "number", "minimum": least, "maximum": most}, check, read)


def _check_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


FLAG = Kind({"type": "boolean"}, _check_flag, lambda given: {"true": True, "false": False}.get(given, given))


def _check_moment(value: Any) -> str:
    try:
        parse_iso(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a time such as 2030-01-31T09:30:00Z") from None
    return str(value)


MOMENT = Kind({"type": "string", "format": "date-time"}, _check_moment, _as_it_is)
"""Checked and left as text: one without an offset is in a zone that the handler knows."""


def words(most: int = LONGEST_LIST) -> Kind:
    one = text(LONGEST_WORD, 1)

    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"a list of at most {most} texts")
        return tuple(one.check(each) for each in value)

    return Kind({"type": "array", "items": one.schema, "maxItems": most}, check, _as_it_is)


def _check_params(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str | int | float) for each in value.values()):
        raise ValueError("an object of texts, by the names of params")
    return {name: _param(each) for name, each in value.items()}


def _param(value: str | float) -> str:
    """As jobs.yaml would read it: a number means its digits."""
    return str(value).lower() if isinstance(value, bool) else str(value)


PARAMS = Kind(
    {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}, _check_params, _as_it_is
)


# --- a request's fields ---


def from_query(fields: Sequence[Field], given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The value of each field, by name. Raises UsageError."""
    said: dict[str, Any] = {}
    kinds = {field.name: field.kind for field in fields}
    for name, values in given.items():
        kind = kinds.get(name)
        if kind is None or kind.schema["type"] == "array":
            said[name] = list(values)
        elif len(values) > 1:
            raise UsageError(f"{name}: was given {len(values)} times")
        else:
            said[name] = kind.read(values[0])
    return from_json(fields, said)


def from_json(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each field, by name. Raises UsageError."""
    names = tuple(field.name for field in fields)
    for name in given:
        if name not in names:
            raise UsageError(f"{quoted(name)}: there is no such field here{did_you_mean(name, names)}")
    return {field.name: _value(field, given) for field in fields}


def _value(field: Field, given: Mapping[str, Any]) -> Any:
    if given.get(field.name) is None:
        if field.is_required:
            raise UsageError(f"{field.name}: is missing")
        return field.default
    try:
        return field.kind.check(given[field.name])
    except ValueError as error:
        # Not with the value: it may be a param's.
        raise UsageError(f"{field.name}: is not {error}") from None
