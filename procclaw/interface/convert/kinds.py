"""The kinds of file that can be converted: how each is recognised, and who reads it.

A kind is told by a file's name, else by what stands in it; where neither is beyond doubt the user has to say.
"""

import os
import re
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from procclaw.interface.convert.conversion import Conversion, Converted, Ids, Source, Unconvertible


class Kind(NamedTuple):
    name: str
    means: str
    module: str
    """Of this package; it has `read(source, kind, ids)`, and `looks_like(text, kind)` where the name does not tell."""
    names: re.Pattern[str]
    """Of files, without their folder."""


def _kind(name: str, means: str, names: str, module: str | None = None) -> Kind:
    return Kind(name, means, module or name.replace("-", "_"), re.compile(names))


KINDS = (
    _kind("crontab", "a user's crontab, as crontab -l prints it", r"crontab\.txt|(.*\.)?cron(tab)?|.*\.cron(tab)?"),
    _kind(
        "systemd",
        "a .service or .timer unit of systemd; a timer and its service are one job",
        r".*\.(service|timer|socket|path|target|mount|automount|slice|swap)",
    ),
    _kind("process-compose", "process-compose.yaml", r"process-compose(\.[\w.-]+)?\.ya?ml", "process_compose"),
    _kind("compose", "compose.yaml or docker-compose.yml", r"(docker-)?compose(\.[\w.-]+)?\.ya?ml"),
    _kind(
        "openclaw-cron",
        "what openclaw cron list --json prints, or OpenClaw's cron/jobs.json",
        r"jobs\.json",
        "openclaw_cron",
    ),
    _kind("procfile", "a Procfile, with the .env and .foreman beside it", r"Procfile([._-].+)?|.+\.[Pp]rocfile"),
    _kind("supervisord", "supervisord.conf or a file of conf.d, with what it includes", r"supervisord?\.(conf|ini)"),
    _kind(
        "pm2",
        "an ecosystem file of PM2: JSON, YAML, or JavaScript, which node has to run to read it",
        r"(ecosystem|pm2)([.-][\w-]+)*\.([cm]?js|json5?|ya?ml)|process(es)?\.(json|ya?ml|config\.js)",
    ),
    _kind("system-crontab", "/etc/crontab or a file of /etc/cron.d, with the user in each line", r"(?!)", "crontab"),
)
NAMES = tuple(kind.name for kind in KINDS)
_BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of(source: Source) -> Kind:
    """Raises Unconvertible for a file that could be anything."""
    from procclaw.interface.convert.crontab import is_system_path

    if is_system_path(source.path):
        return _BY_NAME["system-crontab"]
    base = os.path.basename(source.path)
    by_name = [kind for kind in KINDS if kind.names.fullmatch(base)]
    if len(by_name) == 1:
        return by_name[0]
    found = [kind for kind in by_name or KINDS if _looks_like(kind, source.text)]
    if len(found) == 1:
        return found[0]
    could = "could be " + " or ".join(kind.name for kind in found) if found else "is of no kind that is known here"
    raise Unconvertible(0, f"{could}: --from KIND says which (one of {', '.join(NAMES)})")


def named(name: str) -> Kind:
    return _BY_NAME[name]


def convert(source: Source, kind: Kind, ids: Ids) -> Converted:
    """Raises Unconvertible."""
    read: Callable[[Source, str, Ids], Conversion] = import_module(f"{__package__}.{kind.module}").read
    conversion = read(source, kind.name, ids).discreet()
    jobs = tuple(job.called(ids.names.get(job.id)) for job in conversion.jobs)
    return Converted(source.path, kind.name, conversion._replace(jobs=jobs))


def _looks_like(kind: Kind, text: str) -> bool:
    looks_like: Callable[[str, str], bool] = import_module(f"{__package__}.{kind.module}").looks_like
    return looks_like(text, kind.name)
