/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of kdumpd_scan tell each other.
 *
 *	main.c		the device: open, close, requests, poll, parameters, counted memory
 *	request.c	copies a request in, has it checked and done, and copies the answer out
 *	check.c		everything that can be wrong with the numbers of a request
 *	old.c		where the crashed kernel had memory
 *	map.c		the mappings of old memory: make.c makes them as plan.c cuts them
 *	leaves.c	reads back what the mappings became, and logs it
 *	cursor.c	from a physical address to the bytes there
 *	scan.c, job.h, walk.h	decide what is worth dumping: who walks, and the walk
 *	gather.c	copies pages
 *	handout.c	copies to user space: bitmaps, pages
 *
 * Nothing here reads this kernel's struct page.
 */
#ifndef KDUMPD_SCAN_INTERNAL_H
#define KDUMPD_SCAN_INTERNAL_H

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "kdumpd_scan.h"

/* The longest struct page; and a pair of them: what a cursor can put together from two mappings. */
#define KS_MOST_STRUCT	256
#define KS_BOUNCE	(2 * KS_MOST_STRUCT)

/*
 * Page structures between two looks at the clock, at signals, and at who else wants the processor.
 */
#define KS_SLICE	32768

/**
 * struct ks_piece - one mapping: physical memory from @start to @end is at @virt.
 * @virt is NULL where strategy `page` maps it when it is needed.
 */
struct ks_piece {
	u64 start;
	u64 end;
	void *virt;
};

/**
 * struct ks_map - what a request of KDUMPD_MAP made; @pieces ascend and do not overlap.
 */
struct ks_map {
	struct kref users;
	u32 id;
	u32 strategy;
	struct ks_piece *pieces;
	u32 count;
	u32 room;
};

/**
 * struct ks_old - where old memory is: @ranges ascend, apart.
 */
struct ks_old {
	u32 count;
	struct kdumpd_range ranges[];
};

/**
 * struct ks_file - one open file.
 * @lock: held over a change of @maps and over KDUMPD_MAP; release does not take it
 * @old: where old memory is, once it is known; @untold: it cannot be known
 * @logged: lines that the maps of this file have in the kernel's log
 * @scanning: held over KDUMPD_SCAN, so that progress tells of one scan
 * @job: of scan.c; what ks_scan_release() has to end
 * @news, @changes, @seen: poll(2) finds something while @changes is not what KDUMPD_PROGRESS saw
 */
struct ks_file {
	struct mutex lock;	/* over @maps */
	struct ks_map *maps[KDUMPD_MOST_MAPS];
	struct ks_old *old;
	bool untold;
	u32 last_id;
	u32 logged;
	struct mutex scanning;	/* over progress */
	void *job;
	wait_queue_head_t news;
	atomic64_t changes;
	atomic64_t seen;
	atomic64_t done;
	atomic64_t total;
	atomic_t running;
};

/**
 * struct ks_cursor - a way to look at old memory for one thread; 560 bytes.
 * @piece: where it looked last
 * @page, @page_at: strategy `page`: what is mapped now, and its physical address
 * @error: why ks_at() said NULL
 */
struct ks_cursor {
	const struct ks_map *map;
	const struct ks_piece *piece;
	void *page;
	u64 page_at;
	int error;
	u8 bounce[KS_BOUNCE] __aligned(8);
};

/**
 * struct ks_scan - a request of KDUMPD_SCAN in which every number has been checked:
 * the elements ascend and do not overlap or wrap, and each overlaps the window (it may reach out
 * of it); the structures of the runs are aligned to 8 and lie below the processor's last physical
 * address, though not necessarily in the map; the window starts on 1 << KDUMPD_WINDOW_ORDER and is
 * not empty.
 * @map: held until the request is done
 * @level: without the classes that the layout does not tell (no slab mark: no cache, no user; no
 *	mask of lru, private, swapcache or swapbacked: no cache), and without bit 1
 * @layout: offsets lie in the structure, aligned to their width; masks are masks; types are 32 bits
 *	or KDUMPD_UNKNOWN. Where free_orders is 0, buddy_type is KDUMPD_UNKNOWN, and where that is,
 *	unaccepted_type too; free_orders is at most KDUMPD_WINDOW_ORDER + 1.
 *	slab_flag is 0 where slab_type is known.
 *	By KDUMPD_HUGETLB_DTOR second_dtor is known.
 * @bitmap: of user space, @bitmap_size bytes: exactly what the window needs
 * @deadline: as ks_now() counts, U64_MAX when there is none
 * @workers: 1 up to the number of processors that are online; scan.c stores how many it were
 */
struct ks_scan {
	struct ks_map *map;
	u32 level;
	u32 run_count;
	u32 present_count;
	u32 hands_off_count;
	struct kdumpd_run *runs;
	struct kdumpd_range *present;
	struct kdumpd_range *hands_off;
	struct kdumpd_layout layout;
	u64 first_pfn;
	u64 end_pfn;
	u8 __user *bitmap;
	u64 bitmap_size;
	u64 deadline;
	u32 workers;
	struct kdumpd_counts counts;
};

/**
 * struct ks_gather - a request of KDUMPD_GATHER in which every number has been checked:
 * the page size is a power of two from 4 KiB to 64 KiB, no page frame of the bitmap has an address
 * that wraps, the buffer holds at least one page, the bitmap has at least a bit, and @zero a byte.
 * All three are user space's, and may turn out not to be there. Where @zero is full, gathering
 * stops as where the buffer is.
 */
struct ks_gather {
	struct ks_map *map;
	u32 page_size;
	u64 first_pfn;
	u64 bits;
	const u8 __user *bitmap;
	u8 __user *buffer;
	u64 buffer_size;
	u8 __user *zero;
	u64 zero_size;
	u64 pages;
	u64 copied;
	u64 next_pfn;
};

/*
 * main.c: every allocation and mapping goes by these, so that the parameters `held` and `fail_nth`
 * see it.
 */
bool ks_refuse(void);		/* true: this one has to fail, on the word of `fail_nth` */
void ks_hold(long more);	/* so many more, or fewer, are held */
void *ks_alloc(size_t size);	/* zeroed; NULL without a warning and without the OOM killer */
void ks_free(void *memory);

u64 ks_now(void);		/* nanoseconds */
/*
 * Gives way to others; -EINTR if the caller has a signal, -ETIME if the deadline has passed, else
 * 0.
 */
int ks_pause(u64 deadline);

void ks_progress_start(struct ks_file *file, u64 total);
void ks_progress_more(struct ks_file *file, u64 pages);	/* from any worker */
void ks_progress_end(struct ks_file *file);

/* request.c: each does what the name says with the structure at @request of user space. */
long ks_request_map(struct ks_file *file, void __user *request);
long ks_request_scan(struct ks_file *file, void __user *request);
long ks_request_gather(struct ks_file *file, void __user *request);
long ks_request_unmap(struct ks_file *file, void __user *request);
long ks_request_progress(struct ks_file *file, void __user *request);

/* check.c */
int ks_check_layout(struct kdumpd_layout *layout, u32 *level);
int ks_check_ranges(const struct kdumpd_range *ranges, u32 count, u64 start, u64 end);
int ks_check_runs(const struct kdumpd_run *runs, u32 count, u64 start, u64 end, u64 struct_size);
bool ks_good_page_size(u64 size);
/* Is it old memory? -EOPNOTSUPP, -EOVERFLOW, -EBUSY, -EADDRNOTAVAIL */
int ks_check_old(u64 start, u64 end);
const char *ks_check_reason(int error);

/* old.c */
struct ks_old *ks_old_read(void);	/* or ERR_PTR: -ENOMEM, or it cannot be told */
bool ks_old_has(const struct ks_old *old, u64 start, u64 end);

/*
 * make.c: a map of checked ranges, held once; @answer has what was asked for and gets what came of
 * it.
 */
struct ks_map *ks_map_make(struct ks_file *file, const struct kdumpd_range *ranges,
			   struct kdumpd_map *answer);

/* map.c */
struct ks_map **ks_map_place(struct ks_file *file);	/* for one more, or NULL; with @lock held */
struct ks_map *ks_map_get(struct ks_file *file, u32 id);	/* or ERR_PTR(-ENOENT, -EINTR) */
void ks_map_put(struct ks_map *map);
int ks_map_remove(struct ks_file *file, u32 id);	/* 0: all of them */
void ks_map_release(struct ks_file *file);	/* the file is going: nobody else uses it */
void *ks_page_map(u64 physical, int *error);	/* one page of this kernel, cached; or NULL */
void ks_page_unmap(void *page);
const struct ks_map *ks_premapped(void);	/* when the module was loaded; may have no pieces */
void ks_premap(struct kdumpd_range *ranges, u32 count);	/* sorts them, skips what is refused */
void ks_premap_end(void);

/* cursor.c */
void ks_cursor_init(struct ks_cursor *cursor, const struct ks_map *map);
void ks_cursor_end(struct ks_cursor *cursor);
/*
 * At least @size (1 to KS_BOUNCE) readable bytes of @physical, good until the next call with this
 * cursor; *@contiguous of them can be read. (All of a page: ask for one byte, take what is
 * contiguous, go on behind it.) NULL where the map does not cover them all; @cursor->error is then
 * -ENXIO (not covered), -EIO (only uncached) or -ENOMEM.
 */
const void *ks_at(struct ks_cursor *cursor, u64 physical, size_t size, size_t *contiguous);

/* leaves_x86.c, leaves_arm64.c */
struct ks_leaf {
	u64 physical;
	u8 shift;
	bool cached;
};

bool ks_leaf_at(unsigned long virt, struct ks_leaf *leaf);	/* false: nothing is mapped there */
u64 ks_physical_limit(void);	/* the first address that no page table can hold */

/* scan.c */
int ks_scan_run(struct ks_file *file, struct ks_scan *scan);
/*
 * Ends what a scan of this file left behind if its caller died in it. Waits for workers a bounded
 * time: one that does not answer keeps its memory, its map and this module, but not the file.
 */
void ks_scan_release(struct ks_file *file);

/* handout.c: copy @size bytes from the 8-byte aligned @from to user space; -EFAULT. */
int ks_hand_out(u8 __user *into, const void *from, size_t size);

/* gather.c: 0, also where it stopped early; -ENXIO if the very first page is not covered. */
int ks_gather_run(struct ks_file *file, struct ks_gather *gather);

#endif /* KDUMPD_SCAN_INTERNAL_H */
