// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Everything that can be wrong with the numbers of a request, each with an error of its own (see
 * kdumpd_scan.h).
 */
#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sizes.h>

#include "compat.h"
#include "internal.h"

/* Page frames and sizes stay so far below 2^64 that sums of them cannot wrap. */
#define KS_MOST_PFN	BIT_ULL(52)

static bool known(u64 value)
{
	return value != KDUMPD_UNKNOWN;
}

static bool good_offset(u64 offset, u64 width, u64 size)
{
	return offset <= size - width && offset % width == 0;
}

static bool good_type(u64 type)
{
	return type <= U32_MAX || !known(type);
}

static bool good_hugetlb(const struct kdumpd_layout *layout)
{
	u64 value = layout->hugetlb_value;

	switch (layout->hugetlb) {
	case KDUMPD_HUGETLB_UNKNOWN:
		return true;
	case KDUMPD_HUGETLB_PAGE_TYPE:
		return value <= U32_MAX;
	case KDUMPD_HUGETLB_SECOND_FLAGS:
		return value < 64;
	case KDUMPD_HUGETLB_DTOR:
		return value <= U8_MAX && known(layout->second_dtor);
	default:
		return false;
	}
}

/*
 * Brings what is unknown to one form, and takes the classes out of @level that then cannot be told.
 */
static void settle(struct kdumpd_layout *layout, u32 *level)
{
	u64 *masks[] = {
		&layout->lru, &layout->private_flag, &layout->swapcache, &layout->swapbacked,
		&layout->head, &layout->hwpoison, &layout->slab_flag,
	};
	u32 i;

	for (i = 0; i < ARRAY_SIZE(masks); i++)
		if (!known(*masks[i]))
			*masks[i] = 0;
	if (!layout->free_orders)
		layout->buddy_type = KDUMPD_UNKNOWN;
	if (!known(layout->buddy_type))
		layout->unaccepted_type = KDUMPD_UNKNOWN;
	if (known(layout->slab_type))
		layout->slab_flag = 0;
	*level &= 2 | 4 | 8 | 16;
	if (!known(layout->slab_type) && !layout->slab_flag)
		*level &= 16;
	if (!layout->lru || !layout->private_flag || !layout->swapcache || !layout->swapbacked)
		*level &= 8 | 16;
}

bool ks_good_page_size(u64 size)
{
	return size >= 4096 && size <= 65536 && is_power_of_2(size);
}

int ks_check_layout(struct kdumpd_layout *layout, u32 *level)
{
	u64 size = layout->size;

	if (!ks_good_page_size(layout->page_size))
		return -EDOM;
	if (size < 32 || size > KS_MOST_STRUCT || size % 8)
		return -EDOM;
	if (!good_offset(layout->flags, 8, size) || !good_offset(layout->mapping, 8, size) ||
	    !good_offset(layout->mapcount, 4, size) ||
	    !good_offset(layout->private_offset, 8, size) ||
	    !good_offset(layout->compound_head, 8, size))
		return -EDOM;
	if (known(layout->second_order) && !good_offset(layout->second_order, 1, size))
		return -EDOM;
	if (known(layout->second_dtor) && !good_offset(layout->second_dtor, 1, size))
		return -EDOM;
	if (!good_type(layout->slab_type) || !good_type(layout->buddy_type) ||
	    !good_type(layout->offline_type) || !good_type(layout->unaccepted_type))
		return -EDOM;
	/* No block may be larger than the step in which windows begin. */
	if (layout->free_orders > KDUMPD_WINDOW_ORDER + 1 || !good_hugetlb(layout))
		return -EDOM;
	settle(layout, level);
	return 0;
}

int ks_check_ranges(const struct kdumpd_range *ranges, u32 count, u64 start, u64 end)
{
	u64 last = 0;
	u32 i;

	for (i = 0; i < count; i++) {
		const struct kdumpd_range *range = &ranges[i];

		if (range->start >= range->end || range->start < last)
			return -ERANGE;
		if (range->end <= start || range->start >= end)
			return -ERANGE;
		if (range->end > KS_MOST_PFN)
			return -EOVERFLOW;
		last = range->end;
	}
	return 0;
}

int ks_check_runs(const struct kdumpd_run *runs, u32 count, u64 start, u64 end, u64 struct_size)
{
	u64 limit = ks_physical_limit(), last = 0;
	u32 i;

	for (i = 0; i < count; i++) {
		const struct kdumpd_run *run = &runs[i];

		if (!run->pages)
			return -ERANGE;
		if (run->first_pfn > KS_MOST_PFN || run->pages > KS_MOST_PFN - run->first_pfn)
			return -EOVERFLOW;
		if (run->first_pfn < last || run->first_pfn >= end ||
		    run->first_pfn + run->pages <= start)
			return -ERANGE;
		if (run->physical % 8)
			return -EINVAL;
		if (run->physical > limit || run->pages * struct_size > limit - run->physical)
			return -EOVERFLOW;
		last = run->first_pfn + run->pages;
	}
	return 0;
}

static bool has_ram(u64 start, u64 size)
{
	return region_intersects(start, size, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) !=
	       REGION_DISJOINT;
}

/*
 * x86 keeps devices away from what is left, behind its RAM, of 64 MiB (1 MiB at low addresses):
 * "RAM buffer" in /proc/iomem, without any other mark (e820__reserve_resources_late). This kernel's
 * RAM ends amid the crashed kernel's, so there the buffer is old memory. Else the first resource
 * ends the search.
 */
static int not_ram_buffer(struct resource *resource, void *unused)
{
	u64 block = resource->start < SZ_16M ? SZ_1M : SZ_64M;
	u64 start = ALIGN_DOWN(resource->start, block);

	return !(resource->flags & IORESOURCE_BUSY) || resource->desc != IORES_DESC_NONE ||
	       resource->end >= start + block || resource->start == start ||
	       !has_ram(start, resource->start - start);
}

int ks_check_old(u64 start, u64 end)
{
	if (ks_memory_encrypted())
		return -EOPNOTSUPP;
	if (end > ks_physical_limit())
		return -EOVERFLOW;
	if (has_ram(start, end - start))
		return -EBUSY;
	if (walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, start, end - 1, NULL,
				not_ram_buffer) > 0)
		return -EADDRNOTAVAIL;
	return 0;
}

const char *ks_check_reason(int error)
{
	switch (error) {
	case -EOPNOTSUPP:
		return "memory is encrypted";
	case -EOVERFLOW:
		return "it lies beyond the processor's physical addresses";
	case -EBUSY:
		return "this kernel uses that memory itself";
	case -EADDRNOTAVAIL:
		return "it is a device's or the firmware's";
	case -ERANGE:
		return "it is empty or overlaps another";
	default:
		return "it cannot be used";
	}
}
