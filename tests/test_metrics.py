"""The numbers: what cycles add up to, what the database tells, and the text that Prometheus reads."""

import json
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from procclaw import __version__
from procclaw.engine.census import take_census
from procclaw.engine.controller import Cycle
from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.interface.metrics import Metrics
from procclaw.interface.metrics.exposition import Family, edges_of, exposition, labelled
from procclaw.interface.metrics.tally import REMEMBERED_ENDS, Tally
from procclaw.model.alerts import Alert, AlertKind, AlertState
from procclaw.model.clock import SystemClock, iso
from procclaw.model.reasons import Reason
from procclaw.model.records import HOME, Run, SlotOutcome, Slots, SlotsWithdrawn, Usage
from procclaw.model.rows import Row, Write
from procclaw.model.spec import JobSpec, LimitAction, Resources, Spec
from procclaw.planning import views
from procclaw.planning.actions import Plan, Wait
from procclaw.planning.board import Board
from procclaw.system.store import Problems
from tests.builders import (
    JOB,
    NOW,
    a_cursor,
    a_dead_letter,
    a_health,
    a_hold,
    a_job,
    a_run,
    a_spec,
    a_wait,
    ago,
    an_attempt,
    an_order,
    continuous_run,
    ended,
    in_line,
    later,
    over,
    slots_row,
)
from tests.faults import seeds_that_want
from tests.managers import Manager, WatchedStore
from tests.scene import Scene
from tests.simulate import play

PROMTOOL = shutil.which("promtool")
Samples = dict[str, float]


class StandingClock(SystemClock):
    """It is always NOW."""

    def now(self) -> datetime:
        return NOW


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Home]:
    with Home(str(tmp_path), StandingClock()) as home:
        yield home


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(StandingClock())


def a_cycle(spec: Spec | None, *writes: Write, **fields: Any) -> Cycle:
    """Over all jobs, unless told otherwise."""
    cycle = Cycle(NOW, None, Plan(writes), None, spec, {}, (), has_acted=bool(writes))
    return cycle._replace(**fields)


def named(name: str, *jobs: JobSpec) -> JobSpec:
    return (jobs[0] if jobs else a_job())._replace(id=name, name=name)


def samples(text: bytes) -> Samples:
    """By name and labels, as they are written."""
    found = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    assert len({name for name, _, _ in found}) == len(found), "a sample twice"
    return {name: float(value) for name, _, value in found}


def said_of(metrics: Metrics, home: Home, beginning: str) -> Samples:
    """The samples whose names begin so, without that beginning."""
    found = samples(metrics.text(home))
    return {name.removeprefix(beginning): value for name, value in found.items() if name.startswith(beginning)}


def record(home: Home, *rows: Row) -> None:
    home.store.record(rows)


# --- the text ---


def test_a_family_says_what_it_is_before_its_samples() -> None:
    family = Family("things", "gauge", "What there is.")
    family.add(2, labelled(kind="a"))
    family.add(0.5)
    wanted = '# HELP things What there is.\n# TYPE things gauge\nthings{kind="a"} 2\nthings 0.5\n'
    assert exposition([family]) == wanted.encode()


def test_a_family_without_samples_is_left_out() -> None:
    family = Family("things", "gauge", "What there is.")
    family.add(None)
    assert exposition([family]) == b""


def test_families_come_in_the_order_of_their_names() -> None:
    families = [Family(name, "gauge", name) for name in ("b", "a_b", "a")]
    for family in families:
        family.add(1)
    assert re.findall(rb"^# TYPE (\S+)", exposition(families), re.MULTILINE) == [b"a", b"a_b", b"b"]


def test_what_a_label_says_is_escaped() -> None:
    assert labelled(job='a\\b"c\nd', kind="ü") == r'job="a\\b\"c\nd",kind="ü"'


def test_help_is_escaped() -> None:
    family = Family("things", "gauge", 'a\\b"c\nd')
    family.add(1)
    assert exposition([family]).splitlines()[0] == rb'# HELP things a\\b"c\nd'


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, "0"), (True, "1"), (3.0, "3"), (0.1, "0.1"), (1780315200.123456, "1780315200.123456"), (1e300, "1e+300")],
)
def test_numbers_are_short_and_exact(value: float, wanted: str) -> None:
    family = Family("things", "gauge", "x")
    family.add(value)
    assert exposition([family]).decode().splitlines()[-1] == f"things {wanted}"


def test_the_buckets_of_a_histogram_add_up() -> None:
    family = Family("span_seconds", "histogram", "x")
    family.add_histogram(edges_of((0.5, 2.0)), (1, 0, 3), 12.5, labelled(job="a"))
    assert exposition([family]).decode().splitlines()[2:] == [
        'span_seconds_bucket{job="a",le="0.5"} 1',
        'span_seconds_bucket{job="a",le="2"} 1',
        'span_seconds_bucket{job="a",le="+Inf"} 4',
        'span_seconds_sum{job="a"} 12.5',
        'span_seconds_count{job="a"} 4',
    ]


# --- what adds up: ends of runs ---

RUNS = "procclaw_job_runs_total"
LASTED = "procclaw_job_run_duration_seconds"


def test_runs_are_counted_by_how_they_ended(metrics: Metrics, opened: Home) -> None:
    runs = [a_run("running", occasion=str(number)) for number in range(4)]
    states = ("succeeded", "failed", "stopped", "succeeded")
    ends = [over(run, state, Reason.FINISHED) for run, state in zip(runs, states, strict=True)]
    metrics.take_note(a_cycle(a_spec(a_job()), *ends), 0.1)
    assert said_of(metrics, opened, RUNS) == {
        '{job="job",state="failed"}': 1,
        '{job="job",state="stopped"}': 1,
        '{job="job",state="succeeded"}': 2,
    }


def test_successes_and_failures_are_zero_before_the_first(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec(a_job())), 0.1)
    assert said_of(metrics, opened, RUNS) == {'{job="job",state="failed"}': 0, '{job="job",state="succeeded"}': 0}


def test_a_run_that_goes_on_is_not_counted(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec(a_job()), a_run("running"), a_run("retrying", occasion="b")), 0.1)
    assert not any(said_of(metrics, opened, RUNS).values())


def test_an_end_that_is_decided_again_because_the_disk_was_full_counts_once(metrics: Metrics, opened: Home) -> None:
    run = a_run("running")
    for seconds in range(3):
        metrics.take_note(a_cycle(a_spec(a_job()), over(run, "failed", Reason.FINISHED, later(seconds))), 0.1)
    assert said_of(metrics, opened, RUNS)['{job="job",state="failed"}'] == 1
    assert said_of(metrics, opened, LASTED)['_count{job="job"}'] == 1


def test_what_is_remembered_of_ends_does_not_grow_for_ever(metrics: Metrics, opened: Home) -> None:
    spec = a_spec(a_job())
    run = over(a_run("running"), "succeeded", Reason.FINISHED)
    ends = [run._replace(id=str(number)) for number in range(REMEMBERED_ENDS + 1)]
    metrics.take_note(a_cycle(spec, *ends), 0.1)
    metrics.take_note(a_cycle(spec, ends[-1], ends[1]), 0.1)
    assert said_of(metrics, opened, RUNS)['{job="job",state="succeeded"}'] == len(ends)
    metrics.take_note(a_cycle(spec, ends[0]), 0.1)  # forgotten by now
    assert said_of(metrics, opened, RUNS)['{job="job",state="succeeded"}'] == len(ends) + 1


def test_durations_are_those_of_runs_that_have_ended(metrics: Metrics, opened: Home) -> None:
    idle, busy = named("idle"), named("busy")
    spans = (0.1, 0.2, 5, 100_000)
    ends = [
        over(a_run("running", job_id="busy", occasion=str(span), started_at=ago(span)), "succeeded", Reason.FINISHED)
        for span in spans
    ]
    metrics.take_note(a_cycle(a_spec(idle, busy), *ends), 0.1)
    found = said_of(metrics, opened, LASTED)
    assert not [name for name in found if "idle" in name]
    edges = [re.sub(r'.*le="(.*)".*', r"\1", name) for name in found if "_bucket" in name]
    assert edges == ["0.1", "0.5", "2", "10", "60", "300", "1800", "7200", "28800", "+Inf"]
    assert [found[f'_bucket{{job="busy",le="{edge}"}}'] for edge in edges] == [1, 2, 2, 3, 3, 3, 3, 3, 3, 4]
    assert found['_count{job="busy"}'] == 4
    assert found['_sum{job="busy"}'] == pytest.approx(sum(spans))


def test_a_run_that_never_began_has_no_duration(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec(a_job()), over(a_run(), "expired", Reason.QUEUE_TIMEOUT)), 0.1)
    assert said_of(metrics, opened, RUNS)['{job="job",state="expired"}'] == 1
    assert said_of(metrics, opened, LASTED) == {}


def test_a_run_during_which_the_clock_was_set_back_took_no_time(metrics: Metrics, opened: Home) -> None:
    run = over(a_run("running", started_at=later(60)), "succeeded", Reason.FINISHED)
    metrics.take_note(a_cycle(a_spec(a_job()), run), 0.1)
    assert said_of(metrics, opened, LASTED)['_sum{job="job"}'] == 0


def test_a_job_that_is_no_longer_declared_has_no_numbers_and_begins_anew(metrics: Metrics, opened: Home) -> None:
    with_it, without = a_spec(a_job()), a_spec(named("other"))._replace(hash="later")
    metrics.take_note(a_cycle(with_it, over(a_run("running"), "failed", Reason.FINISHED)), 0.1)
    goodbye = over(a_run("running", occasion="b"), "stopped", Reason.REMOVED)
    metrics.take_note(a_cycle(without, goodbye, slots_row(NOW, "skipped", Reason.REMOVED)), 0.1)
    assert 'job="job"' not in metrics.text(opened).decode()
    metrics.take_note(a_cycle(with_it), 0.1)
    assert said_of(metrics, opened, f'{RUNS}{{job="job"') == {',state="failed"}': 0, ',state="succeeded"}': 0}


# --- what adds up: slots ---

SLOTS = "procclaw_job_slots_total"
HOURLY = a_job("scheduled")
DOWN = '{job="job",outcome="missed",reason="down"}'


def test_slots_that_did_not_run_are_counted_by_why(metrics: Metrics, opened: Home) -> None:
    rows = (
        slots_row(ago(7200), "missed", Reason.DOWN, ago(3600), total=13),
        slots_row(ago(60), "ran", run=a_run()),
        slots_row(NOW, "skipped", Reason.OVERLAP),
    )
    metrics.take_note(a_cycle(a_spec(HOURLY), *rows), 0.1)
    assert said_of(metrics, opened, SLOTS) == {DOWN: 13, '{job="job",outcome="skipped",reason="overlap"}': 1}


def test_missed_slots_are_zero_before_the_first_of_a_job_that_has_slots(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec(HOURLY, named("once", a_job("oneshot")), named("by-hand"))), 0.1)
    assert said_of(metrics, opened, SLOTS) == {DOWN: 0, '{job="once",outcome="missed",reason="down"}': 0}


def test_slots_that_are_judged_again_because_the_disk_was_full_count_once(metrics: Metrics, opened: Home) -> None:
    spec = a_spec(HOURLY)
    for hours in (2, 2, 3):  # the third time one more has come due
        row = slots_row(NOW, "missed", Reason.DOWN, NOW + timedelta(hours=hours), total=hours + 1)
        metrics.take_note(a_cycle(spec, slots_row(ago(60), "skipped", Reason.PAUSED), row), 0.1)
    assert said_of(metrics, opened, SLOTS) == {DOWN: 4, '{job="job",outcome="skipped",reason="paused"}': 1}


def test_slots_count_once_more_that_come_due_once_more_after_the_clock_was_set_back(
    metrics: Metrics, opened: Home
) -> None:
    spec = a_spec(HOURLY)
    metrics.take_note(a_cycle(spec, slots_row(ago(7200), "missed", Reason.DOWN, later(7200), total=5)), 0.1)
    cut_short = slots_row(ago(7200), "missed", Reason.DOWN, NOW, total=3)
    metrics.take_note(a_cycle(spec, SlotsWithdrawn(JOB, NOW), cut_short), 0.1)
    assert said_of(metrics, opened, SLOTS)[DOWN] == 5
    metrics.take_note(a_cycle(spec, slots_row(later(3600), "missed", Reason.DOWN)), 0.1)
    assert said_of(metrics, opened, SLOTS)[DOWN] == 6


def test_a_row_that_is_cut_short_is_not_new_to_a_daemon_that_never_saw_it(metrics: Metrics, opened: Home) -> None:
    cut_short = slots_row(NOW, "missed", Reason.DOWN)
    metrics.take_note(a_cycle(a_spec(HOURLY), SlotsWithdrawn(JOB, NOW), cut_short), 0.1)
    assert said_of(metrics, opened, SLOTS) == {DOWN: 0}


def test_a_slot_whose_run_never_began_counts_as_skipped(metrics: Metrics, opened: Home) -> None:
    spec, run = a_spec(HOURLY), a_run(slot=ago(7200))
    metrics.take_note(a_cycle(spec, slots_row(ago(3600), "missed", Reason.DOWN)), 0.1)
    for _ in range(2):  # the second time because the disk was full
        never = over(run, "expired", Reason.QUEUE_TIMEOUT)
        metrics.take_note(a_cycle(spec, slots_row(ago(7200), "skipped", Reason.QUEUE_TIMEOUT, run=run), never), 0.1)
    assert said_of(metrics, opened, SLOTS) == {DOWN: 1, '{job="job",outcome="skipped",reason="queue_timeout"}': 1}
    metrics.take_note(a_cycle(spec, slots_row(NOW, "missed", Reason.DOWN)), 0.1)
    assert said_of(metrics, opened, SLOTS)[DOWN] == 2


# --- what adds up, in whole histories ---


class Books:
    """What a manager's cycles told, beside what it committed in them."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._ended: dict[str, Run] = {}
        self._slots: Counter[str] = Counter()
        self._withheld: set[tuple[str, str]] = set()
        """Job, and what was decided of it and could not be written down yet."""
        self._spec: Spec | None = None
        self.compared = self.withheld = 0

    def take_note(self, cycle: Cycle, committed: list[Row]) -> None:
        if cycle.spec is None:
            return
        declared = cycle.spec.jobs
        if self._spec is not None and self._spec.hash != cycle.spec.hash:
            self._ended = {name: run for name, run in self._ended.items() if run.job_id in declared}
            self._slots = Counter({name: count for name, count in self._slots.items() if name in declared})
            self._withheld = {(name, what) for name, what in self._withheld if name in declared}
        self._spec = cycle.spec
        set_back = {row.job_id: row.after for row in committed if isinstance(row, SlotsWithdrawn)}
        for write in cycle.plan.writes:
            if isinstance(write, Run | Slots) and write.job_id in declared:
                what = (write.job_id, write.id if isinstance(write, Run) else "slots")
                self._withheld = self._withheld - {what} if write in committed else self._withheld | {what}
        for row in committed:
            match row:
                case Run() if row.finished_at is not None and row.job_id in declared:
                    assert row.id not in self._ended
                    self._ended[row.id] = row
                case Slots() if row.outcome is not SlotOutcome.RAN and row.job_id in declared:
                    is_cut_short = row.run_id is None and row.first_due_at <= set_back.get(row.job_id, ago(10**9))
                    self._slots[row.job_id] += 0 if is_cut_short else row.total
        self._tally.take_note(cycle, 0.01)
        self._compare()

    def _compare(self) -> None:
        if self._withheld:
            self.withheld += 1
            return
        self.compared += 1
        tallies = self._tally.noted().jobs
        told = {(name, state): count for name, tally in tallies.items() for state, count in tally.ended.items()}
        assert told == Counter((run.job_id, run.state) for run in self._ended.values())
        slots = {name: sum(tally.slots.values()) for name, tally in tallies.items()}
        assert {name: count for name, count in slots.items() if count} == {**+self._slots}


def test_what_is_told_is_what_was_committed_whatever_goes_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    books: dict[Manager, Books] = {}
    committed: list[Row] = []
    write, live = WatchedStore.record, Scene.cycle

    def record(store: WatchedStore, rows: Iterable[Row], committed_at: datetime | None = None) -> None:
        wanted = tuple(rows)
        write(store, wanted, committed_at)
        committed.extend(wanted)

    def cycle(scene: Scene, manager: Manager, scope: frozenset[str] | None, **fields: Any) -> Cycle | None:
        committed.clear()
        done = live(scene, manager, scope, **fields)
        if done is not None:
            books.setdefault(manager, Books()).take_note(done, committed)
        return done

    monkeypatch.setattr(WatchedStore, "record", record)
    monkeypatch.setattr(Scene, "cycle", cycle)
    for fault in (
        "disk full: commit",
        "disk full: purge",
        "disk full: set_meta",
        "clock back",
        "leap",
        "clock forward",
    ):
        for seed in seeds_that_want(fault, 1):
            play(seed, str(tmp_path))
    assert sum(each.withheld for each in books.values()) > 0
    assert sum(each.compared for each in books.values()) > 500


# --- what adds up: the loop ---


def test_cycles_are_counted_and_timed(metrics: Metrics, opened: Home) -> None:
    spec = a_spec(a_job())
    metrics.take_note(a_cycle(spec, a_run()), 0.02)
    metrics.take_note(a_cycle(spec), 0.0004)
    metrics.take_note(a_cycle(spec, now=later(5)), 60)
    found = said_of(metrics, opened, "procclaw_reconcile_")
    assert found['cycles_total{acted="true"}'] == 1
    assert found['cycles_total{acted="false"}'] == 2
    assert found["duration_seconds_count"] == 3
    assert found["duration_seconds_sum"] == pytest.approx(60.0204)
    assert found['duration_seconds_bucket{le="0.001"}'] == 1
    assert found['duration_seconds_bucket{le="0.025"}'] == 2
    assert found['duration_seconds_bucket{le="10"}'] == 2
    assert found['duration_seconds_bucket{le="+Inf"}'] == 3
    assert found["last_timestamp_seconds"] == later(5).timestamp()


def waiting_for(reason: Reason, name: str = JOB, run: str | None = "run") -> Wait:
    return Wait(name, run, reason, "", None, None)


def test_waiting_runs_are_counted_by_what_they_wait_for(metrics: Metrics, opened: Home) -> None:
    spec = a_spec(a_job(), named("other"))
    waits = (
        waiting_for(Reason.QUEUE),
        waiting_for(Reason.QUEUE, run="next"),
        waiting_for(Reason.DEPENDENCY, "other"),
        a_wait(Reason.PAUSED),  # the job does nothing, and no run waits
    )
    metrics.take_note(a_cycle(spec, plan=Plan(waits=waits)), 0.1)
    waiting = "procclaw_waiting_runs"
    assert said_of(metrics, opened, waiting) == {'{reason="dependency"}': 1, '{reason="queue"}': 2}
    metrics.take_note(a_cycle(spec, scope=frozenset({JOB})), 0.1)
    assert said_of(metrics, opened, waiting) == {'{reason="dependency"}': 1, '{reason="queue"}': 0}
    metrics.take_note(a_cycle(spec), 0.1)
    assert said_of(metrics, opened, waiting) == {'{reason="dependency"}': 0, '{reason="queue"}': 0}


def test_a_job_that_is_no_longer_declared_waits_for_nothing(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec(a_job()), plan=Plan(waits=(waiting_for(Reason.QUEUE),))), 0.1)
    metrics.take_note(a_cycle(a_spec()._replace(hash="later"), scope=frozenset({"other"})), 0.1)
    assert said_of(metrics, opened, "procclaw_waiting_runs") == {'{reason="queue"}': 0}


# --- what stands ---


def jobs_of_all_kinds(home: Home) -> Spec:
    """A home in which about everything is going on that a job's numbers can tell of."""
    serving = a_job("continuous", check="http")._replace(
        resources=Resources(100, None, LimitAction.WARN, check_interval_seconds=60)
    )
    jobs = [
        named("serving", serving),
        named("sick", serving),
        named("unsettled", serving),
        named("plain", a_job("continuous")),
        named("unchecked", a_job("continuous", check="none")),
        named("stopping", a_job("continuous")),
        named("beginning", a_job("continuous")),
        named("fallen", a_job("continuous")),
        named("held", a_job("continuous")),
        named("hourly", HOURLY),
        named("paused", HOURLY),
        named("let-go", HOURLY),
        named("off", HOURLY._replace(enabled=False)),
        named("again", a_job(queue="slow")),
        named("queued", a_job(queue="slow")),
        named("tomorrow", a_job(queue="slow")),
        named("failed"),
        named("overtaken"),
        named("new"),
    ]
    spec = a_spec(*jobs)._replace(queues={"slow": 1, "unused": 2})
    rows: list[Row] = []

    def going(name: str, **fields: Any) -> Run:
        run = continuous_run(job_id=name, restarts=2)
        rows.extend([run, an_attempt(run, spec.jobs[name], **fields)])
        return run

    def finished(name: str, state: str, *, seconds_ago: float = 30, **fields: Any) -> Run:
        run = a_run(state, job_id=name, occasion=f"{seconds_ago}", finished_at=ago(seconds_ago), **fields)
        rows.extend([run, ended(an_attempt(run), Reason.EXITED, 0)])
        return run

    for name, is_healthy in (("serving", True), ("sick", False), ("unsettled", None)):
        finished(name, "stopped", trigger="continuous")
        attempt = an_attempt(going(name))
        rows += [a_health(attempt, is_healthy), Usage(name, attempt.id, NOW, 3.0, 12.5, 64.0)]
    for name in ("plain", "unchecked"):
        going(name, started_at=ago(90.5))
    going("stopping", stop=an_order(), exited_at=ago(1))
    going("beginning", pid=None, job_pid=None, start_ticks=None, started_at=None)
    rows += [continuous_run("failed", job_id="fallen", restarts=5), a_hold("stop", job_id="held")]
    for name in ("hourly", "paused", "let-go", "off"):
        rows.append(a_cursor(spec.jobs[name], NOW, later(3600)))
    rows += [a_hold("pause", job_id="paused"), a_hold("revoke", job_id="let-go")._replace(until=ago(1))]
    rows.append(a_run("retrying", job_id="again", not_before_at=later(20)))
    rows += [a_run(job_id="queued", occasion=str(n), closed=in_line(ago(5), "queue")) for n in range(2)]
    rows.append(a_run(job_id="tomorrow", trigger="eta", not_before_at=later(86400)))
    rows += [a_dead_letter(finished("failed", "failed")), a_dead_letter(finished("gone", "failed"))]
    finished("overtaken", "succeeded", seconds_ago=500.25)
    finished("overtaken", "failed", seconds_ago=400)
    alert = Alert("key", "failed", AlertKind.FAILED, NOW, "it failed", next_try_at=NOW)
    rows += [alert, alert._replace(key="other", state=AlertState.SENT)]
    record(home, *rows)
    return spec


def test_what_is_said_of_a_job_is_what_the_list_says(opened: Home) -> None:
    spec = jobs_of_all_kinds(opened)
    board = Board(spec, opened.store.job_states(now=NOW, specs={}), "", NOW, is_deciding=False)
    statuses = set()
    for figures in take_census(opened, spec).jobs:
        listed = views.job_view(spec.jobs[figures.job_id], board, board.job(HOME).holds, None, NOW)
        health = {"healthy": True, "unhealthy": False}.get(listed["health"])
        wanted = (listed["status"], listed["uptime_seconds"], listed["restart_count"], health, listed["next_run"])
        told = (figures.status, figures.uptime_seconds, figures.restarts, figures.is_healthy)
        next_run = None if figures.next_start_at is None else iso(figures.next_start_at)
        assert (*told, next_run) == wanted, figures.job_id
        assert (figures.cpu_percent, figures.memory_mb) == (listed["cpu_percent"], listed["memory_mb"])
        statuses.add(figures.status)
    assert statuses == set(views.STATUSES)


def test_while_the_home_is_held_it_says_what_the_list_says(opened: Home) -> None:
    spec = jobs_of_all_kinds(opened)
    record(opened, a_hold("stop", job_id=HOME))
    found = {figures.job_id: figures for figures in take_census(opened, spec).jobs}
    assert (found["hourly"].status, found["hourly"].next_start_at) == ("stopped", None)
    assert found["serving"].status == "running"


def test_a_home_is_told_in_numbers(metrics: Metrics, opened: Home) -> None:
    spec = jobs_of_all_kinds(opened)
    metrics.take_note(a_cycle(spec), 0.1)
    found = samples(metrics.text(opened))
    of_jobs = {name: found[f'procclaw_jobs{{status="{name}"}}'] for name in views.STATUSES}
    assert sum(of_jobs.values()) == found["procclaw_jobs_total"] == len(spec.jobs)
    assert of_jobs["running"] == 5
    assert found['procclaw_job_status{job="serving"}'] == 1
    assert found['procclaw_job_status{job="stopping"}'] == 1
    assert found['procclaw_job_status{job="held"}'] == 0
    assert found['procclaw_job_uptime_seconds{job="plain"}'] == 90.5
    assert 'procclaw_job_uptime_seconds{job="held"}' not in found
    assert found['procclaw_job_restart_count_total{job="serving"}'] == 2
    assert found['procclaw_job_restart_count_total{job="fallen"}'] == 5
    assert found['procclaw_job_restart_count_total{job="new"}'] == 0
    healthy = {name: found.get(f'procclaw_job_healthy{{job="{name}"}}') for name in spec.jobs}
    assert {name: value for name, value in healthy.items() if value is not None} == {
        "serving": 1,
        "sick": 0,
        "plain": 1,
    }
    assert found['procclaw_job_next_run_timestamp_seconds{job="hourly"}'] == later(3600).timestamp()
    assert 'procclaw_job_next_run_timestamp_seconds{job="paused"}' not in found
    assert found['procclaw_job_last_success_timestamp_seconds{job="overtaken"}'] == ago(500.25).timestamp()
    assert 'procclaw_job_last_success_timestamp_seconds{job="failed"}' not in found
    assert found['procclaw_job_cpu_ratio{job="serving"}'] == 0.125
    assert found['procclaw_job_memory_bytes{job="serving"}'] == 64 * 2**20
    assert found['procclaw_job_dead_letters{job="failed"}'] == 1
    assert found['procclaw_job_dead_letters{job="new"}'] == 0
    assert found["procclaw_dead_letters"] == 2
    assert found['procclaw_queue_waiting_runs{queue="slow"}'] == 3
    assert found['procclaw_queue_waiting_runs{queue="unused"}'] == 0
    assert found["procclaw_alerts_pending"] == 1
    assert found["procclaw_config_valid"] == 1


def test_the_numbers_of_the_database_survive_the_daemon(opened: Home) -> None:
    spec = jobs_of_all_kinds(opened)
    texts = []
    for _ in range(2):
        metrics = Metrics(StandingClock())
        metrics.take_note(a_cycle(spec), 0.1)
        texts.append(own_lines(metrics.text(opened)))
    assert texts[0] == texts[1]


def test_the_newest_success_counts_whichever_run_was_asked_for_first(metrics: Metrics, opened: Home) -> None:
    first, second = a_run("running"), a_run("running", occasion="second")
    overtaking, overtaken = (
        over(second, "succeeded", Reason.FINISHED, ago(20)),
        over(first, "succeeded", Reason.FINISHED, ago(5)),
    )
    record(opened, first, second)
    record(opened, overtaking, overtaken)
    metrics.take_note(a_cycle(a_spec(a_job()), overtaking, overtaken), 0.1)
    wanted = {'{job="job"}': ago(5).timestamp()}
    assert said_of(metrics, opened, "procclaw_job_last_success_timestamp_seconds") == wanted


def test_errors_in_the_files_show(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec(a_job())), 0.1)
    opened.store.set_problems(Problems(NOW, ("jobs.yaml:1 is not well",)))
    assert said_of(metrics, opened, "procclaw_config_valid") == {"": 0}


def test_before_the_first_configuration_only_the_daemon_is_told_of(metrics: Metrics, opened: Home) -> None:
    jobs_of_all_kinds(opened)
    before = samples(metrics.text(opened))
    assert "procclaw_config_valid" not in before
    metrics.take_note(a_cycle(None), 0.1)
    assert said_of(metrics, opened, "procclaw_config_valid") == {"": 0}
    assert not [name for name in before if "job" in name]
    assert said_of(metrics, opened, "procclaw_jobs") == {}
    assert said_of(metrics, opened, "procclaw_reconcile_duration_seconds_count") == {"": 1}


def test_a_home_without_jobs_has_none(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_spec()), 0.1)
    assert said_of(metrics, opened, "procclaw_jobs_total") == {"": 0}


def test_the_daemon_tells_of_itself(metrics: Metrics, opened: Home) -> None:
    opened.store.data_version()
    found = samples(metrics.text(opened))
    assert found["process_start_time_seconds"] == NOW.timestamp()
    assert found["process_cpu_seconds_total"] > 0
    assert 2**20 < found["process_resident_memory_bytes"] <= found["process_resident_memory_peak_bytes"] < 2**40
    assert 3 <= found["process_open_fds"] <= found["process_max_fds"]
    assert found[f'procclaw_build_info{{version="{__version__}"}}'] == 1
    assert found["procclaw_home_free_bytes"] > 0
    assert found["procclaw_database_bytes"] > 0


def test_an_open_file_more_is_counted(metrics: Metrics, opened: Home, tmp_path: Path) -> None:
    opened.store.data_version()
    before = samples(metrics.text(opened))["process_open_fds"]
    with open(tmp_path / "more", "w"):
        assert samples(metrics.text(opened))["process_open_fds"] == before + 1


# --- all of it ---


def everything(metrics: Metrics, home: Home) -> bytes:
    """A text with every family in it."""
    spec = jobs_of_all_kinds(home)
    writes = (
        over(a_run("running", job_id="failed"), "failed", Reason.FINISHED),
        slots_row(NOW, "skipped", Reason.DEDUP)._replace(job_id="hourly"),
    )
    metrics.take_note(a_cycle(spec, plan=Plan(writes, waits=(waiting_for(Reason.QUEUE, "queued"),))), 0.1)
    return metrics.text(home)


def own_lines(text: bytes) -> list[str]:
    """Without what the machine tells of this process and its disk, which changes from one moment to the next."""
    moving = ("process_", "procclaw_home_free_bytes", "procclaw_database_bytes")
    return [line for line in text.decode().splitlines() if not line.removeprefix("# HELP ").startswith(moving)]


TYPES = {
    "procclaw_alerts_pending": "gauge",
    "procclaw_build_info": "gauge",
    "procclaw_config_valid": "gauge",
    "procclaw_database_bytes": "gauge",
    "procclaw_dead_letters": "gauge",
    "procclaw_home_free_bytes": "gauge",
    "procclaw_job_cpu_ratio": "gauge",
    "procclaw_job_dead_letters": "gauge",
    "procclaw_job_healthy": "gauge",
    "procclaw_job_last_success_timestamp_seconds": "gauge",
    "procclaw_job_memory_bytes": "gauge",
    "procclaw_job_next_run_timestamp_seconds": "gauge",
    "procclaw_job_restart_count_total": "counter",
    "procclaw_job_run_duration_seconds": "histogram",
    "procclaw_job_runs_total": "counter",
    "procclaw_job_slots_total": "counter",
    "procclaw_job_status": "gauge",
    "procclaw_job_uptime_seconds": "gauge",
    "procclaw_jobs": "gauge",
    "procclaw_jobs_total": "untyped",
    "procclaw_queue_waiting_runs": "gauge",
    "procclaw_reconcile_cycles_total": "counter",
    "procclaw_reconcile_duration_seconds": "histogram",
    "procclaw_reconcile_last_timestamp_seconds": "gauge",
    "procclaw_waiting_runs": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_resident_memory_peak_bytes": "gauge",
    "process_start_time_seconds": "gauge",
}
"""What dashboards and alerts are built upon: a name once given stays."""


def test_every_metric_has_its_name_and_type(metrics: Metrics, opened: Home) -> None:
    text = everything(metrics, opened).decode()
    assert dict(re.findall(r"^# TYPE (\S+) (\S+)", text, re.MULTILINE)) == TYPES
    assert re.findall(r"^# HELP (\S+) .", text, re.MULTILINE) == list(TYPES)


def test_the_text_is_in_order_and_stays_as_it_is(metrics: Metrics, opened: Home) -> None:
    text = everything(metrics, opened)
    jobs = re.findall(r'^procclaw_job_status\{job="(.*)"\}', text.decode(), re.MULTILINE)
    assert jobs == sorted(jobs)
    assert own_lines(text) == own_lines(metrics.text(opened))
    assert text.endswith(b"\n")


def test_no_label_takes_values_without_bound(metrics: Metrics, opened: Home) -> None:
    labels = set(re.findall(r"[{,](\w+)=", everything(metrics, opened).decode()))
    assert labels == {"acted", "job", "le", "outcome", "queue", "reason", "state", "status", "version"}


@pytest.mark.skipif(PROMTOOL is None, reason="NOT TESTED: takes promtool of prometheus")
def test_promtool_has_nothing_to_say(metrics: Metrics, opened: Home) -> None:
    text = everything(metrics, opened)
    checked = subprocess.run([str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# --- what it costs ---


def a_large_home(home: Home, count: int) -> Spec:
    """So many jobs of all types, each with a history and half of them running."""
    types = ("continuous", "scheduled", "manual", "oneshot")
    jobs = [named(f"job-{number:04}", a_job(types[number % 4], queue=f"q{number % 3}")) for number in range(count)]
    rows: list[Row] = []
    for job in jobs:
        for number in range(3):
            run = a_run("failed" if number else "succeeded", job_id=job.id, occasion=str(number))
            rows += [run, ended(an_attempt(run, job), Reason.EXITED, 0)]
        run = a_run("running", job_id=job.id, trigger="continuous" if job.type == "continuous" else "manual")
        if job.type in ("continuous", "manual"):
            rows += [run, an_attempt(run, job)]
        else:
            rows += [a_run("queued", job_id=job.id, occasion="next"), a_cursor(job, NOW, later(60))]
    record(home, *rows)
    return a_spec(*jobs)


def statements_of(home: Home, metrics: Metrics) -> list[str]:
    """The statements of one scrape, in words of SQL, as SQLite saw them."""
    seen: list[str] = []
    connection = home.store._db.connection
    connection.set_trace_callback(seen.append)
    metrics.text(home)
    connection.set_trace_callback(None)
    return seen


def test_a_thousand_jobs_take_no_more_statements_than_one(metrics: Metrics, tmp_path: Path) -> None:
    counts = []
    for count in (1, 1000):
        path = tmp_path / str(count)
        path.mkdir()
        with Home(str(path), StandingClock()) as home:
            metrics.take_note(a_cycle(a_large_home(home, count)._replace(hash=str(count))), 0.1)
            counts.append(len(statements_of(home, metrics)))
    assert counts[0] == counts[1] <= 12


def test_a_scrape_does_not_read_the_whole_history(metrics: Metrics, opened: Home) -> None:
    metrics.take_note(a_cycle(a_large_home(opened, 20)), 0.1)
    connection = opened.store._db.connection
    for statement in statements_of(opened, metrics):
        if statement.startswith("SELECT"):
            steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            whole = [step for step in steps if re.fullmatch(r"SCAN (r|runs|a|attempts|events|slots)", step)]
            assert not whole, (statement, steps)


def test_a_thousand_declared_jobs_are_told_of(metrics: Metrics, home: Path) -> None:
    jobs = {f"job-{number}": {"cmd": "true", "type": "scheduled", "schedule": "@hourly"} for number in range(1000)}
    (home / "jobs.yaml").write_text(json.dumps({"jobs": jobs}))
    with Home(str(home)) as opened:
        metrics.take_note(a_cycle(Operations(opened, "test").spec()), 0.1)
        found = samples(metrics.text(opened))
        assert found["procclaw_jobs_total"] == found['procclaw_jobs{status="pending"}'] == 1000
        assert len(statements_of(opened, metrics)) <= 12


def test_who_reads_sees_one_moment_while_cycles_go_on(metrics: Metrics, opened: Home) -> None:
    spec = a_spec(a_job())
    metrics.take_note(a_cycle(spec), 0.001)
    run = over(a_run("running"), "succeeded", Reason.FINISHED)

    def go_on() -> None:
        for number in range(3000):
            metrics.take_note(a_cycle(spec, run._replace(id=str(number))), 0.001)

    loop = threading.Thread(target=go_on)
    loop.start()
    seen = [0.0]
    while loop.is_alive() or len(seen) < 3:
        found = samples(metrics.text(opened))
        ends = found[f'{RUNS}{{job="job",state="succeeded"}}']
        assert ends == found.get(f'{LASTED}_count{{job="job"}}', 0)
        assert found["procclaw_reconcile_duration_seconds_count"] == ends + 1
        seen.append(ends)
    loop.join()
    assert seen == sorted(seen)
    assert samples(metrics.text(opened))[f'{RUNS}{{job="job",state="succeeded"}}'] == 3000
