"""The selftest: every promise holds where the tests run, each check sees what breaks it, and nothing is left of any."""

import contextlib
import fcntl
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine import controller, selftest
from procclaw.engine.selftest import Finding, Verdict, diskfull, files, kernel, life, managers, roles, scratch
from procclaw.engine.selftest.bench import Bench, Broken, NotCheckable
from procclaw.engine.selftest.chaos import Chaos
from procclaw.engine.selftest.doom import DAEMON, NEVER, PASSES
from procclaw.engine.selftest.life import Promise
from procclaw.model.outside import Launch, Launched, Process, RecordPhase, Sight
from procclaw.model.spec import LogPolicy
from procclaw.planning import schedule
from procclaw.planning.plan import plans
from procclaw.system import watch
from procclaw.system.credentials.secretsfile import Kept, SecretsFile
from procclaw.system.homelock import Holder, HomeLock
from procclaw.system.output import Output
from procclaw.system.processes import Processes, records, shim, smalldisk, table
from procclaw.system.processes.spawning import Descriptors
from procclaw.system.store import Store
from tests.commandline import CommandLine
from tests.driver import ROOT, commands
from tests.support import PROC, Reaper, environment, wait_until

pytestmark = pytest.mark.real

WITHIN = 20.0
Check = Callable[[Bench], str]
Sabotage = Callable[[pytest.MonkeyPatch], None]


def processes_of(place: Path) -> list[str]:
    """What lives and was started for a home below that place."""
    pids = [int(path.name) for path in PROC.glob("[1-9]*")]
    below = f"PROCCLAW_HOME={place}/".encode()
    return [commands(pid) for pid in pids if any(each.startswith(below) for each in environment(pid))]


@pytest.fixture
def opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sabotage | None], Bench]]:
    """A bench as it is after a sabotage, which ends before the bench is closed; then nothing must be left of it."""
    benches: list[Bench] = []
    with monkeypatch.context() as changed:

        def open_bench(sabotage: Sabotage | None = None) -> Bench:
            if sabotage is not None:
                sabotage(changed)
            # What is sabotaged never comes; what is waited for in earnest takes a fraction of it.
            benches.append(Bench(str(home), roles.carry_out, patience_seconds=6.0 if sabotage else WITHIN))
            return benches[-1]

        yield open_bench
    for bench in benches:
        bench.close()
    assert list(home.iterdir()) == []
    assert processes_of(home) == []


def test_every_promise_holds_where_the_tests_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is not kept never comes; a machine that stands still for a moment breaks no promise.
    monkeypatch.setattr(kernel, "AT_ONCE_SECONDS", WITHIN)
    monkeypatch.setattr(files, "_NOTICED_SECONDS", WITHIN)
    progress: list[str] = []
    with scratch(str(home), is_chaos=False) as test:
        promises = test.promises()
        assert Path(test.place).parent == home
        findings = list(test.findings(progress.append))
    assert [finding for finding in findings if finding.verdict is Verdict.BROKEN] == []
    assert [finding.promise for finding in findings] == list(promises)
    assert all(finding.detail for finding in findings)
    assert progress == list(promises)
    assert list(home.iterdir()) == []
    assert processes_of(home) == []


# --- each check sees what breaks its promise ---


def no_marks(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(table.ProcTable, "mark", lambda self, row: None)


def lock_is_let_go(changed: pytest.MonkeyPatch) -> None:
    spawn = Processes._spawn

    def spawned(self: Processes, launch: Launch, record: int, descriptors: Descriptors) -> Launched:
        launched = spawn(self, launch, record, descriptors)
        fcntl.flock(record, fcntl.LOCK_UN)
        return launched

    changed.setattr(Processes, "_spawn", spawned)


def lock_stays_with_us(changed: pytest.MonkeyPatch) -> None:
    spawn = Processes._spawn

    def spawned(self: Processes, launch: Launch, record: int, descriptors: Descriptors) -> Launched:
        os.dup(record)
        return spawn(self, launch, record, descriptors)

    changed.setattr(Processes, "_spawn", spawned)


def handles_that_tell_nothing(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(Processes, "exit_handle", lambda self, pid, ticks: os.pipe()[0])


def codes_are_forgotten(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(shim, "SHIM", shim.SHIM.replace("procclaw_code=$?", "procclaw_code=0"))


def records_without_room(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(records, "_BLANK", b"")


def a_network_file_system(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(files, "network_file_system", lambda path: "NFS")


def replacing_in_place(changed: pytest.MonkeyPatch) -> None:
    def write(self: SecretsFile, kept: Kept) -> None:
        with open(self.path, "w") as file:
            file.write(str(kept))

    changed.setattr(SecretsFile, "write", write)


def modes_are_not_kept(changed: pytest.MonkeyPatch) -> None:
    write = SecretsFile.write

    def written(self: SecretsFile, kept: Kept) -> None:
        write(self, kept)
        os.chmod(self.path, 0o755)

    changed.setattr(SecretsFile, "write", written)


def open_secrets_are_read(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(SecretsFile, "_check", lambda self, found: None)


def commits_that_are_none(changed: pytest.MonkeyPatch) -> None:
    numbers = itertools.count(1)
    changed.setattr(Store, "add_intent", lambda self, intent: next(numbers) + os.getpid() * 10**9)


def rotation_by_emptying(changed: pytest.MonkeyPatch) -> None:
    def rotate(self: Output, file: str, policy: LogPolicy, *, is_in_use: bool) -> bool:
        path = os.path.join(self._directory, file)
        if os.path.getsize(path) < policy.max_bytes:
            return False
        shutil.copy(path, f"{path}.1")
        os.truncate(path, 0)
        return True

    changed.setattr(Output, "rotate", rotate)


def rotation_that_never_comes(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(files, "_ROTATE_SECONDS", 0.3)
    changed.setattr(Output, "rotate", lambda self, file, policy, is_in_use: False)


def files_nobody_looks_at(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(files, "_NOTICED_SECONDS", 0.5)
    changed.setattr(watch._Files, "have_changed", lambda self: False)


def requests_that_are_lost(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(files, "_NOTICED_SECONDS", 0.5)
    changed.setattr(files, "wake", lambda home: True)


def zones_without_clock_changes(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(kernel, "parse", lambda expressions, zone: schedule.parse(expressions, "UTC"))


def everybody_reconciles(changed: pytest.MonkeyPatch) -> None:
    """The home's lock keeps nobody from going on, and each has seen what there is before another has changed it."""

    def try_acquire(self: HomeLock, holder: Holder) -> bool:
        self._fd = os.open(os.devnull, os.O_RDONLY)
        return True

    all_have_looked = multiprocessing.get_context("fork").Barrier(managers._RECONCILERS)
    ours = os.getpid()
    waited: set[int] = set()

    def decide(*given: Any, **named: Any) -> Any:
        # Each copy of this process once: after that they go on as they like.
        if os.getpid() not in {ours, *waited}:
            waited.add(os.getpid())
            # One that found the database too busy is refused, and never comes.
            with contextlib.suppress(threading.BrokenBarrierError):
                all_have_looked.wait(2)
        return plans(*given, **named)

    changed.setattr(HomeLock, "try_acquire", try_acquire)
    changed.setattr(controller, "plans", decide)


@pytest.mark.parametrize(
    ("check", "sabotage", "told"),
    [
        (kernel.table_tells, no_marks, "an orphan of a job is found by its mark"),
        (kernel.lock_is_inherited, lock_is_let_go, "the lock is not held while its shim lives: lost"),
        (kernel.lock_is_inherited, lock_stays_with_us, "the lock is free once its shim was killed"),
        (kernel.ends_are_told, handles_that_tell_nothing, "nothing tells of its end"),
        (kernel.job_outlives_manager, lock_is_let_go, "did not go on: lost"),
        (kernel.job_outlives_manager, codes_are_forgotten, "exited with 7 .* is on record with 0"),
        (diskfull.exit_code_is_kept, records_without_room, "a record could be made although the disk is full"),
        (diskfull.exit_code_is_kept, codes_are_forgotten, "exited with 7 on a full disk is on record as exited, 0"),
        (files.is_local, a_network_file_system, "it is NFS"),
        (files.replacing_is_atomic, replacing_in_place, "missing, damaged or mixed"),
        (files.modes_are_kept, modes_are_not_kept, "a file made with mode 600 has mode 755"),
        (files.modes_are_kept, open_secrets_are_read, "a secrets file with mode 644 is read"),
        (files.database_is_durable, commits_that_are_none, r"of \d+ commits \d+ are lost"),
        (
            files.rotation_loses_nothing,
            rotation_by_emptying,
            r"line \d+ of \d+ is|bytes \d+ to \d+ are gone|lines \d+ are left",
        ),
        (files.rotation_loses_nothing, rotation_that_never_comes, "not rotated within"),
        (files.saving_is_noticed, files_nobody_looks_at, "not noticed within 0 s: a saved jobs.yaml"),
        (files.requests_wake, requests_that_are_lost, "not noticed within 0 s: a request"),
        (kernel.time_is_known, zones_without_clock_changes, "in New York after"),
        (
            managers.start_is_exactly_once,
            everybody_reconciles,
            "started more than once|at once ended with|each job has started",
        ),
        (managers.stop_leaves_nothing, no_marks, r"reported success and left \d of 5 processes"),
    ],
)
def test_a_check_sees_what_breaks_its_promise(
    opened: Callable[[Sabotage | None], Bench], check: Check, sabotage: Sabotage, told: str
) -> None:
    if check is diskfull.exit_code_is_kept:
        skip_without_small_disks(opened(None))
    with pytest.raises(Broken, match=told):
        check(opened(sabotage))


def skip_without_small_disks(bench: Bench) -> None:
    try:
        diskfull.exit_code_is_kept(bench)
    except NotCheckable as reason:
        pytest.skip(f"{reason}: nothing is proved about full disks")


# --- what cannot be checked, and what there is another way for ---


def no_small_disk(changed: pytest.MonkeyPatch) -> None:
    def mount(place: str, megabytes: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    changed.setattr(smalldisk, "mount", mount)


def writers_that_go_on(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(Output, "is_collapsible", lambda self, file: False)
    changed.setattr(files, "_can_hold_still", lambda log: False)


@pytest.mark.parametrize(
    ("check", "sabotage", "told"),
    [
        (diskfull.exit_code_is_kept, no_small_disk, "no small disk can be mounted to be filled: Operation not permit"),
        (files.rotation_loses_nothing, writers_that_go_on, "logs are rotated between two starts"),
    ],
)
def test_what_the_machine_does_not_let_us_find_out_is_said_to_be_so(
    opened: Callable[[Sabotage | None], Bench], check: Check, sabotage: Sabotage, told: str
) -> None:
    with pytest.raises(NotCheckable, match=told):
        check(opened(sabotage))


def no_collapsing(changed: pytest.MonkeyPatch) -> None:
    changed.setattr("procclaw.system.output.can_collapse", lambda files: False)
    changed.setattr("procclaw.system.output.rotation.can_collapse", lambda files: False)


def no_pidfds(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(Processes, "exit_handle", lambda self, pid, ticks: None)


def no_sockets(changed: pytest.MonkeyPatch) -> None:
    changed.setattr(watch, "_bind", lambda home: None)


@pytest.mark.parametrize(
    ("check", "sabotage", "told"),
    [
        (files.rotation_loses_nothing, no_collapsing, "copied, its writer held still"),
        (kernel.ends_are_told, no_pidfds, "looks every second instead"),
        (files.requests_wake, no_sockets, "no socket can be made here: the daemon looks every second instead"),
    ],
)
def test_what_is_kept_in_another_way_is_told_with_that_way(
    opened: Callable[[Sabotage | None], Bench], check: Check, sabotage: Sabotage, told: str
) -> None:
    assert told in check(opened(sabotage))


# --- chaos ---


def chaos(bench: Bench, *strides: tuple[str, int]) -> dict[str, Finding]:
    return {finding.promise: finding for finding in Chaos(bench, strides).findings(lambda _: None)}


def test_a_sample_of_deaths_breaks_no_promise(opened: Callable[[Sabotage | None], Bench]) -> None:
    found = chaos(opened(None), (DAEMON, 12), (PASSES, 24))
    assert [finding for finding in found.values() if finding.verdict is not Verdict.HOLDS] == []
    assert list(found) == list(Promise)
    [deaths] = re.findall(r"^(\d+) deaths, (\d+) of the daemon, (\d+) of", found[Promise.CONVERGES].detail)
    assert int(deaths[0]) == int(deaths[1]) + int(deaths[2])
    assert int(deaths[1]) >= 4
    assert int(deaths[2]) >= 2


def records_that_tell_nothing(changed: pytest.MonkeyPatch) -> None:
    """A manager that cannot tell by its record that an attempt was started starts it again."""
    changed.setattr(records.Records, "sight", lambda self, record: Sight(RecordPhase.BLANK))
    changed.setattr(records.Records, "claim", lambda self, record: os.open(self._path(record), os.O_RDWR))


def managers_that_begin_afresh(changed: pytest.MonkeyPatch) -> None:
    manage = roles._ROLES["manage"]

    def managed(path: str, kind: str, die_after: str) -> int:
        for job_id, _, _, pid in managers.noted(path):
            if job_id == "keeps":
                os.kill(pid, signal.SIGKILL)
        return manage(path, kind, die_after)

    changed.setitem(roles._ROLES, "manage", managed)


def strangers_that_end(changed: pytest.MonkeyPatch) -> None:
    begin = Chaos._stranger

    def stranger(self: Chaos) -> Process:
        begun = begin(self)
        os.kill(begun.pid, signal.SIGKILL)
        wait_until(lambda: not self._is_alive(begun), WITHIN, lambda: commands(begun.pid))
        return begun

    changed.setattr(Chaos, "_stranger", stranger)


def managers_that_never_come_back(changed: pytest.MonkeyPatch) -> None:
    manage = roles._ROLES["manage"]

    def managed(path: str, kind: str, die_after: str) -> int:
        if die_after == str(NEVER):
            signal.pause()
        return manage(path, kind, die_after)

    changed.setitem(roles._ROLES, "manage", managed)


@pytest.mark.parametrize(
    ("sabotage", "promise", "told"),
    [
        (records_that_tell_nothing, Promise.STARTS, r"was started \d times|decided, .* started"),
        (codes_are_forgotten, Promise.CODES, r"ends: exit codes \[0\], not \[7\]"),
        (no_marks, Promise.STOPS, r"left \d+ processes|processes are left"),
        (managers_that_begin_afresh, Promise.KEEPS, r"a service with pid \[\d+\] has pid \[\d+, \d+\]"),
        (strangers_that_end, Promise.STRANGERS, "a process that is no job's was ended"),
        (managers_that_never_come_back, Promise.CONVERGES, r"daemon killed after effect 0 \(nothing\): not within 6 s"),
    ],
)
def test_chaos_sees_what_breaks_a_promise(
    opened: Callable[[Sabotage | None], Bench],
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Sabotage,
    promise: Promise,
    told: str,
) -> None:
    monkeypatch.setattr(life, "_STEP_SECONDS", 6.0)
    found = chaos(opened(sabotage), (DAEMON, 25))
    assert found[promise].verdict is Verdict.BROKEN
    assert re.search(told, found[promise].detail), found


def test_a_manager_that_ends_by_itself_is_told(opened: Callable[[Sabotage | None], Bench]) -> None:
    def sabotage(changed: pytest.MonkeyPatch) -> None:
        changed.setattr("procclaw.engine.daemon.Daemon.run", lambda self: 1)

    found = chaos(opened(sabotage), (DAEMON, 60))
    assert "nobody killed: a manager ended by itself: 1" in found[Promise.CONVERGES].detail


# --- the command ---


def pretend(monkeypatch: pytest.MonkeyPatch, **verdicts: Exception | str) -> None:
    """Checks by these names, each of which comes to that."""

    def check(outcome: Exception | str) -> Check:
        def checked(bench: Bench) -> str:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return checked

    checks = tuple(selftest._Check(name.replace("_", " "), check(outcome)) for name, outcome in verdicts.items())
    monkeypatch.setattr(selftest, "_CHECKS", checks)


def test_a_broken_promise_is_exit_code_1_and_the_others_are_told_all_the_same(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, one=Broken("it\tis not so"), two="in 3 ms", three=NotCheckable("no rights"))
    answer = cli("selftest")
    assert answer.code == 1
    assert answer.out == "broken\tone\tit\\x09is not so\nholds\ttwo\tin 3 ms\nnot checkable\tthree\tno rights\n"
    assert answer.err == ""
    assert list(home.iterdir()) == []


def test_what_the_system_refuses_breaks_a_promise_and_is_told(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, one=OSError(28, "No space left on device", "/somewhere"))
    assert cli("selftest").out == "broken\tone\t/somewhere: No space left on device\n"


def test_what_cannot_be_checked_is_no_failure(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, one="in 3 ms", two=NotCheckable("no rights"))
    assert cli("selftest").code == 0


def test_the_promises_as_json(cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, one="in 3 ms", two=NotCheckable("no rights"), three=Broken("oh"))
    answer = cli("selftest", "--json")
    assert answer.code == 1
    told: dict[str, Any] = answer.json
    assert [(each["promise"], each["verdict"], each["detail"]) for each in told["promises"]] == [
        ("one", "holds", "in 3 ms"),
        ("two", "not_checkable", "no rights"),
        ("three", "broken", "oh"),
    ]
    assert told["broken"] == 1
    assert told["python"] == sys.version.split()[0]
    assert told["place"].startswith(f"{home}/")
    assert told["seconds"] > 0


def test_on_a_terminal_there_is_a_table_with_a_sum_below(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, one="in 3 ms", the_other=Broken("oh"))
    lines = cli.on_terminal("selftest", columns=150).out.splitlines()
    assert re.fullmatch(r"ProcClaw v\S+, Python \S+, \S+ \S+, in /\S+", lines[0])
    assert lines[1:3] == ["holds          one        in 3 ms", "broken         the other  oh"]
    assert re.fullmatch(r"1 hold, 1 broken, in \S+", lines[3])
    narrow = cli.on_terminal("selftest", columns=60).out.splitlines()
    assert narrow[1:5] == [
        "holds          one",
        "               in 3 ms",
        "broken         the other",
        "               oh",
    ]


def test_a_home_that_is_to_be_is_tested_where_it_would_lie(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, one="well")
    place = cli("selftest", "--json", "--home", str(home / "not" / "there" / "yet")).json["place"]
    assert Path(place).parent == home
    assert list(home.iterdir()) == []


def test_a_place_that_is_no_directory_is_refused(cli: CommandLine, home: Path) -> None:
    (home / "file").touch()
    answer = cli("selftest", "--home", str(home / "file"))
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f'procclaw: home "{home}/file" is not a directory\n'


def test_a_place_that_cannot_be_written_to_is_refused(cli: CommandLine) -> None:
    answer = cli("selftest", "--home", "/proc/nowhere")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith('procclaw: no scratch home can be made in "/proc": ')


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_in_the_middle_of_chaos_leaves_nothing(
    home: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    # Straight to the chaos.
    text = (
        "import sys; from procclaw.engine import selftest; selftest._CHECKS = ()\n"
        "from procclaw.interface.cli import main; sys.exit(main(['selftest', '--chaos']))"
    )
    running = reaper.spawn([sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Managers, jobs and their children are all about by then.
    wait_until(lambda: len(processes_of(home)) >= 20 or running.poll() is not None, WITHIN, lambda: processes_of(home))
    running.send_signal(signum)
    out, err = running.communicate(timeout=WITHIN)
    assert (running.returncode, out, err) == (130, b"", b"")
    assert list(home.iterdir()) == []
    assert processes_of(home) == []


def test_a_second_interruption_does_not_keep_it_from_putting_things_away(home: Path, reaper: Reaper) -> None:
    text = (
        "import sys; from procclaw.engine import selftest; selftest._CHECKS = ()\n"
        "from procclaw.interface.cli import main; sys.exit(main(['selftest', '--chaos']))"
    )
    running = reaper.spawn([sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: len(processes_of(home)) >= 20 or running.poll() is not None, WITHIN, lambda: processes_of(home))
    while running.poll() is None:
        running.send_signal(signal.SIGINT)
        time.sleep(0.05)
    running.communicate()
    assert list(home.iterdir()) == []
    assert processes_of(home) == []
