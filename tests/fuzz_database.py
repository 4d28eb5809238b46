"""The database of a home with a history, after the disk, a copy that went wrong or somebody's editor.

Each command either works, because nothing it needs was hit, or refuses with what to do; it never takes damage for a bug
of ours, and never empties or replaces the file.
"""

import contextlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, NamedTuple
from unittest import mock

from procclaw.engine.home import Home
from procclaw.interface.cli import BUG, main
from procclaw.model.errors import ProcclawError
from procclaw.system.store import Store
from tests.breaking import PATIENCE_SECONDS, TRACEBACK, Case, Ground, flipped, rubbish, within
from tests.builders import NOW, a_run

PAGE = 4096
MOST_PAGES_WRITTEN = 60
"""Of a commit or two; who empties a database, or makes it anew, writes them all."""
JOBS: Mapping[str, Any] = {
    "report": {"cmd": "echo $DAY", "params": {"DAY": {"default": "monday"}}},
    "bad": {"cmd": "exit 3", "retry": {"enabled": False}},
    "hourly": {"cmd": "true", "type": "scheduled", "schedule": "0 * * * *", "catch_up": {"policy": "none"}},
    "later": {"cmd": "true", "type": "oneshot", "run_at": "2090-01-01T00:00:00"},
    "held": {"cmd": "true", "type": "continuous"},
    "guarded": {"cmd": "true", "lock": {"enabled": True, "provider": "sqlite"}, "dedup": {"enabled": True}},
}
WORKFLOWS: Mapping[str, Any] = {"flow": {"type": "chain", "jobs": ["report", "bad"]}}
HISTORY = (
    *(("reconcile",), ("pause", "held"), ("run", "report", "--wait"), ("run", "bad", "--wait"), ("revoke", "later")),
    *(
        ("run", "report", "-p", "DAY=friday", "--wait"),
        ("schedule", "report", "--in", "9w"),
        ("chain", "report", "bad"),
    ),
    *(("run", "guarded", "--wait"), ("workflow", "run", "flow"), ("reconcile",), ("reconcile",)),
)
LOOKS = (
    *(("list",), ("status", "report"), ("status", "held"), ("why", "hourly"), ("why", "held"), ("runs", "list")),
    *(("events",), ("ledger",), ("dlq",), ("alerts",), ("queue",), ("plan",), ("plan", "--for", "7d")),
    *(
        ("config",),
        ("logs", "report"),
        ("list", "--json"),
        ("search", "rep"),
        ("workflow", "list"),
        ("daemon", "status"),
    ),
)
ACTS = (
    ("reconcile",),
    ("run", "report"),
    ("start", "bad"),
    ("pause", "report"),
    ("resume", "held"),
    ("dlq", "purge", "--all"),
)
DAEMON = ("daemon", "start")
"""In this process: what the daemon does before it serves, and its first cycle."""
_REMEDIES = ("restore it from a backup", "move it away", "move the file away", "check the owner")


class Files(NamedTuple):
    """A database as it lies on the disk."""

    main: bytes
    log: bytes | None
    """The write-ahead log, with commits that have not reached the file."""


WORDS = (b"succeeded", b"manual", b"paused", b'["', b'{"', b"exited", b"failed", b"normal", b"CREATE", b"runs", b"_at")

# --- how it is broken ---

Change = Callable[[Files, Random], Files]


def _at_a_page(content: bytes, rng: Random, most: int) -> bytes:
    """A bit of a page's head, from where everything else in it is found."""
    page = rng.randrange(max(len(content) // PAGE, 1)) * PAGE
    at = min(page + rng.randrange(most), len(content) - 1)
    return content[:at] + flipped(content[at : at + 1], rng) + content[at + 1 :]


def _in_text(content: bytes, rng: Random) -> bytes:
    """A letter of what is written in plain words: states, reasons, JSON."""
    words = [
        b"succeeded",
        b"manual",
        b"paused",
        b'["',
        b'{"',
        b"exit",
        b"failed",
        b"normal",
        b"pending",
        b"CREATE",
        b"runs",
    ]
    for word in rng.sample(words, len(words)):
        places = [at for at in range(len(content)) if content.startswith(word, at)] if word in content else []
        if places:
            at = rng.choice(places) + rng.randrange(len(word))
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    return content


def _zeroed(content: bytes, rng: Random) -> bytes:
    page = rng.randrange(max(len(content) // PAGE, 1)) * PAGE
    return content[:page] + bytes(PAGE) + content[page + PAGE :]


def _swapped(content: bytes, rng: Random) -> bytes:
    one, other = (rng.randrange(max(len(content) // PAGE, 1)) * PAGE for _ in range(2))
    changed = bytearray(content)
    changed[one : one + PAGE], changed[other : other + PAGE] = content[other : other + PAGE], content[one : one + PAGE]
    return bytes(changed)


def _with_version(content: bytes, version: int) -> bytes:
    return content[:60] + version.to_bytes(4) + content[64:]


def _of_another_program(_files: Files, _rng: Random) -> Files:
    with contextlib.closing(sqlite3.connect(":memory:")) as other:
        other.execute("CREATE TABLE contacts (name TEXT)")
        return Files(other.serialize(), None)


CHANGES: Mapping[str, tuple[int, Change]] = {
    "a bit": (6, lambda files, rng: files._replace(main=flipped(files.main, rng))),
    "some bits": (4, lambda files, rng: files._replace(main=flipped(files.main, rng, rng.choice((4, 30, 500))))),
    "a bit of the head": (3, lambda files, rng: files._replace(main=flipped(files.main[:100], rng) + files.main[100:])),
    "a bit of a page's head": (6, lambda files, rng: files._replace(main=_at_a_page(files.main, rng, 12))),
    "a bit of a page's table": (4, lambda files, rng: files._replace(main=_at_a_page(files.main, rng, 60))),
    "a bit of a word": (8, lambda files, rng: files._replace(main=_in_text(files.main, rng))),
    "a page of zeros": (3, lambda files, rng: files._replace(main=_zeroed(files.main, rng))),
    "two pages swapped": (2, lambda files, rng: files._replace(main=_swapped(files.main, rng))),
    "cut off": (3, lambda files, rng: files._replace(main=files.main[: rng.randrange(1, len(files.main))])),
    "rubbish behind": (1, lambda files, rng: files._replace(main=files.main + rubbish(rng, 9000))),
    "a log of rubbish": (1, lambda files, rng: files._replace(log=rubbish(rng, 9000))),
    "bits of the log": (3, lambda files, rng: files._replace(log=flipped(files.log or b"", rng, rng.choice((1, 9))))),
    "the log cut off": (1, lambda files, rng: files._replace(log=(files.log or b"")[: rng.randrange(9000)])),
    "another program's": (1, _of_another_program),
    "text": (1, lambda files, rng: Files(b"jobs:\n  a: {cmd: x}\n" * rng.randrange(1, 900), None)),
    "a newer one": (1, lambda files, rng: files._replace(main=_with_version(files.main, 99))),
    "an older one by its number": (
        1,
        lambda files, rng: files._replace(main=_with_version(files.main, rng.randrange(3))),
    ),
}


class Outcome(NamedTuple):
    code: int
    said: str


class DatabaseGround(Ground):
    def __init__(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.home = Path(tempfile.mkdtemp(prefix="procclaw-", dir=memory))
        self._environment = mock.patch.dict(os.environ, {"PROCCLAW_HOME": str(self.home)})
        self._environment.start()
        self._made = self._with_history()
        self._pages = len(self._made[0].main) // PAGE

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._environment.stop()
        shutil.rmtree(self.home)

    def _with_history(self) -> tuple[Files, ...]:
        """One database that was closed, and one as it lies there while it is open."""
        (self.home / "jobs.yaml").write_text(json.dumps({"jobs": JOBS, "workflows": WORKFLOWS}))
        for words in HISTORY:
            done = self._ask(words)
            assert done.code in (0, 1), f"{words}: {done}"
        store = Store(str(self.home / "procclaw.db"))
        for n in range(300):
            at = NOW + timedelta(minutes=n)
            store.record([a_run("succeeded", job_id="report", occasion=f"old:{n}", queued_at=at)])
        closed_first = self._on_disk()
        store.close()
        return (self._on_disk(), closed_first)

    def play(self, case: Case) -> None:
        files = case.rng.choice(self._made)
        names = [name for name, (weight, _) in CHANGES.items() for _ in range(weight)]
        change = case.rng.choice(names)
        case.say(change)
        case.meet(change)
        self._judge(case, CHANGES[change][1](files, case.rng))

    def _judge(self, case: Case, files: Files) -> None:
        self._put(files)
        for words in (*case.rng.sample(LOOKS, 2), case.rng.choice((*ACTS, DAEMON))):
            before = self._on_disk()
            with within(PATIENCE_SECONDS):
                done = self._ask(words)
            case.say(f"procclaw {' '.join(words)}: {done.code} {done.said[-1500:]}")
            case.meet(f"= {' '.join(words[:1])}: exit {done.code}")
            case.must(done.code != BUG and not TRACEBACK.search(done.said), "damage is taken for a bug")
            after = self._on_disk()
            is_look = words in LOOKS
            if done.code == 1 and "database" in done.said:
                case.meet("= refused")
                case.must(any(each in done.said for each in _REMEDIES), "it does not say what to do")
            # What lies behind the last page is no part of it.
            case.must(len(after.main) >= min(len(before.main), self._pages * PAGE) // PAGE * PAGE, "it has been cut")
            # An old schema is brought up to date by whoever opens it first.
            if is_look and before.log is None and "an older one by its number" not in case.met:
                case.must(after.main == before.main, "who only looks has written")
            written = sum(
                before.main[at : at + PAGE] != after.main[at : at + PAGE] for at in range(0, len(before.main), PAGE)
            )
            case.must(written <= MOST_PAGES_WRITTEN, f"{written} pages have been written anew")

    # --- the home ---

    def _put(self, files: Files) -> None:
        for path in self.home.glob("procclaw.db*"):
            path.unlink()
        for name in ("records", "work"):
            shutil.rmtree(self.home / name, ignore_errors=True)
        (self.home / "procclaw.db").write_bytes(files.main)
        if files.log is not None:
            (self.home / "procclaw.db-wal").write_bytes(files.log)

    def _on_disk(self) -> Files:
        log = self.home / "procclaw.db-wal"
        return Files((self.home / "procclaw.db").read_bytes(), log.read_bytes() if log.exists() else None)

    def _ask(self, words: tuple[str, ...]) -> Outcome:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = self._serve(out) if words == DAEMON else main(list(words))
        return Outcome(code, out.getvalue())

    def _serve(self, out: io.StringIO) -> int:
        with Home(str(self.home)) as home:
            try:
                controller = home.controller()
                home.store.check()
                home.store.keep_reserve()
                cycle = controller.cycle()
                if cycle.spec is not None:
                    controller.maintain(cycle.spec, cycle.now)
            except ProcclawError as error:
                out.write(f"procclaw: {error}")
                return error.exit_code
        return 0
