"""Which jobs a change of one may concern."""

from typing import Any

import pytest

from procclaw.model.records import HOME, WORKFLOWS
from procclaw.model.spec import Condition, Dependency, JobSpec, Lock, LockProvider, Spec
from procclaw.planning.neighbourhood import Neighbourhoods
from tests.builders import a_config, a_job, a_spec, changed

LOCK = Lock("l", LockProvider.FILE, None, 300)


def on(*names: str) -> tuple[Dependency, ...]:
    return tuple(Dependency(name, Condition.AFTER_START, None) for name in names)


def jobs(**fields: dict[str, Any]) -> list[JobSpec]:
    kinds = {name: given.pop("type", "manual") for name, given in fields.items()}
    return [changed(a_job(kinds[name]), id=name, **given) for name, given in fields.items()]


def around(spec: Spec, *names: str) -> str:
    return "".join(sorted(Neighbourhoods(spec).around(names)))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"a": {}, "b": {}}, "a"),
        ({"a": {"depends_on": on("b")}, "b": {}, "c": {}}, "ab"),
        ({"b": {"depends_on": on("a")}, "a": {}}, "ab"),
        ({"b": {"depends_on": on("a")}, "a": {}, "c": {"depends_on": on("b")}, "d": {}}, "abc"),
        ({"a": {"queue": "q"}, "b": {"queue": "q"}, "c": {"queue": "other"}}, "ab"),
        ({"a": {"lock": LOCK}, "b": {"lock": LOCK}, "c": {"lock": LOCK._replace(name="m")}}, "ab"),
        ({"a": {"lock": LOCK}, "b": {"lock": LOCK._replace(path="/srv")}}, "a"),
        ({"a": {"queue": "q"}, "b": {"queue": "q", "lock": LOCK}, "c": {"lock": LOCK}}, "abc"),
        ({"a": {"depends_on": on("gone")}, "b": {"depends_on": on("gone")}}, "a"),
    ],
)
def test_jobs_that_share_something_are_planned_together(declared: dict[str, Any], expected: str) -> None:
    assert around(a_spec(*jobs(**declared)), "a") == expected


def test_what_ends_by_itself_is_everybodys_concern_where_the_home_has_a_limit() -> None:
    spec = a_spec(*jobs(a={}, b={"type": "scheduled"}, c={"type": "continuous"}))
    assert around(spec, "a") == "a"
    limited = spec._replace(config=a_config(max_parallel=2))
    assert (around(limited, "a"), around(limited, "c")) == ("ab", "c")
    for name in (HOME, WORKFLOWS, "gone"):
        assert Neighbourhoods(limited).around([name]) == {name}


def test_a_thousand_jobs_that_have_nothing_to_do_with_each_other_stay_apart() -> None:
    many = [changed(a_job(), id=f"job-{number}") for number in range(1000)]
    neighbourhoods = Neighbourhoods(a_spec(*many))
    assert neighbourhoods.around(["job-7"]) == {"job-7"}
    assert neighbourhoods.around([]) == frozenset()
