"""The papers' figures: ``python -m figures [NAME ...]``.

A figure is one module of this folder, and needs no entry anywhere else; modules whose names start with ``_`` are what
figures share. It has two functions:

- ``data(config, key)`` computes the numbers and returns them as NumPy arrays by name;
- ``draw(arrays)`` returns a matplotlib figure of them, and computes nothing that is not in the arrays.

The arrays are saved beside the figure, so that it can be drawn again without computing them again.
"""
