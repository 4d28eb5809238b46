"""What of a configuration people are shown, and told when it is wrong: all of it, less what is or may be a secret.

A reference such as `${secret:NAME}` stays, for it is only a name. Where a secret may be written out (a token, the
address of a webhook, a variable whose name says so, a password in a URL) stars stand in its place.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from procclaw.model.references import references_in

MASK = "****"
_SECRET_FIELDS = frozenset({"auth_token", "hmac_secret", "token"})
_NAMED_VALUES = frozenset({"env", "params"})
"""Mappings in which a key is the name of a value."""
_SECRET_NAME = re.compile(
    r"secret|token|passw|pwd|passphrase|credential|private|api_?key|access_?key|_key$|^key$|auth|dsn|cookie|salt",
    re.IGNORECASE,
)
# A word is looked at from its beginning alone: from each of its letters, a command of 100 KB would take minutes.
_ENTRY_IN_TEXT = re.compile(r"(?<![\w-])(?P<name>[\w-]+)\s*[:=]\s*(?=\S)")
"""What a lost blank makes of a mapping (`token:s3cret`), and other tools of an environment (`TOKEN=s3cret`)."""
_PASSWORD_IN_URL = re.compile(
    r"(?P<before>(?<![a-z0-9+.-])[a-z0-9+.-]+://[^\s/:@]*:)(?P<password>[^\s/@]+)(?=@)", re.IGNORECASE
)
_WEBHOOK = re.compile(r"(?P<before>(?:[a-z][a-z0-9+.-]*://)?[^\s/?#]+/?)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


def masked(document: Any) -> Any:
    """The document with stars where a secret is or may be; of the same shape."""
    match document:
        case Mapping():
            return {key: _masked_field(str(key), value) for key, value in document.items()}
        case list() | tuple():
            return [masked(each) for each in document]
        case str():
            return _PASSWORD_IN_URL.sub(rf"\g<before>{MASK}", document)
        case _:
            return document


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is kept for replaying what was decided by it: only the params keep their defaults, since these
    are what runs are compared by, and every run has its own anyway.
    """
    kept: dict[str, Any] = masked(document)
    jobs = {name: kept["jobs"][name] | {"params": job["params"]} for name, job in document["jobs"].items()}
    return kept | {"jobs": jobs}


def masked_at(path: Sequence[str | int], value: Any) -> Any:
    """A value as it may be told beside the path at which it stands, which need not be one where it belongs: a line that
    is not indented far enough, or lacks the blank behind its colon, is still a secret's.
    """
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return value
    if path and isinstance(path[-1], str) and _SECRET_NAME.search(path[-1]):
        return _starred(value)
    document: Any = value
    for part in reversed(path):
        document = [document] if isinstance(part, int) else {part: document}
    shown = masked(document)
    for part in path:
        if shown == MASK:
            break
        shown = shown[0 if isinstance(part, int) else part]
    return _without_entry(shown) if isinstance(shown, str) else shown


def _without_entry(text: str) -> str:
    for found in _ENTRY_IN_TEXT.finditer(text):
        if found["name"] == "webhook" or _SECRET_NAME.search(found["name"]):
            return text[: found.end()] + MASK
    return text


def _masked_field(key: str, value: Any) -> Any:
    if key in _SECRET_FIELDS and not isinstance(value, Mapping):
        return _starred(value)
    if key == "webhook" and isinstance(value, str):
        return _WEBHOOK.sub(lambda found: found["before"] + (MASK if found["rest"] else ""), masked(value))
    if key in _NAMED_VALUES and isinstance(value, Mapping):
        return {name: _masked_value(str(name), each) for name, each in value.items()}
    return masked(value)


def _masked_value(name: str, value: Any) -> Any:
    if not _SECRET_NAME.search(name):
        return masked(value)
    if isinstance(value, Mapping):  # a param: what it is called and described by is no secret
        return {key: _starred(each) if key == "default" else masked(each) for key, each in value.items()}
    return _starred(value)


def _starred(value: Any) -> Any:
    is_name = isinstance(value, str) and any(each.kind == "secret" for each in references_in(value))
    return value if value in (None, "") or is_name else MASK
