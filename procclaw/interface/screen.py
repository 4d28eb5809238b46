"""A page that is kept up to date in place, until it is interrupted.

It is drawn on the terminal's other screen, so what was there before comes back. Only lines that differ are sent, in one
piece: nothing flickers, and a slow line carries no more than what is new. A terminal that cannot keep up makes us wait
for it, and the next page is drawn of what is so by then.
"""

import io
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from procclaw.interface.console import Console

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_LOOK_SECONDS = 0.25
"""How soon a change in the database is seen; more often would make a busy home busier."""

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen, without a cursor; what is wider than the screen does not wrap."""
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class _Page(io.StringIO):
    """Taken for the terminal whose stand-in it is, so that a table has that one's width."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return sys.stdout.fileno()


def looks(context: "Context", seconds: float) -> Iterator[None]:
    """Now, when something was recorded, and when so many seconds have passed since the last look; for ever."""
    clock, store = context.home.clock, context.home.store
    while True:
        version = store.data_version()
        yield
        again_at = clock.monotonic() + seconds
        while (left := again_at - clock.monotonic()) > 0 and store.data_version() == version:
            clock.sleep(min(left, _LOOK_SECONDS))


def keep_drawn(context: "Context", show: Callable[[], object], seconds: float) -> None:
    """Draw what `show` prints through the context's console, complaints included. Ends by KeyboardInterrupt."""
    terminal = context.console
    drawn: list[str] = []
    size = (0, 0)
    try:
        terminal.drive(_ENTER)
        for _ in looks(context, seconds):
            now_size = terminal.size()
            if now_size != size:
                size, drawn = now_size, []
                terminal.drive("\x1b[H\x1b[2J")
            lines = _fitting(_printed(context, show), size[1])
            terminal.drive(_changes(drawn, lines))
            drawn = lines
    finally:
        context.console = terminal
        terminal.drive(_LEAVE)


def _printed(context: "Context", show: Callable[[], object]) -> list[str]:
    page = _Page()
    terminal = context.console
    context.console = Console(out=page, err=page)
    try:
        show()
    finally:
        context.console = terminal
    return page.getvalue().splitlines()


def _fitting(lines: list[str], height: int) -> list[str]:
    """As many as there is room for; the last one says how many there is none for."""
    if len(lines) <= height:
        return lines
    return [*lines[: height - 1], f"… {len(lines) - height + 1} more lines"]


def _changes(old: list[str], new: list[str]) -> str:
    """What turns one page into the other."""
    parts = [
        f"\x1b[{number + 1};1H{line}\x1b[K"
        for number, line in enumerate(new)
        if number >= len(old) or old[number] != line
    ]
    if len(new) < len(old):
        parts.append(f"\x1b[{len(new) + 1};1H\x1b[J")
    return "".join(parts)
