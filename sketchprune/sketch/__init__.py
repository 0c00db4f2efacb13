"""Masks as sketches of a sum of vectors: the items, probabilities to sample them by, and bounds.

The exact expected errors of laws are methods of :mod:`sketchprune.laws`. Every function takes the dtype of its inputs
and works under jit and vmap.
"""

from sketchprune._names import own_names
from sketchprune.sketch.bounds import dkm_tail as dkm_tail
from sketchprune.sketch.bounds import frobenius_bound as frobenius_bound
from sketchprune.sketch.bounds import mcdiarmid_tail as mcdiarmid_tail
from sketchprune.sketch.bounds import near_optimal_bound as near_optimal_bound
from sketchprune.sketch.items import group_items as group_items
from sketchprune.sketch.items import linear_items as linear_items
from sketchprune.sketch.items import tangent_items as tangent_items
from sketchprune.sketch.probabilities import chi_square as chi_square
from sketchprune.sketch.probabilities import data_free_probabilities as data_free_probabilities
from sketchprune.sketch.probabilities import efficiency as efficiency
from sketchprune.sketch.probabilities import excess as excess
from sketchprune.sketch.probabilities import magnitudes as magnitudes
from sketchprune.sketch.probabilities import near_optimality as near_optimality
from sketchprune.sketch.probabilities import optimal_probabilities as optimal_probabilities
from sketchprune.sketch.probabilities import uniform_probabilities as uniform_probabilities

__dir__ = own_names(__name__)
