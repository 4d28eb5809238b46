"""How process-compose watches and stops a process: its probes as a health check, its shutdown as ours."""

import shlex
from typing import Any

from procclaw.interface.convert.conversion import STOP_SIGNALS, Fate, Note
from procclaw.interface.convert.process_compose_texts import Texts
from procclaw.interface.convert.section import Misfit, Section

_STOP_SECONDS, _PERIOD_SECONDS, _PROBE_SECONDS = 10, 10, 1
"""process-compose's own: of shutdown, between probes, for one probe."""


def shutdown(process: Section, notes: list[Note]) -> dict[str, Any]:
    given = process.section("shutdown")
    if given is None:
        return {"shutdown": {"grace_period": _STOP_SECONDS}}
    seconds = given.number("timeout_seconds")
    found: dict[str, Any] = {"grace_period": _STOP_SECONDS if seconds is None else seconds}
    signal = given.number("signal")
    if signal is not None and signal not in STOP_SIGNALS:
        raise Misfit(given.line_of("signal"), f"signal: {signal} is none that a job is stopped with")
    if signal is not None:
        found["signal"] = f"SIG{STOP_SIGNALS[int(signal)]}"
    if given.text("command"):
        says = "no command stops a job: it gets the signal, then SIGKILL"
        notes.append(Note(given.line_of("command"), "shutdown.command", Fate.DROPPED, says))
    if given.flag("parent_only"):
        says = "all its processes get the signal"
        notes.append(Note(given.line_of("parent_only"), "shutdown.parent_only", Fate.CHANGED, says))
    notes += given.dropped(prefix="shutdown.")
    return {"shutdown": found}


def health_check(process: Section, texts: Texts, notes: list[Note]) -> dict[str, Any]:
    ready, live = process.section("readiness_probe"), process.section("liveness_probe")
    if ready is not None and live is not None:
        says = "a job has one check, and others wait for readiness_probe"
        notes.append(Note(process.line_of("liveness_probe"), "liveness_probe", Fate.DROPPED, says))
    probe = ready or live
    if probe is None:
        return {}
    found = _check(probe, texts, notes)
    found["interval"] = probe.number("period_seconds") or _PERIOD_SECONDS
    found["timeout"] = probe.number("timeout_seconds") or _PROBE_SECONDS
    if delay := probe.number("initial_delay_seconds"):
        found["start_period"] = delay
    if failures := probe.number("failure_threshold"):
        found["failures"] = int(failures)
    if (probe.number("success_threshold") or 1) > 1:
        says = "one good answer is enough"
        notes.append(Note(probe.line_of("success_threshold"), "success_threshold", Fate.CHANGED, says))
    notes += probe.dropped(prefix=f"{probe.name}.")
    return {"health_check": found}


def _check(probe: Section, texts: Texts, notes: list[Note]) -> dict[str, Any]:
    execute, http = probe.section("exec"), probe.section("http_get")
    if execute is not None:
        command = execute.text("command")
        if not command:
            raise Misfit(execute.line, "exec: has no command")
        if folder := execute.text("working_dir"):
            command = f"cd {shlex.quote(folder)} && {command}"
        notes += execute.dropped(prefix="exec.")
        return {"type": "exec", "cmd": texts.in_shell(command, probe.name)}
    if http is None:
        raise Misfit(probe.line, f"{probe.name}: has neither exec nor http_get")
    host, scheme = http.text("host") or "127.0.0.1", (http.text("scheme") or "http").lower()
    port, other = http.text("num_port"), http.text("port")
    where = ":".join(part for part in (host, port or other) if part)
    path = (http.text("path") or "/").lstrip("/")
    found: dict[str, Any] = {"type": "http", "url": texts.known(f"{scheme}://{where}/{path}", probe.name)}
    if (status := http.number("status_code")) is not None:
        found["expected_status"] = int(status)
    notes += http.dropped(prefix="http_get.")
    return found
