"""ProcClaw as a service: what is written, what it is told, and that neither a second time nor a failure does harm.

Where systemd is not at work a stand-in on PATH answers as it does (tests/data/keepers); as root a real one is started
in namespaces of its own.
"""

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from procclaw.engine.autostart import Autostart
from procclaw.model.errors import Conflict, ProcclawError
from procclaw.system.autostart import Entry
from procclaw.system.autostart.crontab import Crontab
from procclaw.system.autostart.launchd import Launchd
from procclaw.system.autostart.systemd import Systemd
from tests.commandline import CommandLine
from tests.driver import PROGRAM, ROOT, STAYS, Driver, is_alive

KEEPERS = ROOT / "tests" / "data" / "keepers"
ANALYZE = shutil.which("systemd-analyze")
SYSTEMD = Path("/lib/systemd/systemd")
CRONTAB = shutil.which("crontab")
PYTHON = "/usr/bin/python3"
STRANGE = "/opt/my app/50%/it's/$HOME; #1/procclaw.pyz"

SERVICE = {"type": "continuous", "cmd": STAYS}


class Place:
    """A machine's keepers, as far as a test needs them."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.units = folder / "units"
        self.units.mkdir()
        self.asked_path = folder / "asked"
        self.crontab = folder / "crontab"
        self.entry = Entry((sys.executable, str(PROGRAM)), str(home))

    @property
    def systemd(self) -> Systemd:
        return Systemd(self.entry, is_root=False, units=str(self.units), lingering=str(self.units / "linger"))

    @property
    def autostart(self) -> Autostart:
        return Autostart(self.entry, self.systemd)

    @property
    def unit(self) -> Path:
        return Path(self.systemd.path)

    def asked(self) -> list[str]:
        """What was asked of the keepers since the last time, questions left out."""
        lines = self.asked_path.read_text().splitlines() if self.asked_path.exists() else []
        self.asked_path.unlink(missing_ok=True)
        return [line for line in lines if not any(word in line for word in (" show ", "is-system", " print ", " -l"))]


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path, home)
    monkeypatch.setenv("PATH", f"{KEEPERS}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_UNITS", str(place.units))
    monkeypatch.setenv("FAKE_ASKED", str(place.asked_path))
    monkeypatch.setenv("FAKE_CRONTAB", str(place.crontab))
    # The program that runs, which would be pytest.
    monkeypatch.setattr(sys, "argv", [str(PROGRAM)])
    return place


# --- the unit ---


@pytest.mark.skipif(ANALYZE is None, reason="NOT TESTED: takes systemd-analyze of systemd")
@pytest.mark.parametrize("is_root", [True, False])
@pytest.mark.parametrize("file", ["/usr/local/bin/procclaw", STRANGE])
def test_systemd_accepts_the_unit(tmp_path: Path, file: str, is_root: bool) -> None:
    unit = Systemd(Entry((PYTHON, file), "/srv/ho me/50%"), is_root=is_root, units=str(tmp_path))
    Path(unit.path).write_bytes(unit.content)
    scope = "--system" if is_root else "--user"
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    argv = [str(ANALYZE), scope, "--man=no", "verify", unit.path]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    # Not the exit code: it is not 0 either where another unit of this machine is at fault.
    assert unit.name not in done.stderr, done.stderr
    bad = unit.content.replace(b"KillMode=process", b"KillMode=processes").replace(b"TasksMax", b"TaskMax")
    Path(unit.path).write_bytes(bad)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert unit.name in done.stderr


def test_the_unit_starts_the_very_file_and_lets_jobs_live() -> None:
    unit = Systemd(Entry((PYTHON, STRANGE), "/home/a/.procclaw"), is_root=False, units="/u").content.decode()
    file = STRANGE.replace("%", "%%")
    assert f'ExecStart=:{PYTHON} "{file}" --home /home/a/.procclaw daemon start --foreground --keep-holds\n' in unit
    for line in (
        "Type=notify",
        "NotifyAccess=main",
        "KillMode=process",
        "OOMPolicy=continue",
        "TasksMax=infinity",
        "Restart=on-failure",
        "StartLimitIntervalSec=0",
        "WatchdogSec=120",
        "WantedBy=default.target",
    ):
        assert f"\n{line}\n" in unit


def test_root_gets_a_unit_of_the_machine_and_nobody_else() -> None:
    entry = Entry((PYTHON, "/opt/procclaw.pyz"), os.path.expanduser("~/.procclaw"))
    assert Systemd(entry, is_root=True).path == "/etc/systemd/system/procclaw.service"
    assert b"WantedBy=multi-user.target" in Systemd(entry, is_root=True).content
    own = os.path.expanduser("~/.config/systemd/user/procclaw.service")
    assert Systemd(entry, is_root=False).path == own


def test_the_users_own_folder_for_configuration_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry((PYTHON, "/opt/procclaw.pyz"), os.path.expanduser("~/.procclaw"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    assert Systemd(entry, is_root=False).path == "/elsewhere/systemd/user/procclaw.service"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert Systemd(entry, is_root=False).path.startswith(os.path.expanduser("~/.config/"))


def test_each_home_has_a_service_of_its_own() -> None:
    homes = ["~/.procclaw", "/srv/shop", "/srv/other/shop", "/srv/Shop", "/srv/shop-", "/"]
    entries = [Entry((PYTHON, "/opt/procclaw.pyz"), os.path.expanduser(home)) for home in homes]
    names = [Systemd(entry, is_root=False, units="/u").name for entry in entries]
    assert names[0] == "procclaw.service"
    assert names[1].startswith("procclaw-shop-")
    assert len(set(names)) == len(homes)
    assert Launchd(entries[0]).path == os.path.expanduser("~/Library/LaunchAgents/com.procclaw.daemon.plist")
    assert len({Launchd(entry).name for entry in entries}) == len(homes)
    assert len({Crontab(entry).line for entry in entries}) == len(homes)


@pytest.mark.parametrize("path", ["/srv/two\nlines", "/srv/back\\slash", "/srv/\x1b[31m", "/srv/\udcff"])
def test_a_path_that_cannot_be_written_down_is_refused(path: str) -> None:
    with pytest.raises(ProcclawError, match="cannot be written into a unit or a crontab"):
        Entry((PYTHON, path), "/srv").checked()


# --- installing ---


@pytest.mark.real
def test_installing_starts_the_daemon_and_a_second_time_changes_nothing(driver: Driver, place: Place) -> None:
    driver.declare({"service": SERVICE})
    done = place.autostart.install(force=False)
    holder = driver.holder()
    assert holder is not None
    assert done[:4] == ("systemd", str(place.unit), True, holder.pid)
    name = place.unit.name
    wanted = ["daemon-reload", f"reenable {name}", f"restart {name}"]
    assert place.asked() == [f"systemctl --user {each}" for each in wanted]
    written = place.unit.stat()
    again = place.autostart.install(force=False)
    assert again == done._replace(has_changed=False)
    assert place.asked() == []
    assert place.unit.stat() == written or place.unit.stat().st_ino == written.st_ino
    assert place.unit.stat().st_mode & 0o777 == 0o644
    seen = place.autostart.look()
    assert (seen.is_installed, seen.is_current, seen.starts_this) == (True, True, True)
    assert (seen.standing.is_enabled, seen.standing.is_active, seen.standing.pid) == (True, True, holder.pid)


@pytest.mark.real
def test_a_daemon_that_runs_already_gives_way_and_jobs_do_not_notice(driver: Driver, place: Place) -> None:
    driver.declare({"service": SERVICE})
    first = driver.start_daemon()
    driver.wait_for_notes("service")
    before = driver.living("service")
    assert place.autostart.look().daemon_pid == first
    done = place.autostart.install(force=False)
    assert done.pid not in (None, first)
    assert not is_alive(first)
    assert driver.living("service") == before


@pytest.mark.real
def test_another_file_is_put_in_place_of_the_old_one_and_started(driver: Driver, place: Place, tmp_path: Path) -> None:
    driver.declare({})
    first = place.autostart.install(force=False)
    place.asked()
    other = tmp_path / "procclaw.py"
    other.symlink_to(PROGRAM)
    # The package is found beside the launcher's real place.
    place.entry = Entry((sys.executable, str(other)), place.entry.home)
    seen = place.autostart.look()
    assert (seen.is_installed, seen.starts_this, seen.is_current) == (True, False, False)
    second = place.autostart.install(force=False)
    assert second.has_changed
    assert second.pid != first.pid
    assert place.asked()[-1] == f"systemctl --user restart {place.unit.name}"
    assert str(other) in place.unit.read_text()


@pytest.mark.real
def test_one_that_was_ended_is_started_again_and_not_written(driver: Driver, place: Place) -> None:
    driver.declare({})
    place.autostart.install(force=False)
    inode = place.unit.stat().st_ino
    driver.ask("daemon", "stop")
    assert not place.autostart.look().standing.is_active
    place.asked()
    assert place.autostart.install(force=False).has_changed
    assert place.asked()[-1] == f"systemctl --user start {place.unit.name}"
    assert place.unit.stat().st_ino == inode


@pytest.mark.real
def test_what_somebody_else_wrote_is_refused_unless_forced(driver: Driver, place: Place) -> None:
    driver.declare({})
    place.unit.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(Conflict, match="was not written by procclaw; --force replaces it"):
        place.autostart.install(force=False)
    with pytest.raises(Conflict, match="left alone"):
        place.autostart.uninstall()
    assert place.unit.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert place.asked() == []
    assert not place.autostart.look().is_ours
    assert place.autostart.install(force=True).has_changed
    assert place.unit.read_bytes() == place.systemd.content


@pytest.mark.parametrize("state", ["offline", "no bus"])
def test_where_no_systemd_runs_nothing_is_written_and_cron_is_named(home: Path, place: Place, state: str) -> None:
    (place.units / "state").write_text(state)
    with pytest.raises(ProcclawError, match=r"no systemd of this user's runs here .* service install --cron") as error:
        place.autostart.install(force=False)
    assert ("No medium found" if state == "no bus" else "offline") in str(error.value)
    assert [path.name for path in place.units.iterdir()] == ["state"]
    assert list(home.iterdir()) == []
    assert place.asked() == []


def test_a_degraded_systemd_is_one_that_runs(place: Place) -> None:
    (place.units / "state").write_text("degraded")
    assert place.systemd.lack() is None


@pytest.mark.real
@pytest.mark.parametrize("before", [None, "old"])
def test_what_systemd_would_not_register_is_as_it_was_before(driver: Driver, place: Place, before: str | None) -> None:
    driver.declare({})
    running = driver.start_daemon()
    old = None if before is None else place.systemd.content + b"# an older version\n"
    if old is not None:
        place.unit.write_bytes(old)
    (place.units / "broken").touch()
    with pytest.raises(ProcclawError, match="daemon-reload: Failed to reload daemon: Connection reset by peer"):
        place.autostart.install(force=False)
    assert (place.unit.read_bytes() if place.unit.exists() else None) == old
    # The daemon that gave way is back.
    holder = driver.holder()
    assert holder is not None
    assert holder.pid != running
    assert holder.is_up


@pytest.mark.real
def test_a_daemon_that_does_not_come_up_is_told_with_the_place_to_look(
    driver: Driver, place: Place, tmp_path: Path
) -> None:
    driver.declare({})
    (tmp_path / "broken.py").write_text("raise SystemExit(5)")
    place.entry = Entry((sys.executable, str(tmp_path / "broken.py")), place.entry.home)
    with pytest.raises(ProcclawError, match=r"Job for .* failed[\s\S]*journalctl --user -u procclaw-"):
        place.autostart.install(force=False)


def test_a_user_who_does_not_linger_is_told_how_to(place: Place) -> None:
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    [hint] = place.systemd.hints()
    assert hint.endswith(f"loginctl enable-linger {user}")
    (place.units / "linger").mkdir()
    (place.units / "linger" / user).touch()
    assert place.systemd.hints() == ()
    assert Systemd(place.entry, is_root=True).hints() == ()


# --- taking it away ---


@pytest.mark.real
def test_uninstalling_ends_the_daemon_and_no_job_and_leaves_nothing(driver: Driver, place: Place) -> None:
    driver.declare({"service": SERVICE})
    place.autostart.install(force=False)
    place.autostart.install_cron()
    driver.wait_for_notes("service")
    before = driver.living("service")
    place.asked()
    done = place.autostart.uninstall()
    assert done == (("crontab", str(place.unit)), 1)
    name = place.unit.name
    assert place.asked() == [
        "crontab -r",
        f"systemctl --user disable --now {name}",
        "systemctl --user daemon-reload",
        f"systemctl --user reset-failed {name}",
    ]
    assert driver.living("service") == before
    assert not place.unit.exists()
    assert not list((place.units / "default.target.wants").iterdir())
    driver.ask("daemon", "status", code=4)
    assert place.autostart.uninstall() == ((), 1)
    assert place.asked() == []


def test_where_nobody_can_be_asked_any_more_the_files_go(place: Place) -> None:
    place.unit.write_bytes(place.systemd.content)
    [link] = place.systemd.links
    Path(link).parent.mkdir()
    Path(link).symlink_to(place.unit)
    (place.units / "state").write_text("offline")
    assert place.autostart.uninstall().places == (str(place.unit),)
    assert not place.unit.exists()
    assert not Path(link).is_symlink()


# --- the crontab ---

OTHERS = b"# my own\nMAILTO=me\n\n5 4 * * * backup % stdin\n\t0 0 * * 0 \xff\r\n"


@pytest.mark.parametrize("before", [None, OTHERS, OTHERS.rstrip(b"\n"), b"\n"])
def test_one_line_is_put_below_the_others_and_taken_away_again(place: Place, before: bytes | None) -> None:
    if before is not None:
        place.crontab.write_bytes(before)
    others = before or b""
    others += b"" if others.endswith(b"\n") or not others else b"\n"
    assert place.autostart.install_cron().has_changed
    line = Crontab(place.entry).line
    assert place.crontab.read_bytes() == others + line + b"\n"
    place.asked()
    assert not place.autostart.install_cron().has_changed
    assert place.asked() == []
    seen = place.autostart.look()
    assert (seen.cron_line, seen.is_cron_current) == (line.decode(), True)
    place.autostart.uninstall()
    assert (place.crontab.read_bytes() if place.crontab.exists() else b"") == others
    assert place.autostart.look().cron_line is None


def test_the_line_of_another_file_is_replaced_and_that_of_another_home_is_not(place: Place, tmp_path: Path) -> None:
    older = Crontab(Entry(("/old/python", "/old/procclaw"), place.entry.home)).line
    others = Crontab(Entry(place.entry.program, str(tmp_path))).line
    place.crontab.write_bytes(older + b"\n" + others + b"\n")
    assert not place.autostart.look().is_cron_current
    assert place.autostart.install_cron().has_changed
    assert place.crontab.read_bytes().splitlines() == [others, Crontab(place.entry).line]


def test_a_percent_sign_is_escaped_and_the_shell_reads_each_word_as_it_was() -> None:
    line = Crontab(Entry((PYTHON, STRANGE), "/srv/50%")).line.decode()
    assert line.startswith("* * * * * ")
    command = line.removeprefix("* * * * * ")
    assert command.count("%") == command.count("\\%")
    # What cron hands to the shell.
    told = subprocess.run(["sh", "-c", f"printf '%s\\n' {command.replace(chr(92) + '%', '%')}"], capture_output=True)
    assert told.stdout.decode().splitlines() == [PYTHON, STRANGE, "--home", "/srv/50%", "reconcile"]


def test_a_crontab_that_cannot_be_read_is_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.crontab.mkdir()
    with pytest.raises(ProcclawError, match=r"crontab -l: .*directory"):
        place.autostart.install_cron()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProcclawError, match="there is no crontab command; is cron installed"):
        place.autostart.install_cron()


@pytest.mark.skipif(CRONTAB is None, reason="NOT TESTED: takes crontab of cron")
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a spool of its own takes root")
def test_the_real_crontab_takes_the_line(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Over a spool of the test's own, mounted for each call."""
    spool, bin_ = tmp_path / "spool", tmp_path / "bin"
    spool.mkdir(mode=0o700)
    bin_.mkdir()
    inside = f'mount --bind {spool} /var/spool/cron/crontabs && exec {CRONTAB} "$@"'
    script = f"#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh \"$@\"\n"
    (bin_ / "crontab").write_text(script)
    (bin_ / "crontab").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    if subprocess.run(["crontab", "-l"], capture_output=True).stderr.strip() != b"no crontab for root":
        pytest.skip("NOT TESTED: no mounts of its own here")
    place.entry = Entry((sys.executable, str(PROGRAM)), str(home / "50%"))
    assert place.autostart.install_cron().has_changed
    line = Crontab(place.entry).line
    assert subprocess.run(["crontab", "-l"], capture_output=True).stdout == line + b"\n"
    assert place.autostart.uninstall().places == ("crontab",)
    own = b"# my own\n5 4 * * * backup % stdin\n"
    subprocess.run(["crontab", "-"], input=own, check=True)
    assert place.autostart.install_cron().has_changed
    assert not place.autostart.install_cron().has_changed
    assert subprocess.run(["crontab", "-l"], capture_output=True).stdout == own + line + b"\n"
    assert place.autostart.uninstall().places == ("crontab",)
    assert subprocess.run(["crontab", "-l"], capture_output=True).stdout == own


# --- launchd ---


def test_the_agent_is_a_property_list_that_lets_jobs_live(place: Place) -> None:
    agent = Launchd(Entry((PYTHON, STRANGE), "/Users/a & b/.procclaw"), agents=str(place.units))
    loaded = plistlib.loads(agent.content)
    assert loaded["Label"] == agent.name
    assert loaded["ProgramArguments"][:4] == [PYTHON, STRANGE, "--home", "/Users/a & b/.procclaw"]
    assert loaded["ProgramArguments"][4:] == ["daemon", "start", "--foreground", "--keep-holds"]
    assert (loaded["RunAtLoad"], loaded["AbandonProcessGroup"]) == (True, True)
    assert loaded["KeepAlive"] == {"SuccessfulExit": False}
    assert agent.starts(b"no property list") == ""


def test_launchd_is_told_of_the_agent_and_to_forget_it(place: Place) -> None:
    agent = Launchd(place.entry, agents=str(place.units))
    domain = f"gui/{os.getuid()}"
    assert agent.lack() is None
    assert not agent.standing().is_active
    agent.register()
    agent.start(anew=True)
    assert place.asked() == [
        f"launchctl bootout {domain}/{agent.name}",
        f"launchctl enable {domain}/{agent.name}",
        f"launchctl bootstrap {domain} {agent.path}",
    ]
    assert agent.standing() == (True, True, 4711, "running")
    agent.retire()
    agent.retire()
    assert place.asked() == [f"launchctl bootout {domain}/{agent.name}"]
    (place.units / "no-desktop").touch()
    assert "Could not find domain" in str(agent.lack())


# --- a real systemd ---

MANAGER = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user/0 && chmod 700 /run/user/0 || exit 77
export XDG_RUNTIME_DIR=/run/user/0
/lib/systemd/systemd --user --log-target=console >"$HOME/systemd.log" 2>&1 &
exec "$@"
"""
"""An instance of root's own. With the process namespace goes all that it started."""

LIFE = r"""
import os, signal, subprocess, sys
from procclaw.engine.autostart import Autostart
from procclaw.system.autostart import Entry
from procclaw.system.autostart.systemd import Systemd
from tests.support import wait_until

program, home = sys.argv[1:]
entry = Entry((sys.executable, program), home)
systemd = Systemd(entry, is_root=False)
autostart = Autostart(entry, systemd)

def until(condition):
    return wait_until(condition, 30, lambda: open(os.environ["HOME"] + "/systemd.log").read())

def ask(*words):
    done = subprocess.run([sys.executable, program, "--home", home, *words], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout

def value(name):
    argv = ["systemctl", "--user", "show", "--value", "-p", name, systemd.name]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()

def job():
    return until(lambda: ask("list").split("\t")[3].strip("-"))

def is_another(pid):
    # In one question: between two it may have become another that is still coming up.
    seen = systemd.standing()
    return seen.is_active and seen.pid not in (None, pid)

try:
    wait_until(lambda: systemd.lack() is None, 10, systemd.lack)
except AssertionError:
    sys.exit(77)
# So that what it does when nothing comes is seen at once.
os.makedirs(systemd.path + ".d")
with open(systemd.path + ".d/quick.conf", "w") as file:
    file.write("[Service]\nWatchdogSec=6\nRestartSec=0\n")
ask("daemon", "start")
before = job()
first = autostart.install(force=False).pid
assert first and int(value("MainPID")) == first
assert autostart.install(force=False) == (systemd.kind, systemd.path, False, first, systemd.hints())
until(lambda: value("StatusText") == "1 job runs, of 1 declared")
os.kill(first, signal.SIGKILL)
until(lambda: is_another(first))
second = int(value("MainPID"))
os.kill(second, signal.SIGSTOP)
until(lambda: is_another(second))
assert value("NRestarts") == "2", value("NRestarts")
subprocess.run(["systemctl", "--user", "reload", systemd.name], check=True)
assert job() == before
ask("daemon", "stop")
until(lambda: value("ActiveState") == "inactive")
assert not autostart.look().standing.is_active
assert autostart.install(force=False).pid
assert job() == before
assert autostart.uninstall() == ((systemd.path,), 1)
assert value("ActiveState") == "inactive"
assert job() == before
assert autostart.uninstall() == ((), 1)
print("lived")
"""


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0 or not SYSTEMD.exists(), reason="NOT TESTED: takes root and systemd")
def test_under_a_real_systemd_it_comes_back_and_jobs_live_through_all_of_it(driver: Driver, tmp_path: Path) -> None:
    """Killed, standing still, ended, installed again, uninstalled: one job, one pid; the paths need quoting."""
    here = tmp_path / "50% of $HOME"
    here.mkdir()
    for name in ("procclaw", "schema"):
        (here / name).symlink_to(ROOT / name)
    shutil.copy(PROGRAM, here)
    driver.declare({"service": SERVICE})
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    life = [sys.executable, "-c", LIFE, str(here / PROGRAM.name), str(driver.home)]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    argv = [*namespaces, "sh", "-c", MANAGER, "sh", *life]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip("NOT TESTED: no systemd can be started here")
    assert done.stdout == "lived\n", done.stderr + driver.show()


# --- the command line ---


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="NOT TESTED: systemd runs here, and is left alone")
def test_a_container_is_told_what_is_lacking_and_what_to_do(cli: CommandLine, home: Path) -> None:
    answer = cli("service", "install")
    assert answer.code == 1
    assert answer.err.endswith("to have the jobs looked after all the same: procclaw service install --cron\n")
    assert list(home.iterdir()) == []
    assert cli("service", "install", "--json").json["error"]["code"] == "failed"
    answer = cli("service", "status", "--json")
    assert (answer.code, answer.json["installed"], answer.json["active"]) == (4, False, False)
    assert answer.json["problem"]
    assert "not installed" in cli("service", "status").out


def test_the_crontabs_line_by_command(cli: CommandLine, place: Place, home: Path) -> None:
    (place.units / "state").write_text("offline")
    answer = cli("service", "install", "--cron")
    assert (answer.code, answer.out.splitlines()[0]) == (0, "installed once a minute, by cron: crontab")
    again = cli("service", "install", "--cron", "--json").json
    assert (again["changed"], again["message"]) == (False, "installed already once a minute, by cron: crontab")
    answer = cli("service", "status", "--json")
    assert (answer.code, answer.json["cron"]["installed"], answer.json["cron"]["current"]) == (0, True, True)
    assert "crontab\t* * * * * " in cli("service", "status").out
    assert cli("service", "uninstall").out == "removed crontab\n"
    assert cli("service", "uninstall", "--json").json == {
        "success": True,
        "message": "nothing is installed",
        "removed": [],
        "jobs_running": 0,
    }
    assert cli("service", "install", "--cron", "--force").code == 2
