"""A home on the real machine, with attempts written as shell text: what tests of real processes share."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from procclaw.model.outside import Launch, Launched, LaunchRefused, Process, RecordPhase, Sight
from procclaw.model.records import Attempt
from procclaw.system.processes import Processes
from tests.contract_processes import an_attempt
from tests.support import wait_until

WITHIN = 10.0
ENV = (("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"), ("LANG", "C.UTF-8"))
SHELLS = {"dash": "dash", "bash": "bash", "busybox": "busybox", "mksh": "mksh"}


ENDINGS = {
    "exit 0": 0,
    "exit 3": 3,
    "exit 255": 255,
    "no-such-command": 127,
    "/etc/passwd": 126,
    **{
        f"kill -{name} $$": 128 + signal.Signals[f"SIG{name}"]
        for name in ("HUP", "INT", "PIPE", "TERM", "SEGV", "KILL")
    },
    # To the whole group: the shim survives it and records that the job did not.
    **{
        f"kill -{name} 0; sleep 5": 128 + signal.Signals[f"SIG{name}"]
        for name in ("HUP", "INT", "QUIT", "TERM", "USR1")
    },
    "kill -ALRM 0; sleep 5": 142,
    f"kill -{signal.SIGRTMAX} 0; sleep 5": 128 + signal.SIGRTMAX,
    # Its own handler decides.
    "trap 'exit 9' TERM; kill -TERM 0; sleep 5": 9,
    # A signal to the shim alone is not the job's.
    "kill -TERM $PPID; kill -SEGV $PPID; sleep 0.05; exit 4": 4,
}
"""How a job ends, by its text, and the code that must be on record."""


def eventually(condition: Callable[[], bool], show: Callable[[], object] = lambda: "") -> None:
    wait_until(condition, WITHIN, show)


class Machine:
    """A home, its `Processes`, and jobs written as shell text."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.processes = Processes(str(home))

    def launch_of(
        self, record: str, *argv: str, cwd: str = "/", timestamps: bool = False, env: Mapping[str, str] | None = None
    ) -> Launch:
        log = str(self.home / "logs" / f"{record}.log")
        error_log = str(self.home / "logs" / f"{record}.error.log")
        given = (*ENV, ("PROCCLAW_HOME", str(self.home)), *(env or {}).items())
        return Launch(record, argv, cwd, given, log, error_log, timestamps)

    def start(self, text: str, number: int = 1, timestamps: bool = False, **fields: Any) -> Attempt:
        """Run shell text as an attempt; `fields` are further ones of the launch."""
        return self.start_argv("/bin/sh", "-c", text, number=number, timestamps=timestamps, **fields)

    def start_argv(
        self,
        *argv: str,
        number: int = 1,
        cwd: str = "/",
        timestamps: bool = False,
        env: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Attempt:
        record = an_attempt(self.processes, number=number).record
        self.processes.create_record(record)
        launch = self.launch_of(record, *argv, cwd=cwd, timestamps=timestamps, env=env)
        launched = self.processes.launch(launch._replace(**fields))
        assert isinstance(launched, Launched), launched
        return an_attempt(self.processes, launched, number=number)

    def log(self, attempt: Attempt) -> str:
        return (self.home / "logs" / f"{attempt.record}.log").read_text()

    def error_log(self, attempt: Attempt) -> str:
        return (self.home / "logs" / f"{attempt.record}.error.log").read_text()

    def wait_for(self, attempt: Attempt, text: str) -> None:
        eventually(lambda: text in self.log(attempt), lambda: self.log(attempt) + self.error_log(attempt))

    def refused(self, number: int = 1, **fields: Any) -> LaunchRefused:
        """What launching comes to that must not start; nothing has, afterwards."""
        record = an_attempt(self.processes, number=number).record
        self.processes.create_record(record)
        refused = self.processes.launch(self.launch_of(record, "sleep", "600")._replace(**fields))
        assert isinstance(refused, LaunchRefused), refused
        eventually(lambda: self.processes.sight(record) == Sight(RecordPhase.BLANK))
        return refused

    def end(self, attempt: Attempt) -> Sight:
        """What is seen of it once its shim is gone."""
        eventually(lambda: self.processes.sight(attempt.record).phase is not RecordPhase.LOCKED)
        return self.processes.sight(attempt.record)

    def members(self, attempt: Attempt) -> tuple[Process, ...]:
        return self.processes.members([attempt])[attempt.id]

    def pids(self, attempt: Attempt) -> set[int]:
        return {member.pid for member in self.members(attempt)}

    def signal(self, attempt: Attempt, signum: int) -> None:
        self.processes.signal_attempt(attempt, self.members(attempt), signum)

    def stop(self, attempt: Attempt) -> Sight:
        """TERM; then KILL until nothing is left."""
        self.signal(attempt, signal.SIGTERM)
        until = time.monotonic() + 0.3
        while self.members(attempt) and time.monotonic() < until:
            time.sleep(0.01)

        def is_gone() -> bool:
            self.signal(attempt, signal.SIGKILL)
            return not self.members(attempt)

        eventually(is_gone, lambda: self.members(attempt))
        return self.end(attempt)


@contextmanager
def shell_of_shims(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed shell as the /bin/sh of the shim, for every account."""
    program = shutil.which(SHELLS[name])
    if program is None:
        pytest.skip(f"{name} is not installed")
    place = tempfile.mkdtemp(prefix="procclaw-sh-", dir="/tmp")
    os.chmod(place, 0o755)
    try:
        # Under the name sh, as it would be installed: bash and busybox look at what they are called.
        os.symlink(program, f"{place}/sh")
        monkeypatch.setattr("procclaw.system.processes.shim.SHELL", f"{place}/sh")
        yield
    finally:
        shutil.rmtree(place)
