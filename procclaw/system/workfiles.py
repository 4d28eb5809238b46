"""The directory in which an attempt and ProcClaw leave files for each other: `work/<attempt>` in the home.

An attempt of another account finds its own below /run/procclaw, because it cannot reach into a home of mode 0700. What
lies there belongs to that account and is not to be trusted: it may hold links, pipes, endless files and bottomless
directories, and change while we look. So everything below an attempt's directory is reached through its descriptor, no
link is followed, nothing is waited for, and every loop has a bound.
"""

import contextlib
import errno
import itertools
import json
import os
import pwd
import re
import stat
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from procclaw.model.errors import DiskFull, ProcclawError

RESULT = "result.json"
SHARED = "/var/run/procclaw"
"""On Linux the same as /run/procclaw, and macOS has no other."""
_MOST_BYTES = 1024 * 1024
_MOST_LEVELS = 100
"""Of a result. Whoever reads it later, ourselves among them, does so within something else and deeper in a stack."""
_MOST_ENTRIES = 2_000
"""Of a directory that are removed in one go: 0.1 s for files, a second for nested directories (measured on ext4)."""
_ATTEMPT = re.compile(r"[a-z0-9]+\.[0-9]+")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class WorkFiles:
    def __init__(self, home: str, shared: str = SHARED) -> None:
        """`shared`: where attempts of other accounts have theirs, for root."""
        self._own = os.path.join(home, "work")
        self._shared = shared
        # Homes of root share the place; the path itself would tell others where they are.
        self._others = os.path.join(shared, sha256(os.fsencode(home)).hexdigest()[:8])

    def make(self, attempt_id: str, user: str | None, files: Mapping[str, bytes]) -> str:
        owner = None if user is None else _owner(user)
        try:
            if owner is None:
                os.makedirs(self._own, mode=0o700, exist_ok=True)
                return _filled(os.path.join(self._own, attempt_id), None, files)
            # The account must get through to its own, and need not know of any other.
            for directory, mode in ((self._shared, 0o755), (self._others, 0o711)):
                _make_public(directory, mode)
            return _filled(os.path.join(self._others, attempt_id), owner, files)
        except OSError as error:
            kind = DiskFull if error.errno in _NO_SPACE else ProcclawError
            raise kind(f"work directory of attempt {attempt_id}: {_said(error)}") from error

    def result(self, attempt_id: str) -> tuple[str | None, str]:
        try:
            with self._opened(attempt_id) as directory:
                content = None if directory is None else _read(directory)
            return (None, "") if content is None else (_compact(content), "")
        except OSError as error:
            return None, f"{RESULT} cannot be read: {(error.strerror or str(error)).lower()}"
        except RecursionError:
            return None, f"{RESULT} is nested too deeply"
        except ValueError as error:
            return None, f"{RESULT} {error}"

    def remove(self, attempt_id: str) -> bool:
        is_own_gone = _removed(self._own, attempt_id)
        return _removed(self._others, attempt_id) and is_own_gone

    def attempts(self) -> tuple[str, ...]:
        found: set[str] = set()
        for base in (self._own, self._others):
            with contextlib.suppress(FileNotFoundError):
                found.update(name for name in os.listdir(base) if _ATTEMPT.fullmatch(name))
        return tuple(sorted(found))

    @contextlib.contextmanager
    def _opened(self, attempt_id: str) -> Iterator[int | None]:
        """The attempt's directory, wherever it is; None when there is none."""
        for base in (self._own, self._others):
            try:
                fd = os.open(os.path.join(base, attempt_id), _DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                yield fd
            finally:
                os.close(fd)
            return
        yield None


def _owner(user: str) -> tuple[int, int] | None:
    """The user and group that an account's files belong to; None when that is us."""
    try:
        account = _account(user)
    except KeyError:
        if user == str(os.geteuid()):
            return None  # a container's number without an entry
        raise ProcclawError(f'user "{user}": no such account') from None
    if account.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise ProcclawError(f'user "{user}": only root can give files to somebody else, and we are user {os.geteuid()}')
    return account.pw_uid, account.pw_gid


def _account(user: str) -> pwd.struct_passwd:
    """By name or number. Raises KeyError."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        try:
            return pwd.getpwuid(int(user))
        except (ValueError, OverflowError):
            raise KeyError(user) from None


def _make_public(directory: str, mode: int) -> None:
    """Make sure it is there, ours, and lets others through. Its parent is root's, so nobody else can have put it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    found = os.stat(directory, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ProcclawError(f"{directory} is not a directory of root's; move it away")
    # Whatever our umask made of it.
    if stat.S_IMODE(found.st_mode) != mode:
        os.chmod(directory, mode)


def _filled(path: str, owner: tuple[int, int] | None, files: Mapping[str, bytes]) -> str:
    # If we die in between: the attempt has not been started, and whoever starts it writes the files anew.
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    directory = os.open(path, _DIRECTORY)
    try:
        for name, content in files.items():
            _write(directory, name, content, owner)
        if owner is not None:
            os.fchown(directory, *owner)
    finally:
        os.close(directory)
    return path


def _write(directory: int, name: str, content: bytes, owner: tuple[int, int] | None) -> None:
    draft = f".{name}.draft"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(draft, flags, 0o600, dir_fd=directory)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            if owner is not None:
                os.fchown(fd, *owner)
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(draft, dir_fd=directory)
        raise


def _read(directory: int) -> bytes | None:
    """The result's bytes; None when there is none. Raises OSError, ValueError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(RESULT, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("is a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise ValueError("is not a regular file") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is not a regular file")
        # A hard link gives a name to what the account itself may not read, and we may.
        if os.geteuid() == 0 and found.st_uid != os.fstat(directory).st_uid:
            raise ValueError("belongs to another account")
        with open(fd, "rb", closefd=False) as file:
            content = file.read(_MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"is larger than {_MOST_BYTES} bytes")
    return content


def _compact(content: bytes) -> str:
    """The same JSON without needless space, which any database and any reader takes. Raises ValueError."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if not text.strip():
        raise ValueError("is empty")
    try:
        value: Any = json.loads(text, parse_constant=_refuse)
        # A number like 1e999 is read as infinity, half a surrogate pair as a character that is none.
        compact = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        compact.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a surrogate pair, which is no character") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if _is_deep(value):
        raise ValueError("is nested too deeply")
    return compact


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        containers = [
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
        ]
        level = [child for container in containers for child in container]
        if not containers:
            return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _removed(base: str, name: str) -> bool:
    """Delete a tree; whether nothing of it is left."""
    try:
        parent = os.open(base, _DIRECTORY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return _unlinked(parent, name) or _emptied(parent, name)
    except OSError:
        return False
    finally:
        os.close(parent)


def _emptied(parent: int, name: str) -> bool:
    """Delete a directory with all that is in it.

    Directories in its directories are first moved up into it, one storey at a time: so any depth is dealt with by two
    descriptors and no recursion.
    """
    top = _open_directory(parent, name)
    # Names that nothing in it has.
    moved = (f".{os.urandom(8).hex()}.{number}" for number in itertools.count())
    try:
        left = _MOST_ENTRIES
        while left > 0 and (entries := _names(top, left)):
            for entry in entries:
                left -= 1
                if left > 0 and not _unlinked(top, entry):
                    left -= _cleared(top, entry, moved, left)
    finally:
        os.close(top)
    if left > 0:
        os.rmdir(name, dir_fd=parent)
    return left > 0


def _cleared(top: int, name: str, moved: Iterator[str], most: int) -> int:
    """Delete a directory of `top`, what directories are in it having been moved beside it; how many entries that were.

    It stays if it has so many or more.
    """
    directory = _open_directory(top, name)
    try:
        entries = _names(directory, most)
        for entry in entries:
            if not _unlinked(directory, entry):
                # To be moved it has to be writable.
                _permit(directory, entry)
                os.rename(entry, next(moved), src_dir_fd=directory, dst_dir_fd=top)
    finally:
        os.close(directory)
    if len(entries) < most:
        os.rmdir(name, dir_fd=top)
    return len(entries)


def _names(directory: int, most: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in itertools.islice(entries, most)]


def _unlinked(directory: int, name: str) -> bool:
    """Delete an entry that is no directory; False when it is one."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=directory)
    return True


def _permit(parent: int, name: str) -> None:
    # Programs leave directories that they have made read-only. For root this changes nothing, so no link can harm.
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent)


def _open_directory(parent: int, name: str) -> int:
    _permit(parent, name)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _said(error: OSError) -> str:
    what = (error.strerror or str(error)).lower()
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"
