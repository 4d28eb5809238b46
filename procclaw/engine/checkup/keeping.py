"""Who keeps ProcClaw going: the daemon that serves the home, the service that starts it, and the crontab's line."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

from procclaw import __version__
from procclaw.engine.autostart import Seen, of_this_system
from procclaw.engine.checkup.finding import Finding, ok, problem, warning
from procclaw.engine.checkup.setup import Setup
from procclaw.engine.supervision import own_program
from procclaw.model.masking import masked_at
from procclaw.system.listening import Listener, listener_at

ASK_SECONDS = 2.0
CRON_PATH = "/usr/bin:/bin"
"""What cron gives where the crontab names no PATH."""
_CRONS = frozenset(("cron", "crond", "fcron", "dcron", "cronie", "supercronic"))
_SETTING = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*")
_CONFIGURATION = ("jobs.yaml", "jobs.d/", "procclaw.yaml")

Command = Callable[[str], str]
Finds = Callable[[str, str], bool]
"""Whether a word is found on a PATH."""


# --- the daemon ---


class Serves(NamedTuple):
    """A daemon, as far as it can be seen from outside."""

    pid: int
    is_up: bool
    program: str
    """The file it runs; empty: that cannot be told."""
    address: str | None
    """Where it says that it is served."""
    answer: Listener | None
    """Who answers there; None: nobody."""


def look_at_daemon(setup: Setup) -> Iterator[Finding]:
    if not setup.is_there:
        return
    found = setup.daemon()
    serves = None
    if found is not None:
        argv = setup.home().processes.argv_of(found.pid)
        program = os.path.realpath(argv[1]) if len(argv) > 1 and os.path.isabs(argv[1]) else ""
        address = setup.api().address
        serves = Serves(found.pid, found.is_up, program, address, None if address is None else _answer_at(address))
    own = os.path.realpath(own_program()[-1])
    yield judge_daemon(serves, __version__, own, setup.kept(), setup.command)


def _answer_at(address: str) -> Listener | None:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return listener_at(host.strip("[]"), int(port), ASK_SECONDS)


def judge_daemon(serves: Serves | None, version: str, own: str, kept: Seen, command: Command) -> Finding:
    if serves is None:
        if kept.cron_line is not None:
            return ok("daemon", "none runs; cron does its work")
        if kept.is_installed:
            return ok("daemon", "none runs")  # what is wrong with that is told of the service
        return warning("daemon", "none runs: jobs are looked at only while a command is run", command("daemon start"))
    begin = "service install" if kept.standing.is_active else "daemon start"
    anew = f"{command('daemon stop')} && {command(begin)}"
    who = f"pid {serves.pid}"
    if not serves.is_up:
        return warning("daemon", f"{who} is coming up", command("daemon logs"))
    if serves.address is not None:
        if serves.answer is None or serves.answer.version is None:
            return problem("daemon", f"{who} does not answer at {serves.address}", anew)
        troubles = [each for each in serves.answer.problems if not each.startswith(_CONFIGURATION)]
        if troubles:
            return problem("daemon", f"{who}: {'; '.join(troubles)}", f"{command('daemon logs')}; {anew}")
        if serves.answer.version != version:
            return warning("daemon", f"{who} is version {serves.answer.version}, and this is {version}", anew)
    if serves.program and serves.program != own:
        return warning("daemon", f"{who} runs another file ({serves.program}) than this ({own})", anew)
    return ok("daemon", f"{who}, version {version}")


# --- the service ---


def look_at_service(setup: Setup) -> Iterator[Finding]:
    if setup.is_there:
        yield from judge_service(setup.kept(), os.path.exists, setup.command)


def judge_service(kept: Seen, exists: Callable[[str], bool], command: Command) -> Iterator[Finding]:
    install = command("service install")
    if not kept.is_installed:
        yield _uninstalled(kept, command)
        return
    if not kept.is_ours:
        yield warning("service", f"{kept.path} was not written by procclaw", f"{install} --force")
        return
    missing = [word for word in _program(kept.starts) if not exists(word)]
    if missing:
        yield problem("service", f"it starts {missing[-1]}, which is not there", install)
    elif not kept.starts_this:
        yield warning("service", f"it starts another file than this: {kept.starts}", install)
    elif not kept.is_current:
        yield warning("service", f"{kept.path} is not as this version writes it", install)
    if kept.lack is not None:
        yield problem("service", f"it is installed, but {kept.lack}", command("service install --cron"))
        return
    if not kept.standing.is_enabled:
        yield problem("service", "it is installed, but not started with the machine", install)
    if kept.daemon_pid is not None and kept.daemon_pid != kept.standing.pid:
        yield warning("service", f"a daemon runs (pid {kept.daemon_pid}), but not as the service", install)
    elif not kept.standing.is_active:
        yield problem("service", f"it is installed, but does not run ({kept.standing.detail})", install)
    for hint in kept.hints:
        found, _, remedy = hint.partition("; ")
        yield warning("service", found, remedy) if remedy else ok("service", found)
    if not missing and kept.is_current and kept.standing.is_active:
        yield ok("service", f"{kept.name} ({kept.kind}), {kept.standing.detail}")


def _uninstalled(kept: Seen, command: Command) -> Finding:
    if kept.cron_line is not None:
        return ok("service", "none, and cron needs none")
    if kept.daemon_pid == 1:
        return ok("service", "none; the daemon is this container's first process")
    told = "none: after a reboot nothing starts ProcClaw"
    if kept.lack is None:
        return warning("service", told, command("service install"))
    return warning(
        "service",
        f"{told}; {kept.lack}",
        f"{command('service install --cron')}, or daemon start -f as a container's command",
    )


def _program(starts: str) -> list[str]:
    """Interpreter and file of a command line as systemd or launchd have it."""
    try:
        words = shlex.split(starts.replace("%%", "%"))[:2]
    except ValueError:
        return []
    return [word.removeprefix(":") for word in words]


# --- cron ---


def look_at_crontab(setup: Setup) -> Iterator[Finding]:
    if not setup.is_there:
        return
    text = of_this_system(setup.path).crontab()
    if text is None:
        return
    is_cron_up = bool(_CRONS & setup.home().processes.names())
    yield from judge_crontab(text, setup.kept(), is_cron_up, _finds, setup.command)


def _finds(word: str, path: str) -> bool:
    return os.path.isfile(word) if "/" in word else shutil.which(word, path=path) is not None


def judge_crontab(text: str, kept: Seen, is_cron_up: bool, finds: Finds, command: Command) -> Iterator[Finding]:
    renew = command("service install --cron")
    lines = [(path, line) for path, line in _calls(text) if "procclaw" in line]
    for path, line in lines:
        for word in _files(_words(line)):
            if not finds(word, path):
                how = "is not there" if "/" in word else f"is not on the PATH that cron gives ({path})"
                yield problem("crontab", f"{word} {how}: {masked_at((), line)}", renew)
    if kept.cron_line is not None and not kept.is_cron_current:
        told = f"its line is not as this version writes it: {masked_at((), kept.cron_line)}"
        yield warning("crontab", told, renew)
    if lines and not is_cron_up:
        yield warning("crontab", "no cron is seen to run that would read it", "sudo service cron start")
    elif kept.cron_line is not None and kept.is_cron_current:
        yield ok("crontab", "procclaw reconcile runs every minute")


def _files(words: list[str]) -> Iterator[str]:
    """What such a call needs to be found: a program of ours, or a Python and the file it is given."""
    name = os.path.basename(words[0]) if words else ""
    if name.startswith(("procclaw", "python")):
        yield words[0]
    if name.startswith("python") and len(words) > 1 and os.path.isabs(words[1]):
        yield words[1]


def _calls(text: str) -> Iterator[tuple[str, str]]:
    """Each line that cron runs, with the PATH that holds there."""
    path = CRON_PATH
    for line in text.splitlines():
        setting = _SETTING.fullmatch(line)
        if setting is not None:
            if setting[1] == "PATH":
                path = setting[2].strip("\"'")
        elif line.strip() and not line.lstrip().startswith("#"):
            yield path, line


def _words(line: str) -> list[str]:
    """The command of a crontab's line, less what it sets first; empty where it cannot be told."""
    rest = line.split(None, 1)[1:] if line.lstrip().startswith("@") else line.split(None, 5)[5:]
    try:
        words = shlex.split(rest[0].replace("\\%", "%")) if rest else []
    except ValueError:
        return []
    while words and re.match(r"[A-Za-z_]\w*=", words[0]):
        words.pop(0)
    return words
