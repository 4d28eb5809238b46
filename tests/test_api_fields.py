"""What a request may say: every kind of value, as text in a query and as JSON in a body."""

from typing import Any

import pytest

from procclaw.interface.api.fields import (
    FLAG,
    MOMENT,
    PARAMS,
    Field,
    Kind,
    choice,
    from_json,
    from_query,
    seconds,
    text,
    whole,
    words,
)
from procclaw.model.errors import UsageError

WHOLE, SECONDS, CHOICE, TEXT, WORDS = whole(0, 10), seconds(0, 60), choice(("a", "b")), text(3), words()


def in_query(kind: Kind, *given: str) -> Any:
    return from_query((Field("x", kind, ""),), {"x": given})["x"]


def in_body(kind: Kind, given: Any) -> Any:
    return from_json((Field("x", kind, ""),), {"x": given})["x"]


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (WHOLE, "7", 7),
        (SECONDS, "2.5", 2.5),
        (CHOICE, "a", "a"),
        (TEXT, "äöü", "äöü"),
        (FLAG, "true", True),
        (FLAG, "false", False),
        (MOMENT, "2030-01-31T09:30", "2030-01-31T09:30"),
    ],
)
def test_a_query_is_read_as_what_it_should_be(kind: Kind, given: str, value: Any) -> None:
    assert in_query(kind, given) == value


def test_a_list_is_a_field_given_again() -> None:
    assert in_query(WORDS, "a", "b") == ("a", "b")


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        (WHOLE, "11", "a whole number from 0 to 10"),
        (WHOLE, "-1", "a whole number from 0 to 10"),
        (WHOLE, "+1", "a whole number from 0 to 10"),
        (WHOLE, "1.0", "a whole number from 0 to 10"),
        (WHOLE, "٣", "a whole number from 0 to 10"),
        (WHOLE, "", "a whole number from 0 to 10"),
        (SECONDS, "nan", "a number of seconds from 0 to 60"),
        (SECONDS, "inf", "a number of seconds from 0 to 60"),
        (SECONDS, "soon", "a number of seconds from 0 to 60"),
        (CHOICE, "c", "one of a, b"),
        (TEXT, "long", "text of 0 to 3 characters"),
        (TEXT, "a\0", "text of 0 to 3 characters"),
        (FLAG, "yes", "true or false"),
        (MOMENT, "tomorrow", "a time such as 2030-01-31T09:30:00Z"),
        (MOMENT, "9999-12-31T23:59:59-23:59", "a time such as 2030-01-31T09:30:00Z"),
        (WORDS, "", "text of 1 to 256 characters"),
    ],
)
def test_what_does_not_fit_is_named_and_its_value_is_not(kind: Kind, given: str, wanted: str) -> None:
    with pytest.raises(UsageError) as found:
        in_query(kind, given)
    assert str(found.value) == f"x: is not {wanted}"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (WHOLE, "7"),
        (WHOLE, True),
        (WHOLE, 7.5),
        (WHOLE, float("nan")),
        (WHOLE, float("inf")),
        (SECONDS, "1"),
        (SECONDS, True),
        (SECONDS, float("nan")),
        (CHOICE, ["a"]),
        (TEXT, 5),
        (FLAG, 1),
        (FLAG, "true"),
        (MOMENT, 5),
        (WORDS, "a"),
        (WORDS, [1]),
        (PARAMS, ["a"]),
        (PARAMS, {"a": ["b"]}),
        (PARAMS, {"a": None}),
    ],
)
def test_json_is_taken_at_its_word(kind: Kind, given: Any) -> None:
    with pytest.raises(UsageError, match=r"^x: is not "):
        in_body(kind, given)


def test_params_may_be_written_as_numbers() -> None:
    assert in_body(PARAMS, {"a": 5, "b": "x", "c": True, "d": 1.5}) == {"a": "5", "b": "x", "c": "true", "d": "1.5"}


FIELDS = (Field("limit", WHOLE, "", 5), Field("jobs", WORDS, "", is_required=True))


def test_what_was_not_said_has_its_default_and_what_must_be_said_is_missed() -> None:
    assert from_json(FIELDS, {"jobs": ["a"]}) == {"limit": 5, "jobs": ("a",)}
    assert from_json(FIELDS, {"jobs": ["a"], "limit": None}) == {"limit": 5, "jobs": ("a",)}
    with pytest.raises(UsageError, match=r"^jobs: is missing$"):
        from_json(FIELDS, {})


def test_a_field_that_nobody_knows_is_refused_with_what_may_have_been_meant() -> None:
    with pytest.raises(UsageError) as found:
        from_json(FIELDS, {"jobs": ["a"], "limits": 5})
    assert str(found.value) == '"limits": there is no such field here; did you mean "limit"?'


def test_a_field_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^limit: was given 2 times$"):
        from_query(FIELDS, {"limit": ["1", "2"], "jobs": ["a"]})
