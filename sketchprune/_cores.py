"""How many cores there are to work on."""

import os

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may use: under Slurm, for example, those of its task and not those of the node."""
