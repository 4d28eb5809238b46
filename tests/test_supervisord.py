"""How supervisord's values are read, and where; whole files are in tests/data/imports/supervisord."""

import configparser
import io
import random

import pytest

from procclaw.interface.convert import supervisord
from procclaw.interface.convert.conversion import STANDARD_INPUT, Conversion, Fate, Ids, Source, Unconvertible
from procclaw.interface.convert.inifile import merged, sections_of
from tests import imports


def read(text: str, path: str = "/etc/supervisor/supervisord.conf", **included: str) -> Conversion:
    files = {f"conf.d/{name}.conf": content for name, content in included.items()}
    source = Source(path, text, files.get, lambda pattern: tuple(sorted(files)) if "*" in pattern else ())
    return supervisord.read(source, "supervisord", Ids())


def refusals(conversion: Conversion) -> list[str]:
    return [f"{note.line}: {note.says}" for note in conversion.notes if note.fate is Fate.REFUSED]


def test_a_process_of_a_program_is_a_job_and_what_is_true_of_all_is_said_once() -> None:
    conversion = read("[program:p]\ncommand=run %(process_num)d\nprocess_name=p%(process_num)02d\nnumprocs=3\nx=y\n")
    assert [(job.id, job.fields["cmd"]) for job in conversion.jobs] == [
        (f"p0{number}", ["run", str(number)]) for number in range(3)
    ]
    assert [len(job.notes) for job in conversion.jobs] == [1, 0, 0]


def test_here_is_where_the_file_lies_that_says_it() -> None:
    main = "[include]\nfiles=conf.d/*.conf\n[program:main]\ncommand=%(here)s/run\n"
    conversion = read(main, a="[program:a]\ncommand=%(here)s/run\n")
    assert {job.id: job.fields["cmd"] for job in conversion.jobs} == {
        "main": ["/etc/supervisor/run"],
        "a": ["/etc/supervisor/conf.d/run"],
    }
    assert [job.file for job in conversion.jobs] == ["", "/etc/supervisor/conf.d/a.conf"]


def test_what_comes_from_standard_input_has_no_here() -> None:
    conversion = read("[program:a]\ncommand=%(here)s/run\n", STANDARD_INPUT)
    assert refusals(conversion) == ["2: command: %(here)s is not known here: write the value"]


def test_an_included_program_replaces_options_of_the_one_before() -> None:
    main = "[program:a]\ncommand=one\nstopwaitsecs=7\n[include]\nfiles=conf.d/*.conf\n"
    [job] = read(main, a="[program:a]\ncommand=two\n").jobs
    assert (job.fields["cmd"], job.fields["shutdown"]) == (["two"], {"grace_period": 7})


def test_a_variable_that_only_supervisord_has_is_read_when_the_job_starts() -> None:
    text = "[program:a]\ncommand=run %(ENV_A)s --b='%(ENV_B)s x'\nenvironment=C=\"%(ENV_A)s/${y}\",D=%(ENV_E)s\n"
    [job] = read(text).jobs
    assert job.fields["cmd"] == ["run", "${env:A}", "--b=${env:B} x"]
    assert job.fields["env"] == {"C": "${env:A}/$${y}", "D": "${env:E}"}
    assert refusals(read("[program:a]\ncommand=run\nuser=%(ENV_A)s\n")) == [
        "3: user: %(ENV_A)s is known to supervisord alone: write the value"
    ]


def test_a_variable_that_the_file_sets_is_filled_in() -> None:
    text = "[supervisord]\nenvironment=A=1,B=%(ENV_X)s\n[program:a]\ncommand=run %(ENV_A)s %(ENV_B)s %(ENV_C)s\n"
    [job] = read(text + "environment=A=2,C=%(ENV_A)s\n").jobs
    assert job.fields["cmd"] == ["run", "2", "${env:B}", "1"]
    assert job.fields["env"] == {"A": "2", "B": "${env:X}", "C": "1"}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", {"restart": "on_failure"}),
        ("autorestart=true", {"restart": "always"}),
        ("autorestart=unexpected\nexitcodes=0,2", {"restart": "on_failure", "success_exit_codes": [0, 2]}),
        ("exitcodes=", {"restart": "always"}),
    ],
)
def test_it_is_started_again_as_often_and_after_as_long_as_there(options: str, wanted: dict[str, object]) -> None:
    [job] = read(f"[program:a]\ncommand=run\nstartsecs=5\nstartretries=2\n{options}\n").jobs
    fields = {name: job.fields[name] for name in ("restart", "success_exit_codes") if name in job.fields}
    assert fields == wanted
    assert job.fields["retry"] == {"delays": [1, 2], "max_attempts": 2, "reset_after": 5}


def test_what_a_command_leaves_behind_is_left_alone_as_there() -> None:
    [job] = read("[program:a]\ncommand=bash -c 'nohup ./bot & exit 0'\n").jobs
    assert job.fields["shutdown"] == {"grace_period": 10, "leftovers": "keep"}
    [note] = job.notes
    assert (note.line, note.what, note.fate) == (2, "command", Fate.CHANGED)
    [job] = read("[program:a]\ncommand=./bot &\n").jobs  # no shell sees the ampersand
    assert job.fields["shutdown"] == {"grace_period": 10}


def test_limits_that_programs_inherit_are_told_as_such() -> None:
    conversion = read("[supervisord]\nminfds=65536\nminprocs=200\nlogfile=/x\n[program:a]\ncommand=run\n")
    told = [(note.line, note.what, note.says) for note in conversion.notes if note.fate is Fate.DROPPED]
    says = "its programs inherit it; a job has the daemon's limits, unless ulimit -n stands in its cmd"
    assert told == [(2, "minfds=65536", says), (1, "logfile", "is about supervisord itself")]


def test_output_that_goes_nowhere_there_is_told_to_go_into_logs() -> None:
    [job] = read("[program:a]\ncommand=run\nstdout_logfile=NONE\nstderr_logfile=none\n").jobs
    assert [(note.line, note.what, note.fate) for note in job.notes] == [
        (3, "stdout_logfile=NONE, stderr_logfile=none", Fate.CHANGED)
    ]


def test_a_directory_of_a_supervisord_in_the_foreground_is_not_gone_to() -> None:
    text = "[supervisord]\ndirectory=/srv\nnodaemon={}\n[program:a]\ncommand=run\n"
    assert read(text.format("false")).jobs[0].fields["cwd"] == "/srv"
    assert "cwd" not in read(text.format("true")).jobs[0].fields


# --- the reader ---

_PIECES = (
    "\n",
    "\n  ",
    ";",
    " ;",
    " #",
    "[",
    "]",
    "=",
    ":",
    " ",
    "\t",
    "\r",
    "[a]\n",
    "x=y\n",
    "\n\n",
    "ü",
    "   z",
    "\v",
)


def ours(text: str) -> dict[str, dict[str, list[str]]] | None:
    try:
        found = merged(sections_of(text))
    except Unconvertible:
        return None
    return {name: {key: option.value.split() for key, option in each.options.items()} for name, each in found.items()}


def theirs(text: str) -> dict[str, dict[str, list[str]]] | None:
    """As supervisor sets up Python's own."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_file(io.StringIO(text, newline="\n"))
    except configparser.Error:
        return None
    return {name: {key: value.split() for key, value in parser.items(name)} for name in parser.sections()}


@pytest.mark.parametrize("seed", range(40))
def test_lines_mean_what_they_mean_to_supervisord(seed: int) -> None:
    source = random.Random(seed)
    text = source.choice([path for path in imports.inputs() if path.parent.name == "supervisord"]).read_text()
    for _ in range(source.randrange(4)):
        at = source.randrange(len(text))
        text = text[:at] + source.choice(_PIECES) + text[at + source.randrange(3) :]
    assert ours(text) == theirs(text), f"seed {seed}: {text}"
