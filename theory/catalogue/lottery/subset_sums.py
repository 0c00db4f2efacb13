"""lottery/: how many random numbers it takes until their subset sums cover [−½, ½]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from sketchprune import lottery
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.catalogue.lottery.inputs import Rng, pixels
from theory.claim import Case, Claim, Sides, Source
from theory.kinds import Expectation

LUEKER, GADHIKAR = Source("lueker1998subsetsum"), Source("gadhikar2023random")
MAX_ITEMS = 14
"""Items whose subset sums are found. Further ones are ignored, which makes covering less likely, and not more."""
FINEST = 1 / 8
"""The smallest ε: [−½, ½] is covered when each of its points is within ε of a subset sum."""
ENOUGH, DELTA = 12, 0.2
"""This many items cover with probability at least 1 − δ/2: the claim on thinning checks that too."""
MAX_DRAWN = lottery.thinned_items(ENOUGH, 0.4, DELTA)


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

    def draw(self, key: Key, count: int) -> Float[Array, " count"]:
        """Independent items, in the dtype of the quantiles."""
        return self.at(jax.random.uniform(key, (count,), self.quantiles.dtype))

    def at(self, ranks: Float[Array, " n"]) -> Float[Array, " n"]:
        """The quantiles of some ranks in [0, 1)."""
        places = ranks * (len(self.quantiles) - 1)
        lower = jnp.floor(places)
        below, above = self.quantiles[lower.astype(jnp.int32)], self.quantiles[lower.astype(jnp.int32) + 1]
        return below + (places - lower) * (above - below)

    def draw_thinned(self, key: Key, count: int) -> tuple[Float[Array, " m"], Int[Array, " count"]]:
        """The first MAX_ITEMS of independent items that chance keeps, zeros for those that are missing, and counts.

        Args:
            key: a key of jax.random.
            count: how many items are drawn.

        Returns:
            The items, and how many are kept of the first one, two, … that are drawn, at most MAX_ITEMS.
        """
        for_ranks, for_kept = jax.random.split(key)
        ranks = jax.random.uniform(for_ranks, (count,), self.quantiles.dtype)
        kept = jax.random.bernoulli(for_kept, self.density, (count,))
        counts = jnp.cumsum(kept, dtype=jnp.int32)
        place = jnp.where(kept, counts - 1, count)
        first = jnp.zeros(MAX_ITEMS, ranks.dtype).at[place].set(ranks, mode="drop")
        items = jnp.where(jnp.arange(MAX_ITEMS) < counts[-1], self.at(first), 0)
        return items, jnp.minimum(counts, MAX_ITEMS)


def _failures(items: Float[Array, "sets m"], epsilon: Array) -> Float[Array, "sets m+1"]:
    """1 where the first k items do not cover, for k = 0, …, m."""
    radii = lottery.covering_radii(items, resolution=FINEST)
    return (radii > epsilon).astype(radii.dtype)


def _thinning(items: Items, key: Key) -> dict[str, Sides]:
    for_thinned, for_dense = jax.random.split(key)
    n, p = items.count, items.density
    thinned, kept = items.draw_thinned(for_thinned, MAX_DRAWN)
    missed, dense = _failures(jnp.stack([thinned, items.draw(for_dense, MAX_ITEMS)]), items.epsilon)
    sufficient = jnp.ceil(jnp.maximum(2 * ENOUGH, 8 * jnp.log(2 / DELTA)) / p).astype(n.dtype)
    covered = 1 - missed[kept[n - 1]]
    theory = lottery.thinned_probability(1 - dense, n, p)

    def sides(expected: Array, drawn: Array | int) -> Sides:
        """With the probability that n items cover, and how many are drawn so that few sets of them fail."""
        return Sides(
            jnp.stack([covered, -covered, dense[ENOUGH], missed[kept[drawn - 1]]]),
            jnp.stack([expected, -expected, jnp.asarray(DELTA / 2, p.dtype), jnp.asarray(DELTA, p.dtype)]),
            scale=jnp.ones(4),
            range=jnp.full(4, 2.0),
        )

    return {
        "claim": sides(theory, sufficient),
        "n ≥ k": sides(theory, ENOUGH),
        "n·p items are kept": sides(1 - dense[jnp.round(n * p).astype(int)], sufficient),
    }


def uniform_quantiles() -> np.ndarray:
    """Quantiles of U[−1, 1]."""
    return np.linspace(-1, 1, 65)


def item_quantiles(rng: Rng, dataset: Dataset) -> np.ndarray:
    """Quantiles of random combinations of the pixels of centred images, scaled to spread as U[−1, 1] does."""
    x, _ = pixels(rng, dataset, 64, 32)
    combined = (x - x.mean(axis=0)) @ rng.standard_normal((32, 32))
    size = np.sqrt(3) * combined.std()
    return np.quantile(combined / max(size, 1e-12), np.linspace(0, 1, 65))


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
    batch=32,
    note=(
        "Items cover when each point of [−½, ½] is within ε of a subset sum. Components: the probability from above "
        "and from below, against other items that are added one by one until they cover; that 12 items fail with "
        "probability at most δ/2 = 0.1; and that n items, thinned, fail with probability at most δ."
    ),
)
