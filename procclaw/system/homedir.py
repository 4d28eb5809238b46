"""The home's folder itself: made with the right mode, and refused where its promises cannot be kept.

Locks and renames do not hold over a network file system, and a home that belongs to somebody else would let them decide
what runs as us; so both are refused, for root too.
"""

import os
import stat

from procclaw.model.errors import ProcclawError

_NETWORK_FILE_SYSTEMS = {0x6969: "NFS", 0x517B: "SMB", 0xFF534D42: "CIFS", 0xFE534D42: "SMB2"}
"""Magic numbers of statfs(2)."""


def check_owner(home: str) -> None:
    """Raise ProcclawError unless the home exists and is ours."""
    try:
        found = os.stat(home)
    except FileNotFoundError:
        raise ProcclawError(f'no home at "{home}": create one with procclaw init') from None
    except OSError as error:
        raise ProcclawError(f'home "{home}": {(error.strerror or str(error)).lower()}') from error
    if not stat.S_ISDIR(found.st_mode):
        raise ProcclawError(f'home "{home}" is not a directory')
    if found.st_uid != os.getuid():
        raise ProcclawError(f'home "{home}" belongs to user {found.st_uid}, and this is user {os.getuid()}: refused')


def prepare(home: str) -> None:
    """Make sure the home and its folders are there, ours alone and on a local file system."""
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
    except FileExistsError:
        pass  # no directory: that is said next
    except OSError as error:
        raise ProcclawError(f'home "{home}" cannot be made: {(error.strerror or str(error)).lower()}') from error
    check_owner(home)
    kind = network_file_system(home)
    if kind is not None:
        raise ProcclawError(f'home "{home}" is on {kind}, where locks do not hold; choose a local one with --home')
    if os.stat(home).st_mode & 0o077:
        os.chmod(home, 0o700)
    for name in ("logs", "records", "work"):
        os.makedirs(os.path.join(home, name), mode=0o700, exist_ok=True)


def network_file_system(path: str) -> str | None:
    """Which network file system the path is on; None for a local one, and where the platform does not tell."""
    import ctypes

    buffer = (ctypes.c_long * 64)()
    try:
        if os.uname().sysname != "Linux" or ctypes.CDLL(None).statfs(os.fsencode(path), buffer) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return _NETWORK_FILE_SYSTEMS.get(buffer[0] & 0xFFFFFFFF)
