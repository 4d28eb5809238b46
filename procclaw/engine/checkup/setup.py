"""One set-up: a home and what belongs to it, opened for looking only. Nothing that is asked here changes anything.

What several examinations ask for is looked at once, so that all judge by the same.
"""

import os
import threading
from collections.abc import Callable
from contextlib import closing
from shlex import join
from typing import Generic, TypeVar

from procclaw.engine.autostart import of_this_system
from procclaw.engine.files import ConfigurationFiles
from procclaw.engine.home import Home
from procclaw.engine.operations import API_ADDRESS, API_PROBLEM, Api
from procclaw.engine.stored import spec_of
from procclaw.engine.supervision import serving
from procclaw.model.document import document_hash, spec_from_document
from procclaw.model.errors import SpecError, StoreError
from procclaw.model.paths import Paths, chosen_home
from procclaw.model.spec import Spec
from procclaw.system.store import Store
from procclaw.system.surroundings import own_variable

Found = TypeVar("Found")


class Once(Generic[Found]):
    """Looks when it is first called, whoever calls, and gives the same ever after; one that raises looks again."""

    def __init__(self, look: Callable[[], Found]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._found: list[Found] = []

    def __call__(self) -> Found:
        with self._lock:
            if not self._found:
                self._found.append(self._look())
            return self._found[0]


class Setup:
    def __init__(self, home: str) -> None:
        self.path = home
        self.paths = Paths(home)
        self.home = Once(lambda: Home(home))
        """Raises ProcclawError where it is not ours. Its own store is not for us: opening it would make one."""
        self.spec = Once(self._spec)
        """What the files declare, else what was last good; None where nothing ever was."""
        self.daemon = Once(lambda: serving(self.home()) if self.is_there else None)
        self.kept = Once(lambda: of_this_system(home).look())
        """What starts ProcClaw here when nobody is there to."""

    @property
    def is_there(self) -> bool:
        """There is a home, and it is ours; what is wrong where there is none is told of the home."""
        return os.path.isdir(self.path) and os.stat(self.path).st_uid == os.getuid()

    def store(self) -> Store | None:
        """For the caller alone, to be closed. None: there is none, or none that can be read; that is told elsewhere."""
        if not os.path.exists(self.paths.database):
            return None
        try:
            return Store(self.paths.database, is_to_look=True)
        except StoreError:
            return None

    def _spec(self) -> Spec | None:
        if not self.is_there:
            return None
        try:
            document = ConfigurationFiles(self.path).load().document
        except SpecError:
            return self._last_good()
        return spec_from_document(document, document_hash(document))

    def _last_good(self) -> Spec | None:
        store = self.store()
        if store is None:
            return None
        with closing(store):
            stored = store.load_spec()
        return None if stored is None else spec_of(stored[1], stored[0])

    def api(self) -> Api:
        """Where the daemon says that it is served, and why not."""
        store = self.store()
        if store is None:
            return Api(None, None)
        with closing(store):
            return Api(store.meta(API_ADDRESS), store.meta(API_PROBLEM))

    def command(self, words: str) -> str:
        """A command of ours, for a person to give: with the home, where they would miss it otherwise."""
        is_usual = self.path == chosen_home(None, own_variable("PROCCLAW_HOME"))
        return f"procclaw {words}" if is_usual else f"{join(('procclaw', '--home', self.path))} {words}"
