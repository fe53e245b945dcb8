// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copies the pages that a bitmap names from a map to user space, in the caller's own time: no page
 * is mapped for it, and a page of zeros is only looked at.
 *
 * Memory: struct gatherer, and a page where pages of the crashed kernel are larger than mappings.
 */
#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "internal.h"

#define KS_WORDS	64		/* of the bitmap, taken at once */
#define KS_MOST_AT_ONCE	(64 << 10)	/* bytes of one copy */

/*
 * struct gatherer - a request on its way.
 * @words: the part of the bitmap that is being worked through
 * @piece, @piece_at, @piece_size: what the cursor showed last, and its physical address
 * @page: room for a page that is put together from several mappings
 * @from, @waiting: bytes that have their place in the buffer, but are not copied yet
 * @placed: bytes of the buffer that have been given away
 * @octet: the last bits for the bitmap of zero pages
 */
struct gatherer {
	struct ks_gather *request;
	struct ks_cursor cursor;
	u64 words[KS_WORDS];
	const void *piece;
	u64 piece_at;
	size_t piece_size;
	void *page;
	const void *from;
	size_t waiting;
	u64 placed;
	u8 octet;
};

static int copy_waiting(struct gatherer *gatherer)
{
	u8 __user *into = gatherer->request->buffer + gatherer->placed - gatherer->waiting;
	size_t size = gatherer->waiting;

	gatherer->waiting = 0;
	return ks_hand_out(into, gatherer->from, size);
}

/* Put a page together; -ENXIO and the like if a part of it is not there. */
static int assemble(struct gatherer *gatherer, u64 physical)
{
	u32 size = gatherer->request->page_size, filled = 0;

	if (!gatherer->page)
		gatherer->page = ks_alloc(size);
	if (!gatherer->page)
		return -ENOMEM;
	while (filled < size) {
		size_t contiguous;
		const void *part = ks_at(&gatherer->cursor, physical + filled, 1, &contiguous);

		if (!part)
			return gatherer->cursor.error;
		contiguous = min_t(size_t, contiguous, size - filled);
		memcpy(gatherer->page + filled, part, contiguous);
		filled += contiguous;
	}
	gatherer->piece = gatherer->page;
	gatherer->piece_size = size;
	return 0;
}

/* Find the bytes of a page; what was found before is gone then. */
static int find_page(struct gatherer *gatherer, u64 physical)
{
	int error = copy_waiting(gatherer);

	if (error)
		return error;
	gatherer->piece_at = physical;
	gatherer->piece = ks_at(&gatherer->cursor, physical, 1, &gatherer->piece_size);
	if (gatherer->piece && gatherer->piece_size >= gatherer->request->page_size)
		return 0;
	error = gatherer->piece ? assemble(gatherer, physical) : gatherer->cursor.error;
	if (error)
		gatherer->piece_size = 0;
	return error;
}

static bool all_zero(const u64 *word, u32 size)
{
	const u64 *end = word + size / sizeof(*word);

	for (; word < end; word += 8)
		if (word[0] | word[1] | word[2] | word[3] | word[4] | word[5] | word[6] | word[7])
			return false;
	return true;
}

/* Give the page its place; -ENOSPC if there is none. */
static int place(struct gatherer *gatherer, const void *page)
{
	struct ks_gather *request = gatherer->request;
	int error = 0;

	if (gatherer->placed + request->page_size > request->buffer_size)
		return -ENOSPC;
	if (gatherer->waiting >= KS_MOST_AT_ONCE || gatherer->from + gatherer->waiting != page)
		error = copy_waiting(gatherer);
	if (!gatherer->waiting)
		gatherer->from = page;
	gatherer->waiting += request->page_size;
	gatherer->placed += request->page_size;
	request->copied++;
	return error;
}

/* The page has been gathered. */
static int note(struct gatherer *gatherer, bool zero)
{
	struct ks_gather *request = gatherer->request;
	u64 page = request->pages++;
	u8 octet = gatherer->octet | zero << page % 8;

	if (page % 8 != 7) {
		gatherer->octet = octet;
		return 0;
	}
	gatherer->octet = 0;
	return put_user(octet, request->zero + page / 8);
}

static int gather_page(struct gatherer *gatherer, u64 pfn)
{
	struct ks_gather *request = gatherer->request;
	u64 physical = pfn * request->page_size, into = physical - gatherer->piece_at;
	const void *page;
	bool zero;
	int error;

	if (request->pages / 8 == request->zero_size)
		return -ENOSPC;
	if (into >= gatherer->piece_size || gatherer->piece_size - into < request->page_size) {
		error = find_page(gatherer, physical);
		if (error)
			return error;
		into = 0;
	}
	page = gatherer->piece + into;
	zero = all_zero(page, request->page_size);
	if (!zero) {
		error = place(gatherer, page);
		if (error)
			return error;
	}
	return note(gatherer, zero);
}

/* All pages of one word of the bitmap, whose first bit stands for @pfn. */
static int gather_word(struct gatherer *gatherer, u64 word, u64 pfn)
{
	struct ks_gather *request = gatherer->request;

	for (; word; word &= word - 1) {
		int error;

		request->next_pfn = pfn + __ffs64(word);
		error = gather_page(gatherer, request->next_pfn);
		if (error)
			return error;
	}
	request->next_pfn = min(pfn + 64, request->first_pfn + request->bits);
	return ks_pause(U64_MAX);
}

/* Take the words of the bitmap from number @first on, with zeros behind its end. */
static int take_words(struct gatherer *gatherer, u64 first)
{
	struct ks_gather *request = gatherer->request;
	u64 left = request->bits - 64 * first;

	if (left < 64 * KS_WORDS)
		memset(gatherer->words, 0, sizeof(gatherer->words));
	if (copy_from_user(gatherer->words, request->bitmap + 8 * first,
			   min(DIV_ROUND_UP_ULL(left, 8), (u64)sizeof(gatherer->words))))
		return -EFAULT;
	if (left < 64 * KS_WORDS)
		gatherer->words[left / 64] &= ~(~0ULL << left % 64);
	return 0;
}

static int gather_all(struct gatherer *gatherer)
{
	struct ks_gather *request = gatherer->request;
	u64 word, words = DIV_ROUND_UP_ULL(request->bits, 64);
	int error = 0;

	for (word = 0; word < words && !error; word++) {
		if (word % KS_WORDS == 0)
			error = take_words(gatherer, word);
		if (!error)
			error = gather_word(gatherer, gatherer->words[word % KS_WORDS],
					    request->first_pfn + 64 * word);
	}
	return error;
}

int ks_gather_run(struct ks_file *file, struct ks_gather *request)
{
	struct gatherer *gatherer = ks_alloc(sizeof(*gatherer));
	int error, fault;

	if (!gatherer)
		return -ENOMEM;
	gatherer->request = request;
	ks_cursor_init(&gatherer->cursor, request->map);
	error = gather_all(gatherer);
	fault = copy_waiting(gatherer);
	if (!fault && request->pages % 8)
		fault = put_user(gatherer->octet, request->zero + request->pages / 8);
	ks_cursor_end(&gatherer->cursor);
	ks_free(gatherer->page);
	ks_free(gatherer);
	if (fault || error == -EFAULT)
		return -EFAULT;
	/* Where it stops early, what it has is worth more than the reason. */
	return request->pages ? 0 : error;
}
