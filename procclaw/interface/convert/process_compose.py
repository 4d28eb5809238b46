"""process-compose.yaml: a process is a job that is kept as its availability says; one with a schedule is due at times.

process-compose fills in variables when it reads the file: in a command that is left to the shell that runs it, with the
same values unless the process sets them itself. A replica is a job of its own.
"""

import os
from typing import Any

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source, Unconvertible
from procclaw.interface.convert.durations import go_seconds
from procclaw.interface.convert.process_compose_probes import health_check, shutdown
from procclaw.interface.convert.process_compose_texts import Texts
from procclaw.interface.convert.section import Misfit, Section, document, looks_like_mapping, without_refused
from procclaw.model.references import literal
from procclaw.model.tree import Entries

_CONDITIONS = {
    "process_started": ("after_start", ""),
    "process_healthy": ("after_healthy", ""),
    "process_completed_successfully": ("after_complete", ""),
    "process_completed": ("after_complete", "is waited for until it has succeeded, not only ended"),
    "process_log_ready": (
        "after_start",
        "is not waited for until it says a line; a health_check with after_healthy can",
    ),
}
_MOST_REPLICAS = 100
_PAUSE_SECONDS = 1
"""process-compose's own, between restarts."""
_SAID_ONCE = {
    "log_location": "output goes to logs/ (procclaw logs JOB)",
    "log_configuration": "see log for what there is here",
    "log_level": "means nothing here",
    "log_length": "means nothing here",
    "env_cmds": "no command is run for a variable: set it in env or env_file",
}
_NO_COUNTERPART = frozenset(
    {"name", "is_strict", "is_tui_disabled", "ordered_shutdown", "log_format", "mcp", "mcp_server"}
)
_SAID_OF_ONE = {
    **_SAID_ONCE,
    "is_tty": "a job has no terminal",
    "is_elevated": "a job runs as its user",
    "ready_log_line": "no line is looked for",
    "launch_timeout_seconds": "a start takes no time here",
    "disable_ansi_colors": "output is kept as it is",
}


def looks_like(text: str, kind: str) -> bool:
    return looks_like_mapping(text, "processes")


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    root = document(source)
    if not isinstance(root, Entries):
        raise Unconvertible(root.mark[0], "is no mapping with processes")
    project = Section("", root)
    try:
        return _Project(source, project, ids).conversion()
    except Misfit as error:
        raise Unconvertible(error.line, str(error)) from None


class _Project:
    """The file, and what all of its processes share."""

    def __init__(self, source: Source, project: Section, ids: Ids) -> None:
        self._project = project
        self._ids = ids
        self.folder = source.folder
        self.has_env_file = source.read(".env") is not None
        self.notes: list[Note] = []
        self.vars = _vars(project)
        self.shell = self._shell()
        self.expands = project.flag("disable_env_expansion") is not True
        texts = self.texts(project, self.vars)
        self.env = _env(project, texts)
        self.notes += texts.notes
        self.ids: dict[str, tuple[str, ...]] = {}
        """The jobs each process becomes."""

    def texts(self, section: Section, variables: dict[str, str]) -> Texts:
        return Texts(section, variables, self.shell, self.folder, expands=self.expands)

    def conversion(self) -> Conversion:
        if (base := self._project.text("extends")) is not None:
            raise Misfit(self._project.line_of("extends"), f"extends {base}: put both files into one first")
        self._project.text("version")
        within = self._project.section("processes")
        if within is None or not within.keys:
            raise Misfit(self._project.line, "has no processes")
        jobs: list[Imported] = []
        self.ids = {name: self._ids_of(within, name) for name in within.keys}
        for name in within.keys:
            try:
                jobs += _Process(self, within.child(name)).jobs()
            except Misfit as error:
                self.notes.append(Note(error.line, name, Fate.REFUSED, str(error)))
        jobs = without_refused(jobs, {name for ids in self.ids.values() for name in ids})
        self.notes += _left(self._project, _SAID_ONCE)
        if any(job.fields.get("restart") == "never" for job in jobs):
            says = "runs with each start of the daemon, and again after a reboot that interrupted it"
            self.notes.append(Note(0, "a process without restart", Fate.CHANGED, says))
        says = "is that of procclaw.yaml with env and env_file, not what the terminal has; commands find it there too"
        self.notes.append(Note(0, "the environment", Fate.CHANGED, says))
        if self.folder is None:
            self.notes.append(Note(0, "the folder", Fate.CHANGED, "is not known of what is piped in: set cwd"))
        return Conversion(tuple(jobs), tuple(self.notes))

    def _shell(self) -> list[str]:
        shell = self._project.section("shell")
        if shell is None:
            return ["bash", "-c"]
        found = [shell.text("shell_command") or "bash", shell.text("shell_argument") or "-c"]
        self.notes += shell.dropped("nothing runs with more rights", prefix="shell.")
        return found

    def _ids_of(self, within: Section, name: str) -> tuple[str, ...]:
        try:
            count = min(int(within.child(name).number("replicas") or 1), _MOST_REPLICAS)
        except Misfit:
            count = 1  # told when the process is read
        if count < 2:
            return (self._ids.of(name),)
        width = len(str(count))
        return tuple(self._ids.of(f"{name}-{number:0{width}}") for number in range(count))


class _Process:
    """One process of the file."""

    def __init__(self, project: _Project, process: Section) -> None:
        self._project = project
        self._process = process
        self._notes: list[Note] = []
        self._texts = project.texts(process, project.vars | _vars(process))

    def jobs(self) -> list[Imported]:
        process = self._process
        if process.flag("is_daemon"):
            says = "is_daemon: ends at once and leaves a process that nobody watches; let the program stay in front"
            raise Misfit(process.line_of("is_daemon"), says)
        if (process.number("replicas") or 1) > _MOST_REPLICAS:
            raise Misfit(process.line_of("replicas"), f"replicas: more than {_MOST_REPLICAS}")
        fields = self._fields()
        self._notes += self._texts.notes
        self._notes += _left(process, _SAID_OF_ONE)
        names = self._project.ids[process.name]
        found = []
        for number, name in enumerate(names):
            # What process-compose itself sets; programs go by it, and what the file sets beats it.
            own = {"PC_PROC_NAME": literal(process.name), "PC_REPLICA_NUM": str(number)}
            own = fields | {"env": own | fields["env"]}
            alike = [Note(process.line, "replicas", Fate.KEPT, f"like {names[0]}, whose notes are its own too")]
            found.append(Imported(name, own, process.line, tuple(self._notes if number == 0 else alike)))
        return found

    def _fields(self) -> dict[str, Any]:
        process = self._process
        found: dict[str, Any] = {}
        if description := process.text("description"):
            found["description"] = description
        if (namespace := process.text("namespace")) is not None:
            found["tags"] = [namespace]
        found["cmd"] = self._command()
        found |= self._when()
        if process.flag("disabled"):
            found["enabled"] = False
        if folder := self._folder():
            found["cwd"] = folder
        found |= self._environment() | shutdown(process, self._notes)
        return found | health_check(process, self._texts, self._notes) | self._depends()

    # --- what runs ---

    def _command(self) -> list[str]:
        command = self._process.text("command")
        entrypoint = self._process.texts("entrypoint")
        if command:
            if entrypoint:
                self._note("entrypoint", Fate.DROPPED, "command is what runs, there too")
            return [literal(word) for word in self._texts.in_shell(command)]
        if not entrypoint:
            raise Misfit(self._process.line, "has no command")
        return [self._texts.value(word, "entrypoint") for word in entrypoint]

    def _folder(self) -> str | None:
        given, base = self._process.text("working_dir"), self._project.folder
        if given is None:
            return base
        path = self._texts.known(given, "working_dir")
        return path if base is None else os.path.normpath(os.path.join(base, path))

    def _environment(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        files = self._env_files()
        for name in files[:-1]:
            self._note("env_file", Fate.DROPPED, f"{name}: a job reads one such file, and this is not the last")
        if files:
            found["env_file"] = os.path.normpath(os.path.join(self._project.folder or "", files[-1]))
        env = self._project.env | _env(self._process, self._texts)
        return found | {"env": env}

    def _env_files(self) -> list[str]:
        is_read = self._project.has_env_file and not self._process.flag("is_dotenv_disabled")
        return [*([".env"] if is_read else []), *self._process.words("env_file")]

    # --- when ---

    def _when(self) -> dict[str, Any]:
        schedule = self._process.section("schedule")
        availability = self._process.section("availability")
        policy = (availability.text("restart") if availability else None) or "no"
        retry = self._retry(availability, policy)
        if schedule is not None:
            return self._schedule(schedule) | {"retry": retry}
        if self._process.flag("is_foreground"):
            self._note("is_foreground", Fate.CHANGED, "has no terminal, and runs when it is asked to")
            return {"type": "manual", "retry": {"enabled": False}}
        return {"type": "continuous", "restart": _RESTARTS[policy], "retry": retry}

    def _retry(self, availability: Section | None, policy: str) -> dict[str, Any]:
        if availability is None:
            return {"enabled": False}
        if policy not in _RESTARTS:
            says = f'restart: "{policy}" is none of {", ".join(_RESTARTS)}'
            raise Misfit(availability.line_of("restart"), says)
        if policy == "exit_on_failure":
            says = "the others keep running when this one fails"
            self._notes.append(Note(availability.line_of("restart"), f"restart: {policy}", Fate.CHANGED, says))
        pause, most = availability.number("backoff_seconds"), availability.number("max_restarts") or 0
        self._notes += availability.dropped("nothing else ends with it", prefix="availability.")
        if _RESTARTS[policy] == "never":
            return {"enabled": False}
        if most:
            says = "counts failures in a row; one that stayed up for 60 s counts afresh"
            self._notes.append(Note(availability.line_of("max_restarts"), "max_restarts", Fate.CHANGED, says))
        return {"delays": [_PAUSE_SECONDS if pause is None else pause], "max_attempts": int(most) or "unlimited"}

    def _schedule(self, schedule: Section) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "scheduled"}
        cron, interval, zone = schedule.text("cron"), schedule.text("interval"), schedule.text("timezone")
        if cron:
            found["schedule"] = cron
        elif interval:
            seconds = self._duration(interval, schedule.line_of("interval"))
            found["schedule"] = f"@every {seconds}s"
            says = "is counted by the clock, from midnight UTC on 1 January 1970; not from the start"
            self._notes.append(Note(schedule.line_of("interval"), f"interval: {interval}", Fate.CHANGED, says))
        else:
            raise Misfit(schedule.line, "schedule: has neither cron nor interval")
        if zone:
            found["timezone"] = zone
        if schedule.flag("run_on_start"):
            says = "runs at its times alone; procclaw run starts it at any other"
            self._notes.append(Note(schedule.line_of("run_on_start"), "run_on_start", Fate.DROPPED, says))
        if (most := schedule.number("max_concurrent")) is not None and most > 1:
            found["concurrency"] = {"max_instances": int(most)}
        self._notes += schedule.dropped(prefix="schedule.")
        return found | {"catch_up": {"policy": "none"}}

    def _duration(self, text: str, line: int) -> int:
        try:
            seconds = go_seconds(text)
        except ValueError as error:
            raise Misfit(line, str(error)) from None
        if seconds < 1 or seconds != int(seconds):
            raise Misfit(line, f'"{text}": a period is a whole number of seconds')
        return int(seconds)

    def _depends(self) -> dict[str, Any]:
        found = []
        for other in self._process.sections("depends_on"):
            condition = other.text("condition") or "process_started"
            if other.name not in self._project.ids:
                raise Misfit(other.line, f"depends_on: there is no process {other.name}")
            if condition not in _CONDITIONS:
                raise Misfit(
                    other.line_of("condition"), f'condition: "{condition}" is none of {", ".join(_CONDITIONS)}'
                )
            ours, says = _CONDITIONS[condition]
            if says:
                self._notes.append(Note(other.line_of("condition"), f"{other.name}: {condition}", Fate.CHANGED, says))
            self._notes += other.dropped(prefix=f"depends_on.{other.name}.")
            found += [{"job": name, "condition": ours} for name in self._project.ids[other.name]]
        return {"depends_on": found} if found else {}

    def _note(self, key: str, fate: Fate, says: str) -> None:
        self._notes.append(Note(self._process.line_of(key), key, fate, says))


_RESTARTS = {"no": "never", "always": "always", "on_failure": "on_failure", "exit_on_failure": "never"}


def _left(section: Section, said: dict[str, str]) -> list[Note]:
    """A note for each key that nobody took; one that we do not know may be a slip of the pen."""
    known = dict.fromkeys(_NO_COUNTERPART, "has no counterpart here") | said
    says = "is no key of process-compose that ProcClaw knows"
    return [Note(line, key, Fate.DROPPED, known.get(key, says)) for line, key in section.left()]


def _env(section: Section, texts: Texts) -> dict[str, str]:
    return {name: texts.value(value or "", "environment") for name, value in section.pairs("environment").items()}


def _vars(section: Section) -> dict[str, str]:
    return {name: value or "" for name, value in section.pairs("vars").items()}
