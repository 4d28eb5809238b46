"""How far the bring-up of continuous jobs has come: how many are up, and what each of the others waits for."""

from collections.abc import Iterable
from typing import NamedTuple

from procclaw.interface.console import shown, with_local_times
from procclaw.planning.views import View

_MOST_NAMED = 3
"""Of those that wait: they may be many, and wait for each other."""
_HELD = frozenset({"paused", "disabled"})


class BringUp(NamedTuple):
    wanted: int
    """Continuous jobs that nobody holds back."""
    waiting: tuple[str, ...]
    """Those that are on their way, and what they wait for."""
    failed: tuple[str, ...]
    """Those that nothing more is to come of, and why."""
    held: tuple[str, ...] = ()
    """Those that somebody holds back, and who."""

    @property
    def is_settled(self) -> bool:
        return not self.waiting

    @property
    def is_done(self) -> bool:
        return not self.waiting and not self.failed

    @property
    def up(self) -> int:
        return self.wanted - len(self.waiting) - len(self.failed)

    @property
    def told(self) -> str:
        more = len(self.waiting) - _MOST_NAMED
        waiting = (*self.waiting[:_MOST_NAMED], *((f"{more} more wait",) if more > 0 else ()))
        return "; ".join((f"{self.up}/{self.wanted} up", *self.failed, *waiting, *self.held))


def bring_up_of(jobs: Iterable[View]) -> BringUp:
    continuous = [job for job in jobs if job["type"] == "continuous"]
    wanted = [job for job in continuous if not _is_held(job)]
    held = tuple(f"{job['id']} stays down: {_reason(job)}" for job in continuous if _is_held(job))
    failed = tuple(f"{job['id']} has failed: {_reason(job)}" for job in wanted if job["status"] == "failed")
    waiting = tuple(_lack(job) for job in wanted if job["status"] != "failed" and not _is_up(job))
    return BringUp(len(wanted), waiting, failed, held)


def _is_held(job: View) -> bool:
    # What has ended by itself and is not to come back is stopped as well, but nothing is said against it.
    return job["status"] in _HELD or (job["status"] == "stopped" and job["reason"] is not None)


def _is_up(job: View) -> bool:
    """Whether nothing more is to be waited for: it is well, or has done what it was for."""
    is_well = job["health"] in (None, "healthy")
    return job["status"] == "stopped" or (job["status"] == "running" and is_well)


def _lack(job: View) -> str:
    if job["status"] == "running":
        return f"{job['id']} is not healthy yet" + (f": {_reason(job)}" if job["reason"] else "")
    return f"{job['id']} waits: {_reason(job)}"


def _reason(job: View) -> str:
    return shown(with_local_times(job["reason"] or job["status"]))
