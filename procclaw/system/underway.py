"""What is under way in other threads, one thing per key, and what has come of it.

Shared by `probes` and `notify`, the two neighbours that answer later, and by nobody else: it is a container and touches
nothing outside. Begun, asked and cleared by one thread, ended by any. What was replaced or cleared may end whenever it
likes; nobody hears of it.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Token = TypeVar("Token")
Result = TypeVar("Result")


class UnderWay(Generic[Token, Result]):
    """`on_result` is called in whatever thread ends something, under our lock: it may wake somebody and no more."""

    def __init__(self, on_result: Callable[[], None]) -> None:
        self._on_result = on_result
        self._changed = threading.Condition()
        self._tokens: dict[str, Token] = {}
        self._results: list[Result] = []

    def __contains__(self, key: str) -> bool:
        with self._changed:
            return key in self._tokens

    def keys(self) -> frozenset[str]:
        with self._changed:
            return frozenset(self._tokens)

    def add(self, key: str, token: Token) -> Token | None:
        """Note what has begun; what is returned was under way for that key, and is replaced."""
        with self._changed:
            older = self._tokens.get(key)
            self._tokens[key] = token
            return older

    def end(self, key: str, token: Token, result: Result | None) -> None:
        """`result` None: it is over and nothing came of it."""
        with self._changed:
            if self._tokens.get(key) is not token:
                return
            del self._tokens[key]
            self._changed.notify_all()
            if result is not None:
                self._results.append(result)
                # Under the lock, so that once it is cleared nobody is called who may have been closed since.
                self._on_result()

    def clear(self) -> None:
        with self._changed:
            self._tokens.clear()
            self._changed.notify_all()

    def drain(self) -> tuple[Result, ...]:
        with self._changed:
            results = tuple(self._results)
            self._results.clear()
            return results

    def pending(self) -> int:
        with self._changed:
            return len(self._tokens)

    def wait(self, seconds: float) -> None:
        """Until nothing is under way, at most that long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._tokens, seconds)
