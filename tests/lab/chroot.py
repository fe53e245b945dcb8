"""A Debian without a kernel of its own running: the files of a guest's root, and commands run below them.

What installing and removing packages does to files is the same there as in a VM, and takes seconds. Called by tests;
imports lab.system. Needs root and e2fsprogs.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from tests.lab.system import bootdisk
from tests.lab.system import root as roots

#: Linux's Documentation/admin-guide/devices.txt.
MEMORY_MAJOR = 1
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}


class Chroot:
    """The root of a Debian suite, unpacked into `folder`, which is the caller's to change."""

    def __init__(self, suite: str, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        disk = f"{roots.made(suite).disk}?offset={bootdisk.START}"
        subprocess.run(["debugfs", "-R", f"rdump / {folder}", disk], check=True, capture_output=True)
        self.settle()

    def settle(self) -> None:
        """What boots is not made here; the devices that programs take for granted are, which debugfs leaves out."""
        (self.folder / "boot/grub/grub.cfg").unlink()
        (self.folder / "etc/initramfs-tools/update-initramfs.conf").write_text("update_initramfs=no\n")
        for name, minor in DEVICES.items():
            path = self.folder / "dev" / name
            os.mknod(path, stat.S_IFCHR, os.makedev(MEMORY_MAJOR, minor))
            path.chmod(0o666)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command below the root, with a /proc of its own; nothing that it starts outlives it."""
        inside = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            f"--mount-proc={self.folder}/proc",
            "chroot",
            str(self.folder),
        ]
        environment = {
            "DEBIAN_FRONTEND": "noninteractive",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return subprocess.run(
            [*inside, *command], env=environment, capture_output=True, text=True, errors="replace", check=False
        )

    def must(self, *command: str) -> str:
        """What a command said, all of it; AssertionError unless it succeeded."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def put(self, package: Path) -> str:
        """The place of a copy of a file of this machine, as apt names a local package."""
        (self.folder / "root" / package.name).write_bytes(package.read_bytes())
        return f"/root/{package.name}"

    def named(self, word: str) -> list[str]:
        """Every path that has the word in its last part."""
        return self.must("find", "/", "-xdev", "-not", "-path", "/proc/*", "-name", f"*{word}*").split()
