"""A home made for one file: what `procclaw up` keeps about a jobs.yaml, Procfile or compose file, wherever that lies.

It lies among the user's state under a name that follows from the file's path, so whoever comes next finds what runs.
Its configuration is ours and follows from the file and the terminal: jobs run in the file's folder unless they say
otherwise, and find what the terminal's environment holds, by name, so no value is written down. jobs.yaml is a link to
the file, or what that was converted to. What is the same already is left alone, so nothing is read or restarted for it.
"""

import json
import os
from hashlib import sha256

from procclaw.engine.files import prepare_home
from procclaw.system.specfile import CONFIG_FILE, JOBS_FILE

_LOOK_AGAIN_SECONDS = 5
"""A file that is linked to is not watched: this is how soon it is noticed to have been saved."""
_HASH_DIGITS = 8
_NOT_HANDED_ON = frozenset(
    {"_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}
)
"""What is about the terminal's shell itself, or about whoever started that as a service."""
_OWN_PREFIX = "PROCCLAW_"


def place_of(path: str) -> str:
    """The home that belongs to a file, whether it exists yet or not."""
    file = os.path.realpath(path)
    digest = sha256(os.fsencode(file)).hexdigest()[:_HASH_DIGITS]
    state = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored, says the specification it comes from.
    base = state if os.path.isabs(state) else os.path.expanduser("~/.local/state")
    name = os.path.basename(os.path.dirname(file)) or "root"
    return os.path.join(os.path.realpath(base), "procclaw", "up", f"{name}-{digest}")


def lay_out(home: str, file: str, jobs: str | None) -> None:
    """Make the home what the file says; `jobs` is the jobs.yaml it was converted to, None: it is one itself."""
    prepare_home(home)
    _put(os.path.join(home, CONFIG_FILE), _configuration(file))
    place = os.path.join(home, JOBS_FILE)
    if jobs is not None:
        _put(place, jobs)
    elif not os.path.islink(place) or os.readlink(place) != file:
        beside = f"{place}.new"
        if os.path.lexists(beside):
            os.unlink(beside)
        os.symlink(file, beside)
        os.replace(beside, place)


def _configuration(file: str) -> str:
    names = sorted(name for name in os.environ if _is_handed_on(name))
    found = {
        # A port of its own choice: the user's daemon has the usual one.
        "daemon": {"port": 0, "resync": _LOOK_AGAIN_SECONDS, "pass_env": names},
        "defaults": {"cwd": os.path.dirname(file)},
    }
    return f"# Written by procclaw up, each time it begins.\n{json.dumps(found, indent=1)}\n"


def _is_handed_on(name: str) -> bool:
    is_name = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return is_name and name not in _NOT_HANDED_ON and not name.startswith(_OWN_PREFIX)


def _put(path: str, text: str) -> None:
    if not os.path.islink(path) and _text_of(path) == text:
        return
    beside = f"{path}.new"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    os.replace(beside, path)


def _text_of(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None
