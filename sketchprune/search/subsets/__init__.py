"""The best mask of a linear model that keeps at most s weights, searched without random masks.

The error of a mask is ‖X(m∘w) − Xw‖² = (m − 1)ᵀG(m − 1), where G is the Gram matrix of the columns w_i x_i.

- ``greedy``, ``local_search`` and ``orthogonal_matching_pursuit`` are heuristics in JAX, for use under jit and vmap.
- ``optimum`` finds the best mask on the host, with a proof or a proven gap.
- ``relaxed`` is for a model that is trained after pruning: its error is min_u ‖Xu − y‖² over weights u on what the mask
  keeps.
"""

from sketchprune._names import own_names
from sketchprune.search.subsets.exact import Optimum as Optimum
from sketchprune.search.subsets.exact import optimum as optimum
from sketchprune.search.subsets.greedy import greedy as greedy
from sketchprune.search.subsets.local import local_search as local_search
from sketchprune.search.subsets.pursuit import orthogonal_matching_pursuit as orthogonal_matching_pursuit
from sketchprune.search.subsets.relaxed import RelaxedMask as RelaxedMask
from sketchprune.search.subsets.relaxed import relaxed as relaxed

__dir__ = own_names(__name__)
