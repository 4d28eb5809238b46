"""What a shell offers when somebody presses Tab.

The scripts only hand over the words typed so far; what fits is decided here from the table of commands, so a script
need not be printed anew when commands are added. Each Tab is one call of the hidden `procclaw _complete`, which says
nothing at all rather than complain between a person's words. It never makes a configuration come into force: it offers
what the database knows.

Values are only offered if no shell sees more in them than letters; what accompanies them, such as a job's name, is
only ever shown.
"""

import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from procclaw.interface import commands
from procclaw.interface.arguments import Argument
from procclaw.interface.command import Command
from procclaw.interface.console import Console, shown
from procclaw.model.paths import Paths, chosen_home

if TYPE_CHECKING:
    from procclaw.engine.home import Home
    from procclaw.interface.cli import Context

FILES, DIRECTORIES = ":files", ":directories"
"""Told instead of candidates: the shell itself knows best what to offer."""

_MOST = 50
"""Runs and entries are offered from the newest on, as many as one looks through."""

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=.,/-]+")
"""What is a word of its own to every shell, whatever stands around it."""


class Candidate(NamedTuple):
    value: str
    says: str = ""


def script(context: "Context", options: Namespace) -> int:
    from procclaw.interface.shells import script_for

    text = script_for(options.shell)
    if context.console.is_json:
        context.console.json({"shell": options.shell, "script": text})
    else:
        context.console.say(text.rstrip("\n"))
    return 0


def complete(words: list[str]) -> int:
    """Print what may stand in the place of the last word, one to a line, with a tab before what it means.

    The first word is the shell's name; bash gives the words as they were typed, quotes and all.
    """
    console = Console()
    try:
        shell, *typed = words
        found = candidates(_unquoted(typed) if shell == "bash" else typed)
    except Exception:  # noqa: BLE001 (the boundary: nobody asked to be told of anything)
        return 0
    for each in found:
        console.say(f"{each.value}\t{shown(each.says)}" if each.says else each.value)
    return 0


def _unquoted(words: list[str]) -> list[str]:
    import shlex

    def unquoted(word: str) -> str:
        try:
            return "".join(shlex.split(word)) if set(word) & set("'\"\\") else word
        except ValueError:  # its quote is still open
            return word.lstrip("'\"")

    return [unquoted(word) for word in words]


def candidates(words: list[str]) -> list[Candidate]:
    """What may stand in the place of the last of these words, which is the beginning of it."""
    if not words:
        return []
    *before, current = words
    found = _Typed.read(before).offers(current)
    if found and found[0].value.startswith(":"):
        return found
    return [each for each in found if each.value.startswith(current) and _PLAIN.fullmatch(each.value)]


class _Typed(NamedTuple):
    """The words before the one that is completed, understood as far as they make sense."""

    home: str | None
    names: tuple[str, ...]
    """Words that name a command, or begin to."""
    command: Command | None
    given: tuple[str, ...]
    """Its arguments that are not options."""
    pending: Argument | None
    """The option whose value comes next."""
    is_literal: bool
    """After `--` nothing is an option."""

    @staticmethod
    def read(words: list[str]) -> "_Typed":
        home: str | None = None
        plain: list[str] = []
        pending: Argument | None = None
        is_literal = False
        for word in words:
            if pending is not None and not (_may_lack_value(pending) and word.startswith("-")):
                home = word if "--home" in pending.names else home
                pending = None
            elif is_literal or not word.startswith("-") or word == "-":
                plain.append(word)
                pending = None
            elif word == "--":
                is_literal, pending = True, None
            else:
                option, equals, value = word.partition("=")
                known = _option(_command_of(plain), option)
                pending = known if known is not None and not equals and _takes_value(known) else None
                home = value if equals and option == "--home" else home
        found = commands.find(plain)
        # `daemon` alone, and `runs` before its next word is typed, may become a command of two words.
        command, length = found or (None, len(plain))
        return _Typed(home, tuple(plain), command, tuple(plain[length:]), pending, is_literal)

    def offers(self, current: str) -> list[Candidate]:
        if self.pending is not None and not (_may_lack_value(self.pending) and current.startswith("-")):
            return self._values(self.pending)
        if current.startswith("-") and not self.is_literal:
            return self._options(current)
        if self.command is None:
            return self._commands()
        members = self._commands() if not self.given and self.command.name in commands.FAMILIES else []
        argument = self._positional()
        return members + ([] if argument is None else self._values(argument))

    def _commands(self) -> list[Candidate]:
        family = self.names[0] if self.names else None
        if family is None:
            first = {each.name.split()[0]: each.summary for each in reversed(commands.COMMANDS)}
            return [Candidate(name, first[name]) for name in dict.fromkeys(n.split()[0] for n in commands.names())]
        if len(self.names) > 1:
            return []
        return [
            Candidate(each.name.split()[1], each.summary)
            for each in commands.COMMANDS
            if each.name.startswith(f"{family} ")
        ]

    def _options(self, current: str) -> list[Candidate]:
        name, equals, _ = current.partition("=")
        if equals:
            option = _option(self.command, name)
            values = [] if option is None or not _takes_value(option) else self._values(option)
            return [
                each if each.value.startswith(":") else each._replace(value=f"{name}={each.value}") for each in values
            ]
        own = self.command.arguments if self.command is not None else ()
        options = [each for each in (*own, *commands.EVERYWHERE) if each.names[0].startswith("-")]
        found = [Candidate(name, str(each.options.get("help", ""))) for each in options for name in each.names]
        return [*found, Candidate("--help", "explain the command")]

    def _positional(self) -> Argument | None:
        """The argument that stands in the current place."""
        own = self.command.arguments if self.command is not None else ()
        takes = [each for each in own if not each.names[0].startswith("-")]
        for number, each in enumerate(takes):
            if number == len(self.given) or each.options.get("nargs") in ("*", "+"):
                return each
        return None

    def _values(self, argument: Argument) -> list[Candidate]:
        if choices := argument.options.get("choices"):
            return [Candidate(each) for each in choices]
        offer = _OFFERS.get(argument.completes)
        return [] if offer is None else [each for each in offer(self) if each.value not in self._taken(argument)]

    def _taken(self, argument: Argument) -> tuple[str, ...]:
        return self.given if argument.options.get("nargs") in ("*", "+") else ()

    def opened(self) -> "Home | None":
        """The home; None if it has no database, as looking must not make one."""
        path = Paths(chosen_home(self.home, os.environ.get("PROCCLAW_HOME")))
        if not os.path.exists(path.database):
            return None
        from procclaw.engine.home import Home

        return Home(path.home)

    def document(self) -> dict[str, Any]:
        home = self.opened()
        loaded = None if home is None else home.store.load_spec()
        return {} if loaded is None else loaded[1]


def _command_of(plain: list[str]) -> Command | None:
    found = commands.find(plain)
    return None if found is None else found[0]


def _option(command: Command | None, name: str) -> Argument | None:
    own = command.arguments if command is not None else ()
    return next((each for each in (*own, *commands.EVERYWHERE) if name in each.names), None)


def _takes_value(option: Argument) -> bool:
    return option.options.get("action") in (None, "append")


def _may_lack_value(option: Argument) -> bool:
    return option.options.get("nargs") == "?"


# --- what there is of each kind ---


def _jobs(typed: _Typed) -> Iterator[Candidate]:
    for job_id, job in typed.document().get("jobs", {}).items():
        yield Candidate(job_id, job.get("name") or job.get("description") or job["type"])


def _workflows(typed: _Typed) -> Iterator[Candidate]:
    for name, workflow in typed.document().get("workflows", {}).items():
        yield Candidate(name, workflow["type"])


def _params(typed: _Typed) -> Iterator[Candidate]:
    jobs = typed.document().get("jobs", {})
    for job_id in typed.given:
        for name, param in jobs.get(job_id, {}).get("params", {}).items():
            default = param.get("default")
            yield Candidate(f"{name}=", "required" if default is None else f"default {default}")


def _runs(typed: _Typed) -> Iterator[Candidate]:
    home = typed.opened()
    of_job = typed.given[0] if typed.given and typed.command is not None and typed.command.name == "logs" else None
    for run in () if home is None else home.store.runs(of_job, _MOST):
        yield Candidate(run.id, f"{run.job_id} {run.state}")


def _workflow_runs(typed: _Typed) -> Iterator[Candidate]:
    home = typed.opened()
    for run in () if home is None else home.store.workflow_runs(None, _MOST):
        yield Candidate(run.id, f"{run.name or run.spec.type} {run.state}")


def _entries(typed: _Typed) -> Iterator[Candidate]:
    home = typed.opened()
    for entry in () if home is None else home.store.dead_letters(None, _MOST):
        yield Candidate(str(entry.id), entry.job_id)


def _secrets(typed: _Typed) -> Iterator[Candidate]:
    """Those that are set, then those that are named somewhere and are not. Values are not looked at."""
    from procclaw.model.references import secrets_named

    home = typed.opened()
    places = {} if home is None else dict(home.credentials.places())
    for name, place in places.items():
        yield Candidate(name, f"in the {place}")
    for name in sorted(secrets_named(typed.document()) - places.keys()):
        yield Candidate(name, "not set")


def _statuses(_typed: _Typed) -> Iterator[Candidate]:
    from procclaw.planning.views import STATUSES

    return map(Candidate, STATUSES)


def _states(_typed: _Typed) -> Iterator[Candidate]:
    from procclaw.model.records import RunState

    return (Candidate(str(state)) for state in RunState)


def _help(typed: _Typed) -> list[Candidate]:
    from procclaw.interface.topics import TOPICS

    if typed.given:
        return _Typed.read(list(typed.given))._commands()
    return [*(Candidate(name, topic.summary) for name, topic in TOPICS.items()), *_Typed.read([])._commands()]


_OFFERS: dict[str, Callable[[_Typed], Iterable[Candidate]]] = {
    "job": _jobs,
    "run": _runs,
    "workflow": _workflows,
    "workflow run": _workflow_runs,
    "param": _params,
    "entry": _entries,
    "secret": _secrets,
    "status": _statuses,
    "state": _states,
    "help": _help,
    "file": lambda _typed: [Candidate(FILES)],
    "directory": lambda _typed: [Candidate(DIRECTORIES)],
}
