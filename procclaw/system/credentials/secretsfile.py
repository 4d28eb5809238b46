"""The file `.secrets` of a home: values that are in no keychain, and the names of those that are in one.

JSON, mode 0600, replaced as a whole. One that others can read, or that is somebody else's, is refused rather than put
right: what is in it may be known by now. It is written anew at each change, so a look at it tells of a change.
"""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from procclaw.model.errors import DiskFull, ProcclawError

_NO_SPACE = frozenset({"ENOSPC", "EDQUOT"})


class Kept(NamedTuple):
    values: Mapping[str, str]
    in_keychain: frozenset[str]


class SecretsFile:
    def __init__(self, home: str) -> None:
        self._home = home
        self.path = os.path.join(home, ".secrets")

    def signature(self) -> tuple[int, ...] | None:
        """Differs whenever something was set or deleted; None: there is no file."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid

    def read(self) -> Kept:
        """Raises ProcclawError for a file that cannot be trusted or read."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return Kept({}, frozenset())
        except OSError as error:
            raise ProcclawError(f"{self.path} cannot be read: {(error.strerror or str(error)).lower()}") from error
        try:
            self._check(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                return self._parsed(file.read())
        finally:
            os.close(descriptor)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ProcclawError(f"{self.path} is no file: refused")
        if found.st_uid != os.getuid():
            raise ProcclawError(f"{self.path} belongs to user {found.st_uid}, and this is user {os.getuid()}: refused")
        if found.st_mode & 0o077:
            raise ProcclawError(
                f"{self.path} is open to others (mode {found.st_mode & 0o777:o}): refused; "
                f"chmod 600 {self.path}, and set anew what others may have seen"
            )

    def _parsed(self, content: bytes) -> Kept:
        # Not what is wrong with it: that could quote it.
        damaged = ProcclawError(f"{self.path} is damaged; put back a copy, or delete it and set the secrets again")
        try:
            document = json.loads(content)
            values, names = document["values"], document["keychain"]
        except (ValueError, KeyError, TypeError):
            raise damaged from None
        if not (isinstance(values, dict) and all(isinstance(value, str) for value in values.values())):
            raise damaged
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise damaged
        return Kept(values, frozenset(names))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes it meanwhile: the lock is on the folder, because the file is another one each time."""
        descriptor = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def write(self, kept: Kept) -> None:
        """Raises DiskFull or another ProcclawError; the old one then stays as it is."""
        content = json.dumps({"values": dict(sorted(kept.values.items())), "keychain": sorted(kept.in_keychain)})
        beside = f"{self.path}.new"
        try:
            # What is left of an interrupted change has no other name and no reader.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(content.encode() + b"\n")
                file.flush()
                os.fsync(descriptor)
            # If we die here: the old file, and one beside it that the next change removes.
            os.replace(beside, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            kind = DiskFull if _is_full(error) else ProcclawError
            raise kind(f"{self.path} cannot be written: {(error.strerror or str(error)).lower()}") from error


def _is_full(error: OSError) -> bool:
    import errno

    return errno.errorcode.get(error.errno or 0) in _NO_SPACE
