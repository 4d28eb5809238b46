"""Who is connected, who of them could be spared, and their end when the server closes.

Who waits for its client's next request, or for it to leave, can be sent away: nothing is being done for it. That holds
for one that drips its request as well, so nobody can keep others out without asking for something. The one that has
waited longest goes first, which is never one that was served a moment ago.
"""

import threading
from enum import Enum, auto
from typing import Protocol

from procclaw.interface.api.serving import limits


class Client(Protocol):
    def hang_up(self) -> None:
        """Make every wait of its thread end, now and later; must not block."""


class _State(Enum):
    WAITING = auto()
    ANSWERED = auto()
    """A request of it is being worked on."""
    LEAVING = auto()
    """Sent away or at its end; no place is taken, only the thread has not ended."""


class Connections:
    def __init__(self) -> None:
        self.is_closing = False
        self._changed = threading.Condition()
        self._states: dict[Client, _State] = {}
        """Those who wait, in the order in which they began to."""

    def admit(self, client: Client) -> bool:
        """Give it a place, another's if need be; False when all are working or the server closes."""
        with self._changed:
            has_place = len(self._states) < limits.CONNECTIONS or self._count() < limits.CONNECTIONS
            if self.is_closing or not (has_place or self._spare()):
                return False
            self._states[client] = _State.WAITING
            return True

    def spare_one(self) -> bool:
        """Send away the one that has waited longest, if any waits."""
        with self._changed:
            return self._spare()

    def wait(self, client: Client) -> bool:
        """It begins to wait for its client; False when it is to end instead."""
        with self._changed:
            if self.is_closing or self._states[client] is _State.LEAVING:
                self._states[client] = _State.LEAVING
                return False
            if self._states[client] is _State.ANSWERED:
                # Those who wait already go before it. One that was just admitted is in its place.
                del self._states[client]
            self._states[client] = _State.WAITING
            return True

    def work(self, client: Client) -> bool:
        """A request has come; False when it was sent away meanwhile, and the request is not to be answered."""
        with self._changed:
            if self._states[client] is _State.LEAVING:
                return False
            self._states[client] = _State.ANSWERED
            return True

    def leave(self, client: Client) -> None:
        """Nobody hangs it up from here on: its descriptor may soon be another's."""
        with self._changed:
            self._states[client] = _State.LEAVING

    def forget(self, client: Client) -> None:
        """Its thread is at its end."""
        with self._changed:
            del self._states[client]
            self._changed.notify_all()

    def close(self) -> None:
        """Send everybody away, those who are being answered a little later, and wait a moment for their threads."""
        with self._changed:
            self.is_closing = True
            self._hang_up(_State.WAITING)
            self._changed.wait_for(self._is_empty, limits.GRACE_SECONDS)
            self._hang_up(_State.ANSWERED)
            self._changed.wait_for(self._is_empty, limits.CUT_SECONDS)

    def _is_empty(self) -> bool:
        return not self._states

    def _count(self) -> int:
        return sum(state is not _State.LEAVING for state in self._states.values())

    def _spare(self) -> bool:
        longest = next((client for client, state in self._states.items() if state is _State.WAITING), None)
        if longest is not None:
            self._send_away(longest)
        return longest is not None

    def _hang_up(self, those: _State) -> None:
        for client in [client for client, state in self._states.items() if state is those]:
            self._send_away(client)

    def _send_away(self, client: Client) -> None:
        self._states[client] = _State.LEAVING
        client.hang_up()
