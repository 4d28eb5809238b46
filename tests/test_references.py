"""References to secrets, variables and parameters in what jobs.yaml says."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procclaw.model.references import Reference, as_shell_variables, references_in, replaced

VALUES = {"secret": "s3cret", "env": "/home/alice", "param": "7"}


def with_values(text: str) -> str:
    return replaced(text, lambda reference: f"<{reference.kind} {reference.name}>")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${env:HOME}", [("env", "HOME")]),
        ("a${param:n}b${secret:TOKEN}c", [("param", "n"), ("secret", "TOKEN")]),
        ("${secret:db.pass-word}", [("secret", "db.pass-word")]),
        ("${secret:1st}", [("secret", "1st")]),
        ("${env:A}${env:A}", [("env", "A"), ("env", "A")]),
        ("$${env:HOME}", []),
        ("${HOME} $HOME ${HOME:-x} ${env:} ${ENV:HOME} ${env: HOME}", []),
        ("${env:1A} ${env:A-B} ${param:a.b} ${secret:.a}", []),
        ("${file:x}", []),
        ("", []),
    ],
)
def test_what_is_a_reference_and_what_is_left_alone(text: str, found: list[tuple[str, str]]) -> None:
    assert [tuple(reference) for reference in references_in(text)] == found


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${env:HOME}/x", "<env HOME>/x"),
        ("$${env:HOME}", "${env:HOME}"),
        ("$$${env:HOME}", "$${env:HOME}"),
        ("${HOME} is left to the shell", "${HOME} is left to the shell"),
        ("$${", "${"),
        ("100 $", "100 $"),
    ],
)
def test_references_are_replaced_and_literals_unescaped(text: str, result: str) -> None:
    assert with_values(text) == result


def test_a_value_is_not_looked_at_again() -> None:
    assert replaced("${env:A}", lambda _: "${env:B} $${env:C}") == "${env:B} $${env:C}"


@given(st.text(), st.text())
def test_text_without_references_is_left_as_it_is(before: str, behind: str) -> None:
    text = before.replace("${", "") + behind.replace("${", "")
    assert with_values(text.replace("${", "")) == text.replace("${", "")


NASTY = '\'; touch /tmp/oops #$(touch /tmp/oops)`touch /tmp/oops`\n"$HOME" \\'


@pytest.mark.parametrize("quoted", ['"{}"', "x{}", '"a {} b"'])
def test_no_value_can_become_code(quoted: str) -> None:
    reference = Reference("param", "name")
    command = "printf %s " + quoted.format("${param:name}")
    script = as_shell_variables(command)
    assert NASTY not in script
    shown = subprocess.run(
        ["/bin/sh", "-c", f"set -f; IFS=; {script}"],
        env={reference.variable: NASTY, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == quoted.format(NASTY).strip('"')


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@given(st.sets(st.builds(Reference, st.just("secret"), names), max_size=8))
def test_different_references_never_share_a_variable(references: set[Reference]) -> None:
    assert len({reference.variable for reference in references}) == len(references)


@given(st.builds(Reference, st.sampled_from(["secret", "env", "param"]), names))
def test_every_reference_has_a_variable_that_a_shell_accepts(reference: Reference) -> None:
    assert reference.variable.isidentifier()
    assert reference.variable.isascii()
