#!/bin/busybox sh
# The first kernel's init: fills memory with every kind of page, loads the capture kernel, crashes.
# Sizes in MiB come from /recipe.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/sbin:/usr/bin
. /recipe

say() { echo "LAB: $*"; }

# seed N: N MiB on standard output that no two pages of one MiB share.
seed() {
    number=0
    while [ "$number" -lt "$1" ]; do
        cat /tmp/seed
        number=$((number + 1))
    done
}

say "started $(cut -d' ' -f1 /proc/uptime)"
for module in /modules/*.ko; do
    insmod "$module" || say "FAILED: insmod $module"
done
mount -t tmpfs -o size=90% tmpfs /tmp
head -c 1048576 /dev/urandom >/tmp/seed

mkdir -p /disk /huge /tmp/many
if [ -b /dev/vda ]; then
    mount -t ext4 /dev/vda /disk || say "FAILED: mount"
    # Read back after a new mount: page cache without buffers. Then written: page cache with buffers (PG_private).
    seed "$CACHE" >/disk/read
    umount /disk
    mount -t ext4 /dev/vda /disk
    cat /disk/read >/dev/null
    seed "$PRIVATE" >/disk/written
    sync
fi

seed "$TMPFS" >/tmp/shmem

# The shell's own children hold their buffer while the pipe's reader never reads.
echo never >/sys/kernel/mm/transparent_hugepage/enabled
[ "$ANONYMOUS" -gt 0 ] && (seed "$ANONYMOUS" | dd bs="${ANONYMOUS}M" iflag=fullblock 2>/dev/null | sleep 100000) &
sleep 1
echo always >/sys/kernel/mm/transparent_hugepage/enabled
[ "$TRANSPARENT" -gt 0 ] && (seed "$TRANSPARENT" | dd bs="${TRANSPARENT}M" iflag=fullblock 2>/dev/null | sleep 100000) &

if [ "$HUGETLB" -gt 0 ]; then
    echo $((HUGETLB / 2)) >/proc/sys/vm/nr_hugepages
    mount -t hugetlbfs hugetlbfs /huge
    # Half of the pool is used by a file, half stays free in the pool.
    fallocate -l $((HUGETLB / 2 / 2 * 2097152)) /huge/file
fi

# Dentries and inodes; every second one goes again, which leaves free objects and scattered free pages.
seq "$FILES" | (cd /tmp/many && xargs touch)
seq 1 2 "$FILES" | (cd /tmp/many && xargs rm -f)

wait_for_workload=0
while [ "$(awk '/^AnonPages/ {print int($2 / 1024)}' /proc/meminfo)" -lt $((ANONYMOUS + TRANSPARENT)) ]; do
    sleep 1
    wait_for_workload=$((wait_for_workload + 1))
    [ "$wait_for_workload" -gt 60 ] && say "FAILED: anonymous memory" && break
done

kexec -p -s --initrd=/capture.img --command-line="$CAPTURE_COMMAND_LINE" /vmlinuz ||
    kexec -p --initrd=/capture.img --command-line="$CAPTURE_COMMAND_LINE" /vmlinuz || say "FAILED: kexec"
echo "kdumpd lab nonce $NONCE" >/dev/kmsg
cat /proc/meminfo /proc/zoneinfo >/tmp/state
sed 's/^/MEMINFO /' /proc/meminfo
say "crashing $(cut -d' ' -f1 /proc/uptime)"
[ "$LIVE" = yes ] && say "live" && sleep 100000
sync
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
