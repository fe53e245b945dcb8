/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk over the crashed kernel's page structures, as plain C: it knows nothing of mappings,
 * user space or threads. Called by scan.c; tests/unit/kmod compiles it natively and holds it
 * against kdumpd/scan/rules.py and user.py.
 *
 *	judge.c	the rules for one structure, and for those that lie in one piece
 *	fates.c	the bitmap and the counts, changed by ranges
 *	walk.c	which structures are looked at: runs, holes, jumps
 *
 * Words are little endian, as on all processors that this module is built for.
 */
#ifndef KS_WALK_H
#define KS_WALK_H

#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/types.h>

#include "kdumpd_scan.h"

/* Bits of a dump level (makedumpfile's -d). */
#define KS_LEVEL_CACHE		2
#define KS_LEVEL_CACHE_PRIVATE	4
#define KS_LEVEL_USER		8
#define KS_LEVEL_FREE		16

/* Page frames whose bits fill the slot of a worker: no block of pages crosses its ends. */
#define KS_SUBWINDOW		BIT_ULL(KDUMPD_WINDOW_ORDER)

enum ks_fate {
	KS_KEEP,
	KS_CACHE,
	KS_CACHE_PRIVATE,
	KS_USER,
	KS_FREE,
	KS_HWPOISON,
	KS_OFFLINE,
	KS_FATES,
};

/**
 * struct ks_rules - a layout and a level, as check.c leaves them.
 * @layout: page types that must not match are KDUMPD_UNKNOWN, which no 32-bit value is
 * @telling: the bits of page.flags that a rule asks for
 * @level: bits of KS_LEVEL_*, none of them for a class that the layout does not tell
 */
struct ks_rules {
	struct kdumpd_layout layout;
	u64 telling;
	u32 level;
};

/**
 * struct ks_fates - the bits of the page frames from @first up to @end, and the counts.
 * @bitmap: 64-bit words
 * @present, @hands_off: the first of each that ends above @plain
 * @plain: the range around the present place that is in the vmcore and not hands off
 * @pending: page frames that are dropped, but whose bits are still set
 * @dropped: page frames by fate
 */
struct ks_fates {
	u64 first;
	u64 end;
	u64 *bitmap;
	const struct kdumpd_range *present;
	const struct kdumpd_range *present_end;
	const struct kdumpd_range *hands_off;
	const struct kdumpd_range *hands_off_end;
	struct kdumpd_range plain;
	struct kdumpd_range pending;
	u64 total;
	u64 hands_off_total;
	u64 dropped[KS_FATES];
	u64 examined;
	u64 bad_orders;
};

/**
 * struct ks_ground - what a scan walks over: the request's arrays, checked.
 * @at: gives @size bytes at @physical, and in @contiguous how many can be read from there on; NULL
 *	where there are none. What it gave is good until it is called again.
 * @memory: its first argument
 */
struct ks_ground {
	const struct ks_rules *rules;
	const struct kdumpd_run *runs;
	const struct kdumpd_range *present;
	const struct kdumpd_range *hands_off;
	u32 run_count;
	u32 present_count;
	u32 hands_off_count;
	const void *(*at)(void *memory, u64 physical, size_t size, size_t *contiguous);
};

/**
 * struct ks_walk - a walk over at most KS_SUBWINDOW page frames, across no multiple of it.
 * @position: all page frames before it are settled
 */
struct ks_walk {
	const struct ks_ground *ground;
	void *memory;
	u64 position;
	const struct kdumpd_run *run;
	const struct kdumpd_range *present;
	struct ks_fates fates;
};

/* judge.c */
void ks_rules_init(struct ks_rules *rules, const struct kdumpd_layout *layout, u32 level);
bool ks_is_head(const struct ks_rules *rules, const void *page);
u64 ks_judge(const struct ks_rules *rules, struct ks_fates *fates, u64 pfn, u64 end,
	     const void *page, bool followed, u64 budget);

/* fates.c */
void ks_fates_init(struct ks_fates *fates, const struct ks_ground *ground, u64 first, u64 end,
		   u64 *bitmap);
void ks_fates_drop_slowly(struct ks_fates *fates, u64 start, u64 end, enum ks_fate fate);
void ks_fates_flush(struct ks_fates *fates);
void ks_fates_count(const struct ks_fates *fates, struct kdumpd_counts *counts);

/* walk.c */
void ks_walk_init(struct ks_walk *walk, const struct ks_ground *ground, void *memory, u64 first,
		  u64 end, u64 *bitmap);
int ks_walk_on(struct ks_walk *walk, u64 budget);

/**
 * ks_fates_drop - the page frames from @start up to @end are not worth dumping; each call begins
 * where or after the one before it ended.
 */
static inline void ks_fates_drop(struct ks_fates *fates, u64 start, u64 end, enum ks_fate fate)
{
	if (unlikely(start < fates->plain.start || end > fates->plain.end)) {
		ks_fates_drop_slowly(fates, start, end, fate);
		return;
	}
	fates->dropped[fate] += end - start;
	if (start != fates->pending.end) {
		ks_fates_flush(fates);
		fates->pending.start = start;
	}
	fates->pending.end = end;
}

/* Index of the first of @count ranges that ends above @place. */
static inline u32 ks_range_after(const struct kdumpd_range *ranges, u32 count, u64 place)
{
	u32 low = 0;

	while (low < count) {
		u32 middle = low + (count - low) / 2;

		if (ranges[middle].end > place)
			count = middle;
		else
			low = middle + 1;
	}
	return low;
}

#endif /* KS_WALK_H */
