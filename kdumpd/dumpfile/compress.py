"""One page in, one piece out: the compressors of a dump behind one signature.

Called by `dumpfile.pages`. May import `policy.model` and `dumpfile.format`.
"""

from __future__ import annotations

from collections.abc import Callable

from kdumpd.dumpfile.format import Flags
from kdumpd.policy.model import Compression, CompressionKind

Compress = Callable[[memoryview], bytes]

FLAG = {CompressionKind.ZSTD: Flags.ZSTD, CompressionKind.ZLIB: Flags.ZLIB, CompressionKind.NONE: Flags.RAW}

# More than any chunk of a dump takes at once, and less than glibc's largest threshold (32 MiB).
TRIM_BYTES = 24 << 20


def compressor(compression: Compression) -> Compress:
    """A function that compresses one page; what it returns may be longer than the page.

    zstd: one frame a page that states its content's size and carries a checksum of it, which every reader's libzstd
    checks by itself (2 percent of the time, 4 bytes a page). zlib has its own (Adler-32).
    """
    if compression.kind is CompressionKind.ZSTD:
        import zstandard

        return zstandard.ZstdCompressor(level=compression.level, write_content_size=True, write_checksum=True).compress
    if compression.kind is CompressionKind.ZLIB:
        import zlib

        level = compression.level
        return lambda page: zlib.compress(page, level)
    return bytes


def keep_freed_memory() -> None:
    """Make glibc keep what a chunk frees for the next chunk, instead of handing it back and faulting it in again.

    Freeing one large mapping raises glibc's own thresholds (mallopt(3), M_MMAP_THRESHOLD, dynamic adjustment): 24 MiB
    are mapped here and never touched. Elsewhere this does nothing. It saves up to a quarter of the time of a page with
    the distributions' zstandard.
    """
    mapping = bytes(TRIM_BYTES)
    del mapping
