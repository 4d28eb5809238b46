"""What has to be reached: the API's address, the home's socket, OpenClaw."""

import sys
from collections.abc import Iterator
from ipaddress import ip_address

from procclaw.engine.checkup.demands import NoSecrets
from procclaw.engine.checkup.finding import Finding, listed, ok, problem, warning
from procclaw.engine.checkup.setup import Setup
from procclaw.engine.launching import command_environment
from procclaw.engine.operations import Api
from procclaw.model.secret import revealed_all
from procclaw.system.listening import Listener, listener_at
from procclaw.system.openclaw import Openclaw
from procclaw.system.watch import is_reachable

ASK_SECONDS = 2.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


# --- HTTP ---


def look_at_address(setup: Setup) -> Iterator[Finding]:
    spec = setup.spec()
    if spec is None:
        return
    host, port = spec.config.host, spec.config.port
    yield from judge_address(host, port, is_guarded=spec.config.access.token is not None)
    if setup.daemon() is not None:
        yield judge_served(setup.api(), port, setup.command("daemon logs"))
    elif port:
        listener = listener_at(_EVERYWHERE.get(host, host), port, ASK_SECONDS)
        yield judge_port(host, port, listener, is_by_cron=setup.kept().cron_line is not None)


def judge_address(host: str, port: int, *, is_guarded: bool) -> Iterator[Finding]:
    if _is_local(host):
        return
    if not is_guarded:
        told = f"daemon.host is {host}, which other machines can reach, and no token is asked for: it is not served"
        yield problem("http", told, "in procclaw.yaml: daemon.host 127.0.0.1, or api.auth with enabled and a token")
    else:
        told = f"on {host} port {port} the token and all else goes unencrypted over the network"
        yield warning("http", told, f"daemon.host 127.0.0.1, and from elsewhere: ssh -L {port}:127.0.0.1:{port} HOST")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def judge_served(api: Api, port: int, logs: str) -> Finding:
    """While a daemon runs."""
    if api.address is not None:
        return ok("http", api.address)
    if api.problem is not None:
        return problem("http", f"not served: {api.problem}", _who_listens(port))
    return warning("http", "not served yet", logs)


def judge_port(host: str, port: int, listener: Listener | None, *, is_by_cron: bool) -> Finding:
    """While none runs."""
    if listener is None:
        return ok("http", f"{host} port {port} is free")
    who = "another program" if listener.version is None else f"another ProcClaw ({listener.version})"
    level = warning if is_by_cron else problem
    return level("http", f"{host} port {port} is taken by {who}", f"{_who_listens(port)}, or another daemon.port")


def _who_listens(port: int) -> str:
    if sys.platform == "darwin":
        return f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
    return f"ss -ltnp 'sport = :{port}'"


# --- the socket ---


def look_at_socket(setup: Setup) -> Iterator[Finding]:
    if setup.is_there:
        yield judge_socket(setup.path, has_address=is_reachable(setup.path))


def judge_socket(path: str, *, has_address: bool) -> Finding:
    if has_address:
        return ok("socket", "its path is short enough")
    told = f"{path} is too long for a socket's address: a daemon notices requests up to a second later"
    return warning("socket", told, "choose a shorter home: export PROCCLAW_HOME=~/.procclaw")


# --- OpenClaw ---


def look_at_openclaw(setup: Setup) -> Iterator[Finding]:
    spec = setup.spec()
    if spec is None:
        return
    channels = {each.name for each in spec.config.alerts.channels}
    channels |= {each.name for job in spec.jobs.values() for each in job.alerts.channels}
    if channels:
        variables = revealed_all(command_environment(spec.config, NoSecrets()).items())
        has_fallback = spec.config.openclaw.fallback.is_any
        yield judge_openclaw(sorted(channels), Openclaw(variables).path, variables["PATH"], has_fallback)


def judge_openclaw(channels: list[str], path: str | None, searched: str, has_fallback: bool) -> Finding:
    where = f"alerts go to {listed(channels)}"
    if path is None:
        told = f"{where}, and there is no openclaw on the PATH that commands get ({searched})"
        return problem(
            "openclaw", told, 'in procclaw.yaml, under env: PATH with what dirname "$(command -v openclaw)" says'
        )
    if not has_fallback:
        told = f"{where}, and nowhere while OpenClaw does not run"
        return warning("openclaw", told, "name a fallback: openclaw.alerts.fallback in procclaw.yaml")
    return ok("openclaw", f"{where}, by {path}")
