"""What copies of this process do on order: look on, commit, reconcile, be a manager. Each role's words are its own.

A copy tells by its exit code, and by files in the home that it was given.
"""

import os
from collections.abc import Callable, Sequence

from procclaw.engine.selftest import diskfull, doom, files, managers
from procclaw.engine.selftest.bench import launch
from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import RecordPhase
from procclaw.system.credentials.secretsfile import SecretsFile
from procclaw.system.processes import Processes
from procclaw.system.processes.copies import die
from procclaw.system.store import Store

_POLL_SECONDS = 0.001
_MOST_TOLD = 100


def carry_out(order: Sequence[str]) -> int:
    role, *words = order
    return _ROLES[role](*words)


def _look(home: str, record: str) -> int:
    """Which phase it sees, by its place among all."""
    return tuple(RecordPhase).index(Processes(home).sight(record).phase)


def _launch_and_die(home: str, record: str, text: str) -> int:
    launch(home, Processes(home), record, text)
    die()


def _read_while_it_is_replaced(home: str) -> int:
    """How often the file was not whole."""
    secrets = SecretsFile(home)
    torn = 0
    with open(os.path.join(home, "reading"), "w"):
        pass
    while not os.path.exists(os.path.join(home, "done")):
        try:
            page = secrets.read().values.get("page", "")
        except ProcclawError:
            page = ""
        torn += len(set(page)) != 1
    return min(torn, _MOST_TOLD)


def _commit(home: str, name: str, count: str) -> int:
    """Notes each commit once it was acknowledged."""
    store = Store(os.path.join(home, "procclaw.db"))
    with open(os.path.join(home, name), "w") as noting:
        for _ in range(int(count)):
            number = files.add_request(store)
            noting.write(f"{number}\n")
            noting.flush()
    store.close()
    return 0


def _reconcile(home: str) -> int:
    """One pass, begun together with others. Refused where the others are too busy, as anybody is."""
    from procclaw.engine.home import Home
    from procclaw.engine.operations import Operations

    clock = SystemClock()
    with Home(home) as opened:
        while not os.path.exists(os.path.join(home, "go")):
            clock.sleep(_POLL_SECONDS)
        try:
            Operations(opened, "selftest").reconcile()
        except ProcclawError:
            return managers.REFUSED
    return 0


def _wait() -> int:
    """Be there and do nothing."""
    while True:
        SystemClock().sleep(60)


_ROLES: dict[str, Callable[..., int]] = {
    "look": _look,
    "launch and die": _launch_and_die,
    "read while it is replaced": _read_while_it_is_replaced,
    "commit": _commit,
    "reconcile": _reconcile,
    "fill a disk": diskfull.fill_a_disk,
    "manage": doom.manage,
    "wait": _wait,
}
