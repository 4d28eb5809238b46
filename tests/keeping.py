"""Secrets for tests that are about something else: a few by name, and no keychain."""

from collections.abc import Mapping

from procclaw.model.errors import NotFound
from procclaw.model.secret import Secret


class Kept:
    def __init__(self, values: Mapping[str, str] = {}) -> None:
        self._values = values

    def read(self, name: str) -> Secret:
        if name not in self._values:
            raise NotFound(f'secret "{name}" is not set: procclaw secret set {name}')
        return Secret(self._values[name])


NONE = Kept()
