"""Asking for something to be done with jobs: start, stop, restart, run, pause, resume."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface.console import duration
from procclaw.model.state import Intent, IntentKind, IntentState, Run, RunState
from procclaw.planning.views import View, intent_view

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_REFUSED = 1
_PROGRESS_AFTER_SECONDS = 0.5


def start(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.START, options.jobs, timeout=options.timeout)


def stop(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.STOP, options.jobs, force=options.force, timeout=options.timeout)


def restart(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.RESTART, options.jobs, timeout=options.timeout)


def pause(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.PAUSE, options.jobs)


def resume(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.RESUME, options.jobs)


def _ask(
    context: "Context", kind: IntentKind, jobs: list[str], *, force: bool = False, timeout: float | None = None
) -> list[Intent]:
    console = context.console

    def on_wait(seconds: float, waits: tuple[str, ...]) -> None:
        if seconds >= _PROGRESS_AFTER_SECONDS:
            what = f": {waits[0]}" if waits else ""
            console.progress(f"{kind} {', '.join(jobs)}: {duration(seconds)}{what}")

    try:
        return context.operations.ask(kind, jobs, force=force, seconds=timeout, on_wait=on_wait)
    finally:
        console.end_progress()


def _asked(
    context: "Context", kind: IntentKind, jobs: list[str], *, force: bool = False, timeout: float | None = None
) -> int:
    answers = _ask(context, kind, jobs, force=force, timeout=timeout)
    if context.console.is_json:
        told = [_view(context, answer) for answer in answers]
        context.console.json(told[0] if len(told) == 1 else {"results": told})
    else:
        for answer in answers:
            _tell(context, answer)
    return 0 if all(answer.state is IntentState.DONE for answer in answers) else _REFUSED


def _view(context: "Context", answer: Intent) -> View:
    attempts = context.home.store.attempts(answer.run_id) if answer.run_id else ()
    pid = next((attempt.shown_pid for attempt in reversed(attempts) if attempt.ended_at is None), None)
    return intent_view(answer, pid)


def _tell(context: "Context", answer: Intent) -> None:
    match answer.state:
        case IntentState.DONE:
            context.console.say(f"{answer.job_id}: {answer.message}")
        case IntentState.REFUSED:
            context.console.complain(f"procclaw: {answer.message}")
        case _:
            context.console.complain(f"{answer.job_id}: {answer.kind} is still being worked on")


def run(context: "Context", options: Namespace) -> int:
    waits = options.wait or options.until_final
    if not waits:
        return _asked(context, IntentKind.RUN, [options.job], timeout=options.timeout)
    [answer] = _ask(context, IntentKind.RUN, [options.job], timeout=options.timeout)
    if answer.state is IntentState.REFUSED or answer.run_id is None:
        _tell(context, answer)
        return _REFUSED
    number = None if options.until_final else 1
    finished = context.operations.wait_for_attempt(answer.run_id, number, options.timeout)
    view = context.operations.run_view(finished)
    if context.console.is_json:
        context.console.json(view)
    else:
        context.console.say(f"{options.job}: {_outcome(finished, view)}")
    return 0 if finished.state is RunState.SUCCEEDED else _REFUSED


def _outcome(run: Run, view: View) -> str:
    took = duration(view["duration_seconds"])
    code = "" if run.exit_code is None else f", exit code {run.exit_code}"
    if run.state is RunState.RETRYING:
        why = str(view["attempts"][-1]["reason"]).replace("_", " ")
        return f"attempt {run.attempts} failed ({why}{code}); the next is at {run.not_before_at:%H:%M:%SZ}"
    return f"{run.state} after {took}{code} (run {run.id})"
