"""launchd property lists, launchd.plist(5): one agent for each job, for ~/Library/LaunchAgents.

launchd knows the machine's own zone alone, and each moment it is to start something at: a schedule becomes the product
of its fields, as far as that stays within what a person would want to see.
"""

import plistlib
import shlex
from collections.abc import Iterator
from itertools import product
from typing import Any

from procclaw.engine.expressions import are_alike
from procclaw.interface.convert.conversion import Fate, Note
from procclaw.interface.convert.leaving import Exported, File, Leaving, Left, Telling, Unexportable, gathered
from procclaw.interface.convert.times import LIMITS, Times, period_of, times_of, values, weekdays
from procclaw.interface.convert.variables import Variables, env_file_of, shell_path, shell_text, shell_word, variables
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Leftovers, Overlap, Restart

_PREFIX = "local."
"""Of labels, which are written like the names of hosts."""
_MOST_MOMENTS = 400
_KEYS = ("Minute", "Hour", "Day", "Month", "Weekday")
_SIGTERM = 15
_USUAL_PAUSE_SECONDS = 10
"""Between two starts of one agent; launchd waits no less, whatever it is told."""
_LOST = {
    "timeout": "launchd ends nothing that takes too long",
    "health_check": "launchd has no health checks",
    "depends_on": "launchd knows no order: what is needed has to be waited for by the command",
    "alerts": "nobody is told",
    "expect": "nobody watches for what did not happen",
    "trigger": "launchctl kickstart does it; WatchPaths can start it for a file",
    "success_exit_codes": "only 0 is success",
    "concurrency": "an agent runs once at a time",
    "resources": "nobody looks at what it uses",
    "queue": "nothing keeps its jobs from running at one time",
    "lock": "nothing keeps those that share it from running at one time",
    "name": "agents have a label only",
    "description": "agents have a label only",
    "tags": "agents have none",
    "jitter": "it starts when it is due",
}


def export(leaving: Leaving) -> Exported:
    files: list[File] = []
    left: list[Left] = []
    for job in leaving.jobs:
        telling = Telling(job)
        try:
            agent = _agent(leaving, job, telling)
        except Unexportable as error:
            left.append(telling.refused(str(error)))
            continue
        text = plistlib.dumps(agent, sort_keys=False).decode()
        files.append(File(f"{agent['Label']}.plist", text))
        left.append(telling.left("launchd", _LOST))
    jobs, notes = gathered(left)
    return Exported(tuple(files), jobs, (*_about_all(leaving, files), *notes))


def _about_all(leaving: Leaving, files: list[File]) -> list[Note]:
    notes = [Note(0, f"workflow {name}", Fate.DROPPED, "agents are not chained") for name in leaving.workflows]
    if leaving.config.pass_env:
        notes.append(Note(0, "daemon.pass_env", Fate.DROPPED, "launchctl setenv sets what agents get"))
    if files:
        says = "the files go to ~/Library/LaunchAgents; then launchctl bootstrap gui/$(id -u) FILE for each"
        notes.append(Note(0, "agents", Fate.KEPT, says))
    return notes


def _agent(leaving: Leaving, job: JobSpec, telling: Telling) -> dict[str, Any]:
    agent: dict[str, Any] = {"Label": _PREFIX + job.id}
    found = variables(leaving, job, telling, {})
    agent["ProgramArguments"] = _arguments(job, telling, found)
    if found.secret:
        wanted = " ".join(f"{name}={text}" for name, text in found.secret.items())
        says = f"they are to stand in ~/.config/{job.id}.secrets (mode 0600), quoted for the shell: {wanted}"
        telling.changed("secrets", says)
    if found.plain:
        agent["EnvironmentVariables"] = found.plain
    agent |= _account(job, telling)
    if not job.enabled:
        agent["Disabled"] = True
        telling.kept("enabled")
    agent |= _starting(leaving, job, telling)
    agent |= _stopping(job, telling)
    for key, ending in (("StandardOutPath", "log"), ("StandardErrorPath", "error.log")):
        agent[key] = f"{leaving.home}/logs/{job.id}.{ending}"
    telling.changed("log", "goes to the same files in logs/, which nobody rotates any more")
    return agent


def _arguments(job: JobSpec, telling: Telling, found: Variables) -> list[str]:
    telling.kept("cmd")
    files = [] if job.env_file is None else [shell_path(env_file_of(job))]
    if files:
        telling.changed("env_file", "the shell reads it: its values have to be quoted as the shell wants it")
    files += [f'"$HOME"/.config/{job.id}.secrets'] if found.secret else []
    before = [f"set -a; . {file}; set +a" for file in files]
    if job.env_file is not None:
        # Once more, for the file may have overwritten them.
        own = (name for name, _ in job.env if name in found.plain)
        before += [f"export {name}={shlex.quote(found.plain[name])}" for name in own]
    if job.cwd is not None and not job.cwd.startswith("/"):
        before.append(f"cd {shell_path(job.cwd)} || exit")
    if isinstance(job.cmd, str):
        return ["/bin/sh", "-c", "; ".join([*before, shell_text(job.cmd)])]
    if not before and "${" not in "".join(job.cmd):
        return list(job.cmd)
    return ["/bin/sh", "-c", "; ".join([*before, f"exec {' '.join(map(shell_word, job.cmd))}"])]


def _account(job: JobSpec, telling: Telling) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if job.cwd is not None and job.cwd.startswith("/"):
        keys["WorkingDirectory"] = job.cwd
    if job.user is not None or job.group is not None:
        keys |= {} if job.user is None else {"UserName": job.user}
        keys |= {} if job.group is None else {"GroupName": job.group}
        says = "agents cannot change accounts: this file belongs in /Library/LaunchDaemons"
        for field in ("user", "group"):
            if getattr(job, field) is not None:
                telling.changed(field, says)
    keys |= {} if job.umask is None else {"Umask": job.umask}
    keys |= {} if job.nice is None else {"Nice": job.nice}
    telling.kept("cwd", "umask", "nice")
    return keys


# --- when ---


def _starting(leaving: Leaving, job: JobSpec, telling: Telling) -> dict[str, Any]:
    match job.type:
        case JobType.MANUAL:
            _tell_of_retries(job, telling)
            return {}
        case JobType.ONESHOT:
            raise Unexportable("launchd has no years, and would start it again in a year")
        case JobType.CONTINUOUS:
            return _kept_alive(job, telling)
        case JobType.SCHEDULED:
            _tell_of_retries(job, telling)
            _tell_of_due_times(job, telling)
            return _schedule(leaving, job, telling)


def _tell_of_retries(job: JobSpec, telling: Telling) -> None:
    if job.retry.enabled:
        telling.dropped("retry", "a run that failed is not tried again")
    else:
        telling.kept("retry")


def _kept_alive(job: JobSpec, telling: Telling) -> dict[str, Any]:
    telling.kept("restart")
    if job.restart is Restart.NEVER or not job.retry.enabled:
        telling.kept("retry")
        return {"RunAtLoad": True}
    pause = max(_USUAL_PAUSE_SECONDS, round(job.retry.delays_seconds[0]))
    telling.changed("retry", f"is started again without end, {pause} s after the last start at the earliest")
    keep: Any = True if job.restart is Restart.ALWAYS else {"SuccessfulExit": False}
    return {"RunAtLoad": True, "KeepAlive": keep, "ThrottleInterval": pause}


def _tell_of_due_times(job: JobSpec, telling: Telling) -> None:
    if job.on_overlap is Overlap.SKIP:
        telling.kept("on_overlap")
    else:
        telling.changed("on_overlap", "a due time is skipped where the last run is active still")
    says = "after sleep the missed times are made up for by one start; what was missed while it was off is not"
    if job.catch_up.policy is CatchUpPolicy.NONE:
        says = "after sleep one start makes up for the missed times"
    telling.changed("catch_up", says)


def _schedule(leaving: Leaving, job: JobSpec, telling: Telling) -> dict[str, Any]:
    periods = [period for period in map(period_of, job.schedule) if period is not None]
    if len(periods) == len(job.schedule) == 1:
        telling.changed("schedule", f"every {periods[0]} s counts from when it was loaded, and stands still in sleep")
        return {"StartInterval": periods[0]}
    moments = []
    for times in times_of(job):
        if _has_zone(times) and not are_alike(times.zone, leaving.local_zone):
            raise Unexportable(f"launchd knows the machine's zone only: this is {leaving.local_zone}, not {times.zone}")
        moments += list(_moments(times))
    telling.kept("schedule", "timezone")
    return {"StartCalendarInterval": moments if len(moments) > 1 else moments[0]}


def _has_zone(times: Times) -> bool:
    """Whether the zone makes a difference, which it does not to what comes round within the hour."""
    return (times.hour, times.day, times.month, times.weekday) != ("*",) * 4


def _moments(times: Times) -> Iterator[dict[str, int]]:
    """Raises Unexportable for what no list of moments comes to."""
    if times.has_special_days:
        raise Unexportable(f'"{times.line.upper()}": launchd knows neither L nor #')
    if times.restricts_both and times.needs_both:
        raise Unexportable(f'"{times.line}": launchd takes day and weekday as alternatives, here both must fit')
    patterns = [times]
    if times.restricts_both:
        patterns = [times._replace(weekday="*"), times._replace(day="*")]
    count = 0
    for pattern in patterns:
        texts = pattern[:5]
        listed = [
            [(key, value) for value in (weekdays(text) if key == "Weekday" else values(text, low, high))]
            for key, text, (low, high) in zip(_KEYS, texts, LIMITS, strict=True)
            if text != "*"
        ]
        for moment in product(*listed):
            count += 1
            if count > _MOST_MOMENTS:
                raise Unexportable(f'"{times.line}" comes to more than {_MOST_MOMENTS} moments')
            yield dict(moment)


# --- stopping ---


def _stopping(job: JobSpec, telling: Telling) -> dict[str, Any]:
    keys: dict[str, Any] = {"ExitTimeOut": max(1, round(job.shutdown.grace_seconds))}
    if job.shutdown.leftovers is Leftovers.KEEP:
        keys["AbandonProcessGroup"] = True
    telling.kept("shutdown")
    if job.shutdown.signal != _SIGTERM:
        telling.changed("shutdown", "SIGTERM asks it to stop, for launchd has no other signal")
    return keys
