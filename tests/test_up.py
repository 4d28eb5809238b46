"""procclaw up: what is there runs in the foreground, is shown, and is stopped in order."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.ownhome import place_of
from procclaw.interface.up.bringup import bring_up_of
from procclaw.interface.up.found import NAMES, Found, find
from procclaw.interface.up.words import of_event
from procclaw.model.clock import SystemClock
from procclaw.model.errors import NotFound
from procclaw.model.intents import IntentKind
from procclaw.model.records import HOME, Event
from tests.commandline import CommandLine
from tests.driver import PROGRAM, WITHIN, Driver, is_alive
from tests.support import Reaper, wait_until

LASTING = (
    'trap "echo $PROCCLAW_JOB_ID leaves; exit 0" TERM; echo $PROCCLAW_JOB_ID is here; while :; do sleep 0.05; done'
)
STAYS: dict[str, Any] = {"cmd": LASTING, "type": "continuous"}
STUBBORN: dict[str, Any] = {
    "cmd": "trap '' TERM INT; echo stubborn; while :; do sleep 0.05; done",
    "type": "continuous",
    "shutdown": {"grace_period": 300},
}
FAILS: dict[str, Any] = {"cmd": "printf 'last words'; exit 3", "type": "continuous", "retry": {"enabled": False}}


class Project:
    """A directory with something to run in it; the user's state lies beside it."""

    def __init__(self, root: Path, reaper: Reaper) -> None:
        self.folder = root / "shop"
        self.folder.mkdir()
        self._reaper = reaper
        self._drivers: list[Driver] = []
        self.text = ""
        """All that has been read of what runs."""

    def declare(self, name: str = "jobs.yaml", **jobs: Mapping[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps({"jobs": jobs}))
        self._reaper.watch_home(place_of(str(path)))
        return path

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, str(PROGRAM), "up", *words]

    def up(self, *words: str, **environment: str) -> "subprocess.Popen[bytes]":
        """It, with a pipe to read from."""
        self.text = ""
        return self._reaper.spawn(
            self.argv(*words),
            cwd=self.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """It, to its end."""
        return subprocess.run(self.argv(*words), cwd=self.folder, capture_output=True, text=True, timeout=60)

    def read_until(self, file: int, words: str) -> str:
        while words not in self.text:
            ready, _, _ = select.select([file], [], [], WITHIN)
            assert ready, f'"{words}" did not come after:\n{self.text}'
            piece = b""
            with contextlib.suppress(OSError):  # a terminal that nobody has open any more
                piece = os.read(file, 65536)
            assert piece, f'"{words}" did not come, and it ended after:\n{self.text}'
            self.text += piece.decode()
        return self.text

    def await_words(self, process: "subprocess.Popen[bytes]", words: str) -> None:
        assert process.stdout is not None
        self.read_until(process.stdout.fileno(), words)

    def end(self, process: "subprocess.Popen[bytes]") -> tuple[int, list[str], str]:
        """Its exit code, all lines of its output, and what it complained of."""
        out, err = process.communicate(timeout=WITHIN)
        self.text += out.decode()
        return process.returncode, self.text.splitlines(), err.decode()

    def driver(self, path: Path) -> Driver:
        """The command line on the file's own home."""
        driver = Driver(Path(place_of(str(path))), self._reaper)
        self._drivers.append(driver)
        return driver

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()


@pytest.fixture
def project(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = Path(tempfile.mkdtemp(prefix="procclaw-", dir="/tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
    monkeypatch.delenv("PROCCLAW_HOME", raising=False)
    project = Project(root, reaper)
    yield project
    project.close()
    reaper.end()
    shutil.rmtree(root)


# --- in the foreground ---


@pytest.mark.real
def test_it_shows_each_line_with_its_job_and_stops_dependants_first(project: Project) -> None:
    path = project.declare(
        web={**STAYS, "cmd": "echo oops >&2; " + LASTING, "depends_on": ["database"]}, database=STAYS
    )
    process = project.up()
    project.await_words(process, "database | database is here")
    project.await_words(process, "web      | web is here")
    project.await_words(process, "2/2 up")
    process.send_signal(signal.SIGINT)
    code, lines, err = project.end(process)
    assert (code, err) == (0, "")
    assert lines[0] == f"procclaw | {path}; from elsewhere: procclaw --home {place_of(str(path))} list"
    assert "web      | err| oops" in lines
    assert "\x1b" not in project.text
    for job in ("database", "web"):
        wanted = [f"{job:8} | {job} is here", f"{job:8} | {job} leaves", f"procclaw | {job}: stopped (exit code 0)"]
        assert [line for line in lines if line in wanted] == wanted
    driver = project.driver(path)
    first, last = driver.only_attempt("web"), driver.only_attempt("database")
    assert first.ended_at is not None
    assert last.stop is not None
    assert first.ended_at <= last.stop.asked_at
    assert not driver.job_processes()
    assert driver.holder() is None


@pytest.mark.real
def test_what_fails_for_good_is_told_and_the_exit_code_says_so(project: Project) -> None:
    path = project.declare(bad=FAILS)
    code, lines, err = project.end(project.up())
    assert code == 1
    ended = "procclaw | bad: ended: exit code 3; it has failed for good: retry disabled"
    assert lines.index("procclaw | bad: started") < lines.index("bad      | last words") < lines.index(ended)
    [run] = project.driver(path).runs("bad")
    assert err == f"procclaw: bad has failed: exit code 3 (run {run.id})\n"


@pytest.mark.real
def test_no_line_is_lost_and_all_stand_before_the_end(project: Project) -> None:
    project.declare(many={"cmd": "seq 1 20000; seq 1 500 >&2"})
    code, lines, _ = project.end(project.up(".", "many"))
    assert code == 0
    assert [line for line in lines if " err| " not in line and line.startswith("many")] == [
        f"many     | {number}" for number in range(1, 20001)
    ]
    assert [line for line in lines if " err| " in line] == [f"many     | err| {number}" for number in range(1, 501)]
    assert lines[-1] == "procclaw | many: ended: exit code 0; succeeded"


@pytest.mark.real
def test_within_a_job_it_is_no_part_of_that_job(project: Project) -> None:
    project.declare(inner={"cmd": "echo from within"})
    process = project.up(".", "inner", PROCCLAW_ATTEMPT_MARK="0" * 32)
    project.await_words(process, "inner    | from within")
    assert project.end(process)[0] == 0


@pytest.mark.real
def test_others_go_on_when_one_has_failed_and_an_end_says_what_follows(project: Project) -> None:
    again = {**FAILS, "retry": {"delays": [5], "max_attempts": 1}}
    project.declare(bad=again, good=STAYS)
    process = project.up()
    project.await_words(process, "bad: ended: exit code 3; next attempt in ")
    # Also of an unfinished line nothing is kept back until the next attempt adds to it.
    assert "bad      | last words\n" in project.text
    project.await_words(process, "bad: started again")
    project.await_words(process, "bad: ended: exit code 3; it has failed for good: retries used up")
    project.await_words(process, "good is here")
    assert "good leaves" not in project.text
    process.send_signal(signal.SIGTERM)
    code, lines, err = project.end(process)
    assert code == 1
    assert lines.count("bad      | last words") == 2
    assert "good     | good leaves" in lines
    assert "bad has failed: exit code 3" in err


@pytest.mark.real
def test_manual_jobs_run_when_they_are_named_and_it_ends_with_them(project: Project) -> None:
    project.declare(migrate={"cmd": "echo $GREETING; pwd"}, other={"cmd": "true"})
    nothing = project.ask()
    assert nothing.returncode == 2
    assert "no job begins by itself; name what is to run (migrate, other): procclaw up . JOB" in nothing.stderr
    code, lines, err = project.end(project.up(".", "migrate", GREETING="hello from the terminal"))
    assert (code, err) == (0, "")
    assert "migrate  | hello from the terminal" in lines
    assert f"migrate  | {project.folder}" in lines
    assert lines[-1] == "procclaw | migrate: ended: exit code 0; succeeded"
    assert "other" not in project.text
    assert 'no job "mirgate"; did you mean "migrate"?' in project.ask(".", "mirgate").stderr


@pytest.mark.real
def test_a_second_interrupt_kills_what_does_not_go(project: Project) -> None:
    project.declare(stubborn={**STUBBORN, "depends_on": ["needed"]}, needed=STUBBORN)
    process = project.up()
    project.await_words(process, "2/2 up")
    project.await_words(process, "stubborn | stubborn")
    process.send_signal(signal.SIGINT)
    project.await_words(process, "stubborn: stopping")
    assert "needed: stopping" not in project.text
    process.send_signal(signal.SIGINT)
    code, lines, _ = project.end(process)
    assert code == 0
    assert {"procclaw | stubborn: stopped (exit code 137)", "procclaw | needed: stopped (exit code 137)"} <= set(lines)
    # Nothing of it stays: the next one begins anew.
    process = project.up()
    project.await_words(process, "2/2 up")
    process.send_signal(signal.SIGHUP)
    project.await_words(process, "stopping everything")
    process.send_signal(signal.SIGTERM)
    assert project.end(process)[0] == 0


@pytest.mark.real
def test_jobs_outlive_it_and_the_next_one_takes_them_over(project: Project) -> None:
    path = project.declare(web=STAYS)
    process = project.up()
    project.await_words(process, "1/1 up")
    project.await_words(process, "web is here")
    driver = project.driver(path)
    pid = driver.pid("web")
    process.kill()
    process.wait()
    assert is_alive(pid)
    process = project.up()
    project.await_words(process, f"web: runs since before (pid {pid})")
    project.await_words(process, "1/1 up")
    assert driver.pid("web") == pid
    process.send_signal(signal.SIGINT)
    code, lines, _ = project.end(process)
    assert code == 0
    assert "web      | web leaves" in lines
    assert "web      | web is here" not in lines
    assert len(driver.attempts("web")) == 1


@pytest.mark.real
def test_it_is_refused_while_somebody_runs_the_same(project: Project) -> None:
    path = project.declare(web=STAYS)
    process = project.up()
    project.await_words(process, "1/1 up")
    for words in ((), (str(path),), ("--detach",)):
        again = project.ask(*words)
        assert again.returncode == 1
        assert again.stderr == f"procclaw: {path}: procclaw up runs it already (pid {process.pid})\n"
    driver = project.driver(path)
    assert f"procclaw up in its place (pid {process.pid})" in driver.ask("daemon", "status").out
    assert f"procclaw up (pid {process.pid}) has this home" in driver.ask("daemon", "start", code=1).err
    assert "it ends with its jobs" in driver.ask("daemon", "stop", code=1).err
    # Everything else is asked of it as of a daemon.
    project.text = ""
    driver.ask("restart", "web")
    project.await_words(process, "web: started")
    driver.ask("daemon", "stop", "--jobs")
    assert project.end(process)[0] == 0
    assert not driver.job_processes()


@pytest.mark.real
def test_detached_a_daemon_has_it_once_all_is_up(project: Project) -> None:
    path = project.declare(web=STAYS, task={"cmd": "touch done"})
    answer = project.ask("--detach", ".", "task")
    assert (answer.returncode, answer.stderr) == (0, "")
    driver = project.driver(path)
    holder = driver.holder()
    assert holder is not None
    assert answer.stdout.startswith(f"1/1 up (daemon pid {holder.pid})\n")
    driver.wait((project.folder / "done").exists)
    attached = project.ask()
    assert attached.returncode == 1
    assert f"a daemon runs it already (pid {holder.pid})" in attached.stderr
    again = project.ask("--detach")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, f"1/1 up (daemon pid {holder.pid})")
    driver.ask("daemon", "stop", "--jobs")


@pytest.mark.real
def test_detached_it_says_what_is_not_up(project: Project) -> None:
    never = {**STAYS, "health_check": {"type": "file", "path": "/nonexistent/ready", "interval": 1}}
    path = project.declare(web={**STAYS, "depends_on": [{"job": "sick", "condition": "after_healthy"}]}, sick=never)
    answer = project.ask("--detach", "--timeout", "1")
    assert answer.returncode == 1
    assert answer.stdout.startswith("0/2 up; ")
    assert "sick is not healthy yet" in answer.stdout
    assert "web waits: sick (after_healthy)" in answer.stdout
    project.driver(path).ask("daemon", "stop", "--jobs")


@pytest.mark.real
def test_without_a_reader_everything_is_stopped(project: Project) -> None:
    path = project.declare(web={**STAYS, "cmd": LASTING.replace("sleep 0.05", "echo again; sleep 0.05")})
    process = project.up()
    project.await_words(process, "web      | again")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=WITHIN)
    assert not project.driver(path).job_processes()


@pytest.mark.real
def test_a_saved_file_applies(project: Project) -> None:
    project.declare(web=STAYS)
    process = project.up()
    project.await_words(process, "1/1 up")
    project.declare(web=STAYS, second=STAYS)
    project.await_words(process, "the file was read again: 2 jobs in force")
    project.await_words(process, "second   | second is here")
    project.await_words(process, "2/2 up")
    process.send_signal(signal.SIGINT)
    assert project.end(process)[0] == 0


@pytest.mark.real
def test_another_tools_file_is_converted_and_run(project: Project) -> None:
    path = project.folder / "crontab.txt"
    path.write_text("@reboot echo up from cron; sleep 1000\nnonsense\n*/5 * * * * true\n")
    driver = project.driver(path)
    process = project.up("crontab.txt")
    project.await_words(process, f"{path}:2 refused: ")
    project.await_words(process, f"procclaw import {path} tells")
    driver.wait(lambda: driver.holder() is not None and driver.opened.store.spec_hash() is not None)
    assert len(driver.operations.spec().jobs) == 2
    process.send_signal(signal.SIGINT)
    assert project.end(process)[0] == 0


@pytest.mark.real
def test_in_json_each_line_is_an_object(project: Project) -> None:
    project.declare(web={"cmd": "echo out; echo err >&2", "type": "continuous", "restart": "never"})
    code, lines, _ = project.end(project.up("--json"))
    assert code == 0
    found = [json.loads(line) for line in lines]
    assert {"job_id": "web", "stream": "stdout", "line": "out"} in found
    assert {"job_id": "web", "stream": "stderr", "line": "err"} in found
    assert "attempt ended" in {each.get("event") for each in found}


# --- on a terminal ---


def on_terminal(project: Project, reaper: Reaper, *words: str, **environment: str) -> tuple[Any, int]:
    """It, on a terminal of its own, as a shell would start it; and our end of that."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = reaper.spawn(
        project.argv(*words),
        cwd=project.folder,
        env={**plain, "TERM": "xterm", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    return process, ours


@pytest.mark.real
def test_on_a_terminal_names_have_colours_and_ctrl_c_reaches_no_job(project: Project, reaper: Reaper) -> None:
    told = LASTING.replace("trap ", 'trap "echo interrupted" INT; trap ', 1)
    project.declare(web={**STAYS, "cmd": "echo oops >&2; " + told}, api={**STAYS, "cmd": told})
    process, terminal = on_terminal(project, reaper)
    project.read_until(terminal, "api is here")
    project.read_until(terminal, "web is here")
    project.read_until(terminal, "2/2 up")
    project.read_until(terminal, "oops")
    os.write(terminal, b"\x03")
    project.read_until(terminal, "web leaves")
    project.read_until(terminal, "api leaves")
    assert process.wait(timeout=WITHIN) == 0
    os.close(terminal)
    assert "interrupted" not in project.text
    assert "\x1b[31merr| \x1b[0moops" in project.text
    colours = dict(re.findall(r"\x1b\[(\d+)m(web|api) +\|\x1b\[0m", project.text))
    assert len(colours) == 2, project.text


@pytest.mark.real
def test_no_colour_where_nobody_wants_it(project: Project, reaper: Reaper) -> None:
    project.declare(web=STAYS)
    process, terminal = on_terminal(project, reaper, NO_COLOR="1")
    project.read_until(terminal, "web      | web is here")
    os.write(terminal, b"\x03")
    project.read_until(terminal, "web: stopped")
    assert process.wait(timeout=WITHIN) == 0
    os.close(terminal)
    assert "\x1b" not in project.text


@pytest.mark.real
def test_a_terminal_that_goes_away_takes_its_jobs_along(project: Project, reaper: Reaper) -> None:
    path = project.declare(web=STAYS)
    process, terminal = on_terminal(project, reaper)
    project.read_until(terminal, "1/1 up")
    os.close(terminal)
    process.wait(timeout=WITHIN)
    assert not project.driver(path).job_processes()


# --- what is run, and where its home is ---


def test_what_comes_first_in_a_directory_is_run(project: Project) -> None:
    folder = project.folder
    with pytest.raises(NotFound, match=r"no home .* and none of jobs\.yaml, Procfile"):
        find(str(folder), None)
    for name in reversed(NAMES):
        (folder / name).write_text("")
        assert find(str(folder), None) == Found(place_of(str(folder / name)), str(folder / name))
    assert find(str(folder / "Procfile"), None).file == str(folder / "Procfile")
    (folder / "procclaw.yaml").write_text("")
    assert find(str(folder), None) == find(str(folder / "jobs.yaml"), None) == Found(str(folder))
    assert find(None, str(folder)) == Found(str(folder))


def test_a_word_that_is_no_file_may_have_been_a_job(project: Project) -> None:
    with pytest.raises(NotFound, match=r'no file or directory "web"; jobs are named after it: procclaw up \. web'):
        find("web", None)
    with pytest.raises(NotFound, match=r'no file or directory "\./web"$'):
        find("./web", None)


def test_a_file_has_one_home_however_it_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.folder / "a.yaml").symlink_to(project.declare("b.yaml"))
    place = place_of(str(project.folder / "b.yaml"))
    assert place_of(str(project.folder / "a.yaml")) == place
    assert re.fullmatch(r"shop-[0-9a-f]{8}", Path(place).name)
    assert place_of(str(project.declare("c.yaml"))) != place
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert place_of("/x/jobs.yaml").startswith(os.path.expanduser("~/.local/state/procclaw/up/x-"))


def test_a_mistake_in_the_file_is_told_and_nothing_begins(cli: CommandLine, project: Project) -> None:
    path = project.declare("dev.yaml", web={"cmd": "true", "tpye": "manual"})
    answer = cli("up", str(path))
    assert (answer.code, answer.out) == (2, "")
    assert f'{path}:1 jobs.web.tpye: is not a known key; did you mean "type"?' in answer.err
    assert not (Path(place_of(str(path))) / "procclaw.db").exists()


def test_a_home_that_is_none_is_not_made(cli: CommandLine, project: Project) -> None:
    answer = cli("up", "--home", str(project.folder / "none"))
    assert (answer.code, "no home at" in answer.err) == (1, True)
    assert not (project.folder / "none").exists()


def test_a_home_and_a_file_exclude_each_other(cli: CommandLine, project: Project) -> None:
    path = project.declare(web=STAYS)
    assert cli("--home", str(project.folder), "up", str(path)).code == 2


# --- words ---


def a_view(job_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": job_id, "type": "continuous", "status": status, "health": None, "reason": None, **more}


def test_the_bring_up_tells_who_waits_for_what() -> None:
    state = bring_up_of(
        [
            a_view("good", "running", health="healthy"),
            a_view("sick", "running", health="unhealthy", reason="unhealthy: 500"),
            a_view("slow", "queued", reason="good (after_healthy): does not run"),
            a_view("done", "stopped"),
            a_view("held", "stopped", reason="stopped by alice"),
            a_view("dead", "failed", reason="exit code 1"),
            {**a_view("manual", "stopped"), "type": "manual"},
        ]
    )
    assert (state.wanted, state.up, state.is_settled, state.is_done) == (5, 2, False, False)
    assert state.told == (
        "2/5 up; dead has failed: exit code 1; sick is not healthy yet: unhealthy: 500; "
        "slow waits: good (after_healthy): does not run; held stays down: stopped by alice"
    )


def test_of_many_that_wait_few_are_named() -> None:
    state = bring_up_of([a_view(f"job{number}", "pending") for number in range(9)])
    assert state.told == "0/9 up; job0 waits: pending; job1 waits: pending; job2 waits: pending; 6 more wait"


@pytest.mark.parametrize(
    ("kind", "fields", "wanted"),
    [
        ("run finished", {"state": "expired", "attempts": "0", "reason": "queue_timeout"}, "expired: queue timeout"),
        ("run finished", {"state": "failed", "attempts": "1"}, None),
        ("health changed", {"health": "unhealthy", "detail": "500"}, "unhealthy: 500"),
        ("hold set", {"hold": "pause", "by": "bob\x1b"}, "hold set by bob\\x1b: pause"),
        ("slot skipped", {"reason": "overlap"}, "slot skipped (overlap)"),
        ("stop ordered", {"reason": "changed"}, "stopping: changed"),
        ("attempt ended", {"outcome": "exited", "code": "4"}, "ended: exit code 4"),
        ("alert raised", {}, None),
    ],
)
def test_what_happens_to_a_job_is_a_sentence(kind: str, fields: dict[str, str], wanted: str | None) -> None:
    now = SystemClock().now()
    assert of_event(Event(now, kind, "job", tuple(fields.items())), None, now) == wanted


# --- everything by force ---


@pytest.mark.real
def test_a_forced_stop_of_everything_waits_for_nobody(driver: Driver) -> None:
    driver.declare({"stubborn": {**STUBBORN, "depends_on": ["needed"]}, "needed": STUBBORN})
    driver.start_daemon()
    logs = [driver.home / "logs" / f"{job}.log" for job in ("stubborn", "needed")]
    driver.wait(lambda: all(log.exists() and "stubborn" in log.read_text() for log in logs))
    gentle = driver.request(IntentKind.HOLD_HOME, HOME)
    driver.wait_for_status("stubborn", "stopping")
    assert driver.status("needed") == "running"
    forced = driver.request(IntentKind.HOLD_HOME, HOME, force=True)
    wait_until(lambda: driver.is_answered(gentle) and driver.is_answered(forced), WITHIN, driver.show)
    assert not driver.job_processes()
