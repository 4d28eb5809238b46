"""How much a process may have: descriptors, and processes beside it, by its own limits and by those of its cgroups."""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_CGROUPS = "/sys/fs/cgroup"


class Allowance(NamedTuple):
    """None: as many as one likes, or the system does not tell."""

    descriptors: int | None
    processes: int | None
    """Of this user, all in all."""
    room: int | None
    """How many more processes the tightest cgroup takes."""
    cgroup: str
    """The file that says so."""


def allowance_of(pid: int) -> Allowance:
    """Of that process, or of this one where that cannot be asked."""
    tightest, file = min(_rooms(pid), default=(None, ""))
    # Root is not counted.
    processes = None if os.geteuid() == 0 else _limit(pid, resource.RLIMIT_NPROC, 0)
    return Allowance(_limit(pid, resource.RLIMIT_NOFILE, 1), processes, tightest, file)


def _limit(pid: int, which: int, side: int) -> int | None:
    """`side`: 0 is what holds, 1 how far it can be raised."""
    found = resource.getrlimit(which)
    # Linux alone lets another process's be seen.
    with suppress(OSError, AttributeError):
        found = resource.prlimit(pid, which)  # type: ignore[attr-defined,unused-ignore]
    return None if found[side] == resource.RLIM_INFINITY else found[side]


def _rooms(pid: int) -> Iterator[tuple[int, str]]:
    """What is left in each cgroup that the process is in and that has a limit."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "pids"):
            yield from rooms_above(os.path.join(_CGROUPS, controllers), path)


def rooms_above(root: str, path: str) -> Iterator[tuple[int, str]]:
    folder = os.path.normpath(f"{root}/{path}")
    while folder.startswith(root.rstrip("/")):
        # The outermost has none, and says nothing.
        with suppress(OSError, ValueError):
            most = os.path.join(folder, "pids.max")
            yield _number(most) - _number(os.path.join(folder, "pids.current")), most
        folder = os.path.dirname(folder)


def _number(path: str) -> int:
    """Raises ValueError for "max"."""
    with open(path) as file:
        return int(file.read())
