"""Asking for something to be done with jobs: start, stop, restart, run, pause, resume."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface.console import duration, local, shown
from procclaw.model.clock import iso
from procclaw.model.state import Intent, IntentKind, IntentState, Run, RunState
from procclaw.planning.views import View, intent_view

if TYPE_CHECKING:
    from procclaw.interface.cli import Context

_REFUSED = 1
_PROGRESS_AFTER_SECONDS = 0.5
_GOES_ON = "the daemon, or the next procclaw reconcile, goes on with it"


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
            console.progress(f"{kind} {', '.join(jobs)} ({int(seconds)} s){what}")

    try:
        return context.operations.ask(kind, jobs, force=force, seconds=timeout, on_wait=on_wait)
    except KeyboardInterrupt:
        console.complain(f"{kind} {', '.join(jobs)}: not waited for any longer; {_GOES_ON}")
        raise
    finally:
        console.end_progress()


def _asked(
    context: "Context", kind: IntentKind, jobs: list[str], *, force: bool = False, timeout: float | None = None
) -> int:
    return _told(context, _ask(context, kind, jobs, force=force, timeout=timeout))


def _told(context: "Context", answers: list[Intent]) -> int:
    if context.console.is_json:
        told = [_view(context, answer) for answer in answers]
        context.console.json(told[0] if len(told) == 1 else {"results": told})
    else:
        for answer in answers:
            _tell(context, answer)
    return 0 if all(answer.state is IntentState.DONE for answer in answers) else _REFUSED


def _view(context: "Context", answer: Intent) -> View:
    attempts = context.home.store.attempts(answer.run_id) if answer.run_id else ()
    pid = next((attempt.job_pid for attempt in reversed(attempts) if attempt.ended_at is None), None)
    return intent_view(answer, pid)


def _tell(context: "Context", answer: Intent) -> None:
    match answer.state:
        case IntentState.DONE:
            context.console.say(shown(f"{answer.job_id}: {answer.message}"))
        case IntentState.REFUSED:
            context.console.complain(f"procclaw: {answer.message}")
        case _:
            context.console.complain(f"{answer.job_id}: {answer.kind} is still being worked on; {_GOES_ON}")


def run(context: "Context", options: Namespace) -> int:
    waits = options.wait or options.until_final
    if not waits:
        return _asked(context, IntentKind.RUN, [options.job], timeout=options.timeout)
    answers = _ask(context, IntentKind.RUN, [options.job], timeout=options.timeout)
    run_id = answers[0].run_id
    if answers[0].state is IntentState.REFUSED or run_id is None:
        return _told(context, answers)
    try:
        finished = context.operations.wait_for_attempt(run_id, None if options.until_final else 1, options.timeout)
    except KeyboardInterrupt:
        context.console.complain(
            f"{options.job}: not waited for any longer, the run goes on (procclaw runs show {run_id})"
        )
        raise
    view = context.operations.run_view(finished)
    if context.console.is_json:
        context.console.json(view)
    else:
        context.console.say(f"{options.job}: {_outcome(finished, view)}")
    return 0 if finished.state is RunState.SUCCEEDED else _REFUSED


def _outcome(run: Run, view: View) -> str:
    """How the run ended, or its first attempt did if more are to follow."""
    if run.is_active:
        first = view["attempts"][0]
        follows = f"attempt {len(view['attempts'])} is running"
        if run.state is RunState.RETRYING:
            follows = f"attempt {run.attempts + 1} follows at {local(iso(run.not_before_at))}"
        return f"attempt 1 failed ({_how(first)}); {follows} (run {run.id})"
    took = duration(view["duration_seconds"]) or "no time"
    is_news = run.state is not RunState.SUCCEEDED and view["attempts"]
    why = f": {_how(view['attempts'][-1])}" if is_news else ""
    return f"{run.state} after {took}{why} (run {run.id})"


def _how(attempt: View) -> str:
    """How an attempt ended, in words."""
    if attempt["detail"]:
        return shown(attempt["detail"])
    if attempt["reason"] == "exited" and attempt["exit_code"] is not None:
        return f"exit code {attempt['exit_code']}"
    if attempt["reason"] == "signalled" and attempt["signal"] is not None:
        return f"signal {attempt['signal']}"
    code = "" if attempt["exit_code"] is None else f", exit code {attempt['exit_code']}"
    return str(attempt["reason"]).replace("_", " ") + code
