// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copies bitmaps and pages to user space by words: as fast as copy_to_user()'s string instructions
 * where a processor is good at those, and several times faster where it is not, as an emulated one.
 */
#include <linux/errno.h>
#include <linux/prefetch.h>
#include <linux/uaccess.h>

#include "internal.h"

#define KS_LINE		8	/* words copied in one turn */
#define KS_AHEAD	64	/* words that are fetched before they are wanted */

/* @size is a multiple of KS_LINE words. */
static int copy_words(u64 __user *into, const u64 *from, size_t size)
{
	const u64 *end = from + size / sizeof(*from);

	if (!user_access_begin(into, size))
		return -EFAULT;
	for (; from < end; from += KS_LINE, into += KS_LINE) {
		prefetch(from + KS_AHEAD);
		unsafe_put_user(from[0], into, fault);
		unsafe_put_user(from[1], into + 1, fault);
		unsafe_put_user(from[2], into + 2, fault);
		unsafe_put_user(from[3], into + 3, fault);
		unsafe_put_user(from[4], into + 4, fault);
		unsafe_put_user(from[5], into + 5, fault);
		unsafe_put_user(from[6], into + 6, fault);
		unsafe_put_user(from[7], into + 7, fault);
	}
	user_access_end();
	return 0;
fault:
	user_access_end();
	return -EFAULT;
}

int ks_hand_out(u8 __user *into, const void *from, size_t size)
{
	size_t rest = size % (KS_LINE * sizeof(u64)), lines = size - rest;
	int error = lines ? copy_words((u64 __user *)into, from, lines) : 0;

	if (!error && rest && copy_to_user(into + lines, from + lines, rest))
		error = -EFAULT;
	return error;
}
