"""What commands can be told: the arguments that several of them share, and how a text becomes what one means."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any, NamedTuple

from procclaw.model.clock import parse_span

_LONGEST_SPAN_SECONDS = 3660 * 86_400
"""Ten years; what is meant to be further off is a date."""


class Argument(NamedTuple):
    names: tuple[str, ...]
    options: dict[str, Any]
    completes: str = ""
    """What a shell may offer for it, where it has no choices: a kind that `completion` knows."""


def argument(*names: str, completes: str = "", **options: object) -> Argument:
    return Argument(names, options, completes)


def at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f'"{text}" is not a whole number from {least} on')
        return int(text)

    return number


def seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise ArgumentTypeError(f'"{text}" is not a number of seconds')
    return found


def positive_seconds(text: str) -> float:
    found = seconds(text)
    if not found:
        raise ArgumentTypeError(f'"{text}" is not more than no time')
    return found


def span(text: str) -> float:
    """Seconds of `90s`, `15m`, `2h`, `1d`."""
    try:
        found = parse_span(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if found > _LONGEST_SPAN_SECONDS:
        raise ArgumentTypeError(f'"{text}" is more than ten years')
    return found


def span_or_seconds(text: str) -> float:
    return span(text) if text[-1:].isalpha() else seconds(text)


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f'"{text}" is not of the form NAME=VALUE')
    return name, value


JOB = argument("job", completes="job", metavar="JOB", help="id of a job")
SECRET = argument("name", completes="secret", metavar="NAME", help="name of a secret")
JOBS = argument("jobs", completes="job", metavar="JOB", nargs="+", help="ids of jobs")
ONLY_JOB = argument("job", completes="job", metavar="JOB", nargs="?", help="only of this job")
RUN = argument("run", completes="run", metavar="RUN", help="id of a run, or the beginning of one")
FOLLOW = argument("-f", "--follow", action="store_true", help="go on printing what comes")
LINES = argument(
    "-n", "--lines", type=at_least(0), default=100, metavar="N", help="the last N lines of each log (default 100)"
)
LIMIT = argument("-n", "--limit", type=at_least(1), default=50, metavar="N", help="at most this many (default 50)")
RUNS = (ONLY_JOB, argument("--state", completes="state", help="only runs in this state"), LIMIT)
TIMEOUT = argument(
    "--timeout", type=seconds, metavar="SECONDS", help="wait at most this long (default: as long as it takes)"
)
PARAMS = argument(
    "-p",
    "--param",
    completes="param",
    action="append",
    default=[],
    dest="params",
    type=pair,
    metavar="NAME=VALUE",
    help="a param that the job declares; again for another one",
)
KEY = argument("--key", metavar="KEY", help="asking again with this key within 24 h asks for nothing new")

_TYPES = ("manual", "continuous", "scheduled", "oneshot")
FILTERS = (
    argument("--status", completes="status", help="only jobs in this status"),
    argument("--type", choices=_TYPES, help="only jobs of this type"),
    argument(
        "--tag", action="append", default=[], metavar="TAG", help="only jobs with this tag; again: and with this one"
    ),
    argument("--enabled", action="store_true", default=None, help="only enabled jobs"),
    argument("-q", "--query", metavar="TEXT", help="only jobs with this text in id, name, description or a tag"),
)

WATCH = argument(
    "--watch",
    nargs="?",
    const=2.0,
    type=positive_seconds,
    metavar="SECONDS",
    help="keep the table up to date until Ctrl-C: at every change, and every SECONDS (default 2)",
)

DEAD_LETTER = argument("id", completes="entry", type=at_least(1), metavar="ID", help="number of an entry")
WORKFLOW_RUN = argument(
    "run", completes="workflow run", metavar="RUN", help="id of a workflow run, or the beginning of one"
)
TO_THE_END = argument("--wait", action="store_true", help="follow it to its end; exit 1 if it did not succeed")
COMPOSED = (
    argument(
        "--on-failure",
        choices=("stop", "continue", "retry"),
        default="stop",
        help="what follows when a job of it has failed (default stop)",
    ),
    argument("--timeout", type=span_or_seconds, metavar="SPAN", help="how long the whole may take: 90s, 15m, 2h"),
    argument(
        "--no-pass-results",
        action="store_false",
        dest="pass_results",
        help="keep the results of earlier steps from later ones",
    ),
    TO_THE_END,
)
SIDE_BY_SIDE = argument("--max-parallel", type=at_least(1), metavar="N", help="at most N of its jobs at one time")
