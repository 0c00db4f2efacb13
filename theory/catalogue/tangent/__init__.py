"""The ``tangent/`` family: masks of networks sketch the neural tangent kernel (bar2023sketching, jacot2018ntk).

The loss is the sum ½‖f − y‖². J is the Jacobian of the N = samples * outputs predictions, and J_i are its columns over
the prunable weights. A mask m turns the kernel Θ = JJᵀ into Θ̂ = J diag(m) Jᵀ.
"""

from theory.catalogue.effects import (  # fmt: skip
    EFFICIENCY_PREDICTOR_SAMPLED,
    EFFICIENCY_PREDICTOR_TOP,
    LEAST_BOUND_SNIP,
    LEAST_BOUND_SYNFLOW,
)
from theory.catalogue.tangent.efficiency import SCORE_EFFICIENCY
from theory.catalogue.tangent.rates import FINITE_WIDTH, FINITE_WIDTH_RELU, INFINITE_WIDTH, RANDOM_PRUNING_LIMIT
from theory.catalogue.tangent.sketches import POISSON, SKETCH_MOMENT
from theory.catalogue.tangent.speed import FIXED_RESIDUAL, PRUNING_SLOWS
from theory.catalogue.tangent.tails import LEVERAGE_SPECTRAL, SKETCH_SPECTRAL
from theory.catalogue.tangent.trained_means import TRAINING_ERROR_RIDGE, TRAINING_ERROR_RIDGE_NETWORK
from theory.catalogue.tangent.training import CLOSED_FORM, PRUNED_SPECTRUM, TRAJECTORY

TANGENT = (
    SKETCH_MOMENT, POISSON, SKETCH_SPECTRAL, LEVERAGE_SPECTRAL, CLOSED_FORM, TRAJECTORY, PRUNED_SPECTRUM, PRUNING_SLOWS,
    FIXED_RESIDUAL, TRAINING_ERROR_RIDGE, TRAINING_ERROR_RIDGE_NETWORK, SCORE_EFFICIENCY, EFFICIENCY_PREDICTOR_SAMPLED,
    EFFICIENCY_PREDICTOR_TOP, LEAST_BOUND_SNIP, LEAST_BOUND_SYNFLOW, FINITE_WIDTH, FINITE_WIDTH_RELU, INFINITE_WIDTH,
    RANDOM_PRUNING_LIMIT,
)  # fmt: skip
