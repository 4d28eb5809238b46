"""Stopping the writers of a file for a moment, without the risk of leaving them stopped.

Before anybody is stopped a guard is started: a shell in a session of its own that reads from a pipe whose other end we
hold. If we die in whatever way, the pipe ends and the guard continues everyone. If we live, it is told to go.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from procclaw.model.outside import Process
from procclaw.system.processes.shim import SHELL
from procclaw.system.processes.signals import signal_process
from procclaw.system.processes.spawning import Descriptors, spawn
from procclaw.system.processes.table import ProcTable

_GUARD = 'read -r done || kill -CONT "$@"'
_PATIENCE_SECONDS = 0.5
"""How long writers may take to stop: one that sleeps in the kernel does not, and the others must not wait for it."""
_POLL_SECONDS = 0.0005
_ROUNDS = 5


@contextlib.contextmanager
def frozen_writers(path: str) -> Iterator[bool]:
    """Every process that has `path` open for writing stands still inside the block.

    Gives False, and nothing is stopped, when that cannot be promised: a writer did not stop in time, kept forking, or
    is this very process. Linux only; elsewhere it always gives False.
    """
    with contextlib.ExitStack() as stack:
        yield _freeze(path, stack)


def _freeze(path: str, stack: contextlib.ExitStack) -> bool:
    if not os.path.exists("/proc/self/fdinfo"):
        return False
    table = ProcTable()
    file = os.stat(path)
    looked_at: set[str] = set()
    attempt = contextlib.ExitStack()
    with attempt:
        for _ in range(_ROUNDS):
            # Only a fork of a writer could have brought a new one, so later rounds look at new processes alone.
            fresh = [name for name in os.listdir("/proc") if name.isdigit() and name not in looked_at]
            looked_at.update(fresh)
            writers = [int(name) for name in fresh if _has_open_for_writing(name, file)]
            if not writers:
                stack.push(attempt.pop_all())
                return True
            if os.getpid() in writers:
                return False
            rows = [row for row in map(table.row, writers) if row is not None and not row.is_dead]
            # Who stands still already was stopped by somebody else, and is not ours to continue.
            moving = [Process(row.pid, row.start_ticks) for row in rows if not row.is_stopped]
            attempt.enter_context(_stopped(table, moving))
            if not _wait_until_all_stand(moving):
                return False
    return False


@contextlib.contextmanager
def _stopped(table: ProcTable, processes: list[Process]) -> Iterator[None]:
    with Descriptors() as descriptors:
        guarded, lifeline = descriptors.pipe()
        null = descriptors.keep(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        argv = [SHELL, "-c", _GUARD, "procclaw-guard", *(str(process.pid) for process in processes)]
        guard = spawn(argv, {}, {0: guarded, 1: null, 2: null})
        try:
            for process in processes:
                signal_process(table, process, signal.SIGSTOP)
            yield
        finally:
            for process in processes:
                signal_process(table, process, signal.SIGCONT)
            os.write(lifeline, b"\n")
            os.waitpid(guard, 0)


def _wait_until_all_stand(processes: list[Process]) -> bool:
    # SIGSTOP is asynchronous: a thread in the middle of a write finishes it first.
    for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
        if all(_stands(process.pid) for process in processes):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _stands(pid: int) -> bool:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        states = [_state(f"/proc/{pid}/task/{thread}/stat") for thread in threads]
    except (FileNotFoundError, ProcessLookupError):
        return not os.path.exists(f"/proc/{pid}/task")
    return all(state in b"TtZX" for state in states)


def _state(stat: str) -> bytes:
    with open(stat, "rb") as opened:
        return opened.read(512).rpartition(b")")[2].split()[0]


def _has_open_for_writing(pid: str, file: os.stat_result) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        # Another user's process, or gone.
        return False
    return any(_writes_to(pid, number, file) for number in numbers)


def _writes_to(pid: str, number: str, file: os.stat_result) -> bool:
    opened = f"/proc/{pid}/fd/{number}"
    try:
        # The cheap questions first; and `stat` last, because on a dead network file system it would hang.
        if not os.readlink(opened).startswith("/"):
            return False
        with open(f"/proc/{pid}/fdinfo/{number}", "rb") as info:
            told = dict(line.split(b":", 1) for line in info if b":" in line)
        is_for_writing = int(told[b"flags"], 8) & os.O_ACCMODE != os.O_RDONLY
        if not is_for_writing or int(told.get(b"ino", file.st_ino)) != file.st_ino:
            return False
        status = os.stat(opened)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (file.st_dev, file.st_ino)
