"""Real processes: started once, seen to their end, ended whole; and nothing else touched."""

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

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
from procclaw.model.records import Attempt
from procclaw.system.processes import (
    MARK,
    CommandResult,
    Processes,
    SignalBytes,
    detach,
    first_program,
    freezing,
    frozen_writers,
    records,
    run_command,
    shell_argv,
    shim,
    signals,
    table,
)
from procclaw.system.processes.members import Sought, find_members
from procclaw.system.processes.records import SIZE, Records, parse
from procclaw.system.processes.spawning import Descriptors, spawn
from procclaw.system.processes.table import ProcTable, PsTable, Row
from tests.contract_processes import MARK as FIRST_MARK
from tests.contract_processes import OTHER_MARK, Behaviour, ProcessesContract, an_attempt
from tests.driver import mark_of
from tests.realmachine import ENDINGS, ENV, SHELLS, WITHIN, Machine, eventually, shell_of_shims
from tests.support import STAY, Reaper, wait_until

pytestmark = pytest.mark.real


@pytest.fixture
def machine(home: Path) -> Machine:
    return Machine(home)


@pytest.fixture(params=SHELLS)
def any_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with shell_of_shims(request.param, monkeypatch):
        yield request.param


class RealBench:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.processes = machine.processes

    def launch(self, record: str, behaviour: Behaviour) -> Launch:
        text = "setsid sleep 600 >/dev/null 2>&1 & " if behaviour.leaves_behind else ""
        text += "trap '' TERM; " if behaviour.ignores_term else ""
        text += "echo up; "
        text += "exec sleep 600" if behaviour.exit_code is None else f"exit {behaviour.exit_code}"
        cwd = "/" if behaviour.cwd_exists else "/nowhere at all"
        return self._machine.launch_of(record, "/bin/sh", "-c", text, cwd=cwd)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        eventually(condition)

    def wait_until_up(self, attempt: Attempt) -> None:
        self._machine.wait_for(attempt, "up\n")

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)


class TestRealProcesses(ProcessesContract):
    @pytest.fixture
    def bench(self, machine: Machine) -> RealBench:
        return RealBench(machine)


# How a job ends, under every shell


def test_the_recorded_code_is_what_a_shell_reports(machine: Machine, any_shell: str) -> None:
    attempts = {text: machine.start(text, number=number) for number, text in enumerate(ENDINGS, 1)}
    ends = {text: machine.end(attempt) for text, attempt in attempts.items()}
    assert {text: sight.exit_code for text, sight in ends.items()} == ENDINGS
    assert {sight.phase for sight in ends.values()} == {RecordPhase.EXITED}


@pytest.mark.parametrize(("argv", "code"), [(("no-such-command",), 127), (("/etc/passwd",), 126), (("/",), 126)])
def test_a_command_that_cannot_be_run_has_its_shells_code_and_says_why_in_its_error_log(
    machine: Machine, any_shell: str, argv: tuple[str, ...], code: int
) -> None:
    attempt = machine.start_argv(*argv)
    assert machine.end(attempt).exit_code == code
    assert argv[0] in machine.error_log(attempt)


def test_a_job_has_the_default_signals_and_nothing_blocked(machine: Machine, any_shell: str) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})
    try:
        attempt = machine.start_argv("grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status")
        machine.end(attempt)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGCHLD})
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGPIPE, before[1])
    told = dict(line.split(":\t") for line in machine.log(attempt).splitlines())
    ours = sum(1 << (number - 1) for number in signal.valid_signals())
    assert int(told["SigBlk"], 16) == 0
    # 32 and 33 are the C library's own: nobody can set them.
    assert int(told["SigIgn"], 16) & ours == 0


def test_a_job_has_no_descriptors_but_its_three(machine: Machine, any_shell: str) -> None:
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    try:
        processes = Processes(str(machine.home))
        machine.processes = processes
        attempt = machine.start_argv(sys.executable, "-I", "-S", "-c", LIST_DESCRIPTORS)
        machine.end(attempt)
    finally:
        os.close(stray)
    assert machine.log(attempt).split() == ["0", "/dev/null", "1", str(log_path(machine, attempt)), "2"]


LIST_DESCRIPTORS = """
import os
for fd in range(1000):
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    print(fd, name if fd < 2 else "")
"""


def log_path(machine: Machine, attempt: Attempt) -> Path:
    return machine.home / "logs" / f"{attempt.record}.log"


def test_a_jobs_environment_is_the_one_given_and_its_mark(machine: Machine, any_shell: str) -> None:
    attempt = machine.start_argv("env", env={"COLOUR": "blue and green", "procclaw_code": "7"})
    machine.end(attempt)
    told = dict(line.split("=", 1) for line in machine.log(attempt).splitlines())
    # What shells add of themselves.
    for name in ("PWD", "SHLVL", "_"):
        told.pop(name, None)
    given = dict(ENV) | {"PROCCLAW_HOME": str(machine.home), "COLOUR": "blue and green", MARK: FIRST_MARK}
    assert told.pop("procclaw_code") in ("0", "7")
    assert told == given


def test_a_job_runs_where_it_was_told_to(machine: Machine, any_shell: str, tmp_path: Path) -> None:
    directory = tmp_path / "-a place with $HOME in it"
    directory.mkdir()
    attempt = machine.start_argv("pwd", cwd=str(directory), env={"CDPATH": "/usr:/etc"})
    assert machine.end(attempt).exit_code == 0
    assert machine.log(attempt) == f"{directory}\n"


def test_a_missing_directory_is_named_in_the_error_log(machine: Machine, any_shell: str) -> None:
    attempt = machine.start_argv("pwd", cwd="/no/such/place")
    sight = machine.end(attempt)
    assert (sight.phase, sight.pid, sight.exit_code) == (RecordPhase.FAILED_CWD, attempt.pid, None)
    assert "/no/such/place" in machine.error_log(attempt)


def test_the_shells_own_remarks_stay_out_of_the_logs(machine: Machine, any_shell: str) -> None:
    attempt = machine.start_argv("/bin/sh", "-c", "kill -KILL $$")
    assert machine.end(attempt).exit_code == 137
    assert (machine.log(attempt), machine.error_log(attempt)) == ("", "")


def test_cpu_time_counts_what_the_job_waited_for(machine: Machine, any_shell: str) -> None:
    attempt = machine.start("sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'")
    spent = machine.end(attempt).cpu_seconds
    assert spent is not None
    assert 0.02 < spent < 20


def test_a_shell_told_to_stop_at_errors_still_records(machine: Machine, any_shell: str) -> None:
    attempt = machine.start_argv("/bin/sh", "-c", "exit 6", env={"SHELLOPTS": "errexit"})
    assert machine.end(attempt).exit_code == 6


def test_a_signal_right_after_the_start_is_never_lost(
    machine: Machine, any_shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a busy machine keeps a process from its turn between its fork and its own handlers.
    monkeypatch.setattr(signals, "_START_SECONDS", WITHIN)
    attempts = []
    for number in range(1, 41):
        attempt = machine.start_argv("sleep", "600", number=number)
        # A little later each time, so that it meets the shim at every line.
        until = time.perf_counter() + number * 0.0001
        while time.perf_counter() < until:
            pass
        machine.processes.signal_attempt(attempt, (), signal.SIGTERM)
        attempts.append(attempt)
    # Before it could set its traps it dies blank, and the job was never started; after that, the job is told.
    ends = {(sight.phase, sight.exit_code) for sight in map(machine.end, attempts)}
    assert ends <= {(RecordPhase.BLANK, None), (RecordPhase.EXITED, 143)}


def test_a_signal_between_the_traps_and_the_job_ends_the_job(any_shell: str, tmp_path: Path) -> None:
    program = shim.SHIM.replace("shift 3\n", "shift 3\nkill -TERM $$\n")
    record, ran = tmp_path / "record", tmp_path / "ran"
    argv = [shim.SHELL, "-c", program, shim.NAME, "/", "", "0022", "touch", str(ran)]
    with Descriptors() as descriptors:
        written = descriptors.keep(os.open(record, os.O_WRONLY | os.O_CREAT))
        os.waitpid(spawn(argv, dict(ENV), {shim.RECORD_FD: written}), 0)
    assert parse(record.read_bytes()).exit_code == 143
    assert not ran.exists()


# Starting, at most once


def test_of_many_who_launch_one_record_at_once_one_does(machine: Machine) -> None:
    rivals = [Processes(str(machine.home)) for _ in range(4)]
    for number in range(1, 21):
        record = an_attempt(machine.processes, number=number).record
        machine.processes.create_record(record)
        barrier = threading.Barrier(len(rivals))
        outcomes: list[object] = []

        def race(rival: Processes) -> None:
            barrier.wait()  # noqa: B023
            launch = machine.launch_of(record, "/bin/sh", "-c", "echo once")  # noqa: B023
            outcomes.append(rival.launch(launch))  # noqa: B023

        threads = [threading.Thread(target=race, args=(rival,)) for rival in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(outcome, Launched) for outcome in outcomes) == 1
        assert outcomes.count(LaunchUndecided()) == len(rivals) - 1
        attempt = an_attempt(machine.processes, number=number)
        assert machine.end(attempt).exit_code == 0
        assert machine.log(attempt) == "once\n"


def test_looking_at_a_record_does_not_keep_it_from_being_started(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever looks may be put off by a busy machine in the midst of it, and longer than a manager tries.
    monkeypatch.setattr(records, "_LOCK_TRIES", 10_000)
    names = [an_attempt(machine.processes, number=number).record for number in range(1, 31)]
    for record in names:
        machine.processes.create_record(record)
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            for record in names:
                machine.processes.sight(record)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        outcomes = [machine.processes.launch(machine.launch_of(record, "sleep", "600")) for record in names]
    finally:
        is_over.set()
        looking.join()
    assert all(isinstance(outcome, Launched) for outcome in outcomes)


DIES_INSTEAD_OF_SPAWNING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from procclaw.model.outside import Launch
from procclaw.system.processes import Processes
os.posix_spawn = lambda *given, **more: os.kill(os.getpid(), 9)
Processes(sys.argv[2]).launch(Launch(sys.argv[3], ("sleep", "600"), "/", (), sys.argv[4], sys.argv[4], False))
"""

DIES_AFTER_SPAWNING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from procclaw.model.outside import Launch
from procclaw.system.processes import Processes
env = (("PROCCLAW_HOME", sys.argv[2]), ("PATH", "/usr/bin:/bin"))
Processes(sys.argv[2]).launch(Launch(sys.argv[3], ("sleep", "600"), "/", env, sys.argv[4], sys.argv[4], False))
os.kill(os.getpid(), 9)
"""


def run_doomed(machine: Machine, program: str, record: str) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    argv = [sys.executable, "-c", program, root, str(machine.home), record, str(machine.home / "log")]
    assert subprocess.run(argv, timeout=30).returncode == -signal.SIGKILL


def test_the_job_itself_has_a_pid_too(machine: Machine, any_shell: str) -> None:
    attempt = machine.start("echo $$ up; exec sleep 600")
    machine.wait_for(attempt, "up")
    assert machine.processes.sight(attempt.record).job_pid == int(machine.log(attempt).split()[0])
    assert machine.pids(attempt) == {machine.processes.sight(attempt.record).job_pid}


def test_what_was_started_for_homes_within_a_folder_is_found_whatever_became_of_its_attempt(machine: Machine) -> None:
    home, below, beside = machine.home, machine.home / "below", machine.home.with_name(f"{machine.home.name}2")
    attempts = {
        place: machine.start_argv("env", f"PROCCLAW_HOME={place}", "sleep", "600", number=number)
        for number, place in enumerate((home, below, beside), 1)
    }
    shims = {attempts[home].pid, attempts[below].pid}
    # The shim's own home is that of the machine; the job's is what it was given.
    jobs = {place: eventually_job(machine, attempt) for place, attempt in attempts.items()}
    found = {process.pid for process in machine.processes.started_within(str(home))}
    assert {jobs[home], jobs[below], *shims} <= found
    assert jobs[beside] not in found
    assert {process.pid for process in machine.processes.started_within(str(below))} == {jobs[below]}


def test_whoever_gets_a_number_while_environments_are_read_is_not_taken_for_what_had_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = machine.start("exec sleep 600")
    job = eventually_job(machine, attempt)
    ticks = machine.processes.start_ticks(job)
    looked_at: list[int] = []
    row_of = ProcTable.row

    def row(self: ProcTable, pid: int) -> Row | None:
        """After its environment was read, somebody else has the number."""
        found = row_of(self, pid)
        return found and found._replace(start_ticks=found.start_ticks + (pid in looked_at))

    def noting(path: str, mode: str = "r") -> IO[Any]:
        if path.endswith("/environ"):
            looked_at.append(int(path.split("/")[2]))
        return open(path, mode)

    monkeypatch.setattr(ProcTable, "row", row)
    monkeypatch.setattr(table, "open", noting, raising=False)
    found = {process.pid: process.start_ticks for process in machine.processes.started_within(str(machine.home))}
    assert job in looked_at
    assert found[job] == ticks


def eventually_job(machine: Machine, attempt: Attempt) -> int:
    """The pid of the attempt's job, once it has become what it was told to be."""
    eventually(lambda: {process.command for process in machine.members(attempt)} == {"sleep"})
    [process] = machine.members(attempt)
    # On the way it has its new name a moment before it has its environment.
    eventually(lambda: mark_of(process.pid) is not None)
    return process.pid


def test_a_manager_killed_between_lock_and_spawn_leaves_a_blank_record(machine: Machine) -> None:
    attempt = an_attempt(machine.processes)
    machine.processes.create_record(attempt.record)
    run_doomed(machine, DIES_INSTEAD_OF_SPAWNING, attempt.record)
    assert machine.processes.sight(attempt.record) == Sight(RecordPhase.BLANK)
    assert isinstance(machine.processes.launch(machine.launch_of(attempt.record, "sleep", "600")), Launched)


def test_a_manager_killed_right_after_the_spawn_leaves_an_attempt_that_others_adopt(machine: Machine) -> None:
    attempt = an_attempt(machine.processes)
    machine.processes.create_record(attempt.record)
    run_doomed(machine, DIES_AFTER_SPAWNING, attempt.record)
    assert machine.processes.launch(machine.launch_of(attempt.record, "sleep", "600")) == LaunchUndecided()
    # Until it has told of the job, the shim's own process for it may still have the shim's handlers.
    eventually(lambda: machine.processes.sight(attempt.record).job_pid is not None)
    pid = machine.processes.sight(attempt.record).pid or 0
    eventually(lambda: len(machine.members(attempt)) == 1)
    adopted = attempt._replace(pid=pid, start_ticks=machine.processes.start_ticks(pid))
    handle = machine.processes.exit_handle(pid, adopted.start_ticks or 0)
    assert handle is not None
    assert machine.stop(adopted).exit_code == 143
    os.close(handle)


def test_no_descriptor_is_left_open_whether_it_starts_or_not(machine: Machine) -> None:
    open_before = sorted(os.listdir("/dev/fd"))
    attempt = machine.start("exit 0")
    machine.end(attempt)
    machine.processes.launch(machine.launch_of(attempt.record, "sleep", "600"))
    refused = an_attempt(machine.processes, number=2).record
    machine.processes.create_record(refused)
    assert isinstance(machine.processes.launch(machine.launch_of(refused, "x" * 200_000)), LaunchRefused)
    machine.members(attempt)
    assert sorted(os.listdir("/dev/fd")) == open_before


def test_what_cannot_be_passed_to_a_process_is_the_jobs_fault_and_leaves_the_record_blank(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    too_long = machine.processes.launch(machine.launch_of(record, "echo", "x" * 200_000))
    assert too_long == LaunchRefused(
        Reason.NOT_STARTED, "the command and its environment are larger than the system passes to a process", False
    )
    for launch in (machine.launch_of(record, "echo", "a\0b"), machine.launch_of(record, "echo", env={"A=B": "c"})):
        refused = machine.processes.launch(launch)
        assert isinstance(refused, LaunchRefused)
        assert (refused.reason, refused.is_ours) == (Reason.NOT_STARTED, False)
    assert machine.processes.sight(record) == Sight(RecordPhase.BLANK)


def test_a_log_that_cannot_be_opened_is_named(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    launch = machine.launch_of(record, "echo")
    os.makedirs(launch.stdout)
    refused = machine.processes.launch(launch)
    assert refused == LaunchRefused(Reason.NOT_STARTED, f"{launch.stdout}: Is a directory", is_ours=False)


def test_running_out_of_descriptors_is_our_lack(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/dev/fd"))
    try:
        # Room for the record, not for the logs.
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, highest + 2), hard))
        fill = [os.open("/dev/null", os.O_RDONLY)]
        with contextlib.suppress(OSError):
            while True:
                fill.append(os.open("/dev/null", os.O_RDONLY))
        os.close(fill.pop())
        refused = machine.processes.launch(machine.launch_of(record, "echo"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fill:
            os.close(fd)
    assert isinstance(refused, LaunchRefused)
    assert (refused.reason, refused.is_ours) == (Reason.NO_RESOURCES, True)
    assert machine.processes.sight(record) == Sight(RecordPhase.BLANK)


def test_a_job_keeps_the_descriptor_limit_from_before_ours_was_raised(machine: Machine, any_shell: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        machine.processes = Processes(str(machine.home))
        raised = machine.processes.raise_descriptor_limit()
        assert raised == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300
        attempt = machine.start("ulimit -Sn; ulimit -Hn")
        machine.end(attempt)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert machine.log(attempt) == f"300\n{hard}\n"


def test_logs_are_appended_to_and_private(machine: Machine) -> None:
    attempt = machine.start("echo out; echo err >&2")
    machine.end(attempt)
    log = log_path(machine, attempt)
    record = an_attempt(machine.processes, number=2).record
    machine.processes.create_record(record)
    again = machine.launch_of(record, "echo", "more")._replace(stdout=str(log))
    machine.processes.launch(again)
    eventually(lambda: machine.log(attempt) == "out\nmore\n")
    assert machine.error_log(attempt) == "err\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert (machine.home / "records" / record).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("cmd", "argv"),
    [
        ("sleep 5", ("sleep", "5")),
        (
            "  python3 -m http.server --bind=127.0.0.1 8000\n",
            ("python3", "-m", "http.server", "--bind=127.0.0.1", "8000"),
        ),
        ("/usr/bin/env FOO=bar x", ("/usr/bin/env", "FOO=bar", "x")),
        ("./run a,b @c +d 50%", ("./run", "a,b", "@c", "+d", "50%")),
        *(
            (cmd, ("/bin/sh", "-c", cmd))
            for cmd in ("", "echo hi", "FOO=bar x", "a; b", "a | b", "a > b", "a && b", "$X")
        ),
        *(
            (cmd, ("/bin/sh", "-c", cmd))
            for cmd in ("ls *", "ls ~", "a 'b c'", "a\nb", "-x", ". ./env", "[ -e x ]", "a #b")
        ),
        *(
            (cmd, ("/bin/sh", "-c", cmd))
            for cmd in ("cd /tmp", "exec a", "time a", "if", "a\\ b", "{ a", "! a", "%1", "trap")
        ),
    ],
)
def test_a_shell_is_spared_only_where_it_would_add_nothing(cmd: str, argv: tuple[str, ...]) -> None:
    assert shell_argv(cmd) == argv


@pytest.mark.parametrize(
    ("cmd", "program"),
    [
        ("restic backup /", "restic"),
        ("  ./run.sh", "./run.sh"),
        ("A=1 B=x restic", "restic"),
        ("exec restic", "restic"),
        ("restic | gzip >x", "restic"),
        ("restic; true", "restic"),
        ("/opt/a-b_c.1/x&", "/opt/a-b_c.1/x"),
        ("PATH=/x:$PATH restic", None),
        ("cd /x && restic", None),
        ("if true; then restic; fi", None),
        ("$RESTIC backup", None),
        ("~/bin/restic", None),
        ('"/opt/my app/x"', None),
        ("'restic'", None),
        ("(restic)", None),
        ("A='1 2' restic", None),
        ("restic() { :; }", None),
        ("# a comment\nrestic", None),
        ("", None),
    ],
)
def test_the_program_that_shell_text_begins_with(cmd: str, program: str | None) -> None:
    assert first_program(cmd) == program


# Records


@pytest.mark.parametrize(
    ("contents", "wanted"),
    [
        (b"", Sight(RecordPhase.BLANK)),
        (b" " * 128, Sight(RecordPhase.BLANK)),
        (b"\0" * 128, Sight(RecordPhase.BLANK)),
        (b"4711      \n", Sight(RecordPhase.LOST, 4711)),
        (b"4711", Sight(RecordPhase.LOST)),
        (b"4711      \n04", Sight(RecordPhase.LOST, 4711)),
        (b"4711      \nxyz\n", Sight(RecordPhase.LOST, 4711)),
        (b"garbage\n000\n", Sight(RecordPhase.LOST)),
        (b"-1        \n000\n", Sight(RecordPhase.LOST)),
        (b"0         \n000\n", Sight(RecordPhase.LOST)),
        (b"1         \n000\n", Sight(RecordPhase.LOST)),
        (b"99999999999\n000\n", Sight(RecordPhase.LOST)),
        (b"\xff\xfe\x00", Sight(RecordPhase.LOST)),
        (b"4711      \n042\n", Sight(RecordPhase.EXITED, 4711, exit_code=42)),
        (b"4711      \n042\n0m0.1s 0m0.1s\n0m1.", Sight(RecordPhase.EXITED, 4711, exit_code=42)),
        (b"4711      \n042\nnonsense\nmore\n", Sight(RecordPhase.EXITED, 4711, exit_code=42)),
        (
            b"4711      \n042\n0m0.1s 0m0.1s\n1m1.25s 0m2.5s\n",
            Sight(RecordPhase.EXITED, 4711, exit_code=42, cpu_seconds=63.75),
        ),
        (
            b"4711      \n042\n0m0,1s 0m0,1s\n0m1,25s 0m2,5s\n",
            Sight(RecordPhase.EXITED, 4711, exit_code=42, cpu_seconds=3.75),
        ),
        (b"4711      \n042\n0m0s 0m0s\n0m1s 0m2s\n", Sight(RecordPhase.EXITED, 4711, exit_code=42, cpu_seconds=3.0)),
        (b"4711      \ncwd\n", Sight(RecordPhase.FAILED_CWD, 4711)),
        (b"4711\n042\n", Sight(RecordPhase.EXITED, 4711, exit_code=42)),
        (b"4711\njob 4712\n042\n", Sight(RecordPhase.EXITED, 4711, exit_code=42)),
        (b"4711\njob 4712\n", Sight(RecordPhase.LOST, 4711)),
        (b"4711\njob *\n", Sight(RecordPhase.LOST, 4711)),
        # ksh93 and yash count signals from elsewhere.
        (b"4711      \n271\n", Sight(RecordPhase.EXITED, 4711, exit_code=143)),
        (b"4711      \n399\n", Sight(RecordPhase.EXITED, 4711, exit_code=143)),
    ],
)
def test_a_record_is_believed_as_far_as_it_proves_something(tmp_path: Path, contents: bytes, wanted: Sight) -> None:
    (tmp_path / "a.b.1.c").write_bytes(contents.ljust(128) if contents else b"")
    seen = Records(str(tmp_path)).sight("a.b.1.c")
    assert seen._replace(exited_at=None) == wanted
    has_ended = wanted.phase in {RecordPhase.EXITED, RecordPhase.FAILED_CWD}
    assert (seen.exited_at is not None) == has_ended


def test_a_code_whose_record_is_still_held_is_an_ending_that_drains(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    with open(machine.home / "records" / record, "r+b", buffering=0) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert machine.processes.sight(record) == Sight(RecordPhase.LOCKED)
        held.write(b"4711      \n")
        assert machine.processes.sight(record) == Sight(RecordPhase.LOCKED, 4711)
        held.write(b"042\n")
        assert machine.processes.sight(record) == Sight(RecordPhase.LOCKED, 4711)
        held.write(b"0m0.0s 0m0.0s\n0m0.5s 0m0.0s\n")
        seen = machine.processes.sight(record)
        assert (seen.phase, seen.exit_code, seen.cpu_seconds, seen.is_draining) == (RecordPhase.EXITED, 42, 0.5, True)
    assert not machine.processes.sight(record).is_draining


def test_what_is_no_record_is_not_listed(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    (machine.home / "records" / "newest").write_text("1")
    (machine.home / "records" / ".swp").write_text("1")
    assert machine.processes.records() == (record,)


def test_the_moment_of_exit_is_the_one_it_happened_at(machine: Machine) -> None:
    go = machine.home / "go"
    attempt = machine.start(f"echo up; while [ ! -e {go} ]; do sleep 0.02; done")
    machine.wait_for(attempt, "up")
    earliest = time.time()
    go.touch()
    exited_at = machine.end(attempt).exited_at
    assert exited_at is not None
    # The kernel stamps files with the time of its last tick.
    assert earliest - 0.02 <= exited_at.timestamp() <= time.time()


@pytest.fixture
def full_disk(home: Path, reaper: Reaper) -> Iterator[Path]:
    """A tiny file system of its own below the home; `fill` it to the last byte."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    place = home / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=64,mode=0700", "procclaw-test", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        reaper.end()
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    with open(place / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"x" * 512)


def test_a_full_disk_loses_no_exit_code(full_disk: Path, tmp_path: Path, any_shell: str) -> None:
    machine = Machine(full_disk)
    go = tmp_path / "go"
    text = f"while [ ! -e {go} ]; do sleep 0.02; done; exit "
    attempts = [machine.start(text + str(40 + number), number=number) for number in range(1, 4)]
    fill(full_disk)
    refused = an_attempt(machine.processes, number=9).record
    with pytest.raises(DiskFull, match=refused.replace(".", r"\.")):
        machine.processes.create_record(refused)
    assert refused not in machine.processes.records()
    go.touch()
    assert [machine.end(attempt).exit_code for attempt in attempts] == [41, 42, 43]


def test_a_full_disk_that_leaves_no_room_for_a_log_is_our_lack(full_disk: Path) -> None:
    machine = Machine(full_disk)
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    # No more files at all: the inodes are used up.
    with contextlib.suppress(OSError):
        for number in range(100):
            (full_disk / f"n{number}").touch()
    refused = machine.processes.launch(machine.launch_of(record, "echo"))
    assert isinstance(refused, LaunchRefused)
    assert (refused.reason, refused.is_ours) == (Reason.NO_DISK, True)
    assert machine.processes.sight(record) == Sight(RecordPhase.BLANK)


# What belongs to an attempt, and its end

TREES = {
    "plain": "echo up; exec sleep 600",
    "pipeline": "{ echo up; sleep 600; } | cat | cat",
    "ignores TERM": "trap '' TERM; echo up; exec sleep 600",
    "ignores everything": "trap '' HUP INT QUIT TERM USR1 USR2; sleep 600 & echo up; wait; exec sleep 600",
    "in the background": "sleep 600 & sleep 600 & echo up; wait",
    "session of its own": "setsid sleep 600 & setsid -f sleep 600; echo up; wait",
    "double fork, own session, ignores TERM": "(trap '' TERM; setsid sh -c 'sleep 600 & sleep 600') & echo up; wait",
    "without environment": "env -i sleep 600 & echo up; wait",
    "own session without environment": "env -i setsid sleep 600 & echo up; wait",
    "stopped": "sleep 600 & kill -STOP $!; echo up; kill -STOP $$",
}


@pytest.mark.parametrize("text", TREES.values(), ids=TREES)
def test_a_stop_leaves_nothing_of_the_tree(machine: Machine, reaper: Reaper, text: str) -> None:
    attempt = machine.start(text)
    machine.wait_for(attempt, "up")
    before = machine.members(attempt)
    for member in before:
        reaper.adopt(member.pid)
    assert before
    assert machine.stop(attempt).exit_code in (143, 137)
    assert [member for member in before if machine.processes.start_ticks(member.pid) == member.start_ticks] == []


def test_a_child_that_changed_session_and_lost_its_parents_is_found_by_its_mark(machine: Machine) -> None:
    attempt = machine.start("(setsid sleep 600 &) ; echo up; exit 5")
    assert machine.end(attempt).exit_code == 5
    eventually(lambda: [member.command for member in machine.members(attempt)] == ["sleep"])
    machine.stop(attempt)


BECOMES_ITSELF = 'exec sh -c "$1" sh "$1"'
"""Shell text that becomes another program, itself, all the time."""
LOOKS = 1000
"""One look in twenty comes while the kernel has no environment to show of such a process."""


LONG = {"A": "x" * 120_000}
"""Shells put a variable of this name before the mark."""


@pytest.mark.parametrize("env", [{}, LONG], ids=["short environment", "long environment"])
def test_a_child_that_changed_session_is_found_while_it_becomes_another_program(
    machine: Machine, env: dict[str, str]
) -> None:
    text = 'setsid sh -c "$1" sh "$1" & exit 5'
    attempt = machine.start_argv("/bin/sh", "-c", text, "sh", BECOMES_ITSELF, env=env)
    assert machine.end(attempt).exit_code == 5
    # Each look is a first one: what an earlier look found would be known again.
    looks = (Processes(str(machine.home)).members([attempt]) for _ in range(LOOKS))
    assert {len(found[attempt.id]) for found in looks} == {1}
    machine.stop(attempt)
    assert machine.members(attempt) == ()


def test_a_process_with_another_mark_is_left_alone_while_it_becomes_another_program(
    machine: Machine, reaper: Reaper
) -> None:
    text = f'{MARK}={OTHER_MARK} sh -c "$1" sh "$1" & echo $! up; exec sleep 600'
    attempt = machine.start_argv("/bin/sh", "-c", text, "sh", BECOMES_ITSELF)
    machine.wait_for(attempt, "up")
    stranger = int(machine.log(attempt).split()[0])
    reaper.adopt(stranger)
    eventually(lambda: stranger not in machine.pids(attempt))
    assert {len(machine.members(attempt)) for _ in range(LOOKS)} == {1}
    machine.stop(attempt)
    assert machine.processes.start_ticks(stranger) is not None


def test_what_forks_all_the_time_is_caught_in_the_end(machine: Machine) -> None:
    attempt = machine.start("trap '' TERM; echo up; f() { sleep 0.01; ( f & ) ; }; f; sleep 600")
    machine.wait_for(attempt, "up")
    machine.stop(attempt)
    assert machine.members(attempt) == ()


def test_a_process_with_another_mark_is_left_alone_even_in_our_session(machine: Machine, reaper: Reaper) -> None:
    attempt = machine.start(f"env {MARK}={OTHER_MARK} sleep 600 & echo $! up; exec sleep 600")
    machine.wait_for(attempt, "up")
    stranger = int(machine.log(attempt).split()[0])
    reaper.adopt(stranger)
    eventually(lambda: command_of(stranger) == "sleep")
    assert len(machine.members(attempt)) == 1
    machine.stop(attempt)
    assert machine.processes.start_ticks(stranger) is not None


def test_a_job_that_stops_its_own_attempt_does_not_end_itself(machine: Machine) -> None:
    root = Path(__file__).resolve().parent.parent
    attempt = machine.start_argv(
        "/bin/sh", "-c", 'sleep 600 & "$@"', "sh", sys.executable, "-c", STOPS_ITSELF, str(root), str(machine.home)
    )
    machine.wait_for(attempt, "2\n0\n")
    # Its parent, the shell, was told as well.
    assert machine.end(attempt).exit_code in (130, 137)


STOPS_ITSELF = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from procclaw.system.processes import Processes
from tests.contract_processes import an_attempt
processes = Processes(sys.argv[2])
attempt = an_attempt(processes, mark=os.environ["PROCCLAW_ATTEMPT_MARK"])
shim = processes.sight(attempt.record).pid
attempt = attempt._replace(pid=shim, start_ticks=processes.start_ticks(shim))
def members():
    return processes.members([attempt])[attempt.id]
print(len(members()))
processes.signal_attempt(attempt, members(), signal.SIGINT)
while members():
    processes.signal_attempt(attempt, members(), signal.SIGKILL)
print(len(members()))
sys.stdout.flush()
os._exit(0)
"""


def command_of(pid: int) -> str:
    row = ProcTable().row(pid)
    return "" if row is None else row.command


def test_a_stopped_shim_is_continued_so_that_it_can_record(machine: Machine) -> None:
    attempt = machine.start("echo up; exec sleep 600")
    machine.wait_for(attempt, "up")
    os.kill(attempt.pid or 0, signal.SIGSTOP)
    eventually(lambda: is_standing(attempt.pid or 0))
    assert machine.stop(attempt).exit_code == 143


def wait_for_shim(attempt: Attempt) -> None:
    """Until it is dead, which is a moment after its code is on record; it is our child and nobody has reaped it."""
    eventually(lambda: (row := ProcTable().row(attempt.pid or 0)) is not None and row.is_dead)


def test_signalling_what_a_dead_shim_left_behind_takes_no_time(machine: Machine) -> None:
    attempt = machine.start("setsid sleep 600 & exit 0")
    wait_for_shim(attempt)
    members = machine.members(attempt)
    assert len(members) == 1
    began = time.monotonic()
    for _ in range(60):
        machine.processes.signal_attempt(attempt, members, signal.SIGCONT)
    # A quarter of a second each, if the shim were waited for.
    assert time.monotonic() - began < WITHIN
    machine.stop(attempt)


def test_an_attempt_of_another_boot_is_known_by_its_mark_alone(machine: Machine) -> None:
    attempt = machine.start("echo up; exec env -i sleep 600")
    machine.wait_for(attempt, "up")
    eventually(lambda: [member.command for member in machine.members(attempt)] == ["sleep"])
    # Pid and session are those of a process of this boot, and it carries another mark.
    stale = an_attempt(machine.processes, mark=OTHER_MARK, number=2)
    stale = stale._replace(boot_id="before", pid=attempt.pid, start_ticks=attempt.start_ticks)
    assert machine.members(stale) == ()
    machine.signal(stale, signal.SIGTERM)
    machine.signal(stale, signal.SIGKILL)
    assert [member.command for member in machine.members(attempt)] == ["sleep"]


def test_a_process_whose_first_thread_has_ended_is_not_taken_for_dead(machine: Machine) -> None:
    attempt = machine.start_argv(sys.executable, "-I", "-S", "-c", FIRST_THREAD_ENDS)
    machine.wait_for(attempt, "up")
    (member,) = machine.members(attempt)
    eventually(lambda: "Z" in Path(f"/proc/{member.pid}/stat").read_text())
    assert machine.members(attempt) == (member,)
    machine.stop(attempt)


FIRST_THREAD_ENDS = """
import _thread, ctypes, signal
signal.alarm(600)
begun = _thread.allocate_lock()
begun.acquire()
_thread.start_new_thread(lambda: (begun.release(), signal.pause()), ())
begun.acquire()
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_neither_init_nor_ourselves_can_be_signalled(machine: Machine) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        for pid in (-1, 0, 1, os.getpid()):
            ticks = machine.processes.start_ticks(pid) or 0
            assert not machine.processes.signal_process(Process(pid, ticks), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_only_the_very_process_is_signalled(machine: Machine, reaper: Reaper) -> None:
    child = reaper.spawn(["sleep", "600"])
    process = machine.processes.process_of(child.pid)
    assert process is not None
    assert not machine.processes.signal_process(process._replace(start_ticks=process.start_ticks + 1), signal.SIGTERM)
    assert machine.processes.signal_process(process, signal.SIGTERM)
    assert child.wait(WITHIN) == -signal.SIGTERM
    assert not machine.processes.signal_process(process, signal.SIGTERM)
    assert machine.processes.process_of(child.pid) is None


@pytest.mark.parametrize("missing", ["pidfd_open", "group signals"])
def test_older_kernels_are_signalled_the_older_way(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "pidfd_open":
        monkeypatch.delattr(os, "pidfd_open")
    else:
        send = signal.pidfd_send_signal

        def without_flags(pidfd: int, signum: int, info: None, flags: int) -> None:
            if flags:
                raise OSError(errno.EINVAL, "no flags before Linux 6.9")
            send(pidfd, signum)

        monkeypatch.setattr(signal, "pidfd_send_signal", without_flags)
    attempt = machine.start("trap 'exit 8' TERM; sleep 600 & echo up; wait")
    machine.wait_for(attempt, "up")
    machine.signal(attempt, signal.SIGTERM)
    assert machine.end(attempt).exit_code == 8
    assert machine.stop(attempt).exit_code == 8


def test_the_exit_handle_tells_of_the_end_and_refuses_another_process(machine: Machine) -> None:
    attempt = machine.start("sleep 0.05")
    pid, ticks = attempt.pid or 0, attempt.start_ticks or 0
    assert machine.processes.exit_handle(pid, ticks - 1) is None
    handle = machine.processes.exit_handle(pid, ticks)
    assert handle is not None
    assert select.select([handle], [], [], WITHIN)[0]
    os.close(handle)
    machine.processes.reap()
    assert machine.processes.exit_handle(pid, ticks) is None


# Our own children


def test_children_are_reaped_and_a_larger_peak_than_ours_is_remembered(machine: Machine) -> None:
    attempt = machine.start_argv(sys.executable, "-I", "-S", "-c", "b = bytearray(400 * 2**20); b[::4096] = b[::4096]")
    assert machine.end(attempt).exit_code == 0
    wait_for_shim(attempt)
    peak = machine.processes.peak_rss_mb(attempt.pid or 0)
    assert peak is not None
    assert 390 < peak < 500
    assert ProcTable().row(attempt.pid or 0) is None


def test_a_peak_that_may_be_our_own_is_not_told(machine: Machine) -> None:
    attempt = machine.start("exit 0")
    machine.end(attempt)
    wait_for_shim(attempt)
    # Linux counts the memory of the spawning process as its child's.
    assert machine.processes.peak_rss_mb(attempt.pid or 0) is None
    assert ProcTable().row(attempt.pid or 0) is None


def test_children_that_others_started_are_left_to_them(machine: Machine, reaper: Reaper) -> None:
    child = reaper.spawn(["sh", "-c", "exit 5"])
    eventually(lambda: (row := ProcTable().row(child.pid)) is not None and row.is_dead)
    machine.processes.reap()
    assert child.wait(WITHIN) == 5


REEXECUTES_ITSELF = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from procclaw.system.processes import Processes
processes = Processes(sys.argv[2])
if len(sys.argv) == 3:
    child = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", "exit 0"], {})
    processes.raise_descriptor_limit()
    processes.reexec([sys.executable, "-c", sys.orig_argv[2], *sys.argv[1:], str(child)])
import resource
child = int(sys.argv[3])
until = time.monotonic() + 10
while os.path.exists(f"/proc/{child}") and time.monotonic() < until:
    processes.reap()
print(os.path.exists(f"/proc/{child}"), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_children_from_before_a_reexecution_are_reaped_and_the_limit_is_the_old_one(home: Path) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    program = f'ulimit -Sn 333; exec {sys.executable} -c "$1" {root} {home}'
    ran = subprocess.run(["sh", "-c", program, "sh", REEXECUTES_ITSELF], capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.stderr) == ("False 333\n", "")


# Output through a relay


def untimed(text: str) -> list[str]:
    return [line.partition(" ")[2] for line in text.splitlines()]


def test_a_relay_writes_what_the_job_prints_and_its_record_drains_until_then(machine: Machine) -> None:
    go = machine.home / "go"
    late = f"(while [ ! -e {go} ]; do sleep 0.02; done; echo late)"
    attempt = machine.start(f"echo out; echo err >&2; {late} & exit 3", timestamps=True)
    eventually(lambda: machine.processes.sight(attempt.record).phase is RecordPhase.EXITED)
    assert machine.processes.sight(attempt.record).is_draining
    go.touch()
    eventually(lambda: not machine.processes.sight(attempt.record).is_draining)
    assert machine.processes.sight(attempt.record).exit_code == 3
    assert untimed(machine.log(attempt)) == ["out", "late"]
    assert untimed(machine.error_log(attempt)) == ["err"]


def test_a_stop_spares_the_relay_so_that_the_last_words_are_kept(machine: Machine) -> None:
    attempt = machine.start("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done", timestamps=True)
    machine.wait_for(attempt, "up")
    machine.signal(attempt, signal.SIGTERM)
    # Killed for being slow, it would have no last words.
    assert machine.end(attempt).exit_code == 0
    machine.stop(attempt)
    eventually(lambda: untimed(machine.log(attempt)) == ["up", "bye"])


def test_a_relay_whose_job_could_not_be_spawned_gives_the_record_up(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    launch = machine.launch_of(record, "echo", "x" * 200_000, timestamps=True)
    assert isinstance(machine.processes.launch(launch), LaunchRefused)
    eventually(lambda: machine.processes.sight(record) == Sight(RecordPhase.BLANK))


# Freezing the writers of a file

WRITES = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("up", flush=True)
while True:
    os.write(fd, b"line\\n")
"""


def a_writer(reaper: Reaper, path: Path) -> int:
    path.touch()
    size = path.stat().st_size
    writer = reaper.spawn([sys.executable, "-I", "-S", "-c", WRITES, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"up\n"
    eventually(lambda: path.stat().st_size > size)
    return writer.pid


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a writer may take longer to stop than anybody waits for it."""
    monkeypatch.setattr(freezing, "_PATIENCE_SECONDS", WITHIN)


def is_standing(pid: int) -> bool:
    row = ProcTable().row(pid)
    return row is not None and row.is_stopped


@pytest.mark.usefixtures("patience")
def test_the_writers_of_a_file_stand_still_and_go_on_afterwards(reaper: Reaper, tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [a_writer(reaper, path), a_writer(reaper, path)]
    reader = reaper.spawn(["tail", "-f", str(path)], stdout=subprocess.DEVNULL)
    with frozen_writers(str(path)) as are_frozen:
        assert are_frozen
        size = path.stat().st_size
        assert all(is_standing(pid) for pid in writers)
        assert not is_standing(reader.pid)
        assert path.stat().st_size == size
    eventually(lambda: path.stat().st_size > size and not any(is_standing(pid) for pid in writers))


def test_a_file_that_nobody_writes_is_frozen_at_once(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with frozen_writers(str(tmp_path / "log")) as are_frozen:
        assert are_frozen


def test_we_never_stop_ourselves(reaper: Reaper, tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = a_writer(reaper, path)
    with open(path, "ab"), frozen_writers(str(path)) as are_frozen:
        assert not are_frozen
        assert not is_standing(writer)


def test_who_stood_still_before_stands_still_afterwards(reaper: Reaper, tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = a_writer(reaper, path)
    os.kill(writer, signal.SIGSTOP)
    eventually(lambda: is_standing(writer))
    with frozen_writers(str(path)) as are_frozen:
        assert are_frozen
    assert is_standing(writer)


FREEZES_AND_DIES = """
import os, sys
sys.path.insert(0, sys.argv[1])
from procclaw.system.processes import freezing, frozen_writers
freezing._PATIENCE_SECONDS = 10
with frozen_writers(sys.argv[2]) as are_frozen:
    print(are_frozen, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_writers_go_on_when_we_are_killed_while_they_stand(reaper: Reaper, tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = a_writer(reaper, path)
    root = str(Path(__file__).resolve().parent.parent)
    freezer = [sys.executable, "-c", FREEZES_AND_DIES, root, str(path)]
    ran = subprocess.run(freezer, capture_output=True, text=True, timeout=30)
    assert (ran.stdout, ran.returncode) == ("True\n", -signal.SIGKILL)
    eventually(lambda: not is_standing(writer))


# Commands, the background, signals


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("echo out; echo err >&2; exit 3", CommandResult(3, b"out\n", b"err\n")),
        ("kill -TERM $$", CommandResult(143, b"", b"")),
        ("cat", CommandResult(0, b"fed", b"")),
        ("exec <&-; sleep 0.05; echo done", CommandResult(0, b"done\n", b"")),
        # What it leaves behind keeps its output open, and is not waited for.
        ("echo out; sleep 5 & exit 0", CommandResult(0, b"out\n", b"")),
        ("exec >&- 2>&-; sleep 0.05; exit 2", CommandResult(2, b"", b"")),
    ],
)
def test_a_command_answers(reaper: Reaper, text: str, result: CommandResult) -> None:
    started = time.monotonic()
    assert run_command(["sh", "-c", text], timeout=WITHIN, stdin=b"fed") == result
    assert time.monotonic() - started < 4


def test_a_command_that_takes_too_long_is_killed_with_its_group(tmp_path: Path) -> None:
    text = f"sleep 600 & echo $! > {tmp_path}/pid; echo partly; wait"
    # Again with more time, where the machine was too busy for it to come to its words.
    results = (run_command(["sh", "-c", text], timeout=seconds) for seconds in (0.3, 1, 5))
    result = next((result for result in results if result.stdout), None)
    assert result is not None
    assert result.is_timed_out
    assert result.stdout == b"partly\n"
    child = int((tmp_path / "pid").read_text())
    eventually(lambda: (row := ProcTable().row(child)) is None or row.is_dead)


def test_a_talkative_command_is_cut_and_still_ends() -> None:
    result = run_command(["sh", "-c", "yes | head -c 5000000"], timeout=WITHIN)
    assert result.exit_code == 0
    assert len(result.stdout) == 2**20


def test_much_can_be_fed_to_a_command_that_answers_meanwhile() -> None:
    fed = b"x" * 900_000
    assert run_command(["cat"], timeout=WITHIN, stdin=fed) == CommandResult(0, fed, b"")


@pytest.mark.parametrize(("command", "code"), [("/no/such/command", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_run_answers_as_a_shell_would(command: str, code: int) -> None:
    result = run_command([command], timeout=WITHIN)
    assert result.exit_code == code
    assert command.encode() in result.stderr


def test_a_command_runs_where_it_is_told(tmp_path: Path) -> None:
    assert run_command(["pwd"], timeout=WITHIN, cwd=str(tmp_path)).stdout.decode() == f"{tmp_path}\n"
    gone = run_command(["pwd"], timeout=WITHIN, cwd=str(tmp_path / "gone"))
    assert (gone.exit_code, gone.is_ours) == (126, False)
    assert f"{tmp_path}/gone" in gone.stderr.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("user", "group", "ids"),
    [("nobody", None, "65534 65534 65534"), ("65534", None, "65534 65534 65534"), ("nobody", "daemon", "65534 1 1")],
)
def test_a_command_runs_as_whom_it_is_told(user: str, group: str | None, ids: str) -> None:
    text = "echo $(id -u) $(id -g) $(id -G)"
    result = run_command(["sh", "-c", text], timeout=WITHIN, cwd="/", user=user, group=group)
    # Where the group is not the account's own, that one comes along.
    assert result.stdout.decode().split()[:3] == ids.split()


@pytest.mark.parametrize("account", [{"user": "no-such-user"}, {"group": "no-such-group"}])
def test_a_command_for_nobody_we_know_is_not_run(account: dict[str, str]) -> None:
    result = run_command(["sh", "-c", "exit 0"], timeout=WITHIN, **account)  # type: ignore[arg-type]
    assert (result.exit_code, result.is_ours) == (126, False)


def test_a_word_that_no_command_can_have_is_refused() -> None:
    assert run_command(["echo", "a\0b"], timeout=WITHIN).exit_code == 126


def test_a_command_that_is_given_up_is_killed_with_its_group(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    text = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    results: list[CommandResult] = []
    running = threading.Thread(
        target=lambda: results.append(run_command(["sh", "-c", text], timeout=WITHIN, give_up=reading))
    )
    running.start()
    eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
    os.close(writing)
    running.join(WITHIN)
    os.close(reading)
    assert results == [CommandResult(None, b"", b"")]
    child = int((tmp_path / "pid").read_text())
    eventually(lambda: (row := ProcTable().row(child)) is None or row.is_dead)


def test_a_command_that_ended_before_it_was_given_up_has_ended() -> None:
    reading, writing = os.pipe()
    result = run_command(["sh", "-c", "exit 3"], timeout=WITHIN, give_up=reading)
    os.close(writing)
    os.close(reading)
    assert result == CommandResult(3, b"", b"")


@pytest.mark.parametrize("left", range(14))
def test_want_of_descriptors_is_no_fault_of_a_command_and_never_hangs(left: int) -> None:
    """However many are left: too few to start it, or enough for that and too few to watch it."""
    free = [os.dup(0) for _ in range(left)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling = []
    started = time.monotonic()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 1, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                filling.append(os.dup(0))
        for fd in free:
            os.close(fd)
        result = run_command(["sh", "-c", "exec sleep 600" if left < 8 else "exit 0"], timeout=0.3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in filling:
            os.close(fd)
    assert time.monotonic() - started < WITHIN
    assert result.is_ours or result.exit_code in (None, 0)
    assert result.is_ours == (result.exit_code == 126)


def test_a_detached_process_owes_nothing_to_who_started_it(
    home: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, FIRST_MARK)
    pid = detach(["sh", "-c", f'echo "${{{MARK}-none}}"; pwd; echo done >&2; exec sleep 600'], str(home / "daemon.log"))
    reaper.adopt(pid)
    eventually(lambda: (home / "daemon.log").exists() and "done" in (home / "daemon.log").read_text())
    assert (home / "daemon.log").read_text() == "none\n/\ndone\n"
    assert os.getsid(pid) == pid
    reaper.end()
    os.waitpid(pid, 0)


BECOMES_UNMARKED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from procclaw.system.processes import is_marked, reexec_without_mark
if is_marked():
    reexec_without_mark([sys.executable, "-c", sys.orig_argv[2], *sys.argv[1:], str(os.getpid())])
print(sys.argv[2] == str(os.getpid()), is_marked())
"""


def test_a_marked_process_becomes_itself_without_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, FIRST_MARK)
    root = str(Path(__file__).resolve().parent.parent)
    argv = [sys.executable, "-c", BECOMES_UNMARKED, root]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout == "True False\n"


def test_signals_arrive_as_bytes_and_nothing_else_happens() -> None:
    before = signal.getsignal(signal.SIGTERM)
    received = SignalBytes([signal.SIGTERM, signal.SIGHUP])
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert set(os.read(received.fd, 100)) == {signal.SIGTERM, signal.SIGHUP}
    finally:
        received.close()
    assert signal.getsignal(signal.SIGTERM) == before


# What an attempt uses


BURNS = """
import os, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
"""


def measured(machine: Machine, attempt: Attempt) -> Measure:
    return machine.processes.measure([attempt])[attempt.id]


def test_the_memory_of_all_processes_counts_and_the_shims_does_not(machine: Machine) -> None:
    holds = f"b = bytearray(60 * 2**20); b[::4096] = b[::4096]; print('up', flush=True); {STAY}"
    one = f'{sys.executable} -I -S -c "{holds}"'
    attempt = machine.start(f"{one} & {one} & wait")
    eventually(lambda: machine.log(attempt).count("up") == 2)
    assert 120 < measured(machine, attempt).memory_mb < 200
    single = machine.start_argv("sleep", "600", number=2)
    eventually(lambda: [member.command for member in machine.members(single)] == ["sleep"])
    assert measured(machine, single).memory_mb < 4


def test_processor_time_counts_of_those_that_run_and_that_were_waited_for(machine: Machine) -> None:
    program = BURNS + "if os.fork() == 0: burn(0.3); os._exit(0)\nos.wait(); burn(0.2); print('up', flush=True); "
    attempt = machine.start_argv(sys.executable, "-I", "-S", "-c", program + STAY)
    machine.wait_for(attempt, "up")
    assert 0.45 < measured(machine, attempt).cpu_seconds < 5


def test_processor_time_neither_falls_nor_jumps_when_a_child_has_ended_unnoticed(machine: Machine) -> None:
    program = BURNS + "child = os.fork()\nif child == 0: burn(0.3); os._exit(0)\n"
    program += "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT); print('dead', flush=True); "
    program += "sys.stdin = open(sys.argv[1]); sys.stdin.read(); os.wait(); print('waited', flush=True); "
    fifo = str(machine.home / "fifo")
    os.mkfifo(fifo)
    attempt = machine.start_argv(sys.executable, "-I", "-S", "-c", program + STAY, fifo)
    machine.wait_for(attempt, "dead")
    assert len(machine.members(attempt)) == 1
    before = measured(machine, attempt).cpu_seconds
    assert 0.28 < before < 5
    Path(fifo).write_text("go on")
    machine.wait_for(attempt, "waited")
    assert before <= measured(machine, attempt).cpu_seconds < before + 0.2


def test_ps_measures_as_proc_does(machine: Machine) -> None:
    program = BURNS + "b = bytearray(50 * 2**20); b[::4096] = b[::4096]; burn(1.2); print('up', flush=True); "
    attempt = machine.start_argv(sys.executable, "-I", "-S", "-c", program + STAY)
    machine.wait_for(attempt, "up")
    from_proc = measured(machine, attempt)
    machine.processes = Processes(str(machine.home))
    machine.processes._table = PsTable()
    # Without the mark, which ps shows on macOS alone, the session tells; start times differ, and so does the shim's.
    attempt = attempt._replace(start_ticks=machine.processes.start_ticks(attempt.pid or 0))
    from_ps = measured(machine, attempt)
    assert from_ps.memory_mb == pytest.approx(from_proc.memory_mb, abs=1)
    # It counts whole seconds on Linux.
    assert from_proc.cpu_seconds - 1.1 < from_ps.cpu_seconds <= from_proc.cpu_seconds + 0.1
    assert from_ps.cpu_seconds >= 1


# The process table


def is_up(pid: int) -> bool:
    row = ProcTable().row(pid)
    return row is not None and row.memory_mb > 0 and table.command_line(pid) != ()


def test_ps_tells_the_same_of_a_process_as_proc(reaper: Reaper) -> None:
    first, second = reaper.spawn(["sleep", "600"]), reaper.spawn(["sleep", "600"], start_new_session=True)
    # Popen returns a moment before there are arguments and memory to be seen.
    eventually(lambda: all(map(is_up, (first.pid, second.pid))))
    from_ps, from_proc = PsTable().rows(0, (), ()), ProcTable().rows(0, (), ())
    for child in (first, second):
        told, known = from_ps[child.pid], from_proc[child.pid]
        assert told[:4] == known[:4]
        assert (told.command, told.is_dead, told.is_stopped) == (known.command, False, False)
        assert told.cpu_seconds <= known.cpu_seconds + 1
        assert 0 < told.memory_mb < 100
        assert 0 < known.memory_mb < 100
        again = PsTable().row(child.pid)
        assert again is not None
        assert again._replace(memory_mb=0, cpu_seconds=0) == told._replace(memory_mb=0, cpu_seconds=0)
    assert os.getpid() not in PsTable().rows(from_ps[first.pid].start_ticks + 3600, (), ())


def test_nobody_is_waited_for_who_has_no_environment_for_good(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    # So long that a busy machine is not mistaken for it.
    monkeypatch.setattr("procclaw.system.processes.table._EXEC_SECONDS", 3 * WITHIN)
    bare, dead = reaper.spawn(["sleep", "600"], env={}), reaper.spawn(["true"])
    eventually(lambda: (row := ProcTable().row(dead.pid)) is not None and row.is_dead)
    table = ProcTable()
    began = time.monotonic()
    # Threads of the kernel as well.
    rows = table.rows(0, (), ())
    marks = {pid: table.mark(row) for pid, row in rows.items()}
    assert time.monotonic() - began < WITHIN
    assert (marks[bare.pid], marks[dead.pid]) == (None, None)


class ProcOfOne:
    """A /proc that lists one process alone, and tells `newest` as the pids given last, one after the other."""

    def __init__(self, pid: int, monkeypatch: pytest.MonkeyPatch, newest: str = "0") -> None:
        self.listings = 0
        self.read: list[str] = []
        self.inode = 100
        self._name, self._newest, self._read = str(pid), newest.split(), table._read
        monkeypatch.setattr(table, "_listed", self._list)
        monkeypatch.setattr(table, "_read", self._look_into)

    def _list(self) -> list[tuple[str, int]]:
        self.listings += 1
        return [(self._name, self.inode)]

    def _look_into(self, path: str) -> bytes:
        if path == "/proc/loadavg":
            return self._newest.pop(0).encode()
        self.read.append(path)
        return self._read(path)


@pytest.mark.parametrize(("newest", "listings"), [("17 17", 1), ("17 18 18", 2), ("0 0", 2)])
def test_processes_are_listed_again_where_one_may_have_begun_meanwhile(
    newest: str, listings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = ProcOfOne(os.getpid(), monkeypatch, newest)
    assert list(ProcTable().rows(0, (), ())) == [os.getpid()]
    assert proc.listings == listings


def test_who_was_dead_at_the_first_listing_may_have_forked_unseen(
    reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = reaper.spawn(["true"])
    eventually(lambda: (row := ProcTable().row(dead.pid)) is not None and row.is_dead)
    proc = ProcOfOne(dead.pid, monkeypatch, "17 17 17")
    assert list(ProcTable().rows(0, (), ())) == [dead.pid]
    assert proc.listings == 2


def test_who_was_found_to_be_older_is_read_again_only_if_another_has_its_pid(
    reaper: Reaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = reaper.spawn(["sleep", "600"])
    looked = ProcTable()
    row = looked.row(child.pid)
    assert row is not None
    proc = ProcOfOne(child.pid, monkeypatch, "17 " * 20)

    def reads(since: int, besides: tuple[int, ...] = ()) -> tuple[int, bool]:
        """How often it was read, and whether it was found."""
        proc.read.clear()
        found = looked.rows(since, besides, ())
        return len(proc.read), child.pid in found

    later = row.start_ticks + 1
    assert reads(later) == (1, False)
    assert reads(later) == (0, False)
    assert reads(later, (child.pid,)) == (1, True)
    assert reads(row.start_ticks) == (1, True)
    proc.inode = 101
    assert reads(later) == (1, False)


class Orphan(ProcTable):
    """A process without a mark, in the session of a shim that is gone."""

    def rows(self, since: int, besides: Collection[int], without_sessions: Collection[int]) -> dict[int, Row]:
        fields = dict.fromkeys(("is_dead", "is_leaderless", "is_stopped"), False)
        return {331: Row(331, 1, 329, 329, 500, command="sleep", cpu_seconds=0, memory_mb=0, **fields)}

    def mark(self, row: Row) -> str | None:
        return None


@pytest.mark.parametrize("earlier_first", [True, False])
def test_a_session_belongs_to_the_last_of_two_attempts_whose_shims_had_one_pid(*, earlier_first: bool) -> None:
    earlier, later = Sought("tick.1", FIRST_MARK, 329, 100), Sought("prep.1", OTHER_MARK, 329, 400)
    sought = [earlier, later] if earlier_first else [later, earlier]
    members = find_members(Orphan(), sought, frozenset()).members()
    assert {attempt: [each.pid for each in found] for attempt, found in members.items()} == {
        "tick.1": [],
        "prep.1": [331],
    }


PS_OF_MACOS = f"""
  501   1   501   1536   0:00.03 Ss   Sat Nov 22 13:04:05 2025     /bin/sh -c trap PATH=/bin {MARK}={FIRST_MARK} HOME=/U
  502 501   501  52224 123:45.67 T    Sat Nov 22 13:04:06 2025     sleep 600
  503 501   501      0   0:00.00 Z    Sat Nov 22 13:04:06 2025
not a process at all
"""


def test_what_ps_prints_on_macos_is_understood() -> None:
    table = PsTable(lambda argv: PS_OF_MACOS)
    rows = table.rows(0, (), ())
    assert [(row.pid, row.parent, row.group, row.command) for row in rows.values()] == [
        (501, 1, 501, "sh"),
        (502, 501, 501, "sleep"),
        (503, 501, 501, ""),
    ]
    assert [(row.is_stopped, row.is_dead) for row in rows.values()] == [(False, False), (True, False), (False, True)]
    assert [(row.cpu_seconds, row.memory_mb) for row in rows.values()] == [(0.03, 1.5), (7425.67, 51.0), (0.0, 0.0)]
    assert rows[502].start_ticks - rows[501].start_ticks == 1
    assert [table.mark(row) for row in rows.values()] == [FIRST_MARK, None, None]


def test_the_boot_is_named_the_same_by_everybody(machine: Machine) -> None:
    assert machine.processes.boot_id() == Processes(str(machine.home)).boot_id()
    assert len(machine.processes.boot_id()) >= 32


def test_records_make_their_own_directory_private(tmp_path: Path) -> None:
    Records(str(tmp_path / "home" / "records")).create("a.b.1.c")
    assert (tmp_path / "home" / "records").stat().st_mode & 0o777 == 0o700


def test_a_process_is_known_by_its_command_line_and_by_its_name(tmp_path: Path, reaper: Reaper) -> None:
    process = reaper.spawn(["sleep", "1000.5"])
    processes = Processes(str(tmp_path))
    # Popen returns a moment before there are arguments to be seen.
    wait_until(lambda: processes.argv_of(process.pid) != (), 10, lambda: process.pid)
    assert processes.argv_of(process.pid) == ("sleep", "1000.5")
    assert "sleep" in processes.names()
    assert processes.argv_of(2**22 + 1) == ()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.mkdir(), id="a directory"),
        pytest.param(os.mkfifo, id="a pipe nobody writes to"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="a link to nowhere"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="a link to a device"),
    ],
)
def test_what_has_a_records_name_and_is_no_file_is_no_record(machine: Machine, make: Callable[[Path], object]) -> None:
    record = an_attempt(machine.processes).record
    path = machine.home / "records" / record
    machine.processes.create_record(record)
    path.unlink()
    make(path)
    assert machine.processes.sight(record) == Sight(RecordPhase.MISSING)
    assert isinstance(machine.processes.launch(machine.launch_of(record, "true")), LaunchUndecided)
    assert (machine.processes.records(), machine.processes.foreign_records()) == ((), (record,))


def test_what_has_not_a_records_name_is_foreign(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    for name in ("newest", "notes.for.me.txt", f"{record}.bak", "job.run1.²." + "0" * 32, "job.run1.1.mark"):
        (machine.home / "records" / name).write_text("")
    assert machine.processes.records() == (record,)
    assert len(machine.processes.foreign_records()) == 4


def test_only_who_holds_a_record_open_is_its_shim_whatever_is_written_in_it(machine: Machine) -> None:
    attempt = machine.start("sleep 600")
    assert attempt.pid is not None
    eventually(lambda: machine.processes.sight(attempt.record).pid == attempt.pid)
    assert machine.processes.shim_start_ticks(attempt.record, attempt.pid) == attempt.start_ticks
    with open(machine.home / "records" / attempt.record, "r+b") as file:
        file.write(f"{os.getpid()}\n".encode().ljust(SIZE))
    sight = machine.processes.sight(attempt.record)
    assert (sight.phase, sight.pid) == (RecordPhase.LOCKED, os.getpid())
    assert machine.processes.shim_start_ticks(attempt.record, os.getpid()) is None
    # A manager died before it wrote the pid down: a stop finds the attempt by its mark, and not whom the record names.
    unknown = attempt._replace(pid=None, start_ticks=None)
    assert os.getpid() not in machine.pids(unknown)
    assert machine.pids(unknown)
    machine.stop(attempt)


@pytest.mark.parametrize("code", ["321", "384", "449", "512", "999"])
def test_a_code_that_no_shell_reports_is_no_code(code: str) -> None:
    assert parse(f"4711\n{code}\n0m0.0s 0m0.0s\n0m0.0s 0m0.0s\n".encode()).exit_code is None
