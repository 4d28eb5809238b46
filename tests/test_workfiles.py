"""The files that an attempt and ProcClaw leave for each other, also where the other side means no good."""

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procclaw.engine import world
from procclaw.model.errors import DiskFull, ProcclawError
from procclaw.system.workfiles import WorkFiles

ATTEMPT = "k3v9abcdefgh.1"
ROOT = Path(__file__).resolve().parent.parent
MEBIBYTE = 1024 * 1024

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")


@pytest.fixture
def place() -> Iterator[Path]:
    """Where other accounts can get to, unlike pytest's own directories."""
    path = Path(tempfile.mkdtemp(prefix="procclaw-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def files(place: Path) -> WorkFiles:
    (place / "home").mkdir(mode=0o700)
    files = WorkFiles(str(place / "home"), str(place / "run"))
    # What the engine is written against.
    as_seen_by_the_engine: world.WorkFiles = files
    assert as_seen_by_the_engine is files
    return files


@pytest.fixture
def work(files: WorkFiles) -> Path:
    """An attempt's directory."""
    return Path(files.make(ATTEMPT, None, {}))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def as_nobody(program: str) -> str:
    """What a Python program prints that runs as the account nobody."""
    # Imported before: what this Python consists of need not be readable for all.
    become = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    program = f"import os; from procclaw.system.workfiles import WorkFiles; {become}\n{program}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_attempts_directory_and_files_are_private(files: WorkFiles, place: Path) -> None:
    umask = os.umask(0)
    try:
        work = Path(files.make(ATTEMPT, None, {"payload.json": b"{}"}))
    finally:
        os.umask(umask)
    assert work == place / "home" / "work" / ATTEMPT
    assert (mode(work.parent), mode(work), mode(work / "payload.json")) == (0o700, 0o700, 0o600)
    assert (work / "payload.json").read_bytes() == b"{}"
    assert os.listdir(work) == ["payload.json"]


def test_a_directory_that_is_there_is_used_again(files: WorkFiles) -> None:
    work = Path(files.make(ATTEMPT, None, {"payload.json": b"1", "input.json": b"2"}))
    (work / ".payload.json.draft").write_bytes(b"left by one that died")
    assert files.make(ATTEMPT, None, {"payload.json": b"3"}) == str(work)
    assert {path.name: path.read_bytes() for path in work.iterdir()} == {"payload.json": b"3", "input.json": b"2"}


def test_our_own_account_is_no_other(files: WorkFiles, place: Path) -> None:
    for user in (pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid())):
        assert files.make(ATTEMPT, user, {}) == str(place / "home" / "work" / ATTEMPT)


def test_an_account_that_does_not_exist_is_named(files: WorkFiles) -> None:
    for user in ("no-such-account", "4294967294", "99999999999999999999", "-7"):
        with pytest.raises(ProcclawError, match=f'user "{user}": no such account'):
            files.make(ATTEMPT, user, {})


@as_root
def test_only_root_can_make_files_for_another_account(files: WorkFiles) -> None:
    said = as_nobody("""
try:
    WorkFiles("/nowhere", "/nowhere").make("a.1", "root", {})
except Exception as error:
    print(type(error).__name__, error)
""")
    assert said == 'ProcclawError user "root": only root can give files to somebody else, and we are user 65534\n'


@as_root
@pytest.mark.parametrize("user", ["nobody", "65534"])
def test_another_account_reaches_its_own_files_and_finds_no_others(files: WorkFiles, place: Path, user: str) -> None:
    work = Path(files.make(ATTEMPT, user, {"payload.json": b"{}"}))
    other = Path(files.make("other2abcdef.1", "root", {"payload.json": b"{}"}))
    assert work.parent.parent == place / "run"
    assert mode(place / "run") == 0o755
    assert mode(work.parent) == 0o711
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (work, work / "payload.json")} == {(65534, 65534)}
    assert (mode(work), mode(work / "payload.json")) == (0o700, 0o600)
    said = as_nobody(f"""
print(open("{work}/payload.json").read())
open("{work}/result.json", "w").write("[1]")
for path in ("{work.parent}", "{other}"):
    try:
        print(os.listdir(path))
    except PermissionError:
        print("denied")
""")
    assert said.split() == ["{}", "denied", "denied"]
    assert files.result(ATTEMPT) == ("[1]", "")
    assert files.attempts() == (ATTEMPT, "other2abcdef.1")
    assert files.remove(ATTEMPT)
    assert not work.exists()


@as_root
def test_homes_of_root_do_not_meet_in_the_shared_place(files: WorkFiles, place: Path) -> None:
    files.make(ATTEMPT, "nobody", {})
    assert WorkFiles(str(place / "other"), str(place / "run")).attempts() == ()


@as_root
def test_a_shared_place_that_somebody_else_has_made_is_refused(files: WorkFiles, place: Path) -> None:
    (place / "run").mkdir()
    os.chown(place / "run", 65534, 65534)
    with pytest.raises(ProcclawError, match="not a directory of root's"):
        files.make(ATTEMPT, "nobody", {})
    (place / "run").rmdir()
    (place / "run").symlink_to(place / "home")
    with pytest.raises(ProcclawError, match="not a directory of root's"):
        files.make(ATTEMPT, "nobody", {})


@as_root
def test_what_an_account_has_put_in_the_way_is_replaced_and_not_followed(files: WorkFiles, place: Path) -> None:
    work = Path(files.make(ATTEMPT, "nobody", {}))
    (place / "precious").write_text("precious")
    for name in ("payload.json", ".payload.json.draft"):
        (work / name).symlink_to(place / "precious")
    files.make(ATTEMPT, "nobody", {"payload.json": b"{}"})
    assert (place / "precious").read_text() == "precious"
    assert (place / "precious").stat().st_uid == 0
    assert (work / "payload.json").read_bytes() == b"{}"


def test_an_attempts_directory_that_is_a_link_is_not_used(files: WorkFiles, place: Path) -> None:
    (place / "home" / "work").mkdir()
    (place / "elsewhere").mkdir()
    (place / "home" / "work" / ATTEMPT).symlink_to(place / "elsewhere")
    with pytest.raises(ProcclawError, match="work directory of attempt"):
        files.make(ATTEMPT, None, {"payload.json": b"{}"})
    assert files.remove(ATTEMPT)
    assert os.listdir(place / "elsewhere") == []
    assert files.attempts() == ()


def test_no_result_is_no_complaint(files: WorkFiles, work: Path) -> None:
    assert files.result(ATTEMPT) == (None, "")
    assert files.result("neverwasthere.1") == (None, "")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("null", "null"),
        ('{\n  "b": [1, 2.50, true],\n  "a": "ä\\u00e4"\n}\n', '{"b":[1,2.5,true],"a":"ää"}'),
        ('"\\ud83d\\ude00 \\u0000"', '"😀 \\u0000"'),
        ("[" * 100 + "]" * 100, "[" * 100 + "]" * 100),
        (" " * (MEBIBYTE - 1) + "7", "7"),
    ],
)
def test_a_result_is_kept_without_needless_space(files: WorkFiles, work: Path, written: str, kept: str) -> None:
    (work / "result.json").write_text(written, encoding="utf-8")
    assert files.result(ATTEMPT) == (kept, "")
    assert json.loads(kept) == json.loads(written)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{'a': 1}", "is not JSON: Expecting property name"),
        (b"1 2", "is not JSON: Extra data"),
        (b"NaN", "is not JSON: NaN is not a JSON number"),
        (b"[-Infinity]", "is not JSON: -Infinity is not a JSON number"),
        (b"1e999", "is not JSON: Out of range float values"),
        (b"9" * 5000, "is not JSON: Exceeds the limit"),
        (b'"\xff"', "is not UTF-8 text"),
        (b'"\\ud800"', "holds half a surrogate pair"),
        (b"[" * 500_000 + b"]" * 500_000, "is nested too deeply"),
        (b"[" * 101 + b"]" * 101, "is nested too deeply"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "is nested too deeply"),
        (b" " * MEBIBYTE + b"7", "is larger than 1048576 bytes"),
    ],
)
def test_a_result_that_cannot_be_kept_is_said_to_be_so(files: WorkFiles, work: Path, written: bytes, why: str) -> None:
    (work / "result.json").write_bytes(written)
    text, problem = files.result(ATTEMPT)
    assert text is None
    assert problem.startswith(f"result.json {why}")


def make_link(path: Path) -> None:
    path.with_name("target").write_text("1")
    path.symlink_to("target")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(make_link, "is a symbolic link", id="a link"),
        pytest.param(make_loop, "is a symbolic link", id="a link to itself"),
        pytest.param(os.mkfifo, "is not a regular file", id="a pipe that nobody writes to"),
        pytest.param(os.mkdir, "is not a regular file", id="a directory"),
    ],
)
def test_a_result_that_is_no_file_is_neither_followed_nor_waited_for(
    files: WorkFiles, work: Path, make: Callable[[Path], None], why: str
) -> None:
    make(work / "result.json")
    assert files.result(ATTEMPT) == (None, f"result.json {why}")


@as_root
def test_a_result_that_is_another_name_of_somebody_elses_file_is_not_read(files: WorkFiles, place: Path) -> None:
    work = Path(files.make(ATTEMPT, "nobody", {}))
    (place / "secret").write_text('"secret"')
    os.link(place / "secret", work / "result.json")
    assert files.result(ATTEMPT) == (None, "result.json belongs to another account")


def test_removing_what_is_not_there_is_fine(files: WorkFiles) -> None:
    assert files.attempts() == ()
    assert files.remove(ATTEMPT)


def test_removing_follows_no_links(files: WorkFiles, work: Path, place: Path) -> None:
    (place / "precious").mkdir()
    (place / "precious" / "file").touch()
    (work / "directory").symlink_to(place / "precious")
    (work / "deep" / "deeper").mkdir(parents=True)
    (work / "deep" / "deeper" / "file").symlink_to(place / "precious" / "file")
    (work / "deep" / "deeper" / "up").symlink_to("..")
    os.mkfifo(work / "deep" / "pipe")
    assert files.remove(ATTEMPT)
    assert not work.exists()
    assert (place / "precious" / "file").exists()


def test_a_directory_of_any_depth_is_removed(files: WorkFiles, work: Path) -> None:
    # Deeper than a recursion may go and than most limits on descriptors.
    below = os.open(work, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("a", dir_fd=below)
        deeper = os.open("a", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    assert files.remove(ATTEMPT) or files.remove(ATTEMPT)
    assert not work.exists()


def test_a_huge_directory_is_removed_in_several_goes(files: WorkFiles, work: Path) -> None:
    for directory in ("", "one", "two"):
        (work / directory).mkdir(exist_ok=True)
        for number in range(1500):
            os.mknod(work / directory / f"{number}")
    goes = 0
    while not files.remove(ATTEMPT):
        goes += 1
        assert files.attempts() == (ATTEMPT,)
    assert 2 <= goes <= 4
    assert not work.exists()


@as_root
def test_directories_that_are_not_writable_are_removed_without_being_root(place: Path) -> None:
    (place / "work").mkdir()
    os.chown(place / "work", 65534, 65534)
    said = as_nobody(f"""
files = WorkFiles("{place}", "{place}/run")
work = files.make("a.1", None, {{}})
os.makedirs(work + "/one/two/three")
open(work + "/one/two/file", "w").close()
for path in ("/one/two/three", "/one/two", "/one", ""):
    os.chmod(work + path, 0o000 if path else 0o500)
print(files.remove("a.1"), os.listdir("{place}/work"))
""")
    assert said == "True []\n"


@as_root
def test_what_cannot_be_removed_is_said_to_be_left(files: WorkFiles, place: Path) -> None:
    (place / "theirs" / "work" / ATTEMPT).mkdir(parents=True)
    said = as_nobody(f"""
print(WorkFiles("{place}/theirs", "{place}/run").remove("{ATTEMPT}"))
""")
    assert said == "False\n"


def test_only_directories_of_attempts_are_listed(files: WorkFiles, work: Path) -> None:
    (work.parent / "notes.txt").touch()
    (work.parent / "k3v9abcdefgh.12").mkdir()
    assert files.attempts() == (ATTEMPT, "k3v9abcdefgh.12")


def test_a_full_disk_is_told_from_other_trouble(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small tmpfs has to be mounted, which only root may: nothing here is proved about full disks")
    home = place / "home"
    home.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", home], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a small tmpfs cannot be mounted ({made.stderr.strip()}): nothing is proved about full disks")
    try:
        files = WorkFiles(str(home), str(place / "run"))
        files.make(ATTEMPT, None, {})
        with pytest.raises(DiskFull, match=f"work directory of attempt {ATTEMPT}"):
            files.make(ATTEMPT, None, {"payload.json": b"x" * 100_000})
        assert os.listdir(home / "work" / ATTEMPT) == []
    finally:
        subprocess.run(["umount", "--lazy", home], check=True)
