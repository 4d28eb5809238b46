"""`procclaw doctor`: what is wrong with this set-up, worst first, and what to do about it."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface.asking import REFUSED

if TYPE_CHECKING:
    from procclaw.engine.checkup.finding import Finding
    from procclaw.interface.cli import Context


def doctor(context: "Context", options: Namespace) -> int:
    from procclaw.engine.checkup import check_up
    from procclaw.engine.checkup.finding import Level

    context.console.progress("looking")
    findings = check_up(context.home_path)
    context.console.end_progress()
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    if context.console.is_json:
        told = [each._asdict() | {"level": str(each.level)} for each in findings]
        totals = {"problems": counts[Level.PROBLEM], "warnings": counts[Level.WARNING]}
        context.console.json({"healthy": not counts[Level.PROBLEM], **totals, "findings": told})
    elif context.console.is_terminal:
        rows = [(str(each.level), each.thing, _sentence(each)) for each in findings]
        context.console.table(("STATE", "THING", "WHAT, AND WHAT NOW"), rows)
    else:
        context.console.table((), findings)
    return REFUSED if counts[Level.PROBLEM] else 0


def _sentence(finding: "Finding") -> str:
    return finding.found if finding.remedy is None else f"{finding.found} -> {finding.remedy}"
