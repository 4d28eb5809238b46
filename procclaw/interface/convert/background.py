"""Shell commands that leave something running when they end, as cron and supervisord let it.

Here what a process leaves behind is stopped with its end, unless its job says `leftovers: keep`. So a command has to be
looked at as the shell would read it, as far as that tells: what a program does by itself nobody can see in its name.
"""

import re

LEAVES_IT = {"leftovers": "keep"}
"""Of `shutdown`."""
SAYS = (
    "what it leaves in the background goes on when it ends (leftovers: keep), and nobody looks after it; in the "
    "foreground it would be a job that is seen, restarted and stopped"
)
_PIECE = re.compile(r"""\\.|'[^']*'?|"(?:\\.|[^"\\])*"?|(?<![^\s;&|()])\#[^\n]*|[^\\'"\#]+|.""", re.DOTALL)
_OF_A_SHELL = re.compile(r"\s-[A-Za-z]*c\s+$")
_ASYNCHRONOUS = re.compile(r"(?<![&<>|])&(?![&>])")
_IN_DASH = re.compile(r"(?<![&<>|])&(?![&])")
"""It takes `&> FILE` for a `&` and a redirection."""
_WAITS = re.compile(r"(?:^|[\s;&({])wait\b")
_FORKS = re.compile(
    r"(?:^|[\s;&|(/])(?:setsid\s+(?:-\w+\s+)*(?:-\w*f|--fork)|screen\s(?:[^;|&]*\s)?-(?:\w*[dD]m\w*|d\s+-m)|daemonize"
    r"|tmux\s(?:[^;|&]*\s)?new(?:-session)?\s(?:[^;|&]*\s)?-\w*d|start-stop-daemon\s(?:[^;|]*\s)?(?:-b|--background))\b"
)


def is_left_behind(command: str, shell: str = "sh") -> bool:
    """Whether the command ends while something that it started goes on."""
    plain = ""
    for piece in _PIECE.findall(command):
        if piece[0] in "'\"":
            if _OF_A_SHELL.search(plain) and is_left_behind(piece[1:-1], shell):
                return True
            plain += "_"
        elif piece[0] not in "\\#":
            plain += piece
        else:
            plain += "_" if piece[0] == "\\" else ""
    found = list((_IN_DASH if shell.rsplit("/", 1)[-1] in ("", "sh", "dash") else _ASYNCHRONOUS).finditer(plain))
    if found and not _WAITS.search(plain, found[-1].end()):
        return True
    return _FORKS.search(plain) is not None
