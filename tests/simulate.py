"""Histories of a home, each drawn from a seed: the real controller on a simulated machine, with everything going wrong.

`python -m tests.simulate --seed N` replays one history and shows it; `--seeds 2000` looks for one that breaks an
invariant. The manager is killed at any point where it could be, the disk fills, the clock jumps, files are edited and
deleted; then the faults cease, and after a while what runs must be what is wanted.
"""

import argparse
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from random import Random
from time import monotonic
from typing import Any, TypeVar

from procclaw.engine.configuration import Configuration
from procclaw.engine.controller import Controller, Cycle, LiveShim
from procclaw.model.clock import to_microseconds
from procclaw.model.errors import DiskFull, ProcclawError, StoreError
from procclaw.model.spec import Document, process_hash
from procclaw.model.state import HOME, Event, Intent, IntentKind, Launch
from procclaw.system.store import Row, Store
from tests.oracle import Oracle
from tests.world import SECOND, Child, Clock, Crash, Files, Logs, Machine, Script, Trace, Violation, a_job

T = TypeVar("T")

STEPS = 36
CALM = 600 * SECOND
_MILLISECOND = SECOND // 1000
_BUSY = 200
"""Cycles that ask for the next one at once, after which a manager counts as spinning."""

_POINTS = (
    "before commit",
    "after commit",
    "before create_record",
    "after create_record",
    "before launch",
    "after launch",
    "before signal",
    "after signal",
    "before remove_record",
    "after remove_record",
    "before note_commit",
    "after note_commit",
    "before save_spec",
    "after save_spec",
)


class WatchedStore(Store):
    """The real store, with faults at its commits and the oracle looking at each."""

    def __init__(self, path: str, scene: "Scene") -> None:
        super().__init__(path)
        self._scene = scene
        # A simulated machine loses what it loses by script; waiting for the real disk would prove nothing.
        self._db.execute("PRAGMA synchronous = OFF")

    def record(self, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        wanted = tuple(rows)
        if wanted:
            with_rows = lambda: self._scene.oracle.on_commit(wanted)  # noqa: E731
            self._scene.commit("commit", lambda: Store.record(self, wanted, committed_at), with_rows)

    def save_spec(self, content_hash: str, document: Mapping[str, Any], now: datetime) -> None:
        def write() -> None:
            Store.save_spec(self, content_hash, document, now)

        self._scene.commit("save_spec", write, lambda: self._scene.oracle.on_spec(document, now))

    def set_meta(self, key: str, value: str | None) -> None:
        if self.meta(key) != value:
            self._scene.commit("set_meta", lambda: Store.set_meta(self, key, value))

    def purge(self, keep_runs: int, before: datetime, limit: int) -> int:
        return self._scene.commit("purge", lambda: Store.purge(self, keep_runs, before, limit))

    def thin_attempts(self, run_id: str, keep: int) -> None:
        self._scene.commit("thin", lambda: Store.thin_attempts(self, run_id, keep))


class TracedLog:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def events(self, events: Iterable[Event]) -> None:
        for event in events:
            fields = " ".join(f"{name}={value}" for name, value in event.fields)
            self._trace.say(f"   {event.kind} job={event.job_id} {fields}")

    def line(self, level: str, sentence: str, **fields: object) -> None:
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        self._trace.say(f"   {level}: {sentence} {told}")


class Manager:
    """A process of ours that may hold the home's lock: its connection and its memory end with it."""

    def __init__(self, scene: "Scene", name: str) -> None:
        self.name = name
        self._scene = scene
        self.store = WatchedStore(scene.database, scene)
        self.controller = Controller(
            home="/simulated",
            store=self.store,
            processes=scene.machine,
            output=Logs(scene.machine),
            configuration=Configuration(scene.files, self.store),
            clock=scene.clock,
            log=TracedLog(scene.trace),
            mint=lambda: f"{scene.rng.getrandbits(128):032x}",
        )

    def close(self) -> None:
        self.store.close()


class Daemon(Manager):
    """The daemon's loop, as far as it decides when to look at what."""

    def __init__(self, scene: "Scene") -> None:
        super().__init__(scene, "daemon")
        self._wakes: dict[str, datetime] = {}
        self._watched: set[LiveShim] = set()
        self._next_full_at = scene.clock.now()
        self._fingerprint = ""
        self.resyncs = True
        self.is_woken = False
        """Somebody has made a request and told us."""

    def wake_at(self) -> datetime:
        return min((self._next_full_at, *self._wakes.values()))

    def cycle(self) -> bool:
        """Look at what has to be looked at; False when there was nothing."""
        scope = self._concerned()
        if scope is not None and not scope:
            return False
        now = self._scene.clock.now()
        if scope is None:
            rest = timedelta(seconds=60) if self.resyncs else timedelta(days=9000)
            self._next_full_at = now + rest
        done = self._scene.cycle(self, scope)
        if done is None:
            self._wakes[HOME] = self._scene.clock.now() + timedelta(seconds=1)
        else:
            self._take_note(done)
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
        jobs |= set(self.store.jobs_with_intents())
        return None if HOME in jobs or must_see_all else frozenset(jobs)


class Scene:
    """One history."""

    def __init__(self, seed: int, directory: str, steps: int = STEPS) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.clock = Clock()
        self.trace = Trace(self.clock)
        self.machine = Machine(self.clock, self.rng, self.trace)
        self.machine.reach = self.reach
        self.machine.script_for = self._script
        self.files = Files(self.machine)
        self.database = os.path.join(directory, f"{seed}.db")
        self._looking: sqlite3.Connection | None = None
        self.oracle = Oracle(self.machine, self._look)
        self._steps = steps
        self._managers: list[Manager] = []
        self._daemon: Daemon | None = None
        self._crash: tuple[str, int] | None = None
        self._fates: list[Script] = []
        self._backup: tuple[str, Any, Any] | None = None
        self._is_db_full = self._is_db_locked = False
        self._is_in_cycle = self._is_calm = False
        self._had_no_disk = False
        self.cycles = 0

    # --- the whole history ---

    def play(self) -> None:
        Store(self.database).close()
        self._connect()
        self._asker = Store(self.database)
        self._asker._db.execute("PRAGMA synchronous = OFF")
        try:
            self._jobs_at_first()
            theme_at = {self.rng.randrange(4, self._steps - 4), self.rng.randrange(4, self._steps - 4)}
            theme = THEMES[self.seed % len(THEMES)]
            for step in range(self._steps):
                if step in theme_at:
                    self._act_out(theme)
                elif self.rng.random() < 0.5:
                    self._act_out(self.rng.choice(THEMES))
                self._pass_time()
            self._be_calm()
        finally:
            for manager in (*self._managers,):
                manager.close()
            self._asker.close()
            if self._looking is not None:
                self._looking.close()

    def _pass_time(self) -> None:
        """Let some time go by under whoever manages the home just now."""
        span = self._some_span()
        match self.rng.randrange(10):
            case 0:
                self.machine.advance(span)
            case 1 | 2:
                self.machine.advance(span)
                self._single_pass()
            case 3 if self._daemon is not None:
                self._end_daemon()
                self.machine.advance(span)
            case _:
                self._live(span)

    def _some_span(self) -> int:
        longest = self.rng.choice((50 * _MILLISECOND, 2 * SECOND, 10 * SECOND, 60 * SECOND, 400 * SECOND))
        return self.rng.randrange(longest)

    def _live(self, span: int) -> None:
        """A daemon serves the home for a while."""
        until = self.clock.elapsed + span
        busy = 0
        for _ in range(40 if not self._is_calm else 5000):
            if self._daemon is None:
                if self.clock.elapsed >= until:
                    return
                self._daemon = Daemon(self)
                self._managers.append(self._daemon)
                self._daemon.resyncs = not self._is_calm
            before = self.clock.elapsed
            if self._daemon.cycle():
                if self._daemon is None:
                    self.machine.advance(self.rng.randrange(max(1, until - self.clock.elapsed)))
                    continue
                self.machine.advance(self.rng.randrange(_MILLISECOND, 20 * _MILLISECOND))
                busy = busy + 1 if self.clock.elapsed - before < 100 * _MILLISECOND else 0
                if busy > _BUSY:
                    raise Violation(10, "the manager spins: every cycle asks for the next one at once")
                continue
            busy = 0
            wake_in = (self._daemon.wake_at() - self.clock.now()) // timedelta(microseconds=1)
            event_at = self.machine.next_event_at()
            next_at = min(until, self.clock.elapsed + max(wake_in, 1), until if event_at is None else event_at)
            self.machine.advance(max(next_at - self.clock.elapsed, 1))
            if self.clock.elapsed >= until:
                return
        self.machine.advance(max(until - self.clock.elapsed, 0))

    def _single_pass(self) -> None:
        """Somebody without a daemon: a reconcile from cron, or a request that acts by itself."""
        manager = Manager(self, "pass")
        self._managers.append(manager)
        jobs = sorted(self.oracle.in_force)
        scope = None if not jobs or self.rng.random() < 0.5 else frozenset({self.rng.choice(jobs)})
        if scope is not None:
            self._ask(self.rng.choice((IntentKind.START, IntentKind.STOP, IntentKind.RESTART)), min(scope))
        done: Cycle | None = None
        for _ in range(5):
            done = self.cycle(manager, scope, judges_slots=scope is None)
            if done is None:
                break
            self.machine.advance(self.rng.randrange(20 * _MILLISECOND))
            if scope is None and (done.wake_at is None or done.wake_at > self.clock.now()):
                break
        if manager in self._managers:
            if scope is None and done is not None and done.spec is not None:
                self._maintain(manager, done)
            self._managers.remove(manager)
            manager.close()

    def _maintain(self, manager: Manager, cycle: Cycle) -> None:
        assert cycle.spec is not None
        try:
            manager.controller.maintain(cycle.spec, self.clock.now())
        except ProcclawError as error:
            self.trace.say(f"upkeep failed: {error}")

    def cycle(self, manager: Manager, scope: frozenset[str] | None, *, judges_slots: bool = True) -> Cycle | None:
        """One cycle of the real controller; None if it failed, or if its process was killed in it."""
        self.cycles += 1
        if not self._is_calm and self._crash is None and self.rng.random() < 0.05:
            self._crash = ("", self.rng.randrange(1, 12))
        self._is_in_cycle, self._had_no_disk = True, self.machine.is_disk_full
        names = "all" if scope is None else " ".join(sorted(scope))
        try:
            done = manager.controller.cycle(scope, judges_slots=judges_slots)
        except Crash as crash:
            self.trace.meet(f"crash {crash}", manager.name)
            self._managers.remove(manager)
            manager.close()
            if manager is self._daemon:
                self._daemon = None
            return None
        except DiskFull as error:
            raise Violation(10, f"a cycle was given up because the disk is full: {error}") from error
        except StoreError as error:
            if "simulated" not in str(error):
                raise Violation(10, f"a cycle failed: {error}") from error
            self.trace.say(f"cycle failed: {error}")
            return None
        finally:
            self._is_in_cycle = False
        if done.has_acted or done.scope is None:
            wake_in = "never" if done.wake_at is None else f"{(done.wake_at - self.clock.now()).total_seconds():.3f} s"
            waits = "; ".join(f"{wait.job_id} {wait.reason} {wait.detail}" for wait in done.plan.waits)
            self.trace.say(f"cycle ({manager.name}: {names}) wake in {wake_in}; {waits}")
        if done.scope is None and judges_slots and done.spec is not None and not self._had_no_disk:
            self.oracle.on_judged(done.now)
        return done

    # --- where the manager can be killed, and where the world moves on under it ---

    def reach(self, point: str) -> None:
        if not self._is_in_cycle:
            return
        if self._crash is not None and point != "look":
            wanted, left = self._crash
            if wanted in ("", point):
                left -= 1
                self._crash = (wanted, left) if left > 0 else None
                if left <= 0:
                    raise Crash(point)
        if self.rng.random() < 0.03:
            self._is_in_cycle = False
            try:
                self._interfere()
            finally:
                self._is_in_cycle = True

    def _interfere(self) -> None:
        """Something happens while a cycle is under way."""
        match self.rng.randrange(30 if not self._is_calm else 20):
            case 29:
                self._ask_something()
            case 28:
                self._edit()
            case 27:
                self._preview()
            case 26:
                self.machine.spawn_stranger()
            case few if few < 15:
                self.machine.advance(self.rng.randrange(1, 30 * _MILLISECOND))
            case _:
                self.machine.advance(self.rng.randrange(SECOND))

    def commit(self, kind: str, write: Callable[[], T], told: Callable[[], None] = lambda: None) -> T:
        self.reach(f"before {kind}")
        if self._is_db_full:
            self._had_no_disk = True
            self.trace.meet("disk full: database")
            raise DiskFull("the simulated disk is full")
        if self._is_db_locked and self.rng.random() < 0.3:
            self.trace.meet("database locked")
            raise StoreError("the simulated database is locked")
        done = write()
        told()
        self.reach(f"after {kind}")
        return done

    # --- what goes wrong ---

    def _act_out(self, theme: str) -> None:
        if theme.startswith("crash "):
            if self._crash is None or self._crash[0] == "":
                self._crash = (theme.removeprefix("crash "), self.rng.randrange(1, 4))
        elif theme.startswith("fate "):
            self._fates += [FATES[theme.removeprefix("fate ")]] * 2
        else:
            ACTS[theme](self)

    def _ask_something(self) -> None:
        jobs = sorted({*self.files.jobs, *self.oracle.in_force})
        if self.rng.random() < 0.08:
            self._ask(self.rng.choice((IntentKind.HOLD_HOME, IntentKind.RELEASE_HOME, IntentKind.LOOK)), HOME)
        elif jobs:
            kinds = set(IntentKind) - {IntentKind.HOLD_HOME, IntentKind.RELEASE_HOME, IntentKind.LOOK}
            self._ask(self.rng.choice(sorted(kinds)), self.rng.choice(jobs))

    def _ask(self, kind: IntentKind, job_id: str) -> None:
        force = kind in (IntentKind.STOP, IntentKind.RESTART) and self.rng.random() < 0.3
        intent = Intent(0, job_id, kind, force, self.clock.now(), "simulated")
        intent = intent._replace(id=self._asker.add_intent(intent))
        self.oracle.on_request(intent)
        if self._daemon is not None:
            self._daemon.is_woken = True
        self.trace.met[f"asked {kind}"] += 1
        self.trace.say(f"request {intent.id}: {kind} {job_id}{' --force' if force else ''}")

    def _preview(self) -> None:
        """Somebody asks what would be done, from a process of their own and without the lock."""
        before = (self._look("SELECT * FROM runs"), self._look("SELECT * FROM attempts"), self.machine.records())
        manager = Manager(self, "preview")
        manager.controller.preview()
        manager.close()
        self.trace.meet("preview")
        if before != (self._look("SELECT * FROM runs"), self._look("SELECT * FROM attempts"), self.machine.records()):
            raise Violation(10, "a preview changed something")

    def _jump(self, span: int) -> None:
        self.trace.meet("clock " + ("forward" if span > 0 else "back"), f"{span / SECOND:.0f} s")
        self.clock.jump(span)
        self.files.has_jumped = True
        if self._daemon is not None:
            # The loop compares wall clock and timer after each sleep.
            self._daemon.look_at_all()

    def jump_forward(self) -> None:
        self._jump(self.rng.choice((1, 30, 3700, 7200, 90_000, 260_000)) * SECOND)

    def jump_back(self) -> None:
        self._jump(-self.rng.choice((1, 30, 3700, 7200, 90_000)) * SECOND)

    def leap(self) -> None:
        self.trace.meet("leap")
        self._jump(500 * 86_400 * SECOND)

    def suspend(self) -> None:
        self.trace.meet("suspend")
        self._jump(self.rng.choice((20, 600, 30_000)) * SECOND)

    def reboot(self) -> None:
        self._end_daemon()
        self.machine.reboot()

    def _end_daemon(self) -> None:
        if self._daemon is not None:
            self.trace.meet("daemon ended")
            self._managers.remove(self._daemon)
            self._daemon.close()
            self._daemon = None

    def fill_disk(self) -> None:
        which = self.rng.randrange(3)
        self.machine.is_disk_full = which != 1
        self._is_db_full = which != 0
        self._ask_something()
        self._live(self.rng.randrange(20 * SECOND))
        self.machine.is_disk_full = self._is_db_full = False
        self.trace.say("the disk has room again")

    def lack_processes(self) -> None:
        self.machine.lacks_processes = True
        self._ask_something()
        self._live(self.rng.randrange(12 * SECOND))
        self.machine.lacks_processes = False

    def lock_database(self) -> None:
        self._is_db_locked = True
        self._ask_something()
        self._live(self.rng.randrange(12 * SECOND))
        self._is_db_locked = False

    def refuse(self) -> None:
        self.machine.refuses_next = "theirs"

    def undecided(self) -> None:
        self.machine.refuses_next = "undecided"

    def back_up(self) -> None:
        """Somebody copies the database, and later puts the copy back."""
        if self._backup is None:
            path = self.database + ".backup"
            copy = sqlite3.connect(path)
            assert self._looking is not None
            self._looking.backup(copy)
            copy.close()
            self._backup = (path, self.oracle.snapshot(), self.oracle.in_force)
            self.trace.meet("backup")
            return
        path, accounts, in_force = self._backup
        self._backup = None
        self._end_daemon()
        self._asker.close()
        assert self._looking is not None
        self._looking.close()
        for name in (self.database, self.database + "-wal", self.database + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        os.rename(path, self.database)
        self._connect()
        self._asker = Store(self.database)
        self._asker._db.execute("PRAGMA synchronous = OFF")
        self.machine.end_unfindable()
        self.oracle.go_back(accounts)
        self.oracle.in_force = in_force
        self.trace.meet("database restored")

    # --- jobs.yaml ---

    def _jobs_at_first(self) -> None:
        names = self.rng.sample(sorted(TEMPLATES), self.rng.randrange(2, 5))
        self.files.write({name: self._draw_job(name) for name in names})

    def _draw_job(self, name: str) -> Document:
        rng = self.rng
        given: dict[str, Any] = dict(TEMPLATES[name])
        given["retry"] = {
            "enabled": rng.random() < 0.85,
            "delays": rng.choice(([0], [1, 5], [2], [0, 30])),
            "max_attempts": rng.choice((0, 1, 3, 5)),
            "reset_after": rng.choice((5, 60)),
        }
        given["shutdown"] = {
            "grace_period": rng.choice((0, 1, 5, 12)),
            "signal": rng.choice((15, 15, 2, 9)),
            "leftovers": rng.choice(("stop", "stop", "keep")),
        }
        if given["type"] != "continuous":
            excess, timeout = rng.random() < 0.7, rng.choice((5, 60, 300))
            given["concurrency"] = {
                "max_instances": rng.choice((1, 1, 2)),
                "queue_excess": excess,
                "queue_timeout": timeout,
            }
            given["on_overlap"] = rng.choice(("skip", "queue", "kill_restart"))
            given["timeout"] = rng.choice((None, None, 3, 40))
            given["jitter"] = rng.choice((0, 0, 7))
            given["catch_up"] = {
                "policy": rng.choice(("none", "latest", "all")),
                "within": rng.choice((60, 3600, 100_000)),
                "limit": rng.choice((1, 3, 100)),
            }
        else:
            given["restart"] = rng.choice(("always", "always", "on_failure", "never"))
        if given["type"] == "scheduled":
            given["schedule"] = rng.choice(SCHEDULES)
            given["timezone"] = rng.choice(("UTC", "Asia/Kolkata"))
        if given["type"] == "oneshot":
            given["run_at"] = to_microseconds(self.clock.now()) // SECOND * SECOND + rng.randrange(-100, 900) * SECOND
        return a_job(**given)

    def edit(self) -> None:
        self.trace.meet("jobs.yaml edited")
        self._edit()

    def _edit(self) -> None:
        """One edit, as a person makes one."""
        jobs: dict[str, Any] = dict(self.files.jobs)
        name = self.rng.choice(sorted(TEMPLATES))
        if name not in jobs:
            jobs[name] = self._draw_job(name)
        else:
            match self.rng.randrange(8):
                case 0:
                    jobs[name] = self._draw_job(name)
                case 1:
                    jobs[name] = jobs[name] | {"enabled": not jobs[name]["enabled"]}
                case 2:
                    jobs[name] = jobs[name] | {"cmd": f"simulated {self.rng.randrange(5)}"}
                case 3:
                    jobs[name] = jobs[name] | {"description": f"edited at {self.clock.elapsed}", "source": "jobs.yaml:9"}
                case 4:
                    del jobs[name]
                case 5 if jobs[name]["type"] == "scheduled":
                    jobs[name] = jobs[name] | {"schedule": self.rng.choice(SCHEDULES)}
                case 6:
                    other = self._draw_job(self.rng.choice(sorted(TEMPLATES)))
                    jobs[name] = other
                case _:
                    retry = {"enabled": True, "delays": [1], "max_attempts": None, "reset_after": 5}
                    jobs[name] = jobs[name] | {"retry": retry}
            if name in jobs:
                jobs[name] = {**jobs[name], "process_hash": process_hash(jobs[name])}
        self.files.write(jobs)

    def remove_job(self) -> None:
        jobs = dict(self.files.jobs)
        if jobs:
            self.trace.meet("job removed")
            del jobs[self.rng.choice(sorted(jobs))]
            self.files.write(jobs)

    def truncate(self) -> None:
        """An editor that truncates the file before it writes it, slowly."""
        jobs = dict(self.files.jobs)
        whole = dict(jobs)
        for name in sorted(jobs)[self.rng.randrange(len(jobs) + 1) :]:
            del jobs[name]
        self.trace.meet("jobs.yaml truncated")
        self.files.write(jobs, is_broken=self.rng.random() < 0.3)
        self._live(self.rng.randrange(4 * SECOND))
        self.files.write(whole)

    def break_file(self) -> None:
        self.trace.meet("jobs.yaml broken")
        self.files.write(self.files.jobs, is_broken=True)

    # --- scripts ---

    def _script(self, launch: Launch) -> Script:
        is_continuous = self.oracle.in_force[dict(launch.env)["PROCCLAW_JOB_ID"]]["type"] == "continuous"
        rng = self.rng
        if self._is_calm:
            return Script(None if is_continuous else rng.choice((0.0, 0.5, 20.0)), pid_delay=rng.randrange(5000))
        if self._fates:
            return self._fates.pop()
        lasting = (None, None, None, 0.0, 0.3, 8.0, 70.0) if is_continuous else (0.0, 0.01, 0.2, 3.0, 25.0, 200.0, None)
        children = tuple(
            Child(
                after=rng.randrange(SECOND),
                seconds=rng.choice((None, 1.0, 40.0)),
                leaves_session=leaves,
                carries_mark=leaves or rng.random() < 0.6,
                on_term=rng.choice(("dies", "ignores")),
            )
            for leaves in rng.choices((False, True), k=rng.choice((0, 0, 0, 1, 2)))
        )
        return Script(
            seconds=rng.choice(lasting),
            code=rng.choice((0, 0, 0, 1, 3, 127, 143)),
            on_term=rng.choice(("dies", "dies", "ignores", "handles")),
            term_delay=rng.choice((0, 20 * _MILLISECOND, 3 * SECOND)),
            term_code=rng.choice((0, 5, 143)),
            kill_delay=rng.choice((0, 0, 0, 0, 15 * SECOND)),
            children=children,
            fate=rng.choice(("runs",) * 14 + ("blank", "no_cwd", "shim_killed")),
            shim_killed_after=rng.randrange(20 * SECOND),
            pid_delay=rng.choice((0, 0, rng.randrange(4 * _MILLISECOND), 60 * _MILLISECOND)),
            drain=rng.choice((0, 0, 5 * _MILLISECOND, 400 * _MILLISECOND)),
        )

    # --- the end ---

    def _be_calm(self) -> None:
        """Faults cease; then what runs must become what is wanted."""
        self.trace.say("---- faults cease ----")
        self._crash = None
        self._fates.clear()
        # That somebody else just holds a record is no fault, so it may well happen now.
        self.machine.refuses_next = self.rng.choice((None, None, "undecided"))
        if self.files.is_broken or self.rng.random() < 0.3:
            self.files.write(self.files.jobs)
        if self.rng.random() < 0.7:
            self._ask(IntentKind.RELEASE_HOME, HOME)
        self._is_calm = True
        if self._daemon is not None and self.rng.random() < 0.5:
            self._end_daemon()
        if self._daemon is not None:
            self._daemon.resyncs = False
            self._daemon.look_at_all()
        self._live(CALM)
        assert self._daemon is not None
        while self._daemon.cycle():
            self.machine.advance(_MILLISECOND)
        if self.oracle.in_force != self.files.jobs:
            raise Violation(10, f"in force is {sorted(self.oracle.in_force)}, saved was {sorted(self.files.jobs)}")
        self.oracle.check_settled(self.clock.now())
        _, _, left = self._daemon.controller.preview()
        if not left.is_idle:
            raise Violation(10, f"nobody woke up for {left.writes} {left.effects}")

    # --- the database, from outside ---

    def _connect(self) -> None:
        self._looking = sqlite3.connect(self.database, isolation_level=None)

    def _look(self, sql: str) -> list[Any]:
        assert self._looking is not None
        return self._looking.execute(sql).fetchall()


TEMPLATES: dict[str, Document] = {
    "web": {"type": "continuous"},
    "db": {"type": "continuous"},
    "tick": {"type": "scheduled"},
    "report": {"type": "scheduled"},
    "once": {"type": "oneshot"},
    "hand": {"type": "manual"},
}
SCHEDULES = (
    ["@every 90s"],
    ["*/2 * * * *"],
    ["*/15 * * * *"],
    ["7 * * * *"],
    ["30 9 * * *"],
    ["*/5 * * * *", "@every 120s"],
)

FATES = {
    "dies before its pid is written": Script(fate="blank"),
    "directory is missing": Script(seconds=5.0, fate="no_cwd"),
    "shim is killed": Script(fate="shim_killed", shim_killed_after=2 * SECOND, on_term="ignores"),
    "ignores signals": Script(on_term="ignores", children=(Child(0, None, True, True, "ignores"),)),
    "is stuck in the kernel": Script(on_term="ignores", kill_delay=15 * SECOND),
    "leaves children behind": Script(seconds=1.0, children=(Child(0, None, False, False, "dies"),)),
    "drains": Script(seconds=1.0, drain=400 * _MILLISECOND),
    "fails at once": Script(seconds=0.0, code=1),
}

ACTS: dict[str, Callable[[Scene], None]] = {
    "request": Scene._ask_something,
    "preview": Scene._preview,
    "clock forward": Scene.jump_forward,
    "clock back": Scene.jump_back,
    "leap": Scene.leap,
    "suspend": Scene.suspend,
    "reboot": Scene.reboot,
    "disk full": Scene.fill_disk,
    "no processes": Scene.lack_processes,
    "database locked": Scene.lock_database,
    "refused": Scene.refuse,
    "undecided": Scene.undecided,
    "backup": Scene.back_up,
    "edit": Scene.edit,
    "remove": Scene.remove_job,
    "truncate": Scene.truncate,
    "break": Scene.break_file,
    "record deleted": lambda scene: scene.machine.delete_a_record(),
    "record torn": lambda scene: scene.machine.tear_a_record(),
    "stranger": lambda scene: scene.machine.spawn_stranger(),
    "shim killed": lambda scene: scene.machine.kill_a_shim(),
    "killed": lambda scene: scene.machine.kill_a_main(),
}

THEMES = (*ACTS, *(f"fate {name}" for name in FATES), *(f"crash {point}" for point in _POINTS))


class Failure(Exception):
    """A history broke an invariant; the message is readable, and names the command that replays it."""

    def __init__(self, scene: Scene, error: BaseException) -> None:
        shown = "\n".join(scene.trace.lines[-60:])
        super().__init__(f"{shown}\n\n{error}\nreplay: python -m tests.simulate --seed {scene.seed}")
        self.number = error.number if isinstance(error, Violation) else 0


def play(seed: int, directory: str, steps: int = STEPS) -> Scene:
    """Play the history of one seed. Raises Failure."""
    scene = Scene(seed, directory, steps)
    try:
        scene.play()
    except Exception as error:  # noqa: BLE001 (told together with the history it ends)
        raise Failure(scene, error) from error
    finally:
        for name in os.listdir(directory):
            if name.startswith(f"{seed}.db"):
                os.unlink(os.path.join(directory, name))
    return scene


def workplace() -> str:
    """A directory for databases, in memory where there is such a place."""
    return tempfile.mkdtemp(prefix="procclaw-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this history and show it")
    parser.add_argument("--seeds", type=int, default=300, help="how many histories to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many things go wrong in each")
    parser.add_argument("--lines", type=int, default=60, help="how much of a history to show")
    chosen = parser.parse_args()
    directory = workplace()
    try:
        if chosen.seed is not None:
            return _replay(chosen.seed, chosen.steps, chosen.lines, directory)
        return _play_many(range(chosen.first, chosen.first + chosen.seeds), chosen.steps, directory)
    finally:
        shutil.rmtree(directory)


def _replay(seed: int, steps: int, lines: int, directory: str) -> int:
    scene = Scene(seed, directory, steps)
    error: Exception | None = None
    try:
        scene.play()
    except Exception as caught:  # noqa: BLE001 (shown below, with the history it ends)
        error = caught
    sys.stdout.write("\n".join(scene.trace.lines[-lines:]) + "\n")
    if error is None:
        sys.stdout.write(f"seed {seed}: all invariants held in {scene.cycles} cycles\n")
    elif isinstance(error, Violation):
        sys.stdout.write(f"seed {seed}: {error}\n")
    else:
        sys.stdout.write("".join(traceback.format_exception(error)))
    return 0 if error is None else 1


def _play_many(seeds: range, steps: int, directory: str) -> int:
    began = monotonic()
    met: Counter[str] = Counter()
    failed: dict[int, str] = {}
    cycles = 0
    for seed in seeds:
        try:
            scene = play(seed, directory, steps)
        except Failure as failure:
            failed[seed] = str(failure.__cause__).splitlines()[0][:200]
            sys.stdout.write(f"seed {seed}: {type(failure.__cause__).__name__}: {failed[seed]}\n")
        else:
            met += scene.trace.met
            cycles += scene.cycles
    for kind, times in sorted(met.items()):
        sys.stdout.write(f"{times:8} {kind}\n")
    sys.stdout.write(f"{len(seeds)} histories, {cycles} cycles, {len(failed)} failed, {monotonic() - began:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
