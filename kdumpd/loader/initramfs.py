"""The host's own initramfs, which carries the crash kernel where it is to be loaded before any file system is there.

What it takes lies in a folder `early` beside the image, whose presence is what the hook of initramfs-tools and dracut's
module 98kdumpd-early go by. The initramfs is built anew only when that changed, since that costs a minute and about as
much of /boot as vmlinuz and image are large. Called by `plan.nextboot`. May import `host` and `errors`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from kdumpd.errors import HostError
from kdumpd.host import mounts, program

_FOLDER = "early"
#: What the initramfs was built with last; it is no part of what the hooks carry.
_CARRIED = "carried"
_DEADLINE = 900.0


def is_apart(mountinfo: str, folder: Path) -> bool:
    """Whether a folder lies on another device than the root file system; a subvolume of the same is none."""
    mounted = mounts.parse(mountinfo)
    return mounts.holding(mounted, str(folder)).source != mounts.holding(mounted, "/").source


def update_arguments(release: str) -> tuple[str, ...]:
    """The argv that builds the initramfs of a kernel anew; HostError where this machine has no program for it."""
    tool = program.find("update-initramfs")
    if tool is not None:
        return (tool, "-u", "-k", release)
    tool = program.find("dracut")
    if tool is not None:
        return (tool, "--force", "--quiet", "--kver", release)
    raise HostError("neither update-initramfs nor dracut is installed to build the host's initramfs")


def update(release: str) -> None:
    """The initramfs of a kernel is built anew, with what the hooks find now. HostError when it could not be."""
    arguments = update_arguments(release)
    outcome = program.run(arguments, deadline=_DEADLINE)
    if outcome.code:
        raise HostError(f"{' '.join(arguments)}: {outcome.complaint or f'it ended with {outcome.code}'}")


def carry(image: Path, release: str, record: Mapping[str, object], update: Callable[[str], None] = update) -> str:
    """The initramfs of a release carries this image and the record of its load; what was done, "" when nothing was.

    HostError when it could not be built; then it carries what it did before, and the next call tries again.
    """
    folder = image.parent / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    parts = {
        "vmlinuz": f"{record['vmlinuz']}\n",
        "command-line": f"{record['command_line']}\n",
        "reservation": f"{record['reservation']}\n",
        "load.json": json.dumps(record, sort_keys=True) + "\n",
    }
    for name, text in parts.items():
        (folder / name).write_text(text)
    wanted = _digest(record)
    if _read(folder / _CARRIED) == wanted:
        return ""
    update(release)
    (folder / _CARRIED).write_text(wanted)
    return f"the initramfs of kernel {release} carries the crash kernel, to be loaded before any file system is there"


def drop(image: Path, release: str, update: Callable[[str], None] = update) -> str:
    """The initramfs of a release carries no crash kernel; what was done, "" when nothing was."""
    folder, leaving = image.parent / _FOLDER, image.parent / f"{_FOLDER}.gone"
    if folder.is_dir():
        shutil.rmtree(leaving, ignore_errors=True)
        folder.rename(leaving)
    if not leaving.is_dir():
        return ""
    update(release)
    shutil.rmtree(leaving)
    return f"the initramfs of kernel {release} carries no crash kernel any more"


def _digest(record: Mapping[str, object]) -> str:
    """What the record's files and command line are, without what is told of one boot."""
    parts = [record[name] for name in ("image_sha256", "vmlinuz_sha256", "command_line", "reservation")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
