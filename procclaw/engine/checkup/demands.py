"""What the declared jobs need: a good configuration, and on this machine their programs, folders and zones."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from shlex import quote
from typing import NamedTuple
from zoneinfo import ZoneInfo

from procclaw.engine.checkup.finding import MOST_TOLD, Finding, listed, ok, problem, warning
from procclaw.engine.checkup.setup import Setup
from procclaw.engine.files import ConfigurationFiles
from procclaw.engine.launching import account_for, environment, working_directory
from procclaw.model.errors import ProcclawError, SpecError
from procclaw.model.references import references_in
from procclaw.model.secret import Secret
from procclaw.model.spec import Config, JobSpec
from procclaw.system.processes import first_program

# --- the configuration ---


def look_at_configuration(setup: Setup) -> Iterator[Finding]:
    if not setup.is_there:
        return
    validate = setup.command("config --validate")
    try:
        loaded = ConfigurationFiles(setup.path).load()
    except SpecError as error:
        in_force = "nothing is in force" if setup.spec() is None else "the last good configuration stays in force"
        yield from judge_problems(error.problems, in_force, validate)
        return
    for told in loaded.warnings[:MOST_TOLD]:
        yield warning("configuration", told, validate)
    count = len(loaded.document["jobs"])
    yield ok("configuration", f"good, {count} {'job' if count == 1 else 'jobs'}")


def judge_problems(problems: tuple[str, ...], in_force: str, validate: str) -> Iterator[Finding]:
    for told in problems[:MOST_TOLD]:
        yield problem("configuration", f"{told} ({in_force})", validate)
    if len(problems) > MOST_TOLD:
        yield problem("configuration", f"{len(problems) - MOST_TOLD} more problems", validate)


# --- programs and folders ---


class Fault(NamedTuple):
    """What would keep a job from starting; several may have the same."""

    thing: str
    told: str
    remedy: str


class NoSecrets:
    """Values that nobody needs to know here: each is its own name."""

    def read(self, name: str) -> Secret:
        return Secret(name)


class Examined(NamedTuple):
    """What a look at one job came to."""

    faults: tuple[Fault, ...]
    has_program: bool
    """Whether the program it starts with could be told, and was looked for."""


def look_at_jobs(setup: Setup) -> Iterator[Finding]:
    spec = setup.spec()
    if spec is None:
        return
    if "PATH" in spec.config.pass_env:
        told = "daemon.pass_env names PATH: under cron and systemd jobs get another one than from your shell"
        yield warning("commands", told, "name it under env in procclaw.yaml instead, as procclaw init does")
    looked_at = {job.id: examined(job, spec.config, setup.command) for job in spec.jobs.values() if job.enabled}
    yield from judge_jobs(looked_at)


def judge_jobs(looked_at: Mapping[str, Examined]) -> Iterator[Finding]:
    faults: dict[Fault, list[str]] = {}
    for job, found in looked_at.items():
        for fault in found.faults:
            faults.setdefault(fault, []).append(job)
    yield from judge_faults(faults)
    left_out = [job for job, found in looked_at.items() if not (found.faults or found.has_program)]
    if len(left_out) < len(looked_at) and not faults:
        which = "those that were examined" if left_out else "all"
        yield ok("commands", f"{which} are found on the PATH that jobs get")
    if left_out:
        yield ok("commands", f"not examined, for what they start with is no plain program: {listed(left_out)}")


def judge_faults(faults: Mapping[Fault, list[str]]) -> Iterator[Finding]:
    for fault, jobs in faults.items():
        yield problem(fault.thing, f"{listed(jobs)}: {fault.told}", fault.remedy)


def examined(job: JobSpec, config: Config, command: Callable[[str], str]) -> Examined:
    try:
        account = account_for(job)
        variables = {each.name: each.value for each in environment(job, config, NoSecrets())}
    except ProcclawError as error:
        return Examined((Fault("environment", str(error), command(f"env {job.id} --explain")),), has_program=False)
    if job.user is not None and os.geteuid() != 0:
        return Examined((), has_program=False)  # what that user may see is not for us to see
    cwd = working_directory(job, account)
    if not os.path.isdir(cwd):
        fault = Fault("folders", f"its cwd {cwd} is not there", f"mkdir -p {quote(cwd)}")
        return Examined((fault,), has_program=False)
    path, programs = variables["PATH"], programs_of(job.cmd, cwd)
    if isinstance(path, Secret):
        return Examined((), has_program=False)
    faults = tuple(
        fault
        for program in programs
        if program is not None
        for fault in fault_of_word(program.word, path, program.folder, shutil.which)
    )
    return Examined(faults, has_program=None not in programs)


class Program(NamedTuple):
    """One that a command starts."""

    word: str
    folder: str
    """Where the command is when it does."""


_SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh"})
_TEXT_FOLLOWS = re.compile(r"-[eux]*c")
"""As an option of a shell that reads no profile, which may set another PATH."""
_GOES_TO = re.compile(r"\s*cd\s+(?P<folder>[A-Za-z0-9_./+@:,-]+)\s*(?:&&|;)\s*")


def programs_of(cmd: str | tuple[str, ...], cwd: str) -> list[Program | None]:
    """What it starts with, and within a shell what the text for that starts with; None: that cannot be told."""
    if isinstance(cmd, str):
        return [_first_of(cmd, cwd)]
    program, *rest = cmd
    found: list[Program | None] = [None if any(references_in(program)) else Program(program, cwd)]
    if os.path.basename(program) not in _SHELLS or not rest or not rest[0].startswith("-"):
        return found
    is_text = _TEXT_FOLLOWS.fullmatch(rest[0]) is not None and len(rest) > 1
    return [*found, _first_of(rest[1], cwd) if is_text else None]


def _first_of(text: str, cwd: str) -> Program | None:
    while going := _GOES_TO.match(text):
        text, cwd = text[going.end() :], os.path.join(cwd, going["folder"])
    word = first_program(text)
    return None if word is None else Program(word, cwd)


def fault_of_word(word: str, path: str, cwd: str, which: Callable[..., str | None]) -> Iterator[Fault]:
    """`which` is `shutil.which`."""
    if "/" in word:
        file = os.path.normpath(os.path.join(cwd, word))
        if which(file) is None:
            if os.path.isfile(file):
                yield Fault("commands", f"{file} is not executable", f"chmod +x {quote(file)}")
            else:
                yield Fault("commands", f"{file} is not there", "put it there, or mend cmd in jobs.yaml")
    elif which(word, path=path) is None:
        place = which(word)
        remedy = "install it, or name it in cmd with its folder"
        if place is not None:
            remedy = f"in procclaw.yaml, under env: PATH: {os.path.dirname(place)}:{path}"
        yield Fault("commands", f'"{word}" is not on the PATH that jobs get ({path})', remedy)


# --- zones ---


def look_at_zones(setup: Setup) -> Iterator[Finding]:
    spec = setup.spec()
    if spec is not None:
        names = dict.fromkeys((spec.config.timezone, *(job.timezone for job in spec.jobs.values())))
        unknown = [name for name in names if not _is_zone(name)]
        yield judge_zones(spec.config.timezone, unknown)


def judge_zones(usual: str, unknown: list[str]) -> Finding:
    if unknown:
        told = f"this machine does not know {listed(unknown)}: what is scheduled there never runs"
        return problem("time zones", told, "sudo apt-get install tzdata, or mend the name in jobs.yaml")
    return ok("time zones", f"times without a zone are of {usual}")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
