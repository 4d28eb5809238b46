"""A check-up: the usual things wrong with a set-up, each with its remedy. It looks, and changes nothing.

Every examination stands alone, in a thread of its own: one that fails says so, and one that hangs (on a disk that has
gone away, say) is given up, and the others are told all the same. Looking is apart from judging: a `look_at_` function
sees, a `judge_` function makes findings of what was seen, from values alone.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

from procclaw.engine.checkup import demands, keeping, machine, place, reach, secrets
from procclaw.engine.checkup.finding import Finding, Level, warning
from procclaw.engine.checkup.setup import Setup
from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError, in_words

PATIENCE_SECONDS = 15.0
"""For all of them together; none takes more than four unless something hangs."""

Examination = Callable[[Setup], Iterable[Finding]]

EXAMINATIONS: Mapping[str, Examination] = {
    "home": place.look_at_home,
    "file system": place.look_at_file_system,
    "disk": place.look_at_room,
    "database": place.look_at_database,
    "configuration": demands.look_at_configuration,
    "commands": demands.look_at_jobs,
    "time zones": demands.look_at_zones,
    "secrets": secrets.look_at_secrets,
    "daemon": keeping.look_at_daemon,
    "service": keeping.look_at_service,
    "crontab": keeping.look_at_crontab,
    "http": reach.look_at_address,
    "socket": reach.look_at_socket,
    "openclaw": reach.look_at_openclaw,
    "clock": machine.look_at_clock,
    "python": machine.look_at_python,
    "limits": machine.look_at_limits,
    "orphans": machine.look_at_orphans,
}
"""In the order in which findings of one level are told."""


def check_up(
    home: str, examinations: Mapping[str, Examination] = EXAMINATIONS, patience_seconds: float = PATIENCE_SECONDS
) -> tuple[Finding, ...]:
    """All findings, worst first."""
    setup, clock = Setup(home), SystemClock()
    found: dict[str, list[Finding]] = {}
    threads = {
        thing: threading.Thread(target=_examine, args=(thing, look, setup, found), daemon=True)
        for thing, look in examinations.items()
    }
    for thing, thread in threads.items():
        try:
            thread.start()
        except RuntimeError:
            # No further process is allowed, which is what is to be told.
            _examine(thing, examinations[thing], setup, found)
    deadline = clock.monotonic() + patience_seconds
    for thing, thread in threads.items():
        if thread.ident is not None:
            thread.join(max(0.0, deadline - clock.monotonic()))
        if thing not in found:
            found[thing] = [warning(thing, f"no answer within {patience_seconds:g} s", None)]
    levels = list(Level)
    told = (finding for thing in examinations for finding in found[thing])
    return tuple(sorted(told, key=lambda finding: levels.index(finding.level)))


def _examine(thing: str, look: Examination, setup: Setup, found: dict[str, list[Finding]]) -> None:
    mine: list[Finding] = []
    try:
        mine.extend(look(setup))
    except ProcclawError as error:
        mine.append(warning(thing, f"cannot be looked at: {error}", None))
    except OSError as error:
        mine.append(warning(thing, f"cannot be looked at: {in_words(error)}", None))
    except Exception as error:  # noqa: BLE001 (a boundary: the others are to be told all the same)
        mine.append(warning(thing, f"cannot be looked at, a bug in ProcClaw: {type(error).__name__}: {error}", None))
    found[thing] = mine
