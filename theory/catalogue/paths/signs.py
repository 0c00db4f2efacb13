"""paths/: the path-trace is the tangent kernel's trace, averaged over the signs of the weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import paths
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import CONVOLUTIONAL, MLPS, Net, Rng, complete, gaussian, pixels
from theory.catalogue.paths.kernel import GEBHART
from theory.claim import Case, Claim, Sides
from theory.kinds import Expectation

FREE = 10
"""Kept weights of the cases whose signs are all enumerated."""


def _draw(net: Net, key: Key) -> Float[Array, " P"]:
    return jax.random.rademacher(key, net.theta.shape, net.theta.dtype)


def _all_signs(net: Net) -> tuple[Float[Array, "outcomes P"], Float[Array, " outcomes"]]:
    signs = 1 - 2 * np.stack(np.meshgrid(*[[0, 1]] * FREE, indexing="ij"), axis=-1).reshape(-1, FREE)
    outcomes = jnp.ones((len(signs), net.theta.size), net.theta.dtype).at[:, net.free].set(signs.astype(np.float32))
    return outcomes, jnp.full(len(signs), 1 / len(signs), net.theta.dtype)


def _shared(net: Net) -> Net:
    """A convolution with the instance's first weights, then the mean over positions."""
    kept = jnp.asarray(sum(np.isin(np.arange(net.theta.size), index) for index in CONVOLUTIONAL.indices) > 0)
    return net.replace(
        indices=tuple(map(jnp.asarray, CONVOLUTIONAL.indices)),
        coefficients=tuple(jnp.asarray(c, net.theta.dtype) for c in CONVOLUTIONAL.coefficients),
        kept=kept.astype(net.theta.dtype),
    )


def _sign_average(net: Net, signs: Float[Array, " P"]) -> dict[str, Sides]:
    x = net.x[0]

    def measured(net: Net) -> Array:
        """Tr Θ(x, x) and ‖f(x)‖² at one choice of signs."""

        def outputs(theta: Array) -> Array:
            return net.apply_as_is(theta, x[None])[0]

        theta = signs * abs(net.pruned)
        jacobian = jax.jacrev(outputs)(theta) * net.kept
        return jnp.stack([jnp.sum(jacobian**2), jnp.sum(outputs(theta) ** 2)])

    def theory(net: Net, u: Array, hidden: int) -> Array:
        shape, options = x.shape, {"u": u, "mask": net.kept}
        factor = jnp.where(net.linear, 1, 2.0**-hidden)
        trace = paths.trace(net.apply, net.theta, shape, **options)
        return factor * jnp.stack([trace, paths.path_norm(net.apply, net.theta, shape, 2, **options)])

    depth = net.depth
    right = Sides(measured(net), theory(net, x**2, depth - 1))
    conv = _shared(net)
    return {
        "claim": right,
        "2⁻ᴸ": right._replace(theory=jnp.where(net.linear, 2.0, 1) * theory(net, x**2, depth)),
        "u = |x|": right._replace(theory=theory(net, abs(x), depth - 1)),
        "shared convolution": Sides(measured(conv), theory(conv, x**2, depth - 1)),
    }


def _few(rng: Rng, inputs: Callable[[], np.ndarray], linear: bool) -> Net:
    """So few kept weights that all their signs are enumerated, some of them on live paths."""
    while True:
        net = complete(rng, inputs, density=0.25, linear=linear)
        if net.kept.sum() == FREE:
            return net


def _few_relu(rng: Rng, dataset: Dataset) -> Net:
    return _few(rng, lambda: pixels(rng, dataset), False)


def _few_linear(rng: Rng, dataset: Dataset) -> Net:
    return _few(rng, lambda: gaussian(rng), True)


def _linear(rng: Rng, dataset: Dataset) -> Net:
    return complete(rng, lambda: pixels(rng, dataset), density=0.8, linear=True)


SIGN_AVERAGE = Claim(
    id="paths/sign-average",
    title="The path-trace is the trace of the tangent kernel, averaged over the signs of the weights",
    statement=(
        r"\mathbb{E}_{\mathrm{signs}}\mathrm{Tr}\,\Theta(x,x)=2^{-(L-1)}\sum_{i\;\mathrm{kept}}\frac{\partial R_2}"
        r"{\partial(\theta_i^2)}\Big|_{u=x^2},\qquad\mathbb{E}_{\mathrm{signs}}\|f(x)\|^2=2^{-(L-1)}R_2(x^2)"
    ),
    sources=(GEBHART,),
    kind=Expectation(),
    cases=(
        *MLPS,
        Case("linear-{data}", _linear),
        Case("few-{data}", _few_relu, enumerable=True),
        Case("few-linear", _few_linear, enumerable=True),
    ),
    trial=_sign_average,
    draw=_draw,
    outcomes=_all_signs,
    mutants=("2⁻ᴸ", "u = |x|", "shared convolution"),
    batch=2048,
    note=(
        "|θ|, mask and x are fixed, the signs independent and fair. Linear networks have the factor 1. A unit is as "
        "likely on as off whatever came before, wherever no weight is shared; kernels of convolutions are."
    ),
)
