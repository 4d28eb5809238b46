"""ProcClaw as people drive it: one home, its command line, a daemon; and what the jobs tell of themselves.

What is asked for goes through the command line, in a process of its own. What is looked at is read in this process,
the way `procclaw list` reads it, so that waiting for something costs no interpreter a turn. A job tells of itself by a
line in `notes`, a file in its home.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.model.intents import Intent, IntentKind
from procclaw.model.records import Attempt, Run
from procclaw.system.homelock import Holder, HomeLock
from procclaw.system.processes import MARK
from procclaw.system.watch import wake
from tests.support import Reaper, Seen, environment, kill, look_at, look_at_all, wait_until

T = TypeVar("T")
Job = Mapping[str, Any]

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "procclaw.py"
WITHIN = 20.0
"""Seconds for what takes a fraction of one: the machine may be busy."""

NOTE = 'echo "$PROCCLAW_JOB_ID $PROCCLAW_RUN_ID $PROCCLAW_ATTEMPT $$" >>"$PROCCLAW_HOME/notes"; '


def noting(text: str) -> str:
    """Shell text that first leaves a note of its start."""
    return NOTE + text


STAYS = noting("exec sleep 1000")
STUBBORN = "trap '' TERM; " + STAYS
"""It ignores SIGTERM, and so does what it becomes."""


def until(name: str, then: str) -> str:
    """Shell text that waits for a file of that name in the home."""
    return noting(f'while [ ! -e "$PROCCLAW_HOME/{name}" ]; do sleep 0.02; done; {then}')


class Note(NamedTuple):
    """What a job wrote when it started."""

    job_id: str
    run_id: str
    attempt: int
    pid: int


class Answer(NamedTuple):
    """What the command line said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Driver:
    def __init__(self, home: Path, reaper: Reaper, program: Path = PROGRAM) -> None:
        self.home = home
        self.reaper = reaper
        self.program = program
        self._opened: Home | None = None
        reaper.watch_home(home)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- asking ---

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, str(self.program), "--home", str(self.home), *words]

    def ask(self, *words: str, code: int | None = 0, within: float = 60.0) -> Answer:
        """Run a command to its end; `code` is the exit code it must have (None: any)."""
        done = subprocess.run(self.argv(*words), env=self._environ(), capture_output=True, text=True, timeout=within)
        answer = Answer(done.returncode, done.stdout, done.stderr)
        assert code is None or answer.code == code, f"procclaw {' '.join(words)}: {answer}\n{self.show()}"
        return answer

    def spawn(self, *words: str) -> "subprocess.Popen[str]":
        """Run a command beside the test."""
        return self.reaper.spawn(
            self.argv(*words), env=self._environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _environ(self) -> dict[str, str]:
        return {**os.environ, "PROCCLAW_HOME": str(self.home)}

    def declare(self, jobs: Mapping[str, Job], **config: Any) -> None:
        """Put jobs.yaml and procclaw.yaml in place, each in one step; without `config` that stays as it was."""
        if config or not (self.home / "procclaw.yaml").exists():
            # A port of its own: tests run side by side.
            daemon = {"port": 0} | config.get("daemon", {})
            self._put("procclaw.yaml", json.dumps(config | {"daemon": daemon}))
        self._put("jobs.yaml", json.dumps({"jobs": dict(jobs)}, indent=1))

    def _put(self, name: str, text: str) -> None:
        beside = self.home / f".{name}.new"
        beside.write_text(text)
        beside.rename(self.home / name)

    def touch(self, name: str) -> float:
        """Make the file that a job waits for; when that was begun, which comes before all that follows from it."""
        at = time.time()
        (self.home / name).touch()
        return at

    def request(self, kind: IntentKind, job_id: str, *, force: bool = False) -> int:
        """Record a request and wake the daemon, without waiting for anything; its id."""
        intent = Intent(0, job_id, kind, force, self.opened.clock.now(), "test")
        intent_id = self.opened.store.add_intent(intent)
        wake(str(self.home))
        return intent_id

    def is_answered(self, intent_id: int) -> bool:
        intent = self.opened.store.intent(intent_id)
        return intent is not None and intent.resolved_at is not None

    # --- the daemon ---

    def start_daemon(self) -> int:
        self.ask("daemon", "start")
        holder = self.holder()
        assert holder is not None
        assert holder.pid is not None
        return holder.pid

    def holder(self) -> Holder | None:
        return HomeLock(str(self.home / "procclaw.lock")).holder()

    def kill_daemon(self) -> None:
        """SIGKILL, and wait until it is gone."""
        holder = self.holder()
        assert holder is not None
        assert holder.pid is not None
        seen = look_at(holder.pid)
        assert seen is not None
        kill(seen)
        self.wait(lambda: not is_alive(seen.pid))

    def signal_daemon(self, signum: signal.Signals) -> int:
        """Its pid."""
        holder = self.holder()
        assert holder is not None
        assert holder.pid is not None
        os.kill(holder.pid, signum)
        return holder.pid

    def look_again(self, times: int = 3) -> None:
        """Have whoever reconciles look at everything once more; after that, what has not happened does not."""
        for _ in range(times):
            self.ask("reconcile")

    # --- looking ---

    @property
    def opened(self) -> Home:
        if self._opened is None:
            self._opened = Home(str(self.home))
        return self._opened

    @property
    def operations(self) -> Operations:
        return Operations(self.opened, "test")

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the files."""
        return self.operations.problems()

    def job(self, job_id: str) -> dict[str, Any]:
        return self.operations.job(job_id)

    def status(self, job_id: str) -> str:
        return str(self.job(job_id)["status"])

    def pid(self, job_id: str) -> int:
        """The pid that people are told, once there is one."""
        return int(self.wait(lambda: self.job(job_id)["pid"]))

    def living(self, job_id: str) -> str:
        """The mark of the attempt that the told pid belongs to, which is one of the job's own and alive."""
        pid = self.pid(job_id)
        mark = self.attempt_of(pid)
        assert mark in {attempt.mark for attempt in self.attempts(job_id)}, f"pid {pid} of {job_id}: {self.show()}"
        assert mark is not None
        return mark

    def attempt_of(self, pid: int) -> str | None:
        """The mark of the attempt that a living process belongs to."""
        return mark_of(pid) if is_alive(pid) else None

    def runs(self, job_id: str) -> list[Run]:
        """Oldest first."""
        return sorted(self.opened.store.runs(job_id, limit=10_000), key=lambda run: run.queued_at)

    def attempts(self, job_id: str) -> list[Attempt]:
        return [attempt for run in self.runs(job_id) for attempt in self.opened.store.attempts(run.id)]

    def only_attempt(self, job_id: str) -> Attempt:
        found = self.attempts(job_id)
        assert len(found) == 1, self.show()
        return found[0]

    def notes(self, job_id: str | None = None) -> list[Note]:
        try:
            lines = (self.home / "notes").read_text().splitlines()
        except FileNotFoundError:
            return []
        notes = (Note(name, run, int(attempt), int(pid)) for name, run, attempt, pid in map(str.split, lines))
        return [note for note in notes if job_id in (None, note.job_id)]

    def records(self) -> set[str]:
        """The records of attempts; beside them lies a note that is none."""
        return {path.name for path in (self.home / "records").iterdir() if path.name.count(".") >= 3}

    def processes(self) -> list[Seen]:
        """What lives with this home in its environment, the daemon and its like included."""
        wanted = f"PROCCLAW_HOME={self.home}".encode()
        return [seen for seen in look_at_all() if not seen.is_dead and wanted in environment(seen.pid)]

    def job_processes(self) -> list[Seen]:
        """What lives of any attempt: whatever carries a mark."""
        return [seen for seen in self.processes() if mark_of(seen.pid) is not None]

    # --- waiting ---

    def wait(self, condition: Callable[[], T], within: float = WITHIN) -> T:
        return wait_until(condition, within, self.show)

    def wait_for_notes(self, job_id: str, count: int = 1, within: float = WITHIN) -> list[Note]:
        self.wait(lambda: len(self.notes(job_id)) >= count, within)
        return self.notes(job_id)

    def wait_for_status(self, job_id: str, status: str, within: float = WITHIN) -> None:
        self.wait(lambda: self.status(job_id) == status, within)

    def show(self) -> str:
        """The state, for whoever has to understand a failure."""
        parts = [" ".join(map(str, seen)) + f" {commands(seen.pid)}" for seen in self.processes()]
        with contextlib.suppress(Exception):
            parts += [str(view) for view in self.operations.runs(None, 20)]
        for name in ("notes", "logs/daemon.log", "logs/daemon.startup.log"):
            with contextlib.suppress(OSError):
                parts += [f"--- {name}", *(self.home / name).read_text().splitlines()[-60:]]
        return "\n".join(parts)


@contextlib.contextmanager
def driving(home: Path, reaper: Reaper, program: Path = PROGRAM) -> Iterator[Driver]:
    driver = Driver(home, reaper, program)
    try:
        yield driver
    finally:
        driver.close()


def is_alive(pid: int) -> bool:
    seen = look_at(pid)
    return seen is not None and not seen.is_dead


def mark_of(pid: int) -> str | None:
    """The mark of the attempt in whose environment a process was started."""
    prefix = f"{MARK}=".encode()
    found = (each for each in environment(pid) if each.startswith(prefix))
    return next((each.removeprefix(prefix).decode() for each in found), None)


def commands(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return "(gone)"
