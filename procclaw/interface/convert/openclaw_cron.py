"""OpenClaw's own scheduled jobs, as `openclaw cron list --json` prints them or cron/jobs.json holds them.

What OpenClaw's gateway does by itself becomes the command that asks it for the same: an event, a turn of an agent. A
command job needs no gateway any more. Nothing is switched off over there.
"""

import re
from typing import Any

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source, Unconvertible
from procclaw.interface.convert.durations import plain
from procclaw.interface.convert.section import Misfit, Section, document, looks_like_mapping
from procclaw.model.references import literal
from procclaw.model.tree import Entries, Items, Node

_HISTORY = ("state", "createdAtMs", "updatedAtMs", "id", "status", "lastRunStatus", "nextRunAtMs")
_OFFSET = re.compile(r".*(Z|[+-]\d\d:?\d\d)")
_ZERO_SECONDS = re.compile(r"0+")


def looks_like(text: str, kind: str) -> bool:
    return (
        '"payload"' in text
        and '"schedule"' in text
        and (looks_like_mapping(text, "jobs") or re.search(r"[\[{,]\s*\"(jobs|id|name)\"\s*:", text) is not None)
    )


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    jobs: list[Imported] = []
    notes: list[Note] = []
    for number, node in enumerate(_entries(document(source)), start=1):
        if not isinstance(node, Entries):
            notes.append(Note(node.mark[0], f"job {number}", Fate.REFUSED, "is no mapping"))
            continue
        section = Section(f"job {number}", node)
        try:
            jobs.append(_Job(section, ids).imported())
        except Misfit as error:
            notes.append(Note(error.line, _name(section), Fate.REFUSED, str(error)))
    if jobs:
        says = "goes on in OpenClaw too, until it is switched off there: openclaw cron disable ID"
        notes.append(Note(0, "each of these jobs", Fate.CHANGED, says))
        says = "is made up for within the hour; a run that failed is not tried again before its next time"
        notes.append(Note(0, "a missed time", Fate.CHANGED, says))
    return Conversion(tuple(jobs), tuple(notes))


def _entries(root: Node) -> list[Node]:
    """The jobs of a list, or of a mapping that holds one. Raises Unconvertible."""
    node: Node | None = root
    if isinstance(root, Entries):
        node = root.entries["jobs"][1] if "jobs" in root.entries else None
    if not isinstance(node, Items):
        raise Unconvertible(root.mark[0], "holds no list of jobs")
    return node.items


def _name(section: Section) -> str:
    try:
        return section.text("name") or section.text("id") or section.name
    except Misfit:
        return section.name


class _Job:
    """One job of OpenClaw."""

    def __init__(self, job: Section, ids: Ids) -> None:
        self._job = job
        self._ids = ids
        self._notes: list[Note] = []

    def imported(self) -> Imported:
        job = self._job
        name = _name(job)
        schedule, payload = job.section("schedule"), job.section("payload")
        if schedule is None or payload is None:
            raise Misfit(job.line, "has no schedule or no payload")
        fields: dict[str, Any] = {}
        if description := job.text("description"):
            fields["description"] = description
        fields |= self._payload(payload) | self._schedule(schedule) | {"retry": {"enabled": False}}
        if job.flag("enabled") is False:
            fields["enabled"] = False
        openclaw_id = job.text("id")
        for key in _HISTORY:
            job.take(key)
        if job.flag("deleteAfterRun"):
            says = "the job stays in jobs.yaml after it has run, and runs no more"
            self._note(job, "deleteAfterRun", Fate.CHANGED, says)
        if job.take("failureAlert") is not None:
            self._note(job, "failureAlert", Fate.DROPPED, "see alerts: on_failure and on_max_retries")
        self._notes += [*payload.dropped(prefix="payload."), *schedule.dropped(prefix="schedule."), *job.dropped()]
        comments = (f"In OpenClaw: {openclaw_id}",) if openclaw_id else ()
        return Imported(self._ids.of(name), fields, job.line, tuple(self._notes), comments)

    def _note(self, section: Section, key: str, fate: Fate, says: str) -> None:
        self._notes.append(Note(section.line_of(key), key, fate, says))

    # --- when ---

    def _schedule(self, schedule: Section) -> dict[str, Any]:
        kind = schedule.text("kind")
        match kind:
            case "cron":
                return self._cron(schedule)
            case "every":
                return self._every(schedule)
            case "at":
                return self._at(schedule)
            case _:
                says = f'schedule: "{kind}" is none of cron, every, at; a trigger may be what there is here'
                raise Misfit(schedule.line_of("kind"), says)

    def _cron(self, schedule: Section) -> dict[str, Any]:
        words = (schedule.text("expr") or "").split()
        if len(words) == 6:
            if not _ZERO_SECONDS.fullmatch(words[0]):
                raise Misfit(schedule.line_of("expr"), f'"{" ".join(words)}": cron counts no seconds')
            words = words[1:]
        if len(words) != 5 and not (len(words) == 1 and words[0].startswith("@")):
            raise Misfit(schedule.line_of("expr"), f'expr: "{" ".join(words)}" is no cron line')
        found: dict[str, Any] = {"type": "scheduled", "schedule": " ".join(words)}
        if zone := schedule.text("tz"):
            found["timezone"] = zone
        if stagger := schedule.number("staggerMs"):
            found["jitter"] = plain(stagger / 1000)
        return found

    def _every(self, schedule: Section) -> dict[str, Any]:
        milliseconds = schedule.number("everyMs") or 0
        if milliseconds < 1000 or milliseconds % 1000:
            raise Misfit(schedule.line_of("everyMs"), "everyMs: a period is a whole number of seconds")
        schedule.take("anchorMs")
        says = "is counted by the clock, from midnight UTC on 1 January 1970; not from where the gateway began"
        self._note(schedule, "everyMs", Fate.CHANGED, says)
        return {"type": "scheduled", "schedule": f"@every {int(milliseconds) // 1000}s"}

    def _at(self, schedule: Section) -> dict[str, Any]:
        at, zone = schedule.text("at"), schedule.text("tz")
        if at is None:
            raise Misfit(schedule.line, "at: is missing")
        found = {"type": "oneshot", "run_at": at}
        return found if _OFFSET.fullmatch(at) else found | {"timezone": zone or "UTC"}

    # --- what ---

    def _payload(self, payload: Section) -> dict[str, Any]:
        kind = payload.text("kind")
        match kind:
            case "systemEvent":
                return self._event(payload)
            case "agentTurn":
                return self._turn(payload)
            case "command":
                return self._command(payload)
            case _:
                raise Misfit(payload.line_of("kind"), f'payload: "{kind}" is none of systemEvent, agentTurn, command')

    def _event(self, payload: Section) -> dict[str, Any]:
        text = payload.text("text")
        if not text:
            raise Misfit(payload.line, "systemEvent: has no text")
        for key in ("sessionTarget", "sessionKey", "agentId"):
            if (self._job.text(key) or "main") != "main":
                self._note(self._job, key, Fate.DROPPED, "the event goes to the main session")
        if self._job.take("delivery") is not None:
            self._note(self._job, "delivery", Fate.DROPPED, "OpenClaw answers where its main session does")
        mode = self._job.text("wakeMode") or "next-heartbeat"
        return {"cmd": ["openclaw", "system", "event", "--text", literal(text), "--mode", mode]}

    def _turn(self, payload: Section) -> dict[str, Any]:
        message = payload.text("message")
        if not message:
            raise Misfit(payload.line, "agentTurn: has no message")
        agent, session = self._job.text("agentId") or "main", self._session()
        # Such a key names its agent itself.
        whose = [] if session[-1:] and session[-1].startswith("agent:") else ["--agent", agent]
        if not whose and not session[-1].startswith(f"agent:{agent}:"):
            self._note(
                self._job, "agentId", Fate.CHANGED, f"{agent} is not who answers: the session names its own agent"
            )
        command = ["openclaw", "agent", *whose, *session]
        for key, option in (("model", "--model"), ("thinking", "--thinking")):
            if value := payload.text(key):
                command += [option, literal(value)]
        found: dict[str, Any] = {}
        seconds = payload.number("timeoutSeconds")
        if seconds is not None:
            command += ["--timeout", str(seconds)]
            # The command ends by itself; this is for one that hangs.
            found = {"timeout": seconds + 60} if seconds else {}
        if (self._job.text("wakeMode") or "now") != "now":
            self._note(self._job, "wakeMode", Fate.CHANGED, "the turn is taken at once")
        return {"cmd": [*command, *self._delivery(payload), "--message", literal(message)], **found}

    def _session(self) -> list[str]:
        target, key = self._job.text("sessionTarget") or "isolated", self._job.text("sessionKey")
        if target == "main":
            return []
        if target.startswith("session:"):
            return ["--session-key", target.removeprefix("session:")]
        if target == "current" and key:
            return ["--session-key", key]
        name = f"procclaw-{self._job.text('id') or _name(self._job)}"
        says = "a session of the job's own, which remembers its earlier runs; in OpenClaw each run is new"
        self._note(self._job, "sessionTarget", Fate.CHANGED, says)
        return ["--session-key", literal(re.sub(r"[^A-Za-z0-9_-]+", "-", name))]

    def _delivery(self, payload: Section) -> list[str]:
        delivery = self._job.section("delivery")
        if delivery is None:
            channel, to = payload.text("channel"), payload.text("to")
            payload.take("bestEffortDeliver")
            return self._deliver(channel, to, None) if payload.flag("deliver") else []
        mode = delivery.text("mode")
        if mode == "webhook":
            self._note(self._job, "delivery", Fate.DROPPED, "the answer is posted nowhere: it is in the job's output")
            return []
        route = (delivery.text("channel"), delivery.text("to"), delivery.text("accountId"))
        delivery.take("bestEffort")
        self._notes += delivery.dropped("the answer goes where the other fields say", prefix="delivery.")
        return self._deliver(*route) if mode == "announce" else []

    def _deliver(self, channel: str | None, to: str | None, account: str | None) -> list[str]:
        found = ["--deliver"]
        if channel in (None, "last") and to is None:
            self._note(self._job, "delivery", Fate.CHANGED, "the answer goes where the session was last talked to")
        for option, value in (("channel", None if channel == "last" else channel), ("to", to), ("account", account)):
            found += [f"--reply-{option}", literal(value)] if value else []
        return found

    def _command(self, payload: Section) -> dict[str, Any]:
        argv = payload.texts("argv")
        if not argv:
            raise Misfit(payload.line, "command: has no argv")
        if payload.text("input"):
            raise Misfit(payload.line_of("input"), "command: a job has no standard input; let it read a file")
        found: dict[str, Any] = {"cmd": [literal(word) for word in argv]}
        if folder := payload.text("cwd"):
            found["cwd"] = folder
        if env := {name: literal(value or "") for name, value in payload.pairs("env").items()}:
            found["env"] = env
        if seconds := payload.number("timeoutSeconds"):
            found["timeout"] = seconds
        if self._job.take("delivery") is not None:
            delivery = self._job.section("delivery")
            if delivery is not None and delivery.text("mode") != "none":
                self._note(self._job, "delivery", Fate.DROPPED, "its output is sent nowhere: it is in logs/")
        for key in ("sessionTarget", "sessionKey", "wakeMode", "agentId"):
            self._job.take(key)  # no session takes part in a command
        return found
