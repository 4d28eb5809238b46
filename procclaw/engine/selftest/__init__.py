"""Proof on this very machine: which of ProcClaw's promises hold on its kernel, its file system and in its container.

Each promise has a check that carries it out for real, in a scratch home on the file system where the home is or would
be, with the code that keeps the promise in daily use. `--chaos` goes on to kill managers at every effect they have.
What was started and made for it is gone afterwards, however it ends.

Words: a *promise* holds, is broken, or cannot be checked here; a *copy* is a process forked from this one, for what
must be done by another; a *life* is a scratch home from its first manager, which is killed, to the end of its jobs.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from procclaw.engine.selftest import diskfull, files, kernel, managers, roles
from procclaw.engine.selftest.bench import Bench, Broken, Finding, NotCheckable, Verdict
from procclaw.engine.selftest.chaos import PROMISES, Chaos, OnProgress
from procclaw.model.errors import ProcclawError
from procclaw.system.processes.signals import interruptible, uninterrupted

__all__ = ["Finding", "SelfTest", "Verdict", "scratch"]


class _Check(NamedTuple):
    promise: str
    check: Callable[[Bench], str]
    """Gives a short measured detail. Raises Broken, NotCheckable, or what the system refused."""


_CHECKS = (
    _Check("processes are told apart, and seen whose they are", kernel.table_tells),
    _Check("a record's lock lives as long as its shim, for all to see", kernel.lock_is_inherited),
    _Check("the end of a process is told at once", kernel.ends_are_told),
    _Check("a job outlives a killed manager, and its exit code is known", kernel.job_outlives_manager),
    _Check("a full disk loses no exit code", diskfull.exit_code_is_kept),
    _Check("the home's file system is a local one", files.is_local),
    _Check("a file is replaced whole or not at all", files.replacing_is_atomic),
    _Check("secrets are closed to others", files.modes_are_kept),
    _Check("the database loses no commit, whoever is killed", files.database_is_durable),
    _Check("a log is rotated under its writer without losing a byte", files.rotation_loses_nothing),
    _Check("a saved jobs.yaml is noticed", files.saving_is_noticed),
    _Check("a request wakes the daemon", files.requests_wake),
    _Check("clock and time zones are right", kernel.time_is_known),
    _Check("several who reconcile at once start a job once", managers.start_is_exactly_once),
    _Check("a stop leaves nothing of a job", managers.stop_leaves_nothing),
)


class SelfTest:
    """On a scratch home; `scratch` makes and removes it."""

    def __init__(self, bench: Bench, *, is_chaos: bool) -> None:
        self._bench = bench
        self._is_chaos = is_chaos

    @property
    def place(self) -> str:
        """Where the scratch home is."""
        return self._bench.place

    @staticmethod
    def system() -> str:
        """What it is all proved of."""
        named = os.uname()
        return f"{named.sysname} {named.release}"

    def promises(self) -> tuple[str, ...]:
        """What will be told of, in that order."""
        return (*(each.promise for each in _CHECKS), *(PROMISES if self._is_chaos else ()))

    def findings(self, on_progress: OnProgress) -> Iterator[Finding]:
        """One for each promise, as it is checked. `on_progress` is told what is being done."""
        for each in _CHECKS:
            on_progress(each.promise)
            yield _judged(each, self._bench)
        if self._is_chaos:
            yield from Chaos(self._bench).findings(on_progress)


@contextlib.contextmanager
def scratch(home: str, *, is_chaos: bool) -> Iterator[SelfTest]:
    """A selftest for that home. Raises ProcclawError where it cannot be made.

    Inside, being told to end in whatever way raises KeyboardInterrupt; nothing is left when this is left.
    """
    bench: Bench | None = None
    with interruptible():
        try:
            with uninterrupted():
                bench = Bench(home, roles.carry_out)
            yield SelfTest(bench, is_chaos=is_chaos)
        finally:
            if bench is not None:
                bench.close()


def _judged(each: _Check, bench: Bench) -> Finding:
    began = bench.clock.monotonic()
    try:
        verdict, detail = Verdict.HOLDS, each.check(bench)
    except NotCheckable as reason:
        verdict, detail = Verdict.NOT_CHECKABLE, str(reason)
    except (Broken, ProcclawError) as fault:
        verdict, detail = Verdict.BROKEN, str(fault)
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        verdict, detail = Verdict.BROKEN, f"{where}{error.strerror or error}"
    return Finding(each.promise, verdict, detail, bench.clock.monotonic() - began)
