"""Histories of a home, each drawn from a seed: the real controller on a simulated machine, with everything going wrong.

`python -m tests.simulate --seed N` replays one history and shows it; `--seeds 2000` looks for one that breaks an
invariant. The manager is killed at any point where it could be, the disk fills, the clock jumps, files are edited and
deleted; then the faults cease, and after a while what runs must be what is wanted.
"""

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from time import monotonic

from tests.lives import Violation
from tests.scene import STEPS, Scene


class Failure(Exception):
    """A history broke an invariant; the message is readable, and names the command that replays it."""

    def __init__(self, scene: Scene, error: BaseException) -> None:
        shown = "\n".join(scene.trace.lines[-60:])
        super().__init__(f"{shown}\n\n{error}\nreplay: python -m tests.simulate --seed {scene.seed}")
        self.number = error.number if isinstance(error, Violation) else 0


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


def workplace() -> str:
    """A directory for databases, in memory where there is such a place."""
    return tempfile.mkdtemp(prefix="procclaw-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history and show it")
    parser.add_argument("--seeds", type=int, default=300, help="how many histories to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many things go wrong in each")
    parser.add_argument("--lines", type=int, default=60, help="how much of a history to show")
    chosen = parser.parse_args()
    directory = workplace()
    try:
        if chosen.seed is not None:
            return _replay(chosen.seed, chosen.steps, chosen.lines, directory)
        return _play_many(range(chosen.first, chosen.first + chosen.seeds), chosen.steps, directory)
    finally:
        shutil.rmtree(directory)


def _replay(seed: int, steps: int, lines: int, directory: str) -> int:
    scene = Scene(seed, directory, steps)
    error: Exception | None = None
    try:
        scene.play()
    except Exception as caught:  # noqa: BLE001 (shown below, with the history it ends)
        error = caught
    sys.stdout.write("\n".join(scene.trace.lines[-lines:]) + "\n")
    if error is None:
        sys.stdout.write(f"seed {seed}: all invariants held in {scene.cycles} cycles\n")
    elif isinstance(error, Violation):
        sys.stdout.write(f"seed {seed}: {error}\n")
    else:
        sys.stdout.write("".join(traceback.format_exception(error)))
    return 0 if error is None else 1


def _play_many(seeds: range, steps: int, directory: str) -> int:
    began = monotonic()
    met: Counter[str] = Counter()
    failed: dict[int, str] = {}
    cycles = 0
    for seed in seeds:
        try:
            scene = play(seed, directory, steps)
        except Failure as failure:
            failed[seed] = str(failure.__cause__).splitlines()[0][:200]
            sys.stdout.write(f"seed {seed}: {type(failure.__cause__).__name__}: {failed[seed]}\n")
        else:
            met += scene.trace.met
            cycles += scene.cycles
    for kind, times in sorted(met.items()):
        sys.stdout.write(f"{times:8} {kind}\n")
    sys.stdout.write(f"{len(seeds)} histories, {cycles} cycles, {len(failed)} failed, {monotonic() - began:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
