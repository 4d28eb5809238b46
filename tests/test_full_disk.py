"""A full disk loses no exit code and keeps no job from being stopped; it only keeps jobs from being started, and says so."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from procclaw.model.state import Reason
from tests.driver import NO_NOTE, Driver, Job, driving, is_alive
from tests.support import Reaper

pytestmark = pytest.mark.real

MEGABYTES = 16
"""Twice the reserve."""
NO_RETRY = {"retry": {"enabled": False}}


@pytest.fixture
def disk(home: Path, reaper: Reaper) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a small tmpfs has to be mounted, and nobody else may")
    place = home / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=700", "none", str(place)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield place
    reaper.end()
    subprocess.run(["umount", str(place)], check=True)
