/* SPDX-License-Identifier: GPL-2.0-or-later WITH Linux-syscall-note */
/*
 * The requests of /dev/kdumpd_scan: the capture kernel maps old memory, scans
 * the crashed kernel's page structures, and hands out pages.
 *
 * Every request begins with its size and version. A longer request of a newer
 * user space is taken when the part that this module does not know is zero; a
 * shorter one of an older user space has zeros in what it lacks. All addresses
 * and arrays of user space are __u64, all unused fields must be zero.
 *
 * kdumpd/scan/requests.py declares the same structures; a test compares them.
 *
 * Errors, each with one meaning:
 *   ENOTTY         no such request
 *   EPERM          the caller lacks CAP_SYS_ADMIN
 *   EINVAL         version, size, strategy, page size, alignment or an unused field
 *   E2BIG          a field that this module does not know, or too many elements
 *   EFAULT         an address of user space that cannot be used
 *   EOVERFLOW      a number so large that it wraps, or lies beyond the processor's physical
 *                  addresses
 *   ERANGE         elements that are empty, out of order, overlap, or leave the window
 *   EDOM           the layout: an offset outside the structure, a type or order that cannot be
 *   EBUSY          memory that the capture kernel itself uses
 *   EADDRNOTAVAIL  memory of a device or of the firmware, not old memory
 *   EMFILE         more maps than one file may have
 *   ENOENT         no such map
 *   ENXIO          old memory that the map does not cover
 *   EIO            old memory that can only be mapped uncached
 *   ENOSPC         a bitmap or buffer too short for what it has to hold
 *   ENOMEM         no memory, or more page tables than allowed
 *   EOPNOTSUPP     memory encryption
 *   ETIME          the deadline has passed
 *   EINTR          a signal
 *   ENOTRECOVERABLE  a processor of the scan died in an oops, which the kernel's log has
 */
#ifndef KDUMPD_SCAN_H
#define KDUMPD_SCAN_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define KDUMPD_SCAN_VERSION	1

/* What a fact of the crashed kernel's layout is when nobody knows it. */
#define KDUMPD_UNKNOWN		(~0ULL)

/*
 * Windows of a scan start at its multiples: no block of pages spans one (order 18: 1 GiB of 4 KiB
 * pages).
 */
#define KDUMPD_WINDOW_ORDER	18

/* The most elements of one request. */
#define KDUMPD_MOST_RANGES	65536
#define KDUMPD_MOST_RUNS	65536
#define KDUMPD_MOST_MAPS	8

/**
 * struct kdumpd_range - from @start up to, not including, @end: bytes of physical memory, or page
 * frames.
 */
struct kdumpd_range {
	__u64 start;
	__u64 end;
};

/**
 * struct kdumpd_run - @pages page structures, from that of @first_pfn on, lie contiguously from
 * @physical.
 */
struct kdumpd_run {
	__u64 first_pfn;
	__u64 pages;
	__u64 physical;
};

enum kdumpd_strategy {
	KDUMPD_PAGE = 1,	/* one 4 KiB mapping at a time, made when it is needed */
	KDUMPD_CHUNK = 2,	/* each range once: for the runs of mem_map */
	KDUMPD_LINEAR = 3,	/* each range once: for the PT_LOADs of /proc/vmcore */
};

/**
 * struct kdumpd_map - map old memory; it stays mapped until KDUMPD_UNMAP or close.
 * @strategy: enum kdumpd_strategy
 * @page_shift: the largest leaf: 12, 21 or 30 (on aarch64 with other granules: the nearest there
 *	is)
 * @ranges: address of @count struct kdumpd_range, bytes, ascending, apart
 * @table_limit: bytes of page tables that may be spent; 0 is a quarter of the free memory
 * @id: (out) what KDUMPD_SCAN, KDUMPD_GATHER and KDUMPD_UNMAP call this map; never 0
 * @leaves: (out) of 1 GiB, 2 MiB, 4 KiB, read back from the page tables
 * @table_bytes: (out) page tables that hold them
 * @premapped_bytes: (out) of the ranges, mapped when the module was loaded
 * @retried: (out) pieces that came back uncached or too finely mapped and were made anew in
 *	smaller ones
 * @refused_bytes: (out) of the ranges, left unmapped because no piece of them came back cached
 * @nanoseconds: (out) that it took
 */
struct kdumpd_map {
	__u32 size;
	__u32 version;
	__u32 strategy;
	__u32 page_shift;
	__u64 ranges;
	__u32 count;
	__u32 id;
	__u64 table_limit;
	__u64 leaves[3];
	__u64 table_bytes;
	__u64 premapped_bytes;
	__u64 retried;
	__u64 refused_bytes;
	__u64 nanoseconds;
};

/* How a hugetlb head says that it is one. */
enum kdumpd_hugetlb {
	KDUMPD_HUGETLB_UNKNOWN = 0,
	KDUMPD_HUGETLB_PAGE_TYPE = 1,	/* _mapcount is the value (6.9) */
	KDUMPD_HUGETLB_SECOND_FLAGS = 2,	/* that bit of page[1].flags (6.6) */
	KDUMPD_HUGETLB_DTOR = 3,	/* the destructor's number in page[1] (before) */
};

/**
 * struct kdumpd_layout - all that is known of the crashed kernel's struct page.
 *
 * Offsets in bytes; masks of page.flags; 32-bit values of page._mapcount. A mask of 0, and any
 * other field that is KDUMPD_UNKNOWN, is not known: the class of pages that needs it is kept.
 *
 * @page_size: bytes of a page of the crashed kernel
 * @size: bytes of a struct page, a multiple of 8 from 32 to 256
 * @flags, @mapping, @mapcount, @private_offset, @compound_head: offsets, always known
 * @second_order: offset in page[1] of the byte with a compound page's order
 * @second_dtor: offset in page[1] of the destructor's number
 * @free_orders: how many orders free blocks have, 0 when not known
 * @hugetlb: enum kdumpd_hugetlb
 * @hugetlb_value: what it says by @hugetlb
 */
struct kdumpd_layout {
	__u64 page_size;
	__u64 size;
	__u64 flags;
	__u64 mapping;
	__u64 mapcount;
	__u64 private_offset;
	__u64 compound_head;
	__u64 second_order;
	__u64 second_dtor;
	__u64 lru;
	__u64 private_flag;
	__u64 swapcache;
	__u64 swapbacked;
	__u64 head;
	__u64 hwpoison;
	__u64 slab_flag;
	__u64 slab_type;
	__u64 buddy_type;
	__u64 offline_type;
	__u64 unaccepted_type;
	__u64 free_orders;
	__u64 hugetlb;
	__u64 hugetlb_value;
};

/**
 * struct kdumpd_counts - page frames of a window by what became of them; @total is all but holes.
 * @examined: page structures that were looked at
 * @bad_orders: free blocks that claim an order that cannot be, and are kept
 */
struct kdumpd_counts {
	__u64 total;
	__u64 kept;
	__u64 cache;
	__u64 cache_private;
	__u64 user;
	__u64 free;
	__u64 hwpoison;
	__u64 offline;
	__u64 hands_off;
	__u64 examined;
	__u64 bad_orders;
};

/**
 * struct kdumpd_scan - decide which page frames of a window are worth dumping.
 * @map: the map that covers the structures of the runs
 * @level: what is left out: 2 cache, 4 cache with private, 8 user, 16 free (1, zero pages, is not
 *	decided here)
 * @layout, @layout_size: address and size of the struct kdumpd_layout
 * @runs: address of @run_count struct kdumpd_run, ascending by pfn, apart, each touching the window
 * @present: address of @present_count struct kdumpd_range: the page frames that the vmcore holds
 * @hands_off: address of @hands_off_count struct kdumpd_range: page frames left out on the
 *	policy's word
 * @first_pfn: start of the window, a multiple of 1 << KDUMPD_WINDOW_ORDER
 * @end_pfn: end of the window
 * @bitmap: address of @bitmap_size bytes: bit 0 of byte 0 is @first_pfn; 1 is worth dumping
 * @timeout: nanoseconds that it may take; 0 is without end
 * @workers: how many processors; 0 is all that are online; (out) how many it were
 * @counts: (out)
 * @nanoseconds: (out) that it took
 *
 * On an error the bitmap's contents mean nothing.
 */
struct kdumpd_scan {
	__u32 size;
	__u32 version;
	__u32 map;
	__u32 level;
	__u64 layout;
	__u64 runs;
	__u64 present;
	__u64 hands_off;
	__u32 layout_size;
	__u32 run_count;
	__u32 present_count;
	__u32 hands_off_count;
	__u64 first_pfn;
	__u64 end_pfn;
	__u64 bitmap;
	__u64 bitmap_size;
	__u64 timeout;
	__u32 workers;
	__u32 unused;
	struct kdumpd_counts counts;
	__u64 nanoseconds;
};

/**
 * struct kdumpd_gather - copy the pages that a bitmap names.
 * @map: the map that covers them
 * @page_size: bytes of a page of the crashed kernel
 * @first_pfn: page frame of bit 0 of byte 0 of the bitmap
 * @bits: how many bits the bitmap has
 * @bitmap: its address
 * @buffer: address of @buffer_size bytes for the pages that are not all zero, one behind the other
 * @zero: address of a bitmap with a bit for each page that was gathered, in their order: 1 is all
 *	zero
 * @zero_size: its bytes
 * @pages: (out) gathered
 * @copied: (out) of them, in the buffer
 * @next_pfn: (out) where it stopped: the end of the bitmap, the first page that found no room in
 *	the buffer, or the first that the map does not cover (ENXIO if that is the very first)
 */
struct kdumpd_gather {
	__u32 size;
	__u32 version;
	__u32 map;
	__u32 page_size;
	__u64 first_pfn;
	__u64 bits;
	__u64 bitmap;
	__u64 buffer;
	__u64 buffer_size;
	__u64 zero;
	__u64 zero_size;
	__u64 pages;
	__u64 copied;
	__u64 next_pfn;
};

/**
 * struct kdumpd_unmap - give a map up; @id 0 is all of this file.
 */
struct kdumpd_unmap {
	__u32 size;
	__u32 version;
	__u32 id;
	__u32 unused;
};

/**
 * struct kdumpd_progress - how far the scan of this file is; poll(2) says when there is news.
 * @done: page frames settled of the window that is or was scanned
 * @total: page frames in it
 * @running: 1 while a scan runs
 */
struct kdumpd_progress {
	__u32 size;
	__u32 version;
	__u64 done;
	__u64 total;
	__u32 running;
	__u32 unused;
};

#define KDUMPD_MAP	_IOWR('K', 0xd0, struct kdumpd_map)
#define KDUMPD_SCAN	_IOWR('K', 0xd1, struct kdumpd_scan)
#define KDUMPD_GATHER	_IOWR('K', 0xd2, struct kdumpd_gather)
#define KDUMPD_UNMAP	_IOWR('K', 0xd3, struct kdumpd_unmap)
#define KDUMPD_PROGRESS	_IOWR('K', 0xd4, struct kdumpd_progress)

#endif /* KDUMPD_SCAN_H */
