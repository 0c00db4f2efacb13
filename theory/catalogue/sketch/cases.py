"""Instances of linear models: the cases on which the ``sketch/`` family is tested.

Columns are Gaussian, of very unequal size, correlated, dependent or zero, or those of real images. Weights are
Gaussian, uniform, ±1 or log-normal.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from sketchprune import data, laws, linalg, sketch
from sketchprune.data import Dataset
from theory.catalogue.simplex import random_probabilities, to_simplex
from theory.claim import Axis, Case, along

FEATURES, CLASSES = 64, 10
ROWS = FEATURES + CLASSES
"""All cases share the shape of the digits after :func:`sketchprune.linalg.compress`."""
MAX_FEATURES = 256
"""Of a data set with more features each instance takes this many, chosen at random."""
BUDGET = 16
"""The largest number of draws of a multinomial mask, in cases that do not need large budgets."""


class Linear(struct.PyTreeNode):
    """A linear model on data, and the parameters of laws of masks for it.

    Fields are NumPy arrays when an instance is made, and jax arrays in a program.

    Attributes:
        x: [n, d]; rows and columns may be zero.
        w: [d].
        y: [n].
        tilt: [d], probabilities that do not depend on x and w.
        beta: in (0, 1]; the probabilities β p* + (1−β) tilt are β-near-optimal.
        budget: draws s, at least 1.
        whole: whether a claim on one mask takes the mask that keeps every non-zero column.
        max_budget: the largest budget that a mask is drawn with, static.
    """

    x: Any
    w: Any
    y: Any
    tilt: Any
    beta: Any
    budget: Any
    whole: Any
    max_budget: int = struct.field(pytree_node=False, default=BUDGET)

    @property
    def near_optimal(self) -> Float[Array, " d"]:
        """β p* + (1−β) tilt."""
        return self.beta * sketch.optimal_probabilities(self.x, self.w) + (1 - self.beta) * self.tilt

    @property
    def rates(self) -> Float[Array, " d"]:
        """Positive inclusion rates, in proportion to the near-optimal probabilities between 0.02 and 1."""
        expected = jnp.minimum(self.budget, self.w.shape[0] / 3)
        return jnp.clip(expected * self.near_optimal, 0.02, 1)

    @property
    def items(self) -> laws.Items:
        """The vectors w_i x_i that a mask weighs."""
        return sketch.linear_items(self.x, self.w)

    @property
    def multinomial(self) -> laws.Multinomial:
        """``budget`` draws with the near-optimal probabilities."""
        return laws.Multinomial(self.near_optimal, self.budget, max_budget=self.max_budget)

    @property
    def poisson(self) -> laws.Poisson:
        """Independent inclusion at the given rates, reweighted."""
        return laws.Poisson(self.rates)


def some_item(instance: Linear) -> Bool[Array, ""]:
    """Whether some w_i x_i is not zero: else no law is in proportion to their sizes."""
    return jnp.any(sketch.magnitudes(instance.x, instance.w) > 0)


SOME_ITEM: dict[str, Callable[[Linear], Array]] = {"some w_i x_i is not zero": some_item}
"""The hypothesis under which p* exists."""

Rng = np.random.Generator
Columns = Callable[[Rng], np.ndarray]


def random_weights(rng: Rng, *shape: int) -> np.ndarray:
    """All entries Gaussian, uniform on [−1, 1], ±1 or log-normal with random signs; which of these is random too."""
    match rng.integers(4):
        case 0:
            return rng.standard_normal(shape)
        case 1:
            return rng.uniform(-1, 1, shape)
        case 2:
            return random_signs(rng, *shape)
        case _:
            return random_signs(rng, *shape) * rng.lognormal(size=shape)


def random_signs(rng: Rng, *shape: int) -> np.ndarray:
    """±1 with equal chances."""
    return rng.choice([-1.0, 1.0], shape)


def draw_instance(
    rng: Rng,
    x: np.ndarray,
    y: np.ndarray,
    *,
    w: np.ndarray | None = None,
    max_budget: int = BUDGET,
    whole: bool = False,
) -> Linear:
    """An instance on the given data, with random weights (where none are given), tilt, β and budget."""
    tilt = random_probabilities(rng, x.shape[1])
    return Linear(
        x=x,
        w=random_weights(rng, x.shape[1]) if w is None else w,
        y=y,
        tilt=tilt,
        beta=np.asarray(rng.uniform(0.5, 1)),
        budget=np.asarray(rng.integers(max(1, max_budget // 8), max_budget + 1)),
        whole=np.asarray(whole),
        max_budget=max_budget,
    )


def synthetic(name: str, columns: Columns) -> Case:
    """A case with the given columns and noisy linear targets."""

    def make(rng: Rng, dataset: Dataset) -> Linear:
        x = columns(rng)
        return draw_instance(rng, x, x @ random_weights(rng, FEATURES) + rng.standard_normal(ROWS))

    return Case(name, make)


def gaussian(rng: Rng) -> np.ndarray:
    """Independent standard normal entries."""
    return rng.standard_normal((ROWS, FEATURES))


def heavy_tailed(rng: Rng) -> np.ndarray:
    """Gaussian columns with log-normal scales."""
    return gaussian(rng) * rng.lognormal(sigma=1.5, size=FEATURES)


def correlated(rng: Rng) -> np.ndarray:
    """Columns near one line, with random signs."""
    return rng.standard_normal((ROWS, 1)) * random_signs(rng, FEATURES) + 0.3 * gaussian(rng)


def rank_deficient(rng: Rng) -> np.ndarray:
    """Half as many samples as features, and a fifth of the columns zero."""
    few = gaussian(rng) * (rng.random(FEATURES) < 0.8)
    few[FEATURES // 2 :] = 0
    return few


def _positive(size: Array) -> Array:
    """The size, or 1 where it is 0, to divide by."""
    return jnp.where(size > 0, size, 1)


@lru_cache(maxsize=4)
def _compressed(dataset: Dataset, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    @partial(jax.jit, compiler_options=linalg.ONE_THREAD_OPTIONS)
    def compress(pixels: Array, labels: Array) -> tuple[Array, Array]:
        x = data.standardise(pixels) if standardise else abs(pixels) / _positive(jnp.max(abs(pixels)))
        return linalg.compress(x, data.one_hot(labels, dataset.num_classes))

    return jax.device_get(compress(dataset.x.reshape(len(dataset.x), -1), dataset.y))


def real(rng: Rng, dataset: Dataset, *, standardise: bool) -> tuple[np.ndarray, np.ndarray]:
    """All images of a data set and one class against the rest, after an orthogonal change of the samples.

    The change is :func:`sketchprune.linalg.compress`, which keeps norms, inner products and gradients. Pixels are
    standardised, or else their absolute values are divided by the largest.
    """
    x, hot = _compressed(dataset, standardise)
    if x.shape[1] > MAX_FEATURES:
        x = x[:, rng.choice(x.shape[1], MAX_FEATURES, replace=False)]
    return x, 2 * hot[:, rng.integers(hot.shape[1])] - hot.sum(axis=1)


def some_columns(rng: Rng, x: np.ndarray, count: int) -> np.ndarray:
    """Distinct columns, drawn in proportion to their norms, so that zero columns are not drawn.

    Zero columns fill up where fewer than ``count`` are not zero.
    """
    norms = np.linalg.norm(x, axis=0)
    some = min(count, np.count_nonzero(norms))
    columns = np.zeros((len(x), count))
    if some:
        columns[:, :some] = x[:, rng.choice(x.shape[1], some, replace=False, p=norms / norms.sum())]
    return columns


TESTED_ROWS = 512
"""Rows whose moments decide whether data are random in the way that a theorem assumes."""


def rows_of(rng: Rng, dataset: Dataset, features: int) -> np.ndarray:
    """TESTED_ROWS rows of a data set, drawn with replacement, on some of its features, standardised."""
    x = np.asarray(dataset.x).reshape(len(dataset.x), -1)
    x = x[:, rng.choice(x.shape[1], features, replace=x.shape[1] < features)]
    rows = rng.integers(len(x), size=TESTED_ROWS)
    centred = x - x.mean(axis=0)
    centred = centred / (abs(centred).max() or 1)  # first, so that no square underflows
    deviation = centred.std(axis=0)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1))[rows]


def uncorrelated(x: Float[Array, "n d"]) -> Bool[Array, ""]:
    """Whether columns have mean 0 and variance 1 and do not correlate, within what TESTED_ROWS rows can tell."""
    off = jnp.mean(x[:, :, None] * x[:, None, :], axis=0) - jnp.eye(x.shape[1])
    return (jnp.max(abs(off)) < 0.35) & (jnp.max(abs(jnp.mean(x, axis=0))) < 0.35)


def normal_tails(x: Float[Array, "n d"]) -> Bool[Array, ""]:
    """Whether every column's fourth moment is near that of a normal variable, 3."""
    return jnp.max(abs(jnp.mean(x**4, axis=0) - 3)) < 2.4


INFORMATIVE_FEATURES = 16


def _informative(rng: Rng, dataset: Dataset) -> Linear:
    x, y = real(rng, dataset, standardise=False)
    return draw_instance(rng, x, y, w=abs(random_weights(rng, x.shape[1]))).replace(
        budget=np.asarray(rng.integers(1, 100 * x.shape[1] + 1))
    )


def _informative_sampled(rng: Rng, dataset: Dataset) -> Linear:
    x, y = real(rng, dataset, standardise=False)
    return draw_instance(rng, x, y, w=abs(random_weights(rng, x.shape[1])))


def _many_draws(rng: Rng, dataset: Dataset) -> Linear:
    x, y = real(rng, dataset, standardise=False)
    w = abs(random_weights(rng, INFORMATIVE_FEATURES))
    return draw_instance(rng, some_columns(rng, x, INFORMATIVE_FEATURES), y, w=w, max_budget=100 * INFORMATIVE_FEATURES)


COMMON = (
    synthetic("gaussian", gaussian),
    synthetic("heavy-tailed", heavy_tailed),
    synthetic("correlated", correlated),
    synthetic("rank-deficient", rank_deficient),
    Case("{data}", lambda rng, dataset: draw_instance(rng, *real(rng, dataset, standardise=True))),
)


def narrow(rng: Rng, dataset: Dataset) -> Linear:
    """The data set with FEATURES columns: chosen at random from more, filled up with zero columns from fewer."""
    x, y = real(rng, dataset, standardise=True)
    if x.shape[1] > FEATURES:
        x = x[:, rng.choice(x.shape[1], FEATURES, replace=False)]
    return draw_instance(rng, np.pad(x, ((0, 0), (0, FEATURES - x.shape[1]))), y)


EVALUATED = (*COMMON, Case("informative", _informative))
"""Cases of one shape, for claims that draw no mask.

The informative case has raw pixels and w ≥ 0, so that ‖Xw‖ ≈ Z, and budgets up to 100 d; its bounds are not vacuous.
"""
SAMPLED = (*COMMON, Case("informative", _informative_sampled))
"""The same for claims that draw masks: all budgets are at most BUDGET, so that all cases share their programs."""
MANY_DRAWS = (*COMMON, Case("informative", _many_draws))
"""The same with up to 100 draws an item in the informative case, which has fewer columns, hence fewer draws."""

SMALL_ROWS, SMALL_FEATURES, SMALL_BUDGET = 10, 5, 4


def _small(rng: Rng, dataset: Dataset) -> Linear:
    x = rng.standard_normal((SMALL_ROWS, SMALL_FEATURES)) * rng.lognormal(size=SMALL_FEATURES)
    return draw_instance(rng, x, rng.standard_normal(SMALL_ROWS), max_budget=SMALL_BUDGET)


def _small_real(rng: Rng, dataset: Dataset) -> Linear:
    x, y = real(rng, dataset, standardise=True)
    both = np.column_stack([some_columns(rng, x, SMALL_FEATURES), y])
    triangle = np.zeros((SMALL_ROWS, SMALL_FEATURES + 1))
    upper = np.linalg.qr(both)[1]
    triangle[: len(upper)] = upper
    return draw_instance(rng, triangle[:, :-1], triangle[:, -1], max_budget=SMALL_BUDGET)


def _keep_features(instance: Linear, kept: np.ndarray) -> Linear:
    """The instance with these features alone, and their tilt in proportion."""
    if not instance.tilt[kept].any():
        raise ValueError(f"kept is {kept}, features without a tilt; it takes one with a tilt")
    tilt = to_simplex(instance.tilt[kept])
    return instance.replace(x=instance.x[:, kept], w=instance.w[kept], tilt=tilt)


AXES = {"samples": along(x=0, y=0), "features": Axis(lambda instance: len(instance.w), _keep_features)}
"""How a counterexample is cut."""
A_LAW: dict[str, Callable[[Linear], Array]] = {
    "0 < β ≤ 1": lambda instance: (instance.beta > 0) & (instance.beta <= 1),
    "the tilt sums to 1": lambda instance: jnp.all(instance.tilt >= 0) & (abs(jnp.sum(instance.tilt) - 1) < 1e-5),
}
"""What makes probabilities of an instance's numbers; all cases draw such."""
SMALL = (Case("small", _small, enumerable=True), Case("small-{data}", _small_real, enumerable=True))
"""Cases so small that every outcome of a law is enumerated."""
