"""The crash kernel: its command line and kexec."""
