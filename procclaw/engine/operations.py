"""What may be asked of a home, by a person, an agent or a program: one function for each, whoever asks.

Looking reads the database. Asking records a request and waits for its answer: whoever holds the home's lock acts on it;
if nobody does, the asker makes the passes itself. So everything works with a daemon and without.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from procclaw.engine.home import Home
from procclaw.engine.passes import POLL_SECONDS, OnWait, Passes
from procclaw.engine.stored import spec_of
from procclaw.model.clock import after
from procclaw.model.errors import Conflict, NotFound, NotOver, SpecError, UsageError
from procclaw.model.intents import NO_DETAILS, Details, Intent, IntentKind
from procclaw.model.records import HOME, NO_JOBS, WORKFLOWS, Attempt, Event, Run, RunState, Slots, WorkflowRun
from procclaw.model.spec import JobSpec, Spec
from procclaw.planning import views
from procclaw.planning.board import Board
from procclaw.planning.dependencies import asks_for_boot

FIRST_LOAD_SECONDS = 30.0

API_ADDRESS = "api address"
API_PROBLEM = "api problem"
"""Where the daemon keeps its HTTP interface's address, and why it has none, for those who ask for its status."""

LOOK_SECONDS = 60.0
"""A pass from cron must not wait for ever for a daemon that hangs: there would be one more of them every minute."""


class Filter(NamedTuple):
    """Which jobs to show; None does not restrict."""

    text: str | None = None
    status: str | None = None
    type: str | None = None
    tags: tuple[str, ...] = ()
    """Every one of these."""
    enabled: bool | None = None
    any_tags: tuple[str, ...] = ()
    """At least one of these, if any are named."""

    def takes(self, view: views.View) -> bool:
        return (
            (self.text is None or views.matches(view, self.text))
            and self.status in (None, view["status"])
            and self.type in (None, view["type"])
            and all(tag in view["tags"] for tag in self.tags)
            and (not self.any_tags or any(tag in view["tags"] for tag in self.any_tags))
            and self.enabled in (None, view["enabled"])
        )


class Api(NamedTuple):
    address: str | None
    """None: there is none."""
    problem: str | None
    """Why not; None: it is there, or no daemon runs."""


class Schedule(NamedTuple):
    expressions: tuple[str, ...]
    timezone: str


def _may_stand_behind_others(spec: Spec, job: JobSpec) -> bool:
    """Whether what becomes of other jobs can keep it from starting."""
    return bool(job.depends_on or job.queue or job.lock or spec.config.max_parallel)


def named(spec: Spec, job_id: str) -> JobSpec:
    """Raises NotFound, with what may have been meant."""
    job = spec.jobs.get(job_id)
    if job is not None:
        return job
    from difflib import get_close_matches

    close = get_close_matches(job_id, spec.jobs, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    raise NotFound(f'no job "{job_id}"{hint}')


class Operations:
    def __init__(self, home: Home, asker: str) -> None:
        """`asker` is who asks, for the record: `alice (cli)`."""
        self._home = home
        self._store = home.store
        self._asker = asker
        self._clock = home.clock
        self._spec: Spec | None = None
        self._passes = Passes(home)

    # --- looking ---

    def spec(self) -> Spec:
        """The configuration in force, loaded now if none ever was. Raises SpecError if there is no good one."""
        if self._spec is not None and self._spec.hash == self._store.spec_hash():
            return self._spec
        stored = self._store.load_spec() or self._first_spec()
        self._spec = spec_of(stored[1], stored[0])
        return self._spec

    def _first_spec(self) -> tuple[str, dict[str, Any]]:
        """Load the files for the first time, or wait for whoever is doing so."""
        from procclaw.engine.configuration import Configuration
        from procclaw.engine.files import ConfigurationFiles

        lock = self._home.lock()
        deadline = self._clock.monotonic() + FIRST_LOAD_SECONDS
        while not self._home.acquire(lock, "pass"):
            stored = self._store.load_spec()
            if stored is not None:
                return stored
            problems = self._store.problems()
            if problems is not None:
                raise SpecError(problems.problems)
            if self._clock.monotonic() >= deadline:
                raise Conflict("no configuration is in force yet: another process is loading the first one")
            self._clock.sleep(POLL_SECONDS)
        try:
            Configuration(ConfigurationFiles(self._home.paths.home), self._store).current(self._clock.now())
        finally:
            lock.release()
        stored, problems = self._store.load_spec(), self._store.problems()
        if stored is None:
            raise SpecError(problems.problems if problems else ("no configuration",))
        return stored

    def job_spec(self, job_id: str) -> JobSpec:
        """Raises NotFound, with what may have been meant."""
        return named(self.spec(), job_id)

    def jobs(self, chosen: Filter) -> list[views.View]:
        spec = self.spec()
        return [view for view in self._views(spec, spec.jobs.values()) if chosen.takes(view)]

    def job(self, job_id: str) -> views.View:
        spec = self.spec()
        job = named(spec, job_id)
        return next(self._views(spec, [job], job))

    def _views(self, spec: Spec, jobs: Iterable[JobSpec], about: JobSpec | None = None) -> Iterator[views.View]:
        now = self._clock.now()
        board = self.board(spec, now, {}, about)
        lack, holds = self._store.lack(), board.job(HOME).holds
        for job in jobs:
            yield views.job_view(job, board, holds, lack, now)

    def board(self, spec: Spec, now: datetime, specs: Mapping[str, JobSpec], about: JobSpec | None = None) -> Board:
        """What is recorded of all jobs; `specs` are those of which more is asked than that. With `about` only that job
        is asked about: of the others it has what they may have to do with it.
        """
        # To ask for it imports modules that `list` can do without.
        boot_id = self._home.processes.boot_id() if asks_for_boot(spec) else ""
        names = None if about is None or _may_stand_behind_others(spec, about) else (HOME, about.id)
        states = self._store.job_states(names, now=now, specs=specs)
        if names is not None and any(active.live is None for active in states[names[-1]].active):
            # In the line of all that wait it has a place.
            states = self._store.job_states(now=now, specs=specs)
        return Board(spec, states, boot_id, now, is_deciding=False)

    def why(self, job_id: str) -> views.View:
        from procclaw.planning import why

        spec, now = self.spec(), self._clock.now()
        job = named(spec, job_id)
        board = self.board(spec, now, {job_id: job}, job)
        return why.why_view(job, why.gates(job, board, board.job(HOME).holds, self._store.lack(), now))

    def check_known(self, job_id: str) -> None:
        """Raises NotFound for a job that neither is declared nor has left a history: a removed one keeps its own."""
        spec = self.spec()
        has_history = self._store.runs(job_id, 1) or self._store.ledger(job_id, None, 1)
        if job_id not in spec.jobs and not has_history:
            named(spec, job_id)

    def instances(self, job_id: str) -> int:
        """How many logs of each kind a job may have; of one that was removed, the first is looked at."""
        job = self.spec().jobs.get(job_id)
        return 1 if job is None else max(1, job.concurrency.max_instances)

    def runs(self, job_id: str | None, limit: int, state: RunState | None = None, skipped: int = 0) -> list[views.View]:
        """The newest runs, newest first, less as many of the very newest as are to be skipped."""
        if job_id is not None:
            self.check_known(job_id)
        now = self._clock.now()
        found = self._store.runs(job_id, limit, state, skipped)
        return [views.run_view(run, self._store.attempts(run.id), now) for run in found]

    def run_count(self, job_id: str | None, state: RunState | None = None) -> int:
        """How many there are, which may be more than were asked for."""
        return self._store.run_count(job_id, state)

    def run(self, run_id: str) -> Run:
        """The run of that id or of that unique beginning of one. Raises NotFound."""
        found = self._store.runs_like(run_id)
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(f'more than one run begins with "{run_id}"')
        is_purged = self._store.is_in_ledger(run_id)
        raise NotFound(
            f'run "{run_id}" is no longer kept (history in procclaw.yaml)' if is_purged else f'no run "{run_id}"'
        )

    def run_view(self, run: Run) -> views.View:
        return views.run_view(run, self._store.attempts(run.id), self._clock.now())

    def attempts(self, run: Run) -> tuple[Attempt, ...]:
        return self._store.attempts(run.id)

    def attempts_since(self, job_id: str, since: datetime) -> tuple[Attempt, ...]:
        return self._store.attempts_since(job_id, since)

    def ledger(self, job_id: str | None, since: datetime | None, limit: int) -> tuple[Slots, ...]:
        if job_id is not None:
            self.check_known(job_id)
        return self._store.ledger(job_id, since, limit)

    def events(self, after_id: int = 0, job_id: str | None = None, newest: int | None = None) -> tuple[Event, ...]:
        if job_id is not None:
            self.check_known(job_id)
        return self._store.events(after_id, job_id, newest)

    def departing(self) -> tuple[str, ...]:
        """What the files no longer name and is let go once they have been left alone for a while."""
        stored = self._store.load_spec()
        return tuple(stored[1].get("departing", ())) if stored else ()

    def api(self) -> Api:
        """Where the daemon's HTTP interface is, as the daemon last said."""
        return Api(self._store.meta(API_ADDRESS), self._store.meta(API_PROBLEM))

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the files, if the configuration in force is not theirs."""
        found = self._store.problems()
        return found.problems if found else ()

    def has_unread_files(self) -> bool:
        """Whether the files say something that nobody has looked at yet. Only without a daemon is that so for long."""
        from procclaw.engine.files import ConfigurationFiles

        return ConfigurationFiles(self._home.paths.home).content_hash() != self._store.meta("content")

    # --- asking ---

    def ask(
        self,
        kind: IntentKind,
        jobs: Sequence[str],
        *,
        force: bool = False,
        seconds: float | None = None,
        on_wait: OnWait | None = None,
        details: Details = NO_DETAILS,
        payload: bytes | None = None,
        key: str | None = None,
    ) -> list[Intent]:
        """Ask for something to be done with these jobs and wait for the answers, at most `seconds` (None: however
        long).

        One that is not answered by then comes back unanswered and goes on being acted upon by whoever reconciles next.
        So does one that waits for another job, with how far it got as its message, where somebody else reconciles.
        `key` makes asking again harmless. Raises Conflict where it was used for something else.
        """
        # What a removed job has left in the dead letter queue must go as well.
        if kind is not IntentKind.PURGE and not NO_JOBS & set(jobs):
            self.check_declared(jobs)
        now = self._clock.now()
        ids = [
            self._store.add_intent(Intent(0, job_id, kind, force, now, self._asker, key=key, details=details), payload)
            for job_id in dict.fromkeys(jobs)
        ]
        scope = None if HOME in jobs else frozenset(jobs)

        def asked() -> list[Intent]:
            return [intent for intent in (self._store.intent(each) for each in ids) if intent is not None]

        def answers() -> list[Intent] | None:
            found = asked()
            return found if all(intent.resolved_at is not None for intent in found) else None

        def progress() -> list[Intent] | None:
            found = asked()
            return found if all(intent.resolved_at is not None or intent.message for intent in found) else None

        answered = self._passes.until(answers, scope, seconds, on_wait, progress)
        return asked() if answered is None else answered

    def answer(self, intent: Intent) -> views.View:
        """The answer to a request, with the pid that it led to."""
        attempts = self._store.attempts(intent.run_id) if intent.run_id else ()
        pid = next((attempt.job_pid for attempt in reversed(attempts) if attempt.ended_at is None), None)
        return views.intent_view(intent, pid)

    def check_declared(self, jobs: Sequence[str]) -> Spec:
        """The configuration, which has all of these. Raises NotFound."""
        spec = self.spec_that(lambda spec: all(job_id in spec.jobs for job_id in jobs))
        for job_id in jobs:
            named(spec, job_id)
        return spec

    def spec_that(self, fits: Callable[[Spec], bool]) -> Spec:
        """The configuration in force; if it does not fit, after a look at files that nobody may have read since they
        were saved.
        """
        spec = self.spec()
        if fits(spec):
            return spec
        if self._passes.one(frozenset()) is None and self.has_unread_files():
            self.ask(IntentKind.LOOK, [HOME], seconds=LOOK_SECONDS)
        return self.spec()

    def wait_for_attempt(
        self, run_id: str, number: int | None, seconds: float | None = None, on_wait: OnWait | None = None
    ) -> Run:
        """Wait until the run's attempt `number` is over, or never comes (None: until the run itself is)."""

        def is_over() -> Run | None:
            # The attempts first: the run is then at least as new, and what their end made of it is in it.
            ended = [attempt for attempt in self._store.attempts(run_id) if attempt.ended_at is not None]
            run = self._store.run(run_id)
            if run is None:
                raise NotFound(f'run "{run_id}" is gone')
            if not run.is_active:
                return run
            return run if number is not None and any(attempt.number >= number for attempt in ended) else None

        run = self._store.run(run_id)
        scope = None if run is None else frozenset([run.job_id])
        found = self._passes.until(is_over, scope, seconds, on_wait)
        if found is None:
            assert seconds is not None
            raise NotOver("run", run_id, seconds)
        return found

    def wait_for_workflow(
        self, run_id: str, seconds: float | None = None, on_wait: OnWait | None = None
    ) -> WorkflowRun:
        """Wait until the workflow run is over."""

        def is_over() -> WorkflowRun | None:
            workflow = self._store.workflow_run(run_id)
            if workflow is None:
                raise NotFound(f'workflow run "{run_id}" is gone')
            return None if workflow.is_active else workflow

        found = self._passes.until(is_over, frozenset([WORKFLOWS]), seconds, on_wait)
        if found is None:
            assert seconds is not None
            raise NotOver("workflow run", run_id, seconds)
        return found

    def reconcile(self) -> bool:
        """One pass over everything; False when another process holds the lock and made the pass for us."""
        if self._passes.over_everything():
            return True
        [answer] = self.ask(IntentKind.LOOK, [HOME], seconds=LOOK_SECONDS)
        if answer.resolved_at is None:
            raise Conflict(f"whoever holds {self._home.paths.lock} has not made a pass for {LOOK_SECONDS:.0f} s")
        return False

    def preview(self, foresees_seconds: float | None = None) -> views.View:
        """What a pass over everything would do now, and what will fire within that span. Changes nothing."""
        from procclaw.planning.preview import plan_view

        spec, state, decided = self._home.controller().preview()
        view = plan_view(spec, decided) | {"problems": list(self._problems_now())}
        if foresees_seconds is not None:
            from procclaw.planning.forecast import Forecast, forecast, forecast_view

            now = self._clock.now()
            until = after(now, foresees_seconds)
            found = Forecast((), ()) if spec is None else forecast(spec, state.jobs, state.home_holds, now, until)
            view |= forecast_view(found)
        return view

    def _problems_now(self) -> tuple[str, ...]:
        """Of the files as they stand, whether anybody has looked at them before or not."""
        from procclaw.engine.files import ConfigurationFiles

        try:
            ConfigurationFiles(self._home.paths.home).load()
        except SpecError as error:
            return error.problems
        return ()

    def schedule_of(self, text: str, zone: str | None) -> Schedule:
        """A job's schedule, in another zone if one is given. Raises NotFound, Conflict."""
        job = self.job_spec(text)
        if not job.schedule:
            raise Conflict(f'"{text}" has no schedule: it is {job.type}')
        return Schedule(job.schedule, zone or job.timezone)

    @staticmethod
    def coming(schedule: Schedule, since: datetime, count: int) -> list[datetime]:
        """The first `count` times after `since`. Raises UsageError for what is not a schedule."""
        from procclaw.planning.schedule import next_due, parse

        try:
            parsed = parse(schedule.expressions, schedule.timezone)
        except ValueError as error:
            raise UsageError(str(error)) from error
        times: list[datetime] = []
        at = next_due(parsed, since)
        while at is not None and len(times) < count:
            times.append(at)
            at = next_due(parsed, at)
        return times
