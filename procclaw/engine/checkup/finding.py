"""What a check-up finds: one thing, how it is, and what to do about it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from procclaw.model.errors import ProcclawError


class Level(StrEnum):
    """Worst first."""

    PROBLEM = "problem"
    WARNING = "warning"
    OK = "ok"


class Finding(NamedTuple):
    level: Level
    thing: str
    found: str
    remedy: str | None = None
    """The command to give, or what to change; None where there is nothing to do."""


MOST_TOLD = 10
"""Of what may be so a hundred times over."""


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more


def ok(thing: str, found: str) -> Finding:
    return Finding(Level.OK, thing, found)


def warning(thing: str, found: str, remedy: str | None) -> Finding:
    return Finding(Level.WARNING, thing, found, remedy)


def problem(thing: str, found: str, remedy: str | None) -> Finding:
    return Finding(Level.PROBLEM, thing, found, remedy)


def problem_told(thing: str, error: ProcclawError) -> Finding:
    """Our errors say what happened and then, after a semicolon, what now."""
    found, _, remedy = str(error).partition("; ")
    return problem(thing, found, remedy or None)
