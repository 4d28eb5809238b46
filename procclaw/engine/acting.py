"""Acting: carries a plan out, in two commits with the effects between them.

First what was seen and what is about to be done is committed, then it is done, then what came of it is committed.
Between any two effects stands what the next cycle sees if we die there; each is harmless, because the next cycle
decides again from what it sees. ProcClaw's own lack (disk, descriptors, processes) is remembered here: it holds starts
back and is tried again, and no job is blamed for it.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import assert_never

from procclaw.engine.courier import Log
from procclaw.engine.inputs import Inputs
from procclaw.engine.launching import launch_of, probe_of
from procclaw.engine.world import World
from procclaw.model.clock import after
from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.model.outside import Launch, Launched, LaunchRefused, LaunchUndecided, Process, holder_words
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Event, Run, Slice
from procclaw.model.rows import Row, Write
from procclaw.model.spec import JobSpec, Lock, LogPolicy, Spec
from procclaw.model.state import Lack, State
from procclaw.planning import journal
from procclaw.planning.actions import Check, DeleteFile, Plan, Relaunch, Signal, Start
from procclaw.planning.board import lock_key
from procclaw.system.store import Store

KILL = 9
"""SIGKILL, the same number on every system."""

CONFIRM_SECONDS = 0.05
"""How soon after a start to look for the pid of the job's own main process, which its shim leaves in the record."""

RETRY_LACK_SECONDS = 5.0

_INSTANT = timedelta(microseconds=1)


class Acted:
    """What the effects of one cycle brought about, to be written in its second commit."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.events: list[Event] = []
        self.lack: Lack | None = None
        self.launched: list[Attempt] = []
        self.look_again: list[tuple[str, float]] = []
        """Jobs to look at again, and in how many seconds."""
        self.must_look_again = False
        """At all jobs, at once."""

    def rows(self) -> list[Row]:
        return [*self.attempts.values(), *self.events]


class Actor:
    def __init__(self, home: str, store: Store, world: World, log: Log, mint: Callable[[], str]) -> None:
        """`mint` gives a fresh mark for an attempt: 32 hexadecimal digits that nobody can guess."""
        self._home = home
        self._store = store
        self._world = world
        self._processes = world.processes
        self._output = world.output
        self._inputs = Inputs(store, world.output, world.work)
        self._log = log
        self._mint = mint
        self._undeleted: set[DeleteFile] = set()
        self._unchecked: dict[str, str] = {}
        """By job, why its check could not be begun, so that it is said once."""
        self.lack: Lack | None = None
        """What ProcClaw lacked when it last acted."""

    def carry_out(self, spec: Spec, state: State, decided: Plan, seen: list[Row], now: datetime) -> Acted:
        """Carry the plan out."""
        runs = {run.run.id: run.run for job in state.jobs.values() for run in job.active}
        runs |= {write.id: write for write in decided.writes if isinstance(write, Run)}
        acted = Acted()
        created = self._create(decided, now, acted)
        is_committed = acted.lack is None and self._commit_decisions(decided, seen, created, now, acted)
        members = self._members(decided)
        for effect in decided.effects:
            match effect:
                case Signal():
                    self._signal(effect, members, now, acted)
                case Start():
                    if is_committed:
                        # If we die here: a committed attempt whose record is blank; the next cycle launches it.
                        self._launch(spec, runs[effect.run_id], created[effect.run_id], now, acted)
                case Relaunch():
                    if is_committed:
                        self._launch(spec, runs[effect.attempt.run_id], effect.attempt, now, acted)
                case Check():
                    # If we die here: the check dies with us, and is due.
                    self._check(spec, effect)
                case DeleteFile():
                    # If we die here: the file stays, and stays known; the next cycle deletes it.
                    if is_committed:
                        self._delete_file(effect)
                case _:
                    assert_never(effect)
        # If we die here: what was launched holds its record's lock, with its pid in it; the next cycle takes it over.
        # What was signalled is signalled once more.
        self._commit_outcomes(acted, now)
        if is_committed:
            # If we die here: a record whose attempt is over; the next full cycle removes it.
            for write in decided.writes:
                if isinstance(write, Attempt) and write.ended_at is not None:
                    self._processes.remove_record(write.record)
                    self._world.work.remove(write.id)
        else:
            for attempt in created.values():
                self._processes.remove_record(attempt.record)
        self._settle_lack(acted, now)
        return acted

    def _create(self, decided: Plan, now: datetime, acted: Acted) -> dict[str, Attempt]:
        """Blank records for all attempts that shall start: the space for an exit code is there before the start."""
        created: dict[str, Attempt] = {}
        boot_id = self._processes.boot_id()
        for effect in decided.effects:
            if not isinstance(effect, Start):
                continue
            files = self._output.log_files(effect.job_id, effect.instance)
            attempt = Attempt(
                id=f"{effect.run_id}.{effect.number}",
                run_id=effect.run_id,
                job_id=effect.job_id,
                number=effect.number,
                mark=self._mint(),
                boot_id=boot_id,
                created_at=now,
                terms=effect.terms,
                instance=effect.instance,
                stdout=Slice(files[0], self._output.position(files[0]), None),
                stderr=Slice(files[1], self._output.position(files[1]), None),
            )
            try:
                self._processes.create_record(attempt.record)
            except DiskFull as error:
                acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
                break
            created[effect.run_id] = attempt
        # If we die here: blank records nobody knows; the next full cycle removes them.
        return created

    def _commit_decisions(
        self, decided: Plan, seen: list[Row], created: dict[str, Attempt], now: datetime, acted: Acted
    ) -> bool:
        writes = tuple(self._completed(write) for write in decided.writes)
        events = journal.events(writes, now)
        decided_ids = {write.id for write in writes if isinstance(write, Attempt)}
        seen = [row for row in seen if not (isinstance(row, Attempt) and row.id in decided_ids)]
        rows: list[Row] = [*seen, *writes, *created.values(), *events]
        try:
            self._record(rows, now)
        except DiskFull as error:
            acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
            return False
        self._log.events(events)
        return True

    def _record(self, rows: list[Row], now: datetime) -> None:
        """Commit, and note when beside the records, where a database that is put back later does not reach.

        A note that is newer than the database means an older database. So each commit is later than any before it, also
        when the clock was set back. If we die between the two, the note is older than the commit, which says nothing.
        """
        if not rows:
            return
        before = (self._processes.noted_commit(), self._store.last_commit_at())
        committed_at = max((now, *(at + _INSTANT for at in before if at is not None)))
        self._store.record(rows, committed_at=committed_at)
        self._processes.note_commit(committed_at)

    def _completed(self, write: Write) -> Write:
        """An attempt that is over, with what only the machine can tell of it."""
        if not isinstance(write, Attempt) or write.ended_at is None:
            return write
        result, fault = self._world.work.result(write.id)
        if fault:
            self._log.line("warning", "result not kept", job=write.job_id, run=write.run_id, detail=fault)
        return write._replace(
            result=result,
            stdout=self._closed(write.stdout),
            stderr=self._closed(write.stderr),
            max_rss_mb=None if write.pid is None else self._processes.peak_rss_mb(write.pid),
        )

    def _closed(self, opened: Slice | None) -> Slice | None:
        return None if opened is None else self._output.close(opened)

    def _launch(self, spec: Spec, run: Run, attempt: Attempt, now: datetime, acted: Acted) -> None:
        job = spec.jobs[attempt.job_id]
        logs = self._output.log_files(attempt.job_id, attempt.instance)
        self.rotate(job, attempt, is_in_use=False)
        try:
            given = self._inputs.prepare(job, run, attempt)
            launch = launch_of(job, spec.config, run, attempt, self._home, logs, given, self._world.secrets)
        except DiskFull as error:
            acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
            return
        except ProcclawError as error:
            self._fail_start(attempt, Reason.ENVIRONMENT, str(error), acted)
            return
        if job.lock is not None:
            try:
                launch = self._with_lock(launch, job.lock, run)
            except ProcclawError as error:
                # It is free and cannot be given away now: no fault of the job's, so it stays as recorded, not begun.
                self._log.line("warning", "lock not handed over", job=job.id, run=run.id, detail=error)
                acted.look_again.append((attempt.job_id, RETRY_LACK_SECONDS))
                return
        match self._processes.launch(launch):
            case Launched() as launched:
                started = attempt._replace(pid=launched.pid, start_ticks=launched.start_ticks, started_at=now)
                acted.attempts[attempt.id] = started
                acted.events.append(journal.attempt_started(started, now))
                acted.launched.append(started)
                acted.look_again.append((attempt.job_id, CONFIRM_SECONDS))
            case LaunchRefused(reason=reason, detail=detail, is_ours=is_ours):
                if is_ours:
                    acted.lack = Lack(reason, detail, after(now, RETRY_LACK_SECONDS))
                else:
                    self._fail_start(attempt, reason, detail, acted)
            case LaunchUndecided():
                # Somebody removed its record, or holds it: nothing else would wake us for that.
                acted.look_again.append((attempt.job_id, CONFIRM_SECONDS))

    def _with_lock(self, launch: Launch, lock: Lock, run: Run) -> Launch:
        descriptor, token = self._world.locks.hand_over(lock_key(lock), holder_words(run.job_id, run.id))
        env = (*launch.env, ("PROCCLAW_LOCK_TOKEN", str(token)))
        return launch._replace(lock_fd=descriptor, env=env)

    def _fail_start(self, attempt: Attempt, reason: Reason, detail: str, acted: Acted) -> None:
        """The attempt cannot be started as it stands: a failure of the job's, which the next cycle judges like any
        other.
        """
        acted.attempts[attempt.id] = attempt._replace(refusal=reason, detail=detail)
        acted.look_again.append((attempt.job_id, 0.0))
        self._log.line("warning", "attempt not started", job=attempt.job_id, run=attempt.run_id, detail=detail)

    def _check(self, spec: Spec, effect: Check) -> None:
        job = spec.jobs[effect.job_id]
        try:
            self._world.probes.begin(probe_of(job, spec.config, effect.attempt_id, self._home, self._world.secrets))
        except ProcclawError as error:
            # Its environment cannot be made at present, which says nothing about the job; the check stays due.
            if self._unchecked.get(job.id) != str(error):
                self._log.line("warning", "check not begun", job=job.id, detail=error)
            self._unchecked[job.id] = str(error)
        else:
            self._unchecked.pop(job.id, None)

    def _delete_file(self, effect: DeleteFile) -> None:
        if self._world.spool.delete(effect.path, effect.identity):
            self._undeleted.discard(effect)
        elif effect not in self._undeleted:
            # It is tried at each look.
            self._log.line("warning", "trigger file not deleted", job=effect.job_id, file=effect.path)
            self._undeleted.add(effect)

    def _members(self, decided: Plan) -> Mapping[str, Sequence[Process]]:
        """Of the attempts that are signalled, by id: what this cycle has seen, and one look for all it has not."""
        signals = [effect for effect in decided.effects if isinstance(effect, Signal)]
        unseen = [signal.attempt for signal in signals if signal.members is None]
        found = self._processes.members(unseen) if unseen else {}
        return {**found, **{signal.attempt.id: signal.members for signal in signals if signal.members is not None}}

    def _signal(self, effect: Signal, members: Mapping[str, Sequence[Process]], now: datetime, acted: Acted) -> None:
        attempt, order = effect.attempt, effect.attempt.stop
        assert order is not None
        signum = KILL if effect.is_kill else effect.signum
        self._processes.signal_attempt(attempt, members.get(attempt.id, ()), signum)
        acted.attempts[attempt.id] = attempt._replace(stop=order.carried_on(now, is_kill=effect.is_kill))

    def _commit_outcomes(self, acted: Acted, now: datetime) -> None:
        if not acted.rows():
            return
        try:
            self._record(acted.rows(), now)
        except DiskFull as error:
            acted.lack = Lack(Reason.NO_DISK, str(error), after(now, RETRY_LACK_SECONDS))
            return
        self._log.events(acted.events)

    def _settle_lack(self, acted: Acted, now: datetime) -> None:
        """Remember what ProcClaw lacks, or forget it once a start went through."""
        if acted.lack is not None:
            self._log.line("error", "starts are held back", reason=acted.lack.reason, detail=acted.lack.detail)
            # What was decided together with the starts (ends, answers) need not wait for what they lack.
            acted.must_look_again = self.lack is None
            self.lack = acted.lack
            with contextlib.suppress(DiskFull):
                self._store.set_lack(acted.lack)
        elif self.lack is not None and (acted.launched or self.lack.retry_at <= now):
            self.lack = None
            # One that stays in the database has had its time and holds nothing back.
            with contextlib.suppress(DiskFull):
                self._store.set_lack(None)

    def rotate(self, job: JobSpec, attempt: Attempt, *, is_in_use: bool) -> None:
        """Rotate the logs of an attempt that are due; what cannot be rotated grows on."""
        policy: LogPolicy = job.log
        for opened in (attempt.stdout, attempt.stderr):
            if opened is None:
                continue
            try:
                self._output.rotate(opened.file, policy, is_in_use=is_in_use)
            except (ProcclawError, OSError) as error:
                # A log that cannot be rotated is no reason not to run the job.
                self._log.line("warning", "log not rotated", job=job.id, file=opened.file, detail=error)
