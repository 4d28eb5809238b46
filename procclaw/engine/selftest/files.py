"""Promises that the file system has to keep: replacing, modes, the database, rotation, and telling of changes."""

import os
from collections.abc import Callable

from procclaw.engine.selftest.bench import AT_ONCE_SECONDS, Bench, Broken, NotCheckable, milliseconds
from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError
from procclaw.model.intents import Intent, IntentKind
from procclaw.model.log import Gone
from procclaw.model.outside import RecordPhase
from procclaw.model.records import HOME
from procclaw.model.spec import LogPolicy
from procclaw.system.credentials.secretsfile import Kept, SecretsFile
from procclaw.system.homedir import network_file_system
from procclaw.system.output import Output
from procclaw.system.processes import Processes, frozen_writers
from procclaw.system.store import Store
from procclaw.system.watch import SOCKET, Watcher, Woken, wake

_REPLACEMENTS = 200
_COMMITS = 40
_ROTATIONS = 5
_LOG_BYTES = 128 * 1024
_KEPT_ARCHIVES = 1000
_LOG = "selftest.log"
"""Of the attempts that a bench starts."""
_ROTATE_SECONDS = 8.0
_NOTICED_SECONDS = 3.0


def is_local(bench: Bench) -> str:
    kind = network_file_system(bench.place)
    if kind is not None:
        raise Broken(f"it is {kind}, where locks do not hold: choose a local one with --home")
    free = os.statvfs(bench.place)
    return f"{free.f_bavail * free.f_frsize / 1e9:.1f} GB free"


def replacing_is_atomic(bench: Bench) -> str:
    home = bench.folder("replacing")
    secrets = SecretsFile(home)
    secrets.write(_page("a"))
    reading = bench.nursery.start("read while it is replaced", home)
    bench.wait(lambda: os.path.exists(os.path.join(home, "reading")), "another process reads the file")
    for number in range(_REPLACEMENTS):
        secrets.write(_page("ab"[number % 2]))
    _touch(home, "done")
    if (torn := bench.outcome(reading, "the reader has noticed that it may end")) != 0:
        raise Broken(f"another process found a file that was being replaced missing, damaged or mixed ({torn})")
    return f"{_REPLACEMENTS} replacements under a reader, each seen whole"


def _page(letter: str) -> Kept:
    return Kept({"page": letter * 20_000}, frozenset())


def modes_are_kept(bench: Bench) -> str:
    """Whatever umask we were started with: what guards a secret is the file's own mode."""
    secrets = SecretsFile(bench.folder("modes"))
    before = os.umask(0)
    try:
        secrets.write(_page("a"))
    finally:
        os.umask(before)
    mode = os.stat(secrets.path).st_mode & 0o777
    if mode != 0o600:
        raise Broken(f"a file made with mode 600 has mode {mode:03o}: this file system keeps no modes")
    os.chmod(secrets.path, 0o644)
    try:
        secrets.read()
    except ProcclawError:
        return "made with mode 600; one that is open to others is refused"
    raise Broken("a secrets file with mode 644 is read as if nobody else could have read it")


def database_is_durable(bench: Bench) -> str:
    home = bench.folder("database")
    path = os.path.join(home, "procclaw.db")
    store = Store(path)
    try:
        beside = bench.nursery.start("commit", home, "beside", str(_COMMITS))
        began = bench.clock.monotonic()
        mine = [add_request(store) for _ in range(_COMMITS)]
        each = (bench.clock.monotonic() - began) / _COMMITS
        has_log = os.path.exists(f"{path}-wal")
        if (code := bench.outcome(beside, "another process has made its commits")) != 0:
            raise Broken(f"another process could not commit at the same time ({code})")
        doomed = bench.nursery.start("commit", home, "doomed", "1000000")
        bench.wait(lambda: len(_committed(home, "doomed")) >= _COMMITS, "another process commits")
        bench.nursery.kill(doomed)
        bench.outcome(doomed, "it is gone after SIGKILL")
    finally:
        store.close()
    acknowledged = [*mine, *_committed(home, "beside"), *_committed(home, "doomed")]
    opened = Store(path)
    try:
        opened.check()
        lost = [number for number in acknowledged if opened.intent(number) is None]
    finally:
        opened.close()
    if lost or len(set(acknowledged)) != len(acknowledged):
        raise Broken(f"of {len(acknowledged)} commits {len(lost)} are lost")
    how = "write-ahead log" if has_log else "no write-ahead log"
    return f"{len(acknowledged)} of 3 processes, one of them killed; {milliseconds(each)} each, {how}"


def add_request(store: Store) -> int:
    """Make one commit; the number it gave."""
    return store.add_intent(Intent(0, HOME, IntentKind.LOOK, False, SystemClock().now(), "selftest"))  # noqa: FBT003


def _committed(home: str, name: str) -> list[int]:
    """What a process has noted of its commits; the note that its death cut short does not count."""
    try:
        with open(os.path.join(home, name)) as file:
            return [int(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []


_WRITER = """\
n=0
while [ ! -e "$PROCCLAW_HOME/done" ] && [ $n -lt 2000000 ]; do
echo "line $n of one that never rests"; n=$((n + 1))
done
echo $n >"$PROCCLAW_HOME/written"
"""
"""Less than 100 MB, should nobody be left to tell it that it is done."""


def rotation_loses_nothing(bench: Bench) -> str:
    home = bench.folder("rotation")
    processes = Processes(home)
    output = Output(os.path.join(home, "logs"), frozen_writers)
    policy = LogPolicy(_LOG_BYTES, _KEPT_ARCHIVES, timestamps=False)
    attempt = bench.start(home, processes, _WRITER)
    rotations = 0
    deadline = bench.clock.monotonic() + _ROTATE_SECONDS
    try:
        is_collapsible = output.is_collapsible(_LOG)
        if not is_collapsible and not _can_hold_still(os.path.join(home, "logs", _LOG)):
            raise NotCheckable("what writes a log cannot be held still here: logs are rotated between two starts")
        while rotations < _ROTATIONS and bench.clock.monotonic() < deadline:
            rotations += output.rotate(_LOG, policy, is_in_use=True)
    finally:
        _touch(home, "done")
    bench.wait(lambda: processes.sight(attempt.record).phase is not RecordPhase.LOCKED, "the writer has ended")
    if not rotations:
        raise Broken(f"not rotated within {_ROTATE_SECONDS:.0f} s")
    with open(os.path.join(home, "written")) as file:
        written = int(file.read())
    lines = _lines(output)
    wrong = next((number for number, line in enumerate(lines) if line != _line(number)), None)
    if wrong is not None:
        raise Broken(f"line {wrong} of {written} is {lines[wrong][:60]!r}")
    if len(lines) != written:
        raise Broken(f"of {written} lines {len(lines)} are left")
    how = "blocks taken off its front" if is_collapsible else "copied, its writer held still for the end of it"
    return f"{len(lines)} lines, {rotations} rotations: {how}"


def _can_hold_still(log: str) -> bool:
    with frozen_writers(log) as is_still:
        return is_still


def _line(number: int) -> bytes:
    return b"line %d of one that never rests" % number


def _lines(output: Output) -> list[bytes]:
    pieces = []
    for piece in output.read(_LOG):
        if isinstance(piece, Gone):
            raise Broken(f"the log's bytes {piece.start} to {piece.end} are gone")
        pieces.append(piece)
    return b"".join(pieces).splitlines()


def saving_is_noticed(bench: Bench) -> str:
    home = bench.folder("saving")

    def save() -> None:
        with open(os.path.join(home, "jobs.yaml"), "w") as file:
            file.write("jobs: {}\n")

    seconds = _told_after(bench, home, save, lambda woken: woken.files_changed, "a saved jobs.yaml")
    return _how_soon(seconds, "inotify or kqueue tells of nothing here")


def requests_wake(bench: Bench) -> str:
    home = bench.folder("requests")
    has_socket = True

    def ask() -> None:
        nonlocal has_socket
        has_socket = os.path.exists(os.path.join(home, SOCKET)) and wake(home)

    try:
        seconds = _told_after(bench, home, ask, lambda woken: woken.requested, "a request")
    except Broken:
        if has_socket:
            raise
        return "no socket can be made here: the daemon looks every second instead"
    return _how_soon(seconds, "the socket is slow")


def _told_after(bench: Bench, home: str, do: Callable[[], None], is_told: Callable[[Woken], bool], what: str) -> float:
    watcher = Watcher(home)
    try:
        do()
        began = bench.clock.monotonic()
        while bench.clock.monotonic() - began < _NOTICED_SECONDS:
            if is_told(watcher.wait(1.0)):
                return bench.clock.monotonic() - began
    finally:
        watcher.close()
    raise Broken(f"not noticed within {_NOTICED_SECONDS:.0f} s: {what}")


def _how_soon(seconds: float, otherwise: str) -> str:
    if seconds < AT_ONCE_SECONDS:
        return f"after {milliseconds(seconds)}"
    return f"after {milliseconds(seconds)}: {otherwise}, and the daemon looks every second"


def _touch(home: str, name: str) -> None:
    with open(os.path.join(home, name), "w"):
        pass
