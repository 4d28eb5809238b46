"""Hundreds of simulated histories in which everything goes wrong, and proof that none of it would go unnoticed.

A failure shows the end of its history and the command that replays it.
"""

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.controller import Controller
from procclaw.model.spec import Spec, document_hash, spec_from_document
from procclaw.model.state import Attempt
from procclaw.planning import plan, slots, timetable
from procclaw.planning.draft import Draft
from procclaw.planning.gates import Gate, run_gates
from procclaw.planning.outcome import ended
from tests.scene import KINDS, THEMES
from tests.simulate import Failure, play, workplace

CHUNKS = 8
SEEDS_EACH = len(THEMES)
"""So that every chunk has each theme once."""


@pytest.fixture
def directory() -> Iterator[str]:
    path = workplace()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_invariant_breaks_whatever_goes_wrong(chunk: int, directory: str, shared: Path) -> None:
    met: Counter[str] = Counter()
    for seed in range(chunk * SEEDS_EACH, (chunk + 1) * SEEDS_EACH):
        met += play(seed, directory).trace.met
    all_met, chunks = added_up(shared / "simulated.json", chunk, met)
    if chunks == CHUNKS:
        assert [kind for kind in KINDS if not all_met[kind]] == [], "never happened in any history"


def added_up(path: Path, chunk: int, met: Counter[str]) -> tuple[Counter[str], int]:
    """What happened in all chunks that have been played so far, and how many that are."""
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        counts = json.loads(file.read() or "{}") | {str(chunk): met}
        file.truncate(0)
        file.write(json.dumps(counts))
    total: Counter[str] = Counter()
    for each in counts.values():
        total.update(each)
    return total, len(counts)


def test_a_seed_names_one_history(directory: str) -> None:
    assert play(7, directory).trace.lines == play(7, directory).trace.lines


# --- each invariant broken once on purpose ---

Mutation = Callable[[pytest.MonkeyPatch], None]


def forget_that_the_database_was_put_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Controller, "_lost_until", lambda *_: None)


def ignore_the_limit(patch: pytest.MonkeyPatch) -> None:
    def without_limit(*args: Any) -> Iterator[Gate]:
        return (gate for gate in run_gates(*args) if gate.gate != "max_instances")

    patch.setattr(plan, "run_gates", without_limit)


def drop_overtaken_slots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slots, "_add_older", lambda *_: None)


def trust_a_pid(patch: pytest.MonkeyPatch) -> None:
    signal = Controller._signal

    def trusting(self: Controller, effect: Any, *rest: Any) -> None:
        attempt = effect.attempt
        ticks = None if attempt.pid is None else self._processes.start_ticks(attempt.pid)
        signal(self, replace(effect, attempt=attempt._replace(start_ticks=ticks)), *rest)

    patch.setattr(Controller, "_signal", trusting)


def overlook_what_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Controller, "_members", lambda *_: {})


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

    patch.setattr("procclaw.engine.configuration.spec_from_document", all_of_it)


def let_next_be_now(patch: pytest.MonkeyPatch) -> None:
    next_due = timetable.next_due
    patch.setattr(timetable, "next_due", lambda key, moment: next_due(key, moment - slots._INSTANT))


def ignore_holds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "standing_gates", lambda *_: (Gate("open"),))


def never_wake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "wake", lambda *_: None)


MUTATIONS = {
    1: (forget_that_the_database_was_put_back, "backup"),
    2: (ignore_the_limit, None),
    3: (drop_overtaken_slots, None),
    4: (trust_a_pid, "stranger"),
    5: (overlook_what_is_left, None),
    6: (record_another_exit_code, None),
    7: (restart_for_any_edit, "edit"),
    8: (let_next_be_now, None),
    9: (ignore_holds, None),
    10: (never_wake, None),
}
"""By invariant: what breaks it, and the theme of the histories in which that shows soon."""


@pytest.mark.parametrize(("number", "mutation", "theme"), [(number, *how) for number, how in MUTATIONS.items()])
def test_a_broken_invariant_is_noticed(
    number: int, mutation: Mutation, theme: str | None, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    seeds = range(60) if theme is None else range(THEMES.index(theme), 60 * len(THEMES), len(THEMES))
    noticed = set()
    for seed in seeds:
        try:
            play(seed, directory)
        except Failure as failure:
            noticed.add(failure.number)
            if failure.number == number:
                return
    pytest.fail(f"invariant {number} was broken and not noticed; noticed were {sorted(noticed)}")
