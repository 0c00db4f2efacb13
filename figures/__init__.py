"""The papers' figures, each from the data that made it: ``python -m figures [NAME ...]``.

A figure is a module of this folder whose name starts with a letter: ``data(config, key)`` returns its numbers, as
NumPy arrays by name, and ``draw(arrays)`` a matplotlib figure of them.
"""
