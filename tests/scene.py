"""One history of a simulated home, drawn from a seed: what people do, what goes wrong, who manages it meanwhile."""

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple, TypeVar

from procclaw.engine.controller import Cycle
from procclaw.model.alerts import AlertKind
from procclaw.model.document import Document, workflow_from_document
from procclaw.model.errors import Conflict, DiskFull, ProcclawError, StoreError
from procclaw.model.intents import NO_DETAILS, Details, Intent, IntentKind
from procclaw.model.outside import Launch
from procclaw.model.records import HOME, WORKFLOWS, Run
from procclaw.model.secret import revealed_all
from procclaw.planning.actions import Check, Start
from procclaw.system.store import Store
from tests.declared import SPOOL, TEMPLATES, Files, draw_job, draw_more, draw_workflow, edited, favouring
from tests.lives import CANARY, SECOND, Child, Clock, Crash, Script, Trace, Violation
from tests.managers import Daemon, Manager, hurry
from tests.oracle import Accounts, Oracle
from tests.outside import Outside
from tests.truth import ONE_JOB
from tests.world import Machine

T = TypeVar("T")

STEPS = 36
CALM = 150 * SECOND
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
    "before purge",
    "after purge",
    "before make_work",
    "before hand_over",
    "after hand_over",
    "before check",
    "before delete_file",
    "after delete_file",
    "before notice",
)


class Key(NamedTuple):
    """An idempotency key, and the request that it stands for."""

    intent_id: int
    intent: Intent
    payload: bytes | None

    def is_same(self, intent: Intent, payload: bytes | None) -> bool:
        mine = (self.intent.job_id, self.intent.kind, self.intent.details, self.payload)
        return mine == (intent.job_id, intent.kind, intent.details, payload)

    def stands_at(self, now: datetime) -> bool:
        return self.intent.requested_at > now - timedelta(hours=24)


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
        self.rng = Random(seed)
        self.clock = Clock()
        self.trace = Trace(self.clock)
        self.machine = Machine(self.clock, self.rng, self.trace)
        self.machine.reach = self.reach
        self.machine.script_for = self._script
        self.machine.on_news = self._on_news
        self.outside = Outside(self.machine)
        self.files = Files(self.machine)
        self.database = os.path.join(directory, f"{seed}.db")
        self._looking: sqlite3.Connection | None = None
        self.oracle = Oracle(self.outside, self._look)
        self._steps = steps
        self._managers: list[Manager] = []
        self._daemon: Daemon | None = None
        self._crash: tuple[str, int] | None = None
        self._fates: list[Script] = []
        self._backup: Backup | None = None
        self._keys: dict[str, Key] = {}
        self._is_db_full = self._is_db_locked = False
        self._is_in_cycle = self._is_calm = False
        self._had_no_disk = False
        self.cycles = 0

    # --- the whole history ---

    def play(self) -> None:
        Store(self.database).close()
        self._connect()
        self._asker = Store(self.database)
        hurry(self._asker)
        try:
            theme = THEMES[self.seed % len(THEMES)]
            self._jobs_at_first(FAVOURS.get(theme, ""))
            theme_at = {self.rng.randrange(4, self._steps - 4), self.rng.randrange(4, self._steps - 4)}
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
        jobs = sorted(self.oracle.in_force)
        if not jobs or self.rng.random() < 0.5:
            self._reconcile()
            return
        self.trace.meet("pass of a request")
        job_id = self.rng.choice(jobs)
        if self.rng.random() < 0.2:
            job_id = WORKFLOWS
            self._ask(self.rng.choice(OF_A_WORKFLOW), WORKFLOWS)
        else:
            self._ask(self.rng.choice(OF_A_PASS), job_id)
        manager = Manager(self, "pass")
        self._managers.append(manager)
        for _ in range(5):
            if self.cycle(manager, frozenset({job_id}), judges_slots=False) is None:
                break
            self.machine.advance(self.rng.randrange(20 * _MILLISECOND))
        self._close(manager)

    def _reconcile(self) -> None:
        self.trace.meet("pass from cron")
        manager = Manager(self, "pass")
        self._managers.append(manager)
        done = self.cycle(manager, None)
        for _ in range(5):
            if done is None or done.wake_at is None or done.wake_at > self.clock.now():
                break
            self.machine.advance(self.rng.randrange(20 * _MILLISECOND))
            done = self.cycle(manager, None)
        if done is not None:
            self.maintain(manager, done)
        self._close(manager)

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
        if manager is self._daemon:
            self._daemon = None

    def _close(self, manager: Manager) -> None:
        """The process ends by itself, if it has not been killed."""
        if manager in self._managers:
            self._managers.remove(manager)
            manager.close()

    def cycle(self, manager: Manager, scope: frozenset[str] | None, *, judges_slots: bool = True) -> Cycle | None:
        """One cycle of the real controller; None if it failed, or if its process was killed in it."""
        self.cycles += 1
        if not self._is_calm and self._crash is None and self.rng.random() < 0.05:
            self._crash = ("", self.rng.randrange(1, 12))
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

    def _on_news(self) -> None:
        if self._daemon is not None:
            self._daemon.is_woken = True

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
            case 25:
                self.drop_file()
            case 24:
                self.take_lock_elsewhere()
            case 23:
                self.outside.clear_away()
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
                is_rare = FAVOURS.get(theme) is not None
                self._crash = (theme.removeprefix("crash "), 1 if is_rare else self.rng.randrange(1, 4))
            if FAVOURS.get(theme) == "files":
                self._fates += [FATES["is done at once"]] * 3
                self.drop_file()
                self._live(5 * SECOND)
            elif theme in FAVOURS:
                self._ask_something()
        elif theme.startswith("fate "):
            self._fates += [FATES[theme.removeprefix("fate ")]] * 2
        else:
            ACTS[theme](self)

    def _ask_something(self) -> None:
        jobs = sorted({*self.files.jobs, *self.oracle.in_force})
        if self.rng.random() < 0.08:
            self._ask(self.rng.choice((IntentKind.HOLD_HOME, IntentKind.RELEASE_HOME, IntentKind.LOOK)), HOME)
        elif self.rng.random() < 0.12:
            self._ask(self.rng.choice(OF_A_WORKFLOW), WORKFLOWS)
        elif jobs:
            self._ask(self.rng.choice(OF_A_JOB), self.rng.choice(jobs))

    def _ask(self, kind: IntentKind, job_id: str) -> None:
        force = kind in FORCEFUL and self.rng.random() < 0.3
        now = self.clock.now()
        details, payload = self._drawn_details(kind, job_id, now)
        key = f"key-{self.rng.randrange(2)}" if kind is IntentKind.TRIGGER and self.rng.random() < 0.7 else None
        intent = Intent(0, job_id, kind, force, now, "simulated", key=key, details=details)
        earlier = self._keys.get(key) if key is not None else None
        try:
            intent_id = self._asker.add_intent(intent, payload)
        except Conflict as conflict:
            if earlier is None or earlier.is_same(intent, payload):
                raise Violation(1, f"the key {key} was refused: {conflict}") from conflict
            self.trace.meet("key used for something else")
            return
        if earlier is not None and earlier.stands_at(now):
            if intent_id != earlier.intent_id:
                raise Violation(1, f"the key {key} stood for request {earlier.intent_id}, and now for {intent_id}")
            self.trace.meet("key used again")
            return
        if key is not None:
            self._keys[key] = Key(intent_id, intent, payload)
        intent = intent._replace(id=intent_id)
        self.oracle.on_request(intent, payload)
        if self._daemon is not None:
            self._daemon.is_woken = True
        self.trace.met[f"asked {kind}"] += 1
        told = f"{' --force' if force else ''}{f' at {details.at:%H:%M:%S}' if details.at else ''}"
        told += f"{f' until {details.until:%H:%M:%S}' if details.until else ''}"
        self.trace.say(f"request {intent.id}: {kind} {job_id}{told}")

    def ask_again(self) -> None:
        """Somebody who has had no answer asks once more, under the same key, and gets no second run."""
        jobs = sorted(self.oracle.in_force)
        if jobs:
            job_id = self.rng.choice(jobs)
            for _ in range(3):
                self._ask(IntentKind.TRIGGER, job_id)
                self._live(self.rng.randrange(SECOND))

    def _drawn_details(self, kind: IntentKind, job_id: str, now: datetime) -> tuple[Details, bytes | None]:
        rng, job = self.rng, self.oracle.in_force.get(job_id, {})
        params = (("WHO", rng.choice(("you", "them"))),) if job.get("params") and rng.random() < 0.5 else ()
        match kind:
            case IntentKind.RUN:
                is_planned = job.get("type") != "continuous" and rng.random() < 0.4
                ahead = timedelta(seconds=rng.choice((-5, 2, 30, 200, 4000)))
                return Details(params, at=now + ahead if is_planned else None), None
            case IntentKind.START | IntentKind.RESTART:
                return Details(params), None
            case IntentKind.TRIGGER:
                payload = f'{{"who": "{CANARY}"}}'.encode() if rng.random() < 0.6 else None
                return Details(params, has_payload=payload is not None), payload
            case IntentKind.REVOKE:
                until = rng.choice((None, now + timedelta(seconds=rng.choice((1, 20, 300)))))
                return Details(until=until), None
            case IntentKind.REINJECT | IntentKind.PURGE:
                letters = [each for (each,) in self._look(f"SELECT id FROM dead_letters WHERE job_id = '{job_id}'")]
                count = 1 if kind is IntentKind.REINJECT else rng.randrange(3)
                chosen = rng.sample(letters, min(count, len(letters))) or [rng.randrange(1, 50)]
                return Details(dead_letters=tuple(chosen)), None
            case IntentKind.WORKFLOW:
                declared = self.files.more.get("workflows", {})
                name = rng.choice(("", *declared))
                document = declared[name] if name else draw_workflow(rng, self.files.jobs)
                return Details(workflow=workflow_from_document(document), workflow_name=name), None
            case IntentKind.CANCEL_WORKFLOW | IntentKind.RETRY_WORKFLOW:
                runs = [each for (each,) in self._look("SELECT id FROM workflow_runs ORDER BY rowid DESC LIMIT 3")]
                return Details(workflow_run=rng.choice(runs or ["unknown"])), None
            case _:
                return NO_DETAILS, None

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
            self._close(self._daemon)
            self._daemon = None

    def fill_disk(self) -> None:
        which = self.rng.randrange(5)
        self.machine.is_disk_full = which in (0, 2)
        self._is_db_full = which in (1, 2)
        self.outside.is_lock_disk_full, self.outside.is_work_disk_full = which == 3, which == 4
        self._ask_something()
        self._live(self.rng.randrange(20 * SECOND))
        self.machine.is_disk_full = self._is_db_full = False
        self.outside.is_lock_disk_full = self.outside.is_work_disk_full = False
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

    def invite_strangers(self) -> None:
        """Strangers get the numbers of shims, at best while something else of the attempt still lives."""
        self.machine.spawn_stranger()
        self.machine.hungry_strangers += 3
        self._fates += [FATES["leaves a daemon behind"]] * 3
        self._ask_something()

    def delete_record(self) -> None:
        self.machine.delete_a_record({mark for (mark,) in self._look("SELECT mark FROM attempts")})

    def back_up(self) -> None:
        """Somebody copies the database, and later puts the copy back."""
        if self._backup is None:
            path = self.database + ".backup"
            copy = sqlite3.connect(path)
            assert self._looking is not None
            self._looking.backup(copy)
            copy.close()
            self._backup = Backup(path, self.oracle.snapshot(), self.oracle.truth.document, dict(self._keys))
            self.trace.meet("backup")
            return
        path, accounts, in_force, keys = self._backup
        self._backup = None
        self._put_in_place(path)
        self.oracle.go_back(accounts)
        self.oracle.truth.document = in_force
        self._keys = keys
        self.trace.meet("database restored")

    def lose_database(self) -> None:
        """Somebody moves it away, to start without its history: what runs is found again by its record."""
        self._put_in_place(None)
        self.oracle.go_back(Accounts())
        self.oracle.truth.document = ONE_JOB
        self.trace.meet("database moved away")

    def _put_in_place(self, path: str | None) -> None:
        """Another file takes the place of the database; None: nothing does."""
        self._end_daemon()
        self._keys.clear()
        self._asker.close()
        assert self._looking is not None
        self._looking.close()
        for name in (self.database, self.database + "-wal", self.database + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        if path is not None:
            os.rename(path, self.database)
        self._asker = Store(self.database)
        hurry(self._asker)
        self._connect()
        self.machine.end_unfindable()

    # --- files and locks ---

    def drop_file(self) -> None:
        """A file appears where a job may be waiting for it, or is replaced."""
        watched = [job_id for job_id, job in self.files.jobs.items() if any(map(_watches, job["trigger"]))]
        job_id = self.rng.choice(sorted(watched or TEMPLATES))
        span = self.rng.choice((0, 0, SECOND, 6 * SECOND))
        self.outside.drop(f"{SPOOL}/{job_id}/{self.rng.randrange(3)}.{self.rng.choice(('csv', 'csv', 'txt'))}", span)

    def hide_files(self) -> None:
        self.outside.unreadable_until = self.clock.elapsed + self.rng.randrange(20 * SECOND)
        self.drop_file()

    def take_lock_elsewhere(self) -> None:
        locks = self.oracle.truth.shared_locks()
        if locks:
            self.outside.take_elsewhere(self.rng.choice(locks), self.rng.randrange(60 * SECOND))

    # --- jobs.yaml ---

    def _jobs_at_first(self, favoured: str) -> None:
        """`favoured` is what the theme of the history needs."""
        names = self.rng.sample(sorted(TEMPLATES), self.rng.randrange(2, 6))
        jobs = {name: draw_job(name, self.rng, self.clock.now()) for name in names}
        if favoured:
            name = self.rng.choice(names)
            jobs[name] = favouring(jobs[name], name, favoured)
        self.files.write(jobs, more=draw_more(self.rng, jobs))

    def edit(self) -> None:
        self.trace.meet("jobs.yaml edited")
        self._edit()

    def _edit(self) -> None:
        more = draw_more(self.rng, self.files.jobs) if self.rng.random() < 0.15 else None
        self.files.write(edited(self.files.jobs, self.rng, self.clock.now()), more=more)

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
        is_continuous = self.oracle.in_force[revealed_all(launch.env)["PROCCLAW_JOB_ID"]]["type"] == "continuous"
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
            result=rng.choice((None, '{"n":1}', "rubbish")),
            health=rng.choice(("good", "good", "fickle", "bad")),
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
        self.outside.elsewhere.clear()
        self.outside.unreadable_until = 0
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
        if self.rng.random() < 0.2:
            self._end_daemon()
            for _ in range(20):
                self.machine.advance(60 * SECOND)
                self._reconcile()
            self._live(60 * SECOND)
        else:
            self._live(CALM)
        assert self._daemon is not None
        while self._daemon.cycle():
            self.machine.advance(_MILLISECOND)
        if self.oracle.in_force != self.files.jobs:
            raise Violation(10, f"in force is {sorted(self.oracle.in_force)}, saved was {sorted(self.files.jobs)}")
        self.oracle.check_settled(self.clock.now())
        self.oracle.check_told(self.clock.now())
        _, _, left = self._daemon.controller.preview()
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

    # --- the database, from outside ---

    def _connect(self) -> None:
        self._looking = sqlite3.connect(self.database, isolation_level=None)

    def _look(self, sql: str) -> list[Any]:
        assert self._looking is not None
        return self._looking.execute(sql).fetchall()


def _watches(trigger: Any) -> bool:
    return bool(trigger["enabled"] and trigger["type"] == "file")


OF_A_JOB = (
    IntentKind.START,
    IntentKind.RUN,
    IntentKind.RUN,
    IntentKind.STOP,
    IntentKind.RESTART,
    IntentKind.PAUSE,
    IntentKind.RESUME,
    IntentKind.RESUME,
    IntentKind.REVOKE,
    IntentKind.UNREVOKE,
    IntentKind.CANCEL_ETA,
    IntentKind.TRIGGER,
    IntentKind.TRIGGER,
    IntentKind.REINJECT,
    IntentKind.PURGE,
)
OF_A_WORKFLOW = (
    IntentKind.WORKFLOW,
    IntentKind.WORKFLOW,
    IntentKind.CANCEL_WORKFLOW,
    IntentKind.RETRY_WORKFLOW,
    IntentKind.RETRY_WORKFLOW,
)
OF_A_PASS = (
    IntentKind.START,
    IntentKind.RUN,
    IntentKind.STOP,
    IntentKind.RESTART,
    IntentKind.REVOKE,
    IntentKind.TRIGGER,
    IntentKind.REINJECT,
)
FORCEFUL = (IntentKind.STOP, IntentKind.RESTART, IntentKind.REVOKE, IntentKind.CANCEL_WORKFLOW)

FATES = {
    "dies before its pid is written": Script(fate="blank"),
    "directory is missing": Script(seconds=5.0, fate="no_cwd"),
    "shim is killed": Script(fate="shim_killed", shim_killed_after=2 * SECOND, on_term="ignores"),
    "ignores signals": Script(on_term="ignores", children=(Child(0, None, True, True, "ignores"),)),
    "is stuck in the kernel": Script(on_term="ignores", kill_delay=15 * SECOND),
    "leaves children behind": Script(seconds=1.0, children=(Child(0, None, False, False, "dies"),)),
    "drains": Script(seconds=1.0, drain=400 * _MILLISECOND),
    "is done at once": Script(seconds=0.0),
    "fails at once": Script(seconds=0.0, code=1),
    "leaves a daemon behind": Script(seconds=1.0, children=(Child(0, None, True, True, "ignores"),)),
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
    "asked again": Scene.ask_again,
    "no processes": Scene.lack_processes,
    "database locked": Scene.lock_database,
    "refused": Scene.refuse,
    "undecided": Scene.undecided,
    "backup": Scene.back_up,
    "database moved away": Scene.lose_database,
    "edit": Scene.edit,
    "remove": Scene.remove_job,
    "truncate": Scene.truncate,
    "break": Scene.break_file,
    "record deleted": Scene.delete_record,
    "record torn": lambda scene: scene.machine.tear_a_record(),
    "stranger": Scene.invite_strangers,
    "shim killed": lambda scene: scene.machine.kill_a_shim(),
    "killed": lambda scene: scene.machine.kill_a_main(),
    "file": Scene.drop_file,
    "file deleted": lambda scene: scene.outside.clear_away(),
    "directory hidden": Scene.hide_files,
    "lock elsewhere": Scene.take_lock_elsewhere,
    "workflow": lambda scene: scene._ask(IntentKind.WORKFLOW, WORKFLOWS),
}

FAVOURS = {
    "file": "files",
    "file deleted": "files",
    "directory hidden": "files",
    "lock elsewhere": "lock",
    "disk full": "lock",
    "crash before hand_over": "lock",
    "crash after hand_over": "lock",
    "crash before check": "health",
    "crash before delete_file": "files",
    "crash after delete_file": "files",
    "crash before make_work": "",
    "crash before notice": "alerts",
}
"""What has to be declared for a theme to mean much."""

THEMES = (*ACTS, *(f"fate {name}" for name in FATES), *(f"crash {point}" for point in _POINTS))

KINDS = (
    *(f"alert: {kind}" for kind in AlertKind),
    "alert arrived",
    "alert did not arrive",
    "alert sent, and its manager died",
    *(f"crash {point}" for point in _POINTS),
    *(f"asked {kind}" for kind in IntentKind),
    "backup",
    "check without an answer",
    "child in a session of its own",
    "clock back",
    "clock forward",
    "daemon ended",
    "database locked",
    "database moved away",
    "database restored",
    "died before its pid was written",
    "directory is missing",
    "directory not to be read",
    "disk full: database",
    "disk full: lock",
    "disk full: record",
    "disk full: work",
    "file deleted",
    "file dropped",
    "file not settled",
    "file replaced",
    "job removed",
    "jobs.yaml broken",
    "jobs.yaml edited",
    "jobs.yaml truncated",
    "key used again",
    "key used for something else",
    "killed by somebody else",
    "launch refused: ours",
    "launch refused: theirs",
    "launch undecided",
    "leap",
    "left something behind",
    "lock not free",
    "lock taken by another home",
    "pass from cron",
    "pass of a request",
    "pid reused by a stranger",
    "preview",
    "reboot",
    "record deleted: not in use",
    "record deleted: of a living attempt",
    "record reverted by power failure",
    "record torn",
    "record torn by power failure",
    "revocation ran out",
    "shim killed",
    "signal ignored",
    "step of a chain",
    "step of a chord",
    "step of a group",
    "still draining",
    "stuck in the kernel",
    "suspend",
    "trigger file deleted by us",
    "waited for: after_complete",
    "waited for: after_healthy",
    "waited for: after_start",
)
"""Everything that must have happened somewhere in the histories of a test run."""
