"""Pruning at initialisation: a score, a sampler, and how many weights to keep."""

from sketchprune._names import own_names
from sketchprune.laws.counts import count as count
from sketchprune.laws.counts import layer_counts as layer_counts
from sketchprune.laws.counts import size as size
from sketchprune.prune.dead_units import Compact as Compact
from sketchprune.prune.dead_units import remove_dead_units as remove_dead_units
from sketchprune.prune.least_bound import least_bound as least_bound
from sketchprune.prune.order import order_of_use as order_of_use
from sketchprune.prune.procedures import iterative as iterative
from sketchprune.prune.procedures import one_shot as one_shot
from sketchprune.prune.procedures import select as select
from sketchprune.prune.samplers import Proportional as Proportional
from sketchprune.prune.samplers import proportional as proportional
from sketchprune.prune.samplers import top as top
from sketchprune.prune.schedules import cubic_schedule as cubic_schedule
from sketchprune.prune.schedules import exponential_schedule as exponential_schedule
from sketchprune.prune.schedules import linear_schedule as linear_schedule
from sketchprune.prune.schedules import one_at_a_time_schedule as one_at_a_time_schedule
from sketchprune.prune.within import select_within as select_within

__dir__ = own_names(__name__)
