"""Pruning at initialisation: a score, a sampler, and how many weights to keep."""

from sketchprune.prune.counts import count as count
from sketchprune.prune.counts import exponential as exponential
from sketchprune.prune.counts import layer_counts as layer_counts
from sketchprune.prune.counts import linear as linear
from sketchprune.prune.counts import one_at_a_time as one_at_a_time
from sketchprune.prune.counts import size as size
from sketchprune.prune.procedures import fixed_size as fixed_size
from sketchprune.prune.procedures import iterative as iterative
from sketchprune.prune.procedures import multinomial as multinomial
from sketchprune.prune.procedures import one_shot as one_shot
from sketchprune.prune.procedures import poisson as poisson
from sketchprune.prune.procedures import select as select
from sketchprune.prune.procedures import top as top
