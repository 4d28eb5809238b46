"""What is broken on purpose, drawn from seeds: configuration files, HTTP requests, the records, the database.

`python -m tests.fuzz yaml --seeds 20000` breaks so many configurations and judges what becomes of each; `api`,
`records` and `database` do so with theirs. `--seed N` replays one case and shows what was done in it. The tests play a
short slice of the same cases (`test_fuzz`); a seed that failed stays there under the name of what it found.
"""

import argparse
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from time import monotonic

from tests.breaking import Broken, Case, Ground
from tests.fuzz_database import DatabaseGround
from tests.fuzz_files import FileGround
from tests.fuzz_records import RecordGround
from tests.fuzz_requests import RequestGround

MOST_BYTES = 4 << 30
"""Of address space: what asks for more without bound is told so, and the machine is spared."""
SAY_EVERY_SECONDS = 60.0

GROUNDS: dict[str, type[Ground]] = {
    "yaml": FileGround,
    "api": RequestGround,
    "records": RecordGround,
    "database": DatabaseGround,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("ground", choices=GROUNDS, help="what is broken")
    parser.add_argument("--seed", type=int, help="replay this case and show it")
    parser.add_argument("--seeds", type=int, default=1000, help="how many cases to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    # Whatever ends us, what we have started is ended as well.
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(1))
    with GROUNDS[chosen.ground]() as ground:
        if chosen.seed is not None:
            return _replay(ground, chosen.seed)
        return _play_many(ground, range(chosen.first, chosen.first + chosen.seeds))


def _replay(ground: Ground, seed: int) -> int:
    case = Case(seed)
    error: Exception | None = None
    try:
        ground.play(case)
    except Exception as caught:  # noqa: BLE001 (shown below, with what led to it)
        error = caught
    sys.stdout.write("\n".join(case.lines) + "\n")
    if error is None:
        sys.stdout.write(f"seed {seed}: as it should be: {', '.join(case.met)}\n")
    elif isinstance(error, Broken):
        sys.stdout.write(f"seed {seed}: {error}\n")
    else:
        sys.stdout.write("".join(traceback.format_exception(error)))
    return 0 if error is None else 1


def _play_many(ground: Ground, seeds: range) -> int:
    began = said = monotonic()
    met: Counter[str] = Counter()
    failed = 0
    for seed in seeds:
        case = Case(seed)
        try:
            ground.play(case)
        except Exception as error:  # noqa: BLE001 (told, and the next seed may find something else)
            failed += 1
            first_line = (str(error).splitlines() or [""])[0][:300]
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {first_line}\n")
            sys.stdout.flush()
        met += case.met
        if monotonic() - said > SAY_EVERY_SECONDS:
            said = monotonic()
            sys.stdout.write(f"  {seed - seeds.start + 1} cases, {failed} failed, {said - began:.0f} s\n")
            sys.stdout.flush()
    for kind, times in sorted(met.items()):
        sys.stdout.write(f"{times:8} {kind}\n")
    sys.stdout.write(f"{len(seeds)} cases, {failed} failed, {monotonic() - began:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("TZ", "UTC")
    raise SystemExit(main())
