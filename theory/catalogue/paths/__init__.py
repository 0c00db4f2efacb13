"""The ``paths/`` family: networks as sums over paths, their kernel, and pruning scores (gebhart2021paths).

Bias-free networks f_k(x) = Σ_p v_p a_p(x) x_p over the paths p to k: v_p the product of the path's weights, a_p
whether its hidden units are on, x_p the input it starts from. J_v^f = ∂f/∂v, J_θ^v = ∂v/∂θ over the kept weights, Π =
J_θ^v (J_θ^v)ᵀ, and R_q = Σ_p |v_p|^q u_p for an input u ≥ 0.
"""

from theory.catalogue.effects import CONVERGENCE_PREDICTOR
from theory.catalogue.paths.kernel import (  # fmt: skip
    GRAM,
    ISOTROPIC_TRACE,
    LAMBDA_MAX_SANDWICH,
    NTK_DECOMPOSITION,
    RANK,
    TRACE,
    TRACE_DROP,
)
from theory.catalogue.paths.scores import (
    CONSERVATION,
    CONSERVATION_VARIANTS,
    CRITICAL_COMPRESSION,
    SALIENCY_BALANCE,
    SCORE_FORMS,
)  # fmt: skip
from theory.catalogue.paths.signs import SIGN_AVERAGE
from theory.catalogue.paths.spectra import EIGEN_BOUNDS, EIGEN_ELEMENTWISE, TRACE_BOUNDS_NTK

PATHS = (
    NTK_DECOMPOSITION, TRACE, GRAM, LAMBDA_MAX_SANDWICH, RANK, EIGEN_BOUNDS, EIGEN_ELEMENTWISE, CONSERVATION,
    SALIENCY_BALANCE, CONSERVATION_VARIANTS, TRACE_DROP, SIGN_AVERAGE, SCORE_FORMS, CRITICAL_COMPRESSION,
    TRACE_BOUNDS_NTK, ISOTROPIC_TRACE, CONVERGENCE_PREDICTOR,
)  # fmt: skip
