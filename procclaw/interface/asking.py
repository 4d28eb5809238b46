"""Asking for something to be done with jobs: start, stop, run, pause, schedule, revoke, trigger."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from procclaw.interface.console import coming, duration, local, shown, with_local_times
from procclaw.interface.jobs import LOOK_AGAIN
from procclaw.interface.times import moment_in
from procclaw.model.clock import after, iso
from procclaw.model.errors import ProcclawError, UsageError
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.records import Run, RunState
from procclaw.planning.views import View, has_succeeded

if TYPE_CHECKING:
    from procclaw.engine.asking import Patience
    from procclaw.engine.passes import OnWait
    from procclaw.interface.cli import Context

REFUSED = 1
_PROGRESS_AFTER_SECONDS = 0.5
_GOES_ON = "the daemon, or the next procclaw reconcile, goes on with it"


def stop(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.STOP, options.jobs, force=options.force, timeout=options.timeout)


def restart(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.RESTART, options.jobs, timeout=options.timeout)


def pause(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.PAUSE, options.jobs)


def resume(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.RESUME, options.jobs)


def unrevoke(context: "Context", options: Namespace) -> int:
    return _asked(context, IntentKind.UNREVOKE, options.jobs)


def _asked(
    context: "Context", kind: IntentKind, jobs: list[str], *, force: bool = False, timeout: float | None = None
) -> int:
    with watched(context, f"{kind} {', '.join(jobs)}") as on_wait:
        answers = context.operations.ask(kind, jobs, force=force, seconds=timeout, on_wait=on_wait)
    return told(context, answers)


@contextmanager
def watched(context: "Context", what: str, goes_on: str = _GOES_ON) -> Iterator["OnWait"]:
    """Show that `what` takes its time and what it waits for, and say how it goes on when a person is tired of that."""
    console = context.console

    def on_wait(seconds: float, waits: tuple[str, ...]) -> None:
        if seconds >= _PROGRESS_AFTER_SECONDS:
            why = f": {waits[0]}" if waits else ""
            console.progress(f"{what} ({int(seconds)} s){why}")

    try:
        yield on_wait
    except KeyboardInterrupt:
        console.complain(f"{what}: not waited for any longer; {goes_on}")
        raise
    finally:
        console.end_progress()


@contextmanager
def patient(context: "Context", what: str, seconds: float | None = None) -> Iterator["Patience"]:
    from procclaw.engine.asking import Patience

    with watched(context, what) as on_wait:
        yield Patience(seconds, on_wait)


def told(context: "Context", answers: list[Intent]) -> int:
    if context.console.is_json:
        views = [context.operations.answer(answer) for answer in answers]
        context.console.json(views[0] if len(views) == 1 else {"results": views})
    else:
        for answer in answers:
            _tell(context, answer)
    return 0 if all(map(has_succeeded, answers)) else REFUSED


def _tell(context: "Context", answer: Intent) -> None:
    if has_succeeded(answer):
        context.console.say(shown(f"{answer.job_id}: {with_local_times(answer.message)}"))
    elif answer.state is IntentState.REFUSED:
        context.console.complain(f"procclaw: {answer.message}")
    else:
        context.console.complain(f"{answer.job_id}: {answer.kind} is still being worked on; {_GOES_ON}")


# --- runs ---


def start(context: "Context", options: Namespace) -> int:
    return told(context, _start(context, IntentKind.START, options.jobs, options))


def run(context: "Context", options: Namespace) -> int:
    answers = _start(context, IntentKind.RUN, [options.job], options, key=options.key)
    run_id = answers[0].run_id
    waits = options.wait or options.until_final
    if not waits or answers[0].state is IntentState.REFUSED or run_id is None:
        return told(context, answers)
    return _told_of_end(context, options, run_id)


def _start(
    context: "Context", kind: IntentKind, jobs: list[str], options: Namespace, key: str | None = None
) -> list[Intent]:
    with patient(context, f"{kind} {', '.join(jobs)}", options.timeout) as patience:
        return context.asking.start(kind, jobs, dict(options.params), key=key, patience=patience)


def _told_of_end(context: "Context", options: Namespace, run_id: str) -> int:
    goes_on = f"the run goes on (procclaw runs show {run_id})"
    with watched(context, options.job, goes_on) as on_wait:
        number = None if options.until_final else 1
        finished = context.operations.wait_for_attempt(run_id, number, options.timeout, on_wait)
    view = context.operations.run_view(finished)
    if context.console.is_json:
        context.console.json(view)
    else:
        context.console.say(f"{options.job}: {_outcome(finished, view, is_unwatched=context.is_unwatched())}")
    return 0 if finished.state is RunState.SUCCEEDED else REFUSED


def _outcome(run: Run, view: View, *, is_unwatched: bool) -> str:
    """How the run ended, or its newest attempt that is over did if more are to follow."""
    if run.is_active:
        # The next one may have begun while this was put together.
        last = [attempt for attempt in view["attempts"] if attempt["reason"] is not None][-1]
        follows = f"attempt {last['number'] + 1} is running"
        if run.state is RunState.RETRYING:
            follows = f"attempt {run.attempts + 1} follows at {local(iso(run.not_before_at))}"
        hint = "; --until-final waits for it" + (f"; no daemon runs: {LOOK_AGAIN}" if is_unwatched else "")
        return f"attempt {last['number']} failed ({how_it_ended(last)}); {follows} (run {run.id}){hint}"
    took = duration(view["duration_seconds"]) or "no time"
    is_news = run.state is not RunState.SUCCEEDED
    why = (how_it_ended(view["attempts"][-1]) if view["attempts"] else how_it_ended(view)) if is_news else ""
    return f"{run.state} after {took}{f': {why}' if why else ''} (run {run.id})"


def how_it_ended(attempt: View) -> str:
    """How an attempt, or a run without one, ended, in words."""
    if attempt["detail"]:
        return shown(attempt["detail"])
    if attempt["reason"] == "exited" and attempt["exit_code"] is not None:
        return f"exit code {attempt['exit_code']}"
    if attempt["reason"] == "signalled" and attempt["signal"] is not None:
        return f"signal {attempt['signal']}"
    code = "" if attempt["exit_code"] is None else f", exit code {attempt['exit_code']}"
    return str(attempt["reason"]).replace("_", " ") + code


def trigger(context: "Context", options: Namespace) -> int:
    payload = None if options.payload is None else _payload(options.payload)
    with patient(context, f"trigger {options.job}", options.timeout) as patience:
        answer = context.asking.trigger(options.job, payload, dict(options.params), key=options.key, patience=patience)
    return told(context, [answer])


def _payload(text: str) -> bytes:
    """What is given as JSON itself, as the name of a file, or on stdin (`-`)."""
    from procclaw.engine.asking import LONGEST_PAYLOAD, check_payload

    if text == "-":
        return sys.stdin.buffer.read(LONGEST_PAYLOAD + 1)
    if not text.lstrip().startswith(("{", "[", '"')) and os.path.exists(text):
        try:
            with open(text, "rb") as file:
                return file.read(LONGEST_PAYLOAD + 1)
        except OSError as error:
            raise ProcclawError(f"{text}: {error.strerror}") from error
    payload = text.encode("utf-8", "surrogateescape")
    try:
        check_payload(payload)
    except UsageError as error:
        raise UsageError(f'"{text}" is no file, and {error}') from error
    return payload


# --- later, and not at all ---


def schedule(context: "Context", options: Namespace) -> int:
    ways = [options.at is not None, options.delay is not None, options.cancel]
    if sum(ways) > 1:
        raise UsageError("--at, --in and --cancel exclude each other")
    if not any(ways):
        if options.params:
            raise UsageError("-p needs --at or --in")
        return _planned(context, options.job)
    if options.job is None:
        raise UsageError("which job? procclaw schedule JOB --in 10m")
    if options.cancel:
        return _asked(context, IntentKind.CANCEL_ETA, [options.job])
    with patient(context, f"schedule {options.job}") as patience:
        at = (
            after(context.home.clock.now(), options.delay)
            if options.at is None
            else moment_in(options.at, context.operations.job_spec(options.job).timezone)
        )
        answer = context.asking.schedule(options.job, at, dict(options.params), patience)
    return told(context, [answer])


def _planned(context: "Context", job_id: str | None) -> int:
    view = context.reports.planned(job_id)
    if context.console.is_json:
        context.console.json(view)
        return 0
    now, is_terminal = context.home.clock.now(), context.console.is_terminal
    rows = [
        (
            each["job_id"],
            each["run_id"],
            coming(each["at"], now) if is_terminal else local(each["at"]),
            params_text(each["params"]),
            local(each["asked_at"]),
        )
        for each in view["planned"]
    ]
    context.console.table(("JOB", "RUN", "AT", "PARAMS", "ASKED"), rows)
    if not rows and is_terminal:
        context.console.say("nothing is planned")
    return 0


def params_text(params: View) -> str:
    return " ".join(f"{name}={value}" for name, value in params.items())


def revoke(context: "Context", options: Namespace) -> int:
    if options.expires is not None and options.until is not None:
        raise UsageError("--expires and --until exclude each other")
    until = None if options.expires is None else after(context.home.clock.now(), options.expires)
    if options.until is not None:
        until = moment_in(options.until, context.operations.job_spec(options.job).timezone)
    with patient(context, f"revoke {options.job}", options.timeout) as patience:
        answer = context.asking.revoke(options.job, until, terminates=options.terminate, patience=patience)
    return told(context, [answer])
