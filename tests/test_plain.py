"""Values as plain JSON: what was written comes back, also to types that have changed since."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pytest

from procclaw.model.plain import from_plain, to_plain
from tests.builders import NOW


class Old(NamedTuple):
    name: str
    went: int
    at: datetime


class New(NamedTuple):
    at: datetime
    name: str
    came: tuple[int, ...] = (1,)


class Leaf(NamedTuple):
    number: int = 0


@dataclass(frozen=True, slots=True)
class Branch:
    leaves: tuple[Leaf, ...] = ()
    other: "Leaf | Branch | None" = None


def test_fields_that_have_their_default_are_left_out() -> None:
    assert to_plain(Branch, Branch((Leaf(3), Leaf()))) == {"leaves": [{"number": 3}, {}]}


def test_one_of_several_types_says_which_it_is() -> None:
    tree = Branch(other=Branch(other=Leaf(1)))
    plain = to_plain(Branch, tree)
    assert plain == {"other": ["Branch", {"other": ["Leaf", {"number": 1}]}]}
    assert from_plain(Branch, plain) == tree


def test_what_was_written_is_read_by_a_type_that_has_changed() -> None:
    plain = json.loads(json.dumps(to_plain(Old, Old("ä", 3, NOW))))
    assert from_plain(New, plain) == New(NOW, "ä")


def test_a_microsecond_is_not_lost() -> None:
    moment = NOW + timedelta(microseconds=1)
    assert from_plain(datetime, to_plain(datetime, moment)) == moment


@pytest.mark.parametrize(
    ("kind", "plain"),
    [(New, {"name": "no time"}), (Branch, {"other": ["Twig", {}]}), (datetime, "then"), (tuple[int, str], [1])],
)
def test_what_stands_for_nothing_is_refused(kind: Any, plain: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        from_plain(kind, plain)


def test_a_type_that_nobody_knows_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="bytes"):
        to_plain(tuple[bytes, ...], ())
