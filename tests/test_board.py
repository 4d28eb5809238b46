"""Places that are taken, who goes first, and locks: what runs see of each other when they are about to start."""

from datetime import datetime
from typing import Any

import pytest

from procclaw.model.outside import LockSight
from procclaw.model.reasons import Reason
from procclaw.model.records import Run
from procclaw.model.spec import Condition, Dependency, Lock, LockProvider, Priority
from procclaw.model.state import ActiveRun, JobState
from procclaw.planning.actions import Plan, Start
from procclaw.planning.gates import expires_at
from procclaw.planning.plan import plan
from tests.builders import (
    NOW,
    a_board,
    a_config,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    a_spec,
    a_start,
    a_state,
    ago,
    an_attempt,
    an_order,
    changed,
    continuous_run,
    in_line,
    later,
    over,
    seen_as,
    started,
    waiting,
    with_process,
)

QUEUED = a_job(queue="q")
LOCK = Lock("l", LockProvider.FILE, None, 300)
FREE, TAKEN = LockSight(is_free=True), LockSight(is_free=False, holder="other (run x)")


def named(job: Any, name: str, **fields: Any) -> Any:
    return changed(job, id=name, **fields)


def run_of(name: str, state: str = "queued", **fields: Any) -> Run:
    fields = {"occasion": f"{name}'s", **fields}
    return a_run(state, job_id=name, **fields)


def of(name: str, *runs: Run, **fields: Any) -> JobState:
    """The job with these runs, those that run with a process."""
    active = (with_process(run) if run.state == "running" else waiting(run) for run in runs)
    return a_job_state(*active, id=name, **fields)


def decide(*states: JobState, jobs: Any, max_parallel: int | None = None, queues: Any = None, **fields: Any) -> Plan:
    spec = a_spec(*jobs)._replace(config=a_config(max_parallel=max_parallel), queues=queues or {})
    return plan(spec, a_state(*states), NOW, **fields)


def starts(found: Plan) -> list[str]:
    return [effect.job_id for effect in found.effects if isinstance(effect, Start)]


def waits(found: Plan) -> dict[str, tuple[Reason, str]]:
    return {wait.job_id: (wait.reason, wait.detail) for wait in found.waits}


# --- queues ---


def test_of_a_queue_one_runs_and_the_others_wait_each_told_who_is_before_it() -> None:
    jobs = [named(QUEUED, name) for name in "abc"]
    a, b, c = run_of("a"), run_of("b", queued_at=ago(50)), run_of("c", queued_at=ago(40))
    found = decide(of("a", a), of("b", b), of("c", c), jobs=jobs)
    running = "queue q: 1 of at most 1 running: a (normal)"
    b, c = b._replace(closed=in_line(NOW, "queue")), c._replace(closed=in_line(NOW, "queue"))
    assert found.writes == (started(a), b, c)
    assert found.effects == (a_start(a, jobs[0], "asked for"),)
    assert waits(found) == {"b": (Reason.QUEUE, running), "c": (Reason.QUEUE, f"{running}; 1 ahead of it: b (normal)")}
    assert found.wake_at == later(300)


@pytest.mark.parametrize(
    ("limit", "running", "expected"), [(1, 0, ["b"]), (1, 1, []), (2, 1, ["b"]), (2, 2, []), (3, 1, ["b", "c"])]
)
def test_a_queue_has_as_many_places_as_it_is_given(limit: int, running: int, expected: list[str]) -> None:
    jobs = [named(changed(QUEUED, max_instances=5), name) for name in "abc"]
    held = [run_of("a", "running", occasion=f"a{number}") for number in range(running)]
    found = decide(of("a", *held), of("b", run_of("b")), of("c", run_of("c")), jobs=jobs, queues={"q": limit})
    assert starts(found) == expected


def test_priority_goes_before_age_and_age_before_name() -> None:
    jobs = [named(QUEUED, name) for name in "abcd"]
    young, old = run_of("a", queued_at=ago(1)), run_of("d", queued_at=ago(900))
    urgent = run_of("b", queued_at=ago(2), priority=Priority.HIGH)
    critical = run_of("c", queued_at=NOW, priority=Priority.CRITICAL)
    states = [of("a", young), of("b", urgent), of("c", critical), of("d", old)]
    found = decide(*states, jobs=jobs)
    assert starts(found) == ["c"]
    ahead = "queue q: 1 of at most 1 running: c (critical)"
    assert waits(found)["a"][1] == f"{ahead}; 2 ahead of it: b (high), d (normal)"
    assert waits(found)["b"][1] == ahead
    assert waits(found)["d"][1] == f"{ahead}; 1 ahead of it: b (high)"


def test_who_is_not_ready_is_passed_by_and_not_counted_as_ahead() -> None:
    jobs = [named(QUEUED, name) for name in "abc"]
    retrying = run_of("a", "retrying", failures=3, not_before_at=later(60), priority=Priority.HIGH)
    planned = run_of("b", trigger="eta", not_before_at=later(60), priority=Priority.HIGH)
    found = decide(of("a", retrying), of("b", planned), of("c", run_of("c")), jobs=jobs)
    assert starts(found) == ["c"]
    board = a_board(*jobs, states=[of("a", retrying), of("b", planned)])
    assert board.ahead(run_of("c")) == []


def test_a_service_takes_no_place_in_a_queue() -> None:
    service = named(a_job("continuous", queue="q"), "service")
    running = a_job_state(with_process(continuous_run(job_id="service"), service), id="service")
    found = decide(running, of("b", run_of("b")), jobs=[service, named(QUEUED, "b")])
    assert starts(found) == ["b"]
    waits_too = a_job_state(waiting(continuous_run("queued", job_id="service")), id="service")
    assert starts(decide(waits_too, of("b", run_of("b", "running")), jobs=[service, named(QUEUED, "b")])) == ["service"]


def test_a_retry_waits_for_its_place_like_everybody_else() -> None:
    jobs = [named(QUEUED, name) for name in "ab"]
    retrying = run_of("b", "retrying", not_before_at=ago(1))
    found = decide(of("a", run_of("a", "running")), of("b", retrying), jobs=jobs)
    assert (starts(found), waits(found)["b"][0]) == ([], Reason.QUEUE)


# --- what starts after a run was judged ---


def remembered(found: Plan, name: str) -> dict[str, datetime]:
    """Since when the job's run stands before which gate, as the plan writes it down."""
    [run] = [write for write in found.writes if isinstance(write, Run) and write.job_id == name]
    return dict(run.closed)


def test_whoever_is_kept_back_remembers_the_queue_as_well_that_fills_up_behind_it() -> None:
    first = named(QUEUED, "a", depends_on=(Dependency("absent", Condition.AFTER_START, None),))
    jobs = [first, *(named(QUEUED, name) for name in "bc")]
    urgent = run_of("a", priority=Priority.HIGH)
    found = decide(of("a", urgent), of("b", run_of("b")), of("c", run_of("c", queued_at=ago(1))), jobs=jobs)
    assert starts(found) == ["b"]
    assert remembered(found, "a") == {"dependency absent after_start": NOW, "queue": NOW}
    assert remembered(found, "c") == {"queue": NOW, "place": NOW}


def test_who_has_a_lock_is_remembered_also_where_another_starts_meanwhile() -> None:
    found = decide(of("a", run_of("a"), lock=TAKEN), of("b", run_of("b")), jobs=[locked("a"), named(a_job(), "b")])
    assert starts(found) == ["b"]
    assert remembered(found, "a") == {"lock": NOW, "held by other (run x)": NOW}


# --- daemon.max_parallel ---


@pytest.mark.parametrize(("limit", "expected"), [(None, ["a", "b", "c"]), (3, ["a", "b"]), (2, ["a"]), (1, [])])
def test_no_more_runs_at_once_than_the_home_allows(limit: int | None, expected: list[str]) -> None:
    jobs = [named(a_job(), name) for name in "abcd"]
    states = [of("d", run_of("d", "running")), *(of(name, run_of(name)) for name in "abc")]
    found = decide(*states, jobs=jobs, max_parallel=limit)
    assert starts(found) == expected
    assert {reason for reason, _ in waits(found).values()} <= {Reason.MAX_PARALLEL}


def test_services_do_not_count_against_that_limit() -> None:
    service = named(a_job("continuous"), "service")
    running = a_job_state(with_process(continuous_run(job_id="service"), service), id="service")
    assert starts(decide(running, of("a", run_of("a")), jobs=[service, named(a_job(), "a")], max_parallel=1)) == ["a"]
    busy = of("a", run_of("a", "running"))
    assert starts(decide(busy, of("service"), jobs=[service, named(a_job(), "a")], max_parallel=1)) == ["service"]


def test_what_is_left_of_a_job_that_is_gone_counts() -> None:
    gone = of("gone", run_of("gone", "running"))
    assert starts(decide(gone, of("a", run_of("a")), jobs=[named(a_job(), "a")], max_parallel=1)) == []


# --- locks ---


def locked(name: str, **fields: Any) -> Any:
    return named(a_job(lock=LOCK, **fields), name)


def test_a_free_lock_is_given_to_one_and_the_next_waits_for_it() -> None:
    jobs = [locked("a"), locked("b")]
    b = run_of("b", closed=(("lock", ago(9)),))
    found = decide(of("a", run_of("a"), lock=FREE), of("b", b, lock=FREE), jobs=jobs)
    holder = f"a (run {run_of('a').id})"
    assert starts(found) == ["a"]
    assert waits(found) == {"b": (Reason.LOCK, f"lock l: held by {holder}")}
    assert found.wake_at == later(1)


def test_two_instances_of_a_job_do_not_share_its_lock() -> None:
    first, second = run_of("a", occasion="1"), run_of("a", occasion="2")
    assert len(starts(decide(of("a", first, second, lock=FREE), jobs=[locked("a", max_instances=2)]))) == 1


def test_a_lock_that_nobody_has_tried_is_tried_at_once() -> None:
    found = decide(of("a", run_of("a")), jobs=[locked("a")])
    run = run_of("a", closed=(("lock", NOW),))
    assert (found.writes, found.effects, found.wake_at) == ((run,), (), NOW)
    assert waits(found) == {"a": (Reason.LOCK, "lock l: not free")}


def test_locks_of_one_name_in_different_places_are_different_locks() -> None:
    jobs = [locked("a"), named(a_job(lock=LOCK._replace(path="/srv")), "b")]
    assert starts(decide(of("a", run_of("a"), lock=FREE), of("b", run_of("b"), lock=FREE), jobs=jobs)) == ["a", "b"]


def test_a_lock_is_asked_for_last() -> None:
    """Somebody who waits for something else neither counts as waiting for it nor loses the time he has for it."""
    jobs = [named(changed(locked(name), queue="q"), name) for name in "ab"]
    busy = of("a", run_of("a", "running"))
    found = decide(busy, of("b", run_of("b"), lock=TAKEN), jobs=jobs)
    assert found.writes == (run_of("b", closed=in_line(NOW, "queue")),)
    waited = run_of("b", closed=(("lock", ago(299)),))
    [kept] = decide(busy, of("b", waited, lock=TAKEN), jobs=jobs).writes
    assert isinstance(kept, Run)
    assert kept.waits_since("lock") == ago(299)
    assert kept.waits_since("place") == NOW


@pytest.mark.parametrize(("waited", "is_over"), [(299, False), (300, True), (4000, True)])
def test_a_run_that_has_waited_too_long_for_its_lock_has_failed(waited: float, is_over: bool) -> None:
    run = run_of("a", closed=(("lock", ago(waited)),))
    found = decide(of("a", run, lock=TAKEN), jobs=[locked("a")])
    detail = "waited 300 s for lock l: held by other (run x)"
    ended = [write for write in found.writes if isinstance(write, Run)]
    remembered = run._replace(closed=(("lock", ago(waited)), ("held by other (run x)", NOW)))
    assert ended == [over(run, "failed", Reason.LOCK_TIMEOUT, detail=detail)] if is_over else [remembered]
    assert found.wake_at == (None if is_over else later(1))


def test_nobody_looks_where_nothing_is_decided_so_what_is_recorded_counts() -> None:
    jobs = [locked("a"), locked("b")]
    holding = of("a", run_of("a", "running"))
    board = a_board(*jobs, states=[holding], is_deciding=False)
    assert board.lock(jobs[1]) == LockSight(is_free=False, holder=f"a (run {run_of('a', 'running').id})")
    assert a_board(*jobs, is_deciding=False).lock(jobs[1]) == FREE
    told = of("b", run_of("b", closed=(("lock", ago(5)), ("held by other (run x)", ago(5)))))
    assert a_board(*jobs, states=[told], is_deciding=False).lock(jobs[1]) == TAKEN


def test_locks_are_told_apart_by_where_they_lie_and_by_their_names() -> None:
    locks = [LOCK, LOCK._replace(path="/a"), LOCK._replace(path="/b"), LOCK._replace(name="m")]
    locks.append(LOCK._replace(provider=LockProvider.SQLITE))
    jobs = [changed(a_job(), id=f"j{number}", lock=lock) for number, lock in enumerate(locks)]
    states = [of(job.id, run_of(job.id, "running")) for job in jobs]
    board = a_board(*jobs, states=states, is_deciding=False)
    assert [board.lock(job).holder for job in jobs] == [
        f"{job.id} (run {run_of(job.id, 'running').id})" for job in jobs
    ]


@pytest.mark.parametrize("older", ["a", "b"])
def test_of_two_that_have_a_lock_since_the_machine_was_restarted_the_older_is_named(older: str) -> None:
    runs = {name: run_of(name, "running", queued_at=ago(90 if name == older else 60)) for name in ("a", "b")}
    jobs = [locked(name) for name in ("a", "b", "c")]
    board = a_board(*jobs, states=[of(name, run) for name, run in runs.items()], is_deciding=False)
    assert board.lock(jobs[2]).holder == f"{older} (run {runs[older].id})"


@pytest.mark.parametrize(
    ("seen", "holder"),
    [
        ("{own}, home /srv", "{own}"),
        ("", "{own}"),
        ("other (run x)", "other (run x)"),
    ],
    ids=["its own, as other homes are told", "nobody was named", "another home's"],
)
def test_who_has_the_lock_is_named_as_this_home_knows_it(seen: str, holder: str) -> None:
    own = f"a (run {run_of('a', 'running').id})"
    sight = LockSight(is_free=False, holder=seen.format(own=own))
    states = [of("a", run_of("a", "running")), of("b", lock=sight)]
    board = a_board(locked("a"), locked("b"), states=states, is_deciding=False)
    assert board.lock(locked("b")) == LockSight(is_free=False, holder=holder.format(own=own))


def test_a_hold_is_over_at_its_end() -> None:
    holds = tuple(a_hold(kind)._replace(until=until) for kind, until in (("revoke", NOW), ("pause", ago(1))))
    for each in (holds, holds[:1]):
        assert a_board(a_job(), states=[a_job_state(holds=each)]).job("job").holds == ()
    lasting = a_hold("revoke")._replace(until=later(1))
    assert a_board(a_job(), states=[a_job_state(holds=(*holds, lasting))]).job("job").holds == (lasting,)


def test_who_may_start_from_now_on_stands_in_the_line_of_its_queue() -> None:
    jobs = [named(QUEUED, name) for name in ("a", "b")]
    first, second = run_of("a", queued_at=ago(60), not_before_at=NOW), run_of("b", queued_at=ago(30))
    board = a_board(*jobs, states=[of("a", first), of("b", second)])
    assert board.ahead(second) == [first]


@pytest.mark.parametrize(
    "fields",
    [{"exited_at": NOW}, {"refusal": Reason.ENVIRONMENT}, {"pid": None}, {"stop": an_order()}],
    ids=["its process has ended", "its start was refused", "its process was not seen yet", "it was told to end"],
)
def test_only_a_process_that_runs_and_is_to_go_on_is_up(fields: dict[str, Any]) -> None:
    job, run = a_job(), a_run("running")
    assert a_board(job, states=[a_job_state(with_process(run, job))]).is_up("job") == an_attempt(run, job)
    assert a_board(job, states=[a_job_state(with_process(run, job, **fields))]).is_up("job") is None


def test_a_preview_takes_no_lock_and_says_what_would_start() -> None:
    jobs = [locked("a"), locked("b")]
    found = decide(of("a", run_of("a")), of("b", run_of("b")), jobs=jobs, sees_locks=False)
    assert starts(found) == ["a"]
    assert waits(found)["b"][0] is Reason.LOCK


# --- giving up ---


def test_only_waiting_for_its_turn_and_for_nothing_else_counts_towards_giving_up() -> None:
    jobs = [named(QUEUED, "a"), named(QUEUED, "b")]
    busy = of("a", run_of("a", "running"))
    long_ago = run_of("b", closed=in_line(ago(299), "queue"))
    assert decide(busy, of("b", long_ago), jobs=jobs).wake_at == later(1)
    # The home's own limit as well: from now on it waits for more than its turn, and later counts afresh.
    [run] = decide(busy, of("b", long_ago), jobs=jobs, max_parallel=1).writes
    assert isinstance(run, Run)
    assert run.closed == (("queue", ago(299)), ("max_parallel", NOW))
    assert expires_at(run, jobs[1]) is None
    held = of("b", long_ago, holds=(a_hold("pause", job_id="b"),))
    [run] = decide(busy, held, jobs=jobs).writes
    assert isinstance(run, Run)
    assert run.closed == ()


@pytest.mark.parametrize("trigger", ["eta", "catch_up", "continuous"])
def test_some_never_give_up(trigger: str) -> None:
    run = a_run("queued", trigger=trigger, closed=in_line(ago(90_000)))
    assert expires_at(run, a_job()) is None


def test_waiting_that_began_later_than_now_began_now() -> None:
    """The clock was set back."""
    jobs = [named(QUEUED, "a"), named(QUEUED, "b")]
    run = run_of("b", queued_at=later(500), closed=in_line(later(500), "queue"))
    found = decide(of("a", run_of("a", "running")), of("b", run), jobs=jobs)
    assert found.writes == (run._replace(queued_at=NOW, not_before_at=NOW, closed=in_line(NOW, "queue")),)
    assert found.wake_at == later(300)


# --- holds that are over ---


def test_a_hold_whose_time_is_over_holds_nobody_even_if_nobody_has_come_by() -> None:
    hold = a_hold("revoke")._replace(until=ago(1))
    board = a_board(a_job(), states=[a_job_state(holds=(hold, a_hold("pause")))])
    assert board.job("job").holds == (a_hold("pause"),)
    standing = hold._replace(until=later(1))
    assert a_board(a_job(), states=[a_job_state(holds=(standing,))]).job("job").holds == (standing,)


def test_a_board_tells_of_jobs_of_which_nothing_is_known() -> None:
    assert a_board().job("unheard-of") == JobState("unheard-of")
    assert a_board().is_up("unheard-of") is None
    assert not a_board().is_active("unheard-of")
    planned = ActiveRun(a_run("queued", trigger="eta", not_before_at=later(5)), None)
    assert not a_board(a_job(), states=[a_job_state(planned)]).is_active("job")


@pytest.mark.parametrize(
    ("phase", "is_up"),
    [("locked", True), ("unseen", True), ("blank", False), ("lost", False), ("exited", False), ("missing", False)],
)
def test_a_process_that_is_gone_or_never_began_is_not_up_although_no_end_of_it_is_recorded(
    phase: str, is_up: bool
) -> None:
    run = a_run("running")
    attempt = an_attempt(run)
    board = a_board(a_job(), states=[a_job_state(ActiveRun(run, seen_as(phase, attempt)))])
    assert (board.is_up(run.job_id) is not None) is is_up


def test_who_has_begun_stands_in_line_no_more_and_other_lines_stay_as_they_are() -> None:
    jobs = [QUEUED, named(QUEUED, "second"), named(a_job(queue="other"), "elsewhere"), named(a_job(), "alone")]
    first, second = a_run("queued", queued_at=ago(20)), run_of("second", queued_at=ago(10))
    third = run_of("second", queued_at=ago(8), occasion="third")
    behind, alone = run_of("elsewhere", queued_at=ago(5)), run_of("alone", queued_at=ago(30))
    before = run_of("elsewhere", queued_at=ago(15), occasion="before")
    states = [of("job", first), of("second", second, third), of("elsewhere", before, behind), of("alone", alone)]
    board = a_board(*jobs, states=states)
    line = (second, third, behind)
    assert [board.ahead(run) for run in (*line, alone)] == [[first], [first, second], [before], []]
    assert [set(board.jobs_before(second, queue)) for queue in ("q", "other", None)] == [
        {"job"},
        {"elsewhere"},
        {"job", "elsewhere", "alone"},
    ]
    board.begin(first)
    assert [board.ahead(run) for run in line] == [[], [second], [before]]
    board.begin(alone)
    assert [board.ahead(run) for run in line] == [[], [second], [before]]


def test_a_run_may_begin_that_was_made_after_somebody_had_asked_who_waits() -> None:
    board = a_board(QUEUED, named(a_job(queue="other"), "pulled"), states=[of("job", a_run("queued"))])
    assert board.ahead(a_run("queued")) == []
    pulled = run_of("pulled", trigger="dependency")
    board.begin(pulled)
    assert board.in_queue("other") == [pulled]
