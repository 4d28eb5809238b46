"""Being at home on a machine: ProcClaw as its service, or as a line in the crontab; put there, looked at, taken away.

Putting it there a second time changes nothing. What somebody else wrote is refused, not replaced. A daemon that runs
already, but not as the service, gives way to the one that does; jobs notice neither that nor any other step of this.
"""

import os
import sys
from contextlib import suppress
from typing import NamedTuple

from procclaw.engine.files import prepare_home
from procclaw.engine.home import Home
from procclaw.engine.supervision import START_SECONDS, bring_up, end, own_program, serving
from procclaw.model.errors import Conflict, ProcclawError
from procclaw.system import autostart
from procclaw.system.autostart import Entry, Keeper, Standing
from procclaw.system.autostart.crontab import Crontab
from procclaw.system.autostart.launchd import Launchd
from procclaw.system.autostart.systemd import Systemd

_POLL_SECONDS = 0.05


class Installed(NamedTuple):
    kind: str
    place: str
    """The file, or "crontab"."""
    has_changed: bool
    pid: int | None
    hints: tuple[str, ...]


class Removed(NamedTuple):
    places: tuple[str, ...]
    """What was there; empty when nothing was."""
    left_running: int
    """Jobs."""


class Seen(NamedTuple):
    kind: str
    name: str
    path: str
    is_installed: bool
    is_ours: bool
    starts: str
    """The command line in the file; empty when there is none."""
    starts_this: bool
    is_current: bool
    """The file is what installing now would write."""
    standing: Standing
    lack: str | None
    cron_line: str | None
    is_cron_current: bool
    daemon_pid: int | None
    """Of whoever serves the home, as the service or not."""
    hints: tuple[str, ...]


class Autostart:
    def __init__(self, entry: Entry, keeper: Keeper) -> None:
        """The entry's home need not be there, nor need it be there any more."""
        self._home_path = entry.home
        self._program = entry.program[-1]
        self._keeper = keeper
        self._crontab = Crontab(entry)

    # --- the service ---

    def install(self, *, force: bool) -> Installed:
        """Raises ProcclawError; Conflict for a file that is not ours. Then nothing has changed."""
        keeper = self._keeper
        lack = keeper.lack()
        if lack is not None:
            raise ProcclawError(f"{lack}; to have the jobs looked after all the same: procclaw service install --cron")
        self._check_program()
        before = autostart.read(keeper.path)
        if before is not None and not autostart.is_signed(before) and not force:
            raise Conflict(f"{keeper.path} was not written by procclaw; --force replaces it")
        prepare_home(self._home_path)
        standing = keeper.standing()
        has_changed = before != keeper.content
        if has_changed or not (standing.is_enabled and standing.is_active):
            with Home(self._home_path) as home:
                self._put(home, before, standing)
            standing = keeper.standing()
            has_changed = True
        return Installed(keeper.kind, keeper.path, has_changed, standing.pid, keeper.hints())

    def _check_program(self) -> None:
        if not os.path.isfile(self._program):
            raise ProcclawError(f'"{self._program}" is no file that could be started later')

    def _put(self, home: Home, before: bytes | None, standing: Standing) -> None:
        """If we die anywhere in here, installing again does what is left to do."""
        keeper = self._keeper
        running = serving(home)
        gives_way = running is not None and running.pid != standing.pid
        if before != keeper.content:
            autostart.write(keeper.path, keeper.content)
        try:
            if gives_way:
                end(home)
            keeper.register()
        except ProcclawError:
            self._put_back(before)
            if gives_way and serving(home) is None:
                with suppress(ProcclawError):
                    bring_up(home)
            raise
        try:
            keeper.start(anew=before != keeper.content)
            self._wait_until_up(home)
        except ProcclawError as error:
            raise ProcclawError(f"{error}\nit is installed ({keeper.path}); what it says: {keeper.log_hint}") from error

    def _put_back(self, before: bytes | None) -> None:
        if before is None:
            self._remove_files()
        else:
            autostart.write(self._keeper.path, before)

    def _wait_until_up(self, home: Home) -> None:
        began = home.clock.monotonic()
        while True:
            found = serving(home)
            if found is not None and found.is_up:
                return
            if home.clock.monotonic() - began > START_SECONDS:
                raise ProcclawError(f"{self._keeper.name} does not serve after {START_SECONDS:.0f} s")
            home.clock.sleep(_POLL_SECONDS)

    # --- the crontab ---

    def install_cron(self) -> Installed:
        """Raises ProcclawError; then nothing has changed."""
        self._check_program()
        prepare_home(self._home_path)
        has_changed = self._crontab.install()
        hints = ("the times at which jobs are due are looked at once a minute; a daemon does that to the second",)
        return Installed("cron", "crontab", has_changed, None, hints)

    # --- both ---

    def uninstall(self) -> Removed:
        """Raises Conflict for a file that is not ours, and then leaves everything; ProcclawError."""
        keeper = self._keeper
        content = autostart.read(keeper.path)
        if content is not None and not autostart.is_signed(content):
            raise Conflict(f"{keeper.path} was not written by procclaw: left alone")
        places = []
        if self._cron_line() is not None and self._crontab.remove():
            places.append("crontab")
        if content is not None:
            # Where nobody can be asked nobody runs it either.
            is_kept = keeper.lack() is None
            if is_kept:
                keeper.retire()
            self._remove_files()
            if is_kept:
                keeper.forget()
            places.append(keeper.path)
        return Removed(tuple(places), self._jobs_running())

    def _remove_files(self) -> None:
        for path in (*self._keeper.links, self._keeper.path):
            autostart.remove(path)

    def _jobs_running(self) -> int:
        if not os.path.isdir(self._home_path):
            return 0
        with Home(self._home_path) as home:
            return len(home.store.living.attempts())

    def look(self) -> Seen:
        keeper = self._keeper
        content = autostart.read(keeper.path)
        lack = keeper.lack()
        starts = "" if content is None else keeper.starts(content)
        line = self._cron_line()
        return Seen(
            kind=keeper.kind,
            name=keeper.name,
            path=keeper.path,
            is_installed=content is not None,
            is_ours=content is not None and autostart.is_signed(content),
            starts=starts,
            starts_this=content is not None and starts == keeper.starts(keeper.content),
            is_current=content == keeper.content,
            standing=keeper.standing() if lack is None else Standing(),
            lack=lack,
            cron_line=None if line is None else line.decode(errors="replace"),
            is_cron_current=line == self._crontab.line,
            daemon_pid=self._daemon_pid(),
            hints=keeper.hints() if content is not None and lack is None else (),
        )

    def crontab(self) -> str | None:
        """All of it, whoever wrote it; None where there is no cron."""
        try:
            return self._crontab.text()
        except ProcclawError:
            return None

    def _cron_line(self) -> bytes | None:
        try:
            return self._crontab.installed()
        except ProcclawError:
            # No cron, so no line of ours.
            return None

    def _daemon_pid(self) -> int | None:
        if not os.path.isdir(self._home_path):
            return None
        with Home(self._home_path) as home:
            found = serving(home)
            return None if found is None else found.pid


def of_this_system(home: str) -> Autostart:
    """For the program that runs now. Raises ProcclawError where it or the home has a name that no unit can carry."""
    entry = Entry(own_program(), home).checked()
    keeper = Launchd(entry) if sys.platform == "darwin" else Systemd(entry, is_root=os.geteuid() == 0)
    return Autostart(entry, keeper)
