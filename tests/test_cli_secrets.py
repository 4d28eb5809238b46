"""`procclaw secret`, and that no value gets to where it does not belong."""

import contextlib
import io
import json
import os
import pty
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.interface import secrets
from tests.commandline import CommandLine
from tests.driver import Driver, noting
from tests.httpclient import client_of
from tests.keyrings import Keyring, a_keyring, needs_keyring
from tests.support import Reaper

TOKEN = "xoxb-your-token-here"
ABSENT = "the keychain is not there: no session bus"
pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="NOT TESTED: the Keychain of macOS is the user's own")


# --- the command ---


def test_a_secret_is_set_shown_masked_shown_listed_and_deleted(cli: CommandLine, home: Path) -> None:
    assert cli("secret", "set", "SLACK_TOKEN", TOKEN) == (
        0,
        f"SLACK_TOKEN: stored in {home}/.secrets\n",
        f"SLACK_TOKEN: {ABSENT}\n",
    )
    assert cli("secret", "get", "SLACK_TOKEN").out == "SLACK_TOKEN = xoxb-****-here\n"
    assert cli("secret", "get", "SLACK_TOKEN", "--show").out == f"SLACK_TOKEN = {TOKEN}\n"
    assert cli("secret", "list").out == f"SLACK_TOKEN\t{home}/.secrets\n"
    assert cli("secret", "delete", "SLACK_TOKEN").out == "SLACK_TOKEN: deleted\n"
    assert cli("secret", "list").out == ""
    assert cli.on_terminal("secret", "list").out == "no secrets\n"


def test_every_answer_is_json_too(cli: CommandLine) -> None:
    stored = cli("secret", "set", "A", TOKEN, "--json")
    assert (stored.json, stored.err) == ({"name": "A", "place": "file", "note": ABSENT}, "")
    masked = {"name": "A", "value": "xoxb-****-here", "masked": True, "place": "file"}
    assert cli("secret", "get", "A", "--json").json == masked
    assert cli("secret", "get", "A", "--show", "--json").json == masked | {"value": TOKEN, "masked": False}
    assert cli("secret", "list", "--json").json == {"secrets": [{"name": "A", "place": "file"}], "total": 1}
    assert cli("secret", "delete", "A", "--json").json == {"name": "A", "place": "file"}
    missing = cli("secret", "get", "A", "--json")
    wanted = {"error": {"code": "not_found", "message": 'secret "A" is not set: procclaw secret set A'}}
    assert (missing.code, missing.json) == (1, wanted)


@pytest.mark.parametrize(
    ("given", "value"),
    [("plain", "plain"), ("line\n", "line"), ("two\n\n", "two\n"), ("a\nb", "a\nb"), ("dos\r\n", "dos\r"), (" ", " ")],
)
def test_a_value_from_a_pipe_loses_one_newline_and_nothing_else(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch, given: str, value: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert cli("secret", "set", "A").code == 0
    assert cli("secret", "get", "A", "--show", "--json").json["value"] == value


def test_on_a_terminal_the_value_is_prompted_for_without_an_echo(driver: Driver, reaper: Reaper) -> None:
    ours, theirs = pty.openpty()
    child = reaper.spawn(driver.argv("secret", "set", "A"), stdin=theirs, stdout=theirs, stderr=theirs,
                         start_new_session=True)  # fmt: skip
    os.close(theirs)
    seen = _read_until(ours, b"value of A: ")
    os.write(ours, b"typed-canary\n")
    seen += _read_until(ours, b"stored in")
    assert child.wait(20) == 0
    os.close(ours)
    assert b"canary" not in seen
    assert driver.ask("secret", "get", "A", "--show").out == "A = typed-canary\n"


def _read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 1000)
    return seen


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("A", ""), "the value is empty"),
        (("A", "x\0y"), "the value holds a NUL character, which no environment can"),
        (("A", "x\udcff"), "the value is not UTF-8 text"),
        (("a canary", "x"), "that is no name for a secret: letters, digits and _ . - are, with no . or - in front"),
        ((".a", "x"), "that is no name for a secret: letters, digits and _ . - are, with no . or - in front"),
    ],
)
def test_what_cannot_be_a_name_or_a_value_is_refused(cli: CommandLine, words: tuple[str, ...], told: str) -> None:
    answer = cli("secret", "set", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith(f"{told}\n")
    assert "canary" not in answer.err


def test_what_is_not_there_cannot_be_got_or_deleted(cli: CommandLine) -> None:
    assert cli("secret", "get", "A").err.startswith('procclaw: secret "A" is not set: procclaw secret set A\n')
    deleted = cli("secret", "delete", "A")
    assert (deleted.code, deleted.err.splitlines()[0]) == (1, 'procclaw: no secret "A"')


def test_without_a_home_there_are_no_secrets(cli: CommandLine, home: Path) -> None:
    answer = cli("--home", str(home / "none"), "secret", "list")
    assert (answer.code, answer.err) == (1, f'procclaw: no home at "{home}/none": create one with procclaw init\n')


def test_who_set_and_deleted_what_is_in_the_audit_log(cli: CommandLine, home: Path) -> None:
    (home / "logs").mkdir()
    cli("secret", "set", "A", TOKEN)
    cli("secret", "delete", "A")
    lines = [json.loads(line) for line in (home / "logs" / "daemon.audit.log").read_text().splitlines()]
    assert [(line["event"], line["secret"], line["place"]) for line in lines] == [
        ("secret set", "A", "file"),
        ("secret deleted", "A", "file"),
    ]
    assert all(line["by"].endswith(" (cli)") for line in lines)


def test_env_shows_stars_for_whatever_a_secret_went_into(cli: CommandLine) -> None:
    cli("secret", "set", "A", TOKEN)
    cli.declare(job={"cmd": 'echo "${secret:A}"', "env": {"AUTH": "Bearer ${secret:A}"}})
    shown = cli("env", "job").out.splitlines()
    assert {"AUTH=****", "PROCCLAW_SECRET_A=****"} <= set(shown)
    for words in (("env", "job"), ("env", "job", "--explain"), ("env", "job", "--json")):
        assert TOKEN not in cli(*words).out
    cli("secret", "delete", "A")
    missing = cli("env", "job")
    assert (missing.code, missing.err) == (1, 'procclaw: secret "A" is not set: procclaw secret set A\n')


# --- a real keychain ---


@pytest.fixture
def keyring(reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    with a_keyring(reaper, monkeypatch) as keyring:
        yield keyring


@needs_keyring
@pytest.mark.real
def test_a_job_gets_what_is_in_the_keychain_and_fails_to_start_while_that_is_locked(
    driver: Driver, keyring: Keyring
) -> None:
    driver.ask("init")
    assert driver.ask("secret", "set", "KEY", "from-the-keychain") == (0, "KEY: stored in the keychain\n", "")
    assert driver.ask("secret", "list").out == "KEY\tkeychain\n"
    assert keyring.tool("lookup", "service", "procclaw", "account", "KEY") == "from-the-keychain"
    job = {"cmd": 'echo "got ${secret:KEY}"', "retry": {"enabled": False}}
    driver.declare({"job": job})
    driver.ask("run", "job", "--wait")
    assert driver.ask("logs", "job").out == "got from-the-keychain\n"
    keyring.lock()
    failed = driver.ask("run", "job", "--wait", code=1)
    assert 'secret "KEY" lives in the keychain, which is locked' in failed.out + failed.err
    refused = driver.ask("secret", "set", "KEY", "other", code=1)
    assert "--file stores it in " in refused.err
    driver.ask("secret", "set", "KEY", "from-the-file", "--file")
    driver.ask("run", "job", "--wait")
    assert driver.ask("logs", "job").out.endswith("got from-the-file\n")


@needs_keyring
@pytest.mark.artefact
def test_the_built_file_speaks_with_the_keychain(built_pyz: Path, home: Path, keyring: Keyring) -> None:
    environment = {"HOME": str(home), "PATH": "/nowhere", "DBUS_SESSION_BUS_ADDRESS": keyring.address}

    def ask(*words: str, given: str | None = None) -> str:
        command = [sys.executable, "-I", "-S", str(built_pyz), "--home", str(home), "secret", *words]
        done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    assert ask("set", "A", given="secret of the pyz\n") == "A: stored in the keychain\n"
    assert keyring.tool("lookup", "service", "procclaw", "account", "A") == "secret of the pyz"
    assert ask("get", "A", "--show") == "A = secret of the pyz\n"
    assert ask("delete", "A") == "A: deleted\n"
    assert keyring.tool("lookup", "service", "procclaw", "account", "A") == ""


# --- where no value may get to ---

CANARY = "canary-9f8e7d6c5b4a3210-of-the-mine"
LOOKS = (
    "list", "search x", "status stays", "status bad", "why stays", "why bad", "queue", "runs", "events", "alerts",
    "dlq", "ledger", "plan", "config", "config --validate", "env stays", "env stays --explain", "secret list",
    "secret get CANARY", "logs stays", "logs bad", "daemon logs", "daemon status", "schedule", "workflow", "replay",
)  # fmt: skip
ROUTES = ("jobs", "jobs/stays", "jobs/stays/why", "jobs/bad", "jobs/bad/logs", "runs", "queue", "dlq", "plan", "ledger",
          "alerts", "events", "config", "workflows")  # fmt: skip


@pytest.mark.real
def test_no_value_of_a_secret_gets_anywhere_but_into_the_environment_of_who_needs_it(driver: Driver) -> None:
    (driver.home / ".secrets").unlink(missing_ok=True)
    driver.ask("secret", "set", "CANARY", CANARY)
    once, key = {"enabled": False}, {"KEY": "Bearer ${secret:CANARY}"}
    check = {"type": "exec", "cmd": '[ -n "$KEY" ] && [ -n "$OWN" ] && exit 1', "interval": 1, "failures": 1,
             "on_unhealthy": "alert"}  # fmt: skip
    reached = noting('[ "${secret:CANARY}" = "${KEY#Bearer }" ] || exit 9; ')
    driver.declare(
        {
            "stays": {"cmd": f"{reached} exec sleep 1000", "type": "continuous", "env": key, "health_check": check},
            "stamped": {"cmd": f"{reached} exec sleep 1000", "type": "continuous", "env": key,
                        "log": {"timestamps": True}},
            "bad": {"cmd": f"{reached} exit 3", "env": key, "retry": once},
            "nowhere": {"cmd": "true", "cwd": "/no/such/place", "env": key, "retry": once},
            "no_program": {"cmd": ["/no/such/program"], "env": key, "retry": once},
            "seen": {"cmd": ["echo", "${env:KEY}"], "env": key, "retry": once},
            "lacking": {"cmd": "true", "env": {**key, "OTHER": "${secret:OTHER}"}, "retry": once},
        },
        env={"OWN": "${secret:CANARY}"},
        api={"auth": {"enabled": True, "token": "${secret:CANARY}"}},
        alerts={
            "webhook": "http://127.0.0.1:1/${secret:CANARY}",
            "command": '[ -n "$OWN" ] && cat >>"$PROCCLAW_HOME/alerted"; exit 1',
        },
    )  # fmt: skip
    driver.start_daemon()
    client = client_of(driver)
    for job, exit_code in (("bad", 3), ("nowhere", None), ("no_program", None), ("seen", None), ("lacking", None)):
        failed = driver.ask("run", job, "--wait", code=1)
        assert CANARY not in failed.out + failed.err
        if exit_code is not None:
            assert driver.only_attempt(job).exit_code == exit_code
    driver.wait_for_notes("stays")
    driver.wait_for_notes("stamped")
    driver.wait(lambda: driver.job("stays")["health"] == "unhealthy")
    driver.wait((driver.home / "alerted").exists)
    driver.wait(lambda: any(each["detail"] for each in driver.ask("alerts", "--json").json["alerts"]))
    assert "is not set: procclaw secret set OTHER" in driver.ask("runs", "lacking", "--json").out
    assert "holds a secret" in driver.ask("runs", "seen", "--json").out

    driver.ask("reload")
    argv = list(filter(None, (_argv(seen.pid) for seen in driver.processes())))
    assert len(argv) >= 5
    told = [driver.ask(*look.split(), code=None) for look in LOOKS]
    told += [driver.ask(*look.split(), "--json", code=None) for look in LOOKS if look != "daemon logs"]
    answers = [client.get(f"/api/v1/{route}", authorization=f"Bearer {CANARY}") for route in ROUTES]
    assert {answer.status for answer in answers} == {200}
    answers += [client.get(path, authorization=f"Bearer {CANARY}") for path in ("/", "/health", "/metrics")]
    answers.append(client.get("/api/v1/jobs", authorization="Bearer wrong"))
    driver.ask("daemon", "stop", "--jobs")

    for place in argv + [answer.body for answer in answers] + [(each.out + each.err).encode() for each in told]:
        assert CANARY.encode() not in place, place
    assert _files_with(driver.home) == [".secrets"]
    recorded = list(_recorded_cycles(driver.home))
    assert len(recorded) >= 5
    assert [cycle for cycle in recorded if CANARY.encode() in cycle] == []


def _argv(pid: int) -> bytes:
    """Empty for what has ended since it was seen, as checks and alerts do."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _recorded_cycles(home: Path) -> Iterator[bytes]:
    """They are compressed in the database, where a look at its bytes would find nothing."""
    with contextlib.closing(sqlite3.connect(home / "procclaw.db")) as connection:
        for (body,) in connection.execute("SELECT body FROM cycles"):
            yield zlib.decompress(body)


def test_a_report_of_a_bug_has_no_value_in_it(cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "logs").mkdir()
    cli("secret", "set", "CANARY", CANARY)

    def fail(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(secrets, "_audit", fail)
    for words in (("set", "CANARY", CANARY), ("delete", "CANARY")):
        answer = cli("secret", *words)
        assert answer.code == 3
        assert CANARY not in answer.out + answer.err
    assert len(list((home / "logs").glob("crash-*.txt"))) == 2
    assert _files_with(home) == []


def _files_with(home: Path) -> list[str]:
    found = [path for path in home.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(home)) for path in found if CANARY.encode() in path.read_bytes())
