"""What the simulated machine is made of: time, a trace, processes that follow a script, records, and lives.

A *life* is the truth about one attempt, beside what the product is shown of it. Two clocks turn: `elapsed` drives the
processes and never goes back; the wall clock is what the product sees, and it may jump.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from procclaw.model.outside import Launch
from procclaw.model.secret import revealed_all

CANARY = "canary-5d1f"
"""Stands in every payload, and must not be told anywhere."""

BEGIN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECOND = 1_000_000
"""All spans in here are whole microseconds, so nothing depends on how floats round."""
HOUR = 3600 * SECOND
DAY = 24 * HOUR


class Crash(BaseException):
    """The manager is killed here. No `Exception`: nothing in it gets to clean up."""


class Violation(AssertionError):
    """Something happened that never may; `number` is the invariant's in the design."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"invariant {number}: {what}")
        self.number = number


class Trace:
    """What happened, readable, and how often each kind of mishap did."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.lines: list[str] = []
        self.met: Counter[str] = Counter()

    def say(self, text: str) -> None:
        self.lines.append(f"{self._clock.elapsed / SECOND:11.3f}  {self._clock.now():%m-%d %H:%M:%S}  {text}")

    def meet(self, kind: str, text: str = "") -> None:
        self.met[kind] += 1
        self.say(f"** {kind}{': ' if text else ''}{text}")


class Clock:
    def __init__(self) -> None:
        self.elapsed = 0
        self._shift = 0

    def now(self) -> datetime:
        return BEGIN + timedelta(microseconds=self.elapsed + self._shift)

    def jump(self, span: int) -> None:
        """Turn the wall clock alone: somebody set it, or the machine slept."""
        self._shift += span


class Child(NamedTuple):
    after: int
    seconds: float | None
    leaves_session: bool
    carries_mark: bool
    on_term: str


class Script(NamedTuple):
    """How an attempt's processes behave."""

    seconds: float | None = None
    """How long the main process runs by itself; None for ever."""
    code: int = 0
    on_term: str = "dies"
    """`dies`, `ignores`, or `handles`: ends with a code of its own."""
    term_delay: int = 0
    kill_delay: int = 0
    """Stuck in the kernel for so long."""
    term_code: int = 143
    children: tuple[Child, ...] = ()
    fate: str = "runs"
    """`runs`, `blank` (its shim dies before it writes its pid), `no_cwd`, or `shim_killed`."""
    shim_killed_after: int = 0
    pid_delay: int = 0
    drain: int = 0
    """How long the record stays locked after the code was written."""
    memory_mb: float = 8.0
    """What each of its processes holds."""
    result: str | None = None
    """What it leaves in its result file when it ends by itself."""
    health: str = "good"
    """What checks of it find: `good`, `bad`, or `fickle`."""
    cpu_share: float = 0.125
    """How much of a processor each uses for as long as it lives."""


class Proc:
    """One process, as the kernel has it."""

    __slots__ = (
        "command",
        "group",
        "is_doomed",
        "life",
        "mark",
        "on_term",
        "parent",
        "pid",
        "role",
        "script",
        "session",
        "ticks",
    )

    def __init__(self, pid: int, ticks: int, role: str, life: Life | None, script: Script) -> None:
        self.pid = pid
        self.ticks = ticks
        self.role = role
        self.life = life
        self.script = script
        self.parent = 1
        self.group = self.session = pid
        self.mark = None if life is None else life.mark
        self.on_term = script.on_term
        self.command = role
        self.is_doomed = False
        """A signal has reached it that will end it."""


class Record:
    """What is in a record file, and who holds it; the file may have lost its name."""

    __slots__ = ("code", "holder", "is_torn", "job_pid", "no_cwd", "pid", "written_at")

    def __init__(self, at: datetime) -> None:
        self.pid: int | None = None
        self.job_pid: int | None = None
        self.code: int | None = None
        self.no_cwd = False
        self.is_torn = False
        self.holder: Proc | None = None
        self.written_at = at

    @property
    def is_blank(self) -> bool:
        return self.pid is None and not self.is_torn


class Life:
    """The truth about one attempt."""

    def __init__(self, launch: Launch, record: Record, now: datetime, elapsed: int) -> None:
        env = revealed_all(launch.env)
        self.name = launch.record
        self.mark = launch.record.rpartition(".")[2]
        self.job_id = env["PROCCLAW_JOB_ID"]
        self.run_id = env["PROCCLAW_RUN_ID"]
        self.number = int(env["PROCCLAW_ATTEMPT"])
        self.slot = env.get("PROCCLAW_SCHEDULED_AT")
        self.record = record
        self.launched_at = now
        self.elapsed_at = elapsed
        self.shim: Proc | None = None
        self.main: Proc | None = None
        self.others: list[Proc] = []
        self.has_begun = False
        """Its main process existed, so it must never be started again."""
        self.code: int | None = None
        """What the shim wrote down; None: nothing, or it was lost with the file."""
        self.is_kept = False
        """It ended by itself under `leftovers: keep`: what remains of it may remain."""
        self.boot = 1
        """In which it was launched first."""
        self.trigger = env.get("PROCCLAW_TRIGGER", "")
        self.file = env.get("PROCCLAW_TRIGGER_FILE")
        self.env = env
        self.lock: str | None = None
        """The lock that its processes have inherited."""
        self.result: str | None = None
        self.answers: list[tuple[int, bool]] = []
        """What checks have found, and when they said so."""
        self.asked_at = elapsed
        """When a check of it was begun last."""
        self.changed_at = elapsed
        """When a process of it ended last."""
        self.facts: dict[str, Any] = {}
        """What the observers note down when it is launched."""

    @property
    def is_alive(self) -> bool:
        """Something of it is left that has to go; a shim that has written how it ended has nothing more to do."""
        has_told = self.record.code is not None or self.record.no_cwd
        is_led = self.shim is not None and not has_told
        return is_led or self.main is not None or (bool(self.others) and not self.is_kept)

    @property
    def went_well(self) -> bool:
        """It ended by itself, with a code that counts as success."""
        was_ordered = self.facts.get("stop") not in (None, "leftovers")
        return not was_ordered and self.code in self.facts["job"]["success_exit_codes"]

    @property
    def has_processes(self) -> bool:
        return self.shim is not None or self.main is not None or bool(self.others)

    def __str__(self) -> str:
        return f"{self.job_id}/{self.run_id}.{self.number}"


def told(script: Script) -> str:
    runs = "for ever" if script.seconds is None else f"{script.seconds:g} s, then {script.code}"
    extras = [f"{len(script.children)} children"] if script.children else []
    extras += [script.fate] if script.fate != "runs" else []
    extras += [script.on_term] if script.on_term != "dies" else []
    return ", ".join([runs, *extras])
