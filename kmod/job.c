// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The life of a job, and how one subwindow of it is scanned.
 *
 * Memory: KS_SLOTS bitmaps of 32 KiB and 1 KiB for each worker (one bitmap if that is the caller),
 * and the elements of the request; nothing grows with the machine.
 */
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/string.h>

#include "job.h"

static void free_job(struct kref *users)
{
	struct ks_job *job = container_of(users, struct ks_job, users);
	u32 i;

	for (i = 0; i < KS_MOST_WORKERS && job->workers[i]; i++) {
		ks_cursor_end(&job->workers[i]->cursor);
		if (job->workers[i]->task)
			put_task_struct(job->workers[i]->task);
		ks_free(job->workers[i]);
	}
	for (i = 0; i < ARRAY_SIZE(job->slots) && job->slots[i]; i++)
		ks_free(job->slots[i]);
	ks_free((void *)job->ground.runs);
	ks_free((void *)job->ground.present);
	ks_free((void *)job->ground.hands_off);
	ks_map_put(job->map);
	ks_free(job);
}

void ks_job_put(struct ks_job *job)
{
	kref_put(&job->users, free_job);
}

static const void *look(void *cursor, u64 physical, size_t size, size_t *contiguous)
{
	return ks_at(cursor, physical, size, contiguous);
}

/* A worker more, with its slots; -ENOMEM. */
static int add_worker(struct ks_job *job, u32 slots)
{
	struct ks_worker *worker = ks_alloc(sizeof(*worker));
	u32 i;

	if (!worker)
		return -ENOMEM;
	worker->job = job;
	ks_cursor_init(&worker->cursor, job->map);
	job->workers[job->count] = worker;
	for (i = job->count * KS_SLOTS; slots; slots--, i++) {
		job->slots[i] = ks_alloc(sizeof(*job->slots[i]));
		if (!job->slots[i])
			return -ENOMEM;
		list_add(&job->slots[i]->list, &job->empty);
	}
	job->count++;
	return 0;
}

/* A job with its workers, none of which has begun; it takes over the elements of the request. */
struct ks_job *ks_job_make(struct ks_scan *scan)
{
	struct ks_job *job = ks_alloc(sizeof(*job));
	u32 count;

	if (!job)
		return NULL;
	kref_init(&job->users);
	kref_get(&scan->map->users);
	job->map = scan->map;
	ks_rules_init(&job->rules, &scan->layout, scan->level);
	job->ground = (struct ks_ground){
		.rules = &job->rules,
		.runs = scan->runs,
		.present = scan->present,
		.hands_off = scan->hands_off,
		.run_count = scan->run_count,
		.present_count = scan->present_count,
		.hands_off_count = scan->hands_off_count,
		.at = look,
	};
	scan->runs = NULL;
	scan->present = NULL;
	scan->hands_off = NULL;
	job->first_pfn = scan->first_pfn;
	job->end_pfn = scan->end_pfn;
	job->deadline = scan->deadline;
	job->subwindows = div64_u64(scan->end_pfn - scan->first_pfn + KS_SUBWINDOW - 1,
				    KS_SUBWINDOW);
	spin_lock_init(&job->lock);
	INIT_LIST_HEAD(&job->empty);
	INIT_LIST_HEAD(&job->full);
	init_waitqueue_head(&job->for_workers);
	init_waitqueue_head(&job->for_caller);
	count = min3((u64)scan->workers, job->subwindows, (u64)KS_MOST_WORKERS);
	while (job->count < count) {
		if (add_worker(job, count > 1 ? KS_SLOTS : 1)) {
			ks_job_put(job);
			return NULL;
		}
	}
	return job;
}

/* Between two slices of a walk. */
static int pause(struct ks_worker *worker)
{
	if (!worker->task)
		return ks_pause(worker->job->deadline);
	cond_resched();
	return READ_ONCE(worker->job->stop) ? -EINTR : 0;
}

/* Scan the subwindow of number @index into @slot. */
int ks_job_scan(struct ks_worker *worker, struct ks_slot *slot, u64 index)
{
	struct ks_job *job = worker->job;
	/* Shorter where mappings have to be made on the way: a slice takes milliseconds. */
	u64 slice = job->map->strategy == KDUMPD_PAGE ? KS_SLICE / 16 : KS_SLICE;
	int more;

	slot->first = job->first_pfn + index * KS_SUBWINDOW;
	slot->end = min(slot->first + KS_SUBWINDOW, job->end_pfn);
	memset(&slot->counts, 0, sizeof(slot->counts));
	ks_walk_init(&worker->walk, &job->ground, &worker->cursor, slot->first, slot->end,
		     slot->bitmap);
	do {
		int error;

		more = ks_walk_on(&worker->walk, slice);
		if (more < 0)
			return worker->cursor.error ?: more;
		error = pause(worker);
		if (error)
			return error;
	} while (more);
	ks_fates_count(&worker->walk.fates, &slot->counts);
	return 0;
}
