"""One home under chaos: its jobs, what is asked for meanwhile, and what must be so at the end of it.

A life is stepped from outside and never waits itself, so that many can be led side by side.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from procclaw.engine.home import Home
from procclaw.engine.selftest.bench import Bench, Broken, not_within
from procclaw.engine.selftest.doom import DAEMON, EFFECTS, NEVER, PASSES
from procclaw.engine.selftest.managers import NOTE, STAYS, TREE, leaves, noted, once_due, read, shown_runs
from procclaw.model.clock import SystemClock
from procclaw.model.intents import Intent, IntentKind
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState
from procclaw.system.watch import wake


class Promise(StrEnum):
    STARTS = "chaos: what was decided is started exactly once"
    CODES = "chaos: every exit code is known"
    KEEPS = "chaos: what runs goes on under its pid"
    STOPS = "chaos: a stop leaves nothing"
    STRANGERS = "chaos: nobody else's process is touched"
    CONVERGES = "chaos: the next manager carries on, from any effect"


PROMISES = tuple(promise.value for promise in Promise)

_STEP_SECONDS = 20.0
"""For what takes a fraction of one: other lives go on beside it, and the machine may be busy."""
_SHORT = {"shutdown": {"grace_period": 0.1}}
_CODES: dict[str, list[int]] = {"ends": [7], "again": [2, 0], "asked": [0], "stopped": [137]}
"""Of the jobs that are over before the end, the codes of their attempts."""
_OUTCOMES = {
    "ends": f"{RunState.FAILED} {Reason.RETRY_DISABLED}",
    "again": f"{RunState.SUCCEEDED} {Reason.FINISHED}",
    "asked": f"{RunState.SUCCEEDED} {Reason.FINISHED}",
    "stopped": f"{RunState.STOPPED} {Reason.STOP_REQUESTED}",
}
_RUNNING = {"keeps": 1, "restarted": 2}
"""And of those that are not, how often they were started."""
_TERMINATED = 143
_KILLED = -9


def _jobs(clock: SystemClock) -> dict[str, dict[str, Any]]:
    return {
        "keeps": {"type": "continuous", "cmd": STAYS},
        "restarted": {"type": "continuous", "cmd": STAYS},
        "stopped": {"type": "continuous", "cmd": TREE, **_SHORT},
        "ends": {**once_due(clock), "cmd": f"{NOTE}exit 7"},
        "again": {
            **once_due(clock),
            "cmd": f"{NOTE}exit $((4 - 2 * PROCCLAW_ATTEMPT))",
            "retry": {"delays": [0.05], "max_attempts": 3},
        },
        "asked": {"cmd": f"{NOTE}exit 0", "retry": {"enabled": False}},
    }


class Life:
    def __init__(self, bench: Bench, kind: str, die_after: int) -> None:
        self._bench = bench
        self._kind = kind
        self._die_after = die_after
        self._path = bench.home(f"{kind}{die_after}", _jobs(bench.clock))
        self._home = Home(self._path)
        self._manager = 0
        self.has_died = False
        self.faults: list[tuple[Promise, str]] = []
        self.starts = self.endings = self.stopped = 0

    def close(self) -> None:
        self._check_none_twice()
        self._bench.nursery.kill(self._manager)
        self._bench.nursery.wait(self._manager, _STEP_SECONDS)
        self._home.close()
        self._bench.leave(self._path)

    def fault(self, promise: Promise, told: str) -> None:
        diary = read(self._path, EFFECTS).splitlines()
        last = diary[self._die_after] if len(diary) > self._die_after else "nothing"
        killed = f"{self._kind} killed after effect {self._die_after} ({last})" if self.has_died else "nobody killed"
        self.faults.append((promise, f"{killed}: {told}"))

    def live(self) -> Iterator[None]:
        """Yields while there is something to wait for. Raises Broken when that never comes."""
        self._manager = self._bench.nursery.start("manage", self._path, self._kind, str(self._die_after))
        yield from self._until(lambda: {"keeps", "restarted", "stopped"} <= self._noted_jobs(), "services are up")
        kept = self._pids("keeps")
        wanted = [
            self._ask(IntentKind.STOP, "stopped"),
            self._ask(IntentKind.RESTART, "restarted"),
            self._ask(IntentKind.RUN, "asked"),
        ]
        yield from self._until(lambda: all(map(self._is_answered, wanted)), "requests are answered")
        yield from self._until(self._is_settled, "every run has come to its end")
        self._check_starts()
        self._check_ends()
        if self._pids("keeps") != kept or not self._is_alive(kept[0]):
            self.fault(Promise.KEEPS, f"a service with pid {kept} has pid {self._pids('keeps')}")
        for job_id in _RUNNING:
            self._ask(IntentKind.STOP, job_id)
        yield from self._until(lambda: not self._home.store.living.attempts(), "all jobs are stopped")
        yield from self._until(lambda: not self._home.processes.records(), "no record is left")
        self._check_stopped()

    def _until(self, condition: Callable[[], object], what: str) -> Iterator[None]:
        """Wait for it to hold, with another manager of the other kind when the first one dies."""
        clock = self._bench.clock
        deadline = clock.monotonic() + _STEP_SECONDS
        while not condition():
            if clock.monotonic() >= deadline:
                raise Broken(not_within(_STEP_SECONDS, what, shown_runs(self._home)))
            self._replace_the_dead()
            yield

    def _replace_the_dead(self) -> None:
        code = self._bench.nursery.code(self._manager)
        if code is None:
            return
        if self.has_died or code != _KILLED:
            raise Broken(f"a manager ended by itself: {code}")
        self.has_died = True
        other = PASSES if self._kind == DAEMON else DAEMON
        self._manager = self._bench.nursery.start("manage", self._path, other, str(NEVER))

    # --- asking and looking ---

    def _ask(self, kind: IntentKind, job_id: str) -> int:
        intent = Intent(0, job_id, kind, force=False, requested_at=self._bench.clock.now(), requested_by="selftest")
        number = self._home.store.add_intent(intent)
        wake(self._path)
        return number

    def _is_answered(self, number: int) -> bool:
        intent = self._home.store.intent(number)
        return intent is not None and intent.resolved_at is not None

    def _runs(self, job_id: str) -> tuple[Run, ...]:
        return self._home.store.runs(job_id, 100)

    def _attempts(self, job_id: str) -> list[Attempt]:
        return [attempt for run in reversed(self._runs(job_id)) for attempt in self._home.store.attempts(run.id)]

    def _is_settled(self) -> bool:
        is_over = all(runs and not any(run.is_active for run in runs) for runs in map(self._runs, _CODES))
        started = Counter(note[0] for note in noted(self._path))
        return is_over and all(started[job_id] >= times for job_id, times in _RUNNING.items())

    def _noted_jobs(self) -> set[str]:
        return {note[0] for note in noted(self._path)}

    def _pids(self, job_id: str) -> list[int]:
        return [note[3] for note in noted(self._path) if note[0] == job_id]

    def _is_alive(self, pid: int) -> bool:
        return self._home.processes.start_ticks(pid) is not None

    # --- what must be so ---

    def _check_none_twice(self) -> None:
        """Also where the rest never came."""
        notes = noted(self._path)
        self.starts = len(notes)
        for (job_id, run_id, number), times in Counter(note[:3] for note in notes).items():
            if times != 1:
                self.fault(Promise.STARTS, f"{job_id} {run_id}.{number} was started {times} times")

    def _check_starts(self) -> None:
        notes = noted(self._path)
        for job_id in (*_CODES, *_RUNNING):
            started = sorted(note[1:3] for note in notes if note[0] == job_id)
            decided = sorted((attempt.run_id, attempt.number) for attempt in self._attempts(job_id))
            wanted = _RUNNING.get(job_id) or len(_CODES[job_id])
            if started != decided or len(started) != wanted:
                self.fault(Promise.STARTS, f"{job_id}: {wanted} wanted, {decided} decided, {started} started")

    def _check_ends(self) -> None:
        for job_id, codes in _CODES.items():
            found = [attempt.exit_code for attempt in self._attempts(job_id)]
            self.endings += len(found)
            if found != codes:
                self.fault(Promise.CODES, f"{job_id}: exit codes {found}, not {codes}")
            outcomes = [f"{run.state} {run.reason}" for run in self._runs(job_id)]
            if outcomes != [_OUTCOMES[job_id]]:
                self.fault(Promise.CONVERGES, f"{job_id}: {', '.join(outcomes)}; not {_OUTCOMES[job_id]}")
        found = [attempt.exit_code for attempt in self._attempts("restarted")]
        self.endings += 1
        if found != [_TERMINATED, None]:
            self.fault(Promise.CODES, f"restarted: exit codes {found}, not {[_TERMINATED, None]}")
        if left := [pid for pid in (*leaves(self._path), *self._pids("stopped")) if self._is_alive(pid)]:
            self.fault(Promise.STOPS, f"a stop reported success and left {len(left)} processes")

    def _check_stopped(self) -> None:
        pids = [*leaves(self._path), *(note[3] for note in noted(self._path))]
        self.stopped = len(pids)
        if left := [pid for pid in pids if self._is_alive(pid)]:
            self.fault(Promise.STOPS, f"everything was stopped, and {len(left)} processes are left")
        self._home.store.check()
