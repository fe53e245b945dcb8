#!/bin/busybox sh
# shellcheck shell=dash
# The capture kernel's init: loads what it was given, runs the test's program, leaves what it says on the second disk.
# /recipe says what is there; /out is that disk.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /out /bin /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/sbin:/usr/bin
HEAD_PAGES=0 PARAMETERS=none
# shellcheck source=/dev/null
. /recipe

say() { echo "LAB: $*"; }

dmesg -n 1
say "capture $(cut -d' ' -f1 /proc/uptime) of $(nproc) processors"
for module in /modules/*.ko; do
    insmod "$module" || say "FAILED: insmod $module"
done
patience=100
until [ -b /dev/vdb ] || [ "$patience" -eq 0 ]; do
    usleep 100000
    patience=$((patience - 1))
done
mount -t ext4 /dev/vdb /out || say "FAILED: mount /out"
mount -t debugfs debugfs /sys/kernel/debug
if [ "$HEAD_PAGES" -gt 0 ]; then
    dd if=/proc/vmcore of=/out/vmcore.head bs=4096 count="$HEAD_PAGES" 2>/dev/null
fi
if [ -f /kdumpd_scan.ko ] && [ "$PARAMETERS" != none ]; then
    # Several parameters are meant to be split.
    # shellcheck disable=SC2086
    insmod /kdumpd_scan.ko $PARAMETERS || say "FAILED: insmod kdumpd_scan.ko $PARAMETERS"
fi
say "program $(cut -d' ' -f1 /proc/uptime)"
/usr/lib/kdumpd/capture
say "program ended $? $(cut -d' ' -f1 /proc/uptime)"
dmesg >/out/dmesg
umount /out || say "FAILED: umount /out"
sync
say "done"
reboot -f
