"""`python -m tests.bench.soak --hours 2 --jobs 500`: the built .pyz under jobs that crash, log, and change, for hours.

The daemon is killed a few times at the beginning and at the end; the long stretch between is one life, because memory
that leaks slowly is seen only in a daemon that nobody restarts. Everything that is seen goes to a file of JSON lines
from which the verdict follows: `--judge FILE` judges it once more, or how far a soak has come that still runs.

Exit code 1: something grew, got lost or was left behind. Whatever was started is ended, also on SIGTERM and Ctrl-C.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.soak import verdict
from tests.bench.soak.course import Settings, Soak
from tests.bench.soak.watch import Journal
from tests.driver import ROOT, driving
from tests.support import Reaper

BREAKING_OFF = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILLED_WITHIN = 60.0


def main(argv: list[str]) -> int:
    options = parsed(argv)
    if options.judge is not None:
        return verdict.tell(options.judge)
    for signum in BREAKING_OFF:
        signal.signal(signum, break_off)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = Settings(options.seconds, options.jobs, options.seed)
    with a_home(options.home) as home, options.out.open("w") as file, a_program(options.pyz) as program:
        soak_in(home, program, settings, Journal(file))
    return verdict.tell(options.out)


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=(__doc__ or "").partition(":")[2])
    parser.add_argument("--hours", dest="seconds", type=lambda text: float(text) * 3600, default=7200.0)
    parser.add_argument("--minutes", dest="seconds", type=lambda text: float(text) * 60)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of what the jobs and the operator do")
    parser.add_argument("--pyz", type=Path, help="what to run (default: build it)")
    parser.add_argument("--out", type=Path, default=Path("soak.jsonl"), help="where everything that is seen goes")
    parser.add_argument("--home", type=Path, help="a directory to make and to leave (default: one that is removed)")
    parser.add_argument(
        "--judge", type=Path, metavar="FILE", help="judge what another soak has written, and do no more"
    )
    return parser.parse_args(argv)


def break_off(signum: int, _frame: object) -> None:
    """End by way of every `finally`, which a second signal must not cut short."""
    for each in BREAKING_OFF:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + signum)


def soak_in(home: Path, program: Path, settings: Settings, journal: Journal) -> None:
    reaper = Reaper()
    try:
        with driving(home, reaper, program) as driver:
            soak = Soak(settings, driver, reaper, journal)
            try:
                soak.run()
            finally:
                soak.close()
    finally:
        reaper.end(within=KILLED_WITHIN)


@contextlib.contextmanager
def a_home(given: Path | None) -> Iterator[Path]:
    """Gone at the end, unless it was named by whoever wants to look into it."""
    if given is not None:
        given.mkdir(parents=True)
        yield given.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="procclaw-soak-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def a_program(given: Path | None) -> Iterator[Path]:
    """A file that nobody replaces meanwhile: a daemon whose file changes becomes the new one."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="procclaw-soak-") as folder:
        subprocess.run([sys.executable, str(ROOT / "build_zipapp.py")], check=True)
        yield Path(shutil.copy(ROOT / "dist" / "procclaw.pyz", folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
