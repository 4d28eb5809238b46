"""Where things lie in a home. Names only; nothing here touches the disk."""

import os
from typing import NamedTuple


class Paths(NamedTuple):
    home: str

    def _in(self, name: str) -> str:
        return os.path.join(self.home, name)

    @property
    def database(self) -> str:
        return self._in("procclaw.db")

    @property
    def reserve(self) -> str:
        return self._in("procclaw.reserve")

    @property
    def lock(self) -> str:
        return self._in("procclaw.lock")

    @property
    def pid(self) -> str:
        return self._in("procclaw.pid")

    @property
    def logs(self) -> str:
        return self._in("logs")

    @property
    def daemon_log(self) -> str:
        return os.path.join(self.logs, "daemon.log")

    @property
    def audit_log(self) -> str:
        return os.path.join(self.logs, "daemon.audit.log")


def chosen_home(option: str | None, variable: str | None) -> str:
    """The home: `--home`, else `PROCCLAW_HOME`, else `~/.procclaw`; absolute, and the same however it is spelled."""
    return os.path.realpath(os.path.expanduser(option or variable or "~/.procclaw"))
