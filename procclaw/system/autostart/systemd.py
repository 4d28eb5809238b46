"""The daemon as a unit of systemd: of the user's own instance, or of the machine's where root asks.

Root's services belong to the machine: they come up with it and need no login, while an instance of systemd for root
seldom runs. Anybody else's unit runs while that user is logged in, and always once the user lingers.

Why the unit says what it does: `KillMode=process` because jobs outlive their manager, which for the same reason may be
killed by the watchdog at once; `OOMPolicy=continue` so that the kernel's killing of one job does not end all;
`TasksMax` because the jobs' processes count as the unit's; `Restart=on-failure`, not `always`, so that `procclaw daemon
stop` holds. It is never given up on: what keeps it from starting (a full disk, a held lock) ends untold.
"""

import os
import pwd

from procclaw.model.errors import ProcclawError
from procclaw.system.autostart import SIGNATURE, Entry, Standing
from procclaw.system.processes import run_command

WATCHDOG_SECONDS = 120
"""The loop comes round every 30 s at least; a cycle that starts a thousand jobs takes a while."""
START_SECONDS = 300
"""A first cycle looks at everything that is declared, after waiting for a single pass to end."""
STOP_SECONDS = 30
_ASK_SECONDS = 30.0
_SYSTEM_UNITS = "/etc/systemd/system"
_LINGERING = "/var/lib/systemd/linger"
_AT_WORK = frozenset({"initializing", "starting", "running", "degraded", "maintenance", "stopping"})
"""What `is-system-running` may print where there is something that runs."""

_UNIT = """\
# {signature}
[Unit]
Description=ProcClaw, process manager and job scheduler ({home})
{relations}StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
ExecReload={reload}
Restart=on-failure
RestartSec=5
TimeoutStartSec={start_seconds}
TimeoutStopSec={stop_seconds}
WatchdogSec={watchdog_seconds}
WatchdogSignal=SIGKILL
KillMode=process
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy={target}
"""


class Systemd:
    kind = "systemd"

    def __init__(self, entry: Entry, *, is_root: bool, units: str | None = None, lingering: str = _LINGERING) -> None:
        """`units`: the folder of units, else the one that systemd looks into."""
        self._is_root = is_root
        self._lingering = lingering
        self.name = f"procclaw-{entry.suffix}.service" if entry.suffix else "procclaw.service"
        self.path = os.path.join(units or (_SYSTEM_UNITS if is_root else _user_units()), self.name)
        wants = f"{_target(is_root=is_root)}.wants"
        self.links: tuple[str, ...] = (os.path.join(os.path.dirname(self.path), wants, self.name),)
        self.content = _unit(entry, is_root=is_root).encode()
        self.log_hint = f"journalctl {'' if is_root else '--user '}-u {self.name}"

    def lack(self) -> str | None:
        answer = run_command(self._argv("is-system-running"), _ASK_SECONDS, env=self._environment())
        word = answer.stdout.decode(errors="replace").strip()
        if word in _AT_WORK:
            return None
        if answer.exit_code == 127:
            return "there is no systemctl"
        whose = "systemd does not run here" if self._is_root else "no systemd of this user's runs here"
        said = _said(answer.stderr) or word
        return f"{whose} (systemctl{'' if self._is_root else ' --user'} says: {said})" if said else whose

    def starts(self, content: bytes) -> str:
        lines = content.decode(errors="replace").splitlines()
        return next((line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")), "")

    def standing(self) -> Standing:
        names = "ActiveState,SubState,UnitFileState,MainPID,Result"
        answer = run_command(
            self._argv("show", f"--property={names}", self.name), _ASK_SECONDS, env=self._environment()
        )
        told = dict(line.split("=", 1) for line in answer.stdout.decode(errors="replace").splitlines() if "=" in line)
        state, pid = told.get("ActiveState", ""), told.get("MainPID", "0")
        result = told.get("Result", "success")
        words = [f"{state} ({told.get('SubState', '')})" if state else "", "" if result == "success" else result]
        return Standing(
            is_enabled=told.get("UnitFileState", "") in ("enabled", "enabled-runtime"),
            is_active=state in ("active", "reloading"),
            pid=int(pid) if pid.isdecimal() and int(pid) else None,
            detail=", ".join(word for word in words if word),
        )

    def register(self) -> None:
        self._tell("daemon-reload")
        # Not `enable`: what it is wanted by may have changed.
        self._tell("reenable", self.name)

    def start(self, *, anew: bool) -> None:
        self._tell("restart" if anew else "start", self.name, patience_seconds=START_SECONDS + STOP_SECONDS + 10)

    def retire(self) -> None:
        self._tell("disable", "--now", self.name, patience_seconds=STOP_SECONDS + 10)

    def forget(self) -> None:
        self._tell("daemon-reload")
        # One that had failed is remembered without its file; one that had not is not known, which is as good.
        run_command(self._argv("reset-failed", self.name), _ASK_SECONDS, env=self._environment())

    def hints(self) -> tuple[str, ...]:
        if self._is_root:
            return ()
        user = pwd.getpwuid(os.getuid()).pw_name
        if os.path.exists(os.path.join(self._lingering, user)):
            return ()
        return (
            f"it runs while {user} is logged in, and ends with the last session, jobs included; to have it run always:"
            f" loginctl enable-linger {user}",
        )

    def _argv(self, *words: str) -> list[str]:
        return ["systemctl", *([] if self._is_root else ["--user"]), *words]

    def _environment(self) -> dict[str, str]:
        """Ours; where su, cron or ssh have not said where the user's instance listens, it is at the usual place."""
        usual = f"/run/user/{os.getuid()}"
        found = {} if self._is_root or not os.path.isdir(usual) else {"XDG_RUNTIME_DIR": usual}
        # Its words are read by us and shown to people, so they are asked for in one language.
        return {**found, **os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}

    def _tell(self, *words: str, patience_seconds: float = _ASK_SECONDS) -> None:
        argv = self._argv(*words)
        answer = run_command(argv, patience_seconds, env=self._environment())
        if answer.exit_code != 0:
            said = _said(answer.stderr) or ("no answer" if answer.is_timed_out else f"exit code {answer.exit_code}")
            raise ProcclawError(f"{' '.join(argv)}: {said}")


def _said(output: bytes) -> str:
    return " ".join(output.decode(errors="replace").split())


def _user_units() -> str:
    # A relative path is to be ignored, says the specification of these variables.
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    return os.path.join(folder if os.path.isabs(folder) else os.path.expanduser("~/.config"), "systemd", "user")


def _unit(entry: Entry, *, is_root: bool) -> str:
    # Only the machine's own systemd knows when a file system is mounted and the network is up.
    relations = f"RequiresMountsFor={_quoted(entry.home)}\nAfter=network.target\n" if is_root else ""
    return _UNIT.format(
        signature=SIGNATURE,
        home=entry.home.replace("%", "%%"),
        relations=relations,
        start=_command(entry.argv),
        reload=_command((*entry.program, "--home", entry.home, "reload")),
        start_seconds=START_SECONDS,
        stop_seconds=STOP_SECONDS,
        watchdog_seconds=WATCHDOG_SECONDS,
        target=_target(is_root=is_root),
    )


def _target(*, is_root: bool) -> str:
    return "multi-user.target" if is_root else "default.target"


def _command(argv: tuple[str, ...]) -> str:
    """With a colon before it a dollar sign is one; it could not be escaped in the path of the program."""
    return " ".join((_quoted(f":{argv[0]}"), *map(_quoted, argv[1:])))


def _quoted(word: str) -> str:
    escaped = word.replace("%", "%%")
    if escaped and not set(escaped) & set(" \"'\\;#"):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
