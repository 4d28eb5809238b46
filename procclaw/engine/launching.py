"""What a job finds when it starts: argv, directory, environment, computed afresh each time from declared sources.

The base is the same whoever starts the job: the account, `env` of procclaw.yaml, the names in `daemon.pass_env`. Then
`env_file`, then `env`, then what ProcClaw says about the run. Nothing of the starter's own environment gets in otherwise.
"""

import os
from typing import NamedTuple

from procclaw.model.clock import iso
from procclaw.model.errors import ProcclawError
from procclaw.model.references import Reference, as_shell_variables, references_in, replaced
from procclaw.model.spec import Config, JobSpec
from procclaw.model.state import Attempt, Launch, Run
from procclaw.system.processes import shell_argv
from procclaw.system.surroundings import Account, own_account, own_variable, read_env_file

MAX_ARGUMENT_BYTES = 128 * 1024
"""Linux refuses a longer single argument or variable (MAX_ARG_STRLEN)."""


class Variable(NamedTuple):
    name: str
    value: str
    source: str
    """Where it comes from, for `procclaw env --explain`."""


def environment(spec: JobSpec, config: Config) -> tuple[Variable, ...]:
    """Every variable the job's own declarations give it, by name. Raises ProcclawError for what cannot be had."""
    account = own_account()
    variables = {each.name: each for each in _base(account, config)}
    base = {name: variable.value for name, variable in variables.items()}
    if spec.env_file is not None:
        path = _resolved(spec.env_file, spec, account)
        variables |= {name: Variable(name, value, path) for name, value in read_env_file(path)}
    for name, text in spec.env:
        variables[name] = Variable(name, replaced(text, lambda each: _value(each, base)), f"{spec.source} env")
    if isinstance(spec.cmd, str):
        for reference in references_in(spec.cmd):
            variables[reference.variable] = Variable(reference.variable, _value(reference, base), f"{spec.source} cmd")
    return tuple(variables[name] for name in sorted(variables))


def _base(account: Account, config: Config) -> list[Variable]:
    whose = f"account {account.name}"
    base = [
        Variable("HOME", account.home, whose),
        Variable("USER", account.name, whose),
        Variable("LOGNAME", account.name, whose),
        Variable("SHELL", account.shell, whose),
        Variable("PATH", "/usr/local/bin:/usr/bin:/bin", "built in"),
    ]
    so_far = {variable.name: variable.value for variable in base}
    base += [
        Variable(name, replaced(text, lambda each: _value(each, so_far)), "procclaw.yaml env")
        for name, text in config.env
    ]
    passed = ((name, own_variable(name)) for name in config.pass_env)
    base += [Variable(name, value, "procclaw.yaml daemon.pass_env") for name, value in passed if value is not None]
    return base


def _value(reference: Reference, base: dict[str, str]) -> str:
    if reference.kind == "env" and reference.name in base:
        return base[reference.name]
    raise ProcclawError(f"${{{reference.kind}:{reference.name}}} is not set")


def _resolved(path: str, spec: JobSpec, account: Account) -> str:
    """Absolute: `~` is the account's home, and a relative path is taken from the job's directory."""
    if path == "~" or path.startswith("~/"):
        path = account.home + path[1:]
    if os.path.isabs(path):
        return path
    return os.path.join(account.home if spec.cwd is None else _resolved(spec.cwd, spec._replace(cwd=None), account), path)


def working_directory(spec: JobSpec) -> str:
    """The job's `cwd`; the account's home when it names none."""
    account = own_account()
    return account.home if spec.cwd is None else _resolved(spec.cwd, spec._replace(cwd=None), account)


def _about(run: Run, attempt: Attempt, home: str) -> dict[str, str]:
    about = {
        "PROCCLAW_JOB_ID": run.job_id,
        "PROCCLAW_RUN_ID": run.id,
        "PROCCLAW_ATTEMPT": str(attempt.number),
        "PROCCLAW_TRIGGER": str(run.trigger),
        "PROCCLAW_HOME": home,
    }
    if run.scheduled_at is not None:
        about["PROCCLAW_SCHEDULED_AT"] = iso(run.scheduled_at)
    return about


def launch_of(
    spec: JobSpec, config: Config, run: Run, attempt: Attempt, home: str, logs: tuple[str, str]
) -> Launch:
    """All that starting this attempt takes. Raises ProcclawError when its environment cannot be made."""
    variables = environment(spec, config)
    base = {variable.name: variable.value for variable in _base(own_account(), config)}
    if isinstance(spec.cmd, str):
        argv = shell_argv(as_shell_variables(spec.cmd))
    else:
        argv = tuple(replaced(word, lambda each: _value(each, base)) for word in spec.cmd)
    env = {variable.name: variable.value for variable in variables} | _about(run, attempt, home)
    for name, text in (*env.items(), *(("cmd", word) for word in argv)):
        if len(name) + len(os.fsencode(text)) + 2 > MAX_ARGUMENT_BYTES:
            raise ProcclawError(f"{name} is longer than the 128 KiB the system allows; put it into a file")
    return Launch(
        record=attempt.record,
        argv=argv,
        cwd=working_directory(spec),
        env=tuple(env.items()),
        stdout=logs[0],
        stderr=logs[1],
        timestamps=spec.log.timestamps,
    )
