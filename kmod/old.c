// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where old memory is, in the kernel's own words: the program headers of /proc/vmcore.
 *
 * Only its head is read, which this kernel keeps in its own memory. It is not opened before the
 * first map is asked for, since drivers that come after it is open cannot tell it what must not be
 * read. Memory: 16 bytes for each range, 56 more for each program header while they are read.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/elf.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "internal.h"

#define KS_VMCORE	"/proc/vmcore"

static int read_at(struct file *file, loff_t at, void *into, size_t size)
{
	return kernel_read(file, into, size, &at) == size ? 0 : -EIO;
}

static int by_start(const void *left, const void *right)
{
	const struct kdumpd_range *a = left, *b = right;

	return a->start < b->start ? -1 : a->start > b->start;
}

/* The whole pages that a program header tells of; some headers tell of the same. */
static void add(struct ks_old *old, const struct elf64_phdr *header)
{
	u64 start = header->p_paddr, size = header->p_memsz;

	if (header->p_type != PT_LOAD || !size || size > U64_MAX - PAGE_SIZE - start)
		return;
	old->ranges[old->count].start = ALIGN_DOWN(start, PAGE_SIZE);
	old->ranges[old->count++].end = ALIGN(start + size, PAGE_SIZE);
}

static void merge(struct ks_old *old)
{
	struct kdumpd_range *last = old->ranges;
	u32 i;

	if (!old->count)
		return;
	sort(old->ranges, old->count, sizeof(*old->ranges), by_start, NULL);
	for (i = 1; i < old->count; i++) {
		if (old->ranges[i].start > last->end)
			*++last = old->ranges[i];
		else if (old->ranges[i].end > last->end)
			last->end = old->ranges[i].end;
	}
	old->count = last - old->ranges + 1;
}

static struct ks_old *read_headers(struct file *file)
{
	struct elf64_phdr *headers;
	struct elf64_hdr elf;
	struct ks_old *old;
	int error;
	u32 i;

	error = read_at(file, 0, &elf, sizeof(elf));
	if (error)
		return ERR_PTR(error);
	if (memcmp(elf.e_ident, ELFMAG, SELFMAG) || elf.e_ident[EI_CLASS] != ELFCLASS64 ||
	    elf.e_phentsize != sizeof(*headers) || !elf.e_phnum || elf.e_phnum == PN_XNUM)
		return ERR_PTR(-EIO);
	headers = ks_alloc(elf.e_phnum * sizeof(*headers));
	old = ks_alloc(struct_size(old, ranges, elf.e_phnum));
	error = headers && old ? 0 : -ENOMEM;
	if (!error)
		error = read_at(file, elf.e_phoff, headers, elf.e_phnum * sizeof(*headers));
	for (i = 0; !error && i < elf.e_phnum; i++)
		add(old, &headers[i]);
	ks_free(headers);
	if (error) {
		ks_free(old);
		return ERR_PTR(error);
	}
	merge(old);
	return old;
}

struct ks_old *ks_old_read(void)
{
	struct file *file = filp_open(KS_VMCORE, O_RDONLY, 0);
	struct ks_old *old = ERR_PTR(-EOPNOTSUPP);

	if (IS_ERR(file))
		return ERR_CAST(file);
	/* Before 5.18 /proc/vmcore cannot be read from inside the kernel. */
	if (file->f_op->read_iter && !file->f_op->read)
		old = read_headers(file);
	filp_close(file, NULL);
	return old;
}

bool ks_old_has(const struct ks_old *old, u64 start, u64 end)
{
	u32 low = 0, high = old->count;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (start < old->ranges[middle].start)
			high = middle;
		else if (start >= old->ranges[middle].end)
			low = middle + 1;
		else
			return end <= old->ranges[middle].end;
	}
	return false;
}
