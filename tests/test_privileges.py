"""Real processes of another account, with a niceness, umask or lock of their own; and who may not have what."""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.model.errors import ProcclawError
from procclaw.model.outside import LaunchRefused, LaunchUndecided, Process, RecordPhase, Sight
from procclaw.model.reasons import Reason
from procclaw.model.records import Attempt
from procclaw.system.processes import Processes
from procclaw.system.processes.privileges import Identity, SessionNiceness, identity_of
from procclaw.system.processes.spawning import LOCK_FD
from procclaw.system.processes.table import ProcTable
from tests.contract_processes import an_attempt
from tests.realmachine import ENDINGS, SHELLS, Machine, eventually, shell_of_shims
from tests.support import Reaper

pytestmark = pytest.mark.real

NOBODY = pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")
NOBODYS_GROUP = grp.getgrgid(NOBODY.pw_gid).gr_name

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: becoming another account takes root")
needs_autogroups = pytest.mark.skipif(
    not os.path.exists("/proc/self/autogroup"), reason="NOT TESTED: this system does not weigh sessions"
)


@pytest.fixture
def machine(home: Path) -> Machine:
    return Machine(home)


@pytest.fixture(params=SHELLS)
def any_shell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with shell_of_shims(request.param, monkeypatch):
        yield request.param


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can use."""
    path = Path(tempfile.mkdtemp(prefix="procclaw-open-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """We are nobody for a while, as far as the kernel and our children are concerned."""
    os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, 0)
    os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


def said(machine: Machine, attempt: Attempt) -> list[str]:
    assert machine.end(attempt).exit_code == 0, machine.error_log(attempt)
    return machine.log(attempt).split()


# The umask


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0])
def test_new_files_of_a_job_have_its_umask_and_not_ours(machine: Machine, any_shell: str, umask: int) -> None:
    ours = os.umask(0o077)
    try:
        attempt = machine.start_argv("/bin/sh", "-c", "umask", umask=umask)
    finally:
        os.umask(ours)
    assert said(machine, attempt) == [f"{umask:04o}"]


def test_the_logs_keep_our_own_permissions(machine: Machine) -> None:
    attempt = machine.start("exit 0", umask=0)
    machine.end(attempt)
    assert (machine.home / "logs" / f"{attempt.record}.log").stat().st_mode & 0o777 == 0o600


# The niceness


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@contextlib.contextmanager
def at_our_niceness(niceness: int) -> Iterator[None]:
    before = own_niceness()
    os.setpriority(os.PRIO_PROCESS, 0, niceness)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def test_a_job_has_its_niceness_and_we_keep_ours(machine: Machine, any_shell: str) -> None:
    before = own_niceness()
    assert said(machine, machine.start_argv("nice", nice=before + 7)) == [str(before + 7)]
    assert said(machine, machine.start_argv("nice", nice=before, number=2)) == [str(before)]
    assert said(machine, machine.start_argv("nice", nice=None, number=3)) == [str(before)]
    assert own_niceness() == before


@needs_root
@pytest.mark.parametrize("user", [None, "nobody"])
@pytest.mark.parametrize("ours", [3, -4])
@pytest.mark.parametrize("wanted", [19, 0, -5])
def test_whatever_our_niceness_a_job_has_what_it_was_to_have(
    machine: Machine, user: str | None, ours: int, wanted: int
) -> None:
    with at_our_niceness(ours):
        attempt = machine.start_argv("nice", nice=wanted, user=user)
        assert own_niceness() == ours
    assert said(machine, attempt) == [str(wanted)]


def test_the_process_with_a_niceness_is_the_job_itself(machine: Machine, any_shell: str) -> None:
    attempt = machine.start("echo $$ up; exec sleep 600", nice=own_niceness() + 1)
    machine.wait_for(attempt, "up")
    pid = int(machine.log(attempt).split()[0])
    assert machine.processes.sight(attempt.record).job_pid == pid
    assert machine.pids(attempt) == {pid}
    assert machine.stop(attempt).exit_code == 143


@pytest.mark.parametrize(("argv", "code"), [(("no-such-command",), 127), (("/etc/passwd",), 126), (("-x",), 127)])
def test_a_command_that_cannot_be_run_has_the_same_code_at_a_niceness(
    machine: Machine, any_shell: str, argv: tuple[str, ...], code: int
) -> None:
    attempt = machine.start_argv(*argv, nice=own_niceness() + 1)
    assert machine.end(attempt).exit_code == code
    assert argv[0] in machine.error_log(attempt)


@needs_root
def test_a_lower_niceness_than_ours_is_refused_without_privileges(machine: Machine) -> None:
    with without_privileges():
        own = own_niceness()
    record = an_attempt(machine.processes).record
    machine.processes.create_record(record)
    launch = machine.launch_of(record, "sleep", "600")._replace(nice=own - 5)
    with owned_by_nobody(machine.home), without_privileges():
        refused = machine.processes.launch(launch)
    what = f"nice {own - 5}: takes privileges that we lack; our own niceness is {own}"
    assert refused == LaunchRefused(Reason.NOT_STARTED, what, is_ours=False)
    assert machine.processes.sight(record) == Sight(RecordPhase.BLANK)
    assert own_niceness() == own


@contextlib.contextmanager
def owned_by_nobody(home: Path) -> Iterator[None]:
    paths = [home, *home.rglob("*")]
    for path in paths:
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    yield
    for path in paths:
        os.chown(path, 0, 0)


def test_a_system_without_the_program_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procclaw.system.processes.privileges._USUAL_PLACES", ())
    monkeypatch.setenv("PATH", "relative:/nowhere")
    refused = machine.refused(nice=own_niceness() + 1)
    assert refused == LaunchRefused(Reason.NOT_STARTED, 'nice: this system has no program "nice"', is_ours=False)


def session_niceness(pid: int | None) -> str | None:
    """Of the group that the kernel made for the process's session; None: it is in none (a container may start so)."""
    words = Path(f"/proc/{pid}/autogroup").read_text().split()
    return words[-1] if words else None


@needs_root
@needs_autogroups
@pytest.mark.parametrize("user", [None, "nobody"])
@pytest.mark.parametrize("niceness", [5, -5])
def test_the_session_of_a_job_yields_as_its_processes_do(machine: Machine, user: str | None, niceness: int) -> None:
    attempt = machine.start("echo up; exec sleep 600", nice=niceness, user=user)
    assert session_niceness(attempt.pid) == str(niceness)
    assert session_niceness(os.getpid()) != str(niceness)


@needs_root
@needs_autogroups
def test_sessions_that_the_kernel_had_no_time_for_have_their_turn_later(reaper: Reaper) -> None:
    sleepers = []
    with without_privileges():
        sessions = SessionNiceness(ProcTable())
        for _ in range(3):
            child = reaper.spawn(["sleep", "600"], start_new_session=True, user=NOBODY.pw_uid, cwd="/")
            eventually(lambda: os.getsid(child.pid) == child.pid)  # noqa: B023
            row = ProcTable().row(child.pid)
            assert row is not None
            sleepers.append(Process(child.pid, row.start_ticks))
        for sleeper in sleepers:
            sessions.set(sleeper, 4)
        assert [session_niceness(sleeper.pid) for sleeper in sleepers] != ["4", "4", "4"]

        def are_all_set() -> bool:
            sessions.settle()
            return all(session_niceness(sleeper.pid) == "4" for sleeper in sleepers)

        eventually(are_all_set)


@needs_autogroups
def test_a_session_that_has_ended_is_forgotten_and_a_later_one_under_its_number_left_alone(reaper: Reaper) -> None:
    child = reaper.spawn(["sleep", "600"], start_new_session=True)
    eventually(lambda: os.getsid(child.pid) == child.pid)
    row = ProcTable().row(child.pid)
    assert row is not None
    sessions = SessionNiceness(ProcTable())
    sessions.set(Process(child.pid, row.start_ticks - 1), 4)
    sessions.set(Process(2**30, 1), 4)
    assert session_niceness(child.pid) == "0"


# Who a job may become


@needs_root
@pytest.mark.parametrize(
    ("user", "group", "wanted"),
    [
        (None, None, None),
        ("root", None, None),
        ("0", None, None),
        ("root", "root", None),
        (None, "0", None),
        (None, "daemon", Identity(0, DAEMON.pw_gid, None)),
        ("root", "daemon", Identity(0, DAEMON.pw_gid, None)),
        ("nobody", None, Identity(NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid, 5001))),
        (str(NOBODY.pw_uid), None, Identity(NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid, 5001))),
        ("nobody", "daemon", Identity(NOBODY.pw_uid, DAEMON.pw_gid, (DAEMON.pw_gid, 5001))),
        ("nobody", str(DAEMON.pw_gid), Identity(NOBODY.pw_uid, DAEMON.pw_gid, (DAEMON.pw_gid, 5001))),
    ],
)
def test_names_and_numbers_say_who_a_job_becomes(
    monkeypatch: pytest.MonkeyPatch, user: str | None, group: str | None, wanted: Identity | None
) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 5001])
    assert identity_of(user, group) == wanted


@pytest.mark.parametrize(
    ("user", "group", "message"),
    [
        ("no-such-one", None, 'user "no-such-one": no such account'),
        ("4000000", None, 'user "4000000": no such account'),
        ("99999999999999999999", None, 'user "99999999999999999999": no such account'),
        ("-1", None, 'user "-1": no such account'),
        ("", None, 'user "": no such account'),
        ("a\0b", None, 'user "a\0b": no such account'),
        (None, "no-such-one", 'group "no-such-one": no such group'),
        ("nobody", "4000000", 'group "4000000": no such group'),
        (None, "99999999999999999999", 'group "99999999999999999999": no such group'),
    ],
)
def test_an_account_or_group_that_does_not_exist_is_refused_by_its_name(
    machine: Machine, user: str | None, group: str | None, message: str
) -> None:
    refused = machine.refused(user=user, group=group)
    assert refused == LaunchRefused(Reason.NOT_STARTED, message, is_ours=False)


@pytest.mark.parametrize(
    ("user", "group", "who"),
    [
        ("root", None, 'user "root"'),
        ("daemon", "daemon", 'user "daemon"'),
        (None, "daemon", 'group "daemon"'),
        ("nobody", "daemon", 'group "daemon"'),
    ],
)
@needs_root
def test_only_root_may_start_a_job_as_somebody_else(user: str | None, group: str | None, who: str) -> None:
    uid = NOBODY.pw_uid
    with without_privileges(), pytest.raises(ProcclawError) as refusal:
        identity_of(user, group)
    assert str(refusal.value) == f"{who}: only root can start a process as somebody else, and we are user {uid}"


@needs_root
@pytest.mark.parametrize(
    ("user", "group"), [(None, None), ("nobody", None), ("65534", None), ("nobody", NOBODYS_GROUP), (None, "65534")]
)
def test_anybody_may_start_a_job_as_who_they_are(user: str | None, group: str | None) -> None:
    with without_privileges():
        assert identity_of(user, group) is None


def test_a_containers_number_without_an_entry_is_an_account_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_001)
    monkeypatch.setattr(os, "getegid", lambda: 4_000_002)
    assert identity_of("4000001", "4000002") is None


# A job of another account


@needs_root
def test_a_job_runs_as_its_account_with_that_accounts_groups(
    machine: Machine, any_shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 5001])
    attempt = machine.start("id -u; id -g; id -G", user="nobody")
    assert said(machine, attempt) == [str(NOBODY.pw_uid), str(NOBODY.pw_gid), str(NOBODY.pw_gid), "5001"]
    attempt = machine.start("id -u; id -g; id -G", number=2, user=str(NOBODY.pw_uid), group="daemon")
    assert said(machine, attempt) == [str(NOBODY.pw_uid), "1", "1", "5001"]


@needs_root
def test_a_group_alone_changes_the_group_alone(machine: Machine) -> None:
    attempt = machine.start("id -u; id -g", group="daemon")
    assert said(machine, attempt) == ["0", str(DAEMON.pw_gid)]


@needs_root
def test_nothing_gives_the_job_its_old_account_back(machine: Machine) -> None:
    attempt = machine.start_argv("grep", "-E", "^(Uid|Gid|CapEff|CapPrm)", "/proc/self/status", user="nobody")
    uid, gid = [str(NOBODY.pw_uid)] * 4, [str(NOBODY.pw_gid)] * 4
    assert said(machine, attempt) == ["Uid:", *uid, "Gid:", *gid, "CapPrm:", "0" * 16, "CapEff:", "0" * 16]


@needs_root
def test_the_recorded_code_is_what_a_shell_reports_for_another_account_too(machine: Machine, any_shell: str) -> None:
    attempts = {text: machine.start(text, number=number, user="nobody") for number, text in enumerate(ENDINGS, 1)}
    ends = {text: machine.end(attempt) for text, attempt in attempts.items()}
    assert {text: sight.exit_code for text, sight in ends.items()} == ENDINGS
    assert {sight.pid for sight in ends.values()} == {attempt.pid for attempt in attempts.values()}


@needs_root
def test_a_job_of_another_account_has_the_default_signals_and_nothing_blocked(machine: Machine, any_shell: str) -> None:
    ignored = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGRTMAX)
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})
    try:
        attempt = machine.start_argv("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", user="nobody")
        machine.end(attempt)
        assert {signal.getsignal(number) for number in ignored} == {signal.SIG_IGN}
        assert {signal.SIGUSR1, signal.SIGCHLD} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGCHLD})
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)
    told = dict(line.split(":\t") for line in machine.log(attempt).splitlines())
    ours = sum(1 << (number - 1) for number in signal.valid_signals())
    assert int(told["SigBlk"], 16) == 0
    assert int(told["SigIgn"], 16) & ours == 0


@needs_root
def test_another_thread_may_launch_as_another_account(machine: Machine) -> None:
    started: list[Attempt] = []
    thread = threading.Thread(target=lambda: started.append(machine.start("id -u", user="nobody")))
    thread.start()
    thread.join()
    assert said(machine, started[0]) == [str(NOBODY.pw_uid)]


@needs_root
def test_a_job_of_another_account_has_no_descriptors_but_its_three(machine: Machine, any_shell: str) -> None:
    stray = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stray, True)
    try:
        # The last of them is what `ls` opens to look: the first number that is free.
        attempt = machine.start("exec ls /proc/self/fd", user="nobody")
        assert said(machine, attempt) == ["0", "1", "2", "3"]
        attempt = machine.start("readlink /proc/self/fd/0; ps -o sid= -p $$", number=2, user="nobody")
        assert said(machine, attempt) == ["/dev/null", str(attempt.pid)]
    finally:
        os.close(stray)


@needs_root
def test_a_job_finds_its_environment_and_its_descriptor_limit(machine: Machine, any_shell: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        machine.processes = Processes(str(machine.home))
        machine.processes.raise_descriptor_limit()
        attempt = machine.start('ulimit -Sn; echo "$COLOUR" "${PROCCLAW_HOME}"', user="nobody", env={"COLOUR": "blue"})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert said(machine, attempt) == ["300", "blue", str(machine.home)]


@needs_root
def test_a_directory_that_the_account_may_not_enter_is_named(machine: Machine, any_shell: str) -> None:
    attempt = machine.start_argv("pwd", cwd=str(machine.home), user="nobody")
    assert machine.end(attempt).phase is RecordPhase.FAILED_CWD
    assert str(machine.home) in machine.error_log(attempt)


@needs_root
def test_it_is_no_matter_that_we_stand_where_the_account_may_not_be(
    machine: Machine, any_shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machine.home)
    attempt = machine.start_argv("pwd", cwd="/usr", user="nobody")
    assert machine.end(attempt).exit_code == 0
    assert (machine.log(attempt), machine.error_log(attempt)) == ("/usr\n", "")


@needs_root
@pytest.mark.parametrize("timestamps", [False, True])
def test_an_account_may_open_its_own_output_by_name(machine: Machine, timestamps: bool) -> None:
    attempt = machine.start("echo out >/dev/stdout; echo err >/dev/stderr", user="nobody", timestamps=timestamps)
    assert machine.end(attempt).exit_code == 0
    eventually(lambda: machine.log(attempt).endswith("out\n") and machine.error_log(attempt).endswith("err\n"))


@needs_root
@pytest.mark.parametrize(
    "text",
    [
        "echo up; exec sleep 600",
        "trap '' TERM; echo up; exec sleep 600",
        "(trap '' TERM; setsid sh -c 'sleep 600 & sleep 600') & echo up; wait",
        "env -i setsid sleep 600 & echo up; wait",
        "sleep 600 & kill -STOP $!; echo up; kill -STOP $$",
    ],
)
def test_a_stop_leaves_nothing_of_another_accounts_tree(machine: Machine, reaper: Reaper, text: str) -> None:
    attempt = machine.start(text, user="nobody")
    machine.wait_for(attempt, "up")
    before = machine.members(attempt)
    for member in before:
        reaper.adopt(member.pid)
    assert before
    assert machine.stop(attempt).exit_code in (143, 137)
    assert [member for member in before if machine.processes.start_ticks(member.pid) == member.start_ticks] == []


@needs_root
def test_a_child_of_another_account_is_found_by_its_mark(machine: Machine) -> None:
    attempt = machine.start("(setsid sleep 600 &) ; echo up; exit 5", user="nobody")
    assert machine.end(attempt).exit_code == 5
    eventually(lambda: len(machine.members(attempt)) == 1)
    machine.stop(attempt)


@needs_root
def test_the_end_of_another_accounts_job_is_ours_to_see_alone(machine: Machine) -> None:
    # What the shim waited for, and larger than we are ourselves, however much ran in this process before.
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 + 200
    attempt = machine.start(f"head -c {megabytes}M /dev/zero | tail >/dev/null", user="nobody")
    eventually(lambda: (row := ProcTable().row(attempt.pid or 0)) is not None and row.is_dead)
    # Popen looks after the children of its kind that nobody waited for, each time there is a new one.
    subprocess.run(["true"], check=True)
    peak = machine.processes.peak_rss_mb(attempt.pid or 0)
    assert peak is not None
    assert megabytes * 0.9 < peak < megabytes * 1.7
    assert ProcTable().row(attempt.pid or 0) is None


@needs_root
def test_a_running_job_of_another_account_is_not_launched_again_nor_one_that_has_ended(machine: Machine) -> None:
    attempt = machine.start("echo up; exec sleep 600", user="nobody")
    machine.wait_for(attempt, "up")
    launch = machine.launch_of(attempt.record, "sleep", "600")._replace(user="nobody")
    assert machine.processes.launch(launch) == LaunchUndecided()
    machine.stop(attempt)
    assert machine.processes.launch(launch) == LaunchUndecided()


DIES_AFTER_SPAWNING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from procclaw.model.outside import Launch
from procclaw.system.processes import Processes
env = (("PROCCLAW_HOME", sys.argv[2]), ("PATH", "/usr/bin:/bin"))
launch = Launch(sys.argv[3], ("sleep", "600"), "/", env, sys.argv[4], sys.argv[4], False, user="nobody")
Processes(sys.argv[2]).launch(launch)
os.kill(os.getpid(), 9)
"""


@needs_root
def test_a_manager_killed_right_after_the_spawn_leaves_another_accounts_attempt_to_adopt(machine: Machine) -> None:
    attempt = an_attempt(machine.processes)
    machine.processes.create_record(attempt.record)
    root = str(Path(__file__).resolve().parent.parent)
    argv = [sys.executable, "-c", DIES_AFTER_SPAWNING, root, str(machine.home), attempt.record, str(machine.home / "l")]
    assert subprocess.run(argv, timeout=30).returncode == -signal.SIGKILL
    # Until it has told of the job, the shim's own process for it may still have the shim's handlers.
    eventually(lambda: machine.processes.sight(attempt.record).job_pid is not None)
    eventually(lambda: len(machine.members(attempt)) == 1)
    pid = machine.processes.sight(attempt.record).pid or 0
    assert machine.stop(attempt._replace(pid=pid, start_ticks=machine.processes.start_ticks(pid))).exit_code == 143


@needs_root
def test_no_descriptor_of_ours_is_left_open_by_another_accounts_job(machine: Machine) -> None:
    machine.end(machine.start("exit 0", user="nobody"))
    open_before = sorted(os.listdir("/dev/fd"))
    machine.end(machine.start("exit 0", number=2, user="nobody"))
    machine.refused(number=3, user="nobody", argv=("x" * 200_000,))
    machine.refused(number=4, user="no-such-one")
    assert sorted(os.listdir("/dev/fd")) == open_before


@needs_root
def test_what_cannot_be_passed_to_another_accounts_process_is_refused_as_for_ours(machine: Machine) -> None:
    too_long = machine.refused(user="nobody", argv=("x" * 200_000,))
    assert too_long.detail == "the command and its environment are larger than the system passes to a process"
    nul = machine.refused(number=2, user="nobody", argv=("a\0b",))
    strange_name = machine.refused(number=3, user="nobody", env=(("A=B", "c"),))
    assert {(each.reason, each.is_ours) for each in (nul, strange_name)} == {(Reason.NOT_STARTED, False)}


@needs_root
@pytest.mark.parametrize(("number", "is_ours"), [(errno.EAGAIN, True), (errno.ENOMEM, True), (errno.EPERM, False)])
def test_a_fork_that_fails_is_our_lack_and_an_account_that_cannot_be_had_is_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int, is_ours: bool
) -> None:
    def fail(*given: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", fail)
    refused = machine.refused(user="nobody")
    assert (refused.reason is Reason.NO_RESOURCES, refused.is_ours) == (is_ours, is_ours)


MAY_NOT_BECOME_ANOTHER = """
import sys
sys.path.insert(0, sys.argv[1])
from procclaw.model.outside import Launch
from procclaw.system.processes import Processes
processes = Processes(sys.argv[2])
processes.create_record(sys.argv[3])
print(processes.launch(Launch(sys.argv[3], ("true",), "/", (), "a", "b", False, user="nobody")).detail)
"""


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="NOT TESTED: takes setpriv of util-linux")
def test_root_without_the_right_to_become_another_is_told_what_failed(machine: Machine) -> None:
    record = an_attempt(machine.processes).record
    root = str(Path(__file__).resolve().parent.parent)
    deprived = ["setpriv", "--bounding-set=-setuid,-setgid", "--"]
    argv = [*deprived, sys.executable, "-c", MAY_NOT_BECOME_ANOTHER, root, str(machine.home), record]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    who = f"user {NOBODY.pw_uid}, group {NOBODY.pw_gid}"
    assert (ran.stdout, ran.stderr) == (f"starting /bin/sh as {who}: Operation not permitted\n", "")
    assert machine.processes.sight(record) == Sight(RecordPhase.BLANK)


# The lock


def is_locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """A descriptor with the lock, as it is handed over at a launch; ours is closed afterwards."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield fd
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.fixture(params=[None, pytest.param("nobody", marks=needs_root)])
def user(request: pytest.FixtureRequest) -> str | None:
    return None if request.param is None else str(request.param)


def test_a_lock_is_held_until_the_last_process_of_the_job_is_gone(
    machine: Machine, any_shell: str, place: Path, user: str | None
) -> None:
    grandchild = f"while [ ! -e {place}/go ]; do sleep 0.02; done"
    with locked(place / "lock") as fd:
        attempt = machine.start(f"(setsid sh -c '{grandchild}' &); exit 3", user=user, lock_fd=fd)
    assert machine.end(attempt).exit_code == 3
    # Shim and job are gone, and nobody is left that the grandchild descends from.
    eventually(lambda: machine.processes.start_ticks(attempt.pid or 0) is None)
    eventually(lambda: len(machine.members(attempt)) >= 1)
    assert is_locked(place / "lock")
    (place / "go").touch()
    eventually(lambda: not is_locked(place / "lock"))
    # Its files are closed a moment before it counts as dead.
    eventually(lambda: machine.members(attempt) == ())


def test_a_lock_is_free_once_a_job_was_killed_shim_and_all(
    machine: Machine, any_shell: str, place: Path, user: str | None
) -> None:
    with locked(place / "lock") as fd:
        attempt = machine.start("sleep 600 & echo up; wait", user=user, lock_fd=fd)
    machine.wait_for(attempt, "up")
    os.kill(attempt.pid or 0, signal.SIGKILL)
    machine.end(attempt)
    assert is_locked(place / "lock")
    machine.stop(attempt)
    eventually(lambda: not is_locked(place / "lock"))


def test_the_lock_is_all_that_a_job_has_besides_its_three_descriptors(
    machine: Machine, any_shell: str, place: Path, user: str | None
) -> None:
    with locked(place / "lock") as fd:
        attempt = machine.start("exec ls /proc/self/fd", user=user, lock_fd=fd)
    *usual, lock = said(machine, attempt)
    assert usual == ["0", "1", "2", "3"]
    assert int(lock) >= LOCK_FD


@pytest.mark.parametrize("number", [3, 4, 9, LOCK_FD, LOCK_FD + 1])
def test_the_lock_may_have_any_number_with_us(
    machine: Machine, place: Path, user: str | None, number: int, reaper: Reaper
) -> None:
    with locked(place / "lock") as fd:
        try:
            os.fstat(number)
            kept = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 200)
        except OSError:
            kept = None
        was_inheritable = kept is not None and os.get_inheritable(number)
        os.dup2(fd, number, inheritable=False)
        try:
            attempt = machine.start("echo up; exec sleep 600", user=user, lock_fd=number)
        finally:
            if kept is None:
                os.close(number)
            else:
                os.dup2(kept, number, inheritable=was_inheritable)
                os.close(kept)
    machine.wait_for(attempt, "up")
    assert is_locked(place / "lock")
    machine.stop(attempt)
    # The shim has it too, until a moment after its code is on record.
    eventually(lambda: not is_locked(place / "lock"))


def test_a_relay_has_no_part_in_the_lock(machine: Machine, place: Path, user: str | None) -> None:
    with locked(place / "lock") as fd:
        attempt = machine.start("echo up; exec sleep 600", user=user, lock_fd=fd, timestamps=True)
    machine.wait_for(attempt, "up")
    holders = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if has_open(pid, place / "lock")}
    assert holders == {attempt.pid, *machine.pids(attempt)}


def has_open(pid: int, path: Path) -> bool:
    """Whoever ends meanwhile, or closes what was listed, has not."""
    with contextlib.suppress(OSError):
        return any(target(f"/proc/{pid}/fd/{fd}") == str(path) for fd in os.listdir(f"/proc/{pid}/fd"))
    return False


def target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def test_a_launch_that_is_refused_leaves_the_lock_with_us_alone(
    machine: Machine, place: Path, user: str | None
) -> None:
    with locked(place / "lock") as fd:
        machine.refused(user=user, argv=("x" * 200_000,), lock_fd=fd)
        assert is_locked(place / "lock")
    assert not is_locked(place / "lock")


# All at once


@needs_root
@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("niceness", [11, -3])
def test_account_group_umask_niceness_and_lock_go_together(
    machine: Machine, any_shell: str, place: Path, niceness: int, timestamps: bool
) -> None:
    text = f'id -u; id -g; umask; nice; echo "$COLOUR"; cd {place}; : >made; echo up; exec sleep 600'
    with locked(place / "lock") as fd:
        attempt = machine.start(
            text,
            user="nobody",
            group="daemon",
            umask=0o027,
            nice=niceness,
            lock_fd=fd,
            timestamps=timestamps,
            env={"COLOUR": "blue"},
        )
    machine.wait_for(attempt, "up\n")
    lines = [line.split()[-1] for line in machine.log(attempt).splitlines()]
    assert lines == [str(NOBODY.pw_uid), str(DAEMON.pw_gid), "0027", str(niceness), "blue", "up"]
    made = (place / "made").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (NOBODY.pw_uid, DAEMON.pw_gid, 0o640)
    assert is_locked(place / "lock")
    assert machine.processes.sight(attempt.record).job_pid in machine.pids(attempt)
    assert machine.stop(attempt).exit_code == 143
    # The shim has it too, until a moment after its code is on record.
    eventually(lambda: not is_locked(place / "lock"))
