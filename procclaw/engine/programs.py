"""Programs of others that are asked something: what they print, or in words why there is no answer."""

from collections.abc import Sequence

from procclaw.model.errors import NotFound, ProcclawError
from procclaw.system.processes import run_command

_PATIENCE_SECONDS = 20.0
"""A loaded machine takes some seconds to start a node that loads a handful of packages."""
_NOT_FOUND = 127


def answer_of(argv: Sequence[str]) -> str:
    """Raises NotFound where there is no such program, ProcclawError where it gives no answer."""
    result = run_command(argv, _PATIENCE_SECONDS)
    if result.exit_code == _NOT_FOUND:
        raise NotFound(f"{argv[0]}: no such program")
    if result.is_timed_out:
        raise ProcclawError(f"{argv[0]}: has not ended within {_PATIENCE_SECONDS:g} s")
    if result.exit_code != 0:
        raise ProcclawError(f"{argv[0]}: ended with exit code {result.exit_code}: {_complaint(result.stderr)}")
    try:
        return result.stdout.decode()
    except UnicodeDecodeError:
        raise ProcclawError(f"{argv[0]}: printed what is not UTF-8 text") from None


def _complaint(stderr: bytes) -> str:
    """The line that says what is wrong, of all that a stack trace consists of."""
    lines = [line.strip() for line in stderr.decode(errors="replace").split("\n") if line.strip()]
    return next((line for line in lines if "Error" in line), lines[-1] if lines else "it said nothing")
