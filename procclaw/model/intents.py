"""Requests: what somebody asked for, from its recording to its answer."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from procclaw.model.spec import WorkflowSpec


class IntentKind(StrEnum):
    START = "start"
    RUN = "run"
    STOP = "stop"
    RESTART = "restart"
    PAUSE = "pause"
    RESUME = "resume"
    REVOKE = "revoke"
    UNREVOKE = "unrevoke"
    CANCEL_ETA = "cancel_eta"
    TRIGGER = "trigger"
    REINJECT = "reinject"
    PURGE = "purge"
    """Remove dead letters."""
    WORKFLOW = "workflow"
    CANCEL_WORKFLOW = "cancel_workflow"
    RETRY_WORKFLOW = "retry_workflow"
    HOLD_HOME = "hold_home"
    RELEASE_HOME = "release_home"
    LOOK = "look"
    """Run a cycle over everything, now."""


class IntentState(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    """Acted upon, its result still to come."""
    DONE = "done"
    REFUSED = "refused"


class Details(NamedTuple):
    """What a request says beside its kind; what does not belong to the kind is empty."""

    params: tuple[tuple[str, str], ...] = ()
    at: datetime | None = None
    """RUN: not before then."""
    until: datetime | None = None
    """REVOKE: until then; None: until somebody lifts it."""
    has_payload: bool = False
    """TRIGGER: the store has a body for it."""
    dead_letters: tuple[int, ...] = ()
    """REINJECT: which one; PURGE: which ones."""
    workflow: WorkflowSpec | None = None
    workflow_name: str = ""
    workflow_run: str = ""
    """CANCEL_WORKFLOW, RETRY_WORKFLOW: which; WORKFLOW, once answered: the new one."""


NO_DETAILS = Details()


class Intent(NamedTuple):
    """A request, from its recording to its answer."""

    id: int
    """Ascending in the order of asking; 0 before the store has given one."""
    job_id: str
    kind: IntentKind
    force: bool
    requested_at: datetime
    requested_by: str
    state: IntentState = IntentState.PENDING
    message: str = ""
    run_id: str | None = None
    resolved_at: datetime | None = None
    key: str | None = None
    """Idempotency key: the same key again is the same request."""
    details: Details = NO_DETAILS
