"""What a job's environment is made from outside jobs.yaml: the account it runs as, env files, our own environment.

Reads, and decides nothing; `engine/launching` puts the pieces together.
"""

import contextlib
import os
import pwd
import re
from typing import NamedTuple

from procclaw.model.errors import ProcclawError

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


class Account(NamedTuple):
    name: str
    home: str
    shell: str


def own_account() -> Account:
    """Of the user we run as; an account without an entry (a container's number) is named by that number."""
    try:
        return _account(pwd.getpwuid(os.getuid()))
    except KeyError:
        return Account(str(os.getuid()), "/", "/bin/sh")


def account_of(user: str) -> Account:
    """Of the user of this name or, where nobody has such a name, of this number. Raises ProcclawError."""
    with contextlib.suppress(KeyError, ValueError):
        return _account(pwd.getpwnam(user))
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        return _account(pwd.getpwuid(int(user)))
    if user == str(os.getuid()):
        return own_account()
    raise ProcclawError(f'user "{user}": no such account')


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")


def own_variable(name: str) -> str | None:
    return os.environ.get(name)


def read_env_file(path: str) -> tuple[tuple[str, str], ...]:
    """The NAME=VALUE lines of a file, in order. Raises ProcclawError with file and line.

    `export `, comments, blank lines and quotes as in a shell: nothing is special in single quotes, `\\n`, `\\t`, `\\"`
    and `\\\\` are in double quotes, and an unquoted value ends before ` #`. Nothing is expanded: a file is data.
    """
    try:
        # The signature that some editors put first is no part of a name; a form feed or U+2028 ends no line.
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise ProcclawError(f"env_file {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ProcclawError(f"env_file {path}: not UTF-8 text") from error
    return parse_env_file(path, text)


def parse_env_file(path: str, text: str) -> tuple[tuple[str, str], ...]:
    """What such a file says, by its text. Raises ProcclawError as reading it does."""
    lines = text.split("\n")
    return tuple(_parse_line(path, number, line) for number, line in enumerate(lines, 1) if _says_something(line))


def _says_something(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _parse_line(path: str, number: int, line: str) -> tuple[str, str]:
    found = _LINE.match(line)
    if found is None:
        raise ProcclawError(f"env_file {path}:{number}: not NAME=VALUE")
    name, raw = found[1], found[2].strip()
    if "\0" in raw:
        raise ProcclawError(f"env_file {path}:{number}: {name} holds a NUL character")
    if raw[:1] not in ("'", '"'):
        return name, re.split(r"\s#", found[2], maxsplit=1)[0].strip()
    quote = raw[0]
    body = re.match(r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"', raw)
    if body is None or not re.fullmatch(r"\s*(#.*)?", raw[body.end() :]):
        raise ProcclawError(f"env_file {path}:{number}: {name}: the closing {quote} is missing or followed by text")
    if quote == "'":
        return name, body[1]
    return name, re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), body[1])
