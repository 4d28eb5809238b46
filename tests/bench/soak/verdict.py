"""What a soak has shown, from the lines it wrote: a table, and what is wrong.

What must not grow is compared between the first and the last third of the longest life of the daemon, after a warm-up,
by medians: single samples may be anything on a machine that others use as well. The loop is judged by the processor
time that a cycle costs, not by how long it took, and that in floors: what the same work cost at the same moment.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.soak.jobs import ROTATED_BYTES, ROTATED_KEPT

Line = dict[str, Any]

WARM_UP_SHARE = 1 / 12
"""Of the whole time, after the start of a life: ten minutes of two hours."""
LASTING_ZOMBIE_SAMPLES = 2
"""The daemon takes leave of a child when it next wakes, so one may be seen, and seen again."""
MOST_REACTION_SECONDS = 2.0


class Bound(NamedTuple):
    """How much more the last third may have than the first: a share of it and so much more."""

    name: str
    figure: Callable[[Line], float]
    share: float
    more: float
    why: str


BOUNDS = (
    Bound("PSS, MiB", lambda seen: seen["pss_kib"] / 1024, 0.05, 3.0, "memory"),
    Bound("private memory, MiB", lambda seen: seen["private_kib"] / 1024, 0.05, 3.0, "memory"),
    Bound("RSS, MiB", lambda seen: seen["rss_kib"] / 1024, 0.05, 3.0, "memory"),
    Bound("descriptors, pidfds apart", lambda seen: seen["descriptors"], 0.0, 2.0, "descriptors"),
    Bound("pidfds", lambda seen: seen["pidfds"], 0.02, 5.0, "one for each attempt that lives"),
    Bound("pidfds less records", lambda seen: seen["pidfds"] - seen["records"], 0.0, 5.0, "watched and gone"),
    Bound("threads", lambda seen: seen["threads"], 0.0, 2.0, "threads"),
    Bound("processes of jobs", lambda seen: seen["processes"], 0.03, 10.0, "leftovers"),
    Bound("records", lambda seen: seen["records"], 0.03, 5.0, "records"),
    Bound("work directories", lambda seen: seen["work"], 0.03, 5.0, "work"),
    Bound("database, MiB", lambda seen: seen["database"] / 2**20, 0.10, 1.0, "history is kept for a fixed time"),
    Bound("database log, MiB", lambda seen: seen["wal"] / 2**20, 0.10, 4.0, "checkpoints keep up"),
    Bound(
        "CPU per cycle, in floors", lambda seen: seen["cpu_per_cycle_ms"] / seen["floor_ms"], 0.25, 0.02, "loop time"
    ),
    Bound(
        "CPU per minute, in floors", lambda seen: seen["cpu_per_minute_ms"] / seen["floor_ms"], 0.25, 1.0, "loop time"
    ),
)


class Check(NamedTuple):
    name: str
    shown: str
    wrong: str = ""
    """Empty: it is as it must be."""


def tell(path: Path) -> int:
    """Print the table; 1 if anything is wrong."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if not _of(lines, "begun"):
        print(f"{path}: nothing has begun")
        return 1
    checks = judge(lines)
    wide = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{'FAIL' if check.wrong else 'ok  '} {check.name:{wide}}  {check.shown}")
        if check.wrong:
            print(f"     {'':{wide}}  {check.wrong}")
    failed = sum(bool(check.wrong) for check in checks)
    print("the soak has passed" if not failed else f"the soak has failed: {failed} of {len(checks)} checks")
    return 1 if failed else 0


def judge(lines: list[Line]) -> list[Check]:
    return [
        *_growth(lines),
        _cycles(lines),
        _reactions(lines),
        _zombies(lines),
        _kept(lines),
        _replaced(lines),
        _restarts(lines),
        _slots(lines),
        _ran_once(lines),
        _rotation(lines),
        _operator(lines),
        _trouble(lines),
        _ended(lines),
    ]


def _of(lines: Iterable[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


# --- what must not grow ---


def lives(lines: list[Line]) -> list[list[Line]]:
    """The samples of each daemon, with what it has done since the sample before."""
    found: dict[int, list[Line]] = {}
    for seen in _of(lines, "sample"):
        life = found.setdefault(seen["daemon"], [])
        before = life[-1] if life else {"at": 0.0, "cpu_s": 0.0, "cycles": 0}
        spent = seen["cpu_s"] - before["cpu_s"]
        per_cycle = 1000 * spent / max(1, seen["cycles"] - before["cycles"])
        per_minute = 1000 * spent / max(0.1, seen["at"] - before["at"]) * 60
        life.append({**seen, "cpu_per_cycle_ms": per_cycle, "cpu_per_minute_ms": per_minute})
    return list(found.values())


def thirds(samples: list[Line], warm_up_seconds: float) -> tuple[list[Line], list[Line]]:
    """The first and the last third of the samples of a life, in time, once it is warm."""
    begin, end = samples[0]["at"] + warm_up_seconds, samples[-1]["at"]
    third = (end - begin) / 3
    first = [seen for seen in samples if begin <= seen["at"] <= begin + third]
    last = [seen for seen in samples if seen["at"] >= end - third and seen["at"] >= begin]
    return first, last


def _growth(lines: list[Line]) -> Iterator[Check]:
    seconds = _of(lines, "begun")[0]["settings"]["seconds"]
    longest = max(lives(lines), key=lambda life: float(life[-1]["at"] - life[0]["at"]), default=[])
    first, last = thirds(longest, seconds * WARM_UP_SHARE) if longest else ([], [])
    if len(first) < 3 or len(last) < 3:
        yield Check("growth", f"{len(first)} and {len(last)} samples", "too few samples to tell")
        return
    span = (
        f"{first[0]['at'] / 60:.0f}-{first[-1]['at'] / 60:.0f} and {last[0]['at'] / 60:.0f}-{last[-1]['at'] / 60:.0f}"
    )
    yield Check("compared", f"{len(first)} and {len(last)} samples of one daemon, minutes {span}")
    for bound in BOUNDS:
        before = statistics.median(map(bound.figure, first))
        after = statistics.median(map(bound.figure, last))
        most = before + abs(before) * bound.share + bound.more
        wrong = f"{bound.why}: more than {most:.2f}" if after > most else ""
        yield Check(bound.name, f"{before:10.2f} -> {after:10.2f}   (at most {most:.2f})", wrong)


def _cycles(lines: list[Line]) -> Check:
    samples = [seen for life in lives(lines) for seen in life[1:]]
    if not samples:
        return Check("cycles", "none", "no daemon was sampled twice")
    last = [life[-1] for life in lives(lines)]
    cycles, cpu = sum(seen["cycles"] for seen in last), sum(seen["cpu_s"] for seen in last)
    wall = sum(seen["cycles_wall_s"] for seen in last)
    each = f"{1000 * cpu / max(1, cycles):.1f} ms CPU each, HTTP included; {1000 * wall / max(1, cycles):.1f} ms wall"
    floors = sorted(seen["floor_ms"] for seen in samples)
    floor = f"a floor was {floors[0]:.0f} to {floors[-1]:.0f} ms, median {statistics.median(floors):.0f}"
    return Check("cycles", f"{cycles} in {len(last)} lives, {each}; {floor}")


def _reactions(lines: list[Line]) -> Check:
    found = _of(lines, "reaction")
    if not found:
        return Check("start of a job", "never asked for", "nobody has seen how long it takes")
    by_http = statistics.median(line["http_s"] for line in found)
    by_command = statistics.median(line["command_s"] for line in found)
    shown = f"{len(found)} times: pid after {1000 * by_http:.0f} ms over HTTP, {1000 * by_command:.0f} ms by command"
    return Check("start of a job", shown, "too slow" if by_http > MOST_REACTION_SECONDS else "")


def _zombies(lines: list[Line]) -> Check:
    in_a_row: Counter[tuple[int, int]] = Counter()
    longest = 0
    for seen in _of(lines, "sample"):
        now = [(pid, ticks) for pid, ticks in seen["zombies"]]
        in_a_row = Counter({zombie: in_a_row[zombie] + 1 for zombie in now})
        longest = max([longest, *in_a_row.values()])
    wrong = "a child was not taken leave of" if longest > LASTING_ZOMBIE_SAMPLES else ""
    return Check("zombies", f"the same one in at most {longest} samples in a row", wrong)


# --- what must not happen ---


def _kept(lines: list[Line]) -> Check:
    found = _of(lines, "taken over")
    changed = [name for line in found for name in line["changed"]]
    killed = len(_of(lines, "killed"))
    wrong = f"not the same pids: {changed[:10]}" if changed else "" if len(found) == killed else "not taken over"
    return Check("daemon killed", f"{killed} times, {sum(line['steady'] for line in found)} pids looked at", wrong)


def _replaced(lines: list[Line]) -> Check:
    jobs = [job for line in _of(lines, "replaced") for job in line["jobs"].items()]
    steady = _of(lines, "begun")[0]["steady"]
    wrong = f"with another pid: {jobs[:10]}" if jobs else ""
    return Check("steady jobs", f"{steady}, looked at {len(_of(lines, 'sample'))} times", wrong)


def _restarts(lines: list[Line]) -> Check:
    """Each attempt of a crashing job begins once, and only after the one before has ended by itself."""
    starts, wrong = 0, []
    for line in _notes(lines, "start"):
        own = [note.split() for note in line["lines"]]
        starts += sum(note[0] == "start" for note in own)
        expected = [(word, note[1:]) for note in own if note[0] == "start" for word in ("start", "end")]
        told = [(note[0], note[1:]) for note in own]
        numbers = [int(note[2]) for note in own if note[0] == "start"]
        if told != expected[: len(told)] or numbers != list(range(1, len(numbers) + 1)):
            wrong.append(line["job"])
    shown = f"{starts} starts of {len(_notes(lines, 'start'))} jobs"
    why = f"started without having ended, or lost count: {wrong[:10]}" if wrong else ""
    return Check("crashing jobs", shown, why if starts else "none has told of itself")


def _notes(lines: list[Line], word: str) -> list[Line]:
    return [line for line in _of(lines, "notes") if line["lines"] and line["lines"][0].startswith(f"{word} ")]


def _slots(lines: list[Line]) -> Check:
    """Each due time of each schedule in exactly one row, from the first that was recorded until the ledger was read."""
    periods = _of(lines, "begun")[0]["periods"]
    read_at = [line["at"] for line in _of(lines, "slots")] or [0.0]
    # Read anew, a row may say more than before: the newest reading counts.
    rows = {(row[0], row[1]): row for line in _of(lines, "slots") for row in line["rows"]}
    covered: dict[str, Counter[int]] = {name: Counter() for name in periods}
    outcomes: Counter[str] = Counter()
    wrong = []
    for job, first, last, count, outcome, reason, _run in rows.values():
        if job not in periods:
            continue
        due = range(_epoch(first), _epoch(last) + 1, periods[job])
        covered[job].update(due)
        outcomes[outcome if reason is None else f"{outcome} ({reason})"] += count
        if len(due) != count or due[-1] != _epoch(last) or due[0] % periods[job]:
            wrong.append(f"{job} {first} to {last} counts {count}")
    for job, times in covered.items():
        wrong += _not_once(job, times, periods[job], read_at[-1] - read_at[0])
    shown = f"{sum(outcomes.values())} due times of {len(periods)} jobs: "
    shown += ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    return Check("ledger", shown, f"{len(wrong)} wrong: {wrong[:10]}" if wrong else "")


def _not_once(job: str, times: Counter[int], period: int, seconds: float) -> Iterator[str]:
    """What is wrong with a job's due times, by the number of rows that they are in; `seconds` were looked at."""
    if not times:
        yield from [f"{job} has no row"] if seconds > period else []
        return
    yield from (f"{job} {at} in {count} rows" for at, count in times.items() if count > 1)
    yield from (f"{job} {at} in no row" for at in range(min(times), max(times), period) if at not in times)
    # Where the looking begins and ends, one may be just ahead.
    if len(times) < seconds / period - 2:
        yield f"{job} has {len(times)} due times in {seconds:.0f} s"


def _epoch(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp())


def _ran_once(lines: list[Line]) -> Check:
    """By what the jobs wrote themselves: no due time had the same attempt twice."""
    ran, twice = 0, []
    for line in _notes(lines, "due"):
        counts: Counter[str] = Counter(line["lines"])
        ran += len(counts)
        twice += [f"{line['job']} {note}" for note, count in counts.items() if count > 1]
    told = f"twice: {twice[:10]}" if twice else "" if ran else "none has told of itself"
    return Check("scheduled jobs", f"{ran} attempts told of themselves", told)


def _rotation(lines: list[Line]) -> Check:
    """What is left of a log are its newest lines, each once, and not more than the files may hold."""
    found = _of(lines, "log")
    gaps = [line["job"] for line in found if line["numbers"] != _counted_up(line["numbers"])]
    most = max((line["bytes"] for line in found), default=0)
    rotations = sum(line["numbers"][0] > 1 for line in found if line["numbers"])
    # Looked at once a minute, so it may have grown past its size meanwhile.
    too_big = most > 3 * ROTATED_BYTES * (ROTATED_KEPT + 1)
    wrong = f"lines lost or doubled: {gaps[:10]}" if gaps else "it does not stay small" if too_big else ""
    wrong = wrong if rotations else "none was rotated"
    return Check("rotated logs", f"{rotations} of {len(found)} have lost old lines, at most {most} bytes each", wrong)


def _counted_up(numbers: list[int]) -> list[int]:
    return list(range(numbers[0], numbers[0] + len(numbers))) if numbers else []


def _operator(lines: list[Line]) -> Check:
    deeds = Counter(line["deed"] for line in _of(lines, "operator"))
    shown = ", ".join(f"{count} {deed}" for deed, count in deeds.most_common())
    return Check("operator", shown, "" if deeds else "did nothing")


def _trouble(lines: list[Line]) -> Check:
    found = _of(lines, "trouble")
    told = [f"{line['of']} at {line['at']:.0f} s: {line['error'][:200]}" for line in found]
    return Check("trouble", f"{len(found)} times", "; ".join(told[:5]))


def _ended(lines: list[Line]) -> Check:
    found = _of(lines, "ended")
    if not found:
        return Check("the end", "never reached", "it broke off")
    [end] = found
    left = {name: end[name] for name in ("left", "records", "work") if end[name]}
    wrong = f"left behind: {str(left)[:500]}" if left else "" if end["code"] == 0 else "the daemon failed"
    return Check("the end", f"all stopped in {end.get('seconds', math.nan):.0f} s, exit code {end['code']}", wrong)
