"""The resident service: waits for events, has children do the work, and tells systemd what came of it."""
