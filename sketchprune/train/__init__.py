"""Training of the kept weights: one model, many at once, or to convergence."""

from sketchprune.train.ensemble import Evaluation as Evaluation
from sketchprune.train.ensemble import Fits as Fits
from sketchprune.train.ensemble import fit_many as fit_many
from sketchprune.train.loops import Fit as Fit
from sketchprune.train.loops import Progress as Progress
from sketchprune.train.loops import converge as converge
from sketchprune.train.loops import fit as fit
from sketchprune.train.losses import cross_entropy as cross_entropy
