"""The directory of records while attempts live: records that are cut, written over, replaced and lost, and whatever
else may come to lie there.

The real controller, on real processes. Whatever is in the directory: a cycle does not fail, nothing that is not ours is
signalled, nobody runs twice, no exit code is made up, what does not belong there stays; and once it is tidy again, what
runs is what is wanted.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from subprocess import DEVNULL
from types import TracebackType
from unittest import mock

from procclaw.engine.home import Home
from procclaw.model.intents import Intent, IntentKind
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt
from tests.breaking import PATIENCE_SECONDS, Case, Ground, flipped, rubbish, within
from tests.driver import commands
from tests.support import Reaper, environment, kill, look_at_all, wait_until

JOBS: Mapping[str, Mapping[str, object]] = {
    "service": {
        "cmd": "exec sleep 1000",
        "type": "continuous",
        "shutdown": {"grace_period": 0.2},
        "retry": {"delays": [0.02], "max_attempts": "unlimited"},
    },
    "quick": {"cmd": "exit 7", "retry": {"enabled": False}, "concurrency": {"max_instances": 4}},
    "slow": {"cmd": "sleep 0.1; exit 9", "retry": {"enabled": False}, "concurrency": {"max_instances": 4}},
}
CODES = {"service": None, "quick": 7, "slow": 9}
CYCLES = 6
WITHIN = 60.0

Ruin = Callable[["RecordGround", Case, Path], None]
"""Something done to one record; the path need not exist any more."""


def _rewritten(content: Callable[["RecordGround", Random], bytes]) -> Ruin:
    """Written over in place: whoever holds it goes on holding it."""

    def ruin(ground: "RecordGround", case: Case, path: Path) -> None:
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            file.write(content(ground, case.rng))

    return ruin


def _replaced(content: Callable[["RecordGround", Random], bytes]) -> Ruin:
    """Another file under the same name, which nobody holds."""

    def ruin(ground: "RecordGround", case: Case, path: Path) -> None:
        ground.clear(path)
        path.write_bytes(content(ground, case.rng))

    return ruin


def _made(make: Callable[[Path], object]) -> Ruin:
    def ruin(ground: "RecordGround", case: Case, path: Path) -> None:
        ground.clear(path)
        make(path)

    return ruin


def _cut(ground: "RecordGround", case: Case, path: Path) -> None:
    with contextlib.suppress(OSError):
        os.truncate(path, case.rng.randrange(128))


def _grown(ground: "RecordGround", case: Case, path: Path) -> None:
    with contextlib.suppress(OSError):
        os.truncate(path, 1 << 30)


def _flipped(ground: "RecordGround", case: Case, path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(flipped(content, case.rng, case.rng.choice((1, 3, 20))))


def _with_socket(path: Path) -> None:
    # The path may be too long for one; then there is none.
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as opened, contextlib.suppress(OSError):
        opened.bind(str(path))


def _words(ground: "RecordGround", rng: Random) -> bytes:
    """What looks like a record and is not to be believed."""
    pid = rng.choice((ground.stranger, ground.stranger, 1, 0, os.getpid(), os.getppid(), 2**31, 2**31 - 1))
    ending = rng.choice(("", "", "job 1\n", f"job {pid}\n", "321\n", "999\n", "512\n", "-01\n", "7\n", "0007\n"))
    return f"{pid}   \n{ending}".encode().ljust(rng.choice((0, 128)), b" ")


def _half_a_pid(ground: "RecordGround", rng: Random) -> bytes:
    return str(ground.stranger).encode()[: rng.randrange(1, 4)].ljust(128, b" ")


RUINS: Mapping[str, Ruin] = {
    "cut": _cut,
    "grown": _grown,
    "flipped": _flipped,
    "removed": lambda ground, case, path: ground.clear(path),
    "written over with rubbish": _rewritten(lambda ground, rng: rubbish(rng)),
    "written over with words": _rewritten(_words),
    "written over with half a pid": _rewritten(_half_a_pid),
    "written over with blanks": _rewritten(lambda ground, rng: b" " * 128),
    "replaced by rubbish": _replaced(lambda ground, rng: rubbish(rng)),
    "replaced by words": _replaced(_words),
    "replaced by blanks": _replaced(lambda ground, rng: rng.choice((b"", b" " * 128, b"\0" * 128))),
    "a directory": _made(lambda path: path.mkdir()),
    "a link to nowhere": _made(lambda path: path.symlink_to("nowhere")),
    "a link to much": _made(lambda path: path.symlink_to("/dev/zero")),
    "a link to a text": _made(lambda path: path.symlink_to("/etc/passwd")),
    "a pipe": _made(os.mkfifo),
    "a socket": _made(_with_socket),
    "unreadable": lambda ground, case, path: path.chmod(0) if path.is_file() and not path.is_symlink() else None,
}

STRANGE_NAMES = (
    *("notes.txt", "a.b.c.d", "service.1.2.3.bak", ".swp", "backup of records.1.2.3", "a.b.²." + "0" * 32, "..." * 5),
    *(
        "x" * 255,
        "a\nb.c.1." + "0" * 32,
        "\udcff.b.1.d",
        "\x1b[31m.b.1.c",
        "job.run.999999999999." + "0" * 32,
        "newest~",
    ),
)


class RecordGround(Ground):
    def __init__(self) -> None:
        self._reaper = Reaper()
        self.stranger = self._reaper.spawn(["sleep", "100000"], start_new_session=True, stdout=DEVNULL).pid
        """Somebody else's process, of whom every forged record tells."""
        self._signalled: list[int] = []
        self._patches = contextlib.ExitStack()
        self._watch_signals()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._patches.close()
        self._reaper.end()

    def play(self, case: Case) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="procclaw-", dir="/tmp"))
        self._reaper.watch_home(self.home)
        self._records = self.home / "records"
        (self.home / "jobs.yaml").write_text(json.dumps({"jobs": JOBS}))
        self._signalled.clear()
        try:
            with Home(str(self.home)) as self._home:
                self._controller = self._home.controller()
                self._play(case)
        finally:
            self._end_jobs()
            shutil.rmtree(self.home)

    def _play(self, case: Case) -> None:
        self._settle(lambda: len(self._live("service")) == 1)
        self._ask(IntentKind.RUN, case.rng.choice(("quick", "slow")))
        self._controller.cycle()
        strange = self._ruin_some(case)
        with contextlib.ExitStack() as held:
            if case.rng.random() < 0.2:
                self._hold_one(case, held)
            for _ in range(CYCLES):
                with within(PATIENCE_SECONDS):
                    self._controller.cycle()
                self._home.processes.reap()
                self._judge(case)
                time.sleep(case.rng.choice((0, 0, 0.01, 0.03)))
            for path in strange:
                case.must(os.path.lexists(path), f"what does not belong there has been removed: {path.name!r}")
        self._tidy()
        self._settle(lambda: len(self._live("service")) == 1 and len(self._live()) == 1)
        self._judge(case)
        self._judge_codes(case)

    def _end_jobs(self) -> None:
        own = f"PROCCLAW_HOME={self.home}".encode()

        def is_quiet() -> bool:
            left = [seen for seen in look_at_all() if not seen.is_dead and own in environment(seen.pid)]
            for seen in left:
                kill(seen)
            self._home.processes.reap()
            return not left

        wait_until(is_quiet, WITHIN, lambda: "")

    # --- breaking ---

    def _ruin_some(self, case: Case) -> list[Path]:
        """What was put there that is no record."""
        strange: list[Path] = []
        for _ in range(case.rng.choice((1, 1, 2, 3))):
            attempts = self._live()
            if attempts and case.rng.random() < 0.3:
                self._forget_the_pid(case, case.rng.choice(attempts))
            kind = case.rng.random()
            if kind < 0.55 and attempts:
                attempt = case.rng.choice(attempts)
                self._ruin(case, case.rng.choice(sorted(RUINS)), self._records / attempt.record)
            elif kind < 0.75:
                self._ruin(case, case.rng.choice(sorted(RUINS)), self._records / self._forged_name(case, attempts))
            elif kind < 0.9:
                path = self._records / case.rng.choice(STRANGE_NAMES)
                with contextlib.suppress(OSError):
                    self._ruin(case, case.rng.choice(("replaced by words", "replaced by blanks", "a directory")), path)
                    strange.append(path)
            else:
                name = case.rng.choice(("replaced by rubbish", "a directory", "a pipe", "a link to much", "unreadable"))
                self._ruin(case, name, self._records / "newest")
        return strange

    def _ruin(self, case: Case, name: str, path: Path) -> None:
        case.say(f"{path.name!r}: {name}")
        case.meet(name)
        if name.startswith("replaced") and not path.exists():
            path.touch(0o600)
        RUINS[name](self, case, path)

    def _forget_the_pid(self, case: Case, attempt: Attempt) -> None:
        """As if the manager had died between the start and its commit."""
        forgotten = attempt._replace(pid=None, start_ticks=None, job_pid=None, started_at=None)
        self._home.store.record([forgotten])
        case.say(f"{attempt.id}: the pid is not known")
        case.meet("the pid is not known")

    def _forged_name(self, case: Case, attempts: list[Attempt]) -> str:
        """Of a record, with something in it that is not so."""
        mark = f"{case.rng.getrandbits(128):032x}"
        known = case.rng.choice(attempts) if attempts else None
        if known is None or case.rng.random() < 0.3:
            return f"{case.rng.choice(('nobody', 'service', 'quick'))}.abcdef{case.rng.randrange(99)}.1.{mark}"
        job_id = case.rng.choice((known.job_id, "quick", "nobody"))
        number = case.rng.choice((known.number, known.number + 1, 1))
        return f"{job_id}.{known.run_id}.{number}.{case.rng.choice((mark, known.mark))}"

    def _hold_one(self, case: Case, held: contextlib.ExitStack) -> None:
        """A stranger's lock, as if somebody lived behind a record."""
        path = self._records / self._forged_name(case, self._live())
        if not path.exists():
            path.write_bytes(_words(self, case.rng))
        with contextlib.suppress(OSError):
            file = held.enter_context(path.open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            case.say(f"{path.name!r}: held by somebody")
            case.meet("held by somebody")

    def clear(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Everything goes that is no record."""
        for name in self._home.processes.foreign_records():
            self.clear(self._records / name)
        newest = self._records / "newest"
        if not newest.is_file() or newest.is_symlink():
            self.clear(newest)

    # --- judging ---

    def _judge(self, case: Case) -> None:
        case.must(not self._signalled, f"signalled, and not ours: {self._signalled}")
        alive = [seen for seen in look_at_all() if not seen.is_dead and self._is_service(seen.pid)]
        case.must(len(alive) <= 1, f"the service runs {len(alive)} times: {alive}")

    def _judge_codes(self, case: Case) -> None:
        """No code but the true one; where that is not known, none. What a forged record has proven is not judged."""
        rows = self._home.store._db.read("SELECT job_id, exit_code, reason FROM attempts WHERE ended_at IS NOT NULL")
        for job_id, code, reason in rows:
            case.meet(f"= {job_id}: {reason}")
            true = CODES.get(job_id)
            if reason == Reason.EXITED and job_id in ("quick", "slow") and not case.met["flipped"]:
                case.must(code in (None, true), f"{job_id} is said to have exited with {code}")

    def _is_service(self, pid: int) -> bool:
        """What the service becomes, and not the shim beside it."""
        own = {b"PROCCLAW_JOB_ID=service", f"PROCCLAW_HOME={self.home}".encode()}
        return commands(pid).startswith("sleep") and own <= environment(pid)

    def _live(self, job_id: str | None = None) -> list[Attempt]:
        return [each for each in self._home.store.living.attempts() if job_id in (None, each.job_id)]

    def _ask(self, kind: IntentKind, job_id: str) -> None:
        self._home.store.add_intent(Intent(0, job_id, kind, False, self._home.clock.now(), "test"))

    def _settle(self, condition: Callable[[], bool]) -> None:
        def is_settled() -> bool:
            self._controller.cycle()
            self._home.processes.reap()
            return condition()

        wait_until(is_settled, WITHIN, lambda: [*self._live(), *sorted(os.listdir(self._records))])

    def _watch_signals(self) -> None:
        """Take down who is signalled that has nothing of this home in its environment."""
        send = signal.pidfd_send_signal

        def sending(fd: int, signum: int, *rest: object) -> None:
            lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
            pid = next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))
            if f"PROCCLAW_HOME={self.home}".encode() not in environment(pid) and pid > 0:
                self._signalled.append(pid)
                return
            send(fd, signum, *rest)  # type: ignore[arg-type]

        self._patches.enter_context(mock.patch("signal.pidfd_send_signal", sending))
