"""Which configuration is in force: the files' if they are good, else the last good one, kept in the database.

Additions and changes apply at once. What has disappeared, a job or procclaw.yaml itself, stays as it was until the
files have been left alone for five seconds and still parse, because editors truncate or remove a file before they write
it. With no good configuration ever seen there is none in force, and nothing is decided: an empty one would end every
job there is.

Files are read only when their directory entries or, where those prove nothing yet, their bytes have changed; they are
parsed only when their bytes have.
"""

from datetime import datetime
from typing import Any, NamedTuple, Protocol

from procclaw.engine.stored import spec_of
from procclaw.model.clock import after
from procclaw.model.document import document_hash
from procclaw.model.errors import DiskFull, SpecError
from procclaw.model.masking import without_secrets
from procclaw.model.records import Event
from procclaw.model.spec import Spec
from procclaw.system.specfile import Fingerprint, Loaded
from procclaw.system.store import Problems, Store

SETTLED_AFTER_SECONDS = 5.0

RACY_SECONDS = 2.0
"""A file written this recently may change again without its time stamp moving: its fingerprint proves nothing yet."""


class Files(Protocol):
    def fingerprint(self) -> Fingerprint: ...

    def content_hash(self) -> str:
        """Of all bytes that `load` would read."""

    def load(self) -> Loaded:
        """Parse and check all files. Raises SpecError with every problem."""


class InForce(NamedTuple):
    spec: Spec
    settles_at: datetime | None
    """When a job that has disappeared from the files will be let go; None: none has."""
    is_new: bool
    """This look put it in force."""


class Configuration:
    def __init__(self, files: Files, store: Store) -> None:
        self._files = files
        self._store = store
        self._spec: Spec | None = None
        self._departing: tuple[str, ...] = ()
        self._refused: str | None = None
        """Content hash of files that were found unusable."""
        self._news: list[Event] = []

    def news(self) -> tuple[Event, ...]:
        """What has been found of the files since the last question: that they cannot be used, or can again."""
        news, self._news = tuple(self._news), []
        return news

    def current(self, now: datetime) -> InForce | None:
        """The configuration in force after a look at the files; None if there has never been a good one.

        Only the reconciler asks.
        """
        fingerprint = self._files.fingerprint()
        in_force = self._in_force()
        settles_at = _settles_at(fingerprint, now) if self._departing else None
        is_settling = bool(self._departing) and settles_at is None
        if in_force is not None and not is_settling and self._store.meta("fingerprint") == fingerprint.text:
            return InForce(in_force, settles_at, is_new=False)
        try:
            return self._look_closer(fingerprint, in_force, now)
        except DiskFull:
            # What cannot be kept is not put in force: after a crash it would be the older one again.
            return None if in_force is None else InForce(in_force, settles_at, is_new=False)

    def preview(self, now: datetime) -> Spec | None:
        """What `current` would put in force, without doing so; the last good one if the files are not usable."""
        in_force = self._in_force()
        try:
            document = self._with_departing(self._files.load().document, self._files.fingerprint(), now)
        except SpecError:
            return in_force
        return spec_of(document, document_hash(document))

    def _look_closer(self, fingerprint: Fingerprint, in_force: Spec | None, now: datetime) -> InForce | None:
        content = self._files.content_hash()
        settles_at = _settles_at(fingerprint, now) if self._departing else None
        is_letting_go = bool(self._departing) and settles_at is None
        if content == self._refused:
            return None if in_force is None else InForce(in_force, None, is_new=False)
        if in_force is not None and content == self._store.meta("content") and not is_letting_go:
            self._accept(now)
            self._remember(fingerprint, now)
            return InForce(in_force, settles_at, is_new=False)
        try:
            loaded = self._files.load()
        except SpecError as error:
            self._refuse(content, error.problems, now)
            return None if in_force is None else InForce(in_force, None, is_new=False)
        return self._put_in_force(loaded, fingerprint, in_force, now)

    def _put_in_force(self, loaded: Loaded, fingerprint: Fingerprint, in_force: Spec | None, now: datetime) -> InForce:
        document = self._with_departing(loaded.document, fingerprint, now)
        document_is = document_hash(document)
        is_new = in_force is None or in_force.hash != document_is
        if is_new:
            before = self._store.load_spec()
            past = None if before is None else without_secrets(before[1])
            self._store.save_spec(document_is, document, now, past)
            self._adopt(document_is, document)
        self._refused = None
        self._accept(now)
        self._store.set_warnings(loaded.warnings)
        self._store.set_meta("content", loaded.content_hash)
        self._remember(fingerprint, now)
        assert self._spec is not None
        return InForce(self._spec, _settles_at(fingerprint, now) if self._departing else None, is_new)

    def _refuse(self, content: str, problems: tuple[str, ...], now: datetime) -> None:
        self._refused = content
        self._store.set_meta("fingerprint", None)
        before = self._store.problems()
        if before is None or before.problems != problems:
            self._store.set_problems(Problems(now, problems))
            told = (("problems", str(len(problems))), ("detail", problems[0]))
            self._news.append(Event(now, "configuration refused", None, told))

    def _accept(self, now: datetime) -> None:
        if self._store.problems() is not None:
            self._store.set_problems(None)
            self._news.append(Event(now, "configuration good again", None, ()))

    def _remember(self, fingerprint: Fingerprint, now: datetime) -> None:
        """From now on the directory entries alone tell that nothing has changed, unless the files are too young for
        that.
        """
        is_proof = fingerprint.newest_at is not None and after(fingerprint.newest_at, RACY_SECONDS) <= now
        self._store.set_meta("fingerprint", fingerprint.text if is_proof else None)

    def _with_departing(self, document: dict[str, Any], fingerprint: Fingerprint, now: datetime) -> dict[str, Any]:
        """The new document and, until the files have settled, what it no longer names, as it was before."""
        before = self._store.load_spec()
        if before is None or _settles_at(fingerprint, now) is None:
            return document
        if before[1].get("has_config_file") and not document.get("has_config_file"):
            # An editor may be replacing it; without it every default would change and jobs restart for nothing.
            return before[1] | {"departing": sorted({*before[1].get("departing", ()), "procclaw.yaml"})}
        missing = {name: job for name, job in before[1]["jobs"].items() if name not in document["jobs"]}
        if not missing:
            return document
        return document | {"jobs": document["jobs"] | missing, "departing": sorted(missing)}

    def _in_force(self) -> Spec | None:
        """What the database says is in force, read again only when another process has changed it."""
        content_hash = self._store.spec_hash()
        if content_hash is None:
            return None
        if self._spec is None or self._spec.hash != content_hash:
            stored = self._store.load_spec()
            assert stored is not None
            self._adopt(*stored)
        return self._spec

    def _adopt(self, content_hash: str, document: dict[str, Any]) -> None:
        self._spec = spec_of(document, content_hash)
        self._departing = tuple(document.get("departing", ()))


def _settles_at(fingerprint: Fingerprint, now: datetime) -> datetime | None:
    """When the files will have been left alone long enough; None: they have.

    A time of writing that lies ahead was written before the clock was set back.
    """
    if fingerprint.newest_at is None or fingerprint.newest_at > now:
        return None
    settles_at = after(fingerprint.newest_at, SETTLED_AFTER_SECONDS)
    return settles_at if settles_at > now else None
