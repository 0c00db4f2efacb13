"""Masks: what may be pruned, what a mask does to parameters, exact selection by score, groups of weights.

A mask is a pytree of arrays shaped like the parameters, boolean where it selects and floating where it is a
sketch; a bare vector is a pytree. Random masks come from :mod:`sketchprune.laws`.
"""

from sketchprune._names import own_names
from sketchprune.masks.groups import group_scores as group_scores
from sketchprune.masks.groups import spread as spread
from sketchprune.masks.parameters import apply as apply
from sketchprune.masks.parameters import prunable as prunable
from sketchprune.masks.selection import keep_top as keep_top
from sketchprune.masks.summaries import Summary as Summary
from sketchprune.masks.summaries import summary as summary

__dir__ = own_names(__name__)
