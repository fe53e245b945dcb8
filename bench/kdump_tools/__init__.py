"""The peer to measure against in a guest: Debian 12 as it comes, with its kdump-tools, in the same virtual machine."""
