"""The front: what the daemon has beside its loop to serve those who look and ask by HTTP.

A thread of its own keeps the server bound where the configuration says, so the loop waits for nothing. An address that
is taken, or one that must not be served, does not stop supervision: the status says so, and it is tried again.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pkgutil import get_data
from typing import NamedTuple

from procclaw.engine.controller import Cycle
from procclaw.engine.home import Home
from procclaw.engine.operations import API_ADDRESS, API_PROBLEM
from procclaw.engine.tokens import Tokens, Unavailable
from procclaw.interface.api.app import Application, Environ
from procclaw.interface.api.serving.server import Server
from procclaw.interface.metrics import Metrics
from procclaw.model.errors import ProcclawError, Untold, in_words
from procclaw.model.secret import Text, revealed

RETRY_SECONDS = 5.0
"""How soon to try an address again that was taken."""
_CLOSE_SECONDS = 3.0


class _Place(NamedTuple):
    host: str
    port: int
    is_guarded: bool
    """A token is asked for."""


class Front:
    def __init__(self, home: Home, late_seconds: Callable[[], float]) -> None:
        self._log = home.log
        self._home_path = home.paths.home
        self._processes = home.processes
        self._metrics = Metrics()
        page = get_data("procclaw.interface", "dashboard.html")
        assert page is not None
        self._tokens = Tokens(home.credentials, home.clock)
        self._app = Application(
            self._home_path, page.decode(), self._metrics, late_seconds, self._may_serve, self._value_of
        )
        self._complaint = ""
        self._wanted: _Place | None = None
        self._token: Text | None = None
        self._is_closing = False
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._keep_bound, name="procclaw-api", daemon=True)
        self._thread.start()

    def take_note(self, cycle: Cycle, seconds: float) -> None:
        self._metrics.take_note(cycle, seconds)
        if cycle.spec is None:
            return
        config = cycle.spec.config
        self._app.access = config.access
        self._app.own_names |= {config.host.lower()}
        wanted = _Place(config.host, config.port, config.access.token is not None)
        if (wanted, config.access.token) != (self._wanted, self._token):
            self._wanted, self._token = wanted, config.access.token
            self._changed.set()

    def close(self) -> None:
        self._is_closing = True
        self._changed.set()
        self._thread.join(_CLOSE_SECONDS)

    # --- the thread that keeps it bound ---

    def _keep_bound(self) -> None:
        server: Server | None = None
        bound: _Place | None = None
        with contextlib.closing(Home(self._home_path)) as home:
            while not self._is_closing:
                self._changed.clear()
                # Here, because the keychain may take a moment, and the loop has none.
                problem = self._problem()
                wanted = None if problem else self._wanted
                if server is not None and bound != wanted:
                    server.close()
                    server = None
                if server is None and self._wanted is not None:
                    server = self._tried(home, wanted, problem)
                    bound = wanted
                is_to_try_again = server is None and self._wanted is not None
                self._changed.wait(RETRY_SECONDS if is_to_try_again else None)
            if server is not None:
                server.close()
            _leave_word(home, None, None)
        self._app.close()

    def _problem(self) -> str:
        """Why nobody could be let in; empty: somebody can."""
        if self._token is None:
            return ""
        try:
            self._value_of(revealed(self._token))
        except Unavailable as error:
            return f"api.auth.token: {error}; tried again every {RETRY_SECONDS:.0f} s"
        return ""

    def _value_of(self, text: str) -> Text:
        try:
            return self._tokens.value_of(text)
        except Unavailable as error:
            if self._complaint != str(error):
                self._complaint = str(error)
                self._log.line("warning", "token not to be had", detail=error)
            raise

    def _tried(self, home: Home, place: _Place | None, problem: str) -> Server | None:
        """A server at the place, if it can be had; either way it is written down."""
        if place is None:
            self._tell(home, problem)
            return None
        try:
            server = self._open(place)
            server.begin()
        except (OSError, ProcclawError) as error:
            what = in_words(error) if isinstance(error, OSError) else str(error)
            self._tell(home, f"{place.host} port {place.port}: {what}; tried again every {RETRY_SECONDS:.0f} s")
            return None
        host, port = server.address
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _leave_word(home, address, None)
        self._log.line("info", "api served", address=address)
        return server

    def _open(self, place: _Place) -> Server:
        server = Server(self._app, place.host, place.port, self._log.line)
        # What it is bound to, and not what its name may mean by now; nobody is answered before it begins.
        if not place.is_guarded and not all(_is_loopback(host) for host, _ in server.addresses):
            server.close()
            raise ProcclawError("it can be reached from other machines, which needs api.auth in procclaw.yaml")
        return server

    def _tell(self, home: Home, problem: str) -> None:
        if home.store.meta(API_PROBLEM) != problem:
            self._log.line("warning", "api not served", detail=problem)
        _leave_word(home, None, problem)

    # --- who is at the other end ---

    def _may_serve(self, environ: Environ) -> bool:
        """Asked once for a connection: later its other end may be gone, and then nobody can tell any more."""
        kept = environ["procclaw.connection"].kept
        if "may serve" not in kept:
            kept["may serve"] = self._is_of_this_user(environ)
        return bool(kept["may serve"])

    def _is_of_this_user(self, environ: Environ) -> bool:
        try:
            owner = self._processes.socket_owner(environ["procclaw.local"][:2], environ["procclaw.peer"][:2])
        except Untold:
            return True  # this system does not tell
        except OSError:
            return False
        # Of a connection that is gone meanwhile the addresses may be somebody else's already.
        return owner in (0, os.geteuid()) and bool(environ["procclaw.connection"].is_connected())


def _is_loopback(host: str) -> bool:
    return ip_address(host.partition("%")[0]).is_loopback


def _leave_word(home: Home, address: str | None, problem: str | None) -> None:
    """For whoever asks for the daemon's status."""
    with contextlib.suppress(ProcclawError):
        home.store.set_meta(API_ADDRESS, address)
        home.store.set_meta(API_PROBLEM, problem)
