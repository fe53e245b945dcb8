"""The system calls that Python's standard library does not have: mount, umount2, syncfs and others.

The only module that imports ctypes. Each function returns when the kernel has done it and raises OSError with the
kernel's errno and the path otherwise. Called by the runner's steps and by `capture.save`. May import nothing of kdumpd.
"""

from __future__ import annotations

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/mount.h
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_NOATIME = 1024
MNT_DETACH = 2  # include/linux/fs.h

_RENAME_NOREPLACE = 1  # include/uapi/linux/fs.h
_AT_FDCWD = -100  # include/uapi/linux/fcntl.h
# finit_module has no wrapper in glibc: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}

# include/uapi/linux/reboot.h
_RESTART = 0x01234567
_HALT = 0xCDEF0123
_POWER_OFF = 0x4321FEDC
_CTRL_ALT_DEL_OFF = 0


def _check(result: int, path: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, directory: str, filesystem: str, flags: int, options: str = "") -> None:
    """`source` is mounted on `directory`."""
    _check(
        _LIBC.mount(
            os.fsencode(source),
            os.fsencode(directory),
            filesystem.encode(),
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
        source,
    )


def unmount(directory: str, flags: int = 0) -> None:
    """Nothing is mounted on `directory` any more; what was written is on the device."""
    _check(_LIBC.umount2(os.fsencode(directory), flags), directory)


def sync_file_system(directory: str) -> None:
    """What was written to the file system that holds `directory` is on its device; others are not waited for."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_LIBC.syncfs(descriptor), directory)
    finally:
        os.close(descriptor)


def load_module(path: str, parameters: str) -> None:
    """The module in the file `path` has been initialised with `parameters` (as on modprobe's command line)."""
    number = _FINIT_MODULE.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"finit_module's number on {os.uname().machine} is not known", path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_LIBC.syscall(ctypes.c_long(number), descriptor, parameters.encode(), 0), path)
    finally:
        os.close(descriptor)


def rename_new(old: str, new: str) -> None:
    """`old` is called `new`; FileExistsError, and nothing changed, where `new` was there before."""
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (22, 38):  # EINVAL, ENOSYS: a file system (NFS) or a kernel without the flag
        raise OSError(number, os.strerror(number), new)
    if os.path.lexists(new):
        raise FileExistsError(17, os.strerror(17), new)
    os.rename(old, new)


def restart() -> None:
    """Does not return: the machine restarts at once, without syncing."""
    _check(_LIBC.reboot(ctypes.c_int(_RESTART)), "reboot")


def power_off() -> None:
    """Does not return where the machine can be switched off."""
    _check(_LIBC.reboot(ctypes.c_uint(_POWER_OFF)), "power off")


def catch_ctrl_alt_del() -> None:
    """Control-alt-delete no longer restarts the machine: PID 1 gets SIGINT."""
    _check(_LIBC.reboot(ctypes.c_int(_CTRL_ALT_DEL_OFF)), "control-alt-delete")


def halt() -> None:
    """Does not return: the machine stands still."""
    _check(_LIBC.reboot(ctypes.c_uint(_HALT)), "halt")
