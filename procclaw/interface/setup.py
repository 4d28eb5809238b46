"""Setting a home up and looking at what it declares: init, config, version, env."""

import os
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw import __version__
from procclaw.interface.console import printable
from procclaw.model.errors import SpecError

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def version(context: "Context", options: Namespace) -> int:
    if context.console.is_json:
        context.console.json({"version": __version__})
    else:
        context.console.say(f"ProcClaw v{__version__}")
    return 0


def init(context: "Context", options: Namespace) -> int:
    from procclaw.engine.files import create

    created = create(context.home_path)
    if context.console.is_json:
        context.console.json({"home": context.home_path, "created": list(created)})
        return 0
    for path in created:
        context.console.say(f"created {path}")
    if not created:
        context.console.say(f"{context.home_path}: everything is there already")
    context.console.say("next: edit jobs.yaml, then procclaw daemon start")
    return 0


def config(context: "Context", options: Namespace) -> int:
    from procclaw.engine.files import paths

    home = context.home
    if options.validate:
        return _validate(context)
    places = [("home", home.paths.home), *((os.path.basename(path), path) for path in paths(home.paths.home))]
    places += [("database", home.paths.database), ("logs", home.paths.logs)]
    if context.console.is_json:
        context.console.json(dict(places))
    else:
        context.console.fields(
            (name, path if os.path.exists(path) else f"{path} (not there yet)") for name, path in places
        )
    return 0


def _validate(context: "Context") -> int:
    from procclaw.engine.files import ConfigurationFiles

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    count = 0
    try:
        loaded = ConfigurationFiles(context.home_path).load()
        warnings, count = loaded.warnings, len(loaded.document["jobs"])
    except SpecError as error:
        problems = error.problems
    if context.console.is_json:
        context.console.json({"valid": not problems, "problems": list(problems), "warnings": list(warnings)})
        return 2 if problems else 0
    for problem in problems:
        context.console.complain(problem)
    for warning in warnings:
        context.console.complain(f"warning: {warning}")
    if not problems:
        context.console.say(f"valid: {count} {'job' if count == 1 else 'jobs'}")
    return 2 if problems else 0


def env(context: "Context", options: Namespace) -> int:
    from procclaw.engine.launching import environment, own_variables

    spec = context.operations.spec()
    job = context.operations.job_spec(options.job)
    given = environment(job, spec.config, context.home.patient_credentials())
    variables = sorted((*given, *own_variables(job.id, context.home.paths.home)), key=lambda each: each.name)
    # Of what a secret went into there are stars, as of the secret itself.
    shown = [(each.name, str(each.value), each.source) for each in variables]
    names = ("name", "value", "source")
    if context.console.is_json:
        context.console.json(
            {
                "job_id": job.id,
                "variables": [dict(zip(names, each, strict=True)) for each in shown],
            }
        )
    elif options.explain:
        context.console.table(("NAME", "VALUE", "FROM"), shown)
    else:
        for name, value, _ in shown:
            context.console.say(f"{name}={printable(value) if context.console.is_terminal else value}")
    return 0
