"""Which processes belong to which attempt, and what they use.

Four kinds of evidence, the strongest first. A process that carries an attempt's mark in its environment belongs to that
attempt and to no other, whatever its session and parents. Without a mark it belongs to the attempt that an earlier look
found it to belong to, even if its parent has gone since; or whose shim leads its session or process group; and failing
that to whatever its parent belongs to. Session and group count only while no stranger has the shim's pid: the kernel
gives that number to nobody for as long as anyone is in the session, so a stranger under it proves that the session is
over. So does the shim of a later attempt, also when it is dead like the one before.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from procclaw.model.outside import Measure, Process
from procclaw.system.processes.table import Row, Table


class Sought(NamedTuple):
    """An attempt as far as its processes can be told by it."""

    id: str
    mark: str
    shim: int | None
    """Pid of the shim, dead or alive; None when it is unknown or of another boot."""
    start_ticks: int | None
    """Of the shim; nothing of the attempt can be older. None when only its pid is known and it is dead."""
    found_before: frozenset[tuple[int, int]] = frozenset()
    """By pid and start time, what an earlier look found of it."""


class Found(NamedTuple):
    rows: Mapping[str, tuple[Row, ...]]
    """By attempt id, its processes without the shim, the dead that nobody has waited for yet among them."""
    mixed_groups: frozenset[int]
    """Process groups of shims in which somebody is who must not be signalled: a stranger, or ourselves."""

    def members(self) -> dict[str, tuple[Process, ...]]:
        return {
            attempt: tuple(Process(row.pid, row.start_ticks, row.command) for row in rows if not row.is_dead)
            for attempt, rows in self.rows.items()
        }

    def measures(self) -> dict[str, Measure]:
        # The dead count until their parent has waited for them, and from then on as part of their parent: without them
        # what an attempt has used would fall and jump.
        return {
            attempt: Measure(sum(row.cpu_seconds for row in rows), sum(row.memory_mb for row in rows))
            for attempt, rows in self.rows.items()
            if not all(row.is_dead for row in rows)
        }


def find_members(table: Table, sought: Sequence[Sought], strange_sessions: frozenset[int]) -> Found:
    """One look at the process table; sessions led by the shims of other attempts are skipped without reading them."""
    shims = frozenset(one.shim for one in sought if one.shim is not None)
    since = min((one.start_ticks or 0 for one in sought), default=0)
    rows = table.rows(since, shims, strange_sessions - shims)
    ownership = _Ownership(table, rows, sought)
    found: dict[str, list[Row]] = {one.id: [] for one in sought}
    mixed = {os.getpgrp()} & shims
    for pid in sorted(rows):
        row = rows[pid]
        owner = ownership.of(row)
        if row.group in shims and not row.is_dead and (owner is None or owner.shim != row.group):
            mixed.add(row.group)
        if owner is not None and _is_of(row, owner):
            found[owner.id].append(row)
    return Found({attempt: tuple(rows) for attempt, rows in found.items()}, frozenset(mixed))


def _is_of(row: Row, owner: Sought) -> bool:
    is_shim = row.pid == owner.shim and (row.is_dead or row.start_ticks == owner.start_ticks)
    is_older = row.start_ticks < (owner.start_ticks or 0)
    return row.pid > 1 and row.pid != os.getpid() and not (is_shim or is_older)


class _Ownership:
    def __init__(self, table: Table, rows: Mapping[int, Row], sought: Sequence[Sought]) -> None:
        self._table = table
        self._rows = rows
        self._by_mark = {one.mark: one for one in sought}
        in_turn = sorted(sought, key=lambda one: one.start_ticks or 0)
        self._by_shim = {one.shim: one for one in in_turn if one.shim is not None and _is_undisputed(one, rows)}
        self._by_process = {process: one for one in sought for process in one.found_before}
        # What ProcClaw runs for itself is nobody's, even where ProcClaw itself is a job's process.
        self._known: dict[int, Sought | None] = {os.getpid(): None}

    def of(self, row: Row) -> Sought | None:
        climbed = []
        owner = None
        while row.pid not in self._known:
            # Rows are read one after the other, so parents may form a ring; it ends here, as nobody's.
            self._known[row.pid] = None
            climbed.append(row.pid)
            mark = self._table.mark(row)
            if mark is not None:
                owner = self._by_mark.get(mark)
                break
            owner = (
                self._by_process.get((row.pid, row.start_ticks))
                or self._by_shim.get(row.session)
                or self._by_shim.get(row.group)
            )
            parent = self._rows.get(row.parent)
            if owner is not None or parent is None:
                break
            row = parent
        else:
            owner = self._known[row.pid]
        for pid in climbed:
            self._known[pid] = owner
        return owner


def _is_undisputed(one: Sought, rows: Mapping[int, Row]) -> bool:
    row = rows.get(one.shim or 0)
    return row is None or row.start_ticks == one.start_ticks
