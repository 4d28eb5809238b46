"""ProcClaw's own trouble, as exceptions whose message is written for the person who reads it.

A job that fails is not an error but a value (see `state`). Anything raised that is not a `ProcclawError` is a bug in
ProcClaw. Subclasses exist only where a caller acts differently.
"""

from collections.abc import Mapping


class ProcclawError(Exception):
    """Something a person can understand and act upon."""

    exit_code = 1
    code = "failed"
    """What a program finds in place of the message."""
    about: Mapping[str, str] = {}
    """What it finds beside code and message, by name."""


class UsageError(ProcclawError):
    """What was asked makes no sense as it was put."""

    exit_code = 2
    code = "usage"


class SpecError(ProcclawError):
    """The configuration cannot be used; `problems` holds every fault found, in file order."""

    exit_code = 2
    code = "bad_configuration"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StoreError(ProcclawError):
    """The database cannot be opened or trusted; nothing was changed."""

    code = "store"


class DiskFull(ProcclawError):
    """A write found no space left; what it was about to record is not recorded."""

    code = "disk_full"


class NotFound(ProcclawError):
    """What was named does not exist."""

    code = "not_found"


class Conflict(ProcclawError):
    """The request contradicts the present state; nothing was changed."""

    code = "conflict"


class NotOver(Conflict):
    """It was waited for as long as was said, and goes on."""

    code = "not_over"

    def __init__(self, what: str, run_id: str, seconds: float) -> None:
        super().__init__(f'{what} "{run_id}" is not over after {seconds:g} s')
        self.about = {f"{what.replace(' ', '_')}_id": run_id}


class Untold(ProcclawError):
    """The system has no way to tell what it was asked; nothing has gone wrong."""

    code = "untold"


class NoDaemon(ProcclawError):
    """The command needs a daemon and none runs."""

    exit_code = 4
    code = "no_daemon"


def in_words(error: OSError) -> str:
    """What the system says, for the end of a sentence: "connection refused"; of TLS, what is wrong with it.

    Never an address, a path or anything else that was asked for.
    """
    # ssl's errors by what they have, because importing it takes longer than everything else we import.
    if distrust := getattr(error, "verify_message", None):
        return f"the certificate is not trusted: {distrust}"
    if reason := getattr(error, "reason", None):
        return f"TLS failed: {reason.lower().replace('_', ' ')}"
    if isinstance(error, TimeoutError):
        return "timed out"
    words = error.strerror or ("the connection was lost" if isinstance(error, ConnectionError) else "failed")
    return words[:1].lower() + words[1:]
