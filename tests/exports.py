"""Homes, and what each is in other tools' words: `tests/data/exports/HOME/jobs.yaml`, beside it `FORMAT.expected`.

What is expected are the files, then a line with `---`, then the report, for a home that is called /home/ada/.procclaw.
`python -m tests.exports` shows what has changed and, with `--accept`, makes it what is expected.
"""

import os
import subprocess
import sys
from pathlib import Path

from procclaw.interface.home_commands import EXPORT_FORMATS
from tests.imports import review

ROOT = Path(__file__).parent / "data" / "exports"
_CALLED = "/home/ada/.procclaw"
_OPTIONS = {"kubernetes": ("--image", "registry.example/app:1.4", "--namespace", "shop")}
"""Beside what is exported to."""


def cases() -> list[str]:
    """As HOME/FORMAT."""
    return sorted(f"{home.parent.name}/{kind}" for home in ROOT.glob("*/jobs.yaml") for kind in EXPORT_FORMATS)


def expectation(case: str) -> Path:
    return ROOT / f"{case}.expected"


def exported(case: str) -> str:
    """What `procclaw export` prints for it, both ways."""
    home, kind = case.split("/")
    words = [sys.executable, "-m", "procclaw", "--home", str(ROOT / home), "export", kind, *_OPTIONS.get(kind, ())]
    done = subprocess.run(words, env=os.environ | {"TZ": "UTC"}, capture_output=True, text=True, timeout=60)
    text = f"{done.stdout}---\n{done.stderr}exit code {done.returncode}\n"
    return text.replace(str(ROOT / home), _CALLED)


if __name__ == "__main__":
    raise SystemExit(review(__doc__ or "", {case: expectation(case) for case in cases()}, exported))
