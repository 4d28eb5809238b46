"""What a person may ask of OpenClaw through us: the skill for its agents, how all of it stands, a test message.

OpenClaw is found and run in the environment in which alerts are delivered, so what is told here holds there.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from procclaw.engine.home import Home
from procclaw.engine.launching import command_environment
from procclaw.engine.notices import message_key
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Message, SendResult
from procclaw.model.secret import revealed_all
from procclaw.model.spec import Channel, Spec
from procclaw.system.openclaw import NOT_INSTALLED, Messenger, Openclaw, Reply, read_skill, write_skill

SKILL = "procclaw"
TEST_SECONDS = 60.0

View = dict[str, Any]


class Installed(NamedTuple):
    path: str
    """The folder of the skill."""
    is_by_file: bool
    """Put there by us: OpenClaw did not do it."""
    trouble: str
    """Why it did not; empty when it did."""


class Companion:
    def __init__(self, home: Home, spec: Spec) -> None:
        self._home = home
        self._spec = spec
        self._env: Mapping[str, str] = revealed_all(command_environment(spec.config, home.credentials).items())
        self._openclaw = Openclaw(self._env)

    # --- the skill ---

    def install_skill(self, text: str) -> Installed:
        """Put the skill where every agent finds it, over an older one. Raises ProcclawError.

        Through OpenClaw, which knows where that is; where it cannot be run, into the folder that it reads.
        """
        trouble = self._install_through(text)
        if not trouble:
            told = self._openclaw.skill(SKILL)
            where = told.value.get("baseDir") if isinstance(told.value, dict) else None
            return Installed(str(where or self._folder()), is_by_file=False, trouble="")
        if not os.path.isdir(self._openclaw.state_folder()):
            # Nothing that looks like an OpenClaw is made up.
            raise ProcclawError(f"{trouble}; and there is no {self._openclaw.state_folder()} to put the skill into")
        write_skill(self._folder(), text)
        return Installed(self._folder(), is_by_file=True, trouble=trouble)

    def _install_through(self, text: str) -> str:
        if self._openclaw.path is None:
            return NOT_INSTALLED
        place = tempfile.mkdtemp(prefix="procclaw-skill-")
        try:
            # OpenClaw calls a skill as its folder is called.
            write_skill(os.path.join(place, SKILL), text)
            return self._openclaw.install_skill(os.path.join(place, SKILL)).trouble
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _folder(self) -> str:
        return os.path.join(self._openclaw.state_folder(), "skills", SKILL)

    # --- how it stands ---

    def status(self, text: str) -> View:
        """`text` is the skill as this version has it."""
        policy, ways = self._spec.config.openclaw, self._spec.config.alerts
        path = self._openclaw.path
        version = Reply(None, NOT_INSTALLED) if path is None else self._openclaw.ask("--version")
        return {
            "installed": path is not None,
            "command": path,
            "problem": version.trouble or None,
            "skill": self._skill(text) if not version.trouble else self._file_alone(text),
            "alerts": {
                "channels": [_place(channel) for channel in ways.channels],
                "notify_agent": policy.notify_agent,
                "fallback": policy.fallback.is_any,
            },
        }

    def _skill(self, text: str) -> View:
        reply = self._openclaw.skill(SKILL)
        told = reply.value if isinstance(reply.value, dict) and not reply.trouble else None
        if told is None:
            # A skill that cannot be read is unknown to OpenClaw, whatever lies there.
            return self._file_alone(text) | {"is_loaded": False, "problem": reply.trouble or "no answer"}
        folder = str(told.get("baseDir") or self._folder())
        missing = told.get("missing")
        return {
            "path": folder,
            "is_loaded": True,
            "is_current": read_skill(folder) == text,
            "eligible": told.get("eligible") is True,
            "visible": told.get("modelVisible") is True,
            "disabled": told.get("disabled") is True,
            "blocked": told.get("blockedByAllowlist") is True or told.get("blockedByAgentFilter") is True,
            "missing": [
                f"{kind} {name}"
                for kind, names in (missing.items() if isinstance(missing, dict) else ())
                for name in names
            ],
            "problem": None,
        }

    def _file_alone(self, text: str) -> View:
        """What can be said without OpenClaw."""
        there = read_skill(self._folder())
        problem = "it is not installed" if there is None else skill_fault(there)
        return {
            "path": None if there is None else self._folder(),
            "is_loaded": None,
            "is_current": there == text,
            "eligible": None,
            "visible": None,
            "disabled": None,
            "blocked": None,
            "missing": [],
            "problem": problem,
        }

    # --- a test ---

    def test_alert(self, written: str | None) -> list[tuple[str, SendResult]]:
        """Send a message the way an alert goes, to one place (`telegram:123`) or to all there are."""
        channels = self._spec.config.alerts.channels
        if written is not None:
            name, _, target = written.partition(":")
            found = tuple(each for each in channels if each.name == name and target in ("", each.target))
            channels = found or (Channel(name, target or None),)
        if not channels:
            raise ProcclawError(
                "openclaw.alerts names no channel, or is not enabled; --channel NAME:TARGET tries one all the same"
            )
        messenger = Messenger(self._home.clock)
        what = (os.urandom(8).hex(),)
        words = f"ProcClaw test message from {os.uname().nodename}: alerts arrive here."
        return [
            (
                _place(each),
                messenger.send(Message(message_key(each, what), *each, words), self._env, TEST_SECONDS, None),
            )
            for each in channels
        ]


def skill_fault(text: str) -> str | None:
    """Why OpenClaw would skip a SKILL.md; None: it would not."""
    lines = text.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return "it does not begin with front matter"
    head = lines[1 : lines.index("---", 1)]
    if not any(line.startswith("description:") and line.partition(":")[2].strip() for line in head):
        return "it has no description"
    return None


def _place(channel: Channel) -> str:
    return channel.name if channel.target is None else f"{channel.name} {channel.target}"
