"""The command that proves on this machine what ProcClaw promises, and tells it promise by promise."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw import __version__
from procclaw.interface.console import duration, shown
from procclaw.model.clock import SystemClock

if TYPE_CHECKING:
    from procclaw.engine.selftest import Finding
    from procclaw.interface.cli import Context

REFUSED = 1
_BROKEN = "broken"
_COLOURS = {"holds": "green", _BROKEN: "red", "not checkable": "yellow"}


def selftest(context: "Context", options: Namespace) -> int:
    from procclaw.engine.selftest import SelfTest, interruptible

    console, clock = context.console, SystemClock()
    began = clock.monotonic()
    findings: list[Finding] = []
    with interruptible(), SelfTest(context.home_path, is_chaos=options.chaos) as test:
        width = max(map(len, test.promises()))
        if console.is_terminal and not console.is_json:
            console.say(f"in {shown(test.place)}, with Python {_python()}, on {test.kernel()}")
        for finding in test.findings(console.progress):
            console.end_progress()
            findings.append(finding)
            if not console.is_json:
                _tell(context, finding, width)
        kernel, place = test.kernel(), test.place
    console.end_progress()
    seconds = clock.monotonic() - began
    broken = [finding for finding in findings if finding.verdict == _BROKEN]
    if console.is_json:
        console.json(
            {
                "version": __version__,
                "python": _python(),
                "system": kernel,
                "place": place,
                "seconds": round(seconds, 3),
                "broken": len(broken),
                "promises": [{**each._asdict(), "seconds": round(each.seconds, 3)} for each in findings],
            }
        )
    elif console.is_terminal:
        console.say(_summary(findings, seconds))
    return REFUSED if broken else 0


def _python() -> str:
    return sys.version.split()[0]


def _tell(context: "Context", finding: "Finding", width: int) -> None:
    """A line at once: on a terminal in columns, in a pipe with tabs between."""
    console = context.console
    verdict, promise, detail = str(finding.verdict), finding.promise, shown(finding.detail)
    if console.is_terminal:
        longest = max(map(len, _COLOURS))
        console.say(f"{console.paint(verdict.ljust(longest), _COLOURS[verdict])}  {promise.ljust(width)}  {detail}")
    else:
        console.say(f"{verdict}\t{promise}\t{detail}")
    console.flush()


def _summary(findings: "list[Finding]", seconds: float) -> str:
    counts = {word: sum(finding.verdict == word for finding in findings) for word in _COLOURS}
    told = [f"{count} {'hold' if word == 'holds' and count != 1 else word}" for word, count in counts.items() if count]
    return f"{', '.join(told)}, in {duration(seconds)}"
