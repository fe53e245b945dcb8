"""What each cached vmcore is a crash of: the kernel, the machine and the amounts of memory of each kind.

Called by `crash` and by the fixtures; imports nothing but the machine's description.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One crash: sizes in MiB; `kernel` is a Debian package and the beginning of a version."""

    name: str
    kernel: str
    memory: int = 1024
    nodes: int = 1
    processors: int = 2
    processor: str = "max"
    crashkernel: str = "128M"
    append: str = ""
    architecture: str = "amd64"
    cache: int = 64
    private: int = 32
    tmpfs: int = 48
    anonymous: int = 64
    transparent: int = 32
    hugetlb: int = 16
    files: int = 4000
    nonce: str = "f00dfeed"
    live: bool = False  # the memory of a running guest, by QEMU's dump-guest-memory, instead of a crash
    whole: bool = False  # also copy /proc/vmcore through the capture kernel, to compare


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("6.1", "linux-image-amd64=6.1"),
        Recipe("6.12", "linux-image-amd64=6.12"),
        Recipe("newest", "linux-image-amd64"),
        Recipe("6.1-nokaslr", "linux-image-amd64=6.1", append="nokaslr"),
        Recipe("6.1-high", "linux-image-amd64=6.1", memory=5120),
        Recipe("6.1-numa", "linux-image-amd64=6.1", memory=2048, nodes=4, processors=4),
        Recipe("6.1-live", "linux-image-amd64=6.1", memory=512, live=True),
    )
}
