"""What many running jobs cost: to bring them up, to keep them, to notice that one has died, to stop them."""

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator

from tests.bench.api import hammering
from tests.bench.figures import Figure, Target
from tests.bench.machine import Bench, Place, a_place, command, fine_cpu_seconds, in_turn, parent_of, pss_kb, timed

KILLS = 100
ROUNDS = 3


def bring_up(bench: Bench) -> Iterator[Figure]:
    """Continuous jobs, from `daemon start` until every one has said that it runs."""
    for count in bench.growth(10, 100, 1000):

        def ours(count: int = count) -> float:
            with a_place(bench) as place:
                place.declare_ringing(count)
                began = time.perf_counter()
                starting = place.driver.spawn("daemon", "start")
                seconds = place.bell.hear(count)[-1].at - began
                starting.communicate()
                return seconds

        def floor(count: int = count) -> float:
            with a_place(bench) as place:
                began = time.perf_counter()
                place.floor("spawn", count, place.bell.path)
                return place.bell.hear(count)[-1].at - began

        seconds, least = in_turn(ROUNDS, ours, floor)
        # That a daemon starts at all takes a third of a second: only where jobs outweigh it does the ratio say much.
        target = Target(3, times_floor=True) if count == 1000 else None
        yield Figure(f"bring-up of {count:,} continuous jobs", seconds, "s", least, target)


def crash(bench: Bench) -> Iterator[Figure]:
    """From the end of a job's process until the next one says that it runs."""
    least = floor_of_crashes(bench)
    for count in bench.growth(10, 100, 500, 1000):
        is_judged = count == 500
        with a_place(bench) as place:
            pids = {ring.job_id: ring.pid for ring in place.bring_up(count)}
            own = crashes(place, pids)
            place.driver.kill_daemon()
            place.ask("daemon", "start")
            place.settle()
            adopted = crashes(place, pids)
        for whose, found in (("own children", own), ("adopted", adopted)):
            what = f"crash to next pid, {count:,} jobs running, {whose}"
            median, worst = (Target(4), Target(25)) if is_judged else (None, None)
            yield Figure(f"{what}: median", statistics.median(found), "ms", statistics.median(least), median)
            yield Figure(f"{what}: worst of {len(found)}", max(found), "ms", max(least), worst)


def crashes(place: Place, pids: dict[str, int], kills: int = 0) -> list[float]:
    """Milliseconds, each; `pids` is kept up to date."""
    drawn = random.Random(1)
    found = []
    for _ in range(kills or place.bench.count(KILLS)):
        # Also while the daemon still makes its notes on the one before.
        time.sleep(drawn.uniform(0.01, 0.15))
        job_id = drawn.choice(list(pids))
        os.kill(pids[job_id], signal.SIGKILL)
        began = time.perf_counter()
        [ring] = place.bell.hear(1)
        assert ring.job_id == job_id, f"{ring.job_id} was restarted, and {job_id} killed"
        pids[job_id] = ring.pid
        found.append((ring.at - began) * 1000)
    return found


def floor_of_crashes(bench: Bench) -> list[float]:
    """A program that does nothing but wait for one child and start it again."""
    with a_place(bench) as place:
        place.floor("restart", place.bell.path)
        [ring] = place.bell.hear(1)
        return crashes(place, {ring.job_id: ring.pid})


def idle(bench: Bench) -> Iterator[Figure]:
    """CPU that a daemon uses while nothing happens."""
    seconds = 3.0 if bench.is_quick else 30.0
    for count in bench.growth(10, 100, 1000):
        with a_place(bench) as place:
            place.bring_up(count)
            # Into one of the looks at everything, which come once a minute, or just past it.
            before = fine_cpu_seconds(place.daemon)
            time.sleep(seconds)
            used = fine_cpu_seconds(place.daemon) - before
            target = Target(0.02) if count == 1000 else None
            yield Figure(f"CPU in {seconds:g} s, {count:,} jobs running, idle", used, "s", None, target)
            if count == 1000:
                time.sleep(max(62.0 - seconds, 0.0))
                whole = fine_cpu_seconds(place.daemon) - before
                yield Figure(f"CPU in 62 s, {count:,} jobs running, with the look at everything", whole, "s")


def memory(bench: Bench) -> Iterator[Figure]:
    for count in bench.growth(10, 100, 500, 1000):
        with a_place(bench) as place:
            rings = place.bring_up(count)
            shims = statistics.mean(pss_kb(parent_of(ring.pid)) for ring in rings)
            daemon = pss_kb(place.daemon) / 1000
            ours, per_job = (Target(40), Target(120)) if count == 500 else (None, None)
            yield Figure(f"memory of the daemon, {count:,} jobs running (PSS)", daemon, "MB", None, ours)
            yield Figure(f"memory of ours for each of {count:,} jobs (PSS)", shims, "KB", None, per_job)


def stop(bench: Bench) -> Iterator[Figure]:
    """Jobs that obey, by one command, until it has returned and none is left."""
    count = bench.count(100)
    with a_place(bench) as place:
        pids = [ring.pid for ring in place.bring_up(count)]
        names = [f"job-{number}" for number in range(count)]
        before = [command([place.argv()[0], "-c", "pass"]) / 1000 for _ in range(5)]
        seconds = timed(lambda: place.ask("stop", *names))
        left = [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]
        assert not left, f"{len(left)} processes are still there"
        yield Figure(f"stop of {count} jobs that obey", seconds, "s", statistics.median(before), Target(0.2))


def save(bench: Bench) -> Iterator[Figure]:
    """jobs.yaml saved with one more job, until that runs."""
    for count in bench.growth(10, 100, 500, 1000):
        with a_place(bench) as place:
            place.bring_up(count)
            found = []
            for number in range(5):
                # What the daemon does five seconds after a save is over.
                place.settle()
                began = time.perf_counter()
                place.declare_ringing(count + number + 1)
                [ring] = place.bell.hear(1)
                assert ring.job_id == f"job-{count + number}", f"{ring.job_id} was restarted"
                found.append(ring.at - began)
            place.settle()
            assert not place.bell.heard(0), "a job was restarted"
            target = Target(0.3) if count == 500 else None
            yield Figure(f"jobs.yaml saved with one more among {count:,}", statistics.median(found), "s", None, target)


def serve(bench: Bench) -> Iterator[Figure]:
    """The list over HTTP, and what serving it without a pause costs the loop."""
    count = bench.count(500)
    seconds = 1.0 if bench.is_quick else 5.0
    with a_place(bench) as place:
        pids = {ring.job_id: ring.pid for ring in place.bring_up(count)}
        with hammering(place, "/api/v1/jobs") as hammer:
            time.sleep(seconds)
            rate = hammer.rate()
        yield Figure(f"GET /api/v1/jobs, {count} jobs, one client", rate, "/s", None, Target(1000, is_least=True))
        alone = statistics.median(crashes(place, pids))
        with hammering(place, "/api/v1/jobs"):
            beside = statistics.median(crashes(place, pids))
        what = "crash to next pid while the list is asked for all the time"
        yield Figure(what, beside, "ms", alone, Target(5, above_floor=True))
        names = [f"/api/v1/jobs/job-{number}" for number in range(count)]
        with hammering(place, *names) as hammer:
            time.sleep(seconds)
            rate = hammer.rate()
        yield Figure(f"GET /api/v1/jobs/JOB, {count} jobs, one client", rate, "/s")
