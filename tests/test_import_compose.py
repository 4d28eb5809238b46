"""Compose and process-compose files with what lies beside them: .env, overrides, the folder itself."""

import json
from pathlib import Path

import pytest

from procclaw.interface.convert import compose, process_compose
from procclaw.interface.convert.conversion import STANDARD_INPUT, Conversion, Fate, Ids, Source, Unconvertible
from tests.commandline import CommandLine


def converted(folder: Path, name: str, text: str) -> Conversion:
    (folder / name).write_text(text)

    def read(other: str) -> str | None:
        return (folder / other).read_text() if (folder / other).exists() else None

    source = Source(str(folder / name), text, read)
    if name.startswith("process"):
        return process_compose.read(source, "process-compose", Ids())
    return compose.read(source, "compose", Ids())


def test_the_env_file_of_a_process_compose_file_is_the_jobs_too(tmp_path: Path) -> None:
    text = "processes:\n  web: {command: ./web}\n  own: {command: ./own, env_file: own.env}\n"
    assert "env_file" not in converted(tmp_path, "process-compose.yaml", text).jobs[0].fields
    (tmp_path / ".env").write_text("A=1\n")
    web, own = converted(tmp_path, "process-compose.yaml", text).jobs
    assert web.fields["env_file"] == str(tmp_path / ".env")
    assert own.fields["env_file"] == str(tmp_path / "own.env")
    assert [note.fate for note in own.notes] == [Fate.DROPPED]


def test_a_compose_file_takes_its_override_along_and_its_variables_from_env(tmp_path: Path) -> None:
    text = "services:\n  web: {image: a, restart: '${POLICY}', stop_grace_period: '${GRACE:-1m}'}\n"
    refused = converted(tmp_path, "compose.yaml", text)
    assert refused.jobs == ()
    assert any(note.fate is Fate.REFUSED and "${POLICY}" in note.says for note in refused.notes)
    (tmp_path / ".env").write_text('# of the stack\nexport POLICY="always"\n')
    (tmp_path / "compose.override.yaml").write_text("services: {}\n")
    [job] = converted(tmp_path, "compose.yaml", text).jobs
    assert job.fields["restart"] == "always"
    assert job.fields["shutdown"] == {"grace_period": 70}
    assert job.fields["cwd"] == str(tmp_path)
    assert job.fields["cmd"][2:6] == ["-f", "compose.yaml", "-f", "compose.override.yaml"]


def test_a_service_that_others_wait_for_is_asked_for_its_health(tmp_path: Path) -> None:
    text = (
        "services:\n  db: {image: has-a-healthcheck-of-its-own}\n"
        "  off: {image: b, healthcheck: {test: [NONE]}}\n"
        "  web: {image: c, depends_on: {db: {condition: service_healthy}}}\n"
    )
    db, off, web = converted(tmp_path, "compose.yaml", text).jobs
    assert db.fields["health_check"]["failures"] == 1
    assert "compose -f compose.yaml ps -q db" in db.fields["health_check"]["cmd"]
    assert "health_check" not in off.fields
    assert web.fields["depends_on"] == [{"job": "db", "condition": "after_healthy"}]


def test_a_compose_file_without_a_place_is_refused_and_a_process_compose_file_says_what_it_lacks() -> None:
    piped = Source(STANDARD_INPUT, "services:\n  web: {image: a}\n", lambda _name: None)
    try:
        compose.read(piped, "compose", Ids())
    except Unconvertible as error:
        assert "name it" in str(error)
    else:
        raise AssertionError("was converted")
    text = "processes:\n  web: {command: ./web}\n"
    found = process_compose.read(piped._replace(text=text), "process-compose", Ids())
    assert "cwd" not in found.jobs[0].fields
    assert any(note.what == "the folder" for note in found.notes)


def test_who_waits_for_a_job_the_loader_refuses_is_told_and_waits_no_more(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "process-compose.yaml"
    cron = {"command": "./x", "schedule": {"cron": "61 * * * *"}}
    web = {"command": "./web", "depends_on": {"bad": {"condition": "process_completed_successfully"}}}
    file.write_text(json.dumps({"processes": {"bad": cron, "web": web}}))
    answer = cli("import", str(file))
    assert answer.code == 1
    assert "depends_on:" not in answer.out
    assert "web: dropped: depends_on bad: is not waited for: it is refused" in answer.err


def test_what_stands_in_an_override_alone_is_a_job_too_and_what_it_changes_is_told(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.override.yml").write_text(
        "services:\n  web:\n    restart: always\n    ports: [8080:80]\n"
        "  extra: {image: b, restart: 'no', depends_on: [web]}\n  bad: {image: c, restart: sometimes}\n"
    )
    text = "services:\n  web: {image: a}\n"
    found = converted(tmp_path, "docker-compose.yml", text)
    web, extra = found.jobs
    place = str(tmp_path / "docker-compose.override.yml")
    assert (extra.id, extra.file, extra.line) == ("extra", place, 5)
    assert extra.fields["depends_on"] == [{"job": "web", "condition": "after_start"}]
    assert web.fields["restart"] == "never"
    told = [(note.line, note.what, note.fate) for note in found.notes if note.file == place]
    assert told == [(3, "web.restart", Fate.DROPPED), (6, "bad", Fate.REFUSED)]
    # docker compose looks for an override only beside a file that it finds by itself.
    [job] = converted(tmp_path, "stack.yml", text).jobs
    assert place not in "".join(job.fields["cmd"])


def test_an_override_that_cannot_be_read_refuses_the_file(tmp_path: Path) -> None:
    (tmp_path / "compose.override.yml").write_text("services: [\n")
    with pytest.raises(Unconvertible, match=r"compose\.override\.yml:"):
        converted(tmp_path, "compose.yaml", "services:\n  web: {image: a}\n")


def test_profiles_that_the_env_file_switches_on_are_wanted(tmp_path: Path) -> None:
    text = "services:\n  adminer: {image: a, profiles: [debug]}\n  other: {image: b, profiles: [x, y]}\n"
    adminer, other = converted(tmp_path, "compose.yaml", text).jobs
    assert adminer.fields["enabled"] is other.fields["enabled"] is False
    (tmp_path / ".env").write_text('COMPOSE_PROFILES="debug,z"\nCOMPOSE_FILE=a.yml:b.yml\n')
    found = converted(tmp_path, "compose.yaml", text)
    adminer, other = found.jobs
    assert "enabled" not in adminer.fields
    assert other.fields["enabled"] is False
    assert ("COMPOSE_FILE", Fate.CHANGED) in [(note.what, note.fate) for note in found.notes]
    (tmp_path / ".env").write_text("COMPOSE_PROFILES=*\n")
    assert not any("enabled" in job.fields for job in converted(tmp_path, "compose.yaml", text).jobs)


def test_a_process_is_told_its_name_and_number_as_by_process_compose_itself(tmp_path: Path) -> None:
    text = (
        "processes:\n  web app: {command: ./web}\n  two: {command: ./two, replicas: 2}\n"
        "  own: {command: ./own, environment: [PC_PROC_NAME=mine]}\n"
    )
    jobs = converted(tmp_path, "process-compose.yaml", text).jobs
    assert {job.id: job.fields["env"] for job in jobs} == {
        "web-app": {"PC_PROC_NAME": "web app", "PC_REPLICA_NUM": "0"},
        "two-0": {"PC_PROC_NAME": "two", "PC_REPLICA_NUM": "0"},
        "two-1": {"PC_PROC_NAME": "two", "PC_REPLICA_NUM": "1"},
        "own": {"PC_PROC_NAME": "mine", "PC_REPLICA_NUM": "0"},
    }


def test_a_process_may_go_without_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    text = "processes:\n  web: {command: ./web, is_dotenv_disabled: true, env_file: own.env}\n"
    [web] = converted(tmp_path, "process-compose.yaml", text).jobs
    assert web.fields["env_file"] == str(tmp_path / "own.env")
    assert web.notes == ()


def test_a_misspelt_key_of_process_compose_is_not_taken_for_one_of_its_own(tmp_path: Path) -> None:
    text = "is_strict: true\nverzion: 1\nprocesses:\n  web: {command: ./web, comand: x, is_tty: true}\n"
    found = converted(tmp_path, "process-compose.yaml", text)
    unknown = "is no key of process-compose that ProcClaw knows"
    said = {note.what: note.says for note in found.all_notes()}
    assert said["comand"] == said["verzion"] == unknown
    assert unknown not in (said["is_strict"], said["is_tty"])
