"""supervisord.conf, with what it includes, as supervisor 4 reads it: every process of a program becomes a job.

A file of conf.d, without a [supervisord] of its own, is one too. Commands are split into words as supervisord splits
them and go to no shell. What it would refuse is refused here, but only for the program it stands in.
"""

import os
import re
from collections.abc import Iterator

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source
from procclaw.interface.convert.inifile import Option, Section, merged, sections_of
from procclaw.interface.convert.supervisord_program import Misread, Program, Surroundings
from procclaw.interface.convert.supervisord_values import expanded, pairs

_OWN = re.compile(r"^\[(program:|eventlistener:|fcgi-program:|group:|supervisord\]|supervisorctl\])", re.MULTILINE)
_SECTIONS = (
    (
        r"(unix|inet)_http_server|supervisorctl|rpcinterface:.*|ctlplugin:.*",
        "procclaw and its HTTP API take that place",
    ),
    (r"eventlistener:.*", "it speaks supervisord's own protocol; alerts tell of failures, resources limits memory"),
)
_USED = frozenset({"environment", "directory", "user", "umask"})
"""Of [supervisord], what is true of every program."""
_MOST_INCLUDED = 1000
_LIMITS = {"minfds": ("-n", 1024), "minprocs": ("-u", 200)}
"""Which its programs inherit: how the shell says it, and what supervisord takes for it where nothing is said."""


def looks_like(text: str, kind: str) -> bool:
    return _OWN.search(text) is not None


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    """Raises Unconvertible."""
    return _Reading(source, ids).conversion()


class _Reading:
    def __init__(self, source: Source, ids: Ids) -> None:
        self._ids = ids
        self._source = source
        self._notes: list[Note] = []
        self._sections = merged(self._all_sections())

    def conversion(self) -> Conversion:
        surroundings = self._surroundings()
        groups = self._groups()
        jobs: list[Imported] = []
        for name, section in self._sections.items():
            kind, _, rest = name.partition(":")
            if kind == "program" and rest:
                jobs += self._jobs(section, rest.strip(), groups, surroundings)
            elif kind == "fcgi-program":
                says = "its socket is opened by supervisord and handed to it; start what opens its own"
                self._say(section, Fate.REFUSED, says)
            elif kind not in ("group", "include", "supervisord"):
                known = (says for pattern, says in _SECTIONS if re.fullmatch(pattern, name))
                self._say(section, Fate.DROPPED, next(known, "supervisord knows no such section either"))
        return Conversion(tuple(jobs), (*self._notes, *_about_all(jobs, surroundings, self._sections)))

    def _say(self, section: Section, fate: Fate, says: str) -> None:
        self._notes.append(Note(section.line, f"[{section.name}]", fate, says, section.file))

    # --- which sections there are ---

    def _all_sections(self) -> Iterator[Section]:
        include: list[Option] = []
        for section in sections_of(self._source.text):
            if section.name == "include":
                include = [section.options["files"]] if "files" in section.options else []
            yield self._at_home(section, self._source.folder)
        for option in include:
            yield from self._included(option)

    def _included(self, option: Option) -> Iterator[Section]:
        """What an included file includes in turn is not looked at; supervisord does not either."""
        try:
            patterns = "".join(expanded(option, {"here": self._source.folder})).split()
        except ValueError as error:
            self._notes.append(Note(option.line, option.told, Fate.REFUSED, str(error)))
            return
        for pattern in patterns:
            files = self._source.find(pattern)[:_MOST_INCLUDED]
            if not files:
                self._notes.append(Note(option.line, f"files={pattern}", Fate.DROPPED, "no file matches"))
            for name in files:
                yield from self._included_file(option, name)

    def _included_file(self, option: Option, name: str) -> Iterator[Section]:
        shown = os.path.join(os.path.dirname(self._source.path), name)
        text = self._source.read(name)
        if text is None:
            self._notes.append(Note(option.line, shown, Fate.REFUSED, "cannot be read as text"))
            return
        folder = os.path.dirname(os.path.join(self._source.folder or "", name))
        for section in sections_of(text, shown):
            yield self._at_home(section, folder)

    @staticmethod
    def _at_home(section: Section, folder: str | None) -> Section:
        """`here` is where the file lies that says it, so it is filled in before files are put together."""
        if folder is not None:
            for name, option in section.options.items():
                section.options[name] = option._replace(value=option.value.replace("%(here)s", folder))
        return section

    # --- what is true of all ---

    def _surroundings(self) -> Surroundings:
        section = self._sections.get("supervisord")
        if section is None:
            return Surroundings({}, {})
        used = _USED
        if _is_true(_value(section, "nodaemon")):
            # Only a supervisord that goes into the background goes there.
            used -= {"directory"}
        self._tell_limits(section)
        rest = [option.name for option in section.options.values() if option.name not in used | _LIMITS.keys()]
        if rest:
            self._notes.append(
                Note(section.line, ", ".join(rest), Fate.DROPPED, "is about supervisord itself", section.file)
            )
        options = {name: option for name, option in section.options.items() if name in used}
        environment = options.pop("environment", None)
        try:
            values = {} if environment is None else pairs(environment, {"here": None})
        except ValueError as error:
            assert environment is not None
            self._notes.append(Note(environment.line, environment.told, Fate.REFUSED, str(error), section.file))
            values = {}
        return Surroundings(values, options)

    def _tell_limits(self, section: Section) -> None:
        for name, (flag, otherwise) in _LIMITS.items():
            option = section.options.get(name)
            if option is not None and option.value.strip() != str(otherwise):
                says = f"its programs inherit it; a job has the daemon's limits, unless ulimit {flag} stands in its cmd"
                self._notes.append(Note(option.line, option.told, Fate.DROPPED, says, option.file or section.file))

    def _groups(self) -> dict[str, str]:
        """The group of each program that is in one."""
        found: dict[str, str] = {}
        for name, section in self._sections.items():
            if not name.startswith("group:"):
                continue
            group = name.removeprefix("group:").strip()
            for option in section.options.values():
                if option.name not in ("programs", "priority"):
                    self._notes.append(
                        Note(option.line, option.told, Fate.DROPPED, "is no option of a group", option.file)
                    )
            programs = [each.strip() for each in _value(section, "programs").split(",") if each.strip()]
            missing = [each for each in programs if not self._is_program(each)]
            if missing:
                self._say(section, Fate.REFUSED, f"there is no program {', '.join(missing)}")
            else:
                self._say(section, Fate.KEPT, f"its programs have the tag {group}")
            found |= dict.fromkeys(programs, group)
        return found

    def _is_program(self, name: str) -> bool:
        return f"program:{name}" in self._sections or f"fcgi-program:{name}" in self._sections

    # --- the programs ---

    def _jobs(
        self, section: Section, name: str, groups: dict[str, str], surroundings: Surroundings
    ) -> Iterator[Imported]:
        program = Program(section, name, groups.get(name), surroundings)
        try:
            for number, (process, fields) in enumerate(program.processes()):
                # What is true of all processes of a program is said once.
                said = (tuple(program.notes), section.comments) if number == 0 else ((), ())
                yield Imported(self._ids.of(process), fields, section.line, *said, section.file)
        except Misread as error:
            line = error.line or section.line
            self._notes.append(Note(line, f"[{section.name}]", Fate.REFUSED, str(error), error.file or section.file))


def _value(section: Section, name: str) -> str:
    return section.options[name].value if name in section.options else ""


def _about_all(jobs: list[Imported], surroundings: Surroundings, sections: dict[str, Section]) -> Iterator[Note]:
    """What means something else here whichever program it is."""
    if not jobs:
        return
    says = "is that of procclaw.yaml; supervisord hands on what it was started with, and SUPERVISOR_*"
    yield Note(0, "the environment", Fate.CHANGED, says)
    if "directory" not in surroundings.options and not all("cwd" in job.fields for job in jobs):
        says = "is the account's home where none is named; supervisord's is where it was started"
        yield Note(0, "the directory", Fate.CHANGED, says)
    if any("user" in job.fields for job in jobs):
        yield Note(0, "user", Fate.CHANGED, "HOME, USER and LOGNAME are that account's; supervisord leaves its own")
    programs = [section for name, section in sections.items() if name.startswith("program:")]
    if not all(_is_true(_value(section, "stopasgroup")) for section in programs):
        yield Note(0, "a stop", Fate.CHANGED, "is signalled to all processes of a job, as with stopasgroup=true")
    if any("log" in job.fields or "stdout_logfile" in section.options for job in jobs for section in programs):
        yield Note(0, "output", Fate.CHANGED, "is in logs/ of the home: JOB.log, JOB.error.log (procclaw logs JOB)")
    prioritised = [name for name, section in sections.items() if "priority" in section.options]
    if prioritised:
        says = f"all start at once, and stop so; depends_on makes one wait for another ({', '.join(prioritised)})"
        yield Note(0, "priority", Fate.CHANGED, says)
    if any(job.fields["restart"] == "on_failure" for job in jobs):
        says = "exit code 0 within startsecs is a success too, and not tried again"
        yield Note(0, "autorestart=unexpected", Fate.CHANGED, says)


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "yes", "on", "1")
