"""The path kernel of bias-free ReLU networks: norms, trace, spectrum, and all paths of small networks.

**Definitions.** A path p runs from an input to an output. Its value v_p is the product of its weights, and of fixed
coefficients such as those of an average pooling; u_p is the input that it starts from. The path norm at power q is
R_q(θ; u) = Σ_p |v_p|^q u_p. One forward pass gives it: of the network without activations, with weights and
coefficients raised to the power q, at the input u.

The path kernel is Π = J Jᵀ with J[p, i] = ∂v_p/∂θ_i √u_p, over the kept weights i. The Gram matrix G = Jᵀ J has the
same non-zero eigenvalues.

**Inputs and masks.** u is one sample without negative entries; by default it is an input of ones. R_q is linear in u,
so for a sum over samples give the sum of their u. A mask is applied to the parameters, so that weights are masked
weights, and it keeps the columns where it is not zero.

**Networks.** Any ``apply(params, x)`` made of products, sums, ReLU (or none), average pooling and reshaping. Skip
connections are sums and count as paths. Batch normalisation by means that are known to be zero, without a shift, is a
scale: its factors are weights and coefficients.

**Max pooling and biases** have no path kernel and are refused. With ``allow_max_and_bias=True`` they are treated as in
the code of gebhart2021paths, which differentiates the network of powers itself:

- A bias or shift b is the weight of an edge from an input that is always one, whatever u is. Its paths count, and so
  does its column of J.
- A maximum passes on its largest entry in the network of powers at u, and cuts off the others. Results are those of the
  network that is left. At a tie, derivatives are those that JAX gives the maximum.

**What raises ValueError.** Max pooling, biases and shifts, unless they are allowed; other batch normalisation, other
activations, and a ReLU of weights. Trace, Gram products and spectrum need each weight at most once on a path, so they
refuse layers that share a parameter array. Layers that read one array by slicing or indexing are let through; that they
read different entries is not checked.

**Precision.** Numbers have the dtype of the parameters, and carry a power of two for each layer and each array of
weights. Results are exact to rounding whatever the depth, the density and the scale of the weights; use ``log`` for a
result that is itself not representable. Weights on no path over kept weights have no effect, however heavy they are.
There are two limits:

- Relative to the heaviest, what is below about 1e-38 (in float32) after raising to the power q counts as zero. This
  holds for the weights of an array, and for the units of a layer, by the sum of their paths from the inputs, even where
  later weights would make up for it.
- Without a mask the result is inf or NaN where a weight of zero cuts off a branch that is heavier than all others by
  such a factor.
"""

from sketchprune._names import own_names
from sketchprune.paths.enumeration import Edges as Edges
from sketchprune.paths.enumeration import Paths as Paths
from sketchprune.paths.enumeration import average_pooling as average_pooling
from sketchprune.paths.enumeration import convolution as convolution
from sketchprune.paths.enumeration import enumerate_paths as enumerate_paths
from sketchprune.paths.kernel import gram_product as gram_product
from sketchprune.paths.kernel import path_norm as path_norm
from sketchprune.paths.kernel import spectrum as spectrum
from sketchprune.paths.kernel import trace as trace

__dir__ = own_names(__name__)
