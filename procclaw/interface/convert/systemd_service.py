"""What a .service unit says about its process, as fields of a job: command, account, environment, restarts, limits.

When it runs (at boot, by a timer) is decided by `systemd`, which hands in the type of the job. Every setting ends as a
field or as a note; those that share a fate share a note.
"""

import os
import re
from collections.abc import Callable, Collection
from typing import Any

from procclaw.interface.convert.conversion import Fate, Ids, Note
from procclaw.interface.convert.section import Misfit
from procclaw.interface.convert.systemd_commands import (
    Command,
    Specifiers,
    as_list,
    as_script,
    as_shell,
    read_command,
    split_commands,
    splits_words,
)
from procclaw.interface.convert.systemd_ending import Ending, signal_sent_by
from procclaw.interface.convert.systemd_units import Setting, Unit, about, shown, words_of
from procclaw.model.references import literal

_SHARED_FATES: tuple[tuple[str, str], ...] = (
    (
        r"Protect(System|Home|KernelTunables|KernelModules|KernelLogs|ControlGroups|Clock|Hostname|Proc)"
        r"|Private(Tmp|Devices|Network|Users|Mounts|IPC|PIDs)"
        r"|Restrict(AddressFamilies|FileSystems|Namespaces|Realtime|SUIDSGID|NetworkInterfaces)"
        r"|SystemCall(Filter|ErrorNumber|Architectures|Log)|Capabilit(yBoundingSet|ies)|AmbientCapabilities"
        r"|NoNewPrivileges|LockPersonality|MemoryDenyWriteExecute|ReadOnly(Paths|Directories)"
        r"|ReadWrite(Paths|Directories)|Inaccessible(Paths|Directories)|(No)?ExecPaths|ExecSearchPath"
        r"|Root(Directory|DirectoryStartOnly|Image|ImageOptions|ImagePolicy|Ephemeral|Hash|HashSignature|Verity)"
        r"|Bind(ReadOnly)?Paths|TemporaryFileSystem|Mount(APIVFS|Flags|Images|ImagePolicy)"
        r"|ExtensionImages|ExtensionDirectories|Device(Allow|Policy)"
        r"|IP(AddressAllow|AddressDeny|IngressFilterPath|EgressFilterPath|CNamespacePath)|SocketBind(Allow|Deny)"
        r"|KeyringMode|SecureBits|SELinuxContext|AppArmorProfile|SmackProcessLabel"
        r"|UserNamespacePath|NetworkNamespacePath|RemoveIPC|Personality|ProcSubset",
        "the process is not confined",
    ),
    (
        r".*Accounting|(Startup)?(CPU|IO|BlockIO|Memory|Allowed|NUMA|Tasks|ManagedOOM|OOM|Slice|Delegate|TimerSlack).*",
        "no control group is made; resources is what there is here",
    ),
    (
        r"Standard(Input|Output|Error).*|Syslog.*|Log[A-Z].*|TTY.*|UtmpIdentifier|UtmpMode",
        "output goes to logs/ (procclaw logs JOB), input is empty",
    ),
    (r"(Runtime|State|Cache|Logs|Configuration)Directory.*", "the directory has to be there"),
    (r"(Condition|Assert).*", "is not looked at before a start"),
    (r"Limit[A-Z].*", "no limit is set; ulimit in the command can"),
    (r"(Load|Set|Import)Credential.*", "is not handed over; ${secret:NAME} is what there is here"),
    (r"WatchdogS.*|WatchdogU.*", "nobody waits for a sign of life; health_check looks for one"),
    (r"NotifyAccess|BusName|PIDFile|GuessMainPID|FileDescriptor.*|Sockets|RemainAfterExit|USB.*", "means nothing here"),
    (r"DynamicUser", "no account is made for it"),
    (r"PAMName|SupplementaryGroups|SetLoginEnvironment", "a job has its account's groups and no session"),
    (r"OnFailure.*|OnSuccess.*|FailureAction.*|SuccessAction.*|StartLimitAction|Reboot.*|JobTimeout.*",
     "nothing else is started by how it ends; alerts tell of failures"),
    (r"Alias|Also|DefaultInstance", "a job has its id alone"),
)  # fmt: skip
_RELATIONS = (
    *("After", "Requires", "Wants", "BindsTo", "Requisite", "PartOf", "Upholds", "Before", "Conflicts"),
    *("PropagatesReloadTo", "PropagatesStopTo", "StopPropagatedFrom", "ReloadPropagatedFrom", "JoinsNamespaceOf"),
    "RequiresMountsFor",
)
_WAITED_FOR = frozenset({"After", "Requires", "Wants", "BindsTo", "Requisite", "Upholds"})
_ONLY_WAITED_FOR = {
    "Requires": "a start waits for it, but a stop of it does not stop this one",
    "BindsTo": "a start waits for it, but this one is not stopped when it ends or is stopped",
    "Requisite": "a start waits for it, and does not fail at once; a stop of it does not stop this one",
    "Upholds": "a start waits for it, but it is not kept running for the sake of this one",
}
"""What is lost of a relation to a unit that is converted too."""
_LOST = {
    "PartOf": "is neither stopped nor started again with it",
    "Before": "it does not wait for this one: say so in its depends_on",
    "Conflicts": "both can run at one time; a lock that both name keeps them apart",
}
_NOT_RELATED = "what is done to one is not done to the other"
Neighbour = Callable[[str], str | None]
"""The condition on which a job waits for the unit of that name; None: it is not converted with this one."""


class Service:
    """One unit, read into fields and notes. Raises Misfit for what no job can be made of."""

    def __init__(self, unit: Unit, *, is_user: bool, is_continuous: bool) -> None:
        self._unit = unit
        self._is_user = is_user
        self._is_continuous = is_continuous
        self._specifiers = Specifiers(unit, is_user=is_user)
        self.notes: list[Note] = []

    def note(self, setting: Setting, fate: Fate, says: str) -> None:
        self.notes.append(about(setting, fate, says))

    def fields(self) -> dict[str, Any]:
        """All that does not say when it runs."""
        try:
            found = self._described()
            found |= {"cmd": self._command()} | self._surroundings()
            ending = Ending(self._unit, self._kind, is_continuous=self._is_continuous)
            found |= ending.fields()
            self.notes += ending.notes
            found |= self._conditions(found.get("restart"))
        except ValueError as error:
            if isinstance(error, Misfit):
                raise
            raise Misfit(self._line, str(error)) from None
        return found

    def rest(self, neighbour: Neighbour) -> dict[str, Any]:
        """Whom it waits for, and a note for all that is left."""
        depends = self._relations(neighbour)
        shared: dict[str, list[Setting]] = {}
        for setting in self._unit.left():
            if setting.section.startswith("X-") or setting.name.startswith("X-"):
                continue
            says = next((says for names, says in _SHARED_FATES if re.fullmatch(names, setting.name)), "")
            shared.setdefault(says or "has no counterpart here", []).append(setting)
        for says, settings in shared.items():
            self._shared_note(settings, Fate.DROPPED, says)
        for odd in self._unit.odd:
            self.notes.append(Note(odd.line, odd.name, Fate.DROPPED, "is no setting, to systemd neither", odd.file))
        return depends

    def _shared_note(self, settings: list[Setting], fate: Fate, says: str) -> None:
        names = ", ".join(dict.fromkeys(f"{each.name}=" for each in settings))
        what = names if len(settings) > 1 else shown(settings[0])
        self.notes.append(Note(settings[0].line, what, fate, says, settings[0].file))

    @property
    def _line(self) -> int:
        return self._unit.line_of("Service")

    # --- what runs ---

    def _described(self) -> dict[str, Any]:
        description = self._unit.last("Unit", "Description")
        self._unit.all("Unit", "Documentation")
        return {"description": self._filled(description)} if description else {}

    def _filled(self, text: str) -> str:
        """For people, who may be told a specifier as it is."""
        try:
            return self._specifiers.text(text)
        except ValueError:
            return text

    def _command(self) -> str | list[str]:
        before = [self._read(each) for name in ("ExecCondition", "ExecStartPre") for each in self._lines(name)]
        mains = [self._read(each) for each in self._lines("ExecStart")]
        after = self._after()
        if not mains:
            raise Misfit(self._line, "has no ExecStart=")
        if len(mains) > 1 and self._kind != "oneshot":
            raise Misfit(mains[1].setting.line, "several ExecStart= are for Type=oneshot", mains[1].setting.file)
        if len(mains) == 1 and not before and not after and "-" not in mains[0].prefixes:
            script = as_script(mains[0])
            if script is not None:
                return literal(script, is_shell=True)
            as_words = as_list(mains[0], self._assigned())
            if as_words is not None:
                return as_words
            quiet = "set -f; " if splits_words(mains[0]) else ""
            return literal(f"{quiet}exec {as_shell(mains[0])}", is_shell=True)
        commands = [*before, *mains, *after]
        lines = ["set -ef" if any(map(splits_words, commands)) else "set -e"]
        lines += [self._shell_line(each, is_last=each is commands[-1]) for each in commands]
        return literal("\n".join(lines), is_shell=True)

    @property
    def _kind(self) -> str:
        return self._unit.last("Service", "Type") or "simple"

    def _lines(self, name: str) -> list[Setting]:
        found = self._unit.all("Service", name)
        return [part for each in found for part in split_commands(each)]

    def _read(self, setting: Setting) -> Command:
        try:
            command = read_command(setting, self._specifiers)
        except ValueError as error:
            raise Misfit(setting.line, f"{setting.name}=: {error}", setting.file) from None
        if "@" in command.prefixes:
            self.note(setting, Fate.CHANGED, "the program is told its own name, not another")
        if set("+!") & set(command.prefixes):
            self.note(setting, Fate.CHANGED, "runs with the job's own rights, like the rest of it")
        return command

    def _conditions(self, restart: str | None) -> dict[str, Any]:
        """What becomes of restarts where a start can be prevented: systemd does not try such a one again."""
        conditions = self._unit.all("Service", "ExecCondition")
        if not conditions:
            return {}
        self.note(conditions[0], Fate.CHANGED, "a start that it prevents counts as one that succeeded")
        if restart != "always":
            return {}
        says = "ends for good with exit code 0, for so does a start that ExecCondition= prevents"
        self.notes.append(about(self._restart(), Fate.CHANGED, says))
        return {"restart": "on_failure"}

    def _restart(self) -> Setting:
        return self._unit.one("Service", "Restart") or Setting("Service", "Restart", "", self._line, "")

    def _shell_line(self, command: Command, *, is_last: bool) -> str:
        line = as_shell(command)
        if "-" in command.prefixes:
            return f"{line} || true"
        if command.setting.name == "ExecCondition":
            return f"{line} || exit 0"
        return f"exec {line}" if is_last else line

    def _after(self) -> list[Command]:
        """What follows the main command where that ends by itself."""
        posts = self._lines("ExecStartPost")
        for name in ("ExecStop", "ExecStopPost", "ExecReload"):
            for setting in self._unit.all("Service", name):
                if name == "ExecStop" and signal_sent_by(setting):
                    continue
                self.note(setting, Fate.DROPPED, _INSTEAD[name])
        if self._kind == "oneshot":
            return [self._read(each) for each in posts]
        for setting in posts:
            self.note(setting, Fate.DROPPED, "nothing is run after the start; a job of its own can depend on this one")
        return []

    # --- around it ---

    def _surroundings(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        folder = self._unit.one("Service", "WorkingDirectory")
        if folder is not None:
            if folder.value.startswith("-"):
                self.note(folder, Fate.CHANGED, "the directory has to be there")
            found["cwd"] = self._specifiers.path(folder.value.removeprefix("-"))
        elif not self._is_user:
            found["cwd"] = "/"
        found |= self._account()
        for name, field in (("UMask", "umask"), ("Nice", "nice")):
            if value := self._unit.last("Service", name):
                found[field] = int(value) if field == "nice" and re.fullmatch(r"[+-]?\d{1,3}", value) else value
        return found | self._environment()

    def _account(self) -> dict[str, Any]:
        found = {}
        for name, field in (("User", "user"), ("Group", "group")):
            if value := self._unit.last("Service", name):
                found[field] = self._specifiers.path(value)
        if not found and not self._is_user:
            says = "runs as the account that ProcClaw runs as; systemd's default is root"
            self.notes.append(Note(self._line, "User=", Fate.CHANGED, says))
        return found

    def _assigned(self) -> set[str]:
        """The variables that the unit itself gives a value."""
        values = (each.value for each in self._unit.all("Service", "Environment"))
        return {word.partition("=")[0] for value in values for word in words_of(value) if "=" in word}

    def _environment(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        files = self._files()
        env: dict[str, str] = {}
        for setting in self._unit.all("Service", "Environment"):
            for word in words_of(setting.value):
                name, equals, value = word.partition("=")
                if equals:
                    env[name] = self._specifiers.text(value)
                else:
                    self.note(setting, Fate.DROPPED, f'"{word}" assigns nothing')
        for setting in files[:-1]:
            self.note(setting, Fate.DROPPED, "a job reads one such file: put them into one, or read it in the command")
        if files:
            if files[-1].value.startswith("-"):
                self.note(files[-1], Fate.CHANGED, "the file is there now, and a job does not start without it")
            if env:
                self.note(files[-1], Fate.CHANGED, "Environment= beats it here; there it is the other way round")
            found["env_file"] = self._file_of(files[-1])
        for name in ("PassEnvironment", "UnsetEnvironment"):
            for setting in self._unit.all("Service", name):
                says = "belongs into daemon.pass_env of procclaw.yaml" if name[0] == "P" else "nothing is taken away"
                self.note(setting, Fate.DROPPED, says)
        return found | ({"env": env} if env else {})

    def _files(self) -> list[Setting]:
        """Those that a job has to find at its start: one that may be missing, and is, would keep it from that."""
        found = []
        for setting in self._unit.all("Service", "EnvironmentFile"):
            if re.search(r"[*?\[]", setting.value):
                self.note(setting, Fate.DROPPED, "a pattern is none of the files that env_file can be")
            elif setting.value.startswith("-") and _is_missing(os.path.expanduser(self._file_of(setting))):
                self.note(setting, Fate.CHANGED, "is not there and is left out; once it is, name it as env_file")
            else:
                found.append(setting)
        return found

    def _file_of(self, setting: Setting) -> str:
        return self._specifiers.path(setting.value.removeprefix("-"))

    # --- beside it ---

    def _relations(self, neighbour: Neighbour) -> dict[str, Any]:
        depends: dict[str, str] = {}
        strange: list[Setting] = []
        for setting in (each for name in _RELATIONS for each in self._unit.all("Unit", name)):
            conditions = {name: neighbour(name) for name in setting.value.split()}
            known = {name: condition for name, condition in conditions.items() if condition is not None}
            if setting.name in _WAITED_FOR:
                depends |= {Ids().of(name.removesuffix(".service")): condition for name, condition in known.items()}
            says = _ONLY_WAITED_FOR.get(setting.name) or _LOST.get(setting.name, _NOT_RELATED)
            if known and setting.name not in ("After", "Wants"):
                fate = Fate.CHANGED if setting.name in _WAITED_FOR else Fate.DROPPED
                self.note(_among(setting, known), fate, says)
            if len(known) < len(conditions):
                strange.append(_among(setting, conditions.keys() - known.keys()))
        if strange:
            says = "units that are not converted with it are neither waited for nor started nor stopped"
            self._shared_note(sorted(strange, key=lambda each: (each.file, each.line)), Fate.DROPPED, says)
        jobs = [{"job": name, "condition": condition} for name, condition in depends.items()]
        return {"depends_on": jobs} if jobs else {}


def _is_missing(path: str) -> bool:
    """Rather than there, or nothing that we may look for."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _among(setting: Setting, names: Collection[str]) -> Setting:
    """With those units alone."""
    return setting._replace(value=" ".join(name for name in setting.value.split() if name in names))


_INSTEAD = {
    "ExecStop": "a stop sends the signal of shutdown.signal, then SIGKILL",
    "ExecStopPost": "nothing is run after its end",
    "ExecReload": "a job is restarted to be told of a change",
}
