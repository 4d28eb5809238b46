"""Files of other tools as jobs.yaml: whole conversions as they are expected, and what no input may do."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from procclaw.interface.convert import kinds
from procclaw.interface.convert.conversion import STANDARD_INPUT, Fate, Ids, Note, Source, Unconvertible
from tests import fuzz_imports, imports
from tests.commandline import CommandLine


@pytest.mark.real
@pytest.mark.parametrize("path", imports.inputs(), ids=imports.name_of)
def test_an_input_becomes_what_is_expected(path: Path) -> None:
    if not imports.is_answerable(path):
        pytest.skip("needs node")
    assert imports.converted(path) == imports.expected(path), "python -m tests.imports --accept takes it as it is"


def test_every_expectation_has_its_input() -> None:
    expectations = {path.with_name(path.name.removesuffix(".expected")) for path in imports.ROOT.rglob("*.expected")}
    assert expectations == set(imports.inputs())


@pytest.mark.parametrize("path", imports.inputs(), ids=imports.name_of)
def test_an_input_is_recognised_for_what_it_is_or_the_user_is_asked(path: Path) -> None:
    source = Source(path.name, path.read_text(), lambda _name: None)
    try:
        assert kinds.kind_of(source).name == path.parent.name
    except Unconvertible as error:
        assert "--from KIND says which" in str(error)


@pytest.mark.parametrize(
    ("users", "kinds_there_are"),
    [
        (["/opt/a.sh", "echo"], ["crontab"]),
        (["postgres", "mail"], ["crontab"]),
        (["root"], ["system-crontab"]),
        (["root", "www-data", "postgres:postgres"], ["system-crontab"]),
        (["nobody", "nobody"], ["system-crontab"]),
        (["certbot", "echo", "root"], ["crontab", "system-crontab"]),
        (["jane", "root"], ["crontab", "system-crontab"]),
    ],
)
def test_accounts_in_lines_tell_a_crontab_of_the_system_or_the_user_is_asked(
    users: list[str], kinds_there_are: list[str]
) -> None:
    source = Source(STANDARD_INPUT, "".join(f"*/5 * * * * {user} /usr/bin/x\n" for user in users), lambda _name: None)
    if len(kinds_there_are) == 1:
        assert kinds.kind_of(source).name == kinds_there_are[0]
    else:
        with pytest.raises(Unconvertible, match="could be crontab or system-crontab: --from KIND says which"):
            kinds.kind_of(source)


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_a_mutated_input_is_converted_or_refused(first: int) -> None:
    for seed in range(first, first + 50):
        tried = fuzz_imports.case(seed)
        assert not list(fuzz_imports.problems(tried)), f"python -m tests.fuzz_imports --seed {seed} 1"


_LONG = "9" * 5000
_FAR = "9" * 400


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("compose", f"services: {{a: {{image: x, restart: 'on-failure:{_LONG}'}}}}"),
        ("compose", f"services: {{a: {{image: x, stop_grace_period: {_FAR}s}}}}"),
        ("compose", f"services: {{a: {{image: x, stop_grace_period: 1.{_FAR}s}}}}"),
        ("process-compose", f"processes: {{a: {{command: x, schedule: {{interval: {_FAR}s}}}}}}"),
        ("supervisord", f"[program:a]\ncommand=x\nstopsignal={_LONG}\n"),
        ("systemd", f"[Service]\nExecStart=/x\nMemoryMax={_FAR}K\n"),
        ("systemd", f"[Service]\nExecStart=/x\nRuntimeMaxSec={_FAR}\n"),
        ("systemd", f"[Service]\nExecStart=/x\nRestart=always\nRestartSteps={_LONG}\nRestartMaxDelaySec=9\n"),
        ("systemd", f"[Timer]\nOnCalendar={_LONG}-01-01 00:00\n"),
    ],
)
def test_a_number_beyond_all_measure_is_refused_or_left_out(kind: str, text: str) -> None:
    files = {"a.service": "[Service]\nExecStart=/x\n"}
    source = Source("there/a.timer" if "[Timer]" in text else "there/a.service", text, files.get)
    conversion = kinds.convert(source, kinds.named(kind), Ids()).conversion
    assert conversion.jobs or conversion.all_notes()


def test_mutated_inputs_are_of_every_kind() -> None:
    tried = [fuzz_imports.case(seed) for seed in range(400)]
    assert {each.kind for each in tried} == set(kinds.NAMES)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["web"], ["web"]),
        (["web", "web", "WEB"], ["web", "web-2", "WEB-3"]),
        (["my job!", "__x__", "-"], ["my-job", "x", "job"]),
        (["daemon"], ["daemon-2"]),
        (["a" * 80, "a" * 80], ["a" * 63, "a" * 61 + "-2"]),
    ],
)
def test_names_become_ids_that_are_valid_and_different(names: list[str], wanted: list[str]) -> None:
    ids = Ids()
    assert [ids.of(name) for name in names] == wanted


def test_a_name_that_is_no_id_is_kept_as_the_name_of_its_job(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "ecosystem.json"
    names = ["my nightly job", "once.off", "plain", "plain"]
    file.write_text(json.dumps({"apps": [{"name": name, "script": "./run"} for name in names]}))
    assert cli("import", str(file), "--write").code == 0
    jobs = cli("list", "--json").json["jobs"]
    assert {(job["id"], job["name"]) for job in jobs} == {
        ("my-nightly-job", "my nightly job"),
        ("once-off", "once.off"),
        ("plain", "plain"),
        ("plain-2", "plain-2"),
    }


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("crontab", "API_TOKEN: s3cret\nTOKEN=s3cret-too /opt/run.sh\n0 3 * * * /opt/backup.sh\n"),
        ("supervisord", '[program:a]\ncommand=true\nenviroment=TOKEN="s3cret"\n'),
        ("procfile", "web: true\nTOKEN=s3cret\n"),
        ("process-compose", "processes: {a: {command: 'run ${TOKEN:-s3cret}'}}\n"),
        ("systemd", "[Service]\nExecStart=/bin/true\nSetCredential=token:s3cret\n"),
    ],
)
def test_a_report_tells_no_secret_that_stands_in_the_source(kind: str, text: str) -> None:
    source = Source("source.service", text, lambda _name: None)
    conversion = kinds.convert(source, kinds.named(kind), Ids()).conversion
    assert conversion.all_notes()
    assert "s3cret" not in repr(conversion.all_notes())


def test_a_switch_is_told_whatever_its_name_sounds_like() -> None:
    for what in ("PrivateTmp=yes", "PrivateTmp=, KeyringMode=", "auth: 0"):
        assert Note(1, what, Fate.DROPPED).discreet().what == what
    assert Note(1, "PASSWORD=hunter2 x", Fate.DROPPED).discreet().what == "PASSWORD=****"


# --- the command ---

CRONTAB = "0 3 * * * /opt/backup.sh\n"


def test_it_is_printed_and_nothing_is_written(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "crontab.txt"
    file.write_text(CRONTAB)
    before = sorted(home.iterdir())
    answer = cli("import", str(file))
    assert answer.code == 0
    assert "  backup:\n    cmd: /opt/backup.sh\n" in answer.out
    assert answer.err.startswith(f"{file}: read as crontab\n")
    assert f"{file}:1 backup: kept as cmd, type, schedule" in answer.err
    assert sorted(home.iterdir()) == before


def test_written_into_the_home_it_applies_and_is_not_written_twice(
    cli: CommandLine, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "crontab.txt"
    file.write_text(CRONTAB)
    answer = cli("import", str(file), "--write")
    assert (answer.code, answer.out) == (0, "")
    assert (home / "jobs.d" / "crontab.yaml").exists()
    assert [job["id"] for job in cli("list", "--json").json["jobs"]] == ["backup"]
    again = cli("import", str(file), "--write")
    assert again.code == 1
    assert "is there already; --force overwrites it" in again.err
    before = (home / "jobs.d" / "crontab.yaml").stat().st_ino
    assert cli("import", str(file), "--write", "--force").code == 0
    assert (home / "jobs.d" / "crontab.yaml").stat().st_ino != before, "a daemon reads the old one or the new one"
    assert [path.name for path in (home / "jobs.d").iterdir()] == ["crontab.yaml"]


def test_a_source_whose_name_has_no_letter_that_a_file_of_ours_may_have_is_loaded_all_the_same(
    cli: CommandLine, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "定時"
    file.write_text(CRONTAB)
    assert cli("import", "--from", "crontab", str(file), "--write").code == 0
    assert [path.name for path in (home / "jobs.d").iterdir()] == ["imported.yaml"]
    assert [job["id"] for job in cli("list", "--json").json["jobs"]] == ["backup"]


@pytest.mark.parametrize(("make", "why"), [(os.mkfifo, "it is not a regular file"), (os.mkdir, "is a directory")])
def test_what_cannot_be_read_in_the_home_is_told_and_nothing_is_written(
    make: Callable[[Path], None], why: str, cli: CommandLine, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "crontab.txt"
    file.write_text(CRONTAB)
    (home / "jobs.d").mkdir()
    make(home / "jobs.d" / "other.yaml")
    answer = cli("import", str(file), "--write")
    assert (answer.code, answer.err) == (1, f"procclaw: {home}/jobs.d/other.yaml: cannot be read: {why}\n")
    assert not (home / "jobs.d" / "crontab.yaml").exists()


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["supervisord.conf"], "supervisord.yaml"),
        (["ecosystem.json"], "ecosystem.yaml"),
        (["process-compose.yaml"], "process-compose.yaml"),
        ([".crontab"], "crontab.yaml"),
        (["a.crontab", "b.crontab", "c.crontab"], "a.crontab-and-2-more.yaml"),
    ],
)
def test_it_is_written_into_a_file_that_is_named_after_where_it_comes_from(
    cli: CommandLine, home: Path, tmp_path: Path, names: list[str], wanted: str
) -> None:
    texts = {
        "supervisord.conf": "[program:a]\ncommand=run\n",
        "ecosystem.json": '{"apps": [{"script": "./run"}]}',
        "process-compose.yaml": "processes:\n  a:\n    command: run\n",
    }
    for name in names:
        (tmp_path / name).write_text(texts.get(name, CRONTAB))
    before = set(home.glob("jobs.d/*"))
    answer = cli("import", *(str(tmp_path / name) for name in names), "--write")
    assert answer.code == 0, answer.err
    assert {path.name for path in set(home.glob("jobs.d/*")) - before} == {wanted}


def test_the_report_follows_the_order_of_the_source(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "crontab.txt"
    file.write_text("PATH=/bin\n" + CRONTAB + "nonsense\n@reboot x\n0 25 * * * /opt/late.sh\n0 4 * * * y\n")
    told = [line.split()[0].rpartition(":")[2] for line in cli("import", str(file)).err.splitlines()[:-1]]
    places = [int(place) for place in told if place.isdecimal()]
    assert places == [2, 3, 4, 4, 5, 6]


def test_what_a_file_includes_is_found_beside_it(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    (tmp_path / "etc" / "supervisord.conf").write_text("[include]\nfiles=conf.d/*.conf\n")
    (tmp_path / "etc" / "conf.d" / "web.conf").write_text("[program:web]\ncommand=run\n")
    monkeypatch.chdir(tmp_path)
    answer = cli("import", "etc/supervisord.conf")
    assert answer.code == 0, answer.err
    assert "# etc/conf.d/web.conf:1\n  web:\n    cmd: [run]" in answer.out


def test_a_name_that_the_home_has_already_is_refused_with_where_it_is(
    cli: CommandLine, home: Path, tmp_path: Path
) -> None:
    cli.declare_all({"backup": {"cmd": "true"}})
    file = tmp_path / "crontab.txt"
    file.write_text(CRONTAB)
    answer = cli("import", str(file), "--write")
    assert answer.code != 0
    assert "is declared already" in answer.err
    assert not (home / "jobs.d" / "crontab.yaml").exists()


def test_what_our_own_loader_refuses_is_refused_with_its_line_and_the_rest_goes_on(
    cli: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "crontab.txt"
    file.write_text(CRONTAB + "0 25 * * * /opt/late.sh\n")
    answer = cli("import", str(file), "--json")
    assert answer.code == 1
    [source] = answer.json["sources"]
    [refused] = [note for note in source["notes"] if note["fate"] == "refused"]
    assert (refused["line"], refused["says"]) == (2, 'schedule: "0 25 * * *": hour "25" is not within 0 to 23')
    assert [job["id"] for job in source["jobs"]] == ["backup"]


def test_what_lies_beside_a_file_and_is_none_is_not_waited_for(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: true\n")
    os.mkfifo(tmp_path / ".env")
    assert cli("import", str(tmp_path / "Procfile")).code == 0


def test_a_file_that_is_no_text_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    for content, told in ((b"a\n\xff", ":2: is not UTF-8 text"), (b"a\n\0", ":2: holds a NUL character")):
        file = tmp_path / "crontab.txt"
        file.write_bytes(content)
        answer = cli("import", str(file))
        assert (answer.code, answer.err) == (1, f"procclaw: {file}{told}\n")
    answer = cli("import", str(tmp_path / "none"))
    assert answer.err == f"procclaw: {tmp_path}/none: no such file or directory\n"
    (tmp_path / "what").write_text("hello\n")
    answer = cli("import", str(tmp_path / "what"))
    assert "is of no kind that is known here: --from KIND says which (one of crontab" in answer.err


def test_the_kinds_the_command_line_names_are_those_there_are(cli: CommandLine) -> None:
    answer = cli("import", "--help")
    said = "".join(answer.out.split())  # lines end within names
    for name in kinds.NAMES:
        assert name in said


def test_the_answer_is_json_where_that_is_asked_for(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "crontab.txt"
    file.write_text(CRONTAB)
    answer = cli("import", str(file), "--json")
    assert json.loads(json.dumps(answer.json))["sources"][0]["kind"] == "crontab"
    assert answer.json["jobs_yaml"].startswith("# Converted by procclaw import from ")
