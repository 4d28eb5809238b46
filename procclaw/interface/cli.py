"""The command line: finds the command, carries it out, and turns what went wrong into words and an exit code.

Exit codes: 0 done; 1 refused or failed as told; 2 usage or bad configuration; 3 a bug in ProcClaw; 4 a daemon was
needed and none runs; 130 interrupted. This is the only place that catches everything.
"""

import os
import sys

from procclaw import __version__
from procclaw.interface import commands
from procclaw.interface.command import Command
from procclaw.interface.console import Console, Unwritten
from procclaw.model.errors import NotFound, ProcclawError, UsageError
from procclaw.model.paths import chosen_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from procclaw.engine.asking import Asking
    from procclaw.engine.home import Home
    from procclaw.engine.operations import Operations
    from procclaw.engine.reports import Reports

BUG = 3
INTERRUPTED = 130
BROKEN_PIPE = 141


class Context:
    """What every command is given: where, how to print, and the home once it is asked for."""

    def __init__(self, home: str, console: Console) -> None:
        self.home_path = home
        self.console = console
        self._home: Home | None = None
        self._operations: Operations | None = None
        self._reports: Reports | None = None
        self._asking: Asking | None = None

    @property
    def home(self) -> "Home":
        if self._home is None:
            from procclaw.engine.home import Home

            self._home = Home(self.home_path)
        return self._home

    @property
    def user(self) -> str:
        """Who asks, for the records."""
        return f"{_user()} (cli)"

    @property
    def operations(self) -> "Operations":
        if self._operations is None:
            from procclaw.engine.operations import Operations

            self._operations = Operations(self.home, self.user)
        return self._operations

    @property
    def reports(self) -> "Reports":
        if self._reports is None:
            from procclaw.engine.reports import Reports

            self._reports = Reports(self.home, self.operations)
        return self._reports

    @property
    def asking(self) -> "Asking":
        if self._asking is None:
            from procclaw.engine.asking import Asking

            self._asking = Asking(self.home, self.operations, self.reports)
        return self._asking

    def is_unwatched(self) -> bool:
        """Whether nobody looks after the home just now: no daemon, and no pass."""
        return self.home.lock().holder() is None

    def complain_of_files(self) -> bool:
        """Say what is wrong with the configuration files, if anything is, and what holds instead."""
        problems = self.operations.problems()
        self.tell_of_files(problems)
        return bool(problems)

    def tell_of_files(self, problems: "Sequence[str]") -> None:
        for problem in problems:
            self.console.complain(problem)
        if problems:
            is_any = self.home.store.spec_hash() is not None
            in_force = "the last good configuration stays in force" if is_any else "nothing is in force"
            self.console.complain(f"the files cannot be used; {in_force}")

    def tell_of_warnings(self) -> None:
        """Say what of the configuration in force may not be meant so."""
        for warning in self.home.store.warnings():
            self.console.complain(f"warning: {warning}")

    def close(self) -> None:
        if self._home is not None:
            self._home.close()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def main(argv: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    os.umask(0o077)
    try:
        code = _main(words)
        Console().flush()
    except BrokenPipeError:
        # Whoever read our output has enough.
        _let_go_of_output()
        return BROKEN_PIPE
    except Unwritten as error:
        Console().complain(f"procclaw: {error}")
        _let_go_of_output()
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _let_go_of_output() -> None:
    """What is still buffered goes nowhere; the interpreter would try to write it once more, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(words: list[str]) -> int:
    try:
        return _run(words)
    except UsageError as error:
        _tell(Console(is_json="--json" in words), error)
        return error.exit_code


def _run(words: list[str]) -> int:
    """Raises UsageError for what is no command, or not one in this form."""
    before, words = _global_options(words)
    if before[-1:] == ["--home"]:
        raise UsageError("--home needs a directory")
    if not words:
        if "--json" in before:
            raise UsageError("no command (procclaw --help lists them)")
        Console().complain(commands.overview())
        return UsageError.exit_code
    if words[0] == "_complete":
        from procclaw.interface.completion import complete

        return complete(words[1:])
    if words[0] in ("-h", "--help"):
        Console().say(commands.overview())
        return 0
    if words[0] in ("-V", "--version"):
        words = ["version", *words[1:]]
    found = commands.find(words)
    if found is None:
        raise _unknown(words)
    command, length = found
    try:
        options = commands.parser_of(command).parsed([*before, *words[length:]])
    except SystemExit:
        return 0  # it has printed its help
    if options.home == "":
        raise UsageError("--home is empty")
    context = Context(chosen_home(options.home, os.environ.get("PROCCLAW_HOME")), Console(is_json=options.json))
    try:
        return _carry_out(context, command, options)
    finally:
        context.console.end_progress()
        context.close()


def _global_options(words: list[str]) -> tuple[list[str], list[str]]:
    """Split off `--home DIR` and `--json` where they stand before the command."""
    before: list[str] = []
    rest = list(words)
    while rest and (rest[0] in ("--json", "--home") or rest[0].startswith("--home=")):
        takes = 2 if rest[0] == "--home" else 1
        before += rest[:takes]
        rest = rest[takes:]
    return before, rest


def _unknown(words: list[str]) -> UsageError:
    from difflib import get_close_matches

    if words[0].startswith("-"):
        return UsageError(f'no option "{words[0]}" (procclaw --help lists what there is)')
    is_family = words[0] in commands.FAMILIES
    named = [word for word in words[: 2 if is_family else 1] if not word.startswith("-")]
    if is_family and len(named) == 1:
        members = ", ".join(name.split()[1] for name in commands.names() if name.startswith(words[0] + " "))
        return UsageError(f"{words[0]}: one of {members} must follow")
    close = get_close_matches(" ".join(named), commands.names(), n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return UsageError(f'no command "{" ".join(named)}"{hint} (procclaw --help lists them)')


def _carry_out(context: Context, command: Command, options: object) -> int:
    from importlib import import_module

    function = getattr(import_module(f"procclaw.interface.{command.module}"), command.function)
    try:
        return int(function(context, options))
    except (KeyboardInterrupt, BrokenPipeError, Unwritten):
        raise
    except ProcclawError as error:
        _tell(context.console, error)
        if isinstance(error, NotFound) and not context.console.is_json:
            # What is missing may be in a file that cannot be read.
            context.complain_of_files()
        return error.exit_code
    except Exception as error:  # noqa: BLE001 (the boundary)
        return _report_bug(context, command, error)


def _tell(console: Console, error: ProcclawError) -> None:
    if console.is_json:
        console.json({"error": {"code": error.code, "message": str(error), **error.about}})
    else:
        console.complain(f"procclaw: {error}")


def _report_bug(context: Context, command: Command, error: Exception) -> int:
    """Leave a report behind and name it: command and traceback, no values of variables, so no secret."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    report = f"ProcClaw {__version__}, Python {sys.version.split()[0]}, procclaw {command.name}\n\n{text}"
    folder = os.path.join(context.home_path, "logs")
    try:
        handle, path = tempfile.mkstemp(".txt", "crash-", folder if os.path.isdir(folder) else None)
        with os.fdopen(handle, "w") as file:
            file.write(report)
    except OSError:
        path = "(it could not be written)\n" + report
    message = f"a bug in ProcClaw: {type(error).__name__}: {error}"
    if context.console.is_json:
        context.console.json({"error": {"code": "bug", "message": message, "report": path}})
    context.console.complain(f"procclaw: {message}\nreport: {path}")
    return BUG
