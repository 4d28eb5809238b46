"""How PM2's apps are read, programs among them; whole files are in tests/data/imports/pm2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procclaw.engine.programs import answer_of
from procclaw.interface.convert import pm2
from procclaw.interface.convert.conversion import STANDARD_INPUT, Conversion, Fate, Ids, Source, Unconvertible
from procclaw.model.errors import NotFound, ProcclawError
from tests.commandline import CommandLine

PROGRAM = "module.exports = {\n  apps: [\n    {\n      name: 'api',\n      script: 'api.js',\n    },\n  ],\n}\n"


def read(text: str, path: str = "/srv/app/ecosystem.json", ask: Callable[..., str] | None = None) -> Conversion:
    return pm2.read(Source(path, text, lambda _: None, ask=ask), "pm2", Ids())


def an_app(**keys: object) -> dict[str, Any]:
    """The fields of the one job that it becomes."""
    [job] = read(json.dumps({"apps": [{"script": "app.js", **keys}]})).jobs
    return job.fields


# --- restarts ---


@pytest.mark.parametrize(
    ("keys", "attempts"),
    [
        ({}, 15),
        ({"max_restarts": 1}, 0),
        ({"restart_delay": 900}, 15),
        ({"restart_delay": 1200}, "unlimited"),
        ({"restart_delay": 4000}, "unlimited"),
        ({"restart_delay": 4000, "min_uptime": "10s"}, 15),
        ({"exp_backoff_restart_delay": 100}, "unlimited"),
    ],
)
def test_it_is_given_up_where_pm2_would_give_it_up(keys: dict[str, object], attempts: object) -> None:
    """PM2 counts within min_uptime times max_restarts of the start, so long pauses never make it give up."""
    assert an_app(**keys)["retry"]["max_attempts"] == attempts


def test_pauses_that_grow_end_at_fifteen_seconds() -> None:
    delays = an_app(exp_backoff_restart_delay=1000)["retry"]["delays"]
    assert delays == [1, 1.5, 2.25, 3.375, 5.062, 7.593, 11.389, 15]
    assert an_app(exp_backoff_restart_delay=1)["retry"]["delays"] == [0.001]


@pytest.mark.parametrize(
    ("keys", "cmd"),
    [
        ({}, ["node", "app.js"]),
        ({"script": "./run"}, ["./run"]),
        ({"script": "npm", "args": "run 'a b'"}, ["npm", "run", "a b"]),
        ({"script": "x.py", "interpreter": "none"}, ["./x.py"]),
        ({"script": "serve", "args": "-s build"}, ["serve", "-s", "build"]),
        ({"script": "x.php", "node_args": "-d a=b"}, ["php", "-d", "a=b", "x.php"]),
        ({"script": "a --b"}, ["bash", "-c", "a --b"]),
        ({"args": ["${secret:X}", "$HOME"]}, ["node", "app.js", "$${secret:X}", "$HOME"]),
    ],
)
def test_the_command_is_the_one_that_pm2_makes_of_it(keys: dict[str, object], cmd: list[str]) -> None:
    assert an_app(**keys)["cmd"] == cmd


def test_a_program_without_a_folder_is_looked_for_in_cwd_and_then_in_path(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "ecosystem.json"
    apps = [{"name": name, "script": name, "interpreter": "none", "cwd": "[in]"} for name in ("run", "gunicorn")]
    file.write_text(json.dumps({"apps": apps}))
    (tmp_path / "[in]").mkdir()
    (tmp_path / "[in]" / "run").write_bytes(b"\x7fELF\xff")
    answer = cli("import", str(file))
    assert "cmd: [./run]" in answer.out
    assert "cmd: [gunicorn]" in answer.out
    told = "gunicorn: changed: script gunicorn: is looked for in PATH; PM2 takes ./gunicorn where there is one"
    assert told in answer.err
    assert "script run" not in answer.err


def test_the_server_of_static_files_within_pm2_is_refused_with_what_does_the_same() -> None:
    env = {"PM2_SERVE_PATH": "./my dist", "PM2_SERVE_PORT": 4004, "PM2_SERVE_SPA": "true"}
    conversion = read(json.dumps({"apps": [{"name": "web", "script": "serve", "env": env}]}, indent=0))
    assert not conversion.jobs
    assert [(note.line, note.what, note.fate) for note in conversion.notes] == [(3, "app web", Fate.REFUSED)]
    assert "npx serve -s -l 4004 './my dist'" in conversion.notes[0].says


@pytest.mark.parametrize(
    ("keys", "env"),
    [
        ({}, {"NODE_APP_INSTANCE": "0"}),
        ({"instances": "max", "exec_mode": "cluster"}, {"NODE_APP_INSTANCE": "0"}),
        ({"instances": 4}, {"NODE_APP_INSTANCE": "0"}),
        (
            {"instances": 4, "instance_var": "I", "increment_var": "PORT", "env": {"PORT": 3000}},
            {"PORT": "3000", "I": "0"},
        ),
        ({"script": "./run", "instance_var": "I"}, {"I": "0"}),
        ({"script": "./run"}, None),
    ],
)
def test_the_only_process_has_the_number_of_the_first(keys: dict[str, object], env: dict[str, str] | None) -> None:
    assert an_app(**keys).get("env") == env


@pytest.mark.parametrize(
    ("written", "handed_on"),
    [
        ("010", "10"),
        ("1.50", "1.5"),
        ("2.0", "2"),
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("-7", "-7"),
        ("off", "off"),
        ('"010"', "010"),
        ("99999999999999999", "99999999999999999"),
        ("1.2.3", "1.2.3"),
        ("{a: [1, x]}", '{"a":[1,"x"]}'),
    ],
)
def test_a_variable_is_what_javascript_makes_of_it(written: str, handed_on: str) -> None:
    [job] = read(f"apps:\n- script: a.js\n  env: {{V: {written}}}\n", "ecosystem.yml").jobs
    assert job.fields["env"] == {"V": handed_on, "NODE_APP_INSTANCE": "0"}


# --- programs ---


def refusing(error: ProcclawError) -> Callable[..., str]:
    def ask(_argv: tuple[str, ...]) -> str:
        raise error

    return ask


@pytest.mark.parametrize(
    ("path", "ask", "says"),
    [
        (
            "ecosystem.config.js",
            refusing(NotFound("node")),
            "there is no node here to run it; where there is one: node -p",
        ),
        ("ecosystem.config.js", refusing(ProcclawError("node: too slow")), "node cannot run: node: too slow"),
        ("ecosystem.config.js", lambda _: "hello\n", "ended before it said what its apps are"),
        ("ecosystem.config.js", lambda _: "\nprocclaw-ecosystem:{", "ended before it said what its apps are"),
        ("ecosystem.config.js", lambda _: "\nprocclaw-ecosystem:3", "neither a mapping with apps nor a list"),
        (STANDARD_INPUT, None, "has to be a file for node to run it"),
    ],
)
def test_a_program_that_gives_no_answer_is_refused(path: str, ask: Callable[..., str] | None, says: str) -> None:
    with pytest.raises(Unconvertible, match=says):
        read(PROGRAM, path, ask)


def test_what_a_program_comes_to_gets_the_lines_it_has_there() -> None:
    answer = json.dumps({"apps": [{"name": "api", "script": "api.js", "watch": True}]})
    conversion = read(
        PROGRAM.replace("],", "],  watch: true,"), "e.config.js", lambda _: f"\nprocclaw-ecosystem:{answer}"
    )
    [job] = conversion.jobs
    assert job.line == 3
    [watch] = job.notes
    assert (watch.line, watch.fate) == (7, Fate.DROPPED)
    assert conversion.notes[0].says == "is a program; it was run by node, to read what it comes to"


@pytest.mark.real
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_reads_a_program_whatever_it_prints_and_in_whichever_folder(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "ecosystem.config.js"
    file.write_text("console.log('procclaw-ecosystem:[]');\nsetInterval(() => {}, 1000);\n" + PROGRAM)
    answer = cli("import", str(file))
    assert answer.code == 0, answer.err
    assert "cmd: [node, api.js]" in answer.out
    assert f"{file} kept: the file: is a program; it was run by node" in answer.err
    assert f"    cwd: {tmp_path}/folder\n" in answer.out


@pytest.mark.real
def test_a_program_that_is_asked_says_why_there_is_no_answer() -> None:
    assert answer_of(("sh", "-c", "echo yes")) == "yes\n"
    with pytest.raises(NotFound, match="no-such-program-here: no such program"):
        answer_of(("no-such-program-here",))
    with pytest.raises(ProcclawError, match="sh: ended with exit code 3: SomeError: it is broken"):
        answer_of(("sh", "-c", "echo 'at line 1' >&2; echo 'SomeError: it is broken' >&2; echo 'at 2' >&2; exit 3"))
    with pytest.raises(ProcclawError, match="printed what is not UTF-8 text"):
        answer_of(("sh", "-c", r"printf '\377'"))
