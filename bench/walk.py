"""The module's walk alone, compiled for user space: nanoseconds a page by what memory is full of.

Natively, and where qemu-user is installed under emulation as well: so a guest without KVM runs, which emulates page
tables besides.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdumpd.policy.model import PageKind
from kdumpd.vmcore.layout import PageLayout
from tests.unit.kmod import native
from tests.unit.kmod.structures import layout

PAGES = 1 << 18
BASE = 1 << 32
ROUNDS = 7
EMULATOR = "qemu-x86_64"


def page(known: PageLayout, mapcount: int = 0xFFFFFFFF, **words: int) -> bytes:
    """A page structure with these fields."""
    made = bytearray(known.size)
    struct.pack_into("<I", made, known.mapcount, mapcount)
    for name, value in words.items():
        struct.pack_into("<Q", made, getattr(known, name), value)
    return bytes(made)


def contents(known: PageLayout) -> dict[str, bytes]:
    """Page structures of memory that is full of one thing."""
    draw = random.Random(1)
    reserved = page(known, flags=1 << 12)
    cache = [page(known, flags=known.lru | more, mapping=0xFFFF888012345600) for more in (0, 0x04, 0x22)]
    user = [page(known, count, flags=known.lru | known.swapbacked, mapping=0xFFFF888012345601) for count in (0, 1)]
    return {
        "mem_map's own pages": reserved * PAGES,
        "page cache": b"".join(draw.choices(cache, k=PAGES)),
        "anonymous memory": b"".join(draw.choices(user, (50, 1), k=PAGES)),
        "all of these at random": b"".join(draw.choices((reserved, *cache, *user), k=PAGES)),
    }


def measured() -> dict[str, float]:
    """Nanoseconds a page of each."""
    known = layout("6.1")
    taken = {}
    with tempfile.TemporaryDirectory() as folder:
        library = native.compiled(Path(folder))
        for name, content in contents(known).items():
            seconds = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                native.scan(
                    library,
                    known,
                    PageKind(31),
                    [(0, PAGES, BASE)],
                    [(0, PAGES)],
                    [],
                    (0, PAGES),
                    content,
                    physical=BASE,
                )
                seconds.append(time.perf_counter() - started)
            taken[name] = min(seconds) / PAGES * 1e9
    return taken


def main() -> None:
    """Both, one below the other."""
    emulated = sys.argv[1:] == ["emulated"]
    print(f"\n### The module's walk, {'emulated' if emulated else 'natively'}\n")
    print("| memory full of | ns a page |\n|---|---|")
    for name, pace in measured().items():
        print(f"| {name} | {pace:.2f} |", flush=True)
    if not emulated and shutil.which(EMULATOR):
        subprocess.run([EMULATOR, "-cpu", "max", sys.executable, "-m", "bench.walk", "emulated"], check=True)


if __name__ == "__main__":
    main()
