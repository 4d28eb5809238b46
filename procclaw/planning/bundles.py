"""Bundles: which alerts are told in one message.

While OpenClaw's gateway is away alerts gather, and people are not to be sent thirty messages in a row when it is back,
nor an old one as if it were new. So what has been tried in vain, and goes to chats only, is told together when it is
much or old: one line for each, with its time. Whoever has a webhook or a command gets every alert by itself, as data.
A bundle's key comes from those of its alerts, so the same ones are the same message however often they are tried.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from procclaw.model.alerts import Alert
from procclaw.model.clock import seconds_between
from procclaw.model.document import document_hash
from procclaw.model.spec import Ways

MOST_SINGLE = 5
"""So many at one time are told one by one, unless they are old."""
OLD_SECONDS = 3600.0
_MOST_CHARACTERS = 3000
"""Telegram takes a message of 4,096 as one."""


class Bundle(NamedTuple):
    key: str
    alerts: tuple[Alert, ...]
    """In the order they were raised."""

    @property
    def is_digest(self) -> bool:
        return self.key != self.alerts[0].key

    @property
    def message(self) -> str:
        """For a person."""
        return _digest(self.alerts) if self.is_digest else self.alerts[0].message


def gathers(alert: Alert, ways: Ways) -> bool:
    """Whether it has been tried in vain, and goes where it may be told together with others."""
    return alert.tries > 0 and bool(ways.channels) and ways.webhook is None and ways.command is None


def bundled(due: Sequence[Alert], ways_of: Callable[[str], Ways], now: datetime) -> list[Bundle]:
    """Those that are to be told now, in order; a digest stands where the first of its alerts would."""
    gathered: dict[Ways, list[Alert]] = {}
    for alert in due:
        ways = ways_of(alert.job_id)
        if gathers(alert, ways):
            gathered.setdefault(ways, []).append(alert)
    bundles = {alert.key: Bundle(alert.key, (alert,)) for alert in due}
    for together in gathered.values():
        if not _is_much_or_old(together, now):
            continue
        digest = _digest_of(together)
        first, *others = together
        bundles[first.key] = digest
        for alert in others:
            del bundles[alert.key]
    return list(bundles.values())


def hastened(waiting: Iterable[Alert], ways_of: Callable[[str], Ways], now: datetime) -> list[Alert]:
    """Of those that wait for their next try the ones that gather, as due at once."""
    return [
        alert._replace(next_try_at=now)
        for alert in waiting
        if alert.asked_at is None and gathers(alert, ways_of(alert.job_id)) and (alert.next_try_at or now) > now
    ]


def _is_much_or_old(alerts: Sequence[Alert], now: datetime) -> bool:
    oldest_at = min(alert.raised_at for alert in alerts)
    return len(alerts) > MOST_SINGLE or seconds_between(oldest_at, now) > OLD_SECONDS


def _digest_of(alerts: Sequence[Alert]) -> Bundle:
    ordered = tuple(sorted(alerts, key=lambda alert: (alert.raised_at, alert.key)))
    return Bundle(f"digest:{document_hash([alert.key for alert in ordered])[:32]}", ordered)


def _digest(alerts: Sequence[Alert]) -> str:
    lines: list[str] = []
    left = _MOST_CHARACTERS
    for alert in reversed(alerts):
        line = f"{alert.raised_at:%Y-%m-%d %H:%MZ} {alert.message}"
        left -= len(line) + 1
        if left < 0 and lines:
            lines.append(f"… and {len(alerts) - len(lines)} before: procclaw alerts")
            break
        lines.append(line)
    told = "1 alert" if len(alerts) == 1 else f"{len(alerts)} alerts"
    return "\n".join([f"ProcClaw: {told} that could not be delivered before", *reversed(lines)])
