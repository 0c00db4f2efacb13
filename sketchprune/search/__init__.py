"""Search for good masks: random ones by the million, and the best subsets of small linear models.

:func:`best` evaluates random masks of a law in :mod:`sketchprune.laws`; :mod:`~sketchprune.search.subsets` searches
without chance. A search can run on all devices of several processes: see :mod:`~sketchprune.search.mesh`.
"""

from sketchprune._names import own_names
from sketchprune.search import mesh as mesh
from sketchprune.search import subsets as subsets
from sketchprune.search.objectives import Objective as Objective
from sketchprune.search.objectives import initial_loss as initial_loss
from sketchprune.search.objectives import linear_error as linear_error
from sketchprune.search.objectives import ntk_error as ntk_error
from sketchprune.search.objectives import trained_loss as trained_loss
from sketchprune.search.objectives import training_error as training_error
from sketchprune.search.random_search import Progress as Progress
from sketchprune.search.random_search import SearchResult as SearchResult
from sketchprune.search.random_search import best as best
from sketchprune.search.random_search import mask_key as mask_key

__dir__ = own_names(__name__)
