"""Copies of this process (fork): what looks on from outside, or is killed in the middle, as a manager may be.

A copy has everything imported that we have, so a hundred of them cost what a few fresh interpreters would. They are
made by a nursery, itself a copy from before anything was opened: a database connection that came along with a fork
would let the copy believe that it holds the locks which are ours.

A copy ends with its nursery, and that with us, however we end: it reads its orders from a pipe of ours.
"""

import contextlib
import json
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError

Do = Callable[[Sequence[str]], int]
"""Carries an order out, in a copy made for it, and gives the copy's exit code."""

_REAP_SECONDS = 0.005
"""How often the nursery looks whether a copy has ended."""
_BUG = 3
_END = b"\n"
"""The last order; so is the end of the pipe, which comes when whoever orders has been killed."""


class Nursery:
    """Not shared between threads, and to be made while there is only one."""

    def __init__(self, do: Do) -> None:
        self._clock = SystemClock()
        self._codes: dict[int, int] = {}
        self._heard = b""
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = _fork()
        if self._pid == 0:
            os.close(self._orders)
            os.close(self._answers)
            _end_with(lambda: _serve(orders, answers, do))
        os.close(orders)
        os.close(answers)

    def start(self, *words: str) -> int:
        """Have a copy carry this order out; its pid."""
        os.write(self._orders, json.dumps(words).encode() + b"\n")
        while True:
            kind, pid, code = self._hear()
            if kind == "started":
                self._codes.pop(pid, None)
                return pid
            self._codes[pid] = code

    def code(self, pid: int) -> int | None:
        """How a copy ended, a signal as its negative number; None while it lives."""
        while b"\n" in self._heard or select.select([self._answers], [], [], 0)[0]:
            _, ended, code = self._hear()
            self._codes[ended] = code
        return self._codes.get(pid)

    def wait(self, pid: int, seconds: float) -> int | None:
        """How it ended, if it does within that time."""
        deadline = self._clock.monotonic() + seconds
        while (code := self.code(pid)) is None and self._clock.monotonic() < deadline:
            self._clock.sleep(_REAP_SECONDS)
        return code

    def kill(self, pid: int) -> None:
        """SIGKILL; one that has ended is fine, and so is what is no copy: the nursery knows, who has to wait for it."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, json.dumps(pid).encode() + b"\n")

    def close(self) -> None:
        """End all copies that live, and come back when they are gone."""
        if self._pid:
            # A nursery made after this one has its end of the pipe too, so closing ours might not be heard.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._orders, _END)
            os.close(self._orders)
            os.waitpid(self._pid, 0)
            os.close(self._answers)
            self._pid = 0

    def _hear(self) -> tuple[str, int, int]:
        while b"\n" not in self._heard:
            told = os.read(self._answers, 4096)
            if not told:
                raise ProcclawError("the copy of this process that was to make further ones has ended")
            self._heard += told
        line, _, self._heard = self._heard.partition(b"\n")
        kind, pid, code = json.loads(line)
        return kind, pid, code


def die() -> NoReturn:
    """End this process as SIGKILL from outside would: nothing is finished, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive after SIGKILL")


def _serve(orders: int, answers: int, do: Do) -> int:
    living: set[int] = set()
    with open(orders, "rb", buffering=0) as lines:
        while True:
            if select.select([lines], [], [], _REAP_SECONDS if living else None)[0]:
                line = lines.readline()
                if line in (b"", _END):
                    break
                order = json.loads(line)
                if isinstance(order, list):
                    living.add(_started(order, orders, answers, do))
                elif order in living:
                    # Not waited for yet, so its pid is still its own.
                    os.kill(order, signal.SIGKILL)
            for pid in tuple(living):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    living.discard(pid)
                    _tell(answers, "ended", pid, os.waitstatus_to_exitcode(status))
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 0


def _started(words: Sequence[str], orders: int, answers: int, do: Do) -> int:
    pid = _fork()
    if pid == 0:
        os.close(orders)
        os.close(answers)
        _end_with(lambda: do(words))
    _tell(answers, "started", pid)
    return pid


def _tell(answers: int, kind: str, pid: int, code: int = 0) -> None:
    os.write(answers, json.dumps((kind, pid, code)).encode() + b"\n")


def _fork() -> int:
    with warnings.catch_warnings():
        # Python warns of every fork beside other threads; a copy uses no lock that one of those could have held.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _end_with(do: Callable[[], int]) -> NoReturn:
    """Be the copy: away from our terminal, with the default signals; nothing that we have begun is ended twice."""
    code = _BUG
    try:
        os.setsid()
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        code = do()
    except BaseException:  # noqa: BLE001 (the copy's last boundary)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
