"""Telling people: alerts on their way to a webhook, a command, or both.

At most four threads, begun when there is something to deliver and ended when there is not; daemons, so that nobody
waits for a slow receiver at exit. Delivered at least once: what came of a delivery is told once, and trying again is a
plan. Of a notice that has to go two ways only the one that failed is taken again. That is remembered while we live;
after a crash both are, and the key lets a receiver see it.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from procclaw.model.errors import in_words
from procclaw.model.outside import Delivery, Notice
from procclaw.model.secret import revealed_all
from procclaw.system.notify.webhook import post
from procclaw.system.processes import run_command
from procclaw.system.underway import UnderWay

_MOST_THREADS = 4
_WEBHOOK_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_CLOSE_SECONDS = 1.0
_REMEMBERED = 1000
"""Notices that have gone one way of two; far more than can be waiting for another attempt."""


class Notifier:
    """All methods are for one thread. `on_result` is called in another, must return at once and never raise."""

    def __init__(self, on_result: Callable[[], None]) -> None:
        self._under_way: UnderWay[Notice, Delivery] = UnderWay(on_result)
        self._lock = threading.Lock()
        self._waiting: deque[Notice] = deque()
        self._threads = 0
        self._gone: dict[str, frozenset[str]] = {}
        """By key, the ways that a notice has gone while another failed."""
        self._lifeline: tuple[int, int] | None = None
        """A pipe: commands are killed when its second end is closed."""
        self._is_closed = False

    def begin(self, notice: Notice) -> None:
        """Begin a delivery; returns at once. Where one of the same key is under way, this one is dropped."""
        if self._is_closed:
            return
        is_under_way = notice.key in self._under_way
        if not is_under_way:
            self._under_way.add(notice.key, notice)
        with self._lock:
            if not is_under_way:
                self._waiting.append(notice)
            if not self._waiting or self._threads == _MOST_THREADS:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._deliver_all, name="procclaw-notify", daemon=True).start()
        except RuntimeError:
            # No thread to be had: it goes when the next one is begun, be it the same again.
            with self._lock:
                self._threads -= 1

    def results(self) -> tuple[Delivery, ...]:
        """What has come of deliveries since the last question."""
        return self._under_way.drain()

    def pending(self) -> int:
        """How many deliveries are under way or wait for a thread."""
        return self._under_way.pending()

    def wait(self, seconds: float) -> None:
        """Until no delivery is under way, at most that long."""
        self._under_way.wait(seconds)

    def close(self) -> None:
        """Drop what is under way, its commands killed, within a second; what is begun from now on is ignored.

        What arrives within that second is among the last `results`, and need not be sent again.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            dropped = tuple(self._waiting)
            self._waiting.clear()
            if self._lifeline is not None:
                os.close(self._lifeline[1])
        for notice in dropped:
            self._under_way.end(notice.key, notice, None)
        # A webhook cannot be called back: one that arrives later than this is not heard of.
        self._under_way.wait(_CLOSE_SECONDS)
        self._under_way.clear()
        with self._lock:
            self._close_lifeline()

    def _deliver_all(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    self._close_lifeline()
                    return
                notice = self._waiting.popleft()
            delivery = None
            try:
                delivery = self._deliver(notice)
            except Exception as error:  # noqa: BLE001 (a bug of ours, which must not take the others' thread with it)
                told = (type(error), error, error.__traceback__, threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(told))
            # What fails while we close may fail because we do.
            has_failed = delivery is None or not delivery.is_ok
            self._under_way.end(notice.key, notice, None if has_failed and self._is_closed else delivery)

    def _deliver(self, notice: Notice) -> Delivery:
        gone = self._gone.pop(notice.key, frozenset())
        troubles = []
        for way, trouble in self._ways(notice, gone):
            if trouble:
                troubles.append(f"{way}: {trouble}")
            else:
                gone |= {way}
        if troubles and gone:
            self._remember(notice.key, gone)
        return Delivery(notice.key, not troubles, "; ".join(troubles))

    def _ways(self, notice: Notice, gone: frozenset[str]) -> Iterator[tuple[str, str]]:
        """Take each way that the notice has not gone; what was in the way, empty for nothing."""
        if notice.webhook is not None and "webhook" not in gone:
            yield "webhook", post(notice.webhook, notice.body, notice.key, _WEBHOOK_SECONDS)
        if notice.command is not None and "command" not in gone:
            yield "command", self._run(notice, notice.command)

    def _run(self, notice: Notice, command: Sequence[str]) -> str:
        try:
            give_up = self._command_lifeline()
        except OSError as error:
            return in_words(error)
        told = json.dumps(dict(notice.body)).encode()
        result = run_command(command, _COMMAND_SECONDS, told, revealed_all(notice.env), cwd="/", give_up=give_up)
        if result.is_timed_out:
            return f"timed out after {_COMMAND_SECONDS:g} s"
        if result.is_ours:
            return "it did not start, for want of descriptors, memory or processes"
        # Not what it says: it may print what it was given.
        return f"exit code {result.exit_code}" if result.exit_code else ""

    def _command_lifeline(self) -> int:
        with self._lock:
            if self._lifeline is None:
                self._lifeline = os.pipe()
                if self._is_closed:
                    os.close(self._lifeline[1])
            return self._lifeline[0]

    def _close_lifeline(self) -> None:
        """Whoever is last does it: a thread may outlive our patience, with a command that looks at it."""
        if self._is_closed and self._threads == 0 and self._lifeline is not None:
            os.close(self._lifeline[0])
            self._lifeline = None

    def _remember(self, key: str, gone: frozenset[str]) -> None:
        with self._lock:
            self._gone[key] = gone
            while len(self._gone) > _REMEMBERED:
                del self._gone[next(iter(self._gone))]
