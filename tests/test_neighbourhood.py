"""Which jobs a change of one may concern."""

from typing import Any

import pytest

from procclaw.model.records import HOME, WORKFLOWS, Trigger
from procclaw.model.spec import Condition, Dependency, JobSpec, Lock, LockProvider, Spec
from procclaw.planning.neighbourhood import Neighbourhoods, has_left_its_place
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


@pytest.mark.parametrize(
    ("job", "queue", "trigger", "has_left"),
    [
        ("a", "q", Trigger.MANUAL, False),
        ("a", None, Trigger.MANUAL, False),
        ("a", "other", Trigger.MANUAL, True),
        ("b", "q", Trigger.MANUAL, True),
        ("b", None, Trigger.MANUAL, False),
        ("c", None, Trigger.CONTINUOUS, False),
        ("c", "q", Trigger.CONTINUOUS, False),
        ("c", "q", Trigger.MANUAL, True),
        ("gone", None, Trigger.MANUAL, True),
        ("gone", None, Trigger.CONTINUOUS, True),
    ],
)
def test_what_runs_may_have_a_place_that_its_job_does_not_tell_of(
    job: str, queue: str | None, trigger: Trigger, *, has_left: bool
) -> None:
    spec = a_spec(*jobs(a={"queue": "q"}, b={}, c={"type": "continuous"}))
    assert has_left_its_place(spec, job, queue, trigger) is has_left


def test_a_run_of_a_job_that_has_become_a_service_counts_where_the_home_has_a_limit() -> None:
    spec = a_spec(*jobs(a={}, c={"type": "continuous"}))
    limited = spec._replace(config=a_config(max_parallel=2))
    found = [has_left_its_place(each, name, None, Trigger.MANUAL) for each in (spec, limited) for name in ("a", "c")]
    assert found == [False, False, False, True]


def test_jobs_compete_for_places_of_queues_and_of_the_home() -> None:
    spec = a_spec(*jobs(a={"depends_on": on("b"), "lock": LOCK}, b={}))
    assert not Neighbourhoods(spec).has_places
    assert Neighbourhoods(spec._replace(config=a_config(max_parallel=2))).has_places
    assert Neighbourhoods(a_spec(*jobs(a={}, b={"queue": "q"}))).has_places
