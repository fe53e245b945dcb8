// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads back what a mapping became: nothing about leaves, caching or page tables is assumed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/printk.h>
#include <linux/sizes.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "mapping.h"

#define KS_MOST_LINES	256	/* that the maps of one open file may log */
#define KS_PATIENCE	4096	/* leaves between two looks at signals */

const char *ks_leaf_name(u32 shift)
{
	switch (shift) {
	case 12:
		return "page 4K";
	case 14:
		return "page 16K";
	case 16:
		return "page 64K";
	case 21:
		return "page 2M";
	case 25:
		return "page 32M";
	case 29:
		return "page 512M";
	case 30:
		return "page 1G";
	default:
		return "page of another size";
	}
}

bool ks_log_more(struct ks_file *file)
{
	if (!file || file->logged < KS_MOST_LINES) {
		if (file)
			file->logged++;
		return true;
	}
	if (file->logged == KS_MOST_LINES) {
		file->logged++;
		pr_info("more maps of this file are not logged\n");
	}
	return false;
}

void ks_log_range(struct ks_file *file, u64 start, u64 end, const char *what)
{
	if (ks_log_more(file))
		pr_info("[mem 0x%016llx-0x%016llx] %s\n", start, end - 1, what);
}

void ks_tally_log(struct ks_tally *tally)
{
	if (tally->start < tally->end)
		ks_log_range(tally->file, tally->start, tally->end, ks_leaf_name(tally->shift));
	tally->start = 0;
	tally->end = 0;
}

static void add_leaves(struct ks_tally *tally, u64 physical, u64 bytes, u32 shift)
{
	if (shift >= 29)
		tally->leaves[0] += bytes >> shift;
	else if (shift >= 21)
		tally->leaves[1] += bytes >> shift;
	else
		tally->leaves[2] += bytes >> shift;
	if (physical != tally->end || shift != tally->shift) {
		ks_tally_log(tally);
		tally->start = physical;
		tally->shift = shift;
	}
	tally->end = physical + bytes;
}

/* A table that another piece may have a part of. */
static int add_edge(struct ks_tally *tally, u32 level, u64 region)
{
	u64 edge = region << 2 | level;

	if (tally->last[level] == edge)
		return 0;
	if (tally->edge_count == tally->edge_room) {
		u32 room = max_t(u32, 64, 2 * tally->edge_room);
		u64 *edges = ks_alloc(room * sizeof(*edges));

		if (!edges)
			return -ENOMEM;
		if (tally->edges)
			memcpy(edges, tally->edges, tally->edge_count * sizeof(*edges));
		ks_free(tally->edges);
		tally->edges = edges;
		tally->edge_room = room;
	}
	tally->last[level] = edge;
	tally->edges[tally->edge_count++] = edge;
	return 0;
}

static int level_of(u32 shift)
{
	int level = 0;

	while (level < KS_TABLE_LEVELS - 1 && shift >= KS_TABLE_SHIFT(level))
		level++;
	return level;
}

int ks_tally_piece(struct ks_tally *tally, const struct ks_piece *piece)
{
	unsigned long start = (unsigned long)piece->virt;
	u64 size = piece->end - piece->start, done = 0;
	u64 first[KS_TABLE_LEVELS], last[KS_TABLE_LEVELS];
	bool seen[KS_TABLE_LEVELS] = {};
	u32 steps = 0;
	int level, error;

	while (done < size) {
		u64 bytes, within;
		struct ks_leaf leaf;

		if (!ks_leaf_at(start + done, &leaf) || !leaf.cached)
			return -EIO;
		within = (start + done) & ((1ULL << leaf.shift) - 1);
		if (leaf.physical + within != piece->start + done)
			return -EIO;
		/*
		 * All the small leaves of a table were made by one call, with one way of caching.
		 */
		bytes = leaf.shift == KS_SMALL ? 1ULL << KS_TABLE_SHIFT(0) : 1ULL << leaf.shift;
		bytes = min(size - done, bytes - ((start + done) & (bytes - 1)));
		add_leaves(tally, piece->start + done, bytes, leaf.shift);
		for (level = level_of(leaf.shift); level < KS_TABLE_LEVELS; level++) {
			u64 region = (u64)(start + done) >> KS_TABLE_SHIFT(level);

			if (!seen[level])
				first[level] = region;
			else if (region != last[level])
				tally->tables++;
			seen[level] = true;
			last[level] = region;
		}
		done += bytes;
		if (++steps % KS_PATIENCE == 0) {
			error = ks_pause(U64_MAX);
			if (error)
				return error;
		}
	}
	for (level = 0; level < KS_TABLE_LEVELS; level++) {
		if (!seen[level])
			continue;
		error = add_edge(tally, level, first[level]);
		if (!error && last[level] != first[level]) {
			tally->tables--;
			error = add_edge(tally, level, last[level]);
		}
		if (error)
			return error;
	}
	return 0;
}

static int compare(const void *left, const void *right)
{
	u64 a = *(const u64 *)left, b = *(const u64 *)right;

	return a < b ? -1 : a > b;
}

u64 ks_tally_tables(struct ks_tally *tally)
{
	u64 tables = tally->tables;
	u32 i;

	if (tally->edge_count)
		sort(tally->edges, tally->edge_count, sizeof(*tally->edges), compare, NULL);
	for (i = 0; i < tally->edge_count; i++)
		tables += !i || tally->edges[i] != tally->edges[i - 1];
	return tables;
}

void ks_tally_end(struct ks_tally *tally)
{
	ks_free(tally->edges);
	tally->edges = NULL;
}
