"""`procclaw up`: runs what is there in the foreground, and stops it in order when it is interrupted.

The same loop as the daemon's runs in this process, so all that holds there holds here: whoever kills us kills no job,
and the next `up` finds them running. With --detach a daemon takes the home over.
"""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from procclaw.engine import foreground, supervision
from procclaw.engine.files import declared, prepare_home
from procclaw.engine.operations import Filter
from procclaw.interface.asking import how_it_ended, watched
from procclaw.interface.up.bringup import BringUp, bring_up_of
from procclaw.interface.up.found import JOBS_FILE, Found, find, prepare
from procclaw.model.errors import Conflict, ProcclawError, SpecError, UsageError
from procclaw.model.intents import IntentKind
from procclaw.planning.views import has_succeeded

if TYPE_CHECKING:
    from procclaw.engine.home import Home
    from procclaw.interface.cli import Context

_POLL_SECONDS = 0.1


def run(context: "Context", options: Namespace) -> int:
    if options.home is not None and options.place is not None:
        raise UsageError(
            f'"{options.place}" has a home of its own; --home names one that has its jobs: give one of both'
        )
    found = find(options.place, options.home)
    context.home_path = found.home
    if found.file is not None:
        prepare_home(found.home)
    serving = supervision.serving(context.home)
    if serving is not None and not (serving.is_daemon and options.detach):
        raise Conflict(_taken(found, serving))
    told = prepare(found)
    _check(found, options.jobs)
    if options.detach:
        return _detach(context, found, options, told)
    return _stay(context, found, options.jobs, told)


def _taken(found: Found, serving: supervision.Serving) -> str:
    if not serving.is_daemon:
        return f"{found.name}: procclaw up runs it already (pid {serving.pid})"
    others = f"procclaw --home {found.home}"
    return (
        f"{found.name}: a daemon runs it already (pid {serving.pid}); {others} logs JOB -f shows what a job prints, "
        f"{others} daemon stop --jobs ends it all"
    )


def _check(found: Found, jobs: Sequence[str]) -> None:
    """Raises SpecError, NotFound, UsageError: what cannot be used is not begun with, whatever was good before."""
    try:
        spec = declared(found.home)
    except SpecError as error:
        # Of a file that is linked to, the home's name for it means nothing to whoever wrote it.
        file, own = found.file or JOBS_FILE, f"{JOBS_FILE}:"
        raise SpecError(
            tuple(f"{file}:{each.removeprefix(own)}" if each.startswith(own) else each for each in error.problems)
        ) from None
    foreground.check_known(spec, jobs)
    if not jobs and not any(map(foreground.begins_by_itself, spec.jobs.values())):
        names = ", ".join(spec.jobs) or "none"
        raise UsageError(f"{found.name}: no job begins by itself; name what is to run ({names}): procclaw up . JOB")


# --- in the foreground ---


def _stay(context: "Context", found: Found, jobs: Sequence[str], told: Sequence[str]) -> int:
    from procclaw.interface.up.screen import Screen

    home, asker = context.home, f"{context.user.partition(' ')[0]} (up)"
    screen = Screen(home, context.console, lambda own: foreground.ask_to_stop(own, asker))

    def open_screen(_late: object) -> Screen:
        """Once the home is ours."""
        for sentence in (_begins(found), *told, *_left_running(home)):
            screen.tell(sentence)
        foreground.ask_to_start(home, asker, jobs)
        screen.begin()
        return screen

    stays = foreground.Foreground(home, context.operations, asker, screen.tell)
    code = supervision.stay(home, stays, open_screen)
    return max(code, _told_of_end(context, stays))


def _begins(found: Found) -> str:
    return f"{found.name}; from elsewhere: procclaw --home {found.home} list" if found.file else found.name


def _left_running(home: "Home") -> list[str]:
    live = home.store.living.attempts()
    return [f"{each.job_id}: runs since before" + (f" (pid {each.job_pid})" if each.job_pid else "") for each in live]


def _told_of_end(context: "Context", stays: foreground.Foreground) -> int:
    """What is left to be said, to stderr; 1 where something is wrong."""
    failed, alive = stays.failed(), stays.alive()
    for run in failed:
        view = context.operations.run_view(run)
        how = how_it_ended(view["attempts"][-1] if view["attempts"] else view)
        context.console.complain(f"procclaw: {run.job_id} has failed: {how} (run {run.id})")
    if alive:
        context.console.complain(f"procclaw: left running: {', '.join(alive)}")
    return 1 if failed or alive else 0


# --- with a daemon ---


def _detach(context: "Context", found: Found, options: Namespace, told: Sequence[str]) -> int:
    home, console = context.home, context.console
    prepare_home(found.home)
    for sentence in told:
        console.complain(sentence)
    if supervision.serving(home) is None:
        supervision.bring_up(home)
    else:
        context.operations.reconcile()
    answers = context.operations.ask(IntentKind.START, options.jobs) if options.jobs else []
    refused = [answer.message for answer in answers if not has_succeeded(answer)]
    state = _brought_up(context, options.timeout)
    serving = supervision.serving(home)
    if serving is None:
        raise ProcclawError("the daemon has ended meanwhile; procclaw daemon logs says why")
    if console.is_json:
        view = {"success": state.is_done and not refused, "pid": serving.pid, "home": found.home}
        console.json(view | {"up": state.up, "wanted": state.wanted, "failed": state.failed, "waiting": state.waiting})
    else:
        console.say(f"{state.told} (daemon pid {serving.pid})")
        console.say(f"procclaw --home {found.home} list shows the jobs, daemon stop --jobs in place of list ends them")
    for message in refused:
        console.complain(f"procclaw: {message}")
    return 0 if state.is_done and not refused else 1


def _brought_up(context: "Context", seconds: float) -> BringUp:
    """Once all are up, or fail for good, or the time is over."""
    clock = context.home.clock
    began = clock.monotonic()
    with watched(context, "up", "the daemon goes on with it") as on_wait:
        while True:
            state = bring_up_of(context.operations.jobs(Filter()))
            waited = clock.monotonic() - began
            if state.is_settled or waited >= seconds:
                return state
            on_wait(waited, (state.told,))
            clock.sleep(_POLL_SECONDS)
