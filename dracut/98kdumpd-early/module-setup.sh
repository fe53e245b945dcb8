#!/bin/bash
# The host's own initramfs carries the crash kernel where kdumpd asks for it: it has made the folder `early` beside the
# image then, which says what to carry. Not part of a capture image.

# called by dracut
check() {
    # shellcheck disable=SC2154
    [ -d "${dracutsysrootdir-}/var/lib/kdumpd/$kernel/early" ] || return 255
    require_binaries kexec || return 1
}

# called by dracut
depends() {
    return 0
}

# called by dracut
install() {
    local folder="/var/lib/kdumpd/$kernel/early" there=/usr/lib/kdumpd/early name
    inst_multiple kexec cat mkdir
    for name in command-line reservation load.json; do
        inst_simple "$folder/$name" "$there/$name"
    done
    inst_simple "${folder%/early}/capture.img" "$there/capture.img"
    inst_simple "$(<"${dracutsysrootdir-}$folder/vmlinuz")" "$there/vmlinuz"
    # shellcheck disable=SC2154
    inst_simple "$moddir/load.sh" "$there/load.sh"
    # The first hook of all, before udev loads any driver.
    inst_hook cmdline 00 "$moddir/load.sh"
}
