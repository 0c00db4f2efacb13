"""How far a network's outputs move when its weights do, and the activations that the bound needs.

Networks here have no biases and are given by their kernels, [inputs, units].
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from sketchprune._arithmetic import product
from sketchprune._boundary import checked
from sketchprune.lottery import _inputs
from sketchprune.lottery.networks import Kernel


@checked
def perturbation_bound(
    target: Sequence[Kernel],
    weight_errors: Float[Array | np.ndarray, "_"],
    activations: Float[Array | np.ndarray, "_"],
) -> Float[Array, "_"]:
    """How far a network's outputs can move, layer by layer, when each weight of layer l moves by at most ε_l.

    e_l = ‖W_l‖e_{l−1} + ε_l n_{l−1}(B_{l−1} + e_{l−1}), e_0 = 0, with n_{l−1} inputs and ‖W_l‖ the largest sum of
    |weights| of a unit. For any activation with φ(0) = 0 and Lipschitz constant 1; attained by equal positive weights,
    errors and inputs.

    Args:
        target: L kernels [inputs, units].
        weight_errors: [L], ε_l.
        activations: [L], B_0, …, B_{L−1}: upper bounds of |x| and of the hidden activations before the change.

    Returns:
        [L], e_1, …, e_L.

    Raises:
        ValueError: kernels that do not fit together, another number of errors or activations than L, or one of them
            that is not a finite number >= 0.

    Cost: O(weights).

    Source: lottery/perturbation.

    >>> kernels = [jnp.full((2, 2), 0.5), jnp.full((2, 1), 0.5)]
    >>> perturbation_bound(kernels, jnp.array([0.25, 0.25]), jnp.array([1.0, 1.0])).tolist()
    [0.5, 1.25]
    """
    _inputs.chain("target", [jnp.shape(kernel) for kernel in target])
    for name, given in {"weight_errors": weight_errors, "activations": activations}.items():
        if jnp.shape(given) != (len(target),):
            raise ValueError(f"{name} has shape {jnp.shape(given)}; it takes {(len(target),)}, one for each layer")
        _inputs.at_least_zero(name, given)
    error = jnp.zeros((), jnp.result_type(*target))
    errors = []
    for kernel, moved, size in zip(map(jnp.asarray, target), weight_errors, jnp.asarray(activations), strict=True):
        error = _norm(kernel) * error + moved * len(kernel) * (size + error)
        errors.append(error)
    return jnp.stack(errors)


@checked
def activation_bounds(target: Sequence[Kernel], radius: Float[ArrayLike, ""]) -> Float[Array, "_"]:
    """Upper bounds of a network's activations over all inputs in a cube: B_0 = radius, B_l = ‖W_l‖B_{l−1}.

    Args:
        target: L kernels [inputs, units], ReLU between the layers.
        radius: the largest |x_j| of an input, >= 0.

    Returns:
        [L], B_0, …, B_{L−1}.

    Raises:
        ValueError: kernels that do not fit together, or a radius below 0.

    Cost: O(weights).

    Source: lottery/perturbation.

    >>> activation_bounds([jnp.ones((2, 3)), jnp.ones((3, 1))], 1.5).tolist()
    [1.5, 3.0]
    """
    _inputs.chain("target", [jnp.shape(kernel) for kernel in target])
    _inputs.at_least_zero("radius", radius)
    bounds = [jnp.asarray(radius, jnp.result_type(*target))]
    for kernel in target[:-1]:
        bounds.append(_norm(jnp.asarray(kernel)) * bounds[-1])
    return jnp.stack(bounds)


@checked
def largest_activations(target: Sequence[Kernel], x: Float[Array | np.ndarray, "n inputs"]) -> Float[Array, "_"]:
    """The largest |x| and the largest hidden activations of a network over the given samples.

    Args:
        target: L kernels [inputs, units], ReLU between the layers.
        x: [n, inputs], at least one sample.

    Returns:
        [L], B_0, …, B_{L−1}.

    Raises:
        ValueError: kernels that do not fit together or with the inputs, or no samples.

    Cost: O(n · weights).

    Source: lottery/perturbation.

    >>> largest_activations([jnp.ones((2, 3)), jnp.ones((3, 1))], jnp.array([[1.0, -3.0], [0.5, 0.5]])).tolist()
    [3.0, 1.0]
    """
    _inputs.chain("target", [jnp.shape(kernel) for kernel in target])
    inputs = len(target[0])
    if x.shape[1] != inputs or not len(x):
        raise ValueError(f"x has shape {x.shape}; it takes [n, {inputs}], n >= 1")
    hidden = jnp.asarray(x)
    largest = [jnp.max(jnp.abs(hidden))]
    for kernel in map(jnp.asarray, target[:-1]):
        hidden = jax.nn.relu(product(hidden, kernel))
        largest.append(jnp.max(hidden))
    return jnp.stack(largest)


def _norm(kernel: Float[Array, "inputs units"]) -> Float[Array, ""]:
    """The largest sum of |weights| of a unit."""
    return jnp.max(jnp.sum(jnp.abs(kernel), axis=0))
