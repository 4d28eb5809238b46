"""What starts ProcClaw when nobody is there to: a service of systemd's or launchd's, or a line in the crontab.

`Keeper` is what the first two have in common. They write what they are told to, ask what is so, and decide nothing:
whether to install, to refuse or to leave alone is for `engine/autostart`. A file is ours when it bears the signature
that each of ours begins with; nothing else is ever changed or removed without being told to.
"""

import hashlib
import os
import re
from contextlib import suppress
from typing import NamedTuple, Protocol

from procclaw.model.errors import ProcclawError

SIGNATURE = "Written by `procclaw service install`; what is changed here is lost when it is installed again."


class Entry(NamedTuple):
    """What is to be started: a program, on a home."""

    program: tuple[str, ...]
    """Interpreter and file."""
    home: str

    def checked(self) -> "Entry":
        """Itself. Raises ProcclawError for what no file of this kind can carry."""
        for part in (*self.program, self.home):
            if not part.isprintable() or "\\" in part:
                raise ProcclawError(f"{part!r} cannot be written into a unit or a crontab; choose another path")
        return self

    @property
    def argv(self) -> tuple[str, ...]:
        """Who starts the daemon is not a person: what `daemon stop --jobs` stopped stays so."""
        return (*self.program, "--home", self.home, "daemon", "start", "--foreground", "--keep-holds")

    @property
    def suffix(self) -> str:
        """Tells the services of several homes apart; empty for the usual one."""
        if self.home == os.path.realpath(os.path.expanduser("~/.procclaw")):
            return ""
        words = re.sub(r"[^a-z0-9]+", "-", os.path.basename(self.home).lower()).strip("-")[:30]
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:8]
        return f"{words}-{digest}" if words else digest


class Standing(NamedTuple):
    """What the service's keeper says of it."""

    is_enabled: bool = False
    """It is started when the machine (or its user) comes up."""
    is_active: bool = False
    pid: int | None = None
    detail: str = ""
    """In the keeper's own words."""


class Keeper(Protocol):
    kind: str
    name: str
    path: str
    """Of the file that declares the service."""
    content: bytes
    """What that file has to be."""
    links: tuple[str, ...]
    """What its keeper makes beside the file; to be removed by us only where the keeper cannot be asked to."""
    log_hint: str
    """Where to look when it does not come up."""

    def lack(self) -> str | None:
        """What is missing for this to work here; None: nothing."""

    def starts(self, content: bytes) -> str:
        """The command line in such a file."""

    def standing(self) -> Standing: ...

    def register(self) -> None:
        """Have what the file says taken note of, and started at the next boot. Raises ProcclawError."""

    def start(self, *, anew: bool) -> None:
        """Start it and wait until it serves; `anew`: also when it runs. Raises ProcclawError."""

    def retire(self) -> None:
        """Stop it, and start it no more; jobs go on. What is not so already is no error."""

    def forget(self) -> None:
        """Have it taken note of that the file is gone."""

    def hints(self) -> tuple[str, ...]:
        """What a person should know or do besides."""


def read(path: str) -> bytes | None:
    """None when there is nothing. Raises ProcclawError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProcclawError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def write(path: str, content: bytes) -> None:
    """In one step: whoever dies here leaves the old file, or the new one. Raises ProcclawError."""
    beside = f"{path}.procclaw-new"
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(beside, "wb") as file:
            # Of the user's other units the mode is this as well, and there is no secret in it.
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise ProcclawError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error


def remove(path: str) -> None:
    """Harmless when it is gone. Raises ProcclawError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ProcclawError(f"{path} cannot be removed: {(error.strerror or str(error)).lower()}") from error


def is_signed(content: bytes) -> bool:
    return SIGNATURE.encode() in content[:1000]
