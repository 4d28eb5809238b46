"""What a command costs from its start to its end, above an interpreter that does nothing."""

import sys
from collections.abc import Iterator

from tests.bench.figures import Figure, Target
from tests.bench.machine import Bench, Place, a_place, command, in_turn

ROUNDS = 30


def look(bench: Bench) -> Iterator[Figure]:
    """Looking at a home beside its daemon."""
    count = bench.count(500)
    with a_place(bench) as place:
        place.bring_up(count)
        for words, bound in ((("version",), 15), (("list",), 35), (("status", "job-7"), 35)):
            name = " ".join(words).replace("job-7", "JOB")
            yield figure(f"`{name}`, {count} jobs running", place, words, Target(bound, above_floor=True))


def growth(bench: Bench) -> Iterator[Figure]:
    """The list of many jobs, none of which has ever run."""
    for count in bench.growth(10, 100, 1000, 10_000):
        with a_place(bench) as place:
            place.driver.declare({f"job-{number}": {"cmd": "true"} for number in range(count)})
            place.ask("reconcile")
            yield figure(f"`list`, {count:,} jobs declared", place, ("list",))


def reconcile(bench: Bench) -> Iterator[Figure]:
    """A pass that finds everything as it should be."""
    for count in bench.growth(10, 100, 1000):
        target = Target(120, above_floor=True) if count == 1000 else None
        with a_place(bench) as place:
            place.declare_ringing(count)
            place.ask("reconcile")
            place.bell.hear(count)
            # Once the files are two seconds old and every job's pid is known, there is nothing left to write down.
            place.driver.wait(lambda: has_nothing_to_write(place))
            yield figure(f"`reconcile`, nothing to do, {count:,} jobs running", place, ("reconcile",), target)


def has_nothing_to_write(place: Place) -> bool:
    wal = place.home / "procclaw.db-wal"

    def written() -> tuple[int, int]:
        return (wal.stat().st_mtime_ns if wal.exists() else 0, (place.home / "procclaw.db").stat().st_mtime_ns)

    place.ask("reconcile")
    before = written()
    place.ask("reconcile")
    return written() == before


def figure(what: str, place: Place, words: tuple[str, ...], target: Target | None = None) -> Figure:
    argv = place.argv(*words)
    rounds = place.bench.count(ROUNDS)
    command(argv)
    took, least = in_turn(rounds, lambda: command(argv), lambda: command([sys.executable, "-c", "pass"]))
    return Figure(what, took, "ms", least, target)


def load(bench: Bench) -> Iterator[Figure]:
    """Reading the files with the YAML parser that the .pyz brings along, and finding what was read last time."""
    for count in bench.growth(10, 100, 1000, 10_000):
        with a_place(bench) as place:
            (place.home / "jobs.yaml").write_text(yaml_of(count))
            found = bench.inside("load", place.home)
        first, again = (Target(1), Target(0.03)) if count == 1000 else (None, None)
        yield Figure(f"first load of {count:,} jobs, pure YAML", found["first"], "s", None, first)
        yield Figure(f"load of {count:,} jobs that were loaded before", found["again"], "s", None, again)


def yaml_of(count: int) -> str:
    """As a person writes it."""
    job = (
        "  job-{number}:\n"
        "    name: Job number {number}\n"
        "    description: One of many, with a few words to read\n"
        "    cmd: /usr/bin/example --number {number} --verbose\n"
        "    type: scheduled\n"
        '    schedule: "{minute} 3 * * *"\n'
        "    timeout: 600\n"
        "    tags: [nightly, example]\n"
        "    retry:\n"
        "      preset: webhook\n"
        "    env:\n"
        "      REGION: eu\n"
    )
    return "jobs:\n" + "".join(job.format(number=number, minute=number % 60) for number in range(count))
