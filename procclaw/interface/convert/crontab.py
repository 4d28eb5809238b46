"""Crontabs, a user's and the system's, as cronie and Debian's cron read them (crontab(5), cron(8)).

A job keeps what cron does with it: missed times are not made up for, nothing is tried again, the command goes to the
shell that SHELL names, in the home directory, with the variables that stand above its line. Days and weekdays combine
as in cron, and clock changes are treated as Debian's cron treats them; both are our own rules too.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from procclaw.interface.convert.background import LEAVES_IT, SAYS, is_left_behind
from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source
from procclaw.interface.convert.cronname import name_for
from procclaw.model.references import literal

_ASSIGNMENT = re.compile(
    r"\s*(?P<quote>[\"']?)(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P=quote)\s*=\s*(?P<value>.*)", re.DOTALL
)
_COMMENT = re.compile(r"\s*#")
_FIELD = re.compile(r"[0-9*,/?~a-zA-Z#-]+")
_NICKNAME = re.compile(r"@[a-z_]+", re.IGNORECASE)
_KNOWN_NICKNAMES = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_OF_OTHERS = re.compile(r"[#?]|(?<![A-Z])(?:L|W|LW)(?![A-Z])", re.IGNORECASE)
"""Special days, which the schedules of others have, and ours."""
_RANDOM = re.compile(r"(?P<low>\d*)~(?P<high>\d*)")
_USER = re.compile(r"[a-z_][a-z0-9_.-]*\$?(:[\w.-]+)?")
_NO_COMMANDS = frozenset({"root", "www-data", "nobody"})
"""Where one of them stands first, it is hardly a command."""
_ACCOUNT = re.compile(
    r"root|www(-data)?|nobody|daemon|mail|news|backup|git|postgres|mysql|redis|mongodb|rabbitmq|elasticsearch|apache"
    r"|nginx|http|tomcat|jenkins|gitlab|grafana|prometheus|zabbix|nagios|munin|logcheck|list|man|smmsp|amavis|clamav"
    r"|debian-[\w-]+|ubuntu|debian|centos|ec2-user|admin|pi|vagrant|deploy|_\w+"
)
_DAY_MINUTES = 1440


class _Line(NamedTuple):
    number: int
    text: str


def is_system_path(path: str) -> bool:
    """Whether crond reads such a file with a user in each line."""
    return re.fullmatch(r"(.*/)?etc/(crontab|cron\.d/[^/]+)", path) is not None


def looks_like(text: str, kind: str) -> bool:
    """Whether everything in it is a line of such a crontab, and there is one."""
    entries = [entry for entry in map(_split, _entry_lines(text)) if entry is not None]
    if not entries or len(entries) < sum(1 for _ in _entry_lines(text)):
        return False
    users = {command.split()[0].partition(":")[0] for _, command in entries}
    if not users & _NO_COMMANDS:
        return kind == "crontab"
    is_system = len(users) == 1 or all(_ACCOUNT.fullmatch(user) for user in users)
    return kind == "system-crontab" or not is_system


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    reading = _Reading(ids, is_system=kind == "system-crontab")
    for line in _lines(source.text):
        reading.take(line)
    if any(job.fields["type"] == "scheduled" for job in reading.jobs):
        says = "a due time is skipped where the last run is active still; cron starts another beside it"
        reading.notes.append(Note(0, "overlap", Fate.CHANGED, says))
    if not all("shutdown" in job.fields for job in reading.jobs):
        says = "what puts itself there is stopped when its command ends; cron leaves it, as leftovers: keep does"
        reading.notes.append(Note(0, "the background", Fate.CHANGED, says))
    if reading.jobs and not all("PATH" in job.fields.get("env", {}) for job in reading.jobs):
        reading.notes.append(Note(0, "PATH", Fate.CHANGED, "is that of procclaw.yaml; cron's is /usr/bin:/bin"))
    return Conversion(tuple(reading.jobs), tuple(reading.notes))


def _lines(text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        yield _Line(number, line.removesuffix("\r"))


def _entry_lines(text: str) -> Iterator[str]:
    for line in _lines(text):
        if line.text.strip() and not _COMMENT.match(line.text) and not _ASSIGNMENT.fullmatch(line.text):
            yield line.text


def _split(line: str) -> tuple[str, str] | None:
    """Its times, as one text, and what follows them; None: it is no entry."""
    words = line.split(None, 1)
    if words[0].startswith("@"):
        return (words[0], words[1].lstrip()) if _NICKNAME.fullmatch(words[0]) and len(words) == 2 else None
    words = line.split(None, 5)
    if len(words) < 6 or not all(_FIELD.fullmatch(field) for field in (words[0].removeprefix("-"), *words[1:5])):
        return None
    return " ".join(words[:5]), words[5]


def _is_disabled(text: str) -> bool:
    """Whether a comment is an entry that somebody switched off."""
    entry = _split(text) if text else None
    if entry is None:
        return False
    times, command = entry
    # Prose may begin with a number too.
    is_time = re.fullmatch(r"@\w+|([\d*]\S* ){3}([\d*]\S*|[a-z]{3}\S*) ([\d*]\S*|[a-z]{3}\S*)", times, re.IGNORECASE)
    return is_time is not None and re.match(r"[\w./~\[({\"'-]", command) is not None


class _Reading:
    """One crontab, line by line: what a line means depends on the variables set above it."""

    def __init__(self, ids: Ids, *, is_system: bool) -> None:
        self._is_system = is_system
        self._ids = ids
        self._variables: dict[str, tuple[int, str]] = {}
        self._comments: list[str] = []
        self.jobs: list[Imported] = []
        self.notes: list[Note] = []

    def take(self, line: _Line) -> None:
        text = line.text.strip()
        if not text:
            # Comments above an empty line are about the file, or what followed once.
            self._comments.clear()
        elif text.startswith("#") and _is_disabled(text.lstrip("# \t")):
            self._comments.clear()
            says = "is commented out, so there is no job of it"
            self.notes.append(Note(line.number, text, Fate.DROPPED, says))
        elif text.startswith("#"):
            self._comments.append(text.lstrip("#").strip())
        elif assigned := _ASSIGNMENT.fullmatch(line.text):
            self._assign(line.number, assigned["name"], assigned["value"])
        elif (entry := _split(text)) is None:
            self.notes.append(Note(line.number, text, Fate.REFUSED, "neither a variable nor five times and a command"))
        else:
            self._entry(line.number, *entry)
            self._comments.clear()

    def _assign(self, number: int, name: str, value: str) -> None:
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        self._variables[name] = (number, value)
        if name in _NOT_PASSED_ON:
            fate, says = _NOT_PASSED_ON[name](value)
            self.notes.append(Note(number, f"{name}={value}", fate, says))

    def _entry(self, number: int, times: str, command: str) -> None:
        notes: list[Note] = []
        user = None
        if self._is_system:
            user, *rest = command.split(None, 1)
            if not rest or not _USER.fullmatch(user):
                self.notes.append(
                    Note(number, f"{times} {command}", Fate.REFUSED, "no user and command follow the times")
                )
                return
            command = rest[0]
        try:
            fields = self._schedule(number, times, notes)
        except ValueError as error:
            self.notes.append(Note(number, f"{times} {command}", Fate.REFUSED, str(error)))
            return
        first = command.split()[0]
        if not self._is_system and first in _NO_COMMANDS:
            says = "is taken for the command; --from system-crontab takes it for the account, as in /etc/crontab"
            notes.append(Note(number, first, Fate.CHANGED, says))
        fields = {"cmd": self._command(number, command, notes), **fields, **self._ending(number, command, notes)}
        fields |= self._around(user)
        self.jobs.append(Imported(self._ids.of(name_for(command)), fields, number, tuple(notes), tuple(self._comments)))

    # --- when ---

    def _schedule(self, number: int, times: str, notes: list[Note]) -> dict[str, Any]:
        """Raises ValueError, in words."""
        if times.startswith("-"):
            times = times.removeprefix("-")
            notes.append(Note(number, "- before the times", Fate.KEPT, "nothing is written to syslog in any case"))
        if times.lower() == "@reboot":
            says = (
                "a service that is not brought back when it ends: it starts with the daemon, and again after a reboot "
                "that interrupted it; if it is to stay up, take restart: never away"
            )
            notes.append(Note(number, "@reboot", Fate.CHANGED, says))
            return {"type": "continuous", "restart": "never", "retry": {"enabled": False}}
        if times.startswith("@") and times.lower() not in _KNOWN_NICKNAMES:
            raise ValueError(f'"{times}" is not a time that cron(8) of Linux knows')
        if any(_OF_OTHERS.search(field) for field in times.split() if not field.startswith("@")):
            raise ValueError("cron(8) knows no #, L, W or ? in times and does not take such a line")
        schedule, width = _without_random(times)
        fields: dict[str, Any] = {"type": "scheduled", "schedule": schedule}
        if jitter := width + self._random_delay():
            fields["jitter"] = jitter
        if width:
            notes.append(Note(number, times, Fate.CHANGED, "the minute is drawn once for the job, not with each crond"))
        if zone := self._value("CRON_TZ"):
            fields["timezone"] = zone
        return {**fields, "catch_up": {"policy": "none"}, "retry": {"enabled": False}}

    def _random_delay(self) -> int:
        minutes = self._value("RANDOM_DELAY")
        return int(minutes) * 60 if minutes.isdecimal() and int(minutes) <= _DAY_MINUTES else 0

    # --- what ---

    def _command(self, number: int, command: str, notes: list[Note]) -> str | list[str]:
        if re.match(r"\*(/\d+)?\s", command):
            notes.append(Note(number, command[:2].strip(), Fate.KEPT, "a sixth field is the command, to cron as well"))
        command, given = _without_percent(command)
        if given is not None:
            notes.append(Note(number, "%", Fate.KEPT, "what follows it is the command's standard input"))
            command = _with_input(command, given)
        shell = self._value("SHELL")
        if shell in ("", "/bin/sh", "sh"):
            return literal(command, is_shell=True)
        return [shell, "-c", literal(command)]

    def _ending(self, number: int, command: str, notes: list[Note]) -> dict[str, Any]:
        if not is_left_behind(_without_percent(command)[0], self._value("SHELL")):
            return {}
        notes.append(Note(number, "the background", Fate.CHANGED, SAYS))
        return {"shutdown": LEAVES_IT}

    def _around(self, user: str | None) -> dict[str, Any]:
        """Whose it is, where it runs, and what it finds in its environment."""
        fields: dict[str, Any] = {}
        if user is not None:
            name, _, group = user.partition(":")
            fields["user"] = name
            fields |= {"group": group} if group else {}
        if home := self._value("HOME"):
            fields["cwd"] = home
        env = {name: literal(value) for name, (_, value) in self._variables.items() if name not in _NOT_ENVIRONMENT}
        return fields | ({"env": env} if env else {})

    def _value(self, name: str) -> str:
        return self._variables.get(name, (0, ""))[1]


_Verdict = Callable[[str], tuple[Fate, str]]


def _mail(value: str) -> tuple[Fate, str]:
    if not value:
        return Fate.KEPT, "output is mailed to nobody"
    return Fate.CHANGED, (
        "output is not mailed; it is kept in logs/ (procclaw logs JOB). To be told of failures, set "
        f'alerts.command in procclaw.yaml, for instance to: mail -s "$PROCCLAW_ALERT_MESSAGE" {shlex.quote(value)}'
    )


def _shell(value: str) -> tuple[Fate, str]:
    return Fate.KEPT, "the commands below go to it"


_NOT_PASSED_ON: dict[str, _Verdict] = {
    "MAILTO": _mail,
    "MAILFROM": lambda _value: (Fate.DROPPED, "nothing is mailed"),
    "CONTENT_TYPE": lambda _value: (Fate.DROPPED, "nothing is mailed"),
    "CONTENT_TRANSFER_ENCODING": lambda _value: (Fate.DROPPED, "nothing is mailed"),
    "SHELL": _shell,
    "CRON_TZ": lambda _value: (
        Fate.CHANGED,
        "the zone of the times below, as cronie has it; Debian's cron takes them as local ones",
    ),
    "HOME": lambda _value: (Fate.KEPT, "the directory of the commands below"),
    "RANDOM_DELAY": lambda value: (
        (Fate.CHANGED, "drawn once for each job, not with each start of crond")
        if value.isdecimal()
        else (Fate.DROPPED, "is no number of minutes")
    ),
    "LOGNAME": lambda _value: (Fate.DROPPED, "it is always that of the account a job runs as"),
    "USER": lambda _value: (Fate.DROPPED, "it is always that of the account a job runs as"),
}
"""Variables that mean something to cron itself, and what becomes of them."""
_NOT_ENVIRONMENT = _NOT_PASSED_ON.keys() - {"HOME", "SHELL"}


def _without_random(times: str) -> tuple[str, int]:
    """Times with the first minute of a random range, and the seconds the range is wide. Raises ValueError."""
    minute, *rest = times.split()
    if any("~" in field for field in rest):
        raise ValueError("a random hour or day (~) has no counterpart: write a value")
    found = _RANDOM.fullmatch(minute)
    if found is None:
        if "~" in minute:
            raise ValueError("a random minute (~) within a list has no counterpart: write a value")
        return times, 0
    low, high = int(found["low"] or 0), int(found["high"] or 59)
    if not low <= high <= 59:
        raise ValueError(f'"{minute}" is no range of minutes')
    return " ".join((str(low), *rest)), (high - low) * 60


def _without_percent(command: str) -> tuple[str, str | None]:
    """The command as cron hands it to the shell, and what it gets as input; None: nothing."""
    pieces = re.split(r"(?<!\\)%", command, maxsplit=1)
    plain = pieces[0].replace("\\%", "%")
    if len(pieces) == 1:
        return plain, None
    given = re.sub(r"(?<!\\)%", "\n", pieces[1]).replace("\\%", "%")
    return plain, given if given.endswith("\n") else given + "\n"


def _with_input(command: str, given: str) -> str:
    ending = "INPUT"
    while ending in given.split("\n"):
        ending += "_"
    # The braces let all of a compound command read from it, as under cron.
    return f"{{ {command}\n}} <<'{ending}'\n{given}{ending}"
