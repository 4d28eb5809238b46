"""The service commands: install, status, uninstall."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.engine.autostart import Seen, of_this_system
from procclaw.model.errors import NoDaemon, UsageError

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def install(context: "Context", options: Namespace) -> int:
    if options.cron and options.force:
        raise UsageError("service install: --cron replaces nothing of anybody's, so there is nothing to --force")
    autostart = of_this_system(context.home_path)
    done = autostart.install_cron() if options.cron else autostart.install(force=options.force)
    what = "once a minute, by cron" if options.cron else f"as a service of {done.kind}"
    running = "" if done.pid is None else f"; the daemon runs (pid {done.pid})"
    message = f"{'installed' if done.has_changed else 'installed already'} {what}: {done.place}{running}"
    if context.console.is_json:
        context.console.json(
            {
                "success": True,
                "message": message,
                "changed": done.has_changed,
                "kind": done.kind,
                "place": done.place,
                "pid": done.pid,
                "hints": list(done.hints),
            }
        )
        return 0
    context.console.say(message)
    for hint in done.hints:
        context.console.say(hint)
    return 0


def uninstall(context: "Context", options: Namespace) -> int:
    done = of_this_system(context.home_path).uninstall()
    jobs = f"{done.left_running} {'job goes' if done.left_running == 1 else 'jobs go'} on running"
    message = f"removed {' and '.join(done.places)}" if done.places else "nothing is installed"
    if done.places and done.left_running:
        message += f"; {jobs}"
    if context.console.is_json:
        view = {"success": True, "message": message, "removed": list(done.places), "jobs_running": done.left_running}
        context.console.json(view)
    else:
        context.console.say(message)
    return 0


def status(context: "Context", options: Namespace) -> int:
    """The crontab's line needs no daemon, so it is as good as a service that runs."""
    seen = of_this_system(context.home_path).look()
    if context.console.is_json:
        context.console.json(_view(seen))
    else:
        context.console.fields(_pairs(seen))
    return 0 if seen.standing.is_active or seen.cron_line is not None else NoDaemon.exit_code


def _view(seen: Seen) -> dict[str, object]:
    return {
        "kind": seen.kind,
        "name": seen.name,
        "path": seen.path,
        "installed": seen.is_installed,
        "written_by_procclaw": seen.is_ours,
        "enabled": seen.standing.is_enabled,
        "active": seen.standing.is_active,
        "pid": seen.standing.pid,
        "detail": seen.standing.detail or None,
        "starts": seen.starts or None,
        "starts_this_file": seen.starts_this,
        "current": seen.is_current,
        "cron": {"installed": seen.cron_line is not None, "line": seen.cron_line, "current": seen.is_cron_current},
        "daemon_pid": seen.daemon_pid,
        "problem": seen.lack,
        "hints": list(seen.hints),
    }


def _pairs(seen: Seen) -> list[tuple[str, object]]:
    standing = seen.standing
    pairs: list[tuple[str, object]] = [("service", f"{seen.name} ({seen.kind}), {_installed(seen)}")]
    if seen.is_installed:
        pairs += [("file", seen.path), ("starts", seen.starts)]
        if not seen.starts_this:
            pairs.append(("note", "that is not the file you have just started; service install changes it"))
        elif not seen.is_current:
            pairs.append(("note", "the file is not as this version writes it; service install renews it"))
    if seen.lack is not None:
        pairs.append(("problem", f"{seen.lack}; service install --cron does without"))
    elif seen.is_installed:
        pid = "" if standing.pid is None else f"pid {standing.pid}, "
        pairs.append(("enabled", "yes, it starts by itself" if standing.is_enabled else "no"))
        pairs.append(("state", f"{pid}{standing.detail or 'not running'}"))
    if seen.cron_line is not None:
        other = "" if seen.is_cron_current else " (not as this version writes it; service install --cron renews it)"
        pairs.append(("crontab", seen.cron_line + other))
    if seen.daemon_pid is not None and seen.daemon_pid != standing.pid:
        pairs.append(("daemon", f"one runs (pid {seen.daemon_pid}), but not as this service"))
    pairs += [("hint", hint) for hint in seen.hints]
    return pairs


def _installed(seen: Seen) -> str:
    if not seen.is_installed:
        return "not installed"
    return "installed" if seen.is_ours else "not written by procclaw"
