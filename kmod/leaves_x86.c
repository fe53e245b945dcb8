// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One leaf of this kernel's page tables, and how far physical addresses go: x86.
 */
#include <asm/pgtable.h>
#include <asm/processor.h>

#include "internal.h"

bool ks_leaf_at(unsigned long virt, struct ks_leaf *leaf)
{
	unsigned int level;
	pte_t *entry = lookup_address(virt, &level);
	u64 value, address;

	if (!entry)
		return false;
	value = pte_val(READ_ONCE(*entry));
	if (!(value & _PAGE_PRESENT))
		return false;
	switch (level) {
	case PG_LEVEL_4K:
		leaf->shift = PAGE_SHIFT;
		break;
	case PG_LEVEL_2M:
		leaf->shift = PMD_SHIFT;
		break;
	case PG_LEVEL_1G:
		leaf->shift = PUD_SHIFT;
		break;
	default:
		return false;
	}
	address = value & PTE_PFN_MASK;
	leaf->physical = address & ~((1ULL << leaf->shift) - 1);
	/* Of Linux' page attributes only write-back has neither bit. */
	leaf->cached = !(value & (_PAGE_PCD | _PAGE_PWT));
	return true;
}

u64 ks_physical_limit(void)
{
	return 1ULL << boot_cpu_data.x86_phys_bits;
}
