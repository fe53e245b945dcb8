"""Measurements behind docs/performance.md: one module a claim, run by `make bench` or `python -m bench CLAIM`."""
