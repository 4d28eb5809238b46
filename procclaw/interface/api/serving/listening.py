"""Where the server can be reached: sockets that listen, for every address a host has."""

import errno
import socket
from typing import Any

from procclaw.interface.api.serving import limits

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def listen(host: str, port: int) -> list[socket.socket]:
    """At all addresses of the host with one port, IPv4 first. Raises OSError.

    Who calls a server by name may come by any of them, and must not find somebody else there. `::` alone takes IPv4 as
    well. Port 0 is any that is free.
    """
    places = _places(host, port)
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in places:
            at = listeners[0].getsockname()[1] if listeners else port
            try:
                listeners.append(_listener(family, (address[0], at, *address[2:]), is_only=len(places) == 1))
            except OSError as error:
                # A name may well have an address of a protocol that the machine does without.
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if not listeners and missing is not None:
            raise missing
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _places(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f'"{host}" is not the name of a host') from error
    places: list[tuple[int, tuple[Any, ...]]] = [(family, address) for family, *_, address in found]
    return sorted(dict.fromkeys(places), key=lambda place: place[0] != socket.AF_INET)


def _listener(family: int, address: tuple[Any, ...], *, is_only: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections that ended a moment ago keep the address from being taken again otherwise; two that listen at the
        # same one are not possible all the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_only)
        listener.bind(address)
        listener.listen(limits.BACKLOG)
        listener.settimeout(0)
    except OSError:
        listener.close()
        raise
    return listener
