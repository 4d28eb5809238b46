"""What the system says of a path: on which file system it is, what room is left there, and who may do what with it."""

import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple

_MOUNTS = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    kind: str
    """As the kernel calls it: ext4, nfs4, fuse.sshfs."""
    point: str
    is_read_only: bool


class Room(NamedTuple):
    free_bytes: int
    """For an ordinary user."""
    free_inodes: int | None
    """None: this file system does not count them."""


class Access(NamedTuple):
    """Who may do what with a file or folder; links are followed."""

    path: str
    """Where it really lies."""
    owner: int
    mode: int
    """Permissions only."""
    is_folder: bool


def mount_table() -> str:
    """The kernel's table of what is mounted; empty where there is none."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def mount_of(path: str, table: str) -> Mount | None:
    """The mount on which a path (without links in it) lies; None: the table does not tell."""
    best: Mount | None = None
    for line in table.splitlines():
        mount = _parsed(line)
        # Of two at one place the later hides the earlier.
        if mount is not None and _is_below(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _parsed(line: str) -> Mount | None:
    left, separator, right = line.partition(" - ")
    fields, kinds = left.split(" "), right.split(" ")
    if not separator or len(fields) < 6 or len(kinds) < 3:
        return None
    point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
    options = {*fields[5].split(","), *kinds[2].split(",")}
    return Mount(kinds[0], point, "ro" in options)


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def room_at(path: str) -> Room:
    """Raises OSError."""
    found = os.statvfs(path)
    return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def size_of(path: str) -> int | None:
    """Bytes; None: there is no such file."""
    with suppress(OSError):
        return os.stat(path).st_size
    return None


def access_of(path: str) -> Access | None:
    """None: there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    is_folder = stat.S_ISDIR(found.st_mode)
    return Access(os.path.realpath(path), found.st_uid, stat.S_IMODE(found.st_mode), is_folder)
