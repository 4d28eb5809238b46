"""The keeping of OpenClaw's memory: when something worth it has happened, the pages of its days are written anew.

Off unless procclaw.yaml asks for it, and then looked at no more often than every few seconds. Written beside the loop,
which never waits; what cannot be written is said once, and tried again with the next event. All of a page comes from
the database, so a crash anywhere costs nothing but time.
"""

import contextlib
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from procclaw.engine.courier import Log
from procclaw.engine.launching import command_environment
from procclaw.engine.world import Memory, Secrets
from procclaw.model.clock import after
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import MemoryPage
from procclaw.model.records import Event
from procclaw.model.secret import revealed_all
from procclaw.model.spec import Spec
from procclaw.planning import diary

PAUSE_SECONDS = 5.0
"""Between two looks: what happens at one time is written once."""
CLOSE_SECONDS = 5.0
"""To ask OpenClaw where its memory is, where nobody has asked before, takes most of that."""
_MOST_EVENTS = 1000
_MOST_DAYS = 2
"""Written at once: today, and yesterday for what happened just before midnight."""


class Trail(Protocol):
    def events(self, after_id: int = 0, job_id: str | None = None, newest: int | None = None) -> tuple[Event, ...]: ...


class Diary:
    def __init__(self, trail: Trail, memory: Memory, secrets: Secrets, log: Log) -> None:
        self._trail = trail
        self._memory = memory
        self._secrets = secrets
        self._log = log
        self._written_id = 0
        self._look_at: datetime | None = None
        """Not before this; None: at once."""
        self._complaint = ""
        self._spec: Spec | None = None

    def close(self, now: datetime) -> None:
        """Write what is not written yet, and wait for it a little: a pass may be over sooner than the pause."""
        if self._spec is not None:
            self._look_at = None
            with contextlib.suppress(ProcclawError):
                self.keep(self._spec, now)
            self._memory.wait(CLOSE_SECONDS)

    def keep(self, spec: Spec, now: datetime) -> datetime | None:
        """Have written what is new, where that is asked for; when to look again, None: when something happens."""
        is_asked_for = spec.config.openclaw.is_memory_logged
        self._spec = spec if is_asked_for else None
        if not is_asked_for:
            return None
        self._complain(self._memory.trouble())
        newest = self._trail.events(newest=1)
        if not newest or newest[0].id == self._written_id:
            return None
        if self._look_at is not None and now < self._look_at <= after(now, PAUSE_SECONDS):
            return self._look_at
        events = self._trail.events(newest=_MOST_EVENTS)
        zone = ZoneInfo(spec.config.timezone)
        # A database that was put back has smaller numbers again.
        since = self._written_id if self._written_id < events[-1].id else 0
        pages = []
        for day in diary.days((event for event in events if event.id > since), zone)[-_MOST_DAYS:]:
            text = diary.page(events, day, zone)
            if text is not None:
                pages.append(MemoryPage(f"{day:%Y-%m-%d}-procclaw.md", text))
        self._written_id, self._look_at = events[-1].id, after(now, PAUSE_SECONDS)
        if pages:
            try:
                env = revealed_all(command_environment(spec.config, self._secrets).items())
            except ProcclawError as error:
                self._complain(str(error))
            else:
                self._memory.write(tuple(pages), spec.config.openclaw.workspace, env)
        return None

    def is_busy(self) -> bool:
        return self._memory.is_busy()

    def wait(self, seconds: float) -> None:
        self._memory.wait(seconds)

    def _complain(self, trouble: str) -> None:
        if trouble and trouble != self._complaint:
            self._log.line("warning", "memory not written", detail=trouble)
        self._complaint = trouble
