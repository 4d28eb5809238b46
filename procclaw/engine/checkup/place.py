"""Where a home lies: whose it is, who else can get at it, on which file system, with what room, and its database."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from shlex import quote

from procclaw.engine.checkup.finding import Finding, ok, problem, problem_told, warning
from procclaw.engine.checkup.setup import Setup
from procclaw.engine.files import paths
from procclaw.model.clock import SystemClock, seconds_between
from procclaw.model.errors import StoreError
from procclaw.system.filesystem import Access, Mount, Room, access_of, mount_of, mount_table, room_at, size_of
from procclaw.system.homedir import network_file_system
from procclaw.system.store import Store
from procclaw.system.store.database import RESERVE_BYTES, SCHEMA_VERSION

_MIB = 2**20
_NO_ROOM_BYTES, _LITTLE_ROOM_BYTES = 64 * _MIB, 512 * _MIB
"""A busy database and its log grow by tens of MiB between two clean-ups; what is kept back is eight."""
_NO_INODES, _FEW_INODES = 200, 5_000
"""An attempt takes up to six files while it lives."""
_STALE_SECONDS = 300.0
"""What ProcClaw lacked is looked at again every few seconds, if anybody does look."""
_MOST_READ_BYTES = 256 * _MIB
"""A database beyond this takes too long to be read through; a daemon does it when it starts."""

_OF_KERNELS = (
    "9p",
    "afs",
    "ceph",
    "cifs",
    "drvfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "prl_fs",
    "smb3",
    "smbfs",
    "vboxsf",
)
_OF_PROGRAMS = ("davfs", "gcsfuse", "glusterfs", "gvfsd-fuse", "rclone", "s3fs", "sshfs", "vmhgfs-fuse")
_DISTANT = frozenset((*_OF_KERNELS, *(f"fuse.{name}" for name in _OF_PROGRAMS)))
"""Shared with another machine: locks and mapped memory are not."""
_WITHOUT_OWNERS = frozenset(("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk"))
_FLEETING = frozenset(("tmpfs", "ramfs"))
_OF_A_CONTAINER = frozenset(("overlay", "aufs", "fuse.fuse-overlayfs"))
_STICKY = 0o1000


# --- whose it is ---


def look_at_home(setup: Setup) -> Iterator[Finding]:
    home, parent = access_of(setup.path), access_of(os.path.dirname(setup.path))
    yield judge_home(setup.path, home, parent, os.getuid(), setup.command("init"))
    if home is not None and home.is_folder:
        files = [found for path in paths(setup.path) if (found := access_of(path)) is not None]
        folders = [access_of(os.path.dirname(file.path)) for file in files if not _lies_in(file, home)]
        strangers = dict.fromkeys((*files, *(folder for folder in folders if folder is not None)))
        yield from judge_configuration_access(strangers, home, os.getuid())


def judge_home(path: str, home: Access | None, parent: Access | None, uid: int, init: str) -> Finding:
    if home is None:
        return problem("home", f"there is none at {path}", init)
    if not home.is_folder:
        return problem("home", f"{path} is no folder", f"mv {quote(path)} {quote(path + '.old')} && {init}")
    if home.owner != uid:
        told = f"{path} belongs to user {home.owner}, and this is user {uid}: every command is refused"
        return problem("home", told, f"sudo chown -R {uid} {quote(path)}")
    if home.mode & 0o077:
        can_write = home.mode & 0o022
        told = f"others can {'change what is' if can_write else 'look'} in {path} (mode {home.mode:o})"
        return (problem if can_write else warning)("home", told, f"chmod 700 {quote(path)}")
    if parent is not None and parent.mode & 0o002 and not parent.mode & _STICKY:
        told = f"anybody can take it away, because {parent.path} is open to all (mode {parent.mode:o})"
        return warning("home", told, f"chmod o-w {quote(parent.path)}")
    return ok("home", f"{path}, yours alone")


def judge_configuration_access(found: Iterable[Access], home: Access, uid: int) -> Iterator[Finding]:
    """Who can write what is run as us. What lies in a home that is closed to others is safe there."""
    for each in found:
        if each.owner not in (uid, 0):
            told = f"{each.path} belongs to user {each.owner}, who so decides what runs as you"
            yield problem("files", told, f"sudo chown {uid} {quote(each.path)}")
        elif each.mode & 0o022 and not (_lies_in(each, home) and not home.mode & 0o011):
            is_for_all = each.mode & 0o002
            who = "anybody" if is_for_all else "its group"
            told = f"{who} can write {each.path} (mode {each.mode:o}), and so decide what runs as you"
            yield (problem if is_for_all else warning)("files", told, f"chmod go-w {quote(each.path)}")


def _lies_in(file: Access, home: Access) -> bool:
    return file.path.startswith(home.path + "/")


# --- the file system ---


def look_at_file_system(setup: Setup) -> Iterator[Finding]:
    if setup.is_there:
        mount = mount_of(setup.path, mount_table())
        yield judge_file_system(setup.path, mount, network_file_system(setup.path))


def judge_file_system(path: str, mount: Mount | None, network: str | None) -> Finding:
    """`network`: what the file system's own number says of it."""
    thing = "file system"
    elsewhere = "move it to a local disk: export PROCCLAW_HOME=/a/local/folder"
    if mount is None:
        if network is not None:
            return problem(thing, f"the home is on {network}, where locks do not hold", elsewhere)
        return ok(thing, "local, as far as this system tells")
    kind, where = mount.kind, f"{mount.kind}, mounted at {mount.point}"
    if network is not None or kind in _DISTANT:
        return problem(thing, f"the home is on {where}: locks and mapped memory do not hold there", elsewhere)
    if mount.is_read_only:
        return problem(thing, f"{where}: it is read-only", f"sudo mount -o remount,rw {quote(mount.point)}")
    if kind in _WITHOUT_OWNERS:
        return problem(
            thing, f"the home is on {where}: it keeps neither owners nor modes, so nothing is yours", elsewhere
        )
    if kind in _FLEETING:
        return warning(thing, f"the home is on {where}: all is gone after a reboot", elsewhere)
    if kind in _OF_A_CONTAINER:
        told = f"the home is on {where}: it goes when the container is removed"
        return warning(thing, told, f"docker run -v procclaw:{quote(path)} ...")
    if kind.startswith("fuse"):
        return warning(thing, f"the home is on {where}: locks are as good as the program behind it", elsewhere)
    return ok(thing, where)


# --- room ---


def look_at_room(setup: Setup) -> Iterator[Finding]:
    if setup.is_there:
        reserve = size_of(setup.paths.reserve) if os.path.exists(setup.paths.database) else RESERVE_BYTES
        yield from judge_room(setup.path, room_at(setup.path), reserve or 0)


def judge_room(path: str, room: Room, reserve_bytes: int) -> Iterator[Finding]:
    """`reserve_bytes`: what the home keeps back for bad days, or would at its first start."""
    mib = room.free_bytes // _MIB
    largest = f"du -xhd2 {quote(path)} | sort -h | tail; df -h {quote(path)}"
    if room.free_bytes < _NO_ROOM_BYTES:
        yield problem("disk", f"{mib} MiB are free: soon no job can be started", largest)
    elif room.free_bytes < _LITTLE_ROOM_BYTES:
        yield warning("disk", f"{mib} MiB are free", largest)
    else:
        yield ok("disk", f"{mib / 1024:.1f} GiB are free")
    if room.free_inodes is not None and room.free_inodes < _FEW_INODES:
        told = f"{room.free_inodes} more files fit (inodes), whatever room there is"
        remedy = (
            f"find {quote(path)} -xdev -type f | cut -d/ -f1-6 | sort | uniq -c | sort -n | tail; df -i {quote(path)}"
        )
        yield (problem if room.free_inodes < _NO_INODES else warning)("disk", told, remedy)
    if reserve_bytes < RESERVE_BYTES:
        told = f"the {RESERVE_BYTES // _MIB} MiB kept back for a full disk are not there"
        has_inodes = room.free_inodes is None or room.free_inodes >= _FEW_INODES
        has_room = has_inodes and room.free_bytes >= _LITTLE_ROOM_BYTES
        yield warning("disk", told, "procclaw reconcile" if has_room else "make room; then procclaw reconcile")


# --- the database ---


def look_at_database(setup: Setup) -> Iterator[Finding]:
    if not setup.is_there:
        return
    size = size_of(setup.paths.database)
    if size is None:
        yield ok("database", "none yet; the first command makes it")
        return
    try:
        schema, lack = _read_through(setup, size)
    except StoreError:
        # Read as if nobody wrote, while somebody has just begun to. Once more, and it is true.
        try:
            schema, lack = _read_through(setup, size)
        except StoreError as error:
            yield problem_told("database", error)
            return
    yield judge_database(schema, size)
    if lack:
        yield problem(
            "starts", f"no job is started: {lack}", f"{setup.command('daemon logs')}, and see what is told above"
        )


def _read_through(setup: Setup, size: int) -> tuple[int, str]:
    """Its schema, and what ProcClaw said that it lacks. Raises StoreError."""
    with closing(Store(setup.paths.database, is_to_look=True)) as store:
        if size <= _MOST_READ_BYTES:
            store.check()
        lack = store.lack()
        is_of_now = lack is not None and seconds_between(lack.retry_at, SystemClock().now()) < _STALE_SECONDS
        return store.schema, str(lack.detail or lack.reason) if lack is not None and is_of_now else ""


def judge_database(schema: int, size: int) -> Finding:
    told = f"{size / _MIB:.1f} MiB, {'sound' if size <= _MOST_READ_BYTES else 'too large to be read through now'}"
    if schema < SCHEMA_VERSION:
        told += f"; of an earlier version (schema {schema}), brought to this one ({SCHEMA_VERSION}) when next opened"
    return ok("database", told)
