#!/bin/bash
# kdumpd's capture image. What goes in was decided by kdumpd and lies in $KDUMPD_STAGING, laid out as in the image.

# called by dracut: only on request, and only when kdumpd calls dracut
check() {
    [ -d "$KDUMPD_STAGING" ] || return 1
    return 255
}

# called by dracut: kdumpd names every module the way it boots needs
depends() {
    return 0
}

# called by dracut
install() {
    cp -a "$KDUMPD_STAGING/." "${initdir:?}/"
    # PID 1 is the runner unless systemd brings its own /init.
    if dracut_module_included "systemd"; then
        # shellcheck disable=SC2154
        inst_simple "$moddir/kdumpd-capture.service" "$systemdsystemunitdir/kdumpd-capture.service"
        $SYSTEMCTL -q --root "$initdir" add-wants initrd.target kdumpd-capture.service
        # There where dracut has to put a target's device together.
        if [ -f "$KDUMPD_STAGING/etc/kdumpd/initqueue-finished.sh" ]; then
            inst_hook initqueue/finished 50 "$KDUMPD_STAGING/etc/kdumpd/initqueue-finished.sh"
        fi
    else
        ln -s usr/lib/kdumpd/capture "$initdir/init"
    fi
}
