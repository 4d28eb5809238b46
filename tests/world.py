"""A simulated machine: processes that follow a script, records, logs, a disk that fills.

It fulfils the protocols of `engine/world.py`, so the real controller runs on it unchanged, and it keeps the truth
about every attempt beside what it shows. All that happens is drawn from one random generator, so a seed names a whole
history. `reach` is called wherever a manager can be killed; whoever drives the machine decides there whether it dies.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random

from procclaw.model.errors import DiskFull
from procclaw.model.outside import (
    Launch,
    Launched,
    LaunchRefused,
    LaunchUndecided,
    Measure,
    Process,
    RecordPhase,
    Sight,
)
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt, Slice
from procclaw.model.spec import LogPolicy
from tests.lives import SECOND, Child, Clock, Life, Proc, Record, Script, Trace, told

_FIRST_PID, _PIDS = 300, 60
"""So few that numbers come round again within minutes."""
_SIGKILL = 9
_TICK = SECOND // 100


class Machine:
    """The processes and records of a simulated machine: `engine.world.Processes`, and the levers to shake it."""

    def __init__(self, clock: Clock, rng: Random, trace: Trace) -> None:
        self.clock = clock
        self.rng = rng
        self.trace = trace
        self.boot = 1
        self.booted_at = 0
        self.procs: dict[int, Proc] = {}
        self.directory: dict[str, Record] = {}
        self.lives: dict[str, Life] = {}
        self.newest: datetime | None = None
        self.is_disk_full = False
        self.lacks_processes = False
        self.refuses_next: str | None = None
        self.hungry_strangers = 0
        """So many strangers get the number of a shim the moment it is free."""
        self.script_for: Callable[[Launch], Script] = lambda launch: Script()
        self.reach: Callable[[str], None] = lambda point: None
        self.on_launch: Callable[[Life], None] = lambda life: None
        self.on_signal: Callable[[Attempt, Proc], None] = lambda attempt, proc: None
        self.on_delete: Callable[[str], None] = lambda path: None
        self.on_result: Callable[[Life, str], None] = lambda life, result: None
        self.on_news: Callable[[], None] = lambda: None
        self.lock_of: Callable[[int], str] = lambda fd: f"lock {fd}"
        self.log_ends: Counter[str] = Counter()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._next_pid = _FIRST_PID
        self._ticks = 0
        self._last_ticks: dict[int, int] = {}
        self._spent_shims: list[int] = []

    # --- time ---

    def advance(self, span: int) -> None:
        """Let time pass, and what is scripted happen in its order."""
        until = self.clock.elapsed + span
        while self._events and self._events[0][0] <= until:
            at, _, happen = heapq.heappop(self._events)
            self.clock.elapsed = max(self.clock.elapsed, at)
            happen()
        self.clock.elapsed = until

    def next_event_at(self) -> int | None:
        return self._events[0][0] if self._events else None

    def later(self, span: int, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.clock.elapsed + max(span, 1), self._count, happen))

    # --- what the engine asks ---

    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def create_record(self, record: str) -> None:
        self.reach("before create_record")
        if self.is_disk_full:
            self.trace.meet("disk full: create_record")
            raise DiskFull(f'the record "{record}" cannot be made: the simulated disk is full')
        self.directory.setdefault(record, Record(self.clock.now()))
        self.reach("after create_record")

    def remove_record(self, record: str) -> None:
        self.reach("before remove_record")
        if self.directory.pop(record, None) is not None:
            self.trace.say(f"record removed {_short(record)}")
        self.reach("after remove_record")

    def note_commit(self, at: datetime) -> None:
        self.reach("before note_commit")
        if self.is_disk_full:
            self.trace.meet("disk full: note_commit")
        else:
            self.newest = at
        self.reach("after note_commit")

    def noted_commit(self) -> datetime | None:
        return self.newest

    def records(self) -> tuple[str, ...]:
        self.reach("look")
        return tuple(sorted(self.directory))

    def sight(self, record: str) -> Sight:
        self.reach("look")
        found = self.directory.get(record)
        if found is None:
            return Sight(RecordPhase.MISSING)
        has_ended = found.code is not None or found.no_cwd
        if found.holder is not None and not has_ended:
            return Sight(RecordPhase.LOCKED, pid=found.pid, job_pid=found.job_pid)
        if found.is_blank:
            return Sight(RecordPhase.BLANK)
        if found.is_torn or not has_ended:
            return Sight(RecordPhase.LOST, pid=None if found.is_torn else found.pid)
        return Sight(
            RecordPhase.FAILED_CWD if found.no_cwd else RecordPhase.EXITED,
            pid=found.pid,
            exit_code=found.code,
            exited_at=found.written_at,
            cpu_seconds=0.25,
            is_draining=found.holder is not None,
        )

    def launch(self, launch: Launch) -> Launched | LaunchRefused | LaunchUndecided:
        self.reach("before launch")
        if self.lacks_processes:
            self.trace.meet("launch refused: ours")
            return LaunchRefused(Reason.NO_RESOURCES, "the simulated machine has no process left", is_ours=True)
        refusal, self.refuses_next = self.refuses_next, None
        if refusal == "theirs":
            self.trace.meet("launch refused: theirs")
            return LaunchRefused(Reason.NOT_STARTED, "the simulated command is too long", is_ours=False)
        record = self.directory.get(launch.record)
        if record is None or not record.is_blank or record.holder is not None or refusal == "undecided":
            self.trace.meet("launch undecided", _short(launch.record))
            return LaunchUndecided()
        life = self._begin(launch, record)
        assert life.shim is not None
        launched = Launched(life.shim.pid, life.shim.ticks)
        if life.shim.script.fate == "blank":
            self.trace.meet("died before its pid was written", str(life))
            self._end(life.shim)
        self.reach("after launch")
        return launched

    def start_ticks(self, pid: int) -> int | None:
        self.reach("look")
        proc = self.procs.get(pid)
        return None if proc is None else proc.ticks

    def shim_start_ticks(self, record: str, pid: int) -> int | None:
        ticks = self.start_ticks(pid)
        return ticks if self.sight(record).phase is RecordPhase.LOCKED else None

    def foreign_records(self) -> tuple[str, ...]:
        return ()

    def members(self, attempts: Sequence[Attempt]) -> Mapping[str, tuple[Process, ...]]:
        self.reach("look")
        return {
            attempt: tuple(Process(proc.pid, proc.ticks, proc.command) for proc in procs)
            for attempt, procs in self._look_for(attempts).items()
        }

    def measure(self, attempts: Sequence[Attempt]) -> Mapping[str, Measure]:
        self.reach("look")
        return {
            attempt: Measure(sum(map(self._cpu_seconds, procs)), sum(proc.script.memory_mb for proc in procs))
            for attempt, procs in self._look_for(attempts).items()
            if procs
        }

    def signal_attempt(self, attempt: Attempt, members: Sequence[Process], signum: int) -> None:
        self.reach("before signal")
        is_kill = signum == _SIGKILL
        shim, start_ticks = self._sought(attempt)
        targets = {member.pid: self.procs.get(member.pid) for member in members}
        for member in members:
            proc = targets[member.pid]
            if proc is None or proc.ticks != member.start_ticks:
                del targets[member.pid]
        leader = None if shim is None else self.procs.get(shim)
        if not is_kill and leader is not None and leader.ticks == start_ticks:
            targets |= {proc.pid: proc for proc in self.procs.values() if proc.group == leader.pid}
        names = " ".join(str(pid) for pid in sorted(targets))
        self.trace.say(f"signal {signum} to {attempt.job_id}/{attempt.id} (pid {attempt.pid}): {names or 'nobody'}")
        for pid in sorted(targets):
            target = targets[pid]
            if target is not None:
                self.on_signal(attempt, target)
                self._deliver(target, signum)
        self.reach("after signal")

    def is_running(self, pid: int, ticks: int) -> bool:
        """What a pidfd tells."""
        proc = self.procs.get(pid)
        return proc is not None and proc.ticks == ticks

    def peak_rss_mb(self, pid: int) -> float | None:
        return None if pid % 2 or pid not in self._last_ticks else 12.5

    def _sought(self, attempt: Attempt) -> tuple[int | None, int | None]:
        """The shim's pid and start time; the record has them where the manager died before it could note them."""
        if attempt.boot_id != self.boot_id():
            return None, None
        if attempt.pid is not None and attempt.start_ticks is not None:
            return attempt.pid, attempt.start_ticks
        record = self.directory.get(attempt.record)
        if record is None or record.is_torn:
            return None, None
        return record.pid, None if record.holder is None else record.holder.ticks

    def _look_for(self, attempts: Sequence[Attempt]) -> dict[str, list[Proc]]:
        sought = {attempt: self._sought(attempt) for attempt in attempts}
        last = dict(sorted(sought.values(), key=lambda one: one[1] or 0))
        found = {}
        for attempt, (shim, start_ticks) in sought.items():
            # Whose pid was given to another shim since, of him nothing is left in the session of that number.
            leader = shim if last[shim] == start_ticks else None
            procs = (proc for _, proc in sorted(self.procs.items()) if proc.pid != shim)
            found[attempt.id] = [each for each in procs if self._belongs(each, attempt.mark, leader, start_ticks)]
        return found

    def _cpu_seconds(self, proc: Proc) -> float:
        ticks_since_boot = (self.clock.elapsed - self.booted_at) // _TICK
        return proc.script.cpu_share * max(0, ticks_since_boot - proc.ticks) * _TICK / SECOND

    def _belongs(self, proc: Proc, mark: str, shim: int | None, start_ticks: int | None) -> bool:
        """By mark, else by session or group while no stranger has the shim's pid, else by what its parent is."""
        leader = None if shim is None else self.procs.get(shim)
        is_undisputed = shim is not None and (leader is None or leader.ticks == start_ticks)
        if proc.ticks < (start_ticks or 0):
            return False
        above: Proc | None = proc
        while above is not None:
            if above.mark is not None:
                return above.mark == mark
            if is_undisputed and shim in (above.session, above.group):
                return True
            above = self.procs.get(above.parent)
        return False

    # --- what processes do ---

    def _begin(self, launch: Launch, record: Record) -> Life:
        mark = launch.record.rpartition(".")[2]
        life = self.lives.get(mark)
        if life is None:
            life = self.lives[mark] = Life(launch, record, self.clock.now(), self.clock.elapsed)
            life.boot = self.boot
        life.record = record
        life.lock = None if launch.lock_fd is None else self.lock_of(launch.lock_fd)
        self.on_launch(life)
        script = self.script_for(launch)
        shim = life.shim = self._spawn("shim", life, script)
        record.holder = shim
        self.trace.say(f"launched {life} as pid {shim.pid}: {told(script)}")
        self.log_ends.update({launch.stdout: 7, launch.stderr: 3})
        if script.fate == "blank":
            return life
        if script.pid_delay:
            self.later(script.pid_delay, lambda: self._run_shim(shim, life))
        else:
            self._run_shim(shim, life)
        return life

    def _run_shim(self, shim: Proc, life: Life) -> None:
        if life.shim is not shim:
            return
        record, script = life.record, shim.script
        record.pid, record.written_at = shim.pid, self.clock.now()
        if script.fate == "no_cwd":
            record.no_cwd = True
            self.trace.meet("directory is missing", str(life))
            self.later(script.drain, lambda: self._end(shim))
            return
        if shim.is_doomed:
            # Told to stop before the job existed: it remembers, and never begins.
            self._write_code(life, 143)
            return
        main = life.main = self._spawn("main", life, script)
        main.parent, main.group, main.session = shim.pid, shim.pid, shim.pid
        life.has_begun = True
        record.job_pid = main.pid
        if script.fate == "shim_killed":
            self.later(script.shim_killed_after, lambda: self._kill_shim(life, shim))
        if script.seconds is not None:
            self.later(int(script.seconds * SECOND), lambda: self._finish(life, main))
        for child in script.children:
            self.later(child.after, lambda child=child: self._fork(life, main, child))  # type: ignore[misc]

    def _finish(self, life: Life, main: Proc) -> None:
        """It ends by itself, having left its result."""
        if life.main is main:
            if main.script.result is not None:
                life.result = main.script.result
                self.on_result(life, main.script.result)
            self._end(main, main.script.code)

    def _fork(self, life: Life, main: Proc, child: Child) -> None:
        if life.main is not main:
            return
        proc = self._spawn("child", life, main.script)
        proc.parent, proc.on_term = main.pid, child.on_term
        if child.leaves_session:
            self.trace.met["child in a session of its own"] += 1
        else:
            proc.group = proc.session = main.session
        proc.mark = life.mark if child.carries_mark else None
        life.others.append(proc)
        if child.seconds is not None:
            self.later(int(child.seconds * SECOND), lambda: self._end(proc))

    def _spawn(self, role: str, life: Life | None, script: Script, pid: int | None = None) -> Proc:
        if pid is None:
            pid = self._free_pid()
        # A later process never has an earlier start, and nobody gets a number twice within one tick.
        since_boot = (self.clock.elapsed - self.booted_at) // _TICK
        self._ticks = max(self._ticks, since_boot, self._last_ticks.get(pid, 0) + 1)
        ticks = self._last_ticks[pid] = self._ticks
        proc = self.procs[pid] = Proc(pid, ticks, role, life, script)
        return proc

    def _free_pid(self) -> int:
        while self._is_reserved(self._next_pid):
            self._next_pid = _FIRST_PID + (self._next_pid + 1 - _FIRST_PID) % (_PIDS + 6 * len(self.procs))
        return self._next_pid

    def _is_reserved(self, pid: int) -> bool:
        """As the kernel does it: a number is given to nobody while a session or group still goes by it."""
        return any(pid in (proc.pid, proc.session, proc.group) for proc in self.procs.values())

    def _end(self, proc: Proc, code: int = 0) -> None:
        if self.procs.get(proc.pid) is not proc:
            return
        del self.procs[proc.pid]
        for other in self.procs.values():
            if other.parent == proc.pid:
                other.parent = 1
        life = proc.life
        if life is None:
            return
        if proc is life.main:
            life.main = None
            self._write_code(life, code)
        elif proc is life.shim:
            life.shim = None
            self._spent_shims.append(proc.pid)
            if life.record.holder is proc:
                life.record.holder = None
            if self.hungry_strangers and not self._is_reserved(proc.pid):
                self.hungry_strangers -= 1
                self.spawn_stranger(proc.pid)
        elif proc in life.others:
            life.others.remove(proc)
        life.changed_at = self.clock.elapsed

    def _write_code(self, life: Life, code: int) -> None:
        shim, record = life.shim, life.record
        if shim is None or record.holder is not shim:
            return
        record.code, record.written_at = code, self.clock.now()
        life.code = code
        self.trace.say(f"{life} ended with {code}")
        if life.others:
            self.trace.met["left something behind"] += 1
        if shim.script.drain:
            self.trace.met["still draining"] += 1
        self.later(shim.script.drain, lambda: self._end(shim))

    def _deliver(self, proc: Proc, signum: int) -> None:
        if signum == _SIGKILL:
            if proc.script.kill_delay and not proc.is_doomed:
                self.trace.meet("stuck in the kernel", str(proc.life))
            proc.is_doomed = True
            if proc.script.kill_delay and proc.role == "main":
                self.later(proc.script.kill_delay, lambda: self._end(proc, 137))
            else:
                self._end(proc, 137)
            return
        if proc.role == "shim":
            proc.is_doomed = proc.life is not None and not proc.life.has_begun
            return
        if proc.on_term == "ignores":
            self.trace.met["signal ignored"] += 1
            return
        if not proc.is_doomed:
            proc.is_doomed = True
            code = proc.script.term_code if proc.on_term == "handles" else 128 + signum
            if proc.script.term_delay >= SECOND:
                self.trace.met["slow to end"] += 1
            self.later(proc.script.term_delay, lambda: self._end(proc, code))

    def _kill_shim(self, life: Life, shim: Proc) -> None:
        if life.shim is shim and life.code is None:
            self.trace.meet("shim killed", str(life))
            self._end(shim)

    def newest_life(self, attempt_id: str) -> Life | None:
        """After an older database was put back, one name may stand for several."""
        names = (life for life in reversed(self.lives.values()) if f"{life.run_id}.{life.number}" == attempt_id)
        return next(names, None)

    # --- levers ---

    def spawn_stranger(self, pid: int | None = None) -> None:
        """A process of somebody else, under the number of a shim that is gone if there is such a number."""
        reusable = [pid for pid in self._spent_shims if not self._is_reserved(pid)]
        if pid is None and reusable:
            pid = self.rng.choice(reusable)
        if pid is not None:
            self.trace.meet("pid reused by a stranger", str(pid))
        stranger = self._spawn("stranger", None, Script(), pid)
        child = self._spawn("stranger", None, Script())
        child.parent, child.session, child.group = stranger.pid, stranger.session, stranger.group

    def kill_a_shim(self) -> None:
        lives = [life for life in self.lives.values() if life.shim is not None and life.has_begun]
        if lives:
            life = self.rng.choice(lives)
            assert life.shim is not None
            self._kill_shim(life, life.shim)

    def kill_a_main(self) -> None:
        """Somebody else ends a job's process, by the signal that cannot be caught."""
        lives = [life for life in self.lives.values() if life.main is not None]
        if lives:
            life = self.rng.choice(lives)
            assert life.main is not None
            self.trace.meet("killed by somebody else", str(life))
            self._end(life.main, 137)

    def delete_a_record(self, known: Collection[str]) -> None:
        """A user clears away what looks like rubbish. Only `known` marks: nobody could find the others ever after."""
        names = [name for name in sorted(self.directory) if name.rpartition(".")[2] in known]
        if names:
            name = self.rng.choice(names)
            record = self.directory.pop(name)
            phase = "of a living attempt" if record.holder is not None else "not in use"
            self.trace.meet(f"record deleted: {phase}", _short(name))
            life = self.lives.get(name.rpartition(".")[2])
            if life is not None:
                life.facts["is_record_deleted"] = True

    def end_unfindable(self) -> None:
        """End what nothing but the present database could find again: a backup knows nothing of it."""
        for life in self.lives.values():
            if life.facts.get("is_record_deleted"):
                for proc in (life.main, life.shim, *life.others):
                    if proc is not None:
                        self._end(proc)

    def reboot(self) -> None:
        """Power fails: every process is gone, and what a record held may not have reached the disk."""
        shims = [life.shim for life in self.lives.values() if life.shim is not None]
        self.trace.meet("reboot", f"{len(shims)} attempts vanish")
        self._events.clear()
        self.procs.clear()
        for life in self.lives.values():
            if life.has_processes:
                life.changed_at = self.clock.elapsed
            life.shim = life.main = None
            life.others.clear()
            life.is_kept = False
            self._lose_unsynced(life)
        self.boot += 1
        self.booted_at = self.clock.elapsed
        self._ticks = 0
        self._last_ticks.clear()
        self._spent_shims.clear()
        self.clock.elapsed += self.rng.randint(20, 90) * SECOND
        for shim in shims[:2]:
            # The new boot hands out the same numbers at the same moments of its life.
            stranger = self._spawn("stranger", None, Script(), shim.pid)
            stranger.ticks = self._last_ticks[shim.pid] = shim.ticks

    def _lose_unsynced(self, life: Life) -> None:
        record = life.record
        was_fresh = self.clock.now() - record.written_at < timedelta(seconds=5)
        record.holder = None
        if (record.code is not None and not was_fresh) or "ended" in life.facts:
            return
        match self.rng.randrange(4):
            case 0:
                record.pid = record.code = life.code = None
                record.no_cwd = False
                self.trace.met["record reverted by power failure"] += 1
            case 1:
                record.is_torn = True
                record.code = life.code = None
                record.no_cwd = False
                self.trace.met["record torn by power failure"] += 1

    def tear_a_record(self) -> None:
        """Its shim is killed between two bytes."""
        lives = [life for life in self.lives.values() if life.shim is not None and life.code is None]
        if lives:
            life = self.rng.choice(lives)
            life.record.is_torn = True
            self.trace.meet("record torn", str(life))
            assert life.shim is not None
            self._end(life.shim)


def _short(record: str) -> str:
    job_id, run_id, number, mark = record.split(".")
    return f"{job_id}/{run_id}.{number} ({mark[:6]})"


class Logs:
    """`engine.world.Output`: logs as far as an attempt's slice depends upon them."""

    def __init__(self, machine: Machine) -> None:
        self._ends = machine.log_ends

    def position(self, file: str) -> int:
        return self._ends[file]

    def log_files(self, job_id: str, instance: int) -> tuple[str, str]:
        stem = f"{job_id}.{instance}" if instance else job_id
        return f"{stem}.log", f"{stem}.error.log"

    def rotate(self, file: str, policy: LogPolicy, *, is_in_use: bool) -> bool:
        return self._ends[file] > policy.max_bytes and not is_in_use

    def close(self, opened: Slice) -> Slice:
        return opened._replace(end=self._ends[opened.file])

    def end_of(self, part: Slice, count: int) -> bytes:
        return b"simulated output"
