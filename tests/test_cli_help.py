"""What explains itself: every command's --help, and the topics."""

import re
import shlex
from pathlib import Path

import pytest

from procclaw.interface import commands
from procclaw.interface.command import Command
from procclaw.interface.manual import PAGES
from procclaw.interface.topics import TOPICS
from tests.commandline import CommandLine

BLOCK = re.compile(r"(?:^    .*\n)+", re.MULTILINE)


def understood(text: str) -> None:
    """The command is one, and its own parser takes the rest."""
    first, *words = shlex.split(text, comments=True)
    assert first == "procclaw", text
    found = commands.find(words)
    assert found is not None, text
    commands.parser_of(found[0]).parsed(words[found[1] :])


@pytest.mark.parametrize("command", commands.COMMANDS, ids=lambda command: command.name)
def test_the_help_of_a_command_explains_it_with_examples_that_work(cli: CommandLine, command: Command) -> None:
    page = PAGES[command.name]
    answer = cli("help", *command.name.split())
    assert (answer.code, answer.err) == (0, "")
    assert page.text
    assert page.text in answer.out
    for example in (command.example, *page.examples):
        assert f"\n  {example}\n" in answer.out
        understood(example)
        found = commands.find(shlex.split(example)[1:])
        assert found is not None
        assert found[0].function == command.function  # `runs` is `runs list`
    for related in page.related:
        words = related.split()
        known = words[1] in TOPICS if words[0] == "help" and len(words) > 1 else related in commands.names()
        assert known, related
    assert all(action.help for action in commands.parser_of(command)._actions)
    assert max(map(len, answer.out.splitlines())) <= 120


def test_there_is_no_page_of_what_is_no_command() -> None:
    assert PAGES.keys() <= set(commands.names())


# --- topics ---


def test_help_alone_lists_the_topics(cli: CommandLine) -> None:
    answer = cli("help")
    assert answer.code == 0
    for name, topic in TOPICS.items():
        assert re.search(rf"^  {name}  +{re.escape(topic.summary)}$", answer.out, re.MULTILINE)
    assert [each["name"] for each in cli("help", "--json").json["topics"]] == list(TOPICS)


def test_no_topic_hides_a_command() -> None:
    assert TOPICS.keys() & {word for name in commands.names() for word in name.split()[:1]} == set()


def test_help_of_a_family_lists_its_commands(cli: CommandLine) -> None:
    assert [line.split()[1] for line in cli("help", "daemon").out.splitlines()] == ["start", "stop", "status", "logs"]


def test_help_on_nothing_that_is_known_says_what_may_have_been_meant(cli: CommandLine) -> None:
    answer = cli("help", "retries")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        'procclaw: no topic and no command "retries"; did you mean "retry"? (procclaw help lists the topics)\n'
    )
    assert cli("help", "list", "it").code == 2


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_one_screen(cli: CommandLine, name: str) -> None:
    lines = cli("help", name).out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 120
    assert cli("help", name, "--json").json["text"] == TOPICS[name].text


def blocks(name: str) -> list[str]:
    """The indented parts of a topic, without what indents them."""
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in BLOCK.findall(TOPICS[name].text + "\n")]


@pytest.mark.parametrize("name", TOPICS)
def test_the_examples_of_a_topic_are_good(cli: CommandLine, home: Path, name: str) -> None:
    (home / "jobs.yaml").write_text("jobs: {}\n")
    count = 0
    for block in blocks(name):
        lines = [line for line in block.splitlines() if line.strip()]
        if lines[0].startswith(("procclaw", "curl", "* * *")):
            for line in lines:
                if line.startswith("procclaw"):
                    understood(line)
                    count += 1
                if line.startswith('procclaw next "'):
                    words = shlex.split(line, comments=True)[1:]
                    assert len(cli(*words, "--json").json["times"]) > 0
            continue
        file = "jobs.yaml" if lines[0] == "jobs:" else "procclaw.yaml"
        (home / file).write_text(block)
        count += 1
    assert count > 0
    answer = cli("config", "--validate")
    assert (answer.code, answer.err) == (0, "")
