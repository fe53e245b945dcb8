// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which page structures are looked at: those of present page frames, run by run, but not those
 * inside a block that is dropped whole. The same walk as kdumpd/scan/user.py makes.
 */
#include <linux/errno.h>
#include <linux/minmax.h>

#include "walk.h"

/* The first run that ends above @pfn. */
static const struct kdumpd_run *run_after(const struct ks_ground *ground, u64 pfn)
{
	u32 low = 0, high = ground->run_count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (ground->runs[middle].first_pfn + ground->runs[middle].pages > pfn)
			high = middle;
		else
			low = middle + 1;
	}
	return ground->runs + low;
}

/*
 * ks_walk_init - begin with the page frames from @first up to @end.
 * @memory: passed on to @ground's at()
 * @bitmap: whole 64-bit words, a bit for each page frame
 */
void ks_walk_init(struct ks_walk *walk, const struct ks_ground *ground, void *memory, u64 first,
		  u64 end, u64 *bitmap)
{
	walk->ground = ground;
	walk->memory = memory;
	walk->position = first;
	walk->run = run_after(ground, first);
	walk->present = ground->present;
	walk->present += ks_range_after(ground->present, ground->present_count, first);
	ks_fates_init(&walk->fates, ground, first, end, bitmap);
}

/*
 * Judge the page frames from the position on, at most up to @limit, whose structures lie in one
 * piece of memory.
 *
 * @stop is where the structures of the present page frames of this run end: a head before it has
 * one behind it. Where that lies in another piece, both are asked for together.
 */
static int judge_piece(struct ks_walk *walk, u64 limit, u64 stop, u64 budget)
{
	const struct ks_ground *ground = walk->ground;
	u64 size = ground->rules->layout.size, pfn = walk->position;
	u64 physical = walk->run->physical + (pfn - walk->run->first_pfn) * size;
	size_t contiguous;
	const void *page;
	u64 there, count;

	page = ground->at(walk->memory, physical, size, &contiguous);
	if (page && contiguous / size == 1 && pfn + 1 < stop &&
	    ks_is_head(ground->rules, page))
		page = ground->at(walk->memory, physical, 2 * size, &contiguous);
	if (!page)
		return -ENXIO;
	there = contiguous / size;
	count = there < limit - pfn ? there : limit - pfn;
	if (count == there && count > 1 && pfn + count < stop)
		count--;
	walk->position = ks_judge(ground->rules, &walk->fates, pfn, pfn + count, page,
				  count < there && pfn + count < stop, budget);
	return 0;
}

/*
 * ks_walk_on - look at @budget more structures.
 *
 * Return: 1 if there are more; 0 at the end, when bitmap and counts are whole; -ENXIO where a
 * structure lies in no map.
 */
int ks_walk_on(struct ks_walk *walk, u64 budget)
{
	const struct ks_ground *ground = walk->ground;
	const struct kdumpd_run *runs_end = ground->runs + ground->run_count;
	const struct kdumpd_range *present_end = ground->present + ground->present_count;
	u64 enough = walk->fates.examined + budget;

	while (walk->run < runs_end && walk->present < present_end &&
	       walk->position < walk->fates.end) {
		u64 run_end = walk->run->first_pfn + walk->run->pages, stop, limit;
		int error;

		if (walk->position >= run_end) {
			walk->run++;
			continue;
		}
		if (walk->position >= walk->present->end) {
			walk->present++;
			continue;
		}
		if (walk->position < walk->run->first_pfn ||
		    walk->position < walk->present->start) {
			walk->position = max(walk->run->first_pfn, walk->present->start);
			continue;
		}
		if (walk->fates.examined == enough)
			return 1;
		stop = min(run_end, walk->present->end);
		limit = min(stop, walk->fates.end);
		error = judge_piece(walk, limit, stop, enough - walk->fates.examined);
		if (error)
			return error;
	}
	walk->position = walk->fates.end;
	ks_fates_flush(&walk->fates);
	return 0;
}
