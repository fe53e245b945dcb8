#!/bin/sh
# Sourced in the host's own initramfs as soon as it runs: the crash kernel that it carries is loaded, and the record of
# it is left for kdumpd-early.service. One line says what happened; nothing here stops the boot. Of programs an initramfs
# is sure to have cat and mkdir (klibc's), not even cp.

# In a shell of its own: the one that sources this keeps its variables.
kdumpd_early() (
    # The record names physical addresses, and /run/kdumpd is for everybody later.
    umask 077
    here=/usr/lib/kdumpd/early
    [ -e "$here/capture.img" ] || return 0
    kernel=/sys/kernel/kexec_crash_
    [ -e "${kernel}size" ] || kernel=/sys/kernel/kexec/crash_
    [ -e "${kernel}size" ] || return 0
    [ "$(cat "${kernel}loaded")" = 0 ] || return 0
    if [ "$(cat "${kernel}size")" -lt "$(cat "$here/reservation")" ]; then
        echo "<4>kdumpd: less memory is reserved than when this image was loaded; left to kdumpd.service" >/dev/kmsg
        return 0
    fi
    for call in -s -c; do
        if said=$(/usr/sbin/kexec -p "$call" --initrd="$here/capture.img" \
            --command-line="$(cat "$here/command-line")" "$here/vmlinuz" 2>&1); then
            mkdir -p /run/kdumpd
            cat "$here/load.json" >/run/kdumpd/early.json
            echo "<6>kdumpd: the crash kernel is loaded, from the initramfs" >/dev/kmsg
            return 0
        fi
    done
    echo "<4>kdumpd: the crash kernel could not be loaded: ${said##*
}; left to kdumpd.service" >/dev/kmsg
)

kdumpd_early
