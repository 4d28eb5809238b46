"""Values as plain JSON types and back, by what their types declare.

A named tuple or dataclass becomes its fields by name, less those that have their default; of a union of several of them
each says which it is. So what was written stays readable for a version whose types have gained a field that has a
default, lost one, or put them in another order. Moments are whole microseconds since the epoch.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, Union, cast, get_args, get_origin, get_type_hints

from procclaw.model.clock import from_microseconds, to_microseconds

Convert = Callable[[Any], Any]


class _Codec(NamedTuple):
    """How a type is written and read back; None: it is plain as it stands."""

    write: Convert | None
    read: Convert | None


_AS_IT_IS = _Codec(None, None)


def to_plain(kind: Any, value: Any) -> Any:
    """What JSON can say of a value of this type; tuples count as lists, words of an enum as texts."""
    write = _codec(kind).write
    return value if write is None else write(value)


def from_plain(kind: Any, plain: Any) -> Any:
    """The value. Raises ValueError, TypeError, KeyError or OverflowError for what does not stand for one."""
    read = _codec(kind).read
    return plain if read is None else read(plain)


@cache
def _codec(kind: Any) -> _Codec:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _of_choice(tuple(each for each in inside if each is not types.NoneType), types.NoneType in inside)
    if origin is tuple:
        return _of_several(tuple, inside[0]) if inside[-1] is ... else _of_places(inside)
    if origin is frozenset:
        return _of_several(frozenset, inside[0])
    if origin is not None and issubclass(origin, Mapping):
        return _of_mapping(*inside)
    if kind is datetime:
        return _Codec(to_microseconds, from_microseconds)
    if issubclass(kind, StrEnum):
        return _Codec(None, kind)
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return _of_fields(kind)
    if kind not in (str, int, float, bool):
        raise TypeError(f"nobody knows how to write down a {kind}")
    return _AS_IT_IS


def _of_choice(kinds: tuple[Any, ...], is_optional: bool) -> _Codec:
    if len(kinds) > 1:
        return _of_one_among(kinds)
    write, read = _codec(kinds[0])
    assert is_optional
    return _Codec(
        None if write is None else lambda value: None if value is None else write(value),
        None if read is None else lambda plain: None if plain is None else read(plain),
    )


def _of_one_among(kinds: tuple[Any, ...]) -> _Codec:
    by_name = {kind.__name__: kind for kind in kinds}

    def write(value: Any) -> Any:
        return [type(value).__name__, to_plain(type(value), value)]

    def read(plain: Any) -> Any:
        name, body = plain
        return from_plain(by_name[name], body)

    return _Codec(write, read)


def _of_several(collected: Callable[[Any], Any], kind: Any) -> _Codec:
    write, read = _codec(kind)
    is_ordered = collected is tuple

    def write_each(value: Any) -> Any:
        plain = list(value) if write is None else [write(each) for each in value]
        return plain if is_ordered else sorted(plain)

    return _Codec(
        None if write is None and is_ordered else write_each,
        collected if read is None else lambda plain: collected(read(each) for each in plain),
    )


def _of_places(kinds: tuple[Any, ...]) -> _Codec:
    def write(value: Any) -> Any:
        return [to_plain(kind, each) for kind, each in zip(kinds, value, strict=True)]

    def read(plain: Any) -> Any:
        return tuple(from_plain(kind, each) for kind, each in zip(kinds, plain, strict=True))

    return _Codec(write, read)


def _of_mapping(key: Any, item: Any) -> _Codec:
    def write(value: Any) -> Any:
        return [[to_plain(key, name), to_plain(item, each)] for name, each in value.items()]

    def read(plain: Any) -> Any:
        return {from_plain(key, name): from_plain(item, each) for name, each in plain}

    return _Codec(write, read)


class _Field(NamedTuple):
    name: str
    default: Any
    """MISSING: it has none."""
    write: Convert | None
    read: Convert | None


def _of_fields(kind: Any) -> _Codec:
    # Looked up at the first value: a type may contain itself.
    @cache
    def known() -> tuple[_Field, ...]:
        hints = get_type_hints(kind)
        return tuple(_Field(name, default, *_codec(hints[name])) for name, default in _defaults(kind).items())

    is_tuple = issubclass(kind, tuple)

    def write(value: Any) -> Any:
        found = {}
        each = value if is_tuple else (getattr(value, field.name) for field in known())
        for (name, default, convert, _), item in zip(known(), each, strict=True):
            if item is default or item == default:
                continue
            found[name] = item if convert is None or item is None else convert(item)
        return found

    def read(plain: Any) -> Any:
        found = {}
        for name, _, _, convert in known():
            if name in plain:
                item = plain[name]
                found[name] = item if convert is None or item is None else convert(item)
        return kind(**found)

    return _Codec(write, read)


def _defaults(kind: Any) -> dict[str, Any]:
    if issubclass(kind, tuple):
        named = cast(Any, kind)
        return {name: named._field_defaults.get(name, MISSING) for name in named._fields}
    return {field.name: field.default for field in fields(kind)}
