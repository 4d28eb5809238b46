"""Neighbourhoods: which jobs a change of one may concern.

Jobs that depend on each other, share a queue or a lock, or are steps of one workflow are planned together; an event
about one of a thousand jobs that have nothing to do with each other plans that one.
"""

from collections.abc import Iterable, Iterator

from procclaw.model.records import Trigger
from procclaw.model.spec import Spec
from procclaw.planning.board import lock_key


def has_left_its_place(spec: Spec, job_id: str, queue: str | None, trigger: Trigger) -> bool:
    """Whether a run with a process, which has a place in `queue`, has one that its job no longer tells of: the job is
    gone, or was declared otherwise meanwhile.
    """
    job = spec.jobs.get(job_id)
    if job is None or trigger is Trigger.CONTINUOUS:
        return job is None
    return queue not in (None, job.queue) or (spec.config.max_parallel is not None and not job.ends_by_itself)


class Neighbourhoods:
    def __init__(self, spec: Spec) -> None:
        self.has_places = spec.config.max_parallel is not None or any(job.queue for job in spec.jobs.values())
        """There are places for which jobs compete that need not know each other."""
        self._leader = {job_id: job_id for job_id in spec.jobs}
        for bond in _bonds(spec):
            self._join([job_id for job_id in bond if job_id in self._leader])
        self._members: dict[str, set[str]] = {}
        for job_id in self._leader:
            self._members.setdefault(self._led_by(job_id), set()).add(job_id)

    def _led_by(self, job_id: str) -> str:
        while self._leader[job_id] != job_id:
            self._leader[job_id] = job_id = self._leader[self._leader[job_id]]
        return job_id

    def _join(self, jobs: list[str]) -> None:
        for job_id in jobs[1:]:
            self._leader[self._led_by(job_id)] = self._led_by(jobs[0])

    def around(self, jobs: Iterable[str]) -> frozenset[str]:
        """These jobs and all that a change of theirs may concern."""
        found: set[str] = set()
        for job_id in jobs:
            found |= self._members[self._led_by(job_id)] if job_id in self._leader else {job_id}
        return frozenset(found)


def _bonds(spec: Spec) -> Iterator[list[str]]:
    shared: dict[str, list[str]] = {}
    for job in spec.jobs.values():
        if job.depends_on:
            yield [job.id, *(dependency.job for dependency in job.depends_on)]
        if job.queue is not None:
            shared.setdefault(f"queue {job.queue}", []).append(job.id)
        if job.lock is not None:
            shared.setdefault(f"lock {lock_key(job.lock)}", []).append(job.id)
        if spec.config.max_parallel is not None and job.ends_by_itself:
            shared.setdefault("parallel", []).append(job.id)
    yield from shared.values()
