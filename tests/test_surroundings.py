"""What a job's environment is made from outside jobs.yaml."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procclaw.model.errors import ProcclawError
from procclaw.system.surroundings import Account, account_of, own_account, own_variable, read_env_file


def read(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / ".env"
    path.write_text(text, encoding="utf-8")
    return dict(read_env_file(str(path)))


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=b", "A", "b"),
        ("A=", "A", ""),
        ("export A=b", "A", "b"),
        ("  A = b  ", "A", "b"),
        ("A=b c", "A", "b c"),
        ("A=b # comment", "A", "b"),
        ("A=b#no-comment", "A", "b#no-comment"),
        ("A= # comment", "A", ""),
        ("A=#no-comment", "A", "#no-comment"),
        ("A=b=c", "A", "b=c"),
        ("A='b # c'", "A", "b # c"),
        ("A='b' # comment", "A", "b"),
        (r"A='a\nb $HOME \"'", "A", r"a\nb $HOME \""),
        ('A="b # c"', "A", "b # c"),
        (r'A="a\nb\tc"', "A", "a\nb\tc"),
        (r'A="say \"x\" \\ \d"', "A", 'say "x" \\ \\d'),
        ('A="$HOME ${B} `date`"', "A", "$HOME ${B} `date`"),
        ("A=$HOME", "A", "$HOME"),
        ("_a1=x", "_a1", "x"),
        ("A=grün\u2028und blau\f", "A", "grün\u2028und blau"),
    ],
)
def test_a_line_gives_a_variable(tmp_path: Path, line: str, name: str, value: str) -> None:
    assert read(tmp_path, line) == {name: value}


def test_comments_and_blank_lines_say_nothing_and_the_last_of_a_name_counts(tmp_path: Path) -> None:
    assert read(tmp_path, "# comment\n\n  # more\nA=1\r\nB=2\nA=3") == {"A": "3", "B": "2"}


def test_a_signature_at_the_beginning_belongs_to_no_name(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffA=b\n") == {"A": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nnonsense", "{path}:2: not NAME=VALUE"),
        ("1A=x", "{path}:1: not NAME=VALUE"),
        ("A-B=x", "{path}:1: not NAME=VALUE"),
        ("\nA='x", "{path}:2: A: the closing ' is missing or followed by text"),
        ('A="x', '{path}:1: A: the closing " is missing or followed by text'),
        ('A="x" y', '{path}:1: A: the closing " is missing or followed by text'),
        (r'A="x\"', '{path}:1: A: the closing " is missing or followed by text'),
        ("A=x\0y", "{path}:1: A holds a NUL character"),
    ],
)
def test_a_line_that_cannot_be_understood_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProcclawError) as refusal:
        read(tmp_path, text)
    assert str(refusal.value) == "env_file " + message.format(path=tmp_path / ".env")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ProcclawError, match=r"env_file .*/missing: no such file or directory"):
        read_env_file(str(tmp_path / "missing"))
    with pytest.raises(ProcclawError, match="is a directory"):
        read_env_file(str(tmp_path))
    binary = tmp_path / "binary"
    binary.write_bytes(b"A=\xff\n")
    with pytest.raises(ProcclawError, match="not UTF-8 text"):
        read_env_file(str(binary))


def test_what_a_shell_writes_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    subprocess.run(
        ["/bin/sh", "-c", f"A='one two' B=three; export A B; export -p | grep -E ' (A|B)=' > {path}"], check=True
    )
    assert dict(read_env_file(str(path))) == {"A": "one two", "B": "three"}


@given(st.text(st.characters(exclude_characters="\0\r\n'", codec="utf-8")))
def test_any_text_in_single_quotes_is_itself(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "quoted.env"
    path.write_text(f"A='{text}'\n", encoding="utf-8")
    assert read_env_file(str(path)) == (("A", text),)


def test_the_account_is_the_one_we_run_as() -> None:
    entry = pwd.getpwuid(os.getuid())
    assert own_account() == Account(entry.pw_name, entry.pw_dir, entry.pw_shell)


def test_an_account_without_an_entry_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert own_account() == Account(str(os.getuid()), "/", "/bin/sh")


def test_an_account_is_known_by_name_or_number() -> None:
    entry = pwd.getpwnam("daemon")
    wanted = Account("daemon", entry.pw_dir, entry.pw_shell)
    assert account_of("daemon") == account_of(str(entry.pw_uid)) == wanted


@pytest.mark.parametrize("user", ["no-such-one", "4000000", "-1", "99999999999999999999", "", "a\0b"])
def test_an_account_that_does_not_exist_is_refused_by_its_name(user: str) -> None:
    with pytest.raises(ProcclawError) as refusal:
        account_of(user)
    assert str(refusal.value) == f'user "{user}": no such account'


def test_our_own_number_is_an_account_even_without_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_001)
    assert account_of("4000001") == Account("4000001", "/", "/bin/sh")


def test_our_own_variables_are_read_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_VARIABLE", "now")
    assert own_variable("TEST_VARIABLE") == "now"
    monkeypatch.delenv("TEST_VARIABLE")
    assert own_variable("TEST_VARIABLE") is None
