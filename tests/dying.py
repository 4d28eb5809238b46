"""Managers that die at a chosen moment: run as a program, it forks one for each order.

An order is a line of JSON: which home, which kind of manager (`daemon`, or `passes`: `procclaw reconcile` again and
again), and after how many effects it shall kill itself (null: never). Two lines come back: the pid at once, and what
became of it once it has ended. Forked, because everything is imported by then: a fresh interpreter for each of some
hundred deaths would cost minutes.

Between two effects a manager only looks and thinks. So a death right after each effect, and one before the first, are
all the deaths there are.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from procclaw.engine.daemon import Daemon
from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.system.processes import Processes, signals
from procclaw.system.processes.records import Records
from procclaw.system.processes.spawning import Relay
from procclaw.system.store import Store

PAUSE_SECONDS = 0.02
"""Between two passes."""

EFFECTS: tuple[tuple[Any, str], ...] = (
    (Store, "record"),
    (Store, "save_spec"),
    (Store, "set_meta"),
    (Store, "add_intent"),
    (Store, "keep_reserve"),
    (Processes, "create_record"),
    (Records, "claim"),
    (Relay, "spawn"),
    (Processes, "launch"),
    (signals, "_signal"),
    (Processes, "signal_attempt"),
    (Processes, "remove_record"),
    (Processes, "note_commit"),
)


class Order(NamedTuple):
    home: str
    kind: str
    die_after: int | None


class Doom:
    """Counts effects, tells each to a file, and kills this process after the one it was told."""

    def __init__(self, order: Order) -> None:
        self._die_after = order.die_after
        self._count = 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._diary = os.open(os.path.join(order.home, "effects"), flags, 0o600)

    def hang_over(self, owner: Any, name: str) -> None:
        does: Callable[..., Any] = getattr(owner, name)

        def effect(outside: Any, *arguments: Any, **named: Any) -> Any:
            if name == "record":
                # Without rows there is nothing to write.
                arguments = (tuple(arguments[0]), *arguments[1:])
            has_effect = _has_effect(outside, name, arguments)
            done = does(outside, *arguments, **named)
            if has_effect:
                self._count += 1
                self.look(f"after {self._count} effects: {name} {_told(arguments)}")
            return done

        setattr(owner, name, effect)

    def look(self, what: str) -> None:
        os.write(self._diary, f"{what}\n".encode())
        if self._die_after == self._count:
            os.kill(os.getpid(), signal.SIGKILL)


def _has_effect(outside: Any, name: str, arguments: tuple[Any, ...]) -> bool:
    match name:
        case "record":
            return bool(arguments[0])
        case "set_meta":
            return bool(outside.meta(arguments[0]) != arguments[1])
        case "keep_reserve":
            return not os.path.exists(os.path.join(os.environ["PROCCLAW_HOME"], "procclaw.reserve"))
        case _:
            return True


def _told(arguments: tuple[Any, ...]) -> str:
    if arguments and isinstance(arguments[0], tuple) and not hasattr(arguments[0], "_fields"):
        return " ".join(sorted({type(row).__name__ for row in arguments[0]}))
    return "".join(str(each)[:60] for each in arguments[:1])


def manage(order: Order) -> int:
    os.environ["PROCCLAW_HOME"] = order.home
    doom = Doom(order)
    for owner, name in EFFECTS:
        doom.hang_over(owner, name)
    doom.look("before any effect")
    with Home(order.home) as home:
        if order.kind == "daemon":
            return Daemon(home, (sys.executable, os.path.abspath(__file__))).run()
        while True:
            Operations(home, "test").reconcile()
            home.clock.sleep(PAUSE_SECONDS)


def main() -> None:
    import jsonschema  # noqa: F401 (all of it before the first fork)
    import yaml  # noqa: F401

    from procclaw.engine import configuration, controller, files  # noqa: F401
    from procclaw.system import daemonlog, homelock, output, specfile, watch  # noqa: F401

    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid == 0:
            code = 3
            try:
                code = manage(order)
            finally:
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
