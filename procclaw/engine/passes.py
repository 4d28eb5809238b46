"""Passes: being the one who reconciles, for a moment, where nobody else does.

A command without a daemon makes its own: cycles for the jobs concerned and nothing else, with the lock given up between
them, until what it waits for has come; `reconcile` makes one over everything. Beside a daemon it wakes that and waits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from procclaw.engine.home import Home
from procclaw.model.clock import seconds_between
from procclaw.model.records import OUTBOX

if TYPE_CHECKING:
    from procclaw.engine.controller import Cycle
    from procclaw.system.homelock import HomeLock

Found = TypeVar("Found")
OnWait = Callable[[float, tuple[str, ...]], None]
"""Told, now and then, for how many seconds something has been waited for, and what it waits for."""

POLL_SECONDS = 0.02
"""How often to look for an answer somebody else works on, or for the end of what was told to stop."""

SOON_SECONDS = 0.2
"""A pass waits this long for what it has set going: a pid to be known, a quick job to end."""

TELL_SECONDS = 20.0
"""A pass waits this long for the alerts it has begun to deliver: what is under way ends with its process."""

LONGEST_CHECK_SECONDS = 20.0
"""A pass waits this long for the health checks it has begun; what takes longer is begun anew by the next."""

CYCLES_AT_ONCE = 20
"""A pass repeats while it has something to do at once; a job that exits at once must not keep it for ever."""


class Passes:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._clock = home.clock
        self._has_passed = False
        """One was made in this process."""

    def until(
        self,
        found: Callable[[], Found | None],
        scope: frozenset[str] | None,
        seconds: float | None,
        on_wait: OnWait | None,
        is_enough: Callable[[], Found | None] | None = None,
    ) -> Found | None:
        """What `found` finds, once it finds anything; None when the time is over. Reconciles when nobody else does;
        when somebody does, what `is_enough` finds will do as well.
        """
        what = self._seek(found, scope, seconds, on_wait, is_enough)
        self._let_alerts_go()
        return what

    def _seek(
        self,
        found: Callable[[], Found | None],
        scope: frozenset[str] | None,
        seconds: float | None,
        on_wait: OnWait | None,
        is_enough: Callable[[], Found | None] | None,
    ) -> Found | None:
        lock = self._home.lock()
        began = self._clock.monotonic()
        self._wake_daemon()
        while True:
            what = found()
            waited = self._clock.monotonic() - began
            if what is not None or (seconds is not None and waited >= seconds):
                return what
            cycle = self._once(lock, scope)
            what = found()
            if what is None and cycle is None and is_enough is not None:
                what = is_enough()
            if what is not None:
                self._settle(lock, scope, cycle)
                return what
            if on_wait is not None:
                on_wait(waited, tuple(wait.detail or str(wait.reason) for wait in cycle.plan.waits) if cycle else ())
            self._clock.sleep(self._pause(cycle))

    def _settle(self, lock: "HomeLock", scope: frozenset[str] | None, cycle: "Cycle | None") -> None:
        """Go on while our last pass left something to be done at once, such as judging a start that failed."""
        for _ in range(CYCLES_AT_ONCE):
            if cycle is None or cycle.wake_at is None or cycle.wake_at > cycle.now:
                return
            cycle = self._once(lock, scope)

    def _once(self, lock: "HomeLock", scope: frozenset[str] | None) -> "Cycle | None":
        """One cycle for these jobs, if nobody else holds the lock; None if somebody does."""
        if not self._home.acquire(lock, "pass"):
            return None
        self._has_passed = True
        try:
            return self._home.controller().cycle(scope, judges_slots=scope is None)
        finally:
            lock.release()

    def _let_alerts_go(self) -> None:
        """Wait for the alerts that our passes have begun to deliver; without the lock, so that nobody waits for us."""
        if not self._has_passed:
            return
        controller, lock = self._home.controller(), self._home.lock()
        give_up_at = self._clock.monotonic() + TELL_SECONDS
        while controller.is_telling() and self._clock.monotonic() < give_up_at:
            controller.wait_for_deliveries(give_up_at - self._clock.monotonic())
            if self._once(lock, frozenset({OUTBOX})) is None:
                return  # whoever holds the lock now delivers them once more

    def _pause(self, cycle: "Cycle | None") -> float:
        if cycle is None or cycle.wake_at is None:
            return POLL_SECONDS
        return max(0.0, min(POLL_SECONDS, seconds_between(cycle.now, cycle.wake_at)))

    def _wake_daemon(self) -> None:
        from procclaw.system.watch import wake

        wake(self._home.paths.home)

    def one(self, scope: frozenset[str]) -> "Cycle | None":
        """One cycle for these jobs, if nobody else holds the lock; None if somebody does."""
        return self._once(self._home.lock(), scope)

    def over_everything(self) -> bool:
        """One pass over everything, and over what that sets going at once; False, and nothing done, when somebody else
        holds the lock.
        """
        lock = self._home.lock()
        if not self._home.acquire(lock, "pass"):
            return False
        self._has_passed = True
        try:
            controller = self._home.controller()
            cycle = controller.cycle()
            for _ in range(CYCLES_AT_ONCE):
                seconds = SOON_SECONDS if cycle.wake_at is None else seconds_between(self._clock.now(), cycle.wake_at)
                if seconds >= SOON_SECONDS:
                    break
                self._clock.sleep(max(0.0, seconds))
                cycle = controller.cycle()
            if controller.wait_for_news(LONGEST_CHECK_SECONDS):
                cycle = controller.cycle()
            if cycle.spec is not None:
                controller.maintain(cycle.spec, cycle.now)
        finally:
            lock.release()
        self._let_alerts_go()
        return True
