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
        # Where systemd would open a shell the runner runs. Where dracut would, and then end the machine, it goes on.
        inst_simple "$moddir/emergency.target" /etc/systemd/system/emergency.target
        ln -sf emergency.target "$initdir/etc/systemd/system/rescue.target"
        # A hasty hand at the keyboard does not end the capture.
        ln -sf /dev/null "$initdir/etc/systemd/system/ctrl-alt-del.target"
        inst_hook emergency 00 "$moddir/go-on.sh"
        inst_hook shutdown-emergency 00 "$moddir/go-on.sh"
        # There where dracut has to put a target's device together.
        if [ -f "$KDUMPD_STAGING/etc/kdumpd/initqueue-finished.sh" ]; then
            inst_hook initqueue/finished 50 "$KDUMPD_STAGING/etc/kdumpd/initqueue-finished.sh"
        fi
    else
        ln -s usr/lib/kdumpd/capture "$initdir/init"
    fi
}
