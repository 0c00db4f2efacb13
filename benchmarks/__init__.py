"""How fast, in how much memory, and next to what: ``python -m benchmarks [NAME ...]``."""
