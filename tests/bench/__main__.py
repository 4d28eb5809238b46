"""`python -m tests.bench [ROW...]`: what the built .pyz costs, beside what the machine itself costs at that moment.

Each row sets up homes of its own, measures the floor in the same minutes, and ends what it has started. `--json FILE`
keeps the figures; `--compare FILE` shows those of another version beside them. Exit code 1: a target is missed.
"""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import commands, output, queue, running
from tests.bench.figures import Figure, compared, from_json, table, to_json
from tests.bench.machine import Bench, a_bench, described
from tests.driver import ROOT

ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "bring-up": running.bring_up,
    "crash": running.crash,
    "idle": running.idle,
    "memory": running.memory,
    "look": commands.look,
    "list": commands.growth,
    "reconcile": commands.reconcile,
    "output": output.write,
    "serve": running.serve,
    "save": running.save,
    "stop": running.stop,
    "queue": queue.drain,
    "decide": queue.decide,
    "load": commands.load,
}
BREAKING_OFF = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: list[str]) -> int:
    options = parsed(argv)
    for signum in BREAKING_OFF:
        signal.signal(signum, break_off)
    if options.pyz is None:
        subprocess.run([sys.executable, str(ROOT / "build_zipapp.py")], check=True, stdout=subprocess.DEVNULL)
    figures: list[Figure] = []
    with a_bench(options.pyz or ROOT / "dist" / "procclaw.pyz", is_quick=options.quick) as bench:
        machine = described() | {"floor": bench.floor_is}
        print(", ".join(f"{name} {value}" for name, value in machine.items()), file=sys.stderr)
        for name in options.rows or ROWS:
            for figure in ROWS[name](bench):
                figures.append(figure)
                print(f"{name}: {figure.what}: {figure.value:.4g} {figure.unit} {figure.verdict}", file=sys.stderr)
    print(table(figures))
    if options.compare is not None:
        print(compared(from_json(json.loads(options.compare.read_text())["figures"]), figures))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "figures": to_json(figures)}, indent=1) + "\n")
    return 0 if all(figure.is_met for figure in figures) else 1


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("rows", metavar="ROW", nargs="*", choices=[*ROWS, []], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--pyz", type=Path, metavar="FILE", help="what to measure (default: build it)")
    parser.add_argument("--quick", action="store_true", help="few jobs and few rounds: does every row work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show figures that were kept beside these")
    return parser.parse_args(argv)


def break_off(signum: int, _frame: object) -> None:
    """End by way of every `finally`, which a second signal must not cut short."""
    for each in BREAKING_OFF:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
