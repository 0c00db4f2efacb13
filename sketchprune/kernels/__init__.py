"""Neural tangent kernels: empirical and masked, of linearised training, and at infinite width."""

from sketchprune.kernels import infinite as infinite
from sketchprune.kernels import linearised as linearised
from sketchprune.kernels import sensitivities as sensitivities
from sketchprune.kernels import structure as structure
from sketchprune.kernels.empirical import column_norms as column_norms
from sketchprune.kernels.empirical import extreme_eigenvalues as extreme_eigenvalues
from sketchprune.kernels.empirical import frobenius_norm as frobenius_norm
from sketchprune.kernels.empirical import ntk as ntk
from sketchprune.kernels.empirical import ntk_vector_product as ntk_vector_product
from sketchprune.kernels.empirical import reference as reference
from sketchprune.kernels.empirical import trace as trace
