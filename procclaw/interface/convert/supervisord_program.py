"""A [program:…] of supervisord as jobs, one for each of its processes. Every option ends as a field or as a note.

Its retries are those of supervisord: an end within startsecs is tried again startretries times, after 1, 2, 3… seconds;
an end after that counts afresh.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from procclaw.interface.convert import supervisord_values as values
from procclaw.interface.convert.background import LEAVES_IT, SAYS, is_left_behind
from procclaw.interface.convert.conversion import STOP_SIGNALS, Fate, Note
from procclaw.interface.convert.inifile import Option, Section

_T = TypeVar("_T")
_MOST_PROCESSES = 1000
_LONGEST_PAUSE = 10
"""Entries of retry.delays that are written out."""
_HOME = "%(ENV_HOME)s"
_ABOUT_EVENTS = "no events are sent, and nothing listens for them"
_HAS_NO_PLACE = {
    "stdout_capture_maxbytes": _ABOUT_EVENTS,
    "stderr_capture_maxbytes": _ABOUT_EVENTS,
    "stdout_events_enabled": _ABOUT_EVENTS,
    "stderr_events_enabled": _ABOUT_EVENTS,
    "stdout_syslog": "nothing goes to syslog; logger(1) in the command can",
    "stderr_syslog": "nothing goes to syslog; logger(1) in the command can",
    "serverurl": "there is no supervisord to talk to",
}
_ABOUT_ALL = frozenset({"priority", "stopasgroup", "killasgroup", "redirect_stderr", "process_name", "numprocs_start"})
"""Said once for all programs, or part of what a process is called."""
_LOGS = ("stdout_logfile", "stderr_logfile")


class Misread(Exception):
    """What no job can be made of; `line` 0: all of the program."""

    def __init__(self, reason: str, line: int = 0, file: str = "") -> None:
        super().__init__(reason)
        self.line = line
        self.file = file


class Surroundings(NamedTuple):
    """What [supervisord] says that is true of every program."""

    environment: Mapping[str, str]
    """As `values.pairs` gives it."""
    options: Mapping[str, Option]


class Program:
    def __init__(self, section: Section, name: str, group: str | None, surroundings: Surroundings) -> None:
        self._section = section
        self._name = name
        self._group = group
        self._surroundings = surroundings
        self._taken: set[str] = set()
        self._known: dict[str, str | int | None] = {
            "here": None,
            "program_name": name,
            "group_name": group or name,
            "host_node_name": None,
            **values.inlined(surroundings.environment),
        }
        self.notes: list[Note] = []
        """As of the process that was handed out last."""

    def processes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What each process is called, and its fields. Raises Misread."""
        if not self._name or any(char in self._name for char in " :/"):
            raise Misread("its name holds a blank, a colon or a slash, or nothing")
        count = self._of("numprocs", values.number, 1)
        first = self._of("numprocs_start", values.number, 0)
        if count > 1 and "%(process_num)" not in self._raw("process_name"):
            raise self._misread("process_name", "has to name %(process_num) where numprocs is more than 1")
        if count > _MOST_PROCESSES:
            raise self._misread("numprocs", f"more than {_MOST_PROCESSES} processes")
        for number in range(first, first + count):
            self.notes = []
            self._known |= {"process_num": number, "numprocs": count}
            environment = dict(self._surroundings.environment) | self._own_environment()
            self._known |= values.inlined(environment)
            yield self._of("process_name", values.plain, self._name) or self._name, self._fields(environment, count)

    # --- reading ---

    def _raw(self, name: str) -> str:
        return self._section.options[name].value if name in self._section.options else ""

    def _of(self, name: str, read: Callable[[Option, values.Known], _T], otherwise: _T) -> _T:
        """The value of an option. Raises Misread."""
        self._taken.add(name)
        option = self._section.options.get(name)
        if option is None:
            return otherwise
        try:
            return read(option, self._known)
        except ValueError as error:
            raise Misread(str(error), option.line, option.file) from None

    def _misread(self, name: str, reason: str) -> Misread:
        option = self._section.options.get(name)
        return Misread(reason, *((option.line, option.file) if option is not None else (0, "")))

    def _note(self, name: str, fate: Fate, says: str, what: str = "") -> None:
        option = self._section.options.get(name)
        if option is not None:
            self.notes.append(Note(option.line, what or option.told.replace("\n", " "), fate, says, option.file))

    def _own_environment(self) -> dict[str, str]:
        return self._of("environment", values.pairs, {})

    # --- fields ---

    def _fields(self, environment: dict[str, str], count: int) -> dict[str, Any]:
        words: list[str] = self._of("command", values.words, [])
        if not words:
            raise self._misread("command", "it has no command")
        fields: dict[str, Any] = {"cmd": words, "type": "continuous"}
        if not self._of("autostart", values.flag, otherwise=True):
            fields["enabled"] = False
            self._note("autostart", Fate.CHANGED, "it is declared and does not run until procclaw start asks for it")
        tags = [self._group] if self._group else [self._name] if count > 1 else []
        fields |= {"tags": tags} if tags else {}
        fields |= self._place() | self._account()
        if environment:
            fields["env"] = {name: values.referring(text) for name, text in environment.items()}
        fields |= self._restarts() | {"shutdown": self._shutdown() | self._leftovers(words)} | self._log()
        self._tell_the_rest()
        return fields

    def _place(self) -> dict[str, Any]:
        option = self._section.options.get("directory") or self._surroundings.options.get("directory")
        self._taken.add("directory")
        if option is None:
            return {}
        is_home = option.value == _HOME or option.value.startswith(f"{_HOME}/")
        try:
            folder = values.plain(option._replace(value=option.value.replace(_HOME, "~", int(is_home))), self._known)
        except ValueError as error:
            raise Misread(str(error), option.line, option.file) from None
        if is_home:
            says = "the home directory of the account it runs as; supervisord's own there"
            self._note("directory", Fate.CHANGED, says)
        elif not os.path.isabs(folder):
            self._note("directory", Fate.CHANGED, "is within the account's home; supervisord's is where it was started")
        return {"cwd": folder} if folder else {}

    def _account(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name in ("user", "umask"):
            option = self._section.options.get(name) or self._surroundings.options.get(name)
            self._taken.add(name)
            if option is not None:
                try:
                    fields[name] = values.plain(option, self._known).strip()
                except ValueError as error:
                    raise Misread(str(error), option.line, option.file) from None
        return {name: text for name, text in fields.items() if text}

    def _restarts(self) -> dict[str, Any]:
        wanted = self._of("autorestart", values.plain, "unexpected").strip().lower()
        codes = self._of("exitcodes", values.whole_list, [0])
        up_seconds = self._of("startsecs", values.number, 1)
        retries = self._of("startretries", values.number, 3)
        if wanted in ("false", "no", "off", "0"):
            self._note(
                "autorestart", Fate.CHANGED, "an end within startsecs is final too, which supervisord tries again"
            )
            return {"restart": "never"} | self._success(codes)
        if wanted not in ("unexpected", "true", "yes", "on", "1"):
            raise self._misread("autorestart", f'autorestart: "{wanted}" is not true, false or unexpected')
        retry = {"delays": _pauses(retries), "max_attempts": retries, "reset_after": up_seconds}
        if retries == 0 and up_seconds:
            self._note("startretries", Fate.CHANGED, "the first failure is final, however long it was up")
        if retries > _LONGEST_PAUSE:
            says = f"the pauses between them grow by a second to {_LONGEST_PAUSE} s and not beyond"
            self._note("startretries", Fate.CHANGED, says)
        if wanted == "unexpected" and codes:
            return {"restart": "on_failure"} | self._success(codes) | {"retry": retry}
        if "exitcodes" in self._section.options and codes:
            self._note("exitcodes", Fate.KEPT, "makes no difference: it is started again in any case")
        return {"restart": "always", "retry": retry}

    @staticmethod
    def _success(codes: list[int]) -> dict[str, Any]:
        return {"success_exit_codes": codes} if codes and codes != [0] else {}

    def _shutdown(self) -> dict[str, Any]:
        found: dict[str, Any] = {"grace_period": self._of("stopwaitsecs", values.number, 10)}
        name = self._of("stopsignal", values.plain, "TERM").strip().upper().removeprefix("SIG")
        signal = STOP_SIGNALS.get(int(name), name) if re.fullmatch(r"\d{1,3}", name, re.ASCII) else name
        if signal not in STOP_SIGNALS.values():
            self._note("stopsignal", Fate.CHANGED, "a job cannot be stopped with that; it gets SIGTERM")
        elif signal != "TERM":
            found["signal"] = f"SIG{signal}"
        return found

    def _leftovers(self, words: list[str]) -> dict[str, Any]:
        if not is_left_behind(shlex.join(words), words[0]):
            return {}
        self._note("command", Fate.CHANGED, SAYS, "command")
        return LEAVES_IT

    def _log(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, ours, read in (("maxbytes", "max_size", values.size), ("backups", "rotate", values.number)):
            name = f"stdout_logfile_{key}"
            limits = [self._of(each, read, None) for each in (name, f"stderr_logfile_{key}")]
            limit = next((each for each in limits if each is not None), None)
            if limit == 0 and key == "maxbytes":
                where = name if limits[0] == 0 else f"stderr_logfile_{key}"
                self._note(where, Fate.CHANGED, "there is no log without a limit; it is rotated at 10MB")
            elif limit is not None:
                found[ours] = _size(limit) if key == "maxbytes" else limit
            if None not in limits and limits[0] != limits[1]:
                self._note(f"stderr_logfile_{key}", Fate.CHANGED, "both logs have one limit, that of stdout")
        paths = {name: self._of(name, values.plain, "") for name in _LOGS}
        named = [name for name, path in paths.items() if path.lower() not in ("", "auto", "none")]
        if named:
            what = ", ".join(f"{name}={paths[name]}" for name in named)
            self._note(named[0], Fate.CHANGED, "is written in logs/ instead", what)
        if silent := [name for name, path in paths.items() if path.lower() == "none"]:
            what = ", ".join(f"{name}={paths[name]}" for name in silent)
            self._note(silent[0], Fate.CHANGED, "is written in logs/ nevertheless", what)
        return {"log": found} if found else {}

    def _tell_the_rest(self) -> None:
        for name in self._section.options:
            if name in _HAS_NO_PLACE:
                self._note(name, Fate.DROPPED, _HAS_NO_PLACE[name])
            elif name not in self._taken | _ABOUT_ALL:
                self._note(name, Fate.DROPPED, "supervisord knows no such option either")
        if self._raw("redirect_stderr").lower() in ("true", "yes", "on", "1"):
            says = "stderr has a log of its own beside it; procclaw logs shows both"
            self._note("redirect_stderr", Fate.CHANGED, says)


def _pauses(retries: int) -> list[int]:
    return list(range(1, min(max(1, retries), _LONGEST_PAUSE) + 1))


def _size(count: int) -> int | str:
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count % factor == 0:
            return f"{count // factor}{unit}"
    return count
