"""The page of a day in OpenClaw's memory: what its agents should remember of the jobs, rendered from the audit trail.

Only what changed for the worse or the better, what people did and what was declared, not every start and end. What a
job printed is never in it: an agent may make durable memory of what it reads here. Words that come from elsewhere, such
as a reason in detail, are cut, and cannot be markup. The page is small enough to be taken in whole.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, tzinfo
from typing import NamedTuple

from procclaw.model.alerts import AlertKind
from procclaw.model.records import Event

MOST_BYTES = 14_000
"""OpenClaw drops a page of more than 16,384 bytes."""
_MOST_NAMED = 20
_MOST_CHARACTERS = 160


class _Entry(NamedTuple):
    at: datetime
    who: str
    what: str
    see: str
    """A command that tells more; of the newest, where several are one line."""


def days(events: Iterable[Event], zone: tzinfo) -> tuple[date, ...]:
    """The days on which these happened, in order."""
    return tuple(sorted({event.at.astimezone(zone).date() for event in events}))


def page(events: Sequence[Event], day: date, zone: tzinfo) -> str | None:
    """Of that day, from the newest events there are, oldest first; None: nothing is worth remembering."""
    entries = [entry for event in events if event.at.astimezone(zone).date() == day and (entry := _entry(event))]
    if not entries:
        return None
    failing = _failing(events, day, zone)
    named = ", ".join(f"`{job}`" for job in failing[:_MOST_NAMED])
    more = f" and {len(failing) - _MOST_NAMED} more" if len(failing) > _MOST_NAMED else ""
    head = [
        f"# ProcClaw on {day:%Y-%m-%d}",
        "",
        "Written by ProcClaw, the process manager; times are of " + str(zone) + ". Ask `procclaw status JOB` for now.",
        "",
        f"Failed and not well again: {named}{more}." if failing else "Whatever failed is well again.",
        "",
    ]
    lines, room = [], MOST_BYTES - len("\n".join(head).encode())
    for line in _lines(entries, zone):
        room -= len(line.encode()) + 1
        if room < 100:
            lines.append("- earlier ones are left out: `procclaw events`")
            break
        lines.append(line)
    return "\n".join((*head, *lines, ""))


def _failing(events: Sequence[Event], day: date, zone: tzinfo) -> list[str]:
    ended: dict[str, str] = {}
    for event in events:
        if event.kind == "run finished" and event.job_id and event.at.astimezone(zone).date() <= day:
            state = dict(event.fields)["state"]
            if state in ("failed", "succeeded"):
                ended[event.job_id] = state
        elif event.kind == "job removed" and event.job_id:
            ended.pop(event.job_id, None)
    return [job for job, state in ended.items() if state == "failed"]


def _lines(entries: Sequence[_Entry], zone: tzinfo) -> Iterable[str]:
    """Newest first; what happened over and over is one line."""
    counts: dict[tuple[str, str], list[_Entry]] = {}
    for entry in reversed(entries):
        counts.setdefault((entry.who, entry.what), []).append(entry)
    for same in counts.values():
        newest, times = same[0], f" (x{len(same)}, since {same[-1].at.astimezone(zone):%H:%M})" if len(same) > 1 else ""
        see = f" - see `{newest.see}`" if newest.see else ""
        yield f"- {newest.at.astimezone(zone):%H:%M} {newest.who}{newest.what}{times}{see}"


def _entry(event: Event) -> _Entry | None:
    fields = dict(event.fields)
    told = _told(event.kind, fields, event.job_id or "")
    if told is None:
        return None
    who = "" if event.job_id is None else f"job `{event.job_id}` "
    return _Entry(event.at, who, *told)


def _told(kind: str, fields: dict[str, str], job: str) -> tuple[str, str] | None:
    """What happened, in words, and what command tells more."""
    detail = _quoted(fields.get("detail", ""))
    match kind:
        case "run finished" if fields.get("state") == "failed":
            code = f" exit {fields['code']}" if "code" in fields else ""
            # "exit code 3" in full is no more than that.
            why = "" if code and fields.get("detail", "").startswith("exit code ") else detail
            return f"FAILED{code}{why}", f"procclaw logs {job} --run {fields.get('run', '')}"
        case "alert raised" if fields.get("alert") == AlertKind.RECOVERED:
            return "RECOVERED", f"procclaw runs {job}"
        case "alert raised" if fields.get("alert") in (AlertKind.OVERDUE, AlertKind.LIMIT):
            return fields["alert"].upper(), f"procclaw why {job}"
        case "health changed":
            return f"is {fields['health']}{detail}", f"procclaw status {job}"
        case "slot missed":
            return f"MISSED {fields['slots']} due time(s)", f"procclaw ledger {job}"
        case "hold set":
            done = {"stop": "STOPPED", "pause": "PAUSED", "revoke": "REVOKED"}[fields["hold"]]
            return f"{done} by{_quoted(fields.get('by', '')) or ' somebody'}", f"procclaw why {job}" if job else ""
        case "hold lifted":
            return f"let go again ({fields['hold']})", ""
        case "job removed":
            return "removed from the configuration", ""
        case "configuration loaded":
            return f"configuration loaded: {fields['jobs']} jobs", "procclaw list"
        case _:
            return None


def _quoted(text: str) -> str:
    """Foreign words as code, which they cannot leave; empty for none."""
    line = " ".join("".join(char if char.isprintable() and char != "`" else " " for char in text).split())
    # OpenClaw takes orders from comments in its memory.
    line = line.replace("<", "‹").replace(">", "›")
    if len(line) > _MOST_CHARACTERS:
        line = line[: _MOST_CHARACTERS - 1] + "…"
    return f" `{line}`" if line else ""
