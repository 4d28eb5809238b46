"""A job that writes much, beside the same command with its output sent into a file."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure, Target
from tests.bench.machine import Bench, Place, a_place, cpu_seconds, in_turn

ROUNDS = 5
LINE = "a line of a log, about as long as lines of logs are, of which there are millions in this measurement"


def write(bench: Bench) -> Iterator[Figure]:
    size = bench.count(500)
    with a_place(bench) as place:
        text = f"date +%s.%N >began; yes {shlex.quote(LINE)} | head -c {size * 1_000_000}; date +%s.%N >ended"
        place.driver.declare({"writer": {"cmd": text, "cwd": str(place.home)}})
        place.ask("daemon", "start")
        place.settle()
        used: list[float] = []

        def ours() -> float:
            before = cpu_seconds(place.daemon)
            place.ask("run", "writer", "--until-final")
            used.append(cpu_seconds(place.daemon) - before)
            assert written(place, "writer.log") == size * 1_000_000
            return seconds_of(place.home)

        def floor() -> float:
            with (place.home / "logs" / "writer-plain.log").open("ab") as file:
                subprocess.run(["/bin/sh", "-c", text], stdout=file, cwd=place.home, check=True)
            written(place, "writer-plain.log")
            return seconds_of(place.home)

        seconds, least = in_turn(ROUNDS, ours, floor)
    yield Figure(f"{size} MB of output", seconds, "s", least, Target(1.1, times_floor=True))
    yield Figure(f"CPU of the daemon, a run of {size} MB of output", max(used), "s", None, Target(0.05))


def seconds_of(folder: Path) -> float:
    """Between the job's own looks at the clock."""
    return float((folder / "ended").read_text()) - float((folder / "began").read_text())


def written(place: Place, name: str) -> int:
    """How many bytes; then they are gone, and on no disk's way any more."""
    log = place.home / "logs" / name
    size = log.stat().st_size
    log.unlink()
    os.sync()
    return size
