"""Rules: what must hold of a configuration beyond the shape of its fields.

Each rule looks at completed jobs and yields findings: where, and what a person is told. A finding about something a job
inherits is placed where it was written, in `defaults`, so it is told once. Nothing here reads a file or stops at the
first fault.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from procclaw.model.clock import parse_iso
from procclaw.model.completion import ONLY_FOR, Declared, dependencies, listed, size_in_bytes
from procclaw.model.document import Document
from procclaw.model.masking import masked_at
from procclaw.model.references import references_in
from procclaw.model.shape import Path, did_you_mean, quoted

CheckSchedule = Callable[[tuple[str, ...], str], object]
"""Raises ValueError, its message for a person, where expressions or zone are impossible."""
LintSchedule = Callable[[tuple[str, ...], str], Iterable[str]]
"""What is allowed and yet may surprise."""

_REFERENCE_LIKE = re.compile(r"\$(?P<escape>\$?)\{(?P<kind>[A-Za-z_]\w*):(?P<rest>[^}]*)\}?")
_REFERENCE_KINDS = ("secret", "env", "param")
_SHELL_OPERATOR = re.compile(r"[-=?+ 0-9]")
_HOST = re.compile(r"[^\s/@?#]+")
_NEEDED_BY_CHECK = {"http": "url", "tcp": "port", "file": "path", "exec": "cmd"}
_HARMLESS_ZONE = "UTC"
_MOST_HINTS = 20


class Finding(NamedTuple):
    path: Path
    message: str
    is_error: bool = True


class Home(NamedTuple):
    """Everything that was declared, completed."""

    jobs: Mapping[str, Declared]
    refused_jobs: frozenset[str]
    """Ids of jobs that were written in a way that leaves nothing to look at."""
    workflows: Mapping[str, Document]
    config: Document
    """As procclaw.yaml has it, without what was refused."""


Findings = Iterator[Finding]


def findings(home: Home, check_schedule: CheckSchedule, lint_schedule: LintSchedule) -> tuple[Finding, ...]:
    """All there is to find, each once."""
    times = _Times(check_schedule, lint_schedule)
    hint = _JobHints(home)
    defaults = home.config.get("defaults", {})
    found: dict[Finding, None] = {}
    for job in home.jobs.values():
        for rule in (*_JOB_RULES, times.of_job):
            for finding in rule(job):
                found[finding._replace(path=_written_at(job, defaults, finding.path))] = None
    for finding in (
        *_config(home.config),
        *times.of_config(home.config),
        *_dependencies(home, hint),
        *_workflows(home, hint),
    ):
        found[finding] = None
    return tuple(found)


def _written_at(job: Declared, defaults: Document, path: Path) -> Path:
    """The place of a job's field in the files: its own entry unless all of it comes from `defaults`."""
    own: Any = job.own
    default: Any = defaults
    for key in path[:2]:
        has_own = key in own if isinstance(own, dict) else False
        if not has_own and isinstance(default, dict) and key in default:
            return ("defaults", *path)
        own, default = (own[key] if has_own else None), (default.get(key) if isinstance(default, dict) else None)
    return ("jobs", job.id, *path)


def _id(job: Declared) -> Findings:
    if job.id.lower() == "daemon":
        yield Finding((), 'a job cannot be named "daemon"; the daemon\'s own logs have that name')


def _type(job: Declared) -> Findings:
    kind = job.whole["type"]
    if "type" in job.broken:
        return
    for field, type_ in ONLY_FOR.items():
        if job.own.get(field) is not None and kind != type_:
            yield Finding((field,), f'belongs to type {type_} and this job is {kind}; set "type: {type_}" or remove it')
    for field in ("schedule", "run_at"):
        if kind == ONLY_FOR[field] and not job.whole[field] and field not in job.broken:
            yield Finding((field,), f"is missing; a {kind} job needs it")
    if kind == "continuous" and job.whole["expect"] is not None:
        yield Finding(("expect",), "is not for a continuous job, which never succeeds; use health_check")
    if kind == "continuous" and job.whole["concurrency"]["max_instances"] > 1:
        yield Finding(("concurrency", "max_instances"), "a continuous job has one process")


def _retry(job: Declared) -> Findings:
    own = job.own.get("retry", {})
    if "preset" in own and "delays" not in own and job.whole["retry"]["delays"]:
        yield Finding(("retry", "preset"), "has no effect: delays, from the defaults, beat it", is_error=False)


def _log(job: Declared) -> Findings:
    if size_in_bytes(job.whole["log"]["max_size"]) < 1:
        yield Finding(("log", "max_size"), f"{quoted(job.whole['log']['max_size'])} is below 1 byte")


def _health_check(job: Declared) -> Findings:
    check = job.whole["health_check"]
    needed = _NEEDED_BY_CHECK.get(check["type"])
    if needed is not None and check[needed] is None and "health_check" not in job.broken:
        yield Finding(("health_check", needed), f"is missing; a check of type {check['type']} needs it")
    for kind, key in _NEEDED_BY_CHECK.items():
        if check["type"] == "process" and job.own.get("health_check", {}).get(key) is not None:
            message = f'has no effect on a check of type process; set "type: {kind}" or remove it'
            yield Finding(("health_check", key), message, is_error=False)
    if check["url"] is not None:
        yield from _url(("health_check", "url"), check["url"])
    if not _HOST.fullmatch(check["host"]):
        yield Finding(("health_check", "host"), f"{quoted(check['host'])} is not a host name or address")


def _switches(job: Declared) -> Findings:
    """What is off unless it is switched on, and was written out without that."""
    for field in ("lock", "dedup"):
        own = job.own.get(field) or {}
        if own and "enabled" not in own and not job.whole[field]["enabled"] and field not in job.broken:
            yield Finding((field,), 'has no effect; add "enabled: true" or remove it', is_error=False)


def _resources(job: Declared) -> Findings:
    limits = job.whole["resources"]
    is_limited = limits["max_memory_mb"] is not None or limits["max_cpu_percent"] is not None
    if "action" in job.own.get("resources", {}) and not is_limited and "resources" not in job.broken:
        message = "has no effect: there is neither max_memory_mb nor max_cpu_percent"
        yield Finding(("resources", "action"), message, is_error=False)


def _trigger(job: Declared) -> Findings:
    for index, trigger in enumerate(listed(job.whole["trigger"])):
        path: Path = ("trigger", index) if isinstance(job.whole["trigger"], list) else ("trigger",)
        if trigger["type"] == "file" and trigger["watch_path"] is None:
            yield Finding((*path, "watch_path"), "is missing; a trigger of type file needs it")
        for field in ("auth_token", "hmac_secret"):
            yield from _token((*path, field), trigger[field] or "")


def _params(job: Declared) -> Findings:
    for name, param in job.whole["params"].items():
        if param["pattern"] is None:
            continue
        try:
            pattern = re.compile(param["pattern"])
        except re.error as error:
            yield Finding(("params", name, "pattern"), f"is not a regular expression: {error}")
            continue
        if param["default"] is not None and not pattern.fullmatch(param["default"]):
            path: Path = ("params", name, "default")
            yield Finding(
                path, f"{quoted(masked_at(path, param['default']))} does not match {quoted(param['pattern'])}"
            )


def _expect(job: Declared) -> Findings:
    expect = job.whole["expect"]
    if expect is not None and (expect["every"] is None) == (expect["by"] is None):
        yield Finding(("expect",), "needs either every or by")


def _alerts(job: Declared) -> Findings:
    if job.whole["alerts"]["webhook"] is not None:
        yield from _url(("alerts", "webhook"), job.whole["alerts"]["webhook"])


def _values(job: Declared) -> Findings:
    """What is put together at start time: the command and the environment."""
    cmd, env = job.whole["cmd"], job.whole["env"]
    fields: list[tuple[Path, str]] = [(("env", name), text) for name, text in env.items()]
    if isinstance(cmd, list):
        fields += ((("cmd", index), word) for index, word in enumerate(cmd))
    elif cmd is not None:
        fields.append((("cmd",), cmd))
    for path, text in fields:
        yield from _references(path, text, is_shell=path == ("cmd",))
        for kind, name in references_in(text):
            if kind == "secret" and isinstance(cmd, list) and path[0] == "cmd":
                yield Finding(path, "a secret in a list would be seen by everyone who looks at the processes; "
                              "put it into env, or write the command as text")  # fmt: skip
            if kind == "param" and name not in job.whole["params"] and "params" not in job.broken:
                yield Finding(path, f'${{param:{name}}}: job "{job.id}" declares no param of that name')


_JOB_RULES = (
    _id,
    _type,
    _retry,
    _log,
    _health_check,
    _switches,
    _resources,
    _trigger,
    _params,
    _expect,
    _alerts,
    _values,
)


class _Times:
    """Rules about zones, schedules and moments; a zone is judged once."""

    def __init__(self, check: CheckSchedule, lint: LintSchedule) -> None:
        self._check = check
        self._lint = lint
        self._zones: dict[str, str] = {}

    def of_config(self, config: Document) -> Findings:
        zone = config.get("timezone")
        if zone is not None and self._fault_of(zone):
            yield Finding(("timezone",), self._fault_of(zone))

    def of_job(self, job: Declared) -> Findings:
        zone = job.timezone
        if self._fault_of(zone):
            zone = _HARMLESS_ZONE
            if job.whole["timezone"] is not None:
                yield Finding(("timezone",), self._fault_of(job.timezone))
        schedule = job.whole["schedule"]
        for index, expression in enumerate(listed(schedule)):
            path: Path = ("schedule", index) if isinstance(schedule, list) else ("schedule",)
            try:
                self._check((expression,), zone)
            except ValueError as error:
                yield Finding(path, str(error))
            else:
                yield from (Finding(path, warning, is_error=False) for warning in self._lint((expression,), zone))
        if job.whole["run_at"] is not None:
            yield from _run_at(job.whole["run_at"], zone)

    def _fault_of(self, zone: str) -> str:
        """What is wrong with a zone; empty: nothing."""
        if zone not in self._zones:
            try:
                self._check(("@hourly",), zone)
                self._zones[zone] = ""
            except ValueError as error:
                self._zones[zone] = str(error)
        return self._zones[zone]


def _run_at(text: str, zone: str) -> Findings:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    tz = ZoneInfo(zone)
    try:
        moment = parse_iso(text, tz)
        written = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        yield Finding(("run_at",), f"{quoted(text)} is not a date and time such as 2030-01-31T09:30")
        return
    seen = moment.astimezone(tz)
    if written.tzinfo is None and seen.replace(tzinfo=None) != written:
        yield Finding(("run_at",), f"the clocks of {zone} skip this time; it is taken as {seen:%H:%M}", is_error=False)


def _url(path: Path, text: str) -> Findings:
    from urllib.parse import urlsplit

    if any(references_in(text)):
        return
    try:
        url = urlsplit(text)
        is_good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        is_good = False
    if not is_good or re.search(r"\s", text):
        yield Finding(path, f"{quoted(masked_at(path, text))} is not a URL such as http://127.0.0.1:8000/health")


def _references(path: Path, text: str, *, is_shell: bool = False) -> Findings:
    """Faults of what looks like a reference. A shell has forms of its own: `${env:-x}`, `${param:0:3}`, `${path:1}`."""
    for found in _REFERENCE_LIKE.finditer(text):
        if found["escape"] or any(references_in(found[0])):
            continue
        kind = found["kind"].lower().removesuffix("s")
        if is_shell and (kind not in _REFERENCE_KINDS or _SHELL_OPERATOR.match(found["rest"])):
            continue
        meant = " or ".join(
            f"${{{each}:NAME}}" for each in _REFERENCE_KINDS if each == kind or kind not in _REFERENCE_KINDS
        )
        yield Finding(path, f"{quoted(found[0])} is not {meant}; write $${{ where ${{ itself is meant")


def _token(path: Path, text: str) -> Findings:
    yield from _references(path, text)
    for kind, name in references_in(text):
        if kind != "secret":
            yield Finding(path, f"${{{kind}:{name}}} has no meaning here; only ${{secret:NAME}} has")


def _config(config: Document) -> Findings:
    auth = config.get("api", {}).get("auth", {})
    if auth.get("enabled") and auth.get("token") is None:
        yield Finding(("api", "auth", "token"), "is missing; auth is enabled and needs it")
    yield from _token(("api", "auth", "token"), auth.get("token") or "")
    for name, text in config.get("env", {}).items():
        yield from _references(("env", name), text)
        if any(reference.kind == "param" for reference in references_in(text)):
            yield Finding(("env", name), "params belong to jobs; there are none here")
    host = config.get("daemon", {}).get("host")
    if host is not None and not _HOST.fullmatch(host):
        yield Finding(("daemon", "host"), f"{quoted(host)} is not a host name or address")
    openclaw = config.get("openclaw", {}).get("alerts", {}).get("fallback", {})
    for path, alerts in ((("alerts",), config.get("alerts", {})), (("openclaw", "alerts", "fallback"), openclaw)):
        if alerts.get("webhook") is not None:
            yield from _url((*path, "webhook"), alerts["webhook"])
    if config.get("openclaw", {}).get("alerts", {}).get("channels") and not _tells_through_openclaw(config):
        told = "nobody is told through them: openclaw.enabled and openclaw.alerts.enabled are not both true"
        yield Finding(("openclaw", "alerts", "channels"), told, is_error=False)
    yield from _hooks(config.get("openclaw", {}))


def _hooks(openclaw: Document) -> Findings:
    hooks = openclaw.get("hooks", {})
    yield from _url(("openclaw", "hooks", "url"), hooks.get("url", "http://127.0.0.1"))
    for kind, name in references_in(hooks.get("url", "")):
        yield Finding(("openclaw", "hooks", "url"), f"${{{kind}:{name}}} has no meaning here")
    if hooks.get("token") is not None:
        yield from _token(("openclaw", "hooks", "token"), hooks["token"])
    elif openclaw.get("alerts", {}).get("notify_agent") == "agent":
        yield Finding(("openclaw", "hooks", "token"), "is missing; notify_agent: agent needs it")


def _tells_through_openclaw(config: Document) -> bool:
    openclaw = config.get("openclaw", {})
    return bool(openclaw.get("enabled") and openclaw.get("alerts", {}).get("enabled"))


class _JobHints:
    """Which job may have been meant. A hint looks at all jobs, so only the first unknown names get one."""

    def __init__(self, home: Home) -> None:
        self._jobs = tuple(home.jobs)
        self._left = _MOST_HINTS

    def __call__(self, name: str) -> str:
        self._left -= 1
        return did_you_mean(name, self._jobs) if self._left >= 0 else ""


def _dependencies(home: Home, hint: _JobHints) -> Findings:
    waits_for: dict[str, list[str]] = {name: [] for name in home.jobs}
    for job in home.jobs.values():
        for index, dependency in enumerate(dependencies(job)):
            other = dependency["job"]
            if other in home.jobs:
                if dependency["condition"] == "after_complete" and _never_completes(home.jobs[other].whole):
                    path = _written_at(job, home.config.get("defaults", {}), ("depends_on", index))
                    told = f"{quoted(other)} is continuous with restart: always and never completes"
                    yield Finding(path, told, is_error=False)
                earlier, later = (job.id, other) if dependency["condition"] == "before_complete" else (other, job.id)
                waits_for[later].append(earlier)
            elif other not in home.refused_jobs:
                path = _written_at(job, home.config.get("defaults", {}), ("depends_on", index))
                message = f"there is no job {quoted(other)}, so this one waits until there is{hint(other)}"
                yield Finding(path, message, is_error=False)
    for cycle in _cycles(waits_for):
        chain = " -> ".join((*cycle, cycle[0]))
        message = "waits for itself" if len(cycle) == 1 else f"these wait for each other for ever: {chain}"
        yield Finding(("jobs", cycle[0], "depends_on"), message)


def _never_completes(whole: Document) -> bool:
    """Success ends a continuous job too, unless it is started again after that as well."""
    return (whole["type"], whole["restart"]) == ("continuous", "always")


def _cycles(waits_for: Mapping[str, list[str]]) -> Iterator[tuple[str, ...]]:
    """Every knot of jobs that wait for each other, shown by one cycle in it, beginning with the job declared first."""
    order = {name: index for index, name in enumerate(waits_for)}
    finished: set[str] = set()
    for start in waits_for:
        path: list[str] = []
        depth: dict[str, int] = {}
        branches = [iter((start,))]
        while branches:
            name = next(branches[-1], None)
            if name is None:
                branches.pop()
                if path:
                    finished.add(path.pop())
            elif name in depth and depth[name] < len(path) and path[depth[name]] == name:
                cycle = path[depth[name] :]
                first = cycle.index(min(cycle, key=order.__getitem__))
                yield (*cycle[first:], *cycle[:first])
            elif name not in finished:
                depth[name] = len(path)
                path.append(name)
                branches.append(iter(waits_for[name]))


def _workflows(home: Home, hint: _JobHints) -> Findings:
    for name, workflow in home.workflows.items():
        at: Path = ("workflows", name)
        named = [((*at, "jobs", index), job) for index, job in enumerate(workflow["jobs"])]
        if workflow["callback"] is not None:
            named.append(((*at, "callback"), workflow["callback"]))
        for path, job in named:
            if job not in home.jobs and job not in home.refused_jobs:
                yield Finding(path, f"there is no job {quoted(job)}{hint(job)}")
            elif job in home.jobs and home.jobs[job].whole["type"] == "continuous":
                yield Finding(path, f"{quoted(job)} is continuous: the step would never end")
        if (workflow["type"] == "chord") != (workflow["callback"] is not None):
            fault = "is missing; a chord needs it" if workflow["type"] == "chord" else "belongs to type chord only"
            yield Finding((*at, "callback"), fault)
