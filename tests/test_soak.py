"""The verdict of a soak: what is flat passes, and each thing that may go wrong in two hours is found out.

The soak itself runs for hours, by hand; here it is judged from lines as it writes them.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.soak.jobs import ALL, cast
from tests.bench.soak.verdict import judge, lives, thirds
from tests.driver import PROGRAM, ROOT, WITHIN
from tests.support import Reaper, environment, wait_until

Line = dict[str, Any]

SECONDS = 7200.0
KILLED_AT = 600


def a_sample(at: float, daemon: int, **other: Any) -> Line:
    return {
        "kind": "sample",
        "at": at,
        "daemon": daemon,
        "pss_kib": 60_000,
        "private_kib": 55_000,
        "rss_kib": 70_000,
        "descriptors": 23,
        "pidfds": 420,
        "threads": 4,
        "cpu_s": at / 50,
        "cycles": int(at),
        "cycles_wall_s": at / 100,
        "processes": 1100,
        "zombies": [],
        "database": 3_000_000,
        "wal": 4_000_000,
        "records": 420,
        "work": 420,
        "floor_ms": 40.0,
        **other,
    }


def a_soak() -> list[Line]:
    """One that went well: a daemon killed after ten minutes, and the next one until the end."""
    lines: list[Line] = [
        {"kind": "begun", "at": 0, "settings": {"seconds": SECONDS}, "periods": {"minutely-0": 60}, "steady": 1},
        *(a_sample(at, 7) for at in range(0, KILLED_AT, 30)),
        {"kind": "killed", "at": KILLED_AT, "pid": 7},
        {"kind": "taken over", "at": KILLED_AT, "steady": 1, "changed": []},
        *(a_sample(at, 8) for at in range(KILLED_AT, int(SECONDS), 30)),
        {"kind": "reaction", "at": 60, "command_s": 0.2, "http_s": 0.1},
        {"kind": "operator", "at": 70, "deed": "change", "seconds": 1},
        {
            "kind": "slots",
            "at": 300,
            "rows": [
                ["minutely-0", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 1, "ran", None, "a"],
                ["minutely-0", "2026-01-01T00:01:00Z", "2026-01-01T00:03:00Z", 3, "skipped", "paused", None],
                ["minutely-0", "2026-01-01T00:04:00Z", "2026-01-01T00:04:00Z", 1, "ran", None, "b"],
            ],
        },
        {"kind": "ended", "at": SECONDS, "code": 0, "left": [], "records": [], "work": []},
        {"kind": "notes", "at": SECONDS, "job": "hasty-0", "lines": ["start r 1", "end r 1", "start r 2"]},
        {"kind": "notes", "at": SECONDS, "job": "minutely-0", "lines": ["due 00:00 1", "due 00:04 1"]},
        {"kind": "log", "at": SECONDS, "job": "rotating-0", "numbers": [9, 10, 11], "bytes": 1000, "files": 3},
    ]
    return sorted(lines, key=lambda line: float(line["at"]))


def wrong_in(lines: list[Line]) -> list[str]:
    return [check.name for check in judge(lines) if check.wrong]


def test_a_soak_in_which_nothing_grew_and_nothing_got_lost_has_passed() -> None:
    assert wrong_in(a_soak()) == []


def growing(name: str, by_the_hour: float) -> Callable[[Line], None]:
    def change(line: Line) -> None:
        if line["kind"] == "sample":
            line[name] += by_the_hour * line["at"] / 3600

    return change


@pytest.mark.parametrize(
    ("name", "by_the_hour", "told"),
    [
        ("pss_kib", 10_000, "PSS, MiB"),
        ("private_kib", 10_000, "private memory, MiB"),
        ("rss_kib", 10_000, "RSS, MiB"),
        ("descriptors", 5, "descriptors, pidfds apart"),
        ("threads", 5, "threads"),
        ("processes", 80, "processes of jobs"),
        ("work", 60, "work directories"),
        ("database", 3_000_000, "database, MiB"),
        ("wal", 10_000_000, "database log, MiB"),
    ],
)
def test_what_grows_by_the_hour_is_found_out(name: str, by_the_hour: float, told: str) -> None:
    lines = a_soak()
    for line in lines:
        growing(name, by_the_hour)(line)
    assert wrong_in(lines) == [told]


def test_a_loop_whose_cycles_cost_more_and_more_is_found_out() -> None:
    lines = a_soak()
    for line in lines:
        if line["kind"] == "sample":
            line["cpu_s"] = line["at"] / 50 + line["at"] ** 2 / 500_000
    assert wrong_in(lines) == ["CPU per cycle, in floors", "CPU per minute, in floors"]


def test_a_loop_that_is_dearer_because_everything_is_has_not_grown() -> None:
    """Others came to the machine meanwhile: the same work costs twice as much, and so does a cycle."""
    lines = a_soak()
    for line in lines:
        if line["kind"] == "sample" and line["at"] > SECONDS / 2:
            line["cpu_s"] = line["at"] / 50 + (line["at"] - SECONDS / 2) / 50
            line["floor_ms"] = 80.0
    assert wrong_in(lines) == []


def test_growth_that_a_restart_hides_is_judged_within_one_life() -> None:
    """The last daemon is killed shortly before the end: what it had come to counts all the same."""
    lines = [line for line in a_soak() if line["kind"] != "sample"]
    lines += [a_sample(at, 8, pss_kib=60_000 + 4 * at) for at in range(0, 6600, 30)]
    lines += [a_sample(at, 9) for at in range(6600, 7200, 30)]
    assert wrong_in(lines) == ["PSS, MiB"]


def test_noise_is_no_growth() -> None:
    lines = a_soak()
    for number, line in enumerate(lines):
        if line["kind"] == "sample" and number % 7 == 0:
            line |= {"pss_kib": 90_000, "threads": 30, "descriptors": 200}
    assert wrong_in(lines) == []


def test_a_broken_off_soak_has_not_passed() -> None:
    assert "the end" in wrong_in([line for line in a_soak() if line["kind"] != "ended"])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("reaction", {"start of a job"}),
        ("operator", {"operator"}),
        ("notes", {"crashing jobs", "scheduled jobs"}),
        ("log", {"rotated logs"}),
    ],
)
def test_what_nobody_has_looked_at_has_not_passed(kind: str, told: set[str]) -> None:
    assert set(wrong_in([line for line in a_soak() if line["kind"] != kind])) == told


def test_a_schedule_that_had_no_time_to_come_round_is_not_missed() -> None:
    lines = changed("slots", rows=[])
    lines.append({"kind": "slots", "at": 350, "rows": []})
    assert wrong_in(lines) == []


def test_a_soak_too_short_to_tell_has_not_passed() -> None:
    lines = [line for line in a_soak() if line["kind"] != "sample" or line["at"] < 120]
    assert "growth" in wrong_in(lines)


def changed(kind: str, **other: Any) -> list[Line]:
    """A soak whose first line of that kind says something else."""
    lines = a_soak()
    line = next(line for line in lines if line["kind"] == kind)
    line |= other
    return lines


def a_row(first: str, last: str, count: int) -> list[Any]:
    return ["minutely-0", f"2026-01-01T00:{first}:00Z", f"2026-01-01T00:{last}:00Z", count, "ran", None, "a"]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param(changed("taken over", changed=["base-1"]), "daemon killed", id="a pid lost with the daemon"),
        pytest.param([*a_soak(), {"kind": "killed", "at": 1, "pid": 8}], "daemon killed", id="never taken over"),
        pytest.param(
            [*a_soak(), {"kind": "replaced", "at": 90, "jobs": {"plain-0": [1, 2]}}], "steady jobs", id="replaced"
        ),
        pytest.param(
            [*a_soak(), {"kind": "trouble", "at": 90, "of": "act", "error": "no"}], "trouble", id="not as asked"
        ),
        pytest.param(
            changed("slots", rows=[a_row("00", "00", 1), a_row("02", "02", 1)]), "ledger", id="a due time in no row"
        ),
        pytest.param(
            changed("slots", rows=[a_row("00", "01", 2), a_row("01", "01", 1)]), "ledger", id="a due time in two rows"
        ),
        pytest.param(changed("slots", rows=[a_row("00", "02", 2)]), "ledger", id="a row that counts wrongly"),
        pytest.param(
            [*changed("slots", rows=[]), {"kind": "slots", "at": 3600, "rows": []}],
            "ledger",
            id="a schedule without a row",
        ),
        pytest.param(
            [*a_soak(), {"kind": "slots", "at": 3600, "rows": []}], "ledger", id="a schedule that came to a halt"
        ),
        pytest.param(
            changed("notes", lines=["start r 1", "start r 2"]), "crashing jobs", id="started beside the one before"
        ),
        pytest.param(
            changed("notes", lines=["start r 1", "end r 1", "start r 1"]), "crashing jobs", id="an attempt made twice"
        ),
        pytest.param(
            changed("notes", lines=["start r 1", "end r 1", "start r 3"]), "crashing jobs", id="an attempt left out"
        ),
        pytest.param(
            [*a_soak(), {"kind": "notes", "at": 90, "job": "often-0", "lines": ["due 00:00 1", "due 00:00 1"]}],
            "scheduled jobs",
            id="a due time that ran twice",
        ),
        pytest.param(changed("log", numbers=[9, 11]), "rotated logs", id="a line lost"),
        pytest.param(changed("log", numbers=[9, 9, 10]), "rotated logs", id="a line doubled"),
        pytest.param(changed("log", bytes=10**7), "rotated logs", id="a log that grows on"),
        pytest.param(changed("ended", left=["17 sleep 1000000"]), "the end", id="a process left"),
        pytest.param(changed("ended", records=["a.b.1.c"]), "the end", id="a record left"),
        pytest.param(changed("ended", code=1), "the end", id="a daemon that failed"),
        pytest.param(changed("reaction", http_s=60), "start of a job", id="slow"),
    ],
)
def test_what_must_not_happen_is_found_out(lines: list[Line], told: str) -> None:
    assert wrong_in(lines) == [told]


def test_a_child_seen_dead_again_and_again_is_found_out_but_not_one_after_the_other() -> None:
    lasting, passing = a_soak(), a_soak()
    for number, line in enumerate(line for line in lasting if line["kind"] == "sample"):
        line["zombies"] = [[17, 5]] if 10 <= number < 13 else []
    for number, line in enumerate(line for line in passing if line["kind"] == "sample"):
        line["zombies"] = [[number // 2, 5]]
    assert wrong_in(lasting) == ["zombies"]
    assert wrong_in(passing) == []


def test_a_life_is_compared_after_its_warm_up() -> None:
    [first, longest] = lives(a_soak())
    assert (first[0]["daemon"], longest[0]["daemon"]) == (7, 8)
    early, late = thirds(longest, 600)
    assert (early[0]["at"], early[-1]["at"], late[-1]["at"]) == (1200, 3180, 7170)
    assert len(early) == len(late)


def test_a_soak_has_as_many_jobs_as_were_asked_for_and_some_of_every_kind(tmp_path: Path) -> None:
    many, few = cast(tmp_path, ALL, 1, 80), cast(tmp_path, 100, 1, 80)
    assert (len(many.jobs), len(few.jobs)) == (ALL, 100)
    kinds = {name.rpartition("-")[0] for name in many.jobs}
    assert kinds == {name.rpartition("-")[0] for name in few.jobs}
    assert set(many.steady) | set(many.ending) | set(many.periods) <= set(many.jobs)


@pytest.mark.real
def test_a_soak_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path, reaper: Reaper) -> None:
    """Half-way through, with jobs that ignore SIGTERM, left their session, or are about to be restarted."""
    home, out = tmp_path / "home", tmp_path / "soak.jsonl"
    reaper.watch_home(home)
    words = ("-m", "tests.bench.soak", "--jobs", "35", "--pyz", PROGRAM, "--home", home, "--out", out)
    soak = reaper.spawn([sys.executable, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: out.exists() and '"sample"' in out.read_text(), WITHIN * 3, out.read_text)
    own = f"PROCCLAW_HOME={home}".encode()
    wait_until(lambda: sum(own in environment(seen.pid) for seen in reaper.members()) > 35, WITHIN, reaper.members)
    soak.send_signal(signal.SIGTERM)
    soak.communicate(timeout=WITHIN * 3)
    assert soak.returncode == 128 + signal.SIGTERM
    assert reaper.members() == ()
    assert wrong_in([json.loads(line) for line in out.read_text().splitlines()]).count("the end") == 1
