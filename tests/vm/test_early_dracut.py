"""dracut's module for the host's own initramfs is taken where apply has asked for it, and carries what loads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MODULE = "98kdumpd-early"
OTHERS = ("base", "udev-rules")
RELEASE = "6.1.0-test"
#: dracut with this module among its own and this folder as kdumpd's, in a mount namespace: the machine keeps its own.
SCRIPT = """\
set -eu
mount -t tmpfs early /var/lib
mkdir /var/lib/kdumpd
mount --bind "$1/state" /var/lib/kdumpd
mount --bind "$1/dracut" /usr/lib/dracut
dracut --force --quiet --no-kernel --no-hostonly --no-early-microcode --no-compress --conf /dev/null \
    --confdir "$1/empty" "$1/initramfs" "$2"
cpio --list --quiet < "$1/initramfs"
"""


def files(folder: Path) -> set[str]:
    """What lies in an initramfs that a dracut of few modules makes."""
    command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(folder), RELEASE]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())


def prepared(folder: Path) -> Path:
    early = folder / "state" / RELEASE / "early"
    early.mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "vmlinuz").write_text("kernel")
    (early.parent / "capture.img").write_text("image")
    (early / "vmlinuz").write_text(f"{folder}/vmlinuz\n")
    for name in ("command-line", "reservation", "load.json"):
        (early / name).write_text("1\n")
    shutil.copytree("/usr/lib/dracut", folder / "dracut", symlinks=True)
    for path in (folder / "dracut/modules.d").iterdir():
        if path.name.lstrip("0123456789") not in OTHERS:
            shutil.rmtree(path)
    shutil.copytree(REPOSITORY / "dracut" / MODULE, folder / "dracut/modules.d" / MODULE)
    return folder


def test_it_carries_what_was_asked_for_and_loads_it_first(tmp_path: Path) -> None:
    carried = files(prepared(tmp_path))
    here = "usr/lib/kdumpd/early"
    parts = ("capture.img", "vmlinuz", "command-line", "reservation", "load.json", "load.sh")
    assert {f"{here}/{name}" for name in parts} <= carried
    assert "usr/sbin/kexec" in carried
    hooks = sorted(path for path in carried if path.startswith("usr/lib/dracut/hooks/cmdline/"))
    assert hooks[0].endswith("/00-load.sh")


def test_without_the_folder_it_is_left_out(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    shutil.rmtree(folder / "state" / RELEASE / "early")
    assert not [path for path in files(folder) if "kdumpd" in path]
