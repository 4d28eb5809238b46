"""What a check-up makes of what was seen, a row for every finding; and that no examination ends another.

Whole set-ups are made bad on purpose in `test_doctor`.
"""

import os
import pwd
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.autostart import Seen
from procclaw.engine.checkup import check_up
from procclaw.engine.checkup.demands import (
    Examined,
    Fault,
    Program,
    fault_of_word,
    judge_faults,
    judge_jobs,
    judge_problems,
    judge_zones,
    programs_of,
)
from procclaw.engine.checkup.finding import Finding, Level, listed, ok, problem, warning
from procclaw.engine.checkup.keeping import Serves, judge_crontab, judge_daemon, judge_service
from procclaw.engine.checkup.machine import (
    judge_adoption,
    judge_clock,
    judge_limits,
    judge_python,
    judge_watching,
)
from procclaw.engine.checkup.place import (
    judge_configuration_access,
    judge_database,
    judge_file_system,
    judge_home,
    judge_room,
)
from procclaw.engine.checkup.reach import (
    judge_address,
    judge_openclaw,
    judge_port,
    judge_served,
    judge_socket,
)
from procclaw.engine.checkup.secrets import judge_keychain, judge_secrets
from procclaw.engine.operations import Api
from procclaw.model.errors import ProcclawError
from procclaw.system.autostart import Entry, Standing
from procclaw.system.autostart.systemd import Systemd
from procclaw.system.filesystem import Access, Room, mount_of
from procclaw.system.listening import Listener
from procclaw.system.processes.limits import Allowance
from procclaw.system.processes.orphans import Adoption
from procclaw.system.store.database import RESERVE_BYTES, SCHEMA_VERSION
from tests.builders import NOW

H = "/srv/home"
ME = 1000
MIB = 2**20
UNIT = "/u/procclaw.service"
PROGRAM = "/opt/procclaw.pyz"
PYTHON = "/usr/bin/python3"
STARTS = f"/usr/bin/python3 {PROGRAM} --home {H} daemon start --foreground --keep-holds"
LINE = f"* * * * * /usr/bin/python3 {PROGRAM} --home {H} reconcile # by procclaw service install --cron"


def command(words: str) -> str:
    return f"procclaw {words}"


# --- where the home lies ---


def folder(mode: int = 0o700, owner: int = ME, path: str = H) -> Access:
    return Access(path, owner, mode, is_folder=True)


def file(path: str, mode: int = 0o600, owner: int = ME) -> Access:
    return Access(path, owner, mode, is_folder=False)


@pytest.mark.parametrize(
    ("home", "parent", "wanted"),
    [
        pytest.param(folder(), folder(0o755, 0, "/srv"), ok("home", f"{H}, yours alone"), id="as init makes it"),
        pytest.param(folder(), folder(0o1777, 0, "/srv"), ok("home", f"{H}, yours alone"), id="in a sticky folder"),
        pytest.param(None, None, problem("home", f"there is none at {H}", "procclaw init"), id="absent"),
        pytest.param(
            file(H),
            None,
            problem("home", f"{H} is no folder", f"mv {H} {H}.old && procclaw init"),
            id="a file",
        ),
        pytest.param(
            folder(owner=0),
            None,
            problem(
                "home",
                f"{H} belongs to user 0, and this is user 1000: every command is refused",
                f"sudo chown -R 1000 {H}",
            ),
            id="somebody else's",
        ),
        pytest.param(
            folder(0o775),
            None,
            problem("home", f"others can change what is in {H} (mode 775)", f"chmod 700 {H}"),
            id="others can write",
        ),
        pytest.param(
            folder(0o755),
            None,
            warning("home", f"others can look in {H} (mode 755)", f"chmod 700 {H}"),
            id="others can read",
        ),
        pytest.param(
            folder(),
            folder(0o777, 0, "/srv"),
            warning(
                "home",
                "anybody can take it away, because /srv is open to all (mode 777)",
                "chmod o-w /srv",
            ),
            id="anybody can rename it",
        ),
    ],
)
def test_the_home_itself(home: Access | None, parent: Access | None, wanted: Finding) -> None:
    assert judge_home(H, home, parent, ME, "procclaw init") == wanted


@pytest.mark.parametrize(
    ("found", "home_mode", "wanted"),
    [
        pytest.param(file(f"{H}/jobs.yaml", 0o666), 0o700, [], id="the closed home protects what is in it"),
        pytest.param(
            file(f"{H}/jobs.yaml", 0o666),
            0o755,
            [
                problem(
                    "files",
                    f"anybody can write {H}/jobs.yaml (mode 666), and so decide what runs as you",
                    f"chmod go-w {H}/jobs.yaml",
                )
            ],
            id="an open one does not",
        ),
        pytest.param(
            file("/git/jobs.yaml", 0o664),
            0o700,
            [
                warning(
                    "files",
                    "its group can write /git/jobs.yaml (mode 664), and so decide what runs as you",
                    "chmod go-w /git/jobs.yaml",
                )
            ],
            id="a link leads out of it",
        ),
        pytest.param(
            file("/git/jobs.yaml", owner=1001),
            0o700,
            [
                problem(
                    "files",
                    "/git/jobs.yaml belongs to user 1001, who so decides what runs as you",
                    "sudo chown 1000 /git/jobs.yaml",
                )
            ],
            id="to somebody's file",
        ),
        pytest.param(file("/etc/jobs.yaml", 0o644, 0), 0o700, [], id="to root's"),
    ],
)
def test_who_decides_what_runs(found: Access, home_mode: int, wanted: list[Finding]) -> None:
    assert list(judge_configuration_access([found], folder(home_mode), ME)) == wanted


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:20 / /proc rw - proc proc rw
30 22 0:40 / /nfs rw shared:2 - nfs4 nas:/export rw,vers=4.2
31 22 0:41 / /ssh rw - fuse.sshfs me@nas:/ rw
32 22 0:42 / /enc rw - fuse.gocryptfs /x rw
33 22 8:2 / /stick rw - vfat /dev/sdb1 rw
34 22 0:43 / /ram rw - tmpfs tmpfs rw
35 22 0:44 / /layer rw - overlay overlay rw
36 22 8:3 / /frozen ro - ext4 /dev/sdc1 rw
37 22 8:4 / /dying rw - xfs /dev/sdd1 ro
38 22 0:45 / /with\\040blank rw - 9p drvfs rw
39 22 0:46 / /hidden rw - nfs nas:/a rw
40 22 8:5 / /hidden rw - btrfs /dev/sde1 rw
41 22 0:47 / /nfsx rw - ext4 /dev/sdf1 rw
nonsense
"""
ELSEWHERE = "move it to a local disk: export PROCCLAW_HOME=/a/local/folder"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/srv/home", ok("file system", "ext4, mounted at /")),
        ("/nfsx/home", ok("file system", "ext4, mounted at /nfsx")),
        ("/hidden/home", ok("file system", "btrfs, mounted at /hidden")),
        *(
            (
                f"{point}/home",
                problem(
                    "file system",
                    f"the home is on {kind}, mounted at {point}: locks and mapped memory do not hold there",
                    ELSEWHERE,
                ),
            )
            for point, kind in (("/nfs", "nfs4"), ("/ssh", "fuse.sshfs"), ("/with blank", "9p"))
        ),
        (
            "/enc/home",
            warning(
                "file system",
                "the home is on fuse.gocryptfs, mounted at /enc: locks are as good as the program behind it",
                ELSEWHERE,
            ),
        ),
        (
            "/stick/home",
            problem(
                "file system",
                "the home is on vfat, mounted at /stick: it keeps neither owners nor modes, so nothing is yours",
                ELSEWHERE,
            ),
        ),
        (
            "/ram/home",
            warning("file system", "the home is on tmpfs, mounted at /ram: all is gone after a reboot", ELSEWHERE),
        ),
        (
            "/layer/home",
            warning(
                "file system",
                "the home is on overlay, mounted at /layer: it goes when the container is removed",
                "docker run -v procclaw:/layer/home ...",
            ),
        ),
        *(
            (
                f"{point}/home",
                problem(
                    "file system", f"{kind}, mounted at {point}: it is read-only", f"sudo mount -o remount,rw {point}"
                ),
            )
            for point, kind in (("/frozen", "ext4"), ("/dying", "xfs"))
        ),
    ],
)
def test_the_file_system_of_the_home(path: str, wanted: Finding) -> None:
    assert judge_file_system(path, mount_of(path, MOUNTS), None) == wanted


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        (None, ok("file system", "local, as far as this system tells")),
        ("NFS", problem("file system", "the home is on NFS, where locks do not hold", ELSEWHERE)),
    ],
)
def test_the_file_system_where_there_is_no_table_of_mounts(network: str | None, wanted: Finding) -> None:
    assert judge_file_system(H, mount_of(H, ""), network) == wanted


LARGEST = f"du -xhd2 {H} | sort -h | tail; df -h {H}"
MANY_FILES = f"find {H} -xdev -type f | cut -d/ -f1-6 | sort | uniq -c | sort -n | tail; df -i {H}"
ROOMY = ok("disk", "2.0 GiB are free")


@pytest.mark.parametrize(
    ("room", "reserve", "wanted"),
    [
        pytest.param(Room(2048 * MIB, 10_000), RESERVE_BYTES, [ROOMY], id="room enough"),
        pytest.param(Room(2048 * MIB, None), RESERVE_BYTES, [ROOMY], id="inodes are not counted"),
        pytest.param(
            Room(511 * MIB, None), RESERVE_BYTES, [warning("disk", "511 MiB are free", LARGEST)], id="little room"
        ),
        pytest.param(Room(512 * MIB, None), RESERVE_BYTES, [ok("disk", "0.5 GiB are free")], id="just enough"),
        pytest.param(
            Room(63 * MIB, None),
            RESERVE_BYTES,
            [problem("disk", "63 MiB are free: soon no job can be started", LARGEST)],
            id="hardly any room",
        ),
        pytest.param(
            Room(2048 * MIB, 4_999),
            RESERVE_BYTES,
            [ROOMY, warning("disk", "4999 more files fit (inodes), whatever room there is", MANY_FILES)],
            id="few inodes",
        ),
        pytest.param(
            Room(2048 * MIB, 0),
            RESERVE_BYTES,
            [ROOMY, problem("disk", "0 more files fit (inodes), whatever room there is", MANY_FILES)],
            id="no inodes",
        ),
        pytest.param(
            Room(2048 * MIB, None),
            0,
            [
                ROOMY,
                warning("disk", "the 8 MiB kept back for a full disk are not there", "procclaw reconcile"),
            ],
            id="the reserve is not there yet",
        ),
        pytest.param(
            Room(2048 * MIB, 0),
            0,
            [
                ROOMY,
                problem("disk", "0 more files fit (inodes), whatever room there is", MANY_FILES),
                warning(
                    "disk", "the 8 MiB kept back for a full disk are not there", "make room; then procclaw reconcile"
                ),
            ],
            id="there is no inode for the reserve",
        ),
        pytest.param(
            Room(511 * MIB, None),
            0,
            [
                warning("disk", "511 MiB are free", LARGEST),
                warning(
                    "disk", "the 8 MiB kept back for a full disk are not there", "make room; then procclaw reconcile"
                ),
            ],
            id="the reserve is used up",
        ),
    ],
)
def test_the_room_there_is(room: Room, reserve: int, wanted: list[Finding]) -> None:
    assert list(judge_room(H, room, reserve)) == wanted


@pytest.mark.parametrize(
    ("schema", "size", "wanted"),
    [
        (SCHEMA_VERSION, 3 * MIB, "3.0 MiB, sound"),
        (SCHEMA_VERSION, 300 * MIB, "300.0 MiB, too large to be read through now"),
        (
            1,
            MIB,
            "1.0 MiB, sound; of an earlier version (schema 1), "
            f"brought to this one ({SCHEMA_VERSION}) when next opened",
        ),
    ],
)
def test_a_database_that_opens(schema: int, size: int, wanted: str) -> None:
    assert judge_database(schema, size) == ok("database", wanted)


# --- who keeps it going ---


def kept(**fields: Any) -> Seen:
    """A service that is installed and runs, as pid 7."""
    usual: dict[str, Any] = {
        "kind": "systemd",
        "name": "procclaw.service",
        "path": UNIT,
        "is_installed": True,
        "is_ours": True,
        "starts": STARTS,
        "starts_this": True,
        "is_current": True,
        "standing": Standing(is_enabled=True, is_active=True, pid=7, detail="active (running)"),
        "lack": None,
        "cron_line": None,
        "is_cron_current": False,
        "daemon_pid": 7,
        "hints": (),
    }
    return Seen(**usual | fields)


NOT_KEPT = kept(
    is_installed=False,
    is_ours=False,
    starts="",
    starts_this=False,
    is_current=False,
    standing=Standing(),
    daemon_pid=None,
)
BY_CRON = NOT_KEPT._replace(cron_line=LINE, is_cron_current=True)
NO_SYSTEMD = "there is no systemctl"
RUNS = ok("service", "procclaw.service (systemd), active (running)")
LINGER = "it runs while alice is logged in, and ends with the last session, jobs included"
INSTALL = "procclaw service install"


@pytest.mark.parametrize(
    ("seen", "there", "wanted"),
    [
        pytest.param(kept(), True, [RUNS], id="it runs"),
        pytest.param(
            kept(hints=(f"{LINGER}; to have it run always: loginctl enable-linger alice",)),
            True,
            [warning("service", LINGER, "to have it run always: loginctl enable-linger alice"), RUNS],
            id="no linger",
        ),
        pytest.param(
            kept(hints=("it runs while you are logged in to the desktop",)),
            True,
            [ok("service", "it runs while you are logged in to the desktop"), RUNS],
            id="a hint without a remedy",
        ),
        pytest.param(
            NOT_KEPT,
            True,
            [warning("service", "none: after a reboot nothing starts ProcClaw", INSTALL)],
            id="nothing is installed",
        ),
        pytest.param(
            NOT_KEPT._replace(lack=NO_SYSTEMD),
            True,
            [
                warning(
                    "service",
                    f"none: after a reboot nothing starts ProcClaw; {NO_SYSTEMD}",
                    f"{INSTALL} --cron, or daemon start -f as a container's command",
                )
            ],
            id="nor can it be",
        ),
        pytest.param(BY_CRON, True, [ok("service", "none, and cron needs none")], id="cron does it"),
        pytest.param(
            NOT_KEPT._replace(daemon_pid=1),
            True,
            [ok("service", "none; the daemon is this container's first process")],
            id="a container",
        ),
        pytest.param(
            kept(is_ours=False),
            True,
            [warning("service", f"{UNIT} was not written by procclaw", f"{INSTALL} --force")],
            id="somebody else's unit",
        ),
        pytest.param(
            kept(starts_this=False, is_current=False),
            False,
            [problem("service", f"it starts {PROGRAM}, which is not there", INSTALL)],
            id="its program has gone",
        ),
        pytest.param(
            kept(starts_this=False, is_current=False),
            True,
            [warning("service", f"it starts another file than this: {STARTS}", INSTALL)],
            id="another program",
        ),
        pytest.param(
            kept(is_current=False),
            True,
            [warning("service", f"{UNIT} is not as this version writes it", INSTALL)],
            id="an older unit",
        ),
        pytest.param(
            kept(lack=NO_SYSTEMD, standing=Standing()),
            True,
            [problem("service", f"it is installed, but {NO_SYSTEMD}", f"{INSTALL} --cron")],
            id="systemd has gone",
        ),
        pytest.param(
            kept(standing=Standing(is_active=True, pid=7, detail="active (running)")),
            True,
            [problem("service", "it is installed, but not started with the machine", INSTALL), RUNS],
            id="not enabled",
        ),
        pytest.param(
            kept(standing=Standing(is_enabled=True, detail="failed (failed), exit-code"), daemon_pid=None),
            True,
            [problem("service", "it is installed, but does not run (failed (failed), exit-code)", INSTALL)],
            id="it failed",
        ),
        pytest.param(
            kept(standing=Standing(is_enabled=True, detail="inactive (dead)"), daemon_pid=9),
            True,
            [warning("service", "a daemon runs (pid 9), but not as the service", INSTALL)],
            id="a daemon beside it",
        ),
    ],
)
def test_the_service(seen: Seen, there: bool, wanted: list[Finding]) -> None:
    assert list(judge_service(seen, lambda path: there or path != PROGRAM, command)) == wanted


def test_what_systemd_has_to_say_of_lingering_is_a_remedy(tmp_path: Path) -> None:
    unit = Systemd(Entry((PYTHON, PROGRAM), H), is_root=False, units=str(tmp_path), lingering=str(tmp_path))
    found = next(judge_service(kept(hints=unit.hints()), lambda _: True, command))
    user = pwd.getpwuid(os.getuid()).pw_name
    told = f"it runs while {user} is logged in, and ends with the last session, jobs included"
    assert found == warning("service", told, f"to have it run always: loginctl enable-linger {user}")
    (tmp_path / user).touch()
    assert list(judge_service(kept(hints=unit.hints()), lambda _: True, command)) == [RUNS]


def test_the_program_of_a_unit_is_read_as_systemd_quotes_it() -> None:
    starts = ':/usr/bin/python3 "/opt/my app/50%%.pyz" --home /h daemon start'
    there = {"/usr/bin/python3"}
    found = next(judge_service(kept(starts=starts), there.__contains__, command))
    assert found == problem("service", "it starts /opt/my app/50%.pyz, which is not there", INSTALL)
    there.add("/opt/my app/50%.pyz")
    assert list(judge_service(kept(starts=starts), there.__contains__, command)) == [RUNS]


WELL = Serves(7, is_up=True, program=PROGRAM, address="http://127.0.0.1:9876", answer=Listener("1.0"))
AS_SERVICE = "procclaw daemon stop && procclaw service install"


@pytest.mark.parametrize(
    ("serves", "seen", "wanted"),
    [
        pytest.param(WELL, kept(), ok("daemon", "pid 7, version 1.0"), id="well"),
        pytest.param(
            WELL._replace(address=None, answer=None, program=""),
            kept(),
            ok("daemon", "pid 7, version 1.0"),
            id="not served by HTTP",
        ),
        pytest.param(None, BY_CRON, ok("daemon", "none runs; cron does its work"), id="cron instead"),
        pytest.param(None, kept(), ok("daemon", "none runs"), id="the service is to blame"),
        pytest.param(
            None,
            NOT_KEPT,
            warning("daemon", "none runs: jobs are looked at only while a command is run", "procclaw daemon start"),
            id="nobody",
        ),
        pytest.param(
            WELL._replace(is_up=False),
            kept(),
            warning("daemon", "pid 7 is coming up", "procclaw daemon logs"),
            id="coming up",
        ),
        pytest.param(
            WELL._replace(answer=Listener("0.9")),
            kept(),
            warning("daemon", "pid 7 is version 0.9, and this is 1.0", AS_SERVICE),
            id="another version",
        ),
        pytest.param(
            WELL._replace(program="/old.pyz"),
            NOT_KEPT,
            warning(
                "daemon",
                f"pid 7 runs another file (/old.pyz) than this ({PROGRAM})",
                "procclaw daemon stop && procclaw daemon start",
            ),
            id="another file",
        ),
        pytest.param(
            WELL._replace(answer=Listener("1.0", ("jobs.yaml:3 jobs.a: bad", "the loop is late by 31 s"))),
            kept(),
            problem("daemon", "pid 7: the loop is late by 31 s", f"procclaw daemon logs; {AS_SERVICE}"),
            id="it hangs",
        ),
        pytest.param(
            WELL._replace(answer=Listener("1.0", ("jobs.yaml:3 jobs.a: bad",))),
            kept(),
            ok("daemon", "pid 7, version 1.0"),
            id="the configuration is told of elsewhere",
        ),
        *(
            pytest.param(
                WELL._replace(answer=answer),
                kept(),
                problem("daemon", "pid 7 does not answer at http://127.0.0.1:9876", AS_SERVICE),
                id=f"{answer} answers",
            )
            for answer in (None, Listener(None))
        ),
    ],
)
def test_the_daemon(serves: Serves | None, seen: Seen, wanted: Finding) -> None:
    assert judge_daemon(serves, "1.0", PROGRAM, seen, command) == wanted


RENEW = "procclaw service install --cron"
EACH_MINUTE = ok("crontab", "procclaw reconcile runs every minute")
BARE = "* * * * * procclaw reconcile"


@pytest.mark.parametrize(
    ("text", "seen", "is_up", "wanted"),
    [
        pytest.param(f"{LINE}\n", BY_CRON, True, [EACH_MINUTE], id="ours"),
        pytest.param(
            f"{LINE}\n",
            BY_CRON,
            False,
            [warning("crontab", "no cron is seen to run that would read it", "sudo service cron start")],
            id="no cron runs",
        ),
        pytest.param(
            f"{LINE}\n",
            BY_CRON._replace(is_cron_current=False),
            True,
            [warning("crontab", f"its line is not as this version writes it: {LINE}", RENEW)],
            id="an older line of ours",
        ),
        pytest.param(
            f"{LINE.replace(PROGRAM, '/gone.pyz')}\n",
            BY_CRON._replace(cron_line=LINE.replace(PROGRAM, "/gone.pyz"), is_cron_current=False),
            True,
            [
                problem("crontab", f"/gone.pyz is not there: {LINE.replace(PROGRAM, '/gone.pyz')}", RENEW),
                warning(
                    "crontab", f"its line is not as this version writes it: {LINE.replace(PROGRAM, '/gone.pyz')}", RENEW
                ),
            ],
            id="its program has gone",
        ),
        pytest.param(
            f"{BARE}\n",
            NOT_KEPT,
            True,
            [problem("crontab", f"procclaw is not on the PATH that cron gives (/usr/bin:/bin): {BARE}", RENEW)],
            id="a word that only the user's own shell finds",
        ),
        pytest.param(
            "* * * * * LANG=C API_TOKEN=s3cret procclaw trigger a\n",
            NOT_KEPT,
            True,
            [
                problem(
                    "crontab",
                    "procclaw is not on the PATH that cron gives (/usr/bin:/bin): * * * * * LANG=C API_TOKEN=****",
                    RENEW,
                )
            ],
            id="a line with a secret",
        ),
        pytest.param(f'PATH = "/my/bin:/bin"\n{BARE}\n', NOT_KEPT, True, [], id="the crontab names a PATH"),
        pytest.param(
            f"{BARE}\nPATH=/my/bin\n",
            NOT_KEPT,
            True,
            [problem("crontab", f"procclaw is not on the PATH that cron gives (/usr/bin:/bin): {BARE}", RENEW)],
            id="only for what follows",
        ),
        pytest.param(
            "@hourly A=1 B='2 3' procclaw.pyz reconcile\n",
            NOT_KEPT,
            True,
            [
                problem(
                    "crontab",
                    "procclaw.pyz is not on the PATH that cron gives (/usr/bin:/bin): "
                    "@hourly A=1 B='2 3' procclaw.pyz reconcile",
                    RENEW,
                )
            ],
            id="behind settings",
        ),
        pytest.param(
            f"# {BARE}\n\n* * * * * backup\n* * * * * cd /x && procclaw reconcile\n* * *\n* * * * * 'procclaw\n",
            NOT_KEPT,
            True,
            [],
            id="what is none of our business, or cannot be told",
        ),
    ],
)
def test_the_crontab(text: str, seen: Seen, is_up: bool, wanted: list[Finding]) -> None:
    there = {("/usr/bin/python3", "/usr/bin:/bin"), (PROGRAM, "/usr/bin:/bin"), ("procclaw", "/my/bin:/bin")}
    found = judge_crontab(text, seen, is_up, lambda word, path: (word, path) in there, command)
    assert list(found) == wanted


# --- what jobs need ---


def test_the_faults_of_the_configuration_are_told_up_to_ten() -> None:
    wanted = [problem("configuration", f"p{n} (nothing is in force)", "check") for n in range(10)]
    assert list(judge_problems(tuple(f"p{n}" for n in range(10)), "nothing is in force", "check")) == wanted
    more = list(judge_problems(tuple(f"p{n}" for n in range(12)), "nothing is in force", "check"))
    assert more == [*wanted, problem("configuration", "2 more problems", "check")]


def test_what_several_jobs_lack_is_told_once() -> None:
    fault = Fault("commands", '"x" is not there', "install it")
    assert list(judge_faults({fault: ["a", "b"]})) == [problem("commands", 'a, b: "x" is not there', "install it")]
    assert listed([str(n) for n in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("here", []),
        (
            "mine",
            [
                Fault(
                    "commands",
                    '"mine" is not on the PATH that jobs get (/bin)',
                    "in procclaw.yaml, under env: PATH: /home/me/bin:/bin",
                )
            ],
        ),
        (
            "nowhere",
            [
                Fault(
                    "commands",
                    '"nowhere" is not on the PATH that jobs get (/bin)',
                    "install it, or name it in cmd with its folder",
                )
            ],
        ),
        ("/x/y", [Fault("commands", "/x/y is not there", "put it there, or mend cmd in jobs.yaml")]),
        ("./y", [Fault("commands", "/cwd/y is not there", "put it there, or mend cmd in jobs.yaml")]),
    ],
)
def test_a_command_is_looked_for_where_the_job_would(word: str, wanted: list[Fault]) -> None:
    def which(name: str, path: str | None = None) -> str | None:
        return {("here", "/bin"): "/bin/here", ("mine", None): "/home/me/bin/mine"}.get((name, path))

    assert list(fault_of_word(word, "/bin", "/cwd", which)) == wanted


@pytest.mark.parametrize(
    ("cmd", "wanted"),
    [
        ("restic backup", [Program("restic", "/cwd")]),
        (("restic", "-c", "./x"), [Program("restic", "/cwd")]),
        (("/bin/bash", "-c", "pg_backup.sh daily"), [Program("/bin/bash", "/cwd"), Program("pg_backup.sh", "/cwd")]),
        (("sh", "-ec", "cd app; cd ../b && ./run"), [Program("sh", "/cwd"), Program("./run", "/cwd/app/../b")]),
        (("sh", "run.sh"), [Program("sh", "/cwd")]),
        (("bash", "-lc", "restic"), [Program("bash", "/cwd"), None]),
        (("bash", "-c"), [Program("bash", "/cwd"), None]),
        (("bash", "-c", "[ -x /opt/x ] && /opt/x"), [Program("bash", "/cwd"), None]),
        (("${env:SHELL}", "-c", "x"), [None]),
        ("cd /srv/app && php artisan", [Program("php", "/srv/app")]),
    ],
)
def test_the_programs_of_a_command(cmd: str | tuple[str, ...], wanted: list[Program | None]) -> None:
    assert programs_of(cmd, "/cwd") == wanted


def test_only_what_was_looked_for_is_said_to_be_found() -> None:
    good, unknown = Examined((), has_program=True), Examined((), has_program=False)
    bad = Examined((Fault("commands", "gone", "mend it"),), has_program=True)
    not_examined = ok("commands", "not examined, for what they start with is no plain program: u")
    assert list(judge_jobs({})) == []
    assert list(judge_jobs({"g": good})) == [ok("commands", "all are found on the PATH that jobs get")]
    assert list(judge_jobs({"u": unknown})) == [not_examined]
    some = ok("commands", "those that were examined are found on the PATH that jobs get")
    assert list(judge_jobs({"g": good, "u": unknown})) == [some, not_examined]
    assert list(judge_jobs({"b": bad, "g": good})) == [problem("commands", "b: gone", "mend it")]


@pytest.mark.parametrize(
    ("unknown", "wanted"),
    [
        ([], ok("time zones", "times without a zone are of Europe/Berlin")),
        (
            ["Mars/Base"],
            problem(
                "time zones",
                "this machine does not know Mars/Base: what is scheduled there never runs",
                "sudo apt-get install tzdata, or mend the name in jobs.yaml",
            ),
        ),
    ],
)
def test_the_zones_of_jobs(unknown: list[str], wanted: Finding) -> None:
    assert judge_zones("Europe/Berlin", unknown) == wanted


@pytest.mark.parametrize(
    ("trouble", "names", "wanted"),
    [
        ("", ["A"], ok("keychain", "can be had")),
        (
            "is not there: no session bus",
            [],
            ok("keychain", "it is not there: no session bus; secrets go into the home's .secrets"),
        ),
        (
            "is locked",
            ["A", "B"],
            problem(
                "keychain",
                "A, B: kept in the keychain, which is locked",
                "unlock it, or: procclaw secret set A --file",
            ),
        ),
    ],
)
def test_the_keychain(trouble: str, names: list[str], wanted: Finding) -> None:
    assert judge_keychain(trouble, names, command) == wanted


@pytest.mark.parametrize(
    ("wanted", "missing", "found"),
    [
        ({}, {}, []),
        ({"A": ["x"]}, {}, [ok("secrets", "1 of 1 are set")]),
        (
            {"A": ["x", "y"], "B": ["x"]},
            {"A": ["x", "y"]},
            [problem("secrets", "x, y: the secret A is not set", "procclaw secret set A")],
        ),
    ],
)
def test_the_secrets_that_jobs_name(
    wanted: dict[str, list[str]], missing: dict[str, list[str]], found: list[Finding]
) -> None:
    assert list(judge_secrets(wanted, missing, command)) == found


# --- what has to be reached ---


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_an_address_of_this_machine_is_no_matter(host: str) -> None:
    assert list(judge_address(host, 9876, is_guarded=False)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "nas.example"])
def test_an_address_that_others_reach_needs_a_token_and_better_a_tunnel(host: str) -> None:
    assert list(judge_address(host, 9876, is_guarded=False)) == [
        problem(
            "http",
            f"daemon.host is {host}, which other machines can reach, and no token is asked for: it is not served",
            "in procclaw.yaml: daemon.host 127.0.0.1, or api.auth with enabled and a token",
        )
    ]
    assert list(judge_address(host, 9876, is_guarded=True)) == [
        warning(
            "http",
            f"on {host} port 9876 the token and all else goes unencrypted over the network",
            "daemon.host 127.0.0.1, and from elsewhere: ssh -L 9876:127.0.0.1:9876 HOST",
        )
    ]


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")


WHO = "ss -ltnp 'sport = :9876'"


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(
    ("api", "wanted"),
    [
        (Api("http://127.0.0.1:9876", None), ok("http", "http://127.0.0.1:9876")),
        (Api(None, "127.0.0.1 port 9876: taken"), problem("http", "not served: 127.0.0.1 port 9876: taken", WHO)),
        (Api(None, None), warning("http", "not served yet", "procclaw daemon logs")),
    ],
)
def test_what_a_daemon_says_of_its_address(api: Api, wanted: Finding) -> None:
    assert judge_served(api, 9876, "procclaw daemon logs") == wanted


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(
    ("listener", "by_cron", "wanted"),
    [
        (None, False, ok("http", "127.0.0.1 port 9876 is free")),
        (
            Listener(None),
            False,
            problem("http", "127.0.0.1 port 9876 is taken by another program", f"{WHO}, or another daemon.port"),
        ),
        (
            Listener("0.3"),
            True,
            warning("http", "127.0.0.1 port 9876 is taken by another ProcClaw (0.3)", f"{WHO}, or another daemon.port"),
        ),
    ],
)
def test_the_port_while_no_daemon_runs(listener: Listener | None, by_cron: bool, wanted: Finding) -> None:
    assert judge_port("127.0.0.1", 9876, listener, is_by_cron=by_cron) == wanted


def test_a_path_that_is_too_long_for_a_socket() -> None:
    assert judge_socket(H, has_address=True) == ok("socket", "its path is short enough")
    assert judge_socket(H, has_address=False) == warning(
        "socket",
        f"{H} is too long for a socket's address: a daemon notices requests up to a second later",
        "choose a shorter home: export PROCCLAW_HOME=~/.procclaw",
    )


@pytest.mark.parametrize(
    ("path", "fallback", "wanted"),
    [
        ("/bin/openclaw", True, ok("openclaw", "alerts go to telegram, by /bin/openclaw")),
        (
            "/bin/openclaw",
            False,
            warning(
                "openclaw",
                "alerts go to telegram, and nowhere while OpenClaw does not run",
                "name a fallback: openclaw.alerts.fallback in procclaw.yaml",
            ),
        ),
        (
            None,
            True,
            problem(
                "openclaw",
                "alerts go to telegram, and there is no openclaw on the PATH that commands get (/bin)",
                'in procclaw.yaml, under env: PATH with what dirname "$(command -v openclaw)" says',
            ),
        ),
    ],
)
def test_openclaw_where_alerts_go_through_it(path: str | None, fallback: bool, wanted: Finding) -> None:
    assert judge_openclaw(["telegram"], path, "/bin", fallback) == wanted


# --- the machine ---


@pytest.mark.parametrize(
    ("implementation", "version", "level"),
    [
        ("CPython", (3, 11, 0), Level.OK),
        ("CPython", (3, 13, 9), Level.OK),
        ("CPython", (3, 14, 0), Level.WARNING),
        ("PyPy", (3, 11, 0), Level.WARNING),
    ],
)
def test_the_python(implementation: str, version: tuple[int, ...], level: Level) -> None:
    found = judge_python(implementation, version, "/usr/bin/python3")
    assert found.level is level
    told = f"{implementation} {'.'.join(map(str, version))} (/usr/bin/python3)"
    if level is Level.WARNING:
        assert found[2:] == (
            f"{told}: ProcClaw was tried with CPython 3.11 to 3.13",
            "python3.13 procclaw.pyz ...",
        )
    else:
        assert found.found == told


BY_NTP = "sudo timedatectl set-ntp true"


@pytest.mark.parametrize(
    ("now", "noted", "is_right", "wanted"),
    [
        pytest.param(NOW, NOW, True, ok("clock", "set by NTP"), id="right"),
        pytest.param(
            NOW,
            None,
            None,
            ok("clock", "it says 2026-06-01T12:00:00Z; whether it is right nobody here tells"),
            id="nobody tells",
        ),
        pytest.param(
            NOW,
            None,
            False,
            warning("clock", "nobody sets it right (no NTP): schedules drift with it", BY_NTP),
            id="not set by NTP",
        ),
        pytest.param(
            NOW.replace(year=1970),
            None,
            None,
            problem("clock", "it says 1970-06-01T12:00:00Z: nothing is due when it should be", BY_NTP),
            id="a board without a battery",
        ),
        pytest.param(
            NOW,
            NOW + timedelta(seconds=2),
            True,
            ok("clock", "set by NTP"),
            id="as much as clocks are stepped",
        ),
        pytest.param(
            NOW,
            NOW + timedelta(hours=2, seconds=0.4),
            True,
            problem(
                "clock",
                "it is 2:00:00 behind what was recorded at 2026-06-01T14:00:00.400Z: "
                "what was due since does not run again",
                BY_NTP,
            ),
            id="behind the records",
        ),
    ],
)
def test_the_clock(now: Any, noted: Any, is_right: bool | None, wanted: Finding) -> None:
    assert judge_clock(now, noted, is_right) == wanted


@pytest.mark.parametrize(
    ("allowance", "jobs", "wanted"),
    [
        pytest.param(
            Allowance(None, None, None, ""),
            5000,
            [ok("limits", "any number of open files, any number of processes")],
            id="none",
        ),
        pytest.param(
            Allowance(320, 330, 31, "/p"), 10, [ok("limits", "320 open files, 330 processes")], id="just enough"
        ),
        pytest.param(
            Allowance(319, 329, 30, "/p"),
            10,
            [
                warning(
                    "limits",
                    "319 open files are allowed, and 10 jobs at once can take 320",
                    "ulimit -Hn 320, or LimitNOFILE=320 by: systemctl --user edit procclaw",
                ),
                warning(
                    "limits",
                    "329 processes are allowed to this user, and 10 jobs at once can take 330",
                    "ulimit -u 330, or in /etc/security/limits.conf: * - nproc 330",
                ),
                warning(
                    "limits",
                    "30 more processes fit in here (/p), and 10 jobs at once can take more",
                    "docker run --pids-limit 330 ..., or TasksMax=infinity for the unit or slice",
                ),
            ],
            id="one too few",
        ),
    ],
)
def test_the_limits(allowance: Allowance, jobs: int, wanted: list[Finding]) -> None:
    assert list(judge_limits(allowance, jobs)) == wanted


def test_watchers_of_files() -> None:
    assert judge_watching(can=True) == ok("inotify", "a watcher of files can be had")
    assert judge_watching(can=False) == warning(
        "inotify",
        "no watcher of files is left for this user: changes are noticed up to a second later, and cost a look each",
        "sudo sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=131072",
    )


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (Adoption(1, "systemd", 0.01), ok("orphans", "systemd (pid 1) adopts them and lets them go")),
        (Adoption(None, "", 0.0), ok("orphans", "the first process adopts them and lets them go")),
        (Adoption(1, "slow", 1.84), ok("orphans", "slow (pid 1) adopts them and lets them go, after 1.8 s")),
        (
            Adoption(1, "python3", None),
            problem(
                "orphans",
                "python3 (pid 1) adopts them and does not let them go: "
                "each job that ends while no daemon runs stays as a zombie",
                "docker run --init ..., or tini as the container's first process",
            ),
        ),
        (
            None,
            warning("orphans", "no process could be started to see what becomes of it", "ulimit -u; free -m"),
        ),
    ],
)
def test_what_becomes_of_orphans(seen: Adoption | None, wanted: Finding) -> None:
    assert judge_adoption(seen) == wanted


# --- all of them together ---


def test_the_worst_is_told_first_and_one_that_fails_or_hangs_does_not_end_the_others() -> None:
    hang = threading.Event()

    def fails(error: Exception) -> Iterator[Finding]:
        yield ok("seen before", "it failed")
        raise error

    def hangs() -> Iterator[Finding]:
        hang.wait(60)
        yield ok("late", "too late")

    try:
        found = check_up(
            "/nonexistent",
            {
                "good": lambda _: [ok("good", "all is well")],
                "refused": lambda _: fails(ProcclawError("the reason")),
                "broken": lambda _: fails(PermissionError(13, "Permission denied")),
                "wrong": lambda _: fails(KeyError("x")),
                "hung": lambda _: hangs(),
                "bad": lambda _: [warning("bad", "w", "do"), problem("bad", "p", "do")],
            },
            patience_seconds=0.5,
        )
    finally:
        hang.set()
    assert found == (
        problem("bad", "p", "do"),
        warning("refused", "cannot be looked at: the reason", None),
        warning("broken", "cannot be looked at: permission denied", None),
        warning("wrong", "cannot be looked at, a bug in ProcClaw: KeyError: 'x'", None),
        warning("hung", "no answer within 0.5 s", None),
        warning("bad", "w", "do"),
        ok("good", "all is well"),
        *(3 * [ok("seen before", "it failed")]),
    )
