"""systemd units for a user's manager: a .service for each job, and a .timer where it has times.

A service that ends by itself is a oneshot: systemctl start waits for it, and a second start while it runs does nothing,
which is `on_overlap: skip`. Clock changes were measured with systemd-analyze calendar: a time of day that is skipped is
passed over, and of an hour that comes twice only the first counts.
"""

from signal import Signals

from procclaw.interface.convert.conversion import Fate, Note
from procclaw.interface.convert.leaving import (
    Exported,
    File,
    Leaving,
    Left,
    Telling,
    Unexportable,
    gathered,
    span,
)
from procclaw.interface.convert.timerunit import shortest_pause, timer_unit
from procclaw.interface.convert.unitfile import KNOWN, Lines, assigned, one_line, unit_path, word, written
from procclaw.interface.convert.variables import env_file_of, quoted, shell_text, variable_of, variables
from procclaw.model.spec import Condition, JobSpec, JobType, Leftovers, Restart

_SPARE_SECONDS = 60
"""For what a failing attempt itself takes, beside its delays."""
_LOST = {
    "health_check": "systemd has no health checks; a process that calls sd_notify can have WatchdogSec=",
    "alerts": "nobody is told; OnFailure= can start a unit that does",
    "expect": "nobody watches for what did not happen",
    "trigger": "systemctl start does it; a file can be waited for with a .path unit",
    "queue": "nothing keeps its jobs from running at one time",
    "lock": "nothing keeps those that share it from running at one time",
    "tags": "units have none",
    "concurrency": "a unit runs once at a time",
}


def export(leaving: Leaving) -> Exported:
    files: list[File] = []
    jobs: list[Left] = []
    for job in leaving.jobs:
        telling = Telling(job)
        try:
            units = [File(f"{job.id}.service", _service(leaving, job, telling))]
            if job.type in (JobType.SCHEDULED, JobType.ONESHOT):
                units.append(File(f"{job.id}.timer", timer_unit(job, telling)))
        except Unexportable as error:
            jobs.append(telling.refused(str(error)))
            continue
        files += units
        jobs.append(telling.left("systemd", _LOST))
    left, notes = gathered(jobs)
    return Exported(tuple(files), left, (*_about_all(leaving, files), *notes))


def _about_all(leaving: Leaving, files: list[File]) -> list[Note]:
    notes = [
        Note(0, f"workflow {name}", Fate.DROPPED, "units are not chained: one can start the next with OnSuccess=")
        for name in leaving.workflows
    ]
    if leaving.config.pass_env:
        says = "the manager's environment is another one: systemctl --user import-environment passes them on"
        notes.append(Note(0, "daemon.pass_env", Fate.DROPPED, says))
    starting = [file.name for file in files if "[Install]" in file.text]
    if starting:
        says = f"the files go to ~/.config/systemd/user; then systemctl --user enable --now {' '.join(starting)}"
        notes.append(Note(0, "units", Fate.KEPT, says))
    return notes


# --- the service ---


def _service(leaving: Leaving, job: JobSpec, telling: Telling) -> str:
    telling.kept("cmd", "name", "description")
    if job.description and job.name != job.id:
        telling.dropped("name", "Description= has the description")
    unit = [f"Description={one_line(job.description or job.name)}", *_order(leaving, job, telling)]
    limits, service = _retrying(job, telling)
    kind = "exec" if job.type is JobType.CONTINUOUS else "oneshot"
    service = [
        f"Type={kind}",
        f"ExecStart={_command(job)}",
        *_surroundings(leaving, job, telling),
        *service,
        *_stopping(job, telling),
        *_resources(job, telling),
    ]
    if not job.enabled:
        telling.changed("enabled", "systemctl enable refuses it until it gets an [Install] section")
    telling.changed("log", "it is in the journal: journalctl --user -u NAME")
    return written(f"# {job.source}", ("Unit", [*unit, *limits]), ("Service", service), ("Install", _install(job)))


def _install(job: JobSpec) -> Lines:
    if job.type is not JobType.CONTINUOUS or not job.enabled:
        return []
    return [f"WantedBy={'default.target' if job.user is None else 'multi-user.target'}"]


def _command(job: JobSpec) -> str:
    if isinstance(job.cmd, str):
        return f"/bin/sh -c {word(shell_text(job.cmd).rstrip(), is_forced=True)}"
    words = [quoted(text, word, lambda each: f"${{{variable_of(each)}}}") for text in job.cmd]
    if not job.cmd[0].startswith("/"):
        # systemd would look in directories of its own; env looks where PATH says, as we do.
        words.insert(0, "/usr/bin/env")
    return " ".join(words)


def _surroundings(leaving: Leaving, job: JobSpec, telling: Telling) -> Lines:
    lines = [f"WorkingDirectory={'~' if job.cwd is None else unit_path(job.cwd)}"]
    if job.user is not None:
        lines.append(f"User={job.user}")
        telling.changed("user", "a user's manager cannot change accounts: these units belong in /etc/systemd/system")
    lines += [] if job.group is None else [f"Group={job.group}"]
    found = variables(leaving, job, telling, KNOWN)
    if job.env_file is not None:
        if job.env:
            telling.changed("env_file", "what it sets wins over env")
        lines.append(f"EnvironmentFile={unit_path(env_file_of(job))}")
    if found.secret:
        lines.append(f"EnvironmentFile=%E/{job.id}.secrets")
        wanted = " ".join(f"{name}={text}" for name, text in found.secret.items())
        folder = "~/.config" if job.user is None else "/etc"
        says = f"they are to stand in {folder}/{job.id}.secrets (mode 0600), a line each, with the values: {wanted}"
        telling.changed("secrets", says)
    lines += [f"Environment={assigned(name, value)}" for name, value in found.plain.items()]
    lines += [] if job.umask is None else [f"UMask={job.umask:04o}"]
    lines += [] if job.nice is None else [f"Nice={job.nice}"]
    telling.kept("cwd", "group", "umask", "nice", "env_file")
    return lines


def _order(leaving: Leaving, job: JobSpec, telling: Telling) -> Lines:
    lines = []
    types = {each.id: each.type for each in leaving.jobs}
    for needed in job.depends_on:
        field = f"depends_on {needed.job}"
        unit = f"{needed.job}.service"
        lines.append(f"After={unit}")
        if needed.job not in types:
            telling.changed(field, f"it is not among what is exported: {unit} has to be there")
        if types.get(needed.job) is JobType.SCHEDULED:
            telling.changed(field, "is waited for only while it runs; whether it succeeded before is not asked")
            continue
        if needed.condition is Condition.AFTER_COMPLETE:
            lines.append(f"Requires={unit}")
            telling.changed(field, "is run again each time, rather than once")
        else:
            lines.append(f"Wants={unit}")
            waits = "its process is there; whether it is healthy is not asked"
            told = telling.changed if needed.condition is Condition.AFTER_HEALTHY else telling.explained
            told(field, f"is started with it, and waited for until {waits}")
    return lines


# --- trying again, and stopping ---


def _retrying(job: JobSpec, telling: Telling) -> tuple[Lines, Lines]:
    """Of the section Unit, and of Service."""
    retry = job.retry
    is_service = job.type is JobType.CONTINUOUS
    how = job.restart if is_service else Restart.ON_FAILURE
    if how is Restart.NEVER or not retry.enabled:
        telling.kept("retry", "restart")
        return [], ["Restart=no"]
    tries = retry.max_attempts
    listed = retry.delays_seconds
    delays = listed if tries is None else [listed[min(number, len(listed) - 1)] for number in range(max(tries, 1))]
    within = sum(delays) + (retry.reset_after_seconds if is_service else 0) + _SPARE_SECONDS
    within += 0 if is_service else (job.timeout_seconds or 0) * ((tries or 0) + 1)
    if job.type is JobType.SCHEDULED and tries is not None and shortest_pause(job) <= within:
        says = "systemd counts due times among the tries, and would refuse them: the next due time is the next try"
        telling.dropped("retry", says)
        return [], ["Restart=no"]
    telling.kept("restart")
    pause, longest = max(min(filter(None, delays), default=1), 0.1), max(delays)
    lines = [f"Restart={'always' if how is Restart.ALWAYS else 'on-failure'}", f"RestartSec={span(pause)}"]
    if longest > pause:
        lines += [f"RestartSteps={max(len(set(delays)) - 1, 1)}", f"RestartMaxDelaySec={span(longest)}"]
    limits = ["StartLimitIntervalSec=0"]
    if tries is not None:
        limits = [f"StartLimitIntervalSec={span(within)}", f"StartLimitBurst={tries + 1}"]
    rising = f" rising to {span(longest)} s (from systemd 254 on)" if longest > pause else ""
    counted = "without end" if tries is None else f"{tries} times within {span(within)} s"
    telling.changed("retry", f"after {span(pause)} s{rising}, {counted}")
    return limits, lines


def _stopping(job: JobSpec, telling: Telling) -> Lines:
    shutdown = job.shutdown
    lines = [f"KillSignal={Signals(shutdown.signal).name}", f"TimeoutStopSec={span(shutdown.grace_seconds)}"]
    if shutdown.leftovers is Leftovers.KEEP:
        lines.append("KillMode=process")
    telling.kept("shutdown", "timeout", "success_exit_codes")
    if job.timeout_seconds is not None:
        # What ends by itself is starting, in systemd's eyes, until it has ended.
        key = "RuntimeMaxSec" if job.type is JobType.CONTINUOUS else "TimeoutStartSec"
        lines.append(f"{key}={span(job.timeout_seconds)}")
    codes = [str(code) for code in job.success_exit_codes if code]
    if codes:
        lines.append(f"SuccessExitStatus={' '.join(codes)}")
    if 0 not in job.success_exit_codes:
        telling.changed("success_exit_codes", "0 always means success as well")
    return lines


def _resources(job: JobSpec, telling: Telling) -> Lines:
    limits = job.resources
    if limits is None:
        return []
    lines = []
    says = []
    if limits.max_memory_mb is not None:
        lines.append(f"MemoryMax={round(limits.max_memory_mb * 2**20)}")
        says.append("beyond max_memory_mb the kernel kills")
    if limits.max_cpu_percent is not None:
        lines.append(f"CPUQuota={span(limits.max_cpu_percent)}%")
        says.append("beyond max_cpu_percent it is slowed down")
    telling.changed("resources", f"{', '.join(says)}, whatever action says")
    return lines
