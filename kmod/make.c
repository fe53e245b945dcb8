// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Makes a map: cached, by leaves as large as asked for and as its alignment allows, and never
 * silently worse.
 *
 * Page tables are reckoned before anything is mapped, and counted after.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "mapping.h"

#define KS_PROBES	3	/* places where it is tried how large leaves become */
#define KS_TODO		64	/* halves of halves of the largest piece, down to 2 MiB */

/*
 * A map that is being made: the largest leaf it is to have, and the bytes of page tables that it
 * may take.
 */
struct maker {
	struct ks_map *map;
	struct ks_tally tally;
	u32 shift;
	u64 limit;
	u64 retried;
	u64 refused;
};

/* Maps one piece and reads its leaves back. -EIO: it came back uncached, and is gone again. */
static int make_piece(struct maker *maker, u64 start, u64 size)
{
	struct ks_piece piece = { .start = start, .end = start + size };
	struct ks_tally before = maker->tally;
	int error;

	piece.virt = ks_old_map(start, size);
	if (!piece.virt)
		return -ENOMEM;
	error = ks_tally_piece(&maker->tally, &piece);
	if (!error && maker->tally.tables * PAGE_SIZE > maker->limit) {
		ks_log_range(maker->tally.file, start, piece.end, "more page tables than allowed");
		error = -ENOMEM;
	}
	if (!error)
		error = ks_map_piece(maker->map, &piece);
	if (error) {
		ks_old_unmap(piece.virt);
		before.edges = maker->tally.edges;
		before.edge_room = maker->tally.edge_room;
		maker->tally = before;
	}
	return error;
}

/*
 * Maps a range in pieces. One that comes back uncached is cut in two, again and again; what is
 * uncached at 2 MiB is left out: a memory type register, or a device, is there.
 */
static int make_range(struct maker *maker, u64 start, u64 end)
{
	struct kdumpd_range todo[KS_TODO] = { { start, end } };
	u32 count = 1;

	while (count) {
		struct kdumpd_range *next = &todo[count - 1];
		u64 size, middle;
		int error;

		if (next->start >= next->end) {
			count--;
			continue;
		}
		error = ks_pause(U64_MAX);
		if (error)
			return error;
		start = next->start;
		size = ks_plan_piece(start, next->end, maker->shift);
		error = make_piece(maker, start, size);
		if (error && error != -EIO)
			return error;
		next->start = start + size;
		if (!error)
			continue;
		if (size <= SZ_2M || count + 2 > KS_TODO) {
			ks_tally_log(&maker->tally);
			ks_log_range(maker->tally.file, start, start + size,
				     "uncached, left out");
			maker->refused += size;
			continue;
		}
		maker->retried++;
		middle = ks_plan_middle(start, start + size);
		todo[count++] = (struct kdumpd_range){ middle, start + size };
		todo[count++] = (struct kdumpd_range){ start, middle };
	}
	return 0;
}

/* The leaf that a piece of 1 << @shift bytes at @start gets, or -ENOMEM. */
static int probe(u64 start, u32 shift)
{
	void *virt = ks_old_map(start, 1ULL << shift);
	struct ks_leaf leaf;
	bool there;

	if (!virt)
		return -ENOMEM;
	there = ks_leaf_at((unsigned long)virt, &leaf);
	ks_old_unmap(virt);
	return there ? leaf.shift : -EIO;
}

/*
 * How large leaves really become, up to @shift, before page tables are spent on smaller ones: the
 * processor may lack 1 GiB pages, the command line may forbid huge mappings. At the edge of a
 * memory type leaves are smaller, so more than one place is tried.
 */
static int probe_ranges(const struct kdumpd_range *ranges, u32 count, u32 shift)
{
	static u32 proven = KS_SMALL;
	int leaf, got = KS_SMALL;
	u32 i, tried = 0;

	if (shift <= READ_ONCE(proven))
		return shift;
	for (i = 0; i < count && tried < KS_PROBES; i++) {
		u64 start = ALIGN(ranges[i].start, 1ULL << shift);

		if (start < ranges[i].start || ranges[i].end < start ||
		    ranges[i].end - start < 1ULL << shift)
			continue;
		leaf = probe(start, shift);
		if (leaf == -ENOMEM)
			return leaf;
		got = max(got, leaf);
		tried++;
		if (got >= (int)shift) {
			WRITE_ONCE(proven, shift);
			return shift;
		}
	}
	return tried ? got : shift;
}

static int largest_leaf(const struct kdumpd_range *ranges, u32 count, u32 shift)
{
	int got = shift;

	/* Small steps first: a whole GiB in leaves of 4 KiB would take 2 MiB of page tables. */
	if (shift >= KS_MIDDLE)
		got = probe_ranges(ranges, count, KS_MIDDLE);
	if (got >= KS_MIDDLE && shift > KS_MIDDLE)
		got = probe_ranges(ranges, count, shift);
	return got;
}

/* The parts of the ranges that are not premapped; how many there are. */
static u32 without_premapped(const struct kdumpd_range *ranges, u32 count,
			     struct kdumpd_range *parts, u64 *bytes)
{
	const struct ks_map *map = ks_premapped();
	u32 i, at = 0, made = 0;

	for (i = 0; i < count; i++) {
		u64 start = ranges[i].start, end = ranges[i].end;
		u32 piece;

		while (at < map->count && map->pieces[at].end <= start)
			at++;
		for (piece = at; piece < map->count && map->pieces[piece].start < end; piece++) {
			u64 from = max(start, map->pieces[piece].start);
			u64 to = min(end, map->pieces[piece].end);

			if (start < from)
				parts[made++] = (struct kdumpd_range){ start, from };
			*bytes += to - from;
			start = to;
		}
		if (start < end)
			parts[made++] = (struct kdumpd_range){ start, end };
	}
	return made;
}

/* Page tables that a map may take when nobody says: a quarter of the free memory. */
static u64 default_limit(void)
{
	struct sysinfo info;

	si_meminfo(&info);
	return (u64)info.freeram * info.mem_unit / 4;
}

static int make_parts(struct maker *maker, const struct kdumpd_range *parts, u32 count)
{
	u64 tables;
	int shift;
	u32 i;

	shift = largest_leaf(parts, count, maker->shift);
	if (shift < 0)
		return shift;
	if (shift < (int)maker->shift && ks_log_more(maker->tally.file))
		pr_info("this kernel makes no larger leaf than %s\n", ks_leaf_name(shift));
	maker->shift = shift;
	tables = ks_plan_tables(parts, count, shift);
	if (tables > maker->limit) {
		if (ks_log_more(maker->tally.file))
			pr_warn("%llu KiB of page tables (%s) are more than the %llu KiB allowed\n",
				tables >> 10, ks_leaf_name(shift), maker->limit >> 10);
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		int error = make_range(maker, parts[i].start, parts[i].end);

		if (error)
			return error;
	}
	return 0;
}

/*
 * Strategy `page`: nothing stays mapped, but one page is tried, so that the answer is a measured
 * one.
 */
static int make_pages(struct maker *maker, const struct kdumpd_range *ranges, u32 count)
{
	struct ks_piece piece = { .start = ranges->start, .end = ranges->start + PAGE_SIZE };
	int error = 0;
	u32 i;

	piece.virt = ks_page_map(piece.start, &error);
	if (!piece.virt)
		return error;
	error = ks_tally_piece(&maker->tally, &piece);
	ks_page_unmap(piece.virt);
	maker->tally.end = 0;	/* not for the log */
	for (i = 0; !error && i < count; i++) {
		piece = (struct ks_piece){ ranges[i].start, ranges[i].end, NULL };
		ks_log_range(maker->tally.file, piece.start, piece.end, "page 4K, one at a time");
		error = ks_map_piece(maker->map, &piece);
		if (!error && i % 1024 == 0)
			error = ks_pause(U64_MAX);
	}
	return error;
}

static int make_whole(struct maker *maker, const struct kdumpd_range *ranges,
		      struct kdumpd_map *answer)
{
	u32 room = answer->count + ks_premapped()->count, count;
	struct kdumpd_range *parts = ks_alloc(room * sizeof(*parts));
	int error;

	if (!parts)
		return -ENOMEM;
	count = without_premapped(ranges, answer->count, parts, &answer->premapped_bytes);
	error = make_parts(maker, parts, count);
	ks_free(parts);
	if (!error && !maker->map->count && !answer->premapped_bytes)
		error = -EIO;
	return error;
}

static const char *strategy_name(u32 strategy)
{
	switch (strategy) {
	case KDUMPD_PAGE:
		return "page";
	case KDUMPD_CHUNK:
		return "chunk";
	default:
		return "linear";
	}
}

static void log_total(const struct kdumpd_map *answer)
{
	const u64 *leaves = answer->leaves;

	pr_info("%s: %u ranges by %llu leaves of 1G, %llu of 2M, %llu of 4K\n",
		strategy_name(answer->strategy), answer->count, leaves[0], leaves[1], leaves[2]);
	pr_info("%s: %llu KiB of page tables, %llu us\n", strategy_name(answer->strategy),
		answer->table_bytes >> 10, answer->nanoseconds / 1000);
	if (answer->retried || answer->refused_bytes)
		pr_warn("%s: %llu pieces came back uncached and were cut, %llu KiB are left out\n",
			strategy_name(answer->strategy), answer->retried,
			answer->refused_bytes >> 10);
}

struct ks_map *ks_map_make(struct ks_file *file, const struct kdumpd_range *ranges,
			   struct kdumpd_map *answer)
{
	struct maker maker = {
		.map = ks_map_new(answer->strategy),
		.tally = { .file = file },
		.shift = ks_plan_shift(answer->page_shift),
		.limit = answer->table_limit ?: default_limit(),
	};
	u64 start = ks_now();
	int error;

	if (!maker.map)
		return ERR_PTR(-ENOMEM);
	answer->premapped_bytes = 0;
	if (answer->strategy == KDUMPD_PAGE)
		error = make_pages(&maker, ranges, answer->count);
	else
		error = make_whole(&maker, ranges, answer);
	ks_tally_log(&maker.tally);
	answer->table_bytes = ks_tally_tables(&maker.tally) * PAGE_SIZE;
	if (!error && answer->table_bytes > maker.limit)
		error = -ENOMEM;
	ks_tally_end(&maker.tally);
	if (error) {
		if (ks_log_more(file))
			pr_warn("%s: nothing is mapped, error %d\n",
				strategy_name(answer->strategy), error);
		ks_map_put(maker.map);
		return ERR_PTR(error);
	}
	memcpy(answer->leaves, maker.tally.leaves, sizeof(answer->leaves));
	answer->retried = maker.retried;
	answer->refused_bytes = maker.refused;
	answer->nanoseconds = ks_now() - start;
	if (ks_log_more(file))
		log_total(answer);
	return maker.map;
}

