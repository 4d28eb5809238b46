"""Why a job does not start: every gate, open or closed, when it opens, and the command that opens it."""

from typing import Any

import pytest

from procclaw.model.reasons import Reason
from procclaw.model.records import Hold, HoldKind, RunState
from procclaw.model.spec import Condition, Dedup, Dependency, JobSpec, Lock, LockProvider, Param
from procclaw.model.state import ActiveRun, JobState, Lack
from procclaw.planning import why
from procclaw.planning.gates import Gate
from tests.builders import (
    BOOT,
    HOME_HELD,
    NOW,
    a_board,
    a_config,
    a_cursor,
    a_health,
    a_hold,
    a_job,
    a_job_state,
    a_run,
    ago,
    changed,
    continuous_run,
    in_line,
    later,
    waiting,
    with_process,
)

JOB = a_job()
SERVICE = a_job("continuous")
HOURLY = a_job("scheduled")
OTHER = changed(a_job(queue="q"), id="other")
HOUR_AGO = ago(3600)
LOCK = Lock("l", LockProvider.FILE, None, 300)
FULL = Lack(Reason.NO_DISK, "no space left", later(5))


def gates_of(
    job: JobSpec, state: JobState | None = None, *others: JobState, lack: Lack | None = None, **fields: Any
) -> tuple[Gate, ...]:
    home_holds = fields.pop("home_holds", ())
    board = a_board(job, OTHER, states=[state or a_job_state(), *others], is_deciding=False, **fields)
    return why.gates(job, board, home_holds, lack, NOW)


def closed(*found: Any, **fields: Any) -> list[Gate]:
    return [gate for gate in gates_of(*found, **fields) if gate.reason is not None]


def view(*found: Any, **fields: Any) -> Any:
    return why.why_view(found[0], gates_of(*found, **fields))


QUEUED = waiting(a_run("queued"))


def test_every_gate_of_a_waiting_run_is_listed_in_one_order() -> None:
    job = changed(JOB, depends_on=(Dependency("other", Condition.AFTER_START, None),))
    names = ["enabled", "revoked", "paused", "stopped", "home", "time", "dependency"]
    names += ["max_instances", "queue", "max_parallel", "lock", "resources"]
    assert [gate.gate for gate in gates_of(job, a_job_state(QUEUED))] == names


@pytest.mark.parametrize(
    ("job", "state", "names"),
    [
        (JOB, a_job_state(), ["asked"]),
        (SERVICE, a_job_state(), ["wanted"]),
        (SERVICE, a_job_state(with_process(continuous_run(), SERVICE)), ["wanted"]),
        (HOURLY, a_job_state(), ["schedule", "overlap"]),
        (HOURLY, a_job_state(cursor=a_cursor(HOURLY, HOUR_AGO, NOW)), ["schedule", "overlap"]),
        (changed(HOURLY, enabled=False), a_job_state(), ["schedule", "overlap"]),
        (a_job("oneshot"), a_job_state(), ["schedule"]),
        (changed(HOURLY, dedup=Dedup(60, use_params=True)), a_job_state(), ["schedule", "dedup", "overlap"]),
    ],
)
def test_without_one_what_would_make_a_run_is_told_as_well(job: JobSpec, state: JobState, names: list[str]) -> None:
    standing = ["enabled", "revoked", "paused", "stopped", "home"]
    shared = ["time", "max_instances", "queue", "max_parallel", "lock", "resources"]
    assert [gate.gate for gate in gates_of(job, state)] == [*standing, *names, *shared]


@pytest.mark.parametrize(
    ("job", "state"),
    [
        (HOURLY, a_job_state(cursor=a_cursor(HOURLY, HOUR_AGO, NOW))),
        (SERVICE, a_job_state(newest_finished=continuous_run("stopped"))),
        (SERVICE, a_job_state()),
        (JOB, a_job_state(waiting(a_run("queued", closed=in_line(ago(5)))))),
    ],
    ids=["a time is due", "a service was stopped and let go", "a service never ran", "it stood at a gate that is open"],
)
def test_what_stands_open_is_told_by_its_name_alone(job: JobSpec, state: JobState) -> None:
    found = gates_of(job, state)
    assert found == tuple(Gate(gate.gate) for gate in found)


def test_an_open_dependency_needs_no_command() -> None:
    succeeded = a_run("succeeded", job_id="other", boot_id=BOOT)
    other = a_job_state(id="other", newest_finished=succeeded)
    [gate] = [gate for gate in gates_of(on("other"), a_job_state(QUEUED), other) if gate.gate == "dependency"]
    assert gate == Gate("dependency", detail="other (after_complete)", about="other after_complete")


def test_where_everything_was_stopped_that_is_told_of_what_is_about_to_start_and_of_what_is_waited_for() -> None:
    [gate] = closed(JOB, a_job_state(unbegun()), home_holds=HOME_HELD)
    assert gate.gate == "home"
    found = closed(on("other"), a_job_state(QUEUED), a_job_state(of_other("queued"), id="other"), home_holds=HOME_HELD)
    assert [(gate.gate, gate.unblock) for gate in found] == [
        ("home", "procclaw daemon start"),
        ("dependency", "procclaw daemon start"),
    ]


def test_the_times_of_a_disabled_job_keep_nothing_back_beside_that_it_is_disabled() -> None:
    found = closed(changed(HOURLY, enabled=False), a_job_state(cursor=a_cursor(HOURLY, HOUR_AGO, later(60))))
    assert [gate.gate for gate in found] == ["enabled"]


def test_another_run_is_asked_for_beside_one_that_runs() -> None:
    job = changed(JOB, max_instances=2)
    found = closed(job, a_job_state(with_process(a_run("running"))))
    assert found == [Gate("asked", Reason.NOT_DUE, "runs only when asked", unblock="procclaw run job")]


def test_a_service_that_runs_is_wanted_however_its_last_run_ended() -> None:
    running = with_process(continuous_run(), SERVICE)
    found = closed(SERVICE, a_job_state(running, newest_finished=continuous_run("failed", occasion="before")))
    assert [gate.gate for gate in found] == ["max_instances"]


def test_a_service_that_rests_says_how_its_last_run_ended() -> None:
    job = changed(SERVICE, restart="on_failure")
    [gate] = closed(job, a_job_state(newest_finished=continuous_run("succeeded")))
    how = "its last run finished: finished"
    assert gate == Gate("wanted", Reason.FINISHED, how, ago(30), None, "procclaw start job")


def unbegun(**fields: Any) -> ActiveRun:
    """A run whose start was decided, and of whose process nothing is known."""
    return with_process(a_run("running"), pid=None, job_pid=None, start_ticks=None, created_at=ago(60), **fields)


def a_revocation(until: Any = None) -> Hold:
    return Hold("job", HoldKind.REVOKE, HOUR_AGO, "alice", until)


ABROAD = ("held by job (run x), home /srv/a b", ago(9))
LARGER = "a larger concurrency.max_instances at jobs.yaml:2"

ONE_CLOSED: list[tuple[str, JobSpec, JobState, dict[str, Any], Gate]] = [
    (
        "disabled",
        changed(SERVICE, enabled=False),
        a_job_state(),
        {},
        Gate(
            "enabled",
            Reason.DISABLED,
            "disabled in jobs.yaml",
            unblock="procclaw start job, or enabled: true at jobs.yaml:2",
        ),
    ),
    (
        "disabled, with a slot's run waiting",
        changed(JOB, enabled=False),
        a_job_state(waiting(a_run("queued", slot=ago(60)))),
        {},
        Gate("enabled", Reason.DISABLED, "disabled in jobs.yaml", unblock="enabled: true at jobs.yaml:2"),
    ),
    (
        "revoked",
        JOB,
        a_job_state(QUEUED, holds=(a_revocation(),)),
        {},
        Gate("revoked", Reason.REVOKED, "by alice", HOUR_AGO, None, "procclaw unrevoke job"),
    ),
    (
        "revoked until then",
        JOB,
        a_job_state(QUEUED, holds=(a_revocation(later(60)),)),
        {},
        Gate("revoked", Reason.REVOKED, "by alice", HOUR_AGO, later(60), "procclaw unrevoke job"),
    ),
    (
        "paused",
        JOB,
        a_job_state(QUEUED, holds=(a_hold("pause"),)),
        {},
        Gate("paused", Reason.PAUSED, "by alice", HOUR_AGO, None, "procclaw resume job"),
    ),
    (
        "stopped",
        SERVICE,
        a_job_state(holds=(a_hold("stop"),)),
        {},
        Gate("stopped", Reason.STOPPED, "by alice", HOUR_AGO, None, "procclaw start job"),
    ),
    (
        "everything stopped",
        SERVICE,
        a_job_state(),
        {"home_holds": HOME_HELD},
        Gate("home", Reason.HOME_STOPPED, "everything was stopped by alice", HOUR_AGO, None, "procclaw daemon start"),
    ),
    (
        "not asked",
        JOB,
        a_job_state(),
        {},
        Gate("asked", Reason.NOT_DUE, "runs only when asked", unblock="procclaw start job"),
    ),
    (
        "not due",
        HOURLY,
        a_job_state(cursor=a_cursor(HOURLY, ago(60), later(3540))),
        {},
        Gate("schedule", Reason.NOT_DUE, "not due yet", None, later(3540), "procclaw run job"),
    ),
    (
        "never due again",
        a_job("oneshot"),
        a_job_state(cursor=a_cursor(a_job("oneshot"), NOW, None)),
        {},
        Gate("schedule", Reason.NOT_DUE, "no time left in its schedule", None, None, "procclaw run job"),
    ),
    (
        "failed for good",
        SERVICE,
        a_job_state(newest_finished=continuous_run("failed", reason=Reason.RETRIES_USED_UP)),
        {},
        Gate(
            "wanted",
            Reason.RETRIES_USED_UP,
            "its last run failed: retries used up",
            ago(30),
            None,
            "procclaw start job",
        ),
    ),
    (
        "planned for later",
        JOB,
        a_job_state(waiting(a_run("queued", trigger="eta", not_before_at=later(60)))),
        {},
        Gate("time", Reason.ETA, "planned for later", ago(60), later(60), "procclaw run job"),
    ),
    (
        "waits to retry",
        JOB,
        a_job_state(waiting(a_run("retrying", not_before_at=later(60), detail="exit code 1"))),
        {},
        Gate(
            "time",
            Reason.RETRY_DELAY,
            "attempt 1 ended (exit code 1), attempt 2 follows",
            None,
            later(60),
            "procclaw restart job",
        ),
    ),
    (
        "waits for another job",
        changed(JOB, depends_on=(Dependency("other", Condition.AFTER_COMPLETE, None),)),
        a_job_state(waiting(a_run("queued", closed=(("dependency other after_complete", ago(9)),)))),
        {},
        Gate(
            "dependency",
            Reason.DEPENDENCY,
            "other (after_complete): has never run",
            ago(9),
            None,
            "procclaw start other",
            "other after_complete",
        ),
    ),
    (
        "cannot be started as it stands",
        JOB,
        a_job_state(unbegun(refusal=Reason.ENVIRONMENT, detail='user "x": no such account')),
        {},
        Gate(
            "start",
            Reason.ENVIRONMENT,
            'attempt 1 did not start: user "x": no such account',
            ago(60),
            None,
            "procclaw reconcile",
        ),
    ),
    (
        "is being started",
        SERVICE,
        a_job_state(unbegun()),
        {},
        Gate("start", Reason.STARTING, "the start of attempt 1 is under way", ago(60), None, "procclaw reconcile"),
    ),
    (
        "was to be started, and something is lacking",
        SERVICE,
        a_job_state(unbegun()),
        {"lack": FULL},
        Gate("resources", Reason.NO_DISK, "no space left", None, later(5)),
    ),
    (
        "was to be started, and is paused",
        JOB,
        a_job_state(unbegun(), holds=(a_hold("pause"),)),
        {},
        Gate("paused", Reason.PAUSED, "by alice", HOUR_AGO, None, "procclaw resume job"),
    ),
    (
        "waits for a place",
        JOB,
        a_job_state(with_process(a_run("running", occasion="1")), waiting(a_run("queued", closed=in_line(ago(9))))),
        {},
        Gate("max_instances", Reason.MAX_INSTANCES, "1 of at most 1 running", ago(9), None, LARGER),
    ),
    (
        "waits in a queue",
        changed(JOB, queue="q"),
        a_job_state(waiting(a_run("queued", closed=in_line(ago(9), "queue")))),
        {"others": (a_job_state(with_process(a_run("running", job_id="other")), id="other"),)},
        Gate(
            "queue",
            Reason.QUEUE,
            "queue q: 1 of at most 1 running: other (normal)",
            ago(9),
            None,
            "procclaw stop other",
        ),
    ),
    (
        "waits for the home's limit",
        JOB,
        a_job_state(waiting(a_run("queued", closed=(("max_parallel", ago(9)),)))),
        {
            "others": (a_job_state(with_process(a_run("running", job_id="other")), id="other"),),
            "spec": {"config": a_config(max_parallel=1)},
        },
        Gate(
            "max_parallel",
            Reason.MAX_PARALLEL,
            "1 of at most 1 runs in all: other (normal)",
            ago(9),
            None,
            "a larger daemon.max_parallel in procclaw.yaml",
        ),
    ),
    (
        "waits for a lock that a process we do not know has",
        changed(JOB, lock=LOCK),
        a_job_state(waiting(a_run("queued", closed=(("lock", ago(9)),)))),
        {},
        Gate("lock", Reason.LOCK, "lock l: not free", ago(9)),
    ),
    (
        "waits for a lock that a job of another home has",
        changed(JOB, lock=LOCK),
        a_job_state(waiting(a_run("queued", closed=(("lock", ago(9)), ABROAD)))),
        {},
        Gate(
            "lock",
            Reason.LOCK,
            "lock l: held by job (run x), home /srv/a b",
            ago(9),
            None,
            "procclaw --home '/srv/a b' stop job",
        ),
    ),
    (
        "lacks something",
        SERVICE,
        a_job_state(),
        {"lack": FULL},
        Gate("resources", Reason.NO_DISK, "no space left", None, later(5)),
    ),
]


@pytest.mark.parametrize(
    ("job", "state", "fields", "gate"),
    [row[1:] for row in ONE_CLOSED],
    ids=[row[0].replace(" ", "-") for row in ONE_CLOSED],
)
def test_the_gate_that_is_closed_says_why_since_when_until_when_and_how_to_open_it(
    job: JobSpec, state: JobState, fields: dict[str, Any], gate: Gate
) -> None:
    others = fields.get("others", ())
    rest = {name: value for name, value in fields.items() if name != "others"}
    assert closed(job, state, *others, **rest) == [gate]
    told = view(job, state, *others, **rest)
    assert told["can_start"] is False
    assert told["earliest_start"] == (None if gate.until is None else gate.until.strftime("%Y-%m-%dT%H:%M:%SZ"))


def test_a_lock_that_a_job_of_this_home_has_is_opened_by_stopping_that() -> None:
    job, holder = changed(JOB, lock=LOCK), changed(OTHER, lock=LOCK)
    holding = a_job_state(with_process(a_run("running", job_id="other")), id="other")
    board = a_board(job, holder, states=[a_job_state(QUEUED), holding], is_deciding=False)
    [gate] = [gate for gate in why.gates(job, board, (), None, NOW) if gate.reason is not None]
    assert gate.detail == f"lock l: held by other (run {a_run('running', job_id='other').id})"
    assert gate.unblock == "procclaw stop other"


def on(*others: str, condition: Condition = Condition.AFTER_COMPLETE, **fields: Any) -> JobSpec:
    """A job that waits for these."""
    needed = tuple(Dependency(other, condition, None) for other in others)
    return changed(a_job(fields.pop("type", "manual")), depends_on=needed, **fields)


def of_other(state: str, **fields: Any) -> ActiveRun:
    run = a_run(state, job_id="other", **fields)
    return with_process(run) if state == "running" else waiting(run)


def unhealthy() -> ActiveRun:
    active = of_other("running")
    assert active.live is not None
    return active._replace(live=active.live._replace(health=a_health(active.live.attempt, False)))


OPENINGS: list[tuple[str, JobSpec, JobState, str | None]] = [
    ("is not declared", on("nobody"), a_job_state(), "declare nobody, or remove it from depends_on"),
    ("has not been asked for", on("other"), a_job_state(id="other"), "procclaw start other"),
    ("is paused", on("other"), a_job_state(id="other", holds=(a_hold("pause"),)), "procclaw resume other"),
    ("is revoked", on("other"), a_job_state(id="other", holds=(a_hold("revoke"),)), "procclaw unrevoke other"),
    ("runs, and ends by itself", on("other"), a_job_state(of_other("running"), id="other"), None),
    ("runs, and is sick", on("other"), a_job_state(unhealthy(), id="other"), "procclaw restart other"),
    (
        "waits to retry",
        on("other"),
        a_job_state(of_other("retrying", not_before_at=later(60)), id="other"),
        "procclaw restart other",
    ),
    ("starts at the next look", on("other"), a_job_state(of_other("queued"), id="other"), None),
    (
        "starts at the next look, and once more later",
        on("other"),
        a_job_state(
            of_other("queued", occasion="eta", trigger="eta", not_before_at=later(60)), of_other("queued"), id="other"
        ),
        None,
    ),
]


@pytest.mark.parametrize(
    ("job", "other", "unblock"), [row[1:] for row in OPENINGS], ids=[row[0].replace(" ", "-") for row in OPENINGS]
)
def test_a_dependency_names_the_command_that_moves_what_is_waited_for(
    job: JobSpec, other: JobState, unblock: str | None
) -> None:
    other = other._replace(id="other")
    [gate] = closed(job, a_job_state(QUEUED), other)
    assert (gate.gate, gate.unblock) == ("dependency", unblock)


def test_of_jobs_that_wait_for_each_other_the_command_is_for_the_one_that_waits_for_something_else() -> None:
    links = [changed(on(f"j{number + 1}"), id=f"j{number}") for number in range(2000)]
    waits = [a_job_state(waiting(a_run("queued", job_id=link.id)), id=link.id) for link in links]
    last = changed(JOB, id="j2000")
    board = a_board(*links, last, states=[*waits, a_job_state(id="j2000", holds=(a_hold("pause"),))], is_deciding=False)
    [gate] = [gate for gate in why.gates(links[0], board, (), None, NOW) if gate.reason is not None]
    assert gate.unblock == "procclaw resume j2000"


def test_a_job_that_has_all_places_of_a_queue_is_not_stopped_for_a_run_of_its_own() -> None:
    job = changed(JOB, queue="q", max_instances=2)
    found = closed(job, a_job_state(with_process(a_run("running", occasion="1")), QUEUED))
    assert [(gate.gate, gate.unblock) for gate in found] == [("queue", "a larger queues.q.limit in jobs.yaml")]


def test_the_earliest_start_is_the_last_of_the_times_or_unknown_with_the_first_gate_that_has_none() -> None:
    run = waiting(a_run("queued", trigger="eta", not_before_at=later(60)))
    assert view(JOB, a_job_state(run, holds=(a_revocation(later(600)),)))["earliest_start"] == "2026-06-01T12:10:00Z"
    assert view(JOB, a_job_state(run), lack=FULL)["earliest_start"] == "2026-06-01T12:01:00Z"
    assert view(JOB, a_job_state(run, holds=(a_hold("pause"),)))["earliest_start"] is None


def test_what_can_start_says_so() -> None:
    told = view(SERVICE)
    assert (told["job_id"], told["can_start"]) == ("job", True)
    assert all(gate["open"] and gate["reason"] is None and gate["unblock"] is None for gate in told["gates"])


def test_a_revocation_that_is_over_is_open() -> None:
    assert closed(JOB, a_job_state(QUEUED, holds=(a_revocation(ago(1)),))) == []


def test_what_waits_already_is_told_of_rather_than_what_is_planned_for_later() -> None:
    ahead = waiting(a_run("queued", occasion="eta", trigger="eta", not_before_at=later(60)))
    assert closed(JOB, a_job_state(ahead, QUEUED)) == []


# --- runs that would not even be made ---

DEDUP = changed(HOURLY, dedup=Dedup(60, use_params=True), params=(Param("p", "0", "", False, None),))
DUE = a_cursor(DEDUP, HOUR_AGO, NOW)


@pytest.mark.parametrize(
    ("state", "params", "stands"),
    [("succeeded", (("p", "0"),), True), ("failed", (("p", "0"),), False), ("succeeded", (("p", "1"),), False)],
)
def test_a_request_that_another_stands_for_is_told(state: str, params: Any, stands: bool) -> None:
    run = a_run(state, queued_at=ago(20), params=params)
    found = closed(DEDUP, a_job_state(recent=(run,), cursor=DUE))
    detail = f"run {run.id}, asked for 20 s ago, stands for the same request"
    assert found == ([Gate("dedup", Reason.DEDUP, detail, ago(20), later(40))] if stands else [])


def test_a_time_that_would_be_skipped_is_told() -> None:
    running = with_process(a_run("running"))
    found = {gate.gate: gate for gate in closed(HOURLY, a_job_state(running, cursor=a_cursor(HOURLY, HOUR_AGO, NOW)))}
    detail = "1 active: a time that falls due is skipped (on_overlap: skip)"
    assert found["overlap"] == Gate("overlap", Reason.OVERLAP, detail, unblock="procclaw stop job")
    queues = changed(HOURLY, on_overlap="queue")
    assert "overlap" not in {gate.gate for gate in closed(queues, a_job_state(running))}
    planned = waiting(a_run("queued", trigger="eta", not_before_at=later(60)))
    assert "overlap" not in {gate.gate for gate in closed(HOURLY, a_job_state(planned))}


def test_a_run_that_waits_to_retry_gives_way_to_a_time_that_falls_due() -> None:
    retrying = a_run("retrying", not_before_at=later(600))
    board = a_board(HOURLY, states=[a_job_state(waiting(retrying), cursor=a_cursor(HOURLY, HOUR_AGO, later(60)))])
    assert "overlap" not in {gate.gate for gate in why.gates(HOURLY, board, (), None, NOW) if gate.reason is not None}
    assert retrying.state is RunState.RETRYING
