"""The machine under the runner: the places it reads and the system calls that change it, as one value.

A test hands in another one. Called by `capture.runner`. May import `capture.kernel`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from kdumpd.capture import kernel
from kdumpd.scan import device
from kdumpd.target.device import Places

_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC | kernel.MS_NOATIME


def _mount(device: str, directory: str, kind: str, options: str) -> None:
    kernel.mount(device, directory, kind, _FLAGS, options)


def _load_module(path: str, parameters: str) -> None:
    """The module is loaded and its file gone: the image's root file system is memory, and memory is scarce."""
    kernel.load_module(path, parameters)
    with suppress(OSError):
        os.unlink(path)


def _detach(directory: str) -> None:
    kernel.unmount(directory, kernel.MNT_DETACH)


class Machine(NamedTuple):
    """Everything outside the runner; the defaults are a capture kernel's. Each target has a folder in `mount_point`."""

    settings: str = "/etc/kdumpd"
    vmcore: str = "/proc/vmcore"
    scanner: str = device.PATH
    command_line: str = "/proc/cmdline"
    mount_point: str = "/run/kdumpd/targets"
    devices: Places = Places()
    mount: Callable[[str, str, str, str], None] = _mount
    unmount: Callable[[str], None] = kernel.unmount
    detach: Callable[[str], None] = _detach
    load_module: Callable[[str, str], None] = _load_module
    sync: Callable[[str], None] = kernel.sync_file_system
    restart: Callable[[], None] = kernel.restart
    power_off: Callable[[], None] = kernel.power_off
    halt: Callable[[], None] = kernel.halt


def mount_kernel_file_systems() -> list[str]:
    """/proc, /sys and /dev are there, unless a line in the answer says which is not and why."""
    problems = []
    for kind, directory in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        try:
            os.makedirs(directory, exist_ok=True)
            if os.path.ismount(directory):
                continue
            kernel.mount(kind, directory, kind, 0)
        except OSError as error:
            problems.append(f"{directory}: {kind} cannot be mounted: {error.strerror}")
    return problems
