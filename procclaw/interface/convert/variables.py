"""A job's environment and command in another tool: references replaced, what ProcClaw sets named, secrets left out.

What needs a secret is only ever spoken of: the variables that have to be provided over there, each with the text in
which its secrets stand by name. The command for a shell takes them from its environment, as it does here.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple

from procclaw.interface.convert.leaving import Leaving, Telling, Unexportable
from procclaw.model.references import Reference, references_in, replaced
from procclaw.model.spec import JobSpec

_OURS = re.compile(r"PROCCLAW_[A-Z_]+")
_PARAM = "PROCCLAW_PARAM_"
_BUILT_IN_PATH = "/usr/local/bin:/usr/bin:/bin"
_MARK = re.compile("\0(\\d+)\0")
"""Stands for a reference while the text around it is quoted; no file can hold that character."""


class Variables(NamedTuple):
    plain: dict[str, str]
    """By name, as they are to be set."""
    secret: dict[str, str]
    """By name, each with the text that its secrets go into."""


def variables(leaving: Leaving, job: JobSpec, telling: Telling, known: Mapping[str, str]) -> Variables:
    """Every variable that the job's declarations give it; `known` are those the other tool sets, in its own words.

    Raises Unexportable.
    """
    refuse_visible_secrets(job)
    # Every tool has a PATH of its own; what a job finds here is this one, unless somebody says otherwise.
    found = Variables({**named_by_us(leaving, job), "PATH": _BUILT_IN_PATH}, {})
    params = {name: value for name, value in found.plain.items() if name.startswith(_PARAM)}
    before: dict[str, str] = {"PATH": _BUILT_IN_PATH, **known, **params}
    for name, text in leaving.config.env:
        _set(found, before, telling, name, text, "procclaw.yaml env")
        before.pop(name, None)
        before |= {name: found.plain[name]} if name in found.plain else {}
    # What stands in env sees what stands before it, and not each other.
    for name, text in job.env:
        _set(found, before, telling, name, text, "env")
    words = (job.cmd,) if isinstance(job.cmd, str) else job.cmd
    for reference in (each for word in words for each in references_in(word) if each.kind == "secret"):
        found.secret[reference.variable] = f"${{secret:{reference.name}}}"
    if job.env:
        telling.kept("env")
    tell_of_ours(job, telling)
    if "PROCCLAW_HOME" in mentions(job):
        telling.explained("cmd", "PROCCLAW_HOME is still this home")
    tell_of_params(job, telling)
    return found


def _set(found: Variables, before: Mapping[str, str], telling: Telling, name: str, text: str, where: str) -> None:
    found.plain.pop(name, None)
    found.secret.pop(name, None)
    references = list(references_in(text))
    if any(each.kind == "secret" for each in references):
        found.secret[name] = text
        return
    missing = ", ".join(each.name for each in references if variable_of(each) not in before)
    if missing:
        telling.dropped(f"{where} {name}", f"what {missing} is over there cannot be told from here: set it by hand")
        return
    found.plain[name] = replaced(text, lambda each: before[variable_of(each)])


def variable_of(reference: Reference) -> str:
    """The variable of the job's environment in which the value stands."""
    match reference.kind:
        case "env":
            return reference.name
        case "param":
            return f"{_PARAM}{reference.name}"
        case _:
            return reference.variable


def shell_text(command: str) -> str:
    """A command for the shell, with its references as variables of the shell."""
    return replaced(command, lambda each: f"${{{variable_of(each)}}}")


def shell_word(text: str) -> str:
    """A word of a list command, written for the shell, with its references as variables."""
    if "${" not in text:
        return shlex.quote(text)
    word = quoted(text, single_quoted, lambda each: f"""'"${{{variable_of(each)}}}"'""")
    return word.removeprefix("''").removesuffix("''")


def single_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def env_file_of(job: JobSpec) -> str:
    """Where its env_file is: a relative one is taken from the job's directory."""
    path = job.env_file or ""
    return path if path.startswith("~") else os.path.join(job.cwd or "", path)


def shell_path(path: str) -> str:
    """A path written for the shell; relative ones begin at the account's home."""
    if path.startswith("/"):
        return shlex.quote(path)
    rest = path.removeprefix("~").lstrip("/")
    return f'"$HOME"/{shlex.quote(rest)}' if rest else '"$HOME"'


def quoted(text: str, quote: Callable[[str], str], value_of: Callable[[Reference], str]) -> str:
    """The text with its references replaced, and all that is around them quoted."""
    values: list[str] = []

    def mark(reference: Reference) -> str:
        values.append(value_of(reference))
        return f"\0{len(values) - 1}\0"

    return _MARK.sub(lambda found: values[int(found[1])], quote(replaced(text, mark)))


def mentions(job: JobSpec) -> set[str]:
    """The variables that ProcClaw sets and the job speaks of."""
    words = (job.cmd,) if isinstance(job.cmd, str) else job.cmd
    texts = (*words, *(text for _, text in job.env))
    return {name for text in texts for name in _OURS.findall(text)}


def refuse_visible_secrets(job: JobSpec) -> None:
    """A secret never becomes a word of a command, here or elsewhere: everybody can see those. Raises Unexportable."""
    if isinstance(job.cmd, str):
        return
    env = dict(job.env)
    for reference in (each for word in job.cmd for each in references_in(word) if each.kind == "env"):
        if any(each.kind == "secret" for each in references_in(env.get(reference.name, ""))):
            raise Unexportable(f"{reference.name} holds a secret, and everybody can see the words of a list cmd")


def named_by_us(leaving: Leaving, job: JobSpec) -> dict[str, str]:
    ours = {"PROCCLAW_HOME": leaving.home, "PROCCLAW_JOB_ID": job.id}
    named = {name: value for name, value in ours.items() if name in mentions(job)}
    return named | {f"{_PARAM}{param.name}": param.default or "" for param in job.params}


def tell_of_ours(job: JobSpec, telling: Telling) -> None:
    """Of the variables that it speaks of and nobody sets any more."""
    unset = sorted(mentions(job) - {"PROCCLAW_HOME", "PROCCLAW_JOB_ID", _PARAM})
    unset = [name for name in unset if not name.startswith((_PARAM, "PROCCLAW_SECRET"))]
    if unset:
        telling.changed("cmd", f"nobody sets {', '.join(unset)} over there")


def tell_of_params(job: JobSpec, telling: Telling) -> None:
    for param in job.params:
        name = f"{_PARAM}{param.name}"
        if param.default is None:
            telling.changed(f"params {param.name}", f"has no default: fill in {name}")
        else:
            telling.changed(f"params {param.name}", f"is always its default; it stands in {name}")
