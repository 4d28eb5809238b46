"""OpenClaw from the command line: install the skill, say how it stands, send a test message."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw import __version__
from procclaw.interface.asking import REFUSED

if TYPE_CHECKING:
    from procclaw.engine.openclaw import Companion
    from procclaw.interface.cli import Context


def skill_text() -> str:
    """SKILL.md as this version has it."""
    from pkgutil import get_data

    text = get_data("procclaw.interface", "SKILL.md")
    assert text is not None
    return text.decode().replace("ProcClaw VERSION", f"ProcClaw {__version__}")


def _companion(context: "Context") -> "Companion":
    from procclaw.engine.openclaw import Companion

    # What was saved a moment ago counts, with or without a daemon.
    return Companion(context.home, context.operations.spec_that(lambda _: not context.operations.has_unread_files()))


def install_skill(context: "Context", options: Namespace) -> int:
    installed = _companion(context).install_skill(skill_text())
    if context.console.is_json:
        by = "file" if installed.is_by_file else "openclaw"
        context.console.json(
            {"success": True, "path": installed.path, "by": by, "openclaw_problem": installed.trouble or None}
        )
        return 0
    if installed.is_by_file:
        context.console.complain(f"OpenClaw could not be asked to: {installed.trouble}")
    context.console.say(f"installed the skill in {installed.path}")
    context.console.say("agents see it from their next turn on; procclaw openclaw status says whether they do")
    return 0


def status(context: "Context", options: Namespace) -> int:
    view = _companion(context).status(skill_text())
    skill, alerts = view["skill"], view["alerts"]
    is_well = view["problem"] is None and skill["visible"] is True
    if context.console.is_json:
        context.console.json(view)
        return 0 if is_well else REFUSED
    stand = {True: "yes", False: "no", None: "only OpenClaw can tell"}
    pairs = [("openclaw", view["command"] if view["problem"] is None else view["problem"]), ("skill", skill["path"])]
    if skill["problem"] is not None:
        pairs.append(("problem", skill["problem"]))
    if skill["path"] is not None:
        pairs += [
            ("of this version", stand[skill["is_current"]]),
            ("eligible", stand[skill["eligible"]]),
            ("agents see it", stand[skill["visible"]]),
            ("missing", ", ".join(skill["missing"]) or None),
        ]
        pairs += [(word, "yes, in OpenClaw's configuration") for word in ("disabled", "blocked") if skill[word]]
    pairs.append(("alerts go to", ", ".join(alerts["channels"]) or "nobody"))
    pairs.append(("fallback", "yes" if alerts["fallback"] else "none"))
    context.console.fields(pairs)
    if skill["path"] is None or not skill["is_current"]:
        context.console.complain("procclaw openclaw install-skill installs the skill of this version")
    return 0 if is_well else REFUSED


def test_alert(context: "Context", options: Namespace) -> int:
    from procclaw.model.outside import Sent

    results = _companion(context).test_alert(options.channel)
    is_well = all(result.outcome is Sent.DELIVERED for _, result in results)
    if context.console.is_json:
        sent = [
            {"place": place, "outcome": str(result.outcome), "detail": result.detail or None}
            for place, result in results
        ]
        context.console.json({"success": is_well, "messages": sent})
    else:
        context.console.table(
            ("CHANNEL", "OUTCOME", "DETAIL"), [(place, result.outcome, result.detail) for place, result in results]
        )
    return 0 if is_well else REFUSED
