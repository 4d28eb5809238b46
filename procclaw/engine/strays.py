"""Records that the database does not know: what an older, restored database has forgotten, or what a crash left over.

A job's process must never run uncounted, so a record that speaks of a start gets its run and attempt rows back; the
next decision treats them like any others. A blank one belongs to nothing and goes. One that contradicts what is seen to
live is not believed, and left alone.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from procclaw.model.outside import RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, Terms, Trigger
from procclaw.model.rows import Row
from procclaw.model.spec import JobType, Leftovers, Spec
from procclaw.planning.outcome import End, ended, finished, natural_end
from procclaw.system.store import Store

_ENDED_UNSEEN = End(Reason.LOST, None, None, None)
_UNKNOWN_TERMS = Terms(15, 60.0, Leftovers.STOP, (0,), None, "")


class _Name(NamedTuple):
    job_id: str
    run_id: str
    number: int
    mark: str


def adopted(
    store: Store,
    spec: Spec,
    record: str,
    sight: Sight,
    boot_id: str,
    now: datetime,
    look: Callable[[Attempt], Sight],
) -> list[Row] | None:
    """The rows that make a stray record known again; none when it is to be deleted, None when it is to be left alone.

    `look`: what there is to be seen of an attempt.
    """
    name = _parsed(record)
    if name is None or sight.phase in (RecordPhase.BLANK, RecordPhase.MISSING):
        return []
    run = store.run(name.run_id)
    earlier = store.attempts(name.run_id)
    if any(attempt.mark == name.mark and attempt.ended_at is not None for attempt in earlier):
        return []  # its end is recorded; only the deletion is outstanding
    is_anothers = run is not None and run.job_id != name.job_id
    open_ones = [(attempt, look(attempt)) for attempt in earlier if attempt.ended_at is None]
    if is_anothers or any(seen.phase is RecordPhase.LOCKED for _, seen in open_ones):
        # To believe it would mean to lose sight of a process that is there, or of whose it is.
        return None
    # A run has one live attempt: what the older database took for it, or was found before this one, has ended since.
    rows: list[Row] = [
        ended(attempt, natural_end(attempt, seen, boot_id) or _ENDED_UNSEEN, now) for attempt, seen in open_ones
    ]
    job = spec.jobs.get(name.job_id)
    is_continuous = job is not None and job.type is JobType.CONTINUOUS
    if run is None:
        trigger = Trigger.CONTINUOUS if is_continuous else Trigger.MANUAL
        rows += [
            finished(other.run, RunState.STOPPED, Reason.RESTORED, now)
            for other in store.job_states([name.job_id])[name.job_id].active
            if is_continuous and other.live is None
        ]
        # What is over began before anybody looked, and nobody knows when.
        began_at = now if sight.phase is RecordPhase.LOCKED else sight.exited_at
        occasion = f"record:{name.mark}"
        run = Run(name.run_id, name.job_id, occasion, trigger, RunState.RUNNING, now, now, started_at=began_at)
    hash_now = "" if job is None else job.process_hash
    attempts = max(run.attempts, name.number)
    run = run._replace(state=RunState.RUNNING, finished_at=None, reason=None, attempts=attempts, process_hash=hash_now)
    run = run._replace(boot_id=boot_id)
    terms = _UNKNOWN_TERMS
    if job is not None:
        # Whether it runs the present text is not known; to restart it on a guess would be worse than to leave it.
        shutdown = job.shutdown
        success, limit = job.success_exit_codes, job.timeout_seconds
        how = (shutdown.signal, shutdown.grace_seconds, shutdown.leftovers)
        terms = Terms(*how, success, limit, hash_now, job.queue)
    attempt_id = f"{name.run_id}.{name.number}"
    rows += [run, Attempt(attempt_id, name.run_id, name.job_id, name.number, name.mark, boot_id, now, terms)]
    return rows


def in_turn(records: Iterable[str]) -> list[str]:
    """Those of one run in the order of its attempts: the last one says what becomes of the run."""
    names = ((_parsed(record), record) for record in records)
    return [record for _, record in sorted(names, key=lambda each: (each[0] or _Name("", "", 0, ""), each[1]))]


def _parsed(record: str) -> _Name | None:
    parts = record.split(".")
    if len(parts) != 4 or not all(parts) or not (parts[2].isascii() and parts[2].isdigit()):
        return None
    return _Name(parts[0], parts[1], int(parts[2]), parts[3])
