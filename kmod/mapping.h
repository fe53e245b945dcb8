/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What map.c, make.c, plan.c and leaves.c tell each other: how old memory is cut into pieces, and
 * what became of them.
 *
 * Each call of ioremap_cache() is a piece. Its leaves are as large as physical and virtual address
 * allow, and the virtual one is a multiple of the piece's size, or of the largest leaf: so how a
 * piece begins decides its leaves.
 */
#ifndef KDUMPD_SCAN_MAPPING_H
#define KDUMPD_SCAN_MAPPING_H

#include <linux/mm.h>
#include <linux/pgtable.h>

#include "internal.h"

/*
 * The three sizes of leaves: 4 KiB, 2 MiB, 1 GiB; or the nearest that a granule of 16 or 64 KiB
 * has.
 */
#define KS_SMALL	PAGE_SHIFT
#define KS_MIDDLE	PMD_SHIFT
#define KS_LARGE	(PAGE_SHIFT == 12 ? PUD_SHIFT : PMD_SHIFT)

/* What one page table spans, by the size of the leaves in it: PTEs, PMDs, PUDs. */
#define KS_TABLE_LEVELS	3
#define KS_TABLE_SHIFT(level)	(PAGE_SHIFT + ((level) + 1) * (PAGE_SHIFT - 3))

/**
 * struct ks_tally - the leaves of a map, read back, and the page tables that hold them.
 * @tables: those that one piece has for itself
 * @edges: the others, where pieces meet: address and level, some of them more than once
 * @last: the last of them, by level
 * @start, @end, @shift: leaves of one size that follow each other, to be logged
 */
struct ks_tally {
	struct ks_file *file;
	u64 leaves[3];
	u64 tables;
	u64 *edges;
	u32 edge_count;
	u32 edge_room;
	u64 last[KS_TABLE_LEVELS];
	u64 start;
	u64 end;
	u32 shift;
};

/* map.c */
void *ks_old_map(u64 start, u64 size);	/* or NULL */
void ks_old_unmap(void *virt);
struct ks_map *ks_map_new(u32 strategy);	/* without pieces, held once; or NULL */
int ks_map_piece(struct ks_map *map, const struct ks_piece *piece);

/* plan.c */
u32 ks_plan_shift(u32 page_shift);	/* the leaf that a request means */
u64 ks_plan_piece(u64 start, u64 end, u32 shift);	/* bytes of the first piece */
u64 ks_plan_middle(u64 start, u64 end);	/* where a piece is cut in two */
u64 ks_plan_tables(const struct kdumpd_range *ranges, u32 count, u32 shift);	/* bytes, about */

/* leaves.c: 0, -EIO (not cached, or not there), -EINTR, -ENOMEM */
int ks_tally_piece(struct ks_tally *tally, const struct ks_piece *piece);
u64 ks_tally_tables(struct ks_tally *tally);	/* how many there are in all; the last question */
void ks_tally_log(struct ks_tally *tally);	/* what has not been logged yet */
void ks_tally_end(struct ks_tally *tally);
bool ks_log_more(struct ks_file *file);	/* may another line be logged? counts it */
void ks_log_range(struct ks_file *file, u64 start, u64 end, const char *what);
const char *ks_leaf_name(u32 shift);

#endif /* KDUMPD_SCAN_MAPPING_H */
