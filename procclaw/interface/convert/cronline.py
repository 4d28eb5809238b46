"""One job's command as a line of a crontab: what cron has no word for is said by the shell and its tools.

flock keeps runs apart, timeout ends them, nice and umask do what they are called; `sleep` is the job's own jitter. The
lock files are in the account's home, for nothing else is sure to be there and its own.
"""

import re
import shlex
from signal import Signals
from typing import NamedTuple

from procclaw.engine import expressions
from procclaw.interface.convert.leaving import Telling, Unexportable, span
from procclaw.interface.convert.variables import (
    Variables,
    env_file_of,
    shell_path,
    shell_text,
    shell_word,
    single_quoted,
)
from procclaw.model.spec import JobSpec, JobType, Overlap

KNOWN = {"HOME": "\0HOME\0", "LOGNAME": "\0LOGNAME\0", "USER": "\0LOGNAME\0"}
"""Variables that cron sets itself, marked until they stand in a text for the shell."""
_KNOWN_MARK = re.compile("\0([A-Z]+)\0")
_SIMPLE = re.compile(r"/[\w./-]+( [\w./:=@+,-]+)*")
"""What needs no shell of its own behind another command."""
_LONGEST = 998
"""Characters of a line that Debian's cron takes; it cuts the rest off."""


class Environment(NamedTuple):
    """What a line has to do about variables, beside those that are assigned above it."""

    set_here: dict[str, str]
    unset_here: tuple[str, ...] = ()
    """Assigned above for other jobs."""


def command_line(job: JobSpec, found: Variables, env: Environment, telling: Telling) -> str:
    """Raises Unexportable for a command that is too long for a line."""
    parts = []
    if job.jitter_seconds:
        parts.append(f"sleep {expressions.jitter_seconds(job.id, job.jitter_seconds)}")
        telling.explained("jitter", "it sleeps as long as it is delayed here")
    if env.unset_here:
        parts.append(f"unset {' '.join(env.unset_here)}")
    files = [shell_path(env_file_of(job))] if job.env_file is not None else []
    if files:
        telling.changed("env_file", "the shell reads it: its values have to be quoted as the shell wants it")
    files += [f'"$HOME/.config/{job.id}.secrets"'] if found.secret else []
    parts += [f"set -a; . {file}; set +a" for file in files]
    if env.set_here:
        parts.append("export " + " ".join(f"{name}={word(value)}" for name, value in env.set_here.items()))
    if job.umask is not None:
        parts.append(f"umask {job.umask:04o}")
    if job.cwd is not None:
        parts.append(f"cd {shell_path(job.cwd)} || exit")
    telling.kept("cmd", "cwd", "umask", "nice", "timeout")
    text = "; ".join([*parts, _command(job, telling)])
    text = _on_one_line(text) if "\n" in text or "\\%" in text else text.replace("%", "\\%")
    if len(text) > _LONGEST:
        raise Unexportable(f"its line would have {len(text)} characters, cron takes {_LONGEST}: put it into a script")
    return text


def word(text: str) -> str:
    """For the shell; variables that cron sets are left to it."""
    if not _KNOWN_MARK.search(text):
        return shlex.quote(text)
    return _KNOWN_MARK.sub(r"""'"$\1"'""", single_quoted(text)).removeprefix("''").removesuffix("''")


def is_assignable(value: str) -> bool:
    """Whether an assignment above the line can hold it: cron replaces nothing there, and a line is a line."""
    return not _KNOWN_MARK.search(value) and value.isprintable() and value == value.strip("\"' ")


def _command(job: JobSpec, telling: Telling) -> str:
    words = _wrappers(job, telling)
    if isinstance(job.cmd, str):
        command = shell_text(job.cmd).strip()
        if words and not _SIMPLE.fullmatch(command):
            words += ["/bin/sh -c", shlex.quote(command)]
            return " ".join(words)
        return " ".join([*words, command])
    return " ".join([*words, *map(shell_word, job.cmd)])


def _wrappers(job: JobSpec, telling: Telling) -> list[str]:
    words: list[str] = []
    if job.type is JobType.SCHEDULED:
        words += _overlap_lock(job, telling)
    if job.queue is not None:
        words.append(f"flock {_lock_file(f'queue-{job.queue}')}")
        telling.changed("queue", "one job of it runs at a time, in no particular order; the others wait in flock")
    if job.lock is not None:
        path = _lock_file(f"lock-{job.lock.name}") if job.lock.path is None else shell_path(job.lock.path)
        words.append(f"flock -w {span(job.lock.timeout_seconds)} {path}")
        telling.explained("lock", "flock takes it, or ends with 1 when the time to wait is over")
    if job.timeout_seconds is not None:
        kill_after = f"-k {span(job.shutdown.grace_seconds)} " if job.shutdown.grace_seconds else ""
        words.append(f"timeout -s {Signals(job.shutdown.signal).name} {kill_after}{span(job.timeout_seconds)}")
    words += [] if job.nice is None else [f"nice -n {job.nice}"]
    return words


def _overlap_lock(job: JobSpec, telling: Telling) -> list[str]:
    if job.concurrency.max_instances > 1:
        telling.changed("concurrency", "any number of runs may be active")
        telling.changed("on_overlap", "any number of runs may be active")
        return []
    if job.on_overlap is Overlap.QUEUE:
        telling.explained("on_overlap", "flock waits for the run before")
        return [f"flock {_lock_file(job.id)}"]
    if job.on_overlap is Overlap.SKIP:
        telling.explained("on_overlap", "flock -n ends where the run before is active")
    else:
        telling.changed("on_overlap", "the run before is left alone: flock -n ends where it is active")
    return [f"flock -n {_lock_file(job.id)}"]


def _lock_file(name: str) -> str:
    return f'"$HOME"/.cron-{name}.lock'


def _on_one_line(text: str) -> str:
    """A crontab has no way to go on in the next line, nor to escape a percent sign behind a backslash."""
    coded = text.replace("\\", "\\\\").replace("\n", "\\n").replace("%", "\\0045").replace("'", "'\\''")
    return f"eval \"$(printf '\\%b' '{coded}')\""
