"""When to run a cycle: at once when something may have happened, and otherwise when the plan says.

An exit, a saved file, a request or a signal only says *look now*, at the jobs concerned where that is known; what to do
is decided by the cycle, from everything. So nothing is lost with a wake-up that gets lost, it only comes later: all
jobs are looked at every `daemon.resync` seconds, and the wall clock is compared every 30 s, because timers stand still
while the machine sleeps.
"""

import os
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol

from procclaw.engine.controller import Controller, Cycle, LiveShim
from procclaw.engine.home import Home
from procclaw.model.clock import after, seconds_between
from procclaw.model.errors import ProcclawError
from procclaw.model.intents import Intent, IntentKind
from procclaw.model.records import HOME
from procclaw.planning.recording import Because, Cause
from procclaw.system.heap import share_heap
from procclaw.system.homelock import HomeLock
from procclaw.system.notifysocket import from_environment
from procclaw.system.processes import Processes, SignalBytes, run_command
from procclaw.system.watch import Watcher, Woken

ROLE = "daemon"
FOREGROUND_ROLE = "up"
"""Of a loop that ends together with the jobs it runs."""
SERVING_ROLES = (ROLE, FOREGROUND_ROLE)
_HANGUP, _INTERRUPT, _TERMINATE = 1, 2, 15
"""The same numbers on every system."""

LONGEST_SLEEP_SECONDS = 30.0
CLOCK_STEP_SECONDS = 2.0
"""Wall clock and timer differ by more than this after a sleep: suspended, or the clock was set."""
LOOK_AGAIN_SECONDS = 1.0
COMPLAIN_AGAIN_SECONDS = 60.0
BUSIEST_SECONDS = 0.002
"""Between two cycles of which the first asked for the second at once, so that nothing can make the loop spin."""
TAKEOVER_SECONDS = 10.0
"""How long to wait for the lock: a single pass may hold it."""
UPGRADE_CHECK_SECONDS = 20.0


class AlreadyRunning(ProcclawError):
    """Another daemon, or a loop in the foreground, serves this home."""


class _File(NamedTuple):
    """What tells one version of a file from another."""

    inode: int
    size: int
    modified_ns: int


class _Look(NamedTuple):
    """A cycle to be made."""

    scope: frozenset[str] | None
    """The jobs it is about; None: all. No job at all: there is none to be made."""
    because: tuple[Because, ...]

    @property
    def is_full(self) -> bool:
        return self.scope is None


class Front(Protocol):
    """What serves others beside the loop, from threads of its own; the loop never waits for it."""

    def take_note(self, cycle: Cycle, seconds: float) -> None:
        """A cycle is over, and how long it took. Quick; raises nothing that is not a bug."""

    def close(self) -> None:
        """Serve nobody any more. Harmless when repeated."""


OpenFront = Callable[[Callable[[], float]], Front]
"""Given what tells how many seconds the loop is late."""


class Stay(Protocol):
    """What the loop stays for, where that is not to serve until it is told to end."""

    def is_interrupted(self) -> bool:
        """A signal to end has come. True: end at once; False: go on until it is over."""

    def is_over(self) -> bool:
        """Whether there is nothing left to stay for; asked after every cycle."""


class Daemon:
    """The loop. Construct and `run` it in the process that is the daemon."""

    def __init__(
        self,
        home: Home,
        program: tuple[str, ...],
        *,
        keeps_holds: bool = False,
        open_front: OpenFront | None = None,
        stay: Stay | None = None,
    ) -> None:
        """`program` is the command line that starts this very program: interpreter and file.

        `keeps_holds`: nobody has just asked for a daemon, so what `daemon stop --jobs` stopped stays stopped.
        """
        self._home = home
        self._program = program
        self._file = _look_at(program[-1])
        self._keeps_holds = keeps_holds
        self._stay = stay
        self._role = ROLE if stay is None else FOREGROUND_ROLE
        self._ending_signals = {_TERMINATE, _INTERRUPT} | (set() if stay is None else {_HANGUP})
        """Whoever stays for its jobs in a terminal leaves with that terminal; to a daemon it says: look again."""
        self._clock = home.clock
        self._log = home.log
        self._lock: HomeLock = home.lock()
        self._wakes: dict[str, datetime] = {}
        self._watched: dict[str, set[LiveShim]] = {}
        self._job_of: dict[int, str] = {}
        self._resync_seconds = 60.0
        self._declared: int | None = None
        """How many jobs; None while no configuration has been good."""
        self._complaint = ""
        self._complain_again = 0.0
        self._open_front = open_front
        self._front: Front | None = None
        self._notify = from_environment()
        self._looks_at = home.clock.monotonic()
        """When the loop is to be at work again, or has been since."""

    def late_seconds(self) -> float:
        """For how long the loop has been at one cycle, or has overslept; 0 or less while it sleeps as it should.

        Asked from other threads.
        """
        return self._clock.monotonic() - self._looks_at

    def run(self) -> int:
        """Serve the home until told to end; returns the exit code. Raises AlreadyRunning, StoreError."""
        self._take_over()
        share_heap()
        processes = self._home.processes
        processes.raise_descriptor_limit()
        processes.read_ahead()
        _read_ahead()
        controller = self._home.controller()
        self._home.store.check()
        self._home.store.keep_reserve()
        if not self._keeps_holds:
            self._release_home()
        if self._open_front is not None:
            self._front = self._open_front(self.late_seconds)
        signals = SignalBytes((_TERMINATE, _INTERRUPT, _HANGUP))
        watcher = Watcher(self._home.paths.home, signals.fd)
        self._log.line("info", "daemon started", pid=os.getpid(), home=self._home.paths.home)
        try:
            return self._loop(controller, processes, watcher)
        finally:
            self._notify.stopping()
            self._close_front()
            controller.close(holds_lock=self._lock.is_current())
            watcher.close()
            signals.close()
            self._remove_pid()
            self._lock.release()
            self._notify.close()

    def _close_front(self) -> None:
        if self._front is not None:
            self._front.close()

    # --- being the one ---

    def _take_over(self) -> None:
        deadline = self._clock.monotonic() + TAKEOVER_SECONDS
        while not self._home.acquire(self._lock, self._role):
            holder = self._lock.holder()
            if holder is not None and holder.role in SERVING_ROLES and self._home.is_alive(holder):
                who = "a daemon runs" if holder.role == ROLE else "procclaw up runs these jobs"
                raise AlreadyRunning(f"{who} already (pid {holder.pid})")
            if self._clock.monotonic() >= deadline:
                raise ProcclawError(f"{self._home.paths.lock} is held by another process (pid {holder and holder.pid})")
            self._clock.sleep(0.02)

    def _release_home(self) -> None:
        """Starting the daemon is what lets the jobs go again that `daemon stop --jobs` stopped."""
        state = self._home.store.job_states([HOME])[HOME]
        if state.holds:
            now = self._clock.now()
            asked = Intent(0, HOME, IntentKind.RELEASE_HOME, force=False, requested_at=now, requested_by="daemon start")
            self._home.store.add_intent(asked)

    def _write_pid(self) -> None:
        """For people; ProcClaw itself asks the lock."""
        path = self._home.paths.pid
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            self._log.line("warning", "pid file not written", detail=error)

    def _remove_pid(self) -> None:
        if self._lock.is_current():
            try:
                os.unlink(self._home.paths.pid)
            except OSError as error:
                self._log.line("warning", "pid file not removed", detail=error)

    # --- the loop ---

    def _loop(self, controller: Controller, processes: Processes, watcher: Watcher) -> int:
        look = _Look(None, (Because(Cause.BEGAN),))
        has_served = False
        next_full_at = self._clock.now()
        upkeep_at = self._clock.monotonic()
        upgrade_at = self._clock.monotonic() + UPGRADE_CHECK_SECONDS
        while True:
            if not self._lock.is_current():
                self._log.line("error", "the home's lock was replaced, leaving", path=self._home.paths.lock)
                return 1
            cycle = self._cycle(controller, look)
            if not has_served:
                # Whoever started us waits for this: from now on everything that is declared has been seen to.
                self._write_pid()
                self._home.announce(self._lock, self._role)
            if cycle is not None:
                self._take_note(cycle, processes, watcher)
            if not has_served:
                self._notify.ready(self._state())
                has_served = True
            if self._stay is not None and self._stay.is_over():
                return self._left()
            self._notify.status(self._state())
            # Also when a cycle failed: that is told and tried again, and to start us anew would mend nothing.
            self._notify.alive(self._clock.monotonic())
            if look.is_full:
                next_full_at = after(self._clock.now(), self._resync_seconds)
            if look.is_full and self._clock.monotonic() >= upkeep_at:
                # With the full cycles, which come round of themselves; half their interval only thins those out that
                # something else caused, and cannot get out of step.
                self._keep_up(controller, cycle)
                upkeep_at = self._clock.monotonic() + self._resync_seconds / 2
            # Whoever watches us in a terminal would not see the jobs through another program.
            if self._stay is None and self._clock.monotonic() >= upgrade_at:
                self._upgrade(processes)
                upgrade_at = self._clock.monotonic() + UPGRADE_CHECK_SECONDS
            woken, has_stepped = self._sleep(watcher, next_full_at)
            processes.reap()
            if woken.signals & self._ending_signals and (self._stay is None or self._stay.is_interrupted()):
                return self._left()
            look = self._next_look(woken, has_stepped=has_stepped, is_resync=self._clock.now() >= next_full_at)

    def _left(self) -> int:
        self._close_front()
        self._log.line("info", "daemon stopped", left_running=sum(map(len, self._watched.values())))
        return 0

    def _cycle(self, controller: Controller, look: _Look) -> Cycle | None:
        """One cycle; a failure of ours is told and tried again, and never ends the daemon."""
        self._looks_at = began = self._clock.monotonic()
        if look.scope is not None and not look.scope:
            return None
        try:
            cycle = controller.cycle(look.scope, because=look.because)
        except ProcclawError as error:
            self._complain("cycle failed", str(error))
        except Exception as error:  # noqa: BLE001 (the boundary)
            import traceback

            self._complain("cycle failed, a bug in ProcClaw", "".join(traceback.format_exception(error)))
        else:
            self._tell_front(cycle, self._clock.monotonic() - began)
            return cycle
        # What is overdue stays overdue; without this the loop would try again at once, and again.
        again_at = after(self._clock.now(), LOOK_AGAIN_SECONDS)
        self._wakes = {job_id: max(at, again_at) for job_id, at in self._wakes.items()} | {HOME: again_at}
        return None

    def _tell_front(self, cycle: Cycle, seconds: float) -> None:
        if self._front is None:
            return
        try:
            self._front.take_note(cycle, seconds)
        except Exception as error:  # noqa: BLE001 (a boundary: what is shown must not stop what is done)
            import traceback

            self._complain("cycle not taken note of, a bug in ProcClaw", "".join(traceback.format_exception(error)))

    def _complain(self, sentence: str, detail: str) -> None:
        """Log a failure of ours; one that only repeats itself is told once a minute."""
        now = self._clock.monotonic()
        if detail != self._complaint or now >= self._complain_again:
            self._log.line("error", sentence, detail=detail)
            self._complaint, self._complain_again = detail, now + COMPLAIN_AGAIN_SECONDS

    def _take_note(self, cycle: Cycle, processes: Processes, watcher: Watcher) -> None:
        """Remember when to look at which job, and watch the shims that live."""
        if cycle.scope is None:
            self._wakes = dict(cycle.wakes)
        else:
            for job_id in cycle.scope:
                self._wakes.pop(job_id, None)
            self._wakes |= cycle.wakes
        if cycle.spec is not None:
            self._resync_seconds = cycle.spec.config.resync_seconds
            self._declared = len(cycle.spec.jobs)
            self._log.set_level(cycle.spec.config.log_level)
        live: dict[str, set[LiveShim]] = {}
        for shim in cycle.live:
            live.setdefault(shim.job_id, set()).add(shim)
        for job_id in self._watched.keys() | live.keys() if cycle.scope is None else cycle.scope:
            self._watch(job_id, live.get(job_id, set()), processes, watcher)

    def _watch(self, job_id: str, live: set[LiveShim], processes: Processes, watcher: Watcher) -> None:
        before = self._watched.get(job_id, set())
        for shim in before - live:
            watcher.remove_exit(shim.pid)
            self._job_of.pop(shim.pid, None)
        for shim in live - before:
            handle = processes.exit_handle(shim.pid, shim.start_ticks)
            watcher.add_exit(shim.pid, handle)
            self._job_of[shim.pid] = job_id
            if handle is None:
                # It may have ended between the look and now.
                self._wakes[job_id] = min(self._wakes.get(job_id, self._clock.now()), self._clock.now())
        self._watched[job_id] = live

    def _keep_up(self, controller: Controller, cycle: Cycle | None) -> None:
        if cycle is None or cycle.spec is None:
            return
        try:
            controller.maintain(cycle.spec, self._clock.now())
        except ProcclawError as error:
            self._log.line("error", "upkeep failed", detail=error)

    def _sleep(self, watcher: Watcher, next_full_at: datetime) -> tuple[Woken, bool]:
        """Sleep until something happens or is due; also whether the clock was stepped or stood still meanwhile."""
        began_at, began = self._clock.now(), self._clock.monotonic()
        due_at = min((next_full_at, *self._wakes.values()))
        seconds = min(max(seconds_between(began_at, due_at), BUSIEST_SECONDS), self._longest_sleep_seconds(began))
        self._looks_at = began + seconds
        woken = watcher.wait(seconds)
        wall = seconds_between(began_at, self._clock.now())
        return woken, abs(wall - (self._clock.monotonic() - began)) > CLOCK_STEP_SECONDS

    def _longest_sleep_seconds(self, now: float) -> float:
        patience = self._notify.patience_seconds(now)
        return LONGEST_SLEEP_SECONDS if patience is None else min(max(patience, BUSIEST_SECONDS), LONGEST_SLEEP_SECONDS)

    def _state(self) -> str:
        """For whoever asks our keeper about us."""
        running = sum(map(bool, self._watched.values()))
        declared = "no job is declared yet" if self._declared is None else f"of {self._declared} declared"
        return f"{running} {'job runs' if running == 1 else 'jobs run'}, {declared}"

    def _next_look(self, woken: Woken, *, has_stepped: bool, is_resync: bool) -> _Look:
        """What to look at now, and what makes us."""
        causes = {Cause.CLOCK: has_stepped, Cause.FILES: woken.files_changed, Cause.SIGNAL: _HANGUP in woken.signals}
        must_see_all = [cause for cause, is_one in (*causes.items(), (Cause.RESYNC, is_resync)) if is_one]
        if must_see_all:
            return _Look(None, tuple(map(Because, must_see_all)))
        concerned = self._concerned(woken)
        jobs = frozenset(job_id for each in concerned.values() for job_id in each)
        because = tuple(Because(cause, tuple(sorted(each))) for cause, each in concerned.items() if each)
        return _Look(None if HOME in jobs else jobs, because)

    def _concerned(self, woken: Woken) -> dict[Cause, set[str]]:
        """The jobs to look at now, by what makes us."""
        now = self._clock.now()
        exited = {self._job_of[pid] for pid in (*woken.exits, *woken.unwatched) if pid in self._job_of}
        for pid in woken.exits:
            # The watcher has let go of it; the next look tells whether its attempt is over.
            self._forget(pid)
        return {
            Cause.EXIT: exited,
            Cause.TIME: {job_id for job_id, at in self._wakes.items() if at <= now},
            Cause.REQUEST: self._asked_about(),
            Cause.NEWS: set(self._home.controller().news()),
        }

    def _asked_about(self) -> set[str]:
        """The jobs about which a request is open; where nobody can tell, the home and so all of them."""
        try:
            # A few microseconds when there is none; also what makes up for a wake-up that never came.
            return set(self._home.store.jobs_with_intents())
        except ProcclawError as error:
            # The loop goes on, and what this is about stops the next cycle too, or has passed by then.
            self._complain("requests not looked for", str(error))
            return {HOME}

    def _forget(self, pid: int) -> None:
        job_id = self._job_of.pop(pid, None)
        if job_id is not None:
            self._watched[job_id] = {shim for shim in self._watched[job_id] if shim.pid != pid}

    # --- upgrades ---

    def _upgrade(self, processes: Processes) -> None:
        """Become the new version when our file was replaced by one that works; jobs notice nothing."""
        now = _look_at(self._program[-1])
        if now is None or now == self._file:
            return
        self._file = now
        answer = run_command([*self._program, "version"], timeout=20.0)
        if answer.exit_code != 0 or not answer.stdout.startswith(b"ProcClaw v"):
            self._log.line("warning", "the program file changed and does not work, staying", path=self._program[-1])
            return
        self._log.line("info", "the program file changed, becoming the new version", path=self._program[-1])
        self._notify.reloading(self._clock.monotonic(), "becoming the new version")
        self._close_front()
        # The commands of checks that are under way must not outlive us.
        self._home.controller().close(holds_lock=self._lock.is_current())
        processes.reexec(
            [*self._program, "--home", self._home.paths.home, "daemon", "start", "--foreground", "--keep-holds"]
        )


def _read_ahead() -> None:
    """Import what is otherwise imported when it is first needed: our own file may be replaced before that."""
    from procclaw.engine import files
    from procclaw.planning import forecast, preview, why

    del forecast, preview, why
    files.read_ahead()


def _look_at(path: str) -> _File | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _File(found.st_ino, found.st_size, found.st_mtime_ns)
