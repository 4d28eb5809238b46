"""Short runs through a queue, and what one exit costs to decide about."""

import json
from collections.abc import Iterator

from tests.bench.figures import Figure, Target
from tests.bench.machine import Bench, a_place, in_turn, timed

AT_ONCE = 16
ROUNDS = 3


def drain(bench: Bench) -> Iterator[Figure]:
    """`true`, so many at once, from when the requests are seen until the last run is recorded as over."""
    count = bench.count(2000)

    def ours() -> float:
        with a_place(bench) as place:
            job = {"cmd": ["true"], "queue": "q", "concurrency": {"max_instances": AT_ONCE, "queue_timeout": 3600}}
            # More than are kept by default, and none may go before it is counted.
            place.driver.declare({}, history={"keep_runs": 10 * count})
            declared = {"queues": {"q": {"limit": AT_ONCE}}, "jobs": {"nothing": job}}
            (place.home / "jobs.yaml").write_text(json.dumps(declared))
            place.ask("daemon", "start")
            place.settle()
            return float(count / bench.inside("drain", place.home, place.daemon, count))

    def floor() -> float:
        with a_place(bench) as place:
            return count / timed(lambda: place.floor("run", count, AT_ONCE).wait())

    rate, least = in_turn(ROUNDS, ours, floor)
    yield Figure(f"`true` through a queue, {AT_ONCE} at once", rate, "/s", least, Target(700, is_least=True))


def decide(bench: Bench) -> Iterator[Figure]:
    """One job among many ends and is started again."""
    for count in bench.growth(10, 100, 1000, 10_000):
        with a_place(bench) as place:
            jobs = {f"job-{number}": {"cmd": "true"} for number in range(count - 1)}
            place.driver.declare(jobs | {"running": place.ringing()})
            found = bench.inside("decide", place.home, bench.count(40), place.bell.path)
        target = Target(1) if count == 10_000 else None
        yield Figure(f"planning for one exit among {count:,} declared jobs", found["planning"], "ms", None, target)
        yield Figure(f"the whole cycle for one exit among {count:,} declared jobs", found["cycle"], "ms")
