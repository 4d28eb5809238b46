"""Values for tests: jobs, runs, attempts and states of which a test names only what matters to it.

Everything happens at `NOW` unless told otherwise, and everything belongs to the job "job". Spans are seconds before
(`..._ago`) or after (`..._in`) `NOW`. `carried_out` is the smallest world there is: a state as it looks once a plan's
rows are written and its effects have happened.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from procclaw.model.alerts import Alert, Trouble, TroubleOver, Watch
from procclaw.model.clock import to_microseconds
from procclaw.model.ids import run_id
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.outside import ProbeResult, Process, RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    HOME,
    Attempt,
    Cursor,
    DeadLetter,
    DeadLettersPurged,
    Health,
    Hold,
    HoldKind,
    HoldLifted,
    JobForgotten,
    Run,
    RunState,
    SlotOutcome,
    Slots,
    SlotsWithdrawn,
    StopOrder,
    Terms,
    Trigger,
    TriggerFile,
    TriggerFileGone,
    Usage,
    WorkflowRun,
)
from procclaw.model.rows import Write
from procclaw.model.spec import (
    AlertPolicy,
    CatchUp,
    CatchUpPolicy,
    CheckType,
    Concurrency,
    Config,
    HealthCheck,
    HistoryPolicy,
    JobSpec,
    JobType,
    Leftovers,
    LogPolicy,
    OnUnhealthy,
    Overlap,
    Priority,
    Restart,
    Retry,
    Shutdown,
    Spec,
)
from procclaw.model.state import ActiveRun, JobState, Observed, State, WorkflowState
from procclaw.planning.actions import Check, Plan, Relaunch, Signal, Start, Wait
from procclaw.planning.board import Board
from procclaw.planning.plan import plan
from procclaw.planning.timetable import schedule_key

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
JOB = "job"
BOOT = "this-boot"
EARLIER_BOOT = "earlier-boot"
TERM = 15
A_MARK = "0" * 32
CONTINUOUS_OCCASION = "continuous:first"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# --- what is wanted ---

_PARTS: Mapping[str, tuple[str, str]] = {
    "catch_up": ("catch_up", "policy"),
    "within": ("catch_up", "within_seconds"),
    "limit": ("catch_up", "limit"),
    "retries": ("retry", "enabled"),
    "delays": ("retry", "delays_seconds"),
    "max_attempts": ("retry", "max_attempts"),
    "reset_after": ("retry", "reset_after_seconds"),
    "grace": ("shutdown", "grace_seconds"),
    "signal": ("shutdown", "signal"),
    "leftovers": ("shutdown", "leftovers"),
    "max_instances": ("concurrency", "max_instances"),
    "queue_excess": ("concurrency", "queue_excess"),
    "queue_timeout": ("concurrency", "queue_timeout_seconds"),
    "check": ("health_check", "type"),
    "interval": ("health_check", "interval_seconds"),
    "check_timeout": ("health_check", "timeout_seconds"),
    "start_period": ("health_check", "start_period_seconds"),
    "failures": ("health_check", "failures"),
    "on_unhealthy": ("health_check", "on_unhealthy"),
}
_PLAIN = {"timeout": "timeout_seconds", "jitter": "jitter_seconds"}
_WORDS: Mapping[str, Any] = {
    "type": JobType,
    "on_overlap": Overlap,
    "restart": Restart,
    "catch_up": CatchUpPolicy,
    "leftovers": Leftovers,
    "check": CheckType,
    "on_unhealthy": OnUnhealthy,
}


def a_job(type: str = "manual", **fields: Any) -> JobSpec:  # noqa: A002
    """A job with the defaults of the schema, of which nobody is told anything; `fields` are those of jobs.yaml, the
    nested ones by their own names.
    """
    job = JobSpec(
        id=JOB,
        name=JOB,
        description="",
        tags=(),
        cmd=("true",),
        cwd=None,
        env=(),
        env_file=None,
        user=None,
        group=None,
        umask=None,
        nice=None,
        type=JobType(type),
        enabled=True,
        schedule=("0 * * * *",) if type == "scheduled" else (),
        timezone="UTC",
        run_at=NOW if type == "oneshot" else None,
        on_overlap=Overlap.SKIP,
        catch_up=CatchUp(CatchUpPolicy.LATEST, 3600, 100),
        jitter_seconds=0,
        timeout_seconds=None,
        restart=Restart.ALWAYS,
        success_exit_codes=(0,),
        retry=Retry(True, (0, 30, 300, 900, 3600), 5, 60),
        shutdown=Shutdown(60, TERM, Leftovers.STOP),
        concurrency=Concurrency(1, True, 300),
        log=LogPolicy(10_000_000, 5, False),
        depends_on=(),
        health_check=HealthCheck(
            type=CheckType.PROCESS,
            interval_seconds=60,
            timeout_seconds=10,
            start_period_seconds=0,
            failures=3,
            on_unhealthy=OnUnhealthy.RESTART,
            url=None,
            method="GET",
            expected_status=200,
            expected_body=None,
            path=None,
            max_age_seconds=120,
            host="127.0.0.1",
            port=None,
            cmd=None,
        ),
        queue=None,
        priority=Priority.NORMAL,
        dedup=None,
        lock=None,
        triggers=(),
        params=(),
        resources=None,
        alerts=AlertPolicy(False, False, False, False, False, None, None, 300),
        expect=None,
        process_hash="as it is",
        source="jobs.yaml:2",
    )
    return changed(job, **fields)


def changed(job: JobSpec, **fields: Any) -> JobSpec:
    """`job` after an edit of jobs.yaml."""
    for name, value in fields.items():
        value = _WORDS[name](value) if name in _WORDS else value
        if name == "schedule" and isinstance(value, str):
            value = (value,)
        if name in _PARTS:
            whole, part = _PARTS[name]
            job = job._replace(**{whole: getattr(job, whole)._replace(**{part: value})})
        else:
            job = job._replace(**{_PLAIN.get(name, name): value})
    return job


def a_config(**fields: Any) -> Config:
    config = Config("127.0.0.1", 9876, "INFO", 60, None, (), (), "UTC", HistoryPolicy(100, 30))
    return config._replace(**fields)


def a_spec(*jobs: JobSpec) -> Spec:
    return Spec({job.id: job for job in jobs}, a_config(), "hash")


# --- what is there ---


def a_run(state: str = "queued", **fields: Any) -> Run:
    """A run asked for by a person a minute ago, unless `fields` say otherwise.

    `slot` makes it the run of that due time. A running one is in its first attempt; a retrying one failed once.
    """
    slot = fields.pop("slot", None)
    trigger = Trigger(fields.pop("trigger", "manual" if slot is None else "schedule"))
    occasion = f"intent:1@{to_microseconds(NOW)}" if slot is None else f"slot:{round(slot.timestamp()) * 1_000_000}"
    occasion = fields.pop("occasion", CONTINUOUS_OCCASION if trigger is Trigger.CONTINUOUS else occasion)
    job_id = fields.pop("job_id", JOB)
    queued_at = fields.pop("queued_at", ago(60) if slot is None else slot)
    has_begun = state not in ("queued", "expired")
    run = Run(
        id=run_id(job_id, occasion),
        job_id=job_id,
        occasion=occasion,
        trigger=trigger,
        state=RunState(state),
        queued_at=queued_at,
        not_before_at=queued_at,
        scheduled_at=slot,
        started_at=queued_at if has_begun else None,
        attempts=1 if has_begun else 0,
        failures=1 if state in ("retrying", "failed") else 0,
        process_hash="as it is",
    )
    if not run.is_active:
        run = run._replace(finished_at=ago(30), reason=Reason.FINISHED)
    return run._replace(**fields)


def in_line(since: datetime, gate: str = "max_instances") -> tuple[tuple[str, datetime], ...]:
    """What a run remembers that waits for its turn and for nothing else."""
    return ((gate, since), ("place", since))


def continuous_run(state: str = "running", **fields: Any) -> Run:
    return a_run(state, trigger="continuous", **fields)


def an_attempt(run: Run, job: JobSpec | None = None, **fields: Any) -> Attempt:
    """The newest attempt of `run`, started as `job` says; its process lives since the run began."""
    started_at: datetime | None = fields.pop("started_at", run.started_at or NOW)
    number = fields.pop("number", run.attempts)
    attempt = Attempt(
        id=f"{run.id}.{number}",
        run_id=run.id,
        job_id=run.job_id,
        number=number,
        mark=A_MARK,
        boot_id=BOOT,
        created_at=started_at or NOW,
        terms=terms_of(job or a_job()),
        pid=1000,
        job_pid=1001,
        start_ticks=5000,
        started_at=started_at,
    )
    return attempt._replace(**fields)


def terms_of(job: JobSpec) -> Terms:
    shutdown = job.shutdown
    return Terms(
        signal=shutdown.signal,
        grace_seconds=shutdown.grace_seconds,
        leftovers=shutdown.leftovers,
        success_exit_codes=job.success_exit_codes,
        timeout_seconds=job.timeout_seconds,
        process_hash=job.process_hash,
        queue=job.queue,
    )


def an_order(reason: Reason = Reason.STOP_REQUESTED, asked_ago: float = 0, **fields: Any) -> StopOrder:
    """A stop decided `asked_ago`; with `signalled_ago` or `killed_ago` it has been carried on so far."""
    for name in ("signalled", "killed", "last_killed"):
        if f"{name}_ago" in fields:
            fields[f"{name}_at"] = ago(fields.pop(f"{name}_ago"))
    return StopOrder(reason, ago(asked_ago), **fields)


def alive(attempt: Attempt, *members: Process) -> Observed:
    """Its shim holds the record; `members` are what else of it lives, if somebody looked."""
    return Observed(attempt, Sight(RecordPhase.LOCKED, pid=attempt.pid), members or None)


def exited(attempt: Attempt, code: int = 0, *members: Process, at: datetime = NOW, **fields: Any) -> Observed:
    sight = Sight(RecordPhase.EXITED, attempt.pid, exit_code=code, exited_at=at, cpu_seconds=0.5)
    return Observed(attempt, sight._replace(**fields), members)


def seen_as(phase: str, attempt: Attempt, *members: Process) -> Observed:
    """A look that showed nothing but the phase (and the pid, where the record carries one)."""
    pid = attempt.pid if phase in ("locked", "lost", "failed_cwd") else None
    return Observed(attempt, Sight(RecordPhase(phase), pid), members)


def a_health(attempt: Attempt, is_healthy: bool | None, checked_ago: float = 0, **fields: Any) -> Health:
    """What checks have shown of the attempt, since it started unless `since_ago` says otherwise."""
    for name in ("since", "counted"):
        if f"{name}_ago" in fields:
            fields["since" if name == "since" else "counted_at"] = ago(fields.pop(f"{name}_ago"))
    since = fields.pop("since", attempt.started_at)
    return Health(attempt.job_id, attempt.id, is_healthy, since, ago(checked_ago), **fields)


def a_result(attempt: Attempt, *, is_ok: bool, detail: str = "") -> ProbeResult:
    return ProbeResult(attempt.job_id, attempt.id, is_ok, detail or ("it answered" if is_ok else "it did not answer"))


def with_process(run: Run, job: JobSpec | None = None, **fields: Any) -> ActiveRun:
    """The run with its attempt's process alive."""
    return ActiveRun(run, alive(an_attempt(run, job, **fields)))


def waiting(run: Run) -> ActiveRun:
    return ActiveRun(run, None)


def a_job_state(*active: ActiveRun, **fields: Any) -> JobState:
    return JobState(fields.pop("id", JOB), active, **fields)


def a_state(*jobs: JobState, **fields: Any) -> State:
    return State(fields.pop("boot_id", BOOT), {job.id: job for job in jobs}, **fields)


def a_cursor(job: JobSpec, judged_until: datetime, next_due_at: datetime | None) -> Cursor:
    return Cursor(job.id, schedule_key(job), judged_until, next_due_at)


def a_hold(kind: str, since: datetime = NOW - timedelta(hours=1), by: str = "alice", job_id: str = JOB) -> Hold:
    return Hold(job_id, HoldKind(kind), since, by)


HOME_HELD = (a_hold("stop", job_id=HOME),)


def an_intent(kind: str, number: int = 1, **fields: Any) -> Intent:
    """A request by alice, made just now."""
    return Intent(number, JOB, IntentKind(kind), False, NOW, "alice")._replace(**fields)


def accepted(kind: str, number: int = 1, **fields: Any) -> Intent:
    return an_intent(kind, number, state=IntentState.ACCEPTED, **fields)


def done(intent: Intent, message: str, run: Run | None = None, at: datetime = NOW) -> Intent:
    answered = intent._replace(state=IntentState.DONE, message=message, resolved_at=at)
    return answered if run is None else answered._replace(run_id=run.id)


def refused(intent: Intent, message: str) -> Intent:
    return intent._replace(state=IntentState.REFUSED, message=message, resolved_at=NOW)


def a_board(*jobs: JobSpec, states: Iterable[JobState] = (), **fields: Any) -> Board:
    """What the jobs see of each other, before anything is decided."""
    spec = a_spec(*jobs)._replace(**fields.pop("spec", {}))
    known = {job.id: JobState(job.id) for job in jobs} | {state.id: state for state in states}
    return Board(spec, known, BOOT, NOW, is_deciding=fields.pop("is_deciding", True))


# --- what is decided ---


def planned(job: JobSpec | None, state: JobState, now: datetime = NOW, **fields: Any) -> Plan:
    """The plan for one job; None: jobs.yaml does not name it."""
    return plan(a_spec(*([] if job is None else [job])), a_state(state, **fields), now)


def a_start(run: Run, job: JobSpec, reason: str, number: int = 1, instance: int = 0) -> Start:
    return Start(run.job_id, run.id, number, instance, terms_of(job), reason)


def started(run: Run, job: JobSpec | None = None, at: datetime = NOW) -> Run:
    """The run as a plan leaves it that starts its next attempt."""
    return run._replace(
        state=RunState.RUNNING,
        attempts=run.attempts + 1,
        started_at=run.started_at or at,
        process_hash=(job or a_job()).process_hash,
        boot_id=BOOT,
        closed=(),
    )


def over(run: Run, state: str, reason: Reason, at: datetime = NOW, **fields: Any) -> Run:
    """The run as a plan leaves it that is over; only of a failed one there is something to tell beside the reason."""
    ended = run._replace(state=RunState(state), reason=reason, finished_at=at, detail="", closed=())
    return ended._replace(**fields)


def a_dead_letter(run: Run) -> DeadLetter:
    """What a run leaves that has failed for good, just now."""
    return DeadLetter(
        0, run.job_id, run.id, NOW, run.reason or Reason.FINISHED, run.detail, run.exit_code, run.attempts
    )


def ended(attempt: Attempt, reason: Reason, code: int | None = None, at: datetime = NOW, **fields: Any) -> Attempt:
    """The attempt as a plan leaves it that saw its end; `fields` where they differ from an end seen at once."""
    cpu_seconds = None if code is None else 0.5
    over = attempt._replace(exited_at=at, exit_code=code, cpu_seconds=cpu_seconds, ended_at=at, reason=reason)
    return over._replace(**fields)


def a_wait(
    reason: Reason,
    run: Run | None = None,
    detail: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Wait:
    return Wait(JOB, None if run is None else run.id, reason, detail, since, until)


def slots_row(
    first: datetime,
    outcome: str,
    reason: Reason | None = None,
    last: datetime | None = None,
    total: int = 1,
    run: Run | None = None,
) -> Slots:
    run_name = None if run is None else run.id
    return Slots(JOB, first, last or first, total, SlotOutcome(outcome), reason, run_name, NOW)


# --- what comes of it ---


def committed(state: State, decided: Plan, now: datetime, ledger: list[Slots] | None = None) -> State:
    """The state once the plan's rows are written, those of the attempts to start too, and nothing was done yet."""
    state = recorded(state, decided.writes, ledger)
    for effect in decided.effects:
        if isinstance(effect, Start):
            job = state.jobs[effect.job_id]
            run = next(active.run for active in job.active if active.run.id == effect.run_id)
            attempt = an_attempt(run, number=effect.number, started_at=None, boot_id=state.boot_id)
            attempt = attempt._replace(created_at=now, pid=None, job_pid=None, start_ticks=None)
            attempt = attempt._replace(terms=effect.terms, instance=effect.instance)
            state = _with_attempt(state, attempt, "blank")
    return state


def carried_out(state: State, decided: Plan, now: datetime, ledger: list[Slots] | None = None) -> State:
    """The state once the plan has been carried out: what was to start is alive, and nothing has ended yet."""
    state = _looked_past(committed(state, decided, now, ledger))
    for effect in decided.effects:
        match effect:
            case Check():
                state = _with_check_begun(state, effect)
            case Start():
                active = state.jobs[effect.job_id].active
                blank = next(each.live.attempt for each in active if each.live and each.run.id == effect.run_id)
                state = _with_attempt(state, _launched(blank, now), "locked")
            case Relaunch():
                state = _with_attempt(state, _launched(effect.attempt, now), "locked")
            case Signal():
                order = effect.attempt.stop
                assert order is not None
                stamped = order.carried_on(now, is_kill=effect.is_kill)
                state = _with_attempt(state, effect.attempt._replace(stop=stamped), None)
    return state


def _looked_past(state: State) -> State:
    """The state without what only one look shows: what came of checks, and what was measured."""
    for job in state.jobs.values():
        for active in job.active:
            if active.live is not None:
                live = active.live
                live = live._replace(probe=None, measured=None, is_probing=live.is_probing and live.probe is None)
                state = _with_job(state, _attached(state.jobs[job.id], active.run.id, live))
    return state


def _with_check_begun(state: State, check: Check) -> State:
    job = state.jobs[check.job_id]
    for active in job.active:
        if active.live is not None and active.live.attempt.id == check.attempt_id:
            job = _attached(job, active.run.id, active.live._replace(is_probing=True))
    return _with_job(state, job)


def _launched(attempt: Attempt, now: datetime) -> Attempt:
    return attempt._replace(pid=1000, job_pid=1001, start_ticks=5000, started_at=now)


def recorded(state: State, writes: Iterable[Write], ledger: list[Slots] | None = None) -> State:
    """The state once these rows are written."""
    writes = tuple(writes)
    for write in writes:
        if isinstance(write, WorkflowRun):
            state = _with_workflow(state, write)
    for write in writes:
        if isinstance(write, DeadLettersPurged | WorkflowRun):
            continue
        if isinstance(write, Run) and write.workflow_run is not None:
            state = _with_step(state, write)
        if write.job_id == HOME:
            state = _recorded_of_home(state, write)
            continue
        job = state.jobs[write.job_id]
        state = _with_job(state, _recorded_of_job(job, write, ledger if ledger is not None else []))
    return state


def _with_workflow(state: State, run: WorkflowRun) -> State:
    known = {each.run.id: each for each in state.workflows}
    steps = known[run.id].steps if run.id in known else (None,) * len(run.spec.steps)
    known[run.id] = WorkflowState(run, steps)
    return state._replace(workflows=tuple(each for each in known.values() if each.run.is_active))


def _with_step(state: State, run: Run) -> State:
    return state._replace(workflows=tuple(_with_newest(each, run) for each in state.workflows))


def _with_newest(workflow: WorkflowState, run: Run) -> WorkflowState:
    """A step's newest run is the one of its latest try; an earlier one is over and is not written again."""
    if run.workflow_run != workflow.run.id:
        return workflow
    steps = (run if step == run.step else each for step, each in enumerate(workflow.steps))
    return workflow._replace(steps=tuple(steps))


def _recorded_of_home(state: State, write: Write) -> State:
    match write:
        case Hold():
            state = state._replace(home_holds=(write,))
        case HoldLifted():
            state = state._replace(home_holds=())
    return _with_job(state, _recorded_of_job(state.jobs[HOME], write, []))


def _recorded_of_job(job: JobState, write: Write, ledger: list[Slots]) -> JobState:
    match write:
        case Run():
            return _with_run(job, write)
        case Attempt():
            live = [active.live for active in job.active if active.live and active.live.attempt.id == write.id]
            is_over = write.ended_at is not None
            return _attached(job, write.run_id, None if is_over else live[0]._replace(attempt=write))
        case Cursor():
            return job._replace(cursor=write)
        case Hold():
            return job._replace(holds=(*(hold for hold in job.holds if hold.kind is not write.kind), write))
        case HoldLifted():
            return job._replace(holds=tuple(hold for hold in job.holds if hold.kind is not write.kind))
        case Intent():
            others = (intent for intent in job.intents if intent.id != write.id)
            still_open = (write,) if write.resolved_at is None else ()
            return job._replace(intents=tuple(sorted((*others, *still_open), key=lambda intent: intent.id)))
        case JobForgotten():
            cursor = job.cursor and job.cursor._replace(schedule_key="", next_due_at=None)
            return job._replace(holds=(), cursor=cursor, triggered=(), troubles=(), watch=None)
        case Trouble():
            return job._replace(troubles=(*_other_troubles(job, write), write))
        case TroubleOver():
            return job._replace(troubles=_other_troubles(job, write))
        case Watch():
            return job._replace(watch=write)
        case Health() | Usage():
            return _found_of(job, write)
        case DeadLetter() | Alert():
            return job
        case TriggerFile() | TriggerFileGone() | DeadLettersPurged() | WorkflowRun():
            return job
        case Slots():
            ledger[:] = [row for row in ledger if (row.job_id, row.first_due_at) != (write.job_id, write.first_due_at)]
            ledger.append(write)
            return job
        case SlotsWithdrawn():
            ledger[:] = [row for row in ledger if not _is_withdrawn(row, write)]
            return job


def _found_of(job: JobState, found: Health | Usage) -> JobState:
    """The job once what was found of a live attempt is recorded."""
    for active in job.active:
        live = active.live
        if live is not None and live.attempt.id == found.attempt_id:
            live = live._replace(health=found) if isinstance(found, Health) else live._replace(usage=found)
            job = _attached(job, active.run.id, live)
    return job


def _other_troubles(job: JobState, than: Trouble | TroubleOver) -> tuple[Trouble, ...]:
    return tuple(trouble for trouble in job.troubles if trouble.kind is not than.kind)


def _is_withdrawn(row: Slots, write: SlotsWithdrawn) -> bool:
    is_later = row.job_id == write.job_id and row.first_due_at > write.after
    return is_later and row.run_id is None


def _with_run(job: JobState, run: Run) -> JobState:
    if not run.is_active:
        kept = tuple(active for active in job.active if active.run.id != run.id)
        succeeded_at = run.finished_at if run.state is RunState.SUCCEEDED else job.last_success_at
        return job._replace(active=kept, newest_finished=run, last_success_at=succeeded_at)
    if any(active.run.id == run.id for active in job.active):
        active = (each._replace(run=run) if each.run.id == run.id else each for each in job.active)
        return job._replace(active=tuple(active))
    return job._replace(active=(*job.active, ActiveRun(run, None)))


def _attached(job: JobState, run_name: str, live: Observed | None) -> JobState:
    active = (each._replace(live=live) if each.run.id == run_name else each for each in job.active)
    return job._replace(active=tuple(active))


def _with_attempt(state: State, attempt: Attempt, phase: str | None) -> State:
    """The attempt in its run, seen as `phase` (None: as it was seen before)."""
    job = state.jobs[attempt.job_id]
    before = next((each.live for each in job.active if each.run.id == attempt.run_id), None)
    live = before._replace(attempt=attempt) if before and phase is None else seen_as(phase or "locked", attempt)
    return _with_job(state, _attached(job, attempt.run_id, live))


def _with_job(state: State, job: JobState) -> State:
    return state._replace(jobs={**state.jobs, job.id: job})
