"""Procfiles, as foreman, honcho and Heroku read them, with the .env and the .foreman that lie beside them.

A process becomes a continuous job in the Procfile's folder; PORT counts as foreman counts it. The .env stays where it
is and is read at each start, unless it has lines that foreman overlooks and a job of ours would not start with.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source, Unconvertible
from procclaw.interface.convert.section import Misfit, Section, document
from procclaw.model.errors import ProcclawError
from procclaw.model.references import literal
from procclaw.model.tree import Entries

_PROCESS = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_0-9]+)=(?P<value>.*)")
_FORMATION = re.compile(r"\s*(?P<name>[A-Za-z0-9_-]+)\s*=\s*(?P<count>\d{1,4})\s*")
_FIRST_PORT, _PORT_STEP, _LAST_PORT = 5000, 100, 65535
"""foreman's own: each name gets a hundred ports, each process of it one."""
_MOST_PROCESSES = 100
"""Of one name; they have no more ports."""
_RELEASE = "release"


class _Process(NamedTuple):
    line: int
    name: str
    command: str
    comments: tuple[str, ...]


class _Settings(NamedTuple):
    """What .foreman says."""

    env_file: str = ".env"
    counts: dict[str, int] | None = None
    """None: one of each."""
    port: int | None = None
    timeout: float | None = None


def looks_like(text: str, kind: str) -> bool:
    """Whether all that says something is a process, and there is one."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and all(_PROCESS.fullmatch(line.rstrip()) for line in lines)


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    notes: list[Note] = []
    processes = list(_processes(source.text, notes))
    settings = _settings(source, notes)
    variables, surroundings = _surroundings(source, settings, notes)
    first = _first_port(settings, variables, notes)
    jobs = []
    for index, process in enumerate(processes):
        count = _count(process.name, settings)
        ports = range(first + index * _PORT_STEP, first + index * _PORT_STEP + max(1, count))
        for number, port in enumerate(ports, start=1):
            name = process.name if len(ports) == 1 else f"{process.name}-{number}"
            fields = _fields(process, surroundings, port, settings)
            if count == 0:
                fields["enabled"] = False
            jobs.append(Imported(ids.of(name), fields, process.line, _notes(process, count), process.comments))
    return Conversion(tuple(jobs), (*notes, *(_about_all(settings) if jobs else ())))


# --- the Procfile ---


def _processes(text: str, notes: list[Note]) -> Iterator[_Process]:
    comments: list[str] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip()
        if not line:
            comments.clear()
        elif line.lstrip().startswith("#"):
            comments.append(line.lstrip("# \t"))
        elif (found := _PROCESS.fullmatch(line)) is None:
            notes.append(Note(number, line.strip(), Fate.REFUSED, "is no NAME: COMMAND; foreman overlooks it"))
        elif found["name"] in lines:
            says = f"a process of that name stands on line {lines[found['name']]}"
            notes.append(Note(number, line, Fate.REFUSED, says))
        else:
            lines[found["name"]] = number
            yield _Process(number, found["name"], found["command"], tuple(comments))
            comments.clear()


def _fields(process: _Process, surroundings: dict[str, Any], port: int, settings: _Settings) -> dict[str, Any]:
    is_release = process.name == _RELEASE
    fields = {
        "cmd": literal(process.command, is_shell=True),
        "type": "manual" if is_release else "continuous",
        **surroundings,
    }
    if is_release:
        return fields | {"retry": {"enabled": False}}
    if 0 < port <= _LAST_PORT:
        fields["env"] = fields.get("env", {}) | {"PORT": str(port)}
    if settings.timeout is not None:
        fields["shutdown"] = {"grace_period": settings.timeout}
    return fields


def _notes(process: _Process, count: int) -> tuple[Note, ...]:
    if process.name == _RELEASE:
        says = "runs when it is asked for; Heroku runs it before each deploy, foreman along with the others"
        return (Note(process.line, _RELEASE, Fate.CHANGED, says),)
    if count == 0:
        return (Note(process.line, process.name, Fate.CHANGED, "none of it is wanted: it runs when it is asked for"),)
    return ()


def _about_all(settings: _Settings) -> Iterator[Note]:
    says = "is started again, and the others go on, as on Heroku; foreman stops them all"
    yield Note(0, "a process that ends", Fate.CHANGED, says)
    if settings.timeout is None:
        yield Note(
            0, "a stop", Fate.CHANGED, "SIGKILL follows SIGTERM after 60 s; after 5 s with foreman, 30 s on Heroku"
        )
    says = "is that of procclaw.yaml; foreman hands on what its shell has, and a PS with the process's name"
    yield Note(0, "the environment", Fate.CHANGED, says)


# --- beside it ---


def _settings(source: Source, notes: list[Note]) -> _Settings:
    text = source.read(".foreman")
    if text is None:
        return _Settings()
    try:
        node = document(source._replace(text=text))
        if not isinstance(node, Entries):
            raise Misfit(node.mark[0], "is no mapping")
        section = Section(".foreman", node)
        found = _Settings(
            section.text("env") or ".env",
            _formation(section),
            _whole(section, "port"),
            section.number("timeout"),
        )
    except (Misfit, Unconvertible) as error:
        notes.append(Note(error.line, ".foreman", Fate.REFUSED, str(error), ".foreman"))
        return _Settings()
    notes += [note._replace(file=".foreman") for note in section.dropped("is not looked at")]
    return found


def _whole(section: Section, key: str) -> int | None:
    number = section.number(key)
    if number is None or isinstance(number, int):
        return number
    raise Misfit(section.line_of(key), f"{key}: is no whole number")


def _formation(section: Section) -> dict[str, int] | None:
    """How many there are of each process; `all` is for those not named."""
    counts = None
    for key in ("formation", "concurrency", "m", "c"):
        if (text := section.text(key)) is not None:
            parts = [_FORMATION.fullmatch(part) for part in text.split(",")]
            found = [part for part in parts if part is not None and int(part["count"]) <= _MOST_PROCESSES]
            if len(found) < len(parts):
                raise Misfit(section.line_of(key), f'{key}: "{text}" is not NAME=COUNT,…')
            counts = {part["name"]: int(part["count"]) for part in found}
    return counts


def _count(name: str, settings: _Settings) -> int:
    """foreman starts none of what a formation does not name."""
    return 1 if settings.counts is None else settings.counts.get(name, settings.counts.get("all", 0))


def _surroundings(source: Source, settings: _Settings, notes: list[Note]) -> tuple[dict[str, str], dict[str, Any]]:
    """What .env says, and the fields for that and for the folder."""
    from procclaw.engine.files import read_env

    fields: dict[str, Any] = {}
    if source.folder is None:
        says = "is the account's home: what comes from standard input lies nowhere"
        notes.append(Note(0, "the directory", Fate.CHANGED, says))
    else:
        fields["cwd"] = source.folder
    name, *more = (each.strip() for each in settings.env_file.split(","))
    if more:
        notes.append(Note(0, ", ".join(more), Fate.DROPPED, "a job reads one such file", ".foreman"))
    text = source.read(name)
    if text is None:
        return {}, fields
    try:
        variables = read_env(name, text)
    except ProcclawError as error:
        variables = _copied(text)
        says = f"is copied to each job, without what foreman overlooks too, for no job would start with it ({error})"
        notes.append(Note(0, name, Fate.CHANGED, says))
        return variables, fields | (
            {"env": {key: literal(value) for key, value in variables.items()}} if variables else {}
        )
    notes.append(Note(0, name, Fate.KEPT, "stays where it is, and is read at each start"))
    return variables, fields | {"env_file": name}


def _copied(text: str) -> dict[str, str]:
    """A .env as foreman reads it."""
    found = {}
    for line in text.replace("\r\n", "\n").split("\n"):
        if assigned := _VARIABLE.fullmatch(line):
            value = assigned["value"]
            if re.fullmatch(r"'.*'", value):
                value = value[1:-1]
            elif re.fullmatch(r'".*"', value):
                value = re.sub(r"\\(.)", r"\1", value[1:-1].replace("\\n", "\n"))
            found[assigned["name"]] = value
    return found


def _first_port(settings: _Settings, variables: dict[str, str], notes: list[Note]) -> int:
    if settings.port is not None:
        return settings.port
    text = variables.get("PORT", "")
    if not text or (text.isascii() and text.isdecimal() and len(text) < 6):
        return int(text or _FIRST_PORT)
    notes.append(Note(0, f"PORT={text}", Fate.DROPPED, "is no port; they count from 5000", settings.env_file))
    return _FIRST_PORT
