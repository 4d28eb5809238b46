"""How each kind of check is made, and the words for what it found."""

import errno
import os
import socket
import threading
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from procclaw.model.clock import EPOCH, SystemClock, seconds_between
from procclaw.model.errors import in_words
from procclaw.model.outside import Probe, ProbeResult
from procclaw.model.secret import revealed_all
from procclaw.model.spec import CheckType, HealthCheck
from procclaw.model.urls import Url, parse_url
from procclaw.system.probes.asking import MOST_BODY_BYTES, Answer, BadAnswer, ask
from procclaw.system.probes.connecting import OUR_LACK, connect
from procclaw.system.probes.threads import Threads
from procclaw.system.processes import CommandResult, run_command

if TYPE_CHECKING:
    from ssl import SSLContext

_MOST_COMMANDS = 16
_MOST_STATS = 16
_MOST_LOOKUPS = 16
_SECONDS_TO_KILL = 0.5
"""A command that was given up is dead after milliseconds, if anything can kill it."""

_SHELL_WORDS = {126: ": the command cannot be executed", 127: ": there is no such command"}


class Verdict(NamedTuple):
    is_ok: bool
    detail: str


class Checks:
    """For use within one loop; at most so many connections at a time.

    The time limit of a check counts from when its turn has come.
    """

    def __init__(self, most_connections: int) -> None:
        import asyncio

        self._clock = SystemClock()
        self._connections = asyncio.Semaphore(most_connections)
        self._commands = Threads(_MOST_COMMANDS)
        self._stats = Threads(_MOST_STATS)
        self._lookups = Threads(_MOST_LOOKUPS)
        self._tls: SSLContext | None = None

    async def make(self, probe: Probe) -> ProbeResult | None:
        """None when it could not be made, for want of something that is ours to have."""
        check = probe.check
        match check.type:
            case CheckType.HTTP:
                verdict = await self._http(check)
            case CheckType.TCP:
                making = self._tcp(check)
                verdict = await _judged(f"{_bracketed(check.host)}:{check.port}", making, check)
            case CheckType.FILE:
                path = os.path.join(probe.cwd, check.path or "")
                verdict = await _judged(path, self._file(path, check), check)
            case CheckType.EXEC:
                verdict = await _judged("", self._exec(probe), check)
            case CheckType.PROCESS | CheckType.NONE:
                raise ValueError(f"nobody goes and looks for a check of type {check.type}")
            case _:
                assert_never(check.type)
        return None if verdict is None else ProbeResult(probe.job_id, probe.attempt_id, *verdict)

    async def _http(self, check: HealthCheck) -> Verdict | None:
        try:
            url = parse_url(check.url or "")
        except ValueError:
            # Not what is wrong with it: that quotes it, passwords included.
            return Verdict(is_ok=False, detail="the URL is none of HTTP")
        return await _judged(f"{check.method} {url.shown}", self._ask(check, url), check)

    async def _ask(self, check: HealthCheck, url: Url) -> Verdict:
        import asyncio

        seconds = check.timeout_seconds
        async with self._connections, asyncio.timeout(seconds):
            sock = await connect(url.host, url.port, seconds, self._lookups)
            tls: dict[str, Any] = {}
            if url.scheme == "https":
                tls = {"ssl": self._trust(), "server_hostname": url.host, "ssl_handshake_timeout": seconds}
            reader, writer = await asyncio.open_connection(sock=sock, **tls)
            try:
                answer = await ask(reader, writer, url, check)
            finally:
                # Not `close`, which waits for the other side to take leave.
                writer.transport.abort()
        return _verdict(answer, check)

    async def _tcp(self, check: HealthCheck) -> Verdict:
        async with self._connections:
            sock = await connect(check.host, check.port or 0, check.timeout_seconds, self._lookups)
            sock.close()
        return Verdict(is_ok=True, detail="accepts connections")

    async def _file(self, path: str, check: HealthCheck) -> Verdict:
        if "\0" in path:
            return Verdict(is_ok=False, detail="no path")
        found = await self._stats.call(path, partial(os.stat, path), check.timeout_seconds)
        age = seconds_between(EPOCH + timedelta(seconds=found.st_mtime), self._clock.now())
        # A time in the future is as good as one in the past: the clock went back, or another machine's is ahead. A
        # job that lives will touch the file again before it is too far off.
        is_ok = abs(age) <= check.max_age_seconds
        when = f"changed {age:.0f} s ago" if age >= 0 else f"its time lies {-age:.0f} s ahead of the clock"
        return Verdict(is_ok, when if is_ok else f"{when}, {check.max_age_seconds:g} s are good")

    async def _exec(self, probe: Probe) -> Verdict:
        import asyncio

        command = _Command(probe)
        answer = await self._commands.begin(command.run)
        try:
            async with asyncio.timeout(probe.check.timeout_seconds + _SECONDS_TO_KILL):
                result = await asyncio.shield(answer)
        finally:
            command.give_up()
            # So that whoever closes us leaves no command behind.
            await asyncio.wait([answer], timeout=_SECONDS_TO_KILL)
        if result.is_ours:
            raise OSError(errno.EAGAIN, "the command did not start")
        if result.exit_code is None:
            raise TimeoutError
        meaning = _SHELL_WORDS.get(result.exit_code, "")
        return Verdict(result.exit_code == 0, f"exit code {result.exit_code}{meaning}")

    def _trust(self) -> "SSLContext":
        """The system's certificates, read once: that takes 25 ms, during which no check goes on."""
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls


class _Command:
    """An exec check's command: run in one thread, given up by another."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._is_given_up = False
        self._lifeline: socket.socket | None = None

    def run(self) -> CommandResult:
        probe = self._probe
        with self._lock:
            if self._is_given_up:
                return CommandResult(None, b"", b"")
            self._lifeline, end = socket.socketpair()
        with self._lifeline, end:
            return run_command(
                probe.argv,
                probe.check.timeout_seconds,
                env=revealed_all(probe.env),
                cwd=probe.cwd,
                user=probe.user,
                group=probe.group,
                give_up=end.fileno(),
            )

    def give_up(self) -> None:
        with self._lock:
            self._is_given_up = True
            if self._lifeline is not None:
                self._lifeline.close()


async def _judged(subject: str, making: Awaitable[Verdict], check: HealthCheck) -> Verdict | None:
    """The verdict with what it is about; None when the check could not be made, and that is our fault."""
    try:
        is_ok, detail = await making
    except BadAnswer as error:
        is_ok, detail = False, str(error)
    except TimeoutError:
        is_ok, detail = False, f"timed out after {check.timeout_seconds:g} s"
    except OSError as error:
        if error.errno in OUR_LACK:
            return None
        is_ok, detail = False, in_words(error)
    return Verdict(is_ok, f"{subject}: {detail}" if subject else detail)


def _verdict(answer: Answer, check: HealthCheck) -> Verdict:
    if answer.status != check.expected_status:
        return Verdict(is_ok=False, detail=f"status {answer.status}, expected {check.expected_status}")
    if not answer.has_wanted:
        where = f"the first {MOST_BODY_BYTES >> 10} KiB of the answer do" if answer.is_cut else "the answer does"
        return Verdict(is_ok=False, detail=f"{where} not contain the expected body")
    return Verdict(is_ok=True, detail=f"status {answer.status}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
