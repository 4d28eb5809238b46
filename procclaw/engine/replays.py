"""Replays: what recorded cycles saw and decided, and what this version makes of it. Looking only."""

from datetime import datetime

from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.engine.stored import spec_of
from procclaw.model.clock import iso
from procclaw.model.errors import NotFound
from procclaw.model.records import CycleRecord
from procclaw.planning.recording import Unreadable, unpacked
from procclaw.planning.replaying import replay_view
from procclaw.planning.views import View


class Replays:
    def __init__(self, home: Home, operations: Operations) -> None:
        self._store = home.store
        self._operations = operations

    def newest(self) -> View:
        """Of the last cycle that acted. Raises NotFound."""
        return _listed([self._view(self._known(None))], 1)

    def at(self, moment: datetime) -> View:
        """Of the last cycle that acted, at that moment or before it. Raises NotFound."""
        return _listed([self._view(self._known(moment))], 1)

    def about(self, run_id: str, limit: int) -> View:
        """Of the newest cycles that decided something about that run (its id or a beginning of it), oldest first.

        Raises NotFound.
        """
        run = self._operations.run(run_id)
        found = self._store.cycles.about(run.id, limit)
        if not found:
            since = self._store.cycles.since()
            kept = "no cycle has been recorded yet" if since is None else f"cycles are kept since {iso(since)}"
            raise NotFound(f'no recorded cycle is about run "{run.id}" of {run.job_id}: {kept}')
        return _listed(list(map(self._view, found)), self._store.cycles.count(run.id))

    def _known(self, moment: datetime | None) -> CycleRecord:
        found = self._store.cycles.at(moment)
        if found is not None:
            return found
        since = self._store.cycles.since()
        if since is None or moment is None:
            raise NotFound("no cycle has been recorded yet: one is with the next that acts, such as that of a start")
        raise NotFound(
            f"no cycle is recorded at {iso(moment)} or before: the oldest is of {iso(since)}; ask for a time since then"
        )

    def _view(self, cycle: CycleRecord) -> View:
        document = self._store.cycles.spec_of(cycle)
        if document is None:
            raise NotFound(
                f"cycle {cycle.id} of {iso(cycle.at)} cannot be replayed: its configuration is no longer kept; "
                "ask for a later one"
            )
        try:
            recorded = unpacked(cycle.body)
            spec = spec_of(document, cycle.spec_hash)
        except (Unreadable, KeyError, TypeError, ValueError) as error:
            raise NotFound(
                f"cycle {cycle.id} of {iso(cycle.at)} was recorded by a version that this one cannot read ({error}); "
                "use that version, or ask for a later one"
            ) from error
        return {"cycle": cycle.id, **replay_view(spec, recorded)}


def _listed(found: list[View], total: int) -> View:
    return {"cycles": found, "total": total}
