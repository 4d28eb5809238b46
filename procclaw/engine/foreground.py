"""What `procclaw up` stays for: the jobs of its home, until they have been stopped or nothing more is to come of them.

The first signal asks for everything to be stopped, dependants first; the second for everything to be killed; the third
is for what cannot be killed, which is left where it is. Whoever dies in between leaves a home that is held, and jobs
that are under orders: the next `up` releases it and begins again.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from procclaw.engine.home import Home
from procclaw.engine.operations import Operations, named
from procclaw.model.intents import Intent, IntentKind
from procclaw.model.records import HOME, Run, RunState
from procclaw.model.spec import JobSpec, JobType, Spec, TriggerType
from procclaw.planning import views
from procclaw.planning.board import Board

_BEGIN_BY_THEMSELVES = frozenset({JobType.CONTINUOUS, JobType.SCHEDULED, JobType.ONESHOT})
_AT_REST = frozenset({"failed", "stopped", "disabled"})
"""Statuses that nothing follows of itself, where nobody holds the job."""


def begins_by_itself(job: JobSpec) -> bool:
    """Whether anything could come of the job without somebody asking for it."""
    has_trigger = any(each.type is TriggerType.FILE for each in job.triggers)
    return job.enabled and (job.type in _BEGIN_BY_THEMSELVES or has_trigger)


def ask_to_stop(home: Home, asker: str, *, force: bool = False) -> None:
    """Have all jobs of the home stopped, and kept so until the next `up`."""
    now = home.clock.now()
    home.store.add_intent(Intent(0, HOME, IntentKind.HOLD_HOME, force, now, asker))


def check_known(spec: Spec, jobs: Iterable[str]) -> None:
    """Raises NotFound for one that is not declared, with what may have been meant."""
    for job_id in jobs:
        named(spec, job_id)


def ask_to_start(home: Home, asker: str, jobs: Iterable[str]) -> None:
    """Have jobs started that do not begin by themselves, or are held; nobody waits for what comes of it."""
    now = home.clock.now()
    for job_id in jobs:
        home.store.add_intent(Intent(0, job_id, IntentKind.START, requested_at=now, requested_by=asker, force=False))


class Foreground:
    """The `Stay` of a loop in the foreground."""

    def __init__(self, home: Home, operations: Operations, asker: str, tell: Callable[[str], None]) -> None:
        """`tell` has a person told of what becomes of a signal."""
        self._home = home
        self._operations = operations
        self._asker = asker
        self._tell = tell
        self._began_at = home.clock.now()
        self._signals = 0

    @property
    def was_interrupted(self) -> bool:
        return self._signals > 0

    def is_interrupted(self) -> bool:
        self._signals += 1
        alive = ", ".join(self.alive())
        if self._signals == 1:
            ask_to_stop(self._home, self._asker)
            self._tell("stopping everything; Ctrl-C again kills what is left")
        elif self._signals == 2:
            ask_to_stop(self._home, self._asker, force=True)
            self._tell(f"killing what is left: {alive}" if alive else "killing what is left")
        else:
            self._tell(f"leaving; still there: {alive}" if alive else "leaving")
        return self._signals > 2

    def is_over(self) -> bool:
        store = self._home.store
        if store.job_states([HOME])[HOME].holds:
            # Answered once nothing is left, or what is left cannot be killed.
            return not store.has_intents(HOME)
        if store.living.attempts() or store.jobs_with_intents():
            return False
        spec, board = self._look()
        return all(_is_at_rest(job, board) for job in spec)

    def alive(self) -> tuple[str, ...]:
        """The jobs of which something lives."""
        return tuple(dict.fromkeys(attempt.job_id for attempt in self._home.store.living.attempts()))

    def failed(self) -> tuple[Run, ...]:
        """The newest run of each job that has failed for good since we began."""
        spec, board = self._look()
        newest = (board.job(job.id).newest_finished for job in spec)
        return tuple(run for run in newest if run is not None and _has_failed(run, self._began_at))

    def _look(self) -> tuple[tuple[JobSpec, ...], Board]:
        spec = self._operations.spec()
        return tuple(spec.jobs.values()), self._operations.board(spec, self._home.clock.now(), {})


def _is_at_rest(job: JobSpec, board: Board) -> bool:
    state = board.job(job.id)
    status = views.status(job, state, (), board.now)
    waits_for_files = begins_by_itself(job) and job.type is JobType.MANUAL
    return status in _AT_REST and not state.holds and not waits_for_files


def _has_failed(run: Run, since: datetime) -> bool:
    return run.state is RunState.FAILED and run.finished_at is not None and run.finished_at >= since
