"""What the daemon sleeps on: ends of processes, saved configuration files, requests, signals, or the time that is up.

Everything told here only says *look now*; nothing depends on it being told. Files are watched from construction on, so
read the configuration after that. Linux tells of files by inotify and of ends by pidfds, macOS of ends by kqueue; what
cannot be watched is looked at every second: the files by this module, the rest (`unwatched` pids, the database where no
socket could be bound) by the caller, to whom `wait` then returns every second.

The kqueue half was written without a macOS to try it on.
"""

import ctypes
import os
import select
import selectors
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from procclaw.model.clock import SystemClock

SOCKET = "procclaw.sock"
_FILES = ("procclaw.yaml", "jobs.yaml")
_DIRECTORY = "jobs.d"
_SUFFIX = ".yaml"
_LOOK_SECONDS = 1.0
_MOST_REQUESTS = 1000
_LONGEST_ADDRESS = 103
"""Bytes of a socket's path: 108 on Linux and 104 on macOS, less the byte that ends it."""


class Woken(NamedTuple):
    """Why `wait` returned; all empty when only time has passed."""

    exits: frozenset[int] = frozenset()
    """Pids that have ended; they are watched no longer."""
    signals: frozenset[int] = frozenset()
    files_changed: bool = False
    requested: bool = False
    unwatched: frozenset[int] = frozenset()
    """Pids that may have ended for all we know."""


class Watcher:
    """`signal_fd` gives one byte per signal, its number. Only the holder of the home's lock may watch: the wake-up
    socket is taken over from whoever had it."""

    def __init__(self, home: str, signal_fd: int | None = None) -> None:
        self._home = home
        self._clock = SystemClock()
        self._selector = selectors.DefaultSelector()
        self._handles: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._unwatched: set[int] = set()
        self._exits = _ExitQueue() if hasattr(select, "kqueue") else None
        self._files = _Files(home)
        self._socket = _bind(home)
        self._own = _identity(home)
        self._signal_fd = signal_fd
        exits_fd = None if self._exits is None else self._exits.fd
        requests_fd = None if self._socket is None else self._socket.fileno()
        for fd in (signal_fd, self._files.fd, exits_fd, requests_fd):
            if fd is not None:
                self._selector.register(fd, selectors.EVENT_READ)

    def add_exit(self, pid: int, handle: int | None) -> None:
        """Watch for the end of a process. `handle` is a descriptor that becomes readable then, and ours from now on;
        None where there are no such descriptors (left)."""
        self.remove_exit(pid)
        if self._exits is not None and self._exits.add(pid):
            return
        if handle is None:
            self._unwatched.add(pid)
            return
        try:
            self._selector.register(handle, selectors.EVENT_READ)
        except OSError:
            os.close(handle)
            self._unwatched.add(pid)
            return
        self._handles[pid] = handle
        self._pids[handle] = pid

    def remove_exit(self, pid: int) -> None:
        """Watch it no longer; one that is not watched is fine."""
        self._unwatched.discard(pid)
        handle = self._handles.pop(pid, None)
        if handle is not None:
            del self._pids[handle]
            self._selector.unregister(handle)
            os.close(handle)

    def wait(self, timeout_seconds: float) -> Woken:
        """Sleep until there is something to look at, at most that long."""
        deadline = self._clock.monotonic() + timeout_seconds
        while True:
            left = max(0.0, deadline - self._clock.monotonic())
            is_caller_looking = self._socket is None or bool(self._unwatched)
            is_looking = is_caller_looking or self._files.needs_looking
            woken = self._turn(min(left, _LOOK_SECONDS) if is_looking else left)
            if woken != Woken() or is_caller_looking or self._clock.monotonic() >= deadline:
                return woken._replace(unwatched=frozenset(self._unwatched))

    def close(self) -> None:
        for pid in tuple(self._handles):
            self.remove_exit(pid)
        self._selector.close()
        self._files.close()
        if self._exits is not None:
            self._exits.close()
        if self._socket is not None:
            # Where the home's lock was replaced, another has taken over and made a socket of its own there. Its inode
            # differs for certain while ours is open.
            if _identity(self._home) == self._own:
                with suppress(OSError):
                    os.unlink(os.path.join(self._home, SOCKET))
            self._socket.close()

    def _turn(self, patience_seconds: float) -> Woken:
        ready = [key.fd for key, _ in self._selector.select(patience_seconds)]
        ended = {self._pids[fd] for fd in ready if fd in self._pids}
        if self._exits is not None and self._exits.fd in ready:
            ended |= self._exits.read()
        for pid in ended:
            self.remove_exit(pid)
        requested = self._socket is not None and self._socket.fileno() in ready and _drain(self._socket)
        signals = os.read(self._signal_fd, 4096) if self._signal_fd is not None and self._signal_fd in ready else b""
        return Woken(frozenset(ended), frozenset(signals), self._files.have_changed(), requested)


class _Files:
    """The configuration files of a home: whether any of them may have changed since the last question."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._directory = os.path.join(home, _DIRECTORY)
        self._inotify = _open_inotify()
        self._is_watched = False
        self._watch()
        self._signature = self._look()
        # A link is replaced where nobody looks: what changes is the directory it points into.
        self._has_links = self._find_links()

    @property
    def fd(self) -> int | None:
        return None if self._inotify is None else self._inotify.fd

    @property
    def needs_looking(self) -> bool:
        return self._has_links or not self._is_watched

    def have_changed(self) -> bool:
        is_told = self._is_told()
        if not is_told and not self.needs_looking:
            return False
        if is_told:
            # Before looking, so that a directory that has just been made cannot change unseen.
            self._watch()
        signature = self._look()
        if not is_told and signature == self._signature:
            return False
        self._signature = signature
        self._has_links = self._find_links()
        return True

    def close(self) -> None:
        if self._inotify is not None:
            os.close(self._inotify.fd)

    def _is_told(self) -> bool:
        if self._inotify is None:
            return False
        # A nameless event is about a watched directory itself, or says that events were lost.
        # All of them are read before any is judged: one left behind would wake us again.
        return any(not name or name == _DIRECTORY or name.endswith(_SUFFIX) for name in tuple(self._inotify.names()))

    def _watch(self) -> None:
        if self._inotify is not None:
            self._is_watched = self._inotify.watch(self._home)
            if os.path.isdir(self._directory):
                self._is_watched &= self._inotify.watch(self._directory)

    def _paths(self) -> list[str]:
        paths = [os.path.join(self._home, name) for name in _FILES]
        with suppress(OSError):
            more = sorted(name for name in os.listdir(self._directory) if name.endswith(_SUFFIX))
            paths += [os.path.join(self._directory, name) for name in more]
        return paths

    def _look(self) -> list[tuple[str, int, int, int]]:
        seen = []
        for path in self._paths():
            with suppress(OSError):
                status = os.stat(path)
                seen.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
        return seen

    def _find_links(self) -> bool:
        return any(os.path.islink(path) for path in (self._directory, *self._paths()))


class _Inotify:
    _EVENT = struct.Struct("iIII")
    _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x4, 0x8, 0x40, 0x80
    _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF, _ONLYDIR = 0x100, 0x200, 0x400, 0x800, 0x1000000
    # Not IN_MODIFY: the database beside the files is written all the time.
    _MASK = _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def watch(self, directory: str) -> bool:
        """Harmless to repeat. False when the limit of watches is reached, or there is no such directory."""
        return bool(self._libc.inotify_add_watch(self.fd, os.fsencode(directory), self._MASK) >= 0)

    def names(self) -> Iterator[str]:
        """The name of each file something happened to; empty for the directory itself."""
        while True:
            try:
                events = os.read(self.fd, 65536)
            except BlockingIOError:
                return
            at = 0
            while at < len(events):
                length = self._EVENT.unpack_from(events, at)[3]
                at += self._EVENT.size + length
                yield os.fsdecode(events[at - length : at].rstrip(b"\0"))


def _open_inotify() -> _Inotify | None:
    try:
        return _Inotify()
    except (AttributeError, OSError):
        return None


class _ExitQueue:
    """Ends of processes that need not be our children, from kqueue."""

    # What `select` has depends on the system, and the types are those of Linux.
    def __init__(self) -> None:
        self._queue: Any = select.kqueue()  # type: ignore[attr-defined]
        self.fd: int = self._queue.fileno()

    def add(self, pid: int) -> bool:
        """False when there is no such process."""
        kind, asked = select.KQ_FILTER_PROC, select.KQ_NOTE_EXIT  # type: ignore[attr-defined]
        flags = select.KQ_EV_ADD | select.KQ_EV_ONESHOT  # type: ignore[attr-defined]
        try:
            self._queue.control([select.kevent(pid, kind, flags, asked)], 0)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def read(self) -> set[int]:
        return {event.ident for event in self._queue.control(None, 1024, 0)}

    def close(self) -> None:
        self._queue.close()


def can_watch() -> bool | None:
    """Whether one more watcher of files could be had now; None: this system has others, and no limit to them."""
    if hasattr(select, "kqueue"):
        return None
    inotify = _open_inotify()
    if inotify is None:
        return False
    is_watching = inotify.watch("/")
    os.close(inotify.fd)
    return is_watching


def is_reachable(home: str) -> bool:
    """Whether the home's socket has an address that is short enough here."""
    try:
        with _address(home) as address:
            return len(os.fsencode(address)) <= _LONGEST_ADDRESS and os.path.isdir(os.path.dirname(address))
    except OSError:
        return False


def wake(home: str) -> bool:
    """Ask whoever watches this home to look; False when nobody does."""
    try:
        with _address(home) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            sender.sendto(b"\n", address)
    except BlockingIOError:
        # So many are asking already that this one need not.
        return True
    except OSError:
        return False
    return True


def _bind(home: str) -> socket.socket | None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.settimeout(0)
    try:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(home, SOCKET))
        with _address(home) as address:
            listening.bind(address)
        os.chmod(os.path.join(home, SOCKET), 0o600)
    except OSError:
        # A file system without sockets, or a path too long for one.
        listening.close()
        return None
    return listening


def _identity(home: str) -> tuple[int, int] | None:
    """Tells one socket of a home from another; None when there is none."""
    try:
        found = os.stat(os.path.join(home, SOCKET))
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def _address(home: str) -> Iterator[str]:
    """The path of the home's socket in a form short enough for an address. Raises OSError where there is none."""
    path = os.path.join(home, SOCKET)
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield path
        return
    directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{SOCKET}"
    finally:
        os.close(directory)


def _drain(listening: socket.socket) -> bool:
    """True when there was anything. Bounded, so that nobody can keep us reading: what is left wakes us again."""
    for count in range(_MOST_REQUESTS):
        try:
            listening.recv(16)
        except BlockingIOError:
            return count > 0
    return True
