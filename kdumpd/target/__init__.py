"""Where dumps go: local file systems."""
