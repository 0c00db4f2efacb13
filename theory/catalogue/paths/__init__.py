"""The ``paths/`` family: networks as sums over paths, their path kernel, and pruning scores (gebhart2021paths).

A bias-free network is f_k(x) = Σ_p v_p a_p(x) x_p over the paths p that end in output k. Here v_p is the product of the
path's weights, a_p says whether all of its hidden units are active, and x_p is the input that it starts from.

The path features are J_v^f = ∂f/∂v, and J_θ^v = ∂v/∂θ is taken over the kept weights. The path kernel is
Π = J_θ^v (J_θ^v)ᵀ, and the path norms are R_q = Σ_p |v_p|^q u_p for an input u ≥ 0.
"""

from theory.catalogue.effects import PREDICTS_EARLY_TRAINING, PREDICTS_TEST_ERROR, TRACE_MOVES
from theory.catalogue.paths.error import PRUNING_ERROR
from theory.catalogue.paths.kernel import GRAM, LAMBDA_MAX_SANDWICH, RANK, TRACE, TRACE_DROP
from theory.catalogue.paths.scores import (
    CONSERVATION,
    CONSERVATION_VARIANTS,
    CRITICAL_COMPRESSION,
    SALIENCY_BALANCE,
    SCORE_FORMS,
)
from theory.catalogue.paths.signs import SIGN_AVERAGE
from theory.catalogue.paths.spectra import EIGEN_BOUNDS, EIGEN_ELEMENTWISE, TRACE_BOUNDS_NTK
from theory.catalogue.paths.tangent import ISOTROPIC_TRACE, NTK_DECOMPOSITION

PATHS = (
    NTK_DECOMPOSITION, TRACE, GRAM, LAMBDA_MAX_SANDWICH, RANK, EIGEN_BOUNDS, EIGEN_ELEMENTWISE, CONSERVATION,
    SALIENCY_BALANCE, CONSERVATION_VARIANTS, TRACE_DROP, SIGN_AVERAGE, SCORE_FORMS, CRITICAL_COMPRESSION,
    TRACE_BOUNDS_NTK, PRUNING_ERROR, ISOTROPIC_TRACE, PREDICTS_EARLY_TRAINING, PREDICTS_TEST_ERROR,
    TRACE_MOVES,
)  # fmt: skip
