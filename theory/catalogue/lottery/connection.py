"""lottery/: how wide a random sparse network must be to contain a unit of a target."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import laws, lottery
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.lottery.inputs import Rng, pixels
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Expectation

INPUTS, MAX_WIDTH = 6, 8
SMALL_INPUTS, SMALL_WIDTH = 2, 3
"""Of the masks that are enumerated: 2⁹ of them."""


class Unit(struct.PyTreeNode):
    """A target unit, and the law of the masks of a source with one hidden layer.

    Attributes:
        used: [inputs], whether the target's weight is not 0; at least one is not.
        width: the hidden units n of the source.
        densities: [2], p_1 and p_2.
        deltas: [3], failure rates: one for which the width is just too small, one for which it is large enough, and
            one for which it would be just too small if hidden units were lost in proportion to p_2.
        max_width: the hidden units that are drawn, of which the first n count, static.
    """

    used: Any
    width: Any
    densities: Any
    deltas: Any
    max_width: int = struct.field(pytree_node=False, default=MAX_WIDTH)


Masks = tuple[Bool[Array, "inputs hidden"], Bool[Array, " hidden"]]


def _sample(unit: Unit, key: Key) -> Masks:
    first, second = jax.random.split(key)
    hidden = jax.random.bernoulli(first, unit.densities[0], (len(unit.used), unit.max_width))
    return hidden, jax.random.bernoulli(second, unit.densities[1], (unit.max_width,))


def _enumerate(unit: Unit) -> tuple[Any, Float[Array, " masks"]]:
    """All masks of both layers, and their probabilities."""
    edges = len(unit.used) * unit.max_width
    masks = laws.all_subsets(edges + unit.max_width)
    density = jnp.repeat(unit.densities, np.array([edges, unit.max_width]), total_repeat_length=masks.shape[1])
    chances = jnp.prod(jnp.where(masks, density, 1 - density), axis=1)
    return (masks[:, :edges].reshape(len(masks), -1, unit.max_width), masks[:, edges:]), chances


def _width_necessary(unit: Unit, masks: Masks) -> dict[str, Sides]:
    hidden, output = masks
    (first, second), num_used = unit.densities, jnp.sum(unit.used)
    live = output & (jnp.arange(unit.max_width) < unit.width)
    contained = jnp.all((hidden & live).any(axis=1) | ~unit.used).astype(unit.deltas.dtype)
    exact = lottery.containment_probability(num_used, unit.width, first, second, max_width=unit.max_width)

    def sides(width: Float[Array, "3"]) -> Sides:
        """The probability, from both sides; and that it is below 1 − δ wherever the source is narrower than this."""
        at_most = jnp.where(unit.width < width, 1 - unit.deltas, 1)
        measured = jnp.concatenate([jnp.stack([contained, -contained]), jnp.full(3, contained)])
        return Sides(
            measured,
            jnp.concatenate([jnp.stack([exact, -exact]), at_most]),
            scale=jnp.full(5, exact),
            range=jnp.ones(5),
        )

    width = lottery.necessary_width(num_used, first, unit.deltas)
    return {
        "claim": sides(width),
        "twice the width": sides(2 * width),
        "p₁p₂ for p₁": sides(lottery.necessary_width(num_used, first * second, unit.deltas)),
    }


def _draw(
    rng: Rng, used: np.ndarray, *, dense_output: bool = False, width: int | None = None, max_width: int = MAX_WIDTH
) -> Unit:
    n = rng.integers(4, MAX_WIDTH + 1) if width is None else width
    first = rng.uniform(0.3, 0.6)
    second = 1.0 if dense_output else rng.uniform(0.3, 0.6)

    def failure(width: float, density: float) -> float:
        """The δ whose necessary width this is."""
        return 1 - (1 - (1 - density) ** width) ** used.sum()

    deltas = [failure(1.001 * n, first), failure(0.75 * n, first), failure(1.001 * n, first * second)]
    return Unit(used, np.asarray(n), np.array([first, second]), np.array(deltas), max_width)


def _some_used(rng: Rng, inputs: int) -> np.ndarray:
    return rng.permutation(inputs) < rng.integers(2, inputs + 1)


def _random(rng: Rng, dataset: Dataset) -> Unit:
    return _draw(rng, _some_used(rng, INPUTS))


def _dense_output(rng: Rng, dataset: Dataset) -> Unit:
    """No output edge is pruned: the bound is exact."""
    return _draw(rng, _some_used(rng, INPUTS), dense_output=True)


def _from_data(rng: Rng, dataset: Dataset) -> Unit:
    """A unit that tells two classes apart; it uses the pixels on which their means differ most."""
    x, y = pixels(rng, dataset, 200, INPUTS)
    one = y == y[0]
    difference = abs(x[one].mean(axis=0) - (x[~one].mean(axis=0) if not one.all() else 0))
    return _draw(rng, difference >= 0.2 * difference.max(), dense_output=bool(rng.integers(2)))


def _small(rng: Rng, dataset: Dataset) -> Unit:
    return _draw(rng, np.ones(SMALL_INPUTS, bool), width=SMALL_WIDTH, max_width=SMALL_WIDTH)


WIDTH_NECESSARY = Claim(
    id="lottery/width-necessary",
    title="How wide a random sparse network must at least be to contain a target",
    statement=(
        r"n<\frac{\log\frac1{1-(1-\delta)^{1/d}}}{\log\frac1{1-p_1}}\;\Rightarrow\;P(\text{contained})<1-\delta,\qquad "
        r"P(\text{contained})=\mathbb{E}_{k\sim\mathrm{Bin}(n,p_2)}\,(1-(1-p_1)^k)^d"
    ),
    sources=(Source("gadhikar2023random"),),
    kind=Expectation("at most"),
    cases=(
        Case("random", _random),
        Case("dense-output", _dense_output),
        Case("{data}", _from_data),
        Case("small", _small, enumerable=True),
    ),
    trial=_width_necessary,
    draw=_sample,
    outcomes=_enumerate,
    mutants=("twice the width", "p₁p₂ for p₁"),
    note=(
        "d is the number of inputs that the target unit uses, and n the number of hidden units. Components: the exact "
        "probability from above and from below, then the bound for three δ. Where no output edge is pruned and n is "
        "the necessary width, the bound is exact."
    ),
)
