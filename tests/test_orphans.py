"""What becomes of processes whose parent has gone, under a first process that reaps and under one that does not."""

import subprocess
import sys

import pytest

from tests.driver import ROOT

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux has subreapers"),
]

LOOK = """\
from procclaw.system.processes.orphans import see_adoption
while (told := see_adoption({patience})) is None:
    pass  # the orphan was still alive, on a machine that hardly gets on
print(told)
"""
ADOPTER = """\
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
child = subprocess.Popen([sys.executable, "-c", {look!r}])
while {reaps} and os.wait()[0] != child.pid:
    pass
child.wait()
"""


def seen(*, reaps: bool, patience: float) -> str:
    """What is seen below a process that adopts orphans, which is what the first process of a container does."""
    script = ADOPTER.format(look=LOOK.format(patience=patience), reaps=reaps)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_one_that_reaps_is_seen_to() -> None:
    told = seen(reaps=True, patience=10)
    assert told.startswith("Adoption(pid=")
    assert "reaped_after_seconds=None" not in told


def test_one_that_does_not_is_named() -> None:
    told = seen(reaps=False, patience=0.3)
    assert told.startswith("Adoption(pid=")
    assert "name='python" in told
    assert told.endswith("reaped_after_seconds=None)\n")
