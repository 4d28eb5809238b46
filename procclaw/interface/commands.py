"""The table of commands: names, what each is for, its arguments, an example, and the function that carries it out.

Only the one that is called gets a parser and has its module imported, so `procclaw list` pays for `list` alone.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from procclaw.interface import arguments
from procclaw.interface.arguments import (
    COMPOSED,
    DEAD_LETTER,
    FILTERS,
    FOLLOW,
    JOB,
    JOBS,
    KEY,
    LIMIT,
    LINES,
    ONLY_JOB,
    PARAMS,
    RUN,
    RUNS,
    SECRET,
    SIDE_BY_SIDE,
    TIMEOUT,
    TO_THE_END,
    WATCH,
    WORKFLOW_RUN,
    Argument,
    argument,
)
from procclaw.model.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from procclaw.interface.cli import Context

    Function = Callable[[Context, Namespace], int]


class Command(NamedTuple):
    name: str
    """One word, or two for a command of a family: `daemon start`."""
    summary: str
    module: str
    function: str
    arguments: tuple[Argument, ...] = ()
    example: str = ""


GROUPS: tuple[tuple[str, tuple[Command, ...]], ...] = (
    (
        "set up",
        (
            Command("init", "create a home with a first configuration", "setup", "init", (), "procclaw init"),
            Command(
                "config",
                "show where the configuration is; --validate checks it",
                "setup",
                "config",
                (argument("--validate", action="store_true", help="check all files and say everything that is wrong"),),
                "procclaw config --validate",
            ),
            Command(
                "env",
                "print the environment a job gets",
                "setup",
                "env",
                (JOB, argument("--explain", action="store_true", help="say where each variable comes from")),
                "procclaw env api --explain",
            ),
            Command(
                "secret set",
                "store a secret for ${secret:NAME}; without VALUE it is prompted for, or read from a pipe",
                "secrets",
                "store",
                (
                    SECRET,
                    argument(
                        "value",
                        metavar="VALUE",
                        nargs="?",
                        help="the value; whoever looks at the processes meanwhile can see it, so better leave it out",
                    ),
                    argument("--file", action="store_true", help="in the home's file .secrets, not in the keychain"),
                ),
                "procclaw secret set SLACK_TOKEN",
            ),
            Command(
                "secret get",
                "print a secret, masked",
                "secrets",
                "show",
                (SECRET, argument("--show", action="store_true", help="print the value itself")),
                "procclaw secret get SLACK_TOKEN --show",
            ),
            Command(
                "secret list",
                "list the names of the secrets set here, and where each lives",
                "secrets",
                "show_list",
                (),
                "procclaw secret list",
            ),
            Command(
                "secret delete",
                "delete a secret",
                "secrets",
                "delete",
                (SECRET,),
                "procclaw secret delete SLACK_TOKEN",
            ),
            Command("reload", "read the configuration again and apply it now", "loop", "reload", (), "procclaw reload"),
            Command(
                "service install",
                "have the daemon started with the machine, by systemd or launchd",
                "service",
                "install",
                (
                    argument(
                        "--cron", action="store_true", help="no daemon, but a line for cron: reconcile every minute"
                    ),
                    argument("--force", action="store_true", help="replace what has that name and is not procclaw's"),
                ),
                "procclaw service install",
            ),
            Command(
                "service status",
                "say whether the service is installed and runs, and which file it starts",
                "service",
                "status",
                (),
                "procclaw service status",
            ),
            Command(
                "service uninstall",
                "end the service and remove it, and the crontab's line; jobs go on running",
                "service",
                "uninstall",
                (),
                "procclaw service uninstall",
            ),
            Command("version", "print the version", "setup", "version", (), "procclaw version"),
            Command(
                "completion",
                "print what makes a shell complete procclaw's commands and your jobs",
                "completion",
                "script",
                (argument("shell", choices=("bash", "zsh", "fish"), help="which shell it is for"),),
                "procclaw completion bash",
            ),
            Command(
                "help",
                "explain a topic or a command; alone, list the topics",
                "help",
                "show",
                (
                    argument(
                        "words", completes="help", metavar="TOPIC|COMMAND", nargs="*", help="a topic, or a command"
                    ),
                ),
                "procclaw help scheduling",
            ),
        ),
    ),
    (
        "the loop",
        (
            Command(
                "reconcile",
                "compare what is declared with what runs, once, and act on it",
                "loop",
                "reconcile",
                (
                    argument("--dry-run", action="store_true", help="print what would be done and change nothing"),
                    argument("--release", action="store_true", help="let the jobs go that daemon stop --jobs stopped"),
                ),
                "procclaw reconcile",
            ),
            Command(
                "plan",
                "print what would be done now, and why; exit 10 if anything",
                "loop",
                "plan",
                (
                    argument(
                        "--for",
                        dest="span",
                        type=arguments.span,
                        metavar="SPAN",
                        help="and what will fire within that time: 24h, 7d; days on which clocks change are marked",
                    ),
                ),
                "procclaw plan --for 7d",
            ),
            Command(
                "next",
                "print the coming times of a cron expression or of a job",
                "loop",
                "coming",
                (
                    argument(
                        "expression",
                        completes="job",
                        metavar="EXPRESSION|JOB",
                        help='such as "30 2 * * *", "@every 90s", or a job id',
                    ),
                    argument("--tz", metavar="ZONE", help="time zone, such as Europe/Berlin"),
                    argument("--after", metavar="ISO", help="count from this moment (default: now)"),
                    argument(
                        "-n", "--count", type=arguments.at_least(1), default=5, metavar="N", help="how many (default 5)"
                    ),
                ),
                'procclaw next "30 2 * * *" --tz America/New_York -n 3',
            ),
            Command(
                "daemon start",
                "start the daemon in the background",
                "daemon",
                "start",
                (
                    argument("-f", "--foreground", action="store_true", help="stay in the foreground"),
                    argument("--keep-holds", action="store_true", help="leave stopped what daemon stop --jobs stopped"),
                ),
                "procclaw daemon start",
            ),
            Command(
                "daemon stop",
                "stop the daemon; jobs go on running",
                "daemon",
                "stop",
                (argument("--jobs", action="store_true", help="stop all jobs as well, until daemon start"),),
                "procclaw daemon stop",
            ),
            Command("daemon status", "say whether a daemon runs", "daemon", "status", (), "procclaw daemon status"),
            Command(
                "daemon logs",
                "print what the daemon did",
                "daemon",
                "logs",
                (FOLLOW, LINES),
                "procclaw daemon logs -f",
            ),
        ),
    ),
    (
        "look at jobs",
        (
            Command(
                "list",
                "list the jobs",
                "jobs",
                "show_list",
                (*FILTERS, WATCH),
                "procclaw list --type continuous --tag web",
            ),
            Command(
                "search",
                "list the jobs that a text matches",
                "jobs",
                "search",
                (argument("text", metavar="TEXT", help="looked for in id, name, description and tags"), *FILTERS[:-1]),
                "procclaw search report",
            ),
            Command("status", "show everything about a job", "details", "status", (JOB,), "procclaw status api"),
            Command(
                "why",
                "show what keeps a job from starting, and what would free it",
                "details",
                "why",
                (JOB,),
                "procclaw why api",
            ),
            Command(
                "queue",
                "show the runs that wait, in their order, and what each waits for",
                "details",
                "queue",
                (ONLY_JOB,),
                "procclaw queue",
            ),
        ),
    ),
    (
        "act on jobs",
        (
            Command("start", "start jobs", "asking", "start", (JOBS, PARAMS, TIMEOUT), "procclaw start api"),
            Command(
                "stop",
                "stop jobs, and keep continuous ones stopped",
                "asking",
                "stop",
                (JOBS, argument("--force", action="store_true", help="kill at once, without a grace period"), TIMEOUT),
                "procclaw stop api --force",
            ),
            Command(
                "restart",
                "stop jobs and start them again",
                "asking",
                "restart",
                (JOBS, TIMEOUT),
                "procclaw restart api",
            ),
            Command(
                "run",
                "run a job once more, whatever runs already",
                "asking",
                "run",
                (
                    JOB,
                    PARAMS,
                    KEY,
                    argument("--wait", action="store_true", help="wait for the first attempt; exit 1 if it failed"),
                    argument("--until-final", action="store_true", help="wait until the run is over, retries included"),
                    TIMEOUT,
                ),
                "procclaw run backup -p target=/srv --wait",
            ),
            Command(
                "pause", "leave what runs alone and start nothing new", "asking", "pause", (JOBS,), "procclaw pause api"
            ),
            Command("resume", "let paused jobs go again", "asking", "resume", (JOBS,), "procclaw resume api"),
            Command(
                "revoke",
                "start nothing of a job any more and cancel what waits or is planned",
                "asking",
                "revoke",
                (
                    JOB,
                    argument(
                        "--expires", type=arguments.span, metavar="SPAN", help="only for so long: 90s, 15m, 2h, 1d"
                    ),
                    argument("--until", metavar="ISO", help="only until then; without an offset in the job's zone"),
                    argument("--terminate", action="store_true", help="stop what runs as well"),
                    TIMEOUT,
                ),
                "procclaw revoke report --expires 2h",
            ),
            Command("unrevoke", "let revoked jobs go again", "asking", "unrevoke", (JOBS,), "procclaw unrevoke report"),
            Command(
                "schedule",
                "plan a run for later, take that back, or list what is planned",
                "asking",
                "schedule",
                (
                    argument(
                        "job",
                        completes="job",
                        metavar="JOB",
                        nargs="?",
                        help="id of a job; without --at, --in or --cancel: only of this",
                    ),
                    argument("--at", metavar="ISO", help="when; without an offset in the job's zone"),
                    argument(
                        "--in", dest="delay", type=arguments.span, metavar="SPAN", help="in how long: 90s, 15m, 2h, 1d"
                    ),
                    argument("--cancel", action="store_true", help="cancel all that is planned for the job"),
                    PARAMS,
                ),
                "procclaw schedule report --in 10m",
            ),
            Command(
                "trigger",
                "run a job as a webhook does, with JSON for it",
                "asking",
                "trigger",
                (
                    JOB,
                    argument(
                        "--payload",
                        completes="file",
                        metavar="JSON|FILE|-",
                        help="what the job finds in PROCCLAW_PAYLOAD_FILE; - is stdin",
                    ),
                    PARAMS,
                    KEY,
                    TIMEOUT,
                ),
                """procclaw trigger deploy --payload '{"ref": "main"}'""",
            ),
        ),
    ),
    (
        "put jobs together",
        (
            Command(
                "chain",
                "run jobs one after the other",
                "workflows",
                "chain",
                (JOBS, *COMPOSED),
                "procclaw chain fetch build publish --wait",
            ),
            Command(
                "group",
                "run jobs side by side",
                "workflows",
                "group",
                (JOBS, SIDE_BY_SIDE, *COMPOSED),
                "procclaw group north south west --max-parallel 2",
            ),
            Command(
                "chord",
                "run jobs side by side, and one more once all have ended",
                "workflows",
                "chord",
                (
                    JOBS,
                    argument(
                        "--callback", completes="job", metavar="JOB", required=True, help="the job that comes last"
                    ),
                    SIDE_BY_SIDE,
                    *COMPOSED,
                ),
                "procclaw chord north south --callback report",
            ),
            Command(
                "workflow",
                "list the workflows that are declared",
                "workflows",
                "declared",
                (),
                "procclaw workflow",
            ),
            Command(
                "workflow list",
                "list the workflows that are declared",
                "workflows",
                "declared",
                (),
                "procclaw workflow list",
            ),
            Command(
                "workflow run",
                "run a workflow that is declared",
                "workflows",
                "run",
                (argument("name", completes="workflow", metavar="WORKFLOW", help="name of a workflow"), TO_THE_END),
                "procclaw workflow run nightly --wait",
            ),
            Command(
                "workflow show",
                "show a run of a workflow and its steps",
                "workflows",
                "show",
                (WORKFLOW_RUN,),
                "procclaw workflow show k3v9",
            ),
            Command(
                "workflow runs",
                "list the newest runs of workflows",
                "workflows",
                "runs",
                (
                    argument("name", completes="workflow", metavar="WORKFLOW", nargs="?", help="only of this workflow"),
                    LIMIT,
                ),
                "procclaw workflow runs nightly -n 5",
            ),
            Command(
                "workflow cancel",
                "start no further step, and stop what runs of it",
                "workflows",
                "cancel",
                (WORKFLOW_RUN,),
                "procclaw workflow cancel k3v9",
            ),
            Command(
                "workflow retry",
                "go on with a run of a workflow from what failed",
                "workflows",
                "retry",
                (WORKFLOW_RUN, TO_THE_END),
                "procclaw workflow retry k3v9 --wait",
            ),
        ),
    ),
    (
        "what was",
        (
            Command(
                "logs",
                "print what a job wrote; lines of stderr are marked",
                "history",
                "logs",
                (
                    JOB,
                    FOLLOW,
                    LINES,
                    argument("--run", completes="run", metavar="RUN", help="only what this run wrote"),
                    argument(
                        "--since", metavar="TIME", help="only attempts alive since then: ISO 8601, or 90s, 15m, 2h, 1d"
                    ),
                    argument("--stderr", action="store_true", help="only stderr"),
                ),
                "procclaw logs api -f",
            ),
            Command(
                "runs",
                "list the newest runs",
                "history",
                "runs",
                RUNS,
                "procclaw runs backup -n 10",
            ),
            Command(
                "runs list",
                "list the newest runs",
                "history",
                "runs",
                RUNS,
                "procclaw runs list backup",
            ),
            Command(
                "runs show",
                "show a run and its attempts",
                "history",
                "run_show",
                (RUN,),
                "procclaw runs show k3v9",
            ),
            Command(
                "runs logs",
                "print what a run wrote",
                "history",
                "run_logs",
                (RUN, FOLLOW),
                "procclaw runs logs k3v9",
            ),
            Command(
                "ledger",
                "show what became of every due slot: ran, skipped or missed, and why",
                "history",
                "ledger",
                (
                    ONLY_JOB,
                    argument(
                        "--since", metavar="TIME", help="only slots due since then: ISO 8601, or 90s, 15m, 2h, 30d"
                    ),
                    LIMIT,
                ),
                "procclaw ledger backup --since 30d",
            ),
            Command(
                "events",
                "print what happened: starts, ends, holds, requests",
                "history",
                "events",
                (ONLY_JOB, FOLLOW, LIMIT),
                "procclaw events -f",
            ),
            Command(
                "alerts",
                "list what people were told of, or should have been",
                "history",
                "alerts",
                (ONLY_JOB, LIMIT),
                "procclaw alerts backup -n 10",
            ),
            Command(
                "dlq",
                "list the dead letter queue: runs that have failed for good",
                "dead_letters",
                "entries",
                (ONLY_JOB, LIMIT),
                "procclaw dlq backup",
            ),
            Command(
                "dlq list",
                "list the dead letter queue: runs that have failed for good",
                "dead_letters",
                "entries",
                (ONLY_JOB, LIMIT),
                "procclaw dlq list backup",
            ),
            Command(
                "dlq show",
                "show an entry and the run that failed",
                "dead_letters",
                "show",
                (DEAD_LETTER,),
                "procclaw dlq show 7",
            ),
            Command(
                "dlq reinject",
                "run it again, with the same params and payload",
                "dead_letters",
                "reinject",
                (DEAD_LETTER, TIMEOUT),
                "procclaw dlq reinject 7",
            ),
            Command(
                "dlq purge",
                "throw entries away",
                "dead_letters",
                "purge",
                (
                    argument(
                        "ids",
                        completes="entry",
                        type=arguments.at_least(1),
                        metavar="ID",
                        nargs="*",
                        help="numbers of entries",
                    ),
                    argument("--job", completes="job", metavar="JOB", help="all of this job"),
                    argument("--older-than", type=arguments.span, metavar="SPAN", help="all that are older: 12h, 7d"),
                    argument("--all", action="store_true", help="all"),
                ),
                "procclaw dlq purge --job backup --older-than 7d",
            ),
        ),
    ),
    (
        "OpenClaw",
        (
            Command(
                "openclaw install-skill",
                "teach OpenClaw's agents to use ProcClaw; again after an upgrade",
                "openclaw",
                "install_skill",
                (),
                "procclaw openclaw install-skill",
            ),
            Command(
                "openclaw status",
                "say whether OpenClaw is there, and its agents see the skill",
                "openclaw",
                "status",
                (),
                "procclaw openclaw status",
            ),
            Command(
                "openclaw test-alert",
                "send a message the way an alert goes, and say what came of it",
                "openclaw",
                "test_alert",
                (
                    argument(
                        "--channel", metavar="NAME[:TARGET]", help="only there (default: where all jobs' alerts go)"
                    ),
                ),
                "procclaw openclaw test-alert --channel telegram:123456789",
            ),
        ),
    ),
)

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


class Parser(ArgumentParser):
    """Raises UsageError for what it cannot understand; `--help` is printed and raises SystemExit."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            prog=f"procclaw {command.name}", formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
        )
        self._command = command

    def format_help(self) -> str:
        # The texts are a module of their own that only those load who read them.
        from procclaw.interface.help import description, ending

        self.description, self.epilog = description(self._command), ending(self._command)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message} ({self.prog} --help shows what it takes)")


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
