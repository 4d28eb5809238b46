"""What every fuzzer shares: a case that is drawn from its seed, the ground it is played on, and breaking bytes."""

import contextlib
import re
import signal
from collections import Counter
from collections.abc import Iterator
from random import Random
from types import TracebackType
from typing import Self

PATIENCE_SECONDS = 10.0
"""Of the processor's time, for what takes a few milliseconds: a busy machine is no reason to fail, a hang is."""


class Broken(AssertionError):
    """A case came out as it must not."""


class Case:
    """One case: all that is drawn in it, what was done, and what it came to."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.lines: list[str] = []
        self.met: Counter[str] = Counter()

    def say(self, line: str) -> None:
        self.lines.append(line)

    def meet(self, kind: str) -> None:
        """Count what happened, so that a fuzzer that no longer reaches it is noticed."""
        self.met[kind] += 1

    def must(self, claim: bool, otherwise: str) -> None:
        if not claim:
            raise Broken(f"{otherwise}\n" + "\n".join(self.lines[-20:]))


class Ground:
    """Where cases of one kind are played, one after the other."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def play(self, case: Case) -> None:
        """Break something and judge what becomes of it. Raises Broken, or whatever should not have been raised."""
        raise NotImplementedError


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Broken out of what computes for longer, or waits for ten times as long."""

    def give_up(_signum: int, _frame: object) -> None:
        raise Broken(f"it takes longer than {seconds:g} s")

    before = {each: signal.signal(each, give_up) for each in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each, handler in before.items():
            signal.signal(each, handler)


TRACEBACK = re.compile(r"Traceback \(most recent call last\)|<class '|<[\w.]+ object at 0x|\b[A-Za-z]+Error\(")
"""What only a programmer can read."""


def flipped(content: bytes, rng: Random, count: int = 1) -> bytes:
    """With `count` bits the other way round."""
    changed = bytearray(content)
    for _ in range(count if content else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def rubbish(rng: Random, most: int = 300) -> bytes:
    return rng.randbytes(rng.randrange(most))
