// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How ranges of old memory are cut into pieces, and what page tables that will take.
 *
 * Measured on 5.10 to 7.3: a piece that starts on a large leaf gets large leaves, then middle, then
 * small ones for its tail; one that starts only on a middle leaf gets middle ones throughout; any
 * other start small ones.
 */
#include <linux/kernel.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/sizes.h>

#include "mapping.h"

/*
 * The most that is mapped in one call, for the sake of who waits: some ten thousand leaves. Of
 * small ones a table less, so that the page which ioremap leaves free behind each piece costs no
 * more.
 */
#define KS_MOST_MIDDLE	(64ULL * SZ_1G)
#define KS_MOST_SMALL	(((65536ULL >> (PAGE_SHIFT - 3)) - 1) << KS_MIDDLE)

u32 ks_plan_shift(u32 page_shift)
{
	switch (page_shift) {
	case 30:
		return KS_LARGE;
	case 21:
		return KS_MIDDLE;
	default:
		return KS_SMALL;
	}
}

static bool on(u64 address, u32 shift)
{
	return IS_ALIGNED(address, 1ULL << shift);
}

static u64 until(u64 start, u64 end, u32 shift)
{
	return min(end, ALIGN(start, 1ULL << shift)) - start;
}

u64 ks_plan_piece(u64 start, u64 end, u32 shift)
{
	u64 size = end - start;

	if (shift == KS_SMALL) {
		/* One page less, and no larger leaf fits anywhere behind it. */
		if (on(start, KS_MIDDLE) && size >= 1ULL << KS_MIDDLE)
			return PAGE_SIZE;
		return min_t(u64, size, KS_MOST_SMALL);
	}
	if (!on(start, KS_MIDDLE))
		return until(start, end, KS_MIDDLE);
	if (shift == KS_LARGE) {
		if (!on(start, KS_LARGE))
			return until(start, end, KS_LARGE);
		return size;
	}
	/* As above: one middle leaf less, and no large one fits. */
	if (KS_LARGE > KS_MIDDLE && on(start, KS_LARGE) && size >= 1ULL << KS_LARGE)
		return 1ULL << KS_MIDDLE;
	return min_t(u64, size, KS_MOST_MIDDLE);
}

u64 ks_plan_middle(u64 start, u64 end)
{
	u64 size = end - start, middle = start + size / 2;
	u32 shift = KS_SMALL;

	if (size >= 2ULL << KS_LARGE)
		shift = KS_LARGE;
	else if (size >= 2ULL << KS_MIDDLE)
		shift = KS_MIDDLE;
	/* Half a piece is at least one leaf of that size, so both halves keep something. */
	middle = ALIGN_DOWN(middle, 1ULL << shift);
	return middle > start ? middle : ALIGN(start + 1, 1ULL << shift);
}

/* The leaf that a planned piece gets. */
static u32 leaf_of(u64 start, u64 size, u32 shift)
{
	if (shift == KS_SMALL || !on(start, KS_MIDDLE) || size < 1ULL << KS_MIDDLE)
		return KS_SMALL;
	if (shift == KS_MIDDLE || !on(start, KS_LARGE) || size < 1ULL << KS_LARGE)
		return KS_MIDDLE;
	return KS_LARGE;
}

/* Tables of @level that @span bytes of addresses need, if they lie together. */
static u64 tables(u64 span, u32 level)
{
	return span ? ((span - 1) >> KS_TABLE_SHIFT(level)) + 1 : 0;
}

u64 ks_plan_tables(const struct kdumpd_range *ranges, u32 count, u32 shift)
{
	u64 small = 0, middle = 0, all = 0, tails = 0;
	u32 i;

	for (i = 0; i < count; i++) {
		u64 start = ranges[i].start, end = ranges[i].end;

		while (start < end) {
			u64 size = ks_plan_piece(start, end, shift);
			u64 align = min_t(u64, roundup_pow_of_two(size), 1ULL << KS_LARGE);
			u64 span = ALIGN(size + PAGE_SIZE, align);
			u32 leaf;

			all += span;
			leaf = leaf_of(start, size, shift);
			if (leaf == KS_SMALL)
				small += span;
			else if (leaf == KS_MIDDLE)
				middle += span;
			/* The tail of larger leaves takes a table of each smaller kind. */
			if (leaf == KS_LARGE && leaf > KS_MIDDLE)
				tails += !on(size, KS_LARGE);
			if (leaf > KS_SMALL)
				tails += !on(size, KS_MIDDLE);
			start += size;
		}
	}
	return (tables(small, 0) + tables(small + middle, 1) + tables(all, 2) + tails) * PAGE_SIZE;
}
