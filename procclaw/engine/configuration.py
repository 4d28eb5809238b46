"""Which configuration is in force: the files' if they are good, else the last good one, kept in the database.

Additions and changes apply at once. A job that has disappeared stays as it was until the files have been left alone for
five seconds and still parse, because editors truncate a file before they write it. With no good configuration ever
seen there is none in force, and nothing is decided: an empty one would end every job there is.
"""

from datetime import datetime
from typing import Any, NamedTuple, Protocol

from procclaw.model.clock import after
from procclaw.model.errors import DiskFull, SpecError
from procclaw.model.spec import Spec, document_hash, spec_from_document
from procclaw.system.specfile import Fingerprint, Loaded
from procclaw.system.store import Problems, Store

SETTLED_AFTER_SECONDS = 5.0

RACY_SECONDS = 2.0
"""A file written this recently may change again without its time stamp moving: its fingerprint proves nothing yet."""


class Files(Protocol):
    def fingerprint(self) -> Fingerprint: ...

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

    def current(self, now: datetime) -> InForce | None:
        """The configuration in force at this look; None if there has never been a good one. Only the reconciler asks."""
        fingerprint = self._files.fingerprint()
        settles_at = None if fingerprint.newest_at is None else after(fingerprint.newest_at, SETTLED_AFTER_SECONDS)
        is_known = self._store.meta("fingerprint") == fingerprint.text
        in_force = self._in_force()
        has_settled = settles_at is None or settles_at <= now
        if is_known and in_force is not None and not (self._departing and has_settled):
            return InForce(in_force, settles_at if self._departing else None, is_new=False)
        try:
            return self._reload(fingerprint, in_force, has_settled, settles_at, now)
        except DiskFull:
            # What cannot be kept is not put in force: after a crash it would be the older one again.
            return None if in_force is None else InForce(in_force, settles_at, is_new=False)

    def _reload(
        self,
        fingerprint: Fingerprint,
        in_force: Spec | None,
        has_settled: bool,
        settles_at: datetime | None,
        now: datetime,
    ) -> InForce | None:
        try:
            loaded = self._files.load()
        except SpecError as error:
            before = self._store.problems()
            if before is None or before.problems != error.problems:
                self._store.set_problems(Problems(now, error.problems))
            return None if in_force is None else InForce(in_force, None, is_new=False)
        document = loaded.document if has_settled else self._with_departing(loaded.document)
        content_hash = document_hash(document)
        is_new = in_force is None or in_force.hash != content_hash
        if is_new:
            self._store.save_spec(content_hash, document, now)
            self._adopt(content_hash, document)
        self._store.set_problems(None)
        self._store.set_warnings(loaded.warnings)
        is_proof = fingerprint.newest_at is not None and after(fingerprint.newest_at, RACY_SECONDS) <= now
        self._store.set_meta("fingerprint", fingerprint.text if is_proof else None)
        assert self._spec is not None
        return InForce(self._spec, settles_at if self._departing else None, is_new)

    def _with_departing(self, document: dict[str, Any]) -> dict[str, Any]:
        """The new document, and what it no longer names as it was before."""
        before = self._store.load_spec()
        if before is None:
            return document
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
        self._spec = spec_from_document(document, content_hash)
        self._departing = tuple(document.get("departing", ()))


def stored_spec(store: Store) -> Spec | None:
    """The configuration in force, for those who only look."""
    stored = store.load_spec()
    return None if stored is None else spec_from_document(stored[1], stored[0])


