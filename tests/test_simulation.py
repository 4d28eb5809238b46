"""Hundreds of simulated histories in which everything goes wrong, and proof that none of it would go unnoticed.

A failure shows the end of its history and the command that replays it.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from procclaw.engine.acting import Actor
from procclaw.engine.inputs import Inputs
from procclaw.engine.observing import Observer
from procclaw.model.document import document_hash, spec_from_document
from procclaw.model.errors import UsageError
from procclaw.model.records import Attempt, DeadLetter, HoldKind, Run, RunState
from procclaw.model.spec import JobSpec, Spec
from procclaw.planning import dependencies, plan, requests, runs, slots, timetable, triggers, workflows
from procclaw.planning.actions import Plan
from procclaw.planning.draft import Draft
from procclaw.planning.gates import Gate, shared_gates
from procclaw.planning.outcome import ended
from procclaw.system.store import Store
from tests.faults import FAULTS, seeds_that_want
from tests.finds import FINDS, Find
from tests.lives import DAY
from tests.scene import STEPS, Scene
from tests.simulate import Failure, main, never_reached, play, played, workplace

CHUNKS = 5
"""So that several workers can share them."""


@pytest.fixture
def directory() -> Iterator[str]:
    path = workplace()
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_invariant_breaks_whatever_goes_wrong_and_every_fault_is_reached(chunk: int, directory: str) -> None:
    """Between them the chunks want each fault once."""
    seeds = range(chunk, len(FAULTS), CHUNKS)
    met: Counter[str] = Counter()
    for seed in seeds:
        met += play(seed, directory).trace.met
    assert never_reached(seeds, met) == []


def test_a_fault_that_no_history_reaches_fails_the_command(
    directory: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(scene: Scene) -> None:
        """It does not bring about anything."""

    fault = "database moved away"
    monkeypatch.setitem(FAULTS, fault, nothing)
    monkeypatch.setattr("tests.mishaps.MISHAPS", (nothing,))
    seeds = seeds_that_want(fault, 1)
    monkeypatch.setattr("sys.argv", ["simulate", "--first", str(seeds[0]), "--seeds", "1"])
    assert main() == 1
    said = capsys.readouterr().out.splitlines()
    assert f"       0 {fault}" in said
    assert f"never reached: {fault}" in said


def test_histories_played_side_by_side_are_the_same(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(4)
    one, two = (list(played(seeds, STEPS, processes, directory)) for processes in (1, 2))
    assert one == two


def test_some_histories_live_for_weeks(directory: str) -> None:
    """The weekends on which the clocks change are three of the faults; there are others that last as long."""
    seed = next(seed for seed in range(100) if Scene(seed, directory).lives_weeks)
    assert play(seed, directory).clock.elapsed > 7 * DAY


def test_a_seed_names_one_history(directory: str) -> None:
    assert play(7, directory).trace.lines == play(7, directory).trace.lines


@pytest.mark.parametrize("find", FINDS, ids=[find.what for find in FINDS])
def test_what_was_found_once_is_looked_for_ever_after(find: Find, directory: str) -> None:
    module, _, function = find.test.partition(".")
    assert callable(getattr(import_module(f"tests.{module}"), function))
    for seed in find.seeds:
        play(seed, directory)


# --- each invariant broken once on purpose ---

Mutation = Callable[[pytest.MonkeyPatch], None]


def forget_that_the_database_was_put_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Observer, "lost_until", lambda *_: None)


def ignore_the_limit(patch: pytest.MonkeyPatch) -> None:
    without_gate("max_instances")(patch)


def drop_overtaken_slots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slots, "_add_older", lambda *_: None)


def trust_a_pid(patch: pytest.MonkeyPatch) -> None:
    signal = Actor._signal

    def trusting(self: Actor, effect: Any, *rest: Any) -> None:
        attempt = effect.attempt
        ticks = None if attempt.pid is None else self._processes.start_ticks(attempt.pid)
        signal(self, replace(effect, attempt=attempt._replace(start_ticks=ticks)), *rest)

    patch.setattr(Actor, "_signal", trusting)


def overlook_what_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Observer, "_members", lambda *_: {})


def record_another_exit_code(patch: pytest.MonkeyPatch) -> None:
    def swapped(*args: Any) -> Attempt:
        over = ended(*args)
        return over._replace(exit_code=over.exit_code and over.exit_code + 1)

    patch.setattr("procclaw.planning.attempts.ended", swapped)


def restart_for_any_edit(patch: pytest.MonkeyPatch) -> None:
    def all_of_it(document: Any, content_hash: str) -> Spec:
        spec = spec_from_document(document, content_hash)
        hashes = {name: document_hash(job) for name, job in document["jobs"].items()}
        return spec._replace(jobs={name: job._replace(process_hash=hashes[name]) for name, job in spec.jobs.items()})

    patch.setattr("procclaw.engine.configuration.spec_of", all_of_it)


def let_next_be_now(patch: pytest.MonkeyPatch) -> None:
    next_due = timetable.next_due
    patch.setattr(timetable, "next_due", lambda key, moment: next_due(key, moment - slots._INSTANT))


def ignore_holds(patch: pytest.MonkeyPatch) -> None:
    for module in (plan, runs):
        patch.setattr(module, "standing_gates", lambda *_: (Gate("open"),))


def never_wake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "wake", lambda *_: None)


def without_gate(name: str) -> Mutation:
    """One of the gates that runs share is left open."""

    def open_it(patch: pytest.MonkeyPatch) -> None:
        def without(*args: Any) -> Iterator[Gate]:
            return (gate for gate in shared_gates(*args) if gate.gate != name)

        patch.setattr(runs, "shared_gates", without)

    return open_it


def hand_over_no_lock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Actor, "_with_lock", lambda self, launch, *_: launch)


def depend_on_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dependencies, "dependency_gates", lambda *_: ())


def start_nobodys_dependency(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dependencies, "to_pull", lambda *_: ())


def see_no_duplicate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "duplicate_of", lambda *_: None)


def know_no_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(triggers, "_is_known", lambda *_: False)


def delete_files_early(patch: pytest.MonkeyPatch) -> None:
    run = replace_state(triggers._run_of)
    patch.setattr(triggers, "_run_of", run)


def replace_state(found: Callable[..., Run | None]) -> Callable[..., Run | None]:
    def succeeded(*args: Any) -> Run | None:
        run = found(*args)
        return None if run is None else run._replace(state=RunState.SUCCEEDED)

    return succeeded


def start_when_planned(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runs, "time_gate", lambda run, now: Gate("time"))


def let_no_hold_run_out(patch: pytest.MonkeyPatch) -> None:
    lift = Draft.lift

    def unless_it_ends(self: Draft, kind: HoldKind) -> bool:
        until = self.holds[kind].until if kind in self.holds else None
        return False if until is not None and until <= self.now else lift(self, kind)

    patch.setattr(Draft, "lift", unless_it_ends)


def bury_nobody(patch: pytest.MonkeyPatch) -> None:
    result = Draft.result

    def without_letters(self: Draft) -> Plan:
        found = result(self)
        return replace(found, writes=tuple(each for each in found.writes if not isinstance(each, DeadLetter)))

    patch.setattr(Draft, "result", without_letters)


def lose_payloads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "payload", lambda *_: None)


def take_all_steps_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workflows, "_waves", lambda workflow: iter([range(len(workflow.steps))]))


def tell_the_payload(patch: pytest.MonkeyPatch) -> None:
    prepare = Inputs.prepare

    def telling(self: Inputs, spec: JobSpec, run: Run, attempt: Attempt) -> dict[str, str]:
        payload = None if run.request is None else self._store.payload(run.request)
        if payload is not None:
            raise UsageError(f"cannot make use of {payload!r}")
        return prepare(self, spec, run, attempt)

    patch.setattr(Inputs, "prepare", telling)


MUTATIONS: list[tuple[int, Mutation, str | None]] = [
    (1, forget_that_the_database_was_put_back, "database restored"),
    (1, see_no_duplicate, None),
    (1, know_no_file, "trigger file deleted by us"),
    (1, delete_files_early, "trigger file deleted by us"),
    (2, ignore_the_limit, "key used again"),
    (2, without_gate("queue"), None),
    (2, without_gate("max_parallel"), "lock not free"),
    (2, hand_over_no_lock, "lock taken by another home"),
    (3, drop_overtaken_slots, None),
    (4, trust_a_pid, "pid reused by a stranger"),
    (5, overlook_what_is_left, None),
    (6, record_another_exit_code, None),
    (6, lose_payloads, None),
    (7, restart_for_any_edit, "jobs.yaml edited"),
    (8, let_next_be_now, None),
    (9, ignore_holds, None),
    (9, depend_on_nothing, None),
    (9, start_when_planned, None),
    (10, never_wake, None),
    (10, start_nobodys_dependency, None),
    (10, let_no_hold_run_out, None),
    (10, bury_nobody, None),
    (11, take_all_steps_at_once, "step of a chain"),
    (12, tell_the_payload, None),
]
"""The invariant, what breaks it, and the fault wanted by the histories in which that shows soon."""


def test_every_invariant_of_the_design_is_broken_once() -> None:
    assert {number for number, _, _ in MUTATIONS} == set(range(1, 13))


@pytest.mark.parametrize(("number", "mutation", "fault"), MUTATIONS)
def test_a_broken_invariant_is_noticed(
    number: int, mutation: Mutation, fault: str | None, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    seeds = range(60) if fault is None else seeds_that_want(fault, 60)
    noticed = set()
    for seed in seeds:
        try:
            play(seed, directory)
        except Failure as failure:
            noticed.add(failure.number)
            if failure.number == number:
                return
    pytest.fail(f"invariant {number} was broken and not noticed; noticed were {sorted(noticed)}")
