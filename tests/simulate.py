"""Histories of a home, each drawn from a seed: the real controller on a simulated machine, with everything going wrong.

`python -m tests.simulate --seed N` replays one history and shows it; `--seeds 2000` looks for one that breaks an
invariant. The manager is killed at any point where it could be, the disk fills, the clock jumps, files are edited and
deleted; then the faults cease, and after a while what runs must be what is wanted.

Many seeds end with what happened how often, and fail if a history failed, or if a fault that one of them wanted never
happened: every fault, once there are as many seeds as faults.
"""

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from time import monotonic
from typing import NamedTuple

from tests.faults import FAULTS, wanted_by
from tests.lives import DAY, Violation
from tests.scene import STEPS, Scene


class Failure(Exception):
    """A history broke an invariant; the message is readable, and names the command that replays it."""

    def __init__(self, scene: Scene, error: BaseException) -> None:
        shown = "\n".join(scene.trace.lines[-60:])
        super().__init__(f"{shown}\n\n{error}\nreplay: python -m tests.simulate --seed {scene.seed}")
        self.number = error.number if isinstance(error, Violation) else 0


class Played(NamedTuple):
    """What is told of a history among many."""

    seed: int
    met: Counter[str]
    cycles: int
    days: float
    failed: str


def play(seed: int, directory: str, steps: int = STEPS) -> Scene:
    """Play the history of one seed. Raises Failure."""
    scene = Scene(seed, directory, steps)
    try:
        scene.play()
    except Exception as error:
        raise Failure(scene, error) from error
    finally:
        for name in os.listdir(directory):
            if name.startswith(f"{seed}.db"):
                os.unlink(os.path.join(directory, name))
    return scene


def never_reached(seeds: Iterable[int], met: Counter[str]) -> list[str]:
    """What at least one of these histories wanted, and what has happened in none."""
    wanted = {wanted_by(seed) for seed in seeds}
    return [fault for fault in FAULTS if fault in wanted and not met[fault]]


def workplace() -> str:
    """A directory for databases, in memory where there is such a place."""
    return tempfile.mkdtemp(prefix="procclaw-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history and show it")
    parser.add_argument("--seeds", type=int, default=300, help="how many histories to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=1, help="how many play at a time")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many things go wrong in each")
    parser.add_argument("--lines", type=int, default=60, help="how much of a history to show")
    chosen = parser.parse_args()
    directory = workplace()
    try:
        if chosen.seed is not None:
            return _replay(chosen.seed, chosen.steps, chosen.lines, directory)
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        return _play_many(seeds, played(seeds, chosen.steps, chosen.processes, directory))
    finally:
        shutil.rmtree(directory)


def _replay(seed: int, steps: int, lines: int, directory: str) -> int:
    scene = Scene(seed, directory, steps)
    error: Exception | None = None
    try:
        scene.play()
    except Exception as caught:  # noqa: BLE001 (shown below, with the history it ends)
        error = caught
    _say("\n".join(scene.trace.lines[-lines:]))
    _say(f"wanted: {scene.wanted}, which happened {scene.trace.met[scene.wanted]} times")
    if error is None:
        _say(f"seed {seed}: all invariants held in {scene.cycles} cycles")
    elif isinstance(error, Violation):
        _say(f"seed {seed}: {error}")
    else:
        _say("".join(traceback.format_exception(error)))
    return 0 if error is None else 1


def played(seeds: range, steps: int, processes: int, directory: str) -> Iterator[Played]:
    """What became of each, in their order."""
    one = partial(_play_one, directory=directory, steps=steps)
    if processes == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(one, seeds, chunksize=20)


def _play_one(seed: int, directory: str, steps: int) -> Played:
    try:
        scene = play(seed, directory, steps)
    except Failure as failure:
        cause = failure.__cause__
        return Played(seed, Counter(), 0, 0.0, f"{type(cause).__name__}: {str(cause).splitlines()[0][:200]}")
    return Played(seed, scene.trace.met, scene.cycles, scene.clock.elapsed / DAY, "")


def _play_many(seeds: range, histories: Iterable[Played]) -> int:
    began = monotonic()
    met: Counter[str] = Counter()
    failed = cycles = weeks = 0
    days = 0.0
    for each in histories:
        met += each.met
        cycles += each.cycles
        days += each.days
        weeks += each.days >= 14
        if each.failed:
            failed += 1
            _say(f"seed {each.seed}: {each.failed}")
    for fault in sorted({*FAULTS, *met}):
        _say(f"{met[fault]:8} {fault}{'' if fault in FAULTS else '  (counted only)'}")
    missing = never_reached(seeds, met)
    for fault in missing:
        _say(f"never reached: {fault}")
    reached = sum(1 for fault in FAULTS if met[fault])
    _say(f"{reached} of {len(FAULTS)} faults reached; {weeks} histories of two weeks or more, {days:,.0f} days in all")
    _say(f"{len(seeds)} histories, {cycles} cycles, {failed} failed, {monotonic() - began:.1f} s")
    return 1 if failed or missing else 0


def _say(line: str) -> None:
    """At once: whoever watches thousands of histories wants to see the first failure when it is found."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
