"""What becomes of processes whose parent has gone: who adopts them, and whether it lets the dead go.

In a container the first process is often the program itself, which knows nothing of that duty. Every job that outlives
its manager then stays in the table for ever when it ends, until there is room for no further process.
"""

from typing import NamedTuple

from procclaw.model.clock import SystemClock
from procclaw.system.processes.commands import run_command
from procclaw.system.processes.shim import SHELL
from procclaw.system.processes.table import Row, process_table

_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.01
_LIFE_SECONDS = 0.1
_ORPHAN = f"sleep {_LIFE_SECONDS} >/dev/null 2>&1 & echo $!"
"""It lives on while its parent ends, so it is adopted alive."""


class Adoption(NamedTuple):
    pid: int | None
    """Of the one who adopted; None: it was too quick to be seen."""
    name: str
    reaped_after_seconds: float | None
    """None: not within the time."""


def see_adoption(patience_seconds: float) -> Adoption | None:
    """Leave an orphan behind that ends at once, and see what becomes of it. None: it could not be started."""
    clock, table = SystemClock(), process_table()
    answer = run_command([SHELL, "-c", _ORPHAN], _ASK_SECONDS)
    if answer.exit_code != 0 or not answer.stdout.strip().isdigit():
        return None
    pid = int(answer.stdout)
    began = clock.monotonic()
    last: Row | None = None
    ended: float | None = None
    while (row := table.row(pid)) is not None and (last is None or row.start_ticks == last.start_ticks):
        last, now = row, clock.monotonic()
        if row.is_dead and ended is None:
            ended = now
        if now - began > _LIFE_SECONDS + patience_seconds:
            # One that is still alive, on a machine that hardly gets on, proves nothing.
            return _adoption(row, table.row(row.parent), None) if row.is_dead else None
        clock.sleep(_POLL_SECONDS)
    took = 0.0 if ended is None else clock.monotonic() - ended
    return Adoption(None, "", took) if last is None else _adoption(last, table.row(last.parent), took)


def _adoption(orphan: Row, parent: Row | None, seconds: float | None) -> Adoption:
    return Adoption(orphan.parent, "" if parent is None else parent.command, seconds)
