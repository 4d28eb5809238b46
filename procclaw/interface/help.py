"""What explains: `procclaw help`, and what a command's `--help` says besides its options. Loaded only when read."""

from argparse import Namespace
from typing import TYPE_CHECKING

from procclaw.interface import commands
from procclaw.interface.command import Command
from procclaw.interface.manual import PAGES, Page
from procclaw.interface.topics import TOPICS
from procclaw.model.errors import UsageError

if TYPE_CHECKING:
    from procclaw.interface.cli import Context


def show(context: "Context", options: Namespace) -> int:
    words: list[str] = options.words
    if not words:
        return _list_topics(context)
    if len(words) == 1 and words[0] in TOPICS:
        return _show_topic(context, words[0])
    found = commands.find(words)
    if found is None and words[0] in commands.FAMILIES and len(words) == 1:
        context.console.say("\n".join(_family(words[0])))
        return 0
    if found is None or found[1] != len(words):
        raise _unknown(" ".join(words))
    context.console.say(commands.parser_of(found[0]).format_help().rstrip("\n"))
    return 0


def _list_topics(context: "Context") -> int:
    if context.console.is_json:
        context.console.json({"topics": [{"name": name, "summary": each.summary} for name, each in TOPICS.items()]})
        return 0
    width = max(map(len, TOPICS))
    context.console.say("procclaw help TOPIC explains one of:\n")
    for name, topic in TOPICS.items():
        context.console.say(f"  {name.ljust(width)}  {topic.summary}")
    context.console.say("\nprocclaw --help lists the commands, procclaw help COMMAND explains one of them.")
    return 0


def _show_topic(context: "Context", name: str) -> int:
    topic = TOPICS[name]
    if context.console.is_json:
        context.console.json({"name": name, "summary": topic.summary, "text": topic.text})
    else:
        context.console.say(f"{name}: {topic.summary}\n\n{topic.text}")
    return 0


def _family(word: str) -> list[str]:
    members = [each for each in commands.COMMANDS if each.name.startswith(f"{word} ")]
    width = max(len(each.name) for each in members)
    return [f"  {each.name.ljust(width)}  {each.summary}" for each in members]


def _unknown(text: str) -> UsageError:
    from difflib import get_close_matches

    close = get_close_matches(text, [*TOPICS, *commands.names()], n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return UsageError(f'no topic and no command "{text}"{hint} (procclaw help lists the topics)')


def description(command: Command) -> str:
    summary = command.summary[0].upper() + command.summary[1:] + "."
    return f"{summary}\n\n{_page(command).text}".rstrip()


def ending(command: Command) -> str:
    page = _page(command)
    examples = (command.example, *page.examples)
    lines = ["example:" if len(examples) == 1 else "examples:", *(f"  {each}" for each in examples)]
    if page.exits:
        told = [line.split(maxsplit=1) for line in page.exits]
        width = max(len(code) for code, _ in told)
        lines += ["", "exit codes:", *(f"  {code.ljust(width)}  {meaning}" for code, meaning in told)]
    if page.related:
        lines += ["", f"see also: {', '.join(f'procclaw {each}' for each in page.related)}"]
    return "\n".join(lines)


def _page(command: Command) -> Page:
    # A command without a page still explains its options; a test demands a page for each.
    return PAGES.get(command.name, Page(""))
