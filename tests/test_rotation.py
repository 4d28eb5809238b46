"""Rotation under real writers, and a rotator that is killed at every step it takes."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.model.log import Gone, Layout
from procclaw.model.spec import LogPolicy
from procclaw.system.output import Output
from procclaw.system.output.files import LogFiles
from procclaw.system.processes import frozen_writers
from tests.support import Reaper, wait_until

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parent.parent
LOG = "report.log"
KIB = 1024
MIB = 1024 * KIB

LINES = 1_000_000
LINE = b"%09d " + b"x" * 80 + b"\n"
LINE_LENGTH = 91

WRITER = f"""
import os
for number in range({LINES}):
    os.write(1, {LINE!r} % number)
"""

FOLLOWER = """
import sys, time
from contextlib import nullcontext
from hashlib import sha256
from procclaw.system.output import Output
directory, wanted = sys.argv[1], int(sys.argv[2])
follower = Output(directory, nullcontext).follow("report.log", 0)
digest = sha256()
while follower.position < wanted:
    for piece in follower.read_new():
        digest.update(piece)
    time.sleep(0.005)
print(follower.position, digest.hexdigest())
"""

# Dies in a process of its own at each call that changes the disk: before it and, where it writes, halfway through.
DYING_ROTATOR = """
import os, shutil, signal, sys
from contextlib import nullcontext
from itertools import count
from procclaw.model.spec import LogPolicy
from procclaw.system.output import Output, rotation

template, deaths, is_in_use = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
policy = LogPolicy(int(sys.argv[4]), int(sys.argv[5]), False)
NAMES = ("open", "write", "pwrite", "fsync", "replace", "rename", "unlink", "ftruncate")
FUNCTIONS = {name: getattr(os, name) for name in NAMES} | {"fsync": lambda fd: None}
fallocate = rotation._fallocate

def deadly(name, function):
    def call(*arguments):
        global still_to_live
        still_to_live -= 1
        if still_to_live < 0:
            if is_halfway:
                if "write" not in name:
                    os._exit(2)
                fd, data, *place = arguments
                function(fd, data[:len(data) // 2], *place)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

def died(directory):
    pid = os.fork()
    if pid == 0:
        for name, function in FUNCTIONS.items():
            setattr(os, name, deadly(name, function))
        rotation._fallocate = deadly("fallocate", fallocate)
        Output(directory, lambda path: nullcontext(True)).rotate("report.log", policy, is_in_use=is_in_use)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) in (0, 2), status
    return status

for number in count():
    for is_halfway in (False, True):
        still_to_live = number
        directory = os.path.join(deaths, "%03d%s" % (number, "-halfway" * is_halfway))
        shutil.copytree(template, directory)
        status = died(directory)
        if status == 0:
            sys.exit()
        if not os.WIFSIGNALED(status):
            shutil.rmtree(directory)
"""


def nobody_writes(path: str) -> AbstractContextManager[bool]:
    return nullcontext(enter_result=True)


def expected(start: int, end: int) -> bytes:
    """What the writer writes from one offset to another."""
    first = start // LINE_LENGTH
    last = (end + LINE_LENGTH - 1) // LINE_LENGTH
    content = b"".join([LINE % number for number in range(first, last)])
    return content[start - first * LINE_LENGTH : end - first * LINE_LENGTH]


def expected_digest() -> str:
    digest = sha256()
    for start in range(0, LINES, 10_000):
        digest.update(b"".join([LINE % number for number in range(start, start + 10_000)]))
    return digest.hexdigest()


def content(output: Output, start: int = 0, end: int | None = None) -> bytes:
    """All of it, which nothing may be missing from."""
    pieces = list(output.read(LOG, start, end))
    assert not [piece for piece in pieces if isinstance(piece, Gone)]
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def on_disk(directory: Path) -> bytes:
    """What `cat` of archives and log shows, our own lines left out."""
    files = [*sorted(directory.glob(f"{LOG}.*")), directory / LOG]
    lines = b"".join(path.read_bytes() for path in files if path.exists()).splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"-- report.log:"))


def refuse_to_collapse(directory: Path) -> None:
    """As on a filesystem that cannot take blocks off a file's front."""
    LogFiles(str(directory), LOG, set()).save(Layout(is_collapsible=False))


def collapses(directory: Path) -> bool:
    path = directory / LOG
    path.write_bytes(b"x\n" * 10_000)
    Output(str(directory), nobody_writes).rotate(LOG, LogPolicy(1, 0, timestamps=False), is_in_use=True)
    left = path.stat().st_size
    for path in directory.iterdir():
        path.unlink()
    return left > 0


def was_rotated(output: Output, policy: LogPolicy) -> bool:
    try:
        return output.rotate(LOG, policy, is_in_use=True)
    except ProcclawError as error:
        # On a busy machine a writer may take longer to stop than anybody waits for it.
        if "could not be held still" not in str(error):
            raise
        return False


@pytest.fixture(params=["collapsing", "truncating"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An empty log directory, where logs in use are rotated in one way or the other."""
    path = tmp_path / "logs"
    path.mkdir()
    if request.param == "truncating":
        refuse_to_collapse(path)
    elif not collapses(path):
        pytest.skip("the temporary directory's filesystem cannot collapse ranges")
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(path)]).returncode:
        pytest.skip("only root can make a small filesystem")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_million_lines_are_rotated_under_their_writer_and_followed_with_none_lost_or_doubled(
    directory: Path, reaper: Reaper
) -> None:
    output = Output(str(directory), frozen_writers)
    policy = LogPolicy(MIB, 1000, timestamps=False)
    argv = [sys.executable, "-c", FOLLOWER, str(directory), str(LINES * LINE_LENGTH)]
    follower = reaper.spawn(argv, stdout=subprocess.PIPE, cwd=ROOT)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    writer = reaper.spawn([sys.executable, "-c", WRITER], stdout=log)
    os.close(log)

    rotations = 0
    slices = []
    while writer.poll() is None:
        if was_rotated(output, policy):
            rotations += 1
            end = output.position(LOG)
            slices.append((max(0, end - 3000 - rotations), end))
        else:
            time.sleep(0.001)
    assert writer.returncode == 0
    assert rotations >= 3

    digest = sha256()
    for piece in output.read(LOG):
        assert isinstance(piece, bytes)
        digest.update(piece)
    assert output.position(LOG) == LINES * LINE_LENGTH
    assert digest.hexdigest() == expected_digest()
    for start, end in slices:
        assert content(output, start, end) == expected(start, end)
    last = output.tail(LOG, 5)
    assert content(output, last) == expected((LINES - 5) * LINE_LENGTH, LINES * LINE_LENGTH)

    told, _ = follower.communicate(timeout=30)
    assert told.decode().split() == [str(LINES * LINE_LENGTH), expected_digest()]


ONE_ARCHIVE = LogPolicy(32 * KIB, 3, timestamps=False)
SEVERAL_ARCHIVES = LogPolicy(8 * KIB, 6, timestamps=False)


@pytest.mark.parametrize(
    ("directory", "is_in_use", "policy", "surely_kept"),
    [
        pytest.param("collapsing", True, ONE_ARCHIVE, 1200, id="collapsing"),
        pytest.param("collapsing", True, SEVERAL_ARCHIVES, 500, id="collapsing into several archives"),
        pytest.param("truncating", True, ONE_ARCHIVE, 1200, id="truncating"),
        pytest.param("truncating", False, SEVERAL_ARCHIVES, 500, id="dividing what nobody writes"),
        pytest.param("collapsing", False, ONE_ARCHIVE, 1200, id="renaming"),
    ],
    indirect=["directory"],
)
def test_a_rotation_killed_at_any_step_loses_and_doubles_nothing(
    directory: Path, tmp_path: Path, reaper: Reaper, is_in_use: bool, policy: LogPolicy, surely_kept: int
) -> None:
    still = Output(str(directory), nobody_writes)
    written = b""
    for turn in range(4):
        more = expected(len(written), len(written) + 400 * LINE_LENGTH)
        with open(directory / LOG, "ab") as log:
            log.write(more)
        written += more
        assert turn == 3 or still.rotate(LOG, policy, is_in_use=True)
    deaths = tmp_path / "deaths"
    argv = [sys.executable, "-c", DYING_ROTATOR, str(directory), str(deaths), str(is_in_use)]
    argv += [str(policy.max_bytes), str(policy.rotate)]
    assert reaper.spawn(argv, cwd=ROOT).wait(timeout=60) == 0
    ends = sorted(deaths.iterdir())
    assert len(ends) >= 10

    wanted = written[-surely_kept * LINE_LENGTH :]
    for death in ends:
        # What is appended after the death may make the file longer than it was, or leave it shorter.
        for grown in (0, 500):
            copy = tmp_path / f"{death.name}-{grown}"
            shutil.copytree(death, copy)
            more = expected(len(written), len(written) + grown * LINE_LENGTH)
            assert_nothing_lost_or_doubled(copy, wanted, more, len(written + more), policy)
            shutil.rmtree(copy)


def assert_nothing_lost_or_doubled(death: Path, wanted: bytes, more: bytes, end: int, policy: LogPolicy) -> None:
    """To a reader who finds it so, to one after the writers went on, after recovery, and after further rotation."""
    assert kept(death).endswith(wanted), death
    with open(death / LOG, "ab") as log:
        log.write(more)
    assert kept(death).endswith(wanted + more), death
    still = Output(str(death), nobody_writes)
    assert still.position(LOG) == end
    assert kept(death).endswith(wanted + more), death
    while still.rotate(LOG, policy, is_in_use=True):
        pass
    shown = kept(death)
    assert shown == expected(end - len(shown), end), death
    assert on_disk(death) == shown, death
    assert still.position(LOG) == end


def kept(death: Path) -> bytes:
    """What a reader with no knowledge but the files sees, behind what retention took."""
    pieces = list(Output(str(death), nobody_writes).read(LOG))
    if pieces and isinstance(pieces[0], Gone):
        pieces = pieces[1:]
    shown = [piece for piece in pieces if isinstance(piece, bytes)]
    assert len(shown) == len(pieces), (death, pieces)
    return b"".join(shown)


def test_a_full_disk_stops_rotation_and_loses_nothing(small_disk: Path) -> None:
    output = Output(str(small_disk), nobody_writes)
    written = expected(0, 200 * KIB)
    (small_disk / LOG).write_bytes(written)
    with pytest.raises(DiskFull, match=r"report\.log: it could not be rotated: No space left on device"):
        output.rotate(LOG, LogPolicy(32 * KIB, 9, timestamps=False), is_in_use=True)
    assert list(small_disk.glob(f"{LOG}.*")) == []
    assert content(output) == written
    filled = small_disk / "filled"
    with open(filled, "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    assert output.position(LOG) == len(written)
    assert content(output) == written
    filled.unlink()
    assert output.rotate(LOG, LogPolicy(32 * KIB, 1, timestamps=False), is_in_use=True)
    assert output.position(LOG) == len(written)


def test_a_job_whose_log_is_rotated_is_going_again_afterwards(directory: Path, reaper: Reaper) -> None:
    output = Output(str(directory), frozen_writers)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    reaper.spawn(["sh", "-c", "while echo some line or other; do :; done"], stdout=log)
    os.close(log)
    policy = LogPolicy(64 * KIB, 2, timestamps=False)
    wait_until(lambda: was_rotated(output, policy), 10, lambda: os.listdir(directory))
    end = output.position(LOG)
    wait_until(lambda: output.position(LOG) > end + 64 * KIB, 10, lambda: output.position(LOG))
    assert set(content(output, end).split(b"\n")[1:-1]) == {b"some line or other"}
