"""References: `${secret:NAME}`, `${env:NAME}` and `${param:NAME}` in what jobs.yaml says; `$${` is a literal `${`.

In `env` values and the words of a list `cmd` a reference is replaced by its value when the job starts. In a command for
the shell it becomes a shell variable that the job's environment sets, so that no value can turn into code or be seen in
argv. Everything else that begins with `${` is left to the shell.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from procclaw.model.secret import Secret, Text, revealed

_SECRET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REFERENCE = re.compile(
    rf"\$\$\{{|\$\{{(?:(?P<secret>secret):(?P<secret_name>{_SECRET_NAME.pattern})"
    r"|(?P<kind>env|param):(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}"
)
_TAKEN = re.compile(r"\$\{")
_TAKEN_IN_SHELL = re.compile(r"\$\$\{|\$\{(?i:secret|env|param)s?:(?![-=?+ 0-9])")
"""What would mean something to us."""
_WORD = re.compile(r"[A-Za-z0-9_]+")


class Reference(NamedTuple):
    kind: str
    name: str

    @property
    def variable(self) -> str:
        """The variable that carries its value into a shell command; different references never share one."""
        kind = f"PROCCLAW_{self.kind.upper()}"
        return f"{kind}_{self.name}" if _WORD.fullmatch(self.name) else f"{kind}X_{self.name.encode().hex()}"


def references_in(text: str) -> Iterator[Reference]:
    """Every reference in `text`, in order, those with a literal `$${` excepted."""
    for found in _REFERENCE.finditer(text):
        reference = _reference(found)
        if reference is not None:
            yield reference


def secrets_named(document: object) -> set[str]:
    """The names of all secrets that anything in a document, or in the values made of one, refers to."""
    match document:
        case Secret():
            return secrets_named(revealed(document))
        case str():
            return {reference.name for reference in references_in(document) if reference.kind == "secret"}
        case Mapping():
            return set().union(*map(secrets_named, document.values()))
        case list() | tuple():
            return set().union(*map(secrets_named, document))
        case _:
            return set()


def replaced(text: str, value_of: Callable[[Reference], str]) -> str:
    """`text` with every reference replaced by its value, which is not looked at again."""

    def replacement(found: re.Match[str]) -> str:
        reference = _reference(found)
        return "${" if reference is None else value_of(reference)

    return _REFERENCE.sub(replacement, text)


def literal(text: str, *, is_shell: bool = False) -> str:
    """The text to be declared so that exactly this one is meant; `is_shell`: in a command for the shell, whose own
    forms need nothing.
    """
    return (_TAKEN_IN_SHELL if is_shell else _TAKEN).sub(r"$\g<0>", text)


def filled(text: str, value_of: Callable[[Reference], Text]) -> Text:
    """The same where a value may be a secret; then all of the text is one."""
    holds_secret = False

    def value(reference: Reference) -> str:
        nonlocal holds_secret
        found = value_of(reference)
        holds_secret |= isinstance(found, Secret)
        return revealed(found)

    whole = replaced(text, value)
    return Secret(whole) if holds_secret else whole


def is_secret_name(name: str) -> bool:
    """Whether `${secret:NAME}` can name it."""
    return _SECRET_NAME.fullmatch(name) is not None


def as_shell_variables(command: str) -> str:
    """`command` with every reference replaced by the shell variable that carries its value."""
    return replaced(command, lambda reference: f"${{{reference.variable}}}")


def _reference(found: re.Match[str]) -> Reference | None:
    if found["secret"]:
        return Reference("secret", found["secret_name"])
    return Reference(found["kind"], found["name"]) if found["kind"] else None
