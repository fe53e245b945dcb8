"""kdumpd: one YAML policy from a kernel crash to a verified dump."""

__version__ = "0.1.0"
