"""The table of commands, as far as they are about the home: setting it up, its loop, and what it works with."""

from procclaw.interface import arguments
from procclaw.interface.arguments import (
    FOLLOW,
    JOB,
    LINES,
    SECRET,
    argument,
)
from procclaw.interface.command import Command, Group

SOURCE_KINDS = (
    *("crontab", "systemd", "process-compose", "compose", "openclaw-cron"),
    *("procfile", "supervisord", "pm2", "system-crontab"),
)
"""What can be converted. A list of its own, for every command loads this table."""
EXPORT_FORMATS = ("systemd", "launchd", "crontab", "kubernetes")

SET_UP: Group = (
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
                argument("--cron", action="store_true", help="no daemon, but a line for cron: reconcile every minute"),
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
        Command(
            "doctor",
            "look for what is usually wrong with a set-up, and say what to do about it",
            "doctor",
            "doctor",
            (),
            "procclaw doctor",
        ),
        Command(
            "selftest",
            "prove on this machine, kernel and file system what procclaw promises",
            "selftest",
            "selftest",
            (argument("--chaos", action="store_true", help="and kill managers at every effect; under two minutes"),),
            "procclaw selftest",
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
            (argument("words", completes="help", metavar="TOPIC|COMMAND", nargs="*", help="a topic, or a command"),),
            "procclaw help scheduling",
        ),
    ),
)

THE_LOOP: Group = (
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
            "up",
            "run a jobs.yaml, Procfile or compose file in the foreground, with all it prints; Ctrl-C stops it",
            "up",
            "run",
            (
                argument(
                    "place",
                    completes="file",
                    metavar="FILE|DIR",
                    nargs="?",
                    help="what to run, or where it lies (default: the current directory)",
                ),
                argument(
                    "jobs",
                    completes="job",
                    metavar="JOB",
                    nargs="*",
                    help="jobs to start as well that do not begin by themselves",
                ),
                argument("--detach", action="store_true", help="have a daemon do it, and return once all is up"),
                argument(
                    "--timeout",
                    type=arguments.seconds,
                    default=60.0,
                    metavar="SECONDS",
                    help="with --detach: say what is not up after so long (default 60)",
                ),
            ),
            "procclaw up",
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
)

MOVE: Group = (
    "move in",
    (
        Command(
            "import",
            "make a jobs.yaml of another tool's files, and say what means something else here",
            "convert.importing",
            "run",
            (
                argument("files", completes="file", metavar="FILE", nargs="+", help="what to convert; - is the input"),
                argument(
                    "--from",
                    dest="kind",
                    metavar="KIND",
                    choices=SOURCE_KINDS,
                    help=f"what it is, where name and content do not tell: {', '.join(SOURCE_KINDS)}",
                ),
                argument("-o", "--output", completes="file", metavar="FILE", help="write jobs.yaml there"),
                argument("--write", action="store_true", help="write it into the home (jobs.d), where it applies"),
                argument("--force", action="store_true", help="overwrite what is there"),
            ),
            "procclaw import crontab.txt --write",
        ),
        Command(
            "export",
            "print the jobs in another tool's words, and say what means something else there",
            "convert.exporting",
            "run",
            (
                argument("format", metavar="FORMAT", choices=EXPORT_FORMATS, help=", ".join(EXPORT_FORMATS)),
                argument("jobs", completes="job", metavar="JOB", nargs="*", help="only these jobs"),
                argument("-o", "--output", completes="file", metavar="PATH", help="write the file or files there"),
                argument("--force", action="store_true", help="overwrite what is there"),
                argument("--image", metavar="IMAGE", help="kubernetes: the image that has the commands"),
                argument("--namespace", metavar="NAME", help="kubernetes: where it all goes"),
            ),
            "procclaw export kubernetes --image shop:1.4 -o shop.yaml",
        ),
    ),
)

OPENCLAW: Group = (
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
            (argument("--channel", metavar="NAME[:TARGET]", help="only there (default: where all jobs' alerts go)"),),
            "procclaw openclaw test-alert --channel telegram:123456789",
        ),
    ),
)
