"""The dead letter queue: runs that have failed for good, to be looked at, put in again or thrown away."""

from argparse import Namespace
from datetime import timedelta
from typing import TYPE_CHECKING

from procclaw.interface.asking import REFUSED, params_text, patient, told
from procclaw.interface.console import local
from procclaw.interface.history import moment_cell, print_attempts
from procclaw.model.errors import UsageError
from procclaw.planning.views import View, has_succeeded

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def entries(context: "Context", options: Namespace) -> int:
    view = context.reports.dead_letters(options.job, options.limit)
    if context.console.is_json:
        context.console.json(view)
        return 0
    header = ("ID", "JOB", "RUN", "ADDED", "ATTEMPTS", "EXIT", "PUT IN AGAIN", "REASON")
    rows = [
        (
            each["id"],
            each["job_id"],
            each["run_id"],
            moment_cell(context, each["added_at"]),
            each["attempts"],
            each["exit_code"],
            each["reinjected_run_id"],
            _reason(each),
        )
        for each in view["entries"]
    ]
    context.console.table(header, rows, cut="REASON", spare=("ATTEMPTS",))
    context.console.say_what_is_left(len(rows), view["total"])
    if not rows and context.console.is_terminal:
        context.console.say("the dead letter queue is empty")
    return 0


def _reason(entry: View) -> str:
    words = str(entry["reason"]).replace("_", " ")
    return f"{entry['detail']}; {words}" if entry["detail"] else words


def show(context: "Context", options: Namespace) -> int:
    view = context.reports.dead_letter_view(options.id)
    if context.console.is_json:
        context.console.json(view)
        return 0
    run = view["run"] or {"trigger": None, "params": {}, "queued_at": None, "attempts": []}
    context.console.fields(
        (
            ("entry", view["id"]),
            ("job", view["job_id"]),
            ("reason", _reason(view)),
            ("added", local(view["added_at"])),
            ("run", view["run_id"]),
            ("trigger", run["trigger"]),
            ("params", params_text(run["params"])),
            ("asked for", local(run["queued_at"])),
            ("put in again as", view["reinjected_run_id"]),
        )
    )
    print_attempts(context, run["attempts"])
    return 0


def reinject(context: "Context", options: Namespace) -> int:
    with patient(context, f"dlq reinject {options.id}", options.timeout) as patience:
        answer = context.asking.reinject(options.id, patience)
    return told(context, [answer])


def purge(context: "Context", options: Namespace) -> int:
    from procclaw.engine.asking import Selection

    has_filter = options.job is not None or options.older_than is not None
    if sum((bool(options.ids), has_filter, options.all)) != 1:
        raise UsageError("which? IDs, or --job and --older-than, or --all")
    before = None
    if options.older_than is not None:
        before = context.home.clock.now() - timedelta(seconds=options.older_than)
    with patient(context, "dlq purge") as patience:
        count, answers = context.asking.purge(Selection(tuple(options.ids), options.job, before), patience)
    is_done = all(map(has_succeeded, answers))
    message = f"purged {count} {'entry' if count == 1 else 'entries'}" if count or answers else "nothing to purge"
    if context.console.is_json:
        context.console.json({"success": is_done, "message": message, "purged": count})
        return 0 if is_done else REFUSED
    context.console.say(message)
    for answer in answers:
        if not has_succeeded(answer):
            context.console.complain(f"{answer.job_id}: {answer.message or 'still being worked on'}")
    return 0 if is_done else REFUSED
