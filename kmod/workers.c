// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Kernel threads that walk, each on a processor of its own: they take subwindows and fill slots, as
 * long as there are any of both.
 */
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/topology.h>

#include "compat.h"
#include "job.h"

/* Take the first slot of a list; NULL if there is none. */
struct ks_slot *ks_slot_take(struct ks_job *job, struct list_head *list)
{
	struct ks_slot *slot;

	spin_lock(&job->lock);
	slot = list_first_entry_or_null(list, struct ks_slot, list);
	if (slot)
		list_del(&slot->list);
	spin_unlock(&job->lock);
	return slot;
}

void ks_slot_put(struct ks_job *job, struct ks_slot *slot, struct list_head *list)
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
				READ_ONCE(job->stop) || (slot = ks_slot_take(job, &job->empty)));
		if (!slot)
			return 0;
		error = ks_job_scan(worker, slot, index);
		if (error)
			return error;
		ks_slot_put(job, slot, &job->full);
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
	ks_job_put(job);
	module_put_and_kthread_exit(0);
}

/* Start the workers, each on a processor of its own; how many did start. */
u32 ks_workers_start(struct ks_job *job)
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
bool ks_worker_died(struct ks_worker *worker)
{
	/* Acquires: who is seen to be gone is seen to have finished, if it has. */
	return worker->task && smp_load_acquire(&worker->task->exit_state) && !is_finished(worker);
}

u32 ks_workers_dead(struct ks_job *job)
{
	u32 i, dead = 0;

	for (i = 0; i < job->count; i++)
		dead += ks_worker_died(job->workers[i]);
	return dead;
}

bool ks_workers_ended(struct ks_job *job)
{
	u32 i;

	for (i = 0; i < job->count; i++)
		if (!is_finished(job->workers[i]) && !ks_worker_died(job->workers[i]))
			return false;
	return true;
}
