"""systemd's units as jobs: what units that belong together become, and the syntax of their values."""

from pathlib import Path
from typing import Any

import pytest

from procclaw.interface.convert import systemd_units
from tests.commandline import CommandLine

SERVICE = "[Service]\nType=oneshot\nUser=app\nExecStart=/opt/{name}\n"
TIMER = "[Timer]\nOnCalendar=daily\n{more}[Install]\nWantedBy=timers.target\n"


def units(folder: Path, **texts: str) -> list[str]:
    """Units by their name with _ for the dot, written; their paths."""
    paths = []
    for name, text in texts.items():
        path = folder / name.replace("_", ".")
        path.write_text(text)
        paths.append(str(path))
    return paths


def jobs(answer: Any) -> dict[str, list[str]]:
    return {job["id"]: job["fields"] for source in answer.json["sources"] for job in source["jobs"]}


def test_a_service_and_its_timer_are_one_job_whichever_is_named(cli: CommandLine, tmp_path: Path) -> None:
    service, timer = units(tmp_path, backup_service=SERVICE.format(name="b"), backup_timer=TIMER.format(more=""))
    for named in ([service], [timer], [service, timer], [timer, service]):
        answer = cli("import", *named, "--json")
        assert answer.code == 0
        assert answer.json["jobs_yaml"].count("schedule: 0 0 * * *") == 1
        assert list(jobs(answer)) == ["backup"]


def test_a_timer_starts_the_unit_it_names(cli: CommandLine, tmp_path: Path) -> None:
    service, timer = units(
        tmp_path, work_service=SERVICE.format(name="w"), nightly_timer=TIMER.format(more="Unit=work.service\n")
    )
    assert "schedule" in jobs(cli("import", timer, "--json"))["work"]
    assert "schedule" in jobs(cli("import", service, timer, "--json"))["work"]
    # Alone it is what it says of itself: nothing starts it.
    assert "schedule" not in jobs(cli("import", service, "--json"))["work"]


def test_units_that_are_converted_together_wait_for_one_another(cli: CommandLine, tmp_path: Path) -> None:
    paths = units(
        tmp_path,
        db_service="[Service]\nExecStart=/opt/db\n[Install]\nWantedBy=multi-user.target\n",
        init_service=SERVICE.format(name="init"),
        web_service="[Unit]\nAfter=db.service init.service network.target\nRequires=db.service\n"
        "[Service]\nExecStart=/opt/web\n[Install]\nWantedBy=multi-user.target\n",
    )
    text = cli("import", *paths, "--json").json["jobs_yaml"]
    assert (
        "    depends_on:\n    - {job: db, condition: after_start}\n    - {job: init, condition: after_complete}\n"
        in text
    )
    assert "depends_on" not in cli("import", paths[2], "--json").json["jobs_yaml"]


def test_what_is_true_of_all_files_is_said_once(cli: CommandLine, tmp_path: Path) -> None:
    paths = units(tmp_path, a_service=SERVICE.format(name="a"), b_service=SERVICE.format(name="b"))
    answer = cli("import", *paths)
    assert list(jobs(cli("import", *paths, "--json"))) == ["a", "b"]
    assert answer.err.count("changed: PATH of every unit: ") == 1


def test_units_named_with_one_of_a_user_are_a_users_too(cli: CommandLine, tmp_path: Path) -> None:
    own = "[Service]\nExecStart=/opt/tunnel\n[Install]\nWantedBy=default.target\n"
    service, other = units(tmp_path, sync_service="[Service]\nType=oneshot\nExecStart=%h/sync\n", tunnel_service=own)
    assert "cwd: /\n" in cli("import", service, "--json").json["jobs_yaml"]
    text = cli("import", service, other, "--json").json["jobs_yaml"]
    assert "cwd" not in text
    assert "${env:HOME}/sync" in text


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("/bin/sh -c 'cd /srv && ./run $$1'", "cmd: cd /srv && ./run $1"),
        ("/usr/bin/env python3 -m app", "cmd: [python3, -m, app]"),
        ("/usr/bin/env -i python3", "cmd: [/usr/bin/env, -i, python3]"),
        ("/opt/x --port=${PORT}", "cmd: [/opt/x, '--port=${env:PORT}']"),
        ("/opt/x --port=$PORT", "cmd: [/opt/x, --port=$PORT]"),
        ("/opt/x ${UNKNOWN}", 'cmd: exec /opt/x "${UNKNOWN}"'),
        ("/opt/x $PORT '*'", "cmd: set -f; exec /opt/x $PORT '*'"),
        (":/opt/x $PORT", "cmd: [/opt/x, $PORT]"),
        ("-/opt/x a", "cmd: |-\n      set -e\n      /opt/x a || true\n"),
    ],
)
def test_a_command_line_means_the_same(cli: CommandLine, tmp_path: Path, line: str, wanted: str) -> None:
    [path] = units(tmp_path, x_service=f"[Service]\nType=oneshot\nEnvironment=PORT=80\nExecStart={line}\n")
    assert wanted in cli("import", path, "--json").json["jobs_yaml"]


def test_a_variable_with_an_impossible_name_refuses_its_job_alone(cli: CommandLine, tmp_path: Path) -> None:
    paths = units(
        tmp_path,
        bad_service='[Service]\nType=oneshot\nEnvironment="a: \\"b\\" c=1"\nExecStart=/opt/x\n',
        good_service=SERVICE.format(name="good"),
    )
    answer = cli("import", *paths, "--json")
    assert answer.code == 1
    assert list(jobs(answer)) == ["good"]
    [refused] = [each for each in answer.json["sources"][0]["notes"] if each["fate"] == "refused"]
    assert "is not a name for an environment variable" in refused["says"]


def test_drop_ins_are_found_and_named_from_wherever_one_stands(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "system" / "app.service.d"
    folder.mkdir(parents=True)
    units(folder.parent, app_service="[Service]\nExecStart=/opt/old\n[Install]\nWantedBy=multi-user.target\n")
    (folder / "10-new.conf").write_text("[Service]\nExecStart=\nExecStart=/opt/new\nTimeoutStopSec=soon\n")
    monkeypatch.chdir(tmp_path)
    answer = cli("import", "system/app.service")
    assert answer.code == 1
    told = 'system/app.service.d/10-new.conf:4 refused: app.service: TimeoutStopSec=: "soon" is no span of time'
    assert told in answer.err.split("\n")
    (folder / "10-new.conf").write_text("[Service]\nExecStart=\nExecStart=/opt/new\n")
    assert "cmd: [/opt/new]" in cli("import", "system/app.service").out


def test_what_is_wrong_with_a_timer_is_told_where_it_stands(cli: CommandLine, tmp_path: Path) -> None:
    service, timer = units(
        tmp_path, slow_service=SERVICE.format(name="s"), slow_timer=TIMER.format(more="RandomizedDelaySec=a bit\n")
    )
    for named in (service, timer):
        assert f'{timer}:3 refused: {Path(named).name}: RandomizedDelaySec=: "a bit"' in cli("import", named).err


def test_a_template_beside_a_timer_is_filled_in(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "dump@.service").write_text("[Service]\nType=oneshot\nExecStart=/opt/dump %i\n")
    (tmp_path / "dump@main.timer").write_text(TIMER.format(more=""))
    answer = cli("import", str(tmp_path / "dump@main.timer"), "--json")
    assert "cmd: [/opt/dump, main]" in answer.json["jobs_yaml"]
    assert list(jobs(answer)) == ["dump-main"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("\"a b\" 'c d' e", ["a b", "c d", "e"]),
        ('--x="a b"c', ["--x=a bc"]),
        (r"a\x20b \tc \n \\ \" \q", ["a b", "\tc", "\n", "\\", '"', "\\q"]),
        (r"\101\u00e4", ["Aä"]),
        ("\"\" ''", ["", ""]),
        ("  ", []),
    ],
)
def test_words_are_those_systemd_sees(text: str, wanted: list[str]) -> None:
    assert systemd_units.words_of(text) == wanted


@pytest.mark.parametrize("text", ['"open', "'open", "end\\", r"\x00"])
def test_words_that_systemd_refuses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"never closed|backslash|NUL"):
        systemd_units.words_of(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90", 90),
        ("5min 20s", 320),
        ("1h30m", 5400),
        ("2.5s", 2.5),
        ("1d", 86_400),
        ("1month", 2_629_800),
        ("100ms", 0.1),
        ("infinity", systemd_units.FOREVER),
    ],
)
def test_a_span_of_time_is_read(text: str, wanted: float) -> None:
    assert systemd_units.seconds_of(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "1h x"])
def test_a_span_of_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no span of time"):
        systemd_units.seconds_of(text)


INSTALLED = "[Install]\nWantedBy=multi-user.target\n"


def told(answer: Any) -> list[str]:
    """Every note, as FATE WHAT: SAYS."""
    sources = answer.json["sources"]
    notes = [note for each in sources for part in (each, *each["jobs"]) for note in part["notes"]]
    return [f"{note['fate']} {note['what']}: {note['says']}" for note in notes]


def test_a_start_that_a_condition_prevents_is_not_tried_again(cli: CommandLine, tmp_path: Path) -> None:
    text = "[Service]\nExecCondition=/bin/false\nExecCondition=-/bin/maybe\nExecStart=/opt/x\n{}\n" + INSTALLED
    [path] = units(tmp_path, x_service=text.format("Restart=always"))
    answer = cli("import", path, "--json")
    assert "/bin/false || exit 0\n      /bin/maybe || true\n" in answer.json["jobs_yaml"]
    assert "restart: on_failure" in answer.json["jobs_yaml"]
    assert any(each.startswith("changed Restart=always: ends for good with exit code 0") for each in told(answer))
    assert any(each.startswith("changed ExecCondition=/bin/false: ") for each in told(answer))
    units(tmp_path, x_service=text.format("Restart=no"))
    answer = cli("import", path, "--json")
    assert "restart: never" in answer.json["jobs_yaml"]
    assert not any("Restart=" in each for each in told(answer))


@pytest.mark.parametrize(
    ("line", "wanted", "waits"),
    [
        ("Requires=db.service", "changed Requires=db.service: a start waits for it, but a stop of it does not", True),
        ("BindsTo=db.service x.device", "changed BindsTo=db.service: a start waits for it, but this one is not", True),
        ("Requisite=db.service", "changed Requisite=db.service: a start waits for it, and does not fail", True),
        ("Upholds=db.service", "changed Upholds=db.service: a start waits for it, but it is not kept running", True),
        ("PartOf=db.service", "dropped PartOf=db.service: is neither stopped nor started again with it", False),
        ("Conflicts=db.service", "dropped Conflicts=db.service: both can run at one time", False),
        ("Before=db.service", "dropped Before=db.service: it does not wait for this one", False),
        ("PropagatesStopTo=db.service", "dropped PropagatesStopTo=db.service: what is done to one", False),
    ],
)
def test_what_is_lost_of_a_relation_between_converted_units_is_told(
    cli: CommandLine, tmp_path: Path, line: str, wanted: str, waits: bool
) -> None:
    paths = units(
        tmp_path,
        db_service="[Service]\nExecStart=/opt/db\n" + INSTALLED,
        web_service=f"[Unit]\n{line}\n[Service]\nExecStart=/opt/web\n{INSTALLED}",
    )
    answer = cli("import", *paths, "--json")
    assert [each for each in told(answer) if each.startswith(wanted)]
    assert ("job: db, condition: after_start" in answer.json["jobs_yaml"]) is waits
    # Of units that are not converted too, only those are spoken of.
    strange = [each for each in told(answer) if "not converted with it" in each]
    assert [each.partition(":")[0] for each in strange] == (["dropped BindsTo=x.device"] if "x.device" in line else [])


def test_waiting_for_and_wanting_a_converted_unit_loses_nothing(cli: CommandLine, tmp_path: Path) -> None:
    instance = tmp_path / "db@1.service"
    instance.write_text("[Service]\nExecStart=/opt/db\n" + INSTALLED)
    text = f"[Unit]\nAfter=db@1.service\nWants=db@1.service\n[Service]\nExecStart=/opt/web\n{INSTALLED}"
    [web] = units(tmp_path, web_service=text)
    answer = cli("import", str(instance), web, "--json")
    assert (answer.code, list(jobs(answer))) == (0, ["db-1", "web"])
    assert "{job: db-1, condition: after_start}" in answer.json["jobs_yaml"]
    assert not any("db@1" in each for each in told(answer))


def test_the_service_of_a_refused_timer_is_not_said_to_be_kept(cli: CommandLine, tmp_path: Path) -> None:
    paths = units(
        tmp_path,
        nightly_service=SERVICE.format(name="n"),
        nightly_timer="[Timer]\nOnBootSec=5min\n[Install]\nWantedBy=timers.target\n",
    )
    answer = cli("import", *paths, "--json")
    assert answer.code == 1
    assert jobs(answer) == {}
    assert "refused nightly.service: is what nightly.timer starts, which is refused" in told(answer)
    assert not any(each.startswith("kept") for each in told(answer))


@pytest.mark.parametrize(("install", "is_off"), [("", True), ("[Install]\nWantedBy=timers.target\n", False)])
def test_a_timer_that_nothing_starts_is_switched_off(
    cli: CommandLine, tmp_path: Path, install: str, is_off: bool
) -> None:
    units(tmp_path, b_service=SERVICE.format(name="b"))
    [timer] = units(tmp_path, b_timer=f"[Timer]\nOnCalendar=daily\n{install}")
    answer = cli("import", timer, "--json")
    assert ("\n    enabled: false\n" in answer.json["jobs_yaml"]) is is_off
    assert any(each.startswith("changed no WantedBy=: nothing starts this timer") for each in told(answer)) is is_off


def test_a_note_stands_where_its_setting_does(cli: CommandLine, tmp_path: Path) -> None:
    lines = ["[Unit]", "StartLimitBurst=3", "[Service]", "ExecStart=/opt/x", "Restart=on-failure", "TimeoutSec=0"]
    [path] = units(tmp_path, x_service="\n".join(lines) + "\n" + INSTALLED)
    [job] = cli("import", path, "--json").json["sources"][0]["jobs"]
    places = {note["what"]: note["line"] for note in job["notes"]}
    assert places["StartLimitBurst=3"] == 2
    assert places["TimeoutSec=0"] == 6


def test_an_environment_file_that_may_be_missing_and_is_keeps_no_job_from_starting(
    cli: CommandLine, tmp_path: Path
) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_text("A=1\n")
    text = f"[Service]\nType=oneshot\nExecStart=/opt/x\nEnvironmentFile={there}\nEnvironmentFile=-{gone}\n"
    [path] = units(tmp_path, x_service=text)
    answer = cli("import", path, "--json")
    assert f"env_file: {there}\n" in answer.json["jobs_yaml"]
    left_out = "is not there and is left out; once it is, name it as env_file"
    assert [each for each in told(answer) if each.startswith("changed EnvironmentFile=-") and each.endswith(left_out)]
    gone.write_text("B=1\n")
    answer = cli("import", path, "--json")
    assert f"env_file: {gone}\n" in answer.json["jobs_yaml"]
    assert any("the file is there now" in each for each in told(answer))
    assert not any(each.endswith(left_out) for each in told(answer))
    units(tmp_path, x_service=text.replace("=-", "="))
    gone.unlink()
    assert f"env_file: {gone}\n" in cli("import", path, "--json").json["jobs_yaml"]


def test_a_misspelt_setting_is_not_taken_for_one_that_confines(cli: CommandLine, tmp_path: Path) -> None:
    text = "[Service]\nType=oneshot\nExecStart=/opt/x\nRestrictt=yes\nProtectSystem=full\nRestrictRealtime=yes\n"
    [path] = units(tmp_path, x_service=text)
    notes = told(cli("import", path, "--json"))
    assert "dropped ProtectSystem=, RestrictRealtime=: the process is not confined" in notes
    assert "dropped Restrictt=yes: has no counterpart here" in notes
