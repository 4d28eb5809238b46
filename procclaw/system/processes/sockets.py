"""Whose the other end of a connection is, when it is on this machine.

The kernel lists every TCP socket of our network namespace with its two addresses and the account that opened it, so a
connection over the loopback is there twice, once from either side. The other side's row is the one whose own address is
what we see as our peer's.

A socket that its process has closed is still listed while the kernel sends the rest or waits for stray packets, but it
has lost its owner: uid and inode then read 0. That is not root, it is nobody.
"""

import os
import re
import socket
import struct

from procclaw.model.errors import Untold

Address = tuple[str, int]
"""Host in digits, as getpeername gives it, and port."""

_TABLE = "/proc/net/tcp"
_TABLE6 = "/proc/net/tcp6"
_LOOKS = 2
"""The kernel hands a table out a page at a time, so a row may slip through while others come and go."""
_MAPPED = bytes(10) + b"\xff\xff"
"""Before an address of IPv4 that stands in one of IPv6."""
_REST_OF_ROW = re.compile(rb" [0-9A-F]{2} \S+ \S+ \S+ +(?P<uid>\d+) +\d+ (?P<inode>\d+)")


def owner_of(ours: Address, theirs: Address) -> int | None:
    """The uid that opened the socket at the other end of a connection, by the addresses as our end sees them.

    None: no process has it open. It is true of the connection only if that is still up afterwards; once both ends are
    gone, somebody else may get the same addresses. Raises Untold where the system does not tell at all,
    OSError when it would but could not be asked.
    """
    rows = _rows(ours, theirs)
    for _ in range(_LOOKS):
        for path, addresses in rows:
            uid = _owner_in(_read(path), addresses)
            if uid is not None:
                return uid
    return None


def _rows(ours: Address, theirs: Address) -> list[tuple[str, bytes]]:
    """In which tables the other end may be, and how a row of it begins.

    Over IPv4 either end may be a socket of IPv6 that is used for it, whatever the other is.
    """
    near, far = _packed(ours[0]), _packed(theirs[0])
    if len(near) == len(far) == 4:
        pairs = [(_TABLE, near, far), (_TABLE6, _MAPPED + near, _MAPPED + far)]
    else:
        pairs = [(_TABLE6, near, far)]
    return [(path, b" %b %b" % (_written(far, theirs[1]), _written(near, ours[1]))) for path, near, far in pairs]


def _packed(host: str) -> bytes:
    """The address without its interface; one of IPv4 as four bytes, however it was put."""
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0]).removeprefix(_MAPPED)


def _written(packed: bytes, port: int) -> bytes:
    """As the kernel prints it: each four bytes as one number of this machine, the port as people write it."""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return b"".join(b"%08X" % word for word in words) + b":%04X" % port


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as table:
            return table.readall()
    except FileNotFoundError:
        if path == _TABLE6 and os.path.exists(_TABLE):
            # A kernel without IPv6: nobody can be there.
            return b""
        raise Untold("this system does not tell whose a socket is") from None


def _owner_in(table: bytes, addresses: bytes) -> int | None:
    at = table.find(addresses)
    while at >= 0:
        found = _REST_OF_ROW.match(table, at + len(addresses))
        if found is not None and int(found["inode"]):
            return int(found["uid"])
        at = table.find(addresses, at + 1)
    return None
