"""What a job finds when it starts: argv, directory, environment, computed afresh each time from declared sources.

The base is the same whoever starts the job: the account it runs as, `env` of procclaw.yaml, the names in
`daemon.pass_env`. Then `env_file`, then `env`, then what ProcClaw says about the run. Nothing of the starter's own
environment gets in otherwise. A value that a secret went into, by whatever way, is a secret from then on and never
becomes a word of argv, which everybody can see.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from procclaw.engine.world import Secrets
from procclaw.model.clock import iso
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Launch, Probe
from procclaw.model.records import Attempt, Run
from procclaw.model.references import Reference, as_shell_variables, filled, references_in
from procclaw.model.secret import Secret, Text, revealed
from procclaw.model.spec import CheckType, Config, JobSpec
from procclaw.system.processes import shell_argv
from procclaw.system.surroundings import Account, account_of, own_account, own_variable, read_env_file

SHELL = "/bin/sh"
MAX_ARGUMENT_BYTES = 128 * 1024
"""Linux refuses a longer single argument or variable (MAX_ARG_STRLEN)."""


USUAL_UMASK = 0o022
"""Of a job that names none: ProcClaw's own keeps files from everybody else."""


class Variable(NamedTuple):
    name: str
    value: Text
    source: str
    """Where it comes from, for `procclaw env --explain`."""


def environment(
    spec: JobSpec, config: Config, secrets: Secrets, params: Mapping[str, str] | None = None
) -> tuple[Variable, ...]:
    """Every variable the job's own declarations give it, by name; `params` None: as declared.

    Raises ProcclawError for what cannot be had.
    """
    if params is None:
        params = {param.name: param.default or "" for param in spec.params}
    account = account_for(spec)
    variables = {each.name: each for each in _base(account, config, secrets)}
    if spec.env_file is not None:
        path = _absolute(spec.env_file, working_directory(spec, account), account)
        variables |= {name: Variable(name, value, path) for name, value in read_env_file(path)}
    # Of what stands before `env`, so that PATH: /opt/bin:${env:PATH} adds to the PATH there is.
    before = _values(variables.values())
    for name, text in spec.env:
        value = resolved(text, before, params, secrets)
        variables[name] = Variable(name, value, f"{spec.source} env")
    if isinstance(spec.cmd, str):
        values = _values(variables.values())
        for reference in references_in(spec.cmd):
            value = _value(reference, values, params, secrets)
            variables[reference.variable] = Variable(reference.variable, value, f"{spec.source} cmd")
    return tuple(variables[name] for name in sorted(variables))


def account_for(spec: JobSpec) -> Account:
    """The account that the job runs as. Raises ProcclawError when there is none such."""
    return own_account() if spec.user is None else account_of(spec.user)


def _base(account: Account, config: Config, secrets: Secrets) -> list[Variable]:
    whose = f"account {account.name}"
    base = [
        Variable("HOME", account.home, whose),
        Variable("USER", account.name, whose),
        Variable("LOGNAME", account.name, whose),
        Variable("SHELL", account.shell, whose),
        Variable("PATH", "/usr/local/bin:/usr/bin:/bin", "built in"),
    ]
    so_far = _values(base)
    base += [Variable(name, resolved(text, so_far, {}, secrets), "procclaw.yaml env") for name, text in config.env]
    passed = ((name, own_variable(name)) for name in config.pass_env)
    base += [Variable(name, value, "procclaw.yaml daemon.pass_env") for name, value in passed if value is not None]
    return base


def _values(variables: Iterable[Variable]) -> dict[str, Text]:
    return {variable.name: variable.value for variable in variables}


def resolved(text: str, values: Mapping[str, Text], params: Mapping[str, str], secrets: Secrets) -> Text:
    """The text with a value for each of its references. Raises ProcclawError when one has none."""
    return filled(text, lambda each: _value(each, values, params, secrets))


def _value(reference: Reference, values: Mapping[str, Text], params: Mapping[str, str], secrets: Secrets) -> Text:
    if reference.kind == "secret":
        return secrets.read(reference.name)
    source: Mapping[str, Text] = values if reference.kind == "env" else params
    if reference.name in source:
        return source[reference.name]
    raise ProcclawError(f"${{{reference.kind}:{reference.name}}} is not set")


def _absolute(path: str, directory: str, account: Account) -> str:
    """`~` is the account's home; a relative path is taken from `directory`."""
    if path == "~" or path.startswith("~/"):
        path = account.home + path[1:]
    return os.path.join(directory, path)


def working_directory(spec: JobSpec, account: Account) -> str:
    """The job's `cwd`, from the account's home; that home itself when it names none."""
    return account.home if spec.cwd is None else _absolute(spec.cwd, account.home, account)


def own_variables(job_id: str, home: str) -> tuple[Variable, ...]:
    """What ProcClaw itself tells a job, whichever run it is; the rest of `_about` differs from start to start."""
    return (Variable("PROCCLAW_HOME", home, "ProcClaw"), Variable("PROCCLAW_JOB_ID", job_id, "ProcClaw"))


def _about(run: Run, attempt: Attempt, home: str) -> dict[str, Text]:
    about = _values(own_variables(run.job_id, home)) | {
        "PROCCLAW_RUN_ID": run.id,
        "PROCCLAW_ATTEMPT": str(attempt.number),
        "PROCCLAW_TRIGGER": str(run.trigger),
    }
    if run.scheduled_at is not None:
        about["PROCCLAW_SCHEDULED_AT"] = iso(run.scheduled_at)
    return about


def launch_of(
    spec: JobSpec,
    config: Config,
    run: Run,
    attempt: Attempt,
    home: str,
    logs: tuple[str, str],
    given: Mapping[str, str],
    secrets: Secrets,
) -> Launch:
    """All that starting this attempt takes; `given` are the variables that tell it of its files and params.

    Raises ProcclawError when its environment cannot be made.
    """
    params = dict(run.params)
    values = _values(environment(spec, config, secrets, params))
    if isinstance(spec.cmd, str):
        argv = shell_argv(as_shell_variables(spec.cmd))
    else:
        argv = tuple(_word(resolved(word, values, params, secrets), word) for word in spec.cmd)
    env = values | _about(run, attempt, home) | dict(given)
    for name, text in (*env.items(), *(("cmd", word) for word in argv)):
        if len(name) + len(os.fsencode(revealed(text))) + 2 > MAX_ARGUMENT_BYTES:
            raise ProcclawError(f"{name} is longer than the 128 KiB the system allows; put it into a file")
    return Launch(
        record=attempt.record,
        argv=argv,
        cwd=working_directory(spec, account_for(spec)),
        env=tuple(env.items()),
        stdout=logs[0],
        stderr=logs[1],
        timestamps=spec.log.timestamps,
        user=spec.user,
        group=spec.group,
        umask=USUAL_UMASK if spec.umask is None else spec.umask,
        nice=spec.nice,
    )


def _word(text: Text, declared: str) -> str:
    if isinstance(text, Secret):
        raise ProcclawError(
            f'cmd: "{declared}" holds a secret, and everyone who looks at the processes would see it; '
            "let the command take it from its environment, or write the command as text"
        )
    return text


def probe_of(spec: JobSpec, config: Config, attempt_id: str, home: str, secrets: Secrets) -> Probe:
    """The job's health check, to be made now. Raises ProcclawError when its environment cannot be made."""
    check = spec.health_check
    if check.type is CheckType.FILE and check.path is not None:
        account = account_for(spec)
        check = check._replace(path=_absolute(check.path, working_directory(spec, account), account))
    if check.type is not CheckType.EXEC or check.cmd is None:
        return Probe(spec.id, attempt_id, check)
    return Probe(
        spec.id,
        attempt_id,
        check,
        argv=(SHELL, "-c", check.cmd) if isinstance(check.cmd, str) else check.cmd,
        cwd=working_directory(spec, account_for(spec)),
        env=tuple((_values(environment(spec, config, secrets)) | _values(own_variables(spec.id, home))).items()),
        user=spec.user,
        group=spec.group,
    )


def command_environment(config: Config, secrets: Secrets) -> dict[str, Text]:
    """Of commands that belong to no job: the declared base environment, whoever started us."""
    return _values(_base(own_account(), config, secrets))
