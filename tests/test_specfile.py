"""The configuration as people write it, right and wrong: what is understood, and every word of what is refused."""

import json
import os
import random
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from procclaw.model.clock import from_microseconds
from procclaw.model.document import process_hash, spec_from_document
from procclaw.model.errors import SpecError
from procclaw.model.references import as_shell_variables, references_in, replaced
from procclaw.model.shape import resolved
from procclaw.planning import expression, schedule
from procclaw.system import specfile
from procclaw.system.specfile import Loaded

SPECS = Path(__file__).parent / "data" / "specs"
SCHEMAS = ("jobs.schema.json", "procclaw.schema.json")
ONE_JOB = "jobs:\n  a:\n    cmd: x\n"


def load(home: Path | str, zone: str = "UTC") -> Loaded:
    return specfile.load(
        str(home),
        check_schedule=schedule.parse,
        lint_schedule=lambda expressions, _: [said for each in expressions for said in expression.lint(each)],
        system_timezone=zone,
    )


def written(home: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return home


def job(home: Path, *fields: str, **files: str) -> dict[str, Any]:
    """The document of job `a` with these lines for fields, beside its `cmd`."""
    text = ONE_JOB + "".join(f"    {line}\n" for line in fields)
    more = {f"{name}.yaml": content for name, content in files.items()}
    return dict(load(written(home, {"jobs.yaml": text, **more})).document["jobs"]["a"])


def problems(home: Path) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(home)
    return [problem.replace(str(home), "HOME") for problem in caught.value.problems]


@pytest.fixture(params=["the C parser", "the Python parser"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "the Python parser":
        monkeypatch.setitem(sys.modules, "yaml.cyaml", None)
    specfile._fast_loader.cache_clear()
    yield
    specfile._fast_loader.cache_clear()


# Files that are fine


def test_a_file_that_uses_every_field_loads_with_every_value_in_its_place(parser: None) -> None:
    document = load(SPECS / "every_field").document
    assert list(document["jobs"]) == ["everything", "server", "migrate", "later", "checked", "unchecked"]
    everything = document["jobs"]["everything"]
    assert everything["cmd"] == 'exec report --to "${param:WHERE}" --key "${secret:REPORT_KEY}" --lang "${env:LANG}"'
    assert everything["schedule"] == ["30 2 * * *", "@every 90s"]
    assert everything["timezone"] == "America/New_York"
    assert everything["catch_up"] == {"policy": "all", "within": 7200, "limit": 10}
    assert everything["retry"] == {"enabled": True, "delays": [0, 2.5, 60], "max_attempts": None, "reset_after": 10}
    assert everything["shutdown"] == {"grace_period": 5, "signal": 2, "leftovers": "keep"}
    assert everything["concurrency"] == {"max_instances": 3, "queue_excess": False, "queue_timeout": 20}
    assert everything["log"] == {"max_size": 3 << 19, "rotate": 2, "timestamps": True}
    assert everything["umask"] == 0o027
    assert everything["success_exit_codes"] == [0, 3]
    assert [trigger["type"] for trigger in everything["trigger"]] == ["webhook", "file"]
    assert everything["params"]["WHERE"]["default"] == "7"
    assert everything["resources"]["max_memory_mb"] == 256
    assert everything["expect"] == {"every": None, "by": "06:30"}
    assert everything["health_check"]["expected_body"] == "1"
    assert everything["source"] == "jobs.yaml:8"
    assert document["jobs"]["later"]["source"] == "jobs.d/more.yaml:2"
    later = from_microseconds(document["jobs"]["later"]["run_at"])
    assert later == datetime(2031, 5, 1, 7, 30, tzinfo=UTC)
    assert document["queues"] == {"reports": {"limit": 2}}
    assert document["workflows"]["nightly"]["callback"] == "everything"
    assert document["config"]["daemon"]["max_parallel"] == 12
    assert document["config"]["openclaw"]["alerts"]["notify_agent"] == "agent"
    assert document["config"]["openclaw"]["hooks"]["token"] == "${secret:HOOKS}"


def test_the_file_that_uses_every_field_really_does() -> None:
    raw = json.loads(json.dumps(load(SPECS / "every_field").document))
    written_text = "".join(path.read_text() for path in (SPECS / "every_field").rglob("*.yaml"))
    names = {name for shape in every_shape() for name in shape.get("properties", {})}
    assert {name for name in names if f"{name}:" not in written_text} == set()
    assert set(raw["jobs"]["everything"]) == set(raw["jobs"]["migrate"])


@pytest.mark.parametrize("path", sorted((SPECS / "shapes").glob("*.yaml")), ids=lambda path: str(path.stem))
def test_the_shapes_people_begin_with_load(path: Path, tmp_path: Path) -> None:
    files = {"jobs.yaml": "jobs: {}"} | {path.name if path.stem == "procclaw" else "jobs.yaml": path.read_text()}
    loaded = load(written(tmp_path, files))
    spec_from_document(loaded.document, loaded.content_hash)


def test_a_job_that_says_nothing_has_every_default(tmp_path: Path) -> None:
    document = job(tmp_path)
    assert document == {
        "name": "a",
        "description": "",
        "tags": [],
        "cmd": "x",
        "cwd": None,
        "env": {},
        "env_file": None,
        "user": None,
        "group": None,
        "umask": None,
        "nice": None,
        "type": "manual",
        "enabled": True,
        "schedule": [],
        "timezone": "UTC",
        "run_at": None,
        "on_overlap": "skip",
        "catch_up": {"policy": "latest", "within": 3600, "limit": 100},
        "jitter": 0,
        "timeout": None,
        "restart": "always",
        "success_exit_codes": [0],
        "retry": {"enabled": True, "delays": [0, 30, 300, 900, 3600], "max_attempts": 5, "reset_after": 60},
        "shutdown": {"grace_period": 60, "signal": 15, "leftovers": "stop"},
        "health_check": {
            "type": "process",
            "interval": 60,
            "timeout": 10,
            "start_period": 0,
            "failures": 3,
            "on_unhealthy": "restart",
            "url": None,
            "method": "GET",
            "expected_status": 200,
            "expected_body": None,
            "path": None,
            "max_age": 120,
            "host": "127.0.0.1",
            "port": None,
            "cmd": None,
        },
        "depends_on": [],
        "concurrency": {"max_instances": 1, "queue_excess": True, "queue_timeout": 300},
        "queue": None,
        "priority": "normal",
        "dedup": {"enabled": False, "window_seconds": 60, "use_params": True},
        "lock": {"enabled": False, "name": "a", "provider": "file", "path": None, "timeout_seconds": 300},
        "trigger": [],
        "params": {},
        "resources": {"max_memory_mb": None, "max_cpu_percent": None, "action": "warn", "check_interval": 30},
        "log": {"max_size": 10 << 20, "rotate": 5, "timestamps": False},
        "alerts": {
            "on_failure": False,
            "on_max_retries": True,
            "on_health_fail": True,
            "on_recovered": True,
            "on_missed": False,
            "channels": None,
            "webhook": None,
            "command": None,
        },
        "expect": None,
        "source": "jobs.yaml:2",
        "process_hash": process_hash(document),
    }


def test_without_procclaw_yaml_the_configuration_is_all_defaults(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, {"jobs.yaml": "jobs: {}"}), zone="Asia/Tokyo")
    config = loaded.document["config"]
    assert config["daemon"] == {
        "host": "127.0.0.1",
        "port": 9876,
        "log_level": "INFO",
        "resync": 60,
        "max_parallel": None,
        "pass_env": [],
    }
    assert config["timezone"] == "Asia/Tokyo"
    assert config["history"] == {"keep_runs": 100, "keep_days": 30}
    assert config["api"] == {"auth": {"enabled": False, "token": None, "metrics": "closed"}, "allowed_hosts": []}
    assert loaded.document["jobs"] == {}
    assert loaded.warnings == ()
    assert spec_from_document(loaded.document, loaded.content_hash).jobs == {}


def test_jobs_of_all_files_are_one_in_the_order_of_the_names(tmp_path: Path) -> None:
    files = {
        "jobs.yaml": "jobs: {z: {cmd: z}}",
        "jobs.d/20-b.yaml": "jobs: {b: {cmd: b}}",
        "jobs.d/10-a.yaml": "jobs: {a: {cmd: a}}",
        "jobs.d/.#10-a.yaml": "an editor's lock",
        "jobs.d/notes.txt": "not ours",
        "jobs.d/old.yml": "jobs: {old: {cmd: x}}",
    }
    loaded = load(written(tmp_path, files))
    assert list(loaded.document["jobs"]) == ["z", "a", "b"]
    assert loaded.warnings == ("jobs.d/old.yml: is not read, its name does not end in .yaml",)
    names = [os.path.relpath(path, tmp_path) for path in specfile.paths(str(tmp_path))]
    assert names == ["procclaw.yaml", "jobs.yaml", "jobs.d/10-a.yaml", "jobs.d/20-b.yaml"]


@pytest.mark.parametrize("name", ["on", "no", "123", "1e3", "null", "2024-01-31", "07", "x" * 63])
def test_an_id_that_yaml_would_take_for_something_else_stays_what_was_written(
    name: str, tmp_path: Path, parser: None
) -> None:
    document = load(written(tmp_path, {"jobs.yaml": f"jobs:\n  {name}:\n    cmd: x\n"})).document
    assert list(document["jobs"]) == [name]


def test_env_values_keep_their_spelling(tmp_path: Path, parser: None) -> None:
    values = ["1.10", "010", "0x1F", "yes", "Off", "true", "12:30", "2024-01-31", "1_000", ".5", "1e3", "+1"]
    lines = [f"  V{index}: {text}" for index, text in enumerate(values)]
    document = job(tmp_path, "env:", *lines, '  QUOTED: "007"', "  on: off", '  NONE: ""')
    assert list(document["env"].values()) == [*values, "007", "off", ""]
    assert document["env"]["on"] == "off"


def test_text_fields_take_numbers_and_truth_as_text(tmp_path: Path) -> None:
    document = job(tmp_path, "name: 7", "tags: [1.0, on]", "umask: 022", "user: 0", "depends_on: [12]")
    assert (document["name"], document["tags"], document["umask"], document["user"]) == ("7", ["1.0", "on"], 0o22, "0")
    assert document["depends_on"] == [{"job": "12", "condition": "after_start", "timeout": None}]
    text = "jobs: {a: {cmd: [sleep, 5, yes, 1.50]}}"
    assert load(written(tmp_path, {"jobs.yaml": text})).document["jobs"]["a"]["cmd"] == ["sleep", "5", "yes", "1.50"]


@pytest.mark.parametrize(
    ("written_as", "bytes_"),
    [("10MB", 10 << 20), ("512K", 512 << 10), ("1.5 GiB", 3 << 29), ("2m", 2 << 20), ("4096", 4096), ("100B", 100)],
)
def test_sizes_are_in_bytes_with_units_of_1024(written_as: str, bytes_: int, tmp_path: Path) -> None:
    assert job(tmp_path, f"log: {{max_size: {written_as}}}")["log"]["max_size"] == bytes_


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("TERM", 15), ("HUP", 1), ("SIGINT", 2), ("KILL", 9)])
def test_signals_are_numbers_with_or_without_sig(name: str, number: int, tmp_path: Path) -> None:
    assert job(tmp_path, f"shutdown: {{signal: {name}}}")["shutdown"]["signal"] == number


@pytest.mark.parametrize(
    ("fields", "delays", "max_attempts"),
    [
        ("preset: webhook", [0, 30, 300, 900, 3600], 5),
        ("preset: exponential", [1, 2, 4, 8, 16, 32, 64, 128, 256, 300], 5),
        ("preset: fixed, max_attempts: 0", [30], 0),
        ("preset: fixed, delays: [1, 2.5]", [1, 2.5], 5),
        ("max_attempts: unlimited", [0, 30, 300, 900, 3600], None),
        ("max_attempts: 3.0", [0, 30, 300, 900, 3600], 3),
    ],
)
def test_retry_is_resolved_to_delays(
    fields: str, delays: list[float], max_attempts: int | None, tmp_path: Path
) -> None:
    retry = job(tmp_path, f"retry: {{{fields}}}")["retry"]
    assert (retry["delays"], retry["max_attempts"]) == (delays, max_attempts)
    assert max_attempts is None or type(retry["max_attempts"]) is int


@pytest.mark.parametrize(
    ("run_at", "zone", "moment"),
    [
        ("2031-07-01 09:30", "Europe/Berlin", datetime(2031, 7, 1, 7, 30, tzinfo=UTC)),
        ("2031-07-01T09:30:15Z", "Europe/Berlin", datetime(2031, 7, 1, 9, 30, 15, tzinfo=UTC)),
        ("2031-07-01T09:30+05:00", "UTC", datetime(2031, 7, 1, 4, 30, tzinfo=UTC)),
        ("2031-07-01", "America/New_York", datetime(2031, 7, 1, 4, tzinfo=UTC)),
    ],
)
def test_run_at_is_a_moment_and_without_an_offset_in_the_zone_of_the_job(
    run_at: str, zone: str, moment: datetime, tmp_path: Path
) -> None:
    document = job(tmp_path, "type: oneshot", f"run_at: {run_at}", f"timezone: {zone}")
    assert from_microseconds(document["run_at"]) == moment


def test_a_run_at_that_the_clocks_skip_is_warned_of(tmp_path: Path) -> None:
    text = ONE_JOB + "    type: oneshot\n    run_at: 2030-03-31T02:30\n    timezone: Europe/Berlin\n"
    loaded = load(written(tmp_path, {"jobs.yaml": text}))
    said = "jobs.yaml:5 jobs.a.run_at: the clocks of Europe/Berlin skip this time; it is taken as 03:30"
    assert loaded.warnings == (said,)


def test_schedules_are_linted(tmp_path: Path) -> None:
    text = ONE_JOB + '    type: scheduled\n    schedule: ["@hourly", "* 3 * * *"]\n'
    warnings = load(written(tmp_path, {"jobs.yaml": text})).warnings
    said = expression.lint("* 3 * * *")
    assert said
    assert warnings == tuple(f"jobs.yaml:5 jobs.a.schedule[1]: {each}" for each in said)


def test_anchors_aliases_and_merge_keys_work(tmp_path: Path, parser: None) -> None:
    text = """\
x-shared: &shared
  env: &env {A: 1, B: 2}
  timeout: 5
x-more: &more
  timeout: 9
  cwd: /tmp
jobs:
  one:
    <<: [*shared, *more]
    cmd: &cmd echo one
  two:
    <<: *shared
    cmd: *cmd
    timeout: 7
    env:
      <<: *env
      B: 3
"""
    jobs = load(written(tmp_path, {"jobs.yaml": text})).document["jobs"]
    one, two = jobs["one"], jobs["two"]
    assert (one["timeout"], one["cwd"], one["env"]) == (5, "/tmp", {"A": "1", "B": "2"})
    assert (two["timeout"], two["cmd"], two["env"]) == (7, "echo one", {"A": "1", "B": "3"})


@pytest.mark.parametrize(
    "start", ["\ufeff", "# yaml-language-server: $schema=jobs.json\n$schema: jobs.json\n", "---\n"]
)
def test_what_editors_put_at_the_start_does_no_harm(start: str, tmp_path: Path, parser: None) -> None:
    assert list(load(written(tmp_path, {"jobs.yaml": start + ONE_JOB})).document["jobs"]) == ["a"]


def test_json_is_read_too(tmp_path: Path, parser: None) -> None:
    text = json.dumps({"jobs": {"a": {"cmd": ["x", "é\t"], "timeout": 5}}}, indent=2)
    document = load(written(tmp_path, {"jobs.yaml": text})).document
    assert document["jobs"]["a"]["cmd"] == ["x", "é\t"]


def test_references_that_are_well_formed_or_the_shells_own_are_left_alone(tmp_path: Path) -> None:
    cmd = "echo ${HOME:-x} ${env:-y} ${param:0:3} ${env:LANG} $${secret:} $$ ${path:1}"
    document = job(tmp_path, "env:", "  A: $${anything:goes}", "  B: a${env:HOME}b$HOME${HOME}")
    assert document["env"] == {"A": "$${anything:goes}", "B": "a${env:HOME}b$HOME${HOME}"}
    text = f"jobs:\n  a:\n    cmd: {json.dumps(cmd)}\n"
    assert load(written(tmp_path, {"jobs.yaml": text})).document["jobs"]["a"]["cmd"] == cmd


REFERENCES = "a ${secret:A.b} ${env:X}${param:P} $${env:Y} ${env:-x} ${secret:} $$${env:Z} ${env:W"


def test_references_are_found_and_replaced_and_nothing_else_is() -> None:
    found = [(reference.kind, reference.name) for reference in references_in(REFERENCES)]
    assert found == [("secret", "A.b"), ("env", "X"), ("param", "P")]
    told = replaced(REFERENCES, lambda reference: f"<${{env:{reference.name}}}>")
    assert told == "a <${env:A.b}> <${env:X}><${env:P}> ${env:Y} ${env:-x} ${secret:} $${env:Z} ${env:W"


def test_references_in_a_shell_command_become_variables_that_no_two_share() -> None:
    names = ["secret:A.b", "secret:A_b", "secret:A-b", "secret:412e62", "secret:X_412e62", "env:A_b", "param:A_b"]
    references = [next(references_in(f"${{{name}}}")) for name in names]
    assert len({reference.variable for reference in references}) == len(names)
    assert all(reference.variable.isidentifier() for reference in references)
    command = as_shell_variables('x "${secret:A.b}" ${param:P} $${env:Y} ${Y:-z}')
    assert command == f'x "${{{references[0].variable}}}" ${{PROCCLAW_PARAM_P}} ${{env:Y}} ${{Y:-z}}'


# Defaults


def test_defaults_merge_key_by_key_and_everything_else_replaces(tmp_path: Path) -> None:
    defaults = """\
defaults:
  env: {A: default, B: default}
  tags: [one]
  cwd: /srv
  timeout: 10
  retry: {preset: fixed, max_attempts: 2}
  shutdown: {grace_period: 5}
  params: {P: {default: "1", description: Known}}
timezone: Europe/Berlin
"""
    document = job(
        tmp_path,
        "env: {B: own, C: own}",
        "tags: [two]",
        "timeout: null",
        "retry: {max_attempts: 9}",
        "params: {P: {default: '2'}}",
        procclaw=defaults,
    )
    assert document["env"] == {"A": "default", "B": "own", "C": "own"}
    assert document["tags"] == ["two"]
    assert document["cwd"] == "/srv"
    assert document["timeout"] is None
    assert document["retry"]["delays"] == [30]
    assert document["retry"]["max_attempts"] == 9
    assert document["shutdown"] == {"grace_period": 5, "signal": 15, "leftovers": "stop"}
    assert document["params"]["P"] == {"default": "2", "description": "Known", "required": False, "pattern": None}
    assert document["timezone"] == "Europe/Berlin"


def test_another_type_of_check_or_trigger_discards_what_the_default_says_of_its_own(tmp_path: Path) -> None:
    defaults = """\
defaults:
  health_check: {type: http, url: "http://h/", interval: 5}
  trigger: {enabled: false, type: file, watch_path: /in}
"""
    other = job(tmp_path, "health_check: {type: tcp, port: 1}", "trigger: {type: webhook}", procclaw=defaults)
    assert (other["health_check"]["url"], other["health_check"]["interval"]) == (None, 60)
    assert other["trigger"][0]["enabled"] is True
    assert other["trigger"][0]["watch_path"] is None
    same = job(tmp_path, "health_check: {type: http, interval: 7}", "trigger: {watch_path: /on}", procclaw=defaults)
    assert (same["health_check"]["url"], same["health_check"]["interval"]) == ("http://h/", 7)
    assert (same["trigger"][0]["type"], same["trigger"][0]["enabled"]) == ("file", False)


def test_delays_of_the_defaults_beat_a_preset_and_say_so(tmp_path: Path) -> None:
    files = {"procclaw.yaml": "defaults: {retry: {delays: [7]}}", "jobs.yaml": ONE_JOB + "    retry: {preset: fixed}\n"}
    loaded = load(written(tmp_path, files))
    assert loaded.document["jobs"]["a"]["retry"]["delays"] == [7]
    assert loaded.warnings == ("jobs.yaml:4 jobs.a.retry.preset: has no effect: delays, from the defaults, beat it",)


def test_a_default_that_does_not_fit_the_type_of_a_job_is_ignored(tmp_path: Path) -> None:
    defaults = """\
defaults:
  schedule: "@hourly"
  run_at: 2031-01-01
  restart: never
  expect: {every: 60}
  concurrency: {max_instances: 4, queue_timeout: 1}
  depends_on: [base]
"""
    jobs = """\
jobs:
  base: {cmd: x, type: continuous}
  plain: {cmd: x}
  timed: {cmd: x, type: scheduled}
  once: {cmd: x, type: oneshot}
"""
    document = load(written(tmp_path, {"procclaw.yaml": defaults, "jobs.yaml": jobs})).document["jobs"]
    base, plain, timed, once = (document[name] for name in ("base", "plain", "timed", "once"))
    assert [each["schedule"] for each in (base, plain, timed, once)] == [[], [], ["@hourly"], []]
    assert [each["run_at"] is None for each in (base, plain, timed, once)] == [True, True, True, False]
    assert [each["restart"] for each in (base, plain)] == ["never", "always"]
    assert [each["expect"] is None for each in (base, plain)] == [True, False]
    assert [each["concurrency"]["max_instances"] for each in (base, plain)] == [1, 4]
    assert base["concurrency"]["queue_timeout"] == 1
    assert [len(each["depends_on"]) for each in (base, plain)] == [0, 1]


def test_another_expectation_replaces_that_of_the_defaults(tmp_path: Path) -> None:
    document = job(tmp_path, "expect: {by: 7:05}", procclaw="defaults: {expect: {every: 60}}")
    assert document["expect"] == {"every": None, "by": "07:05"}


# What is of no use


@pytest.mark.parametrize(
    ("field", "key", "complaint"),
    [
        (
            "health_check: {url: 'http://h/'}",
            "health_check.url",
            'a check of type process; set "type: http" or remove it',
        ),
        (
            "health_check: {type: process, port: 80}",
            "health_check.port",
            'a check of type process; set "type: tcp" or remove it',
        ),
        (
            "health_check: {path: /x, interval: 5}",
            "health_check.path",
            'a check of type process; set "type: file" or remove it',
        ),
        ("health_check: {cmd: x}", "health_check.cmd", 'a check of type process; set "type: exec" or remove it'),
    ],
)
def test_what_a_process_check_does_not_look_at_is_warned_of(
    tmp_path: Path, field: str, key: str, complaint: str
) -> None:
    loaded = load(written(tmp_path, {"jobs.yaml": ONE_JOB + f"    {field}\n"}))
    assert loaded.warnings == (f"jobs.yaml:4 jobs.a.{key}: has no effect on {complaint}",)


def test_a_check_that_was_switched_off_may_keep_what_it_looked_at(tmp_path: Path) -> None:
    loaded = load(written(tmp_path, {"jobs.yaml": ONE_JOB + "    health_check: {type: none, url: 'http://h/'}\n"}))
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("resources", "warnings"),
    [
        ("{action: kill}", ("has no effect: there is neither max_memory_mb nor max_cpu_percent",)),
        ("{action: kill, max_cpu_percent: 90}", ()),
        ("{check_interval: 5}", ()),
    ],
)
def test_what_follows_when_no_limit_is_passed_is_warned_of(
    tmp_path: Path, resources: str, warnings: tuple[str, ...]
) -> None:
    loaded = load(written(tmp_path, {"jobs.yaml": ONE_JOB + f"    resources: {resources}\n"}))
    assert loaded.warnings == tuple(f"jobs.yaml:4 jobs.a.resources.action: {warning}" for warning in warnings)


@pytest.mark.parametrize(
    ("field", "warns"),
    [
        ("lock: {name: disk}", True),
        ("dedup: {window_seconds: 9}", True),
        ("lock: {enabled: true, name: disk}", False),
        ("lock: {enabled: false, name: disk}", False),
        ("dedup: {}", False),
    ],
)
def test_what_is_written_out_and_not_switched_on_is_warned_of(tmp_path: Path, field: str, warns: bool) -> None:
    loaded = load(written(tmp_path, {"jobs.yaml": ONE_JOB + f"    {field}\n"}))
    warning = f'jobs.yaml:4 jobs.a.{field.split(":")[0]}: has no effect; add "enabled: true" or remove it'
    assert loaded.warnings == ((warning,) if warns else ())


def test_what_the_defaults_switch_on_needs_no_more_than_its_name(tmp_path: Path) -> None:
    files = {"procclaw.yaml": "defaults: {lock: {enabled: true}}\n", "jobs.yaml": ONE_JOB + "    lock: {name: disk}\n"}
    assert load(written(tmp_path, files)).warnings == ()


# Files that are wrong: what stands in them, and every word that is said of it

MISSING = '"procclaw init" makes one, "jobs: {}" in it declares none'


def refusal(expression: str, zone: str = "UTC") -> str:
    """What the scheduler itself says of an expression or a zone."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # whatever it says is what is wanted
        schedule.parse((expression,), zone)
    return str(caught.value)


NO_ZONE = refusal("@hourly", "Mars/X")
ID = 'an id: a letter or digit, then up to 62 letters, digits, "_" or "-"'

WRONG_YAML: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ['jobs.yaml: is empty; "jobs: {}" declares no jobs']),
    "comments only": ("# jobs:\n", ['jobs.yaml: is empty; "jobs: {}" declares no jobs']),
    "jobs without a value": ("jobs:\n", ["jobs.yaml:1 jobs: a mapping is needed, got nothing"]),
    "a list": ("- a\n", ['jobs.yaml:1: a mapping with the key "jobs" is needed, got a list']),
    "a sentence": ("hello", ['jobs.yaml:1: a mapping with the key "jobs" is needed, got "hello"']),
    "no jobs": ("queues: {}\n", ["jobs.yaml:1 jobs: is missing"]),
    "unknown section": (
        "job: {}\njobs: {}\n",
        ['jobs.yaml:1 job: is not a known key; did you mean "jobs"?'],
    ),
    "tab as indentation": (
        "jobs:\n  a:\n\tcmd: x\n",
        ["jobs.yaml:3: a tab cannot indent or separate here; use spaces"],
    ),
    "at sign": (
        "jobs:\n  a:\n    cmd: x\n    schedule: @daily\n",
        ['jobs.yaml:4: unquoted text cannot begin with "@"; put it in quotes'],
    ),
    "colon in unquoted text": (
        "jobs:\n  a:\n    cmd: echo a: b\n",
        ['jobs.yaml:3: ": " is not expected here; put the text in quotes or mend the indentation'],
    ),
    "open list": (
        "jobs:\n  a:\n    cmd: [a, b\n  b: {}\n",
        ["jobs.yaml:4: a list in [ ] or a mapping in { } is not closed, or lacks a comma"],
    ),
    "open quote": (
        "jobs:\n  a:\n    cmd: 'abc\n  b: 3\n",
        ["jobs.yaml:3: a quote is opened here and never closed"],
    ),
    "indented less": (
        "jobs:\n  a:\n    cmd: x\n   cwd: y\n",
        ["jobs.yaml:4: the indentation does not fit the lines above"],
    ),
    "two documents": ("a\n---\n", ["jobs.yaml:2: a second document begins here; a file holds one"]),
    "two texts": ("'a' 'b'\n", ["jobs.yaml:1: the file goes on where its one value has ended"]),
    "not UTF-8": (b"jobs:\n  a:\n    cmd: \xff\n", ["jobs.yaml:3: byte 0xff is not UTF-8 text"]),
    "UTF-16": ("jobs: {}".encode("utf-16"), ["jobs.yaml:1: byte 0xff is not UTF-8 text"]),
    "control character": (b"jobs:\n  a: \x01\n", ["jobs.yaml:2: the character U+0001 is not allowed in YAML"]),
    "NUL": (b"jobs: {}\n\0\0\0", ["jobs.yaml:2: the character U+0000 is not allowed in YAML"]),
    "escaped NUL": (
        'jobs:\n  a:\n    cmd: "a\\0b"\n',
        ["jobs.yaml:3 jobs.a.cmd: holds a NUL character, which no process can be given"],
    ),
    "half a character": (
        'jobs:\n  a:\n    cmd: "\\ud800"\n',
        ["jobs.yaml:3 jobs.a.cmd: holds half of a character (a lone surrogate)"],
    ),
    "key twice": (
        "jobs:\n  a:\n    cmd: x\n    cmd: y\n  a: {cmd: z}\n",
        [
            "jobs.yaml:4 jobs.a.cmd: is given twice, first on line 3",
            "jobs.yaml:5 jobs.a: is given twice, first on line 2",
        ],
    ),
    "key that is a list": ("jobs:\n  [a]: {cmd: x}\n", ['jobs.yaml:2 jobs."?": a key must be text']),
    "unknown alias": ("jobs:\n  a: *b\n", ["jobs.yaml:2 jobs.a: *b names no anchor above it"]),
    "alias of itself": ("jobs: &j {a: *j}\n", ["jobs.yaml:1 jobs.a: *j names no anchor above it"]),
    "merged text": ("jobs: {<<: x}\n", ['jobs.yaml:1 jobs."<<": takes from mappings only']),
    "tag": ("jobs: {a: {cmd: !shell ls}}\n", ["jobs.yaml:1 jobs.a.cmd: the tag !shell is not understood"]),
    "python tag": (
        "jobs: {a: {cmd: !!python/name:os.system ''}}\n",
        ["jobs.yaml:1 jobs.a.cmd: the tag !!python/name:os.system is not understood"],
    ),
    "deep lists": ("jobs: " + "[" * 100_000, ["jobs.yaml:1: is nested more than 64 levels deep"]),
    "deep keys": ("? " * 50_000, ["jobs.yaml:1: is nested more than 64 levels deep"]),
}


@pytest.mark.parametrize(("content", "said"), WRONG_YAML.values(), ids=WRONG_YAML.keys())
def test_bad_yaml_is_refused_with_line_and_reason(
    content: str | bytes, said: list[str], tmp_path: Path, parser: None
) -> None:
    assert problems(written(tmp_path, {"jobs.yaml": content})) == said


@pytest.mark.parametrize("how", ["lists", "merges"])
def test_aliases_that_multiply_beyond_reason_are_refused_at_once(how: str, tmp_path: Path, parser: None) -> None:
    names = "abcdefghij"
    if how == "lists":
        text = "x-a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
        text += "".join(f"x-{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(names))
    else:
        text = "x-a: &a {" + ", ".join(f"k{index}: v" for index in range(5000)) + "}\n"
        text += "".join(f"x-m{index}: {{<<: *a}}\n" for index in range(500))
    (problem,) = problems(written(tmp_path, {"jobs.yaml": text + "jobs: {}\n"}))
    assert problem.endswith(": aliases multiply this file beyond reason")


WRONG_FIELDS: dict[str, tuple[str, list[str]]] = {
    "restart: alway": ("type: continuous", ['restart: "alway" is not one of always, on_failure, never']),
    "timeout: soon": ("", ['timeout: a number of seconds is needed, got "soon"']),
    'timeout: "60"': ("", ['timeout: a number of seconds is needed, got "60"; write it without quotes']),
    "timeout: 1:30": ("", ['timeout: a number of seconds is needed, got "1:30"']),
    "timeout: 010": ("", ['timeout: a number of seconds is needed, got "010"']),
    "timeout: .inf": ("", ['timeout: a number of seconds is needed, got ".inf"']),
    "timeout: yes": ("", ['timeout: a number of seconds is needed, got "yes"']),
    "timeout: 0": ("", ["timeout: 0 is below 0.001"]),
    "timeout: 1e99": ("", ["timeout: 1e+99 is above 3153600000"]),
    "timeout: [1]": ("", ["timeout: a number of seconds is needed, got a list"]),
    "jitter: -1": ("", ["jitter: -1 is below 0"]),
    "enabled: maybe": ("", ['enabled: true or false is needed, got "maybe"']),
    "tags: web": ("", ['tags: a list of text is needed, got "web"']),
    "tags: [{}]": ("", ["tags[0]: text is needed, got a mapping"]),
    "name:": ("", ["name: text is needed, got nothing"]),
    "shedule: x": ("", ['shedule: is not a known key; did you mean "schedule"?']),
    "depends-on: []": ("", ['depends-on: is not a known key; did you mean "depends_on"?']),
    "command: x": ("", ['command: is not a known key; did you mean "cmd"?']),
    "environment: {}": ("", ['environment: is not a known key; did you mean "env"?']),
    "zzz: 1": ("", ["zzz: is not a known key"]),
    "retry: {max_attempt: 3}": ("", ['retry.max_attempt: is not a known key; did you mean "max_attempts"?']),
    "retry: {max_attempts: many}": ("", ['retry.max_attempts: "many" is not a whole number or unlimited']),
    "retry: {max_attempts: 1.5}": ("", ["retry.max_attempts: a whole number or unlimited is needed, got 1.5"]),
    "retry: {delays: [0, x]}": ("", ['retry.delays[1]: a number of seconds is needed, got "x"']),
    "retry: {delays: []}": ("", ["retry.delays: must not be empty"]),
    "success_exit_codes: [256]": ("", ["success_exit_codes[0]: 256 is above 255"]),
    "success_exit_codes: [x]": ("", ['success_exit_codes[0]: an exit code is needed, got "x"']),
    "umask: 089": ("", ['umask: "089" is not an octal umask such as 022']),
    "nice: 20": ("", ["nice: 20 is above 19"]),
    "env: [A=b]": ("", ["env: a mapping of names to text is needed, got a list"]),
    "env: {A: }": ("", ['env.A: text ("" for none) is needed, got nothing']),
    "env: {A B: c}": ("", ['env."A B": "A B" is not a name for an environment variable']),
    "env: {A: [b]}": ("", ['env.A: text ("" for none) is needed, got a list']),
    "log: {max_size: big}": ("", ['log.max_size: "big" is not a size such as 10MB']),
    "log: {max_size: 0KB}": ("", ['log.max_size: "0KB" is below 1 byte']),
    "shutdown: {signal: STOP}": (
        "",
        [
            'shutdown.signal: "STOP" is not one of TERM, INT, QUIT, HUP, USR1, USR2, ALRM, WINCH, KILL, '
            "with or without SIG"
        ],
    ),
    "concurrency: {max_instances: 0}": ("", ["concurrency.max_instances: 0 is below 1"]),
    "concurrency: {max_instances: 2}": (
        "type: continuous",
        ["concurrency.max_instances: a continuous job has one process"],
    ),
    "restart: never": (
        "",
        ['restart: belongs to type continuous and this job is manual; set "type: continuous" or remove it'],
    ),
    'schedule: "@daily"': (
        "",
        ['schedule: belongs to type scheduled and this job is manual; set "type: scheduled" or remove it'],
    ),
    "run_at: 2031-01-01": (
        "type: continuous",
        ['run_at: belongs to type oneshot and this job is continuous; set "type: oneshot" or remove it'],
    ),
    "run_at: tomorrow": ("type: oneshot", ['run_at: "tomorrow" is not a date and time such as 2030-01-31T09:30']),
    "expect: {every: 5}": (
        "type: continuous",
        ["expect: is not for a continuous job, which never succeeds; use health_check"],
    ),
    "expect: {}": ("", ["expect: needs either every or by"]),
    "expect: {every: 5, by: 6:00}": ("", ["expect: needs either every or by"]),
    "expect: {by: 25:00}": ("", ['expect.by: "25:00" is not a time of day such as 06:30']),
    "timezone: Mars/X": (
        "",
        [f"timezone: {NO_ZONE}"],
    ),
    "health_check: {type: http}": ("", ["health_check.url: is missing; a check of type http needs it"]),
    "health_check: {type: tcp}": ("", ["health_check.port: is missing; a check of type tcp needs it"]),
    "health_check: {type: file}": ("", ["health_check.path: is missing; a check of type file needs it"]),
    "health_check: {type: exec}": ("", ["health_check.cmd: is missing; a check of type exec needs it"]),
    'health_check: {type: http, url: "localhost:80"}': (
        "",
        ['health_check.url: "localhost:80" is not a URL such as http://127.0.0.1:8000/health'],
    ),
    'health_check: {type: http, url: "http://h:99999/"}': (
        "",
        ['health_check.url: "http://h:99999/" is not a URL such as http://127.0.0.1:8000/health'],
    ),
    "health_check: {type: tcp, port: 70000}": ("", ["health_check.port: 70000 is above 65535"]),
    "health_check: {type: tcp, port: 80, host: a/b}": (
        "",
        ['health_check.host: "a/b" is not a host name or address'],
    ),
    "trigger: {type: file}": ("", ["trigger.watch_path: is missing; a trigger of type file needs it"]),
    "trigger: [{type: webhook}, {type: file}]": (
        "",
        ["trigger[1].watch_path: is missing; a trigger of type file needs it"],
    ),
    "trigger: [{auth_token: '${secrets:A}'}]": (
        "",
        ['trigger[0].auth_token: "${secrets:A}" is not ${secret:NAME}; write $${ where ${ itself is meant'],
    ),
    "trigger: {hmac_secret: 'x${env:A}'}": (
        "",
        ["trigger.hmac_secret: ${env:A} has no meaning here; only ${secret:NAME} has"],
    ),
    "params: {1a: {}}": (
        "",
        ['params.1a: "1a" is not a name for a param: letters, digits and "_", not first a digit'],
    ),
    "params: {A: {pattern: '('}}": (
        "",
        [
            "params.A.pattern: is not a regular expression: missing ), unterminated subpattern at position 0",
        ],
    ),
    "params: {A: {pattern: '[0-9]+', default: x}}": ("", ['params.A.default: "x" does not match "[0-9]+"']),
    "env: {A: '${secret:}'}": (
        "",
        ['env.A: "${secret:}" is not ${secret:NAME}; write $${ where ${ itself is meant'],
    ),
    "env: {A: 'x ${secret:B'}": (
        "",
        ['env.A: "${secret:B" is not ${secret:NAME}; write $${ where ${ itself is meant'],
    ),
    "env: {A: '${HOME:-x}'}": (
        "",
        [
            'env.A: "${HOME:-x}" is not ${secret:NAME} or ${env:NAME} or ${param:NAME}; '
            "write $${ where ${ itself is meant"
        ],
    ),
    "env: {A: '${param:P}'}": ("", ['env.A: ${param:P}: job "a" declares no param of that name']),
    "depends_on: a": (
        "",
        ['depends_on: a list of job ids or of mappings with job, condition, timeout is needed, got "a"'],
    ),
    "depends_on: [{condition: after_start}]": ("", ["depends_on[0].job: is missing"]),
    "depends_on: [{job: b, condition: before}]": (
        "",
        ['depends_on[0].condition: "before" is not one of after_start, after_healthy, after_complete, before_complete'],
    ),
    "depends_on: [a]": ("", ["depends_on: waits for itself"]),
    "queue: a b": ("", [f'queue: "a b" is not {ID}']),
    "alerts: {webhook: nowhere}": (
        "",
        ['alerts.webhook: "nowhere" is not a URL such as http://127.0.0.1:8000/health'],
    ),
    # What a terminal would obey, and what would end the line in a log.
    'restart: "\\x9b31m\\u2028x"': (
        "type: continuous",
        ['restart: "\\u009b31m\\u2028x" is not one of always, on_failure, never'],
    ),
    'tags: "\\x9b31m"': ("", ['tags: a list of text is needed, got "\\u009b31m"']),
    'timezone: "\\u202eCTU"': (
        "",
        ['timezone: "\\u202eCTU" is not a time zone known here; names look like "Europe/Berlin" or "UTC"'],
    ),
    # What may be a secret, also where it does not belong.
    "auth_token: s3cret": ("", ["auth_token: is not a known key"]),
    "trigger: token:s3cret": ("", ['trigger: a trigger or a list of them is needed, got "token:****"']),
    "env: TOKEN=s3cret": ("", ['env: a mapping of names to text is needed, got "TOKEN=****"']),
    "params: {API_KEY: {default: s3cret, pattern: x}}": ("", ['params.API_KEY.default: "****" does not match "x"']),
    "alerts: {webhook: 'htp://hooks.example/s3cret'}": (
        "",
        ['alerts.webhook: "htp://hooks.example/****" is not a URL such as http://127.0.0.1:8000/health'],
    ),
}


@pytest.mark.parametrize(("field", "other", "said"), [(k, *v) for k, v in WRONG_FIELDS.items()], ids=WRONG_FIELDS)
def test_a_wrong_field_is_refused_with_its_line_and_place(
    field: str, other: str, said: list[str], tmp_path: Path
) -> None:
    text = ONE_JOB + (f"    {other}\n" if other else "") + f"    {field}\n"
    line = text.count("\n")
    assert problems(written(tmp_path, {"jobs.yaml": text})) == [f"jobs.yaml:{line} jobs.a.{each}" for each in said]


WRONG_HOMES: dict[str, tuple[dict[str, str | bytes], list[str]]] = {
    "nothing at all": ({}, [f"jobs.yaml: there is no such file in HOME; {MISSING}"]),
    "another suffix": (
        {"jobs.yml": "jobs: {}"},
        ['jobs.yaml: there is no such file in HOME; rename "jobs.yml"'],
    ),
    "an empty procclaw.yaml": (
        {"procclaw.yaml": "\n", "jobs.yaml": "jobs: {}"},
        ["procclaw.yaml: is empty; delete it or write {}"],
    ),
    "an empty file in the folder": (
        {"jobs.yaml": "jobs: {}", "jobs.d/a.yaml": ""},
        ['jobs.d/a.yaml: is empty; "jobs: {}" declares no jobs'],
    ),
    "one id in two files": (
        {
            "jobs.yaml": "jobs:\n  report: {cmd: x}\n  Other: {cmd: x}\n",
            "jobs.d/a.yaml": "jobs:\n  Report: {cmd: y}\n  Other: {cmd: y}\n",
        },
        [
            'jobs.d/a.yaml:2 jobs.Report: is declared already, at jobs.yaml:2 as "report"',
            "jobs.d/a.yaml:3 jobs.Other: is declared already, at jobs.yaml:3",
        ],
    ),
    "ids": (
        {"jobs.yaml": f"jobs:\n  c d: {{cmd: x}}\n  Daemon: {{cmd: x}}\n  -a: {{cmd: x}}\n  {'e' * 64}: {{cmd: x}}\n"},
        [
            f'jobs.yaml:2 jobs."c d": "c d" is not {ID}',
            'jobs.yaml:3 jobs.Daemon: a job cannot be named "daemon"; the daemon\'s own logs have that name',
            f'jobs.yaml:4 jobs.-a: "-a" is not {ID}',
            f'jobs.yaml:5 jobs.{"e" * 64}: "{"e" * 60}…" is not {ID}',
        ],
    ),
    "jobs that are no mappings": (
        {"jobs.yaml": "jobs:\n  a: sleep 5\n  b:\n  c: {}\n"},
        [
            'jobs.yaml:2 jobs.a: a mapping of fields is needed, got "sleep 5"',
            "jobs.yaml:3 jobs.b: a mapping of fields is needed, got nothing",
            "jobs.yaml:4 jobs.c.cmd: is missing",
        ],
    ),
    "commands": (
        {"jobs.yaml": "jobs:\n  a: {cmd: ' '}\n  b: {cmd: []}\n  c: {cmd: {}}\n  d: {cmd: [[]]}\n"},
        [
            'jobs.yaml:2 jobs.a.cmd: " " is not a command (text, or a list of arguments)',
            "jobs.yaml:3 jobs.b.cmd: must not be empty",
            "jobs.yaml:4 jobs.c.cmd: a command (text, or a list of arguments) is needed, got a mapping",
            "jobs.yaml:5 jobs.d.cmd[0]: text is needed, got a list",
        ],
    ),
    "secrets in a list": (
        {"jobs.yaml": "jobs:\n  a:\n    cmd:\n      - login\n      - --key=${secret:K}\n"},
        [
            "jobs.yaml:5 jobs.a.cmd[1]: a secret in a list would be seen by everyone who looks at the processes; "
            "put it into env, or write the command as text"
        ],
    ),
    "references in a command": (
        {"jobs.yaml": "jobs:\n  a:\n    cmd: echo ${secret:a b} ${Env:X} ${other:x} ${param:P}\n"},
        [
            'jobs.yaml:3 jobs.a.cmd: "${secret:a b}" is not ${secret:NAME}; write $${ where ${ itself is meant',
            'jobs.yaml:3 jobs.a.cmd: "${Env:X}" is not ${env:NAME}; write $${ where ${ itself is meant',
            'jobs.yaml:3 jobs.a.cmd: ${param:P}: job "a" declares no param of that name',
        ],
    ),
    "types without what they need": (
        {"jobs.yaml": "jobs:\n  a: {cmd: x, type: scheduled}\n  b: {cmd: x, type: oneshot}\n"},
        [
            "jobs.yaml:2 jobs.a.schedule: is missing; a scheduled job needs it",
            "jobs.yaml:3 jobs.b.run_at: is missing; a oneshot job needs it",
        ],
    ),
    "schedules": (
        {
            "jobs.yaml": ONE_JOB + '    type: scheduled\n    schedule:\n      - "@hourly"\n      - 0 0 31 2 *\n'
            "      - 5 4 * *\n    timezone: Europe/Berln\n"
        },
        [
            f"jobs.yaml:7 jobs.a.schedule[1]: {refusal('0 0 31 2 *')}",
            f"jobs.yaml:8 jobs.a.schedule[2]: {refusal('5 4 * *')}",
            f"jobs.yaml:9 jobs.a.timezone: {refusal('@hourly', 'Europe/Berln')}",
        ],
    ),
    "cycles": (
        {
            "jobs.yaml": "jobs:\n  a: {cmd: x, depends_on: [b]}\n  b: {cmd: x, depends_on: [{job: c}]}\n"
            "  c: {cmd: x, depends_on: [{job: a, condition: after_healthy}]}\n"
            "  d: {cmd: x, depends_on: [{job: e, condition: before_complete}, e]}\n  e: {cmd: x}\n"
        },
        [
            "jobs.yaml:2 jobs.a.depends_on: these wait for each other for ever: a -> b -> c -> a",
            "jobs.yaml:5 jobs.d.depends_on: these wait for each other for ever: d -> e -> d",
        ],
    ),
    "a workflow that would never end": (
        {
            "jobs.yaml": "jobs:\n  a: {cmd: x, type: continuous}\nworkflows:\n"
            "  w: {type: chord, jobs: [a], callback: a}\n"
        },
        [
            'jobs.yaml:4 workflows.w.jobs[0]: "a" is continuous: the step would never end',
            'jobs.yaml:4 workflows.w.callback: "a" is continuous: the step would never end',
        ],
    ),
    "workflows and queues": (
        {
            "jobs.yaml": ONE_JOB + "workflows:\n  w: {type: chord, jobs: [a, dumb]}\n"
            "  v: {type: chain, jobs: [a], callback: a}\n  u: {type: x}\n"
            "  t: {type: chord, jobs: [], callback: aa}\nqueues: {q: {limit: 0}, r: 1}\n",
            "jobs.d/b.yaml": "jobs: {dump: {cmd: x}}\nqueues: {R: {}}\nworkflows: {W: {type: group, jobs: []}}\n",
        },
        [
            'jobs.yaml:5 workflows.w.jobs[1]: there is no job "dumb"; did you mean "dump"?',
            "jobs.yaml:5 workflows.w.callback: is missing; a chord needs it",
            "jobs.yaml:6 workflows.v.callback: belongs to type chord only",
            "jobs.yaml:7 workflows.u.jobs: is missing",
            'jobs.yaml:7 workflows.u.type: "x" is not one of chain, group, chord',
            'jobs.yaml:8 workflows.t.callback: there is no job "aa"; did you mean "a"?',
            "jobs.yaml:9 queues.q.limit: 0 is below 1",
            'jobs.yaml:9 queues.r: a mapping with limit is needed, got "1"',
            'jobs.d/b.yaml:3 workflows.W: is declared already, at jobs.yaml:5 as "w"',
        ],
    ),
    "procclaw.yaml": (
        {
            "procclaw.yaml": """\
api: {auth: {enabled: true}}
timezone: Mars/X
env:
  A:
  B: ${param:X}
  C: ${secret:}
daemon: {port: -1, prot: 3, log_level: info, host: "a b"}
openclaw: {alerts: {fallback: {webhook: x}}}
history: {keep_runs: 0}
""",
            "jobs.yaml": "jobs: {}",
        },
        [
            "procclaw.yaml:1 api.auth.token: is missing; auth is enabled and needs it",
            f"procclaw.yaml:2 timezone: {NO_ZONE}",
            'procclaw.yaml:4 env.A: text ("" for none) is needed, got nothing',
            "procclaw.yaml:7 daemon.port: -1 is below 0",
            'procclaw.yaml:7 daemon.prot: is not a known key; did you mean "port"?',
            'procclaw.yaml:7 daemon.log_level: "info" is not one of DEBUG, INFO, WARNING, ERROR',
            'procclaw.yaml:8 openclaw.alerts.fallback.webhook: "x" is not a URL such as http://127.0.0.1:8000/health',
            "procclaw.yaml:9 history.keep_runs: 0 is below 1",
        ],
    ),
    "references in procclaw.yaml": (
        {
            "procclaw.yaml": "env:\n  B: ${param:X}\n  C: ${secret:}\napi: {auth: {token: '${secret:'}}\n",
            "jobs.yaml": "jobs: {}",
        },
        [
            "procclaw.yaml:2 env.B: params belong to jobs; there are none here",
            'procclaw.yaml:3 env.C: "${secret:}" is not ${secret:NAME}; write $${ where ${ itself is meant',
            'procclaw.yaml:4 api.auth.token: "${secret:" is not ${secret:NAME}; write $${ where ${ itself is meant',
        ],
    ),
    "OpenClaw's hooks": (
        {
            "procclaw.yaml": """\
openclaw:
  hooks: {url: "localhost:18789"}
  alerts: {notify_agent: agent}
""",
            "jobs.yaml": "jobs: {}",
        },
        [
            'procclaw.yaml:2 openclaw.hooks.url: "localhost:18789" is not a URL such as http://127.0.0.1:8000/health',
            "procclaw.yaml:2 openclaw.hooks.token: is missing; notify_agent: agent needs it",
        ],
    ),
    "references in what is said of OpenClaw's hooks": (
        {
            "procclaw.yaml": """\
openclaw:
  hooks:
    url: http://${secret:HOST}/hooks
    token: ${env:TOKEN}
  alerts: {notify_agent: agent}
""",
            "jobs.yaml": "jobs: {}",
        },
        [
            "procclaw.yaml:3 openclaw.hooks.url: ${secret:HOST} has no meaning here",
            "procclaw.yaml:4 openclaw.hooks.token: ${env:TOKEN} has no meaning here; only ${secret:NAME} has",
        ],
    ),
    "defaults, told once however many jobs inherit them": (
        {
            "procclaw.yaml": "defaults:\n  timezone: Mars/X\n  health_check: {type: http}\n  env: {A: '${secret:'}\n"
            "  retry: {preset: x}\n  timeout: never\n",
            "jobs.yaml": "jobs:\n  a: {cmd: x, env: {B: c}}\n  b: {cmd: x, health_check: {interval: 0}}\n",
        },
        [
            f"procclaw.yaml:2 defaults.timezone: {NO_ZONE}",
            "procclaw.yaml:3 defaults.health_check.url: is missing; a check of type http needs it",
            'procclaw.yaml:4 defaults.env.A: "${secret:" is not ${secret:NAME}; write $${ where ${ itself is meant',
            'procclaw.yaml:5 defaults.retry.preset: "x" is not one of webhook, exponential, fixed',
            'procclaw.yaml:6 defaults.timeout: a number of seconds is needed, got "never"',
            "jobs.yaml:3 jobs.b.health_check.interval: 0 is below 0.001",
        ],
    ),
    "all files at once, in their order": (
        {
            "procclaw.yaml": "daemon: {port: x}\n",
            "jobs.yaml": "jobs:\n  b:\n    cmd: x\n    restart: alway\n    schedule: never\n"
            "  a: {cmd: x, typ: manual}\n",
            "jobs.d/1.yaml": "jobs: {\n",
            "jobs.d/2.yaml": "jobs: {c: {cmd: x, timeout: z, depends_on: [c]}}\n",
        },
        [
            'procclaw.yaml:1 daemon.port: a port number is needed, got "x"',
            'jobs.yaml:4 jobs.b.restart: "alway" is not one of always, on_failure, never',
            "jobs.yaml:5 jobs.b.schedule: belongs to type scheduled and this job is manual; "
            'set "type: scheduled" or remove it',
            f"jobs.yaml:5 jobs.b.schedule: {refusal('never')}",
            'jobs.yaml:6 jobs.a.typ: is not a known key; did you mean "type"?',
            "jobs.d/1.yaml:2: a value is missing, or a [ or { is not closed",
            'jobs.d/2.yaml:1 jobs.c.timeout: a number of seconds is needed, got "z"',
            "jobs.d/2.yaml:1 jobs.c.depends_on: waits for itself",
        ],
    ),
}


@pytest.mark.parametrize(("files", "said"), WRONG_HOMES.values(), ids=WRONG_HOMES.keys())
def test_a_wrong_home_is_refused_with_every_fault(
    files: dict[str, str | bytes], said: list[str], tmp_path: Path
) -> None:
    assert problems(written(tmp_path, files)) == said


def test_a_dependency_on_a_job_that_does_not_exist_is_a_warning(tmp_path: Path) -> None:
    text = "jobs:\n  database: {cmd: x}\n  web: {cmd: x, depends_on: [databse, {job: gone, timeout: 5}]}\n"
    warnings = load(written(tmp_path, {"jobs.yaml": text})).warnings
    assert tuple(said for said in warnings if "not built" not in said) == (
        'jobs.yaml:3 jobs.web.depends_on[0]: there is no job "databse", so this one waits until there is; '
        'did you mean "database"?',
        'jobs.yaml:3 jobs.web.depends_on[1]: there is no job "gone", so this one waits until there is',
    )


def test_waiting_for_the_completion_of_what_never_completes_is_a_warning(tmp_path: Path) -> None:
    text = (
        "jobs:\n  web: {cmd: x, type: continuous}\n"
        "  use: {cmd: x, depends_on: [web, {job: web, condition: after_complete}]}\n"
    )
    assert load(written(tmp_path, {"jobs.yaml": text})).warnings == (
        'jobs.yaml:3 jobs.use.depends_on[1]: "web" is continuous with restart: always and never completes',
    )
    for restart in ("never", "on_failure"):  # its success is its end
        ending = text.replace("continuous", f"continuous, restart: {restart}")
        assert load(written(tmp_path, {"jobs.yaml": ending})).warnings == ()


def test_a_job_that_is_refused_as_a_whole_is_not_reported_missing_elsewhere(tmp_path: Path) -> None:
    text = "jobs:\n  a: 5\n  b: {cmd: x}\nworkflows: {w: {type: group, jobs: [a, b]}}\n"
    assert problems(written(tmp_path, {"jobs.yaml": text})) == [
        'jobs.yaml:2 jobs.a: a mapping of fields is needed, got "5"'
    ]


def test_a_long_chain_of_dependencies_is_no_cycle_and_no_trouble(tmp_path: Path) -> None:
    links = "".join(f"  j{index}: {{cmd: x, depends_on: [j{index + 1}]}}\n" for index in range(3000))
    text = f"jobs:\n{links}  j3000: {{cmd: x}}\n"
    assert len(load(written(tmp_path, {"jobs.yaml": text})).document["jobs"]) == 3001


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "jobs.d").mkdir()
    os.mkfifo(tmp_path / "jobs.yaml")
    (tmp_path / "jobs.d" / "dir.yaml").mkdir()
    (tmp_path / "jobs.d" / "gone.yaml").symlink_to(tmp_path / "nowhere")
    with open(tmp_path / "jobs.d" / "huge.yaml", "wb") as huge:
        huge.truncate(65 << 20)
    (tmp_path / "procclaw.yaml").symlink_to(tmp_path / "nowhere")
    assert problems(tmp_path) == [
        "procclaw.yaml: cannot be read: no such file or directory",
        "jobs.yaml: cannot be read: it is not a regular file",
        "jobs.d/dir.yaml: cannot be read: is a directory",
        "jobs.d/gone.yaml: cannot be read: no such file or directory",
        "jobs.d/huge.yaml: cannot be read: it is larger than 64 MiB",
    ]


def test_no_mutilated_file_is_answered_with_anything_but_a_document_or_problems(tmp_path: Path) -> None:
    seed = 20_310_501
    chance = random.Random(seed)
    whole = (SPECS / "every_field" / "jobs.yaml").read_bytes()
    pieces = [
        b"&a ",
        b"*a",
        b"<<: *a",
        b": ",
        b"- ",
        b"{",
        b"]",
        b"!x ",
        b"\t",
        b"\xff",
        b"'",
        b'"',
        b"\n    ",
        b"#",
        b"?",
    ]
    for attempt in range(300):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(content))
            content[at : at + chance.choice((0, 0, 1, 9))] = chance.choice(pieces)
        written(tmp_path, {"jobs.yaml": bytes(content)})
        refused: tuple[str, ...] = ()
        try:
            loaded = load(tmp_path)
            spec_from_document(json.loads(json.dumps(loaded.document)), loaded.content_hash)
        except SpecError as error:
            refused = error.problems
        assert all(problem.startswith("jobs.yaml") for problem in refused), (seed, attempt)


# The schemas


def every_shape() -> Iterator[Mapping[str, Any]]:
    def within(part: object) -> Iterator[Mapping[str, Any]]:
        if isinstance(part, dict):
            yield part
            for each in part.values():
                yield from within(each)
        elif isinstance(part, list):
            for each in part:
                yield from within(each)

    for name in SCHEMAS:
        yield from within(specfile.find_schema(name))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_valid_schemas(name: str) -> None:
    schema = specfile.find_schema(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_field_has_a_description_and_a_default_unless_it_must_be_given() -> None:
    for shape in every_shape():
        for name, field in shape.get("properties", {}).items():
            if name != "properties" or "description" in field:
                assert field["description"].endswith("."), name
                must_be_given = field["description"].endswith(" Required.")
                assert must_be_given != ("default" in field), name


def test_a_reference_has_nothing_beside_it_that_its_target_contradicts() -> None:
    definitions = specfile.find_schema("jobs.schema.json")["$defs"]
    for shape in every_shape():
        if isinstance(shape.get("$ref"), str):
            target = definitions[shape["$ref"].rpartition("/")[2]]
            assert (set(shape) & set(target)) - {"$ref"} <= {"title", "description", "default"}, shape


def test_every_default_has_the_shape_of_its_field() -> None:
    definitions = specfile.find_schema("jobs.schema.json")["$defs"]
    for shape in every_shape():
        for name, field in shape.get("properties", {}).items():
            if "default" in field and name not in ("trigger", "schedule"):
                # An empty list stands for none, which nobody may write.
                jsonschema.validate(field["default"], resolved(field, definitions))


# Around the files


def test_the_fingerprint_changes_with_every_change_and_only_then(tmp_path: Path) -> None:
    home = str(written(tmp_path, {"jobs.yaml": "jobs: {}"}))
    seen = [specfile.fingerprint(home)]
    assert specfile.fingerprint(home) == seen[0]
    assert seen[0].newest_at is not None
    assert abs(seen[0].newest_at - datetime.now(UTC)) < timedelta(minutes=1)

    def look() -> None:
        seen.append(specfile.fingerprint(home))

    written(tmp_path, {"procclaw.yaml": "{}"})
    look()
    written(tmp_path, {"jobs.d/a.yaml": "jobs: {}"})
    look()
    (tmp_path / "other.yaml").write_text("jobs: {}")
    os.utime(tmp_path / "other.yaml", (1, 1))
    (tmp_path / "other.yaml").rename(tmp_path / "jobs.yaml")
    look()
    (tmp_path / "jobs.d" / "a.yaml").unlink()
    look()
    (tmp_path / "jobs.yaml").unlink()
    look()
    assert len({each.text for each in seen}) == len(seen)
    assert all(each.newest_at and seen[0].newest_at <= each.newest_at for each in seen)


def test_no_files_at_all_have_a_fingerprint_too(tmp_path: Path) -> None:
    assert specfile.fingerprint(str(tmp_path)).newest_at is None


def test_the_content_hash_follows_the_contents_and_the_zone_not_the_time(tmp_path: Path) -> None:
    home = written(tmp_path, {"jobs.yaml": ONE_JOB})
    before = load(home).content_hash
    os.utime(home / "jobs.yaml", (1, 1))
    assert specfile.content_hash(str(home), "UTC") == before
    assert load(home).content_hash == before
    assert specfile.content_hash(str(home), "Europe/Berlin") != before
    written(home, {"jobs.yaml": ONE_JOB + "# a remark\n"})
    assert specfile.content_hash(str(home), "UTC") != before


def test_only_what_the_process_can_see_changes_its_process_hash(tmp_path: Path) -> None:
    base = job(tmp_path, "env: {A: b, C: d}")
    assert job(tmp_path, "env: {C: d, A: b}", "timeout: 5", "tags: [x]")["process_hash"] == base["process_hash"]
    for field in ("env: {A: c, C: d}", "cwd: /", "nice: 1", "log: {timestamps: true}"):
        assert job(tmp_path, field)["process_hash"] != base["process_hash"], field


def test_init_writes_a_home_that_loads_and_never_touches_what_is_there(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    path = '/opt/"odd"/bin:/a b:/$${x}:${x:y}:/é\udcff:/bin'
    created = specfile.write_initial(str(home), path, "Asia/Tokyo")
    names = [".", "jobs.d", "procclaw.yaml", "jobs.yaml"]
    assert [os.path.relpath(each, home) for each in created] == names
    modes = [oct((home / name).stat().st_mode & 0o777) for name in names]
    assert modes == ["0o700", "0o700", "0o600", "0o600"]
    loaded = load(home)
    assert loaded.document["jobs"] == {}
    assert loaded.document["config"]["timezone"] == "Asia/Tokyo"
    assert loaded.document["config"]["env"]["PATH"] == '/opt/"odd"/bin:/a b:/$$${x}:$${x:y}:/é:/bin'

    written(home, {"jobs.yaml": ONE_JOB})
    (home / "procclaw.yaml").unlink()
    assert specfile.write_initial(str(home), "/bin", "UTC") == (str(home / "procclaw.yaml"),)
    assert (home / "jobs.yaml").read_text() == ONE_JOB
    assert specfile.write_initial(str(home), "/bin", "UTC") == ()


def test_the_first_example_works_when_its_comments_are_taken_away(tmp_path: Path) -> None:
    specfile.write_initial(str(tmp_path), "/bin", "UTC")
    head, jobs = (tmp_path / "jobs.yaml").read_text().split("jobs: {}\n")
    text = head + "jobs:\n" + jobs.replace("\n#", "\n").removeprefix("#")
    document = load(written(tmp_path, {"jobs.yaml": text})).document
    assert [(name, each["type"]) for name, each in document["jobs"].items()] == [
        ("hello", "manual"),
        ("clock", "scheduled"),
    ]


@pytest.mark.parametrize(
    ("tz", "etc_timezone", "localtime", "zone"),
    [
        ("Europe/Paris", "Asia/Tokyo\n", "/usr/share/zoneinfo/UTC", "Europe/Paris"),
        (":/usr/share/zoneinfo/Europe/Paris", None, None, "Europe/Paris"),
        ("<+03>-3", "Asia/Tokyo\n", None, "Asia/Tokyo"),
        (None, "Nowhere/Land", "/var/db/timezone/zoneinfo/America/Lima", "America/Lima"),
        (None, None, "../usr/share/zoneinfo/Africa/Cairo", "Africa/Cairo"),
        (None, None, "/etc/somewhere/else", "UTC"),
        (None, None, None, "UTC"),
    ],
)
def test_the_zone_of_the_machine_is_found_in_its_usual_places(
    tz: str | None,
    etc_timezone: str | None,
    localtime: str | None,
    zone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(specfile, "TIMEZONE_FILE", str(tmp_path / "timezone"))
    monkeypatch.setattr(specfile, "LOCALTIME_LINK", str(tmp_path / "localtime"))
    if etc_timezone is not None:
        (tmp_path / "timezone").write_text(etc_timezone)
    if localtime is not None:
        (tmp_path / "localtime").symlink_to(localtime)
    assert specfile.system_timezone({} if tz is None else {"TZ": tz}) == zone


def test_importing_the_module_imports_none_of_the_heavy_ones() -> None:
    import subprocess

    heavy = ("yaml", "jsonschema", "pathlib", "zoneinfo", "json")
    code = f"import sys, procclaw.system.specfile; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-S", "-c", code]
    root = Path(specfile.__file__).parents[2]
    assert subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60).stdout.strip() == "[]"


def test_channels_that_nobody_is_told_through_are_warned_of(tmp_path: Path) -> None:
    files = {"procclaw.yaml": "openclaw: {alerts: {enabled: true, channels: [whatsapp]}}\n", "jobs.yaml": "jobs: {}\n"}
    told = "nobody is told through them: openclaw.enabled and openclaw.alerts.enabled are not both true"
    assert load(written(tmp_path, files)).warnings == (f"procclaw.yaml:1 openclaw.alerts.channels: {told}",)
