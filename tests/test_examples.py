"""The examples do what their comments say: each is copied to a home of its own, checked and run.

Where a test would have to wait, the copy has shorter times; a port is replaced by a free one.
"""

import datetime
import os
import re
import shlex
import shutil
import socket
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from procclaw.engine.files import ConfigurationFiles
from procclaw.engine.home import Home
from procclaw.engine.operations import Operations
from procclaw.interface import commands
from procclaw.interface.cli import main
from procclaw.model.clock import SystemClock
from procclaw.model.records import RunState, Trigger
from tests.driver import ROOT, Driver, is_alive
from tests.support import kill, look_at

EXAMPLES = ROOT / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/jobs.yaml"))

Copy = Callable[..., Path]


@pytest.fixture
def copy(home: Path) -> Copy:
    """Puts an example into the test's home, with some of its text replaced; every replacement must find its text."""

    def put(name: str, replaced: Iterable[tuple[str, str]] = ()) -> Path:
        # What somebody left who tried the example in the checkout is not copied.
        shutil.copytree(EXAMPLES / name, home, dirs_exist_ok=True, ignore=ignored)
        jobs = home / "jobs.yaml"
        text = jobs.read_text()
        for old, new in replaced:
            assert old in text, f'examples/{name}/jobs.yaml has no "{old}"'
            text = text.replace(old, new)
        jobs.write_text(text)
        # This very Python first, for the jobs that want one.
        path = os.pathsep.join((str(Path(sys.executable).parent), "/usr/bin", "/bin"))
        (home / "procclaw.yaml").write_text(f'env: {{PATH: "{path}"}}\n')
        return home

    return put


def ignored(_folder: str, names: list[str]) -> set[str]:
    left_behind = {"logs", "records", "work", "backups", "inbox", "done", "data"}
    return {name for name in names if name.startswith("procclaw.") or name in left_behind}


def has_succeeded(driver: Driver, job_id: str) -> bool:
    """Whether the job's first run has."""
    return any(run.state is RunState.SUCCEEDED for run in driver.runs(job_id)[:1])


def after_a_pass(driver: Driver) -> Driver:
    driver.ask("reconcile")
    return driver


@pytest.fixture
def port() -> Iterator[int]:
    """A free one, which nobody else is given meanwhile: bound here, for a server to listen at."""
    with socket.socket() as kept:
        # Two may have the same where both say this and only one listens; Python's server says it.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield int(kept.getsockname()[1])


def tried_commands(name: str) -> list[list[str]]:
    """The commands that the comment at the head of an example names, each on a line of its own."""
    found = re.findall(r"^#     procclaw (.*)$", (EXAMPLES / name / "jobs.yaml").read_text(), re.MULTILINE)
    return [shlex.split(words) for words in found]


def test_there_are_examples_and_each_is_run_here() -> None:
    ran = "\n".join(name for name in globals() if name.startswith("test_the_"))
    assert NAMES
    assert [name for name in NAMES if f"test_the_{name}" not in ran] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_valid_and_uses_only_what_is_built(copy: Copy, name: str) -> None:
    loaded = ConfigurationFiles(str(copy(name))).load()
    assert loaded.warnings == ()
    assert loaded.document["jobs"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_names_the_schema_for_editors(name: str) -> None:
    first = (EXAMPLES / name / "jobs.yaml").read_text().splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (EXAMPLES / name / schema).resolve() == ROOT / "schema" / "jobs.schema.json"


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_that_an_example_tells_to_try_exist(name: str) -> None:
    tried = tried_commands(name)
    assert tried
    for option, folder, *words in tried:
        assert (option, folder) == ("--home", f"examples/{name}")
        found = commands.find(words)
        assert found is not None, words
        commands.parser_of(found[0]).parse_args(words[found[1] :])


@pytest.mark.real
def test_the_demo_shows_a_service_a_schedule_and_a_failure(copy: Copy, driver: Driver) -> None:
    copy("demo", [("sleep 2", "sleep 0.1"), ("@every 10s", "@every 1s"), ("delays: [1, 2]", "delays: [0.1, 0.2]")])
    driver.start_daemon()
    driver.wait_for_status("flaky", "failed")
    driver.wait(lambda: has_succeeded(driver, "clock"))
    assert driver.status("heartbeat") == "running"
    assert [run.attempts for run in driver.runs("flaky")] == [3]
    assert "wanted\tclosed\tits last run failed: retries used up" in driver.ask("why", "flaky").out
    driver.wait(lambda: driver.ask("logs", "heartbeat").out.startswith("beat 1\nbeat 2\n"))
    slots = driver.ask("ledger", "clock", "--json").json["slots"][::-1]
    # Not one that a later one has overtaken.
    first = next(slot for slot in slots if slot["outcome"] == "ran")
    assert f"run {first['run_id']}, due {first['first_due_at']}" in driver.ask("logs", "clock").out

    pid = driver.pid("heartbeat")
    driver.kill_daemon()
    driver.start_daemon()
    assert driver.pid("heartbeat") == pid

    service = look_at(pid)
    assert service is not None
    kill(service)
    driver.wait(lambda: driver.job("heartbeat")["pid"] not in (None, pid))

    assert driver.ask("daemon", "stop", "--jobs").out.startswith("all jobs are stopped")
    driver.wait(lambda: driver.processes() == [])


@pytest.mark.real
def test_the_web_server_comes_back_by_passes_alone(copy: Copy, driver: Driver, port: int) -> None:
    copy("web", [("18766", str(port))])
    url = f"http://127.0.0.1:{port}/"
    driver.ask("reconcile")
    assert "Served by a job" in driver.wait(lambda: fetched(url))
    pid = driver.pid("site")
    service = look_at(pid)
    assert service is not None
    kill(service)
    driver.wait(lambda: not is_alive(pid))
    driver.wait(lambda: after_a_pass(driver).attempts("site")[0].ended_at)
    driver.wait(lambda: after_a_pass(driver).status("site") == "running")
    ended, again = driver.attempts("site")
    assert ended.ended_at is not None
    assert ended.ended_at < again.created_at  # by a later pass, not by the one that saw it
    assert "Served by a job" in driver.wait(lambda: fetched(url))
    assert driver.ask("stop", "site").out == "site: stopped\n"
    driver.wait(lambda: driver.processes() == [])


def fetched(url: str) -> str:
    """The page; empty while nobody serves it."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


@pytest.mark.real
def test_the_backup_saves_and_keeps_the_newest_seven(copy: Copy, driver: Driver) -> None:
    home = copy("backup")
    (home / "backups").mkdir()
    for age in range(1, 10):
        older = home / "backups" / f"{age}.tar"
        older.touch()
        os.utime(older, (1_700_000_000 - age, 1_700_000_000 - age))
    assert driver.ask("run", "nightly", "--wait").out.startswith("nightly: succeeded after ")
    [run] = driver.runs("nightly")
    assert {path.name for path in (home / "backups").iterdir()} == {
        f"{run.id}.tar",
        *(f"{age}.tar" for age in range(1, 7)),
    }
    with tarfile.open(home / "backups" / f"{run.id}.tar") as archive:
        assert archive.getnames() == ["jobs.yaml"]


class Earlier(SystemClock):
    """The machine's clock as it was some hours ago."""

    def __init__(self, hours: float) -> None:
        self._ago = datetime.timedelta(hours=hours)

    def now(self) -> datetime.datetime:
        return super().now() - self._ago


@pytest.mark.real
def test_the_backup_that_was_due_while_nobody_looked_is_made_up_for_once(copy: Copy, driver: Driver) -> None:
    due_at = SystemClock().now().astimezone(ZoneInfo("Europe/Berlin")) - datetime.timedelta(hours=3)
    home = copy("backup", [("30 2 * * *", f"{due_at.minute} {due_at.hour} * * *")])
    with Home(str(home), Earlier(hours=6)) as six_hours_ago:
        assert Operations(six_hours_ago, "test").reconcile()
    assert driver.runs("nightly") == []
    driver.ask("reconcile")
    driver.wait(lambda: has_succeeded(after_a_pass(driver), "nightly"))
    assert [run.trigger for run in driver.runs("nightly")] == [Trigger.CATCH_UP]
    assert len(list((home / "backups").glob("*.tar"))) == 1


@pytest.mark.real
def test_the_spool_takes_what_is_delivered_two_at_a_time(copy: Copy, driver: Driver) -> None:
    home = copy("spool", [("@every 5s", "@every 1s"), ("sleep 1", "sleep 0.4")])
    driver.start_daemon()
    for _ in range(3):
        driver.ask("run", "deliver")
    driver.wait(lambda: all(run.state is RunState.SUCCEEDED for run in driver.runs("deliver")))
    *two, third = sorted(driver.attempts("deliver"), key=lambda attempt: attempt.created_at)
    assert third.created_at >= min(attempt.ended_at for attempt in two if attempt.ended_at is not None)
    delivered = {run.id for run in driver.runs("deliver")}
    driver.wait(lambda: (home / "done").is_dir() and {path.name for path in (home / "done").iterdir()} == delivered)
    # It tells of a file once it has moved it.
    driver.wait(lambda: len(driver.ask("logs", "collect").out.splitlines()) >= len(delivered))
    stamped = [
        re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ", "", line) for line in driver.ask("logs", "collect").out.splitlines()
    ]
    assert set(stamped) == {f"took {run_id}" for run_id in delivered}


@pytest.mark.real
def test_the_shop_waits_for_its_database_and_closes_the_day(copy: Copy, driver: Driver) -> None:
    home = copy("shop", [("sleep 1\n      touch", "sleep 0.2\n      touch")])
    driver.start_daemon()
    for item in ("tea", "cake"):
        driver.ask("trigger", "order", "--payload", f'{{"item": "{item}"}}')
    driver.wait(lambda: [run.state for run in driver.runs("order")] == [RunState.SUCCEEDED] * 2)
    [up] = driver.attempts("database")
    assert all(up.started_at < attempt.created_at for attempt in driver.attempts("order") if up.started_at)
    assert sorted((home / "data" / "orders").read_text().split()) == ['"cake"}', '"tea"}', '{"item":', '{"item":']

    report = driver.ask("run", "report", "-p", "day=2026-06-01", "--wait", "--json").json
    assert (report["state"], report["result"]) == ("succeeded", {"day": "2026-06-01", "orders": 2})
    assert "value of param day does not match" in driver.ask("run", "report", "-p", "day=monday", code=2).err

    evening = driver.ask("workflow", "run", "evening", "--wait", "--json").json
    assert [step["state"] for step in evening["steps"]] == ["succeeded"] * 3
    published = driver.ask("runs", "logs", evening["steps"][2]["run_id"]).out
    assert '"orders": 2' in published

    driver.ask("stop", "database")
    asked = driver.ask("run", "report")
    assert asked.out.startswith("report: waits: database (after_healthy): does not run: it is stopped")
    assert "\nto let it start: procclaw start database\n" in driver.ask("why", "report").out
    assert driver.ask("queue").out.startswith("1\treport\t")
    driver.ask("start", "database")
    driver.wait(lambda: [run.state for run in driver.runs("report")] == [RunState.SUCCEEDED] * 3)
    driver.ask("stop", "database", "--force")


@pytest.mark.parametrize(
    ("words", "times"),
    [
        (
            ["report", "--after", "2026-03-07T12:00:00Z", "-n", "3"],
            ["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T05:30:00Z"],
        ),
        (
            ["report", "--after", "2026-10-31T12:00:00Z", "-n", "3"],
            ["2026-11-01T05:30:00Z", "2026-11-01T07:30:00Z", "2026-11-02T06:30:00Z"],
        ),
        (["open", "--after", "2026-01-02T12:00:00Z", "-n", "2"], ["2026-01-05T12:00:00Z", "2026-01-06T12:00:00Z"]),
        (["sample", "--after", "2026-03-08T06:45:00Z", "-n", "2"], ["2026-03-08T07:00:00Z", "2026-03-08T07:15:00Z"]),
    ],
    ids=["the night without the hour after two", "the night with the hour after one twice", "weekdays", "real time"],
)
def test_the_zones_have_the_times_they_tell(
    copy: Copy, capsys: pytest.CaptureFixture[str], words: list[str], times: list[str]
) -> None:
    home = copy("zones")
    assert main(["--home", str(home), "next", *words]) == 0
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == times
