// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The requests: copied in once, checked whole, done, answered.
 *
 * Memory: the elements of one request, at most 24 bytes for each of 65536 runs and 16 for each of 2
 * * 65536 ranges.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"

/* What every request begins with. */
struct head {
	u32 size;
	u32 version;
};

/* @known bytes of a request, zeros where an older user space has none. */
static int take(void *into, size_t known, const void __user *request)
{
	struct head head;
	int error;

	if (copy_from_user(&head, request, sizeof(head)))
		return -EFAULT;
	/* All structures have the size of version 1 so far: nobody may know less. */
	if (head.version != KDUMPD_SCAN_VERSION || head.size < known)
		return -EINVAL;
	if (head.size > PAGE_SIZE)
		return -E2BIG;
	error = copy_struct_from_user(into, known, request, head.size);
	/* The head is what was checked, whatever user space does to it meanwhile. */
	if (!error)
		memcpy(into, &head, sizeof(head));
	return error;
}

static int answer(void __user *request, const void *from, size_t known)
{
	return copy_to_user(request, from, known) ? -EFAULT : 0;
}

/* A kernel's copy of @count elements of user space, NULL if there are none. */
static void *take_array(u64 address, u32 count, u32 most, size_t size)
{
	void *array;

	if (!count)
		return NULL;
	if (count > most)
		return ERR_PTR(-E2BIG);
	array = ks_alloc(count * size);
	if (!array)
		return ERR_PTR(-ENOMEM);
	if (copy_from_user(array, u64_to_user_ptr(address), count * size)) {
		ks_free(array);
		return ERR_PTR(-EFAULT);
	}
	return array;
}

static int check_map(const struct kdumpd_map *map, const struct kdumpd_range *ranges)
{
	u64 last = 0;
	u32 i;

	for (i = 0; i < map->count; i++) {
		u64 start = ranges[i].start, end = ranges[i].end;
		int error;

		if (start >= end || start < last)
			return -ERANGE;
		if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(end))
			return -EINVAL;
		error = ks_check_old(start, end);
		if (!error && i % 1024 == 0)
			error = ks_pause(U64_MAX);
		if (error)
			return error;
		last = end;
	}
	return 0;
}

/*
 * Refuses what the crashed kernel did not have as memory, where this kernel can tell; with @lock
 * held.
 */
static int check_vmcore(struct ks_file *file, const struct kdumpd_range *ranges, u32 count)
{
	u32 i;

	if (!file->old && !file->untold) {
		struct ks_old *old = ks_old_read();

		if (old == ERR_PTR(-ENOMEM))
			return -ENOMEM;
		file->untold = IS_ERR(old);
		if (file->untold)
			pr_info("/proc/vmcore does not tell where old memory is: error %ld\n",
				PTR_ERR(old));
		else
			file->old = old;
	}
	for (i = 0; file->old && i < count; i++)
		if (!ks_old_has(file->old, ranges[i].start, ranges[i].end))
			return -EADDRNOTAVAIL;
	return 0;
}

static int make_map(struct ks_file *file, void __user *request, struct kdumpd_map *wanted,
		    const struct kdumpd_range *ranges)
{
	struct ks_map *map, **place;
	int error;

	if (mutex_lock_interruptible(&file->lock))
		return -EINTR;
	place = ks_map_place(file);
	error = place ? check_vmcore(file, ranges, wanted->count) : -EMFILE;
	map = error ? ERR_PTR(error) : ks_map_make(file, ranges, wanted);
	error = PTR_ERR_OR_ZERO(map);
	if (!error) {
		map->id = ++file->last_id ?: ++file->last_id;
		wanted->id = map->id;
		*place = map;
	}
	mutex_unlock(&file->lock);
	if (!error && answer(request, wanted, sizeof(*wanted))) {
		ks_map_remove(file, wanted->id);
		error = -EFAULT;
	}
	return error;
}

long ks_request_map(struct ks_file *file, void __user *request)
{
	struct kdumpd_range *ranges;
	struct kdumpd_map wanted;
	int error;

	error = take(&wanted, sizeof(wanted), request);
	if (error)
		return error;
	if (wanted.strategy < KDUMPD_PAGE || wanted.strategy > KDUMPD_LINEAR)
		return -EINVAL;
	if (wanted.page_shift != 12 && wanted.page_shift != 21 && wanted.page_shift != 30)
		return -EINVAL;
	if (!wanted.count)
		return -ERANGE;
	if (ks_memory_encrypted())
		return -EOPNOTSUPP;
	ranges = take_array(wanted.ranges, wanted.count, KDUMPD_MOST_RANGES, sizeof(*ranges));
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	error = check_map(&wanted, ranges);
	if (!error)
		error = make_map(file, request, &wanted, ranges);
	ks_free(ranges);
	return error;
}

static u64 deadline_of(u64 timeout)
{
	u64 now = ks_now();

	if (!timeout || timeout >= U64_MAX - now)
		return U64_MAX;
	return now + timeout;
}

static int take_layout(struct ks_scan *scan, const struct kdumpd_scan *wanted)
{
	int error;

	if (wanted->layout_size < sizeof(scan->layout))
		return -EINVAL;
	if (wanted->layout_size > PAGE_SIZE)
		return -E2BIG;
	error = copy_struct_from_user(&scan->layout, sizeof(scan->layout),
				      u64_to_user_ptr(wanted->layout), wanted->layout_size);
	return error ?: ks_check_layout(&scan->layout, &scan->level);
}

static int take_elements(struct ks_scan *scan, const struct kdumpd_scan *wanted)
{
	u64 start = wanted->first_pfn, end = wanted->end_pfn;
	int error;

	scan->runs = take_array(wanted->runs, wanted->run_count, KDUMPD_MOST_RUNS,
				sizeof(*scan->runs));
	if (IS_ERR(scan->runs))
		return PTR_ERR(scan->runs);
	scan->present = take_array(wanted->present, wanted->present_count, KDUMPD_MOST_RANGES,
				   sizeof(*scan->present));
	if (IS_ERR(scan->present))
		return PTR_ERR(scan->present);
	scan->hands_off = take_array(wanted->hands_off, wanted->hands_off_count, KDUMPD_MOST_RANGES,
				     sizeof(*scan->hands_off));
	if (IS_ERR(scan->hands_off))
		return PTR_ERR(scan->hands_off);
	error = ks_check_runs(scan->runs, wanted->run_count, start, end, scan->layout.size);
	if (!error)
		error = ks_check_ranges(scan->present, wanted->present_count, start, end);
	if (!error)
		error = ks_check_ranges(scan->hands_off, wanted->hands_off_count, start, end);
	return error;
}

static int take_scan(struct ks_scan *scan, const struct kdumpd_scan *wanted)
{
	u64 step = 1ULL << KDUMPD_WINDOW_ORDER, bytes;
	int error;

	if (wanted->unused || wanted->level > 31)
		return -EINVAL;
	scan->level = wanted->level;
	error = take_layout(scan, wanted);
	if (error)
		return error;
	if (wanted->first_pfn % step)
		return -EINVAL;
	if (wanted->first_pfn >= wanted->end_pfn)
		return -ERANGE;
	if (wanted->end_pfn > U64_MAX / scan->layout.page_size)
		return -EOVERFLOW;
	bytes = DIV_ROUND_UP_ULL(wanted->end_pfn - wanted->first_pfn, 8);
	if (wanted->bitmap_size < bytes)
		return -ENOSPC;
	scan->bitmap = u64_to_user_ptr(wanted->bitmap);
	scan->bitmap_size = bytes;
	if (!access_ok(scan->bitmap, bytes))
		return -EFAULT;
	scan->first_pfn = wanted->first_pfn;
	scan->end_pfn = wanted->end_pfn;
	scan->run_count = wanted->run_count;
	scan->present_count = wanted->present_count;
	scan->hands_off_count = wanted->hands_off_count;
	scan->deadline = deadline_of(wanted->timeout);
	scan->workers = clamp_t(u32, wanted->workers ?: U32_MAX, 1, num_online_cpus());
	return take_elements(scan, wanted);
}

static void free_array(void *array)
{
	if (!IS_ERR(array))
		ks_free(array);
}

static int run_scan(struct ks_file *file, struct ks_scan *scan)
{
	int error;

	if (mutex_lock_interruptible(&file->scanning))
		return -EINTR;
	ks_progress_start(file, scan->end_pfn - scan->first_pfn);
	error = ks_scan_run(file, scan);
	ks_progress_end(file);
	mutex_unlock(&file->scanning);
	return error;
}

long ks_request_scan(struct ks_file *file, void __user *request)
{
	struct kdumpd_scan wanted;
	/* Not on the stack: workers may outlive a caller that dies. */
	struct ks_scan *scan;
	u64 start = ks_now();
	int error;

	error = take(&wanted, sizeof(wanted), request);
	if (error)
		return error;
	scan = ks_alloc(sizeof(*scan));
	if (!scan)
		return -ENOMEM;
	error = take_scan(scan, &wanted);
	if (error)
		goto free;
	scan->map = ks_map_get(file, wanted.map);
	error = PTR_ERR_OR_ZERO(scan->map);
	if (error)
		goto free;
	error = run_scan(file, scan);
	ks_map_put(scan->map);
	if (!error) {
		wanted.workers = scan->workers;
		wanted.counts = scan->counts;
		wanted.nanoseconds = ks_now() - start;
		error = answer(request, &wanted, sizeof(wanted));
	}
free:
	free_array(scan->runs);
	free_array(scan->present);
	free_array(scan->hands_off);
	ks_free(scan);
	return error;
}

static int take_gather(struct ks_gather *gather, const struct kdumpd_gather *wanted)
{
	if (!ks_good_page_size(wanted->page_size))
		return -EINVAL;
	if (!wanted->bits)
		return -ERANGE;
	if (wanted->bits > U64_MAX - wanted->first_pfn ||
	    wanted->first_pfn + wanted->bits > U64_MAX / wanted->page_size)
		return -EOVERFLOW;
	if (wanted->buffer_size < wanted->page_size || !wanted->zero_size)
		return -ENOSPC;
	gather->page_size = wanted->page_size;
	gather->first_pfn = wanted->first_pfn;
	gather->bits = wanted->bits;
	gather->bitmap = u64_to_user_ptr(wanted->bitmap);
	gather->buffer = u64_to_user_ptr(wanted->buffer);
	gather->buffer_size = wanted->buffer_size;
	gather->zero = u64_to_user_ptr(wanted->zero);
	gather->zero_size = wanted->zero_size;
	if (!access_ok(gather->bitmap, DIV_ROUND_UP_ULL(gather->bits, 8)) ||
	    !access_ok(gather->buffer, gather->buffer_size) ||
	    !access_ok(gather->zero, gather->zero_size))
		return -EFAULT;
	return 0;
}

long ks_request_gather(struct ks_file *file, void __user *request)
{
	struct kdumpd_gather wanted;
	struct ks_gather gather = {};
	int error;

	error = take(&wanted, sizeof(wanted), request);
	if (!error)
		error = take_gather(&gather, &wanted);
	if (error)
		return error;
	gather.map = ks_map_get(file, wanted.map);
	if (IS_ERR(gather.map))
		return PTR_ERR(gather.map);
	error = ks_gather_run(file, &gather);
	ks_map_put(gather.map);
	if (error)
		return error;
	wanted.pages = gather.pages;
	wanted.copied = gather.copied;
	wanted.next_pfn = gather.next_pfn;
	return answer(request, &wanted, sizeof(wanted));
}

long ks_request_unmap(struct ks_file *file, void __user *request)
{
	struct kdumpd_unmap wanted;
	int error;

	error = take(&wanted, sizeof(wanted), request);
	if (error)
		return error;
	if (wanted.unused)
		return -EINVAL;
	return ks_map_remove(file, wanted.id);
}

long ks_request_progress(struct ks_file *file, void __user *request)
{
	struct kdumpd_progress wanted;
	int error;

	error = take(&wanted, sizeof(wanted), request);
	if (error)
		return error;
	if (wanted.unused)
		return -EINVAL;
	atomic64_set(&file->seen, atomic64_read(&file->changes));
	wanted.running = atomic_read(&file->running);
	wanted.total = atomic64_read(&file->total);
	wanted.done = atomic64_read(&file->done);
	return answer(request, &wanted, sizeof(wanted));
}
