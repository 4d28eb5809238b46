"""What is recorded of a cycle: all of it comes back, whatever it is, and only of cycles that somebody may ask about."""

import json
import types
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procclaw.model.alerts import AlertKind
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, Health, Run, RunState, Usage, WorkflowRun
from procclaw.model.rows import Write
from procclaw.model.spec import Condition, Dependency, JobSpec, OnFailure, Spec, WorkflowSpec, WorkflowType
from procclaw.model.state import ActiveRun, JobState, State, WorkflowState
from procclaw.planning import recording
from procclaw.planning.actions import Check, Plan, Signal, Start
from procclaw.planning.plan import merged, plans
from procclaw.planning.recording import (
    Because,
    Cause,
    Recorded,
    Unreadable,
    is_worth_it,
    packed,
    record_of,
    slimmed,
    unpacked,
)
from procclaw.planning.replaying import decide_again
from tests.builders import (
    BOOT,
    JOB,
    NOW,
    a_cursor,
    a_hold,
    a_job,
    a_run,
    a_spec,
    a_state,
    a_wait,
    ago,
    alive,
    an_attempt,
    an_intent,
    changed,
    continuous_run,
    later,
    slots_row,
)
from tests.test_rules import walk, walks

PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    datetime: st.datetimes(timezones=st.just(UTC)),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type, by what it declares."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin in (Union, types.UnionType):
        return st.one_of(*(st.none() if each is types.NoneType else any_of(each) for each in inside))
    if origin is tuple and inside[-1] is ...:
        return st.lists(any_of(inside[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(any_of, inside))
    if origin is frozenset:
        return st.frozensets(any_of(inside[0]), max_size=2)
    if origin is not None:
        return st.dictionaries(any_of(inside[0]), any_of(inside[1]), max_size=2)
    if issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind._fields)
    return st.deferred(lambda: st.builds(kind, **{name: any_of(hints[name]) for name in names}))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_of(Recorded))
def test_all_that_a_decision_can_follow_from_comes_back(recorded: Recorded) -> None:
    assert unpacked(packed(recorded)) == recorded


NOTHING = Plan()


def recorded_of(decided: Plan = NOTHING, **fields: Any) -> Recorded:
    given = Recorded(NOW, "hash", (Because(Cause.EXIT, (JOB,)),), None, None, True, a_state(JobState(JOB)), decided)
    return given._replace(**fields)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(walks, st.booleans())
def test_what_was_decided_on_a_random_walk_is_decided_again_from_its_record(path: Any, judges_slots: bool) -> None:
    world = walk(*path)
    spec, state = a_spec(*world.jobs.values()), world._observed()
    by_job = plans(spec, state, world.now, judges_slots=judges_slots)
    whole = recorded_of(merged(by_job.values()), now=world.now, state=state, judges_slots=judges_slots)
    for recorded in (whole, slimmed(whole, spec, by_job)):
        back = unpacked(packed(recorded))
        assert back == recorded
        assert decide_again(spec, back) == recorded.decided


# --- which jobs are in it ---


def slim(spec: Spec, state: State, *because: Because, acts_on: frozenset[str] | None = None) -> Recorded:
    by_job = plans(spec, state, NOW, acts_on=acts_on)
    whole = recorded_of(merged(by_job.values()), state=state, acts_on=acts_on, because=because)
    found = slimmed(whole, spec, by_job)
    assert decide_again(spec, found) == found.decided
    assert (found.decided.writes, found.decided.effects) == (whole.decided.writes, whole.decided.effects)
    return found


def named(name: str, *needed: str, **fields: Any) -> JobSpec:
    needs = tuple(Dependency(each, Condition.AFTER_START, None) for each in needed)
    return changed(a_job(**fields), id=name, depends_on=needs)


def test_jobs_at_rest_are_left_out_and_counted() -> None:
    spec = a_spec(*(named(name) for name in "abcd"), named("e", type="scheduled", schedule="* * * * *"))
    cursor = a_cursor(spec.jobs["e"], NOW, later(60))._replace(job_id="e")
    asked = JobState("b", intents=(an_intent("run")._replace(job_id="b"),))
    state = a_state(JobState(HOME), JobState("a"), asked, JobState("c"), JobState("d"), JobState("e", cursor=cursor))
    told = {("b", AlertKind.FAILED): NOW, ("c", AlertKind.FAILED): NOW}
    found = slim(spec, state._replace(last_told=told), Because(Cause.TIME, ("c",)))
    assert (sorted(found.state.jobs), found.at_rest) == (["*", "b", "c"], 3)
    assert found.state.last_told == told
    some = slim(spec, state._replace(last_told=told), acts_on=frozenset("abcde"))
    assert (sorted(some.state.jobs), some.acts_on) == (["*", "b"], frozenset("b"))
    assert list(some.state.last_told) == [("b", AlertKind.FAILED)]
    calm = slim(spec, state._replace(jobs={**state.jobs, "b": JobState("b")}))
    assert (list(calm.state.jobs), calm.decided) == (["*"], NOTHING), "when to look at a job that is not in it"


def test_what_a_job_depends_upon_is_in_it_however_far_away() -> None:
    spec = a_spec(named("a", "b"), named("b", "c"), named("c", "gone"), named("d", "a"))
    waiting = a_run("queued")._replace(job_id="a")
    state = a_state(JobState("a", active=(ActiveRun(waiting, None),)), *map(JobState, "bcd"))
    assert sorted(slim(spec, state).state.jobs) == ["a", "b", "c"]


def test_what_jobs_depend_upon_is_in_it_also_where_nothing_is_decided_about_that() -> None:
    spec = a_spec(named("a", "b"), named("b", "c"), named("c"), named("d", "e"), *map(named, "ef"))
    done = {name: a_run("succeeded", job_id=name, boot_id=BOOT) for name in "bce"}
    waiting = (JobState(name, active=(ActiveRun(a_run("queued", job_id=name), None),)) for name in "ad")
    rest = (JobState(name, newest_finished=done.get(name)) for name in "bcef")
    found = slim(spec, a_state(*waiting, *rest))
    assert sorted(found.state.jobs) == ["a", "b", "c", "d", "e"]
    assert {effect.job_id for effect in found.decided.effects if isinstance(effect, Start)} == {"a", "d"}


def test_a_service_that_is_begun_is_in_it_and_one_that_is_kept_from_it() -> None:
    spec = a_spec(*(named(name, type="continuous") for name in "abc"))
    state = a_state(
        JobState("a"),
        JobState("b", holds=(a_hold("stop", job_id="b"),)),
        JobState("c", newest_finished=continuous_run("succeeded", job_id="c")),
    )
    found = slim(spec, state)
    assert (sorted(found.state.jobs), found.at_rest) == (["a", "b"], 1)


def test_all_that_runs_or_waits_is_in_it_and_all_that_is_asked_for() -> None:
    spec = a_spec(*map(named, "abcd"))
    running = a_run("running", job_id="a", attempts=1)
    state = a_state(
        JobState("a", active=(ActiveRun(running, alive(an_attempt(running))),)),
        JobState("b", intents=(an_intent("look", job_id="b"),)),
        *map(JobState, "cd"),
    )
    assert sorted(slim(spec, state).state.jobs) == ["a", "b"]


def test_the_steps_of_a_workflow_that_goes_on_are_in_it_beside_what_runs() -> None:
    spec = a_spec(*map(named, "abcd"))
    flow = WorkflowSpec(WorkflowType.CHAIN, ("a", "b"), None, OnFailure.STOP, None, None, True)
    run = WorkflowRun("w", "", flow, RunState.RUNNING, NOW, "alice", (1, 0))
    asked = JobState("c", intents=(an_intent("run", job_id="c"),))
    state = a_state(*map(JobState, "ab"), asked, JobState("d"))._replace(workflows=(WorkflowState(run, (None, None)),))
    found = slim(spec, state)
    assert (sorted(found.state.jobs), found.at_rest) == (["a", "b", "c"], 1)
    alone = slim(spec, state, acts_on=frozenset("c"))
    assert (sorted(alone.state.jobs), alone.at_rest) == (["c"], 3), "nobody looked at workflows"
    assert found.decided.writes


def test_what_is_recorded_is_readable_text_and_small() -> None:
    run = continuous_run()
    recorded = recorded_of(Plan(writes=(run,)), state=a_state(JobState(JOB, newest_finished=run)))
    plain = json.loads(zlib.decompress(packed(recorded)))
    assert plain["format"] == 1
    assert plain["state"]["jobs"] == [[JOB, {"id": JOB, "newest_finished": plain["decided"]["writes"][0][1]}]]
    assert len(packed(recorded)) < 700


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"no zlib", "error"),
        (zlib.compress(b"no json"), "JSONDecodeError"),
        (zlib.compress(b"{}"), "KeyError: 'format'"),
        (zlib.compress(b'{"format": 2}'), "it is written in format 2, and this version reads 1"),
        (zlib.compress(b'{"format": 1}'), "TypeError"),
    ],
)
def test_what_another_version_wrote_otherwise_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        unpacked(body)


def test_a_word_that_is_no_longer_one_is_refused() -> None:
    plain = json.loads(zlib.decompress(packed(recorded_of(Plan(writes=(a_run("queued"),))))))
    plain["decided"]["writes"][0][1]["state"] = "enqueued"
    with pytest.raises(Unreadable, match="'enqueued' is not a valid RunState"):
        unpacked(zlib.compress(json.dumps(plain).encode()))


# --- of which cycles ---

CHECKED = Health(JOB, "r.1", True, ago(60), NOW)
MEASURED = Usage(JOB, "r.1", NOW, 1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("write", "is_recorded"),
    [
        (CHECKED, False),
        (CHECKED._replace(failures=1), False),
        (CHECKED._replace(is_healthy=False, since=NOW), True),
        (MEASURED, False),
        (MEASURED._replace(over_since=ago(60)), False),
        (MEASURED._replace(over_since=NOW), True),
        (a_cursor(a_job("scheduled"), NOW, None), False),
        (slots_row(NOW, "skipped"), True),
        (a_hold("pause"), True),
        (an_intent("stop"), True),
        (a_run("queued"), True),
    ],
)
def test_a_cycle_is_recorded_for_what_it_changed_and_not_for_looking(write: Write, is_recorded: bool) -> None:
    assert is_worth_it(Plan(writes=(write,))) is is_recorded
    assert is_worth_it(Plan(writes=(CHECKED, write))) is is_recorded
    assert is_worth_it(Plan(effects=(Check(JOB, "r.1"),), writes=(write,))) is is_recorded


def test_a_cycle_that_is_too_large_leaves_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = recorded_of(Plan(writes=(a_run("queued"),)))
    monkeypatch.setattr(recording, "LONGEST_BYTES", len(packed(recorded)))
    assert record_of(recorded) is not None
    monkeypatch.setattr(recording, "LONGEST_BYTES", len(packed(recorded)) - 1)
    assert record_of(recorded) is None


def with_an_attempt(run: Run) -> Plan:
    return Plan(writes=(an_attempt(run),))


def answered(run: Run) -> Plan:
    return Plan(writes=(an_intent("run")._replace(run_id=run.id, resolved_at=NOW),))


def started(run: Run) -> Plan:
    return Plan(effects=(Start(JOB, run.id, 1, 0, an_attempt(run).terms, "asked for"),))


def in_the_ledger(run: Run) -> Plan:
    return Plan(writes=(slots_row(NOW, "ran", run=run),))


def made(run: Run) -> Plan:
    return Plan(writes=(run, a_hold("pause")))


def signalled(run: Run) -> Plan:
    return Plan(effects=(Signal(an_attempt(run), (), 15, False, Reason.STOP_REQUESTED), Check(JOB, "r.1")))


def held_back(run: Run) -> Plan:
    return Plan(waits=(a_wait(Reason.PAUSED, run), a_wait(Reason.PAUSED)))


@pytest.mark.parametrize("decided", [made, with_an_attempt, answered, started, signalled, in_the_ledger, held_back])
def test_a_record_names_the_runs_it_is_about(decided: Callable[[Run], Plan]) -> None:
    run = a_run("queued")
    record = record_of(recorded_of(decided(run)))
    assert record is not None
    assert (record.at, record.spec_hash, record.runs) == (NOW, "hash", (run.id,))
    assert unpacked(record.body).decided == decided(run)
