"""The queue: every run that waits for its start, in the order in which they go, and what each waits for.

And the named queues, with what takes up their places. The same gates and the same order that the planner goes by.
"""

from procclaw.model.records import Hold, Run
from procclaw.model.state import Lack
from procclaw.planning.board import Board
from procclaw.planning.gates import expires_at
from procclaw.planning.views import View, first_closed_before, moment, words


def queue_view(board: Board, home_holds: tuple[Hold, ...], lack: Lack | None) -> View:
    waiting = [
        _waiting_view(position, run, board, home_holds, lack) for position, run in enumerate(board.waiting(), start=1)
    ]
    declared = {job.queue for job in board.spec.jobs.values() if job.queue is not None}
    return {"runs": waiting, "queues": [_queue_view(name, board) for name in sorted({*declared, *board.spec.queues})]}


def _waiting_view(position: int, run: Run, board: Board, home_holds: tuple[Hold, ...], lack: Lack | None) -> View:
    spec = board.spec_of(run.job_id)
    closed = None if spec is None else first_closed_before(run, spec, board, home_holds, lack)
    waits_for = None if closed is None else words(closed._replace(until=None))
    return {
        "position": position,
        "job_id": run.job_id,
        "run_id": run.id,
        "priority": str(run.priority),
        "state": str(run.state),
        "trigger": str(run.trigger),
        "queue": board.queue_of(run),
        "waiting_since": moment(run.queued_at if closed is None or closed.since is None else closed.since),
        "gate": None if closed is None else closed.gate,
        "waits_for": "its job is no longer declared" if spec is None else waits_for,
        "until": None if closed is None else moment(closed.until),
        "expires_at": None if spec is None else moment(expires_at(run, spec)),
    }


def _queue_view(name: str, board: Board) -> View:
    waiting = [run for run in board.waiting() if board.queue_of(run) == name]
    return {
        "name": name,
        "limit": board.spec.queue_limit(name),
        "running": [_named(run) for run in board.in_queue(name)],
        "waiting": [_named(run) for run in waiting],
    }


def _named(run: Run) -> View:
    return {"job_id": run.job_id, "run_id": run.id, "priority": str(run.priority), "started_at": moment(run.started_at)}
