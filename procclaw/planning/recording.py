"""What a cycle decided and all that this followed from, as one compact text: for `replay`, years later or a minute.

The configuration is not in it, only named: it is the same for many cycles. Of the jobs it has those that made a
difference: in a home of hundreds most are at rest. No secret is in it, because none is in a state: a secret is read at
the start of a process and goes nowhere else.
"""

import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from procclaw.model.intents import Intent
from procclaw.model.plain import from_plain, to_plain
from procclaw.model.records import NO_JOBS, WORKFLOWS, Attempt, Cursor, CycleRecord, Health, Run, Slots, Usage
from procclaw.model.rows import Write
from procclaw.model.spec import Spec
from procclaw.model.state import State
from procclaw.planning.actions import Check, Effect, Plan, Relaunch, Signal, Start
from procclaw.planning.plan import merged
from procclaw.planning.workflows import are_concerned, with_steps

FORMAT = 1
"""Another number when what is written under a name comes to mean something else; a new field needs none."""

LONGEST_BYTES = 4 * 1024 * 1024
"""Of one cycle: about 20,000 jobs. What is longer is not kept, or a few of them would be all there is room for."""

_QUICK = 1
"""zlib's level: 6 takes three times as long for a fifth less."""


class Cause(StrEnum):
    """What made somebody look."""

    BEGAN = "began"
    """A daemon began its work."""
    PASS = "pass"
    """Somebody made a pass of their own: a command without a daemon, a `reconcile`."""
    EXIT = "exit"
    TIME = "time"
    """An earlier cycle said when to look again."""
    REQUEST = "request"
    NEWS = "news"
    """Something has come of a health check, or of an alert."""
    FILES = "files"
    """A file of the home was saved."""
    CLOCK = "clock"
    """It was set, or the machine slept."""
    SIGNAL = "signal"
    RESYNC = "resync"
    """Everything is looked at now and then."""


class Because(NamedTuple):
    cause: Cause
    jobs: tuple[str, ...] = ()
    """Which it was about; empty: all, or none in particular."""


class Recorded(NamedTuple):
    """A decision, and what it followed from."""

    now: datetime
    spec_hash: str
    because: tuple[Because, ...]
    acts_on: frozenset[str] | None
    asked: frozenset[str] | None
    judges_slots: bool
    state: State
    decided: Plan
    at_rest: int = 0
    """How many more jobs the cycle took into account, which made no difference and are not in `state`."""


class Unreadable(Exception):
    """It was recorded by a version that knew other things."""


def packed(recorded: Recorded) -> bytes:
    plain = {"format": FORMAT, **to_plain(Recorded, recorded)}
    return zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), _QUICK)


def unpacked(body: bytes) -> Recorded:
    """Raises Unreadable."""
    try:
        plain = json.loads(zlib.decompress(body))
        if plain["format"] != FORMAT:
            raise Unreadable(f"it is written in format {plain['format']}, and this version reads {FORMAT}")
        found: Recorded = from_plain(Recorded, plain)
    except (zlib.error, ValueError, TypeError, KeyError, OverflowError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    return found


def record_of(recorded: Recorded) -> CycleRecord | None:
    """What is kept of the cycle; None: there is too much of it."""
    body = packed(recorded)
    if len(body) > LONGEST_BYTES:
        return None
    runs = tuple(dict.fromkeys(_runs(recorded.decided)))
    return CycleRecord(recorded.now, recorded.spec_hash, runs, body)


def slimmed(recorded: Recorded, spec: Spec, by_job: Mapping[str, Plan]) -> Recorded:
    """Without the jobs at rest that nothing was decided about and that no other depends upon. `by_job` is the decision,
    which is left with what is about the others.
    """
    state, acts_on = recorded.state, recorded.acts_on
    matter = {name for name, job in state.jobs.items() if job.active or job.intents or name in NO_JOBS}
    matter |= {name for name, one in by_job.items() if one.waits or not one.is_idle}
    matter |= {job_id for because in recorded.because for job_id in because.jobs}
    if are_concerned(state, acts_on):
        matter |= with_steps(state, frozenset({WORKFLOWS}))
    kept = _with_dependencies(spec, matter)
    jobs = {name: job for name, job in state.jobs.items() if name in kept}
    told = {about: at for about, at in state.last_told.items() if about[0] in kept}
    return recorded._replace(
        state=state._replace(jobs=jobs, last_told=told),
        acts_on=None if acts_on is None else acts_on & kept,
        decided=merged(one for name, one in by_job.items() if name in kept),
        at_rest=len(state.jobs) - len(jobs),
    )


def _with_dependencies(spec: Spec, jobs: Collection[str]) -> frozenset[str]:
    found, left = set(jobs), list(jobs)
    while left:
        job = spec.jobs.get(left.pop())
        new = {each.job for each in job.depends_on} - found if job is not None else set()
        found |= new
        left += new
    return frozenset(found)


def is_worth_it(decided: Plan) -> bool:
    """Whether anything was decided that somebody may ask about: that a check is due and finds all as it was is not.

    Checks and measurements come round every few seconds and would leave no room for anything else.
    """
    return any(not isinstance(effect, Check) for effect in decided.effects) or any(map(_is_news, decided.writes))


def _is_news(write: Write) -> bool:
    match write:
        case Cursor():
            return False
        case Health():
            return write.since == write.checked_at
        case Usage():
            return write.over_since == write.measured_at
        case _:
            return True


def _runs(decided: Plan) -> Iterator[str]:
    """The runs that something is decided about, if only that they wait."""
    for write in decided.writes:
        match write:
            case Run():
                yield write.id
            case Attempt():
                yield write.run_id
            case Slots() | Intent() if write.run_id is not None:
                yield write.run_id
            case _:
                pass
    for effect in decided.effects:
        run_id = run_of(effect)
        if run_id is not None:
            yield run_id
    for wait in decided.waits:
        if wait.run_id is not None:
            yield wait.run_id


def job_of(effect: Effect) -> str:
    return effect.attempt.job_id if isinstance(effect, Relaunch | Signal) else effect.job_id


def run_of(effect: Effect) -> str | None:
    match effect:
        case Start():
            return effect.run_id
        case Relaunch() | Signal():
            return effect.attempt.run_id
        case _:
            return None
