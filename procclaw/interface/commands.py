"""The table of commands: names, what each is for, its arguments, an example, and the function that carries it out.

Only the one that is called gets a parser and has its module imported, so `procclaw list` pays for `list` alone.
"""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from argparse import Namespace

    from procclaw.interface.cli import Context

    Function = Callable[[Context, Namespace], int]


class Argument(NamedTuple):
    names: tuple[str, ...]
    options: dict[str, Any]


class Command(NamedTuple):
    name: str
    """One word, or two for a command of a family: `daemon start`."""
    summary: str
    module: str
    function: str
    arguments: tuple[Argument, ...] = ()
    example: str = ""


def _argument(*names: str, **options: object) -> Argument:
    return Argument(names, options)


def _at_least(least: int) -> "Callable[[str], int]":
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f'"{text}" is not a whole number from {least} on')
        return int(text)

    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f'"{text}" is not a number of seconds')
    return seconds


_JOB = _argument("job", metavar="JOB", help="id of a job")
_JOBS = _argument("jobs", metavar="JOB", nargs="+", help="ids of jobs")
_FOLLOW = _argument("-f", "--follow", action="store_true", help="go on printing what comes")
_LINES = _argument("-n", "--lines", type=_at_least(0), default=100, metavar="N", help="the last N lines (default 100)")
_RUN = _argument("run", metavar="RUN", help="id of a run, or the beginning of one")
_LIMIT = _argument("-n", "--limit", type=_at_least(1), default=50, metavar="N", help="at most this many (default 50)")
_ONLY_JOB = _argument("job", metavar="JOB", nargs="?", help="only of this job")
_RUNS = (_ONLY_JOB, _argument("--state", help="only runs in this state"), _LIMIT)
_TYPES = ("manual", "continuous", "scheduled", "oneshot")
_FILTERS = (
    _argument("--status", help="only jobs in this status"),
    _argument("--type", choices=_TYPES, help="only jobs of this type"),
    _argument(
        "--tag", action="append", default=[], metavar="TAG", help="only jobs with this tag; again: and with this one"
    ),
    _argument("--enabled", action="store_true", default=None, help="only enabled jobs"),
    _argument("-q", "--query", metavar="TEXT", help="only jobs with this text in id, name, description or a tag"),
)
_WAIT = (
    _argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="wait at most this long (default: as long as it takes)"
    ),
)

COMMANDS = (
    Command("init", "create a home with a first configuration", "setup", "init", (), "procclaw init"),
    Command(
        "config",
        "show where the configuration is; --validate checks it",
        "setup",
        "config",
        (_argument("--validate", action="store_true", help="check all files and say everything that is wrong"),),
        "procclaw config --validate",
    ),
    Command("version", "print the version", "setup", "version", (), "procclaw version"),
    Command(
        "reconcile",
        "compare what is declared with what runs, once, and act on it",
        "loop",
        "reconcile",
        (
            _argument("--dry-run", action="store_true", help="print what would be done and change nothing"),
            _argument("--release", action="store_true", help="let the jobs go that daemon stop --jobs stopped"),
        ),
        "* * * * *  procclaw reconcile     # in a crontab: everything works without a daemon",
    ),
    Command("plan", "print what would be done now, and why; exit 10 if anything", "loop", "plan", (), "procclaw plan"),
    Command(
        "next",
        "print the coming times of a cron expression or of a job",
        "loop",
        "coming",
        (
            _argument("expression", metavar="EXPRESSION|JOB", help='such as "30 2 * * *", "@every 90s", or a job id'),
            _argument("--tz", metavar="ZONE", help="time zone, such as Europe/Berlin"),
            _argument("--after", metavar="ISO", help="count from this moment (default: now)"),
            _argument("-n", "--count", type=_at_least(1), default=5, metavar="N", help="how many (default 5)"),
        ),
        'procclaw next "30 2 * * *" --tz America/New_York -n 3',
    ),
    Command("list", "list the jobs", "jobs", "show_list", _FILTERS, "procclaw list --type continuous --tag web"),
    Command(
        "search",
        "list the jobs that a text matches",
        "jobs",
        "search",
        (_argument("text", metavar="TEXT", help="looked for in id, name, description and tags"), *_FILTERS[:-1]),
        "procclaw search report",
    ),
    Command("status", "show everything about a job", "jobs", "status", (_JOB,), "procclaw status api"),
    Command(
        "why", "show what keeps a job from starting, and what would free it", "jobs", "why", (_JOB,), "procclaw why api"
    ),
    Command("start", "start jobs", "asking", "start", (_JOBS, *_WAIT), "procclaw start api"),
    Command(
        "stop",
        "stop jobs, and keep continuous ones stopped",
        "asking",
        "stop",
        (_JOBS, _argument("--force", action="store_true", help="kill at once, without a grace period"), *_WAIT),
        "procclaw stop api --force",
    ),
    Command("restart", "stop jobs and start them again", "asking", "restart", (_JOBS, *_WAIT), "procclaw restart api"),
    Command(
        "run",
        "run a job once more, whatever runs already",
        "asking",
        "run",
        (
            _JOB,
            _argument("--wait", action="store_true", help="wait for the first attempt; exit 1 if it failed"),
            _argument("--until-final", action="store_true", help="wait until the run is over, retries included"),
            *_WAIT,
        ),
        "procclaw run backup --wait",
    ),
    Command("pause", "leave what runs alone and start nothing new", "asking", "pause", (_JOBS,), "procclaw pause api"),
    Command("resume", "let paused jobs go again", "asking", "resume", (_JOBS,), "procclaw resume api"),
    Command(
        "logs",
        "print what a job wrote; lines of stderr are marked",
        "history",
        "logs",
        (
            _JOB,
            _FOLLOW,
            _LINES,
            _argument("--run", metavar="RUN", help="only what this run wrote"),
            _argument("--since", metavar="TIME", help="only attempts alive since then: ISO 8601, or 90s, 15m, 2h, 1d"),
            _argument("--stderr", action="store_true", help="only stderr"),
        ),
        "procclaw logs api -f",
    ),
    Command(
        "runs",
        "list the newest runs",
        "history",
        "runs",
        _RUNS,
        "procclaw runs backup -n 10",
    ),
    Command(
        "runs list",
        "list the newest runs",
        "history",
        "runs",
        _RUNS,
        "procclaw runs list backup",
    ),
    Command(
        "runs show",
        "show a run and its attempts",
        "history",
        "run_show",
        (_RUN,),
        "procclaw runs show k3v9",
    ),
    Command(
        "runs logs",
        "print what a run wrote",
        "history",
        "run_logs",
        (_RUN, _FOLLOW),
        "procclaw runs logs k3v9",
    ),
    Command(
        "ledger",
        "show what became of every due slot: ran, skipped or missed, and why",
        "history",
        "ledger",
        (
            _ONLY_JOB,
            _argument("--since", metavar="TIME", help="only slots due since then: ISO 8601, or 90s, 15m, 2h, 30d"),
            _LIMIT,
        ),
        "procclaw ledger backup --since 30d",
    ),
    Command("reload", "read the configuration again and apply it now", "loop", "reload", (), "procclaw reload"),
    Command(
        "events",
        "print what happened: starts, ends, holds, requests",
        "history",
        "events",
        (_ONLY_JOB, _FOLLOW, _LIMIT),
        "procclaw events -f",
    ),
    Command(
        "env",
        "print the environment a job gets",
        "setup",
        "env",
        (_JOB, _argument("--explain", action="store_true", help="say where each variable comes from")),
        "procclaw env api --explain",
    ),
    Command(
        "daemon start",
        "start the daemon in the background",
        "daemon",
        "start",
        (
            _argument("-f", "--foreground", action="store_true", help="stay in the foreground"),
            _argument("--keep-holds", action="store_true", help="leave stopped what daemon stop --jobs stopped"),
        ),
        "procclaw daemon start",
    ),
    Command(
        "daemon stop",
        "stop the daemon; jobs go on running",
        "daemon",
        "stop",
        (_argument("--jobs", action="store_true", help="stop all jobs as well, until daemon start"),),
        "procclaw daemon stop",
    ),
    Command("daemon status", "say whether a daemon runs", "daemon", "status", (), "procclaw daemon status"),
    Command(
        "daemon logs",
        "print what the daemon did",
        "daemon",
        "logs",
        (_FOLLOW, _LINES),
        "procclaw daemon logs -f",
    ),
)

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


def parser_of(command: Command) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"procclaw {command.name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog=f"example:\n  {command.example}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for argument in command.arguments:
        parser.add_argument(*argument.names, **argument.options)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--home", metavar="DIR", help="the home (default: PROCCLAW_HOME, else ~/.procclaw)")
    return parser


def overview() -> str:
    """What `procclaw` and `procclaw --help` print."""
    width = max(len(name) for name in _BY_NAME)
    lines = [f"  {command.name.ljust(width)}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        (
            "usage: procclaw [--home DIR] [--json] COMMAND ...",
            "",
            "Declare jobs in jobs.yaml; ProcClaw compares what is declared with what runs, and acts on it.",
            "",
            "commands:",
            *lines,
            "",
            "procclaw COMMAND --help shows a command's options and an example.",
            "",
            "exit codes: 0 done, 1 refused or failed as told, 2 wrong usage or configuration, 3 a bug in ProcClaw,",
            "4 a daemon was needed and none runs, 130 interrupted",
        )
    )
