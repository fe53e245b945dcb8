// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a physical address of old memory to the bytes there.
 */
#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/string.h>

#include "internal.h"

void ks_cursor_init(struct ks_cursor *cursor, const struct ks_map *map)
{
	cursor->map = map;
	cursor->piece = NULL;
	cursor->page = NULL;
	cursor->page_at = 0;
	cursor->error = 0;
}

void ks_cursor_end(struct ks_cursor *cursor)
{
	if (cursor->page)
		ks_page_unmap(cursor->page);
	cursor->page = NULL;
}

static const struct ks_piece *find(const struct ks_map *map, u64 physical)
{
	u32 low = 0, high = map->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (physical < map->pieces[middle].start)
			high = middle;
		else if (physical >= map->pieces[middle].end)
			low = middle + 1;
		else
			return &map->pieces[middle];
	}
	return NULL;
}

/* The page of a piece that is mapped one page at a time. */
static const void *in_page(struct ks_cursor *cursor, u64 physical, size_t *contiguous)
{
	u64 start = physical & PAGE_MASK;

	if (!cursor->page || cursor->page_at != start) {
		ks_cursor_end(cursor);
		cursor->page = ks_page_map(start, &cursor->error);
		if (!cursor->page)
			return NULL;
		cursor->page_at = start;
	}
	*contiguous = PAGE_SIZE - (physical - start);
	return cursor->page + (physical - start);
}

/* At least one byte. */
static const void *look(struct ks_cursor *cursor, u64 physical, size_t *contiguous)
{
	const struct ks_piece *piece = cursor->piece;

	if (!piece || physical < piece->start || physical >= piece->end) {
		piece = find(cursor->map, physical);
		if (!piece)
			piece = find(ks_premapped(), physical);
		if (!piece) {
			cursor->error = -ENXIO;
			return NULL;
		}
		cursor->piece = piece;
	}
	if (!piece->virt)
		return in_page(cursor, physical, contiguous);
	*contiguous = piece->end - physical;
	return piece->virt + (physical - piece->start);
}

const void *ks_at(struct ks_cursor *cursor, u64 physical, size_t size, size_t *contiguous)
{
	const void *found = look(cursor, physical, contiguous);
	size_t filled = 0;

	if (!found || *contiguous >= size)
		return found;
	/* It crosses from one mapping to the next. */
	while (filled < size) {
		size_t part = min(size - filled, *contiguous);

		memcpy(cursor->bounce + filled, found, part);
		filled += part;
		if (filled == size)
			break;
		found = look(cursor, physical + filled, contiguous);
		if (!found)
			return NULL;
	}
	*contiguous = size;
	return cursor->bounce;
}
