"""A target on a local file system: the mounted device, room on it, and the directory that one crash gets.

Mounting itself is handed in (`Mount`), since the system call lives in `capture.kernel`. Called by `capture`,
`dumps` and `image`. May import `errors` and `target.device`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from kdumpd.errors import TargetError
from kdumpd.target.device import Device

# (device, directory, file system's kind, its mount options): mounted, or OSError
Mount = Callable[[str, str, str, str], None]

INCOMPLETE = ".incomplete"  # how a name ends whose file is not complete and synced yet

_DIRECTORY_MODE = 0o700
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_")
_HOST_LENGTH = 64


class Place(NamedTuple):
    """Where dumps go: a directory inside the file system on `device`; `path` is what the policy calls it.

    `options` are the file system's own, as mount(8) takes them after -o (a subvolume of btrfs). `assembled`: the device
    is made of others (RAID, LVM).
    """

    device: str
    kind: str
    directory: str
    path: str
    options: str = ""
    assembled: bool = False


def attach(target: Place, device: Device, mount_point: str, mount: Mount) -> str:
    """The target's file system is mounted, to be written, on `mount_point`; returns the kind it was mounted as."""
    kinds = [target.kind] if target.kind else []
    if device.filesystem is not None and device.filesystem.kind not in kinds:
        kinds.append(device.filesystem.kind)
    if not kinds:
        raise TargetError(
            f"{device.path}: holds no file system that kdumpd knows; is {target.device} still the target?"
        )
    os.makedirs(mount_point, _DIRECTORY_MODE, exist_ok=True)
    options = _with_members(target.options, device)
    problems = []
    for kind in kinds:
        try:
            mount(device.path, mount_point, kind, options)
        except OSError as error:
            problems.append(f"as {kind}: {error.strerror} (errno {error.errno})")
        else:
            return kind
    raise TargetError(f"{device.path}: cannot be mounted to write, {'; '.join(problems)}")


def _with_members(options: str, device: Device) -> str:
    """The mount options that also name the other devices of a btrfs (btrfs(5), `device`); no udev has told it of them.

    One that is not there is done without.
    """
    words = [options] if options else []
    words += [f"device={path}" for path in device.members if path != device.path]
    if not device.whole:
        words.append("degraded")
    return ",".join(words)


def free_bytes(path: str) -> int:
    """Bytes that can still be written on the file system that holds `path`, without what root alone may use."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def inside(mount_point: str, directory: str) -> str:
    """The path of `directory` on the file system mounted at `mount_point`; TargetError where a link leads out of it.

    An absolute link, right in the running system, leads into the initramfs here.
    """
    root = os.path.realpath(mount_point)
    path = f"{mount_point}/{directory.strip('/')}".rstrip("/")
    led = os.path.realpath(path)
    if led != root and not led.startswith(f"{root}/"):
        raise TargetError(f"{directory}: a symbolic link leads out of the target's file system; name the place itself")
    return path


def make_directory(parent: str, host: str, crash_time: float) -> str:
    """A new directory, open to its owner alone: HOST-YYYYMMDD-HHMMSS (UTC), and a number where that is taken."""
    _make_path(parent)
    name = f"{safe_name(host)}-{utc('%Y%m%d-%H%M%S', crash_time)}"
    for number in range(1, 100):
        directory = f"{parent}/{name}" if number == 1 else f"{parent}/{name}-{number}"
        try:
            os.mkdir(directory, _DIRECTORY_MODE)
        except FileExistsError:
            continue
        except OSError as error:
            raise TargetError(f"{directory}: cannot be made: {error.strerror}") from error
        sync_directory(parent)
        return directory
    raise TargetError(f"{parent}/{name}: a hundred dumps of this crash are there already")


def _make_path(path: str) -> None:
    """The directory is there and its name on the disk; what had to be made is open to its owner alone."""
    if not path or os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_path(parent)
    try:
        os.mkdir(path, _DIRECTORY_MODE)
    except OSError as error:
        raise TargetError(f"{path}: cannot be made: {error.strerror}") from error
    sync_directory(parent)


def utc(form: str, seconds: float) -> str:
    """A moment (seconds since 1970) as `time.strftime` writes it; the start of 1970 for one that no calendar has."""
    try:
        return time.strftime(form, time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return time.strftime(form, time.gmtime(0))


def safe_name(host: str) -> str:
    """A host's name as part of a file name: letters, digits, dot, hyphen and underscore, never hidden or empty."""
    name = "".join(character if character in _SAFE else "_" for character in host[:_HOST_LENGTH]).lstrip(".")
    return name or "unknown"


def sync_directory(path: str) -> None:
    """The names in the directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
