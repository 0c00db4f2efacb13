"""Random masks and lottery tickets: which networks a random sparse network contains, exactly and approximately.

One layout everywhere, flax's: a dense kernel and its mask are [inputs, units], those of a convolution
[rows, columns, inputs, units], so a unit is the last axis and an input the one before. A network is a sequence of
:class:`Dense` layers with ReLU between them, and runs with :func:`apply`.
"""

from sketchprune._names import own_names
from sketchprune.lottery.connectivity import connected_inputs as connected_inputs
from sketchprune.lottery.connectivity import connected_units as connected_units
from sketchprune.lottery.connectivity import connection_probability as connection_probability
from sketchprune.lottery.connectivity import containment_probability as containment_probability
from sketchprune.lottery.connectivity import live_units as live_units
from sketchprune.lottery.connectivity import necessary_width as necessary_width
from sketchprune.lottery.connectivity import remove_dead_edges as remove_dead_edges
from sketchprune.lottery.connectivity import sufficient_copies as sufficient_copies
from sketchprune.lottery.connectivity import sufficient_density as sufficient_density
from sketchprune.lottery.coverage import GapStatistics as GapStatistics
from sketchprune.lottery.coverage import covering_radii as covering_radii
from sketchprune.lottery.coverage import covers as covers
from sketchprune.lottery.coverage import gap_statistics as gap_statistics
from sketchprune.lottery.coverage import hitting_numbers as hitting_numbers
from sketchprune.lottery.coverage import thinned_items as thinned_items
from sketchprune.lottery.coverage import thinned_probability as thinned_probability
from sketchprune.lottery.embedding import Embedding as Embedding
from sketchprune.lottery.embedding import embed as embed
from sketchprune.lottery.embedding import source_widths as source_widths
from sketchprune.lottery.flow_preservation import expected_added_edges as expected_added_edges
from sketchprune.lottery.flow_preservation import repair as repair
from sketchprune.lottery.initial import he_normal as he_normal
from sketchprune.lottery.networks import Dense as Dense
from sketchprune.lottery.networks import apply as apply
from sketchprune.lottery.networks import fold_biases as fold_biases
from sketchprune.lottery.networks import from_flax as from_flax
from sketchprune.lottery.perturbation import activation_bounds as activation_bounds
from sketchprune.lottery.perturbation import largest_activations as largest_activations
from sketchprune.lottery.perturbation import perturbation_bound as perturbation_bound
from sketchprune.lottery.strong_tickets import StrongTicket as StrongTicket
from sketchprune.lottery.strong_tickets import random_source as random_source
from sketchprune.lottery.strong_tickets import strong_ticket as strong_ticket
from sketchprune.lottery.subset_sums import MAX_ITEMS as MAX_ITEMS
from sketchprune.lottery.subset_sums import NearestSubset as NearestSubset
from sketchprune.lottery.subset_sums import nearest_subset as nearest_subset

__dir__ = own_names(__name__)
