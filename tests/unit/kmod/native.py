"""The module's walk, compiled natively: the same sources that the kernel gets, called by ctypes.

The few kernel headers that they need are stood in for here. What plays the mapping hands out memory in pieces, each in
front of a page that must not be touched, so that a structure read beyond what was given ends the test at once.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdumpd.policy.model import PageKind
from kdumpd.scan import requests
from kdumpd.scan.selection import PageCounts
from kdumpd.vmcore.layout import PageLayout

KMOD = Path(__file__).parents[3] / "kmod"
SOURCES = ("judge.c", "fates.c", "walk.c")
SUBWINDOW = 1 << 18  # page frames

_HEADERS = {
    "bits.h": "#define BIT_ULL(bit) (1ULL << (bit))\n",
    "compiler.h": """
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#undef __always_inline
#define __always_inline inline __attribute__((__always_inline__))
""",
    "types.h": """
#include_next <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;
""",
    "minmax.h": """
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
""",
    "string.h": """
#include <linux/types.h>
static inline void *memset64(u64 *words, u64 value, size_t count)
{
	while (count--)
		words[count] = value;
	return words;
}
""",
}

_DRIVER = """
#include <string.h>
#include <sys/mman.h>
#include <linux/minmax.h>
#include "walk.h"

#define GUARDED 4096

/* Memory from physical @start on, handed out in pieces that end at multiples of @piece (0: all in one). */
struct memory {
	u64 start, end, piece;
	const u8 *bytes;
	u8 *guarded;
};

static const void *at(void *from, u64 physical, size_t size, size_t *contiguous)
{
	struct memory *memory = from;
	u64 end = memory->end;

	if (physical < memory->start || physical + size > end)
		return NULL;
	if (memory->piece) {
		end = min(end, (physical / memory->piece + 1) * memory->piece);
		end = max(end, physical + size);
	}
	*contiguous = end - physical;
	if (!memory->piece)
		return memory->bytes + (physical - memory->start);
	return memcpy(memory->guarded + GUARDED - *contiguous, memory->bytes + (physical - memory->start), *contiguous);
}

int scan(const struct kdumpd_layout *layout, u32 level, struct ks_ground *ground, u64 first, u64 end, u64 *bitmap,
	struct kdumpd_counts *counts, struct memory *memory, u64 budget)
{
	struct ks_rules rules;
	struct ks_walk walk;
	u64 start, stop;
	int more = 0;

	memory->guarded = mmap(NULL, 2 * GUARDED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(memory->guarded + GUARDED, GUARDED, PROT_NONE);
	ks_rules_init(&rules, layout, level);
	ground->rules = &rules;
	ground->at = at;
	for (start = first; start < end && more >= 0; start = stop) {
		stop = min(end, start + KS_SUBWINDOW);
		ks_walk_init(&walk, ground, memory, start, stop, bitmap + (start - first) / 64);
		while ((more = ks_walk_on(&walk, budget)) > 0)
			;
		ks_fates_count(&walk.fates, counts);
	}
	munmap(memory->guarded, 2 * GUARDED);
	return more;
}
"""


class Range(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint64), ("end", ctypes.c_uint64))


class Run(ctypes.Structure):
    _fields_ = (("first_pfn", ctypes.c_uint64), ("pages", ctypes.c_uint64), ("physical", ctypes.c_uint64))


class Ground(ctypes.Structure):
    _fields_ = (
        ("rules", ctypes.c_void_p),
        ("runs", ctypes.POINTER(Run)),
        ("present", ctypes.POINTER(Range)),
        ("hands_off", ctypes.POINTER(Range)),
        ("run_count", ctypes.c_uint32),
        ("present_count", ctypes.c_uint32),
        ("hands_off_count", ctypes.c_uint32),
        ("at", ctypes.c_void_p),
    )


class Memory(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("piece", ctypes.c_uint64),
        ("bytes", ctypes.c_char_p),
        ("guarded", ctypes.c_void_p),
    )


class Scanned(NamedTuple):
    """What the walk gave: its result, bitmap 2, the counts."""

    error: int
    bits: bytes
    counts: PageCounts
    bad_orders: int


def compiled(folder: Path) -> ctypes.CDLL:
    """The walk as a shared object, built in `folder`."""
    headers = folder / "linux"
    headers.mkdir()
    for name, text in _HEADERS.items():
        (headers / name).write_text(text)
    driver, library = folder / "driver.c", folder / "walk.so"
    driver.write_text(_DRIVER)
    flags = ["-O2", "-Wall", "-Wextra", "-Wno-sign-compare", "-Werror", "-shared", "-fPIC", f"-I{folder}", f"-I{KMOD}"]
    subprocess.run(["gcc", *flags, "-o", library, driver, *(KMOD / name for name in SOURCES)], check=True)
    return ctypes.CDLL(str(library))


def scan(
    library: ctypes.CDLL,
    layout: PageLayout,
    level: PageKind,
    runs: Sequence[tuple[int, int, int]],
    present: Sequence[tuple[int, int]],
    hands_off: Sequence[tuple[int, int]],
    window: tuple[int, int],
    content: bytes,
    *,
    physical: int = 0,
    piece: int = 0,
    budget: int = 1 << 15,
) -> Scanned:
    """Scan the page frames of `window`; `content` is memory from `physical` on, in pieces of `piece` bytes."""
    first, end = window
    run_array = (Run * len(runs))(*(Run(*run) for run in runs))
    present_array = (Range * len(present))(*(Range(*item) for item in present))
    hands_off_array = (Range * len(hands_off))(*(Range(*item) for item in hands_off))
    ground = Ground(None, run_array, present_array, hands_off_array, len(runs), len(present), len(hands_off), None)
    memory = Memory(physical, physical + len(content), piece, content, None)
    bitmap = (ctypes.c_uint64 * ((end - first + 63) // 64))()
    counts = (ctypes.c_uint64 * 11)()
    error = library.scan(
        requests.pack_layout(layout, 4096),
        ctypes.c_uint32(level & layout.tellable),
        ctypes.byref(ground),
        ctypes.c_uint64(first),
        ctypes.c_uint64(end),
        bitmap,
        counts,
        ctypes.byref(memory),
        ctypes.c_uint64(budget),
    )
    return Scanned(error, bytes(bitmap)[: (end - first + 7) // 8], PageCounts._make([*counts[:10], ()]), counts[10])
