"""The shape of configuration: what the JSON Schemas say a field may be, and the words for a field that is not so.

A *shape* is a schema with its references put in their places, so it can be walked beside a value. Schemas that unite
kinds do it with a list of types, never with `anyOf`: that keeps the walk, and the messages, simple. `title` is the
noun phrase a message uses for what is wanted. Every default lives in the schema and nowhere else.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from procclaw.model.masking import masked_at

Shape = Mapping[str, Any]
Path = tuple[str | int, ...]

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTH = {
    spelling: word in ("yes", "true", "on")
    for word in ("yes", "true", "on", "no", "false", "off")
    for spelling in (word, word.capitalize(), word.upper())
}
# Decimal only: YAML 1.1 would read 010 as eight and 1:30 as ninety. Eighteen digits stay clear of every limit.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]{0,17})(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?")
_TYPE_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_PLAIN_KEY = re.compile(r"[\w$-]+")
_OTHER_TOOLS_WORDS = {
    "command": "cmd",
    "cron": "schedule",
    "directory": "cwd",
    "environment": "env",
    "working_dir": "cwd",
}
_SHOWN_CHARACTERS = 60


def resolved(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """`schema` with every `$ref` replaced by the definition of that name, keywords beside it added."""
    if isinstance(schema, list):
        return [resolved(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: resolved(part, definitions) for key, part in schema.items() if key not in ("$ref", "$defs")}
    if isinstance(schema.get("$ref"), str):
        return {**resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions), **parts}
    return parts


def types_of(shape: Shape) -> tuple[str, ...]:
    """The types it may have; none where the shape is unknown."""
    types = shape.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def child(shape: Shape, key: str | int) -> Shape:
    """The shape of what a value of `shape` holds under `key`; empty where nothing is known of it."""
    if isinstance(key, int):
        found = shape.get("items", {})
    else:
        found = shape.get("properties", {}).get(key) or shape.get("additionalProperties") or {}
    return found if isinstance(found, dict) else {}


def scalar(text: str, shape: Shape) -> object:
    """What an unquoted YAML scalar means where `shape` is wanted.

    Where text is wanted first of all it is the text as written, so `on`, `1.10`, `022` and `12:30` keep their spelling;
    the schemas name numbers beside it only so that editors let them pass.
    """
    types = types_of(shape)
    if text in _NOTHING:
        return None
    if types[:1] == ("string",):
        return text
    if text in _TRUTH and (not types or "boolean" in types):
        return _TRUTH[text]
    if not types or "integer" in types or "number" in types:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            number = float(text)
            return int(number) if "number" not in types and number.is_integer() else number
    return text


def filled(value: Any, shape: Shape) -> Any:
    """`value` with the default of every field it leaves out, at every depth."""
    if isinstance(value, dict):
        if "properties" not in shape:
            return {name: filled(part, child(shape, name)) for name, part in value.items()}
        return {
            name: filled(value.get(name, field.get("default")), field) for name, field in shape["properties"].items()
        }
    if isinstance(value, list):
        items = child(shape, 0)
        return [filled(part, items) for part in value]
    return value


def complaints(error: Any) -> Iterator[tuple[Path, str]]:
    """What a person is told of one `jsonschema` validation error, and where; the same thing may come twice."""
    path, value, shape = tuple(error.absolute_path), error.instance, error.schema
    said = quoted(masked_at(path, value))
    match error.validator:
        case _ if "propertyNames" in error.absolute_schema_path:
            yield (*path, value), f"{quoted(value)} is not {wanted(shape)}"
        case "additionalProperties":
            yield from (((*path, key), _unknown(key, shape["properties"])) for key in _strangers(value, shape))
        case "required":
            yield from (((*path, key), "is missing") for key in error.validator_value if key not in value)
        case "type":
            hint = "; write it without quotes" if _is_quoted_number(value, shape) else ""
            yield path, f"{wanted(shape)} is needed, got {said}{hint}"
        case "enum" if "title" not in shape:
            yield path, f"{said} is not one of {', '.join(error.validator_value)}"
        case "minimum":
            yield path, f"{said} is below {error.validator_value}"
        case "maximum":
            yield path, f"{said} is above {error.validator_value}"
        case "minLength" | "minItems":
            yield path, "must not be empty"
        case _:
            yield path, f"{said} is not {wanted(shape)}"


def wanted(shape: Shape) -> str:
    """What the shape asks for, as a noun phrase."""
    return shape.get("title") or " or ".join(_TYPE_WORDS[kind] for kind in types_of(shape) if kind != "null")


def quoted(value: object) -> str:
    """A value as a message shows it: text in quotes and shortened, collections by their kind."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str() if len(value) > _SHOWN_CHARACTERS:
            value = value[:_SHOWN_CHARACTERS] + "…"
    return printable(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """With an escape for each character that would end the line, that a terminal obeys, or that nobody can see."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


@lru_cache(maxsize=1024)
def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """The end of a message about an unknown word: the nearest known one, or nothing."""
    from difflib import get_close_matches

    by_lower = {candidate.lower(): candidate for candidate in known}
    for spelling in (word.lower().replace("-", "_"), word.lower()):
        for near in get_close_matches(spelling, by_lower, n=1):
            return f'; did you mean "{by_lower[near]}"?'
    return ""


def dotted(path: Path) -> str:
    """A path as messages show it: `jobs.web.schedule[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_KEY.fullmatch(part) else quoted(part))
    return text


def _strangers(value: Mapping[str, Any], shape: Shape) -> Iterator[str]:
    patterns = shape.get("patternProperties", ())
    for key in value:
        if key not in shape["properties"] and not any(re.search(pattern, key) for pattern in patterns):
            yield key


def _unknown(key: str, known: Mapping[str, Any]) -> str:
    elsewhere = _OTHER_TOOLS_WORDS.get(key.lower())
    if elsewhere in known:
        return f'is not a known key; did you mean "{elsewhere}"?'
    return "is not a known key" + did_you_mean(key, tuple(known))


def _is_quoted_number(value: object, shape: Shape) -> bool:
    is_numeric = "number" in types_of(shape) or "integer" in types_of(shape)
    return is_numeric and isinstance(value, str) and _NUMBER.fullmatch(value) is not None
