// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kdumpd_scan: the capture kernel scans the page structures of the kernel that crashed.
 *
 * /dev/kdumpd_scan takes the requests of kdumpd_scan.h. What an open file has mapped goes when it
 * is closed, however its holder ended. Nothing is written to old memory.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/crash_dump.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"

#define KS_MOST_PREMAPS	64

static bool allow_live;
module_param(allow_live, bool, 0444);
MODULE_PARM_DESC(allow_live, "load in a kernel that is no capture kernel (tests)");

static struct kdumpd_range premaps[KS_MOST_PREMAPS];
static u32 premap_count;

static atomic_long_t held;
static atomic_long_t refuse_in;

/*
 * START-END[,START-END...] in bytes, hexadecimal or decimal. What is not understood is passed over.
 */
static int set_premaps(const char *value, const struct kernel_param *param)
{
	char *text = kstrdup(value, GFP_KERNEL), *rest = text, *range;

	if (!text)
		return -ENOMEM;
	while ((range = strsep(&rest, ",\n")) != NULL) {
		struct kdumpd_range *next = &premaps[premap_count];
		char *end = strchr(range, '-');

		if (!*range)
			continue;
		if (end)
			*end++ = '\0';
		if (!end || kstrtou64(range, 0, &next->start) || kstrtou64(end, 0, &next->end))
			pr_warn("map=%s is passed over: not START-END\n", range);
		else if (premap_count + 1 == KS_MOST_PREMAPS)
			pr_warn("map=%s and what follows is passed over: more than %d ranges\n",
				range, KS_MOST_PREMAPS - 1);
		else
			premap_count++;
	}
	kfree(text);
	return 0;
}

static const struct kernel_param_ops premaps_ops = {
	.set = set_premaps,
};

module_param_cb(map, &premaps_ops, NULL, 0);
MODULE_PARM_DESC(map, "START-END[,START-END...]: old memory to map linearly at once, in bytes");

static int set_fail_nth(const char *value, const struct kernel_param *param)
{
	long nth;
	int error = kstrtol(value, 0, &nth);

	if (!error)
		atomic_long_set(&refuse_in, nth);
	return error;
}

static int show_long(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%ld\n", atomic_long_read(param->arg));
}

static const struct kernel_param_ops fail_nth_ops = {
	.set = set_fail_nth,
	.get = show_long,
};

module_param_cb(fail_nth, &fail_nth_ops, &refuse_in, 0600);
MODULE_PARM_DESC(fail_nth, "which allocation or mapping from now on fails, 0 none (tests)");

static const struct kernel_param_ops held_ops = {
	.get = show_long,
};

module_param_cb(held, &held_ops, &held, 0444);
MODULE_PARM_DESC(held, "allocations and mappings that are not given back yet (tests)");

bool ks_refuse(void)
{
	return atomic_long_dec_if_positive(&refuse_in) == 0;
}

void ks_hold(long more)
{
	atomic_long_add(more, &held);
}

void *ks_alloc(size_t size)
{
	void *memory;

	if (ks_refuse())
		return NULL;
	memory = kvzalloc(size, GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
	if (memory)
		ks_hold(1);
	return memory;
}

void ks_free(void *memory)
{
	if (memory)
		ks_hold(-1);
	kvfree(memory);
}

u64 ks_now(void)
{
	return ktime_get_ns();
}

int ks_pause(u64 deadline)
{
	cond_resched();
	if (signal_pending(current))
		return -EINTR;
	return deadline != U64_MAX && ks_now() > deadline ? -ETIME : 0;
}

static void changed(struct ks_file *file)
{
	atomic64_inc(&file->changes);
	wake_up_interruptible(&file->news);
}

void ks_progress_start(struct ks_file *file, u64 total)
{
	atomic64_set(&file->done, 0);
	atomic64_set(&file->total, total);
	atomic_set(&file->running, 1);
	changed(file);
}

void ks_progress_more(struct ks_file *file, u64 pages)
{
	atomic64_add(pages, &file->done);
	changed(file);
}

void ks_progress_end(struct ks_file *file)
{
	atomic_set(&file->running, 0);
	changed(file);
}

static int open_scan(struct inode *inode, struct file *file)
{
	struct ks_file *own;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	own = ks_alloc(sizeof(*own));
	if (!own)
		return -ENOMEM;
	mutex_init(&own->lock);
	mutex_init(&own->scanning);
	init_waitqueue_head(&own->news);
	file->private_data = own;
	return nonseekable_open(inode, file);
}

/* Takes no lock: whoever holds one now has died with it. */
static int release_scan(struct inode *inode, struct file *file)
{
	struct ks_file *own = file->private_data;

	ks_scan_release(own);
	ks_map_release(own);
	ks_free(own->old);
	ks_free(own);
	return 0;
}

static __poll_t poll_scan(struct file *file, poll_table *table)
{
	struct ks_file *own = file->private_data;

	poll_wait(file, &own->news, table);
	if (atomic64_read(&own->changes) == atomic64_read(&own->seen))
		return 0;
	return EPOLLIN | EPOLLRDNORM;
}

/* Type and number decide, not the size within: structures may grow. */
static long request_scan(struct file *file, unsigned int request, unsigned long argument)
{
	void __user *at = (void __user *)argument;

	if (_IOC_TYPE(request) != _IOC_TYPE(KDUMPD_MAP))
		return -ENOTTY;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	switch (_IOC_NR(request)) {
	case _IOC_NR(KDUMPD_MAP):
		return ks_request_map(file->private_data, at);
	case _IOC_NR(KDUMPD_SCAN):
		return ks_request_scan(file->private_data, at);
	case _IOC_NR(KDUMPD_GATHER):
		return ks_request_gather(file->private_data, at);
	case _IOC_NR(KDUMPD_UNMAP):
		return ks_request_unmap(file->private_data, at);
	case _IOC_NR(KDUMPD_PROGRESS):
		return ks_request_progress(file->private_data, at);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations scan_operations = {
	.owner = THIS_MODULE,
	.open = open_scan,
	.release = release_scan,
	.poll = poll_scan,
	.unlocked_ioctl = request_scan,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice scan_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kdumpd_scan",
	.fops = &scan_operations,
	.mode = 0600,
};

static int __init load(void)
{
	int error;

	if (!is_kdump_kernel() && !allow_live) {
		pr_err("this is no capture kernel; allow_live=1 loads anyway, for tests\n");
		return -ENODEV;
	}
	ks_premap(premaps, premap_count);
	error = misc_register(&scan_device);
	if (error)
		ks_premap_end();
	return error;
}

static void __exit unload(void)
{
	misc_deregister(&scan_device);
	ks_premap_end();
	if (atomic_long_read(&held))
		pr_warn("%ld allocations and mappings are lost\n", atomic_long_read(&held));
}

module_init(load);
module_exit(unload);

MODULE_DESCRIPTION("Scans the page structures of a crashed kernel");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
