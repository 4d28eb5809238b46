"""The processes of ours in a simulated home: each with its own connection and memory, both of which end with it."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from procclaw.engine.configuration import Configuration
from procclaw.engine.controller import Controller, Cycle, LiveShim
from procclaw.engine.world import World
from procclaw.model.records import HOME, Event
from procclaw.model.rows import Row
from procclaw.system.store import Store
from tests import keeping
from tests.lives import CANARY, Trace, Violation
from tests.outside import NoMemory, SimulatedLocks, SimulatedNotifier, SimulatedProbes, SimulatedSpool, SimulatedWork
from tests.world import Logs

if TYPE_CHECKING:
    from tests.scene import Scene

_NEVER = timedelta(days=9000)


class WatchedStore(Store):
    """The real store, with faults at its commits and the oracle looking at each."""

    def __init__(self, path: str, scene: "Scene") -> None:
        super().__init__(path)
        self._scene = scene
        hurry(self)

    def record(self, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        wanted = tuple(rows)
        if wanted:

            def write() -> None:
                Store.record(self, wanted, committed_at)

            self._scene.commit("commit", write, lambda: self._scene.oracle.on_commit(wanted))

    def save_spec(
        self, content_hash: str, document: Mapping[str, Any], now: datetime, past: Mapping[str, Any] | None = None
    ) -> None:
        def write() -> None:
            Store.save_spec(self, content_hash, document, now, past)

        self._scene.commit("save_spec", write, lambda: self._scene.oracle.on_spec(document, now))

    def set_meta(self, key: str, value: str | None) -> None:
        if self.meta(key) != value:
            self._scene.commit("set_meta", lambda: Store.set_meta(self, key, value))

    def purge(self, keep_runs: int, before: datetime, now: datetime, limit: int) -> int:
        return self._scene.commit("purge", lambda: Store.purge(self, keep_runs, before, now, limit))

    def thin_attempts(self, run_id: str, keep: int) -> None:
        self._scene.commit("thin", lambda: Store.thin_attempts(self, run_id, keep))


def hurry(store: Store) -> None:
    """A simulated machine loses what it loses by script; waiting for the real disk would prove nothing."""
    store._db.execute("PRAGMA synchronous = OFF")


def watch_words(told: str) -> None:
    if CANARY in told:
        raise Violation(12, f"what a request carried is told: {told}")


class TracedLog:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def events(self, events: Iterable[Event]) -> None:
        for event in events:
            watch_words(repr(event))
            fields = " ".join(f"{name}={value}" for name, value in event.fields)
            self._trace.say(f"   {event.kind} job={event.job_id} {fields}")

    def line(self, level: str, sentence: str, **fields: object) -> None:
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        watch_words(told)
        self._trace.say(f"   {level}: {sentence} {told}")


class Manager:
    """A process that may hold the home's lock and run cycles."""

    def __init__(self, scene: "Scene", name: str) -> None:
        self.name = name
        self._scene = scene
        self.store = WatchedStore(scene.database, scene)
        self.locks = SimulatedLocks(scene.outside)
        self.probes = SimulatedProbes(scene.outside)
        self.controller = Controller(
            home="/simulated",
            store=self.store,
            world=World(
                processes=scene.machine,
                output=Logs(scene.machine),
                probes=self.probes,
                locks=self.locks,
                work=SimulatedWork(scene.outside),
                spool=SimulatedSpool(scene.outside),
                notifier=SimulatedNotifier(scene.outside, scene.oracle.on_notice),
                memory=NoMemory(),
                secrets=keeping.NONE,
            ),
            configuration=Configuration(scene.files, self.store),
            clock=scene.clock,
            log=TracedLog(scene.trace),
            mint=lambda: f"{scene.rng.getrandbits(128):032x}",
        )

    def close(self) -> None:
        """The process is gone, whatever it was doing."""
        self.controller.close()
        self.locks.let_go()
        self.store.close()


class Daemon(Manager):
    """The daemon's loop, as far as it decides when to look at what."""

    def __init__(self, scene: "Scene", resync: int | None) -> None:
        super().__init__(scene, "daemon")
        self.resync = resync
        """How long after a look at everything the next one comes of itself; None: never."""
        self._wakes: dict[str, datetime] = {}
        self._watched: set[LiveShim] = set()
        self._next_full_at = scene.clock.now()
        self._fingerprint = ""
        self.is_woken = False
        """Somebody has made a request and told us."""

    def wake_in(self) -> int:
        """How long it has nothing to do unless something happens."""
        return (min((self._next_full_at, *self._wakes.values())) - self._scene.clock.now()) // timedelta(microseconds=1)

    def cycle(self) -> bool:
        """Look at what has to be looked at; False when there was nothing."""
        scope = self._concerned()
        if scope is not None and not scope:
            return False
        now = self._scene.clock.now()
        if scope is None:
            self._next_full_at = now + (_NEVER if self.resync is None else timedelta(microseconds=self.resync))
        done = self._scene.cycle(self, scope)
        if done is None:
            # What is overdue stays overdue; without this the loop would try again at once.
            again_at = self._scene.clock.now() + timedelta(seconds=1)
            self._wakes = {job_id: max(at, again_at) for job_id, at in self._wakes.items()} | {HOME: again_at}
        else:
            self._take_note(done)
            if scope is None and self.resync is not None:
                self._scene.maintain(self, done)
        return True

    def look_at_all(self) -> None:
        self._next_full_at = self._scene.clock.now()

    def _take_note(self, cycle: Cycle) -> None:
        if cycle.scope is None:
            self._wakes, self._watched = dict(cycle.wakes), set(cycle.live)
        else:
            for job_id in cycle.scope:
                self._wakes.pop(job_id, None)
            self._wakes |= cycle.wakes
            self._watched = {shim for shim in self._watched if shim.job_id not in cycle.scope} | set(cycle.live)

    def _concerned(self) -> frozenset[str] | None:
        scene, now = self._scene, self._scene.clock.now()
        exited = {shim for shim in self._watched if not scene.machine.is_running(shim.pid, shim.start_ticks)}
        self._watched -= exited
        jobs = {shim.job_id for shim in exited} | {job_id for job_id, at in self._wakes.items() if at <= now}
        fingerprint = scene.files.fingerprint().text
        must_see_all = fingerprint != self._fingerprint or now >= self._next_full_at
        self._fingerprint = fingerprint
        if not (jobs or must_see_all or self.is_woken):
            return frozenset()
        self.is_woken = False
        jobs |= set(self.store.jobs_with_intents()) | self.controller.news()
        return None if HOME in jobs or must_see_all else frozenset(jobs)
