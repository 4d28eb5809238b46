"""The delivery of alerts: what the outbox holds is handed to the notifier, and what comes of it is written down.

Runs at the end of each cycle, in the process that holds the home's lock, and never waits: a delivery takes its time
beside the loop, whose next cycle hears of its end. That an alert is being delivered is committed before it is, so what
a crash interrupts is delivered again: at least once, under one key, by which a receiver can tell. What is due, and for
how long it is tried, is decided by `planning/outbox`.
"""

import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Protocol

from procclaw.engine.notices import notice_of
from procclaw.engine.world import Notifier, Secrets
from procclaw.model.alerts import Alert, AlertState
from procclaw.model.clock import after
from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.model.outside import Delivery, Notice
from procclaw.model.records import Event
from procclaw.model.spec import Spec
from procclaw.planning import bundles, journal, outbox
from procclaw.system.store import Store

MOST_UNDER_WAY = 4
"""Deliveries at one time: a receiver that hangs takes one of these places for ten seconds."""

MOST_LOOKED_AT = 100
"""Alerts read at once, those that are due first; what is behind them waits for the next look."""

RETRY_SECONDS = 5.0
"""Until the next look when the disk was full."""


class Log(Protocol):
    def events(self, events: Iterable[Event]) -> None: ...

    def line(self, level: str, sentence: str, **fields: object) -> None: ...


class _Round(NamedTuple):
    """What one look at the outbox comes to."""

    rows: list[Alert]
    notices: list[Notice]
    wake_at: datetime | None


class Courier:
    def __init__(self, home: str, store: Store, notifier: Notifier, secrets: Secrets, log: Log) -> None:
        self._home = home
        self._secrets = secrets
        self._store = store
        self._notifier = notifier
        self._log = log
        self._answers: dict[str, Delivery] = {}
        """By the keys of alerts, what came of deliveries and is not written down yet."""
        self._digests: dict[str, tuple[str, ...]] = {}
        """By the keys of digests under way those of their alerts; lost with us, as the deliveries are."""
        self._looked_at: datetime | None = None
        self._wake_at: datetime | None = None

    def has_news(self) -> bool:
        """Whether a delivery has ended that is not written down yet."""
        for delivery in self._notifier.results():
            keys = self._digests.pop(delivery.key, (delivery.key,))
            self._answers |= {key: delivery._replace(key=key) for key in keys}
        return bool(self._answers)

    def is_busy(self) -> bool:
        """Whether a delivery is under way, or has ended and is not written down yet."""
        return self._notifier.pending() > 0 or self.has_news()

    def wait(self, seconds: float) -> None:
        """Until no delivery is under way, at most that long."""
        self._notifier.wait(seconds)

    def close(self, now: datetime | None) -> None:
        """Deliver no more; what arrived is written down, if there is a time to write and no trouble with that."""
        self._notifier.close()
        if now is not None and self.has_news():
            with contextlib.suppress(ProcclawError):
                self._settle(now)

    def deliver(self, spec: Spec, now: datetime, *, must_look: bool) -> datetime | None:
        """Write down what came of deliveries and begin those that are due; when to do so again, None: nothing is left.

        Without `must_look` the outbox is left alone as long as nothing in it has come due.
        """
        if self.has_news() or must_look or self._is_due(now):
            self._looked_at = now
            try:
                is_openclaw_there = any(answer.is_by_openclaw for answer in self._answers.values())
                self._settle(now)
                if is_openclaw_there:
                    self._hasten(spec, now)
                self._wake_at = self._begin_due(spec, now)
            except DiskFull as error:
                self._log.line("error", "alerts are held back", detail=error)
                self._wake_at = after(now, RETRY_SECONDS)
        return self._wake_at

    def _is_due(self, now: datetime) -> bool:
        if self._looked_at is None or now < self._looked_at:
            return True  # the first look, or the clock was set back
        return self._wake_at is not None and self._wake_at <= now

    def _settle(self, now: datetime) -> None:
        """Write down what has become of the alerts whose deliveries have ended."""
        if not self._answers:
            return
        pending = self._store.pending_alerts(self._answers)
        settled = [outbox.settled(alert, self._answers[alert.key], now) for alert in pending]
        # If we die here: delivered, and not known to be; it is delivered again.
        self._record(settled, now)
        self._answers.clear()

    def _hasten(self, spec: Spec, now: datetime) -> None:
        """What waits for OpenClaw is tried at once, for it has taken something."""
        waiting = self._store.outbox(MOST_LOOKED_AT)
        self._store.record(bundles.hastened(waiting, spec.ways, now))

    def _begin_due(self, spec: Spec, now: datetime) -> datetime | None:
        rows, notices, wake_at = self._due(spec, now)
        self._record(rows, now)
        # If we die here: asked for, and never answered; it is asked for again after a while.
        for notice in notices:
            self._notifier.begin(notice)
        return wake_at

    def _due(self, spec: Spec, now: datetime) -> _Round:
        rows: list[Alert] = []
        due: list[Alert] = []
        wakes: list[datetime] = []
        for alert in self._store.outbox(MOST_LOOKED_AT):
            due_at = outbox.due_at(alert, now)
            if due_at > now:
                wakes.append(due_at)
                continue
            if outbox.is_worn_out(alert):
                rows.append(outbox.given_up(alert, now))
            elif not spec.ways(alert.job_id).is_any:
                rows.append(outbox.without_way(alert, now))
            else:
                # What is under way may never be heard of; then this is when to look after it.
                wakes.append(after(now, outbox.UNANSWERED_SECONDS))
                due.append(alert)
        notices: list[Notice] = []
        room = MOST_UNDER_WAY - self._notifier.pending()
        for bundle in bundles.bundled(due, spec.ways, now):
            if len(notices) >= room:
                break
            asked = [outbox.begun(alert, now) for alert in bundle.alerts]
            try:
                notices.append(notice_of(bundle, spec, self._home, self._secrets))
                self._digests |= {bundle.key: tuple(alert.key for alert in asked)} if bundle.is_digest else {}
            except ProcclawError as error:
                # Its address or the command's environment cannot be made at present: as if it had failed.
                failed = Delivery(bundle.key, is_ok=False, detail=str(error))
                asked = [outbox.settled(alert, failed, now) for alert in asked]
                wakes += [alert.next_try_at for alert in asked if alert.next_try_at is not None]
            rows += asked
        return _Round(rows, notices, min(wakes, default=None))

    def _record(self, rows: list[Alert], now: datetime) -> None:
        """Write down what has become of these alerts, and tell of those that are over or have to wait."""
        over = [alert for alert in rows if alert.state is not AlertState.PENDING]
        events = [journal.alert_settled(alert, now) for alert in over]
        # Not marked as a commit of the reconciler's: a database that is put back merely delivers once more.
        self._store.record([*rows, *events])
        self._log.events(events)
        for alert in rows:
            if alert.state is AlertState.PENDING and alert.asked_at is None:
                again = {"again": alert.next_try_at, "detail": alert.detail}
                self._log.line("warning", "alert not delivered yet", job=alert.job_id, key=alert.key, **again)
