"""What is declared in a simulated home: jobs drawn by lot and edited by lot, in a file with coarse time stamps."""

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from random import Random
from typing import Any

from procclaw.engine.files import ConfigurationFiles
from procclaw.model.clock import to_microseconds
from procclaw.model.document import Document, document_hash, process_hash
from procclaw.model.errors import SpecError
from procclaw.system.specfile import Fingerprint, Loaded
from tests.lives import SECOND
from tests.world import Machine

TEMPLATES: dict[str, Document] = {
    "web": {"type": "continuous"},
    "db": {"type": "continuous"},
    "tick": {"type": "scheduled"},
    "report": {"type": "scheduled"},
    "once": {"type": "oneshot"},
    "hand": {"type": "manual"},
    "chore": {"type": "manual"},
    "prep": {"type": "manual"},
}
"""In the order of names, each may depend on those before it, so nothing ever depends on itself."""
SCHEDULES = (
    ["@every 90s"],
    ["*/2 * * * *"],
    ["*/15 * * * *"],
    ["7 * * * *"],
    ["30 9 * * *"],
    ["*/5 * * * *", "@every 120s"],
)
UNHURRIED = (
    ["30 2 * * *"],
    ["15,45 1 * * *", "0 9 * * *"],
    ["30 1,2 * * *"],
    ["*/30 2 * * *"],
    ["30 */6 * * *"],
    ["0 2 * * 0"],
)
"""In place of the above for weeks on end; at night, when clocks are changed."""
ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
"""Without a change of the clocks, with one of an hour, and with one of half an hour. What these schedules make due
there the oracle computes by itself (see `timetables`).
"""


class Files:
    """jobs.yaml, with a clock too coarse to tell two edits in one second apart."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.jobs: dict[str, Document] = {}
        self.more: dict[str, Any] = {}
        """Other sections of the document."""
        self.is_broken = False
        self.written_at = machine.clock.now()
        self.elapsed_at = machine.clock.elapsed
        self.has_jumped = False
        """The wall clock was turned since it was written, so its age is anybody's guess."""

    def write(
        self, jobs: Mapping[str, Document], *, is_broken: bool = False, more: Mapping[str, Any] | None = None
    ) -> None:
        self.jobs = dict(jobs)
        self.more = dict(self.more if more is None else more)
        self.is_broken = is_broken
        self.written_at = self._machine.clock.now().replace(microsecond=0)
        self.elapsed_at = self._machine.clock.elapsed
        self.has_jumped = False
        self._machine.trace.say(f"jobs.yaml {'broken' if is_broken else 'written'}: {' '.join(sorted(jobs))}")

    def fingerprint(self) -> Fingerprint:
        self._machine.reach("look")
        size = 0 if self.is_broken else 100 * len(self.jobs)
        return Fingerprint(f"{self.written_at:%s} {size}", self.written_at)

    def content_hash(self) -> str:
        return "broken" if self.is_broken else document_hash(self._document())

    def _document(self) -> dict[str, Any]:
        return document_of(self.jobs, self.more, keep_runs=5)

    def load(self) -> Loaded:
        self._machine.reach("look")
        if self.is_broken:
            raise SpecError(("jobs.yaml:3 the simulated editor is not finished",))
        return Loaded(self._document(), (), self.content_hash())


@cache
def _completed() -> dict[str, Any]:
    """The document of a home with one job, in which the program itself has filled in every default."""
    with tempfile.TemporaryDirectory() as home:
        texts = {"procclaw.yaml": "timezone: UTC\n", "jobs.yaml": "jobs: {one: {cmd: simulated, cwd: /}}\n"}
        for name, text in texts.items():
            with open(os.path.join(home, name), "w") as file:
                file.write(text)
        return ConfigurationFiles(home).load().document


def document_of(jobs: Mapping[str, Document], more: Mapping[str, Any] | None = None, **history: int) -> dict[str, Any]:
    """What a home's files come to that declare these jobs; `more`: queues, workflows, how many run in
    parallel (`max_parallel`), and how people are told (`webhook`, `cooldown`).
    """
    rest = dict(more or {})
    config = _completed()["config"]
    daemon = {**config["daemon"], "max_parallel": rest.pop("max_parallel", None)}
    alerts = {**config["alerts"], "webhook": rest.pop("webhook", None), "cooldown": rest.pop("cooldown", 300)}
    config = {**config, "daemon": daemon, "alerts": alerts, "history": {**config["history"], **history}}
    whole = {**_completed(), **rest, "jobs": jobs, "config": config}
    copied: dict[str, Any] = json.loads(json.dumps(whole))
    return copied


def a_job(**given: Any) -> Document:
    """A job's document, complete; what is given is in the spelling of a document."""
    job = {**_completed()["jobs"]["one"], **given}
    return {**job, "process_hash": process_hash(job)}


QUEUES = ("lane", "lanes")
SPOOL = "/spool"
_TOLD = ("on_failure", "on_max_retries", "on_health_fail", "on_recovered", "on_missed")


def draw_more(rng: Random, jobs: Mapping[str, Document]) -> dict[str, Any]:
    """What is declared beside jobs."""
    limits = {name: {"limit": rng.choice((1, 2))} for name in QUEUES if rng.random() < 0.5}
    flows = {name: draw_workflow(rng, jobs) for name in ("flow", "stream") if rng.random() < 0.4}
    return {
        "queues": limits,
        "max_parallel": rng.choice((None, None, 2, 3)),
        "workflows": flows,
        "webhook": rng.choice((None, "http://simulated/")),
        "cooldown": rng.choice((0, 30, 300)),
    }


def draw_workflow(rng: Random, jobs: Mapping[str, Document]) -> dict[str, Any]:
    """A workflow's document; now and then one of its jobs is not declared, or never ends."""
    names = sorted(name for name, job in jobs.items() if job["type"] != "continuous")
    if not names or rng.random() < 0.1:
        names = sorted(TEMPLATES)
    kind = rng.choice(("chain", "group", "chord"))
    return {
        "type": kind,
        "jobs": rng.choices(names, k=rng.choice((1, 2, 2, 3))),
        "callback": rng.choice(names) if kind == "chord" else None,
        "on_failure": rng.choice(("stop", "continue", "retry")),
        "max_parallel": rng.choice((None, None, 1)),
        "timeout": rng.choice((None, None, 20)),
        "pass_results": rng.random() < 0.7,
    }


def draw_job(template: str, rng: Random, now: datetime, name: str | None = None) -> Document:
    """One of the `TEMPLATES`, its other fields drawn by lot; `name`: as which it is declared."""
    name = name or template
    given: dict[str, Any] = dict(TEMPLATES[template])
    given |= _drawn_gates(name, rng, ends_by_itself=given["type"] != "continuous")
    given["retry"] = {
        "enabled": rng.random() < 0.85,
        "delays": rng.choice(([0], [1, 5], [2], [0, 30])),
        "max_attempts": rng.choice((0, 1, 3, 5)),
        "reset_after": rng.choice((5, 60)),
    }
    given["shutdown"] = {
        "grace_period": rng.choice((0, 1, 5, 12)),
        "signal": rng.choice((15, 15, 2, 9)),
        "leftovers": rng.choice(("stop", "stop", "keep")),
    }
    if given["type"] != "continuous":
        excess, timeout = rng.random() < 0.7, rng.choice((5, 60, 300))
        given["concurrency"] = {
            "max_instances": rng.choice((1, 1, 2)),
            "queue_excess": excess,
            "queue_timeout": timeout,
        }
        given["on_overlap"] = rng.choice(("skip", "queue", "kill_restart"))
        given["timeout"] = rng.choice((None, None, 3, 40))
        given["jitter"] = rng.choice((0, 0, 7))
        given["catch_up"] = {
            "policy": rng.choice(("none", "latest", "all")),
            "within": rng.choice((60, 3600, 100_000)),
            "limit": rng.choice((1, 3, 100)),
        }
    else:
        given["restart"] = rng.choice(("always", "always", "on_failure", "never"))
    if given["type"] == "scheduled":
        given["schedule"] = rng.choice(SCHEDULES)
        given["timezone"] = rng.choice(ZONES)
    if given["type"] == "oneshot":
        given["run_at"] = to_microseconds(now) // SECOND * SECOND + rng.randrange(-100, 900) * SECOND
    given |= _drawn_alerts(rng, ends_by_itself=given["type"] != "continuous")
    return a_job(**given)


def _drawn_alerts(rng: Random, *, ends_by_itself: bool) -> dict[str, Any]:
    """What people want to hear of it."""
    alerts: dict[str, Any] = {kind: rng.random() < 0.8 for kind in _TOLD}
    alerts |= {"channels": None, "webhook": rng.choice((None, "http://127.0.0.1/x")), "command": None}
    expect = rng.choice((None, None, {"every": rng.choice((20, 600)), "by": None}, {"every": None, "by": "09:10"}))
    return {"alerts": alerts, "expect": expect if ends_by_itself else None}


def _drawn_gates(name: str, rng: Random, *, ends_by_itself: bool) -> dict[str, Any]:
    """What may keep the job from starting, or make it start."""
    given: dict[str, Any] = {"priority": rng.choice(("critical", "high", "normal", "normal", "low"))}
    names = sorted(TEMPLATES)
    before, after = names[: names.index(name)], names[names.index(name) + 1 :]
    depends = []
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        condition = rng.choice(("after_start", "after_healthy", "after_complete", "before_complete"))
        others = after if condition == "before_complete" else before
        if others:
            timeout = rng.choice((None, None, 3, 30))
            depends.append({"job": rng.choice(others), "condition": condition, "timeout": timeout})
    given["depends_on"] = depends
    if rng.random() < 0.3:
        given["queue"] = rng.choice(QUEUES)
    if rng.random() < 0.25:
        path = rng.choice((None, "/shared/locks"))
        given["lock"] = {
            "enabled": True,
            "name": rng.choice((name, "common")),
            "provider": rng.choice(("file", "sqlite")),
            "path": path,
            "timeout_seconds": rng.choice((300, 300, 8)),
        }
    if rng.random() < 0.3:
        given["health_check"] = _check(
            interval=rng.choice((5, 60)),
            start_period=rng.choice((0, 20)),
            failures=rng.choice((1, 3)),
            on_unhealthy=rng.choice(("restart", "restart", "alert")),
        )
    if rng.random() < 0.15:
        given["resources"] = {
            "max_memory_mb": rng.choice((None, 10, 100)),
            "max_cpu_percent": rng.choice((None, 15, 90)),
            "action": rng.choice(("warn", "kill", "restart")),
            "check_interval": 5,
        }
    if not ends_by_itself:
        return given
    if rng.random() < 0.2:
        window = rng.choice((10, 60, 600))
        given["dedup"] = {"enabled": True, "window_seconds": window, "use_params": rng.random() < 0.6}
    triggers = []
    if rng.random() < 0.3:
        triggers.append(_trigger("webhook", None))
    if rng.random() < 0.2:
        triggers.append(_trigger("file", f"{SPOOL}/{name}") | {"delete_after": rng.random() < 0.5})
    given["trigger"] = triggers
    if rng.random() < 0.3:
        who = {"default": rng.choice((None, "me")), "description": "", "required": rng.random() < 0.2, "pattern": None}
        given["params"] = {"WHO": who}
    return given


def favouring(job: Document, name: str, what: str) -> Document:
    """The job, declaring in any case what something needs to come about; `what` is one of these words."""
    alerts = dict.fromkeys(_TOLD, True) | {"channels": None, "webhook": "http://simulated/", "command": None}
    given: dict[str, Any]
    match what:
        case "":
            return job
        case "files":
            trigger = _trigger("file", f"{SPOOL}/{name}") | {"delete_after": True}
            given = {"trigger": [trigger], "depends_on": [], "timeout": None}
        case "lock":
            given = {"lock": {**job["lock"], "enabled": True, "path": "/shared/locks"}}
        case "health":
            given = {"health_check": _check(interval=5), "alerts": alerts}
        case "failures":
            retry = {"enabled": True, "delays": [1], "max_attempts": 1, "reset_after": 60}
            given = {"alerts": alerts, "retry": retry, "restart": "always"}
        case "limit":
            limits = {"max_memory_mb": 1, "max_cpu_percent": None, "action": "restart", "check_interval": 5}
            given = {"alerts": alerts, "resources": limits}
        case "expect":
            given = {"alerts": alerts, "expect": {"every": 20, "by": None}}
        case "time limit":
            given = {"timeout": 3, "on_overlap": "skip"}
        case "crash loop":
            retry = {"enabled": True, "delays": [0], "max_attempts": None, "reset_after": 60}
            given = {"retry": retry, "restart": "always", "depends_on": [], "lock": {**job["lock"], "enabled": False}}
        case "slots":
            catch_up = {"policy": "none", "within": 60, "limit": 1}
            given = {"schedule": ["@every 90s"], "alerts": alerts, "catch_up": catch_up}
        case "catch up":
            catch_up = {"policy": "all", "within": 100_000, "limit": 100}
            given = {"schedule": ["@every 90s"], "depends_on": [], "timeout": 3, "catch_up": catch_up}
        case "fixed" | "following":
            given = {"schedule": ["30 1,2 * * *" if what == "fixed" else "*/30 1,2 * * *"], "timezone": "Europe/Berlin"}
        case "after_start" | "after_healthy":
            given = {"depends_on": [{"job": "db", "condition": what, "timeout": None}]}
        case "after_complete":
            given = {"depends_on": [{"job": "chore", "condition": what, "timeout": None}]}
        case _:
            raise KeyError(what)
    changed = {**job, **given}
    return {**changed, "process_hash": process_hash(changed)}


def unhurried(job: Document) -> Document:
    """The job as it is in a history of weeks: nothing of it happens by the second or minute, again and again."""
    given: dict[str, Any] = {"expect": None, "resources": _completed()["jobs"]["one"]["resources"]}
    given["health_check"] = _completed()["jobs"]["one"]["health_check"]
    given["retry"] = {**job["retry"], "delays": [5, 3600]}
    if job["type"] == "scheduled" and job["schedule"] in SCHEDULES:
        given["schedule"] = UNHURRIED[SCHEDULES.index(job["schedule"])]
    changed = {**job, **given}
    return {**changed, "process_hash": process_hash(changed)}


def _check(**given: Any) -> dict[str, Any]:
    usual: dict[str, Any] = _completed()["jobs"]["one"]["health_check"]
    return usual | {"type": "tcp", "port": 1, "timeout": 2} | given


def _trigger(kind: str, watch_path: str | None) -> dict[str, Any]:
    return {
        "enabled": True,
        "type": kind,
        "auth_token": None,
        "hmac_secret": None,
        "watch_path": watch_path,
        "pattern": "*.csv",
        "delete_after": False,
    }


def edited(jobs: Mapping[str, Document], rng: Random, now: datetime) -> dict[str, Document]:
    """The jobs after one edit, such as a person makes."""
    changed: dict[str, Any] = dict(jobs)
    name = rng.choice(sorted(TEMPLATES))
    if name not in changed:
        changed[name] = draw_job(name, rng, now)
    else:
        match rng.randrange(10):
            case 0:
                changed[name] = draw_job(name, rng, now)
            case 1:
                changed[name] = changed[name] | {"enabled": not changed[name]["enabled"]}
            case 2:
                changed[name] = changed[name] | {"cmd": f"simulated {rng.randrange(5)}"}
            case 3:
                changed[name] = changed[name] | {"description": f"edited at {now}", "source": "jobs.yaml:9"}
            case 4:
                del changed[name]
            case 5 if changed[name]["type"] == "scheduled":
                changed[name] = changed[name] | {"schedule": rng.choice(SCHEDULES)}
            case 6:
                changed[name] = draw_job(rng.choice(sorted(TEMPLATES)), rng, now, name)
            case 7:
                ends_by_itself = changed[name]["type"] != "continuous"
                changed[name] = changed[name] | _drawn_gates(name, rng, ends_by_itself=ends_by_itself)
            case 8:
                ends_by_itself = changed[name]["type"] != "continuous"
                changed[name] = changed[name] | _drawn_alerts(rng, ends_by_itself=ends_by_itself)
            case _:
                retry = {"enabled": True, "delays": [1], "max_attempts": None, "reset_after": 5}
                changed[name] = changed[name] | {"retry": retry}
        if name in changed:
            changed[name] = {**changed[name], "process_hash": process_hash(changed[name])}
    return changed
