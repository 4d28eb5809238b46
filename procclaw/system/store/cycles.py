"""Recorded cycles, as `procclaw replay` asks for them, and the configurations they were decided by.

They are written like any other row, in the transaction of what they decided. A configuration that is replaced is kept
for as long as a cycle needs it; how many cycles there are is for `retention` and the schema to see to.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from procclaw.model.clock import from_microseconds, to_microseconds
from procclaw.model.records import CycleRecord
from procclaw.system.store.database import Database
from procclaw.system.store.tables import CYCLES

_QUICK = 1
"""zlib's level: a configuration of 500 jobs takes it 5 ms, and level 6 four times as long."""


def keep_past_spec(db: Database, in_force: str | None, document: Mapping[str, Any]) -> None:
    """Keep the document of the configuration that is in force, if a recorded cycle needs it. In a transaction."""
    from zlib import compress

    if not db.execute("SELECT 1 FROM cycles WHERE spec_hash = ? LIMIT 1", (in_force,)).fetchone():
        return
    text = compress(json.dumps(document, separators=(",", ":")).encode(), _QUICK)
    db.execute("INSERT OR REPLACE INTO past_specs (hash, document) VALUES (?, ?)", (in_force, text))


class Cycles:
    def __init__(self, db: Database) -> None:
        self._db = db

    def at(self, moment: datetime | None) -> CycleRecord | None:
        """The last recorded cycle at that moment or before it (None: of all)."""
        where = "ORDER BY id DESC" if moment is None else "WHERE at <= ? ORDER BY at DESC, id DESC"
        rows = self._db.read(
            f"SELECT {CYCLES.columns} FROM cycles {where} LIMIT 1",
            () if moment is None else (to_microseconds(moment),),
        )
        found: CycleRecord | None = CYCLES.read(rows[0]) if rows else None
        return found

    def about(self, run_id: str, limit: int) -> tuple[CycleRecord, ...]:
        """The newest recorded cycles that decided something about that run, oldest first."""
        rows = self._db.read(
            f"SELECT {CYCLES.columns} FROM cycles WHERE ? IN (SELECT value FROM json_each(cycles.runs)) "
            "ORDER BY id DESC LIMIT ?",
            (run_id, limit),
        )
        return tuple(CYCLES.read(row) for row in reversed(rows))

    def count(self, run_id: str) -> int:
        """How many recorded cycles decided something about that run."""
        about = "SELECT count(*) FROM cycles WHERE ? IN (SELECT value FROM json_each(cycles.runs))"
        return int(self._db.read(about, (run_id,))[0][0])

    def since(self) -> datetime | None:
        """The earliest moment of a recorded cycle; None: none is recorded."""
        at = self._db.read("SELECT min(at) FROM cycles")[0][0]
        return None if at is None else from_microseconds(at)

    def spec_of(self, cycle: CycleRecord) -> dict[str, Any] | None:
        """The document of the configuration that a recorded cycle was decided by; None: it is no longer kept."""
        rows = self._db.read("SELECT document FROM specs WHERE hash = ?", (cycle.spec_hash,))
        if rows:
            return dict(json.loads(rows[0][0]))
        rows = self._db.read("SELECT document FROM past_specs WHERE hash = ?", (cycle.spec_hash,))
        if not rows:
            return None
        from zlib import decompress

        return dict(json.loads(decompress(rows[0][0])))
