"""Neural tangent kernels: empirical and masked, of linearised training, and at infinite width."""

from sketchprune._names import own_names
from sketchprune.kernels import infinite as infinite
from sketchprune.kernels import linearised as linearised
from sketchprune.kernels import structure as structure
from sketchprune.kernels.columns import column_norms as column_norms
from sketchprune.kernels.columns import ntk_items as ntk_items
from sketchprune.kernels.columns import trace as trace
from sketchprune.kernels.empirical import frobenius_norm as frobenius_norm
from sketchprune.kernels.empirical import ntk as ntk
from sketchprune.kernels.empirical import ntk_reference as ntk_reference
from sketchprune.kernels.on_host import ntk_on_host as ntk_on_host
from sketchprune.kernels.products import extreme_eigenvalues as extreme_eigenvalues
from sketchprune.kernels.products import ntk_vector_product as ntk_vector_product

__dir__ = own_names(__name__)
