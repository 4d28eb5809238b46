"""What the simulated machine has beside processes: checks, locks, work files, directories into which files fall, and
people who are told.

What the machine keeps (`Outside`) outlives the managers; what one of them began or has in its hand ends with it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from procclaw.model.errors import DiskFull
from procclaw.model.outside import (
    Delivery,
    FileSight,
    FilesSeen,
    LockClaim,
    LockSight,
    MemoryPage,
    Notice,
    Probe,
    ProbeResult,
)
from procclaw.model.spec import TriggerSpec, TriggerType
from tests.lives import SECOND, Life
from tests.world import Machine

_FIRST_FD = 1_000
_SETTLED = 2 * SECOND
_CHECK_DELAYS = (0, SECOND // 20, SECOND // 20, SECOND, 6 * SECOND, None)
"""How long a check takes; None: nothing ever comes of it."""
_LOST_AFTER = 13 * SECOND // 2
_DELIVERY_DELAYS = (0, SECOND // 20, SECOND, 12 * SECOND)


class Dropped:
    """A file in a directory that somebody watches."""

    def __init__(self, identity: str, changed_at: int, written_until: int) -> None:
        self.identity = identity
        self.changed_at = changed_at
        """By the clock that does not jump."""
        self.written_until = written_until

    def is_settled(self, now: int) -> bool:
        return now >= self.written_until and now - self.changed_at >= _SETTLED


class Outside:
    """What is there whoever manages the home."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.fds: dict[int, str] = {}
        self.in_hand: dict[str, SimulatedLocks] = {}
        self.tokens: Counter[str] = Counter()
        self.elsewhere: dict[str, int] = {}
        """By lock, until when another home has it."""
        self.work: dict[str, dict[str, bytes]] = {}
        self.files: dict[str, Dropped] = {}
        self.unreadable_until = 0
        self.is_lock_disk_full = self.is_work_disk_full = False
        self.shown: dict[tuple[str, str], set[str]] = {}
        """By job and path, the identities that were shown to be settled."""
        self.told: Counter[str] = Counter()
        """By key, how often an alert has arrived."""
        self.is_receiver_out = False
        self._files_made = 0
        machine.lock_of = self.fds.__getitem__
        machine.on_result = self._keep_result

    # --- locks ---

    def has_lock(self, lock: str) -> list[Life]:
        """The lives of which a process has inherited the lock."""
        return [life for life in self.machine.lives.values() if life.lock == lock and life.has_processes]

    def is_elsewhere(self, lock: str) -> bool:
        return self.elsewhere.get(lock, 0) > self.machine.clock.elapsed

    def holder(self, lock: str) -> str | None:
        lives = self.has_lock(lock)
        if lives:
            return f"{lives[0].job_id} (run {lives[0].run_id})"
        return "hand (run of another home)" if self.is_elsewhere(lock) else None

    def take_elsewhere(self, lock: str, span: int) -> None:
        """A second home, which shares the lock's path, gets it if it is free."""
        if self.holder(lock) is None and lock not in self.in_hand:
            self.elsewhere[lock] = self.machine.clock.elapsed + span
            self.machine.trace.meet("lock taken by another home", lock)

    # --- files ---

    def drop(self, path: str, span: int) -> None:
        """Somebody begins to write a file and takes so long; one that is there is replaced."""
        self.machine.trace.meet("file replaced" if path in self.files else "file dropped", path)
        self._touch(path, self.machine.clock.elapsed + span)
        if span:
            self.machine.later(span // 2, lambda: self._write_on(path))
            self.machine.later(span, lambda: self._write_on(path))

    def _touch(self, path: str, until: int) -> None:
        self._files_made += 1
        identity = f"{self._files_made}:{self._files_made % 7}:{self.machine.clock.elapsed}"
        self.files[path] = Dropped(identity, self.machine.clock.elapsed, until)

    def _write_on(self, path: str) -> None:
        if path in self.files:
            self._touch(path, self.files[path].written_until)

    def clear_away(self) -> None:
        """A user deletes one of them."""
        if self.files:
            path = self.machine.rng.choice(sorted(self.files))
            del self.files[path]
            self.machine.trace.meet("file deleted", path)

    # --- results ---

    def _keep_result(self, life: Life, result: str) -> None:
        folder = self.work.get(f"{life.run_id}.{life.number}")
        if folder is not None:
            folder["result.json"] = result.encode()


class SimulatedProbes:
    """Checks that one manager has begun."""

    def __init__(self, outside: Outside) -> None:
        self._machine = outside.machine
        self._under_way: dict[str, object] = {}
        self._results: list[ProbeResult] = []
        self._is_open = True

    def begin(self, probe: Probe) -> None:
        self._machine.reach("before check")
        life = self._machine.newest_life(probe.attempt_id)
        if life is not None:
            life.asked_at = self._machine.clock.elapsed
        delay = self._machine.rng.choice(_CHECK_DELAYS)
        token = self._under_way[probe.attempt_id] = object()
        if delay is None:
            self._machine.trace.meet("check without an answer", probe.attempt_id)
            self._machine.later(_LOST_AFTER, lambda: self._lose(probe, token))
        else:
            self._machine.later(delay, lambda: self._answer(probe, token))

    def _lose(self, probe: Probe, token: object) -> None:
        if self._under_way.get(probe.attempt_id) is token:
            del self._under_way[probe.attempt_id]

    def _answer(self, probe: Probe, token: object) -> None:
        if not self._is_open or self._under_way.get(probe.attempt_id) is not token:
            self._machine.trace.met["check lost with its manager" if not self._is_open else "check overtaken"] += 1
            return
        del self._under_way[probe.attempt_id]
        life = self._machine.newest_life(probe.attempt_id)
        is_ok = life is not None and life.main is not None and self._is_well(life)
        if life is not None:
            life.answers.append((self._machine.clock.elapsed, is_ok))
        self._machine.trace.say(f"check of {probe.attempt_id}: {'well' if is_ok else 'not well'}")
        self._results.append(ProbeResult(probe.job_id, probe.attempt_id, is_ok, "simulated"))
        self._machine.on_news()

    def _is_well(self, life: Life) -> bool:
        assert life.main is not None
        match life.main.script.health:
            case "good":
                return True
            case "bad":
                return False
            case _:
                return self._machine.rng.random() < 0.5

    def results(self) -> tuple[ProbeResult, ...]:
        results, self._results = tuple(self._results), []
        return results

    def under_way(self) -> frozenset[str]:
        return frozenset(self._under_way)

    def wait(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        self._is_open = False


class SimulatedNotifier:
    """Alerts that one manager is delivering."""

    def __init__(self, outside: Outside, check: Callable[[Notice], None]) -> None:
        """`check` is told of each that begins."""
        self._outside = outside
        self._machine = outside.machine
        self._check = check
        self._under_way: set[str] = set()
        self._results: list[Delivery] = []
        self._is_open = True

    def begin(self, notice: Notice) -> None:
        self._machine.reach("before notice")
        if notice.key in self._under_way:
            return
        self._check(notice)
        self._under_way.add(notice.key)
        self._machine.later(self._machine.rng.choice(_DELIVERY_DELAYS), lambda: self._end(notice))

    def _end(self, notice: Notice) -> None:
        arrives = not self._outside.is_receiver_out and self._machine.rng.random() < 0.8
        self._outside.told[notice.key] += arrives
        if not self._is_open:
            self._machine.trace.met["alert sent, and its manager died"] += arrives
            return
        self._under_way.discard(notice.key)
        self._machine.trace.say(f"alert {'arrived' if arrives else 'did not arrive'}: {notice.body['message']}")
        self._machine.trace.met["alert arrived" if arrives else "alert did not arrive"] += 1
        by_openclaw = arrives and bool(notice.messages)
        self._results.append(Delivery(notice.key, arrives, "" if arrives else "simulated", is_by_openclaw=by_openclaw))
        self._machine.on_news()

    def results(self) -> tuple[Delivery, ...]:
        results, self._results = tuple(self._results), []
        return results

    def pending(self) -> int:
        return len(self._under_way)

    def wait(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        self._is_open = False


class SimulatedLocks:
    """The locks that one manager has in its hand."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._machine = outside.machine
        self._mine: dict[str, int | None] = {}

    def look(self, claims: Sequence[LockClaim]) -> Mapping[str, LockSight]:
        self._machine.reach("look")
        self.let_go()
        sights: dict[str, LockSight] = {}
        for claim in claims:
            if claim.lock not in sights:
                sights[claim.lock] = self._sight(claim.lock)
        return sights

    def _sight(self, lock: str) -> LockSight:
        holder = self._outside.holder(lock)
        if holder is None and lock in self._outside.in_hand:
            holder = "somebody who is looking (run ?)"
        if holder is not None:
            self._machine.trace.met["lock not free"] += 1
            return LockSight(is_free=False, holder=holder)
        self._outside.in_hand[lock] = self
        self._mine[lock] = None
        return LockSight(is_free=True)

    def hand_over(self, lock: str, holder: str) -> tuple[int, int]:
        self._machine.reach("before hand_over")
        assert self._mine[lock] is None
        if self._outside.is_lock_disk_full:
            self._machine.trace.meet("disk full: hand_over")
            raise DiskFull("the simulated lock file cannot be written")
        fd = self._mine[lock] = _FIRST_FD + len(self._outside.fds)
        self._outside.fds[fd] = lock
        self._outside.tokens[lock] += 1
        self._machine.reach("after hand_over")
        return fd, self._outside.tokens[lock]

    def let_go(self) -> None:
        for lock in self._mine:
            del self._outside.in_hand[lock]
        self._mine.clear()


class SimulatedWork:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._work = outside.work
        self._machine = outside.machine

    def make(self, attempt_id: str, user: str | None, files: Mapping[str, bytes]) -> str:
        self._machine.reach("before make_work")
        if self._machine.is_disk_full or self._outside.is_work_disk_full:
            self._machine.trace.meet("disk full: make_work")
            raise DiskFull("the simulated work directory cannot be made")
        self._work.setdefault(attempt_id, {}).update(files)
        return f"/simulated/files/{attempt_id}"

    def result(self, attempt_id: str) -> tuple[str | None, str]:
        found = self._work.get(attempt_id, {}).get("result.json")
        if found is None:
            return None, ""
        return (None, "result.json is not JSON") if found == b"rubbish" else (found.decode(), "")

    def remove(self, attempt_id: str) -> bool:
        self._machine.reach("before remove_work")
        self._work.pop(attempt_id, None)
        return True

    def attempts(self) -> tuple[str, ...]:
        return tuple(sorted(self._work))


class SimulatedSpool:
    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._machine = outside.machine

    def look(self, job_id: str, triggers: Sequence[TriggerSpec], known: Mapping[str, str] | None = None) -> FilesSeen:
        self._machine.reach("look")
        elapsed = self._machine.clock.elapsed
        found: dict[str, FileSight] = {}
        problems: list[str] = []
        for trigger in triggers:
            if trigger.type is not TriggerType.FILE or trigger.watch_path is None:
                continue
            if self._outside.unreadable_until > elapsed:
                self._machine.trace.met["directory not to be read"] += 1
                problems.append(f"{trigger.watch_path}: permission denied")
                continue
            for path, file in sorted(self._outside.files.items()):
                directory, _, name = path.rpartition("/")
                if directory == trigger.watch_path and fnmatchcase(name, trigger.pattern):
                    is_settled = file.is_settled(elapsed) or (known or {}).get(path) == file.identity
                    is_deleted = trigger.delete_after or (path in found and found[path].delete_after)
                    found[path] = FileSight(path, file.identity, is_settled, is_deleted)
        for sight in found.values():
            if sight.is_settled:
                self._outside.shown.setdefault((job_id, sight.path), set()).add(sight.identity)
            else:
                self._machine.trace.met["file not settled"] += 1
        return FilesSeen(tuple(found.values()), tuple(problems))

    def delete(self, path: str, identity: str) -> bool:
        self._machine.reach("before delete_file")
        file = self._outside.files.get(path)
        if file is None or file.identity != identity:
            return True
        if self._outside.unreadable_until > self._machine.clock.elapsed:
            return False
        self._machine.on_delete(path)
        del self._outside.files[path]
        self._machine.trace.meet("trigger file deleted by us", path)
        self._machine.reach("after delete_file")
        return True


class NoMemory:
    """An OpenClaw that nobody has enabled."""

    def write(self, pages: tuple[MemoryPage, ...], workspace: str | None, env: Mapping[str, str]) -> None:
        raise AssertionError("it is not enabled")

    def trouble(self) -> str:
        return ""

    def is_busy(self) -> bool:
        return False

    def wait(self, seconds: float) -> None:
        pass
