/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What scan.c, job.c and workers.c tell each other: a scan as all who work on it see it.
 *
 * A job belongs to everyone who works on it. So a worker that died in an oops, or does not answer,
 * keeps the job with its map and this module, and nobody else has to wait for it.
 */
#ifndef KS_JOB_H
#define KS_JOB_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "internal.h"
#include "walk.h"

#define KS_SLOTS	2	/* for each thread: one to fill, one to be copied meanwhile */
#define KS_MOST_WORKERS	64	/* long before that, memory is what bounds a scan */

/* A subwindow that is, or has been, scanned; in a list of the job unless somebody works on it. */
struct ks_slot {
	struct list_head list;
	u64 first;
	u64 end;
	struct kdumpd_counts counts;
	u64 bitmap[KS_SUBWINDOW / 64];
};

/*
 * struct ks_worker - one walker. @task is NULL where that is the caller.
 * @finished: it touches nothing any more
 */
struct ks_worker {
	struct ks_job *job;
	struct task_struct *task;
	bool finished;
	struct ks_cursor cursor;
	struct ks_walk walk;
};

/*
 * struct ks_job - a scan.
 * @lock: over @empty, @full and @error
 * @error: of the first worker that had one
 * @stop: workers end as soon as they see it
 * @next: which subwindow nobody has taken yet
 */
struct ks_job {
	struct kref users;
	struct ks_map *map;
	struct ks_rules rules;
	struct ks_ground ground;
	u64 first_pfn;
	u64 end_pfn;
	u64 deadline;
	u64 subwindows;
	atomic64_t next;
	spinlock_t lock;	/* of both lists and of the error */
	struct list_head empty;
	struct list_head full;
	wait_queue_head_t for_workers;
	wait_queue_head_t for_caller;
	int error;
	bool stop;
	u32 count;
	struct ks_slot *slots[KS_SLOTS * KS_MOST_WORKERS];
	struct ks_worker *workers[KS_MOST_WORKERS];
};

/* job.c */
struct ks_job *ks_job_make(struct ks_scan *scan);	/* NULL: no memory */
void ks_job_put(struct ks_job *job);
int ks_job_scan(struct ks_worker *worker, struct ks_slot *slot, u64 index);

/* workers.c */
u32 ks_workers_start(struct ks_job *job);
bool ks_workers_ended(struct ks_job *job);	/* all of them have finished, or died */
bool ks_worker_died(struct ks_worker *worker);
u32 ks_workers_dead(struct ks_job *job);	/* these keep the job for ever */
struct ks_slot *ks_slot_take(struct ks_job *job, struct list_head *list);
void ks_slot_put(struct ks_job *job, struct ks_slot *slot, struct list_head *list);

#endif /* KS_JOB_H */
