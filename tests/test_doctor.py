"""`procclaw doctor` on set-ups that are good or were made bad on purpose; and that it changes nothing."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from procclaw import __version__
from procclaw.engine.checkup import EXAMINATIONS, check_up
from procclaw.model.clock import SystemClock, after
from procclaw.model.reasons import Reason
from procclaw.model.state import Lack
from procclaw.system.processes import Processes
from procclaw.system.store import Store
from tests.commandline import CommandLine
from tests.driver import Driver
from tests.test_autostart import KEEPERS

DATABASES = Path(__file__).parent / "data" / "databases"
VALUE = "a-value-that-nobody-may-see-0123456789"

Told = tuple[str, str, str, str | None]
"""Level, thing, what was found, what to do."""


class Doctor:
    """Set-ups that are bad in one way each, and what is said of them."""

    def __init__(self, cli: CommandLine, home: Path) -> None:
        self._cli = cli
        self.home = home
        self.configure()
        self.declare(a={"cmd": "cat /dev/null"})

    def configure(self, **config: Any) -> None:
        daemon = {"port": 0} | config.pop("daemon", {})
        (self.home / "procclaw.yaml").write_text(json.dumps({"daemon": daemon, **config}))

    def declare(self, **jobs: Mapping[str, Any]) -> None:
        self._cli.declare(**jobs)

    def told(self) -> list[Told]:
        """All of it, but what becomes of orphans: some first processes let one wait for two seconds."""
        found = check_up(str(self.home), {thing: look for thing, look in EXAMINATIONS.items() if thing != "orphans"})
        assert VALUE not in repr(found)
        return [(str(level), thing, told, remedy) for level, thing, told, remedy in found]

    def of(self, thing: str) -> list[Told]:
        return [each for each in self.told() if each[1] == thing]

    def problems(self) -> list[Told]:
        return [each for each in self.told() if each[0] == "problem"]


@pytest.fixture
def doctor(cli: CommandLine, home: Path) -> Doctor:
    return Doctor(cli, home)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that are found before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def contents(home: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything there is of a home, to the nanosecond."""
    found = {}
    for path in sorted([home, *home.rglob("*")]):
        entry = path.lstat()
        read = path.read_bytes() if stat.S_ISREG(entry.st_mode) else b""
        found[str(path)] = (entry.st_mode, entry.st_mtime_ns, entry.st_ctime_ns, read)
    return found


# --- good ---


def test_a_good_home_has_no_problem_and_is_left_as_it_is(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    assert cli("list").code == 0
    with closing(Store(str(home / "procclaw.db"), str(home / "procclaw.reserve"))) as store:
        store.keep_reserve()
    before = contents(home)
    told = doctor.told()
    assert contents(home) == before
    assert "problem" not in {level for level, *_ in told}
    things = {thing for _, thing, _, _ in told}
    assert things >= {
        *("home", "file system", "disk", "database", "configuration", "commands", "time zones", "keychain", "daemon"),
        *("service", "socket", "clock", "python", "limits"),
    }
    assert ("ok", "home", f"{home}, yours alone", None) in told
    assert ("ok", "configuration", "good, 1 job", None) in told
    assert ("ok", "commands", "all are found on the PATH that jobs get", None) in told


def test_a_new_home_is_not_even_given_a_database(doctor: Doctor, home: Path) -> None:
    before = contents(home)
    assert doctor.of("database") == [("ok", "database", "none yet; the first command makes it", None)]
    assert contents(home) == before


def test_the_exit_code_tells_of_problems_alone_and_json_counts_them(
    doctor: Doctor, cli: CommandLine, home: Path
) -> None:
    answer = cli("doctor", "--json")
    assert (answer.code, answer.err) == (0, "")
    view = answer.json
    levels = [each["level"] for each in view["findings"]]
    assert levels == sorted(levels, key=["problem", "warning", "ok"].index)
    assert (view["healthy"], view["problems"], view["warnings"]) == (True, 0, levels.count("warning"))
    assert view["warnings"] > 0  # no daemon runs
    home.chmod(0o777)
    answer = cli("doctor", "--json")
    assert (answer.code, answer.json["healthy"], answer.json["problems"]) == (1, False, 1)
    told = f"others can change what is in {home} (mode 777)"
    wanted = {"level": "problem", "thing": "home", "found": told, "remedy": f"chmod 700 {home}"}
    assert answer.json["findings"][0] == wanted


def test_in_a_pipe_there_is_a_line_of_four_columns_for_each(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    home.chmod(0o755)
    lines = [line.split("\t") for line in cli("doctor").out.splitlines()]
    assert {len(line) for line in lines} == {4}
    assert ["warning", "home", f"others can look in {home} (mode 755)", f"chmod 700 {home}"] in lines
    assert lines[-1][0] == "ok"


def test_on_a_terminal_the_remedy_follows_what_was_found(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    home.chmod(0o755)
    out = cli.on_terminal("doctor").out
    assert out.startswith("STATE    THING")
    assert f"  others can look in {home} (mode 755) -> chmod 700 {home}\n" in out
    assert "\x1b[33mwarning\x1b[0m" in cli.on_terminal("doctor", NO_COLOR="").out


def test_remedies_name_a_home_that_the_option_chose(
    doctor: Doctor, cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor.declare(a={"cmd": "true", "env": {"A": "${secret:MISSING}"}})
    assert "procclaw secret set MISSING" in [remedy for *_, remedy in doctor.problems()]
    monkeypatch.delenv("PROCCLAW_HOME")
    answer = cli("doctor", "--json", "--home", str(home)).json
    remedies = [each["remedy"] for each in answer["findings"]]
    assert f"procclaw --home {home} secret set MISSING" in remedies


# --- the place ---


def test_without_a_home_the_machine_is_looked_at_all_the_same(doctor: Doctor, home: Path) -> None:
    for path in (home / "procclaw.yaml", home / "jobs.yaml"):
        path.unlink()
    home.rmdir()
    try:
        told = doctor.told()
    finally:
        home.mkdir()
    assert told[0] == ("problem", "home", f"there is none at {home}", "procclaw init")
    assert {thing for _, thing, _, _ in told[1:]} <= {"clock", "python", "limits", "inotify", "orphans"}


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: takes root to give a home away")
def test_a_home_of_somebody_else_is_told_once_and_its_database_not_opened(doctor: Doctor, home: Path) -> None:
    (home / "procclaw.db").write_bytes(b"no database at all" * 100)
    os.chown(home, 12345, -1)
    try:
        problems = doctor.problems()
    finally:
        os.chown(home, 0, -1)
    told = f"{home} belongs to user 12345, and this is user 0: every command is refused"
    assert problems == [("problem", "home", told, f"sudo chown -R 0 {home}")]


def test_a_home_that_all_can_write_is_a_problem(doctor: Doctor, home: Path) -> None:
    (home / "jobs.yaml").chmod(0o666)
    home.chmod(0o777)
    assert doctor.problems() == [
        ("problem", "home", f"others can change what is in {home} (mode 777)", f"chmod 700 {home}"),
        (
            "problem",
            "files",
            f"anybody can write {home}/jobs.yaml (mode 666), and so decide what runs as you",
            f"chmod go-w {home}/jobs.yaml",
        ),
    ]


def test_jobs_that_lie_elsewhere_are_followed_there(doctor: Doctor, home: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    elsewhere = tmp_path / "jobs.yaml"
    shutil.move(home / "jobs.yaml", elsewhere)
    elsewhere.chmod(0o666)
    (home / "jobs.yaml").symlink_to(elsewhere)
    told = f"anybody can write {elsewhere} (mode 666), and so decide what runs as you"
    assert doctor.problems() == [("problem", "files", told, f"chmod go-w {elsewhere}")]


def test_a_reserve_that_is_used_up(doctor: Doctor, cli: CommandLine) -> None:
    assert cli("list").code == 0
    told = "the 8 MiB kept back for a full disk are not there"
    (doctor.home / "procclaw.reserve").unlink(missing_ok=True)
    assert ("warning", "disk", told, "procclaw reconcile") in doctor.told()


def test_a_newer_database_is_left_alone(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    assert cli("list").code == 0
    with sqlite3.connect(home / "procclaw.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = contents(home)
    [told] = doctor.of("database")
    assert told[2].startswith(f"{home}/procclaw.db: written by a newer ProcClaw (schema 99, this one knows ")
    assert told[3] == "use that version, or move the file away to start without its history"
    assert contents(home) == before


def test_an_older_database_is_not_brought_up_to_date(doctor: Doctor, home: Path) -> None:
    shutil.copy(DATABASES / "v1.db", home / "procclaw.db")
    before = contents(home)
    [told] = doctor.of("database")
    assert told[0] == "ok"
    assert "of an earlier version (schema 1), brought to this one" in told[2]
    assert contents(home) == before


def test_what_procclaw_lacks_is_told_for_as_long_as_it_is_so(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    assert cli("list").code == 0
    now = SystemClock().now()
    for retry_at, wanted in (
        (
            now,
            [
                (
                    "problem",
                    "starts",
                    "no job is started: no space left",
                    "procclaw daemon logs, and see what is told above",
                )
            ],
        ),
        (after(now, -400), []),
    ):
        with closing(Store(str(home / "procclaw.db"))) as store:
            store.set_lack(Lack(Reason.NO_DISK, "no space left", retry_at))
        assert doctor.of("starts") == wanted


def test_a_damaged_database_says_what_to_do(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    assert cli("list").code == 0
    database = home / "procclaw.db"
    with open(database, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))
    [told] = doctor.of("database")
    assert told[0] == "problem"
    assert "the database is damaged" in told[2]
    assert told[3] is not None
    assert told[3].startswith("restore it from a backup")


# --- the jobs ---


def test_a_database_that_cannot_be_read_hides_nothing_else(doctor: Doctor, home: Path) -> None:
    (home / "procclaw.db").write_text("garbage")
    doctor.declare(a={"cmd": "true", "nice": "very"})
    assert {thing for _, thing, _, _ in doctor.problems()} == {"database", "configuration"}
    assert not [told for told in doctor.told() if "cannot be looked at" in told[2]]


def test_files_that_cannot_be_used(doctor: Doctor, cli: CommandLine) -> None:
    doctor.declare(a={"cmd": "true", "type": "scheduled", "schedule": "@daily", "timezone": "Mars/Base"}, b={"cdm": 1})
    [zone, *others] = doctor.of("configuration")
    assert zone[0] == "problem"
    assert '"Mars/Base"' in zone[2]
    assert zone[2].endswith(" (nothing is in force)")
    assert zone[3] == "procclaw config --validate"
    assert len(others) == 2  # an unknown key, and no cmd
    doctor.declare(a={"cmd": "true"})
    assert cli("list").code == 0
    doctor.declare(a={"cmd": "true", "nice": "very"})
    [told] = doctor.of("configuration")
    assert told[2].endswith(" (the last good configuration stays in force)")


def test_what_is_declared_and_ignored_is_a_warning(doctor: Doctor, home: Path) -> None:
    (home / "jobs.d").mkdir()
    (home / "jobs.d" / "more.yml").write_text("jobs: {}\n")
    told = "jobs.d/more.yml: is not read, its name does not end in .yaml"
    assert ("warning", "configuration", told, "procclaw config --validate") in doctor.told()


def test_what_jobs_need_and_do_not_find(doctor: Doctor, home: Path, commands: Path) -> None:
    script(commands / "only-here", "true")
    (home / "plain").write_text("")
    doctor.configure(env={"PATH": "/usr/bin:/bin"})
    doctor.declare(
        good={"cmd": "cat /dev/null | sort", "cwd": str(home)},
        own={"cmd": "PATH=/x:$PATH only-here"},
        elsewhere={"cmd": "cd / && only-here"},
        hidden={"cmd": "if true; then only-here; fi"},
        unused={"cmd": "only-here", "enabled": False},
        listed={"cmd": ["only-here", "x"]},
        shell={"cmd": "only-here | sort"},
        within={"cmd": ["/bin/sh", "-c", "only-here && true"]},
        profile={"cmd": ["sh", "-lc", "only-here"]},
        plain={"cmd": "./plain", "cwd": str(home)},
        lost={"cmd": "true", "cwd": f"{home}/lost"},
        unset={"cmd": "true", "env_file": f"{home}/.env"},
        who={"cmd": "true", "user": "nobody-of-that-name"},
    )
    told = "not examined, for what they start with is no plain program: own, hidden, profile"
    assert [each for each in doctor.of("commands") if each[0] == "ok"] == [("ok", "commands", told, None)]
    remedy = f"in procclaw.yaml, under env: PATH: {commands}:/usr/bin:/bin"
    assert doctor.problems() == [
        (
            "problem",
            "commands",
            'elsewhere, listed, shell, within: "only-here" is not on the PATH that jobs get (/usr/bin:/bin)',
            remedy,
        ),
        ("problem", "commands", f"plain: {home}/plain is not executable", f"chmod +x {home}/plain"),
        ("problem", "folders", f"lost: its cwd {home}/lost is not there", f"mkdir -p {home}/lost"),
        (
            "problem",
            "environment",
            f"unset: env_file {home}/.env: no such file or directory",
            "procclaw env unset --explain",
        ),
        (
            "problem",
            "environment",
            'who: user "nobody-of-that-name": no such account',
            "procclaw env who --explain",
        ),
    ]


def test_a_path_that_depends_on_who_starts_procclaw(doctor: Doctor) -> None:
    doctor.configure(daemon={"pass_env": ["PATH"]})
    told = "daemon.pass_env names PATH: under cron and systemd jobs get another one than from your shell"
    remedy = "name it under env in procclaw.yaml instead, as procclaw init does"
    assert ("warning", "commands", told, remedy) in doctor.told()


def test_secrets_are_told_of_by_name_and_never_by_value(doctor: Doctor, cli: CommandLine) -> None:
    assert cli("secret", "set", "THERE", VALUE).code == 0
    doctor.configure(env={"A": "${secret:CONFIGURED}"})
    doctor.declare(
        a={"cmd": "true", "env": {"A": "${secret:THERE}", "B": "${secret:MISSING}"}},
        b={"cmd": "echo ${secret:MISSING}", "description": "not a reference: ${secret:TOLD}"},
        c={"cmd": "true", "trigger": {"type": "webhook", "auth_token": "${secret:HOOK}"}},
    )
    assert doctor.problems() == [
        ("problem", "secrets", f"{users}: the secret {name} is not set", f"procclaw secret set {name}")
        for users, name in (("procclaw.yaml", "CONFIGURED"), ("a, b", "MISSING"), ("c", "HOOK"))
    ]
    for name in ("CONFIGURED", "MISSING", "HOOK"):
        assert cli("secret", "set", name, VALUE).code == 0
    assert doctor.of("secrets") == [("ok", "secrets", "4 of 4 are set", None)]


def test_a_file_of_secrets_that_others_can_read(doctor: Doctor, cli: CommandLine, home: Path) -> None:
    assert cli("secret", "set", "A", VALUE).code == 0
    (home / ".secrets").chmod(0o644)
    told = f"{home}/.secrets is open to others (mode 644): refused"
    remedy = f"chmod 600 {home}/.secrets, and set anew what others may have seen"
    assert doctor.problems() == [("problem", "secrets", told, remedy)]


def test_a_secret_in_a_keychain_that_cannot_be_had(doctor: Doctor, home: Path) -> None:
    (home / ".secrets").write_text(json.dumps({"values": {}, "keychain": ["A"]}))
    (home / ".secrets").chmod(0o600)
    told = "A: kept in the keychain, which is not there: no session bus"
    assert doctor.problems() == [("problem", "keychain", told, "unlock it, or: procclaw secret set A --file")]


def test_alerts_by_an_openclaw_that_is_not_there(doctor: Doctor) -> None:
    doctor.configure(
        env={"PATH": "/usr/bin:/bin"}, openclaw={"enabled": True, "alerts": {"enabled": True, "channels": ["telegram"]}}
    )
    [told] = doctor.problems()
    assert told[1] == "openclaw"
    assert told[2] == "alerts go to telegram, and there is no openclaw on the PATH that commands get (/usr/bin:/bin)"


# --- the machine ---


def test_a_clock_that_nobody_sets(doctor: Doctor, commands: Path) -> None:
    script(commands / "timedatectl", '[ "$*" = "show --property=NTPSynchronized" ] && echo NTPSynchronized=no')
    told = "nobody sets it right (no NTP): schedules drift with it"
    assert doctor.of("clock") == [("warning", "clock", told, "sudo timedatectl set-ntp true")]
    script(commands / "timedatectl", "echo NTPSynchronized=yes")
    assert doctor.of("clock") == [("ok", "clock", "set by NTP", None)]
    script(commands / "timedatectl", "echo Failed to connect to bus >&2; exit 1")
    assert doctor.of("clock")[0][0] == "ok"


def test_a_clock_that_is_behind_the_records(doctor: Doctor, home: Path) -> None:
    (home / "records").mkdir()
    Processes(str(home)).note_commit(after(SystemClock().now(), 7200))
    [told] = doctor.problems()
    assert told[1] == "clock"
    assert told[2].startswith(("it is 2:00:00 behind", "it is 1:59:59 behind"))


def test_a_line_of_the_crontab_that_cron_cannot_run(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crontab = tmp_path / "crontab"
    monkeypatch.setenv("FAKE_CRONTAB", str(crontab))
    monkeypatch.setenv("FAKE_ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("PATH", f"{KEEPERS}:{os.environ['PATH']}")
    line = "*/5 * * * * procclaw-that-is-nowhere reconcile"
    crontab.write_text(f"MAILTO=me\n{line}\n")
    told = f"procclaw-that-is-nowhere is not on the PATH that cron gives (/usr/bin:/bin): {line}"
    assert ("problem", "crontab", told, "procclaw service install --cron") in doctor.told()
    assert crontab.read_text() == f"MAILTO=me\n{line}\n"


# --- what is served ---


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of some other program."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_somebody_else_has(doctor: Doctor, stranger: int) -> None:
    doctor.configure(daemon={"port": stranger})
    [told] = doctor.problems()
    assert told[1:3] == ("http", f"127.0.0.1 port {stranger} is taken by another program")
    assert str(stranger) in str(told[3])


def test_an_address_that_others_reach_without_a_token(doctor: Doctor) -> None:
    doctor.configure(daemon={"host": "0.0.0.0"})
    [told] = doctor.problems()
    assert told[1] == "http"
    assert told[2].startswith("daemon.host is 0.0.0.0, which other machines can reach, and no token is asked for")


# --- with a daemon ---


def findings(driver: Driver, code: int | None) -> list[Told]:
    view = driver.ask("doctor", "--json", code=code).json
    return [(each["level"], each["thing"], each["found"], each["remedy"]) for each in view["findings"]]


@pytest.mark.real
def test_a_daemon_is_asked_whether_it_is_well(driver: Driver, stranger: int) -> None:
    driver.declare({"a": {"cmd": "true"}})
    pid = driver.ask("daemon", "start", "--json").json["pid"]
    driver.wait(lambda: driver.ask("daemon", "status", "--json").json["api"]["address"])
    # The two seconds that it is waited for may be too few for it once.
    driver.wait(lambda: ("ok", "daemon", f"pid {pid}, version {__version__}", None) in findings(driver, None))
    told = findings(driver, 0)
    [http] = [each for each in told if each[1] == "http"]
    assert (http[0], http[2][:17]) == ("ok", "http://127.0.0.1:")
    # A daemon that stands still, for the two seconds that it is waited for.
    os.kill(pid, signal.SIGSTOP)
    try:
        told = findings(driver, 1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert told[0][:3] == ("problem", "daemon", f"pid {pid} does not answer at {http[2]}")


@pytest.mark.real
def test_a_daemon_whose_port_is_taken_says_so(driver: Driver, stranger: int) -> None:
    driver.declare({"a": {"cmd": "true"}}, daemon={"port": stranger})
    driver.ask("daemon", "start")
    driver.wait(lambda: driver.ask("daemon", "status", "--json").json["api"]["problem"])
    told = findings(driver, 1)
    assert told[0][:2] == ("problem", "http")
    assert told[0][2].startswith(f"not served: 127.0.0.1 port {stranger}: address already in use")
