"""lottery/: no constant makes the items that are needed proportional to log(1/min(ε, δ))/log(1/(1 − p)) at all p."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import laws, lottery
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.lottery.inputs import Rng
from theory.catalogue.lottery.subset_sums import FINEST, SPREAD, Items, item_quantiles, uniform_quantiles
from theory.claim import Case, Claim, Sides, Source, along
from theory.kinds import Probability

DELTA = 0.1
MOST = 28
"""Items that are drawn at p = ½: enough for ε = 1/8 and δ = 0.1."""
CONSTANT = MOST * np.log(2) / np.log(1 / DELTA)
"""C, for which the formula asks for these."""
ROUNDING = 1e-9
FEW, NEARLY_ALL = 2, 0.99995
"""Items that the formula asks for at a p near 1. They have four sums, of which one is 0."""


class FewItems(Items):
    """The same for n items of a simpler law: each is one of the quantiles, all equally likely.

    Attributes:
        drawn: n, static.
    """

    drawn: int = struct.field(pytree_node=False, default=FEW)


def _asked_for(epsilon: Any, density: Any, numpy: Any) -> Any:
    """C log(1/min(ε, δ))/log(1/(1 − p)), in NumPy or in JAX: making instances compiles nothing."""
    return CONSTANT * numpy.log(numpy.minimum(epsilon, DELTA)) / numpy.log1p(-density)


def _draw(items: Items, key: Key) -> Float[Array, " m"]:
    """The kept items, zeros for those that are missing."""
    kept, counts = items.draw_thinned(key, MOST)
    return jnp.where(jnp.arange(len(kept)) < counts[items.count - 1], kept, 0)


def _enumerate(items: FewItems) -> tuple[Float[Array, "outcomes n"], Float[Array, " outcomes"]]:
    """All choices of items and of which are kept, zeros for the others, and their probabilities."""
    choices = len(items.quantiles) ** items.drawn
    drawn = np.indices((len(items.quantiles),) * items.drawn).reshape(items.drawn, choices).T
    masks = laws.all_subsets(items.drawn)
    kept = (items.quantiles[drawn][:, None] * masks).reshape(-1, items.drawn)
    chances = jnp.prod(jnp.where(masks, items.density, 1 - items.density), axis=1)
    return kept, jnp.broadcast_to(chances, (choices, len(chances))).ravel() / choices


def _constant(items: Items, kept: Float[Array, " m"]) -> dict[str, Sides]:
    radius = lottery.covering_radii(kept, resolution=FINEST)[-1]
    return {"claim": Sides(radius, items.epsilon, delta=jnp.asarray(DELTA, radius.dtype))}


def _is_asked_for(items: Items) -> Bool[Array, ""]:
    return items.count >= _asked_for(items.epsilon, items.density, jnp) - ROUNDING


def _items(quantiles: np.ndarray, density: float) -> Items:
    """As many items as the formula asks for."""
    count = np.ceil(_asked_for(FINEST, density, np) - ROUNDING)
    return Items(quantiles, np.asarray(density), np.asarray(FINEST), np.asarray(int(count)))


def _few(rng: Rng, dataset: Dataset) -> FewItems:
    """Multiples of a quarter for items: so few that no two of them cover."""
    items = _items(np.linspace(-1, 1, 9), NEARLY_ALL)
    return FewItems(items.quantiles, items.density, items.epsilon, items.count, drawn=int(items.count))


SUBSET_SUM_CONSTANT = Claim(
    id="lottery/subset-sum-constant",
    title="One constant for all densities: items in proportion to log(1/min(ε, δ))/log(1/(1 − p)) do not suffice",
    statement=(
        r"n\ge C\,\frac{\log\frac1{\min(\varepsilon,\delta)}}{\log\frac1{1-p}}\;\Rightarrow\;"
        r"P(\text{cover})\ge1-\delta"
    ),
    sources=(Source("gadhikar2023random", "known-false"),),
    kind=Probability(),
    cases=(
        Case("p=0.5", lambda rng, dataset: _items(uniform_quantiles(), 0.5)),
        Case("p=0.9", lambda rng, dataset: _items(uniform_quantiles(), 0.9)),
        Case("p=0.99", lambda rng, dataset: _items(uniform_quantiles(), 0.99)),
        Case("{data}, p=0.99", lambda rng, dataset: _items(item_quantiles(rng, dataset), 0.99)),
        Case(f"quarters, p={NEARLY_ALL}", _few, enumerable=True),
    ),
    trial=_constant,
    draw=_draw,
    outcomes=_enumerate,
    hypotheses=SPREAD | {"n is at least what the formula asks for": _is_asked_for},
    free=("quantiles", "epsilon"),
    axes={"quantiles": along(quantiles=0)},
    expected="REFUTED",
    batch=64,
    note=(
        "C is set so that the number of items is enough at p = ½. As p tends to 1 the formula asks for fewer and fewer "
        "items, but at least log₂(1/(2ε)) are needed even when all are kept. At p = 0.99995 it asks for two. Whatever "
        "they are, one of their four sums is 0, and the others are too few: that case lists all pairs of multiples of "
        "1/4, and all that can be kept of them."
    ),
)
