/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between the kernels that this module is built for, and nowhere else.
 */
#ifndef KDUMPD_SCAN_COMPAT_H
#define KDUMPD_SCAN_COMPAT_H

#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/version.h>

/*
 * 5.17 renamed what ends a kernel thread that holds its module (cead18552660); stable kernels took
 * that over.
 */
#ifndef module_put_and_kthread_exit
#define module_put_and_kthread_exit(code) module_put_and_exit(code)
#endif

/* Memory encryption of any kind: 5.16 has cc_platform_has() (46b49b12f3fc). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
#include <linux/mem_encrypt.h>

static inline bool ks_memory_encrypted(void)
{
	return mem_encrypt_active();
}
#else
#include <linux/cc_platform.h>

static inline bool ks_memory_encrypted(void)
{
	return cc_platform_has(CC_ATTR_MEM_ENCRYPT);
}
#endif

#endif /* KDUMPD_SCAN_COMPAT_H */
