"""The shim: the few lines of POSIX sh that stay beside every job and write down how it ended.

It runs under dash, bash, busybox and mksh. What it relies on, and why each line is as it is:

- A trap with an *action* survives a signal sent to the whole group and is back at the default in children, whereas an
  ignored signal would stay ignored in the job. The seven signals that a job may be stopped with are remembered besides:
  one that comes after the traps are set but before the job exists ends the job then. (Between the fork and the child's
  being back at its defaults a signal is lost in every shell; `signals` waits for that moment to pass.)
- The pid is written before anything else that could fail, so "something is written" means "was started".
- The shell's own remarks ("Terminated") must not reach the job's log: stderr moves to 4 and comes back for the job.
- The manager keeps its own files to itself with a umask of 077; a job gets the one it is to have, whoever starts it.
- OLDPWD would tell the job where the manager happened to stand; CDPATH could send `cd` elsewhere.
- The job runs in a *foreground subshell*: `cmd &` would start it with SIGINT ignored, and `cmd 3>&-` without a subshell
  makes dash keep a copy of the descriptor that the job inherits.
- `||` keeps a shell that was told to stop at errors (SHELLOPTS in the environment) from doing so.
- The subshell becomes the job, so its pid is the one people know the job by; /proc/self tells it to builtins alone, and
  where there is none the record goes without. `$$` would be the shim's.
- All is written by builtins into blocks that exist: no fork, no new file, so a full disk cannot lose it. `printf` would
  not do: mksh has none of its own.
- Where the spawner can give it no descriptor but the standard three (`spawning`), the record comes as stdin.
- A job's lock is a descriptor that nobody here mentions, so shim, job and all its children inherit it.
"""

import re
import signal
from collections.abc import Sequence

SHELL = "/bin/sh"
NAME = "procclaw-shim"
"""What the shim calls itself: the fourth of its arguments, and of its subshell's until that has become the job."""
RECORD_FD = 3

_UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}
_HARMLESS = {
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGURG,
    signal.SIGWINCH,
}
"""Their default is to be ignored or, in a session without a terminal, to do nothing."""
_STOPPING = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTERM,
)
_HELD = sorted(signal.valid_signals() - _UNCATCHABLE - _HARMLESS - set(_STOPPING))

_TRAPS = "\n".join(
    [
        f"trap : {' '.join(str(int(number)) for number in _HELD)}",
        *(f"trap procclaw_told={128 + number} {int(number)}" for number in _STOPPING),
    ]
)

SHIM = f"""\
procclaw_told= procclaw_code=0
{_TRAPS}
echo "$$" >&3
exec 4>&2 2>/dev/null
if CDPATH= cd -- "$1" 2>&4; then
unset OLDPWD
[ -z "$2" ] || ulimit -Sn "$2"
umask "$3"
shift 3
( [ -z "$procclaw_told" ] || exit "$procclaw_told"
[ ! -d /proc/self/task ] || for procclaw_job in /proc/self/task/*; do echo "job ${{procclaw_job##*/}}" >&3; done
exec 2>&4 3>&- 4>&-; exec "$@" ) || procclaw_code=$?
case $procclaw_code in ?) procclaw_code=00$procclaw_code;; ??) procclaw_code=0$procclaw_code;; esac
{{ echo "$procclaw_code"; times; }} >&3
else
echo cwd >&3
fi
"""

_WITH_RECORD_AS_STDIN = f"exec {RECORD_FD}<&0 </dev/null\n{SHIM}"


def shim_argv(
    cwd: str, soft_descriptors: str, umask: int, argv: Sequence[str], *, is_record_stdin: bool = False
) -> list[str]:
    """What to spawn so that `argv` runs under the shim; empty `soft_descriptors` leave the limit as it is inherited."""
    program = _WITH_RECORD_AS_STDIN if is_record_stdin else SHIM
    return [SHELL, "-c", program, NAME, cwd, soft_descriptors, f"{umask:04o}", *argv]


_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,-]+(?:[ \t]+[A-Za-z0-9_./:@%+=,-]+)*")
_NAMED_BY_SHELLS = (
    " . : alias autoload bg bind break builtin caller case cd chdir command compgen complete compopt continue coproc "
    " declare dirs disown do done echo elif else enable end esac eval exec exit export false fc fg fi float for "
    " foreach function functions getconf getopts global hash help hist history if in integer jobs kill let limit local "
    " log logout mapfile nameref nocorrect noglob popd print printf pushd pwd r read readarray readonly rename repeat "
    " return select set setopt shift shopt source stop suspend test then time times trap true type typeset ulimit "
    " umask unalias unfunction unlimit unset unsetopt until vared wait whence where which while "
)
"""Reserved words and builtins of every common shell, less those that are certain to be programs too."""


def shell_argv(cmd: str) -> tuple[str, ...]:
    """The argv of a job given as shell text: a shell, or the command itself where a shell would add nothing.

    dash does not `exec` the last command it is given, so a shell between shim and job would stay for as long as the job
    runs. Plain words without quotes, expansions or operators mean the same to `exec` as to any shell.
    """
    text = cmd.strip(" \t\n")
    if _PLAIN.fullmatch(text):
        words = tuple(text.split())
        if f" {words[0]} " not in _NAMED_BY_SHELLS and "=" not in words[0] and words[0][0] not in "-+%":
            return words
    return (SHELL, "-c", cmd)


_FIRST = re.compile(r"\s*(?P<set>(?:[A-Za-z_]\w*=[^\s;|&<>()]*\s+)*)(?P<word>[A-Za-z0-9_./+@:,-]+)(?=[\s;|&<>]|$)")


def first_program(cmd: str) -> str | None:
    """The program that shell text begins with; None where that is no plain word, is the shell's own, or has a PATH of
    its own.
    """
    found = _FIRST.match(cmd.removeprefix("exec "))
    if found is None or "PATH=" in found["set"] or f" {found['word']} " in _NAMED_BY_SHELLS:
        return None
    return found["word"]
