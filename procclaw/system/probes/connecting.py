"""Connecting to a host's port, whichever of its addresses answers."""

import errno
import os
import socket
from functools import partial
from typing import Any

from procclaw.system.probes.threads import Threads

Address = tuple[int, Any]
"""Family, and what `connect` takes in it."""

# Not asked of a name server, nor in a thread: the most frequent name of all means this (RFC 6761), and must not wait
# behind others that hang.
_LOCALHOST = ("::1", "127.0.0.1")

OUR_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
"""Errors that say something about us and nothing about the other side."""


async def connect(host: str, port: int, seconds: float, lookups: Threads) -> socket.socket:
    """A connected socket. Raises OSError, TimeoutError among them, as the last of the addresses did.

    No address may use up the time of those after it, so that a name with a dead IPv6 address is still reached.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    addresses = await _addresses(host, port, seconds, lookups)
    trouble: OSError = OSError(errno.EADDRNOTAVAIL, "no address")
    for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            async with asyncio.timeout((deadline - loop.time()) / left):
                return await _connect(*address)
        except OSError as error:
            if error.errno in OUR_LACK:
                raise
            trouble = error
    raise trouble


async def _connect(family: int, address: Any) -> socket.socket:
    import asyncio

    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003
        await asyncio.get_running_loop().sock_connect(sock, address)
        if sock.getsockname() == sock.getpeername():
            # Nobody listens, and the port the system chose for us happened to be the one we asked for.
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to ourselves")
    except OSError as error:
        sock.close()
        # asyncio puts the address where the system has its words.
        raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _addresses(host: str, port: int, seconds: float, lookups: Threads) -> tuple[Address, ...]:
    if host.lower().rstrip(".") == "localhost":
        return tuple(address for literal in _LOCALHOST for address in _look_up(literal, port, socket.AI_NUMERICHOST))
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await lookups.call(f"{host} {port}", partial(_look_up, host, port, 0), seconds)


def _look_up(host: str, port: int, flags: int) -> tuple[Address, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except ValueError:
        # No name at all: a label that is empty or too long, a NUL.
        raise socket.gaierror(socket.EAI_NONAME, "no such name") from None
    return tuple((family, address) for family, _, _, _, address in found)
