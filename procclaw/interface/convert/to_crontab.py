"""A user's crontab.

An assignment holds for every line below it. So jobs with fewer variables come first, and what a job must not see, or
sees with another value, is put right in its own line. The same goes for zones: once CRON_TZ is set there is no way back
but to set it again.
"""

from typing import NamedTuple

from procclaw.engine.expressions import are_alike
from procclaw.interface.convert.conversion import Fate, Note
from procclaw.interface.convert.cronline import KNOWN, Environment, command_line, is_assignable
from procclaw.interface.convert.leaving import Exported, File, Leaving, Left, Telling, Unexportable, gathered
from procclaw.interface.convert.times import Times, times_of
from procclaw.interface.convert.variables import Variables, variables
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Restart

_LOST = {
    "retry": "a run that failed is not tried again",
    "shutdown": "cron stops nothing that runs",
    "health_check": "cron does not look after what runs",
    "depends_on": "cron knows no order: it starts when it is due",
    "alerts": "cron mails what is printed, whether or not the run failed",
    "expect": "nobody watches for what did not happen",
    "trigger": "a crontab has times only",
    "success_exit_codes": "cron does not look at exit codes",
    "resources": "nobody looks at what it uses",
    "priority": "cron has no queue",
    "tags": "crontabs have none",
    "group": "commands run in the account's own group",
}
_COMMENTED = "#"
_EMPTY = '""'
"""Without quotes cron takes it for a line with times."""


class _Entry(NamedTuple):
    job: JobSpec
    when: str
    zone: str | None
    """None: it has no times."""
    telling: Telling
    found: Variables


def export(leaving: Leaving) -> Exported:
    left: list[Left] = []
    entries: list[_Entry] = []
    users = {job.user for job in leaving.jobs}
    for job in leaving.jobs:
        telling = Telling(job)
        try:
            if job.user is not None and len(users) > 1:
                raise Unexportable(f'it runs as "{job.user}": export the jobs of one account at a time')
            found = variables(leaving, job, telling, KNOWN)
            entries += [_Entry(job, when, zone, telling, found) for when, zone in _due(leaving, job, telling)]
        except Unexportable as error:
            left.append(telling.refused(str(error)))
    lines, told = _lines(leaving, entries)
    # In the order of jobs.yaml, not of the crontab.
    places = {job.id: place for place, job in enumerate(leaving.jobs)}
    jobs, notes = gathered(sorted([*left, *told], key=lambda each: places[each.id]))
    file = File("crontab", "\n".join(lines) + "\n")
    return Exported((file,), jobs, (*_about_all(leaving, users), *notes), is_one_file=True)


def _about_all(leaving: Leaving, users: set[str | None]) -> list[Note]:
    notes = [Note(0, f"workflow {name}", Fate.DROPPED, "a crontab has times only") for name in leaving.workflows]
    if leaving.config.pass_env:
        notes.append(Note(0, "daemon.pass_env", Fate.DROPPED, "cron passes nothing on"))
    whose = [user for user in users if user is not None]
    if len(users) == 1 and whose:
        notes.append(Note(0, "user", Fate.CHANGED, f"this is the crontab of {whose[0]}: crontab -u {whose[0]} FILE"))
    return notes


# --- when ---


def _due(leaving: Leaving, job: JobSpec, telling: Telling) -> list[tuple[str, str | None]]:
    """What stands before the command, and the zone it is meant in. Raises Unexportable."""
    if not job.enabled:
        telling.changed("enabled", "its line is commented out")
    match job.type:
        case JobType.MANUAL:
            raise Unexportable("is started by hand, which a crontab has no place for")
        case JobType.ONESHOT:
            assert job.run_at is not None
            raise Unexportable(f"cron has no years: echo COMMAND | TZ=UTC at -t {job.run_at:%Y%m%d%H%M}")
        case JobType.CONTINUOUS:
            if job.restart is Restart.NEVER:
                telling.explained("restart", "@reboot starts it with the machine")
            else:
                telling.changed("restart", "@reboot starts it with the machine, and nobody brings it back when it ends")
            return [("@reboot", None)]
        case JobType.SCHEDULED:
            times = times_of(job)
            _tell_of_times(leaving, job, times, telling)
            return [(each.line, _zone(leaving, each)) for each in times]


def _zone(leaving: Leaving, times: Times) -> str:
    return leaving.local_zone if are_alike(times.zone, leaving.local_zone) else times.zone


def _tell_of_times(leaving: Leaving, job: JobSpec, times: list[Times], telling: Telling) -> None:
    for each in times:
        if each.has_special_days:
            raise Unexportable(f'"{each.line.upper()}": cron knows neither L nor #')
    telling.kept("schedule", "timezone")
    if len(times) > 1:
        telling.changed("schedule", f"it has a line for each of its {len(times)} expressions")
    if not all(are_alike(each.zone, leaving.local_zone) for each in times):
        telling.changed("timezone", "by CRON_TZ, which cronie knows; Debian's cron takes the times as local ones")
    if job.catch_up.policy is CatchUpPolicy.NONE:
        telling.kept("catch_up")
    else:
        telling.dropped("catch_up", "a time that is missed is not made up for; anacron does that, by the day")


# --- the file ---


def _lines(leaving: Leaving, entries: list[_Entry]) -> tuple[list[str], list[Left]]:
    lines = ["# Written by procclaw export crontab."]
    assigned: dict[str, str] = {}
    zone = leaving.local_zone
    left: dict[str, Left] = {}
    in_order = sorted(entries, key=lambda each: (_other_zone(leaving, each), len(each.found.plain)))
    for entry in in_order:
        try:
            own, env = _environment(entry, assigned)
            command = command_line(entry.job, entry.found, env, entry.telling)
        except Unexportable as error:
            # Whatever was assigned for it must not stay, nor a line that it got for another time.
            others = [each for each in entries if each.job is not entry.job]
            lines, told = _lines(leaving, others)
            return lines, [entry.telling.refused(str(error)), *told]
        lines += ["", f"# {_one_line(entry.job)}"]
        if entry.zone is not None and entry.zone != zone:
            zone = entry.zone
            lines.append(f"CRON_TZ={zone}")
        lines += [f"{name}={value or _EMPTY}" for name, value in own.items()]
        assigned |= own
        lines.append(("" if entry.job.enabled else _COMMENTED) + f"{entry.when} {command}")
        left[entry.job.id] = _told(entry, env)
    return lines, list(left.values())


def _other_zone(leaving: Leaving, entry: _Entry) -> str:
    """Empty: it is that of the machine, or does not matter."""
    return "" if entry.zone in (None, leaving.local_zone) else str(entry.zone)


def _environment(entry: _Entry, assigned: dict[str, str]) -> tuple[dict[str, str], Environment]:
    """What is to be assigned above the line, and what is left for the line itself."""
    wanted = entry.found.plain
    # What is assigned above would be overwritten by the file, which the line reads.
    over_file = set(dict(entry.job.env)) if entry.job.env_file is not None else set()
    leaked = tuple(name for name in assigned if name not in wanted)
    new = {name: value for name, value in wanted.items() if assigned.get(name) != value or name in over_file}
    if leaked:
        return {}, Environment(new, leaked)
    own = {name: value for name, value in new.items() if is_assignable(value) and name not in over_file}
    return own, Environment({name: value for name, value in new.items() if name not in own})


def _told(entry: _Entry, env: Environment) -> Left:
    telling = entry.telling
    telling.kept("name", "description")
    if not entry.job.retry.enabled:
        telling.kept("retry")
    if entry.found.secret:
        wanted = " ".join(f"{name}={text}" for name, text in entry.found.secret.items())
        says = f"they are to stand in ~/.config/{entry.job.id}.secrets (mode 0600), quoted for the shell: {wanted}"
        telling.changed("secrets", says)
    if env.set_here and entry.job.env:
        telling.explained("env", "is set in its line, not to reach others")
    if entry.job.user is not None:
        telling.kept("user")
    telling.changed("log", "what it prints is mailed to MAILTO, where the machine can send mail")
    return telling.left("cron", _LOST)


def _one_line(job: JobSpec) -> str:
    return " ".join(f"{job.id} ({job.source}): {job.description or job.name}".split())
