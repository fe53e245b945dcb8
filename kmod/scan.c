// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KDUMPD_SCAN: its caller walks itself, or hands the bitmaps of the workers to user space and looks
 * at signals, at the clock and at whether the workers are still alive.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/sched/signal.h>

#include "job.h"

#define KS_PATIENCE	(5 * HZ) /* how long a worker may take to see that it has to stop */

/* Give what is in a slot to user space. */
static int hand_over(struct ks_file *file, struct ks_scan *scan, const struct ks_slot *slot)
{
	u64 pages = slot->end - slot->first;
	const u64 *from = (const u64 *)&slot->counts;
	u64 *into = (u64 *)&scan->counts;
	int error;
	u32 i;

	error = ks_hand_out(scan->bitmap + (slot->first - scan->first_pfn) / 8, slot->bitmap,
			    (pages + 7) / 8);
	if (error)
		return error;
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
		error = ks_job_scan(job->workers[0], slot, index);
		if (!error)
			error = hand_over(file, scan, slot);
	}
	return error;
}

static int trouble(struct ks_job *job)
{
	u32 i;

	if (signal_pending(current))
		return -EINTR;
	if (ks_now() > job->deadline)
		return -ETIME;
	for (i = 0; i < job->count; i++)
		if (ks_worker_died(job->workers[i]))
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
						 (slot = ks_slot_take(job, &job->full)), HZ / 10);
		if (slot) {
			error = hand_over(file, scan, slot);
			ks_slot_put(job, slot, &job->empty);
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
	unsigned long give_up = jiffies + KS_PATIENCE;

	WRITE_ONCE(job->stop, true);
	wake_up_all(&job->for_workers);
	while (!ks_workers_ended(job) && time_before(jiffies, give_up))
		wait_event_timeout(job->for_caller, ks_workers_ended(job), HZ / 50);
	/* Who has finished may have been preempted before it let go of the job, and of the map. */
	while (kref_read(&job->users) > 1 + ks_workers_dead(job) && time_before(jiffies, give_up))
		usleep_range(10, 50);
	if (!ks_workers_ended(job))
		pr_err("a worker does not answer: its memory, its map and this module stay\n");
	ks_job_put(job);
}

int ks_scan_run(struct ks_file *file, struct ks_scan *scan)
{
	struct ks_job *job = ks_job_make(scan);
	int error;

	if (!job)
		return -ENOMEM;
	/* Should this task die now, release finds the job there. */
	file->job = job;
	scan->workers = job->count > 1 ? ks_workers_start(job) : 0;
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
