"""The command that proves on this machine what ProcClaw promises, and tells it promise by promise."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw import __version__
from procclaw.interface.asking import REFUSED
from procclaw.interface.console import Console, duration, shown
from procclaw.model.clock import SystemClock

if TYPE_CHECKING:
    from procclaw.engine.selftest import Finding
    from procclaw.interface.cli import Context

_COLOURS = {"holds": "green", "broken": "red", "not_checkable": "yellow"}
_IN_SUMMARY = {"holds": "hold", "broken": "broken", "not_checkable": "not checkable here"}
_DETAIL_COLUMNS = 50
"""With less room than this behind the promises, details get lines of their own."""


def selftest(context: "Context", options: Namespace) -> int:
    from procclaw.engine.selftest import scratch

    console, clock = context.console, SystemClock()
    began = clock.monotonic()
    findings: list[Finding] = []
    with scratch(context.home_path, is_chaos=options.chaos) as test:
        place, system, width = test.place, test.system(), max(map(len, test.promises()))
        if console.is_terminal and not console.is_json:
            console.say(f"ProcClaw v{__version__}, Python {_python()}, {system}, in {shown(place)}")
        for finding in test.findings(console.progress):
            console.end_progress()
            findings.append(finding)
            if not console.is_json:
                _tell(console, finding, width)
    seconds = clock.monotonic() - began
    broken = sum(finding.verdict == "broken" for finding in findings)
    if console.is_json:
        promises = [{**each._asdict(), "seconds": round(each.seconds, 3)} for each in findings]
        console.json(
            {
                "version": __version__,
                "python": _python(),
                "system": system,
                "place": place,
                "seconds": round(seconds, 3),
                "broken": broken,
                "promises": promises,
            }
        )
    elif console.is_terminal:
        console.say(_summary(findings, seconds))
    return REFUSED if broken else 0


def _python() -> str:
    return sys.version.split()[0]


def _tell(console: Console, finding: "Finding", width: int) -> None:
    """Promise by promise, as each is known: in columns on a terminal that is wide enough; in a pipe with tabs."""
    verdict, detail = finding.verdict.replace("_", " "), shown(finding.detail)
    if not console.is_terminal:
        console.say(f"{verdict}\t{finding.promise}\t{detail}")
    else:
        longest = max(map(len, _COLOURS))
        word = console.paint(verdict.ljust(longest), _COLOURS[finding.verdict])
        is_wide = console.size()[0] >= longest + width + _DETAIL_COLUMNS
        between = f"{finding.promise.ljust(width)}  " if is_wide else f"{finding.promise}\n{' ' * longest}  "
        console.say(f"{word}  {between}{console.paint(detail, 'grey')}")
    console.flush()


def _summary(findings: "list[Finding]", seconds: float) -> str:
    counts = {word: sum(finding.verdict == word for finding in findings) for word in _COLOURS}
    told = [f"{count} {_IN_SUMMARY[word]}" for word, count in counts.items() if count]
    return f"{', '.join(told)}, in {duration(seconds)}"
