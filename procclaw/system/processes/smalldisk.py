"""A disk that is small enough to be filled: a file system in memory, seen by this process and its children alone.

It is mounted in a namespace that this process moves to, and which goes with the last process in it: there is nothing
to unmount.
That needs no rights but those a user has over a namespace of theirs, where the system allows such.
"""

import contextlib
import ctypes
import os
import sys

_NEW_MOUNTS, _NEW_USER = 0x20000, 0x10000000
"""CLONE_NEWNS, CLONE_NEWUSER"""
_PRIVATE = 0x4000 | 0x40000
"""MS_REC and MS_PRIVATE: what we mount is nobody else's."""
_BLOCK = bytes(4096)


def mount(place: str, megabytes: int) -> None:
    """Leave the mounts of everybody else and have a small disk at `place`. Raises OSError where that is not to be."""
    if sys.platform != "linux":
        raise OSError("only Linux has mounts for a single process")
    library = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    _done(library.unshare(_NEW_MOUNTS | (_NEW_USER if uid else 0)))
    if uid:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _done(library.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None))
    options = f"size={megabytes}m,mode=700".encode()
    _done(library.mount(b"none", os.fsencode(place), b"tmpfs", ctypes.c_ulong(0), options))


def fill(place: str) -> None:
    """Take every byte that is left on the disk at `place`."""
    filler = os.open(os.path.join(place, "filler"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(filler, _BLOCK)
    finally:
        os.close(filler)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _done(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
