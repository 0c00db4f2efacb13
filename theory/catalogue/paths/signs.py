"""paths/: the trace of the path kernel is that of the tangent kernel, averaged over the signs of the weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import paths
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.paths.cases import FREE_SIGNS, LINEAR, MLPS, Rng, draw_network, gaussian, pixels
from theory.catalogue.paths.kernel import GEBHART
from theory.catalogue.paths.networks import CONVOLUTIONAL, Net
from theory.claim import Case, Claim, Sides
from theory.kinds import Expectation


def _draw(net: Net, key: Key) -> Float[Array, " P"]:
    return jax.random.rademacher(key, net.theta.shape, net.theta.dtype)


def _all_signs(net: Net) -> tuple[Float[Array, "outcomes P"], Float[Array, " outcomes"]]:
    """All signs of the weights named by the instance, each equally likely; the other weights are pruned."""
    signs = 1 - 2 * np.stack(np.meshgrid(*[[0, 1]] * FREE_SIGNS, indexing="ij"), axis=-1).reshape(-1, FREE_SIGNS)
    outcomes = jnp.ones((len(signs), net.theta.size), net.theta.dtype)
    outcomes = outcomes.at[:, net.free_signs].set(signs.astype(np.float32))
    return outcomes, jnp.full(len(signs), 1 / len(signs), net.theta.dtype)


def _as_convolution(net: Net) -> Net:
    """The convolutional network with the instance's first weights, none of them pruned."""
    numbers = np.arange(net.theta.size)
    used = sum(np.isin(numbers, index) for index in CONVOLUTIONAL.indices) > 0
    return net.replace(
        indices=tuple(map(jnp.asarray, CONVOLUTIONAL.indices)),
        coefficients=tuple(jnp.asarray(c, net.theta.dtype) for c in CONVOLUTIONAL.coefficients),
        kept=jnp.asarray(used).astype(net.theta.dtype),
    )


def _sign_average(net: Net, signs: Float[Array, " P"]) -> dict[str, Sides]:
    x = net.x[0]

    def measured(net: Net) -> Array:
        """Tr Θ(x, x) and ‖f(x)‖² at one choice of signs."""

        def outputs(theta: Array) -> Array:
            return net.apply_own(theta, x[None])[0]

        theta = signs * abs(net.masked)
        jacobian = jax.jacrev(outputs)(theta) * net.kept
        return jnp.stack([jnp.sum(jacobian**2), jnp.sum(outputs(theta) ** 2)])

    def theory(net: Net, u: Array) -> Array:
        """Tr Π and R₂, halved for each hidden layer unless the network is linear."""
        arguments, options = (net.apply, net.theta, x.shape), {"u": u, "mask": net.kept}
        factor = jnp.where(net.linear, 1, 2.0 ** (1 - net.depth))
        return factor * jnp.stack([paths.trace(*arguments, **options), paths.path_norm(*arguments, 2, **options)])

    # The networks have one shape, and the inputs too: one trace of the theory serves all statements.
    convolution = _as_convolution(net)
    inputs = jnp.stack([x**2, abs(x), x**2])
    at_squares, at_sizes, of_shared = jax.vmap(theory)(_stacked([net, net, convolution]), inputs)
    right = Sides(measured(net), at_squares)
    return {
        "claim": right,
        "2⁻ᴸ": right._replace(theory=at_squares * jnp.where(net.linear, 2, 0.5)),
        "u = |x|": right._replace(theory=at_sizes),
        "shared convolution": Sides(measured(convolution), of_shared),
    }


def _stacked(nets: list[Net]) -> Net:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)


def _few(rng: Rng, inputs: Callable[[], np.ndarray], linear: bool) -> Net:
    """A network with so few kept weights that all their signs can be enumerated."""
    while True:
        net = draw_network(rng, inputs, density=0.25, linear=linear)
        if net.kept.sum() == FREE_SIGNS:
            return net


def _few_relu(rng: Rng, dataset: Dataset) -> Net:
    return _few(rng, lambda: pixels(rng, dataset), linear=False)


def _few_linear(rng: Rng, dataset: Dataset) -> Net:
    return _few(rng, lambda: gaussian(rng), linear=True)


SIGN_AVERAGE = Claim(
    id="paths/sign-average",
    title="The trace of the path kernel is that of the tangent kernel, averaged over the signs of the weights",
    statement=(
        r"\mathbb{E}_{\mathrm{signs}}\mathrm{Tr}\,\Theta(x,x)=2^{-(L-1)}\sum_{i\;\mathrm{kept}}\frac{\partial R_2}"
        r"{\partial(\theta_i^2)}\Big|_{u=x^2},\qquad\mathbb{E}_{\mathrm{signs}}\|f(x)\|^2=2^{-(L-1)}R_2(x^2)"
    ),
    sources=(GEBHART,),
    kind=Expectation(),
    cases=(
        *MLPS,
        LINEAR,
        Case("few-{data}", _few_relu, enumerable=True),
        Case("few-linear", _few_linear, enumerable=True),
    ),
    trial=_sign_average,
    draw=_draw,
    outcomes=_all_signs,
    mutants=("2⁻ᴸ", "u = |x|", "shared convolution"),
    batch=2048,
    note=(
        "The sizes |θ|, the mask and x are fixed; the signs are independent and fair. Linear networks have the factor "
        "1. Where no weight is shared, a unit is on with probability ½ whatever happened in earlier layers. In a "
        "convolution weights are shared, and the statement fails (the mutant)."
    ),
)
