"""`python -m tests.bench [PYZ]`: what the built .pyz costs, beside what the machine itself costs at that moment.

Machines differ and are noisy, so the ratio or difference to the floor is the figure, not the milliseconds. Everything
that is started here is stopped again.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 30


def main(argv: list[str]) -> int:
    pyz = Path(argv[0] if argv else ROOT / "dist" / "procclaw.pyz").resolve()
    figures: dict[str, float] = {"pyz_mib": pyz.stat().st_size / 2**20}
    figures |= starting(pyz)
    figures |= bringing_up(pyz, jobs=200)
    for name, value in figures.items():
        print(f"{name:40} {value:10.3f}")
    print(json.dumps(figures))
    return 0


def command(pyz: Path, home: Path, *words: str) -> list[str]:
    return [sys.executable, str(pyz), "--home", str(home), *words]


def milliseconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1000


def least(argv: list[str]) -> float:
    """The fastest of several runs: whatever else the machine does can only add to it."""

    def run() -> None:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)

    return min(milliseconds(run) for _ in range(ROUNDS))


@contextlib.contextmanager
def a_home(jobs: dict[str, dict[str, object]]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="procclaw-bench-"))
    try:
        (folder / "jobs.yaml").write_text(json.dumps({"jobs": jobs}))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def starting(pyz: Path) -> dict[str, float]:
    """Wall time of short commands, in milliseconds, with 500 manual jobs declared."""
    jobs: dict[str, dict[str, object]] = {f"job-{number}": {"cmd": "true"} for number in range(500)}
    with a_home(jobs) as home:
        subprocess.run(command(pyz, home, "reconcile"), check=True)
        floor = least([sys.executable, "-c", "pass"])
        figures = {"ms_python_pass": floor}
        for words in (("version",), ("list",), ("status", "job-7"), ("reconcile",)):
            figures[f"ms_{words[0]}_above_pass"] = least(command(pyz, home, *words)) - floor
    return figures


def bringing_up(pyz: Path, jobs: int) -> dict[str, float]:
    """Seconds until all continuous jobs run, against a loop that only spawns them; and memory once they do."""
    declared: dict[str, dict[str, object]] = {
        f"job-{number}": {"cmd": "sleep 1000", "type": "continuous"} for number in range(jobs)
    }
    floor = spawn_loop(jobs)
    with a_home(declared) as home:
        began = time.perf_counter()
        subprocess.run(command(pyz, home, "daemon", "start"), check=True, stdout=subprocess.DEVNULL)
        try:
            while running(pyz, home) < jobs:
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            daemon = int((home / "procclaw.pid").read_text())
            views = json.loads(subprocess.check_output(command(pyz, home, "list", "--json")))["jobs"]
            pids = [view["pid"] for view in views]
            shims = [parent_of(pid) for pid in pids]
            per_job = statistics.mean(pss_kib(shim) for shim in shims)
            daemon_mib = pss_kib(daemon) / 1024
            before = cpu_seconds(daemon)
            time.sleep(10)
            idle = (cpu_seconds(daemon) - before) * 3
        finally:
            subprocess.run(command(pyz, home, "daemon", "stop", "--jobs"), check=True, stdout=subprocess.DEVNULL)
    return {
        "s_spawn_loop_200": floor,
        "s_up_200": seconds,
        "ratio_up_200": seconds / floor,
        "mib_daemon_pss": daemon_mib,
        "kib_per_job_pss": per_job,
        "cpu_s_idle_in_30_s": idle,
    }


def spawn_loop(jobs: int) -> float:
    spawned: list[int] = []
    began = time.perf_counter()
    for _ in range(jobs):
        argv = ["/bin/sleep", "1000"]
        spawned.append(os.posix_spawn(argv[0], argv, os.environ, setsid=True))
    seconds = time.perf_counter() - began
    for pid in spawned:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return seconds


def running(pyz: Path, home: Path) -> int:
    listed = subprocess.run(
        command(pyz, home, "list", "--status", "running"), check=True, capture_output=True, text=True
    )
    return len(listed.stdout.splitlines())


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pss_kib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
