"""Jobs in other tools' words: whole exports as they are expected, and what the other tools themselves say to them."""

import json
import os
import plistlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from procclaw.interface.convert import kinds, leaving
from procclaw.interface.convert.oncalendar import calendar_events
from procclaw.interface.convert.times import Times
from procclaw.interface.home_commands import EXPORT_FORMATS
from procclaw.planning import schedule
from tests import exports
from tests.commandline import CommandLine

ANALYZE = shutil.which("systemd-analyze")
takes_systemd = pytest.mark.skipif(ANALYZE is None, reason="NOT TESTED: takes systemd-analyze of systemd")
EXAMPLES = sorted(path.parent for path in (Path(__file__).parent.parent / "examples").glob("*/jobs.yaml"))
HOMES = [*sorted(path.parent for path in exports.ROOT.glob("*/jobs.yaml")), *EXAMPLES]
KUBERNETES = "1.31"
"""Of the schemas: what exports use has been the same since 1.27."""


@pytest.mark.real
@pytest.mark.parametrize("case", exports.cases())
def test_a_home_becomes_what_is_expected(case: str) -> None:
    assert exports.exported(case) == exports.expectation(case).read_text(), "python -m tests.exports --accept takes it"


def test_every_expectation_has_its_home() -> None:
    assert set(exports.ROOT.rglob("*.expected")) == {exports.expectation(case) for case in exports.cases()}


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_exported_or_refused_with_the_reason(cli: CommandLine, example: Path, kind: str) -> None:
    answer = cli("--home", str(example), "export", kind, "--json")
    assert answer.code in (0, 1), answer.err
    for job in answer.json["jobs"]:
        refused = [note for note in job["notes"] if note["fate"] == "refused"]
        assert job["is_exported"] != bool(refused)
        assert all(note["says"] and note["line"] and note["file"] == "jobs.yaml" for note in refused)


# --- nothing is lost in silence ---

EVERYTHING: dict[str, Any] = {
    "name": "A name",
    "description": "What it is for",
    "tags": ["a"],
    "cmd": "true",
    "cwd": "/srv",
    "env": {"A": "b"},
    "env_file": "/etc/env",
    "user": "1000",
    "group": "1000",
    "umask": 0o77,
    "nice": 3,
    "enabled": False,
    "timeout": 60,
    "success_exit_codes": [0, 4],
    "shutdown": {"signal": "SIGHUP", "leftovers": "keep"},
    "log": {"timestamps": True},
    "depends_on": ["other"],
    "priority": "low",
    "dedup": {"enabled": True},
    "lock": {"enabled": True},
    "trigger": {"type": "webhook"},
    "params": {"p": {"default": "1"}},
    "resources": {"max_memory_mb": 100},
    "alerts": {"command": "true"},
}
OF_TYPE: dict[str, dict[str, Any]] = {
    "continuous": {"restart": "on_failure", "health_check": {"type": "tcp", "port": 80}},
    "scheduled": {
        "schedule": "0 4 * * *",
        "timezone": "UTC",
        "on_overlap": "queue",
        "catch_up": {"policy": "all"},
        "jitter": 10,
        "queue": "q",
        "concurrency": {"max_instances": 2},
        "expect": {"every": 90000},
    },
    "oneshot": {"run_at": "2031-03-01T06:00:00Z"},
    "manual": {},
}


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
@pytest.mark.parametrize("job_type", OF_TYPE)
def test_every_field_that_says_something_is_told_of(cli: CommandLine, job_type: str, kind: str) -> None:
    job = {**EVERYTHING, "type": job_type, **OF_TYPE[job_type]}
    cli.declare_all({"it": job, "other": {"cmd": "true", "user": "1000"}})
    answer = cli("export", kind, "it", "--json")
    [told] = answer.json["jobs"]
    if not told["is_exported"]:
        assert (kind, job_type) in (("crontab", "manual"), ("crontab", "oneshot"), ("launchd", "oneshot"))
        return
    noted = {note["what"].split()[0] for note in told["notes"]}
    missing = {*job, "retry"} - {"type"} - noted - set(told["kept"])
    assert not missing
    assert not noted & set(told["kept"])


def test_the_test_above_knows_every_field() -> None:
    fields = set(EVERYTHING).union(*OF_TYPE.values()) | {"retry"}
    assert fields == set(leaving._SAID)


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_no_value_of_a_secret_is_exported(cli: CommandLine, home: Path, kind: str) -> None:
    canary = "canary-5f1d0c"
    cli("secret", "set", "KEY", canary, "--file")
    env = {"A": "${secret:KEY}", "B": "x${secret:KEY}y"}
    job = {"type": "continuous", "cmd": "echo ${secret:KEY}", "env": env, "trigger": {"type": "webhook"}}
    cli.declare(bot=job)
    answer = cli("export", kind)
    assert answer.code == 0
    assert canary not in answer.out + answer.err
    assert "KEY" in answer.err


# --- the command ---


def test_files_are_written_where_they_are_wanted_and_not_over_others(
    cli: CommandLine, home: Path, tmp_path: Path
) -> None:
    cli.declare(tick={"type": "scheduled", "schedule": "0 4 * * *", "cmd": "true"})
    folder = tmp_path / "units"
    answer = cli("export", "systemd", "-o", str(folder))
    assert (answer.code, answer.out) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["tick.service", "tick.timer"]
    (folder / "tick.service").unlink()
    again = cli("export", "systemd", "-o", str(folder))
    assert (again.code, "tick.timer: is there already; --force overwrites it" in again.err) == (1, True)
    assert not (folder / "tick.service").exists()
    assert cli("export", "systemd", "-o", str(folder), "--force").code == 0
    assert (folder / "tick.service").exists()
    file = tmp_path / "crontab"
    assert cli("export", "crontab", "-o", str(file)).code == 0
    assert "0 4 * * * " in file.read_text()


def test_only_the_jobs_that_are_named_are_exported(cli: CommandLine, home: Path) -> None:
    cli.declare_all(
        {"a": {"cmd": "true"}, "b": {"cmd": "true"}}, workflows={"both": {"type": "group", "jobs": ["a", "b"]}}
    )
    answer = cli("export", "kubernetes", "b", "--json")
    assert [job["id"] for job in answer.json["jobs"]] == ["b"]
    for words in (
        ("kubernetes", "--image", "x", "b"),
        ("--image", "x", "kubernetes", "b"),
        ("kubernetes", "b", "--json"),
    ):
        assert [job["id"] for job in cli("--json", "export", *words).json["jobs"]] == ["b"]
    assert "WorkflowTemplate" not in answer.json["files"][0]["text"]
    missing = cli("export", "kubernetes", "c")
    assert (missing.code, missing.err) == (1, 'procclaw: no job "c"\n')


def test_what_makes_no_sense_is_refused(cli: CommandLine, home: Path) -> None:
    cli.declare(a={"cmd": "true"})
    assert cli("export", "systemd", "--image", "x").err == "procclaw: --image goes with kubernetes only\n"
    bad = cli("export", "kubernetes", "--namespace", "No!")
    assert (bad.code, '"No!" is not a name' in bad.err) == (2, True)
    (home / "jobs.yaml").write_text("jobs: {a: {}}")
    assert cli("export", "systemd").code == 2


def test_nothing_is_written_where_every_job_is_refused(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    cli.declare(a={"cmd": "true"})
    file = tmp_path / "crontab"
    answer = cli("export", "crontab", "-o", str(file))
    assert answer.code == 1
    assert "jobs.yaml:3 refused: a: is started by hand" in answer.err
    assert not file.exists()


# --- systemd ---


@takes_systemd
@pytest.mark.parametrize("home_of", HOMES, ids=lambda path: path.name)
def test_systemd_accepts_its_units(cli: CommandLine, home_of: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    answer = cli("--home", str(home_of), "export", "systemd", "-o", str(folder))
    assert answer.code in (0, 1), answer.err
    # What is to be executed has to be there, for a unit to be verified.
    for unit in folder.iterdir():
        unit.write_text(
            re.sub(r"^ExecStart=/(?!bin/sh|usr/bin/env)\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M)
        )
    words = [str(ANALYZE), "verify", "--user", "--man=no", *(str(unit) for unit in sorted(folder.iterdir()))]
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    # Before version 254 a pause between tries cannot grow; then it stays as short as it began.
    known = re.compile(r".*Unknown key '(RestartSteps|RestartMaxDelaySec)' in section \[Service\], ignoring\.")
    complaints = [line for line in done.stderr.splitlines() if not known.fullmatch(line)]
    assert (done.returncode, complaints) == (0, [])


@takes_systemd
@pytest.mark.parametrize(
    "fields",
    [
        "* * * * *",
        "*/7 */5 * * *",
        "0,30 9-17/2 * * 1-5",
        "5 4 * * 0",
        "5 4 * * 7",
        "5 4 * * 5-7",
        "0 0 1,15 * 3",
        "0 0 */2 * 1",
        "0 0 * * */2",
        "0 0 31 * *",
        "0 0 29 2 *",
        "15 6 L * *",
        "15 6 L,15 * *",
        "15 6 L * 1",
        "15 6 * * 2#2",
        "15 6 * * 1#1,5#3",
        "15 6 * * 5#5",
        "15 6 * * L5",
        "15 6 1 * L5",
        "15 6 */3 * 5#2",
        "0 12 * 1-3,7 *",
        "0 12 * */4 1",
    ],
)
def test_systemd_is_due_when_we_are(fields: str) -> None:
    minute, hour, day, month, weekday = fields.replace("L", "l").split()
    events = calendar_events(Times(minute, hour, day, month, weekday, "UTC"))
    begin, count = datetime(2027, 1, 20, 10, 3, tzinfo=UTC), 40
    wanted = [begin]
    for _ in range(count):
        due = schedule.next_due(schedule.parse((fields,), "UTC"), wanted[-1])
        assert due is not None
        wanted.append(due)
    found = {moment for event in events for moment in systemd_due(event, begin, count)}
    assert sorted(found)[:count] == wanted[1:]


def systemd_due(event: str, begin: datetime, count: int) -> Iterator[datetime]:
    base = f"--base-time={begin:%Y-%m-%d %H:%M:%S} UTC"
    words = [str(ANALYZE), "calendar", base, f"--iterations={count}", event]
    done = subprocess.run(words, env={"TZ": "UTC"}, capture_output=True, text=True, timeout=60, check=True)
    for found in re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ ([-\d]+ [:\d]+) UTC", done.stdout):
        yield datetime.fromisoformat(found).replace(tzinfo=UTC)


def test_a_limit_on_tries_never_keeps_a_timer_from_starting_its_service(cli: CommandLine, home: Path) -> None:
    """systemd counts every start against StartLimitBurst, those of the timer too."""
    rows = {"0 4 * * *": "on-failure", "0 * * * *": "no", "@every 10s": "no", "0 4,5 * * *": "no", "0 0,23 * * *": "no"}
    jobs = {f"j{n}": {"type": "scheduled", "schedule": text, "cmd": "x"} for n, text in enumerate(rows)}
    cli.declare(**jobs)
    files = {file["name"]: file["text"] for file in cli("export", "systemd", "--json").json["files"]}
    found = [re.findall(r"^Restart=(\S+)", files[f"{name}.service"], re.M)[0] for name in jobs]
    assert found == list(rows.values())


def unquoted(line: str) -> list[str]:
    """The words of an ExecStart as systemd.service(5) says they are read, specifiers and variables put back."""
    words, place = [], 0
    while place < len(line):
        if line[place] == " ":
            place += 1
            continue
        word, in_quotes = "", False
        while place < len(line) and (in_quotes or line[place] != " "):
            if line[place] == '"':
                in_quotes = not in_quotes
            elif line[place] == "\\":
                place += 1
                escapes = {"n": "\n", "t": "\t", "\\": "\\", '"': '"'}
                if line[place] == "x":
                    word += chr(int(line[place + 1 : place + 3], 16))
                    place += 2
                else:
                    word += escapes[line[place]]
            else:
                word += line[place]
            place += 1
        words.append(word.replace("%%", "%").replace("$$", "$"))
    return words


NASTY = [
    ["/bin/echo", "a b", "", "it's", '"quoted"', "back\\slash\\", "100%", "$HOME", "$$", "`x`", ";", "é\t\n\x01", "#"],
    ["/bin/echo", "%h", "%%", "$(date)", "a=b", "*", "~", "\\n", "\\%", "'%'"],
]


@pytest.mark.parametrize("words", NASTY)
def test_words_come_through_systemds_quoting_as_they_were(cli: CommandLine, home: Path, words: list[str]) -> None:
    cli.declare(it={"cmd": words})
    [file] = cli("export", "systemd", "--json").json["files"]
    [line] = re.findall(r"^ExecStart=(.*)", file["text"], re.M)
    assert unquoted(line) == words


# --- launchd ---


def agent(cli: CommandLine, **job: Any) -> dict[str, Any]:
    cli.declare(it={"cmd": "true", **job})
    answer = cli("export", "launchd", "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = plistlib.loads(answer.json["files"][0]["text"].encode())
    return found


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("30 4 * * *", {"Minute": 30, "Hour": 4}),
        ("0 0 1 * 1", [{"Minute": 0, "Hour": 0, "Day": 1}, {"Minute": 0, "Hour": 0, "Weekday": 1}]),
        ("0 9 * * 6-7", [{"Minute": 0, "Hour": 9, "Weekday": 0}, {"Minute": 0, "Hour": 9, "Weekday": 6}]),
        ("*/30 * * 3 *", [{"Minute": 0, "Month": 3}, {"Minute": 30, "Month": 3}]),
        ("* * * * *", {}),
    ],
)
def test_launchd_gets_each_moment(cli: CommandLine, home: Path, line: str, wanted: Any) -> None:
    found = agent(cli, type="scheduled", schedule=line, timezone="UTC")
    assert found["StartCalendarInterval"] == wanted


@pytest.mark.parametrize(
    ("line", "zone", "reason"),
    [
        ("0 0 */2 * 1", "UTC", "here both must fit"),
        ("0 0 L * *", "UTC", "launchd knows neither L nor #"),
        ("0 4 * * *", "Asia/Tokyo", "not Asia/Tokyo"),
        ("1-59 1-23 * * *", "UTC", "comes to more than 400 moments"),
    ],
)
def test_launchd_is_refused_what_it_would_take_otherwise(
    cli: CommandLine, home: Path, monkeypatch: pytest.MonkeyPatch, line: str, zone: str, reason: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    cli.declare(it={"cmd": "true", "type": "scheduled", "schedule": line, "timezone": zone})
    answer = cli("export", "launchd")
    assert (answer.code, reason in answer.err, answer.out) == (1, True, "")


# --- crontab ---

COMMANDS = [
    "printf '%s\\n' 'a b' \"c\"; echo 100%; echo \\\\%",
    "echo one\necho 'two\\n'\nprintf '%d%%\\n' 7\n# a comment\necho \"it's\"",
    ["printf", "%s|", "a b", "it's", "100%", "\\", "$HOME", "", "`x`", "two\nlines", "\\%"],
]


@pytest.mark.real
@pytest.mark.parametrize("command", COMMANDS, ids=["string", "lines", "list"])
@pytest.mark.parametrize("fields", [{}, {"timeout": 60, "env": {"A": "x y", "B": "50%"}, "cwd": "/tmp", "nice": 1}])
def test_a_line_of_a_crontab_does_what_the_command_does(
    cli: CommandLine, home: Path, tmp_path: Path, command: Any, fields: dict[str, Any]
) -> None:
    cli.declare(it={"type": "scheduled", "schedule": "0 4 * * *", "timezone": "UTC", "cmd": command, **fields})
    [file] = cli("export", "crontab", "--json").json["files"]
    *_, line = file["text"].rstrip("\n").split("\n")
    assert line.startswith("0 4 * * * ")
    # As cron hands it to the shell: an escaped percent sign is one, and there is none that is not escaped.
    text = line.removeprefix("0 4 * * * ")
    assert not re.search(r"(?<!\\)%", text)
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    assert output(["/bin/sh", "-c", text.replace("\\%", "%")], tmp_path) == output(words, tmp_path)


@pytest.mark.real
def test_env_wins_over_env_file_in_a_crontab_as_it_does_here(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    (tmp_path / "app.env").write_text("A=file\nB=file\n")
    job = {"type": "scheduled", "schedule": "0 4 * * *", "cmd": "echo $A $B", "env": {"A": "env"}}
    cli.declare(it={**job, "cwd": str(tmp_path), "env_file": "app.env"})
    line = cli("export", "crontab").out.strip().split("\n")[-1]
    assert output(["/bin/sh", "-c", line.removeprefix("0 4 * * * ")], tmp_path) == "env file\n"


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_a_secret_that_everybody_could_see_is_refused(cli: CommandLine, home: Path, kind: str) -> None:
    cli.declare(it={"type": "continuous", "cmd": ["x", "${env:A}"], "env": {"A": "${secret:KEY}"}})
    answer = cli("export", kind)
    assert (answer.code, answer.out) == (1, "")
    assert "A holds a secret, and everybody can see the words of a list cmd" in answer.err


def output(words: list[str], folder: Path) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout


CRONTAB = shutil.which("crontab")
CAN_CHECK = CRONTAB is not None and b"[-n]" in subprocess.run([CRONTAB, "-h"], capture_output=True, timeout=60).stderr


@pytest.mark.skipif(not CAN_CHECK, reason="NOT TESTED: takes crontab -n of Debian's cron")
@pytest.mark.parametrize("home_of", HOMES, ids=lambda path: path.name)
def test_cron_accepts_its_crontab(cli: CommandLine, home_of: Path, tmp_path: Path) -> None:
    file = tmp_path / "crontab"
    answer = cli("--home", str(home_of), "export", "crontab", "-o", str(file))
    assert answer.code in (0, 1), answer.err
    if file.exists():
        done = subprocess.run([str(CRONTAB), "-n", str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_a_variable_of_one_job_does_not_reach_another(cli: CommandLine, home: Path) -> None:
    each = {"type": "scheduled", "schedule": "0 4 * * *", "timezone": "UTC", "cmd": "/x"}
    cli.declare(a={**each, "env": {"A": "1"}}, b={**each, "env": {"B": "2"}}, c=each)
    lines = cli("export", "crontab").out.split("\n")
    assert [line for line in lines if line and not line.startswith("#")] == [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        '0 4 * * * flock -n "$HOME"/.cron-c.lock /x',
        "A=1",
        '0 4 * * * flock -n "$HOME"/.cron-a.lock /x',
        '0 4 * * * unset A; export B=2; flock -n "$HOME"/.cron-b.lock /x',
    ]


def test_a_command_that_cron_would_cut_off_is_refused(cli: CommandLine, home: Path) -> None:
    each = {"type": "scheduled", "schedule": ["0 4 * * *", "0 5 * * *"], "timezone": "UTC"}
    cli.declare(long={**each, "cmd": "echo " + "x" * 1000, "env": {"A": "1"}}, short={**each, "cmd": "/x"})
    answer = cli("export", "crontab")
    assert answer.code == 1
    assert "long: its line would have" in answer.err
    assert "xxx" not in answer.out
    assert "A=1" not in answer.out


# --- there and back ---


def imported(cli: CommandLine, *paths: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The jobs, without the PATH that every job has had all along."""
    answer = cli("import", *map(str, paths), "--from", kind, "--json")
    assert answer.code == 0, answer.err
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(answer.json["jobs_yaml"])["jobs"]
    for job in jobs.values():
        assert job["env"].pop("PATH") == "/usr/local/bin:/usr/bin:/bin"
        if not job["env"]:
            del job["env"]
    return jobs


SAME_IN_CRON: dict[str, dict[str, Any]] = {
    "backup": {"schedule": "0 3 * * 1-5", "cmd": "/opt/backup.sh --all"},
    "reports": {"schedule": "*/15 8-17 1,15 * *", "cmd": "cd /srv && ./report | mail -s 'It is 5%' boss"},
    "stats": {"schedule": "5 0 * * 0", "cmd": "stats > /dev/null 2>&1", "env": {"LANG": "de_DE.UTF-8", "A": "b c"}},
}


def test_a_crontab_comes_back_as_the_same_jobs(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    """All but what keeps a run from another, which cron leaves to flock, and which the report speaks of."""
    common = {"type": "scheduled", "timezone": "UTC", "catch_up": {"policy": "none"}, "retry": {"enabled": False}}
    several = {"concurrency": {"max_instances": 2}}
    cli.declare(**{name: {**job, **common, **several} for name, job in SAME_IN_CRON.items()})
    file = tmp_path / "crontab"
    assert cli("export", "crontab", "-o", str(file)).code == 0
    found = list(imported(cli, file, kind="crontab").values())
    del common["timezone"]
    assert found == [
        {"cmd": job.pop("cmd"), "type": "scheduled", **job, **common} for job in map(dict, SAME_IN_CRON.values())
    ]


def test_a_service_of_a_crontab_comes_back_as_one(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    tunnel = {"cmd": "ssh -N tunnel", "type": "continuous", "restart": "never", "retry": {"enabled": False}}
    cli.declare(tunnel=tunnel)
    file = tmp_path / "crontab"
    assert cli("export", "crontab", "-o", str(file)).code == 0
    assert list(imported(cli, file, kind="crontab").values()) == [tunnel]


@pytest.mark.skipif("systemd" not in kinds.NAMES, reason="units are not read yet")
def test_units_come_back_as_the_same_jobs(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    jobs: dict[str, dict[str, Any]] = {
        "api": {
            "cmd": ["/opt/api/bin/api", "--title", "50% of $HOME"],
            "cwd": "/opt/api",
            "env": {"PORT": "8080"},
            "type": "continuous",
            "shutdown": {"grace_period": 20, "signal": "SIGINT"},
        },
        "nightly": {
            "cmd": "cd /srv && ./nightly",
            "type": "scheduled",
            "schedule": "30 2 * * 1-5",
            "timezone": "UTC",
            "catch_up": {"policy": "none"},
            "retry": {"enabled": False},
            "timeout": 600,
        },
    }
    jobs["pulse"] = {**jobs["nightly"], "schedule": "@every 10s"}
    cli.declare(**jobs)
    folder = tmp_path / "units"
    assert cli("export", "systemd", "-o", str(folder)).code == 0
    found = imported(cli, *sorted(folder.iterdir()), kind="systemd")
    assert found.keys() == jobs.keys()
    for name, job in jobs.items():
        assert {field: found[name].get(field) for field in job} == job
        # What units say though we did not: how it is tried again has changed, the rest are our defaults.
        assert found[name].keys() - job.keys() <= {"description", "cwd", "retry", "shutdown", "restart"}


# --- Kubernetes ---


def manifests(cli: CommandLine, *words: str) -> list[dict[str, Any]]:
    answer = cli(*words, "export", "kubernetes", "--image", "app:1", "--json")
    return [each for file in answer.json["files"] for each in yaml.safe_load_all(file["text"])]


@pytest.mark.parametrize("home_of", HOMES, ids=lambda path: path.name)
def test_manifests_fit_the_published_schemas(cli: CommandLine, home_of: Path) -> None:
    for each in manifests(cli, "--home", str(home_of)):
        if each["kind"] != "WorkflowTemplate":
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
            check_beyond_the_schema(each)
            continue
        check_workflow(each)


def check_beyond_the_schema(manifest: dict[str, Any]) -> None:
    """What an API server asks for that no schema can say."""
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", manifest["metadata"]["name"])
    spec = manifest["spec"]
    if manifest["kind"] == "CronJob":
        assert len(spec["schedule"].split()) == 5
        spec = spec["jobTemplate"]["spec"]
    pod = spec["template"]
    if manifest["kind"] == "Deployment":
        assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert pod["spec"]["restartPolicy"] == "Always"
        assert "activeDeadlineSeconds" not in pod["spec"]
    else:
        assert pod["spec"]["restartPolicy"] in ("Never", "OnFailure")
    [container] = pod["spec"]["containers"]
    names = [each["name"] for each in container.get("env", ())]
    assert len(names) == len(set(names))


def check_workflow(manifest: dict[str, Any]) -> None:
    """The structure that Argo's documentation gives to steps; every template that is named is there."""
    assert manifest["apiVersion"] == "argoproj.io/v1alpha1"
    spec = manifest["spec"]
    assert set(spec) <= {"entrypoint", "templates", "activeDeadlineSeconds", "parallelism"}
    templates = {each["name"]: each for each in spec["templates"]}
    assert len(templates) == len(spec["templates"])
    steps = [step for group in templates.pop(spec["entrypoint"])["steps"] for step in group]
    assert len({step["name"] for step in steps}) == len(steps)
    assert {step["template"] for step in steps} == set(templates)
    for template in templates.values():
        assert set(template) <= {"name", "container", "activeDeadlineSeconds", "retryStrategy"}
        # A container is the same there as in a pod.
        pod = {"containers": [template["container"]]}
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "spec": pod}, KUBERNETES, strict=True)


def test_a_manifest_that_does_not_fit_is_noticed() -> None:
    bad = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"suspended": True, "template": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, KUBERNETES, strict=True)


WORKFLOWS: list[tuple[dict[str, Any], list[list[str]]]] = [
    ({"type": "chain", "jobs": ["a", "b", "a"]}, [["1-a"], ["2-b"], ["3-a"]]),
    ({"type": "group", "jobs": ["a", "b"]}, [["1-a", "2-b"]]),
    ({"type": "chord", "jobs": ["a", "b"], "callback": "c"}, [["1-a", "2-b"], ["3-c"]]),
]


@pytest.mark.parametrize(("workflow", "wanted"), WORKFLOWS, ids=lambda each: str(each)[:20])
def test_a_workflow_keeps_its_order(
    cli: CommandLine, home: Path, workflow: dict[str, Any], wanted: list[list[str]]
) -> None:
    cli.declare_all({name: {"cmd": "true"} for name in "abc"}, workflows={"w": workflow})
    template = manifests(cli)[-1]
    check_workflow(template)
    assert [[step["name"] for step in group] for group in template["spec"]["templates"][0]["steps"]] == wanted


def expanded(text: str, values: dict[str, str]) -> str:
    """As Kubernetes' documentation says: $(NAME) is replaced if NAME is known, and $$ is a dollar sign."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)",
        lambda found: "$" if found[0] == "$$" else values.get(found[1], found[0]),
        text,
    )


@pytest.mark.parametrize("words", NASTY)
def test_words_come_through_kubernetes_expansion_as_they_were(cli: CommandLine, home: Path, words: list[str]) -> None:
    words = [*words, "$$$(A)$$", "$(A)", "${env:A}!"]
    cli.declare(it={"cmd": words, "env": {"A": "$(B) $$ value", "B": "b"}})
    [manifest] = manifests(cli)
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    values: dict[str, str] = {}
    for each in container["env"]:
        values[each["name"]] = expanded(each["value"], values)
    assert values == {"A": "$(B) $$ value", "B": "b"}
    assert [expanded(word, values) for word in container["command"]] == [*words[:-1], "$(B) $$ value!"]


PROBES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "http", "url": "https://api.example:8443/up"},
        {"host": "api.example", "path": "/up", "port": 8443, "scheme": "HTTPS"},
    ),
    ({"type": "http", "url": "http://localhost"}, {"path": "/", "port": 80}),
]


@pytest.mark.parametrize(("check", "wanted"), PROBES)
def test_a_check_over_http_becomes_a_probe(
    cli: CommandLine, home: Path, check: dict[str, Any], wanted: dict[str, Any]
) -> None:
    cli.declare(it={"type": "continuous", "cmd": "exec x", "health_check": check})
    [container] = manifests(cli)[0]["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"] == container["readinessProbe"]["httpGet"] == wanted


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, {"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 3600}),
        ({"on_overlap": "kill_restart"}, {"concurrencyPolicy": "Replace"}),
        ({"concurrency": {"max_instances": 2}}, {"concurrencyPolicy": "Allow"}),
        ({"catch_up": {"policy": "none"}}, {"startingDeadlineSeconds": 60}),
        ({"enabled": False}, {"suspend": True}),
        ({"schedule": "0 4 * * fri-sun"}, {"schedule": "0 4 * * 0,5,6"}),
        ({"schedule": "@every 20m", "timezone": "Asia/Kolkata"}, {"schedule": "*/20 * * * *", "timeZone": "UTC"}),
        ({"schedule": "@every 1d", "timezone": "Asia/Kolkata"}, {"schedule": "0 0 * * *", "timeZone": "UTC"}),
    ],
)
def test_a_schedule_becomes_a_cron_job(
    cli: CommandLine, home: Path, fields: dict[str, Any], wanted: dict[str, Any]
) -> None:
    cli.declare(it={"type": "scheduled", "schedule": "0 4 * * *", "cmd": "x", **fields})
    [manifest] = manifests(cli)
    assert wanted.items() <= manifest["spec"].items(), json.dumps(manifest["spec"])
