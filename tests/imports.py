"""Real-world files of other tools, and what each becomes: `tests/data/imports/KIND/FILE`, beside it `FILE.expected`.

A kind is converted as if the user had named it. What is expected is the jobs.yaml, then a line with `---`, then the
report. `python -m tests.imports` shows what has changed and, with `--accept`, makes it what is expected.
"""

import argparse
import difflib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent / "data" / "imports"
_SEPARATOR = "---\n"
_FOLDER = "/srv/app"
"""Where a user would have the inputs; what is expected must not depend on where the tests lie."""
_COMMAND = f"import os; os.getcwd = lambda: {_FOLDER!r}; from procclaw.__main__ import main; raise SystemExit(main())"


def inputs() -> list[Path]:
    """Files that are converted by themselves: those that others include lie in a folder of their own, or are hidden."""
    found = (path for folder in ROOT.iterdir() for path in folder.glob("[!.]*"))
    return sorted(path for path in found if path.is_file() and not path.name.endswith(".expected"))


def is_answerable(path: Path) -> bool:
    """Whether it can be converted here: what is a program needs node."""
    return path.suffix not in (".js", ".mjs") or shutil.which("node") is not None


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def converted(path: Path) -> str:
    """What `procclaw import` prints for it, both ways, as a user in that folder sees it."""
    words = [
        sys.executable,
        "-c",
        _COMMAND,
        "--home",
        "/nonexistent",
        "import",
        path.name,
        "--from",
        path.parent.name,
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT.parents[2]), "TZ": "UTC"}
    done = subprocess.run(words, cwd=path.parent, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + _SEPARATOR + done.stderr + f"exit code {done.returncode}\n"


def expected(path: Path) -> str:
    beside = path.with_name(path.name + ".expected")
    return beside.read_text() if beside.exists() else ""


def main() -> int:
    return review(__doc__ or "", {name_of(path): path.with_name(path.name + ".expected") for path in inputs()}, _now)


def _now(name: str) -> str:
    return converted(ROOT / name)


def review(about: str, expectations: Mapping[str, Path], now_of: Callable[[str], str]) -> int:
    """Shows what has changed for each name; `expectations` are the files that say what was expected."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--accept", action="store_true", help="what is there is what is expected from now on")
    parser.add_argument("names", nargs="*", help="only files whose name holds one of these")
    chosen = parser.parse_args()
    changed = 0
    for name, beside in expectations.items():
        if chosen.names and not any(each in name for each in chosen.names):
            continue
        before, now = beside.read_text() if beside.exists() else "", now_of(name)
        if before == now:
            continue
        changed += 1
        sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), now.splitlines(True), name, "now"))
        if chosen.accept:
            beside.write_text(now)
    return 1 if changed and not chosen.accept else 0


if __name__ == "__main__":
    raise SystemExit(main())
