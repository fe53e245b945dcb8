"""dracut as the builder of an image: its argv (pure), the module folder it sees, and the run.

The machine's own dracut configuration stays out: an empty --confdir, /dev/null as --conf, and a base folder of links
that holds this machine's dracut modules and kdumpd's but no dracut.conf.d. Called by `image.build`. May import `host`,
`steps` and `errors`.
"""

from __future__ import annotations

import os
from pathlib import Path

import kdumpd
from kdumpd.errors import ImageError
from kdumpd.host import program
from kdumpd.steps.build import BuildImage

MODULE = "99kdumpd"
BASE = Path("/usr/lib/dracut")

#: What systemd needs to reach initrd.target and find a disk, beside what the targets ask for.
DRACUT_BOOT_MODULES = ("base", "udev-rules", "systemd", "systemd-initrd", "dracut-systemd")


def module_folder() -> Path:
    """kdumpd's dracut module: the checkout's, else the installed one."""
    for folder in (Path(kdumpd.__file__).parent.parent / "dracut" / MODULE, BASE / "modules.d" / MODULE):
        if (folder / "module-setup.sh").is_file():
            return folder
    raise ImageError(f"{BASE}/modules.d/{MODULE}: kdumpd's dracut module is missing; reinstall kdumpd")


def version() -> str:
    """What this machine's dracut calls itself; HostError when it has none."""
    outcome = program.run([program.require("dracut", "dracut-core"), "--version"])
    return outcome.output.strip() or outcome.errors.strip()


def arguments(dracut: str, step: BuildImage, empty: Path, scratch: Path, output: Path) -> tuple[str, ...]:
    """The whole argv: an uncompressed archive of exactly the modules named, nothing of this host's."""
    names = ["kdumpd"]
    if step.boot == "dracut":
        names = [*DRACUT_BOOT_MODULES, *step.dracut_modules, "kdumpd"]
    # The runner loads what the targets need; udev and dracut's modules load theirs where devices are assembled.
    drivers = ("--kmoddir", str(step.modules)) if step.boot == "dracut" and step.dracut_modules else ("--no-kernel",)
    return (
        dracut,
        *("--force", "--quiet", "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode"),
        *("--reproducible", "--strip", "--no-compress"),
        *("--conf", "/dev/null", "--confdir", str(empty), "--nolvmconf", "--nomdadmconf", "--tmpdir", str(scratch)),
        *("--modules", " ".join(names), *drivers),
        *(str(output), step.release),
    )


def _base_folder(work: Path) -> Path:
    """This machine's dracut, by links, with kdumpd's module among its own and without its drop-in configuration."""
    base = work / "base"
    modules = base / "modules.d"
    modules.mkdir(parents=True)
    for entry in BASE.iterdir():
        if entry.name not in ("modules.d", "dracut.conf.d"):
            (base / entry.name).symlink_to(entry)
    for entry in (BASE / "modules.d").iterdir():
        if entry.name != MODULE:
            (modules / entry.name).symlink_to(entry)
    (modules / MODULE).symlink_to(module_folder())
    return base


def build(step: BuildImage, staging: Path, work: Path) -> bytes:
    """The uncompressed archive that dracut makes of the staging tree; ImageError with its own words when it fails."""
    dracut = program.require("dracut", "dracut-core")
    # Without it dracut silently leaves debugging symbols in: a zstandard from PyPI is 1 MB with and 11 without.
    program.require("strip", "binutils")
    output, empty, scratch = work / "dracut.cpio", work / "empty", work / "scratch"
    empty.mkdir()
    scratch.mkdir()
    outcome = program.run(
        arguments(dracut, step, empty, scratch, output),
        environment={
            "dracutbasedir": str(_base_folder(work)),
            "KDUMPD_STAGING": str(staging),
            "DRACUT_KMODDIR_OVERRIDE": "1",
            "SOURCE_DATE_EPOCH": "0",
            "TMPDIR": str(scratch),
        },
    )
    if outcome.code != 0 or not output.exists():
        raise ImageError(f"dracut: failed with exit code {outcome.code}: {outcome.complaint or os.strerror(5)}")
    return output.read_bytes()
