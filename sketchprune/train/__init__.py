"""Training of the kept weights: one model, many at once, or to convergence."""

from sketchprune.train.many import Evaluation as Evaluation
from sketchprune.train.many import Fits as Fits
from sketchprune.train.many import fit_many as fit_many
from sketchprune.train.single import converge as converge
from sketchprune.train.single import cross_entropy as cross_entropy
from sketchprune.train.single import fit as fit
