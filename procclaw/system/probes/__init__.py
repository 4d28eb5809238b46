"""Health checks: thousands may be under way, and each ends within its time whatever the other side does.

Async is the plainer code here: a check is nearly all waiting, a thread for each would be too much, and one line ends it
at its time limit wherever it is. It stays within this package. One private thread runs the loop, without any signal
handler or child watcher; what can only block (a stat, a name, a command) gets a thread for that one call.

A check says what it found as words without secrets: no query, no user, no body, no output. One that could not be made
for want of *our* descriptors, memory or processes brings no result at all: that says nothing about the job.

asyncio is imported when the first check begins, which most passes never see (35 ms, 7 MB). Our own modules are not:
the .pyz they come from may be replaced while we run.
"""

import resource
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from procclaw.model.outside import Probe, ProbeResult
from procclaw.system.probes.checks import Checks
from procclaw.system.underway import UnderWay

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    Check = Future[ProbeResult | None]

_CLOSE_SECONDS = 1.0
_MOST_CONNECTIONS = 10_000
"""Together with the share: all jobs of a large home at once, and descriptors left for everything else."""
_SHARE_OF_DESCRIPTORS = 0.5


class Prober:
    """All methods are for one thread. `on_result` is called in another, must return at once and never raise."""

    def __init__(self, on_result: Callable[[], None]) -> None:
        self._under_way: UnderWay[Check, ProbeResult] = UnderWay(on_result)
        self._loop: _LoopThread | None = None
        self._is_closed = False

    def begin(self, probe: Probe) -> None:
        """Begin a check; returns at once. A check of the same attempt that is still under way is dropped."""
        if self._is_closed:
            return
        if self._loop is None:
            try:
                self._loop = _LoopThread()
            except (OSError, RuntimeError):
                # No descriptor, or no thread: a check that cannot be made. The next one tries again.
                return
        check = self._loop.begin(probe)
        older = self._under_way.add(probe.attempt_id, check)
        if older is not None:
            older.cancel()
        check.add_done_callback(partial(self._end, self._loop, probe.attempt_id))

    def results(self) -> tuple[ProbeResult, ...]:
        """What has come of checks since the last question."""
        return self._under_way.drain()

    def under_way(self) -> frozenset[str]:
        """Ids of the attempts of which a check was begun and is not over."""
        return self._under_way.keys()

    def pending(self) -> int:
        """How many checks are under way."""
        return self._under_way.pending()

    def wait(self, seconds: float) -> None:
        """Until no check is under way, at most that long."""
        self._under_way.wait(seconds)

    def close(self) -> None:
        """Drop what is under way, its commands killed, within a second; what is begun from now on is ignored."""
        self._is_closed = True
        self._under_way.clear()
        if self._loop is not None:
            self._loop.close()

    def _end(self, loop: "_LoopThread", attempt_id: str, check: "Check") -> None:
        result = None
        if not check.cancelled():
            error = check.exception()
            if error is None:
                result = check.result()
            else:
                loop.report(error)
        self._under_way.end(attempt_id, check, result)


class _LoopThread:
    """The thread with the loop. Raises OSError or RuntimeError when it cannot be started."""

    def __init__(self) -> None:
        import asyncio

        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if descriptors != resource.RLIM_INFINITY:
            most = min(_MOST_CONNECTIONS, max(1, int(descriptors * _SHARE_OF_DESCRIPTORS)))
        else:
            most = _MOST_CONNECTIONS
        self._checks = Checks(most)
        self._loop = asyncio.new_event_loop()
        # A daemon, so that an interpreter which exits without closing us does not wait for ever.
        self._thread = threading.Thread(target=self._run, name="procclaw-probes", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def begin(self, probe: Probe) -> "Check":
        import asyncio

        return asyncio.run_coroutine_threadsafe(self._checks.make(probe), self._loop)

    def report(self, error: BaseException) -> None:
        """A bug of ours, to stderr: it says nothing about the job, and must not end the other checks."""
        self._loop.call_exception_handler({"message": "a health check failed in itself", "exception": error})

    def close(self) -> None:
        with suppress(RuntimeError):  # closed before
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        import asyncio

        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(_end_of(tasks))
        self._loop.close()


async def _end_of(tasks: "set[asyncio.Task[object]]") -> None:
    import asyncio

    await asyncio.gather(*tasks, return_exceptions=True)
    # Once more round: connections given up are closed by the loop.
    await asyncio.sleep(0)
