"""One look at everything: what comes of checks reaches the attempt it is about, once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from procclaw.engine.observing import EVERYTHING, Observer, Scope
from procclaw.model.outside import Measure, ProbeResult, Process, RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt
from procclaw.model.spec import Spec
from procclaw.model.state import Observed
from procclaw.system.store import Store
from tests.builders import NOW, a_job, a_result, a_run, a_spec, an_attempt, changed
from tests.lives import Clock, Trace
from tests.test_usage import limits
from tests.world import Machine

JOB = a_job(check="exec", resources=limits())
OTHER = changed(JOB, id="other")
RUN, OTHER_RUN = a_run("running"), a_run("running", job_id="other")
ATTEMPT, OTHER_ATTEMPT = an_attempt(RUN), an_attempt(OTHER_RUN)
MINE, OTHERS = Scope(frozenset(["job"]), None), Scope(frozenset(["other"]), None)


class Probes:
    def __init__(self) -> None:
        self.begun: frozenset[str] = frozenset()
        self.done: tuple[ProbeResult, ...] = ()

    def under_way(self) -> frozenset[str]:
        return self.begun

    def results(self) -> tuple[ProbeResult, ...]:
        done, self.done = self.done, ()
        return done


class Scales(Machine):
    """A machine whose processes all weigh the same."""

    def measure(self, attempts: Sequence[Attempt]) -> Mapping[str, Measure]:
        return {attempt.id: Measure(1, 100) for attempt in attempts}


class Looker:
    def __init__(self, store: Store, machine: type[Machine] = Scales) -> None:
        clock = Clock()
        self.store = store
        self.probes = Probes()
        world: Any = SimpleNamespace(processes=machine(clock, Random(0), Trace(clock)), probes=self.probes)
        self.observer = Observer(store, world)

    def look(self, scope: Scope = EVERYTHING) -> dict[str, Observed]:
        state, _ = self.observer.look(a_spec(JOB, OTHER), scope, (), None, None, NOW)
        lives = [active.live for job in state.jobs.values() for active in job.active]
        return {live.attempt.id: live for live in lives if live is not None}


@pytest.fixture
def looker(tmp_path: Path) -> Iterator[Looker]:
    store = Store(str(tmp_path / "db"), str(tmp_path / "reserve"))
    store.record([RUN, OTHER_RUN, ATTEMPT, OTHER_ATTEMPT])
    yield Looker(store)
    store.close()


def test_a_result_is_news_until_it_has_been_seen_by_a_look_that_acts_on_its_job(looker: Looker) -> None:
    result = a_result(ATTEMPT, is_ok=True)
    looker.probes.done = (result,)
    assert looker.observer.news() == {"job"}
    assert looker.observer.news() == {"job"}
    assert looker.look(OTHERS)[ATTEMPT.id].probe is None
    assert looker.observer.news() == {"job"}
    seen = looker.look(MINE)
    assert (seen[ATTEMPT.id].probe, seen[OTHER_ATTEMPT.id].probe) == (result, None)
    assert looker.observer.news() == frozenset()
    assert looker.look()[ATTEMPT.id].probe is None


def test_a_result_of_an_attempt_that_is_over_is_forgotten(looker: Looker) -> None:
    looker.store.record([ATTEMPT._replace(ended_at=NOW, reason=Reason.EXITED)])
    looker.probes.done = (a_result(ATTEMPT, is_ok=False),)
    assert looker.observer.news() == {"job"}
    assert ATTEMPT.id not in looker.look(MINE)
    assert looker.observer.news() == frozenset()


def test_what_ends_during_the_look_is_seen_to_have_been_under_way_and_with_its_result(looker: Looker) -> None:
    looker.probes.begun = frozenset([ATTEMPT.id])
    assert [live.is_probing for live in looker.look().values()] == [True, False]
    looker.probes.done = (a_result(ATTEMPT, is_ok=True),)
    seen = looker.look()[ATTEMPT.id]
    assert (seen.is_probing, seen.probe) == (True, a_result(ATTEMPT, is_ok=True))


def test_a_job_that_has_left_a_queue_is_read_with_those_of_the_queue_as_long_as_it_has_a_place_there(
    looker: Looker,
) -> None:
    def read(spec: Spec) -> frozenset[str]:
        reads = looker.observer.scope(spec, frozenset(["job"]), (), all_around=True).reads
        assert reads is not None
        return reads & {"job", "other"}

    queued = a_spec(changed(a_job(), queue="q"), OTHER)
    assert read(queued) == {"job"}
    looker.store.record([OTHER_ATTEMPT._replace(terms=OTHER_ATTEMPT.terms._replace(queue="q"))])
    assert read(queued) == {"job", "other"}
    looker.store.record([OTHER_ATTEMPT._replace(ended_at=NOW)])
    assert read(queued) == {"job"}


def test_only_jobs_that_are_acted_on_are_measured(looker: Looker) -> None:
    seen = looker.look(MINE)
    assert (seen[ATTEMPT.id].measured, seen[OTHER_ATTEMPT.id].measured) == (Measure(1, 100), None)


class Vanishing(Machine):
    """A machine on which a shim ends, and somebody else gets its number, between two looks."""

    looks = 0

    def sight(self, record: str) -> Sight:
        if not record.startswith("job."):
            return Sight(RecordPhase.MISSING)
        self.looks += 1
        return Sight(RecordPhase.LOCKED if self.looks == 1 else RecordPhase.EXITED, pid=314, exit_code=0)

    def start_ticks(self, pid: int) -> int | None:
        return 99 if self.looks else None


def test_the_start_time_of_a_stranger_is_never_taken_for_a_shims(tmp_path: Path) -> None:
    """A manager died before it noted the pid; the shim ends between the look at its record and that at its pid."""
    store = Store(str(tmp_path / "db"), str(tmp_path / "reserve"))
    store.record([RUN, ATTEMPT._replace(pid=None, start_ticks=None, started_at=None, job_pid=None)])
    looker = Looker(store, Vanishing)
    for told in ((None, None), (314, None)):
        seen = looker.look()[ATTEMPT.id].attempt
        assert (seen.pid, seen.start_ticks) == told
    store.close()


class Blanked(Machine):
    """A machine on which somebody has put blank records in the place of those of living attempts."""

    def sight(self, record: str) -> Sight:
        return Sight(RecordPhase.BLANK if record.startswith("job.") else RecordPhase.MISSING)

    def members(self, attempts: Sequence[Attempt]) -> dict[str, tuple[Process, ...]]:
        return {attempt.id: (Process(315, 7),) for attempt in attempts}


def test_a_blank_record_does_not_mean_never_begun_while_something_of_the_attempt_lives(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "db"), str(tmp_path / "reserve"))
    store.record([RUN, ATTEMPT._replace(boot_id="boot-1")])
    assert Looker(store, Blanked).look()[ATTEMPT.id].sight.phase is RecordPhase.LOCKED
    store.close()
