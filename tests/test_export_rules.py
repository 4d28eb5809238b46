"""Rules that hold for the export of any jobs, tried on random ones; a failure names the seed."""

import json
import random
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from procclaw.interface.home_commands import EXPORT_FORMATS
from tests.commandline import CommandLine
from tests.test_exports import KUBERNETES, check_beyond_the_schema, check_workflow

Value = Any
TEXTS = (
    *(
        "a",
        "x y",
        "it's",
        '"q"',
        "100%",
        "%h",
        "%%",
        "$HOME",
        "$$",
        "$(date)",
        "\\",
        "\\n",
        "a\nb",
        "#c",
        "é",
        "`x`",
        ";",
    ),
    *("-", "=", "\t", "~", "{{x}}", "\x7f", "a'b\"c\\d%e$f", "PROCCLAW_RUN_ID $PROCCLAW_HOME", "$${x}"),
    *("${env:HOME}", "${env:A}", "${env:PATH}", "${env:NOPE}", "${param:p}"),
)
SECRETS = ("${secret:KEY}", "x${secret:my.key}z")
CHOICES: dict[str, tuple[Value, ...]] = {
    "cwd": ("/srv", "~", "~/a b", "rel/x", "/a%b'c"),
    "env_file": ("/etc/x", "~/.env", "a b.env"),
    "user": ("root", "0", "70"),
    "group": ("root", "0"),
    "umask": (0o27,),
    "nice": (5,),
    "enabled": (False,),
    "timeout": (1, 0.5, 100_000),
    "success_exit_codes": ([3], [0, 3]),
    "retry": (
        {"enabled": False},
        {"max_attempts": "unlimited"},
        {"delays": [0]},
        {"delays": [0.01, 5]},
        {"max_attempts": 0},
    ),
    "shutdown": ({"grace_period": 0}, {"signal": "KILL"}, {"signal": "HUP", "leftovers": "keep", "grace_period": 0.5}),
    "lock": ({"enabled": True, "name": "l"},),
    "resources": ({"max_memory_mb": 1}, {"max_memory_mb": 100.5, "max_cpu_percent": 300}),
    "tags": (["a", "b c", "%"],),
}
OF_TYPE: dict[str, dict[str, tuple[Value, ...]]] = {
    "manual": {"concurrency": ({"max_instances": 2},)},
    "oneshot": {"catch_up": ({"policy": "none"},)},
    "continuous": {
        "restart": ("always", "on_failure", "never"),
        "health_check": (
            {"type": "http", "url": "http://[::1]:80/a?x=%20"},
            {"type": "http", "url": "https://h", "method": "POST", "expected_body": "x"},
            {"type": "tcp", "port": 5},
            {"type": "file", "path": "/x $(y)"},
            {"type": "exec", "cmd": ["a", "$(b)"]},
        ),
    },
    "scheduled": {
        "timezone": ("UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"),
        "jitter": (0.5, 300),
        "on_overlap": ("queue", "kill_restart"),
        "catch_up": ({"policy": "none"}, {"policy": "all"}, {"within": 0}),
    },
}
SCHEDULES = (
    *("0 4 * * *", "*/5 * * * *", "@every 90s", "@every 10s", "@every 2h", "@daily", "0 0 L * *", "0 0 * * 5#2"),
    *("0 0 */2 * 1", "0 0 1,15 * 3", "5-10/2 1-5 1-7 jan-mar mon-fri", "0 0 * * 5-7", "0 0 L,3 * L5", "0 0 */5 * 1#1"),
)


def some_job(chance: random.Random) -> dict[str, Value]:
    kind = chance.choice(list(OF_TYPE))
    text = "".join(chance.choice((*TEXTS, *SECRETS)) for _ in range(chance.randint(1, 4)))
    words = [chance.choice(("/bin/x", "x", "./x")), *(chance.choice(TEXTS) for _ in range(chance.randint(0, 5)))]
    job: dict[str, Value] = {"type": kind, "cmd": chance.choice((text, words)), "params": {"p": {"default": "d%"}}}
    names = chance.sample(("A", "B", "PATH", "HOME"), chance.randint(0, 3))
    job["env"] = {name: chance.choice((*TEXTS, *SECRETS)) for name in names}
    for field, values in {**CHOICES, **OF_TYPE[kind]}.items():
        if chance.random() < 0.25:
            job[field] = chance.choice(values)
    if kind == "scheduled":
        job["schedule"] = chance.sample(SCHEDULES, chance.randint(1, 2))
    if kind == "oneshot":
        job["run_at"] = "2031-01-01T00:00:00.5Z"
    return job


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
@pytest.mark.parametrize("seed", range(12))
def test_random_jobs_are_exported_or_refused_with_the_reason(
    cli: CommandLine, home: Path, seed: int, kind: str
) -> None:
    chance = random.Random(seed)
    names = ("a", "B_c", "b-c", "B-C-2", "long-" + "x" * 50)
    jobs = {name: some_job(chance) for name in names}
    steps = [name for name, job in jobs.items() if job["type"] != "continuous"]
    workflow = {"type": chance.choice(("chain", "group")), "jobs": steps}
    cli.declare_all(jobs, workflows={"w": workflow} if steps else {})
    answer = cli("export", kind, "--json")
    assert answer.code in (0, 1), answer.out + answer.err
    for job in answer.json["jobs"]:
        refused = [note["says"] for note in job["notes"] if note["fate"] == "refused"]
        assert job["is_exported"] != bool(refused)
        assert all(refused)
    text = "".join(file["text"] for file in answer.json["files"])
    assert "\0" not in text
    for reference in ("${secret:", "${env:", "${param:"):
        assert reference not in text
    # The same jobs always come to the same files, and the same report.
    assert cli("export", kind, "--json").out == answer.out
    if kind == "kubernetes":
        check_manifests(text)


def check_manifests(text: str) -> None:
    found = list(yaml.safe_load_all(text))
    assert len({(each["kind"], each["metadata"]["name"]) for each in found}) == len(found)
    for each in found:
        if each["kind"] == "WorkflowTemplate":
            check_workflow(each)
        else:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
            check_beyond_the_schema(each)


def test_the_random_jobs_are_valid_and_differ(cli: CommandLine, home: Path) -> None:
    found = [some_job(random.Random(seed)) for seed in range(40)]
    assert len({json.dumps(job) for job in found}) == len(found)
    assert {job["type"] for job in found} == set(OF_TYPE)
