"""What `--help` says of each command beyond its one line in the table: a page of text for each, and nothing else."""

from typing import NamedTuple


class Page(NamedTuple):
    text: str
    examples: tuple[str, ...] = ()
    """Besides the one in the table of commands."""
    exits: tuple[str, ...] = ()
    """A code and what it means, where more is to be said than that 0 is done and 1 refused."""
    related: tuple[str, ...] = ()


_FAILED = ("0 done", "1 refused, or a job of it failed as told", "2 wrong usage or configuration")
_WAITED = ("0 it succeeded, or was asked for and not waited for", "1 refused, or what was waited for failed")

_LIST_RUNS = Page(
    "Newest first, each with how it ended and why. Runs are kept for as long as history in procclaw.yaml says;\n"
    "the ledger may tell of one that is no longer kept.",
    ("procclaw runs --state failed", "procclaw runs backup --json"),
    related=("runs show", "ledger", "logs"),
)
_LIST_WORKFLOWS = Page(
    "They stand under workflows: in jobs.yaml, each with its type and its jobs.",
    related=("workflow run", "workflow runs", "chain", "group", "chord"),
)
_LIST_ENTRIES = Page(
    "A run comes here when its retries are used up. It stays until somebody throws it away; put in again, it\n"
    "names the run that it became.",
    ("procclaw dlq --json",),
    related=("dlq show", "dlq reinject", "dlq purge", "help retry"),
)

PAGES = {
    # --- set up ---
    "init": Page(
        "Makes the folder, with a procclaw.yaml and a jobs.yaml that explain themselves. What exists is left as it\n"
        "is, so it is harmless to repeat.",
        ("procclaw init --home /srv/jobs",),
        related=("config", "help files", "help jobs"),
    ),
    "config": Page(
        "Names each file and folder of the home and says which are not there yet. --validate reads the\n"
        "configuration as the daemon would and lists every mistake with its line, without changing anything.",
        ("procclaw config",),
        ("0 valid", "2 something is wrong; all of it is told"),
        ("reload", "help files", "help jobs"),
    ),
    "env": Page(
        "What the job would find at its next start: the base environment, env_file, env and ProcClaw's own\n"
        "variables. It does not depend on the terminal from which you ask.",
        ("procclaw env api",),
        related=("status", "help jobs"),
    ),
    "reload": Page(
        "A saved file is noticed by itself; this waits for it and says what is wrong or how many jobs are in force.\n"
        "With a mistake in the files the last good configuration stays in force.",
        exits=("0 in force", "2 the files are wrong; nothing was changed"),
        related=("config", "plan"),
    ),
    "doctor": Page(
        "Looks at the home and its disk, the configuration and what its jobs need (programs on their PATH, folders,\n"
        "secrets, time zones), the daemon, the service and the crontab, the HTTP port, the keychain, the clock,\n"
        "limits, and whether the first process reaps. One line for each finding, worst first: how bad, what thing,\n"
        "what was found, what to do now. It changes nothing, and tells no secret.",
        ("procclaw doctor --json", "procclaw doctor --home /srv/jobs"),
        ("0 no problem; there may be warnings", "1 at least one problem"),
        ("config", "service status", "daemon status", "why", "selftest"),
    ),
    "selftest": Page(
        "Carries each promise out in a scratch home, with real processes, and says of each: holds, broken, or not\n"
        "checkable here and why. The scratch home is made inside the home, or in the folder where the home would be,\n"
        "as what holds depends on the file system; --home tries another place before a home is put there. Your jobs\n"
        "are not touched, and everything that was made for it is gone afterwards, after Ctrl-C too.\n\n"
        "It takes a few seconds. --chaos goes on to kill a manager with SIGKILL after each of its effects in turn,\n"
        "and looks each time whether the next one starts nothing twice, knows every exit code and leaves nothing.",
        ("procclaw selftest --chaos", "procclaw selftest --home /mnt/data/procclaw", "procclaw selftest --json"),
        ("0 all that can be checked here holds", "1 a promise is broken", "130 interrupted"),
        ("doctor", "version"),
    ),
    "version": Page("The same as procclaw --version.", ("procclaw version --json",)),
    "completion": Page(
        "bash: put  source <(procclaw completion bash)  into ~/.bashrc.\n"
        "zsh:  put  source <(procclaw completion zsh)   into ~/.zshrc, after compinit.\n"
        "fish: put  procclaw completion fish | source   into ~/.config/fish/config.fish.\n\n"
        "It completes commands, options, jobs, runs, workflows and params, for procclaw and for the name it was\n"
        "called by here, and looks into the home that --home on the line, or PROCCLAW_HOME, names. For an alias,\n"
        "add complete -F _procclaw ALIAS  (bash);  zsh and fish know their aliases.",
        ("procclaw completion zsh", "procclaw completion fish"),
        related=("help",),
    ),
    "help": Page(
        "Topics say how something works, with examples; a command's help is what its --help prints.",
        ("procclaw help", "procclaw help runs show"),
        ("0 explained", "2 no such topic or command"),
    ),
    # --- the loop ---
    "reconcile": Page(
        "One pass: starts what is due, stops what should not run, notes what has ended. Once a minute from cron it\n"
        "does the daemon's work:  * * * * *  procclaw reconcile . Beside a daemon it makes that one look at once.",
        ("procclaw reconcile --dry-run", "procclaw reconcile --release"),
        ("0 a pass was made", "2 the files are wrong", "10 with --dry-run: there is something to do"),
        ("plan", "daemon start", "help cron"),
    ),
    "plan": Page(
        "Per job what a pass would do and which fact causes it, and what is waited for. Nothing is changed. --for\n"
        "adds the times at which schedules fire, with the days marked on which clocks change.",
        ("procclaw plan",),
        ("0 nothing to do", "2 the files are wrong: what is told is of the last good ones", "10 something to do"),
        ("reconcile", "next", "why"),
    ),
    "next": Page(
        "Tries a cron line before it is trusted; needs no home for that. For a job it takes the job's own schedule\n"
        "and zone. A time without an offset is one of the zone.",
        ("procclaw next report", 'procclaw next "*/15 9-17 * * 1-5" -n 3', 'procclaw next "@every 90s" --json'),
        ("0 printed", "2 that is no schedule"),
        ("plan", "help scheduling"),
    ),
    "daemon start": Page(
        "Returns once the daemon is up. It takes over what runs already and starts nothing twice. -f is for service\n"
        "managers and for looking: it prints what the daemon does.",
        ("procclaw daemon start -f", "procclaw daemon start --keep-holds"),
        ("0 it runs, whether it did before or not", "1 it could not be started"),
        ("daemon stop", "daemon status", "reconcile"),
    ),
    "daemon stop": Page(
        "Jobs outlive it, with their logs and exit codes; the next daemon takes them over. --jobs stops them too,\n"
        "and keeps them stopped until daemon start or reconcile --release.",
        ("procclaw daemon stop --jobs",),
        ("0 it is gone", "4 none ran"),
        ("daemon start", "help stopping"),
    ),
    "daemon status": Page(
        "Says its pid, how many jobs run, where its HTTP interface is or why there is none, and whether the files\n"
        "can be used.",
        ("procclaw daemon status --json",),
        ("0 it runs", "4 none runs"),
        ("daemon start", "help http"),
    ),
    "daemon logs": Page(
        "One line for each thing that changed. What jobs print is in their own logs.",
        ("procclaw daemon logs -n 20",),
        related=("logs", "events"),
    ),
    "up": Page(
        "Each line comes after its job's name, lines of stderr are marked, and what happens to jobs stands between\n"
        "them. Continuous jobs start, scheduled ones run when due, manual ones only if they are named. Ctrl-C stops\n"
        "all of them, dependants first; a second one kills, a third leaves what cannot be killed. It ends of itself\n"
        "once nothing is left that would run. If it is killed, the jobs live on and the next up takes them over.\n"
        "\n"
        "In a directory it takes what it finds first: a home (procclaw.yaml), jobs.yaml, Procfile, compose.yaml,\n"
        "docker-compose.yaml, process-compose.yaml. A home is run as it is, as is one that --home names; there is no\n"
        "HTTP meanwhile. A file gets a home of its own, under $XDG_STATE_HOME or ~/.local/state, in procclaw/up, by\n"
        "its path; up says which, for use from elsewhere with --home. Its jobs have the terminal's environment, and\n"
        "run in the file's folder where they name no cwd. A saved jobs.yaml applies within seconds; what is converted\n"
        "is read when up begins.",
        (
            "procclaw up shop/Procfile",
            "procclaw up . migrate",
            "procclaw up --detach",
            "procclaw up --home examples/web",
        ),
        (
            "0 stopped by Ctrl-C, or all is done; with --detach: all is up",
            "1 something failed for good, or is not up; or somebody else runs it already",
            "2 the file cannot be used, or no job of it begins by itself",
        ),
        ("daemon start", "logs", "import", "help stopping"),
    ),
    # --- look at jobs ---
    "list": Page(
        "One line for each job: status, pid, how long it is up, next due time and the reason for what it waits for.\n"
        "Filters are combined. --watch redraws the table in place and needs a terminal; with --json it prints one\n"
        "object a line, at the beginning and whenever more has changed than time and use.",
        ("procclaw list", "procclaw list --status failed", "procclaw list --watch 5", "procclaw list --watch --json"),
        ("0 listed, whether any matches or not", "130 --watch was interrupted"),
        ("status", "why", "search"),
    ),
    "search": Page(
        "Looks in id, name, description and tags, whatever the case. Takes the filters of list.",
        ("procclaw search report --type scheduled",),
        related=("list", "status"),
    ),
    "status": Page(
        "What it is, how it is and why, where it is declared, and its newest runs.",
        ("procclaw status api --json",),
        related=("why", "runs", "logs"),
    ),
    "why": Page(
        "First the thing that keeps it from starting and the command that frees it, then every gate: open or\n"
        "closed, since when, and what opens it.",
        ("procclaw why api --json",),
        related=("queue", "ledger", "runs show", "help waiting"),
    ),
    "queue": Page(
        "In the order in which they get their turn: priority, then age.",
        ("procclaw queue report",),
        related=("why", "help waiting"),
    ),
    # --- act on jobs ---
    "start": Page(
        "A service that was stopped runs again and stays up; another job gets a run unless it has one. Does not\n"
        "wait for the end of it. A manual job that it depends on is started for it.",
        ("procclaw start report -p DAY=monday", "procclaw start api web --timeout 10"),
        _FAILED,
        ("stop", "run", "why"),
    ),
    "stop": Page(
        "Returns when nothing of them is alive: the stop signal, the grace period, then SIGKILL to what is left. A\n"
        "continuous job stays stopped until start; a schedule goes on.",
        ("procclaw stop api", "procclaw stop api web --timeout 30"),
        ("0 nothing of them is left", "1 refused, or not done within --timeout; it goes on"),
        ("start", "pause", "help stopping"),
    ),
    "restart": Page(
        "The new process is started only when nothing of the old one is left.",
        ("procclaw restart api web",),
        _FAILED,
        ("stop", "start"),
    ),
    "run": Page(
        "Another run beside the schedule and beside what runs, within the job's concurrency: if it has to wait, it\n"
        "says for what and waits in the queue. --wait returns with the first attempt's outcome, --until-final with\n"
        "the run's.",
        ("procclaw run report", "procclaw run report --until-final --timeout 600", "procclaw run deploy --key 4711"),
        _WAITED,
        ("start", "runs show", "logs", "help exit-codes"),
    ),
    "pause": Page(
        "What runs goes on, and due times that pass meanwhile are skipped and said to be in the ledger.",
        ("procclaw pause report backup",),
        related=("resume", "revoke", "stop"),
    ),
    "resume": Page(
        "Takes a pause back. A stop is taken back by start, a revocation by unrevoke.",
        related=("pause", "start", "why"),
    ),
    "revoke": Page(
        "A pause that also cancels what waits or is planned, and may end by itself.",
        ("procclaw revoke report --until 2030-01-01T06:00", "procclaw revoke report --terminate"),
        related=("unrevoke", "pause", "schedule"),
    ),
    "unrevoke": Page("Runs that the revocation cancelled do not come back.", related=("revoke", "run")),
    "schedule": Page(
        "A single run at a time of your choice, beside the schedule in jobs.yaml. Without --at, --in or --cancel it\n"
        "lists what is planned.",
        (
            "procclaw schedule report --at 2030-01-01T06:00 -p DAY=monday",
            "procclaw schedule",
            "procclaw schedule report --cancel",
        ),
        related=("plan", "revoke", "help scheduling"),
    ),
    "trigger": Page(
        "The job finds the JSON in the file that PROCCLAW_PAYLOAD_FILE names. Asking again with the same --key is\n"
        "the same request, so a script may repeat itself.",
        ("procclaw trigger deploy --payload event.json --key 4711",),
        related=("run", "help http"),
    ),
    # --- put jobs together ---
    "chain": Page(
        "Each step starts when the one before has succeeded, and finds the results of all before it in\n"
        "PROCCLAW_INPUT_FILE.",
        ("procclaw chain fetch build --on-failure continue --timeout 2h",),
        _WAITED,
        ("group", "chord", "workflow run", "workflow show"),
    ),
    "group": Page(
        "It has succeeded when all of them have.",
        ("procclaw group north south --wait",),
        _WAITED,
        ("chain", "chord", "workflow show"),
    ),
    "chord": Page(
        "The callback runs once, when the others have ended, and finds their results in PROCCLAW_INPUT_FILE.",
        ("procclaw chord north south --callback report --on-failure continue --wait",),
        _WAITED,
        ("chain", "group", "workflow show"),
    ),
    "workflow": _LIST_WORKFLOWS,
    "workflow list": _LIST_WORKFLOWS,
    "workflow run": Page(
        "Its steps are runs like any other, with their job's gates and retries.",
        ("procclaw workflow run nightly",),
        _WAITED,
        ("workflow show", "workflow retry"),
    ),
    "workflow show": Page(
        "Each step with its run, how it ended and what it waits for.",
        ("procclaw workflow show k3v9 --json",),
        related=("workflow runs", "workflow retry", "runs show"),
    ),
    "workflow runs": Page(
        "Newest first: the declared ones, and what chain, group and chord put together.",
        ("procclaw workflow runs",),
        related=("workflow show", "workflow run"),
    ),
    "workflow cancel": Page("Steps that have ended stay as they are.", related=("workflow retry", "workflow show")),
    "workflow retry": Page(
        "What has succeeded is kept; what failed, was cancelled or had not begun gets another run.",
        ("procclaw workflow retry k3v9",),
        _WAITED,
        ("workflow show", "workflow cancel"),
    ),
    # --- what was ---
    "logs": Page(
        "The end of both streams, stdout's first; in a terminal and in a pipe alike, stderr is marked with err|. -n\n"
        "counts for each stream, with --since or --run for each attempt. -f goes on until Ctrl-C, across restarts and\n"
        "rotation.",
        ("procclaw logs api -n 20 --stderr", "procclaw logs api --since 15m", "procclaw logs backup --run k3v9"),
        ("0 printed", "130 -f was interrupted"),
        ("runs logs", "daemon logs", "help output"),
    ),
    "runs": _LIST_RUNS,
    "runs list": _LIST_RUNS,
    "runs show": Page(
        "When it was due, asked for and started, its params, its result, and each attempt with exit code, reason\n"
        "and what it used.",
        ("procclaw runs show k3v9 --json",),
        related=("runs logs", "runs", "dlq"),
    ),
    "runs logs": Page(
        "All attempts of it, oldest first, as far as the logs still have them.",
        ("procclaw runs logs k3v9 -f",),
        related=("logs", "runs show"),
    ),
    "ledger": Page(
        "Every due time of a schedule has a row, also those in which nothing happened: ran, skipped or missed, and\n"
        "why.",
        ("procclaw ledger", "procclaw ledger backup --json"),
        related=("runs", "next", "help scheduling"),
    ),
    "events": Page(
        "Oldest first. -f goes on until Ctrl-C.",
        ("procclaw events api -n 20", "procclaw events -f --json"),
        ("0 printed", "130 -f was interrupted"),
        ("runs", "daemon logs"),
    ),
    "replay": Page(
        "A cycle is one look at the jobs and what follows from it. Of each that acted, what it saw and decided is\n"
        "recorded. This tells what made it look, what it saw of the jobs concerned, what it decided and why, and what\n"
        "it held back and until when. Today's planner decides once more upon the same; if that comes out otherwise,\n"
        "it says in what. For a run all cycles about it, the newest last; for a time the last one by then. The last\n"
        "1,000 are kept, fewer where they are large.",
        ("procclaw replay", "procclaw replay 2h", "procclaw replay k3v9 -n 20 --json"),
        ("0 shown, whether it would be decided so again or not", "1 no such run, or none is recorded of then"),
        ("why", "plan", "runs show", "events"),
    ),
    # --- at home on the machine ---
    "secret set": Page(
        "Jobs name it as ${secret:NAME} in env or in a text cmd; the value is put in when they start. It is kept in\n"
        "the keychain where there is one, else in the file .secrets of the home; it never moves to the weaker place\n"
        "unasked.",
        ("procclaw secret set SLACK_TOKEN --file",),
        related=("secret list", "secret get", "env"),
    ),
    "secret get": Page(
        "Shows both ends of a long value and stars instead of a short one, enough to know it by.",
        ("procclaw secret get SLACK_TOKEN",),
        related=("secret list", "secret set"),
    ),
    "secret list": Page("Names only; values are not read for it.", related=("secret set", "secret delete")),
    "secret delete": Page(
        "A job that names it fails to start from then on, and says which secret is not set.",
        related=("secret list", "secret set"),
    ),
    "service install": Page(
        "Writes a unit of systemd (root's for root, else one of the user's) or an agent of launchd for the very file\n"
        "that was started, and starts it. Jobs live on when the service is stopped. Harmless to repeat; what has that\n"
        "name and is not procclaw's is left alone.",
        ("procclaw service install --cron",),
        ("0 installed, or it was already", "1 there is no systemd or launchd to be had; it says what to do instead"),
        ("service status", "service uninstall", "daemon start", "help cron"),
    ),
    "service status": Page(
        "Asks systemd, launchd and the crontab rather than remembering what was installed.",
        exits=("0 it runs, or cron calls it", "4 it does not"),
        related=("service install", "daemon status"),
    ),
    "service uninstall": Page(
        "Leaves the home, its history and the running jobs as they are. Harmless when nothing is installed.",
        related=("service install", "daemon stop"),
    ),
    # --- move in ---
    "import": Page(
        "Prints jobs.yaml, with a comment above each job that says where it comes from, and on stderr what became of\n"
        "everything: kept, changed (it works, and not alike), dropped, or refused with the reason. Nothing is run,\n"
        "but an ecosystem file of PM2 that is JavaScript: that is a program, and node runs it to read it.",
        (
            "procclaw import /etc/cron.d/* -o jobs.yaml",
            "procclaw import /etc/supervisor/supervisord.conf ecosystem.config.js",
            "procclaw import - --from crontab",
        ),
        ("0 converted", "1 something was refused; the rest is converted all the same"),
        ("export", "config", "help jobs", "help scheduling"),
    ),
    "export": Page(
        "Prints what the files say now: units for systemd, agents for launchd, a crontab or manifests for Kubernetes,\n"
        "and on stderr what became of every field of every job: kept, changed (it works, and not alike), dropped, or\n"
        "refused with the reason. Values of secrets stay here; the report says what to provide over there, and how.",
        (
            "procclaw export systemd -o ~/.config/systemd/user",
            "procclaw export crontab backup report",
            "procclaw export kubernetes --image shop:1.4 --namespace shop > shop.yaml",
        ),
        ("0 exported", "1 something was refused; the rest is exported all the same"),
        ("import", "config", "help jobs"),
    ),
    "openclaw install-skill": Page(
        "Puts a SKILL.md where all agents find it, through OpenClaw's own command where that can be run.",
        related=("openclaw status",),
    ),
    "openclaw status": Page(
        "Whether the command is there, the skill is of this version, loaded, eligible and visible, what it lacks, and\n"
        "where alerts go.",
        exits=("0 agents see the skill", "1 they do not"),
        related=("openclaw install-skill", "openclaw test-alert"),
    ),
    "openclaw test-alert": Page(
        "Sends a message to every channel that alerts of all jobs go to, or to one, and tells of each whether it was\n"
        "delivered, queued or refused.",
        ("procclaw openclaw test-alert",),
        related=("alerts", "openclaw status", "help alerting"),
    ),
    "alerts": Page(
        "Newest first, each with whether it was delivered and, if not, of what that failed.",
        ("procclaw alerts",),
        related=("events", "help alerting"),
    ),
    "dlq": _LIST_ENTRIES,
    "dlq list": _LIST_ENTRIES,
    "dlq show": Page(
        "Why it failed, its params, and its attempts.",
        ("procclaw dlq show 7 --json",),
        related=("dlq reinject", "runs logs"),
    ),
    "dlq reinject": Page(
        "The entry stays, and names the run that it became.",
        exits=_FAILED,
        related=("dlq show", "dlq purge"),
    ),
    "dlq purge": Page(
        "Either by number, or all of a job or of an age, or --all. Runs and logs are not touched.",
        ("procclaw dlq purge 7 8", "procclaw dlq purge --all"),
        related=("dlq",),
    ),
}
