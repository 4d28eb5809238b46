"""The jobs of a soak: many kinds, in fixed shares, so that every duty of the manager comes up all the time.

All of them sleep nearly always. What has to be proved of a job it tells of itself, by lines in `notes/JOB` of its home:
`crashing` ones write `start` and `end` (whoever restarts them more often than they end is found out), those on a
schedule the due time that they run for.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Job = Mapping[str, Any]

ALL = 500
"""The number that the shares below add up to, with plain ones for what is left."""

NOTES = '"$PROCCLAW_HOME/notes/$PROCCLAW_JOB_ID"'
DUE = f'[ -z "$PROCCLAW_SCHEDULED_AT" ] || echo "due $PROCCLAW_SCHEDULED_AT $PROCCLAW_ATTEMPT" >>{NOTES}; '
STAY = "exec sleep 1000000"
QUICK_STOP = {"grace_period": 2}
ROTATED_BYTES = 32 * 1024
ROTATED_KEPT = 2


def drawn(seed: int) -> str:
    """Shell text that sets `n` to a large number that follows from seed, job and attempt alone."""
    return f'n=$(echo "{seed} $PROCCLAW_JOB_ID $PROCCLAW_ATTEMPT" | cksum); n=${{n%% *}}; '


def crashing(seed: int, least: int, spread: int, *, ending: str = "exit 1", first: str = "") -> str:
    note = f'echo "start $PROCCLAW_RUN_ID $PROCCLAW_ATTEMPT" >>{NOTES}; '
    end = f'echo "end $PROCCLAW_RUN_ID $PROCCLAW_ATTEMPT" >>{NOTES}; '
    return f"{drawn(seed)}{note}{first}sleep $(({least} + n % {spread})); {end}{ending}"


def logging(every: int, lines: int = 1) -> str:
    """Numbered lines, so that one which a rotation lost or doubled is missed."""
    line = 'echo "line $((l += 1)) of $PROCCLAW_JOB_ID: nothing of note has happened to it so far"'
    return f"while sleep {every}; do i=0; while [ $((i += 1)) -le {lines} ]; do {line}; done; done"


def continuous(cmd: str, **fields: Any) -> Job:
    return {"type": "continuous", "cmd": cmd, "shutdown": QUICK_STOP, **fields}


def scheduled(every: str, cmd: str, **fields: Any) -> Job:
    return {"type": "scheduled", "schedule": every, "cmd": DUE + cmd, "shutdown": QUICK_STOP, **fields}


class Kind(NamedTuple):
    share: int
    """How many there are of it in `ALL`."""
    make: Callable[[int], Job]
    is_steady: bool = False
    """Nothing may ever restart it: it keeps its pid from its first start to the end."""
    tells_ends: bool = False
    """It ends by itself, and tells of each start and each end."""
    period: int = 0
    """Seconds between its due times, which are multiples of that since the epoch."""


def kinds(home: Path, seed: int, port: int) -> dict[str, Kind]:
    """By name. `port`: of the daemon's HTTP server, which some jobs claim as their own to have something to check."""
    return _steady(home, port) | _ending(seed) | _hard_to_stop() | _scheduled() | _asked_for()


def _steady(home: Path, port: int) -> dict[str, Kind]:
    beat = str(home / "notes" / "beat")
    well = {"type": "exec", "cmd": "true", "interval": 45}
    # Only a daemon that is being started does not answer; ten failures would take five minutes.
    answering = {"interval": 30, "failures": 10}
    by_http = {"type": "http", "url": f"http://127.0.0.1:{port}/health", **answering}
    rotating = {"max_size": ROTATED_BYTES, "rotate": ROTATED_KEPT}
    made: dict[str, tuple[int, Callable[[int], Job]]] = {
        "logging": (110, lambda n: continuous(logging(30 + n % 60))),
        "rotating": (20, lambda n: continuous(logging(5, lines=60), log=rotating)),
        "stamping": (6, lambda n: continuous(logging(20), log={"timestamps": True})),
        "measured": (10, lambda n: continuous(logging(60), resources={"max_memory_mb": 500, "action": "kill"})),
        "by-exec": (14, lambda n: continuous(STAY, health_check=well)),
        "by-http": (8, lambda n: continuous(STAY, health_check=by_http)),
        "by-tcp": (8, lambda n: continuous(STAY, health_check={"type": "tcp", "port": port, **answering})),
        "by-file": (
            8,
            lambda n: continuous(
                f"while touch {beat}-{n}; do sleep 40; done",
                health_check={"type": "file", "path": f"{beat}-{n}", "interval": 30, "max_age": 300},
            ),
        ),
        "base": (12, lambda n: continuous(STAY, health_check=well)),
        "leaf": (12, lambda n: continuous(STAY, depends_on=[{"job": f"base-{n}", "condition": "after_healthy"}])),
    }
    return {name: Kind(share, make, is_steady=True) for name, (share, make) in made.items()}


def _ending(seed: int) -> dict[str, Kind]:
    soon = {"delays": [1]}
    again_and_again = {"delays": [2, 5, 10], "max_attempts": "unlimited"}
    litter = "setsid sleep 1000000 & (setsid sh -c 'sleep 1000000; :' &); "
    made: dict[str, tuple[int, Callable[[int], Job]]] = {
        "crashing": (40, lambda n: continuous(crashing(seed, 60, 840), retry=soon)),
        "hasty": (8, lambda n: continuous(crashing(seed, 5, 20), retry=again_and_again)),
        "killed": (8, lambda n: continuous(crashing(seed, 90, 600, ending="kill -9 $$"), retry=soon)),
        "littering": (12, lambda n: continuous(crashing(seed, 90, 400, first=litter), retry=soon)),
    }
    return {name: Kind(share, make, tells_ends=True) for name, (share, make) in made.items()} | {
        "ill": Kind(4, lambda n: _ill(seed))
    }


def _ill(seed: int) -> Job:
    """It runs on, and is restarted because its check fails."""
    flag = "$PROCCLAW_HOME/notes/flag-$PROCCLAW_JOB_ID"
    return continuous(
        f'{drawn(seed)}rm -f "{flag}"; sleep $((60 + n % 240)); touch "{flag}"; {STAY}',
        health_check={"type": "exec", "cmd": f'test ! -e "{flag}"', "interval": 15, "failures": 2},
        retry={"delays": [2], "max_attempts": "unlimited"},
    )


def _hard_to_stop() -> dict[str, Kind]:
    """The operator's: they restart these, and change those that are for that."""
    return {
        "stubborn": Kind(24, lambda n: continuous(f"trap '' TERM; {STAY}")),
        "forking": Kind(24, lambda n: continuous(f"(setsid sh -c 'trap \"\" TERM; {STAY}' &); {STAY}")),
        "edited": Kind(16, lambda n: continuous(STAY)),
    }


def _scheduled() -> dict[str, Kind]:
    every = "echo done"
    once_more = {"delays": [1], "max_attempts": 1}
    lock = {"enabled": True, "name": "soak"}
    after = [{"job": "minutely-0", "condition": "after_complete"}]
    made: dict[str, tuple[int, int, Job]] = {
        "minutely": (26, 60, scheduled("* * * * *", every)),
        "often": (6, 15, scheduled("@every 15s", every)),
        "paused": (2, 60, scheduled("* * * * *", every)),
        "flaky": (5, 180, scheduled("*/3 * * * *", '[ "$PROCCLAW_ATTEMPT" -ge 2 ]', retry={"delays": [1]})),
        "hopeless": (3, 120, scheduled("*/2 * * * *", "exit 4", retry=once_more)),
        "skipping": (3, 20, scheduled("@every 20s", "sleep 30", on_overlap="skip")),
        "standing": (3, 20, scheduled("@every 20s", "sleep 15", on_overlap="queue")),
        "replaced": (3, 20, scheduled("@every 20s", "sleep 30", on_overlap="kill_restart")),
        "queued": (12, 300, scheduled("*/5 * * * *", "sleep 1", queue="soak")),
        "locked": (5, 120, scheduled("*/2 * * * *", "sleep 1", lock=lock)),
        "following": (4, 120, scheduled("*/2 * * * *", every, depends_on=after)),
    }
    return {name: Kind(share, _always(job), period=period) for name, (share, period, job) in made.items()}


def _always(job: Job) -> Callable[[int], Job]:
    return lambda n: job


def _asked_for() -> dict[str, Kind]:
    hook = {"trigger": {"type": "webhook"}, "cmd": 'cat "$PROCCLAW_PAYLOAD_FILE"'}
    return {
        "manual": Kind(8, lambda n: {"cmd": "sleep 3", "concurrency": {"max_instances": 3}, "shutdown": QUICK_STOP}),
        "hooked": Kind(3, lambda n: {**hook, "shutdown": QUICK_STOP}),
    }


class Cast(NamedTuple):
    """The jobs that a soak begins with, and what is demanded of them."""

    jobs: dict[str, Job]
    steady: list[str]
    ending: list[str]
    """They tell of each start and end."""
    periods: dict[str, int]
    """Of those on a schedule."""


def cast(home: Path, count: int, seed: int, port: int) -> Cast:
    found = Cast({}, [], [], {})
    for name, job, kind in _named(count, kinds(home, seed, port)):
        found.jobs[name] = job
        if kind.is_steady:
            found.steady.append(name)
        if kind.tells_ends:
            found.ending.append(name)
        if kind.period:
            found.periods[name] = kind.period
    return found


def _named(count: int, declared: Mapping[str, Kind]) -> Iterator[tuple[str, Job, Kind]]:
    """At least one of each kind, and plain ones up to `count`."""
    total = 0
    for name, kind in declared.items():
        for number in range(max(1, kind.share * count // ALL)):
            yield f"{name}-{number}", kind.make(number), kind
            total += 1
    plain = Kind(0, lambda n: continuous(STAY), is_steady=True)
    for number in range(count - total):
        yield f"plain-{number}", plain.make(number), plain
