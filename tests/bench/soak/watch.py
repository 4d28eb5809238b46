"""What a soak looks at, and the file of JSON lines that it writes all of it to: `verdict` needs nothing else.

Each line has `kind` and `at`, the seconds since the soak began. The daemon is looked at from outside, in /proc; what
the loop does it tells itself, by its metrics.
"""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from tests.bench.machine import cpu_seconds
from tests.httpclient import Client
from tests.support import environment, look_at_all

PIDFD = "anon_inode:[pidfd]"
SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$", re.MULTILINE)
CYCLES = "procclaw_reconcile_duration_seconds"
SLOTS = ("job_id", "first_due_at", "last_due_at", "count", "outcome", "reason", "run_id")
"""What is taken down of a row of the ledger, in this order."""


FLOOR_ROUNDS = 40
FLOOR_ROWS = 500
"""Together some 40 ms: long enough to measure, short enough not to weigh."""


class Journal:
    """The file. A line is on disk before the next thing is done."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def write(self, kind: str, **fields: Any) -> None:
        line = {"kind": kind, "at": round(self.seconds(), 1), **fields}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def sample(home: Path, daemon: int, client: Client) -> dict[str, Any]:
    """Everything that must not grow, now."""
    figures = metrics(client)
    return {
        "daemon": daemon,
        **memory(daemon),
        **descriptors(daemon),
        "threads": len(os.listdir(f"/proc/{daemon}/task")),
        "cpu_s": round(cpu_seconds(daemon), 2),
        "cycles": int(sum(figures[f"{CYCLES}_count"].values())),
        "cycles_wall_s": round(sum(figures[f"{CYCLES}_sum"].values()), 4),
        **processes(home, daemon),
        "database": size(home / "procclaw.db"),
        "wal": size(home / "procclaw.db-wal"),
        "records": len(os.listdir(home / "records")) - 1,
        "work": len(os.listdir(home / "work")),
        "logs": sum(map(size, (home / "logs").iterdir())),
        "statuses": {label(key, "status"): int(count) for key, count in figures["procclaw_jobs"].items() if count},
        "waiting": {label(key, "reason"): int(count) for key, count in figures["procclaw_waiting_runs"].items()},
        "dead_letters": int(sum(figures["procclaw_dead_letters"].values())),
        "load": os.getloadavg()[0],
        "floor_ms": round(floor(), 3),
    }


def floor() -> float:
    """The processor time, in ms, of always the same work: neighbours on the machine make it dearer, as they do a cycle.

    Some of what a cycle does: many small objects, text made and read, and questions to the system.
    """
    began = time.process_time()
    for _ in range(FLOOR_ROUNDS):
        rows = [{"id": f"job-{number}", "due": number} for number in range(FLOOR_ROWS)]
        json.loads(json.dumps(rows))
        for name in ("stat", "status"):
            (Path("/proc/self") / name).read_text()
    return 1000 * (time.process_time() - began)


def metrics(client: Client) -> dict[str, dict[str, float]]:
    """By name, then by labels as they are printed."""
    found: dict[str, dict[str, float]] = {"procclaw_waiting_runs": {}}
    for name, labels, value in SAMPLE.findall(client.get("/metrics").body.decode()):
        found.setdefault(name, {})[labels] = float(value)
    return found


def label(labels: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', labels)
    return found[1] if found else labels


def memory(pid: int) -> dict[str, int]:
    """In KiB. `private`: what this process alone keeps, whatever others share with it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {words[0].rstrip(":"): int(words[1]) for words in map(str.split, lines)}
    private = found["Private_Clean"] + found["Private_Dirty"]
    return {"pss_kib": found["Pss"], "rss_kib": found["Rss"], "private_kib": private}


def descriptors(pid: int) -> dict[str, int]:
    """Those that stand for a process that is watched come and go with the runs, and are counted apart."""
    folder = Path(f"/proc/{pid}/fd")
    kinds: Counter[bool] = Counter()
    for name in os.listdir(folder):
        try:
            kinds[os.readlink(folder / name) == PIDFD] += 1
        except FileNotFoundError:
            # Closed since it was listed.
            continue
    return {"descriptors": kinds[False], "pidfds": kinds[True]}


def processes(home: Path, daemon: int) -> dict[str, Any]:
    """How many live in this home, and the daemon's children that it has not taken leave of."""
    ours = f"PROCCLAW_HOME={home}".encode()
    table = list(look_at_all())
    zombies = [[seen.pid, seen.start_ticks] for seen in table if seen.is_dead and seen.parent == daemon]
    return {"processes": sum(ours in environment(seen.pid) for seen in table), "zombies": zombies}


def of_job(home: Path, job_id: str) -> set[int]:
    """All that lives of a job."""
    wanted = {f"PROCCLAW_HOME={home}".encode(), f"PROCCLAW_JOB_ID={job_id}".encode()}
    return {seen.pid for seen in look_at_all() if not seen.is_dead and wanted <= environment(seen.pid)}


def size(path: Path) -> int:
    """A file that has gone meanwhile takes no space."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def pids(client: Client, job_ids: Iterable[str]) -> dict[str, int | None]:
    views = {view["id"]: view["pid"] for view in client.get("/api/v1/jobs?limit=10000").json["jobs"]}
    return {job_id: views.get(job_id) for job_id in job_ids}


def numbered_log(home: Path, name: str) -> dict[str, Any]:
    """The numbers of the lines that are left of a log, and the bytes it has come to, rotated files included."""
    files = list((home / "logs").glob(f"{name}.log*"))
    lines = [line.split() for path in files for line in path.read_text().splitlines()]
    numbers = sorted(int(words[1]) for words in lines if words[0] == "line")
    return {"numbers": numbers, "bytes": sum(map(size, files)), "files": len(files)}
