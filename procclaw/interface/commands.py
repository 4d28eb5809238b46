"""The commands there are: names, what each is for, its arguments, an example, and the function that carries it out.

Only the one that is called gets a parser and has its module imported, so `procclaw list` pays for `list` alone.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import NoReturn

from procclaw.interface.arguments import argument
from procclaw.interface.command import Command, Group
from procclaw.interface.console import terminal_columns
from procclaw.interface.home_commands import MOVE, OPENCLAW, SET_UP, THE_LOOP
from procclaw.interface.job_commands import ACT_ON, LOOK_AT, PUT_TOGETHER, WHAT_WAS
from procclaw.model.errors import UsageError

GROUPS: tuple[Group, ...] = (SET_UP, THE_LOOP, LOOK_AT, ACT_ON, PUT_TOGETHER, WHAT_WAS, MOVE, OPENCLAW)

EVERYWHERE = (
    argument("--json", action="store_true", help="print JSON"),
    argument(
        "--home", completes="directory", metavar="DIR", help="the home (default: PROCCLAW_HOME, else ~/.procclaw)"
    ),
)
"""What every command takes, before its name or after it."""

COMMANDS = tuple(command for _, commands in GROUPS for command in commands)
_BY_NAME = {command.name: command for command in COMMANDS}
FAMILIES = frozenset(command.name.split()[0] for command in COMMANDS if " " in command.name)


def find(words: list[str]) -> tuple[Command, int] | None:
    """The command that the first words name, and how many of them do."""
    if len(words) > 1 and f"{words[0]} {words[1]}" in _BY_NAME:
        return _BY_NAME[f"{words[0]} {words[1]}"], 2
    if words and words[0] in _BY_NAME:
        return _BY_NAME[words[0]], 1
    return None


def names() -> tuple[str, ...]:
    return tuple(_BY_NAME)


class _Formatter(RawDescriptionHelpFormatter):
    """argparse asks `shutil` for the width, and with that imports three kinds of compression into every command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_columns(sys.stdout) - 2)


class Parser(ArgumentParser):
    """Raises UsageError for what it cannot understand; `--help` is printed and raises SystemExit."""

    def __init__(self, command: Command) -> None:
        super().__init__(prog=f"procclaw {command.name}", formatter_class=_Formatter, allow_abbrev=False)
        self._command = command

    def format_help(self) -> str:
        # The texts are a module of their own that only those load who read them.
        from procclaw.interface.help import description, ending

        self.description, self.epilog = description(self._command), ending(self._command)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message} ({self.prog} --help shows what it takes)")

    def parsed(self, words: list[str]) -> Namespace:
        # Otherwise an option in front of it leaves a list of any length empty.
        takes_any = any(each.options.get("nargs") == "*" for each in self._command.arguments)
        return self.parse_intermixed_args(words) if takes_any else self.parse_args(words)


def parser_of(command: Command) -> Parser:
    parser = Parser(command)
    for each in (*command.arguments, *EVERYWHERE):
        parser.add_argument(*each.names, **each.options)
    return parser


def overview() -> str:
    """What `procclaw` and `procclaw --help` print."""
    width = max(len(name) for name in _BY_NAME)
    lines: list[str] = []
    for title, commands in GROUPS:
        lines += ["", f"{title}:", *(f"  {command.name.ljust(width)}  {command.summary}" for command in commands)]
    return "\n".join(
        (
            "usage: procclaw [--home DIR] [--json] COMMAND ...",
            "",
            "Declare jobs in jobs.yaml; ProcClaw compares what is declared with what runs, and acts on it.",
            *lines,
            "",
            "procclaw COMMAND --help explains a command, its options and how it is used; procclaw help lists topics.",
            "",
            "exit codes: 0 done, 1 refused or failed as told, 2 wrong usage or configuration, 3 a bug in ProcClaw,",
            "4 a daemon was needed and none runs, 130 interrupted",
        )
    )
