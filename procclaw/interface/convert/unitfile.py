"""How a unit file is written: its sections, and words quoted so that systemd reads what is meant.

Within quotes systemd knows C's escapes; percent signs are specifiers everywhere, dollar signs variables in a command.
"""

import re
from collections.abc import Iterable

KNOWN = {"HOME": "\0h\0", "USER": "\0u\0", "LOGNAME": "\0u\0", "SHELL": "\0s\0"}
"""Variables that systemd sets itself, as specifiers: marked, so that a percent sign of the user's is not one."""
_SPECIFIER = re.compile("\0([a-z])\0")
_CONTROL = re.compile(r"[\x01-\x1f\x7f]")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+")

Lines = list[str]


def written(head: str, *sections: tuple[str, Iterable[str]]) -> str:
    parts = ["\n".join((f"[{name}]", *lines)) for name, lines in sections if lines]
    return head + "\n" + "\n\n".join(parts) + "\n"


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("%", "%%")


def word(text: str, *, is_forced: bool = False) -> str:
    """Of a command line: systemd replaces specifiers and variables in it, and knows C's escapes within quotes."""
    return _in_quotes(text.replace("$", "$$"), is_forced=is_forced)


def _in_quotes(text: str, *, is_forced: bool = False) -> str:
    text = text.replace("%", "%%")
    if _PLAIN.fullmatch(text.replace("\0", "")) and not is_forced:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    escaped = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped)
    return f'"{escaped}"'


def assigned(name: str, value: str) -> str:
    return _SPECIFIER.sub(r"%\1", _in_quotes(f"{name}={value}"))


def unit_path(path: str) -> str:
    """Relative ones begin at the account's home."""
    path = path.replace("%", "%%")
    if path == "~" or path.startswith("~/"):
        path = "%h" + path[1:]
    return path if path.startswith(("/", "%h")) else f"%h/{path}"
