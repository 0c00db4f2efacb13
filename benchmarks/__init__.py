"""How fast, in how much memory, and beside which peers: ``python -m benchmarks [NAME ...]``.

A benchmark is one module of this folder with a function ``rows()``, which measures and yields rows
(:class:`benchmarks._record.Row`) one by one; it needs no entry anywhere else. A run of it is printed as a table and
appended to ``results/NAME.jsonl``, and ``python -m benchmarks compare`` shows the history of each number. Benchmarks
that take hours and go on from run to run have a function ``main()`` instead, and keep what they find by themselves.

Modules that start with ``_`` are what benchmarks share: records and tables, timing, the rates of the machine, peers.
"""
