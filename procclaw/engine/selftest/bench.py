"""What the checks of a selftest work on: a scratch folder, copies of this process, attempts as shell text, patience.

The folder lies where the home's files lie or would lie. Closing the bench ends every process that was started through
it and deletes all of it; that is not interrupted, and takes a few seconds at most.
"""

import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from procclaw.engine.home import Home
from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Launch, Launched, RecordPhase
from procclaw.model.records import Attempt, Terms
from procclaw.model.spec import Leftovers
from procclaw.system.homedir import check_owner, prepare
from procclaw.system.processes import Processes
from procclaw.system.processes.copies import Do, Nursery
from procclaw.system.processes.signals import uninterrupted

T = TypeVar("T")

WITHIN_SECONDS = 10.0
"""For what takes milliseconds: the machine may be busy."""
STAYS_SECONDS = 300
"""How long a job of ours stays at most, should everything else that ends it be killed."""
AT_ONCE_SECONDS = 0.5
"""Looking every second finds most things later than this."""
_END_SECONDS = 5.0
_MOST_RUNS = 1000
_POLL_SECONDS = 0.002
_TERMS = Terms(15, 1.0, Leftovers.STOP, (0,), None, "")
KILL = 9
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Verdict(StrEnum):
    HOLDS = "holds"
    BROKEN = "broken"
    NOT_CHECKABLE = "not_checkable"


class Finding(NamedTuple):
    """What became of one promise."""

    promise: str
    verdict: Verdict
    detail: str
    """What was seen; or why it could not be checked here."""
    seconds: float
    """How long it took to find out; those of chaos are found out together."""


class Broken(Exception):
    """The promise does not hold; the message says what was seen instead."""


class NotCheckable(Exception):
    """This machine does not let us find out; the message says why."""


class Bench:
    def __init__(self, home: str, do: Do, patience_seconds: float = WITHIN_SECONDS) -> None:
        """Raises ProcclawError where no scratch folder can be made."""
        self.patience_seconds = patience_seconds
        self.clock = SystemClock()
        # Before anything is opened.
        self.nursery = Nursery(do)
        self._attempts: list[tuple[str, Attempt]] = []
        self._homes: list[str] = []
        self._numbers = itertools.count(1)
        try:
            self.place = _scratch(home)
        except ProcclawError:
            self.nursery.close()
            raise

    def close(self) -> None:
        with uninterrupted():
            self.nursery.close()
            try:
                for home, attempt in self._attempts:
                    self._end(Processes(home), [attempt])
                for home in tuple(self._homes):
                    self.leave(home)
                self._end_started_within(self.place)
            finally:
                shutil.rmtree(self.place, ignore_errors=True)

    # --- homes ---

    def folder(self, name: str) -> str:
        """A new home, as far as processes and files need one."""
        path = os.path.join(self.place, name)
        prepare(path)
        return path

    def home(self, name: str, jobs: Mapping[str, Mapping[str, Any]]) -> str:
        """A new home that declares these jobs and tells nobody of them."""
        path = self.folder(name)
        self._homes.append(path)
        # The account's own folder, where jobs run as a rule, need not exist.
        config = {"daemon": {"port": 0}, "env": {"PATH": _PATH}, "defaults": {"cwd": path}}
        for file, document in (("procclaw.yaml", config), ("jobs.yaml", {"jobs": jobs})):
            with open(os.path.join(path, file), "w") as opened:
                json.dump(document, opened)
        return path

    def leave(self, path: str) -> None:
        """End what still lives of a home whose managers are gone, and delete it."""
        with contextlib.suppress(ProcclawError), Home(path) as home:
            # All, not only those that are told to live: that is what may have turned out to be wrong.
            runs = home.store.runs(None, _MOST_RUNS)
            self._end(home.processes, [attempt for run in runs for attempt in home.store.attempts(run.id)])
        self._end_started_within(path)
        shutil.rmtree(path, ignore_errors=True)
        self._homes.remove(path)

    # --- attempts, without a manager ---

    def attempt(self, home: str, processes: Processes) -> Attempt:
        """One that is to be launched, by whomever."""
        number = next(self._numbers)
        attempt = Attempt(
            id=f"selftest.{number}",
            run_id="selftest",
            job_id="selftest",
            number=number,
            mark=os.urandom(16).hex(),
            boot_id=processes.boot_id(),
            created_at=self.clock.now(),
            terms=_TERMS,
        )
        self._attempts.append((home, attempt))
        return attempt

    def start(self, home: str, processes: Processes, text: str) -> Attempt:
        """Run shell text as an attempt."""
        attempt = self.attempt(home, processes)
        launched = launch(home, processes, attempt.record, text)
        return attempt._replace(pid=launched.pid, start_ticks=launched.start_ticks)

    def _end(self, processes: Processes, attempts: list[Attempt]) -> None:
        """SIGKILL until nothing is left of them, shims included."""

        def are_gone() -> bool:
            members = processes.members(attempts)
            for attempt in attempts:
                processes.signal_attempt(attempt, members[attempt.id], KILL)
            locked = [each for each in attempts if processes.sight(each.record).phase is RecordPhase.LOCKED]
            return not locked and not any(members.values())

        if attempts:
            with contextlib.suppress(Broken):
                self.wait(are_gone, "its processes are gone", _END_SECONDS)

    def _end_started_within(self, folder: str) -> None:
        """What is left where a promise is broken, so that no attempt or mark leads to it any more."""
        processes = Processes(folder)

        def are_gone() -> bool:
            left = processes.started_within(folder)
            for process in left:
                processes.signal_process(process, KILL)
            return not left

        with contextlib.suppress(Broken):
            self.wait(are_gone, "its processes are gone", _END_SECONDS)

    # --- patience ---

    def wait(
        self,
        condition: Callable[[], T | None],
        what: str,
        seconds: float | None = None,
        show: Callable[[], str] = str,
    ) -> T:
        """What the condition gives once that is true.

        Raises Broken, with `what` was waited for and with what `show` gives, if it never is.
        """
        seconds = self.patience_seconds if seconds is None else seconds
        deadline = self.clock.monotonic() + seconds
        while not (found := condition()):
            if self.clock.monotonic() >= deadline:
                raise Broken(not_within(seconds, what, show()))
            self.clock.sleep(_POLL_SECONDS)
        return found

    def measured(self, condition: Callable[[], object], what: str) -> str:
        """How long it took for the condition to hold."""
        began = self.clock.monotonic()
        self.wait(condition, what)
        return milliseconds(self.clock.monotonic() - began)

    def outcome(self, copy: int, what: str) -> int:
        """The exit code of a copy, once it has ended by itself. Raises Broken when it does not end."""
        code = self.nursery.wait(copy, self.patience_seconds)
        if code is None:
            raise Broken(not_within(self.patience_seconds, what))
        return code


def until(name: str) -> str:
    """Shell text that waits for that file in the home, a minute at most."""
    return f'n=0; while [ ! -e "$PROCCLAW_HOME/{name}" ] && [ $n -lt 3000 ]; do sleep 0.02; n=$((n + 1)); done; '


def launch(home: str, processes: Processes, record: str, text: str) -> Launched:
    """Start shell text as an attempt of that record. Raises Broken when that is refused."""
    processes.create_record(record)
    env = (("PATH", _PATH), ("PROCCLAW_HOME", home))
    launched = processes.launch(
        Launch(record, ("/bin/sh", "-c", text), home, env, "selftest.log", "selftest.error.log", timestamps=False)
    )
    if not isinstance(launched, Launched):
        raise Broken(f"a job cannot be started: {getattr(launched, 'detail', '') or 'its record is taken'}")
    return launched


def not_within(seconds: float, what: str, seen: str = "") -> str:
    return f"not within {seconds:.0f} s: {what}{seen and f' ({seen})'}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _scratch(home: str) -> str:
    """A folder in the home, or where there is none yet in the nearest folder above: on the same file system."""
    if os.path.lexists(home):
        check_owner(home)
    parent = home
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    try:
        return tempfile.mkdtemp(prefix=".procclaw-selftest-", dir=parent)
    except OSError as error:
        raise ProcclawError(
            f'no scratch home can be made in "{parent}": {(error.strerror or str(error)).lower()}; '
            "name another place with --home"
        ) from error
