// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One leaf of this kernel's page tables, and how far physical addresses go: arm64.
 *
 * The kernel exports neither its tables nor a look at them, so this walks as the processor does:
 * from TTBR1, with as many levels as TCR says (Arm ARM, D8.2 "Translation process").
 */
#include <asm/io.h>
#include <asm/memory.h>
#include <asm/pgtable.h>
#include <asm/pgtable-hwdef.h>
#include <asm/sysreg.h>

#include "internal.h"

#define KS_T1SZ(tcr)	(((tcr) >> 16) & 0x3f)
#define KS_BADDR	GENMASK_ULL(47, 6)
#define KS_VALID	BIT_ULL(0)
#define KS_TABLE	BIT_ULL(1)

bool ks_leaf_at(unsigned long virt, struct ks_leaf *leaf)
{
	u32 bits = 64 - KS_T1SZ(read_sysreg(tcr_el1));
	u64 table = read_sysreg(ttbr1_el1) & KS_BADDR;
	u32 stride = PAGE_SHIFT - 3;
	u32 levels = DIV_ROUND_UP(bits - PAGE_SHIFT, stride);
	/* Bits of the index, which is shorter in the first table. */
	u32 width = bits - PAGE_SHIFT - (levels - 1) * stride;
	u32 shift;

	for (shift = PAGE_SHIFT + (levels - 1) * stride; ; shift -= stride) {
		u64 index = virt >> shift & ((1ULL << width) - 1);
		u64 entry = READ_ONCE(((u64 *)phys_to_virt(table))[index]);
		u64 address = __pte_to_phys(__pte(entry));
		u64 kind = entry & PTE_ATTRINDX_MASK;

		if (!(entry & KS_VALID))
			return false;
		if (shift > PAGE_SHIFT && entry & KS_TABLE) {
			table = address;
			width = stride;
			continue;
		}
		leaf->shift = shift;
		leaf->physical = address & ~((1ULL << shift) - 1);
		leaf->cached = kind == PTE_ATTRINDX(MT_NORMAL) ||
			       kind == PTE_ATTRINDX(MT_NORMAL_TAGGED);
		return true;
	}
}

u64 ks_physical_limit(void)
{
	return PHYS_MASK + 1;
}
