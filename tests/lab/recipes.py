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
    processor: str = "max"  # has five-level page tables and 1 GiB pages
    crashkernel: str = "128M"
    append: str = ""
    architecture: str = "amd64"
    cache: int = 64
    private: int = 32
    tmpfs: int = 48
    anonymous: int = 64
    transparent: int = 32
    hugetlb: int = 16
    balloon: int = 8
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
        # Four-level page tables, no 1 GiB pages.
        Recipe("6.1-nokaslr", "linux-image-amd64=6.1", append="nokaslr", processor="qemu64"),
        # Above 4 GiB, most of it never touched; one page of 1 GiB.
        Recipe("6.1-high", "linux-image-amd64=6.1", memory=5120, append="hugepagesz=1G hugepages=1 hugepagesz=2M"),
        Recipe("6.1-numa", "linux-image-amd64=6.1", memory=2048, nodes=4, processors=4),
        # hugetlb's vmemmap optimisation: fake heads, tails that share their page structures.
        Recipe("6.12-hvo", "linux-image-amd64=6.12", append="hugetlb_free_vmemmap=on", hugetlb=128),
        # The oldest: what page[1] says of a compound page, flags that moved since.
        Recipe("5.10", "linux-image-amd64=5.10", processor="qemu64"),
        # 6.1 has no _text in its kallsyms, without which kexec-tools writes a kernel segment of absurd size.
        Recipe("arm64", "linux-image-arm64=6.12", architecture="arm64", processor="cortex-a72", crashkernel="256M"),
        # A running guest's memory as QEMU writes it.
        Recipe("6.1-live", "linux-image-amd64=6.1", memory=512, live=True),
        # For benchmarks: full of cache and anonymous memory; idle and large.
        Recipe("6.1-busy", "linux-image-amd64=6.1", memory=2048, cache=700, private=100, tmpfs=200, anonymous=500),
        Recipe("6.1-64g", "linux-image-amd64=6.1", memory=65536, crashkernel="256M"),
    )
}
