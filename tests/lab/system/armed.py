"""A server that kdumpd has armed, made once for each build of the package: what many tests begin with.

The package of the commit is installed in a guest of the suite's root, memory reserved, the guest restarted; once it is
armed it is switched off, and its disk kept in `~/.cache/kdumpd/systems`. The way there is a test of its own
(tests/vm/test_system.py). Called by tests; imports the rest of lab.system.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from pathlib import Path

from kdumpd.rehearse.packages import CACHE, new_folder
from tests.lab.system import root as roots
from tests.lab.system.life import System
from tests.lab.system.package import deb

#: For the next boot, and for what `update-grub` will write; that it does is shown by the newcomer's path.
RESERVE = "sed -i '/quiet/s/quiet/quiet crashkernel=192M/' /boot/grub/grub.cfg /etc/default/grub"
BUILD_SECONDS = 1200.0
_KEPT = 4  # disks of older builds


def disk(suite: str = "bookworm") -> Path:
    """The disk of an armed server, to be the `base` of others: armed by the package's own configuration."""
    name, package = deb()
    root = roots.made(suite)
    made_of = hashlib.sha256(package + Path(__file__).read_bytes()).hexdigest()[:12]
    folder = CACHE / "systems" / f"{root.folder.name}-{made_of}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            with new_folder(folder) as made:
                _make(suite, name, package, made)
            _forget(folder)
    return folder / "disk.qcow2"


def _make(suite: str, name: str, package: bytes, folder: Path) -> None:
    with System.boot(folder, suite) as system:
        system.must(RESERVE)
        system.put(f"/root/{name}", package)
        system.must(f"apt-get install --yes ./{name}", 600)
        system.reboot()
        end = time.monotonic() + BUILD_SECONDS
        while system.run("systemctl is-active kdumpd-armed").code:
            if time.monotonic() > end:
                log = system.run("systemctl status kdumpd; journalctl --boot --unit kdumpd --lines 30").said
                raise AssertionError(f"not armed within {BUILD_SECONDS:.0f} s of the reboot\n{log}")
            time.sleep(5)
        system.power_off()


def _forget(newest: Path) -> None:
    """Disks of older builds go, but for some; one that a guest has open stays readable to it."""
    others = sorted(newest.parent.glob("*-*-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
