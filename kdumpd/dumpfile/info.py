"""What a dump tells about itself and the crash, without reading its pages (but those that the log lies in).

Called by `cli.info`. May import `dumpfile` and `policy.model`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kdumpd.dumpfile import bitmap
from kdumpd.dumpfile.format import Flags
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.summary import KINDS
from kdumpd.errors import DumpError, KdumpdError
from kdumpd.policy.model import PageKind

EXTRA_KINDS = ("zero", *(kind for kind in KINDS if kind not in ("total", "kept")))  # beside memory and kept

Progress = Callable[[int, int], None]  # (bytes of bitmaps done, in all)

_STAMP = re.compile(rb"^\[ *\d+\.\d+\](?: ?\[ *[TC]\d+\])? ")
_PANIC = b"Kernel panic - not syncing: "
# A panic says "Fatal exception" for every oops; what is wrong stands in a line before it.
_UNTOLD = (b"Fatal exception", b"Oops")
_CAUSES = re.compile(
    rb"^(?:BUG: |kernel BUG at |Unable to handle kernel |Internal error: |general protection fault|double fault"
    rb"|stack segment|invalid opcode|divide error|watchdog: BUG: |sysrq: Trigger a crash|Oops: )"
)


class Information(NamedTuple):
    """What `info --json` prints. Sizes in bytes, `crash_time` in seconds since 1970 (None where unknown).

    `pages` has "memory" (frames that are memory) and "kept" (frames in the dump) always; dumps by kdumpd also tell what
    was left out by kind, and "zero" among the kept ones. `panic` is None where the log does not tell, `log_error` why
    the log cannot be read.
    """

    file: str
    complete: bool
    size: int
    release: str
    version: str
    machine: str
    nodename: str
    crash_time: int | None
    panic: str | None
    log_error: str | None
    level: int
    excluded: tuple[str, ...]
    compression: str
    page_size: int
    processors: int
    memory_size: int
    pages: dict[str, int]
    written_by: str | None


def info(dump: Dump, progress: Progress | None = None) -> Information:
    """What `dump` tells; DumpError where its notes are damaged."""
    header, level = dump.header, dump.sub_header.dump_level
    pages = _count(dump, progress)
    try:
        summary = dump.summary
    except DumpError:  # `verify` says so; the rest can be told
        summary = None
    if summary is not None:
        pages |= {kind: summary.pages[kind] for kind in EXTRA_KINDS if kind in summary.pages}
    panic: str | None = None
    log_error: str | None = None
    try:
        panic = panic_message(dump.dmesg())
    except KdumpdError as error:
        log_error = str(error)
    return Information(
        file=dump.name,
        complete=not dump.incomplete,
        size=dump.size,
        release=_text(header.utsname.release),
        version=_text(header.utsname.version),
        machine=_text(header.utsname.machine),
        nodename=_text(header.utsname.nodename),
        crash_time=header.seconds or None,
        panic=panic,
        log_error=log_error,
        level=level,
        excluded=tuple(kind.name.lower().replace("_", "-") for kind in PageKind if level & kind and kind.name),
        compression=(Flags(dump.compression).name or "none").lower() if dump.compression else "none",
        page_size=dump.layout.block_size,
        processors=header.cpus,
        memory_size=pages["memory"] * dump.layout.block_size,
        pages=pages,
        written_by=f"kdumpd {summary.version}" if summary is not None else None,
    )


def panic_message(lines: Iterable[bytes]) -> str | None:
    """What the kernel said it died of: its panic line, or the line of the oops behind a panic that tells nothing."""
    panic = cause = None
    for line in lines:
        text = _STAMP.sub(b"", line).strip()
        if text.startswith(_PANIC):
            panic = text
        elif panic is None and _CAUSES.match(text) and (cause is None or not text.startswith(b"Oops: ")):
            cause = text
    if panic is not None and (cause is None or not panic[len(_PANIC) :].startswith(_UNTOLD)):
        return _text(panic)
    return None if cause is None else _text(cause)


def _count(dump: Dump, progress: Progress | None) -> dict[str, int]:
    size = -(-dump.frames // 8)
    pages = {"memory": 0, "kept": 0}
    done = 0
    for memory, dumped in zip(dump.bitmap(1), dump.bitmap(2), strict=True):
        pages["memory"] += bitmap.count(memory)
        pages["kept"] += bitmap.count(dumped)
        done += len(memory)
        if progress is not None:
            progress(done, size)
    if pages["kept"] > pages["memory"]:
        raise DumpError(
            f"{dump.name}: {pages['kept']} pages in the dump of {pages['memory']} of memory: damaged bitmaps"
        )
    return pages


def _text(field: bytes) -> str:
    """Text of a hostile file for a terminal: what is not printable is replaced."""
    return "".join(character if character.isprintable() else "?" for character in field.decode("utf-8", "replace"))
