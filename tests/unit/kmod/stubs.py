"""Files of the module that need little of the kernel, compiled natively: plan.c, check.c and handout.c.

What they need of the kernel is stood in for: constants of x86-64, a table of resources for check.c, and for handout.c a
user space that ends at `user_end`.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from tests.unit.kmod.native import KMOD

_EVERYTHING = """
#include <errno.h>
#include <limits.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;
typedef struct { long counter; } atomic_t, atomic64_t;
typedef struct { int list; } wait_queue_head_t;
struct kref { int count; };
struct mutex { int owner; };
#define __user
#define __aligned(size) __attribute__((aligned(size)))
#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PMD_SHIFT 21
#define PUD_SHIFT 30
#define SZ_1G 0x40000000
#define U8_MAX 0xff
#define U32_MAX 0xffffffffU
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define BIT_ULL(bit) (1ULL << (bit))
#define IS_ALIGNED(x, a) (!((x) & ((a) - 1)))
#define ALIGN(x, a) (((x) + (a) - 1) & ~((u64)(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((u64)(a) - 1))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
static inline u64 roundup_pow_of_two(u64 x) { return x < 2 ? 1 : 1ULL << (64 - __builtin_clzll(x - 1)); }
static inline bool is_power_of_2(u64 x) { return x && !(x & (x - 1)); }
#define LINUX_VERSION_CODE 1
#define KERNEL_VERSION(a, b, c) 0
#define module_put_and_kthread_exit
enum { CC_ATTR_MEM_ENCRYPT };
extern bool encrypted;
static inline bool cc_platform_has(int attribute) { return encrypted; }
enum { IORESOURCE_MEM = 1, IORESOURCE_SYSTEM_RAM = 3, IORESOURCE_BUSY = 4 };
enum { IORES_DESC_NONE, IORES_DESC_RESERVED };
enum { REGION_INTERSECTS, REGION_DISJOINT, REGION_MIXED };
#define SZ_1M 0x100000
#define SZ_16M 0x1000000
#define SZ_64M 0x4000000
struct resource { u64 start, end; unsigned long flags, desc; };
int region_intersects(u64 start, u64 size, unsigned long flags, unsigned long kind);
int walk_iomem_res_desc(unsigned long kind, unsigned long flags, u64 start, u64 end, void *argument,
	int (*found)(struct resource *, void *));
extern const u8 *user_end;
extern int user_accesses;
#define prefetch(address) ((void)(address))
#define user_access_begin(address, size) ((const u8 *)(address) < user_end && ++user_accesses)
#define user_access_end() ((void)user_accesses--)
#define unsafe_put_user(value, address, fault) \\
	do { \\
		if ((const u8 *)((address) + 1) > user_end) \\
			goto fault; \\
		*(address) = (value); \\
	} while (0)
static inline size_t copy_to_user(void *into, const void *from, size_t size)
{
	const u8 *end = (u8 *)into + size;

	if (end > user_end)
		return end - user_end;
	__builtin_memcpy(into, from, size);
	return 0;
}
"""

_HEADERS = (
    *("atomic", "kref", "mutex", "types", "wait", "mm", "pgtable", "kernel", "log2", "minmax", "sizes", "errno"),
    *("prefetch", "uaccess", "bits", "ioport", "kthread", "module", "version", "cc_platform"),
)

_MACHINE = """
#include "internal.h"
#define BUSY (IORESOURCE_MEM | IORESOURCE_BUSY)
/* 46 bits of physical addresses, and what /proc/iomem shows of a capture kernel. */
static const struct resource resources[] = {
	{ 0x10000000, 0x1e0fffff, IORESOURCE_SYSTEM_RAM | BUSY }, /* this kernel's */
	{ 0x1e100000, 0x1f7fffff, BUSY }, /* RAM buffer, in two parts */
	{ 0x1f800000, 0x1fbfffff, IORESOURCE_MEM, IORES_DESC_RESERVED },
	{ 0x1fc00000, 0x1fffffff, BUSY },
	{ 0xc0000000, 0xffffffff, IORESOURCE_MEM }, /* PCI Bus */
};
bool encrypted;

int walk_iomem_res_desc(unsigned long kind, unsigned long flags, u64 start, u64 end, void *argument,
	int (*found)(struct resource *, void *))
{
	unsigned int i;
	int error = -EINVAL;

	for (i = 0; i < ARRAY_SIZE(resources); i++) {
		struct resource one = resources[i];

		if (one.start > end || one.end < start || (one.flags & flags) != flags)
			continue;
		one.start = one.start < start ? start : one.start;
		one.end = min(one.end, end);
		error = found(&one, argument);
		if (error)
			break;
	}
	return error;
}

static int one_is_there(struct resource *resource, void *argument)
{
	return 1;
}

int region_intersects(u64 start, u64 size, unsigned long flags, unsigned long kind)
{
	int found = walk_iomem_res_desc(kind, flags, start, start + size - 1, NULL, one_is_there);

	return found > 0 ? REGION_MIXED : REGION_DISJOINT;
}

u64 ks_physical_limit(void) { return 1ULL << 46; }
const u8 *user_end;
int user_accesses; /* begun and not ended */

int hand_out(u8 *into, const void *from, size_t size, size_t there)
{
	user_end = into + there;
	return ks_hand_out(into, from, size);
}
"""


def library(folder: Path) -> ctypes.CDLL:
    """The three, compiled in `folder`."""
    headers = folder / "linux"
    headers.mkdir()
    (headers / "everything.h").write_text(
        _EVERYTHING.replace("#include <linux/types.h>", "#include_next <linux/types.h>")
    )
    for name in _HEADERS:
        text = f"#include_next <linux/{name}.h>\n" if name in ("errno", "types") else ""
        (headers / f"{name}.h").write_text(text)
    (folder / "machine.c").write_text(_MACHINE)
    made = folder / "decisions.so"
    sources = [str(KMOD / name) for name in ("plan.c", "check.c", "handout.c")]
    flags = ("-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC")
    places = (f"-I{folder}", f"-I{KMOD}", "-include", str(headers / "everything.h"))
    subprocess.run(["cc", *flags, *places, *sources, str(folder / "machine.c"), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))
