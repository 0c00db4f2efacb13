"""Named problems: what ``sketchprune search`` searches, and what theory says of it.

A :class:`Setting` names a model on data, a law of masks and an objective; :func:`problem` makes them.
"""

from sketchprune._names import own_names
from sketchprune.search.problems.build import problem as problem
from sketchprune.search.problems.build import rounding_error as rounding_error
from sketchprune.search.problems.setting import DELTA as DELTA
from sketchprune.search.problems.setting import OBJECTIVES as OBJECTIVES
from sketchprune.search.problems.setting import PROBABILITIES as PROBABILITIES
from sketchprune.search.problems.setting import DirectMask as DirectMask
from sketchprune.search.problems.setting import Problem as Problem
from sketchprune.search.problems.setting import Setting as Setting
from sketchprune.search.problems.setting import completed as completed
from sketchprune.search.problems.setting import law_names as law_names

__dir__ = own_names(__name__)
