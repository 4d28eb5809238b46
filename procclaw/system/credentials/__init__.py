"""Secrets by name: in the user's keychain where there is one, else in the home's file `.secrets`.

Which of the two has a name is remembered in that file, without the value. A name that lives in the keychain is never
read from anywhere else, nor moved out of it unasked: while the keychain cannot be reached it is an error that says so.
A name nobody set here is looked for in the keychain too, where another program may have put it. The keychain is the
user's, so homes of one user share what is in it.
"""

from enum import StrEnum
from typing import NamedTuple

from procclaw.model.clock import SystemClock
from procclaw.model.errors import Conflict, NotFound, ProcclawError
from procclaw.model.secret import Secret
from procclaw.system.credentials.keychain import LOOP_SECONDS, Keychain, Unreachable
from procclaw.system.credentials.secretsfile import Kept, SecretsFile

PERSON_SECONDS = 20.0
"""How long a person waits for the keychain: on macOS it may ask for leave first."""


class Place(StrEnum):
    KEYCHAIN = "keychain"
    FILE = "file"


class Stored(NamedTuple):
    place: Place
    note: str
    """Why not elsewhere, or what stayed behind; empty: nothing to tell."""


class Credentials:
    def __init__(self, home: str, clock: SystemClock, seconds: float = LOOP_SECONDS) -> None:
        """`seconds`: how long the keychain is waited for."""
        self._file = SecretsFile(home)
        self._keychain = Keychain(clock, seconds)

    @property
    def path(self) -> str:
        """Of the file."""
        return self._file.path

    def signature(self) -> tuple[int, ...] | None:
        """Another one whenever a secret was set or deleted here."""
        return self._file.signature()

    def read(self, name: str) -> Secret:
        """Raises NotFound for one that is not set, ProcclawError for one that cannot be had at present."""
        return self.find(name)[0]

    def find(self, name: str) -> tuple[Secret, Place]:
        """The same, and where it is."""
        kept = self._file.read()
        if name in kept.values:
            return Secret(kept.values[name]), Place.FILE
        is_ours = name in kept.in_keychain
        try:
            found = self._keychain.read(name)
        except Unreachable as error:
            if is_ours:
                raise ProcclawError(f'secret "{name}" lives in the keychain, which {error}') from None
            raise _not_set(name) from None
        if found is not None:
            return found, Place.KEYCHAIN
        if is_ours:
            raise NotFound(f'secret "{name}" is no longer in the keychain: procclaw secret set {name}')
        raise _not_set(name)

    def keychain_trouble(self) -> str:
        """Why the keychain cannot be had, as the end of a sentence; empty: it can."""
        try:
            self._keychain.read("procclaw")
        except Unreachable as error:
            return str(error)
        return ""

    def places(self) -> tuple[tuple[str, Place], ...]:
        """What has been set here, by name."""
        kept = self._file.read()
        found = dict.fromkeys(kept.in_keychain, Place.KEYCHAIN) | dict.fromkeys(kept.values, Place.FILE)
        return tuple(sorted(found.items()))

    def set(self, name: str, secret: Secret, *, in_file: bool = False) -> Stored:
        """Store it, in the keychain if that can be had and the file is not asked for.

        Raises Conflict for one that lives in the keychain while that cannot be reached.
        """
        with self._file.alone():
            kept = self._file.read()
            if in_file:
                return self._moved_to_file(name, secret, kept)
            try:
                self._keychain.write(name, secret)
            except Unreachable as error:
                if name in kept.in_keychain:
                    raise Conflict(
                        f'secret "{name}" lives in the keychain, which {error}; '
                        f"--file stores it in {self.path} instead, where it is not encrypted"
                    ) from None
                self._file.write(_with_value(kept, name, secret))
                return Stored(Place.FILE, f"the keychain {error}")
            # If we die here: it is in the keychain; one that was in the file before is still read from there.
            self._file.write(_without(kept, name)._replace(in_keychain=kept.in_keychain | {name}))
            return Stored(Place.KEYCHAIN, "")

    def _moved_to_file(self, name: str, secret: Secret, kept: Kept) -> Stored:
        self._file.write(_with_value(kept, name, secret))
        if name not in kept.in_keychain:
            return Stored(Place.FILE, "")
        # If we die here: an old value stays in the keychain, where nobody reads it any more.
        try:
            self._keychain.delete(name)
        except Unreachable as error:
            return Stored(Place.FILE, f"its old value stays in the keychain, which {error}")
        return Stored(Place.FILE, "")

    def delete(self, name: str) -> Place:
        """Where it was. Raises NotFound, and ProcclawError while the keychain that has it cannot be reached."""
        with self._file.alone():
            kept = self._file.read()
            if name in kept.values:
                self._file.write(_without(kept, name))
                return Place.FILE
            is_ours = name in kept.in_keychain
            try:
                was_there = self._keychain.delete(name)
            except Unreachable as error:
                if is_ours:
                    raise ProcclawError(f'secret "{name}" lives in the keychain, which {error}') from None
                was_there = False
            # If we die here: a name whose value is gone; it can be deleted once more.
            if is_ours:
                self._file.write(_without(kept, name))
            elif not was_there:
                raise NotFound(f'no secret "{name}"')
            return Place.KEYCHAIN


def _not_set(name: str) -> NotFound:
    return NotFound(f'secret "{name}" is not set: procclaw secret set {name}')


def _without(kept: Kept, name: str) -> Kept:
    return Kept({each: value for each, value in kept.values.items() if each != name}, kept.in_keychain - {name})


def _with_value(kept: Kept, name: str, secret: Secret) -> Kept:
    rest = _without(kept, name)
    return rest._replace(values={**rest.values, name: secret.reveal()})
