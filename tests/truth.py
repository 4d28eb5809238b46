"""What the machine itself says about the conditions of a start: places taken, locks held, dependencies met.

Two questions are asked of a condition, because the product decides at the begin of a cycle and the world moves on
meanwhile: whether it can have held since then (a run has started), and whether it certainly holds (a run still waits).
Between the two lies what nobody can blame anybody for.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from procclaw.model.document import Document
from procclaw.model.records import HoldKind, Terms
from tests.lives import SECOND, Life
from tests.outside import Outside

ONE_JOB: Document = {"jobs": {}, "queues": {}, "workflows": {}, "config": {"daemon": {"max_parallel": None}}}
_PATIENCE = 3 * SECOND // 2
"""A lock is tried once a second; nothing tells when it was let go."""


class Needed(NamedTuple):
    job_id: str
    condition: str
    timeout: float | None


_QUEUE = f"json_extract(a.terms, '$[{Terms._fields.index('queue')}]')"
"""SQL: where an attempt has its place."""


class Truth:
    def __init__(self, outside: Outside, look: Callable[[str], list[Any]]) -> None:
        self._outside = outside
        self._machine = outside.machine
        self._looked = look
        self.document: Document = ONE_JOB
        """The configuration in force."""
        self.since = 0
        """When the cycle under way began."""

    @property
    def jobs(self) -> Document:
        jobs: Document = self.document["jobs"]
        return jobs

    def lives_of(self, job_id: str) -> list[Life]:
        """The newest first: after an older database was put back, one name may stand for several."""
        return [life for life in reversed(self._machine.lives.values()) if life.job_id == job_id]

    # --- places ---

    def limit_of(self, job_id: str) -> int:
        job = self.jobs[job_id]
        return 1 if job["type"] == "continuous" else int(job["concurrency"]["max_instances"])

    def queue_limit(self, queue: str) -> int:
        return int(self.document["queues"].get(queue, {"limit": 1})["limit"])

    @property
    def most_parallel(self) -> int | None:
        limit: int | None = self.document["config"]["daemon"]["max_parallel"]
        return limit

    def in_queue(self, queue: str) -> list[Life]:
        """Whoever began in a queue has its place there, wherever its job belongs now."""
        began_in = dict(self._looked(f"SELECT mark, {_QUEUE} FROM attempts a WHERE ended_at IS NULL"))
        return [life for life in self.that_end() if self._place(life.job_id, began_in.get(life.mark)) == queue]

    def _place(self, job_id: str, began_in: str | None) -> str | None:
        queue: str | None = began_in or self.jobs.get(job_id, {}).get("queue")
        return queue

    def that_end(self) -> list[Life]:
        """The living attempts of runs that end by themselves."""
        return [life for life in self._machine.lives.values() if life.is_alive and life.trigger != "continuous"]

    def lock_of(self, job_id: str) -> str | None:
        lock = self.jobs[job_id]["lock"]
        return f"{lock['provider']}:{lock['path'] or ''}:{lock['name']}" if lock["enabled"] else None

    def shared_locks(self) -> list[str]:
        """Those that another home may want as well."""
        names = {self.lock_of(job_id) for job_id, job in self.jobs.items() if job["lock"]["path"] is not None}
        return sorted(name for name in names if name is not None)

    # --- dependencies ---

    def needs(self, job_id: str) -> Iterator[Needed]:
        for each in self.jobs[job_id]["depends_on"]:
            if each["condition"] != "before_complete":
                yield Needed(each["job"], each["condition"], each["timeout"])
        for other, job in self.jobs.items():
            for each in job["depends_on"]:
                if each["condition"] == "before_complete" and each["job"] == job_id:
                    yield Needed(other, "after_complete", each["timeout"])

    def _was_up(self, life: Life) -> bool:
        """Since the cycle under way began."""
        return life.has_processes or life.changed_at >= self.since

    def can_hold(self, needed: Needed, run_id: str, created: int) -> bool:
        """Whether it can have held when it was decided; `created`: when the waiting run was made."""
        job = self.jobs.get(needed.job_id)
        if job is None:
            return False
        lives = self.lives_of(needed.job_id)
        match needed.condition:
            case "after_start":
                is_manual = job["type"] == "manual"
                boot = self._machine.boot
                return (
                    any(self._was_up(life) for life in lives)
                    or any(self._ran_in(boot, life) if is_manual else life.changed_at >= created for life in lives)
                    or self._was_refused(needed.job_id)
                    or self._is_later_by_the_clock(needed.job_id, run_id, is_manual=is_manual)
                )
            case "after_healthy":
                up = [life for life in lives if self._was_up(life)]
                return any(not _is_probed(job) or any(is_ok for _, is_ok in life.answers) for life in up)
            case _:
                is_up = any(life.elapsed_at < self.since and life.main is not None for life in lives)
                return not is_up and self._newest_went_well(needed.job_id, is_manual=job["type"] == "manual")

    def _ran_in(self, boot: int, life: Life) -> bool:
        """What was found again by its record alone may have run in any boot."""
        return life.boot == boot or "is_found_again" in life.facts

    def _is_later_by_the_clock(self, job_id: str, run_id: str, *, is_manual: bool) -> bool:
        """What began before the clock was set back, and the run was made, lies behind both when it is put right."""
        was_set_back = bool(self._machine.trace.met["clock back"])
        return was_set_back and self._has_run_since(job_id, run_id, is_manual=is_manual)

    def _was_refused(self, job_id: str) -> bool:
        """An attempt without a process counts as a start too."""
        return bool(self._looked(f"SELECT 1 FROM attempts WHERE job_id = '{job_id}' AND pid IS NULL LIMIT 1"))

    def _newest_went_well(self, job_id: str, *, is_manual: bool) -> bool:
        found = self._looked(
            f"SELECT id, attempts FROM runs WHERE job_id = '{job_id}' AND finished_at IS NOT NULL AND attempts > 0 "
            "ORDER BY rowid DESC LIMIT 1"
        )
        if not found:
            return False
        run_id, number = found[0]
        life = next((each for each in self.lives_of(job_id) if (each.run_id, each.number) == (run_id, number)), None)
        if life is None:
            return False
        if is_manual and life.boot != self._machine.boot:
            return False
        return life.went_well or bool(life.facts.get("is_record_deleted"))

    def certainly_holds(self, needed: Needed, run_id: str) -> bool:
        """Whether nobody could say at present that it does not."""
        job = self.jobs.get(needed.job_id)
        if job is None:
            return False
        up = [life for life in self.lives_of(needed.job_id) if life.main is not None and life.shim is not None]
        boot = f"boot-{self._machine.boot}"
        match needed.condition:
            case "after_start":
                return bool(up) or self._has_run_since(needed.job_id, run_id, is_manual=job["type"] == "manual")
            case "after_healthy":
                return any(not _is_probed(job) or (life.answers and life.answers[-1][1]) for life in up)
            case _:
                if self.is_active(needed.job_id):
                    return False
                # One that came to nothing says nothing about the job's work.
                newest = self._looked(
                    f"SELECT state, boot_id FROM runs WHERE job_id = '{needed.job_id}' AND finished_at IS NOT NULL "
                    "ORDER BY attempts > 0 DESC, rowid DESC LIMIT 1"
                )
                is_of_now = bool(newest) and (job["type"] != "manual" or newest[0][1] == boot)
                return is_of_now and newest[0][0] == "succeeded"

    def _has_run_since(self, job_id: str, run_id: str, *, is_manual: bool) -> bool:
        boot = f"boot-{self._machine.boot}"
        [(queued_at,)] = self._looked(f"SELECT queued_at FROM runs WHERE id = '{run_id}'")
        # What began later than now began before the clock was set back.
        now = int(self._machine.clock.now().timestamp() * SECOND)
        # And what ended before it began was noted on both sides of a step of the clock.
        since = f"started_at BETWEEN {queued_at} AND {now} AND finished_at >= {queued_at}"
        since = f"boot_id = '{boot}'" if is_manual else since
        return bool(
            self._looked(
                f"SELECT 1 FROM runs WHERE job_id = '{job_id}' AND finished_at IS NOT NULL AND attempts > 0 AND {since}"
            )
        )

    def is_active(self, job_id: str) -> bool:
        return bool(
            self._looked(f"SELECT 1 FROM runs WHERE job_id = '{job_id}' AND finished_at IS NULL AND NOT {self.ahead()}")
        )

    def ahead(self) -> str:
        """SQL: a run that a person planned for a time to come."""
        now = int(self._machine.clock.now().timestamp() * SECOND)
        return f"(trigger = 'eta' AND state = 'queued' AND attempts = 0 AND not_before_at > {now})"

    # --- why a run waits ---

    def why_waiting(self, run_id: str, job_id: str, attempts: int, trigger: str) -> list[str]:
        """Everything that truly keeps a run from starting, holds and times excepted; as words."""
        needs = self.needs(job_id) if attempts == 0 else ()
        reasons = [f"{needed}" for needed in needs if not self.certainly_holds(needed, run_id)]
        queue = self.jobs[job_id]["queue"]
        taken = self._taken()
        if sum(1 for other, *_ in taken if other == job_id) >= self.limit_of(job_id):
            reasons.append("max_instances")
        if trigger != "continuous":
            ending = [self._place(other, began_in) for other, kind, began_in in taken if kind != "continuous"]
            in_queue = [place for place in ending if place == queue]
            if queue is not None and len(in_queue) >= self.queue_limit(queue):
                reasons.append(f"queue {queue}")
            if self.most_parallel is not None and len(ending) >= self.most_parallel:
                reasons.append("max_parallel")
        lock = self.lock_of(job_id)
        if lock is not None and not self._is_long_free(lock):
            reasons.append(f"lock {lock}")
        return reasons

    def _taken(self) -> list[tuple[str, str, str | None]]:
        return self._looked(
            f"SELECT r.job_id, r.trigger, {_QUEUE} FROM attempts a JOIN runs r ON r.id = a.run_id "
            "WHERE a.ended_at IS NULL"
        )

    def _is_long_free(self, lock: str) -> bool:
        if self._outside.holder(lock) is not None:
            return False
        lives = [life for life in self._machine.lives.values() if life.lock == lock]
        newest = max([life.changed_at for life in lives] + [self._outside.elsewhere.get(lock, 0)], default=0)
        return newest + _PATIENCE < self._machine.clock.elapsed

    def is_held(self, job_id: str, holds: set[tuple[str, HoldKind]]) -> bool:
        return (job_id, HoldKind.PAUSE) in holds or (job_id, HoldKind.REVOKE) in holds


def _is_probed(job: Document) -> bool:
    return job["health_check"]["type"] not in ("process", "none")
