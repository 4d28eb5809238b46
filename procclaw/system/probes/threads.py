"""Calls that can only block, and may do so for ever: a stat on a dead mount, a silent name server, a command.

Each gets a thread of its own, a daemon that nobody waits for at exit (a pool of `concurrent.futures` would be waited
for), and only so many at a time. The time limit counts from when its turn has come: a check that waits because others
hang has found out nothing about its job. The turn is over when the call returns, not when somebody loses patience; who
asks for the same thing meanwhile waits for the same call, so one dead mount holds one thread, not all of them.
"""

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Threads:
    """For use within one loop."""

    def __init__(self, most: int) -> None:
        import asyncio

        self._free = asyncio.Semaphore(most)
        self._shared: dict[str, asyncio.Future[Any]] = {}

    async def call(self, key: str, work: Callable[[], T], seconds: float) -> T:
        """What `work` returns or raises; TimeoutError after so many seconds. Calls of one key are one call."""
        import asyncio

        while (answer := self._shared.get(key)) is None:
            await self._free.acquire()
            # Another may have begun it while we waited.
            if key in self._shared:
                self._free.release()
            else:
                self._shared[key] = self._start(work)
                self._shared[key].add_done_callback(lambda _: self._shared.pop(key))
        async with asyncio.timeout(seconds):
            result: T = await asyncio.shield(answer)
            return result

    async def begin(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Wait for a turn and begin; what is returned is not to be cancelled."""
        await self._free.acquire()
        return self._start(work)

    def _start(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        import asyncio

        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        answer.add_done_callback(self._turn_is_over)

        def run() -> None:
            try:
                settle = partial(answer.set_result, work())
            except Exception as error:  # noqa: BLE001 (raised again where it is awaited)
                settle = partial(answer.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(settle)

        try:
            threading.Thread(target=run, name="procclaw-probe", daemon=True).start()
        except RuntimeError:
            answer.set_exception(OSError(errno.EAGAIN, "no thread to be had"))
        return answer

    def _turn_is_over(self, answer: "asyncio.Future[Any]") -> None:
        self._free.release()
        # Looked at here, because whoever asked may have lost patience, and asyncio complains of what nobody looks at.
        answer.exception()
