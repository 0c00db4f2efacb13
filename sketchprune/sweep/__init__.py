"""Sweeps: many pruned networks, trained and tested, as one table of runs.

:func:`run` prunes a network in every way and at every density that it is given, trains what is left, and tests it on
held-out data. :func:`append` and :func:`read` keep its rows in a CSV file, :func:`summarise` takes their means over
seeds, and :func:`draw_accuracy` draws them.
"""

from sketchprune._names import own_names
from sketchprune.sweep.engine import run as run
from sketchprune.sweep.engine import runs as runs
from sketchprune.sweep.methods import DENSE as DENSE
from sketchprune.sweep.methods import SAMPLERS as SAMPLERS
from sketchprune.sweep.methods import Method as Method
from sketchprune.sweep.methods import scored as scored
from sketchprune.sweep.picture import Look as Look
from sketchprune.sweep.picture import draw_accuracy as draw_accuracy
from sketchprune.sweep.picture import looks as looks
from sketchprune.sweep.picture import picture as picture
from sketchprune.sweep.problem import NETWORKS as NETWORKS
from sketchprune.sweep.problem import Problem as Problem
from sketchprune.sweep.problem import Training as Training
from sketchprune.sweep.problem import problem as problem
from sketchprune.sweep.rows import Row as Row
from sketchprune.sweep.rows import Run as Run
from sketchprune.sweep.rows import append as append
from sketchprune.sweep.rows import read as read
from sketchprune.sweep.summary import Summary as Summary
from sketchprune.sweep.summary import summarise as summarise

__dir__ = own_names(__name__)
