"""Training of pruned networks: one, many at once, or to convergence; and training that finds the mask.

:func:`edge_popup`, :func:`iterative_magnitude`, :func:`gradual_magnitude`, :func:`rigl` and :func:`sparse_evolutionary`
find a mask inside a given source mask. They are one program each, with the signature of :func:`fit`, and work under jit
and under vmap over keys, masks, parameters and counts. In a loop of one's own, :func:`pruned` keeps an optimiser from
reviving what a mask has pruned.
"""

from sketchprune._names import own_names
from sketchprune.train.dynamic import rigl as rigl
from sketchprune.train.dynamic import sparse_evolutionary as sparse_evolutionary
from sketchprune.train.ensemble import Evaluation as Evaluation
from sketchprune.train.ensemble import Fits as Fits
from sketchprune.train.ensemble import fit_many as fit_many
from sketchprune.train.loops import Fit as Fit
from sketchprune.train.loops import Progress as Progress
from sketchprune.train.loops import converge as converge
from sketchprune.train.loops import fit as fit
from sketchprune.train.losses import cross_entropy as cross_entropy
from sketchprune.train.magnitude import gradual_magnitude as gradual_magnitude
from sketchprune.train.magnitude import iterative_magnitude as iterative_magnitude
from sketchprune.train.pruned_optimizer import PrunedState as PrunedState
from sketchprune.train.pruned_optimizer import pruned as pruned
from sketchprune.train.pruned_optimizer import replace_mask as replace_mask
from sketchprune.train.straight_through import edge_popup as edge_popup
from sketchprune.train.tickets import Ticket as Ticket

__dir__ = own_names(__name__)
