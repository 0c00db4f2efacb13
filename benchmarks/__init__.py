"""How fast, in how much memory, and beside which peers: ``python -m benchmarks [NAME ...]``.

A benchmark is one module of this folder with a function ``main()`` that measures and prints; it needs no entry
anywhere else. What several benchmarks share is in :mod:`benchmarks.roofline` and in modules that start with ``_``.
"""
