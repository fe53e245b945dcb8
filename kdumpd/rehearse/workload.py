"""Known amounts of each kind of memory, every page marked, held until the machine crashes.

Runs in the rehearsal's first kernel (called by `rehearse.guest`); `rehearse.judge` makes the same marks to find the
pages in the dump. A mark is 16 bytes made from the rehearsal's nonce and the kind, at the start of each page. May
import the standard library alone.
"""

from __future__ import annotations

import enum
import hashlib
import mmap
import os
from pathlib import Path

PAGE = 4096
MARK = 16
HUGE_PAGE = 2 << 20
MAP_HUGETLB = 0x40000  # include/uapi/asm-generic/hugetlb_encode.h, mman.h
BLOCK_PAGES = 16
# One extended attribute of this size on tmpfs is one kmalloc-4k object (struct simple_xattr, 32 to 40 bytes, and the
# value), so one slab page; fs/xattr.c, simple_xattr_alloc.
_XATTR = 4000
_XATTRS_PER_FILE = 64
_MAX_MARKED = 1 << 30


class Kind(enum.StrEnum):
    """A kind of memory the workload allocates.

    CACHE is clean page cache of a file that was there before, CACHE_PRIVATE of one that was written: with buffers.
    """

    ANONYMOUS = "anonymous"
    HUGETLB = "hugetlb"
    CACHE = "cache"
    CACHE_PRIVATE = "cache-private"
    TMPFS = "tmpfs"
    SLAB = "slab"


# Parts of a thousand of the machine's memory.
_SHARES = {
    Kind.ANONYMOUS: 100,
    Kind.HUGETLB: 20,
    Kind.CACHE: 50,
    Kind.CACHE_PRIVATE: 30,
    Kind.TMPFS: 50,
    Kind.SLAB: 15,
}


def amounts(memory: int) -> dict[Kind, int]:
    """Pages of each kind for a machine of `memory` bytes: a good quarter of it, at most 1 GiB a kind."""
    pages = {kind: min(memory * share // 1000, _MAX_MARKED) // PAGE for kind, share in _SHARES.items()}
    pages[Kind.HUGETLB] -= pages[Kind.HUGETLB] % (HUGE_PAGE // PAGE)
    return {kind: count - count % BLOCK_PAGES for kind, count in pages.items()}


def mark(nonce: str, kind: str) -> bytes:
    """The 16 bytes that say: this page is of that kind and of that rehearsal."""
    return hashlib.sha256(f"{nonce}/{kind}".encode()).digest()[:MARK]


def marked_page(nonce: str, kind: str) -> bytes:
    """A page that starts with its mark and goes on with bytes that follow from it."""
    start = mark(nonce, kind)
    return start + hashlib.shake_128(start).digest(PAGE - MARK)


def nonce_page(nonce: str) -> bytes:
    """The page that the workload puts into kernel memory by way of a pipe."""
    return marked_page(nonce, "pipe")


class Workload:
    """What has been allocated so far; it stays allocated as long as this object lives.

    `held` is the number of pages that each kind really got.
    """

    def __init__(self, nonce: str, cache_directory: str, tmpfs_directory: str) -> None:
        self._nonce = nonce
        self._cache_directory = cache_directory
        self._tmpfs_directory = tmpfs_directory
        self._maps: list[mmap.mmap] = []
        self._pipe: tuple[int, int] | None = None
        self.held: dict[Kind, int] = {}

    def allocate(self, kind: Kind, pages: int) -> None:
        """`pages` more marked pages of `kind` are in memory."""
        if kind is Kind.ANONYMOUS:
            self._map(kind, pages, 0)
        elif kind is Kind.HUGETLB:
            self._hugetlb(pages)
        elif kind is Kind.SLAB:
            self._slab(pages)
        elif kind is Kind.TMPFS:
            self._file(kind, pages, self._tmpfs_directory)
        elif kind is Kind.CACHE:
            _read(f"{self._cache_directory}/{kind}")
        else:
            self._file(kind, pages, self._cache_directory)
        self.held[kind] = pages if kind is not Kind.HUGETLB else self.held.get(kind, 0)

    def hold_nonce_page(self) -> None:
        """The nonce page fills one page of a pipe: memory of the kernel itself, which no dump level leaves out."""
        reader, writer = os.pipe()
        page = bytearray(nonce_page(self._nonce))
        os.write(writer, page)
        page[:] = bytes(PAGE)  # only the kernel's copy shall be left
        self._pipe = (reader, writer)

    def _map(self, kind: Kind, pages: int, flags: int) -> None:
        memory = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
        block = marked_page(self._nonce, kind) * BLOCK_PAGES
        for start in range(0, len(memory), len(block)):
            memory[start : start + len(block)] = block
        self._maps.append(memory)

    def _hugetlb(self, pages: int) -> None:
        wanted = pages * PAGE // HUGE_PAGE
        knob = Path("/proc/sys/vm/nr_hugepages")
        knob.write_text(str(wanted))
        got = int(knob.read_text())
        if got:
            self._map(Kind.HUGETLB, got * HUGE_PAGE // PAGE, MAP_HUGETLB)
        self.held[Kind.HUGETLB] = got * HUGE_PAGE // PAGE

    def _slab(self, pages: int) -> None:
        value = marked_page(self._nonce, Kind.SLAB)[:_XATTR]
        for index in range(pages):
            path = f"{self._tmpfs_directory}/slab-{index // _XATTRS_PER_FILE}"
            if index % _XATTRS_PER_FILE == 0:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            os.setxattr(path, f"trusted.{index % _XATTRS_PER_FILE}", value)

    def _file(self, kind: Kind, pages: int, directory: str) -> None:
        path = f"{directory}/{kind}"
        block = marked_page(self._nonce, kind) * BLOCK_PAGES
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        for _ in range(0, pages, BLOCK_PAGES):
            os.write(descriptor, block)
        os.fsync(descriptor)
        os.close(descriptor)


def _read(path: str) -> None:
    """The file's pages are in the page cache as a reader leaves them there: clean, without buffers.

    The file was made outside: were it written here first, pages that the cache gave back would still hold its marks,
    and those on the processors' own lists of free pages are no free pages to a scan.
    """
    descriptor = os.open(path, os.O_RDONLY)
    while os.read(descriptor, 1 << 20):
        pass
    os.close(descriptor)
