"""Instances of linear models: the cases on which the ``sketch/`` family is tested.

The first paper promises its bounds for diverse data and initialisations: columns that are Gaussian, of very
unequal size, correlated, dependent or zero, and real images; weights that are Gaussian, uniform, ±1 or log-normal.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from sketchprune import data, linear, sketch
from sketchprune.data import Dataset
from sketchprune.types import Key
from theory.claim import Case

FEATURES, CLASSES = 64, 10
ROWS = FEATURES + CLASSES
"""All cases share the shape of the digits after :func:`sketchprune.linear.compress`."""
MOST_FEATURES = 256
"""A data set with more features gives a random choice of so many to each instance."""
BUDGET = 16
"""Draws of a multinomial mask at most, where budgets are not large on purpose."""


@struct.dataclass
class Linear:
    """A linear model on data, and what a mask law needs.

    Attributes:
        x: [n, d]; rows and columns may be zero.
        w: [d].
        y: [n].
        tilt: [d], probabilities (sum one) that owe nothing to x and w.
        beta: in (0, 1]; β p* + (1−β) tilt is a β-near-optimal law.
        budget: draws s, at least 1 and at most ``most``.
        whole: a claim on one mask is to keep everything (that is not a zero column).
        most: the largest budget of the case, static.
    """

    x: Float[Array, "n d"]
    w: Float[Array, " d"]
    y: Float[Array, " n"]
    tilt: Float[Array, " d"]
    beta: Float[Array, ""]
    budget: Int[Array, ""]
    whole: Bool[Array, ""]
    most: int = struct.field(pytree_node=False, default=BUDGET)

    @property
    def near_optimal(self) -> Float[Array, " d"]:
        """β p* + (1−β) tilt."""
        return self.beta * sketch.optimal_probabilities(self.x, self.w) + (1 - self.beta) * self.tilt

    @property
    def rates(self) -> Float[Array, " d"]:
        """Positive inclusion rates, the larger ones in step with the near-optimal law."""
        expected = jnp.minimum(self.budget, self.w.shape[0] / 3)
        return jnp.clip(expected * self.near_optimal, 0.02, 1)


Columns = Callable[[Key], Float[Array, "n d"]]


def weights(key: Key, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Gaussian, uniform on [−1, 1], ±1 or log-normal with random signs: one law, drawn for all of them."""
    which, *keys = jax.random.split(key, 6)
    sign = jax.random.rademacher(keys[3], shape, float)
    laws = (
        jax.random.normal(keys[0], shape),
        jax.random.uniform(keys[1], shape, minval=-1.0),
        sign,
        sign * jnp.exp(jax.random.normal(keys[2], shape)),
    )
    return jnp.stack(laws)[jax.random.randint(which, (), 0, len(laws))]


def complete(key: Key, x: Float[Array, "n d"], y: Float[Array, " n"], *, most: int = BUDGET, w: Array | None = None) -> Linear:
    """An instance on the given data: weights, tilt, β and budget drawn."""
    keys = jax.random.split(key, 4)
    return Linear(
        x=x,
        w=weights(keys[0], x.shape[1:]) if w is None else w,
        y=y,
        tilt=_share(jax.random.exponential(keys[1], x.shape[1:])),
        beta=jax.random.uniform(keys[2], minval=0.5, maxval=1.0),
        budget=jax.random.randint(keys[3], (), max(1, most // 8), most + 1),
        whole=jnp.array(False),
        most=most,
    )


def synthetic(name: str, columns: Columns, **options: int) -> Case:
    """A case with columns of one's own and noisy linear targets."""

    def make(key: Key, dataset: Dataset) -> Linear:
        rest, data_key, target_key, noise_key = jax.random.split(key, 4)
        x = columns(data_key)
        y = x @ weights(target_key, x.shape[1:]) + jax.random.normal(noise_key, x.shape[:1])
        return complete(rest, x, y, **options)

    return Case(name, make)


def gaussian(key: Key, rows: int = ROWS, columns: int = FEATURES) -> Float[Array, "n d"]:
    """Independent standard normal entries."""
    return data.gaussian(key, rows, columns)


def heavy_tailed(key: Key) -> Float[Array, "n d"]:
    """Gaussian columns with log-normal scales."""
    direction, scale = jax.random.split(key)
    return gaussian(direction) * jnp.exp(1.5 * jax.random.normal(scale, (FEATURES,)))


def correlated(key: Key) -> Float[Array, "n d"]:
    """Columns that share one direction, with random signs."""
    shared, own, sign = jax.random.split(key, 3)
    common = jax.random.normal(shared, (ROWS, 1)) * jax.random.rademacher(sign, (1, FEATURES), float)
    return common + 0.3 * gaussian(own)


def rank_deficient(key: Key) -> Float[Array, "n d"]:
    """Fewer samples than features, a fifth of the columns zero."""
    entries, zero = jax.random.split(key)
    few = gaussian(entries, FEATURES // 2) * jax.random.bernoulli(zero, 0.8, (FEATURES,))
    return jnp.pad(few, ((0, ROWS - few.shape[0]), (0, 0)))


def targets(dataset: Dataset) -> tuple[Float[Array, "n k"], int]:
    """One-hot targets of a data set."""
    return data.one_hot(dataset.y, dataset.num_classes), dataset.num_classes


def real(dataset: Dataset, key: Key, *, standardise: bool) -> tuple[Float[Array, "r d"], Float[Array, " r"]]:
    """All images of a data set, and one class of it against the rest, after an orthogonal change of samples.

    The change is :func:`sketchprune.linear.compress`: norms, inner products and gradients stay what they are.
    """
    images = dataset.x.reshape(dataset.x.shape[0], -1)
    images = data.standardise(images) if standardise else images / jnp.max(abs(images))
    hot, classes = targets(dataset)
    x, hot = linear.compress(images, hot)
    choice, feature_key = jax.random.split(key)
    if x.shape[1] > MOST_FEATURES:
        x = x[:, jax.random.choice(feature_key, x.shape[1], (MOST_FEATURES,), replace=False)]
    return x, 2 * hot[:, jax.random.randint(choice, (), 0, classes)] - hot.sum(axis=1)


def _real_case(key: Key, dataset: Dataset) -> Linear:
    rest, data_key = jax.random.split(key)
    return complete(rest, *real(dataset, data_key, standardise=True))


INFORMATIVE_FEATURES = 16


def _informative_case(key: Key, dataset: Dataset) -> Linear:
    rest, data_key, feature_key, weight_key = jax.random.split(key, 4)
    x, y = real(dataset, data_key, standardise=False)
    # Features are drawn in proportion to their norm: a constant zero pixel says nothing.
    chosen = jax.random.choice(
        feature_key, x.shape[1], (INFORMATIVE_FEATURES,), replace=False, p=_share(jnp.linalg.norm(x, axis=0))
    )
    w = abs(weights(weight_key, (INFORMATIVE_FEATURES,)))
    return complete(rest, x[:, chosen], y, most=100 * INFORMATIVE_FEATURES, w=w)


def _share(values: Float[Array, " d"]) -> Float[Array, " d"]:
    return values / values.sum()


GAUSSIAN = synthetic("gaussian", gaussian)
HEAVY_TAILED = synthetic("heavy-tailed", heavy_tailed)
CORRELATED = synthetic("correlated", correlated)
RANK_DEFICIENT = synthetic("rank-deficient", rank_deficient)
DATA = Case("{data}", _real_case)
INFORMATIVE = Case("informative", _informative_case)

COMMON = (GAUSSIAN, HEAVY_TAILED, CORRELATED, RANK_DEFICIENT, DATA)
"""Cases of one shape."""
ALL = (*COMMON, INFORMATIVE)

SMALL_FEATURES, SMALL_BUDGET = 5, 4


def _small(key: Key, dataset: Dataset) -> Linear:
    scale, rest = jax.random.split(key)
    x = gaussian(scale, 4, SMALL_FEATURES) * jnp.exp(jax.random.normal(scale, (SMALL_FEATURES,)))
    return complete(rest, x, gaussian(rest, 4, 1)[:, 0], most=SMALL_BUDGET)


def _small_real(key: Key, dataset: Dataset) -> Linear:
    rest, data_key, feature_key = jax.random.split(key, 3)
    x, y = real(dataset, data_key, standardise=True)
    share = _share(jnp.linalg.norm(x, axis=0))
    chosen = jax.random.choice(feature_key, x.shape[1], (SMALL_FEATURES,), replace=False, p=share)
    small_x, small_y = linear.compress(x[:, chosen], y[:, None])
    return complete(rest, small_x, small_y[:, 0], most=SMALL_BUDGET)


SMALL = (Case("small", _small, enumerable=True), Case("small-{data}", _small_real, enumerable=True))
"""Cases in which every outcome of a mask law is enumerated."""


def all_multinomial(probabilities: Float[Array, " d"], budget: Int[Array, ""], most: int) -> tuple[Array, Array]:
    """Every sequence of ``most`` draws, as the mask of its first ``budget`` draws, and its probability."""
    d = probabilities.shape[0]
    draws = jnp.stack(jnp.meshgrid(*[jnp.arange(d)] * most, indexing="ij"), axis=-1).reshape(-1, most)
    hits = (draws[:, :, None] == jnp.arange(d)) & (jnp.arange(most)[:, None] < budget)
    masks = hits.sum(axis=1) / jnp.where(probabilities > 0, budget * probabilities, 1)
    return masks, jnp.prod(probabilities[draws], axis=1)


def all_subsets(d: int) -> Bool[Array, "m d"]:
    """All 2^d subsets of d items."""
    return (jnp.arange(2**d)[:, None] >> jnp.arange(d)) % 2 == 1


def all_poisson(rates: Float[Array, " d"]) -> tuple[Array, Array]:
    """Every subset, as a reweighted mask, and its probability."""
    kept = all_subsets(rates.shape[0])
    return jnp.where(kept, 1 / jnp.where(rates > 0, rates, 1), 0), jnp.prod(jnp.where(kept, rates, 1 - rates), axis=1)
