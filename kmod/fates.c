// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What becomes of page frames: a bitmap that starts with all that the vmcore holds and nobody wants
 * left out, and loses what the walk drops. Bits change by ranges; only pages that are dropped cost
 * anything.
 */
#include <linux/minmax.h>
#include <linux/string.h>

#include "walk.h"

static void change_word(u64 *word, u64 mask, bool keep)
{
	*word = keep ? *word | mask : *word & ~mask;
}

static void change_bits(u64 *bitmap, u64 start, u64 end, bool keep)
{
	u64 *word = bitmap + start / 64, *last = bitmap + end / 64;
	u64 first_mask = ~0ULL << start % 64, last_mask = ~(~0ULL << end % 64);

	if (start >= end)
		return;
	if (word == last) {
		change_word(word, first_mask & last_mask, keep);
		return;
	}
	change_word(word++, first_mask, keep);
	memset64(word, keep ? ~0ULL : 0, last - word);
	if (last_mask)
		change_word(last, last_mask, keep);
}

/* Make @plain the first plain range that ends above @place, an empty one if there is none. */
static void find_plain(struct ks_fates *fates, u64 place)
{
	for (;;) {
		while (fates->present < fates->present_end && fates->present->end <= place)
			fates->present++;
		if (fates->present == fates->present_end || fates->present->start >= fates->end ||
		    place >= fates->end) {
			fates->plain.start = fates->end;
			fates->plain.end = fates->end;
			return;
		}
		if (place < fates->present->start)
			place = fates->present->start;
		while (fates->hands_off < fates->hands_off_end &&
		       fates->hands_off->end <= place)
			fates->hands_off++;
		if (fates->hands_off == fates->hands_off_end ||
		    fates->hands_off->start > place)
			break;
		place = fates->hands_off->end;
	}
	fates->plain.start = place;
	fates->plain.end = min(fates->present->end, fates->end);
	if (fates->hands_off < fates->hands_off_end && fates->hands_off->start < fates->plain.end)
		fates->plain.end = fates->hands_off->start;
}

/*
 * ks_fates_init - keep all that is present in @first up to @end, but what is hands off.
 * @bitmap: room for a bit each, in whole words
 */
void ks_fates_init(struct ks_fates *fates, const struct ks_ground *ground, u64 first, u64 end,
		   u64 *bitmap)
{
	u32 present = ks_range_after(ground->present, ground->present_count, first);
	u32 hands_off = ks_range_after(ground->hands_off, ground->hands_off_count, first);
	const struct kdumpd_range *range;
	u64 place = first;

	*fates = (struct ks_fates){
		.first = first,
		.end = end,
		.bitmap = bitmap,
		.present = ground->present + present,
		.present_end = ground->present + ground->present_count,
		.hands_off = ground->hands_off + hands_off,
		.hands_off_end = ground->hands_off + ground->hands_off_count,
		.pending = { first, first },
	};
	for (range = fates->present; range < fates->present_end && range->start < end; range++)
		fates->total += min(range->end, end) - max(range->start, first);
	fates->hands_off_total = fates->total;
	find_plain(fates, first);
	while (fates->plain.start < end) {
		change_bits(bitmap, place - first, fates->plain.start - first, false);
		place = fates->plain.end;
		change_bits(bitmap, fates->plain.start - first, place - first, true);
		fates->hands_off_total -= fates->plain.end - fates->plain.start;
		find_plain(fates, place);
	}
	change_bits(bitmap, place - first, (end - first + 63) & ~63ULL, false);
	fates->present = ground->present + present;
	fates->hands_off = ground->hands_off + hands_off;
	find_plain(fates, first);
}

/* ks_fates_drop() for a range that may leave the plain one. */
void ks_fates_drop_slowly(struct ks_fates *fates, u64 start, u64 end, enum ks_fate fate)
{
	while (start < end) {
		u64 stop;

		if (start >= fates->plain.end)
			find_plain(fates, start);
		if (start < fates->plain.start)
			start = fates->plain.start;
		if (start >= fates->end)
			return;
		stop = min(end, fates->plain.end);
		if (start >= stop)
			return;
		ks_fates_drop(fates, start, stop, fate);
		start = stop;
	}
}

/* Clear the bits of what has been dropped. */
void ks_fates_flush(struct ks_fates *fates)
{
	change_bits(fates->bitmap, fates->pending.start - fates->first,
		    fates->pending.end - fates->first, false);
	fates->pending.start = fates->pending.end;
}

/* Add what is known now to @counts. */
void ks_fates_count(const struct ks_fates *fates, struct kdumpd_counts *counts)
{
	u64 dropped = fates->hands_off_total;
	int fate;

	for (fate = KS_KEEP; fate < KS_FATES; fate++)
		dropped += fates->dropped[fate];
	counts->total += fates->total;
	counts->kept += fates->total - dropped;
	counts->cache += fates->dropped[KS_CACHE];
	counts->cache_private += fates->dropped[KS_CACHE_PRIVATE];
	counts->user += fates->dropped[KS_USER];
	counts->free += fates->dropped[KS_FREE];
	counts->hwpoison += fates->dropped[KS_HWPOISON];
	counts->offline += fates->dropped[KS_OFFLINE];
	counts->hands_off += fates->hands_off_total;
	counts->examined += fates->examined;
	counts->bad_orders += fates->bad_orders;
}
