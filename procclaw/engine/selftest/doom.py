"""A manager that is killed right after a chosen effect: the real one, on a store and processes that count its effects.

Between two effects a manager only looks and thinks. So a death after each effect, and one before the first, are all the
deaths there are.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from procclaw.engine.home import Home
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Launch, Launched, Process
from procclaw.model.records import Attempt
from procclaw.model.rows import Row
from procclaw.system.processes import Processes
from procclaw.system.processes.copies import die
from procclaw.system.processes.spawning import Descriptors
from procclaw.system.store import Store

if TYPE_CHECKING:
    from procclaw.model.intents import Intent

EFFECTS = "effects"
"""The file in a home that says what was done, a line for each effect; the first is for none."""
PASSES, DAEMON = "passes", "daemon"
NEVER = -1
_PAUSE_SECONDS = 0.02
"""Between two passes."""


def manage(path: str, kind: str, die_after: str) -> int:
    """Be a manager of that kind until killed: by ourselves after so many effects, or by somebody else."""
    # The keeper of the process that we are a copy of, if it has one, must hear nothing of us.
    os.environ.pop("NOTIFY_SOCKET", None)
    home = _DoomedHome(path, _Doom(path, int(die_after)))
    if kind == DAEMON:
        from procclaw.engine.daemon import Daemon
        from procclaw.engine.supervision import own_program

        return Daemon(home, own_program()).run()
    from procclaw.engine.operations import Operations

    while True:
        # Refused by a busy machine, it is called again, as cron does it.
        with contextlib.suppress(ProcclawError):
            Operations(home, "selftest").reconcile()
        home.clock.sleep(_PAUSE_SECONDS)


class _Doom:
    def __init__(self, home: str, die_after: int) -> None:
        self._die_after = die_after
        self._count = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._diary = os.open(os.path.join(home, EFFECTS), flags, 0o600)
        self._look("nothing")

    def done(self, what: str) -> None:
        """An effect has come about. Comes back unless it was the one to die after."""
        self._count += 1
        self._look(what)

    def _look(self, what: str) -> None:
        os.write(self._diary, f"{what}\n".encode())
        if self._count == self._die_after:
            die()


class _DoomedStore(Store):
    def __init__(self, path: str, reserve: str, doom: _Doom) -> None:
        super().__init__(path, reserve)
        self._doom = doom
        doom.done("opening the database")

    def keep_reserve(self) -> None:
        super().keep_reserve()
        self._doom.done("keeping a reserve")

    def record(self, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        wanted = tuple(rows)
        super().record(wanted, committed_at)
        if wanted:
            self._doom.done("recording " + " ".join(sorted({type(row).__name__ for row in wanted})))

    def save_spec(
        self, content_hash: str, document: Mapping[str, Any], now: datetime, past: Mapping[str, Any] | None = None
    ) -> None:
        super().save_spec(content_hash, document, now, past)
        self._doom.done("putting the configuration in force")

    def set_meta(self, key: str, value: str | None) -> None:
        is_news = self.meta(key) != value
        super().set_meta(key, value)
        if is_news:
            self._doom.done(f"noting {key}")

    def add_intent(self, intent: "Intent", payload: bytes | None = None) -> int:
        number = super().add_intent(intent, payload)
        self._doom.done("recording a request")
        return number


class _DoomedProcesses(Processes):
    def __init__(self, home: str, doom: _Doom) -> None:
        super().__init__(home)
        self._doom = doom

    def create_record(self, record: str) -> None:
        super().create_record(record)
        self._doom.done("making the record of an attempt")

    def remove_record(self, record: str) -> None:
        super().remove_record(record)
        self._doom.done("removing the record of an attempt")

    def note_commit(self, at: datetime) -> None:
        super().note_commit(at)
        self._doom.done("noting a commit beside the records")

    def _spawn(self, launch: Launch, record: int, descriptors: Descriptors) -> Launched:
        # What launching has done before: the record is locked, and ours.
        self._doom.done("taking the lock of an attempt")
        launched = super()._spawn(launch, record, descriptors)
        self._doom.done("starting an attempt")
        return launched

    def signal_attempt(self, attempt: Attempt, members: Sequence[Process], signum: int) -> None:
        super().signal_attempt(attempt, members, signum)
        self._doom.done(f"sending signal {signum}")


class _DoomedHome(Home):
    def __init__(self, path: str, doom: _Doom) -> None:
        super().__init__(path)
        self._doom = doom

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = _DoomedStore(self.paths.database, self.paths.reserve, self._doom)
        return self._store

    @property
    def processes(self) -> Processes:
        if self._processes is None:
            self._processes = _DoomedProcesses(self.paths.home, self._doom)
        return self._processes
