"""The outbox: when an alert is delivered, how often it is tried again, and when that is given up.

An alert is asked for (`begun`) before its delivery begins, and settled when its result has come. One that was asked for
and never answered was under way when the process that delivered it died: it is asked for again, under the same key.
Tries are counted rather than hours, so that an alert which waited in a machine that was switched off is not given up
for its age.
"""

from datetime import datetime

from procclaw.model.alerts import Alert, AlertState
from procclaw.model.clock import after
from procclaw.model.outside import Delivery
from procclaw.planning.alerts import NO_WAY

DELAYS_SECONDS = (10.0, 60.0, 300.0, 900.0, 3600.0)
"""Before each further try; the last one repeats."""

MOST_TRIES = 28
"""A day's worth: four within 21 minutes, then one an hour."""

UNANSWERED_SECONDS = 180.0
"""A webhook and a command may take 40 s together, OpenClaw a minute and what stands in for it as long as the first two;
what took this long was lost with the process that delivered it.
"""


def due_at(alert: Alert, now: datetime) -> datetime:
    """When to try to deliver a pending alert."""
    wait_seconds = UNANSWERED_SECONDS if alert.asked_at is not None else _delay_seconds(alert)
    at = alert.next_try_at
    # One that lies further ahead than it is ever set was set before the clock went back.
    return now if at is None or at > after(now, wait_seconds) else at


def begun(alert: Alert, now: datetime) -> Alert:
    """The alert as it is written before its delivery begins."""
    return alert._replace(asked_at=now, tries=alert.tries + 1, next_try_at=after(now, UNANSWERED_SECONDS))


def settled(alert: Alert, delivery: Delivery, now: datetime) -> Alert:
    """The alert once its delivery has ended, well or not."""
    if delivery.is_ok:
        state = AlertState.SENT if delivery.is_confirmed else AlertState.UNCONFIRMED
        return _over(alert, state, delivery.detail, now)
    if delivery.is_final or is_worn_out(alert):
        return _over(alert, AlertState.UNDELIVERED, delivery.detail, now)
    return alert._replace(asked_at=None, next_try_at=after(now, _delay_seconds(alert)), detail=delivery.detail)


def is_worn_out(alert: Alert) -> bool:
    return alert.tries >= MOST_TRIES


def given_up(alert: Alert, now: datetime) -> Alert:
    """The alert that has been tried for as long as is worth it."""
    return _over(alert, AlertState.UNDELIVERED, alert.detail or "no answer", now)


def without_way(alert: Alert, now: datetime) -> Alert:
    """The alert of a job that nobody can be told about any more."""
    return _over(alert, AlertState.UNDELIVERED, NO_WAY, now)


def _over(alert: Alert, state: AlertState, detail: str, now: datetime) -> Alert:
    return alert._replace(state=state, asked_at=None, next_try_at=None, done_at=now, detail=detail)


def _delay_seconds(alert: Alert) -> float:
    return DELAYS_SECONDS[max(0, min(alert.tries, len(DELAYS_SECONDS)) - 1)]
