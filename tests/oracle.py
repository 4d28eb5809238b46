"""The invariants of the design, judged by what really happened and not by what the product says of itself.

`Oracle` is told of every launch, every signal and every commit, and looks at the database and at the simulated machine
side by side. It keeps accounts of its own: which holds the answered requests amount to, up to when slots were judged,
which process was started for what. An older database that is put back puts those accounts back as well.
"""

import copy
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from procclaw.engine.courier import MOST_UNDER_WAY
from procclaw.model import ids
from procclaw.model.alerts import Alert, Trouble
from procclaw.model.clock import from_microseconds, iso, parse_iso, to_microseconds
from procclaw.model.document import Document
from procclaw.model.intents import Intent, IntentKind, IntentState
from procclaw.model.outside import Notice
from procclaw.model.reasons import Reason
from procclaw.model.records import (
    HOME,
    Attempt,
    Cursor,
    Event,
    HoldKind,
    HoldLifted,
    JobForgotten,
    Run,
    RunState,
    SlotOutcome,
    Slots,
    SlotsWithdrawn,
)
from procclaw.model.rows import Row
from tests.lives import CANARY, Life, Proc, Violation
from tests.occasions import Known, Occasions
from tests.outside import Outside
from tests.timetables import MOST_COUNTED, NEVER, Timetable, timetable
from tests.truth import Truth

_CHECK_GRACE = 15
"""Seconds after which a check that brought nothing is begun anew, and then some."""

_NEXT_STATES = {
    RunState.QUEUED: {
        RunState.RUNNING,
        RunState.STOPPED,
        RunState.REVOKED,
        RunState.SKIPPED,
        RunState.EXPIRED,
        # It waited too long for what it depends upon, or for its lock.
        RunState.FAILED,
        RunState.RETRYING,
    },
    # Within one cycle an attempt may fail and the run be overtaken before it waits.
    RunState.RUNNING: {
        RunState.RETRYING,
        RunState.SUCCEEDED,
        RunState.FAILED,
        RunState.STOPPED,
        RunState.REVOKED,
        RunState.SKIPPED,
    },
    RunState.RETRYING: {
        RunState.RUNNING,
        RunState.FAILED,
        RunState.STOPPED,
        RunState.REVOKED,
        RunState.SKIPPED,
    },
}


class Accounts:
    """What the oracle believes the database should say; goes back with an older database."""

    def __init__(self) -> None:
        self.holds: set[tuple[str, HoldKind]] = set()
        self.until: dict[tuple[str, HoldKind], datetime] = {}
        """When a hold ends by itself."""
        self.known = Known()
        self.intents: dict[int, Intent] = {}
        self.epochs: dict[str, list[tuple[Timetable, datetime]]] = {}
        """By job, the schedules in force since the last pass over everything, each with when it came in force."""
        self.runs: dict[str, RunState] = {}
        self.stopped_until: dict[int, int] = {}
        """By stop request, the moment (elapsed) at which it was accepted."""


class Oracle:
    def __init__(self, outside: Outside, look: Callable[[str], list[Any]]) -> None:
        """`look` asks the database, in SQL."""
        self._machine = machine = outside.machine
        self._outside = outside
        self._looked = look
        self.accounts = Accounts()
        self.truth = Truth(outside, look)
        self.occasions = Occasions(outside, look)
        self.occasions.known = self.accounts.known
        self._began_at = machine.clock.now()
        self._starts: dict[tuple[str, int], str] = {}
        self._slot_runs: dict[tuple[str, str], str] = {}
        self._forgiven: set[str] = set()
        """Runs that an older database still took for unfinished: it may start them again."""
        self._decided: set[str] = set()
        """Marks of attempts whose start was judged already."""
        self._went_back_at: datetime | None = None
        machine.on_launch = self.on_launch
        machine.on_signal = self.on_signal
        machine.on_delete = lambda path: self.occasions.check_deletion(path, self.in_force)

    @property
    def in_force(self) -> Document:
        """Jobs of the configuration in force."""
        return self.truth.jobs

    def on_cycle(self) -> None:
        """A cycle begins: what it decides may be true of any moment from now on."""
        self._began_at = self._machine.clock.now()
        self.truth.since = self._machine.clock.elapsed

    def _latest(self) -> datetime:
        return max(self._began_at, self._machine.clock.now())

    # --- told by the machine ---

    def on_launch(self, life: Life) -> None:
        job = self.in_force.get(life.job_id)
        if job is None:
            raise Violation(10, f"{life} was started, and no such job is in force")
        life.facts |= {"job": job, "config": self.in_force}
        self._check_double_start(life)
        self._check_holds(life, job)
        self._check_places(life, job)
        self.occasions.check_given(life)
        self.occasions.check_before(life)

    def _check_places(self, life: Life, job: Document) -> None:
        truth, job_id = self.truth, life.job_id
        self._check_limit(life, [each for each in truth.lives_of(job_id) if each.is_alive], truth.limit_of(job_id))
        if life.trigger != "continuous":
            if job["queue"] is not None:
                self._check_limit(life, truth.in_queue(job["queue"]), truth.queue_limit(job["queue"]))
            if truth.most_parallel is not None:
                self._check_limit(life, truth.that_end(), truth.most_parallel)
        lock = truth.lock_of(job_id)
        if life.lock != lock:
            raise Violation(2, f"{life} was started with the lock {life.lock}, and needs {lock}")
        if lock is not None:
            self._check_limit(life, self._outside.has_lock(lock), 1)
            if self._outside.is_elsewhere(lock):
                raise Violation(2, f"{life} was started with {lock}, which another home holds")

    def _check_limit(self, life: Life, lives: list[Life], limit: int) -> None:
        others = [each for each in lives if each is not life and not self._is_out_of_sight(each)]
        if len(others) >= limit:
            names = ", ".join(map(str, others))
            raise Violation(2, f"{life} was started beside {names}; at most {limit} are allowed")

    def _is_out_of_sight(self, life: Life) -> bool:
        """What a run was, before an older database forgot it, is a guess."""
        return False

    def _check_double_start(self, life: Life) -> None:
        if life.has_begun:
            raise Violation(1, f"{life}: its process was started a second time under one mark")
        mark = self._starts.setdefault((life.run_id, life.number), life.mark)
        is_forgiven = life.run_id in self._forgiven or self._is_beyond_memory(life)
        if mark != life.mark and not is_forgiven:
            slot = life.slot or "no slot"
            raise Violation(1, f"{life} ({slot}) was started twice, under the marks {mark[:6]} and {life.mark[:6]}")
        self._starts[life.run_id, life.number] = life.mark
        if life.slot is not None:
            run_id = self._slot_runs.setdefault((life.job_id, life.slot), life.run_id)
            if run_id != life.run_id:
                raise Violation(1, f"slot {life.slot} of {life.job_id} ran as {run_id} and as {life.run_id}")
        row = self._looked(f"SELECT state, ending FROM runs WHERE id = '{life.run_id}'")
        if row != [("running", None)]:
            raise Violation(9, f"{life} was started, and its run is {row}")

    def _is_beyond_memory(self, life: Life) -> bool:
        """An older database was put back. What had run for a slot stays so, unless the clock has it still to come."""
        if self._went_back_at is None:
            return False
        return life.slot is None or parse_iso(life.slot) > self._went_back_at

    def _check_holds(self, life: Life, job: Document) -> None:
        holds = self.accounts.holds
        closed = {(life.job_id, HoldKind.PAUSE), (life.job_id, HoldKind.REVOKE), (HOME, HoldKind.STOP)}
        if job["type"] == "continuous":
            closed.add((life.job_id, HoldKind.STOP))
        if closed & holds:
            raise Violation(9, f"{life} was started under the hold {sorted(closed & holds)}")

    def on_signal(self, attempt: Attempt, proc: Proc) -> None:
        if proc.life is None or proc.life.mark != attempt.mark:
            owner = proc.life or "somebody else"
            raise Violation(4, f"a signal for {attempt.job_id}/{attempt.id} reached pid {proc.pid} of {owner}")

    # --- told by the store ---

    def on_request(self, intent: Intent, payload: bytes | None = None) -> None:
        self.accounts.intents[intent.id] = intent
        self.accounts.known.payloads.pop(intent.id, None)
        if payload is not None:
            self.accounts.known.payloads[intent.id] = payload

    def on_spec(self, document: Document, now: datetime) -> None:
        """Another configuration was put in force."""
        self.truth.document = document
        epochs = self.accounts.epochs
        for job_id in {*self.in_force, *epochs}:
            table = timetable(self.in_force.get(job_id))
            # An edit counts from the pass that goes through with it; before its first pass a job has no slots.
            if epochs.setdefault(job_id, [(NEVER, now)])[-1][0] != table:
                epochs[job_id].append((table, now))

    def on_commit(self, rows: Iterable[Row]) -> None:
        rows = tuple(rows)
        for row in rows:
            if isinstance(row, HoldLifted):
                self._take_in_lifted(row)
            if isinstance(row, (Event, Alert)) and CANARY in repr(row):
                raise Violation(12, f"what a request carried is told: {row}")
        answers = sorted((row for row in rows if isinstance(row, Intent)), key=lambda intent: intent.id)
        for answer in answers:
            self._take_in(answer)
        self.occasions.on_commit(rows, self.in_force, self._latest(), self.truth.since)
        told = {(row.job_id, row.kind) for row in rows if isinstance(row, Alert) and row.state != "suppressed"}
        untold = {(row.job_id, row.kind) for row in rows if isinstance(row, Trouble)} - told
        if untold:
            raise Violation(11, f"there is trouble that nobody is told of: {untold}")
        back = {row.job_id: row.after for row in rows if isinstance(row, SlotsWithdrawn)}
        for row in rows:
            match row:
                case Run():
                    self._check_run(row)
                case Attempt():
                    self._check_attempt(row)
                case Slots() if row.job_id in back and row.noticed_at > back[row.job_id]:
                    pass  # cut short where the clock was set back; what it counts may stem from an older schedule
                case Slots():
                    self._check_slots(row)
                case Cursor():
                    if row.next_due_at is not None and row.next_due_at <= row.judged_until:
                        raise Violation(8, f"next due of {row.job_id} is not later: {row}")
                case JobForgotten():
                    if row.job_id in self.in_force:
                        raise Violation(7, f"{row.job_id} was forgotten, and it is in force")
                    self.accounts.holds = {hold for hold in self.accounts.holds if hold[0] != row.job_id}
                    self.accounts.until.pop((row.job_id, HoldKind.REVOKE), None)
                    self.accounts.epochs.pop(row.job_id, None)
                    self.occasions.forget(row.job_id)
        for answer in answers:
            is_stop = answer.kind in (IntentKind.STOP, IntentKind.HOLD_HOME)
            if answer.state is IntentState.DONE and (is_stop or (answer.kind is IntentKind.REVOKE and answer.force)):
                self._check_stopped(answer)
        recorded = {(job_id, HoldKind(kind)) for job_id, kind in self._looked("SELECT job_id, kind FROM holds")}
        if recorded != self.accounts.holds:
            raise Violation(9, f"the answers given amount to the holds {self.accounts.holds}, recorded are {recorded}")

    def on_notice(self, notice: Notice) -> None:
        """People are being told; that they are is on record before, and once they have been it is not done again."""
        found = self._looked(f"SELECT state, asked_at FROM alerts WHERE key = '{notice.key}'")
        if not found or found[0][0] != "pending" or found[0][1] is None:
            raise Violation(11, f"an alert is delivered of which the record says {found}: {notice.body}")
        if CANARY in repr(notice):
            raise Violation(12, f"what a request carried is told: {notice}")

    def check_told(self, now: datetime) -> None:
        """Whether every alert has been told, or waits for its time."""
        alerts = self._looked("SELECT key, state, next_try_at, asked_at FROM alerts")
        is_due = {key: at is None or at <= to_microseconds(now) for key, state, at, _ in alerts if state == "pending"}
        under_way = [key for key, _, _, asked_at in alerts if asked_at is not None and not is_due.get(key, True)]
        for key, state, *_ in alerts:
            if state == "sent" and not self._outside.told[key]:
                raise Violation(11, f"the alert {key} is said to be sent, and has not arrived")
            if is_due.get(key) and len(under_way) < MOST_UNDER_WAY:
                raise Violation(10, f"nobody delivers the alert {key}")

    def _take_in_lifted(self, row: HoldLifted) -> None:
        """A hold whose time has come goes without anybody asking."""
        hold = (row.job_id, row.kind)
        until = self.accounts.until.get(hold)
        if until is not None and until <= self._latest():
            self._machine.trace.met["revocation ran out"] += 1
            self.accounts.holds.discard(hold)
            del self.accounts.until[hold]

    def _check_run(self, run: Run) -> None:
        found_again = self._machine.lives.get(run.occasion.removeprefix("record:"))
        if found_again is not None:
            found_again.facts["is_found_again"] = True
        before = self.accounts.runs.get(run.id)
        self.accounts.runs[run.id] = run.state
        if before is None or before is run.state or run.occasion.startswith("record:"):
            return
        if self._went_back_at is not None and run.state is RunState.RUNNING:
            return  # found alive by its record, whatever the older database says of it
        if run.state not in _NEXT_STATES.get(before, ()) and run.id not in self._forgiven:
            raise Violation(1, f"run {run.job_id}/{run.id} went from {before} to {run.state} ({run.reason})")

    def _check_attempt(self, attempt: Attempt) -> None:
        life = self._machine.lives.get(attempt.mark)
        if attempt.stop is not None and life is not None and life.facts.get("stop") is None:
            life.facts["stop"] = attempt.stop.reason
            self._check_stop_reason(attempt, life, attempt.stop.reason)
        if attempt.number == 1 and attempt.mark not in self._decided:
            self._decided.add(attempt.mark)
            self._check_opened(attempt)
        if attempt.ended_at is None:
            return
        keeps = attempt.terms.leftovers == "keep" and attempt.stop is None
        if life is None:
            return
        if keeps and life.main is None:
            life.is_kept = True
        if attempt.pid is None and life.main is None and all(proc.mark is None for proc in life.others):
            # A torn record and a database that is gone: nothing knows their session, and they bear no mark.
            life.is_kept = True
        if life.is_alive:
            left = [proc.pid for proc in (life.shim, life.main, *life.others) if proc is not None]
            raise Violation(5, f"{life} was recorded as over ({attempt.reason}), and {left} are alive")
        if "ended" in life.facts:
            return
        life.facts["ended"] = attempt.reason
        is_unreadable = life.facts.get("is_record_deleted") or attempt.reason is Reason.RESTORED
        if attempt.exit_code != life.code and not (is_unreadable and attempt.exit_code is None):
            raise Violation(6, f"{life} ended with {life.code}, recorded is {attempt.exit_code} ({attempt.reason})")

    def _check_opened(self, attempt: Attempt) -> None:
        """A run has got its first attempt: its time has come, and what it depends upon is there."""
        if attempt.mark in self._machine.lives:
            return  # found again by its record
        self.occasions.check_not_early(attempt.run_id, self._latest())
        self.occasions.check_step(attempt.run_id)
        created = self.accounts.known.created.get(attempt.run_id, 0)
        for needed in self.truth.needs(attempt.job_id):
            self._machine.trace.met[f"waited for: {needed.condition}"] += 1
            if not self.truth.can_hold(needed, attempt.run_id, created):
                raise Violation(9, f"{attempt.job_id}/{attempt.id} was let start, and not so is {needed}")

    def _check_stop_reason(self, attempt: Attempt, life: Life, reason: Reason) -> None:
        """A process may only be told to end for something that is so."""
        self._machine.trace.met[f"told to end: {reason}"] += 1
        job, then = self.in_force.get(life.job_id), life.facts["job"]
        # With a full disk a stop acts before its request can be recorded as accepted.
        asked = {intent.kind for intent in self.accounts.intents.values() if intent.job_id == life.job_id}
        asked_of_all = {intent.kind for intent in self.accounts.intents.values() if intent.job_id == HOME}
        match reason:
            case Reason.STOP_REQUESTED:
                is_so = IntentKind.STOP in asked
            case Reason.RESTART_REQUESTED:
                is_so = IntentKind.RESTART in asked
            case Reason.HOME_STOPPED:
                is_so = IntentKind.HOLD_HOME in asked_of_all
            case Reason.REMOVED:
                is_so = job is None
            case Reason.DISABLED:
                is_so = job is not None and not job["enabled"]
            case Reason.CHANGED:
                is_so = job is not None and (job["process_hash"] != then["process_hash"] or job["type"] != then["type"])
            case Reason.TIMED_OUT:
                is_so = attempt.terms.timeout_seconds is not None
            case Reason.OVERLAP:
                is_so = job is not None and job["on_overlap"] == "kill_restart"
            case Reason.REVOKED:
                is_so = any(
                    each.kind is IntentKind.REVOKE and each.force and each.job_id == life.job_id
                    for each in self.accounts.intents.values()
                )
            case Reason.UNHEALTHY:
                is_so = self._was_unhealthy(life, then)
            case Reason.MEMORY_LIMIT:
                limit = then["resources"]["max_memory_mb"] if job is None else job["resources"]["max_memory_mb"]
                is_so = limit is not None
            case Reason.CPU_LIMIT:
                limit = then["resources"]["max_cpu_percent"] if job is None else job["resources"]["max_cpu_percent"]
                is_so = limit is not None
            case Reason.CANCELLED | Reason.WORKFLOW_TIMEOUT | Reason.STEP_FAILED:
                is_so = life.trigger == "workflow"
            case Reason.LEFTOVERS:
                # Without record and pid nobody can tell the main process from what it left behind.
                is_so = life.main is None or life.shim is None or attempt.start_ticks is None
            case _:
                is_so = False
        if not is_so:
            raise Violation(7, f"{life} was told to end because of {reason}, and that is not so")

    def _was_unhealthy(self, life: Life, job: Document) -> bool:
        """Whether checks have failed, as they really were answered."""
        # A single pass and the daemon may both have checked, so the order of the newest is not theirs.
        return any(not is_ok for _, is_ok in life.answers[-3:])

    def _check_slots(self, row: Slots) -> None:
        if row.outcome is SlotOutcome.RAN and not self._looked(f"SELECT 1 FROM runs WHERE id = '{row.run_id}'"):
            raise Violation(3, f"the ledger names a run that does not exist: {row}")
        if row.run_id is not None and row.outcome is SlotOutcome.SKIPPED:
            return  # of a run that ended before it began; the slot itself was checked when it was recorded
        tables = [table for table, _ in self.accounts.epochs.get(row.job_id, ())]
        first, last = row.first_due_at - timedelta(microseconds=1), row.last_due_at
        found = [table.between(first, last) for table in tables]
        # A oneshot whose time was edited: the old slot and the new one may share a row.
        for due in (*found, sorted({at for each in found for at in each})):
            if due and due[0] == row.first_due_at and due[-1] == last and len(due) == row.total:
                return
            if len(due) >= MOST_COUNTED:
                return
        raise Violation(3, f"the ledger counts slots that are none, or leaves some out: {row}")

    def _take_in(self, intent: Intent) -> None:
        """What an answer amounts to."""
        accounts = self.accounts
        before = accounts.intents.get(intent.id)
        accounts.intents[intent.id] = intent
        if before is not None and before.resolved_at is not None:
            raise Violation(10, f"request {intent.id} was answered twice: {before.message} / {intent.message}")
        if intent.state is IntentState.REFUSED and "still there" not in intent.message:
            return
        if before is None or before.state is IntentState.PENDING:
            self._apply(intent)
            accounts.stopped_until[intent.id] = self._machine.clock.elapsed

    def _apply(self, intent: Intent) -> None:
        holds, job_id = self.accounts.holds, intent.job_id
        is_continuous = self.in_force.get(job_id, {}).get("type") == "continuous"
        match intent.kind:
            case IntentKind.STOP if is_continuous:
                holds.add((job_id, HoldKind.STOP))
            case IntentKind.RESTART:
                holds.discard((job_id, HoldKind.STOP))
            case IntentKind.RUN if intent.message.startswith("planned for"):
                pass
            case IntentKind.START | IntentKind.RUN | IntentKind.TRIGGER | IntentKind.REINJECT if is_continuous:
                holds.discard((job_id, HoldKind.STOP))
            case IntentKind.REVOKE:
                holds.add((job_id, HoldKind.REVOKE))
                self.accounts.until.pop((job_id, HoldKind.REVOKE), None)
                if intent.details.until is not None:
                    self.accounts.until[job_id, HoldKind.REVOKE] = intent.details.until
            case IntentKind.UNREVOKE:
                holds.discard((job_id, HoldKind.REVOKE))
                self.accounts.until.pop((job_id, HoldKind.REVOKE), None)
            case IntentKind.PAUSE:
                holds.add((job_id, HoldKind.PAUSE))
            case IntentKind.RESUME:
                holds.discard((job_id, HoldKind.PAUSE))
            case IntentKind.HOLD_HOME:
                holds.add((HOME, HoldKind.STOP))
            case IntentKind.RELEASE_HOME:
                holds.discard((HOME, HoldKind.STOP))

    def _check_stopped(self, intent: Intent) -> None:
        accepted = self.accounts.stopped_until.get(intent.id, 0)
        for life in self._machine.lives.values():
            if intent.job_id in (HOME, life.job_id) and life.elapsed_at < accepted and life.is_alive:
                raise Violation(5, f"request {intent.id} was answered {intent.message!r}, and {life} is alive")

    # --- after a whole pass ---

    def on_judged(self, now: datetime) -> None:
        """A pass over everything, slots included, went through at `now`: every slot up to it stands in the ledger."""
        for job_id, epochs in sorted(self.accounts.epochs.items()):
            if job_id not in self.in_force:
                continue
            (before, since), (table, _) = epochs[0], epochs[-1]
            self._check_covered(job_id, before, since, now if len(epochs) == 1 else min(now, epochs[1][1]))
            if table.once is not None and table != before:
                self._check_covered(job_id, table, table.once - timedelta(microseconds=1), now)
            epochs[:] = [(table, now)]
        self._check_overlaps()

    def _check_covered(self, job_id: str, table: Timetable, after: datetime, until: datetime) -> None:
        for due_at in table.between(after, until)[-200:]:
            at = to_microseconds(due_at)
            found = self._looked(
                f"SELECT outcome, reason FROM slots WHERE job_id = '{job_id}' "
                f"AND first_due_at <= {at} AND last_due_at >= {at}"
            )
            if len(found) != 1:
                raise Violation(3, f"slot {iso(due_at)} of {job_id} stands in the ledger {len(found)} times: {found}")
            season = table.season_of(due_at)
            if season:
                self._machine.trace.meet(season, job_id)

    def _check_overlaps(self) -> None:
        rows = self._looked(
            "SELECT a.job_id, a.first_due_at FROM slots a JOIN slots b ON a.job_id = b.job_id "
            "AND a.first_due_at < b.first_due_at AND a.last_due_at >= b.first_due_at"
        )
        if rows:
            raise Violation(3, f"rows of the ledger overlap: {rows}")

    # --- an older database ---

    def snapshot(self) -> Accounts:
        return copy.deepcopy(self.accounts)

    def go_back(self, accounts: Accounts) -> None:
        self.accounts = copy.deepcopy(accounts)
        self.occasions.go_back(self.accounts.known)
        self._went_back_at = self._machine.clock.now()
        self._forgiven |= {run_id for run_id, state in accounts.runs.items() if state in _NEXT_STATES}
        for life in self._machine.lives.values():
            life.facts.pop("ended", None)
            if life.name not in self._machine.directory:
                life.facts["is_record_deleted"] = True

    # --- when all has settled ---

    def check_settled(self, now: datetime) -> None:
        """Invariant 10: what runs equals what is wanted, and everything that was asked is answered."""
        machine = self._machine
        unanswered = [
            each for each in self.accounts.intents.values() if each.resolved_at is None and not self._may_wait(each)
        ]
        if unanswered:
            raise Violation(10, f"never answered: {unanswered}")
        alive = {life.mark: life for life in machine.lives.values() if life.is_alive}
        known = dict(self._looked("SELECT mark, job_id FROM attempts WHERE ended_at IS NULL"))
        # What was about to be launched when its manager died waits like any other start.
        held_back = {job_id for job_id, kind in self.accounts.holds if kind in (HoldKind.PAUSE, HoldKind.REVOKE)}
        held_back |= {job_id for job_id, job in self.in_force.items() if not job["enabled"]}
        blank = {mark for mark, job_id in known.items() if job_id in held_back and self._is_blank(mark)}
        known = {mark: job_id for mark, job_id in known.items() if mark not in blank}
        if alive.keys() != known.keys():
            names = sorted(map(str, alive.values()))
            raise Violation(10, f"alive are {names}, recorded as live {sorted(known.items())}")
        over = {hold for hold, until in self.accounts.until.items() if until <= now}
        if over:
            raise Violation(10, f"these holds have run out: {over}")
        self.occasions.check_settled()
        records = {name.rpartition(".")[2] for name in machine.directory}
        missing = {mark for mark in known if not alive[mark].facts.get("is_record_deleted")}
        if not missing <= records <= known.keys() | blank:
            raise Violation(10, f"records {sorted(machine.directory)} remain, live are {sorted(known.items())}")
        for job_id in sorted({*self.in_force, *(life.job_id for life in alive.values())}):
            self._check_job_settled(job_id, [life for life in alive.values() if life.job_id == job_id], now)

    def _may_wait(self, intent: Intent) -> bool:
        """Whether it has told how far it got, and what its run waits for may end by itself."""
        # A service that has given up waiting once waits to retry, and still for what it depends upon.
        is_waiting = "finished_at IS NULL AND attempts = 0"
        waiting = self._looked(f"SELECT job_id FROM runs WHERE id = '{intent.run_id}' AND {is_waiting}")
        if not waiting or not intent.message.startswith("waits:"):
            return False
        return any(self.truth.is_active(needed.job_id) for needed in self.truth.needs(intent.job_id))

    def _is_blank(self, mark: str) -> bool:
        return any(record.is_blank for name, record in self._machine.directory.items() if name.endswith(mark))

    def _check_job_settled(self, job_id: str, alive: list[Life], now: datetime) -> None:
        job = self.in_force.get(job_id)
        names = ", ".join(map(str, alive))
        held = {kind for name, kind in self.accounts.holds if name == job_id}
        is_home_held = any(name == HOME for name, _ in self.accounts.holds)
        columns = "state, not_before_at, trigger, ending, id, attempts, pulled"
        ahead = self.truth.ahead()
        active = self._looked(
            f"SELECT {columns} FROM runs WHERE job_id = '{job_id}' AND finished_at IS NULL AND NOT {ahead}"
        )
        if job is None or is_home_held:
            if job is not None:
                # What was planned for a time that has come meanwhile waits for the release.
                active = [run for run in active if not (run[2] == "eta" and run[5] == 0)]
            if alive or active:
                raise Violation(10, f"{job_id} is not wanted, and there are {names} {active}")
            return
        ending = [run for run in active if run[3] is not None]
        if ending:
            raise Violation(10, f"{job_id}: runs never ended: {ending}")
        is_held = HoldKind.PAUSE in held or HoldKind.REVOKE in held
        for state, not_before_at, trigger, _, run_id, attempts, _ in active:
            if state == "running" or from_microseconds(not_before_at) > now or is_held or not job["enabled"]:
                continue
            reasons = self.truth.why_waiting(run_id, job_id, attempts, trigger)
            if not reasons:
                raise Violation(10, f"{job_id}/{run_id} ({state}, {trigger}) waits for nothing")
            if attempts == 0:
                self._check_pulled(run_id, job_id)
        self._check_checked(job, alive)
        may_be_blank = is_held or not job["enabled"]
        if sum(1 for run in active if run[0] == "running") != len(alive) and not may_be_blank:
            raise Violation(10, f"{job_id}: alive are {names or 'none'}, runs are {active}")
        if job["type"] == "continuous":
            self._check_continuous(job_id, job, alive, active, held)

    def _check_checked(self, job: Document, alive: list[Life]) -> None:
        check = job["health_check"]
        longest = int((check["interval"] + check["timeout"] + _CHECK_GRACE) * 1_000_000)
        for life in alive:
            is_quiet = life.facts.get("stop") is None and life.main is not None and life.shim is not None
            asked_ago = self._machine.clock.elapsed - life.asked_at
            if check["type"] == "tcp" and is_quiet and asked_ago > longest:
                raise Violation(10, f"{life} was not checked for {asked_ago / 1_000_000:.1f} s")

    def _check_pulled(self, run_id: str, job_id: str) -> None:
        """A manual job that somebody waits for is started for that, once."""
        for needed in self.truth.needs(job_id):
            job = self.in_force.get(needed.job_id)
            if job is None or job["type"] != "manual" or self.truth.certainly_holds(needed, run_id):
                continue
            if self.truth.is_active(needed.job_id) or self.truth.is_held(needed.job_id, self.accounts.holds):
                continue
            occasion = f"dependency:{run_id}"
            # Its run may have been found again by its record, where nothing tells what occasioned it.
            ran = ids.run_id(needed.job_id, occasion) in {life.run_id for life in self.truth.lives_of(needed.job_id)}
            if not ran and occasion not in self.accounts.known.occasions:
                raise Violation(10, f"{job_id}/{run_id} waits for {needed}, and nobody has started that")

    def _check_continuous(
        self, job_id: str, job: Document, alive: list[Life], active: list[Any], held: set[HoldKind]
    ) -> None:
        if len([run for run in active if run[2] == "continuous"]) > 1:
            raise Violation(10, f"{job_id} has more than one run: {active}")
        wanted = [life for life in alive if life.facts["job"]["type"] == "continuous"]
        if HoldKind.STOP in held and (active or wanted):
            raise Violation(10, f"{job_id} is stopped, and there are {list(map(str, alive))} {active}")
        if held or not job["enabled"] or active:
            return
        newest = self._looked(
            "SELECT state, process_hash, reason FROM runs WHERE "
            f"job_id = '{job_id}' AND finished_at IS NOT NULL ORDER BY rowid DESC LIMIT 1"
        )
        if newest and newest[0][0] in ("failed", "succeeded") and newest[0][1] == job["process_hash"]:
            return
        raise Violation(10, f"{job_id} is wanted running and has no run; the newest is {newest}")
