"""lottery/: how many random numbers it takes until their subset sums cover [−½, ½]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import lottery
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.lottery.inputs import Rng, pixels
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Expectation, Probability

LUEKER, GADHIKAR = Source("lueker1998subsetsum"), Source("gadhikar2023random")
MAX_ITEMS = 14
"""Items whose subset sums are found. Further ones are ignored, which makes covering less likely, and not more."""
FINEST = 1 / 8
"""The smallest ε: [−½, ½] is covered when each of its points is within ε of a subset sum."""
ENOUGH, DELTA = 12, 0.2
"""This many items cover with probability at least 1 − δ/2: the claim on thinning checks that too."""
MAX_DRAWN = lottery.thinned_items(ENOUGH, 0.4, DELTA)
CONSTANT_DELTA = 0.1
CONSTANT = 28 * np.log(2) / np.log(1 / CONSTANT_DELTA)
"""C, for which 28 items are drawn at p = ½, which is enough for ε = 1/8 and δ = 0.1."""


class Items(struct.PyTreeNode):
    """The law of random items, and how they are thinned.

    Attributes:
        quantiles: of one item, at equal distances from 0 to 1; linear between them. For U[−1, 1] they are equidistant.
        density: p, with which an item is kept.
        epsilon: ε.
        count: the number of items n of which a part is kept.
    """

    quantiles: Any
    density: Any
    epsilon: Any
    count: Any

    def draw(self, key: Key, *shape: int) -> Float[Array, "..."]:
        """Independent items."""
        places = jax.random.uniform(key, shape) * (len(self.quantiles) - 1)
        return jnp.interp(places, jnp.arange(len(self.quantiles)), self.quantiles)

    def keep(self, key: Key, items: Float[Array | np.ndarray, " n"]) -> Float[Array, " m"]:
        """The first of the items that chance keeps, at most MAX_ITEMS, and zeros in place of missing ones."""
        kept = jax.random.bernoulli(key, self.density, items.shape) & (jnp.arange(len(items)) < self.count)
        place = jnp.where(kept, jnp.cumsum(kept) - 1, len(items))
        return jnp.zeros(MAX_ITEMS, items.dtype).at[place].set(items, mode="drop")


def _needed(items: Float[Array, "sets m"], epsilon: Array) -> Float[Array, "sets m+1"]:
    """1 where the first k items do not cover, for k = 0, …, m."""
    radii = lottery.covering_radii(items, resolution=FINEST)
    return (radii > epsilon).astype(radii.dtype)


# --- lottery/subset-sum-thinning


def _thinning(items: Items, key: Key) -> dict[str, Sides]:
    keys = jax.random.split(key, 5)
    n, p = items.count, items.density
    few = items.draw(keys[0], MAX_ITEMS)
    many = items.draw(keys[1], MAX_DRAWN)
    sufficient = jnp.ceil(jnp.maximum(2 * ENOUGH, 8 * jnp.log(2 / DELTA)) / p)
    thinned = items.keep(keys[2], few)
    enough = items.replace(count=sufficient).keep(keys[3], many)
    too_few = items.replace(count=ENOUGH).keep(keys[3], many)
    dense = items.draw(keys[4], MAX_ITEMS)
    missed = _needed(jnp.stack([thinned, enough, too_few, dense]), items.epsilon)
    covered = 1 - missed[0, -1]
    covers = 1 - missed[3]
    theory = lottery.thinned_probability(covers, n, p)

    def sides(expected: Array, last: Array) -> Sides:
        return Sides(
            jnp.stack([covered, -covered, missed[3, ENOUGH], last]),
            jnp.stack([expected, -expected, jnp.asarray(DELTA / 2, p.dtype), jnp.asarray(DELTA, p.dtype)]),
            scale=jnp.ones(4),
            range=jnp.full(4, 2.0),
        )

    kept = jnp.round(n * p).astype(int)
    return {
        "claim": sides(theory, missed[1, -1]),
        "n ≥ k": sides(theory, missed[2, -1]),
        "n·p items are kept": sides(covers[kept], missed[1, -1]),
    }


def uniform_quantiles() -> np.ndarray:
    """Quantiles of U[−1, 1]."""
    return np.linspace(-1, 1, 65)


def item_quantiles(rng: Rng, dataset: Dataset) -> np.ndarray:
    """Quantiles of the differences between an image and the mean image, scaled to spread as U[−1, 1] does."""
    x, _ = pixels(rng, dataset, 64, 32)
    differences = (x - x.mean(axis=0)).ravel()
    size = np.sqrt(3) * differences.std()
    return np.quantile(differences / max(size, 1e-12), np.linspace(0, 1, 65))


def _are_spread(items: Items) -> Bool[Array, ""]:
    """Whether items come near every point of [−½, ½], as Lueker's theorem asks of a part of their law."""
    lower, upper = items.quantiles[:-1], items.quantiles[1:]
    gaps = jnp.where((upper > -0.5) & (lower < 0.5), upper - lower, 0)
    return (lower[0] <= -0.5) & (upper[-1] >= 0.5) & (jnp.max(gaps) <= 0.25)


SPREAD = {"on [−½, ½] items have a density of at least 1/16, by the distances of 65 quantiles": _are_spread}
"""The hypothesis under which subset sums of few items cover."""


def _thinned(rng: Rng, quantiles: np.ndarray, density: float) -> Items:
    """Items of which about half of the time enough are kept."""
    return Items(
        quantiles=quantiles,
        density=np.asarray(density),
        epsilon=np.asarray(rng.uniform(FINEST, 2 * FINEST)),
        count=np.asarray(rng.integers(MAX_ITEMS - 4, MAX_ITEMS + 1)),
    )


SUBSET_SUM_THINNING = Claim(
    id="lottery/subset-sum-thinning",
    title="How many items are needed when only a random part of them is kept",
    statement=(
        r"P(\text{cover})=\sum_k\mathrm{Bin}(k;n,p)\,P_{\mathrm{dense}}(k),\qquad "
        r"P_{\mathrm{dense}}(k)\ge1-\tfrac\delta2,\;n\ge\tfrac1p\max\Big(2k,8\log\tfrac2\delta\Big)"
        r"\;\Rightarrow\;P(\text{cover})\ge1-\delta"
    ),
    sources=(GADHIKAR, LUEKER),
    kind=Expectation("at most"),
    cases=(
        Case("uniform", lambda rng, dataset: _thinned(rng, uniform_quantiles(), rng.uniform(0.4, 0.9))),
        Case("half", lambda rng, dataset: _thinned(rng, uniform_quantiles(), 0.5)),
        Case("{data}", lambda rng, dataset: _thinned(rng, item_quantiles(rng, dataset), rng.uniform(0.4, 0.9))),
    ),
    trial=_thinning,
    hypotheses=SPREAD,
    mutants=("n ≥ k", "n·p items are kept"),
    batch=512,
    note=(
        "Items cover when each point of [−½, ½] is within ε of a subset sum. Components: the probability from above "
        "and from below, against other items that are added one by one until they cover; that 12 items fail with "
        "probability at most δ/2 = 0.1; and that n items, thinned, fail with probability at most δ."
    ),
)


# --- lottery/subset-sum-constant


def _constant(items: Items, key: Key) -> dict[str, Sides]:
    first, second = jax.random.split(key)
    kept = items.keep(second, items.draw(first, MAX_DRAWN))
    radius = lottery.covering_radii(kept, resolution=FINEST)[-1]
    return {"claim": Sides(radius, items.epsilon, delta=jnp.asarray(CONSTANT_DELTA, radius.dtype))}


def _counted(quantiles: np.ndarray, density: float) -> Items:
    """As many items as the formula asks for."""
    count = np.ceil(CONSTANT * np.log(1 / min(FINEST, CONSTANT_DELTA)) / np.log(1 / (1 - density)) - 1e-9)
    return Items(quantiles, np.asarray(density), np.asarray(FINEST), np.asarray(int(count)))


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
        Case("p=0.5", lambda rng, dataset: _counted(uniform_quantiles(), 0.5)),
        Case("p=0.9", lambda rng, dataset: _counted(uniform_quantiles(), 0.9)),
        Case("p=0.99", lambda rng, dataset: _counted(uniform_quantiles(), 0.99)),
        Case("{data}, p=0.99", lambda rng, dataset: _counted(item_quantiles(rng, dataset), 0.99)),
    ),
    trial=_constant,
    expected="REFUTED",
    batch=1024,
    note=(
        "C is set so that the number of items is enough at p = ½. As p tends to 1 the formula asks for fewer and fewer "
        "items, but at least log₂(1/(2ε)) are needed even when all are kept."
    ),
)
