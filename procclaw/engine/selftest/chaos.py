"""Managers killed at every effect, one life for each: jobs start once, keep running, and no ending is forgotten.

In each life a manager dies one effect later than in the life before, until one outlives its work; another manager, of
the other kind, carries on. Lives run side by side, as most of each is waiting: each is a generator that is looked at
in turn.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from procclaw.engine.selftest.bench import Bench, Broken, Finding, Verdict
from procclaw.engine.selftest.doom import DAEMON, PASSES
from procclaw.engine.selftest.life import PROMISES, Life, Promise
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Process
from procclaw.system.processes import Processes

__all__ = ["PROMISES", "Chaos", "OnProgress"]

OnProgress = Callable[[str], None]

_SIDE_BY_SIDE = 6
_LONGEST_SECONDS = 80.0
"""No life is begun after that, so that all is over within two minutes."""
EVERY_EFFECT = ((DAEMON, 1), (PASSES, 5))
"""By kind, how many effects later each life's manager dies. Both run the same cycle: of one a sample is enough."""
_NAMES = {DAEMON: "the daemon", PASSES: "one-shot passes"}
_LOOK_SECONDS = 0.005
_FAULTS_TOLD = 3


class _Series(NamedTuple):
    """What the lives with managers of one kind have come to."""

    deaths: int
    is_complete: bool
    """There was no effect left to die after."""


class Chaos:
    def __init__(self, bench: Bench, strides: tuple[tuple[str, int], ...] = EVERY_EFFECT) -> None:
        self._bench = bench
        self._strides = strides
        self._faults: dict[Promise, list[str]] = {promise: [] for promise in Promise}
        self._lived = self._starts = self._endings = self._stopped = 0

    def findings(self, on_progress: OnProgress) -> Iterator[Finding]:
        bench, began = self._bench, self._bench.clock.monotonic()
        deadline = began + _LONGEST_SECONDS
        stranger = self._stranger()
        series = {kind: self._lives(kind, stride, deadline, on_progress) for kind, stride in self._strides}
        if not self._is_alive(stranger):
            self._faults[Promise.STRANGERS].append("a process that is no job's was ended")
        seconds = bench.clock.monotonic() - began
        details = self._details(series)
        for promise in Promise:
            faults = self._faults[promise]
            more = f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
            detail = "; ".join(faults[:_FAULTS_TOLD]) + more if faults else details[promise]
            yield Finding(promise.value, Verdict.BROKEN if faults else Verdict.HOLDS, detail, seconds)

    def _details(self, series: dict[str, _Series]) -> dict[Promise, str]:
        deaths = sum(each.deaths for each in series.values())
        kinds = ", ".join(f"{each.deaths} of {_NAMES[kind]}" for kind, each in series.items())
        unfinished = " and ".join(_NAMES[kind] for kind, each in series.items() if not each.is_complete)
        cut = f"; the time was up before every effect of {unfinished} had its turn" if unfinished else ""
        return {
            Promise.STARTS: f"{self._starts} starts in {self._lived} homes, none twice and none left out",
            Promise.CODES: f"{self._endings} endings, each with the code that the process gave",
            Promise.KEEPS: f"{self._lived} services, {deaths} of which lost a manager",
            Promise.STOPS: f"{self._stopped} processes stopped, none left",
            Promise.STRANGERS: "a process of nobody's lived through it all",
            Promise.CONVERGES: f"{deaths} deaths, {kinds}{cut}",
        }

    def _lives(self, kind: str, stride: int, deadline: float, on_progress: OnProgress) -> _Series:
        clock = self._bench.clock
        living: dict[Life, Iterator[None]] = {}
        deaths, die_after, has_outlived = 0, 0, False
        while True:
            while len(living) < _SIDE_BY_SIDE and not has_outlived and clock.monotonic() < deadline:
                life = Life(self._bench, kind, die_after)
                living[life] = life.live()
                die_after += stride
            if not living:
                return _Series(deaths, has_outlived)
            on_progress(f"killing managers ({kind}, {deaths} times so far)")
            for life, course in tuple(living.items()):
                if not self._goes_on(life, course):
                    del living[life]
                    deaths += life.has_died
                    has_outlived |= not life.has_died
                    self._take_down(life)
            clock.sleep(_LOOK_SECONDS)

    def _goes_on(self, life: Life, course: Iterator[None]) -> bool:
        try:
            next(course)
        except StopIteration:
            return False
        except (Broken, ProcclawError) as fault:
            life.fault(Promise.CONVERGES, str(fault))
            return False
        return True

    def _take_down(self, life: Life) -> None:
        life.close()
        self._lived += 1
        self._starts += life.starts
        self._endings += life.endings
        self._stopped += life.stopped
        for promise, told in life.faults:
            self._faults[promise].append(told)

    def _stranger(self) -> Process:
        processes = Processes(self._bench.place)
        pid = self._bench.nursery.start("wait")
        ticks = processes.start_ticks(pid)
        assert ticks is not None
        return Process(pid, ticks)

    def _is_alive(self, process: Process) -> bool:
        return Processes(self._bench.place).start_ticks(process.pid) == process.start_ticks
