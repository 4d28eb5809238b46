"""One history of a simulated home, drawn from a seed: who manages it, how time passes, and where the world moves on
under a manager.

Each seed wants one fault of `faults.FAULTS`, the next seed the next one, so as many seeds as there are faults bring
about every one of them. The history goes its way by lot, and brings about what it wants until that has happened. Some
histories live for weeks: unhurried jobs, days between one mishap and the next, and a weekend on which clocks change.
"""

import os
import sqlite3
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple, TypeVar

from procclaw.engine.controller import Cycle
from procclaw.model.document import Document
from procclaw.model.errors import DiskFull, ProcclawError, StoreError
from procclaw.model.intents import IntentKind
from procclaw.model.outside import Launch
from procclaw.model.records import HOME, WORKFLOWS, Run
from procclaw.model.secret import revealed_all
from procclaw.planning.actions import Check, Start
from procclaw.system.store import Store
from tests import faults, mishaps
from tests.declared import TEMPLATES, Files, draw_job, draw_more, edited, unhurried
from tests.fates import calm_script, drawn_script
from tests.lives import DAY, HOUR, SECOND, Clock, Crash, Script, Trace, Violation
from tests.managers import Daemon, Manager
from tests.oracle import Accounts, Oracle
from tests.outside import Outside
from tests.people import OF_A_PASS, OF_A_WORKFLOW, Key, People
from tests.truth import ONE_JOB
from tests.world import Machine

T = TypeVar("T")

STEPS = 36
CALM = 150 * SECOND
_MILLISECOND = SECOND // 1000
_BUSY = 200
"""Cycles that ask for the next one at once, after which a manager counts as spinning."""
_WEEKS_EVERY = 8
"""One history in so many lives for weeks."""
_SPANS = (50 * _MILLISECOND, 2 * SECOND, 10 * SECOND, 60 * SECOND, 400 * SECOND)
_LONG_SPANS = (60 * SECOND, 6 * HOUR, DAY, 3 * DAY)
_ANYWHERE = "anywhere"


class Backup(NamedTuple):
    """A copy of the database, and what there was to know of it."""

    path: str
    accounts: Accounts
    document: Document
    keys: dict[str, Key]


class Scene:
    """One history."""

    def __init__(self, seed: int, directory: str, steps: int = STEPS) -> None:
        self.seed = seed
        self.wanted = faults.wanted_by(seed)
        self.rng = Random(seed)
        is_one_of_many = self.rng.randrange(_WEEKS_EVERY) == 0 and self.wanted not in faults.RESTLESS
        self.lives_weeks = self.wanted in faults.LASTS_WEEKS or is_one_of_many
        self.clock = Clock()
        if self.lives_weeks:
            self.clock.jump(faults.before_a_change(self))
        self.trace = Trace(self.clock)
        self.machine: Machine = Machine(self.clock, self.rng, self.trace)
        self.machine.reach = self.reach
        self.machine.script_for = self._script
        self.machine.on_news = self.wake
        self.outside: Outside = Outside(self.machine)
        self.files = Files(self.machine)
        self.database = os.path.join(directory, f"{seed}.db")
        self._looking: sqlite3.Connection | None = None
        self.oracle = Oracle(self.outside, self.look)
        self.people: People = People(self)
        self._steps = steps
        self._managers: list[Manager] = []
        self.daemon: Daemon | None = None
        self.crash: tuple[str, int] | None = None
        """At which point the manager will be killed ("": at any), the how manieth time it gets there."""
        self.inside: Callable[[], None] | None = None
        """What will happen as soon as a cycle is under way."""
        self.fates: list[Script] = []
        """Of the next attempts, the last one first."""
        self.full_at = self.locked_at = ""
        """The kind of commit that finds the disk full, or the database locked; "anywhere": each."""
        self.tries = 0
        """How often it was tried to bring about what is wanted."""
        self._backup: Backup | None = None
        self._is_in_cycle = self._is_calm = False
        self._had_no_disk = False
        self.cycles = 0

    # --- the whole history ---

    def play(self) -> None:
        Store(self.database).close()
        self._connect()
        try:
            self._jobs_at_first()
            self._seek(self.rng.randrange(4, self._steps - 4))
            self._be_calm()
        finally:
            for manager in (*self._managers,):
                manager.close()
            self.people.close()
            if self._looking is not None:
                self._looking.close()

    def _seek(self, begin: int) -> None:
        """All kinds of things happen, and from the step `begin` on, until it has happened once more, what is wanted."""
        before = 0
        for step in range(self._steps):
            if step == begin:
                before = self.trace.met[self.wanted]
            if step >= begin and self.trace.met[self.wanted] == before:
                self.tries += 1
                faults.FAULTS[self.wanted](self)
                if self.lives_weeks and not self.files.is_broken:
                    # What it needed may be restless.
                    self.declare(self.files.jobs)
            elif self.rng.random() < 0.5:
                self.rng.choice(mishaps.MISHAPS)(self)
            self._pass_time()

    def _pass_time(self) -> None:
        """Let some time go by under whoever manages the home just now."""
        span = self.rng.randrange(self.rng.choice(_LONG_SPANS if self.lives_weeks else _SPANS))
        match self.rng.randrange(10):
            case 0:
                self.machine.advance(span)
            case 1 | 2:
                self.machine.advance(span)
                if self.rng.random() < 0.5:
                    self.reconcile()
                else:
                    self.pass_of_a_request()
            case 3 if self.daemon is not None:
                self.end_daemon()
                self.machine.advance(span)
            case _:
                self.live(span)

    def live(self, span: int) -> None:
        """A daemon serves the home for a while."""
        until = self.clock.elapsed + span
        busy = 0
        for _ in range(5000 if self._is_calm else max(40, span // HOUR * 4)):
            if self.daemon is None:
                if self.clock.elapsed >= until:
                    return
                self._begin_daemon()
            assert self.daemon is not None
            before = self.clock.elapsed
            if self.daemon.cycle():
                if self.daemon is None:
                    self.machine.advance(self.rng.randrange(max(1, until - self.clock.elapsed)))
                    continue
                self.machine.advance(self.rng.randrange(_MILLISECOND, 20 * _MILLISECOND))
                busy = busy + 1 if self.clock.elapsed - before < 100 * _MILLISECOND else 0
                if busy > _BUSY:
                    raise Violation(10, "the manager spins: every cycle asks for the next one at once")
                continue
            busy = 0
            wake_in = self.daemon.wake_in()
            event_at = self.machine.next_event_at()
            next_at = min(until, self.clock.elapsed + max(wake_in, 1), until if event_at is None else event_at)
            self.machine.advance(max(next_at - self.clock.elapsed, 1))
            if self.clock.elapsed >= until:
                return
        self.machine.advance(max(until - self.clock.elapsed, 0))

    # --- who manages the home ---

    def _begin_daemon(self) -> None:
        # For weeks on end a look at everything each minute would cost hours.
        often = 6 * HOUR if self.lives_weeks else 60 * SECOND
        self.daemon = Daemon(self, None if self._is_calm else often)
        self._managers.append(self.daemon)

    def end_daemon(self) -> None:
        if self.daemon is not None:
            self.trace.meet("daemon ended")
            self._close(self.daemon)
            self.daemon = None

    def wake(self) -> None:
        """The daemon, if there is one, is told that there is something to look at."""
        if self.daemon is not None:
            self.daemon.is_woken = True

    def pass_of_a_request(self) -> None:
        """Somebody asks for something and, without a daemon, acts on it by himself."""
        jobs = sorted(self.oracle.in_force)
        if not jobs:
            return
        job_id = self.rng.choice(jobs)
        if self.rng.random() < 0.2:
            job_id = WORKFLOWS
            self.people.ask(self.rng.choice(OF_A_WORKFLOW), WORKFLOWS)
        else:
            self.people.ask(self.rng.choice(OF_A_PASS), job_id)
        manager = self._another("pass of a request")
        for _ in range(5):
            if self.cycle(manager, frozenset({job_id}), judges_slots=False) is None:
                break
            self.machine.advance(self.rng.randrange(20 * _MILLISECOND))
        self._close(manager)

    def reconcile(self) -> None:
        manager = self._another("pass from cron")
        done = self.cycle(manager, None)
        for _ in range(5):
            if done is None or done.wake_at is None or done.wake_at > self.clock.now():
                break
            self.machine.advance(self.rng.randrange(20 * _MILLISECOND))
            done = self.cycle(manager, None)
        if done is not None:
            self.maintain(manager, done)
        self._close(manager)

    def _another(self, what: str) -> Manager:
        """A manager for a moment, perhaps between two cycles of a daemon that goes on with what it remembers."""
        self.trace.meet(what)
        if self.daemon is not None:
            self.trace.met["two managers in turn"] += 1
        manager = Manager(self, "pass")
        self._managers.append(manager)
        return manager

    def maintain(self, manager: Manager, cycle: Cycle) -> None:
        if cycle.spec is None:
            return
        self._is_in_cycle = True
        try:
            manager.controller.maintain(cycle.spec, cycle.now)
        except Crash as crash:
            self._die(manager, crash)
        except ProcclawError as error:
            self.trace.say(f"upkeep failed: {error}")
        finally:
            self._is_in_cycle = False

    def _die(self, manager: Manager, crash: Crash) -> None:
        self.trace.meet(f"crash {crash}", manager.name)
        self._close(manager)
        if manager is self.daemon:
            self.daemon = None

    def _close(self, manager: Manager) -> None:
        """The process ends by itself, if it has not been killed."""
        if manager in self._managers:
            self._managers.remove(manager)
            manager.close()

    def cycle(self, manager: Manager, scope: frozenset[str] | None, *, judges_slots: bool = True) -> Cycle | None:
        """One cycle of the real controller; None if it failed, or if its process was killed in it."""
        self.cycles += 1
        if not self._is_calm and self.crash is None and self.rng.random() < 0.05:
            self.crash = ("", self.rng.randrange(1, 12))
        self._is_in_cycle, self._had_no_disk = True, self.machine.is_disk_full
        self.oracle.on_cycle()
        names = "all" if scope is None else " ".join(sorted(scope))
        try:
            done = manager.controller.cycle(scope, judges_slots=judges_slots)
        except Crash as crash:
            self._die(manager, crash)
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
        if self.crash is not None and point != "look":
            wanted, left = self.crash
            if wanted in ("", point):
                left -= 1
                self.crash = (wanted, left) if left > 0 else None
                if left <= 0:
                    raise Crash(point)
        if self.inside is not None:
            happen, self.inside = self.inside, None
            self._under_way(happen)
        elif self.rng.random() < 0.03:
            self._under_way(self._interfere)

    def _under_way(self, happen: Callable[[], None]) -> None:
        """It happens while the cycle waits."""
        self._is_in_cycle = False
        try:
            happen()
        finally:
            self._is_in_cycle = True

    def _interfere(self) -> None:
        match self.rng.randrange(30 if not self._is_calm else 20):
            case 29:
                mishaps.ask_under_way(self)
            case 28:
                mishaps.edit_under_way(self)
            case 27:
                mishaps.preview(self)
            case 26:
                self.machine.spawn_stranger()
            case 25:
                mishaps.drop_file(self)
            case 24:
                mishaps.take_lock_elsewhere(self)
            case 23:
                self.outside.clear_away()
            case few if few < 15:
                self.machine.advance(self.rng.randrange(1, 30 * _MILLISECOND))
            case _:
                self.machine.advance(self.rng.randrange(SECOND))

    def commit(self, kind: str, write: Callable[[], T], told: Callable[[], None] = lambda: None) -> T:
        self.reach(f"before {kind}")
        if self.full_at in (kind, _ANYWHERE):
            self._had_no_disk = True
            self.trace.meet(f"disk full: {kind}")
            raise DiskFull("the simulated disk is full")
        if self.locked_at == kind or (self.locked_at == _ANYWHERE and self.rng.random() < 0.3):
            self.trace.meet(f"database locked: {kind}")
            raise StoreError("the simulated database is locked")
        done = write()
        told()
        self.reach(f"after {kind}")
        return done

    # --- the database, from outside ---

    def back_up(self) -> None:
        """Somebody copies the database, and later puts the copy back."""
        if self._backup is None:
            path = self.database + ".backup"
            copy = sqlite3.connect(path)
            assert self._looking is not None
            self._looking.backup(copy)
            copy.close()
            self._backup = Backup(path, self.oracle.snapshot(), self.oracle.truth.document, dict(self.people.keys))
            self.trace.meet("backup")
            return
        path, accounts, in_force, keys = self._backup
        self._backup = None
        self._put_in_place(path)
        self.oracle.go_back(accounts)
        self.oracle.truth.document = in_force
        self.people.keys = keys
        self.trace.meet("database restored")

    def lose_database(self) -> None:
        """Somebody moves it away, to start without its history: what runs is found again by its record."""
        self._put_in_place(None)
        self.oracle.go_back(Accounts())
        self.oracle.truth.document = ONE_JOB
        self.trace.meet("database moved away")

    def _put_in_place(self, path: str | None) -> None:
        """Another file takes the place of the database; None: nothing does."""
        self.end_daemon()
        self.people.close()
        self.people.keys.clear()
        assert self._looking is not None
        self._looking.close()
        for name in (self.database, self.database + "-wal", self.database + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        if path is None:
            Store(self.database).close()
        else:
            os.rename(path, self.database)
        self._connect()
        self.machine.end_unfindable()

    def _connect(self) -> None:
        self._looking = sqlite3.connect(self.database, isolation_level=None)

    def look(self, sql: str) -> list[Any]:
        assert self._looking is not None
        return self._looking.execute(sql).fetchall()

    # --- what is declared, and how it behaves ---

    def _jobs_at_first(self) -> None:
        names = self.rng.sample(sorted(TEMPLATES), self.rng.randrange(2, 6))
        jobs = {name: draw_job(name, self.rng, self.clock.now()) for name in names}
        self.declare(jobs, more=draw_more(self.rng, jobs))

    def edit(self) -> None:
        """One edit, such as a person makes."""
        more = draw_more(self.rng, self.files.jobs) if self.rng.random() < 0.15 else None
        self.declare(edited(self.files.jobs, self.rng, self.clock.now()), more=more)

    def declare(self, jobs: Mapping[str, Document], more: dict[str, Any] | None = None) -> None:
        """Write jobs.yaml; in a history of weeks nothing in it happens by the second."""
        if self.lives_weeks:
            jobs = {name: unhurried(job) for name, job in jobs.items()}
        self.files.write(jobs, more=more)

    def _script(self, launch: Launch) -> Script:
        is_continuous = self.oracle.in_force[revealed_all(launch.env)["PROCCLAW_JOB_ID"]]["type"] == "continuous"
        if self._is_calm:
            return calm_script(self.rng, is_continuous=is_continuous)
        if self.fates:
            return self.fates.pop()
        return drawn_script(self.rng, is_continuous=is_continuous, is_unhurried=self.lives_weeks)

    # --- the end ---

    def _be_calm(self) -> None:
        """Faults cease; then what runs must become what is wanted."""
        self.trace.say("---- faults cease ----")
        self.crash = self.inside = None
        self.fates.clear()
        self.outside.elsewhere.clear()
        self.outside.unreadable_until = 0
        # That somebody else just holds a record is no fault, so it may well happen now.
        self.machine.refuses_next = self.rng.choice((None, None, "undecided"))
        if self.files.is_broken or self.rng.random() < 0.3:
            self.files.write(self.files.jobs)
        if self.rng.random() < 0.7:
            self.people.ask(IntentKind.RELEASE_HOME, HOME)
        self._is_calm = True
        if self.daemon is not None and self.rng.random() < 0.5:
            self.end_daemon()
        if self.daemon is not None:
            self.daemon.resync = None
            self.daemon.look_at_all()
        if self.rng.random() < 0.2:
            self.end_daemon()
            for _ in range(20):
                self.machine.advance(60 * SECOND)
                self.reconcile()
            self.live(60 * SECOND)
        else:
            self.live(CALM)
        assert self.daemon is not None
        while self.daemon.cycle():
            self.machine.advance(_MILLISECOND)
        if self.oracle.in_force != self.files.jobs:
            raise Violation(10, f"in force is {sorted(self.oracle.in_force)}, saved was {sorted(self.files.jobs)}")
        self.oracle.check_settled(self.clock.now())
        self.oracle.check_told(self.clock.now())
        _, _, left = self.daemon.controller.preview()
        writes = [each for each in left.writes if not (isinstance(each, Run) and self._waits_for_lock(each))]
        effects = [each for each in left.effects if not (isinstance(each, Start) and self._waits_for_lock(each))]
        # Who only looks knows nothing of the checks under way, and takes one for due a little before its time.
        effects = [each for each in effects if not isinstance(each, Check)]
        if writes or effects:
            raise Violation(10, f"nobody woke up for {writes} {effects}")

    def _waits_for_lock(self, what: Run | Start) -> bool:
        """Who only looks does not try locks, and takes one for free that something left behind still holds."""
        lock = self.oracle.truth.lock_of(what.job_id)
        return lock is not None and self.outside.holder(lock) is not None
