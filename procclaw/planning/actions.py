"""What a plan is made of: rows to write, effects to carry out, and waits that say why nothing is done.

Rows are written first and all together; then the effects happen, in order; then what came of them is written. Every
decision not to act is a wait with its reason, so nothing is ever held back in silence.
"""

from dataclasses import dataclass
from datetime import datetime

from procclaw.model.outside import Process
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Terms
from procclaw.model.rows import Write


@dataclass(frozen=True, slots=True)
class Start:
    """Create the next attempt of a run and start its process."""

    job_id: str
    run_id: str
    number: int
    instance: int
    terms: Terms
    reason: str
    """For people: what made this start due."""


@dataclass(frozen=True, slots=True)
class Relaunch:
    """Start the process of an attempt whose record is still blank: the manager died before it could."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to what is alive of an attempt; with `is_kill` SIGKILL to all of it but its shim."""

    attempt: Attempt
    members: tuple[Process, ...] | None
    """None: nobody has looked yet, look before signalling."""
    signum: int
    is_kill: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Check:
    """Begin a health check of an attempt; what comes of it is seen by a later cycle."""

    job_id: str
    attempt_id: str


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """Delete a file that has triggered a run, which has succeeded."""

    job_id: str
    path: str
    identity: str


Effect = Start | Relaunch | Signal | Check | DeleteFile


@dataclass(frozen=True, slots=True)
class Wait:
    """A decision not to act."""

    job_id: str
    run_id: str | None
    reason: Reason
    detail: str
    since: datetime | None
    until: datetime | None
    """None: it depends on something without a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    writes: tuple[Write, ...] = ()
    effects: tuple[Effect, ...] = ()
    waits: tuple[Wait, ...] = ()
    wake_at: datetime | None = None
    """The next moment worth looking if nothing happens before; None: none is known."""

    @property
    def is_idle(self) -> bool:
        return not self.writes and not self.effects
