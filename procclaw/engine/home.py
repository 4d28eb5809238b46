"""One home, opened: its store for those who look, and the whole machinery for whoever may reconcile it.

Looking costs a database connection and nothing else; the modules that observe, plan and act are imported when somebody
first holds the lock.
"""

import os
from types import TracebackType
from typing import TYPE_CHECKING, Self

from procclaw.model.clock import SystemClock
from procclaw.model.paths import Paths
from procclaw.system.homedir import check_owner
from procclaw.system.store import Store

if TYPE_CHECKING:
    from procclaw.engine.controller import Controller
    from procclaw.engine.world import World
    from procclaw.system.credentials import Credentials
    from procclaw.system.daemonlog import DaemonLog
    from procclaw.system.homelock import Holder, HomeLock
    from procclaw.system.output import Output
    from procclaw.system.processes import Processes


class Home:
    def __init__(self, path: str, clock: SystemClock | None = None) -> None:
        """Raises ProcclawError when there is no such home or it is not ours."""
        check_owner(path)
        self.paths = Paths(path)
        self.clock = clock or SystemClock()
        self._store: Store | None = None
        self._processes: Processes | None = None
        self._controller: Controller | None = None
        self._log: DaemonLog | None = None
        self._credentials: Credentials | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._controller is not None:
            self._controller.close()
            self._controller = None
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = Store(self.paths.database, self.paths.reserve)
        return self._store

    @property
    def processes(self) -> "Processes":
        if self._processes is None:
            from procclaw.system.processes import Processes

            self._processes = Processes(self.paths.home)
        return self._processes

    @property
    def credentials(self) -> "Credentials":
        """For those who must not wait long: the loop and the API."""
        if self._credentials is None:
            from procclaw.system.credentials import Credentials

            self._credentials = Credentials(self.paths.home, self.clock)
        return self._credentials

    def patient_credentials(self) -> "Credentials":
        """For a person, who waits."""
        from procclaw.system.credentials import PERSON_SECONDS, Credentials

        return Credentials(self.paths.home, self.clock, PERSON_SECONDS)

    @property
    def output(self) -> "Output":
        from procclaw.system.output import Output
        from procclaw.system.processes import frozen_writers

        return Output(self.paths.logs, frozen_writers)

    @property
    def log(self) -> "DaemonLog":
        if self._log is None:
            from procclaw.system.daemonlog import DaemonLog

            self._log = DaemonLog(self.paths.daemon_log, self.paths.audit_log, self.clock.now)
        return self._log

    def lock(self) -> "HomeLock":
        from procclaw.system.homelock import HomeLock

        return HomeLock(self.paths.lock)

    def acquire(self, lock: "HomeLock", role: str) -> bool:
        """Take the lock, if nobody has it, as a `pass` or as the `daemon`."""
        return lock.try_acquire(self._as_holder(role))

    def announce(self, lock: "HomeLock", role: str) -> None:
        """Tell whoever asks for the holder of our lock that it is up."""
        lock.tell(self._as_holder(role)._replace(is_up=True))

    def is_alive(self, holder: "Holder") -> bool:
        """Whether what the lock's file says is of now: for the moment of a change it may be of the holder before, or of
        one that was killed and is not quite gone.
        """
        if holder.pid is None or holder.start_ticks is None:
            return False
        return self.processes.is_led(holder.pid, holder.start_ticks)

    def _as_holder(self, role: str) -> "Holder":
        from procclaw.system.homelock import Holder

        own = os.getpid()
        return Holder(own, self.processes.start_ticks(own), role)

    def _world(self) -> "World":
        from procclaw.engine.world import World
        from procclaw.system.homedir import network_file_system
        from procclaw.system.locks import Locks
        from procclaw.system.notify import Notifier
        from procclaw.system.openclaw import Memory, Messenger
        from procclaw.system.probes import Prober
        from procclaw.system.spool import Spool
        from procclaw.system.store.lockbook import Lockbook, Member
        from procclaw.system.watch import wake
        from procclaw.system.workfiles import WorkFiles

        home = self.paths.home
        member = Member(os.uname().nodename, self.processes.boot_id(), home)

        def tell_the_loop() -> None:
            wake(home)

        return World(
            processes=self.processes,
            output=self.output,
            probes=Prober(tell_the_loop),
            locks=Locks(home, self.clock, lambda path: Lockbook(path, member)),
            work=WorkFiles(home),
            spool=Spool(self.clock, network_file_system),
            notifier=Notifier(tell_the_loop, Messenger(self.clock)),
            memory=Memory(),
            secrets=self.credentials,
        )

    def controller(self) -> "Controller":
        """What runs cycles; only for the holder of the lock."""
        if self._controller is None:
            from procclaw.engine.configuration import Configuration
            from procclaw.engine.controller import Controller
            from procclaw.engine.files import ConfigurationFiles
            from procclaw.system.homedir import prepare

            prepare(self.paths.home)
            self._controller = Controller(
                home=self.paths.home,
                store=self.store,
                world=self._world(),
                configuration=Configuration(ConfigurationFiles(self.paths.home), self.store),
                clock=self.clock,
                log=self.log,
                mint=lambda: os.urandom(16).hex(),
            )
        return self._controller
