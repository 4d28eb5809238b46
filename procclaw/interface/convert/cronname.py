"""What a person would call a line of a crontab: its program or script, without what it is wrapped in or prepared by."""

import re
import shlex
from collections.abc import Iterator

_VALUED: dict[str, frozenset[str]] = {
    "env": frozenset({"-u", "-C", "-S"}),
    "exec": frozenset({"-a"}),
    "nice": frozenset({"-n"}),
    "ionice": frozenset({"-c", "-n", "-p"}),
    "nohup": frozenset(),
    "setsid": frozenset(),
    "sudo": frozenset({"-u", "-g", "-h", "-p", "-C", "-D"}),
    "doas": frozenset({"-u"}),
    "su": frozenset({"-s", "-g"}),
    "runuser": frozenset({"-u", "-g", "-s"}),
    "time": frozenset({"-f", "-o"}),
    "timeout": frozenset({"-s", "-k"}),
    "flock": frozenset({"-w", "-E"}),
    "chronic": frozenset(),
    "cronic": frozenset(),
    "systemd-cat": frozenset({"-t", "-p"}),
    "docker": frozenset({"-u", "-e", "-w", "-f", "-v"}),
}
"""Programs that start another one, and their options that a value follows."""
_NAMED_FIRST = frozenset({"flock", "su"})
"""A file or an account stands before what they start."""
_OF_DOCKER = frozenset({"compose", "container", "exec", "run"})
_INTERPRETERS = re.compile(
    r"(ba|da|z|k|c|tc|fi)?sh|(python|ruby|perl|php|node|lua|Rscript|java|bash)[\d.]*|bundle|npx|npm|yarn|uv|poetry"
)
_BETWEEN = frozenset({";", ";;", "&&", "||", "|", "|&", "&", "(", ")"})
_KEYWORDS = frozenset({"{", "}", "if", "then", "elif", "else", "while", "until", "do", "!"})
"""A command follows them."""
_NAMELESS = frozenset({
    "", "cd", "[", "[[", "test", ".", "source", "export", "set", "sleep", "umask", "true", ":", "fi", "done", "for",
    "case", "esac", "select", "exit", "ulimit", "read", "wait",
})  # fmt: skip
"""Commands that only prepare for another one, and words that begin none."""
_ENDINGS = re.compile(r"\.(sh|bash|py|pl|rb|php|js)$")


def name_for(command: str) -> str:
    """Never empty; not an id as yet."""
    words = _words(command)
    for part in _parts(words):
        if name := _name_in(part):
            return name
    first = next((base for word in words if (base := _base(word)) and base[0].isalpha()), "")
    return first or "job"


def _words(command: str) -> list[str]:
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:
        return command.split()


def _parts(words: list[str]) -> Iterator[list[str]]:
    """The words of each simple command that could name it."""
    part: list[str] = []
    for word in [*words, ";"]:
        if word in _BETWEEN:
            if part and part[0] not in _NAMELESS:
                yield part
            part = []
        elif part or word not in _KEYWORDS:
            part.append(word)


def _name_in(part: list[str]) -> str:
    """Empty: none."""
    wrapper = ""
    is_named = False
    is_shell = False
    before = ""
    for word in part:
        base = _base(word)
        if is_shell and re.fullmatch(r"-\w*c", before):
            return name_for(word)
        is_value = before in _VALUED.get(wrapper, frozenset())
        before = word
        if is_value or not base or not re.match(r"[A-Za-z/.~_]", word) or "=" in word:
            continue
        if wrapper in _NAMED_FIRST and not is_named:
            is_named = is_shell = True
        elif wrapper == "docker" and base in _OF_DOCKER:
            continue
        elif base in _VALUED:
            wrapper, is_named = base, False
        elif _INTERPRETERS.fullmatch(base):
            wrapper, is_shell = "", base.endswith("sh")
        else:
            return _ENDINGS.sub("", base)
    return ""


def _base(word: str) -> str:
    return word.rstrip("/").rsplit("/", 1)[-1]
