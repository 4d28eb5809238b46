"""The command line: finds the command, carries it out, and turns what went wrong into words and an exit code.

Exit codes: 0 done; 1 refused or failed as told; 2 usage or bad configuration; 3 a bug in ProcClaw; 4 a daemon was needed
and none runs; 130 interrupted. This is the only place that catches everything.
"""

import os
import sys

from procclaw import __version__
from procclaw.engine.home import Home
from procclaw.interface import commands
from procclaw.interface.console import Console
from procclaw.model.errors import ProcclawError
from procclaw.model.paths import chosen_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from procclaw.engine.operations import Operations

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

    @property
    def home(self) -> Home:
        if self._home is None:
            self._home = Home(self.home_path)
        return self._home

    @property
    def operations(self) -> "Operations":
        if self._operations is None:
            from procclaw.engine.operations import Operations

            self._operations = Operations(self.home, f"{_user()} (cli)")
        return self._operations

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
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough; without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _main(words: list[str]) -> int:
    before, words = _global_options(words)
    if not words or words[0] in ("-h", "--help"):
        print(commands.overview())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        words = ["version"]
    found = commands.find(words)
    if found is None:
        return _unknown(words)
    command, length = found
    try:
        options = commands.parser_of(command).parse_args([*before, *words[length:]])
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2
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


def _unknown(words: list[str]) -> int:
    from difflib import get_close_matches

    if words[0] in commands.FAMILIES:
        members = ", ".join(name.split()[1] for name in commands.names() if name.startswith(words[0] + " "))
        print(f"procclaw {words[0]}: one of {members} must follow", file=sys.stderr)
        return 2
    close = get_close_matches(words[0], commands.names(), n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    print(f'procclaw: no command "{words[0]}"{hint} (procclaw --help lists them)', file=sys.stderr)
    return 2


def _carry_out(context: Context, command: commands.Command, options: object) -> int:
    from importlib import import_module

    function = getattr(import_module(f"procclaw.interface.{command.module}"), command.function)
    try:
        return int(function(context, options))
    except ProcclawError as error:
        _tell(context.console, error)
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 (the boundary)
        return _report_bug(context, command, error)


def _tell(console: Console, error: ProcclawError) -> None:
    if console.is_json:
        console.json({"error": {"code": error.code, "message": str(error)}})
    else:
        console.complain(f"procclaw: {error}")


def _report_bug(context: Context, command: commands.Command, error: Exception) -> int:
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
    context.console.complain(f"procclaw: a bug in ProcClaw: {type(error).__name__}: {error}\nreport: {path}")
    return BUG


