// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The life of a map: its pieces, its number, who uses it, and the map that the whole module shares.
 *
 * Memory: 24 bytes for each piece, what the kernel itself keeps of each (about 250 bytes), and the
 * page tables.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "mapping.h"

static struct ks_map *premapped;

/* Nothing is premapped until the module has done so. */
static const struct ks_map no_map;

const struct ks_map *ks_premapped(void)
{
	return premapped ?: &no_map;
}

void *ks_old_map(u64 start, u64 size)
{
	void *virt;

	if (ks_refuse())
		return NULL;
	virt = (__force void *)ioremap_cache(start, size);
	if (virt)
		ks_hold(1);
	return virt;
}

void ks_old_unmap(void *virt)
{
	iounmap((void __force __iomem *)virt);
	ks_hold(-1);
}

void *ks_page_map(u64 physical, int *error)
{
	void *page = ks_old_map(physical, PAGE_SIZE);
	struct ks_leaf leaf;

	if (!page) {
		*error = -ENOMEM;
		return NULL;
	}
	if (ks_leaf_at((unsigned long)page, &leaf) && leaf.cached && leaf.physical == physical)
		return page;
	ks_old_unmap(page);
	*error = -EIO;
	return NULL;
}

void ks_page_unmap(void *page)
{
	ks_old_unmap(page);
}

static void free_map(struct kref *users)
{
	struct ks_map *map = container_of(users, struct ks_map, users);
	u32 i;

	for (i = 0; i < map->count; i++) {
		if (map->pieces[i].virt)
			ks_old_unmap(map->pieces[i].virt);
		cond_resched();
	}
	ks_free(map->pieces);
	ks_free(map);
}

void ks_map_put(struct ks_map *map)
{
	kref_put(&map->users, free_map);
}

struct ks_map *ks_map_new(u32 strategy)
{
	struct ks_map *map = ks_alloc(sizeof(*map));

	if (map) {
		kref_init(&map->users);
		map->strategy = strategy;
	}
	return map;
}

int ks_map_piece(struct ks_map *map, const struct ks_piece *piece)
{
	if (map->count == map->room) {
		u32 room = max_t(u32, 32, 2 * map->room);
		struct ks_piece *pieces = ks_alloc(room * sizeof(*pieces));

		if (!pieces)
			return -ENOMEM;
		if (map->pieces)
			memcpy(pieces, map->pieces, map->count * sizeof(*pieces));
		ks_free(map->pieces);
		map->pieces = pieces;
		map->room = room;
	}
	map->pieces[map->count++] = *piece;
	return 0;
}

struct ks_map **ks_map_place(struct ks_file *file)
{
	u32 i;

	for (i = 0; i < KDUMPD_MOST_MAPS; i++)
		if (!file->maps[i])
			return &file->maps[i];
	return NULL;
}

struct ks_map *ks_map_get(struct ks_file *file, u32 id)
{
	struct ks_map *map = ERR_PTR(-ENOENT);
	u32 i;

	if (mutex_lock_interruptible(&file->lock))
		return ERR_PTR(-EINTR);
	for (i = 0; i < KDUMPD_MOST_MAPS; i++) {
		if (file->maps[i] && file->maps[i]->id == id) {
			map = file->maps[i];
			kref_get(&map->users);
			break;
		}
	}
	mutex_unlock(&file->lock);
	return map;
}

int ks_map_remove(struct ks_file *file, u32 id)
{
	struct ks_map *gone[KDUMPD_MOST_MAPS];
	u32 i, count = 0;

	if (mutex_lock_interruptible(&file->lock))
		return -EINTR;
	for (i = 0; i < KDUMPD_MOST_MAPS; i++) {
		if (file->maps[i] && (!id || file->maps[i]->id == id)) {
			gone[count++] = file->maps[i];
			file->maps[i] = NULL;
		}
	}
	mutex_unlock(&file->lock);
	if (id && !count)
		return -ENOENT;
	while (count)
		ks_map_put(gone[--count]);
	return 0;
}

void ks_map_release(struct ks_file *file)
{
	u32 i;

	if (mutex_is_locked(&file->lock))
		pr_err("a task died while it mapped old memory: what it had mapped stays\n");
	for (i = 0; i < KDUMPD_MOST_MAPS; i++) {
		struct ks_map *map = file->maps[i];

		if (!map)
			continue;
		if (kref_read(&map->users) > 1)
			pr_err("a task died, or does not answer, while it used map %u: it stays\n",
			       map->id);
		ks_map_put(map);
	}
}

static int by_start(const void *left, const void *right)
{
	const struct kdumpd_range *a = left, *b = right;

	return a->start < b->start ? -1 : a->start > b->start;
}

void ks_premap(struct kdumpd_range *ranges, u32 count)
{
	struct kdumpd_map answer = {
		.strategy = KDUMPD_LINEAR,
		.page_shift = 30,
	};
	struct ks_map *map;
	u64 end = 0;
	u32 i;

	sort(ranges, count, sizeof(*ranges), by_start, NULL);
	for (i = 0; i < count; i++) {
		struct kdumpd_range range = {
			ALIGN(ranges[i].start, PAGE_SIZE), ALIGN_DOWN(ranges[i].end, PAGE_SIZE),
		};
		int error = range.start < range.end ? 0 : -ERANGE;

		if (!error && range.start < end)
			error = -ERANGE;
		if (!error)
			error = ks_check_old(range.start, range.end);
		if (error) {
			pr_warn("map=0x%llx-0x%llx is passed over: %s (%d)\n", ranges[i].start,
				ranges[i].end, ks_check_reason(error), error);
			continue;
		}
		end = range.end;
		ranges[answer.count++] = range;
	}
	if (!answer.count)
		return;
	map = ks_map_make(NULL, ranges, &answer);
	if (!IS_ERR(map))
		premapped = map;
}

void ks_premap_end(void)
{
	if (premapped)
		ks_map_put(premapped);
	premapped = NULL;
}
