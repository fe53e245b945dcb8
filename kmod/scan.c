// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who walks: the caller of KDUMPD_SCAN itself, or a kernel thread on each processor while the
 * caller hands their bitmaps to user space. Each walks over one subwindow after the other.
 *
 * Memory: KS_SLOTS bitmaps of 32 KiB and 1 KiB for each worker (one bitmap if that is the caller),
 * and the elements of the request; nothing grows with the machine.
 *
 * A job belongs to everyone who works on it. So a worker that died in an oops, or does not answer,
 * keeps the job with its map and this module, and nobody else waits for it longer than KS_PATIENCE.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/spinlock.h>
#include <linux/topology.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "internal.h"
#include "walk.h"

#define KS_SLOTS	2	/* for each thread: one to fill, one to be copied meanwhile */
#define KS_MOST_WORKERS	64	/* long before that, memory is what bounds a scan */
#define KS_PATIENCE	(5 * HZ) /* how long a worker may take to see that it has to stop */

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

static void put_job(struct ks_job *job)
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
static struct ks_job *make_job(struct ks_scan *scan)
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
			put_job(job);
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
static int scan_subwindow(struct ks_worker *worker, struct ks_slot *slot, u64 index)
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

/* Give what is in a slot to user space. */
static int hand_over(struct ks_file *file, struct ks_scan *scan, const struct ks_slot *slot)
{
	u64 pages = slot->end - slot->first;
	const u64 *from = (const u64 *)&slot->counts;
	u64 *into = (u64 *)&scan->counts;
	u32 i;

	if (copy_to_user(scan->bitmap + (slot->first - scan->first_pfn) / 8, slot->bitmap,
			 (pages + 7) / 8))
		return -EFAULT;
	for (i = 0; i < sizeof(slot->counts) / sizeof(*from); i++)
		into[i] += from[i];
	ks_progress_more(file, pages);
	return 0;
}

static int scan_alone(struct ks_file *file, struct ks_job *job, struct ks_scan *scan)
{
	struct ks_slot *slot = job->slots[0];
	int error = 0;
	u64 index;

	for (index = 0; index < job->subwindows && !error; index++) {
		error = scan_subwindow(job->workers[0], slot, index);
		if (!error)
			error = hand_over(file, scan, slot);
	}
	return error;
}

/* Take the first slot of a list; NULL if there is none. */
static struct ks_slot *take_slot(struct ks_job *job, struct list_head *list)
{
	struct ks_slot *slot;

	spin_lock(&job->lock);
	slot = list_first_entry_or_null(list, struct ks_slot, list);
	if (slot)
		list_del(&slot->list);
	spin_unlock(&job->lock);
	return slot;
}

static void put_slot(struct ks_job *job, struct ks_slot *slot, struct list_head *list)
{
	spin_lock(&job->lock);
	list_add_tail(&slot->list, list);
	spin_unlock(&job->lock);
}

static int work_on(struct ks_worker *worker)
{
	struct ks_job *job = worker->job;

	for (;;) {
		struct ks_slot *slot = NULL;
		u64 index = atomic64_fetch_inc(&job->next);
		int error;

		if (index >= job->subwindows)
			return 0;
		wait_event_idle(job->for_workers,
				READ_ONCE(job->stop) || (slot = take_slot(job, &job->empty)));
		if (!slot)
			return 0;
		error = scan_subwindow(worker, slot, index);
		if (error)
			return error;
		put_slot(job, slot, &job->full);
		wake_up(&job->for_caller);
	}
}

/* A worker's thread. */
static int work(void *data)
{
	struct ks_worker *worker = data;
	struct ks_job *job = worker->job;
	int error = work_on(worker);

	if (error) {
		spin_lock(&job->lock);
		if (!job->error)
			job->error = error;
		spin_unlock(&job->lock);
	}
	/* What it counted is to be seen before this: is_finished() acquires. */
	smp_store_release(&worker->finished, true);
	wake_up(&job->for_caller);
	put_job(job);
	module_put_and_kthread_exit(0);
}

/* Start the workers, each on a processor of its own; how many did start. */
static u32 start_workers(struct ks_job *job)
{
	u32 started = 0;
	int cpu;

	for_each_online_cpu(cpu) {
		struct ks_worker *worker;
		struct task_struct *task;

		if (started == job->count)
			break;
		worker = job->workers[started];
		task = ks_refuse() ? ERR_PTR(-ENOMEM) :
			kthread_create_on_node(work, worker, cpu_to_node(cpu),
					       KBUILD_MODNAME "/%d", cpu);
		if (IS_ERR(task))
			break;
		kthread_bind(task, cpu);
		get_task_struct(task);
		worker->task = task;
		kref_get(&job->users);
		__module_get(THIS_MODULE);
		wake_up_process(task);
		started++;
	}
	return started;
}

static bool is_finished(struct ks_worker *worker)
{
	/* Its counts may be read after this: work() releases. */
	return !worker->task || smp_load_acquire(&worker->finished);
}

/* In an oops: it is gone, and did not say so. */
static bool has_died(struct ks_worker *worker)
{
	return worker->task && READ_ONCE(worker->task->exit_state) && !is_finished(worker);
}

static bool all_ended(struct ks_job *job)
{
	u32 i;

	for (i = 0; i < job->count; i++)
		if (!is_finished(job->workers[i]) && !has_died(job->workers[i]))
			return false;
	return true;
}

static int trouble(struct ks_job *job)
{
	u32 i;

	if (signal_pending(current))
		return -EINTR;
	if (ks_now() > job->deadline)
		return -ETIME;
	for (i = 0; i < job->count; i++)
		if (has_died(job->workers[i]))
			return -ENOTRECOVERABLE;
	return READ_ONCE(job->error);
}

static int scan_together(struct ks_file *file, struct ks_job *job, struct ks_scan *scan)
{
	u64 left = job->subwindows;
	int error = 0;

	while (left && !error) {
		struct ks_slot *slot = NULL;

		/* The clock and the workers' lives are looked at every tenth of a second. */
		wait_event_interruptible_timeout(job->for_caller, READ_ONCE(job->error) ||
						 (slot = take_slot(job, &job->full)), HZ / 10);
		if (slot) {
			error = hand_over(file, scan, slot);
			put_slot(job, slot, &job->empty);
			wake_up(&job->for_workers);
			left--;
		}
		if (!error && left)
			error = trouble(job);
	}
	return error;
}

/* The job's last moment as far as its caller is concerned. */
static void end_job(struct ks_job *job)
{
	long left = KS_PATIENCE;

	WRITE_ONCE(job->stop, true);
	wake_up_all(&job->for_workers);
	while (left > 0 && !all_ended(job))
		left -= HZ / 50 - wait_event_timeout(job->for_caller, all_ended(job), HZ / 50);
	if (!all_ended(job))
		pr_err("a worker does not answer: its memory, its map and this module stay\n");
	put_job(job);
}

int ks_scan_run(struct ks_file *file, struct ks_scan *scan)
{
	struct ks_job *job = make_job(scan);
	int error;

	if (!job)
		return -ENOMEM;
	/* Should this task die now, release finds the job there. */
	file->job = job;
	scan->workers = job->count > 1 ? start_workers(job) : 0;
	if (scan->workers) {
		error = scan_together(file, job, scan);
	} else {
		scan->workers = 1;
		error = scan_alone(file, job, scan);
	}
	file->job = NULL;
	end_job(job);
	return error;
}

void ks_scan_release(struct ks_file *file)
{
	if (file->job)
		end_job(file->job);
}
