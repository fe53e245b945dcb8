"""Targets proved before the crash: each is found, written to, read back, looked at for room, and put on record."""
