// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a damaged machine answers when /proc/vmcore is read, for the capture in a VM: ld.so loads this into the
 * runner (/etc/ld.so.preload of the second initrd). Built twice:
 *   -DUNREADABLE_FROM=.. -DUNREADABLE_TO=..  reads of these bytes of the file fail as a bad address
 *   -DHIDE=\"SIZE(page)\"                    a key of VMCOREINFO reads as another one
 * Mapping the file is refused, as some kernels do, so that every read is seen here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int is_vmcore(int fd)
{
	char link[64], name[64];
	ssize_t size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	size = readlink(link, name, sizeof(name) - 1);
	if (size < 0)
		return 0;
	name[size] = 0;
	return !strcmp(name, "/proc/vmcore");
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
	if (fd >= 0 && is_vmcore(fd)) {
		errno = EAGAIN;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	return mmap64(address, size, protection, flags, fd, offset);
}

ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset)
{
	ssize_t got;

	if (!is_vmcore(fd))
		return syscall(SYS_pread64, fd, buffer, size, offset);
#ifdef UNREADABLE_FROM
	if (offset < UNREADABLE_TO && offset + (off64_t)size > UNREADABLE_FROM) {
		errno = EFAULT;
		return -1;
	}
#endif
	got = syscall(SYS_pread64, fd, buffer, size, offset);
#ifdef HIDE
	if (got > 0) {
		char *found = memmem(buffer, got, HIDE, strlen(HIDE));

		if (found)
			found[0] = '#';
	}
#endif
	return got;
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
	return pread64(fd, buffer, size, offset);
}
