"""The daemon as an agent of launchd, which starts it at login and again whenever it fails.

`AbandonProcessGroup` because jobs outlive their manager, `SuccessfulExit: false` so that `procclaw daemon stop` holds.
Written without a macOS to try it on; the property list is read back in the tests, `launchctl` there is a stand-in.
"""

import os
import plistlib
import re
import shlex

from procclaw.model.errors import ProcclawError
from procclaw.system.autostart import SIGNATURE, Entry, Standing
from procclaw.system.processes import CommandResult, run_command

_ASK_SECONDS = 30.0
_BEFORE_ROOT_ELEMENT = b"<plist "


class Launchd:
    kind = "launchd"

    def __init__(self, entry: Entry, *, agents: str | None = None) -> None:
        """`agents`: the folder of agents, else the user's."""
        self.name = f"com.procclaw.daemon.{entry.suffix}" if entry.suffix else "com.procclaw.daemon"
        folder = agents or os.path.expanduser("~/Library/LaunchAgents")
        self.path = os.path.join(folder, f"{self.name}.plist")
        self.links: tuple[str, ...] = ()
        self.content = _agent(self.name, entry)
        self.log_hint = f"launchctl print {self._target}"

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"

    @property
    def _target(self) -> str:
        return f"{self._domain}/{self.name}"

    def lack(self) -> str | None:
        answer = self._ask("print", self._domain)
        if answer.exit_code == 127:
            return "there is no launchctl"
        if answer.exit_code != 0:
            return (
                f"this user has no desktop session, so no agents (launchctl print {self._domain} says: {_said(answer)})"
            )
        return None

    def starts(self, content: bytes) -> str:
        try:
            return shlex.join(plistlib.loads(content)["ProgramArguments"])
        except (plistlib.InvalidFileException, ValueError, KeyError, TypeError):
            return ""

    def standing(self) -> Standing:
        answer = self._ask("print", self._target)
        if answer.exit_code != 0:
            return Standing()
        text = answer.stdout.decode(errors="replace")
        pid = re.search(r"^\s*pid = (\d+)$", text, re.MULTILINE)
        state = re.search(r"^\s*state = (.+)$", text, re.MULTILINE)
        return Standing(
            is_enabled=True,
            is_active=pid is not None,
            pid=None if pid is None else int(pid[1]),
            detail="" if state is None else state[1],
        )

    def register(self) -> None:
        """What launchd has loaded stays as it was loaded: out with the old one, in with the new one."""
        self._ask("bootout", self._target)
        self._tell("enable", self._target)
        self._tell("bootstrap", self._domain, self.path)

    def start(self, *, anew: bool) -> None:
        """What has just been registered is started by that."""
        if not anew:
            self._tell("kickstart", self._target)

    def retire(self) -> None:
        if self._ask("print", self._target).exit_code == 0:
            self._tell("bootout", self._target)

    def forget(self) -> None:
        """There is nothing that remembers it."""

    def hints(self) -> tuple[str, ...]:
        return ("it runs while you are logged in to the desktop",)

    def _ask(self, *words: str) -> CommandResult:
        return run_command(["launchctl", *words], _ASK_SECONDS)

    def _tell(self, *words: str) -> None:
        answer = self._ask(*words)
        if answer.exit_code != 0:
            raise ProcclawError(f"launchctl {' '.join(words)}: {_said(answer) or f'exit code {answer.exit_code}'}")


def _said(answer: CommandResult) -> str:
    return " ".join((answer.stderr or answer.stdout).decode(errors="replace").split())


def _agent(name: str, entry: Entry) -> bytes:
    startup_log = os.path.join(entry.home, "logs", "daemon.startup.log")
    agent = plistlib.dumps(
        {
            "Label": name,
            "ProgramArguments": list(entry.argv),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "AbandonProcessGroup": True,
            "ProcessType": "Interactive",
            "StandardOutPath": startup_log,
            "StandardErrorPath": startup_log,
        },
        sort_keys=False,
    )
    return agent.replace(_BEFORE_ROOT_ELEMENT, f"<!-- {SIGNATURE} -->\n".encode() + _BEFORE_ROOT_ELEMENT, 1)
