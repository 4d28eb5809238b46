"""A job as a container of Kubernetes: its command and environment, probes, limits.

`$(NAME)` is Kubernetes' own reference, in commands and in variables, and `$$` its literal dollar sign: what a job says
is escaped, so that it means over there what it means here. Secrets are named, never looked at.
"""

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from procclaw.interface.convert.leaving import Leaving, Telling
from procclaw.interface.convert.variables import (
    env_file_of,
    mentions,
    named_by_us,
    quoted,
    refuse_visible_secrets,
    shell_text,
    tell_of_ours,
    tell_of_params,
    variable_of,
)
from procclaw.model.references import Reference, references_in
from procclaw.model.spec import CheckType, HealthCheck, JobSpec, JobType, OnUnhealthy

SECRET = "procclaw-secrets"
"""The object that holds them, a key each."""
PLACEHOLDER = "IMAGE"
"""No image can be called that, so a cluster says at once that it is missing."""
_DOLLARS = re.compile(r"\$+(?=\()|\$\$+")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})
_PORTS = {"http": 80, "https": 443}

Object = dict[str, Any]


def container(leaving: Leaving, job: JobSpec, name: str, telling: Telling) -> Object:
    """Raises Unexportable."""
    refuse_visible_secrets(job)
    telling.kept("cmd")
    found: Object = {"name": name, "image": leaving.image or PLACEHOLDER, "command": command(job.cmd)}
    if job.cwd is not None:
        found["workingDir"] = job.cwd
        is_absolute = job.cwd.startswith("/")
        says = "has to be in the image" if is_absolute else "has to be absolute, and in the image"
        telling.changed("cwd", says)
    if job.env_file is not None:
        found["envFrom"] = [{"secretRef": {"name": f"{name}-env"}}]
        says = f"kubectl create secret generic {name}-env --from-env-file={env_file_of(job)}"
        telling.changed("env_file", says)
    if env := _environment(leaving, job, telling):
        found["env"] = env
    if limits := _limits(job, telling):
        found["resources"] = {"limits": limits}
    if context := _account(job, telling):
        found["securityContext"] = context
    return found


def command(cmd: str | tuple[str, ...]) -> list[str]:
    if isinstance(cmd, str):
        return ["/bin/sh", "-c", _escaped(shell_text(cmd))]
    return [quoted(word, _escaped, lambda each: f"$({variable_of(each)})") for word in cmd]


def _escaped(text: str) -> str:
    return _DOLLARS.sub(lambda found: found[0] * 2, text)


# --- environment ---


def _environment(leaving: Leaving, job: JobSpec, telling: Telling) -> list[Object]:
    """In an order in which each can refer to those before it."""
    entries: dict[str, Object] = {}
    for name, value in named_by_us(leaving, job).items():
        entries[name] = {"name": name, "value": _escaped(value)}
    for reference in _secrets(leaving, job):
        entries[reference.variable] = _from_secret(reference.variable, reference)
    # The PATH of this machine means nothing in an image.
    ours = [(name, text) for name, text in leaving.config.env if name != "PATH"]
    before: dict[str, str] = {}
    for name, text in ours:
        _set(entries, before, telling, name, text)
        before |= {name: str(entries[name]["value"])} if name in entries else {}
    # What stands in env sees what stands before it, and not each other.
    for name, text in job.env:
        _set(entries, before, telling, name, text)
    if job.env:
        telling.kept("env")
    unset = {variable_of(each) for word in _words(job) for each in references_in(word)} - entries.keys()
    if unset and not isinstance(job.cmd, str):
        telling.changed("cmd", f"its references to {', '.join(sorted(unset))} stay as they are: set them in env")
    tell_of_ours(job, telling)
    if "PROCCLAW_HOME" in mentions(job):
        telling.changed("cmd", "PROCCLAW_HOME is this home on this machine: a volume has to be mounted there")
    tell_of_params(job, telling)
    return list(entries.values())


def _set(entries: dict[str, Object], before: Mapping[str, str], telling: Telling, name: str, text: str) -> None:
    """`before`: values that the text may refer to by name; params and secrets are entries already."""

    def value_of(reference: Reference) -> str:
        return before[reference.name] if reference.kind == "env" else f"$({variable_of(reference)})"

    entries.pop(name, None)
    missing = [each.name for each in references_in(text) if each.kind == "env" and each.name not in before]
    if missing:
        says = f"what {missing[0]} is in the image cannot be told from here: set it by hand"
        telling.dropped(f"env {name}", says)
        return
    entries[name] = {"name": name, "value": quoted(text, _escaped, value_of)}


def _words(job: JobSpec) -> tuple[str, ...]:
    return (job.cmd,) if isinstance(job.cmd, str) else job.cmd


def _secrets(leaving: Leaving, job: JobSpec) -> list[Reference]:
    texts = (*(text for _, text in leaving.config.env), *(text for _, text in job.env), *_words(job))
    found = (each for text in texts for each in references_in(text))
    return sorted({each for each in found if each.kind == "secret"})


def secret_names(leaving: Leaving) -> list[str]:
    """Of all secrets that the jobs take."""
    return sorted({each.name for job in leaving.jobs for each in _secrets(leaving, job)})


def _from_secret(name: str, reference: Reference) -> Object:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": reference.name}}}


# --- account and limits ---


def _account(job: JobSpec, telling: Telling) -> Object:
    context: Object = {}
    for field, key in (("user", "runAsUser"), ("group", "runAsGroup")):
        value = getattr(job, field)
        if value is None:
            continue
        if value.isdecimal():
            context[key] = int(value)
            telling.kept(field)
        else:
            telling.dropped(field, f'"{value}" is no number: it runs as the image has it')
    return context


def _limits(job: JobSpec, telling: Telling) -> Object:
    limits: Object = {}
    if job.resources is None:
        return limits
    says = []
    if job.resources.max_memory_mb is not None:
        limits["memory"] = f"{math.ceil(job.resources.max_memory_mb)}Mi"
        says.append("beyond max_memory_mb the kernel kills")
    if job.resources.max_cpu_percent is not None:
        limits["cpu"] = f"{max(1, round(job.resources.max_cpu_percent * 10))}m"
        says.append("beyond max_cpu_percent it is slowed down")
    telling.changed("resources", f"{', '.join(says)}, whatever action says")
    return limits


# --- probes ---


def probes(job: JobSpec, telling: Telling) -> Object:
    check = job.health_check
    if job.type is not JobType.CONTINUOUS or not check.is_probed:
        return {}
    probe = {**_asked(check, telling), **_rhythm(check)}
    telling.kept("health_check")
    if check.on_unhealthy is OnUnhealthy.ALERT:
        telling.changed("health_check", "while it fails the pod is not ready; nobody is told")
        return {"readinessProbe": probe}
    return {"livenessProbe": probe, "readinessProbe": probe}


def _rhythm(check: HealthCheck) -> Object:
    """Whole seconds, at least one."""
    delay = {"initialDelaySeconds": math.ceil(check.start_period_seconds)} if check.start_period_seconds else {}
    return {
        **delay,
        "periodSeconds": max(1, math.ceil(check.interval_seconds)),
        "timeoutSeconds": max(1, math.ceil(check.timeout_seconds)),
        "failureThreshold": check.failures,
    }


def _asked(check: HealthCheck, telling: Telling) -> Object:
    match check.type:
        case CheckType.HTTP:
            return {"httpGet": _http(check, telling)}
        case CheckType.TCP:
            return {"tcpSocket": {**_host(check.host, telling), "port": check.port}}
        case CheckType.FILE:
            telling.changed("health_check", "takes sh, date and stat in the image")
            test = 'test $(($(date +%s) - $(stat -c %Y "$0"))) -le "$1"'
            seconds = str(math.ceil(check.max_age_seconds))
            return {"exec": {"command": ["/bin/sh", "-c", _escaped(test), _escaped(check.path or ""), seconds]}}
        case _:
            assert check.cmd is not None
            return {"exec": {"command": command(check.cmd)}}


def _http(check: HealthCheck, telling: Telling) -> Object:
    url = urlsplit(check.url or "")
    if check.method.upper() != "GET":
        telling.changed("health_check", f"asks with GET, not {check.method}")
    if check.expected_body is not None:
        telling.changed("health_check", "does not look at what is answered")
    telling.changed(
        "health_check", f"takes every status from 200 to 399 for healthy, not {check.expected_status} alone"
    )
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    port = url.port or _PORTS.get(url.scheme, 80)
    scheme = {"scheme": "HTTPS"} if url.scheme == "https" else {}
    return {**_host(url.hostname or "", telling), "path": path, "port": port, **scheme}


def _host(host: str, telling: Telling) -> Object:
    """Nothing: the address of the pod, which is where a probe comes from outside."""
    if host not in _LOOPBACK:
        return {"host": host}
    telling.changed("health_check", "asks the pod's address: listening on 127.0.0.1 is not enough")
    return {}
