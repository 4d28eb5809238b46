"""What people are told, or should be, and what is wrong with a job for as long as that is worth telling."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class AlertKind(StrEnum):
    FAILURE = "failure"
    """The first failed attempt of a run."""
    FAILED = "failed"
    """A run has failed for good."""
    UNHEALTHY = "unhealthy"
    LIMIT = "limit"
    MISSED = "missed"
    OVERDUE = "overdue"
    """A job has not succeeded when `expect` says it should have."""
    RECOVERED = "recovered"


class AlertState(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    UNCONFIRMED = "unconfirmed"
    """Handed over to a gateway that goes on trying by itself; nobody says whether it arrives."""
    SUPPRESSED = "suppressed"
    """The same was told a moment ago."""
    UNDELIVERED = "undelivered"
    """There is no way to tell anybody, or it was tried for as long as is worth it."""


class Alert(NamedTuple):
    """Something people should be told: written together with what causes it, delivered after, under one key."""

    key: str
    """Stable, so whoever receives it twice can tell."""
    job_id: str
    kind: AlertKind
    raised_at: datetime
    message: str
    run_id: str | None = None
    state: AlertState = AlertState.PENDING
    tries: int = 0
    next_try_at: datetime | None = None
    """When to try (again), or, while it is under way, to take it for lost; None: it is not tried any more."""
    asked_at: datetime | None = None
    """When the delivery under way was begun; None: none is."""
    done_at: datetime | None = None
    detail: str = ""
    """Why it was not delivered (yet)."""


class Trouble(NamedTuple):
    """Something is wrong with a job since it was told; its end is worth telling too."""

    job_id: str
    kind: AlertKind
    since: datetime


class TroubleOver(NamedTuple):
    """To be written: the job is well again in this respect."""

    job_id: str
    kind: AlertKind


class Watch(NamedTuple):
    """Since when a job's `expect` counts: since it was declared so, or a person let the job go again."""

    job_id: str
    key: str
    """What is expected, as text; another one is counted afresh."""
    since: datetime
