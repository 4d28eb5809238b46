"""list --watch: on a real terminal, and for programs."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest

from procclaw.interface.screen import _changes, _fitting
from tests.commandline import CommandLine
from tests.driver import WITHIN, Answer, Driver
from tests.support import Reaper

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?7h\x1b[?25h\x1b[?1049l"


class Window:
    """A terminal with `list --watch` on it."""

    def __init__(self, driver: Driver, reaper: Reaper, *words: str, columns: int = 100, lines: int = 20) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, lines)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        argv = driver.argv("list", "--watch", *words)
        self.process = reaper.spawn(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm", "NO_COLOR": "1"}
        )
        os.close(theirs)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_until(self, words: bytes | None) -> bytes:
        text = b""
        while words is None or words not in text:
            ready, _, _ = select.select([self._ours], [], [], WITHIN)
            assert ready, f"no more came after {text!r}"
            try:
                text += os.read(self._ours, 65536)
            except OSError:
                break
        return text

    def close(self) -> None:
        os.close(self._ours)


@pytest.fixture
def declared(driver: Driver) -> Iterator[Driver]:
    driver.declare({"job": {"cmd": "exec sleep 1000"}, "other": {"cmd": "true"}})
    driver.ask("reconcile")
    yield driver
    driver.ask("stop", "job", "--force")


@pytest.mark.real
def test_a_watched_list_shows_what_changes_and_gives_the_terminal_back(declared: Driver, reaper: Reaper) -> None:
    window = Window(declared, reaper, "3600")
    text = window.read_until(b"other")
    assert text.startswith(ENTERED)
    assert b"stopped" in text
    declared.ask("start", "job")
    text = window.read_until(b"running")
    assert b"other" not in text or b"\x1b[2J" not in text  # only what is new is drawn
    window.process.send_signal(signal.SIGINT)
    assert window.read_until(None).endswith(LEFT)
    assert window.process.wait(timeout=WITHIN) == 130
    window.close()


@pytest.mark.real
def test_a_watched_list_is_drawn_anew_as_time_passes_and_for_another_width(declared: Driver, reaper: Reaper) -> None:
    declared.ask("start", "job")
    window = Window(declared, reaper, "0.3", columns=100, lines=20)
    window.read_until(b"other")
    window.read_until(b"\x1b[2;1H")  # the line of the job alone: how long it is up
    window.resize(40, 2)
    text = window.read_until(b"more lines")
    assert b"\x1b[2J" in text
    window.process.send_signal(signal.SIGINT)
    assert window.read_until(None).endswith(LEFT)
    assert window.process.wait(timeout=WITHIN) == 130
    window.close()


@pytest.mark.real
def test_a_watched_list_in_json_is_an_object_a_line_for_each_change(declared: Driver, reaper: Reaper) -> None:
    watching = reaper.spawn(declared.argv("list", "--watch", "0.1", "--json"), stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert first["total"] == 2
    declared.ask("start", "job")
    statuses = [first["jobs"][0]["status"]]
    while statuses[-1] != "running":
        statuses.append(json.loads(watching.stdout.readline())["jobs"][0]["status"])
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=WITHIN)
    assert watching.returncode == 130
    # Its uptime has changed ever since, and that alone is no news.
    assert len(rest.splitlines()) <= 2


def test_watching_needs_a_terminal_or_json(cli: CommandLine) -> None:
    cli.declare()
    assert cli("list", "--watch") == Answer(
        2, "", "procclaw: list --watch draws on a terminal; in a pipe, --json prints an object a line\n"
    )
    assert cli("list", "--watch", "0").code == 2


def test_only_lines_that_differ_are_sent() -> None:
    assert _changes([], ["a", "b"]) == "\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K"
    assert _changes(["a", "b"], ["a", "c"]) == "\x1b[2;1Hc\x1b[K"
    assert _changes(["a", "b"], ["a"]) == "\x1b[2;1H\x1b[J"
    assert _changes(["a"], ["a"]) == ""
    assert _fitting(["a", "b", "c"], 2) == ["a", "… 2 more lines"]
    assert _fitting(["a", "b"], 2) == ["a", "b"]
