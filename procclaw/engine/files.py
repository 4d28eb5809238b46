"""The home's configuration files, as the configuration in force asks for them: read, checked, schedules and all."""

import os
import shutil
import tempfile
from collections.abc import Mapping

from procclaw.model import tree
from procclaw.model.document import document_hash, spec_from_document
from procclaw.model.errors import ProcclawError, SpecError, in_words
from procclaw.model.spec import Spec
from procclaw.planning import expression, schedule
from procclaw.system import homedir, specfile, surroundings


class ConfigurationFiles:
    def __init__(self, home: str) -> None:
        self._home = home

    def fingerprint(self) -> specfile.Fingerprint:
        return specfile.fingerprint(self._home)

    def content_hash(self) -> str:
        return specfile.content_hash(self._home, local_timezone())

    def load(self) -> specfile.Loaded:
        return specfile.load(
            self._home,
            check_schedule=_check_schedule,
            lint_schedule=_lint_schedule,
            system_timezone=local_timezone(),
        )


def read_ahead() -> None:
    """Import all that reading configuration files can come to need."""
    specfile.read_ahead(check_schedule=_check_schedule, lint_schedule=_lint_schedule)


def _check_schedule(expressions: tuple[str, ...], zone: str) -> None:
    """Raises ValueError, in words, for what is not a schedule."""
    schedule.parse(expressions, zone)


def _lint_schedule(expressions: tuple[str, ...], _zone: str) -> tuple[str, ...]:
    return tuple(warning for each in expressions for warning in expression.lint(each))


def check(files: Mapping[str, str], beside: str | None) -> tuple[str, ...]:
    """What would be wrong with these files, by name within a home, together with those of the home `beside`.

    Raises ProcclawError where one of those cannot be read.
    """
    place = tempfile.mkdtemp(prefix="procclaw-check-")
    try:
        os.mkdir(os.path.join(place, "jobs.d"))
        for path in () if beside is None else specfile.paths(beside):
            try:
                shutil.copyfile(path, os.path.join(place, os.path.relpath(path, beside)))
            except FileNotFoundError:
                pass
            except OSError as error:
                why = "it is not a regular file" if isinstance(error, shutil.SpecialFileError) else in_words(error)
                raise ProcclawError(f"{path}: cannot be read: {why}") from error
        for name, text in files.items():
            with open(os.path.join(place, name), "w", encoding="utf-8") as file:
                file.write(text)
        if not os.path.exists(os.path.join(place, "jobs.yaml")):
            specfile.write_initial(place, "", "UTC")
        ConfigurationFiles(place).load()
    except SpecError as error:
        return error.problems
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return ()


def read_yaml(text: str) -> tuple[tree.Node | None, tuple[tree.Fault, ...]]:
    """The tree of a text, None if it says nothing or cannot be read, and what is wrong with its writing."""
    root, faults = specfile.parsed(text)
    return root, tuple(faults)


def read_env(path: str, text: str) -> dict[str, str]:
    """What a job would find in such an env_file. Raises ProcclawError where it would not start with it."""
    return dict(surroundings.parse_env_file(path, text))


def declared(home: str) -> Spec:
    """What the files of a home say now, whatever is in force. Raises SpecError with all that is wrong."""
    document = ConfigurationFiles(home).load().document
    return spec_from_document(document, document_hash(document))


def local_timezone() -> str:
    """The machine's own zone, by name."""
    return specfile.system_timezone(os.environ)


def prepare_home(home: str) -> None:
    """Make sure the home is there, ours alone and on a local disk; raises ProcclawError where it cannot be."""
    homedir.prepare(home)


def create(home: str) -> tuple[str, ...]:
    """Make a home with a first configuration; returns what was created. What exists is left as it is."""
    homedir.prepare(home)
    return specfile.write_initial(home, os.environ.get("PATH", os.defpath), local_timezone())


def paths(home: str) -> tuple[str, ...]:
    """The configuration files of a home, whether they exist or not."""
    return specfile.paths(home)
