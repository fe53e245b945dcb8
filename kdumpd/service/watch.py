"""What happens, as it happens: files by inotify, devices by the kernel's uevents, mounts by /proc/self/mountinfo.

An event only says that a look is due; what it was about is told by a word: `policy`, `state`, `boot`, `modules`,
`loader` (a program that loads crash kernels was started), `device`, `mounts`, `everything` (events were lost). Called
by `service.daemon`. May import `service.paths` and the standard library.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
from collections.abc import Iterator

from kdumpd.service.paths import Paths

# inotify(7)
_IN_CLOSE_WRITE, _IN_OPEN = 0x8, 0x20
_IN_MOVED, _IN_CREATE, _IN_DELETE = 0xC0, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_Q_OVERFLOW = 0x400, 0x800, 0x4000
_IN_ONLYDIR = 0x0100_0000
_FOLDER = _IN_CLOSE_WRITE | _IN_MOVED | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_EVENT = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, bytes of the name

_NETLINK_KOBJECT_UEVENT = 15  # Linux include/uapi/linux/netlink.h
_KERNEL_EVENTS = 1  # the multicast group of NETLINK_KOBJECT_UEVENT that the kernel itself sends to
_SUBSYSTEMS = ("block", "cpu", "memory")
_BUFFER = 1 << 20

#: What the service itself and its children write; all of it is seen by a look where it matters.
_OWN = ("service.json", "service.json.new", "running.json", "running.json.new", "lock")


class Files:
    """Folders under inotify; `fileno` is readable when something happened in one."""

    events = select.POLLIN

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "inotify")
        self._words: dict[int, tuple[str, frozenset[str]]] = {}
        self.renew()

    def fileno(self) -> int:
        return self._descriptor

    def _add(self, path: str, mask: int, word: str, only: str | None = None) -> None:
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        if watch >= 0:  # A folder that is not there yet is seen in its parent, or by the poll.
            # A folder has one watch, whatever is watched in it: the policy may be a link to its neighbour.
            names = self._words.get(watch, (word, frozenset()))[1]
            self._words[watch] = (word, names | {only} if only else frozenset())

    def renew(self) -> None:
        """Every folder that is there now is watched; one that was watched before costs nothing."""
        paths = self._paths
        # Editors write a new file and rename it: the folder is watched; that of a link's target as well.
        for policy in dict.fromkeys((paths.policy, os.path.realpath(paths.policy))):
            self._add(os.path.dirname(policy), _FOLDER, "policy", os.path.basename(policy))
        for folder in (paths.state, paths.images):
            self._add(folder, _FOLDER, "state")
        self._add(paths.run, _FOLDER, "state")
        self._add(paths.boot, _FOLDER, "boot")
        for folder in (paths.modules, os.path.join(paths.modules, paths.release)):
            self._add(folder, _FOLDER, "modules")
        for program in paths.loaders:
            self._add(program, _IN_OPEN, "loader")

    def read(self) -> set[str]:
        """What happened since the last call."""
        found = set()
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                break
            for watch, mask, name in _events(data):
                if mask & _IN_Q_OVERFLOW:
                    found.add("everything")
                word, only = self._words.get(watch, ("", frozenset[str]()))
                if word and name not in _OWN and (not only or name in ("", *only)):
                    found.add(word)
        if found:
            self.renew()
        return found


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at + _EVENT.size <= len(data):
        watch, mask, _, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size


class Devices:
    """The kernel's uevents; `fileno` is readable when there are some."""

    events = select.POLLIN

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _NETLINK_KOBJECT_UEVENT
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, _KERNEL_EVENTS))

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> set[str]:
        """What happened since the last call to what a dump depends on."""
        found: set[str] = set()
        while True:
            try:
                data = self._socket.recv(1 << 14)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: more came than was read
                found.add("everything")
                continue
            if matters(data):
                found.add("device")


def matters(uevent: bytes) -> bool:
    """Whether a uevent tells of a disk, a processor or memory."""
    fields = dict(part.partition("=")[::2] for part in uevent.decode(errors="replace").split("\0"))
    name = fields.get("DEVPATH", "").rpartition("/")[2]
    return fields.get("SUBSYSTEM") in _SUBSYSTEMS and not name.startswith(("loop", "ram", "zram"))


class Mounts:
    """The mount table: poll reports POLLPRI when something was mounted, unmounted or remounted."""

    events = select.POLLPRI

    def __init__(self, paths: Paths) -> None:
        self._descriptor = os.open(os.path.join(paths.proc, "self/mountinfo"), os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> set[str]:
        """A poll has told already that something changed."""
        return {"mounts"}
