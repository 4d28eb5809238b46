#!/usr/bin/env python3
"""The build of procclaw.pyz: ProcClaw and everything it imports, in one file that CPython 3.11+ runs as it lies.

The bytes follow from the sources, the locked wheels and the Pythons compiled with, and from nothing else: neither the
place, the time, the umask nor the Python that runs this script. Entries are therefore stored, not deflated (what is
written then depends on the zlib at hand, and nothing starts faster with it), sorted, and dated alike.

Compiled modules make it start three times faster, but belong to one Python version each, so every version has a tree
of its own (c311/, c312/, ...) which the launcher puts before the sources; a version without a tree runs from the
sources. The trees cannot be made without their interpreters: by default those found here are used, so two machines
with different Pythons build different files (3.11.2 and 3.11.7 number lines differently in places). A release demands
its versions, `--pyc 3.11,3.12,3.13`, and goes with the line this prints; `--pyc none` gives the file that every machine
can rebuild.

Needs the standard library and, until build/ holds the wheels, pip. build/ may be deleted at any time.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VERSIONS = ("3.11", "3.12", "3.13")
SHEBANG = b"#!/usr/bin/env python3\n"

# The lock lives here rather than in a file of its own because nothing but this script reads it. To change a line:
# `pip download --no-deps NAME==VERSION`, then `pip hash FILE`. What each is for, and why not something newer:
LOCK = """
# declared in pyproject.toml; 4.17.3 is the last jsonschema without a part written in Rust
bottle==0.13.4 --hash=sha256:045684fbd2764eac9cdeb824861d1551d113e8b683d8d26e296898d3dd99a12e
croniter==7.0.0 --hash=sha256:92090bce3cef195a037a46b78430c4cdd6250e90671d9d7dcd9e486147daaca4
jsonschema==4.17.3 --hash=sha256:a870ad254da1a8ca84b6a2905cac29d265f805acc57af304784962a2aa6508f6
keyring==25.7.0 --hash=sha256:be4a0b195f149690c166e850609a477c532ddbfbaed96a404d4e43f8d5e2689f
PyYAML==6.0.3 --hash=sha256:b8bb0864c5a28024fac8a632c443c87c5aa6f215c0b126c449ae1a150412f31d
# croniter imports dateutil; zoneinfo finds tzdata where the machine has no zone files
python-dateutil==4.0.0 --hash=sha256:a5e246f79eb80475e691bf93862cead98decd8a498cf53ba0516fcdc0f50dc1c
tzdata==2026.6 --hash=sha256:0a10eec6e13ef16b627fabed9a5f2ba61a62b1c67f327305f4e7e412a70b4aec
# jsonschema imports these; the pure wheel of pyrsistent
attrs==26.1.0 --hash=sha256:c647aa4a12dfbad9333ca4e71fe62ddc36f4e63b2d260a37a8b83d2f043ac309
pyrsistent==0.20.0 --hash=sha256:c55acc4733aad6560a7f5f818466631f07efc001fd023f34a6c203f8b6df0f0b
# keyring imports these; D-Bus is spoken by jeepney alone, as SecretStorage needs cryptography, which is compiled
jaraco.classes==3.4.0 --hash=sha256:f662826b6bed8cace05e7ff873ce0f9283b5c924470fe664fff1c2f00f581790
jaraco.context==6.1.2 --hash=sha256:bf8150b79a2d5d91ae48629d8b427a8f7ba0e1097dd6202a9059f29a36379535
jaraco.functools==4.6.0 --hash=sha256:99e3dc0060c5cbe8fcd1cdb36258e2a65ca40f1566b2033b12abb1bb44dd3c30
jeepney==0.9.0 --hash=sha256:97e5714520c16fc0a45695e5365a2e11b81ea79bba796e26f9f1d178cb182683
more-itertools==11.2.1 --hash=sha256:35a7377edd1dd6608dcb2cdf534ded55ea32d49448875ad042cd3f879fb1ded0
# keyring imports these before Python 3.12
backports.tarfile==1.2.0 --hash=sha256:77e284d754527b01fb1e6fa8a1afe577858ebe4e9dad8919e34c862cb399bc34
importlib_metadata==10.2.0 --hash=sha256:c7a4bf1c7479601f6b8e437cfc14f4f77028ba62a8f34ae95cd93d9774dfba51
lazy-importer==0.1.0 --hash=sha256:bd93fab7bef18e842eea02b839410954d37889140dc64ca4d9680aec6880c739
zipp==4.1.2 --hash=sha256:b30cb6cd253122169c47de245ca24a86bac2a5d3802ba15bf7ba6414eb9e144d
"""

# One platform's wheels for every builder, so that all of them fetch the same files: only PyYAML's differs by platform,
# and of it only the part dropped below.
PLATFORM = (
    "--platform=manylinux2014_x86_64",
    "--platform=manylinux_2_28_x86_64",
    "--python-version=3.11",
    "--implementation=cp",
)

# Left out of the wheels: what cannot run from a zip, and what nothing imports. Every entry of a zip costs each start
# 6 microseconds.
DROPPED = (
    "yaml/_yaml.cpython-311-x86_64-linux-gnu.so",
    "_yaml/*",
    "*.dist-info/*",
    "*.data/*",
    "*.pyi",
    "*/py.typed",
    "*/tests/*",
    "*/benchmarks/*",
    "keyring/testing/*",
    "keyring/backend_complete.*",
    "jeepney/io/asyncio.py",
    "jeepney/io/trio.py",
    "tzdata/zoneinfo/*.tab",
    "tzdata/zoneinfo/tzdata.zi",
    "tzdata/zoneinfo/leapseconds",
)
# Found as sources even where there is a tree: tzdata is all data, and from 3.12 on keyring has no use for the others.
WITHOUT_TREE = {
    "tzdata/*": VERSIONS,
    "backports/*": ("3.12", "3.13"),
    "importlib_metadata/*": ("3.12", "3.13"),
    "lazy_importer/*": ("3.12", "3.13"),
    "zipp/*": ("3.12", "3.13"),
}
# A module that is handed to another process as text, so a tree needs its source as well.
READ_AS_TEXT = {"procclaw/system/relay.py"}
LICENCE = re.compile(r"[^/]+\.dist-info/(.*/)?(licen[cs]e|copying|notice)[^/]*$", re.IGNORECASE)

MODULES = (".py", ".pyc")
OWN_KINDS = {".py", ".json", ".html", ".md"}
COMPILED_SUFFIXES = {".so", ".pyd", ".dll", ".dylib", ".pyc", ".pyo", ".o", ".a"}
ELF, PE, MACH_O = b"\x7fELF", b"MZ", (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")

Files = Mapping[str, bytes]
"""Content by path inside the zip."""


class BuildError(Exception):
    """The .pyz cannot be built; an existing one was left alone."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build procclaw.pyz.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "procclaw.pyz", metavar="FILE")
    parser.add_argument(
        "--pyc", default="found", metavar="VERSIONS", help='"found" (default), "none" or e.g. 3.11,3.12,3.13'
    )
    options = parser.parse_args(argv)
    try:
        interpreters = choose_interpreters(options.pyc)
        write_pyz(collect(ROOT / "build", interpreters), options.output)
    except BuildError as error:
        print(f"build_zipapp: {error}", file=sys.stderr)
        return 1
    content = options.output.read_bytes()
    compiled_with = " ".join(describe(python).split()[1] for python in interpreters.values()) or "no Python"
    print(f"{options.output}: {len(content) / 2**20:.2f} MiB, compiled with {compiled_with}")
    print(f"sha256 {hashlib.sha256(content).hexdigest()}")
    return 0


def choose_interpreters(wanted: str) -> dict[str, str]:
    """Path of the interpreter to compile with, by Python version."""
    if wanted == "none":
        return {}
    found = find_interpreters()
    if wanted == "found":
        return found
    versions = wanted.split(",")
    if missing := [version for version in versions if version not in found]:
        known = ", ".join(found) or "none"
        raise BuildError(f'--pyc {wanted}: no interpreter for "{", ".join(missing)}" (found: {known})')
    return {version: found[version] for version in sorted(versions)}


def find_interpreters() -> dict[str, str]:
    """The supported Pythons of this machine, by version: those on PATH, pyenv's, the running one.

    In that order, so that the Python which runs this script makes no difference where there is another choice.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = {}
    for version in VERSIONS:
        here = [sys.executable] if version == f"{sys.version_info[0]}.{sys.version_info[1]}" else []
        on_path = [path] if (path := shutil.which(f"python{version}")) else []
        of_pyenv = sorted(str(path) for path in pyenv.glob(f"versions/{version}.*/bin/python{version}"))
        if path := next((path for path in (*on_path, *of_pyenv, *here) if is_cpython(path, version)), None):
            found[version] = path
    return found


def is_cpython(path: str, version: str) -> bool:
    """Whether it runs and is what its name says; a shim of pyenv may be neither."""
    return describe(path).startswith(f"cpython {version}.")


def describe(python: str) -> str:
    """Implementation and full version of an interpreter; empty if it does not run."""
    script = "import sys; print(sys.implementation.name, sys.version)"
    try:
        done = subprocess.run([python, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def collect(build: Path, interpreters: Mapping[str, str]) -> Files:
    """Everything that goes into the zip; wheels and compiled modules are kept in `build` for the next time."""
    wheels = fetch_wheels(build / "wheels")
    dependencies = merge(unpack(wheel) for wheel in wheels)
    own = read_package(ROOT)
    entries = {
        "__main__.py": (ROOT / "procclaw.py").read_bytes(),
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
        "LICENSES.txt": b"\n\n".join(licences(wheel) for wheel in wheels),
    }
    for version, python in interpreters.items():
        for sources in (dependencies, own):
            tree = compiled_tree(sources, version, python, build / "pyc")
            entries |= {f"c{version.replace('.', '')}/{path}": content for path, content in tree.items()}
    return merge((entries, dependencies, own))


def fetch_wheels(folder: Path) -> list[Path]:
    """The locked wheels in the order of their names, downloaded unless they are all there already."""
    locked = re.findall(r"^(\S+==\S+) --hash=sha256:([0-9a-f]{64})$", LOCK, re.MULTILINE)
    folder.mkdir(parents=True, exist_ok=True)
    present = wheels_by_hash(folder)
    if not all(digest in present for _, digest in locked):
        download(folder)
        present = wheels_by_hash(folder)
    if missing := [name for name, digest in locked if digest not in present]:
        raise BuildError(f"pip downloaded no wheel with the locked hash for {', '.join(missing)}")
    return sorted(present[digest] for _, digest in locked)


def wheels_by_hash(folder: Path) -> dict[str, Path]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.glob("*.whl")}


def download(folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise BuildError(
            f"{sys.executable} has no pip to fetch the dependencies with; install it (Debian: python3-pip) "
            "or run this script with the python of a virtual environment"
        )
    requirements = folder / "requirements.txt"
    requirements.write_text(LOCK)
    options = ("-qq", "--no-deps", "--require-hashes", "--only-binary=:all:", *PLATFORM, f"--dest={folder}")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        *options,
        f"--requirement={requirements}",
    ]
    if subprocess.run(command).returncode != 0:
        raise BuildError("pip could not download the locked dependencies (its reason is above)")


def unpack(wheel: Path) -> Files:
    """What of a wheel belongs in the .pyz."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        files = {name: archive.read(name) for name in names if not matches(name, DROPPED)}
    for name, content in files.items():
        if is_compiled(name, content):
            raise BuildError(f"{wheel.name}: {name} is compiled and cannot run from a zip")
    return files


def matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def is_compiled(path: str, content: bytes) -> bool:
    return Path(path).suffix in COMPILED_SUFFIXES or content.startswith((ELF, PE, *MACH_O))


def licences(wheel: Path) -> bytes:
    """The licence texts of a wheel, under its name: the .pyz redistributes it."""
    with zipfile.ZipFile(wheel) as archive:
        texts = [archive.read(name).strip() for name in sorted(archive.namelist()) if LICENCE.match(name)]
    if not texts:
        raise BuildError(f"{wheel.name}: no licence text found in it")
    title = " ".join(wheel.name.split("-")[:2])
    return b"\n\n".join([f"{title}\n{'=' * len(title)}".encode(), *texts]) + b"\n"


def read_package(root: Path) -> Files:
    """ProcClaw itself, its schemas inside the package as the wheel has them."""
    files = {}
    for folder, prefix in ((root / "procclaw", "procclaw"), (root / "schema", "procclaw/schema")):
        for path in folder.rglob("*"):
            inner = path.relative_to(folder)
            if path.is_dir() or any(part.startswith(".") or part == "__pycache__" for part in inner.parts):
                continue
            if path.suffix not in OWN_KINDS:
                raise BuildError(
                    f"{path.relative_to(root)}: only {', '.join(sorted(OWN_KINDS))} files go into the .pyz"
                )
            files[f"{prefix}/{inner.as_posix()}"] = path.read_bytes()
    return files


def merge(parts: Iterable[Files]) -> dict[str, bytes]:
    """All of them together; two that disagree about a path are an error."""
    merged: dict[str, bytes] = {}
    for files in parts:
        for path, content in files.items():
            if merged.setdefault(path, content) != content:
                raise BuildError(f"{path} comes from two packages and differs")
    return merged


def compiled_tree(sources: Files, version: str, python: str, cache: Path) -> Files:
    """What a Python of that version finds before the sources, data included: a package looks for it beside itself."""
    elsewhere = [pattern for pattern, versions in WITHOUT_TREE.items() if version in versions]
    wanted = {path: content for path, content in sources.items() if not matches(path, elsewhere)}
    data = {path: content for path, content in wanted.items() if not path.endswith(".py") or path in READ_AS_TEXT}
    return merge((data, compile_sources(wanted, python, cache)))


def compile_sources(sources: Files, python: str, cache: Path) -> Files:
    """Every module among them as that interpreter compiles it.

    Unchecked hash-based .pyc: they name no date, and importing them looks at no source.
    """
    modules = {path: content for path, content in sorted(sources.items()) if path.endswith(".py")}
    digest = hashlib.sha256(describe(python).encode())
    for path, content in modules.items():
        digest.update(f"\n{path} {hashlib.sha256(content).hexdigest()}".encode())
    kept = cache / digest.hexdigest()[:32]
    if not kept.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            work = Path(folder, "work")
            for path, content in modules.items():
                (work / path).parent.mkdir(parents=True, exist_ok=True)
                (work / path).write_bytes(content)
            run_compileall(python, work)
            # Another build may have been quicker; it has made the same.
            with contextlib.suppress(OSError):
                work.rename(kept)
    return {path.relative_to(kept).as_posix(): path.read_bytes() for path in kept.rglob("*.pyc")}


def run_compileall(python: str, folder: Path) -> None:
    # -b: mod.pyc beside mod.py. -s, -p: a traceback names the file in the .pyz, not where it was compiled.
    options = ("-q", "-b", "--invalidation-mode=unchecked-hash", "-s", str(folder), "-p", "procclaw.pyz")
    command = [python, "-I", "-S", "-m", "compileall", *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{python} could not compile the sources:\n{done.stdout}{done.stderr}")


def write_pyz(entries: Files, output: Path) -> None:
    """Replace `output` in one step, so that nobody ever runs half a file."""
    folders = namespace_packages(entries)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
        try:
            file.write(SHEBANG)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(folders | entries.keys()):
                    archive.writestr(entry(name), entries.get(name, b""))
            file.flush()
            os.chmod(file.name, 0o755)
            os.replace(file.name, output)
        except BaseException:
            os.unlink(file.name)
            raise


def namespace_packages(entries: Files) -> set[str]:
    """Packages without an __init__ (jaraco/), which zipimport finds only if their directory has an entry of its own."""
    folders = {parent.as_posix() for path in entries if path.endswith(MODULES) for parent in Path(path).parents}
    return {f"{path}/" for path in folders if not any(f"{path}/__init__{kind}" in entries for kind in MODULES)} - {"./"}


def entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
    return info


if __name__ == "__main__":
    sys.exit(main())
