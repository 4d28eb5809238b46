"""The numbers of a home and its daemon, as Prometheus reads them.

What stands (statuses, queues, last and next times) is read from the database when somebody asks, so it is right whoever
brought it about and survives the daemon. What adds up (ends, missed slots, how long cycles take) is counted from the
daemon's cycles and begins anew with it, as counters may. No label takes values without bound: a run has no series.
"""

import os
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from procclaw import __version__
from procclaw.engine.census import Census, Figures, take_census
from procclaw.engine.controller import Cycle
from procclaw.engine.home import Home
from procclaw.interface.metrics.exposition import Family, edges_of, exposition, labelled
from procclaw.interface.metrics.tally import CYCLE_BOUNDS, RUN_BOUNDS, JobTally, Noted, Tally
from procclaw.model.clock import EPOCH, SystemClock, seconds_between
from procclaw.model.reasons import Reason
from procclaw.model.records import RunState, SlotOutcome
from procclaw.model.spec import JobSpec, Spec
from procclaw.planning.views import STATUSES

_OPEN_FILES = "/dev/fd"
_LIVING = ("running", "stopping")
_MISSED = f'outcome="{SlotOutcome.MISSED}",reason="{Reason.DOWN}"'


class Metrics:
    def __init__(self, clock: SystemClock | None = None) -> None:
        """To be made when the daemon starts."""
        self._began_at = (clock or SystemClock()).now()
        self._tally = Tally()

    def take_note(self, cycle: Cycle, seconds: float) -> None:
        """A cycle is over, which took so long. Called by the loop's thread, and quick."""
        self._tally.take_note(cycle, seconds)

    def text(self, home: Home) -> bytes:
        """Everything, at this moment. `home` is the calling thread's own. Raises StoreError."""
        noted = self._tally.noted()
        families = [
            *_of_process(home, self._began_at),
            *_of_loop(noted),
            *_of_disk(home),
            _of_configuration(noted, home),
        ]
        if noted.spec is not None:
            census = take_census(home, noted.spec)
            families += [*_of_home(census), *_of_jobs(census, noted), *_of_history(noted.spec, noted)]
        return exposition(families)


# --- the daemon itself ---


def _of_process(home: Home, began_at: datetime) -> Iterator[Family]:
    """Named as Prometheus's own clients name them."""
    yield _single("procclaw_build_info", "The version of ProcClaw.", 1, labels=labelled(version=__version__))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds, peak_bytes = used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    yield _single("process_start_time_seconds", "When the daemon started, in seconds since the epoch.", _unix(began_at))
    yield _single("process_cpu_seconds_total", "Processor time the daemon has used.", cpu_seconds, "counter")
    resident = home.processes.memory_mb(os.getpid())
    resident_bytes = None if resident is None else resident * 2**20
    yield _single("process_resident_memory_bytes", "Memory the daemon has resident.", resident_bytes)
    yield _single("process_resident_memory_peak_bytes", "The most memory the daemon has ever had resident.", peak_bytes)
    yield _single("process_open_fds", "Descriptors the daemon has open.", _open_files())
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_limited = limit != resource.RLIM_INFINITY
    yield _single("process_max_fds", "Descriptors the daemon may have open.", limit if is_limited else None)


def _open_files() -> int | None:
    """None: the system does not tell."""
    try:
        # One of them is the directory itself, for the time of listing it.
        return len(os.listdir(_OPEN_FILES)) - 1
    except OSError:
        return None


def _of_loop(noted: Noted) -> Iterator[Family]:
    durations = Family("procclaw_reconcile_duration_seconds", "histogram", "How long cycles of the loop took.")
    durations.add_histogram(edges_of(CYCLE_BOUNDS), noted.cycles.counts, noted.cycles.total)
    yield durations
    cycles = Family("procclaw_reconcile_cycles_total", "counter", "Cycles of the loop, by whether they did anything.")
    cycles.add(noted.acted, labelled(acted="true"))
    cycles.add(sum(noted.cycles.counts) - noted.acted, labelled(acted="false"))
    yield cycles
    said = "When the last cycle of the loop began, in seconds since the epoch."
    yield _single("procclaw_reconcile_last_timestamp_seconds", said, _unix(noted.last_at))


def _of_disk(home: Home) -> Iterator[Family]:
    free = size = None
    with suppress(OSError):
        stat = os.statvfs(home.paths.home)
        free = stat.f_bavail * stat.f_frsize
    with suppress(OSError):
        size = os.stat(home.paths.database).st_size
    yield _single("procclaw_home_free_bytes", "Space left on the disk of ProcClaw's home.", free)
    yield _single("procclaw_database_bytes", "Size of procclaw.db, without its write-ahead log.", size)


def _of_configuration(noted: Noted, home: Home) -> Family:
    """Nothing before the first cycle, which is what reads the files."""
    is_valid = noted.spec is not None and home.store.problems() is None
    said = "Whether the configuration in force is what the files say (1), or they have errors (0)."
    return _single("procclaw_config_valid", said, None if noted.last_at is None else int(is_valid))


# --- what stands ---


def _of_home(census: Census) -> Iterator[Family]:
    # Untyped: promtool takes the name, which is older than this program, for a counter's.
    yield _single("procclaw_jobs_total", "Total number of configured jobs.", len(census.jobs), "untyped")
    found = Counter(job.status for job in census.jobs)
    statuses = Family("procclaw_jobs", "gauge", "Jobs by their status.")
    for status in STATUSES:
        statuses.add(found[status], labelled(status=status))
    yield statuses
    queues = Family("procclaw_queue_waiting_runs", "gauge", "Runs that stand in a named queue and wait.")
    for name, waiting in sorted(census.waiting.items()):
        queues.add(waiting, labelled(queue=name))
    yield queues
    said = "Entries of the dead letter queue, of removed jobs too."
    yield _single("procclaw_dead_letters", said, census.dead_letters)
    yield _single("procclaw_alerts_pending", "Alerts that are still to be delivered.", census.pending_alerts)


def _of_jobs(census: Census, noted: Noted) -> Iterator[Family]:
    said = "Job status (1=running, 0=stopped); what is being stopped still runs."
    status = Family("procclaw_job_status", "gauge", said)
    uptime = Family("procclaw_job_uptime_seconds", "gauge", "Current uptime in seconds, of a job that runs.")
    said = "Total restart count: automatic restarts in the job's newest run."
    restarts = Family("procclaw_job_restart_count_total", "counter", said)
    said = "Whether the job's checks pass (1) or fail (0), once they tell."
    healthy = Family("procclaw_job_healthy", "gauge", said)
    said = "When the job last succeeded, in seconds since the epoch."
    succeeded = Family("procclaw_job_last_success_timestamp_seconds", "gauge", said)
    said = "When the clock will start the job next, in seconds since the epoch."
    coming = Family("procclaw_job_next_run_timestamp_seconds", "gauge", said)
    letters = Family("procclaw_job_dead_letters", "gauge", "Entries of the job in the dead letter queue.")
    said = "Share of one processor the job used between the last two measurements, where its resources are limited."
    cpu = Family("procclaw_job_cpu_ratio", "gauge", said)
    said = "Memory the job had at the last measurement, where its resources are limited."
    memory = Family("procclaw_job_memory_bytes", "gauge", said)
    for job in census.jobs:
        labels = labelled(job=job.job_id)
        status.add(int(job.status in _LIVING), labels)
        uptime.add(job.uptime_seconds, labels)
        restarts.add(job.restarts, labels)
        healthy.add(None if job.is_healthy is None else int(job.is_healthy), labels)
        succeeded.add(_unix(_last_success(job, noted)), labels)
        coming.add(_unix(job.next_start_at), labels)
        letters.add(job.dead_letters, labels)
        _add_usage(cpu, memory, job, labels)
    yield from (status, uptime, restarts, healthy, succeeded, coming, letters, cpu, memory)


def _last_success(job: Figures, noted: Noted) -> datetime | None:
    """Of runs side by side the census may know one that ended earlier, and the cycles none at all."""
    tally = noted.jobs.get(job.job_id)
    told = (job.last_success_at, None if tally is None else tally.succeeded_at)
    return max((at for at in told if at is not None), default=None)


def _unix(at: datetime | None) -> float | None:
    return None if at is None else seconds_between(EPOCH, at)


def _add_usage(cpu: Family, memory: Family, job: Figures, labels: str) -> None:
    cpu.add(None if job.cpu_percent is None else round(job.cpu_percent / 100, 6), labels)
    memory.add(None if job.memory_mb is None else round(job.memory_mb * 2**20), labels)


# --- what adds up ---


def _of_history(spec: Spec, noted: Noted) -> Iterator[Family]:
    runs = Family("procclaw_job_runs_total", "counter", "Runs that have ended since the daemon started, by how.")
    said = "How long runs took that ended since the daemon started, retries and the pauses between them included."
    lasted = Family("procclaw_job_run_duration_seconds", "histogram", said)
    said = "Due times since the daemon started that the job did not run for, by why."
    slots = Family("procclaw_job_slots_total", "counter", said)
    edges = edges_of(RUN_BOUNDS)
    for name in sorted(spec.jobs):
        tally, labels = noted.jobs.get(name) or JobTally(), labelled(job=name)
        for state, count in sorted(_ends(tally).items()):
            runs.add(count, f'{labels},state="{state}"')
        if tally.lasted is not None:
            lasted.add_histogram(edges, tally.lasted.counts, tally.lasted.total, labels)
        for kind, count in sorted(_not_run(spec.jobs[name], tally).items()):
            slots.add(count, f"{labels},{kind}")
    yield from (runs, lasted, slots)
    waits = Family("procclaw_waiting_runs", "gauge", "Runs that wait for their start, by what they wait for.")
    for reason, waiting in sorted(noted.waits.items()):
        waits.add(waiting, labelled(reason=reason))
    yield waits


def _ends(tally: JobTally) -> dict[RunState, int]:
    """With those that are alerted upon from the start: where a counter appears as 1, nobody sees it rise."""
    return {RunState.SUCCEEDED: 0, RunState.FAILED: 0, **tally.ended}


def _not_run(spec: JobSpec, tally: JobTally) -> dict[str, int]:
    """By labels, and with what is alerted upon."""
    has_slots = bool(spec.schedule) or spec.run_at is not None
    counts = {f'outcome="{outcome}",reason="{reason}"': count for (outcome, reason), count in tally.slots.items()}
    return {_MISSED: 0, **counts} if has_slots else counts


def _single(name: str, said: str, value: float | None, kind: str = "gauge", labels: str = "") -> Family:
    family = Family(name, kind, said)
    family.add(value, labels)
    return family
