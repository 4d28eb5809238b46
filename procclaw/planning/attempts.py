"""What is done about attempts: ends are recorded, the living watched, stops pressed on, unfinished launches repeated.

A stop is one order that is carried on from cycle to cycle: asked, signalled, killed when the grace is over, and not
done until nothing of the attempt is left. What a process left behind when it ended by itself is stopped the same way.
"""

from datetime import datetime

from procclaw.model.clock import after, seconds_between
from procclaw.model.outside import Process, RecordPhase
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, RunState, StopOrder
from procclaw.model.spec import Leftovers
from procclaw.model.state import Observed
from procclaw.planning import health, usage
from procclaw.planning.actions import Relaunch, Signal
from procclaw.planning.board import Board
from procclaw.planning.draft import Draft, Going
from procclaw.planning.gates import Gate, enabled_gate, lock_gate, place_gate, resource_gate, standing_gates
from procclaw.planning.outcome import after_attempt, ended, natural_end

SWEEP_SECONDS = 0.05
"""How soon to look again for what is left of an attempt: nothing wakes us when a stranger's child ends."""

KILL_AGAIN_SECONDS = 0.5
UNKILLABLE_AFTER_SECONDS = 10.0
"""Killed this long ago and still there (stuck in the kernel, say): whoever asked is told so, and there is no hurry
left.
"""

PATIENT_SECONDS = 5.0
"""Between kills of what has proved unkillable; each takes a look at the whole process table."""

DRAINED_AFTER_SECONDS = 10.0
"""What still holds a relay's pipe this long after the end escaped from the attempt; it must not hold the job up as
well.
"""


def settle(draft: Draft) -> None:
    """Take in what one look showed of every attempt that was not over."""
    for going in draft.going:
        if going.live is not None:
            going.live = _set_back(going.live, draft.now)
            _settle(draft, going, going.live)


def _set_back(live: Observed, now: datetime) -> Observed:
    """What was recorded for later than now happened under a clock that has been set back since: it counts from now on.

    Otherwise a timeout or a grace period would last longer by as much as the clock went back.
    """
    attempt = live.attempt
    if attempt.started_at is not None:
        attempt = attempt._replace(started_at=min(attempt.started_at, now))
    order = attempt.stop
    if order is not None:
        signalled_at, killed_at, last_killed_at = (
            None if at is None else min(at, now) for at in (order.signalled_at, order.killed_at, order.last_killed_at)
        )
        order = order._replace(signalled_at=signalled_at, killed_at=killed_at, last_killed_at=last_killed_at)
    return live._replace(attempt=attempt._replace(stop=order))


def _settle(draft: Draft, going: Going, live: Observed) -> None:
    attempt, boot_id = live.attempt, draft.state.boot_id
    end = natural_end(attempt, live.sight, boot_id)
    if end is None:
        if live.sight.phase is RecordPhase.LOCKED:
            for watch in (_watch_timeout, health.watch, usage.watch):
                if _is_left_alone(going):
                    watch(draft, going)
        return
    if attempt.boot_id == boot_id:
        # Without its shim nobody can tell the main process from what it left behind: all of it must go.
        keeps = attempt.terms.leftovers is Leftovers.KEEP and attempt.stop is None and end.reason is not Reason.LOST
        has_leftovers = bool(live.members) and not keeps
        exited_at = attempt.exited_at or end.exited_at or draft.now
        if has_leftovers or _is_draining(live, exited_at, draft.now):
            going.live = live._replace(attempt=attempt._replace(exited_at=exited_at, exit_code=end.exit_code))
            if has_leftovers:
                draft.order_stop(going, Reason.LEFTOVERS)
            else:
                draft.wake_within(SWEEP_SECONDS)
            return
    if end.reason is Reason.CWD_FAILED and attempt.stop is None and draft.spec is not None:
        where = "its account's home" if draft.spec.cwd is None else f'"{draft.spec.cwd}"'
        attempt = attempt._replace(detail=f"changing to {where} failed")
    over = ended(attempt, end, draft.now)
    draft.conclude(going, over, after_attempt(going.run, draft.spec, over, draft.now))


def _is_draining(live: Observed, exited_at: datetime, now: datetime) -> bool:
    """Whether to wait for the rest of the output; not for that of what was left behind on purpose."""
    return live.sight.is_draining and not live.members and seconds_between(exited_at, now) < DRAINED_AFTER_SECONDS


def _is_left_alone(going: Going) -> bool:
    """Nobody has decided that it shall end, and it has not ended."""
    live = going.live
    return live is not None and live.attempt.stop is None and live.attempt.exited_at is None and going.is_wanted


def _watch_timeout(draft: Draft, going: Going) -> None:
    assert going.live is not None
    attempt = going.live.attempt
    if attempt.terms.timeout_seconds is None:
        return
    deadline_at = after(attempt.started_at or attempt.created_at, attempt.terms.timeout_seconds)
    if deadline_at <= draft.now:
        draft.order_stop(going, Reason.TIMED_OUT)
    else:
        draft.wake(deadline_at)


def press_stops(draft: Draft) -> None:
    """Order the attempts of ending runs to stop, and carry every order on."""
    for going in draft.going:
        if going.live is None or going.is_over:
            continue
        if going.run.ending is not None:
            draft.order_stop(going, going.run.ending, force=going.run.ending_force)
        order = going.live.attempt.stop
        if order is not None:
            _press(draft, going, going.live, order)


def _press(draft: Draft, going: Going, live: Observed, order: StopOrder) -> None:
    attempt, now = live.attempt, draft.now
    if order.signalled_at is None and not order.force:
        signal = Signal(attempt, live.members, attempt.terms.signal, is_kill=False, reason=order.reason)
        draft.effects.append(signal)
        _wait_for_end(draft, going, live, order, _next_look(attempt, after(now, attempt.terms.grace_seconds), now))
        return
    kill_at = now if order.force else after(order.signalled_at or now, attempt.terms.grace_seconds)
    if kill_at <= now:
        if order.last_killed_at is None or seconds_between(order.last_killed_at, now) >= KILL_AGAIN_SECONDS:
            signal = Signal(attempt, live.members, attempt.terms.signal, is_kill=True, reason=order.reason)
            draft.effects.append(signal)
        next_look_at = after(now, PATIENT_SECONDS if is_unkillable(order, now) else SWEEP_SECONDS)
    else:
        next_look_at = _next_look(attempt, kill_at, now)
    _wait_for_end(draft, going, live, order, next_look_at)


def _next_look(attempt: Attempt, kill_at: datetime, now: datetime) -> datetime:
    """The end of a process wakes us; that of what it left behind does not, so it is looked for."""
    return kill_at if attempt.exited_at is None else min(kill_at, after(now, SWEEP_SECONDS))


def _wait_for_end(draft: Draft, going: Going, live: Observed, order: StopOrder, until: datetime) -> None:
    left = names(live.members or ())
    why = str(order.reason).replace("_", " ")
    detail = f"{why}: still alive: {left}" if left else why
    draft.wait(going.run, Gate("stopping", Reason.STOPPING, detail, order.asked_at, until))


def is_unkillable(order: StopOrder | None, now: datetime) -> bool:
    """Of an attempt under orders to end that is still there."""
    if order is None or order.killed_at is None:
        return False
    return seconds_between(order.killed_at, now) >= UNKILLABLE_AFTER_SECONDS


def names(processes: tuple[Process, ...]) -> str:
    """For people: pids and commands."""
    return ", ".join(
        f"{process.pid} ({process.command})" if process.command else str(process.pid) for process in processes
    )


def _begun(draft: Draft) -> int:
    """How many of the job's attempts have a process, or get one in this plan."""
    lives = [(each.run.id, each.live) for each in draft.going if each.live is not None]
    return sum(run_id in draft.relaunched or live.sight.phase is not RecordPhase.BLANK for run_id, live in lives)


def relaunch(draft: Draft, going: Going, live: Observed, board: Board) -> None:
    """The manager died between recording a start and making it, or the process died before it wrote its pid."""
    attempt, run = live.attempt, going.run
    if run.ending is not None or draft.spec is None:
        reason = run.ending or Reason.REMOVED
        going.live = None
        draft.writes.append(attempt._replace(ended_at=draft.now, reason=reason))
        draft.finish(going, RunState.STOPPED, reason)
        draft.wake(draft.now)  # what is wanted instead
        return
    gates = (
        enabled_gate(draft.spec, run),
        *standing_gates(draft.spec, draft.held_now(), draft.state.home_holds),
        place_gate(draft.spec, _begun(draft)),  # the limit may be lower than when this was planned
        lock_gate(draft.spec, board),
        resource_gate(draft.state.lack, draft.now),
    )
    closed = next((gate for gate in gates if gate.reason is not None), None)
    if closed is not None:
        draft.wait(run, closed)
        if closed.reason is Reason.LOCK:
            draft.wake_within(SWEEP_SECONDS)
        return
    board.give_lock(run)
    if attempt.pid is not None:
        launches = attempt.blank_launches + 1
        attempt = attempt._replace(pid=None, start_ticks=None, started_at=None, blank_launches=launches)
        going.live = live._replace(attempt=attempt)
    draft.relaunched.add(run.id)
    draft.effects.append(Relaunch(attempt))
