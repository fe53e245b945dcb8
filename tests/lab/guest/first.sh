#!/bin/busybox sh
# shellcheck shell=dash
# The first kernel's init: fills memory with every kind of page, loads the capture kernel, crashes.
# /recipe has the amounts, in MiB, and what else differs.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /disk /huge
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/sbin:/usr/bin
CACHE=0 PRIVATE=0 TMPFS=0 ANONYMOUS=0 TRANSPARENT=0 HUGETLB=0 BALLOON=0 FILES=0
# shellcheck source=/dev/null
. /recipe

say() { echo "LAB: $*"; }

# seed N: N MiB on standard output, each the same, no two pages of one the same.
seed() {
    number=0
    while [ "$number" -lt "$1" ]; do
        cat /tmp/seed
        number=$((number + 1))
    done
}

# anonymous N: a process that holds N MiB of anonymous memory.
anonymous() {
    [ "$1" -eq 0 ] && return
    # dd fills its one buffer, then waits for ever: nobody reads the other end.
    mkfifo "/run/held-$1"
    sleep 100000 <>"/run/held-$1" &
    (seed "$1" | dd bs="$1M" iflag=fullblock of="/run/held-$1" 2>/run/dd) &
}

# field NAME: NAME of /proc/meminfo in MiB.
field() { awk -v name="$1:" '$1 == name {print int($2 / 1024)}' /proc/meminfo; }

# wait_for NAME LEAST MOST: NAME of /proc/meminfo is between LEAST and MOST MiB, or a minute has gone.
wait_for() {
    patience=600
    while value=$(field "$1") && { [ "$value" -lt "$2" ] || [ "$value" -gt "$3" ]; }; do
        usleep 100000
        patience=$((patience - 1))
        if [ "$patience" -eq 0 ]; then
            say "FAILED: $1 is $value MiB, not $2 to $3"
            break
        fi
    done
}

say "started $(cut -d' ' -f1 /proc/uptime)"
for module in /modules/*.ko; do
    insmod "$module" || say "FAILED: insmod $module"
done
mount -t tmpfs -o size=90% tmpfs /tmp
head -c 1048576 /dev/urandom >/tmp/seed

if [ "$BALLOON" -gt 0 ]; then
    # The lab now takes memory away by the balloon: its pages are offline.
    before=$(field MemTotal)
    say "balloon"
    wait_for MemTotal 0 $((before - BALLOON + 1))
fi

if [ "$CACHE" -gt 0 ]; then
    patience=100
    until [ -b /dev/vda ] || [ "$patience" -eq 0 ]; do
        usleep 100000
        patience=$((patience - 1))
    done
    mount -t ext4 /dev/vda /disk || say "FAILED: mount"
    # Read back after a new mount: page cache without buffers. Then written: page cache with buffers (PG_private).
    seed "$CACHE" >/disk/read
    umount /disk
    mount -t ext4 /dev/vda /disk
    cat /disk/read >/dev/null
    seed "$PRIVATE" >/disk/written
    sync
    # Held open: poisoning a page drops unused inodes, and their pages with them (5.10).
    sleep 100000 3</disk/read 4</disk/written &
fi

seed "$TMPFS" >/tmp/shmem

echo never >/sys/kernel/mm/transparent_hugepage/enabled
anonymous "$ANONYMOUS"
wait_for AnonPages "$ANONYMOUS" 1000000
echo always >/sys/kernel/mm/transparent_hugepage/enabled
anonymous "$TRANSPARENT"
wait_for AnonPages $((ANONYMOUS + TRANSPARENT)) 1000000

if [ "$HUGETLB" -gt 0 ]; then
    echo $((HUGETLB / 2)) >/proc/sys/vm/nr_hugepages
    mount -t hugetlbfs hugetlbfs /huge
    # Half of the pool is used by a file, half stays free in the pool.
    fallocate -l $((HUGETLB * 1048576 / 2)) /huge/file
fi

# Dentries and inodes; every second one goes again, which leaves free objects and scattered free pages.
mkdir /tmp/many
if [ "$FILES" -gt 0 ]; then
    seq "$FILES" | (cd /tmp/many && xargs touch)
    seq 1 2 "$FILES" | (cd /tmp/many && xargs rm -f)
fi

# Poisoned pages, taken out of free memory or migrated away; an address that holds anything else is refused.
if [ -w /sys/devices/system/memory/soft_offline_page ]; then
    for megabyte in 96 160 224 288 352; do
        echo $((megabyte * 1048576)) 2>/dev/null >/sys/devices/system/memory/soft_offline_page
    done
fi

sed 's/^/MEMINFO /' /proc/meminfo
echo "kdumpd lab nonce $NONCE" >/dev/kmsg
if [ "$LIVE" = yes ]; then
    say "live"
    sleep 100000
fi
# What a test does to the machine once its memory is full.
if [ -f /before.sh ]; then
    # shellcheck source=/dev/null
    . /before.sh
fi
kexec -p -s --initrd=/capture.img --command-line="$CAPTURE_COMMAND_LINE" /vmlinuz ||
    kexec -p --initrd=/capture.img --command-line="$CAPTURE_COMMAND_LINE" /vmlinuz ||
    say "FAILED: kexec"
say "crashing $(cut -d' ' -f1 /proc/uptime)"
sync
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
