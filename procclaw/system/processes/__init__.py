"""The operating system's processes: starting an attempt exactly once, knowing how it ended, signalling only it.

The one outside thing that the modules of this package share, and the only place that speaks of signals, descriptors and
/proc. `Processes` fulfils `engine.world.Processes` on a real machine. It decides nothing; what it reports was true at
the moment of looking.

A pid alone is never trusted. A shim is known by its record's lock, or by pid and start time within the boot that the
attempt names; a member of an attempt by the evidence that `members` describes.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NoReturn

from procclaw.model.errors import ProcclawError
from procclaw.model.outside import (
    Launch,
    Launched,
    LaunchRefused,
    LaunchUndecided,
    Measure,
    Process,
    RecordPhase,
    Sight,
)
from procclaw.model.records import Attempt
from procclaw.system.processes.children import Children
from procclaw.system.processes.commands import CommandResult, detach, is_marked, reexec_without_mark, run_command
from procclaw.system.processes.freezing import frozen_writers
from procclaw.system.processes.members import Found, Sought, find_members
from procclaw.system.processes.privileges import SessionNiceness, at_niceness, identity_of
from procclaw.system.processes.records import Records
from procclaw.system.processes.shim import RECORD_FD, first_program, shell_argv
from procclaw.system.processes.signals import SignalBytes, open_exit_handle, signal_process, signal_tree
from procclaw.system.processes.sockets import Address, owner_of
from procclaw.system.processes.spawning import (
    LOCK_FD,
    DescriptorLimit,
    Descriptors,
    Relay,
    close_on_exec,
    refusal,
    spawn_shim,
)
from procclaw.system.processes.table import (
    MARK,
    boot_id,
    command_line,
    has_proc,
    process_table,
    started_within,
)

__all__ = [
    "MARK",
    "CommandResult",
    "Processes",
    "SignalBytes",
    "detach",
    "first_program",
    "frozen_writers",
    "is_marked",
    "reexec_without_mark",
    "run_command",
    "shell_argv",
]


class Processes:
    def __init__(self, home: str) -> None:
        self._logs = os.path.join(home, "logs")
        self._records = Records(os.path.join(home, "records"))
        self._table = process_table()
        self._boot_id = boot_id()
        self._limit = DescriptorLimit()
        self._relay = Relay()
        self._children = Children()
        self._sessions = SessionNiceness(self._table)
        self._shims: dict[str, int] = {}
        """By record, the pids of shims that were alive when last looked at; all in their sessions belongs to them."""
        self._mixed_groups: frozenset[int] = frozenset()
        self._found: dict[str, frozenset[tuple[int, int]]] = {}
        """By record, its attempt's members when last looked for."""
        close_on_exec()

    def boot_id(self) -> str:
        return self._boot_id

    def create_record(self, record: str) -> None:
        self._records.create(record)

    def remove_record(self, record: str) -> None:
        self._records.remove(record)
        self._shims.pop(record, None)
        self._found.pop(record, None)

    def records(self) -> tuple[str, ...]:
        return self._records.names()

    def foreign_records(self) -> tuple[str, ...]:
        return self._records.foreign()

    def shim_start_ticks(self, record: str, pid: int) -> int | None:
        """When the shim that holds a record was started; None: it does not have the pid which the record names.

        Bytes may have been written over; who has the record open is what counts. The lock alone does not tell who.
        """
        if has_proc() and not self._records.is_held_open(record, f"/proc/{pid}/fd/{RECORD_FD}"):
            return None
        ticks = self.start_ticks(pid)
        return ticks if self.sight(record).phase is RecordPhase.LOCKED else None

    def note_commit(self, at: datetime) -> None:
        self._records.note_commit(at)

    def noted_commit(self) -> datetime | None:
        return self._records.noted_commit()

    def sight(self, record: str) -> Sight:
        sight = self._records.sight(record)
        self._remember(record, sight.pid if sight.phase is RecordPhase.LOCKED else None)
        return sight

    def launch(self, launch: Launch) -> Launched | LaunchRefused | LaunchUndecided:
        """If we die before the shim is spawned, the lock goes with us and the record is blank: it was never started. If
        we die after, the shim holds the lock, and whoever looks next finds it alive and its pid in the record."""
        try:
            with Descriptors() as descriptors:
                record = self._records.claim(launch.record)
                if record is None:
                    return LaunchUndecided()
                return self._spawn(self._with_log_paths(launch), descriptors.keep(record), descriptors)
        except (OSError, ValueError, ProcclawError) as error:
            return refusal(error)

    def start_ticks(self, pid: int) -> int | None:
        row = self._table.row(pid)
        return None if row is None or row.is_dead else row.start_ticks

    def is_led(self, pid: int, start_ticks: int) -> bool:
        """Whether that very process lives, and its first thread with it.

        One that is killed loses that thread first, and has its files open and locked until the last one is gone.
        """
        row = self._table.row(pid)
        return row is not None and row.start_ticks == start_ticks and not row.is_leaderless

    def process_of(self, pid: int) -> Process | None:
        """The process that has `pid` now, with its name."""
        row = self._table.row(pid)
        return None if row is None or row.is_dead else Process(pid, row.start_ticks, row.command)

    def argv_of(self, pid: int) -> tuple[str, ...]:
        """The command line of a process; empty: it is gone, or the system does not tell."""
        return command_line(pid)

    def names(self) -> frozenset[str]:
        """What the processes of the machine are called, as far as this one may see them."""
        return frozenset(row.command for row in self._table.rows(0, (), ()).values())

    def started_within(self, folder: str) -> tuple[Process, ...]:
        """What lives of jobs whose home is that folder or lies in it, shims too, whatever their attempts have come to.

        Nothing where the system does not tell (no /proc).
        """
        return tuple(Process(row.pid, row.start_ticks, row.command) for row in started_within(folder))

    def signal_process(self, process: Process, signum: int) -> bool:
        """True when it was sent: the process lives, is still the same one, and is neither init nor this process."""
        return signal_process(self._table, process, signum)

    def members(self, attempts: Sequence[Attempt]) -> Mapping[str, tuple[Process, ...]]:
        return self._look_for(attempts).members()

    def measure(self, attempts: Sequence[Attempt]) -> Mapping[str, Measure]:
        return self._look_for(attempts).measures()

    def signal_attempt(self, attempt: Attempt, members: Sequence[Process], signum: int) -> None:
        one = self._sought(attempt)
        shim = None if one.shim is None or one.start_ticks is None else Process(one.shim, one.start_ticks)
        signal_tree(self._table, shim, members, signum, is_group_ours=one.shim not in self._mixed_groups)

    def memory_mb(self, pid: int) -> float | None:
        """What a process has resident now; None: it is gone, or the system does not tell."""
        row = self._table.row(pid)
        return None if row is None else row.memory_mb

    def peak_rss_mb(self, pid: int) -> float | None:
        return self._children.peak_rss_mb(pid)

    def reap(self) -> None:
        """Collect our own children that have ended; a zombie would otherwise stay for as long as we live."""
        self._sessions.settle()
        self._children.reap()

    def exit_handle(self, pid: int, start_ticks: int) -> int | None:
        """A descriptor that becomes readable when the process has ended; the caller closes it.

        None when it has ended already or the system has no such descriptors (left): then look now and again.
        """
        handle = open_exit_handle(self._table, Process(pid, start_ticks))
        if handle is not None:
            # A shim from before we re-executed ourselves is our child without our having spawned it.
            self._children.add(pid)
        return handle

    def socket_owner(self, ours: Address, theirs: Address) -> int | None:
        """The uid at the other end of a connection on this machine; None: no process has it open.

        `ours` and `theirs` are the addresses as our end sees them, and the answer counts if the connection is up
        afterwards. Raises Untold where the system does not tell.
        """
        return owner_of(ours, theirs)

    def raise_descriptor_limit(self) -> int:
        """Raise our own soft limit as far as it goes and return it; jobs keep what it was."""
        return self._limit.raise_for_us()

    def read_ahead(self) -> None:
        """Read now what a later launch would read from our package, which may be replaced while we run."""
        self._relay.read_ahead()

    def reexec(self, argv: Sequence[str]) -> NoReturn:
        """Become another program that keeps our children, under the descriptor limit that we were started with."""
        self._limit.restore()
        os.execv(argv[0], list(argv))

    def _spawn(self, launch: Launch, record: int, descriptors: Descriptors) -> Launched:
        mark = _mark_of(launch.record)
        identity = identity_of(launch.user, launch.group)
        # With a relay too: what is wrong with a log is then known before anything has started.
        stdout, stderr = descriptors.log(launch.stdout), descriptors.log(launch.stderr)
        if launch.timestamps:
            # If we die between the two, the relay finds its pipes closed, ends, and the record is blank and free.
            relay, stdout, stderr = self._relay.spawn(launch, mark, record, descriptors)
            self._children.add(relay)
        inherited = {1: stdout, 2: stderr, RECORD_FD: record}
        if launch.lock_fd is not None:
            inherited[LOCK_FD] = descriptors.copy(launch.lock_fd, above=LOCK_FD)
        with at_niceness(launch.nice) as prefix:
            niced = launch._replace(argv=(*prefix, *launch.argv))
            pid = spawn_shim(niced, mark, inherited, self._limit.for_jobs(), identity)
        self._children.add(pid)
        self._remember(launch.record, pid)
        row = self._table.row(pid)
        # It may have ended already, but it cannot be gone before we have reaped it.
        assert row is not None
        # A new session has 0.
        if launch.nice:
            self._sessions.set(Process(pid, row.start_ticks), launch.nice)
        return Launched(pid, row.start_ticks)

    def _look_for(self, attempts: Sequence[Attempt]) -> Found:
        sought = [self._sought(attempt) for attempt in attempts]
        asked = {attempt.record for attempt in attempts}
        strange_sessions = frozenset(pid for record, pid in tuple(self._shims.items()) if record not in asked)
        found = find_members(self._table, sought, strange_sessions)
        members = found.members()
        for attempt in attempts:
            self._found[attempt.record] = frozenset((each.pid, each.start_ticks) for each in members[attempt.id])
        looked_at = {one.shim for one in sought}
        self._mixed_groups = (self._mixed_groups - looked_at) | found.mixed_groups
        return found

    def _with_log_paths(self, launch: Launch) -> Launch:
        return launch._replace(
            stdout=os.path.join(self._logs, launch.stdout), stderr=os.path.join(self._logs, launch.stderr)
        )

    def _sought(self, attempt: Attempt) -> Sought:
        pid, start_ticks = attempt.pid, attempt.start_ticks
        if attempt.boot_id != self._boot_id:
            pid = start_ticks = None
        elif pid is None or start_ticks is None:
            # The manager died between the spawn and its commit: the record has the pid, and its lock vouches for it.
            sight = self.sight(attempt.record)
            pid = sight.pid
            is_locked = sight.phase is RecordPhase.LOCKED
            start_ticks = self.shim_start_ticks(attempt.record, pid) if pid is not None and is_locked else None
            if is_locked and start_ticks is None:
                pid = None
        return Sought(attempt.id, attempt.mark, pid, start_ticks, self._found.get(attempt.record, frozenset()))

    def _remember(self, record: str, shim: int | None) -> None:
        if shim is None:
            self._shims.pop(record, None)
        else:
            self._shims[record] = shim


def _mark_of(record: str) -> str:
    return record.rpartition(".")[2]
