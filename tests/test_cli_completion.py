"""What Tab offers, in each shell as that shell asks for it, and that nothing offered is evaluated."""

import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commandline import CommandLine
from tests.driver import PROGRAM, ROOT
from tests.support import Reaper
from tests.test_cli_output import read_until

SHELLS = ("bash", "zsh", "fish")
EVIL = "$(touch evil) `touch evil`; 'x"


@pytest.fixture
def shop(cli: CommandLine, home: Path) -> Path:
    """A home that has been read, with names that a shell could trip over."""
    cli.declare_all(
        {
            "back-up_all": {"cmd": "true", "name": EVIL, "params": {"day": {"default": EVIL}, "target": {}}},
            "back-up-2": {"cmd": "true", "description": EVIL},
            "web": {"cmd": "true"},
        },
        workflows={"night-ly": {"type": "chain", "jobs": ["web"]}},
    )
    cli("list")
    return home


def offered(cli: CommandLine, *words: str) -> list[str]:
    answer = cli("_complete", "zsh", *words)
    assert (answer.code, answer.err) == (0, "")
    return [line.partition("\t")[0] for line in answer.out.splitlines()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["li"], "list"),
        (["daemon", ""], "start stop status logs"),
        (["daemon", "sto"], "stop"),
        (["start", "back"], "back-up_all back-up-2"),
        (["start", "web", "back-up-2", ""], "back-up_all"),
        (["status", "web", ""], ""),
        (["list", "--ty"], "--type"),
        (["list", "--type", "con"], "continuous"),
        (["list", "--type=con"], "--type=continuous"),
        (["list", "--status", "run"], "running"),
        (["runs", "--state", "fail"], "failed"),
        (["list", "--watch", "--js"], "--json"),
        (["run", "back-up_all", "-p", ""], "day= target="),
        (["run", "back-up_all", "-p", "day=1", "--param", "t"], "target="),
        (["run", "web", "-p", ""], ""),
        (["--json", "pause", "w"], "web"),
        (["runs", "sh"], "show"),
        (["runs", "w"], "web"),
        (["workflow", "run", ""], "night-ly"),
        (["chord", "web", "--callback", "back-up-"], "back-up-2"),
        (["completion", ""], "bash zsh fish"),
        (["help", "sched"], "scheduling schedule"),
        (["trigger", "web", "--payload", ""], ":files"),
        (["list", "--home", ""], ":directories"),
        (["nonsense", ""], ""),
        (["--home", "/nowhere/at/all", "start", ""], ""),
        (["start", "--home=/nowhere/at/all", ""], ""),
        (["start", "--", "w"], "web"),
    ],
)
def test_what_fits_is_offered(cli: CommandLine, shop: Path, words: list[str], wanted: str) -> None:
    assert offered(cli, *words) == wanted.split()


@pytest.mark.real
def test_runs_are_offered_by_their_ids_and_those_of_the_job_that_is_named(cli: CommandLine, shop: Path) -> None:
    ids = {job: cli("run", job, "--wait", "--json").json["id"] for job in ("web", "back-up-2")}
    assert offered(cli, "runs", "show", "") == [ids["back-up-2"], ids["web"]]
    assert offered(cli, "logs", "web", "--run", "") == [ids["web"]]


def test_secrets_are_offered_that_are_set_and_that_are_named(cli: CommandLine, home: Path) -> None:
    cli.declare_all({"web": {"cmd": "true", "env": {"A": "${secret:WANTED}", "B": "${secret:SET}"}}})
    cli("secret", "set", "SET", "canary", "--file")
    cli("secret", "set", "OTHER", "canary", "--file")
    cli("list")
    answer = cli("_complete", "zsh", "secret", "set", "")
    assert answer.out.splitlines() == ["OTHER\tin the file", "SET\tin the file", "WANTED\tnot set"]
    assert offered(cli, "secret", "get", "S") == ["SET"]


def test_a_home_on_the_line_is_the_one_that_is_looked_into(
    cli: CommandLine, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROCCLAW_HOME")
    assert offered(cli, "--home", str(shop), "start", "w") == ["web"]
    assert offered(cli, "start", f"--home={shop}", "w") == ["web"]


def test_whatever_is_wrong_nothing_is_said_and_nothing_is_made(cli: CommandLine, home: Path, tmp_path: Path) -> None:
    cli.declare(web={"cmd": "true"})
    assert offered(cli, "start", "") == []
    assert not (home / "procclaw.db").exists()
    (home / "procclaw.db").write_text("this is no database, and long enough not to be taken for an empty one" * 100)
    assert offered(cli, "start", "") == []
    assert offered(cli, "--home", str(tmp_path / "none"), "start", "") == []
    for words in ([], ["zsh"], ["bash", "'"]):
        assert cli("_complete", *words).code == 0


def test_a_job_whose_name_drives_terminals_is_described_without_that(cli: CommandLine) -> None:
    cli.declare(job={"cmd": "true", "name": "a\x1b[2J\tb\nc"})
    cli("list")
    assert cli("_complete", "zsh", "start", "").out == "job\ta\\x1b[2J\\x09b\\x0ac\n"


def test_offering_jobs_loads_nothing_that_a_list_does_not(cli: CommandLine, shop: Path) -> None:
    loaded = []
    for words in (["list"], ["_complete", "zsh", "start", ""]):
        code = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
            f"from procclaw.interface.cli import main; main({words!r})\n"
            "print(*sys.modules, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
        loaded.append(set(done.stderr.split()))
    assert loaded[1] - loaded[0] == {"procclaw.interface.completion"}


# --- in the shells themselves ---


def program_in(folder: Path, name: str = "procclaw") -> Path:
    """The program under that name."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(PROGRAM))} "$@"\n')
    path.chmod(0o755)
    return path


def in_shell(shell: str, lines: str, folder: Path) -> list[str]:
    """What these lines print in a shell that finds the program, and has read its completion script."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"NOT TESTED: {shell} is not installed here")
    program_in(folder)
    (folder / "script").write_text(
        subprocess.run([folder / "procclaw", "completion", shell], capture_output=True, text=True, check=True).stdout
    )
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}
    flags = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [path, *flags, "-c", lines], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert not (folder / "evil").exists()
    return done.stdout.split()


def asking(shell: str, *words: str) -> str:
    """Lines that press Tab behind these words, the first of which is the program, and print what is offered."""
    if shell == "fish":
        return f"source script; complete -C {shlex.quote(' '.join(words))} | string replace -r '\\t.*' ''"
    listed = " ".join(map(shlex.quote, words))
    if shell == "bash":
        return (
            f"source ./script; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}\n"
            f"spec=$(complete -p {shlex.quote(os.path.basename(words[0]))}) && [[ $spec == *_procclaw* ]] || exit 1\n"
            f'_procclaw {shlex.quote(words[0])} "${{COMP_WORDS[-1]}}" ""; printf "%s\\n" "${{COMPREPLY[@]}}"'
        )
    return (
        'compdef() { :; }; compadd() { while [[ $1 != -a ]]; do shift; done; print -rl -- "${(@P)2}" }\n'
        f"source ./script; words=({listed}); CURRENT={len(words)}; PREFIX={shlex.quote(words[-1])}; _procclaw"
    )


@pytest.mark.real
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_options_jobs_and_params(shop: Path, tmp_path: Path, shell: str) -> None:
    for words, wanted in (
        (("procclaw", "rec"), {"reconcile"}),
        (("procclaw", "daemon", "sta"), {"start", "status"}),
        (("procclaw", "list", "--ta"), {"--tag"}),
        (("procclaw", "start", "back"), {"back-up_all", "back-up-2"}),
        (("procclaw", "run", "back-up_all", "-p", ""), {"day=", "target="}),
        (("procclaw", "workflow", "run", "n"), {"night-ly"}),
        (("procclaw", "--home", str(shop), "start", "w"), {"web"}),
        (("procclaw", "--home", str(tmp_path / "none"), "start", ""), set()),
    ):
        assert set(in_shell(shell, asking(shell, *words), tmp_path)) == wanted, words


@pytest.mark.real
@pytest.mark.parametrize("shell", SHELLS)
def test_the_program_is_asked_by_the_path_it_is_called_by(shop: Path, tmp_path: Path, shell: str) -> None:
    program_in(tmp_path, "procclaw.pyz")
    assert in_shell(shell, asking(shell, "./procclaw.pyz", "start", "w"), tmp_path) == ["web"]
    assert in_shell(shell, asking(shell, f"{tmp_path}/procclaw.pyz", "start", "w"), tmp_path) == ["web"]
    assert in_shell(shell, asking(shell, "~/procclaw.pyz", "start", "w"), tmp_path) == ["web"]


@pytest.mark.real
def test_bash_puts_together_what_it_splits_and_understands_quotes(shop: Path, tmp_path: Path) -> None:
    def offers(*words: str) -> list[str]:
        return in_shell("bash", asking("bash", *words), tmp_path)

    assert offers("procclaw", "list", "--type", "=", "con") == ["continuous"]
    assert offers("procclaw", "list", "--type", "=") == ["manual", "continuous", "scheduled", "oneshot"]
    assert offers("procclaw", "--home", "=", str(shop), "start", "w") == ["web"]
    assert offers("procclaw", "--home", f'"{shop}"', "start", "w") == ["web"]
    assert offers("procclaw", "--home", "$(touch evil)", "start", "w") == []


@pytest.mark.real
def test_an_alias_of_bash_is_completed_with_the_words_it_stands_for(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROCCLAW_HOME")
    alias = f"alias pc='procclaw --home {shop}'\n"
    lines = asking("bash", "pc", "start", "w").replace("./script;", "./script; complete -F _procclaw pc;", 1)
    assert in_shell("bash", alias + lines, tmp_path) == ["web"]


@pytest.mark.real
def test_an_alias_of_fish_is_completed(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROCCLAW_HOME")
    alias = f"alias pc='procclaw --home {shop}'\n"
    assert in_shell("fish", alias + asking("fish", "pc", "start", "w"), tmp_path) == ["web"]


@pytest.mark.real
def test_zsh_reads_the_script_after_compinit(shop: Path, tmp_path: Path) -> None:
    lines = "autoload -U compinit; compinit -u -D; source ./script; print $_comps[procclaw] $_comps[procclaw.pyz]"
    assert in_shell("zsh", lines, tmp_path) == ["_procclaw", "_procclaw"]


def test_the_script_is_json_where_that_is_asked_for(cli: CommandLine) -> None:
    told = cli("completion", "fish", "--json").json
    assert told == {"shell": "fish", "script": cli("completion", "fish").out}


@pytest.mark.real
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_for_a_person_who_types(shop: Path, tmp_path: Path, reaper: Reaper, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"NOT TESTED: {shell} is not installed here")
    program = program_in(tmp_path)
    script = subprocess.run([program, "completion", shell], capture_output=True, text=True, check=True).stdout
    (tmp_path / "script").write_text(script)
    flags = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}[shell]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}
    ours, theirs = pty.openpty()
    reaper.spawn(
        [path, *flags],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    ready = "autoload -U compinit; compinit -u -D; " if shell == "zsh" else ""
    os.write(ours, f"{ready}source ./script; echo re''ady\n".encode())
    read_until(ours, b"ready\r")
    # One that fits is put in whole, two as far as they are the same, and another Tab lists them.
    os.write(ours, b"procclaw start we\t")
    assert b"web " in read_until(ours, b"web ")
    os.write(ours, b"ba\t\t\t")
    text = read_until(ours, b"back-up_all")
    assert b"back-up" in text
    os.write(ours, b"\x15exit\n")
    os.close(ours)
    assert not (tmp_path / "evil").exists()
