"""The .pyz and the wheel as users get them: rebuilt, looked into, and run on every Python of this machine."""

import ast
import contextlib
import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import build_zipapp
from procclaw import __version__
from tests.conftest import REAL_HOME

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = build_zipapp.find_interpreters()
VERSION_LINE = f"ProcClaw v{__version__}\n"
IMPORTED = ("bottle", "croniter", "jeepney.io.blocking", "jsonschema", "keyring", "yaml")

pytestmark = pytest.mark.artefact


def run(*argv: str | Path, cwd: Path | str = "/", **environment: str) -> str:
    """What a command prints, in an environment that holds nothing else than is given."""
    done = subprocess.run([str(word) for word in argv], cwd=cwd, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(params=list(PYTHONS.values()), ids=list(PYTHONS))
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["compiled", "sources"])
def search_path(request: pytest.FixtureRequest, built_pyz: Path, python: str) -> list[str]:
    """Where a Python finds the modules of the .pyz: with its compiled tree, as the launcher does it, and without."""
    version = next(version for version, path in PYTHONS.items() if path == python)
    trees = [f"{built_pyz}/c{version.replace('.', '')}"] if request.param == "compiled" else []
    return [*trees, str(built_pyz)]


@contextlib.contextmanager
def entries(pyz: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(pyz) as archive:
        yield archive


def test_the_pyz_prints_its_version_on_every_python(built_pyz: Path, python: str, tmp_path: Path) -> None:
    assert run(python, built_pyz, "version", cwd=tmp_path) == VERSION_LINE


def test_the_pyz_is_a_program_of_its_own(built_pyz: Path, tmp_path: Path) -> None:
    """Through its first line, by a relative path, with an environment that holds only the way to python3."""
    (tmp_path / "python3").symlink_to(sys.executable)
    program = os.path.relpath(built_pyz, "/")
    assert run(f"./{program}", "version", PATH=f"{tmp_path}:/usr/bin:/bin") == VERSION_LINE


def test_the_pyz_runs_from_the_sources_of_a_python_without_a_tree(built_pyz: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.pyz"
    with entries(built_pyz) as archive, zipfile.ZipFile(unknown, "w") as copy:
        for name in archive.namelist():
            if not re.match(r"c\d+/", name):
                copy.writestr(name, archive.read(name))
    assert run(sys.executable, unknown, "version") == VERSION_LINE


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # hatchling says on stderr what it made.
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_launcher_module_and_installed_script_print_the_version_of_the_pyz(wheel: Path, tmp_path: Path) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--target", tmp_path)
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, wheel)
    assert run(sys.executable, ROOT / "procclaw.py", "version") == VERSION_LINE
    assert run(sys.executable, "-m", "procclaw", "version", cwd=ROOT) == VERSION_LINE
    assert run(tmp_path / "bin" / "procclaw", "version", PYTHONPATH=str(tmp_path)) == VERSION_LINE


def test_the_wheel_has_the_version_and_the_schemas_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"procclaw-{__version__}.dist-info/METADATA")
        names = archive.namelist()
    assert email.message_from_bytes(metadata)["Version"] == __version__
    assert {name for name in names if name.startswith("procclaw/schema/")} == {
        f"procclaw/schema/{name}" for name in schema_names()
    }


def test_every_dependency_imports_from_the_pyz_without_a_warning(python: str, search_path: list[str]) -> None:
    script = (
        f"import sys; sys.path[:0] = {search_path!r}; names = {IMPORTED!r}\n"
        "for name in names: __import__(name); print(name, sys.modules[name].__file__)"
    )
    printed = run(python, "-W", "error", "-I", "-S", "-c", script).splitlines()
    found = dict(line.split(" ", 1) for line in printed)
    assert tuple(found) == IMPORTED
    assert all(path.startswith(search_path[0] + "/") for path in found.values()), found


def test_schemas_validate_and_schedules_resolve_from_the_pyz(python: str, search_path: list[str]) -> None:
    script = (
        f"import sys; sys.path[:0] = {search_path!r}; import jsonschema, croniter, yaml\n"
        "validator = jsonschema.Draft202012Validator(yaml.safe_load('{type: object, required: [cmd]}'))\n"
        "validator.check_schema(validator.schema)\n"
        "print(validator.is_valid({'cmd': 'true'}), croniter.croniter.is_valid('0 0 * * *'))"
    )
    assert run(python, "-W", "error", "-I", "-S", "-c", script) == "True True\n"


def test_zones_are_known_on_a_machine_without_zone_files(python: str, search_path: list[str]) -> None:
    script = (
        f"import sys; sys.path[:0] = {search_path!r}; import datetime, zoneinfo; assert not zoneinfo.TZPATH\n"
        "print(datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo('America/New_York')).utcoffset())"
    )
    assert run(python, "-W", "error", "-S", "-c", script, PYTHONTZPATH="") == "-1 day, 20:00:00\n"


def test_another_build_has_the_same_bytes(built_pyz: Path, tmp_path: Path) -> None:
    """From a copy elsewhere, by another Python, with another umask and time zone, and nothing compiled before."""
    checkout = tmp_path / "elsewhere"
    kept_wheels = checkout / "build" / "wheels"
    shutil.copytree(ROOT / "build" / "wheels", kept_wheels)
    for name in ("procclaw", "schema"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("procclaw.py", "build_zipapp.py", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    builder = next((path for path in PYTHONS.values() if path != sys.executable), sys.executable)
    command = f'umask 077 && exec "{builder}" build_zipapp.py --pyc {",".join(PYTHONS)}'
    environment = {**os.environ, "HOME": REAL_HOME, "TZ": "Asia/Tokyo"}
    subprocess.run(["sh", "-c", command], cwd=checkout, env=environment, check=True)
    assert (checkout / "dist" / "procclaw.pyz").read_bytes() == built_pyz.read_bytes()


def test_the_pyz_holds_no_compiled_part(built_pyz: Path) -> None:
    with entries(built_pyz) as archive:
        compiled = [name for name in archive.namelist() if build_zipapp.is_compiled(name, archive.read(name))]
    trees = tuple(f"c{version.replace('.', '')}/" for version in PYTHONS)
    assert [name for name in compiled if not (name.startswith(trees) and name.endswith(".pyc"))] == []


def test_the_pyz_is_uniform(built_pyz: Path) -> None:
    with entries(built_pyz) as archive:
        found = archive.infolist()
    assert [entry.filename for entry in found] == sorted(entry.filename for entry in found)
    assert {entry.date_time for entry in found} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in found} == {0o100644, 0o40755}
    assert built_pyz.stat().st_mode & 0o777 == 0o755


def test_the_pyz_carries_the_licence_of_everything_in_it(built_pyz: Path) -> None:
    with entries(built_pyz) as archive:
        text = archive.read("LICENSES.txt").decode().lower().replace("-", "_").replace(".", "_")
    locked = re.findall(r"^(\S+)==(\S+) ", build_zipapp.LOCK, re.MULTILINE)
    titles = [re.sub(r"[-.]", "_", f"{name} {version}").lower() for name, version in locked]
    assert [title for title in titles if f"{title}\n===" not in text] == []


def test_every_dependency_of_the_package_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {name.lower() for name in re.findall(r"^(\S+)==", build_zipapp.LOCK, re.MULTILINE)}
    assert {re.split(r"[<>=~!;\[ ]", line)[0].lower() for line in project["dependencies"]} <= locked


def test_what_the_package_reads_as_text_lies_in_every_tree(built_pyz: Path) -> None:
    """A package looks for its files beside itself, so beside the compiled modules too."""
    with entries(built_pyz) as archive:
        names = set(archive.namelist())
    texts = [path for kind in ("*.html", "*.md") for path in (ROOT / "procclaw").rglob(kind)]
    pages = {str(path.relative_to(ROOT)) for path in texts}
    wanted = {f"procclaw/schema/{name}" for name in schema_names()} | set(build_zipapp.READ_AS_TEXT) | pages
    assert read_by_get_data() <= wanted
    for tree in ("", *(f"c{version.replace('.', '')}/" for version in PYTHONS)):
        assert {f"{tree}{path}" for path in wanted} <= names


def schema_names() -> set[str]:
    return {path.name for path in (ROOT / "schema").glob("*.json")}


def read_by_get_data() -> set[str]:
    """Paths of files that a module of ours names in a call of get_data."""
    found = set()
    for path in (ROOT / "procclaw").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_data"):
                with contextlib.suppress(ValueError):
                    package, file = (str(ast.literal_eval(argument)) for argument in node.args)
                    found.add(f"{package.replace('.', '/')}/{file}")
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [("thing/_speed.so", b""), ("thing/_speed.pyd", b""), ("thing/data", b"\x7fELF\x02"), ("thing/x.pyc", b"")],
)
def test_a_wheel_with_a_compiled_part_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(build_zipapp.BuildError, match=rf"thing-1.0-py3-none-any.whl: {name} is compiled"):
        build_zipapp.unpack(wheel)


def test_a_file_that_does_not_belong_in_the_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "procclaw").mkdir()
    (tmp_path / "procclaw" / "speed.so").touch()
    with pytest.raises(build_zipapp.BuildError, match=r"procclaw/speed\.so: only .* files go into the \.pyz"):
        build_zipapp.read_package(tmp_path)


@pytest.mark.usefixtures("built_pyz")
def test_a_wheel_that_is_not_the_locked_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    shutil.copytree(ROOT / "build" / "wheels", wheels)
    (wheel,) = wheels.glob("bottle-*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    monkeypatch.setattr(build_zipapp, "download", lambda _folder: None)
    with pytest.raises(build_zipapp.BuildError, match="no wheel with the locked hash for bottle=="):
        build_zipapp.fetch_wheels(wheels)


def test_a_build_that_fails_leaves_the_old_pyz(tmp_path: Path) -> None:
    old = tmp_path / "procclaw.pyz"
    old.write_text("old")
    command = [sys.executable, str(ROOT / "build_zipapp.py"), "--pyc", "3.99", "--output", str(old)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith('build_zipapp: --pyc 3.99: no interpreter for "3.99" (found: ')
    assert [path.name for path in tmp_path.iterdir()] == ["procclaw.pyz"]
    assert old.read_text() == "old"
