"""Telling people: alerts on their way to a webhook, a command, channels of OpenClaw, or several of these.

At most four threads, begun when there is something to deliver and ended when there is not; daemons, so that nobody
waits for a slow receiver at exit. Delivered at least once: what came of a delivery is told once, and trying again is a
plan. Of a notice that has to go several ways only those that failed are taken again. That is remembered while we live;
after a crash all are, and the key lets a receiver see it.

What OpenClaw did not take goes to its fallback in the same breath. A fallback that takes it ends the matter: whoever
was told one way is not told another way an hour later. The agent is told besides, and that tells nobody.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from procclaw.model.clock import SystemClock
from procclaw.model.errors import in_words
from procclaw.model.outside import Call, Delivery, Message, Notice, SendResult, Sent
from procclaw.model.secret import Text, revealed_all
from procclaw.system.notify.webhook import post
from procclaw.system.processes import run_command
from procclaw.system.underway import UnderWay

_MOST_THREADS = 4
_WEBHOOK_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_OPENCLAW_SECONDS = 60.0
"""For all channels of one notice, and the agent, together."""
_CLOSE_SECONDS = 1.0
_REMEMBERED = 1000
"""Notices that have gone one way of several; far more than can be waiting for another attempt."""

_OPENCLAW, _FALLBACK, _AGENT = "openclaw", "fallback", "agent"
_Results = dict[str, SendResult]
"""By way what came of it: webhook, command, "openclaw CHANNEL TARGET", "fallback command"..."""


class Messenger(Protocol):
    """Whoever speaks to OpenClaw. Called in any thread; `give_up` is a descriptor that ends it early."""

    def send(self, message: Message, env: Mapping[str, str], seconds: float, give_up: int | None) -> SendResult: ...

    def tell_agent(
        self, call: Call, message: Message, env: Mapping[str, str], seconds: float, give_up: int | None
    ) -> SendResult: ...


class Notifier:
    """All methods are for one thread. `on_result` is called in another, must return at once and never raise."""

    def __init__(self, on_result: Callable[[], None], messenger: Messenger) -> None:
        self._messenger = messenger
        self._under_way: UnderWay[Notice, Delivery] = UnderWay(on_result)
        self._lock = threading.Lock()
        self._waiting: deque[Notice] = deque()
        self._threads = 0
        self._settled: dict[str, Mapping[str, SendResult]] = {}
        """By key, what came of the ways that are not taken again while another has failed."""
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
        results = dict(self._settled.pop(notice.key, {}))
        self._take_plain_ways(notice, results, notice.webhook, notice.command)
        if notice.messages:
            self._tell_openclaw(notice, results)
        delivery = _verdict(notice.key, results)
        if not delivery.is_ok and not delivery.is_final:
            # What has failed is tried again.
            settled = {way: result for way, result in results.items() if result.outcome is not Sent.FAILED}
            self._remember(notice.key, settled)
        return delivery

    def _take_plain_ways(
        self,
        notice: Notice,
        results: _Results,
        webhook: Text | None,
        command: Sequence[str] | None,
        prefix: str = "",
    ) -> None:
        """Take those of which no result is known, and add it."""
        if webhook is not None and f"{prefix}webhook" not in results:
            results[f"{prefix}webhook"] = _went(post(webhook, notice.body, notice.key, _WEBHOOK_SECONDS))
        if command is not None and f"{prefix}command" not in results:
            results[f"{prefix}command"] = _went(self._run(notice, command))

    def _tell_openclaw(self, notice: Notice, results: _Results) -> None:
        env, clock = revealed_all(notice.env), SystemClock()
        deadline = clock.monotonic() + _OPENCLAW_SECONDS
        try:
            give_up = self._command_lifeline()
        except OSError as error:
            results |= {f"{_OPENCLAW} {each.place}": _went(in_words(error)) for each in notice.messages}
            return
        for message in notice.messages:
            way = f"{_OPENCLAW} {message.place}"
            if way not in results:
                results[way] = self._messenger.send(message, env, deadline - clock.monotonic(), give_up)
        if any(_is_of(_OPENCLAW, way) and result.outcome is not Sent.DELIVERED for way, result in results.items()):
            fallback = (notice.fallback_webhook, notice.fallback_command)
            self._take_plain_ways(notice, results, *fallback, prefix=f"{_FALLBACK} ")
        is_still_tried = any(_is_of(_OPENCLAW, way) or _is_of(_FALLBACK, way) for way in _tried_again(results))
        if notice.call is not None and _AGENT not in results and not is_still_tried:
            # Last, for it may take its time: whoever is told hears of it before. And with the try that is the last one,
            # for its gateway forgets a key within minutes: asked with each, the agent would look into it each time.
            left, first = deadline - clock.monotonic(), notice.messages[0]
            results[_AGENT] = self._messenger.tell_agent(notice.call, first, env, left, give_up)

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

    def _remember(self, key: str, settled: Mapping[str, SendResult]) -> None:
        with self._lock:
            self._settled[key] = settled
            while len(self._settled) > _REMEMBERED:
                del self._settled[next(iter(self._settled))]


def _went(trouble: str) -> SendResult:
    return SendResult(Sent.FAILED, trouble) if trouble else SendResult(Sent.DELIVERED)


def _is_of(kind: str, way: str) -> bool:
    return way.partition(" ")[0] == kind


def _verdict(key: str, results: Mapping[str, SendResult]) -> Delivery:
    """What the ways that were taken, and what came of each, come to."""
    troubles = {way: result for way, result in results.items() if result.outcome is not Sent.DELIVERED}
    detail = "; ".join(f"{way}: {result.detail}" for way, result in troubles.items())
    went = {way for way in results if way not in troubles and way != _AGENT}
    if _tried_again(results):
        return Delivery(key, is_ok=False, detail=detail)
    if went or not results:
        return Delivery(key, is_ok=True, detail=detail, is_by_openclaw=any(_is_of(_OPENCLAW, way) for way in went))
    if any(result.outcome is Sent.QUEUED for result in troubles.values()):
        return Delivery(key, is_ok=True, detail=detail, is_confirmed=False)
    return Delivery(key, is_ok=False, detail=detail, is_final=True)


def _tried_again(results: Mapping[str, SendResult]) -> list[str]:
    """The ways that failed and are taken again; the agent keeps nothing back, and what a fallback took is over."""
    stood_in = any(_is_of(_FALLBACK, way) and result.outcome is Sent.DELIVERED for way, result in results.items())
    return [
        way
        for way, result in results.items()
        if result.outcome is Sent.FAILED
        and way != _AGENT
        and not (stood_in and (_is_of(_OPENCLAW, way) or _is_of(_FALLBACK, way)))
    ]
