"""`python -m tests.histories`: record what this version decides in simulated homes, for later versions to replay.

Each version has a file in `tests/data/histories`, and keeps it for ever: a later one replays all of them and shows any
decision that has changed (`tests/test_histories.py`). Where that is meant, `python -m tests.histories --accept` writes
today's decisions into the files; what was seen then stays as it was.
"""

import argparse
import json
import lzma
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from procclaw import __version__
from procclaw.engine.stored import spec_of
from procclaw.model.document import Document
from procclaw.model.intents import Intent
from procclaw.model.masking import without_secrets
from procclaw.model.records import Attempt, CycleRecord, Run, Slots, WorkflowRun
from procclaw.model.spec import Spec
from procclaw.planning.actions import Plan, Signal
from procclaw.planning.recording import Recorded, packed, unpacked
from procclaw.planning.replaying import decide_again, differences
from procclaw.system.store import Store
from procclaw.system.store.tables import CYCLES
from tests.scene import Scene
from tests.simulate import workplace

HISTORIES = Path(__file__).parent / "data" / "histories"
SEEDS = 120
OF_EACH = 2
"""A cycle is taken if something is in it of which fewer than this many have been taken."""


class Remembered(NamedTuple):
    """A recorded cycle with the configuration of then."""

    name: str
    document: Document
    body: bytes

    @property
    def recorded(self) -> Recorded:
        return unpacked(self.body)

    @property
    def spec(self) -> Spec:
        return spec_of(self.document, self.recorded.spec_hash)

    def otherwise(self) -> tuple[str, ...]:
        """In what today's decision differs; empty: in nothing."""
        return differences(self.recorded.decided, decide_again(self.spec, self.recorded))

    def accepted(self) -> "Remembered":
        """With today's decision in place of the one of then."""
        recorded = self.recorded
        return self._replace(body=packed(recorded._replace(decided=decide_again(self.spec, recorded))))


def played(seed: int, directory: str) -> Iterator[Remembered]:
    """The cycles that are recorded in one simulated history, as its database has them in the end."""
    scene = Scene(seed, directory)
    scene.play()
    store = Store(scene.database)
    try:
        for row in store._db.read(f"SELECT {CYCLES.columns} FROM cycles ORDER BY id"):
            cycle: CycleRecord = CYCLES.read(row)
            document = store.cycles.spec_of(cycle)
            assert document is not None, f"seed {seed}: the configuration of cycle {cycle.id} is not kept"
            yield Remembered(f"seed {seed}, cycle {cycle.id}", document, cycle.body)
    finally:
        store.close()


# --- which of them ---


def features(recorded: Recorded) -> Iterator[str]:
    """What there is in a cycle that another may not have."""
    state = recorded.state
    yield f"lack {state.lack and state.lack.reason}"
    yield f"restored {state.restored_until is not None}, held {bool(state.home_holds)}"
    yield f"scope {recorded.acts_on is None} {recorded.asked is None} {recorded.judges_slots}"
    for job in state.jobs.values():
        for active in (each for each in job.active if each.live is not None):
            yield f"seen {active.run.trigger} {active.live and active.live.sight.phase}"
    yield from of_plan(recorded.decided)


def of_plan(decided: Plan) -> Iterator[str]:
    for write in decided.writes:
        kind = type(write).__name__
        match write:
            case Run():
                yield f"{kind} {write.trigger} {write.state} {write.reason} {write.ending}"
            case Attempt():
                yield f"{kind} {write.reason} {write.stop and write.stop.reason} {write.ended_at is None}"
            case Intent():
                yield f"{kind} {write.kind} {write.state} {write.force}"
            case Slots():
                yield f"{kind} {write.outcome} {write.reason}"
            case WorkflowRun():
                yield f"{kind} {write.spec.type} {write.state} {write.reason}"
            case _:
                yield f"{kind} {getattr(write, 'kind', '')}"
    for effect in decided.effects:
        yield f"{type(effect).__name__} {effect.reason if isinstance(effect, Signal) else ''}"
    for wait in decided.waits:
        yield f"wait {wait.reason} {wait.until is None}"


def diverse(found: Iterator[Remembered]) -> list[Remembered]:
    taken: list[Remembered] = []
    met: Counter[str] = Counter()
    for each in found:
        new = set(features(each.recorded))
        if any(met[feature] < OF_EACH for feature in new):
            met.update(new)
            taken.append(each)
    return taken


# --- their files ---


def read(path: Path) -> list[Remembered]:
    kept = json.loads(lzma.decompress(path.read_bytes()))
    return [
        Remembered(each["name"], kept["documents"][each["document"]], zlib.compress(json.dumps(each["cycle"]).encode()))
        for each in kept["cycles"]
    ]


def write(path: Path, remembered: list[Remembered]) -> None:
    documents: list[Any] = []
    cycles = []
    for each in remembered:
        document = without_secrets(each.document)
        if document not in documents:
            documents.append(document)
        cycle = json.loads(zlib.decompress(each.body))
        cycles.append({"name": each.name, "document": documents.index(document), "cycle": cycle})
    text = json.dumps({"documents": documents, "cycles": cycles}, separators=(",", ":"))
    path.write_bytes(lzma.compress(text.encode(), preset=9))


def path_of(version: str) -> Path:
    return HISTORIES / f"{version}.json.xz"


def all_paths() -> list[Path]:
    return sorted(HISTORIES.glob("*.json.xz"))


def accept(path: Path) -> int:
    """Write today's decisions into the file; how many of its cycles had another."""
    remembered = read(path)
    changed = sum(1 for each in remembered if each.otherwise())
    if changed:
        write(path, [each.accepted() for each in remembered])
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="write today's decisions into the files of all versions")
    chosen = parser.parse_args()
    if chosen.accept:
        for path in all_paths():
            sys.stdout.write(f"{path.name}: {accept(path)} decisions changed\n")
        return 0
    path = path_of(__version__)
    if path.exists():
        sys.stdout.write(f"{path.name} is there already, and stays: what it saw is kept for ever\n")
        return 1
    directory = workplace()
    try:
        taken = diverse(each for seed in range(SEEDS) for each in played(seed, directory))
    finally:
        shutil.rmtree(directory)
    HISTORIES.mkdir(exist_ok=True)
    write(path, taken)
    sys.stdout.write(f"{path.name}: {len(taken)} cycles, {path.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
