"""What people should be told of a plan: its alerts, written together with what causes them.

The last step of planning a job. It changes nothing that the steps before decided; it reads what they found (ends,
health, slots) and adds rows: an *alert*, and where the thing told lasts, a *trouble*, so that its end is told too.

- The same thing (job and kind) is told once within the cooldown; what happens again meanwhile is written down as
  suppressed. A trouble is there only if it was told, so nobody hears of the end of something they never heard of.
- A job that is late stays late, so that alert waits for the cooldown instead, and is not lost.
- Of a first failure that is final as well only that is told.
- A job nobody could be told about has its alerts all the same, for `procclaw alerts`.
- A message is one line for a person, and never holds what a job printed or the value of a variable.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from procclaw.model.alerts import Alert, AlertKind, AlertState, Trouble, TroubleOver, Watch
from procclaw.model.clock import after, seconds_between, to_microseconds
from procclaw.model.outside import RecordPhase
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Run, RunState, SlotOutcome, Slots, Trigger
from procclaw.model.spec import JobSpec, JobType, LimitAction
from procclaw.model.state import Observed
from procclaw.planning import expect
from procclaw.planning.draft import Draft, Going
from procclaw.planning.outcome import how_it_ended

NO_WAY = "no webhook, no command and no channel is set"
"""Why an alert goes to nobody."""

_LASTING = tuple(kind for kind in AlertKind if kind not in (AlertKind.MISSED, AlertKind.RECOVERED))

_WHY_MISSED: Mapping[Reason | None, str] = {
    Reason.DOWN: "ProcClaw was not running",
    Reason.LIMIT: "more were due than catch_up.limit makes up for",
    Reason.RESTORED: "the database was restored from a backup",
    Reason.CLOCK_JUMP: "the clock was set forward by more than a year",
}
_TROUBLES = {
    AlertKind.FAILURE: "failed",
    AlertKind.FAILED: "failed for good",
    AlertKind.UNHEALTHY: "been unhealthy",
    AlertKind.LIMIT: "been over its limit",
    AlertKind.OVERDUE: "been overdue",
}


def tell(draft: Draft, *, judges_expect: bool) -> None:
    """Add the alerts of a job's plan. `judges_expect` False: on behalf of a request, which is about nothing else."""
    if draft.spec is None:
        return  # what is not declared any more concerns nobody; its troubles are forgotten with it
    telling = _Telling(draft, draft.spec)
    for going in draft.going:
        telling.of_run(going)
        telling.of_limits(going)
        telling.of_health(going)
    telling.of_slots()
    watch = expect.watched(draft)
    if watch is not None and judges_expect:
        telling.of_expect(watch)
    telling.of_recovery()


class _Telling:
    def __init__(self, draft: Draft, spec: JobSpec) -> None:
        self._draft = draft
        self._spec = spec
        self._now = draft.now
        self._told: set[AlertKind] = set()
        """Kinds that this plan tells of."""
        self._raised: set[AlertKind] = set()
        self._troubles = {trouble.kind: trouble for trouble in draft.job.troubles}

    # --- raising ---

    def _raise(self, kind: AlertKind, what: str, message: str, run: Run | None = None) -> None:
        """`what` tells the occasion from all others of that kind and job."""
        text = _one_line(f"{self._who()} {message}")
        key = f"{self._draft.job.id}:{kind}:{what}"
        alert = Alert(key, self._draft.job.id, kind, self._now, text, None if run is None else run.id)
        self._raised.add(kind)
        told_at = self._told_lately(kind)
        if told_at is not None:
            detail = f"told {told_at:%H:%MZ} already"
            alert = alert._replace(state=AlertState.SUPPRESSED, done_at=self._now, detail=detail)
        elif self._spec.alerts.ways.is_any:
            alert = alert._replace(next_try_at=self._now)
        else:
            alert = alert._replace(state=AlertState.UNDELIVERED, done_at=self._now, detail=NO_WAY)
        self._draft.writes.append(alert)
        if told_at is None:
            self._told.add(kind)
            if kind in _LASTING and (kind not in self._troubles or kind is AlertKind.OVERDUE):
                self._draft.writes.append(Trouble(self._draft.job.id, kind, self._now))

    def _told_lately(self, kind: AlertKind) -> datetime | None:
        """When it was told last, if that is so recent that it is not told again."""
        told_at = self._now if kind in self._told else self._draft.state.last_told.get((self._draft.job.id, kind))
        if told_at is None or kind is AlertKind.RECOVERED:
            return None
        # What was told later than now was told before the clock was set back.
        is_recent = 0 <= seconds_between(told_at, self._now) < self._spec.alerts.cooldown_seconds
        return told_at if is_recent else None

    def _who(self) -> str:
        spec = self._spec
        return spec.id if spec.name == spec.id else f"{spec.name} ({spec.id})"

    # --- runs ---

    def of_run(self, going: Going) -> None:
        run, policy = going.run, self._spec.alerts
        if run.state is RunState.FAILED and policy.on_max_retries:
            self._raise(AlertKind.FAILED, run.id, self._failed_for_good(run, going.over), run)
        elif policy.on_failure and going.judged is not None and _is_first_failure(*going.judged, going.over):
            judged = going.judged[1]
            what = f"{run.id}@{to_microseconds(self._now)}"
            self._raise(AlertKind.FAILURE, what, f"failed: {_why(judged, going.over)}; {self._what_follows(run)}", run)

    def _failed_for_good(self, run: Run, attempt: Attempt | None) -> str:
        after_attempts = f" after {_counted(run.attempts, 'attempt')}" if run.attempts else ""
        if run.trigger is Trigger.CONTINUOUS:
            follows = f"it stays down until procclaw start {run.job_id}"
        else:
            follows = "procclaw dlq"
        return f"failed for good: {_why(run, attempt)}{after_attempts}; {follows}"

    def _what_follows(self, run: Run) -> str:
        match run.state:
            case RunState.RETRYING:
                return f"attempt {run.attempts + 1} follows at {run.not_before_at:%H:%M:%SZ}"
            case RunState.RUNNING:
                return f"attempt {run.attempts} follows at once"
            case _:
                return "no further attempt follows"

    # --- attempts ---

    def of_limits(self, going: Going) -> None:
        """What passes a limit from this measurement on."""
        before, live = going.seen, going.live
        usage = None if live is None else live.usage
        if live is None or usage is None or usage.over_since is None or not self._spec.alerts.on_health_fail:
            return
        if before is not None and before.usage is not None and before.usage.over_since is not None:
            return
        follows = "it is ended" if live.attempt.stop is not None else "it goes on running"
        what = f"{usage.attempt_id}@{to_microseconds(self._now)}"
        self._raise(AlertKind.LIMIT, what, f"passed its limit: {usage.detail}; {follows}", going.run)

    def of_health(self, going: Going) -> None:
        """What is unhealthy from this check on."""
        before, live = going.seen, going.live
        health = None if live is None else live.health
        if live is None or health is None or health.is_healthy is not False or not self._spec.alerts.on_health_fail:
            return
        if before is not None and before.health is not None and before.health.is_healthy is False:
            return
        follows = "it is ended" if live.attempt.stop is not None else "it goes on running"
        why = f"{health.detail or 'its check fails'} ({_counted(health.failures, 'check')} failed)"
        what = f"{health.attempt_id}@{to_microseconds(self._now)}"
        self._raise(AlertKind.UNHEALTHY, what, f"is unhealthy: {why}; {follows}", going.run)

    # --- slots, and what is expected ---

    def of_slots(self) -> None:
        slots = [write for write in self._draft.writes if isinstance(write, Slots) and write.noticed_at == self._now]
        # One that was noticed before is only cut short, where the clock was set back into it.
        rows = [row for row in slots if row.outcome is SlotOutcome.MISSED]
        if not rows or not self._spec.alerts.on_missed:
            return
        first_at = min(row.first_due_at for row in rows)
        total = sum(row.total for row in rows)
        reasons = dict.fromkeys(_WHY_MISSED[row.reason] for row in rows)
        what = f"its due time {_moment(first_at)}" if total == 1 else f"{total} due times since {_moment(first_at)}"
        message = f"missed {what}: {', '.join(reasons)}; {'it is' if total == 1 else 'they are'} not made up for"
        self._raise(AlertKind.MISSED, str(to_microseconds(first_at)), message)

    def of_expect(self, watch: Watch) -> None:
        spec, trouble = self._spec, self._troubles.get(AlertKind.OVERDUE)
        if trouble is not None and trouble.since >= watch.since and not self._draft.succeeded():
            return  # told, and there is nothing new until it succeeds
        deadline_at = expect.deadline_at(self._draft, spec, watch)
        if deadline_at is None or deadline_at > self._now:
            self._draft.wake(deadline_at)
            return
        told_at = self._told_lately(AlertKind.OVERDUE)
        if told_at is not None:
            self._draft.wake(after(told_at, spec.alerts.cooldown_seconds))
            return
        last_at = self._draft.job.last_success_at
        since = f"no success since {_moment(last_at)}" if last_at else f"no success since {_moment(watch.since)}"
        message = f"is overdue: {since}, expected {_expected(spec)}; procclaw why {spec.id}"
        self._raise(AlertKind.OVERDUE, str(to_microseconds(deadline_at)), message)

    # --- recovery ---

    def of_recovery(self) -> None:
        if not self._troubles:
            return
        over = {kind: how for kind, how in self._over() if kind in self._troubles and kind not in self._raised}
        for kind in over:
            self._draft.writes.append(TroubleOver(self._draft.job.id, kind))
        told = [kind for kind, how in over.items() if how]
        if not told or not self._spec.alerts.on_recovered:
            return
        since = min(self._troubles[kind].since for kind in told)
        hows = ", ".join(dict.fromkeys(over[kind] for kind in told))
        had = " and ".join(_TROUBLES[kind] for kind in told)
        what = str(to_microseconds(self._now))
        self._raise(AlertKind.RECOVERED, what, f"is well again: {hows}; it had {had} since {_moment(since)}")

    def _over(self) -> Iterator[tuple[AlertKind, str]]:
        """The kinds of trouble that the job has not, or not any more, and how it came out of it; empty: in no way
        worth telling.
        """
        spec = self._spec
        if not spec.health_check.is_probed:
            yield AlertKind.UNHEALTHY, ""
        if spec.resources is None:
            yield AlertKind.LIMIT, ""
        if spec.expect is None:
            yield AlertKind.OVERDUE, ""
        if self._draft.succeeded():
            yield from ((kind, "it succeeded") for kind in _LASTING)
            return
        of_runs = [AlertKind.FAILURE, AlertKind.FAILED]
        if spec.resources is not None and spec.resources.action is not LimitAction.WARN:
            of_runs.append(AlertKind.LIMIT)
        if not self._troubles.keys().isdisjoint(of_runs) and self._stays_up():
            yield from ((kind, f"it has stayed up for {_duration(spec.retry.reset_after_seconds)}") for kind in of_runs)
        if self._is_healthy():
            yield AlertKind.UNHEALTHY, "its check passes"
        if self._is_within_limits():
            yield AlertKind.LIMIT, "it is within its limits"

    def _stays_up(self) -> bool:
        """Whether a continuous job's process lives long enough to be well; else the loop is woken when it does."""
        if self._spec.type is not JobType.CONTINUOUS:
            return False
        for live in self._lives():
            started_at = live.attempt.started_at
            if started_at is not None:
                up_at = after(started_at, self._spec.retry.reset_after_seconds)
                if up_at <= self._now:
                    return True
                self._draft.wake(up_at)
        return False

    def _lives(self) -> list[Observed]:
        """What lives and is to go on living."""
        seen = [going.live for going in self._draft.going if going.live is not None]
        return [live for live in seen if live.sight.phase is RecordPhase.LOCKED and live.attempt.stop is None]

    def _is_healthy(self) -> bool:
        """Whether the check of everything that lives passes, as far as it is known, and of something it is."""
        found = [live.health.is_healthy for live in self._lives() if live.health is not None]
        known = [is_healthy for is_healthy in found if is_healthy is not None]
        return bool(known) and all(known)

    def _is_within_limits(self) -> bool:
        resources = self._spec.resources
        if resources is None or resources.action is not LimitAction.WARN:
            return False
        measured = [live.usage for live in self._lives() if live.usage is not None]
        return bool(measured) and all(usage.over_since is None for usage in measured)


def _is_first_failure(before: Run, judged: Run, attempt: Attempt | None) -> bool:
    """Whether what was judged is the first failed attempt of the run, or the first after it had been well."""
    if judged.state is RunState.FAILED:
        return before.failures == 0 or judged.failures == 1
    is_reboot = judged.trigger is Trigger.CONTINUOUS and attempt is not None and attempt.reason is Reason.REBOOT
    return judged.state is RunState.RETRYING and judged.failures == 1 and not is_reboot


def _why(run: Run, attempt: Attempt | None) -> str:
    """Why the run has failed, in words; it has none of its own where its attempt ended well, and too soon."""
    if run.detail:
        return run.detail
    assert attempt is not None
    return how_it_ended(attempt)


def _expected(spec: JobSpec) -> str:
    assert spec.expect is not None
    if spec.expect.every_seconds is not None:
        return f"every {_duration(spec.expect.every_seconds)}"
    return f"by {spec.expect.by} each day ({spec.timezone})"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%MZ}"


def _one_line(text: str) -> str:
    """A name may hold anything, and is shown on terminals."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
