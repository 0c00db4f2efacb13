"""tangent/: pruning slows training on average over residuals, but not for each residual."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketchprune import laws
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.tangent.cases import A_LAW, ALL, NON_ZERO, SMALL, Network, Rng, Tangent, draw_network, linearise
from theory.catalogue.tangent.sketches import BAR, masked_kernel
from theory.claim import Case, Claim, Sides, Source, along
from theory.kinds import Expectation

TIMES = (0.1, 0.5, 2.0, 10.0, 50.0)
"""Times at which the decay is compared, in units of 1/λ_max(Θ)."""


def _law(tangent: Tangent) -> laws.Poisson:
    return laws.Poisson(tangent.rates, binary=True)


def _draw(tangent: Tangent, key: Key) -> Float[Array, " P"]:
    return _law(tangent).sample(key)


def _decay(kernel: Float[Array, "N N"], times: Float[Array, " t"], residual: Array | None = None) -> Float[Array, " t"]:
    """The decay of the squared residual at each time: Tr e^{−2tΘ}, or rᵀe^{−2tΘ}r for a given residual."""
    if residual is None:
        values = jnp.linalg.eigvalsh(kernel)
        weights = 1.0
    else:
        values, vectors = jnp.linalg.eigh(kernel)
        weights = (vectors.T @ residual) ** 2
    return jnp.sum(jnp.exp(-2 * times[:, None] * jnp.maximum(values, 0)) * weights, axis=1)


def _times(tangent: Tangent) -> Float[Array, " t"]:
    return jnp.array(TIMES, tangent.jacobian.dtype) / jnp.linalg.eigvalsh(tangent.kernel)[-1]


def _slows(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    times = _times(tangent)
    count = jnp.full(len(TIMES), float(tangent.outputs.size))
    pruned = _decay(masked_kernel(tangent, mask), times)

    def sides(rates: Float[Array, " P"]) -> Sides:
        return Sides(_decay(masked_kernel(tangent, rates), times), pruned, scale=count, range=count)

    return {"claim": sides(tangent.rates), "π² for π": sides(tangent.rates**2)}


PRUNING_SLOWS = Claim(
    id="tangent/pruning-slows",
    title="On average over residuals, a pruned network trains no faster than the dense one at smaller rates",
    statement=(
        r"\mathbb{E}\,\mathrm{Tr}\,e^{-2t\Theta_S}\ge\mathrm{Tr}\,e^{-2tJ\,\mathrm{diag}(\pi)J^\top},"
        r"\qquad S\sim\text{poisson}(\pi)"
    ),
    sources=(BAR,),
    kind=Expectation("at most"),
    cases=(*ALL, SMALL),
    prepare=linearise,
    hypotheses=NON_ZERO,
    trial=_slows,
    draw=_draw,
    outcomes=lambda tangent: _law(tangent).outcomes(),
    mutants=("π² for π",),
    batch=2048,
    note=(
        "The reason is trace convexity (Jensen). The trace is the expected squared residual when the start is "
        "isotropic. With one rate α for all weights the right side is the dense network at learning rate α."
    ),
)


# --- tangent/pruning-slows-fixed-residual


def _fixed(tangent: Tangent, mask: Float[Array, " P"]) -> dict[str, Sides]:
    times = _times(tangent)
    residual = tangent.residual
    size = jnp.full(len(TIMES), jnp.sum(residual**2))
    return {
        "claim": Sides(
            _decay(masked_kernel(tangent, tangent.rates), times, residual),
            _decay(masked_kernel(tangent, mask), times, residual),
            scale=size,
            range=size,
        )
    }


def _two_weights(rng: Rng, dataset: Dataset) -> Network:
    """A linear model of two columns of length 1, and a residual along the second one, which is always kept.

    Alone, the second column removes the residual. The first one, kept at rate 0.4, turns it towards where the kernel is
    small, and it does so at its mean rate too.
    """
    angle = 0.9 + 0.05 * rng.standard_normal()
    second = np.array([np.cos(angle), np.sin(angle)])
    network = draw_network(rng, np.stack([np.array([1.0, 0.0]), second], axis=1), second[:, None], ((2, 1),))
    layers = tuple(np.zeros_like(layer) for layer in network.layers)
    return network.replace(layers=layers, tilt=np.array([0.0, 1.0]), beta=np.asarray(0.5), density=np.asarray(0.8))


FIXED_RESIDUAL = Claim(
    id="tangent/pruning-slows-fixed-residual",
    title="For one fixed residual, pruning may speed up training",
    statement=r"\mathbb{E}\,r^\top e^{-2t\Theta_S}r\ge r^\top e^{-2tJ\,\mathrm{diag}(\pi)J^\top}r\quad\forall r",
    sources=(Source("bar2023sketching", "known-false"),),
    kind=Expectation("at most"),
    cases=(SMALL, Case("two-weights", _two_weights, enumerable=True)),
    prepare=linearise,
    hypotheses=NON_ZERO | A_LAW,
    trial=_fixed,
    draw=_draw,
    outcomes=lambda tangent: _law(tangent).outcomes(),
    free=("layers", "x", "y", "tilt", "beta", "density"),
    axes={"samples": along(x=0, y=0)},
    expected="REFUTED",
    batch=2048,
    note="The exponential is trace convex but not operator convex, so the theorem needs the average over residuals.",
)
