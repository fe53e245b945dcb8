// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The exclusion rules for one page structure, in makedumpfile's order: the first match wins. The
 * same rules, with their sources, are in kdumpd/scan/rules.py; whoever changes one changes both.
 */
#include <linux/minmax.h>

#include "walk.h"

#define KS_SINGLE	16	/* structures judged one by one, before it is tried by the row */

/*
 * A block of pages that share their head's fate. It lives in registers: what returns one is
 * inlined, since three stores and one load of them all cost more than the rules.
 */
struct verdict {
	enum ks_fate fate;
	u32 order;
	bool bad_order;
};

/* Fold what @level does not ask for into page types that match nothing. */
void ks_rules_init(struct ks_rules *rules, const struct kdumpd_layout *layout, u32 level)
{
	rules->layout = *layout;
	rules->level = level;
	rules->telling = layout->lru | layout->private_flag | layout->swapcache |
		layout->swapbacked | layout->head | layout->hwpoison | layout->slab_flag;
	if (!(level & KS_LEVEL_FREE)) {
		rules->layout.buddy_type = KDUMPD_UNKNOWN;
		rules->layout.unaccepted_type = KDUMPD_UNKNOWN;
	}
}

static __always_inline u64 word_at(const void *page, u64 offset)
{
	return READ_ONCE(*(const u64 *)(page + offset));
}

static __always_inline u64 type_of(const void *page, u64 offset)
{
	return READ_ONCE(*(const u32 *)(page + offset));
}

static __always_inline u64 octet_at(const void *page, u64 offset)
{
	return READ_ONCE(*(const u8 *)(page + offset));
}

static __always_inline bool aligned(u64 pfn, u64 order)
{
	return !(pfn & ((1ULL << order) - 1));
}

/* A page, or a compound one where its second structure claims an order that can be. */
static __always_inline struct verdict compound(const struct kdumpd_layout *layout, u64 pfn,
					       u64 flags, const void *second,
					       enum ks_fate fate)
{
	struct verdict verdict = { .fate = fate };
	u64 order;

	if (!(flags & layout->head) || !second || layout->second_order == KDUMPD_UNKNOWN)
		return verdict;
	order = octet_at(second, layout->second_order);
	/* Fake heads, which hugetlb's vmemmap optimisation makes, are not aligned. */
	if (order <= KDUMPD_WINDOW_ORDER && aligned(pfn, order))
		verdict.order = order;
	return verdict;
}

/* A free block of an order that is checked before it is trusted. */
static __always_inline struct verdict free_block(const struct kdumpd_layout *layout, u64 pfn,
						 u64 order)
{
	if (unlikely(order >= layout->free_orders || !aligned(pfn, order)))
		return (struct verdict){ .bad_order = true };
	return (struct verdict){ .fate = KS_FREE, .order = order };
}

/* Whether the compound page with this head belongs to hugetlbfs. */
static bool is_hugetlb(const struct kdumpd_layout *layout, u64 type, const void *second)
{
	if (layout->hugetlb == KDUMPD_HUGETLB_PAGE_TYPE)
		return type == layout->hugetlb_value;
	if (!second)
		return false;
	if (layout->hugetlb == KDUMPD_HUGETLB_SECOND_FLAGS)
		return word_at(second, layout->flags) >> layout->hugetlb_value & 1;
	return layout->hugetlb == KDUMPD_HUGETLB_DTOR &&
	       octet_at(second, layout->second_dtor) == layout->hugetlb_value;
}

static __always_inline struct verdict judge(const struct ks_rules *rules, u64 pfn,
					    const void *page, const void *second)
{
	const struct kdumpd_layout *layout = &rules->layout;
	u64 flags = word_at(page, layout->flags);
	u64 swap_cache = layout->swapbacked | layout->swapcache;
	bool poisoned = flags & layout->hwpoison;
	bool slab, anon;
	u64 type;

	/* A tail: its head has decided. But poison is the page's own, until a huge one is split. */
	if (word_at(page, layout->compound_head) & 1)
		return (struct verdict){ .fate = poisoned ? KS_HWPOISON : KS_KEEP };

	type = type_of(page, layout->mapcount);
	slab = flags & layout->slab_flag || type == layout->slab_type;
	if (!slab && type == layout->buddy_type)
		return free_block(layout, pfn, word_at(page, layout->private_offset));
	if (!slab && type == layout->unaccepted_type)
		return free_block(layout, pfn, layout->free_orders - 1);

	anon = word_at(page, layout->mapping) & 1 && !slab;
	if ((flags & layout->lru || (flags & swap_cache) == swap_cache) && !anon) {
		bool private = flags & layout->private_flag;

		if (rules->level & KS_LEVEL_CACHE && !private)
			return compound(layout, pfn, flags, second, KS_CACHE);
		if (rules->level & KS_LEVEL_CACHE_PRIVATE)
			return compound(layout, pfn, flags, second,
					private ? KS_CACHE_PRIVATE : KS_CACHE);
	}
	if (rules->level & KS_LEVEL_USER &&
	    (anon || (flags & layout->head && is_hugetlb(layout, type, second))))
		return compound(layout, pfn, flags, second, KS_USER);
	if (unlikely(poisoned))
		return compound(layout, pfn, flags, second, KS_HWPOISON);
	if (!slab && type == layout->offline_type)
		return compound(layout, pfn, flags, second, KS_OFFLINE);
	return (struct verdict){ .fate = KS_KEEP };
}

/*
 * ks_is_head - whether the rules need the structure that follows @page.
 */
bool ks_is_head(const struct ks_rules *rules, const void *page)
{
	return word_at(page, rules->layout.flags) & rules->layout.head;
}

/*
 * How many structures from @page on, at most @most, are alike in all that judge() looks at in a
 * page that heads no block: they have one fate. Memory is full of such rows (page cache, the pages
 * of mem_map itself), and one branch and no store is all that each structure takes here. Whoever
 * makes judge() look at more has to compare it here.
 */
static u64 alike(const struct ks_rules *rules, const void *page, u64 most)
{
	const struct kdumpd_layout *layout = &rules->layout;
	u64 size = layout->size, telling = rules->telling, at, count;
	const void *flags_at = page + layout->flags, *head_at = page + layout->compound_head;
	const void *mapping_at = page + layout->mapping, *type_at = page + layout->mapcount;
	u64 flags = word_at(flags_at, 0), type = type_of(type_at, 0);
	u64 head = word_at(head_at, 0), mapping = word_at(mapping_at, 0);

	if (flags & layout->head || type == layout->buddy_type || type == layout->unaccepted_type)
		return 1;
	for (count = 1, at = size; count < most; count++, at += size)
		if (((word_at(flags_at, at) ^ flags) & telling) | (type_of(type_at, at) ^ type) |
		    (((word_at(head_at, at) ^ head) | (word_at(mapping_at, at) ^ mapping)) & 1))
			break;
	return count;
}

/* ks_judge() one by one. */
static u64 judge_singly(const struct ks_rules *rules, struct ks_fates *fates, u64 pfn, u64 end,
			const void *page, bool followed, u64 budget)
{
	u64 size = rules->layout.size, last = end - !followed, looked;

	for (looked = 0; pfn < end && looked < budget; looked++) {
		struct verdict verdict = judge(rules, pfn, page, pfn < last ? page + size : NULL);
		u64 next = pfn + (1ULL << verdict.order);

		if (verdict.fate)
			ks_fates_drop(fates, pfn, next, verdict.fate);
		else if (unlikely(verdict.bad_order))
			fates->bad_orders++;
		page += size << verdict.order;
		pfn = next;
	}
	fates->examined += looked;
	return pfn;
}

/*
 * ks_judge - judge the page frames from @pfn up to @end, whose structures lie one behind the other.
 * @page: the first of them
 * @followed: one more structure lies behind them
 * @budget: how many structures may be looked at
 *
 * Return: the first page frame that is not settled; beyond @end where a block reaches over it.
 */
u64 ks_judge(const struct ks_rules *rules, struct ks_fates *fates, u64 pfn, u64 end,
	     const void *page, bool followed, u64 budget)
{
	u64 size = rules->layout.size, enough = fates->examined + budget;

	while (pfn < end && fates->examined < enough) {
		u64 from = pfn, row;
		enum ks_fate fate;

		pfn = judge_singly(rules, fates, pfn, end, page, followed,
				   min_t(u64, enough - fates->examined, KS_SINGLE));
		page += size * (pfn - from);
		if (pfn >= end || fates->examined == enough)
			break;
		row = alike(rules, page, min(end - pfn, enough - fates->examined));
		if (row == 1)
			continue;
		fate = judge(rules, pfn, page, NULL).fate;
		if (fate)
			ks_fates_drop(fates, pfn, pfn + row, fate);
		fates->examined += row;
		pfn += row;
		page += size * row;
	}
	return pfn;
}
