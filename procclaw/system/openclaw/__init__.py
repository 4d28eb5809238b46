"""OpenClaw, reached through its command: messages to channels, its agent, its skills, its memory.

One command line, run to its end within a time limit; every failure of it exits 1, so what happened is read from the
JSON it prints. Nothing here decides whether to try again: what is told is whether that could help. The command finds
the environment it is given and the OPENCLAW_ variables of our own, which name the set-up and may hold the gateway's
token; that is never put into an argument. Where no `openclaw` is on the PATH nothing is started.
"""

import json
import os
import shutil
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from procclaw.model.clock import SystemClock
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Call, MemoryPage, Message, SendResult, Sent
from procclaw.system.openclaw.hooks import ask_agent
from procclaw.system.processes import CommandResult, run_command

CALL_SECONDS = 30.0
"""A call takes 1 to 6 s on a small machine that is idle."""
OWNER_SECONDS = 600.0
"""How long the answer to who owns a channel holds: the question takes as long as sending."""
_MOST_DETAIL = 240
_QUEUED = "OUTBOUND_DELIVERY_QUEUED"
_NEEDS_SOMEBODY = frozenset({"INVALID_REQUEST", "gateway_credentials_required"})
"""Failures that stay until a configuration is changed."""
NOT_INSTALLED = "openclaw is not installed, or not on the PATH"


class Reply(NamedTuple):
    """What `openclaw ... --json` answered."""

    value: Any
    """The JSON, None if it printed none."""
    trouble: str = ""
    """In words; empty: it succeeded."""
    kinds: frozenset[str] = frozenset()
    """The names by which OpenClaw calls the trouble."""
    is_absent: bool = False
    """There is no such command."""


class Openclaw:
    def __init__(self, env: Mapping[str, str], give_up: int | None = None) -> None:
        own = {name: value for name, value in os.environ.items() if name.startswith("OPENCLAW_")}
        self._env = {"NO_COLOR": "1", **own, **env}
        self._give_up = give_up

    @property
    def path(self) -> str | None:
        """Of the command; None: there is none."""
        return shutil.which("openclaw", path=self._env.get("PATH"))

    def ask(self, *words: str, seconds: float = CALL_SECONDS) -> Reply:
        """Run it, and read the JSON it answers with."""
        path = self.path
        if path is None:
            return Reply(None, NOT_INSTALLED, is_absent=True)
        if seconds <= 0:
            return Reply(None, "no time was left for it")
        result = run_command((path, *words), seconds, env=self._env, cwd="/", give_up=self._give_up)
        return _read(result, seconds)

    # --- skills ---

    def skill(self, name: str) -> Reply:
        return self.ask("skills", "info", name, "--json")

    def install_skill(self, folder: str) -> Reply:
        """Copy a skill to where all agents find it, over an older one."""
        return self.ask("skills", "install", folder, "--global", "--force")

    def state_folder(self) -> str:
        """Where OpenClaw keeps what it has, as far as the environment tells; its command does not say."""
        if state := self._env.get("OPENCLAW_STATE_DIR"):
            return _expanded(state, self._env)
        home = self._env.get("OPENCLAW_HOME") or self._env.get("HOME") or "/"
        profile = self._env.get("OPENCLAW_PROFILE", "")
        is_usual = profile in ("", "default")
        return os.path.join(_expanded(home, self._env), ".openclaw" if is_usual else f".openclaw-{profile}")


class Messenger:
    """Sends messages, and remembers for a while who owns a channel. For any thread."""

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._owners: dict[str, tuple[float, str]] = {}

    def send(self, message: Message, env: Mapping[str, str], seconds: float, give_up: int | None) -> SendResult:
        """Send it, or have the gateway send it, once; the same key again is the same message."""
        deadline = self._clock.monotonic() + seconds
        openclaw = Openclaw(env, give_up)
        target = self._target(openclaw, message, deadline)
        if isinstance(target, SendResult):
            return target
        params = {
            "channel": message.channel,
            "to": target,
            "message": _as_text(message.text),
            "idempotencyKey": message.key,
        }
        words = ("gateway", "call", "send", "--json", "--params", json.dumps(params))
        return _outcome(openclaw.ask(*words, seconds=self._left(deadline)))

    def tell_agent(
        self, call: Call, message: Message, env: Mapping[str, str], seconds: float, give_up: int | None
    ) -> SendResult:
        """Ask the agent to see to it, and to answer where the message went; or wake it, and leave it at that."""
        if call.trouble:
            return SendResult(Sent.REFUSED, call.trouble)
        if call.hooks is None:
            return self._wake(call.text, env, seconds, give_up)
        deadline = self._clock.monotonic() + seconds
        target = self._target(Openclaw(env, give_up), message, deadline)
        if isinstance(target, SendResult):
            return target
        request = {"message": call.text, "name": "ProcClaw", "channel": message.channel, "to": target}
        return ask_agent(call.hooks, request, message.key, self._left(deadline))

    def _wake(self, text: str, env: Mapping[str, str], seconds: float, give_up: int | None) -> SendResult:
        """That it was taken says nothing of whether the agent looks at it."""
        params = json.dumps({"text": text, "mode": "now"})
        words = ("gateway", "call", "wake", "--json", "--params", params)
        reply = Openclaw(env, give_up).ask(*words, seconds=min(seconds, CALL_SECONDS))
        return SendResult(Sent.FAILED, reply.trouble) if reply.trouble else SendResult(Sent.DELIVERED)

    def _left(self, deadline: float) -> float:
        return max(0.0, min(CALL_SECONDS, deadline - self._clock.monotonic()))

    def _target(self, openclaw: Openclaw, message: Message, deadline: float) -> str | SendResult:
        return message.target if message.target is not None else self._owner(openclaw, message.channel, deadline)

    def _owner(self, openclaw: Openclaw, channel: str, deadline: float) -> str | SendResult:
        """To whom OpenClaw listens on that channel; else why nobody can be told."""
        now = self._clock.monotonic()
        with self._lock:
            known_at, owner = self._owners.get(channel, (now, ""))
        if owner and now - known_at < OWNER_SECONDS:
            return owner
        for path in ("commands.ownerAllowFrom", f"channels.{channel}.allowFrom"):
            reply = openclaw.ask("config", "get", path, "--json", seconds=self._left(deadline))
            # A path that is not set is a failure of that kind.
            if reply.trouble and "cli_error" not in reply.kinds:
                return SendResult(Sent.FAILED, reply.trouble)
            found = _owner_in(reply.value, channel, is_bare_enough=path.startswith("channels."))
            if found is not None:
                with self._lock:
                    self._owners[channel] = (now, found)
                return found
        words = f"OpenClaw knows no owner there; name one: {{channel: {channel}, target: ...}}"
        return SendResult(Sent.REFUSED, words)


def write_skill(folder: str, text: str) -> str:
    """Put SKILL.md into a folder, which is made, in one step; its path. Raises ProcclawError."""
    path = os.path.join(folder, "SKILL.md")
    try:
        _replace(folder, "SKILL.md", text)
    except OSError as error:
        raise ProcclawError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return path


def read_skill(folder: str) -> str | None:
    """What SKILL.md in a folder says; None: it is not there, or cannot be read."""
    try:
        with open(os.path.join(folder, "SKILL.md"), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _owner_in(value: Any, channel: str, *, is_bare_enough: bool) -> str | None:
    for each in value if isinstance(value, list) else ():
        prefix, colon, rest = str(each).partition(":")
        if colon and prefix == channel:
            return rest
        if is_bare_enough and str(each) not in ("", "*"):
            return str(each)
    return None


def _as_text(text: str) -> str:
    """OpenClaw hands tags through as markup; these look the same and are none."""
    return text.replace("<", "‹").replace(">", "›")


def _outcome(reply: Reply) -> SendResult:
    if not reply.trouble:
        number = reply.value.get("messageId") if isinstance(reply.value, dict) else None
        if number is None:
            return SendResult(Sent.FAILED, "its answer names no message")
        return SendResult(Sent.DELIVERED, f"message {number}")
    if _QUEUED in reply.kinds:
        return SendResult(Sent.QUEUED, "OpenClaw's gateway has queued it and does not say whether it arrives")
    if reply.kinds & _NEEDS_SOMEBODY:
        return SendResult(Sent.REFUSED, reply.trouble)
    return SendResult(Sent.FAILED, reply.trouble)


def _read(result: CommandResult, seconds: float) -> Reply:
    if result.is_timed_out:
        return Reply(None, f"openclaw timed out after {seconds:g} s", frozenset({"timed_out"}))
    if result.is_ours:
        return Reply(None, "openclaw did not start, for want of descriptors, memory or processes")
    value = _json(result.stdout)
    if result.exit_code == 0:
        return Reply(value)
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        said = _one_line(result.stderr.decode(errors="replace"))
        return Reply(value, said or f"openclaw: exit code {result.exit_code}")
    details = error.get("details")
    names = (error.get("type"), error.get("code"), details.get("code") if isinstance(details, dict) else None)
    said = _one_line(str(error.get("message") or error.get("reason") or "")) or f"exit code {result.exit_code}"
    return Reply(value, said, frozenset(str(name) for name in names if name))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _one_line(text: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _MOST_DETAIL else line[: _MOST_DETAIL - 1] + "…"


def _expanded(path: str, env: Mapping[str, str]) -> str:
    home = env.get("HOME", "/")
    return home + path[1:] if path == "~" or path.startswith("~/") else path


class Memory:
    """Writes pages into the memory of OpenClaw's main agent, in a thread of its own that lives while there are some."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, tuple[MemoryPage, str | None, Mapping[str, str]]] = {}
        self._is_writing = False
        self._trouble = ""
        self._workspace: str | None = None
        """As OpenClaw told it; asking takes seconds."""

    def write(self, pages: tuple[MemoryPage, ...], workspace: str | None, env: Mapping[str, str]) -> None:
        """Write these, over older ones of the same names; returns at once. `workspace` None: what OpenClaw says."""
        with self._changed:
            self._waiting |= {page.name: (page, workspace, env) for page in pages}
            if self._is_writing:
                return
            self._is_writing = True
        try:
            threading.Thread(target=self._write_all, name="procclaw-memory", daemon=True).start()
        except RuntimeError:
            # No thread to be had: they are written with the next ones.
            with self._changed:
                self._is_writing = False

    def is_busy(self) -> bool:
        with self._changed:
            return self._is_writing

    def wait(self, seconds: float) -> None:
        """Until all is written, at most that long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_writing, seconds)

    def trouble(self) -> str:
        """Why the page that was tried last was not written; empty when it was."""
        with self._changed:
            return self._trouble

    def _write_all(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_writing = False
                    self._changed.notify_all()
                    return
                page, workspace, env = self._waiting.pop(next(iter(self._waiting)))
            trouble = self._write(page, workspace, env)
            with self._changed:
                self._trouble = trouble

    def _write(self, page: MemoryPage, workspace: str | None, env: Mapping[str, str]) -> str:
        if workspace is None:
            if self._workspace is None:
                reply = Openclaw(env).ask("agents", "list", "--json")
                if reply.trouble:
                    return reply.trouble
                self._workspace = _main_workspace(reply.value)
            folder = self._workspace
        else:
            folder = _expanded(workspace, env)
        # Nothing that looks like an OpenClaw is made up: it has a workspace, or it is not set up.
        if folder is None or not os.path.isdir(folder):
            self._workspace = None
            return f"OpenClaw's workspace {folder or 'is not known'}: no such directory"
        try:
            _replace(os.path.join(folder, "memory"), page.name, page.text)
        except OSError as error:
            return f"{folder}/memory/{page.name}: {(error.strerror or str(error)).lower()}"
        return ""


def _main_workspace(agents: Any) -> str | None:
    found = [each for each in agents if isinstance(each, dict)] if isinstance(agents, list) else []
    main = next((each for each in found if each.get("isDefault")), found[0] if found else {})
    workspace = main.get("workspace")
    return workspace if isinstance(workspace, str) else None


def _replace(folder: str, name: str, text: str) -> None:
    """Write a file in one step; what is half written has no name that OpenClaw reads."""
    os.makedirs(folder, exist_ok=True)
    beside = os.path.join(folder, f".{name}.new")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, os.path.join(folder, name))
